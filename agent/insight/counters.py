"""What a machine has counted: running hours, energy, cycles, sessions, switches, from the store's history.

Rules of this file:

1. What a register counted between two times is what it moved, with resets, rollovers and glitches put right
   (``registers.py``): never the difference of two readings. Its reading is what it shows.
2. It is known to the hour: what was counted in the hour of a time counts as before it.
3. Running hours are those of the device's own counter; a device without one runs while it says that it charges, and so
   long after it last said so as ``HOLD_US``. It says so at least once a minute while it is asked.
4. Unknown is None, never 0.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from agent.core.model import Kind, Signal
from agent.core.points import CHARGER_STATUS
from agent.insight.energy import Direction, registers
from agent.insight.maintenance_model import Measure
from agent.insight.periods import DAY_US, HOUR_US
from agent.insight.reading import Reader
from agent.insight.registers import LOSSY, MAX_POWER_W, moves_of
from agent.store.energy import Floats, Ints, Rolled, join

#: A state that was told only once holds for so long: chargers on OCPP tell it when it changes.
HOLD_US = 12 * HOUR_US
_CHARGING = CHARGER_STATUS.index("Charging")
#: How much a counter can move in an hour, beside two of its own steps.
_MOST = {"energy_wh": MAX_POWER_W, "running_s": 2 * 3600.0, "cycles": 10.0}
_STEPS = 2
_DIRECTIONS: tuple[Direction, ...] = ("import", "export")
_POINT: Mapping[Measure, str] = {"running_s": "operating_s", "cycles": "cycles"}


class Counts(Protocol):
    """How often stations were switched on. Blocks; raises ``StoreError``."""

    def switches(self, device: str) -> dict[int, int]:
        """By days since 1970 UTC."""


class Tally(Protocol):
    """What was counted, and what is known of it."""

    @property
    def reading(self) -> float | None:
        """What the register shows; None: it is none of the device's."""

    @property
    def first_us(self) -> int | None:
        """Nothing is known of the time before; None: nothing is known at all."""

    @property
    def lossy(self) -> bool:
        """Whether a register was reset or replaced meanwhile, so that some of what it counted is not known."""

    def between(self, from_us: int, to_us: int) -> float:
        """What was counted in ``from_us`` <= time < ``to_us``."""


@dataclass(frozen=True, slots=True)
class Column:
    """``amount`` was counted at ``t_us``."""

    t_us: Ints
    amount: Floats
    reading: float | None
    first_us: int | None
    lossy: bool = False

    def between(self, from_us: int, to_us: int) -> float:
        """What was counted in ``from_us`` <= time < ``to_us``."""
        inside = (self.t_us >= from_us) & (self.t_us < to_us)
        return float(self.amount[inside].sum())


@dataclass(frozen=True, slots=True)
class Charged:
    """The sessions of a charger, which the store counts."""

    reader: Reader
    device: str
    first_us: int | None
    reading: None = None
    lossy: bool = False

    def between(self, from_us: int, to_us: int) -> float:
        """How many began in ``from_us`` <= time < ``to_us``."""
        return float(self.reader.list_sessions(self.device, None, from_us, to_us, limit=1)[0])


@dataclass(frozen=True, slots=True)
class Together:
    """Several as one."""

    parts: Sequence[Tally]

    @property
    def reading(self) -> float | None:
        """The sum, where each is a register."""
        found = [one.reading for one in self.parts]
        return sum(one for one in found if one is not None) if None not in found else None

    @property
    def first_us(self) -> int | None:
        """Of the first that is known."""
        return min((one.first_us for one in self.parts if one.first_us is not None), default=None)

    @property
    def lossy(self) -> bool:
        """Whether any is."""
        return any(one.lossy for one in self.parts)

    def between(self, from_us: int, to_us: int) -> float:
        """The sum."""
        return sum(one.between(from_us, to_us) for one in self.parts)


