"""``enlace demo`` as a whole: each fault that can be switched on shows at the gateway and heals; nobody is left behind.

Faults of different counterparts are switched on together: what one does is not to be seen at the others.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli.demo_places import find_bus
from agent.cli.demo_script import FAULTS, STEPS
from agent.core.errors import Unavailable
from tests.e2e import site


def _no_bus() -> str:
    """Why processes can't share a CAN bus on this machine; empty when they can."""
    try:
        find_bus()
    except Unavailable as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_no_bus()), reason=_no_bus() or "runs")


@dataclass(frozen=True)
class Demo:
    """A demo that runs, with somebody logged in."""

    process: "subprocess.Popen[bytes]"
    log: Path
    url: str

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        return site.get(self.url + path)

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - any JSON
        return site.send("POST", self.url + path, body)

    def switch(self, faults: Collection[str], *, active: bool) -> None:
        for fault in faults:
            answer = self.post(f"/api/demo/faults/{fault}", {"active": active})
            (found,) = [one for one in answer["faults"] if one["id"] == fault]
            assert found["active"] is active

    def stop_the_scenario(self) -> None:
        assert self.post("/api/demo/scenario", {"running": False})["scenario"]["running"] is False

    def state(self, device: str) -> str:
        (state,) = [one["state"] for one in self.get("/api/devices")["items"] if one["id"] == device]
        return str(state)

    def alarms(self) -> set[str]:
        """Those whose condition is true."""
        return {one["id"] for one in self.get("/api/alarms?active=true&page_size=200")["items"]}

    def station(self, name: str) -> Mapping[str, Any]:
        (found,) = [one for one in self.get("/api/stations")["items"] if one["id"] == name]
        return dict(found)

    def uplink_ok(self) -> bool:
        (part,) = [one for one in self.get("/api/system/health")["parts"] if one["name"] == "uplink"]
        return bool(part["ok"])

    def value(self, signal_name: str) -> float | None:
        device = signal_name.partition(".")[0]
        (found,) = [
            one["value"] for one in self.get(f"/api/devices/{device}/latest")["values"] if one["name"] == signal_name
        ]
        return None if found is None else float(found)

    def children(self) -> set[int]:
        """The processes that it started, and that are there."""
        found = set()
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = status.read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.process.pid:
                    found.add(int(status.parent.name))
        return found

    def is_well(self) -> bool:
        """Every counterpart is read, the central server is there."""
        devices = self.get("/api/devices")["items"]
        return all(one["state"] == "online" for one in devices) and self.uplink_ok()


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    log = folder / "demo.log"
    with site.process("agent", "demo", "--data-dir", str(folder / "data"), log=log) as process:
        found: list[str] = []

        def announced() -> bool:
            found[:] = re.findall(r"Live values\s+(http://\S+)/", log.read_text())
            return bool(found) or process.poll() is not None

        site.wait_until(announced, "the demo's address")
        assert found, log.read_text()
        site.token(found[0], log)
        yield Demo(process, log, found[0])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all faults: each test leaves it as it was."""
    with demo(Path(tmp_path_factory.mktemp("demo"))) as one:
        site.wait_until(one.is_well, "every counterpart is there")
        site.wait_until(lambda: one.get("/api/sessions?running=true")["total"] > 0, "a vehicle charges")
        one.stop_the_scenario()
        yield one
        assert site.end(one.process) == 0
        assert "Traceback" not in one.log.read_text()
        assert "not done" not in one.log.read_text(), "each order makes sense to who is given it"


#: More than the house ever draws by itself.
SUNNY_W = 6_000
#: More than load management leaves a vehicle when others are there.
MUCH_W = 15_000
Shows = Mapping[str, Callable[[Demo], bool]]


def stopped(station: str) -> Callable[[Demo], bool]:
    return lambda one: one.get(f"/api/stations/{station}/why")["items"][0]["status"] == "off"


def refused(station: str) -> Callable[[Demo], bool]:
    """What it was told was not done, in the device's own words."""
    words = ("Rejected", "exception 4")
    return lambda one: any(
        word in item["result"] for item in one.get(f"/api/stations/{station}/why")["items"] for word in words
    )


#: Together: what is switched on, and by what each is seen.
SHOWS: Mapping[str, Shows] = {
    "each line": {
        "battery_silent": lambda one: one.state("battery1") != "online" and "battery1-quiet" in one.alarms(),
        "cp2_mute": lambda one: one.state("cp2") == "offline",
        "grid_garbled": lambda one: one.state("grid") != "online" and one.get("/api/load")["meter_silent"],
        "broker_down": lambda one: not one.uplink_ok(),
    },
    "the same in another way": {
        "battery_frozen": lambda one: "battery1-frozen" in one.alarms(),
        "cp1_offline": lambda one: one.state("cp1") == "offline",
        "cp3_offline": lambda one: one.state("cp3") == "offline",
        "cp2_offline": lambda one: one.state("cp2") == "offline",
        "pv1_offline": lambda one: one.state("pv1") == "offline" and one.value("pv1.power_w") is None,
        "grid_silent": lambda one: one.get("/api/load")["meter_silent"] is True,
        "broker_half_open": lambda one: not one.uplink_ok(),
    },
    "too hot": {
        "battery_hot": lambda one: (
            {"battery_hot", "battery1-temperature_critical"} <= one.alarms() and stopped("cp1")(one)
        ),
        "cp1_broken": lambda one: "cp1-faulted" in one.alarms(),
        "sub1_silent": lambda one: one.state("sub1") != "online",
    },
    "a cell": {"cell_out": lambda one: "battery1-cell_voltage_high" in one.alarms()},
}
QUICK = "each line"
REST = [name for name in SHOWS if name != QUICK]
#: These show where load management has something to tell: in the scenario.
UNWILLING: Sequence[Shows] = (
    {"cp1_refuses": refused("cp1")},  # alone: it would leave the others nothing to be told
    {"cp2_refuses": refused("cp2"), "cp3_refuses": refused("cp3.1")},
)
HEADSTRONG = "cp1_ignores"


