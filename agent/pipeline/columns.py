"""Columns of a ``Batch`` as numpy arrays and back: the one place where the plain sequences of core meet numpy.

A small batch costs what its calls of numpy cost, whatever is in it. So columns are converted once for all who read
them, and what follows from a column of ids is remembered: a poll brings the same column again and again.
"""

from array import array
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Batch, Column

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]
Places = NDArray[np.intp]
Flags = NDArray[np.bool_]

#: Columns of ids up to this length are remembered, and so many of them.
_SHORT = 256
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Spots:
    """A column of signal ids as indexes of state arrays. ``unique``: surely no signal stands in it twice."""

    places: Places
    highest: int  #: -1 when it is empty
    unique: bool


class Rows:
    """A batch with its columns as numpy arrays, and where their signals stand."""

    __slots__ = ("batch", "highest", "places", "times_us", "unique", "words")

    def __init__(self, batch: Batch, spots: Spots) -> None:
        self.batch = batch
        self.places = spots.places
        self.highest = spots.highest
        self.unique = spots.unique
        self.times_us: Ints = np.asarray(batch.times_us, dtype=np.int64)
        self.words: Ints = np.asarray(batch.words, dtype=np.int64)


class Memory:
    """Remembers columns of ids; what does not fit pushes out all the rest, which then is looked at anew."""

    def __init__(self) -> None:
        self._known: dict[bytes, Spots] = {}

    def spots(self, column: Column) -> Spots:
        """Where the signals of a column stand."""
        key = _bytes_of(column) if len(column) <= _SHORT else b""
        if not key:
            return spots_of(column)
        found = self._known.get(key)
        if found is None:
            found = spots_of(column)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found


def rows_of(batch: Batch) -> Rows:
    """The columns of one batch."""
    return Rows(batch, spots_of(batch.ids))


def spots_of(column: Column) -> Spots:
    """Where the signals of a column stand; whether they repeat is looked up for short ones only."""
    # A copy: whoever sent the column may fill it anew. numpy indexes with its own word size at half the price of int32.
    places = np.array(column, dtype=np.intp)
    unique = len(places) <= _SHORT and len(set(places.tolist())) == len(places)
    return Spots(places, int(places.max(initial=-1)), unique)


def batch_of(ids: Ids | Places, times_us: Ints, words: Ints, *, valid: bool = True) -> Batch:
    """A batch whose columns are numpy arrays: they do all that a ``Column`` does, without its base class."""
    ids = ids.astype(np.int32, copy=False)
    return Batch(cast("Column", ids), cast("Column", times_us), cast("Column", words), valid)


def any_of(flags: Flags) -> bool:
    """Whether one is set. Counting them costs a third of ``any()``."""
    return bool(np.count_nonzero(flags))


def _bytes_of(column: Column) -> bytes:
    """What a column of int32 is remembered by; nothing for any other."""
    if isinstance(column, array):
        return column.tobytes() if column.typecode == "i" else b""
    numbers = cast("object", column)
    return numbers.tobytes() if isinstance(numbers, np.ndarray) and numbers.dtype == np.int32 else b""
