"""The physics of the simulated battery: 16 LFP cells in series, 100 Ah, on a cycle of charging and discharging.

Rules of this model:

1. It knows nothing of CAN, clocks or tasks: ``step`` is the only thing that moves it. The same seed and the same steps
   give the same battery.
2. It is simple but consistent: charge is the integral of current; each cell has its own capacity, resistance and
   starting charge; a cell's voltage is its open-circuit voltage plus I x R; the temperature follows I^2 x R against the
   loss to the surroundings; energy registers integrate voltage x current; limits follow cells and temperature.
3. Signs: positive current = charging.
"""

import random
from bisect import bisect_right
from enum import StrEnum

CELLS = 16
SENSORS = 8
CAPACITY_AH = 100.0
#: Open-circuit voltage of an LFP cell over its state of charge, as data sheets draw it.
OCV_V = (
    (0.00, 2.80),
    (0.05, 3.10),
    (0.10, 3.20),
    (0.20, 3.25),
    (0.40, 3.285),
    (0.60, 3.30),
    (0.80, 3.33),
    (0.95, 3.36),
    (1.00, 3.50),
)
CHARGE_CURRENT_A = 50.0
DISCHARGE_CURRENT_A = -60.0
#: (seconds, current) of the cycle; discharging takes shorter, so that both directions move the same charge.
PHASES = ((240.0, CHARGE_CURRENT_A), (60.0, 0.0), (200.0, DISCHARGE_CURRENT_A), (60.0, 0.0))
RAMP_A_PER_S = 20.0
CURRENT_NOISE_A = 0.2

AMBIENT_DEGC = 22.0
HEAT_CAPACITY_J_PER_K = 4000.0  #: small, so that a minute shows something
LOSS_W_PER_K = 4.0
FAN_FAULT_DEGC_PER_S = 1.5
FAN_FAULT_MAX_DEGC = 50.0  #: how far the failing fan drives the hottest place above the others
FAN_WEAK_MAX_DEGC = 29.0  #: and how far a weak one does

MAX_CHARGE_A = 100.0
MAX_DISCHARGE_A = 150.0
CHARGE_VOLTAGE_LIMIT_V = 57.6
DISCHARGE_VOLTAGE_LIMIT_V = 44.8
CELL_WARN_HIGH_V, CELL_MAX_V = 3.55, 3.65
CELL_WARN_LOW_V, CELL_MIN_V = 2.90, 2.60
WARN_HOT_DEGC, MAX_HOT_DEGC, CLEAR_HOT_DEGC = 50.0, 60.0, 55.0
WARN_COLD_DEGC, MIN_COLD_DEGC = 5.0, -10.0
WARN_SPREAD_V, MAX_SPREAD_V = 0.1, 0.2
BALANCE_SPREAD_V = 0.01
BALANCE_A = 0.2
IMBALANCE_V = 0.3
IMBALANCE_V_PER_S = 0.02
IMBALANCED_CELL = 2

_S_PER_H = 3600.0


class Fault(StrEnum):
    """What can be switched on."""

    SILENT = "silent"  #: the BMS sends nothing
    FROZEN = "frozen"  #: the BMS repeats its last frames for ever, the alive counter stands
    OVERTEMPERATURE = "overtemperature"  #: a fan fails: the pack warms up until it is protected
    WARM = "warm"  #: a fan is weak: the pack warms up, and stays below what the BMS protects it from
    IMBALANCE = "imbalance"  #: one cell drifts away from the others


class State(StrEnum):
    """The BMS's state."""

    IDLE = "idle"
    CHARGING = "charging"
    DISCHARGING = "discharging"
    FAULT = "fault"


