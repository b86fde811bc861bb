"""The messages of ``dbc/demo_pack.dbc``, made from the simulated battery."""

from collections.abc import Iterator

from drivers.sim.battery import (
    CAPACITY_AH,
    CELLS,
    CHARGE_VOLTAGE_LIMIT_V,
    DISCHARGE_VOLTAGE_LIMIT_V,
    SENSORS,
    Battery,
    State,
)
from drivers.sim.packing import Field, Layout, Values

NOMINAL_CELL_V = 3.2
STATE_NUMBERS = {State.IDLE: 2, State.CHARGING: 3, State.DISCHARGING: 4, State.FAULT: 5}
DEMO_FAULTS = (
    "overvoltage",
    "undervoltage",
    "overtemperature",
    "undertemperature",
    "charge_overcurrent",
    "discharge_overcurrent",
    "imbalance",
    "isolation",
    "communication",
    "system",
)
DEMO_WARNINGS = DEMO_FAULTS[:6]
_CELLS_PER_GROUP = 4


def _measurements(battery: Battery, counter: int) -> Iterator[Values]:
    voltage_v, current_a = battery.voltage_v, battery.current_a
    power_w = voltage_v * current_a
    yield {"Voltage": voltage_v, "Current": current_a, "Power": power_w, "AliveCounter": counter}


def _state(battery: Battery, _: int) -> Iterator[Values]:
    yield {
        "SoC": battery.soc_pct,
        "SoH": battery.soh_pct,
        "State": STATE_NUMBERS[battery.state],
        "MainContactor": battery.closed,
        "PrechargeContactor": 0,
        "ChargeEnabled": battery.charge_limit_a > 0,
        "DischargeEnabled": battery.discharge_limit_a > 0,
        "Balancing": battery.balancing,
        "EnergyRemaining": battery.soc_pct / 100 * CAPACITY_AH * CELLS * NOMINAL_CELL_V,
    }


