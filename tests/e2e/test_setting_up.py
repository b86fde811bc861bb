"""The set-up of a site over HTTP, against a gateway that runs and counterparts over their real protocols."""

import json
import re
import socket
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import end, get, process, send, token, wait_until
from tests.ports import free_port

OCPP = "drivers.sim.charger_ocpp"
MODBUS = "drivers.sim.charger_modbus"
METER = "drivers.sim.meter_dsmr"


@dataclass
class Site:
    """A gateway that was just set up."""

    folder: Path
    url: str = ""
    ocpp: int = field(default_factory=free_port)

    @property
    def path(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "gateway.log"

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        return get(self.url + path)

    def send(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
        return send(method, self.url + path, body)

    def refused(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.send(method, path, body)
        return caught.value.code, json.loads(caught.value.read())

    def scan(self, **wanted: object) -> Any:  # noqa: ANN401 - any JSON
        """A search to its end."""
        self.send("POST", "/api/scan", wanted)
        wait_until(lambda: self.get("/api/scan")["state"] != "running", "the end of the search")
        return self.get("/api/scan")

    def device(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        return next(one for one in self.get("/api/devices")["items"] if one["id"] == name)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.path.write_text(
        f"# the depot's own file\ndata_dir: {tmp_path}/data   # fast disk\n"
        "site: {id: depot-7}   # as in the contract\n"
        f'api: {{listen: "127.0.0.1:0"}}\nocpp: {{listen: "127.0.0.1:{made.ocpp}", security_profile: 0}}\n'
        "log: {level: info}   # debug while we look\n"
    )
    with process("agent", "run", "--config", str(made.path), log=made.log):
        wait_until(lambda: "with the code " in made.log.read_text(), "the set-up code")
        made.url = re.findall(r"http://127\.0\.0\.1:\d+", made.log.read_text())[0]
        token(made.url, made.log)
        yield made


def comments(path: Path) -> list[str]:
    return re.findall(r"#.*", path.read_text())


def test_a_charger_is_found_tested_saved_and_live(site: Site) -> None:
    port = free_port()
    host, before = f"127.0.0.1:{port}", comments(site.path)
    with ExitStack() as stack:
        charger = stack.enter_context(process(MODBUS, "--port", str(port), log=site.folder / "charger.log"))
        wait_until(lambda: "listen" in (site.folder / "charger.log").read_text() or _answers(port), "the charger")
        scan = site.scan(kinds=["modbus"], hosts=[host], units=[1])
        assert scan["state"] == "done"
        assert [(one["kind"], one["state"], one["done"], one["total"]) for one in scan["kinds"]] == [
            ("modbus", "done", 1, 1)
        ]
        (found,) = scan["found"]
        assert (found["entry"]["profile"], found["ready"], found["configured"]) == ("abb_terra_ac", True, False)
        tested = site.send("POST", "/api/devices/test", found["entry"])
        assert tested["ok"], tested
        assert {"charger_status", "energy_import_wh"} & {one["point"] for one in tested["values"]}
        assert site.get("/api/devices")["total"] == 0, "a test saves nothing"
        assert site.path.read_text().count("abb_terra_ac") == 0

        name = found["entry"]["id"]
        site.send("POST", "/api/devices", {**found["entry"], "every_s": 30, "name": "Wall, left"})
        wait_until(lambda: bool(site.device(name)["known"]), "its values")
        device = site.device(name)
        assert (device["kind"], device["name"], device["profile"]) == ("configured", "Wall, left", "abb_terra_ac")
        assert (device["address"], device["testable"], device["editable"]) == (f"tcp://{host} unit 1", True, True)
        assert comments(site.path) == before
        assert site.get(f"/api/devices/{name}/entry")["entry"]["url"] == f"tcp://{host}"

        status, problem = site.refused("POST", "/api/devices/test", {**found["entry"], "id": "other", "unit_id": 2})
        assert status == 409
        assert name in problem["detail"]
        again = site.scan(kinds=["modbus"], hosts=[host])
        assert again["found"] == []
        assert f"{host} is configured: left alone" in again["messages"]
        running = site.send("POST", f"/api/devices/{name}/test")
        assert running["ok"], "it is asked at once, though its next round is half a minute away"
        assert running["values"]

        end(charger)
        gone = site.send("POST", f"/api/devices/{name}/test")
        assert not gone["ok"]
        assert gone["hint"]
        wait_until(lambda: site.device(name)["next_try_s"] is not None, "its next try")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_charger_that_calls_is_found_tested_and_adopted(site: Site) -> None:
    entry = {"id": "cp1", "driver": "ocpp", "charge_point_id": "CP-0001"}
    nobody = site.send("POST", "/api/devices/test", entry)
    assert not nobody["ok"]
    assert f"ws://127.0.0.1:{site.ocpp}/ocpp/CP-0001" in nobody["hint"]
    url = f"ws://127.0.0.1:{site.ocpp}/ocpp/CP-0001"
    with process(OCPP, "--url", url, "--vendor", "ACME", "--model", "Wall", log=site.folder / "cp.log"):
        wait_until(lambda: any(one["boot"] for one in site.get("/api/chargers/pending")["items"]), "the knock")
        (found,) = site.scan(kinds=["ocpp"])["found"]
        assert found["entry"] == {"id": "cp_0001", "driver": "ocpp", "charge_point_id": "CP-0001"}
        assert found["title"] == "ACME Wall CP-0001"
        tested = site.send("POST", "/api/devices/test", entry)
        assert (tested["ok"], "ACME Wall" in tested["text"]) == (True, True)
        site.send("POST", "/api/devices", entry)
        wait_until(lambda: site.device("cp1")["state"] == "online", "the charger")
        assert [one["configured"] for one in site.get("/api/scan")["found"]] == [True]
        asked = site.send("POST", "/api/devices/cp1/test")
        assert asked["ok"], asked
        assert site.refused("POST", "/api/devices/test", entry)[0] == 409, "nobody says that it never called"


def test_a_meter_on_a_serial_port_is_tested(site: Site) -> None:
    link = site.folder / "p1"
    entry = {"id": "grid", "driver": "serial_meter", "protocol": "dsmr", "port": str(link)}
    silent = site.send("POST", "/api/devices/test", entry)
    assert (silent["ok"], bool(silent["hint"]), silent["values"]) == (False, True, [])
    with process(METER, "--port-link", str(link), "--every-s", "1", log=site.folder / "meter.log"):
        wait_until(link.exists, "the port")
        tested = site.send("POST", "/api/devices/test", entry)
        assert tested["ok"], tested
        assert "power_w" in {one["point"] for one in tested["values"]}
        site.send("POST", "/api/devices", entry)
        wait_until(lambda: bool(site.device("grid")["known"]), "its values")
        assert site.send("POST", "/api/devices/grid/test")["ok"]
        status, problem = site.refused("POST", "/api/devices/test", {**entry, "id": "other"})
        assert (status, "is grid's already" in problem["detail"]) == (422, True)
        assert site.refused("POST", "/api/devices/test", entry)[0] == 409, "its own port is not opened twice either"


def test_the_settings_of_the_site_are_changed_and_run(site: Site) -> None:
    before = comments(site.path)
    changed = site.send(
        "PATCH", "/api/site", {"name": "Depot 7", "timezone": "America/Mexico_City", "import_limit_a": 63}
    )
    assert (changed["name"], changed["timezone"], changed["import_limit_a"]) == ("Depot 7", "America/Mexico_City", 63)
    assert comments(site.path) == before
    text = site.path.read_text()
    status, problem = site.refused("PATCH", "/api/site", {"timezone": "Nowhere", "import_limit_a": -1})
    assert status == 422
    assert {one["key"] for one in problem["errors"]} == {"timezone", "import_limit_a"}
    assert site.path.read_text() == text
    assert site.refused("PATCH", "/api/site", {"id": "depot-8"})[0] == 409
    assert site.send("PATCH", "/api/site", {"id": "depot-8", "confirm_id": True})["id"] == "depot-8"
    assert site.send("PATCH", "/api/site", {"import_limit_a": None})["import_limit_a"] is None
    assert "import_limit_a" not in site.path.read_text()
    assert "change site (id)" in json.dumps(site.get("/api/audit"))


def test_what_clients_post_is_listed_and_can_be_taken_out(site: Site) -> None:
    wait_until(lambda: bool(site.get("/api/devices/gateway/latest")["values"]), "the gateway's own values")
    row = [{"vin": "V1", "ts": site.get("/api/system/health")["time"], "soc": 50}]
    site.send("POST", "/api/telemetry", row)
    assert [(one["id"], one["kind"], one["state"]) for one in site.get("/api/devices")["items"]] == [
        ("V1", "posted", "online")
    ]
    site.send("DELETE", "/api/devices/V1")
    assert site.get("/api/devices")["total"] == 0
    assert site.refused("GET", "/api/devices/V1/latest")[0] == 404
    assert site.send("POST", "/api/telemetry", row)["duplicates"] == 1, "what it told is still stored"
    assert site.get("/api/devices")["total"] == 1, "and it is back"


def test_a_search_lets_go_of_what_is_saved_meanwhile_and_can_be_ended(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes connections, and says nothing
        host = f"127.0.0.1:{mute.getsockname()[1]}"
        wanted = {"kinds": ["modbus"], "hosts": [host], "units": list(range(1, 248))}
        site.send("POST", "/api/scan", wanted)
        wait_until(lambda: "unit" in site.get("/api/scan")["kinds"][0]["detail"], "the first questions")
        assert site.refused("POST", "/api/scan", wanted)[0] == 409
        entry = {"id": "m1", "driver": "modbus", "profile": "abb_terra_ac", "url": f"tcp://{host}"}
        assert site.refused("POST", "/api/devices/test", entry)[0] == 409, "a search goes on"
        site.send("POST", "/api/devices", entry)
        wait_until(lambda: site.get("/api/scan")["state"] == "done", "that the search lets go")
        assert site.get("/api/scan")["messages"][-1] == f"{host} is configured now: left alone"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        site.send("POST", "/api/scan", {**wanted, "hosts": [f"127.0.0.1:{mute.getsockname()[1]}"]})
        wait_until(lambda: "unit" in site.get("/api/scan")["kinds"][0]["detail"], "the first questions")
        ended = site.send("DELETE", "/api/scan")
        assert (ended["state"], ended["kinds"][0]["state"]) == ("cancelled", "cancelled")
        assert site.refused("DELETE", "/api/scan")[0] == 409
        assert site.refused("POST", "/api/scan", {"hosts": ["a b/c"]})[0] == 422
