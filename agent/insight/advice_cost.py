"""Recommendations about what energy costs: cheap hours, stand-by, peaks, load factor. Pure.

Each function is given the figures of some weeks and says one thing, or None where there is nothing worth doing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

import numpy as np
from numpy.typing import NDArray

from agent.insight.periods import DAY_US, HOUR_US, local
from agent.insight.recommendations import Evidence, Recommendation, month_share
from agent.insight.tariff import Tariff

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Figures of less say nothing.
MIN_DAYS = 7
#: A shift must save so much of the cost.
_SHIFT_SHARE = 0.05
#: Of a device of which nobody knows when it may run, so much is taken to be movable.
MOVABLE = 0.5
_STANDBY_W = 15.0
_IDLE_SHARE, _IDLE_HOURS = 0.2, 24
#: A device that is used draws at times so many times what it draws when it is not.
_USE_FACTOR = 4
#: A peak this near to what is agreed upon is worth a word.
_NEAR_LIMIT = 0.9
_SHAVE_SHARE = 0.15
_LOW_LOAD_FACTOR, _LOAD_FACTOR_W = 0.25, 5000.0
_WH_PER_KWH = 1000
#: Means of equal prices differ by less.
_PRICE_STEP = 1e-9


@dataclass(frozen=True, slots=True)
class HourEnergy:
    """The energy of each hour of a span; NaN: not known. ``signal``: what it is from."""

    device: str
    signal: str
    t_us: Ints  #: when the hours begin
    wh: Floats
    end_us: int

    @property
    def long_enough(self) -> bool:
        """Whether so much is known that it says something."""
        return int(np.isfinite(self.wh).sum()) >= MIN_DAYS * 24

    def prices(self, tariff: Tariff, zone: tzinfo) -> Floats:
        """What a kWh costs in each of the hours."""
        return np.array([tariff.price(t_us, t_us + HOUR_US, zone) for t_us in self.t_us.tolist()], np.float64)


def shift(
    hours: HourEnergy, plugged: Sequence[tuple[int, int]] | None, tariff: Tariff | None, zone: tzinfo
) -> Recommendation | None:
    """Run in cheap hours. ``plugged``: when it can run (a vehicle is there); None: nobody knows.

    Known: the cost is held against that of the same energy in the cheapest hours of each such span, at no more than the
    highest power that was drawn in it. Not known: as if half of it could go to the cheapest hours.
    """
    if tariff is None or tariff.flat or not hours.long_enough:
        return None
    wh = np.nan_to_num(hours.wh)
    prices = hours.prices(tariff, zone)
    cost = float(wh @ prices) / _WH_PER_KWH
    if plugged is None:
        dear = prices > tariff.cheapest + _PRICE_STEP
        moved = float(wh[dear].sum()) * MOVABLE / _WH_PER_KWH
        saved = float((wh * (prices - tariff.cheapest)).sum()) * MOVABLE / _WH_PER_KWH
    else:
        saved, moved = 0.0, 0.0
        for from_us, to_us in plugged:
            one_saved, one_moved = _best(hours, wh, prices, from_us, to_us)
            saved, moved = saved + one_saved, moved + one_moved
    if cost <= 0 or saved < _SHIFT_SHARE * cost:
        return None
    factor = month_share(int(hours.t_us[0]), hours.end_us)
    total = float(wh.sum()) / _WH_PER_KWH
    how = "while a vehicle was plugged in" if plugged is not None else f"moving {MOVABLE:.0%} of what is drawn then"
    text = (
        f"{hours.device} drew {total:.1f} kWh for {cost:.2f} {tariff.currency}. {moved:.1f} kWh of it could have been"
        f" drawn in cheaper hours ({how}): that saves {saved * factor:.2f} {tariff.currency} a month. Let it run when"
        f" a kWh costs {tariff.cheapest:g}"
    )
    values = {"kwh": total, "cost": cost, "moved_kwh": moved, "saved": saved, "cheapest_price": tariff.cheapest}
    evidence = Evidence(hours.signal, int(hours.t_us[0]), hours.end_us, values)
    return Recommendation(
        f"shift:{hours.device}", "shift", hours.device, text, (evidence,), 2, int(hours.t_us[0]),
        0.0, saved * factor, tariff.currency,
    )  # fmt: skip


def _best(hours: HourEnergy, wh: Floats, prices: Floats, from_us: int, to_us: int) -> tuple[float, float]:
    """What the energy of one span could have cost less, and how many kWh would have moved for it."""
    inside_us = np.minimum(hours.t_us + HOUR_US, to_us) - np.maximum(hours.t_us, from_us)
    places = np.flatnonzero(inside_us > 0)
    energy = wh[places]
    total = float(energy.sum())
    if total <= 0:
        return 0.0, 0.0
    # What an hour can take: its part in the span, at the highest power of the span.
    room = np.maximum(energy.max() * inside_us[places] / HOUR_US, energy)
    best = np.zeros(len(places))
    left = total
    for place in np.argsort(prices[places], kind="stable").tolist():
        best[place] = min(left, float(room[place]))
        left -= best[place]
    saved = float((energy - best) @ prices[places]) / _WH_PER_KWH
    return max(saved, 0.0), float(np.maximum(energy - best, 0).sum()) / _WH_PER_KWH


def standby(hours: HourEnergy, idle: Flags | None, tariff: Tariff | None, zone: tzinfo) -> Recommendation | None:
    """Switch off what draws power while nobody uses it. ``idle``: the hours in which it was not used; None: nobody
    told, so they are those in which it drew next to its least, of a device that draws much more at other times.
    """  # noqa: D205 - one sentence
    if not hours.long_enough:
        return None
    known = np.isfinite(hours.wh)
    if idle is None:
        base = float(np.quantile(hours.wh[known], 0.1))
        if base <= 0 or float(np.quantile(hours.wh[known], 0.9)) < _USE_FACTOR * base:
            return None
        idle = known & (np.nan_to_num(hours.wh) <= 1.5 * base)
    idle = idle & known
    count = int(idle.sum())
    if count < max(_IDLE_HOURS, _IDLE_SHARE * int(known.sum())):
        return None
    # The mean, not the median: coarse registers move once in some hours.
    power_w = float(hours.wh[idle].mean())
    if power_w < _STANDBY_W:
        return None
    factor = month_share(int(hours.t_us[0]), hours.end_us)
    kwh = power_w * count / _WH_PER_KWH * factor
    money = None
    if tariff is not None:
        money = float((hours.wh[idle] * hours.prices(tariff, zone)[idle]).sum()) / _WH_PER_KWH * factor
    worth = "" if tariff is None else f", {money:.2f} {tariff.currency}"
    text = (
        f"{hours.device} draws {power_w:.0f} W while it is not used, {count} of {int(known.sum())} hours:"
        f" {kwh:.1f} kWh a month{worth}. Switch it off when it is not needed"
    )
    values = {"standby_w": power_w, "idle_hours": float(count), "known_hours": float(known.sum())}
    evidence = Evidence(hours.signal, int(hours.t_us[0]), hours.end_us, values)
    return Recommendation(
        f"standby:{hours.device}", "standby", hours.device, text, (evidence,), 3, int(hours.t_us[0]),
        kwh, money, "" if tariff is None else tariff.currency,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quarters:
    """Mean power of each quarter of an hour of a span, of those that are known; of the grid connection."""

    device: str
    signal: str
    t_us: Ints  #: when the quarters begin
    w: Floats
    end_us: int

    @property
    def long_enough(self) -> bool:
        """Whether so much is known that it says something."""
        return len(self.w) >= MIN_DAYS * 96


def peak(
    quarters: Quarters,
    limit_w: float | None,
    drawn: Mapping[str, float],
    tariff: Tariff | None,
    zone: tzinfo,
) -> Recommendation | None:
    """Shave the highest quarter hours: they come near to what is agreed upon, or few of them set the demand charge.

    ``drawn``: what each device drew in the highest quarter, in W.
    """
    if not quarters.long_enough:
        return None
    place = int(np.argmax(quarters.w))
    top_w, at_us = float(quarters.w[place]), int(quarters.t_us[place])
    common_w = float(np.quantile(quarters.w, 0.99))
    near = limit_w is not None and top_w >= _NEAR_LIMIT * limit_w
    price = None if tariff is None else tariff.demand_price_per_kw
    few = bool(price) and top_w - common_w >= _SHAVE_SHARE * top_w
    if not near and not few:
        return None
    target_w = min(common_w, _NEAR_LIMIT * limit_w) if near and limit_w is not None else common_w
    above = int((quarters.w > target_w).sum())
    money = None if price is None else (top_w - target_w) / 1000 * price
    text = f"The highest quarter hour was {top_w / 1000:.1f} kW ({local(at_us, zone):%Y-%m-%d %H:%M})"
    if limit_w is not None:
        text += f", {top_w / limit_w:.0%} of the {limit_w / 1000:.1f} kW that there are"
    text += f". Only {above} of {len(quarters.w)} quarter hours were above {target_w / 1000:.1f} kW"
    most = sorted(drawn.items(), key=lambda item: (-item[1], item[0]))[:3]
    if most:
        text += ": then drew " + ", ".join(f"{name} {watts / 1000:.1f} kW" for name, watts in most)
    if money is not None and tariff is not None:
        text += f". Staying below saves {money:.2f} {tariff.currency} a month"
    values = {"peak_w": top_w, "target_w": target_w, "quarters_above": float(above)}
    values |= {} if limit_w is None else {"limit_w": limit_w}
    evidence = (
        Evidence(quarters.signal, at_us, at_us + 15 * 60_000_000, values),
        *(Evidence(name, at_us, at_us + 15 * 60_000_000, {"drawn_w": watts}) for name, watts in most),
    )
    return Recommendation(
        f"peak:{quarters.device}", "peak", quarters.device, text, evidence, 1 if near else 2, at_us,
        0.0, money, "" if tariff is None or money is None else tariff.currency,
    )  # fmt: skip


def load_factor(quarters: Quarters) -> Recommendation | None:
    """Spread what runs: the mean is little of the peak, for which the connection is built."""
    if not quarters.long_enough:
        return None
    top_w, mean_w = float(quarters.w.max()), float(quarters.w.mean())
    if top_w < _LOAD_FACTOR_W or mean_w <= 0 or mean_w >= _LOW_LOAD_FACTOR * top_w:
        return None
    days = (quarters.end_us - int(quarters.t_us[0])) / DAY_US
    text = (
        f"{quarters.device} carries {mean_w / 1000:.1f} kW on average and {top_w / 1000:.1f} kW at its peak: a load"
        f" factor of {mean_w / top_w:.0%} over {days:.0f} days. Charge longer with less power, or one after the other"
    )
    values = {"mean_w": mean_w, "peak_w": top_w, "load_factor": mean_w / top_w}
    evidence = Evidence(quarters.signal, int(quarters.t_us[0]), quarters.end_us, values)
    since_us = int(quarters.t_us[0])
    return Recommendation(
        f"load_factor:{quarters.device}", "load_factor", quarters.device, text, (evidence,), 3, since_us
    )
