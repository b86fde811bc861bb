"""What is unusual for a device: each hour against what this hour of the week has been like before. Pure.

Rules of this file:

1. A profile is the median of what the same hour of the week and its two neighbours were in the weeks before. The
   spread is the median of the distances from it (MAD), as a standard deviation; it is no smaller than what all workdays
   (or days of weekends) do at this time, than the signal's resolution, and than a thousandth of its value. So a device
   that comes and goes at random is not unusual when it comes.
2. Of each hour the lowest and the highest value are judged, so that neither a short peak nor a drop hides in a mean. Of
   energy registers it is what they moved in the hour.
3. A value counts that is more than ``LIMIT`` spreads off, and half as far again as it ever was at this time of such
   days: what happens now and then is not unusual.
4. Nothing is said with less than ``MIN_WEEKS`` weeks of history, or fewer than ``MIN_SAMPLES`` values of an hour.
5. Neighbouring hours are one finding. At most ``MAX_FINDINGS`` are given, those furthest off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Kind, Signal
from agent.core.points import find_point
from agent.insight.periods import HOUR_US, WEEK_US, local

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LIMIT = 6.0
MIN_WEEKS, HISTORY_WEEKS = 2, 8
MIN_SAMPLES = 6
MAX_FINDINGS = 100
#: Signals of one device that are judged.
MAX_SIGNALS = 64
WEEK_HOURS = 168
_DAY_HOURS = 24
#: A median absolute deviation of a normal distribution is so much of its standard deviation.
_MAD = 1.4826
#: A hundred values of a normal distribution are so many standard deviations wide.
_RANGE = 5.15
_RELATIVE = 1e-3
#: So much further off than it ever was.
_FURTHER = 1.5
#: An hour is judged with its neighbours.
_NEAR = (-1, 0, 1)
_SATURDAY = 5

#: What a device measures; what it is set to, or may do, is not an anomaly.
_JUDGED = (
    "power_", "voltage_", "current_", "frequency_hz", "reactive_", "temperature_", "cell_voltage_m", "soc_pct",
    "humidity_pct", "volume_flow_", "flow_temperature_", "return_temperature_", "isolation_", "cell_resistance_",
    "dc_", "string_", "fan_speed_", "power_factor",
)  # fmt: skip
_NOT_JUDGED = ("limit", "max_index", "min_index", "offered", "demand", "_index")

Direction = Literal["high", "low"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something unusual. ``value`` is what was furthest off, ``score`` how many spreads it is off the middle.

    ``low`` and ``high`` are the range in which it was expected then.
    """

    signal: str
    from_us: int
    to_us: int
    direction: Direction
    value: float
    low: float
    high: float
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Hours:
    """One value for each hour of which something is known: when the hours begin (µs UTC, by time), and the values."""

    t_us: Ints
    values: Floats


def judged(signal: Signal) -> bool:
    """Whether a signal's hours are looked at."""
    if signal.kind is not Kind.GAUGE or any(part in signal.name for part in _NOT_JUDGED):
        return False
    return signal.name.startswith(_JUDGED) and find_point(signal.name) is not None


