"""Each recommendation on data whose right answer is known, and on data where it must stay silent."""

from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.insight.advice_cost import HourEnergy, Quarters, load_factor, peak, shift, standby
from agent.insight.advice_state import battery_heat, cell_drift, occupied, uneven_phases
from agent.insight.periods import HOUR_US
from agent.insight.recommendations import MAX_RECOMMENDATIONS, Evidence, Recommendation, ranked
from agent.insight.tariff import Band, tariff_of
from agent.store.energy import Rolled
from tests.insight_fakes import DAY_US, MONDAY_US, roll_up

UTC = ZoneInfo("UTC")
DAYS = 28
HOURS = DAYS * 24
ALL = tuple(range(7))
#: 1 from 22:00 to 06:00, 3 otherwise, 5 from 18:00 to 22:00; 100 for each kW of the peak.
TARIFF = tariff_of(
    "EUR", [Band(ALL, 22 * 60, 6 * 60, 1), Band(ALL, 6 * 60, 18 * 60, 3), Band(ALL, 18 * 60, 22 * 60, 5)], 100, 50_000
)
FLAT = tariff_of("EUR", [Band(ALL, 0, 1440, 2)])
TIMES = MONDAY_US + np.arange(HOURS, dtype=np.int64) * HOUR_US
HOUR = np.arange(HOURS) % 24
MONTH = 30 / DAYS
Floats = NDArray[np.float64]


def energy(wh: Floats) -> HourEnergy:
    return HourEnergy("cp1", "cp1.energy_import_wh", TIMES, wh, MONDAY_US + DAYS * DAY_US)


def hourly(values: Floats, times: NDArray[np.int64] = TIMES) -> Rolled:
    return roll_up(times, values, HOUR_US)


