"""The contract of ``Listener``, over all wires that speak by themselves, without any hardware."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Protocol

import can
import pytest

from agent.core.clock import SystemClock
from agent.core.errors import DeviceError, Unavailable, Unsupported
from agent.core.model import float_to_word
from agent.core.ports import Listener
from drivers.can.bus import CanListener
from drivers.can.devices import CanDevice, resolve
from drivers.can.plan import plan
from drivers.can.pycan import PycanSource
from drivers.can.socketcan import SocketSource
from drivers.codec.dbc import Dbc, MessageDef, SignalDef
from drivers.serial_meter.push import PushListener
from drivers.serial_meter.settings import MeterSettings
from tests.meters import BracketCodec, telegram
from tests.ports import free_port
from tests.ptys import Pty
from tests.sinks import FIRST_DECLARED, RecordingSink

PACK = MessageDef(
    0x356,
    extended=False,
    name="Pack",
    length=8,
    signals=(SignalDef("Number", 0, 32), SignalDef("Low", 32, 16), SignalDef("High", 48, 16)),
)
DEVICE = CanDevice("battery1", "", (Dbc("pack.dbc", (PACK,)),))
IDS = {("battery1", "Pack.Number"): 1, ("battery1", "Pack.Low"): 2, ("battery1", "Pack.High"): 3}
PATIENCE_S = 60.0
#: Nobody who is cancelled waits for anything; a busy machine may be away for seconds.
AT_ONCE_S = 10.0


class Wire(Protocol):
    """A listener under test and the other end of its wire."""

    ids: Sequence[int]  #: the numbers of its signals; the first one is the number that is sent

    def listener(self) -> Listener:
        """The listener; the same one each time."""

    def send(self, number: int) -> None:
        """One frame or telegram from the peer."""

    def word(self, number: int) -> int:
        """The word that says this number."""

    def vanish(self) -> None:
        """The adapter or the connection is gone."""

    def close(self) -> None:
        """Close the peer."""


def payload(number: int) -> bytes:
    return struct.pack("<IHH", number, number & 0xFFFF, 7)


class CanWire:
    """What all CAN wires have in common."""

    ids: Sequence[int] = (1, 2, 3)

    def word(self, number: int) -> int:
        return number


class DatagramWire(CanWire):
    """A UDP socket on loopback in place of a raw CAN socket: same reader, same calls."""

    def __init__(self) -> None:
        self._peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._peer.bind(("127.0.0.1", 0))
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        probe.bind(("127.0.0.1", 0))
        self._address = probe.getsockname()
        probe.close()
        self._opened: socket.socket | None = None
        source = SocketSource("socketcan:stand-in", self._open, SystemClock(), fd=False)
        self._listener = CanListener(source, [resolve(DEVICE)], IDS, SystemClock())

    def _open(self) -> socket.socket:
        self._opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._opened.setblocking(False)
        self._opened.bind(self._address)
        self._opened.connect(self._peer.getsockname())
        return self._opened

    def listener(self) -> Listener:
        return self._listener

    def send(self, number: int) -> None:
        self._peer.sendto(struct.pack("=IBBBB8s", 0x356, 8, 0, 0, 0, payload(number)), self._address)

    def vanish(self) -> None:
        # The answer to a datagram that nobody takes becomes the socket's error, as ENETDOWN does on CAN.
        self._peer.close()
        assert self._opened is not None
        self._opened.send(b"?")

    def close(self) -> None:
        self._peer.close()


class PycanWire(CanWire):
    """An interface of python-can, with a second bus as the peer."""

    def __init__(self, interface: str, channel: str, **options: int) -> None:
        make: Callable[..., can.BusABC] = can.Bus
        self._peer = make(channel=channel, interface=interface, ignore_config=True, **options)
        self._source = PycanSource(interface, channel, SystemClock(), options)
        self._listener = CanListener(self._source, [resolve(DEVICE)], IDS, SystemClock())

    def listener(self) -> Listener:
        return self._listener

    def send(self, number: int) -> None:
        self._peer.send(can.Message(arbitration_id=0x356, is_extended_id=False, data=payload(number)))

    def vanish(self) -> None:
        assert self._source._bus is not None
        self._source._bus.shutdown()

    def close(self) -> None:
        self._peer.shutdown()


class MeterWire:
    """What all wires with a meter that speaks by itself have in common."""

    ids: Sequence[int] = (FIRST_DECLARED, FIRST_DECLARED + 1)

    def __init__(self, port: str) -> None:
        settings = MeterSettings("grid", "sml", port)
        self._listener = PushListener(settings, BracketCodec(), SystemClock())

    def listener(self) -> Listener:
        return self._listener

    def word(self, number: int) -> int:
        return float_to_word(1000.0 * number)


class SerialMeterWire(MeterWire):
    """A pseudo terminal in place of a serial port."""

    def __init__(self, folder: Path) -> None:
        self._pty = Pty(folder / "usb-meter")
        super().__init__(str(self._pty.path))

    def send(self, number: int) -> None:
        self._pty.send(telegram(number))

    def vanish(self) -> None:
        self._pty.unplug()

    def close(self) -> None:
        self._pty.close()


class SocketMeterWire(MeterWire):
    """A serial server on loopback."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self._peer: socket.socket | None = None
        super().__init__(f"socket://127.0.0.1:{self._server.getsockname()[1]}")

    def send(self, number: int) -> None:
        with contextlib.suppress(BlockingIOError):
            peer, _ = self._server.accept()
            if self._peer is not None:
                self._peer.close()
            self._peer = peer
        if self._peer is not None:
            with contextlib.suppress(ConnectionError):  # of a connection that was closed meanwhile
                self._peer.sendall(telegram(number))

    def vanish(self) -> None:
        assert self._peer is not None
        self._peer.close()

    def close(self) -> None:
        self._server.close()
        if self._peer is not None:
            self._peer.close()


