"""In the guest: ``enlace upgrade`` as ``docs/upgrade.md`` has it, with the package's service under systemd.

``/ctl`` holds signed packages: 100.0 of all wheels, 101.0 that ends at once, 102.0 that ends after some seconds, and
99.0; ``/ctl/former`` has the version that the Debian package brought.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

from tests.vm.inside.cut_upgrade import ENLACE, ROOT, ledger
from tests.vm.inside.test_service import CTL, answers, is_up, journal, show, until

NEW = "100.0"


def former() -> str:
    return (CTL / "former").read_text().strip()


def upgrade(*words: str) -> tuple[int, str]:
    """Its code, and what it said, which can be read outside meanwhile."""
    log = CTL / "upgrade.log"
    with log.open("wb") as said:
        code = subprocess.run([ENLACE, "upgrade", *words], stdout=said, stderr=said, check=False).returncode
    return code, log.read_text()


def package(version: str) -> str:
    return str(CTL / f"{version}.upgrade")


def runs() -> str:
    """The version that the link leads to, which is also what the process said of itself when it started."""
    link = (ROOT / "current").readlink().name
    said = re.findall(r"site upgrade is up, version (\S+)", journal("-b", "-u", "enlace"))
    assert said[-1] == link
    return link


def told(kind: str, version: str) -> None:
    until(lambda: (kind, version) in ledger(), f"the ledger says {kind} of {version}")


def test_a_look_at_a_package_changes_nothing() -> None:
    until(is_up, "the service answers after the boot")
    assert runs() == former()
    before = show("MainPID")
    code, said = upgrade("--check", package(NEW))
    assert code == 0, said
    assert said.strip().endswith("it fits here")
    assert (runs(), show("MainPID")) == (former(), before)


def test_one_that_nobody_signed_is_refused() -> None:
    damaged = Path("/root/damaged.upgrade")
    shutil.copy(package("99.0"), damaged)
    with damaged.open("r+b") as file:
        file.seek(700)
        file.write(b"?")
    code, said = upgrade(str(damaged))
    assert code == 2, said
    assert runs() == former()
    told("upgrade.refused", "")


def test_the_new_version_is_installed_and_run_by_systemd() -> None:
    before, from_s = show("MainPID"), time.monotonic()
    code, said = upgrade(package(NEW))
    took_s = time.monotonic() - from_s
    assert code == 0, said + journal("-u", "enlace", "-n", "40")
    assert said.splitlines()[-1] == f"Enlace {NEW} runs and is well"
    assert runs() == NEW
    assert show("ActiveState") == "active"
    assert show("NRestarts") == "0"
    assert show("MainPID") != before
    assert answers()
    told("upgrade.done", NEW)
    stood_s = int(show("ActiveEnterTimestampMonotonic")) - int(show("InactiveEnterTimestampMonotonic"))
    print(f"upgraded in {took_s:.0f} s; the gateway stood still for {stood_s / 1e6:.1f} s of them")


def test_one_that_does_not_come_up_is_undone_by_itself() -> None:
    code, said = upgrade(package("101.0"), "--within", "120")
    assert code == 2, said
    until(is_up, "the former version runs again")
    assert runs() == NEW
    told("upgrade.rolled_back", "101.0")
    assert not (ROOT / "envs" / "101.0").exists()


def test_one_that_comes_up_and_dies_is_undone_by_itself() -> None:
    code, said = upgrade(package("102.0"), "--within", "120")
    assert code == 2, said
    until(is_up, "the former version runs again")
    assert runs() == NEW
    told("upgrade.rolled_back", "102.0")


def test_an_older_one_is_refused() -> None:
    before = show("MainPID")
    code, said = upgrade(package("99.0"))
    assert code == 2, said
    assert (runs(), show("MainPID")) == (NEW, before)
    told("upgrade.refused", "99.0")


def test_nothing_lies_about() -> None:
    assert {one.name for one in ROOT.iterdir()} == {"envs", "current", "good", "highest", "upgrade.lock"}
    assert {one.name for one in (ROOT / "envs").iterdir()} == {former(), NEW}
    assert (ROOT / "good").readlink().name == NEW
