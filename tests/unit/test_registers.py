"""Registers: single values against the standard's examples, blocks against single values, questions within limits."""

import math
import struct
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import Encoding, Number, SignalSpec, float_to_word
from drivers.codec.registers import (
    BIT_TABLES,
    REGISTERS,
    Order,
    Register,
    RegisterType,
    Table,
    TextRegister,
    number_of,
    signed_missing,
    text_of,
    words_of,
)
from drivers.codec.registers_block import Block, Exponents, Field, blocks_for, scaled, span_of
from drivers.codec.registers_pack import MAX_BITS, Span, pack

LITTLE, BIG = "little", "big"
WORDS: list[RegisterType] = [name for name in REGISTERS if name != "bit"]


def register(kind: RegisterType, word_order: Order = "big", byte_order: Order = "big", **more: object) -> Register:
    return Register("holding", 0, kind, word_order, byte_order, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "words", "number"),
    [
        (register("uint16"), [0xFFFE], 65534),
        (register("int16"), [0xFFFE], -2),
        (register("int16", "big", "little"), [0xFEFF], -2),
        (register("uint32"), [0x0001, 0x86A0], 100_000),
        (register("uint32", "little"), [0x86A0, 0x0001], 100_000),
        (register("uint32", "little", "little"), [0xA086, 0x0100], 100_000),
        (register("int32"), [0xFFFF, 0xFF38], -200),
        (register("int64"), [0xFFFF, 0xFFFF, 0xFFFF, 0xFF38], -200),
        (register("uint64"), [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF], 2**64 - 1),
        (register("uint64", "little"), [4, 3, 2, 1], 0x0001_0002_0003_0004),
        (register("float32"), [0x4366, 0x0000], 230.0),
        (register("float32", "little"), [0x0000, 0x4366], 230.0),
        (register("float32", "big", "little"), [0x6643, 0x0000], 230.0),
        (register("float64"), [0x406C, 0xC000, 0x0000, 0x0000], 230.0),
        (register("float32"), [0x7FC0, 0x0000], None),
        (register("float32"), [0x7F80, 0x0000], None),
        (register("float64"), [0xFFF0, 0x0000, 0x0000, 0x0000], None),
        (register("bcd16"), [0x1234], 1234),
        (register("bcd16"), [0x12A4], None),
        (register("bcd32"), [0x0012, 0x3456], 123456),
        (register("bcd32", "little"), [0x3456, 0x0012], 123456),
        (register("bcd64"), [0x9999] * 4, 10**16 - 1),
        (register("bcd64"), [0xFFFF] * 4, None),
        (register("uint16", bits=(4, 3)), [0x0075], 7),
        (register("int32", bits=(31, 1)), [0x8000, 0], 1),
        (register("uint64", bits=(0, 64)), [0xFFFF] * 4, 2**64 - 1),
        (Register("coil", 0, "bit"), [1], 1),
        (Register("discrete", 0, "bit"), [0], 0),
    ],
)
def test_single_values(one: Register, words: list[int], number: Number | None) -> None:
    assert number_of(one, words) == number
    if number is not None and one.bits is None:
        assert list(words_of(one, number)) == words


@pytest.mark.parametrize(
    ("one", "raw"),
    [
        (register("uint16"), -1),
        (register("uint16"), 65536),
        (register("int16"), 32768),
        (register("bcd16"), 10000),
        (register("float32"), 1e39),
        (Register("coil", 0, "bit"), 2),
        (register("uint16", bits=(0, 4)), 1),
    ],
)
def test_what_does_not_fit_is_not_written(one: Register, raw: Number) -> None:
    with pytest.raises(ValueError, match=r"fit|bits"):
        words_of(one, raw)


def test_texts() -> None:
    words = list(struct.unpack(">4H", b"AB12 \0xy"))
    assert text_of(TextRegister("holding", 0, 4), words) == "AB12"
    assert text_of(TextRegister("holding", 0, 4, "little"), words) == "BA21"
    assert text_of(TextRegister("holding", 0, 2, hex=True), words[:2]) == "41423132"
    assert text_of(TextRegister("holding", 0, 2), [0x41E9, 0x0742]) == "A??B"
    assert text_of(TextRegister("holding", 0, 2), [0, 0]) == ""


