"""Energy from registers: exact where nothing is missing, and honest where something is."""

from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Kind
from agent.insight.energy import POSTED, Direction, Energy
from agent.insight.periods import HOUR_US, MINUTE_US, Period, bounds
from agent.insight.reading import read_energy
from agent.insight.registers import _one_by_one, _rising, moves_of, odd
from tests.insight_fakes import DAY_US, MONDAY_US, History, every, roll_up

UTC = ZoneInfo("UTC")
NOW_US = MONDAY_US + 60 * DAY_US


def energy(
    history: History,
    period: Period,
    from_us: int,
    to_us: int,
    *,
    zone: ZoneInfo = UTC,
    direction: Direction = "import",
    now_us: int = NOW_US,
) -> Energy:
    return read_energy(history, "m", direction, period, bounds(period, from_us, to_us, zone), now_us)


def steady(from_us: int, to_us: int, step_us: int = MINUTE_US, power_w: float = 6000) -> History:
    """A register read each minute while it draws so much."""
    history = History()
    times = every(step_us, from_us, to_us)
    history.register("m", times, 1_000_000 + (times - from_us) / HOUR_US * power_w)
    return history


def falls(values: list[float], scale: float = 1) -> list[tuple[float, dict[str, int]]]:
    """The energy of these readings between two calm minutes, and why: when each has a bucket, when six share one."""
    rows = [values[0]] * 6 + values + [values[-1]] * 6
    found = []
    for step_s in (60, 10):
        times = MONDAY_US + np.arange(len(rows), dtype=np.int64) * step_s * 1_000_000
        moved = moves_of(roll_up(times, np.array(rows, np.float64), MINUTE_US), scale)
        found.append((float(moved.wh.sum()), dict(moved.corrections)))
    return found


def test_hours_days_and_months_say_what_flowed() -> None:
    history = steady(MONDAY_US - DAY_US, MONDAY_US + 3 * DAY_US)
    hours = energy(history, "hour", MONDAY_US, MONDAY_US + DAY_US)
    assert [round(one.wh or 0) for one in hours.periods] == [6000] * 24
    assert not any(one.estimated for one in hours.periods)
    days = energy(history, "day", MONDAY_US, MONDAY_US + 2 * DAY_US)
    assert [round(one.wh or 0) for one in days.periods] == [144_000] * 2
    assert days.total_wh == pytest.approx(288_000, abs=101)
    month = energy(history, "month", MONDAY_US, MONDAY_US + DAY_US)
    # It was first seen on the fourth, and not after the eighth.
    assert month.periods[0].reasons == ("begin", "gap")
    assert month.periods[0].wh == pytest.approx(4 * 144_000, abs=101)


def test_days_on_which_clocks_change_have_23_and_25_hours_of_energy() -> None:
    for start, hours in ((1_774_738_800_000_000, 23), (1_792_879_200_000_000, 25)):  # 2026-03-29, -10-25 in Madrid
        history = steady(start - DAY_US, start + 2 * DAY_US)
        day = energy(history, "day", start, start + HOUR_US, zone=ZoneInfo("Europe/Madrid"), now_us=start + 9 * DAY_US)
        assert day.periods[0].wh == pytest.approx(hours * 6000)
        assert not day.periods[0].estimated


def test_days_of_a_zone_with_half_hours_are_exact() -> None:
    history = History()
    times = every(MINUTE_US, MONDAY_US - DAY_US, MONDAY_US + 3 * DAY_US)
    midnight = MONDAY_US - round(5.5 * HOUR_US)
    # Nothing flows but in the first half hour of the day in India, which is half of a UTC hour.
    flowing = (times - midnight) % DAY_US < HOUR_US // 2
    history.register("m", times, np.cumsum(np.where(flowing, 100.0, 0)))
    days = energy(history, "day", MONDAY_US, MONDAY_US + DAY_US, zone=ZoneInfo("Asia/Kolkata"))
    assert [one.wh for one in days.periods] == [3000, 3000]
    assert not any(one.estimated for one in days.periods)


def test_unknown_is_none_and_never_nothing() -> None:
    history = steady(MONDAY_US, MONDAY_US + 6 * HOUR_US)
    hours = energy(history, "hour", MONDAY_US - 2 * HOUR_US, MONDAY_US + 8 * HOUR_US)
    assert [one.wh is None for one in hours.periods] == [True] * 2 + [False] * 6 + [True] * 2
    still = History()
    still.register("m", every(MINUTE_US, MONDAY_US, MONDAY_US + HOUR_US), np.full(60, 5.0))
    assert energy(still, "hour", MONDAY_US, MONDAY_US + HOUR_US).periods[0].wh == 0
    none = energy(History(), "hour", MONDAY_US, MONDAY_US + HOUR_US)
    assert (none.source, none.total_wh, none.periods[0].wh) == (None, None, None)


