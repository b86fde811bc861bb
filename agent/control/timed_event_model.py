"""The values of timed events: what is done with stations once, from a time to another. Immutable.

What comes again and again is a schedule. Times are µs since 1970 UTC.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agent.control.alarm_model import RuleAct
from agent.core.model import Event, Number
from agent.core.ports import Notebook

logger = logging.getLogger(__name__)

NOTE = "timed_event"
MAX_NAME = 100
MAX_ACTS = 64
MAX_LIMIT_A = 10_000
#: The last time that can be written as ISO 8601: the end of the year 9999.
LAST_US = 253_402_300_799_999_999


class EventState(StrEnum):
    """Where a timed event is in its life: it only ever goes downwards here."""

    PROGRAMMED = "programmed"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class EventPlan:
    """What somebody wants: his own name for it, what is done, from when and until when.

    Without ``start_us`` it is started by hand, without ``end_us`` it goes on until it is finished by hand. Of an act
    ``on`` and ``limit_a`` count.
    """

    name: str
    acts: tuple[RuleAct, ...]
    start_us: int | None = None
    end_us: int | None = None

    def fault(self) -> str:
        """Why nobody can do that; empty: it can be done."""
        if not (0 < len(self.name) <= MAX_NAME and self.name.isprintable()):
            return f"a name is one line of 1 to {MAX_NAME} characters"
        if not 0 < len(self.acts) <= MAX_ACTS:
            return f"it does 1 to {MAX_ACTS} things with stations"
        faults = [fault for act in self.acts if (fault := _act_fault(act))]
        if faults:
            return faults[0]
        times = [one for one in (self.start_us, self.end_us) if one is not None]
        if any(not 0 <= one <= LAST_US for one in times):
            return "its times are between the years 1970 and 9999"
        if times and times[0] >= times[-1] and len(times) > 1:
            return "its end must be after its start"
        return ""


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """A timed event as it is now. Who: ``user:ana``, or ``clock`` where its time had come."""

    id: str
    plan: EventPlan
    state: EventState = EventState.PROGRAMMED
    created_by: str = ""
    created_us: int = 0
    started_by: str = ""
    started_us: int | None = None
    finished_by: str = ""  #: also who cancelled it
    finished_us: int | None = None
    missed: bool = False  #: it was over before it could be started: nothing was done
    number: int = 0  #: of its start among all starts: a later one has a higher one, whatever the clock said

    @property
    def open(self) -> bool:
        """Whether anything may still become of it."""
        return self.state in {EventState.PROGRAMMED, EventState.IN_PROGRESS}


class TimedEventBook(Protocol):
    """What others (API, MQTT, console) may do with timed events. ``who`` is for the audit: ``user:ana``.

    The coroutines return when it is on disk. They raise ``CommandRejected`` (``not_capable``: there is none of that id;
    ``out_of_range``: it can't be done so; ``expired``: its state does not allow it any more) and ``StoreError``: then
    nothing is changed.
    """

    def events(self) -> Sequence[TimedEvent]:
        """All that are kept, in the order in which they were made."""

    def event(self, event_id: str) -> TimedEvent | None:
        """One of them."""

    async def create(self, plan: EventPlan, who: str) -> TimedEvent:
        """Program it."""

    async def change(self, event_id: str, edit: Callable[[EventPlan], EventPlan], who: str) -> TimedEvent:
        """Give it the plan that ``edit`` makes of the present one; of one in progress only the end may differ."""

    async def cancel(self, event_id: str, who: str) -> TimedEvent:
        """It is not to be, or not to go on. Safe to call again."""

    async def start(self, event_id: str, who: str) -> TimedEvent:
        """Start it now. Safe to call again while it is in progress."""

    async def finish(self, event_id: str, who: str) -> TimedEvent:
        """Finish it now. Safe to call again."""


def begun(event: TimedEvent, now_us: int) -> bool:
    """Whether it is to be started by now."""
    start_us = event.plan.start_us
    return event.state is EventState.PROGRAMMED and start_us is not None and start_us <= now_us


def over(event: TimedEvent, now_us: int) -> bool:
    """Whether its end has come; ask only while the clock is set."""
    return event.plan.end_us is not None and now_us >= event.plan.end_us


def told(event: TimedEvent, kind: str, who: str, now_us: int) -> Event:
    """What the ledger is told of a transition."""
    return Event(kind, now_us, event.id, {"id": event.id, "who": who, **event_data(event)})


def read_events(notebook: Notebook) -> list[TimedEvent]:
    """What was kept, in no order; what can't be read is left out, with a line in the log."""
    found = []
    for key, data in notebook.notes(NOTE).items():
        try:
            found.append(event_of(key, data))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("the timed event %s can't be read and is left out: %r", key, error)
    return found


def event_data(event: TimedEvent) -> dict[str, object]:
    """Its note, which is also the data of its ledger events."""
    plan = event.plan
    return {
        "name": plan.name,
        "acts": [{"station": one.station, "on": one.on, "limit_a": one.limit_a} for one in plan.acts],
        "start_us": plan.start_us,
        "end_us": plan.end_us,
        "state": event.state.value,
        "created_by": event.created_by,
        "created_us": event.created_us,
        "started_by": event.started_by,
        "started_us": event.started_us,
        "finished_by": event.finished_by,
        "finished_us": event.finished_us,
        "missed": event.missed,
        "number": event.number,
    }


def event_of(event_id: str, data: Mapping[str, object]) -> TimedEvent:
    """The event of its note. Raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    acts = data["acts"]
    if not isinstance(acts, list):
        raise TypeError("no list of acts")
    plan = EventPlan(str(data["name"]), tuple(map(_act, acts)), _time(data["start_us"]), _time(data["end_us"]))
    return TimedEvent(
        event_id,
        plan,
        EventState(str(data["state"])),
        str(data["created_by"]),
        _time(data["created_us"]) or 0,
        str(data["started_by"]),
        _time(data["started_us"]),
        str(data["finished_by"]),
        _time(data["finished_us"]),
        bool(data["missed"]),
        _time(data["number"]) or 0,
    )


def _act_fault(act: RuleAct) -> str:
    if not act.station:
        return "an act names a station, or `*` for all"
    if act.do:
        return "an event switches or limits stations; what a charger does once is a command"
    if act.on is None and act.limit_a is None:
        return f"nothing is done with {act.station}: switch or limit it"
    if act.limit_a is not None and not (math.isfinite(act.limit_a) and 0 <= act.limit_a <= MAX_LIMIT_A):
        return f"a limit is from 0 to {MAX_LIMIT_A} A"
    return ""


def _act(data: object) -> RuleAct:
    if not isinstance(data, Mapping):
        raise TypeError("an act that is no object")
    on = data["on"]
    return RuleAct(str(data["station"]), None if on is None else bool(on), _number(data["limit_a"]))


def _number(value: object) -> Number | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{value!r} is no number")
    return value


def _time(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{value!r} is no whole number")
    return value
