"""Live data beside a backlog: how long it takes to the central server while a day drains over a narrow line.

A real Mosquitto behind a line of 20 kB/s, and without that limit. A day of 100 signals at 1 Hz waits, and each second
a block of live samples is committed. Measured is the time from the commit to the subscriber, and what drains meanwhile.
"""

import asyncio
import tempfile
from pathlib import Path

from agent.core.clock import SystemClock
from agent.core.model import Event
from agent.core.ports import StoredBlock
from agent.store.blocks import encode
from bench.uplink import BOOT, SIGNALS, day, slow_pieces
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Session
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.subscriber import decode_telemetry
from cloud_sync.uplink import Uplink
from tests.e2e.brokers import MOSQUITTO, broker_process
from tests.e2e.proxy import proxy_to
from tests.unit.uplink_fakes import MemoryOutbox

SLOW_BYTES_PER_S = 20_000
SECONDS = 40


class _Central:
    """A subscriber that notes when each number came. ``samples``: how many came in all."""

    def __init__(self, url: str, clock: SystemClock) -> None:
        self.came_s: dict[int, float] = {}
        self.samples = 0
        self._clock = clock
        self._link = MqttLink(LinkSettings(url, "bench-central"), clock)
        self.ready = asyncio.Event()

    async def run(self) -> None:
        await self._link.run(self._serve)

    async def _serve(self, session: Session) -> None:
        await session.subscribe("enlace/bench/telemetry")
        self.ready.set()
        while True:
            message = await session.next_message()
            telemetry = decode_telemetry(message.payload)
            self.samples += sum(len(column.times_us) for column in telemetry.columns)
            self.came_s.setdefault(telemetry.seq, self._clock.monotonic_s())
            session.acknowledge(message)


async def _measure(payload: str, bytes_per_s: int, folder: Path) -> None:
    clock, outbox, reports = SystemClock(), MemoryOutbox(), list[Event]()
    outbox.signals = SIGNALS
    outbox.add(*day())
    newest = outbox.newest("telemetry")
    committed_s: dict[int, float] = {}
    async with broker_process("mosquitto", folder) as broker, proxy_to(broker.port) as proxy:
        proxy.bytes_per_s = bytes_per_s
        central = _Central(broker.url, clock)
        settings = UplinkSettings(f"mqtt://127.0.0.1:{proxy.port}", site="bench", payload=payload)
        uplink = Uplink(settings, outbox, clock, reports.append, boot=BOOT, version="bench")
        tasks = [asyncio.ensure_future(central.run())]
        await central.ready.wait()
        tasks.append(asyncio.ensure_future(uplink.run()))
        while not central.came_s:  # noqa: ASYNC110 - until the backlog flows
            await asyncio.sleep(0.01)
        before, began_s = central.samples, clock.monotonic_s()
        for index, (ids, times, words) in enumerate(slow_pieces(SECONDS, 1)):
            seq = newest + 1 + index
            committed_s[seq] = clock.monotonic_s()
            outbox.add(StoredBlock(seq, seq, BOOT, len(ids), encode(ids, times, words)))
            await clock.sleep_s(1.0)
        drained, took_s = central.samples - before, clock.monotonic_s() - began_s
        while uplink.status().streams["telemetry"].draining and not bytes_per_s:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    latencies = sorted(central.came_s.get(seq, float("inf")) - at_s for seq, at_s in committed_s.items())
    p95_s, rate = latencies[int(len(latencies) * 0.95) - 1], drained / took_s / len(SIGNALS)
    line = f"{bytes_per_s / 1000:.0f} kB/s" if bytes_per_s else "no limit"
    print(
        f"live beside a backlog, {payload}, {line}: p50 {latencies[len(latencies) // 2]:.2f} s, p95 {p95_s:.2f} s,"
        f" worst {latencies[-1]:.2f} s; {rate:.0f} times the live rate came through; target p95 < 2 s, 10 times"
    )


def main() -> None:
    """Print the figures."""
    if MOSQUITTO is None:
        print("mosquitto: not installed, not measured")
        return
    for payload in ("blocks", "json+zlib", "json"):
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_measure(payload, SLOW_BYTES_PER_S, Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure("json", 0, Path(folder)))


if __name__ == "__main__":
    main()
