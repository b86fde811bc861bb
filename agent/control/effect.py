"""Whether a station does what was decided, judged by what it draws (trials F9). Pure.

Rules of this file:

1. A device that says "done" is believed only when its meter agrees: some accept a limit and ignore it.
2. What is drawn convicts only when it was read ``FOLLOW_S`` after the decision or later, and acquits only when it was
   read after the decision. A value that is unknown or older than ``STALE_S`` says nothing.
3. Off: less than ``OFF_W``, or where only currents are known less than ``OFF_A`` on each phase.
4. Limit: no phase above it by more than 1 A or 5 %. Where only the power is known, the phases in use are not: up to
   what one phase may draw it surely follows, above what all ``PHASES`` may draw it surely does not.
5. "On" can't be judged: the vehicle may not want anything.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.core.model import Number, Signal
from agent.core.ports import Latest, LatestView

FOLLOW_S = 30.0
STALE_S = 120.0
OFF_W = 100.0
OFF_A = 0.5
LEAST_TOLERANCE_A = 1.0
TOLERANCE = 0.05
PHASES = 3
NOMINAL_V = 230.0

CURRENTS = ("current_l1_a", "current_l2_a", "current_l3_a")
_READ = ("power_w", "current_a", *CURRENTS)
#: What shows that a device's present state was read (trials C6).
_STATE = (*_READ, "charger_status", "charging_enabled", "current_limit_a", "current_offered_a", "plugged")

#: OCPP 1.6 edition 2, 7.7 ChargePointStatus.
_CHARGING = "Charging"

#: A value, and when it was heard, monotonic.
Heard = tuple[Number, float]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a decision demands of the measured values, since when (monotonic). Without a limit and on: nothing."""

    off: bool
    limit_a: Number | None
    since_s: float

    @property
    def demands(self) -> bool:
        """Whether it can be broken at all."""
        return self.off or self.limit_a is not None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a station draws."""

    power: Heard | None = None
    currents: tuple[Heard, ...] = ()


def judge(expected: Expectation, reading: Reading, now_s: float) -> bool | None:
    """Whether the station follows; None: it can't be told."""
    if not expected.demands:
        return None
    power = () if reading.power is None else (_judged(expected, reading.power, now_s, _power_breaks),)
    currents = tuple(_judged(expected, one, now_s, _current_breaks) for one in reading.currents)
    first, second = (power, currents) if expected.off else (currents, power)
    found = first or second
    if False in found:
        return False
    return None if None in found or not found else True


class Meter:
    """What is known of one outlet: the newest values of its signals, by the names that an outlet's points have.

    ``outlets`` are those of a charger that is one station as a whole: many tell of their outlets only.
    """

    def __init__(
        self,
        device: str,
        outlet: int,
        find: Callable[[str, str], Signal | None],
        *,
        whole: bool,
        outlets: Sequence[int] = (),
    ) -> None:
        self._parts = [Meter(device, one, find, whole=False) for one in outlets]
        self._device = device
        self._outlet = outlet
        self._whole = whole
        self._find = find

    def reading(self, view: LatestView, now_s: float) -> Reading:
        """What it draws now."""
        numbers: dict[str, Heard] = {}
        for name, one in self._latest(view, _READ):
            if one.value is not None and one.age_s is not None and one.age_s <= STALE_S:
                numbers[name] = one.value, now_s - one.age_s
        phases = [numbers[name] for name in CURRENTS if name in numbers]
        if not phases and "current_a" in numbers:
            phases = [numbers["current_a"]]
        return Reading(numbers.get("power_w") or self._sum(view, now_s), tuple(phases))

    def _sum(self, view: LatestView, now_s: float) -> Heard | None:
        """The power of all outlets, as old as the oldest of them; None where that of one is not known."""
        found = [one for part in self._parts if (one := part.reading(view, now_s).power) is not None]
        if not found or len(found) < len(self._parts):
            return None
        return sum(value for value, _ in found), min(read_s for _, read_s in found)

    def drawing(self, view: LatestView, now_s: float) -> bool | None:
        """Whether energy flows: by its power, its currents, or what it says of itself; None: it can't be told."""
        parts = [part.drawing(view, now_s) for part in self._parts]
        if True in parts:
            return True
        reading = self.reading(view, now_s)
        if reading.power is not None:
            return reading.power[0] >= OFF_W
        if reading.currents:
            return any(value >= OFF_A for value, _ in reading.currents)
        if parts and None not in parts:
            return False
        for name, one in self._latest(view, ("charging", "charger_status")):
            if one.value is not None:
                return bool(one.value) if name == "charging" else one.signal.labels.get(int(one.value)) == _CHARGING
        return None

    def seen(self, view: LatestView) -> bool:
        """Whether anything of its state is known now. One that has no such signals at all is taken as seen."""
        known = self.state(view)
        return not known or any(known)

    def state(self, view: LatestView) -> list[bool]:
        """Of each signal that shows its state whether it is known, those of its outlets included."""
        own = [one.value is not None for _, one in self._latest(view, _STATE)]
        return own + [known for part in self._parts for known in part.state(view)]

    def _latest(self, view: LatestView, names: Iterable[str]) -> list[tuple[str, Latest]]:
        found = [(name, signal) for name in names if (signal := self._signal(name)) is not None]
        latest = view.latest([signal for _, signal in found])
        return [(name, one) for (name, _), one in zip(found, latest, strict=True)]

    def _signal(self, name: str) -> Signal | None:
        own = self._find(self._device, f"{name}.{self._outlet}") if self._outlet else None
        return self._find(self._device, name) if own is None and self._whole else own


def _judged(
    expected: Expectation, heard: Heard, now_s: float, breaks: Callable[[Expectation, Number], bool | None]
) -> bool | None:
    """What one value says."""
    value, read_s = heard
    if read_s < expected.since_s or now_s - read_s > STALE_S:
        return None
    broken = breaks(expected, value)
    if broken is None:
        return None
    if broken:
        return False if read_s >= expected.since_s + FOLLOW_S else None
    return True


def _current_breaks(expected: Expectation, value: Number) -> bool | None:
    if expected.off:
        return value >= OFF_A
    return value > _most_a(expected)


def _power_breaks(expected: Expectation, value: Number) -> bool | None:
    if expected.off:
        return value >= OFF_W
    phase_w = _most_a(expected) * NOMINAL_V
    if value <= phase_w:
        return False
    return True if value > PHASES * phase_w else None


def _most_a(expected: Expectation) -> float:
    limit_a = expected.limit_a or 0
    return limit_a + max(LEAST_TOLERANCE_A, TOLERANCE * limit_a)
