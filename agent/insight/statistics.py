"""Figures for dashboards: stations, the latest of a device, summaries over a range, sessions by day. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from agent.control.model import Station
from agent.core.model import Number, Session, Signal
from agent.core.points import find_point
from agent.core.ports import Latest
from agent.insight.periods import HOUR_US, MINUTE_US
from agent.store.energy import Level, Range, Rolled

#: Of a current limit in A per phase, where nothing else is known of a charger.
MAINS_V, PHASES = 230, 3
_W_PER_KW = 1000


@dataclass(frozen=True, slots=True)
class StationCounts:
    """How many stations there are and what they can give. A charger with several outlets is these, not one more.

    A station is inactive when it was decided to be off, active otherwise. ``unrated`` ones have no known power and are
    in no sum.
    """

    total: int
    active: int
    inactive: int
    kw: float
    active_kw: float
    unrated: int


def count_stations(stations: Sequence[Station], known_w: Mapping[str, Number] | None = None) -> StationCounts:
    """Count stations. ``known_w``: what is known of their power, by station; else what they can be set to counts."""
    split = {one.device for one in stations if one.outlet}
    ends = [one for one in stations if one.outlet or one.device not in split]
    powers = [rated_w(one, known_w or {}) for one in ends]
    on = [one.on is not False for one in ends]
    known = [(power, active) for power, active in zip(powers, on, strict=True) if power is not None]
    return StationCounts(
        total=len(ends),
        active=sum(on),
        inactive=len(ends) - sum(on),
        kw=sum(power for power, _ in known) / _W_PER_KW,
        active_kw=sum(power for power, active in known if active) / _W_PER_KW,
        unrated=len(ends) - len(known),
    )


def rated_w(station: Station, known_w: Mapping[str, Number] = MappingProxyType({})) -> float | None:
    """What a station can deliver, in W: what is known of it, else what it can be set to; None where nobody knows."""
    if station.id in known_w:
        return float(known_w[station.id])
    power = station.settings.get("power_limit_w")
    if power is not None:
        return float(power.max)
    current = station.settings.get("current_limit_a")
    return None if current is None else float(current.max) * MAINS_V * PHASES


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the latest values of a battery or vehicle are worth an alert."""

    soc_low_pct: float = 15
    soh_low_pct: float = 70
    temperature_high_degc: float = 50
    temperature_low_degc: float = -10
    stale_s: float = 3600


@dataclass(frozen=True, slots=True)
class Alert:
    """Something about the latest values. ``code`` is fixed (``soc_low``), ``text`` a sentence with its numbers."""

    code: str
    signal: str
    value: Number | None
    text: str


@dataclass(frozen=True, slots=True)
class DeviceLatest:
    """The latest of a device: value by point (None: not known now), its power, and what is worth an alert.

    ``t_us`` is when the newest of the values was read. ``power_w`` is the device's own, or voltage times current.
    """

    device: str
    t_us: int | None
    values: Mapping[str, Number | None]
    power_w: float | None
    alerts: Sequence[Alert]


def device_latest(device: str, latest: Iterable[Latest], limits: Thresholds | None = None) -> DeviceLatest:
    """The latest of a device from the newest values of its signals."""
    found = list(latest)
    values = {one.signal.name: one.value for one in found}
    power = values.get("power_w")
    voltage, current = values.get("voltage_v"), values.get("current_a")
    if power is None and voltage is not None and current is not None:
        power = voltage * current
    times = [one.t_us for one in found if one.t_us is not None and one.value is not None]
    alerts = _alerts(found, limits or Thresholds())
    return DeviceLatest(device, max(times, default=None), values, None if power is None else float(power), alerts)


