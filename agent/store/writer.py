"""The one writer thread: group commit, retries while the disk is full or fails, and the upkeep in between.

Rules of this file:

1. Only this thread writes. Others hand it batches (``append``) and jobs (``submit``) and return at once.
2. Telemetry waits for the group commit. A job may ask for a commit at once; it takes waiting rows along only if asked.
   Jobs of ``Pace.NOW`` and ``Pace.GROUP`` are committed in the order in which they came, never past one another.
3. A job runs inside the transaction and may run again after a failed one: it changes nothing but the database, and
   returns what is to be done once the COMMIT stands (publish memory, resolve futures).
4. Nothing is given up because a commit failed: rows and jobs go back in front of the queue and are tried again, with
   a back-off. Both are bounded, and what the bound costs is counted and recorded.
5. On a full disk the ballast is given up and only jobs are committed: telemetry, and what waits for it, stays in memory
   until there is room for the ballast again.
6. Who is told when his job fails is told at once while the back-off lasts: a stop must not wait for it several times.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Batch, Event
from agent.store import ledger, retention, telemetry
from agent.store.ballast import Ballast
from agent.store.boots import SET, UNSET, Correction
from agent.store.jobs import Done, Job, Pace, Publish, Upkeep
from agent.store.pending import Drop, Pending
from agent.store.settings import StoreSettings
from agent.store.transaction import record_drops, roll_back, transaction

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: Longest time that the thread sleeps when it has nothing to do: clocks may be stopped (suspend) or fake.
_IDLE_S = 60.0
_RETRY_S = 0.5
#: A statement that is interrupted ends within ms, but for one that waits for the disk itself.
_INTERRUPTED_S = 2.0
#: So long a driver may hold what it has stamped.
_LATE_S = 60.0
#: How often it is looked after whether the ballast is there; somebody may have deleted it.
_BALLAST_S = 600.0
FULL_HINT = "free some space or look at the disk"
#: What SQLite and its binding raise about a statement's values, such as whole numbers beyond 64 bits.
_CONTENT_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    LookupError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.IntegrityError,
)


@dataclass(frozen=True, slots=True)
class _Group:
    jobs: list[Job]
    batches: list[Batch]
    drops: list[Drop]


class _BadJobError(Exception):
    """A job whose content the database does not take, whatever the disk does; the others must not wait for it."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job


def _run(job: Job, connection: sqlite3.Connection) -> Done:
    try:
        return job.run(connection)
    except _CONTENT_ERRORS as error:
        raise _BadJobError(job) from error


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_FULL


