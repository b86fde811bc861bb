"""What a kWh costs: each minute of the week once, in the site's time zone."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config_energy import InsightSection, TariffSection
from agent.insight.periods import HOUR_US, MINUTE_US
from agent.insight.tariff import WEEK_MINUTES, Band, days_of, faults, minute_of, tariff_of
from agent.yamlfile import validate
from tests.insight_fakes import MONDAY_US

UTC = ZoneInfo("UTC")
ALL = tuple(range(7))

GOOD = """
currency: MXN
demand_price_per_kw: 150
contract_kw: 50
bands:
  - {days: mon-fri, from: 06:00, to: 18:00, price_per_kwh: 2.0}
  - {days: mon-fri, from: 18:00, to: 22:00, price_per_kwh: 4.5}
  - {days: [mon, tue, wed, thu, fri], from: 22:00, to: 06:00, price_per_kwh: 1}
  - {days: [sat], from: 06:00, price_per_kwh: 1}
  - {days: [sun], to: 24:00, price_per_kwh: 1}
  - {days: [mon], to: 06:00, price_per_kwh: 1}
"""


def test_a_tariff_is_read_and_knows_each_minute() -> None:
    section, problems = validate(GOOD, "site.yaml", TariffSection)
    assert section is not None, problems
    tariff = section.tariff()
    assert (tariff.currency, tariff.contract_w, tariff.demand_price_per_kw) == ("MXN", 50_000, 150)
    assert tariff.price(MONDAY_US + 19 * HOUR_US, MONDAY_US + 20 * HOUR_US, UTC) == 4.5
    assert (
        tariff.price(MONDAY_US + 17 * HOUR_US + 30 * MINUTE_US, MONDAY_US + 18 * HOUR_US + 30 * MINUTE_US, UTC) == 3.25
    )
    # 19:00 in Mexico City, where there is no summer time any more, is 01:00 UTC of the next day.
    mexico = ZoneInfo("America/Mexico_City")
    assert tariff.price(MONDAY_US + 25 * HOUR_US, MONDAY_US + 26 * HOUR_US, mexico) == 4.5
    assert (tariff.cheapest, tariff.flat) == (1, False)
    assert tariff_of("EUR", [Band(ALL, 0, 1440, 0.3)]).flat


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("18:00, to: 22:00", "18:00, to: 21:00"), "mon 21:00 to 22:00 has no price"),
        (("06:00, to: 18:00", "06:00, to: 18:30"), "mon 18:00 to 18:30 has more than one price"),
        (("days: [sun], to: 24:00", "days: [sat], from: 12:00"), "one price; sun 00:00 to 24:00 has no price"),
        (("mon-fri, from: 06:00", "mon-someday, from: 06:00"), "is no day"),
        (("to: 18:00", "to: 25:00"), "is no time of day"),
        (("currency: MXN", "currency: pesos"), "currency"),
        (("price_per_kwh: 2.0", "price: 2.0"), "price"),
    ],
)  # fmt: skip
def test_gaps_overlaps_and_slips_are_named(change: tuple[str, str], says: str) -> None:
    section, problems = validate(GOOD.replace(*change), "site.yaml", TariffSection)
    assert section is None
    assert says in " ".join(map(str, problems))


def test_what_insight_is_told_of_the_site() -> None:
    section, _ = validate("grid: meter1\nambient: weather.temperature_degc\n", "site.yaml", InsightSection)
    assert section == InsightSection(grid="meter1", ambient="weather.temperature_degc")


def test_days_and_times() -> None:
    assert days_of("fri-mon") == (4, 5, 6, 0)
    assert (minute_of("00:00"), minute_of("24:00"), minute_of("06:30")) == (0, 1440, 390)
    for text in ("24:01", "6", "06:60", "06:5", "-1:00", ""):
        with pytest.raises(ValueError, match=r"day"):
            minute_of(text)


@given(
    st.lists(
        st.builds(
            Band,
            st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
            st.integers(0, 1439),
            st.integers(0, 1440),
            st.floats(0, 10),
        ),
        max_size=8,
    )
)
def test_faults_are_exactly_where_minutes_have_no_price_or_two(bands: list[Band]) -> None:
    times = [0] * WEEK_MINUTES
    for band in bands:
        length = (band.to_min - band.from_min) % 1440 or 1440
        for day in band.days:
            for n in range(length):
                times[(day * 1440 + band.from_min + n) % WEEK_MINUTES] += 1
    found = faults(bands)
    assert bool(found) == any(one != 1 for one in times)
    assert sum("no price" in one for one in found) >= (0 in times)
    assert sum("more than one" in one for one in found) >= (max(times) > 1)
    if not found:
        tariff = tariff_of("EUR", bands)
        assert set(tariff.prices) <= {band.price_per_kwh for band in bands}


def test_the_tariff_of_the_page_is_one() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "insight.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    section, problems = validate(block, "insight.md", TariffSection)
    assert section is not None, problems
    assert section.tariff().price(MONDAY_US, MONDAY_US + HOUR_US, UTC) == 1.2
