"""Readouts of real D0 meters, where the shared test data is at hand: their registers, read with a plain regex.

``<recording>.bin.expected.json`` holds the identification and all registers as text. A recording is a broken one when
its checksum is wrong, or when what is expected of it is an error or no register: such a one gives no value.
"""

import json
from pathlib import Path
from typing import TypedDict

import pytest

from drivers.codec.d0 import D0Codec
from tests.meter_cases import telegrams

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "d0"
FILES = sorted(path for path in DATA.rglob("*") if path.suffix in {".bin", ".txt"})


class Register(TypedDict):
    address: str
    value: str
    unit: str | None


class Checksum(TypedDict):
    valid: bool


class Expected(TypedDict, total=False):
    ident: str
    registers: list[Register]
    bcc: Checksum
    ok: bool
    error: str


every_file = pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.name if path else "absent")


def one(path: Path | None) -> tuple[bytes, Expected]:
    if path is None:
        pytest.skip("the shared D0 recordings are not here")
    expected: Expected = json.loads(path.with_name(path.name + ".expected.json").read_text())
    return path.read_bytes(), expected


def good(path: Path | None, expected: Expected) -> bool:
    named_broken = path is not None and "broken" in path.name
    checked = expected.get("bcc", {"valid": True})["valid"]
    return bool(expected.get("registers")) and expected.get("ok", True) and checked and not named_broken


@every_file
def test_all_registers_come_out_equal_and_those_of_broken_recordings_not_at_all(path: Path | None) -> None:
    line, expected = one(path)
    found = telegrams(D0Codec(), line)
    if not good(path, expected):
        assert found == []
        return
    (telegram,) = found
    assert [reading.code for reading in telegram.readings] == [one["address"] for one in expected["registers"]]
    assert [reading.unit for reading in telegram.readings] == [one["unit"] or None for one in expected["registers"]]
    for reading, register in zip(telegram.readings, expected["registers"], strict=True):
        if isinstance(reading.value, str):
            assert reading.value == register["value"], reading.code
        else:
            assert reading.value == float(register["value"]), reading.code
        assert register["unit"] is None or not isinstance(reading.value, str), f"{reading.code} has a unit: a number"
    assert f"/{dict(telegram.identity)['model']}" == expected["ident"]


@every_file
def test_a_recording_cut_off_at_any_byte_gives_nothing_but_what_was_whole(path: Path | None) -> None:
    line, _ = one(path)
    whole = telegrams(D0Codec(), line)
    last = line.rfind(b"!")
    for end in range(len(line)):
        found = telegrams(D0Codec(), line[:end])
        assert found == whole[: len(found)]
        assert len(found) < len(whole) or end > last or not whole, end
        after = telegrams(D0Codec(), line[:end] + b"\r\n" + line)
        assert after[len(after) - len(whole) :] == whole, "the next one comes out"


@every_file
def test_any_pieces_of_a_recording_give_the_same(path: Path | None) -> None:
    line, _ = one(path)
    for size in (1, 7, 64):
        codec = D0Codec()
        pieces = [line[start : start + size] for start in range(0, len(line), size)]
        assert [one for piece in pieces for one in codec.feed(piece)] == D0Codec().feed(line)


@every_file
def test_a_changed_digit_gives_no_value_where_there_is_a_checksum(path: Path | None) -> None:
    line, expected = one(path)
    if not expected.get("bcc", {"valid": False})["valid"]:
        pytest.skip("this meter sends no checksum")
    whole = telegrams(D0Codec(), line)
    begin = line.index(b"\x02")
    for at in range(begin, len(line)):
        if chr(line[at]).isdecimal():
            changed = line[:at] + bytes([line[at] ^ 0x01]) + line[at + 1 :]
            assert telegrams(D0Codec(), changed) in ([], whole), at


def test_the_registers_have_meanings() -> None:
    if not FILES:
        pytest.skip("the shared D0 recordings are not here")
    decoded = [telegram for path in FILES for telegram in telegrams(D0Codec(), path.read_bytes())]
    assert decoded
    points = [{reading.point for reading in telegram.readings} for telegram in decoded]
    assert any("energy_import_wh" in one and "power_w" in one for one in points)
