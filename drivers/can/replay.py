"""A recorded log in place of the buses: the same decoding, the log's own times, every frame.

Rules of this file:

1. A frame goes to the devices whose channel is the log's word for it. Where no configured channel appears in the log,
   the log is of one bus and goes to all.
2. Times are the log's own where they are dates (after 2000), so that a subscriber sees when it happened; otherwise the
   first frame is now. Frames without any time are one millisecond apart.
3. ``speed`` is log seconds per second; 0 is as fast as the store takes it: after each piece ``drained`` is awaited.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.core.clock import Clock
from agent.core.model import BadFrame, Batch, Column
from agent.core.ports import Sink
from drivers.can.devices import PlannedDevice
from drivers.can.group import Group
from drivers.can.logs import LogFrame
from drivers.codec.frames import DATA_OFFSET, EFF_FLAG, ERR_FLAG, FD_BYTES, MAX_DATA, RTR_FLAG, Frames

#: Frames that are decoded together.
CHUNK_FRAMES = 2000
#: 2000-01-01: an earlier time is no date but seconds since some start.
FIRST_DATE_S = 946_684_800.0
#: Frames of one piece span at most this much log time when they are replayed in their own pace.
CHUNK_S = 0.05
#: Distance of frames of a log that has no times.
STEP_S = 0.001
#: A time that is further from its neighbour than this is a new start of the log's clock, not a pause.
MAX_GAP_S = 86_400.0

Timed = tuple[float, LogFrame]


class LogListener:
    """One log as a wire for all CAN devices. ``run`` ends with the log; ``done`` says so.

    ``progress`` counts frames as they pass. ``drained`` waits until the rows so far are stored.
    """

    def __init__(
        self,
        frames: Iterable[LogFrame | BadFrame],
        wires: Sequence[Sequence[PlannedDevice]],
        ids: Mapping[tuple[str, str], int],
        clock: Clock,
        drained: Callable[[], Awaitable[None]],
        speed: float = 1.0,
    ) -> None:
        self._frames = iter(frames)
        self._clock = clock
        self._drained = drained
        self._speed = speed
        self._players = [_Player(one, ids) for wire in wires for one in wire]
        self.bad = 0
        self.replayed = 0

    @property
    def name(self) -> str:
        """The wire's name."""
        return "log"

    @property
    def devices(self) -> Sequence[str]:
        """The ids of all devices that the log may hold."""
        return [player.device for player in self._players]

    async def run(self, sink: Sink) -> None:
        """Replay to the end. Raises what ``read_log`` raises for a file that can't be read."""
        head = list(itertools.islice(self._frames, CHUNK_FRAMES))
        known = {player.channel for player in self._players}
        channels = {str(frame.channel) for frame in head if isinstance(frame, LogFrame)}
        routed = bool(channels & known)
        timed = self._timed(itertools.chain(head, self._frames), sink)
        start_s, began_s = None, self._clock.monotonic_s()
        for chunk in _chunks(timed, CHUNK_S if self._speed else None):
            t_s = chunk[0][0]
            start_s = t_s if start_s is None else start_s
            if self._speed:
                wait_s = (t_s - start_s) / self._speed - (self._clock.monotonic_s() - began_s)
                await self._clock.sleep_s(max(wait_s, 0.0))
            self._deliver(chunk, sink, routed=routed)
            if not self._speed:
                await self._drained()
        await self._drained()

    def _deliver(self, chunk: list[Timed], sink: Sink, *, routed: bool) -> None:
        self.replayed += len(chunk)
        sink.count("frames", len(chunk))
        for player in self._players:
            mine = [item for item in chunk if not routed or str(item[1].channel) == player.channel]
            if mine:
                player.play(_frames(mine), sink)

    def _timed(self, frames: Iterable[LogFrame | BadFrame], sink: Sink) -> Iterator[Timed]:
        """The frames with a time in seconds since 1970 that never leaps."""
        shift_s: float | None = None
        last_s = self._clock.now_us() / 1e6
        for frame in frames:
            if isinstance(frame, BadFrame):
                self.bad += 1
                sink.count(f"bad.{frame.reason}")
                continue
            if frame.t is None:
                t_s = last_s + STEP_S
            else:
                if shift_s is None:
                    shift_s = 0.0 if frame.t >= FIRST_DATE_S else last_s - frame.t
                elif abs(frame.t + shift_s - last_s) > MAX_GAP_S:
                    shift_s = last_s + STEP_S - frame.t
                t_s = frame.t + shift_s
            last_s = t_s
            yield t_s, frame


class _Player:
    """One device's part of the log."""

    def __init__(self, planned: PlannedDevice, ids: Mapping[tuple[str, str], int]) -> None:
        self.device = planned.device.id
        self.channel = planned.device.channel
        self._group = Group([planned], ids)

    def play(self, frames: Frames, sink: Sink) -> None:
        """Decode and hand over."""
        found = self._group.decoder.decode(self._group.mine(frames), skip_repeats=False)
        for name, amount in (
            ("decoded", found.decoded),
            ("unknown", found.unknown),
            ("bad.too_short", found.too_short),
            ("bad.unknown_multiplexer", found.unknown_multiplexer),
        ):
            if amount:
                sink.count(name, amount)
        for ids, times_us, words, valid in self._group.missing.split(found.ids, found.times_us, found.words):
            if len(ids):
                sink.put(Batch(cast("Column", ids), cast("Column", times_us), cast("Column", words), valid))


def _chunks(timed: Iterator[Timed], span_s: float | None) -> Iterator[list[Timed]]:
    """Pieces of at most ``CHUNK_FRAMES`` frames and, where it is given, of at most ``span_s`` of log time."""
    chunk: list[Timed] = []
    for item in timed:
        late = span_s is not None and chunk and abs(item[0] - chunk[0][0]) > span_s
        if len(chunk) >= CHUNK_FRAMES or late:
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk


def _frames(chunk: Sequence[Timed]) -> Frames:
    """Log frames in the shape in which Linux gives them."""
    raw: NDArray[np.uint8] = np.zeros((len(chunk), FD_BYTES), dtype=np.uint8)
    ids = np.array([_flagged(frame) for _, frame in chunk], dtype=np.uint32)
    raw[:, :4] = ids.view(np.uint8).reshape(-1, 4)
    for row, (_, frame) in enumerate(chunk):
        data = frame.data[:MAX_DATA]
        raw[row, 4] = len(data)
        raw[row, DATA_OFFSET : DATA_OFFSET + len(data)] = np.frombuffer(data, dtype=np.uint8)
    times_us = np.array([round(t_s * 1e6) for t_s, _ in chunk], dtype=np.int64)
    return Frames(raw, times_us)


def _flagged(frame: LogFrame) -> int:
    flags = EFF_FLAG if frame.extended else 0
    return frame.can_id | flags | (ERR_FLAG if frame.is_error else 0) | (RTR_FLAG if frame.is_remote else 0)
