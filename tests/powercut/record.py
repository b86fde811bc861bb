"""A process under the recorder: builds ``recorder.c``, starts a workload with it and reads its log."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_HEAD = struct.Struct("<ciqqI")
#: A workload takes some seconds; a machine under load more.
_WAIT_S = 300


@dataclass(frozen=True, slots=True)
class Op:
    """One record of the log; ``recorder.c`` says what stands in it."""

    what: str
    fd: int
    a: int
    b: int
    data: bytes

    @property
    def paths(self) -> list[str]:
        """The names of an operation on names."""
        return [name.decode() for name in self.data.split(b"\0")]


def build(folder: Path) -> Path:
    """The recorder as a library in that folder. Skips the test, visibly, where there is no gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the recorder of the power-cut trials can't be built")
    library = folder / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    command = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source), "-lpthread"]
    subprocess.run(command, check=True)
    return library


def run(library: Path, folder: Path, workload: str, log: Path, extra: Mapping[str, str] | None = None) -> str:
    """Let a workload of ``workloads.py`` run over a folder, and record all that happens below it; what it printed."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "RECORD_FOLDER": str(folder),
        "RECORD_LOG": str(log),
        **(extra or {}),
    }
    command = [sys.executable, "-m", "tests.powercut.workloads", workload, str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=_WAIT_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(log: Path) -> Iterator[Op]:
    """The operations in their order."""
    data = log.read_bytes()
    at = 0
    while at < len(data):
        what, fd, a, b, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield Op(what.decode(), fd, a, b, data[at : at + size])
        at += size
