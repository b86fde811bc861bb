"""The statements of a batch, each one for all its messages. All run inside the caller's transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cloud_sync.central.names import Boot
from cloud_sync.central.parse import Bad, EventIn, Numbers, StateIn, TelemetryIn, clean
from cloud_sync.central.rows import COPY_HEADER, COPY_TRAILER, Samples, copy_rows, merged
from cloud_sync.central.schema import Connection

#: Rows that are made into bytes at once.
COPY_ROWS = 100_000
#: Of a message that is refused so much is kept, to see what it was.
KEPT_BYTES = 4096
_MAX_REASON = 500

_SAMPLE = "COPY enlace.sample(series, t, value, exact) FROM STDIN (FORMAT BINARY)"
_UNSET = "COPY enlace.sample_unset(boot, series, t, value, exact) FROM STDIN (FORMAT BINARY)"
_AGAIN = "COPY sample_again(series, t, value, exact) FROM STDIN (FORMAT BINARY)"


@dataclass(frozen=True, slots=True)
class Record:
    """A message that is a record, with the numbers of its site and boot."""

    site: int
    boot: Boot
    numbers: Numbers
    source: TelemetryIn | EventIn | Bad

    @property
    def key(self) -> tuple[int, str, int]:
        """What it has in the database once."""
        return self.site, self.numbers.stream, self.numbers.seq


@dataclass(frozen=True, slots=True)
class Placed:
    """Samples of a record. ``unset``: the boot whose clock was not set; ``partly``: some of its numbers are stored."""

    samples: Samples
    unset: int | None = None
    partly: bool = False


def split(connection: Connection, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Those that are new, and those of whose numbers a part is stored already; what is wholly stored is in neither.

    A gateway sends the same numbers in another split only when its payload was configured anew meanwhile.
    """
    if not records:
        return [], []
    columns = _columns(records)
    rows = connection.execute(
        """SELECT new.n, (SELECT found.first_seq FROM enlace.record found
                WHERE found.site = new.site AND found.stream = new.stream AND found.seq >= new.first_seq
                ORDER BY found.seq LIMIT 1) <= new.seq,
            coalesce(new.seq <= state.pruned, false)
        FROM unnest(%s::int[], %s::enlace.stream[], %s::bigint[], %s::bigint[])
            WITH ORDINALITY AS new(site, stream, first_seq, seq, n)
        LEFT JOIN enlace.stream_state state ON state.site = new.site AND state.stream = new.stream""",
        columns,
    )
    fresh: list[Record] = []
    touching: list[Record] = []
    for place, overlaps, pruned in rows:
        assert isinstance(place, int)  # noqa: S101 - the ordinality
        if not pruned:
            (touching if overlaps else fresh).append(records[place - 1])
    return fresh, [record for record in touching if not _covered(connection, record)]


def _covered(connection: Connection, record: Record) -> bool:
    """Whether all numbers of a record are stored."""
    numbers = record.numbers
    rows = connection.execute(
        """SELECT first_seq, seq FROM enlace.record
            WHERE site = %s AND stream = %s AND seq >= %s AND first_seq <= %s ORDER BY first_seq""",
        (record.site, numbers.stream, numbers.first_seq, numbers.seq),
    )
    at = numbers.first_seq
    for first_seq, seq in rows:
        assert isinstance(first_seq, int)  # noqa: S101 - whole numbers
        assert isinstance(seq, int)  # noqa: S101
        if first_seq > at:
            return False
        at = max(at, seq + 1)
    return at > numbers.seq


def insert_records(connection: Connection, records: Sequence[tuple[Record, int]]) -> set[tuple[int, str, int]]:
    """Write the rows that decide, with the number of samples; the keys of those that nobody else has written."""
    if not records:
        return set()
    ordered = sorted(records, key=lambda one: one[0].key)
    only = [record for record, _ in ordered]
    rows = connection.execute(
        """INSERT INTO enlace.record(site, stream, first_seq, seq, boot, rows, clock_set, refused)
            SELECT * FROM unnest(%s::int[], %s::enlace.stream[], %s::bigint[], %s::bigint[], %s::int[], %s::int[],
                %s::boolean[], %s::boolean[])
            ON CONFLICT DO NOTHING RETURNING site, stream::text, seq""",
        (
            *_columns(only),
            [record.boot.id for record in only],
            [count for _, count in ordered],
            [record.numbers.clock_set for record in only],
            [isinstance(record.source, Bad) for record in only],
        ),
    )
    return {(int(str(site)), str(stream), int(str(seq))) for site, stream, seq in rows}


def begin_streams(connection: Connection, records: Iterable[Record]) -> None:
    """Streams that are new here: the duty begins behind the gateway's ``base``.

    Where nothing is confirmed yet that is 0, of a gateway whose clock was not set when its store began: the number that
    comes first is no beginning then, for live data comes ahead of the backlog.
    """
    starts: dict[tuple[int, str], int] = {}
    for record in records:
        key = record.site, record.numbers.stream
        starts[key] = min(starts.get(key, record.numbers.base), record.numbers.base)
    if not starts:
        return
    connection.execute(
        """INSERT INTO enlace.stream_state(site, stream, start_seq, upto, base, newest)
            SELECT new.site, new.stream, new.start, new.start, new.start, new.start
            FROM unnest(%s::int[], %s::enlace.stream[], %s::bigint[]) AS new(site, stream, start)
            WHERE NOT EXISTS (SELECT FROM enlace.stream_state old WHERE old.site = new.site AND old.stream = new.stream)
            ORDER BY 1, 2 ON CONFLICT DO NOTHING""",
        ([site for site, _ in starts], [stream for _, stream in starts], list(starts.values())),
    )


