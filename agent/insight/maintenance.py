"""Maintenance of the site's machines: the log, the plans, what is due, and who is told of it.

Rules of this file:

1. What is written to the log is never changed: a correction is another entry (``agent/store/maintenance.py``).
2. What the machine's counters showed at the time of the work is written with it, where they are known.
3. ``maintenance.due`` and ``maintenance.overdue`` are told once each for a plan and machine since it was done last, or
   since the plan was changed: the event and the note that says so are one commit, so a kill repeats and loses nothing.
4. While the clock was never set nothing is told.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.core.clock import Clock, is_set
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Event, Number
from agent.core.ports import Notebook
from agent.insight.counters import Counters, Tally
from agent.insight.machines import Machine, MachineBook
from agent.insight.maintenance_due import MEAN_US, Counted, Due, by_counter, by_date, last_done, midnight_us, soonest
from agent.insight.maintenance_model import COUNTERS, STATES, Interval, Measure, Plan
from agent.insight.maintenance_plans import PlanBook
from agent.insight.periods import DAY_US
from agent.store.maintenance import Asked, Entry

TOLD = "maintenance_told"
LOOK_S = 3600.0
KEEP_S = 600.0
TICK_S = 60.0
#: Work that was done tomorrow was not done: half the world is a day ahead at most.
_AHEAD_US = DAY_US
_SHOWN: tuple[Measure, ...] = tuple(one for one in COUNTERS if one != "contactor")


class Log(Protocol):
    """The maintenance log: ``agent.store.maintenance.MaintenanceTable``."""

    async def add(self, entry: Entry, event: Event) -> tuple[Entry | None, bool]:
        """Store it with its event; the one that has its key, and False; None: what it corrects can't be."""

    def page(self, asked: Asked, limit: int, offset: int) -> tuple[int, list[Entry]]:
        """How many there are, and one page, the latest first. Blocks."""

    def entry(self, number: int) -> Entry | None:
        """One of them. Blocks."""

    def last(self) -> list[Entry]:
        """The latest that counts of each machine, kind and plan. Blocks."""

    async def count_switches(self) -> None:
        """Count what the ledger has got since."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was worked out of a machine and a plan, and when (monotonic)."""

    at_s: float
    machine: Machine
    due: Due

    def holds(self, machine: Machine, plan: Plan, entry: Entry | None) -> bool:
        return (self.machine, self.due.plan, self.due.entry) == (machine, plan, entry)


