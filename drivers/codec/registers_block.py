"""Answers to one question, decoded at once: all that depends only on the profile is worked out beforehand.

Rules of this file:

1. A block of registers is put into one order of bytes (only where a profile mixes orders or reads registers twice) and
   unpacked by one ``struct``; only values that need it (bits, BCD, missing ones, exponents) are looked at one by one.
2. What comes out are the words of samples (``agent/core/model.py``), None for "not there".
3. An exponent is a register of its own (SunSpec ``sunssf``): value = raw * 10 ** exponent. Where it lies in another
   block, the newest one that was read counts; as long as there is none, there is no value.
"""

import itertools
import struct
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import itemgetter
from typing import cast

from agent.core.model import Encoding, Number
from drivers.codec.registers import BIT_TABLES, Register
from drivers.codec.registers_pack import MAX_REGISTERS, Span, pack

#: SunSpec Device Information Model Specification 1.1, 4.5: an exponent is -10 to 10; 0x8000 says that there is none.
MAX_EXPONENT = 10

Exponents = MutableMapping[Register, Number | None]
_Fix = Callable[[Number], Number | None]

_LETTERS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
    "bcd16": "H",
    "bcd32": "I",
    "bcd64": "Q",
}
_WORD_LETTERS = {Encoding.INT: "q", Encoding.UINT: "Q", Encoding.FLOAT: "d"}


@dataclass(frozen=True, slots=True)
class Field:
    """A value that is read: its register, the raw values (inclusive ranges) that mean "not there", its exponent.

    ``missing`` is held against what ``number_of`` gives: after ``bits``, and of a float against the number itself.
    """

    register: Register
    missing: tuple[tuple[Number, Number], ...] = ()
    exponent: Register | None = None

    @property
    def encoding(self) -> Encoding:
        """How its words are read."""
        return Encoding.FLOAT if self.exponent else self.register.encoding

    def spans(self, max_registers: int) -> list[Span]:
        """The cells that it needs: with its exponent in one where one question can ask for both."""
        own = span_of(self.register)
        if self.exponent is None:
            return [own]
        other = span_of(self.exponent)
        first, end = min(own.address, other.address), max(own.end, other.end)
        if own.table == other.table and end - first <= max_registers:
            return [Span(own.table, first, end - first)]
        return [other, own]


def span_of(register: Register) -> Span:
    """The cells of one register."""
    return Span(register.table, register.address, register.count)


def blocks_for(fields: Sequence[Field], max_registers: int = MAX_REGISTERS, max_gap: int = 0) -> "list[Block]":
    """The blocks that read all these fields, each in one of them. Those that need exponents of others come last."""
    homes = [field.spans(max_registers) for field in fields]
    questions = pack((span for spans in homes for span in spans), max_registers, max_gap)

    def home(span: Span) -> int:
        return next(index for index, question in enumerate(questions) if question.holds(span))

    members: list[list[int]] = [[] for _ in questions]
    exponents: list[set[Register]] = [set() for _ in questions]
    for index, (field, spans) in enumerate(zip(fields, homes, strict=True)):
        members[home(spans[-1])].append(index)
        if field.exponent is not None:
            exponents[home(spans[0])].add(field.exponent)
    made = [
        Block(question, [fields[index] for index in inside], sorted(others, key=lambda one: one.address), inside)
        for question, inside, others in zip(questions, members, exponents, strict=True)
    ]
    return sorted(made, key=lambda block: block.needs_others)


