"""Blocks to Sparkplug metrics: bytes and time for each sample, beside JSON, blocks and the protobuf library.

Then a drain of a backlog through a real Mosquitto, with the proof behind each message.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import process_time

from agent.core.blocks import decode
from agent.core.clock import SystemClock
from agent.core.model import Event, Signal
from agent.core.ports import Latest, StoredBlock
from bench.uplink import BOOT, SIGNALS, MemoryOutbox, _mosquitto, blocks
from cloud_sync.payload import encode_block, encode_json
from cloud_sync.settings import UplinkSettings
from cloud_sync.sparkplug.node import SparkplugNode
from cloud_sync.sparkplug.payload import envelope
from cloud_sync.sparkplug.records import METRICS_PER_MESSAGE
from cloud_sync.sparkplug.rows import HISTORICAL, Rows
from cloud_sync.subscriber import physical
from cloud_sync.uplink import Parts, Uplink
from tests.unit.sparkplug_proto import PAYLOAD

BY_ID = {signal.id: signal for signal in SIGNALS}
_NOW_MS = 1_700_000_000_000


def _sparkplug(block: StoredBlock, live_after_us: int) -> int:
    messages = Rows(block, BY_ID).messages(live_after_us, METRICS_PER_MESSAGE)
    return sum(len(envelope(_NOW_MS, 1, [metrics])) for _, metrics in messages)


def _library(block: StoredBlock) -> int:
    """The same rows in one message, without a look at devices, sizes and times that repeat."""
    payload = PAYLOAD(timestamp=_NOW_MS, seq=1)
    for column in decode(block.data):
        rows = zip(column.times_us, physical(BY_ID[column.signal], column.words), strict=True)
        for t_us, value in rows:
            payload.metrics.add(
                alias=column.signal, timestamp=t_us // 1000, datatype=10, is_historical=True, double_value=value
            )
    return len(payload.SerializeToString())


def _json(block: StoredBlock) -> int:
    return sum(map(len, encode_json(block, 1, BY_ID)))


def _measure(name: str, stored: Sequence[StoredBlock], encode: Callable[[StoredBlock], int]) -> None:
    samples, best_s, size = sum(block.rows for block in stored), float("inf"), 0
    for _ in range(3):
        began_s = process_time()
        size = sum(map(encode, stored))
        best_s = min(best_s, process_time() - began_s)
    print(f"{name}: {best_s / samples * 1e6:.2f} µs/sample, {size / samples:.2f} B/sample")


class _Nothing:
    """Neither values nor notes."""

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        """All are known."""
        return [Latest(signal, 3.3, 1, 0.0) for signal in signals]

    def note(self, _kind: str, _key: str) -> Mapping[str, object] | None:
        """None."""
        return None

    def notes(self, _kind: str) -> Mapping[str, Mapping[str, object]]:
        """None."""
        return {}

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        """Forget it."""


async def _drain(port: int, stored: Sequence[StoredBlock]) -> None:
    clock, beside, reports = SystemClock(), _Nothing(), list[Event]()
    settings = UplinkSettings(f"mqtt://127.0.0.1:{port}", site="bench", payload="sparkplug")
    outbox = MemoryOutbox(stored)
    node = SparkplugNode(settings, outbox, beside, clock, beside)
    parts = Parts(node=node)
    uplink = Uplink(settings, outbox, clock, reports.append, boot=BOOT, version="bench", parts=parts)
    began_s = clock.monotonic_s()
    task = asyncio.ensure_future(uplink.run())
    while uplink.status().streams["telemetry"].acked < stored[-1].seq:  # noqa: ASYNC110 - as an API would look
        await asyncio.sleep(0.01)
    took_s, samples, sent = clock.monotonic_s() - began_s, sum(block.rows for block in stored), uplink.status()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if reports:
        raise AssertionError(reports[0])
    wire = sent.bytes_published / samples
    print(f"backlog to mosquitto, sealed blocks: {samples / took_s / 1e6:.2f} M samples/s, {wire:.2f} B/sample")


def main() -> None:
    """Print the figures."""
    second, minutes = blocks(200, 1, split=False), blocks(1, 600, split=True)
    _measure("live, blocks of 1 s", second, lambda block: _sparkplug(block, 0))
    for name, stored in (("1 s", second), ("600 s", minutes)):
        _measure(f"historical, blocks of {name}", stored, lambda block: _sparkplug(block, HISTORICAL))
        _measure(f"the protobuf library, blocks of {name}", stored, _library)
        _measure(f"json, blocks of {name}", stored, _json)
        _measure(f"blocks of {name} as they are", stored, lambda block: len(encode_block(block, 1)))
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        print("mosquitto: not installed, not measured")
        return
    with _mosquitto(program) as port:
        asyncio.run(_drain(port, blocks(4, 600, split=True)))


if __name__ == "__main__":
    main()