def week_hours(t_us: Ints, zone: tzinfo) -> Ints:
    """The hour of the week of each time, 0 to 167, from Monday, 00:00, in the zone.

    The offset of the zone is looked up once a day: where clocks are changed, some hours of that day are taken for their
    neighbour.
    """
    days = t_us // (24 * HOUR_US)
    offsets: dict[int, int] = {}
    for day in np.unique(days).tolist():
        offset = local(day * 24 * HOUR_US, zone).utcoffset()
        offsets[day] = 0 if offset is None else round(offset.total_seconds() * 1e6)
    shifted = t_us + np.array([offsets[day] for day in days.tolist()], np.int64)
    # 1970-01-01 was a Thursday.
    return ((shifted // HOUR_US) + 3 * _DAY_HOURS) % WEEK_HOURS


def unusual(
    name: str, unit: str, history: Hours, tested: Hours, zone: tzinfo, resolution: float = 0.0
) -> list[Finding] | None:
    """What is unusual in the tested hours; None when there is too little history to tell."""
    if not len(history.t_us) or not len(tested.t_us) or tested.t_us[0] - history.t_us[0] < MIN_WEEKS * WEEK_US:
        return None
    profile = _Profile(history, zone, resolution)
    if not profile.enough:
        return None
    hours = week_hours(tested.t_us, zone)
    middle, spread = profile.middle[hours], profile.spread[hours]
    with np.errstate(invalid="ignore"):
        scores = (tested.values - middle) / spread
    found: list[Finding] = []
    for place in np.flatnonzero(np.abs(scores) > LIMIT).tolist():
        hour, value = int(hours[place]), float(tested.values[place])
        direction: Direction = "high" if scores[place] > 0 else "low"
        if not profile.new(hour, value, direction):
            continue
        low, high = middle[place] - LIMIT * spread[place], middle[place] + LIMIT * spread[place]
        t_us = int(tested.t_us[place])
        one = Finding(
            name, t_us, t_us + HOUR_US, direction, value, float(low), float(high), float(abs(scores[place])), ""
        )
        if found and found[-1].direction == direction and one.from_us - found[-1].to_us <= HOUR_US:
            worse = max(found[-1], one, key=lambda finding: finding.score)
            one = Finding(
                name,
                found[-1].from_us,
                one.to_us,
                direction,
                worse.value,
                worse.low,
                worse.high,
                worse.score,
                "",
            )
            found.pop()
        found.append(one)
    return [_told(one, unit) for one in found]


def worst(findings: Sequence[Finding], limit: int = MAX_FINDINGS) -> list[Finding]:
    """The findings that are furthest off, by time."""
    kept = sorted(findings, key=lambda one: (-one.score, one.from_us, one.signal))[:limit]
    return sorted(kept, key=lambda one: (one.from_us, one.signal, one.direction))


class _Profile:
    """What each hour of the week has been like."""

    def __init__(self, history: Hours, zone: tzinfo, resolution: float) -> None:
        hours = week_hours(history.t_us, zone)
        order = np.argsort(hours, kind="stable")
        groups = np.split(history.values[order], np.searchsorted(hours[order], np.arange(1, WEEK_HOURS)))
        self.middle = np.full(WEEK_HOURS, np.nan)
        mads = np.full(WEEK_HOURS, np.nan)
        for hour in range(WEEK_HOURS):
            values = np.concatenate([groups[(hour + offset) % WEEK_HOURS] for offset in _NEAR])
            if len(values) >= MIN_SAMPLES:
                self.middle[hour] = middle = np.median(values)
                mads[hour] = np.median(np.abs(values - middle))
        self.spread = np.full(WEEK_HOURS, np.nan)
        self.enough = bool(np.isfinite(self.middle).any())
        self._furthest: dict[int, tuple[float, float]] = {}
        for hour in range(WEEK_HOURS):
            days = range(_SATURDAY, 7) if hour // _DAY_HOURS >= _SATURDAY else range(_SATURDAY)
            slots = [(hour + offset) % _DAY_HOURS + day * _DAY_HOURS for day in days for offset in _NEAR]
            distances = np.concatenate([groups[slot] for slot in slots]) - self.middle[hour]
            if not np.isfinite(self.middle[hour]):
                continue
            low, high = float(distances.min()), float(distances.max())
            least = max(resolution, abs(self.middle[hour]) * _RELATIVE)
            # An infinite one where nothing says what a small change is.
            self.spread[hour] = max(mads[hour] * _MAD, (high - low) / _RANGE, least) or np.inf
            self._furthest[hour] = low, high

    def new(self, hour: int, value: float, direction: Direction) -> bool:
        """Whether at this time of such days it was never nearly as far off."""
        low, high = self._furthest.get(hour, (0.0, 0.0))
        distance = value - float(self.middle[hour])
        return distance > _FURTHER * max(high, 0) if direction == "high" else distance < _FURTHER * min(low, 0)


def _told(one: Finding, unit: str) -> Finding:
    hours = (one.to_us - one.from_us) // HOUR_US
    length = "an hour" if hours == 1 else f"{hours} hours"
    text = (
        f"{one.signal} was at {one.value:.6g} {unit}".rstrip()
        + f" within {length}, where {one.low:.6g} to {one.high:.6g} are usual at this time of the week"
    )
    return Finding(
        one.signal, one.from_us, one.to_us, one.direction, one.value, one.low, one.high, round(one.score, 2), text
    )
