"""The store: everything that the house remembers, in one SQLite file. This is its front; each part has its own file.

Writes come from any thread and return at once or give a future; one thread writes (``writer.py``). Reads block for some
ms, are thread-safe and use connections of their own: async callers use a thread.
"""

import asyncio
import os
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Batch, Encoding, Event, Number, Session, Signal, SignalSpec
from agent.core.ports import StoredBlock, StoredEvent
from agent.store import (
    audit_file,
    boots,
    chain,
    dropped,
    ledger,
    older,
    outbox,
    posting,
    recovery,
    sealing,
    telemetry,
    wear,
)
from agent.store import catalogue as catalogues
from agent.store.audit import Row
from agent.store.audit_file import Wanted
from agent.store.ballast import Ballast
from agent.store.dropped import Gone
from agent.store.energy import Level, Range, Rolled, RollupReader
from agent.store.history import History, Series
from agent.store.jobs import Pace
from agent.store.maintenance import MaintenanceTable
from agent.store.notes import Kinds, Notes, load_notes
from agent.store.opening import create_or_open, is_damage, open_file, put_aside
from agent.store.posting import Fate, Posting
from agent.store.readers import Readers
from agent.store.schema import NUMBERS_FROM, get_mark, set_mark
from agent.store.sessions import SessionTable, begin_numbers
from agent.store.settings import Opened, StoreSettings, StoreStats
from agent.store.tail import Tail
from agent.store.transaction import transaction
from agent.store.upkeep import Upkeeper
from agent.store.wear import Wear
from agent.store.writer import Writer

#: What a call waits for a commit that the caller can't go on without.
_ASSIGN_S = 30.0
#: The notes of the times that the clock showed twice, and how many are kept.
_TWICE, _TWICE_KEPT = "clock.twice", 50


