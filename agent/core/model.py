"""The values that travel through the house. All are immutable; none knows where it came from or where it goes.

Rules of this file:

1. A signal is one (device, name) with one meaning. Its integer id is given once, by the store, and never reused: the
   same number is the index of the latest-value table, the column of a stored block, the alias on the wire and the key
   in the central database.
2. Samples travel as a ``Batch`` of three parallel columns, never as a list of objects. A value is the 64-bit *word*
   that the device sent: a whole number stays that whole number, a float is carried as the bits of an IEEE-754 binary64.
   ``Signal.encoding`` says which. Scale and offset stand in the signal, so storing is lossless and small.
3. Missing is never 0: a signal that stops being known gives one row in a batch with ``valid=False``.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

Number = int | float
#: A column is any sequence with the buffer protocol: ``array.array`` from plain Python, a numpy array from hot paths.
Column = Sequence[int]

#: ``SignalSpec.source`` of what clients post: readings, and energy.
POSTED_READINGS, POSTED_ENERGY = "posted telemetry", "posted"

_UINT_SPAN = 1 << 64
_DOUBLE = struct.Struct("<d")
_WORD = struct.Struct("<q")


class Encoding(IntEnum):
    """How the 64-bit word of a sample is read."""

    INT = 0  #: two's complement
    UINT = 1  #: unsigned, for values that may pass 2**63 - 1
    FLOAT = 2  #: the bits of an IEEE-754 binary64


#: Python 3.11 takes a microsecond to look up a member of an enumeration, and ``physical`` runs for each shown value.
_FLOAT, _UINT = Encoding.FLOAT, Encoding.UINT


class Kind(StrEnum):
    """What a signal's values mean over time."""

    GAUGE = "gauge"  #: a measured quantity, averages make sense
    COUNTER = "counter"  #: an energy register or the like, only differences make sense
    STATE = "state"  #: a choice, a flag or an identity, neither averages nor differences make sense


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """What a driver says of a signal before the store has given it a number.

    ``name`` is a point of ``points.py`` (with ``.N`` for the N-th of an array), or the source's own name
    (``Message.Signal`` of a DBC) where no profile maps it. Physical value = word * scale + offset, in ``unit``.
    """

    device: str
    name: str
    unit: str = ""
    kind: Kind = Kind.GAUGE
    encoding: Encoding = Encoding.INT
    scale: Number = 1
    offset: Number = 0
    labels: Mapping[int, str] = field(default_factory=dict)  #: names of physical values, for choices
    source: str = ""  #: where it is read, in the field's words: ``0x356 Pack.Voltage``, ``holding 40001``

    @property
    def full_name(self) -> str:
        """``device.name``, the way rules, the API and people write it."""
        return f"{self.device}.{self.name}"

    def physical(self, word: int) -> Number:
        """The physical value of a word. Whole numbers stay exact while scale and offset are whole."""
        raw: Number = word
        if self.encoding is _FLOAT:
            raw = word_to_float(word)
        elif word < 0 and self.encoding is _UINT:
            raw = word + _UINT_SPAN
        if self.scale == 1 and self.offset == 0:
            return raw
        return raw * self.scale + self.offset


@dataclass(frozen=True, slots=True)
class Signal(SignalSpec):
    """A signal with its number. ``id`` starts at 1; 0 is no signal."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples as parallel columns: signal id (int32), time (µs UTC, int64), word (int64).

    Row order is the order of arrival and the only order that counts. With ``valid=False`` the rows say that the
    signals became unknown at these times; their words mean nothing.
    """

    ids: Column
    times_us: Column
    words: Column
    valid: bool = True

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened once and must not be lost: a row of the ledger, not a sample.

    ``kind`` is dotted (``device.offline``, ``store.moved_aside``); ``subject`` is the device, station or part it is
    about; ``data`` is JSON-able.
    """

    kind: str
    t_us: int
    subject: str = ""
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """One charging session (OCPP: transaction): a durable record, one row for ever, energies in Wh.

    ``id`` comes from the store's persistent counter (0: not stored yet) and is also the transactionId of OCPP 1.6.
    ``key`` says what makes two reports the same session; the store holds it once. ``remote_id`` is what the charger
    calls it, where it has a name of its own (OCPP 2.0.1 transactionId). Registers are readings of the meter, the energy
    is theirs: ``energy_wh`` = last - start, corrected and explained in ``data`` where the register was reset.
    ``id_tag`` is what the vehicle's user presented, in the clear: whoever shows it, shows a hash.
    """

    device: str
    outlet: int  #: EVSE of the charger, from 1
    key: str
    start_us: int
    id: int = 0
    remote_id: str = ""
    id_tag: str = ""
    start_wh: Number | None = None  #: register when it began; None: not told
    last_wh: Number | None = None  #: register as last told
    last_us: int | None = None
    stop_us: int | None = None  #: None: it runs
    energy_wh: Number | None = None
    reason: str = ""  #: OCPP's stop reason; ours where the charger never told (``Lost``)
    data: Mapping[str, object] = field(default_factory=dict)  #: JSON-able

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.stop_us is None


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Input that broke its protocol, as a value: it is counted and its neighbours are not delayed."""

    reason: str  #: a short fixed word, fit for a counter's label: ``too_short``, ``unknown_multiplexer``
    sample: bytes = b""


def float_to_word(value: float) -> int:
    """The word of a float sample: the bits of its binary64, as a signed 64-bit integer."""
    word: int = _WORD.unpack(_DOUBLE.pack(value))[0]
    return word


def word_to_float(word: int) -> float:
    """The float that ``float_to_word`` made a word of."""
    value: float = _DOUBLE.unpack(_WORD.pack(word))[0]
    return value


def uint_to_word(value: int) -> int:
    """The word of an unsigned 64-bit sample (``Encoding.UINT``): the same 64 bits, signed."""
    return value if value < _UINT_SPAN >> 1 else value - _UINT_SPAN