@dataclass(slots=True)
class Maintenance:
    """All of it. What blocks says so; all that writes raises ``StoreError``."""

    clock: Clock
    notebook: Notebook
    machines: MachineBook
    log: Log
    counters: Counters
    plans: PlanBook = field(init=False)
    _kept: tuple[float, list[Due]] | None = None
    _changes: int = 0
    _known: dict[tuple[str, str], _Known] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.plans = PlanBook(self.clock, self.notebook, self.forget)

    # -- the log

    async def add(self, entry: Entry, who: str) -> tuple[Entry, bool]:
        """Write down that something was done; the entry as it stands, and whether it is new (rule 2 of the table).

        Raises ``CommandRejected``: no such machine or plan (``not_capable``), a date that can't be (``out_of_range``),
        something else was corrected meanwhile (``duplicate``).
        """
        machine = self._check(entry)
        known: Mapping[str, Number] = {}
        if machine is not None and machine.device and not entry.void:
            await self.log.count_switches()
            known = await asyncio.to_thread(self.readings, entry.machine, entry.t_us)
        now_us = self.clock.now_us()
        whole = replace(entry, counters={**known, **entry.counters}, created_us=now_us, created_by=who)
        kind = "maintenance.logged" if entry.corrects is None else "maintenance.corrected"
        stored, new = await self.log.add(whole, Event(kind, now_us, entry.machine, _told(whole, who)))
        if stored is None:
            hint = "the last one of the chain can be corrected: GET /api/maintenance lists them"
            raise CommandRejected("correct an entry", Refusal.DUPLICATE, "it was corrected already", hint)
        self.forget()
        return stored, new

    def readings(self, device: str, at_us: int) -> dict[str, Number]:
        """What the counters of a device showed at a time, as far as that is known. Blocks."""
        found = {one: self.counters.reading(device, one, at_us) for one in _SHOWN}
        return {name: round(value, 3) for name, value in found.items() if value is not None}

    def _check(self, entry: Entry) -> Machine | None:
        op, machine = "write down maintenance", self.machines.machine(entry.machine)
        if machine is None and entry.corrects is None:
            raise CommandRejected(op, Refusal.NOT_CAPABLE, f"there is no machine {entry.machine!r}")
        if entry.plan and self.plans.find(entry.plan) is None:
            raise CommandRejected(op, Refusal.NOT_CAPABLE, f"there is no plan {entry.plan!r}")
        if is_set(self.clock) and entry.t_us > self.clock.now_us() + _AHEAD_US:
            raise CommandRejected(op, Refusal.OUT_OF_RANGE, "its date is in the future", "write down what was done")
        return machine

    # -- what is due

    async def due(self) -> list[Due]:
        """What is due when, the worst and soonest first; worked out ten minutes ago at most. Raises ``StoreError``."""
        async with self._turn:
            now_s = self.clock.monotonic_s()
            if self._kept is None or now_s - self._kept[0] > KEEP_S:
                await self.log.count_switches()
                changes = self._changes
                found = await asyncio.to_thread(self.work_out, self.clock.now_us())
                if changes != self._changes:
                    return found  # something was changed meanwhile: who asks next shall see it
                self._kept = now_s, found
            return self._kept[1]

    def forget(self) -> None:
        """Something was changed: it is looked at what that makes due when somebody asks."""
        self._kept = None
        self._changes += 1

    def work_out(self, now_us: int) -> list[Due]:
        """What is due. Blocks for some ms for each counter and year of its history.

        Of machines and plans that are as they were, what was worked out some minutes ago holds.
        """
        plans, last = self.plans.all(), self.log.last()
        old_s, now_s = self.clock.monotonic_s() - KEEP_S, self.clock.monotonic_s()
        known: dict[tuple[str, str], _Known] = {}
        for machine in self.machines.machines():
            concerned = [one for one in plans if one.concerns(machine)]
            done = {one.id: last_done(one, machine.code, last) for one in concerned}
            new = []
            for plan in concerned:
                key = machine.code, plan.id
                kept = self._known.get(key)
                if kept is not None and kept.at_s >= old_s and kept.holds(machine, plan, done[plan.id]):
                    known[key] = kept
                else:
                    new.append(plan)
            tallies = self._tallies(machine, new, done, now_us)
            for plan in new:
                entry = done[plan.id]
                counted = tuple(_count(one, machine, entry, tallies, now_us) for one in plan.intervals)
                due = Due(machine.code, machine.name, plan, counted, entry)
                known[machine.code, plan.id] = _Known(now_s, machine, due)
        self._known = known
        return soonest(one.due for one in known.values())

    def _tallies(
        self, machine: Machine, plans: list[Plan], done: Mapping[str, Entry | None], now_us: int
    ) -> dict[Measure, Tally | None]:
        """The counters that the plans need, each read once, from the earliest time that any of them needs."""
        if not machine.device:
            return {}
        from_us: dict[Measure, int] = {}
        for plan in plans:
            entry = done[plan.id]
            since_us = 0 if entry is None else min(entry.t_us, now_us - MEAN_US - DAY_US)
            for one in plan.intervals:
                if one.by != "days":
                    from_us[one.by] = min(since_us, from_us.get(one.by, now_us))
        return {by: self.counters.tally(machine.code, by, max(0, begin), now_us) for by, begin in from_us.items()}

    # -- telling of it

    async def run(self) -> None:
        """Keep what devices say of themselves, and look once an hour what is due, until cancelled."""
        look_s = self.clock.monotonic_s() + TICK_S  # the start has other work
        while True:
            await self.machines.keep()
            if self.clock.monotonic_s() >= look_s:
                await self.look()
                look_s = self.clock.monotonic_s() + LOOK_S
            await self.clock.sleep_s(TICK_S)

    async def look(self) -> None:
        """Tell what has become due or overdue since the last look."""
        if not is_set(self.clock):
            return
        self.forget()
        found = await self.due()
        for due in found:
            await self._tell(due)
        keys = {_key(one) for one in found}
        for key in set(self.notebook.notes(TOLD)) - keys:
            await self.notebook.write(TOLD, key, None)

    async def _tell(self, due: Due) -> None:
        if due.state not in {"due", "overdue"}:
            return
        since = f"{0 if due.entry is None else due.entry.id}:{due.plan.changed_us}"
        told = self.notebook.note(TOLD, _key(due)) or {}
        before = str(told.get("state")) if told.get("since") == since else "ok"
        if before in STATES and STATES.index(due.state) <= STATES.index(before):
            return
        event = Event(f"maintenance.{due.state}", self.clock.now_us(), due.machine, _due_data(due))
        await self.notebook.write(TOLD, _key(due), {"since": since, "state": due.state}, [event])


def _count(
    interval: Interval,
    machine: Machine,
    entry: Entry | None,
    tallies: Mapping[Measure, Tally | None],
    now_us: int,
) -> Counted:
    done_us = None if entry is None else entry.t_us
    if interval.by == "days":
        return by_date(interval, midnight_us(machine.installed) if done_us is None else done_us, now_us)
    return by_counter(interval, tallies.get(interval.by), done_us, now_us)


def _key(due: Due) -> str:
    return f"{due.machine}/{due.plan.id}"


def _due_data(due: Due) -> dict[str, object]:
    by = due.by
    data: dict[str, object] = {
        "plan": due.plan.id,
        "name": due.plan.name,
        "machine_name": due.name,
        "due_us": due.due_us,
    }
    data["last"] = None if due.entry is None else due.entry.id
    if by is not None:
        data |= {"by": by.interval.by, "every": by.interval.every, "used": by.used, "due_us": by.due_us}
    return data


def _told(entry: Entry, who: str) -> dict[str, object]:
    """What the ledger says of an entry: all of it, for the ledger is what can be verified."""
    return {
        "by": who,
        "t_us": entry.t_us,
        "kind": entry.kind,
        "description": entry.description,
        "technician": entry.technician,
        "cost": entry.cost,
        "currency": entry.currency,
        "parts": list(entry.parts),
        "counters": dict(entry.counters),
        "plan": entry.plan,
        "corrects": entry.corrects,
        "void": entry.void,
    }
