"""Build the plan of the batch decoder from message definitions: rows, variants, multiplexer tables, masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from drivers.codec.can_j1939 import by_pgn, by_pgn_and_source
from drivers.codec.can_layout import (
    Selector,
    bit_mask,
    first_byte,
    first_network_bit,
    needed_bytes,
    raw_limits,
    root_signals,
    selectors,
)
from drivers.codec.can_plan import WORD_BITS, Fields, Lookup, Multiplexers, Plan
from drivers.codec.dbc_model import MessageDef, SignalDef
from drivers.codec.frames import MAX_DATA, SFF_MASK

_WORD_BYTES = 8
#: More combined states of its multiplexers than this and a message is left out: its tables would grow out of hand.
MAX_STATES = 1 << 14
#: Multiplexers up to this width are looked up in a table of all their values, wider ones are searched.
_TABLE_BITS = 16


@dataclass(frozen=True, slots=True)
class _States:
    """The variants of one message (indices of their signals), and which one a combined state of its selectors gives."""

    selectors: tuple[Selector, ...]
    weights: tuple[int, ...]
    variants: tuple[tuple[int, ...], ...]
    table: tuple[int, ...]


def build_plan(messages: Sequence[MessageDef], wanted: Mapping[tuple[int, str], int]) -> Plan:
    """The plan for these messages and wanted signals (index in ``messages``, signal name)."""
    left_out: list[str] = []
    chosen = [_chosen(index, message, wanted, left_out) for index, message in enumerate(messages)]
    states = [_states(message, set(signals), left_out) for message, signals in zip(messages, chosen, strict=True)]
    rows = [(m, i) for m, state in enumerate(states) for variant in state.variants for i in variant]
    counts = [len(variant) for state in states for variant in state.variants]
    firsts = np.cumsum([0, *(len(state.variants) for state in states)], dtype=np.int64)
    signals = [messages[m].signals[i] for m, i in rows]
    selecting = [[messages[m].signals[s.signal] for s in state.selectors] for m, state in enumerate(states)]
    ends = [signal.end_byte for signal in (*signals, *(s for some in selecting for s in some))]
    words = max(1, -(-max(ends, default=0) // _WORD_BYTES))
    start = np.cumsum([0, *counts], dtype=np.int64)[:-1]
    needed = np.array([needed_bytes(message) for message in messages], dtype=np.int64)
    return Plan(
        words=words,
        standard=_standard(messages),
        extended=_lookup({m.frame_id: i for i, m in enumerate(messages) if m.extended}),
        by_source=_lookup(by_pgn_and_source(messages)),
        by_pgn=_lookup(by_pgn(messages)),
        needed=np.append(needed, MAX_DATA + 1),
        variants=len(counts),
        first_variant=firsts[:-1],
        multiplexers=_multiplexers(states, selecting, firsts, words),
        start=start,
        count=np.array(counts, dtype=np.int64),
        ids=np.array([wanted[m, messages[m].signals[i].name] for m, i in rows], dtype=np.int32),
        fields=_fields(signals, words),
        float_sizes=tuple(sorted({signal.length for signal in signals if signal.is_float} - {WORD_BITS})),
        variant_mask=_masks(
            [[messages[m].signals[i] for i in variant] for m, state in enumerate(states) for variant in state.variants],
            words,
        ),
        message_mask=_message_masks(messages, states, words),
        most_signals=max(counts, default=0),
        has_outside=any(signal.end_byte > needed[m] for signal, (m, _) in zip(signals, rows, strict=True)),
        message_ids=tuple(
            np.array([wanted[m, messages[m].signals[i].name] for i in sorted(some)], dtype=np.int32)
            for m, some in enumerate(chosen)
        ),
        left_out=tuple(left_out),
    )


def _chosen(index: int, message: MessageDef, wanted: Mapping[tuple[int, str], int], left_out: list[str]) -> list[int]:
    """Indices of the message's wanted signals that fit a word and a frame."""
    chosen = []
    for i, signal in enumerate(message.signals):
        if (index, signal.name) not in wanted:
            continue
        if signal.length > WORD_BITS:
            left_out.append(f"{message.name}.{signal.name}: {signal.length} bits are more than a stored word holds")
        elif signal.end_byte > MAX_DATA or message.length > MAX_DATA:
            left_out.append(f"{message.name}.{signal.name}: reaches behind the {MAX_DATA} bytes of a frame")
        else:
            chosen.append(i)
    return chosen


def _states(message: MessageDef, chosen: set[int], left_out: list[str]) -> _States:
    """All combined states of the message's multiplexers, those with the same wanted signals put together."""
    selecting = selectors(message)
    choosers = tuple(selecting.values())
    radixes = [len(selector.branches) for selector in choosers]
    fits = all(message.signals[s.signal].end_byte <= MAX_DATA and _width(message, s) < WORD_BITS for s in choosers)
    if prod(radixes) > MAX_STATES or not fits:
        left_out.extend(
            f"{message.name}.{message.signals[i].name}: its multiplexers are too many" for i in sorted(chosen)
        )
        return _States((), (), ((),), (0,))
    variants: dict[tuple[int, ...], int] = {}
    table = []
    for slots in product(*(range(radix) for radix in radixes)):
        branches = {s.signal: s.branches[slot] for s, slot in zip(choosers, slots, strict=True)}
        active = _active(root_signals(message), branches)
        if active is None:
            table.append(-1)
        else:
            carried = tuple(sorted(chosen.intersection(active)))
            table.append(variants.setdefault(carried, len(variants)))
    weights = tuple(prod(radixes[k + 1 :]) for k in range(len(radixes)))
    return _States(choosers, weights, tuple(variants), tuple(table))


