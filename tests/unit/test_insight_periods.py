"""Hours, days and months of a time zone, where the clocks are changed and where they are not whole hours apart."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.insight.periods import DAY_US, HOUR_US, Period, bounds, local

ZONES = (
    "UTC",
    "America/Mexico_City",
    "Europe/Madrid",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/Havana",
    "Australia/Lord_Howe",
)


def us(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1e6)


def lengths(found: list[int]) -> list[float]:
    return [(two - one) / HOUR_US for one, two in pairwise(found)]


def test_days_on_which_clocks_change_have_23_and_25_hours() -> None:
    zone = ZoneInfo("Europe/Madrid")
    spring = bounds("day", us("2026-03-28T12:00"), us("2026-03-30T12:00"), zone)
    assert lengths(spring) == [24, 23, 24]
    assert spring[0] == us("2026-03-28", "Europe/Madrid")
    assert lengths(bounds("day", us("2026-10-25T12:00"), us("2026-10-25T13:00"), zone)) == [25]
    hours = bounds("hour", us("2026-10-25", "Europe/Madrid"), us("2026-10-26", "Europe/Madrid"), zone)
    assert lengths(hours) == [1] * 25


def test_where_midnight_does_not_exist_the_day_begins_when_the_clocks_are_put_forward() -> None:
    days = bounds("day", us("2026-03-07T12:00"), us("2026-03-08T12:00"), ZoneInfo("America/Havana"))
    assert lengths(days) == [24, 23]
    assert local(days[1], ZoneInfo("America/Havana")).hour == 1


def test_months_are_calendar_months() -> None:
    zone = ZoneInfo("America/Mexico_City")
    found = bounds(
        "month", us("2025-11-30T18:00", "America/Mexico_City"), us("2026-03-01", "America/Mexico_City"), zone
    )
    assert [local(one, zone).strftime("%Y-%m-%d %H") for one in found] == [
        "2025-11-01 00",
        "2025-12-01 00",
        "2026-01-01 00",
        "2026-02-01 00",
        "2026-03-01 00",
    ]


@given(
    st.sampled_from(ZONES),
    st.sampled_from(["hour", "day", "month"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - the zone is given
    st.timedeltas(timedelta(seconds=1), timedelta(days=20)),
)
def test_bounds_cover_the_range_and_begin_where_the_zones_periods_do(
    name: str, period: Period, start: datetime, length: timedelta
) -> None:
    zone = ZoneInfo(name)
    from_us = round(start.timestamp() * 1e6)
    to_us = from_us + round(length.total_seconds() * 1e6)
    found = bounds(period, from_us, to_us, zone)
    assert found[0] <= from_us < found[1]
    assert found[-2] < to_us <= found[-1]
    assert all(one < two for one, two in pairwise(found))
    for one in found:
        shown = local(one, zone)
        if period != "hour":
            assert (shown - timedelta(microseconds=1)).date() < shown.date() or shown.hour == 1
            assert period == "day" or shown.day == 1
        elif name != "Australia/Lord_Howe":
            assert shown.minute == 0


@pytest.mark.parametrize(
    ("period", "from_us", "to_us"), [("hour", 5, 5), ("hour", 0, 60 * DAY_US), ("day", 0, 4000 * DAY_US)]
)
def test_empty_and_endless_ranges_are_refused(period: Period, from_us: int, to_us: int) -> None:
    with pytest.raises(ValueError, match=r"empty|more than"):
        bounds(period, from_us, to_us, UTC)


@pytest.mark.parametrize("period", ["hour", "day", "month"])
@pytest.mark.parametrize("to_us", [us("0001-01-01T01:00"), us("9999-12-31T23:59")])
def test_ranges_at_the_ends_of_the_calendar_are_refused(period: Period, to_us: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        bounds(period, to_us - HOUR_US, to_us, ZoneInfo("Europe/Madrid"))
