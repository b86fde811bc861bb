"""From a verdict to what is to stand in a station's device now. Pure.

A switch that may not come yet (``switching.py``) is held: the station stays as it is, and one that is held on is given
the least that it can give where a limit wanted it off. What protects is never held.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.control.arbiter import NOBODY, Verdict, binding, decide
from agent.control.model import Wish
from agent.control.outputs import LIMIT, outputs, pauses
from agent.control.switching import Hold, Switched, SwitchLimits, hold
from agent.core.errors import CommandRejected
from agent.core.model import Number
from agent.core.ports import Setting


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to stand in the device, by base name in the order of writing, or why it can't (``refused``)."""

    verdict: Verdict = NOBODY
    wishes: tuple[Wish, ...] = ()
    off: bool = False
    limit_a: Number | None = None
    urgent: bool = False  #: it protects: it waits for nothing
    held: Hold | None = None
    wanted: Mapping[str, Number] = field(default_factory=dict)
    refused: CommandRejected | None = None

    @property
    def limits_bindingly(self) -> bool:
        """Whether its limit is one that protects."""
        limiter = self.verdict.limiter
        return limiter is not None and binding(limiter)


def make_plan(
    wishes: tuple[Wish, ...],
    settings: Mapping[str, Setting],
    written: Iterable[str],
    switched: Switched,
    limits: SwitchLimits,
    now_s: float,
) -> Plan:
    """The plan for the wishes that stand now (oldest first). ``written``: what was ever set and not taken back."""
    verdict = decide(wishes)
    written = tuple(written)
    if verdict == NOBODY and not written:
        return Plan()
    low = pauses(verdict.limit_a, settings)
    off, limit_a = verdict.on is False or low, verdict.limit_a
    causes = ((verdict.on is False, verdict.switcher), (low, verdict.limiter))
    urgent = any(so and wish is not None and binding(wish) for so, wish in causes)
    switches = switched.on == off
    held = hold(switched, limits, now_s) if switches and not urgent else None
    if held is not None:
        off = not off
        if low and not off:
            limit_a = settings[LIMIT].min if LIMIT in settings else None
    refused, wanted = None, {}
    try:
        wanted = outputs(off=off, on=verdict.on, limit_a=limit_a, settings=settings, standing=written)
    except CommandRejected as error:
        refused = error
    return Plan(verdict, wishes, off, limit_a, urgent, held, wanted, refused)
