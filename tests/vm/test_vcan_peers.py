"""The gateway on real SocketCAN against can-utils: cangen, cansend, canplayer and candump are the bus's other ends.

Runs where there are ``vcan0`` and ``vcan1``, can-utils and root (``make test-vm`` brings a machine that has them), and
says so elsewhere. Figures are printed: ``-s`` shows them.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.api.users import Role, UserBook
from agent.core.clock import SystemClock
from agent.core.model import Number
from agent.store.db import Store
from tests.e2e import site
from tests.e2e.test_gateway import api_url

ROOT = Path(__file__).resolve().parents[2]
BUSES = ("vcan0", "vcan1")
TOOLS = ("ip", "candump", "cangen", "canplayer", "cansend")
RATE, LOAD_S = 9000, 2
FLOOD = 45_000
_ADDRESS = re.compile(r"api: (http://\S+)")
DBC = """VERSION ""

BU_: BMS

BO_ 854 Pack: 8 BMS
 SG_ Number : 0|32@1+ (1,0) [0|0] "" Vector__XXX
 SG_ Current : 32|16@1- (0.1,0) [0|0] "A" Vector__XXX
"""
FD_DBC = """VERSION ""

BU_: BMS

BO_ 512 Long: 64 BMS
 SG_ Last : 504|8@1+ (1,0) [0|0] "" Vector__XXX