class Battery:
    """One battery. ``soc`` is where it starts, 0 to 1; ``seed`` makes it one of many."""

    def __init__(self, seed: int = 1, soc: float = 0.62) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation needs numbers that repeat, no secrets
        self._cell_soc = [soc + self._random.uniform(-0.004, 0.004) for _ in range(CELLS)]
        self._cell_ah = [CAPACITY_AH * self._random.uniform(1.0, 1.02) for _ in range(CELLS)]
        self._cell_ohm = [0.0008 * self._random.uniform(0.9, 1.1) for _ in range(CELLS)]
        self._sensor_k = [self._random.uniform(-1.0, 1.0) for _ in range(SENSORS)]
        self._phase_s = 0.0
        self._hot_k = 0.0
        self._drift_v = 0.0
        self._protected = False
        self._mean_degc = AMBIENT_DEGC + 3.0
        self.faults: frozenset[Fault] = frozenset()
        self.asked_a: float | None = None  #: what the inverter is told to do; None: the cycle
        self.current_a = 0.0
        self.charged_wh = 120_000.0 + 100.0 * seed
        self.discharged_wh = 110_000.0 + 100.0 * seed
        self.cycles = 321
        self.cell_voltages_v: list[float] = []  #: the cells' terminal voltages
        self.temperatures_degc: list[float] = []  #: the sensors
        self._measure()

    def step(self, dt_s: float) -> None:
        """Let time pass. Steps of up to a second keep the model stable."""
        self._ramp(dt_s)
        self._charge(dt_s)
        self._heat(dt_s)
        self._measure()
        self._protect()

    # --- what the BMS knows ---

    @property
    def soc_pct(self) -> float:
        """State of charge of the pack: that of its emptiest cell."""
        return 100.0 * min(max(min(self._cell_soc), 0.0), 1.0)

    @property
    def soh_pct(self) -> float:
        """State of health."""
        return 98.5

    @property
    def voltage_v(self) -> float:
        """The pack's terminal voltage."""
        return sum(self.cell_voltages_v)

    @property
    def spread_v(self) -> float:
        """Difference between the highest and the lowest cell."""
        return max(self.cell_voltages_v) - min(self.cell_voltages_v)

    @property
    def balancing(self) -> bool:
        """The highest cells are being bled."""
        return self.current_a > 0 and self.spread_v > BALANCE_SPREAD_V

    @property
    def state(self) -> State:
        """What the BMS says that it does."""
        if self._protected:
            return State.FAULT
        if abs(self.current_a) < 1.0:
            return State.IDLE
        return State.CHARGING if self.current_a > 0 else State.DISCHARGING

    @property
    def closed(self) -> bool:
        """The main contactor is closed."""
        return not self._protected

    @property
    def charge_limit_a(self) -> float:
        """Charging current that the BMS allows now."""
        room = (CELL_MAX_V - max(self.cell_voltages_v)) / (CELL_MAX_V - CELL_WARN_HIGH_V)
        return 0.0 if self._protected else MAX_CHARGE_A * min(_part(room), self._cool_part())

    @property
    def discharge_limit_a(self) -> float:
        """Discharging current that the BMS allows now, positive."""
        room = (min(self.cell_voltages_v) - CELL_MIN_V) / (CELL_WARN_LOW_V - CELL_MIN_V)
        return 0.0 if self._protected else MAX_DISCHARGE_A * min(_part(room), self._cool_part())

    @property
    def alarms(self) -> frozenset[str]:
        """Names of what is wrong: ``fault_...`` and ``warning_...`` as in ``agent/core/points.py``."""
        voltages, temperatures = self.cell_voltages_v, self.temperatures_degc
        low_v, high_v, cold, hot = min(voltages), max(voltages), min(temperatures), max(temperatures)
        found = {
            "fault_overvoltage": high_v >= CELL_MAX_V,
            "fault_undervoltage": low_v <= CELL_MIN_V,
            "fault_overtemperature": self._protected,
            "fault_undertemperature": cold <= MIN_COLD_DEGC,
            "fault_imbalance": high_v - low_v >= MAX_SPREAD_V,
            "warning_overvoltage": high_v >= CELL_WARN_HIGH_V,
            "warning_undervoltage": low_v <= CELL_WARN_LOW_V,
            "warning_overtemperature": hot >= WARN_HOT_DEGC,
            "warning_undertemperature": cold <= WARN_COLD_DEGC,
            "warning_imbalance": high_v - low_v >= WARN_SPREAD_V,
        }
        return frozenset(name for name, active in found.items() if active)

    # --- how it moves ---

    def _ramp(self, dt_s: float) -> None:
        """Bring the current to what is asked for, within the limits, at the inverter's speed."""
        self._phase_s = (self._phase_s + dt_s) % sum(seconds for seconds, _ in PHASES)
        target_a = self._cycle_a() if self.asked_a is None else self.asked_a
        target_a = max(min(target_a, self.charge_limit_a), -self.discharge_limit_a)
        if self._protected:
            return  # the contactor is open
        most = RAMP_A_PER_S * dt_s
        self.current_a += max(min(target_a - self.current_a, most), -most)
        if target_a:
            self.current_a += self._random.gauss(0.0, CURRENT_NOISE_A) * min(dt_s, 1.0)

    def _cycle_a(self) -> float:
        ends_s = 0.0
        for seconds, current_a in PHASES:
            ends_s += seconds
            if self._phase_s < ends_s:
                return current_a
        return 0.0

    def _charge(self, dt_s: float) -> None:
        """Integrate charge and energy; balancing bleeds what is above the mean."""
        voltages = self.cell_voltages_v
        mean_v = sum(voltages) / CELLS
        bleeding = self.balancing
        for cell in range(CELLS):
            bled_a = BALANCE_A if bleeding and voltages[cell] > mean_v else 0.0
            moved = (self.current_a - bled_a) * dt_s / _S_PER_H / self._cell_ah[cell]
            self._cell_soc[cell] = min(max(self._cell_soc[cell] + moved, 0.0), 1.0)
        energy_wh = sum(voltages) * self.current_a * dt_s / _S_PER_H
        if energy_wh > 0:
            self.charged_wh += energy_wh
        else:
            self.discharged_wh -= energy_wh

    def _heat(self, dt_s: float) -> None:
        """I^2 x R warms, the surroundings cool; the faults that can be switched on come and go slowly."""
        lost_w = self.current_a**2 * sum(self._cell_ohm)
        flow_w = lost_w - LOSS_W_PER_K * (self._mean_degc - AMBIENT_DEGC)
        self._mean_degc += flow_w * dt_s / HEAT_CAPACITY_J_PER_K
        weak_k = FAN_WEAK_MAX_DEGC if Fault.WARM in self.faults else 0.0
        hot_k = FAN_FAULT_MAX_DEGC if Fault.OVERTEMPERATURE in self.faults else weak_k
        self._hot_k = _towards(self._hot_k, hot_k, FAN_FAULT_DEGC_PER_S * dt_s)
        drift = Fault.IMBALANCE in self.faults
        self._drift_v = _towards(self._drift_v, IMBALANCE_V if drift else 0.0, IMBALANCE_V_PER_S * dt_s)

    def _measure(self) -> None:
        """What the BMS reads. The failing fan stands at the fourth sensor."""
        cells = zip(self._cell_soc, self._cell_ohm, strict=True)
        self.cell_voltages_v = [_ocv_v(soc) + self.current_a * ohm for soc, ohm in cells]
        self.cell_voltages_v[IMBALANCED_CELL] += self._drift_v
        hot = enumerate(self._sensor_k)
        self.temperatures_degc = [self._mean_degc + k + self._hot_k / (1 + abs(place - 3)) for place, k in hot]

    def _protect(self) -> None:
        """Open the contactor when it is too hot, and close it again only when it has become clearly cooler."""
        hot = max(self.temperatures_degc)
        self._protected = hot >= (CLEAR_HOT_DEGC if self._protected else MAX_HOT_DEGC)
        if self._protected:
            self.current_a = 0.0

    def _cool_part(self) -> float:
        """What the temperature leaves of a limit, 0 to 1."""
        hot = max(self.temperatures_degc)
        return _part((MAX_HOT_DEGC - hot) / (MAX_HOT_DEGC - WARN_HOT_DEGC))


def _ocv_v(soc: float) -> float:
    """Open-circuit voltage of a cell, linear between the points of the table."""
    index = min(max(bisect_right(OCV_V, (soc, 99.0)), 1), len(OCV_V) - 1)
    (soc0, v0), (soc1, v1) = OCV_V[index - 1], OCV_V[index]
    return v0 + (v1 - v0) * (soc - soc0) / (soc1 - soc0)


def _part(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _towards(value: float, target: float, most: float) -> float:
    return value + max(min(target - value, most), -most)
