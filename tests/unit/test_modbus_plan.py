"""Modbus devices are put on their wires, and what can't be on one wire is refused."""

import subprocess
import sys
from dataclasses import replace

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import ConfigError
from drivers.codec.registers import Register
from drivers.modbus.model import ModbusDevice, ModbusPoint, ModbusProfile, ModbusSetting
from drivers.modbus.plan import plan_modbus
from drivers.modbus.settings import ModbusUrl

METER = ModbusProfile("meter", (ModbusPoint("power_w", Register("holding", 10, "int32")),))
CHARGER = ModbusProfile(
    "charger",
    (ModbusPoint("current_a", Register("input", 0, "uint16"), scale=0.1),),
    (ModbusSetting("current_limit_a", Register("holding", 5, "uint16"), 6, 32),),
)
TTY = ModbusUrl.parse("rtu:///dev/ttyUSB0?baud=9600")
TCP = ModbusUrl.parse("tcp://10.0.0.9")


def device(name: str, unit_id: int, profile: ModbusProfile | None = METER) -> ModbusDevice:
    return ModbusDevice(name, profile, unit_id)


def test_devices_of_one_url_share_a_wire() -> None:
    found = plan_modbus([(device("a", 1), TTY), (device("b", 2), TTY), (device("c", 1, CHARGER), TCP)])
    assert [(wire.name, [one.id for one in wire.devices]) for wire in found.wires] == [
        ("/dev/ttyUSB0", ["a", "b"]),
        ("tcp://10.0.0.9:502", ["c"]),
    ]
    assert [spec.full_name for spec in found.specs] == ["a.power_w", "b.power_w", "c.current_a"]
    assert found.specs[2].scale == 0.1


def test_a_wire_is_equal_when_nothing_about_it_changed() -> None:
    before = plan_modbus([(device("a", 1), TTY), (device("c", 1, CHARGER), TCP)])
    same = plan_modbus(
        [(device("c", 1, replace(CHARGER)), TCP), (device("a", 1), ModbusUrl.parse("rtu:///dev/ttyUSB0"))]
    )
    assert set(map(repr, same.wires)) == set(map(repr, before.wires))
    assert same.wires[0] == before.wires[1]
    changed = plan_modbus([(replace(device("a", 1), every_s=1), TTY)])
    assert changed.wires[0] != before.wires[0]


@pytest.mark.parametrize(
    ("url", "unit_id", "text"),
    [
        ("rtu:///dev/ttyUSB0?baud=9600", 1, "device b: unit 1 on /dev/ttyUSB0 is device a already"),
        (
            "rtu:///dev/ttyUSB0?baud=19200",
            2,
            "device b: 19200 baud 8N1, but device a on the same wire has 9600 baud 8N1",
        ),
        ("rtu:///dev/ttyUSB0?parity=E", 2, "device b: 9600 baud 8E1, but device a"),
        ("rtu:///dev/ttyUSB1", 0, "device b: unit 0 is for broadcasts: nobody answers"),
    ],
)
def test_what_can_not_be_on_one_wire_is_refused(url: str, unit_id: int, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_modbus([(device("a", 1), TTY), (device("b", unit_id), ModbusUrl.parse(url))])
    assert str(caught.value).startswith(text)
    assert caught.value.hint


def test_one_serial_server_is_not_both_kinds_at_once() -> None:
    with pytest.raises(ConfigError, match=r"rtu\+tcp://, but device a on the same wire has tcp://"):
        plan_modbus([(device("a", 1), TCP), (device("b", 2), ModbusUrl.parse("rtu+tcp://10.0.0.9:502"))])


def test_a_point_outside_of_the_vocabulary_is_refused() -> None:
    profile = replace(METER, points=(replace(METER.points[0], point="power"),))
    with pytest.raises(ConfigError, match="point power is not in the vocabulary"):
        plan_modbus([(device("a", 1, profile), TCP)])


def test_pollers_know_their_units_and_what_can_be_set() -> None:
    found = plan_modbus([(device("a", 1), TTY), (device("s", 3, None), TTY), (device("c", 1, CHARGER), TCP)])
    ids = {(spec.device, spec.name): number for number, spec in enumerate(found.specs, 1)}
    serial, tcp = found.pollers(ids, FakeClock())
    assert [list(unit.signals) for unit in serial.units] == [[1], []]
    assert (serial.name, serial.max_retry_s, tcp.max_retry_s) == ("/dev/ttyUSB0", 3.0, 5.0)
    assert list(tcp.commandables) == ["c"]
    assert tcp.commandables["c"].settings["current_limit_a"].unit == "A"
    assert not serial.commandables


def test_an_empty_plan() -> None:
    assert plan_modbus([]).wires == ()
    assert plan_modbus([]).specs == []


def test_the_library_is_loaded_when_a_wire_is_opened() -> None:
    code = "import sys, drivers.modbus.plan; print('pymodbus' in sys.modules, 'serial' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_parts_of_one_sunspec_unit_are_devices_of_their_own() -> None:
    inverter, meter = (ModbusDevice(name, None, 1, part=part) for name, part in (("pv", "inverter"), ("m", "meter")))  # type: ignore[arg-type]
    (wire,) = plan_modbus([(inverter, TCP), (meter, TCP)]).wires
    assert wire.devices == (inverter, meter)
    for other in (replace(meter, part="inverter"), replace(meter, part=None)):
        with pytest.raises(ConfigError, match="is device pv already"):
            plan_modbus([(inverter, TCP), (other, TCP)])
