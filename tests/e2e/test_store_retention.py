"""What goes when data is old or the file too large, in what order, and what is written down about it."""

import asyncio
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from agent.core.clock import FakeClock
from agent.core.model import Batch, Event, Session, SignalSpec
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.posting import Fate, Posting
from agent.store.settings import DAY_S, StoreSettings

WAIT_S = 60.0
DAY_US = 86_400_000_000
SETTINGS = StoreSettings(raw_age_s=2 * DAY_S, minute_age_s=5 * DAY_S, hour_age_s=10 * DAY_S)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "enlace.db", clock, SETTINGS)) as opened:
        opened.assign([SignalSpec("a", "x")])
        yield opened


def take_a_day(store: Store, clock: FakeClock, rows: int = 10) -> None:
    """Some rows, sealed, and a day passes."""
    now_us = clock.now_us()
    store.append(Batch(array("i", [1] * rows), array("q", range(now_us, now_us + rows)), array("q", range(rows))))
    store.flush().result(WAIT_S)
    store.maintain().result(WAIT_S)
    clock.advance(DAY_S)


def tidy(store: Store) -> None:
    store.maintain().result(WAIT_S)


def dropped(store: Store) -> list[tuple[int | None, int, str]]:
    with store._readers.snapshot() as reader:
        return reader.execute(
            "SELECT signal, sum(count), reason FROM dropped GROUP BY reason ORDER BY reason"
        ).fetchall()


def wait_until(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def count(store: Store, table: str) -> int:
    with store._readers.snapshot() as reader:
        found: int = reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own tables
        return found


def test_each_kind_of_data_has_its_own_age(store: Store, clock: FakeClock) -> None:
    store.record(Event("test.old", 1)).result(WAIT_S)
    for _ in range(4):
        take_a_day(store, clock)
    tidy(store)
    assert (count(store, "block"), count(store, "minute"), count(store, "hour")) == (2, 4, 4)
    assert store.stats().rows == 20
    for _ in range(8):
        clock.advance(DAY_S)
        tidy(store)
    assert (count(store, "block"), count(store, "minute"), count(store, "hour")) == (0, 0, 2)
    assert dropped(store) == [(None, 40, "age"), (None, 2, "hour_age"), (None, 4, "minute_age")]
    kinds = [stored.event.kind for stored in store.events(0, 100)]
    assert kinds[0] == "test.old"
    assert set(kinds[1:]) == {"store.dropped"}
    rows = [stored.event.data["rows"] for stored in store.events(0, 100, "store.dropped")]
    assert sum(row for row in rows if isinstance(row, int)) == 46


def test_numbers_go_on_after_everything_was_dropped(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, clock, SETTINGS)) as store:
        store.assign([SignalSpec("a", "x")])
        for _ in range(3):
            take_a_day(store, clock)
        clock.advance(10 * DAY_S)
        tidy(store)
        assert store.blocks(0, 10) == []
    with closing(Store.open(path, clock, SETTINGS)) as store:
        assert store.newest("telemetry") == 3
        take_a_day(store, clock)
        assert [block.first_seq for block in store.blocks(0, 10)] == [4]


def test_what_was_not_acknowledged_does_not_age(store: Store, clock: FakeClock) -> None:
    store.hold("telemetry", 0).result(WAIT_S)
    for _ in range(5):
        take_a_day(store, clock)
    clock.advance(DAY_S)
    tidy(store)
    assert count(store, "block") == 5
    acked = store.ack("telemetry", 2)
    store.flush().result(WAIT_S)
    acked.result(WAIT_S)
    clock.advance(DAY_S)
    tidy(store)
    assert [block.seq for block in store.blocks(0, 10)] == [3, 4, 5]


def test_a_jump_of_the_wall_clock_purges_nothing(store: Store, clock: FakeClock) -> None:
    take_a_day(store, clock)
    clock.jump_wall(365 * DAY_S)
    tidy(store)
    clock.advance(1800)
    tidy(store)
    assert count(store, "block") == 1
    clock.jump_wall(-365 * DAY_S)
    clock.advance(1800)
    tidy(store)
    clock.advance(3700)
    tidy(store)
    assert count(store, "block") == 1


