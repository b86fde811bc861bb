"""What thinning leaves of a block, level by level."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Encoding, Kind, word_to_float
from agent.store.rollup import HOUR_US, MINUTE_US
from agent.store.thinning import Level, Meaning, thin
from agent.store.unpack import Rows

T0 = 1_700_000_400_000_000 // HOUR_US * HOUR_US
S = 1_000_000
GAUGE, STATE, COUNTER, FLOAT = 1, 2, 3, 4
MEANINGS = {
    GAUGE: Meaning(),
    STATE: Meaning(Kind.STATE),
    COUNTER: Meaning(Kind.COUNTER),
    FLOAT: Meaning(encoding=Encoding.FLOAT),
}
#: (signal, µs after T0, word, invalid)
Row = tuple[int, int, int, bool]


def rows_of(*rows: Row) -> Rows:
    order = sorted(rows, key=lambda row: row[0])  # stable: in order of arrival
    ids, times, words, invalid = zip(*order, strict=True) if order else ((), (), (), ())
    return Rows(
        np.array(ids, np.int32),
        np.array(times, np.int64) + T0,
        np.array(words, np.int64),
        np.array(invalid, np.bool_),
    )


def listed(rows: Rows) -> list[Row]:
    columns = (rows.ids.tolist(), (rows.times_us - T0).tolist(), rows.words.tolist(), rows.invalid.tolist())
    return list(zip(*columns, strict=True))


def values(signal: int, *words: int, step_us: int = S) -> list[Row]:
    return [(signal, place * step_us, word, False) for place, word in enumerate(words)]


def test_every_second_row_of_gauges_goes_and_the_last_one_stays() -> None:
    rows = rows_of(*values(GAUGE, 1, 2, 3, 4), *values(STATE, 1, 2, 3), *values(COUNTER, 7, 8))
    left = listed(thin(rows, Level.HALF, MEANINGS))
    assert left == [(GAUGE, S, 2, False), (GAUGE, 3 * S, 4, False), *values(STATE, 1, 2, 3), *values(COUNTER, 7, 8)]


def test_what_says_that_a_signal_became_unknown_stays() -> None:
    rows = rows_of((GAUGE, 0, 5, False), (GAUGE, S, 0, True), (GAUGE, 2 * S, 6, False), (GAUGE, 3 * S, 7, False))
    assert listed(thin(rows, Level.HALF, MEANINGS)) == [(GAUGE, S, 0, True), (GAUGE, 3 * S, 7, False)]


def test_averages_take_the_place_of_their_first_row() -> None:
    rows = rows_of(*values(GAUGE, *range(120)))
    assert listed(thin(rows, Level.MINUTES, MEANINGS)) == [
        (GAUGE, 0, 30, False),  # 29.5
        (GAUGE, 60 * S, 90, False),  # 89.5
        (GAUGE, 119 * S, 119, False),  # and then silence
    ]


def test_a_value_that_stands_for_hours_is_no_average() -> None:
    """A charger that stopped shows 0 until the next session, not the mean of its last minute."""
    rows = rows_of(*values(GAUGE, 7000, 7000, 0), (GAUGE, 3600 * S, 6000, False))
    left = listed(thin(rows, Level.MINUTES, MEANINGS))
    assert left == [(GAUGE, 0, 4667, False), (GAUGE, 2 * S, 0, False), (GAUGE, 3600 * S, 6000, False)]


def test_averages_of_floats_and_of_numbers_that_no_double_holds() -> None:
    words = np.array([1.5, 2.0, np.nan], np.float64).view(np.int64).tolist()
    left = listed(thin(rows_of(*values(FLOAT, *words)), Level.MINUTES, MEANINGS))
    assert word_to_float(left[0][2]) == 1.75
    assert np.isnan(word_to_float(left[-1][2]))
    big = 2**62
    assert listed(thin(rows_of(*values(GAUGE, big, big + 1)), Level.MINUTES, MEANINGS))[0][2] == big + 1


def test_states_go_as_a_whole() -> None:
    rows = rows_of(*values(GAUGE, 1), *values(STATE, 1, 2), *values(COUNTER, 5))
    assert listed(thin(rows, Level.NO_STATES, MEANINGS)) == [*values(GAUGE, 1), *values(COUNTER, 5)]


def test_registers_keep_both_ends_of_each_hour_and_of_each_session() -> None:
    counts = values(COUNTER, *range(120), step_us=MINUTE_US)
    session = Meaning(Kind.COUNTER, kept_us=[T0 + 30 * MINUTE_US + 1])
    left = listed(thin(rows_of(*counts, *values(GAUGE, 1)), Level.REGISTERS, MEANINGS | {COUNTER: session}))
    assert [word for _, _, word, _ in left] == [0, 30, 31, 59, 60, 119]


def test_nothing_may_be_left() -> None:
    rows = rows_of(*values(STATE, 1), (COUNTER, 0, 0, True))
    assert not len(thin(rows, Level.REGISTERS, MEANINGS))
    assert not len(thin(rows_of(), Level.HALF, MEANINGS))


ROWS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 2 * HOUR_US), st.integers(-(2**63), 2**63 - 1), st.booleans()),
    max_size=60,
).map(lambda found: rows_of(*found))


@given(rows=ROWS)
def test_each_level_leaves_what_its_rule_says_of_any_rows(rows: Rows) -> None:
    """Times may go back and values be anything: rows are left out, none is made up but averages in their place."""
    for level in (Level.HALF, Level.MINUTES, Level.NO_STATES, Level.REGISTERS):
        before, rows = rows, thin(rows, level, MEANINGS)
        kinds = {row[0]: MEANINGS.get(row[0], Meaning()).kind for row in listed(before)}
        places = {row[:2] + row[3:] for row in listed(before)}
        assert all(row[:2] + row[3:] in places for row in listed(rows))
        assert (np.diff(rows.ids) >= 0).all()
        for signal, kind in kinds.items():
            old = [row for row in listed(before) if row[0] == signal]
            new = [row for row in listed(rows) if row[0] == signal]
            if kind is Kind.COUNTER and level is Level.REGISTERS:
                valid = [row for row in old if not row[3]]
                assert new[:1] == valid[:1]
                assert new[-1:] == valid[-1:]
            elif level is Level.REGISTERS or (kind is Kind.STATE and level is Level.NO_STATES):
                assert new == []
            elif kind is not Kind.GAUGE or level is Level.NO_STATES:
                assert new == old
            else:
                assert new[-1][:2] == old[-1][:2]
                assert [row for row in new if row[3]][-1:] == [row for row in old if row[3]][
                    -1:
                ] or level is Level.MINUTES
