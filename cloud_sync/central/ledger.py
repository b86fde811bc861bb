"""How far each stream is whole, its gaps, and upkeep: the SQL around ``gaps.py``. Blocks; raises ``Unavailable``.

What is computed here comes from the database alone, so that any worker may do it, and the word that a gateway is given
is right whoever stored its records.
"""

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg

from cloud_sync.central.database import Database
from cloud_sync.central.gaps import MAX_ISLANDS, Gap, Range, Settled, settle, without
from cloud_sync.central.intake import Key
from cloud_sync.central.schema import LOCK_PRUNE, Connection

_log = logging.getLogger(__name__)

#: What is refused, the newest only; the count of each site goes on.
KEPT_REFUSALS = 10_000
#: Records older than this are forgotten where nothing is missing below them: no broker keeps a message for so long.
KEPT_RECORDS = "7 days"
PRUNED_AT_ONCE = 50_000

_LOCK = """SELECT site.name, state.site, state.stream::text, state.upto, state.base FROM enlace.stream_state state
    JOIN enlace.site ON site.id = state.site
    WHERE (site.name, state.stream::text) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
    ORDER BY state.site, state.stream FOR UPDATE OF state"""

#: Stored numbers above ``upto`` as ranges that do not touch, the lowest of each stream.
_ISLANDS = """WITH above AS (
        SELECT r.site, r.stream, r.first_seq, r.seq, max(r.seq) OVER (PARTITION BY r.site, r.stream ORDER BY r.seq
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM unnest(%s::int[], %s::enlace.stream[], %s::bigint[]) AS wanted(site, stream, upto)
        JOIN enlace.record r ON r.site = wanted.site AND r.stream = wanted.stream AND r.seq > wanted.upto),
    numbered AS (
        SELECT *, count(*) FILTER (WHERE before IS NULL OR first_seq > before + 1)
            OVER (PARTITION BY site, stream ORDER BY seq) AS island FROM above)
    SELECT site, stream::text, min(first_seq), max(seq) FROM numbered WHERE island <= %s
    GROUP BY site, stream, island ORDER BY 1, 2, 3"""

_GAPS = """SELECT gap.site, gap.stream::text, gap.id, gap.from_seq, gap.to_seq,
        gap.opened <= now() - %s * interval '1 second'
    FROM enlace.gap JOIN unnest(%s::int[], %s::enlace.stream[]) AS wanted(site, stream) USING (site, stream)
    WHERE gap.state = 'open'"""

_UNSETTLED = """SELECT site.name, state.stream::text FROM enlace.stream_state state
    JOIN enlace.site ON site.id = state.site
    WHERE EXISTS (SELECT FROM enlace.gap WHERE gap.site = state.site AND gap.stream = state.stream
            AND state = 'open' AND gap.from_seq <= state.base AND gap.opened <= now() - %s * interval '1 second')"""

_STREAMS = """SELECT site.name, state.stream::text FROM enlace.stream_state state
    JOIN enlace.site ON site.id = state.site WHERE EXISTS (
        SELECT FROM enlace.record r WHERE r.site = state.site AND r.stream = state.stream AND r.seq > state.upto)"""

_FORGET = """WITH old AS (
        DELETE FROM enlace.record WHERE (site, stream, seq) IN (
            SELECT r.site, r.stream, r.seq FROM enlace.record r JOIN enlace.stream_state s
                ON s.site = r.site AND s.stream = r.stream AND r.seq <= s.upto
            WHERE r.received < now() - %s::interval ORDER BY r.site, r.stream, r.seq LIMIT %s)
        RETURNING site, stream, seq)
    UPDATE enlace.stream_state s SET pruned = greatest(s.pruned, old.seq)
    FROM (SELECT site, stream, max(seq) AS seq FROM old GROUP BY 1, 2) old
    WHERE s.site = old.site AND s.stream = old.stream"""

_ADVANCE = """UPDATE enlace.stream_state s
    SET upto = new.upto, base = new.base, newest = greatest(s.newest, new.newest), seen = now()
    FROM unnest(%s::int[], %s::enlace.stream[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS new(site, stream, upto, base, newest)
    WHERE s.site = new.site AND s.stream = new.stream"""


@dataclass(frozen=True, slots=True)
class _Row:
    """One stream's row, with what its caller knows of it."""

    name: str
    site: int
    stream: str
    upto: int
    base: int
    lowest: int

    @property
    def key(self) -> tuple[int, str]:
        return self.site, self.stream


