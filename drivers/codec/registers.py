"""Modbus registers: where a value lies, and what its words mean.

Rules of this file:

1. Addresses are those of the wire, from 0 (Modbus Application Protocol V1.1b3, 4.4). Makers' tables often count from 1
   or add 30001 / 40001: a profile has them converted already.
2. Within a register the first byte is the high one. Values of several registers have their high word first unless
   ``word_order`` is little; ``byte_order`` little swaps the bytes of each register.
3. A whole number stays the whole number that the device sent; scale and offset stand in the signal.
4. What is read here one by one is written for clearness. Blocks of many are read by ``registers_block.py``, which a
   test holds against this file.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent.core.model import Encoding, Number

Table = Literal["holding", "input", "coil", "discrete"]
Order = Literal["big", "little"]
RegisterType = Literal[
    "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bcd16", "bcd32", "bcd64", "bit"
]

#: Tables whose cells are single bits.
BIT_TABLES: frozenset[Table] = frozenset({"coil", "discrete"})
#: Tables that can be written.
WRITABLE: frozenset[Table] = frozenset({"holding", "coil"})
#: Addresses of a table: 0 to 65535 (4.4).
ADDRESSES = 1 << 16

#: Registers that a type takes. A ``bit`` is a coil or a discrete input.
REGISTERS: dict[RegisterType, int] = {
    "int16": 1,
    "uint16": 1,
    "bcd16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "bcd32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
    "bcd64": 4,
    "bit": 1,
}

_FLOATS: dict[RegisterType, str] = {"float32": ">f", "float64": ">d"}
_LARGEST = {">f": float.fromhex("0x1.fffffep+127"), ">d": float.fromhex("0x1.fffffffffffffp+1023")}
_SIGNED: frozenset[RegisterType] = frozenset({"int16", "int32", "int64"})
_BCD: frozenset[RegisterType] = frozenset({"bcd16", "bcd32", "bcd64"})
_WORD_BITS = 16
_SIGN_BIT = 63


@dataclass(frozen=True, slots=True)
class Register:
    """A number in a device's tables. ``bits``: only these of it, as (lowest bit, how many), unsigned."""

    table: Table
    address: int
    type: RegisterType
    word_order: Order = "big"
    byte_order: Order = "big"
    bits: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """How many registers (or bits of a coil table) it takes."""
        return REGISTERS[self.type]

    @property
    def is_float(self) -> bool:
        """Whether its raw values are floating-point numbers."""
        return self.type in _FLOATS

    @property
    def is_bcd(self) -> bool:
        """Whether each of its nibbles is a decimal digit."""
        return self.type in _BCD

    @property
    def signed(self) -> bool:
        """Whether its raw values are whole numbers in two's complement."""
        return self.type in _SIGNED and self.bits is None

    @property
    def encoding(self) -> Encoding:
        """How its samples' 64-bit words are read."""
        if self.is_float:
            return Encoding.FLOAT
        _, high = self.raw_range
        return Encoding.UINT if high >= 1 << _SIGN_BIT else Encoding.INT

    @property
    def raw_range(self) -> tuple[Number, Number]:
        """The least and the largest raw value that it can hold."""
        if self.is_float:
            largest = _LARGEST[_FLOATS[self.type]]
            return -largest, largest
        width = self.bits[1] if self.bits else _WORD_BITS * self.count
        if self.type == "bit":
            width = 1
        if self.is_bcd and not self.bits:
            return 0, 10 ** (width // 4) - 1
        if self.signed:
            return -(1 << width - 1), (1 << width - 1) - 1
        return 0, (1 << width) - 1


@dataclass(frozen=True, slots=True)
class TextRegister:
    """Text in ``count`` registers: two ASCII characters each, ended by NUL or padded by blanks. ``hex``: shown so."""

    table: Table
    address: int
    count: int
    byte_order: Order = "big"
    hex: bool = False


def number_of(register: Register, words: Sequence[int]) -> Number | None:
    """The raw value of a register's words (of a ``bit``: one word, 0 or 1); None when they hold no number.

    NaN, the infinities and BCD nibbles above 9 are no numbers.
    """
    if register.type == "bit":
        return int(bool(words[0]))
    data = _in_order(register, words)
    if register.is_float:
        value: float = struct.unpack(_FLOATS[register.type], data)[0]
        return value if math.isfinite(value) else None
    raw = int.from_bytes(data, "big", signed=register.signed)
    if register.bits is not None:
        lowest, width = register.bits
        raw = raw >> lowest & (1 << width) - 1
    elif register.is_bcd:
        digits = f"{raw:x}"
        return int(digits) if digits.isdecimal() else None
    return raw


def words_of(register: Register, raw: Number) -> tuple[int, ...]:
    """The words that write a raw value; the inverse of ``number_of``.

    Raises ``ValueError`` when the register can't hold it, or when only some of its bits are the value's.
    """
    low, high = register.raw_range
    if register.bits is not None:
        raise ValueError("bits of a register can't be written apart from the others")
    if not low <= raw <= high:
        raise ValueError(f"{raw} does not fit into {register.type} ({low} to {high})")
    if register.type == "bit":
        return (int(raw),)
    if register.is_float:
        data = struct.pack(_FLOATS[register.type], raw)
    else:
        whole = int(str(int(raw)), 16) if register.is_bcd else int(raw)
        data = whole.to_bytes(2 * register.count, "big", signed=register.signed)
    words = struct.unpack(f">{register.count}H", data)
    return struct.unpack(f">{register.count}H", _in_order(register, words))


def text_of(register: TextRegister, words: Sequence[int]) -> str:
    """The text in a register's words, without padding; what is no ASCII is shown as ``?``."""
    data = b"".join(word.to_bytes(2, register.byte_order) for word in words)
    if register.hex:
        return data.hex()
    text = data.split(b"\0", 1)[0].decode("ascii", "replace")
    return "".join(one if one.isprintable() and one.isascii() else "?" for one in text).strip()


def signed_missing(register: Register, raw: int) -> int:
    """A value of ``missing`` as raw value: of signed registers it may be written as their bits (0x8000)."""
    width = _WORD_BITS * register.count
    return raw - (1 << width) if register.signed and 1 << width - 1 <= raw < 1 << width else raw


def _in_order(register: Register, words: Sequence[int]) -> bytes:
    """The bytes of a value with the highest first. Turning twice gives the words back, so it serves both ways."""
    ordered = words if register.word_order == "big" else words[::-1]
    return b"".join(word.to_bytes(2, register.byte_order) for word in ordered)
