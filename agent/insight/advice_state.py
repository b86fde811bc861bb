"""Recommendations about the state of things: hot batteries, drifting cells, uneven phases, occupied outlets. Pure.

Each function is given 1 h roll-ups of some weeks and says one thing, or None where there is nothing worth doing.
"""

from collections.abc import Sequence
from datetime import tzinfo

import numpy as np
from numpy.typing import NDArray

from agent.insight.anomalies import week_hours
from agent.insight.periods import DAY_US, HOUR_US
from agent.insight.recommendations import Evidence, Recommendation
from agent.store.energy import Rolled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Lithium cells age about twice as fast for each 10 K; makers ask for less than this in continuous use.
_WARM_DEGC, _HOT_AIR_DEGC, _EXCESS_K = 35.0, 30.0, 10.0
_HOT_SHARE, _HOT_HOURS = 0.05, 12
_IDLE_HOURS, _IDLE_SHARE = 10, 0.3
_DAY_FROM, _DAY_TO = 7, 21
_UNEVEN = 0.3
_LOADED_SHARE, _LOADED_HOURS = 0.1, 24
_DRIFT_DAYS, _DRIFT_V, _APART_V = 14, 0.005, 0.05
#: Of a trend that is there with 99 % (Mann-Kendall, two-sided).
_SURE = 2.58
_MONTH_DAYS = 30


def battery_heat(
    device: str, signal: str, hottest: Rolled, air: Rolled | None, air_signal: str
) -> Recommendation | None:
    """A battery that is warm for long: it is not cooled (against the air around it), or the air is hot."""
    hottest = hottest.take(hottest.count > 0)
    if len(hottest) < _DRIFT_DAYS * 24:
        return None
    warm = hottest.hi > _WARM_DEGC
    count = int(warm.sum())
    if count < max(_HOT_HOURS, _HOT_SHARE * len(hottest)):
        return None
    from_us, to_us = int(hottest.t_us[0]), int(hottest.t_us[-1]) + HOUR_US
    peak = float(hottest.hi.max())
    values = {"hours_warm": float(count), "hours": float(len(hottest)), "highest_degc": peak}
    evidence = [Evidence(signal, from_us, to_us, values)]
    text = f"{device} was above {_WARM_DEGC:.0f} °C in {count} of {len(hottest)} hours, at most at {peak:.1f} °C"
    priority = 2
    excess = None if air is None else _excess(hottest.take(warm), air.take(air.count > 0))
    if excess is None:
        text += ". Look at its cooling, or charge it with less power"
    elif excess[0] >= _EXCESS_K:
        priority = 1
        text += f", then {excess[0]:.0f} K above the air around it ({excess[1]:.0f} °C). Look at its cooling"
    elif excess[1] >= _HOT_AIR_DEGC:
        text += f", as the air around it ({excess[1]:.0f} °C): the room needs shade or ventilation, not the battery"
    else:
        text += f", {excess[0]:.0f} K above the air around it ({excess[1]:.0f} °C). Charge it with less power"
    if excess is not None:
        evidence.append(Evidence(air_signal, from_us, to_us, {"excess_k": excess[0], "air_degc": excess[1]}))
    since_us = int(hottest.t_us[np.flatnonzero(warm)[0]])
    return Recommendation(f"battery_heat:{device}", "battery_heat", device, text, tuple(evidence), priority, since_us)


def _excess(hottest: Rolled, air: Rolled) -> tuple[float, float] | None:
    """How much warmer the battery was than the air in the same hours, and the air; medians."""
    _, here, there = np.intersect1d(hottest.t_us, air.t_us, return_indices=True)
    if len(here) < _HOT_HOURS:
        return None
    return float(np.median(hottest.hi[here] - air.mean[there])), float(np.median(air.mean[there]))


def occupied(device: str, signal: str, plugged: Ints, charging: Ints, zone: tzinfo) -> Recommendation | None:
    """An outlet that vehicles occupy by day without charging.

    ``plugged``: the hours (when they begin, µs UTC) in which one was plugged in all along; ``charging``: in which one
    charged at some time.
    """
    idle = np.setdiff1d(plugged, charging)
    hour = week_hours(idle, zone) % 24
    by_day = idle[(hour >= _DAY_FROM) & (hour < _DAY_TO)]
    if len(by_day) < _IDLE_HOURS or len(by_day) < _IDLE_SHARE * len(plugged):
        return None
    from_us, to_us = int(plugged.min()), int(plugged.max()) + HOUR_US
    text = (
        f"{device}: in {len(by_day)} of {len(plugged)} hours a vehicle was plugged in between {_DAY_FROM}:00 and"
        f" {_DAY_TO}:00 and did not charge. Ask for vehicles to be moved when they are full, or let others charge first"
    )
    values = {
        "idle_hours": float(len(by_day)),
        "plugged_hours": float(len(plugged)),
        "all_idle_hours": float(len(idle)),
    }
    evidence = Evidence(signal, from_us, to_us, values)
    return Recommendation(f"occupied:{device}", "occupied", device, text, (evidence,), 3, int(by_day[0]))


