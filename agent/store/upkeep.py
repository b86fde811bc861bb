"""Upkeep: sealing, roll-ups and retention, in passes of small steps that the writer's thread does between commits."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Encoding
from agent.store import retention, sealing
from agent.store.settings import StoreSettings

#: The wall clock has run straight when it has moved with the monotonic one to within this.
_STRAIGHT_S = 60.0
_NEVER = float("inf")


class Upkeeper:
    """Decides when a pass is due and does it. ``encodings`` tells the newest catalogue's."""

    def __init__(
        self,
        clock: Clock,
        settings: StoreSettings,
        boot: int,
        seq: int,
        encodings: Callable[[], Mapping[int, Encoding]],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._boot = boot
        self._encodings = encodings
        self._lock = threading.Lock()
        self._asked: list[Future[None]] = []
        self._serving: list[Future[None]] = []
        self._steps: Iterator[int] | None = None
        # What earlier processes left is sealed first; this one's own blocks wait until they are worth it.
        self._upto_seq: int | None = seq
        now_s = clock.monotonic_s()
        self._due_s = now_s
        self._rows = 0
        self._retained_s = now_s
        self._wall_offset_s = self._offset_s()
        self._straight_since_s = now_s
        self.dropped_rows = 0

    def ask(self) -> Future[None]:
        """Ask for a whole pass at once; the future is done after it."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            closed = self._due_s == _NEVER
            if not closed:
                self._asked.append(future)
        if closed:
            future.set_exception(StoreError("store", "it is closed"))
        return future

    def due_s(self) -> float:
        """The monotonic time of the next step."""
        if self._steps is not None or self._asked or self._rows >= self._settings.seal_rows:
            return float("-inf")
        return self._due_s

    def stored(self, rows: int) -> None:
        """So many rows were just committed."""
        self._rows += rows

    def step(self, connection: sqlite3.Connection) -> bool:
        """The next step of the pass, or the first of a new one."""
        if self._steps is None:
            with self._lock:
                self._serving += self._asked
                self._asked = []
            self._steps = self._pass(connection)
        try:
            self.dropped_rows += next(self._steps)
        except StopIteration:
            self._finish()
            return False
        except sqlite3.Error:
            self._steps = None  # the next try begins anew, when the writer allows: what was done is done
            self._due_s = self._clock.monotonic_s()
            raise
        return True

    def end(self, reason: StoreError) -> None:
        """There will be no more steps."""
        with self._lock:
            self._due_s = _NEVER
            waiting = self._serving + self._asked
            self._serving, self._asked = [], []
        for future in waiting:
            future.set_exception(reason)

    def _finish(self) -> None:
        self._steps = None
        self._upto_seq = None
        self._due_s = self._clock.monotonic_s() + self._settings.seal_s
        with self._lock:
            served, self._serving = self._serving, []
        for future in served:
            future.set_result(None)

    def _pass(self, connection: sqlite3.Connection) -> Iterator[int]:
        """Each step gives the raw rows that it dropped."""
        settings = self._settings
        upto_seq = 2**62 if self._upto_seq is None or self._serving else self._upto_seq
        self._rows = 0
        for group in sealing.groups(connection, upto_seq, settings.seal_rows):
            sealing.work_on(connection, group, self._encodings(), self._boot, self._clock.now_us())
            yield 0
        if self._age_is_due():
            yield from retention.by_age(connection, settings, self._boot, self._clock.now_us())
            self._retained_s = self._clock.monotonic_s()
        yield from retention.by_size(connection, settings, self._boot, self._clock.now_us())

    def _age_is_due(self) -> bool:
        """Ages are believed only after the wall clock has run straight for a while: a jump must not purge the store."""
        now_s = self._clock.monotonic_s()
        offset_s = self._offset_s()
        if abs(offset_s - self._wall_offset_s) > _STRAIGHT_S:
            self._wall_offset_s = offset_s
            self._straight_since_s = now_s
        wait_s = self._settings.retain_s
        return now_s - self._straight_since_s >= wait_s and now_s - self._retained_s >= wait_s

    def _offset_s(self) -> float:
        return self._clock.now_us() / 1e6 - self._clock.monotonic_s()
