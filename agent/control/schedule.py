"""Schedules: what is done with stations again and again.

Rules of this file:

1. Due times are reckoned (``cron.py``) and waited for with our own clock, looked at once a second. APScheduler's own
   scheduler reads the machine's clock and sleeps by itself: what a jump of that clock does to it could not be tested.
2. A line is due by wall time, an interval by monotonic time. While the clock is not set, both are held.
3. What was missed (late loop, clock forward, gateway off) is caught up with once, the newest of it, when it is not
   older than ``GRACE_S``; otherwise it is told as ``schedule.missed``. When the clock goes back, what was done is not
   done again for the same time, and what was not is to come; a step of more than ``WRONG_S`` says that the time before
   it was none.
4. A line's command is named by schedule and due time: done again after a restart, it is the same command, which is done
   once. An interval is noted before it is done.
5. A run that still lasts when it is due again is not doubled: the newest due time waits for its end.
6. ``*`` is each charger as a whole, so that none is told twice.
7. What one charger is told keeps its order. Chargers are told at the same time, ``AT_ONCE`` of them, whether ``*`` or
   their names stand there: one that is away must not keep the others waiting for as long as its command lives.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Literal

from agent.control.alarm_model import ALL
from agent.control.commands import MAX_ID
from agent.control.cron import Cron
from agent.control.memory import Memory
from agent.control.model import Command, JobInfo, Origin, Result
from agent.core.clock import Clock, is_set
from agent.core.model import Event, Number

logger = logging.getLogger(__name__)

NOTE = "schedule"
AT_ONCE = 16
GRACE_S = 3600.0
WRONG_S = 25 * 3600.0

_DIGEST = 16
_US = 1_000_000
_GRACE_US, _WRONG_US = round(GRACE_S * _US), round(WRONG_S * _US)

Execute = Callable[[Command], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Act:
    """What is done with one station, or with all (``*``): switched, limited, or one of its actions."""

    station: str
    set: Literal["on", "off", "toggle"] | None = None
    limit_a: Number | None = None
    do: str | None = None
    args: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A schedule: a crontab line or an interval, and what is done."""

    id: str
    cron: str | None = None
    every_s: float | None = None
    acts: tuple[Act, ...] = ()

    @property
    def issuer(self) -> str:
        """In whose name it acts."""
        return issuer_of(self.id)

    @property
    def rights(self) -> list[tuple[str, str, str]]:
        """What it may wish: (issuer, station, ``on`` or ``limit``)."""
        limits = [(self.issuer, act.station, "limit") for act in self.acts if act.limit_a is not None]
        return limits + [(self.issuer, act.station, "on") for act in self.acts if act.set is not None]