def _alerts(latest: Sequence[Latest], limits: Thresholds) -> list[Alert]:
    found: list[Alert] = []
    for one in latest:
        name, value = one.signal.name, one.value
        if value is None:
            continue
        hot = name in {"temperature_max_degc", "temperature_degc"} and value > limits.temperature_high_degc
        cold = name in {"temperature_min_degc", "temperature_degc"} and value < limits.temperature_low_degc
        if name == "soc_pct" and value < limits.soc_low_pct:
            found.append(
                Alert("soc_low", name, value, f"state of charge {value:g} % is below {limits.soc_low_pct:g} %")
            )
        elif name == "soh_pct" and value < limits.soh_low_pct:
            found.append(
                Alert("soh_low", name, value, f"state of health {value:g} % is below {limits.soh_low_pct:g} %")
            )
        elif hot:
            text = f"{value:g} °C is above {limits.temperature_high_degc:g} °C"
            found.append(Alert("temperature_high", name, value, text))
        elif cold:
            text = f"{value:g} °C is below {limits.temperature_low_degc:g} °C"
            found.append(Alert("temperature_low", name, value, text))
        elif value and (name == "fault" or name.startswith(("fault_", "warning_")) or name == "warning"):
            point = find_point(name)
            words = one.signal.labels.get(int(value)) or (point.doc.removesuffix(" (0/1)") if point else name)
            found.append(Alert(name, name, value, words))
    ages = [one.age_s for one in latest if one.age_s is not None]
    if ages and min(ages) > limits.stale_s:
        text = f"nothing was heard for {min(ages) / 3600:.1f} h"
        found.append(Alert("stale", "", None, text))
    return found


@dataclass(frozen=True, slots=True)
class Extremes:
    """Of one signal over a range: how many samples there are, and the lowest and highest. None: there is none."""

    samples: int
    lo: float | None
    hi: float | None


def split_range(from_us: int, to_us: int) -> tuple[dict[Level, list[Range]], list[Range]]:
    """A range as whole hours, whole minutes ahead of and behind them, and what is left at both ends of minutes."""
    first_minute, last_minute = -(-from_us // MINUTE_US) * MINUTE_US, to_us // MINUTE_US * MINUTE_US
    if first_minute >= last_minute:
        return {"hour": [], "minute": []}, [(from_us, to_us)]
    rest = [one for one in ((from_us, first_minute), (last_minute, to_us)) if one[0] < one[1]]
    first_hour, last_hour = -(-first_minute // HOUR_US) * HOUR_US, last_minute // HOUR_US * HOUR_US
    if first_hour >= last_hour:
        return {"hour": [], "minute": [(first_minute, last_minute)]}, rest
    minutes = [one for one in ((first_minute, first_hour), (last_hour, last_minute)) if one[0] < one[1]]
    return {"hour": [(first_hour, last_hour)], "minute": minutes}, rest


def extremes(rolled: Sequence[Rolled], rows: Sequence[float]) -> Extremes:
    """Of buckets and of the rows at the ends that no bucket fits."""
    values = np.array(rows, np.float64)
    lows = np.concatenate([*(one.lo[one.count > 0] for one in rolled), values])
    highs = np.concatenate([*(one.hi[one.count > 0] for one in rolled), values])
    samples = sum(int(one.count.sum()) for one in rolled) + len(values)
    return Extremes(samples, *((float(lows.min()), float(highs.max())) if len(lows) else (None, None)))


@dataclass(frozen=True, slots=True)
class SessionEnergy:
    """Sessions of one station that began in a period: how many, their energy in Wh (None: not known of any)."""

    station: str
    from_us: int
    to_us: int
    sessions: int
    wh: float | None
    connected_s: float


def session_energy(
    sessions: Iterable[Session], bounds: Sequence[int], stations: Iterable[Station], now_us: int
) -> list[SessionEnergy]:
    """The sessions by station and period, in that order. A session belongs to the period in which it began."""
    split = {one.device for one in stations if one.outlet}
    found: dict[tuple[str, int], list[Session]] = {}
    for one in sessions:
        place = bisect_right(bounds, one.start_us) - 1
        if 0 <= place < len(bounds) - 1:
            station = f"{one.device}.{one.outlet}" if one.device in split else one.device
            found.setdefault((station, place), []).append(one)
    answer: list[SessionEnergy] = []
    for (station, place), group in sorted(found.items()):
        known = [float(one.energy_wh) for one in group if one.energy_wh is not None]
        ends = [min(now_us if one.stop_us is None else one.stop_us, now_us) for one in group]
        seconds = sum(max(end - one.start_us, 0) for end, one in zip(ends, group, strict=True)) / 1e6
        wh = sum(known) if known else None
        answer.append(SessionEnergy(station, bounds[place], bounds[place + 1], len(group), wh, seconds))
    return answer


def newest(signals: Iterable[Signal], names: Iterable[str]) -> dict[str, list[int]]:
    """The ids of each name, one after the other as its meaning changed."""
    wanted = set(names)
    found: dict[str, list[int]] = {}
    for one in signals:
        if one.name in wanted:
            found.setdefault(one.name, []).append(one.id)
    return found
