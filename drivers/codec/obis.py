"""OBIS codes (IEC 62056-61 / EN 13757-1) of electricity meters, and the points that they are.

``point_of`` looks at one value, ``settle`` at the readings of a whole telegram, ``derive`` at their points: the signed
power of a meter that sends import and export apart, the total of a meter that sends tariffs only.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.core.model import Number
from drivers.codec.telegram import Reading

_CODE = re.compile(r"(?:(\d{1,3})-(\d{1,3}):)?(\d{1,3}|[CFLP])\.(\d{1,3}|F)(?:\.(\d{1,3}))?(?:[*&](\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class Obis:
    """The groups of a code; None where the meter left one out."""

    a: int | None
    b: int | None
    c: str
    d: str
    e: int | None
    f: int | None

    @property
    def electricity(self) -> bool:
        """Whether it is about electricity (group A, 1 where it is left out)."""
        return self.a in {None, 1}

    @property
    def current(self) -> bool:
        """Whether it is a value of now: group F numbers those of the past, 255 and nothing are now."""
        return self.f in {None, 0, 255}


def parse_obis(code: str) -> Obis | None:
    """``1-0:1.8.0*255``, ``1.8.0`` or ``C.1.0`` as its groups; None for anything else."""
    found = _CODE.fullmatch(code)
    if found is None:
        return None
    a, b, c, d, e, f = found.groups()
    return Obis(_number(a), _number(b), c, d, _number(e), _number(f))


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


#: Groups C and D of the quantities: point, and the unit that it is in. Group E 0, 255 (EasyMeter) or left out.
_POINTS = {
    ("1", "7"): "power_import_w",
    ("2", "7"): "power_export_w",
    ("16", "7"): "power_w",
    ("21", "7"): "power_import_l1_w",
    ("41", "7"): "power_import_l2_w",
    ("61", "7"): "power_import_l3_w",
    ("22", "7"): "power_export_l1_w",
    ("42", "7"): "power_export_l2_w",
    ("62", "7"): "power_export_l3_w",
    ("36", "7"): "power_l1_w",
    ("56", "7"): "power_l2_w",
    ("76", "7"): "power_l3_w",
    ("3", "7"): "reactive_power_import_var",
    ("4", "7"): "reactive_power_export_var",
    ("23", "7"): "reactive_power_import_l1_var",
    ("43", "7"): "reactive_power_import_l2_var",
    ("63", "7"): "reactive_power_import_l3_var",
    ("24", "7"): "reactive_power_export_l1_var",
    ("44", "7"): "reactive_power_export_l2_var",
    ("64", "7"): "reactive_power_export_l3_var",
    ("9", "7"): "apparent_power_va",
    ("29", "7"): "apparent_power_l1_va",
    ("49", "7"): "apparent_power_l2_va",
    ("69", "7"): "apparent_power_l3_va",
    ("13", "7"): "power_factor",
    ("33", "7"): "power_factor_l1",
    ("53", "7"): "power_factor_l2",
    ("73", "7"): "power_factor_l3",
    ("14", "7"): "frequency_hz",
    ("12", "7"): "voltage_v",
    ("11", "7"): "current_a",
    ("32", "7"): "voltage_l1_v",
    ("52", "7"): "voltage_l2_v",
    ("72", "7"): "voltage_l3_v",
    ("31", "7"): "current_l1_a",
    ("51", "7"): "current_l2_a",
    ("71", "7"): "current_l3_a",
    ("91", "7"): "current_n_a",
    ("1", "4"): "power_demand_w",
    ("1", "6"): "power_demand_max_w",
    ("1", "8"): "energy_import_wh",
    ("2", "8"): "energy_export_wh",
    ("21", "8"): "energy_import_l1_wh",
    ("41", "8"): "energy_import_l2_wh",
    ("61", "8"): "energy_import_l3_wh",
    ("22", "8"): "energy_export_l1_wh",
    ("42", "8"): "energy_export_l2_wh",
    ("62", "8"): "energy_export_l3_wh",
    ("3", "8"): "reactive_energy_import_varh",
    ("4", "8"): "reactive_energy_export_varh",
}
#: The same with group E = tariff 1 to 9.
_TARIFFS = {("1", "8"): "energy_import_tariff_wh", ("2", "8"): "energy_export_tariff_wh"}
#: Groups C, D and E of what is no quantity of electricity, group A 0 or left out: states and counts without a unit.
_STATES = {
    ("96", "14", 0): "tariff",
    ("96", "3", 10): "relay",
    ("96", "7", 21): "power_failures",
    ("C", "7", 0): "power_failures",
}

#: What a value in the meter's unit (lower case) is multiplied with to be in the point's unit.
_UNITS: dict[str, dict[str, Number]] = {
    "_w": {"w": 1, "kw": 1000},
    "_var": {"var": 1, "kvar": 1000},
    "_va": {"va": 1, "kva": 1000},
    "_wh": {"wh": 1, "kwh": 1000, "mwh": 1_000_000},
    "_varh": {"varh": 1, "kvarh": 1000, "kvar": 1000, "mvarh": 1_000_000},
    "_v": {"v": 1, "kv": 1000},
    "_a": {"a": 1, "ma": 0.001, "ka": 1000},
    "_hz": {"hz": 1},
    "_factor": {"": 1},
}
#: Meters write units as they like (``kVArh``, ``KWH``); these two are told apart by their case alone.
_MEGAWATT = {"MW": 1_000_000, "mW": 0.001}

#: |import| + |export|: what it is where a meter doesn't count the ways apart, and the points that say that it does.
_ABSOLUTE = {
    ("15", "7"): ("power_w", ("power_w", "power_l", "power_import_", "power_export_", "energy_export_")),
    ("15", "8"): ("energy_import_wh", ("energy_import_", "energy_export_")),
}
#: An export register, whatever its unit: total, L1 to L3.
_EXPORT = re.compile(r"(?:1-[01]:)?[246]?2\.[78](?:[.*&].*)?")
#: Points that no value beyond 1 means.
_FRACTIONS = frozenset(["power_factor", "power_factor_l1", "power_factor_l2", "power_factor_l3", "relay"])


def point_of(code: str, unit: str | None) -> tuple[str, Number] | None:
    """The point of an electricity code and the factor from ``unit`` to the point's; None when it is none.

    A register that belongs to another device (group B), or to the past (group F other than 255), is none.
    """
    obis = parse_obis(code)
    if obis is None or not obis.current:
        return None
    state = _STATES.get((obis.c, obis.d, obis.e or 0))
    if state is not None:
        return (state, 1) if obis.a in {None, 0, 1} and not obis.b and not unit else None
    if not obis.electricity or obis.b not in {None, 0, 1}:
        return None
    key = (obis.c, obis.d)
    if obis.e in {None, 0, 255}:
        name = _POINTS.get(key)
    else:
        base = _TARIFFS.get(key)
        name = f"{base}.{obis.e}" if base and (obis.e or 0) <= 9 else None  # noqa: PLR2004 - tariffs are 1 to 9
    return _scaled(name, unit)


def _scaled(name: str | None, unit: str | None) -> tuple[str, Number] | None:
    if name is None:
        return None
    base = name.partition(".")[0]
    quantity = "_factor" if base.startswith("power_factor") else "_" + base.rpartition("_")[2]
    factor = _MEGAWATT.get(unit or "") if quantity == "_w" else None
    if factor is None:
        factor = _UNITS[quantity].get((unit or "").lower())
    return None if factor is None else (name, factor)


def settle(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """The readings of one telegram with the points that only the whole of it, or the value itself, decides.

    15.7.0 and 15.8.0 (|import| + |export|) are power and import of a meter that doesn't tell the two apart. A power
    factor beyond 1 (some firmware scales it) and a switch that is neither open nor closed mean no point.
    """
    settled = list(readings)
    for position, reading in enumerate(readings):
        if reading.point in _FRACTIONS and abs(reading.number or 0) > 1:
            settled[position] = replace(reading, point=None, scale=1)
        elif reading.point is None and "15." in reading.code:
            settled[position] = _absolute(reading, readings)
    return tuple(settled)


def _absolute(reading: Reading, all_of_it: Sequence[Reading]) -> Reading:
    obis = parse_obis(reading.code)
    if obis is None or not obis.electricity or obis.b not in {None, 0, 1} or not obis.current or obis.e:
        return reading
    name, apart = _ABSOLUTE.get((obis.c, obis.d), (None, ()))
    found = _scaled(name, reading.unit)
    if found is None or any(
        (other.point is not None and other.point.startswith(apart)) or _EXPORT.fullmatch(other.code)
        for other in all_of_it
    ):
        return reading
    return replace(reading, point=found[0], scale=found[1])


def derive(values: Iterable[tuple[str, Number]]) -> dict[str, Number]:
    """The points of a telegram, with those that follow from the others. Input: (point, value in the point's unit).

    Signed power is import less export, in total and of each phase; where only phases are sent the total is their sum.
    A meter that knows L1 alone has one voltage and one current. Tariff registers add up to the register.
    """
    found = dict(values)
    for quantity, unit in (("power", "w"), ("reactive_power", "var")):
        for phase in ("", "_l1", "_l2", "_l3"):
            drawn, given = found.get(f"{quantity}_import{phase}_{unit}"), found.get(f"{quantity}_export{phase}_{unit}")
            if f"{quantity}{phase}_{unit}" not in found and drawn is not None:
                found[f"{quantity}{phase}_{unit}"] = drawn - (given or 0)
        phases = [found[name] for n in "123" if (name := f"{quantity}_l{n}_{unit}") in found]
        if phases and f"{quantity}_{unit}" not in found:
            found[f"{quantity}_{unit}"] = sum(phases)
    for quantity, unit in (("voltage", "v"), ("current", "a")):
        one, others = found.get(f"{quantity}_l1_{unit}"), [f"{quantity}_l{n}_{unit}" for n in "23"]
        if one is not None and f"{quantity}_{unit}" not in found and found.keys().isdisjoint(others):
            found[f"{quantity}_{unit}"] = one
    for way in ("import", "export"):
        tariffs = [value for name, value in found.items() if name.startswith(f"energy_{way}_tariff_wh.")]
        if tariffs and f"energy_{way}_wh" not in found:
            found[f"energy_{way}_wh"] = sum(tariffs)
    return found
