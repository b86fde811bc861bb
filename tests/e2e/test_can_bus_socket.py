"""A CAN wire over a socket that stands in for a raw CAN one: losses, bad input, silence, frozen devices, bus states."""

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace

import pytest

from agent.core.clock import Clock, FakeClock, SystemClock
from agent.core.errors import Unavailable
from agent.core.model import Batch, Column, Event, SignalSpec
from drivers.can.bus import CanListener
from drivers.can.devices import CanDevice, PointMap, resolve
from drivers.can.mmsg import SLOTS, FrameReader
from drivers.can.plan import needs_fd
from drivers.can.socketcan import SocketSource
from drivers.codec.dbc import Dbc, MessageDef, SignalDef
from drivers.codec.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG
from tests.e2e.site import wait_until

SOC = SignalDef("Soc", 0, 8, unit="%")
ALIVE = SignalDef("Alive", 8, 8)
TEMPERATURE = SignalDef("Temperature", 16, 16, signed=True)
STATE = MessageDef(0x100, extended=False, name="State", length=4, signals=(SOC, ALIVE, TEMPERATURE), cycle_time_ms=100)
PAGES = MessageDef(
    0x101,
    extended=False,
    name="Pages",
    length=3,
    signals=(
        SignalDef("Page", 0, 8, is_multiplexer=True),
        SignalDef("First", 8, 16, multiplexer="Page", mux_values=((1, 1),)),
        SignalDef("Second", 8, 16, multiplexer="Page", mux_values=((2, 2),)),
    ),
)
PLAIN = Dbc("plain.dbc", (STATE, PAGES))
LONG = MessageDef(0x200, extended=False, name="Long", length=20, signals=(SignalDef("Last", 152, 8),), fd=True)
GROUP = MessageDef(0x18FEF1FE, extended=True, name="Group", length=1, signals=(SOC,), j1939=True)


class Sink:
    """Keeps what comes, by signal name."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self.rows: list[tuple[str, int | None]] = []
        self.touched: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.data: list[Mapping[str, object]] = []
        self.counts: Counter[str] = Counter()

    def put(self, batch: Batch) -> None:
        for signal, word in zip(batch.ids, batch.words, strict=True):
            self.rows.append((self._names[int(signal)], int(word) if batch.valid else None))

    def touch(self, ids: Column) -> None:
        self.touched += [self._names[int(signal)] for signal in ids]

    def event(self, event: Event) -> None:
        self.events.append((event.kind, event.subject))
        self.data.append(event.data)

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        raise AssertionError(f"CAN signals are numbered before: {specs}")


class Rig:
    """A listener over one end of a pair of Unix datagram sockets, and the other end: the bus."""

    def __init__(self, *devices: CanDevice, clock: Clock | None = None) -> None:
        planned = [resolve(device) for device in devices]
        specs = [item.spec for one in planned for item in one.wanted]
        ids = {(spec.device, spec.name): number for number, spec in enumerate(specs, 1)}
        self.clock = clock or SystemClock()
        self.sink = Sink({number: spec.full_name for number, spec in enumerate(specs, 1)})
        self._bus: socket.socket | None = None
        self._opened = asyncio.Event()
        source = SocketSource("socketcan:can0", self._open, self.clock, fd=needs_fd(planned))
        self.listener = CanListener(source, planned, ids, self.clock)

    def _open(self) -> socket.socket:
        ours, self._bus = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self._opened.set()
        return ours

    def frame(self, frame_id: int, *data: int, length: int | None = None) -> None:
        """One classic frame."""
        size = len(data) if length is None else length
        self.raw(struct.pack("=IBBBB8s", frame_id, size, 0, 0, 0, bytes(data)))

    def fd_frame(self, frame_id: int, *data: int) -> None:
        self.raw(struct.pack("=IBBBB64s", frame_id, len(data), 4, 0, 0, bytes(data)))

    def raw(self, datagram: bytes) -> None:
        assert self._bus is not None
        self._bus.send(datagram)

    def run(self, script: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run the listener beside a script; then cancel it."""

        async def both() -> None:
            task = asyncio.create_task(self.listener.run(self.sink))
            await self._opened.wait()
            try:
                await script()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if self._bus is not None:
                    self._bus.close()
            assert task.cancelled()

        asyncio.run(both())

    async def settle(self, done: Callable[[], bool]) -> None:
        """Wait for something that must come."""
        for _ in range(60_000):
            if done():
                return
            await asyncio.sleep(0.001)
        pytest.fail(f"did not come; rows {self.sink.rows}, counts {self.sink.counts}, events {self.sink.events}")

    async def advance(self, seconds: float) -> None:
        """Move the fake clock in ticks, giving the listener its turns."""
        assert isinstance(self.clock, FakeClock)
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
            for _ in range(5):
                await asyncio.sleep(0)


