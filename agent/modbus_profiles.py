"""Modbus device models as data: ``config/profiles/*.yaml`` with ``driver: modbus``.

Rules of a profile:

1. Addresses are those of the wire, from 0. ``table`` and ``word_order`` at the top hold for all rows that say nothing.
2. Value in the point's unit = raw * ``scale`` + ``offset``. Signs are the house's: positive = drawn from the site, so a
   PV inverter that counts what it gives has ``scale: -1``.
3. ``missing`` names raw values that mean "not there" (hexadecimal as the maker writes them), of ``bits`` the number
   that these make, of floats the number itself. NaN, the infinities and BCD digits above 9 are never readings.
4. ``settings`` are registers that are written. A device that is never commanded is never written to: ``setup`` and
   ``heartbeat`` begin with the first command.
5. Labels of ``charger_status`` are those of OCPP 1.6 ChargePointStatus.
"""

from typing import Annotated, Literal

from pydantic import Field

from agent.yamlfile import Section
from drivers.codec.registers import Order, RegisterType, Table

Address = Annotated[int, Field(ge=0, le=0xFFFF)]
Raw = int | tuple[int, int]


class RegisterRow(Section):
    """Where a number lies."""

    address: Address = Field(alias="register", description="address on the wire, from 0", examples=[52])
    table: Table | None = Field(default=None, description="holding, input, coil or discrete; default: the profile's")
    type: RegisterType = Field(default="uint16", description="what its words are", examples=["float32"])
    word_order: Order | None = Field(default=None, description="big: high word first; default: the profile's")
    byte_order: Order = Field(default="big", description="little: the bytes of each register are swapped")
    bits: tuple[Annotated[int, Field(ge=0, le=63)], Annotated[int, Field(ge=1, le=64)]] | None = Field(
        default=None, description="only these bits: [lowest, how many]"
    )


class ReadRow(RegisterRow):
    """A register that is read, and what its value means."""

    scale: int | float = Field(
        default=1, description="factor from the raw value to the point's unit; -1 turns the sign"
    )
    offset: int | float = Field(default=0, description="added after the factor")
    missing: tuple[Raw, ...] = Field(
        default=(), max_length=16, description="raw values, or ranges [first, last] of them, that mean `not there`"
    )
    labels: dict[int, str] = Field(default_factory=dict, description="names of raw values")


class PointRow(ReadRow):
    """One line of ``points``."""

    every_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="how often it is read, where that is slower than the device"
    )
    exponent: Address | None = Field(
        default=None, description="address of an int16: the value is multiplied with ten to its power"
    )
    count: Annotated[int, Field(ge=1, le=1000)] | None = Field(default=None, description="how many an array has")
    stride: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="registers from one of an array to the next; default: as many as the type takes"
    )


class SettingRow(RegisterRow):
    """One line of ``settings``."""

    min: int | float = Field(default=0, description="least value, in the point's unit")
    max: int | float = Field(default=1, description="largest value")
    step: int | float = Field(default=0, description="values between are rounded down to it; 0: as the register allows")
    zero: bool = Field(default=False, description="0 is allowed although it is below `min`: off")
    scale: int | float = Field(default=1, description="raw = (value - offset) / scale")
    offset: int | float = Field(default=0, description="see scale")
    values: dict[int, int] = Field(default_factory=dict, description="raw value for each value, where it is a choice")
    safe: int | float | None = Field(default=None, description="what to set when nobody can decide any more")
    refresh_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="the last value is written again this often, for the device forgets it"
    )
    read_back: ReadRow | Literal["none"] | None = Field(
        default=None, description="what is read after a write; default: the written register; none: nothing can be read"
    )
    function: Literal["single", "multiple"] | None = Field(
        default=None, description="function code 6 (5) or 16 (15); default: the profile's"
    )


class TextRow(Section):
    """One line of ``identity``: text, or a number."""

    address: Address = Field(alias="register", description="address on the wire, from 0", examples=[40004])
    table: Table | None = Field(default=None, description="holding or input; default: the profile's")
    type: RegisterType | Literal["string", "hex"] = Field(default="string", description="what its words are")
    length: Annotated[int, Field(ge=1, le=125)] | None = Field(default=None, description="registers of a text")
    word_order: Order | None = Field(default=None, description="big: high word first; default: the profile's")
    byte_order: Order = Field(default="big", description="little: the bytes of each register are swapped")


class MatchRow(TextRow):
    """One line of ``match``."""

    equals: int | str | tuple[Raw | str, ...] = Field(
        description="the raw value, or how the text begins; a list of those and of ranges [first, last]: any of them",
        examples=[112],
    )


class WriteRow(RegisterRow):
    """One line of ``setup``."""

    value: int = Field(description="raw value", examples=[1])
    function: Literal["single", "multiple"] | None = Field(
        default=None, description="function code 6 (5) or 16 (15); default: the profile's"
    )


class HeartbeatRow(WriteRow):
    """What is written so that the device knows that we live."""

    every_s: Annotated[float, Field(gt=0)] = Field(description="how often", examples=[10])


class ModbusProfileFile(Section):
    """A file of ``config/profiles`` with ``driver: modbus``."""

    name: str = Field(description="the file's name without .yaml", examples=["my_meter"])
    driver: Literal["modbus"] = Field(description="what reads it; always modbus", examples=["modbus"])
    kind: Literal["meter", "charger", "inverter", "battery", "other"] = Field(
        description="what it is", examples=["meter"]
    )
    maker: str = Field(description="who makes it", examples=["Acme"])
    model: str = Field(description="what it is called, with the variants that the profile fits", examples=["M1"])
    source: str = Field(description="where the facts come from, so that the next person can check them")
    unit_id: Annotated[int, Field(ge=0, le=255)] = Field(default=1, description="unit address as it leaves the factory")
    table: Table = Field(default="holding", description="table of rows that name none")
    word_order: Order = Field(default="big", description="word order of rows that name none")
    function: Literal["single", "multiple"] = Field(default="multiple", description="how it is written to")
    every_s: Annotated[float, Field(gt=0, le=86_400)] = Field(default=5, description="how often it is read")
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(default=1, description="how long an answer may take")
    pause_s: Annotated[float, Field(ge=0, le=5)] = Field(
        default=0, description="silence that it needs between questions"
    )
    write_pause_s: Annotated[float, Field(ge=0, le=60)] = Field(
        default=0, description="least time from one write to the next; who sets something waits for it"
    )
    max_registers: Annotated[int, Field(ge=1, le=125)] = Field(
        default=125, description="registers that a question may ask for"
    )
    max_gap: Annotated[int, Field(ge=0, le=100)] = Field(
        default=8, description="unwanted registers that may be read along; 0 for devices that refuse holes"
    )
    identity: dict[Literal["serial", "model", "firmware", "maker", "hardware"], TextRow] = Field(
        default_factory=dict, description="what it says of itself, read once"
    )
    match: tuple[MatchRow, ...] = Field(default=(), description="what tells it from other models; all must hold")
    setup: tuple[WriteRow, ...] = Field(default=(), description="written before the first command")
    heartbeat: HeartbeatRow | None = Field(default=None, description="written again and again after the first command")
    points: dict[str, PointRow] = Field(min_length=1, description="which point is which register")
    settings: dict[str, SettingRow] = Field(default_factory=dict, description="which point is set by which register")
