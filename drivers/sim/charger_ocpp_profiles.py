"""Charging profiles as a charger evaluates them (OCPP 1.6 edition 2, 3.13; 2.0.1 part 2, K): pure, no clock, no frames.

Rules of this file:

1. Of one purpose the valid profile with the highest stack level that says something at that time counts; where its
   schedule has ended or not begun, the next lower one does. At the same level the outlet's own goes before outlet 0's.
2. TxProfile replaces TxDefaultProfile. The maximum of the whole charger holds beside both: the least counts.
3. Without any profile the hardware's limit holds. It bounds every profile too.
4. Payloads come with the snake_case keys of the ``ocpp`` package; both versions' names are understood.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drivers.sim.evse import NOMINAL_V

MAXIMUM, DEFAULT, TRANSACTION = "Maximum", "TxDefaultProfile", "TxProfile"
PURPOSES = {
    "ChargePointMaxProfile": MAXIMUM,
    "ChargingStationMaxProfile": MAXIMUM,
    "TxDefaultProfile": DEFAULT,
    "TxProfile": TRANSACTION,
}
KINDS = ("Absolute", "Recurring", "Relative")
RECURS_US = {"Daily": 86_400_000_000, "Weekly": 604_800_000_000}
DEFAULT_PHASES = 3  #: of a period that names none (1.6: 7.14; 2.0.1: ChargingSchedulePeriodType)


@dataclass(frozen=True, slots=True)
class Period:
    """From ``from_us`` of the schedule on: a limit per phase in A, or of all phases together in W."""

    from_us: int
    limit: float
    phases: int = DEFAULT_PHASES


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile as installed on an outlet (0: the whole charger). Times in µs UTC."""

    id: int
    outlet: int
    stack: int
    purpose: str
    kind: str
    unit: str
    periods: tuple[Period, ...]
    start_us: int | None = None
    lasts_us: int | None = None
    recurs_us: int | None = None
    valid_from_us: int | None = None
    valid_to_us: int | None = None
    transaction: str | None = None

    def spans(self, started_us: int | None, to_us: int) -> Iterator[tuple[int, int | None]]:
        """From when to when (None: open) its schedule runs, beginning before ``to_us``; newest last."""
        start_us = self.start_us
        if self.kind == "Relative" or start_us is None:
            start_us = started_us
        if start_us is None:
            return
        if self.recurs_us is None:
            yield start_us, None if self.lasts_us is None else start_us + self.lasts_us
            return
        lasts_us = min(self.lasts_us or self.recurs_us, self.recurs_us)
        number = max(0, (to_us - start_us) // self.recurs_us - 9)  # what is older has ended long ago
        while (from_us := start_us + number * self.recurs_us) < to_us:
            yield from_us, from_us + lasts_us
            number += 1

    def at(self, t_us: int, started_us: int | None) -> Period | None:
        """What it says at that time, in a transaction since ``started_us`` (None: in none); None: nothing."""
        if (self.valid_from_us is not None and t_us < self.valid_from_us) or (
            self.valid_to_us is not None and t_us >= self.valid_to_us
        ):
            return None
        for from_us, end_us in self.spans(started_us, t_us + 1):
            if from_us <= t_us and (end_us is None or t_us < end_us):
                begun = [period for period in self.periods if from_us + period.from_us <= t_us]
                return begun[-1] if begun else None
        return None

    def edges(self, started_us: int | None, to_us: int) -> Iterator[int]:
        """When what it says may change, up to ``to_us``."""
        yield from (edge for edge in (self.valid_from_us, self.valid_to_us) if edge is not None)
        for from_us, end_us in self.spans(started_us, to_us):
            yield from (from_us + period.from_us for period in self.periods)
            if end_us is not None:
                yield end_us


def stamp_us(text: str) -> int:
    """µs UTC of an ISO 8601 time; without a zone it is UTC. Raises ``ValueError``."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def read_profile(outlet: int, said: Mapping[str, Any]) -> Profile:
    """A profile of a payload. Raises ``ValueError``, saying what is wrong, for one that contradicts itself."""
    schedules = said["charging_schedule"]
    schedule = schedules[0] if isinstance(schedules, Sequence) else schedules
    purpose = PURPOSES.get(said["charging_profile_purpose"])
    kind = said["charging_profile_kind"]
    if purpose is None or kind not in KINDS:
        raise ValueError("no purpose or kind of a central system's")
    if purpose == MAXIMUM and (outlet != 0 or kind == "Relative"):
        raise ValueError("a maximum of the whole charger is on outlet 0 and not relative")
    if purpose == TRANSACTION and outlet == 0:
        raise ValueError("a transaction is on an outlet")
    periods = tuple(
        Period(
            int(one["start_period"]) * 1_000_000, float(one["limit"]), int(one.get("number_phases") or DEFAULT_PHASES)
        )
        for one in schedule["charging_schedule_period"]
    )
    if not periods or periods[0].from_us or list(periods) != sorted(periods, key=lambda one: one.from_us):
        raise ValueError("periods begin at 0 and rise")
    recurs = said.get("recurrency_kind", "")
    if kind == "Recurring" and (recurs not in RECURS_US or "start_schedule" not in schedule):
        raise ValueError("what recurs says from when and how often")
    transaction = said.get("transaction_id")
    return Profile(
        id=int(said.get("charging_profile_id", said.get("id", 0))),
        outlet=outlet,
        stack=int(said["stack_level"]),
        purpose=purpose,
        kind=kind,
        unit=schedule["charging_rate_unit"],
        periods=periods,
        start_us=_optional_us(schedule.get("start_schedule")),
        lasts_us=None if schedule.get("duration") is None else int(schedule["duration"]) * 1_000_000,
        recurs_us=RECURS_US[recurs] if kind == "Recurring" else None,
        valid_from_us=_optional_us(said.get("valid_from")),
        valid_to_us=_optional_us(said.get("valid_to")),
        transaction=None if transaction is None else str(transaction),
    )


def _optional_us(text: str | None) -> int | None:
    return None if text is None else stamp_us(text)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the outlets are built for."""

    max_a: float = 32.0
    phases: int = 3
    outlets: int = 1


class Profiles:
    """The installed profiles of a charger."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.installed: list[Profile] = []

    def install(self, profile: Profile) -> None:
        """Put it in, instead of the one with the same id, or the same purpose and level on the same outlet."""
        key = (profile.purpose, profile.stack, profile.outlet, profile.transaction)
        self.installed = [
            one
            for one in self.installed
            if one.id != profile.id and (one.purpose, one.stack, one.outlet, one.transaction) != key
        ]
        self.installed.append(profile)

    def clear(
        self, number: int | None = None, outlet: int | None = None, purpose: str | None = None, stack: int | None = None
    ) -> int:
        """Take out those that match all that is given (an id alone decides); how many there were."""

        def matches(one: Profile) -> bool:
            if number is not None:
                return one.id == number
            return (
                (outlet is None or one.outlet == outlet)
                and (purpose is None or one.purpose == PURPOSES.get(purpose))
                and (stack is None or one.stack == stack)
            )

        kept = [one for one in self.installed if not matches(one)]
        gone = len(self.installed) - len(kept)
        self.installed = kept
        return gone

    def end_transaction(self, outlet: int) -> None:
        """A TxProfile lives no longer than its transaction."""
        self.installed = [one for one in self.installed if one.purpose != TRANSACTION or one.outlet != outlet]

    def limit_a(self, outlet: int, t_us: int, started_us: int | None, sharing: int = 1) -> float:
        """The most that an outlet may draw (0: all together), in A per phase; ``sharing`` draw on the maximum."""
        limits = [self.hardware.max_a * (1 if outlet else self.hardware.outlets)]
        if maximum := self._said(MAXIMUM, outlet, t_us, started_us):
            limits.append(self._amperes(*maximum) / sharing)
        if outlet:
            told = self._said(TRANSACTION, outlet, t_us, started_us) or self._said(DEFAULT, outlet, t_us, started_us)
            if told:
                limits.append(self._amperes(*told))
        return min(limits)

    def composite(
        self, outlet: int, from_us: int, lasts_s: int, started_us: int | None, unit: str = "A"
    ) -> list[tuple[int, float]]:
        """(seconds from ``from_us``, limit) at each change, for ``lasts_s`` (1.6 edition 2, 5.7; 2.0.1 K08)."""
        to_us = from_us + lasts_s * 1_000_000
        edges = {from_us}
        for profile in self.installed:
            edges.update(edge for edge in profile.edges(started_us, to_us) if from_us < edge < to_us)
        told: list[tuple[int, float]] = []
        for edge in sorted(edges):
            limit = self.limit_a(outlet, edge, started_us)
            if unit == "W":
                limit *= NOMINAL_V * self.hardware.phases
            limit = round(limit, 1)
            if not told or told[-1][1] != limit:
                told.append(((edge - from_us) // 1_000_000, limit))
        return told

    def _said(self, purpose: str, outlet: int, t_us: int, started_us: int | None) -> tuple[Period, str] | None:
        if purpose == TRANSACTION and started_us is None:
            return None
        candidates = sorted(
            (one for one in self.installed if one.purpose == purpose and one.outlet in {0, outlet}),
            key=lambda one: (one.stack, one.outlet),
            reverse=True,
        )
        found = ((one.at(t_us, started_us), one.unit) for one in candidates)
        return next(((period, unit) for period, unit in found if period is not None), None)

    def _amperes(self, period: Period, unit: str) -> float:
        if unit == "A":
            return period.limit
        return period.limit / (NOMINAL_V * min(period.phases, self.hardware.phases))
