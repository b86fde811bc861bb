"""From a CAN frame on the wire to the command that a charger receives because of it, on a gateway that is at work.

A whole ``enlace run``: the battery's bus carries ``LOAD_FRAMES_S`` other frames a second meanwhile, all decoded and
stored. The bus is python-can's multicast one, for the kernel here may have no CAN: it may lose a frame, which is then
sent again and not counted. The charger is a Modbus server in this process, which notes when a register is written; its
profile is the ABB's without the 50 ms that this maker wants between two questions. Sender and charger share a clock.
"""

import asyncio
import contextlib
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import can
from pymodbus.server import ModbusTcpServer

from agent.app import LOADED_S
from agent.core.clock import SystemClock
from drivers.sim.battery import Fault
from drivers.sim.bms import SimulatedBms
from drivers.sim.charger_modbus import SimulatedCharger
from drivers.sim.evse import Evse

ROOT = Path(__file__).resolve().parents[1]
GROUP = "239.74.163.2"
ROUNDS = 150
LOAD_FRAMES_S = 2000
P50_TARGET_MS, P99_TARGET_MS = 3.0, 15.0
GUARD_S = 1.0
#: After this the gateway has put what it loaded out of the collector's sight; then the sender's process is up too.
SETTLE_S = 2.0
REDUCED_A = 6.0
#: The message of dbc/demo_pack.dbc with the highest temperature.
EXTREMES = 421

SITE = """\
data_dir: {folder}/data
site: {{id: bench}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: battery1, driver: can, interface: udp_multicast, channel: {group}, options: {{hop_limit: 0, port: {bus}}},
     profile: demo_pack}}
  - {{id: cp2, driver: modbus, profile: quick, url: "tcp://127.0.0.1:{modbus}", every_s: 1}}
alarm_sets: []
alarms:
  - {{id: hot, when: battery1.temperature_max_degc > 50, clear_for_s: 0, severity: info,
     then: [{{station: cp2, limit_a: 6}}]}}
"""


class TimedCharger(SimulatedCharger):
    """Notes when its limit is written."""

    def __init__(self) -> None:
        super().__init__(Evse(pace=0), SystemClock())
        self.told: asyncio.Queue[tuple[float, float]] = asyncio.Queue()

    def write(self, address: int, words: "list[int] | tuple[int, ...]") -> bool:  # type: ignore[override]
        """A register is written: when, and which limit holds now."""
        at_s = time.monotonic()
        taken = super().write(address, words)
        self.told.put_nowait((at_s, self.evse.limit_a))
        return taken


def main() -> None:
    """Print the median and the 99th percentile, with and without the load."""
    for load in (0, LOAD_FRAMES_S):
        delays_ms = asyncio.run(_measure(load))
        p50, p99 = statistics.median(delays_ms), statistics.quantiles(delays_ms, n=100)[98]
        print(
            f"frame on the bus to command at the charger, {load} other frames/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"worst {max(delays_ms):.1f} ms of {len(delays_ms)} (p50 {p50 / P50_TARGET_MS:.2f}, p99 "
            f"{p99 / P99_TARGET_MS:.2f} of the targets) target p50 < {P50_TARGET_MS:g}, p99 < {P99_TARGET_MS:g} ms",
            flush=True,
        )


async def _measure(load: int) -> list[float]:
    charger = TimedCharger()
    ports = {name: _free_port() for name in ("bus", "modbus")}
    server = ModbusTcpServer(charger.device(1), address=("127.0.0.1", ports["modbus"]))
    await server.serve_forever(background=True)
    bus = can.Bus(interface="udp_multicast", channel=GROUP, port=ports["bus"], hop_limit=0, ignore_config=True)
    hot, cool = _frame(hot=True), _frame(hot=False)
    try:
        with tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder, _gateway(Path(folder), ports):
            await _settle(charger, bus, cool, hot)
            with _loaded(ports["bus"], load):
                await asyncio.sleep(LOADED_S + SETTLE_S)
                delays_ms: list[float] = []
                while len(delays_ms) < ROUNDS:
                    with contextlib.suppress(TimeoutError):
                        delays_ms.append(await _round(charger, bus, hot, cool))
                return delays_ms
    finally:
        bus.shutdown()
        await server.shutdown()  # type: ignore[no-untyped-call]


async def _settle(charger: TimedCharger, bus: can.BusABC, cool: can.Message, hot: can.Message) -> None:
    """Until the gateway answers a hot frame for the first time."""
    for _ in range(60):
        with contextlib.suppress(TimeoutError):
            await _round(charger, bus, hot, cool)
            return
    raise RuntimeError("the gateway does not act")


async def _round(charger: TimedCharger, bus: can.BusABC, hot: can.Message, cool: can.Message) -> float:
    """Milliseconds from a hot frame to the reduced limit; the cool frame afterwards gives the limit back."""
    started_s = time.monotonic()
    bus.send(hot)
    try:
        return (await _told(charger, REDUCED_A, GUARD_S) - started_s) * 1000
    finally:
        while charger.evse.limit_a == REDUCED_A:
            bus.send(cool)
            with contextlib.suppress(TimeoutError):
                await _told(charger, None, GUARD_S)
        await asyncio.sleep(0.05)


async def _told(charger: TimedCharger, limit_a: float | None, guard_s: float) -> float:
    """When the charger was given this limit (None: any other)."""
    async with asyncio.timeout(guard_s):
        while True:
            at_s, told_a = await charger.told.get()
            if (told_a == REDUCED_A) == (limit_a == REDUCED_A):
                return at_s


def _frame(*, hot: bool) -> can.Message:
    """The battery's frame with the highest temperature."""
    bms = SimulatedBms()
    bms.switch(Fault.OVERTEMPERATURE, on=hot)
    sent = {frame.can_id: frame.data for second in range(1, 62) for frame in bms.frames(second)}
    return can.Message(arbitration_id=EXTREMES, is_extended_id=False, data=sent[EXTREMES])


@contextlib.contextmanager
def _gateway(folder: Path, ports: dict[str, int]) -> Iterator[None]:
    (folder / "profiles").mkdir()
    abb = (ROOT / "config" / "profiles" / "abb_terra_ac.yaml").read_text()
    quick = abb.replace("name: abb_terra_ac", "name: quick").replace("pause_s: 0.05\n", "")
    (folder / "profiles" / "quick.yaml").write_text(quick)
    config = folder / "site.yaml"
    config.write_text(SITE.format(folder=folder, group=GROUP, **ports))
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    with (folder / "run.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def _loaded(port: int, frames_s: int) -> Iterator[None]:
    """Another process on the bus that sends so many frames a second."""
    if not frames_s:
        yield
        return
    sender = multiprocessing.get_context("spawn").Process(target=_send, args=(port, frames_s), daemon=True)
    sender.start()
    try:
        yield
    finally:
        sender.terminate()
        sender.join(10)


def _send(port: int, frames_s: int) -> None:
    """What a battery says in a minute but its highest temperature, again and again: its alive counter goes on."""
    bus = can.Bus(interface="udp_multicast", channel=GROUP, port=port, hop_limit=0, ignore_config=True)
    bms = SimulatedBms(seed=2)
    frames = [frame for second in range(60) for frame in bms.frames(second) if frame.can_id != EXTREMES]
    messages = [can.Message(arbitration_id=one.can_id, is_extended_id=False, data=one.data) for one in frames]
    began_s, sent = time.monotonic(), 0
    while True:
        due = round((time.monotonic() - began_s) * frames_s)
        while sent < due:
            bus.send(messages[sent % len(messages)])
            sent += 1
        time.sleep(0.002)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
