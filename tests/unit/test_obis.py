"""OBIS codes: their groups, the points that they are, and what follows from a whole telegram."""

import pytest

from agent.core.points import find_point
from drivers.codec import obis
from drivers.codec.obis import Obis, derive, parse_obis, point_of, settle
from drivers.codec.telegram import Reading


@pytest.mark.parametrize(
    ("code", "groups"),
    [
        ("1-0:1.8.0*255", Obis(1, 0, "1", "8", 0, 255)),
        ("0-1:24.2.1", Obis(0, 1, "24", "2", 1, None)),
        ("1.8.0&04", Obis(None, None, "1", "8", 0, 4)),
        ("C.7.0", Obis(None, None, "C", "7", 0, None)),
        ("F.F", Obis(None, None, "F", "F", None, None)),
        ("32.7", Obis(None, None, "32", "7", None, None)),
        ("1-0:1,8.0", None),
        ("1-01.8.0", None),
        ("", None),
        ("1.8.0 ", None),
    ],
)
def test_a_code_has_groups(code: str, groups: Obis | None) -> None:
    assert parse_obis(code) == groups


@pytest.mark.parametrize(
    ("code", "unit", "point"),
    [
        ("1-0:1.8.0*255", "kWh", ("energy_import_wh", 1000)),
        ("1-0:2.8.2", "Wh", ("energy_export_tariff_wh.2", 1)),
        ("1-0:1.8.10", "kWh", None),
        ("1-0:1.8.0*12", "kWh", None),
        ("1-2:1.8.0", "kWh", None),
        ("7-0:1.8.0", "kWh", None),
        ("1-0:1.8.0", None, None),
        ("1-0:1.8.0", "kVArh", None),
        ("1-0:21.8.0", "kWh", ("energy_import_l1_wh", 1000)),
        ("1-0:21.8.1", "kWh", None),
        ("16.7", "kW", ("power_w", 1000)),
        ("1-0:1.7.255*255", "W", ("power_import_w", 1)),
        ("1-0:1.7.0", "MW", ("power_import_w", 1_000_000)),
        ("1-0:1.7.0", "mW", ("power_import_w", 0.001)),
        ("1-0:3.7.0", "kvar", ("reactive_power_import_var", 1000)),
        ("1-0:64.7.0", "VAr", ("reactive_power_export_l3_var", 1)),
        ("1-0:3.8.0", "kVArh", ("reactive_energy_import_varh", 1000)),
        ("1-0:49.7.0", "kVA", ("apparent_power_l2_va", 1000)),
        ("1-0:13.7.0", None, ("power_factor", 1)),
        ("1-0:73.7.0", "", ("power_factor_l3", 1)),
        ("1-0:91.7.0", "A", ("current_n_a", 1)),
        ("1-0:31.7.0", "mA", ("current_l1_a", 0.001)),
        ("1-0:1.4.0", "kW", ("power_demand_w", 1000)),
        ("1-0:1.6.0", "kW", ("power_demand_max_w", 1000)),
        ("1-0:15.7.0", "kW", None),
        ("0-0:96.14.0", None, ("tariff", 1)),
        ("1-0:96.14.0*255", None, ("tariff", 1)),
        ("0-0:96.7.21", None, ("power_failures", 1)),
        ("0-0:96.7.9", None, None),
        ("0-0:96.3.10", None, ("relay", 1)),
        ("0-1:96.3.10", None, None),
        ("C.7.0", None, ("power_failures", 1)),
        ("C.7.1", None, None),
        ("nonsense", "kWh", None),
    ],
)
def test_a_code_with_its_unit_is_a_point(code: str, unit: str | None, point: tuple[str, float] | None) -> None:
    assert point_of(code, unit) == point


def test_every_point_is_in_the_vocabulary() -> None:
    names = {*obis._POINTS.values(), *obis._STATES.values(), *(name for name, _ in obis._ABSOLUTE.values())}
    names |= {f"{name}.1" for name in obis._TARIFFS.values()}
    assert [name for name in sorted(names) if find_point(name) is None] == []
    given = {name: 1 for name in names if not name.startswith(("power_w", "power_l", "energy_import_wh"))}
    assert [name for name in derive(given.items()) if find_point(name) is None] == []


