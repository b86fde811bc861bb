"""The block format: what was packed comes out, from both readers, and damage is never more than a ``BlockError``."""

import random
import tracemalloc
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core import blocks as core
from agent.core.blocks import BlockError, decode, decode_rows, read_header
from agent.store.blocks import encode
from agent.store.unpack import unpack

Row = tuple[int, int, int, bool]

INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-300, 300)
#: Extreme words as well as the small steps that real signals make.
rows_strategy = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 4), st.integers(1, 2**31 - 1)),
        st.one_of(INT64, st.integers(1_700_000_000_000_000, 1_700_000_001_000_000)),
        st.one_of(SMALL, INT64),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


def pack(rows: list[Row], *, split: bool) -> bytes:
    ids, times, words, invalid = zip(*rows, strict=True)
    return encode(
        np.array(ids, dtype=np.int32),
        np.array(times, dtype=np.int64),
        np.array(words, dtype=np.int64),
        np.array(invalid),
        split=split,
    )


def by_signal(rows: list[Row]) -> list[tuple[int, int, int | None]]:
    """What any reader must give: signal by signal, each in order of arrival, unknown instead of a word."""
    ordered = sorted(rows, key=lambda row: row[0])
    return [(signal, t_us, None if unknown else word) for signal, t_us, word, unknown in ordered]


def through_numpy(data: bytes, signals: set[int] | None = None) -> list[tuple[int, int, int | None]]:
    rows = unpack(data, signals)
    words = [None if flag else word for word, flag in zip(rows.words.tolist(), rows.invalid.tolist(), strict=True)]
    return list(zip(rows.ids.tolist(), rows.times_us.tolist(), words, strict=True))


@given(rows_strategy, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_rows_come_back(rows: list[Row], split: bool) -> None:  # noqa: FBT001 - Hypothesis passes by position
    data = pack(rows, split=split)
    assert read_header(data).rows == len(rows)
    assert read_header(data).split == split
    assert list(decode_rows(data)) == by_signal(rows)
    assert through_numpy(data) == by_signal(rows)


@given(st.lists(rows_strategy.map(lambda rows: rows[0]), min_size=1, max_size=80, unique_by=lambda row: row[0]))
@settings(max_examples=200, deadline=None)
def test_a_block_of_one_reading_is_read_as_signal_by_signal(rows: list[Row]) -> None:
    """Many columns of one row each have a way of their own; with the signals named they go the long one."""
    for split in (False, True):
        data = pack(rows, split=split)
        columns = decode(data)
        assert columns == decode(data, {row[0] for row in rows})
        assert list(decode_rows(data)) == by_signal(rows) == through_numpy(data)
        at = {column.signal: column.times_us for column in columns}
        assert len({id(times) for times in at.values()}) == len({times[0] for times in at.values()})


@given(rows_strategy, st.booleans())
@settings(max_examples=100, deadline=None)
def test_one_signal_can_be_read_alone(rows: list[Row], split: bool) -> None:  # noqa: FBT001 - as above
    data = pack(rows, split=split)
    wanted = {rows[0][0], 5}
    expected = [row for row in by_signal(rows) if row[0] in wanted]
    assert through_numpy(data, wanted) == expected
    assert [column.signal for column in decode(data, wanted)] == sorted({row[0] for row in rows} & wanted)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "row", [(1, 0, 0, False), (2**31 - 1, 2**63 - 1, -(2**63), False), (7, -(2**63), 2**63 - 1, True)]
)
def test_a_single_row_comes_back(row: Row, split: bool) -> None:  # noqa: FBT001 - pytest passes by name
    data = pack([row], split=split)
    assert list(decode_rows(data)) == by_signal([row]) == through_numpy(data)


def test_times_that_were_read_together_are_stored_once() -> None:
    together = [
        (signal, 1_700_000_000_000_000 + 100_003 * i * i, i, False) for i in range(50) for signal in range(1, 21)
    ]
    apart = [(signal, t_us + signal * signal * (t_us % 97), word, False) for signal, t_us, word, _ in together]
    assert len(pack(together, split=False)) * 4 < len(pack(apart, split=False))


def _examples() -> Iterator[bytes]:
    generator = random.Random(5)  # noqa: S311 - test data
    rows = [
        (generator.randint(1, 6), 1_700_000_000_000_000 + i * 100_000, generator.randint(-5000, 5000), i % 17 == 0)
        for i in range(200)
    ]
    for split in (False, True):
        yield pack(rows, split=split)
        yield pack(rows[:1], split=split)
        yield pack([(signal, t_us, 7, False) for signal, t_us, _, _ in rows], split=split)


