"""Modbus registers: where a value lies, and what its words mean.

Rules of this file:

1. Addresses are those of the wire, from 0 (Modbus Application Protocol V1.1b3, 4.4). Makers' tables often count from 1
   or add 30001 / 40001: a profile has them converted already.
2. Within a register the first byte is the high one. Values of several registers have their high word first unless
   ``word_order`` is little; ``byte_order`` little swaps the bytes of each register.
3. A whole number stays the whole number that the device sent; scale and offset stand in the signal.
"""

from dataclasses import dataclass
from typing import Literal

Table = Literal["holding", "input", "coil", "discrete"]
Order = Literal["big", "little"]
RegisterType = Literal[
    "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bcd16", "bcd32", "bcd64", "bit"
]

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


@dataclass(frozen=True, slots=True)
class TextRegister:
    """Text in ``count`` registers: two ASCII characters each, ended by NUL or padded by blanks. ``hex``: shown so."""

    table: Table
    address: int
    count: int
    byte_order: Order = "big"
    hex: bool = False
