"""The tables of the central database, as a list of steps that only ever grows: step N brings it from version N-1 to N.

Rules of this file:

1. A step that has left the house is never changed; a new need is a new step. All steps are done in one transaction.
2. A sample is (series, t, value, exact). ``series`` stands for a signal with one meaning: a gateway whose store began
   anew gives its numbers again, with other meanings perhaps, which makes a new *epoch* of series. A boot belongs to one
   epoch. ``value`` is physical, NULL says that the signal became unknown then; ``exact`` is there only for whole
   numbers beyond 2**53, which a double does not hold.
3. ``sample`` has no unique index: rule 2 of the package. It is split by months, or a hypertable where the database has
   TimescaleDB. Times that are far off (a clock that was never set) stand in ``sample_other``.
4. Samples of a boot whose clock was not set yet stand in ``sample_unset`` until its ``clock.corrected`` comes, and are
   moved then: each is corrected once because it is moved once.
5. Who writes needs no right to change tables: new months are made by a function that runs as their owner.
"""

import logging

import psycopg

from agent.core.errors import ConfigError

_log = logging.getLogger(__name__)

Connection = psycopg.Connection[tuple[object, ...]]

#: Any number that nothing else in the database takes as an advisory lock.
LOCK_MIGRATE = 0x454E4C01
LOCK_PRUNE = 0x454E4C02
LOCK_MONTH = 0x454E4C03

_TABLES = """
CREATE TYPE enlace.stream AS ENUM ('telemetry', 'event');

CREATE TABLE enlace.site(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
    online boolean, online_since timestamptz, software text, added timestamptz NOT NULL DEFAULT now(),
    epoch int NOT NULL DEFAULT 1, catalog_version bigint NOT NULL DEFAULT 0, refused bigint NOT NULL DEFAULT 0);

CREATE TABLE enlace.series(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, site int NOT NULL REFERENCES enlace.site,
    epoch int NOT NULL, signal bigint NOT NULL, device text NOT NULL, point text NOT NULL, unit text NOT NULL,
    kind text NOT NULL, encoding text NOT NULL, scale text NOT NULL, "offset" text NOT NULL, labels jsonb NOT NULL,
    source text NOT NULL, UNIQUE(site, epoch, signal));
CREATE INDEX series_name ON enlace.series(site, device, point);

CREATE TABLE enlace.boot(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, site int NOT NULL REFERENCES enlace.site,
    boot text NOT NULL, epoch int NOT NULL, first_seen timestamptz NOT NULL DEFAULT now(), UNIQUE(site, boot));
CREATE TABLE enlace.correction(boot int PRIMARY KEY REFERENCES enlace.boot, offset_us bigint NOT NULL,
    from_us bigint NOT NULL, to_us bigint NOT NULL, seq bigint NOT NULL, samples bigint NOT NULL DEFAULT 0);

CREATE TABLE enlace.stream_state(site int NOT NULL REFERENCES enlace.site, stream enlace.stream NOT NULL,
    start_seq bigint NOT NULL, upto bigint NOT NULL, base bigint NOT NULL, newest bigint NOT NULL,
    pruned bigint NOT NULL DEFAULT 0, seen timestamptz NOT NULL DEFAULT now(), PRIMARY KEY(site, stream))
    WITH (fillfactor = 50);
CREATE TABLE enlace.record(site int NOT NULL, stream enlace.stream NOT NULL, first_seq bigint NOT NULL,
    seq bigint NOT NULL, received timestamptz NOT NULL DEFAULT now(), boot int NOT NULL, rows int NOT NULL,
    clock_set boolean NOT NULL, refused boolean NOT NULL, PRIMARY KEY(site, stream, seq));
CREATE INDEX record_received ON enlace.record USING brin(received);

CREATE TABLE enlace.gap(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, site int NOT NULL REFERENCES enlace.site,
    stream enlace.stream NOT NULL, from_seq bigint NOT NULL, to_seq bigint NOT NULL,
    opened timestamptz NOT NULL DEFAULT now(), closed timestamptz,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'filled', 'lost')));
CREATE INDEX gap_site ON enlace.gap(site, stream, from_seq);
CREATE INDEX gap_open ON enlace.gap(site, stream) WHERE state = 'open';

CREATE TABLE enlace.event(site int NOT NULL REFERENCES enlace.site, seq bigint NOT NULL, boot int NOT NULL,
    kind text NOT NULL, t timestamptz NOT NULL, subject text NOT NULL, data jsonb NOT NULL, hash text NOT NULL,
    clock text NOT NULL CHECK (clock IN ('set', 'unset', 'corrected')), PRIMARY KEY(site, seq));
CREATE INDEX event_time ON enlace.event(site, t);
CREATE INDEX event_kind ON enlace.event(kind text_pattern_ops, t);
CREATE INDEX event_unset ON enlace.event(boot) WHERE clock = 'unset';

CREATE TABLE enlace.pending(site int NOT NULL, first_seq bigint NOT NULL, seq bigint NOT NULL,
    received timestamptz NOT NULL DEFAULT now(), boot int NOT NULL, payload bytea NOT NULL, PRIMARY KEY(site, seq));
CREATE TABLE enlace.refused(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
    topic text NOT NULL, reason text NOT NULL, bytes int NOT NULL, payload bytea NOT NULL);

CREATE TABLE enlace.sample_unset(boot int NOT NULL, series int NOT NULL, t timestamptz NOT NULL, value float8,
    exact numeric);
CREATE INDEX sample_unset_boot ON enlace.sample_unset(boot);
CREATE INDEX sample_unset_series ON enlace.sample_unset(series, t);
"""