def _width(message: MessageDef, selector: Selector) -> int:
    return message.signals[selector.signal].length


def _active(root: Iterable[int], branches: Mapping[int, tuple[int, ...] | None]) -> list[int] | None:
    """The signals that are sent with the given branch of each selector; None when an active one has none."""
    active = list(root)
    for index in active:  # grows while it is walked: a branch may hold further selectors
        if index in branches:
            branch = branches[index]
            if branch is None:
                return None
            active.extend(branch)
    return active


def _standard(messages: Sequence[MessageDef]) -> NDArray[np.int64]:
    table = np.full(SFF_MASK + 1, -1)
    for index, message in enumerate(messages):
        if not message.extended:
            table[message.frame_id] = index
    return table


def _lookup(entries: Mapping[int, int]) -> Lookup:
    keys = np.array(sorted(entries), dtype=np.int64)
    return Lookup(keys, np.array([entries[key] for key in keys.tolist()], dtype=np.int64))


def _fields(signals: Sequence[SignalDef], words: int) -> Fields:
    """The rows of some signals. A payload of one word is taken whole, so every ``byte`` is 0 then."""
    byte, left, ninth = [], [], []
    for signal in signals:
        start = first_byte(signal) if words > 1 else 0
        begin = (signal.start if signal.byte_order == "little" else first_network_bit(signal)) - 8 * start
        over = begin + signal.length > WORD_BITS
        byte.append(start)
        ninth.append(over)
        # A nine-byte signal is first brought together from bit ``begin`` on, see ``can_extract.raw_of``.
        from_left = over or signal.byte_order == "big"
        left.append(begin if from_left else WORD_BITS - begin - signal.length)
    return Fields(
        byte=np.array(byte, dtype=np.int64),
        big=np.array([signal.byte_order == "big" for signal in signals], dtype=np.bool_),
        left=np.array(left, dtype=np.uint64),
        right=np.array([WORD_BITS - signal.length for signal in signals], dtype=np.uint64),
        half=np.array([1 << signal.length - 1 if signal.signed else 0 for signal in signals], dtype=np.uint64),
        ninth=np.array(ninth, dtype=np.bool_),
        float_bits=np.array([signal.length if signal.is_float else 0 for signal in signals], dtype=np.uint8),
        end=np.array([signal.end_byte for signal in signals], dtype=np.int64),
        any_big=any(signal.byte_order == "big" for signal in signals),
        any_signed=any(signal.signed for signal in signals),
        any_ninth=any(ninth),
    )


def _multiplexers(
    states: Sequence[_States], selecting: Sequence[Sequence[SignalDef]], firsts: NDArray[np.int64], words: int
) -> Multiplexers:
    depth = max((len(state.selectors) for state in states), default=0)
    shape = (len(states), depth)
    numbers, tables, weights = np.full(shape, -1), np.full(shape, -1), np.zeros(shape, dtype=np.int64)
    slots: list[NDArray[np.int16]] = []
    searched = []
    size = 0
    flat: list[SignalDef] = []
    first = np.cumsum([0, *(len(state.table) for state in states)], dtype=np.int64)[:-1]
    for m, state in enumerate(states):
        for k, (selector, signal) in enumerate(zip(state.selectors, selecting[m], strict=True)):
            numbers[m, k] = len(flat)
            weights[m, k] = state.weights[k]
            flat.append(signal)
            bounds = np.array(selector.bounds, dtype=np.int64)
            if signal.length > _TABLE_BITS:
                searched.append((m, k, bounds))
                continue
            low, high = raw_limits(signal)
            raw = np.arange(low, high + 1)
            table = np.empty(len(raw), dtype=np.int16)
            table[raw & (len(raw) - 1)] = np.searchsorted(bounds, raw, side="right")
            tables[m, k] = size
            slots.append(table)
            size += len(table)
    variant = [firsts[m] + v if v >= 0 else -1 for m, state in enumerate(states) for v in state.table]
    return Multiplexers(
        any=any(state.selectors for state in states),
        is_multiplexed=np.array([bool(state.selectors) for state in states], dtype=np.bool_),
        fields=_fields(flat, words),
        field=numbers,
        table=tables,
        slots=np.concatenate(slots) if slots else np.empty(0, dtype=np.int16),
        searched=tuple(searched),
        weight=weights,
        first=first,
        variant=np.array(variant, dtype=np.int64),
    )


def _masks(groups: Sequence[Sequence[SignalDef]], words: int) -> NDArray[np.uint64]:
    """The bits of each group of signals as little-endian words."""
    raw = bytearray()
    for group in groups:
        mask = 0
        for signal in group:
            mask |= bit_mask(signal)
        raw += mask.to_bytes(words * _WORD_BYTES, "little")
    return np.frombuffer(bytes(raw), dtype=np.uint64).reshape(len(groups), words)


def _message_masks(messages: Sequence[MessageDef], states: Sequence[_States], words: int) -> NDArray[np.uint64]:
    """The bits of signals that all variants carry; all bits where a signal belongs to some variants but not to all."""
    masks = np.zeros((len(messages), words), dtype=np.uint64)
    for m, (message, state) in enumerate(zip(messages, states, strict=True)):
        carried = [i for variant in state.variants for i in variant]
        everywhere = {i for i in carried if carried.count(i) == len(state.variants)}
        if any(carried.count(i) > 1 for i in set(carried) - everywhere):
            masks[m] = ~np.uint64(0)
        elif len(state.variants) > 1:
            masks[m] = _masks([[message.signals[i] for i in everywhere]], words)[0]
    return masks
