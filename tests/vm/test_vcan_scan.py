"""``enlace scan can`` on real SocketCAN: two batteries on two buses are found and proposed, and nothing is sent."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e import site
from tests.vm import test_vcan_peers as peers
from tests.vm.image import tool

pytestmark = peers.pytestmark
CASE = peers.ROOT / "tests" / "cases" / "can_profiles" / "pylontech_lv" / "frames.json"


def _sent(bus: str) -> int:
    """Frames that anybody has sent on it."""
    return int(Path(f"/sys/class/net/{bus}/statistics/tx_packets").read_text())


@contextmanager
def _replayed(log: Path) -> Iterator[None]:
    """The frames of a battery of the other kind on vcan1, all of them each half second, until the test leaves."""
    frames = [(int(one["id"], 16), one["data"]) for one in json.loads(CASE.read_text())["frames"]]
    log.write_text(
        "".join(f"({1_700_000_000 + n * 0.5 / len(frames):.6f}) vcan1 {i:03X}#{d}\n" for n, (i, d) in enumerate(frames))
    )
    before = _sent("vcan1")
    child = subprocess.Popen([tool("canplayer"), "-l", "i", "-I", str(log), "vcan1=vcan1"])
    try:
        site.wait_until(lambda: _sent("vcan1") > before, "the recording is played")
        yield
    finally:
        child.kill()
        child.wait(30)


def _scan(*words: str) -> "subprocess.CompletedProcess[str]":
    done = site.enlace("scan", "can", "--format", "jsonl", "--seconds", "5", *words)
    assert done.returncode == 0, done.stderr
    return done


def test_each_bus_is_proposed_with_the_profile_of_what_speaks_there(tmp_path: Path) -> None:
    configured = tmp_path / "site.yaml"
    configured.write_text("site: {id: vm}\ndevices:\n  - {id: pack, driver: can, channel: vcan0, profile: demo_pack}\n")
    bms = ["drivers.sim.bms", "--interface", "socketcan", "--channel", "vcan0", "--profile", "demo_pack"]
    before = _sent("vcan0")
    with site.process(*bms, log=tmp_path / "bms.log"), _replayed(tmp_path / "pylontech.log"):
        site.wait_until(lambda: _sent("vcan0") > before, f"the battery sends: {tmp_path / 'bms.log'}")
        both = _scan("--config", str(tmp_path / "none.yaml"))
        left = _scan("--config", str(configured))
    found = [json.loads(line)["device"] for line in both.stdout.splitlines()]
    assert [(one["driver"], one["channel"], one["profile"]) for one in found] == [
        ("can", "vcan0", "demo_pack"),
        ("can", "vcan1", "pylontech_lv"),
    ]
    # What is configured is neither listened to nor proposed again.
    assert [json.loads(line)["device"]["channel"] for line in left.stdout.splitlines()] == ["vcan1"]
    assert "vcan0 is configured" in left.stderr


def test_a_silent_bus_is_told_and_nothing_is_sent_on_it() -> None:
    before = [_sent(bus) for bus in peers.BUSES]
    peers._run("ip", "link", "set", "vcan1", "down")
    try:
        done = _scan("--config", "/nowhere/site.yaml")
    finally:
        peers._run("ip", "link", "set", "vcan1", "up")
    assert done.stdout == ""
    assert "vcan0: nobody speaks" in done.stderr
    assert "vcan1" in done.stderr
    assert "down" in done.stderr
    assert [_sent(bus) for bus in peers.BUSES] == before
