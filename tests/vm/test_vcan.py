"""A CAN wire on real SocketCAN: kernel filters, CAN FD, interface down and gone, overruns, error frames.

Runs as root where the kernel has CAN and there is a ``vcan0``, and says so elsewhere::

    modprobe vcan; ip link add vcan0 mtu 72 type vcan; ip link set vcan0 up
"""

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence

import can
import pytest

from agent.core.clock import SystemClock
from agent.core.errors import Unavailable
from agent.core.model import Batch, Column, Event, SignalSpec
from agent.core.ports import Listener
from drivers.can.devices import CanDevice
from drivers.can.mmsg import FrameReader
from drivers.can.plan import plan
from drivers.can.socketcan import MAX_FILTERS, id_filter, open_can
from drivers.codec.dbc import Dbc, MessageDef, SignalDef

CHANNEL = "vcan0"
PACK = MessageDef(0x356, extended=False, name="Pack", length=8, signals=(SignalDef("Number", 0, 32),))
GROUP = MessageDef(0x18FEF1FE, extended=True, name="Group", length=1, signals=(SignalDef("Soc", 0, 8),), j1939=True)
LONG = MessageDef(0x200, extended=False, name="Long", length=64, signals=(SignalDef("Last", 504, 8),), fd=True)
IDS = {("bms", "Pack.Number"): 1, ("bms", "Group.Soc"): 2, ("bms", "Long.Last"): 3}


def _available() -> str:
    """Why these tests can't run here; empty when they can."""
    try:
        open_can(CHANNEL, [], fd=False).close()
    except Unavailable as error:
        return str(error)
    return "" if os.geteuid() == 0 and shutil.which("ip") else "needs root and `ip` to take interfaces down"


pytestmark = pytest.mark.skipif(bool(_available()), reason=_available() or "runs")


def _ip(*words: str) -> None:
    ip = shutil.which("ip")
    assert ip is not None
    subprocess.run([ip, *words], check=True)


class Sink:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.words: dict[int, list[int]] = {1: [], 2: [], 3: []}
        self.times_us: list[int] = []
        self.unknown: list[int] = []
        self.events: list[str] = []
        self.counts: Counter[str] = Counter()

    def put(self, batch: Batch) -> None:
        for signal, t_us, word in zip(batch.ids, batch.times_us, batch.words, strict=True):
            if batch.valid:
                self.words[int(signal)].append(int(word))
                self.times_us.append(int(t_us))
            else:
                self.unknown.append(int(signal))

    def touch(self, ids: Column) -> None:
        """Not looked at here."""

    def event(self, event: Event) -> None:
        self.events.append(event.kind)

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        raise AssertionError(f"CAN signals are numbered before: {specs}")


def _listener(*messages: MessageDef, channel: str = CHANNEL) -> Listener:
    (listener,) = plan([CanDevice("bms", channel, (Dbc("vm.dbc", messages),))]).listeners(IDS, SystemClock())
    return listener


@pytest.fixture
def bus() -> Iterator[can.BusABC]:
    with can.Bus(channel=CHANNEL, interface="socketcan", fd=True, ignore_config=True) as made:
        yield made


def _number(number: int) -> can.Message:
    return can.Message(arbitration_id=0x356, is_extended_id=False, data=struct.pack("<II", number, 0))


async def _until(condition: Callable[[], bool], task: asyncio.Task[None] | None = None) -> None:
    give_up_s = time.monotonic() + 20.0
    while not condition():
        if task is not None and task.done():
            task.result()
        assert time.monotonic() < give_up_s, "did not come"
        await asyncio.sleep(0.005)


