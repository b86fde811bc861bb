"""One station: its wishes, what was decided about it, and how that comes to the device.

Rules of this file:

1. A wish acts at once on what is decided; writing to the device is the work of one task, which goes on until what
   stands in the device is what is decided now. A wish that comes meanwhile is seen before the next write.
2. The device gets a call only where the decision differs from what was written, where a write failed (nobody knows then
   what it has), after a restart, and ``AGAIN_S`` after it came back: it may have been without power. Its driver sets it
   up and again by itself until then; what failed while it was away does not wait.
3. Until something of its present state was read, nothing is written but stops that protect (trials C6). Nobody has a
   wish: nothing is written; what was set for wishes that are gone is taken back once.
4. That it is switched is on disk before it is: the switches that count (C5) outlive a kill. Another limit is not worth
   a write: after a restart all is written once more. What protects (a wish of an interlock, safety or the grid) is
   written first, and is on disk soon after.
5. A charger with several outlets is a station itself, and its main switch: what is off as a whole is off at each
   outlet, whoever wants that on, and none may draw more than all together. The device does that; here it is said.
6. Away or refusing: tried again after ``RETRY_S``, doubled to ``MAX_RETRY_S``, at once when it came back or when
   something else is decided.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo

from agent.control import notes
from agent.control.arbiter import NOBODY, Verdict, at, binding, decide, under
from agent.control.effect import Meter
from agent.control.execution import Answer
from agent.control.following import Following
from agent.control.journal import Journal
from agent.control.keeping import Keeping
from agent.control.memory import Memory
from agent.control.model import Decision, Outcome, Station, Wish
from agent.control.outputs import ENABLED, LIMIT, by_point, can_switch
from agent.control.plan import Plan, make_plan
from agent.control.switching import DEFAULT_LIMITS, Hold, SwitchLimits
from agent.control.wishes import Wishes
from agent.control.writing import DONE, MAX_RETRY_S, RETRY_S, State, Way, Writing
from agent.core.clock import Clock
from agent.core.model import Event, Number, Signal
from agent.core.ports import Commandable, LatestView, Operable, Setting

logger = logging.getLogger(__name__)

AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """A station as the composition root gives it."""

    id: str
    device: str
    outlet: int  #: 0: the whole charger
    name: str = ""
    commandable: Commandable | None = None
    operable: Operable | None = None
    switching: SwitchLimits = DEFAULT_LIMITS

    @property
    def whole(self) -> bool:
        """Whether names without an outlet's number are its own."""
        return self.id == self.device


@dataclass(slots=True)
class Surroundings:
    """What all stations share."""

    clock: Clock
    memory: Memory
    record: Callable[[Event], None]
    view: LatestView
    find: Callable[[str, str], Signal | None]
    zone: tzinfo = UTC
    on_wish: Callable[[Wish], None] | None = None
    begun: bool = False  #: there was a tick: all who derive wishes have done so


