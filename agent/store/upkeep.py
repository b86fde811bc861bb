"""Upkeep: sealing, roll-ups and retention, in passes of small steps that the writer's thread does between commits.

Beside them it copies the write-ahead log into the file, before SQLite would do so inside a commit, so that both can be
told apart in what they write (``wear.py``).
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from operator import itemgetter
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Encoding
from agent.store import correcting, dropped, growth, older, retention, sealing
from agent.store.growth import Grown
from agent.store.settings import DAY_S, StoreSettings
from agent.store.transaction import transaction
from agent.store.wear import Meter

#: The wall clock has run straight when it has moved with the monotonic one to within this.
_STRAIGHT_S = 60.0
#: A step of more than this may be a mistake: so long somebody may put it right before anything is dropped for its age.
_FAR_S, _FAR_WAIT_S = 2 * DAY_S, 7 * DAY_S
_NEVER = float("inf")
_HOUR_S = 3600.0
#: Above the quota, a pass comes for each such part of it that the file grew by.
_GROWN = 50
#: A commit's last page is written again by the next: what was written is more than what the log holds.
_LOG_FACTOR = 1.25


class Upkeeper:
    """Decides when a pass is due and does it. ``encodings`` tells the newest catalogue's."""

    def __init__(
        self,
        clock: Clock,
        settings: StoreSettings,
        boot: int,
        seq: int,
        encodings: Callable[[], Mapping[int, Encoding]],
        path: Path,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._boot = boot
        self._encodings = encodings
        self._path = path
        self._lock = threading.Lock()
        self._asked: list[Future[None]] = []
        self._serving: list[Future[None]] = []
        self._steps: Iterator[int] | None = None
        # What earlier processes left is sealed first; this one's own blocks wait until they are worth it.
        self._upto_seq: int | None = seq
        now_s = clock.monotonic_s()
        self._due_s = now_s
        self._rows = 0
        self._bytes = self._left_bytes = 0
        self._is_long = self._copy_again = False  #: what was given back waits in the log
        self._retained_s = now_s
        self._wall_offset_s = self._offset_s()
        self._straight_since_s = now_s
        self._far = False
        self._trusted = clock.trusted()
        self._grown_s: float | None = None
        self._tell_s: dict[str, float] = {}
        self._log_bytes = round(settings.wal_pages * settings.page_bytes * _LOG_FACTOR)
        self._meter = Meter()
        self.dropped_rows = 0
        self.grown = Grown()  #: what has grown, as of the last hour

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
        if self._steps is not None or self._asked or self._rows >= self._settings.seal_rows or self._log_is_long():
            return float("-inf")
        return float("-inf") if self.pressing() else self._due_s

    def pressing(self) -> bool:
        """Whether the file is above its quota. What a pass could not free calls for no other until it grew again."""
        quota = self._settings.max_bytes
        return self._bytes > quota and (self._steps is not None or self._bytes > self._left_bytes + quota // _GROWN)

    def stored(self, rows: int, bytes_: int) -> None:
        """So many rows were just committed, and so large is the file."""
        self._rows += rows
        self._bytes = bytes_
        self._copy_again = self._is_long

    def wrote(self, component: str) -> None:
        """The writer's thread did that (one of ``wear.COMPONENTS``)."""
        self._meter.note(component)

    @property
    def written(self) -> Mapping[str, int]:
        """Bytes written since the start, by component."""
        return dict(self._meter.sums)

    def step(self, connection: sqlite3.Connection) -> bool:
        """The next step of the pass, or the first of a new one; or the log's."""
        if self._log_is_long():
            self._copy_log(connection)
            return True
        try:
            return self._step(connection)
        finally:
            self._meter.note("upkeep")

    def _step(self, connection: sqlite3.Connection) -> bool:
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

    def _copy_log(self, connection: sqlite3.Connection) -> None:
        # If it fails or a reader is in the way, it is tried when as much came again; after the next commit if the file
        # is longer than it must be.
        self._meter.log_bytes = 0
        self._copy_again = False
        _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._is_long &= copied < pages
        self._meter.note("checkpoint")

    def save(self, connection: sqlite3.Connection) -> None:
        """At the end, when nobody else writes: keep what was counted. Raises ``sqlite3.Error``."""
        self._meter.save(connection, self._clock.now_us())

    def end(self, reason: StoreError) -> None:
        """There will be no more steps."""
        self._meter.close()
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
        marked: list[tuple[int, correcting.Marked | sealing.Group]] = [
            (one.seq, one) for one in correcting.due(connection)
        ]
        hot = sealing.groups(connection, upto_seq, settings.seal_rows)
        # In the order of the numbers, whichever table they are in: the row that came last is the last of its bucket.
        for _, one in sorted([*marked, *((group.first_seq, group) for group in hot)], key=itemgetter(0)):
            if isinstance(one, correcting.Marked):
                correcting.put_right(connection, one, self._encodings(), self._boot, self._clock.now_us())
            else:
                sealing.work_on(connection, one, self._encodings(), self._boot, self._clock.now_us())
            yield 0
        if self._age_is_due():
            yield from retention.by_age(connection, settings, self._clock.now_us())
            older.expire(self._path, self._clock)
            self._retained_s = self._clock.monotonic_s()
        yield from self._keep_quota(connection)
        yield from self._tell(connection)
        yield from self._count(connection)

    def _keep_quota(self, connection: sqlite3.Connection) -> Iterator[int]:
        before = retention.file_bytes(connection)
        yield from retention.by_size(connection, self._settings, self._boot, self._clock.now_us())
        self._bytes = retention.file_bytes(connection)
        # What came since this pass sealed is the next one's to free.
        self._left_bytes = self._bytes - sealing.unrolled_bytes(connection)
        if self._bytes < before:
            yield 0
            self._is_long = True
            self._copy_log(connection)  # only then the file itself is shorter

    def _tell(self, connection: sqlite3.Connection) -> Iterator[int]:
        """Tell the ledger what went: losses an hour apart, what nobody misses a day."""
        now_s = self._clock.monotonic_s()
        due = {one for one in dropped.untold(connection) if now_s >= self._tell_s.get(one, float("-inf"))}
        if due:
            with transaction(connection):
                dropped.tell(connection, self._boot, self._clock.now_us(), due)
            self._tell_s |= {one: now_s + (_HOUR_S if one in dropped.LOSSES else DAY_S) for one in due}
            self.grown = growth.look(connection, self._clock.now_us())
            yield 0

    def _count(self, connection: sqlite3.Connection) -> Iterator[int]:
        """Once an hour; at the start only what earlier processes left is looked at."""
        now_s = self._clock.monotonic_s()
        if self._grown_s is None:
            # A little later than by itself: the log is copied by ``step``, or by a commit where nothing is measured.
            connection.execute(f"PRAGMA wal_autocheckpoint = {2 * self._settings.wal_pages}").fetchall()
        elif now_s - self._grown_s < _HOUR_S:
            return
        else:
            self._meter.save(connection, self._clock.now_us())
            yield 0
            yield from growth.bound(connection)
        self._grown_s = now_s
        self.grown = growth.look(connection, self._clock.now_us())

    def _log_is_long(self) -> bool:
        return self._meter.log_bytes >= self._log_bytes or self._copy_again

    def _age_is_due(self) -> bool:
        """Ages are believed only after the wall clock has run straight for a while: a jump must not purge the store."""
        now_s = self._clock.monotonic_s()
        offset_s = self._offset_s()
        step_s = abs(offset_s - self._wall_offset_s)
        if step_s > _STRAIGHT_S or not self._clock.trusted():
            self._wall_offset_s = offset_s
            self._straight_since_s = now_s
            # What was not believed before is no step: then it was set.
            self._far = step_s > _FAR_S and self._trusted
        self._trusted = self._clock.trusted()
        wait_s = _FAR_WAIT_S if self._far else self._settings.retain_s
        return now_s - self._straight_since_s >= wait_s and now_s - self._retained_s >= self._settings.retain_s

    def _offset_s(self) -> float:
        return self._clock.now_us() / 1e6 - self._clock.monotonic_s()