def write_samples(connection: Connection, placed: Sequence[Placed]) -> None:
    """All samples of a batch, each to its table."""
    with_clock = [one.samples for one in placed if one.unset is None and not one.partly]
    _copy(connection, _SAMPLE, (copy_rows(chunk) for chunk in _chunks(with_clock)))
    without = [one for one in placed if one.unset is not None]
    _copy(connection, _UNSET, (copy_rows(one.samples, one.unset) for one in without if len(one.samples)))
    again = [one.samples for one in placed if one.unset is None and one.partly]
    if again:
        _write_missing(connection, again)


def _write_missing(connection: Connection, again: Sequence[Samples]) -> None:
    """Samples of which some are there under other numbers: only those of a series and time that are not."""
    connection.execute("CREATE TEMP TABLE sample_again(LIKE enlace.sample) ON COMMIT DROP")
    _copy(connection, _AGAIN, (copy_rows(chunk) for chunk in _chunks(again)))
    connection.execute(
        """INSERT INTO enlace.sample SELECT * FROM sample_again again WHERE NOT EXISTS (
            SELECT FROM enlace.sample old WHERE old.series = again.series AND old.t = again.t)"""
    )


def _chunks(parts: Sequence[Samples]) -> Iterator[Samples]:
    chunk: list[Samples] = []
    rows = 0
    for part in parts:
        chunk.append(part)
        rows += len(part)
        if rows >= COPY_ROWS:
            yield merged(chunk)
            chunk, rows = [], 0
    if rows:
        yield merged(chunk)


def _copy(connection: Connection, statement: str, chunks: Iterator[bytes]) -> None:
    first = next(chunks, None)
    if first is None:
        return
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(COPY_HEADER + first)
        for chunk in chunks:
            copy.write(chunk)
        copy.write(COPY_TRAILER)


def insert_events(connection: Connection, records: Sequence[Record]) -> None:
    """The rows of events."""
    rows = [
        (
            *(record.site, event.message.seq, record.boot.id, clean(event.message.kind), event.message.t_us),
            *(clean(event.message.subject), event.data, clean(event.message.hash)),
            "set" if record.numbers.clock_set else "unset",
        )
        for record in records
        if isinstance(event := record.source, EventIn)
    ]
    if rows:
        connection.execute(
            """INSERT INTO enlace.event(site, seq, boot, kind, t, subject, data, hash, clock)
                SELECT site, seq, boot, kind, 'epoch'::timestamptz + t * interval '1 microsecond', subject,
                    data::jsonb, hash, clock
                FROM unnest(%s::int[], %s::bigint[], %s::int[], %s::text[], %s::bigint[], %s::text[], %s::text[],
                    %s::text[], %s::text[]) AS new(site, seq, boot, kind, t, subject, data, hash, clock)
                ON CONFLICT DO NOTHING""",
            [list(column) for column in zip(*rows, strict=True)],
        )


def insert_pending(connection: Connection, records: Sequence[Record]) -> None:
    """Telemetry whose catalogue is not here, as it came."""
    rows = [
        (record.site, record.numbers.first_seq, record.numbers.seq, record.boot.id, record.source.payload)
        for record in records
        if isinstance(record.source, TelemetryIn)
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(
                """INSERT INTO enlace.pending(site, first_seq, seq, boot, payload) VALUES (%s, %s, %s, %s, %s)
                    ON CONFLICT DO NOTHING""",
                rows,
            )


def insert_refused(connection: Connection, refused: Sequence[Bad], sites: Mapping[str, int]) -> None:
    """What could not be read, and how often that was so."""
    if not refused:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO enlace.refused(topic, reason, bytes, payload) VALUES (%s, %s, %s, %s)",
            [
                (clean(one.topic), clean(one.reason)[:_MAX_REASON], len(one.payload), one.payload[:KEPT_BYTES])
                for one in refused
            ],
        )
        counts: dict[int, int] = {}
        for one in refused:
            if one.site in sites:
                counts[sites[one.site]] = counts.get(sites[one.site], 0) + 1
        for site, count in sorted(counts.items()):
            cursor.execute("UPDATE enlace.site SET refused = refused + %s WHERE id = %s", (count, site))


def set_states(connection: Connection, states: Mapping[int, StateIn]) -> None:
    """Which sites are online. The will knows no time: then it is that of its arrival."""
    for site, incoming in sorted(states.items()):
        state = incoming.state
        connection.execute(
            """UPDATE enlace.site SET online = %s, software = %s,
                online_since = coalesce('epoch'::timestamptz + %s * interval '1 microsecond', now())
                WHERE id = %s AND (online, software) IS DISTINCT FROM (%s, %s)""",
            (state.online, clean(state.version), state.since_us, site, state.online, clean(state.version)),
        )


def make_months(connection: Connection, months: Iterable[str]) -> None:
    """Partitions for these months. In a transaction of its own: it locks the table."""
    for month in sorted(months):
        connection.execute("SELECT enlace.make_month(%s::date)", (month,))


def _columns(records: Sequence[Record]) -> tuple[list[int], list[str], list[int], list[int]]:
    return (
        [record.site for record in records],
        [record.numbers.stream for record in records],
        [record.numbers.first_seq for record in records],
        [record.numbers.seq for record in records],
    )
