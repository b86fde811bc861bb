"""Register maps that others wrote, against our profiles of the same devices: both must say the same of the same bytes.

The maps are looked for beside the checkout (``../shared/data/modbus/maps``); where they are absent the tests skip.
Which profile a map belongs to is found by the registers that both name, among the profiles of the maker that it names.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import Number
from agent.core.points import find_point
from drivers.codec.registers import REGISTERS, Order, Register, RegisterType, Table, TextRegister, text_of, words_of
from drivers.modbus.model import ModbusPoint, ModbusProfile
from drivers.modbus.reading import rounds
from drivers.modbus.writing import allowed, write_of
from tests.cases.test_modbus_profiles import Image, modbus_profiles, values

MAPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "modbus" / "maps"
_TYPES: dict[str, RegisterType] = {
    "u16": "uint16",
    "i16": "int16",
    "u32": "uint32",
    "i32": "int32",
    "u64": "uint64",
    "i64": "int64",
    "f32": "float32",
    "f64": "float64",
    "coil": "bit",
}
#: Units of maps: ours that they can be, and how many of ours one of theirs is. Cheap meters call volt-amperes power.
_UNITS: dict[str, tuple[set[str], Number]] = {
    "A": ({"A"}, 1),
    "V": ({"V"}, 1),
    "W": ({"W"}, 1),
    "kW": ({"W"}, 1000),
    "VA": ({"VA", "W"}, 1),
    "var": ({"var"}, 1),
    "Wh": ({"Wh"}, 1),
    "VAh": ({"Wh"}, 1),
    "kWh": ({"Wh"}, 1000),
    "kvarh": ({"varh"}, 1000),
    "Hz": ({"Hz"}, 1),
    "%": ({"%"}, 1),
    "s": ({"s"}, 1),
    "°C": ({"°C"}, 1),
}
#: What a device is bought for: a profile has at least three quarters of what a map has of it.
_MAIN = {"A", "V", "W", "kW", "VA", "Wh", "VAh", "kWh", "Hz"}
#: Where a map and the maker differ: (the maker, table, address) -> factor from the map's value to ours, and why.
_DECIDED: dict[tuple[str, Table, int], tuple[float, str]] = {
    ("keba", "holding", 1036): (0.1, "guide V1.04, 3.11: 0.1 Wh; the map's own note doubts it"),
    ("keba", "holding", 1502): (0.1, "guide V1.04: 0.1 Wh, as 1036"),
    ("keba", "holding", 1046): (0.1 * 0.01, "10000 is 1; the map's example, 9050, would be 905 %"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One number of a map. ``factor``: from the raw value to our unit."""

    name: str
    register: Register
    unit: str
    scale: float
    access: str

    @property
    def factor(self) -> float:
        return self.scale * (_UNITS[self.unit][1] if self.unit else 1)


@dataclass(frozen=True, slots=True)
class Map:
    path: Path
    device: str
    rows: tuple[Row, ...]
    texts: tuple[tuple[str, TextRegister], ...]
    example: dict[int, list[int]]
    expected: dict[str, Number]


def _read(path: Path) -> Map:
    document: dict[str, Any] = json.loads(path.read_text())
    order: Order = "little" if document.get("word_order") == "le_words" else "big"
    rows: list[Row] = []
    texts: list[tuple[str, TextRegister]] = []
    for one in document["registers"]:
        if one["type"] in {"ascii", "hex"}:
            texts.append((one["name"], TextRegister(one["fc"], one["addr"], one["count"], hex=one["type"] == "hex")))
            continue
        kind = _TYPES[one["type"]]
        for place in range(one["count"]):
            register = Register(one["fc"], one["addr"] + place * REGISTERS[kind], kind, order)
            rows.append(Row(f"{one['name']}[{place}]", register, one["unit"], one["scale"], one["access"]))
    example = {int(first): words for first, words in document.get("example_block", {}).items()}
    expected = document.get("example_expected", {})
    return Map(path, document["device"], tuple(rows), tuple(texts), example, expected)


