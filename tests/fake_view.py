"""A gateway as the API sees it: real hub, made-up wires and history."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.api.view import DeviceInfo, History, HistoryPoint, PartHealth, SiteInfo
from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Batch, Encoding, Kind, Number, Signal
from agent.core.ports import Latest
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
        return SiteInfo("depot-7", "Depot 7", "UTC", "1.2.3", "0f" * 16)

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
