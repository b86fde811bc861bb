"""Device types of M-Bus meters, and the points that their values are, by quantity, medium and phase."""

from collections.abc import Mapping

from agent.core.model import Number
from drivers.codec.mbus_vif import Meaning

#: Device types of the header ("medium"): runs of codes that follow each other.
MEDIA = {
    first + i: name
    for first, names in (
        (0x00, "other oil electricity gas heat steam warm_water water heat_cost_allocator compressed_air"),
        (0x0A, "cooling cooling_inlet heat_inlet heat_cooling bus unknown"),
        (0x14, "calorific_value hot_water cold_water hot_and_cold_water pressure ad_converter smoke_detector"),
        (0x1B, "room_sensor gas_detector"),
        (0x20, "breaker valve"),
        (0x25, "customer_unit"),
        (0x28, "waste_water garbage"),
        (0x31, "communication_controller unidirectional_repeater bidirectional_repeater"),
        (0x36, "radio_converter_system_side radio_converter_meter_side"),
    )
    for i, name in enumerate(names.split())
}

_ELECTRICITY = {0x02}
_GAS = {0x03}
_HEAT = {0x04, 0x0C, 0x0D}
_COOLING = {0x0A, 0x0B}
_HEAT_AND_COOLING = 0x0D
_WATER = {0x06, 0x07, 0x15, 0x16, 0x17}
_MAX_TARIFF = 9

_J: Number = 1 / 3600  #: J in Wh, J/h in W
#: What a value is multiplied with to be in the point's unit.
_UNITS: Mapping[str, Mapping[str, Number]] = {
    "_wh": {"Wh": 1, "kWh": 1000, "MWh": 1_000_000, "J": _J, "kJ": 1000 * _J, "MJ": 1e6 * _J, "GJ": 1e9 * _J},
    "_w": {"W": 1, "kW": 1000, "MW": 1_000_000, "J/h": _J, "kJ/h": 1000 * _J, "MJ/h": 1e6 * _J, "GJ/h": 1e9 * _J},
    "_m3": {"m^3": 1, "l": 0.001, "ml": 1e-6},
    "_m3_h": {"m^3/h": 1, "m^3/min": 60, "m^3/s": 3600, "l/h": 0.001, "ml/h": 1e-6},
    "_varh": {"varh": 1},
    "_var": {"var": 1},
    "_va": {"VA": 1},
    "_v": {"V": 1},
    "_a": {"A": 1},
    "_hz": {"Hz": 1},
    "_degc": {"°C": 1},
    "_k": {"K": 1},
    "_s": {"s": 1},
    "_pct": {"%": 1},
}

#: Quantities that are one point whatever the medium: its name without the unit, and its unit.
_ANY_MEDIUM = {
    "volume_flow": ("volume_flow", "_m3_h"),
    "flow_temperature": ("flow_temperature", "_degc"),
    "return_temperature": ("return_temperature", "_degc"),
    "temperature_difference": ("temperature_difference", "_k"),
    "operating": ("operating", "_s"),
    "humidity": ("humidity", "_pct"),
}
#: Quantities of electricity, with the phases that the vocabulary knows them for.
_WAYS = ("import", "export")
_LINES, _BETWEEN = ("l1", "l2", "l3"), ("l1_l2", "l2_l3", "l3_l1")
_ELECTRICAL = {
    "power": ("power", "_w", _LINES),
    "voltage": ("voltage", "_v", _LINES + _BETWEEN),
    "current": ("current", "_a", (*_LINES, "n")),
    "frequency": ("frequency", "_hz", ()),
    "reactive_power": ("reactive_power", "_var", _LINES),
    "apparent_power": ("apparent_power", "_va", _LINES),
    "reactive_energy": ("reactive_energy", "_varh", ()),
}


def point_of(meaning: Meaning, medium: int | None, tariff: int) -> tuple[str, Number] | None:
    """The point of a present value and the factor from its unit to the point's; None when it is none.

    ``medium`` is the device type of the telegram's header, None where it has none.
    """
    found = _tariff(meaning, medium, tariff) if tariff else _total(meaning, medium)
    if found is None:
        return None
    name, suffix = found
    factor = _UNITS[suffix].get(meaning.unit or "")
    return None if factor is None else (f"{name}{suffix}.{tariff}" if tariff else f"{name}{suffix}", factor)


def _tariff(meaning: Meaning, medium: int | None, tariff: int) -> tuple[str, str] | None:
    """A tariff's register: the vocabulary has them for electricity."""
    if medium not in _ELECTRICITY or tariff > _MAX_TARIFF or meaning.quantity != "energy":
        return None
    direction = {"": "import", "import": "import", "export": "export"}.get(meaning.detail)
    return (f"energy_{direction}_tariff", "_wh") if direction else None


def _total(meaning: Meaning, medium: int | None) -> tuple[str, str] | None:
    quantity, detail = meaning.quantity, meaning.detail
    if quantity == "energy":
        return _energy(detail, medium)
    if medium in _ELECTRICITY and quantity in _ELECTRICAL:
        return _electrical(quantity, detail)
    if detail:
        return None
    if quantity == "volume":
        return ("gas_" if medium in _GAS else "water_" if medium in _WATER else "") + "volume", "_m3"
    if quantity == "power" and medium in _HEAT | _COOLING:
        return "power", "_w"
    return _ANY_MEDIUM.get(quantity)


def _energy(detail: str, medium: int | None) -> tuple[str, str] | None:
    if medium in _ELECTRICITY:
        direction, _, phase = detail.partition("_")
        if direction in _LINES and not phase:
            direction, phase = "import", direction
        if direction not in {"", *_WAYS} or phase not in {"", *_LINES}:
            return None
        return f"energy_{direction or 'import'}" + (f"_{phase}" if phase else ""), "_wh"
    if medium == _HEAT_AND_COOLING and detail == "export":
        return "cooling_energy", "_wh"
    if detail not in {"", "import"}:
        return None
    return ("heat_energy", "_wh") if medium in _HEAT else ("cooling_energy", "_wh") if medium in _COOLING else None


def _electrical(quantity: str, detail: str) -> tuple[str, str] | None:
    name, suffix, phases = _ELECTRICAL[quantity]
    if quantity == "reactive_energy":
        detail = detail or "import"  # a register counts what is drawn, if nothing else is said
    elif quantity == "power":
        direction, _, phase = detail.partition("_")
        detail = phase if direction in _WAYS else detail
        name = f"{name}_{direction}" if direction in _WAYS else name
    known = _WAYS if quantity == "reactive_energy" else phases
    return (f"{name}_{detail}" if detail else name, suffix) if detail in {"", *known} else None
