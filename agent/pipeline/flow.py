"""The way of a batch through the pipeline: hub, watcher, gate, subscribers, store."""

from array import array
from collections.abc import Callable, Iterable
from typing import Protocol

from agent.core.clock import Clock
from agent.core.model import Batch, Column
from agent.pipeline.columns import Memory, Rows, Spots, rows_of
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub


class Watcher(Protocol):
    """Who sees every row before the gate thins them out: the rules. Called inline: it must not block or raise."""

    def rows(self, rows: Rows, now_s: float) -> None:
        """A batch from a wire. ``now_s`` is monotonic."""

    def touched(self, spots: Spots, now_s: float) -> None:
        """Signals that were read again unchanged: those that became unknown meanwhile are known again."""


class Flow:
    """What the wires' sinks share. ``append`` takes the kept batches (the store's queue) and must not block or raise.

    The hub and the watcher see every row before the gate decides, so that the newest value is the newest one even where
    the gate thins out; subscribers and the store get what the gate keeps.
    """

    def __init__(self, clock: Clock, gate: Gate, hub: Hub, append: Callable[[Batch], None]) -> None:
        self._clock = clock
        self._gate = gate
        self._hub = hub
        self._append = append
        self._memory = Memory()
        self.watcher: Watcher | None = None  #: may be set at any time

    def put(self, batch: Batch) -> int:
        """A wire's batch. Gives the number of rows that were kept."""
        rows = Rows(batch, self._memory.spots(batch.ids))
        now_s = self._clock.monotonic_s()
        self._hub.update_rows(rows)
        if self.watcher is not None:
            self.watcher.rows(rows, now_s)
        return self._keep(self._gate.put_rows(rows, now_s))

    def show(self, batch: Batch) -> None:
        """Rows that stand in the store already, such as clients post: nothing is thinned out, and nothing kept."""
        rows = rows_of(batch)
        self._hub.update_rows(rows)
        if self.watcher is not None:
            self.watcher.rows(rows, self._clock.monotonic_s())
        self._hub.publish(batch)

    def touch(self, ids: Column) -> int:
        """Signals that were read again unchanged. Gives the number of rows that were kept."""
        spots = self._memory.spots(ids)
        now_s = self._clock.monotonic_s()
        self._hub.touch_spots(spots)
        if self.watcher is not None:
            self.watcher.touched(spots, now_s)
        return self._keep(self._gate.touch_spots(spots, now_s, self._clock.now_us()))

    def forget(self, ids: Iterable[int]) -> int:
        """Signals that are unknown from now on. Those that were so already give no row again."""
        numbers = array("i", ids)
        now_us = self._clock.now_us()
        times_us = array("q", [now_us]) * len(numbers)
        return self.put(Batch(numbers, times_us, array("q", [0]) * len(numbers), valid=False))

    def tick(self) -> None:
        """Once a second: repeat what is due, give up what nobody hears any more."""
        now_s = self._clock.monotonic_s()
        self._keep(self._gate.due(now_s, self._clock.now_us()))
        expired = self._hub.expire(now_s)
        if len(expired):
            self.forget(expired.tolist())

    def _keep(self, kept: list[Batch]) -> int:
        rows = 0
        for batch in kept:
            self._hub.publish(batch)
            self._append(batch)
            rows += len(batch)
        return rows
