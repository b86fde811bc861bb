"""The Debian package in a machine that boots: installed before, enabled, and started by systemd. See ``inside``."""

import time

import pytest

from tests.vm import machine as machines
from tests.vm.image import PACKAGED, Image
from tests.vm.inside.test_service import HANG
from tests.vm.machine import Machine

pytestmark = pytest.mark.vm
STOPS, LONG_STOPS = 5, 50
#: 2 January 1970: a kernel takes no time before that of its own start.
DATE = 86_400
#: One of each kind, and none of them is there.
SITE = """\
data_dir: /var/lib/enlace
site: {id: vm}
api: {listen: "127.0.0.1:8080"}
devices:
  - {id: bms, driver: can, channel: can9, profile: demo_pack}
  - {id: meter, driver: serial_meter, protocol: dsmr, port: /dev/ttyUSB7}
  - {id: charger, driver: modbus, profile: abb_terra_ac, url: "tcp://192.0.2.1:502"}
  - {id: cp1, driver: ocpp, charge_point_id: CP-1}
uplink: {broker: "mqtt://192.0.2.1:1883"}
"""
PYTEST = "python3 -m pytest -q -s -p no:cacheprovider tests/vm/inside/test_service.py"
#: Of those trials: each started anew but once by what it tries, one after the other.
QUICK = "'starts_at_boot or hung or sigterm or killed or bad_configuration'"
#: What hangs on a signal is loaded from the start on, and nobody waits long.
EARLY = f"""\
{machines.SITE}{machines.LEAN}
cp /ctl/trial.pth {PACKAGED}/
mkdir -p /etc/systemd/system/enlace.service.d
printf '[Service]\\nWatchdogSec=15\\nRestartSec=1\\n' >/etc/systemd/system/enlace.service.d/quick.conf
"""


def _machine(installed: Image, command: str, early: str, within_s: float) -> None:
    files = {"now": str(int(time.time())), "site.yaml": SITE, "early": early, "trial.pth": HANG}
    with Machine(installed, f"cd /opt/tree && {command}", date=DATE, files=files) as machine:
        result = machine.wait(within_s * (5 if installed.engine == "qemu" else 1))
    print(result.output)
    assert result.code == 0, result.output + result.errors
    assert "skipped" not in result.output


@pytest.mark.parametrize("stops", [STOPS, pytest.param(LONG_STOPS, marks=pytest.mark.long)])
def test_the_service(installed: Image, stops: int) -> None:
    _machine(installed, f"ENLACE_VM_STOPS={stops} {PYTEST} --durations=0", machines.SITE, 900 + 30 * stops)


@pytest.mark.quick
def test_the_service_in_short(installed: Image) -> None:
    _machine(installed, f"ENLACE_VM_STOPS=1 {PYTEST} --durations=0 -k {QUICK}", EARLY, 600)
