"""Recordings of real SML meters, where the shared test data is at hand: smllib is the oracle.

``<recording>.bin.expected.json`` holds how many frames smllib took, and the entries of the first and the last one.
Where smllib took none, none is whole: ends of frames were lost in recording. Its values are floats that carry the
rounding of their multiplication; ours are the nearest to the decimal number.
"""

import json
from pathlib import Path
from typing import TypedDict

import pytest

from agent.core.model import BadFrame
from drivers.codec.sml import SmlCodec
from drivers.codec.telegram import Telegram

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "sml"
FILES = sorted(DATA.rglob("*.bin"))
ROUNDING = 1e-12


class Entry(TypedDict):
    obis: str
    unit: int | None
    value: int | float | str


class Frame(TypedDict):
    entries: list[Entry]


class Expected(TypedDict):
    frames_ok: int
    errors: list[str]
    first: Frame | None
    last: Frame | None


every_file = pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.name if path else "absent")


def one(path: Path | None) -> tuple[bytes, Expected]:
    if path is None:
        pytest.skip("the shared SML recordings are not here")
    expected: Expected = json.loads(path.with_name(path.name + ".expected.json").read_text())
    return path.read_bytes(), expected


def decode(line: bytes, size: int | None = None) -> list[Telegram | BadFrame]:
    codec = SmlCodec()
    step = size or len(line) or 1
    return [result for i in range(0, len(line), step) for result in codec.feed(line[i : i + step])]


@every_file
def test_every_good_frame_comes_out_equal(path: Path | None) -> None:
    line, expected = one(path)
    telegrams = [result for result in decode(line) if isinstance(result, Telegram)]
    assert len(telegrams) == expected["frames_ok"]
    for frame, index in ((expected["first"], 0), (expected["last"], -1)):
        if frame is None:
            continue
        found = {reading.code: reading for reading in telegrams[index].readings}
        for entry in frame["entries"]:
            reading, value = found[entry["obis"]], entry["value"]
            assert reading.value == (value if isinstance(value, str) else pytest.approx(value, rel=ROUNDING))
            assert (reading.unit is None) is (not entry["unit"])


@every_file
def test_every_broken_frame_is_told(path: Path | None) -> None:
    line, expected = one(path)
    bad = [result for result in decode(line) if isinstance(result, BadFrame)]
    assert len(bad) >= len(expected["errors"])
    if expected["frames_ok"] == 0:
        assert bad


@every_file
def test_cut_into_pieces_it_is_the_same(path: Path | None) -> None:
    line, _ = one(path)
    whole = decode(line)
    for size in (1, 7, 64):
        assert decode(line, size) == whole


@every_file
def test_no_damage_to_a_telegram_gives_a_value(path: Path | None) -> None:
    line, expected = one(path)
    if not expected["frames_ok"]:
        pytest.skip("holds no whole frame")
    begin = line.index(b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01")
    codec, end = SmlCodec(), begin
    while not any(isinstance(result, Telegram) for result in codec.feed(line[end : end + 1])):
        end += 1
    begin = line.rindex(b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01", 0, end)
    frame = line[begin : end + 1]
    assert len(decode(frame)) == 1
    for cut in range(len(frame)):
        assert not [result for result in decode(frame[:cut]) if isinstance(result, Telegram)], cut
    for at in range(0, len(frame), 3):
        damaged = frame[:at] + bytes((frame[at] ^ 1 << at % 8,)) + frame[at + 1 :]
        assert not [result for result in decode(damaged) if isinstance(result, Telegram)], at


@every_file
def test_a_recording_that_begins_and_ends_anywhere(path: Path | None) -> None:
    line, _ = one(path)
    for cut in range(0, len(line), 97):
        for part in (line[cut:], line[:cut]):
            found = [result for result in decode(part) if isinstance(result, Telegram)]
            assert len(found) <= len([result for result in decode(line) if isinstance(result, Telegram)])