class Block:
    """Decodes the answers to one question.

    ``exponents`` are registers in it that scale fields of this block or of others. ``places`` says for each field
    where it stands in whatever list the caller has made it from.
    """

    def __init__(
        self, span: Span, fields: Sequence[Field], exponents: Sequence[Register] = (), places: Sequence[int] = ()
    ) -> None:
        self.span = span
        self.fields = tuple(fields)
        self.exponents = tuple(exponents)
        self.places = tuple(places)
        #: Bytes of data that an answer has.
        self.length = (span.count + 7) // 8 if span.table in BIT_TABLES else 2 * span.count
        registers = [*(field.register for field in self.fields), *self.exponents]
        self._offsets = [register.address - span.address for register in registers]
        self._pick: Callable[[bytes], tuple[int, ...]] | None = None
        if span.table not in BIT_TABLES:
            self._layout(registers)
        self._floats = any(register.is_float for register in registers)
        self._fixes = [
            (index, fix)
            for index, field in enumerate((*self.fields, *map(Field, self.exponents)))
            if (fix := _fix(field)) is not None
        ]
        self._scaled = [(index, field.exponent) for index, field in enumerate(self.fields) if field.exponent]
        encodings = [field.encoding for field in self.fields]
        self._repack = any(encoding is not Encoding.INT for encoding in encodings)
        self._from_numbers = struct.Struct("<" + "".join(_WORD_LETTERS[encoding] for encoding in encodings))
        self._to_words = struct.Struct(f"<{len(encodings)}q")

    @property
    def needs_others(self) -> bool:
        """Whether some of its values depend on an exponent that lies in another block."""
        return any(exponent not in self.exponents for _, exponent in self._scaled)

    def decode(self, data: bytes, exponents: Exponents) -> Sequence[int | None]:
        """The words of the fields, in their order. ``data`` has ``length`` bytes, as the answer carries them.

        ``exponents`` are the newest known ones: those of this block are put there, the others are looked up.
        """
        numbers: list[Number | None]
        if self.span.table in BIT_TABLES:
            cells = int.from_bytes(data, "little")
            numbers = [cells >> offset & 1 for offset in self._offsets]
        else:
            unpacked: tuple[Number, ...] = self._unpack(bytes(self._pick(data)) if self._pick else data)
            numbers = list(unpacked)
            if self._floats and not all(map(isfinite, unpacked)):
                numbers = [number if isfinite(number) else None for number in unpacked]
        for index, fix in self._fixes:
            number = numbers[index]
            if number is not None:
                numbers[index] = fix(number)
        if self.exponents:
            exponents.update(zip(self.exponents, numbers[len(self.fields) :], strict=True))
            del numbers[len(self.fields) :]
        for index, exponent in self._scaled:
            numbers[index] = scaled(numbers[index], exponents.get(exponent))
        if not self._repack:
            return cast("list[int | None]", numbers)  # whole numbers are their own words
        unknown = [index for index, number in enumerate(numbers) if number is None]
        for index in unknown:
            numbers[index] = 0
        words: list[int | None] = list(self._to_words.unpack(self._from_numbers.pack(*numbers)))
        for index in unknown:
            words[index] = None
        return words

    def _layout(self, registers: Sequence[Register]) -> None:
        """Find the ``struct`` that unpacks these registers, and the order of bytes that it needs."""
        order = [position for register in registers for position in self._bytes_of(register)]
        letters = [_letter(register) for register in registers]
        if all(one < other for one, other in itertools.pairwise(order)):
            form, at = ">", 0
            for register, offset, letter in zip(registers, self._offsets, letters, strict=True):
                form += f"{2 * offset - at}x{letter}"
                at = 2 * (offset + register.count)
            self._unpack = struct.Struct(f"{form}{self.length - at}x").unpack
        else:
            self._pick = itemgetter(*order)
            self._unpack = struct.Struct(">" + "".join(letters)).unpack

    def _bytes_of(self, register: Register) -> Iterable[int]:
        """Where the bytes of a value stand in the answer, the highest first."""
        cells = range(register.address - self.span.address, register.address - self.span.address + register.count)
        for cell in cells if register.word_order == "big" else reversed(cells):
            yield from (2 * cell, 2 * cell + 1) if register.byte_order == "big" else (2 * cell + 1, 2 * cell)


def scaled(raw: Number | None, exponent: Number | None) -> float | None:
    """``raw`` * 10 ** ``exponent`` as the nearest float; None when either is not there."""
    if raw is None or exponent is None or not -MAX_EXPONENT <= exponent <= MAX_EXPONENT:
        return None
    power = 10 ** abs(int(exponent))
    return float(raw * power) if exponent >= 0 else raw / power


def _letter(register: Register) -> str:
    letter = _LETTERS[register.type]
    return letter.upper() if register.bits else letter


def _fix(field: Field) -> _Fix | None:
    """What must be done with an unpacked number before it is a raw value; None for nothing."""
    register, missing = field.register, field.missing

    def is_missing(number: Number) -> bool:
        return any(low <= number <= high for low, high in missing)

    if register.bits is not None:
        lowest, mask = register.bits[0], (1 << register.bits[1]) - 1

        def bits(number: Number) -> Number | None:
            value = int(number) >> lowest & mask
            return None if is_missing(value) else value

        return bits
    if register.is_bcd:

        def bcd(number: Number) -> Number | None:
            digits = f"{number:x}"
            return int(digits) if digits.isdecimal() and not is_missing(int(digits)) else None

        return bcd
    if not missing:
        return None
    return lambda number: None if is_missing(number) else number
