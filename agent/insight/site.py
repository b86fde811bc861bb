"""From the history of a site to recommendations: what each rule is given. Bounded: four weeks, so many devices."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Signal
from agent.insight import advice_cost, advice_state
from agent.insight.advice_cost import HourEnergy, Quarters
from agent.insight.periods import DAY_US, HOUR_US, MINUTE_US
from agent.insight.reading import Reader, hour_energy
from agent.insight.recommendations import Recommendation, ranked
from agent.insight.tariff import Tariff
from agent.store.energy import Level, Rolled, join

WINDOW_DAYS = 28
MAX_DEVICES = 100
_MAX_SESSIONS = 2000
_QUARTER_US = 15 * MINUTE_US
#: A quarter of an hour of which fewer minutes are known is left out.
_KNOWN_MINUTES = 10

Ints = NDArray[np.int64]
_PHASES = ("current_l1_a", "current_l2_a", "current_l3_a")
_HOTTEST = ("temperature_max_degc", "temperature_degc")


class Advisor:
    """Looks at each device once. ``limit_w``: what the grid connection carries, where the tariff has no contract."""

    def __init__(self, reader: Reader, zone: tzinfo, tariff: Tariff | None, limit_w: float | None) -> None:
        self._reader = reader
        self._zone = zone
        self._tariff = tariff
        self._limit_w = limit_w if tariff is None or tariff.contract_w is None else tariff.contract_w
        self._devices: dict[str, dict[str, list[Signal]]] = {}
        self._from_us = self._to_us = 0

    def advise(
        self, now_us: int, grid: str | None, ambient: str | None, rated_w: Mapping[str, float]
    ) -> list[Recommendation]:
        """All that there is to recommend now, the most urgent first. Raises ``StoreError``."""
        self._to_us = now_us // HOUR_US * HOUR_US
        self._from_us = self._to_us - WINDOW_DAYS * DAY_US
        self._devices = {}
        for signal in self._reader.catalog()[1]:
            if signal.device in self._devices or len(self._devices) < MAX_DEVICES:
                self._devices.setdefault(signal.device, {}).setdefault(signal.name, []).append(signal)
        grid = grid or self._only_meter()
        air, air_name = self._ambient(ambient)
        found: list[Recommendation | None] = []
        for device, names in self._devices.items():
            if device != grid and "soc_pct" not in names:
                hours = hour_energy(
                    self._reader, device, "import", self._from_us, self._to_us, now_us, max_w=rated_w.get(device)
                )
                if hours is not None:
                    found += self._cost(hours, names)
            found += self._state(device, names, air, air_name)
        if grid is not None and grid in self._devices:
            found += self._connection(grid)
        return ranked(found)

    def _cost(self, hours: HourEnergy, names: Mapping[str, Sequence[Signal]]) -> list[Recommendation | None]:
        outlets = [name for name in names if name.partition(".")[0] in {"charging", "plugged", "charger_status"}]
        if not outlets:
            return [
                advice_cost.shift(hours, None, self._tariff, self._zone),
                advice_cost.standby(hours, None, self._tariff, self._zone),
            ]
        charging = self._hours_with(names, "charging")
        idle = np.ones(len(hours.t_us), np.bool_)
        for one in charging.values():
            # Hours of which nobody knows whether it charged are not idle.
            still = one.t_us[(one.count > 0) & (one.hi == 0)]
            idle &= np.isin(hours.t_us, still)
        return [
            advice_cost.shift(hours, self._plugged(hours.device, names), self._tariff, self._zone),
            advice_cost.standby(hours, idle, self._tariff, self._zone) if charging else None,
        ]

    def _plugged(self, device: str, names: Mapping[str, Sequence[Signal]]) -> list[tuple[int, int]]:
        """When a vehicle was plugged in: as sessions tell, or else the hours through which it was."""
        _, sessions = self._reader.list_sessions(device, None, self._from_us, self._to_us, limit=_MAX_SESSIONS)
        if sessions:
            ends = [self._to_us if one.stop_us is None else one.stop_us for one in sessions]
            return _merged((one.start_us, end) for one, end in zip(sessions, ends, strict=True))
        spans: list[tuple[int, int]] = []
        for rolled in self._hours_with(names, "plugged").values():
            spans += [(t_us, t_us + HOUR_US) for t_us in rolled.t_us[(rolled.count > 0) & (rolled.lo == 1)].tolist()]
        return _merged(spans)

    def _state(
        self, device: str, names: Mapping[str, Sequence[Signal]], air: Rolled | None, air_name: str
    ) -> list[Recommendation | None]:
        found: list[Recommendation | None] = []
        hottest = next((name for name in _HOTTEST if name in names), None)
        if "soc_pct" in names and hottest is not None:
            rolled = self._hours(names[hottest])
            found.append(advice_state.battery_heat(device, f"{device}.{hottest}", rolled, air, air_name))
        if "cell_voltage_max_v" in names and "cell_voltage_min_v" in names:
            highest, lowest = self._hours(names["cell_voltage_max_v"]), self._hours(names["cell_voltage_min_v"])
            signals = (f"{device}.cell_voltage_max_v", f"{device}.cell_voltage_min_v")
            found.append(advice_state.cell_drift(device, signals, highest, lowest))
        plugged, charging = self._hours_with(names, "plugged"), self._hours_with(names, "charging")
        if not plugged and all(name in names for name in _PHASES):
            phases = [self._hours(names[name]) for name in _PHASES]
            found.append(advice_state.uneven_phases(device, [f"{device}.{name}" for name in _PHASES], phases))
        for outlet, one in plugged.items():
            if outlet in charging:
                there = one.t_us[(one.count > 0) & (one.lo == 1)]
                active = charging[outlet].t_us[charging[outlet].hi > 0]
                station = device + outlet
                signal = f"{device}.plugged{outlet}"
                found.append(advice_state.occupied(station, signal, there, active, self._zone))
        return found

    def _connection(self, grid: str) -> list[Recommendation | None]:
        quarters = self._quarters(grid)
        if quarters is None:
            return []
        top_us = int(quarters.t_us[int(np.argmax(quarters.w))])
        drawn = self._drawn(grid, top_us)
        return [
            advice_cost.peak(quarters, self._limit_w, drawn, self._tariff, self._zone),
            advice_cost.load_factor(quarters),
        ]

    def _quarters(self, grid: str) -> Quarters | None:
        names = self._devices[grid]
        name = next((one for one in ("power_w", "power_import_w") if one in names), None)
        if name is None:
            return None
        rolled = self._read(names[name], "minute", self._from_us, self._to_us)
        quarter = rolled.t_us // _QUARTER_US
        times, places = np.unique(quarter, return_inverse=True)
        known = np.bincount(places, minlength=len(times))
        means = np.bincount(places, rolled.mean, len(times)) / np.maximum(known, 1)
        kept = known >= _KNOWN_MINUTES
        if not kept.any():
            return None
        return Quarters(grid, f"{grid}.{name}", times[kept] * _QUARTER_US, np.maximum(means[kept], 0.0), self._to_us)

    def _drawn(self, grid: str, at_us: int) -> dict[str, float]:
        """What each other device drew in that quarter, where it is known to draw anything."""
        found: dict[str, float] = {}
        for device, names in self._devices.items():
            signals = names.get("power_w") or [
                one for name, group in names.items() if name.startswith("power_w.") for one in group
            ]
            if device == grid or not signals:
                continue
            rolled = self._reader.rolled([one.id for one in signals], "minute", [(at_us, at_us + _QUARTER_US)])
            power_w = sum(float(one.mean[one.count > 0].mean()) for one in rolled.values() if (one.count > 0).any())
            if power_w > 0:
                found[device] = power_w
        return found

    def _only_meter(self) -> str | None:
        """The device that is the meter of the grid connection because there is no other meter that counts both ways."""
        meters = [
            device
            for device, names in self._devices.items()
            if any(name.startswith("energy_export") for name in names)
            and any(name in names for name in ("power_w", "power_import_w"))
            and not any(name.partition(".")[0] in {"soc_pct", "charging", "charger_status"} for name in names)
        ]
        return meters[0] if len(meters) == 1 else None

    def _ambient(self, ambient: str | None) -> tuple[Rolled | None, str]:
        device, _, name = (ambient or "").partition(".")
        signals = self._devices.get(device, {}).get(name)
        return (None, "") if signals is None else (self._hours(signals), ambient or "")

    def _hours_with(self, names: Mapping[str, Sequence[Signal]], base: str) -> dict[str, Rolled]:
        """The hours of a point by outlet: of the plain name (""), or of ``.1``, ``.2`` and so on."""
        outlets = {name.removeprefix(base): group for name, group in names.items() if name.partition(".")[0] == base}
        if len(outlets) > 1:
            outlets.pop("", None)  # the charger's own is the sum of its outlets'
        return {outlet: self._hours(group) for outlet, group in outlets.items()}

    def _hours(self, signals: Sequence[Signal]) -> Rolled:
        return self._read(signals, "hour", self._from_us, self._to_us)

    def _read(self, signals: Sequence[Signal], level: Level, from_us: int, to_us: int) -> Rolled:
        """A name's roll-ups, one after the other as its meaning changed, where something is known."""
        found = self._reader.rolled([one.id for one in signals], level, [(from_us, to_us)])
        rolled = join(list(found.values()))
        return rolled.take(rolled.count > 0)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for from_us, to_us in sorted(spans):
        if found and from_us <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], to_us))
        else:
            found.append((from_us, to_us))
    return found
