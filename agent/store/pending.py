"""What waits for the next commit: bounded, and what the bound cost is counted. Not thread-safe: its owner locks."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from agent.core.model import Batch


@dataclass(frozen=True, slots=True)
class Drop:
    """Rows of one signal (None: of all) that were given up, and the numbers that they had (None: none yet)."""

    signal: int | None
    from_us: int
    to_us: int
    count: int
    reason: str
    from_seq: int | None = None
    to_seq: int | None = None


class Pending:
    """Batches in order of arrival, at most ``limit_rows`` rows of them; above that the oldest batches go."""

    def __init__(self, limit_rows: int) -> None:
        self._limit_rows = limit_rows
        self._batches: deque[Batch] = deque()
        self._drops: dict[int, Drop] = {}
        self.rows = 0
        self.dropped_rows = 0

    def add(self, batch: Batch) -> None:
        """Put a batch behind the others."""
        if len(batch):
            self._batches.append(batch)
            self.rows += len(batch)
            self._keep_limit()

    def take(self) -> list[Batch]:
        """All that waits, oldest first."""
        batches = list(self._batches)
        self._batches.clear()
        self.rows = 0
        return batches

    def put_back(self, batches: list[Batch]) -> None:
        """Batches that could not be stored go in front of those that came since."""
        self._batches.extendleft(reversed(batches))
        self.rows += sum(map(len, batches))
        self._keep_limit()

    def take_drops(self) -> list[Drop]:
        """What was dropped since the last call, one entry per signal."""
        drops = list(self._drops.values())
        self._drops.clear()
        return drops

    def put_back_drops(self, drops: list[Drop]) -> None:
        """Entries that could not be stored either."""
        for drop in drops:
            self._count(drop)

    def _keep_limit(self) -> None:
        while self.rows > self._limit_rows and self._batches:
            batch = self._batches.popleft()
            self.rows -= len(batch)
            self.dropped_rows += len(batch)
            for drop in drops_of(batch, "pending_full"):
                self._count(drop)

    def _count(self, drop: Drop) -> None:
        signal = drop.signal or 0
        known = self._drops.get(signal)
        if known is not None:
            drop = Drop(
                drop.signal,
                min(known.from_us, drop.from_us),
                max(known.to_us, drop.to_us),
                known.count + drop.count,
                drop.reason,
            )
        self._drops[signal] = drop


def drops_of(batch: Batch, reason: str) -> list[Drop]:
    """One entry for each signal of a batch."""
    ids = np.asarray(batch.ids)
    times = np.asarray(batch.times_us)
    order = np.argsort(ids, kind="stable")
    signals, starts, counts = np.unique(ids[order], return_index=True, return_counts=True)
    lowest = np.minimum.reduceat(times[order], starts)
    highest = np.maximum.reduceat(times[order], starts)
    columns = (signals.tolist(), lowest.tolist(), highest.tolist(), counts.tolist())
    return [Drop(*entry, reason) for entry in zip(*columns, strict=True)]
