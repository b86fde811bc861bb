"""The closed list of point names: what a device profile may map its readings to.

One unit per quantity, as the name's suffix. Positive power and current = drawn by the device from the site: a battery
is positive while charging, a grid meter while importing, PV is negative. Arrays (cells, sensors, strings, phases where
a device numbers them) take ``.N`` from 1 behind the name. A charger with several outlets says of outlet N
``power_w.2``; the plain name is the whole charger's, and that of a charger with one outlet.
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
    Point("power_import_w", "W", _G, "active power drawn from the site, of a meter that counts both ways apart"),
    Point("power_export_w", "W", _G, "active power given to the site, of a meter that counts both ways apart"),
    Point("power_import_l1_w", "W", _G, "active power drawn on phase L1"),
    Point("power_import_l2_w", "W", _G, "active power drawn on phase L2"),
    Point("power_import_l3_w", "W", _G, "active power drawn on phase L3"),
    Point("power_export_l1_w", "W", _G, "active power given on phase L1"),
    Point("power_export_l2_w", "W", _G, "active power given on phase L2"),
    Point("power_export_l3_w", "W", _G, "active power given on phase L3"),
    Point("reactive_power_var", "var", _G, "reactive power"),
    Point("reactive_power_l1_var", "var", _G, "reactive power of phase L1"),
    Point("reactive_power_l2_var", "var", _G, "reactive power of phase L2"),
    Point("reactive_power_l3_var", "var", _G, "reactive power of phase L3"),
    Point("reactive_power_import_var", "var", _G, "reactive power drawn, of a meter that counts both ways apart"),
    Point("reactive_power_export_var", "var", _G, "reactive power given, of a meter that counts both ways apart"),
    Point("reactive_power_import_l1_var", "var", _G, "reactive power drawn on phase L1"),
    Point("reactive_power_import_l2_var", "var", _G, "reactive power drawn on phase L2"),
    Point("reactive_power_import_l3_var", "var", _G, "reactive power drawn on phase L3"),
    Point("reactive_power_export_l1_var", "var", _G, "reactive power given on phase L1"),
    Point("reactive_power_export_l2_var", "var", _G, "reactive power given on phase L2"),
    Point("reactive_power_export_l3_var", "var", _G, "reactive power given on phase L3"),
    Point("apparent_power_va", "VA", _G, "apparent power"),
    Point("apparent_power_l1_va", "VA", _G, "apparent power of phase L1"),
    Point("apparent_power_l2_va", "VA", _G, "apparent power of phase L2"),
    Point("apparent_power_l3_va", "VA", _G, "apparent power of phase L3"),
    Point("power_factor", "", _G, "power factor, -1 to 1"),
    Point("power_factor_l1", "", _G, "power factor of phase L1"),
    Point("power_factor_l2", "", _G, "power factor of phase L2"),
    Point("power_factor_l3", "", _G, "power factor of phase L3"),
    Point("voltage_v", "V", _G, "voltage; of a pack its terminal voltage"),
    Point("voltage_l1_v", "V", _G, "voltage L1 to neutral"),
    Point("voltage_l2_v", "V", _G, "voltage L2 to neutral"),
    Point("voltage_l3_v", "V", _G, "voltage L3 to neutral"),
    Point("voltage_l1_l2_v", "V", _G, "voltage L1 to L2"),
    Point("voltage_l2_l3_v", "V", _G, "voltage L2 to L3"),
    Point("voltage_l3_l1_v", "V", _G, "voltage L3 to L1"),
    Point("current_a", "A", _G, "current, positive = drawn from the site (a battery: charging)"),
    Point("current_l1_a", "A", _G, "current of phase L1"),
    Point("current_l2_a", "A", _G, "current of phase L2"),
    Point("current_l3_a", "A", _G, "current of phase L3"),
    Point("current_n_a", "A", _G, "current of the neutral conductor"),
    Point("frequency_hz", "Hz", _G, "mains frequency"),
    Point("voltage_thd_pct", "%", _G, "total harmonic distortion of the voltage"),
    Point("current_thd_pct", "%", _G, "total harmonic distortion of the current"),
    Point("power_demand_w", "W", _G, "mean active power of the present demand period"),
    Point("power_demand_max_w", "W", _G, "highest mean active power of a demand period"),
    Point("energy_import_wh", "Wh", _C, "energy register: drawn from the site"),
    Point("energy_export_wh", "Wh", _C, "energy register: given to the site"),
    Point("energy_import_l1_wh", "Wh", _C, "energy register of phase L1: drawn from the site"),
    Point("energy_import_l2_wh", "Wh", _C, "energy register of phase L2: drawn from the site"),
    Point("energy_import_l3_wh", "Wh", _C, "energy register of phase L3: drawn from the site"),
    Point("energy_export_l1_wh", "Wh", _C, "energy register of phase L1: given to the site"),
    Point("energy_export_l2_wh", "Wh", _C, "energy register of phase L2: given to the site"),
    Point("energy_export_l3_wh", "Wh", _C, "energy register of phase L3: given to the site"),
    Point("energy_import_tariff_wh", "Wh", _C, "energy register of the N-th tariff: drawn from the site", array=True),
    Point("energy_export_tariff_wh", "Wh", _C, "energy register of the N-th tariff: given to the site", array=True),
    Point("reactive_energy_import_varh", "varh", _C, "reactive energy register: drawn from the site"),
    Point("reactive_energy_export_varh", "varh", _C, "reactive energy register: given to the site"),
    Point("tariff", "", _S, "tariff in force"),
    Point("power_failures", "", _C, "power failures so far"),
    Point("relay", "", _S, "the device's switch is closed (0/1)"),
    # Water, gas, heat
    Point("gas_volume_m3", "m³", _C, "gas drawn so far"),
    Point("water_volume_m3", "m³", _C, "water drawn so far"),
    Point("volume_m3", "m³", _C, "volume of the medium that went through so far"),
    Point("volume_flow_m3_h", "m³/h", _G, "flow of the medium"),
    Point("heat_energy_wh", "Wh", _C, "heat drawn so far"),
    Point("cooling_energy_wh", "Wh", _C, "cold drawn so far"),
    Point("flow_temperature_degc", "°C", _G, "temperature of the flow"),
    Point("return_temperature_degc", "°C", _G, "temperature of the return"),
    Point("temperature_difference_k", "K", _G, "flow less return"),
    Point("humidity_pct", "%", _G, "relative humidity"),
    Point("operating_s", "s", _C, "time in operation so far"),
    # Chargers
    Point("charger_status", "", _S, "connector state; its labels are those of OCPP 1.6 ChargePointStatus"),
    Point("plugged", "", _S, "a vehicle is plugged in (0/1)"),
    Point("charging", "", _S, "energy flows to the vehicle (0/1)"),
    Point("charging_enabled", "", _S, "the charger lets the vehicle charge (0/1); can be set"),
    Point("current_limit_a", "A", _G, "charging current per phase that the charger may draw; can be set"),
    Point("power_limit_w", "W", _G, "power that the charger or inverter may draw or give; can be set"),
    Point("power_limit_pct", "%", _G, "share of its rated power that the inverter may give; can be set"),
    Point("current_offered_a", "A", _G, "current that the charger offers the vehicle now"),
    Point("power_offered_w", "W", _G, "power that the charger offers the vehicle now"),
    Point("current_max_a", "A", _G, "highest current that the charger's hardware and installation allow"),
    Point("current_min_a", "A", _G, "lowest current that the charger can offer"),
    Point("cable_current_max_a", "A", _G, "highest current that the plugged cable allows"),
    Point("current_failsafe_a", "A", _G, "current that the charger falls back to when nobody speaks to it; can be set"),
    Point("failsafe_timeout_s", "s", _G, "silence after which the charger falls back; can be set"),
    Point("phases", "", _S, "phases in use; can be set where the charger switches"),
    Point("locked", "", _S, "the plug is locked (0/1)"),
    Point("fan_speed_rpm", "rpm", _G, "speed of the device's fan"),
    Point("session_energy_wh", "Wh", _C, "energy of the present charging session"),
    Point("session_duration_s", "s", _C, "length of the present charging session"),
    # Vehicles
    Point("odometer_km", "km", _C, "distance that the vehicle has covered so far"),
    # Inverters
    Point("dc_power_w", "W", _G, "power of the DC side, positive = drawn from the site"),
    Point("dc_voltage_v", "V", _G, "voltage of the DC side"),
    Point("dc_current_a", "A", _G, "current of the DC side, positive = drawn from the site"),
    Point("string_power_w", "W", _G, "power of the N-th string, positive = drawn from the site", array=True),
    Point("string_voltage_v", "V", _G, "voltage of the N-th string", array=True),
    Point("string_current_a", "A", _G, "current of the N-th string, positive = drawn from the site", array=True),
    Point("inverter_status", "", _S, "the inverter's own state, with its labels"),
    Point("rated_power_w", "W", _G, "rated power"),
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
    # The gateway itself
    Point("disk_free_bytes", "B", _G, "room on the disk that holds the data"),
    Point("disk_free_pct", "%", _G, "share of that disk that is free"),
    Point("cpu_pct", "%", _G, "what the program takes of one processor core"),
    Point("memory_bytes", "B", _G, "memory that the program has resident"),
    Point("loop_lag_s", "s", _G, "the longest that something in the program made all else wait"),
    Point("uplink_connected", "", _S, "the broker is connected (0/1)"),
    Point("uplink_duplicate", "", _S, "another client seems to use the gateway's client id at the broker (0/1)"),
    Point("commands_refused", "", _S, "commands come that nobody signed who may command (0/1)"),
    Point("uplink_backlog", "", _G, "records that wait for the central server"),
    Point("clock_good", "", _S, "the machine's clock is set (0/1)"),
    Point("store_ok", "", _S, "what is read can be stored (0/1)"),
    Point("store_full", "", _S, "the disk is full, what is read waits in memory (0/1)"),
    Point("written_bytes", "B", _C, "written to the disk by the program since its start"),
    Point("written_day_bytes", "B", _G, "the same in a day, mean of seven"),
    Point("lost_rows", "", _C, "readings given up before the central server had confirmed them"),
    Point("ledger_pct", "%", _G, "share of the store's quota that is taken by what is never given up"),
    Point("evidence_bytes", "B", _G, "unusable databases that stand aside"),
    Point("notify_failing", "", _G, "channels through which nobody can be told of alarms"),
    Point("certificate_days", "d", _G, "days until the first of the gateway's certificates ends"),
    Point("restarts", "", _C, "restarts of the program's parts since its start"),
)

#: The labels of ``charger_status``: OCPP 1.6 edition 2, 7.7 ChargePointStatus.
CHARGER_STATUS = (
    "Available",
    "Preparing",
    "Charging",
    "SuspendedEVSE",
    "SuspendedEV",
    "Finishing",
    "Reserved",
    "Unavailable",
    "Faulted",
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
