"""A gateway as the API sees it: real hub, made-up wires and history."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from argon2 import PasswordHasher

from agent.api.auth import Auth
from agent.api.passwords import Passwords
from agent.api.view import DeviceInfo, History, HistoryPoint, PartHealth, PendingCharger, SiteInfo
from agent.control.model import Command, Decision, JobInfo, Origin, Outcome, Result, Station, Wish
from agent.core.clock import Clock
from agent.core.errors import CommandRejected, ConfigError, Refusal, StoreError
from agent.core.model import Batch, Encoding, Event, Kind, Number, Session, Signal
from agent.core.ports import Action, ChannelStatus, Latest, Setting
from agent.pipeline.health import Health, UnitState, WireState
from agent.pipeline.hub import Hub, Subscription

SOC = Signal("battery1", "soc_pct", unit="%", source="0x355 Pack.SOC", id=1)
VOLTAGE = Signal("battery1", "voltage_v", unit="V", scale=0.01, id=2)
MODE = Signal("battery1", "state", kind=Kind.STATE, labels={1: "charging", 2: "idle"}, id=3)
TEMPERATURE = Signal("battery1", "temperature_degc", unit="°C", encoding=Encoding.FLOAT, id=4)
POWER = Signal("meter1", "power_w", unit="W", id=5)
RETIRED = Signal("old", "power_w", unit="W", id=6)

START_US = 1_700_000_000_000_000


def wire(name: str, device: str, state: Health, **more: object) -> WireState:
    """A wire's state with one device; ``more`` replaces fields."""
    fields: dict[str, object] = {
        "name": name,
        "devices": (device,),
        "state": state,
        "since_us": START_US,
        "last_error": "",
        "hint": "",
        "next_try_s": None,
        "restarts": 0,
        "counters": {},
        "last_put_age_s": None,
    }
    return WireState(**{**fields, **more})  # type: ignore[arg-type]


