"""Samples of a message as parallel columns with physical values, and these in PostgreSQL's binary COPY format. Pure.

Rules of this file:

1. A physical value is what ``Signal.physical`` gives, as a double; NaN stands for "became unknown" and is written as
   NULL. Whole numbers beyond 2**53 are kept exactly beside it.
2. What can't be a sample of this database (a time outside of the years 1970 to 9999) is a ``PayloadError``.
3. Binary COPY (PostgreSQL's manual, COPY, "Binary Format"): a header, then for each row the number of fields (int16)
   and for each field its length (int32, -1: NULL) and bytes, all big-endian; then -1 as int16. Rows of one shape are
   one numpy record each; the order of rows of one series is that of their arrival.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Encoding, Number, Signal
from cloud_sync.subscriber import Column, PayloadError, Telemetry, physical

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

#: 2000-01-01, where PostgreSQL's timestamps begin, and the first µs of the year 10000.
_PG_EPOCH_US = 946_684_800_000_000
MAX_US = 253_402_300_800_000_000
_EXACT = 1 << 53
_NULL = -1
_BASE = 10_000  #: of a numeric's digits

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows as parallel columns. ``exact`` has the rows whose value a double does not hold, by position."""

    series: Ids
    times_us: Ints
    values: Floats  #: NaN: became unknown
    exact: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True)
class Meaning:
    """One series: its number in the database and what makes its words physical."""

    series: int
    signal: Signal


class MissingSignalError(LookupError):
    """The catalogue that names a signal of the message is not here yet."""


def check_times(times_us: Ints) -> None:
    """Raises ``PayloadError`` when PostgreSQL, or anything that reads it, can't have one of these times."""
    if len(times_us) and not (times_us.min() >= 0 and times_us.max() < MAX_US):
        raise PayloadError("a time is outside of the years 1970 to 9999")


def samples(message: Telemetry, meanings: Mapping[int, Meaning]) -> Samples:
    """The rows of a message, signal by signal in order of arrival. Raises ``PayloadError``, ``MissingSignalError``."""
    columns = message.columns
    if not columns:
        return Samples(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64), {})
    try:
        found = [meanings[column.signal] for column in columns]
    except KeyError as error:
        raise MissingSignalError from error
    sizes = np.array([len(column.times_us) for column in columns])
    ids = np.repeat(np.array([meaning.series for meaning in found], np.int32), sizes)
    try:
        times = _times(columns)
        if columns[0].words is None:
            values, exact = _plain(columns)
        else:
            values, exact = _physical(columns, found, sizes)
    except OverflowError as error:
        raise PayloadError("a number is too large") from error
    check_times(times)
    return Samples(ids, times, values, exact)


def _times(columns: Sequence[Column]) -> Ints:
    """All times one behind the other. Columns that were read together share one sequence, converted once."""
    if columns[0].words is not None:
        return np.frombuffer(b"".join([column.times_us for column in columns]), np.int64)  # type: ignore[misc] # the same
    known: dict[int, Ints] = {}
    parts = []
    for column in columns:
        times = known.get(id(column.times_us))
        if times is None:
            times = known[id(column.times_us)] = np.asarray(column.times_us, np.int64)
        parts.append(times)
    return np.concatenate(parts)


def _plain(columns: Sequence[Column]) -> tuple[Floats, dict[int, int]]:
    """Values that came as physical numbers."""
    numbers: list[Number | None] = [value for column in columns for value in column.values]
    values = np.array([np.nan if number is None else number for number in numbers], np.float64)
    large = np.flatnonzero(np.abs(values) >= _EXACT).tolist()
    return values, {place: number for place in large if type(number := numbers[place]) is int}