DEVICE = CanDevice("bms", "can0", (PLAIN,))


def test_bad_input_is_counted_and_its_neighbours_are_read() -> None:
    rig = Rig(DEVICE)

    async def script() -> None:
        rig.frame(0x100, 50, 1, 0x10, 0)
        rig.frame(0x100, 51, 2, 0)  # a byte is missing
        rig.frame(0x100, 52, 3, 0x11, 0, 9, 9, 9, 9)  # longer than the DBC says: the bytes behind are ignored
        rig.frame(0x7FF, 1, 2, 3)  # nobody's
        rig.frame(0x100 | EFF_FLAG, 1, 2, 3, 4)  # another namespace
        rig.frame(0x100 | RTR_FLAG, length=4)
        rig.frame(0x101, 3, 1, 0)  # a page that nobody knows
        rig.frame(0x101, 2, 7, 0)
        rig.raw(b"")
        rig.raw(b"\x00" * 15)
        rig.raw(b"\x00" * 17)
        rig.frame(0x100, 99, 99, 99, 99, length=64)  # claims more than it holds
        rig.fd_frame(0x100, 53, 4, 0, 0)  # FD on a wire without
        rig.frame(0x100, 54, 5, 0x12, 0)
        await rig.settle(lambda: ("bms.State.Soc", 54) in rig.sink.rows)

    rig.run(script)
    values = [row for row in rig.sink.rows if row[0] == "bms.State.Soc"]
    assert values == [("bms.State.Soc", 50), ("bms.State.Soc", 52), ("bms.State.Soc", 54)]
    assert ("bms.Pages.Second", 7) in rig.sink.rows
    assert not [row for row in rig.sink.rows if row[0] == "bms.Pages.First"]
    assert rig.sink.counts == {
        "frames": 9,
        "unknown": 2,
        "remote": 1,
        "bad.too_short": 1,
        "bad.unknown_multiplexer": 1,
        "bad.malformed": 5,
    }


def test_fd_frames_are_read_beside_classic_ones_and_stale_bytes_never_leak() -> None:
    rig = Rig(replace(DEVICE, dbc=(PLAIN, Dbc("fd.dbc", (LONG,)))))

    async def script() -> None:
        rig.fd_frame(0x200, *range(19), 77)
        rig.fd_frame(0x100, 50, 1, 0, 0)
        rig.frame(0x100, 51, 2, 0, 0)
        await rig.settle(lambda: rig.sink.counts["frames"] == 3)
        # Into the same memory again: a frame that claims bytes it does not hold must not show those of the one before.
        rig.frame(0x200, 1, 2, 3, 4, 5, 6, 7, 8, length=20)
        rig.fd_frame(0x200, *range(8))
        rig.frame(0x100, 52, 3, 0, 0)
        await rig.settle(lambda: ("bms.State.Soc", 52) in rig.sink.rows)

    rig.run(script)
    assert [word for name, word in rig.sink.rows if name == "bms.Long.Last"] == [77]
    assert [word for name, word in rig.sink.rows if name == "bms.State.Soc"] == [50, 51, 52]
    assert rig.sink.counts["bad.malformed"] == 1
    assert rig.sink.counts["bad.too_short"] == 1