def uneven_phases(device: str, signals: Sequence[str], phases: Sequence[Rolled]) -> Recommendation | None:
    """One phase that carries much more than the others, while the connection is loaded. ``phases``: their currents."""
    times = phases[0].t_us[phases[0].count > 0]
    for one in phases[1:]:
        times = np.intersect1d(times, one.t_us[one.count > 0])
    if len(times) < _DRIFT_DAYS * 24:
        return None
    amps = np.array([np.abs(one.mean[np.searchsorted(one.t_us, times)]) for one in phases])
    means = amps.mean(axis=0)
    # A vehicle on one phase is no fault of the installation: each phase must be in use at times.
    if float(np.quantile(amps, 0.95, axis=1).min()) < _LOADED_SHARE * float(np.quantile(amps, 0.95)):
        return None
    loaded = means > _LOADED_SHARE * float(np.quantile(means, 0.99))
    if int(loaded.sum()) < _LOADED_HOURS:
        return None
    share = amps[:, loaded].max(axis=0) / means[loaded] - 1
    typical = amps[:, loaded].mean(axis=1)
    high, low = int(np.argmax(typical)), int(np.argmin(typical))
    always = float(np.mean(np.argmax(amps[:, loaded], axis=0) == high))
    if float(np.median(share)) < _UNEVEN or always < 0.5:  # noqa: PLR2004 - mostly the same one
        return None
    shown = ", ".join(f"L{n + 1} {value:.1f} A" for n, value in enumerate(typical.tolist()))
    text = (
        f"{device}: L{high + 1} carries {float(np.median(share)):.0%} more than the mean of the phases ({shown}, over"
        f" {int(loaded.sum())} loaded hours). Move loads of {(typical[high] - typical[low]) / 2:.1f} A from L{high + 1}"
        f" to L{low + 1}"
    )
    from_us, to_us = int(times[0]), int(times[-1]) + HOUR_US
    evidence = tuple(
        Evidence(signal, from_us, to_us, {"mean_a": value})
        for signal, value in zip(signals, typical.tolist(), strict=True)
    )
    return Recommendation(f"phases:{device}", "phases", device, text, evidence, 3, from_us)


def cell_drift(device: str, signals: tuple[str, str], highest: Rolled, lowest: Rolled) -> Recommendation | None:
    """Cells that drift apart (a trend by Theil and Sen, sure by Mann and Kendall), or are far apart already."""
    times = np.intersect1d(highest.t_us[highest.count > 0], lowest.t_us[lowest.count > 0])
    apart = highest.mean[np.searchsorted(highest.t_us, times)] - lowest.mean[np.searchsorted(lowest.t_us, times)]
    days, places = np.unique(times // DAY_US, return_inverse=True)
    if len(days) < _DRIFT_DAYS:
        return None
    daily = np.array([np.median(apart[places == n]) for n in range(len(days))])
    slope_v, sure = _trend(days.astype(np.float64), daily)
    now_v = float(np.median(daily[-7:]))
    drifts = sure and slope_v * _MONTH_DAYS >= _DRIFT_V
    if not drifts and now_v < _APART_V:
        return None
    text = f"{device}: its cells are {now_v * 1000:.0f} mV apart"
    if drifts:
        text += f" and drift by {slope_v * _MONTH_DAYS * 1000:.0f} mV a month"
    text += ". Let it balance with a full, slow charge; if that does not help, have the weakest cell looked at"
    values = {"apart_v": now_v, "drift_v_per_30d": slope_v * _MONTH_DAYS, "days": float(len(days))}
    evidence = tuple(Evidence(signal, int(times[0]), int(times[-1]) + HOUR_US, values) for signal in signals)
    priority = 1 if now_v >= 2 * _APART_V else 2
    return Recommendation(f"cell_drift:{device}", "cell_drift", device, text, evidence, priority, int(times[0]))


def _trend(x: Floats, y: Floats) -> tuple[float, bool]:
    """The median of all slopes between two points, and whether it rises for sure (Mann 1945, Sen 1968)."""
    one, two = np.triu_indices(len(x), 1)
    rises = y[two] - y[one]
    count = len(x)
    deviation = np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return float(np.median(rises / (x[two] - x[one]))), bool(np.sign(rises).sum() > _SURE * deviation)
