"""Processes of a site for the end-to-end tests: broker and subscriber on free loopback ports, and the gateway."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Patience is a guard against hanging, not a measured time."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.05)


def environment(**variables: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("ENLACE_")}
    return inherited | variables


@contextlib.contextmanager
def process(*arguments: str, log: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """One of our programs, ended by SIGTERM when the test leaves; its output goes to ``log``."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment(**variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            end(child)


def end(child: "subprocess.Popen[bytes]") -> int:
    """SIGTERM and the exit code."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise
    return child.returncode


def enlace(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True)
class Central:
    """A broker and a subscriber that writes down what it gets."""

    url: str
    heard: Path
    port: int

    def items(self) -> list[dict[str, Any]]:
        # A line that is still being written has no end yet.
        return [json.loads(line) for line in self.heard.read_text().splitlines(keepends=True) if line.endswith("}\n")]

    def values(self) -> dict[str, list[float | None]]:
        """By signal, in the order in which they were stored: live data comes beside what had piled up."""
        result: dict[str, list[float | None]] = {}
        for item in sorted((one for one in self.items() if "signal" in one), key=lambda one: int(one["seq"])):
            result.setdefault(item["signal"], []).append(item["value"])
        return result


@contextlib.contextmanager
def central(folder: Path, site: str) -> Iterator[Central]:
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    heard = folder / "heard.jsonl"
    with process("drivers.sim.broker", "--port", str(port), log=folder / "broker.log"):
        wait_until(lambda: _listens(port), "the broker listens")
        arguments = ("--broker", url, "--root", "enlace", "--site", site, "--format", "jsonl")
        with process("cloud_sync.watch", *arguments, log=heard):
            yield Central(url, heard, port)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


ADMIN, PASSWORD = "ana", "a few words of mine"
#: The token of each gateway that a test has logged in to, by its address: ``get`` uses it.
_tokens: dict[str, str] = {}


def token(url: str, log: Path) -> str:
    """A bearer token of an admin: by the set-up code in the log, or a log-in where set-up was done before."""
    if send("GET", f"{url}/api/auth/setup")["needed"]:
        wait_until(lambda: "with the code " in log.read_text(), "the set-up code")
        code = re.findall(r"with the code (\S+)", log.read_text())[-1]
        body = {"code": code, "username": ADMIN, "password": PASSWORD}
        made = send("POST", f"{url}/api/auth/setup", body)
    else:
        made = send("POST", f"{url}/api/auth/login", {"username": ADMIN, "password": PASSWORD})
    _tokens[url] = made["access_token"]
    return _tokens[url]


def get(url: str, token: str | None = None) -> Any:  # noqa: ANN401 - any JSON
    return send("GET", url, token=token)


def send(method: str, url: str, body: object = None, token: str | None = None) -> Any:  # noqa: ANN401 - any JSON
    """A request and its answer, as JSON; with the token that ``token`` got there, when none is given."""
    proof = token or _tokens.get("/".join(url.split("/", 3)[:3]))
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {proof}"} if proof else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - a loopback URL
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
        content = answer.read()
    return json.loads(content) if content else None


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True
