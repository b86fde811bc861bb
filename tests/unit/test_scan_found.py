"""What a search has found so far: each once, with an id that stays, and whether it is configured by now."""

import json
from dataclasses import replace
from unittest.mock import Mock

import pytest

from agent import scan_found
from agent.config import Config
from agent.scan_can import FoundBus, Heard
from agent.scan_found import MAX_FOUND, ConfiguredWires, FoundSoFar
from agent.scan_proposal import Product
from drivers.modbus.scan import FoundUnit
from drivers.serial_meter.scan import FoundMeter
from tests.fake_view import KNOCKING

UNIT = FoundUnit("tcp://10.0.0.21:502", 1, ("acme_m1",))


def config(*devices: dict[str, object]) -> Config:
    return Config.model_validate_json(json.dumps({"site": {"id": "a"}, "devices": devices}))


def test_each_is_told_once_with_an_id_that_nobody_has() -> None:
    found = FoundSoFar(["m1_1"])
    found.products["acme_m1"] = Product("Acme", "M1")
    for _ in range(2):
        found.wire("modbus", UNIT)
        found.wire("modbus", replace(UNIT, unit_id=2, models=()))
        found.wire("serial", FoundMeter("/dev/ttyUSB0", "sml", meter="1-77"))
        found.bus(FoundBus("can0", Heard(frozenset({1})), ("pylontech_lv",)))
    told = found.all(config())
    assert [(one.kind, one.entry["id"], one.ready) for one in told] == [
        ("modbus", "m1_1_2", True),
        ("modbus", "modbus_2", False),
        ("serial", "sml_177", True),
        ("can", "pylontech_lv", True),
    ]
    assert told[0].title == "Acme M1"
    assert told[0].yaml == '- {id: m1_1_2, driver: modbus, profile: acme_m1, url: "tcp://10.0.0.21:502", unit_id: 1}'


def test_a_charger_keeps_its_id_when_it_says_more_of_itself() -> None:
    found = FoundSoFar(["cp_0002"])
    found.charger_waits(replace(KNOCKING, boot={}))
    found.charger_waits(KNOCKING)
    (one,) = found.all(config())
    assert one.entry == {"id": "cp_0002_2", "driver": "ocpp", "charge_point_id": "CP-0002"}
    assert one.title == "ACME CP-0002"


@pytest.mark.parametrize("charger", [replace(KNOCKING, device="cp1"), replace(KNOCKING, version="")])
def test_a_charger_that_is_configured_or_was_turned_away_is_not_found(charger: object) -> None:
    found = FoundSoFar([])
    found.charger_waits(charger)  # type: ignore[arg-type] # one of the two
    assert found.all(config()) == []


def test_no_more_are_kept_than_any_site_has() -> None:
    found = FoundSoFar([])
    for unit in range(MAX_FOUND + 5):
        found.wire("modbus", replace(UNIT, unit_id=unit))
    assert len(found.all(config())) == MAX_FOUND


@pytest.mark.parametrize(
    ("entry", "device", "same"),
    [
        (
            {"driver": "modbus", "url": "tcp://10.0.0.21:502", "unit_id": 1},
            {"id": "x", "driver": "modbus", "profile": "p", "url": "tcp://10.0.0.21", "unit_id": 1},
            True,
        ),
        (
            {"driver": "modbus", "url": "tcp://10.0.0.21:502", "unit_id": 2},
            {"id": "x", "driver": "modbus", "profile": "p", "url": "tcp://10.0.0.21", "unit_id": 1},
            False,
        ),
        (
            {"driver": "modbus", "url": "rtu:///dev/ttyUSB0?baud=9600", "unit_id": 7},
            {"id": "x", "driver": "modbus", "profile": "p", "url": "rtu:///dev/ttyUSB0?baud=19200"},
            True,
        ),
        (
            {"driver": "serial_meter", "port": "/dev/../dev/ttyS9"},
            {"id": "x", "driver": "serial_meter", "protocol": "sml", "port": "/dev/ttyS9"},
            True,
        ),
        (
            {"driver": "ocpp", "charge_point_id": "CP-1"},
            {"id": "x", "driver": "ocpp", "charge_point_id": "CP-1"},
            True,
        ),
        (
            {"driver": "can", "channel": "can0"},
            {"id": "x", "driver": "can", "channel": "can1", "profile": "p"},
            False,
        ),
    ],
)
def test_whether_it_is_configured_is_told_by_its_wire_not_by_its_name(
    entry: dict[str, object], device: dict[str, object], *, same: bool
) -> None:
    assert ConfiguredWires(config(device)).has(entry) is same


def test_a_hundred_found_devices_are_not_each_held_against_a_hundred_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = FoundSoFar([])
    there = [
        {"id": f"d{unit}", "driver": "modbus", "profile": "p", "url": UNIT.url, "unit_id": unit}
        for unit in range(1, 101)
    ]
    for unit in range(1, 101):
        found.wire("modbus", replace(UNIT, unit_id=unit))
    looked = Mock(wraps=scan_found._wire)
    monkeypatch.setattr(scan_found, "_wire", looked)
    assert all(one.configured for one in found.all(config(*there)))
    assert looked.call_count == 200, "each address is read once: this runs beside control"
