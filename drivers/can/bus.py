"""A CAN wire: frames of one bus, for all devices on it, become samples. ``Listener`` of the ports.

Rules of this file:

1. One task owns the wire: it waits, drains, decodes and hands over. Nothing here knows which interface it is.
2. A frame after a pause is taken at once. From ``BUSY_FRAMES_S`` on the task then pauses between drains, so that frames
   gather and share the cost: shortly where rules should see them soon and a core has the room (a drain costs as much
   as several frames in it), longer on a bus that is nearly full, and never for longer than a part of what the queue
   before us holds.
3. All devices of a wire share one decoder; a device that is told from its like by its J1939 source address has its own.
4. What a device sends is believed unless its alive counter stands (``monitor.py``). A signal whose value stops being
   known gives one row that says so, and the next frame gives it in full.
5. A wire that fails makes all its signals unknown and ends ``run``: the supervisor opens it again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from agent.core.clock import Clock
from agent.core.errors import DeviceError
from agent.core.model import Batch, Column, Event
from agent.core.ports import Sink
from drivers.can.devices import PlannedDevice
from drivers.can.errorframes import BusState
from drivers.can.group import Group, Heard, Member
from drivers.can.mmsg import SLOTS
from drivers.can.monitor import Change
from drivers.codec.frames import ERR_FLAG, RTR_FLAG, Frames

#: From this rate on, frames are gathered: a drain costs much, a frame more in it little.
BUSY_FRAMES_S = 100.0
#: The pause between drains up to some batteries' rate. With 2,000 frames/s that takes 21 % of a core, 4 ms take 13 %.
MIN_PAUSE_S = 0.001
MIN_PAUSE_TO_FRAMES_S = 2500.0
#: From there on it grows: a full bus is taken in large drains.
MAX_PAUSE_S = 0.02
MAX_PAUSE_AT_FRAMES_S = 5000.0
#: Where the machine is slow, a drain is followed by a pause of so many times what it took, up to MAX_REST_S.
REST = 1.0
MAX_REST_S = 0.004
#: The share of the queue before us that may fill during a pause.
QUEUE_SHARE = 0.4
#: How often the rate is taken.
RATE_WINDOW_S = 0.1
#: The longest pause before the bus is opened again.
MAX_RETRY_S = 3.0
#: How often silence is looked for.
TICK_S = 0.25

_HINTS = {
    "bus.off": "check wiring, termination and bit rate; `ip link set CHANNEL type can restart-ms 100` restarts it",
    "bus.passive": "check wiring, termination and bit rate",
}

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]


class Source(Protocol):
    """Where frames come from: a socket (``socketcan.py``) or python-can's thread (``pycan.py``)."""

    name: str
    counts: Counter[str]  #: what was lost or refused since the wire last looked
    queue_frames: int  #: how many frames may wait before some are lost

    async def open(self, wake: Callable[[], None]) -> None:
        """Open. Raises ``Unavailable`` or ``Unsupported``."""

    def arm(self) -> None:
        """Ask for one call of ``wake`` when there is something to drain, an end of the wire included."""

    def drain(self) -> Frames:
        """What waits, possibly nothing. Raises ``Unavailable``."""

    async def close(self) -> None:
        """Close; also after a failed open, and twice."""


class Pace:
    """How long to pause between two drains. Pure: frames and monotonic times go in."""

    def __init__(self, queue_frames: int, now_s: float) -> None:
        self._queue_frames = queue_frames
        self._since_s = now_s
        self._frames = 0
        self.rate = 0.0  #: frames/s, over the last window

    def after(self, frames: int, now_s: float, took_s: float = 0.0) -> float | None:
        """The pause after a drain of so many frames; 0: drain again at once, None: wait for the next frame.

        ``took_s``: how long they took to be drained and handed over.
        """
        self._frames += frames
        elapsed_s = now_s - self._since_s
        if elapsed_s >= RATE_WINDOW_S:
            self.rate = self._frames / elapsed_s
            self._frames, self._since_s = 0, now_s
        if not frames:
            return None
        if frames >= SLOTS:
            return 0.0
        if self.rate < BUSY_FRAMES_S:
            return None
        fullness = (self.rate - MIN_PAUSE_TO_FRAMES_S) / (MAX_PAUSE_AT_FRAMES_S - MIN_PAUSE_TO_FRAMES_S)
        pause_s = max(MIN_PAUSE_S + (MAX_PAUSE_S - MIN_PAUSE_S) * fullness, MIN_PAUSE_S, min(REST * took_s, MAX_REST_S))
        return min(pause_s, MAX_PAUSE_S, QUEUE_SHARE * self._queue_frames / self.rate)


