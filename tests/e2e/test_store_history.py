"""Charts and exports say what was stored, wherever it lies: hot, sealed, rolled up, dropped, damaged."""

from array import array
from collections.abc import Collection
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from sqlite3 import Connection

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.model import Batch, Encoding, SignalSpec, float_to_word
from agent.store import telemetry
from agent.store.buckets import Bucket
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.telemetry import read_block
from agent.store.unpack import Rows

WAIT_S = 60.0
MINUTE = 60_000_000
HOUR = 60 * MINUTE
START = 1_700_000_000_000_000 // HOUR * HOUR

Row = tuple[int, int | None]  #: µs since START, value
block_strategy = st.lists(
    st.tuples(st.integers(0, 10 * MINUTE), st.none() | st.integers(-1000, 1000)), min_size=1, max_size=20
)


def put(store: Store, signal: int, rows: list[Row]) -> None:
    for offset_us, value in rows:
        word = 0 if value is None else value
        one = Batch(array("i", [signal]), array("q", [START + offset_us]), array("q", [word]), valid=value is not None)
        store.append(one)


def expected(rows: list[Row], from_us: int, to_us: int, width_us: int) -> list[tuple[object, ...]]:
    """(start, lo, hi, mean, last, count, gap) of each bucket, computed row by row in the order that they have."""
    buckets: dict[int, list[int | None]] = {}
    for offset_us, value in rows:
        t_us = START + offset_us
        if from_us <= t_us < to_us:
            buckets.setdefault((t_us - from_us) // width_us, []).append(value)
    result: list[tuple[object, ...]] = []
    for index, group in sorted(buckets.items()):
        valid = [value for value in group if value is not None]
        start_us = from_us + index * width_us
        ends = (min(valid), max(valid), sum(valid) / len(valid)) if valid else (None, None, None)
        result.append((start_us, *ends, group[-1], len(valid), None in group))
    return result


def shown(buckets: list[Bucket]) -> list[tuple[object, ...]]:
    return [(b.t_us, b.lo, b.hi, b.mean, b.last, b.count, b.gap) for b in buckets]


@given(st.lists(st.tuples(block_strategy, st.sampled_from(["flush", "maintain"])), min_size=1, max_size=6))
@example([([*[(0, None)] * 4, (MINUTE, 0), (0, None)], "flush")])
@example([([(0, None)] * 6, "maintain"), ([(MINUTE, None), (0, 0)], "flush")])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_chart_equals_the_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[Row], str]]
) -> None:
    with closing(Store.open(tmp_path_factory.mktemp("store") / "enlace.db", FakeClock())) as store:
        store.assign([SignalSpec("a", "x"), SignalSpec("a", "y")])
        rows: list[Row] = []
        for block, then in steps:
            put(store, 1, block)
            put(store, 2, block[:1])
            rows += block
            store.flush().result(WAIT_S)
            if then == "maintain":
                store.maintain().result(WAIT_S)
        for from_us, to_us, points, unit_us in (
            (START, START + 10 * MINUTE, 5, MINUTE),  # from 1 min roll-ups
            (START, START + 10 * HOUR, 3, HOUR),  # from 1 h roll-ups
            (START + 30_000_001, START + 5 * MINUTE, 12, 2**60),  # from blocks, in order of arrival
        ):
            width_us = -(-(to_us - from_us) // points)
            inside = [row for row in rows if from_us <= START + row[0] < to_us]
            series = store.history([1], from_us, to_us, points)[0]
            if len(inside) <= points:
                assert [(b.t_us - START, b.last) for b in series.buckets] == sorted(inside, key=lambda row: row[0])
            else:
                # Of late rows roll-ups know only which minute or hour they belong to: ``last`` may be either's.
                by_unit = sorted(rows, key=lambda row: (START + row[0]) // unit_us)
                either = [expected(order, from_us, to_us, width_us) for order in (rows, by_unit)]
                lasts = [{one[4], other[4]} for one, other in zip(*either, strict=True)]
                if unit_us == HOUR and any(row[0] < before[0] for before, row in pairwise(rows)):
                    # What no roll-up holds yet comes minute by minute: it may be any minute's.
                    newest = {(START + offset_us) // MINUTE * MINUTE: value for offset_us, value in inside}
                    for last, bucket in zip(lasts, series.buckets, strict=True):
                        last |= {value for t_us, value in newest.items() if 0 <= t_us - bucket.t_us < width_us}
                assert all(bucket.last in last for bucket, last in zip(series.buckets, lasts, strict=True))
                got = shown(series.buckets)
                assert [entry[:1] + entry[5:] for entry in got] == [e[:1] + e[5:] for e in either[0]]
                assert [entry[1:4] for entry in got] == [pytest.approx(e[1:4]) for e in either[0]]
        exported = [(t_us - START, value) for t_us, _, value in store.rows([1], START, START + HOUR)]
        assert sorted(exported, key=str) == sorted(rows, key=str)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "enlace.db", FakeClock())


def test_minima_and_maxima_survive_any_thinning(store: Store) -> None:
    with closing(store):
        store.assign([SignalSpec("a", "x", scale=-0.5, offset=10)])
        rows: list[Row] = [(n * 1000, n % 7) for n in range(20_000)]
        rows[12_345] = (12_345_000, 900)
        rows[777] = (777_000, -800)
        put(store, 1, rows)
        store.flush().result(WAIT_S)
        for maintained in (False, True):
            for points in (1, 2, 50, 499):
                buckets = store.history([1], START, START + 20_000_000, points)[0].buckets
                assert len(buckets) <= points
                lows = [b for b in buckets if b.lo == -440]
                highs = [b for b in buckets if b.hi == 410]
                assert [b.lo_us for b in lows] == [START + 12_345_000]
                assert [b.hi_us for b in highs] == [START + 777_000]
                assert sum(b.count for b in buckets) == 20_000
            if not maintained:
                store.maintain().result(WAIT_S)


def test_few_rows_are_given_as_they_are_whatever_the_range(store: Store) -> None:
    with closing(store):
        store.assign([SignalSpec("a", "x", scale=0.1), SignalSpec("a", "f", encoding=Encoding.FLOAT)])
        put(store, 1, [(0, 5), (MINUTE, None), (3 * HOUR, 2**60)])
        store.append(Batch([2, 2], [START, START + 1], [float_to_word(1.5), float_to_word(float("nan"))]))
        store.flush().result(WAIT_S)
        store.maintain().result(WAIT_S)
        ints, floats = store.history([1, 2, 99], START, START + 1000 * HOUR, 500)
        assert [(b.t_us - START, b.last, b.gap, b.width_us) for b in ints.buckets] == [
            (0, 0.5, False, 0),
            (MINUTE, None, True, 0),
            (3 * HOUR, 2**60 * 0.1, False, 0),
        ]
        assert [b.last for b in floats.buckets] == [1.5, None]
        assert (ints.signal.name, floats.signal.name) == ("x", "f")


def test_whole_numbers_stay_exact_and_unsigned_ones_unsigned(store: Store) -> None:
    with closing(store):
        store.assign([SignalSpec("a", "x"), SignalSpec("a", "u", encoding=Encoding.UINT)])
        put(store, 1, [(0, 2**62 + 1)])
        put(store, 2, [(0, -1)])
        store.flush().result(WAIT_S)
        signed, unsigned = store.history([1, 2], START, START + 1, 5)
        assert (signed.buckets[0].last, unsigned.buckets[0].last) == (2**62 + 1, 2**64 - 1)
        assert [row[2] for row in store.rows([1, 2], START, START + 1)] == [2**62 + 1, 2**64 - 1]


def test_dropped_raw_data_is_shown_from_roll_ups(store: Store) -> None:
    with closing(store):
        store.assign([SignalSpec("a", "x")])
        for hour in range(3):
            put(store, 1, [(hour * HOUR + n * 1_000_000, n) for n in range(0, 3600, 10)])
            store.flush().result(WAIT_S)
            store.maintain().result(WAIT_S)
        whole = store.history([1], START, START + 3 * HOUR, 500)[0]
        _drop_first_block(store)
        series = store.history([1], START, START + 3 * HOUR, 500)[0]
        assert sum(b.count for b in series.buckets) == sum(b.count for b in whole.buckets) == 1080
        assert (min(_values(series.buckets, "lo")), max(_values(series.buckets, "hi"))) == (0, 3590)
        assert len(list(store.rows([1], START, START + 3 * HOUR))) == 720


def _values(buckets: list[Bucket], name: str) -> list[float]:
    return [getattr(bucket, name) for bucket in buckets if bucket.count]


def _drop_first_block(store: Store) -> None:
    """What retention does, cut down to one block."""

    def run(connection: Connection) -> tuple[None, None]:
        connection.execute("DELETE FROM block WHERE seq = (SELECT min(seq) FROM block)")
        connection.execute("INSERT INTO mark VALUES('raw_cut_us', ?)", (START + HOUR,))
        return None, None

    store._writer.submit(run).result(WAIT_S)


def test_a_damaged_block_is_set_aside_when_a_reader_meets_it(store: Store) -> None:
    with closing(store):
        store.assign([SignalSpec("a", "x")])
        for n in range(3):
            put(store, 1, [(n, n)])
            store.flush().result(WAIT_S)
            if n == 0:
                store.maintain().result(WAIT_S)
        path = store.opened.path
        with closing(connect(path)) as connection:
            connection.execute("UPDATE block SET data = zeroblob(50) WHERE seq = 1")
            connection.execute("UPDATE hot SET data = zeroblob(50) WHERE seq = 3")
        assert [b.last for b in store.history([1], START, START + 10)[0].buckets] == [1]
        store.flush().result(WAIT_S)
        with store._readers.snapshot() as reader:
            aside = reader.execute("SELECT stream, seq, first_seq, length(data) FROM aside ORDER BY seq").fetchall()
            dropped = reader.execute("SELECT count, reason FROM dropped").fetchall()
        assert aside == [("telemetry", 1, 1, 50), ("telemetry", 3, 3, 50)]
        assert dropped == [(1, "damaged"), (1, "damaged")]


def test_a_damaged_hot_block_does_not_stop_sealing(store: Store) -> None:
    with closing(store):
        store.assign([SignalSpec("a", "x")])
        for n in range(3):
            put(store, 1, [(n, n)])
            store.flush().result(WAIT_S)
        with closing(connect(store.opened.path)) as connection:
            connection.execute("UPDATE hot SET data = zeroblob(50) WHERE seq = 2")
        store.maintain().result(WAIT_S)
        assert [(b.first_seq, b.seq, b.rows) for b in store.blocks(0, 10)] == [(1, 3, 2)]
        assert [row[2] for row in store.rows([1], START, START + 10)] == [0, 2]


def test_rows_appear_in_order_of_arrival_even_when_sealed_meanwhile(store: Store) -> None:
    with closing(store):
        store.assign([SignalSpec("a", "x")])
        for n in range(6):
            put(store, 1, [(n, n)])
            store.flush().result(WAIT_S)
            if n == 2:
                store.maintain().result(WAIT_S)
        export = store.rows([1], START, START + 10)
        first = next(export)
        store.maintain().result(WAIT_S)
        assert [first[2], *(row[2] for row in export)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("from_us", "to_us", "points"), [(5, 5, 10), (6, 5, 10), (0, 1, 0), (0, 1, 10**6)])
def test_impossible_charts_are_refused(store: Store, from_us: int, to_us: int, points: int) -> None:
    with closing(store), pytest.raises(ValueError, match="from < to"):
        store.history([1], from_us, to_us, points)


def test_a_chart_up_to_now_decodes_each_new_block_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def reading(data: bytes, crc: int, signals: Collection[int] | None = None) -> Rows:
        read.append(data)
        return read_block(data, crc, signals)

    def day() -> list[tuple[object, ...]]:
        return shown(store.history([1], START, START + 24 * HOUR, 20)[0].buckets)

    with closing(store):
        store.assign([SignalSpec("a", "x")])
        put(store, 1, [(second * 1_000_000, second) for second in range(30)])
        store.maintain().result(WAIT_S)  # more rows than are given as they are
        for second in range(30, 60):
            put(store, 1, [(second * 1_000_000, second)])
            store.flush().result(WAIT_S)
        monkeypatch.setattr(telemetry, "read_block", reading)
        first = day()
        assert len(read) == 30
        assert day() == first == [(START, 0, 59, 29.5, 59, 60, False)]
        assert len(read) == 30
        put(store, 1, [(60_000_000, 300)])
        store.flush().result(WAIT_S)
        assert day()[0][2] == 300
        assert len(read) == 31
        # A range that cuts the minute reads the rows that lie in it.
        assert store.history([1], START - 24 * HOUR, START + 40_000_000, 9)[0].buckets[-1].hi == 39
