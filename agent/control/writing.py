"""From a plan to what stands in one station's device: what differs is written, what protects before all else.

The rules are those of ``station.py`` (2, 3, 4 and 6), whose one task calls this.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.control.arbiter import NOBODY
from agent.control.execution import Answer, attempt
from agent.control.keeping import Keeping
from agent.control.model import Outcome
from agent.control.notes import Told
from agent.control.plan import Plan
from agent.control.switching import Switched
from agent.core.clock import Clock
from agent.core.errors import CommandRejected
from agent.core.model import Number
from agent.core.ports import Commandable

RETRY_S = 5.0
MAX_RETRY_S = 60.0
#: A guard against a driver that never ends; each has time-outs of its own.
WRITE_S = 120.0

_DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class State:
    """How far a plan came: ``done``, ``held``, ``waits``, ``failed`` or ``refused``, and in words."""

    word: str
    text: str
    answer: Answer


DONE = State("done", "done", Answer(Outcome.DONE))
#: Something else was decided meanwhile: who called looks again.
OVERTAKEN = State("overtaken", "", Answer(Outcome.SUPERSEDED))


@dataclass(frozen=True, slots=True)
class Way:
    """The device, and what it calls the settings, by base name."""

    commandable: Commandable
    names: Mapping[str, str]
    device: str


class Writing:
    """Of one station. ``version()`` changes when the plan may be another one; ``save()`` keeps ``told``."""

    def __init__(
        self, told: Told, keeping: Keeping, clock: Clock, version: Callable[[], int], save: Callable[[], None]
    ) -> None:
        self._told = told
        self._keeping = keeping
        self._clock = clock
        self._version = version
        self._save = save
        self._unsure = set(told.written)
        self._otherwise: dict[str, str] = {}  # by base name, where the device set another value than it was told
        self._failed: tuple[int, State] | None = None  # the version that failed, and how
        self._failures = 0
        self.retry_s = -math.inf  #: when it may be tried again

    def write_again(self) -> None:
        """Nobody knows what the device has: all is written once more."""
        self._unsure |= set(self._told.written)

    def try_again(self) -> None:
        """It may work now: begin with short pauses."""
        self._failures = 0

    def otherwise(self, plan: Plan) -> list[str]:
        """What the device made of the plan's values, where it made others of them."""
        return [self._otherwise[base] for base in plan.wanted if base in self._otherwise]

    async def bring(self, plan: Plan, way: Way | None, seen: Callable[[], bool]) -> State:
        """Bring a plan to the device, if there is one, as far as it is allowed now. ``seen``: its state is known."""
        told = self._told
        if plan.refused is not None:
            return _refused(plan.refused)
        pending = {base: value for base, value in plan.wanted.items() if self._differs(base, value)}
        if pending and way is not None:
            state = await self._bring(plan, way, pending, seen)
            if state is not DONE:
                return state
        if plan.held is None and plan.verdict == NOBODY and told.written:
            told.written.clear()
            self._save()
        return DONE

    async def _bring(self, plan: Plan, way: Way, pending: Mapping[str, Number], seen: Callable[[], bool]) -> State:
        now_s, told, version = self._clock.monotonic_s(), self._told, self._version()
        if not plan.urgent and not seen():
            text = "its present state is not known yet"
            return State("waits", text, Answer(Outcome.FAILED, text))
        if self._failed is not None and self._failed[0] == version and now_s < self.retry_s:
            return self._failed[1]
        before, touched = told.switched, set(told.written)
        told.switched = before.to(not plan.off, now_s)
        told.written.update(pending)
        self._unsure.update(pending)
        switches = told.switched != before
        if switches or touched != set(told.written):
            self._save()
        if not (plan.urgent or (plan.limits_bindingly and not switches)):
            await self._keeping.wait()
        state = await self._write(way, pending, version)
        if state is not DONE:
            self._not_switched(before)
        return state

    def _not_switched(self, before: Switched) -> None:
        """It did not take it: what it may have done without a word counts once it says so."""
        if self._told.switched != before:
            self._told.switched = before
            self._save()

    def _differs(self, base: str, value: Number) -> bool:
        return self._told.written.get(base) != value or base in self._unsure

    async def _write(self, way: Way, pending: Mapping[str, Number], version: int) -> State:
        for base, value in pending.items():
            if version != self._version():
                return OVERTAKEN
            op = f"set {way.names[base]} of {way.device} to {value:g}"
            answer = await attempt(op, _set(way, base, value), self._clock, WRITE_S)
            if answer.outcome is not Outcome.DONE:
                return self._fail(answer, version)
            self._unsure.discard(base)
            taken = answer.data.get("value")
            self._otherwise.pop(base, None)
            if isinstance(taken, int | float) and taken != value:
                self._otherwise[base] = f"the device made {taken:g} of {value:g} for {way.names[base]}"
        self._failed, self._failures = None, 0
        return DONE

    def _fail(self, answer: Answer, version: int) -> State:
        delay_s = min(MAX_RETRY_S, RETRY_S * float(1 << min(self._failures, _DOUBLINGS)))
        self._failures += 1
        self.retry_s = self._clock.monotonic_s() + delay_s
        state = State("refused" if answer.refusal else "failed", answer.reason, answer)
        self._failed = version, state
        return state


def _refused(error: CommandRejected) -> State:
    return State("refused", str(error), Answer(Outcome.REJECTED, str(error), error.refusal))


async def _set(way: Way, base: str, value: Number) -> Mapping[str, object]:
    return {"value": await way.commandable.set(way.names[base], value)}
