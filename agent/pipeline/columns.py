"""Columns of a ``Batch`` as numpy arrays and back: the one place where the plain sequences of core meet numpy."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Batch, Column

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]
Places = NDArray[np.intp]


def ids_of(column: Column) -> Ids:
    """Signal ids as int32[n]; no copy where the column is ``array('i')`` or int32 already."""
    return np.asarray(column, dtype=np.int32)


def places_of(column: Column) -> Places:
    """Signal ids as indexes of state arrays: numpy indexes with its own word size at half the price of int32."""
    return np.asarray(column, dtype=np.int32).astype(np.intp)


def ints_of(column: Column) -> Ints:
    """Times or words as int64[n]; no copy where the column is ``array('q')`` or int64 already."""
    return np.asarray(column, dtype=np.int64)


def batch_of(ids: Ids | Places, times_us: Ints, words: Ints, *, valid: bool = True) -> Batch:
    """A batch whose columns are numpy arrays: they do all that a ``Column`` does, without its base class."""
    ids = ids.astype(np.int32, copy=False)
    return Batch(cast("Column", ids), cast("Column", times_us), cast("Column", words), valid)
