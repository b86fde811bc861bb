"""Ten secrets of a running site are nowhere to be seen: not in its environment, command line, log, ledger or database.

What the service reads by name from its credentials is in none of its children's environment either.
"""

import base64
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.api.tls import FOLDER
from tests.e2e import site
from tests.e2e.test_etsi_process import knock
from tests.ports import free_port
from tests.unit.test_units import service

SITE = """\
data_dir: {folder}/data
site: {{id: test}}
log: {{level: debug}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}"}}
uplink: {{broker: "{broker}", username: depot, password_file: "credential:broker"}}
event_backend: {{url: "http://127.0.0.1:{nobody}", token_file: "credential:backend", every_s: 5}}
notify: [{{id: night, url_file: "credential:night", every_s: 0}}]
devices:
  - {{id: cp1, driver: ocpp, charge_point_id: CP-1, password_file: "credential:charger"}}
  - id: meter1
    driver: serial_meter
    protocol: dsmr
    port: {folder}/no-port
    key_file: "credential:meter"
    auth_key_file: "credential:meter-auth"
alarms:
  - {{id: well, when: "gateway.store_ok == 1", text: "somebody is to be told"}}
"""


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def seen_of(pid: int) -> str:
    """What others who are the same user may read of a process and its children without asking it."""
    return "".join(
        Path(f"/proc/{one}/{name}").read_bytes().decode(errors="replace")
        for one in family(pid)
        for name in ("environ", "cmdline")
    )


def dumped(path: Path) -> str:
    """A database as SQL: what is packed into pages is in one piece here."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return "\n".join(database.iterdump())


@pytest.mark.announced_warnings
def test_of_ten_secrets_none_is_seen(tmp_path: Path) -> None:
    api, ocpp, nobody = (free_port() for _ in range(3))
    own = tmp_path / "credentials"
    own.mkdir(mode=0o700)
    planted = {name: f"canary{secrets.token_hex(12)}" for name in ("broker", "backend", "charger", "night")}
    planted |= {name: secrets.token_hex(16) for name in ("meter", "meter-auth")}
    for name, value in planted.items():
        (own / name).write_text(f"json://enlace:{value}@127.0.0.1:{nobody}/" if name == "night" else value)
        (own / name).chmod(0o400)
    config, log = tmp_path / "site.yaml", tmp_path / "run.log"
    url = f"http://127.0.0.1:{api}"
    with site.central(tmp_path, "test") as broker:
        config.write_text(SITE.format(folder=tmp_path, api=api, ocpp=ocpp, broker=broker.url, nobody=nobody))
        there = {"CREDENTIALS_DIRECTORY": str(own)}
        with site.process("agent", "run", "--config", str(config), log=log, **there) as gateway:
            site.wait_until(lambda: site.answers(f"{url}/api/auth/setup"), "the API answers")
            planted["access token"] = site.token(url, log)
            planted["admin"] = site.PASSWORD
            who = {"username": site.ADMIN, "password": site.PASSWORD}
            planted["refresh token"] = site.send("POST", f"{url}/api/auth/login", who)["refresh_token"]
            made = site.send("POST", f"{url}/api/users/{site.ADMIN}/tokens", {"label": "meter"})
            planted["API token"] = made["token"]
            assert b"101 " in knock(ocpp, "CP-1", planted["charger"])
            site.wait_until(lambda: "connected to" in log.read_text(), "the broker is reached")
            site.wait_until(lambda: "night" in log.read_text(), "somebody would have been told")
            assert len(planted) == 10
            shown = seen_of(gateway.pid)
            ledger = str(site.get(f"{url}/api/audit"))
            assert site.end(gateway) == 0
    assert "CREDENTIALS_DIRECTORY" in shown, "the environment was read"
    text, database = log.read_text(), dumped(tmp_path / "data" / "enlace.db")
    assert "CREATE TABLE" in database
    files = {
        one: one.read_bytes() for one in (tmp_path / "data").rglob("*") if one.is_file() and FOLDER not in one.parts
    }
    for name, secret in planted.items():
        for form in (secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
            places = {"environment": shown, "log": text, "ledger": ledger, "database": database}
            assert not [place for place, said in places.items() if form in said], name
            assert not [one.name for one, held in files.items() if form.encode() in held], name


def test_the_unit_leaves_no_core_that_would_hold_them() -> None:
    assert service()["LimitCORE"] == "0"
