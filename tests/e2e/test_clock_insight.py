"""Energy, charts and averages over a clock that jumps: nothing negative, nothing counted twice."""

import asyncio
from array import array
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock_trust import ClockTrust, Sources
from agent.core.clock import FakeClock, HeldClock
from agent.core.model import Batch, Kind, SignalSpec
from agent.insight.periods import HOUR_US
from agent.insight.service import Insight, InsightSettings
from agent.store.db import Store
from agent.store.settings import StoreSettings

WAIT_S = 60.0
NOBODY = Sources(lambda: None, lambda: False)
START = 1_830_297_600_000_000  # 2028-01-01
DAY_S = 86400
EVERY_S = 20
WH = 30  #: each time: 5.4 kW


@settings(max_examples=20, deadline=None)
@given(
    script=st.lists(
        st.tuples(
            st.sampled_from([-365 * DAY_S, -DAY_S, -3600, -600, -61, -1, 1, 61, 600, 3600, DAY_S, 365 * DAY_S]),
            st.integers(5, 300),
        ),
        min_size=1,
        max_size=4,
    ),
    tidies=st.booleans(),
)
@pytest.mark.announced_warnings
def test_what_a_register_counts_over_a_jump_is_counted_once_at_most(
    tmp_path_factory: pytest.TempPathFactory,
    script: list[tuple[int, int]],
    tidies: bool,  # noqa: FBT001 - Hypothesis gives it
) -> None:
    clock = FakeClock(START)
    trust = ClockTrust(HeldClock(clock), NOBODY)
    trust.begin(0)
    path = tmp_path_factory.mktemp("jumps") / "enlace.db"
    with closing(Store.open(path, clock, StoreSettings(seal_s=1e9))) as store:
        register = store.assign([SignalSpec("m", "energy_import_wh", "Wh", Kind.COUNTER)])[0].id
        shown, rows = 1_000_000, 0
        for jump_s, steps in [(0, 200), *script]:
            clock.jump_wall(jump_s)
            asyncio.run(trust.tick(store, lambda _: None))
            for _ in range(steps):
                clock.advance(EVERY_S)
                shown, rows = shown + WH, rows + 1
                store.append(Batch(array("i", [register]), array("q", [clock.now_us()]), array("q", [shown])))
            store.flush().result(WAIT_S)
            if tidies:
                store.maintain().result(WAIT_S)
        insight = Insight(store, clock, InsightSettings(UTC))
        clock.jump_wall((START + 5 * 365 * DAY_S * 1_000_000 - clock.now_us()) / 1e6)
        span = START - 5 * 365 * DAY_S * 1_000_000, START + 5 * 365 * DAY_S * 1_000_000
        months = insight.energy("m", "month", *span).periods
        found = [one.wh for one in months if one.wh is not None]
        assert all(wh >= 0 for wh in found)
        assert sum(found) <= (rows - 1) * WH
        (series,) = store.history([register], *span, points=100)
        assert sum(bucket.count for bucket in series.buckets) == rows
        assert sum(bucket.count for bucket in store.history([register], *span, points=100_000)[0].buckets) == rows
        assert min(bucket.lo for bucket in series.buckets if bucket.lo is not None) > 1_000_000
        assert max(bucket.hi for bucket in series.buckets if bucket.hi is not None) == shown


@pytest.mark.parametrize("jump_s", [-3600, 3600, -61, 61])
@pytest.mark.announced_warnings
def test_after_a_jump_of_an_hour_energy_by_hour_is_whole_again(tmp_path: Path, jump_s: int) -> None:
    clock = FakeClock(START)
    trust = ClockTrust(HeldClock(clock), NOBODY)
    trust.begin(0)
    with closing(Store.open(tmp_path / "enlace.db", clock, StoreSettings(seal_s=1e9))) as store:
        register = store.assign([SignalSpec("m", "energy_import_wh", "Wh", Kind.COUNTER)])[0].id
        shown = 1_000_000
        for step in range(6 * 180):
            clock.jump_wall(jump_s if step == 3 * 180 else 0)
            clock.advance(EVERY_S)
            asyncio.run(trust.tick(store, lambda _: None))
            shown += WH
            store.append(Batch(array("i", [register]), array("q", [clock.now_us()]), array("q", [shown])))
            if step % 20 == 19:
                store.flush().result(WAIT_S)
        store.maintain().result(WAIT_S)
        hours = Insight(store, clock, InsightSettings(UTC)).energy("m", "hour", START, START + 8 * HOUR_US).periods
        found = [one.wh for one in hours if one.wh is not None]
        assert min(found) >= 0
        assert sum(found) == pytest.approx((6 * 180 - 1) * WH, abs=2 * WH)