def test_sentinels_may_be_written_as_bits() -> None:
    assert signed_missing(register("int16"), 0x8000) == -32768
    assert signed_missing(register("int16"), -32768) == -32768
    assert signed_missing(register("int32"), 0x8000) == 0x8000
    assert signed_missing(register("uint16"), 0x8000) == 0x8000


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("int64", Encoding.INT), ("uint64", Encoding.UINT), ("uint32", Encoding.INT), ("float32", Encoding.FLOAT)],
)
def test_encodings(kind: RegisterType, encoding: Encoding) -> None:
    assert register(kind).encoding is encoding
    assert register("uint64", bits=(0, 63)).encoding is Encoding.INT


@given(st.sampled_from(WORDS), st.sampled_from([BIG, LITTLE]), st.sampled_from([BIG, LITTLE]), st.data())
def test_what_is_written_reads_the_same(kind: RegisterType, words: Order, octets: Order, data: st.DataObject) -> None:
    one = register(kind, words, octets)
    low, high = one.raw_range
    if one.is_float:
        raw: Number = data.draw(st.floats(allow_nan=False, allow_infinity=False, width=32))
    else:
        raw = data.draw(st.integers(int(low), int(high)))
    assert number_of(one, words_of(one, raw)) == raw


# --- questions ---


SPANS = st.builds(
    Span, st.sampled_from(["holding", "input", "coil"]), st.integers(0, 400), st.sampled_from([1, 1, 2, 4, 9])
)


@given(st.lists(SPANS, max_size=40), st.integers(9, 125), st.integers(0, 20))
def test_questions_hold_all_that_is_wanted_and_keep_to_the_limits(wanted: list[Span], most: int, gap: int) -> None:
    questions = pack(wanted, most, gap)
    for question in questions:
        bits = question.table in BIT_TABLES
        assert question.count <= (min(16 * most, MAX_BITS) if bits else most)
        inside = sorted(span for span in set(wanted) if question.holds(span))
        assert inside, "asked for nothing"
        assert inside[0].address == question.address
        assert max(span.end for span in inside) == question.end
        reach = question.address
        for span in inside:
            assert span.address - reach <= gap * (16 if bits else 1)
            reach = max(reach, span.end)
    assert all(any(question.holds(span) for question in questions) for span in wanted)


def test_gaps_are_read_along_only_as_far_as_allowed() -> None:
    wanted = [Span("holding", 0, 2), Span("holding", 10, 2), Span("holding", 19, 2)]
    assert pack(wanted, 125, 8) == [Span("holding", 0, 21)]
    assert pack(wanted, 125, 7) == [Span("holding", 0, 2), Span("holding", 10, 11)]
    assert pack(wanted, 125, 0) == wanted
    assert pack(wanted, 12, 8) == [Span("holding", 0, 12), Span("holding", 19, 2)]


def test_a_value_longer_than_a_question_is_refused() -> None:
    with pytest.raises(ValueError, match="may ask for 2"):
        pack([Span("holding", 0, 4)], 2)


# --- blocks against single values ---


def fields_of(random: Random) -> list[Field]:
    """Any fields: of each type and order, overlapping, with bits, missing values and exponents."""
    made = []
    for _ in range(random.randint(1, 20)):
        kind = random.choice(WORDS)
        bits = None
        if not kind.startswith("float") and random.random() < 0.25:
            lowest = random.randrange(16 * REGISTERS[kind])
            bits = lowest, random.randint(1, 16 * REGISTERS[kind] - lowest)
        table: Table = random.choice(["holding", "input"])
        orders: list[Order] = random.choices(["big", "little"], [2, 1], k=2)
        one = Register(table, random.randrange(60), kind, orders[0], orders[1], bits)
        low, high = (0, 100) if one.is_float else map(int, one.raw_range)
        pairs = [sorted(random.randint(low, high) for _ in range(2)) for _ in range(random.choice([0, 0, 1, 2]))]
        exponent = Register(table, random.randrange(60), "int16") if random.random() < 0.2 else None
        made.append(Field(one, tuple((first, last) for first, last in pairs), exponent))
    return made


