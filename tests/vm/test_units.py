"""What belongs to the service beside its unit, on hardware that QEMU makes up: CAN controllers and serial adapters.

The machine has two CAN controllers (Kvaser PCI, SJA1000) on one bus. USB serial adapters (FTDI) are plugged in and
pulled out while it runs: behind one stands a meter that pushes telegrams, behind the other one that is asked over
Modbus RTU. The trial in the guest (``inside/test_units.py``) says what is to be done by a word in ``/ctl/ask``.
"""

import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from agent.core.clock import SystemClock
from drivers.sim import meter_dsmr
from tests.modbus_frames import Registers, rtu
from tests.vm import machine as machines
from tests.vm.conftest import missing
from tests.vm.image import Builder, Image, scratch
from tests.vm.machine import Machine
from tests.vm.monitor import Monitor

pytestmark = [pytest.mark.vm, pytest.mark.long]
WITHIN_S = 7200.0
#: Serial numbers of the adapters, which are in their names too.
PUSHES, ASKED = "GRID0001", "SUB0002"
POWER_W, QUESTION_BYTES = 1234.5, 8
SITE = f"""\
data_dir: /var/lib/enlace
site: {{id: units}}
api: {{listen: "127.0.0.1:8080"}}
devices:
  - {{id: bms, driver: can, channel: can0, profile: demo_pack}}
  - {{id: grid, driver: serial_meter, protocol: dsmr, port: /dev/enlace/id-{PUSHES}-00, stale_after_s: 30}}
  - {{id: sub, driver: modbus, profile: eastron_sdm120, url: "rtu:///dev/enlace/sub?baud=9600", timeout_s: 5}}
  - {{id: forbidden, driver: serial_meter, protocol: dsmr, port: /dev/hvc0}}
"""
#: Before systemd starts: a user whose token the trial has, a CAN interface by itself and one with values of its own,
#: a name of the site's own for an adapter, and a port of a kind that the unit does not allow, though open to everybody.
EARLY = f"""\
{machines.SITE}
cd /opt/tree && python3 -m tests.vm.inside.token >/ctl/token && chown -R enlace:enlace /var/lib/enlace
systemctl enable enlace-can@can0 enlace-can@can1
cat >/etc/enlace/can1.env <<'END'
BITRATE=250000
RESTART_MS=250
QUEUE=64
OPTIONS=sample-point 0.75 triple-sampling on
END
cat >/etc/udev/rules.d/71-site.rules <<'END'
SUBSYSTEM=="tty", ENV{{ID_SERIAL_SHORT}}=="{ASKED}", ENV{{ID_USB_INTERFACE_NUM}}=="00", SYMLINK+="enlace/sub"
KERNEL=="hvc0", MODE="0666"
END
# What takes a second elsewhere may take a minute here: no part of the gateway is stuck for that.
mkdir -p /etc/systemd/system/enlace.service.d
printf '[Service]\\nTimeoutStartSec=1800\\nWatchdogSec=0\\n' >/etc/systemd/system/enlace.service.d/slow.conf
systemctl mask serial-getty@hvc0
"""
PYTEST = "cd /opt/tree && python3 -m pytest -q -s -p no:cacheprovider tests/vm/inside/test_units.py"


@pytest.fixture(scope="module")
def pc(package: Path) -> Iterator[Image]:
    """Debian with this tree and its package, for QEMU."""
    if lacks := missing("qemu-system-x86_64"):
        pytest.skip(f"qemu needs {lacks}")
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as folder:
        yield Builder("qemu").image(Path(folder), package)


def devices(folder: Path) -> list[str]:
    """The words for QEMU: a CAN bus, a USB controller, the far ends of serial lines, a console of another kind."""
    words = ["-object", "can-bus,id=bus", "-device", "qemu-xhci,id=usb"]
    for number in (0, 1):
        words += ["-device", f"kvaser_pci,id=kvaser{number},canbus=bus"]
    for name in (PUSHES, ASKED):
        words += ["-chardev", f"socket,id={name},path={folder / name},server=on,wait=off"]
    return [*words, "-device", "virtio-serial-pci", "-chardev", "null,id=none", "-device", "virtconsole,chardev=none"]


