"""Timed events: stations are switched or limited once, from a time to another, with or without a network.

Rules of this file:

1. A state only goes forward, one transition after the other, each in one commit with its ledger event: whatever is
   killed, nothing is started or finished twice. What acts is what is on disk: wishes are derived after the commit, and
   again after a restart.
2. Start and end are due by wall time, looked at once a second, and held while the clock is not set. A clock that
   goes back undoes nothing. One that is late at the start and before the end starts late; one that is past both missed
   the event: it is told, and nothing is done.
3. What a person asks for and the store can't take is refused. What the clock asks for is done from memory, and kept as
   soon as the store takes it again.
4. Of those that are over ``KEPT`` are kept, and none longer than ``KEPT_S`` by a clock that has not jumped for a day: a
   clock that is wrong by a year must not purge them.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from agent.control.memory import Memory
from agent.control.model import Origin, Wish
from agent.control.timed_event_model import (
    NOTE,
    EventPlan,
    EventState,
    TimedEvent,
    begun,
    event_data,
    over,
    read_events,
    told,
)
from agent.core.clock import Clock, is_set
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Event

CLOCK = "clock"
MAX_OPEN = 1000
KEPT = 10_000
KEPT_S = 365 * 86400.0
TICK_S = 1.0

#: The clock was right all along when it went on for so long without a step of more than this.
_STEADY_S, _STEP_S = 86400.0, 60.0
_OLD_EVERY_S = 3600.0
_DROPPED_AT_ONCE = 10
_ID_BYTES = 6

_T = TypeVar("_T")


class Deriver(Protocol):
    """Where wishes stand: ``Stations``."""

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        """Exactly these wishes stand from now on under this key."""


class TimedEvents:
    """All timed events of a site. Make it before the stations are applied, so that what goes on is not let go first."""

    def __init__(self, clock: Clock, memory: Memory, stations: Deriver) -> None:
        self._clock = clock
        self._memory = memory
        self._stations = stations
        self._events: dict[str, TimedEvent] = {}
        self._open: dict[str, TimedEvent] = {}  # those of which anything may still become
        self._unkept: dict[str, list[Event]] = {}  # what the store did not take, with its events
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._offset_s = 0.0
        self._steady_since_s = self._old_s = clock.monotonic_s()
        for event in sorted(read_events(memory.notebook), key=lambda one: (one.created_us, one.id)):
            self._put(event)
        now_us = clock.now_us()
        for event in sorted(self._open.values(), key=lambda one: one.number):
            if event.state is EventState.IN_PROGRESS and not (is_set(clock) and over(event, now_us)):
                self._derive(event)

    def events(self) -> Sequence[TimedEvent]:
        """All that are kept, in the order in which they were made."""
        return list(self._events.values())

    def event(self, event_id: str) -> TimedEvent | None:
        """One of them."""
        return self._events.get(event_id)

    async def run(self) -> None:
        """Start and finish what is due, until cancelled."""
        while True:
            await self.step()
            await self._clock.sleep_s(TICK_S)

    async def step(self) -> None:
        """What ``run`` does once a second."""
        if self._due(self._clock.now_us()) or self._unkept:
            await self._whole(self._look)
        now_s = self._clock.monotonic_s()
        steady = self._is_steady(now_s)
        if now_s >= self._old_s or len(self._events) - len(self._open) > KEPT:
            self._old_s = now_s + _OLD_EVERY_S
            await self._whole(lambda: self._drop_old(by_age=steady))

    async def close(self) -> None:
        """End all work; what goes on is found again at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def create(self, plan: EventPlan, who: str) -> TimedEvent:
        """Program it. Raises ``CommandRejected`` and ``StoreError``: there is no such event then."""

        async def work() -> TimedEvent:
            now_us = self._clock.now_us()
            self._check("create an event", plan, now_us)
            if len(self._open) >= MAX_OPEN:
                reason = f"{MAX_OPEN} events wait or go on already"
                raise CommandRejected("create an event", Refusal.OUT_OF_RANGE, reason, "cancel some")
            event = TimedEvent(secrets.token_hex(_ID_BYTES), plan, created_by=who, created_us=now_us)
            return await self._by_hand(event, "event.programmed", who)

        return await self._whole(work)

    async def change(self, event_id: str, edit: Callable[[EventPlan], EventPlan], who: str) -> TimedEvent:
        """Give it another plan; of one in progress only the end. Raises ``CommandRejected`` and ``StoreError``."""

        async def work() -> TimedEvent:
            event, op = self._known(event_id), f"change event {event_id}"
            plan, now_us = edit(event.plan), self._clock.now_us()
            if not event.open:
                raise _too_late(op, event)
            if plan == event.plan:
                return event
            goes_on = event.state is EventState.IN_PROGRESS
            if goes_on and replace(event.plan, end_us=plan.end_us) != plan:
                reason = "it is in progress: only its end may be changed"
                raise CommandRejected(op, Refusal.EXPIRED, reason, "finish it and make another one")
            # Who started it early may let it end before it was to start.
            self._check(op, replace(plan, start_us=None) if goes_on else plan, now_us)
            return await self._by_hand(replace(event, plan=plan), "event.changed", who)

        return await self._whole(work)

    async def cancel(self, event_id: str, who: str) -> TimedEvent:
        """It is not to be, or not to go on. Raises ``CommandRejected`` and ``StoreError``."""

        async def work() -> TimedEvent:
            event = self._known(event_id)
            if event.state is EventState.COMPLETED:
                raise _too_late(f"cancel event {event_id}", event)
            if event.state is EventState.CANCELLED:
                return event
            return await self._by_hand(self._ended(event, EventState.CANCELLED, who), "event.cancelled", who)

        return await self._whole(work)

    async def start(self, event_id: str, who: str) -> TimedEvent:
        """Start it now. Raises ``CommandRejected`` and ``StoreError``."""

        async def work() -> TimedEvent:
            event = self._known(event_id)
            if event.state is EventState.IN_PROGRESS:
                return event
            late = is_set(self._clock) and over(event, self._clock.now_us())
            if event.state is not EventState.PROGRAMMED or late:
                raise _too_late(f"start event {event_id}", event)
            return await self._by_hand(self._started(event, who), "event.started", who)

        return await self._whole(work)

    async def finish(self, event_id: str, who: str) -> TimedEvent:
        """Finish it now. Raises ``CommandRejected`` and ``StoreError``."""

        async def work() -> TimedEvent:
            event, op = self._known(event_id), f"finish event {event_id}"
            if event.state is EventState.PROGRAMMED:
                raise CommandRejected(op, Refusal.OUT_OF_RANGE, "it has not started", "cancel it instead")
            if event.state is EventState.CANCELLED:
                raise _too_late(op, event)
            if event.state is EventState.COMPLETED:
                return event
            return await self._by_hand(self._ended(event, EventState.COMPLETED, who), "event.finished", who)

        return await self._whole(work)

    async def _whole(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do it in its turn, to its end, whether or not who asked waits for it."""

        async def in_turn() -> _T:
            async with self._turn:
                return await work()

        task = asyncio.create_task(in_turn(), name="timed event")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        finally:
            if not task.done():  # nobody waits any more: what came of it is on the ledger
                task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _look(self) -> None:
        """Do what is due, and keep what could not be kept before."""
        for event in self._due(self._clock.now_us()):
            now_us = self._clock.now_us()
            if event.state is EventState.IN_PROGRESS:
                await self._by_clock(self._ended(event, EventState.COMPLETED, CLOCK), "event.finished")
            elif over(event, now_us):
                missed = replace(self._ended(event, EventState.COMPLETED, CLOCK), missed=True)
                await self._by_clock(missed, "event.missed")
            else:
                await self._by_clock(self._started(event, CLOCK), "event.started")
        for event_id in list(self._unkept):
            if not await self._keep(self._events[event_id]):
                break

    def _due(self, now_us: int) -> list[TimedEvent]:
        """What is to be started or finished by now."""
        if not is_set(self._clock):
            return []
        return [one for one in self._open.values() if over(one, now_us) or begun(one, now_us)]

    async def _by_clock(self, event: TimedEvent, kind: str) -> None:
        """Its time has come: it acts also when it can't be kept now."""
        self._unkept.setdefault(event.id, []).append(told(event, kind, CLOCK, self._clock.now_us()))
        self._put(event)
        await self._keep(event)
        self._derive(event)

    async def _keep(self, event: TimedEvent) -> bool:
        events = self._unkept.get(event.id, [])
        if await self._memory.write(NOTE, event.id, event_data(event), events) is not None:
            return False
        self._unkept.pop(event.id, None)
        return True

    async def _by_hand(self, event: TimedEvent, kind: str, who: str) -> TimedEvent:
        """On disk first; then it is so. Raises ``StoreError``."""
        events = [*self._unkept.get(event.id, []), told(event, kind, who, self._clock.now_us())]
        error = await self._memory.write(NOTE, event.id, event_data(event), events)
        if error is not None:
            raise error
        self._unkept.pop(event.id, None)
        self._put(event)
        self._derive(event)
        return event

    def _started(self, event: TimedEvent, who: str) -> TimedEvent:
        number = 1 + max(one.number for one in self._events.values())
        now_us = self._clock.now_us()
        return replace(event, state=EventState.IN_PROGRESS, started_by=who, started_us=now_us, number=number)

    def _ended(self, event: TimedEvent, state: EventState, who: str) -> TimedEvent:
        return replace(event, state=state, finished_by=who, finished_us=self._clock.now_us())

    def _derive(self, event: TimedEvent) -> None:
        """Let its wishes stand while it is in progress."""
        wishes = [
            Wish(
                act.station,
                f"event:{event.id}",
                Origin.SCHEDULE,
                act.on,
                act.limit_a,
                f"event {event.plan.name}",
                event.started_us or 0,
            )
            for act in event.plan.acts
        ]
        self._stations.derive(f"event:{event.id}", wishes if event.state is EventState.IN_PROGRESS else [])

    def _known(self, event_id: str) -> TimedEvent:
        event = self._events.get(event_id)
        if event is None:
            raise CommandRejected(f"event {event_id}", Refusal.NOT_CAPABLE, "there is no such event")
        return event

    def _check(self, op: str, plan: EventPlan, now_us: int) -> None:
        fault = plan.fault()
        if not fault and plan.end_us is not None and is_set(self._clock) and now_us >= plan.end_us:
            fault = "its end is over already"
        if fault:
            raise CommandRejected(op, Refusal.OUT_OF_RANGE, fault)

    def _put(self, event: TimedEvent) -> None:
        self._events[event.id] = event
        if event.open:
            self._open[event.id] = event
        else:
            self._open.pop(event.id, None)

    def _is_steady(self, now_s: float) -> bool:
        """Whether the clock may be believed when it says that a year is over."""
        offset_s = self._clock.now_us() / 1e6 - now_s
        if abs(offset_s - self._offset_s) > _STEP_S:
            self._offset_s, self._steady_since_s = offset_s, now_s
        return now_s - self._steady_since_s >= _STEADY_S

    async def _drop_old(self, *, by_age: bool) -> None:
        """Forget some of those that are over; the ledger keeps what they did."""
        closed = [one for one in self._events.values() if not one.open and one.id not in self._unkept]
        since_us = self._clock.now_us() - round(KEPT_S * 1e6)
        old = [
            one
            for place, one in enumerate(closed)
            if place < len(closed) - KEPT or (by_age and (one.finished_us or 0) < since_us)
        ]
        for event in old[:_DROPPED_AT_ONCE]:
            if await self._memory.write(NOTE, event.id, None) is not None:
                return
            del self._events[event.id]
        if len(old) > _DROPPED_AT_ONCE:
            self._old_s = self._clock.monotonic_s()  # the others at the next look


def _too_late(op: str, event: TimedEvent) -> CommandRejected:
    ended = "its end has come" if event.open else "it was missed" if event.missed else f"it is {event.state.value}"
    return CommandRejected(op, Refusal.EXPIRED, ended, "make another one")