def test_a_silent_device_becomes_unknown_and_comes_back_in_full() -> None:
    clock = FakeClock()
    rig = Rig(replace(DEVICE, keep_unmapped=False, points=(PointMap("soc_pct", "State.Soc"),)), clock=clock)

    async def script() -> None:
        rig.frame(0x100, 50, 1, 0, 0)
        await rig.settle(lambda: rig.sink.rows == [("bms.soc_pct", 50)])
        await rig.advance(0.5)
        assert len(rig.sink.rows) == 1
        await rig.advance(1.0)
        assert rig.sink.rows[1:] == [("bms.soc_pct", None)]
        assert rig.sink.events == [("device.silent", "bms")]
        await rig.advance(5.0)
        assert len(rig.sink.rows) == 2
        rig.frame(0x100, 50, 1, 0, 0)
        await rig.settle(lambda: len(rig.sink.rows) > 2)

    rig.run(script)
    assert rig.sink.rows[2:] == [("bms.soc_pct", 50)]
    assert rig.sink.touched == []
    assert rig.sink.events == [("device.silent", "bms"), ("device.heard", "bms")]


def test_a_frozen_device_is_not_believed_until_its_counter_moves() -> None:
    clock = FakeClock()
    rig = Rig(
        replace(DEVICE, alive=("State.Alive",)), replace(DEVICE, id="other", dbc=(Dbc("fd.dbc", (LONG,)),)), clock=clock
    )

    async def script() -> None:
        for step in range(26):
            rig.frame(0x100, step, 7, 0, 0)  # the values move on, the counter does not
            rig.fd_frame(0x200, *range(19), step)
            await rig.settle(lambda step=step: rig.sink.counts["frames"] == 2 * (step + 1))  # type: ignore[misc]
            await rig.advance(0.25)
        assert rig.sink.events == [("device.frozen", "bms")]
        rig.sink.touched.clear()
        rig.frame(0x100, 25, 8, 0, 0)
        await rig.settle(lambda: ("device.alive", "bms") in rig.sink.events)
        rig.frame(0x100, 25, 8, 0, 0)
        await rig.settle(lambda: rig.sink.rows.count(("bms.State.Alive", 8)) == 2)

    rig.run(script)
    values = [word for name, word in rig.sink.rows if name == "bms.State.Soc"]
    assert values[:21] == [*range(20), None]
    assert values[21:] == [25, 25]  # with the moving counter, and once more in full
    assert [word for name, word in rig.sink.rows if name == "other.Long.Last"] == list(range(26))
    assert rig.sink.events == [("device.frozen", "bms"), ("device.alive", "bms")]
    assert "bms.State.Soc" not in rig.sink.touched


def test_a_sentinel_makes_its_signal_unknown_and_touches_do_not_bring_it_back() -> None:
    rows = (
        PointMap("temperature_degc", "State.Temperature", missing=((0x7FFF, 0x7FFF),)),
        PointMap("soc_pct", "State.Soc"),
    )
    rig = Rig(replace(DEVICE, keep_unmapped=False, points=rows))

    async def script() -> None:
        rig.frame(0x100, 50, 1, 20, 0)
        rig.frame(0x100, 50, 1, 0xFF, 0x7F)
        await rig.settle(lambda: rig.sink.counts["frames"] == 2)
        rig.sink.touched.clear()
        rig.frame(0x100, 50, 1, 0xFF, 0x7F)
        await rig.settle(lambda: bool(rig.sink.touched))
        rig.frame(0x100, 50, 1, 21, 0)
        await rig.settle(lambda: rig.sink.counts["frames"] == 4)

    rig.run(script)
    temperatures = [word for name, word in rig.sink.rows if name == "bms.temperature_degc"]
    assert temperatures == [20, None, 21]
    assert rig.sink.touched == ["bms.soc_pct"]


