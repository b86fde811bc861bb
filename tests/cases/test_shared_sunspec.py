"""Our SunSpec tables against the definitions of the SunSpec Alliance, and what we make of devices against pysunspec2.

Both are looked for beside the checkout; where they are absent the tests skip.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.errors import Unsupported
from drivers.codec.registers import Table, TextRegister, number_of, text_of
from drivers.modbus.model import ModbusPoint
from drivers.modbus.sunspec import SunspecModel, discover, walk
from drivers.modbus.sunspec_models import COMMON, IDENTITY, INPUTS, MAIN, MODELS, Row

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "modbus"
_UNITS = {
    "_w": {"W"},
    "_va": {"VA"},
    "_var": {"var", "Var"},
    "_v": {"V"},
    "_a": {"A"},
    "_hz": {"Hz"},
    "_wh": {"Wh", "WH"},
    "_ah": {"Ah"},
    "_degc": {"C"},
    "_ohm": {"ohms"},
    "_pct": {"%WHRtg", "%", "Pct", "% AhrRtg"},
}
_SUFFIX = "registers.json"


def _definitions() -> list[Path]:
    found = sorted((SHARED / "sunspec").glob("model_*.json"))
    return [path for path in found if int(path.stem.removeprefix("model_")) in {*MODELS, COMMON, INPUTS.model}]


def _devices() -> list[Path]:
    return sorted((SHARED / "sunspec-devices").glob(f"*.{_SUFFIX}"))


def test_the_shared_files_are_there() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no SunSpec definitions and devices at {SHARED}")
    assert _definitions()
    assert _devices()


def _points(group: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The points of a model's fixed part, by offset."""
    found, offset = {}, 0
    for point in group["points"]:
        found[offset] = point
        offset += point["size"]
    return found


def _plain(name: str) -> str:
    """A name without the definitions' own variants: voltages between phases are PPVphAB here and PhVphAB there."""
    return name.lower().replace("phvph", "ppvph") if name[-2:] in {"AB", "BC", "CA"} else name.lower()


def _check(row: Row, points: dict[int, dict[str, Any]], scales: dict[int, dict[str, Any]]) -> None:
    point = points[row.offset]
    assert _plain(point["name"]) == _plain(row.name)
    assert point["type"] == row.type, row
    assert (scales[row.sf]["name"] if row.sf is not None else None) == point.get("sf"), row
    assert row.sf is None or scales[row.sf]["type"] == "sunssf"
    for value, label in row.labels.items():
        names = {symbol["value"]: symbol["name"] for symbol in point["symbols"]}
        assert names[value].replace("_", " ").lower().endswith(label.lower())  # 111 has "ggOFF"
    suffix = "_" + row.point.partition(".")[0].rpartition("_")[2]
    if suffix in _UNITS:
        assert point["units"] in _UNITS[suffix], row
    if row.point.startswith("power_factor"):
        assert (point.get("units") == "Pct") == (row.scale == 0.01), row
    else:
        assert abs(row.scale) == 1


@pytest.mark.parametrize("path", _definitions(), ids=lambda path: path.stem)
def test_our_rows_lie_where_the_definition_says(path: Path) -> None:
    definition = json.loads(path.read_text())
    points = _points(definition["group"])
    if definition["id"] == COMMON:
        for row in IDENTITY.values():
            assert (points[row.offset]["name"], points[row.offset]["size"]) == (row.name, row.count)
        return
    if definition["id"] == INPUTS.model:
        inputs = definition["group"]["groups"][0]
        assert inputs["count"] in {points[INPUTS.count]["name"], 0}  # 0: as many as the length says
        assert sum(point["size"] for point in definition["group"]["points"]) == INPUTS.first
        assert sum(point["size"] for point in inputs["points"]) == INPUTS.stride
        assert _points(inputs)[INPUTS.name.offset]["name"] == INPUTS.name.name
        for string in INPUTS.rows:
            _check(string, _points(inputs), points)
        return
    for one in MODELS[definition["id"]]:
        _check(one, points, points)


class Image:
    """A device's registers, as pysunspec2 served them."""

    def __init__(self, path: Path) -> None:
        blocks = json.loads(path.read_text())["holding"].items()
        self.words = {int(first) + index: word for first, words in blocks for index, word in enumerate(words)}
        self.expected: list[dict[str, Any]] = json.loads(path.with_name(f"{path.name}.expected.json").read_text())[
            "models"
        ]

    async def read(self, table: Table, address: int, count: int) -> list[int]:
        assert table == "holding"
        if any(at not in self.words for at in range(address, address + count)):
            raise Unsupported("read", "illegal data address")
        return [self.words[at] for at in range(address, address + count)]

    def value(self, point: ModbusPoint) -> float | None:
        """What the point says, without the turning of its sign."""
        register = point.register
        raw = number_of(register, [self.words[register.address + at] for at in range(register.count)])
        if raw is None or any(low <= raw <= high for low, high in point.missing):
            return None
        power = number_of(point.exponent, [self.words[point.exponent.address]]) if point.exponent else 0
        return None if power in {None, -0x8000} else float(raw) * 10.0 ** int(power or 0)

    def theirs(self, address: int) -> Iterator[tuple[dict[str, Any], str]]:
        """The model in which an address lies, and what stands before the names of its group's points."""
        for model in self.expected:
            offset = address - model["addr"]
            if 0 <= offset < model["registers"]:
                group = (offset - INPUTS.first) // INPUTS.stride
                yield model, f"module[{group}]." if model["model_id"] == INPUTS.model else ""


@pytest.mark.parametrize("path", _devices(), ids=lambda path: path.name.removesuffix(f".{_SUFFIX}"))
def test_a_device_reads_as_pysunspec2_reads_it(path: Path) -> None:
    image = Image(path)
    chain = asyncio.run(walk(image.read))
    assert chain == [SunspecModel(one["model_id"], one["addr"], one["registers"] - 2) for one in image.expected]
    compared = 0
    for common in (one for one in chain if one.model == COMMON):
        ((theirs, _),) = image.theirs(common.address)
        for row in IDENTITY.values():
            at = common.address + row.offset
            words = [image.words[at + index] for index in range(row.count)]
            assert text_of(TextRegister("holding", at, row.count), words) == (theirs["points"][row.name]["value"] or "")
            compared += 1
    for part in (None, *MAIN):
        if not any(one.model in (MAIN[part] if part else frozenset().union(*MAIN.values())) for one in chain):
            with pytest.raises(Unsupported):
                asyncio.run(discover(image.read, part))
            continue
        profile = asyncio.run(discover(image.read, part))
        for point in profile.points:
            ((theirs, prefix),) = image.theirs(point.register.address)
            names = {row.point: row.name for row in (*MODELS.get(theirs["model_id"], ()), *INPUTS.rows)}
            name = prefix + (names.get(point.point) or names[point.point.partition(".")[0]])
            expected = theirs["points"][name]["value"]
            found = image.value(point)
            assert found == (None if expected is None else pytest.approx(float(expected), rel=1e-6)), (name, point)
            compared += 1
    assert compared
