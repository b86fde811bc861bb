"""What a unit on Modbus is: by what it says of itself, by its registers, by SunSpec, by plausible values. Only reads.

Every wait is bounded: so many questions, and so many of them that a unit may keep silent on.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.core.clock import Clock
from agent.core.errors import BadData, Unsupported
from drivers.codec.registers import Table
from drivers.modbus.model import ModbusProfile
from drivers.modbus.scan_ask import Answer, Asker, Patience
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
from drivers.modbus.sunspec import discover

ALL_UNITS = range(1, 248)  #: addresses on a serial line (Modbus over Serial Line V1.02, 2.2)
SUNSPEC = "sunspec"

#: What every unit is asked first: two registers, for some devices have none that go alone.
_PROBE = Question("holding", 0, 2)
_SECOND_PROBE = Question("input", 0, 2)
#: Registers on which a unit may keep silent before it is asked for no more of them.
_MAX_SILENT = 20
#: So many plausible values make a profile that is the only one of its kind more than a guess.
_SURE_EVIDENCE = 3

_Following = Callable[[Sequence[Model], Answers], Iterator[Question]]


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


async def probe(asker: Asker, unit: int, models: Sequence[Model]) -> Answer:
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
        search.watch.step(f"{url}: asking what its units are", f"unit {unit}, register {question.address}", 0)
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
