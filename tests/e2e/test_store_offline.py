"""A week without the central server under a quota that is too small for it (D14), and a month of one that is (D16)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from agent.core.blocks import decode_rows
from agent.core.clock import FakeClock
from agent.core.model import Batch, Column, Event, Kind, SignalSpec
from agent.store import dropped
from agent.store.db import Store
from agent.store.settings import StoreSettings

WAIT_S = 60.0
HOUR_US = 3_600_000_000
STEP_S = 7200
GAUGES, STATE, COUNTER = (1, 2, 3), 4, 5
SPECS = [SignalSpec("m", f"g{number}") for number in GAUGES]
SPECS += [SignalSpec("m", "state", kind=Kind.STATE), SignalSpec("m", "energy", kind=Kind.COUNTER)]
WAL_PAGES = 200
#: The log, which keeps its largest size, and what one pass of upkeep may still add to it.
WAL_BYTES = 4 * WAL_PAGES * 4096
#: What follows is in ``tests/unit/test_store_quota.py``: an empty file is larger than what these quotas leave then.
ORDER = ["size", "unsent_half", "unsent_minutes", "unsent_states", "unsent_raw"]


@dataclass
class Site:
    """A store that is filled, and what was put into it since ``offline``, by (signal, µs UTC)."""

    store: Store
    clock: FakeClock
    path: Path
    put: dict[tuple[int, int], int] = field(default_factory=dict)
    largest: int = 0
    seen: list[str] = field(default_factory=list)

    def two_hours(self, random: np.random.Generator, every_s: int) -> None:
        """Gauges, noisy as real ones are not; a state each minute; a counter each ten seconds; and upkeep."""
        seconds = [range(0, STEP_S, every_s)] * 3 + [range(0, STEP_S, 60), range(0, STEP_S, 10)]
        ids = np.concatenate([np.full(len(one), signal, np.int32) for signal, one in enumerate(seconds, 1)])
        times = self.clock.now_us() + np.concatenate([np.array(one, np.int64) for one in seconds]) * 1_000_000
        words = random.integers(0, 2**62, len(ids))
        counts = ids == COUNTER
        words[counts] = times[counts] // 1_000_000
        self.store.append(Batch(cast("Column", ids), cast("Column", times), cast("Column", words)))
        self.store.flush().result(WAIT_S)
        self.clock.advance(STEP_S)
        self.store.maintain().result(WAIT_S)
        self.put.update(zip(zip(ids.tolist(), times.tolist(), strict=True), words.tolist(), strict=True))
        stats = self.store.stats()
        self.largest = max(self.largest, stats.db_bytes + stats.wal_bytes)
        self.seen += [reason for reason in self.reasons() if reason not in self.seen]

    def online(self, hours: int, random: np.random.Generator, every_s: int = 20) -> None:
        """The central server confirms all at once."""
        self.store.hold("telemetry", None).result(WAIT_S)
        for _ in range(hours // 2):
            self.two_hours(random, every_s)
            self.store.ack("telemetry", self.store.newest("telemetry"), at_once=True).result(WAIT_S)
        self.store.hold("telemetry", self.store.newest("telemetry")).result(WAIT_S)

    def offline(self, hours: int, random: np.random.Generator, every_s: int = 20) -> None:
        """Nobody confirms anything."""
        self.put.clear()
        for _ in range(hours // 2):
            self.two_hours(random, every_s)

    def reasons(self) -> list[str]:
        """Why something went so far, in the order in which that began."""
        with self.store._readers.snapshot() as reader:
            found = reader.execute("SELECT reason FROM dropped GROUP BY reason ORDER BY min(id)")
            return [reason for (reason,) in found if reason != dropped.EMPTY]

    def lost(self) -> Counter[int]:
        """Rows that the record says to be lost, by signal."""
        _, gone = self.store.dropped(100_000, 0)
        found: Counter[int] = Counter()
        for one in gone:
            if one.reason in dropped.LOSSES and one.signal is not None:
                found[one.signal] += one.rows
        return found

    def numbers_gone(self, after: int) -> set[int]:
        """The numbers above that one that the record says to be gone."""
        _, gone = self.store.dropped(100_000, 0)
        spans = [(one.from_seq, one.to_seq) for one in gone if one.signal is None and one.from_seq is not None]
        return {number for first, last in spans for number in range(first, (last or 0) + 1) if number > after}


def registers(put: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """The first and last row of the counter in each hour."""
    times: dict[int, list[int]] = {}
    for signal, t_us in put:
        if signal == COUNTER:
            times.setdefault(t_us // HOUR_US, []).append(t_us)
    return {(COUNTER, t_us): put[COUNTER, t_us] for one in times.values() for t_us in (min(one), max(one))}


@contextmanager
def site(path: Path, max_bytes: int, clock: FakeClock | None = None) -> Iterator[Site]:
    clock = clock or FakeClock(1_700_000_000_000_000 // HOUR_US * HOUR_US)
    store = Store.open(path, clock, StoreSettings(max_bytes=max_bytes, wal_pages=WAL_PAGES))
    try:
        store.assign(SPECS)
        yield Site(store, clock, path)
    finally:
        store.close()


def drain(store: Store) -> tuple[dict[tuple[int, int], int], set[int]]:
    """What arrives at a central server, and under which numbers; each number and row once."""
    store.hold("telemetry", None).result(WAIT_S)
    rows: dict[tuple[int, int], int] = {}
    numbers: set[int] = set()
    after = store.acked("telemetry")
    while blocks := store.blocks(after, 50):
        for block in blocks:
            names = set(range(block.first_seq, block.seq + 1))
            assert not numbers & names
            numbers |= names
            for signal, t_us, word in decode_rows(block.data):
                assert (signal, t_us) not in rows
                assert word is not None
                rows[signal, t_us] = word
        after = blocks[-1].seq
    return rows, numbers


@pytest.mark.parametrize(
    ("every_s", "max_bytes", "last"),
    [
        pytest.param(4, 5_500_000, "unsent_half", marks=pytest.mark.long),
        pytest.param(4, 4_300_000, "unsent_minutes", marks=pytest.mark.long),
        pytest.param(4, 2_000_000, "unsent_raw", marks=pytest.mark.long),
        (20, 700_000, "unsent_raw"),
    ],
)
def test_a_week_offline_gives_up_what_is_missed_least_and_counts_it(
    tmp_path: Path, every_s: int, max_bytes: int, last: str
) -> None:
    random = np.random.default_rng(14)
    path = tmp_path / "enlace.db"
    with site(path, 10**9) as one:
        one.store.record(Event("test.kept", 1)).result(WAIT_S)
        one.online(6, random)
        clock = one.clock
    with site(path, max_bytes, clock) as one:
        acked = one.store.acked("telemetry")
        one.offline(7 * 24, random, every_s)
        # 1 min roll-ups of what was confirmed go early, the others late.
        assert [reason for reason in one.seen if reason != "minute_size"] == ORDER[: ORDER.index(last) + 1]
        assert one.largest < max_bytes * 1.1 + WAL_BYTES
        clock.advance(3700)
        one.store.maintain().result(WAIT_S)
        arrived, numbers = drain(one.store)

        # Counted: what is missing at the server, row by row and number by number, is what the record says.
        assert set(arrived) <= set(one.put)
        missing = Counter(signal for signal, _ in one.put) - Counter(signal for signal, _ in arrived)
        assert missing == one.lost()
        assert set(range(acked + 1, one.store.newest("telemetry") + 1)) - numbers == one.numbers_gone(acked)
        told = [stored.event.data for stored in one.store.events(0, 100_000, "store.dropped")]
        lost = [data["rows"] for data in told if data["reason"] in dropped.LOSSES]
        assert sum(cast("list[int]", lost)) == sum(missing.values()) == one.store.stats().lost_rows
        assert len(told) < 8 * 7 * 24

        # Kept: the ledger, and the registers' hours.
        assert len(one.store.events(0, 10, "test.kept")) == 1
        ends = registers(one.put)
        assert ends.items() <= arrived.items()
        assert len(ends) == 2 * 7 * 24
        for (signal, t_us), word in arrived.items():
            if signal not in GAUGES or last == "unsent_half":
                assert word == one.put[signal, t_us]  # nothing is made up


def test_roll_ups_do_not_change_when_their_rows_go(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    with site(tmp_path / "enlace.db", 900_000) as one:
        one.store.hold("telemetry", 0).result(WAIT_S)
        one.offline(24, random, 4)
        assert "unsent_minutes" in one.seen
        assert "minute_size" not in one.seen
        spans = [(min(t for _, t in one.put), one.clock.now_us())]
        rolled = one.store.rolled(range(1, 6), "minute", spans)
        for signal in range(1, 6):
            assert rolled[signal].count.sum() == sum(number == signal for number, _ in one.put)


def test_what_may_have_been_sent_is_never_thinned(tmp_path: Path) -> None:
    """The server has it, or not: under the same numbers there are the same rows for ever."""
    random = np.random.default_rng(3)
    with site(tmp_path / "enlace.db", 700_000) as one:
        one.store.hold("telemetry", None).result(WAIT_S)
        one.offline(24, random, 4)
        assert one.seen == ["maybe_sent"]
        arrived, numbers = drain(one.store)
        assert arrived.items() <= one.put.items()
        assert numbers == set(range(min(numbers), one.store.newest("telemetry") + 1))
        assert one.numbers_gone(0) == set(range(1, min(numbers)))


def test_years_of_roll_ups_cost_nothing_that_was_not_sent(tmp_path: Path) -> None:
    """A file that is full of them gives them up before the rows that are on their way."""
    random = np.random.default_rng(3)
    path = tmp_path / "enlace.db"
    with site(path, 10**9) as one:
        one.online(10 * 24, random, 60)
        clock = one.clock
    with site(path, 3_000_000, clock) as one:
        one.offline(24, random)
        assert one.seen == ["size", "minute_size"]
        assert len(drain(one.store)[0]) == len(one.put)


def test_a_killed_store_thins_no_block_twice(tmp_path: Path) -> None:
    """How far a block was thinned stands beside it: reopened again and again, each goes level by level."""
    random = np.random.default_rng(3)
    path = tmp_path / "enlace.db"
    with site(path, 10**9) as one:
        one.store.hold("telemetry", 0).result(WAIT_S)
        one.offline(12, random, 4)
        put = dict(one.put)
    assert path.stat().st_size > 400_000
    levels: set[int] = set()
    for _ in range(6):
        with site(path, 200_000) as one:
            one.store.maintain().result(WAIT_S)
            with one.store._readers.snapshot() as reader:
                levels |= {level for (level,) in reader.execute("SELECT level FROM block")}
            missing = sum(one.lost().values())
    assert levels <= {2, 3, 4}
    with site(path, 10**9) as one:
        arrived, _ = drain(one.store)
        assert len(put) - len(arrived) == missing


@pytest.mark.parametrize("days", [6, pytest.param(30, marks=pytest.mark.long)])
def test_a_month_under_a_quota_stays_within_it(tmp_path: Path, days: int) -> None:
    """With a central server that confirms: the file and its log, and the record of what went."""
    random = np.random.default_rng(16)
    max_bytes = 1_500_000
    with site(tmp_path / "enlace.db", max_bytes) as one:
        one.store.hold("telemetry", 0).result(WAIT_S)
        for _ in range(days * 12):
            one.two_hours(random, 60)
            one.store.ack("telemetry", one.store.newest("telemetry"), at_once=True).result(WAIT_S)
        assert one.largest < max_bytes * 1.1 + WAL_BYTES
        assert set(one.seen) == {"size", "minute_size"}
        assert one.store.dropped(1, 0)[0] < 200
        assert one.store.stats().lost_rows == 0
