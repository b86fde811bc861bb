"""``enlace meter`` over all recordings of the shared test data, where they are at hand, as somebody would who has
nothing but ``product.md`` 2.1 and the oracles' files: exit code, keys, types, values, counts.

The oracles name things their own way, so they are compared as follows, and never by the codecs' own words:

- dsmr-parser: its multiset of (number or text, unit) must be within ours; what it takes apart (times) is left out;
- smllib: code, value and the unit of the DLMS unit code, of the first and the last frame;
- D0: address, unit, and the value as a number where both are numbers, else as text;
- M-Bus: record number and value of pyMeterBus, where it and libmbus agree on how many records there are.

A broken recording gives no line, exits with 0 all the same, and is counted, unless nothing of it looks like a telegram.
"""

import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from tests.e2e import site

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
EXPECTED = ".expected.json"
KEYS = ["t", "meter", "point", "code", "value", "unit"]
_OBIS = re.compile(r"\d+-\d+:\d+\.\d+\.\d+\*\d+")
_REPORT = re.compile(r"telegrams decoded: (\d+), bad: (\d+)((?:\n  .+)*)\n")
#: DLMS unit codes (IEC 62056-6-2) of what the recordings have.
_DLMS = {8: "°", 27: "W", 30: "Wh", 33: "A", 35: "V", 44: "Hz"}


def recordings(protocol: str) -> list[Path | None]:
    found = sorted((DATA / protocol).rglob("*" + EXPECTED))
    return [path.with_name(path.name.removesuffix(EXPECTED)) for path in found] or [None]


