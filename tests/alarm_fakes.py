"""Alarms over fakes: a notebook, stations that write down what is wished, and signals that tests set."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

from agent.control.alarm_model import AlarmStatus, RuleAct, RuleSpec, Severity
from agent.control.alarms import AlarmBook
from agent.control.memory import Memory
from agent.control.model import Command, Origin, Outcome, Result, Station, Wish
from agent.control.when import parse, parse_clear
from agent.core.clock import FakeClock
from agent.core.model import Batch, Encoding, Event, Number, Signal, float_to_word
from agent.core.ports import Action
from agent.pipeline.columns import rows_of
from tests.control_fakes import NOON_US, FakeNotebook, Killer, settle

TEMPERATURE = Signal("battery1", "temperature_max_degc", unit="°C", encoding=Encoding.FLOAT, id=1)
SOC = Signal("battery1", "soc_pct", unit="%", encoding=Encoding.FLOAT, id=2)
SIGNALS = (TEMPERATURE, SOC)
OFF = RuleAct("cp1", on=False)


def hot(name: str = "hot", clear: str | None = "< 45", **more: Any) -> RuleSpec:  # noqa: ANN401 - fields of a spec
    """An alarm: too hot above 50, over below 45; at once unless told otherwise."""
    when = parse("battery1.temperature_max_degc > 50")
    fields: dict[str, Any] = {
        "clear": None if clear is None else parse_clear(clear, when),
        "clear_for_s": 0,
        "severity": Severity.CRITICAL,
        "text": "Too hot",
        "acts": (OFF,),
        "device": "battery1",
    }
    return RuleSpec(name, when, **{**fields, **more})


def low(name: str = "low", **more: Any) -> RuleSpec:  # noqa: ANN401 - fields of a spec
    """A rule: nearly empty."""
    fields: dict[str, Any] = {"clear_for_s": 0, "severity": None, "acts": (OFF,), "origin": Origin.RULE}
    return RuleSpec(name, parse("battery1.soc_pct < 20"), **{**fields, **more})


class FakeStations:
    """What is wished now, by key; each change in ``log``."""

    def __init__(self) -> None:
        self.wishes: dict[str, tuple[Wish, ...]] = {}
        self.log: list[tuple[str, tuple[Wish, ...]]] = []
        can = {"stop": Action("stop")}
        self.known = [Station("cp1", "cp1", 0, "", {}, can), Station("cp1.2", "cp1", 2, "", {}, can)]
        self.known += [Station("cp2", "cp2", 0, "", {}, {}), Station("cp3.2", "cp3", 2, "", {}, can)]

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        self.log.append((key, tuple(wishes)))
        self.wishes[key] = tuple(wishes)
        if not wishes:
            del self.wishes[key]

    def snapshots(self) -> Sequence[Station]:
        return self.known

    @property
    def off(self) -> set[str]:
        """Who wishes anything off."""
        return {key for key, wishes in self.wishes.items() if any(one.on is False for one in wishes)}


@dataclass
class Rig:
    """A book of alarms. ``restarted`` is the next process over the same notebook."""

    specs: Sequence[RuleSpec] = ()
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOON_US))
    killer: Killer = field(default_factory=Killer)
    kept: FakeNotebook | None = None
    done: dict[str, Result] = field(default_factory=dict)  #: as the records of commands, which outlive a restart
    zone: tzinfo = UTC

    def __post_init__(self) -> None:
        self.notebook = FakeNotebook(self.killer, self.kept)
        self.stations = FakeStations()
        self.recorded: list[Event] = []
        self.heard: list[Event] = []
        self.commands: list[Command] = []
        self.outcome = Outcome.DONE
        self.unknown: list[str] = []
        memory = Memory(self.notebook)
        self.book = AlarmBook(
            self.clock, memory, self.recorded.append, self.stations, self.execute, tell=self.heard.append
        )

    async def execute(self, command: Command) -> Result:
        await self.killer.step()
        if command.id not in self.done:
            self.commands.append(command)
            self.done[command.id] = Result(command.id, self.outcome, "as the test says")
        await self.killer.step()
        return self.done[command.id]

    def start(self) -> "Rig":
        self.unknown = self.book.apply(self.specs, SIGNALS, self.zone)
        return self

    def restarted(self, killer: Killer | None = None, specs: Sequence[RuleSpec] | None = None) -> "Rig":
        specs = self.specs if specs is None else specs
        return Rig(specs, self.clock, killer or Killer(), self.notebook, self.done, self.zone)

    def put(self, value: Number | None, signal: Signal = TEMPERATURE) -> None:
        """A value comes from the wire; None: it is not known any more."""
        word = 0 if value is None else float_to_word(value)
        columns = array("i", [signal.id]), array("q", [self.clock.now_us()]), array("q", [word])
        self.book.engine.rows(rows_of(Batch(*columns, valid=value is not None)), self.clock.monotonic_s())

    async def heat(self, *values: Number | None) -> None:
        """Temperatures, each with time for what follows from it."""
        for value in values:
            self.put(value)
            await settle()

    async def wait(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass, with a tick each step."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.book.tick()
            await settle(6)

    def status(self, name: str = "hot") -> AlarmStatus:
        found = self.book.alarm(name)
        assert found is not None
        return found

    @property
    def kinds(self) -> list[str]:
        """What was told, in order."""
        return [event.kind for event in self.heard]

    def told(self, kind: str) -> Event:
        """The only event of that kind."""
        (event,) = [event for event in self.heard if event.kind == kind]
        return event

    @property
    def ledger(self) -> list[Event]:
        """What is on the ledger, whichever way it came there."""
        return [*self.notebook.events, *self.recorded]
