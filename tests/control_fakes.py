"""In-memory counterparts of control: notebook, devices, values, and a kill at any step."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.control.model import Command, Origin, Result
from agent.control.schedule import ScheduleSpec
from agent.control.service import ControlService
from agent.control.station import Target
from agent.control.switching import DEFAULT_LIMITS, SwitchLimits
from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event, Number, Signal
from agent.core.ports import Action, Latest, Setting

#: 2026-03-28 12:00 UTC, the day before the clocks of Europe go forward.
NOON_US = 1_774_699_200_000_000
LIMIT, ENABLED = "current_limit_a", "charging_enabled"


class Killer:
    """Counts the steps at which a process may be killed; from step ``at`` on nothing goes on any more."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0
        self.dead = False

    async def step(self) -> None:
        self.dead = self.dead or (self.at is not None and self.steps >= self.at)
        if self.dead:
            await asyncio.Event().wait()
        self.steps += 1
        await asyncio.sleep(0)


class FakeNotebook:
    """``Notebook`` over a dictionary; what was not awaited to its end is not there after a kill."""

    def __init__(self, killer: Killer | None = None, kept: "FakeNotebook | None" = None) -> None:
        self._killer = killer or Killer()
        self._notes: dict[str, dict[str, str]] = (
            {} if kept is None else {kind: dict(one) for kind, one in kept._notes.items()}
        )
        self.events: list[Event] = []
        self.writes = 0
        self.failing = False

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        return self.notes(kind).get(key)

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        return {key: json.loads(text) for key, text in self._notes.get(kind, {}).items()}

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        text = None if data is None else json.dumps(data)
        await self._killer.step()
        if self.failing:
            raise StoreError("write a note", "the disk is full", "free some space")
        self.writes += 1
        if text is None:
            self._notes.get(kind, {}).pop(key, None)
        else:
            self._notes.setdefault(kind, {})[key] = text
        self.events += [Event(one.kind, one.t_us, one.subject, json.loads(json.dumps(one.data))) for one in events]
        await self._killer.step()


class FakeDevice:
    """``Commandable`` and ``Operable``: 6 to 32 A or 0, a switch; what it was told is in ``log``."""

    def __init__(self, *points: str, killer: Killer | None = None, zero: bool = True) -> None:
        settings = {
            LIMIT: Setting("cp1", LIMIT, "A", 6, 32, zero=zero, safe=6),
            ENABLED: Setting("cp1", ENABLED, "", 0, 1),
        }
        wanted = points or (LIMIT, ENABLED)
        self.settings: Mapping[str, Setting] = {name: settings[name.partition(".")[0]] for name in wanted}
        self.actions: Mapping[str, Action] = {
            "reset": Action("restart it"),
            "start": Action("start", {"type": "object", "properties": {"outlet": {"type": "integer"}, "id_tag": {}}}),
        }
        self._killer = killer or Killer()
        self.now: dict[str, Number] = {}
        self.log: list[tuple[str, Number]] = []
        self.acted: list[tuple[str, dict[str, object]]] = []
        self.fails: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def set(self, point: str, value: Number) -> Number:
        await self._killer.step()
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        self.log.append((point, value))
        self.now[point] = value
        await self._killer.step()
        return value

    def release(self) -> None:
        self.now.clear()

    async def act(self, action: str, args: Mapping[str, object]) -> Mapping[str, object]:
        await self._killer.step()
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        self.acted.append((action, dict(args)))
        await self._killer.step()
        return {"status": "Accepted"}


class FakeValues:
    """``LatestView``, and the signals that there are: full name -> (value, when it was heard)."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.heard: dict[str, tuple[Number | None, float]] = {}

    def put(self, name: str, value: Number | None) -> None:
        self.heard[name] = value, self._clock.monotonic_s()

    def find(self, device: str, name: str) -> Signal | None:
        return Signal(device, name, id=1) if f"{device}.{name}" in self.heard else None

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        now_s = self._clock.monotonic_s()
        found = [(signal, *self.heard[signal.full_name]) for signal in signals]
        return [Latest(signal, value, 1, now_s - heard_s) for signal, value, heard_s in found]


@dataclass
class Rig:
    """A control service over fakes. ``restarted`` is the next process over the same notebook."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOON_US))
    killer: Killer = field(default_factory=Killer)
    schedules: Sequence[ScheduleSpec] = ()
    zone: str = "UTC"
    kept: FakeNotebook | None = None
    device: FakeDevice | None = None
    values: FakeValues | None = None
    limits: SwitchLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        self.notebook = FakeNotebook(self.killer, self.kept)
        self.charger = self.device or FakeDevice(killer=self.killer)
        self.charger._killer = self.killer
        self.view = self.values or FakeValues(self.clock)
        self.recorded: list[Event] = []
        self.service = ControlService(self.clock, self.notebook, self.recorded.append, self.view, self.view.find)
        self._count = 0

    async def start(self) -> "Rig":
        target = Target("cp1", "cp1", 0, "Left", self.charger, self.charger, self.limits)
        await self.service.apply([target], self.schedules, self.zone)
        await self.service._commands.recover()
        return self

    def restarted(self, killer: Killer | None = None) -> "Rig":
        return Rig(
            self.clock,
            killer or Killer(),
            self.schedules,
            self.zone,
            self.notebook,
            self.charger,
            self.view,
            self.limits,
        )

    def command(self, action: str, issuer: str = "user:ana", origin: Origin = Origin.MANUAL, **args: object) -> Command:
        self._count += 1
        name = f"c{self._count}-{self.clock.monotonic_s()}"
        return Command(name, "cp1", action, args, origin, issuer)

    async def do(self, action: str, issuer: str = "user:ana", origin: Origin = Origin.MANUAL, **args: object) -> Result:
        return await self.service.execute(self.command(action, issuer, origin, **args))

    async def wait(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass, with a tick each step."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.service.tick()
            await settle()

    @property
    def events(self) -> list[Event]:
        """All that was told, whichever way."""
        return [*self.recorded, *self.notebook.events]

    def told(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]


async def settle(turns: int = 80) -> None:
    """Let all tasks go on as far as they come without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function as a test."""

    async def whole() -> None:
        await test()

    asyncio.run(whole())