_COLUMNS = "series int NOT NULL, t timestamptz NOT NULL, value float8, exact numeric"

#: Plain PostgreSQL: a partition for each month.
_MONTHS = f"""
CREATE TABLE enlace.sample({_COLUMNS}) PARTITION BY RANGE (t);
CREATE INDEX sample_series ON enlace.sample(series, t);
CREATE TABLE enlace.sample_other PARTITION OF enlace.sample DEFAULT;

CREATE FUNCTION enlace.make_month(month date) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first date := date_trunc('month', month)::date;
    next date := (first + interval '1 month')::date;
    name text := 'sample_' || to_char(first, 'YYYY_MM');
BEGIN
    IF first < date '2020-01-01' OR first > now()::date + 40 THEN RETURN false; END IF;
    PERFORM pg_advisory_xact_lock({LOCK_MONTH});
    IF to_regclass('enlace.' || name) IS NOT NULL THEN RETURN false; END IF;
    EXECUTE format('CREATE TABLE enlace.%I (LIKE enlace.sample INCLUDING ALL)', name);
    -- What a clock that ran ahead has put beside.
    EXECUTE format('WITH moved AS (DELETE FROM enlace.sample_other WHERE t >= %L AND t < %L RETURNING *)
        INSERT INTO enlace.%I SELECT * FROM moved', first::timestamptz, next::timestamptz, name);
    EXECUTE format('ALTER TABLE enlace.sample ATTACH PARTITION enlace.%I FOR VALUES FROM (%L) TO (%L)',
        name, first::timestamptz, next::timestamptz);
    RETURN true;
END $$;
"""  # noqa: S608 - our own constants

#: With TimescaleDB. Its function does nothing: the extension makes its chunks by itself.
_HYPERTABLE = f"""
CREATE TABLE enlace.sample({_COLUMNS});
SELECT create_hypertable('enlace.sample', 't', chunk_time_interval => interval '1 day',
    create_default_indexes => false);
CREATE INDEX sample_series ON enlace.sample(series, t);
CREATE FUNCTION enlace.make_month(month date) RETURNS boolean LANGUAGE sql AS 'SELECT false';
"""

