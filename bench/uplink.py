"""Outbox to broker on loopback: samples per second and bytes per sample, as stored blocks and as JSON.

Blocks of the typical signal set (100 signals of a BMS at 10 Hz, nine deltas in ten zero) stand in the real store, and
in memory, which shows the uplink without the disk. The sink is a process that only acknowledges. amqtt and Mosquitto
are shown beside it: with them the broker is the limit.
"""

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from time import process_time
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.core.clock import SystemClock
from agent.core.model import Batch, Column, Event, Signal
from agent.core.ports import Outbox, StoredBlock, StoredEvent
from agent.store.blocks import encode
from agent.store.db import Store
from cloud_sync.downlink import Conversation
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import LinkStats
from cloud_sync.settings import UplinkSettings
from cloud_sync.uplink import Parts, Uplink

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = [Signal("bms", f"cell_voltage_v.{index}", "V", scale=0.001, id=index + 1) for index in range(100)]
RATE_HZ = 10
BOOT = "0" * 32


Columns = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]


def pieces(count: int, seconds: int) -> Iterator[Columns]:
    """Ids, times and words of ``seconds`` each."""
    rng = np.random.default_rng(1)
    rows = seconds * RATE_HZ
    ids = np.tile(np.arange(1, 101, dtype=np.int32), rows)
    words = rng.integers(3200, 3400, 100)
    for index in range(count):
        # Cells are read each second and broadcast at 10 Hz: one row in ten may move.
        moves = np.where(np.arange(rows)[:, None] % RATE_HZ == 0, rng.integers(-2, 3, (rows, 100)), 0)
        column = words + np.cumsum(moves, axis=0)
        words = column[-1]
        # Four signals share a frame and thus a time stamp.
        start_us = 1_700_000_000_000_000 + index * seconds * 1_000_000
        times = start_us + np.arange(rows)[:, None] * 100_000 + np.repeat(np.arange(25) * 270, 4)[None, :]
        yield ids, times.ravel(), column.ravel()


def slow_pieces(count: int, seconds: int) -> Iterator[Columns]:
    """The same at 1 Hz; each second one value in ten moves, whichever."""
    rng = np.random.default_rng(1)
    ids = np.tile(np.arange(1, 101, dtype=np.int32), seconds)
    words = rng.integers(3200, 3400, 100)
    for index in range(count):
        moves = np.where(rng.random((seconds, 100)) < 0.1, rng.integers(-2, 3, (seconds, 100)), 0)  # noqa: PLR2004
        column = words + np.cumsum(moves, axis=0)
        words = column[-1]
        start_us = 1_700_000_000_000_000 + index * seconds * 1_000_000
        times = start_us + np.arange(seconds)[:, None] * 1_000_000 + np.repeat(np.arange(25) * 270, 4)[None, :]
        yield ids, times.ravel(), column.ravel()


def day() -> list[StoredBlock]:
    """24 h of 100 signals at 1 Hz, as a gateway has them after a day without its central server."""
    return _packed(slow_pieces(144, 600), 600, split=True)


def blocks(count: int, seconds: int, *, split: bool) -> list[StoredBlock]:
    """Blocks of ``seconds`` each: what the store keeps for a second, or sealed for minutes."""
    return _packed(pieces(count, seconds), seconds, split=split)


def _packed(found: Iterator[Columns], seconds: int, *, split: bool) -> list[StoredBlock]:
    result = []
    for index, columns in enumerate(found):
        first_seq = index * seconds + 1
        data = encode(*columns, split=split)
        result.append(StoredBlock(first_seq + seconds - 1, first_seq, BOOT, len(columns[0]), data))
    return result


@contextmanager
def filled_store(seconds: int, *, sealed: bool) -> Iterator[Store]:
    """A store with so many blocks of a second, as they were committed or sealed."""
    with (
        tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder,
        closing(Store.open(Path(folder) / "enlace.db", SystemClock())) as store,
    ):
        store.assign(SIGNALS)
        if not sealed:
            store.hold("telemetry", None).result()
        for columns in pieces(seconds, 1):
            ids, times, words = (cast("Column", column) for column in columns)
            store.append(Batch(ids, times, words))
            store.flush().result()
        if sealed:
            store.maintain().result()
        yield store


