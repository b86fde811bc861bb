"""All alarms and rules of a site: ``agent.control.alarm_model.Alarms``, and what the composition root runs.

Bring it the rows of the wires (``engine``), and ``tick`` it once a second; ``apply`` a configuration before the first
tick of the stations, so that what was acting before a restart acts again before anything is written to them. What one
alarm does is in ``alarm_entry.py``, its life in ``rules.py``, its conditions in ``engine.py``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Protocol

from agent.control.alarm_acts import orders_of
from agent.control.alarm_entry import AlarmEntry, Around
from agent.control.alarm_model import MAX_SHELVE_S, AlarmStatus, RuleSpec, Severity
from agent.control.alarm_notes import ALARM
from agent.control.engine import Engine
from agent.control.memory import Memory
from agent.control.model import Command, Outcome, Result, Station, Wish
from agent.control.when import parse
from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Event, Number, Signal

logger = logging.getLogger(__name__)

MAX_NOTE = 200
_NEVER = parse("0 > 1")
#: So many orders at once; more are not given, and that is told.
MAX_ORDERS = 64


class ActedOn(Protocol):
    """The stations, as far as alarms act on them."""

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        """Exactly these wishes stand from now on under this key."""

    def snapshots(self) -> Sequence[Station]:
        """All as they are now."""


def _nobody(event: Event) -> None:
    """Told to nobody else."""


class AlarmBook:
    """The alarms and rules of a site.

    ``record`` puts an event on the ledger when it can; ``execute`` does a command; ``tell`` is told each event of an
    alarm or rule at once, whatever the store says: all of them are on the ledger too, most with a note in one commit.
    """

    def __init__(
        self,
        clock: Clock,
        memory: Memory,
        record: Callable[[Event], None],
        stations: ActedOn,
        execute: Callable[[Command], Awaitable[Result]],
        tell: Callable[[Event], None] = _nobody,
    ) -> None:
        self._clock = clock
        self._stations = stations
        self._execute = execute
        self.engine = Engine(self._judged)
        self._around = Around(clock, memory, record, tell, stations.derive, self._explain, self._order, self._flipped)
        self._notes: Mapping[str, Mapping[str, object]] | None = None  # what was kept, before the first ``apply``
        self._entries: dict[str, AlarmEntry] = {}
        self._ending: list[AlarmEntry] = []
        self._explains: dict[str, list[str]] = {}  # alarm -> those that it may suppress
        self._tasks: set[asyncio.Task[None]] = set()

    def apply(self, specs: Sequence[RuleSpec], signals: Iterable[Signal], zone: tzinfo = UTC) -> list[str]:
        """These are the alarms and rules now. Those that stay go on; those that are gone end, with their wishes.

        Gives what their conditions name and nobody has. Call it on the event loop.
        """
        self._around.zone = zone
        before, self._entries = self._entries, {}
        notes = self._around.memory.notebook.notes(ALARM) if self._notes is None else {}
        self._notes, self._explains = {}, {}
        for spec in specs:
            old = before.get(spec.id)
            if old is not None and old.spec.is_alarm == spec.is_alarm:
                self._entries[spec.id] = before.pop(spec.id)
                old.change(spec)
            else:
                self._entries[spec.id] = AlarmEntry(spec, self._around, notes.get(spec.id))
        self._end([*before.values(), *self._forgotten(notes)])
        self._explains = _explained(specs)
        unknown = self.engine.bind(specs, signals, self._clock.monotonic_s())
        for name, old in before.items():
            if (entry := self._entries.get(name)) is not None:  # an alarm that is a rule now, or the other way round
                entry.judged(*old.conditions, self._clock.monotonic_s())
        for name in self._entries:
            self._look_whether_explained(name)
        return unknown

    def learn(self, signals: Iterable[Signal]) -> list[str]:
        """These are the signals now: a wire found out about some. Gives what conditions name and nobody has."""
        specs = [entry.spec for entry in self._entries.values()]
        return self.engine.bind(specs, signals, self._clock.monotonic_s())

    def tick(self) -> None:
        """Once a second."""
        now_s = self._clock.monotonic_s()
        self.engine.tick(now_s)
        for entry in self._entries.values():
            entry.tick(now_s)
        # A note that belongs to another one by now is left alone.
        over = [entry for entry in self._ending if entry.idle and (entry.kept or entry.spec.id in self._entries)]
        self._ending = [entry for entry in self._ending if entry not in over]
        for entry in self._ending:
            entry.tick(now_s)

    async def close(self) -> None:
        """End all work. What an order came to is told by control at the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        entries = (*self._entries.values(), *self._ending)
        await asyncio.gather(*tasks, *(entry.close() for entry in entries), return_exceptions=True)

    # -- what people see and do (the port's documentation holds)

    def alarms(self) -> Sequence[AlarmStatus]:
        """All alarms and rules, in the order of the configuration."""
        return [entry.status for entry in self._entries.values()]

    def alarm(self, alarm_id: str) -> AlarmStatus | None:
        """One of them."""
        entry = self._entries.get(alarm_id)
        return None if entry is None else entry.status

    async def acknowledge(self, alarm_id: str, who: str, note: str = "") -> AlarmStatus:
        """Somebody has seen it."""
        op = f"acknowledge {alarm_id}"
        entry = self._known(op, alarm_id)
        _check_text(op, note)
        await entry.acknowledge(who, note)
        return entry.status

    async def acknowledge_all(self, who: str) -> Sequence[AlarmStatus]:
        """Somebody has seen all; those that were not acknowledged before."""
        entries = list(self._entries.values())
        done = await asyncio.gather(*(entry.acknowledge(who, "") for entry in entries), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error
        return [entry.status for entry, changed in zip(entries, done, strict=True) if changed]

    async def shelve(self, alarm_id: str, for_s: float, who: str, reason: str = "") -> AlarmStatus:
        """Tell nobody about it for so long."""
        op = f"shelve {alarm_id}"
        entry = self._known(op, alarm_id)
        _check_text(op, reason)
        if not entry.spec.is_alarm:
            raise CommandRejected(op, Refusal.NOT_CAPABLE, "it is a rule: nobody is told of it anyway")
        if not 0 < for_s <= MAX_SHELVE_S:
            hours = MAX_SHELVE_S / 3600
            raise CommandRejected(op, Refusal.OUT_OF_RANGE, f"it takes a time of at most {hours:.0f} h, not {for_s} s")
        await entry.shelve(for_s, who, reason)
        return entry.status

    async def unshelve(self, alarm_id: str, who: str) -> AlarmStatus:
        """Tell people about it again."""
        entry = self._known(f"unshelve {alarm_id}", alarm_id)
        await entry.unshelve(who)
        return entry.status

    # -- within

    def _known(self, op: str, alarm_id: str) -> AlarmEntry:
        entry = self._entries.get(alarm_id)
        if entry is None:
            raise CommandRejected(op, Refusal.NOT_CAPABLE, f"there is no alarm {alarm_id!r}")
        return entry

    def _judged(self, rule_id: str, when: bool | None, clear: bool | None, now_s: float) -> None:  # noqa: FBT001
        self._entries[rule_id].judged(when, clear, now_s)

    def _flipped(self, name: str) -> None:
        for other in self._explains.get(name, ()):
            self._look_whether_explained(other)

    def _look_whether_explained(self, name: str) -> None:
        entry = self._entries.get(name)
        if entry is None or not entry.spec.is_alarm:
            return
        by = next((one for one in entry.spec.suppressed_by if self._explains_now(one, name)), "")
        if by != entry.status.suppressed_by:
            entry.suppress(by, self._clock.monotonic_s())

    def _explains_now(self, one: str, other: str) -> bool:
        entry = self._entries.get(one)
        return entry is not None and entry.active and other in self._explains.get(one, ())

    def _end(self, entries: Iterable[AlarmEntry]) -> None:
        for entry in entries:
            entry.end()
            self._ending.append(entry)

    def _forgotten(self, notes: Mapping[str, Mapping[str, object]]) -> list[AlarmEntry]:
        """Those that were taken out of the configuration while the gateway was off."""
        found = []
        for name, note in notes.items():
            if name not in self._entries:
                severity = Severity.WARNING if note.get("alarm") else None
                spec = RuleSpec(name, _NEVER, severity=severity)
                found.append(AlarmEntry(spec, self._around, note))
        return found

    def _explain(self, rule_id: str) -> tuple[str, Mapping[str, Number | None]]:
        return self.engine.explain(rule_id), self.engine.inputs(rule_id)

    def _order(self, status: AlarmStatus) -> None:
        """Give the orders of a raising."""
        for command in orders_of(status, self._stations.snapshots()):
            if len(self._tasks) >= MAX_ORDERS:
                self._not_done(command, Outcome.FAILED, f"{MAX_ORDERS} orders of alarms are being done already")
                continue
            task = asyncio.create_task(self._do(command), name=f"order {command.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do(self, command: Command) -> None:
        result = await self._execute(command)
        if result.outcome is not Outcome.DONE:
            self._not_done(command, result.outcome, result.reason)

    def _not_done(self, command: Command, outcome: Outcome, reason: str) -> None:
        kind, _, name = command.issuer.partition(":")
        data = {"station": command.target, "action": command.action, "outcome": outcome.value, "reason": reason}
        event = Event(f"{kind}.not_done", self._clock.now_us(), name, {"id": command.id, **data})
        self._around.record(event)
        self._around.tell(event)


def _check_text(op: str, text: str) -> None:
    if len(text) > MAX_NOTE:
        raise CommandRejected(op, Refusal.OUT_OF_RANGE, f"a note has at most {MAX_NOTE} characters")


def _explained(specs: Sequence[RuleSpec]) -> dict[str, list[str]]:
    """Alarm -> those that it may suppress. Two that explain each other do not: else nobody would be told of either."""
    by = {spec.id: spec.suppressed_by for spec in specs}
    found: dict[str, list[str]] = {}
    for spec in specs:
        for one in spec.suppressed_by:
            if spec.id in _all_behind(one, by):
                logger.warning("%s and %s explain each other: neither is silent because of the other", one, spec.id)
            else:
                found.setdefault(one, []).append(spec.id)
    return found


def _all_behind(name: str, by: Mapping[str, Sequence[str]]) -> set[str]:
    """All that explain it, over however many others; with itself."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting.extend(by.get(one, ()))
    return seen
