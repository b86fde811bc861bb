"""Insight over the real store: what was just committed counts, posted consumption counts once over a restart."""

import asyncio
from array import array
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.core.model import Batch, Kind, Session, Signal, SignalSpec
from agent.insight import postings
from agent.insight.periods import HOUR_US, MINUTE_US
from agent.insight.service import Insight, InsightSettings
from agent.store.db import Store

WAIT_S = 60.0
START = 1_767_571_200_000_000  # 2026-01-05, a Monday


def put(store: Store, signal: Signal, rows: list[tuple[int, int]]) -> None:
    columns = array("i", [signal.id] * len(rows)), array("q", [t for t, _ in rows]), array("q", [w for _, w in rows])
    store.append(Batch(*columns))


def test_energy_counts_what_was_just_committed_and_stays_the_same_when_it_is_rolled_up(tmp_path: Path) -> None:
    clock = FakeClock(START + 3 * HOUR_US)
    with closing(Store.open(tmp_path / "enlace.db", clock)) as store:
        register = store.assign([SignalSpec("m", "energy_import_wh", "Wh", Kind.COUNTER, scale=10)])[0]
        insight = Insight(store, clock, InsightSettings(UTC))
        insight.warm()
        put(store, register, [(START + n * MINUTE_US, 1000 + n) for n in range(90)])
        store.flush().result(WAIT_S)
        insight.warm()
        put(store, register, [(START + n * MINUTE_US, 1000 + n) for n in range(90, 180)])
        store.flush().result(WAIT_S)
        fresh = insight.energy("m", "hour", START, START + 3 * HOUR_US)
        assert [one.wh for one in fresh.periods] == [590, 600, 600]
        assert not any(one.estimated for one in fresh.periods)
        store.maintain().result(WAIT_S)
        clock.advance(61)
        rolled = insight.energy("m", "hour", START, START + 3 * HOUR_US)
        assert rolled == fresh
        found = insight.summary("m", START + 1, START + 2 * HOUR_US + 30_000_000, ["energy_import_wh"])
        assert (found["energy_import_wh"].samples, found["energy_import_wh"].lo) == (120, 10_010)


@pytest.mark.parametrize("crash", [False, True])
def test_posted_consumption_counts_once_over_a_restart(tmp_path: Path, crash: bool) -> None:  # noqa: FBT001
    clock = FakeClock(START + 10 * HOUR_US)
    path = tmp_path / "enlace.db"

    def stored(store: Store, signal: Signal) -> dict[int, float]:
        rows = store.rows([signal.id], 0, START + 10 * HOUR_US)
        return {t_us: float(value) for t_us, _, value in rows if value is not None}

    async def post(store: Store, kwh: float, hour: int, *, stop: bool = False) -> postings.Verdict:
        signal = store.assign([postings.spec("ac1")])[0]
        account = postings.account_of(store.note(postings.NOTE, "ac1"))
        posted = postings.post(account, kwh, START + hour * HOUR_US, clock.now_us(), lambda _: None)
        if posted.account != account:
            await store.write(postings.NOTE, "ac1", posted.account.data)
        if not stop:
            put(store, signal, list(posted.rows))
            await asyncio.wrap_future(store.flush())
        return posted.verdict

    with closing(Store.open(path, clock)) as store:
        assert asyncio.run(post(store, 1.5, 1, stop=crash)) is postings.Verdict.ACCEPTED
    with closing(Store.open(path, clock)) as store:
        signal = store.assign([postings.spec("ac1")])[0]
        put(store, signal, list(postings.rows_of(postings.account_of(store.note(postings.NOTE, "ac1")))))
        assert asyncio.run(post(store, 1.5, 1)) is postings.Verdict.DUPLICATE
        assert asyncio.run(post(store, 2.5, 1)) is postings.Verdict.CONFLICT
        assert asyncio.run(post(store, 0.25, 4)) is postings.Verdict.ACCEPTED
        assert stored(store, signal)[START + 4 * HOUR_US] == pytest.approx(1750)
        found = Insight(store, clock).energy("ac1", "hour", START, START + 5 * HOUR_US)
        assert [one.wh for one in found.periods] == [None, pytest.approx(1500), None, None, pytest.approx(250)]
        assert found.source == "posted"


def test_sessions_of_the_store_are_counted_by_station_and_day(tmp_path: Path) -> None:
    clock = FakeClock(START + 48 * HOUR_US)
    with closing(Store.open(tmp_path / "enlace.db", clock)) as store:
        for hour in (1, 5, 30):
            session = Session(
                "cp1", 1, str(hour), START + hour * HOUR_US, stop_us=START + (hour + 1) * HOUR_US, energy_wh=700
            )
            asyncio.run(store.begin(session))
        found = Insight(store, clock).sessions("day", START, START + 48 * HOUR_US, [])
        assert [(one.station, one.sessions, one.wh) for one in found] == [("cp1", 2, 1400), ("cp1", 1, 700)]
