"""``enlace run`` on the demo site: resident memory, and the time from its start to the first stored sample."""

import contextlib
import os
import re
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
MEMORY_TARGET_MB = 90
FIRST_SAMPLE_TARGET_S = 1.5
SETTLE_S = 15.0
#: What the chargers of config/demo.yaml speak.
VERSIONS = {"cp1": "1.6", "cp3": "2.0.1"}


def main() -> None:
    """Print both figures, with the chargers on OCPP and without."""
    for ocpp in (True, False):
        with _site(ocpp=ocpp) as (config, environ):
            _report(config, environ, "" if ocpp else ", without the section ocpp and its chargers")


def _report(config: Path, environ: Mapping[str, str], what: str) -> None:
    firsts: list[float] = []
    memories: list[float] = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder:
            first_s, memory_mb = _run(config, {**environ, "ENLACE_DATA_DIR": folder}, Path(folder))
            firsts.append(first_s)
            memories.append(memory_mb)
    first_s, memory_mb = statistics.median(firsts), max(memories)
    print(
        f"first sample stored after start{what}: {first_s:.2f} s (median of {RUNS}, worst {max(firsts):.2f}; "
        f"{FIRST_SAMPLE_TARGET_S / first_s:.1f} times faster than the target) target <= {FIRST_SAMPLE_TARGET_S} s"
    )
    print(
        f"resident memory of enlace run{what}: {memory_mb:.0f} MB (largest of {RUNS}; "
        f"{memory_mb / MEMORY_TARGET_MB:.2f} of the target) target < {MEMORY_TARGET_MB} MB",
        flush=True,
    )


@contextlib.contextmanager
def _site(*, ocpp: bool) -> Iterator[tuple[Path, dict[str, str]]]:
    """The counterparts of the demo's gateway: a broker, a battery, meters and chargers."""
    broker_port, can_port, ocpp_port = (_free_port() for _ in range(3))
    with tempfile.TemporaryDirectory(prefix="enlace-bench-") as text, contextlib.ExitStack() as stack:
        folder = Path(text)

        def start(name: str, *arguments: str) -> None:
            process = _module(name, *arguments)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)

        yaml = YAML()
        site = yaml.load((ROOT / "config" / "demo.yaml").read_text())
        if not ocpp:
            del site["ocpp"]
            site["devices"] = [device for device in site["devices"] if device["driver"] != "ocpp"]
        for device in site["devices"]:
            name, driver = device["id"], device["driver"]
            if driver == "can":
                device["options"]["port"] = can_port
                channel = ("--interface", device["interface"], "--channel", device["channel"])
                start("drivers.sim.bms", *channel, "--port", str(can_port))
            elif driver == "modbus":
                port = _free_port()
                device["url"] = f"tcp://127.0.0.1:{port}"
                kind = "inverter_sunspec" if device["profile"] == "sunspec" else "charger_modbus"
                start(f"drivers.sim.{kind}", "--port", str(port))
            elif driver == "serial_meter":
                device["port"] = str(folder / name)
                start(f"drivers.sim.meter_{device['protocol']}", "--port-link", device["port"])
            elif driver == "ocpp":
                identity, password = device["charge_point_id"], folder / f"{name}.password"
                password.write_text(f"the password of {identity}")
                device["password_file"] = str(password)
                version = VERSIONS[name]
                url = f"ws://127.0.0.1:{ocpp_port}/ocpp/{identity}"
                outlets = str(device.get("connectors", 1))
                start(
                    "drivers.sim.charger_ocpp",
                    *("--url", url, "--version", version, "--outlets", outlets),
                    *("--id-tag", "VAN-3", "--password-file", str(password)),
                )
        config = folder / "site.yaml"
        yaml.dump(site, config)
        start("drivers.sim.broker", "--port", str(broker_port))
        time.sleep(4)
        yield (
            config,
            {
                "ENLACE_API_LISTEN": "127.0.0.1:0",
                "ENLACE_UPLINK_BROKER": f"mqtt://127.0.0.1:{broker_port}",
                "ENLACE_LOG_LEVEL": "warning",
            }
            | ({"ENLACE_OCPP_LISTEN": f"127.0.0.1:{ocpp_port}"} if ocpp else {}),
        )


def _run(config: Path, environ: dict[str, str], folder: Path) -> tuple[float, float]:
    start_s = time.monotonic()
    process = _module("agent", "run", "--config", str(config), environ=environ)
    try:
        while not _stored(folder):
            if time.monotonic() - start_s > 30 or process.poll() is not None:  # noqa: PLR2004 - it never takes 30 s
                raise SystemExit("bench: enlace run stored nothing within 30 s")
            time.sleep(0.01)
        first_s = time.monotonic() - start_s
        time.sleep(SETTLE_S)
        status = Path(f"/proc/{process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return first_s, int(match[1]) / 1024 if match else float("nan")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _stored(folder: Path) -> bool:
    """Whether a committed block is there, seen from outside of the process."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{folder}/enlace.db?mode=ro", uri=True)) as database,
    ):
        return bool(database.execute("SELECT 1 FROM hot LIMIT 1").fetchone())
    return False


def _module(name: str, *arguments: str, environ: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", name, *arguments], env=dict(os.environ) | (environ or {}), cwd=ROOT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
