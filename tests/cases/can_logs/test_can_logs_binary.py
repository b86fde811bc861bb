"""Binary logs, written by the libraries that define them, sound and damaged."""

import contextlib
import gzip
import importlib
import itertools
import random
import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import can
import can.io.mf4
import pytest

from agent.core.errors import AgentError, BadData, Unsupported
from agent.core.model import BadFrame
from drivers.can.logs import LogFrame, read_log

START_S = 1_714_550_400.0

MESSAGES = [
    can.Message(
        timestamp=START_S + i / 64,
        arbitration_id=0x18FF50E5 if i % 2 else 0x351,
        is_extended_id=bool(i % 2),
        data=bytes([i & 0xFF] * (i % 9)),
        channel=i % 3,
    )
    for i in range(5000)
]


def _write(path: Path, writer: Callable[[Path], can.io.generic.MessageWriter]) -> Path:
    log = writer(path)
    for message in MESSAGES:
        log.on_message_received(message)
    log.stop()
    return path


class _SmallContainers(can.BLFWriter):
    max_container_size = 4096


@pytest.fixture(scope="module")
def blf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("blf") / "log.blf", _SmallContainers)


@pytest.fixture(scope="module")
def mf4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("asammdf", reason="the extra mf4 is not installed")
    # Whoever imported python-can first may have kept asammdf from it (drivers/lean.py), which it remembers.
    writer = importlib.reload(can.io.mf4).MF4Writer
    return _write(tmp_path_factory.mktemp("mf4") / "log.mf4", writer)


def _frames(path: Path) -> list[LogFrame]:
    return [entry for entry in read_log(path) if not isinstance(entry, BadFrame)]


def _bad(path: Path) -> list[str]:
    return [entry.reason for entry in read_log(path) if isinstance(entry, BadFrame)]


def _rows(frames: list[LogFrame]) -> list[tuple[int, bool, bytes]]:
    return [(frame.can_id, frame.extended, frame.data) for frame in frames]


WRITTEN = [(message.arbitration_id, message.is_extended_id, bytes(message.data)) for message in MESSAGES]


def test_blf(blf: Path) -> None:
    frames = _frames(blf)
    assert _rows(frames) == WRITTEN
    assert not _bad(blf)
    # Channels in the file count from 1.
    assert [frame.channel for frame in frames[:4]] == [1, 2, 3, 1]
    assert frames[1].t == pytest.approx(START_S + 1 / 64, abs=1e-6)


