"""In the guest: CAN interfaces as their units bring them up, and serial adapters read in the service's sandbox.

The gateway has started at boot with no adapter plugged in. Who stands outside plugs and pulls what ``/ctl/ask`` says.
"""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

CTL = Path("/ctl")
PATIENCE_S = 1800.0
PUSHES, ASKED, POWER_W = "GRID0001", "SUB0002", 1234.5
GRID, NAMES = Path(f"/dev/enlace/id-{PUSHES}-00"), Path("/dev/enlace")


def told(*words: str) -> str:
    """What a program says."""
    done = subprocess.run(list(words), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def show(name: str, unit: str = "enlace") -> str:
    return told("systemctl", "show", unit, "--value", "-p", name).strip()


def until(true: Callable[[], bool], what: str) -> float:
    """Seconds that it took. Patience is a guard against hanging, not a measured time."""
    from_s = time.monotonic()
    while not true():
        if time.monotonic() > from_s + PATIENCE_S:
            log = told("journalctl", "--no-pager", "-q", "-n", "60")
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}\n{told('ip', '-d', 'link')}\n{log}")
        time.sleep(0.5)
    return time.monotonic() - from_s


def ask(what: str) -> None:
    """Have something plugged in or pulled out."""
    (CTL / "ask.new").write_text(what)
    (CTL / "ask.new").rename(CTL / "ask")
    until(lambda: not (CTL / "ask").exists(), what)


def device(name: str) -> dict[str, object]:
    """What the API says of a device: its state, and its values by point."""
    headers = {"authorization": f"Bearer {(CTL / 'token').read_text().strip()}"}
    request = urllib.request.Request(f"http://127.0.0.1:8080/api/devices/{name}/latest", headers=headers)
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - loopback
        found = json.loads(answer.read())
    values = {one["name"].partition(".")[2]: one["value"] for one in found["values"]}
    return {
        "state": found["device"]["state"],
        "error": found["device"]["last_error"],
        "hint": found["device"]["hint"],
        **values,
    }


def link(name: str) -> str:
    return told("ip", "-details", "link", "show", name)


def is_read(name: str, point: str) -> bool:
    return device(name).get(point) is not None


def test_the_gateway_is_ready_and_its_can_interfaces_come_up() -> None:
    # Neither waits for the other: adapters appear when they do, and one that is not there holds nothing up.
    until(lambda: show("ActiveState") == "active", "the gateway is ready")
    for unit in ("enlace-can@can0", "enlace-can@can1"):
        until(lambda unit=unit: show("ActiveState", unit) == "active", unit)  # type: ignore[misc]
    assert show("NRestarts") == "0"
    print(f"ready {int(show('ActiveEnterTimestampMonotonic')) / 1e6:.0f} s after the kernel started")


def test_bit_rate_and_restart_are_what_the_unit_says_or_the_site() -> None:
    usual, own = link("can0"), link("can1")
    for text, wanted in (
        (usual, ("state UP", "bitrate 500000", "restart-ms 100 ", "qlen 128")),
        (own, ("state UP", "bitrate 250000", "restart-ms 250 ", "qlen 64", "sample-point 0.750", "TRIPLE-SAMPLING")),
    ):
        for word in wanted:
            assert word in text, f"{word} is not in\n{text}"


def test_frames_of_a_real_controller_are_read_also_after_its_interface_was_down() -> None:
    cangen = shutil.which("cangen")
    assert cangen is not None
    sending = subprocess.Popen([cangen, "can1", "-g", "100", "-I", "1A0", "-L", "7", "-D", "r"])
    try:
        until(lambda: is_read("bms", "voltage_v"), "the battery is read")
        told("systemctl", "stop", "enlace-can@can0")
        assert "state DOWN" in link("can0")
        until(lambda: not is_read("bms", "voltage_v"), "its values are no longer valid")
        told("systemctl", "start", "enlace-can@can0")
        until(lambda: is_read("bms", "voltage_v"), "it is read again")
    finally:
        sending.kill()
        sending.wait()
    assert show("NRestarts") == "0"


def test_an_interface_that_appears_later_is_brought_up() -> None:
    ask("pull can1")
    until(lambda: not Path("/sys/class/net/can1").exists(), "the controller is gone")
    until(lambda: show("ActiveState", "enlace-can@can1") == "inactive", "its unit has ended")
    ask("plug can1")
    until(lambda: "state UP" in link("can1"), "it is up again")
    assert "bitrate 250000" in link("can1")


def test_a_meter_that_is_plugged_in_later_is_read_in_the_sandbox() -> None:
    assert not GRID.exists()
    assert device("grid")["state"] != "online"
    ask(f"plug {PUSHES}")
    took_s = until(lambda: is_read("grid", "power_w"), "the meter is read")
    node = GRID.resolve()
    assert re.fullmatch(r"/dev/ttyUSB[0-9]+", str(node))
    assert (node.group(), node.stat().st_mode & 0o777) == ("dialout", 0o660)
    ports = [one for one in NAMES.glob("port-*") if one.resolve() == node]
    assert len(ports) == 1, told("ls", "-l", "/dev/enlace")
    known = told("udevadm", "info", "--query=property", str(node))
    assert "ID_MM_DEVICE_IGNORE=1" in known
    (process,) = told("systemctl", "show", "enlace", "--value", "-p", "MainPID").split()
    status = Path(f"/proc/{process}/status").read_text()
    # No right of root's is needed for it.
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\t0", status, re.MULTILINE)
    print(f"a meter on {node} ({ports[0].name}) is read {took_s:.0f} s after it was plugged in")


def test_a_meter_that_is_asked_is_read_by_the_name_that_the_site_gave() -> None:
    ask(f"plug {ASKED}")
    until(lambda: device("sub").get("power_w") == POWER_W, "the second meter is read")
    assert (NAMES / "sub").resolve() == (NAMES / f"id-{ASKED}-00").resolve() != GRID.resolve()


def test_an_adapter_that_is_pulled_out_is_told_and_found_again() -> None:
    before = show("MainPID")
    ask(f"pull {PUSHES}")
    until(lambda: not is_read("grid", "power_w"), "its values are no longer valid")
    assert not GRID.exists()
    assert device("sub")["power_w"] == POWER_W
    ask(f"plug {PUSHES}")
    until(lambda: is_read("grid", "power_w"), "the meter is read again")
    assert (show("MainPID"), show("NRestarts")) == (before, "0")


def test_a_port_of_a_kind_that_the_unit_does_not_allow_is_refused() -> None:
    assert Path("/dev/hvc0").stat().st_mode & 0o777 == 0o666
    assert "not permitted" in str(device("forbidden")["error"]), device("forbidden")
    assert "DeviceAllow" in str(device("forbidden")["hint"])
    # To whoever is outside of the unit it is open.
    runuser = shutil.which("runuser")
    assert runuser is not None
    outside = subprocess.run([runuser, "-u", "enlace", "--", "sh", "-c", ": </dev/hvc0"], check=False)
    assert outside.returncode == 0