_CHANNELS = count()
_GROUP = "239.74.163.77"


def _group_bus(port: int) -> can.BusABC:
    return can.Bus(channel=_GROUP, interface="udp_multicast", ignore_config=True, port=port)


def _multicast() -> Wire:
    port = free_port(socket.SOCK_DGRAM)
    try:
        with _group_bus(port) as one, _group_bus(port) as other:
            one.send(can.Message(arbitration_id=1))
            heard = other.recv(1.0)
    except (can.CanError, OSError) as error:
        pytest.skip(f"no IP multicast here: {error}")
    if heard is None:
        pytest.skip("IP multicast does not come back on this machine")
    return PycanWire("udp_multicast", _GROUP, port=port)


WIRES: dict[str, Callable[[Path], Wire]] = {
    "datagram": lambda _: DatagramWire(),
    "virtual": lambda _: PycanWire("virtual", f"contract-{next(_CHANNELS)}"),
    "udp_multicast": lambda _: _multicast(),
    "serial meter": SerialMeterWire,
    "meter behind a serial server": lambda _: SocketMeterWire(),
}


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    made = WIRES[request.param](tmp_path)
    yield made
    made.close()


async def until(condition: Callable[[], bool], task: asyncio.Task[None] | None = None) -> None:
    """Wait until it holds; a task that ends before shows its error."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        if task is not None and task.done():
            task.result()
        assert time.monotonic() < give_up_s, "did not come"
        await asyncio.sleep(0.002)


async def speaks(wire: Wire, sink: RecordingSink, task: asyncio.Task[None]) -> None:
    """Send until something arrives: whether a wire is open already can't be seen from outside."""
    number = 1_000_000

    def heard() -> bool:
        nonlocal number
        number += 1
        wire.send(number)
        return bool(sink.words(wire.ids[0]))

    await until(heard, task)
    number += 1
    wire.send(number)  # the last: what was sent before is there when this is
    await until(lambda: wire.word(number) in sink.words(wire.ids[0]), task)
    sink.rows.clear()


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=AT_ONCE_S)
    assert done, "not cancelled at once"
    assert task.cancelled()


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


def test_what_is_sent_comes_out_as_samples_in_order(wire: Wire) -> None:
    async def check() -> None:
        sink = RecordingSink()
        task = asyncio.create_task(wire.listener().run(sink))
        await speaks(wire, sink, task)
        before_us = time.time_ns() // 1000
        for number in range(200):
            wire.send(number)
        await until(lambda: len(sink.words(wire.ids[0])) >= 200, task)
        await stop(task)
        assert sink.words(wire.ids[0]) == [wire.word(number) for number in range(200)]
        if isinstance(wire, CanWire):
            assert sink.words(2) == list(range(200))
            assert sink.words(3) == [7] * 200
        times = [t_us for _, t_us, _, _ in sink.rows]
        assert times == sorted(times)
        assert before_us <= times[0] <= times[-1] <= time.time_ns() // 1000

    run(check())


