"""The gateway as its users meet it: commands, a battery on a real (multicast) bus, a real broker and subscriber."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli.demo_places import find_bus
from agent.core.errors import Unavailable
from drivers.sim.bms import SimulatedBms
from tests.e2e import site
from tests.ports import free_port

DEMO_SIGNALS = 70
DEMO_DEVICES = ("battery1", "pv1", "cp1", "cp3", "cp2", "grid", "sub1")


def _no_bus() -> str:
    """Why processes can't share a CAN bus on this machine; empty when they can."""
    try:
        find_bus()
    except Unavailable as error:
        return str(error)
    return ""


on_a_bus = pytest.mark.skipif(bool(_no_bus()), reason=_no_bus() or "runs")


def write_log(path: Path, seconds: float) -> int:
    """A recording of the simulated battery, in candump's format; the number of frames."""
    bms, lines = SimulatedBms(), []
    for tick in range(int(seconds * 10)):
        for frame in bms.frames(tick / 10):
            stamp = f"({1_700_000_000 + tick / 10:.6f})"
            lines.append(f"{stamp} can0 {frame.can_id:03X}#{frame.data.hex().upper()}\n")
    path.write_text("".join(lines))
    return len(lines)


def write_config(folder: Path, *, broker: str | None = None, payload: str = "json", extra: str = "") -> Path:
    text = f"""\
data_dir: {folder}/data
site: {{id: test}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: battery1, driver: can, channel: can0, profile: demo_pack{extra}}}
"""
    if broker:
        text += f'uplink: {{broker: "{broker}", payload: {payload}}}\n'
    path = folder / "site.yaml"
    path.write_text(text)
    return path


def api_url(log: Path) -> str:
    """The address that the gateway logged, once it has."""
    found: list[str] = []

    def logged() -> bool:
        found[:] = re.findall(r"api: (http://\S+)", log.read_text())
        return bool(found)

    site.wait_until(logged, f"the API's address in {log}")
    site.token(found[0], log)
    return found[0]


@pytest.mark.parametrize("payload", ["json", "blocks"])
def test_a_replayed_log_reaches_the_subscriber_value_by_value(tmp_path: Path, payload: str) -> None:
    log = tmp_path / "battery.log"
    frames = write_log(log, 30)
    with site.central(tmp_path, "test") as central:
        config = write_config(tmp_path, broker=central.url, payload=payload, extra=", keep_unmapped: true")
        done = site.enlace("replay", str(log), "--config", str(config), "--speed", "0")
        assert done.returncode == 0, done.stderr
        assert f"frames replayed: {frames}, unreadable: 0" in done.stderr
        assert "the broker has acknowledged everything" in done.stderr
        decoded = site.enlace("decode", "--dbc", str(site.ROOT / "dbc" / "demo_pack.dbc"), str(log))
        expected = _decoded_by_source(decoded.stdout)
        site.wait_until(lambda: _count(central.values()) >= _count(expected), "all values are at the subscriber")
        items, values = central.items(), central.values()
    names = _names_by_source(config)
    assert {names[source]: series for source, series in expected.items()} == {
        name: [_rounded(value) for value in series] for name, series in values.items()
    }
    assert not [item for item in items if "gap" in item or "repeated" in item]


def _count(series: dict[str, list[Any]]) -> int:
    return sum(map(len, series.values()))


def _rounded(value: float | None) -> float | None:
    """Scales of the profile and of the DBC are multiplied before or after: the last bits of a float differ."""
    return None if value is None else round(value, 9)


def _decoded_by_source(lines: str) -> dict[str, list[float | None]]:
    import json  # noqa: PLC0415

    result: dict[str, list[float | None]] = {}
    for line in lines.splitlines():
        item = json.loads(line)
        for name, value in item["signals"].items():
            result.setdefault(f"{item['message']}.{name}", []).append(_rounded(value))
    return result


def _names_by_source(config: Path) -> dict[str, str]:
    """DBC signal -> the name that it has on the site, from the profile that maps it."""
    from agent.config import load_config  # noqa: PLC0415
    from agent.devices import Preparer  # noqa: PLC0415
    from drivers.can.devices import CanDevice, resolve  # noqa: PLC0415

    prepared = Preparer(config.parent).all(load_config(config, {}).devices)
    planned = [resolve(one.device) for one in prepared if isinstance(one.device, CanDevice)]
    return {
        f"{device.messages[item.message].name}.{item.signal.name}": item.spec.full_name
        for device in planned
        for item in device.wanted
    }


