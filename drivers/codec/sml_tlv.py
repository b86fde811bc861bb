"""The data of an SML file: type-length-value fields, messages and their checksums (SML 1.04, chapters 5 and 6).

Rules of this file:

1. A field is read whole or ``MalformedError`` is raised; nothing is read behind the end and nothing is guessed.
2. A message whose checksum is wrong is given all the same, and says so.
3. Work is bounded by the data's length: lists nest ``MAX_DEPTH`` deep, integers have at most 8 bytes.

There are two checksums in the field, in messages as in the transport. The standard's is CRC-16/X.25, low byte first;
Holley meters send CRC-16/KERMIT, high byte first.
"""

from binascii import crc_hqx
from dataclasses import dataclass

#: What a field may hold; None is an optional field that was left out.
Field = int | bytes | list["Field"] | None

MAX_DEPTH = 12
_MAX_INTEGER_BYTES = 8
_LIST, _SIGNED, _UNSIGNED, _BOOLEAN, _OCTETS = 0x70, 0x50, 0x60, 0x40, 0x00
_MORE = 0x80  #: another byte of type and length follows
_ABSENT = 0x01
_MESSAGE = 0x76  #: list of 6
_END_OF_MESSAGE = 0x00

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class MalformedError(Exception):
    """The data are not SML; the text is a word fit for ``BadFrame.reason``. It never leaves the codec."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the tag of its body (0x0701 = GetList.Res), the body, and whether its checksum is right."""

    tag: int
    body: Field
    sound: bool


def checksums(data: bytes) -> tuple[bytes, bytes]:
    """The two checksums that meters use, as they stand on the wire: X.25, KERMIT."""
    # binascii has this polynomial from the highest bit on; both of these go from the lowest: the same on mirrored bits
    mirrored = data.translate(_MIRRORED)
    x25 = crc_hqx(mirrored, 0xFFFF) ^ 0xFFFF
    kermit = crc_hqx(mirrored, 0)
    return (
        bytes((_MIRRORED[x25 >> 8], _MIRRORED[x25 & 0xFF])),
        bytes((_MIRRORED[kermit & 0xFF], _MIRRORED[kermit >> 8])),
    )


def read_messages(data: bytes) -> list[Message]:
    """All messages of a file. Raises ``MalformedError``."""
    found = []
    position = 0
    while position < len(data):
        message, position = _read_message(data, position)
        found.append(message)
    return found


def _read_message(data: bytes, start: int) -> tuple[Message, int]:
    """SML_Message: transaction id, group number, abort on error, body (tag and content), checksum, end."""
    if data[start] != _MESSAGE:
        raise MalformedError("malformed")
    position = start + 1
    for _ in range(3):
        _, position = read_field(data, position)
    body, end = read_field(data, position)
    sent, position = read_field(data, end)
    if position >= len(data) or data[position] != _END_OF_MESSAGE:
        raise MalformedError("malformed")
    # as an integer, because leading zero bytes of an integer may be left out
    sound = sent in [int.from_bytes(crc) for crc in checksums(data[start:end])]
    match body:
        case [int() as tag, content]:
            return Message(tag, content, sound), position + 1
    raise MalformedError("malformed")


def read_field(data: bytes, start: int, depth: int = 0) -> tuple[Field, int]:
    """The field at ``start``, and where the next one begins. Booleans are 0 and 1. Raises ``MalformedError``."""
    kind, length, position = _type_and_length(data, start)
    if kind == _LIST:
        return _read_list(data, position, length, depth)
    end = start + length  # the length counts the bytes that hold it
    if not position <= end <= len(data):
        raise MalformedError("malformed")
    content = data[position:end]
    if kind == _OCTETS:
        return (content if data[start] != _ABSENT else None), end
    if not 1 <= len(content) <= _MAX_INTEGER_BYTES:
        raise MalformedError("malformed")
    if kind == _UNSIGNED:
        return int.from_bytes(content), end
    if kind == _SIGNED:
        return int.from_bytes(content, signed=True), end
    if kind == _BOOLEAN:
        return int(any(content)), end
    raise MalformedError("malformed")


def _type_and_length(data: bytes, start: int) -> tuple[int, int, int]:
    try:
        byte = data[start]
        kind, length, position = byte & 0x70, byte & 0x0F, start + 1
        while byte & _MORE:
            byte = data[position]
            length = length << 4 | byte & 0x0F
            position += 1
    except IndexError:
        raise MalformedError("malformed") from None
    return kind, length, position


def _read_list(data: bytes, position: int, length: int, depth: int) -> tuple[Field, int]:
    # an element has at least one byte: a list that can't fit is not begun
    if depth >= MAX_DEPTH or length > len(data) - position:
        raise MalformedError("malformed")
    elements: list[Field] = []
    for _ in range(length):
        element, position = read_field(data, position, depth + 1)
        elements.append(element)
    return elements, position
