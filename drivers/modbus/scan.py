"""Finding units on Modbus: which addresses answer, at which speed, and what they are. Only reads.

Rules of this file:

1. An exception is an answer: the unit is there. Only a gateway's own exceptions (0x0A, 0x0B) say that it is not.
2. Never two connections to one host: some take one client only. One that was closed on us is opened anew, and the
   unit that was asked is passed over.
3. A host that answers every unit id alike is one device; so is one that answers 0 and 255 as it answers another id
   (Modbus Messaging on TCP/IP Implementation Guide V1.0b, 4.4.2.1: ids that mean nothing).
4. Every wait is bounded: so many units, speeds and silent registers, each with its time-out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.core.clock import Clock
from agent.core.errors import BadData, Unavailable, Unsupported
from drivers.codec.registers import Table
from drivers.line import Line, open_line
from drivers.modbus.model import ModbusProfile
from drivers.modbus.scan_ask import NO_PATH, NO_TARGET, Answer, Asker, Patience, Refused
from drivers.modbus.scan_frames import Question
from drivers.modbus.scan_match import (
    OBJECTS,
    Answers,
    Guess,
    Model,
    by_name,
    fitting,
    guess_questions,
    guesses,
    identity_text,
    input_only,
    match_questions,
    question_for,
    telling_points,
    value_of,
)
from drivers.modbus.settings import ModbusUrl
from drivers.modbus.sunspec import discover

BAUDS = (9600, 19200, 38400, 115_200, 2400)
PARITIES = ("N", "E", "O")
#: Addresses that devices leave the factory with, beside those that profiles name.
TCP_UNITS = (1, 255, 0, 2, 3, 247, 126)
RTU_UNITS = (*range(1, 17), 247)
ALL_UNITS = range(1, 248)
SUNSPEC = "sunspec"

#: What every unit is asked first: two registers, for some devices have none that go alone.
_PROBE = Question("holding", 0, 2)
_SECOND_PROBE = Question("input", 0, 2)
#: Unit ids that nobody uses: who answers these, answers all.
_CONTROLS = (211, 199, 173)
_MEANINGLESS = (255, 0)
#: Registers on which a unit may keep silent before it is asked for no more of them.
_MAX_SILENT = 20
#: How much longer a unit is waited for that was too slow for the first question.
_SLOWER = 4
#: So many plausible values make a profile that is the only one of its kind more than a guess.
_SURE_EVIDENCE = 3


@dataclass(frozen=True, slots=True)
class FoundUnit:
    """A unit that answers. ``models`` are names of profiles that fit, the best first; none: nobody knows it."""

    url: str
    unit_id: int
    models: tuple[str, ...] = ()
    said: tuple[tuple[str, str], ...] = ()  #: what it says of itself, by function 43/14
    identity: tuple[tuple[str, str], ...] = ()  #: what the profile reads as its identity
    values: tuple[tuple[str, str], ...] = ()  #: some points, in their units
    guesses: tuple[str, ...] = ()  #: profiles whose values are plausible, where none is known to fit
    similar: tuple[str, ...] = ()  #: profiles of the same maker, where none fits
    notes: tuple[str, ...] = ()


class Watcher(Protocol):
    """Who wants to know how it goes."""

    def step(self, stage: str, detail: str, left_s: float) -> None:
        """What is tried now, where in it, and about how long the rest of it takes."""

    def say(self, text: str) -> None:
        """A finding that stays."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search knows and how patient it is. ``found`` is called with each unit as it is found."""

    models: Sequence[Model]
    patience: Patience
    clock: Clock
    watch: Watcher
    found: Callable[[FoundUnit], None]


_HINT = "is it on, Modbus TCP enabled in it, and its address right?"
#: How a unit answers the first questions: with words or which refusal, and what it says of itself.
_Sign = tuple[object, ...]
_Following = Callable[[Sequence[Model], Answers], Iterator[Question]]
_WORDS = "words"


def speeds(bauds: Sequence[int] = BAUDS, parities: Sequence[str] = PARITIES) -> list[tuple[int, str]]:
    """(baud, parity) in the order in which they are tried: odd parity is rare, so it comes last."""
    return sorted(((baud, parity) for baud in bauds for parity in parities), key=lambda one: one[1] == "O")


# --- TCP ---


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
        self._asker = Asker(self._line, self._search.patience, self._search.clock)

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
        control = next(one for one in _CONTROLS if one not in units)
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
            answer = await _probe(self._asker, unit, self._search.models)
            if answer is None:
                return None
            if isinstance(answer, Refused) and answer.code in {NO_PATH, NO_TARGET}:
                self._gateway = True
                return None
            said = await self._asker.identify(unit)
        except Unavailable:
            self.close()
            await self.open()
            return None
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


# --- RTU ---


@dataclass(frozen=True, slots=True)
class RtuPlan:
    """What is tried on a serial line. ``widen``: where a unit was found, all addresses are asked at its speed."""

    speeds: Sequence[tuple[int, str]]
    units: Sequence[int]
    widen: bool

    def left_s(self, patience: Patience, tried: int, units_tried: int = 0) -> float:
        """About how long the rest takes when nobody answers."""
        one_s = patience.timeout_s + patience.pause_s
        return ((len(self.speeds) - tried) * len(self.units) - units_tried) * one_s


