"""``make soak``: three days of a site in one process, as fast as it goes, and some minutes of the real process.

The whole gateway runs on a clock that this program moves: a battery on CAN (python-can's udp_multicast), two meters on
pseudo-terminals, alarms, control, insight, the API with a client that reads, streams and posts. Once per simulated hour
its memory, descriptors, threads, tasks and files are looked at; after the warm-up they must not grow. Memory is judged
by its slope over the last half of the looks, with the error of that slope: what cannot be told from so few is not flat.
Until then caches fill to their bounds: SQLite's (4 MB of the writer, 1 MB for each of four readers) and the memory of
columns (1,024, here of 1 KB).

What needs its counterpart in real time (MQTT, OCPP, polled Modbus) runs in the second part: ``enlace run`` on the demo
site, with a second battery on the bus.
"""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import re
import signal
import sys
import tempfile
import time
import tty
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import can
import numpy as np
from ruamel.yaml import YAML

from agent.api.users import Role, UserBook
from agent.app import Gateway, give_back, share_one_arena
from agent.clock_trust import Sources
from agent.config import load_config
from agent.core.clock import FakeClock
from bench.demo_site import _free_port, _module, _site
from bench.footprint import _ended
from bench.reaction import GROUP
from drivers.sim import meter_dsmr, meter_sml
from drivers.sim.bms import SimulatedBms

HOURS = float(os.environ.get("SOAK_HOURS", "72"))
REAL_S = 60 * float(os.environ.get("SOAK_MINUTES", "5"))
#: Caches, roll-ups and retention have their size after so many hours.
WARM_UP_H = 12.0
START_US = 1_767_571_200_000_000  # 2026-01-05, a Monday
HOUR_S = 3600
QUOTA_BYTES = 64 << 20
RSS_MB_A_DAY, FDS, THREADS, TASKS = 1.0, 1.0, 1.0, 2.0
#: What an answer that is just being made takes is not what grows: the least of some moments at the end of an hour.
FLOOR_S, FLOOR_EVERY_S = 100, 10
#: Fewer looks have no slope.
MIN_LOOKS = 4
#: Some minutes say nothing of a day: only what runs away is seen.
REAL_RSS_MB = 3.0
#: Of the write-ahead log, beside the quota of the database.
LOG_MB = 8
#: So often the counterparts speak: an unhurried battery, whose own second lasts as long, and slow meters.
EVERY_S = 4
#: Turns of the event loop that who was woken has before the next second.
TURNS = 3

SITE = """\
data_dir: {folder}/data
site: {{id: soak, import_limit_a: 40}}
api: {{listen: "127.0.0.1:{port}"}}
store: {{max_bytes: {quota}, keep_raw_days: 1}}
log: {{level: warning}}
ocpp: {{listen: "127.0.0.1:{ocpp}"}}
devices:
  - {{id: battery1, driver: can, interface: udp_multicast, channel: {group}, options: {{hop_limit: 0, port: {bus}}},
     profile: demo_pack}}
  - {{id: grid, driver: serial_meter, protocol: dsmr, port: {grid}}}
  - {{id: sub1, driver: serial_meter, protocol: sml, port: {sub1}}}
  - {{id: cp1, driver: ocpp, charge_point_id: CP-1, password_file: cp1.password}}
load_management: {{meter: grid, batteries: [battery1], stations: [{{station: cp1, phases: [1, 2, 3]}}]}}
alarms:
  - {{id: high, when: grid.power_w > 2500, for_s: 5, clear: "< 2000", severity: warning, text: much is drawn}}
"""
_PATHS = (
    "/api/devices",
    "/api/devices/battery1/latest",
    "/api/alarms",
    "/api/stations",
    "/api/history?signal=grid.power_w",
    "/metrics",
)


@dataclasses.dataclass(frozen=True)
class Look:
    """How the process is at one moment. Bytes in MB; ``store_mb``: database and log."""

    hour: float
    rss_mb: float
    fds: int
    threads: int
    tasks: int
    store_mb: float


