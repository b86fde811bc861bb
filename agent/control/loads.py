"""Load management over time: never more than the site's limit on any phase, and all of it for those that want it.

Rules of this file:

1. Once a second: what the meter shows, less what stations draw, is the rest of the site. The limit less the rest and a
   margin is the stations' (``sharing.py``); it reaches them step by step (``pacing.py``).
2. A station's reading and the meter's are never of the same moment. So for what stands the lowest rest of the last
   seconds counts, as long as the meter itself shows no overload; for what is raised the highest.
3. The meter is silent for ``silent_s``: each station goes to its fail-safe, and none goes up. It is back: the limits
   rise from there, by fresh readings.
4. Nothing is decided before the stations' readings are there, or ``START_S`` have passed: a restart interrupts nobody.
5. The outlets of a charger take part; the charger as a whole where they can't be limited one by one.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.control.arbiter import decide, under
from agent.control.demand import Demand, on_grid
from agent.control.load_inputs import Battery, Find, GridReading, read_grid, sense
from agent.control.load_model import KEY, LoadSettings, LoadStatus, PhaseLoad, StationLoad, StationShare
from agent.control.model import Origin, Station, Wish
from agent.control.outputs import LIMIT, can_limit, pauses
from agent.control.pacing import Pacer, Round
from agent.control.sharing import Need, Seat, allocate, totals
from agent.control.station import StationRunner
from agent.control.turns import Turns
from agent.core.clock import Clock
from agent.core.model import Event
from agent.core.ports import LatestView, Setting

#: IEC 61851-1 knows no charging current below this.
LEAST_A = 6.0
#: The step of a station that takes any value: finer ones would be written for nothing.
STEP_A = 0.5
LEAST_MARGIN_A = 1.0
MARGIN = 0.03
START_S, OVERLOADED_START_S = 15.0, 4.0
#: How long the lowest, and the highest, rest of the site is remembered.
LOW_S, HIGH_S = 12.0, 5.0
#: So much more than its minimum must be left before a paused station begins again.
RESUME_A = 2.0
#: A station without a vehicle that had to give up its standing limit gets it back so much later at the earliest.
IDLE_S = 900.0
#: Readings of the meter that are older raise nobody.
FRESH_S = 5.0
OVER_S = 30.0
NOMINAL_V = 230.0


class Managed(Protocol):
    """What of the stations is needed."""

    def snapshots(self) -> Sequence[Station]:
        """All as they are now."""

    def find(self, station: str) -> StationRunner | None:
        """One of them."""

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        """Exactly these wishes stand from now on under this key."""


@dataclass(slots=True)
class _One:
    """A station that takes part."""

    station: Station
    setting: Setting
    share: StationShare
    whole: bool
    min_off_s: float
    demand: Demand
    own: tuple[int, ...]  #: the grid's phases, from 0, in the order of its own; empty: not known
    may_a: float = math.inf  #: what others let it draw
    off: bool = False


@dataclass(frozen=True, slots=True)
class _Rest:
    """The rest of the site on each phase: as it stands, and as it must be reckoned with."""

    low_a: Sequence[float]
    high_a: Sequence[float]


class LoadManager:
    """``apply`` says how; ``tick`` once a second, before that of the stations."""

    def __init__(
        self, clock: Clock, view: LatestView, find: Find, stations: Managed, record: Callable[[Event], None]
    ) -> None:
        self._clock = clock
        self._view = view
        self._find = find
        self._stations = stations
        self._record = record
        self._settings: LoadSettings | None = None
        self._pacer = Pacer()
        self._turns = Turns()
        self._demands: dict[str, Demand] = {}
        self._batteries: dict[str, Battery] = {}
        self._rests: deque[tuple[float, list[float]]] = deque(maxlen=math.ceil(LOW_S) + 1)
        self._start_s = 0.0
        self._heard_s: float | None = None  # when the meter's reading was made
        self._grid: GridReading | None = None
        self._silent = False
        self._begun = False
        self._over_s: float | None = None
        self._over_told = False
        self._told: dict[str, float] | None = None  # the limits that were derived last
        self._status = LoadStatus("", silent=False, meter_age_s=None)

    def apply(self, settings: LoadSettings | None) -> None:
        """Manage like this from now on; None: not at all, and nobody is limited any more."""
        if settings == self._settings:
            return
        before, self._settings = self._settings, settings
        now_s = self._clock.monotonic_s()
        self._told = None
        if settings is None:
            self._pacer, self._turns = Pacer(), Turns()
            self._stations.derive(KEY, [])
            return
        if before is None or before.meter != settings.meter:
            self._start_s, self._heard_s, self._begun = now_s, None, False
            self._rests.clear()
        kept = self._batteries
        self._batteries = {name: kept.get(name) or Battery(name, now_s) for name in settings.batteries}

    def status(self) -> LoadStatus | None:
        """How it stands; None: nothing is managed."""
        return None if self._settings is None else self._status

    def tick(self) -> None:
        """Once a second."""
        settings = self._settings
        if settings is None:
            return
        now_s = self._clock.monotonic_s()
        grid = read_grid(self._view, self._find, settings.meter)
        if grid is not None:
            self._grid, self._heard_s = grid, now_s - grid.age_s
        count = len(self._grid.currents_a) if self._grid is not None else 3
        unsure_a = self._unsure_a(now_s, count)
        ones = self._look(settings, now_s, count)
        seats: list[Seat] = []
        rest: _Rest | None = None
        if now_s - (self._start_s if self._heard_s is None else self._heard_s) > settings.silent_s:
            self._go_safe(settings, ones, now_s)
        elif grid is not None:
            self._come_back(settings, now_s)
            measured_a = [current_a + more_a for current_a, more_a in zip(grid.currents_a, unsure_a, strict=True)]
            rest = self._weigh(settings, ones, measured_a, now_s)
            if self._may_begin(settings, ones, measured_a, now_s):
                seats = self._share(settings, ones, rest, grid, now_s)
            self._watch_limit(settings, grid, now_s)
        self._publish(settings, ones, seats, rest, now_s)

    # --- what is known

    def _look(self, settings: LoadSettings, now_s: float, count: int) -> dict[str, _One]:
        """Those that take part, with what they draw now."""
        found = {one.station.id: one for one in self._part_takers(settings, count)}
        self._demands = {name: one.demand for name, one in found.items()}
        for name, one in found.items():
            self._ask_others(name, one)
            station = one.station
            seen = sense(self._view, self._find, station.device, station.outlet, now_s, whole=one.whole, phases=count)
            seen = replace(seen, off=one.off, follows=station.following)
            one.demand.observe(seen, self._pacer.limits.get(name), _least(one.setting), now_s, len(one.own))
        return found

    def _part_takers(self, settings: LoadSettings, count: int) -> list[_One]:
        shares = {share.station: share for share in settings.stations}
        snapshots = self._stations.snapshots()
        apart = {one.device for one in snapshots if one.outlet and one.id != one.device and can_limit(one.settings)}
        found = []
        for station in snapshots:
            whole = station.id == station.device
            if not can_limit(station.settings) or (whole and station.device in apart):
                continue
            runner = self._stations.find(station.id)
            share = shares.get(station.id) or shares.get(station.device) or StationShare(station.id)
            own = tuple(phase - 1 for phase in share.phases if phase <= count) if count > 1 else (0,)
            min_off_s = 0.0 if runner is None else runner.target.switching.min_off_s
            demand = self._demands.get(station.id) or Demand()
            found.append(_One(station, station.settings[LIMIT], share, whole, min_off_s, demand, own))
        return found

    def _ask_others(self, name: str, one: _One) -> None:
        """What others than load management decided about it."""
        runner = self._stations.find(name)
        if runner is None:
            return
        verdict = decide(_without_own(runner.wishes))
        if runner.above is not None:
            verdict = under(verdict, decide(_without_own(runner.above.wishes)), name, runner.above.target.id)
        one.off = verdict.on is False or pauses(verdict.limit_a, one.station.settings)
        one.may_a = math.inf if verdict.limit_a is None or one.off else float(verdict.limit_a)

    def _unsure_a(self, now_s: float, count: int) -> list[float]:
        """The batteries' discharge that may end at any moment, on each phase."""
        total_w = 0.0
        for battery in self._batteries.values():
            was_silent = battery.silent
            total_w += battery.unsure_w(self._view, self._find, now_s)
            if battery.silent != was_silent:
                self._tell("load.battery_silent" if battery.silent else "load.battery_back", battery.device, {})
        return [total_w / NOMINAL_V / count] * count

    def _weigh(
        self, settings: LoadSettings, ones: Mapping[str, _One], measured_a: Sequence[float], now_s: float
    ) -> _Rest:
        """The rest of the site now, and as it was in the last seconds."""
        rest = list(measured_a)
        for one in ones.values():
            amount_a = one.demand.assumed_a(now_s)
            for phase, current_a in on_grid(one.demand.drawn, amount_a, one.own, len(rest)).items():
                rest[phase] -= current_a
        while self._rests and (self._rests[0][0] <= now_s - LOW_S or len(self._rests[0][1]) != len(rest)):
            self._rests.popleft()
        self._rests.append((now_s, rest))
        low = [min(column) for column in zip(*(one for _, one in self._rests), strict=True)]
        high = [max(column) for column in zip(*(one for t_s, one in self._rests if t_s > now_s - HIGH_S), strict=True)]
        most_a = settings.limit_a - _margin(settings) / 2
        over = [current_a > most_a for current_a in measured_a]
        return _Rest([max(a, b) if c else a for a, b, c in zip(low, rest, over, strict=True)], high)

    def _may_begin(
        self, settings: LoadSettings, ones: Mapping[str, _One], measured_a: Sequence[float], now_s: float
    ) -> bool:
        """Whether enough is known to decide for the first time."""
        if not self._begun:
            known = all(one.demand.drawn.known or one.demand.need is Need.IDLE for one in ones.values())
            overloaded = max(measured_a) > settings.limit_a
            waited = now_s >= self._start_s + (OVERLOADED_START_S if overloaded else START_S)
            self._begun = known or waited
        return self._begun

    # --- what is decided

    def _share(
        self, settings: LoadSettings, ones: Mapping[str, _One], rest: _Rest, grid: GridReading, now_s: float
    ) -> list[Seat]:
        count, margin_a = len(grid.currents_a), _margin(settings)
        left = [settings.limit_a - margin_a - rest_a for rest_a in rest.low_a]
        safe = [settings.limit_a - margin_a - rest_a for rest_a in rest.high_a]
        seats = self._seats(settings, ones, now_s, count)
        ceiling, goal = allocate(left, seats), allocate(safe, seats)
        for name in self._turns.over:
            if goal.get(name) == 0:
                ceiling[name] = 0.0  # its place is another's now
        drawn = {name: _reckoned(one) for name, one in ones.items()}
        self._pacer.step(
            Round(
                now_s,
                seats,
                [settings.limit_a] * count,
                ceiling,
                goal,
                left,
                safe,
                margin_a / 2,
                drawn,
                may_rise=grid.age_s <= max(FRESH_S, settings.silent_s / 2),
            )
        )
        served = {seat.id for seat in seats if goal[seat.id] > 0 or self._pacer.limits[seat.id] > 0}
        self._turns.granted(served, now_s)
        return seats

    def _seats(self, settings: LoadSettings, ones: Mapping[str, _One], now_s: float, count: int) -> list[Seat]:
        wanting = {
            name: one.share.priority
            for name, one in ones.items()
            if one.demand.need is Need.WANTS and one.demand.reserved_a is None
        }
        places = self._turns.places(wanting, now_s)
        found = []
        for name, one in ones.items():
            demand, least_a = one.demand, _least(one.setting)
            most_a = min(float(one.setting.max), one.share.max_a or math.inf, settings.limit_a, max(one.may_a, least_a))
            own = one.own[:1] if demand.single and one.own else one.own
            found.append(
                Seat(
                    name,
                    own or tuple(range(count)),
                    least_a,
                    min(most_a, max(demand.cap_a, least_a)),
                    float(one.setting.step) or STEP_A,
                    demand.need,
                    one.share.priority,
                    one.share.weight,
                    places.get(name, ()),
                    self._begin_a(name, one, now_s),
                    demand.reserved_a,
                )
            )
        return found

    def _begin_a(self, name: str, one: _One, now_s: float) -> float | None:
        """What must be left before a paused station begins again; None: it is not paused."""
        if self._pacer.limits.get(name) != 0:
            return None
        idle = one.demand.need is Need.IDLE
        if now_s < self._pacer.changed_s(name) + (IDLE_S if idle else one.min_off_s):
            return math.inf
        return _least(one.setting) + (0.0 if self._turns.over and not idle else RESUME_A)

    def _go_safe(self, settings: LoadSettings, ones: Mapping[str, _One], now_s: float) -> None:
        """The meter is silent: nobody stands higher than the fail-safe."""
        if not self._silent:
            self._silent = True
            data = {"silent_s": settings.silent_s, "stations": len(ones)}
            self._tell("load.meter_silent", settings.meter, data)
        self._begun = True
        self._rests.clear()
        self._pacer.retain(ones)
        self._pacer.at_most({name: _failsafe(settings, one) for name, one in ones.items()}, now_s)

    def _come_back(self, settings: LoadSettings, now_s: float) -> None:
        if self._silent:
            self._silent = False
            self._pacer.hold(now_s)
            self._tell("load.meter_back", settings.meter, {})

    def _watch_limit(self, settings: LoadSettings, grid: GridReading, now_s: float) -> None:
        """Both edges of an overload that goes on although all was done against it."""
        over = max(grid.currents_a) > settings.limit_a
        if not over:
            self._over_s = None
        elif self._over_s is None:
            self._over_s = now_s
        lasting = self._over_s is not None and now_s >= self._over_s + OVER_S
        if lasting and not self._over_told:
            self._over_told = True
            self._tell("load.over_limit", settings.meter, {"currents_a": list(grid.currents_a)})
        elif not over and self._over_told:
            self._over_told = False
            self._tell("load.within_limit", settings.meter, {"currents_a": list(grid.currents_a)})

    # --- what is told

    def _publish(
        self,
        settings: LoadSettings,
        ones: Mapping[str, _One],
        seats: Sequence[Seat],
        rest: _Rest | None,
        now_s: float,
    ) -> None:
        limits = {name: self._pacer.limits[name] for name in ones if name in self._pacer.limits}
        phases = self._phases(settings, seats, rest)
        by_id = {seat.id: seat for seat in seats}
        reasons = {name: self._reason(settings, by_id.get(name), phases, seats) for name in ones}
        if limits != self._told:
            self._told = limits
            inputs = {} if self._grid is None or self._silent else self._grid.inputs
            wishes = [
                Wish(name, KEY, Origin.GRID, limit_a=_tidy(limit_a), reason=reasons[name], inputs=inputs)
                for name, limit_a in limits.items()
            ]
            self._stations.derive(KEY, [*wishes, *self._wholes(settings, ones)])
        self._status = LoadStatus(
            settings.meter,
            silent=self._silent,
            meter_age_s=None if self._heard_s is None else now_s - self._heard_s,
            note="" if self._grid is None else self._grid.note,
            phases=phases or self._status.phases,
            stations=tuple(
                StationLoad(
                    name,
                    one.demand.need,
                    limits.get(name),
                    one.demand.drawn.most_a if one.demand.drawn.known else None,
                    one.demand.reserved_a is None,
                    reasons[name],
                )
                for name, one in ones.items()
            ),
            batteries_silent=tuple(battery.device for battery in self._batteries.values() if battery.silent),
        )

    def _wholes(self, settings: LoadSettings, ones: Mapping[str, _One]) -> list[Wish]:
        """The fuses of lines to chargers whose outlets take part one by one."""
        devices = {one.station.device for one in ones.values() if not one.whole}
        return [
            Wish(share.station, KEY, Origin.GRID, limit_a=share.max_a, reason="load management: the fuse of its line")
            for share in settings.stations
            if share.station in devices and share.max_a is not None
        ]

    def _phases(self, settings: LoadSettings, seats: Sequence[Seat], rest: _Rest | None) -> tuple[PhaseLoad, ...]:
        if self._grid is None or rest is None:
            return ()
        count = len(self._grid.currents_a)
        standing = totals(self._pacer.limits, seats, count)
        margin_a = _margin(settings)
        return tuple(
            PhaseLoad(settings.limit_a, measured_a, rest_a, settings.limit_a - margin_a - rest_a, standing_a)
            for measured_a, rest_a, standing_a in zip(self._grid.currents_a, rest.low_a, standing, strict=True)
        )

    def _reason(
        self, settings: LoadSettings, seat: Seat | None, phases: Sequence[PhaseLoad], seats: Sequence[Seat]
    ) -> str:
        if self._silent:
            return f"load management: the meter {settings.meter} is silent for more than {settings.silent_s:g} s"
        if seat is None or not phases:
            return "load management: nothing is decided yet"
        tight = min(seat.phases, key=lambda phase: phases[phase].left_a)
        load = phases[tight]
        line = f"L{tight + 1}" if len(phases) > 1 else "the grid"
        many = sum(1 for one in seats if one.need is not Need.IDLE and tight in one.phases)
        left = f"{max(load.left_a, 0):.0f} A left for {many} station{'' if many == 1 else 's'}"
        return f"load management: {line} carries {load.measured_a:.0f} of {load.limit_a:g} A, {left}"

    def _tell(self, kind: str, subject: str, data: Mapping[str, object]) -> None:
        self._record(Event(kind, self._clock.now_us(), subject, data))


def _margin(settings: LoadSettings) -> float:
    if settings.margin_a is not None:
        return settings.margin_a
    return max(LEAST_MARGIN_A, MARGIN * settings.limit_a)


def _least(setting: Setting) -> float:
    """The least that it can charge with."""
    return float(setting.min) if setting.min > 0 else LEAST_A


def _failsafe(settings: LoadSettings, one: _One) -> float:
    own = 0.0 if one.setting.safe is None else float(one.setting.safe)
    limit_a = own if settings.failsafe_a is None else settings.failsafe_a
    return min(limit_a, one.share.max_a or math.inf, float(one.setting.max))


def _reckoned(one: _One) -> float:
    """What it must be reckoned to draw beside its limit: where it is silent, what it falls back to by itself."""
    return one.demand.drawn.most_a if one.demand.drawn.known else float(one.setting.safe or 0)


def _without_own(wishes: Sequence[Wish]) -> list[Wish]:
    return [wish for wish in wishes if wish.key != KEY]


def _tidy(limit_a: float) -> float:
    return round(limit_a, 3)
