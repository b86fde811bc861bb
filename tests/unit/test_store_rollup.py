"""Roll-ups say what the rows say, however the rows are cut into blocks and whatever the clock did."""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import Encoding, float_to_word, uint_to_word
from agent.store import rollup, schema
from agent.store.sealing import in_signal_order
from agent.store.unpack import Rows

MINUTE = rollup.MINUTE_US
ENCODINGS = {1: Encoding.INT, 2: Encoding.UINT, 3: Encoding.FLOAT}
Row = tuple[int, int, int | float, bool]

values = {
    1: st.integers(-(2**63), 2**63 - 1) | st.integers(-50, 50),
    2: st.integers(0, 2**64 - 1) | st.integers(0, 50),
    3: st.floats(width=32) | st.integers(-50, 50).map(float),
}
row_strategy = st.sampled_from([1, 2, 3]).flatmap(
    lambda signal: st.tuples(st.just(signal), st.integers(0, 4 * MINUTE), values[signal], st.booleans())
)


def word(signal: int, value: float) -> int:
    if ENCODINGS[signal] is Encoding.FLOAT:
        return float_to_word(float(value))
    return uint_to_word(int(value)) if ENCODINGS[signal] is Encoding.UINT else int(value)


def columns(rows: list[Row]) -> Rows:
    return in_signal_order(
        Rows(
            np.array([row[0] for row in rows], np.int32),
            np.array([row[1] for row in rows], np.int64),
            np.array([word(row[0], row[2]) for row in rows], np.int64),
            np.array([row[3] for row in rows]),
        )
    )


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        schema.migrate(opened)
        yield opened


@given(st.lists(st.lists(row_strategy, min_size=1, max_size=25), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_merged_roll_ups_equal_the_sum_of_all_rows(connection: sqlite3.Connection, blocks: list[list[Row]]) -> None:
    connection.execute("DELETE FROM minute")
    connection.execute("DELETE FROM hour")
    for block in blocks:
        rollup.merge(connection, columns(block), ENCODINGS)
    found = connection.execute("SELECT signal, t, lo, hi, sum, last, count, gaps FROM minute").fetchall()
    groups: dict[tuple[int, int], list[float | None]] = defaultdict(list)
    for signal, t_us, value, invalid in (row for block in blocks for row in block):
        silent = invalid or not math.isfinite(value)
        groups[signal, t_us // MINUTE].append(None if silent else value)
    assert {row[:2] for row in found} == set(groups)
    for signal, t, low, high, total, last, count, gaps in found:
        group = groups[signal, t]
        valid = [value for value in group if value is not None]
        assert (count, gaps) == (len(valid), len(group) - len(valid))
        assert low == (min(map(_stored, valid)) if valid else None)
        assert high == (max(map(_stored, valid)) if valid else None)
        assert last == (None if group[-1] is None else _stored(group[-1]))
        scale = sum(map(abs, valid)) or 1
        assert total == pytest.approx(math.fsum(valid), abs=1e-9 * scale)
    assert connection.execute("SELECT sum(count + gaps) FROM hour").fetchone()[0] == sum(map(len, blocks))


def _stored(value: float) -> float:
    return float(value) if isinstance(value, int) and value >= 2**63 else value


def test_whole_sums_stay_whole() -> None:
    bucket = rollup.aggregate(columns([(1, 0, 3, False), (1, 1, 4, False)]), MINUTE, ENCODINGS)
    assert bucket == [(1, 0, 3, 4, 7, 4, 2, 0)]
    assert isinstance(bucket[0][4], int)


def test_unknown_signals_count_as_whole_numbers() -> None:
    rows = Rows(np.array([9], np.int32), np.array([MINUTE], np.int64), np.array([-5], np.int64), np.array([False]))
    assert rollup.aggregate(rows, MINUTE, {}) == [(9, 1, -5, -5, -5, -5, 1, 0)]
