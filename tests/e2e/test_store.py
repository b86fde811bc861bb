"""The store on real files: opening what is there, numbers that last, order, and what a reader may see."""

import sqlite3
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import StoreError
from agent.core.model import Batch, Encoding, Event, Kind, SignalSpec
from agent.store import schema, sealing
from agent.store.admin import describe
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.settings import StoreSettings

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "enlace.db"


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[Store]:
    opened = Store.open(path, clock)
    yield opened
    opened.close()


def put(store: Store, signal: int, t_us: int, *words: int) -> None:
    store.append(
        Batch(array("i", [signal] * len(words)), array("q", range(t_us, t_us + len(words))), array("q", words))
    )


def words_of(store: Store, signal: int = 1) -> list[object]:
    store.flush().result(WAIT_S)
    return [value for _, _, value in store.rows([signal], -(2**62), 2**62)]


# -- opening


def test_a_new_file_gets_the_pragmas_of_the_house(path: Path, clock: FakeClock) -> None:
    Store.open(path, clock).close()
    with closing(connect(path)) as connection:
        pragma = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "auto_vacuum", "application_id", "user_version", "synchronous", "busy_timeout")
        }
    assert pragma == {
        "journal_mode": "wal",
        "auto_vacuum": 2,
        "application_id": schema.APPLICATION_ID,
        "user_version": len(schema.STEPS),
        "synchronous": 2,
        "busy_timeout": 10_000,
    }


def test_every_connection_is_synchronous_full(store: Store) -> None:
    assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    with store._readers.snapshot() as reader:
        assert reader.execute("PRAGMA synchronous").fetchone()[0] == 2
    with pytest.raises(StoreError, match="readonly"), store._readers.snapshot() as reader:
        reader.execute("DELETE FROM event")


def test_each_opening_is_a_boot_of_its_own(path: Path, clock: FakeClock) -> None:
    boots = []
    for _ in range(2):
        with closing(Store.open(path, clock)) as store:
            boots.append(store.boot)
            assert store.opened.moved_to is None
        clock.advance(3600)
    assert all(len(boot) == 32 and int(boot, 16) for boot in boots)
    with closing(connect(path)) as connection:
        rows = connection.execute("SELECT boot, wall_us, mono_us FROM boot ORDER BY id").fetchall()
    assert [row[0] for row in rows] == boots
    assert rows[1][1] - rows[0][1] == rows[1][2] - rows[0][2] == 3_600_000_000


def _foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA application_id = 77; CREATE TABLE theirs(a); INSERT INTO theirs VALUES(1);")


def _nameless_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs(a)")


def _newer_database(path: Path) -> None:
    Store.open(path, FakeClock()).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.STEPS) + 1}")


def _torn_database(path: Path) -> None:
    with closing(Store.open(path, FakeClock())) as store:
        put(store, 1, 0, *range(5000))
    path.write_bytes(path.read_bytes()[:9000])


def _scribbled_database(path: Path) -> None:
    Store.open(path, FakeClock()).close()
    data = bytearray(path.read_bytes())
    data[4096:40_000] = b"\xa5" * (40_000 - 4096)
    path.write_bytes(data)


def _misspelt_database(path: Path) -> None:
    """One bit in the name of a column, which SQLite's own check does not mind."""
    Store.open(path, FakeClock()).close()
    content = path.read_bytes()
    assert content.count(b"energy_wh") == 1
    path.write_bytes(content.replace(b"energy_wh", b"energy_wi"))


def _unreadable_schema(path: Path) -> None:
    """SQLite's message about it quotes a letter that is none."""
    Store.open(path, FakeClock()).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE note(kind", b"CREATE TABLE note(\xc5ind"))


def _tableless_database(path: Path) -> None:
    Store.open(path, FakeClock()).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE mark")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.write_text("device,soc\n" * 50), "foreign"),
        (lambda path: path.write_bytes(b"SQLite"), "corrupt"),
        (_foreign_database, "foreign"),
        (_nameless_database, "foreign"),
        (_newer_database, "newer"),
        (_torn_database, "corrupt"),
        (_scribbled_database, "corrupt"),
        (_tableless_database, "corrupt"),
        (_misspelt_database, "corrupt"),
        (_unreadable_schema, "corrupt"),
    ],
)
def test_an_unusable_file_is_moved_aside_whole(path: Path, clock: FakeClock, make: object, kind: str) -> None:
    assert callable(make)
    make(path)
    content = path.read_bytes()
    path.with_name("enlace.db-wal").write_bytes(b"what a crash left")
    with closing(Store.open(path, clock)) as store:
        moved_to = store.opened.moved_to
        assert moved_to is not None
        assert moved_to.name == f"enlace.db.{kind}-20231114T221320Z"
        assert moved_to.read_bytes() == content
        assert moved_to.with_name(moved_to.name + "-wal").read_bytes() == b"what a crash left"
        put(store, 1, 0, 5)
        assert words_of(store) == []  # no such signal: the store starts empty
        assert store.assign([SignalSpec("a", "b")])[0].id == 1
        assert words_of(store) == [5]
        events = store.events(0, 10, "store.moved_aside")
        assert len(events) == 1
        assert events[0].event.data["moved_to"] == str(moved_to)
        assert events[0].event.data["reason"] == store.opened.reason != ""


