"""The life of an alarm or rule: how it stands, and what happens to it -> how it stands then. Pure.

It follows ANSI/ISA-18.2-2016, 5.2 and its figure 3, and 16.4 for delays and deadbands. Rules of this file:

1. ``demand`` says what the two conditions ask for: be active (``when`` is true; it wins over ``clear``), be over
   (``clear`` is true, or there is none and ``when`` is false), or neither (the deadband between them).
2. It becomes active when the first was asked for ``for_s`` without a break, and is over when the second was for
   ``clear_for_s``. A break ends the delay; it begins anew. What is not known (``unknown: hold``) is a break of both and
   changes nothing else: who does not know must neither raise nor clear.
3. Each delay ends at its time, however late anybody looks: what happened after it finds it ended.
4. ``latch``: it goes on acting until it is over and acknowledged; to acknowledge while it is active counts. It needs
   that also where its severity would not: ``info`` alarms and rules need no acknowledgement otherwise.
5. ``hold_s`` counts from when its condition was over. Who acknowledges a latched one later does not wait again.
6. Raised again, whether it acts still or not, it is not acknowledged: it is another time.
7. Shelved and suppressed say who is told, and nothing about active, acknowledged or acting.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from agent.control.alarm_model import AlarmState, RuleSpec, Severity


@dataclass(frozen=True, slots=True)
class RuleState:
    """How it stands, beside its spec. Times are monotonic, in s; None: that timer does not run."""

    active: bool = False
    acknowledged: bool = True  #: of the newest raising; also: nobody needs to
    known: bool = False  #: its conditions can be told now
    due_s: float | None = None  #: end of the delay: the on-delay's while it is not active, else the off-delay's
    hold_until_s: float | None = None  #: it is over, and acts until then
    shelved_until_s: float | None = None
    suppressed_by: str = ""  #: the active alarm that explains it


@dataclass(frozen=True, slots=True)
class Judged:
    """What its conditions are now; None: not known. ``starting``: nothing was heard yet, so that says nothing."""

    when: bool | None
    clear: bool | None = None  #: of no account where the spec has none
    starting: bool = False


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing but that."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Somebody has seen it."""