def goes_and_heals(one: Demo, faults: Shows) -> None:
    before = one.alarms()
    one.switch(faults, active=True)
    for name, shows in faults.items():
        site.wait_until(lambda shows=shows: shows(one), f"{name} shows")  # type: ignore[misc]
    one.switch(faults, active=False)
    site.wait_until(one.is_well, "all is well again")
    site.wait_until(lambda: one.alarms() <= before, "no alarm is left but those that wait for somebody")


def test_a_fault_of_each_line_shows_and_heals(running: Demo) -> None:
    goes_and_heals(running, SHOWS[QUICK])


@pytest.mark.long
@pytest.mark.parametrize("name", REST)
def test_each_other_fault_shows_and_heals(running: Demo, name: str) -> None:
    goes_and_heals(running, SHOWS[name])


@pytest.mark.long
@pytest.mark.parametrize("faults", UNWILLING, ids="+".join)
def test_chargers_that_refuse_are_told_of_and_heal(running: Demo, faults: Shows) -> None:
    with scenario(running):
        goes_and_heals(running, faults)


@pytest.mark.long
def test_a_charger_that_draws_what_it_likes_is_noticed(running: Demo) -> None:
    with scenario(running):
        site.wait_until(lambda: (running.value("cp1.power_w") or 0) > MUCH_W, "it draws much")
        running.switch([HEADSTRONG], active=True)
        site.wait_until(lambda: running.station("cp1")["following"] is False, "others come, and it is not lowered")
        running.switch([HEADSTRONG], active=False)
        site.wait_until(lambda: running.station("cp1")["following"] is not False, "it follows again")
        site.wait_until(lambda: (running.value("cp1.power_w") or 0) < MUCH_W, "it draws what it may")


@contextlib.contextmanager
def scenario(one: Demo) -> Iterator[None]:
    """From its first step on."""
    assert one.post("/api/demo/scenario", {"running": True})["scenario"]["step"] == STEPS[0].id
    try:
        yield
    finally:
        one.stop_the_scenario()


def test_what_the_sun_gives_is_taken_off_what_the_grid_gives(running: Demo) -> None:
    """Grid = house + battery + chargers + sun, which is negative. Figures are a second or two old: not to the W."""

    def adds_up() -> bool:
        chargers = ("cp1.power_w", "cp2.power_w", "cp3.power_w.1", "cp3.power_w.2")
        devices = [running.value(name) for name in ("battery1.power_w", *chargers, "pv1.power_w")]
        grid_w, sun_w = running.value("grid.power_w"), devices[-1]
        if grid_w is None or sun_w is None or sun_w > -SUNNY_W:
            return False
        house_w = grid_w - sum(one or 0.0 for one in devices)
        return -SUNNY_W / 4 < house_w < SUNNY_W

    with scenario(running):
        site.wait_until(adds_up, "the sun shines, and what is left is the house's own")


def test_each_fault_is_tried_here() -> None:
    tried = {fault for faults in (*SHOWS.values(), *UNWILLING) for fault in faults} | {HEADSTRONG}
    assert tried == {fault.id for fault in FAULTS if not fault.hidden}


def test_a_counterpart_that_dies_is_named_and_ends_the_demo(tmp_path: Path) -> None:
    with demo(tmp_path) as one:
        (victim,) = [pid for pid in one.children() if b"drivers.sim.charger_modbus" in _command(pid)]
        others = one.children() - {victim}
        os.kill(victim, signal.SIGKILL)
        assert one.process.wait(60) == 2
        assert "the charger cp2 ended with code -9" in one.log.read_text()
        assert not [pid for pid in others if _command(pid)], "the others were ended"


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = site.enlace("demo", "--data-dir", str(tmp_path / "file" / "data"))
    assert refused.returncode == 2
    assert "Not a directory (name another --data-dir)" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_nobody_outlives_a_demo_that_was_killed(tmp_path: Path) -> None:
    with demo(tmp_path) as one:
        children = {pid: _command(pid) for pid in one.children()}
        assert len(children) == 10, "eight counterparts, the gateway, the subscriber"
        one.process.kill()
        one.process.wait()
        site.wait_until(lambda: not any(_command(pid) == children[pid] for pid in children), "all ended")


def _command(pid: int) -> bytes:
    """Its command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
