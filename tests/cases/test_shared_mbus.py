"""M-Bus frames of real meters, where the shared test data is at hand: libmbus and pyMeterBus are the oracles.

``<frame>.norm.xml`` is what libmbus makes of it, in plain units, ``<frame>.xml`` in the meter's (``Error`` in it is the
meter's error reply); ``<frame>.hex.expected.json`` is what pyMeterBus does. Both are compared record by record.
Where they are not followed, and why:

- Digits above 9 in BCD: both make a number of them (1311041.3 of ``DDEBB4DD``); libmbus' plain XML has the digits. EN
  13757-3 knows them as signs of a display, so there is no number.
- A date whose "time invalid" bit is set: libmbus gives 1900-01-00, pyMeterBus the date all the same. There is none.
- Binary data of variable length: pyMeterBus does not know its length and goes on with records out of the data.
- A unit in plain text is "-" in libmbus' plain units; it is the text, as in pyMeterBus.
- "Reserved but historic" as the unit of a fixed counter means the unit of the first one.
- What stands behind "more records follow" is shown by libmbus alone; it is a part of something.
- A reserved code has no value in the plain units of libmbus, and pyMeterBus raises; its number is given as it was sent.
"""

import json
import math
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import BadFrame, Number
from drivers.codec.mbus import MbusCodec
from drivers.codec.telegram import Reading, Telegram

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "mbus"
EXPECTED = ".expected.json"
FILES = sorted(path.with_name(path.name.removesuffix(EXPECTED)) for path in DATA.rglob("*" + EXPECTED))
GOOD = [path for path in FILES if path.parent.name == "test-frames"]
OTHERS = [path for path in FILES if path.parent.name != "test-frames"]
#: The normalised XML has six digits behind the point.
XML_DIGITS = 1e-6


def ids(path: Path | None) -> str:
    return f"{path.parent.name}/{path.name}" if path else "absent"


good_file = pytest.mark.parametrize("path", GOOD or [None], ids=ids)
other_file = pytest.mark.parametrize("path", OTHERS or [None], ids=ids)
every_file = pytest.mark.parametrize("path", FILES or [None], ids=ids)


def line_of(path: Path | None) -> bytes:
    if path is None:
        pytest.skip("the shared M-Bus frames are not here")
    content = path.read_bytes()
    return bytes.fromhex(content.decode()) if path.suffix == ".hex" else content


def decode(line: bytes, size: int = 1 << 16) -> list[Telegram | BadFrame]:
    codec = MbusCodec()
    return [result for i in range(0, len(line), size) for result in codec.feed(line[i : i + size])]


def telegram_of(path: Path | None) -> Telegram:
    (only,) = decode(line_of(path))
    assert isinstance(only, Telegram)
    return only


def same(found: Number | str | None, expected: Number | str | None, tolerance: float = 0) -> bool:
    if isinstance(found, str) or isinstance(expected, str) or found is None or expected is None:
        return found == expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=tolerance)


def xml_of(path: Path, ending: str) -> ET.Element | None:
    file = Path(os.path.splitext(path)[0] + ending)  # noqa: PTH122 - names have dots
    # the files say Latin-1 and are UTF-8
    content = file.read_text("utf-8").replace("ISO-8859-1", "UTF-8") if file.exists() else ""
    return ET.fromstring(content.encode()) if content else None  # noqa: S314 - our own test data


def text(record: ET.Element, tag: str) -> str:
    return record.findtext(tag) or ""


def number(word: str) -> Number | str | None:
    try:
        return float(word)
    except ValueError:
        return word.removesuffix("Z") or None


@good_file
def test_values_are_those_of_libmbus(path: Path | None) -> None:
    telegram = telegram_of(path)
    assert path
    normalised, plain = xml_of(path, ".norm.xml"), xml_of(path, ".xml")
    if normalised is None or plain is None:
        pytest.skip("libmbus has no result for it")
    assert int(normalised.findtext("SlaveInformation/Id") or "", 16) == int(telegram.meter or "", 16)
    manufacturer = normalised.findtext("SlaveInformation/Manufacturer")
    assert manufacturer == dict(telegram.identity).get("manufacturer")
    found = {reading.code: reading for reading in telegram.readings}
    pairs = list(zip(normalised.iter("DataRecord"), plain.iter("DataRecord"), strict=True))
    for index, (record, as_sent) in enumerate(pairs):
        compare_xml(found.pop(str(index), None), record, as_sent)
    assert not found


def compare_xml(reading: Reading | None, record: ET.Element, as_sent: ET.Element) -> None:
    value = reading.value if reading else None
    unit, expected = text(record, "Unit"), text(record, "Value")
    if text(record, "Function") == "More records follow" or expected.startswith("1900-01-00"):
        assert reading is None
        return
    assert reading is not None
    if isinstance(value, str) and not same(value, number(expected)):
        assert value == text(as_sent, "Value")
        assert not value.isdecimal()
    elif not expected and text(as_sent, "Unit").startswith("Unknown"):
        assert same(value, number(text(as_sent, "Value")))
    else:
        assert same(value, number(expected), XML_DIGITS)
        if unit == "-" and reading.unit:
            assert reading.unit == text(record, "Quantity")
        elif unit != "reserved but historic":
            assert (reading.unit or "") == unit.replace("-", "")


@good_file
def test_values_are_those_of_pymeterbus(path: Path | None) -> None:
    telegram = telegram_of(path)
    assert path
    expected: dict[str, Any] = json.loads(path.with_name(path.name + EXPECTED).read_text())
    if "error" in expected:
        pytest.skip(f"pyMeterBus refuses it: {expected['error']}")
    found = {reading.code: reading for reading in telegram.readings}
    records = expected["json"]["body"]["records"]
    normalised = xml_of(path, ".norm.xml")
    if normalised is not None and len(records) > len(list(normalised.iter("DataRecord"))):
        pytest.skip("pyMeterBus finds records in the data of another one")
    for index, record in enumerate(records):
        reading, value = found.pop(str(index), None), record["value"]
        if reading is None:
            assert value is None or record["type"] == "VIFUnit.DATE_TIME_GENERAL"
        elif isinstance(reading.value, str) and isinstance(value, str):
            assert reading.value.startswith(value)  # it leaves seconds out
        elif isinstance(reading.value, str):
            assert not reading.value.isdecimal()
        else:
            assert same(reading.value, value)
    assert not found


@other_file
def test_what_is_no_readout_gives_no_value(path: Path | None) -> None:
    for result in decode(line_of(path)):
        assert isinstance(result, BadFrame) or not result.readings
    assert path
    plain = xml_of(path, ".xml")
    if plain is not None:
        assert plain.find("SlaveInformation/Error") is not None
        (only,) = decode(line_of(path))
        assert isinstance(only, BadFrame)
        assert only.reason.startswith("application_")


@every_file
def test_cut_into_pieces_it_is_the_same(path: Path | None) -> None:
    line = line_of(path)
    for size in (1, 7):
        assert decode(line, size) == decode(line)


@good_file
def test_no_damage_to_a_telegram_gives_a_value(path: Path | None) -> None:
    line = line_of(path)
    for cut in range(len(line)):
        assert not [result for result in decode(line[:cut]) if isinstance(result, Telegram)], cut
    for at in range(len(line)):
        damaged = line[:at] + bytes((line[at] ^ 1 << at % 8,)) + line[at + 1 :]
        results = decode(damaged + line)
        assert [result for result in results if isinstance(result, Telegram)] == decode(line), at
