"""A batch of messages -> one transaction. The rules stand in the package's docstring.

``store`` may be called again with the same messages after any error: what was committed is found to be there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cloud_sync.central import parse as parsing
from cloud_sync.central import writing
from cloud_sync.central.database import BadValueError, Database
from cloud_sync.central.names import MAX_SITES, Names, TooManyNamesError
from cloud_sync.central.parse import TELEMETRY, Bad, CatalogIn, EventIn, Parsed, StateIn, TelemetryIn
from cloud_sync.central.rows import MissingSignalError, Samples, months, samples
from cloud_sync.central.schema import LOCK_PRUNE, Connection
from cloud_sync.central.writing import Placed, Record
from cloud_sync.subscriber import PayloadError

CORRECTED = "clock.corrected"

Key = tuple[str, str]  #: site and stream


@dataclass(slots=True)
class Stored:
    """What became of a batch. ``touched``: streams with the highest ``base`` and the lowest new number seen."""

    records: int = 0
    samples: int = 0
    repeated: int = 0
    waiting: int = 0  #: messages put down until their catalogue comes
    refused: list[Bad] = field(default_factory=list)
    touched: dict[Key, tuple[int, int]] = field(default_factory=dict)
    catalogs: set[str] = field(default_factory=set)  #: sites that have a new one
    corrected: bool = False  #: a ``clock.corrected`` is among the events

    def add(self, other: "Stored") -> None:
        """Another batch's."""
        self.records += other.records
        self.samples += other.samples
        self.repeated += other.repeated
        self.waiting += other.waiting
        self.refused += other.refused
        self.catalogs |= other.catalogs
        self.corrected |= other.corrected
        for key, (base, seq) in other.touched.items():
            self.touch(key, base, seq)

    def touch(self, key: Key, base: int, seq: int) -> None:
        """A record of this stream came."""
        known = self.touched.get(key, (base, seq))
        self.touched[key] = max(known[0], base), min(known[1], seq)