def test_the_very_first_reading_is_no_energy() -> None:
    history = History()
    history.register("m", [MONDAY_US + HOUR_US - 1, MONDAY_US + HOUR_US + 1, MONDAY_US + HOUR_US + 2], [500, 501, 502])
    hours = energy(history, "hour", MONDAY_US, MONDAY_US + 2 * HOUR_US)
    assert [one.wh for one in hours.periods] == [None, 2]
    reset = History()
    reset.register("m", MONDAY_US + np.arange(5) * 20 * MINUTE_US, [500, 510, 4, 8, 12])
    assert [one.wh for one in energy(reset, "hour", MONDAY_US, MONDAY_US + 2 * HOUR_US).periods] == [14, 8]


def test_a_silence_inside_of_a_period_costs_nothing() -> None:
    history = steady(MONDAY_US - DAY_US, MONDAY_US + 2 * DAY_US)
    times, values = history.data[1]
    heard = (times < MONDAY_US + 8 * HOUR_US) | (times > MONDAY_US + 17 * HOUR_US)
    history.data[1] = times[heard], values[heard]
    day = energy(history, "day", MONDAY_US, MONDAY_US + DAY_US)
    assert day.periods[0].wh == pytest.approx(144_000)
    assert not day.periods[0].estimated
    hours = energy(history, "hour", MONDAY_US, MONDAY_US + DAY_US)
    assert [one.wh is None for one in hours.periods] == [False] * 8 + [True] * 9 + [False] * 7
    assert len(hours.spans) == 1
    assert hours.spans[0].wh == pytest.approx(9 * 6000, abs=201)
    assert hours.total_wh == pytest.approx(144_000)
    assert {one.reasons for one in hours.periods if one.estimated} == {("gap",)}
    assert hours.periods[17].estimated
    assert not hours.periods[18].estimated


def test_a_silence_over_midnight_is_a_span_and_both_days_are_estimated() -> None:
    history = steady(MONDAY_US - DAY_US, MONDAY_US + 2 * DAY_US)
    times, values = history.data[1]
    heard = (times < MONDAY_US + 23 * HOUR_US) | (times > MONDAY_US + 25 * HOUR_US)
    history.data[1] = times[heard], values[heard]
    days = energy(history, "day", MONDAY_US, MONDAY_US + 2 * DAY_US)
    assert [round(one.wh or 0, -3) for one in days.periods] == [138_000, 138_000]
    assert [one.reasons for one in days.periods] == [("gap",), ("gap",)]
    assert days.spans[0].wh == pytest.approx(12_000, abs=201)
    assert days.total_wh == pytest.approx(288_000, abs=101)


def test_a_meter_that_is_read_each_hour_has_hours() -> None:
    history = steady(MONDAY_US - DAY_US + 20 * MINUTE_US, MONDAY_US + 2 * DAY_US, HOUR_US)
    hours = energy(history, "hour", MONDAY_US, MONDAY_US + DAY_US)
    assert [one.wh for one in hours.periods] == [6000] * 24
    assert {one.reasons for one in hours.periods} == {("moved",)}
    assert hours.spans == []


def test_what_one_reads_a_week_later_does_not_change_the_present_month() -> None:
    history = steady(MONDAY_US - DAY_US, MONDAY_US + DAY_US + 12 * HOUR_US)
    now_us = MONDAY_US + DAY_US + 12 * HOUR_US
    days = energy(history, "day", MONDAY_US, MONDAY_US + 2 * DAY_US, now_us=now_us)
    assert days.periods[1].wh == pytest.approx(72_000, abs=101)
    assert not days.periods[1].estimated  # it is not over yet
    later = energy(history, "day", MONDAY_US, MONDAY_US + 2 * DAY_US, now_us=now_us + DAY_US)
    assert later.periods[1].reasons == ("gap",)


def test_a_reset_is_counted_from_0_and_kept() -> None:
    assert falls([9000, 9100, 30, 90, 95]) == [(195, {"reset": 1})] * 2


def test_a_rollover_loses_nothing() -> None:
    assert falls([2**32 - 100, 2**32 - 40, 10, 60]) == [(160, {"rollover": 1})] * 2
    assert falls([99_999_900, 99_999_990, 20, 50], scale=10) == [(150, {"rollover": 1})] * 2
    assert falls([65_530 * 100, 65_535 * 100, 200, 300], scale=100) == [(900, {"rollover": 1})] * 2


