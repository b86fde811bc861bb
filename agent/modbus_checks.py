"""What can be wrong with a Modbus profile beyond its form: findings at the place of the file where they stand.

The rules are those of ``agent/modbus_profiles.py``; each check here names the one thing to change.
"""

import math
from collections.abc import Iterator, Sequence

from agent.core.model import Kind, Number
from agent.core.points import CHARGER_STATUS, POINTS, find_point
from agent.modbus_profiles import (
    MatchRow,
    ModbusProfileFile,
    PointRow,
    Raw,
    ReadRow,
    RegisterRow,
    SettingRow,
    TextRow,
    WriteRow,
)
from agent.yamlfile import Document, Problem
from agent.yamlwords import did_you_mean
from drivers.codec.registers import (
    ADDRESSES,
    BIT_TABLES,
    REGISTERS,
    WRITABLE,
    Register,
    Table,
    signed_missing,
    words_of,
)
from drivers.modbus.writing import raw_of

Loc = tuple[str | int, ...]
_TEXTS = ("string", "hex")


def findings(document: Document, file: ModbusProfileFile, stem: str) -> Iterator[Problem]:
    """Every finding, in no order. ``stem`` is the file's name without its suffix."""
    check = _Check(document, file)
    if file.name != stem:
        text = f"`{file.name}` is not the file's name"
        yield document.problem(("name",), text, f"write `name: {stem}`, or rename the file")
    for name, row in file.points.items():
        yield from check.point(name, row)
    yield from check.doubles()
    for name, setting in file.settings.items():
        yield from check.setting(name, setting)
    for name, text_row in file.identity.items():
        yield from check.text(("identity", name), text_row)
    for index, match in enumerate(file.match):
        yield from check.match(("match", index), match)
    for index, write in enumerate(file.setup):
        yield from check.write(("setup", index), write)
    if file.heartbeat is not None:
        yield from check.write(("heartbeat",), file.heartbeat)
        yield from check.pause(("heartbeat", "every_s"), file.heartbeat.every_s)
    for key in ("setup", "heartbeat"):
        if getattr(file, key) and not file.settings:
            yield document.problem((key,), f"`{key}` without `settings` is never written", "delete it", at_key=True)


