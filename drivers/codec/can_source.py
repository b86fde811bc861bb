"""Write the Python source of one message's decoder; ``can_frame.py`` compiles it and says what it must give.

How the bits are reached: whole-byte signals are items of a ``struct``; others are cut out of 64-bit windows, which are
items of a ``struct`` too; what fits neither (more than 64 bits, nine bytes, messages under 8 bytes) goes through
``int.from_bytes``. Items that do not overlap share a ``struct``, so that a frame needs one or two calls.

The source holds numbers that were checked here and nothing else from a file: signal ``i`` is called "n<i>" in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from agent.core.model import Number
from drivers.codec.can_layout import (
    Selector,
    first_byte,
    first_network_bit,
    integer_scaling,
    needed_bytes,
    root_signals,
    selectors,
)
from drivers.codec.dbc_model import ByteOrder, MessageDef, SignalDef

_WINDOW_BITS = 64
_WINDOW_BYTES = 8
_INTEGER_CODES = {8: "B", 16: "H", 32: "I", 64: "Q"}
_FLOAT_CODES = {16: "e", 32: "f", 64: "d"}


@dataclass(frozen=True, slots=True)
class _Item:
    """One item of a ``struct``: ``size`` bytes from byte ``offset`` on, read into the local variable ``variable``."""

    offset: int
    size: int
    code: str
    variable: str


class Source:
    """Writes the source of one message's decoder."""

    def __init__(self, message: MessageDef) -> None:
        self._signals = message.signals
        self._length = _whole(needed_bytes(message))
        self._root = root_signals(message)
        self._selectors = selectors(message)
        self._setup: list[str] = []
        self._functions: list[str] = []
        self._tables: set[int] = set()
        self._variables = 0
        # Frames have the message's length nearly always: unpacking exactly that is cheaper than unpacking from a part.
        self._exact = all(signal.end_byte <= self._length for signal in message.signals)

    def text(self) -> str:
        """The module: ``make(Struct, short, bisect, too_short, unknown)`` returns the decoding function."""
        body = self._function("    def decode(data):", self._root, is_root=True)
        head = ["def make(Struct, short, bisect, too_short, unknown):"]
        return "\n".join([*head, *self._setup, *self._functions, *body, "    return decode", ""])

    def _function(self, head: str, members: Sequence[int], *, is_root: bool) -> list[str]:
        """A function over ``members``: the root returns a new dict, a branch adds to the one that it is given."""
        signals = self._signals
        inside = [i for i in members if signals[i].end_byte <= self._length]
        outside = [i for i in members if signals[i].end_byte > self._length]
        lines, raw = self._reads(inside, is_root=is_root)
        for i in inside:
            if i in self._selectors:
                lines.append(f"m{i} = {raw[i]}")
                raw[i] = f"m{i}"
        values = {i: _scaled(signals[i], raw[i]) for i in inside}
        result = "{" + ", ".join(f"'n{i}': {value}" for i, value in values.items()) + "}"
        if is_root and not outside and not self._selectors:
            return [head, *(f"        {line}" for line in [*lines, f"return {result}"])]
        if is_root:
            lines.append(f"r = {result}")
        else:
            lines += [f"r['n{i}'] = {value}" for i, value in values.items()]
        for i in outside:
            value = _scaled(signals[i], self._from_bytes(signals[i]))
            lines.append(f"if len(data) >= {_whole(signals[i].end_byte)}: r['n{i}'] = {value}")
        for i in inside:
            if i in self._selectors:
                self._table(self._selectors[i])
                lines.append(f"f = t{i}[bisect(e{i}, m{i})]")
                lines.append("if f is None or f(data, r) is not None: return unknown")
        lines.append("return r" if is_root else "return None")
        return [head, *(f"        {line}" for line in lines)]

    def _table(self, selector: Selector) -> None:
        """Write the branches of a multiplexer, once, and the table that leads to them."""
        number = selector.signal
        if number in self._tables:
            return
        self._tables.add(number)
        names: dict[tuple[int, ...], str] = {}
        for branch in selector.branches:
            if branch is not None and branch not in names:
                name = names[branch] = f"b{number}_{len(names)}"
                self._functions += self._function(f"    def {name}(data, r):", branch, is_root=False)
        table = "".join("None, " if branch is None else f"{names[branch]}, " for branch in selector.branches)
        bounds = "".join(f"{_whole(bound)}, " for bound in selector.bounds)
        self._functions += [f"    t{number} = ({table})", f"    e{number} = ({bounds})"]

    def _reads(self, members: Sequence[int], *, is_root: bool) -> tuple[list[str], dict[int, str]]:
        """Statements that read the payload, and for each signal the expression of its raw value.

        In the root they also refuse a short frame: a ``struct`` as long as the message does so without a further test.
        """
        groups: dict[ByteOrder, list[int]] = {"little": [], "big": []}
        for i in members:
            groups[self._signals[i].byte_order].append(i)
        if groups["big"] and all(_is_byte(self._signals[i]) for i in groups["little"]):
            # Single bytes read the same in both orders: one struct is enough.
            groups = {"little": [], "big": [*groups["little"], *groups["big"]]}
        lines: list[str] = []
        raw: dict[int, str] = {}
        for order, group in groups.items():
            items: list[_Item] = []
            self._windows(order, group, items, raw)
            for i in group:
                if i not in raw:
                    raw[i] = self._item(self._signals[i], items)
            lines += self._unpack(order, items)
        if is_root and lines:
            lines = ["try:", *(f"    {line}" for line in lines), "except short:"]
        elif is_root:
            lines = [f"if len(data) != {self._length}:" if self._exact else f"if len(data) < {self._length}:"]
        if is_root:
            if self._exact:
                lines.append(f"    if len(data) > {self._length}: return decode(data[:{self._length}])")
            lines.append("    return too_short")
        return lines, raw

    def _windows(self, order: ByteOrder, group: Sequence[int], items: list[_Item], raw: dict[int, str]) -> None:
        """Give expressions to the signals that are no whole items, and to the integers that lie in the same windows."""
        signals = self._signals
        odd = [i for i in group if not _is_item(signals[i])]
        for i in sorted(odd, key=lambda i: first_byte(signals[i])):
            start = min(first_byte(signals[i]), self._length - _WINDOW_BYTES)
            if i in raw:
                continue
            if start < 0 or signals[i].end_byte > start + _WINDOW_BYTES:
                raw[i] = self._from_bytes(signals[i])
                continue
            item = _Item(start, _WINDOW_BYTES, "Q", self._variable())
            items.append(item)
            for j in group:
                if j not in raw and start <= first_byte(signals[j]) and signals[j].end_byte <= start + _WINDOW_BYTES:
                    raw[j] = self._cut(signals[j], order, item)

    def _cut(self, signal: SignalDef, order: ByteOrder, window: _Item) -> str:
        """The raw value from a 64-bit window."""
        if order == "little":
            shift = signal.start - 8 * window.offset
        elif signal.byte_order == "little":  # a single byte in a big-endian group
            shift = _WINDOW_BITS - (signal.start - 8 * window.offset) - signal.length
        else:
            shift = _WINDOW_BITS - (first_network_bit(signal) - 8 * window.offset) - signal.length
        return self._typed(signal, _bits(window.variable, shift, signal.length, _WINDOW_BITS))

    def _from_bytes(self, signal: SignalDef) -> str:
        """The raw value straight from the payload's bytes."""
        start, end = first_byte(signal), signal.end_byte
        size = 8 * (end - start)
        if signal.byte_order == "little":
            shift = signal.start - 8 * start
        else:
            shift = size - (first_network_bit(signal) - 8 * start) - signal.length
        word = f"int.from_bytes(data[{_whole(start)}:{_whole(end)}], {signal.byte_order!r})"
        return self._typed(signal, _bits(word, shift, signal.length, size))

    def _typed(self, signal: SignalDef, bits: str) -> str:
        """Unsigned bits as the signal's type."""
        if signal.is_float:
            size = signal.length
            setup = [
                f"    p{size} = Struct('<{_INTEGER_CODES[size]}').pack",
                f"    u{size} = Struct('<{_FLOAT_CODES[size]}').unpack",
            ]
            self._setup += [line for line in setup if line not in self._setup]
            return f"u{size}(p{size}({bits}))[0]"
        if signal.signed:
            half = 1 << signal.length - 1
            return f"(x if (x := {bits}) < {half} else x - {2 * half})"
        return bits

    def _item(self, signal: SignalDef, items: list[_Item]) -> str:
        """The raw value as an item of a struct."""
        if signal.is_float:
            code = _FLOAT_CODES[signal.length]
        else:
            code = _INTEGER_CODES[signal.length]
            code = code.lower() if signal.signed else code
        items.append(_Item(first_byte(signal), signal.length // 8, code, self._variable()))
        return items[-1].variable

    def _unpack(self, order: ByteOrder, items: Sequence[_Item]) -> list[str]:
        """Statements that read the items, with as few structs as their overlaps allow."""
        layers: list[list[_Item]] = []
        for item in sorted(items, key=lambda item: item.offset):
            for layer in layers:
                if layer[-1].offset + layer[-1].size <= item.offset:
                    layer.append(item)
                    break
            else:
                layers.append([item])
        lines = []
        for layer in layers:
            layout, position = "<" if order == "little" else ">", 0
            for item in layer:
                gap = item.offset - position
                layout += f"{gap}x{item.code}" if gap else item.code
                position = item.offset + item.size
            if self._length > position:
                layout += f"{self._length - position}x"
            name = f"s{self._variables}"
            self._variables += 1
            self._setup.append(f"    {name} = Struct({layout!r}).{'unpack' if self._exact else 'unpack_from'}")
            lines.append("".join(f"{item.variable}, " for item in layer) + f"= {name}(data)")
        return lines

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"


def _is_item(signal: SignalDef) -> bool:
    """Whether the signal is an item that ``struct`` knows: whole bytes of a fitting number."""
    codes = _FLOAT_CODES if signal.is_float else _INTEGER_CODES
    aligned = signal.start % 8 == (0 if signal.byte_order == "little" else 7)
    return aligned and signal.length in codes


def _is_byte(signal: SignalDef) -> bool:
    return signal.length == 8 and _is_item(signal)  # noqa: PLR2004 - bits of a byte


def _bits(word: str, shift: int, length: int, size: int) -> str:
    """``length`` bits of an unsigned ``size``-bit expression, from bit ``shift`` on."""
    shifted = f"{word} >> {_whole(shift)}" if shift else word
    if shift + length == size:
        return f"({shifted})"
    return f"({shifted} & {(1 << length) - 1})"


def _scaled(signal: SignalDef, raw: str) -> str:
    """The physical value in cantools' arithmetic, see ``can_layout.physical``."""
    if signal.scale == 1 and signal.offset == 0:
        return raw
    whole = integer_scaling(signal)
    if whole is not None:
        scale, offset = whole
        product = raw if scale == 1 else f"{raw} * {_number(scale)}"
        if offset < 0:
            return f"{product} - {_number(-offset)}"
        return product if offset == 0 else f"{product} + {_number(offset)}"
    # The float stands in front, where Python tries its arithmetic first; neither product nor sum cares for the order.
    product = f"{_number(signal.scale)} * {raw}" if type(signal.scale) is float else f"{raw} * {_number(signal.scale)}"
    if signal.offset == 0 and signal.scale > 0 and not signal.is_float:
        return product  # + 0 would change nothing here
    return (
        f"{_number(signal.offset)} + {product}"
        if type(signal.scale) is int
        else f"{product} + {_number(signal.offset)}"
    )


def _whole(value: int) -> int:
    """A number for the source (rule 3). Raises ``ValueError`` for anything that is no whole number."""
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


def _number(value: Number) -> str:
    """A number for the source, exactly as it is (rule 3). Raises ``ValueError`` for what is no finite number."""
    if type(value) not in {int, float} or not isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return repr(value)
