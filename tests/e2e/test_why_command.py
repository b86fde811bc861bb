"""``enlace why`` as an operator uses it: beside a running gateway, after its end, and with a name that nobody has."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from agent.store.reading import read_notes
from tests.e2e import site
from tests.e2e.test_gateway import api_url
from tests.ports import free_port


def configured(folder: Path, port: int) -> Path:
    path = folder / "site.yaml"
    path.write_text(f"""\
data_dir: {folder}/data
site: {{id: test, timezone: Europe/Madrid}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: cp2, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{port}", every_s: 0.5}}
schedules:
  - {{id: night, every_s: 1, then: [{{station: cp2, limit_a: 8}}]}}
""")
    return path


def test_why_tells_the_decisions_beside_a_running_gateway_and_after_it(tmp_path: Path) -> None:
    port = free_port()
    config = configured(tmp_path, port)
    charger_log, log = tmp_path / "charger.log", tmp_path / "gateway.log"
    with (
        site.process("drivers.sim.charger_modbus", "--port", str(port), log=charger_log),
        site.process("agent", "run", "--config", str(config), log=log),
    ):
        url = api_url(log)

        def told(text: str) -> bool:
            return text in site.enlace("why", "cp2", "--config", str(config)).stdout

        site.wait_until(lambda: told("at most 8 A by schedule night since"), "the schedule's limit is told")
        body = {"action": "off", "args": {"reason": "the cable is damaged"}}
        site.wait_until(lambda: _has(url, "cp2"), "the station is there")
        site.send("POST", f"{url}/api/stations/cp2/commands", body)
        site.wait_until(lambda: told("(the cable is damaged)"), "the operator's stop is told")
        site.wait_until(lambda: told("-> done; it follows: it draws 0 W"), "the meter's word is told")
    result = site.enlace("why", "cp2", "--config", str(config))
    assert (result.returncode, result.stderr) == (0, "")
    newest, *_, oldest = result.stdout.splitlines()
    time, _, text = newest.partition("  ")
    assert time.rpartition(" ")[2] in {"CET", "CEST"}
    assert text.startswith("off by user ")
    assert "at most 8 A by schedule night since " in newest
    assert "schedule night" in oldest
    by_folder = site.enlace("why", "cp2", "--data-dir", str(tmp_path / "data"), "--limit", "1", "--format", "jsonl")
    (decision,) = map(json.loads, by_folder.stdout.splitlines())
    assert (decision["station"], decision["on"], decision["limit_a"], decision["follows"]) == ("cp2", False, 8, True)
    assert decision["time"].endswith("Z")
    assert {one["key"].partition(":")[0] for one in decision["wishes"]} == {"user", "schedule"}


def _has(url: str, station: str) -> bool:
    return any(one["id"] == station for one in site.get(f"{url}/api/stations")["items"])


def test_a_name_that_nobody_has_and_a_folder_without_a_store(tmp_path: Path) -> None:
    config = configured(tmp_path, 1)
    nothing = site.enlace("why", "cp2", "--config", str(config))
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "no such file (start the gateway once" in nothing.stderr
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "enlace.db"
    decided = {"number": 1, "station": "cp1", "t_us": 1, "on": True, "limit_a": None, "winner": None, "wishes": []}
    decided |= {"reason": "on by user ana since 12:00", "result": "done", "inputs": {"a.b": None, "a.c": 1.5}}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE note(kind TEXT, key TEXT, data TEXT)")
        rows = [("decision", "cp1/1", json.dumps(decided)), ("decision", "x", "{"), ("decision", "y", "5")]
        connection.executemany("INSERT INTO note VALUES(?, ?, ?)", rows)
        connection.commit()
    never = site.enlace("why", "cp2", "--config", str(config))
    assert (never.returncode, never.stdout) == (
        0,
        "nothing was decided about cp2 so far: it does what it does by itself\n",
    )
    wrong = site.enlace("why", "cp9", "--config", str(config))
    assert (wrong.returncode, wrong.stdout) == (2, "")  # 78 is of a bad configuration
    assert wrong.stderr.endswith("no station of that name is known (there are decisions about cp1)\n")
    uncounted = site.enlace("why", "cp1", "--limit", "few", "--config", str(config))
    assert uncounted.returncode == 2
    assert uncounted.stderr.endswith("argument --limit: 'few' is no whole number from 1 on\n")
    old = site.enlace("why", "cp1", "--data-dir", str(tmp_path / "data"))
    line = "1970-01-01 00:00:00 UTC  on by user ana since 12:00 [a.b unknown, a.c 1.5] -> done\n"
    assert (old.returncode, old.stdout) == (0, line)
    path.write_text("no database " * 500)
    assert site.enlace("why", "cp1", "--data-dir", str(tmp_path / "data")).returncode == 2


# Root without what makes root more than others: to another user Python itself may be hidden.
MERE_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs another user")
def test_a_folder_of_somebody_else_is_told_by_each_command(tmp_path: Path) -> None:
    """As an administrator looks at the gateway's site without ``sudo``: a line that says what to do, no traceback."""
    config, stations, folder = tmp_path / "site.yaml", tmp_path / "stations.csv", tmp_path / "data"
    config.write_text(f'data_dir: {folder}\nsite: {{id: depot}}\napi: {{listen: "127.0.0.1:0"}}\n')
    stations.write_text("name\nLot 4\n")
    folder.mkdir(0o700)
    os.chown(folder, 65534, 65534)

    def told(*words: str) -> tuple[int, str]:
        line = [*MERE_USER, sys.executable, "-m", "agent", *words, "--config", str(config)]
        done = subprocess.run(
            line, cwd=site.ROOT, env=site.environment(), capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, (done.stdout + done.stderr).replace(f"{tmp_path}/", "").splitlines()[0]

    commands = ["run", "audit verify", "reset --yes", f"seed {stations}", "user list", "why cp1", "check"]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda words: told(*words.split()), commands))
    theirs = "run it as the user of the gateway, or as root"
    assert found == [
        (2, "enlace: open data: Permission denied (run it as a user that may write there)"),
        (2, f"enlace: read data/enlace.db: Permission denied ({theirs})"),
        (2, "enlace: reset data: Permission denied (run it as the user who owns the folder)"),
        (2, f"enlace: open data/enlace.db: Permission denied ({theirs})"),
        (2, "enlace: read data/users.json: Permission denied (can this user read and write it, and is there room?)"),
        (2, f"enlace: look into data/enlace.db: Permission denied ({theirs})"),
        (1, "error: site.yaml:1:11: data can't be written by this user; create data for the user that runs enlace"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_who_may_only_read_the_folder_reads_a_store_that_nobody_writes(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE note(kind TEXT, key TEXT, data TEXT)")
        connection.execute("INSERT INTO note VALUES('wish', 'cp1', '{\"wishes\": []}')")
        connection.commit()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        assert read_notes(path, ("wish",)) == {"wish": {"cp1": {"wishes": []}}}
    finally:
        os.seteuid(0)