@dataclass(frozen=True, slots=True)
class Shelve:
    """Tell nobody until then, monotonic."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Unshelve:
    """Tell people again."""


@dataclass(frozen=True, slots=True)
class Suppress:
    """This active alarm explains it; empty: none does any more."""

    by: str


RuleEvent = Judged | TimePassed | Acknowledge | Shelve | Unshelve | Suppress


class Transition(StrEnum):
    """What became of it."""

    RAISED = "raised"
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    SUPPRESSED = "suppressed"
    UNSUPPRESSED = "unsuppressed"


@dataclass(frozen=True, slots=True)
class Step:
    """How it stands now, what became of it (oldest first), and when there is something to do by time alone."""

    state: RuleState
    transitions: tuple[Transition, ...] = ()
    wake_s: float | None = None


def step(spec: RuleSpec, state: RuleState, event: RuleEvent, now_s: float) -> Step:
    """Let it happen, after what was due by time. ``now_s``: monotonic, never less than at the last call."""
    transitions: list[Transition] = []
    state = _pass_time(spec, state, now_s, transitions)
    state = _take(spec, state, event, now_s, transitions)
    state = _pass_time(spec, state, now_s, transitions)  # a delay of 0 s ends at once
    return Step(state, tuple(transitions), min(_timers(state), default=None))


def demand(spec: RuleSpec, judged: Judged) -> bool | None:
    """What the conditions ask for: True, be active; False, be over; None, neither."""
    unknown = "hold" if judged.starting else spec.unknown
    if judged.when is None:
        return {"hold": None, "raise": True, "clear": False}[unknown]
    if judged.when:
        return True
    if spec.clear is None:
        return False
    if judged.clear is None:  # it may be active, so "raise" leaves it as it is
        return False if unknown == "clear" else None
    return False if judged.clear else None


def needs_acknowledgement(spec: RuleSpec) -> bool:
    """Whether somebody must say that he has seen it."""
    return spec.latch or spec.severity in {Severity.WARNING, Severity.CRITICAL}


def is_acting(spec: RuleSpec, state: RuleState) -> bool:
    """Whether it does what it does with stations: active, latched, or within its hold time."""
    return state.active or state.hold_until_s is not None or (spec.latch and not state.acknowledged)


def is_silent(state: RuleState) -> bool:
    """Whether nobody is told of it."""
    return state.shelved_until_s is not None or bool(state.suppressed_by)


def state_of(spec: RuleSpec, state: RuleState) -> AlarmState:
    """Its place in the figure of the standard. Shelved by somebody counts before suppressed by design."""
    if state.shelved_until_s is not None:
        return AlarmState.SHELVED
    if state.suppressed_by:
        return AlarmState.SUPPRESSED
    if state.active:
        return AlarmState.ACKNOWLEDGED if state.acknowledged else AlarmState.UNACKNOWLEDGED
    if state.acknowledged:
        return AlarmState.NORMAL
    return AlarmState.LATCHED if spec.latch else AlarmState.RETURNED


def fit(spec: RuleSpec, state: RuleState) -> RuleState:
    """The state under a changed spec: delays begin anew, and nobody needs to acknowledge what needs it no more."""
    return replace(state, due_s=None, acknowledged=state.acknowledged or not needs_acknowledgement(spec))


def _timers(state: RuleState) -> list[float]:
    return [one for one in (state.due_s, state.hold_until_s, state.shelved_until_s) if one is not None]


def _pass_time(spec: RuleSpec, state: RuleState, now_s: float, transitions: list[Transition]) -> RuleState:
    while (at_s := min(_timers(state), default=now_s + 1)) <= now_s:
        if state.due_s == at_s:
            state = _clear(spec, state, at_s) if state.active else _raise(spec, state)
            transitions.append(Transition.RAISED if state.active else Transition.CLEARED)
        elif state.hold_until_s == at_s:
            state = replace(state, hold_until_s=None)
        else:
            state = replace(state, shelved_until_s=None)
            transitions.append(Transition.UNSHELVED)
    return state


def _raise(spec: RuleSpec, state: RuleState) -> RuleState:
    acknowledged = not needs_acknowledgement(spec)
    return replace(state, active=True, acknowledged=acknowledged, due_s=None, hold_until_s=None)


def _clear(spec: RuleSpec, state: RuleState, at_s: float) -> RuleState:
    hold_until_s = at_s + spec.hold_s if spec.hold_s > 0 else None
    return replace(state, active=False, due_s=None, hold_until_s=hold_until_s)


def _take(spec: RuleSpec, state: RuleState, event: RuleEvent, now_s: float, transitions: list[Transition]) -> RuleState:
    match event:
        case Judged():
            state = _judge(spec, state, event, now_s)
        case Acknowledge() if not state.acknowledged:
            state = replace(state, acknowledged=True)
            transitions.append(Transition.ACKNOWLEDGED)
        case Shelve(until_s):
            state = replace(state, shelved_until_s=until_s)
            transitions.append(Transition.SHELVED)
        case Unshelve() if state.shelved_until_s is not None:
            state = replace(state, shelved_until_s=None)
            transitions.append(Transition.UNSHELVED)
        case Suppress(by):
            if bool(by) != bool(state.suppressed_by):
                transitions.append(Transition.SUPPRESSED if by else Transition.UNSUPPRESSED)
            state = replace(state, suppressed_by=by)
    return state


def _judge(spec: RuleSpec, state: RuleState, judged: Judged, now_s: float) -> RuleState:
    known = judged.when is not None and (judged.when or spec.clear is None or judged.clear is not None)
    state = replace(state, known=known)
    wanted = demand(spec, judged)
    if wanted is None or wanted is state.active:
        return replace(state, due_s=None)
    if state.due_s is not None:
        return state
    return replace(state, due_s=now_s + (spec.clear_for_s if state.active else spec.for_s))
