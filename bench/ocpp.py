"""OCPP: what a message costs, a site's chargers coming back at once, a site at its usual pace, one that is ill.

Absolute figures vary with the machine and its other work by a factor of three. So the ``ocpp`` package's own charge
point, with nothing behind it and its validation in the loop, answers the same messages in the same run: the ratio to it
is what counts. The target was set where it answers ``LIBRARY_S`` messages by CPU second.

CPU time is that of the whole process, all threads: port, link, schema, charger, sessions, hub, gate and store.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from agent.core.clock import SystemClock
from agent.core.model import Signal, SignalSpec
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate, Report
from agent.pipeline.hub import Hub
from agent.pipeline.supervisor import Supervisor
from agent.store.db import Store
from agent.store.settings import StoreSettings
from bench._ocpp_charger import SUBPROTOCOLS, Script
from bench._ocpp_fleet import fleet, identities
from bench._ocpp_gateway import Process, Remote, free_port, gateway, remote
from bench._ocpp_library import library_point
from bench._ocpp_pair import PairedSocket
from bench._ocpp_sick import KINDS, sick
from drivers.codec.ocpp_model import Version
from drivers.ocpp.charger import Charger
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.link import LinkLimits, WsLink
from drivers.ocpp.listener import OcppListener
from drivers.ocpp.plan import plan_ocpp
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint

PAIRS = 100
#: Values of a transaction are answered when they are on disk, with the next group commit: each second in a gateway.
#: Here more often, so that a core has something to do with so few chargers.
COMMIT_S = 0.02
SECONDS = 5.0
#: A charger is known when it was set up and has said what it measures.
WARM_UP_MESSAGES = 12
WARM_UP_S = 1.0
ROUNDS = 3
TARGET_S = 3000
LIBRARY_S = 10_275
FLEET = 200
RECONNECTS = 10
TARGET_RECONNECT_S = 60.0
SITE = 50
SITE_EVERY_S = 10.0
SITE_S = 60.0
TARGET_SHARE, TARGET_MB = 0.20, 60
HEALTHY = 20
#: Every other one sends heartbeats, which are answered at once; the others values, which wait for the group commit.
BEAT_S, SAMPLE_S = 0.05, 2.0
SICK_S = 4.0
SICK_ROUNDS = 3
TARGET_P99 = 1.10


class Site:
    """The gateway's pipeline with a store and the chargers' central system."""

    def __init__(self, folder: Path, known: Sequence[tuple[str, str]]) -> None:
        clock = SystemClock()
        self.port = free_port()
        self.store = Store.open(folder / "bench.db", clock, StoreSettings(commit_s=COMMIT_S))
        self._gate = Gate()
        central = CentralSettings(Endpoint("127.0.0.1", self.port, profile=0), folder, id_tags="any")
        self.plan = plan_ocpp([ChargerSettings(one.lower(), one) for one, _ in known], central, ())
        self.signals = self.store.assign(self.plan.specs)
        self.listener = OcppListener(self.plan, clock, self.store, self.store, IdTags("any", self.store, clock))
        flow = Flow(clock, self._gate, Hub(clock), self.store.append)
        self.supervisor = Supervisor(clock, flow, self.store.record, declare=self._declare)

    async def start(self) -> None:
        """The port is open soon."""
        ids = {(one.device, one.name): one.id for one in self.signals}
        await self.listener.apply(self.plan.chargers, ids)
        self.supervisor.add(self.listener, self.signals)
        self.supervisor.start()

    def count(self, name: str, amount: int = 1) -> None:
        """Nobody looks."""

    def frames(self) -> int:
        """How many came."""
        return sum(state.counters.get("frames", 0) for state in self.supervisor.states())

    async def _declare(self, specs: Sequence[SignalSpec]) -> Sequence[Signal]:
        signals = await asyncio.to_thread(self.store.assign, specs)
        for item in signals:
            self._gate.configure(item, Report())
        return signals


@dataclass(frozen=True, slots=True)
class Rate:
    """What one run gave."""

    messages: int
    cpu_s: float
    wall_s: float

    @property
    def by_cpu_s(self) -> float:
        """Messages by CPU second."""
        return self.messages / self.cpu_s


async def _metered(messages: Callable[[], int], warm: Callable[[], bool]) -> Rate:
    while not warm():  # noqa: ASYNC110 - it is no signal of ours
        await asyncio.sleep(0.1)
    await asyncio.sleep(WARM_UP_S)
    before, start_s, start_cpu_s = messages(), time.perf_counter(), time.process_time()
    await asyncio.sleep(SECONDS)
    return Rate(messages() - before, time.process_time() - start_cpu_s, time.perf_counter() - start_s)


def _told(scripts: Sequence[Script]) -> tuple[Callable[[], int], Callable[[], bool]]:
    return (
        lambda: sum(script.answered for script in scripts),
        lambda: min(script.answered for script in scripts) >= WARM_UP_MESSAGES,
    )


def paired(folder: Path, version: str, *, short: bool = False) -> Rate:
    """The gateway's parts from the frame to the answer, with a store but without sockets."""
    known = [(f"CP-{number:04}", version) for number in range(PAIRS)]

    async def run() -> Rate:
        site = Site(folder, known)
        await site.start()
        await asyncio.sleep(0.5)
        scripts = [Script(*one, number, short=short) for number, one in enumerate(known)]
        sockets = [PairedSocket(script) for script in scripts]
        schemas, limits, clock = Schemas(), LinkLimits(rate_per_s=1e9), SystemClock()

        async def serve(script: Script, socket: PairedSocket) -> None:
            charger = cast("Charger", site.listener.operables[script.identity.lower()])
            spoken = Version(SUBPROTOCOLS[version])
            link = WsLink(
                socket,  # type: ignore[arg-type]
                script.identity,
                spoken,
                "127.0.0.1:1",
                clock,
                schemas,
                site.count,
                limits=limits,
            )
            charger.attach(link)
            await link.run(charger)
            charger.detach(link)

        serving = [asyncio.create_task(serve(*one)) for one in zip(scripts, sockets, strict=True)]
        rate = await _metered(*_told(scripts))
        for socket in sockets:
            socket.stop()
        await asyncio.gather(*serving)
        await site.supervisor.stop()
        site.store.close()
        return rate

    return asyncio.run(run())