"""


def _missing() -> str:
    """What these tests need and is not here; empty when all is."""
    here = {name for _, name in socket.if_nameindex()}
    missing = [bus for bus in BUSES if bus not in here]
    missing += [name for name in TOOLS if shutil.which(name) is None]
    missing += [] if os.geteuid() == 0 else ["root"]
    return f"needs {', '.join(missing)}" if missing else ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "runs")


def _run(name: str, *words: str) -> None:
    program = shutil.which(name)
    assert program is not None
    subprocess.run([program, *words], check=True)


@contextmanager
def _candump(log: Path) -> Iterator[None]:
    """Another listener on vcan0, that writes down what it hears; it hears from the moment on that this returns."""
    program = shutil.which("candump")
    assert program is not None
    with log.open("wb") as output:
        child = subprocess.Popen([program, "-L", "-r", str(4 << 20), "vcan0"], stdout=output)
        try:
            # Its socket is there when the kernel lists it: it is bound before candump does anything else with it.
            site.wait_until(lambda: _hears(child.pid), "candump listens")
            yield
        finally:
            child.send_signal(signal.SIGINT)
            child.wait(30)


def _hears(pid: int) -> bool:
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return (
        any(link.startswith("socket:") for link in links) and "vcan0" in Path("/proc/net/can/rcvlist_all").read_text()
    )


class Gateway:
    """A running gateway with CAN devices, seen through its metrics: they take no log-in."""

    def __init__(self, log: Path) -> None:
        site.wait_until(lambda: bool(_ADDRESS.search(log.read_text())), f"the API's address in {log}")
        found = _ADDRESS.search(log.read_text())
        assert found is not None
        self._url = f"{found[1]}/metrics"

    def metric(self, start: str) -> int:
        """The sum of the samples that begin so."""
        with urllib.request.urlopen(self._url, timeout=60) as answer:  # noqa: S310 - loopback
            lines = answer.read().decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(start))

    def count(self, name: str, bus: str = "vcan0") -> int:
        """What the driver has counted on a bus."""
        return self.metric(f'enlace_wire_events_total{{wire="socketcan:{bus}",name="{name}"}}')

    def is_online(self, bus: str) -> bool:
        return self.metric(f'enlace_wire_online{{wire="socketcan:{bus}"}}') == 1


@contextmanager
def _gateway(folder: Path, *devices: str) -> Iterator[Gateway]:
    (folder / "pack.dbc").write_text(DBC)
    (folder / "long.dbc").write_text(FD_DBC)
    listed = "".join(f"  - {{driver: can, {device}}}\n" for device in devices)
    config = folder / "site.yaml"
    config.write_text(f'data_dir: {folder}/data\nsite: {{id: vm}}\napi: {{listen: "127.0.0.1:0"}}\ndevices:\n{listed}')
    # Before its set-up a gateway tells nothing. Nobody logs in here: the hash is of no password.
    (folder / "data").mkdir()
    UserBook(folder / "data", SystemClock().now_us).add("nobody", Role.ADMIN, "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA")
    log = folder / "gateway.log"
    with site.process("agent", "run", "--config", str(config), log=log) as child:
        gateway = Gateway(log)
        site.wait_until(lambda: all(map(gateway.is_online, BUSES[: len(devices)])), "the buses are online")
        yield gateway
        assert site.end(child) == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def _stored(folder: Path, device: str, name: str, *, unknown: bool = False) -> list[tuple[int, Number | None]]:
    """All rows of a signal as (µs, value), when the gateway has ended; with those that say that it is not known."""
    with closing(Store.open(folder / "data" / "enlace.db", SystemClock())) as store:
        rows = store.rows(store.ids_of(device, name), 0, 1 << 62)
        return [(t_us, value) for t_us, _, value in rows if unknown or value is not None]


def _frame(number: int) -> str:
    return (
        f"356#{number.to_bytes(4, 'little').hex()}{(number % 1000 - 500).to_bytes(2, 'little', signed=True).hex()}0000"
    )


def _log(path: Path, frames: int, rate: int) -> None:
    """A recording, as candump writes it."""
    path.write_text("".join(f"({1_700_000_000 + n / rate:.6f}) vcan0 {_frame(n)}\n" for n in range(frames)))


def test_9000_frames_a_second_are_stored_each_once_in_order(tmp_path: Path) -> None:
    frames = RATE * LOAD_S
    _log(tmp_path / "load.log", frames, RATE)
    with _gateway(tmp_path, "id: bms, channel: vcan0, dbc: [pack.dbc]") as gateway:
        _run("canplayer", "-I", str(tmp_path / "load.log"), "vcan0=vcan0")
        site.wait_until(lambda: gateway.count("frames") >= frames, "all frames are taken")
        assert gateway.count("overflow") == 0
    rows = _stored(tmp_path, "bms", "Pack.Number")
    assert [value for _, value in rows] == list(range(frames))
    took_s = (rows[-1][0] - rows[0][0]) / 1e6
    print(
        f"{frames} frames in {took_s:.2f} s by the kernel's time ({frames / took_s:.0f}/s), stored {len(rows)}, lost 0"
    )
    currents = [value for _, value in _stored(tmp_path, "bms", "Pack.Current")]
    assert currents == pytest.approx([(n % 1000 - 500) / 10 for n in range(frames)])


def test_of_a_flood_each_frame_is_stored_or_counted(tmp_path: Path) -> None:
    with _gateway(tmp_path, "id: bms, channel: vcan0, dbc: [pack.dbc]") as gateway:
        # As fast as it can (-g 0); the data is a number that counts up.
        _run("cangen", "vcan0", "-g", "0", "-I", "356", "-L", "8", "-D", "i", "-n", str(FLOOD), "-p", "10")
        site.wait_until(
            lambda: gateway.count("frames") + gateway.count("overflow") >= FLOOD, "each frame is taken or counted"
        )
        taken, lost = gateway.count("frames"), gateway.count("overflow")
        assert taken + lost == FLOOD
    rows = _stored(tmp_path, "bms", "Pack.Number")
    assert len(rows) == taken
    took_s = (rows[-1][0] - rows[0][0]) / 1e6
    print(f"flood of {FLOOD} frames, {FLOOD / took_s:.0f}/s: stored {taken}, lost and counted {lost}")
    assert rows == sorted(rows)


def test_candump_heard_what_the_gateway_decoded(tmp_path: Path) -> None:
    dbc = ROOT / "dbc" / "demo_pack.dbc"
    dump = tmp_path / "candump.log"
    with _gateway(tmp_path, f"id: bms, channel: vcan0, dbc: [{dbc}]") as gateway, _candump(dump):
        bms = ["drivers.sim.bms", "--interface", "socketcan", "--channel", "vcan0"]
        with site.process(*bms, log=tmp_path / "bms.log"):
            site.wait_until(lambda: gateway.count("frames") >= 300, "300 frames of the battery")

        def agree() -> bool:
            return 300 <= len(dump.read_text().splitlines()) == gateway.count("frames")

        site.wait_until(agree, "both have heard the same")
    decoded = site.enlace("decode", "--dbc", str(dbc), str(dump))
    assert decoded.returncode == 0, decoded.stderr
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in map(json.loads, decoded.stdout.splitlines()):
        for name, value in line["signals"].items():
            told = expected.setdefault(f"{line['message']}.{name}", [])
            # What says again what it said is not stored again, for a minute.
            if not told or told[-1][1] != value:
                told.append((round(line["t"] * 1e6), value))
    assert len(expected) > 20
    for name, told in expected.items():
        # The same values at the same times: both have the kernel's, which stamps a frame once.
        stored = _stored(tmp_path, "bms", name)
        assert [t_us for t_us, _ in stored] == [t_us for t_us, _ in told], name
        assert [value for _, value in stored] == pytest.approx([value for _, value in told]), name
    print(f"{sum(map(len, expected.values()))} values of {len(expected)} signals: equal, and at the same microsecond")


def test_two_buses_do_not_mix_and_one_goes_without_the_other(tmp_path: Path) -> None:
    devices = [f"id: bms{number}, channel: vcan{number}, dbc: [pack.dbc]" for number in (0, 1)]
    with _gateway(tmp_path, *devices) as gateway:
        for number in range(3):
            _run("cansend", "vcan0", _frame(10 + number))
            _run("cansend", "vcan1", _frame(20 + number))
            _until_heard(gateway, "vcan0", number + 1)
            _run("ip", "link", "set", "vcan0", "down")
            try:
                site.wait_until(lambda: not gateway.is_online("vcan0"), "the bus that is down is told")
                assert gateway.is_online("vcan1")
                _run("cansend", "vcan1", _frame(30 + number))
                _until_heard(gateway, "vcan1", 2 * number + 2)
            finally:
                _run("ip", "link", "set", "vcan0", "up")
            site.wait_until(lambda: gateway.is_online("vcan0"), "it comes back by itself")
    # Each time that a bus is lost its values are not known, and so they are at the end.
    assert _told(tmp_path, "bms0") == [10, None, 11, None, 12, None]
    # The other's never was: on a slow machine the silence between two frames may be long enough to be told.
    assert [value for value in _told(tmp_path, "bms1") if value is not None] == [20, 30, 21, 31, 22, 32]


def _told(folder: Path, device: str) -> list[Number | None]:
    """From its first frame on: that it was silent before is told too, where it was long."""
    values = [value for _, value in _stored(folder, device, "Pack.Number", unknown=True)]
    return values[1:] if values[0] is None else values


def _until_heard(gateway: Gateway, bus: str, frames: int) -> None:
    site.wait_until(lambda: gateway.count("frames", bus) == frames, f"{bus}: {frames} frames")


def test_can_fd_from_cansend(tmp_path: Path) -> None:
    devices = ("id: long, channel: vcan0, fd: true, dbc: [long.dbc]", "id: short, channel: vcan1, dbc: [pack.dbc]")
    with _gateway(tmp_path, *devices) as gateway:
        for number in range(20):
            _run("cansend", "vcan0", f"200##1{'00' * 63}{number:02x}")
        # On a bus that is read as a classic one an FD frame of the same identifier is no frame.
        _run("cansend", "vcan1", _frame(1).replace("#", "##1"))
        _run("cansend", "vcan1", _frame(2))
        _until_heard(gateway, "vcan0", 20)
        _until_heard(gateway, "vcan1", 1)
    assert [value for _, value in _stored(tmp_path, "long", "Long.Last")] == list(range(20))
    assert [value for _, value in _stored(tmp_path, "short", "Pack.Number")] == [2]


def test_the_demo_takes_vcan0_and_its_battery_lives(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with site.process("agent", "demo", "--data-dir", str(tmp_path / "data"), log=log):
        site.wait_until(lambda: "Ctrl-C ends the site" in log.read_text(), f"the demo is up: {log}")
        assert "CAN           socketcan vcan0" in log.read_text()
        url = api_url(log)
        seen: set[str] = set()

        def moves() -> bool:
            found = site.get(f"{url}/api/devices/battery1/latest")
            seen.update(item["time"] for item in found["values"] if item["value"] is not None)
            return found["device"]["state"] == "online" and len(seen) > 20

        site.wait_until(moves, "the battery is online and its values move")
        from_s = time.monotonic()
        _run("ip", "link", "set", "vcan0", "down")
        _run("ip", "link", "set", "vcan0", "up")
        seen.clear()
        site.wait_until(moves, "they move again after the interface was down")
        print(f"the battery is back {time.monotonic() - from_s:.1f} s after the interface went down")