# --- what a whole telegram says --------------------------------------------------------------------------------------

ABSOLUTE = Reading("15.7.0", 1.5, "kW")
ENERGY = Reading("1-0:15.8.0*255", 7, "kWh")


def test_absolute_power_is_power_where_no_export_is_counted() -> None:
    imported = Reading("1.8.0", 5, "kWh", "energy_import_wh", 1000)
    assert settle([imported, ABSOLUTE]) == (imported, Reading("15.7.0", 1.5, "kW", "power_w", 1000))
    assert settle([ENERGY]) == (Reading("1-0:15.8.0*255", 7, "kWh", "energy_import_wh", 1000),)


@pytest.mark.parametrize(
    "other",
    [
        Reading("2.8.0", 0, "kWh", "energy_export_wh", 1000),
        Reading("2.8.0", 0),
        Reading("1-0:22.7.0*255", 0, "W"),
        Reading("2.7.0", 0, "kW", "power_export_w", 1000),
        Reading("16.7.0", 0, "kW", "power_w", 1000),
        Reading("1.7.0", 0, "kW", "power_import_w", 1000),
        Reading("36.7.0", 0, "kW", "power_l1_w", 1000),
    ],
)
def test_absolute_power_is_none_where_export_is_counted(other: Reading) -> None:
    assert settle([other, ABSOLUTE]) == (other, ABSOLUTE)


@pytest.mark.parametrize(
    "reading",
    [
        Reading("1-2:15.7.0", 1, "kW"),
        Reading("15.7.1", 1, "kW"),
        Reading("15.7.0*01", 1, "kW"),
        Reading("15.7.0", 1),
        Reading("15.6.0", 1, "kW"),
        Reading("1-0:115.7.0", 1, "kW"),
    ],
)
def test_another_register_is_no_absolute_power(reading: Reading) -> None:
    assert settle([reading]) == (reading,)


@pytest.mark.parametrize(
    ("value", "point", "means"),
    [
        (4.556, "power_factor", False),
        (-1.01, "power_factor_l2", False),
        (-1, "power_factor", True),
        ("2", "relay", False),
        (0, "relay", True),
    ],
)
def test_a_value_that_can_not_be_means_no_point(value: float | str, point: str, means: bool) -> None:  # noqa: FBT001
    (found,) = settle([Reading("1-0:13.7.0", value, None, point)])
    assert (found.point, found.value) == (point if means else None, value)


@pytest.mark.parametrize(
    ("given", "derived"),
    [
        ({"power_import_w": 5, "power_export_w": 0}, {"power_w": 5}),
        ({"power_import_w": 0, "power_export_w": 5}, {"power_w": -5}),
        ({"power_import_w": -5}, {"power_w": -5}),
        ({"power_export_w": 5}, {}),
        ({"power_w": 7, "power_import_w": 5, "power_export_w": 0}, {}),
        (
            {"reactive_power_import_var": 3, "reactive_power_export_var": 4},
            {"reactive_power_var": -1},
        ),
        (
            {"power_import_l1_w": 1, "power_export_l1_w": 2, "power_l2_w": 5},
            {"power_l1_w": -1, "power_w": 4},
        ),
        ({"power_w": 9, "power_l2_w": 5}, {}),
        ({"voltage_l1_v": 230, "current_l1_a": 2}, {"voltage_v": 230, "current_a": 2}),
        ({"voltage_l1_v": 230, "voltage_l3_v": 231}, {}),
        ({"voltage_l1_v": 230, "voltage_v": 229}, {}),
        ({"energy_import_tariff_wh.1": 1, "energy_import_tariff_wh.2": 2}, {"energy_import_wh": 3}),
        ({"energy_import_tariff_wh.1": 1, "energy_import_wh": 5}, {}),
        ({"energy_export_tariff_wh.4": 1}, {"energy_export_wh": 1}),
        ({}, {}),
    ],
)
def test_points_follow_from_others(given: dict[str, float], derived: dict[str, float]) -> None:
    assert derive(given.items()) == given | derived
