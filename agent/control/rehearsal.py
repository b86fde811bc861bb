"""Alarms and rules over history, as if they had been in force then: what they would have told and done.

Rules of this file:

1. The same code judges and decides as on the site: ``AlarmBook``, its engine, ``Stations``. Only the clock, notebook
   and devices are made up: time goes on by the data, notes are kept in memory, devices obey at once.
2. Each instant of the history is one batch; alarms and stations are ticked once for each second in between.
3. What is stored is what changed. So a signal counts as heard all the time until it is stored as unknown; where every
   reading is there (``every``: a recording), as heard when it was read.
4. Where the history changes from one run of the gateway to the next, all signals become unknown in between.
5. Nobody acknowledges. Orders (``do``) are told, and done by nobody.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

import numpy as np

from agent.control.alarm_model import RuleSpec
from agent.control.alarms import AlarmBook
from agent.control.memory import Memory
from agent.control.model import Command, Outcome, Result
from agent.control.outputs import ENABLED, LIMIT
from agent.control.stations import Stations, Surroundings, Target
from agent.core.clock import FakeClock
from agent.core.errors import Refusal
from agent.core.model import Event, Number, Signal
from agent.core.ports import Latest, Setting
from agent.pipeline.columns import Flags, Ids, Ints, Places, Spots, batch_of, rows_of
from agent.store.catalogue import Catalogue
from agent.store.recording import Piece

SECOND_US = 1_000_000
#: After that all signals are unknown when the gateway stopped.
_GONE_US = SECOND_US
#: Turns of the loop until what was decided is done: nobody waits for a disk or a device here.
_TURNS = 1000
#: So many turns after the last task its callbacks were called.
_CALM = 2
ORDER = "rehearsal.order"

Tell = Callable[[Event], None]


@dataclass(slots=True)
class RuleSummary:
    """What an alarm or rule would have come to."""

    raised: int = 0
    active_s: float = 0.0
    active: bool = False  #: still, at the end


@dataclass(slots=True)
class StationSummary:
    """What a station would have come to."""

    switched_off: int = 0
    off_s: float = 0.0
    #: What it drew in the meantime, when it would have been off; None: its power is not known.
    not_delivered_wh: float | None = None
    off: bool = False  #: still, at the end


@dataclass(slots=True)
class Summary:
    """All of it. ``seconds``: of history."""

    seconds: float = 0.0
    instants: int = 0
    rules: dict[str, RuleSummary] = field(default_factory=dict)
    stations: dict[str, StationSummary] = field(default_factory=dict)


class ObedientDevice:
    """A device that does at once what it is told: ``Commandable``."""

    def __init__(self, settings: Mapping[str, Setting], changed: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self.now: dict[str, Number] = {}
        self._changed = changed

    async def set(self, point: str, value: Number) -> Number:
        """Set it."""
        self._changed()
        self.now[point] = value
        return value

    def release(self) -> None:
        """Nothing is repeated anyway."""

    def is_off(self, outlet: int) -> bool:
        """Whether an outlet (0: the whole charger) must not draw."""
        names = [base if number == 0 else f"{base}.{number}" for base in (ENABLED, LIMIT) for number in {0, outlet}]
        return any(self.now.get(name) == 0 for name in names)


class MemoryNotebook:
    """``Notebook`` without a disk; ``tell`` is told the events."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._notes: dict[str, dict[str, Mapping[str, object]]] = {}

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        """One note."""
        return self._notes.get(kind, {}).get(key)

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """All of a kind."""
        return dict(self._notes.get(kind, {}))

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        """Keep it."""
        if data is None:
            self._notes.get(kind, {}).pop(key, None)
        else:
            self._notes.setdefault(kind, {})[key] = data
        for event in events:
            self._tell(event)


class _NoMeters:
    """``LatestView`` of stations that nobody measures: what they drew then says nothing of what they would have."""

    def latest(self, signals: object) -> list[Latest]:
        """Nobody has any signals here."""
        del signals
        return []


