"""Clients of the five former systems against a gateway that runs, and the CSV seed through both of its doors."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import site
from tests.ports import free_port

CLIENTS = site.ROOT / "tests" / "e2e" / "clients"
TOKEN = "s3cret-t0ken"  # noqa: S105 - of tests
CONFIG = """\
data_dir: {folder}/data
site: {{id: test, timezone: America/Mexico_City}}
api: {{listen: "127.0.0.1:0"}}
{more}"""
SEED = """\
name,location,max_kw,status
Norte,CDMX,22,activo
Sur,CDMX,50,inactivo
,CDMX,7,activo
Oeste,GDL,much,activo
Norte,CDMX,22,activo
Este,"Puebla, centro",,
"""


@dataclass
class Gateway:
    """One that runs, with its admin set up where the test wants it."""

    folder: Path
    url: str = ""
    admin: str = ""

    @property
    def config(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    def client(self, name: str, *arguments: str, **variables: str) -> str:
        """Run a client; its output."""
        done = subprocess.run(
            [sys.executable, str(CLIENTS / name), self.url, *arguments],
            env=site.environment(ENLACE_PASSWORD=site.PASSWORD, **variables),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log.read_text()}"
        assert done.stdout.endswith("all as it was\n")
        return done.stdout


def started(gateway: Gateway) -> None:
    site.wait_until(lambda: "with the code" in gateway.log.read_text(), "the code")
    (gateway.url,) = re.findall(r"api: (http://\S+)\n", gateway.log.read_text())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all clients: they use it side by side on a site, too."""
    made = Gateway(tmp_path_factory.mktemp("clients"))
    made.config.write_text(CONFIG.format(folder=made.folder, more=""))
    with site.process("agent", "run", "--config", str(made.config), log=made.log):
        started(made)
        made.admin = site.token(made.url, made.log)
        yield made


def test_a_client_of_the_charging_station_backend(gateway: Gateway) -> None:
    gateway.client("station_backend.py", site.ADMIN)
    stations = site.get(f"{gateway.url}/api/stations", gateway.admin)["items"]
    assert {one["id"] for one in stations if one["name"] in {"Norte", "Sur"}}
    why = site.get(f"{gateway.url}/api/stations/{stations[0]['id']}/why", gateway.admin)
    assert site.ADMIN in why["items"][0]["reason"], "who switched it is known"


def test_a_client_of_the_battery_monitor(gateway: Gateway) -> None:
    gateway.client("battery_monitor.py", site.ADMIN)


def test_a_client_of_the_energy_backend(gateway: Gateway) -> None:
    gateway.client("energy.py", site.ADMIN)


def test_a_client_of_the_machine_manager_from_its_first_user_on(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.config.write_text(CONFIG.format(folder=tmp_path, more=""))
    with site.process("agent", "run", "--config", str(gateway.config), log=gateway.log):
        started(gateway)
        (code,) = re.findall(r"with the code (\S+)", gateway.log.read_text())
        gateway.client("machines.py", site.ADMIN, ENLACE_CODE=code)
        gateway.client("machines.py", site.ADMIN)
    assert "Traceback" not in gateway.log.read_text()


def test_the_event_service_between_its_client_and_its_backend(tmp_path: Path) -> None:
    port, gateway = free_port(), Gateway(tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    more = f'event_backend: {{url: "http://127.0.0.1:{port}", token_file: token, every_s: 5}}\n'
    gateway.config.write_text(CONFIG.format(folder=tmp_path, more=more))
    with site.process("agent", "run", "--config", str(gateway.config), log=gateway.log):
        started(gateway)
        gateway.client("events.py", str(port), TOKEN)
    assert "Traceback" not in gateway.log.read_text()


def seed(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    (folder / "stations.csv").write_text(SEED)
    return site.enlace("seed", str(folder / "stations.csv"), *arguments, **variables)


def check_seeded(done: "subprocess.CompletedProcess[str]", new: int, there: int) -> None:
    assert done.returncode == 1, done.stderr
    assert done.stdout == f"{new} stations were registered, {there} were there already, 2 rows are bad\n"
    first, second = done.stderr.splitlines()
    assert "stations.csv:4: name: " in first
    assert "stations.csv:5: max_kw: 'much' is no number" in second


def seeded(url: str, token: str) -> list[tuple[object, ...]]:
    found = site.get(f"{url}/api/stations?page_size=1000", token)["items"]
    known = [(one["name"], one["location"], one["max_kw"], one["status"]) for one in found if one["registered"]]
    return sorted(one for one in known if one[1] in {"CDMX", "Puebla, centro"})


EXPECTED = [
    ("Este", "Puebla, centro", None, "on"), ("Norte", "CDMX", 22.0, "on"), ("Sur", "CDMX", 50.0, "off"),
]  # fmt: skip


def test_stations_are_seeded_while_the_gateway_is_stopped_and_while_it_runs(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.config.write_text(CONFIG.format(folder=tmp_path, more=""))
    check_seeded(seed(tmp_path, "--config", str(gateway.config)), 3, 1)
    check_seeded(seed(tmp_path, "--config", str(gateway.config)), 0, 4)
    with site.process("agent", "run", "--config", str(gateway.config), log=gateway.log):
        started(gateway)
        token = site.token(gateway.url, gateway.log)
        site.wait_until(lambda: seeded(gateway.url, token) == EXPECTED, "they are there, as the list has them")
        running = seed(tmp_path, "--config", str(gateway.config))
        assert running.returncode == 2
        assert "--url" in running.stderr, "the database is another process's: the way is told"
        check_seeded(seed(tmp_path, "--url", gateway.url, ENLACE_TOKEN=token), 0, 4)
        (tmp_path / "more.csv").write_text("name;max_kw\nLejos;7,4\n")
        (tmp_path / "token").write_text(f"{token}\n")
        more = site.enlace(
            "seed", str(tmp_path / "more.csv"), "--url", gateway.url, "--token-file", str(tmp_path / "token")
        )
        assert (more.returncode, more.stdout) == (
            0,
            "1 stations were registered, 0 were there already, 0 rows are bad\n",
        )
        stations = site.get(f"{gateway.url}/api/stations", token)["items"]
        assert [(one["max_kw"], one["status"]) for one in stations if one["name"] == "Lejos"] == [(7.4, "on")]
        wrong = seed(tmp_path, "--url", gateway.url, ENLACE_TOKEN="nonsense")  # noqa: S106 - and no password
        assert wrong.returncode == 2
        assert "401" in wrong.stderr
        none = seed(tmp_path, "--url", gateway.url)
        assert (none.returncode, "there is no token" in none.stderr) == (78, True)
    assert "Traceback" not in gateway.log.read_text()