def test_a_far_jump_that_nobody_puts_right_is_believed_after_a_week(store: Store, clock: FakeClock) -> None:
    take_a_day(store, clock)
    clock.jump_wall(365 * DAY_S)
    tidy(store)
    clock.advance(6 * DAY_S)
    tidy(store)
    assert count(store, "block") == 1
    clock.advance(2 * DAY_S)
    tidy(store)
    assert count(store, "block") == 0


def fill(store: Store, clock: FakeClock, blocks: int) -> None:
    """Blocks that do not compress: some 60 kB each."""
    random = np.random.default_rng(1)
    for _ in range(blocks):
        words = array("q", random.integers(-(2**62), 2**62, 8000).tolist())
        now_us = clock.now_us()
        store.append(Batch(array("i", [1] * 8000), array("q", range(now_us, now_us + 8000)), words))
        store.flush().result(WAIT_S)
        store.maintain().result(WAIT_S)
        clock.advance(60)


def test_the_file_stays_below_its_limit_and_shrinks_to_it(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, clock)) as store:
        store.assign([SignalSpec("a", "x")])
        for number in range(50):
            store.record(Event("test.kept", number)).result(WAIT_S)
        fill(store, clock, 40)
    before = path.stat().st_size
    limit = before // 2
    with closing(Store.open(path, clock, StoreSettings(max_bytes=limit))) as store:
        tidy(store)
        left = store.blocks(0, 100)
        assert [block.seq for block in left] == list(range(41 - len(left), 41))  # the oldest went
        assert 0 < len(left) < 25
        assert len(store.events(0, 100, "test.kept")) == 50
        assert dropped(store) == [(None, (40 - len(left)) * 8000, "size")]
        assert store.stats().rows == len(left) * 8000
        assert count(store, "minute") == 40  # averages of what went are still there
        fill(store, clock, 10)
        assert [block.seq for block in store.blocks(40, 100)] == list(range(41, 51))
    assert path.stat().st_size <= limit


def test_roll_ups_go_after_raw_data_and_the_ledger_never(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, clock, StoreSettings(max_bytes=1))) as store:
        store.assign([SignalSpec("a", "x")])
        store.record(Event("test.kept", 1)).result(WAIT_S)
        session, _ = asyncio.run(store.begin(Session("cp1", 1, "k", 5, stop_us=6)))
        asyncio.run(store.write("kind", "key", {"a": 1}))
        for _ in range(2):
            take_a_day(store, clock)
        tidy(store)
        assert store.list_sessions() == (1, [session])
        assert store.notes("kind") == {"key": {"a": 1}}
        assert (count(store, "block"), count(store, "hot")) == (0, 0)
        assert (count(store, "minute"), count(store, "hour"), count(store, "signal")) == (0, 0, 1)
        assert [stored.event.kind for stored in store.events(0, 1)] == ["test.kept"]
        assert {reason for _, _, reason in dropped(store)} == {"size", "minute_size", "hour_size"}


def test_unsent_data_goes_only_by_size(tmp_path: Path, clock: FakeClock) -> None:
    with closing(Store.open(tmp_path / "enlace.db", clock, StoreSettings(max_bytes=300_000))) as store:
        store.assign([SignalSpec("a", "x")])
        store.hold("telemetry", None).result(WAIT_S)
        fill(store, clock, 12)  # nothing may be sealed, so the hot blocks themselves go
        numbers = [block.seq for block in store.blocks(0, 100)]
        assert numbers == list(range(13 - len(numbers), 13))
        assert 0 < len(numbers) < 6


def post_a_day(store: Store, clock: FakeClock, seed: int) -> Posting:
    """Rows that do not compress, sealed, and a day passes: what was posted."""
    times = array("q", range(clock.now_us(), clock.now_us() + 8000))
    words = array("q", np.random.default_rng(seed).integers(-(2**62), 2**62, 8000).tolist())
    rows = Posting(["van"] * 8000, times, array("i", [1]) * 8000, array("i", [1]) * 8000, words)
    assert set(store.post(rows).result(WAIT_S)) == {Fate.STORED}
    tidy(store)
    clock.advance(DAY_S)
    return rows


