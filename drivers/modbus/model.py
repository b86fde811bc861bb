"""A device model on Modbus, as data: what a profile of ``config/profiles`` says. Nothing here reads a wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.core.model import Number
from drivers.codec.registers import Register, TextRegister

#: Devices that a SunSpec chain can describe side by side.
Part = Literal["inverter", "meter", "battery"]

MAX_REGISTERS = 125  #: registers that one answer can carry (Modbus Application Protocol V1.1b3, 6.3)


@dataclass(frozen=True, slots=True)
class ModbusPoint:
    """A register that is read. Value in the point's unit = raw * ``scale`` + ``offset``; with ``exponent`` also times
    ten to the power of that register (SunSpec). Raw values in the inclusive ranges of ``missing`` are no readings.
    """  # noqa: D205 - one sentence

    point: str
    register: Register
    scale: Number = 1
    offset: Number = 0
    missing: tuple[tuple[int, int], ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    every_s: float | None = None  #: how often, where it is slower than the device
    exponent: Register | None = None


@dataclass(frozen=True, slots=True)
class ModbusSetting:
    """A register that is written. raw = (value - ``offset``) / ``scale``, or ``values[value]`` where that is given.

    ``read_back`` is read after a write and must say the same (in its own scale); None: the device has nothing to read.
    ``refresh_s``: the last value is written again this often, for the device forgets it.
    """

    point: str
    register: Register
    min: Number
    max: Number
    step: Number = 0
    zero: bool = False
    scale: Number = 1
    offset: Number = 0
    values: Mapping[int, int] = field(default_factory=dict)
    safe: Number | None = None
    refresh_s: float | None = None
    read_back: ModbusPoint | None = None
    function: Literal["single", "multiple"] = "multiple"


@dataclass(frozen=True, slots=True)
class ModbusWrite:
    """A raw value that is written as it stands: set-up before the first command, or a heartbeat."""

    register: Register
    value: int
    function: Literal["single", "multiple"] = "multiple"


@dataclass(frozen=True, slots=True)
class ModbusMatch:
    """What tells a device of this model from others, for ``enlace scan``: raw value, or how its text begins.

    Of a tuple any may hold; a pair in it is a range of raw values with its ends.
    """

    register: Register | TextRegister
    equals: int | str | tuple[int | str | tuple[int, int], ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """How the text may begin."""
        items = self.equals if isinstance(self.equals, tuple) else (self.equals,)
        return tuple(one for one in items if isinstance(one, str))

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Between what the raw value may lie."""
        items = self.equals if isinstance(self.equals, tuple) else (self.equals,)
        return tuple((one, one) if isinstance(one, int) else one for one in items if not isinstance(one, str))


@dataclass(frozen=True, slots=True)
class ModbusProfile:
    """All that is known of a model. A device that is never commanded is never written to: ``setup`` and ``heartbeat``
    begin with the first command.
    """  # noqa: D205 - one sentence

    name: str
    points: tuple[ModbusPoint, ...]
    settings: tuple[ModbusSetting, ...] = ()
    identity: Mapping[str, TextRegister | Register] = field(default_factory=dict)
    match: tuple[ModbusMatch, ...] = ()
    setup: tuple[ModbusWrite, ...] = ()
    heartbeat: ModbusWrite | None = None
    heartbeat_s: float = 0
    unit_id: int = 1
    every_s: float = 5
    timeout_s: float = 1
    pause_s: float = 0  #: silence between two questions that the device needs
    write_pause_s: float = 0  #: from one write to the next at least
    max_registers: int = MAX_REGISTERS  #: that one question may ask for
    max_gap: int = 8  #: registers that nobody wants may be read along, to save a question; 0: never


@dataclass(frozen=True, slots=True)
class ModbusDevice:
    """A configured device."""

    id: str
    profile: ModbusProfile | None  #: None: SunSpec, its blocks are discovered
    unit_id: int = 1
    every_s: float = 5
    timeout_s: float = 1
    part: Part | None = None  #: which of several SunSpec devices behind one unit id
