"""``enlace central`` and the gateway are told to stop again and again: they stop once, in order, without a traceback.

No database and no broker is needed: both are away, and are waited for.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.brokers import ROOT
from tests.e2e.site import environment, wait_until
from tests.ports import free_port

pytest.importorskip("psycopg")

STOP_GUARD_S = 60.0


def told_without_end(arguments: list[str], log: Path, up: str, count: int = 1) -> tuple[int, str]:
    """Exit code and log of a program that gets SIGTERM, with its children, from when it is up until it has gone."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "agent", *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: child.poll() is not None or log.read_text().count(up) >= count, up)
        began_s = time.monotonic()
        while child.poll() is None and time.monotonic() - began_s < STOP_GUARD_S:
            os.killpg(child.pid, signal.SIGTERM)
            time.sleep(0.0002)
    finally:
        child.kill()
    return child.wait(), log.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_central_stops_once_however_often_it_is_told(workers: int, tmp_path: Path) -> None:
    port = free_port()
    there = ["--database", f"host=127.0.0.1 port={port} dbname=none", "--broker", f"mqtt://127.0.0.1:{port}"]
    for _ in range(3):  # the window is a part of a millisecond: before, it was hit three times of five
        arguments = ["central", *there, "--workers", str(workers)]
        code, log = told_without_end(arguments, tmp_path / "log", "waiting for the database", workers)
        assert code == 0, log
        assert log.count("ended: 0 messages") == workers
        assert "Traceback" not in log
        assert "Error" not in log


def test_the_gateway_stops_once_however_often_it_is_told(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(f'data_dir: {tmp_path}/data\nsite: {{id: depot}}\napi: {{listen: "127.0.0.1:0"}}\n')
    for _ in range(2):
        code, log = told_without_end(["run", "--config", str(config)], tmp_path / "log", "is up")
        assert code == 0, log
        assert "Traceback" not in log
