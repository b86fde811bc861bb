"""The stations that take part in load management, with all that is known of them now.

The outlets of a charger take part; the charger as a whole where they can't be limited one by one. Who can't be limited
is a part of the site's other load.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.control.arbiter import decide, under
from agent.control.demand import Demand
from agent.control.load_inputs import Find, sense
from agent.control.load_model import KEY, LoadSettings, StationShare
from agent.control.model import Station, Wish
from agent.control.outputs import LIMIT, can_limit, pauses
from agent.control.pacing import Pacer
from agent.control.station import StationRunner
from agent.core.ports import LatestView, Setting

#: IEC 61851-1 knows no charging current below this.
LEAST_A = 6.0


class Managed(Protocol):
    """What of the stations is needed."""

    def snapshots(self) -> Sequence[Station]:
        """All as they are now."""

    def find(self, station: str) -> StationRunner | None:
        """One of them."""

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        """Exactly these wishes stand from now on under this key."""


@dataclass(slots=True)
class Taker:
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

    @property
    def least_a(self) -> float:
        """The least that it can charge with."""
        return float(self.setting.min) if self.setting.min > 0 else LEAST_A

    @property
    def reckoned_a(self) -> float:
        """What it must be reckoned to draw beside its limit: where it is silent, what it falls back to by itself."""
        return self.demand.drawn.most_a if self.demand.drawn.known else float(self.setting.safe or 0)

    def failsafe_a(self, settings: LoadSettings) -> float:
        """Its limit while nobody knows what the grid connection carries."""
        own_a = 0.0 if self.setting.safe is None else float(self.setting.safe)
        limit_a = own_a if settings.failsafe_a is None else settings.failsafe_a
        return min(limit_a, self.share.max_a or math.inf, float(self.setting.max))


class Takers:
    """Those that take part, over time."""

    def __init__(self, view: LatestView, find: Find, stations: Managed) -> None:
        self._view = view
        self._find = find
        self._stations = stations
        self._demands: dict[str, Demand] = {}

    def look(self, settings: LoadSettings, pacer: Pacer, now_s: float, count: int) -> dict[str, Taker]:
        """All, with what they draw now. ``pacer``: what they are told, since when; ``count``: of the grid's phases."""
        found = {one.station.id: one for one in self._part_takers(settings, count)}
        self._demands = {name: one.demand for name, one in found.items()}
        for name, one in found.items():
            self._ask_others(name, one)
            station = one.station
            seen = sense(self._view, self._find, station.device, station.outlet, now_s, whole=one.whole, phases=count)
            seen = replace(seen, off=one.off, follows=station.following)
            limit_a, told_s = pacer.limits.get(name), pacer.changed_s(name)
            one.demand.observe(seen, limit_a, told_s, one.least_a, now_s, len(one.own))
        return found

    def _part_takers(self, settings: LoadSettings, count: int) -> list[Taker]:
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
            found.append(Taker(station, station.settings[LIMIT], share, whole, min_off_s, demand, own))
        return found

    def _ask_others(self, name: str, one: Taker) -> None:
        """What others than load management decided about it."""
        runner = self._stations.find(name)
        if runner is None:
            return
        verdict = decide(_without_own(runner.wishes))
        if runner.above is not None:
            verdict = under(verdict, decide(_without_own(runner.above.wishes)), name, runner.above.target.id)
        one.off = verdict.on is False or pauses(verdict.limit_a, one.station.settings)
        one.may_a = math.inf if verdict.limit_a is None or one.off else float(verdict.limit_a)


def drawn_by(ones: Mapping[str, Taker]) -> dict[str, float]:
    """What each of them draws on the most loaded of its phases, where that is known."""
    return {name: one.demand.drawn.most_a for name, one in ones.items() if one.demand.drawn.known}


def _without_own(wishes: Sequence[Wish]) -> list[Wish]:
    return [wish for wish in wishes if wish.key != KEY]