def library(version: str, *, short: bool = False) -> Rate:
    """The same messages, answered by the package's own charge point."""

    async def run() -> Rate:
        scripts = [Script(f"CP-{number:04}", version, number, short=short) for number in range(PAIRS)]
        sockets = [PairedSocket(script) for script in scripts]
        points = [
            library_point(version, script.identity, socket) for script, socket in zip(scripts, sockets, strict=True)
        ]

        async def serve(point: Any, socket: PairedSocket) -> None:  # noqa: ANN401 - the package has no types
            while True:  # as its start() does
                await point.route_message(await socket.recv())
                await asyncio.sleep(0)

        serving = [asyncio.create_task(serve(*one)) for one in zip(points, sockets, strict=True)]
        rate = await _metered(*_told(scripts))
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        return rate

    return asyncio.run(run())


def over_sockets(folder: Path) -> Rate:
    """Chargers of both versions in another process, at the real port."""

    async def run() -> Rate:
        site = Site(folder, identities(PAIRS))
        await site.start()
        with remote(fleet, f"ws://127.0.0.1:{site.port}/ocpp", PAIRS) as chargers:
            await chargers.later("boot")
            await chargers.later("flat_out", 2 * WARM_UP_S)
            playing = asyncio.create_task(chargers.later("flat_out", WARM_UP_S + SECONDS + 1))
            rate = await _metered(site.frames, lambda: True)
            await playing
        await site.supervisor.stop()
        site.store.close()
        return rate

    return asyncio.run(run())


def reconnects(folder: Path) -> None:
    """All chargers of a site come back at once, again and again."""
    took: list[float] = []
    with gateway(folder, FLEET) as process, remote(fleet, process.url, FLEET) as chargers:
        took.append(chargers("boot"))
        cpu_s = []
        for _ in range(RECONNECTS):
            chargers("drop")
            time.sleep(2)
            before_s = process.cpu_s
            took.append(chargers("boot"))
            time.sleep(3)
            cpu_s.append(process.cpu_s - before_s)
        memory_mb = process.memory_mb
    print(
        f"{FLEET} chargers reconnect at once, {RECONNECTS} times: all accepted after"
        f" {statistics.median(took[1:]):.2f} s (worst {max(took[1:]):.2f}, the very first time {took[0]:.2f};"
        f" {TARGET_RECONNECT_S / max(took):.0f} times faster than the target) target {TARGET_RECONNECT_S:.0f} s;"
        f" {statistics.median(cpu_s):.2f} s of CPU with the"
        f" set-up of all in the 3 s after it; {memory_mb:.0f} MB resident"
    )


def usual_pace(folder: Path) -> None:
    """A site's chargers send values every 10 s: what that takes, held against gateways without them."""
    none_share, none_mb = _taken(folder / "none", None)
    idle_share, idle_mb = _taken(folder / "idle", SITE)
    share, mb = _taken(folder / "site", SITE, sampled=True)
    print(
        f"{SITE} chargers, values of 8 readings each {SITE_EVERY_S:.0f} s: {share:.1%} of a core"
        f" ({share / TARGET_SHARE:.2f} of the target) target {TARGET_SHARE:.0%}; with none of them connected"
        f" {idle_share:.1%}, without OCPP {none_share:.1%}"
    )
    print(
        f"resident memory {mb:.0f} MB; {mb - idle_mb:.0f} MB more than with none connected ({idle_mb:.0f} MB), "
        f"{mb - none_mb:.0f} MB more than without OCPP ({none_mb:.0f} MB; {(mb - none_mb) / TARGET_MB:.2f} of the"
        f" target) target {TARGET_MB} MB"
    )


