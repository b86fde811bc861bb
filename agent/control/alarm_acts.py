"""What an alarm or rule does with stations: the wishes that stand while it acts, and its orders. Pure."""

import hashlib
from collections.abc import Sequence
from datetime import tzinfo

from agent.control.alarm_model import ALL, AlarmStatus, RuleAct, RuleSpec
from agent.control.arbiter import at
from agent.control.model import Command, Station, Wish

#: An order that could not be done by then is not done any more.
DO_TTL_S = 60.0
#: Longer names of orders become a hash: a command's id has at most 128 characters.
_MAX_NAME = 128


def issuer_of(spec: RuleSpec) -> str:
    """In whose name it acts: ``alarm:battery_hot``, ``rule:low_battery``. The same names its wishes."""
    return f"{'alarm' if spec.is_alarm else 'rule'}:{spec.id}"


def wishes_of(status: AlarmStatus, now_us: int, zone: tzinfo) -> tuple[Wish, ...]:
    """What it wants of stations now; nothing while it does not act."""
    spec = status.spec
    if not status.acting:
        return ()
    reason = _reason(status, now_us, zone)
    return tuple(
        Wish(
            act.station,
            issuer_of(spec),
            spec.origin,
            on=act.on,
            limit_a=act.limit_a,
            reason=reason,
            since_us=status.raised_us or 0,
            inputs=status.inputs,
        )
        for act in spec.acts
        if not act.do
    )


def _reason(status: AlarmStatus, now_us: int, zone: tzinfo) -> str:
    """One clause. Whose wish it is stands beside it in each place where it is shown."""
    if status.active:
        return status.why
    over = f"over since {at(status.cleared_us, now_us, zone)}" if status.cleared_us is not None else "over"
    if status.hold_until_us is not None:
        over += f", held until {at(status.hold_until_us, now_us, zone)}"
    if status.spec.latch and status.acknowledged_us is None:
        over += ", waits for acknowledgement"
    return f"{status.why}; {over}" if status.why else over


def orders_of(status: AlarmStatus, stations: Sequence[Station]) -> list[Command]:
    """What is done once for this raising. Their ids are those of the raising: given again, none is done again."""
    spec, orders = status.spec, []
    for number, act in enumerate(spec.acts):
        for station in _targets(act, stations) if act.do else ():
            name = f"{issuer_of(spec)} {status.raised_us} {status.raised_count} {number} {station}"
            if len(name) > _MAX_NAME:
                name = f"alarm {hashlib.sha256(name.encode()).hexdigest()}"
            orders.append(Command(name, station, act.do, dict(act.args), spec.origin, issuer_of(spec), ttl_s=DO_TTL_S))
    return orders


def _targets(act: RuleAct, stations: Sequence[Station]) -> list[str]:
    """Whom an order is for. All: each that can do it, a charger with several outlets once."""
    if act.station != ALL:
        return [act.station]
    able = [one for one in stations if act.do in one.actions]
    whole = {one.id for one in able if one.id == one.device}
    return [one.id for one in able if one.id in whole or one.device not in whole]


def in_words(spec: RuleSpec) -> list[str]:
    """What it does, for people: ``cp1 off``, ``all stations at most 10 A``."""
    said = []
    for act in spec.acts:
        parts = [] if act.on is None else ["on" if act.on else "off"]
        parts += [] if act.limit_a is None else [f"at most {act.limit_a:g} A"]
        parts += [act.do] if act.do else []
        said.append(f"{'all stations' if act.station == ALL else act.station} {', '.join(parts)}")
    return said