class Writer:
    """Owns the writing connection and its thread. ``boot`` is this boot's row id, ``seq`` the newest block's number."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        settings: StoreSettings,
        upkeep: Upkeep,
        boot: int,
        seq: int,
        ballast: Ballast,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._settings = settings
        self._upkeep = upkeep
        self._boot = boot
        self._changed = threading.Condition()
        self._pending = Pending(settings.pending_rows)
        self._jobs: deque[Job] = deque()
        self._closing = False
        self._closed = False
        self._in_flight_rows = 0
        self._in_flight_jobs: list[Job] = []
        self._failures = 0
        self._retry_at_s = float("-inf")
        self._group_at_s = float("-inf")
        self._upkeep_at_s = float("-inf")
        self._lazy_at_s = float("-inf")
        self._ballast = ballast
        self._room_at_s = float("-inf")
        self._mark = SET if clock.trusted() else UNSET
        self._late: Correction | None = None
        self._late_until_s = float("inf")
        self._callbacks: list[Callable[[], None]] = []
        self._round_s = clock.monotonic_s()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self.newest_seq = seq
        self.stored_rows = 0
        self.malformed_rows = 0
        self.commits = 0
        self.last_commit_s: float | None = None
        self.error: str | None = None  #: why nothing can be committed now
        self._no_room = False
        self.upkeep_error: str | None = None  #: why blocks can't be sealed or dropped now

    def start(self) -> None:
        """Start the thread."""
        if self._ballast.spent:
            self.error = "the disk was full at the start"
            _log.warning("can't store: %s; rows wait in memory", self.error)
            self._tell_full()
        self._thread.start()

    @property
    def pending_rows(self) -> int:
        """Rows that wait for their commit."""
        with self._changed:  # they go from one to the other under it
            return self._pending.rows + self._in_flight_rows

    @property
    def full(self) -> bool:
        """Whether a full disk is why something can't be done now."""
        return self._ballast.spent or (self._no_room and bool(self.error or self.upkeep_error))

    @property
    def dropped_rows(self) -> int:
        """Rows that were given up before they were stored."""
        return self._pending.dropped_rows + self.malformed_rows

    def append(self, batch: Batch) -> None:
        """Queue a batch for the next group commit. Never blocks on the disk, never raises."""
        with self._changed:
            if self._closing:
                return
            if self._late is not None:
                batch = self._in_time(self._late, batch)
            idle = not self._pending.rows
            self._pending.add(batch)
            if idle or self._pending.rows >= self._settings.block_rows:
                self._changed.notify()

    def submit(
        self,
        run: Callable[[sqlite3.Connection], tuple[T, Publish | None]],
        *,
        pace: Pace = Pace.NOW,
        rows: bool = False,
        records: bool = False,
        keep: bool = True,
    ) -> Future[T]:
        """Queue a job. ``run`` gives the future's result and what to do before it is resolved (rule 3)."""
        return self.submit_rows(
            lambda connection: (*run(connection), None), pace=pace, rows=rows, records=records, keep=keep
        )

    def submit_rows(
        self,
        run: Callable[[sqlite3.Connection], tuple[T, Publish | None, Batch | None]],
        *,
        pace: Pace = Pace.NOW,
        rows: bool = False,
        records: bool = True,
        keep: bool = False,
    ) -> Future[T]:
        """``submit`` of a job that also gives well-formed rows of telemetry: they are stored in its own transaction."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on nobody can cancel it: the commit decides

        def execute(connection: sqlite3.Connection) -> Done:
            result, publish, batch = run(connection)

            def done() -> None:
                if publish is not None:
                    publish()
                future.set_result(result)

            return done, batch

        job = Job(execute, future.set_exception, pace, rows, records, keep)
        with self._changed:
            refusal = self._refusal(keep=keep)
            if refusal is None:
                self._jobs.append(job)
                self._changed.notify()
        if refusal is not None:
            job.fail(refusal)
        return future

    def clock_set(self, correction: Correction, let_go: Callable[[], None]) -> None:
        """The clock is good from now on. Call it from this thread, when the commit stands that says so.

        What waits, or is still to come from a driver's hands, was stamped before and is put right.
        """
        with self._changed:
            let_go()
            self._mark, self._late = SET, correction
            self._late_until_s = self._clock.monotonic_s() + _LATE_S
            now_us = self._clock.now_us()
            self._pending.put_back([correction.late(batch, now_us) for batch in self._pending.take()])

    def _in_time(self, late: Correction, batch: Batch) -> Batch:
        """A batch that comes shortly after the clock was set; later ones bear those times for another reason."""
        if self._clock.monotonic_s() > self._late_until_s:
            self._late = None
            return batch
        return late.late(batch, self._clock.now_us())

    def wake(self) -> None:
        """Let the thread look at once whether upkeep is due."""
        with self._changed:
            self._changed.notify()

    def idle_s(self) -> float:
        """Seconds since the thread last went round. It is woken: one that is well has gone round by the next call."""
        self.wake()
        return self._clock.monotonic_s() - self._round_s

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call back after each commit of records, from this thread."""
        self._callbacks.append(callback)

    def close(self, timeout_s: float) -> bool:
        """Commit what waits and end the thread; whether it did end, and nobody uses the connection any more.

        What can't be stored in that time is lost, and its futures say so.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._connection.interrupt()
            self._thread.join(_INTERRUPTED_S)
        if self._thread.is_alive():
            _log.error("the disk does not answer: the store is left as it is")
        return not self._thread.is_alive()

    def _refusal(self, *, keep: bool) -> StoreError | None:
        if self._closing or self._closed:
            return StoreError("store", "it is closed")
        if not keep and self.error is not None and self._clock.monotonic_s() < self._retry_at_s:
            return StoreError("store", self.error, FULL_HINT)
        if len(self._jobs) >= self._settings.waiting_jobs:
            return StoreError("store", f"{len(self._jobs)} records wait for the disk: {self.error}", "free some space")
        return None

    def _run(self) -> None:
        try:
            while True:
                self._round_s = self._clock.monotonic_s()
                self._look_for_room()
                with self._changed:
                    group = self._next_group()
                    if group is None and self._closing:
                        return
                if group is not None:
                    self._commit(group)
                    self._upkeep.wrote("telemetry" if group.batches else "records")
                    if self._closing and self._failures:
                        return
                    if self._upkeep.pressing():
                        self._maintain()
                elif not self._maintain():
                    with self._changed:
                        self._changed.wait(self._wait_s())
        finally:
            self._end()

    def _next_group(self) -> _Group | None:
        """What is to be committed now, if anything is; its rows count as in flight."""
        if not (self._jobs or self._pending.rows):
            return None
        now_s = self._clock.monotonic_s()
        if not self._closing and now_s < self._retry_at_s:
            return None
        group_due = self._closing or now_s >= self._group_at_s or self._pending.rows >= self._settings.block_rows
        with_rows = (group_due or any(job.rows for job in self._jobs)) and not self._narrow
        if not with_rows and not self._waits(Pace.NOW):
            return None
        jobs = self._take_jobs(now_s)
        if not with_rows:
            return _Group(jobs, [], [])
        if not (jobs or self._pending.rows):
            return None
        self._in_flight_rows = self._pending.rows
        return _Group(jobs, self._pending.take(), self._pending.take_drops())

    def _take_jobs(self, now_s: float) -> list[Job]:
        """The jobs whose turn it is: all but the lazy ones, and those some seconds apart."""
        jobs = [job for job in self._jobs if not (job.rows and self._narrow)]
        rest = [job for job in self._jobs if job.rows and self._narrow]
        self._jobs.clear()
        self._jobs.extend(rest)
        if self._closing or now_s >= self._lazy_at_s or any(job.rows for job in jobs):
            if any(job.pace is Pace.LAZY for job in jobs):
                self._lazy_at_s = now_s + self._settings.ack_s
            return jobs
        self._jobs.extend(job for job in jobs if job.pace is Pace.LAZY)
        return [job for job in jobs if job.pace is not Pace.LAZY]

    def _waits(self, *paces: Pace) -> bool:
        """Whether a job of one of these paces waits. Called with the lock held."""
        return any(job.pace in paces and not (job.rows and self._narrow) for job in self._jobs)

    def _wait_s(self) -> float:
        """How long to sleep unless something new comes. Called with the lock held."""
        now_s = self._clock.monotonic_s()
        wake_s = max(self._upkeep.due_s(), self._upkeep_at_s)
        if not self._failures and self._waits(Pace.NOW):
            return 0.0
        if self._narrow:
            wake_s = self._room_at_s
        elif self._pending.rows or self._waits(Pace.NOW, Pace.GROUP):
            wake_s = min(wake_s, max(self._group_at_s, self._retry_at_s))
        elif self._jobs:
            wake_s = min(wake_s, max(self._group_at_s, self._lazy_at_s, self._retry_at_s))
        wake_s = max(wake_s, self._retry_at_s)
        return min(max(wake_s - now_s, 0.0), _IDLE_S) if wake_s > now_s else 0.0

    def _commit(self, group: _Group) -> None:
        self._in_flight_jobs = group.jobs
        batches: list[Batch] = []
        malformed: list[Batch] = []
        for batch in group.batches:
            (batches if telemetry.well_formed(batch) else malformed).append(batch)
        drops = group.drops + self._malformed(malformed)
        packed = telemetry.pack_batches(batches, self._settings.block_rows) if batches else []
        try:
            done, seq, stored, bytes_ = self._transaction(group.jobs, packed, drops)
        except _BadJobError as bad:
            bad.job.fail(StoreError("store", f"can't be stored: {bad.__cause__}"))
            self._commit(_Group([job for job in group.jobs if job is not bad.job], batches, drops))
            return
        except sqlite3.Error as error:
            self._in_flight_jobs = []
            self._failed(error, _Group(group.jobs, batches, drops))
            return
        self._in_flight_jobs = []
        now_s = self._clock.monotonic_s()
        self.newest_seq = seq
        self.stored_rows += stored
        self._upkeep.stored(stored, bytes_)
        self.commits += 1
        self.last_commit_s = now_s
        self._in_flight_rows = 0
        if packed or not any(job.pace is Pace.NOW for job in group.jobs):
            self._group_at_s = now_s + self._settings.commit_s
        self._works()
        for publish in done:
            publish()
        if packed or drops or any(job.records for job in group.jobs):
            for callback in tuple(self._callbacks):
                with suppress(RuntimeError):  # the event loop that it would wake has been closed
                    callback()

    def _transaction(
        self, jobs: list[Job], packed: Sequence[telemetry.Packed], drops: list[Drop]
    ) -> tuple[list[Publish], int, int, int]:
        """What is to be done now, the newest block's number, how many rows were stored, and how large the file is."""
        connection = self._connection
        seq = self.newest_seq
        with transaction(connection):
            done = [_run(job, connection) for job in jobs]
            batches = [batch for _, batch in done if batch is not None and len(batch)]
            blocks = [*packed, *(telemetry.pack_batches(batches, self._settings.block_rows) if batches else ())]
            for place, block in enumerate(blocks):
                seq += 1
                # What a job brings was posted: it bears its client's times, whatever the clock here says.
                mark = self._mark if place < len(packed) else SET
                telemetry.insert_hot(connection, seq, self._boot, block, mark)
            if drops:
                record_drops(connection, self._boot, self._clock.now_us(), drops)
            bytes_ = retention.file_bytes(connection)
        return [publish for publish, _ in done], seq, sum(block.rows for block in blocks), bytes_

    def _malformed(self, batches: list[Batch]) -> list[Drop]:
        rows = sum(len(batch.ids) for batch in batches)
        if not rows:
            return []
        self.malformed_rows += rows
        now_us = self._clock.now_us()
        return [Drop(None, now_us, now_us, rows, "malformed")]

    def _failed(self, error: sqlite3.Error, group: _Group) -> None:
        with self._changed:
            kept = [job for job in group.jobs if job.keep]
            self._jobs.extendleft(reversed(kept))
            self._pending.put_back(group.batches)
            self._pending.put_back_drops(group.drops)
            self._in_flight_rows = 0
        self._begin_trouble(error)
        self._give_ballast_up(error)
        for job in group.jobs:
            if not job.keep:
                job.fail(StoreError("store", str(error), FULL_HINT))

    def _begin_trouble(self, error: sqlite3.Error) -> None:
        self._failures += 1
        pause_s = min(_RETRY_S * 2 ** min(self._failures, 10), self._settings.retry_max_s)
        self._retry_at_s = self._clock.monotonic_s() + pause_s
        if self.error is None:
            _log.warning("can't store: %s; rows wait in memory", error)
        self._no_room = _is_full(error)  # before the error, which others read at any moment
        self.error = str(error)

    @property
    def _narrow(self) -> bool:
        """Whether only jobs are committed now (rule 5); who closes the store tries all."""
        return self._ballast.spent and not self._closing

    def _give_ballast_up(self, error: sqlite3.Error) -> None:
        if not self._ballast.give_up(error):
            return
        self._retry_at_s = float("-inf")
        self._room_at_s = self._clock.monotonic_s() + self._settings.retry_max_s
        self._tell_full()

    def _tell_full(self) -> None:
        self._tell(Event("store.full", self._clock.now_us(), "store", {"waiting_rows": self._pending.rows}))

    def _look_for_room(self) -> None:
        """Make the ballast, or make it again: then telemetry is stored again."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._room_at_s:
            there = self._ballast.make()
            self._room_at_s = now_s + (_BALLAST_S if there else self._settings.retry_max_s)

    def _tell(self, event: Event) -> None:
        data = ledger.to_json(event.data)
        self.submit(lambda connection: (ledger.insert(connection, self._boot, event, data), None), records=True)

    def _works(self) -> None:
        self._failures = 0
        self._retry_at_s = float("-inf")
        if self.error is None or self._narrow:
            return
        _log.info("storing again, after: %s", self.error)
        event = Event("store.recovered", self._clock.now_us(), "store", {"error": self.error})
        self.error = None
        self._tell(event)

    def _maintain(self) -> bool:
        """One step of upkeep, if one is due and the disk works; false when there is nothing to do now."""
        now_s = self._clock.monotonic_s()
        if self._narrow or now_s < max(self._retry_at_s, self._upkeep_at_s, self._upkeep.due_s()):
            return False
        try:
            changed = self._upkeep.step(self._connection)
        except sqlite3.Error as error:
            # Commits may still work (a page that can't be read, say), so this has its own pause and its own edges.
            roll_back(self._connection)
            self._upkeep_at_s = now_s + self._settings.retry_max_s
            if self.upkeep_error is None:
                _log.warning("can't tidy the store: %s", error)
            self._no_room = _is_full(error)
            self.upkeep_error = str(error)
            return True
        if changed:
            self.commits += 1
        elif self.upkeep_error is not None:
            _log.info("the store is tidy again, after: %s", self.upkeep_error)
            self.upkeep_error = None
        return True

    def _end(self) -> None:
        """Whatever ended the thread: nobody waits for it for ever."""
        with self._changed:
            self._closing = self._closed = True
            jobs = [*self._in_flight_jobs, *self._jobs]
            self._jobs.clear()
        reason = StoreError("store", self.error or "it was closed before this could be stored")
        self.error = self.error or "the store is closed"
        for job in jobs:
            job.fail(reason)
        self._upkeep.end(reason)
        if self.pending_rows:
            _log.warning("closed with %d rows that could not be stored: %s", self.pending_rows, reason)
