"""A fleet: 500 sites, each with a connection of its own, through Mosquitto and ``enlace central`` into PostgreSQL.

Each site sends its catalogue and then blocks of a second (10 readings of 100 signals, the typical set), as fast as the
broker's acknowledgements come, and is done when the central server has acknowledged its last record. Everything is
counted at the end, in the database, exactly.
"""

import asyncio
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
from pathlib import Path

import psycopg

from agent.core.clock import SystemClock
from bench._postgres import postgres
from bench.uplink import SIGNALS, blocks, until_open
from cloud_sync.payload import encode_block, encode_catalog

ROOT = Path(__file__).resolve().parents[1]
SITES = 500
MESSAGES = 4
ROWS = 1000
IN_FLIGHT = 4
_CONNECT, _PUBLISH, _RETAINED, _SUBSCRIBE = 0x10, 0x32, 0x33, 0x82
_CATALOG = encode_catalog(1, SIGNALS)
_ACKED, _SUBACKED, _CAME = 4, 9, 3


class Site:
    """One gateway, as far as its traffic goes: MQTT 3.1.1 by hand (OASIS 2014), for 500 of them in one process."""

    def __init__(self, name: str, port: int, payloads: list[bytes]) -> None:
        self._name = name
        self._port = port
        self._payloads = payloads
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._ready = asyncio.Event()
        self._stored = asyncio.Event()

    async def run(self, go: asyncio.Event) -> None:
        """Connect, wait for the start, send everything, wait for the central server's word."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(_packet(_CONNECT, b"\x00\x04MQTT\x04\x02\x00\x00" + _text(self._name)))
        topic = f"enlace/{self._name}/"
        writer.write(_packet(_SUBSCRIBE, b"\x00\x01" + _text(f"{topic}ack") + b"\x01"))
        writer.write(_packet(_RETAINED, _text(f"{topic}catalog") + b"\xff\xff" + _CATALOG))
        listening = asyncio.ensure_future(self._listen(reader, writer))
        await self._ready.wait()
        await go.wait()
        for number, payload in enumerate(self._payloads, 1):
            await self._room.acquire()
            writer.write(_packet(_PUBLISH, _text(f"{topic}telemetry") + struct.pack(">H", number) + payload))
            await writer.drain()
        await self._stored.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.close()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            kind, body = await _read(reader)
            if kind == _ACKED:
                if body != b"\xff\xff":
                    self._room.release()
            elif kind == _SUBACKED:
                self._ready.set()
            elif kind == _CAME:
                behind = 2 + struct.unpack_from(">H", body)[0]
                writer.write(_packet(0x40, body[behind : behind + 2]))
                if json.loads(body[behind + 2 :])["upto"] == len(self._payloads):
                    self._stored.set()


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    size, rest = bytearray(), len(body)
    while True:
        rest, low = rest >> 7, rest & 0x7F
        size.append(low | (0x80 if rest else 0))
        if not rest:
            return bytes((kind,)) + bytes(size) + body


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0] >> 4
    size = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follow
            return kind, await reader.readexactly(size)


def _payloads() -> list[list[bytes]]:
    """For each site its messages: the same readings, under the numbers from 1 on."""
    one = [encode_block(block, 1) for block in blocks(MESSAGES, 1, split=False)]
    return [one] * SITES


async def _fleet(port: int, dsn: str) -> tuple[float, float]:
    """Seconds from the first message to the last word; CPU seconds of the central process."""
    clock = SystemClock()
    central = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", "central", "--database", dsn, "--name", "bench"),
        *("--broker", f"mqtt://127.0.0.1:{port}"),
        cwd=ROOT,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        go = asyncio.Event()
        names = [f"site-{number:03}" for number in range(SITES)]
        sites = [Site(name, port, payloads) for name, payloads in zip(names, _payloads(), strict=True)]
        running = [asyncio.ensure_future(site.run(go)) for site in sites]
        while await asyncio.to_thread(_named, dsn) < SITES:
            await clock.sleep_s(0.2)
        began_s, used_s = clock.monotonic_s(), _cpu_s(central.pid)
        go.set()
        await asyncio.gather(*running)
        return clock.monotonic_s() - began_s, _cpu_s(central.pid) - used_s
    finally:
        central.terminate()
        await central.wait()


def _named(dsn: str) -> int:
    """How many sites have their catalogue in the database."""
    with psycopg.connect(dsn) as connection:
        try:
            row = connection.execute("SELECT count(DISTINCT site) FROM enlace.series").fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
    return int(row[0]) if row else 0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _measure(program: str, dsn: str) -> None:
    with tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder:
        settings, port = Path(folder) / "mosquitto.conf", _free_port()
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        broker = await asyncio.create_subprocess_exec(program, "-c", str(settings), stderr=asyncio.subprocess.DEVNULL)
        try:
            await until_open(port)
            took_s, cpu_s = await _fleet(port, dsn)
        finally:
            broker.terminate()
            await broker.wait()
    samples = SITES * MESSAGES * ROWS
    with psycopg.connect(dsn) as connection:
        (stored, records, gaps, size) = connection.execute(
            """SELECT (SELECT count(*) FROM enlace.sample), (SELECT count(*) FROM enlace.record),
                (SELECT count(*) FROM enlace.gap WHERE state <> 'filled'),
                (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                    WHERE relname LIKE 'sample_2%' AND relkind = 'r')"""
        ).fetchone() or (0, 0, 0, 0)
    if (stored, records, gaps) != (samples, SITES * MESSAGES, 0):
        raise AssertionError(f"{stored} of {samples} samples, {records} records, {gaps} gaps")
    wire = sum(len(payload) for payloads in _payloads() for payload in payloads) / samples
    print(
        f"{SITES} sites, {samples / 1e6:.1f} M samples, all there once: {samples / took_s / 1e3:,.0f} k samples/s,"
        f" {samples / cpu_s / 1e3:,.0f} k by CPU second of the central process, {wire:.2f} B/sample on the wire,"
        f" {float(size) / samples:.0f} in the database"
    )


def _free_port() -> int:

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def main() -> None:
    """Print the figures."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    with postgres() as server:
        if server is None or program is None:
            print("PostgreSQL or Mosquitto: not installed, not measured")
            return
        asyncio.run(_measure(program, server.new_database()))


if __name__ == "__main__":
    main()
