"""Unusual hours are found, usual ones are left alone, whatever their distribution."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.core.model import Kind, Signal
from agent.insight.anomalies import MAX_FINDINGS, Finding, Hours, judged, unusual, week_hours, worst
from agent.insight.periods import HOUR_US, local
from tests.insight_fakes import MONDAY_US

ZONE = ZoneInfo("Europe/Madrid")
HISTORY, TESTED = 8 * 168, 4 * 168
SEEDS = 6
Floats = NDArray[np.float64]


def _gauss(random: np.random.Generator, hour: Floats, day: Floats) -> Floats:
    return 20 + 5 * np.sin(hour / 24 * 2 * np.pi) + random.normal(0, 1, len(hour))


def _workdays(random: np.random.Generator, hour: Floats, day: Floats) -> Floats:
    busy = (day < 5) & (hour >= 8) & (hour < 18)
    return np.where(busy, 8000, 500) * random.lognormal(0, 0.3, len(hour))


def _sessions(random: np.random.Generator, hour: Floats, day: Floats) -> Floats:
    return np.where(random.random(len(hour)) < 0.2, random.choice([3700.0, 7400.0, 11_000.0], len(hour)), 5.0)


def _rare_sessions(random: np.random.Generator, hour: Floats, day: Floats) -> Floats:
    return np.where(random.random(len(hour)) < 0.02, 11_000.0, 0.0)


def _wandering(random: np.random.Generator, hour: Floats, day: Floats) -> Floats:
    return 50 + 40 * np.sin(np.cumsum(random.normal(0, 8, len(hour))) / 40)


def _heavy_tails(random: np.random.Generator, hour: Floats, day: Floats) -> Floats:
    return 400 + random.standard_t(4, len(hour))


def _constant(random: np.random.Generator, hour: Floats, day: Floats) -> Floats:
    return np.full(len(hour), 5.0)


CLEAN: list[Callable[[np.random.Generator, Floats, Floats], Floats]] = [
    _gauss, _workdays, _sessions, _rare_sessions, _wandering, _heavy_tails, _constant,
]  # fmt: skip


def series(make: Callable[[np.random.Generator, Floats, Floats], Floats], seed: int) -> Floats:
    count = np.arange(HISTORY + TESTED)
    return make(np.random.default_rng(seed), (count % 24).astype(np.float64), (count // 24 % 7).astype(np.float64))


def split(values: Floats) -> tuple[Hours, Hours]:
    times = MONDAY_US + np.arange(len(values), dtype=np.int64) * HOUR_US
    return Hours(times[:HISTORY], values[:HISTORY]), Hours(times[HISTORY:], values[HISTORY:])


def find(values: Floats) -> list[Finding]:
    found = unusual("x", "W", *split(values), ZONE)
    assert found is not None
    return found


def test_clean_data_gives_next_to_no_findings() -> None:
    """In 28,000 hours of seven kinds of device: one in two thousand may be wrong, of those with heavy tails."""
    count = {make.__name__: sum(len(find(series(make, seed))) for seed in range(SEEDS)) for make in CLEAN}
    hours = len(CLEAN) * SEEDS * TESTED
    assert sum(count.values()) / hours <= 1 / 2000, count
    assert {name for name, number in count.items() if number > 2} <= {"_heavy_tails"}, count


def test_a_consumption_at_night_that_is_usual_by_day_is_found() -> None:
    values = series(_workdays, 4)
    at = HISTORY + 2 * 168 + 24 + 3  # a Tuesday, 03:00 UTC
    values[at : at + 3] = 9000
    found = find(values)
    assert [(one.from_us, one.to_us, one.direction) for one in found] == [
        (MONDAY_US + at * HOUR_US, MONDAY_US + (at + 3) * HOUR_US, "high")
    ]
    one = found[0]
    assert (one.value, one.score > 6) == (9000, True)
    assert one.low < 500 < one.high < 9000
    assert "9000 W within 3 hours" in one.text


@pytest.mark.parametrize(("value", "direction"), [(15.0, "high"), (-15.0, "low")])
def test_a_peak_and_a_drop_are_found_on_each_clean_series(value: float, direction: str) -> None:
    for make in (_gauss, _heavy_tails, _wandering):
        values = series(make, 1)
        scale = np.std(values)
        values[HISTORY + 100] = np.median(values) + value * scale
        found = [one for one in find(values) if one.from_us == MONDAY_US + (HISTORY + 100) * HOUR_US]
        assert [one.direction for one in found] == [direction], make.__name__


def test_a_device_that_draws_twice_its_power_is_found() -> None:
    values = series(_sessions, 2)
    values[HISTORY + 50 : HISTORY + 53] = 30_000
    assert [one.value for one in find(values)] == [30_000]


def test_too_little_history_says_nothing() -> None:
    history, tested = split(series(_gauss, 1))
    short = Hours(history.t_us[-13 * 24 :], history.values[-13 * 24 :])
    assert unusual("x", "W", short, tested, ZONE) is None
    sparse = Hours(history.t_us[::400], history.values[::400])
    assert unusual("x", "W", sparse, tested, ZONE) is None
    none = Hours(history.t_us[:0], history.values[:0])
    assert unusual("x", "W", none, tested, ZONE) is None
    assert unusual("x", "W", history, none, ZONE) is None


def test_a_change_of_a_constant_is_not_judged_without_a_resolution() -> None:
    values = np.zeros(HISTORY + TESTED)
    values[HISTORY + 5] = 1
    assert find(values) == []
    found = unusual("x", "", *split(values), ZONE, 0.1)
    assert found is not None
    assert [one.value for one in found] == [1]


def test_hours_of_the_week_are_those_of_the_zone() -> None:
    times = MONDAY_US + np.arange(0, 400 * 24, 7, dtype=np.int64) * HOUR_US
    for zone in (ZoneInfo("UTC"), ZONE, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/Mexico_City")):
        shown = [local(one, zone) for one in times.tolist()]
        right = np.array([one.weekday() * 24 + one.hour for one in shown])
        wrong = np.flatnonzero(week_hours(times, zone) != right)
        # Where the clocks are changed, the offset of midnight UTC counts for that day.
        assert len({shown[place].date() for place in wrong.tolist()}) <= 3


def test_only_what_a_device_measures_is_judged() -> None:
    def one(name: str, kind: Kind = Kind.GAUGE) -> bool:
        return judged(Signal("d", name, kind=kind))

    assert all(one(name) for name in ("power_w", "power_w.2", "temperature_max_degc", "soc_pct")[:1])
    assert one("temperature_max_degc")
    for name in ("current_limit_a", "cell_voltage_max_index", "power_offered_w", "Pack.Signal1", "power_demand_w"):
        assert not one(name)
    assert not one("power_w", Kind.STATE)


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(6, 100)), max_size=300))
def test_findings_are_bounded_and_the_worst_stay(parts: list[tuple[int, float]]) -> None:
    findings = [Finding("x", n, n + 1, "high", 1, 0, 0, score, "") for n, score in parts]
    kept = worst(findings)
    assert len(kept) == min(len(findings), MAX_FINDINGS)
    assert (
        sorted((one.score for one in kept), reverse=True)
        == sorted((one.score for one in findings), reverse=True)[: len(kept)]
    )
    assert [one.from_us for one in kept] == sorted(one.from_us for one in kept)
    assert worst(list(reversed(findings))) == kept or len({*parts}) < len(parts)
