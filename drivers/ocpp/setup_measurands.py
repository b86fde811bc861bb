"""Which measurands a charger is asked to send: found once, one at a time, and remembered.

Rules of this file:

1. Some chargers accept measurands and then restart for ever when they are to send them (ABB, lbbrhzn/ocpp 1275). So
   each is written down before it is tried (note ``ocpp.measurands``), and all together for ``PROOF_S``.
2. An interruption is no verdict: what was being tried is tried again at the next connection. Only one over which the
   charger fell ``FALLS`` times, booting or giving no answer, is left out; of those tried together the energy register
   stays, which is never given up. A gateway that restarts, or a charger that only connects again, blames nobody.
3. What was left out for that is tried again after each of ``AGAIN_S``, while no vehicle charges; then it stays left
   out. What the charger refuses is not tried again. A note of before this rule does not tell the two apart (``bad``):
   what it blames is tried again at once.
4. What was found holds for this vendor, model and firmware; it is not tried again on each boot.
5. What the charger sends already is left as it is where nothing of ours is missing in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, NoAnswer
from drivers.codec.ocpp_model import Boot
from drivers.ocpp.limits_writer import fingerprint
from drivers.ocpp.ports import ChargerState
from drivers.ocpp.setup_configuration import SET, Configuration, csv

NOTE = "measurands"
#: So long a charger has to fall over a measurand before the next one is tried.
PROBE_PAUSE_S = 5.0
#: So long it has to fall over all of them together.
PROOF_S = 60.0
#: So often it has to fall over the same one; falls count until all were proved together.
FALLS = 2
#: So long after it was left out a measurand is tried again: once a day, a week, and a month later.
AGAIN_S = (86_400.0, 7 * 86_400.0, 30 * 86_400.0)
#: A vehicle charges when the time has come: so long later. Also the shortest pause between two of these.
BUSY_S = 3_600.0
ENERGY = "Energy.Active.Import.Register"
_ALL = "all"  #: falls of all of them together are counted under this name


@dataclass(slots=True)
class _Found:
    """What the note holds."""

    works: list[str] = field(default_factory=list)  #: empty while it is looked for
    refused: set[str] = field(default_factory=set)
    fell: set[str] = field(default_factory=set)  #: left out because the charger fell over them
    fell_us: int = 0  #: wall time of the last of these
    rounds: int = 0  #: how often those that it fell over were tried again
    falls: dict[str, int] = field(default_factory=dict)
    trying: list[str] = field(default_factory=list)  #: one, or with ``works`` all of them but the energy

    def note(self, of: str) -> dict[str, object]:
        """In the form in which it is kept."""
        kept = {"works": self.works, "refused": sorted(self.refused), "fell": sorted(self.fell)}
        more = {"fell_us": self.fell_us, "rounds": self.rounds, "falls": dict(self.falls), "trying": self.trying}
        return {"of": of} | {name: value for name, value in (kept | more).items() if value}


class Measurands:
    """The measurands of one charger, on one connection."""

    def __init__(self, state: ChargerState, configuration: Configuration, clock: Clock) -> None:
        self._state = state
        self._configuration = configuration
        self._clock = clock
        self._name = configuration.names.measurands
        note = state.remembered(NOTE)
        self._found = _read(note) if note is not None and note.get("of") == fingerprint(state) else _Found()

    @property
    def left_out(self) -> Sequence[str]:
        """Those over which it fell."""
        return sorted(self._found.fell)

    async def find(self, probed: Boot | None) -> None:
        """Bring the list into order. ``probed``: the boot in which it was last tried, if that was in this process.

        Raises as ``Link.call``.
        """
        found, wanted = self._found, self._state.quirks.measurands
        if not wanted or self._configuration.fixed(self._name):
            return
        if found.trying and probed is not None and probed is not self._state.boot:
            self._fall()
            await self._keep()
        if self._wait_s() == 0 and not self._busy():
            found.works, found.trying, found.falls = [], [], {}
            found.fell, found.fell_us, found.rounds = set(), 0, found.rounds + 1
            await self._keep()
        has = csv(self._configuration.value(self._name))
        if found.works and (_same(found.works, has) or await self._put(found.works)):
            return  # what is being proved goes on being proved
        left = [one for one in wanted if one not in found.refused | found.fell]
        if len(left) == len(wanted) and has and {one.lower() for one in left} <= {one.lower() for one in has}:
            return
        if self._state.quirks.probe:
            await self._probe(left)
            return
        works = left[: self._room()]
        found.works, found.trying = works if await self._put(works) else [], []
        await self._keep()

    async def proved(self) -> None:
        """It sent them all for a while and did not restart: that was told by the connection's staying."""
        found = self._found
        if found.trying:
            await self._clock.sleep_s(PROOF_S)
            found.trying = []
            if found.works:
                found.falls = {}
            await self._keep()

    def again_s(self) -> float | None:
        """In how long something is to be tried again on this connection; None: nothing is."""
        wait_s = self._wait_s()
        return None if wait_s is None else max(wait_s, BUSY_S)

    async def _probe(self, wanted: Sequence[str]) -> None:
        found = self._found
        works: list[str] = []
        found.works = []
        for one in wanted:
            if len(works) >= self._room():
                break
            found.trying = [one]
            await self._keep()
            if await self._takes(works, one):
                works.append(one)
                await self._clock.sleep_s(PROBE_PAUSE_S)
            else:
                found.refused.add(one)
        found.works, found.trying = works, [one for one in works if one != ENERGY]
        await self._keep()

    async def _takes(self, works: Sequence[str], one: str) -> bool:
        """Whether it accepts one more. Raises as ``Link.call``."""
        try:
            return await self._put([*works, one])
        except CommandRejected:
            if not works:  # it may be the call that it refuses
                raise
            return False
        except NoAnswer:
            self._fall()
            self._found.trying = []  # the boot that may follow is the same fall
            await self._keep()
            raise

    def _fall(self) -> None:
        """It fell over what is being tried."""
        found = self._found
        blamed = {one for one in found.trying if one != ENERGY}
        if not blamed:
            return
        name = _ALL if found.works else found.trying[0]
        found.falls[name] = found.falls.get(name, 0) + 1
        if found.falls[name] < FALLS:
            return
        found.fell |= blamed
        found.fell_us = self._clock.now_us()
        found.falls.pop(name)
        found.works = [one for one in found.works if one not in blamed]
        found.trying = []

    def _wait_s(self) -> float | None:
        """Until those that it fell over are tried again; None: never, or there are none."""
        found = self._found
        if not found.fell or found.rounds >= len(AGAIN_S):
            return None
        passed_s = (self._clock.now_us() - found.fell_us) / 1e6
        left_s = AGAIN_S[found.rounds] - passed_s
        return left_s if passed_s >= 0 and left_s > 0 else 0.0  # below 0: the wall clock was set back

    def _busy(self) -> bool:
        """Whether a vehicle charges, which a restart would end."""
        outlets = range(1, self._state.settings.outlets + 1)
        return any(self._state.transaction(outlet) is not None for outlet in outlets)

    async def _put(self, works: Sequence[str]) -> bool:
        return await self._configuration.put(self._name, ",".join(works)) in SET

    def _room(self) -> int:
        """How many the list holds (1.6 edition 2, 9.1: items of the list)."""
        told = self._configuration.value(self._configuration.names.measurands_max)
        return int(told) if told is not None and told.isdecimal() and int(told) else len(self._state.quirks.measurands)

    async def _keep(self) -> None:
        await self._state.remember(NOTE, self._found.note(fingerprint(self._state)))


def _read(note: Mapping[str, object]) -> _Found:
    falls = note.get("falls")
    return _Found(
        works=_texts(note.get("works")),
        refused=set(_texts(note.get("refused"))),
        fell=set(_texts(note.get("fell"))) | set(_texts(note.get("bad"))),
        fell_us=_number(note.get("fell_us")),
        rounds=_number(note.get("rounds")),
        falls={str(name): _number(count) for name, count in falls.items()} if isinstance(falls, Mapping) else {},
        trying=_texts(note.get("trying")),
    )


def _same(one: Iterable[str], other: Iterable[str]) -> bool:
    return {name.lower() for name in one} == {name.lower() for name in other}


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