def test_what_was_posted_is_forgotten_with_the_raw_data_that_goes_for_its_size(
    tmp_path: Path, clock: FakeClock
) -> None:
    with closing(Store.open(tmp_path / "enlace.db", clock, StoreSettings(max_bytes=600_000))) as store:
        store.assign([SignalSpec("van", "x")])
        days = [post_a_day(store, clock, seed) for seed in range(15)]
        left = count(store, "posted")
        assert 2 < left < 12  # of 15 minutes with posted rows
        fates = [set(store.post(day).result(WAIT_S)) for day in days]
        assert fates == [{Fate.TOO_OLD}] * (15 - left) + [{Fate.DUPLICATE}] * left
        assert store.newest_posted_us("van") == days[-1].times_us[-1]


def test_what_was_posted_is_forgotten_with_the_age_of_raw_data(store: Store, clock: FakeClock) -> None:
    days = [post_a_day(store, clock, seed) for seed in range(5)]
    tidy(store)
    assert count(store, "posted") in {2, 3}  # raw data is kept for two days, and looked at once a day
    assert set(store.post(days[0]).result(WAIT_S)) == {Fate.TOO_OLD}
    assert set(store.post(days[-1]).result(WAIT_S)) == {Fate.DUPLICATE}


def grow(store: Store, clock: FakeClock, bytes_: int) -> None:
    """Rows of noise, until so many bytes of them were committed."""
    random = np.random.default_rng(2)
    rows = 10_000
    for _ in range(0, bytes_, rows * 8):
        words = array("q", random.integers(-(2**62), 2**62, rows).tolist())
        store.append(Batch(array("i", [1] * rows), array("q", range(clock.now_us(), clock.now_us() + rows)), words))
        store.flush().result(WAIT_S)


def sizes(store: Store, path: Path) -> tuple[int, int]:
    """The file as it stands on the disk, and as it will when its log was copied."""
    with store._readers.snapshot() as reader:
        pages: int = reader.execute("PRAGMA page_count").fetchone()[0]
        return path.stat().st_size, pages * int(reader.execute("PRAGMA page_size").fetchone()[0])


def test_the_quota_does_not_wait_for_the_clock(tmp_path: Path, clock: FakeClock) -> None:
    """A flood of 10 MB on 4 MB was still there ten minutes later: only the clock and many rows called for upkeep."""
    path, quota = tmp_path / "enlace.db", 4 << 20
    with closing(Store.open(path, clock, StoreSettings(max_bytes=quota))) as store:
        store.assign([SignalSpec("a", "x")])
        tidy(store)
        grow(store, clock, 10_000_000)
        wait_until(lambda: max(sizes(store, path)) <= quota)
        assert [reason for _, _, reason in dropped(store)] == ["size"]
        written = store.stats().commits
        grow(store, clock, 1_000_000)
        assert store.stats().commits < written + 100, "what fits calls for nothing"


def test_a_reader_in_the_way_only_delays_that_the_file_becomes_shorter(tmp_path: Path, clock: FakeClock) -> None:
    path, quota = tmp_path / "enlace.db", 1 << 20
    with closing(Store.open(path, clock, StoreSettings())) as store:
        store.assign([SignalSpec("a", "x")])
        grow(store, clock, 2_000_000)
    with closing(connect(path, read_only=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM hot").fetchone()
        store = Store.open(path, clock, StoreSettings(max_bytes=quota))
        try:
            tidy(store)
            assert path.stat().st_size > quota, "the reader still needs it"
            reader.execute("ROLLBACK")
            store.record(Event("test.next", 1)).result(WAIT_S)
            wait_until(lambda: path.stat().st_size <= quota)
        finally:
            store.close()


def test_a_ledger_above_the_quota_does_not_call_for_upkeep_without_end(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, quota = tmp_path / "enlace.db", 300_000
    with closing(Store.open(path, clock, StoreSettings(max_bytes=quota))) as store:
        passes: list[int] = []
        real = store._upkeep._pass

        def counted(connection: sqlite3.Connection) -> Iterator[int]:
            passes.append(1)
            return real(connection)

        monkeypatch.setattr(store._upkeep, "_pass", counted)
        for _ in range(300):
            store.record(Event("test.long", 1, "x", {"text": "x" * 1000})).result(WAIT_S)
        tidy(store)
        excess = sizes(store, path)[1] - quota
        assert excess > quota // 3
        assert len(passes) <= 50 * excess / quota + 5, "what one pass could not free is left until the file grew"
