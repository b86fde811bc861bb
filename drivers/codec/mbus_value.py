"""The data of an M-Bus record: integers, BCD, floats, text, dates (EN 13757-3, data field and data types A to J).

Data come low byte first here; the caller turns them round for telegrams that send the high byte first.

A value is a number, text, or None: the record has no data, or the meter says that it knows none. It says so with an
integer that is the most negative of its size (type B), a date that no calendar has or that is marked as not valid, and
a float that is no number. BCD with digits above 9 is text as the meter's display shows it (``DDEBB4DD``): no number can
be made of it.
"""

import math
import struct

from agent.core.model import Number
from drivers.codec.mbus_vif import MalformedError, Meaning

#: Data field of the DIF: bytes of data. 0xD has its length in front of the data, 0xF is no data field.
SIZES = {0x0: 0, 0x1: 1, 0x2: 2, 0x3: 3, 0x4: 4, 0x5: 4, 0x6: 6, 0x7: 8, 0x8: 0, 0x9: 1, 0xA: 2, 0xB: 3, 0xC: 4, 0xE: 6}
VARIABLE = 0xD
_REAL = 0x5
_BCD = {0x9, 0xA, 0xB, 0xC, 0xE}

_MAX_NUMBER_BYTES = 8
_FLOAT = struct.Struct("<f")
_LAST_SHORT_YEAR = 80  #: years 0 to 80 without a century are those of 2000, as old meters mean them


def variable_size(length: int) -> int:
    """Bytes of data behind a LVAR byte. Raises ``MalformedError``: ``reserved_length``."""
    if length <= 0xBF:  # noqa: PLR2004 - ranges of the standard, here and below
        return length
    if 0xC0 <= length <= 0xC9 or 0xD0 <= length <= 0xD9:  # noqa: PLR2004 - BCD, two digits a byte
        return length & 0x0F
    if 0xE0 <= length <= 0xEF:  # noqa: PLR2004
        return length - 0xE0
    if 0xF0 <= length <= 0xF4:  # noqa: PLR2004
        return 4 * (length - 0xEC)
    if length in {0xF5, 0xF6}:
        return 48 if length == 0xF5 else 64  # noqa: PLR2004
    raise MalformedError("reserved_length")


def decode_value(field: int, data: bytes, meaning: Meaning) -> Number | str | None:
    """The physical value of ``data`` (whose size is that of ``field``), or text."""
    if meaning.invalid:
        return None
    if meaning.time and field not in _BCD and field != _REAL:
        return _time(data)
    if field in _BCD:
        return _physical(_bcd(data), meaning)
    if field == _REAL:
        return _physical(_FLOAT.unpack(data)[0], meaning)
    return _physical(_integer(data, meaning), meaning)


def decode_variable(length: int, data: bytes, meaning: Meaning) -> Number | str | None:
    """The same for data behind a LVAR byte."""
    if length <= 0xBF:  # noqa: PLR2004
        return data[::-1].decode("latin-1").rstrip("\0")
    if meaning.invalid or not data:
        return None
    if length < 0xE0:  # noqa: PLR2004
        digits = _bcd(data)
        negative = length >= 0xD0 and isinstance(digits, int)  # noqa: PLR2004
        return _physical(-digits if negative and isinstance(digits, int) else digits, meaning)
    if len(data) > _MAX_NUMBER_BYTES:
        return data[::-1].hex(" ").upper()
    return _physical(_integer(data, meaning), meaning)


def _integer(data: bytes, meaning: Meaning) -> int | None:
    """Types B and D."""
    if not data:
        return None
    if meaning.bits:
        return int.from_bytes(data, "little")
    value = int.from_bytes(data, "little", signed=True)
    known = meaning.unit is None or value != -1 << 8 * len(data) - 1
    return value if known else None


def _bcd(data: bytes) -> int | str:
    """Type A; a highest digit F is a minus sign."""
    text = data[::-1].hex().upper()
    if text.isdecimal():
        return int(text)
    if text[0] == "F" and text[1:].isdecimal():
        return -int(text[1:])
    return text


def _physical(raw: Number | str | None, meaning: Meaning) -> Number | str | None:
    if raw is None or isinstance(raw, str):
        return raw
    if isinstance(raw, float) and not math.isfinite(raw):
        return None
    power: int = 10 ** abs(meaning.exponent)
    # dividing two integers rounds once, to the float that is nearest to the decimal number
    scaled = raw * power if meaning.exponent >= 0 else raw / power
    return scaled * meaning.factor + meaning.offset


def _time(data: bytes) -> str | None:
    """Types F (4 bytes), G (2), I (6) and J (3) as ISO 8601 without a time zone: meters have their own."""
    match len(data):
        case 2:
            return _date(data[0], data[1], 2000)
        case 3:
            return _clock(data[2], data[1], data[0])
        case 4:
            century = 1900 + 100 * (data[1] >> 5 & 0x03)
            if century == 1900 and _year(data[2], data[3]) <= _LAST_SHORT_YEAR:  # noqa: PLR2004
                century = 2000
            return _both(_date(data[2], data[3], century), _clock(data[1], data[0], 0), data[0])
        case 6:
            return _both(_date(data[3], data[4], 2000), _clock(data[2], data[1], data[0]), data[1])
    return None


def _both(date: str | None, clock: str | None, flags: int) -> str | None:
    valid = date is not None and clock is not None and not flags & 0x80
    return f"{date}T{clock}" if valid else None


def _year(low: int, high: int) -> int:
    return low >> 5 | high >> 4 << 3


def _date(low: int, high: int, century: int) -> str | None:
    year, month, day = _year(low, high), high & 0x0F, low & 0x1F
    if year > 99 or month > 12:  # noqa: PLR2004 - 127 and 15: every year, every month
        return None
    return f"{century + year:04d}-{month:02d}-{day:02d}"


def _clock(hour: int, minute: int, second: int) -> str | None:
    hour, minute, second = hour & 0x1F, minute & 0x3F, second & 0x3F
    if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004 - the rest: every hour, not specified
        return None
    return f"{hour:02d}:{minute:02d}:{second:02d}"