def _cells(battery: Battery, _: int) -> Iterator[Values]:
    voltages = battery.cell_voltages_v
    for first in range(0, CELLS, _CELLS_PER_GROUP):
        group = {f"Cell_{cell + 1}": voltages[cell] for cell in range(first, first + _CELLS_PER_GROUP)}
        yield {"CellGroup": first // _CELLS_PER_GROUP, **group}


def _temperatures(battery: Battery, _: int) -> Iterator[Values]:
    yield {f"Sensor_{number}": degc for number, degc in enumerate(battery.temperatures_degc, start=1)}


def _limits(battery: Battery, _: int) -> Iterator[Values]:
    yield {
        "ChargeCurrentLimit": battery.charge_limit_a,
        "DischargeCurrentLimit": battery.discharge_limit_a,
        "ChargeVoltageLimit": CHARGE_VOLTAGE_LIMIT_V,
        "DischargeVoltageLimit": DISCHARGE_VOLTAGE_LIMIT_V,
    }


def _extremes(battery: Battery, _: int) -> Iterator[Values]:
    voltages, temperatures = battery.cell_voltages_v, battery.temperatures_degc
    yield {
        "MaxCellVoltage": max(voltages),
        "MaxCellNumber": voltages.index(max(voltages)) + 1,
        "MinCellVoltage": min(voltages),
        "MinCellNumber": voltages.index(min(voltages)) + 1,
        "MaxTemperature": max(temperatures),
        "MaxTemperatureSensor": temperatures.index(max(temperatures)) + 1,
        "MinTemperature": min(temperatures),
        "MinTemperatureSensor": temperatures.index(min(temperatures)) + 1,
    }


def _faults(battery: Battery, _: int) -> Iterator[Values]:
    alarms = battery.alarms
    yield {
        **{_pascal(f"fault_{name}"): f"fault_{name}" in alarms for name in DEMO_FAULTS},
        **{_pascal(f"warning_{name}"): f"warning_{name}" in alarms for name in DEMO_WARNINGS},
        "AnyFault": any(name.startswith("fault_") for name in alarms),
        "AnyWarning": any(name.startswith("warning_") for name in alarms),
    }


def _energy(battery: Battery, _: int) -> Iterator[Values]:
    yield {"EnergyCharged": battery.charged_wh, "EnergyDischarged": battery.discharged_wh}


def _capacity(battery: Battery, _: int) -> Iterator[Values]:
    yield {
        "CapacityFull": CAPACITY_AH,
        "ChargeRemaining": battery.soc_pct / 100 * CAPACITY_AH,
        "Cycles": battery.cycles,
        "EnergyFull": CAPACITY_AH * CELLS * NOMINAL_CELL_V,
    }


def demo_pack() -> tuple[Layout, ...]:
    """All messages of the demo pack."""
    cells = {f"Cell_{cell + 1}": Field(8 + 14 * (cell % _CELLS_PER_GROUP), 14, 0.0005) for cell in range(CELLS)}
    return (
        Layout(
            0x1A0,
            7,
            100,
            {
                "Voltage": Field(0, 16, 0.01),
                "Current": Field(16, 16, 0.1, signed=True),
                "Power": Field(32, 16, signed=True),
                "AliveCounter": Field(48, 8),
            },
            _measurements,
        ),
        Layout(
            0x1A1,
            8,
            500,
            {
                "SoC": Field(0, 16, 0.01),
                "SoH": Field(16, 8, 0.5),
                "State": Field(24, 4),
                "MainContactor": Field(28, 1),
                "PrechargeContactor": Field(29, 1),
                "ChargeEnabled": Field(30, 1),
                "DischargeEnabled": Field(31, 1),
                "Balancing": Field(32, 1),
                "EnergyRemaining": Field(40, 24),
            },
            _state,
        ),
        Layout(0x1A2, 8, 200, {"CellGroup": Field(0, 8), **cells}, _cells),
        Layout(0x1A3, 8, 1000, {f"Sensor_{n + 1}": Field(8 * n, 8, 0.5, -40) for n in range(SENSORS)}, _temperatures),
        Layout(
            0x1A4,
            8,
            1000,
            {
                "ChargeCurrentLimit": Field(0, 16, 0.1),
                "DischargeCurrentLimit": Field(16, 16, 0.1),
                "ChargeVoltageLimit": Field(32, 16, 0.01),
                "DischargeVoltageLimit": Field(48, 16, 0.01),
            },
            _limits,
        ),
        Layout(
            0x1A5,
            8,
            500,
            {
                "MaxCellVoltage": Field(0, 14, 0.0005),
                "MaxCellNumber": Field(14, 5),
                "MinCellVoltage": Field(19, 14, 0.0005),
                "MinCellNumber": Field(33, 5),
                "MaxTemperature": Field(38, 8, 0.5, -40),
                "MaxTemperatureSensor": Field(46, 4),
                "MinTemperature": Field(50, 8, 0.5, -40),
                "MinTemperatureSensor": Field(58, 4),
            },
            _extremes,
        ),
        Layout(
            0x1A6,
            4,
            500,
            {
                **{_pascal(f"fault_{name}"): Field(bit, 1) for bit, name in enumerate(DEMO_FAULTS)},
                **{_pascal(f"warning_{name}"): Field(bit, 1) for bit, name in enumerate(DEMO_WARNINGS, start=16)},
                "AnyFault": Field(30, 1),
                "AnyWarning": Field(31, 1),
            },
            _faults,
        ),
        Layout(0x1A7, 8, 5000, {"EnergyCharged": Field(0, 32), "EnergyDischarged": Field(32, 32)}, _energy),
        Layout(
            0x1A8,
            8,
            5000,
            {
                "CapacityFull": Field(0, 16, 0.1),
                "ChargeRemaining": Field(16, 16, 0.1),
                "Cycles": Field(32, 16),
                "EnergyFull": Field(48, 16),
            },
            _capacity,
        ),
    )


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
