"""What is written for a value, and whether what is read back says the same. Pure: nothing here speaks to a device.

Rules of this file:

1. A value between two that the device can take is rounded down to the lower one: a limit is never set above what was
   asked.
2. What is read back must agree within one step of the coarser of both registers: devices round in their own way.
"""

import math
from dataclasses import dataclass

from agent.core.model import Number
from agent.core.ports import Setting
from drivers.codec.registers import Register, Table, words_of
from drivers.modbus.model import ModbusPoint, ModbusSetting, ModbusWrite

_SINGLE = {"holding": 6, "coil": 5}
_MULTIPLE = {"holding": 16, "coil": 15}
#: 0.3 / 0.1 is a trifle below 3.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Write:
    """One writing question: ``words`` (of coils: 0 or 1) from ``address`` on, by a function code."""

    table: Table
    address: int
    words: tuple[int, ...]
    function: int


def allowed(setting: Setting | ModbusSetting, value: Number) -> Number | None:
    """The value that can be set for one that is asked for, rounded down to the step; None when it is out of range."""
    if setting.zero and value == 0:
        return 0
    if not setting.min <= value <= setting.max:
        return None
    if not setting.step:
        return value
    steps = math.floor(value / setting.step + _ROUNDING)
    return max(steps * setting.step, setting.min)


def raw_of(value: Number, scale: Number, offset: Number, *, whole: bool) -> Number:
    """The raw value for a physical one: value = raw * scale + offset, rounded down to what a whole number can say."""
    raw = (value - offset) / scale
    if not whole:
        return raw
    return math.floor(raw + _ROUNDING * max(1.0, abs(raw))) if scale > 0 else math.ceil(raw - _ROUNDING * abs(raw))


def setting_raw(setting: ModbusSetting, value: Number) -> Number:
    """The raw value that sets an allowed value. Raises ``ValueError`` for one that is no choice of the device."""
    if setting.values:
        for known, raw in setting.values.items():
            if known == value:
                return raw
        raise ValueError(f"{value} is none of {', '.join(map(str, setting.values))}")
    return raw_of(value, setting.scale, setting.offset, whole=not setting.register.is_float)


def write_of(setting: ModbusSetting, value: Number) -> Write:
    """The question that sets an allowed value. Raises ``ValueError`` when the register can't hold it."""
    return _write(setting.register, setting_raw(setting, value), setting.function)


def plain_write(write: ModbusWrite) -> Write:
    """The question of a set-up or heartbeat line."""
    return _write(write.register, write.value, write.function)


def read_value(setting: ModbusSetting, raw: Number) -> Number | None:
    """The physical value that a raw one of the read-back register says; None when it is no choice that we know."""
    back = setting.read_back
    if setting.values and (back is None or back.register == setting.register):
        return next((value for value, known in setting.values.items() if known == raw), None)
    return raw if back is None else physical(back, raw)


def agrees(setting: ModbusSetting, wanted: Number, read: Number) -> bool:
    """Whether a value that was read back is the one that was set."""
    if setting.values and (setting.read_back is None or setting.read_back.register == setting.register):
        return read == wanted
    within = abs(setting.scale)
    if setting.read_back is not None:
        within = max(within, abs(setting.read_back.scale))
    return abs(read - wanted) <= within * (1 + _ROUNDING)


def physical(point: ModbusPoint, raw: Number) -> Number:
    """The value of a raw number in the point's unit."""
    return raw if point.scale == 1 and point.offset == 0 else raw * point.scale + point.offset


def setting_of(device: str, setting: ModbusSetting, unit: str) -> Setting:
    """What the rules know of a setting."""
    return Setting(
        device=device,
        point=setting.point,
        unit=unit,
        min=setting.min,
        max=setting.max,
        step=setting.step,
        zero=setting.zero,
        safe=setting.safe,
        refresh_s=setting.refresh_s,
    )


def _write(register: Register, raw: Number, function: str) -> Write:
    codes = _SINGLE if function == "single" else _MULTIPLE
    return Write(register.table, register.address, words_of(register, raw), codes[register.table])
