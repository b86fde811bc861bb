"""Insight as a whole, over a constructed site: what it answers, what it keeps, and where it says nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from agent.core.clock import FakeClock
from agent.core.model import Kind, Session
from agent.insight.periods import HOUR_US, MINUTE_US
from agent.insight.service import KEEP_S, MAX_KEPT, Insight, InsightSettings
from agent.insight.tariff import Band, tariff_of
from tests.insight_fakes import DAY_US, MONDAY_US, History, every

UTC = ZoneInfo("UTC")
ALL = tuple(range(7))
TARIFF = tariff_of("EUR", [Band(ALL, 22 * 60, 6 * 60, 1), Band(ALL, 6 * 60, 22 * 60, 3)], 100, 12_000)
DAYS = 28
NOW_US = MONDAY_US + DAYS * DAY_US


def site() -> History:
    """Four weeks: a charger that charges at 18:00 and is plugged in from 18:00 to 07:00, and the grid's meter."""
    history = History()
    times = every(5 * MINUTE_US, MONDAY_US, NOW_US)
    hour = (times // HOUR_US) % 24
    charging = (hour == 18) | (hour == 19)
    plugged = (hour >= 18) | (hour < 7)
    power = np.where(charging, 7200.0, 30.0)
    history.register("cp1", times, np.cumsum(power / 12))
    history.add("cp1", "plugged", times, plugged.astype(np.float64), kind=Kind.STATE)
    history.add("cp1", "charging", times, charging.astype(np.float64), kind=Kind.STATE)
    minutes = every(MINUTE_US, MONDAY_US, NOW_US)
    evening = ((minutes // HOUR_US) % 24 == 18) | ((minutes // HOUR_US) % 24 == 19)
    drawn = np.where(evening, 11_500.0, 900.0)
    history.add("cp1", "power_w", minutes, np.where(evening, 7200.0, 30.0), unit="W")
    history.add("grid", "power_w", minutes, drawn, unit="W")
    history.register("grid", minutes[::5], np.cumsum(drawn[::5] / 12))
    history.register("grid", minutes[::5], np.zeros(len(minutes[::5])), name="energy_export_wh")
    return history


def insight(history: History, settings: InsightSettings | None = None) -> tuple[Insight, FakeClock]:
    clock = FakeClock(NOW_US)
    return Insight(history, clock, settings or InsightSettings(UTC, TARIFF)), clock


def test_the_site_gets_the_recommendations_that_it_deserves() -> None:
    found = {one.id: one for one in insight(site())[0].recommendations()}
    assert set(found) == {"shift:cp1", "standby:cp1", "peak:grid", "load_factor:grid"}
    # 14.4 kWh each evening for 3 instead of 1, but for what the first reading of all does not tell.
    assert found["shift:cp1"].saving_money == pytest.approx(14.4 * 2 * 30, rel=0.02)
    assert found["standby:cp1"].evidence[0].values["standby_w"] == pytest.approx(30, rel=0.01)
    assert found["peak:grid"].evidence[0].values["limit_w"] == 12_000
    assert "cp1 7.2 kW" in found["peak:grid"].text
    assert [one.priority for one in found.values()] == [1, 2, 3, 3]


def test_sessions_tell_when_a_vehicle_was_there() -> None:
    history = site()
    for day in range(DAYS):
        start = MONDAY_US + day * DAY_US + 18 * HOUR_US
        history.sessions.append(Session("cp1", 1, str(day), start, stop_us=start + 2 * HOUR_US, energy_wh=14_400))
    # It leaves at 20:00, so nothing can be moved.
    assert "shift:cp1" not in {one.id for one in insight(history)[0].recommendations()}


def test_without_a_tariff_there_is_no_money() -> None:
    found = insight(site(), InsightSettings(UTC))[0].recommendations()
    assert [one.id for one in found] == ["standby:cp1", "load_factor:grid"]
    assert (found[0].saving_money, found[0].currency) == (None, "")


def test_an_empty_site_gets_nothing() -> None:
    empty, _ = insight(History())
    assert empty.recommendations() == []
    found = empty.anomalies("cp1", NOW_US - DAY_US, NOW_US)
    assert (found.findings, found.judged, found.too_new) == ([], [], [])
    assert empty.summary("v1", 0, 1) == {}
    assert empty.energy("cp1", "day", MONDAY_US, NOW_US).total_wh is None


def test_energy_is_of_the_site_s_days() -> None:
    mexico, _ = insight(site(), InsightSettings(ZoneInfo("America/Mexico_City")))
    found = mexico.energy("cp1", "day", MONDAY_US + 2 * DAY_US, MONDAY_US + 3 * DAY_US)
    assert [one.from_us % DAY_US for one in found.periods] == [6 * HOUR_US] * 2
    assert found.periods[0].wh == pytest.approx(2 * 7200 + 22 * 30, rel=0.01)


def test_a_year_costs_what_its_hours_cost_and_what_is_given_earns() -> None:
    one, _ = insight(site())
    # Each day 14.4 kWh in the evening, 30 W in the other 22 hours: eight of them for 1, all else for 3.
    day = 14.4 * 3 + 0.03 * (8 * 1 + 14 * 3)
    year = one.cost("cp1", "month", MONDAY_US - 300 * DAY_US, NOW_US, "import")
    assert year == pytest.approx(DAYS * day, rel=0.01)
    assert one.cost("cp1", "hour", NOW_US - 2 * DAY_US, NOW_US - DAY_US, "import") == pytest.approx(day, rel=0.01)
    assert one.cost("cp1", "day", MONDAY_US - 9 * DAY_US, MONDAY_US - DAY_US, "import") is None, "nothing is known"
    assert one.cost("grid", "month", MONDAY_US, NOW_US, "export") is None, "nobody said what is paid for it"
    flat = tariff_of("EUR", [Band(ALL, 0, 1440, 2)], export_price_per_kwh=0.5)
    one.configure(InsightSettings(UTC, flat))
    known = one.energy("cp1", "month", MONDAY_US, NOW_US).total_wh
    assert known is not None
    assert one.cost("cp1", "month", MONDAY_US, NOW_US, "import") == pytest.approx(known / 1000 * 2)
    given = site()
    given.register("pv1", every(HOUR_US, MONDAY_US, NOW_US), np.arange(DAYS * 24) * 1000.0, name="energy_export_wh")
    sunny, _ = insight(given, InsightSettings(UTC, flat))
    earned = sunny.cost("pv1", "month", MONDAY_US, NOW_US, "export")
    assert earned == pytest.approx((DAYS * 24 - 1) * 0.5)
    one.configure(InsightSettings(UTC))
    assert one.cost("cp1", "month", MONDAY_US, NOW_US, "import") is None, "no tariff, no money"


def test_answers_are_kept_for_a_minute_and_forgotten_with_the_settings() -> None:
    history = site()
    one, clock = insight(history)
    first = one.energy("cp1", "day", MONDAY_US, NOW_US)
    reads = history.reads
    assert one.energy("cp1", "day", MONDAY_US, NOW_US) is first
    assert history.reads == reads
    clock.advance(KEEP_S + 1)
    assert one.energy("cp1", "day", MONDAY_US, NOW_US) is not first
    assert history.reads > reads
    reads = history.reads
    one.configure(InsightSettings(ZoneInfo("Europe/Madrid")))
    assert one.energy("cp1", "day", MONDAY_US, NOW_US).periods[0].from_us == MONDAY_US - HOUR_US
    for n in range(MAX_KEPT + 5):
        one.energy("nobody", "hour", n * HOUR_US, (n + 1) * HOUR_US)
    assert len(one._kept) == MAX_KEPT


def test_ten_who_ask_at_once_cost_one_answer_after_the_other() -> None:
    history = site()
    busy, most = 0, 0
    lock = threading.Lock()
    original = history.catalog

    def catalog() -> tuple[int, object]:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        found = original()
        with lock:
            busy -= 1
        return found

    history.catalog = catalog  # type: ignore[method-assign,assignment] # counts who is inside
    one, _ = insight(history)
    with ThreadPoolExecutor(5) as pool:
        answers = [future.result() for future in [pool.submit(one.recommendations) for _ in range(5)]]
    assert all(answer is answers[0] for answer in answers)
    assert most == 1


def test_summaries_count_each_sample_once() -> None:
    history = History()
    times = [MONDAY_US + n * 20_000_000 for n in range(1000)]
    values = [float(n % 97) for n in range(1000)]
    history.add("v1", "soc_pct", times, values, unit="%")
    history.add("v1", "temperature_max_degc", times[::2], values[::2], unit="°C")
    one, _ = insight(history)
    found = one.summary("v1", times[3], times[900] + 1)
    assert (found["soc_pct"].samples, found["temperature_max_degc"].samples) == (898, 449)
    assert (found["soc_pct"].lo, found["soc_pct"].hi) == (0, 96)
    two = one.summary("v1", times[0], times[1] + 1)["soc_pct"]
    assert (two.samples, two.lo, two.hi) == (2, 0, 1)
    assert one.summary("v1", times[-1] + 1, times[-1] + 2)["soc_pct"].lo is None


def test_an_unusual_night_is_found_in_power_and_in_energy() -> None:
    history = History()
    now_us = MONDAY_US + 70 * DAY_US
    times = every(10 * MINUTE_US, MONDAY_US, now_us)
    random = np.random.default_rng(1)
    hour = (times // HOUR_US) % 24
    power = np.where((hour > 7) & (hour < 18), 4000, 400) * random.uniform(0.9, 1.1, len(times))
    night = (times >= now_us - 22 * HOUR_US) & (times < now_us - 20 * HOUR_US)
    power = np.where(night, 4000.0, power)
    history.add("ac1", "power_w", times, power, unit="W")
    history.register("ac1", times, np.cumsum(power / 6))
    history.add("ac1", "current_limit_a", times, power, unit="A")
    history.add("new", "power_w", times[-100:], power[-100:], unit="W")
    one = Insight(history, FakeClock(now_us), InsightSettings(UTC))
    found = one.anomalies("ac1", now_us - 7 * DAY_US, now_us)
    assert {finding.signal for finding in found.findings} == {"ac1.power_w", "ac1.energy_import_wh"}
    for finding in found.findings:
        assert (finding.direction, finding.from_us) == ("high", now_us - 22 * HOUR_US)
        assert finding.value == pytest.approx(4000, rel=0.2)
    assert found.judged == ["ac1.power_w", "ac1.energy_import_wh"]
    assert one.anomalies("new", now_us - 7 * DAY_US, now_us).too_new == ["new.power_w"]


def test_questions_out_of_bounds_are_refused_with_a_sentence() -> None:
    one, _ = insight(History())
    with pytest.raises(ValueError, match="range is empty"):
        one.summary("v1", 5, 5)
    with pytest.raises(ValueError, match="no more than 35 days"):
        one.anomalies("v1", 0, 36 * DAY_US)
    with pytest.raises(ValueError, match="more than 1100 hours"):
        one.energy("v1", "hour", 0, 365 * DAY_US)


def test_sessions_are_read_page_by_page() -> None:
    history = History()
    history.sessions = [
        Session("cp1", 1, str(n), MONDAY_US + n * MINUTE_US, stop_us=MONDAY_US + (n + 1) * MINUTE_US, energy_wh=10)
        for n in range(2500)
    ]
    found = insight(history)[0].sessions("day", MONDAY_US, MONDAY_US + 2 * DAY_US, [])
    assert [(one.station, one.sessions, one.wh) for one in found] == [("cp1", 1440, 14_400), ("cp1", 1060, 10_600)]