@dataclass
class FakeView:
    """``GatewayView`` for tests."""

    clock: Clock
    known: list[Signal] = field(default_factory=lambda: [SOC, VOLTAGE, MODE, TEMPERATURE, POWER])
    parts: list[PartHealth] = field(default_factory=lambda: [PartHealth("db", ok=True)])
    points: list[HistoryPoint] = field(default_factory=list)
    asked: list[tuple[Signal, int, int, int]] = field(default_factory=list)
    history_error: Exception | None = None
    units: dict[str, UnitState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hub = Hub(self.clock)
        self.wires = [
            wire("socketcan:can0", "battery1", Health.ONLINE, counters={"rows": 12, "bad.too_short": 1}),
            wire(
                "socketcan:can1",
                "meter1",
                Health.OFFLINE,
                last_error="open can1: no such device",
                hint="is the adapter plugged in?",
                next_try_s=3.25,
                restarts=7,
                last_put_age_s=1.5,
            ),
        ]

    def put(self, *rows: tuple[Signal, int], t_us: int = START_US) -> None:
        """Rows through the hub, as the pipeline does it."""
        ids, words = [signal.id for signal, _ in rows], [word for _, word in rows]
        batch = Batch(array("i", ids), array("q", [t_us] * len(ids)), array("q", words))
        self.hub.update(batch)
        self.hub.publish(batch)

    def site(self) -> SiteInfo:
        return SiteInfo("depot-7", "Depot 7", "UTC", "1.2.3", "0f" * 16, "mqtts://central.example:8883")

    def signals(self) -> Sequence[Signal]:
        return self.known

    def signal(self, name_or_id: str) -> Signal | None:
        for signal in (*self.known, RETIRED):
            if name_or_id in {signal.full_name, str(signal.id)}:
                return signal
        return None

    def devices(self) -> Sequence[DeviceInfo]:
        return [
            DeviceInfo("battery1", "can", self.wires[0], self.units.get("battery1")),
            DeviceInfo("meter1", "can", self.wires[1]),
            DeviceInfo("later", "can", None),
        ]

    def own(self) -> DeviceInfo:
        return DeviceInfo("gateway", "gateway", None)

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        return self.hub.latest(signals)

    def history(self, signal: Signal, from_us: int, to_us: int, points: int) -> History:
        self.asked.append((signal, from_us, to_us, points))
        if self.history_error:
            raise self.history_error
        return History(60.0, self.points)

    def health(self) -> Sequence[PartHealth]:
        return self.parts

    def counters(self) -> Mapping[str, Mapping[str, Number]]:
        return {"store": {"rows_total": 99, "bytes": 4096}, "hub": self.hub.counters()}

    def subscribe(self) -> Subscription:
        return self.hub.subscribe()


STORE_DOWN = StoreError("read history", "the database is gone", "see the log")


def quick_passwords() -> Passwords:
    """Argon2id with the least work that it takes: log-ins of tests cost microseconds."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def quick_auth(folder: Path, clock: Clock, record: Callable[[Event], None] = lambda event: None) -> Auth:
    """Authentication whose users stand in that folder."""
    return Auth(folder, clock, record, quick_passwords())


LIMIT = Setting("cp1", "current_limit_a", "A", 6, 32, zero=True, safe=6)
RESET = Action("restart it", {"type": "object", "properties": {"type": {"enum": ["Soft", "Hard"]}}})


@dataclass
class FakeControl:
    """``Control`` for tests: two stations, of which one does what it is told."""

    clock: Clock
    commands: list[Command] = field(default_factory=list)
    refusal: Refusal | None = None
    outcome: Outcome = Outcome.DONE
    ran: list[str] = field(default_factory=list)
    schedules: list[JobInfo] | None = None  #: None: two of them

    def __post_init__(self) -> None:
        settings, actions = {"current_limit_a": LIMIT}, {"reset": RESET}
        self.known = {
            "battery1": Station("battery1", "battery1", 1, "Battery", settings, actions),
            "meter1.2": Station("meter1.2", "meter1", 2, "Second", {}, {}, on=False, limit_a=0, following=True),
        }

    def stations(self) -> Sequence[Station]:
        return list(self.known.values())

    def station(self, station_id: str) -> Station | None:
        return self.known.get(station_id)

    def why(self, station_id: str, limit: int = 20) -> Sequence[Decision]:
        wish = Wish(station_id, "user:ana", Origin.MANUAL, on=True, limit_a=16, reason="by hand", since_us=START_US)
        done = Decision(station_id, START_US, on=True, limit_a=16, winner=wish, reason="ana wants it", wishes=[wish])
        return [done, Decision(station_id, START_US - 1, None, None, None, "nobody wants anything")][:limit]

    async def execute(self, command: Command) -> Result:
        self.commands.append(command)
        if self.refusal is not None:
            return Result(command.id, Outcome.REJECTED, "it may not be", self.refusal, t_us=self.clock.now_us())
        station = self.known.get(command.target)
        if station is not None and command.action in {"on", "off"}:
            self.known[command.target] = replace(station, on=command.action == "on")
        return Result(command.id, self.outcome, "", None, {"set": dict(command.args)}, self.clock.now_us())

    def jobs(self) -> Sequence[JobInfo]:
        if self.schedules is not None:
            return self.schedules
        done = Result("schedule:night_off 1", Outcome.DONE, t_us=START_US)
        return [
            JobInfo("night_off", "0 22 * * *", None, None, START_US, running=False),
            JobInfo("toggle", None, 60.0, START_US, START_US + 60_000_000, running=True, results=[done]),
        ]

    async def run_now(self, schedule_id: str) -> Sequence[Result] | None:
        if schedule_id not in {"night_off", "toggle"}:
            return None
        self.ran.append(schedule_id)
        return [Result("1", Outcome.REJECTED, "it may not be", self.refusal), Result("2", self.outcome)]


@dataclass
class FakeDeriver:
    """Where derived wishes stand, for tests."""

    now: dict[str, Sequence[Wish]] = field(default_factory=dict)

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        self.now[key] = wishes


@dataclass
class FakeNotebook:
    """``Notebook`` for tests, in memory."""

    kept: dict[str, dict[str, Mapping[str, object]]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        return self.kept.get(kind, {}).get(key)

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        return dict(self.kept.get(kind, {}))

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        if data is None:
            self.kept.get(kind, {}).pop(key, None)
        else:
            self.kept.setdefault(kind, {})[key] = data
        self.events.extend(events)


@dataclass
class FakeSessions:
    """``SessionBook`` for tests."""

    known: list[Session] = field(default_factory=list)

    def list_sessions(
        self,
        device: str | None = None,
        running: bool | None = None,  # noqa: FBT001 - the port's
        from_us: int | None = None,
        to_us: int | None = None,
        *,
        outlet: int | None = None,
        newest_first: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[int, Sequence[Session]]:
        found = [
            one
            for one in self.known
            if (device is None or one.device == device)
            and (running is None or one.running == running)
            and (from_us is None or one.start_us >= from_us)
            and (to_us is None or one.start_us < to_us)
            and (outlet is None or one.outlet == outlet)
        ]
        found.sort(key=lambda one: one.id, reverse=newest_first)
        return len(found), found[offset : offset + limit]

    def session(self, number: int) -> Session | None:
        return next((one for one in self.known if one.id == number), None)


@dataclass
class FakeEditor:
    """``SiteEditor`` for tests: writes down what it is asked to do."""

    asked: list[tuple[str, object]] = field(default_factory=list)
    error: ConfigError | None = None

    def add(self, entry: Mapping[str, object]) -> None:
        self._do("add", entry)

    def replace(self, device: str, entry: Mapping[str, object]) -> None:
        self._do("replace", (device, entry))

    def remove(self, device: str) -> None:
        self._do("remove", device)

    def _do(self, what: str, about: object) -> None:
        if self.error:
            raise self.error
        self.asked.append((what, about))


def fake_hash(tag: str) -> str:
    """As ``tag_hash``: hex digits, another for each tag."""
    return tag.encode().hex()[:12] if tag else ""


KNOCKING = PendingCharger(
    "CP-0002", "10.0.0.21:40312", "ocpp1.6", "it is not configured", START_US, START_US + 1, {"vendor": "ACME"}
)


class FakeChannels:
    """One channel that works; ``error`` is what a test message comes to."""

    error = ""

    def status(self) -> list[ChannelStatus]:
        return [ChannelStatus("ops", 2, 1, 7, 3, 0, "line 2 (json): refused", START_US, 4.5)]

    async def test(self, channel_id: str) -> str:
        if channel_id != "ops":
            raise CommandRejected("test a channel", Refusal.NOT_CAPABLE, "there is none of that name")
        return self.error
