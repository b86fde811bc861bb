"""Insight over a year of 1 Hz data: how fast months, days, charts, anomalies and recommendations come.

The roll-ups of a year and the raw blocks of its last ten minutes are put into the tables as sealing would, for a site
of so many chargers and a meter, with a register and a power each. Then the store is opened and asked, also while the
last ten minutes lie in hot blocks, which is the worst time.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.core.clock import FakeClock
from agent.core.model import Batch, Column, Kind, SignalSpec
from agent.insight.anomalies import HISTORY_WEEKS, Hours, unusual
from agent.insight.periods import DAY_US, HOUR_US, MINUTE_US, WEEK_US
from agent.insight.service import KEEP_S, Insight, InsightSettings
from agent.insight.tariff import Band, tariff_of
from agent.store.db import Store
from agent.store.opening import connect

ALL = tuple(range(7))
TARIFF = tariff_of("EUR", [Band(ALL, 22 * 60, 6 * 60, 0.12), Band(ALL, 6 * 60, 22 * 60, 0.31)], 9.5, 60_000)
WAIT_S = 60.0
START_US = 1_767_571_200_000_000  # 2026-01-05, a Monday
TAIL_S = 600
OTHERS = 100  #: signals that fill the hot blocks, as a BMS does

Ints = NDArray[np.int64]


def main() -> None:
    """Print every figure. ``ENLACE_BENCH_INSIGHT_DAYS`` and ``_CHARGERS`` shorten the year and the site."""
    days = int(os.environ.get("ENLACE_BENCH_INSIGHT_DAYS", "365"))
    chargers = int(os.environ.get("ENLACE_BENCH_INSIGHT_CHARGERS", "4"))
    with tempfile.TemporaryDirectory(dir=os.environ.get("ENLACE_BENCH_DIR")) as folder:
        path = Path(folder) / "enlace.db"
        end_us = START_US + days * DAY_US
        clock = FakeClock(end_us)
        devices = ["grid", *(f"cp{n}" for n in range(1, chargers + 1))]
        store = Store.open(path, clock)
        ids = _declare(store, devices)
        store.close()
        _construct(path, ids, days)
        store = Store.open(path, clock)
        try:
            _figures(store, clock, end_us, days)
        finally:
            store.close()
    _false_alarms()


def _declare(store: Store, devices: list[str]) -> dict[str, tuple[int, int]]:
    specs = [SignalSpec(one, "energy_import_wh", "Wh", Kind.COUNTER) for one in devices]
    specs += [SignalSpec(one, "power_w", "W") for one in devices]
    specs.append(SignalSpec("grid", "energy_export_wh", "Wh", Kind.COUNTER))
    specs.append(SignalSpec("solo", "power_w", "W"))
    found = store.assign(specs)
    store.assign([SignalSpec("bms", f"Pack.Signal{n}") for n in range(1, OTHERS + 1)])
    pairs = {one: (found[n].id, found[len(devices) + n].id) for n, one in enumerate(devices)}
    return pairs | {"solo": (0, found[-1].id)}


def _construct(path: Path, ids: dict[str, tuple[int, int]], days: int) -> None:
    """The roll-ups of all those days: each minute has 60 samples."""
    with closing(connect(path)) as connection:
        for register, power in ids.values():
            random = np.random.default_rng(power)
            minutes = days * DAY_US // MINUTE_US
            busy = np.isin((np.arange(minutes) // 60) % 24, [18, 19, 20])
            watts = np.round(np.where(busy, 7200, 40) * random.uniform(0.9, 1.1, minutes)).astype(np.int64)
            total = 1_000_000 + np.cumsum(watts // 60 + 1)
            connection.execute("BEGIN IMMEDIATE")
            for table, width_us in (("minute", MINUTE_US), ("hour", HOUR_US)):
                insert = (
                    f"INSERT INTO {table}(signal, t, lo, hi, sum, last, count, gaps) VALUES(?, ?, ?, ?, ?, ?, ?, 0)"
                )
                each = width_us // MINUTE_US
                connection.executemany(insert, _rows(power, watts, watts, each))
                if register:
                    connection.executemany(insert, _rows(register, np.append(total[0], total[:-1]), total, each))
            connection.execute("COMMIT")


def _rows(signal: int, first: Ints, last: Ints, minutes: int) -> Iterator[tuple[int, ...]]:
    """The buckets of so many minutes of a signal that went from ``first`` to ``last`` in each minute."""
    lows, highs = (np.minimum(first, last).reshape(-1, minutes), np.maximum(first, last).reshape(-1, minutes))
    samples = 60 * minutes
    sums = (highs.sum(axis=1) * 60).tolist()
    columns = (lows.min(axis=1).tolist(), highs.max(axis=1).tolist(), sums, last[minutes - 1 :: minutes].tolist())
    start = START_US // (minutes * MINUTE_US)
    for n, (lo, hi, total, end) in enumerate(zip(*columns, strict=True)):
        yield signal, start + n, lo, hi, total, end, samples


def _figures(store: Store, clock: FakeClock, end_us: int, days: int) -> None:
    insight = Insight(store, clock, InsightSettings(UTC, TARIFF, limit_w=60_000))

    def asked(call: Callable[[], object], times: int = 9) -> float:
        taken: list[float] = []
        for _ in range(times):
            clock.advance(KEEP_S + 1)  # no kept answers
            began_s = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began_s)
        return statistics.median(taken) * 1e3

    month_us = max(end_us - 30 * DAY_US, START_US)
    month_ms = asked(lambda: insight.energy("cp1", "month", month_us + DAY_US, month_us + 2 * DAY_US))
    by_day_ms = asked(lambda: insight.energy("cp1", "day", month_us, end_us))
    print(f"energy of a month: {month_ms:.1f} ms (1x) target < 20")
    print(f"energy of 30 days, by day: {by_day_ms:.1f} ms ({by_day_ms / month_ms:.1f}x)")
    hours_ms = asked(lambda: insight.energy("cp1", "hour", end_us - DAY_US, end_us))
    print(f"energy of a day, by hour: {hours_ms:.1f} ms ({hours_ms / month_ms:.1f}x)")
    year_ms = asked(lambda: insight.energy("cp1", "month", START_US, end_us), 5)
    print(f"energy of {days} days, by month: {year_ms:.1f} ms ({year_ms / month_ms:.1f}x)")
    days_ms = asked(lambda: insight.energy("cp1", "day", START_US, end_us), 5)
    print(f"energy of {days} days, by day: {days_ms:.1f} ms ({days_ms / month_ms:.1f}x)")
    power_ms = asked(lambda: insight.energy("solo", "month", month_us + DAY_US, month_us + 2 * DAY_US), 5)
    print(f"energy of a month from power, minute by minute: {power_ms:.1f} ms ({power_ms / month_ms:.1f}x)")
    power_id = store.ids_of("cp1", "power_w")[-1]
    chart_ms = asked(lambda: store.history([power_id], end_us - DAY_US, end_us))
    print(f"chart of a day of a signal: {chart_ms:.1f} ms ({chart_ms / month_ms:.1f}x) target < 50")
    summary_ms = asked(lambda: insight.summary("cp1", START_US + 1, end_us - 1, ["power_w"]))
    print(f"summary of {days} days: {summary_ms:.1f} ms ({summary_ms / month_ms:.1f}x)")
    anomalies_ms = asked(lambda: insight.anomalies("cp1", end_us - WEEK_US, end_us), 3)
    print(f"anomalies of a week, against {HISTORY_WEEKS} weeks: {anomalies_ms:.0f} ms ({anomalies_ms / month_ms:.0f}x)")
    advice_ms = asked(insight.recommendations, 3)
    print(f"recommendations for the site: {advice_ms:.0f} ms ({advice_ms / month_ms:.0f}x)")
    _with_tail(store, insight, clock, end_us, month_ms)


def _with_tail(store: Store, insight: Insight, clock: FakeClock, end_us: int, month_ms: float) -> None:
    """The same while ten minutes of 1 Hz commits wait for their roll-up: the first question, and those behind it."""
    signals = [signal.id for signal in store.catalog()[1]]
    ids = cast("Column", np.array(signals, np.int32))
    words = cast("Column", np.array([10_000_000_000] * len(signals), np.int64))
    for second in range(TAIL_S - 5):
        store.append(Batch(ids, cast("Column", np.full(len(signals), end_us + second * 1_000_000)), words))
        store.flush().result(WAIT_S)
    now_us = end_us + TAIL_S * 1_000_000
    power_id = store.ids_of("cp1", "power_w")[-1]
    began_s = time.perf_counter()
    insight.warm()
    warm_ms = (time.perf_counter() - began_s) * 1e3
    print(f"summing up {TAIL_S} hot blocks: {warm_ms:.0f} ms ({warm_ms / TAIL_S:.2f} ms each, once)")
    taken: list[float] = []
    for _ in range(6):
        clock.advance(KEEP_S + 1)
        began_s = time.perf_counter()
        insight.energy("cp1", "day", now_us - 30 * DAY_US, now_us)
        taken.append((time.perf_counter() - began_s) * 1e3)
    then = statistics.median(taken)
    print(f"energy of 30 days up to now, by day, {TAIL_S} hot blocks: {then:.1f} ms ({then / month_ms:.1f}x)")
    charts: list[float] = []
    for _ in range(5):
        began_s = time.perf_counter()
        store.history([power_id], now_us - DAY_US, now_us)
        charts.append((time.perf_counter() - began_s) * 1e3)
    chart_ms = statistics.median(charts)
    print(f"chart of a day up to now, {TAIL_S} hot blocks: {chart_ms:.1f} ms ({chart_ms / month_ms:.1f}x) target < 50")


def _false_alarms() -> None:
    """Findings per hour on clean data: noise, workdays, random sessions, heavy tails."""
    count = (HISTORY_WEEKS + 4) * 168
    hour, day = np.arange(count) % 24, np.arange(count) // 24 % 7
    busy = np.isin(hour, range(8, 18)) & np.isin(day, range(5))
    times = START_US + np.arange(count, dtype=np.int64) * HOUR_US
    cut = HISTORY_WEEKS * 168
    for name in ("noise", "workdays", "sessions", "heavy tails"):
        found = 0
        for seed in range(10):
            random = np.random.default_rng(seed)
            values = {
                "noise": 20 + 5 * np.sin(hour / 24 * 2 * np.pi) + random.normal(0, 1, count),
                "workdays": np.where(busy, 8000, 500) * random.lognormal(0, 0.3, count),
                "sessions": random.choice([3700.0, 7400.0, 11_000.0, *[5.0] * 12], count),
                "heavy tails": 400 + random.standard_t(4, count),
            }[name]
            history, tested = Hours(times[:cut], values[:cut]), Hours(times[cut:], values[cut:])
            found += len(unusual("x", "W", history, tested, UTC) or [])
        hours = 10 * 4 * 168
        print(f"false alarms, {name}: {found} in {hours} hours ({found / hours:.2%})")


if __name__ == "__main__":
    main()
