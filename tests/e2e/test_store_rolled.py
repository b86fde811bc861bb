"""What insight reads of the roll-ups equals the rows, wherever they lie: hot, rolled up, dropped by age."""

import math
from array import array
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.model import Batch, SignalSpec
from agent.store.db import Store
from agent.store.energy import Level, Rolled
from agent.store.opening import connect
from agent.store.rollup import HOUR_US, MINUTE_US
from agent.store.schema import set_mark

WAIT_S = 60.0
START = 1_700_000_000_000_000 // HOUR_US * HOUR_US

Row = tuple[int, int | None]  #: µs since START, value
Shown = tuple[int, int, float | None, float | None, float | None, float | None, int, int]
rows_strategy = st.lists(
    st.tuples(st.integers(0, 3 * HOUR_US), st.none() | st.integers(-1000, 1000)), min_size=1, max_size=20
)


def put(store: Store, signal: int, rows: list[Row]) -> None:
    for offset_us, value in rows:
        word = 0 if value is None else value
        store.append(
            Batch(array("i", [signal]), array("q", [START + offset_us]), array("q", [word]), valid=value is not None)
        )


def expected(rows: list[Row], width_us: int, ranges: list[tuple[int, int]]) -> list[Shown]:
    buckets: dict[int, list[float | None]] = {}
    for offset_us, value in rows:
        t_us = (START + offset_us) // width_us * width_us
        if any(from_us <= t_us < to_us for from_us, to_us in ranges):
            buckets.setdefault(t_us, []).append(None if value is None else value * 10 + 1)
    found: list[Shown] = []
    for t_us, values in sorted(buckets.items()):
        valid = [value for value in values if value is not None]
        ends = (min(valid), max(valid), sum(valid) / len(valid)) if valid else (None, None, None)
        found.append((t_us, width_us, *ends, values[-1], len(valid), values.count(None)))
    return found


def shown(rolled: Rolled) -> list[Shown]:
    columns = (getattr(rolled, name).tolist() for name in Rolled.__slots__)
    rows = zip(*columns, strict=True)
    return [tuple(None if isinstance(one, float) and math.isnan(one) else one for one in row) for row in rows]  # type: ignore[misc] # the columns of ``Shown``


def close_to(one: list[Shown], other: list[Shown]) -> bool:
    def same(left: float | None, right: float | None) -> bool:
        return left == right or (left is not None and right is not None and math.isclose(left, right, abs_tol=1e-6))

    pairs = zip(one, other, strict=True)
    return all(same(left, right) for rows in pairs for left, right in zip(*rows, strict=True))


@given(
    st.lists(st.tuples(rows_strategy, st.sampled_from(["flush", "maintain"])), min_size=1, max_size=5), st.booleans()
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_buckets_equal_the_rows(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[list[Row], str]],
    ask_between: bool,  # noqa: FBT001
) -> None:
    with closing(Store.open(tmp_path_factory.mktemp("store") / "enlace.db", FakeClock())) as store:
        store.assign([SignalSpec("a", "x", scale=10, offset=1), SignalSpec("a", "y")])
        rows: list[Row] = []
        minutes = [(START + 7 * MINUTE_US, START + 65 * MINUTE_US), (START + 2 * HOUR_US, START + 4 * HOUR_US)]
        hours = [(START, START + 4 * HOUR_US)]
        asked: list[tuple[Level, int, list[tuple[int, int]]]] = [
            ("minute", MINUTE_US, minutes),
            ("hour", HOUR_US, hours),
        ]
        for number, (block, then) in enumerate(steps):
            put(store, 1, block)
            put(store, 2, block[:1])
            rows += block
            store.flush().result(WAIT_S)
            if then == "maintain":
                store.maintain().result(WAIT_S)
            if not ask_between and number < len(steps) - 1:
                continue  # the rows of several commits are summed up at once
            for level, width_us, ranges in asked:
                answer = store.rolled([1, 2, 99], level, ranges)
                assert sorted(answer) == [1, 2]
                found, right = shown(answer[1]), expected(rows, width_us, ranges)
                assert len(found) == len(right)
                # Which of late rows is ``last`` depends on when they were rolled up: history's rule 3.
                assert close_to([row[:5] + row[6:] for row in found], [row[:5] + row[6:] for row in right])  # type: ignore[misc] # without ``last``


def test_the_newest_bucket_ahead_of_the_range_is_found_wherever_it_lies(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "enlace.db", FakeClock())) as store:
        store.assign([SignalSpec("a", "x")])
        put(store, 1, [(0, 5), (10 * MINUTE_US, 6)])
        store.flush().result(WAIT_S)
        late = [(START + 2 * HOUR_US, START + 3 * HOUR_US)]
        assert shown(store.rolled([1], "hour", late, before=True)[1])[0][:4] == (
            START + 10 * MINUTE_US,
            MINUTE_US,
            6,
            6,
        )
        store.maintain().result(WAIT_S)
        assert shown(store.rolled([1], "hour", late, before=True)[1])[0][0] == START + 10 * MINUTE_US
        assert shown(store.rolled([1], "hour", late)[1]) == []
        first = store.rolled([1], "minute", [(START, START + HOUR_US)], before=True)[1]
        assert [row[0] for row in shown(first)] == [START, START + 10 * MINUTE_US]


def test_hours_stand_in_for_minutes_that_were_dropped(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, FakeClock())) as store:
        store.assign([SignalSpec("a", "x")])
        put(store, 1, [(0, 5), (HOUR_US, 6), (HOUR_US + MINUTE_US, 7), (2 * HOUR_US, 8)])
        store.maintain().result(WAIT_S)
    with closing(connect(path)) as connection:
        set_mark(connection, "minute_cut_us", START + HOUR_US + 1)
        connection.execute("DELETE FROM minute WHERE t < ?", ((START + 2 * HOUR_US) // MINUTE_US,))
    with closing(Store.open(path, FakeClock())) as store:
        found = shown(store.rolled([1], "minute", [(START, START + 3 * HOUR_US)])[1])
        assert [(row[0] - START, row[1], row[2], row[3]) for row in found] == [
            (0, HOUR_US, 5, 5),
            (HOUR_US, HOUR_US, 6, 7),
            (2 * HOUR_US, MINUTE_US, 8, 8),
        ]


@pytest.mark.announced_warnings
def test_a_damaged_hot_block_is_left_out_and_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, FakeClock())) as store:
        store.assign([SignalSpec("a", "x")])
        for value in (5, 6):
            put(store, 1, [(0, value)])
            store.flush().result(WAIT_S)
        with closing(connect(path)) as connection:
            connection.execute("UPDATE hot SET crc = crc + 1 WHERE seq = (SELECT min(seq) FROM hot)")
        assert shown(store.rolled([1], "hour", [(START, START + HOUR_US)])[1])[0][2:4] == (6, 6)
        store.flush().result(WAIT_S)
        assert [one.event.kind for one in store.events(0, 10)] == ["store.dropped"]