_VIEWS = """
CREATE VIEW enlace.samples AS
SELECT site.name AS site, series.device, series.point, series.unit, series.kind, s.t, s.value, s.exact, s.clock,
    CASE WHEN s.value = trunc(s.value) AND abs(s.value) < 1e18 THEN series.labels ->> s.value::bigint::text END
        AS label, series.id AS series
FROM (SELECT series, t, value, exact, 'set' AS clock FROM enlace.sample
    UNION ALL SELECT series, t, value, exact, 'unset' FROM enlace.sample_unset) s
JOIN enlace.series ON series.id = s.series JOIN enlace.site ON site.id = series.site;

CREATE VIEW enlace.events AS
SELECT site.name AS site, event.seq, event.kind, event.t, event.subject, event.data, event.clock, event.hash, boot.boot
FROM enlace.event JOIN enlace.site ON site.id = event.site JOIN enlace.boot ON boot.id = event.boot;

-- The right time of what a boot stamped with that time before its clock was set.
CREATE FUNCTION enlace.corrected(t timestamptz, c enlace.correction) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN t BETWEEN 'epoch'::timestamptz + c.from_us * interval '1 microsecond'
        AND 'epoch'::timestamptz + c.to_us * interval '1 microsecond'
    THEN t + c.offset_us * interval '1 microsecond' ELSE t END $$;

CREATE FUNCTION enlace.whole(value jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE jsonb_typeof(value) WHEN 'number' THEN value::numeric END $$;

CREATE VIEW enlace.gaps AS
SELECT site.name AS site, gap.stream, gap.from_seq, gap.to_seq, gap.state, gap.opened, gap.closed,
    reason.kind AS reason, reason.data AS reason_data
FROM enlace.gap JOIN enlace.site ON site.id = gap.site
LEFT JOIN LATERAL (SELECT kind, data FROM enlace.event WHERE event.site = gap.site AND (
    (kind IN ('store.dropped', 'uplink.set_aside') AND coalesce(data ->> 'stream', subject) = gap.stream::text
        AND enlace.whole(coalesce(data -> 'from_seq', data -> 'first_seq')) <= gap.to_seq
        AND enlace.whole(coalesce(data -> 'to_seq', data -> 'seq')) >= gap.from_seq)
    OR (kind = 'store.moved_aside' AND event.seq >= gap.from_seq AND event.t < gap.opened + interval '1 day'
        AND event.t > gap.opened - interval '1 day'))
    ORDER BY event.seq LIMIT 1) reason ON true;

CREATE VIEW enlace.sites AS
SELECT site.name AS site, site.online, site.online_since, site.software, site.refused,
    greatest(t.seen, e.seen) AS seen,
    t.upto AS telemetry_upto, t.newest - t.upto AS telemetry_behind,
    e.upto AS event_upto, e.newest - e.upto AS event_behind,
    (SELECT count(*) FROM enlace.gap WHERE gap.site = site.id AND state = 'open') AS gaps_open,
    (SELECT count(*) FROM enlace.gap WHERE gap.site = site.id AND state = 'lost') AS gaps_lost,
    (SELECT count(*) FROM enlace.pending WHERE pending.site = site.id) AS pending
FROM enlace.site
LEFT JOIN enlace.stream_state t ON t.site = site.id AND t.stream = 'telemetry'
LEFT JOIN enlace.stream_state e ON e.site = site.id AND e.stream = 'event';
"""


def steps(*, timescale: bool) -> tuple[str, ...]:
    """The SQL of each step."""
    return (_TABLES + (_HYPERTABLE if timescale else _MONTHS) + _VIEWS,)


def has_timescale(connection: Connection) -> bool:
    """Whether the database has the extension (CREATE EXTENSION is the owner's to do)."""
    found = connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    return found is not None


def version(connection: Connection) -> int:
    """The version of the tables; 0 before the first step."""
    # Not to_regclass, which within a transaction may still remember that there was none.
    there = "SELECT FROM pg_tables WHERE schemaname = 'enlace' AND tablename = 'migration'"
    if connection.execute(there).fetchone() is None:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM enlace.migration").fetchone()
    return int(str(row[0])) if row else 0


def migrate(connection: Connection) -> None:
    """Bring the tables up to date, all steps or none; nothing when they are. Raises ``ConfigError``, ``psycopg.Error``.

    Any number of workers may do it at the same time.
    """
    wanted = steps(timescale=has_timescale(connection))
    found = version(connection)
    if found > len(wanted):
        hint = "update this machine's program, or restore the database as it was"
        raise ConfigError("central database", f"is of version {found}, this program knows {len(wanted)}", hint)
    if found == len(wanted):
        return
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_MIGRATE,))
            found = version(connection)
            connection.execute("CREATE SCHEMA IF NOT EXISTS enlace")
            connection.execute(
                """CREATE TABLE IF NOT EXISTS enlace.migration(version int PRIMARY KEY,
                    at timestamptz NOT NULL DEFAULT now())"""
            )
            for number in range(found, len(wanted)):
                connection.execute(wanted[number].encode())
                connection.execute("INSERT INTO enlace.migration(version) VALUES (%s)", (number + 1,))
    except psycopg.errors.InsufficientPrivilege as error:
        hint = "run `enlace central --migrate` as the owner, see docs/central.md"
        raise ConfigError("central database", "its tables are not up to date and this role may not", hint) from error
    _log.info("the central database is at version %d now", len(wanted))
