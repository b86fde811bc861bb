"""A site with a charger on Modbus and meters on serial lines: real processes, ports and lines, seen through the API."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e import site
from tests.e2e.test_gateway import api_url
from tests.ports import free_port

CHARGER, GRID, SUB = "cp2", "grid", "sub1"


@dataclass
class Field:
    """The counterparts of the gateway, each of which can be ended and started again."""

    folder: Path
    port: int

    def tty(self, meter: str) -> Path:
        return self.folder / f"tty-{meter}"

    @contextmanager
    def charger(self) -> Iterator["subprocess.Popen[bytes]"]:
        log = self.folder / "charger.log"
        with site.process("drivers.sim.charger_modbus", "--port", str(self.port), log=log) as child:
            site.wait_until(lambda: "answering" in log.read_text(), "the charger answers")
            yield child

    @contextmanager
    def meter(self, name: str, protocol: str) -> Iterator["subprocess.Popen[bytes]"]:
        link = self.tty(name)
        module = f"drivers.sim.meter_{protocol}"
        log = self.folder / f"{name}.log"
        with site.process(module, "--port-link", str(link), "--every-s", "0.5", log=log) as child:
            site.wait_until(link.is_symlink, f"the line of {name}")
            yield child

    def config(self, broker: str, more: str = "") -> Path:
        path = self.folder / "site.yaml"
        path.write_text(f"""\
data_dir: {self.folder}/data
site: {{id: test}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: {CHARGER}, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{self.port}", every_s: 0.5}}
  - {{id: {GRID}, driver: serial_meter, protocol: dsmr, port: {self.tty(GRID)}}}
  - {{id: {SUB}, driver: serial_meter, protocol: sml, port: {self.tty(SUB)}}}
{more}uplink: {{broker: "{broker}"}}
""")
        return path


def values(url: str, device: str) -> dict[str, Any]:
    found = site.get(f"{url}/api/devices/{device}/latest")
    return {item["name"].partition(".")[2]: item["value"] for item in found["values"]}


def unknown(url: str, device: str) -> bool:
    return set(values(url, device).values()) == {None}


def state(url: str, device: str) -> str:
    found: str = site.get(f"{url}/api/devices/{device}/latest")["device"]["state"]
    return found


def events(central: site.Central, kind: str) -> list[str]:
    return [item["subject"] for item in central.items() if item.get("event") == kind]


def test_each_side_comes_goes_and_comes_again_without_the_others(tmp_path: Path) -> None:
    field = Field(tmp_path, free_port())
    with ExitStack() as stack:
        central = stack.enter_context(site.central(tmp_path, "test"))
        config = field.config(central.url)
        log = tmp_path / "gateway.log"
        # Nobody is there yet: it starts all the same.
        gateway = stack.enter_context(site.process("agent", "run", "--config", str(config), log=log))
        url = api_url(log)
        site.wait_until(lambda: {state(url, one) for one in (CHARGER, GRID, SUB)} == {"offline"}, "all are offline")

        with ExitStack() as sides:
            charger = sides.enter_context(field.charger())
            sides.enter_context(field.meter(GRID, "dsmr"))
            sides.enter_context(field.meter(SUB, "sml"))
            site.wait_until(lambda: values(url, CHARGER).get("current_limit_a") == 32, "the charger's limit")
            site.wait_until(lambda: (values(url, GRID).get("energy_import_wh") or 0) > 0, "the grid meter's register")
            site.wait_until(lambda: values(url, SUB).get("power_w") is not None, "the sub-meter's power")
            site.wait_until(lambda: f"{GRID}.power_w" in central.values(), "the grid's power at the subscriber")

            # A charger that stands still: its values are unknown, the meters go on.
            charger.send_signal(signal.SIGSTOP)
            site.wait_until(lambda: unknown(url, CHARGER), "the charger's values are unknown")
            assert state(url, CHARGER) == "offline"
            assert state(url, GRID) == "online"
            assert values(url, GRID)["power_w"] is not None
            charger.send_signal(signal.SIGCONT)
            site.wait_until(lambda: values(url, CHARGER)["current_limit_a"] == 32, "the charger is read again")

        # All ports vanish.
        for one in (CHARGER, GRID, SUB):
            site.wait_until(partial(unknown, url, one), f"{one} is unknown")
        # A port comes again under its name: another node behind it.
        with field.meter(GRID, "dsmr"):
            site.wait_until(lambda: values(url, GRID)["power_w"] is not None, "the grid meter is read again")
            assert unknown(url, SUB)
        assert site.end(gateway) == 0
        site.wait_until(lambda: GRID in events(central, "device.identity"), "its identity at the subscriber")
    text = log.read_text()
    assert "Traceback" not in text
    assert " ERROR " not in text
    assert max(map(text.count, set(text.splitlines()))) == 1, "a line repeats"


def test_a_device_is_added_and_taken_away_while_the_site_runs(tmp_path: Path) -> None:
    field = Field(tmp_path, free_port())
    with ExitStack() as stack:
        central = stack.enter_context(site.central(tmp_path, "test"))
        stack.enter_context(field.charger())
        stack.enter_context(field.meter(GRID, "dsmr"))
        stack.enter_context(field.meter(SUB, "sml"))
        config = field.config(central.url)
        log = tmp_path / "gateway.log"
        gateway = stack.enter_context(site.process("agent", "run", "--config", str(config), log=log))
        url = api_url(log)
        site.wait_until(lambda: values(url, GRID).get("power_w") is not None, "the grid meter's power")
        opened = log.read_text().count(f"{field.tty(GRID)}: online")

        again = (
            f'  - {{id: cp3, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{field.port}", unit_id: 2}}\n'
        )
        field.config(central.url, again)
        site.wait_until(lambda: "cp3" in log.read_text() or "applied" in log.read_text(), "the change is applied")
        devices = site.get(f"{url}/api/devices")["items"]
        assert [device["id"] for device in devices] == [CHARGER, GRID, SUB, "cp3"]
        site.wait_until(lambda: values(url, CHARGER)["current_limit_a"] == 32, "the charger beside it is read")
        known = json.dumps(values(url, GRID))
        assert "null" not in known, "what the meter told is not forgotten by a change elsewhere"
        assert log.read_text().count(f"{field.tty(GRID)}: online") == opened == 1

        field.config(central.url)
        site.wait_until(lambda: log.read_text().count("configuration is applied") == 2, "the second change is applied")
        assert len(site.get(f"{url}/api/devices")["items"]) == 3
        assert site.end(gateway) == 0
    assert "Traceback" not in log.read_text()


def test_what_a_dead_meter_once_told_is_shown_as_unknown_after_a_restart(tmp_path: Path) -> None:
    field = Field(tmp_path, free_port())
    log = tmp_path / "gateway.log"
    with site.central(tmp_path, "test") as central:
        config = field.config(central.url)
        with field.meter(GRID, "dsmr"), site.process("agent", "run", "--config", str(config), log=log) as gateway:
            url = api_url(log)
            site.wait_until(lambda: values(url, GRID).get("power_w") is not None, "the grid meter's power")
            told = set(values(url, GRID))
            gateway.send_signal(signal.SIGKILL)
            gateway.wait()
        with site.process("agent", "run", "--config", str(config), log=log):
            url = api_url(log)
            assert set(values(url, GRID)) == told
            assert unknown(url, GRID)
            site.wait_until(
                lambda: central.values().get(f"{GRID}.power_w", [0])[-1] is None, "the subscriber knows that too"
            )
