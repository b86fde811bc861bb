"""The other engine, an emulated PC with Debian's own kernel: results come out, frames go over vcan, a cut is a cut."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.conftest import missing
from tests.vm.image import Builder, Image, call, scratch
from tests.vm.machine import Failed, Machine

pytestmark = [pytest.mark.vm, pytest.mark.long]
WITHIN_S = 600.0
FRAMES = 20
#: A dump that ends by itself, and frames for it.
CAN = f"""\
candump -n {FRAMES} -T 60000 -L vcan0 >frames & sleep 2
cangen vcan0 -g 5 -n {FRAMES} -I 1A0 -L 8 -D i
wait && wc -l <frames"""


@pytest.fixture(scope="module")
def plain_pc() -> Iterator[Image]:
    """Debian with this tree, for QEMU."""
    if lacks := missing("qemu-system-x86_64"):
        pytest.skip(f"qemu needs {lacks}")
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as folder:
        yield Builder("qemu").image(Path(folder))


def test_a_command_s_output_and_exit_code_come_out(plain_pc: Image) -> None:
    told = "cat /proc/1/comm; uname -m; date +%s; cat /ctl/word; echo trouble >&2; exit 7"
    with Machine(plain_pc, told, date=86_400, files={"word": "from the host\n"}) as machine:
        result = machine.wait(WITHIN_S)
    print(f"QEMU: systemd starts {result.boot_s:.0f} s after power on")
    init, processor, now, word = result.output.splitlines()
    assert (result.code, result.errors, init, processor, word) == (7, "trouble\n", "systemd", "x86_64", "from the host")
    # systemd lifts a clock that is older than itself to its own build.
    assert int(now) < time.time() - 86_400


def test_frames_go_over_its_vcan(plain_pc: Image) -> None:
    with Machine(plain_pc, CAN) as machine:
        result = machine.wait(WITHIN_S)
    assert (result.code, result.output.split()) == (0, [str(FRAMES)]), result.output + result.errors


def test_a_data_disk_outlives_a_cut(plain_pc: Image, tmp_path: Path) -> None:
    data = tmp_path / "data.img"
    call("mke2fs", "-q", "-F", "-t", "ext4", data, "64M")
    write = "echo kept >/var/lib/enlace/word && sync && touch /ctl/synced && sleep 600"
    with Machine(plain_pc, write, data=data) as machine:
        machine.until((machine.ctl / "synced").exists, "the disk has it", WITHIN_S)
        machine.cut()
        with pytest.raises(Failed, match="off after"):
            machine.wait(WITHIN_S)
    with Machine(plain_pc, "cat /var/lib/enlace/word", data=data) as machine:
        result = machine.wait(WITHIN_S)
    assert (result.code, result.output) == (0, "kept\n"), result.errors