class Scheduler:
    """Runs the schedules. ``execute`` does their commands; ``record`` takes events; ``chargers`` says who ``*`` is."""

    def __init__(
        self,
        clock: Clock,
        memory: Memory,
        record: Callable[[Event], None],
        execute: Execute,
        chargers: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._record = record
        self._execute = execute
        self._chargers = chargers
        self._jobs: dict[str, _Job] = {}
        self._zone: tzinfo = UTC
        self._tasks: set[asyncio.Task[list[Result]]] = set()

    def apply(self, specs: Sequence[ScheduleSpec], zone: tzinfo) -> None:
        """These are the schedules now; what is unchanged goes on.

        Raises ``ConfigError`` for a bad line: then nothing is changed.
        """
        jobs: dict[str, _Job] = {}
        for spec in specs:
            job = self._jobs.get(spec.id)
            if job is None or (job.spec.cron, job.spec.every_s) != (spec.cron, spec.every_s) or zone != self._zone:
                job = _Job(spec, zone, self._memory.notebook.note(NOTE, spec.id))
            jobs[spec.id] = job
        for spec in specs:
            jobs[spec.id].spec = spec
        self._jobs, self._zone = jobs, zone

    def jobs(self) -> list[JobInfo]:
        """All schedules, in the order of the configuration."""
        return [job.info() for job in self._jobs.values()]

    async def run_now(self, schedule: str) -> list[Result] | None:
        """Do it now, out of turn; what came of each of its commands. None: there is no such schedule."""
        job = self._jobs.get(schedule)
        if job is None:
            return None
        task = self._start(self._acts(job, f"now {_text(self._clock.now_us())} {self._clock.monotonic_s():.6f}"))
        await asyncio.wait({task})
        return [] if task.cancelled() else task.result()

    def tick(self) -> None:
        """Once a second: start what is due."""
        now_us, now_s, good = self._clock.now_us(), self._clock.monotonic_s(), is_set(self._clock)
        for job in self._jobs.values():
            if job.running:
                continue
            due_us, missed_us = job.due(now_us, now_s) if good else job.hold()
            if missed_us is not None:
                data = {"due_us": missed_us, "grace_s": GRACE_S}
                self._record(Event("schedule.missed", now_us, job.spec.id, data))
            if due_us is not None or job.fresh:  # what is fresh is kept, so that it may be missed after a restart
                job.running = True
                self._start(self._run(job, due_us))

    async def close(self) -> None:
        """End what runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: "Awaitable[list[Result]]") -> "asyncio.Task[list[Result]]":
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)  # noqa: S101 - it was made of a coroutine
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, job: "_Job", due_us: int | None) -> list[Result]:
        try:
            if due_us is None or job.spec.every_s is not None:
                await self._keep(job)
            if due_us is not None:
                job.results = await self._acts(job, _text(due_us))
                if job.spec.cron is not None:
                    await self._keep(job)
        finally:
            job.running = False
        return job.results

    async def _acts(self, job: "_Job", name: str) -> list[Result]:
        """All acts. What came of them stands in the order in which they are written, whichever ended first."""
        spec = job.spec
        steps: list[tuple[Act, str, str]] = []
        for number, act in enumerate(spec.acts):
            if act.station == ALL:
                steps += [(act, charger, f"{name} {number} {charger}") for charger in self._chargers()]
            else:
                steps.append((act, act.station, f"{name} {number}"))
        results: list[list[Result]] = [[] for _ in steps]
        turns = asyncio.Semaphore(AT_ONCE)

        async def one_by_one(places: list[int]) -> None:
            for place in places:
                async with turns:
                    results[place] = await self._act(spec, *steps[place])

        queues: dict[str, list[int]] = {}
        for place, (_, station, _) in enumerate(steps):
            queues.setdefault(_charger_of(station), []).append(place)
        # An error of one does not end the others, nor is any of them left behind at work.
        ended = await asyncio.gather(*map(one_by_one, queues.values()), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        return [result for each in results for result in each]

    async def _act(self, spec: ScheduleSpec, act: Act, station: str, name: str) -> list[Result]:
        """One act on one station. A command has the same id whenever it is the same one."""
        results = []
        for action, args in _actions(act):
            command_id = _short(f"{spec.issuer} {name} {action}")
            command = Command(command_id, station, action, args, Origin.SCHEDULE, spec.issuer)
            results.append(await self._execute(command))
        return results

    async def _keep(self, job: "_Job") -> None:
        job.fresh = False
        spec = job.spec
        data = {"cron": spec.cron, "every_s": spec.every_s, "last_us": job.last_us, "seen_us": job.seen_us}
        await self._memory.write(NOTE, spec.id, data)


class _Job:
    """One schedule and when it is due."""

    def __init__(self, spec: ScheduleSpec, zone: tzinfo, note: Mapping[str, object] | None) -> None:
        self.spec = spec
        self.running = False
        self.results: list[Result] = []
        self.last_us: int | None = None
        self.seen_us: int | None = None  # since when it is known: what was due before is none of its business
        self.fresh = False  # there is something new to keep
        self._cron = None if spec.cron is None else Cron(spec.cron, zone)
        self._next_us: int | None = None
        self._next_s: float | None = None
        self._asked_us: int | None = None  # when the clock was read last
        if note is not None and (note.get("cron"), note.get("every_s")) == (spec.cron, spec.every_s):
            self.last_us, self.seen_us = _time(note.get("last_us")), _time(note.get("seen_us"))

    def info(self) -> JobInfo:
        """As it is now."""
        spec = self.spec
        toggles = any(act.set == "toggle" for act in spec.acts)
        return JobInfo(
            spec.id, spec.cron, spec.every_s, self.last_us, self._next_us, self.running, self.results, toggles
        )

    def hold(self) -> tuple[None, None]:
        """Nothing is due: the time is not known. It begins anew when it is."""
        self._next_us = self._next_s = self._asked_us = None
        return None, None

    def due(self, now_us: int, now_s: float) -> tuple[int | None, int | None]:
        """What is to be done now, by its due time, and what was missed. Whatever is given was due, and is not again."""
        if self.seen_us is None:
            self.seen_us, self.fresh = now_us, True
        if self._cron is None:
            return self._interval(now_us, now_s), None
        return self._line(self._cron, now_us)

    def _line(self, cron: Cron, now_us: int) -> tuple[int | None, int | None]:
        if self._asked_us is None or now_us < self._asked_us:  # the start, or the clock went back
            if self.seen_us is None or self.seen_us > now_us:
                # Nothing was done since then: what is to come is not left out because the clock was ahead.
                self.seen_us, self.fresh = now_us, True
            done_us = self.last_us if self.last_us is not None and self.last_us - now_us <= _WRONG_US else 0
            self._next_us = cron.next_us(max(done_us, self.seen_us))
        self._asked_us = now_us
        if self._next_us is None or self._next_us > now_us:
            return None, None
        missed_us, newest_us = self._next_us, None
        due_us: int | None = max(self._next_us, now_us - _GRACE_US)
        if due_us is not None and due_us > self._next_us:
            due_us = cron.next_us(due_us - 1)
        while due_us is not None and due_us <= now_us:
            newest_us, due_us = due_us, cron.next_us(due_us)
        self._next_us = due_us
        if newest_us is None:
            self.seen_us, self.fresh = now_us, True
            return None, missed_us
        self.last_us = newest_us
        return newest_us, None

    def _interval(self, now_us: int, now_s: float) -> int | None:
        every_s = self.spec.every_s or 0.0
        if self._next_s is None:
            # One that was never done yet counts from when it was first seen: else restarts would put it off for ever.
            since_us = self.seen_us if self.last_us is None else self.last_us
            since_s = 0.0 if since_us is None else (now_us - since_us) / 1e6
            self._next_s = now_s + (every_s if since_s < 0 else max(0.0, every_s - since_s))
        due = now_s >= self._next_s
        if due:
            late_s = (now_s - self._next_s) % every_s
            self._next_s = now_s - late_s + every_s
            self.last_us = now_us
        self._next_us = now_us + round((self._next_s - now_s) * 1e6)
        return now_us if due else None


def rights_of(specs: Iterable[ScheduleSpec], chargers: Sequence[str]) -> set[tuple[str, str, str]]:
    """What all may wish, where ``*`` is these chargers."""
    return {
        (issuer, name, what)
        for spec in specs
        for issuer, station, what in spec.rights
        for name in (chargers if station == ALL else (station,))
    }


def issuer_of(schedule: str) -> str:
    """In whose name a schedule acts."""
    return f"schedule:{schedule}"


def _charger_of(station: str) -> str:
    """``cp2`` of ``cp2`` and ``cp2.1``: names of devices have no dot."""
    return station.partition(".")[0]


def _actions(act: Act) -> list[tuple[str, Mapping[str, object]]]:
    """The commands of an act: limit first, so that it never draws more in between."""
    found: list[tuple[str, Mapping[str, object]]] = []
    if act.limit_a is not None:
        found.append(("limit", {"limit_a": act.limit_a}))
    if act.set is not None:
        found.append((act.set, {}))
    if act.do is not None:
        found.append((act.do, dict(act.args)))
    return found


def _short(text: str) -> str:
    """A command's id that is not too long, and another one for another text."""
    if len(text) <= MAX_ID:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{text[: MAX_ID - _DIGEST - 1]}~{digest}"


def _text(t_us: int) -> str:
    return datetime.fromtimestamp(t_us // _US, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
