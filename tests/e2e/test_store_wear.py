"""Flash wear of a real store, as Linux counts it; and what else grows."""

from array import array
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.core.model import Batch, Event, SignalSpec
from agent.store.db import Store
from agent.store.settings import StoreSettings
from agent.store.wear import process_bytes

WAIT_S = 60.0
SETTINGS = StoreSettings(wal_pages=20)


@pytest.fixture
def counted(tmp_path: Path) -> None:
    """Skip where the file system is in memory, or the system does not count."""
    before = process_bytes()
    (tmp_path / "probe").write_bytes(bytes(100_000))
    if before is None or process_bytes() == before:
        pytest.skip("what is written is not counted here: a file system in memory, or no Linux")


def fill(store: Store, clock: FakeClock, commits: int) -> None:
    for number in range(commits):
        store.append(Batch(array("i", [1]), array("q", [clock.now_us()]), array("q", [number])))
        store.flush().result(WAIT_S)


@pytest.mark.usefixtures("counted")
def test_what_each_part_writes_stands_in_the_store(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, clock, SETTINGS)) as store:
        store.assign([SignalSpec("a", "x")])
        fill(store, clock, 50)
        store.record(Event("test.one", 1)).result(WAIT_S)
        store.maintain().result(WAIT_S)
        clock.advance(3601)
        (tmp_path / "other").write_bytes(bytes(1_000_000))
        store.maintain().result(WAIT_S)
        written = store.stats().written
        assert written["telemetry"] >= 50 * 4096  # a page for each commit at least
        assert min(written[one] for one in ("records", "upkeep", "checkpoint")) >= 4096
        assert written["other"] >= 1_000_000
        assert store.stats().written_a_day is None
        assert store.stats().wal_bytes < 10 * 20 * 4096
    clock.advance(86_400)
    with closing(Store.open(path, clock, SETTINGS)) as store:
        store.maintain().result(WAIT_S)
        days = store.wear().days
        assert sum(sum(day.values()) for day in days.values()) >= sum(written.values())
        assert store.stats().written_a_day == pytest.approx(sum(sum(day.values()) for day in days.values()), rel=0.1)


@pytest.mark.usefixtures("counted")
def test_measuring_writes_once_an_hour(tmp_path: Path) -> None:
    clock = FakeClock()
    with closing(Store.open(tmp_path / "enlace.db", clock)) as store:
        store.maintain().result(WAIT_S)
        before = store.stats().commits
        for _ in range(5):
            clock.advance(600)
            store.maintain().result(WAIT_S)
        assert store.stats().commits == before
        assert store.wear().since_us is None
        clock.advance(700)
        store.maintain().result(WAIT_S)
        assert store.wear().since_us == clock.now_us()


def test_what_is_never_dropped_is_counted(tmp_path: Path) -> None:
    """The estimate is near enough to warn by."""
    clock = FakeClock()
    with closing(Store.open(tmp_path / "enlace.db", clock, SETTINGS)) as store:
        store.maintain().result(WAIT_S)
        empty = store.stats().db_bytes
        made = [store.record(Event("alarm.raised", n, "battery1", {"text": "x" * 300, "n": n})) for n in range(5000)]
        for future in made:
            future.result(WAIT_S)
        clock.advance(3601)
        store.maintain().result(WAIT_S)
        counted = store.stats().ledger_bytes
    grown = (tmp_path / "enlace.db").stat().st_size - empty
    assert 0.8 * grown < counted < 1.2 * grown


def test_what_stands_aside_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    (tmp_path / "enlace.db.corrupt-20260101T000000Z").write_bytes(bytes(5000))
    (tmp_path / "enlace.db.corrupt-20260101T000000Z-wal").write_bytes(bytes(300))
    with closing(Store.open(path, FakeClock())) as store:
        assert store.stats().evidence_bytes == 5300
