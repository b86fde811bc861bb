"""The copy of the store from before an upgrade: whole, one only, gone by itself, and never in the way of a start."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.store import older, schema
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.settings import StoreSettings

NEWEST = len(schema.STEPS)
DAY_S = 86_400.0


class Unset(FakeClock):
    """A clock that nobody has set yet."""

    def __init__(self) -> None:
        super().__init__(now_us=5_000_000)
        self.is_set = False

    def trusted(self) -> bool:
        return self.is_set


def make(path: Path, version: int, events: int = 5) -> None:
    """A store of that version with so many events, in its log."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        schema.migrate(connection, schema.STEPS[:2])
        connection.execute("INSERT INTO boot(boot, wall_us, mono_us) VALUES('b', 1, 1)")
        for n in range(1, events + 1):
            text = "INSERT INTO event(seq, boot, t_us, kind, subject, data) VALUES(?, 1, 5, 'old.event', '', '{}')"
            connection.execute(text, (n,))
        schema.migrate(connection, schema.STEPS[:version])


def start(path: Path, clock: FakeClock | None = None) -> None:
    Store.open(path, clock or FakeClock()).close()


def copies(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.suffix not in (".db", ".lock", ".ballast"))


def events_of(copy: Path, version: int) -> int:
    with closing(connect(copy, read_only=True)) as connection:
        assert schema.version(connection) == version
        assert schema.statements(connection) == schema.expected(version)
        count: int = connection.execute("SELECT count(*) FROM event WHERE kind = 'old.event'").fetchone()[0]
        return count


def test_an_upgrade_keeps_the_older_file_with_what_was_in_its_log(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    make(path, 3)
    with closing(Store.open(path, FakeClock())) as store:
        kept = tmp_path / "enlace.db.before-3"
        stats = store.stats()
        assert stats.evidence_bytes == stats.copy_bytes == kept.stat().st_size > 0
    assert copies(tmp_path) == [kept.name]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert events_of(kept, 3) == 5


def test_a_new_store_and_one_of_today_make_no_copy(tmp_path: Path) -> None:
    start(tmp_path / "enlace.db")
    start(tmp_path / "enlace.db")
    assert copies(tmp_path) == []


def test_the_next_upgrade_takes_the_place_of_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    make(path, 3)
    (tmp_path / "enlace.db.before-2").write_bytes(b"of an earlier upgrade")
    (tmp_path / "enlace.db.copying-3").write_bytes(b"what a power cut left")
    start(path)
    assert copies(tmp_path) == ["enlace.db.before-3"]


def test_a_cut_upgrade_keeps_the_copy_of_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    make(path, 3)
    with closing(connect(path)) as connection:
        older.keep(path, connection, 3)
        schema.migrate(connection, schema.STEPS[:4])
    assert copies(tmp_path) == ["enlace.db.upgrading-3"]
    start(path)
    assert copies(tmp_path) == ["enlace.db.before-3"]
    assert events_of(tmp_path / "enlace.db.before-3", 3) == 5


def test_a_copy_of_an_upgrade_that_never_began_is_made_anew(tmp_path: Path) -> None:
    """The older program may have run in between."""
    path = tmp_path / "enlace.db"
    make(path, 3)
    with closing(connect(path)) as connection:
        older.keep(path, connection, 3)
        connection.execute("INSERT INTO event SELECT 6, boot, t_us, kind, subject, data, x'' FROM event WHERE seq = 5")
    start(path)
    assert events_of(tmp_path / "enlace.db.before-3", 3) == 6


def test_the_copy_goes_by_itself_while_the_gateway_runs(tmp_path: Path) -> None:
    path, clock = tmp_path / "enlace.db", FakeClock()
    make(path, 3)
    with closing(Store.open(path, clock, StoreSettings(retain_s=60))) as store:
        for days, there in ((older.KEEP_DAYS - 0.01, True), (0.02, False)):
            clock.advance(days * DAY_S)
            store.maintain().result(60)
            assert (tmp_path / "enlace.db.before-3").exists() == there
        assert store.stats().evidence_bytes == 0


def test_the_age_of_a_copy_counts_from_when_the_clock_was_set(tmp_path: Path) -> None:
    path, clock = tmp_path / "enlace.db", Unset()
    copy = tmp_path / "enlace.db.upgrading-3"
    copy.write_bytes(b"x")
    older.upgraded(path, clock)
    kept = tmp_path / "enlace.db.before-3"
    assert kept.stat().st_mtime_ns == 0
    clock.is_set = True
    clock.jump_wall(50 * 365 * DAY_S)
    older.expire(path, clock)
    assert kept.stat().st_mtime_ns == clock.now_us() * 1000
    clock.jump_wall(older.KEEP_DAYS * DAY_S)
    older.expire(path, clock)
    assert not kept.exists()


def test_without_room_there_is_no_copy_but_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "enlace.db"
    make(path, 3)
    size = path.stat().st_size
    real = os.statvfs(tmp_path)
    fields = list(real)
    fields[4] = (2 * size - 1) // real.f_frsize  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    start(path)
    assert copies(tmp_path) == []
    with closing(connect(path, read_only=True)) as connection:
        assert schema.version(connection) == NEWEST


def test_above_its_limit_there_is_no_copy_but_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "enlace.db"
    make(path, 3)
    monkeypatch.setattr(older, "MAX_BYTES", 4096)
    start(path)
    assert copies(tmp_path) == []


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_copy_that_fails_leaves_nothing_and_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "enlace.db"
    make(path, 3)
    real, failed = getattr(os, call), []

    def fail(first: object, *rest: object) -> object:
        name = str(Path(f"/proc/self/fd/{first}").readlink()) if call == "fsync" else str(first)
        if ".copying-" in name:
            failed.append(name)
            raise OSError(28, "No space left on device")
        return real(first, *rest)

    monkeypatch.setattr(os, call, fail)
    start(path)
    assert failed
    assert copies(tmp_path) == []
    with closing(sqlite3.connect(path)) as connection:
        assert schema.version(connection) == NEWEST
