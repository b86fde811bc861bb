"""The messages of ``dbc/pylontech_lv.dbc`` that a battery sends, made from the simulated battery."""

from collections.abc import Iterator

from drivers.sim.battery import CHARGE_VOLTAGE_LIMIT_V, DISCHARGE_VOLTAGE_LIMIT_V, SENSORS, Battery
from drivers.sim.packing import Field, Layout, Values

_SIGNATURE = int.from_bytes(b"PN", "little")
_MANUFACTURER = int.from_bytes(b"PYLON", "little")
#: Bits of 0x359, and which alarm sets each.
_PROTECTION = {
    "OvervoltageProtection": (1, "fault_overvoltage"),
    "UndervoltageProtection": (2, "fault_undervoltage"),
    "OvertemperatureProtection": (3, "fault_overtemperature"),
    "UndertemperatureProtection": (4, "fault_undertemperature"),
    "HighVoltageAlarm": (17, "warning_overvoltage"),
    "LowVoltageAlarm": (18, "warning_undervoltage"),
    "HighTemperatureAlarm": (19, "warning_overtemperature"),
    "LowTemperatureAlarm": (20, "warning_undertemperature"),
}


def _parameters(battery: Battery, _: int) -> Iterator[Values]:
    yield {
        "ChargeVoltageLimit": CHARGE_VOLTAGE_LIMIT_V,
        "ChargeCurrentLimit": battery.charge_limit_a,
        "DischargeCurrentLimit": battery.discharge_limit_a,
        "DischargeVoltageLimit": DISCHARGE_VOLTAGE_LIMIT_V,
    }


def _soc(battery: Battery, _: int) -> Iterator[Values]:
    yield {"SoC": battery.soc_pct, "SoH": battery.soh_pct}


def _pylon_measurements(battery: Battery, _: int) -> Iterator[Values]:
    mean_degc = sum(battery.temperatures_degc) / SENSORS
    yield {"Voltage": battery.voltage_v, "Current": battery.current_a, "Temperature": mean_degc}


def _protection(battery: Battery, _: int) -> Iterator[Values]:
    alarms = battery.alarms
    bits = {name: alarm in alarms for name, (_, alarm) in _PROTECTION.items()}
    yield {**bits, "ModuleCount": 1, "Signature": _SIGNATURE}


def _requests(battery: Battery, _: int) -> Iterator[Values]:
    yield {"DischargeEnabled": battery.discharge_limit_a > 0, "ChargeEnabled": battery.charge_limit_a > 0}


def _manufacturer(_: Battery, __: int) -> Iterator[Values]:
    yield {"ManufacturerText": _MANUFACTURER}


def pylontech_lv() -> tuple[Layout, ...]:
    """All messages of a Pylontech-style battery."""
    current = {"ChargeCurrentLimit": Field(16, 16, 0.1, signed=True)}
    current["DischargeCurrentLimit"] = Field(32, 16, 0.1, signed=True)
    voltage = {"ChargeVoltageLimit": Field(0, 16, 0.1), "DischargeVoltageLimit": Field(48, 16, 0.1)}
    bits = {name: Field(bit, 1) for name, (bit, _) in _PROTECTION.items()}
    measured = {
        "Voltage": Field(0, 16, 0.01, signed=True),
        "Current": Field(16, 16, 0.1, signed=True),
        "Temperature": Field(32, 16, 0.1, signed=True),
    }
    counts = {"ModuleCount": Field(32, 8), "Signature": Field(40, 16)}
    return (
        Layout(0x351, 8, 1000, {**voltage, **current}, _parameters),
        Layout(0x355, 4, 1000, {"SoC": Field(0, 16), "SoH": Field(16, 16)}, _soc),
        Layout(0x356, 6, 1000, measured, _pylon_measurements),
        Layout(0x359, 7, 1000, {**bits, **counts}, _protection),
        Layout(0x35C, 2, 1000, {"DischargeEnabled": Field(6, 1), "ChargeEnabled": Field(7, 1)}, _requests),
        Layout(0x35E, 8, 1000, {"ManufacturerText": Field(0, 40)}, _manufacturer),
    )
