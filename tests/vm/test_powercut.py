"""Power cuts of a whole machine while clients post and charge: it starts again, and nothing acknowledged is lost.

After each cut the machine boots, systemd starts the package's service on what was left, and a snapshot of its
database goes to the host, which holds it against all that was acknowledged so far (``cut_check.py``). Meanwhile the
clients go on until the next cut. The data disk goes on from boot to boot; what the guest had not written to it is lost
with the guest's memory. Acknowledgements are on the host before the cut (``inside/cut_load.py``).

``make test-vm`` does 20 cuts, ``-m long`` 500, ``$ENLACE_VM_CUTS`` as many as it says, on ``$ENLACE_VM_MACHINES`` at
the same time; the seed is printed. The trial itself is tried: with fsync turned off in the guest (eatmydata) it must
find lost records.
"""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vm import machine as machines
from tests.vm.cut_check import Report, check
from tests.vm.image import Image, call, scratch
from tests.vm.inside import token
from tests.vm.machine import Failed, Machine

pytestmark = pytest.mark.vm
CUTS, LONG_CUTS = 20, 500
PATIENCE_S = 600.0
#: After so many the next ones get a new disk: each boot checks all that was ever acknowledged on it.
DISK_CUTS = 50
#: How long the clients work before the cut: between an instant and several commits and checkpoints.
WORK_S = (0.0, 6.0)
SITE = """\
data_dir: /var/lib/enlace
site: {id: cut}
api: {listen: "127.0.0.1:8080"}
ocpp: {listen: "127.0.0.1:9000", security_profile: 0, id_tags: any}
devices:
  - {id: bms, driver: can, channel: vcan0, profile: demo_pack}
  - {id: cp1, driver: ocpp, charge_point_id: CP-1}
"""
#: Before systemd starts: the site, and its data for the service's user.
EARLY = f"""\
{machines.LEAN}{machines.SITE}
chown -R enlace:enlace /var/lib/enlace
mkdir -p /etc/systemd/system/enlace.service.d
cp /ctl/trial.conf /etc/systemd/system/enlace.service.d/
"""
#: Telemetry of a battery, some hundred frames a second; and the clients.
COMMAND = """\
cangen vcan0 -g 10 -I 1A0 -L 7 -D r -p 10 &
cd /opt/tree && python3 -m tests.vm.inside.cut_load /ctl
"""


@dataclass
class Figures:
    """What series of cuts found."""

    cuts: int = 0
    rows: int = 0
    sessions: int = 0
    telemetry: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    def __str__(self) -> str:
        """In words."""
        ready = f"{min(self.ready_s):.0f} to {max(self.ready_s):.0f} s after power on" if self.ready_s else "never"
        acknowledged = f"{self.rows} rows and {self.sessions} sessions acknowledged"
        return (
            f"{self.cuts} cuts in {self.took_s:.0f} s, {acknowledged} beside {self.telemetry} values of a CAN signal, "
            f"{self.lost} lost, {len(self.faults)} faults; ready {ready}"
        )

    def add(self, other: "Figures") -> None:
        """Those of another series; how long both took is not said by that."""
        self.cuts += other.cuts
        self.rows += other.rows
        self.sessions += other.sessions
        self.telemetry += other.telemetry
        self.lost += other.lost
        self.faults += other.faults
        self.ready_s += other.ready_s


