"""The closed list of point names: what a device profile may map its readings to.

One unit per quantity, as the name's suffix. Positive power and current = drawn by the device from the site: a battery
is positive while charging, a grid meter while importing, PV is negative. Arrays (cells, sensors, strings, phases where
a device numbers them) take ``.N`` from 1 behind the name.
"""

from dataclasses import dataclass

from agent.core.model import Kind


@dataclass(frozen=True, slots=True)
class Point:
    """A name of the vocabulary: its unit, kind and one-line meaning. ``array`` = ``name.N`` is the N-th of many."""

    name: str
    unit: str
    kind: Kind
    doc: str
    array: bool = False


_G, _C, _S = Kind.GAUGE, Kind.COUNTER, Kind.STATE

_ALL = (
    # Electrical quantities of any device
    Point("power_w", "W", _G, "active power, positive = drawn from the site"),
    Point("power_l1_w", "W", _G, "active power of phase L1"),
    Point("power_l2_w", "W", _G, "active power of phase L2"),
    Point("power_l3_w", "W", _G, "active power of phase L3"),
    Point("reactive_power_var", "var", _G, "reactive power"),
    Point("apparent_power_va", "VA", _G, "apparent power"),
    Point("power_factor", "", _G, "power factor, -1 to 1"),
    Point("voltage_v", "V", _G, "voltage; of a pack its terminal voltage"),
    Point("voltage_l1_v", "V", _G, "voltage L1 to neutral"),
    Point("voltage_l2_v", "V", _G, "voltage L2 to neutral"),
    Point("voltage_l3_v", "V", _G, "voltage L3 to neutral"),
    Point("current_a", "A", _G, "current, positive = drawn from the site (a battery: charging)"),
    Point("current_l1_a", "A", _G, "current of phase L1"),
    Point("current_l2_a", "A", _G, "current of phase L2"),
    Point("current_l3_a", "A", _G, "current of phase L3"),
    Point("frequency_hz", "Hz", _G, "mains frequency"),
    Point("energy_import_wh", "Wh", _C, "energy register: drawn from the site"),
    Point("energy_export_wh", "Wh", _C, "energy register: given to the site"),
    # Batteries
    Point("soc_pct", "%", _G, "state of charge"),
    Point("soh_pct", "%", _G, "state of health"),
    Point("charge_voltage_limit_v", "V", _G, "highest voltage that the BMS allows while charging"),
    Point("discharge_voltage_limit_v", "V", _G, "lowest voltage that the BMS allows while discharging"),
    Point("charge_current_limit_a", "A", _G, "highest charging current that the BMS allows now, positive"),
    Point("discharge_current_limit_a", "A", _G, "highest discharging current that the BMS allows now, positive"),
    Point("charge_power_limit_w", "W", _G, "highest charging power that the BMS allows now, positive"),
    Point("discharge_power_limit_w", "W", _G, "highest discharging power that the BMS allows now, positive"),
    Point("temperature_degc", "°C", _G, "temperature of the device; of a pack its mean"),
    Point("temperature_max_degc", "°C", _G, "hottest of the pack's sensors"),
    Point("temperature_min_degc", "°C", _G, "coldest of the pack's sensors"),
    Point("temperature_sensor_degc", "°C", _G, "temperature of the N-th sensor", array=True),
    Point("cell_voltage_v", "V", _G, "voltage of the N-th cell", array=True),
    Point("cell_voltage_max_v", "V", _G, "highest cell voltage"),
    Point("cell_voltage_min_v", "V", _G, "lowest cell voltage"),
    Point("cell_voltage_mean_v", "V", _G, "mean cell voltage"),
    Point("cell_voltage_max_index", "", _S, "number of the cell with the highest voltage"),
    Point("cell_voltage_min_index", "", _S, "number of the cell with the lowest voltage"),
    Point("temperature_max_index", "", _S, "number of the hottest sensor"),
    Point("temperature_min_index", "", _S, "number of the coldest sensor"),
    Point("cell_resistance_ohm", "Ω", _G, "highest internal resistance of a cell"),
    Point("isolation_resistance_ohm", "Ω", _G, "isolation resistance of the high-voltage side to earth"),
    Point("capacity_ah", "Ah", _G, "capacity of the pack"),
    Point("charge_remaining_ah", "Ah", _G, "charge left in the pack"),
    Point("energy_remaining_wh", "Wh", _G, "energy left in the pack"),
    Point("energy_capacity_wh", "Wh", _G, "energy that the full pack holds"),
    Point("cycles", "", _C, "full charge cycles so far"),
    Point("modules", "", _S, "modules or packs that answer the BMS"),
    Point("modules_offline", "", _S, "modules or packs that do not answer the BMS"),
    Point("modules_blocking_charge", "", _S, "modules or packs that do not allow charging"),
    Point("modules_blocking_discharge", "", _S, "modules or packs that do not allow discharging"),
    Point("charge_enabled", "", _S, "the BMS allows charging (0/1)"),
    Point("discharge_enabled", "", _S, "the BMS allows discharging (0/1)"),
    Point("force_charge", "", _S, "the BMS asks to be charged now (0/1)"),
    Point("force_charge_2", "", _S, "the BMS asks to be charged before it must shut down (0/1)"),
    Point("full_charge_request", "", _S, "the BMS asks for a full charge (0/1)"),
    Point("contactor_main", "", _S, "main contactor is closed (0/1)"),
    Point("contactor_precharge", "", _S, "pre-charge contactor is closed (0/1)"),
    Point("balancing", "", _S, "cells are being balanced (0/1)"),
    Point("bms_state", "", _S, "the BMS's own state, with its labels"),
    Point("alive_counter", "", _S, "counter that the device raises with each frame; a standing one means frozen"),
    # Faults and warnings, each 0/1; the device's own text stands in the label
    Point("fault", "", _S, "any fault (0/1)"),
    Point("warning", "", _S, "any warning (0/1)"),
    Point("fault_overvoltage", "", _S, "overvoltage protection (0/1)"),
    Point("fault_undervoltage", "", _S, "undervoltage protection (0/1)"),
    Point("fault_overtemperature", "", _S, "overtemperature protection (0/1)"),
    Point("fault_undertemperature", "", _S, "undertemperature protection (0/1)"),
    Point("fault_charge_overcurrent", "", _S, "charging overcurrent protection (0/1)"),
    Point("fault_discharge_overcurrent", "", _S, "discharging overcurrent protection (0/1)"),
    Point("fault_imbalance", "", _S, "cell imbalance (0/1)"),
    Point("fault_contactor", "", _S, "contactor fault (0/1)"),
    Point("fault_short_circuit", "", _S, "short circuit (0/1)"),
    Point("fault_isolation", "", _S, "isolation fault (0/1)"),
    Point("fault_communication", "", _S, "internal communication fault (0/1)"),
    Point("fault_system", "", _S, "internal system or hardware fault (0/1)"),
    Point("fault_code", "", _S, "the device's own fault code or bit field"),
    Point("warning_overvoltage", "", _S, "voltage is high (0/1)"),
    Point("warning_undervoltage", "", _S, "voltage is low (0/1)"),
    Point("warning_overtemperature", "", _S, "temperature is high (0/1)"),
    Point("warning_undertemperature", "", _S, "temperature is low (0/1)"),
    Point("warning_charge_overcurrent", "", _S, "charging current is high (0/1)"),
    Point("warning_discharge_overcurrent", "", _S, "discharging current is high (0/1)"),
    Point("warning_imbalance", "", _S, "cells drift apart (0/1)"),
    Point("warning_system", "", _S, "internal system or hardware warning (0/1)"),
    Point("warning_communication", "", _S, "internal communication is failing (0/1)"),
    Point("warning_code", "", _S, "the device's own warning code or bit field"),
)

POINTS = {point.name: point for point in _ALL}


def find_point(name: str) -> Point | None:
    """The point of a name, with or without its ``.N``; None when the vocabulary has no such name."""
    base, dot, index = name.partition(".")
    point = POINTS.get(base)
    if point is None:
        return None
    if point.array:
        return point if index.isdecimal() and int(index) >= 1 else None
    return None if dot else point
