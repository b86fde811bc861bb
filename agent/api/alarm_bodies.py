"""What the routes of alarms are sent, and what they answer with."""

import json
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from agent.api.bodies import Body
from agent.api.models import Model
from agent.api.times import iso
from agent.control.alarm_acts import in_words
from agent.control.alarm_model import MAX_SHELVE_S, AlarmStatus
from agent.control.alarms import MAX_NOTE
from agent.store.audit import Row

StateName = Literal["normal", "unacknowledged", "acknowledged", "returned", "latched", "shelved", "suppressed"]
SeverityName = Literal["info", "warning", "critical"]
KindName = Literal["alarm", "rule"]
Note = Annotated[str, StringConstraints(max_length=MAX_NOTE)]


class Acknowledgement(Body):
    """Somebody has seen it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"note": "I have opened the window"}]})

    note: Note = Field("", description="for those who read the history")


class Shelving(Body):
    """Nobody is told of it for so long; what it does with stations goes on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"for_s": 3600, "reason": "the sensor is replaced"}]})

    for_s: Annotated[float, Field(gt=0, le=MAX_SHELVE_S)] = Field(description="for how long; at most a day")
    reason: Note = ""


class AlarmOut(Model):
    """An alarm, or a rule, as it stands now. Times are null where that has not happened."""

    id: str
    kind: KindName = Field(description="of a rule nobody is told")
    severity: SeverityName | None = Field(description="null: a rule")
    text: str = Field(description="what is wrong and what to do")
    device: str = Field(description="the device it is about; empty where none is named")
    state: StateName = Field(description="as ISA-18.2 has them; latched: over, and acting until it is acknowledged")
    active: bool = Field(description="its condition holds, delays considered")
    acting: bool = Field(description="what it does with stations stands")
    known: bool = Field(description="its condition can be told now")
    shadow: bool = Field(description="it is judged and told, and does nothing")
    when: str = Field(description="its condition")
    does: list[str] = Field(description="what it does with stations, in words")
    why: str = Field(description="the condition with the values that made it true")
    inputs: dict[str, float | None] = Field(description="those values, by signal")
    since: str | None = Field(description="of this state")
    raised: str | None
    cleared: str | None
    acknowledged: str | None
    acknowledged_by: str
    shelved_until: str | None
    shelved_by: str
    suppressed_by: str = Field(description="the active alarm that explains it")
    held_until: str | None = Field(description="it is over, and acts until then")
    raised_count: int

    @classmethod
    def of(cls, status: AlarmStatus) -> "AlarmOut":
        """An alarm as JSON."""
        spec = status.spec
        return cls(
            id=spec.id,
            kind=kind_of(status),
            severity=None if spec.severity is None else spec.severity.value,
            text=spec.text,
            device=spec.device,
            state=status.state.value,
            active=status.active,
            acting=status.acting,
            known=status.known,
            shadow=spec.shadow,
            when=spec.when.text,
            does=in_words(spec),
            why=status.why,
            inputs=dict(status.inputs),
            since=_time(status.since_us),
            raised=_time(status.raised_us),
            cleared=_time(status.cleared_us),
            acknowledged=_time(status.acknowledged_us),
            acknowledged_by=status.acknowledged_by,
            shelved_until=_time(status.shelved_until_us),
            shelved_by=status.shelved_by,
            suppressed_by=status.suppressed_by,
            held_until=_time(status.hold_until_us),
            raised_count=status.raised_count,
        )


class AlarmPage(Model):
    """A page of alarms and rules."""

    total: int
    page: int
    page_size: int
    items: list[AlarmOut]


class AlarmsAcknowledged(Model):
    """Those that were not acknowledged before."""

    items: list[AlarmOut]


class AlarmEventOut(Model):
    """Something that happened to an alarm."""

    seq: int = Field(description="its number on the ledger")
    time: str
    kind: str = Field(description="alarm.raised, alarm.cleared, alarm.acknowledged, …")
    alarm: str
    data: dict[str, JsonValue] | None = Field(description="why, with which values, by whom; null: it is damaged")

    @classmethod
    def of(cls, row: Row) -> "AlarmEventOut":
        """What is shown of a row of the ledger, also of a damaged one."""
        try:
            data = json.loads(row.data)
        except (ValueError, TypeError):
            data = None
        return cls(
            seq=row.seq,
            time=iso(row.t_us) if row.sound else "",
            kind=_shown(row.kind),
            alarm=_shown(row.subject),
            data=data if isinstance(data, dict) else None,
        )


class AlarmEventPage(Model):
    """A page of what happened, newest first."""

    total: int
    page: int
    page_size: int
    items: list[AlarmEventOut]


def kind_of(status: AlarmStatus) -> KindName:
    """Whether it is an alarm or a rule, in a word."""
    return "alarm" if status.spec.is_alarm else "rule"


def _time(t_us: int | None) -> str | None:
    return None if t_us is None else iso(t_us)


def _shown(text: object) -> str:
    """A text of the file as JSON can say it: damaged letters as escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode()