def _paths() -> list[Path]:
    return sorted(MAPS.glob("*.json"))


PROFILES = modbus_profiles()


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def _maker(one: Map, name: str) -> set[str]:
    """The words of a profile's maker that a map's device has, too; a group's brands are in the model's name."""
    file = PROFILES[name].file
    return _words(one.device) & {word for word in _words(f"{file.maker} {name}") if len(word) > 2 and word.isalpha()}


def _profile(one: Map) -> ModbusProfile:
    """The profile of a map's device: of those of its maker the one that has most of its registers.

    Of equal ones the one whose name is nearest to the device's.
    """

    def rank(name: str) -> tuple[int, int]:
        ours = {(point.register.table, point.register.address) for point in PROFILES[name].profile.points}
        shared = sum((row.register.table, row.register.address) in ours for row in one.rows)
        return shared, len(_words(one.device) & _words(f"{name} {name.replace('_', ' ')}"))

    candidates = [name for name in PROFILES if _maker(one, name)]
    assert candidates, f"no profile's maker is named by {one.device!r}"
    best = max(candidates, key=rank)
    assert [name for name in candidates if rank(name) == rank(best)] == [best], "several profiles fit"
    return PROFILES[best].profile


def _decided(one: Map, row: Row) -> float:
    """The factor that holds for a row."""
    key = next((key for key in _DECIDED if key[0] in _words(one.device) and key[1:] == _place(row)), None)
    return row.scale * _DECIDED[key][0] if key else row.factor


def _place(row: Row) -> tuple[Table, int]:
    return row.register.table, row.register.address


def _raw(row: Row, points: list[ModbusPoint], number: int, *, negative: bool) -> Number:
    """A raw value that could be a device's, each row another one."""
    labels = sorted(raw for point in points for raw in point.labels)
    if row.register.type == "bit":
        return number % 2
    if labels:
        point = next(point for point in points if point.labels)
        return labels[number % len(labels)] << (point.register.bits[0] if point.register.bits else 0)
    if row.register.is_float:
        return 100.5 + number / 4
    raw = 1001 + 37 * number
    return -raw if negative and row.register.signed and row.unit in {"W", "kW", "var", ""} else raw


def _image(profile: ModbusProfile, cells: dict[tuple[Table, int], int]) -> Image:
    """A device with these registers, and zeros wherever else the profile looks."""
    cells = {
        (block.span.table, at): 0
        for one in rounds(profile, profile.every_s)
        for block in one.blocks
        for at in range(block.span.address, block.span.end)
    } | cells
    registers: dict[Table, dict[int, tuple[int, ...]]] = {}
    for (table, at), word in cells.items():
        registers.setdefault(table, {})[at] = (word,)
    return Image(registers)


def _points(profile: ModbusProfile) -> dict[tuple[Table, int], list[ModbusPoint]]:
    found: dict[tuple[Table, int], list[ModbusPoint]] = {}
    for point in profile.points:
        found.setdefault((point.register.table, point.register.address), []).append(point)
    return found


def _wanted(one: Map, row: Row, point: ModbusPoint, raw: Number) -> Number:
    """What a point must say of a raw value: the map knows what a unit says, of the rest only the bits."""
    if row.unit or row.scale != 1:
        return raw * _decided(one, row)
    if point.register.bits:
        lowest, width = point.register.bits
        raw = int(raw) >> lowest & (1 << width) - 1
    return raw * point.scale + point.offset


def _differences(one: Map, profile: ModbusProfile, raws: dict[Row, Number]) -> Iterator[str]:
    """What of a map's rows the profile reads otherwise."""
    cells: dict[tuple[Table, int], int] = {}
    for row, raw in raws.items():
        words = words_of(row.register, raw)
        cells |= {(row.register.table, row.register.address + place): word for place, word in enumerate(words)}
    found = values(profile.name, _image(profile, cells))
    ours = _points(profile)
    for row, raw in raws.items():
        for point in ours.get(_place(row), []):
            known = find_point(point.point)
            if (
                row.unit
                and known is not None
                and known.unit not in _UNITS[row.unit][0]
                and _decided(one, row) == row.factor
            ):
                yield f"{row.name} is {row.unit}, {point.point} is {known.unit}"
            got, want = found[point.point], _wanted(one, row, point, raw)
            if got is None or not math.isclose(got, want, rel_tol=1e-6):
                yield f"{row.name}: {raw} is {want:g}, {point.point} says {got}"