class MemoryOutbox:
    """The outbox port over a list of blocks."""

    def __init__(self, stored: Sequence[StoredBlock]) -> None:
        self._stored = stored
        self._position = {block.first_seq: index for index, block in enumerate(stored)}

    def blocks(self, after_seq: int, max_blocks: int) -> list[StoredBlock]:
        """Blocks after a number, found without a search."""
        start = self._position.get(after_seq + 1, len(self._stored))
        return list(self._stored[start : start + max_blocks])

    def events(self, _after_seq: int, _max_events: int) -> list[StoredEvent]:
        """None."""
        return []

    def acked(self, _stream: str) -> int:
        """Always from the start."""
        return 0

    def ack(self, _stream: str, _upto_seq: int, *, at_once: bool = False) -> "Future[None]":  # noqa: ARG002 - all is at once here
        """Taken note of by the uplink itself."""
        return _done()

    def newest(self, stream: str) -> int:
        """The last block's number."""
        return self._stored[-1].seq if stream == "telemetry" else 0

    def hold(self, _stream: str, _upto_seq: int | None) -> "Future[None]":
        """Nothing is re-packed here."""
        return _done()

    def catalog(self) -> tuple[int, Sequence[Signal]]:
        """The typical signals."""
        return 1, SIGNALS

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Nothing is ever added."""


def _done() -> "Future[None]":
    future: Future[None] = Future()
    future.set_result(None)
    return future


class _TimedUplink(Uplink):
    """Notes when a connection stands, so that connecting is not counted."""

    began_s = 0.0

    async def serve(self, session: Conversation) -> None:
        self.began_s = SystemClock().monotonic_s()
        await super().serve(session)


async def _drain(port: int, payload: str, outbox: Outbox) -> tuple[float, LinkStats]:
    """Seconds from the connection to the last PUBACK."""
    clock = SystemClock()
    settings = UplinkSettings(f"mqtt://127.0.0.1:{port}", site="bench", payload=payload)
    reports: list[Event] = []
    link = MqttLink(settings.link(), clock)
    uplink = _TimedUplink(settings, outbox, clock, reports.append, boot=BOOT, version="bench", parts=Parts(link=link))
    task = asyncio.ensure_future(uplink.run())
    newest = outbox.newest("telemetry")
    while uplink.status().streams["telemetry"].acked < newest:  # noqa: ASYNC110 - as an API would look
        await asyncio.sleep(0.005)
    took_s = clock.monotonic_s() - uplink.began_s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if reports:
        raise AssertionError(reports[0])
    return took_s, link.stats


@contextmanager
def _process(*command: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def _sink() -> Iterator[int]:
    with _process(sys.executable, "-m", "bench._mqtt_sink") as process:
        yield _first_number(process)


@contextmanager
def _amqtt() -> Iterator[int]:
    with _process(sys.executable, "-m", "drivers.sim.broker", "--port", "0") as process:
        yield _first_number(process)


def _first_number(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None  # noqa: S101 - asked for above
    return int(process.stdout.readline().rpartition(":")[2])


@contextmanager
def _mosquitto(program: str) -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        with _process(program, "-c", str(settings)):
            asyncio.run(until_open(port))
            yield port


async def until_open(port: int) -> None:
    """Wait until something listens there."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await SystemClock().sleep_s(0.05)
        else:
            writer.close()
            return


def _measure(name: str, port: int, payload: str, stored: Sequence[StoredBlock] | Store, target: str) -> None:
    if isinstance(stored, Store):
        outbox: Outbox = stored
        samples = sum(block.rows for block in stored.blocks(0, 1 << 20))
    else:
        outbox = MemoryOutbox(stored)
        samples = sum(block.rows for block in stored)
    began_s = process_time()
    took_s, stats = asyncio.run(_drain(port, payload, outbox))
    cpu_us = (process_time() - began_s) / samples * 1e6
    rate = samples / took_s
    wire = stats.bytes_published / samples
    messages = stats.published / took_s
    figures = f"{rate / 1e6:.2f} M samples/s"
    ratio = f"{messages:,.0f} messages/s, {cpu_us:.3f} µs CPU/sample, {wire:.2f} B/sample"
    print(f"{name}: {figures} ({ratio}) target {target}")


def _drain_a_day(name: str, port: int) -> None:
    stored = day()
    rows = sum(block.rows for block in stored)
    targets = {"blocks": "3 s, 0.6 B", "json": "10 s, none", "json+zlib": "10 s, 3 B"}
    for payload, target in targets.items():
        took_s, stats = asyncio.run(_drain(port, payload, MemoryOutbox(stored)))
        wire = stats.bytes_published / rows
        what = f"24 h of 100 signals at 1 Hz to {name}, {payload}"
        print(f"{what}: {took_s:.2f} s, {wire:.2f} B/sample ({rows / 1e6:.2f} M samples) target {target}/sample")


def main() -> None:
    """Print the figures."""
    second, minutes = blocks(6000, 1, split=False), blocks(40, 600, split=True)
    with _sink() as port:
        with filled_store(3000, sealed=False) as store:
            _measure("store, blocks of 1 s, to the sink", port, "blocks", store, ">= 2 M samples/s")
        with filled_store(3000, sealed=True) as store:
            _measure("store, sealed blocks, to the sink", port, "blocks", store, ">= 2 M samples/s")
        _measure("blocks of 1 s, to the sink", port, "blocks", second, ">= 2 M samples/s")
        _measure("blocks sealed for 600 s, to the sink", port, "blocks", minutes, ">= 2 M samples/s")
        _measure("json of blocks of 1 s, to the sink", port, "json", second[:1000], "<= 17 B/sample")
        _measure("json of blocks sealed for 600 s, to the sink", port, "json", minutes[:2], "<= 17 B/sample")
        _drain_a_day("the sink", port)
    with _amqtt() as port:
        _measure("blocks of 1 s, to amqtt (the broker is the limit)", port, "blocks", second[:1500], "none")
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        print("mosquitto: not installed, not measured")
        return
    with _mosquitto(program) as port:
        _measure("blocks of 1 s, to mosquitto", port, "blocks", second, "none")
        _measure("json of blocks of 1 s, to mosquitto", port, "json", second[:1000], "none")
        _drain_a_day("mosquitto", port)


if __name__ == "__main__":
    main()
