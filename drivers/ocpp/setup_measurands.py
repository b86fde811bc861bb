"""Which measurands a charger is asked to send: found once, one at a time, and remembered.

Rules of this file:

1. Some chargers accept measurands and then restart for ever when they are to send them (ABB, lbbrhzn/ocpp 1275). So
   each is written down before it is tried (note ``ocpp.measurands``): a charger that boots while one is being tried is
   not asked for that one again, and one that boots soon after all were set is asked for the energy register only.
   That one is not given up by a boot, which has other causes too.
2. What was found holds for this vendor, model and firmware; it is not tried again on each boot.
3. What the charger sends already is left as it is where nothing of ours is missing in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.core.clock import Clock
from drivers.codec.ocpp_model import Boot
from drivers.ocpp.limits_writer import fingerprint
from drivers.ocpp.ports import ChargerState
from drivers.ocpp.setup_configuration import SET, Configuration, csv

NOTE = "measurands"
#: So long a charger has to fall over a measurand before the next one is tried.
PROBE_PAUSE_S = 5.0
#: So long it has to fall over all of them together.
PROOF_S = 60.0
ENERGY = "Energy.Active.Import.Register"


class Measurands:
    """The measurands of one charger, on one connection."""

    def __init__(self, state: ChargerState, configuration: Configuration, clock: Clock) -> None:
        self._state = state
        self._configuration = configuration
        self._clock = clock
        self._name = configuration.names.measurands
        note = state.remembered(NOTE)
        same_model = note is not None and note.get("of") == fingerprint(state)
        self._note: Mapping[str, Any] = note if note is not None and same_model else {}

    async def find(self, probed: Boot | None) -> None:
        """Bring the list into order. ``probed``: the boot in which it was last tried, if that was in this process.

        Raises as ``Link.call``.
        """
        wanted = self._state.quirks.measurands
        if not wanted or self._configuration.fixed(self._name):
            return
        bad = set(self._note.get("bad", ()))
        trying = self._note.get("trying", ())
        if trying and (probed is None or probed is not self._state.boot):
            bad.update(one for one in trying if one != ENERGY)
            await self._keep(self._note.get("works"), bad)
        works = [one for one in self._note.get("works") or () if one not in bad]
        has = csv(self._configuration.value(self._name))
        if works and _same(works, has):
            return
        if works and await self._put(works):
            await self._keep(works, bad)
            return
        left = [one for one in wanted if one not in bad]
        if not bad and has and {one.lower() for one in left} <= {one.lower() for one in has}:
            return
        if not self._state.quirks.probe:
            works = left[: self._room()]
            await self._keep(works if await self._put(works) else None, bad)
            return
        await self._probe(left, bad)

    async def proved(self) -> None:
        """It sent them all for a while and did not restart: that was told by the connection's staying."""
        note = self._state.remembered(NOTE)
        if note is not None and note.get("of") == fingerprint(self._state) and note.get("trying"):
            await self._clock.sleep_s(PROOF_S)
            await self._keep(note.get("works"), set(_texts(note.get("bad"))))

    async def _probe(self, wanted: Sequence[str], bad: set[str]) -> None:
        works: list[str] = []
        for one in wanted:
            if len(works) >= self._room():
                break
            await self._keep(None, bad, trying=[one])
            if await self._put([*works, one]):
                works.append(one)
                await self._clock.sleep_s(PROBE_PAUSE_S)
            else:
                bad.add(one)
        await self._keep(works, bad, trying=[one for one in works if one != ENERGY])

    async def _put(self, works: Sequence[str]) -> bool:
        return await self._configuration.put(self._name, ",".join(works)) in SET

    def _room(self) -> int:
        """How many the list holds (1.6 edition 2, 9.1: items of the list)."""
        told = self._configuration.value(self._configuration.names.measurands_max)
        return int(told) if told is not None and told.isdecimal() and int(told) else len(self._state.quirks.measurands)

    async def _keep(self, works: object, bad: set[str], trying: Sequence[str] = ()) -> None:
        data: dict[str, object] = {"of": fingerprint(self._state), "bad": sorted(bad)}
        if works:
            data["works"] = works
        if trying:
            data["trying"] = list(trying)
        await self._state.remember(NOTE, data)


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    return {name.lower() for name in one} == {name.lower() for name in other}


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []
