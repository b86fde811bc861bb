"""Questions that only read, and what their answers look like on a line: RTU and MBAP frames. Pure bytes.

Rules of this file:

1. Functions 1 to 4 and 43/14 are all that there is: nothing here can change a device.
2. An answer counts when function, length, unit and check (RTU: CRC; MBAP: transaction and protocol) are right. What
   stands before it is noise or our own echo; a frame that only looks like one costs nothing.
3. Nobody asked for it, yet it may be worth something: a good RTU frame of another unit is a late answer, and is told.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.core.errors import BadData
from drivers.codec.registers import BIT_TABLES, Table

#: Modbus Application Protocol V1.1b3, 6: function codes.
FUNCTIONS: dict[Table, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
IDENTIFY, MEI_IDENTIFY = 0x2B, 0x0E
_EXCEPTION = 0x80
_CRC_POLYNOMIAL = 0xA001
_CRC_BYTES = 2
_MBAP_BYTES = 7
#: Modbus Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3: unit and PDU, which has at most 253 bytes.
_MBAP_LENGTHS = range(3, 255)
#: Function, MEI type, code, conformity, more follows, next object, number of objects (V1.1b3, 6.21).
_IDENTIFY_HEAD = 7


@dataclass(frozen=True, slots=True)
class Question:
    """``count`` registers (or bits) of a table from ``address`` on."""

    table: Table
    address: int
    count: int

    @property
    def pdu(self) -> bytes:
        """Its PDU."""
        return struct.pack(">BHH", FUNCTIONS[self.table], self.address, self.count)

    @property
    def answer_bytes(self) -> int:
        """How many bytes of data its answer carries."""
        return (self.count + 7) // 8 if self.table in BIT_TABLES else 2 * self.count

    def words(self, pdu: bytes) -> tuple[int, ...]:
        """The registers, or the bits as 0 and 1, of a good answer."""
        data = pdu[2:]
        if self.table in BIT_TABLES:
            return tuple(data[bit >> 3] >> (bit & 7) & 1 for bit in range(self.count))
        return struct.unpack(f">{self.count}H", data)


def identify_pdu(code: int, first: int) -> bytes:
    """The question for the identification objects of a category (1 basic, 2 regular), from object ``first`` on."""
    return bytes((IDENTIFY, MEI_IDENTIFY, code, first))


def crc(data: bytes) -> bytes:
    """CRC of an RTU frame, low byte first (Modbus over Serial Line V1.02, 6.2.2)."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CRC_POLYNOMIAL if value & 1 else 0)
    return value.to_bytes(2, "little")


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """A PDU as an RTU frame."""
    frame = bytes((unit,)) + pdu
    return frame + crc(frame)


def mbap_frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """A PDU as a frame of Modbus TCP."""
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def rtu_answers(data: bytes, asked: bytes) -> Iterator[tuple[int, bytes]]:
    """(unit, PDU) of each whole frame in ``data`` that could answer the PDU ``asked``, wherever it begins."""
    start = 0
    while start + 5 <= len(data):
        length = _answer_length(data[start + 1 :], asked)
        end = start + 1 + (length or 0) + _CRC_BYTES
        frame = data[start : end - _CRC_BYTES]
        if length and end <= len(data) and data[end - _CRC_BYTES : end] == crc(frame):
            yield frame[0], frame[1:]
            start = end
        else:
            start += 1


def mbap_answer(stream: bytearray, transaction: int, unit: int, asked: bytes) -> bytes | None:
    """Take whole frames off a stream of Modbus TCP until one answers ``asked``: its PDU, or None when none did.

    Raises ``BadData`` when this is no Modbus.
    """
    while len(stream) >= _MBAP_BYTES:
        number, protocol, length, answering = struct.unpack(">HHHB", stream[:_MBAP_BYTES])
        if protocol or length not in _MBAP_LENGTHS:
            raise BadData("ask a unit", "what answers here is no Modbus", "is it another service's port?")
        if len(stream) < 6 + length:
            break
        pdu = bytes(stream[_MBAP_BYTES : 6 + length])
        del stream[: 6 + length]
        if (number, answering) == (transaction, unit) and len(pdu) == _answer_length(pdu, asked):
            return pdu
    return None


def identification(pdu: bytes) -> tuple[dict[int, str], int | None]:
    """The objects of an answer to ``identify_pdu``, and the number of the next one when more follow."""
    more, following, count = pdu[4], pdu[5], pdu[6]
    objects: dict[int, str] = {}
    rest = pdu[_IDENTIFY_HEAD:]
    for _ in range(count):
        objects[rest[0]] = _text(rest[2 : 2 + rest[1]])
        rest = rest[2 + rest[1] :]
    return objects, following if more == 0xFF else None  # noqa: PLR2004 - 0x00 or 0xFF


def _text(data: bytes) -> str:
    text = data.split(b"\0", 1)[0].decode("latin-1")
    return "".join(one if one.isprintable() else "?" for one in text).strip()


def _answer_length(pdu: bytes, asked: bytes) -> int | None:
    """How long the PDU that begins here must be to answer ``asked``; None when it does not, or is not there yet."""
    if pdu[:1] == bytes((asked[0] | _EXCEPTION,)):
        return 2
    if pdu[:1] != asked[:1]:
        return None
    if asked[0] != IDENTIFY:
        function, _, count = struct.unpack(">BHH", asked)
        length = (count + 7) // 8 if function in {FUNCTIONS["coil"], FUNCTIONS["discrete"]} else 2 * count
        return 2 + length if pdu[1:2] == bytes((length,)) else None
    if len(pdu) < _IDENTIFY_HEAD or pdu[1] != MEI_IDENTIFY:
        return None
    length = _IDENTIFY_HEAD
    for _ in range(pdu[6]):
        if length + 2 > len(pdu):
            return None
        length += 2 + pdu[length + 1]
    return length if length <= len(pdu) else None
