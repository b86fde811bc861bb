"""Columns as numpy arrays: what is remembered of a column of ids is never another column's."""

from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.model import Batch, Column
from agent.pipeline.columns import Memory, Spots, spots_of
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub

T_US = 1_700_000_000_000_000


def told(spots: Spots) -> tuple[list[int], int, bool]:
    return spots.places.tolist(), spots.highest, spots.unique


@given(columns=st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=30))
def test_what_is_remembered_is_what_would_be_found_anew(columns: list[list[int]]) -> None:
    memory = Memory()
    for column in columns:
        forms: list[Column] = [array("i", column), array("q", column), column]
        forms += [np.array(column, dtype=kind) for kind in (np.int32, np.int64, np.uint32)]  # type: ignore[misc]
        for form in forms:
            assert told(memory.spots(form)) == told(spots_of(column))


def test_says_whether_a_signal_stands_twice() -> None:
    assert told(spots_of(array("i", [3, 1, 2]))) == ([3, 1, 2], 3, True)
    assert told(spots_of([3, 1, 3])) == ([3, 1, 3], 3, False)
    assert told(spots_of([])) == ([], -1, True)


def test_a_column_that_is_filled_anew_is_another_one() -> None:
    memory = Memory()
    column = array("i", [1, 2])
    first = memory.spots(column)
    column[0] = 7
    assert told(memory.spots(column)) == ([7, 2], 7, True)
    assert first.places.tolist() == [1, 2]


def test_memory_is_bounded() -> None:
    memory = Memory()
    for number in range(5000):
        memory.spots(array("i", [number]))
    memory.spots(array("i", range(100_000)))
    assert len(memory._known) <= 1024


@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=6), min_size=1, max_size=12
    ),
    pad=st.booleans(),
)
def test_small_and_large_batches_mean_the_same(batches: list[list[tuple[int, int]]], pad: bool) -> None:  # noqa: FBT001
    """A batch with many rows of signals that never change goes the other way, and keeps the same rows."""

    def kept(padding: list[tuple[int, int]]) -> list[tuple[int, int, int, bool]]:
        rows: list[tuple[int, int, int, bool]] = []
        stored: list[Batch] = []
        clock = FakeClock()
        flow = Flow(clock, Gate(), Hub(clock), stored.append)
        for n, batch in enumerate([[(6, 0)], *batches]):
            ids, words = zip(*batch, *padding, strict=True)
            flow.put(Batch(array("i", ids), array("q", [T_US + n]) * len(ids), array("q", words)))
            if n % 3 == 2:
                flow.forget(ids)
            flow.touch(array("i", ids))
        for one in stored:
            rows += zip(one.ids, one.times_us, one.words, [one.valid] * len(one), strict=True)
        return [(int(number), int(t), int(word), valid) for number, t, word, valid in rows if number != 6]

    assert kept([]) == kept([(6, 0)] * (300 if pad else 1))
