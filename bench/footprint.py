"""What the gateway takes: start to READY and to the first answer, memory of the demo site, an idle site's work.

And what smaller machines carry, by what a frame costs here: the table of docs/footprint.md. How much slower their cores
are is told by two published figures, of which one is measured here too (``_nbody_s``).
"""

import contextlib
import math
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.api.users import Role, UserBook
from bench.api import Running
from bench.demo_site import _free_port, _module, _site
from bench.reaction import GROUP, _loaded

STARTS = 5
READY_TARGET_S, MEMORY_TARGET_MB, IDLE_TARGET_PCT = 2.0, 110.0, 2.0
SETTLE_S, WATCH_S = 30.0, 60.0
#: Frames a second on the bus, below what a core of any of the machines can do.
LOADS = (500, 2000)
_LIMIT_S = 180.0

IDLE = """\
data_dir: {folder}/data
site: {{id: bench}}
api: {{listen: "127.0.0.1:{port}"}}
"""
BUS = """\
devices:
  - {{id: battery1, driver: can, interface: udp_multicast, channel: {group}, options: {{hop_limit: 0, port: {bus}}},
     profile: demo_pack}}
"""

#: The n-body program of the Benchmarks Game in plain Python, 5 million steps on a Raspberry Pi 4 at 1.5 GHz:
#: https://chaitanyamehta.github.io/projects/performance-analysis-of-programming-languages ("performance" governor).
PI_4_NBODY_S = 158.3
#: 7-zip's own benchmark, one thread, MIPS: Raspberry Pi 4 B at 1,500 MHz, Zero 2 at 1,000 MHz, in
#: https://github.com/ThomasKaiser/sbc-bench/blob/master/results/Sorted-Results.md (ix.io/3EgS and 3E85).
PI_4_MIPS, ZERO_2_MIPS = 1661, 838
NBODY_STEPS = 200_000


@dataclass(frozen=True)
class Started:
    """Seconds from the start of the process to READY=1 (NaN: it never said so) and to the first answer of the API.

    ``cpu_s``: processor time until both were there, which others on the machine change little.
    """

    ready_s: float
    answer_s: float
    cpu_s: float


def main() -> None:
    """Print all of it."""
    _report_starts()
    _report_memory()
    idle_pct = _report_idle()
    frame_us = _report_cost(idle_pct)
    _report_machines(idle_pct, frame_us)


def _report_starts() -> None:
    found = []
    for _ in range(STARTS):
        with _gateway("") as (started, _):
            found.append(started)
    for what, times in (
        ("READY=1", [one.ready_s for one in found]),
        ("the first answer of /api/system/health", [one.answer_s for one in found]),
    ):
        median_s, worst_s = statistics.median(times), max(times)
        ratio = median_s / READY_TARGET_S
        print(
            f"start to {what}: {median_s:.2f} s (median of {STARTS}, worst {worst_s:.2f}; {ratio:.2f} of the target) "
            f"target < {READY_TARGET_S:g} s",
            flush=True,
        )
    cpu_s = [one.cpu_s for one in found]
    print(f"processor time until then: {statistics.median(cpu_s):.2f} s (worst {max(cpu_s):.2f})", flush=True)


def _report_memory() -> None:
    with _site(ocpp=True) as (config, environ), tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder:
        child = _module("agent", "run", "--config", str(config), environ={**environ, "ENLACE_DATA_DIR": folder})
        with _ended(child):
            time.sleep(SETTLE_S)
            running = Running("", 0, child.pid, "")
            before_s = running.cpu_s
            time.sleep(WATCH_S)
            memory_mb, pct = running.memory_mb, 100 * (running.cpu_s - before_s) / WATCH_S
    ratio = memory_mb / MEMORY_TARGET_MB
    print(
        f"demo site: {memory_mb:.0f} MB resident ({ratio:.2f} of the target) target < {MEMORY_TARGET_MB:g} MB; "
        f"{pct:.1f} % of a core",
        flush=True,
    )


def _report_idle() -> float:
    with _gateway("") as (_, running):
        pct = _busy_pct(running)
        memory_mb = running.memory_mb
    ratio = pct / IDLE_TARGET_PCT
    print(
        f"idle site (API, store, control; no devices): {pct:.2f} % of a core ({ratio:.2f} of the target) "
        f"target < {IDLE_TARGET_PCT:g} %; {memory_mb:.0f} MB resident",
        flush=True,
    )
    return pct


def _report_cost(idle_pct: float) -> float:
    """Processor time of a frame, from the bus to the committed row, in a whole process; µs, of the higher load."""
    frame_us = math.nan
    for load in LOADS:
        bus = _free_port()
        with _gateway(BUS.format(group=GROUP, bus=bus)) as (_, running), _loaded(bus, load):
            time.sleep(SETTLE_S)
            before, since_s = _frames(running.port), time.monotonic()
            pct = _busy_pct(running, 0)
            rate = (_frames(running.port) - before) / (time.monotonic() - since_s)
        frame_us = (pct - idle_pct) / 100 / rate * 1e6 if rate else math.nan
        text = f"{load} CAN frames/s asked for, {rate:.0f} came: {pct:.1f} % of a core"
        print(f"{text}, {frame_us:.1f} µs a frame above the idle site", flush=True)
    return frame_us


