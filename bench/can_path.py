"""From the CAN socket to the committed sample, one core. A UDP socket on loopback stands in for the bus.

A sender in a second process fills the socket by ``sendmmsg``, so that the receiver is the bottleneck. What counts is
the receiver's CPU time per frame, the kernel's part of receiving included.
"""

import asyncio
import ctypes
import multiprocessing
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from agent.core.clock import SystemClock
from agent.core.model import Batch, Column, Event, SignalSpec
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.store.db import Store
from drivers.can.bus import CanListener
from drivers.can.devices import CanDevice, resolve
from drivers.can.socketcan import SocketSource
from drivers.codec.dbc import Dbc, MessageDef, SignalDef

MESSAGES = 25
SIGNALS = 4
FIRST_ID = 0x100
FRAME_BYTES = 16
#: A multiple of MESSAGES, so that the pattern may be sent again and again.
PATTERN_FRAMES = 8000
CHUNK = 500
FLOOD_S = 4.0
PACED_S = 10.0
PACED_FRAMES_S = 9000
QUIET_FRAMES_S = 300
BUSES = 4
SETTLE_S = 0.3
GIVE_UP_S = 60.0

Raw = NDArray[np.uint8]


def _dbc() -> Dbc:
    signals = tuple(SignalDef(f"S{index}", 16 * index, 16) for index in range(SIGNALS))
    return Dbc(
        "bench.dbc",
        tuple(
            MessageDef(FIRST_ID + index, extended=False, name=f"M{index}", length=8, signals=signals)
            for index in range(MESSAGES)
        ),
    )


def pattern(seed: int, repeats: float, frames: int) -> Raw:
    """Classic frames, uint8[frames, 16]: message after message, ``repeats`` of them with the payload they had before.

    A new payload moves all four signals by up to 3 steps, as measured values do.
    """
    rng = np.random.default_rng(seed)
    rounds = frames // MESSAGES
    moves = rng.integers(1, 4, (rounds, MESSAGES, SIGNALS)) * rng.choice([-1, 1], (rounds, MESSAGES, SIGNALS))
    moves[rng.random((rounds, MESSAGES)) < repeats] = 0
    values = (30_000 + np.cumsum(moves, axis=0)).astype("<u2")
    raw = np.zeros((rounds * MESSAGES, FRAME_BYTES), dtype=np.uint8)
    raw[:, :4] = np.tile(np.arange(FIRST_ID, FIRST_ID + MESSAGES, dtype="<u4"), rounds).view(np.uint8).reshape(-1, 4)
    raw[:, 4] = 8
    raw[:, 8:] = values.reshape(-1, SIGNALS).view(np.uint8)
    return raw


def changed_values(raw: Raw) -> int:
    """How many values of a pattern differ from the one before of the same signal, the first of each counted."""
    values = raw[:, 8:].copy().view("<u2").reshape(-1, MESSAGES, SIGNALS)
    return int(np.count_nonzero(values[1:] != values[:-1])) + MESSAGES * SIGNALS


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iov_items", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("sent", ctypes.c_uint))


class Bus:
    """The sending end of a stand-in bus: a pattern, sent over and over."""

    def __init__(self, port: int, raw: Raw) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._raw = np.ascontiguousarray(raw)
        self._iovecs = (_Iovec * len(raw))()
        self._messages = (_Mmsghdr * len(raw))()
        for index in range(len(raw)):
            self._iovecs[index] = _Iovec(self._raw.ctypes.data + index * FRAME_BYTES, FRAME_BYTES)
            header = self._messages[index].header
            header.iov = ctypes.pointer(self._iovecs[index])
            header.iov_items = 1
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
        self._next = 0
        self.sent = 0

    def send(self, frames: int) -> None:
        """The next frames of the pattern."""
        while frames > 0:
            amount = min(frames, len(self._raw) - self._next, 1024)
            address = ctypes.addressof(self._messages) + self._next * ctypes.sizeof(_Mmsghdr)
            done = self._sendmmsg(self._socket.fileno(), address, amount, 0)
            if done <= 0:
                return  # nobody listens any more
            self._next = (self._next + done) % len(self._raw)
            self.sent += done
            frames -= done

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def flood(port: int, raw: Raw, seconds: float, result: Connection) -> None:
    """As many frames as go, for some seconds."""
    bus = Bus(port, raw)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        bus.send(CHUNK)
    result.send(bus.sent)
    bus.close()