def test_two_files_moved_aside_in_one_second_both_stay(path: Path, clock: FakeClock) -> None:
    for text in ("one " * 50, "two " * 50):
        path.unlink(missing_ok=True)
        path.write_text(text)
        Store.open(path, clock).close()
    assert len(list(path.parent.glob("enlace.db.foreign-*"))) == 2


def test_a_log_without_its_file_is_kept(path: Path, clock: FakeClock) -> None:
    path.with_name("enlace.db-wal").write_bytes(b"all that is left")
    with closing(Store.open(path, clock)) as store:
        assert store.opened.moved_to is not None
    assert [p.read_bytes() for p in path.parent.glob("*corrupt*-wal")] == [b"all that is left"]


def test_an_empty_file_is_a_new_store(path: Path, clock: FakeClock) -> None:
    path.touch()
    with closing(Store.open(path, clock)) as store:
        assert store.opened.moved_to is None


def test_every_place_of_damage_leaves_a_store_that_opens(path: Path, clock: FakeClock) -> None:
    with closing(Store.open(path, clock)) as store:
        store.assign([SignalSpec("d", f"n{n}") for n in range(50)])
        for second in range(30):
            put(store, second % 50 + 1, second * 1_000_000, *range(200))
            store.flush().result(WAIT_S)
        store.maintain().result(WAIT_S)
    content = path.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for position in random.integers(0, len(content), 60).tolist():
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(random.integers(0, 8))
        for leftover in path.parent.iterdir():
            leftover.unlink()
        path.write_bytes(damaged)
        with closing(Store.open(path, clock)) as store:
            refused += store.opened.moved_to is not None
            signal = store.assign([SignalSpec("d", "n1")])[0]
            put(store, signal.id, 10**15, 7)
            store.flush().result(WAIT_S)
            assert [row[2] for row in store.rows([signal.id], 10**15, 10**16)] == [7]
            assert store.stats().error is None
        if store.opened.moved_to is not None:
            assert store.opened.moved_to.read_bytes() == bytes(damaged)
    assert refused < 60  # most of the file is sample data, whose damage must not cost the rest


def test_a_check_that_takes_too_long_is_cut_short(path: Path) -> None:
    with closing(Store.open(path, SystemClock())) as store:
        for second in range(40):
            put(store, 1, second, *np.random.default_rng(second).integers(0, 2**62, 4000).tolist())
            store.flush().result(WAIT_S)
    with closing(Store.open(path, SystemClock(), StoreSettings(check_s=-1.0))) as store:
        assert store.opened.moved_to is None
        assert store.stats().rows == 160_000


def test_a_second_process_is_told(store: Store, path: Path, clock: FakeClock) -> None:
    with pytest.raises(StoreError, match="another process has it open"):
        Store.open(path, clock)
    store.flush().result(WAIT_S)


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "file" / "enlace.db", clock)
    assert "data_dir" in caught.value.hint
    with pytest.raises(StoreError):
        Store.open(Path("/proc/enlace/enlace.db"), clock)


# -- schema


def test_version_1_is_upgraded_in_whole_steps(path: Path, clock: FakeClock) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, schema.STEPS[:1])
        assert schema.version(connection) == 1
        connection.execute(
            "INSERT INTO event(seq, boot, t_us, kind, subject, data) VALUES(1, 1, 5, 'old.event', '', '{}')"
        )
        broken = (*schema.STEPS[:1], ("CREATE TABLE added(a)", "ALTER TABLE event ADD COLUMN mono_us", "nonsense"))
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(connection, broken)
        assert schema.version(connection) == 1
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert "added" not in tables
        good = (*schema.STEPS[:1], ("CREATE TABLE added(a)", "ALTER TABLE event ADD COLUMN mono_us"))
        schema.migrate(connection, good)
        assert schema.version(connection) == 2
        assert connection.execute("SELECT kind, mono_us FROM event").fetchall() == [("old.event", None)]
        schema.migrate(connection, good)
        assert schema.version(connection) == 2