class CanListener:
    """One wire and the devices on it. ``ids``: (device, signal name) -> the number that the store gave."""

    def __init__(
        self, source: Source, planned: Sequence[PlannedDevice], ids: Mapping[tuple[str, str], int], clock: Clock
    ) -> None:
        self._source = source
        self._clock = clock
        self._devices = tuple(one.device.id for one in planned)
        shared = [one for one in planned if one.device.source_address is None]
        own = [[one] for one in planned if one.device.source_address is not None]
        self._groups = [Group(group, ids) for group in ([shared] if shared else []) + own]
        self._bus = BusState()
        self._ticked_s = 0.0

    @property
    def name(self) -> str:
        """``interface:channel``."""
        return self._source.name

    @property
    def devices(self) -> Sequence[str]:
        """The ids of the devices on this bus."""
        return self._devices

    @property
    def shown_s(self) -> float:
        """When its loop last went round."""
        return self._ticked_s

    @property
    def left_out(self) -> Sequence[str]:
        """Messages that can't be read here, each with the reason, for the log at start."""
        return tuple(text for group in self._groups for text in group.decoder.left_out)

    @property
    def max_retry_s(self) -> float:
        """A bus that is there again is read within 5 s: opening a socket costs next to nothing."""
        return MAX_RETRY_S

    async def run(self, sink: Sink) -> None:
        """Open, read until cancelled, close. Raises ``Unavailable`` or ``Unsupported``."""
        wake = asyncio.Event()
        ticker = asyncio.create_task(self._wake_regularly(wake))
        try:
            await self._source.open(wake.set)
            for _, member in self._members():
                member.monitor.opened(self._clock.monotonic_s())
            self._bus_events(self._bus.reopened(), sink)
            await self._pump(sink, wake)
        except DeviceError:
            self._count(sink)
            for group, member in self._members():
                self._apply(member.monitor.lost(), member, group, sink)
            raise
        finally:
            ticker.cancel()
            for group in self._groups:
                group.forget()
            await self._source.close()
            await asyncio.gather(ticker, return_exceptions=True)

    async def _wake_regularly(self, wake: asyncio.Event) -> None:
        while True:
            await self._clock.sleep_s(TICK_S)
            wake.set()

    async def _pump(self, sink: Sink, wake: asyncio.Event) -> None:
        pace = Pace(self._source.queue_frames, self._clock.monotonic_s())
        pause_s: float | None = None
        while True:
            if pause_s is None:
                self._source.arm()
                await wake.wait()
                wake.clear()
            elif pause_s > 0:
                await self._clock.sleep_s(pause_s)
            else:
                await asyncio.sleep(0)  # a full drain: others get their turn, then the next one
            began_s = self._clock.monotonic_s()
            frames = self._source.drain()
            now_s = self._clock.monotonic_s()
            if len(frames):
                self._take(frames, now_s, sink)
            self._count(sink)
            if now_s - self._ticked_s >= TICK_S:
                self._tick(now_s, sink)
            pause_s = pace.after(len(frames), now_s, self._clock.monotonic_s() - began_s)

    def _members(self) -> Iterable[tuple[Group, Member]]:
        return ((group, member) for group in self._groups for member in group.members)

    def _count(self, sink: Sink) -> None:
        if self._source.counts:
            for name, amount in self._source.counts.items():
                sink.count(name, amount)
            self._source.counts.clear()

    def _tick(self, now_s: float, sink: Sink) -> None:
        self._ticked_s = now_s
        for group, member in self._members():
            self._apply(member.monitor.tick(now_s), member, group, sink)

    def _take(self, frames: Frames, now_s: float, sink: Sink) -> None:
        """Decode frames for each group; count those that nobody knows."""
        frame_ids = np.ascontiguousarray(frames.raw).view(np.uint32)[:, 0]
        flags = int(np.bitwise_or.reduce(frame_ids))
        if flags & ERR_FLAG:
            errors = frame_ids & ERR_FLAG != 0
            self._take_errors(Frames(frames.raw[errors], frames.times_us[errors]), sink)
            frames, frame_ids = Frames(frames.raw[~errors], frames.times_us[~errors]), frame_ids[~errors]
        if not len(frames):
            return
        sink.count("frames", len(frames))
        self._bus_events(self._bus.received(), sink)
        remote = int(np.count_nonzero(frame_ids & RTR_FLAG)) if flags & RTR_FLAG else 0
        if remote:
            sink.count("remote", remote)
        unknown = len(frames) - remote
        for group in self._groups:
            mine = group.mine(frames)
            if len(mine):
                # No frame belongs to two groups: the devices' claims were checked.
                heard = group.decode(mine)
                unknown -= heard.frames
                for name, amount in heard.bad.items():
                    if amount:
                        sink.count(name, amount)
                self._deliver(group, heard, now_s, sink)
        if unknown:
            sink.count("unknown", unknown)

    def _deliver(self, group: Group, heard: Heard, now_s: float, sink: Sink) -> None:
        changes = [
            (member, member.monitor.heard(heard.seen[member.messages], heard.ids, heard.words, now_s))
            for member in group.members
        ]
        silenced = [member.signals for member in group.members if member.monitor.frozen]
        ids, times_us, words, touched = heard.ids, heard.times_us, heard.words, heard.touched
        if silenced:
            believed = ~np.isin(ids, np.concatenate(silenced))
            ids, times_us, words = ids[believed], times_us[believed], words[believed]
        for run_ids, run_times, run_words, valid in group.missing.split(ids, times_us, words):
            if len(run_ids):
                sink.put(_batch(run_ids, run_times, run_words, valid=valid))
        # Whoever just began to be believed again has old payloads in the decoder's memory: they repeat nothing known.
        doubtful = silenced + [member.signals for member, change in changes if change.forget]
        if doubtful and len(touched):
            touched = touched[~np.isin(touched, np.concatenate(doubtful))]
        touched = group.missing.known(touched)
        if len(touched):
            sink.touch(cast("Column", touched))
        for member, change in changes:
            self._apply(change, member, group, sink)

    def _apply(self, change: Change, member: Member, group: Group, sink: Sink) -> None:
        if change.forget:
            group.forget_payloads()
        now_us = self._clock.now_us() if change.unknown or change.events else 0
        if change.unknown:
            ids = np.array(change.unknown, dtype=np.int32)
            times_us = np.full(len(ids), now_us, dtype=np.int64)
            sink.put(_batch(ids, times_us, np.zeros(len(ids), dtype=np.int64), valid=False))
        for kind, data in change.events:
            sink.event(Event(kind, now_us, member.device, {"wire": self.name, **data}))

    def _take_errors(self, frames: Frames, sink: Sink) -> None:
        counts: Counter[str] = Counter()
        edges = self._bus.take(frames, counts)
        for name, amount in counts.items():
            sink.count(name, amount)
        self._bus_events(edges, sink)

    def _bus_events(self, kinds: Iterable[str], sink: Sink) -> None:
        for kind in kinds:
            hint = _HINTS.get(kind, "").replace("CHANNEL", self.name.partition(":")[2])
            sink.event(Event(kind, self._clock.now_us(), self.name, {"hint": hint} if hint else {}))


def _batch(ids: Ids, times_us: Ints, words: Ints, *, valid: bool) -> Batch:
    """A batch whose columns are numpy arrays: they do all that a ``Column`` does, without its base class."""
    return Batch(cast("Column", ids), cast("Column", times_us), cast("Column", words), valid)
