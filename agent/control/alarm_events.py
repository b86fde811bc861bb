"""What is told of alarms and rules: the events ``alarm.*`` and ``rule.*``, whose subject is the id. Pure.

``alarm.raised cleared acknowledged shelved unshelved suppressed unsuppressed``, of rules ``rule.active over``. Data:

- ``severity`` (null of a rule), ``text``, ``device``, ``shadow``, ``notify`` (channels; null: each that fits);
- ``state`` and ``raised_count`` after this;
- ``why`` and ``inputs`` of the newest raising;
- ``silent``: nobody is to be told; ``source``: ``condition``, ``time``, ``configuration`` or who did it (``user:ana``);
- raised: ``done``, in shadow ``would``; acknowledged: ``note``; shelved: ``for_s until_us reason``; suppressed: ``by``;
  cleared: ``reason`` where it was not its condition; ``left_out``: so many changes before this one were not told.
"""

from collections.abc import Mapping

from agent.control.alarm_acts import in_words
from agent.control.alarm_model import AlarmStatus
from agent.control.rules import Transition
from agent.core.model import Event

#: Who or what caused it, where it was not a person.
BY_CONDITION, BY_TIME, BY_CONFIGURATION = "condition", "time", "configuration"

#: What it is called of a rule.
_OF_RULES = {Transition.RAISED: "active", Transition.CLEARED: "over"}


def event_of(word: Transition, status: AlarmStatus, now_us: int, source: str, details: Mapping[str, object]) -> Event:
    """The event of a transition; ``status``: after it."""
    spec = status.spec
    data: dict[str, object] = {
        "severity": None if spec.severity is None else spec.severity.value,
        "text": spec.text,
        "device": spec.device,
        "why": status.why,
        "inputs": dict(status.inputs),
        "state": status.state.value,
        "raised_count": status.raised_count,
        "notify": None if spec.notify is None else list(spec.notify),
        "shadow": spec.shadow,
        "silent": status.shelved_until_us is not None or bool(status.suppressed_by),
        "source": source,
        **details,
    }
    if word is Transition.SUPPRESSED:
        data["by"] = status.suppressed_by
    if word is Transition.RAISED:
        data["would" if spec.shadow else "done"] = in_words(spec)
    kind = f"alarm.{word}" if spec.is_alarm else f"rule.{_OF_RULES.get(word, word)}"
    return Event(kind, now_us, spec.id, data)
