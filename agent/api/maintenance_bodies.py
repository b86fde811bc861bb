"""What ``/api/maintenance`` is sent and answers."""

import re
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from agent.api.bodies import Body, Name, Text
from agent.api.models import Model
from agent.api.times import iso, parse_time
from agent.insight.maintenance_due import Counted, Due
from agent.insight.maintenance_model import Interval, Kind, Measure, Plan, State
from agent.store.maintenance import Entry

MAX_NUMBER = (1 << 63) - 1
Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
Machine = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Long = Annotated[str, StringConstraints(max_length=4000)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
#: 2026-11-20 (midnight UTC), or a time with its offset.
Moment = Annotated[str, StringConstraints(max_length=40)]
PlanId = Annotated[str, StringConstraints(max_length=64)]
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
Amount = Annotated[float, Field(ge=0, le=1e15)]


def moment_us(text: str) -> int:
    """µs since 1970 of a date (its midnight, UTC) or of a time with its offset. Raises ``ValueError``."""
    return parse_time(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)


class EntryFields(Body):
    """What was done to a machine."""

    machine: Machine = Field(description="its code")
    date: Moment | None = Field(None, description="2026-11-20 (UTC), or a time with its offset; absent: now")
    kind: Kind
    description: Long = ""
    technician: Text = ""
    cost: Amount | None = Field(None, description="in `currency`; null: not known")
    currency: Currency | None = Field(None, description="ISO 4217")
    parts: list[Text] = Field(default_factory=list, max_length=100)
    counters: dict[Measure, Amount] = Field(
        default_factory=dict, description="what was read off the machine; what is absent is taken from the store"
    )
    plan: PlanId = Field("", description="the plan that it was done for; empty: all plans of its kind")

    @field_validator("date")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None:
            moment_us(value)
        return value

    @model_validator(mode="after")
    def _writable(self) -> "EntryFields":
        if self.cost is not None and self.currency is None:
            raise ValueError("a cost needs its currency, such as EUR")
        for text in (self.machine, self.description, self.technician, self.plan, *self.parts):
            text.encode()  # a UnicodeEncodeError is a ValueError
        return self

    def entry(self, now_us: int, **more: Any) -> Entry:  # noqa: ANN401 - fields of an entry
        """As the log has it."""
        return Entry(
            self.machine,
            now_us if self.date is None else moment_us(self.date),
            self.kind,
            self.description,
            self.technician,
            self.cost,
            self.currency or "",
            tuple(self.parts),
            {str(name): value for name, value in self.counters.items()},
            self.plan,
            **more,
        )


class NewEntry(EntryFields):
    """What was done to a machine."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "machine": "cp1",
                    "date": "2026-11-20T09:30:00+01:00",
                    "kind": "corrective",
                    "description": "Contactor replaced",
                    "technician": "Luis",
                    "cost": 180.5,
                    "currency": "EUR",
                    "parts": ["contactor 63 A"],
                }
            ]
        }
    )

    key: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{0,100}$")] = Field(
        "", description="the client's own name for it: what is sent again under the same one is stored once"
    )


class Correction(EntryFields):
    """What an entry should have said: all of it. Both stay in the log, this one counts."""

    void: bool = Field(False, description="it was not done")


class EntryOut(Model):
    """An entry of the log."""

    id: int
    machine: str
    date: str
    kind: str
    description: str
    technician: str
    cost: float | None
    currency: str
    parts: list[str]
    counters: dict[str, float] = Field(
        description="what they showed then: running_s, energy_wh, cycles, sessions, switches (as far as known)"
    )
    plan: str
    void: bool = Field(description="it was not done")
    corrects: int | None = Field(description="the entry that this one replaces")
    corrected_by: int | None = Field(description="the entry that replaces this one")
    created: str
    created_by: str

    @classmethod
    def of(cls, entry: Entry) -> "EntryOut":
        """As the API shows it."""
        return cls(
            id=entry.id,
            machine=entry.machine,
            date=iso(entry.t_us),
            kind=entry.kind,
            description=entry.description,
            technician=entry.technician,
            cost=entry.cost,
            currency=entry.currency,
            parts=list(entry.parts),
            counters=dict(entry.counters),
            plan=entry.plan,
            void=entry.void,
            corrects=entry.corrects,
            corrected_by=entry.corrected_by,
            created=iso(entry.created_us),
            created_by=entry.created_by,
        )


class EntryPage(Model):
    """A page of the log, the latest first."""

    total: int
    page: int
    page_size: int
    items: list[EntryOut]


class IntervalBody(Body):
    """When a plan is due."""

    by: Measure = Field(description="what is counted; `contactor`: sessions and switches together")
    every: Annotated[float, Field(gt=0, le=1e15)] = Field(description="days, s, Wh or times")
    warn: Amount = Field(0, description="so much before, it is told")

    @model_validator(mode="after")
    def _fits(self) -> "IntervalBody":
        if self.warn >= self.every:
            raise ValueError("warn must be below every")
        return self


Intervals = Annotated[list[IntervalBody], Field(min_length=1, max_length=8)]


class NewPlan(Body):
    """A plan: for one machine, or for all of a type."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Change the air filter",
                    "kind": "preventive",
                    "machine": "inverter1",
                    "intervals": [
                        {"by": "days", "every": 365, "warn": 30},
                        {"by": "running_s", "every": 7200000, "warn": 360000},
                    ],
                }
            ]
        }
    )

    name: Name
    kind: Kind
    intervals: Intervals = Field(description="due by the first of them")
    machine: Machine | None = Field(None, description="its code; or a type")
    type: Annotated[str, StringConstraints(min_length=1, max_length=60)] | None = None
    description: Long = ""
    enabled: bool = True

    @model_validator(mode="after")
    def _about_something(self) -> "NewPlan":
        if (self.machine is None) == (self.type is None):
            raise ValueError("give either a machine or a type")
        for text in (self.name, self.machine or "", self.type or "", self.description):
            text.encode()
        return self

    @property
    def plan(self) -> Plan:
        """As insight has it."""
        return Plan(
            "",
            self.name,
            self.kind,
            _intervals(self.intervals),
            self.machine or "",
            self.type or "",
            self.description,
            self.enabled,
        )


