"""SunSpec models as tables: which of their points we read, and what these mean in the house's words.

Rules of this file:

1. Offsets count from the model's ID register, as in the definitions of the SunSpec Alliance (sunspec/models); a test
   holds the rows against them. ``sf`` is the offset of the scale factor; a point without one has none.
2. Each type has its own value for "not implemented" (Device Information Model Specification 1.1, 4.3). An accumulator
   that is 0 is not implemented.
3. An inverter counts what it gives as positive, a house what is drawn: active and reactive power of inverters, and what
   flows on their DC side, turn their sign. AC currents stay as the device gives them: most give magnitudes.
4. The definitions do not say which way current and power of a battery bank (802) count. They are left out.
5. Nothing is written: limiting an inverter (123) takes three registers that must change together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.core.model import Number
from drivers.codec.registers import REGISTERS, RegisterType
from drivers.modbus.model import Part

SunspecType = Literal["int16", "uint16", "enum16", "acc32", "uint32", "bitfield32", "uint64", "float32"]

#: How a type is read, and the raw values (first, last) that mean "not implemented". A float says it with NaN.
TYPES: Mapping[SunspecType, tuple[RegisterType, tuple[tuple[int, int], ...]]] = {
    "int16": ("int16", ((-0x8000, -0x8000),)),
    "uint16": ("uint16", ((0xFFFF, 0xFFFF),)),
    "enum16": ("uint16", ((0xFFFF, 0xFFFF),)),
    "acc32": ("uint32", ((0, 0),)),
    "uint32": ("uint32", ((0xFFFFFFFF, 0xFFFFFFFF),)),
    "bitfield32": ("uint32", ((0x80000000, 0xFFFFFFFF),)),
    "uint64": ("uint64", ((0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF),)),
    "float32": ("float32", ()),
}

_ENERGY_S = 30.0  #: counters move slowly
_FIXED_S = 3600.0  #: ratings do not move


@dataclass(frozen=True, slots=True)
class Row:
    """A point of a model: our point, SunSpec's name, where it lies, and how it becomes our point's unit."""

    point: str
    name: str
    offset: int
    type: SunspecType
    sf: int | None = None
    scale: Number = 1
    every_s: float | None = None
    labels: Mapping[int, str] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The first offset behind it and its scale factor: a model must be at least as long."""
        return max(self.offset + REGISTERS[TYPES[self.type][0]], 0 if self.sf is None else self.sf + 1)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text of the common model."""

    name: str
    offset: int
    count: int


COMMON = 1
IDENTITY = {
    "maker": TextRow("Mn", 2, 16),
    "model": TextRow("Md", 18, 16),
    "firmware": TextRow("Vr", 42, 8),
    "serial": TextRow("SN", 50, 16),
}

_STATE = {
    1: "Off",
    2: "Sleeping",
    3: "Starting",
    4: "MPPT",
    5: "Throttled",
    6: "Shutting down",
    7: "Fault",
    8: "Standby",
}
_STATE_701 = {
    0: "Off",
    1: "Sleeping",
    2: "Starting",
    3: "Running",
    4: "Throttled",
    5: "Shutting down",
    6: "Fault",
    7: "Standby",
}
_CHARGE_STATE = {1: "Off", 2: "Empty", 3: "Discharging", 4: "Charging", 5: "Full", 6: "Holding", 7: "Testing"}
_BANK_STATE = {
    1: "Disconnected",
    2: "Initializing",
    3: "Connected",
    4: "Standby",
    5: "SoC protection",
    6: "Suspending",
    99: "Fault",
}

_INVERTER = (
    Row("power_w", "W", 14, "int16", 15, -1),
    Row("apparent_power_va", "VA", 18, "int16", 19),
    Row("reactive_power_var", "VAr", 20, "int16", 21, -1),
    Row("power_factor", "PF", 22, "int16", 23, 0.01),
    Row("current_a", "A", 2, "uint16", 6),
    Row("current_l1_a", "AphA", 3, "uint16", 6),
    Row("current_l2_a", "AphB", 4, "uint16", 6),
    Row("current_l3_a", "AphC", 5, "uint16", 6),
    Row("voltage_l1_l2_v", "PPVphAB", 7, "uint16", 13),
    Row("voltage_l2_l3_v", "PPVphBC", 8, "uint16", 13),
    Row("voltage_l3_l1_v", "PPVphCA", 9, "uint16", 13),
    Row("voltage_l1_v", "PhVphA", 10, "uint16", 13),
    Row("voltage_l2_v", "PhVphB", 11, "uint16", 13),
    Row("voltage_l3_v", "PhVphC", 12, "uint16", 13),
    Row("frequency_hz", "Hz", 16, "uint16", 17),
    Row("energy_export_wh", "WH", 24, "acc32", 26, 1, _ENERGY_S),
    Row("dc_current_a", "DCA", 27, "uint16", 28, -1),
    Row("dc_voltage_v", "DCV", 29, "uint16", 30),
    Row("dc_power_w", "DCW", 31, "int16", 32, -1),
    Row("temperature_degc", "TmpCab", 33, "int16", 37),
    Row("temperature_sensor_degc.1", "TmpCab", 33, "int16", 37),
    Row("temperature_sensor_degc.2", "TmpSnk", 34, "int16", 37),
    Row("temperature_sensor_degc.3", "TmpTrns", 35, "int16", 37),
    Row("temperature_sensor_degc.4", "TmpOt", 36, "int16", 37),
    Row("inverter_status", "St", 38, "enum16", labels=_STATE),
    Row("fault_code", "Evt1", 40, "bitfield32"),
)

_INVERTER_FLOAT = (
    Row("power_w", "W", 22, "float32", scale=-1),
    Row("apparent_power_va", "VA", 26, "float32"),
    Row("reactive_power_var", "VAr", 28, "float32", scale=-1),
    Row("power_factor", "PF", 30, "float32", scale=0.01),
    Row("current_a", "A", 2, "float32"),
    Row("current_l1_a", "AphA", 4, "float32"),
    Row("current_l2_a", "AphB", 6, "float32"),
    Row("current_l3_a", "AphC", 8, "float32"),
    Row("voltage_l1_l2_v", "PPVphAB", 10, "float32"),
    Row("voltage_l2_l3_v", "PPVphBC", 12, "float32"),
    Row("voltage_l3_l1_v", "PPVphCA", 14, "float32"),
    Row("voltage_l1_v", "PhVphA", 16, "float32"),
    Row("voltage_l2_v", "PhVphB", 18, "float32"),
    Row("voltage_l3_v", "PhVphC", 20, "float32"),
    Row("frequency_hz", "Hz", 24, "float32"),
    Row("energy_export_wh", "WH", 32, "float32", every_s=_ENERGY_S),
    Row("dc_current_a", "DCA", 34, "float32", scale=-1),
    Row("dc_voltage_v", "DCV", 36, "float32"),
    Row("dc_power_w", "DCW", 38, "float32", scale=-1),
    Row("temperature_degc", "TmpCab", 40, "float32"),
    Row("temperature_sensor_degc.1", "TmpCab", 40, "float32"),
    Row("temperature_sensor_degc.2", "TmpSnk", 42, "float32"),
    Row("temperature_sensor_degc.3", "TmpTrns", 44, "float32"),
    Row("temperature_sensor_degc.4", "TmpOt", 46, "float32"),
    Row("inverter_status", "St", 48, "enum16", labels=_STATE),
    Row("fault_code", "Evt1", 50, "bitfield32"),
)

_INVERTER_701 = (
    Row("power_w", "W", 10, "int16", 116, -1),
    Row("power_l1_w", "WL1", 41, "int16", 116, -1),
    Row("power_l2_w", "WL2", 64, "int16", 116, -1),
    Row("power_l3_w", "WL3", 87, "int16", 116, -1),
    Row("apparent_power_va", "VA", 11, "int16", 118),
    Row("apparent_power_l1_va", "VAL1", 42, "int16", 118),
    Row("apparent_power_l2_va", "VAL2", 65, "int16", 118),
    Row("apparent_power_l3_va", "VAL3", 88, "int16", 118),
    Row("reactive_power_var", "Var", 12, "int16", 119, -1),
    Row("reactive_power_l1_var", "VarL1", 43, "int16", 119, -1),
    Row("reactive_power_l2_var", "VarL2", 66, "int16", 119, -1),
    Row("reactive_power_l3_var", "VarL3", 89, "int16", 119, -1),
    Row("power_factor", "PF", 13, "int16", 117),
    Row("power_factor_l1", "PFL1", 44, "int16", 117),
    Row("power_factor_l2", "PFL2", 67, "int16", 117),
    Row("power_factor_l3", "PFL3", 90, "int16", 117),
    Row("current_a", "A", 14, "int16", 113),
    Row("current_l1_a", "AL1", 45, "int16", 113),
    Row("current_l2_a", "AL2", 68, "int16", 113),
    Row("current_l3_a", "AL3", 91, "int16", 113),
    Row("voltage_l1_l2_v", "VL1L2", 46, "uint16", 114),
    Row("voltage_l2_l3_v", "VL2L3", 69, "uint16", 114),
    Row("voltage_l3_l1_v", "VL3L1", 92, "uint16", 114),
    Row("voltage_l1_v", "VL1", 47, "uint16", 114),
    Row("voltage_l2_v", "VL2", 70, "uint16", 114),
    Row("voltage_l3_v", "VL3", 93, "uint16", 114),
    Row("frequency_hz", "Hz", 17, "uint32", 115),
    Row("energy_export_wh", "TotWhInj", 19, "uint64", 120, 1, _ENERGY_S),
    Row("energy_import_wh", "TotWhAbs", 23, "uint64", 120, 1, _ENERGY_S),
    Row("energy_export_l1_wh", "TotWhInjL1", 48, "uint64", 120, 1, _ENERGY_S),
    Row("energy_export_l2_wh", "TotWhInjL2", 71, "uint64", 120, 1, _ENERGY_S),
    Row("energy_export_l3_wh", "TotWhInjL3", 94, "uint64", 120, 1, _ENERGY_S),
    Row("energy_import_l1_wh", "TotWhAbsL1", 52, "uint64", 120, 1, _ENERGY_S),
    Row("energy_import_l2_wh", "TotWhAbsL2", 75, "uint64", 120, 1, _ENERGY_S),
    Row("energy_import_l3_wh", "TotWhAbsL3", 98, "uint64", 120, 1, _ENERGY_S),
    Row("temperature_degc", "TmpCab", 36, "int16", 122),
    Row("temperature_sensor_degc.1", "TmpCab", 36, "int16", 122),
    Row("temperature_sensor_degc.2", "TmpSnk", 37, "int16", 122),
    Row("temperature_sensor_degc.3", "TmpTrns", 38, "int16", 122),
    Row("temperature_sensor_degc.4", "TmpOt", 40, "int16", 122),
    Row("inverter_status", "InvSt", 4, "enum16", labels=_STATE_701),
    Row("fault_code", "Alrm", 6, "bitfield32"),
)

#: What is drawn counts as positive (energy that is drawn is "imported"), so nothing turns; see EXPORT_POSITIVE.
_METER = (
    Row("power_w", "W", 18, "int16", 22),
    Row("power_l1_w", "WphA", 19, "int16", 22),
    Row("power_l2_w", "WphB", 20, "int16", 22),
    Row("power_l3_w", "WphC", 21, "int16", 22),
    Row("apparent_power_va", "VA", 23, "int16", 27),
    Row("apparent_power_l1_va", "VAphA", 24, "int16", 27),
    Row("apparent_power_l2_va", "VAphB", 25, "int16", 27),
    Row("apparent_power_l3_va", "VAphC", 26, "int16", 27),
    Row("reactive_power_var", "VAR", 28, "int16", 32),
    Row("reactive_power_l1_var", "VARphA", 29, "int16", 32),
    Row("reactive_power_l2_var", "VARphB", 30, "int16", 32),
    Row("reactive_power_l3_var", "VARphC", 31, "int16", 32),
    Row("power_factor", "PF", 33, "int16", 37, 0.01),
    Row("power_factor_l1", "PFphA", 34, "int16", 37, 0.01),
    Row("power_factor_l2", "PFphB", 35, "int16", 37, 0.01),
    Row("power_factor_l3", "PFphC", 36, "int16", 37, 0.01),
    Row("current_a", "A", 2, "int16", 6),
    Row("current_l1_a", "AphA", 3, "int16", 6),
    Row("current_l2_a", "AphB", 4, "int16", 6),
    Row("current_l3_a", "AphC", 5, "int16", 6),
    Row("voltage_l1_v", "PhVphA", 8, "int16", 15),
    Row("voltage_l2_v", "PhVphB", 9, "int16", 15),
    Row("voltage_l3_v", "PhVphC", 10, "int16", 15),
    Row("voltage_l1_l2_v", "PhVphAB", 12, "int16", 15),
    Row("voltage_l2_l3_v", "PhVphBC", 13, "int16", 15),
    Row("voltage_l3_l1_v", "PhVphCA", 14, "int16", 15),
    Row("frequency_hz", "Hz", 16, "int16", 17),
    Row("energy_export_wh", "TotWhExp", 38, "acc32", 54, 1, _ENERGY_S),
    Row("energy_export_l1_wh", "TotWhExpPhA", 40, "acc32", 54, 1, _ENERGY_S),
    Row("energy_export_l2_wh", "TotWhExpPhB", 42, "acc32", 54, 1, _ENERGY_S),
    Row("energy_export_l3_wh", "TotWhExpPhC", 44, "acc32", 54, 1, _ENERGY_S),
    Row("energy_import_wh", "TotWhImp", 46, "acc32", 54, 1, _ENERGY_S),
    Row("energy_import_l1_wh", "TotWhImpPhA", 48, "acc32", 54, 1, _ENERGY_S),
    Row("energy_import_l2_wh", "TotWhImpPhB", 50, "acc32", 54, 1, _ENERGY_S),
    Row("energy_import_l3_wh", "TotWhImpPhC", 52, "acc32", 54, 1, _ENERGY_S),
    Row("warning_code", "Evt", 105, "bitfield32"),
)

_METER_FLOAT = (
    Row("power_w", "W", 28, "float32"),
    Row("power_l1_w", "WphA", 30, "float32"),
    Row("power_l2_w", "WphB", 32, "float32"),
    Row("power_l3_w", "WphC", 34, "float32"),
    Row("apparent_power_va", "VA", 36, "float32"),
    Row("apparent_power_l1_va", "VAphA", 38, "float32"),
    Row("apparent_power_l2_va", "VAphB", 40, "float32"),
    Row("apparent_power_l3_va", "VAphC", 42, "float32"),
    Row("reactive_power_var", "VAR", 44, "float32"),
    Row("reactive_power_l1_var", "VARphA", 46, "float32"),
    Row("reactive_power_l2_var", "VARphB", 48, "float32"),
    Row("reactive_power_l3_var", "VARphC", 50, "float32"),
    Row("power_factor", "PF", 52, "float32"),
    Row("power_factor_l1", "PFphA", 54, "float32"),
    Row("power_factor_l2", "PFphB", 56, "float32"),
    Row("power_factor_l3", "PFphC", 58, "float32"),
    Row("current_a", "A", 2, "float32"),
    Row("current_l1_a", "AphA", 4, "float32"),
    Row("current_l2_a", "AphB", 6, "float32"),
    Row("current_l3_a", "AphC", 8, "float32"),
    Row("voltage_l1_v", "PhVphA", 12, "float32"),
    Row("voltage_l2_v", "PhVphB", 14, "float32"),
    Row("voltage_l3_v", "PhVphC", 16, "float32"),
    Row("voltage_l1_l2_v", "PPVphAB", 20, "float32"),
    Row("voltage_l2_l3_v", "PPVphBC", 22, "float32"),
    Row("voltage_l3_l1_v", "PPVphCA", 24, "float32"),
    Row("frequency_hz", "Hz", 26, "float32"),
    Row("energy_export_wh", "TotWhExp", 60, "float32", every_s=_ENERGY_S),
    Row("energy_export_l1_wh", "TotWhExpPhA", 62, "float32", every_s=_ENERGY_S),
    Row("energy_export_l2_wh", "TotWhExpPhB", 64, "float32", every_s=_ENERGY_S),
    Row("energy_export_l3_wh", "TotWhExpPhC", 66, "float32", every_s=_ENERGY_S),
    Row("energy_import_wh", "TotWhImp", 68, "float32", every_s=_ENERGY_S),
    Row("energy_import_l1_wh", "TotWhImpPhA", 70, "float32", every_s=_ENERGY_S),
    Row("energy_import_l2_wh", "TotWhImpPhB", 72, "float32", every_s=_ENERGY_S),
    Row("energy_import_l3_wh", "TotWhImpPhC", 74, "float32", every_s=_ENERGY_S),
    Row("warning_code", "Evt", 124, "bitfield32"),
)

_NAMEPLATE = (
    Row("rated_power_w", "WRtg", 3, "uint16", 4, 1, _FIXED_S),
    Row("energy_capacity_wh", "WHRtg", 19, "uint16", 20, 1, _FIXED_S),
)
_STATUS = (Row("isolation_resistance_ohm", "Ris", 44, "uint16", 45),)
_STORAGE = (
    Row("soc_pct", "ChaState", 8, "uint16", 22),
    Row("voltage_v", "InBatV", 10, "uint16", 24),
    Row("bms_state", "ChaSt", 11, "enum16", labels=_CHARGE_STATE),
)
_STORAGE_713 = (
    Row("energy_capacity_wh", "WHRtg", 2, "uint16", 7, 1, _FIXED_S),
    Row("energy_remaining_wh", "WHAvail", 3, "uint16", 7),
    Row("soc_pct", "SoC", 4, "uint16", 8),
    Row("soh_pct", "SoH", 5, "uint16", 8),
)
_BANK = (
    Row("capacity_ah", "AHRtg", 2, "uint16", 52, 1, _FIXED_S),
    Row("energy_capacity_wh", "WHRtg", 3, "uint16", 53, 1, _FIXED_S),
    Row("soc_pct", "SoC", 11, "uint16", 56),
    Row("soh_pct", "SoH", 13, "uint16", 58),
    Row("cycles", "NCyc", 14, "uint32", every_s=_ENERGY_S),
    Row("bms_state", "State", 22, "enum16", labels=_BANK_STATE),
    Row("fault_code", "Evt1", 26, "bitfield32"),
    Row("voltage_v", "V", 34, "uint16", 59),
    Row("cell_voltage_max_v", "CellVMax", 37, "uint16", 60),
    Row("cell_voltage_min_v", "CellVMin", 40, "uint16", 60),
    Row("cell_voltage_mean_v", "CellVAvg", 43, "uint16", 60),
    Row("charge_current_limit_a", "AChaMax", 45, "uint16", 62),
    Row("discharge_current_limit_a", "ADisChaMax", 46, "uint16", 62),
)
_LITHIUM_BANK = (
    Row("temperature_max_degc", "ModTmpMax", 4, "int16", 23),
    Row("temperature_min_degc", "ModTmpMin", 7, "int16", 23),
    Row("temperature_degc", "ModTmpAvg", 10, "int16", 23),
)

#: What we read of a model, whatever its part.
MODELS: Mapping[int, tuple[Row, ...]] = {
    **dict.fromkeys((101, 102, 103), _INVERTER),
    **dict.fromkeys((111, 112, 113), _INVERTER_FLOAT),
    701: _INVERTER_701,
    120: _NAMEPLATE,
    122: _STATUS,
    124: _STORAGE,
    713: _STORAGE_713,
    802: _BANK,
    803: _LITHIUM_BANK,
    **dict.fromkeys((201, 202, 203, 204), _METER),
    **dict.fromkeys((211, 212, 213, 214), _METER_FLOAT),
}

#: Models of which any one makes a device this part; the first in the chain counts.
MAIN: Mapping[Part, frozenset[int]] = {
    "inverter": frozenset({101, 102, 103, 111, 112, 113, 701}),
    "meter": frozenset({201, 202, 203, 204, 211, 212, 213, 214}),
    "battery": frozenset({802, 713, 124}),
}
#: Models that add to it.
EXTRA: Mapping[Part, frozenset[int]] = {
    "inverter": frozenset({120, 122, 124, 160, 713, 802, 803}),
    "meter": frozenset(),
    "battery": frozenset({802, 803, 713, 124}),
}
#: What a battery's models say of the pack alone: beside an inverter it would be taken for the inverter's.
PACK_ONLY = frozenset({"voltage_v"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """Model 160: one group of registers for each DC input."""

    model: int = 160
    count: int = 8  #: offset of the number of groups
    first: int = 10  #: offset of the first group
    stride: int = 20
    name: TextRow = field(default_factory=lambda: TextRow("IDStr", 1, 8))  #: within a group
    #: Offsets of the values within a group, of their scale factors within the model.
    rows: tuple[Row, ...] = (
        Row("string_current_a", "DCA", 9, "uint16", 2, -1),
        Row("string_voltage_v", "DCV", 10, "uint16", 3),
        Row("string_power_w", "DCW", 11, "uint16", 4, -1),
    )


INPUTS = Inputs()
#: How inputs are named that are no strings but the battery (Fronius GEN24: ``StCha 3``, ``StDisCha 4``).
STORAGE_INPUTS = ("StCha", "StDisCha")
#: Makers whose meters count what is given to the grid as positive (evcc turns it, too).
EXPORT_POSITIVE = ("SolarEdge",)
#: What turns with it.
TURNED = ("power_w", "power_l", "reactive_power_")