class _Station:
    """What becomes of one station."""

    def __init__(self, target: Target, device: ObedientDevice, now_us: int) -> None:
        self.summary = StationSummary()
        self._outlet = 0 if target.whole else target.outlet
        self._device = device
        self._power_w: Number | None = None
        self._at_us = now_us

    def look(self, now_us: int) -> None:
        """Count what was since the last look, before anything changes."""
        passed_s, self._at_us = (now_us - self._at_us) / SECOND_US, now_us
        summary = self.summary
        if summary.off:
            summary.off_s += passed_s
            if self._power_w is not None and self._power_w > 0 and summary.not_delivered_wh is not None:
                summary.not_delivered_wh += self._power_w * passed_s / 3600
        off = self._device.is_off(self._outlet)
        summary.switched_off += off and not summary.off
        summary.off = off

    def drew(self, power_w: Number | None, now_us: int) -> None:
        """What it really drew from now on."""
        self.look(now_us)
        self._power_w = power_w
        if power_w is not None and self.summary.not_delivered_wh is None:
            self.summary.not_delivered_wh = 0.0

    def begin(self, now_us: int) -> None:
        """Count from now on."""
        self.look(now_us)
        known = None if self.summary.not_delivered_wh is None else 0.0
        self.summary = StationSummary(not_delivered_wh=known, off=self.summary.off)


