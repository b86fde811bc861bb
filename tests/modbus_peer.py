"""Modbus devices for tests: units behind a TCP port or a serial port, with hooks for all that can go wrong."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from agent.core.clock import SystemClock
from agent.core.errors import DeviceError
from drivers.codec.registers import Register
from drivers.modbus.model import ModbusDevice, ModbusPoint, ModbusProfile
from drivers.modbus.plan import ModbusPoller, plan_modbus
from drivers.modbus.settings import ModbusUrl
from tests.modbus_frames import Registers, crc, mbap, rtu
from tests.sinks import RecordingSink

#: What a right answer has on a busy machine; a test that is about lateness says its own.
TIMEOUT_S = 1.0
Scheme = Literal["tcp", "rtu+tcp"]


@dataclass
class Asked:
    """A question as it came: ``tid`` None on RTU."""

    tid: int | None
    unit: int
    pdu: bytes

    def frame(self, pdu: bytes) -> bytes:
        """An answer's bytes."""
        return rtu(self.unit, pdu) if self.tid is None else mbap(self.tid, self.unit, pdu)


#: What is sent for a question, and after how many seconds; None: the connection is cut. A unit answers in order.
Said = Sequence[tuple[float, bytes]] | None
Hook = Callable[[Asked, bytes], Said]


