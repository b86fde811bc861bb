"""Frames of a scan's questions, and how a unit is recognised: all without a wire."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from agent.core.errors import BadData
from drivers.codec.registers import Register, TextRegister
from drivers.modbus.model import ModbusMatch, ModbusPoint, ModbusProfile
from drivers.modbus.scan_ask import Answer, Patience, Refused
from drivers.modbus.scan_frames import (
    Question,
    crc,
    identification,
    identify_pdu,
    mbap_answer,
    mbap_frame,
    rtu_answers,
    rtu_frame,
)
from drivers.modbus.scan_line import BAUDS, PARITIES, RtuPlan, speeds
from drivers.modbus.scan_match import (
    Answers,
    Guess,
    Model,
    by_name,
    default_units,
    fitting,
    guess_questions,
    guesses,
    holds,
    identity_text,
    input_only,
    match_questions,
    telling_points,
    value_of,
)

TWO = Question("holding", 0, 2)
ANSWER = b"\x03\x04\x01\x02\x03\x04"
#: V1.1b3, 6.21: vendor, product code and revision, as in the standard's example.
OBJECTS = b"\x00\x04Acme\x01\x02M1\x02\x052.1\0x"
IDENTITY = b"\x2b\x0e\x01\x01\x00\x00\x03" + OBJECTS


# --- frames ---


@given(st.binary(max_size=260))
def test_the_crc_is_that_of_pymodbus(data: bytes) -> None:
    assert crc(data) == FramerRTU.compute_CRC(data).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("question", "pdu", "words"),
    [
        (TWO, ANSWER, (0x0102, 0x0304)),
        (Question("coil", 5, 10), b"\x01\x02\x05\x02", (1, 0, 1, 0, 0, 0, 0, 0, 0, 1)),
        (Question("input", 7, 1), b"\x04\x02\xff\xfe", (0xFFFE,)),
    ],
)
def test_an_answer_becomes_words(question: Question, pdu: bytes, words: tuple[int, ...]) -> None:
    assert question.words(pdu) == words
    assert list(rtu_answers(rtu_frame(9, pdu), question.pdu)) == [(9, pdu)]
    assert mbap_answer(bytearray(mbap_frame(3, 9, pdu)), 3, 9, question.pdu) == pdu


def test_only_reading_functions_can_be_asked() -> None:
    asked = {Question(table, 0, 1).pdu[0] for table in ("coil", "discrete", "holding", "input")}
    assert asked | {identify_pdu(1, 0)[0]} == {1, 2, 3, 4, 0x2B}


@pytest.mark.parametrize("pdu", [ANSWER, b"\x83\x02", IDENTITY], ids=["words", "exception", "identification"])
@pytest.mark.parametrize("before", [b"", b"\0\xff", rtu_frame(7, TWO.pdu)], ids=["clean", "noise", "echo"])
def test_an_rtu_answer_is_found_behind_noise_and_echo(pdu: bytes, before: bytes) -> None:
    asked = TWO.pdu if pdu is not IDENTITY else identify_pdu(1, 0)
    data = before + rtu_frame(7, pdu)
    assert list(rtu_answers(data, asked)) == [(7, pdu)]
    for end in range(len(data)):
        assert list(rtu_answers(data[:end], asked)) == []


@pytest.mark.parametrize("at", range(9))
def test_a_damaged_rtu_frame_is_no_answer(at: int) -> None:
    frame = bytearray(rtu_frame(7, ANSWER))
    frame[at] ^= 0x20
    assert list(rtu_answers(bytes(frame), TWO.pdu)) == []


def test_an_answer_of_another_length_is_none() -> None:
    assert list(rtu_answers(rtu_frame(7, b"\x03\x02\x01\x02"), TWO.pdu)) == []
    assert mbap_answer(bytearray(mbap_frame(1, 7, b"\x03\x02\x01\x02")), 1, 7, TWO.pdu) is None
    assert mbap_answer(bytearray(mbap_frame(1, 7, ANSWER + b"\0")), 1, 7, TWO.pdu) is None


def test_answers_to_other_questions_are_taken_off_the_stream_of_tcp() -> None:
    stream = bytearray(mbap_frame(1, 7, ANSWER) + mbap_frame(2, 8, ANSWER) + mbap_frame(2, 7, b"\x83\x0b"))
    stream += mbap_frame(3, 7, ANSWER)[:5]
    assert mbap_answer(stream, 2, 7, TWO.pdu) == b"\x83\x0b"
    assert mbap_answer(stream, 3, 7, TWO.pdu) is None
    stream += mbap_frame(3, 7, ANSWER)[5:]
    assert mbap_answer(stream, 3, 7, TWO.pdu) == ANSWER
    assert not stream


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request", b"\0\1\0\0\xff\xff\1\3", b"\0\1\0\0\0\1\1\3"])
def test_what_is_no_modbus_is_said_so(said: bytes) -> None:
    with pytest.raises(BadData, match="no Modbus"):
        mbap_answer(bytearray(said), 1, 1, TWO.pdu)


@given(st.binary(max_size=300))
def test_garbage_gives_no_answer_and_raises_nothing_else(data: bytes) -> None:
    for asked in (TWO.pdu, identify_pdu(1, 0)):
        for _, pdu in rtu_answers(data, asked):
            if pdu[0] == 0x2B:
                identification(pdu)
        with contextlib.suppress(BadData):
            mbap_answer(bytearray(data), 1, 1, asked)


def test_the_identification_ends_at_nul_and_may_go_on() -> None:
    assert identification(IDENTITY) == ({0: "Acme", 1: "M1", 2: "2.1"}, None)
    more = b"\x2b\x0e\x01\x01\xff\x02\x03" + OBJECTS
    assert identification(more)[1] == 2


# --- speeds and addresses ---


def test_odd_parity_is_tried_last_and_every_pair_once() -> None:
    tried = speeds()
    assert tried[:3] == [(9600, "N"), (9600, "E"), (19200, "N")]
    assert sorted(set(tried)) == sorted(tried)
    assert len(tried) == len(BAUDS) * len(PARITIES)
    assert [parity for _, parity in tried[-len(BAUDS) :]] == ["O"] * len(BAUDS)


def test_the_rest_time_shrinks_to_nothing() -> None:
    plan = RtuPlan(speeds((9600,), ("N", "E")), range(1, 11), widen=False)
    patience = Patience(0.2, 0.05)
    assert plan.left_s(patience, 0) == pytest.approx(5)
    assert plan.left_s(patience, 1, 10) == pytest.approx(0)


def test_addresses_that_profiles_name_are_tried_too() -> None:
    models = [Model(ModbusProfile("a", (), unit_id=5)), Model(ModbusProfile("b", (), unit_id=1))]
    assert default_units(models, (1, 255)) == (1, 255, 5)


def test_only_models_without_holding_registers_are_asked_for_input_registers() -> None:
    holding, other = (ModbusPoint("power_w", Register(table, 0, "int16")) for table in ("holding", "input"))
    profiles = (ModbusProfile("a", (holding, other), unit_id=5), ModbusProfile("b", (other,), unit_id=7))
    assert input_only(Model(profile) for profile in profiles) == {7}


# --- recognising ---

FIRST = ModbusMatch(Register("holding", 10, "uint16"), 112)
SECOND = ModbusMatch(TextRegister("holding", 20, 2), "AB")
LONGER = ModbusMatch(TextRegister("holding", 20, 2), "ABC")
FAR = ModbusMatch(Register("input", 99, "int16"), 0xFFFE)


def _model(name: str, *rows: ModbusMatch, maker: str = "") -> Model:
    return Model(ModbusProfile(name, (), match=rows), maker)


def _ask_all(models: list[Model], device: dict[Question, Answer]) -> tuple[list[str], list[Question]]:
    answers: dict[Question, Answer] = {}
    for question in match_questions(models, answers):
        assert question not in answers
        answers[question] = device.get(question, Refused(2))
    return [model.profile.name for model in fitting(models, answers)], list(answers)


Q10, Q20, Q99 = Question("holding", 10, 1), Question("holding", 20, 2), Question("input", 99, 1)
ABCD: Answer = (0x4142, 0x4344)


def test_all_rows_must_hold_and_the_most_specific_comes_first() -> None:
    models = [_model("c", FIRST), _model("z", FIRST, SECOND), _model("y", FIRST, LONGER), _model("x", FIRST, FAR)]
    names, asked = _ask_all(models, {Q10: (112,), Q20: ABCD, Q99: (5,)})
    assert names == ["y", "z", "c"]
    assert asked == [Q10, Q20, Q99]


def test_rows_behind_one_that_fails_are_not_asked() -> None:
    names, asked = _ask_all([_model("a", FIRST, SECOND), _model("b", FAR)], {Q10: (113,), Q99: (0xFFFE,)})
    assert names == ["b"]  # a signed register may be written as its bits
    assert asked == [Q10, Q99]


@pytest.mark.parametrize("answer", [None, Refused(2)])
def test_silence_and_refusal_hold_no_row(answer: Answer) -> None:
    assert not holds(FIRST, answer)


def test_a_profile_without_rows_fits_nothing() -> None:
    assert _ask_all([_model("generic")], {}) == ([], [])


def test_text_begins_as_given_and_hex_does_not_care_about_case() -> None:
    assert not holds(SECOND, (0x4142 ^ 0x2020, 0))
    row = ModbusMatch(TextRegister("holding", 0, 2, hex=True), "00Ab")
    assert holds(row, (0x00AB, 0xCD00))
    assert not holds(row, (0x01AB, 0xCD00))


def test_any_of_several_values_holds() -> None:
    code = ModbusMatch(Register("holding", 0, "int16"), (71, (0xFFFE, 2), (100, 102)))
    held = [raw for raw in (70, 71, 72, 0xFFFD, 0xFFFE, 0xFFFF, 0, 2, 3, 99, 100, 102, 103) if holds(code, (raw,))]
    assert held == [71, 0xFFFE, 0xFFFF, 0, 2, 100, 102]
    name = ModbusMatch(TextRegister("holding", 0, 2), ("A43", "B2"))
    assert [holds(name, words) for words in ((0x4134, 0x3300), (0x4232, 0x3120), (0x4134, 0x3400))] == [
        True,
        True,
        False,
    ]


def test_makers_are_recognised_by_a_word_of_their_name() -> None:
    models = [_model("a", maker="Carlo Gavazzi"), _model("b", maker="ABB"), _model("c", maker="Janitza GmbH")]
    assert by_name(models, ["CARLO GAVAZZI Controls", "EM24"]) == ["a"]
    assert by_name(models, ["Other GmbH", "abb"]) == ["b"]
    assert by_name(models, []) == []


def test_telling_values_are_scaled_labelled_and_never_missing_ones() -> None:
    volts = ModbusPoint("voltage_l1_v", Register("holding", 0, "uint16"), scale=0.1, missing=((0xFFFF, 0xFFFF),))
    status = ModbusPoint("charger_status", Register("holding", 1, "uint16"), labels={2: "Charging"})
    power = ModbusPoint("power_w", Register("holding", 2, "int16"), exponent=Register("holding", 3, "int16"))
    other = ModbusPoint("voltage_l2_v", Register("holding", 4, "uint16"))
    profile = ModbusProfile("p", (other, power, volts, status))
    assert telling_points(profile) == [status, volts, power]
    answers: Answers = {Question("holding", address, 1): (word,) for address, word in enumerate((2312, 2, 15, 2))}
    assert [value_of(point, answers) for point in (volts, status, power, other)] == ["231.2", "Charging", "1500", None]
    assert value_of(volts, {Question("holding", 0, 1): (0xFFFF,)}) is None
    assert value_of(power, {Question("holding", 2, 1): (15,), Question("holding", 3, 1): Refused(2)}) is None


# --- guessing ---


def _values(name: str, first: int, *rows: ModbusMatch) -> Model:
    """Voltage, frequency and status of a device from a register on; the frequency has an exponent."""
    word = [Register("holding", first + offset, "int16") for offset in range(4)]
    points = (
        ModbusPoint("voltage_l1_v", word[0], scale=0.1),
        ModbusPoint("frequency_hz", word[1], exponent=word[2]),
        ModbusPoint("charger_status", word[3], labels={0: "Available", 2: "Charging"}),
    )
    return Model(ModbusProfile(name, points, match=rows))


def _guess(models: list[Model], registers: dict[int, int]) -> tuple[list[Guess], list[int]]:
    answers: dict[Question, Answer] = {}
    for question in guess_questions(models, answers):
        assert question not in answers
        word = registers.get(question.address)
        answers[question] = Refused(2) if word is None else (word,)
    return guesses(models, answers), [question.address for question in answers]


GOOD = {100: 2312, 101: 500, 102: 0xFFFF, 103: 2}


def test_plausible_values_are_a_guess_and_more_of_them_a_better_one() -> None:
    other = {200: 4000, 201: 50, 202: 0, 203: 0}
    found, _ = _guess([_values("b", 200), _values("a", 100)], GOOD | other)
    assert found == [Guess("a", 3), Guess("b", 2)]


@pytest.mark.parametrize(
    "change",
    [{100: 5}, {100: 32767}, {101: 400}, {103: 7}, {100: 0, 103: 0}],
    ids=["5 V", "3 kV", "40 Hz", "state", "off"],
)
def test_one_value_that_can_t_be_ends_a_guess_and_nothing_is_no_evidence(change: dict[int, int]) -> None:
    assert _guess([_values("a", 100)], GOOD | change)[0] == []


def test_a_refused_register_ends_a_guess_and_its_questions() -> None:
    found, asked = _guess([_values("a", 100)], {101: 500, 102: 0xFFFF, 103: 2})
    assert found == []
    assert asked == [100]


def test_a_profile_whose_rows_say_no_is_no_guess() -> None:
    models = [_values("a", 100, ModbusMatch(Register("holding", 9, "uint16"), 1))]
    answers: dict[Question, Answer] = {Question("holding", address, 1): (word,) for address, word in GOOD.items()}
    assert guesses(models, answers) == [Guess("a", 3)]
    assert guesses(models, answers | {Question("holding", 9, 1): (2,)}) == []
    assert guesses(models, answers | {Question("holding", 9, 1): Refused(2)}) == [Guess("a", 3)]


def test_what_identity_registers_say() -> None:
    assert identity_text(TextRegister("holding", 0, 2), ABCD) == "ABCD"
    assert identity_text(TextRegister("holding", 0, 2), (0, 0)) is None
    assert identity_text(Register("holding", 0, "uint32"), (1, 2)) == "65538"
    assert identity_text(Register("holding", 0, "uint32"), Refused(1)) is None