class _Check:
    """The checks of single rows; each yields what it finds."""

    def __init__(self, document: Document, file: ModbusProfileFile) -> None:
        self._document = document
        self._file = file

    # --- points ---

    def point(self, name: str, row: PointRow) -> Iterator[Problem]:
        """One line of ``points``."""
        place: Loc = ("points", name)
        yield from self._name(place, name, row)
        wrong = list(self.read(place, row, cells=self._cells(row)))
        yield from wrong
        if row.stride is not None and row.count is None:
            yield self._say((*place, "stride"), "`stride` stands here without `count`", "delete it, or add `count:`")
        if row.every_s is not None and row.every_s < self._file.every_s:
            text = f"`every_s` is shorter than the device's, {self._file.every_s:g}"
            yield self._say((*place, "every_s"), text, "delete it: it is for what is read less often")
        if row.exponent is not None and self._table(row) in BIT_TABLES:
            yield self._say((*place, "exponent"), "a bit has no exponent", "delete it")
        point = POINTS.get(name.partition(".")[0])
        if point is None or wrong:
            return
        if point.kind is Kind.COUNTER and row.scale < 0:
            text = f"`{name}` counts, so it can't have a negative scale"
            yield self._say((*place, "scale"), text, "map the register of the other direction")
        if point.name == "charger_status":
            yield from self._charger_status(place, row)

    def _cells(self, row: PointRow) -> int:
        """Registers from the first to behind the last of an array."""
        size = REGISTERS[row.type]
        return size if row.count is None else (row.count - 1) * (row.stride or size) + size

    def _name(self, place: Loc, name: str, row: PointRow) -> Iterator[Problem]:
        base = name.partition(".")[0]
        point = POINTS.get(base)
        if point is None:
            hint = did_you_mean(base, POINTS) or "the names stand in agent/core/points.py"
            yield self._say(place, f"`{name}` is no point of the vocabulary", hint, at_key=True)
        elif row.count is None:
            if find_point(name) is None:
                hint = f"write `{name}.1`, or add `count:`" if point.array else f"write `{base}`"
                yield self._say(place, f"`{name}` is {'an' if point.array else 'no'} array", hint, at_key=True)
        elif not point.array or name != base:
            text = f"`{name}` can't have `count:`: it is {'one of an array' if point.array else 'no array'}"
            hint = f"write `{base}`" if point.array else "delete `count:`"
            yield self._say((*place, "count"), text, hint, at_key=True)

    def _charger_status(self, place: Loc, row: ReadRow) -> Iterator[Problem]:
        if not row.labels:
            hint = "name each raw value with one of OCPP's: " + ", ".join(CHARGER_STATUS)
            yield self._say(place, "`charger_status` has no labels", hint, at_key=True)
        for raw, label in row.labels.items():
            if label not in CHARGER_STATUS:
                text = f"`{label}` is no state of OCPP 1.6 ChargePointStatus"
                hint = did_you_mean(label, CHARGER_STATUS) or "write one of " + ", ".join(CHARGER_STATUS)
                yield self._say((*place, "labels", str(raw)), text, hint)

    def doubles(self) -> Iterator[Problem]:
        """Points that are named twice, and registers that are read as two different numbers."""
        names: dict[str, str] = {}
        users: dict[tuple[Table, int], list[tuple[str, str, int, tuple[int, int] | None]]] = {}
        for key, row in self._file.points.items():
            size, table = REGISTERS[row.type], self._table(row)
            for number in range(row.count or 1):
                name = key if row.count is None else f"{key}.{number + 1}"
                first = row.address + number * (row.stride or size)
                if name in names:
                    yield self._say(("points", key), f"`{name}` is mapped twice", "keep one", at_key=True)
                    break
                names[name] = key
                others = [one for cell in range(first, first + size) for one in users.get((table, cell), ())]
                clash = next((one for one in others if _clash(one[2:], (first, row.bits))), None)
                if clash is not None:
                    text = f"`{name}` reads registers of `{clash[0]}`"
                    hint = "map each register once; parts of one need `bits`"
                    yield self._say(("points", key, "register"), text, hint)
                    break
                for cell in range(first, first + size):
                    users.setdefault((table, cell), []).append((name, key, first, row.bits))

    # --- settings and writes ---

    def setting(self, name: str, row: SettingRow) -> Iterator[Problem]:
        """One line of ``settings``."""
        place: Loc = ("settings", name)
        point = find_point(name)
        if point is None or point.array:
            hint = did_you_mean(name, [one for one, found in POINTS.items() if not found.array])
            hint = hint or "the names stand in agent/core/points.py"
            yield self._say(place, f"`{name}` is no point that can be set", hint, at_key=True)
        wrong = [*self._register(place, row, REGISTERS[row.type]), *self._writable(place, row, row.function)]
        wrong += self._scale(place, row.scale, row.offset)
        yield from wrong
        if row.min > row.max:
            yield self._say((*place, "min"), f"`min` {row.min} is above `max` {row.max}", "exchange them")
            return
        if row.step < 0:
            yield self._say((*place, "step"), "`step` is negative", "write how far apart its values are")
        if row.safe is not None and not row.min <= row.safe <= row.max and not (row.zero and row.safe == 0):
            hint = f"write a value from {row.min} to {row.max}" + (", or 0" if row.zero else "")
            yield self._say((*place, "safe"), f"`safe` {row.safe} can't be set", hint)
        yield from self.pause((*place, "refresh_s"), row.refresh_s)
        if row.zero and row.min <= 0:
            yield self._say((*place, "zero"), "`zero` says nothing where `min` is not above 0", "delete it")
        if isinstance(row.read_back, ReadRow):
            back: Loc = (*place, "read_back")
            yield from self.read(back, row.read_back, cells=REGISTERS[row.read_back.type])
        if not wrong:
            yield from self._values(place, row)

    def pause(self, place: Loc, period_s: float | None) -> Iterator[Problem]:
        """Something that is written again and again."""
        if period_s is not None and period_s < self._file.write_pause_s:
            text = f"`{place[-1]}` {period_s:g} is shorter than `write_pause_s`, {self._file.write_pause_s:g}"
            yield self._say(place, text, "write a longer one")

    def _values(self, place: Loc, row: SettingRow) -> Iterator[Problem]:
        """Whether the register holds all that may be set."""
        register = self._plain(row)
        for value, raw in row.values.items():
            where: Loc = (*place, "values", str(value))
            if not row.min <= value <= row.max and not (row.zero and value == 0):
                yield self._say(where, f"{value} is outside of `min` and `max`", "write these so that it is allowed")
            yield from self._fits(where, register, raw)
        if row.values:
            if row.safe is not None and row.safe not in row.values:
                yield self._say((*place, "safe"), f"`safe` {row.safe} is none of `values`", "write one of them")
            return
        for key, bound in (("min", row.min), ("max", row.max)):
            yield from self._fits(
                (*place, key), register, raw_of(bound, row.scale, row.offset, whole=not register.is_float)
            )

    def write(self, place: Loc, row: WriteRow) -> Iterator[Problem]:
        """A raw value that is written."""
        wrong = [*self._register(place, row, REGISTERS[row.type]), *self._writable(place, row, row.function)]
        yield from wrong
        if not wrong:
            yield from self._fits((*place, "value"), self._plain(row), row.value)

    def _writable(self, place: Loc, row: RegisterRow, function: str | None) -> Iterator[Problem]:
        table = self._table(row)
        if table not in WRITABLE:
            yield self._say(place, f"{table} can't be written", "write `table: holding` or `table: coil`", at_key=True)
        if row.bits is not None:
            text = "bits can't be written apart from the others of their register"
            yield self._say((*place, "bits"), text, "write the whole register, with `values`")
        if (function or self._file.function) == "single" and REGISTERS[row.type] > 1:
            text = f"function `single` writes one register, {row.type} has {REGISTERS[row.type]}"
            yield self._say((*place, "type"), text, "write `function: multiple`")

    def _fits(self, place: Loc, register: Register, raw: Number) -> Iterator[Problem]:
        try:
            words_of(register, raw if register.is_float else signed_missing(register, int(raw)))
        except ValueError as error:
            yield self._say(place, str(error), "check type and scale")

    # --- what all rows have ---

    def read(self, place: Loc, row: ReadRow, cells: int) -> Iterator[Problem]:
        """A register that is read."""
        wrong = [*self._register(place, row, cells), *self._scale(place, row.scale, row.offset)]
        yield from wrong
        if wrong:
            return
        register = self._plain(row)
        low, high = register.raw_range
        for index, item in enumerate(row.missing):
            yield from self._range((*place, "missing", index), "missing", register, item)
        for raw in row.labels:
            if not low <= raw <= high:
                text = f"`labels` names {raw}, which {_what(register)} never is"
                yield self._say((*place, "labels", str(raw)), text, f"write raw values from {low} to {high}")
        if row.labels and (row.scale != 1 or row.offset != 0):
            yield self._say((*place, "labels"), "a value with labels has no scale", "delete `scale` and `offset`")

    def _range(self, where: Loc, key: str, register: Register, item: Raw) -> Iterator[Problem]:
        """A raw value or a range of them."""
        ends = (item, item) if isinstance(item, int) else item
        first, last = signed_missing(register, ends[0]), signed_missing(register, ends[1])
        low, high = register.raw_range
        if first > last:
            yield self._say(where, f"the range begins at {first}, behind its end {last}", "exchange them")
        elif not low <= first <= last <= high:
            hint = f"write raw values from {low} to {high}"
            if register.is_bcd:
                hint += "; digits above 9 are never taken for a number"
            yield self._say(where, f"`{key}` names {item}, which {_what(register)} never is", hint)

    def match(self, place: Loc, row: MatchRow) -> Iterator[Problem]:
        """One line of ``match``."""
        yield from self.text(place, row)
        text = row.type in _TEXTS
        many = isinstance(row.equals, tuple)
        if row.equals == ():
            yield self._say((*place, "equals"), "`equals` is empty, so nothing would fit", "write what the device says")
        for index, item in enumerate(row.equals if isinstance(row.equals, tuple) else (row.equals,)):
            where: Loc = (*place, "equals", index) if many else (*place, "equals")
            if isinstance(item, str) is not text:
                wrong = f"`equals` must be {'text' if text else 'a whole number'} for `type: {row.type}`"
                yield self._say(where, wrong, "write what the device says there")
            elif item == "":
                yield self._say(where, "`equals` is empty, so any text would fit", "write how the text begins")
            elif row.type != "string" and row.type != "hex" and not isinstance(item, str):  # noqa: PLR1714 - as above
                register = Register(row.table or self._file.table, row.address, row.type)
                yield from self._range(where, "equals", register, item)

    def text(self, place: Loc, row: TextRow) -> Iterator[Problem]:
        """Text, or a number of the identity."""
        table = row.table or self._file.table
        if row.type == "string" or row.type == "hex":  # noqa: PLR1714 - so that the type checker sees what is left
            if table in BIT_TABLES:
                yield self._say(place, f"{table} holds no text", "write `table: holding` or `input`", at_key=True)
            if row.length is None:
                yield self._say(place, "`length` is missing here", "add how many registers the text has", at_key=True)
            elif row.length > self._file.max_registers:
                text = f"`length` {row.length} is more than `max_registers`, {self._file.max_registers}"
                yield self._say((*place, "length"), text, "read a part of it")
            cells = row.length or 1
        else:
            if row.length is not None:
                yield self._say((*place, "length"), f"a {row.type} has no length", "delete it")
            cells = REGISTERS[row.type]
            yield from self._kind_of_table(place, row.type == "bit", table)
        yield from self._address(place, row.address, cells)

    def _register(self, place: Loc, row: RegisterRow, cells: int) -> Iterator[Problem]:
        yield from self._kind_of_table(place, row.type == "bit", self._table(row))
        yield from self._address(place, row.address, cells)
        if REGISTERS[row.type] > self._file.max_registers:
            text = f"{row.type} takes more than `max_registers`, {self._file.max_registers}"
            yield self._say((*place, "type"), text, "raise `max_registers`: such a value must come in one answer")
        if row.bits is None:
            return
        lowest, width = row.bits
        size = 16 * REGISTERS[row.type]
        if row.type == "bit" or row.type.startswith("float"):
            yield self._say((*place, "bits"), f"a {row.type} has no bits", "delete `bits`")
        elif lowest + width > size:
            text = f"bits {lowest} to {lowest + width - 1} of {size}"
            yield self._say((*place, "bits"), text, "write [lowest, how many], counted from 0")

    def _kind_of_table(self, place: Loc, is_bit: bool, table: Table) -> Iterator[Problem]:  # noqa: FBT001 - a fact
        if is_bit and table not in BIT_TABLES:
            text = f"`type: bit` is for coil and discrete, not for {table}"
            yield self._say((*place, "type"), text, "write `table: coil`, or `bits: [n, 1]` of a register")
        elif not is_bit and table in BIT_TABLES:
            yield self._say((*place, "type"), f"{table} holds bits only", "write `type: bit`")

    def _address(self, place: Loc, first: int, cells: int) -> Iterator[Problem]:
        if first + cells > ADDRESSES:
            text = f"ends at address {first + cells - 1}, the last one is {ADDRESSES - 1}"
            yield self._say((*place, "register"), text, "addresses count from 0, without 30001 or 40001")

    def _scale(self, place: Loc, scale: Number, offset: Number) -> Iterator[Problem]:
        if scale == 0:
            yield self._say((*place, "scale"), "`scale` is 0, so all values would be the same", "delete it")
        for key, number in (("scale", scale), ("offset", offset)):
            if not math.isfinite(number):
                yield self._say((*place, key), f"`{key}` must be a finite number", "")

    def _table(self, row: RegisterRow) -> Table:
        return row.table or self._file.table

    def _plain(self, row: RegisterRow) -> Register:
        """The register with what its range depends on."""
        return Register(self._table(row), row.address, row.type, bits=row.bits)

    def _say(self, place: Sequence[str | int], text: str, hint: str, *, at_key: bool = False) -> Problem:
        return self._document.problem(place, text, hint, at_key=at_key)


def _clash(one: tuple[int, tuple[int, int] | None], other: tuple[int, tuple[int, int] | None]) -> bool:
    """Whether two rows (first address, bits) that share registers read the same number there."""
    if one[1] is None and other[1] is None:
        return True
    return one == other


def _what(register: Register) -> str:
    if register.bits is not None:
        return f"a number of {register.bits[1]} bits"
    return f"{'an' if register.type.startswith('i') else 'a'} {register.type}"