class Store:
    """An open store; ``open`` makes one. It is ``Outbox``, ``Sessions`` and ``Notebook`` of ``agent.core.ports``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        opened: Opened,
        lock: int,
        clock: Clock,
        settings: StoreSettings,
        judge: Callable[[int], None],
        ballast: Ballast,
    ) -> None:
        self.opened = opened
        self._recovery = recovery.begin(opened.path, opened.evidence, connection, clock)
        self.boot = uuid.uuid4().hex
        self._path = opened.path
        self._clock = clock
        self._connection = connection
        self._lock = lock
        self._raw_age_s = settings.raw_age_s
        self._max_bytes = settings.max_bytes
        self._boot_id, seq, found_notes = self._begin_boot(judge)
        self._catalogue = catalogues.load(connection)
        self._encodings = _encodings(self._catalogue)
        self._newest_event = ledger.newest_seq(connection)
        self._rows_at_open: int = connection.execute(
            """SELECT (SELECT ifnull(sum(rows), 0) FROM block INDEXED BY block_time)
                + (SELECT ifnull(sum(rows), 0) FROM hot)"""
        ).fetchone()[0]
        self._upkeep = Upkeeper(clock, settings, self._boot_id, seq, lambda: self._encodings, self._path)
        self._writer = Writer(connection, clock, settings, self._upkeep, self._boot_id, seq, ballast)
        self._readers = Readers(self._path, settings.readers)
        tail = Tail(self._set_aside)
        self._history = History(self._readers, lambda: self._catalogue, self._set_aside, tail)
        self._rollups = RollupReader(self._readers, lambda: self._catalogue, tail)
        self._cursors = outbox.Cursors(
            connection, self._readers, self._writer, lambda: self._newest_event, self._set_aside
        )
        self._sessions = SessionTable(self._readers, self._writer, clock, self._boot_id, self._saw_event)
        #: What was done to machines, and how often stations were switched on.
        self.maintenance = MaintenanceTable(self._readers, self._writer, self._boot_id, self._saw_event)
        self._notes = Notes(found_notes, self._writer, self._boot_id, self._saw_event)
        self._writer.start()
        if opened.moved_to is not None:
            found: dict[str, object] = {"moved_to": str(opened.moved_to), "reason": opened.reason}
            # The new ledger says where the old one ended: it can't be replaced by a shorter one unseen.
            if (head := chain.head_of(opened.moved_to)) is not None:
                found |= {"ledger_seq": head.seq, "ledger_hash": head.hash.hex()}
            self.record(Event("store.moved_aside", clock.now_us(), "store", found))
        if self._recovery is not None:
            self._recovery.go_on(self._writer, self.record, clock)

    @classmethod
    def open(
        cls,
        path: Path,
        clock: Clock,
        settings: StoreSettings | None = None,
        judge: Callable[[int], None] = lambda _: None,
    ) -> "Store":
        """Open or make the store at ``path``. An unusable file is moved aside (``opened`` says so), never deleted.

        ``judge`` is called with the newest time that was believed before (0: none), and may let the clock go.
        Raises ``StoreError`` when the place can't be written or another process has the store.
        """
        settings = settings or StoreSettings()
        ballast = Ballast(path.with_name(path.name + ".ballast"), settings.ballast_bytes)
        try:
            return cls._open(path, clock, settings, judge, ballast)
        except StoreError as error:
            if not ballast.give_up(error.__cause__):
                raise
            return cls._open(path, clock, settings, judge, ballast)

    @classmethod
    def _open(
        cls, path: Path, clock: Clock, settings: StoreSettings, judge: Callable[[int], None], ballast: Ballast
    ) -> "Store":
        connection, opened, lock = open_file(path, clock, settings)
        try:
            try:
                return cls(connection, opened, lock, clock, settings, judge, ballast)
            except (sqlite3.DatabaseError, ValueError) as error:
                connection.close()
                if isinstance(error, sqlite3.DatabaseError) and not is_damage(error):
                    raise
                # What the check at opening did not reach in its time.
                opened = put_aside(path, ("corrupt", str(error)), clock)
                connection = create_or_open(path, settings)
                return cls(connection, opened, lock, clock, settings, judge, ballast)
        except (sqlite3.Error, OSError) as error:
            connection.close()
            os.close(lock)
            raise StoreError(f"open {path}", str(error), f"has {path.parent} room?") from error

    def close(self, timeout_s: float = 10.0) -> None:
        """Commit what waits, copy the log into the file, end the thread and all connections."""
        ended = self._writer.close(timeout_s)
        if self._recovery is not None:
            self._recovery.end()
        self._readers.close()
        if not ended:
            return  # the thread has the connection; the next start reads the log
        try:
            self._upkeep.save(self._connection)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            pass  # the log stays beside the file and is read again at the next start
        finally:
            self._connection.close()
            os.close(self._lock)

    # -- catalogue

    def assign(self, specs: Sequence[SignalSpec]) -> list[Signal]:
        """Numbers for signals, in their order, on disk before this returns. Blocks; for start and reconfiguration.

        The same device, name, unit, kind, encoding, scale and offset keep their number for ever; another meaning gets a
        new one. Labels and source are brought up to date. Raises ``StoreError``.
        """

        def run(connection: sqlite3.Connection) -> tuple[tuple[catalogues.Catalogue, list[int]], Callable[[], None]]:
            ids = catalogues.assign(connection, specs)
            catalogue = catalogues.brought_up(self._catalogue, connection)
            return (catalogue, ids), lambda: self._publish(catalogue)

        try:
            catalogue, ids = self._writer.submit(run, keep=False).result(_ASSIGN_S)
        except TimeoutError as error:
            raise StoreError("assign signals", f"the disk did not answer in {_ASSIGN_S:.0f} s") from error
        return catalogues.pick(catalogue, ids, specs)

    def catalog(self) -> tuple[int, Sequence[Signal]]:
        """The catalogue's version and every signal that ever was."""
        catalogue = self._catalogue
        return catalogue.version, catalogue.signals

    def ids_of(self, device: str, name: str) -> list[int]:
        """The numbers that a name has had over time, its newest meaning last."""
        return self._catalogue.ids_of(device, name)

    # -- telemetry

    def append(self, batch: Batch) -> None:
        """Queue samples for the next group commit. For the event loop: never blocks, never raises. Bounded."""
        self._writer.append(batch)

    def flush(self) -> Future[None]:
        """A future that is done after the commit that covers everything appended so far."""
        return self._writer.submit(lambda _: (None, None), rows=True)

    def post(self, rows: Posting) -> Future[Sequence[Fate]]:
        """Store what a client posts, each (device, time) once for ever; after the commit, what became of each row."""
        return self._writer.submit_rows(lambda connection: posting.take_in(connection, rows))

    def raw_from_us(self) -> int:
        """From when on raw readings are kept; posted rows before that are refused."""
        return self._clock.now_us() - round(self._raw_age_s * 1e6)

    def raw_cut_us(self) -> int:
        """Up to when raw readings were dropped for their size or age; 0 before. Blocks; raises ``StoreError``."""
        with self._readers.snapshot() as connection:
            return get_mark(connection, "raw_cut_us")

    def newest_posted_us(self, device: str) -> int | None:
        """The newest time for which a row of that device was posted. Blocks; raises ``StoreError``."""
        with self._readers.snapshot() as connection:
            return posting.newest_us(connection, device)

    def history(self, signal_ids: Sequence[int], from_us: int, to_us: int, points: int = 500) -> list[Series]:
        """One series for each known id over ``from_us`` <= time < ``to_us``: the rows themselves when they fit into
        ``points``, otherwise buckets with minima and maxima kept. Values are physical. What was appended is seen after
        its commit. Raises ``ValueError``, ``StoreError``.
        """  # noqa: D205 - one sentence
        return self._history.history(signal_ids, from_us, to_us, points)

    def rows(self, signal_ids: Sequence[int], from_us: int, to_us: int) -> Iterator[tuple[int, int, Number | None]]:
        """Every row as (µs UTC, signal id, physical value or None), for exports. Raises ``StoreError``."""
        return self._history.rows(signal_ids, from_us, to_us)

    def rolled(
        self, signal_ids: Collection[int], level: Level, ranges: Sequence[Range], *, before: bool = False
    ) -> dict[int, Rolled]:
        """1 min or 1 h buckets that begin in these ranges, as columns, for each known id; up to the newest commit.

        ``before``: and the newest one ahead of the first range. Blocks; raises ``StoreError``.
        """
        return self._rollups.read(signal_ids, level, ranges, before=before)

    # -- ledger

    def record(self, event: Event) -> Future[int]:
        """Append to the ledger, committed at once; the future gives the event's seq after the COMMIT."""
        data = ledger.to_json(event.data)

        def run(connection: sqlite3.Connection) -> tuple[int, Callable[[], None]]:
            seq = ledger.insert(connection, self._boot_id, event, data)
            return seq, lambda: self._saw_event(seq)

        return self._writer.submit(run, records=True)

    def ledger(self, wanted: Wanted, limit: int, offset: int) -> tuple[int, list[Row]]:
        """How many such events there are, and one page of them, the newest first. Blocks; raises ``StoreError``."""
        with self._readers.snapshot() as connection:
            return audit_file.page(connection, wanted, limit, offset)

    def ledger_csv(self, wanted: Wanted, iso: Callable[[int], str]) -> Iterator[str]:
        """The lines of an export of the ledger, oldest first. Blocks; raises ``StoreError``."""
        return audit_file.to_csv(audit_file.linked(self._readers.snapshot, wanted), iso)

    # -- sessions and notes (the ports' documentation holds)

    async def begin(self, session: Session, events: Sequence[Event] = ()) -> tuple[Session, bool]:
        """Store it under a new number. To ``session.*`` events it adds ``"session": number`` where that is absent."""
        return await self._sessions.begin(session, events)

    async def change(self, session: Session, events: Sequence[Event] = (), *, at_once: bool = True) -> None:
        """Store its new state; states of one session are stored in the order of these calls."""
        await self._sessions.change(session, events, at_once=at_once)

    async def find(self, device: str, *, id: int = 0, key: str = "", remote_id: str = "") -> Session | None:  # noqa: A002 - the port's
        """The newest session of the device that has all that is given."""
        return await asyncio.to_thread(self._sessions.find, device, id, key, remote_id)

    async def running(self, device: str) -> Sequence[Session]:
        """Those that have not ended, oldest first."""
        return await asyncio.to_thread(self._sessions.running, device)

    def session(self, number: int) -> Session | None:
        """The session with that number. Blocks; raises ``StoreError``."""
        return self._sessions.session(number)

    def list_sessions(
        self,
        device: str | None = None,
        running: bool | None = None,  # noqa: FBT001 - a filter of three values
        from_us: int | None = None,
        to_us: int | None = None,
        *,
        outlet: int | None = None,
        newest_first: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[int, list[Session]]:
        """How many sessions there are that started in ``from_us`` <= time < ``to_us``, and one page of them. Blocks.

        ``running``: only those that run (False: that have ended). Raises ``StoreError``.
        """
        return self._sessions.page(
            device, running, from_us, to_us, outlet=outlet, newest_first=newest_first, limit=limit, offset=offset
        )

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        """One note; None where there is none."""
        return self._notes.note(kind, key)

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """All notes of a kind, by key, as of now."""
        return self._notes.notes(kind)

    async def write(
        self,
        kind: str,
        key: str,
        data: Mapping[str, object] | None,
        events: Sequence[Event] = (),
        rows: Batch | None = None,
    ) -> None:
        """Replace a note, or delete it (None), with the events and rows of telemetry, in one commit."""
        await self._notes.write(kind, key, data, events, rows)

    # -- outbox (the port's documentation holds)

    def blocks(self, after_seq: int, max_blocks: int) -> list[StoredBlock]:
        """Committed blocks whose first number is above ``after_seq``, oldest first."""
        found = self._cursors.blocks(after_seq, max_blocks)
        return found if self._recovery is None else self._recovery.hold(found)

    def events(self, after_seq: int, max_events: int, kind_prefix: str = "") -> list[StoredEvent]:
        """Committed events after that one whose kind begins so, oldest first."""
        found = self._cursors.events(after_seq, max_events, kind_prefix)
        return found if self._recovery is None else self._recovery.hold(found)

    def acked(self, stream: str) -> int:
        """The last acknowledged seq of ``telemetry`` or ``event``."""
        return self._cursors.acked(stream)

    def ack(self, stream: str, upto_seq: int, *, at_once: bool = False) -> Future[None]:
        """Persist that all up to there is acknowledged."""
        return self._cursors.ack(stream, upto_seq, at_once=at_once)

    def newest(self, stream: str) -> int:
        """The seq of the newest committed record."""
        return self._cursors.newest(stream)

    def hold(self, stream: str, upto_seq: int | None) -> Future[None]:
        """Say which records may have left the house."""
        return self._cursors.hold(stream, upto_seq)

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call back after each commit that added records, from the writer's thread. It must not raise or block."""
        self._writer.on_commit(callback)

    # -- the clock

    def set_clock(self, offset_us: int, now_us: int, let_go: Callable[[], None]) -> Future[None]:
        """The clock of this boot is set: its times until now (``now_us``, by the wrong clock) are ``offset_us`` late.

        They are put right once for ever (``boots.py``); ``let_go`` is called when that is on disk and before anything
        is stored by the right time. Nothing happens in a boot whose clock is set.
        """

        def run(connection: sqlite3.Connection) -> tuple[None, Callable[[], None] | None]:
            correction = boots.correct(connection, self._boot_id, offset_us, now_us)
            if correction is None:
                return None, None
            self._sessions.correct(connection, correction)
            data: dict[str, object] = {"boot": self.boot, **asdict(correction)}
            event = Event("clock.corrected", now_us + offset_us, "clock", data)
            seq = ledger.insert_events(connection, self._boot_id, [event])

            def publish() -> None:
                self._writer.clock_set(correction, let_go)
                self._sessions.corrected(correction)
                self._saw_event(seq)
                self._upkeep.ask()

            return None, publish

        return self._writer.submit(run, rows=True, records=True)

    async def show_twice(self, from_us: int, to_us: int) -> None:
        """The wall clock went back: it shows the time in between once more. Raises ``StoreError``."""
        kept = self._notes.notes(_TWICE).values()
        number = 1 + max((int(str(one["number"])) for one in kept), default=0)
        data = {"number": number, "from_us": from_us, "to_us": to_us}
        await self._notes.write(_TWICE, str(number % _TWICE_KEPT), data, (), None)

    def shown_twice(self) -> Sequence[Range]:
        """The times that the wall clock showed twice, oldest first. Cheap."""
        kept = sorted(self._notes.notes(_TWICE).values(), key=lambda one: int(str(one["number"])))
        return [(int(str(one["from_us"])), int(str(one["to_us"]))) for one in kept]

    def believe(self, now_us: int) -> Future[None]:
        """This time is believed; the next start finds it as ``believed_us``. It goes with the next commit."""

        def run(connection: sqlite3.Connection) -> tuple[None, None]:
            boots.believe(connection, now_us)
            return None, None

        return self._writer.submit(run, pace=Pace.GROUP)

    # -- the store itself

    def maintain(self) -> Future[None]:
        """Seal, roll up and tidy now instead of when it is due; done when the whole pass is."""
        future = self._upkeep.ask()
        self._writer.wake()
        return future

    def idle_s(self) -> float:
        """Seconds since the writer's thread last went round; ask every few seconds, for it sleeps until it is woken."""
        return self._writer.idle_s()

    def wear(self) -> Wear:
        """What was written to the flash, by day and component, as of the last hour. Cheap."""
        return self._upkeep.grown.wear

    def dropped(self, limit: int, offset: int) -> tuple[int, list[Gone]]:
        """How long the record of what was given up is, and one page of it, the newest first. Blocks; ``StoreError``."""
        with self._readers.snapshot() as connection:
            return dropped.page(connection, limit, offset)

    def stats(self) -> StoreStats:
        """Figures for health and metrics; cheap."""
        grown = self._upkeep.grown
        copy_bytes = older.copy_bytes(self._path)
        stored = self._rows_at_open + self._writer.stored_rows - self._upkeep.dropped_rows
        return StoreStats(
            stored,
            self._writer.pending_rows,
            self._writer.dropped_rows + self._upkeep.dropped_rows,
            _size(self._path),
            _size(self._path.with_name(self._path.name + "-wal")),
            self._writer.commits,
            wear.process_bytes(),
            self._upkeep.written,
            grown.wear.bytes_a_day,
            grown.lost_rows,
            grown.ledger_bytes,
            evidence_bytes(self._path) + copy_bytes,
            copy_bytes,
            self._max_bytes,
            self._writer.last_commit_s,
            self._writer.error or self._writer.upkeep_error,
            self._writer.full,
        )

    def _begin_boot(self, judge: Callable[[int], None]) -> tuple[int, int, Kinds]:
        """Write this boot down; its row id, the newest block's number and all notes."""
        connection = self._connection
        with transaction(connection):
            if connection.execute("SELECT 1 FROM boot").fetchone() is None and not get_mark(connection, NUMBERS_FROM):
                set_mark(connection, NUMBERS_FROM, outbox.first_number(self._clock.now_us()))
            judge(boots.believed_us(connection))
            boot = boots.begin(connection, self.boot, self._clock)
            begin_numbers(connection, self._clock.now_us())
            found_notes = load_notes(connection, boot, self._clock.now_us())
            seq = telemetry.newest_seq(connection)
            newest_event = ledger.newest_seq(connection)
            outbox.end_sending(connection, outbox.TELEMETRY, seq)
            outbox.end_sending(connection, outbox.EVENT, newest_event)
        return boot, seq, found_notes

    def _publish(self, catalogue: catalogues.Catalogue) -> None:
        self._catalogue = catalogue
        self._encodings = _encodings(catalogue)

    def _saw_event(self, seq: int) -> None:
        self._newest_event = max(self._newest_event, seq)

    def _set_aside(self, table: str, seq: int, reason: str) -> None:
        """A reader met a damaged row: have it moved out of the way."""
        now_us = self._clock.now_us()

        def run(connection: sqlite3.Connection) -> tuple[None, None]:
            if table == "event":
                ledger.set_aside(connection, seq, reason, self._boot_id, now_us)
            else:
                sealing.set_aside(connection, table, seq, reason, self._boot_id, now_us)
            return None, None

        self._writer.submit(run, records=True)


def _encodings(catalogue: catalogues.Catalogue) -> Mapping[int, Encoding]:
    return {signal.id: signal.encoding for signal in catalogue.signals}


def evidence_bytes(path: Path) -> int:
    """What stands beside a database that was once moved aside: ``<name>.<kind>-<UTC stamp>`` with its log."""
    return sum(map(_size, path.parent.glob(f"{path.name}.*-[0-9]*Z*")))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