def _taken(folder: Path, chargers: int | None, *, sampled: bool = False) -> tuple[float, float]:
    """Share of a core and resident memory of a gateway."""
    with gateway(folder, chargers) as process:
        if not sampled:
            time.sleep(15)
            return _share(process, lambda: time.sleep(15)), process.memory_mb
        with remote(fleet, process.url, SITE) as fleet_:
            fleet_("boot")
            fleet_("charge")
            fleet_("sampled", 2 * SITE_EVERY_S, SITE_EVERY_S, 6)
            return _share(process, lambda: fleet_("sampled", SITE_S, SITE_EVERY_S, 6)), process.memory_mb


def _share(process: Process, meanwhile: Callable[[], object]) -> float:
    before_s, start_s = process.cpu_s, time.perf_counter()
    meanwhile()
    return (process.cpu_s - before_s) / (time.perf_counter() - start_s)


def one_sick(folder: Path) -> None:
    """Healthy chargers beside one that is ill, in turns with and without it."""
    known = identities(HEALTHY + 1)
    with (
        gateway(folder, HEALTHY + 1) as process,
        remote(fleet, process.url, HEALTHY) as healthy,
        remote(sick, process.url, known[-1][0]) as ill,
    ):
        healthy("boot")
        healthy("charge")
        time.sleep(12)  # everything is loaded
        asyncio.run(_sick_rounds(process, healthy, ill))


async def _sick_rounds(process: Process, healthy: Remote, ill: Remote) -> None:
    async def measured() -> tuple[float, float, float]:
        """p50 and p99 of the heartbeats, p99 of the values: ms until the answer."""
        beats, values = await healthy.later("paced", SICK_S, BEAT_S, SAMPLE_S)
        return _quantile(beats, 0.5) * 1e3, _quantile(beats, 0.99) * 1e3, _quantile(values, 0.99) * 1e3

    worst = 0.0
    for kind in KINDS:
        pairs, made, cpu = [], 0, []
        for _ in range(SICK_ROUNDS):
            await asyncio.sleep(1.0)
            without = await measured()
            before_s = process.cpu_s
            being = asyncio.create_task(ill.later("be", kind, SICK_S + 1))
            await asyncio.sleep(0.5)
            pairs.append((without, await measured()))
            made += await being
            cpu.append((process.cpu_s - before_s) / (SICK_S + 1))
        p50, p99, values = (statistics.median(one[i] / other[i] for other, one in pairs) for i in range(3))
        before, after = (statistics.median(pair[i][1] for pair in pairs) for i in (0, 1))
        worst = max(worst, p99)
        print(
            f"  {kind}: p99 of the healthy ones' heartbeats {before:.1f} -> {after:.1f} ms ({p99:.2f}; p50 {p50:.2f}),"
            f" of their values ({values:.2f}); it did so {made / SICK_ROUNDS / (SICK_S + 1):,.0f} times a second;"
            f" {statistics.median(cpu):.0%} of a core",
            flush=True,
        )
    print(f"one sick charger beside {HEALTHY}: p99 of the healthy {worst:.2f} at worst, target {TARGET_P99}")


def _quantile(times: Sequence[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)]


def speed(fresh: Callable[[], Path]) -> None:
    """Messages by CPU second, with sockets and without, and of the package alone."""
    kinds = {
        "1.6, heartbeats and statuses": ("1.6", True),
        "1.6, sessions": ("1.6", False),
        "2.0.1, sessions": ("2.0.1", False),
    }
    rates: dict[str, list[tuple[Rate, Rate]]] = {name: [] for name in (*kinds, "both at the real port, sessions")}
    for _ in range(ROUNDS):
        for name, (version, short) in kinds.items():
            rates[name].append((paired(fresh(), version, short=short), library(version, short=short)))
        rates["both at the real port, sessions"].append((over_sockets(fresh()), rates["1.6, sessions"][-1][1]))
    for name, runs in rates.items():
        _report_rate(name, runs)


def _report_rate(name: str, runs: Sequence[tuple[Rate, Rate]]) -> None:
    rate = statistics.median(ours.by_cpu_s for ours, _ in runs)
    alone = statistics.median(theirs.by_cpu_s for _, theirs in runs)
    ratio = statistics.median(ours.by_cpu_s / theirs.by_cpu_s for ours, theirs in runs)
    target = TARGET_S / LIBRARY_S
    busy = statistics.median(ours.cpu_s / ours.wall_s for ours, _ in runs)
    print(
        f"{name}: {ratio:.2f} of what the ocpp package alone answers ({ratio / target:.1f}x) target {target:.2f};"
        f" {rate:,.0f} validated messages by CPU second here (target {TARGET_S:,}), it alone {alone:,.0f};"
        f" the core was {busy:.0%} busy",
        flush=True,
    )


def main() -> None:
    """Print all of them."""
    logging.getLogger("drivers").setLevel(logging.ERROR)
    logging.getLogger("ocpp").setLevel(logging.ERROR)
    with TemporaryDirectory() as temporary:
        folders = (Path(temporary, str(number)) for number in count())

        def fresh() -> Path:
            folder = next(folders)
            folder.mkdir()
            return folder

        speed(fresh)
        reconnects(fresh())
        usual_pace(fresh())
        one_sick(fresh())


if __name__ == "__main__":
    main()
