"""Questions on a Modbus wire, and finding their answers in what comes back. Pure bytes; no answer is ever guessed.

Rules of this file:

1. An answer counts when all that can be foreseen of it is right: unit, function, byte count or echoed address, length,
   and the checksum (RTU) or the transaction, protocol and length fields (MBAP).
2. On TCP a frame of another transaction is stepped over. A frame of ours that is wrong inside is a fault at once.
3. RTU frames don't say where they begin: the answer is looked for at each byte, so noise before it and late answers of
   other units cost nothing. Whatever is no answer stays in the buffer; when time is up, ``blame`` says what it was.
4. Our own echo (RS-485 adapters that hear themselves) is stepped over. It looks like the answer to function 5 and 6:
   there it is only taken for an echo on a line that was found to have one.

Sources: Modbus Application Protocol V1.1b3; Modbus over Serial Line V1.02; Messaging on TCP/IP Guide V1.0b.
"""

import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.codec.registers import BIT_TABLES, Table
from drivers.codec.registers_pack import Span
from drivers.modbus.writing import Write

READS: dict[Table, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 5, 6, 15, 16
EXCEPTION_BIT = 0x80
_COIL_ON = 0xFF00
#: Unit, then function and exception code, of an answer that is an exception.
_EXCEPTION_PDU = 2
_MBAP = struct.Struct(">HHHB")
#: What the length field of a MBAP header may say: unit, function and one byte at least, 253 bytes of PDU at most.
_MBAP_LENGTHS = range(3, 255)
_BEFORE_UNIT = 6
_CRC_BYTES = 2
#: Transactions that are remembered as unanswered, so that their late answers are known for such.
_REMEMBERED = 64

Crc = Callable[[bytes], int]

_EXCEPTIONS = {
    1: "it knows no such function",
    2: "it has no such register",
    3: "it does not accept such a question",
    4: "it failed at it",
    5: "it needs longer for it",
    6: "it is busy",
    8: "its memory is faulty",
    10: "the gateway has no way to it",
    11: "it does not answer the gateway",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent, and what its answer must look like. ``head``: how the answer's PDU begins (of a write: all of it).

    ``length`` is that of the answer's PDU; its data begin at ``skip``.
    """

    unit: int
    pdu: bytes
    head: bytes
    length: int
    skip: int

    @property
    def function(self) -> int:
        """Its function code."""
        return self.pdu[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: ``data`` of a read, or the device's ``exception`` code, or in which way it was wrong."""

    data: bytes = b""
    exception: int = 0
    fault: str = ""


def read_question(unit: int, span: Span) -> Question:
    """The question for cells of a table (functions 1 to 4)."""
    function = READS[span.table]
    count = (span.count + 7) // 8 if span.table in BIT_TABLES else 2 * span.count
    pdu = struct.pack(">BHH", function, span.address, span.count)
    return Question(unit, pdu, bytes((function, count)), 2 + count, 2)


def write_question(unit: int, write: Write) -> Question:
    """The question that writes (functions 5, 6, 15 and 16). The answer echoes address and value or count."""
    if write.function in {WRITE_COIL, WRITE_REGISTER}:
        word = write.words[0]
        if write.function == WRITE_COIL:
            word = _COIL_ON if word else 0
        pdu = struct.pack(">BHH", write.function, write.address, word)
        return Question(unit, pdu, pdu, len(pdu), len(pdu))
    head = struct.pack(">BHH", write.function, write.address, len(write.words))
    if write.function == WRITE_COILS:
        cells = sum(bool(word) << place for place, word in enumerate(write.words))
        data = cells.to_bytes((len(write.words) + 7) // 8, "little")
    else:
        data = struct.pack(f">{len(write.words)}H", *write.words)
    return Question(unit, head + bytes((len(data),)) + data, head, len(head), len(head))


def judge(question: Question, pdu: bytes) -> Reply:
    """What a PDU says that came as the answer to a question."""
    if len(pdu) == question.length and pdu.startswith(question.head):
        return Reply(data=pdu[question.skip :])
    function = question.pdu[0]
    if pdu[0] == function | EXCEPTION_BIT:
        return Reply(exception=pdu[1]) if len(pdu) == _EXCEPTION_PDU and pdu[1] else Reply(fault="wrong_exception")
    if pdu[0] != function:
        return Reply(fault="wrong_function")
    if len(pdu) < question.length:
        # A count that fits what came: the device means another question. Otherwise something is missing.
        return Reply(fault="wrong_count" if question.skip == len(pdu[:2]) and pdu[1] == len(pdu) - 2 else "too_short")
    if not pdu.startswith(question.head):
        return Reply(fault="wrong_count" if question.length > len(question.head) else "wrong_echo")
    return Reply(fault="too_long")


def exception_text(code: int) -> str:
    """An exception of Modbus in words (Modbus Application Protocol V1.1b3, 7)."""
    return f"exception {code}" + (f": {_EXCEPTIONS[code]}" if code in _EXCEPTIONS else "")


def words_in(data: bytes, table: Table, count: int) -> list[int]:
    """The cells that an answer's data carry: words, or 0 and 1."""
    if table in BIT_TABLES:
        cells = int.from_bytes(data, "little")
        return [cells >> place & 1 for place in range(count)]
    return [data[at] << 8 | data[at + 1] for at in range(0, 2 * count, 2)]


@dataclass(slots=True)
class Scanner:
    """Finds the answers to questions.

    ``counts``: what was stepped over. ``unanswered``: transactions whose answers may come late. ``strange``: what came
    since the last question that was no answer to anything; whoever asks clears it.
    """

    counts: Counter[str] = field(default_factory=Counter)
    unanswered: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    strange: str = ""


@dataclass(slots=True)
class MbapScanner(Scanner):
    """Finds answers in what a TCP connection brings."""

    def scan(self, buffer: bytes, question: Question, tid: int) -> tuple[int, Reply | None]:
        """How many bytes are done with, and the answer if it is there."""
        at = 0
        while len(buffer) - at >= _MBAP.size:
            found, protocol, length, unit = _MBAP.unpack_from(buffer, at)
            if protocol or length not in _MBAP_LENGTHS:
                self.strange = "wrong_protocol"
                at = self._find(buffer, at + 1, question, tid)
                if at < 0:
                    return 0, None
                continue
            end = at + _BEFORE_UNIT + length
            if end > len(buffer):
                return at, None
            if found == tid:
                if end < len(buffer):
                    self.counts["trailing"] += 1
                if unit != question.unit:
                    return len(buffer), Reply(fault="wrong_unit")
                return len(buffer), judge(question, buffer[at + _MBAP.size : end])
            if found in self.unanswered:
                self.counts["late"] += 1
            else:
                self.strange = "wrong_transaction"
            at = end
        return at, None

    def blame(self, buffer: bytes, question: Question) -> str:  # noqa: ARG002 - the same call as for RTU
        """What was wrong with what came while no answer did; empty when nothing came, or only late answers."""
        return self.strange or ("too_short" if buffer else "")

    @staticmethod
    def _find(buffer: bytes, start: int, question: Question, tid: int) -> int:
        """Where the answer's header stands behind bytes that are none; -1 when it does not."""
        places = []
        for length in (1 + question.length, 1 + _EXCEPTION_PDU):
            header = _MBAP.pack(tid, 0, length, question.unit)
            places.append(buffer.find(header, start))
        return min((place for place in places if place >= 0), default=-1)


@dataclass(slots=True)
class RtuScanner(Scanner):
    """Finds answers in what a serial line brings. ``crc`` gives the checksum as the number that its two bytes make."""

    crc: Crc = field(kw_only=True)
    echoes: bool = False  #: the line was found to bring back what we send

    def scan(self, buffer: bytes, question: Question, tid: int) -> tuple[int, Reply | None]:  # noqa: ARG002 - as MBAP
        """How many bytes are done with, and the answer if it is there."""
        start = self._behind_echo(buffer, question)
        if start < 0:
            return 0, None
        normal = bytes((question.unit,)) + question.head
        refusal = bytes((question.unit, question.function | EXCEPTION_BIT))
        for head, length in ((normal, question.length), (refusal, _EXCEPTION_PDU)):
            at = buffer.find(head, start)
            while at >= 0:
                end = at + 1 + length + _CRC_BYTES
                if end <= len(buffer) and self._sound(buffer[at:end]):
                    if end < len(buffer):
                        self.counts["trailing"] += 1
                    return len(buffer), judge(question, buffer[at + 1 : end - _CRC_BYTES])
                at = buffer.find(head, at + 1)
        return 0, None

    def blame(self, buffer: bytes, question: Question) -> str:
        """What was wrong with what came while no answer did; empty when nothing came, or only our echo."""
        rest = buffer[max(0, self._behind_echo(buffer, question)) :]
        if not rest or (self.echoes and self._frame(question).startswith(rest)):
            return ""
        if self._sound(rest):  # a frame of its own, and not what was asked for
            return "wrong_unit" if rest[0] != question.unit else judge(question, rest[1:-_CRC_BYTES]).fault or "late"
        if rest[0] != question.unit:
            return "garbled"
        if rest[1:].startswith(question.head):
            return "too_short" if len(rest) < 1 + question.length + _CRC_BYTES else "checksum"
        return "too_short" if question.head.startswith(rest[1:]) else "checksum"

    def _behind_echo(self, buffer: bytes, question: Question) -> int:
        """Where the answer can begin; -1 while what came may still become an echo."""
        sent = self._frame(question)
        if question.pdu == question.head and not self.echoes:
            return 0  # the answer looks the same
        if buffer.startswith(sent):
            self.echoes = True
            return len(sent)
        return -1 if self.echoes and sent.startswith(buffer) else 0

    def _frame(self, question: Question) -> bytes:
        body = bytes((question.unit,)) + question.pdu
        return body + self.crc(body).to_bytes(_CRC_BYTES, "big")

    def _sound(self, frame: bytes) -> bool:
        return (
            len(frame) > _CRC_BYTES + 1
            and self.crc(frame[:-_CRC_BYTES]).to_bytes(_CRC_BYTES, "big") == frame[-_CRC_BYTES:]
        )