ODD = [0, 1, 2, 0xFFFE, 0xFFFF, 0x8000, 0x7FC0, 0x7F80, 0x1234, 0x9999]
Image = dict[str, list[int]]


def image_of(random: Random) -> Image:
    """Registers of which many hold what is special about some type."""
    return {
        table: [random.choice(ODD) if random.random() < 0.4 else random.randrange(1 << 16) for _ in range(64)]
        for table in ("holding", "input")
    }


def oracle(field: Field, image: Image) -> Number | None:
    """A field's value as the rules say it, one register at a time."""
    one = field.register
    raw = number_of(one, image[one.table][one.address : one.address + one.count])
    if raw is None or any(low <= raw <= high for low, high in field.missing):
        return None
    if field.exponent is None:
        return raw
    power = number_of(field.exponent, image[field.exponent.table][field.exponent.address :][:1])
    if power is None or abs(power) > 10:
        return None
    return float(raw * 10**power) if power >= 0 else raw / 10 ** abs(int(power))


def decode(blocks: Sequence[Block], image: Image, count: int) -> list[Number | None]:
    found: list[Number | None] = [None] * count
    exponents: Exponents = {}
    for block in (*blocks, *blocks):  # two blocks may need exponents of each other: then the second round has them
        words = image[block.span.table][block.span.address : block.span.end]
        data = struct.pack(f">{len(words)}H", *words)
        assert len(data) == block.length
        for place, one, word in zip(block.places, block.fields, block.decode(data, exponents), strict=True):
            spec = SignalSpec("d", "x", encoding=one.encoding)
            found[place] = None if word is None else spec.physical(word)
    return found


@settings(max_examples=500, deadline=None)
@given(st.integers(min_value=0), st.integers(4, 64), st.integers(0, 12))
def test_blocks_decode_as_single_values_do(seed: int, most: int, gap: int) -> None:
    random = Random(seed)  # noqa: S311 - no secrets
    wanted, image = fields_of(random), image_of(random)
    blocks = blocks_for(wanted, most, gap)
    assert sorted(place for block in blocks for place in block.places) == list(range(len(wanted)))
    assert decode(blocks, image, len(wanted)) == [oracle(field, image) for field in wanted]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=30, unique=True), st.binary(min_size=400, max_size=400))
def test_blocks_of_bits_decode_as_single_bits_do(places: list[int], cells: bytes) -> None:
    wanted = [Field(Register("coil", place, "bit")) for place in places]
    for block in blocks_for(wanted, 125, 8):
        number = int.from_bytes(cells, "little") >> block.span.address & (1 << block.span.count) - 1
        data = number.to_bytes(block.length, "little")
        for one, word in zip(block.fields, block.decode(data, {}), strict=True):
            assert word == cells[one.register.address >> 3] >> (one.register.address & 7) & 1


def test_a_value_and_its_exponent_come_in_one_answer_where_they_can() -> None:
    far = Field(Register("holding", 0, "int16"), exponent=Register("holding", 30, "int16"))
    assert [block.span for block in blocks_for([far], 125, 0)] == [Span("holding", 0, 31)]
    blocks = blocks_for([far], 20, 0)
    assert [block.span for block in blocks] == [Span("holding", 30, 1), Span("holding", 0, 1)]
    assert decode(blocks, {"holding": [7, *[0] * 29, 0xFFFF]}, 1) == [0.7]


@pytest.mark.parametrize(
    ("raw", "exponent", "value"),
    [(123, -1, 12.3), (123, 2, 12300.0), (1, 10, 1e10), (1, 11, None), (1, -32768, None), (None, 0, None), (7, 0, 7)],
)
def test_exponents(raw: int | None, exponent: int, value: float | None) -> None:
    assert scaled(raw, exponent) == value


def test_words_of_floats_are_binary64() -> None:
    block = Block(Span("holding", 0, 2), [Field(Register("holding", 0, "float32"))])
    assert block.decode(struct.pack(">f", 0.1), {}) == [float_to_word(struct.unpack(">f", struct.pack(">f", 0.1))[0])]
    assert block.decode(struct.pack(">f", math.nan), {}) == [None]
    assert span_of(block.fields[0].register) == block.span
