"""A full disk, a failing disk and ``kill -9``: nothing acknowledged is lost, and the store goes on by itself.

``kill -9`` shows that acknowledging waits for the commit; that the commit is on the disk only a power cut could show.
"""

import asyncio
import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import StoreError
from agent.core.model import Batch, Event, SignalSpec
from agent.store.db import Store
from agent.store.settings import StoreSettings, StoreStats

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 20.0
ROUNDS = 25


def put(store: Store, *words: int) -> None:
    """Rows of one time each, so that they come back in the order of arrival."""
    store.append(Batch(array("i", [1] * len(words)), array("q", [5] * len(words)), array("q", words)))


def words_of(store: Store) -> list[object]:
    return [row[2] for row in store.rows([1], -(2**62), 2**62)]


def wait_for(store: Store, *, error: bool) -> StoreStats:
    """The figures as soon as the store's error is there, or gone."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        stats = store.stats()
        if (stats.error is not None) == error:
            return stats
        time.sleep(0.01)
    pytest.fail(f"error stayed {store.stats().error!r}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "enlace.db", SystemClock(), StoreSettings(commit_s=0.05, retry_max_s=0.2))
    opened.assign([SignalSpec("a", "x")])
    yield opened
    opened.close()


def fill_up(store: Store) -> None:
    """Allow the file not one page more than it has."""
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")


@pytest.mark.announced_warnings
def test_a_full_disk_is_waited_out(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent.store")
    put(store, 1)
    store.flush().result(WAIT_S)
    fill_up(store)
    big = list(range(2, 3002))
    put(store, *[word * 2**40 + word**3 for word in big])
    event = store.record(Event("test.important", 1, data={"text": "x" * 5000}))
    assert wait_for(store, error=True).pending_rows == 3000
    with pytest.raises(StoreError, match="full"):
        store.assign([SignalSpec("a", f"other{n}") for n in range(200)])
    put(store, 7)
    assert not event.done()
    assert words_of(store) == [1]  # reading goes on
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert event.result(WAIT_S) == store.acked("event") + 1
    store.flush().result(WAIT_S)
    assert words_of(store) == [1, *[word * 2**40 + word**3 for word in big], 7]
    wait_for(store, error=False)
    store.flush().result(WAIT_S)
    assert [stored.event.kind for stored in store.events(0, 10)] == ["test.important", "store.recovered"]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("agent.store")]
    assert [line.split(":")[0] for line in lines] == ["can't store", "storing again, after"]


@pytest.mark.announced_warnings
def test_a_note_that_can_not_be_written_says_so_at_once_however_long_the_disk_is_left_alone(tmp_path: Path) -> None:
    """A local stop writes four of them: it was up to two minutes late while the disk was full."""
    clock = FakeClock()
    with closing(Store.open(tmp_path / "enlace.db", clock, StoreSettings(retry_max_s=3600))) as store:
        fill_up(store)

        async def write() -> None:
            async with asyncio.timeout(WAIT_S):  # the clock stands: no try of the store's own comes
                for number in range(5):
                    with pytest.raises(StoreError, match="full"):
                        await store.write("command", str(number), {"text": "x" * 5000})

        asyncio.run(write())


@pytest.mark.announced_warnings
def test_memory_stays_bounded_while_the_disk_is_full(tmp_path: Path) -> None:
    settings = StoreSettings(commit_s=0.01, retry_max_s=0.05, pending_rows=1000, waiting_jobs=3)
    with closing(Store.open(tmp_path / "enlace.db", SystemClock(), settings)) as store:
        store.assign([SignalSpec("a", "x")])
        fill_up(store)
        events = [store.record(Event("test.event", n, data={"text": "x" * 5000})) for n in range(3)]
        wait_for(store, error=True)
        for n in range(50):
            put(store, *[(n * 100 + k) * 2**33 for k in range(100)])
        late: list[StoreError] = []
        while not late:  # between two tries the queue may be empty for a moment
            future = store.record(Event("test.event", 9, data={"text": "x" * 5000}))
            error = future.exception(0) if future.done() else None
            late += [error] if isinstance(error, StoreError) else []
        assert "wait for the disk" in str(late[0])
        assert store.stats().pending_rows <= 1000
        store._connection.execute("PRAGMA max_page_count = 1000000")
        before = store.acked("event")
        assert [event.result(WAIT_S) - before for event in events] == [1, 2, 3]
        store.flush().result(WAIT_S)
        stored = words_of(store)
        assert stored == [n * 2**33 for n in range(5000 - len(stored), 5000)]
        assert store.stats().dropped_rows == 5000 - len(stored) >= 4000
        with store._readers.snapshot() as reader:
            assert reader.execute("SELECT sum(count) FROM dropped").fetchone()[0] == 5000 - len(stored)


@pytest.mark.announced_warnings
def test_closing_with_a_full_disk_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.open(tmp_path / "enlace.db", FakeClock())
    store.assign([SignalSpec("a", "x")])
    fill_up(store)
    put(store, *[n * 2**40 for n in range(5000)])
    future = store.record(Event("test.event", 1, data={"text": "x" * 5000}))
    store.close()
    with pytest.raises(StoreError, match="full"):
        future.result(WAIT_S)
    assert "5000 rows that could not be stored" in caplog.text


@pytest.mark.announced_warnings
def test_a_sealing_that_fails_leaves_commits_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent.store")
    put(store, 1)
    store.flush().result(WAIT_S)
    store._connection.execute("ALTER TABLE minute RENAME TO elsewhere")
    done = store.maintain()
    wait_for(store, error=True)
    put(store, 2)
    store.flush().result(WAIT_S)
    assert words_of(store) == [1, 2]
    store._connection.execute("ALTER TABLE elsewhere RENAME TO minute")
    done.result(WAIT_S)
    wait_for(store, error=False)
    assert words_of(store) == [1, 2]
    lines = [record.getMessage().split(":")[0] for record in caplog.records if record.name.startswith("agent.store")]
    assert lines == ["can't tidy the store", "the store is tidy again, after"]


LIMITED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from agent.core.clock import SystemClock
from agent.core.model import Batch, Event, SignalSpec
from agent.store.db import Store
from agent.store.settings import StoreSettings
store = Store.open(Path({path!r}), SystemClock(), StoreSettings(commit_s=0.01, retry_max_s=0.1))
store.assign([SignalSpec("a", "x")])
number = 0
while store.stats().error is None:
    words = [(number + k) * 2**41 + (number + k) ** 5 % 2**40 for k in range(500)]
    future = None
    store.append(Batch([1] * 500, range(number, number + 500), words))
    number += 500
    try:
        store.flush().result(0.3)
    except TimeoutError:
        continue
    print(number, flush=True)
print("full", store.stats().error, flush=True)
store.close(2)
"""


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_file_system_that_takes_no_more_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    script = LIMITED.format(root=str(ROOT), path=str(tmp_path / "enlace.db"))
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=_limit_files,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    *acknowledged, last = done.stdout.splitlines()
    assert last.startswith("full ")
    with closing(Store.open(tmp_path / "enlace.db", SystemClock())) as store:
        assert store.opened.moved_to is None
        count = len(words_of(store))
    assert count >= int(acknowledged[-1]) >= 500


