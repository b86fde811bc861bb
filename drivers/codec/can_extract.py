"""Payloads -> words: the gathers and shifts behind ``can_batch.py``, all signals of all frames of a batch at once."""

import numpy as np
from numpy.typing import NDArray

from drivers.codec.can_plan import WORD_BITS, Fields, Plan

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
#: Ids, times and words.
Rows = tuple[NDArray[np.int32], Ints, Ints]

#: More rows than this are extracted in parts: their columns would leave the processor's cache between two steps.
_ROWS_AT_ONCE = 1 << 15


def raw_of(plan: Plan, fields: Fields, field: Ints, payload: Words, frame: Ints) -> Words:
    """The raw value of row ``field[i]`` in ``payload[frame[i]]`` for each i: sign-extended; floats as unsigned bits."""
    left, right = fields.left[field], fields.right[field]
    if plan.words == 1:
        word = payload[frame, 0]
        if fields.any_big:
            word = np.where(fields.big[field], word.byteswap(), word)
        return _signed(fields, field, word << left >> right)
    # 64 bits from any byte on: the payloads one behind the other, seen as overlapping words.
    buffer = np.zeros(payload.size * 8 + 8, dtype=np.uint8)
    buffer[:-8] = payload.astype("<u8", copy=False).view(np.uint8).ravel()
    overlapping = np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer.data, strides=(1,))
    at = 8 * plan.words * frame + fields.byte[field]
    word = overlapping[at].astype(np.uint64, copy=False)
    big = fields.big[field]
    if fields.any_big:
        word = np.where(big, word.byteswap(), word)
    raw = word << left >> right
    if fields.any_ninth:
        ninth = fields.ninth[field].nonzero()[0]
        # ``left`` is the bit that they begin at: move what lies before it out, and bits of the ninth byte in.
        begin, head = left[ninth], word[ninth]
        tail = buffer[at[ninth] + 8].astype(np.uint64)
        motorola = head << begin | tail >> (np.uint64(8) - begin)
        intel = head >> begin | tail << (np.uint64(WORD_BITS) - begin)
        down = right[ninth]
        raw[ninth] = np.where(big[ninth], motorola >> down, intel << down >> down)
    return _signed(fields, field, raw)


def _signed(fields: Fields, field: Ints, raw: Words) -> Words:
    """Sign-extend the signed ones in place."""
    if fields.any_signed:
        half = fields.half[field]
        raw ^= half
        raw -= half
    return raw


def touched_of(plan: Plan, variant: Ints, length: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The ids of all signals of these frames, each once."""
    if plan.has_outside:
        field = _table_rows(plan, variant)
        field = field[plan.fields.end[field] <= np.repeat(length, plan.count[variant])]
    else:
        field = _table_rows(plan, np.bincount(variant).nonzero()[0])
    ids = plan.ids[field]
    return np.unique(ids) if plan.has_outside or plan.multiplexers.any else ids


def _table_rows(plan: Plan, variant: Ints) -> Ints:
    """The rows of the flat table that belong to these variants, one variant after the other."""
    count = plan.count[variant]
    behind = count.cumsum()
    total = int(behind[-1]) if len(behind) else 0
    rows: Ints = np.arange(total) + (plan.start[variant] - behind + count).repeat(count)
    return rows


def rows_of(plan: Plan, variant: Ints, payload: Words, length: NDArray[np.uint8], times_us: Ints) -> Rows:
    """All signals of some frames, given in parallel by variant, payload, length in bytes and time."""
    step = _ROWS_AT_ONCE // max(1, plan.most_signals)
    if len(variant) <= step:
        return _rows_at_once(plan, variant, payload, length, times_us)
    parts = []
    for i in range(0, len(variant), step):
        part = slice(i, i + step)
        parts.append(_rows_at_once(plan, variant[part], payload[part], length[part], times_us[part]))
    ids, times, words = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ids, times, words


def _rows_at_once(plan: Plan, variant: Ints, payload: Words, length: NDArray[np.uint8], times_us: Ints) -> Rows:
    field = _table_rows(plan, variant)
    frame = np.arange(len(variant)).repeat(plan.count[variant])
    if plan.has_outside:
        sent = (plan.fields.end[field] <= length[frame]).nonzero()[0]
        field, frame = field[sent], frame[sent]
    words = raw_of(plan, plan.fields, field, payload, frame).view(np.int64)
    if plan.float_sizes:
        _widen_floats(plan, field, words)
    return plan.ids[field], times_us[frame], words


def _widen_floats(plan: Plan, field: Ints, words: Ints) -> None:
    """Turn the bits of floats into those of a binary64, in place."""
    size_of = plan.fields.float_bits[field]
    for size in plan.float_sizes:
        rows = (size_of == size).nonzero()[0]
        bits = words[rows].astype(f"u{size // 8}")
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            words[rows] = bits.view(f"f{size // 8}").astype(np.float64).view(np.int64)