def test_the_shared_files_are_there() -> None:
    if not MAPS.is_dir():
        pytest.skip(f"no register maps at {MAPS}")
    assert _paths()


@pytest.mark.parametrize("path", _paths(), ids=lambda path: path.stem)
def test_a_profile_says_what_the_map_says(path: Path) -> None:
    one = _read(path)
    profile = _profile(one)
    ours = _points(profile)
    readable = [row for row in one.rows if row.access != "wo"]
    for negative in (False, True):
        raws = {
            row: _raw(row, ours.get(_place(row), []), number, negative=negative)
            for number, row in enumerate(readable, 1)
        }
        assert list(_differences(one, profile, raws)) == []


@pytest.mark.parametrize("path", _paths(), ids=lambda path: path.stem)
def test_a_profile_has_what_the_device_is_bought_for(path: Path) -> None:
    one = _read(path)
    profile = _profile(one)
    ours = {*_points(profile), *((each.register.table, each.register.address) for each in profile.settings)}
    main = [row for row in one.rows if row.unit in _MAIN]
    lacking = [row.name for row in main if _place(row) not in ours]
    assert main
    assert len(lacking) * 4 <= len(main), lacking


@pytest.mark.parametrize("path", _paths(), ids=lambda path: path.stem)
def test_what_is_written_is_what_the_map_says(path: Path) -> None:
    one = _read(path)
    profile = _profile(one)
    rows = {_place(row): row for row in one.rows if row.access != "ro"}
    for setting in profile.settings:
        row = rows.get((setting.register.table, setting.register.address))
        if row is None or setting.values:
            continue
        value = allowed(setting, setting.max)
        assert value is not None
        raw = value / row.factor
        assert write_of(setting, value).words == words_of(row.register, raw if row.register.is_float else round(raw))
    registers = [*(each.register for each in profile.settings), *(each.register for each in profile.setup)]
    written = {(register.table, register.address) for register in registers}
    limits = [place for place, row in rows.items() if row.unit == "A"]
    assert {place for place in limits if place not in written} == set(), "a limit that the profile can't set"


@pytest.mark.parametrize("path", _paths(), ids=lambda path: path.stem)
def test_texts_lie_where_the_map_says(path: Path) -> None:
    one = _read(path)
    profile = _profile(one)
    texts = [each for each in profile.identity.values() if isinstance(each, TextRegister)]
    for name, theirs in one.texts:
        for ours in texts:
            if (ours.table, ours.address) == (theirs.table, theirs.address):
                words = [0x4142 + place for place in range(max(ours.count, theirs.count))]
                assert text_of(ours, words[: ours.count]) == text_of(theirs, words[: theirs.count]), name


@pytest.mark.parametrize("path", [one for one in _paths() if _read(one).example], ids=lambda path: path.stem)
def test_an_example_of_a_map_comes_out(path: Path) -> None:
    one = _read(path)
    profile = _profile(one)
    cells: dict[tuple[Table, int], int] = {
        ("holding", first + place): word for first, words in one.example.items() for place, word in enumerate(words)
    }
    found = values(profile.name, _image(profile, cells))
    ours = _points(profile)
    rows = {row.name.partition("[")[0]: row for row in one.rows}
    compared = 0
    for name, said in one.expected.items():
        row = rows[name.removesuffix("_raw")]
        raw = said if name.endswith("_raw") else said / row.scale
        for point in ours[_place(row)]:
            want = _wanted(one, row, point, raw)
            assert found[point.point] == pytest.approx(want, rel=1e-6), (name, point.point)
            compared += 1
    assert compared >= len(one.expected)
