"""Figures for dashboards: counts, sums, latest values with alerts, summaries, sessions by day."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.model import Station
from agent.core.model import Kind, Number, Session, Signal
from agent.core.ports import Latest, Setting
from agent.insight.periods import HOUR_US, MINUTE_US
from agent.insight.statistics import (
    Extremes,
    count_stations,
    device_latest,
    extremes,
    newest,
    session_energy,
    split_range,
)
from tests.insight_fakes import DAY_US, MONDAY_US, roll_up


def station(name: str, outlet: int = 0, *, on: bool | None = None, max_a: float | None = 32) -> Station:
    settings = {} if max_a is None else {"current_limit_a": Setting(name, "current_limit_a", "A", 6, max_a)}
    return Station(name, name.split(".", maxsplit=1)[0], outlet, name, settings, {}, on)


def latest(**values: Number | None) -> list[Latest]:
    return [
        Latest(Signal("v1", name, kind=Kind.GAUGE), value, MONDAY_US if value is not None else None, 5)
        for name, value in values.items()
    ]


def test_stations_are_counted_once_and_their_power_is_added() -> None:
    stations = [
        station("cp1", on=True),
        station("cp1.1", 1, on=True),
        station("cp1.2", 2, on=False),
        station("cp2", on=None),
        station("cp3", on=False, max_a=None),
        station("cp4", max_a=None),
    ]
    found = count_stations(stations, {"cp4": 50_000})
    assert (found.total, found.active, found.inactive, found.unrated) == (5, 3, 2, 1)
    assert found.kw == pytest.approx(3 * 22.08 + 50)
    assert found.active_kw == pytest.approx(2 * 22.08 + 50)
    power = Setting("cp5", "power_limit_w", "W", 0, 150_000)
    dc = Station("cp5", "cp5", 0, "cp5", {"power_limit_w": power}, {})
    assert count_stations([dc]).kw == 150
    assert count_stations([]).total == 0


def test_the_latest_of_a_vehicle_has_power_and_alerts() -> None:
    found = device_latest("v1", latest(soc_pct=12, voltage_v=400, current_a=-50, temperature_max_degc=55, soh_pct=None))
    assert (found.power_w, found.t_us) == (-20_000, MONDAY_US)
    assert [one.code for one in found.alerts] == ["soc_low", "temperature_high"]
    assert found.alerts[0].text == "state of charge 12 % is below 15 %"
    assert found.values["soh_pct"] is None


def test_a_power_of_its_own_counts_and_unknown_is_none() -> None:
    assert device_latest("v1", latest(power_w=7, voltage_v=400, current_a=2)).power_w == 7
    nothing = device_latest("v1", latest(voltage_v=400, current_a=None))
    assert (nothing.power_w, nothing.alerts) == (None, [])
    assert device_latest("v1", []).t_us is None


def test_faults_and_silence_are_alerts() -> None:
    labelled = Signal("v1", "fault_code", labels={3: "isolation"})
    fault = [Latest(labelled, 3, MONDAY_US, 9000), *latest(temperature_degc=-20, soh_pct=60, warning_imbalance=1)]
    found = device_latest("v1", [*fault, *latest(fault_overvoltage=0)])
    texts = {one.code: one.text for one in found.alerts}
    assert texts == {
        "fault_code": "isolation",
        "temperature_low": "-20 °C is below -10 °C",
        "soh_low": "state of health 60 % is below 70 %",
        "warning_imbalance": "cells drift apart",
    }
    assert [one.code for one in device_latest("v1", [Latest(Signal("v1", "soc_pct"), 50, 1, 7200)]).alerts] == ["stale"]


@given(st.integers(0, 5 * HOUR_US), st.integers(1, 5 * HOUR_US), st.integers(1, 50))
def test_a_summary_from_roll_ups_is_that_of_the_rows(start: int, length: int, step: int) -> None:
    times = MONDAY_US + np.arange(0, 10 * HOUR_US, step * 7_000_003, dtype=np.int64)
    values = np.sin(np.arange(len(times)) * 1.7) * 50
    from_us, to_us = MONDAY_US + start, MONDAY_US + start + length
    levels, rest = split_range(from_us, to_us)
    parts = []
    for level, ranges in levels.items():
        rolled = roll_up(times, values, HOUR_US if level == "hour" else MINUTE_US)
        for one, two in ranges:
            parts.append(rolled.take((rolled.t_us >= one) & (rolled.t_us < two)))
    rows = [
        value
        for one, two in rest
        for t_us, value in zip(times.tolist(), values.tolist(), strict=True)
        if one <= t_us < two
    ]
    inside = values[(times >= from_us) & (times < to_us)]
    expected = (
        Extremes(len(inside), float(inside.min()), float(inside.max())) if len(inside) else Extremes(0, None, None)
    )
    assert extremes(parts, rows) == expected
    assert sum(two - one for one, two in rest) < 2 * MINUTE_US


def test_sessions_by_station_and_day() -> None:
    def one(device: str, outlet: int, day: float, wh: float | None, hours: float | None) -> Session:
        start = MONDAY_US + round(day * DAY_US)
        stop = None if hours is None else start + round(hours * HOUR_US)
        return Session(device, outlet, f"{device}{day}", start, energy_wh=wh, stop_us=stop)

    sessions = [
        one("cp1", 1, 0.5, 8000, 2),
        one("cp1", 1, 0.9, 2000, 5),  # over midnight
        one("cp1", 2, 0.5, None, 1),
        one("cp2", 1, 1.5, 500, None),
        one("cp2", 1, 7, 500, 1),
        one("cp2", 1, -1, 500, 1),
    ]
    bounds = [MONDAY_US, MONDAY_US + DAY_US, MONDAY_US + 2 * DAY_US]
    stations = [station("cp1"), station("cp1.1", 1), station("cp1.2", 2), station("cp2")]
    found = session_energy(sessions, bounds, stations, MONDAY_US + round(1.5 * DAY_US) + 3 * HOUR_US)
    assert [(row.station, row.from_us, row.sessions, row.wh, row.connected_s) for row in found] == [
        ("cp1.1", bounds[0], 2, 10_000, 7 * 3600),
        ("cp1.2", bounds[0], 1, None, 3600),
        ("cp2", bounds[1], 1, 500, 3 * 3600),
    ]


def test_a_name_has_had_several_numbers() -> None:
    signals = [Signal("v", "soc_pct", id=1), Signal("v", "soh_pct", id=2), Signal("v", "soc_pct", id=3)]
    assert newest(signals, ["soc_pct", "x"]) == {"soc_pct": [1, 3]}