class Ledger:
    """``give_up_s``: how long a gap stays open that the gateway will not fill."""

    def __init__(self, database: Database, give_up_s: float) -> None:
        self._database = database
        self._give_up_s = give_up_s

    def settle(self, touched: Mapping[Key, tuple[int, int]]) -> Mapping[Key, int]:
        """Bring these streams up to date, given the highest base and lowest number that came; ``upto`` of each."""
        return self._database.call(lambda connection: self._settle(connection, touched)) if touched else {}

    def unsettled(self) -> list[Key]:
        """Streams with gaps that are to be given up now."""
        return self._keys(_UNSETTLED, (self._give_up_s,))

    def left_behind(self) -> list[Key]:
        """Streams with records that nobody has settled: those of a worker that was killed, perhaps."""
        return self._keys(_STREAMS, ())

    def _keys(self, query: str, arguments: tuple[float, ...]) -> list[Key]:
        rows = self._database.call(lambda connection: connection.execute(query.encode(), arguments).fetchall())
        return [(str(name), str(stream)) for name, stream in rows]

    def _settle(self, connection: Connection, touched: Mapping[Key, tuple[int, int]]) -> dict[Key, int]:
        with connection.transaction():
            rows = connection.execute(_LOCK, ([name for name, _ in touched], [stream for _, stream in touched]))
            streams = []
            for name, site, stream, upto, base in rows.fetchall():
                came_base, lowest = touched[str(name), str(stream)]
                known = max(int(str(base)), came_base)
                streams.append(_Row(str(name), int(str(site)), str(stream), int(str(upto)), known, lowest))
            islands, gaps = _islands(connection, streams), self._gaps(connection, streams)
            uptos, newest = [], []
            for stream in streams:
                own = islands.get(stream.key, [])
                settled = settle(stream.upto, stream.base, own, gaps.get(stream.key, []))
                _write_gaps(connection, stream, settled)
                if stream.lowest <= stream.upto:
                    _fill_late(connection, stream)
                uptos.append(settled.upto)
                newest.append(max((last for _, last in own), default=settled.upto))
            bases = [stream.base for stream in streams]
            connection.execute(_ADVANCE, (*_columns(streams), uptos, bases, newest))
        return {(stream.name, stream.stream): upto for stream, upto in zip(streams, uptos, strict=True)}

    def _gaps(self, connection: Connection, streams: list[_Row]) -> dict[tuple[int, str], list[Gap]]:
        found: dict[tuple[int, str], list[Gap]] = {}
        rows = connection.execute(_GAPS, (self._give_up_s, *_columns(streams)))
        for site, stream, number, from_seq, to_seq, ripe in rows:
            gap = Gap(int(str(number)), int(str(from_seq)), int(str(to_seq)), bool(ripe))
            found.setdefault((int(str(site)), str(stream)), []).append(gap)
        return found

    def prune(self) -> None:
        """Forget what is not needed any more: old records below ``upto``, and the oldest of what was refused."""
        self._database.call(_prune)


def _columns(streams: Iterable[_Row]) -> tuple[list[int], list[str]]:
    return [stream.site for stream in streams], [stream.stream for stream in streams]


def _islands(connection: Connection, streams: list[_Row]) -> dict[tuple[int, str], list[Range]]:
    found: dict[tuple[int, str], list[Range]] = {}
    rows = connection.execute(_ISLANDS, (*_columns(streams), [stream.upto for stream in streams], MAX_ISLANDS))
    for site, stream, first, last in rows:
        found.setdefault((int(str(site)), str(stream)), []).append((int(str(first)), int(str(last))))
    return found


def _write_gaps(connection: Connection, stream: _Row, settled: Settled) -> None:
    for first, last in settled.opened:
        connection.execute(
            "INSERT INTO enlace.gap(site, stream, from_seq, to_seq) VALUES (%s, %s, %s, %s)", (*stream.key, first, last)
        )
    for first, last in settled.lost:
        connection.execute(
            """INSERT INTO enlace.gap(site, stream, from_seq, to_seq, opened, closed, state)
                SELECT %s, %s, %s, %s, coalesce((SELECT min(opened) FROM enlace.gap WHERE site = %s AND stream = %s
                    AND state = 'open' AND from_seq <= %s AND to_seq >= %s), now()), now(), 'lost'""",
            (*stream.key, first, last, *stream.key, last, first),
        )
    if settled.filled:
        connection.execute(
            "UPDATE enlace.gap SET state = 'filled', closed = now() WHERE id = ANY(%s)", (list(settled.filled),)
        )
    if settled.given_up:
        connection.execute("DELETE FROM enlace.gap WHERE id = ANY(%s)", (list(settled.given_up),))
    if settled.lost:
        first, last = settled.lost[0][0], settled.lost[-1][1]
        more = f" in {len(settled.lost)} ranges" if len(settled.lost) > 1 else ""
        _log.warning("%s: %s %d to %d%s will not come any more", stream.name, stream.stream, first, last, more)


def _fill_late(connection: Connection, stream: _Row) -> None:
    """Records came whose gap had been given up: the ledger's rows shrink to what is missing still."""
    lost = connection.execute(
        """SELECT id, from_seq, to_seq FROM enlace.gap WHERE site = %s AND stream = %s AND state = 'lost'
            AND to_seq >= %s AND from_seq <= %s""",
        (*stream.key, stream.lowest, stream.upto),
    ).fetchall()
    for number, from_seq, to_seq in lost:
        whole = int(str(from_seq)), int(str(to_seq))
        stored = connection.execute(
            """SELECT first_seq, seq FROM enlace.record WHERE site = %s AND stream = %s AND seq >= %s AND seq <= %s""",
            (*stream.key, *whole),
        )
        left = without(whole, [(int(str(first)), int(str(last))) for first, last in stored])
        if left == [whole]:
            continue
        if not left:
            connection.execute("UPDATE enlace.gap SET state = 'filled', closed = now() WHERE id = %s", (number,))
            continue
        connection.execute("UPDATE enlace.gap SET from_seq = %s, to_seq = %s WHERE id = %s", (*left[0], number))
        for part in left[1:]:
            connection.execute(
                """INSERT INTO enlace.gap(site, stream, from_seq, to_seq, opened, closed, state)
                    SELECT site, stream, %s, %s, opened, closed, state FROM enlace.gap WHERE id = %s""",
                (*part, number),
            )


def _prune(connection: Connection) -> None:
    # Who writes records at the moment goes first, who begins to waits: not for long.
    with contextlib.suppress(psycopg.errors.LockNotAvailable), connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '2s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_PRUNE,))
        connection.execute(_FORGET, (KEPT_RECORDS, PRUNED_AT_ONCE))
    connection.execute(
        "DELETE FROM enlace.refused WHERE id <= (SELECT max(id) FROM enlace.refused) - %s", (KEPT_REFUSALS,)
    )