def main() -> int:
    """Both parts; 1 when something grew."""
    print(f"accelerated: {HOURS:g} h, looked at from {min(WARM_UP_H, HOURS / 2):g} h on", flush=True)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="enlace-soak-", dir=_fast_folder()) as folder:
        looks = asyncio.run(_accelerated(Path(folder)))
    print(f"that took {(time.monotonic() - began_s) / 60:.0f} min")
    rest = [one for one in looks if one.hour > min(WARM_UP_H, HOURS / 2)]
    bad = _judge(rest, "the site") + _slope(looks[len(looks) // 2 :], "the site")
    print(f"real time: {REAL_S / 60:g} min of enlace run on the demo site, with two batteries on its bus", flush=True)
    bad += _judge(_real(), "the process", {"rss_mb": REAL_RSS_MB})
    print("flat" if not bad else f"NOT shown to be flat: {', '.join(bad)}")
    return 1 if bad else 0


def _fast_folder() -> str | None:
    """Memory, where there is such a folder: three days of commits would wear a disk for nothing."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder of our own is made in it


async def _accelerated(folder: Path) -> list[Look]:
    logging.basicConfig(level=logging.ERROR)
    share_one_arena()
    clock, port, bus_port = FakeClock(START_US), _free_port(), _free_port()
    with _terminals(2) as (masters, names):
        (folder / "data").mkdir()
        book = UserBook(folder / "data")
        book.add("soak", Role.ADMIN, "no password is this hash")
        token = book.add_token("soak", "soak", 0)
        text = SITE.format(
            folder=folder, port=port, ocpp=_free_port(), quota=QUOTA_BYTES, group=GROUP, bus=bus_port, **names
        )
        (folder / "site.yaml").write_text(text)
        (folder / "cp1.password").write_text("not used by anybody")
        path = folder / "site.yaml"
        set_clock = Sources(lambda: True, lambda: False)
        gateway = Gateway(load_config(path, {}), clock, path, sources=set_clock)
        counterparts = _Counterparts(clock, bus_port, masters)
        async with gateway.running(), _client(port, token):
            try:
                return await _days(clock, counterparts, folder / "data" / "enlace.db")
            finally:
                counterparts.close()


async def _days(clock: FakeClock, counterparts: "_Counterparts", database: Path) -> list[Look]:
    looks: list[Look] = []
    floor: list[Look] = []
    for second in range(round(HOURS * HOUR_S)):
        if second % EVERY_S == 0:
            counterparts.send()
        clock.advance(1)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await asyncio.sleep(0.0005)  # threads have their turn too
        if second % HOUR_S >= HOUR_S - FLOOR_S and (second + 1) % FLOOR_EVERY_S == 0:
            gc.collect()
            give_back()  # as the gateway does each minute of real time
            floor.append(_look(os.getpid(), (second + 1) / HOUR_S, len(asyncio.all_tasks()), database))
        if (second + 1) % HOUR_S == 0:
            looks.append(dataclasses.replace(floor[-1], rss_mb=min(one.rss_mb for one in floor)))
            floor.clear()
            if len(looks) % 6 == 0:
                print(_text(looks[-1]), flush=True)
    return looks


class _Counterparts:
    """What stands on the site: sends what is due at the clock's time."""

    def __init__(self, clock: FakeClock, port: int, masters: Sequence[int]) -> None:
        self._clock = clock
        self._battery_s = 0.0
        self._bms = SimulatedBms()
        self._masters = masters
        self._bus = can.Bus(interface="udp_multicast", channel=GROUP, port=port, hop_limit=0, ignore_config=True)

    def send(self) -> None:
        """What is due."""
        self._battery_s += 1
        for frame in self._bms.frames(self._battery_s):
            self._bus.send(can.Message(arbitration_id=frame.can_id, is_extended_id=frame.extended, data=frame.data))
        now_us = self._clock.now_us()
        for master, telegram in zip(self._masters, (meter_dsmr.telegram, meter_sml.telegram), strict=True):
            with contextlib.suppress(BlockingIOError):
                os.write(master, telegram(now_us))

    def close(self) -> None:
        """Nothing is sent any more."""
        self._bus.shutdown()


@contextlib.contextmanager
def _terminals(count: int) -> Iterator[tuple[list[int], dict[str, str]]]:
    """Pseudo-terminals: our ends, and the names of the gateway's."""
    pairs = [os.openpty() for _ in range(count)]
    for master, far in pairs:
        tty.setraw(far)
        os.set_blocking(master, False)
    try:
        names = (os.ttyname(far) for _, far in pairs)
        yield [one for one, _ in pairs], dict(zip(("grid", "sub1"), names, strict=True))
    finally:
        for one in (end for pair in pairs for end in pair):
            os.close(one)


@contextlib.asynccontextmanager
async def _client(port: int, token: str) -> AsyncIterator[None]:
    """Somebody who looks at the site all the time, in a process of his own: each page in turn, and the live stream."""
    pages = " ".join(f"-o /dev/null 'http://127.0.0.1:{port}{path}'" for path in _PATHS)
    curl = f"curl -sN -H 'Authorization: Bearer {token}'"
    live = f"{curl} -o /dev/null http://127.0.0.1:{port}/api/live"
    script = f"while sleep 1; do {live}; done & while sleep 1; do {curl} {pages}; done"
    child = await asyncio.create_subprocess_exec("sh", "-c", script, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        await child.wait()


def _real() -> list[Look]:
    """The demo's gateway under twice the bus load: two batteries send where it has one."""
    looks: list[Look] = []
    with _site(ocpp=True) as (config, environ), tempfile.TemporaryDirectory(prefix="enlace-soak-") as text:
        site, folder = YAML().load(config.read_text()), Path(text)
        (device,) = (one for one in site["devices"] if one["driver"] == "can")
        channel = ("--interface", device["interface"], "--channel", device["channel"])
        second = _module("drivers.sim.bms", *channel, "--port", str(device["options"]["port"]))
        environ["ENLACE_DATA_DIR"] = text
        child = _module("agent", "run", "--config", str(config), environ=environ)
        with _ended(second), _ended(child):
            began_s = time.monotonic()
            time.sleep(min(60.0, REAL_S / 2))  # all libraries are loaded, what they took for it is given back
            while time.monotonic() - began_s < REAL_S:
                hour = (time.monotonic() - began_s) / HOUR_S
                looks.append(_look(child.pid, hour, 0, folder / "enlace.db"))
                time.sleep(5)
    return looks


def _judge(looks: Sequence[Look], what: str, more: Mapping[str, float] = MappingProxyType({})) -> list[str]:
    """What grew from the first third of the looks to the last; prints the figures. ``more``: further bounds."""
    third = max(1, len(looks) // 3)
    bad: list[str] = []
    print(f"{what}: from {_text(looks[0])}\n{' ' * len(what)}  to   {_text(looks[-1])}")
    for name, bound in {"fds": FDS, "threads": THREADS, "tasks": TASKS, **more}.items():
        first, last = (float(np.mean([getattr(one, name) for one in part])) for part in (looks[:third], looks[-third:]))
        grown = last - first
        print(f"  {name}: {first:.1f} in the first third, {last:.1f} in the last; may grow by {bound:.1f}")
        if grown > bound:
            bad.append(f"{name} of {what}")
    largest_mb = max(one.store_mb for one in looks)
    print(f"  store: {largest_mb:.1f} MB at most, quota {QUOTA_BYTES / 2**20:g} MB")
    if largest_mb > QUOTA_BYTES / 2**20 + LOG_MB:
        bad.append(f"store of {what}")
    return bad


def _slope(looks: Sequence[Look], what: str) -> list[str]:
    """Whether the memory grows by less than ``RSS_MB_A_DAY``, by least squares; prints the figures."""
    if len(looks) < MIN_LOOKS:
        print(f"  rss_mb: {len(looks)} looks say nothing of its slope")
        return [f"rss_mb of {what}, for it was looked at too seldom"]
    days, memory_mb = np.array([one.hour for one in looks]) / 24, np.array([one.rss_mb for one in looks])
    slope, start_mb = np.polyfit(days, memory_mb, 1)
    rest_mb = memory_mb - start_mb - slope * days
    error = 2 * float(np.sqrt(np.sum(rest_mb**2) / (len(looks) - 2) / np.sum((days - days.mean()) ** 2)))
    hours = f"from hour {looks[0].hour:.2f} to {looks[-1].hour:.2f}"
    print(f"  rss_mb: {slope:+.2f} MB a day, ± {error:.2f}, {hours}; may grow by {RSS_MB_A_DAY:.1f} MB a day")
    if slope + error < RSS_MB_A_DAY:
        return []
    return [f"rss_mb of {what}" if slope - error >= RSS_MB_A_DAY else f"rss_mb of {what}, for the time is too short"]


def _text(look: Look) -> str:
    files = f"{look.fds} descriptors, {look.threads} threads, {look.tasks} tasks"
    return f"hour {look.hour:.2f}: {look.rss_mb:.1f} MB, {files}, database and log {look.store_mb:.1f} MB"


def _look(pid: int, hour: float, tasks: int, database: Path) -> Look:
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(value) for name, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)}
    files = [path for path in (database, database.with_name("enlace.db-wal")) if path.exists()]
    fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    store_mb = sum(path.stat().st_size for path in files) / 2**20
    return Look(hour, found["VmRSS"] / 1024, fds, found["Threads"], tasks, store_mb)


if __name__ == "__main__":
    sys.exit(main())
