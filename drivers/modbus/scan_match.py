"""Which known model a unit is: what to ask it next, and what fits the answers. Pure, no wire.

Rules of this file:

1. All rows of a profile's ``match`` must hold. A profile without rows is never proposed by what registers hold.
2. A question is asked once, whoever wants it; a row is asked for only while all rows before it hold.
3. Of several profiles that fit, the one that asks for most comes first: more rows, then longer texts, then its name.
4. Where no rows tell, values do: a profile whose points all answer, and give mains voltages, mains frequencies and the
   like, is a guess, told as one. A value that can't be ends it; 0 says nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.core.model import Number
from drivers.codec.registers import Register, TextRegister, number_of, signed_missing, text_of
from drivers.codec.registers_block import scaled
from drivers.modbus.model import ModbusMatch, ModbusPoint, ModbusProfile
from drivers.modbus.scan_ask import Answer
from drivers.modbus.scan_frames import Question

Answers = Mapping[Question, Answer]

#: Objects of the device identification (Modbus Application Protocol V1.1b3, 6.21).
OBJECTS = {
    0: "vendor",
    1: "product code",
    2: "revision",
    3: "vendor url",
    4: "product name",
    5: "model name",
    6: "application",
}
#: Points that show a person at once whether a profile is the right one, the best first.
_TELLING = ("charger_status", "voltage_l1_v", "voltage_v", "frequency_hz", "power_w", "energy_import_wh", "soc_pct")
_EXAMPLES = 3
#: What values of a device in use lie between, by how the point's name begins: those that tell a register map.
_PLAUSIBLE = (
    ("voltage_l1_v", 80, 520),
    ("voltage_v", 80, 520),
    ("frequency_hz", 45, 66),
    ("current_max_a", 6, 125),
    ("current_limit_a", 6, 125),
    ("voltage_l2_v", 80, 520),
    ("soc_pct", 1, 100),
)
_STATUS = "charger_status"
#: One value may be right by chance.
_MIN_EVIDENCE = 2
_MAX_GUESSES = 8
#: Words of makers' names that say nothing.
_EMPTY_WORDS = {"gmbh", "inc", "the", "and", "electric", "energy", "ltd", "bv"}
_MIN_WORD = 3


@dataclass(frozen=True, slots=True)
class Model:
    """A known model: its profile, and who makes it."""

    profile: ModbusProfile
    maker: str = ""


def question_for(register: Register | TextRegister) -> Question:
    """The question that reads a register."""
    return Question(register.table, register.address, register.count)


def match_questions(models: Iterable[Model], answers: Answers) -> Iterator[Question]:
    """What must be asked to know which models fit. Each answer must be in ``answers`` before the next one is taken."""
    for model in models:
        for row in model.profile.match:
            question = question_for(row.register)
            if question not in answers:
                yield question
            if not holds(row, answers[question]):
                break


def fitting(models: Iterable[Model], answers: Answers) -> list[Model]:
    """The models that fit, the most specific first."""
    fit = [
        model
        for model in models
        if model.profile.match
        and all(holds(row, answers.get(question_for(row.register))) for row in model.profile.match)
    ]
    return sorted(fit, key=_rank)


@dataclass(frozen=True, slots=True)
class Guess:
    """A profile whose values are plausible, and how many of them say so."""

    name: str
    evidence: int


def guess_questions(models: Iterable[Model], answers: Answers) -> Iterator[Question]:
    """What must be asked for ``guesses``; as ``match_questions``."""
    for model in models:
        for point in _evidence_points(model.profile):
            for register in (point.register, point.exponent):
                if register is not None and question_for(register) not in answers:
                    yield question_for(register)
            if _evidence(point, answers) is None:
                break


def guesses(models: Iterable[Model], answers: Answers) -> list[Guess]:
    """The profiles whose points are plausible, those with most evidence first."""
    found = []
    for model in models:
        evidence = [_evidence(point, answers) for point in _evidence_points(model.profile)]
        known = [one for one in evidence if one is not None]
        if len(known) == len(evidence) and sum(known) >= _MIN_EVIDENCE and not _refuted(model, answers):
            found.append(Guess(model.profile.name, sum(known)))
    return sorted(found, key=lambda one: (-one.evidence, one.name))[:_MAX_GUESSES]


def _refuted(model: Model, answers: Answers) -> bool:
    """Whether a register says that it is not this model; one that is refused says nothing."""
    rows = ((row, answers.get(question_for(row.register))) for row in model.profile.match)
    return any(isinstance(answer, tuple) and not holds(row, answer) for row, answer in rows)


def _evidence_points(profile: ModbusProfile) -> list[ModbusPoint]:
    known = {point.point: point for point in profile.points}
    return [known[name] for name in (*(name for name, *_ in _PLAUSIBLE), _STATUS) if name in known]


def _evidence(point: ModbusPoint, answers: Answers) -> int | None:
    """Whether a point's value speaks for its profile: 1, or 0 when it says nothing; None: it speaks against it."""
    if not all(isinstance(answers.get(question_for(one)), tuple) for one in (point.register, point.exponent) if one):
        return None
    value = _number(point, answers)
    if not value:
        return 0
    if point.point == _STATUS:
        return 1 if round(value) in point.labels else None
    low, high = next((low, high) for name, low, high in _PLAUSIBLE if name == point.point)
    return 1 if low <= value <= high else None


