"""The newest value of each signal, and the fan-out of batches to whoever watches.

Rules of this file:

1. The hub is the only owner of "what is known now". It sees every row, also those that the gate does not keep: the
   newest value of a signal with a deadband is the newest one, not the last stored one.
2. Missing is never 0: a signal that was never heard, became unknown, or carries NaN has no value.
3. A subscriber has a bounded queue. One that is slow loses its own oldest batches, which are counted; it never delays
   the wires or the other subscribers.
4. Ages are monotonic. Only the event loop's thread comes here.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from typing import Self

import numpy as np

from agent.core.clock import Clock
from agent.core.model import Batch, Column, Signal
from agent.core.ports import Latest
from agent.pipeline.columns import Ids, Ints, Rows, Spots, rows_of, spots_of

#: Batches that a subscriber may fall behind. One poll or some milliseconds of a bus each.
QUEUE_BATCHES = 256


class Subscription:
    """A bounded queue of batches for one watcher. Close it when it is no longer read, or use it in a ``with``."""

    def __init__(self, hub: "Hub", limit: int) -> None:
        self._hub = hub
        self._queue: deque[Batch] = deque(maxlen=limit)
        self._ready = asyncio.Event()
        self.dropped = 0  #: batches lost because this watcher was too slow
        self.closed = False

    def offer(self, batch: Batch) -> None:
        """A batch from the hub."""
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(batch)
        self._ready.set()

    async def wait(self) -> None:
        """Until there is a batch, or the subscription is closed."""
        await self._ready.wait()

    def take(self) -> list[Batch]:
        """All batches that arrived since the last call, oldest first."""
        taken = list(self._queue)
        self._queue.clear()
        if not self.closed:
            self._ready.clear()
        return taken

    def close(self) -> None:
        """No more batches; who waits is woken. Safe to call again."""
        self.closed = True
        self._ready.set()
        self._hub.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Hub:
    """Latest values by signal id; ``LatestView`` of the ports."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._word = np.zeros(0, dtype=np.int64)
        self._time_us = np.zeros(0, dtype=np.int64)
        self._heard_s = np.zeros(0)
        self._valid = np.zeros(0, dtype=np.bool_)
        self._stale_after_s = np.zeros(0)
        self._subscriptions: list[Subscription] = []
        self._dropped = 0
        self._grow(255)

    def stale_after(self, signal: Signal, seconds: float) -> None:
        """Hold a signal for unknown when it was not heard for so long. The default is never: drivers say so themselves.

        A backstop for sources that can't notice their own silence.
        """
        self._reach(signal.id)
        self._stale_after_s[signal.id] = seconds

    def update(self, batch: Batch) -> None:
        """Remember the newest row of each signal. Of several rows of one signal the last one stays."""
        self.update_rows(rows_of(batch))

    def update_rows(self, rows: Rows) -> None:
        """``update`` with a batch whose columns were converted already."""
        ids, valid = rows.places, rows.batch.valid
        self._reach(rows.highest)
        self._time_us[ids] = rows.times_us
        self._valid[ids] = valid
        if valid:
            self._word[ids] = rows.words
            self._heard_s[ids] = self._clock.monotonic_s()

    def touch(self, column: Column) -> None:
        """These signals were read again unchanged: their values are as young as now, and known again."""
        self.touch_spots(spots_of(column))

    def touch_spots(self, spots: Spots) -> None:
        """``touch`` of a column whose places were looked up already."""
        ids = spots.places
        self._reach(spots.highest)
        if np.count_nonzero(self._valid[ids]) < len(ids):
            # A touch repeats a word; of a signal that never had one it says nothing.
            ids = ids[self._heard_s[ids] > -np.inf]
            self._valid[ids] = True
        self._heard_s[ids] = self._clock.monotonic_s()

    def expire(self, now_s: float) -> Ids:
        """The signals that became unknown just now because nobody heard them for too long, as int32[n]."""
        late = self._valid & (now_s - self._heard_s > self._stale_after_s)
        ids = np.flatnonzero(late).astype(np.int32)
        self._valid[ids] = False
        return ids

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        """One entry for each of the signals, in their order: physical value, time of its row, age since last heard."""
        wanted = list(signals)
        now_s = self._clock.monotonic_s()
        ids = np.array([signal.id for signal in wanted], dtype=np.int64)
        self._reach(int(ids.max(initial=0)))
        rows = zip(
            wanted,
            self._word[ids].tolist(),
            self._time_us[ids].tolist(),
            self._heard_s[ids].tolist(),
            self._valid[ids].tolist(),
            strict=True,
        )
        result = []
        for signal, word, t_us, heard_s, valid in rows:
            value = signal.physical(word) if valid else None
            if value is not None and not math.isfinite(value):
                value = None
            heard = heard_s > -math.inf
            result.append(Latest(signal, value, t_us or None, max(0.0, now_s - heard_s) if heard else None))
        return result

    def subscribe(self, limit: int = QUEUE_BATCHES) -> Subscription:
        """Batches that are published from now on."""
        subscription = Subscription(self, limit)
        self._subscriptions.append(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Called by ``Subscription.close``."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            self._dropped += subscription.dropped

    def publish(self, batch: Batch) -> None:
        """Hand a batch to every subscriber."""
        for subscription in self._subscriptions:
            subscription.offer(batch)

    def close(self) -> None:
        """End all subscriptions, so that their readers leave."""
        for subscription in list(self._subscriptions):
            subscription.close()

    def counters(self) -> dict[str, int]:
        """``subscribers`` now, and ``dropped_batches`` of slow subscribers since the start."""
        dropped = self._dropped + sum(subscription.dropped for subscription in self._subscriptions)
        return {"subscribers": len(self._subscriptions), "dropped_batches": dropped}

    def _reach(self, number: int) -> None:
        if number >= len(self._word):
            self._grow(number)

    def _grow(self, number: int) -> None:
        more = max(number + 1, 2 * len(self._word)) - len(self._word)
        empty: Ints = np.zeros(more, dtype=np.int64)
        self._word = np.r_[self._word, empty]
        self._time_us = np.r_[self._time_us, empty]
        self._heard_s = np.r_[self._heard_s, np.full(more, -np.inf)]
        self._valid = np.r_[self._valid, np.zeros(more, dtype=np.bool_)]
        self._stale_after_s = np.r_[self._stale_after_s, np.full(more, np.inf)]
