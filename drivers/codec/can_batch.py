"""Decode many CAN frames at once with numpy: the live path from a bus to the store.

Rules of this file:

1. A row is (signal id, time, word): the raw value as sent (``Encoding`` of ``agent/core/model.py``): two's complement
   integers, unsigned 64-bit integers wrapped, floats as the bits of a binary64. Rows stand in order of arrival.
2. A *variant* is a message with one state of its multiplexers: the wanted signals that such a frame carries. Plain
   messages have one. The plan (``can_plan.py``) lays all signals of all variants in one flat table.
3. With ``skip_repeats`` a frame whose wanted bits equal those of the last frame of its variant gives no rows, only
   *touched* ids. Signals that all variants of a message carry must also equal those of the message's last frame, so
   that a multiplexer that cycles over unchanged contents costs nothing and still no change is lost. Where a signal
   belongs to some variants but not to all, only the message's very last frame counts.
4. Work is done per batch, never per identifier: one table look-up (11 bits) or binary search (29 bits) finds the
   message, one stable sort brings equal variants together, one gather and two shifts extract all signals of all
   changed frames.
5. Bytes behind a frame's length are garbage and are never compared or decoded. Nothing that a frame holds raises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.codec.can_j1939 import FIRST_PDU2_FORMAT
from drivers.codec.can_plan import WORD_BITS, Fields, Plan, Wanted, build_plan, encoding_of
from drivers.codec.dbc_model import MessageDef
from drivers.codec.frames import DATA_OFFSET, EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, SFF_MASK, Frames

__all__ = ["BatchDecoder", "DecodedBatch", "Wanted", "encoding_of"]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What a batch of frames gave. Column arrays are parallel and belong to the caller."""

    ids: NDArray[np.int32]
    times_us: Ints
    words: Ints
    invalid_ids: NDArray[np.int32]  #: signals that said "not available": they became unknown at these times
    invalid_times_us: Ints
    touched: NDArray[np.int32]  #: signals that were sent again without a change, each once
    seen: Ints  #: frames of sufficient length in this batch, for each message by its index
    frames: int  #: all that came in; the counts below add up to it
    decoded: int  #: gave rows or touched signals
    unknown: int  #: no message has this identifier
    remote: int
    error: int
    too_short: int
    unknown_multiplexer: int


class BatchDecoder:
    """Decodes batches of one channel; remembers the last payload of each variant.

    ``wanted`` maps (index in ``messages``, signal name) to what becomes of the signal; others are not decoded. Of two
    messages with one identifier the later one counts. ``left_out`` names what can't be decoded here, with the reason.
    """

    def __init__(self, messages: Sequence[MessageDef], wanted: Mapping[tuple[int, str], Wanted]) -> None:
        self.messages = tuple(messages)
        self._plan = build_plan(self.messages, wanted)
        self.left_out = self._plan.left_out
        self.forget()

    def signal_ids_of(self, message_index: int) -> NDArray[np.int32]:
        """The ids of all wanted signals of a message, in any state of its multiplexers."""
        return self._plan.message_ids[message_index]

    def forget(self) -> None:
        """Forget the last payloads: the next frame of each variant gives rows again."""
        plan = self._plan
        self._last_of_variant = _Memory(plan.variants, plan.words)
        self._last_of_message = _Memory(len(self.messages), plan.words)

    def decode(self, frames: Frames, *, skip_repeats: bool = True) -> DecodedBatch:
        """Rows of a batch. Without ``skip_repeats`` every frame gives rows, and the last payloads stay as they are."""
        plan = self._plan
        arrived = _arrived(plan, frames)
        variant, unknown_multiplexer = _variants(plan, arrived)
        known = variant >= 0
        if unknown_multiplexer:
            arrived = arrived.take(np.flatnonzero(known))
            variant = variant[known]
        touched = np.empty(0, dtype=np.int32)
        changed = arrived
        if skip_repeats:
            repeats = self._repeats(arrived, variant)
            touched = _touched(plan, variant[repeats])
            news = np.flatnonzero(~repeats)
            changed, variant = arrived.take(news), variant[news]
        rows = _rows(plan, changed, variant)
        counts = arrived.counts
        return DecodedBatch(
            *rows,
            touched=touched,
            seen=counts.seen,
            frames=len(frames),
            decoded=len(arrived.message),
            unknown=counts.unknown,
            remote=counts.remote,
            error=counts.error,
            too_short=counts.too_short,
            unknown_multiplexer=unknown_multiplexer,
        )

    def _repeats(self, arrived: "_Arrived", variant: Ints) -> NDArray[np.bool_]:
        """Which frames bring nothing new (rule 3)."""
        plan = self._plan
        repeats = self._last_of_variant.repeats(variant, arrived.payload & plan.variant_mask[variant])
        multiplexed = np.flatnonzero(plan.multiplexers.is_multiplexed[arrived.message])
        if len(multiplexed):
            message = arrived.message[multiplexed]
            payload = arrived.payload[multiplexed] & plan.message_mask[message]
            repeats[multiplexed] &= self._last_of_message.repeats(message, payload)
        return repeats