def _run(
    listener: Listener, sink: Sink, script: Callable[[asyncio.Task[None]], Coroutine[object, object, None]]
) -> None:
    async def both() -> None:
        task = asyncio.create_task(listener.run(sink))
        await asyncio.sleep(0.05)
        try:
            await script(task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(both())


def test_frames_come_in_order_with_the_kernel_s_time(bus: can.BusABC) -> None:
    sink = Sink()
    before_us = time.time_ns() // 1000

    async def script(task: asyncio.Task[None]) -> None:
        for number in range(500):
            bus.send(_number(number), timeout=1.0)
        await _until(lambda: len(sink.words[1]) == 500, task)

    _run(_listener(PACK), sink, script)
    assert sink.words[1] == list(range(500))
    assert sink.times_us == sorted(sink.times_us)
    assert before_us <= sink.times_us[0] <= sink.times_us[-1] <= time.time_ns() // 1000
    assert sink.counts == {"frames": 500}


def test_the_kernel_lets_only_wanted_frames_through(bus: can.BusABC) -> None:
    sink = Sink()

    async def script(task: asyncio.Task[None]) -> None:
        for frame_id in range(0x300, 0x400):
            if frame_id != 0x356:
                bus.send(can.Message(arbitration_id=frame_id, is_extended_id=False, data=bytes(8)), timeout=1.0)
        bus.send(can.Message(arbitration_id=0x356, is_extended_id=True, data=bytes(8)), timeout=1.0)
        bus.send(can.Message(arbitration_id=0x356, is_extended_id=False, is_remote_frame=True, dlc=8), timeout=1.0)
        bus.send(can.Message(arbitration_id=0x18FEF2FE, data=bytes(8)), timeout=1.0)
        bus.send(can.Message(arbitration_id=0x0CFEF121, data=b"\x07"), timeout=1.0)
        bus.send(_number(9), timeout=1.0)
        await _until(lambda: bool(sink.words[1]), task)

    _run(_listener(PACK, GROUP), sink, script)
    assert sink.words == {1: [9], 2: [7], 3: []}
    assert sink.counts == {"frames": 2}


def test_more_identifiers_than_the_kernel_has_filters_for(bus: can.BusABC) -> None:
    filters = [id_filter(frame_id, extended=True) for frame_id in range(0, 64 * (MAX_FILTERS + 88), 64)]
    with open_can(CHANNEL, filters, fd=False) as sock:
        reader = FrameReader(sock, SystemClock(), fd=False)
        for frame_id in range(0, 64 * (MAX_FILTERS + 88), 64):
            bus.send(can.Message(arbitration_id=frame_id, data=b"\x01"), timeout=1.0)
        got = 0
        while frames := len(reader.read()):
            got += frames
        assert got == len(filters)


def test_fd_frames_are_read_where_the_dbc_has_them_and_not_elsewhere(bus: can.BusABC) -> None:
    long = can.Message(arbitration_id=0x200, is_extended_id=False, is_fd=True, data=bytes(63) + b"\x2a")
    short = can.Message(arbitration_id=0x356, is_extended_id=False, is_fd=True, data=bytes(8))
    sink = Sink()

    async def script(task: asyncio.Task[None]) -> None:
        bus.send(long, timeout=1.0)
        bus.send(_number(5), timeout=1.0)
        await _until(lambda: bool(sink.words[1]), task)

    _run(_listener(PACK, LONG), sink, script)
    assert sink.words == {1: [5], 2: [], 3: [42]}
    classic = Sink()

    async def on_classic(task: asyncio.Task[None]) -> None:
        bus.send(short, timeout=1.0)
        bus.send(_number(6), timeout=1.0)
        await _until(lambda: bool(classic.words[1]), task)

    _run(_listener(PACK), classic, on_classic)
    assert classic.words[1] == [6]


def test_interface_down_makes_all_unknown_and_up_brings_it_back() -> None:
    listener = _listener(PACK)

    async def script() -> None:
        for number in range(20):
            sink = Sink()
            task = asyncio.create_task(listener.run(sink))
            await asyncio.sleep(0.02)
            # A new peer each time: the old one's socket still has to tell that the interface was down.
            with can.Bus(channel=CHANNEL, interface="socketcan", ignore_config=True) as peer:
                peer.send(_number(number), timeout=1.0)
            await _until(lambda sink=sink: bool(sink.words[1]), task)  # type: ignore[misc]
            _ip("link", "set", CHANNEL, "down")
            try:
                with pytest.raises(Unavailable, match="down"):
                    await asyncio.wait_for(task, 5.0)
                assert sink.unknown == [1]
                with pytest.raises(Unavailable, match="ip link set vcan0 up"):
                    await asyncio.wait_for(listener.run(sink), 5.0)
                assert sink.unknown == [1]
            finally:
                _ip("link", "set", CHANNEL, "up")

    asyncio.run(script())


def test_a_vanished_adapter_is_unavailable_and_its_return_is_enough() -> None:
    async def script() -> None:
        listener = _listener(PACK, channel="vcan77")
        with pytest.raises(Unavailable, match="plugged in"):
            await listener.run(Sink())
        for _ in range(5):
            _ip("link", "add", "vcan77", "type", "vcan")
            try:
                _ip("link", "set", "vcan77", "up")
                sink = Sink()
                task = asyncio.create_task(listener.run(sink))
                await asyncio.sleep(0.05)
                with can.Bus(channel="vcan77", interface="socketcan", ignore_config=True) as peer:
                    peer.send(_number(1), timeout=1.0)
                    await _until(lambda sink=sink: bool(sink.words[1]), task)  # type: ignore[misc]
            finally:
                _ip("link", "del", "vcan77")
            with pytest.raises(Unavailable):
                await asyncio.wait_for(task, 5.0)
            assert sink.unknown == [1]

    asyncio.run(script())


def test_an_overrun_is_counted_to_the_frame(bus: can.BusABC) -> None:
    with open_can(CHANNEL, [id_filter(0x356, extended=False)], fd=False) as sock:
        reader = FrameReader(sock, SystemClock(), fd=False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        for number in range(500):
            bus.send(_number(number), timeout=1.0)
        got = 0
        while frames := len(reader.read()):
            got += frames
        bus.send(_number(0), timeout=1.0)
        got += len(reader.read())
        assert got < 501
        assert reader.counts == {"overflow": 501 - got}


def test_error_frames_are_told_as_edges(bus: can.BusABC) -> None:
    sink = Sink()

    async def script(task: asyncio.Task[None]) -> None:
        with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as raw:
            raw.bind((CHANNEL,))
            for kind, detail in ((0x04, 0x10), (0x40, 0), (0x100, 0)):
                raw.send(struct.pack("=IB3x8B", 0x2000_0000 | kind, 8, 0, detail, *bytes(6)))
            bus.send(_number(1), timeout=1.0)
            await _until(lambda: bool(sink.words[1]), task)

    _run(_listener(PACK), sink, script)
    assert sink.events == ["bus.passive", "bus.off", "bus.on", "bus.active"]
    assert sink.counts["error_frames"] == 3
