"""The Debian package for arm64, installed in an emulated arm64 Debian that runs: it starts, answers, keeps a value.

All of it is emulated (QEMU's ``virt`` board, a Cortex-A72 as in a Raspberry Pi 4), which takes its time.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.conftest import missing
from tests.vm.image import ROOT, Builder, Image, scratch, tool
from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.long]
WITHIN_S = 3600.0
SITE = """\
data_dir: /var/lib/enlace
site: {id: arm}
api: {listen: "127.0.0.1:8080"}
devices:
  - {id: bms, driver: can, channel: vcan0, profile: demo_pack}
"""


def lacks() -> str:
    """What this machine has not; programs of arm64 must run on it too, for Debian is installed by its own."""
    if absent := missing("qemu-system-aarch64"):
        return absent
    try:
        runs = subprocess.run([tool("arch-test"), "arm64"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return "arch-test"
    return "" if runs else "programs of arm64 to run (qemu-user-static, binfmt-support)"


@pytest.fixture(scope="module")
def board() -> Iterator[Image]:
    """Debian for arm64."""
    if absent := lacks():
        pytest.skip(f"arm64 needs {absent}")
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as folder:
        yield Builder("qemu", "arm64").image(Path(folder))


@pytest.fixture(scope="module")
def arm_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this tree for arm64."""
    folder = tmp_path_factory.mktemp("deb")
    build = [sys.executable, "packaging/build_deb.py", "--suite", "bookworm", "--arch", "arm64", "--out", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True)
    (made,) = folder.glob("*_arm64.deb")
    return made


def test_the_package_for_arm64_installs_starts_and_keeps_a_value(board: Image, arm_package: Path) -> None:
    with Machine(board, "bash /opt/tree/tests/vm/inside/arm64.sh", files={"site.yaml": SITE}) as machine:
        shutil.copy(arm_package, machine.ctl / "enlace.deb")
        result = machine.wait(WITHIN_S)
    print(f"arm64: systemd starts {result.boot_s:.0f} s after power on\n{result.output}")
    assert result.code == 0, result.output + result.errors
    told = dict(line.split(": ", 1) for line in result.output.splitlines() if ": " in line)
    assert told["machine"] == "aarch64"
    assert told["version"].startswith("enlace 0.")
    assert told["service"] == "active"
    assert told["health"].startswith("HTTP/1.1 200")
    assert int(told["values"]) > 0
    assert told["stopped"] == "inactive success"