WRITING = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from agent.core.clock import SystemClock
from agent.core.model import Batch, Event, SignalSpec
from agent.store.db import Store
from agent.store.settings import StoreSettings
store = Store.open(Path({path!r}), SystemClock(), StoreSettings(commit_s=0.005, seal_rows=40))
assert store.opened.moved_to is None, store.opened.reason
assert store.assign([SignalSpec("a", "x")])[0].id == 1
number = {first}
print("ready", flush=True)
while True:
    for _ in range(3):
        store.append(Batch([1], [number], [number]))
        number += 1
    flushed = store.flush()
    recorded = store.record(Event("test.event", number))
    flushed.result(20)
    print("rows", number - 1, flush=True)
    print("event", recorded.result(20), flush=True)
"""


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    rows = events = 0
    for round_number in range(ROUNDS):
        script = WRITING.format(root=str(ROOT), path=str(path), first=rows + 1)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(0.02 + 0.004 * round_number)
            os.kill(child.pid, signal.SIGKILL)
            *said, _ = child.stdout.read().split("\n")  # behind the last line end stands half a line at most
        acknowledged = max([rows, *(int(line[5:]) for line in said if line.startswith("rows "))])
        events = max([events, *(int(line[6:]) for line in said if line.startswith("event "))])
        with closing(Store.open(path, FakeClock())) as store:
            assert store.opened.moved_to is None
            stored = [value for value in words_of(store) if isinstance(value, int)]
            assert stored == list(range(1, len(stored) + 1))  # in order, none missing, none twice
            assert len(stored) >= acknowledged
            assert store.newest("event") >= events
            with store._readers.snapshot() as reader:
                assert reader.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                rolled = reader.execute("SELECT ifnull(sum(count), 0) FROM minute").fetchone()[0]
            store.maintain().result(WAIT_S)
            with store._readers.snapshot() as reader:
                assert reader.execute("SELECT sum(count) FROM minute").fetchone()[0] == len(stored) >= rolled
        rows = len(stored)
    assert rows > ROUNDS
    assert events > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_the_writer_leaves_nobody_waiting_and_is_told(tmp_path: Path) -> None:
    """Not an error of the disk but of the program: the thread ends, and everybody is told at once."""

    def bug(_: sqlite3.Connection) -> tuple[None, None]:
        raise RuntimeError("a bug")

    with closing(Store.open(tmp_path / "enlace.db", SystemClock())) as store:
        with pytest.raises(StoreError):
            store._writer.submit(bug).result(WAIT_S)
        with pytest.raises(StoreError, match="closed"):
            store.record(Event("test.event", 1)).result(WAIT_S)
        assert store.stats().error
