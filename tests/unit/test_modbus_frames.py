"""What counts as an answer: each kind of wrong one, at every cut, and no right one lost."""

from random import Random

import pytest

from drivers.codec.registers_pack import Span
from drivers.modbus.frames import (
    MbapScanner,
    Question,
    Reply,
    RtuScanner,
    exception_text,
    read_question,
    words_in,
    write_question,
)
from drivers.modbus.writing import Write
from tests.modbus_frames import KINDS, Registers, crc, mangled, mbap, rtu

HOLDING = Span("holding", 10, 2)
ANSWER = b"\x03\x04\x12\x34\x56\x78"
DATA = ANSWER[2:]
TID = 77


def checksum(data: bytes) -> int:
    return int.from_bytes(crc(data), "big")


def scanner(tid: int | None) -> MbapScanner | RtuScanner:
    return MbapScanner() if tid is not None else RtuScanner(crc=checksum)


def heard(
    stream: list[bytes], question: Question, tid: int | None, one: MbapScanner | RtuScanner | None = None
) -> tuple[Reply | None, str]:
    """The answer in what arrives piece by piece, and what is blamed when there is none."""
    one = one or scanner(tid)
    buffer = b""
    for piece in stream:
        buffer += piece
        used, reply = one.scan(buffer, question, tid or 0)
        buffer = buffer[used:]
        if reply is not None:
            return reply, reply.fault
    return None, one.blame(buffer, question)


def test_questions_are_those_of_the_standard() -> None:
    # The examples of Modbus Application Protocol V1.1b3, 6.1, 6.3, 6.5, 6.6, 6.11 and 6.12.
    assert read_question(1, Span("coil", 0x13, 0x13)).pdu.hex() == "0100130013"
    assert read_question(1, Span("discrete", 0xC4, 0x16)).pdu.hex() == "0200c40016"
    assert read_question(1, Span("holding", 0x6B, 3)).pdu.hex() == "03006b0003"
    assert read_question(1, Span("input", 8, 1)).pdu.hex() == "0400080001"
    assert write_question(1, Write("coil", 0xAC, (1,), 5)).pdu.hex() == "0500acff00"
    assert write_question(1, Write("coil", 0xAC, (0,), 5)).pdu.hex() == "0500ac0000"
    assert write_question(1, Write("holding", 1, (3,), 6)).pdu.hex() == "0600010003"
    coils = (1, 0, 1, 1, 0, 0, 1, 1, 1, 0)
    assert write_question(1, Write("coil", 0x13, coils, 15)).pdu.hex() == "0f0013000a02cd01"
    assert write_question(1, Write("holding", 1, (0x0A, 0x0102), 16)).pdu.hex() == "100001000204000a0102"


@pytest.mark.parametrize("tid", [None, TID], ids=["rtu", "tcp"])
def test_a_right_answer_is_found_however_it_is_cut(tid: int | None) -> None:
    question = read_question(5, HOLDING)
    whole = rtu(5, ANSWER) if tid is None else mbap(tid, 5, ANSWER)
    for cut in range(1, len(whole)):
        assert heard([whole[:cut], whole[cut:]], question, tid) == (Reply(DATA), "")
    assert heard([bytes((byte,)) for byte in whole], question, tid) == (Reply(DATA), "")


@pytest.mark.parametrize("tid", [None, TID], ids=["rtu", "tcp"])
@pytest.mark.parametrize(
    "write",
    [
        Write("holding", 7, (300,), 6),
        Write("holding", 7, (300, 1), 16),
        Write("coil", 7, (1,), 5),
        Write("coil", 7, (1, 0, 1), 15),
    ],
)
def test_a_write_is_answered_by_its_echo_only(write: Write, tid: int | None) -> None:
    question = write_question(5, write)
    right = question.pdu[:5]

    def frame(pdu: bytes) -> bytes:
        return rtu(5, pdu) if tid is None else mbap(tid, 5, pdu)

    assert heard([frame(right)], question, tid) == (Reply(), "")
    for place in range(5):
        wrong = right[:place] + bytes((right[place] ^ 1,)) + right[place + 1 :]
        reply, fault = heard([frame(wrong)], question, tid)
        assert reply is None or reply.fault
        assert fault


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (mbap(TID, 6, ANSWER), "wrong_unit"),
        (mbap(TID, 5, b"\x04" + ANSWER[1:]), "wrong_function"),
        (mbap(TID, 5, b"\x03\x02\x12\x34"), "wrong_count"),
        (mbap(TID, 5, b"\x03\x06\x12\x34\x56\x78\x9a\xbc"), "wrong_count"),
        (mbap(TID, 5, ANSWER[:-1]), "too_short"),
        (mbap(TID, 5, ANSWER + b"\0"), "too_long"),
        (mbap(TID, 5, b"\x83\x00"), "wrong_exception"),
        (mbap(TID, 5, b"\x83\x02\x00"), "wrong_exception"),
        (mbap(TID, 5, ANSWER)[:-3], "too_short"),
        (mbap(TID, 5, ANSWER)[:4], "too_short"),
        (mbap(TID + 1, 5, ANSWER), "wrong_transaction"),
        (mbap(0, 5, ANSWER), "wrong_transaction"),
        (mbap(TID, 5, ANSWER, protocol=1), "wrong_protocol"),
        (mbap(TID, 5, ANSWER, length=0), "wrong_protocol"),
        (mbap(TID, 5, ANSWER, length=600), "wrong_protocol"),
        (b"", ""),
    ],
)
def test_what_is_wrong_on_tcp_is_named(frame: bytes, fault: str) -> None:
    reply, blamed = heard([frame], read_question(5, HOLDING), TID)
    assert reply is None or not reply.data
    assert blamed == fault


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (rtu(6, ANSWER), "wrong_unit"),
        (rtu(5, b"\x04" + ANSWER[1:]), "wrong_function"),
        (rtu(5, b"\x03\x02\x12\x34"), "wrong_count"),
        (rtu(5, ANSWER)[:-1], "too_short"),
        (rtu(5, ANSWER)[:2], "too_short"),
        (rtu(5, ANSWER)[:-2] + b"\0\0", "checksum"),
        (b"\xff\xfe\x00\x01", "garbled"),
        (b"", ""),
    ],
)
def test_what_is_wrong_on_a_serial_line_is_named(frame: bytes, fault: str) -> None:
    reply, blamed = heard([frame], read_question(5, HOLDING), None)
    assert reply is None
    assert blamed == fault


