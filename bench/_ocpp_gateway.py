"""A gateway process with so many chargers configured, and what it takes: CPU time and memory, as the kernel counts."""

import asyncio
import contextlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench._ocpp_fleet import PASSWORD, identities

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0
_TICKS_S = os.sysconf("SC_CLK_TCK")


class Process:
    """``enlace run``."""

    def __init__(self, pid: int, url: str) -> None:
        self.url = url  #: under which its chargers call
        self._pid = pid

    @property
    def cpu_s(self) -> float:
        """CPU time so far, all threads."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_S

    @property
    def memory_mb(self) -> float:
        """Resident memory."""
        return resident_mb(self._pid)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else float("nan")


@contextlib.contextmanager
def gateway(folder: Path, chargers: int | None, sample_s: int = 10) -> Iterator[Process]:
    """Run it until the end of the block; None: without the section ``ocpp`` altogether."""
    folder.mkdir(parents=True, exist_ok=True)
    port, api = free_port(), free_port()
    lines = [f"data_dir: {folder}/data", "site: {id: bench}", f'api: {{listen: "127.0.0.1:{api}"}}']
    if chargers is not None:
        (folder / "password").write_text(PASSWORD)
        lines += [f'ocpp: {{listen: "127.0.0.1:{port}", id_tags: any, sample_s: {sample_s}}}', "devices:"]
        lines += [
            f"  - {{id: {name.lower()}, driver: ocpp, charge_point_id: {name}, password_file: {folder}/password}}"
            for name, _ in identities(chargers)
        ]
    config = folder / "site.yaml"
    config.write_text("\n".join(lines) + "\n")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("ENLACE_")}
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(config)],
            cwd=ROOT,
            env=inherited | {"ENLACE_LOG_LEVEL": "warning"},
            stderr=log,
        )
        try:
            _wait(child, lambda: _answers(api) and (chargers is None or _listens(port)), folder / "log")
            yield Process(child.pid, f"ws://127.0.0.1:{port}/ocpp")
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)


class Remote:
    """A process of ours at the other end of a pipe: ``await remote("method", …)``."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __call__(self, *command: object) -> Any:  # noqa: ANN401 - whatever the method returns
        self._pipe.send(command)
        return self._pipe.recv()

    async def later(self, *command: object) -> Any:  # noqa: ANN401 - the same
        """The same, while others run."""
        return await asyncio.to_thread(self, *command)


@contextlib.contextmanager
def remote(target: Callable[..., None], *arguments: object) -> Iterator[Remote]:
    """A process that runs ``target`` with these arguments and a pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Remote(ours)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(child: "subprocess.Popen[bytes]", ready: Callable[[], bool], log: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline_s:
            raise SystemExit(f"bench: the gateway did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/system/health", timeout=2) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - OK
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