class Rehearsal:
    """One rehearsal, from ``start_us`` (µs UTC) on. ``tell`` is told each event, with the time of the history.

    ``targets`` are the stations; of their devices only the settings count. ``open`` it, bring it the ``piece``s of the
    history in their order, then ``close`` it for the summary. All of it on one event loop, in no time of its own.
    """

    def __init__(
        self,
        specs: Sequence[RuleSpec],
        catalogue: Catalogue,
        targets: Sequence[Target],
        zone: tzinfo,
        start_us: int,
        tell: Tell,
        *,
        every: bool = False,
    ) -> None:
        self._specs = specs
        self._catalogue = catalogue
        self._tell_all = tell
        self._quiet = True
        self._zone = zone
        self._every = every
        self.clock = FakeClock(start_us)
        self._start_us = self._begun_us = start_us
        self._tick_us = start_us + SECOND_US
        memory = Memory(MemoryNotebook(self._noted))
        around = Surroundings(self.clock, memory, self._told, _NoMeters(), lambda _device, _name: None)
        self._stations = Stations(around)
        self._book = AlarmBook(self.clock, memory, self._told, self._stations, self._order, self._told)
        self._targets, self._parts = self._simulated(targets)
        self._bound = {signal.full_name: signal for signal in newest(catalogue)}
        self._timed = any(one.timed for spec in specs for one in (spec.when, spec.clear) if one is not None)
        self._powers = self._power_signals()
        highest = max((signal.id for signal in catalogue.signals), default=0)
        self._words: Ints = np.zeros(highest + 1, dtype=np.int64)
        self._known = np.zeros(highest + 1, dtype=np.bool_)
        self._is_bound = np.zeros(highest + 1, dtype=np.bool_)
        self._is_power = np.zeros(highest + 1, dtype=np.bool_)
        self._is_power[[one.id for one in catalogue.signals if one.full_name in self._powers]] = True
        self._mark()
        self._boot: int | None = None
        self._raised_before: dict[str, int] = {}
        self.summary = Summary(rules={spec.id: RuleSummary() for spec in specs})

    @property
    def signal_ids(self) -> set[int]:
        """The signals whose rows it needs: what conditions read, in all meanings, and what stations drew."""
        conditions = [one for spec in self._specs for one in (spec.when, spec.clear) if one is not None]
        names = frozenset[str]().union(*(one.signals for one in conditions), self._powers)
        devices = frozenset[str]().union(*(one.devices for one in conditions))
        return {one.id for one in self._catalogue.signals if one.full_name in names or one.device in devices}

    async def open(self) -> list[str]:
        """Begin, without telling anything yet; what conditions name and nobody has."""
        await self._stations.apply(self._targets, self._zone)
        unknown = self._book.apply(self._specs, self._bound.values(), self._zone)
        self._stations.tick()
        await self._settle()
        return unknown

    async def piece(self, piece: Piece) -> None:
        """The next rows of the history."""
        rows = piece.rows
        if self._boot not in {None, piece.boot}:
            await self._lose(int(rows.times_us[0]))
        self._boot = piece.boot
        ids, times_us, words, invalid = rows.ids, rows.times_us, rows.words, rows.invalid
        if not (self._every and self._timed):
            news = self._news(ids, words, invalid)
            ids, times_us, words, invalid = ids[news], times_us[news], words[news], invalid[news]
        if not len(ids):
            return
        # A run of rows of one time that are all known, or all unknown, is one batch.
        ends = np.flatnonzero((np.diff(times_us) != 0) | (np.diff(invalid) != 0)) + 1
        starts = np.concatenate(([0], ends)).tolist()
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            part = slice(start, end)
            await self._instant(ids[part], times_us[part], words[part], valid=not invalid[start])

    async def begin(self, t_us: int) -> None:
        """Up to here it only came to stand as it stood then; from here on it is told and counted."""
        await self._pass_to(t_us)
        self._quiet = False
        self._begun_us = max(t_us, self._start_us)
        self._raised_before = {one.spec.id: one.raised_count for one in self._book.alarms()}
        self.summary.rules = {spec.id: RuleSummary() for spec in self._specs}
        self.summary.instants = 0
        for part in self._parts.values():
            part.begin(self.clock.now_us())

    async def close(self, end_us: int) -> Summary:
        """Let the time until then pass, end it; what it came to."""
        await self._pass_to(end_us)
        summary, now_us = self.summary, self.clock.now_us()
        summary.seconds = (now_us - self._begun_us) / SECOND_US
        for status in self._book.alarms():
            rule = summary.rules[status.spec.id]
            rule.raised = status.raised_count - self._raised_before.get(status.spec.id, 0)
            rule.active = status.active
        for name, part in self._parts.items():
            part.look(now_us)
            summary.stations[name] = part.summary
        self._quiet = True
        await self._book.close()
        await self._stations.close()
        return summary

    # -- time

    async def _pass_to(self, t_us: int) -> None:
        """Let time go on, a tick for each second."""
        while self._tick_us <= t_us:
            self.clock.advance((self._tick_us - self.clock.now_us()) / SECOND_US)
            self._tick_us += SECOND_US
            if self._timed and not self._every:
                known = np.flatnonzero(self._known)
                self._book.engine.touched(
                    Spots(known, int(known.max(initial=-1)), unique=True), self.clock.monotonic_s()
                )
            self._book.tick()
            self._stations.tick()
            for status in self._book.alarms():
                if status.active:
                    self.summary.rules[status.spec.id].active_s += 1
            await self._settle()
        if t_us > self.clock.now_us():
            self.clock.advance((t_us - self.clock.now_us()) / SECOND_US)

    async def _settle(self) -> None:
        """Let all tasks do what they have to do now, and those who wait for them hear of it."""
        calm = _CALM
        for _ in range(_TURNS):
            if len(asyncio.all_tasks()) > 1:
                calm = 0
            if calm >= _CALM:
                return
            calm += 1
            await asyncio.sleep(0)

    # -- rows

    def _news(self, ids: Ids, words: Ints, invalid: Flags) -> Places:
        """The places of rows that say something else than the row before of the same signal."""
        order = np.argsort(ids, kind="stable")
        sorted_ids, sorted_words, sorted_known = ids[order], words[order], ~invalid[order]
        first = np.ones(len(ids), dtype=np.bool_)
        first[1:] = sorted_ids[1:] != sorted_ids[:-1]
        before_words, before_known = np.empty_like(sorted_words), np.empty_like(sorted_known)
        before_words[1:], before_known[1:] = sorted_words[:-1], sorted_known[:-1]
        before_words[first], before_known[first] = self._words[sorted_ids[first]], self._known[sorted_ids[first]]
        changed = (sorted_known != before_known) | (sorted_known & (sorted_words != before_words))
        return np.sort(order[changed])

    async def _instant(self, ids: Ids | Places, times_us: Ints, words: Ints, *, valid: bool) -> None:
        t_us = int(times_us[0])
        await self._pass_to(t_us)
        self.summary.instants += 1
        self._bind(ids)
        self._words[ids], self._known[ids] = words, valid
        self._drew(ids, words, valid=valid)
        self._book.engine.rows(rows_of(batch_of(ids, times_us, words, valid=valid)), self.clock.monotonic_s())
        await self._settle()

    def _bind(self, ids: Ids | Places) -> None:
        """Where a signal had another meaning then, it has that one now."""
        others = ids[~self._is_bound[ids]]
        if len(others):
            named = [one for number in others.tolist() if (one := self._catalogue.find(number)) is not None]
            self._bound |= {one.full_name: one for one in named}
            self._book.learn(self._bound.values())
            self._mark()

    def _mark(self) -> None:
        """Which numbers are bound now: whole columns are held against that."""
        self._is_bound[:] = False
        self._is_bound[[one.id for one in self._bound.values()]] = True

    async def _lose(self, next_us: int) -> None:
        """The gateway stopped here: nothing is known until it says so again."""
        lost = np.flatnonzero(self._known)
        t_us = min(self.clock.now_us() + _GONE_US, max(next_us, self.clock.now_us()))
        if len(lost):
            times_us = np.full(len(lost), t_us, dtype=np.int64)
            await self._instant(lost, times_us, np.zeros(len(lost), dtype=np.int64), valid=False)

    # -- stations

    def _simulated(self, targets: Sequence[Target]) -> tuple[list[Target], dict[str, _Station]]:
        """The same stations with obedient devices, one for each device as on the site."""
        devices: dict[str, ObedientDevice] = {}
        made: list[Target] = []
        parts: dict[str, _Station] = {}
        for one in targets:
            settings = {} if one.commandable is None else one.commandable.settings
            device = devices.setdefault(one.device, ObedientDevice(settings, self._look))
            made.append(
                Target(one.id, one.device, one.outlet, one.name, device if settings else None, None, one.switching)
            )
            parts[one.id] = _Station(one, device, self._start_us)
        return made, parts

    def _look(self) -> None:
        # The device changes right behind this: what was is counted now, what is at the next look.
        asyncio.get_running_loop().call_soon(self._look_at_all)
        self._look_at_all()

    def _look_at_all(self) -> None:
        now_us = self.clock.now_us()
        for part in self._parts.values():
            part.look(now_us)

    def _power_signals(self) -> dict[str, str]:
        """Full name of the signal of its power -> station."""
        found: dict[str, str] = {}
        for one in self._targets:
            for name in (f"{one.device}.power_w", f"{one.device}.power_w.{one.outlet}"):
                if name in self._bound and (one.whole or name.endswith(f".{one.outlet}")):
                    found.setdefault(name, one.id)
        for one in self._targets:
            name = f"{one.device}.power_w.1"  # many chargers with one outlet tell of that only
            if one.whole and one.id not in found.values() and name in self._bound:
                found.setdefault(name, one.id)
        return found

    def _drew(self, ids: Ids | Places, words: Ints, *, valid: bool) -> None:
        mine = self._is_power[ids]
        for number, word in zip(ids[mine].tolist(), words[mine].tolist(), strict=True):
            signal = self._catalogue.find(number)
            if signal is not None:
                power_w = signal.physical(word) if valid else None
                self._parts[self._powers[signal.full_name]].drew(power_w, self.clock.now_us())

    # -- what is told

    def _told(self, event: Event) -> None:
        if not self._quiet:
            self._tell_all(event)

    def _noted(self, event: Event) -> None:
        """An event that came with a note; those of alarms were told at once."""
        if not event.kind.startswith(("alarm.", "rule.")):
            self._told(event)

    async def _order(self, command: Command) -> Result:
        """An order that would have been given. What the device can do is not known here."""
        if command.target not in {name for one in self._targets for name in (one.id, one.device)}:
            reason = f"there is no station or device {command.target}"
            return Result(command.id, Outcome.REJECTED, reason, Refusal.NOT_CAPABLE, t_us=self.clock.now_us())
        data = {"action": command.action, "args": dict(command.args), "by": command.issuer}
        self._told(Event(ORDER, self.clock.now_us(), command.target, data))
        return Result(command.id, Outcome.DONE, "rehearsed", t_us=self.clock.now_us())


def newest(catalogue: Catalogue) -> list[Signal]:
    """Each name in its newest meaning."""
    found: dict[str, tuple[int, Signal]] = {}
    for signal, given in zip(catalogue.signals, catalogue.given, strict=True):
        if signal.full_name not in found or found[signal.full_name][0] < given:
            found[signal.full_name] = given, signal
    return [signal for _, signal in found.values()]