def test_replay_at_its_own_pace_ends_on_request(tmp_path: Path) -> None:
    log = tmp_path / "battery.log"
    write_log(log, 3600)
    config = write_config(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-m", "agent", "replay", str(log), "--config", str(config)],
        cwd=site.ROOT,
        env=site.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    database = tmp_path / "data" / "enlace.db"
    site.wait_until(lambda: database.exists() and database.stat().st_size > 0, "the store is open")
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 0, said
    assert "frames replayed: " in said


def test_a_log_that_is_none_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "letter.txt"
    log.write_text("Dear reader,\n")
    done = site.enlace("replay", str(log), "--config", str(write_config(tmp_path)), "--speed", "0")
    assert done.returncode == 2
    assert "enlace: read" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_configuration_ends_with_78_and_every_mistake_located(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("site: {id: test}\ndevices:\n  - {id: a, driver: can, chanel: can0, profile: none_such}\nx: 1\n")
    for command in (("run",), ("check",)):
        done = site.enlace(*command, "--config", str(config))
        assert done.returncode == (78 if command == ("run",) else 1)
        said = done.stdout + done.stderr
        assert f"{config}:3:26: unknown key `chanel`; did you mean `channel`?" in said
        assert f"{config}:4:1: unknown key `x`" in said
        assert "Traceback" not in said


def test_check_names_what_run_would_stumble_over(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    (tmp_path / "bad.dbc").write_text("this is no database\n")
    config.write_text(
        "data_dir: /proc/none\nsite: {id: test}\ndevices:\n"
        "  - {id: a, driver: can, channel: can7, profile: demo_pak}\n"
        "  - {id: b, driver: can, channel: can7, dbc: bad.dbc}\n"
    )
    done = site.enlace("check", "--config", str(config))
    assert done.returncode == 1
    assert f"{config}:4:50: " in done.stdout
    assert "demo_pack" in done.stdout
    assert f"{config}:5:5: " in done.stdout
    assert f"{config}:1:11: " in done.stdout


def test_the_gateway_lives_without_devices_and_with_a_dead_one(tmp_path: Path) -> None:
    config = write_config(tmp_path, broker=f"mqtt://127.0.0.1:{free_port()}")
    log = tmp_path / "run.log"
    with site.process("agent", "run", "--config", str(config), log=log) as gateway:
        url = api_url(log)
        site.wait_until(lambda: site.get(f"{url}/api/devices")["items"][0]["last_error"] != "", "the dead bus is known")
        health = site.get(f"{url}/api/system/health")
        assert health["status"] == "degraded"
        assert health["db"] == "OK"
        device = site.get(f"{url}/api/devices")["items"][0]
        assert device["state"] in {"offline", "unsupported"}
        assert device["hint"]
        assert site.end(gateway) == 0
    config.write_text(f'data_dir: {tmp_path}/data\nsite: {{id: test}}\napi: {{listen: "127.0.0.1:0"}}\n')
    with site.process("agent", "run", "--config", str(config), log=log) as gateway:
        assert site.get(f"{api_url(log)}/api/system/health")["status"] == "OK"
        assert site.end(gateway) == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_an_unusable_database_is_moved_aside_and_said(tmp_path: Path, content: bytes) -> None:
    config = write_config(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    (data / "enlace.db").write_bytes(content)
    log = tmp_path / "run.log"
    with site.process("agent", "run", "--config", str(config), log=log) as gateway:
        assert site.get(f"{api_url(log)}/api/system/health")["db"] == "OK"
        assert site.end(gateway) == 0
    aside = [
        path
        for path in data.iterdir()
        if path.name.startswith("enlace.db.") and path.suffix != ".lock" and path.read_bytes() == content
    ]
    # An empty file is what a crash before the first write leaves: it holds no evidence.
    assert len(aside) == (1 if content else 0)


@on_a_bus
def test_the_demo_shows_live_values_and_the_subscriber_gets_them(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with site.process("agent", "demo", "--data-dir", str(tmp_path / "data"), log=log) as demo:
        found: list[str] = []

        def announced() -> bool:
            found[:] = re.findall(r"Live values\s+(http://\S+)/", log.read_text())
            return bool(found) or demo.poll() is not None

        site.wait_until(announced, "the demo's address")
        assert found, log.read_text()
        site.token(found[0], log)
        latest = f"{found[0]}/api/devices/battery1/latest"

        def soc() -> dict[str, Any]:
            return next(value for value in site.get(latest)["values"] if value["name"] == "battery1.soc_pct")

        site.wait_until(lambda: soc()["value"] is not None, "a state of charge")
        first = soc()["time"]
        site.wait_until(lambda: soc()["time"] != first, "the state of charge moves on")
        site.wait_until(lambda: "battery1.voltage_v" in log.read_text(), "values at the subscriber")
        history = site.get(
            f"{found[0]}/api/history?signal=battery1.voltage_v&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z"
        )
        assert history["points"]
        assert len(site.get(latest)["values"]) >= DEMO_SIGNALS

        def read() -> dict[str, bool]:
            items = site.get(f"{found[0]}/api/devices")["items"]
            return {item["id"]: item["state"] == "online" and item["known"] > 0 for item in items}

        site.wait_until(lambda: read() == dict.fromkeys(DEMO_DEVICES, True), "every counterpart is read")
        stations = {station["id"] for station in site.get(f"{found[0]}/api/stations")["items"]}
        assert stations == {"cp1", "cp3", "cp3.1", "cp3.2", "cp2"}
        assert site.end(demo) == 0
    assert re.search(r"Set-up code   (\S+)", log.read_text())
    assert "Traceback" not in log.read_text()
    assert not re.findall(r" (?:WARNING|ERROR) .*", log.read_text())


@on_a_bus
def test_a_killed_gateway_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 in the middle: the subscriber misses nothing, and sees no record twice."""
    with site.central(tmp_path, "test") as central:
        port = free_port()
        bus = f", interface: udp_multicast, options: {{hop_limit: 0, port: {port}}}"
        config = write_config(tmp_path, broker=central.url, extra=bus)
        config.write_text(config.read_text().replace("channel: can0", "channel: 239.74.163.2"))
        arguments = ("--interface", "udp_multicast", "--channel", "239.74.163.2", "--port", str(port))
        with site.process("drivers.sim.bms", *arguments, log=tmp_path / "bms.log"):
            for round_number in range(3):
                before = len(central.items())
                with site.process("agent", "run", "--config", str(config), log=tmp_path / "run.log") as gateway:
                    site.wait_until(lambda b=before: len(central.items()) > b + 100, f"values, round {round_number}")  # type: ignore[misc]
                    os.kill(gateway.pid, signal.SIGKILL)
                    gateway.wait()
            with site.process("agent", "run", "--config", str(config), log=tmp_path / "run.log"):
                before = len(central.items())
                site.wait_until(lambda: len(central.items()) > before + 100, "values after the last start")
        assert not [item for item in central.items() if "gap" in item]


@on_a_bus
def test_a_changed_configuration_is_applied_to_what_changed_and_a_bad_one_refused(tmp_path: Path) -> None:
    port = free_port()
    head = f'data_dir: {tmp_path}/data\nsite: {{id: test}}\napi: {{listen: "127.0.0.1:0"}}\n'
    bus = f"interface: udp_multicast, channel: 239.74.163.2, options: {{hop_limit: 0, port: {port}}}"
    battery = f"{{id: battery1, driver: can, {bus}, profile: demo_pack}}"
    other = "{id: other, driver: can, channel: can7, profile: pylontech_lv}"
    config, log = tmp_path / "site.yaml", tmp_path / "run.log"
    config.write_text(f"{head}devices:\n  - {battery}\n")
    arguments = ("--interface", "udp_multicast", "--channel", "239.74.163.2", "--port", str(port))
    with (
        site.process("drivers.sim.bms", *arguments, log=tmp_path / "bms.log"),
        site.process("agent", "run", "--config", str(config), log=log) as gateway,
    ):
        url = api_url(log)

        def devices() -> dict[str, dict[str, Any]]:
            return {device["id"]: device for device in site.get(f"{url}/api/devices")["items"]}

        site.wait_until(lambda: devices()["battery1"]["state"] == "online", "the battery is heard")
        since = devices()["battery1"]["since"]
        config.write_text(f"{head}devices:\n  - {battery}\n  - {other}\n")
        site.wait_until(lambda: "other" in devices(), "the new device is there")
        assert devices()["battery1"]["since"] == since, "the wire that did not change was left alone"
        config.write_text(f"{head}devices:\n  - {other}\n  - nonsense\n")
        site.wait_until(lambda: "the old one stays" in log.read_text(), "the bad file is refused")
        assert f"{config}:6:5" in log.read_text()
        assert set(devices()) == {"battery1", "other"}
        never = '{id: a, cron: "0 25 * * *", then: [{station: other, set: "on"}]}'
        config.write_text(f"{head}devices:\n  - {other}\nschedules:\n  - {never}\n")
        site.wait_until(lambda: log.read_text().count("the old one stays") == 2, "a bad crontab line is refused")
        assert set(devices()) == {"battery1", "other"}, "before anything was changed"
        config.write_text(f"{head}devices:\n  - {other}\n")
        site.wait_until(lambda: set(devices()) == {"other"}, "the battery is gone")
        gateway.send_signal(signal.SIGHUP)
        site.wait_until(lambda: log.read_text().count("is applied") == 3, "SIGHUP reads it again")
        assert site.end(gateway) == 0
    assert "Traceback" not in log.read_text()