async def scan_line(search: Search, line: Line, plan: RtuPlan) -> bool:
    """Look for units on an open serial line, or behind a serial server. Whether any was found.

    Raises what the line raises.
    """
    heard: list[str] = []
    for tried, (baud, parity) in enumerate(plan.speeds[:1] if line.fixed else plan.speeds):
        framing = f"8{parity}1"
        try:
            await line.set_line(baud, framing)
        except Unsupported:
            continue  # a speed that this adapter does not have
        line.drain()
        asker = Asker(line, search.patience, search.clock, baud)
        told = line.name if line.fixed else f"{line.name} {baud} {framing}"
        units = [unit async for unit in _answering(search, asker, told, plan, tried)]
        if units or asker.late:
            await _describe_all(search, asker, line, (baud, parity), plan, units)
            return True
        if asker.heard:
            heard.append(f"{baud} {framing}")
    if heard:
        search.watch.say(f"{line.name}: something came at {', '.join(heard)}, but no answer in Modbus RTU")
    return False


async def _answering(search: Search, asker: Asker, told: str, plan: RtuPlan, tried: int) -> AsyncIterator[int]:
    for index, unit in enumerate(plan.units):
        search.watch.step(
            f"{told}: asking for Modbus units", f"unit {unit}", plan.left_s(search.patience, tried, index)
        )
        if await _probe(asker, unit, search.models) is not None:
            yield unit


async def _describe_all(
    search: Search, asker: Asker, line: Line, speed: tuple[int, str], plan: RtuPlan, units: list[int]
) -> None:
    """Tell what the units are that answered at this speed, and who else is there."""
    baud, parity = speed
    url = (
        f"rtu+tcp://{line.name.partition('://')[2]}" if line.fixed else f"rtu://{line.name}?baud={baud}&parity={parity}"
    )
    if asker.late:
        slower = replace(search.patience, timeout_s=_SLOWER * search.patience.timeout_s)
        late, asker = asker.late, Asker(line, slower, search.clock, baud)
        units = sorted({*units, *(late & set(plan.units))})
    for unit in units:
        search.found(await describe(search, asker, unit, url))
    rest = [unit for unit in ALL_UNITS if unit not in plan.units] if plan.widen else []
    others = RtuPlan([speed], rest, widen=False)
    async for unit in _answering(search, asker, url, others, 0):
        search.found(await describe(search, asker, unit, url))


# --- one unit ---


async def _probe(asker: Asker, unit: int, models: Sequence[Model]) -> Answer:
    """Any answer of a unit."""
    answer = await asker.read(unit, _PROBE)
    if answer is None and unit in input_only(models):
        answer = await asker.read(unit, _SECOND_PROBE)
    return answer


async def describe(search: Search, asker: Asker, unit: int, url: str, *, guess: bool = True) -> FoundUnit:
    """What a unit is. ``guess``: where no profile is known to fit, try whose values are plausible.

    Raises what the asker raises.
    """
    said = await asker.identify(unit)
    texts = [text for _, text in sorted(said.items())]
    answers: dict[Question, Answer] = {}
    await _ask_all(search, asker, unit, url, answers, match_questions)
    names = [model.profile.name for model in fitting(search.models, answers)]
    sunspec, notes = await _sunspec(asker, unit)
    if sunspec is not None:
        names.append(SUNSPEC)
    similar = () if names else tuple(by_name(search.models, texts))
    guessed: list[Guess] = []
    if guess and not names:
        await _ask_all(search, asker, unit, url, answers, guess_questions)
        guessed = guesses(search.models, answers)
        guessed = [one for one in guessed if one.name in similar] or guessed
        if len(guessed) == 1 and guessed[0].evidence >= _SURE_EVIDENCE:
            names = [guessed.pop().name]
            notes = (*notes, "recognised by its values, not by its name: check that this is its profile")
    best = next((model.profile for model in search.models if names and model.profile.name == names[0]), sunspec)
    identity: list[tuple[str, str]] = []
    values: list[tuple[str, str]] = []
    if best is not None:
        for name, register in best.identity.items():
            text = identity_text(register, await asker.read(unit, question_for(register)))
            identity += [(name, text)] if text else []
        values = [pair async for pair in _values(asker, unit, best)]
    return FoundUnit(
        url,
        unit,
        models=tuple(names),
        said=tuple((OBJECTS.get(number, f"object {number}"), text) for number, text in sorted(said.items()) if text),
        identity=tuple(identity),
        values=tuple(values),
        guesses=tuple(one.name for one in guessed),
        similar=similar,
        notes=notes,
    )


async def _ask_all(
    search: Search, asker: Asker, unit: int, url: str, answers: dict[Question, Answer], questions: _Following
) -> None:
    """Ask until nothing more follows. A unit that keeps silent too often is taken to be silent on the rest."""
    silent = 0
    for question in questions(search.models, answers):
        search.watch.step(f"{url}: asking unit {unit} what it is", f"register {question.address}", 0)
        answers[question] = None if silent >= _MAX_SILENT else await asker.read(unit, question)
        silent += answers[question] is None


async def _values(asker: Asker, unit: int, profile: ModbusProfile) -> AsyncIterator[tuple[str, str]]:
    for point in telling_points(profile):
        registers = [point.register, *([point.exponent] if point.exponent else [])]
        answers = {question: await asker.read(unit, question) for question in map(question_for, registers)}
        value = value_of(point, answers)
        if value is not None:
            yield point.point, value


async def _sunspec(asker: Asker, unit: int) -> tuple[ModbusProfile | None, tuple[str, ...]]:
    """What SunSpec makes of it; None when it does not speak it, with a note when it tries to."""

    async def read(table: Table, address: int, count: int) -> list[int]:
        answer = await asker.read(unit, Question(table, address, count))
        if not isinstance(answer, tuple):
            raise Unsupported("read", "refused" if answer else "no answer")
        return list(answer)

    try:
        return await discover(read), ()
    except Unsupported as error:
        return None, ((f"SunSpec: {error.reason}",) if "models" in error.reason else ())
    except BadData as error:
        return None, (f"SunSpec: {error.reason}",)
