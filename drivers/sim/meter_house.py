"""The house behind the simulated meters: what is drawn at its grid connection, and of that by its heat pump.

Rules of this model:

1. Everything is a function of the time alone: a load is a sum of sines whose periods divide a day, so its energy has a
   closed form. Two processes see the same house, and a meter that is started again goes on where it would be by now.
2. Loads are never negative, so registers never go down; the heat pump's load is part of the grid's.
3. What else is drawn at the connection is told (``Connection``): its registers are the house's, and sums of steps.
4. Days begin at 0:00 of a zone one hour ahead of UTC, without summer time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

DAY_S = 86_400.0
S_PER_H = 3600.0
ZONE_S = 3600.0
#: When the registers stood at 0.
START_S = datetime(2024, 1, 1, tzinfo=UTC).timestamp() - ZONE_S
#: The hours of the low tariff: before the first and from the second on.
LOW_BEFORE_H, LOW_FROM_H = 7.0, 23.0
PHASES = 3


@dataclass(frozen=True, slots=True)
class Wave:
    """``amplitude_w * sin(2 pi (cycles * day + phase))``; whole ``cycles`` a day."""

    amplitude_w: float
    cycles: int
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """A mean power and the waves on it."""

    mean_w: float
    waves: tuple[Wave, ...]

    def power_w(self, day_s: float) -> float:
        """The power at that second of the day."""
        return self.mean_w + sum(wave.amplitude_w * math.sin(_angle(wave, day_s)) for wave in self.waves)

    def energy_wh(self, day_s: float) -> float:
        """The energy from the day's beginning to that second."""
        joules = self.mean_w * day_s
        for wave in self.waves:
            omega = 2 * math.pi * wave.cycles / DAY_S
            joules += wave.amplitude_w / omega * (math.cos(_angle(wave, 0)) - math.cos(_angle(wave, day_s)))
        return joules / S_PER_H


def _angle(wave: Wave, day_s: float) -> float:
    return 2 * math.pi * (wave.cycles * day_s / DAY_S + wave.phase)


#: A low at night, peaks in the morning and in the evening, and what switches in between.
_BASE = Load(
    900.0, (Wave(300.0, 1, 0.62), Wave(220.0, 2, 0.55), Wave(120.0, 97), Wave(90.0, 613, 0.3), Wave(40.0, 3701, 0.7))
)
_HEAT_PUMP = Load(800.0, (Wave(250.0, 1, 0.25), Wave(330.0, 72), Wave(60.0, 480, 0.1), Wave(15.0, 2399, 0.4)))
#: How the base load is spread over the phases; the heat pump takes equal parts of all.
_SPREAD = (0.5, 0.3, 0.2)


