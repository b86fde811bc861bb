"""Stations that people register: without a wire to this gateway, but switched, scheduled and counted as others are.

Rules of this file:

1. A registered station is a note under its number. A number is never given again: while the station that has the
   highest one is taken out, its note stays and says so.
2. It obeys at once: what is decided about it is what it is. It has no contactor that would need to be spared.
3. What is written here is on disk before anybody is answered, and control knows of it.
4. The state that one is registered with is wished as weakly as a schedule wishes, in the registration's name: then a
   schedule can toggle it, and what somebody wants by hand goes before both.
5. Chargers have numbers too, from the same sequence, for clients that know stations by numbers only.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.control import notes
from agent.control.station import Target
from agent.control.switching import SwitchLimits
from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal, StoreError
from agent.core.model import Event, Number
from agent.core.ports import Notebook, Setting

NOTE = "registered_station"
MAX_REGISTERED = 2000
MAX_TEXT = 200
PREFIX = "station-"
#: Who wishes for the state that a station is registered with.
REGISTRATION = "registration"

_ENABLED = "charging_enabled"
#: Nothing wears out by switching it.
_UNSPARED = SwitchLimits(0, 0, 1_000_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered station. ``number`` is what the clients of the former station backend call it by."""

    number: int
    name: str
    location: str = ""
    max_w: Number | None = None  #: what it can deliver
    created_us: int = 0

    @property
    def id(self) -> str:
        """Its name among the stations."""
        return f"{PREFIX}{self.number}"


class Obedient:
    """``Commandable`` of a station without a wire."""

    def __init__(self, device: str) -> None:
        self._settings = {_ENABLED: Setting(device, _ENABLED, "", 0, 1)}

    @property
    def settings(self) -> Mapping[str, Setting]:
        """It can be switched."""
        return self._settings

    async def set(self, point: str, value: Number) -> Number:
        """Done by being said. Raises ``CommandRejected`` for what it does not have."""
        if point not in self._settings:
            raise CommandRejected(f"set {point}", Refusal.NOT_CAPABLE, "a station without a wire can only be switched")
        return value

    def release(self) -> None:
        """Nothing is repeated."""


async def _nobody() -> None:
    """Nobody needs to know."""


@dataclass(slots=True)
class RegisteredStations:
    """All of them; the notebook is their place. ``changed`` is awaited after each change: control is to know of it."""

    clock: Clock
    notebook: Notebook
    changed: Callable[[], Awaitable[None]] = _nobody
    _obedient: dict[int, Obedient] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # two at once would get the same number

    def all(self) -> list[Registered]:
        """In the order of their numbers."""
        found = [one for key, data in self.notebook.notes(NOTE).items() if (one := _read(key, data)) is not None]
        return sorted(found, key=lambda one: one.number)

    def find(self, station: str) -> Registered | None:
        """The one with this id."""
        key = station.removeprefix(PREFIX)
        data = None if key == station else self.notebook.note(NOTE, key)
        return None if data is None else _read(key, data)

    def numbers(self) -> dict[str, int]:
        """The number of each station that has one, chargers among them, by id."""
        found = {}
        for key, data in self.notebook.notes(NOTE).items():
            device = data.get("device")
            name = device if isinstance(device, str) else f"{PREFIX}{key}" if "name" in data else None
            if key.isdecimal() and name is not None:
                found[name] = int(key)
        return found

    def targets(self) -> list[Target]:
        """What control is given."""
        return [
            Target(
                one.id,
                one.id,
                0,
                one.name,
                self._obedient.setdefault(one.number, Obedient(one.id)),
                switching=_UNSPARED,
            )
            for one in self.all()
        ]

    async def add(self, stations: Sequence[Registered], who: str) -> list[Registered]:
        """Register them; their numbers are given here. Raises ``CommandRejected`` and ``StoreError``."""
        made: list[Registered] = []
        async with self._changing():
            if len(self.all()) + len(stations) > MAX_REGISTERED:
                hint = f"there are {MAX_REGISTERED} at most: take out what is not used"
                raise CommandRejected("register a station", Refusal.OUT_OF_RANGE, hint)
            for one in stations:
                station = replace(one, number=self._highest() + 1, created_us=self.clock.now_us())
                event = Event("station.registered", station.created_us, station.id, {"by": who, **_data(station)})
                await self._write(station.number, _data(station), event)
                made.append(station)
        return made

    async def change(self, station: Registered, who: str) -> None:
        """Give one another name, place or power. Raises ``StoreError``."""
        async with self._changing():
            event = Event("station.changed", self.clock.now_us(), station.id, {"by": who, **_data(station)})
            if self.find(station.id) is not None:  # else it was taken out meanwhile
                await self.notebook.write(NOTE, str(station.number), _data(station), [event])

    async def remove(self, station: Registered, who: str) -> None:
        """Take one out. Raises ``StoreError``."""
        async with self._changing():
            event = Event("station.unregistered", self.clock.now_us(), station.id, {"by": who, "name": station.name})
            gone = {"removed_us": event.t_us} if station.number == self._highest() else None
            await self.notebook.write(NOTE, str(station.number), gone, [event])
            self._obedient.pop(station.number, None)
        # Control has ended its work on it by now. What was told of it stays in the ledger; nobody asks for the rest.
        left = [(notes.WISH, station.id), (notes.STATION, station.id)]
        left += [(notes.DECISION, notes.decision_key(station.id, number)) for number in range(notes.DECISIONS)]
        with contextlib.suppress(StoreError):  # it is in nobody's way
            await asyncio.gather(*(self.notebook.write(kind, key, None) for kind, key in left))

    async def number(self, chargers: Collection[str]) -> None:
        """Give numbers to those that have none. Raises ``StoreError``."""
        async with self._turn:
            known = self.numbers()
            for name in chargers:
                if name not in known:
                    await self._write(self._highest() + 1, {"device": name})

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """One change, after which control is told; also when only a part of it came about."""
        try:
            async with self._turn:
                yield
        finally:
            await self.changed()  # not in our turn: who applies a configuration waits for it to give numbers

    def _highest(self) -> int:
        return max((int(key) for key in self.notebook.notes(NOTE) if key.isdecimal()), default=0)

    async def _write(self, number: int, data: Mapping[str, object], *events: Event) -> None:
        """Write the one with the highest number. The one before it needs not be remembered, if it is gone."""
        await self.notebook.write(NOTE, str(number), data, events)
        if "removed_us" in (self.notebook.note(NOTE, str(number - 1)) or {}):
            with contextlib.suppress(StoreError):  # it is in nobody's way
                await self.notebook.write(NOTE, str(number - 1), None)


def may_be_registered(station: str) -> bool:
    """Whether a registered station has this name, or may once have it."""
    return station.startswith(PREFIX) and station.removeprefix(PREFIX).isdecimal()


def _data(one: Registered) -> dict[str, object]:
    return {"name": one.name, "location": one.location, "max_w": one.max_w, "created_us": one.created_us}


def _read(key: str, data: Mapping[str, object]) -> Registered | None:
    """The station of a note; None for one that was taken out, or can't be read."""
    name, location, max_w, created_us = (data.get(part) for part in ("name", "location", "max_w", "created_us"))
    if not key.isdecimal() or not isinstance(name, str):
        return None
    return Registered(
        int(key),
        name,
        location if isinstance(location, str) else "",
        max_w if isinstance(max_w, int | float) else None,
        created_us if isinstance(created_us, int) else 0,
    )
