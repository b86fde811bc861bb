"""How a simulated device packs values into CAN frames: tables of its own, a second reading of the DBC files.

Tests hold these tables against the DBC files; nothing here reads a DBC.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from drivers.sim.battery import Battery


class Frame(NamedTuple):
    """One CAN frame."""

    can_id: int
    extended: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value lies in a frame (Intel order), and in what steps: raw = (value - offset) / scale, saturated."""

    start: int
    bits: int
    scale: float = 1.0
    offset: float = 0.0
    signed: bool = False

    def raw(self, value: float) -> int:
        """The nearest raw value that the bits can hold, as the unsigned number that stands in the frame."""
        low, high = (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)
        return min(max(round((value - self.offset) / self.scale), low), high) & ((1 << self.bits) - 1)


Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """One message: how often it is sent, its fields by their DBC names, and where its values come from.

    ``values`` gives one set of values for each frame that is sent at a time; ``counter`` is 0 to 255.
    """

    can_id: int
    length: int
    cycle_ms: int
    fields: Mapping[str, Field]
    values: Callable[[Battery, int], Iterator[Values]]

    def frames(self, battery: Battery, counter: int) -> Iterator[Frame]:
        """The frames that are sent at one time."""
        for values in self.values(battery, counter):
            word = 0
            for name, value in values.items():
                field = self.fields[name]
                word |= field.raw(value) << field.start
            yield Frame(self.can_id, extended=False, data=word.to_bytes(self.length, "little"))
