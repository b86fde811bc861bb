"""A full disk, a failing disk and ``kill -9``: nothing acknowledged is lost, and the store goes on by itself.

``kill -9`` shows that acknowledging waits for the commit; that the commit is on the disk only a power cut could show.
"""

import asyncio
import logging
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import BaseModel

from agent.api.jsonfile import JsonFile
from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import ConfigError, StoreError
from agent.core.model import Batch, Event, SignalSpec
from agent.site_editor import SiteEditor
from agent.store.db import Store
from agent.store.settings import StoreSettings, StoreStats

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
ROUNDS = 25


def put(store: Store, *words: int) -> None:
    """Rows of one time each, so that they come back in the order of arrival."""
    store.append(Batch(array("i", [1] * len(words)), array("q", [5] * len(words)), array("q", words)))


def words_of(store: Store) -> list[object]:
    return [row[2] for row in store.rows([1], -(2**62), 2**62)]


def wait_until(true: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.001)


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
    stats = wait_for(store, error=True)
    assert (stats.pending_rows, stats.full) == (3000, True)
    with pytest.raises(StoreError, match="full"):
        store.assign([SignalSpec("a", f"other{n}") for n in range(200)])
    put(store, 7)
    assert not event.done()
    assert words_of(store) == [1]  # reading goes on
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert event.result(WAIT_S) == store.acked("event") + 1
    store.flush().result(WAIT_S)
    assert words_of(store) == [1, *[word * 2**40 + word**3 for word in big], 7]
    assert not wait_for(store, error=False).full
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
        assert store.stats().pending_rows <= 2 * settings.pending_rows
        wait_until(lambda: not store._writer._in_flight_rows)  # what a try took stands beside what came meanwhile
        late: list[StoreError] = []
        while not late:  # between two tries the queue may be empty for a moment
            future = store.record(Event("test.event", 9, data={"text": "x" * 5000}))
            error = future.exception(0) if future.done() else None
            late += [error] if isinstance(error, StoreError) else []
        assert "wait for the disk" in str(late[0])
        assert store.stats().pending_rows <= settings.pending_rows
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
    assert not wait_for(store, error=True).full
    put(store, 2)
    store.flush().result(WAIT_S)
    assert words_of(store) == [1, 2]
    store._connection.execute("ALTER TABLE elsewhere RENAME TO minute")
    done.result(WAIT_S)
    wait_for(store, error=False)
    assert words_of(store) == [1, 2]
    lines = [record.getMessage().split(":")[0] for record in caplog.records if record.name.startswith("agent.store")]
    assert lines == ["can't tidy the store", "the store is tidy again, after"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB; skipped, visibly, where this user may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - the mount that was found


def eat(path: Path) -> None:
    """Take all that the disk has left."""
    with path.open("ab", buffering=0) as file:
        for size in (65536, 4096):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break


@pytest.mark.announced_warnings
def test_on_a_full_disk_what_counts_is_stored_and_telemetry_waits(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent.store")
    settings = StoreSettings(commit_s=0.02, retry_max_s=0.2, ballast_bytes=2 << 20)
    path = small_disk / "enlace.db"
    ballast = small_disk / "enlace.db.ballast"
    with closing(Store.open(path, SystemClock(), settings)) as store:
        store.assign([SignalSpec("a", "x")])
        put(store, 1)
        store.flush().result(WAIT_S)
        assert ballast.stat().st_size == settings.ballast_bytes
        eat(small_disk / "eaten")
        words = [word * 2**40 + word**3 for word in range(2, 20_002)]
        put(store, *words)
        flushed = store.flush()
        wait_for(store, error=True)
        seqs = [store.record(Event("test.event", n, data={"text": "x" * 3000})).result(WAIT_S) for n in range(100)]
        assert seqs == sorted(set(seqs))
        asyncio.run(store.write("test", "key", {"n": 1}))
        assert not ballast.exists()
        assert not flushed.done()
        assert store.stats().pending_rows == len(words)
        assert store.stats().error is not None
        assert store.stats().full
        (small_disk / "eaten").unlink()
        flushed.result(WAIT_S)
        assert not wait_for(store, error=False).full
        assert words_of(store) == [1, *words]
        assert ballast.stat().st_size == settings.ballast_bytes
        store.flush().result(WAIT_S)
        kinds = [stored.event.kind for stored in store.events(0, 1000, "store.")]
        assert kinds == ["store.full", "store.recovered"]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("agent.store")]
    assert [line.split(":")[0] for line in lines] == ["can't store", "storing again, after"]


@pytest.mark.announced_warnings
def test_a_start_on_a_full_disk_takes_the_ballast_s_place(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without it the gateway would not start, and control nothing."""
    caplog.set_level(logging.INFO, "agent.store")
    settings = StoreSettings(commit_s=0.02, retry_max_s=0.2, ballast_bytes=2 << 20, wal_pages=100)
    path = small_disk / "enlace.db"
    with closing(Store.open(path, SystemClock(), settings)) as store:
        store.assign([SignalSpec("a", "x")])
        put(store, 1)
        store.flush().result(WAIT_S)
    eat(small_disk / "eaten")
    with closing(Store.open(path, SystemClock(), settings)) as store:
        assert store.stats().full
        assert store.stats().error == "the disk was full at the start"
        words = [word * 2**40 + word**3 for word in range(2, 20_002)]
        put(store, *words)
        flushed = store.flush()
        for n in range(100):
            store.record(Event("test.event", n, data={"text": "x" * 3000})).result(WAIT_S)
        assert not flushed.done()
        (small_disk / "eaten").unlink()
        flushed.result(WAIT_S)
        assert not wait_for(store, error=False).full
        assert words_of(store) == [1, *words]
        store.flush().result(WAIT_S)
        kinds = [stored.event.kind for stored in store.events(0, 1000, "store.")]
        assert kinds == ["store.full", "store.recovered"]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("agent.store")]
    assert [line.split(":")[0] for line in lines] == ["can't store", "storing again, after"]


def tidy_in_vain(store: Store, work: str) -> None:
    connection = store._connection
    if work == "log":
        with pytest.raises(sqlite3.OperationalError, match=r"full|I/O"):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    else:  # SQLite does not say that it did nothing
        before = connection.execute("PRAGMA freelist_count").fetchone()
        connection.execute("PRAGMA incremental_vacuum(200)").fetchall()
        assert connection.execute("PRAGMA freelist_count").fetchone() == before > (200,)


@pytest.mark.announced_warnings
@pytest.mark.parametrize("work", ["log", "vacuum"])
def test_a_disk_that_is_full_while_the_file_is_tidied_loses_nothing(small_disk: Path, work: str) -> None:
    """The log can't be copied into the file, or the file can't be made shorter; what comes then goes in order."""
    settings = StoreSettings(commit_s=0.02, retry_max_s=0.2, ballast_bytes=0, wal_pages=100_000)
    path = small_disk / "enlace.db"
    with closing(Store.open(path, SystemClock(), settings)) as store:
        store.assign([SignalSpec("a", "x")])
        store.maintain().result(WAIT_S)
        written = store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert written == [(0, 0, 0)]
        for n in range(300):
            store.record(Event("test.event", n, data={"text": "x" * 3000})).result(WAIT_S)
        if work == "vacuum":
            store._connection.execute("CREATE TABLE elsewhere AS SELECT randomblob(4000) FROM event")
            store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            store._connection.execute("DROP TABLE elsewhere")
            store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        eat(small_disk / "eaten")
        tidy_in_vain(store, work)
        put(store, 7)
        future = store.record(Event("test.event", 300, data={"text": "x" * 30_000}))
        wait_for(store, error=True)
        assert [one.event.t_us for one in store.events(0, 1000, "test.event")] == list(range(300))
        (small_disk / "eaten").unlink()
        future.result(WAIT_S)
        store.flush().result(WAIT_S)
        wait_for(store, error=False)
    with closing(Store.open(path, SystemClock(), settings)) as store:
        assert store.opened.moved_to is None
        assert [one.event.t_us for one in store.events(0, 1000, "test.event")] == list(range(301))
        assert words_of(store) == [7]
        with store._readers.snapshot() as reader:
            assert reader.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


class Document(BaseModel):
    """Stands for the files that the API writes."""

    text: str = ""


SITE = "site: {id: depot, timezone: UTC}\n"


def test_a_full_disk_leaves_the_configuration_and_the_api_s_files_as_they_were(small_disk: Path) -> None:
    """The change is refused with a word of why; nothing half written stays; it works again when there is room."""
    place = small_disk / "enlace.yaml"
    place.write_text(SITE)
    editor = SiteEditor(place)
    users = JsonFile(small_disk / "users.json", Document, "mend it")
    users.change(lambda document: setattr(document, "text", "old"))
    before = {one.name: one.read_bytes() for one in small_disk.iterdir()}
    eat(small_disk / "eaten")
    with pytest.raises(ConfigError, match="No space left"):
        editor.add({"id": "cp1", "driver": "ocpp", "charge_point_id": "CP-1"})
    with pytest.raises(StoreError, match="No space left"):
        users.change(lambda document: setattr(document, "text", "x" * 10_000))
    (small_disk / "eaten").unlink()
    assert {one.name: one.read_bytes() for one in small_disk.iterdir()} == before
    assert users.read().text == "old"
    assert len(editor.add({"id": "cp1", "driver": "ocpp", "charge_point_id": "CP-1"}).devices) == 1
    users.change(lambda document: setattr(document, "text", "new"))
    assert users.read().text == "new"


LIMITED = """
import sys, time
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
    store.append(Batch([1] * 500, range(number, number + 500), words))
    number += 500
    flushed = store.flush()
    while not flushed.done() and store.stats().error is None:  # a disk may be slow: that is no reason to go on
        time.sleep(0.001)
    if flushed.done():
        flushed.result()
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
        timeout=300,
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
    flushed.result(60)
    print("rows", number - 1, flush=True)
    print("event", recorded.result(60), flush=True)
"""


def killed_often(tmp_path: Path, rounds: int) -> None:
    """Write and be killed so often, at some place behind the first to fourth word; look at the store after each."""
    path = tmp_path / "enlace.db"
    rows = events = 0
    for round_number in range(rounds):
        script = WRITING.format(root=str(ROOT), path=str(path), first=rows + 1)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            said = [child.stdout.readline() for _ in range(1 + round_number % 4)]  # however slow the disk is
            time.sleep(0.003 * (round_number % 40))
            os.kill(child.pid, signal.SIGKILL)
            *more, _ = child.stdout.read().split("\n")  # behind the last line end stands half a line at most
            said += more
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
        if round_number % 100 == 99:
            print(f"{round_number + 1} kills: {rows} rows, none lost, none twice", flush=True)  # noqa: T201 - the figure
    assert rows > rounds
    assert events > 0


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    killed_often(tmp_path, ROUNDS)


@pytest.mark.long
def test_killed_a_thousand_times_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """``KILLS`` in the environment: another number, such as 10,000 before a release."""
    killed_often(tmp_path, int(os.environ.get("KILLS", "1000")))


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
