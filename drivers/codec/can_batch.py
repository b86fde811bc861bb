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

from drivers.codec.can_extract import Ints, Words, raw_of, rows_of, touched_of
from drivers.codec.can_j1939 import FIRST_PDU2_FORMAT
from drivers.codec.can_plan import Plan, encoding_of
from drivers.codec.can_planner import build_plan
from drivers.codec.dbc_model import MessageDef
from drivers.codec.frames import DATA_OFFSET, EFF_FLAG, EFF_MASK, ERR_FLAG, MAX_DATA, RTR_FLAG, SFF_MASK, Frames

__all__ = ["BatchDecoder", "DecodedBatch", "encoding_of"]


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What a batch of frames gave. Column arrays are parallel and belong to the caller."""

    ids: NDArray[np.int32]
    times_us: Ints
    words: Ints
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

    ``wanted`` maps (index in ``messages``, signal name) to the id of the signal's rows; others are not decoded. Of two
    messages with one identifier the later one counts. ``left_out`` names what can't be decoded here, with the reason.
    """

    def __init__(self, messages: Sequence[MessageDef], wanted: Mapping[tuple[int, str], int]) -> None:
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
        if unknown_multiplexer:
            known = (variant >= 0).nonzero()[0]
            arrived, variant = arrived.take(known), variant[known]
        touched = plan.ids[:0]
        changed, new_variant = arrived, variant
        if skip_repeats and len(variant):
            repeats = self._repeats(arrived, variant)
            again = repeats.nonzero()[0]
            if len(again):
                touched = touched_of(plan, variant[again], arrived.length[again])
                news = (~repeats).nonzero()[0]
                changed, new_variant = arrived.take(news), variant[news]
        rows = rows_of(plan, new_variant, changed.payload, changed.length, changed.times_us)
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
        if not plan.multiplexers.any:
            return repeats
        multiplexed = plan.multiplexers.is_multiplexed[arrived.message].nonzero()[0]
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
        # numpy sorts 16-bit keys by radix, in a tenth of the time.
        self._key_type = np.dtype(np.uint16 if keys <= 1 << 16 else np.int64)

    def repeats(self, keys: Ints, payloads: Words) -> NDArray[np.bool_]:
        """Which payloads equal the one before of the same key, here or remembered. Remembers the last of each key.

        There is at least one.
        """
        order = keys.astype(self._key_type).argsort(kind="stable")
        key, payload = keys[order], payloads[order]
        first = np.empty(len(key), dtype=np.bool_)
        first[0] = True
        np.not_equal(key[1:], key[:-1], out=first[1:])
        starts = first.nonzero()[0]
        ends = np.empty_like(starts)
        ends[:-1] = starts[1:]
        ends[-1] = len(key)
        ends -= 1
        owners = key[starts]
        before = np.empty_like(payload)
        before[1:] = payload[:-1]
        before[starts] = self._payload[owners]
        equal = payload == before
        same = equal[:, 0] if equal.shape[1] == 1 else equal.all(axis=1)
        same[starts] &= self._known[owners]
        self._payload[owners] = payload[ends]
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
    length: NDArray[np.uint8]  #: payload bytes
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
    can_id = np.ascontiguousarray(raw[:, :4]).view(np.uint32)[:, 0].astype(np.int64)
    length = np.minimum(raw[:, 4], min(raw.shape[1] - DATA_OFFSET, MAX_DATA))
    flags = int(np.bitwise_or.reduce(can_id))
    message: Ints = plan.standard[can_id & SFF_MASK]
    if flags & EFF_FLAG:
        _find_extended(plan, can_id, message)
    error = remote = 0
    if flags & (ERR_FLAG | RTR_FLAG):
        special = (can_id & (ERR_FLAG | RTR_FLAG)).nonzero()[0]
        error = int(np.count_nonzero(can_id[special] & ERR_FLAG))
        remote = len(special) - error
        message[special] = -1
    # Message -1 is the last row of ``needed``, which is longer than any frame.
    long_enough = length >= plan.needed[message]
    good = long_enough.nonzero()[0]
    found = len(good)
    if found < len(can_id):
        found = int(np.count_nonzero(message >= 0))
        message, length, times_us = message[good], length[good], frames.times_us[good]
        raw = raw[good]
    else:
        times_us = frames.times_us
    counts = _Counts(
        seen=np.bincount(message, minlength=len(plan.needed) - 1),
        unknown=len(can_id) - error - remote - found,
        remote=remote,
        error=error,
        too_short=found - len(good),
    )
    return _Arrived(message, length, times_us, _payload(plan, raw, length), counts)


def _find_extended(plan: Plan, can_id: Ints, message: Ints) -> None:
    """Write the messages of 29-bit identifiers, -1 for none."""
    extended = (can_id & EFF_FLAG).nonzero()[0]
    identifier = can_id[extended] & EFF_MASK
    found = plan.extended.find(identifier)
    if len(plan.by_pgn.keys):
        missed = (found < 0).nonzero()[0]
        if len(missed):
            found[missed] = _by_pgn(plan, identifier[missed])
    message[extended] = found


def _by_pgn(plan: Plan, identifier: Ints) -> Ints:
    """Rule 3 of ``can_j1939.py``, second and third step."""
    pgn = identifier >> 8 & 0x3FFFF
    pgn = np.where(pgn & 0xFF00 >= FIRST_PDU2_FORMAT << 8, pgn, pgn & 0x3FF00)
    found = plan.by_source.find(pgn << 8 | identifier & 0xFF)
    result: Ints = np.where(found >= 0, found, plan.by_pgn.find(pgn))
    return result


def _payload(plan: Plan, raw: NDArray[np.uint8], length: NDArray[np.uint8]) -> Words:
    """The first ``plan.words`` words of each frame: a copy."""
    size = 8 * plan.words
    data = raw[:, DATA_OFFSET : DATA_OFFSET + size]
    payload = np.zeros((len(raw), size), dtype=np.uint8)
    payload[:, : data.shape[1]] = data
    if plan.has_outside:  # a signal may lie where this frame has ended: what stands there must not look like a change
        payload[np.arange(size) >= length[:, None]] = 0
    return payload.view("<u8").astype(np.uint64, copy=False)


def _variants(plan: Plan, arrived: _Arrived) -> tuple[Ints, int]:
    """The variant of each frame, -1 for an unknown multiplexer value; and how many of these there are."""
    mux = plan.multiplexers
    variant = plan.first_variant[arrived.message]
    if not mux.any:
        return variant, 0
    rows = mux.is_multiplexed[arrived.message].nonzero()[0]
    if not len(rows):
        return variant, 0
    message, payload = arrived.message[rows], arrived.payload[rows]
    place = mux.first[message]
    for k in range(mux.field.shape[1]):
        number = mux.field[message, k]
        having = (number >= 0).nonzero()[0]
        raw = raw_of(plan, mux.fields, number[having], payload, having)
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