def holds(row: ModbusMatch, answer: Answer) -> bool:
    """Whether a row of ``match`` holds."""
    if not isinstance(answer, tuple):
        return False
    if isinstance(row.register, TextRegister):
        text = text_of(row.register, answer)
        if row.register.hex:
            return text.lower().startswith(tuple(one.lower() for one in row.texts))
        return text.startswith(row.texts)
    raw, register = number_of(row.register, answer), row.register
    return raw is not None and any(
        signed_missing(register, low) <= raw <= signed_missing(register, high) for low, high in row.ranges
    )


def by_name(models: Iterable[Model], texts: Sequence[str]) -> list[str]:
    """Names of profiles whose maker a device names: what to look at when no profile fits."""
    said = set(_words(" ".join(texts)))
    return sorted(model.profile.name for model in models if said & set(_words(model.maker)))


def default_units(models: Iterable[Model], usual: Iterable[int]) -> tuple[int, ...]:
    """The addresses to try where nobody says which: the usual ones, then those that known models are delivered with."""
    units = dict.fromkeys(usual)
    units |= dict.fromkeys(sorted(model.profile.unit_id for model in models))
    return tuple(units)


def input_only(models: Iterable[Model]) -> frozenset[int]:
    """Addresses of known models that have no holding registers, and may keep silent when they are asked for one."""
    return frozenset(
        model.profile.unit_id
        for model in models
        if all(point.register.table == "input" for point in model.profile.points)
    )


def telling_points(profile: ModbusProfile) -> list[ModbusPoint]:
    """Some points whose values show whether the profile is right."""
    known = {point.point: point for point in profile.points}
    return [known[name] for name in _TELLING if name in known][:_EXAMPLES]


def value_of(point: ModbusPoint, answers: Answers) -> str | None:
    """A point's value for people; None when it is not there."""
    value = _number(point, answers)
    if value is None:
        return None
    if point.labels and value in point.labels:
        return point.labels[int(value)]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _number(point: ModbusPoint, answers: Answers) -> Number | None:
    """A point's value in its unit, of points with labels the raw one; None when it is not there."""
    words = answers.get(question_for(point.register))
    raw = number_of(point.register, words) if isinstance(words, tuple) else None
    if raw is None or any(low <= raw <= high for low, high in point.missing):
        return None
    if point.labels:
        return raw
    if point.exponent is not None:
        power = answers.get(question_for(point.exponent))
        raw = scaled(raw, number_of(point.exponent, power) if isinstance(power, tuple) else None)
    return None if raw is None else raw * point.scale + point.offset


def identity_text(register: Register | TextRegister, answer: Answer) -> str | None:
    """What a row of ``identity`` says; None when it says nothing."""
    if not isinstance(answer, tuple):
        return None
    if isinstance(register, TextRegister):
        return text_of(register, answer) or None
    number = number_of(register, answer)
    return None if number is None else str(number)


def _rank(model: Model) -> tuple[int, int, str]:
    rows = model.profile.match
    return -len(rows), -sum(min(map(len, row.texts), default=0) for row in rows), model.profile.name


def _words(text: str) -> Iterator[str]:
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        if len(word) >= _MIN_WORD and word not in _EMPTY_WORDS:
            yield word
