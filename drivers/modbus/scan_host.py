"""Finding the units behind a Modbus TCP port. Only reads.

Rules of this file:

1. An exception is an answer: the unit is there. Only a gateway's own exceptions (0x0A, 0x0B) say that it is not.
2. Never two connections to one host: some take one client only. One that was closed on us is opened anew, and the
   unit that was asked is passed over.
3. A host that answers every unit id alike is one device; so is one that answers 0 and 255 as it answers another id
   (Modbus Messaging on TCP/IP Implementation Guide V1.0b, 4.4.2.1: ids that mean nothing).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from agent.core.errors import Unavailable
from drivers.line import Line, open_line
from drivers.modbus.scan import ALL_UNITS, FoundUnit, Search, describe, probe
from drivers.modbus.scan_ask import NO_PATH, NO_TARGET, Asker, Refused
from drivers.modbus.settings import ModbusUrl

#: Addresses that devices leave the factory with, beside those that profiles name.
TCP_UNITS = (1, 255, 0, 2, 3, 247, 126)
#: Unit ids that nobody uses: who answers these, answers all.
_CONTROLS = (211, 199, 173, 251)
_MEANINGLESS = (255, 0)
_HINT = "is it on, Modbus TCP enabled in it, and its address right?"

#: How a unit answers the first questions: with words or which refusal, and what it says of itself.
_Sign = tuple[object, ...]
_WORDS = "words"


async def scan_host(search: Search, host: str, port: int, units: Sequence[int], connect_s: float) -> bool:
    """Look for units behind one TCP port. Whether any was found.

    Raises ``Unavailable`` when it can't be reached, ``BadData`` when what answers is no Modbus.
    """
    behind = _Host(search, ModbusUrl("tcp", host, port), connect_s)
    try:
        await behind.open()
        return await behind.scan(units)
    finally:
        behind.close()


class _Host:
    """One TCP port and the one connection to it."""

    def __init__(self, search: Search, url: ModbusUrl, connect_s: float) -> None:
        self._search = search
        self._url = url
        self._connect_s = connect_s
        self._line: Line | None = None
        self._gateway = False
        self._shy: set[int] = set()  #: units that hang up when they are asked who they are, a function of few devices

    async def open(self) -> None:
        """Connect. Raises ``Unavailable``."""
        address = self._url.name.partition("://")[2]
        try:
            async with asyncio.timeout(self._connect_s):
                self._line = await open_line(f"socket://{address}", 0, "8N1")
        except TimeoutError:
            raise Unavailable(f"open {self._url.name}", f"no answer within {self._connect_s:g} s", _HINT) from None
        except Unavailable as error:
            raise Unavailable(f"open {self._url.name}", error.reason, _HINT) from error
        self._asker = Asker(self._line, self._search.patience, self._search.clock, shy=self._shy)

    def close(self) -> None:
        """Close; also when it is not open."""
        if self._line is not None:
            self._line.close()
            self._line = None

    async def scan(self, units: Sequence[int]) -> bool:
        """Ask these units; whether any answered."""
        signs = await self._signs(units)
        own: dict[int, FoundUnit] = {}
        alike = await self._alike(signs, units, own) if len(signs) > 1 else []
        for unit in sorted(signs, key=lambda one: (one in _MEANINGLESS, one)):
            if unit in alike:
                continue
            found = own.get(unit)
            if found is None or not found.models:
                found = own[unit] = await self._describe(unit)
            if unit in _MEANINGLESS and any(
                _same(found, other) and signs[unit] == signs[one] for one, other in own.items() if one != unit
            ):
                del own[unit]
            else:
                self._search.found(found)
        if alike:
            await self._tell_alike(alike, own.values())
        return bool(signs)

    async def _alike(self, signs: Mapping[int, _Sign], units: Sequence[int], own: dict[int, FoundUnit]) -> list[int]:
        """The unit ids that are answered like one that nobody has. What is learnt of others is put into ``own``."""
        control = next((one for one in _CONTROLS if one not in units), _CONTROLS[-1])
        sign = await self._sign(control)
        alike = [unit for unit in signs if signs[unit] == sign]
        if sign is None or sign[0] == _WORDS or not alike:
            return alike
        # Some gateways refuse for units that are not there, in the words of a unit that lacks the register.
        nobody = await self._describe(control, guess=False)
        described = {unit: await self._describe(unit, guess=False) for unit in alike}
        own |= {unit: found for unit, found in described.items() if not _same(found, nobody)}
        return [unit for unit in alike if unit not in own]

    async def _tell_alike(self, units: Sequence[int], others: Collection[FoundUnit]) -> None:
        """The one device behind all these unit ids, under the id that its profile expects.

        When it says nothing of its own and there are others, it is a gateway's way to say that nobody is there.
        """
        found = await self._describe(1 if 1 in units else units[0])
        expected = {model.profile.name: model.profile.unit_id for model in self._search.models}
        wanted = expected.get(found.models[0]) if found.models else None
        unit = wanted if wanted is not None and wanted in units else found.unit_id
        if not others or found.models or found.said not in {(), *(other.said for other in others)}:
            self._search.found(replace(found, unit_id=unit, notes=(*found.notes, "it answers every unit id alike")))

    async def _signs(self, units: Sequence[int]) -> dict[int, _Sign]:
        """How each unit that is there answers."""
        signs: dict[int, _Sign] = {}
        for index, unit in enumerate(units):
            left_s = (len(units) - index) * self._search.patience.timeout_s
            self._search.watch.step(f"{self._url.name}: asking for Modbus units", f"unit {unit}", left_s)
            sign = await self._sign(unit)
            if sign is not None:
                signs[unit] = sign
        if self._gateway and len(units) < len(ALL_UNITS):
            self._search.watch.say(f"{self._url.name} is a gateway: `--units 1-247` looks at all of its bus")
        return signs

    async def _sign(self, unit: int) -> _Sign | None:
        try:
            answer = await probe(self._asker, unit, self._search.models)
            if answer is None:
                return None
            if isinstance(answer, Refused) and answer.code in {NO_PATH, NO_TARGET}:
                self._gateway = True
                return None
        except Unavailable:
            self.close()
            await self.open()
            return None
        try:
            said = await self._asker.identify(unit)
        except Unavailable:
            self._shy.add(unit)
            self.close()
            await self.open()
            said = {}
        return (answer if isinstance(answer, Refused) else _WORDS, tuple(sorted(said.items())))

    async def _describe(self, unit: int, *, guess: bool = True) -> FoundUnit:
        try:
            return await describe(self._search, self._asker, unit, self._url.name, guess=guess)
        except Unavailable:
            self.close()
            await self.open()
            note = "it closed the connection when it was asked what it is"
            return FoundUnit(self._url.name, unit, notes=(note,))


def _same(found: FoundUnit, other: FoundUnit) -> bool:
    """Whether two unit ids are the same device, as far as can be seen."""
    return (found.said, found.models, found.identity) == (other.said, other.models, other.identity)