def paced(ports: Sequence[int], raws: Sequence[Raw], frames_s: int, result: Connection) -> None:
    """Each pattern once, on its own bus, at a steady rate: as a controller would, some at a time."""
    buses = [Bus(port, raw) for port, raw in zip(ports, raws, strict=True)]
    start_s = time.monotonic()
    while any(bus.sent < len(raw) for bus, raw in zip(buses, raws, strict=True)):
        due = int((time.monotonic() - start_s) * frames_s)
        for bus, raw in zip(buses, raws, strict=True):
            bus.send(min(due, len(raw)) - bus.sent)
        time.sleep(0.001)
    result.send(sum(bus.sent for bus in buses))
    for bus in buses:
        bus.close()


class ArraySink:
    """Keeps the newest arrays and nothing else: what the wire alone costs."""

    def __init__(self) -> None:
        self.rows = 0
        self.counts: Counter[str] = Counter()
        self._newest: Batch | None = None

    def put(self, batch: Batch) -> None:
        """Keep it for a while."""
        self._newest = batch
        if batch.valid:
            self.rows += len(batch)

    def touch(self, ids: Column) -> None:
        """Nothing to keep."""

    def event(self, event: Event) -> None:
        """Devices are silent until the sender has started."""

    def count(self, name: str, amount: int = 1) -> None:
        """Count."""
        self.counts[name] += amount

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        """Never on CAN."""
        raise AssertionError(f"CAN signals are numbered before: {specs}")


class FlowSink(ArraySink):
    """The real way on: hub, gate and store."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self._flow = flow

    def put(self, batch: Batch) -> None:
        """Through the pipeline into the store's queue."""
        kept = self._flow.put(batch)
        if batch.valid:
            self.rows += kept

    def touch(self, ids: Column) -> None:
        """Young again."""
        self._flow.touch(ids)


class LatencySink(ArraySink):
    """Notes how long after the kernel took it a frame is handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.late_us: list[int] = []

    def put(self, batch: Batch) -> None:
        """One figure a frame: all its rows have one time."""
        if batch.valid:
            self.late_us += [time.time_ns() // 1000 - t_us for t_us in sorted(set(batch.times_us))]


class Bench:
    """One store, pipeline and a sink for each bus; without a store, sinks that keep nothing."""

    def __init__(self, buses: int, directory: Path | None) -> None:
        clock = SystemClock()
        self.planned = [resolve(CanDevice(f"pack{bus}", f"bench{bus}", (_dbc(),))) for bus in range(buses)]
        specs = [item.spec for one in self.planned for item in one.wanted]
        self.store = None if directory is None else Store.open(directory / "bench.db", clock)
        if self.store is None:
            self.ids = {(spec.device, spec.name): number for number, spec in enumerate(specs, 1)}
            self.sinks = [ArraySink() for _ in range(buses)]
        else:
            self.ids = {(signal.device, signal.name): signal.id for signal in self.store.assign(specs)}
            self.flow = Flow(clock, Gate(), Hub(clock), self.store.append)
            self.sinks = [FlowSink(self.flow) for _ in range(buses)]

    def counted(self, name: str) -> int:
        """A counter, over all buses."""
        return sum(sink.counts[name] for sink in self.sinks)

    @property
    def rows(self) -> int:
        """Values kept: in the store, if there is one."""
        return sum(sink.rows for sink in self.sinks)

    def stored(self) -> int:
        """Values that a reader finds in the store, after everything is committed."""
        if self.store is None:
            return self.rows
        self.store.flush().result()
        return sum(1 for _, _, value in self.store.rows(list(self.ids.values()), 0, 1 << 62) if value is not None)

    def close(self) -> None:
        """Close the store."""
        if self.store is not None:
            self.store.close()


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave. CPU time is that of this whole process, all threads."""

    sent: int
    frames: int
    overflow: int
    cpu_per_frame_s: float
    frames_s: float


def _port() -> tuple[socket.socket, int]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _measure(bench: Bench, start: Callable[[Sequence[int]], Connection]) -> Run:
    """Run a listener for each bus until the sender has sent all and nothing comes any more, and all is committed."""
    clock = SystemClock()
    sockets = [_port() for _ in bench.planned]
    listeners = [
        CanListener(SocketSource(f"udp:{port}", partial(_same, sock), clock, fd=False), [one], bench.ids, clock)
        for one, (sock, port) in zip(bench.planned, sockets, strict=True)
    ]
    tasks = [asyncio.create_task(listener.run(sink)) for listener, sink in zip(listeners, bench.sinks, strict=True)]
    result = start([port for _, port in sockets])
    await _until(lambda: bench.counted("frames") > 0)
    start_s, start_cpu_s, before = time.monotonic(), _cpu_s(), bench.counted("frames")
    await _until(result.poll)
    end_s, end_cpu_s, frames = time.monotonic(), _cpu_s(), bench.counted("frames")
    sent = result.recv()
    await asyncio.sleep(SETTLE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return Run(
        sent,
        bench.counted("frames"),
        bench.counted("overflow"),
        (end_cpu_s - start_cpu_s) / (frames - before),
        (frames - before) / (end_s - start_s),
    )


def _same(sock: socket.socket) -> socket.socket:
    return sock


async def _until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + GIVE_UP_S
    while not condition():
        if time.monotonic() > give_up_s:
            raise TimeoutError("the sending process did not start or ended early")
        await asyncio.sleep(0.02)


@contextmanager
def sender(target: Callable[..., None]) -> Iterator[Callable[..., Connection]]:
    """A second process that runs ``target(ports, *args, connection)`` when it is told the ports."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    processes: list[multiprocessing.process.BaseProcess] = []

    def start(*args: object) -> Connection:
        process = context.Process(target=target, args=(*args, theirs), daemon=True)
        process.start()
        processes.append(process)
        return ours

    yield start
    for process in processes:
        process.join()
    ours.close()
    theirs.close()


def flooded(repeats: float, directory: Path | None) -> tuple[Run, Bench]:
    """One bus, as fast as it goes."""
    bench = Bench(1, directory)
    raw = pattern(1, repeats, PATTERN_FRAMES)
    with sender(flood) as start:
        run = asyncio.run(_measure(bench, lambda ports: start(ports[0], raw, FLOOD_S)))
    return run, bench


def four_buses(directory: Path | None) -> tuple[Run, Bench, int]:
    """Four full buses; also how many values changed in what was sent."""
    bench = Bench(BUSES, directory)
    raws = [pattern(bus, 0.8, int(PACED_FRAMES_S * PACED_S)) for bus in range(BUSES)]
    with sender(paced) as start:
        run = asyncio.run(_measure(bench, lambda ports: start(ports, raws, PACED_FRAMES_S)))
    return run, bench, sum(map(changed_values, raws))


def quiet_bus() -> tuple[Run, list[int]]:
    """One battery's bus; how late its frames come, in µs, sorted."""
    bench = Bench(1, None)
    sink = LatencySink()
    bench.sinks = [sink]
    raw = pattern(1, 0.8, int(QUIET_FRAMES_S * PACED_S))
    with sender(paced) as start:
        run = asyncio.run(_measure(bench, lambda ports: start(ports, [raw], QUIET_FRAMES_S)))
    return run, sorted(sink.late_us)


def _report(way: str, directory: Callable[[], Path | None]) -> None:
    for name, repeats, target in (("four payloads in five repeat", 0.8, 200_000), ("none repeats", 0.0, 100_000)):
        run, bench = flooded(repeats, directory())
        bench.close()
        rate = 1 / run.cpu_per_frame_s
        print(
            f"{way}, {name}: {rate:,.0f} frames/s per core ({rate / target:.1f}x) target {target:,};"
            f" {run.cpu_per_frame_s * 1e6:.2f} µs/frame, {run.frames_s:,.0f} frames/s came"
        )
    run, bench, changed = four_buses(directory())
    share = run.cpu_per_frame_s * run.frames_s
    print(
        f"{way}, four buses of {PACED_FRAMES_S:,} frames/s: {share:.1%} of a core ({0.25 / share:.1f}x) target 25 %;"
        f" {run.sent - run.frames:,} of {run.sent:,} frames lost, {bench.stored():,} of {changed:,} changed values kept"
    )
    bench.close()


def main() -> None:
    """Print frames/s per core, and the share of a core that four full buses take; first the wire alone, then all."""
    _report("CAN socket to sample", lambda: None)
    run, late_us = quiet_bus()
    middle_ms, high_ms = (late_us[int(len(late_us) * part)] / 1000 for part in (0.5, 0.99))
    print(
        f"CAN socket to sample, {QUIET_FRAMES_S} frames/s: {middle_ms:.1f} ms p50 ({3 / middle_ms:.1f}x) target 3 ms;"
        f" {high_ms:.1f} ms p99, {run.cpu_per_frame_s * run.frames_s:.1%} of a core"
    )
    with TemporaryDirectory() as temporary:
        numbers = count()

        def fresh() -> Path:
            directory = Path(temporary, str(next(numbers)))
            directory.mkdir()
            return directory

        _report("CAN socket to committed sample", fresh)


if __name__ == "__main__":
    main()