class _Memory:
    """The last payload of each key."""

    def __init__(self, keys: int, words: int) -> None:
        self._payload = np.zeros((keys, words), dtype=np.uint64)
        self._known = np.zeros(keys, dtype=np.bool_)

    def repeats(self, keys: Ints, payloads: Words) -> NDArray[np.bool_]:
        """Which payloads equal the one before of the same key, here or remembered. Remembers the last of each key."""
        if not len(keys):
            return np.empty(0, dtype=np.bool_)
        order = np.argsort(keys, kind="stable")
        key, payload = keys[order], payloads[order]
        first = np.empty(len(key), dtype=np.bool_)
        first[0] = True
        np.not_equal(key[1:], key[:-1], out=first[1:])
        before = np.empty_like(payload)
        before[1:] = payload[:-1]
        starts = np.flatnonzero(first)
        owners = key[starts]
        before[starts] = self._payload[owners]
        same = (payload == before).all(axis=1)
        same[starts] &= self._known[owners]
        last = np.append(starts[1:], len(key)) - 1
        self._payload[owners] = payload[last]
        self._known[owners] = True
        result = np.empty(len(same), dtype=np.bool_)
        result[order] = same
        return result


@dataclass(frozen=True, slots=True)
class _Counts:
    """What became of the frames that were not decoded, and the decoded ones per message."""

    seen: Ints
    unknown: int
    remote: int
    error: int
    too_short: int


@dataclass(frozen=True, slots=True)
class _Arrived:
    """Frames that a message has been found for and that are long enough, in order of arrival."""

    message: Ints
    length: Ints  #: payload bytes
    times_us: Ints
    payload: Words  #: [frame, word], little-endian whatever the host is
    counts: _Counts

    def take(self, positions: Ints) -> "_Arrived":
        """Some of them."""
        return _Arrived(
            self.message[positions],
            self.length[positions],
            self.times_us[positions],
            self.payload[positions],
            self.counts,
        )


def _arrived(plan: Plan, frames: Frames) -> _Arrived:
    raw = frames.raw
    can_id = np.ascontiguousarray(raw[:, :4]).view(np.uint32).ravel().astype(np.int64)
    length = np.minimum(raw[:, 4].astype(np.int64), raw.shape[1] - DATA_OFFSET)
    is_error = can_id & ERR_FLAG != 0
    is_remote = (can_id & RTR_FLAG != 0) & ~is_error
    is_data = can_id & (ERR_FLAG | RTR_FLAG) == 0
    message = np.where(is_data, _messages(plan, can_id), -1)
    found = message >= 0
    long_enough = found & (length >= plan.needed[message] if len(plan.needed) else found)
    good = np.flatnonzero(long_enough)
    counts = _Counts(
        seen=np.bincount(message[good], minlength=len(plan.needed)),
        unknown=int(np.count_nonzero(is_data) - np.count_nonzero(found)),
        remote=int(np.count_nonzero(is_remote)),
        error=int(np.count_nonzero(is_error)),
        too_short=int(np.count_nonzero(found) - len(good)),
    )
    return _Arrived(message[good], length[good], frames.times_us[good], _payload(plan, raw, good, length), counts)


def _messages(plan: Plan, can_id: Ints) -> Ints:
    """The message of each identifier, -1 for none."""
    message: Ints = plan.standard[can_id & SFF_MASK]
    extended = np.flatnonzero(can_id & EFF_FLAG)
    if len(extended):
        identifier = can_id[extended] & EFF_MASK
        found = plan.extended.find(identifier)
        missed = np.flatnonzero(found < 0)
        if len(missed) and len(plan.by_pgn.keys):
            found[missed] = _by_pgn(plan, identifier[missed])
        message[extended] = found
    return message


def _by_pgn(plan: Plan, identifier: Ints) -> Ints:
    """Rule 3 of ``can_j1939.py``, second and third step."""
    pgn = identifier >> 8 & 0x3FFFF
    pgn = np.where(pgn & 0xFF00 >= FIRST_PDU2_FORMAT << 8, pgn, pgn & 0x3FF00)
    found = plan.by_source.find(pgn << 8 | identifier & 0xFF)
    result: Ints = np.where(found >= 0, found, plan.by_pgn.find(pgn))
    return result


def _payload(plan: Plan, raw: NDArray[np.uint8], good: Ints, length: Ints) -> Words:
    """The first ``plan.words`` words of each good frame."""
    data = raw[:, DATA_OFFSET : DATA_OFFSET + 8 * plan.words]
    payload = np.zeros((len(good), 8 * plan.words), dtype=np.uint8)
    payload[:, : data.shape[1]] = data[good]
    if plan.has_outside:  # a signal may lie where this frame has ended: what stands there must not look like a change
        payload[np.arange(8 * plan.words) >= length[good, None]] = 0
    return payload.view("<u8").astype(np.uint64, copy=False)


