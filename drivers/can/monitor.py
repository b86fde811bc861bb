"""Whether a device on a bus still lives: silence and frozen alive counters (faults F1, F4 and F5).

Rules of this file:

1. Pure: frames heard and a monotonic time go in, changes come out. No clock, no wire, no loop.
2. A message is *silent* when it was not heard for ``limit_s``; its signals then are unknown, once. A device is silent
   when all its messages are: that and its end are events.
3. A device is *frozen* when an alive counter of it keeps its value for ``frozen_after_s`` while its frames keep coming.
   Then all its signals are unknown, and what it sends is not believed, until the counter moves.
4. "Unknown" is said once. A message that comes back must send its values again in full, so ``Change.forget`` names
   whose remembered payloads are worth nothing any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Silence shorter than this is never called silence.
SHORTEST_S = 1.0
#: Where a DBC says no cycle time, and the configuration no limit.
DEFAULT_LIMIT_S = 5.0
#: So many cycles may be missed.
CYCLES = 3

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]


def silence_limit_s(cycle_time_ms: int | None, stale_after_s: float | None) -> float:
    """How long a message may be silent: as configured, or three cycles, at least one second."""
    if stale_after_s is not None:
        return max(SHORTEST_S, stale_after_s)
    if cycle_time_ms:
        return max(SHORTEST_S, CYCLES * cycle_time_ms / 1000)
    return DEFAULT_LIMIT_S


@dataclass(frozen=True, slots=True)
class Watched:
    """One message of a device: its name, how long it may be silent, the ids of its signals."""

    name: str
    limit_s: float
    signals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AliveCounter:
    """One alive counter: its name, its signal id, the index of its message among those watched."""

    name: str
    signal: int
    message: int


@dataclass(frozen=True, slots=True)
class Change:
    """What follows from hearing, or from not hearing."""

    unknown: tuple[int, ...] = ()  #: signals that became unknown now
    forget: tuple[int, ...] = ()  #: messages (indexes) whose remembered payloads must be forgotten
    events: tuple[tuple[str, dict[str, object]], ...] = ()  #: kind and data, in order


@dataclass(slots=True)
class _Counter:
    counter: AliveCounter
    word: int | None = None
    moved_s: float | None = None  #: None: its time starts with the next frame
    frozen: bool = False


@dataclass(slots=True)
class _Collected:
    unknown: list[int] = field(default_factory=list)
    forget: set[int] = field(default_factory=set)
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def change(self) -> Change:
        return Change(tuple(self.unknown), tuple(sorted(self.forget)), tuple(self.events))


_NO_CHANGE = Change()


class Monitor:
    """Watches one device. ``frozen_after_s`` counts from the last move of a counter to a frame that repeats it."""

    def __init__(self, messages: Sequence[Watched], counters: Sequence[AliveCounter], frozen_after_s: float) -> None:
        self._messages = tuple(messages)
        self._limit_s = np.array([message.limit_s for message in messages], dtype=np.float64)
        self._heard_s = np.zeros(len(messages), dtype=np.float64)
        self._silent = np.zeros(len(messages), dtype=np.bool_)
        self._known = np.ones(len(messages), dtype=np.bool_)  # at first: what an earlier run stored is still believed
        self._counters = [_Counter(counter) for counter in counters]
        self._frozen_after_s = frozen_after_s
        self._device_silent = False
        self._any_silent = False
        self.frozen = False  #: nothing that the device sends is believed now

    def opened(self, now_s: float) -> None:
        """The wire was opened just now: all times start again, what was silent or frozen stays so until it is heard."""
        self._heard_s[:] = now_s
        for counter in self._counters:
            counter.moved_s = None

    def heard(self, frames: Ints, ids: Ids, words: Ints, now_s: float) -> Change:
        """Frames came: how many good ones of each message, and the rows that they gave. ``frozen`` is valid after."""
        hit = frames > 0
        self._heard_s[hit] = now_s
        if not self._counters and not self._any_silent:
            self._known |= hit
            return _NO_CHANGE
        found = _Collected()
        for counter in self._counters:
            if hit[counter.counter.message]:
                self._check(counter, ids, words, now_s, found)
        self._settle(found)
        if not self.frozen:
            self._known |= hit
        if self._any_silent:
            self._silent &= ~hit
            self._any_silent = bool(self._silent.any())
            if self._device_silent and not self._silent.all():
                self._device_silent = False
                found.events.append(("device.heard", {}))
        return found.change()

    def tick(self, now_s: float) -> Change:
        """Time passed: what fell silent since the last call."""
        late = (now_s - self._heard_s >= self._limit_s) & ~self._silent
        if not late.any():
            return _NO_CHANGE
        found = _Collected()
        self._silent |= late
        self._any_silent = True
        for index in np.flatnonzero(late).tolist():
            self._lose(index, found)
            found.forget.add(index)
        for counter in self._counters:
            if late[counter.counter.message]:
                counter.moved_s = None
        if self._silent.all() and not self._device_silent:
            self._device_silent = True
            silent_s = round(now_s - float(self._heard_s.max()), 3)
            found.events.append(("device.silent", {"silent_s": silent_s}))
        return found.change()

    def lost(self) -> Change:
        """The wire is gone: everything is unknown at once."""
        found = _Collected()
        for index in range(len(self._messages)):
            self._lose(index, found)
            found.forget.add(index)
        return found.change()

    def _lose(self, index: int, found: _Collected) -> None:
        if self._known[index]:
            self._known[index] = False
            found.unknown.extend(self._messages[index].signals)

    def _check(self, state: _Counter, ids: Ids, words: Ints, now_s: float, found: _Collected) -> None:
        """Whether a counter moved. Its frames came; no row of it means that its payload repeated."""
        seen = words[ids == state.counter.signal]
        if state.word is None or bool((seen != state.word).any()):
            if len(seen):
                state.word = int(seen[-1])
                state.moved_s = now_s
                state.frozen = False
        elif state.moved_s is None:
            state.moved_s = now_s
        elif not state.frozen and now_s - state.moved_s >= self._frozen_after_s:
            state.frozen = True
            if not self.frozen:
                stood_s = round(now_s - state.moved_s, 3)
                data = {"counter": state.counter.name, "value": state.word, "stood_s": stood_s}
                found.events.append(("device.frozen", data))

    def _settle(self, found: _Collected) -> None:
        """Follow an edge of ``frozen``."""
        frozen = any(counter.frozen for counter in self._counters)
        if frozen == self.frozen:
            return
        self.frozen = frozen
        if frozen:
            for index in range(len(self._messages)):
                self._lose(index, found)
        else:
            found.forget.update(range(len(self._messages)))
            found.events.append(("device.alive", {}))
