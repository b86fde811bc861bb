"""OBIS codes (IEC 62056-61 / EN 13757-1) of electricity meters, and the points that they are.

``point_of`` looks at one value; ``derive`` adds what only the whole telegram says: the signed power of a meter that
sends import and export apart, the total of a meter that sends tariffs only.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.model import Number

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


def parse_obis(code: str) -> Obis | None:
    """``1-0:1.8.0*255``, ``1.8.0`` or ``C.1.0`` as its groups; None for anything else."""
    found = _CODE.fullmatch(code)
    if found is None:
        return None
    a, b, c, d, e, f = found.groups()
    return Obis(_number(a), _number(b), c, d, _number(e), _number(f))


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


#: Groups C and D of the quantities: point, and the unit that it is in. Group E 0 or left out.
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
    ("9", "7"): "apparent_power_va",
    ("13", "7"): "power_factor",
    ("14", "7"): "frequency_hz",
    ("12", "7"): "voltage_v",
    ("11", "7"): "current_a",
    ("32", "7"): "voltage_l1_v",
    ("52", "7"): "voltage_l2_v",
    ("72", "7"): "voltage_l3_v",
    ("31", "7"): "current_l1_a",
    ("51", "7"): "current_l2_a",
    ("71", "7"): "current_l3_a",
    ("1", "8"): "energy_import_wh",
    ("2", "8"): "energy_export_wh",
    ("3", "8"): "reactive_energy_import_varh",
    ("4", "8"): "reactive_energy_export_varh",
}
#: The same with group E = tariff 1 to 9.
_TARIFFS = {("1", "8"): "energy_import_tariff_wh", ("2", "8"): "energy_export_tariff_wh"}

#: What a value in the meter's unit is multiplied with to be in the point's unit.
_UNITS: dict[str, dict[str, Number]] = {
    "_w": {"W": 1, "kW": 1000, "MW": 1_000_000},
    "_va": {"VA": 1, "kVA": 1000},
    "_wh": {"Wh": 1, "kWh": 1000, "MWh": 1_000_000},
    "_varh": {"varh": 1, "kvarh": 1000, "kvar": 1000, "Mvarh": 1_000_000},
    "_v": {"V": 1, "kV": 1000},
    "_a": {"A": 1, "mA": 0.001, "kA": 1000},
    "_hz": {"Hz": 1},
    "_factor": {"": 1},
}


def point_of(code: str, unit: str | None) -> tuple[str, Number] | None:
    """The point of an electricity code and the factor from ``unit`` to the point's; None when it is none.

    A register that belongs to another device (group B), or to the past (group F other than 255), is none.
    """
    obis = parse_obis(code)
    if obis is None or not obis.electricity or obis.b not in {None, 0, 1} or obis.f not in {None, 0, 255}:
        return None
    key = (obis.c, obis.d)
    if not obis.e:
        name = _POINTS.get(key)
    else:
        base = _TARIFFS.get(key)
        name = f"{base}.{obis.e}" if base and obis.e <= 9 else None  # noqa: PLR2004 - tariffs are 1 to 9
    if name is None:
        return None
    suffix = "_" + name.partition(".")[0].rpartition("_")[2]
    factor = _UNITS.get(suffix, {}).get(unit or "")
    return None if factor is None else (name, factor)


def derive(values: Iterable[tuple[str, Number]]) -> dict[str, Number]:
    """The points of a telegram, with those that follow from the others. Input: (point, value in the point's unit)."""
    found = dict(values)
    for phase in ("", "_l1", "_l2", "_l3"):
        drawn, given = found.get(f"power_import{phase}_w"), found.get(f"power_export{phase}_w")
        if f"power{phase}_w" not in found and drawn is not None:
            found[f"power{phase}_w"] = drawn - (given or 0)
    for way in ("import", "export"):
        tariffs = [value for name, value in found.items() if name.startswith(f"energy_{way}_tariff_wh.")]
        if tariffs and f"energy_{way}_wh" not in found:
            found[f"energy_{way}_wh"] = sum(tariffs)
    return found