def every(protocol: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", recordings(protocol), ids=lambda path: path.name if path else "absent")


@dataclass(frozen=True)
class Output:
    lines: list[dict[str, Any]]
    good: int
    bad: int

    def values(self) -> list[tuple[str, Any, str | None]]:
        return [(line["code"], line["value"], line["unit"]) for line in self.lines]


@dataclass(frozen=True)
class Command:
    """The command within this process: a new one for each of the recordings would take minutes."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, protocol: str, path: Path | None, *options: str) -> Output:
        if path is None:
            pytest.skip("the shared recordings are not here")
        code = main(["meter", "--protocol", protocol, *options, str(path)])
        out, err = self.capsys.readouterr()
        assert code == 0, err
        return read(out, err)


def read(out: str, err: str) -> Output:
    lines = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    for line in lines:
        assert list(line) == KEYS
        assert line["t"] is None, "a recording has no times"
        assert isinstance(line["code"], str)
        assert line["code"]
        assert isinstance(line["value"], int | float | str)
        assert not isinstance(line["value"], bool)
        assert all(line[key] is None or isinstance(line[key], str) for key in ("meter", "point", "unit"))
    report = _REPORT.fullmatch(err)
    assert report is not None, err
    return Output(lines, int(report[1]), int(report[2]))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@cache
def oracle(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_name(path.name + EXPECTED).read_text())
    return found


def as_number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def same(ours: object, theirs: object) -> bool:
    """Equal as numbers where both can be numbers, else equal as texts."""
    if isinstance(ours, str):
        return ours.strip() == str(theirs).strip()
    wanted = as_number(theirs)
    return wanted is not None and math.isclose(float(str(ours)), wanted, rel_tol=1e-9)


# --- DSMR ------------------------------------------------------------------------------------------------------------


def fields(telegram: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """All values of dsmr-parser's result with their units. Texts that are times were made by it, not sent."""
    for name, field in telegram.items():
        if name == "MBUS_DEVICES":
            for device in field:
                yield from fields({key: value for key, value in device.items() if key != "CHANNEL_ID"})
            continue
        for one in field if isinstance(field, list) else field.get("buffer", [field]):
            if name != "P1_MESSAGE_TIMESTAMP" and one.get("value") is not None:
                yield key_of(one["value"]), one.get("unit")


def key_of(value: object) -> str:
    return value if isinstance(value, str) else f"{float(str(value)):.9g}"


@every("dsmr")
def test_dsmr(path: Path | None, tmp_path: Path, command: Command) -> None:
    options: list[str] = []
    for name, option in (("encryption_key", "--key-file"), ("authentication_key", "--auth-key-file")):
        if path is not None and name in oracle(path):
            (tmp_path / name).write_text(oracle(path)[name])
            options += [option, str(tmp_path / name)]
    output = command("dsmr", path, *options)
    assert path
    expected = oracle(path)
    if "mutation" in expected or not expected["ok"]:
        assert not output.lines
        assert (output.good, output.bad) == (0, 1)
        return
    assert (output.good, output.bad) == (1, 0)
    ours = Counter((key_of(value), unit) for _, value, unit in output.values())
    missing = Counter(fields(expected["telegram"])) - ours
    assert not missing
    if options:
        without = command("dsmr", path)
        assert not without.lines
        assert without.bad == 1


# --- SML -------------------------------------------------------------------------------------------------------------


@every("sml")
def test_sml(path: Path | None, command: Command) -> None:
    output = command("sml", path)
    assert path
    expected = oracle(path)
    assert output.good == expected["frames_ok"]
    assert output.bad >= len(expected["errors"])
    if not output.good:
        assert output.bad
        assert not output.lines
        return
    assert all(_OBIS.fullmatch(line["code"]) for line in output.lines)
    for frame, lines in ((expected["first"], output.values()), (expected["last"], output.values()[::-1])):
        nearest = {code: (value, unit) for code, value, unit in reversed(lines)}
        for entry in frame["entries"]:
            value, unit = nearest[entry["obis"]]
            assert same(value, entry["value"]), entry
            assert isinstance(value, str) == isinstance(entry["value"], str), entry
            assert unit == _DLMS.get(entry["unit"] or 0), entry


# --- D0 --------------------------------------------------------------------------------------------------------------


@every("d0")
def test_d0(path: Path | None, command: Command) -> None:
    output = command("d0", path)
    assert path
    expected = oracle(path)
    whole = expected.get("registers") and expected.get("ok", True) and expected.get("bcc", {"valid": True})["valid"]
    if not whole or "broken" in path.name:
        assert not output.lines
        assert output.good == 0
        assert output.bad
        return
    assert (output.good, output.bad) == (1, 0)
    registers = expected["registers"]
    assert [code for code, _, _ in output.values()] == [register["address"] for register in registers]
    for (_, value, unit), register in zip(output.values(), registers, strict=True):
        assert same(value, register["value"]), register
        assert unit == (register["unit"] or None), register
        assert unit is None or not isinstance(value, str), register


# --- M-Bus -----------------------------------------------------------------------------------------------------------


@every("mbus")
def test_mbus(path: Path | None, command: Command) -> None:
    output = command("mbus", path)
    assert path
    if path.parent.name != "test-frames":
        assert not output.lines
        return
    assert (output.good, output.bad) == (1, 0)
    ours = {int(code): (value, unit) for code, value, unit in output.values()}
    assert list(ours) == sorted(ours)
    expected = oracle(path)
    libmbus = path.parent / (path.name.removesuffix(path.suffix) + ".norm.xml")
    if "error" in expected or not libmbus.exists():
        assert ours
        return
    text = libmbus.read_text("utf-8").replace("ISO-8859-1", "UTF-8")
    count = len(list(ET.fromstring(text.encode()).iter("DataRecord")))  # noqa: S314 - our own test data
    records = expected["json"]["body"]["records"]
    if len(records) != count:
        return
    for number, record in enumerate(records):
        if number not in ours:
            assert record["value"] in {None, ""} or "DATE" in record["type"], record
        elif isinstance(ours[number][0], str) and not isinstance(record["value"], str):
            assert "DATE" in record["type"] or not ours[number][0].isdecimal(), record  # digits above 9
        elif isinstance(record["value"], str):
            assert str(ours[number][0]).startswith(record["value"]), record  # it leaves seconds out
        else:
            assert same(ours[number][0], record["value"]), record


# --- as processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["dsmr", "sml", "d0", "mbus"])
def test_a_process_says_the_same(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((one for one in recordings(protocol) if one and "key" not in "".join(oracle(one))), None)
    inside = Command(capsys)(protocol, path)
    assert path
    done = site.enlace("meter", "--protocol", protocol, str(path))
    assert done.returncode == 0
    assert read(done.stdout, done.stderr) == inside
