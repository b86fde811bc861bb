"""What is done to stored data when something comes that it waited for: a catalogue, or the time of a boot.

Each of these moves rows within one transaction, so that it happens once, whoever else does the same at the moment.
"""

from functools import partial

from cloud_sync.central import writing
from cloud_sync.central.database import BadValueError, Database
from cloud_sync.central.names import Names
from cloud_sync.central.parse import TELEMETRY, Bad, TelemetryIn, parse
from cloud_sync.central.rows import MissingSignalError, months, samples
from cloud_sync.central.schema import Connection
from cloud_sync.central.writing import Placed
from cloud_sync.subscriber import PayloadError

#: Messages that are converted before others get their turn.
CONVERTED_AT_ONCE = 200

#: The oldest of those that wait longest come first; those whose catalogue lacks one of their signals are passed over.
_WAITING = """SELECT pending.site, pending.seq FROM enlace.pending JOIN enlace.site ON site.id = pending.site
    WHERE site.name = ANY(%s) AND (pending.site, pending.seq) > (%s, %s) ORDER BY pending.site, pending.seq LIMIT %s"""

_ONE = """SELECT pending.payload, boot.id, boot.epoch, site.name FROM enlace.pending
    JOIN enlace.boot ON boot.id = pending.boot JOIN enlace.site ON site.id = pending.site
    WHERE pending.site = %s AND pending.seq = %s FOR UPDATE OF pending SKIP LOCKED"""

#: Corrections that came while samples or events wait for them, with the months into which samples go.
_DUE = """SELECT correction.boot, to_char(month, 'YYYY-MM-DD') FROM enlace.correction
    LEFT JOIN LATERAL (SELECT DISTINCT date_trunc('month', enlace.corrected(t, correction), 'UTC')
        FROM enlace.sample_unset WHERE sample_unset.boot = correction.boot) months(month) ON true
    WHERE month IS NOT NULL OR EXISTS (
        SELECT FROM enlace.event WHERE event.boot = correction.boot AND event.clock = 'unset')"""

_MOVE = """WITH moved AS (
        DELETE FROM enlace.sample_unset USING enlace.correction
        WHERE correction.boot = %s AND sample_unset.boot = correction.boot
        RETURNING series, enlace.corrected(t, correction) AS t, value, exact),
    written AS (INSERT INTO enlace.sample(series, t, value, exact) SELECT * FROM moved RETURNING 1)
    UPDATE enlace.correction SET samples = samples + (SELECT count(*) FROM written) WHERE boot = %s"""

_SHIFT = """UPDATE enlace.event SET t = enlace.corrected(t, correction), clock = 'corrected'
    FROM enlace.correction WHERE correction.boot = %s AND event.boot = correction.boot AND event.clock = 'unset'"""

#: Which boot an event of the kind corrects, which of its times and by how much. One that makes no sense (its numbers
#: reach past three thousand years) corrects nothing; times without bounds are all of them.
_COLLECT = """INSERT INTO enlace.correction(boot, offset_us, from_us, to_us, seq)
    SELECT DISTINCT ON (id) id, offset_us, from_us, to_us, seq FROM (
        SELECT boot.id, event.seq, enlace.whole(event.data -> 'offset_us') AS offset_us,
            coalesce(enlace.whole(event.data -> 'from_us'), 0) AS from_us,
            coalesce(enlace.whole(event.data -> 'to_us'), 253402300799999999) AS to_us
        FROM enlace.event JOIN enlace.boot own ON own.id = event.boot
        JOIN enlace.boot ON boot.site = event.site AND boot.boot = coalesce(event.data ->> 'boot', own.boot)
        WHERE event.kind = 'clock.corrected'
            AND NOT EXISTS (SELECT FROM enlace.correction old WHERE old.boot = boot.id)) found
    WHERE abs(offset_us) < 1e17 AND abs(from_us) < 1e18 AND abs(to_us) < 1e18
    ORDER BY id, seq ON CONFLICT DO NOTHING"""


