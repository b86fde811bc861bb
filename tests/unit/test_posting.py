"""Posted rows: each (device, time) once, whatever is repeated, in whatever order, and as few bytes as it takes."""

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.store import posting, schema
from agent.store.posting import CUT, MAX_PER_MINUTE, MINUTE_US, Fate, Posting, newest_us, pack, prune, take_in, unpack
from agent.store.schema import get_mark

NOON_US = 1_790_000_000_000_000 // MINUTE_US * MINUTE_US
STORED, DUPLICATE, OLD = Fate.STORED, Fate.DUPLICATE, Fate.TOO_OLD


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(opened()) as made:
        yield made


def opened() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(made)
    return made


def rows(*found: tuple[str, int], samples: int = 1) -> Posting:
    """So many samples each; the word of each is the place of its row."""
    places = [place for place in range(len(found)) for _ in range(samples)]
    ids = [1 + n for _ in found for n in range(samples)]
    devices, times = [device for device, _ in found], [t_us for _, t_us in found]
    return Posting(devices, times, [samples] * len(found), array("i", ids), array("q", places))


def post(connection: sqlite3.Connection, *found: tuple[str, int]) -> Sequence[Fate]:
    return take_in(connection, rows(*found))[0]


def test_a_row_is_stored_once(connection: sqlite3.Connection) -> None:
    assert post(connection, ("a", NOON_US), ("b", NOON_US), ("a", NOON_US)) == [STORED, STORED, DUPLICATE]
    assert post(connection, ("a", NOON_US), ("a", NOON_US + 1)) == [DUPLICATE, STORED]
    assert post(connection, ("a", NOON_US - 1), ("a", NOON_US + 1)) == [STORED, DUPLICATE]
    assert newest_us(connection, "a") == NOON_US + 1
    assert newest_us(connection, "c") is None


def test_only_samples_of_stored_rows_come_out_by_time(connection: sqlite3.Connection) -> None:
    post(connection, ("a", NOON_US + 1))
    found = rows(("a", NOON_US + 3), ("a", NOON_US + 1), ("a", NOON_US + 2), samples=2)
    fates, _, batch = take_in(connection, found)
    assert fates == [STORED, DUPLICATE, STORED]
    assert list(batch.times_us) == [NOON_US + 2, NOON_US + 2, NOON_US + 3, NOON_US + 3]
    assert list(batch.words) == [2, 2, 0, 0]
    assert list(batch.ids) == [1, 2, 1, 2]


def test_a_minute_takes_so_many_rows(connection: sqlite3.Connection) -> None:
    full = [("a", NOON_US + n) for n in range(MAX_PER_MINUTE)]
    assert set(post(connection, *full)) == {STORED}
    again = post(connection, ("a", NOON_US + MAX_PER_MINUTE), ("a", NOON_US), ("a", NOON_US + MINUTE_US))
    assert again == [Fate.TOO_MANY, DUPLICATE, STORED]


def test_what_was_forgotten_is_refused_for_ever(connection: sqlite3.Connection) -> None:
    post(connection, ("a", NOON_US), ("a", NOON_US + MINUTE_US), ("b", NOON_US))
    for _ in prune(connection, NOON_US + MINUTE_US + 5):
        assert not connection.in_transaction
    assert connection.execute("SELECT device, minute FROM posted").fetchall() == [("a", NOON_US // MINUTE_US + 1)]
    assert get_mark(connection, CUT) == NOON_US + MINUTE_US
    for _ in prune(connection, NOON_US - MINUTE_US):  # the wall clock went back
        pass
    assert post(connection, ("a", NOON_US), ("b", NOON_US + MINUTE_US - 1), ("b", NOON_US + MINUTE_US)) == [
        OLD, OLD, STORED,
    ]  # fmt: skip
    assert post(connection, ("a", NOON_US + MINUTE_US)) == [DUPLICATE]


def test_a_damaged_minute_begins_anew_and_harms_no_other(connection: sqlite3.Connection) -> None:
    post(connection, ("a", NOON_US), ("a", NOON_US + MINUTE_US))
    connection.execute("UPDATE posted SET offsets = x'ff' WHERE minute = ?", (NOON_US // MINUTE_US + 1,))
    assert newest_us(connection, "a") is None
    assert post(connection, ("a", NOON_US), ("a", NOON_US + MINUTE_US)) == [DUPLICATE, STORED]
    assert newest_us(connection, "a") == NOON_US + MINUTE_US


@pytest.mark.parametrize(
    ("offsets", "size"),
    [
        ([n * 1_000_000 for n in range(60)], 62),  # 1 Hz: a byte each
        ([n * 100_000 for n in range(600)], 602),
        ([0], 3),
        ([59_999_999], 6),
        ([n * 999_999 for n in range(60)], 242),
    ],
)
def test_offsets_take_few_bytes(offsets: list[int], size: int) -> None:
    assert len(pack(offsets)) == size
    assert unpack(pack(offsets)).tolist() == offsets


@pytest.mark.parametrize("blob", [b"", b"s", b"s\x01", b"x\x01\x00", b"s\x03\x00", b"u\x04\x00"])
def test_damaged_offsets_are_seen(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"damaged|multiple"):
        unpack(blob)


@given(st.sets(st.integers(0, MINUTE_US - 1) | st.integers(0, 59_999).map(lambda ms: ms * 1000), min_size=1))
def test_packing_loses_nothing(offsets: set[int]) -> None:
    assert unpack(pack(sorted(offsets))).tolist() == sorted(offsets)


_ROW = st.tuples(
    st.sampled_from(["a", "b"]), st.integers(0, 3).map(lambda n: NOON_US + n * MINUTE_US // 2) | st.just(NOON_US + 7)
)


@given(st.lists(st.tuples(st.lists(_ROW, max_size=6), st.integers(0, 3) | st.none()), max_size=8))
def test_any_requests_store_what_a_plain_set_would(requests: list[tuple[list[tuple[str, int]], int | None]]) -> None:
    """Each request may be followed by a prune up to the beginning of some minute, or by none."""
    seen: set[tuple[str, int]] = set()
    cut_us = 0
    with closing(opened()) as connection:
        for sent, minute in requests:
            wanted = []
            for row in sent:
                wanted.append(OLD if row[1] < cut_us else DUPLICATE if row in seen else STORED)
                seen |= {row} if wanted[-1] is STORED else set()
            assert post(connection, *sent) == wanted
            if minute is not None:
                for _ in prune(connection, NOON_US + minute * MINUTE_US):
                    pass
                cut_us = max(cut_us, NOON_US + minute * MINUTE_US)
        assert posting.newest_us(connection, "a") == max(
            (t_us for device, t_us in seen if device == "a" and t_us >= cut_us), default=None
        )
