"""The tables, as a list of steps that only ever grows. Step N brings a store from ``user_version`` N-1 to N.

Rules of this file:

1. A step that has left the house is never changed; a new need is a new step. Each step is one transaction.
2. Times are µs since 1970 UTC, roll-up times are whole minutes or hours since then.
3. ``hot`` takes each second's block; ``block`` holds what was sealed from it. A block is named by the last number
   (``seq``) of those that it covers, the first one stands beside it. Numbers are never given twice.
4. Roll-ups hold numbers as the device sent them (before scale and offset), so that they stay exact and small.
   ``last`` is NULL when the signal was unknown at the end of the bucket, ``lo`` and ``hi`` when it was all along.
5. Events, sessions, notes and maintenance are never dropped by retention, whatever their age and the size of the file.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

#: "ENLC": says in the file's header whose file it is.
APPLICATION_ID = 0x454E4C43

_ROLLUP = """CREATE TABLE {name}(
    signal INTEGER NOT NULL, t INTEGER NOT NULL, lo, hi, sum, last, count INTEGER NOT NULL, gaps INTEGER NOT NULL,
    PRIMARY KEY(signal, t)) WITHOUT ROWID"""

_FIRST = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    # mono_us: the monotonic clock at the same moment, so that this boot's wall times can be corrected later.
    """CREATE TABLE boot(id INTEGER PRIMARY KEY, boot TEXT NOT NULL UNIQUE, wall_us INTEGER NOT NULL,
        mono_us INTEGER NOT NULL)""",
    # given: rises with each assignment, so that the newest meaning of a name is known when an old one comes back.
    """CREATE TABLE signal(id INTEGER PRIMARY KEY, device TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL,
        kind TEXT NOT NULL, encoding INTEGER NOT NULL, scale NOT NULL, "offset" NOT NULL, labels TEXT NOT NULL,
        source TEXT NOT NULL, given INTEGER NOT NULL,
        UNIQUE(device, name, unit, kind, encoding, scale, "offset"))""",
    """CREATE TABLE hot(seq INTEGER PRIMARY KEY, boot INTEGER NOT NULL, from_us INTEGER NOT NULL,
        to_us INTEGER NOT NULL, rows INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL)""",
    """CREATE TABLE block(seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, boot INTEGER NOT NULL,
        from_us INTEGER NOT NULL, to_us INTEGER NOT NULL, rows INTEGER NOT NULL, crc INTEGER NOT NULL,
        data BLOB NOT NULL)""",
    "CREATE INDEX block_time ON block(from_us, to_us, rows)",
    _ROLLUP.format(name="minute"),
    _ROLLUP.format(name="hour"),
    """CREATE TABLE event(seq INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_us INTEGER NOT NULL, kind TEXT NOT NULL,
        subject TEXT NOT NULL, data TEXT NOT NULL)""",
    # sent: the highest seq that may have left; sending: all that there are may have.
    """CREATE TABLE cursor(stream TEXT PRIMARY KEY, acked INTEGER NOT NULL DEFAULT 0,
        sent INTEGER NOT NULL DEFAULT 0, sending INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
    # signal NULL: all signals.
    """CREATE TABLE dropped(id INTEGER PRIMARY KEY, t_us INTEGER NOT NULL, signal INTEGER, from_us INTEGER NOT NULL,
        to_us INTEGER NOT NULL, count INTEGER NOT NULL, reason TEXT NOT NULL)""",
    # Damaged records, kept as evidence and out of the way of those behind them.
    """CREATE TABLE aside(id INTEGER PRIMARY KEY, t_us INTEGER NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL,
        first_seq INTEGER NOT NULL, boot INTEGER NOT NULL, reason TEXT NOT NULL, data BLOB NOT NULL)""",
    "CREATE TABLE mark(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)

#: Charging sessions (``agent.core.model.Session``), and small state by kind and key.
_SESSIONS_AND_NOTES = (
    """CREATE TABLE session(id INTEGER PRIMARY KEY, device TEXT NOT NULL, outlet INTEGER NOT NULL, key TEXT NOT NULL,
        start_us INTEGER NOT NULL, remote_id TEXT NOT NULL, id_tag TEXT NOT NULL, start_wh, last_wh, last_us INTEGER,
        stop_us INTEGER, energy_wh, reason TEXT NOT NULL, data TEXT NOT NULL, UNIQUE(device, key))""",
    "CREATE INDEX session_running ON session(device) WHERE stop_us IS NULL",
    "CREATE INDEX session_remote ON session(device, remote_id) WHERE remote_id <> ''",
    "CREATE INDEX session_time ON session(start_us)",
    """CREATE TABLE note(kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL,
        PRIMARY KEY(kind, key)) WITHOUT ROWID""",
)

#: The chain over the ledger (``chain.py``). Events that were there before have no hash.
_CHAIN = (
    "ALTER TABLE event ADD COLUMN hash BLOB",
    """CREATE TABLE chain_start(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, rows INTEGER NOT NULL,
        salt BLOB NOT NULL)""",
    "CREATE TABLE chain_head(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL)",
    "INSERT INTO chain_start SELECT 1, ifnull(max(seq), 0), count(*), randomblob(32) FROM event",
)

#: Which rows clients posted (``posting.py``): at which µs of a minute a device has one.
_POSTED = (
    """CREATE TABLE posted(device TEXT NOT NULL, minute INTEGER NOT NULL, offsets BLOB NOT NULL,
        PRIMARY KEY(device, minute)) WITHOUT ROWID""",
)

#: What was done to machines (``maintenance.py``; an entry is corrected once at most), and how often stations were
#: switched on, by days since 1970 UTC; ``is_on`` is what was decided last that day.
_MAINTENANCE = (
    """CREATE TABLE maintenance(id INTEGER PRIMARY KEY, machine TEXT NOT NULL, t_us INTEGER NOT NULL,
        kind TEXT NOT NULL, plan TEXT NOT NULL, void INTEGER NOT NULL, corrects INTEGER UNIQUE, key TEXT UNIQUE,
        created_us INTEGER NOT NULL, created_by TEXT NOT NULL, data TEXT NOT NULL)""",
    "CREATE INDEX maintenance_machine ON maintenance(machine, t_us)",
    "CREATE INDEX maintenance_time ON maintenance(t_us)",
    """CREATE TABLE switched(station TEXT NOT NULL, day INTEGER NOT NULL, count INTEGER NOT NULL,
        is_on INTEGER NOT NULL, PRIMARY KEY(station, day)) WITHOUT ROWID""",
)

#: ``boot.clock``: ``set``, ``unset`` (wall times of this boot can't be trusted) or ``corrected`` (``offset_us`` is to
#: be added to its times from ``from_us`` to ``to_us``, and to those of events up to ``event_seq``); ``clock`` of blocks
#: is their mark (``boots.py``). ``block.level``: how far it was thinned (``thinning.py``). ``dropped``: which numbers
#: went, and whether the ledger tells of it (``dropped.py``). ``wear``: bytes written by days since 1970 UTC.
_CLOCK_AND_WEAR = (
    "ALTER TABLE boot ADD COLUMN clock TEXT NOT NULL DEFAULT 'set'",
    "ALTER TABLE boot ADD COLUMN offset_us INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE boot ADD COLUMN from_us INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE boot ADD COLUMN to_us INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE boot ADD COLUMN event_seq INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE hot ADD COLUMN clock INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE block ADD COLUMN clock INTEGER NOT NULL DEFAULT 0",
    # Nearly always empty; a column behind a block's bytes is dear to read.
    "CREATE INDEX hot_marked ON hot(seq, boot, clock) WHERE clock <> 0",
    "CREATE INDEX block_marked ON block(seq, boot, clock) WHERE clock <> 0",
    "ALTER TABLE dropped ADD COLUMN stream TEXT",
    "ALTER TABLE dropped ADD COLUMN from_seq INTEGER",
    "ALTER TABLE dropped ADD COLUMN to_seq INTEGER",
    "ALTER TABLE dropped ADD COLUMN told INTEGER NOT NULL DEFAULT 1",
    """CREATE UNIQUE INDEX dropped_of_signal ON dropped(reason, stream, signal)
        WHERE told = 0 AND signal IS NOT NULL""",
    "CREATE INDEX dropped_untold ON dropped(reason, stream, to_seq) WHERE told = 0 AND signal IS NULL",
    "ALTER TABLE block ADD COLUMN level INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX block_level ON block(level, seq)",
    """CREATE TABLE wear(day INTEGER NOT NULL, component TEXT NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY(day, component)) WITHOUT ROWID""",
)

STEPS: tuple[tuple[str, ...], ...] = (_FIRST, _SESSIONS_AND_NOTES, _CHAIN, _POSTED, _MAINTENANCE, _CLOCK_AND_WEAR)


#: The mark behind which both streams' numbers begin in this file.
NUMBERS_FROM = "numbers_from"
#: Numbers of both streams up to this mark count as given: a restored file goes on above all that its site ever gave.
NUMBERS_GIVEN = "numbers_given"
#: The same of the signals' numbers.
SIGNALS_GIVEN = "signals_given"
#: Up to there a backup of this file holds the telemetry.
COPIED = "copied_seq"
#: The mark of the newest session's number: it stays when the session is gone.
SESSION_NUMBER = "session_number"


def version(connection: sqlite3.Connection) -> int:
    """The ``user_version`` of a store; 0 of a new file."""
    number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return number


def statements(connection: sqlite3.Connection) -> dict[str, bytes]:
    """The statement that made each table and index of a store, by name; as bytes, for any of them may be damaged."""
    rows = connection.execute("SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_master WHERE sql IS NOT NULL")
    return {bytes(name).decode(errors="replace"): bytes(sql) for name, sql in rows}


def expected(number: int) -> dict[str, bytes]:
    """What ``statements`` gives of a store of that version."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, STEPS[:number])
        return statements(connection)


def migrate(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Bring the store up to ``len(steps)``. Each step is done wholly or not at all. Raises ``sqlite3.Error``."""
    for number in range(version(connection), len(steps)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in steps[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def get_mark(connection: sqlite3.Connection, name: str) -> int:
    """A progress mark; 0 before it was first set."""
    row = connection.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def set_mark(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Set a progress mark inside the caller's transaction."""
    connection.execute("INSERT OR REPLACE INTO mark VALUES(?, ?)", (name, value))