class Later:
    """The second half of the work, with the connection and the memory of one worker. Blocks; raises ``Unavailable``."""

    def __init__(self, database: Database, names: Names) -> None:
        self._database = database
        self._names = names
        self._after: tuple[int, int] = (0, 0)

    def convert(self, sites: list[str]) -> tuple[int, bool]:
        """Write the samples of messages of these sites whose catalogue has come; how many, and whether there are more.

        Call it again where there are.
        """
        waiting = self._database.call(
            lambda connection: connection.execute(_WAITING, (sites, *self._after, CONVERTED_AT_ONCE)).fetchall()
        )
        done = 0
        for site, seq in waiting:
            self._after = int(str(site)), int(str(seq))
            try:
                done += self._database.call(partial(self._convert, refusal=""))
            except BadValueError as error:
                reason = f"PostgreSQL does not take it: {error}".splitlines()[0]
                done += self._database.call(partial(self._convert, refusal=reason))
        more = len(waiting) == CONVERTED_AT_ONCE
        if not more:
            self._after = (0, 0)
        return done, more

    def sites_waiting(self) -> list[str]:
        """The sites of which messages wait for a catalogue."""
        rows = self._database.call(
            lambda connection: connection.execute(
                "SELECT name FROM enlace.site WHERE EXISTS (SELECT FROM enlace.pending WHERE pending.site = site.id)"
            ).fetchall()
        )
        return [str(name) for (name,) in rows]

    def _convert(self, connection: Connection, refusal: str) -> int:
        """Convert the message at ``_after``, or refuse it for that reason; 1 when it was, 0 when it goes on waiting."""
        site, seq = self._after
        row = connection.execute(_ONE, (site, seq)).fetchone()
        if row is None:
            return 0
        payload, boot, epoch, name = row
        assert isinstance(payload, bytes)  # noqa: S101 - the columns' types
        assert isinstance(boot, int)  # noqa: S101
        assert isinstance(epoch, int)  # noqa: S101
        parsed = parse(f"{name}/{TELEMETRY}", payload)
        bad = Bad(str(name), f"{name}/{TELEMETRY}", refusal, payload)
        placed: list[Placed] = []
        if isinstance(parsed, TelemetryIn) and not refusal:
            try:
                found = samples(parsed.message, self._names.meanings(connection, site, epoch))
                placed = [Placed(found, None if parsed.numbers.clock_set else boot)]
            except MissingSignalError:
                return 0
            except PayloadError as error:
                bad = Bad(str(name), bad.topic, str(error), payload)
            writing.make_months(connection, months([column.times_us for column in parsed.message.columns]))
        with connection.transaction():
            gone = connection.execute("DELETE FROM enlace.pending WHERE site = %s AND seq = %s", (site, seq))
            if not gone.rowcount:
                return 0  # another worker was faster
            rows = sum(len(one.samples) for one in placed)
            writing.write_samples(connection, placed)
            writing.insert_refused(connection, [] if placed else [bad], {str(name): site})
            connection.execute(
                """UPDATE enlace.record SET rows = %s, refused = %s
                    WHERE site = %s AND stream = 'telemetry' AND seq = %s""",
                (rows, not placed, site, seq),
            )
        return 1

    def correct(self) -> int:
        """Give samples and events of boots whose clock was set later their right times; how many boots."""
        return self._database.call(_correct)


def _correct(connection: Connection) -> int:
    connection.execute(_COLLECT)
    due: dict[int, set[str]] = {}
    for boot, month in connection.execute(_DUE).fetchall():
        found = due.setdefault(int(str(boot)), set())
        if month is not None:
            found.add(str(month))
    for boot, wanted in due.items():
        writing.make_months(connection, wanted)
        with connection.transaction():
            connection.execute(_MOVE, (boot, boot))
            connection.execute(_SHIFT, (boot,))
    return len(due)
