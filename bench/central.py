"""The central side: what one core of its process takes from blocks to PostgreSQL's COPY, and where the time goes.

Messages are handed to the intake as the broker's client would, without a broker. The figure is samples by CPU seconds
of the central process; the database works beside it in processes of its own. Blocks of a second (10 readings of 100
signals), of one reading of 100 signals, and sealed ones of 600 s; JSON for comparison.
"""

from collections.abc import Sequence
from time import process_time

import psycopg

from agent.core.clock import SystemClock
from agent.core.ports import StoredBlock
from agent.store.blocks import encode
from bench._postgres import postgres
from bench.uplink import BOOT, SIGNALS, blocks, pieces
from cloud_sync.central.database import Database
from cloud_sync.central.intake import Intake
from cloud_sync.central.names import Names
from cloud_sync.central.parse import TelemetryIn, parse
from cloud_sync.central.processes import spare_collector
from cloud_sync.central.rows import Meaning, copy_rows, merged, samples
from cloud_sync.payload import encode_block, encode_catalog, encode_json

TARGET = 200_000
TOPIC = "enlace/bench/telemetry"
_MEANINGS = {signal.id: Meaning(signal.id, signal) for signal in SIGNALS}
_BY_ID = {signal.id: signal for signal in SIGNALS}


def _readings(count: int) -> list[StoredBlock]:
    """Blocks of one reading of each signal."""
    result = []
    for index, (ids, times, words) in enumerate(pieces(count, 1), 1):
        result.append(StoredBlock(index, index, BOOT, 100, encode(ids[:100], times[:100], words[:100])))
    return result


def _measure(name: str, dsn: str, payloads: Sequence[bytes], rows: int, batch: int) -> None:
    names = Names()
    database = Database(dsn, names.forget)
    database.call(lambda connection: connection.execute("DROP SCHEMA IF EXISTS enlace CASCADE"))
    database.close()
    intake = Intake(database, names)
    intake.store([("enlace/bench/catalog", encode_catalog(1, SIGNALS))])
    clock = SystemClock()
    began_s, wall_s, written = process_time(), clock.monotonic_s(), 0
    for start in range(0, len(payloads), batch):
        written += intake.store([(TOPIC, payload) for payload in payloads[start : start + batch]]).samples
    cpu_s, wall_s = process_time() - began_s, clock.monotonic_s() - wall_s
    with psycopg.connect(dsn) as connection:
        stored, size = connection.execute(
            """SELECT count(*), (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                WHERE relname LIKE 'sample_2%' AND relkind = 'r') FROM enlace.sample"""
        ).fetchone() or (0, 0)
    database.close()
    if not rows == written == stored:
        raise AssertionError(f"{rows} samples were sent, {written} written, {stored} are there")
    rate = rows / cpu_s
    print(
        f"{name}: {rate / 1e3:,.0f} k samples/s on one core, {rate / TARGET:.1f} times the target"
        f" ({rows / wall_s / 1e3:,.0f} k/s with the database, {float(size) / rows:.0f} B/sample there)"
    )


def _where(name: str, payloads: Sequence[bytes], rows: int) -> None:
    """The parts of it by themselves, in µs a sample."""
    began_s = process_time()
    parsed = [one for payload in payloads if isinstance(one := parse(TOPIC, payload), TelemetryIn)]
    unpacked_s = process_time()
    found = [samples(one.message, _MEANINGS) for one in parsed]
    physical_s = process_time()
    for start in range(0, len(found), 100):
        copy_rows(merged(found[start : start + 100]))
    copied_s = process_time()
    parts = (unpacked_s - began_s, physical_s - unpacked_s, copied_s - physical_s)
    words = ", ".join(
        f"{part / rows * 1e6:.2f} {what}"
        for part, what in zip(parts, ("unpack", "physical", "COPY format"), strict=True)
    )
    print(f"{name}, of it: {words} µs/sample")


def main() -> None:
    """Print the figures."""
    spare_collector()
    second, minutes, reading = blocks(1000, 1, split=False), blocks(3, 600, split=True), _readings(3000)
    as_json = [payload for block in second[:300] for payload in encode_json(block, 1, _BY_ID)]
    cases = (
        ("blocks of 1 s, 1,000 samples", [encode_block(one, 1) for one in second], 1_000_000, 100),
        ("blocks sealed for 600 s", [encode_block(one, 1) for one in minutes], 1_800_000, 1),
        ("blocks of 100 samples", [encode_block(one, 1) for one in reading], 300_000, 500),
        ("json of blocks of 1 s", as_json, 300_000, 100),
    )
    with postgres() as server:
        if server is None:
            print("PostgreSQL: not installed, not measured")
            return
        dsn = server.new_database()
        for name, payloads, rows, batch in cases:
            _measure(name, dsn, payloads, rows, batch)
            _where(name, payloads, rows)


if __name__ == "__main__":
    main()