def test_a_glitch_costs_nothing() -> None:
    assert falls([1000, 1100, 99_999_999, 1110, 1200]) == [(200, {"glitch": 1})] * 2
    assert falls([100_000, 0, 100_050, 100_080]) == [(80, {"glitch": 1})] * 2
    # A meter that says 0 while it starts, and then goes on.
    assert falls([100_000, 0, 0, 0, 0, 0, 0, 0, 100_050, 100_060, 100_070]) == [(70, {"reset": 1, "glitch": 1})] * 2


def test_a_glitch_in_the_first_hour_costs_nothing() -> None:
    history = History()
    times = every(5 * MINUTE_US, MONDAY_US + 5 * HOUR_US, MONDAY_US + 7 * HOUR_US)
    values = 50_000 + np.arange(len(times)) * 100.0
    values[2] = 0
    history.register("m", times, values)
    day = energy(history, "day", MONDAY_US, MONDAY_US + DAY_US)
    assert (day.total_wh, day.corrections) == (2300, {"glitch": 1})


def test_another_meter_is_not_taken_for_energy() -> None:
    assert falls([100_000, 100_010, 50_000_000, 50_000_010, 50_000_030]) == [(40, {"jump": 1}), (0, {"jump": 1})]
    assert falls([50_000_000, 50_000_010, 20_000_000, 20_000_010, 20_000_030]) == [(40, {"replaced": 1})] * 2


def test_rounding_is_no_reset() -> None:
    assert falls([1000, 1000.6, 1000.2, 1001]) == [(1, {})] * 2
    assert falls([5e9, 5e9 + 512, 5e9, 5e9 + 512]) == [(512, {})] * 2


def test_the_hour_of_a_reset_is_read_minute_by_minute() -> None:
    history = History()
    times = every(10_000_000, MONDAY_US, MONDAY_US + DAY_US)
    values = np.cumsum(np.full(len(times), 10.0))
    at = 5 * 360 + 77
    values[at:] -= values[at - 1]
    history.register("m", times, values)
    assert len(odd(roll_up(times, values, HOUR_US))) == 1
    day = energy(history, "day", MONDAY_US, MONDAY_US + DAY_US)
    assert day.total_wh == 10 * (len(times) - 1)
    assert day.corrections == {"reset": 1}
    assert day.periods[0].reasons == ("reset",)
    assert day.periods[0].estimated


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), min_size=2, max_size=120),
    st.sets(st.integers(1, 119), max_size=1),
    st.sampled_from([MINUTE_US, HOUR_US]),
)
def test_energy_is_what_the_register_moved(steps: list[tuple[int, int]], resets: set[int], width_us: int) -> None:
    """Against the rows themselves: a fall counts from 0, when the next readings confirm it."""
    t_us, total, expected = MONDAY_US, 500_000.0, 0.0
    rows = [(t_us, total)]
    t_us += HOUR_US
    for number, (wh, seconds) in enumerate(steps):
        t_us += seconds * 1_000_000
        if number in resets and width_us == MINUTE_US:
            total = float(wh)
            expected += wh
            rows.append((t_us, total))
            t_us += 60_000_000
            rows += [(t_us, total), (t_us + 1, total)]
        else:
            total += wh
            expected += wh
            rows.append((t_us, total))
    times = np.array([row[0] for row in rows], np.int64)
    values = np.array([row[1] for row in rows])
    found = moves_of(roll_up(times, values, width_us), max_w=1e9)
    assert float(found.wh.sum()) == pytest.approx(expected)


@given(
    st.lists(st.booleans(), min_size=72, max_size=72),
    st.sampled_from(["UTC", "Asia/Kolkata", "America/Mexico_City"]),
    st.sampled_from(["hour", "day"]),
)
def test_periods_and_spans_add_up_whatever_is_missing(heard: list[bool], zone: str, period: Period) -> None:
    history = History()
    times = every(MINUTE_US, MONDAY_US - DAY_US, MONDAY_US + 2 * DAY_US)
    kept = np.repeat(heard, 60)
    if not kept.any():
        return
    values = np.cumsum(1.0 + np.arange(len(times)) % 50)
    history.register("m", times[kept], values[kept])
    found = energy(history, period, MONDAY_US - 2 * DAY_US, MONDAY_US + 3 * DAY_US, zone=ZoneInfo(zone))
    known = [one.wh for one in found.periods if one.wh is not None] + [one.wh for one in found.spans]
    assert sum(known) == pytest.approx(values[kept][-1] - values[kept][0])
    assert found.total_wh == pytest.approx(sum(known))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 700)), min_size=1, max_size=60))
