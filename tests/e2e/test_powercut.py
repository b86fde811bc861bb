"""Power cuts at any operation: what was acknowledged is on the disk, and the store opens on whatever else is there.

The process under test runs once under a recorder; then each cut is laid out from its log (``tests/powercut``). A quick
form runs here; ``-m long`` does 15,000 cuts of the main workload, as many as Mosquitto's public trial had.
"""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.core.model import Event
from agent.store import schema
from agent.store.db import Store
from tests.powercut import record, trials
from tests.powercut.disk import HOW, Disk
from tests.powercut.record import Op

LONG_CUTS = 15_000


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record.build(tmp_path_factory.mktemp("recorder"))


class Trial:
    """One workload, recorded, and cut as often as asked."""

    def __init__(
        self, library: Path, folder: Path, workload: str, prepare: Callable[[Path], None] | None = None
    ) -> None:
        self._library = library
        self._folder = folder
        self._workload = workload
        self._prepare = prepare

    def cut(self, check: trials.Check, cuts: int, seed: int = 1, **environment: str) -> trials.Figures:
        top, before = self._folder / f"top{seed}", self._folder / f"before{seed}"
        top.mkdir()
        if self._prepare is not None:
            self._prepare(top)
        shutil.copytree(top, before)
        log = self._folder / f"log{seed}"
        record.run(self._library, top, self._workload, log, environment)
        figures = trials.cut(top, before, list(record.read(log)), check, cuts, seed)
        print(f"{self._workload} {environment or ''}: {figures}")  # noqa: T201 - the figure of the trial
        return figures


def test_nothing_acknowledged_is_lost_whatever_the_disk_had_not_yet(library: Path, tmp_path: Path) -> None:
    figures = Trial(library, tmp_path, "writing").cut(trials.check_store, 100)
    assert figures.losses == []
    assert min(figures.cuts.values()) >= 20


def test_a_file_above_its_size_that_is_made_shorter_keeps_what_must_stay(library: Path, tmp_path: Path) -> None:
    assert Trial(library, tmp_path, "dropping").cut(trials.check_store, 30).losses == []


def test_the_control_finds_what_a_store_loses_that_does_not_sync(library: Path, tmp_path: Path) -> None:
    """The same harness, ``synchronous = NORMAL``: acknowledged records must be missing, or the trial proves nothing."""
    figures = Trial(library, tmp_path, "writing").cut(trials.check_store, 40, WORKLOAD_SYNCHRONOUS="NORMAL")
    assert len(figures.losses) > 10
    assert any("event" in loss or "rows" in loss for loss in figures.losses)


@pytest.mark.long
def test_15000_cuts(library: Path, tmp_path: Path) -> None:
    trial = Trial(library, tmp_path, "writing")
    losses = [loss for seed in range(1, 16) for loss in trial.cut(trials.check_store, LONG_CUTS // 15, seed).losses]
    assert losses == []


def older(version: int) -> Callable[[Path], None]:
    """A file of that version with events in it, half of them in its log."""

    def prepare(top: Path) -> None:
        path = top / "data" / "enlace.db"
        path.parent.mkdir()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            schema.migrate(connection, schema.STEPS[: min(version, 2)])  # events from before the chain
            connection.execute("INSERT INTO boot(boot, wall_us, mono_us) VALUES('b', 1, 1)")
            for n in range(5):
                text = "INSERT INTO event(seq, boot, t_us, kind, subject, data) VALUES(?, 1, 5, ?, '', '{}')"
                connection.execute(text, (n + 1, f"old.event{n}"))
            schema.migrate(connection, schema.STEPS[:version])
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{path}{suffix}.kept")
        for suffix in ("", "-wal"):
            Path(f"{path}{suffix}.kept").replace(f"{path}{suffix}")

    return prepare


@pytest.mark.parametrize("version", range(1, len(schema.STEPS)))
def test_an_older_file_is_the_old_one_or_the_new_one(library: Path, tmp_path: Path, version: int) -> None:
    trial = Trial(library, tmp_path, "opening", older(version))
    assert trial.cut(partial(trials.check_opened, older=version), 30, seed=version).losses == []


def damaged(top: Path) -> None:
    """A killed store's file and log, with a damaged page in the file."""
    path = top / "data" / "enlace.db"
    with closing(Store.open(path, FakeClock(1_780_000_000_000_000))) as store:
        for n in range(30):
            store.record(Event("old.event", n, data={"n": n})).result(60)
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for n in range(30, 60):
            store.record(Event("old.event", n, data={"n": n})).result(60)
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{path}{suffix}.kept")
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}.kept").replace(f"{path}{suffix}")
    content = bytearray(path.read_bytes())
    content[16 * 4096 : 16 * 4096 + 8] = bytes(8)
    content[60:64] = content[60:64][::-1]
    path.write_bytes(content)
    path.with_name(path.name + ".lock").unlink()


@pytest.mark.announced_warnings
def test_moving_a_damaged_file_aside_and_taking_from_it_may_be_cut_too(library: Path, tmp_path: Path) -> None:
    assert Trial(library, tmp_path, "opening", damaged).cut(trials.check_recovered, 30).losses == []


def site(top: Path) -> None:
    (top / "enlace.yaml").write_text("site: {id: a}   # ours\n")


def test_files_that_the_program_rewrites_are_the_old_or_the_new_ones(library: Path, tmp_path: Path) -> None:
    assert Trial(library, tmp_path, "files", site).cut(trials.check_files, 60).losses == []


# -- a disk that fails at one call


def run_failing(library: Path, folder: Path, every: int) -> str:
    """Let calls fail (disk full, disk broken, half written), three in a row, at each so many; what was tried."""
    (folder / "top").mkdir()
    return record.run(library, folder / "top", "failing", folder / "log", {"WORKLOAD_EVERY": str(every)})


def test_a_disk_that_fails_at_any_call_loses_no_event_and_the_store_goes_on(library: Path, tmp_path: Path) -> None:
    assert len(run_failing(library, tmp_path, 23).splitlines()) == 3


@pytest.mark.long
def test_a_disk_that_fails_at_each_call(library: Path, tmp_path: Path) -> None:
    print(run_failing(library, tmp_path, 1))  # noqa: T201 - the figure of the trial


# -- the model itself


def test_the_model_loses_what_was_not_synced_and_only_that(tmp_path: Path) -> None:
    top = str(tmp_path)
    ops = [
        Op("O", 3, os.O_CREAT, 0, f"{top}/a".encode()),
        Op("W", 3, 0, 0, b"x" * 5000),
        Op("S", 3, 0, 0, b""),
        Op("O", 4, 0, 1, top.encode()),
        Op("S", 4, 0, 0, b""),
        Op("W", 3, 0, 0, b"y" * 5000),
        Op("O", 5, os.O_CREAT, 0, f"{top}/b".encode()),
        Op("W", 5, 0, 0, b"z"),
        Op("S", 5, 0, 0, b""),
    ]
    disk = Disk(tmp_path, tmp_path)
    for op in ops:
        disk.follow(op)
    rng = random.Random(1)  # noqa: S311 - a trial that can be repeated
    assert disk.image("nothing", rng) == {"a": b"x" * 5000}
    assert disk.image("everything", rng) == {"a": b"y" * 5000, "b": b"z"}
    torn = {disk.image("torn 512", rng).get("a") for _ in range(50)}
    assert len(torn) > 10
    for content in torn:
        assert content is not None
        for at in range(0, 4608, 512):
            assert content[at : at + 512] in (b"x" * 512, b"y" * 512)
    assert len({disk.image(how, rng).get("b") for how in HOW for _ in range(20)}) == 2  # its name is there or not