def quarters(w: Floats) -> Quarters:
    times = MONDAY_US + np.arange(len(w), dtype=np.int64) * (HOUR_US // 4)
    return Quarters("grid", "grid.power_w", times, w, int(times[-1]) + HOUR_US // 4)


def test_a_vehicle_that_charges_at_six_and_stays_over_night_could_charge_later() -> None:
    # 7 kWh in each of the hours 18 and 19, plugged in from 18:00 to 07:00: 14 kWh for 5 each day, could cost 1.
    found = shift(energy(np.where((HOUR == 18) | (HOUR == 19), 7000.0, 0)), nights(18, 31), TARIFF, UTC)
    assert found is not None
    assert found.saving_money == pytest.approx(14 * (5 - 1) * DAYS * MONTH)
    assert (found.saving_kwh, found.currency, found.id) == (0, "EUR", "shift:cp1")
    assert found.evidence[0].values["moved_kwh"] == pytest.approx(14 * DAYS)
    assert "392.0 kWh for 1960.00 EUR" in found.text
    assert f"{14 * 4 * 30:.2f} EUR a month" in found.text


def nights(start: int, end: int) -> list[tuple[int, int]]:
    return [
        (MONDAY_US + day * DAY_US + start * HOUR_US, MONDAY_US + day * DAY_US + end * HOUR_US) for day in range(DAYS)
    ]


def test_what_can_not_be_moved_is_not_recommended() -> None:
    evening = energy(np.where((HOUR == 18) | (HOUR == 19), 7000.0, 0))
    assert shift(evening, nights(18, 20), TARIFF, UTC) is None  # it is plugged in no longer than it charges
    assert shift(evening, nights(18, 31), FLAT, UTC) is None
    assert shift(evening, nights(18, 31), None, UTC) is None
    assert shift(energy(np.where(HOUR == 2, 7000.0, 0)), nights(18, 31), TARIFF, UTC) is None
    assert shift(energy(np.where(HOUR == 2, 7000.0, 0)), None, TARIFF, UTC) is None
    assert shift(energy(np.full(HOURS, np.nan)), None, TARIFF, UTC) is None


def test_a_device_of_which_nobody_knows_when_it_may_run_is_taken_to_move_half() -> None:
    found = shift(energy(np.where(HOUR == 18, 2000.0, 0)), None, TARIFF, UTC)
    assert found is not None
    assert found.saving_money == pytest.approx(2 * (5 - 1) / 2 * DAYS * MONTH)
    assert "moving 50%" in found.text


def test_half_an_hour_in_a_span_takes_half_of_what_an_hour_takes() -> None:
    spans = [(start + HOUR_US // 2, start + 5 * HOUR_US) for start, _ in nights(21, 22)]
    # 21:30 to 02:00 at no more than 6 kW: the 3 kWh of the half hour fit into the cheap ones at once.
    found = shift(energy(np.where(HOUR == 21, 3000.0, np.where(HOUR == 22, 6000.0, 0))), spans, TARIFF, UTC)
    assert found is not None
    assert found.saving_money == pytest.approx(3 * 4 * DAYS * MONTH)


def test_standby_of_a_charger_is_told_in_kwh_and_money() -> None:
    charging = (HOUR >= 9) & (HOUR < 12)
    found = standby(energy(np.where(charging, 7000.0, 40)), ~charging, TARIFF, UTC)
    assert found is not None
    assert found.evidence[0].values["standby_w"] == pytest.approx(40)
    assert found.saving_kwh == pytest.approx(40 * 21 * 30 / 1000)
    assert found.saving_money == pytest.approx(0.040 * (8 * 1 + 9 * 3 + 4 * 5) * 30)
    free = standby(energy(np.where(charging, 7000.0, 40)), ~charging, None, UTC)
    assert free is not None
    assert (free.saving_money, free.currency) == (None, "")


def test_coarse_registers_show_standby_too() -> None:
    wh = np.zeros(HOURS)
    wh[::25] = 1000  # 40 W in steps of 1 kWh
    found = standby(energy(wh), np.ones(HOURS, np.bool_), None, UTC)
    assert found is not None
    assert found.evidence[0].values["standby_w"] == pytest.approx(40, rel=0.05)


def test_standby_is_silent_about_small_loads_and_about_what_always_runs() -> None:
    charging = (HOUR >= 9) & (HOUR < 12)
    assert standby(energy(np.where(charging, 7000.0, 5)), ~charging, TARIFF, UTC) is None
    assert standby(energy(np.full(HOURS, 300.0)), None, TARIFF, UTC) is None  # a server
    assert standby(energy(np.where(charging, 7000.0, 40)), charging & ~charging, TARIFF, UTC) is None
    pump = standby(energy(np.where(charging, 7000.0, 60)), None, TARIFF, UTC)
    assert pump is not None
    assert pump.evidence[0].values["standby_w"] == pytest.approx(60)


def test_few_quarters_near_the_limit_are_named_with_who_drew_then() -> None:
    w = np.full(DAYS * 96, 20_000.0)
    w[1000:1003] = 48_000, 52_000, 47_000
    found = peak(quarters(w), 50_000, {"cp1": 11_000, "cp2": 22_000}, TARIFF, UTC)
    assert found is not None
    assert found.priority == 1
    assert found.saving_money == pytest.approx((52 - 20) * 100)
    assert "52.0 kW" in found.text
    assert "104% of the 50.0 kW" in found.text
    assert "Only 3 of 2688" in found.text
    assert "cp2 22.0 kW, cp1 11.0 kW" in found.text
    demand = peak(quarters(w), None, {}, TARIFF, UTC)
    assert demand is not None
    assert demand.priority == 2


def test_peaks_are_silent_where_all_is_even_or_far_from_the_limit() -> None:
    even = np.full(DAYS * 96, 20_000.0)
    assert peak(quarters(even), 50_000, {}, TARIFF, UTC) is None
    peaky = even.copy()
    peaky[5] = 30_000
    assert peak(quarters(peaky), 50_000, {}, FLAT, UTC) is None  # no demand charge
    assert peak(quarters(even[:96]), 10_000, {}, TARIFF, UTC) is None  # one day says nothing


def test_a_low_load_factor_is_told_and_a_good_one_is_not() -> None:
    w = np.where(np.arange(DAYS * 96) % 96 < 8, 40_000.0, 1000)
    found = load_factor(quarters(w))
    assert found is not None
    assert found.evidence[0].values["load_factor"] == pytest.approx((8 * 40 + 88) / 96 / 40)
    assert load_factor(quarters(np.full(DAYS * 96, 20_000.0))) is None
    assert load_factor(quarters(w / 100)) is None  # too small to matter


def test_a_battery_that_is_warmer_than_the_air_needs_cooling() -> None:
    hot = np.where((HOUR >= 12) & (HOUR < 18), 43.0, 25)
    found = battery_heat(
        "b", "b.temperature_max_degc", hourly(hot), hourly(np.full(HOURS, 24.0)), "air.temperature_degc"
    )
    assert found is not None
    assert found.priority == 1
    assert "168 of 672 hours" in found.text
    assert "19 K above" in found.text
    assert found.since_us == MONDAY_US + 12 * HOUR_US
    assert [one.signal for one in found.evidence] == ["b.temperature_max_degc", "air.temperature_degc"]


def test_a_hot_room_is_told_from_a_hot_battery_and_cool_ones_are_silent() -> None:
    hot = np.where((HOUR >= 12) & (HOUR < 18), 38.0, 25)
    room = battery_heat("b", "b.t", hourly(hot), hourly(hot - 3), "air.t")
    assert room is not None
    assert "shade or ventilation" in room.text
    alone = battery_heat("b", "b.t", hourly(hot), None, "")
    assert alone is not None
    assert len(alone.evidence) == 1
    assert battery_heat("b", "b.t", hourly(hot - 5), hourly(np.full(HOURS, 10.0)), "air.t") is None
    assert battery_heat("b", "b.t", hourly(hot[:100], TIMES[:100]), None, "") is None


def test_an_outlet_that_is_occupied_by_day_without_charging_is_told() -> None:
    by_day = TIMES[(HOUR >= 8) & (HOUR < 18)]
    charging = TIMES[(HOUR >= 8) & (HOUR < 10)]
    found = occupied("cp1", "cp1.plugged", by_day, charging, UTC)
    assert found is not None
    assert found.evidence[0].values == {"idle_hours": 224, "plugged_hours": 280, "all_idle_hours": 224}
    assert "in 224 of 280 hours" in found.text
    assert (found.saving_kwh, found.saving_money) == (None, None)


def test_outlets_that_charge_or_are_occupied_by_night_are_silent() -> None:
    by_night = TIMES[(HOUR >= 21) | (HOUR < 7)]
    assert occupied("cp1", "s", by_night, by_night[:5], UTC) is None
    by_day = TIMES[(HOUR >= 8) & (HOUR < 18)]
    assert occupied("cp1", "s", by_day, by_day[::2].copy(), UTC) is not None
    assert occupied("cp1", "s", by_day, by_day, UTC) is None
    assert occupied("cp1", "s", TIMES[:0], TIMES[:0], UTC) is None


def test_an_overloaded_phase_is_named_with_what_to_move() -> None:
    random = np.random.default_rng(1)
    load = np.where((HOUR > 6) & (HOUR < 20), 1.0, 0.05) * random.uniform(0.9, 1.1, HOURS)
    names = ("g.current_l1_a", "g.current_l2_a", "g.current_l3_a")
    found = uneven_phases("g", names, [hourly(load * amps) for amps in (10, 30, 14)])
    assert found is not None
    assert "L2 carries 67% more" in found.text
    assert "from L2 to L1" in found.text
    assert found.evidence[1].values["mean_a"] == pytest.approx(30, rel=0.05)


def test_even_phases_and_single_phase_devices_are_silent() -> None:
    random = np.random.default_rng(1)
    names = ("g.current_l1_a", "g.current_l2_a", "g.current_l3_a")
    load = random.uniform(0, 1, HOURS)
    assert uneven_phases("g", names, [hourly(load * amps) for amps in (20, 22, 18)]) is None
    assert uneven_phases("g", names, [hourly(load * amps) for amps in (20, 0, 0)]) is None
    each = [hourly(np.where(random.random(HOURS) < 0.3, 16.0, 1)) for _ in names]
    assert uneven_phases("g", names, each) is None  # vehicles on any phase, none more than the others
    assert uneven_phases("g", names, [hourly(load[:50], TIMES[:50])] * 3) is None


def test_cells_that_drift_apart_are_told_with_their_pace() -> None:
    random = np.random.default_rng(3)
    apart = 0.010 + 0.012 * np.arange(HOURS) / HOURS * DAYS / 30 + random.normal(0, 0.002, HOURS)
    found = cell_drift("b", ("b.max", "b.min"), hourly(3.3 + apart), hourly(np.full(HOURS, 3.3)))
    assert found is not None
    assert found.evidence[0].values["drift_v_per_30d"] == pytest.approx(0.012, rel=0.1)
    assert "12 mV a month" in found.text
    assert found.priority == 2
    far = cell_drift("b", ("b.max", "b.min"), hourly(np.full(HOURS, 3.42)), hourly(np.full(HOURS, 3.3)))
    assert far is not None
    assert (far.priority, "drift" in far.text) == (1, False)


def test_cells_that_only_move_with_the_load_are_silent() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        apart = 0.010 + 0.01 * (HOUR > 12) + random.normal(0, 0.004, HOURS)
        assert cell_drift("b", ("x", "y"), hourly(3.3 + apart), hourly(np.full(HOURS, 3.3))) is None
    short = hourly(np.full(100, 3.5), TIMES[:100])
    assert cell_drift("b", ("x", "y"), short, hourly(np.full(100, 3.3), TIMES[:100])) is None


def test_recommendations_are_ranked_bounded_and_each_is_given_once() -> None:
    evidence = (Evidence("s", 0, 1, {}),)
    many = [Recommendation(f"k:{n}", "k", "d", "t", evidence, 1 + n % 3, 0, None, float(n)) for n in range(500)]
    found = ranked([None, *many, many[0], None])
    assert len(found) == MAX_RECOMMENDATIONS
    assert [one.priority for one in found] == sorted(one.priority for one in found)
    assert (found[0].id, found[1].id) == ("k:498", "k:495")
    assert ranked(reversed(many)) == found
