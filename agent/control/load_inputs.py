"""What load management reads: the grid's meter, batteries, and the signals of stations.

Rules of this file:

1. Positive is drawn from the grid. Meters whose currents have no sign get it from the power of the phase; what is
   exported is negative and leaves the more for stations.
2. Currents by phase are taken as they are. Without them they are made of power and voltage; where only the power of all
   phases together is known, they are taken as equally loaded, and that is noted.
3. What is not known now is None, never 0. A reading is as old as the oldest value that it was made of.
4. A battery's discharge takes load off the grid. What its BMS does not allow any more, or all of it while the BMS was
   not heard for ``SILENT_S``, may end at any moment: it is counted as if it had. Heard again, it must be for
   ``GOOD_S`` without a break (trials F4).
5. A meter that answers with exactly the same for ``SAME_S``, and goes on so while stations draw ``ROSE_A`` more, is
   frozen: a converter before it repeats what it read last. Believed, it would leave room for all that stations take.
   What it has risen in ``TOLD_S`` is no proof, nor is a fall: chargers tell some things long after the meter.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.control.demand import PHASES, Sensed
from agent.control.effect import CURRENTS, NOMINAL_V
from agent.core.model import Number, Signal
from agent.core.ports import Latest, LatestView

#: The signal of a device's point; None where it has none.
Find = Callable[[str, str], Signal | None]

SILENT_S = 5.0
GOOD_S = 10.0
SAME_S, ROSE_A = 15.0, 3.0
#: As late as a station may tell of a rise that the meter has shown.
TOLD_S = 120.0

EQUAL = "only the power of all phases together is known: they are taken as equally loaded"


@dataclass(frozen=True, slots=True)
class GridReading:
    """Current of each phase of the grid connection, in A; the age of its oldest value; what it was made of, and how."""

    currents_a: tuple[float, ...]
    age_s: float
    inputs: Mapping[str, Number] = field(default_factory=dict)
    note: str = ""


class Values:
    """The values of some points of one device, with one question to the view."""

    def __init__(self, view: LatestView, find: Find, device: str, names: Sequence[str]) -> None:
        signals = {name: signal for name in names if (signal := find(device, name)) is not None}
        self._latest = dict(zip(signals, view.latest(signals.values()), strict=True)) if signals else {}

    def __contains__(self, name: str) -> bool:
        return name in self._latest

    def value(self, name: str) -> Number | None:
        """The value that is known now."""
        one = self._latest.get(name)
        return None if one is None else one.value

    def age_s(self, name: str) -> float:
        """How old it is; infinite before the first time."""
        one = self._latest.get(name)
        return math.inf if one is None or one.age_s is None else one.age_s

    def entry(self, name: str) -> Latest | None:
        """All that is known of it."""
        return self._latest.get(name)

    @property
    def inputs(self) -> dict[str, Number]:
        """Currents and powers that are known now, by their full names."""
        known = ((one.signal.full_name, one.value) for name, one in self._latest.items() if not name.startswith("volt"))
        return {name: value for name, value in known if value is not None}

    def oldest_s(self, names: Sequence[str]) -> float:
        """The age of the oldest of these."""
        return max((self.age_s(name) for name in names), default=math.inf)


def _of(kind: str, phase: int) -> str:
    return kind.format(f"l{phase}")


_FLOW = ("current_{}_a", "power_{}_w", "power_import_{}_w", "power_export_{}_w")
_BY_PHASE = (*_FLOW, "voltage_{}_v")
_WHOLE = ("current_a", "power_w", "power_import_w", "power_export_w", "voltage_v")
_GRID = (*_WHOLE, *(_of(kind, phase) for kind in _BY_PHASE for phase in (1, 2, 3)))


def read_grid(view: LatestView, find: Find, meter: str) -> GridReading | None:
    """What the meter shows now; None while that is not known."""
    values = Values(view, find, meter, _GRID)
    phases = [_phase(values, f"l{number}") for number in (1, 2, 3)]
    if all(one is not None for one in phases):
        known = [one for one in phases if one is not None]
        currents_a = tuple(current_a for current_a, _ in known)
        return GridReading(currents_a, max(age_s for _, age_s in known), values.inputs)
    if any(_of(kind, number) in values for kind in _FLOW for number in (2, 3)):
        return None  # it does tell phases apart, and one of them is not known now
    if "current_a" in values or any(_of(kind, 1) in values for kind in _FLOW):
        single = phases[0] or _phase(values, "")
        return None if single is None else GridReading(single[:1], single[1], values.inputs)
    whole = _power(values, "")
    if whole is None:
        return None
    current_a = whole[0] / PHASES / _voltage(values, "l1")
    return GridReading((current_a,) * PHASES, whole[1], values.inputs, EQUAL)


def _phase(values: Values, phase: str) -> tuple[float, float] | None:
    """Signed current of a phase (empty: of a meter with only one), and its age."""
    name = f"current_{phase}_a" if phase else "current_a"
    current, power = values.value(name), _power(values, phase)
    if current is None:
        if name in values or power is None:
            return None
        return power[0] / _voltage(values, phase), power[1]
    exports = power is not None and power[0] < 0 < current
    return (-current if exports else current), values.age_s(name)


def _power(values: Values, phase: str) -> tuple[float, float] | None:
    """Signed power, and its age."""
    part = f"_{phase}" if phase else ""
    names = (f"power{part}_w", f"power_import{part}_w", f"power_export{part}_w")
    both, drawn, given = (values.value(name) for name in names)
    if both is not None:
        return both, values.age_s(names[0])
    if drawn is None or (given is None and names[2] in values):
        return None
    used = names[1:] if given is not None else names[1:2]
    return drawn - (given or 0), values.oldest_s(used)


def _voltage(values: Values, phase: str) -> float:
    for name in (f"voltage_{phase}_v", "voltage_v"):
        volts = values.value(name)
        if volts is not None and volts > NOMINAL_V / 2:
            return float(volts)
    return NOMINAL_V


class Frozen:
    """Whether the grid's meter still follows the site, over time."""

    def __init__(self) -> None:
        self._inputs: Mapping[str, Number] = {}
        self._past: deque[tuple[float, tuple[float, ...]]] = deque(maxlen=math.ceil(TOLD_S))  # its changes
        self._drawn_a: dict[str, float] = {}  # by station: the least since the last one stood for ``SAME_S``
        self._since_s: float | None = None

    def since_s(self, grid: GridReading, drawn_a: Mapping[str, float], now_s: float) -> float | None:
        """Since when it is frozen, as far as that shows; None: it is not. ``drawn_a``: by station, where known."""
        if grid.inputs != self._inputs or not self._past:
            self._inputs, self._drawn_a, self._since_s = grid.inputs, {}, None
            self._past.append((now_s, grid.currents_a))
        if now_s < self._past[-1][0] + SAME_S or self._since_s is not None:
            return self._since_s
        self._drawn_a = {name: min(own_a, self._drawn_a.get(name, own_a)) for name, own_a in drawn_a.items()}
        allowed_a = ROSE_A + self._shown_a(grid.currents_a, now_s)
        if any(own_a > self._drawn_a[name] + allowed_a for name, own_a in drawn_a.items()):
            self._since_s = now_s
        return self._since_s

    def _shown_a(self, currents_a: Sequence[float], now_s: float) -> float:
        """What it rose by itself, on the phase where that is most: a station may tell the same only now."""
        while len(self._past) > 1 and self._past[1][0] <= now_s - TOLD_S:
            self._past.popleft()  # what stood until then is not needed any more
        recent = [one for _, one in self._past if len(one) == len(currents_a)]
        return max((a - min(column) for a, *column in zip(currents_a, currents_a, *recent, strict=True)), default=0.0)