def _variants(plan: Plan, arrived: _Arrived) -> tuple[Ints, int]:
    """The variant of each frame, -1 for an unknown multiplexer value; and how many of these there are."""
    mux = plan.multiplexers
    variant = plan.first_variant[arrived.message]
    rows = np.flatnonzero(mux.is_multiplexed[arrived.message])
    if not len(rows):
        return variant, 0
    message, payload = arrived.message[rows], arrived.payload[rows]
    place = mux.first[message]
    for k in range(mux.field.shape[1]):
        number = mux.field[message, k]
        having = np.flatnonzero(number >= 0)
        raw = _raw(plan, mux.fields, number[having], payload, having)
        table = mux.table[message[having], k]
        right = mux.fields.right[number[having]]
        place_in_table = np.where(table >= 0, table + (raw << right >> right).view(np.int64), 0)
        slot = mux.slots[place_in_table].astype(np.int64) if len(mux.slots) else np.zeros(len(having), dtype=np.int64)
        for m, selector, bounds in mux.searched:
            if selector == k:
                mine = message[having] == m
                slot[mine] = np.searchsorted(bounds, raw[mine].view(np.int64), side="right")
        place[having] += slot * mux.weight[message[having], k]
    variant[rows] = mux.variant[place]
    return variant, int(np.count_nonzero(variant[rows] < 0))


def _raw(plan: Plan, fields: Fields, field: Ints, payload: Words, frame: Ints) -> Words:
    """The raw value of row ``field[i]`` in ``payload[frame[i]]`` for each i: sign-extended; floats as unsigned bits."""
    big, left, right, half = fields.big[field], fields.left[field], fields.right[field], fields.half[field]
    if plan.words == 1:
        word = payload.ravel()[frame]
        raw = np.where(big, word.byteswap(), word) << left >> right
        return _signed(raw, half)
    # 64 bits from any byte on: the payloads one behind the other, seen as overlapping words.
    buffer = np.zeros(payload.size * 8 + 8, dtype=np.uint8)
    buffer[:-8] = payload.astype("<u8", copy=False).view(np.uint8).ravel()
    overlapping = np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer.data, strides=(1,))
    at = 8 * plan.words * frame + fields.byte[field]
    word = overlapping[at].astype(np.uint64, copy=False)
    word = np.where(big, word.byteswap(), word)
    raw = word << left >> right
    ninth = np.flatnonzero(fields.ninth[field])
    if len(ninth):
        # ``left`` is the bit that they begin at: move what lies before it out, and bits of the ninth byte in.
        begin, head = left[ninth], word[ninth]
        tail = buffer[at[ninth] + 8].astype(np.uint64)
        motorola = head << begin | tail >> (np.uint64(8) - begin)
        intel = head >> begin | tail << (np.uint64(WORD_BITS) - begin)
        down = right[ninth]
        raw[ninth] = np.where(big[ninth], motorola >> down, intel << down >> down)
    return _signed(raw, half)


def _signed(raw: Words, half: Words) -> Words:
    """Sign-extended where ``half``, the sign's bit, is not 0."""
    result: Words = (raw ^ half) - half
    return result


def _touched(plan: Plan, variant: Ints) -> NDArray[np.int32]:
    """The ids of all signals of these variants, each once."""
    if not len(variant):
        return np.empty(0, dtype=np.int32)
    some = np.flatnonzero(np.bincount(variant))
    return np.unique(plan.ids[_table_rows(plan, some)])


def _table_rows(plan: Plan, variant: Ints) -> Ints:
    """The rows of the flat table that belong to these variants, one variant after the other."""
    count = plan.count[variant]
    behind = np.cumsum(count)
    total = int(behind[-1]) if len(behind) else 0
    return np.arange(total) + np.repeat(plan.start[variant] - behind + count, count)


def _rows(
    plan: Plan, arrived: _Arrived, variant: Ints
) -> tuple[NDArray[np.int32], Ints, Ints, NDArray[np.int32], Ints]:
    """Ids, times and words of all signals of these frames, and ids and times of those that are not available."""
    field = _table_rows(plan, variant)
    frame = np.repeat(np.arange(len(variant)), plan.count[variant])
    if plan.has_outside:
        sent = np.flatnonzero(plan.fields.end[field] <= arrived.length[frame])
        field, frame = field[sent], frame[sent]
    words = _raw(plan, plan.fields, field, arrived.payload, frame).view(np.int64)
    if plan.float_sizes:
        _widen_floats(plan, field, words)
    ids, times = plan.ids[field], arrived.times_us[frame]
    if not plan.unavailable:
        return ids, times, words, ids[:0], times[:0]
    bad = np.zeros(len(words), dtype=np.bool_)
    for low, high in plan.unavailable:
        bad |= (words >= low[field]) & (words <= high[field])
    good = ~bad
    return ids[good], times[good], words[good], ids[bad], times[bad]


def _widen_floats(plan: Plan, field: Ints, words: Ints) -> None:
    """Turn the bits of floats into those of a binary64, in place."""
    size_of = plan.fields.float_bits[field]
    for size in plan.float_sizes:
        rows = np.flatnonzero(size_of == size)
        bits = words[rows].astype(f"u{size // 8}")
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            words[rows] = bits.view(f"f{size // 8}").astype(np.float64).view(np.int64)
