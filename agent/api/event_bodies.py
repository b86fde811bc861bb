"""What ``/api/events`` is sent and answers. Times are ISO 8601 with an offset; answers are UTC."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from agent.api.bodies import Ampere, Body, Name
from agent.api.models import Model
from agent.api.times import iso, parse_time
from agent.control.alarm_model import RuleAct
from agent.control.timed_event_model import MAX_ACTS, EventPlan, TimedEvent

#: 2026-12-01T22:00:00+01:00; an offset or Z is needed.
When = Annotated[str, Field(max_length=40)]
StateName = Literal["programmed", "in_progress", "completed", "cancelled"]
_SWITCH = {"on": True, "off": False, None: None}


class EventAct(Body):
    """What is done with a station while an event is in progress."""

    station: Name = Field(description="a station, or `*` for all")
    set: Literal["on", "off"] | None = Field(None, description="switch it")
    limit_a: Ampere | None = Field(None, description="what it may draw per phase, in A")

    @model_validator(mode="after")
    def _says_something(self) -> "EventAct":
        if self.set is None and self.limit_a is None:
            raise ValueError("nothing is done with it: add set or limit_a")
        return self

    @property
    def act(self) -> RuleAct:
        """As control has it."""
        return RuleAct(self.station, _SWITCH[self.set], self.limit_a)


Acts = Annotated[list[EventAct], Field(min_length=1, max_length=MAX_ACTS)]


class _Times(Body):
    start: When | None = Field(None, description="ISO 8601 with an offset; null: it is started by hand")
    end: When | None = Field(None, description="ISO 8601 with an offset; null: it is finished by hand")

    @field_validator("start", "end")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        _us(value)
        return value


class NewEvent(_Times):
    """A timed event: what is done with stations once, from a time to another."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Grid works",
                    "start": "2026-12-01T22:00:00+01:00",
                    "end": "2026-12-02T05:00:00+01:00",
                    "then": [{"station": "*", "limit_a": 10}, {"station": "cp1", "set": "off"}],
                }
            ]
        }
    )

    name: Name
    then: Acts

    @property
    def plan(self) -> EventPlan:
        """As control has it."""
        return EventPlan(self.name, tuple(one.act for one in self.then), _us(self.start), _us(self.end))


class EventChange(_Times):
    """What is to change of a timed event; what is not sent stays. Of one in progress only the end."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"end": "2026-12-02T06:30:00+01:00"}]})

    name: Name | None = Field(None, description="null: as it is")
    then: Acts | None = Field(None, description="all that is done from now on; null: as it is")

    @model_validator(mode="after")
    def _says_something(self) -> "EventChange":
        if not self.model_fields_set:
            raise ValueError("nothing is to change: add name, start, end or then")
        return self

    def edit(self, plan: EventPlan) -> EventPlan:
        """The plan with what is to change."""
        sent = self.model_fields_set
        return EventPlan(
            name=plan.name if self.name is None else self.name,
            acts=plan.acts if self.then is None else tuple(one.act for one in self.then),
            start_us=_us(self.start) if "start" in sent else plan.start_us,
            end_us=_us(self.end) if "end" in sent else plan.end_us,
        )


class EventActOut(Model):
    """What is done with a station while an event is in progress."""

    station: str
    set: Literal["on", "off"] | None
    limit_a: float | None


class EventOut(Model):
    """A timed event as it is now."""

    id: str
    name: str
    state: StateName
    start: str | None = Field(description="planned; null: it is started by hand")
    end: str | None = Field(description="planned; null: it is finished by hand")
    then: list[EventActOut]
    missed: bool = Field(description="it was over before it could be started: nothing was done")
    created: str
    created_by: str
    started: str | None
    started_by: str = Field(description="user:…, or clock; empty: it has not started")
    finished: str | None = Field(description="also when it was cancelled")
    finished_by: str

    @classmethod
    def of(cls, event: TimedEvent) -> "EventOut":
        """An event as JSON."""
        plan = event.plan
        return cls(
            id=event.id,
            name=plan.name,
            state=event.state.value,
            start=_iso(plan.start_us),
            end=_iso(plan.end_us),
            then=[
                EventActOut(station=one.station, set=None if one.on is None else _word(on=one.on), limit_a=one.limit_a)
                for one in plan.acts
            ],
            missed=event.missed,
            created=iso(event.created_us),
            created_by=event.created_by,
            started=_iso(event.started_us),
            started_by=event.started_by,
            finished=_iso(event.finished_us),
            finished_by=event.finished_by,
        )


class EventPage(Model):
    """A page of timed events, the latest first."""

    total: int
    page: int
    page_size: int
    items: list[EventOut]


def _us(text: str | None) -> int | None:
    """µs since 1970 of a time that was sent. Raises ``ValueError`` with what to write instead."""
    return None if text is None else parse_time(text)


def _iso(t_us: int | None) -> str | None:
    return None if t_us is None else iso(t_us)


def _word(*, on: bool) -> Literal["on", "off"]:
    return "on" if on else "off"