class Intake:
    """Writes what came, with the connection and the memory of one worker."""

    def __init__(self, database: Database, names: Names) -> None:
        self._database = database
        self._names = names
        self._months: set[str] = set()

    def forget(self) -> None:
        """The database may be another one now, or the same as it was before."""
        self._months.clear()

    def store(self, messages: Sequence[tuple[str, bytes]]) -> Stored:
        """Write messages (topic, payload) in one transaction. Blocks. Raises ``Unavailable``: none is written then."""
        parsed = (parsing.parse(topic, payload) for topic, payload in messages)
        return self._store([one for one in parsed if one is not None])

    def _store(self, parsed: Sequence[Parsed]) -> Stored:
        try:
            return self._database.call(lambda connection: self._commit(connection, parsed))
        except BadValueError as error:
            if len(parsed) == 1:
                reason = f"PostgreSQL does not take it: {error}".splitlines()[0]
                return self._store([_refusal(parsed[0], reason)])
        # Halves, until the one that PostgreSQL does not take stands alone.
        half = len(parsed) // 2
        result = self._store(parsed[:half])
        result.add(self._store(parsed[half:]))
        return result

    def _commit(self, connection: Connection, parsed: Sequence[Parsed]) -> Stored:
        self._make_months(connection, parsed)
        stored = Stored()
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (LOCK_PRUNE,))
            named = {one.site for one in parsed if not isinstance(one, Bad) or one.numbers is not None}
            sites = self._names.sites(connection, named)
            parsed = [one if one.site in sites or one.site not in named else _homeless(one) for one in parsed]
            for one in parsed:
                if isinstance(one, CatalogIn):
                    self._take(connection, sites[one.site], one, stored)
            writing.set_states(connection, {sites[one.site]: one for one in parsed if isinstance(one, StateIn)})
            records = self._records(connection, sites, parsed)
            self._write_records(connection, records, stored)
            stored.refused += [one for one in parsed if isinstance(one, Bad)]
            writing.insert_refused(connection, stored.refused, sites)
        return stored

    def _take(self, connection: Connection, site: int, incoming: CatalogIn, stored: Stored) -> None:
        try:
            if self._names.take(connection, site, incoming):
                stored.catalogs.add(incoming.site)
        except TooManyNamesError as error:
            stored.refused.append(Bad(incoming.site, f"{incoming.site}/catalog", str(error), incoming.payload))

    def _make_months(self, connection: Connection, parsed: Sequence[Parsed]) -> None:
        """Months that this worker has not seen get their partitions, ahead of the transaction."""
        telemetry = [one.message for one in parsed if isinstance(one, TelemetryIn)]
        new = months(column.times_us for message in telemetry for column in message.columns) - self._months
        writing.make_months(connection, new)
        self._months |= new

    def _records(self, connection: Connection, sites: Mapping[str, int], parsed: Sequence[Parsed]) -> list[Record]:
        """The records of a batch, each of its numbers once."""
        found: dict[tuple[int, str, int], tuple[int, TelemetryIn | EventIn | Bad]] = {}
        for one in parsed:
            if isinstance(one, TelemetryIn | EventIn | Bad) and one.numbers is not None:
                site = sites[one.site]
                found.setdefault((site, one.numbers.stream, one.numbers.seq), (site, one))
        wanted = {(site, one.numbers.boot) for site, one in found.values() if one.numbers is not None}
        boots = self._names.boots(connection, wanted)
        return [
            Record(site, boots[site, one.numbers.boot], one.numbers, one)
            for site, one in found.values()
            if one.numbers is not None
        ]

    def _write_records(self, connection: Connection, records: Sequence[Record], stored: Stored) -> None:
        for record in records:
            stored.touch((record.source.site, record.numbers.stream), record.numbers.base, record.numbers.seq)
        writing.begin_streams(connection, records)
        fresh, partly = writing.split(connection, records)
        again = {record.key for record in partly}
        ready = [self._ready(connection, record, stored) for record in (*fresh, *partly)]
        won = writing.insert_records(connection, [(record, 0 if rows is None else len(rows)) for record, rows in ready])
        stored.records += len(won)
        stored.repeated += len(records) - len(won)
        mine = [(record, rows) for record, rows in ready if record.key in won]
        writing.write_samples(connection, [
            Placed(rows, None if record.numbers.clock_set else record.boot.id, partly=record.key in again)
            for record, rows in mine if rows is not None
        ])  # fmt: skip
        stored.samples += sum(len(rows) for _, rows in mine if rows is not None)
        waiting = [record for record, rows in mine if rows is None and isinstance(record.source, TelemetryIn)]
        writing.insert_pending(connection, waiting)
        stored.waiting += len(waiting)
        events = [record for record, _ in mine if isinstance(record.source, EventIn)]
        writing.insert_events(connection, events)
        stored.corrected |= any(
            isinstance(record.source, EventIn) and record.source.message.kind == CORRECTED for record in events
        )

    def _ready(self, connection: Connection, record: Record, stored: Stored) -> tuple[Record, Samples | None]:
        """A record with its samples; None where it has none, or none yet."""
        source = record.source
        if not isinstance(source, TelemetryIn):
            return record, None
        meanings = self._names.meanings(connection, record.site, record.boot.epoch)
        try:
            return record, samples(source.message, meanings)
        except MissingSignalError:
            return record, None
        except PayloadError as error:
            bad = Bad(source.site, f"{source.site}/{TELEMETRY}", str(error), source.payload, source.numbers)
            stored.refused.append(bad)
            return replace(record, source=bad), None


def _homeless(one: Parsed) -> Bad:
    """What comes of a site that finds no room. It is no record: its gateway is told nothing, and keeps it."""
    return Bad("", f"{one.site}/", f"there are {MAX_SITES} sites, and it is a new one", b"")


def _refusal(one: Parsed, reason: str) -> Bad:
    if isinstance(one, Bad):
        # Even the row that says so is refused: what is left of it is its topic's name.
        return replace(one, payload=b"", reason="PostgreSQL does not take it", numbers=None)
    payload = one.payload if isinstance(one, TelemetryIn | CatalogIn) else b""
    numbers = one.numbers if isinstance(one, TelemetryIn | EventIn) else None
    return Bad(one.site, f"{one.site}/", reason, payload, numbers)