@pytest.mark.parametrize("version", range(1, len(schema.STEPS)))
def test_an_older_file_keeps_all_that_it_has(path: Path, clock: FakeClock, version: int) -> None:
    """Killed before, between and after the statements of a step: it is the old version or the new, and opens."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        schema.migrate(connection, schema.STEPS[:version])
        connection.execute(
            "INSERT INTO event(seq, boot, t_us, kind, subject, data) VALUES(1, 1, 5, 'old.event', '', '{}')"
        )
        for done in range(len(schema.STEPS[version]) + 1):
            connection.execute("BEGIN IMMEDIATE")
            for statement in schema.STEPS[version][:done]:
                connection.execute(statement)
            with closing(sqlite3.connect(path)) as other:  # what somebody finds who comes after a kill
                assert schema.version(other) == version
                assert schema.statements(other) == schema.expected(version)
            connection.execute("ROLLBACK")
    counts = describe(path)
    assert counts["event"] == 1
    assert ("session" in counts) == (version > 1)
    with closing(Store.open(path, clock)) as store:
        assert store.opened.moved_to is None
        assert [stored.event.kind for stored in store.events(0, 9)] == ["old.event"]
        assert store.list_sessions() == (0, [])
        assert schema.version(store._connection) == len(schema.STEPS)
    assert describe(path)["session"] == 0


@pytest.mark.parametrize("version", range(1, len(schema.STEPS)))
def test_a_kill_while_a_step_is_done_leaves_the_old_schema(path: Path, clock: FakeClock, version: int) -> None:
    script = f"""
import os, sqlite3, sys
sys.path.insert(0, {str(ROOT)!r})
from agent.store import schema
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
schema.migrate(connection, schema.STEPS[:{version}])
connection.execute(
    "INSERT INTO event(seq, boot, t_us, kind, subject, data) VALUES(1, 1, 5, 'old.event', '', '{{}}')"
)
connection.create_function("die", 0, lambda: os.kill(os.getpid(), 9))
schema.migrate(connection, (*schema.STEPS[:{version}], (*schema.STEPS[{version}][:-1], "SELECT die()")))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with closing(sqlite3.connect(path)) as connection:
        assert schema.version(connection) == version
    with closing(Store.open(path, clock)) as store:
        assert store.opened.moved_to is None
        assert [stored.event.kind for stored in store.events(0, 9)] == ["old.event"]


# -- catalogue

CELL = SignalSpec("bat", "cell_voltage_v.1", "V", Kind.GAUGE, Encoding.INT, 0.001, 0)


def test_a_meaning_keeps_its_number_for_ever(path: Path, clock: FakeClock) -> None:
    other = SignalSpec("bat", "cell_voltage_v.1", "V", Kind.GAUGE, Encoding.INT, 0.01, 0)
    with closing(Store.open(path, clock)) as store:
        assert store.catalog() == (0, ())
        first = store.assign([CELL, SignalSpec("bat", "soc_pct", "%")])
        assert [signal.id for signal in first] == [1, 2]
        assert store.catalog() == (1, tuple(first))
        assert store.assign([CELL]) == first[:1]
        assert store.catalog()[0] == 1  # nothing changed
        assert store.assign([other])[0].id == 3
        assert store.ids_of("bat", "cell_voltage_v.1") == [1, 3]
    with closing(Store.open(path, clock)) as store:
        assert store.catalog()[0] == 2
        assert [signal.scale for signal in store.catalog()[1]] == [0.001, 1, 0.01]
        assert store.assign([CELL])[0].id == 1  # the old meaning came back
        assert store.ids_of("bat", "cell_voltage_v.1") == [3, 1]
        assert store.ids_of("bat", "nothing") == []
        assert store.catalog()[0] == 3


def test_labels_and_source_change_in_place(store: Store) -> None:
    spec = SignalSpec("bat", "bms_state", kind=Kind.STATE, labels={0: "off", 1: "on"}, source="0x1")
    assert store.assign([spec])[0].labels == {0: "off", 1: "on"}
    newer = SignalSpec("bat", "bms_state", kind=Kind.STATE, labels={0: "off", 1: "on", 2: "fault"}, source="0x2")
    signal = store.assign([newer])[0]
    assert (signal.id, signal.labels[2], signal.source) == (1, "fault", "0x2")
    version, signals = store.catalog()
    assert (version, len(signals)) == (2, 1)


