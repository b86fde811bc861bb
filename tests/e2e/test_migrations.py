"""Older and newer files: killed at any statement of a step, a file is of the old version or the new; downgrades too."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from array import array
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.clock import FakeClock, SystemClock
from agent.core.model import Batch, Event, Session, SignalSpec
from agent.store import audit, schema
from agent.store.db import Store

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0

KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from agent.core.clock import SystemClock
from agent.store import schema
from agent.store.db import Store
real, left = schema.migrate, [{at}]
def migrate(connection, *steps):
    def count(statement):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    if steps:  # a model in memory
        return real(connection, *steps)
    connection.set_trace_callback(count)
    real(connection)
    connection.set_trace_callback(None)
schema.migrate = migrate
Store.open(Path({path!r}), SystemClock()).close()
"""


def older(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        schema.migrate(connection, schema.STEPS[: min(version, 2)])
        connection.execute("INSERT INTO boot(boot, wall_us, mono_us) VALUES('b', 1, 1)")
        for n in range(1, 6):
            text = "INSERT INTO event(seq, boot, t_us, kind, subject, data) VALUES(?, 1, 5, 'old.event', '', '{}')"
            connection.execute(text, (n,))
        schema.migrate(connection, schema.STEPS[:version])


def killed_everywhere(tmp_path: Path, version: int, every: int) -> int:
    """Kill a start at each so many statements; how often it was killed."""
    at = kills = 0
    while True:
        path = tmp_path / f"{version}-{at}.db"
        older(path, version)
        script = KILLED.format(root=str(ROOT), path=str(path), at=at)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            number = schema.version(connection)
            assert schema.statements(connection) == schema.expected(number)
            assert version <= number <= len(schema.STEPS)
        with closing(Store.open(path, FakeClock())) as store:
            assert store.opened.moved_to is None
            assert [one.seq for one in store.events(0, 10, "old.event")] == [1, 2, 3, 4, 5]
        assert audit.verify(path).ok
        if done.returncode == 0:
            return kills
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        at += every


@pytest.mark.parametrize("version", range(1, len(schema.STEPS)))
def test_killed_within_a_step_it_is_the_old_version_or_the_new(tmp_path: Path, version: int) -> None:
    assert killed_everywhere(tmp_path, version, 23) > 0


@pytest.mark.long
@pytest.mark.parametrize("version", range(1, len(schema.STEPS)))
def test_killed_at_every_statement(tmp_path: Path, version: int) -> None:
    kills = killed_everywhere(tmp_path, version, 1)
    print(f"version {version}: killed at each of {kills} statements")  # noqa: T201 - the figure of the trial


def test_an_older_program_takes_from_a_newer_file_what_it_knows(tmp_path: Path) -> None:
    """A downgrade: the newer file stands aside whole, and numbers, events, sessions, notes and rows go on."""
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, SystemClock())) as store:
        signals = store.assign([SignalSpec("a", "x"), SignalSpec("a", "y")])
        store.append(Batch(array("i", [signals[1].id]), array("q", [5]), array("q", [7])))
        store.flush().result(WAIT_S)
        seq = store.record(Event("test.event", 1)).result(WAIT_S)
        session, _ = asyncio.run(store.begin(Session("cp", 1, "k", 5)))
        asyncio.run(store.write("test", "key", {"n": 1}))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE later(a)")
        connection.execute("ALTER TABLE session ADD COLUMN later INTEGER NOT NULL DEFAULT 3")
        connection.execute(
            "INSERT INTO session SELECT id + 1, device, outlet, 'l', start_us, remote_id, id_tag, start_wh,"
            " last_wh, last_us, stop_us, energy_wh, reason, data, 4 FROM session"
        )
        connection.execute(f"PRAGMA user_version = {len(schema.STEPS) + 1}")
        connection.commit()
    with closing(Store.open(path, SystemClock())) as store:
        assert store.opened.moved_to is not None
        assert store.opened.moved_to.name.startswith("enlace.db.newer-")
        while store._recovery is not None and not store._recovery.done:
            time.sleep(0.002)
        assert [one.id for one in store.assign([SignalSpec("a", "y"), SignalSpec("b", "z")])] == [2, 3]
        assert [one.seq for one in store.events(0, 10, "test.event")] == [seq]
        assert store.session(session.id) == session
        assert store.session(session.id + 1) is not None
        assert store.note("test", "key") == {"n": 1}
        assert [value for _, _, value in store.rows([2], 0, 10)] == [7]
        assert store.record(Event("test.later", 1)).result(WAIT_S) > seq
    assert audit.verify(path).ok