def test_a_cut_blf_gives_its_frames_and_says_that_it_is_cut(blf: Path, tmp_path: Path) -> None:
    data = blf.read_bytes()
    cut = tmp_path / "cut.blf"
    seen = set()
    for size in range(144, len(data), len(data) // 40):
        cut.write_bytes(data[:size])
        frames = _rows(_frames(cut))
        assert frames == WRITTEN[: len(frames)]
        assert len(_bad(cut)) == 1
        seen.add(len(frames))
    assert max(seen) > 0


def test_a_blf_with_noise_in_it_ends_there(blf: Path, tmp_path: Path) -> None:
    data = bytearray(blf.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = random.Random(1).randbytes(64)  # noqa: S311 - noise, no secret
    damaged = tmp_path / "noise.blf"
    damaged.write_bytes(data)
    frames = _rows(_frames(damaged))
    assert frames[:50] == WRITTEN[:50]
    assert _bad(damaged) == ["damaged_file"]


def test_a_blf_object_without_a_size_ends_the_log_behind_the_frames_before_it(tmp_path: Path) -> None:
    """python-can gives such a frame again and again, for ever."""
    path = _write(tmp_path / "log.blf", lambda path: can.BLFWriter(path, compression_level=0))
    data = bytearray(path.read_bytes())
    starts = [match.start() for match in re.finditer(b"LOBJ", data)]
    third = starts[3]  # the first one is the container's own
    data[third + 8 : third + 12] = bytes(4)
    path.write_bytes(data)
    entries = list(itertools.islice(read_log(path), 10))
    assert [type(entry) for entry in entries] == [LogFrame, LogFrame, BadFrame]
    assert _bad(path) == ["damaged_file"]


def test_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    # The table that python-can's SqliteWriter makes.
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TABLE messages (ts REAL, arbitration_id INTEGER, extended INTEGER, remote INTEGER, error INTEGER, "
            "dlc INTEGER, data BLOB)"
        )
        database.executemany(
            "INSERT INTO messages VALUES (?, ?, ?, 0, 0, ?, ?)",
            [
                (message.timestamp, *row[:2], message.dlc, row[2])
                for message, row in zip(MESSAGES, WRITTEN, strict=True)
            ],
        )
        database.commit()
    frames = _frames(path)
    assert _rows(frames) == WRITTEN
    assert frames[1].t == START_S + 1 / 64
    assert {frame.channel for frame in frames} == {None}

    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    (tmp_path / "damaged.db").write_bytes(data)
    assert _bad(tmp_path / "damaged.db")
    (tmp_path / "head.db").write_bytes(data[:100])
    assert _bad(tmp_path / "head.db") == ["damaged_file"]


def test_mf4(mf4: Path) -> None:
    frames = _frames(mf4)
    assert sorted(_rows(frames)) == sorted(WRITTEN)
    assert [frame.t for frame in frames] == sorted(frame.t or 0 for frame in frames)
    assert (frames[-1].t or 0) - (frames[0].t or 0) == pytest.approx((len(MESSAGES) - 1) / 64)


def test_a_cut_mf4_is_refused_or_read_up_to_the_cut(mf4: Path, tmp_path: Path) -> None:
    data = mf4.read_bytes()
    whole = _frames(mf4)
    cut = tmp_path / "cut.mf4"
    for size in range(64, len(data), len(data) // 15):
        cut.write_bytes(data[:size])
        # Some writers put the description of the records at the end: without it there is nothing to read.
        with contextlib.suppress(BadData):
            frames = _frames(cut)
            assert frames == whole[: len(frames)]
            assert len(_bad(cut)) == 1


def test_compressed_binary_logs(blf: Path, mf4: Path, tmp_path: Path) -> None:
    for source in (blf, mf4):
        packed = tmp_path / (source.name + ".gz")
        packed.write_bytes(gzip.compress(source.read_bytes()))
        assert _frames(packed) == _frames(source)


def test_a_cut_gzip_file(tmp_path: Path) -> None:
    lines = b"".join(b"(%d.5) can0 351#%04X\n" % (i, i) for i in range(20_000))
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(lines)[:-3000])
    frames = _frames(path)
    assert len(frames) > 10_000
    assert [frame.t for frame in frames] == [i + 0.5 for i in range(len(frames))]
    assert _bad(path)[-1] == "truncated_file"


def test_without_asammdf_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.mf4"
    path.write_bytes(b"MDF     4.10    ")
    monkeypatch.setitem(sys.modules, "asammdf", None)
    with pytest.raises(Unsupported, match=r"pip install 'enlace\[mf4\]'"):
        list(read_log(path))


@pytest.mark.announced_warnings
@pytest.mark.parametrize("kind", ["blf", "mf4"])
def test_damage_anywhere_never_raises_anything_undocumented(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source: Path = request.getfixturevalue(kind)
    data = source.read_bytes()[:60_000]
    damaged = tmp_path / f"damaged.{kind}"
    chance = random.Random(7)  # noqa: S311 - noise, no secret
    for _ in range(60 if kind == "blf" else 15):
        noisy = bytearray(data)
        for _ in range(chance.randrange(1, 30)):
            noisy[chance.randrange(4 if kind == "blf" else 8, len(noisy))] = chance.randrange(256)
        damaged.write_bytes(noisy)
        try:
            entries = list(read_log(damaged))
        except AgentError:
            continue
        assert len(entries) <= len(MESSAGES) + 1


@pytest.mark.parametrize("writer", [can.CanutilsLogWriter, can.ASCWriter, can.TRCWriter, can.CSVWriter, can.Printer])
def test_text_logs_that_python_can_writes(
    writer: Callable[[Path], can.io.generic.MessageWriter], tmp_path: Path
) -> None:
    path = _write(tmp_path / "log.txt", writer)
    frames = _frames(path)
    assert not _bad(path)
    assert _rows(frames) == WRITTEN
    elapsed = [(frame.t or 0) - (frames[0].t or 0) for frame in frames]
    assert elapsed == pytest.approx([i / 64 for i in range(len(MESSAGES))], abs=1e-3)