class Counters:
    """Reads the counters of devices. All methods block for some ms for each year of history; raise ``StoreError``."""

    def __init__(self, reader: Reader, counts: Counts) -> None:
        self._reader = reader
        self._counts = counts

    def tally(self, device: str, measure: Measure, from_us: int, to_us: int) -> Tally | None:
        """What a device has counted between these times, to the hour; None: it does not count that."""
        if measure in {"sessions", "switches", "contactor"}:
            return self._events(device, measure)
        signals = self._signals(device)
        parts: list[Tally] = []
        for choices in _registers(signals, measure):
            read = ([self._register(one, from_us, to_us, _MOST[measure]) for one in choice] for choice in choices)
            parts += next((known for each in read if (known := [one for one in each if one is not None])), [])
        if not parts and measure == "running_s":
            parts = self._running(signals, from_us, to_us)
        return _together(parts)

    def reading(self, device: str, measure: Measure, at_us: int) -> float | None:
        """What the counter showed at that time; of what is no register of the device, all that was counted until then.

        Quick where it is a register.
        """
        found: list[float] = []
        for choices in _registers(self._signals(device), measure):
            read = ([self._shown(one, at_us) for one in choice] for choice in choices)
            found += next((known for each in read if (known := [one for one in each if one is not None])), [])
        if found:
            return sum(found)
        tally = self.tally(device, measure, 0, at_us)
        return None if tally is None or (tally.first_us or at_us) >= at_us else tally.between(0, at_us)

    def _signals(self, device: str) -> list[Signal]:
        return [one for one in self._reader.catalog()[1] if one.device == device]

    def _register(self, meanings: Sequence[Signal], from_us: int, to_us: int, most: float) -> Tally | None:
        """What the meanings of one name counted one after the other."""
        first_us = from_us // HOUR_US * HOUR_US
        rolled = self._reader.rolled([one.id for one in meanings], "hour", [(first_us, to_us)], before=first_us > 0)
        history = _known(rolled)
        if not len(history):
            return None
        scale = abs(float(meanings[-1].scale))
        moves = moves_of(history, scale, most + _STEPS * scale, self._reader.shown_twice())
        lossy = any(reason in LOSSY for reason in moves.corrections)
        return Column(moves.at_us, moves.wh, _newest(history), moves.first_us, lossy)

    def _shown(self, meanings: Sequence[Signal], at_us: int) -> float | None:
        """What a register showed last at that time."""
        ids = [one.id for one in meanings]
        history = _known(self._reader.rolled(ids, "minute", [(at_us - HOUR_US, at_us)], before=True))
        return _newest(history) if len(history) else None

    def _running(self, signals: Collection[Signal], from_us: int, to_us: int) -> list[Tally]:
        """How long it charged: the whole device, or its outlets."""
        for point, value in (("charging", 1), ("charger_status", _CHARGING)):
            of_point = [one for one in signals if one.name.partition(".")[0] == point and one.kind is Kind.STATE]
            whole = [one for one in of_point if one.name == point]
            parts: list[Tally] = []
            for meanings in _by_name(whole or of_point):
                ids = [one.id for one in meanings]
                history = _known(self._reader.rolled(ids, "minute", [(from_us, to_us)]), gaps=True)
                if len(history):
                    parts.append(held(history, value, to_us))
            if parts:
                return parts
        return []

    def _events(self, device: str, measure: Measure) -> Tally | None:
        parts: list[Tally] = []
        if measure in {"sessions", "contactor"}:
            _, found = self._reader.list_sessions(device, newest_first=False, limit=1)
            if found:
                parts.append(Charged(self._reader, device, found[0].start_us))
        if measure in {"switches", "contactor"}:
            days = self._counts.switches(device)
            if days:
                t_us = np.array(list(days), np.int64) * DAY_US
                amount = np.array(list(days.values()), np.float64)
                parts.append(Column(t_us, amount, None, int(t_us.min())))
        return _together(parts)


def _registers(signals: Collection[Signal], measure: Measure) -> list[list[list[list[Signal]]]]:
    """What is added up: of each the choices, the best first; a choice is registers, each with all its meanings."""
    if measure == "energy_wh":
        return [[_by_name(choice) for choice in registers(signals, one)] for one in _DIRECTIONS]
    own = [one for one in signals if one.name == _POINT.get(measure) and one.kind is Kind.COUNTER]
    return [[_by_name(own)]]


def _by_name(signals: Iterable[Signal]) -> list[list[Signal]]:
    found: dict[str, list[Signal]] = {}
    for one in signals:
        found.setdefault(one.name, []).append(one)
    return list(found.values())


def _known(rolled: Mapping[int, Rolled], *, gaps: bool = False) -> Rolled:
    """The buckets of all meanings of a name, in which it was known (``gaps``: and those in which it was not)."""
    history = join(list(rolled.values()))
    return history if gaps else history.take(~np.isnan(history.lo))


def _newest(history: Rolled) -> float:
    return float(history.hi[-1] if np.isnan(history.last[-1]) else history.last[-1])


def _together(parts: Sequence[Tally]) -> Tally | None:
    return None if not parts else parts[0] if len(parts) == 1 else Together(parts)


def held(rolled: Rolled, value: int, to_us: int) -> Column:
    """How many seconds a state had that value: through each bucket by the share of it that is known, and as long as it
    was held behind it. A bucket that saw several values counts half.
    """  # noqa: D205 - one sentence
    end_us = rolled.t_us + rolled.width_us
    next_us = np.append(rolled.t_us[1:], max(to_us, int(end_us[-1])))
    always = (rolled.lo == value) & (rolled.hi == value)
    sometimes = (rolled.lo <= value) & (rolled.hi >= value) & ~always
    inside = np.where(always, 1.0, np.where(sometimes, 0.5, 0.0)) * np.minimum(rolled.width_us, next_us - rolled.t_us)
    behind = np.where(rolled.last == value, np.clip(next_us - end_us, 0, HOLD_US), 0)
    return Column(rolled.t_us, (inside + behind) / 1e6, None, int(rolled.t_us[0]))
