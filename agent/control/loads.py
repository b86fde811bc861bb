"""Load management over time: never more than the site's limit on any phase, and all of it for those that want it.

Rules of this file:

1. Once a second: what the meter shows, less what stations draw, is the rest of the site. The limit less the rest and a
   margin is the stations' (``sharing.py``); it reaches them step by step (``pacing.py``).
2. A station's reading and the meter's are never of the same moment. So for what stands the lowest rest of the last
   seconds counts, as long as the meter itself shows no overload; for what is raised the highest. In an overload what
   stations drew at most in the last ``OBEY_S`` counts: the meter may not show yet what they obeyed meanwhile.
3. The meter is silent, or frozen, for ``silent_s``: each station goes to its fail-safe, and none goes up. It is back:
   the limits rise from there, by fresh readings.
4. Nothing is decided before the stations' readings are there, or ``START_S`` have passed: a restart interrupts nobody.
   Until then each station keeps the limit that it was told before: that nobody wishes one yet does not free it.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.control.demand import on_grid
from agent.control.load_inputs import Battery, Find, Frozen, GridReading, read_grid
from agent.control.load_model import KEY, LoadSettings, LoadStatus, PhaseLoad
from agent.control.load_stations import Managed, Taker, Takers, drawn_by
from agent.control.load_words import as_before, phase_loads, reason_of, reasons, station_loads, wishes
from agent.control.pacing import Pacer, Round
from agent.control.sharing import Need, Seat, allocate
from agent.control.turns import Turns
from agent.core.clock import Clock
from agent.core.model import Event
from agent.core.ports import LatestView

#: The step of a station that takes any value: finer ones would be written for nothing.
STEP_A = 0.5
START_S, OVERLOADED_START_S = 15.0, 4.0
#: How long the lowest, and the highest, rest of the site is remembered.
LOW_S, HIGH_S = 12.0, 5.0
OBEY_S = 3.0
#: So much more than its minimum must be left before a paused station begins again.
RESUME_A = 2.0
#: A station without a vehicle that had to give up its standing limit gets it back so much later at the earliest.
IDLE_S = 900.0
#: Readings of the meter that are older raise nobody.
FRESH_S = 5.0
OVER_S = 30.0
NOMINAL_V = 230.0


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
        self._takers = Takers(view, find, stations)
        self._record = record
        self._settings: LoadSettings | None = None
        self._pacer = Pacer()
        self._turns = Turns()
        self._batteries: dict[str, Battery] = {}
        self._rests: deque[tuple[float, list[float]]] = deque(maxlen=math.ceil(LOW_S) + 1)
        self._drawn: deque[tuple[float, list[float]]] = deque(maxlen=math.ceil(OBEY_S) + 1)  # by all stations
        self._start_s = 0.0
        self._heard_s: float | None = None  # when the meter's reading was made
        self._grid: GridReading | None = None
        self._frozen = Frozen()
        self._frozen_s: float | None = None  # since when the meter is
        self._silent = False
        self._begun = False
        self._over_s: float | None = None
        self._over_told = False
        self._told: tuple[dict[str, float], bool] | None = None  # the limits that were derived last, and if silent
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
            self._frozen, self._frozen_s = Frozen(), None
            self._rests.clear()
        if before is None:
            self._keep_told()
        kept = self._batteries
        self._batteries = {name: kept.get(name) or Battery(name, now_s) for name in settings.batteries}

    def _keep_told(self) -> None:
        """Until something is decided each station has the limit that it had."""
        runners = [runner for one in self._stations.snapshots() if (runner := self._stations.find(one.id)) is not None]
        told = {runner.target.id: runner.told_limit_a for runner in runners}
        self._stations.derive(KEY, as_before(told))

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
        ones = self._takers.look(settings, self._pacer, now_s, count)
        self._frozen_s = None if grid is None else self._frozen.since_s(grid, drawn_by(ones), now_s)
        if self._frozen_s is not None:  # it counts as heard last when that began to show
            grid, self._heard_s = None, self._frozen_s
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
        self, settings: LoadSettings, ones: Mapping[str, Taker], measured_a: Sequence[float], now_s: float
    ) -> _Rest:
        """The rest of the site now, and as it was in the last seconds."""
        drawn = [0.0] * len(measured_a)
        for one in ones.values():
            amount_a = one.demand.assumed_a(now_s)
            for phase, current_a in on_grid(one.demand.drawn, amount_a, one.own, len(drawn)).items():
                drawn[phase] += current_a
        rest = [now_a - theirs_a for now_a, theirs_a in zip(measured_a, drawn, strict=True)]
        self._drawn.append((now_s, drawn))
        recent = [one for t_s, one in self._drawn if t_s > now_s - OBEY_S and len(one) == len(drawn)]
        surely = [now_a - max(column) for now_a, *column in zip(measured_a, *recent, strict=True)]
        if not self._begun:
            self._rests.clear()  # stations that were not heard yet were counted as rest
        while self._rests and (self._rests[0][0] <= now_s - LOW_S or len(self._rests[0][1]) != len(rest)):
            self._rests.popleft()
        self._rests.append((now_s, rest))
        low = [min(column) for column in zip(*(one for _, one in self._rests), strict=True)]
        high = [max(column) for column in zip(*(one for t_s, one in self._rests if t_s > now_s - HIGH_S), strict=True)]
        most_a = settings.limit_a - settings.kept_a / 2
        over = [current_a > most_a for current_a in measured_a]
        return _Rest([max(a, b) if c else a for a, b, c in zip(low, surely, over, strict=True)], high)

    def _may_begin(
        self, settings: LoadSettings, ones: Mapping[str, Taker], measured_a: Sequence[float], now_s: float
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
        self, settings: LoadSettings, ones: Mapping[str, Taker], rest: _Rest, grid: GridReading, now_s: float
    ) -> list[Seat]:
        count, margin_a = len(grid.currents_a), settings.kept_a
        left = [settings.limit_a - margin_a - rest_a for rest_a in rest.low_a]
        safe = [settings.limit_a - margin_a - rest_a for rest_a in rest.high_a]
        seats = self._seats(ones, now_s, count)
        ceiling, goal = allocate(left, seats), allocate(safe, seats)
        for name in self._turns.over:
            if goal.get(name) == 0:
                ceiling[name] = 0.0  # its place is another's now
        drawn = {name: one.reckoned_a for name, one in ones.items()}
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

    def _seats(self, ones: Mapping[str, Taker], now_s: float, count: int) -> list[Seat]:
        wanting = {
            name: one.share.priority
            for name, one in ones.items()
            if one.demand.need is Need.WANTS and one.demand.reserved_a is None
        }
        places = self._turns.places(wanting, now_s)
        found = []
        for name, one in ones.items():
            demand, least_a = one.demand, one.least_a
            most_a = min(float(one.setting.max), one.share.max_a or math.inf, max(one.may_a, least_a))
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

    def _begin_a(self, name: str, one: Taker, now_s: float) -> float | None:
        """What must be left before a paused station begins again; None: it is not paused, or its turn has begun."""
        if self._pacer.limits.get(name) != 0 or self._turns.serves(name):
            return None
        idle = one.demand.need is Need.IDLE
        if now_s < self._pacer.changed_s(name) + (IDLE_S if idle else one.min_off_s):
            return math.inf
        return one.least_a + (0.0 if self._turns.over and not idle else RESUME_A)

    def _go_safe(self, settings: LoadSettings, ones: Mapping[str, Taker], now_s: float) -> None:
        """The meter is silent: nobody stands higher than the fail-safe."""
        if not self._silent:
            self._silent = True
            frozen = self._frozen_s is not None
            data = {"silent_s": settings.silent_s, "stations": len(ones), "frozen": frozen}
            self._tell("load.meter_silent", settings.meter, data)
        self._begun = True
        self._rests.clear()
        self._pacer.retain(ones)
        self._pacer.at_most({name: one.failsafe_a(settings) for name, one in ones.items()}, now_s)

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
        ones: Mapping[str, Taker],
        seats: Sequence[Seat],
        rest: _Rest | None,
        now_s: float,
    ) -> None:
        limits = {name: self._pacer.limits[name] for name in ones if name in self._pacer.limits}
        grid, by_id = self._grid, {seat.id: seat for seat in seats}
        phases: tuple[PhaseLoad, ...] = ()
        if grid is not None and rest is not None:
            phases = phase_loads(settings, grid.currents_a, rest.high_a, limits, seats)
        frozen = self._frozen_s is not None
        clauses = reasons(settings, phases, seats, silent=self._silent, frozen=frozen)
        why = {name: reason_of(name, by_id, phases, clauses) for name in ones}
        if self._begun and (limits, self._silent) != self._told:
            self._told = limits, self._silent
            inputs = {} if grid is None or self._silent else grid.inputs
            self._stations.derive(KEY, wishes(settings, ones, limits, why, inputs))
        self._status = LoadStatus(
            settings.meter,
            silent=self._silent,
            meter_age_s=None if self._heard_s is None else now_s - self._heard_s,
            note="" if grid is None else grid.note,
            phases=phases or self._status.phases,
            stations=station_loads(ones, limits, why),
            batteries_silent=tuple(battery.device for battery in self._batteries.values() if battery.silent),
        )

    def _tell(self, kind: str, subject: str, data: Mapping[str, object]) -> None:
        self._record(Event(kind, self._clock.now_us(), subject, data))
