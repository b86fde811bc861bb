"""Every format of text log, from small files that were written by hand after the format's description.

``expected.json``: ``entries`` in file order, a frame as ``[t, channel, "ID[x][r][e][f]#data"]`` and an unreadable line
as the reason of its ``BadFrame``.
"""

import gzip
import json
from pathlib import Path

import pytest

from agent.core.model import BadFrame
from drivers.can.logs import LogFrame, read_log

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))


def _read(log: Path) -> list[object]:
    return [
        entry.reason if isinstance(entry, BadFrame) else [entry.t, entry.channel, _text(entry)]
        for entry in read_log(log)
    ]


def _text(frame: LogFrame) -> str:
    flags = "x" * frame.extended + "r" * frame.is_remote + "e" * frame.is_error + "f" * frame.fd
    return f"{frame.can_id:X}{flags}#{frame.data.hex()}"


def _case(folder: Path) -> tuple[Path, list[object]]:
    expected = json.loads((folder / "expected.json").read_text())
    entries: list[object] = [
        entry if isinstance(entry, str) else [entry[0] and pytest.approx(entry[0], abs=1e-6), *entry[1:]]
        for entry in expected["entries"]
    ]
    return folder / expected["log"], entries


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_frames_and_bad_lines_in_order(folder: Path) -> None:
    log, entries = _case(folder)
    assert _read(log) == entries


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_name_line_ends_encoding_and_compression_do_not_matter(folder: Path, tmp_path: Path) -> None:
    log, entries = _case(folder)
    text = log.read_text()
    other = tmp_path / "log.dat"
    for data in (
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("utf-16"),
        gzip.compress(text.encode()),
        text.rstrip().encode(),
    ):
        other.write_bytes(data)
        assert _read(other) == entries
