"""Upgrades on real files: cut at every step, refused, rolled back, and on a full disk."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.errors import UpgradeError
from agent.upgrade import rules, upgrade
from agent.upgrade.keys import trusted
from tests.killed import CHANGES, killed_at
from tests.upgrade_rig import NEW, NEWEST, OLD, Machine, is_whole, write_keys, write_package

STEPS = CHANGES | {"os.symlink"}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path / "m")
    found.set_up()
    # It waits for what all the others on this machine write.
    monkeypatch.setattr(os, "sync", lambda: None)
    return found


def test_a_newer_version_is_installed_and_runs(machine: Machine) -> None:
    machine.install(write_package(machine.folder, NEW))
    assert machine.runs.read_text() == NEW
    assert machine.root.version_of(machine.root.current) == machine.root.version_of(machine.root.good)
    assert machine.outcomes() == [("upgrade.done", NEW)]
    assert machine.leftovers() == []
    assert machine.root.env(OLD).is_dir()  # to go back to by hand


def test_the_environment_before_the_former_goes_but_only_if_an_upgrade_made_it(machine: Machine) -> None:
    for version in ("2.0.0", "2.1.0", "2.2.0"):
        machine.install(write_package(machine.folder, version))
    assert sorted(one.name for one in machine.root.envs.iterdir()) == [OLD, "2.1.0", "2.2.0"]


@pytest.mark.parametrize(
    ("version", "more", "told"),
    [
        ("1.0.0", {}, "1.0.0 runs"),
        ("0.9.0", {}, "1.0.0 runs"),
        ("1.0.0rc9", {}, "1.0.0 runs"),
        ("2.0.0", {"from_version": "1.5"}, "can't follow 1.0.0 directly"),
        ("2.0.0", {"target": ("cp311", "linux-riscv64")}, "it is for cp311 on linux-riscv64"),
        ("2.0.0", {"target": ("cp310", "linux-x86_64")}, "it is for cp310 on linux-x86_64"),
        ("2.0.0", {"store_schema": NEWEST - 1}, f"has schema {NEWEST}"),
        ("2.0.0", {"key": "stranger"}, "no key that is trusted here"),
    ],
)
def test_what_does_not_fit_is_refused_and_stands_on_the_ledger(
    machine: Machine, version: str, more: dict[str, str], told: str
) -> None:
    write_keys(machine.folder, "stranger")
    package = write_package(machine.folder, version, **more)
    before = tree(machine.root.path)
    with pytest.raises(UpgradeError, match=told):
        machine.install(package)
    assert tree(machine.root.path) == before
    assert [kind for kind, _ in machine.outcomes()] == ["upgrade.refused"]


def test_a_python_that_cannot_make_environments_is_told_before_anything_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_package(machine.folder, NEW)
    monkeypatch.setattr(rules, "find_spec", lambda _: None)
    with pytest.raises(UpgradeError, match="can't make an environment"):
        machine.upgrader().check(package, trusted(machine.folder / "release.pub"))
    with pytest.raises(UpgradeError, match="can't make an environment"):
        machine.install(package)
    assert machine.leftovers() == []


def test_a_version_that_ran_and_was_left_does_not_come_back(machine: Machine) -> None:
    """The Debian package brought the machine back to an older one; an old package is still signed."""
    machine.install(write_package(machine.folder, "2.0.0"))
    machine.install(write_package(machine.folder, "2.1.0"))
    machine.root.point(machine.root.current, "2.0.0")
    with pytest.raises(UpgradeError, match=r"2\.1\.0 ran here before"):
        machine.install(write_package(machine.folder, "2.0.1"))
    machine.install(write_package(machine.folder, "2.2.0"))


def test_a_package_whose_later_part_is_damaged_leaves_no_trace(machine: Machine) -> None:
    package = write_package(machine.folder, NEW)
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    package.write_bytes(content)
    with pytest.raises(UpgradeError, match="it was changed or cut off"):
        machine.upgrader().check(package, trusted(machine.folder / "release.pub"))
    with pytest.raises(UpgradeError, match="it was changed or cut off"):
        machine.install(package)
    assert machine.runs.read_text() == OLD
    assert machine.leftovers() == []
    assert not machine.root.env(NEW).exists()
    assert machine.outcomes() == [("upgrade.rolled_back", NEW)]


def test_a_version_that_is_not_well_is_undone(machine: Machine) -> None:
    machine.ill = "device b is not online"
    with pytest.raises(UpgradeError, match="device b"):
        machine.install(write_package(machine.folder, NEW))
    assert machine.runs.read_text() == OLD
    assert machine.leftovers() == []
    assert machine.outcomes() == [("upgrade.rolled_back", NEW)]
    machine.ill = ""
    machine.install(write_package(machine.folder, NEW))  # it may be tried again
    assert machine.runs.read_text() == NEW


def test_a_store_in_which_nothing_was_recorded_is_as_it_was(machine: Machine) -> None:
    machine.ill, machine.migrates = "it crashed", True
    before_bytes = machine.database.stat().st_size
    with pytest.raises(UpgradeError):
        machine.install(write_package(machine.folder, NEW))
    assert is_whole(machine.database)
    assert machine.events() == ["test.old"]
    assert not list(machine.data.glob("enlace.db.newer-*"))
    assert machine.database.stat().st_size >= before_bytes


def test_what_the_new_version_recorded_is_taken_over_by_the_former_one(machine: Machine) -> None:
    machine.ill, machine.migrates, machine.records = "it crashed", True, True
    with pytest.raises(UpgradeError):
        machine.install(write_package(machine.folder, NEW))
    assert machine.events() == ["test.old", "test.new"]
    assert len(list(machine.data.glob("enlace.db.newer-*Z"))) == 1


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("case", ["passes", "not well", "not well, other schema", "not well, recorded"])
def test_a_cut_at_any_step_leaves_one_of_both_whole(
    case: str, stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)
    Machine(tmp_path / "template").set_up()
    package = write_package(tmp_path / "template", NEW)
    outcomes = set()
    for step in range(stride, 500, stride):
        machine = Machine(tmp_path / str(step))
        shutil.copytree(tmp_path / "template", machine.folder, symlinks=True)
        machine.ill = "" if case == "passes" else case
        machine.migrates, machine.records = "," in case, "recorded" in case
        ended = killed_at(step, lambda: machine.install(package), STEPS)  # noqa: B023 - done before the next
        if ended or (case != "passes" and not list(machine.root.path.glob("upgrade.json")) and machine.outcomes()):
            break
        # Whatever runs it, ``current`` leads to a whole version before anything is put right.
        assert (machine.root.current / "bin" / "enlace").stat().st_size
        # What puts it right is cut too, now and then, and done again.
        for again in (step % 7 + 1, 2 * (step % 5) + 3):
            killed_at(again, lambda: machine.upgrader().resume(service=False), STEPS)  # noqa: B023 - the same
        machine.upgrader().resume(service=False)
        machine.boot()
        assert machine.leftovers() == []
        runs = machine.runs.read_text()
        outcomes.add(runs)
        if runs == OLD:
            assert not machine.root.env(NEW).exists()
            assert not machine.migrates or "test.old" in machine.events()
        else:
            assert case == "passes"
            assert machine.outcomes() == [("upgrade.done", NEW)]
        shutil.rmtree(machine.folder)
    else:
        raise AssertionError("it never came to its end")
    assert step > 30
    assert outcomes == ({OLD, NEW} if case == "passes" else {OLD})


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; skipped, visibly, where this user may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - the mount that was found


def test_without_room_nothing_is_begun(small: Path) -> None:
    machine = Machine(small)
    machine.set_up()
    with pytest.raises(UpgradeError, match="MiB are needed"):
        machine.install(write_package(small, NEW))
    assert machine.runs.read_text() == OLD
    assert not (machine.root.path / "good").exists()


@pytest.mark.parametrize("left_kib", [0, 4, 8, 12, 40, 190, 210, 220, 400])
def test_a_disk_that_fills_on_the_way_leaves_the_former_version(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_kib: int
) -> None:
    """Somebody else takes the room, to so many KiB, after it was looked for."""
    machine = Machine(small / "m")
    machine.data = tmp_path / "data"
    machine.database = machine.data / "enlace.db"
    machine.runs = tmp_path / "runs"
    machine.set_up()
    monkeypatch.setattr(upgrade, "check_room", lambda *_: None)
    (tmp_path / "release.pem").write_bytes((machine.folder / "release.pem").read_bytes())
    package = write_package(tmp_path, NEW)
    filler = small / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small).free - left_kib * 1024))
    try:
        machine.install(package)
    except UpgradeError as error:
        assert "No space left" in str(error)  # noqa: PT017 - there may be room enough
        assert machine.runs.read_text() == OLD
    filler.unlink()
    machine.upgrader().resume(service=False)
    machine.boot()
    assert machine.leftovers() == []
    assert machine.root.env(machine.runs.read_text()).is_dir()
    assert (left_kib < 210) == (machine.runs.read_text() == OLD)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
