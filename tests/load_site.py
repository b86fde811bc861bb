"""A site in fast motion for load management: base load, chargers that follow late or never, meters that tell late."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agent.control.load_model import LoadSettings
from agent.control.loads import LoadManager
from agent.control.model import Station, Wish
from agent.control.outputs import LIMIT
from agent.control.station import StationRunner
from agent.core.clock import FakeClock
from agent.core.model import Event, Number, Signal
from agent.core.ports import Latest, Setting

#: A step of the site's physics. The manager ticks once a second.
STEP_S = 0.5
STATUS = dict(enumerate(("Available", "Charging", "SuspendedEV", "Faulted")))


@dataclass
class Charger:
    """One outlet with its vehicle. It follows ``lag_s`` after it was told; ``deaf``: never."""

    id: str
    phases: tuple[int, ...] = (1, 2, 3)  #: the grid's, in the order of its own; a vehicle uses the first ``uses``
    uses: int = 3
    takes_a: float = 32  #: what the vehicle takes at most; 0: it is full
    plugged: bool = True
    lag_s: float = 3
    deaf: bool = False
    meter_lag_s: float = 2
    every_s: float = 1  #: between samples of its meter
    metered: bool = True
    quiet: bool = False  #: it tells nothing now
    safe_a: float | None = 6
    min_a: float = 6
    max_a: float = 32
    following: bool | None = None
    limit_a: float | None = None  #: what it obeys now; None: its maximum
    told: list[tuple[float, float]] = field(default_factory=list)  #: when it was told what

    def obey(self, now_s: float) -> None:
        while not self.deaf and self.told and now_s >= self.told[0][0] + self.lag_s:
            self.limit_a = self.told.pop(0)[1]

    @property
    def draws_a(self) -> float:
        """On each phase in use."""
        if not self.plugged:
            return 0
        may_a = self.max_a if self.limit_a is None else self.limit_a
        return min(may_a, self.takes_a) if may_a >= self.min_a else 0

    def on(self, phase: int) -> float:
        return self.draws_a if phase in self.phases[: self.uses] else 0


class Stations:
    """``Managed`` over the chargers."""

    def __init__(self, clock: FakeClock, chargers: dict[str, Charger]) -> None:
        self.clock = clock
        self.chargers = chargers
        self.wishes: dict[str, Wish] = {}
        self.derived = 0
        self.changes = 0

    def snapshots(self) -> Sequence[Station]:
        return [
            Station(
                one.id,
                one.id,
                0,
                one.id,
                {LIMIT: Setting(one.id, LIMIT, "A", one.min_a, one.max_a, zero=True, safe=one.safe_a)},
                {},
                following=one.following,
            )
            for one in self.chargers.values()
        ]

    def find(self, station: str) -> StationRunner | None:
        return None

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        self.derived += 1
        new = {wish.station: wish for wish in wishes}
        for name, wish in new.items():
            before = self.wishes.get(name)
            if wish.limit_a is not None and (before is None or before.limit_a != wish.limit_a):
                self.changes += 1
                self.chargers[name].told.append((self.clock.monotonic_s(), float(wish.limit_a)))
        self.wishes = new


class Site:
    """``LatestView`` over chargers, a base load by time and phase, and the manager."""

    def __init__(
        self,
        chargers: Sequence[Charger],
        base_a: Callable[[float, int], float],
        settings: LoadSettings,
        *,
        meter_lag_s: float = 1,
    ) -> None:
        self.clock = FakeClock()
        self.chargers = {one.id: one for one in chargers}
        self.base_a = base_a
        self.settings = settings
        self.meter_lag_s = meter_lag_s
        self.meter_dead = False
        self.meter_shows: dict[int, float] | None = None  #: by phase, whatever is drawn; None: what is
        self.values: dict[str, tuple[Number | None, float]] = {}
        self._coming: list[tuple[float, str, Number]] = []
        self.events: list[Event] = []
        self.stations = Stations(self.clock, self.chargers)
        self.start_s = self.clock.monotonic_s()
        self.worst_a = 0.0
        self.over: dict[float, dict[int, float]] = {0.0: {}, 0.1: {}}  # share of the limit -> phase -> since when
        self.longest_s = {0.0: 0.0, 0.1: 0.0}
        self.energy_as = dict.fromkeys(self.chargers, 0.0)
        self.waits_s = dict.fromkeys(self.chargers, 0.0)
        self.longest_wait_s = 0.0
        self.manager = LoadManager(self.clock, self, self.find, self.stations, self.events.append)
        self.manager.apply(settings)

    # --- LatestView and find

    def find(self, device: str, name: str) -> Signal | None:
        if f"{device}.{name}" not in self.values:
            return None
        return Signal(device, name, id=1, labels=STATUS if name == "charger_status" else {})

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        now_s = self.clock.monotonic_s()
        found = [(signal, *self.values[signal.full_name]) for signal in signals]
        return [Latest(signal, value, 1, now_s - heard_s) for signal, value, heard_s in found]

    def put(self, name: str, value: Number | None) -> None:
        self.values[name] = value, self.clock.monotonic_s()

    # --- time

    @property
    def now_s(self) -> float:
        """Since the start."""
        return self.clock.monotonic_s() - self.start_s

    def forget_worst(self) -> None:
        """Measure overshoot from now on."""
        self.worst_a = 0.0
        self.longest_s = dict.fromkeys(self.longest_s, 0.0)
        for since in self.over.values():
            since.clear()

    def told_of(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events)

    def limits(self) -> dict[str, float]:
        return {name: float(wish.limit_a or 0) for name, wish in self.stations.wishes.items()}

    def phase_a(self, phase: int) -> float:
        return self.base_a(self.now_s, phase) + sum(one.on(phase) for one in self.chargers.values())

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.clock.advance(STEP_S)
            self._move()
            if self.now_s % 1 == 0:
                self._measure()
                self._arrive()
                self.manager.tick()
                each()

    def _move(self) -> None:
        now_s = self.clock.monotonic_s()
        for one in self.chargers.values():
            one.obey(now_s)
            self.energy_as[one.id] += STEP_S * one.draws_a
            wants = one.plugged and one.takes_a > 0
            self.waits_s[one.id] = self.waits_s[one.id] + STEP_S if wants and not one.draws_a else 0.0
            self.longest_wait_s = max(self.longest_wait_s, self.waits_s[one.id])
        for phase in (1, 2, 3):
            over_a = self.phase_a(phase) - self.settings.limit_a
            self.worst_a = max(self.worst_a, over_a)
            for share, since in self.over.items():
                if over_a <= share * self.settings.limit_a + 1e-6:
                    since.pop(phase, None)
                    continue
                lasts_s = now_s - since.setdefault(phase, now_s - STEP_S)
                self.longest_s[share] = max(self.longest_s[share], lasts_s)

    def _measure(self) -> None:
        now_s = self.clock.monotonic_s()
        if not self.meter_dead:
            for phase in (1, 2, 3):
                shown_a = self.phase_a(phase) if self.meter_shows is None else self.meter_shows[phase]
                self._coming.append((now_s + self.meter_lag_s, f"grid.current_l{phase}_a", shown_a))
        for index, one in enumerate(self.chargers.values()):
            if one.quiet or (self.now_s + index) % one.every_s:
                continue
            self._coming.append((now_s + one.meter_lag_s, f"{one.id}.charger_status", int(one.plugged)))
            if one.metered:
                for number in (1, 2, 3):
                    current_a = one.draws_a if number <= one.uses else 0
                    self._coming.append((now_s + one.meter_lag_s, f"{one.id}.current_l{number}_a", current_a))

    def _arrive(self) -> None:
        now_s = self.clock.monotonic_s()
        due = [one for one in self._coming if one[0] <= now_s]
        self._coming = [one for one in self._coming if one[0] > now_s]
        quiet = tuple(f"{one.id}." for one in self.chargers.values() if one.quiet)
        for at_s, name, value in due:
            if not name.startswith(quiet):
                self.values[name] = value, at_s
