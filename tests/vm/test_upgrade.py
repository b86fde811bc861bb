"""``enlace upgrade`` where it belongs: the Debian package's service under systemd, also when the power goes meanwhile.

As documented (``inside/test_upgrade.py``): a package of all wheels, those that must be refused or undone. Then cuts,
one at a random moment of each step of an upgrade: after each boot the service runs by itself, on the version from
before or on the new one, whole, and nothing of the upgrade lies about; the ledger says what became of each.
"""

import dataclasses
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.upgrade_rig import write_keys
from tests.vm import machine as machines
from tests.vm import packages
from tests.vm.image import Image, call, scratch
from tests.vm.machine import Machine

pytestmark = pytest.mark.vm
PATIENCE_S = 3600.0
SITE = """\
data_dir: /var/lib/enlace
site: {id: upgrade}
api: {listen: "127.0.0.1:8080"}
devices:
  - {id: bms, driver: can, channel: vcan0, profile: demo_pack}
"""
EARLY = f"{machines.LEAN}{machines.SITE}install -m 0644 /ctl/release.pub /etc/enlace/upgrade.pub\n"
TELEMETRY = "cangen vcan0 -g 20 -I 1A0 -L 7 -D r &\ncd /opt/tree\n"
PYTEST = "python3 -m pytest -q -s -x -p no:cacheprovider tests/vm/inside/test_upgrade.py"
CUT = "python3 -m tests.vm.inside.cut_upgrade /ctl"
#: What the command has said when each step begins, and within how many seconds of it the power goes.
STEPS = {
    "unpacking": 1.0,
    "installing into": 25.0,
    "trying it out": 12.0,
    "stopping": 15.0,
    "for 5 s to be seen": 9.0,
}


@pytest.fixture
def disk(installed: Image) -> Iterator[Image]:
    """A copy of the installed machine's disk, which lasts from boot to boot."""
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as name:
        copy = Path(name) / "root.img"
        call("cp", "--sparse=always", "--reflink=auto", installed.disk, copy)
        yield dataclasses.replace(installed, disk=copy)


def power_on(image: Image, command: str, folder: Path, *files: Path, keep: bool) -> Machine:
    """A machine that trusts the key of that folder, with those files in ``/ctl``."""
    known = {"site.yaml": SITE, "early": EARLY, "release.pub": (folder / "release.pub").read_text()}
    machine = Machine(image, TELEMETRY + command, keep=keep, files=known)
    for path in files:
        shutil.copy(path, machine.ctl)
    return machine


def test_as_documented(installed: Image, package: Path, tmp_path: Path) -> None:
    former = packages.version_of(package)
    write_keys(tmp_path, "release")
    made = [packages.whole(tmp_path, package, "100.0")]
    made.append(packages.small(tmp_path, "100.0", "101.0", packages.CRASHES))
    made.append(packages.small(tmp_path, "100.0", "102.0", packages.DIES))
    made.append(packages.small(tmp_path, "100.0", "99.0"))
    with power_on(installed, f"echo {former} >/ctl/former\n{PYTEST}", tmp_path, *made, keep=False) as machine:
        result = machine.wait(PATIENCE_S)
    print(result.output)
    assert result.code == 0, result.output + result.errors


def test_a_power_cut_at_any_step_leaves_a_version_that_runs(disk: Image, package: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("ENLACE_VM_SEED") or random.SystemRandom().randrange(1 << 32))
    moments = random.Random(seed)  # noqa: S311 - a trial that can be repeated
    print(f"seed {seed}")
    write_keys(tmp_path, "release")
    first = packages.version_of(package)
    allowed, tried = {first}, [f"10{number}.0" for number in range(len(STEPS) + 1)]
    for version, (step, within_s) in zip(tried, STEPS.items(), strict=False):
        new = packages.small(tmp_path, first, version)
        with power_on(disk, f"{CUT} /ctl/{new.name}", tmp_path, new, keep=True) as machine:
            runs = _runs(machine, allowed)
            machine.until(lambda says=step: says in machine.read("upgrade.log"), step, PATIENCE_S)  # type: ignore[misc]
            time.sleep(moments.uniform(0, within_s))
            told = machine.read("upgrade.log").splitlines()
        print(f"{runs} ran; cut when the upgrade to {version} had said {told[-1]!r}")
        allowed = {runs, version}
    last = tried[-1]
    new = packages.small(tmp_path, first, last)
    with power_on(disk, f"{CUT} /ctl/{new.name}", tmp_path, new, keep=True) as machine:
        _runs(machine, allowed)
        result = machine.wait(PATIENCE_S)
        assert result.code == 0, machine.read("upgrade.log") + result.errors
        _is_whole(json.loads(machine.read("after")), {last})
        _ledger_is_right(machine, tried)


def _ledger_is_right(machine: Machine, tried: list[str]) -> None:
    """It tells of each upgrade once; of the first one, which was cut before anything was done, maybe not at all."""
    ledger = [tuple(one) for one in json.loads(machine.read("ledger"))]
    print(ledger)
    assert ("upgrade.done", tried[-1]) in ledger
    assert sorted(version for _, version in ledger) in (tried, tried[1:])


def _runs(machine: Machine, allowed: set[str]) -> str:
    """Which version the service runs, when it has come up by itself after the boot."""
    machine.until((machine.ctl / "before").exists, "the service runs after the boot", PATIENCE_S)
    found = dict(json.loads(machine.read("before")))
    _is_whole(found, allowed)
    return str(found["runs"])


def _is_whole(found: dict[str, Any], allowed: set[str]) -> None:
    assert found["runs"] in allowed, found
    assert found["restarts"] == "0", found
    assert found["says"] == found["runs"], found
    assert set(found["root"]) <= {"envs", "current", "good", "highest", "upgrade.lock"}, found
    assert found["runs"] in found["envs"], found
    assert not [name for name in found["envs"] if name.startswith(".")], found
    assert found["verified"] == 0, found
