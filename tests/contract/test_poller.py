"""The contract of ``Poller``, over each protocol in which we ask. To add one: a ``Peer``, named in ``PEERS``."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.core.clock import SystemClock
from agent.core.errors import BadData, NoAnswer, Unavailable
from agent.core.model import Batch, Number
from agent.core.ports import PolledUnit, Poller, PollJob, Sink
from agent.pipeline.polling import PollListener
from drivers.codec.registers import Register
from drivers.modbus.model import ModbusDevice, ModbusPoint, ModbusProfile
from drivers.modbus.plan import plan_modbus
from drivers.modbus.settings import ModbusUrl
from drivers.serial_meter.asked import AskedWire
from drivers.serial_meter.plan import plan_meters
from drivers.serial_meter.settings import MeterSettings
from tests.mbus_slaves import Slave, energy
from tests.sinks import FIRST_DECLARED, RecordingSink

#: What one question may take on any of these wires, its time-out and repetitions included.
PATIENCE_S = 60.0
#: Nobody who is cancelled waits for anything; a busy machine may be away for seconds.
AT_ONCE_S = 10.0
DEVICES = ("one", "two")


class Peer(ABC):
    """The other end of a wire with two units on it: a server on loopback that can go wrong in each way."""

    def __init__(self) -> None:
        self.values = dict(zip(DEVICES, (1000, 2000), strict=True))
        self.mute: set[str] = set()  #: those that do not answer
        self.garbled = False  #: what is said arrives damaged
        self.port = 0
        self.connections = 0  #: open now
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @abstractmethod
    def make(self) -> Poller:
        """A poller of this wire; ``port`` is known."""

    @abstractmethod
    async def question(self, reader: asyncio.StreamReader) -> bytes:
        """The next question as it stands on the wire."""

    @abstractmethod
    def answer(self, question: bytes) -> bytes:
        """What its unit says, as it stands on the wire; nothing when it does not answer."""

    def damaged(self, answer: bytes) -> bytes:
        """The answer with a fault that its protocol can see."""
        return answer[:-1] + bytes((answer[-1] ^ 0x55,))

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        """Connections are cut and new ones refused."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await until(lambda: not self.connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            while True:
                answer = self.answer(await self.question(reader))
                if answer:
                    writer.write(self.damaged(answer) if self.garbled else answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            self._writers.discard(writer)
            writer.transport.abort()


class TextUnit:
    """A unit of the fake protocol: asked by its name, it answers with its name and value."""

    def __init__(self, device: str, number: int, wire: "TextPoller") -> None:
        self.device = device
        self.signals: Sequence[int] = (number,)
        self.jobs: Sequence[PollJob] = (PollJob(1.0, self._run),)
        self._wire = wire
        self._last: int | None = None

    def forget(self) -> None:
        self._last = None

    async def _run(self, sink: Sink) -> None:
        op = f"ask {self.device} on {self._wire.name}"
        name, _, value = (await self._wire.ask(self.device, op)).partition(" ")
        if name != self.device or not value.isdecimal():
            raise BadData(op, f"it answered {name} {value}")
        if int(value) == self._last:
            sink.touch(array("i", self.signals))
            return
        self._last = int(value)
        sink.put(Batch(array("i", self.signals), array("q", [1]), array("q", [self._last])))


class TextPoller:
    """The least that a poller can be."""

    max_retry_s = 1.0

    def __init__(self, port: int) -> None:
        self.name = f"text://127.0.0.1:{port}"
        self.units: Sequence[PolledUnit] = [TextUnit(device, n, self) for n, device in enumerate(DEVICES, 1)]
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        try:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise Unavailable(f"open {self.name}", str(error), "is it on?") from error

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def ask(self, device: str, op: str) -> str:
        if self._streams is None:
            raise Unavailable(op, "it is closed")
        reader, writer = self._streams
        reader._buffer.clear()  # type: ignore[attr-defined]
        writer.write(f"{device}\n".encode())
        try:
            line = await asyncio.wait_for(reader.readline(), 0.2)
        except TimeoutError as error:
            raise NoAnswer(op, "no answer within 0.2 s", "is it on?") from error
        except OSError as error:
            raise Unavailable(op, str(error), "it is opened again") from error
        if not line:
            raise Unavailable(op, "closed by the other end", "it is opened again")
        return line.decode("latin-1").strip()


class TextPeer(Peer):
    def make(self) -> Poller:
        return TextPoller(self.port)

    async def question(self, reader: asyncio.StreamReader) -> bytes:
        return (await reader.readuntil(b"\n")).strip()

    def answer(self, question: bytes) -> bytes:
        device = question.decode()
        return b"" if device in self.mute else f"{device} {self.values[device]}\n".encode()

    def damaged(self, answer: bytes) -> bytes:
        return b"?" + answer


def profile() -> ModbusProfile:
    return ModbusProfile("peer", (ModbusPoint("power_w", Register("holding", 10, "uint16")),))


class ModbusTcpPeer(Peer):
    """Units 1 and 2; register 10 holds the value (Modbus Messaging on TCP/IP V1.0b, 3.1.3)."""

    scheme = "tcp"

    def make(self) -> Poller:
        url = ModbusUrl.parse(f"{self.scheme}://127.0.0.1:{self.port}")
        devices = [
            (ModbusDevice(device, profile(), unit_id=n, every_s=1.0, timeout_s=0.2), url)
            for n, device in enumerate(DEVICES, 1)
        ]
        ids = {(device, "power_w"): n for n, device in enumerate(DEVICES, 1)}
        (poller,) = plan_modbus(devices).pollers(ids, SystemClock())
        return poller

    async def question(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readexactly(12)

    def answer(self, question: bytes) -> bytes:
        pdu = self._pdu(question[6], question[7:])
        return pdu and question[:4] + (len(pdu) + 1).to_bytes(2, "big") + question[6:7] + pdu

    def _pdu(self, unit: int, question: bytes) -> bytes:
        assert question == b"\x03\x00\x0a\x00\x01"
        device = DEVICES[unit - 1]
        return b"" if device in self.mute else b"\x03\x02" + self.values[device].to_bytes(2, "big")

    def damaged(self, answer: bytes) -> bytes:
        return answer[:7] + b"\x04" + answer[8:]  # the answer to a question that nobody asked


class ModbusRtuPeer(ModbusTcpPeer):
    """The same in RTU frames through a serial server (Modbus over Serial Line V1.02, 2.5.1)."""

    scheme = "rtu+tcp"

    async def question(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readexactly(8)

    def answer(self, question: bytes) -> bytes:
        assert crc(question) == b"\x00\x00"
        function, count = question[1], int.from_bytes(question[4:6], "big")
        device = DEVICES[question[0] - 1]
        if device in self.mute:
            return b""
        # Whatever is asked to find out whether a late answer may still come is answered too.
        words = self.values[device].to_bytes(2, "big") * count
        body = bytes((question[0], function, len(words))) + words
        return body + crc(body)

    def damaged(self, answer: bytes) -> bytes:
        return Peer.damaged(self, answer)


def crc(data: bytes) -> bytes:
    """The CRC of an RTU frame, low byte first; of a frame with its CRC two zeros (2.5.1.2)."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


class MbusPeer(Peer):
    """Slaves 1 and 2 behind a serial server; their energy is the value."""

    def __init__(self) -> None:
        super().__init__()
        self._slaves = {device: Slave(n, f"1234567{n}") for n, device in enumerate(DEVICES, 1)}

    def make(self) -> Poller:
        meters = [
            MeterSettings(device, "mbus", f"socket://127.0.0.1:{self.port}", address=str(n), baud=38400)
            for n, device in enumerate(DEVICES, 1)
        ]
        (part,) = plan_meters(meters).parts(SystemClock())
        assert isinstance(part, AskedWire)
        return part

    async def question(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readexactly(5)

    def answer(self, question: bytes) -> bytes:
        for device, slave in self._slaves.items():
            slave.parts = [energy(self.values[device])]
            said = slave.hear(question)
            if said:
                return b"" if device in self.mute else said
        return b""

    def damaged(self, answer: bytes) -> bytes:
        return answer if len(answer) == 1 else super().damaged(answer)


PEERS: dict[str, Callable[[], Peer]] = {
    "text": TextPeer,
    "modbus tcp": ModbusTcpPeer,
    "modbus rtu over tcp": ModbusRtuPeer,
    "m-bus": MbusPeer,
}

peers = pytest.mark.parametrize("make_peer", PEERS.values(), ids=PEERS)


@asynccontextmanager
async def wire(make_peer: Callable[[], Peer]) -> AsyncIterator[tuple[Peer, Poller]]:
    """A peer that answers, and its poller; both closed at the end."""
    peer = make_peer()
    await peer.start()
    poller = peer.make()
    try:
        yield peer, poller
    finally:
        await asyncio.wait_for(poller.close(), PATIENCE_S)
        await peer.vanish()


async def ask(unit: PolledUnit, sink: RecordingSink) -> None:
    await asyncio.wait_for(unit.jobs[0].run(sink), PATIENCE_S)


def known(unit: PolledUnit, sink: RecordingSink) -> Number | None:
    """The newest value of a unit's first signal, in its own unit; None when there is none."""
    number = unit.signals[0]
    rows = [(word, valid) for one, _, word, valid in sink.rows if one == number]
    if not rows or not rows[-1][1]:
        return None
    if number < FIRST_DECLARED:
        return rows[-1][0]
    return sink.declared[number - FIRST_DECLARED].physical(rows[-1][0])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@peers
def test_says_who_is_on_it_before_it_is_open(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        async with wire(make_peer) as (peer, poller):
            assert str(peer.port) in poller.name
            assert [unit.device for unit in poller.units] == list(DEVICES)
            assert all(job.every_s > 0 for unit in poller.units for job in unit.jobs)
            assert all(unit.jobs for unit in poller.units)
            assert poller.max_retry_s > 0
            for unit in poller.units:
                unit.forget()

    asyncio.run(main())


@peers
def test_each_unit_is_read_and_forgotten_values_come_again(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        sink = RecordingSink()
        async with wire(make_peer) as (peer, poller):
            await poller.open()
            for unit in poller.units:
                await ask(unit, sink)
                assert known(unit, sink) == peer.values[unit.device]
            one, two = poller.units
            assert not set(one.signals) & set(two.signals)
            assert {row[0] for row in sink.rows} == {*one.signals, *two.signals}
            sink.rows.clear()
            await ask(one, sink)
            assert {*sink.touched, *(row[0] for row in sink.rows)} == set(one.signals), "what is unchanged is read too"
            peer.values["one"] = 1234
            await ask(one, sink)
            assert known(one, sink) == 1234
            sink.rows.clear()
            one.forget()
            await ask(one, sink)
            assert known(one, sink) == 1234, "in full, although it is as before"

    asyncio.run(main())


@peers
def test_who_does_not_answer_concerns_nobody_else(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        sink = RecordingSink()
        async with wire(make_peer) as (peer, poller):
            await poller.open()
            one, two = poller.units
            await ask(one, sink)
            await ask(two, sink)
            peer.mute = {"one"}
            sink.rows.clear()
            with pytest.raises(NoAnswer) as caught:
                await ask(one, sink)
            assert caught.value.hint
            peer.values["two"] = 2002
            await ask(two, sink)
            assert known(two, sink) == 2002
            assert known(one, sink) is None
            peer.mute, peer.values["one"] = set(), 1001
            one.forget()
            await ask(one, sink)
            assert known(one, sink) == 1001

    asyncio.run(main())


@peers
def test_a_damaged_answer_gives_no_value_and_the_next_one_is_read(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        sink = RecordingSink()
        async with wire(make_peer) as (peer, poller):
            await poller.open()
            one, two = poller.units
            peer.garbled = True
            with pytest.raises((BadData, NoAnswer)):
                await ask(one, sink)
            assert not sink.rows
            peer.garbled = False
            for unit in (one, two):
                await ask(unit, sink)
                assert known(unit, sink) == peer.values[unit.device]

    asyncio.run(main())


@peers
def test_a_vanished_peer_is_unavailable_and_read_again_when_it_is_back(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        sink = RecordingSink()
        async with wire(make_peer) as (peer, poller):
            await poller.open()
            unit = poller.units[0]
            await ask(unit, sink)
            await peer.vanish()
            with pytest.raises(Unavailable) as caught:
                await ask(unit, sink)
            assert not isinstance(caught.value, NoAnswer), "the wire is gone, not the unit"
            await poller.close()
            with pytest.raises(Unavailable) as caught:
                await asyncio.wait_for(poller.open(), PATIENCE_S)
            assert poller.name in str(caught.value)
            assert caught.value.hint
            await poller.close()
            await peer.start()
            await asyncio.wait_for(poller.open(), PATIENCE_S)
            unit.forget()
            peer.values["one"] = 1001
            await ask(unit, sink)
            assert known(unit, sink) == 1001

    asyncio.run(main())


@peers
def test_a_peer_sees_one_connection_at_a_time_and_nothing_stays_open(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        sink = RecordingSink()
        async with wire(make_peer) as (peer, poller):
            await poller.close()
            files = []
            for _ in range(4):
                await poller.open()
                await ask(poller.units[0], sink)
                assert peer.connections == 1
                await poller.close()
                await poller.close()
                await until(lambda: peer.connections == 0)
                files.append(open_files())
            assert files[1:] == files[:-1]
            await peer.vanish()
            files = []
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await poller.open()
                files.append(open_files())
            assert files[1:] == files[:-1]
            await peer.start()

    asyncio.run(main())


@peers
def test_ends_at_once_when_it_is_cancelled(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        sink = RecordingSink()
        async with wire(make_peer) as (peer, poller):
            for turns in range(6):
                opening = asyncio.ensure_future(poller.open())
                for _ in range(turns):
                    await asyncio.sleep(0)
                await cancelled(opening)
                await poller.close()
            await until(lambda: peer.connections == 0)
            await poller.open()
            peer.mute = {"one"}
            asking = asyncio.ensure_future(poller.units[0].jobs[0].run(sink))
            await asyncio.sleep(0.05)
            await cancelled(asking)
            peer.mute = set()
            await ask(poller.units[1], sink)
            assert known(poller.units[1], sink) == 2000

    asyncio.run(main())


@peers
def test_as_a_listener_it_runs_by_itself(make_peer: Callable[[], Peer]) -> None:
    async def main() -> None:
        sink = RecordingSink()
        async with wire(make_peer) as (peer, poller):
            listener = PollListener(poller, SystemClock())
            for _ in range(2):
                sink.rows.clear()
                task = asyncio.ensure_future(listener.run(sink))
                await until(lambda: len({row[0] for row in sink.rows}) > 1, task)
                assert [known(unit, sink) for unit in poller.units] == [1000, 2000]
                await cancelled(task)
                await until(lambda: peer.connections == 0)
            assert [f"{event.kind} {event.subject}" for event in sink.events if event.kind.endswith("line")] == [
                "device.online one",
                "device.online two",
            ] * 2

    asyncio.run(main())


async def until(condition: Callable[[], bool], task: asyncio.Future[None] | None = None) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        if task is not None and task.done():
            task.result()
        assert time.monotonic() < give_up_s, "did not come"
        await asyncio.sleep(0.002)


async def cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=AT_ONCE_S)
    assert done, "not cancelled at once"
    assert task.cancelled() or task.exception() is None