def test_packs_of_one_make_are_told_apart_by_their_source_address() -> None:
    devices = [
        replace(DEVICE, id=f"pack{address}", dbc=(Dbc("j.dbc", (GROUP,)),), source_address=address)
        for address in (0xF3, 0xF4)
    ]
    rig = Rig(*devices)

    async def script() -> None:
        rig.frame(0x18FEF1F3 | EFF_FLAG, 11)
        rig.frame(0x0CFEF1F4 | EFF_FLAG, 22)
        rig.frame(0x18FEF1F5 | EFF_FLAG, 33)
        await rig.settle(lambda: rig.sink.counts["unknown"] == 1)

    rig.run(script)
    assert sorted(rig.sink.rows) == [("pack243.Group.Soc", 11), ("pack244.Group.Soc", 22)]
    assert rig.sink.counts["frames"] == 3


def test_error_frames_are_counted_and_the_bus_state_tells_both_edges() -> None:
    rig = Rig(DEVICE)

    async def script() -> None:
        rig.frame(ERR_FLAG | 0x04, 0, 0x10, 0, 0, 0, 0, 0, 0)
        rig.frame(ERR_FLAG | 0x40, 0, 0, 0, 0, 0, 0, 0, 0)
        rig.frame(ERR_FLAG | 0x100, 0, 0, 0, 0, 0, 0, 0, 0)
        rig.frame(0x100, 50, 1, 0, 0)
        await rig.settle(lambda: rig.sink.counts["frames"] == 1)

    rig.run(script)
    wire = "socketcan:can0"
    assert rig.sink.events == [(kind, wire) for kind in ("bus.passive", "bus.off", "bus.on", "bus.active")]
    assert "can0" in str(rig.sink.data[1]["hint"])
    assert rig.sink.counts["error_frames"] == 3
    assert ("bms.State.Soc", 50) in rig.sink.rows


def test_frames_that_the_kernel_dropped_are_counted() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bus,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        reader = FrameReader(ours, FakeClock(), fd=False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        frame = struct.pack("=IBBBB8s", 0x100, 8, 0, 0, 0, b"")
        sent = 0
        read = 0
        for _ in range(2):  # the counter is the socket's, the figure is what was lost since the last time
            for _ in range(4 * SLOTS):
                bus.sendto(frame, ours.getsockname())
            sent += 4 * SLOTS
            while drained := len(reader.read()):
                read += drained
            bus.sendto(frame, ours.getsockname())
            sent += 1
            read += len(reader.read())
        assert read < sent
        assert reader.counts == {"overflow": sent - read}


def test_kernel_time_stamps_tell_when_a_frame_came_not_when_it_was_read() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bus,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        reader = FrameReader(ours, FakeClock(now_us=5), fd=True)
        assert len(reader.read()) == 0
        frame = struct.pack("=IBBBB8s", 0x100, 8, 0, 0, 0, b"")

        def stamps() -> bool:
            bus.sendto(frame, ours.getsockname())
            sent_us = SystemClock().now_us()
            time.sleep(0.001)
            return all(t_us <= sent_us for t_us in reader.read().times_us.tolist())

        wait_until(stamps, "the kernel begins to stamp what comes, which it does in its own time")
        before_us = SystemClock().now_us()
        for _ in range(3):
            bus.sendto(frame, ours.getsockname())
        after_us = SystemClock().now_us()
        times = reader.read().times_us.tolist()
        assert len(times) == 3
        assert times == sorted(times)
        assert before_us <= times[0] <= times[-1] <= after_us


def test_a_closed_socket_is_an_error_of_the_reader_and_unavailable_on_the_wire() -> None:
    ours, bus = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader = FrameReader(ours, FakeClock(), fd=False)
    ours.close()
    bus.close()
    with pytest.raises(OSError, match=r"[Bb]ad file descriptor"):
        reader.read()
    with pytest.raises(Unavailable, match="not open"):
        SocketSource("socketcan:can0", lambda: ours, FakeClock(), fd=False).drain()
