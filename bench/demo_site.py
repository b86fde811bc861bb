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
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
MEMORY_TARGET_MB = 90
FIRST_SAMPLE_TARGET_S = 1.5
SETTLE_S = 6.0


def main() -> None:
    """Print both figures."""
    firsts: list[float] = []
    memories: list[float] = []
    with _site() as (config, environ):
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder:
                first_s, memory_mb = _run(config, environ | {"ENLACE_DATA_DIR": folder}, Path(folder))
                firsts.append(first_s)
                memories.append(memory_mb)
    first_s, memory_mb = statistics.median(firsts), max(memories)
    print(
        f"first sample stored after start: {first_s:.2f} s (median of {RUNS}, worst {max(firsts):.2f}; "
        f"{FIRST_SAMPLE_TARGET_S / first_s:.1f} times faster than the target) target <= {FIRST_SAMPLE_TARGET_S} s"
    )
    print(
        f"resident memory of enlace run: {memory_mb:.0f} MB (largest of {RUNS}; {memory_mb / MEMORY_TARGET_MB:.2f} of "
        f"the target) target < {MEMORY_TARGET_MB} MB"
    )


@contextlib.contextmanager
def _site() -> Iterator[tuple[Path, dict[str, str]]]:
    """The counterparts of the demo's gateway: a broker and a battery."""
    broker_port, can_port = _free_port(), _free_port()
    with tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder:
        text = (ROOT / "config" / "demo.yaml").read_text()
        text = text.replace("hop_limit: 0}", f"hop_limit: 0, port: {can_port}}}")
        config = Path(folder) / "site.yaml"
        config.write_text(text)
        broker = _module("drivers.sim.broker", "--port", str(broker_port))
        bms = _module(
            "drivers.sim.bms", "--interface", "udp_multicast", "--channel", "239.74.163.2", "--port", str(can_port)
        )
        try:
            time.sleep(3)
            yield (
                config,
                {
                    "ENLACE_API_LISTEN": "127.0.0.1:0",
                    "ENLACE_UPLINK_BROKER": f"mqtt://127.0.0.1:{broker_port}",
                    "ENLACE_LOG_LEVEL": "warning",
                },
            )
        finally:
            for process in (bms, broker):
                process.terminate()
                process.wait(10)


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