def test_what_is_repeated_is_a_touch(wire: Wire) -> None:
    async def check() -> None:
        sink = RecordingSink()
        task = asyncio.create_task(wire.listener().run(sink))
        await speaks(wire, sink, task)
        wire.send(5)
        await until(lambda: sink.words(wire.ids[0]) == [wire.word(5)], task)
        sink.touched.clear()
        wire.send(5)
        await until(lambda: sink.touched == list(wire.ids), task)
        assert sink.words(wire.ids[0]) == [wire.word(5)]
        await stop(task)

    run(check())


def test_it_shows_that_it_is_at_work_while_nobody_speaks(wire: Wire) -> None:
    async def check() -> None:
        listener, sink = wire.listener(), RecordingSink()
        task = asyncio.create_task(listener.run(sink))
        await speaks(wire, sink, task)
        since_s = time.monotonic()
        await until(lambda: getattr(listener, "shown_s", 0.0) > since_s + 1, task)
        await stop(task)

    run(check())


def test_opens_again_after_it_was_cancelled(wire: Wire) -> None:
    async def check() -> None:
        for _ in range(3):
            sink = RecordingSink()
            task = asyncio.create_task(wire.listener().run(sink))
            await speaks(wire, sink, task)
            await stop(task)

    run(check())


def test_a_vanished_peer_is_unavailable_and_makes_all_signals_unknown(wire: Wire) -> None:
    async def check() -> None:
        sink = RecordingSink()
        task = asyncio.create_task(wire.listener().run(sink))
        await speaks(wire, sink, task)
        wire.vanish()
        with pytest.raises(Unavailable) as caught:
            await asyncio.wait_for(task, PATIENCE_S)
        assert wire.listener().name in str(caught.value)
        assert sink.unknown() == list(wire.ids)

    run(check())


def test_cancelled_while_opening(wire: Wire) -> None:
    async def check() -> None:
        task = asyncio.create_task(wire.listener().run(RecordingSink()))
        await asyncio.sleep(0)
        await stop(task)

    run(check())


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(wire: Wire) -> None:
    async def check() -> None:
        sink = RecordingSink()
        task = asyncio.create_task(wire.listener().run(sink))
        await speaks(wire, sink, task)
        await stop(task)
        before = _open_files()
        for _ in range(3):
            sink = RecordingSink()
            task = asyncio.create_task(wire.listener().run(sink))
            await speaks(wire, sink, task)
            await stop(task)
        assert _open_files() == before

    run(check())


@pytest.mark.parametrize(
    ("interface", "channel", "options", "error", "text"),
    [
        ("socketcan", "nosuchcan7", {}, Unavailable, "nosuchcan7"),
        ("virtual", "x", {"channel": "twice"}, Unsupported, "options"),
        ("udp_multicast", "127.0.0.1", {"port": 43119}, Unavailable, "udp_multicast:127.0.0.1"),
        ("slcan", "/dev/no-such-tty@115200", {}, Unavailable, "/dev/no-such-tty"),
        ("socketcan2", "can0", {}, Unsupported, "write one of"),
    ],
)
@pytest.mark.announced_warnings  # python-can warns of a bus object that its own constructor left half made
def test_a_failed_open_says_why_and_leaves_nothing_open(
    interface: str, channel: str, options: dict[str, object], error: type[DeviceError], text: str
) -> None:
    device = replace(DEVICE, interface=interface, channel=channel, options=options)
    (listener,) = plan([device]).listeners(IDS, SystemClock())

    async def check() -> None:
        files = []
        for attempt in range(3):
            sink = RecordingSink()
            with pytest.raises(error, match=text) as caught:
                await asyncio.wait_for(listener.run(sink), PATIENCE_S)
            assert caught.value.hint
            assert sink.unknown() == ([1, 2, 3] if attempt == 0 else [])
            files.append(_open_files())
        assert files[1:] == files[:-1]

    run(check())
