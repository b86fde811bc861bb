"""Modbus TCP from the socket to the store: what polls cost, how many there can be, and what a dead unit costs others.

A second process plays the devices. CPU time is that of this whole process, all threads: the wires, hub, gate and store
with its group commits. Ten of the twenty registers of a device change with each poll.

Absolute figures vary with the machine and its other work by a factor of three, so pymodbus' own client is measured in
the same run: one question after the other on ten connections, with nothing behind it. The targets were set where such
a question costs ``BARE_US``; their ratio to it is what counts.
"""

import asyncio
import logging
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from pymodbus.client import AsyncModbusTcpClient

from agent.core.clock import SystemClock
from agent.core.model import Batch, Event
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.pipeline.polling import PollListener
from agent.pipeline.supervisor import Supervisor
from agent.store.db import Store
from bench._modbus_server import serve
from drivers.codec.registers import Register
from drivers.modbus.model import ModbusDevice, ModbusPoint, ModbusProfile
from drivers.modbus.plan import plan_modbus
from drivers.modbus.settings import ModbusUrl

REGISTERS = 20
CHANGING = 10
SITE_DEVICES = 50
SITE_HZ = 10
FLAT_OUT_DEVICES = 10
SECONDS = 6.0
WARM_UP_S = 1.5
ROUNDS = 3
TARGET_SHARE = 0.08
TARGET_POLLS_S = 8000
BARE_US = 39.0  #: 22,000 to 29,000 a second
#: The shared wire of (c): ten units, each answer takes this long, so that the wire is busy nearly all the time.
UNITS = 10
SERVICE_S = 0.018
CYCLE_S = 0.25
TIMEOUT_S = 1.0
BEFORE_S = 10.0
AFTER_S = 60.0
TARGET_CYCLE = 1.1

