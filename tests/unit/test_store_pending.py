"""What waits for a commit is bounded, in order, and its losses are counted by signal."""

from array import array
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Batch, Column
from agent.store.pending import Drop, Pending
from agent.store.telemetry import pack_batches, well_formed
from agent.store.unpack import unpack


def batch(first: int, rows: int) -> Batch:
    numbers = range(first, first + rows)
    return Batch(array("i", [n % 3 + 1 for n in numbers]), array("q", numbers), array("q", numbers))


@given(st.lists(st.one_of(st.integers(0, 7), st.just("take"), st.just("fail")), max_size=40))
def test_what_comes_out_is_the_newest_in_order_and_the_rest_is_counted(steps: list[int | str]) -> None:
    pending = Pending(10)
    given_rows = 0
    taken: list[int] = []
    dropped = 0
    for step in steps:
        if isinstance(step, int):
            pending.add(batch(given_rows, step))
            given_rows += step
        else:
            batches = pending.take()
            if step == "fail":
                pending.put_back(batches)
            else:
                taken += [word for part in batches for word in part.words]
        assert pending.rows <= 10
        dropped += sum(drop.count for drop in pending.take_drops())
    taken += [word for part in pending.take() for word in part.words]
    assert taken == sorted(taken)
    assert dropped == pending.dropped_rows == given_rows - len(taken)
    assert pending.rows == 0


def test_drops_say_which_signal_from_when_to_when() -> None:
    pending = Pending(4)
    pending.add(Batch(array("i", [1, 2, 1]), array("q", [30, 20, 10]), array("q", [0, 0, 0])))
    pending.add(Batch(array("i", [2]), array("q", [40]), array("q", [0])))
    pending.add(batch(0, 4))
    drops = pending.take_drops()
    assert drops == [Drop(1, 10, 30, 2, "pending_full"), Drop(2, 20, 40, 2, "pending_full")]
    assert pending.take_drops() == []
    pending.put_back_drops(drops)
    assert pending.take_drops() == drops


def test_drops_of_the_same_signal_become_one_entry() -> None:
    pending = Pending(1)
    for t_us in (5, 3, 9, 7):
        pending.add(Batch(array("i", [6]), array("q", [t_us]), array("q", [0])))
    assert pending.take_drops() == [Drop(6, 3, 9, 3, "pending_full")]


def test_a_batch_larger_than_the_limit_is_dropped_whole() -> None:
    pending = Pending(3)
    pending.add(batch(0, 4))
    assert (pending.rows, pending.dropped_rows) == (0, 4)


def test_plain_arrays_become_blocks_of_bounded_size() -> None:
    good = Batch(array("i", [1, 2]), array("q", [10, 11]), array("q", [5, 6]))
    gone = Batch(array("i", [1]), array("q", [12]), array("q", [99]), valid=False)
    packed = pack_batches([good, gone], 2)
    assert [(block.rows, block.from_us, block.to_us) for block in packed] == [(2, 10, 11), (1, 12, 12)]
    rows = unpack(packed[1].data)
    assert (rows.words.tolist(), rows.invalid.tolist()) == ([0], [True])
    assert unpack(packed[0].data).words.tolist() == [5, 6]


def test_bad_batches_are_told_from_good_ones() -> None:
    assert well_formed(Batch(array("i", [1]), array("q", [1]), array("q", [1])))
    assert well_formed(Batch([1], [1], [-(2**63)]))
    assert not well_formed(Batch([1, 2], [1], [1]))
    assert not well_formed(Batch([1], [1], [2**63]))
    assert not well_formed(Batch([1], [1], cast("Column", ["x"])))
