"""Which questions a device is asked so that all wanted registers are answered: blocks, with gaps and limits.

Rules of this file:

1. A question stays within one table and within the device's limit (Modbus Application Protocol V1.1b3: 125 registers,
   6.3; 2,000 bits, 6.1). Cells that nobody wants are read along only up to ``max_gap`` in a row.
2. What belongs together (the registers of a number, a value and its exponent) comes in one answer: read in two, it
   might be the half of one value and the half of the next.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from drivers.codec.registers import BIT_TABLES, Table

MAX_REGISTERS = 125
MAX_BITS = 2000
_BITS_OF_A_REGISTER = 16


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """``count`` cells of a table from ``address`` on: what is wanted, and what is asked."""

    table: Table
    address: int
    count: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.count

    def holds(self, other: "Span") -> bool:
        """Whether all cells of the other one are in this one."""
        return self.table == other.table and self.address <= other.address and other.end <= self.end


def pack(wanted: Iterable[Span], max_registers: int = MAX_REGISTERS, max_gap: int = 0) -> list[Span]:
    """The questions, by table and address: each wanted span lies whole within one of them.

    ``max_registers`` and ``max_gap`` are in registers; tables of bits are allowed sixteen times as many. Raises
    ``ValueError`` for a span that is longer than a question may be.
    """
    questions: list[Span] = []
    for span in sorted(set(wanted)):
        limit, gap = max_registers, max_gap
        if span.table in BIT_TABLES:
            limit = min(limit * _BITS_OF_A_REGISTER, MAX_BITS)
            gap *= _BITS_OF_A_REGISTER
        if span.count > limit:
            raise ValueError(f"{span.count} {span.table} from {span.address} on: a question may ask for {limit}")
        last = questions[-1] if questions else None
        if last is not None and last.table == span.table and span.address - last.end <= gap:
            end = max(last.end, span.end)
            if end - last.address <= limit:
                questions[-1] = Span(last.table, last.address, end - last.address)
                continue
        questions.append(span)
    return questions
