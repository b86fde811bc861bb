"""Where the bits of signals lie and which signals a frame carries: shared by both decoders and by the DBC checks.

Multiplexing follows cantools: the value of a multiplexer is its physical value, truncated to a whole number; a value
that neither decides over a signal nor stands in the multiplexer's value table makes the frame undecodable.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from drivers.codec.dbc_model import MessageDef, Number, Ranges, SignalDef


def first_network_bit(signal: SignalDef) -> int:
    """The position of a big-endian signal's highest bit, counted from the highest bit of the first byte."""
    return signal.start // 8 * 8 + 7 - signal.start % 8


def first_byte(signal: SignalDef) -> int:
    """The first byte that holds bits of the signal."""
    return signal.start // 8


def bit_mask(signal: SignalDef) -> int:
    """The signal's bits as a number whose bit ``8 * byte + bit`` is the payload's bit."""
    ones = (1 << signal.length) - 1
    if signal.byte_order == "little":
        return ones << signal.start
    ones <<= signal.end_byte * 8 - first_network_bit(signal) - signal.length
    return int.from_bytes(ones.to_bytes(signal.end_byte, "big"), "little")


def integer_scaling(signal: SignalDef) -> tuple[int, int] | None:
    """Scale and offset as whole numbers where the arithmetic stays whole, else None (cantools' rule)."""
    scale, offset = signal.scale, signal.offset
    if signal.is_float or int(scale) != scale or int(offset) != offset:
        return None
    return int(scale), int(offset)


def physical(signal: SignalDef, raw: Number) -> Number:
    """The physical value of a raw one, in cantools' own arithmetic (same type, same rounding)."""
    if signal.scale == 1 and signal.offset == 0:
        return raw
    whole = integer_scaling(signal)
    if whole is not None:
        return raw * whole[0] + whole[1]
    return raw * signal.scale + signal.offset


def raw_limits(signal: SignalDef) -> tuple[int, int]:
    """Smallest and largest raw value of an integer signal."""
    if signal.signed:
        return -(1 << signal.length - 1), (1 << signal.length - 1) - 1
    return 0, (1 << signal.length) - 1


def raw_ranges(selector: SignalDef, values: Ranges) -> Ranges:
    """The raw values of an integer multiplexer whose truncated physical value lies in ``values``, as ranges."""
    smallest, largest = raw_limits(selector)
    sign = 1 if selector.scale >= 0 else -1

    def first_reaching(limit: int) -> int:
        # The truncated physical value never falls with a rising raw one (times the scale's sign): halve.
        low, high = smallest, largest + 1
        while low < high:
            middle = (low + high) // 2
            if sign * int(physical(selector, middle)) >= limit:
                high = middle
            else:
                low = middle + 1
        return low

    result = []
    for low, high in values:
        lower, upper = (low, high) if sign > 0 else (-high, -low)
        first, behind = first_reaching(lower), first_reaching(upper + 1)
        if behind > first:
            result.append((first, behind - 1))
    return tuple(sorted(result))


@dataclass(frozen=True, slots=True)
class Selector:
    """A multiplexer, its raw values cut into slots: within a slot the same signals are sent.

    Slot ``i`` holds the raw values from ``bounds[i - 1]`` up to below ``bounds[i]``; ``branches[i]`` are its signals as
    indices into the message, None where the value is unknown and the frame can't be decoded.
    """

    signal: int  #: index in the message
    bounds: tuple[int, ...]
    branches: tuple[tuple[int, ...] | None, ...]

    def branch(self, raw: int) -> tuple[int, ...] | None:
        """The signals that this raw value adds; None when the value is unknown."""
        return self.branches[bisect_right(self.bounds, raw)]


def needed_bytes(message: MessageDef) -> int:
    """How long a frame must be to be decoded: the message's length, and no multiplexer may be missing."""
    return max([message.length, *(signal.end_byte for signal in message.signals if signal.is_multiplexer)])


def root_signals(message: MessageDef) -> tuple[int, ...]:
    """Indices of the signals that every frame of the message carries."""
    return tuple(index for index, signal in enumerate(message.signals) if signal.multiplexer is None)


def selectors(message: MessageDef) -> dict[int, Selector]:
    """The multiplexers of a message by their signal index. Empty for a plain message."""
    by_name = {signal.name: index for index, signal in enumerate(message.signals)}
    children: dict[int, list[int]] = {i: [] for i, signal in enumerate(message.signals) if signal.is_multiplexer}
    for index, signal in enumerate(message.signals):
        parent = by_name.get(signal.multiplexer) if signal.multiplexer is not None else None
        if parent in children and signal.mux_values:
            children[parent].append(index)
    result = {}
    for index, signals in children.items():
        signal = message.signals[index]
        if signals or signal.choices:
            result[index] = _selector(message, index, signals)
    return result


def _selector(message: MessageDef, index: int, children: Sequence[int]) -> Selector:
    signal = message.signals[index]
    named: Ranges = tuple((value, value) for value in sorted(signal.choices))
    known = raw_ranges(signal, named)
    sent = [(child, raw_ranges(signal, message.signals[child].mux_values)) for child in children]
    edges = {
        edge for ranges in (known, *(ranges for _, ranges in sent)) for low, high in ranges for edge in (low, high + 1)
    }
    bounds = sorted(edges)
    slots: list[list[int] | None] = [None] * (len(bounds) + 1)
    position = {bound: i + 1 for i, bound in enumerate(bounds)}
    for low, high in known:
        for slot in range(position[low], position[high + 1]):
            slots[slot] = slots[slot] or []
    for child, ranges in sent:
        for low, high in ranges:
            for slot in range(position[low], position[high + 1]):
                members = slots[slot] or []
                members.append(child)
                slots[slot] = members
    return _merged(index, bounds, slots)


def _merged(index: int, bounds: list[int], slots: list[list[int] | None]) -> Selector:
    """Neighbouring slots with the same signals become one."""
    branches = [None if slot is None else tuple(slot) for slot in slots]
    kept = [i + 1 for i, (left, right) in enumerate(pairwise(branches)) if left != right]
    return Selector(index, tuple(bounds[i - 1] for i in kept), (branches[0], *(branches[i] for i in kept)))