def test_what_is_kept_in_memory_of_the_catalogue_is_what_the_file_holds(path: Path, clock: FakeClock) -> None:
    names = [f"cell_voltage_v.{number}" for number in range(5)]
    with closing(Store.open(path, clock)) as store:
        for name in names:
            store.assign([SignalSpec("bat", name, "V")])
        store.assign([SignalSpec("bat", names[1], "V", source="0x2"), SignalSpec("bat", "soc_pct", "%")])
        store.assign([SignalSpec("bat", names[3], "mV")])
        store.assign([SignalSpec("bat", names[3], "V")])
        kept, meanings = store.catalog(), store.ids_of("bat", names[3])
    with closing(Store.open(path, clock)) as store:
        assert store.catalog() == kept
        assert store.ids_of("bat", names[3]) == meanings == [7, 4]


# -- telemetry and ledger


def test_the_first_batch_is_stored_at_once_and_the_next_wait(path: Path) -> None:
    """Real time: the group of 30 s is never reached, so only the first batch and what is flushed is committed."""
    with closing(Store.open(path, SystemClock(), StoreSettings(commit_s=30.0))) as store:
        store.assign([SignalSpec("a", "b")])
        committed = threading.Event()
        store.on_commit(committed.set)
        put(store, 1, 0, 1)
        assert committed.wait(WAIT_S)
        put(store, 1, 1, 2)
        store.record(Event("test.event", 1)).result(WAIT_S)  # an event does not wait for the group
        assert store.stats().pending_rows == 1
        assert [row[2] for row in store.rows([1], 0, 10)] == [1]
        assert words_of(store) == [1, 2]


def test_many_rows_do_not_wait_for_the_group(path: Path) -> None:
    with closing(Store.open(path, SystemClock(), StoreSettings(commit_s=600.0, block_rows=100))) as store:
        committed = threading.Semaphore(0)
        store.on_commit(committed.release)
        put(store, 1, 0, 1)
        assert committed.acquire(timeout=WAIT_S)
        put(store, 1, 0, *range(250))
        assert committed.acquire(timeout=WAIT_S)
        assert [block.rows for block in store.blocks(0, 10)] == [1, 100, 100, 50]


def test_closing_stores_what_waits(path: Path, clock: FakeClock) -> None:
    with closing(Store.open(path, clock, StoreSettings(commit_s=600.0))) as store:
        store.assign([SignalSpec("a", "b")])
        put(store, 1, 0, 1)
        store.flush().result(WAIT_S)
        put(store, 1, 1, 2, 3)
        last = store.record(Event("test.last", 1))
    assert last.result(WAIT_S) == 1
    store.append(Batch([1], [1], [1]))  # too late: neither an error nor a hang
    with pytest.raises(StoreError, match="closed"):
        store.flush().result(WAIT_S)
    with pytest.raises(StoreError, match="closed"):
        store.events(0, 1)
    assert not path.with_name("enlace.db-wal").exists()
    with closing(Store.open(path, clock)) as store:
        assert words_of(store) == [1, 2, 3]
        assert store.stats().rows == 3


def test_a_malformed_batch_costs_only_itself(store: Store) -> None:
    store.assign([SignalSpec("a", "b")])
    put(store, 1, 0, 1)
    store.append(Batch([1, 1], [5], [5]))
    put(store, 1, 10, 2)
    assert words_of(store) == [1, 2]
    assert store.stats().dropped_rows == 2
    event = store.events(0, 10)[0].event
    assert (event.kind, event.data["reason"], event.data["rows"]) == ("store.dropped", "malformed", 2)


def test_a_record_that_sqlite_refuses_costs_only_itself(path: Path) -> None:
    with closing(Store.open(path, SystemClock(), StoreSettings(commit_s=600.0))) as store:
        store.assign([SignalSpec("a", "b")])
        put(store, 1, 0, 1)
        good = store.record(Event("test.good", 1))
        bad = store.record(Event("test.bad", 2**70))
        later = store.record(Event("test.later", 2))
        with pytest.raises(StoreError, match="can't be stored"):
            bad.result(WAIT_S)
        assert later.result(WAIT_S) == good.result(WAIT_S) + 1
        with pytest.raises(StoreError, match="can't be stored"):
            store.assign([SignalSpec("a", "c", scale=2**70)])
        assert words_of(store) == [1]
        assert store.stats().error is None


