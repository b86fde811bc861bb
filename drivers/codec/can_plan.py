"""The tables by which ``can_batch.py`` decodes: built once by ``can_planner.py``, then only read.

All signals of all variants stand in one flat table; variant ``v`` owns ``count[v]`` rows from ``start[v]`` on.
A payload is ``words`` 64-bit words. A signal is cut from the 64 bits that begin at its ``byte``: Intel as they are,
Motorola byte-swapped, then shifted ``left`` (bits above it leave) and ``right`` (it comes down), then sign-extended.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Encoding
from drivers.codec.dbc_model import SignalDef

WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class Fields:
    """Where signals lie, one row each."""

    byte: NDArray[np.int64]  #: where its 64 bits begin
    big: NDArray[np.bool_]  #: Motorola
    left: NDArray[np.uint64]
    right: NDArray[np.uint64]
    half: NDArray[np.uint64]  #: the sign bit of a signed one, else 0
    ninth: NDArray[np.bool_]  #: its bits reach into a ninth byte
    float_bits: NDArray[np.uint8]  #: 16, 32, 64; 0 for an integer
    end: NDArray[np.int64]  #: payload bytes that it needs
    any_big: bool
    any_signed: bool
    any_ninth: bool

    def __len__(self) -> int:
        return len(self.byte)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Sorted keys and what they stand for."""

    keys: NDArray[np.int64]
    values: NDArray[np.int64]

    def find(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The value of each key, -1 where there is none."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.values[at], -1)


@dataclass(frozen=True, slots=True)
class Multiplexers:
    """How the variant of a multiplexed message is found: selector ``k`` of message ``m`` is row ``field[m, k]``.

    Its raw value gives a slot; the slots of all selectors, each times its ``weight``, give the place in ``variant``
    behind ``first[m]``, where the variant stands, or -1 for values that nothing is sent with.
    """

    any: bool
    is_multiplexed: NDArray[np.bool_]  #: per message
    fields: Fields
    field: NDArray[np.int64]  #: [message, k]; -1: this message has no selector k
    table: NDArray[np.int64]  #: [message, k]: where its slots of all raw values begin in ``slots``; -1: searched
    slots: NDArray[np.int16]
    searched: tuple[tuple[int, int, NDArray[np.int64]], ...]  #: message, k, bounds of the slots
    weight: NDArray[np.int64]  #: [message, k]
    first: NDArray[np.int64]  #: per message
    variant: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decoding needs to know."""

    words: int  #: 64-bit words of a payload that are looked at
    standard: NDArray[np.int64]  #: 11-bit identifier -> message, or -1
    extended: Lookup  #: 29-bit identifier -> message
    by_source: Lookup  #: J1939 PGN << 8 | source address -> message
    by_pgn: Lookup  #: J1939 PGN -> message
    needed: NDArray[np.int64]  #: payload bytes per message, and in the last row more than a frame has
    variants: int
    first_variant: NDArray[np.int64]  #: per message: its only variant where it is not multiplexed
    multiplexers: Multiplexers
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    ids: NDArray[np.int32]
    fields: Fields
    float_sizes: tuple[int, ...]  #: the sizes of floats that occur, bits
    variant_mask: NDArray[np.uint64]  #: [variant, word]: the bits of its wanted signals
    message_mask: NDArray[np.uint64]  #: [message, word]: the bits that must equal the message's last frame
    most_signals: int  #: the highest ``count``
    has_outside: bool  #: some signals reach outside of their message
    message_ids: tuple[NDArray[np.int32], ...]
    left_out: tuple[str, ...]


def encoding_of(signal: SignalDef) -> Encoding:
    """How the words of a signal are read."""
    if signal.is_float:
        return Encoding.FLOAT
    return Encoding.UINT if signal.length == WORD_BITS and not signal.signed else Encoding.INT