def test_the_short_way_for_registers_that_only_rise_is_the_long_way(steps: list[tuple[int, int]]) -> None:
    times = MONDAY_US + np.cumsum([seconds for _, seconds in steps]) * 1_000_000
    values = 1000.0 + np.cumsum([wh for wh, _ in steps])
    rolled = roll_up(times.astype(np.int64), values, MINUTE_US)
    short, long = _rising(rolled, 1e9), _one_by_one(rolled, 1, 1e9)
    assert short is not None
    assert sorted(zip(short.from_us.tolist(), short.at_us.tolist(), short.wh.tolist(), strict=True)) == sorted(
        zip(long.from_us.tolist(), long.at_us.tolist(), long.wh.tolist(), strict=True)
    )
    assert (short.first_us, short.last_us, long.reasons) == (long.first_us, long.last_us, {})


def test_tariff_registers_are_one_meter() -> None:
    history = History()
    times = every(MINUTE_US, MONDAY_US - HOUR_US, MONDAY_US + DAY_US)
    night = ((times - MONDAY_US) // HOUR_US) % 24 < 6
    history.register("m", times, np.cumsum(np.where(night, 10.0, 0)), name="energy_import_tariff_wh.1")
    history.register("m", times, np.cumsum(np.where(night, 0, 20.0)), name="energy_import_tariff_wh.2")
    hours = energy(history, "hour", MONDAY_US, MONDAY_US + DAY_US)
    assert [one.wh for one in hours.periods] == [600] * 6 + [1200] * 18
    assert hours.signals == ("energy_import_tariff_wh.1", "energy_import_tariff_wh.2")


def test_power_stands_in_where_there_is_no_register_and_says_so() -> None:
    history = History()
    times = every(10_000_000, MONDAY_US, MONDAY_US + 3 * HOUR_US)
    power = np.where(times < MONDAY_US + HOUR_US, 3000.0, np.where(times < MONDAY_US + 2 * HOUR_US, -1000.0, 0.0))
    history.add("m", "power_w", times, power, unit="W")
    drawn = energy(history, "hour", MONDAY_US, MONDAY_US + 4 * HOUR_US)
    assert [one.wh for one in drawn.periods] == [3000, 0, 0, None]
    assert {one.reasons for one in drawn.periods[:3]} == {("power",)}
    assert drawn.source == "power"
    given_back = energy(history, "hour", MONDAY_US, MONDAY_US + 4 * HOUR_US, direction="export")
    assert [one.wh for one in given_back.periods] == [0, 1000, 0, None]
    history.data[1] = times[times < MONDAY_US + HOUR_US // 2], power[times < MONDAY_US + HOUR_US // 2]
    history._rolled.clear()
    half = energy(history, "hour", MONDAY_US, MONDAY_US + HOUR_US)
    assert half.periods[0].reasons == ("gap", "power")
    assert half.periods[0].wh == pytest.approx(1500 + 250)  # held for five minutes


def test_a_posting_belongs_to_the_hour_that_it_names() -> None:
    history = History()
    times = [MONDAY_US - 1, MONDAY_US, MONDAY_US + HOUR_US, MONDAY_US + 5 * HOUR_US]
    history.register("m", times, [0, 1e6, 1.5e6, 2.5e6], source=POSTED)
    hours = energy(history, "hour", MONDAY_US, MONDAY_US + 6 * HOUR_US)
    assert [one.wh for one in hours.periods] == [1e6, 5e5, None, None, None, 1e6]
    assert (hours.source, hours.total_wh, hours.spans) == ("posted", 2.5e6, [])


def test_a_name_that_changed_its_meaning_is_one_register_after_the_other() -> None:
    history = History()
    times = every(MINUTE_US, MONDAY_US, MONDAY_US + 2 * HOUR_US)
    values = 5000.0 + np.arange(120)
    history.register("m", times[:60], values[:60])
    history.register("m", times[60:], values[60:])
    assert energy(history, "hour", MONDAY_US, MONDAY_US + 2 * HOUR_US).total_wh == 119


def test_minutes_that_were_dropped_leave_the_hours() -> None:
    history = steady(MONDAY_US - DAY_US, MONDAY_US + 2 * DAY_US)
    history.minutes_from_us = MONDAY_US + 2 * DAY_US
    days = energy(history, "day", MONDAY_US, MONDAY_US + 2 * DAY_US)
    assert [round(one.wh or 0, -3) for one in days.periods] == [144_000] * 2


def test_only_energy_registers_count() -> None:
    history = History()
    times = every(MINUTE_US, MONDAY_US, MONDAY_US + HOUR_US)
    history.add("m", "energy_import_wh", times, np.arange(60.0), unit="", kind=Kind.COUNTER)
    history.add("m", "gas_volume_m3", times, np.arange(60.0), unit="m³", kind=Kind.COUNTER)
    assert energy(history, "hour", MONDAY_US, MONDAY_US + HOUR_US).source is None
