"""What every meter codec gives: telegrams, and the contract that it keeps.

A codec is fed the bytes of a line as they come, in pieces of any size, and gives what became complete. Rules, held for
all codecs by ``tests/contract/test_codec_meter.py``:

1. One chunk or byte by byte: the same results in the same order.
2. Garbage never raises. What broke the protocol is a ``BadFrame``; noise between telegrams is nothing at all.
3. A bad frame never delays the good one behind it, and never gives a value: a telegram is there whole or not at all.
4. Not more than ``limit`` bytes wait inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.core.model import BadFrame, Number

#: A state has fewer; Python refuses to read a number of thousands of digits.
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a telegram, as the meter sent it.

    ``code`` is the OBIS code as ``A-B:C.D.E*F``, as far as the meter sent it; for M-Bus the record's number from 0.
    ``value`` is in ``unit`` as sent (``kWh``); text stays text. ``point`` is the point of our vocabulary that it means
    by itself, None when there is none; its value in the point's unit is ``value * scale``.
    """

    code: str
    value: Number | str
    unit: str | None = None
    point: str | None = None
    scale: Number = 1

    @property
    def number(self) -> Number | None:
        """The value as a number; None for text. A state that is sent as digits (tariff ``0002``) is a number where it
        means a point, though ``value`` stays the text that was sent.
        """  # noqa: D205 - one sentence
        if not isinstance(self.value, str):
            return self.value
        digits = self.value.isdecimal() and self.value.isascii() and len(self.value) <= _MAX_DIGITS
        return int(self.value) if self.point is not None and digits else None


@dataclass(frozen=True, slots=True)
class Telegram:
    """All values of one telegram that passed its checksum, in the order in which they were sent."""

    meter: str | None  #: the meter's own number, as it sends it
    readings: tuple[Reading, ...]
    identity: tuple[tuple[str, str], ...] = ()  #: what it says of itself: ("model", "ISk5MT174"), ("protocol", "50")
    more: bool = False  #: the rest of this readout is in further telegrams, to be asked for (M-Bus)


class Codec(Protocol):
    """Bytes of one line become telegrams. Pure: no clock, no log, no port."""

    limit: int  #: bytes that may wait inside

    def feed(self, data: bytes) -> Sequence[Telegram | BadFrame]:
        """What these bytes completed."""

    def end(self) -> Sequence[Telegram | BadFrame]:
        """Nothing more comes, as at the end of a recording: what waits inside is whole as it stands, or ``truncated``.

        Leaves nothing inside, as ``reset``.
        """

    def reset(self) -> None:
        """The line was interrupted: what waits inside is worth nothing."""