@dataclass(frozen=True, slots=True)
class House:
    """The house at a moment: ``now_us`` µs UTC. Powers in W, energies in Wh since ``START_S``."""

    now_us: int

    @property
    def _days(self) -> tuple[int, float]:
        """Whole days since the registers stood at 0, and the seconds of today."""
        days, day_s = divmod(self.now_us / 1e6 - START_S, DAY_S)
        return int(days), day_s

    @property
    def local(self) -> datetime:
        """The time in the house's zone, as a naive date and time."""
        return datetime.fromtimestamp(self.now_us // 1_000_000 + ZONE_S, UTC).replace(tzinfo=None)

    @property
    def low_tariff(self) -> bool:
        """Whether the low tariff is in force."""
        hour = self._days[1] / S_PER_H
        return hour < LOW_BEFORE_H or hour >= LOW_FROM_H

    @property
    def power_w(self) -> float:
        """What is drawn at the grid connection."""
        return _BASE.power_w(self._days[1]) + self.heat_pump_w

    @property
    def phases_w(self) -> tuple[float, ...]:
        """The same by phase."""
        base_w = _BASE.power_w(self._days[1])
        return tuple(base_w * share + self.heat_pump_w / PHASES for share in _SPREAD)

    @property
    def voltages_v(self) -> tuple[float, ...]:
        """Phases to neutral: the more is drawn, the lower."""
        return tuple(231.5 - phase_w / 1000 + index * 0.4 for index, phase_w in enumerate(self.phases_w))

    @property
    def heat_pump_w(self) -> float:
        """What the heat pump draws."""
        return _HEAT_PUMP.power_w(self._days[1])

    @property
    def heat_pump_wh(self) -> float:
        """The register of the heat pump's meter."""
        days, day_s = self._days
        return days * _HEAT_PUMP.energy_wh(DAY_S) + _HEAT_PUMP.energy_wh(day_s)

    @property
    def energy_wh(self) -> tuple[float, float]:
        """The registers of the grid's meter: low tariff, normal tariff."""
        days, day_s = self._days
        low_wh = days * _low_wh(DAY_S) + _low_wh(day_s)
        all_wh = days * _grid_wh(DAY_S) + _grid_wh(day_s)
        return low_wh, all_wh - low_wh

    @property
    def exported_wh(self) -> tuple[float, float]:
        """The registers of what is given back: nothing."""
        return 0.0, 0.0

    @property
    def gas_m3(self) -> float:
        """The gas meter, read each five minutes: some gas for cooking."""
        days, day_s = self._days
        return 3124.0 + 0.8 * (days + math.floor(day_s / 300) * 300 / DAY_S)


class Connection:
    """The grid connection of the house and of what else is drawn there, by phase in W, negative = given back.

    The meter adds the phases up before it counts (P1 companion standard 5.0.2, 5.1: "saldering" over the phases). Its
    registers go on from ``before``: what was imported and exported beside the house's own, by tariff, in Wh.
    """

    def __init__(self, now_us: int, before: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> None:
        self._house = House(now_us)
        self._beside_w = (0.0,) * PHASES
        self.beside_wh = list(before)  #: imported at the low and the normal tariff beside the house's, exported at both

    def draw(self, beside_w: Sequence[float]) -> None:
        """From now on so much is drawn beside the house, by phase."""
        first, second, third = beside_w
        self._beside_w = (first, second, third)

    def step(self, now_us: int) -> None:
        """Bring the registers up to now."""
        seconds = max(0.0, (now_us - self._house.now_us) / 1e6)
        house, self._house = self._house, House(now_us)
        drawn_wh = sum(self._house.energy_wh) - sum(house.energy_wh)
        net_wh = drawn_wh + sum(self._beside_w) * seconds / S_PER_H
        place = 0 if self._house.low_tariff else 1
        # The house's own registers grow by themselves: what is taken off here never is more than they did.
        self.beside_wh[place] += max(net_wh, 0.0) - drawn_wh
        self.beside_wh[2 + place] += max(-net_wh, 0.0)

    @property
    def local(self) -> datetime:
        """As of the house."""
        return self._house.local

    @property
    def low_tariff(self) -> bool:
        """As of the house."""
        return self._house.low_tariff

    @property
    def phases_w(self) -> tuple[float, ...]:
        """What is drawn by phase, negative = given back."""
        return tuple(own + beside for own, beside in zip(self._house.phases_w, self._beside_w, strict=True))

    @property
    def power_w(self) -> float:
        """What is drawn, negative = given back."""
        return sum(self.phases_w)

    @property
    def voltages_v(self) -> tuple[float, ...]:
        """Phases to neutral: the more is drawn, the lower."""
        return tuple(231.5 - phase_w / 2500 + index * 0.4 for index, phase_w in enumerate(self.phases_w))

    @property
    def energy_wh(self) -> tuple[float, float]:
        """What was imported: low tariff, normal tariff."""
        low_wh, normal_wh = self._house.energy_wh
        return low_wh + self.beside_wh[0], normal_wh + self.beside_wh[1]

    @property
    def exported_wh(self) -> tuple[float, float]:
        """What was exported: low tariff, normal tariff."""
        return self.beside_wh[2], self.beside_wh[3]

    @property
    def gas_m3(self) -> float:
        """As of the house."""
        return self._house.gas_m3


def _grid_wh(day_s: float) -> float:
    return _BASE.energy_wh(day_s) + _HEAT_PUMP.energy_wh(day_s)


def _low_wh(day_s: float) -> float:
    """What was drawn at the low tariff from the day's beginning to that second."""
    until_s, from_s = LOW_BEFORE_H * S_PER_H, LOW_FROM_H * S_PER_H
    late_wh = _grid_wh(day_s) - _grid_wh(from_s) if day_s > from_s else 0.0
    return _grid_wh(min(day_s, until_s)) + late_wh
