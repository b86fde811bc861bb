"""Meter samples of a charger: their registers, for the sessions. Signals are made of them in ``outlets.py``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.core.model import Number
from drivers.codec.ocpp_model import Reading, Sample
from drivers.ocpp.energy import Register
from drivers.ocpp.times import Times, When

BEGIN, END = "Transaction.Begin", "Transaction.End"
_REGISTER = "energy_import_wh"
_PHASES = tuple(f"energy_import_l{phase}_wh" for phase in (1, 2, 3))
#: Beyond this a float has no whole Wh any more, and no meter so much.
MAX_WH = 1 << 53


@dataclass(frozen=True, slots=True)
class Taken:
    """A sample whose time was judged."""

    when: When
    readings: tuple[Reading, ...]
    phases: int = 3  #: that the outlet is wired with

    @property
    def begins(self) -> bool:
        """Whether it was taken when its transaction began."""
        return any(one.context == BEGIN for one in self.readings)

    @property
    def ends(self) -> bool:
        """Whether it was taken when its transaction ended."""
        return any(one.context == END for one in self.readings)

    @property
    def register(self) -> Register | None:
        """The register of drawn energy: the total, or the sum of the phases where only these are told.

        Where one sample has it more than once (2.x: all that a transaction has measured may come with its end), that of
        the end counts, then that of the begin.
        """
        told = sorted(self.readings, key=_rank) if self.begins or self.ends else self.readings
        found = {one.point: one for one in reversed(told) if one.point is not None and usable(one)}
        total = found.get(_REGISTER)
        if total is not None:
            return Register(total.value or 0, self.when.t_us, max(1, total.step))
        phases = [found[point] for point in _PHASES[: self.phases] if point in found]
        if len(phases) < self.phases:
            return None
        return Register(sum(one.value or 0 for one in phases), self.when.t_us, sum(max(1, one.step) for one in phases))

    @property
    def signed(self) -> Sequence[Reading]:
        """The readings that are signed data."""
        return [one for one in self.readings if one.signed]


def taken(samples: Iterable[Sample], times: Times, phases: int, *, queued: bool = False) -> list[Taken]:
    """The samples of a message with their times judged, those of known order by their own times."""
    judged = [Taken(times.judge(sample.time, queued=queued), sample.readings, phases) for sample in samples]
    return sorted(judged, key=lambda one: one.when.t_us)


def usable(reading: Reading) -> bool:
    """Whether it is a number that anybody can count with."""
    return reading.value is not None and abs(reading.value) < MAX_WH


def usable_wh(value: Number | None) -> Number | None:
    """A register of a message of its own (1.6 meterStart, meterStop); None when it can't be one."""
    return value if value is not None and abs(value) < MAX_WH else None


def _rank(reading: Reading) -> int:
    return 0 if reading.context == END else 1 if reading.context == BEGIN else 2