class Series:
    """Cuts of one machine with one data disk."""

    def __init__(self, image: Image, folder: Path, seed: int, preload: str = "") -> None:
        self._image, self._folder, self._disk = image, folder, folder / "data.img"
        self._random = random.Random(seed)  # noqa: S311 - a trial that can be repeated
        self._base_us = (int(time.time()) - 86_400) * 1_000_000
        self._acks = ""
        with tempfile.TemporaryDirectory() as name:
            admins = token.make(Path(name))
            call("mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0", "-d", name, self._disk, "256M")
        unit = "[Service]\nTimeoutStartSec=300\n" + (f"Environment=LD_PRELOAD={preload}\n" if preload else "")
        self._files = {"site.yaml": SITE, "early": EARLY, "trial.conf": unit, "token": admins}
        self._files["base_us"] = str(self._base_us)
        self.figures = Figures()

    def run(self, cuts: int, *, until_lost: bool = False) -> Figures:
        """So many cuts and a last boot that only checks, each of them told; or until the first that lost something."""
        from_s = time.monotonic()
        for number in range(cuts + 1):
            self._boot(last=number == cuts)
            self.figures.took_s = time.monotonic() - from_s
            print(f"{self._folder.name}: {self.figures}", flush=True)
            if until_lost and self.figures.faults:
                break
        return self.figures

    def _boot(self, *, last: bool) -> None:
        files = self._files | {"acks": self._acks}
        with Machine(self._image, COMMAND, data=self._disk, files=files) as machine:
            try:
                machine.until((machine.ctl / "enlace.db").exists, "the gateway answers", PATIENCE_S)
                self._judge(machine)
                if not last:
                    self._work(machine)
            except Failed as error:
                self.figures.faults.append(f"after cut {self.figures.cuts}: {error}")
            if not last:
                machine.cut()
                self.figures.cuts += 1
            self._acks = machine.read("acks")

    def _work(self, machine: Machine) -> None:
        machine.until(lambda: len(machine.read("acks")) > len(self._acks), "the first answer", PATIENCE_S)
        time.sleep(self._random.uniform(*WORK_S))
        if machine.read("rc"):
            self.figures.faults.append(f"the clients ended before the cut\n{machine.told()}")

    def _judge(self, machine: Machine) -> None:
        self.figures.ready_s.append(float(machine.read("ready_s")))
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            (machine.ctl / "enlace.db").rename(Path(name) / "enlace.db")
            report: Report = check(Path(name) / "enlace.db", self._acks, self._base_us)
        self.figures.rows, self.figures.sessions = report.rows, report.sessions
        self.figures.telemetry = report.telemetry
        self.figures.lost += report.lost
        self.figures.faults += [f"after cut {self.figures.cuts}: {fault}" for fault in report.faults]


def _seed() -> int:
    return int(os.environ.get("ENLACE_VM_SEED") or random.SystemRandom().randrange(1 << 32))


def _cut(image: Image, folder: Path, cuts: int) -> None:
    seed, machines = _seed(), int(os.environ.get("ENLACE_VM_MACHINES") or 1)

    from_s = time.monotonic()

    def series(number: int) -> Figures:
        share = cuts // machines + (number < cuts % machines)
        found = Figures()
        for first in range(0, share, DISK_CUTS):
            place = folder / f"{number}-{first}"
            place.mkdir()
            one = Series(image, place, seed + number + machines * first)
            found.add(one.run(min(DISK_CUTS, share - first)))
            shutil.rmtree(place)
        return found

    figures = Figures()
    with ThreadPoolExecutor(machines) as pool:
        for one in pool.map(series, range(machines)):
            figures.add(one)
    figures.took_s = time.monotonic() - from_s
    print(f"{image.engine}, seed {seed}: {figures}")
    assert not figures.faults, "\n".join(figures.faults)
    assert figures.cuts == cuts
    assert figures.rows > 0
    assert figures.sessions > 0
    assert figures.telemetry > 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the data disks stand."""
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as name:
        yield Path(name)


def test_nothing_acknowledged_is_lost(installed: Image, folder: Path) -> None:
    _cut(installed, folder, int(os.environ.get("ENLACE_VM_CUTS") or CUTS))


@pytest.mark.long
def test_nothing_acknowledged_is_lost_in_many_cuts(installed: Image, folder: Path) -> None:
    _cut(installed, folder, LONG_CUTS)


def test_without_fsync_the_trial_finds_what_is_lost(installed: Image, folder: Path) -> None:
    figures = Series(installed, folder, 1, preload="libeatmydata.so").run(4, until_lost=True)
    print(f"{installed.engine}, without fsync: {figures}")
    assert figures.lost > 0 or figures.faults, "a trial that finds nothing here proves nothing"