def test_what_does_not_fit_into_memory_is_dropped_oldest_first(path: Path, clock: FakeClock) -> None:
    with closing(Store.open(path, clock, StoreSettings(commit_s=600.0, pending_rows=100))) as store:
        store.assign([SignalSpec("a", "b")])
        put(store, 1, 0, -1)
        store.flush().result(WAIT_S)
        for n in range(30):
            put(store, 1, n * 10, *range(n * 10, n * 10 + 10))
        assert words_of(store) == [-1, *range(200, 300)]
        assert store.stats().dropped_rows == 200
        with store._readers.snapshot() as reader:
            rows = reader.execute("SELECT signal, from_us, to_us, count, reason FROM dropped").fetchall()
        assert rows == [(1, 0, 199, 200, "pending_full")]


def test_figures_of_the_store(store: Store, clock: FakeClock) -> None:
    assert store.stats().last_commit_s is None
    put(store, 1, 0, 1, 2, 3)
    store.flush().result(WAIT_S)
    stats = store.stats()
    assert (stats.rows, stats.pending_rows, stats.dropped_rows, stats.error) == (3, 0, 0, None)
    assert stats.last_commit_s == clock.monotonic_s()
    assert stats.commits >= 1
    assert stats.db_bytes > 0
    assert stats.wal_bytes > 0
    assert stats.written_bytes is None or stats.written_bytes >= 0


def test_sealing_keeps_boots_apart_and_every_row(path: Path, clock: FakeClock) -> None:
    expected: list[object] = []
    boots: list[str] = []
    for start in (0, 100):
        with closing(Store.open(path, clock)) as store:
            boots.append(store.boot)
            store.assign([SignalSpec("a", "b")])
            for n in range(5):
                put(store, 1, start + n * 10, start + n, start - n)
                store.flush().result(WAIT_S)
                expected += [start + n, start - n]
    with closing(Store.open(path, clock)) as store:
        put(store, 1, 500, 9)
        store.flush().result(WAIT_S)
        store.maintain().result(WAIT_S)
        assert [(b.first_seq, b.seq, b.rows, b.boot) for b in store.blocks(0, 10)] == [
            (1, 5, 10, boots[0]),
            (6, 10, 10, boots[1]),
            (11, 11, 1, store.boot),
        ]
        assert words_of(store) == [*expected, 9]


def test_a_sealed_block_is_short_enough_for_a_slow_line(store: Store, clock: FakeClock) -> None:
    """Ten minutes of noise left as one message of hundreds of kB, and what was live waited for it."""
    random = np.random.default_rng(3)
    commits, rows = 60, 1000
    store.assign([SignalSpec("a", "x")])
    words = random.integers(0, 2**32, (commits, rows)).tolist()
    for second in words:
        put(store, 1, clock.now_us(), *second)
        store.flush().result(WAIT_S)
        clock.advance(1)
    numbers = [block.seq for block in store.blocks(0, 100)]
    store.maintain().result(WAIT_S)
    blocks = store.blocks(0, 100)
    assert sum(len(block.data) for block in blocks) > 4 * sealing.MAX_BYTES, "it takes more than a few messages"
    assert max(len(block.data) for block in blocks) <= sealing.MAX_BYTES
    assert len(blocks) < commits / 4, "and is sealed all the same"
    covered = [number for block in blocks for number in range(block.first_seq, block.seq + 1)]
    assert covered == numbers
    assert words_of(store) == [word for second in words for word in second]
    assert all(block.rows == (block.seq - block.first_seq + 1) * rows for block in blocks)


def test_blocks_are_sealed_when_their_time_has_come(path: Path) -> None:
    with closing(Store.open(path, SystemClock(), StoreSettings(seal_rows=50))) as store:
        for n in range(6):
            put(store, 1, n * 100, *range(10))
            store.flush().result(WAIT_S)
        store.flush().result(WAIT_S)
        store.maintain().result(WAIT_S)
        sizes = [block.rows for block in store.blocks(0, 10)]
        assert sum(sizes) == 60
        assert max(sizes) == 50  # no block of more rows than that


def test_acknowledgements_are_written_some_seconds_apart(path: Path) -> None:
    """Real time: the first is written at once, the next waits; a flush, a word and the closing take it along."""
    with closing(Store.open(path, SystemClock(), StoreSettings(commit_s=0.01, ack_s=600.0))) as store:
        put(store, 1, 0, 1)
        store.flush().result(WAIT_S)
        store.ack("telemetry", 1).result(WAIT_S)
        committed = threading.Event()
        store.on_commit(committed.set)
        later = store.ack("telemetry", 2)
        put(store, 1, 1, 2)
        assert committed.wait(WAIT_S)  # rows went, the acknowledgement stayed
        assert not later.done()
        store.flush().result(WAIT_S)
        assert later.done()
        store.ack("telemetry", 3, at_once=True).result(WAIT_S)
        last = store.ack("telemetry", 4)
    assert last.result(0) is None
