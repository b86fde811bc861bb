"""What an alarm or rule keeps over a restart: one note of kind ``alarm`` for each, by its id.

Rules of this file:

1. A note that can't be read is left out, with a line in the log: it begins anew, and start-up never depends on it.
2. Delays are not kept: they begin anew. What is left of shelving and of the hold time is their rest by wall time, and
   never more than they were given at first; under a clock that was never set, all of that.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.control.alarm_model import AlarmStatus, RuleSpec
from agent.control.rules import RuleState, fit, state_of
from agent.core.clock import GOOD_CLOCK_US, Clock, is_set
from agent.core.model import Number

logger = logging.getLogger(__name__)

ALARM = "alarm"
_TIMES = ("since_us", "raised_us", "cleared_us", "acknowledged_us", "shelved_until_us", "hold_until_us")
_TEXTS = ("acknowledged_by", "shelved_by", "suppressed_by", "why")


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a restart. Of ``status`` only the stamps count; ``shelved_for_s``: as it was given."""

    status: AlarmStatus
    state: RuleState = field(default_factory=RuleState)
    shelved_for_s: float = 0


def note_of(kept: Kept) -> dict[str, object]:
    """The note."""
    status = kept.status
    return {
        "alarm": status.spec.is_alarm,
        "active": kept.state.active,
        "acknowledged": kept.state.acknowledged,
        "shelved_for_s": kept.shelved_for_s,
        "raised_count": status.raised_count,
        "inputs": dict(status.inputs),
        **{name: getattr(status, name) for name in (*_TIMES, *_TEXTS)},
    }


def read_note(spec: RuleSpec, note: Mapping[str, object] | None, clock: Clock) -> Kept:
    """How it stood before the restart. Of another kind (an alarm that is a rule now), or unreadable: as if new."""
    fresh = Kept(AlarmStatus(spec, known=False))
    if note is None or note.get("alarm") is not spec.is_alarm:
        return fresh
    try:
        return _read(spec, note, clock)
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("%s: how it stood can't be read, it begins anew: %r", spec.id, error)
        return fresh


def _read(spec: RuleSpec, note: Mapping[str, object], clock: Clock) -> Kept:
    active, acknowledged, inputs = note["active"], note["acknowledged"], note["inputs"]
    if not (isinstance(active, bool) and isinstance(acknowledged, bool) and isinstance(inputs, Mapping)):
        raise TypeError("neither active nor over, or no inputs")
    times = {name: _whole(note[name]) for name in _TIMES}
    texts = {name: str(note[name]) for name in _TEXTS}
    shelved_for_s = float(_number(note["shelved_for_s"]) or 0)
    status = AlarmStatus(
        spec,
        known=False,
        raised_count=_whole(note["raised_count"]) or 0,
        inputs={str(name): _number(value) for name, value in inputs.items()},
        **times,  # type: ignore[arg-type] # each is a time or None
        **texts,  # type: ignore[arg-type] # and each a text
    )
    state = RuleState(
        active,
        acknowledged,
        hold_until_s=_until_s(times["hold_until_us"], spec.hold_s, clock),
        shelved_until_s=_until_s(times["shelved_until_us"], shelved_for_s, clock),
        suppressed_by=texts["suppressed_by"],
    )
    state = fit(spec, state)
    return Kept(replace(status, state=state_of(spec, state)), state, shelved_for_s)


def _until_s(until_us: int | None, for_s: float, clock: Clock) -> float | None:
    """The monotonic time until which it still lasts; one that is over by now ends with the first step."""
    if until_us is None:
        return None
    now_us, now_s = clock.now_us(), clock.monotonic_s()
    known = is_set(clock) and until_us >= GOOD_CLOCK_US
    return now_s + (for_s if not known else min(for_s, max(0.0, (until_us - now_us) / 1e6)))


def renamed(kept: Kept, spec: RuleSpec) -> Kept:
    """The same under a changed spec."""
    return Kept(replace(kept.status, spec=spec), fit(spec, kept.state), kept.shelved_for_s)


def _number(value: object) -> Number | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _whole(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{value!r} is no whole number")
