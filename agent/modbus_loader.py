"""From a profile file with ``driver: modbus`` to ``ModbusProfile``: checked, defaults filled in, arrays written out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.modbus_checks import findings
from agent.modbus_profiles import ModbusProfileFile, ReadRow, RegisterRow, SettingRow, TextRow, WriteRow
from agent.yamlfile import Document, in_order, refuse
from drivers.codec.registers import REGISTERS, Order, Register, Table, TextRegister, signed_missing
from drivers.modbus.model import ModbusMatch, ModbusPoint, ModbusProfile, ModbusSetting, ModbusWrite


@dataclass(frozen=True, slots=True)
class LoadedModbusProfile:
    """A loaded profile. ``profile`` is what the driver is given, ``file`` is what stands there of maker and source."""

    name: str
    path: Path
    profile: ModbusProfile
    file: ModbusProfileFile = field(repr=False)
    document: Document = field(repr=False, compare=False, kw_only=True)  #: places findings in the file


def load_modbus_profile(document: Document, path: Path) -> LoadedModbusProfile:
    """The profile in a parsed file. Raises ``ConfigError`` with every finding, one per line."""
    file, problems = document.check(ModbusProfileFile)
    if file is None:
        raise refuse(path, problems)
    problems = list(findings(document, file, path.stem))
    if problems:
        raise refuse(path, in_order(problems))
    return LoadedModbusProfile(file.name, path, _Builder(file).profile(), file, document=document)


class _Builder:
    """Makes the rows of a checked file, with the file's defaults, into the driver's values."""

    def __init__(self, file: ModbusProfileFile) -> None:
        self._file = file

    def profile(self) -> ModbusProfile:
        file = self._file
        return ModbusProfile(
            name=file.name,
            points=tuple(point for name, row in file.points.items() for point in self._points(name, row)),
            settings=tuple(self._setting(name, row) for name, row in file.settings.items()),
            identity={name: self._text(row) for name, row in file.identity.items()},
            match=tuple(ModbusMatch(self._text(row), row.equals) for row in file.match),
            setup=tuple(self._write(row) for row in file.setup),
            heartbeat=self._write(file.heartbeat) if file.heartbeat else None,
            heartbeat_s=file.heartbeat.every_s if file.heartbeat else 0,
            unit_id=file.unit_id,
            every_s=file.every_s,
            timeout_s=file.timeout_s,
            pause_s=file.pause_s,
            write_pause_s=file.write_pause_s,
            max_registers=file.max_registers,
            max_gap=file.max_gap,
        )

    def _points(self, name: str, row: ReadRow) -> Iterator[ModbusPoint]:
        count = getattr(row, "count", None)
        if count is None:
            yield self._point(name, row, row.address)
            return
        stride = getattr(row, "stride", None) or REGISTERS[row.type]
        for number in range(count):
            yield self._point(f"{name}.{number + 1}", row, row.address + number * stride)

    def _point(self, name: str, row: ReadRow, address: int) -> ModbusPoint:
        register = self._register(row, address)
        ranges = ((one, one) if isinstance(one, int) else one for one in row.missing)
        exponent = getattr(row, "exponent", None)
        return ModbusPoint(
            point=name,
            register=register,
            scale=row.scale,
            offset=row.offset,
            missing=tuple((signed_missing(register, low), signed_missing(register, high)) for low, high in ranges),
            labels=row.labels,
            every_s=getattr(row, "every_s", None),
            exponent=None if exponent is None else Register(register.table, exponent, "int16"),
        )

    def _setting(self, name: str, row: SettingRow) -> ModbusSetting:
        register = self._register(row, row.address)
        if isinstance(row.read_back, ReadRow):
            read_back: ModbusPoint | None = self._point(name, row.read_back, row.read_back.address)
        elif row.read_back == "none":
            read_back = None
        else:
            read_back = ModbusPoint(name, register, row.scale, row.offset)
        return ModbusSetting(
            point=name,
            register=register,
            min=row.min,
            max=row.max,
            step=row.step,
            zero=row.zero,
            scale=row.scale,
            offset=row.offset,
            values=row.values,
            safe=row.safe,
            refresh_s=row.refresh_s,
            read_back=read_back,
            function=row.function or self._file.function,
        )

    def _write(self, row: WriteRow) -> ModbusWrite:
        register = self._register(row, row.address)
        raw = row.value if register.is_float else signed_missing(register, row.value)
        return ModbusWrite(register, raw, row.function or self._file.function)

    def _text(self, row: TextRow) -> TextRegister | Register:
        table: Table = row.table or self._file.table
        if row.type == "string":
            return TextRegister(table, row.address, row.length or 1, row.byte_order)
        if row.type == "hex":
            return TextRegister(table, row.address, row.length or 1, row.byte_order, hex=True)
        order: Order = row.word_order or self._file.word_order
        return Register(table, row.address, row.type, order, row.byte_order)

    def _register(self, row: RegisterRow, address: int) -> Register:
        return Register(
            row.table or self._file.table,
            address,
            row.type,
            row.word_order or self._file.word_order,
            row.byte_order,
            row.bits,
        )