#: Points of a meter that a profile may repeat as often as it likes: cells of a battery.
POINTS = tuple(
    ModbusPoint(f"cell_voltage_v.{n + 1}", Register("holding", n, "uint16"), scale=0.001) for n in range(REGISTERS)
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave."""

    polls: int
    due: float
    overrun: int
    rows: int
    cpu_s: float
    wall_s: float


class Site:
    """The gateway's pipeline with a store, and a wire for each URL."""

    def __init__(self, folder: Path, devices: Sequence[tuple[ModbusDevice, ModbusUrl]]) -> None:
        clock = SystemClock()
        self.store = Store.open(folder / "bench.db", clock)
        plan = plan_modbus(devices)
        signals = self.store.assign(plan.specs)
        ids = {(signal.device, signal.name): signal.id for signal in signals}
        self.events: list[Event] = []
        self.flow = Flow(clock, Gate(), Hub(clock), self.store.append)
        self.supervisor = Supervisor(clock, self.flow, self.events.append)
        for poller in plan.pollers(ids, clock):
            owned = {unit.device for unit in poller.units}
            mine = [signal for signal in signals if signal.device in owned]
            self.supervisor.add(PollListener(poller, clock), mine)

    def counted(self, name: str) -> int:
        """A counter, over all wires."""
        return sum(state.counters.get(name, 0) for state in self.supervisor.states())


@contextmanager
def served(devices: int, changing: int = CHANGING, service_s: float = 0.0) -> Iterator[tuple[list[int], Connection]]:
    """The devices in a second process: their ports, and whom to tell who shall be mute."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(devices, changing, service_s, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv(), ours
    finally:
        ours.close()
        process.join()


def _device(number: int, port: int, every_s: float, unit: int = 1) -> tuple[ModbusDevice, ModbusUrl]:
    profile = ModbusProfile("bench", POINTS, every_s=every_s)
    device = ModbusDevice(f"meter{number}", profile, unit_id=unit, every_s=every_s, timeout_s=TIMEOUT_S)
    return device, ModbusUrl("tcp", "127.0.0.1", port)


async def _measure(site: Site, polls_s: float) -> Run:
    site.supervisor.start()
    await asyncio.sleep(WARM_UP_S)
    polls, overrun, rows = (site.counted(name) for name in ("polls", "overrun", "rows_kept"))
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    await asyncio.sleep(SECONDS)
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    run = Run(
        site.counted("polls") - polls,
        polls_s * wall_s,
        site.counted("overrun") - overrun,
        site.counted("rows_kept") - rows,
        cpu_s,
        wall_s,
    )
    await site.supervisor.stop()
    site.store.flush().result()
    return run


def polled(folder: Path, devices: int, every_s: float) -> Run:
    """So many devices on a wire of their own each, asked this often."""
    with served(devices) as (ports, _):
        site = Site(folder, [_device(number, port, every_s) for number, port in enumerate(ports)])
        try:
            return asyncio.run(_measure(site, devices / every_s))
        finally:
            site.store.close()


def bare() -> float:
    """Polls by CPU second of pymodbus' own client, as fast as it goes, with nothing behind it."""

    async def ask(port: int, done: list[int], until_s: float) -> None:
        client = AsyncModbusTcpClient("127.0.0.1", port=port)
        await client.connect()
        while time.perf_counter() < until_s:
            answer = await client.read_holding_registers(0, count=REGISTERS)
            assert len(answer.registers) == REGISTERS  # noqa: S101 - the server answers
            done[0] += 1
        client.close()

    async def run(ports: Sequence[int]) -> float:
        done = [0]
        start_cpu_s, until_s = time.process_time(), time.perf_counter() + SECONDS
        await asyncio.gather(*(ask(port, done, until_s) for port in ports))
        return done[0] / (time.process_time() - start_cpu_s)

    with served(FLAT_OUT_DEVICES) as (ports, _):
        return asyncio.run(run(ports))


def one_dead(folder: Path) -> tuple[float, float, float]:
    """Mean seconds between two readings of the units that answer: before, and with one dead unit; the longest gap."""
    with served(1, service_s=SERVICE_S) as (ports, control):
        site = Site(folder, [_device(unit, ports[0], CYCLE_S, unit) for unit in range(1, UNITS + 1)])
        try:
            return asyncio.run(_one_dead(site, control))
        finally:
            site.store.close()


async def _one_dead(site: Site, control: Connection) -> tuple[float, float, float]:
    heard: dict[int, list[float]] = {}
    put: Callable[[Batch], int] = site.flow.put

    def noted(batch: Batch) -> int:
        if batch.valid:
            heard.setdefault((batch.ids[0] - 1) // REGISTERS, []).append(time.perf_counter())
        return put(batch)

    site.flow.put = noted  # type: ignore[method-assign]
    site.supervisor.start()
    await asyncio.sleep(WARM_UP_S)
    heard.clear()
    await asyncio.sleep(BEFORE_S)
    before = [gap for unit in range(1, UNITS) for gap in _gaps(heard[unit])]
    control.send({1})
    while not any(event.kind == "device.silent" for event in site.events):  # noqa: ASYNC110 - it is no signal of ours
        await asyncio.sleep(0.01)
    heard.clear()
    await asyncio.sleep(AFTER_S)
    after = [gap for unit in range(1, UNITS) for gap in _gaps(heard[unit])]
    await site.supervisor.stop()
    return statistics.fmean(before), statistics.fmean(after), max(after)


def _gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def main() -> None:
    """Print the share of a core of a site, polls by CPU second, and what a dead unit adds to the others' cycle."""
    logging.getLogger("agent").setLevel(logging.ERROR)  # that a unit is silent is what is asked for here
    with TemporaryDirectory() as temporary:
        folders = (Path(temporary, str(number)) for number in count())

        def fresh() -> Path:
            folder = next(folders)
            folder.mkdir()
            return folder

        sites, flat_out, bare_us = [], [], []
        for _ in range(ROUNDS):
            bare_us.append(1e6 / bare())
            sites.append(polled(fresh(), SITE_DEVICES, 1 / SITE_HZ))
            flat_out.append(polled(fresh(), FLAT_OUT_DEVICES, 1e-4))
        _report_site(sites, bare_us)
        _report_flat_out(flat_out, bare_us)
        before_s, after_s, longest_s = one_dead(fresh())
    print(
        f"one dead unit of {UNITS} on a busy wire: others' cycle {before_s * 1e3:.0f} -> {after_s * 1e3:.0f} ms"
        f" ({after_s / before_s:.3f}) target {TARGET_CYCLE}; longest gap {longest_s:.2f} s, time-out {TIMEOUT_S} s"
    )


def _report_site(runs: Sequence[Run], bare_us: Sequence[float]) -> None:
    share = statistics.median(run.cpu_s / run.wall_s for run in runs)
    ratio = statistics.median(run.cpu_s / run.polls * 1e6 / one for run, one in zip(runs, bare_us, strict=True))
    target = TARGET_SHARE / (SITE_DEVICES * SITE_HZ) * 1e6 / BARE_US
    made, due, late = (sum(getattr(run, name) for run in runs) for name in ("polls", "due", "overrun"))
    print(
        f"{SITE_DEVICES} devices, {REGISTERS} registers, {SITE_HZ} Hz, to the committed sample: a poll costs"
        f" {ratio:.2f} bare questions ({target / ratio:.1f}x) target {target:.1f}; {share:.1%} of a core here;"
        f" {made:,} of {due:,.0f} polls made, {late} slots missed"
    )


def _report_flat_out(runs: Sequence[Run], bare_us: Sequence[float]) -> None:
    rate = statistics.median(run.polls / run.cpu_s for run in runs)
    ratio = statistics.median(run.polls / run.cpu_s * one / 1e6 for run, one in zip(runs, bare_us, strict=True))
    target = TARGET_POLLS_S * BARE_US / 1e6
    print(
        f"{FLAT_OUT_DEVICES} devices flat out: {ratio:.2f} of what pymodbus' client alone does ({ratio / target:.1f}x)"
        f" target {target:.2f}; {rate:,.0f} polls by CPU second here, it alone {1e6 / statistics.median(bare_us):,.0f}"
    )


if __name__ == "__main__":
    main()