def test_exceptions_are_answers() -> None:
    question = read_question(5, HOLDING)
    for code in (1, 2, 3, 4, 6, 11):
        assert heard([mbap(TID, 5, bytes((0x83, code)))], question, TID)[0] == Reply(exception=code)
        assert heard([rtu(5, bytes((0x83, code)))], question, None)[0] == Reply(exception=code)
        assert str(code) in exception_text(code)
    assert exception_text(99) == "exception 99"


def test_late_answers_are_stepped_over_and_counted() -> None:
    one = MbapScanner()
    one.unanswered.append(TID - 1)
    late = mbap(TID - 1, 5, b"\x03\x04\xff\xff\xff\xff")
    assert heard([late, mbap(TID, 5, ANSWER)], read_question(5, HOLDING), TID, one) == (Reply(DATA), "")
    assert one.counts["late"] == 1
    assert heard([late], read_question(5, HOLDING), TID, one) == (None, "")


def test_an_answer_behind_broken_bytes_is_found_by_all_that_it_must_be() -> None:
    stream = b"\x12\x34\x56\x78\x9a\xbc\xde" + mbap(TID, 5, ANSWER)
    assert heard([stream], read_question(5, HOLDING), TID)[0] == Reply(DATA)
    assert heard([b"\0\xff" + rtu(5, ANSWER)], read_question(5, HOLDING), None)[0] == Reply(DATA)
    assert heard([rtu(6, ANSWER), rtu(5, ANSWER)], read_question(5, HOLDING), None)[0] == Reply(DATA)


def test_our_own_echo_is_no_answer() -> None:
    one = RtuScanner(crc=checksum)
    question = read_question(5, HOLDING)
    sent = rtu(5, question.pdu)
    assert heard([sent[:3], sent[3:] + rtu(5, ANSWER)], question, None, one) == (Reply(DATA), "")
    assert one.echoes
    assert heard([sent], question, None, one) == (None, "")
    write = write_question(5, Write("holding", 7, (300,), 6))
    sent = rtu(5, write.pdu)
    assert heard([sent], write, None, one) == (None, ""), "on this line it is the echo"
    assert heard([sent + sent], write, None, one) == (Reply(), "")
    assert heard([sent], write, None, RtuScanner(crc=checksum)) == (Reply(), "")


def test_cells_of_answers() -> None:
    assert words_in(b"\x12\x34\x56\x78", "holding", 2) == [0x1234, 0x5678]
    assert words_in(b"\xcd\x01", "coil", 10) == [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]


def fuzz(seed: int, rounds: int) -> tuple[int, int]:
    """Answers that go wrong in all ways, in random pieces: how many were wrong values, and how many right ones."""
    random = Random(seed)  # noqa: S311 - no secrets
    wrong = right = 0
    for number in range(rounds):
        tid = random.choice([None, random.randrange(1, 65001)])
        unit = random.randint(1, 247)
        count = random.choice([1, 2, 3, 10, 20, 125])
        words = [random.choice([0, 0xFFFF, random.randrange(1 << 16)]) for _ in range(count)]
        device = Registers(holding=dict(enumerate(words)), coil={at: word & 1 for at, word in enumerate(words)})
        question = random.choice(
            [
                read_question(unit, Span("holding", 0, count)),
                read_question(unit, Span("coil", 0, count)),
                write_question(unit, Write("holding", 0, tuple(words[:10]), 16)),
            ]
        )
        pdu = device.answer(question.pdu)
        bytes_, intact = mangled(KINDS[number % len(KINDS)], random, unit, pdu, tid)
        cuts = sorted(random.randrange(len(bytes_) + 1) for _ in range(random.randrange(4)))
        pieces = [bytes_[a:b] for a, b in zip([0, *cuts], [*cuts, len(bytes_)], strict=True)]
        reply, _ = heard([piece for piece in pieces if piece], question, tid)
        taken = reply is not None and not reply.exception and not reply.fault
        expected = pdu[2:] if pdu[0] <= 4 else b""
        wrong += taken and reply is not None and reply.data != expected
        right += taken
        if intact:
            assert taken, f"{KINDS[number % len(KINDS)]} of seed {seed} number {number}: the answer was lost"
    return wrong, right


def test_no_fuzzed_answer_is_taken_for_a_value_that_was_not_sent() -> None:
    wrong, right = fuzz(1, 4000)
    assert wrong == 0
    assert right > 400


@pytest.mark.long
def test_no_fuzzed_answer_of_100_000_is_taken_for_a_value_that_was_not_sent() -> None:
    assert sum(fuzz(seed, 10_000)[0] for seed in range(10)) == 0