class Hands:
    """What the trial asks for is done, and the meters at the far ends of both lines work."""

    def __init__(self, ctl: Path, monitor: Monitor, far: Mapping[str, socket.socket]) -> None:
        self._ctl, self._monitor, self._far = ctl, monitor, far
        self._clock = SystemClock()
        self._next_s = 0.0
        self._pushing = False
        self._question = b""
        inputs = dict.fromkeys(range(0x200), 0)
        inputs[0x0C], inputs[0x0D] = struct.unpack(">HH", struct.pack(">f", POWER_W))
        self._meter = Registers(input=inputs, holding=dict.fromkeys(range(0xFC00, 0xFC10), 0))
        self._orders: Mapping[str, Callable[[], None]] = {
            f"plug {PUSHES}": self._plug_pushing,
            f"plug {ASKED}": lambda: self._plug_serial(ASKED),
            f"pull {PUSHES}": self._pull_pushing,
            "pull can1": lambda: monitor.pull("kvaser1"),
            "plug can1": lambda: monitor.plug("kvaser1", "kvaser_pci", canbus="bus"),
        }

    def _plug_serial(self, name: str) -> None:
        self._monitor.plug(name, "usb-serial", bus="usb.0", chardev=name, serial=name)

    def _plug_pushing(self) -> None:
        self._plug_serial(PUSHES)
        self._pushing = True

    def _pull_pushing(self) -> None:
        self._pushing = False
        self._monitor.pull(PUSHES)

    def serve(self) -> None:
        """What is to be done now."""
        ask = self._ctl / "ask"
        if ask.exists():
            self._orders[ask.read_text().strip()]()
            ask.unlink()
        # A terminal echoes until the gateway has set it up, and QEMU stands still when nobody takes that.
        with suppress(BlockingIOError):
            self._far[PUSHES].recv(1 << 16)
        if self._pushing and self._clock.monotonic_s() >= self._next_s:
            self._next_s = self._clock.monotonic_s() + 1.0
            # Nobody need read it.
            with suppress(BlockingIOError):
                self._far[PUSHES].send(meter_dsmr.telegram(self._clock.now_us()))
        with suppress(BlockingIOError):
            self._question += self._far[ASKED].recv(256)
        if len(self._question) >= QUESTION_BYTES:
            asked, self._question = self._question[:QUESTION_BYTES], self._question[QUESTION_BYTES:]
            if asked == rtu(asked[0], asked[1:-2]):
                self._far[ASKED].send(rtu(asked[0], self._meter.answer(asked[1:-2])))


def test_can_and_serial_ports_of_the_service(pc: Image) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enlace-vm-")))
        files = {"site.yaml": SITE, "early": EARLY}
        machine = stack.enter_context(Machine(pc, PYTEST, files=files, devices=devices(folder)))
        machine.until(machine.monitor.exists, "QEMU runs", WITHIN_S)
        monitor = stack.enter_context(Monitor(machine.monitor))
        far = {name: stack.enter_context(_far_end(folder / name)) for name in (PUSHES, ASKED)}
        hands = Hands(machine.ctl, monitor, far)

        def ended() -> bool:
            hands.serve()
            return (machine.ctl / "rc").exists()

        machine.until(ended, "the trial has ended", WITHIN_S)
        result = machine.wait(WITHIN_S)
    print(result.output)
    assert result.code == 0, result.output + result.errors
    assert "skipped" not in result.output


def _far_end(path: Path) -> socket.socket:
    far = socket.socket(socket.AF_UNIX)
    far.connect(str(path))
    far.setblocking(False)
    return far
