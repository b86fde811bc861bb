"""What clients post: rows a second, bytes stored and written for each row, and what else waits meanwhile.

Rows are those of a battery monitor: seven values, a vehicle's every second. Each request goes the way of the route,
from its bytes to the commit and to what is shown, without HTTP. Bytes stored are those of the sealed file, beside the
same rows as JSON lines; bytes written are what the process gave to the disk, commits and all.
"""

import asyncio
import gc
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from agent.api.telemetry_bodies import read_rows
from agent.api.times import iso
from agent.core.clock import SystemClock
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.posted import PostedDevices
from agent.store.db import Store

ROWS = 10_000
SECOND_US = 1_000_000
WAIT_S = 60.0
_TICK_S = 0.001


def main() -> None:
    """Print every figure."""
    gc.collect()
    gc.freeze()  # as the gateway does with what it has loaded
    for vehicles in (1, 100):
        asyncio.run(_batches(vehicles))
    asyncio.run(_new_devices())
    for size, requests, at_once in ((1, 300, 1), (1, 300, 20), (100, 60, 1)):
        asyncio.run(_requests(size, requests, at_once))


class _Site:
    """A store with posted devices, in a folder of its own."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "enlace.db"
        self.clock = SystemClock()
        self.store = Store.open(self.path, self.clock)
        self.hub = Hub(self.clock)
        flow = Flow(self.clock, Gate(), self.hub, self.store.append)
        self.posted = PostedDevices(self.clock, self.store, flow, self.hub, tuple, lambda _: None)

    async def post(self, body: bytes) -> int:
        """A request's way. Gives the rows that were inserted."""
        rows = await asyncio.to_thread(read_rows, body, self.clock.now_us(), 0)
        taken = await self.posted.post(rows.good)
        if rows.bad or taken.refused:
            raise ValueError(f"good rows were refused: {rows.bad[:1]} {taken.refused[:1]}")
        return taken.inserted

    def written(self) -> int:
        return self.store.stats().written_bytes or 0


async def _batches(vehicles: int) -> None:
    with _folder() as folder, closing((site := _Site(folder)).store):
        made = _rows(vehicles, site.clock.now_us())
        bodies = [json.dumps([next(made) for _ in range(ROWS)]).encode() for _ in range(6)]
        await site.post(bodies[0])  # numbers the signals
        lags: list[float] = []
        ticker = asyncio.create_task(_tick(lags))
        await asyncio.sleep(0.2)
        idle = list(lags)
        lags.clear()
        wall_s, cpu_s, written = time.perf_counter(), time.process_time(), site.written()
        count = sum([await site.post(body) for body in bodies[1:]])
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        print(
            f"{vehicles} vehicles, requests of {ROWS}: {count / wall_s:,.0f} rows/s, {1e6 * cpu_s / count:.0f} µs of "
            f"CPU a row, written {(site.written() - written) / count:.0f} B a row"
        )
        print(f"  the event loop waits {_lags(lags)} meanwhile, {_lags(idle)} when idle")
        wall_s = time.perf_counter()
        await site.post(bodies[1])
        print(f"  the same {ROWS} again, all known: {time.perf_counter() - wall_s:.2f} s")
        site.store.maintain().result(WAIT_S)
        sizes = _sizes(site.store)
        json_bytes = sum(map(len, bodies)) / len(bodies) / ROWS
        rows = ROWS * len(bodies)
        print(
            f"  stored: {sizes['block'] / rows:.1f} B a row, {sizes['posted'] / rows:.1f} B to know it again; "
            f"as JSON {json_bytes:.0f} B: {json_bytes * rows / (sizes['block'] + sizes['posted']):.0f} times as much"
        )


async def _new_devices() -> None:
    with _folder() as folder, closing((site := _Site(folder)).store):
        made = _rows(2000, site.clock.now_us())
        body = json.dumps([next(made) for _ in range(2000)]).encode()
        wall_s = time.perf_counter()
        await site.post(body)
        print(f"2,000 vehicles for the first time, 14,000 signals: {time.perf_counter() - wall_s:.2f} s")


async def _requests(size: int, requests: int, at_once: int) -> None:
    with _folder() as folder, closing((site := _Site(folder)).store):
        made = _rows(at_once, site.clock.now_us())
        bodies = [json.dumps([next(made) for _ in range(size)]).encode() for _ in range(requests + 1)]
        await site.post(bodies.pop())
        waiting = iter(bodies)
        written, wall_s = site.written(), time.perf_counter()

        async def client() -> None:
            for body in waiting:
                await site.post(body)

        await asyncio.gather(*(client() for _ in range(at_once)))
        wall_s, count = time.perf_counter() - wall_s, size * requests
        print(
            f"requests of {size}, {at_once} at once: {count / wall_s:,.0f} rows/s, {requests / wall_s:,.0f} "
            f"requests/s, written {(site.written() - written) / count:,.0f} B a row"
        )


async def _tick(lags: list[float]) -> None:
    while True:
        before_s = time.perf_counter()
        await asyncio.sleep(_TICK_S)
        lags.append(time.perf_counter() - before_s - _TICK_S)


def _lags(lags: list[float]) -> str:
    ordered = sorted(lags)
    median, last = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"{1e3 * median:.1f} / {1e3 * last:.1f} / {1e3 * ordered[-1]:.1f} ms (median / p99 / longest)"


def _rows(vehicles: int, newest_us: int) -> Iterator[dict[str, object]]:
    """Rows of vehicles, one of each every second."""
    chance = random.Random(1)  # noqa: S311 - made-up readings
    start_us = newest_us // SECOND_US * SECOND_US - 100_000 * SECOND_US
    number = 0
    while True:
        vehicle, second = number % vehicles, number // vehicles
        yield {
            "vin": f"WVWZZZ1KZAW{vehicle:06d}",
            "ts": iso(start_us + second * SECOND_US),
            "soc": round(80 - second * 0.0005 + chance.uniform(-0.05, 0.05), 1),
            "soh": 97.5,
            "pack_voltage": round(396 + chance.uniform(-2, 2), 1),
            "pack_current": round(chance.uniform(-50, 50), 1),
            "max_temp": round(31 + chance.uniform(-0.5, 0.5), 1),
            "min_temp": 29,
            "odo_km": 48_000 + second // 100,
        }
        number += 1


def _sizes(store: Store) -> dict[str, int]:
    with store._readers.snapshot() as reader:  # noqa: SLF001 - what no one else needs to know
        blocks: int = reader.execute("SELECT sum(length(data)) FROM block").fetchone()[0]
        posted: int = reader.execute("SELECT sum(length(device) + 6 + length(offsets)) FROM posted").fetchone()[0]
        return {"block": blocks, "posted": posted}


def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(dir=os.environ.get("ENLACE_BENCH_DIR"))