class Battery:
    """One battery over time: how much of its discharge can't be relied on."""

    def __init__(self, device: str, now_s: float) -> None:
        self.device = device
        self.silent = False
        self._discharge_w = 0.0  # as last known
        self._heard = False  # ever
        self._good_since_s: float | None = None  # without a break
        self._last_s = now_s

    _NAMES = (
        "power_w",
        "voltage_v",
        "current_a",
        "discharge_power_limit_w",
        "discharge_current_limit_a",
        "discharge_enabled",
    )

    def unsure_w(self, view: LatestView, find: Find, now_s: float) -> float:
        """The discharge that may end at any moment, in W."""
        values = Values(view, find, self.device, self._NAMES)
        power = self._power_w(values)
        age_s = values.oldest_s(["power_w"] if values.value("power_w") is not None else ["voltage_v", "current_a"])
        if power is not None and age_s < SILENT_S:
            self._heard, self._last_s, self._discharge_w = True, now_s - age_s, max(0.0, -power)
            self._good_since_s = now_s if self._good_since_s is None else self._good_since_s
            if self.silent and now_s - self._good_since_s >= GOOD_S:
                self.silent = False
        elif now_s - self._last_s >= SILENT_S:
            self._good_since_s = None
            self.silent = self.silent or self._heard
        if self.silent:
            return self._discharge_w
        return max(0.0, self._discharge_w - self._allowed_w(values))

    @staticmethod
    def _power_w(values: Values) -> float | None:
        power = values.value("power_w")
        if power is not None:
            return float(power)
        volts, amps = values.value("voltage_v"), values.value("current_a")
        return None if volts is None or amps is None else float(volts * amps)

    @staticmethod
    def _allowed_w(values: Values) -> float:
        if values.value("discharge_enabled") == 0:
            return 0.0
        limits = [math.inf]
        watts, amps, volts = (
            values.value(name) for name in ("discharge_power_limit_w", "discharge_current_limit_a", "voltage_v")
        )
        if watts is not None:
            limits.append(abs(float(watts)))
        if amps is not None and volts is not None:
            limits.append(abs(float(amps)) * float(volts))
        return min(limits)


_STATION = ("power_w", "current_a", *CURRENTS, "charger_status", "plugged")


def sense(
    view: LatestView, find: Find, device: str, outlet: int, now_s: float, *, whole: bool, phases: int = PHASES
) -> Sensed:
    """The signals of a station. ``whole``: names without an outlet's number are its own. ``phases`` are the grid's."""

    def mine(_: str, name: str) -> Signal | None:
        own = find(device, f"{name}.{outlet}") if outlet else None
        return find(device, name) if own is None and whole else own

    values = Values(view, mine, device, _STATION)
    names = [name for name in CURRENTS[:phases] if values.value(name) is not None]
    if not names and values.value("current_a") is not None:
        names = ["current_a"]
    power, plugged = values.value("power_w"), values.value("plugged")
    read = names or (["power_w"] if power is not None else [])
    status = values.entry("charger_status")
    label = ""
    if status is not None and status.value is not None:
        label = status.signal.labels.get(int(status.value), "")
    return Sensed(
        tuple(float(values.value(name) or 0) for name in names),
        None if power is None else float(power),
        now_s - values.oldest_s(read),
        label,
        None if plugged is None else bool(plugged),
    )
