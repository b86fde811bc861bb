"""Logs that real tools wrote and other programs have read, where the shared test data is at hand.

``<log>.expected.json`` comes from python-can (``.MF4``: from asammdf); an ``error`` in it means that python-can cannot
read the log, not that nobody can. ``pairs.expected.json`` comes from cantools.
"""

import argparse
import hashlib
import io
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from agent.cli.decode import run as decode
from agent.core.errors import Unsupported
from agent.core.model import BadFrame
from drivers.can.logs import LogFrame, read_log

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "can"
FOLDERS = ("logs", "battery-emulator-logs", "python-can-logs")
EXPECTED = ".expected.json"

#: Files of the folders that hold text about frames, or other data, but no log of frames.
WITHOUT_FRAMES = {"BYD_victron_frames_with_decoded_values.md", "jkbms_pylontech_SOCDataNew.log"}


def _logs(*folders: str, ending: str = "") -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((DATA / folder).glob("*" + ending))
        if not path.name.endswith(EXPECTED)
    ]


def _expected(log: Path) -> dict[str, object]:
    file = log.with_name(log.name + EXPECTED)
    expected: dict[str, object] = json.loads(file.read_text()) if file.exists() else {"error": "no oracle"}
    return expected


def _read(log: Path) -> tuple[list[LogFrame], list[BadFrame]]:
    frames: list[LogFrame] = []
    bad: list[BadFrame] = []
    for entry in read_log(log):
        if isinstance(entry, BadFrame):
            bad.append(entry)
        else:
            frames.append(entry)
    return frames, bad


def _line(frame: LogFrame) -> str:
    flags = "x" * frame.extended + "r" * frame.is_remote + "e" * frame.is_error + "f" * frame.fd
    return f"{frame.can_id:X}{flags}#{frame.data.hex()}"


def _kind(frame: LogFrame) -> str:
    if frame.is_error:
        return "error" if not frame.fd else "fd"
    if frame.fd:
        return "fd"
    return "remote" if frame.is_remote else "ext" if frame.extended else "std"


def _params(paths: list[Path]) -> list[object]:
    if not DATA.is_dir():
        return [pytest.param(None, marks=pytest.mark.skip(reason="no shared test data beside this checkout"))]
    return [pytest.param(path, id=path.name) for path in paths]


@pytest.mark.parametrize("log", _params([log for log in _logs(*FOLDERS) if "error" not in _expected(log)]))
def test_frames_are_those_that_python_can_reads(log: Path) -> None:
    expected = _expected(log)
    frames, bad = _read(log)
    lines = [_line(frame) for frame in frames]
    first = expected["first"]
    last = expected["last"]
    assert isinstance(first, list)
    assert isinstance(last, list)
    assert not bad
    assert len(frames) == expected["frames"]
    assert [[frame.t, line] for frame, line in zip(frames, lines, strict=False)][: len(first)] == [
        [pytest.approx(t, abs=1e-6), line] for t, line, *_ in first
    ]
    assert [frames[-1].t, lines[-1]] == [pytest.approx(last[0], abs=1e-6), last[1]]
    assert hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest() == expected["sha256_of_lines"]
    assert Counter(map(_kind, frames)) == expected["kinds"]


@pytest.mark.parametrize("log", _params([log for log in _logs(*FOLDERS) if "error" in _expected(log)]))
def test_logs_that_python_can_does_not_read(log: Path) -> None:
    if log.name in WITHOUT_FRAMES:
        with pytest.raises(Unsupported, match="no CAN frames found"):
            _read(log)
        return
    frames, bad = _read(log)
    # A capture may begin and end in the middle of a line; all other lines of these files that hold frames are sound.
    assert len(bad) <= 2
    assert len(frames) >= sum(_looks_like_a_frame(line) for line in log.read_text().splitlines())


def _looks_like_a_frame(line: str) -> bool:
    """A rough count of its own: four data bytes in a row, separated as logs do."""
    words = line.replace(",", " ").replace("\t", " ").split()
    runs = "".join("h" if len(word) == 2 and not set(word) - set("0123456789abcdefABCDEF") else "." for word in words)
    return "hhhh" in runs and "ID" not in words  # a table's header has columns D1, D2, …


@pytest.mark.parametrize("log", _params(_logs("j1939", ending=".MF4")))
def test_mf4_frames_are_those_that_asammdf_reads(log: Path) -> None:
    pytest.importorskip("asammdf", reason="the extra mf4 is not installed")
    expected = _expected(log)
    frames, bad = _read(log)
    first = expected["first_frames"]
    assert isinstance(first, list)
    assert not bad
    assert len(frames) == expected["frames"]
    assert frames[0].t == pytest.approx(expected["first_t"])
    assert frames[-1].t == pytest.approx(expected["last_t"])
    assert Counter(hex(frame.can_id) for frame in frames) == expected["ids"]
    # asammdf shows eight bytes of every frame, whatever its length is; the rest is zero.
    assert [[hex(frame.can_id), frame.data.ljust(8, b"\0").hex()] for frame in frames[: len(first)]] == first


@pytest.mark.parametrize("log", _params(_logs("j1939", ending=".MF4")))
def test_a_cut_mf4_is_read_up_to_the_cut(log: Path, tmp_path: Path) -> None:
    pytest.importorskip("asammdf", reason="the extra mf4 is not installed")
    data = log.read_bytes()
    whole, _ = _read(log)
    cut = tmp_path / "cut.mf4"
    for share in (0.3, 0.7, 0.99):
        cut.write_bytes(data[: int(len(data) * share)])
        frames, bad = _read(cut)
        # The logger writes records one behind the other, so the share of the bytes is that of the frames.
        assert len(frames) == pytest.approx(len(whole) * share, rel=0.3)
        assert frames == whole[: len(frames)]
        assert len(bad) <= 1


def _pairs() -> list[object]:
    if not DATA.is_dir():
        return [pytest.param({}, marks=pytest.mark.skip(reason="no shared test data beside this checkout"))]
    pairs = json.loads((DATA / "pairs.expected.json").read_text())
    return [pytest.param(pair, id=name) for name, pair in pairs.items()]


@pytest.mark.parametrize("pair", _pairs())
def test_decoded_signals_are_those_of_cantools(
    pair: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    arguments = argparse.Namespace(
        log=str(DATA / str(pair["log"])), dbc=[DATA / str(pair["dbc"])], format="jsonl", labels=False
    )
    assert decode(arguments) == 0
    seen: dict[str, list[float]] = {}
    for line in output.getvalue().splitlines():
        frame = json.loads(line)
        for name, value in frame["signals"].items():
            seen.setdefault(f"{frame['message']}.{name}", []).append(value)
    figures = {name: [len(values), values[0], values[-1], min(values), max(values)] for name, values in seen.items()}
    expected, errors = pair["signals"], pair["decode_errors"]
    assert isinstance(expected, dict)
    assert isinstance(errors, dict)
    # Where cantools decodes no frame of a message at all, because its signals overlap, we decode each signal.
    known = {name.partition(".")[0] for name in expected}
    failed = {error.partition(":")[0]: count for error, count in errors.items()}
    ours = {name.partition(".")[0] for name in figures} - known
    assert ours <= failed.keys()
    assert {name: figure for name, figure in figures.items() if name.partition(".")[0] in known} == expected

    summary = capsys.readouterr().err
    assert f"frames read: {pair['frames']}, " in summary
    bad = sum(count for message, count in failed.items() if message not in ours)
    assert f"unknown: {pair['unknown_frames']}, bad: {bad}\n" in summary
