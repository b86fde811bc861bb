"""Clients post to a real gateway that is killed: what was acknowledged is there once, and is seen everywhere."""

import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.error
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.api.times import iso
from agent.core.clock import SystemClock
from agent.store.db import Store
from tests.e2e.site import ROOT, answers, central, environment, process, send, token, wait_until
from tests.ports import free_port

ROUNDS, ENOUGH = 25, 6
VIN = "WVWZZZ1KZAW000001"
SITE = """\
data_dir: {folder}/data
site: {{id: depot}}
api: {{listen: "127.0.0.1:{api}"}}
devices: []
alarm_sets: []
alarms:
  - id: van_hot
    when: {vin}.temperature_max_degc > 55
    severity: critical
    text: The van is too hot
uplink: {{broker: "{broker}"}}
"""


def test_each_acknowledged_row_is_there_once_whenever_it_is_killed(tmp_path: Path) -> None:
    """25 rounds; more where a busy machine is killed before it stored anything; the client repeats too much."""
    path, base_us = tmp_path / "enlace.db", SystemClock().now_us() - 86_400_000_000
    chance = random.Random(7)  # noqa: S311 - a test's own moments
    command = [sys.executable, "-m", "tests.e2e.ingest_process", str(path), str(base_us)]
    acked, rounds_with_acks = 0, 0
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for number in range(4 * ROUNDS):
            if number >= ROUNDS and rounds_with_acks > ENOUGH:
                break
            print(f"go {acked}", file=worker.stdin, flush=True)
            word, pid = worker.stdout.readline().split()
            assert word == "pid"
            threading.Timer(chance.uniform(0.01, 0.25), os.kill, (int(pid), signal.SIGKILL)).start()
            before = acked
            for line in iter(worker.stdout.readline, "dead\n"):
                assert line.startswith("ack "), line
                acked = int(line.split()[1])
            rounds_with_acks += acked > before
        worker.stdin.close()
        assert worker.wait(30) == 0
    assert rounds_with_acks > ENOUGH  # else too little was at stake
    with closing(Store.open(path, SystemClock())) as store:
        assert store.opened.moved_to is None
        ids = [one.id for one in store.catalog()[1] if one.name == "odometer_km"]
        found = Counter(value for _, _, value in store.rows(ids, 0, 1 << 62))
        assert not set(range(acked)) - found.keys()
        assert set(found.values()) == {1}


class Gateway:
    """A gateway that can be killed and started again, and a client of it."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "site.yaml"
        self.config.write_text(SITE.format(folder=folder, api=self.port, vin=VIN, broker=broker))
        self.token = ""
        self.starts = 0

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        self.starts += 1
        log = self.folder / f"gateway-{self.starts}.log"
        with process("agent", "run", "--config", str(self.config), log=log) as child:
            wait_until(lambda: answers(f"{self.url}/api/system/health"), "the API answers")
            self.token = token(self.url, log)
            yield child

    def post(self, rows: object) -> Any:  # noqa: ANN401 - any JSON
        return send("POST", f"{self.url}/api/telemetry", rows, self.token)

    def post_for_ever(self, rows: object) -> None:
        while True:
            self.post(rows)

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        return send("GET", self.url + path, token=self.token)


def batch(first: int, count: int, newest_us: int) -> list[dict[str, object]]:
    """So many rows a second apart, the last of number ``first + count - 1``; row 0 is the oldest."""
    return [
        {
            "vin": VIN,
            "ts": iso(newest_us + (number - 12_000) * 1_000_000),
            "soc": 20 + number // 200,
            "pack_voltage": 396.4,
            "pack_current": -10 - number % 7,
            "max_temp": 30 + number % 10,
            "min_temp": 25,
            "odo_km": 48_000 + number / 100,
        }
        for number in range(first, first + count)
    ]


@pytest.mark.announced_warnings
def test_a_monitor_posts_is_killed_and_repeats(tmp_path: Path) -> None:
    newest_us = SystemClock().now_us() // 1_000_000 * 1_000_000
    with central(tmp_path, "depot") as server:
        gateway = Gateway(tmp_path, server.url)
        with gateway.running() as child:
            assert gateway.post(batch(0, 10_000, newest_us)) == {"inserted": 10_000, "duplicates": 0, "errors": []}
            latest = gateway.get(f"/api/vehicles/{VIN}/latest")
            assert (latest["soc"], latest["odo_km"], latest["alerts"]) == (69, 48099.99, [])
            assert latest["power_kw"] == pytest.approx(396.4 * latest["pack_current"] / 1000)
            # It is killed while the next ones are posted again and again.
            threading.Timer(0.15, child.kill).start()
            with pytest.raises((urllib.error.URLError, OSError, http.client.HTTPException)):
                gateway.post_for_ever(batch(10_000, 1000, newest_us))
            child.wait(30)
        with gateway.running():
            assert gateway.get(f"/api/vehicles/{VIN}/latest")["soc"] in {69, 74}  # as it was stored, or not
            assert gateway.post(batch(0, 10_000, newest_us))["duplicates"] == 10_000
            again = gateway.post(batch(10_000, 1000, newest_us))
            assert again["inserted"] + again["duplicates"] == 1000
            hot = {"vin": VIN, "ts": iso(newest_us), "soc": 12, "max_temp": 61}
            assert gateway.post([hot])["inserted"] == 1
            active = f"{gateway.url}/api/alarms?active=true"
            wait_until(lambda: any(one["id"] == "van_hot" for one in send("GET", active)["items"]), "the alarm")
            latest = gateway.get(f"/api/vehicles/{VIN}/latest")
            assert latest["alerts"] == ["soc_low", "temperature_high", "van_hot"]
            times = f"from_ts={iso(newest_us - 12_000_000_000)}&to_ts={iso(newest_us)}"
            summary = gateway.get(f"/api/vehicles/{VIN}/summary?{times}")
            assert (summary["samples"], summary["soc_min"], summary["temp_max"]) == (11_001, 12, 61)
            span = f"from={iso(newest_us - 5_000_000)}&to={iso(newest_us + 1_000_000)}"
            history = gateway.get(f"/api/history?signal={VIN}.soc_pct&{span}")
            assert [point["last"] for point in history["points"]] == [12]
            assert gateway.get(f"/api/signals?device={VIN}")["total"] == 6
        wait_until(lambda: 12 in server.values().get(f"{VIN}.soc_pct", []), "the last row at the central server")
        heard = Counter(server.values()[f"{VIN}.odometer_km"])
        assert len(heard) == 11_000
        assert set(heard.values()) == {1}


@pytest.mark.announced_warnings
def test_devices_called_by_numbers_leave_every_alarm_in_force_at_the_next_start(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
    gateway.config.write_text(gateway.config.read_text().replace("alarm_sets: []\n", ""))

    def alarms() -> set[str]:
        return {one["id"] for one in gateway.get("/api/alarms?page_size=200")["items"]}

    with gateway.running():
        now = iso(SystemClock().now_us())
        assert send("POST", f"{gateway.url}/consumo", {"device_id": 7, "kwh": 2.5, "timestamp": now}, gateway.token)
        assert gateway.post([{"vin": "1e5", "ts": now, "soc": 44}])["inserted"] == 1
        wait_until(lambda: "van_hot" in alarms() and len(alarms()) > 1, "the ready-made ones")
        before = alarms()
    with gateway.running():
        wait_until(lambda: alarms() >= before, "all of them again")
