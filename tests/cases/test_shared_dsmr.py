"""Telegrams of real P1 ports, where the shared test data is at hand: dsmr-parser is the oracle.

``<telegram>.expected.json`` holds what dsmr-parser makes of it with the specification of that country, by the names of
its fields. Files with a ``mutation`` in it are broken: a digit was changed or the end cut off. dsmr-parser takes some
of them, for it looks at no checksum in that country and not for the end; we take none.
"""

import json
import re
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from dsmr_parser import telegram_specifications  # type: ignore[import-untyped]

from agent.core.model import BadFrame
from drivers.codec.dsmr import DsmrCodec
from drivers.codec.telegram import Reading, Telegram
from tests.meter_cases import telegrams

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "dsmr"
FILES = sorted(path for path in DATA.rglob("*") if path.suffix in {".txt", ".bin"})

every_file = pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.name if path else "absent")


def one(path: Path | None) -> tuple[bytes, dict[str, Any]]:
    if path is None:
        pytest.skip("the shared DSMR telegrams are not here")
    expected: dict[str, Any] = json.loads(path.with_name(path.name + ".expected.json").read_text())
    return path.read_bytes(), expected


def codec(expected: dict[str, Any]) -> DsmrCodec:
    keys = [expected.get(name) for name in ("encryption_key", "authentication_key")]
    return DsmrCodec(*(None if key is None else bytes.fromhex(key) for key in keys))


@cache
def patterns() -> dict[str, list[re.Pattern[str]]]:
    """Which lines dsmr-parser's names stand for, over all of its specifications."""
    found: dict[str, list[re.Pattern[str]]] = {}
    for specification in vars(telegram_specifications).values():
        if isinstance(specification, dict) and "objects" in specification:
            for field in specification["objects"]:
                found.setdefault(field["value_name"], []).append(re.compile(field["obis_reference"]))
    return found


def matching(name: str, readings: list[Reading]) -> list[Reading]:
    return [
        reading
        for reading in readings
        if any(pattern.match(f"{reading.code}(x)\r\n(x)\r\n") for pattern in patterns()[name])
    ]


def is_local_time(text: str, instant: str) -> bool:
    """``170102192002W`` says this instant in central Europe; the oracle goes by the date, not by W and S."""
    return any(
        text[:12] == (datetime.fromisoformat(instant) + timedelta(hours=hours)).strftime("%y%m%d%H%M%S")
        for hours in (1, 2)
    )


def check(name: str, wanted: object, readings: list[Reading]) -> None:
    """One field of dsmr-parser's is what we have under its code: the same value, of the same type, in the same unit."""
    found = matching(name, readings)
    if isinstance(wanted, list):
        assert [(one.value, one.unit) for one in found] == [(one["value"], one["unit"]) for one in wanted], name
        return
    assert isinstance(wanted, dict)
    if "buffer" in wanted:
        assert [(one.value, one.unit) for one in found] == [(one["value"], one["unit"]) for one in wanted["buffer"]]
        return
    reading = found[0]
    value = wanted["value"]
    assert reading.unit == wanted["unit"], name
    if value is None:
        assert reading.value == "", name
    elif isinstance(value, str) and name == "P1_MESSAGE_TIMESTAMP":
        assert isinstance(reading.value, str)
        assert is_local_time(reading.value, value), name
    else:
        assert reading.value == value, name
        assert isinstance(reading.value, str) == isinstance(value, str), f"{name}: number or text"


@every_file
def test_every_field_of_dsmr_parser_comes_out_equal(path: Path | None) -> None:
    line, expected = one(path)
    found = telegrams(codec(expected), line)
    if "mutation" in expected or not expected["ok"]:
        assert found == []
        return
    (telegram,) = found
    own = [reading for reading in telegram.readings if not re.match(r"0-[1-9]:", reading.code)]
    for name, value in expected["telegram"].items():
        if name != "MBUS_DEVICES":
            check(name, value, own)
            continue
        for device in value:
            channel = [one for one in telegram.readings if one.code.startswith(f"0-{device['CHANNEL_ID']}:")]
            for field in device.keys() - {"CHANNEL_ID"}:
                check(field, device[field], channel)


@every_file
def test_every_line_of_a_telegram_comes_out(path: Path | None) -> None:
    line, expected = one(path)
    if path is None or path.suffix == ".bin" or "mutation" in expected:
        return
    (telegram,) = telegrams(codec(expected), line)
    sent = [code for code in re.findall(rb"^(\d-\d:[^(]+)\(", line, re.MULTILINE) if code != b"1-0:99.97.0"]
    come = {reading.code.encode() for reading in telegram.readings}
    assert set(sent) <= come


@every_file
def test_a_telegram_cut_off_at_any_byte_gives_no_value_and_hides_no_other(path: Path | None) -> None:
    line, expected = one(path)
    whole = telegrams(codec(expected), line)
    end_of_line = line.rfind(b"!") + 5 if line.startswith(b"/") else len(line)
    for end in range(len(line)):
        start = codec(expected)
        found = telegrams(start, line[:end])
        assert found == [] or (found == whole and end >= end_of_line - 4), end
        if found == []:
            assert telegrams(start, line) == whole, f"the one behind {end} bytes comes out"


@every_file
def test_any_pieces_of_a_telegram_give_the_same(path: Path | None) -> None:
    line, expected = one(path)
    for size in (1, 7, 64):
        pieces = [line[start : start + size] for start in range(0, len(line), size)]
        slow = codec(expected)
        assert [one for piece in pieces for one in slow.feed(piece)] == codec(expected).feed(line)


@every_file
def test_a_changed_digit_gives_no_value_where_there_is_a_checksum(path: Path | None) -> None:
    line, expected = one(path)
    whole = telegrams(codec(expected), line)
    if not whole or b"!\r\n" in line:
        pytest.skip("broken already, or without a checksum")
    for at in range(0, len(line) - 6, 3):
        changed = line[:at] + bytes([line[at] ^ 0x01]) + line[at + 1 :]
        assert not telegrams(codec(expected), changed), at


@every_file
def test_an_encrypted_telegram_without_its_key_says_so(path: Path | None) -> None:
    line, expected = one(path)
    if "encryption_key" not in expected:
        pytest.skip("not encrypted")
    (result,) = DsmrCodec().feed(line)
    assert isinstance(result, BadFrame)
    assert result.reason == "encrypted"
    without_auth_key = DsmrCodec(bytes.fromhex(expected["encryption_key"]))
    assert [type(one) for one in without_auth_key.feed(line)] == [Telegram]