def _report_machines(idle_pct: float, frame_us: float) -> None:
    here_s = _nbody_s() * 5_000_000 / NBODY_STEPS
    pi_4 = PI_4_NBODY_S / here_s
    zero_2 = pi_4 * PI_4_MIPS / ZERO_2_MIPS
    print(f"n-body, 5 million steps, here: {here_s:.0f} s; Raspberry Pi 4: {PI_4_NBODY_S:g} s (published)")
    for name, slower in (("Raspberry Pi 4", pi_4), ("Raspberry Pi Zero 2 W", zero_2)):
        half = (50 - idle_pct * slower) / 100 / (frame_us * slower / 1e6)
        idle, cost = f"idle {idle_pct * slower:.1f} % of it", f"{frame_us * slower:.0f} µs a frame"
        print(f"{name}: a core {slower:.1f} times slower; {idle}, {cost}, {half:,.0f} frames/s with half a core")


def _frames(port: int) -> float:
    """How many CAN frames came in so far; this machine itself may ask without a token."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        text = response.read().decode()
    found = re.findall(r'^enlace_wire_events_total\{[^}]*name="frames"[^}]*\} (\S+)$', text, re.MULTILINE)
    return sum(float(value) for value in found)


def _busy_pct(running: Running, settle_s: float = SETTLE_S) -> float:
    """Share of a core, after it has settled."""
    time.sleep(settle_s)
    before_s, since_s = running.cpu_s, time.monotonic()
    time.sleep(WATCH_S)
    return 100 * (running.cpu_s - before_s) / (time.monotonic() - since_s)


@contextlib.contextmanager
def _gateway(more: str) -> Iterator[tuple[Started, Running]]:
    """``enlace run`` with an API and more, from its start on."""
    with tempfile.TemporaryDirectory(prefix="enlace-bench-") as text:
        folder, port = Path(text), _free_port()
        (folder / "data").mkdir()
        UserBook(folder / "data").add("bench", Role.ADMIN, "no password is this hash")  # before that nobody may ask
        (folder / "site.yaml").write_text(IDLE.format(folder=folder, port=port) + more)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(folder / "notify"))
            notified.setblocking(False)
            environ = {"NOTIFY_SOCKET": str(folder / "notify"), "ENLACE_LOG_LEVEL": "warning"}
            since_s = time.monotonic()
            child = _module("agent", "run", "--config", str(folder / "site.yaml"), environ=environ)
            with _ended(child):
                running = Running("127.0.0.1", port, child.pid, "")
                yield _watched(notified, running, since_s), running


def _watched(notified: socket.socket, running: Running, since_s: float) -> Started:
    ready_s = answer_s = math.nan
    while math.isnan(answer_s) or math.isnan(ready_s):
        with contextlib.suppress(BlockingIOError):
            if b"READY=1" in notified.recv(4096):
                ready_s = time.monotonic() - since_s
        if math.isnan(answer_s) and _answers(running.port):
            answer_s = time.monotonic() - since_s
        if time.monotonic() - since_s > _LIMIT_S:
            if math.isnan(answer_s):
                sys.exit(f"bench: enlace run did not answer within {_LIMIT_S:g} s")
            break
        time.sleep(0.005)
    return Started(ready_s, answer_s, running.cpu_s)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/system/health", timeout=5) as response:
            return bool(response.status == 200)  # noqa: PLR2004 - HTTP OK
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def _ended(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)


def _nbody_s(steps: int = NBODY_STEPS) -> float:
    """Seconds of so many steps of five bodies (the Sun and the outer planets), best of three."""
    return min(_nbody_once(steps) for _ in range(3))


def _nbody_once(steps: int) -> float:
    # Positions in AU, velocities in AU/year, masses in 4π² of the Sun: rounded, for the work is the same.
    bodies = [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 39.478),
        ([4.841, -1.160, -0.104], [0.606, 2.812, -0.025], 0.03769),
        ([8.343, 4.125, -0.404], [-1.011, 1.826, 0.008], 0.01129),
        ([12.894, -15.111, -0.223], [1.083, 0.869, -0.011], 0.00172),
        ([15.380, -25.919, 0.179], [0.979, 0.595, -0.035], 0.00204),
    ]
    pairs = [(bodies[i], bodies[j]) for i in range(5) for j in range(i + 1, 5)]
    dt = 0.01
    since_s = time.process_time()
    for _ in range(steps):
        for ([x1, y1, z1], v1, m1), ([x2, y2, z2], v2, m2) in pairs:
            dx, dy, dz = x1 - x2, y1 - y2, z1 - z2
            mag = dt * ((dx * dx + dy * dy + dz * dz) ** (-1.5))
            b1m, b2m = m1 * mag, m2 * mag
            v1[0] -= dx * b2m
            v1[1] -= dy * b2m
            v1[2] -= dz * b2m
            v2[0] += dx * b1m
            v2[1] += dy * b1m
            v2[2] += dz * b1m
        for r, [vx, vy, vz], _ in bodies:
            r[0] += dt * vx
            r[1] += dt * vy
            r[2] += dt * vz
    return time.process_time() - since_s


if __name__ == "__main__":
    main()