class StationRunner:
    """One station. ``decisions``: what its journal has kept. Used by ``Stations`` alone."""

    def __init__(self, target: Target, around: Surroundings, decisions: list[tuple[int, Decision]]) -> None:
        self.target = target
        self._around = around
        self._clock = around.clock
        self._wishes = Wishes(target.id, around.memory, around.clock)
        self._keeping = Keeping(f"station {target.id}", around.memory)
        self._journal = Journal(target.id, self._keeping, around.clock, decisions)
        self._told = notes.read_told(around.memory.notebook, target.id, around.clock)
        self._following = Following(self._tell, alarmed=self._told.alarmed)
        self._seen = False
        self._version = 0  # counts what may change the plan
        self._writing = Writing(self._told, self._keeping, self._clock, lambda: self._version, self._save_told)
        self._wake_s = -math.inf  # when there may be something to do
        self._again_s = math.inf  # when all is written once more
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._off = False  # as it was planned last
        self._shown: tuple[Verdict, bool] = (NOBODY, False)  # what the outlets were told of it
        self.above: StationRunner | None = None  #: of an outlet: the station that is the whole charger
        self.below: list[StationRunner] = []  #: of that: its outlets

    @property
    def settings(self) -> dict[str, Setting]:
        """What can be set of it, by base name."""
        return {base: setting for base, (_, setting) in self._settings().items()}

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """Those that stand, oldest first."""
        return self._wishes.alive

    @property
    def verdict(self) -> Verdict:
        """What is decided now, the whole charger's part of it included."""
        own, above = decide(self.wishes), self.above
        return own if above is None else under(own, above.verdict, self.target.id, above.target.id)

    @property
    def told_limit_a(self) -> Number | None:
        """The limit that it was told last, also before a restart: 0 where it was switched off; None: none."""
        written = self._told.written
        return 0 if written.get(ENABLED) == 0 else written.get(LIMIT)

    def full_for(self, wish: Wish) -> bool:
        """Whether so many wish something of it that there is no room for this wish."""
        return self._wishes.full_for(wish)

    def snapshot(self) -> Station:
        """The station as it is now."""
        verdict, target = self.verdict, self.target
        return Station(
            id=target.id,
            device=target.device,
            outlet=target.outlet,
            name=target.name or target.id,
            settings=self.settings,
            actions={} if target.operable is None else target.operable.actions,
            on=verdict.on,
            limit_a=verdict.limit_a,
            following=self._following.now,
        )

    @property
    def kept(self) -> list[tuple[int, Decision]]:
        """Its journal, for when it is configured again."""
        return self._journal.entries

    def why(self, limit: int) -> list[Decision]:
        """Its decisions, newest first; the newest with all wishes that stand now, also those that change nothing."""
        return self._journal.newest_first(limit, self.verdict, self._considered, self._around.zone)

    async def put(self, wish: Wish, for_s: float | None) -> "asyncio.Future[Answer]":
        """Let a wish stand, and keep it (one that protects acts first); then what comes of it."""
        if self._around.on_wish is not None:
            self._around.on_wish(wish)
        self._wishes.put(wish, for_s)
        waiter = self._changed(wish)
        if binding(wish):
            self.work()
        await self._wishes.keep()
        self.work()
        return waiter

    async def withdraw(self, matches: Callable[[Wish], bool]) -> "asyncio.Future[Answer]":
        """Take wishes back, and keep that; then what comes of it."""
        waiter = await self.forget(matches)
        self.work()
        return waiter

    async def forget(self, matches: Callable[[Wish], bool]) -> "asyncio.Future[Answer]":
        """Take wishes back, and keep that; what comes of it is seen to at the next tick."""
        self._wishes.withdraw(matches)
        waiter = self._changed(None)
        await self._wishes.keep()
        return waiter

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        """Exactly these derived wishes stand here under this key from now on. Before the first tick only stops act."""
        if not self._wishes.derive(key, wishes):
            self._wake_s = min([self._wake_s, *self._wishes.next_end_s])
            return
        self._bump()
        if self._around.begun or self._plan().urgent:
            self.work()

    @property
    def startable(self) -> bool:
        """Whether it can be switched, and is not the whole of outlets that can be."""
        return can_switch(self.settings) and not any(can_switch(one.settings) for one in self.below)

    @property
    def drawing(self) -> bool | None:
        """Whether energy flows now; None: it can't be told."""
        return self._meter().drawing(self._around.view, self._clock.monotonic_s())

    def rest(self) -> None:
        """Its contactor has opened by itself, for want of power: that it is off now is no switch of ours."""
        if self._told.switched.on is not False:
            self._told.switched = replace(self._told.switched, on=False)
            self._save_told()

    def work(self) -> None:
        """See to it that what is decided stands in the device."""
        if self._closed:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=f"station {self.target.id}")
            self._task.add_done_callback(self._worked)

    def heard(self) -> None:
        """Its device came back."""
        self._again_s = self._clock.monotonic_s() + AGAIN_S
        self._look_again()

    def replace(self, target: Target) -> None:
        """It is configured otherwise, or its device's driver was made anew."""
        self.target = target
        self._seen = False
        self._write_again()

    def tick(self) -> None:
        """Once a second: what has run out, may be tried again, or is not followed."""
        if self._closed:
            return
        now_s = self._clock.monotonic_s()
        if now_s >= self._again_s:
            self._write_again()
        if now_s >= self._wake_s:
            self.work()
        if self._following.check(self._meter(), self._around.view, now_s):
            self._wake_s = -math.inf  # so that it is kept
        if self._following.now is not None:
            self._journal.saw(follows=self._following.now, drawn=self._following.drawn)
        self._journal.tick()

    async def close(self) -> None:
        """End its task; who still waits is told so. Nothing is written any more, whatever comes."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._journal.close()
        await self._keeping.close()
        self._wishes.answer(lambda _: Answer(Outcome.FAILED, "the gateway stops"))

    def _changed(self, wish: Wish | None) -> "asyncio.Future[Answer]":
        self._bump()
        return self._wishes.wait(wish)

    def _bump(self) -> None:
        """The plan may be another one: who waits for the disk with the old one looks again."""
        self._version += 1
        self._wake_s = -math.inf
        self._keeping.hurry()

    def _write_again(self) -> None:
        self._again_s = math.inf
        self._writing.write_again()
        self._look_again()

    def _look_again(self) -> None:
        self._writing.try_again()
        self._bump()

    async def _work(self) -> None:
        while True:
            if self._wishes.expire():
                self._version += 1
            version, now_s, plan = self._version, self._clock.monotonic_s(), self._plan()
            self._show_below(plan)
            verdict = self.verdict
            self._journal.note(verdict, self._considered, self._around.zone)
            off = plan.off or (self.above is not None and self.above.is_off)
            self._following.expect(
                replace(plan, verdict=verdict, off=off, limit_a=_least(plan.limit_a, verdict)), now_s
            )
            state = await self._writing.bring(plan, self._way(), self._is_seen)
            if state is DONE and plan.held is not None:
                state = self._held(plan.held)
            if version == self._version:
                await self._conclude(plan, state)
            if version == self._version:
                self._wishes.answer(lambda wish, state=state: self._answer(wish, state))  # type: ignore[misc]
                return

    def _plan(self) -> Plan:
        told, now_s = self._told, self._clock.monotonic_s()
        return make_plan(self.wishes, self.settings, told.written, told.switched, self.target.switching, now_s)

    @property
    def _considered(self) -> tuple[Wish, ...]:
        """All who have a say now, also those about the whole charger."""
        verdict, wishes = self.verdict, self.wishes
        more = [one for one in (verdict.switcher, verdict.limiter) if one is not None and one not in wishes]
        return (*wishes, *dict.fromkeys(more))

    @property
    def is_off(self) -> bool:
        """Whether it is planned to be off now; that may still be held, or go on after nobody wants it any more."""
        return self._off

    def _show_below(self, plan: Plan) -> None:
        """Let the outlets see that something is decided about the whole charger."""
        self._off = plan.off
        shown = self.verdict, plan.off
        if shown == self._shown:
            return
        self._shown = shown
        for outlet in self.below:
            outlet.overruled()

    def overruled(self) -> None:
        """Something else is decided about the whole charger."""
        self._bump()
        self.work()

    def _worked(self, task: "asyncio.Task[None]") -> None:
        """After a bug of ours: told, tried again later, and who waits is answered."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("station %s: its work crashed", self.target.id, exc_info=error)
            self._wake_s = self._clock.monotonic_s() + MAX_RETRY_S
            self._wishes.answer(lambda _: Answer(Outcome.FAILED, "a bug of Enlace: the log holds its traceback"))

    def _held(self, held: Hold) -> State:
        now_us = self._clock.now_us()
        until_us = now_us + round((held.until_s - self._clock.monotonic_s()) * 1e6)
        text = f"waits until {at(until_us, now_us, self._around.zone)}: {held.why}"
        return State("held", text, Answer(Outcome.DONE, text))

    async def _conclude(self, plan: Plan, state: State) -> None:
        """Say when to look again; keep and tell how far it came."""
        now_s = self._clock.monotonic_s()
        times = self._wishes.next_end_s
        if plan.held is not None:
            times.append(plan.held.until_s)
        if state.word in {"failed", "refused"}:
            times.append(max(self._writing.retry_s, now_s + RETRY_S))
        if state.word == "waits":
            times.append(now_s)
        self._wake_s = min(times, default=math.inf)
        if self._told.alarmed != self._following.alarmed:
            self._save_told()
        left = self.above if state.word == "done" and self.verdict != decide(self.wishes) else None
        text = state.text if left is None else f"done by {left.target.id}: see there"
        if state is DONE and left is None:
            text = "; ".join([text, *self._writing.otherwise(plan)])
        self._journal.came_to(state.word, text)
        await self._keeping.wait()

    def _answer(self, wish: Wish | None, state: State) -> Answer:
        """What becomes of a command that made this wish (None: that took some back)."""
        verdict, newest = self.verdict, self.why(1)
        reason = newest[0].reason if newest else "nothing was wanted of it"
        data: dict[str, object] = {"on": verdict.on, "limit_a": verdict.limit_a, "in_force": False}
        if wish is not None and not _in_force(wish, verdict):
            return Answer(Outcome.DONE, f"it stands, but: {reason}", data=data)
        if state.word == "done":
            return Answer(Outcome.DONE, reason, data={**data, "in_force": True})
        if state.word == "held":
            return Answer(Outcome.DONE, f"{reason}; {state.text}", data=data)
        text = f"{state.text}; it stands and is done as soon as the device takes it"
        return replace(state.answer, reason=text, data=data)

    def _save_told(self) -> None:
        self._told.alarmed = self._following.alarmed
        self._keeping.put(notes.STATION, self.target.id, notes.told_data(self._told, self._clock))

    def _is_seen(self) -> bool:
        self._seen = self._seen or self._meter().seen(self._around.view)
        return self._seen

    def _tell(self, kind: str, data: Mapping[str, object]) -> None:
        where = {"device": self.target.device, "outlet": self.target.outlet}
        self._around.record(Event(kind, self._clock.now_us(), self.target.id, {**where, **data}))

    def _settings(self) -> dict[str, tuple[str, Setting]]:
        target = self.target
        if target.commandable is None:
            return {}
        return by_point(target.commandable.settings, target.outlet, whole=target.whole)

    def _way(self) -> Way | None:
        commandable = self.target.commandable
        names = {base: name for base, (name, _) in self._settings().items()}
        return None if commandable is None else Way(commandable, names, self.target.device)

    def _meter(self) -> Meter:
        outlets = [one.target.outlet for one in self.below]
        return Meter(
            self.target.device, self.target.outlet, self._around.find, whole=self.target.whole, outlets=outlets
        )


def _least(limit_a: Number | None, verdict: Verdict) -> Number | None:
    return min((one for one in (limit_a, verdict.limit_a) if one is not None), default=None)


def _in_force(wish: Wish, verdict: Verdict) -> bool:
    if wish.on is not None and wish.on != verdict.on:
        return False
    return wish.limit_a is None or verdict.limit_a == wish.limit_a