class PlanChange(Body):
    """What is to change of a plan; what is not sent stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    name: Name | None = None
    kind: Kind | None = None
    intervals: Intervals | None = None
    description: Long | None = None
    enabled: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "PlanChange":
        if not any(getattr(self, name) is not None for name in self.model_fields_set):
            raise ValueError("nothing is to change: add name, kind, intervals, description or enabled")
        for text in (self.name or "", self.description or ""):
            text.encode()
        return self

    @property
    def sent(self) -> dict[str, Any]:
        """What is to change, as insight has it."""
        found: dict[str, Any] = {
            name: value
            for name in ("name", "kind", "description", "enabled")
            if (value := getattr(self, name)) is not None
        }
        return found if self.intervals is None else found | {"intervals": _intervals(self.intervals)}


def _intervals(bodies: list[IntervalBody]) -> tuple[Interval, ...]:
    return tuple(Interval(one.by, one.every, one.warn) for one in bodies)


class IntervalOut(Model):
    """When a plan is due."""

    by: Measure
    every: float
    warn: float


class PlanOut(Model):
    """A plan."""

    id: str
    name: str
    kind: Kind
    intervals: list[IntervalOut]
    machine: str | None
    type: str | None
    description: str
    enabled: bool
    ready_made: bool = Field(description="it came with the program: it can be changed or switched off")

    @classmethod
    def of(cls, plan: Plan) -> "PlanOut":
        """As the API shows it."""
        return cls(
            id=plan.id,
            name=plan.name,
            kind=plan.kind,
            intervals=[IntervalOut(by=one.by, every=one.every, warn=one.warn) for one in plan.intervals],
            machine=plan.machine or None,
            type=plan.type or None,
            description=plan.description,
            enabled=plan.enabled,
            ready_made=plan.ready_made,
        )


class PlanPage(Model):
    """A page of plans."""

    total: int
    page: int
    page_size: int
    items: list[PlanOut]


class CountedOut(Model):
    """How far an interval is. What is not known is null."""

    by: Measure
    every: float
    warn: float
    used: float | None
    left: float | None
    due: str | None = Field(description="by date, or at the pace of the last 30 days")
    state: State
    estimated: bool = Field(description="some of what was counted is not known: it is due sooner")

    @classmethod
    def of(cls, one: Counted) -> "CountedOut":
        """As the API shows it."""
        interval = one.interval
        return cls(
            by=interval.by,
            every=interval.every,
            warn=interval.warn,
            used=None if one.used is None else round(one.used, 3),
            left=None if one.left is None else round(one.left, 3),
            due=None if one.due_us is None else iso(one.due_us),
            state=one.state,
            estimated=one.estimated,
        )


class DueOut(Model):
    """How far a plan is with a machine."""

    machine: str
    machine_name: str
    plan: str
    name: str
    kind: Kind
    state: State = Field(description="due: within its warning; unknown: nothing is known that it could count from")
    due: str | None = Field(description="when it was or will be due; null: not known")
    last: str | None = Field(description="when it was done last, as far as is known")
    intervals: list[CountedOut]

    @classmethod
    def of(cls, one: Due) -> "DueOut":
        """As the API shows it."""
        return cls(
            machine=one.machine,
            machine_name=one.name,
            plan=one.plan.id,
            name=one.plan.name,
            kind=one.plan.kind,
            state=one.state,
            due=None if one.due_us is None else iso(one.due_us),
            last=None if one.entry is None else iso(one.entry.t_us),
            intervals=[CountedOut.of(each) for each in one.counted],
        )


class DuePage(Model):
    """What is due, the worst and soonest first."""

    total: int
    page: int
    page_size: int
    items: list[DueOut]
