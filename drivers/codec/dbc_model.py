"""DBC files as plain values: what the CAN decoders need to know of a message and its signals.

Import these from ``drivers.codec.dbc``, together with ``load_dbc``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Number = int | float
ByteOrder = Literal["little", "big"]
#: Inclusive ranges of multiplexer values, sorted, not touching.
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SignalDef:
    """One signal of a message. Physical value = raw * ``scale`` + ``offset``, in ``unit``.

    ``start`` counts as DBC does: byte * 8 + bit, bit 0 lowest; it names the lowest bit of a ``little`` (Intel) signal
    and the highest bit of a ``big`` (Motorola) one. ``length`` is in bits. A float is IEEE-754 of 16, 32 or 64 bits.
    """

    name: str
    start: int
    length: int
    byte_order: ByteOrder = "little"
    signed: bool = False
    is_float: bool = False
    scale: Number = 1
    offset: Number = 0
    minimum: Number | None = None
    maximum: Number | None = None
    unit: str = ""
    choices: Mapping[int, str] = field(default_factory=dict)
    comment: str = ""
    is_multiplexer: bool = False  #: other signals depend on its value
    multiplexer: str | None = None  #: the signal whose value decides whether this one is sent; None: always sent
    #: the physical values (truncated to whole numbers) of ``multiplexer`` with which this signal is sent
    mux_values: Ranges = ()

    @property
    def end_byte(self) -> int:
        """How many bytes a frame must have to carry all bits of this signal."""
        if self.byte_order == "little":
            return (self.start + self.length + 7) // 8
        first = self.start // 8 * 8 + 7 - self.start % 8
        return (first + self.length + 7) // 8


@dataclass(frozen=True, slots=True)
class MessageDef:
    """One message. ``frame_id`` is the identifier without flags; 11- and 29-bit identifiers are two namespaces."""

    frame_id: int
    extended: bool
    name: str
    length: int  #: payload bytes, 0 to 64 (J1939 transport messages: up to 1785)
    signals: tuple[SignalDef, ...]
    fd: bool = False
    cycle_time_ms: int | None = None
    j1939: bool = False  #: matched by PGN, see ``can_j1939.py``
    comment: str = ""

    @property
    def multiplexed(self) -> bool:
        """Whether the signals of a frame depend on a multiplexer."""
        return any(signal.is_multiplexer for signal in self.signals)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in a DBC file: what and where it is, and what to do.

    ``error``: a message or signal is not loaded. ``warning``: all is loaded, but something is doubtful or was repaired.
    """

    severity: Literal["error", "warning"]
    file: str
    line: int  #: from 1; 0 where no line applies
    text: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}: {self.severity}: {self.text}{hint}"


@dataclass(frozen=True, slots=True)
class Dbc:
    """A loaded file: all messages that can be used, in the file's order, and everything that was wrong with it."""

    name: str
    messages: tuple[MessageDef, ...]
    findings: tuple[Finding, ...] = ()
