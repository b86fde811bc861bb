"""What a kWh costs, by day of the week and time of day. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import groupby
from math import fsum

from agent.insight.periods import MINUTE_US, local

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES


@dataclass(frozen=True, slots=True)
class Band:
    """A price on some days of the week from one time of the day to another.

    ``days`` are numbers from 0 (Monday), the times minutes from 0 to 1440. A band that ends before it begins goes on
    into the next day.
    """

    days: tuple[int, ...]
    from_min: int
    to_min: int
    price_per_kwh: float

    def minutes(self) -> list[tuple[int, int]]:
        """The parts of the week that it covers, as minutes from Monday, 00:00."""
        length = (self.to_min - self.from_min) % DAY_MINUTES or DAY_MINUTES
        parts: list[tuple[int, int]] = []
        for day in self.days:
            start = day * DAY_MINUTES + self.from_min
            end = start + length
            parts.append((start, min(end, WEEK_MINUTES)))
            if end > WEEK_MINUTES:
                parts.append((0, end - WEEK_MINUTES))
        return parts


@dataclass(frozen=True, slots=True)
class Tariff:
    """Bands that cover each minute of the week once, and what else the grid connection costs."""

    currency: str
    prices: tuple[float, ...]  #: of each minute of the week, from Monday, 00:00
    demand_price_per_kw: float | None = None  #: for the highest 15 min mean of a month
    contract_w: float | None = None  #: power that is agreed upon
    export_price_per_kwh: float | None = None  #: what is paid for a kWh that is given; None: nobody said

    @property
    def flat(self) -> bool:
        """Whether it is the same price at all times."""
        return min(self.prices) == max(self.prices)

    @property
    def cheapest(self) -> float:
        """The lowest price."""
        return min(self.prices)

    def runs(self) -> list[tuple[int, int, float]]:
        """The week as runs of one price: from and to in minutes from Monday, 00:00, and the price of a kWh."""
        found: list[tuple[int, int, float]] = []
        for price, minutes in groupby(range(WEEK_MINUTES), key=self.prices.__getitem__):
            run = list(minutes)
            found.append((run[0], run[-1] + 1, price))
        return found

    def price(self, from_us: int, to_us: int, zone: tzinfo) -> float:
        """The mean price of a kWh from one time to another (of no more than a week) in that zone."""
        first = week_minute(from_us, zone)
        count = max(1, (to_us - from_us) // MINUTE_US)
        return fsum(self.prices[(first + n) % WEEK_MINUTES] for n in range(count)) / count


def week_minute(t_us: int, zone: tzinfo) -> int:
    """The minute of the week, from Monday, 00:00."""
    shown = local(t_us, zone)
    return shown.weekday() * DAY_MINUTES + shown.hour * 60 + shown.minute


def faults(bands: Sequence[Band]) -> list[str]:
    """Where in the week there is no price, and where there are two; one sentence each, the first few."""
    count = [0] * WEEK_MINUTES
    for band in bands:
        for start, end in band.minutes():
            for minute in range(start, end):
                count[minute] += 1
    found: list[str] = []
    start = 0
    for minute in range(1, WEEK_MINUTES + 1):
        if minute < WEEK_MINUTES and min(count[minute], 2) == min(count[start], 2) and minute % DAY_MINUTES:
            continue
        if count[start] != 1:
            what = "has no price" if not count[start] else "has more than one price"
            found.append(f"{_shown(start)} to {_time(minute - start // DAY_MINUTES * DAY_MINUTES)} {what}")
        start = minute
    return found


def tariff_of(
    currency: str,
    bands: Sequence[Band],
    demand_price_per_kw: float | None = None,
    contract_w: float | None = None,
    export_price_per_kwh: float | None = None,
) -> Tariff:
    """The tariff of these bands. Raises ``ValueError`` that names where they leave a gap or overlap."""
    wrong = faults(bands)
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""  # noqa: PLR2004 - a sentence of three
        raise ValueError("; ".join(wrong[:3]) + more)
    prices = [0.0] * WEEK_MINUTES
    for band in bands:
        for start, end in band.minutes():
            prices[start:end] = [band.price_per_kwh] * (end - start)
    return Tariff(currency, tuple(prices), demand_price_per_kw, contract_w, export_price_per_kwh)


def minute_of(text: str) -> int:
    """``HH:MM``, 00:00 to 24:00, as minutes of the day. Raises ``ValueError``."""
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2 and int(minutes) < 60):  # noqa: PLR2004 - a clock's figures
        raise ValueError("write a time of day such as 06:30, or 24:00 for the end of the day")
    found = int(hours) * 60 + int(minutes)
    if found > DAY_MINUTES:
        raise ValueError("a day ends at 24:00")
    return found


def days_of(text: str) -> tuple[int, ...]:
    """``mon-fri``, ``sat``, ``fri-mon`` or ``all`` as numbers from 0. Raises ``ValueError``."""
    if text == "all":
        return tuple(range(len(DAYS)))
    first, dash, last = text.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise ValueError(f"`{text}` is no day: write {', '.join(DAYS)}, a range such as mon-fri, or all")
    start = DAYS.index(first)
    length = (DAYS.index(last) - start) % len(DAYS) if dash else 0
    return tuple((start + n) % len(DAYS) for n in range(length + 1))


def _shown(minute: int) -> str:
    return f"{DAYS[minute // DAY_MINUTES]} {_time(minute % DAY_MINUTES)}"


def _time(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
