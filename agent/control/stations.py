"""All stations: who may switch or limit them, and what was decided about them and why.

The composition root says which there are (``apply``), again and again; what is unchanged is not touched. Wishes about a
station that is no longer configured are kept for when it is again. What one station does is in ``station.py``.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import tzinfo

from agent.control import notes
from agent.control.model import Decision, Origin, Station, Wish
from agent.control.station import StationRunner, Surroundings, Target
from agent.control.wishes import about
from agent.core.ports import Operable

__all__ = ["ALL", "Stations", "Surroundings", "Target"]

#: In a derived wish in place of a station: each of them.
ALL = "*"


class Stations:
    """The stations of a site, in the order of the configuration."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._runners: dict[str, StationRunner] = {}
        self._kept = notes.read_decisions(around.memory.notebook)
        self._derived: dict[str, tuple[Wish, ...]] = {}

    async def apply(self, targets: Sequence[Target], zone: tzinfo) -> None:
        """These are the stations now; their times are shown in this zone."""
        self._around.zone = zone
        before, self._runners = self._runners, {}
        for target in targets:
            runner = before.pop(target.id, None)
            if runner is None:
                runner = StationRunner(target, self._around, self._kept.pop(target.id, []))
                for key, wishes in self._derived.items():
                    runner.derive(key, _of(target.id, wishes))
            elif runner.target != target:
                runner.replace(target)
            self._runners[target.id] = runner
        for runner in self._runners.values():
            whole = None if runner.target.whole else self._runners.get(runner.target.device)
            runner.above = whole
            runner.below = [
                one for one in self._runners.values() if one.target.device == runner.target.id != one.target.id
            ]
        for name, runner in before.items():
            await runner.close()
            self._kept[name] = runner.kept

    def find(self, station: str) -> StationRunner | None:
        """The station with that id."""
        return self._runners.get(station)

    def snapshots(self) -> list[Station]:
        """All as they are now."""
        return [runner.snapshot() for runner in self._runners.values()]

    def why(self, station: str, limit: int) -> list[Decision]:
        """The decisions about one, newest first."""
        runner = self._runners.get(station)
        return [] if runner is None else runner.why(limit)

    def operable(self, name: str) -> tuple[Operable, int] | None:
        """What a station or device can be told to do, and which outlet is meant (0: the device)."""
        for target in (runner.target for runner in self._runners.values()):
            if target.operable is not None and name == target.id:
                return target.operable, target.outlet
        for target in (runner.target for runner in self._runners.values()):
            if target.operable is not None and name == target.device:
                return target.operable, 0
        return None

    def heard(self, device: str) -> None:
        """A device came back: it is told again what is decided."""
        for runner in self._runners.values():
            if runner.target.device == device:
                runner.heard()

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        """Exactly these wishes stand from now on under this key, over all stations; others under it are withdrawn.

        A wish's ``station`` may be ``*``: each station. Stations that are not configured yet get theirs when they are.
        Nothing is kept: who derives does so again after a restart, before the first ``tick``; all in one turn of the
        loop, or a stop may be done that somebody stronger overrules in the next one. A wish that says the same
        as before keeps its place and ``since_us``; 0 there: now. One with an ``until_us`` runs out by itself.
        """
        now_us = self._around.clock.now_us()
        mine = tuple(replace(one, key=key, since_us=one.since_us or now_us) for one in wishes)
        if mine:
            self._derived[key] = mine
        else:
            self._derived.pop(key, None)
        for name, runner in self._runners.items():
            runner.derive(key, _of(name, mine))

    def startable(self) -> list[str]:
        """The stations that start by themselves: the outlets in place of a charger whose outlets can be switched."""
        return [name for name, runner in self._runners.items() if runner.startable]

    def drawing(self, names: Collection[str]) -> dict[str, bool | None]:
        """Of each of these stations whether energy flows; None: it can't be told. Those that are gone are left out."""
        return {name: self._runners[name].drawing for name in names if name in self._runners}

    def rest(self, station: str) -> None:
        """Its contactor has opened by itself, for want of power."""
        runner = self._runners.get(station)
        if runner is not None:
            runner.rest()

    def watch_wishes(self, tell: Callable[[Wish], None]) -> None:
        """Tell each wish that somebody puts, before it is looked at. One may do so."""
        self._around.on_wish = tell

    async def retain(self, origin: Origin, rights: Collection[tuple[str, str, str]]) -> None:
        """Take back an origin's wishes but those named: whose, of which station, about what (``on``, ``limit``).

        A schedule that was deleted, or does not do that any more, would never take its wish back itself.
        """

        def over(wish: Wish) -> bool:
            return wish.origin is origin and not all((wish.key, wish.station, what) in rights for what in about(wish))

        for runner in self._runners.values():
            if any(over(wish) for wish in runner.wishes):
                await runner.forget(over)

    def tick(self) -> None:
        """Once a second. The first one begins the work: nothing is written before unless it protects."""
        self._around.begun = True
        for runner in self._runners.values():
            runner.tick()

    async def close(self) -> None:
        """End all work; nothing is written any more."""
        await asyncio.gather(*(runner.close() for runner in self._runners.values()))


def _of(station: str, wishes: Sequence[Wish]) -> list[Wish]:
    """What is wished of one station."""
    return [replace(one, station=station) for one in wishes if one.station in {station, ALL}]