@dataclass
class Peer:
    """A TCP port with units behind it. ``hook`` gets each question and the right answer's PDU.

    ``most``: connections at once, ever. ``only_one``: a second connection is closed at once, as some devices do.
    """

    units: Mapping[int, Registers]
    scheme: Scheme = "tcp"
    hook: Hook | None = None
    only_one: bool = False
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    most: int = 0
    opened: int = 0
    refused: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _sending: dict[tuple[asyncio.StreamWriter, int], asyncio.Task[None]] = field(default_factory=dict)

    @property
    def url(self) -> ModbusUrl:
        return ModbusUrl.parse(f"{self.scheme}://127.0.0.1:{self.port}")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Peer"]:
        server = self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            tasks = list(self._sending.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            while self.connections:  # noqa: ASYNC110 - a test may wait so
                await asyncio.sleep(0.001)

    def vanish(self) -> None:
        """Nobody is there any more."""
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End all connections with a reset."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.only_one and self.connections:
            self.refused += 1
            writer.transport.abort()
            return
        self.connections += 1
        self.opened += 1
        self.most = max(self.most, self.connections)
        self._writers.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await self._one(reader, writer)
        finally:
            self.connections -= 1
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await (self._tcp_question(reader) if self.scheme == "tcp" else self._rtu_question(reader))
        self.asked.append(asked)
        unit = self.units.get(asked.unit)
        pdu = unit.answer(asked.pdu) if unit else b""
        said: Said = [(0, asked.frame(pdu))] if pdu else []
        if self.hook is not None:
            said = self.hook(asked, pdu)
        if said is None:
            raise ConnectionResetError
        key = (writer, asked.unit)
        before = self._sending.get(key)
        if before is None and not any(delay_s for delay_s, _ in said):
            for _, data in said:
                writer.write(data)
        else:
            due = [(asyncio.get_running_loop().time() + delay_s, data) for delay_s, data in said]
            task = self._sending[key] = asyncio.ensure_future(self._later(writer, due, before))
            task.add_done_callback(lambda done: self._sent(key, done))

    def _sent(self, key: tuple[asyncio.StreamWriter, int], done: asyncio.Task[None]) -> None:
        if self._sending.get(key) is done:
            del self._sending[key]

    @staticmethod
    async def _later(
        writer: asyncio.StreamWriter, due: Sequence[tuple[float, bytes]], before: asyncio.Task[None] | None
    ) -> None:
        """Send at these times, but never before what the unit answers first: it answers in order."""
        if before is not None:
            await asyncio.wait({before})
        for at_s, data in due:
            await asyncio.sleep(max(0, at_s - asyncio.get_running_loop().time()))
            if not writer.transport.is_closing():
                writer.write(data)

    @staticmethod
    async def _tcp_question(reader: asyncio.StreamReader) -> Asked:
        head = await reader.readexactly(7)
        assert head[2:4] == b"\0\0"
        pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
        return Asked(int.from_bytes(head[:2], "big"), head[6], pdu)

    @staticmethod
    async def _rtu_question(reader: asyncio.StreamReader) -> Asked:
        head = await reader.readexactly(7)
        more = head[6] + 2 if head[1] in {15, 16} else 1
        frame = head + await reader.readexactly(more)
        assert crc(frame) == b"\0\0"
        return Asked(None, frame[0], frame[1:-2])


class SerialPeer:
    """Units at the far end of a pseudo terminal. ``echo``: the adapter brings back what is sent."""

    def __init__(self, units: Mapping[int, Registers], *, echo: bool = False) -> None:
        self.units = units
        self.asked: list[Asked] = []
        self._echo = echo
        self._far, self._near = os.openpty()
        self._buffer = b""

    @property
    def url(self) -> ModbusUrl:
        return ModbusUrl("rtu", os.ttyname(self._near), baud=115200)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["SerialPeer"]:
        loop = asyncio.get_running_loop()
        os.set_blocking(self._far, False)
        loop.add_reader(self._far, self._read)
        try:
            yield self
        finally:
            self.unplug()

    def unplug(self) -> None:
        """The adapter is gone."""
        if self._far >= 0:
            asyncio.get_running_loop().remove_reader(self._far)
            os.close(self._far)
            os.close(self._near)
            self._far = self._near = -1

    def _read(self) -> None:
        with suppress(OSError):
            self._buffer += os.read(self._far, 4096)
        while len(self._buffer) >= 8:
            length = 9 + self._buffer[6] if self._buffer[1] in {15, 16} else 8
            frame, self._buffer = self._buffer[:length], self._buffer[length:]
            assert crc(frame) == b"\0\0"
            asked = Asked(None, frame[0], frame[1:-2])
            self.asked.append(asked)
            if self._echo:
                os.write(self._far, frame)
            unit = self.units.get(asked.unit)
            if unit is not None:
                os.write(self._far, asked.frame(unit.answer(asked.pdu)))


def profile_of(*points: tuple[str, int], table: str = "holding", **more: object) -> ModbusProfile:
    """A profile that reads uint16 registers."""
    rows = tuple(ModbusPoint(name, Register(table, at, "uint16")) for name, at in points)  # type: ignore[arg-type]
    return ModbusProfile("test", rows, **more)  # type: ignore[arg-type]


def device_of(profile: ModbusProfile | None, unit: int = 1, *, timeout_s: float = TIMEOUT_S) -> ModbusDevice:
    """A device on a unit."""
    return ModbusDevice(f"d{unit}", profile, unit, every_s=0.05, timeout_s=timeout_s)


def poller_of(url: ModbusUrl, *devices: ModbusDevice) -> ModbusPoller:
    """A wire with these devices; their points are numbered from 1."""
    found = plan_modbus([(device, url) for device in devices])
    ids = {(spec.device, spec.name): number for number, spec in enumerate(found.specs, 1)}
    (poller,) = found.pollers(ids, SystemClock())
    return poller


@asynccontextmanager
async def opened(poller: ModbusPoller) -> AsyncIterator[ModbusPoller]:
    """The wire, open."""
    await poller.open()
    try:
        yield poller
    finally:
        await poller.close()


async def cut(peer: Peer, poller: ModbusPoller) -> None:
    """The far end closes its connections, and we have seen it."""
    client = poller._link._client
    assert client is not None
    peer.cut()
    while client.connected:  # noqa: ASYNC110 - a test may wait so
        await asyncio.sleep(0.001)


async def poll(poller: ModbusPoller, sink: RecordingSink, unit: int = 0, job: int = 0) -> DeviceError | None:
    """One job of a unit, and its error."""
    try:
        await poller.units[unit].jobs[job].run(sink)
    except DeviceError as error:
        return error
    return None


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an async test."""

    async def main() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(main())
