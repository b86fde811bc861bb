"""Small Modbus counterparts for the tests of the scan: units, gateways and hosts with their habits."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from drivers.modbus.scan_frames import crc
from tests.ptys import Pty

NO_FUNCTION, NO_ADDRESS, NO_TARGET = 1, 2, 0x0B
#: Questions of function 43/14, and of those that read registers.
_QUESTION_BYTES = 7, 8


@dataclass
class Unit:
    """A unit with holding registers. ``said``: what function 43/14 gives; none: it does not know it."""

    registers: Mapping[int, int] = field(default_factory=dict)
    said: Mapping[int, str] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)

    def answer(self, pdu: bytes) -> bytes:
        self.asked.append(pdu)
        if pdu[0] == 0x2B and self.said:
            code = pdu[2]
            objects = {number: text for number, text in self.said.items() if number < 3 or code > 1}
            body = b"".join(bytes((number, len(text))) + text.encode() for number, text in objects.items())
            return bytes((0x2B, 0x0E, code, 0x82, 0, 0, len(objects))) + body
        if pdu[0] != 3:
            return bytes((pdu[0] | 0x80, NO_FUNCTION))
        _, address, count = struct.unpack(">BHH", pdu)
        if not all(one in self.registers for one in range(address, address + count)):
            return bytes((0x83, NO_ADDRESS))
        return struct.pack(f">BB{count}H", 3, 2 * count, *(self.registers[address + n] for n in range(count)))


#: The PDU that a host gives for a unit id and a PDU; None: silence; an empty one: it closes the connection.
Host = Callable[[int, bytes], bytes | None]


@dataclass
class Served:
    """A TCP port, and what happened on it."""

    port: int = 0
    connections: int = 0
    most_at_once: int = 0
    _now: int = 0


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[int]:
    """A TCP port on loopback; each connection is closed when ``talk`` returns or the client hangs up."""
    talking: set[asyncio.Task[object]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await talk(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        talking.discard(task)

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while talking:  # the client has closed: they are at their end
            await asyncio.wait(talking)
        await server.wait_closed()


@asynccontextmanager
async def tcp(host: Host) -> AsyncIterator[Served]:
    """A Modbus TCP port."""
    served = Served()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        served._now += 1
        served.most_at_once = max(served.most_at_once, served._now)
        try:
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                answer = host(unit, await reader.readexactly(length - 1))
                if answer == b"":
                    return
                if answer is not None:
                    writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
        finally:
            served._now -= 1

    async with serving(talk) as served.port:
        yield served


class RtuBus:
    """Units on a pseudo terminal. ``late``: the answers of these units come only with the next question.

    ``slow``: those of these come as soon as the time for them is over, whether another question follows or not.
    ``echo``: the adapter gives our own bytes back. ``asked_at``: addresses in the order in which they were asked.
    """

    def __init__(
        self,
        pty: Pty,
        units: Mapping[int, Unit],
        *,
        late: frozenset[int] = frozenset(),
        slow: frozenset[int] = frozenset(),
        echo: bool = False,
    ) -> None:
        self._pty = pty
        self._units = units
        self._late = late
        self._slow = slow
        self._echo = echo
        self._owed = b""
        self._heard = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.asked: list[int] = []
        #: Called when nobody answers what was asked last, and all that was sent before is taken.
        self.silent: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pty.fd, self._hear)

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._pty.fd)
        self._loop = None

    def _hear(self) -> None:
        heard = self._pty.take()
        if self._echo:
            self._pty.send(heard)
        self._heard += heard
        # On a busy machine several questions are heard at once; on a real bus each was.
        while frame := _question(self._heard):
            del self._heard[: len(frame)]
            self._answer(frame)

    def _answer(self, frame: bytes) -> None:
        unit = frame[0]
        self.asked.append(unit)
        owed, self._owed = self._owed, b""
        if owed:
            self._pty.send(owed)
        if unit not in self._units or unit in self._late:
            self._later(self._be_silent, self.silent)
        if unit not in self._units:
            return
        body = bytes((unit,)) + self._units[unit].answer(frame[1:-2])
        if unit in self._slow:
            self._slow -= {unit}
            self._later(self._be_silent, partial(self._too_late, body + crc(body)))
        elif unit in self._late:
            self._late -= {unit}
            self._owed = body + crc(body)
        else:
            self._pty.send(body + crc(body))

    def _too_late(self, answer: bytes) -> None:
        self.silent()
        self._later(self._pty.send, answer)

    def _be_silent(self, tell: Callable[[], None]) -> None:
        if self._loop is None:
            return
        if self._pty.unread:
            self._later(self._be_silent, tell)
        else:
            self._later(tell)  # what was taken is looked at first

    def _later(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        self._loop.call_later(0.002, call, *arguments)


def _question(heard: bytearray) -> bytes | None:
    """The first whole question of a function used here. What is before it goes: other protocols ask here as well."""
    while len(heard) >= min(_QUESTION_BYTES):
        for length in _QUESTION_BYTES:
            frame = bytes(heard[:length])
            if len(frame) == length and crc(frame[:-2]) == frame[-2:]:
                return frame
        if len(heard) < max(_QUESTION_BYTES):
            return None
        del heard[0]
    return None