def _physical(columns: Sequence[Column], found: Sequence[Meaning], sizes: Ints) -> tuple[Floats, dict[int, int]]:
    """Values that came as words."""
    words = np.frombuffer(b"".join([column.words or b"" for column in columns]), np.int64)  # type: ignore[misc] # arrays are buffers
    signals = [meaning.signal for meaning in found]
    encodings = [signal.encoding for signal in signals]
    values = words.astype(np.float64)
    if Encoding.FLOAT in encodings:
        values = np.where(_of(signals, Encoding.FLOAT, sizes), words.view(np.float64), values)
    if Encoding.UINT in encodings:
        values = np.where(_of(signals, Encoding.UINT, sizes), words.view(np.uint64).astype(np.float64), values)
    scales = np.array([signal.scale for signal in signals], np.float64)
    offsets = np.array([signal.offset for signal in signals], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        large = np.abs(values) >= _EXACT
        if (scales != 1).any() or offsets.any():
            values = values * np.repeat(scales, sizes)
            large |= np.abs(values) >= _EXACT
            values += np.repeat(offsets, sizes)
            large |= np.abs(values) >= _EXACT
    starts = [0, *np.cumsum(sizes).tolist()]
    exact = _reckon(signals, words, values, large, starts) if large.any() else {}
    for start, column in zip(starts, columns, strict=False):
        for position in column.invalid:
            values[start + position] = np.nan
            exact.pop(start + position, None)
    return values, exact


def _of(signals: Sequence[Signal], encoding: Encoding, sizes: Ints) -> NDArray[np.bool_]:
    return np.repeat([signal.encoding is encoding for signal in signals], sizes)


def _reckon(
    signals: Sequence[Signal], words: Ints, values: Floats, large: NDArray[np.bool_], starts: Sequence[int]
) -> dict[int, int]:
    """Reckon rows with numbers beyond 2**53 as ``Signal.physical`` does; the whole ones that a double does not hold."""
    exact: dict[int, int] = {}
    for signal, start, end in zip(signals, starts, starts[1:], strict=False):
        places = (start + np.flatnonzero(large[start:end])).tolist()
        for place, number in zip(places, physical(signal, words[places].tolist()), strict=True):
            if number is not None:
                # A whole number that is added to a fraction is rounded once only, too.
                values[place] = float(number)
            if type(number) is int and abs(number) > _EXACT:
                exact[place] = number
    return exact


def copy_rows(rows: Samples, boot: int | None = None) -> bytes:
    """Rows of (series, t, value, exact), or with ``boot`` ahead, for binary COPY; sorted by series.

    A B-tree takes neighbours at once: a third of what rows in order of arrival cost it.
    """
    order = np.argsort(rows.series, kind="stable")
    values = rows.values[order]
    series, times = rows.series[order], rows.times_us[order] - _PG_EPOCH_US
    known = ~np.isnan(values)
    if rows.exact:
        known[np.isin(order, np.fromiter(rows.exact, np.int64, len(rows.exact)))] = False
    if known.all():
        return _records(series, times, values, boot)
    rest = np.flatnonzero(~known)
    parts = [_records(series[known], times[known], values[known], boot)]
    # The few others row by row, behind the many: a series' order among values that are known is kept.
    for place in rest.tolist():
        exact = rows.exact.get(int(order[place]))
        head = _records(series[[place]], times[[place]], None if exact is None else values[[place]], boot)
        parts.append(head if exact is None else head[: -len(_NO_FIELD)] + _field(_numeric(exact)))
    return b"".join(parts)


_NO_FIELD = _NULL.to_bytes(4, "big", signed=True)


def _records(series: Ids, times: Ints, values: Floats | None, boot: int | None) -> bytes:
    """Rows of one shape. ``exact`` is NULL in all; ``values`` None: the value too."""
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    if boot is not None:
        layout += [("boot_bytes", ">i4"), ("boot", ">i4")]
    layout += [("series_bytes", ">i4"), ("series", ">i4"), ("t_bytes", ">i4"), ("t", ">i8"), ("value_bytes", ">i4")]
    layout += [] if values is None else [("value", ">f8")]
    table = np.empty(len(series), np.dtype([*layout, ("exact_bytes", ">i4")]))
    table["fields"] = 4 if boot is None else 5
    if boot is not None:
        table["boot_bytes"], table["boot"] = 4, boot
    table["series_bytes"], table["series"] = 4, series
    table["t_bytes"], table["t"] = 8, times
    table["value_bytes"], table["exact_bytes"] = _NULL, _NULL
    if values is not None:
        table["value_bytes"], table["value"] = 8, values
    return table.tobytes()


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _numeric(number: int) -> bytes:
    """A whole number as ``numeric_send`` writes it: digits of base 10,000, the highest first, and their weight."""
    digits: list[int] = []
    rest = abs(number)
    while rest:
        rest, digit = divmod(rest, _BASE)
        digits.append(digit)
    head = (len(digits), max(len(digits) - 1, 0), 0x4000 if number < 0 else 0, 0)
    return b"".join(value.to_bytes(2, "big") for value in (*head, *reversed(digits)))


def merged(parts: Sequence[Samples]) -> Samples:
    """The rows of several messages, one message behind the other."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    exact = {
        place + start: number
        for part, start in zip(parts, starts, strict=False)
        for place, number in part.exact.items()
    }
    return Samples(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.times_us for part in parts]),
        np.concatenate([part.values for part in parts]),
        exact,
    )


def months(columns: Iterable[Sequence[int]]) -> set[str]:
    """The months of these times, as ``YYYY-MM-01``. Times that are no months of this database give none."""
    parts: list[array[int]] = []
    for times in {id(times): times for times in columns}.values():
        try:
            parts.append(times if isinstance(times, array) else array("q", times))
        except OverflowError:
            continue
    # All at once: numpy's calls would cost more than the work on the few times of one column.
    times_us = np.frombuffer(b"".join(parts), np.int64)
    times_us = times_us[(times_us >= 0) & (times_us < MAX_US)]
    if not len(times_us):
        return set()
    ends = _months(np.array([times_us.min(), times_us.max()]))
    within = ends if ends[1] - ends[0] <= np.timedelta64(1, "M") else np.unique(_months(times_us))
    return {f"{month}-01" for month in within.astype(str).tolist()}


def _months(times_us: Ints) -> "NDArray[np.datetime64]":
    return times_us.astype("datetime64[us]").astype("datetime64[M]")