@pytest.mark.parametrize("data", list(_examples()), ids=lambda data: f"{len(data)}B")
def test_every_truncation_is_refused(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(BlockError):
            decode(data[:size])
        with pytest.raises(BlockError):
            unpack(data[:size])
    with pytest.raises(BlockError):
        decode(data + b"\0")
    with pytest.raises(BlockError):
        unpack(data + b"\0")


@pytest.mark.parametrize("data", list(_examples()), ids=lambda data: f"{len(data)}B")
def test_flipped_bytes_give_an_error_or_a_block(data: bytes) -> None:
    generator = random.Random(len(data))  # noqa: S311 - test data
    for _ in range(1000):
        damaged = bytearray(data)
        damaged[generator.randrange(len(data))] ^= generator.randint(1, 255)
        _both_readers_agree(bytes(damaged))


def _both_readers_agree(data: bytes) -> None:
    try:
        expected = list(decode_rows(data))
    except BlockError:
        with pytest.raises(BlockError):
            unpack(data)
        return
    assert through_numpy(data) == expected


@given(st.binary(max_size=200), st.integers(1, 2**32 - 1), st.sampled_from([0, core.SPLIT]))
@settings(max_examples=300, deadline=None)
def test_hostile_directories_take_no_memory(payload: bytes, rows: int, flags: int) -> None:
    """A valid envelope (zlib sums match) around any bytes: the counts inside are believed by nobody."""
    stream = zlib.compress(payload)
    size = len(stream) if flags else len(payload)
    data = core.HEADER.pack(core.MAGIC, core.VERSION, flags, rows, 0, size) + stream
    tracemalloc.start()
    try:
        _both_readers_agree(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_believable_directories_with_absurd_vectors_take_no_memory(data: st.DataObject) -> None:
    """The counts pass, the tables behind them are anything: lengths, widths and indices are checked before use."""
    rows = data.draw(st.integers(1, 2000) | st.just(core.MAX_ROWS))
    columns = data.draw(st.integers(1, min(rows, 3)))
    vectors = data.draw(st.integers(columns + 1, 3 * columns))
    numbers = st.sampled_from([0, 1, 2, 8, rows, rows + 1, 2**31, 2**62, -1])
    flags = data.draw(st.sampled_from([0, core.SPLIT]))
    items = [vectors] * 4 + [columns] * 3 + [vectors] * flags
    tables = b"".join(
        core.TABLE.pack(data.draw(numbers), width) + data.draw(st.binary(min_size=width * n, max_size=width * n))
        for n in items
        for width in [data.draw(st.sampled_from([0, 0, 1, 8]))]
    )
    directory = core.COUNTS.pack(vectors, columns) + tables
    body = data.draw(st.binary(max_size=64))
    stream = zlib.compress(directory if flags else directory + body)
    size = len(stream) if flags else len(directory)
    block = core.HEADER.pack(core.MAGIC, core.VERSION, flags, rows, 0, size) + stream + (body if flags else b"")
    tracemalloc.start()
    try:
        _both_readers_agree(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 100 * core.MAX_ROWS


def _block(vectors: list[tuple[int, int, int, int]], columns: list[tuple[int, int, int]], body: bytes) -> bytes:
    """A block with tables as they stand here: (n, first, base, width) and (signal, time vector, invalid vector + 1)."""
    tables = b"".join(
        core.TABLE.pack(0, 8) + np.array(table, "<i8").view(np.uint8).reshape(-1, 8).T.tobytes()
        for table in (*zip(*vectors, strict=True), *zip(*columns, strict=True))
    )
    directory = core.COUNTS.pack(len(vectors), len(columns)) + tables
    rows = sum(n for n, _, _, _ in vectors[-len(columns) :])
    head = core.HEADER.pack(core.MAGIC, core.VERSION, 0, rows, 1000, len(directory))
    return head + zlib.compress(directory + body)


@pytest.mark.parametrize("width", [9, 1 << 40, -1])
def test_a_width_that_no_word_has_is_damage(width: int) -> None:
    size = max(min(width, 9), 0)
    data = _block([(2, 0, 1, 0), (2, 5, 0, width)], [(1, 0, 0)], bytes(size))
    with pytest.raises(BlockError):
        decode(data)
    with pytest.raises(BlockError):
        unpack(data)


@pytest.mark.parametrize("n", [1, 3])
def test_a_vector_that_is_times_and_words_is_each(n: int) -> None:
    """No writer makes it, and no reader may take times for words."""
    data = _block([(n, 7, 0, 0), (n, 5, 2, 0)], [(1, 1, 0)], b"")
    assert list(decode_rows(data)) == through_numpy(data) == [(1, 1005 + 2 * i, 5 + 2 * i) for i in range(n)]


def test_a_small_block_can_not_claim_more_rows_than_allowed() -> None:
    data = bytearray(pack([(1, 0, 0, False)], split=False))
    data[4:8] = (core.MAX_ROWS + 1).to_bytes(4, "little")
    with pytest.raises(BlockError, match="rows"):
        decode(bytes(data))
    with pytest.raises(ValueError, match="rows"):
        encode(
            np.ones(core.MAX_ROWS + 1, dtype=np.int32),
            np.zeros(core.MAX_ROWS + 1, dtype=np.int64),
            np.zeros(core.MAX_ROWS + 1, dtype=np.int64),
        )


def test_other_versions_are_refused_by_number() -> None:
    data = bytearray(pack([(1, 0, 0, False)], split=False))
    data[2] = 2
    with pytest.raises(BlockError, match="version 2"):
        decode(bytes(data))
