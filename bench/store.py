"""The store's figures: bytes per sample on disk and written to the device, throughput, and how fast charts come.

The sets: 100 signals of a BMS at 10 Hz, quantised as their DBC says. *typical*: cells and temperatures are refreshed at
1 Hz and broadcast at 10 Hz, so nine deltas in ten are zero; *noisy*: every sample carries noise; *jittered*: the
typical values, each message of 4 signals with a µs time stamp of its own. Time is simulated, commits are real: one for
each second of simulated time.

"written" is what the kernel charges to this process (``write_bytes`` of ``/proc/self/io``: pages made dirty and sent to
storage, nobody else's). The device's own sector counter also holds the file system's journal and everything that other
processes write: it is printed beside it, and is the better figure on an otherwise idle machine only.
"""

import os
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.core.clock import FakeClock
from agent.core.model import Batch, Column, Signal, SignalSpec
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.settings import StoreSettings

SIGNALS = 100
HZ = 10
FRAME_SIGNALS = 4
FAST = 20  #: signals that change ten times a second: currents, voltages, powers
SECTOR_BYTES = 512
WAIT_S = 60.0
#: Ten minutes of group commits, which no roll-up holds yet.
FRESH_BLOCKS = 600
TARGET_NOW_S = 0.05
WEAR_TARGET_MB = 200

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes written so far: by this process, and by the block device as a whole (None where it can't be read)."""

    process: int
    device: int | None


def main(seconds: int | None = None) -> None:
    """Print every figure with its ratio. ``ENLACE_BENCH_STORE_S`` shortens the simulated hour."""
    seconds = seconds or int(os.environ.get("ENLACE_BENCH_STORE_S", "3600"))
    with tempfile.TemporaryDirectory(dir=os.environ.get("ENLACE_BENCH_DIR")) as folder:
        place = Path(folder)
        row_stored, row_written = _row_per_sample(place / "rows.db", min(seconds, 300))
        for name, target in (("typical", True), ("noisy", False), ("jittered", False)):
            _bytes_per_sample(place / f"{name}.db", name, seconds, (row_stored, row_written), target=target)
        _with_uplink(place / "uplink.db", min(seconds, 1200))
        for commit_s in (1, 5, 10):
            _wear(place / f"wear{commit_s}.db", min(seconds, 1800), commit_s)
        _throughput(place / "throughput.db")
        _charts(place / "charts.db")


def make_samples(kind: str, seconds: int) -> Iterator[tuple[Ints, Ints]]:
    """For each second (offsets in µs, words), row by row as frames come: 10 rounds of 100 signals."""
    random = np.random.default_rng(7)
    levels = random.integers(100, 4000, SIGNALS)
    frame = np.repeat(np.arange(SIGNALS // FRAME_SIGNALS), FRAME_SIGNALS)
    for _ in range(seconds):
        slow = random.choice([-1, 0, 0, 1], SIGNALS)
        fast = random.integers(-2, 3, (HZ, SIGNALS)).cumsum(axis=0)
        fast[:, FAST:] = 0
        words = levels + slow + fast
        words[:, :FAST] -= slow[:FAST]
        levels = words[-1]
        offsets = np.repeat(np.arange(HZ) * (1_000_000 // HZ), SIGNALS).reshape(HZ, SIGNALS)
        if kind == "noisy":
            words = words + random.integers(-8, 9, words.shape)
        if kind == "jittered":
            jitter = random.integers(0, 2000, (HZ, SIGNALS // FRAME_SIGNALS))
            offsets = offsets + frame * 250 + np.repeat(jitter, FRAME_SIGNALS, axis=1)
        yield offsets.ravel().astype(np.int64), words.ravel().astype(np.int64)


def open_store(path: Path, clock: FakeClock, settings: StoreSettings | None = None) -> tuple[Store, list[Signal]]:
    """A store with the set's signals."""
    store = Store.open(path, clock, settings)
    return store, store.assign([SignalSpec("bms", f"Pack.Signal{n}", scale=0.1) for n in range(1, SIGNALS + 1)])


def written(path: Path) -> Written:
    """The two counters, as they stand now."""
    lines = Path("/proc/self/io").read_text().splitlines()
    process = next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
    device = path.parent.stat().st_dev
    counter = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    try:
        return Written(process, int(counter.read_text().split()[6]) * SECTOR_BYTES)
    except OSError:
        return Written(process, None)


def _fill(store: Store, clock: FakeClock, kind: str, seconds: int) -> int:
    ids = np.tile(np.arange(1, SIGNALS + 1, dtype=np.int32), HZ)
    for offsets, words in make_samples(kind, seconds):
        store.append(_batch(ids, clock.now_us() + offsets, words))
        clock.advance(1)
        store.flush().result(WAIT_S)
    return seconds * SIGNALS * HZ


def _batch(ids: NDArray[np.int32], times_us: Ints, words: Ints) -> Batch:
    """A column is anything with the buffer protocol, which the type checker can't see of an array."""
    return Batch(cast("Column", ids), cast("Column", times_us), cast("Column", words))


def _bytes_per_sample(path: Path, kind: str, seconds: int, rows: tuple[float, float], *, target: bool) -> None:
    clock = FakeClock()
    store, _ = open_store(path, clock)
    before = written(path)
    began_s = time.perf_counter()
    samples = _fill(store, clock, kind, seconds)
    took_s = time.perf_counter() - began_s
    store.maintain().result(WAIT_S)
    commits = store.stats().commits
    store.close()
    after = written(path)
    stored = path.stat().st_size / samples
    process = (after.process - before.process) / samples
    aims = (" target <= 0.35", " target <= 16") if target else ("", "")
    print(f"store {kind}, on disk: {stored:.3f} B/sample (row per sample {rows[0] / stored:.0f}x){aims[0]}")
    print(f"store {kind}, written: {process:.2f} B/sample (row per sample {rows[1] / process:.0f}x){aims[1]}")
    if before.device is not None and after.device is not None:
        device = (after.device - before.device) / samples
        print(f"store {kind}, written by the whole device meanwhile: {device:.2f} B/sample ({device / process:.1f}x)")
    print(f"store {kind}, one commit: {took_s / commits * 1e3:.1f} ms ({commits} commits, {took_s:.0f} s)")


def _with_uplink(path: Path, seconds: int) -> None:
    """What acknowledgements add: all that is new, as often as the store writes them down."""
    clock = FakeClock()
    store, _ = open_store(path, clock)
    store.hold("telemetry", None).result(WAIT_S)
    before = written(path).process
    every_s = round(StoreSettings().ack_s)
    for _ in range(seconds // every_s):
        samples = _fill(store, clock, "typical", every_s)
        store.ack("telemetry", store.newest("telemetry"))
    store.maintain().result(WAIT_S)
    store.close()
    each = (written(path).process - before) / (seconds // every_s * samples)
    print(
        f"store typical with an uplink that acknowledges, written: {each:.2f} B/sample ({each / 16:.2f}) target <= 16"
    )


def _wear(path: Path, seconds: int, commit_s: int) -> None:
    """What a site writes a day, by component: 100 signals at 1 Hz, of which a third changes, and an uplink."""
    clock = FakeClock()
    random = np.random.default_rng(1)
    store, signals = open_store(path, clock)
    store.hold("telemetry", None).result(WAIT_S)
    many = len(signals) // 3
    for second in range(0, seconds, commit_s):
        ids = np.concatenate([np.sort(random.permutation(len(signals))[:many]) + 1 for _ in range(commit_s)])
        times_us = clock.now_us() + np.repeat(np.arange(commit_s), many) * 1_000_000
        store.append(_batch(ids.astype(np.int32), times_us, random.integers(3000, 3100, len(ids))))
        clock.advance(commit_s)
        store.flush().result(WAIT_S)
        if second % max(StoreSettings().ack_s, commit_s) == 0:
            store.ack("telemetry", store.newest("telemetry"))  # goes with the next commit
        if second % 600 == 0:
            store.maintain().result(WAIT_S)
    written = store.stats().written
    store.close()
    days = {name: bytes_ / seconds * 86_400 / 1e6 for name, bytes_ in written.items() if bytes_}
    parts = ", ".join(f"{name} {mb:.0f}" for name, mb in sorted(days.items()))
    total = sum(days.values())
    print(
        f"store, 100 signals at 1 Hz with an uplink, commits {commit_s} s apart, written: {total:.0f} MB a day "
        f"({parts}; {total / WEAR_TARGET_MB:.1f} of the target) target < {WEAR_TARGET_MB} MB"
    )


def _row_per_sample(path: Path, seconds: int) -> tuple[float, float]:
    """The common design in the same run: B/sample stored and written by a row for each sample, FULL, 1 s commits."""
    before = written(path)
    samples = 0
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE sample(signal, t, value, PRIMARY KEY(signal, t)) WITHOUT ROWID")
        for second, (offsets, words) in enumerate(make_samples("typical", seconds)):
            connection.execute("BEGIN IMMEDIATE")
            ids = list(range(1, SIGNALS + 1)) * HZ
            times = (1_700_000_000_000_000 + second * 1_000_000 + offsets).tolist()
            connection.executemany("INSERT INTO sample VALUES(?, ?, ?)", zip(ids, times, words.tolist(), strict=True))
            connection.execute("COMMIT")
            samples += len(words)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    stored = path.stat().st_size / samples
    process = (written(path).process - before.process) / samples
    print(f"row per sample, on disk: {stored:.1f} B/sample (1x) the common design, same run")
    print(f"row per sample, written: {process:.0f} B/sample (1x) the same")
    return stored, process


def _throughput(path: Path) -> None:
    """Append to commit, as fast as it goes: full groups of 65,536 rows, samples/s."""
    clock = FakeClock()
    store, _ = open_store(path, clock)
    offsets, words = (np.concatenate(columns) for columns in zip(*make_samples("typical", 60), strict=True))
    times = clock.now_us() + np.repeat(np.arange(60) * 1_000_000, SIGNALS * HZ) + offsets
    ids = np.tile(np.arange(1, SIGNALS + 1, dtype=np.int32), HZ * 60)
    rates: list[float] = []
    for _ in range(20):
        began_s = time.perf_counter()
        store.append(_batch(ids, times, words))
        store.flush().result(WAIT_S)
        rates.append(len(ids) / (time.perf_counter() - began_s))
    store.close()
    best, usual = max(rates) / 1e6, statistics.median(rates) / 1e6
    print(f"store append to commit: {usual:.1f} million samples/s ({usual / best:.2f} of the best) target >= 0.8")


def _charts(path: Path) -> None:
    """Charts of one signal over a store of thirty days: from roll-ups, and what the same takes from raw blocks."""
    clock = FakeClock()
    store, signals = open_store(path, clock)
    start_us = clock.now_us() // 86_400_000_000 * 86_400_000_000
    store.close()
    days, raw_hours = 30, 24
    _construct(path, start_us, days, raw_hours)
    store = Store.open(path, clock)
    end_us = start_us + days * 86_400_000_000
    raw_us = raw_hours * 3_600_000_000
    try:
        day_s = _median_s(lambda: store.history([1], end_us - 86_400_000_000, end_us))
        raw_s = _median_s(lambda: sum(1 for _ in store.rows([1], end_us - raw_us, end_us)), 1)
        month_s = _median_s(lambda: store.history([1], start_us, end_us))
        hour_s = _median_s(lambda: store.history([1], end_us - 3_600_000_000, end_us))
        all_s = _median_s(lambda: store.history([signal.id for signal in signals], start_us, end_us), 3)
        first_s, now_s = _up_to_now(store, signals, end_us)
    finally:
        store.close()
    print(f"chart of a day, 500 points: {day_s * 1e3:.1f} ms (every raw row takes {raw_s / day_s:.0f}x)")
    print(f"chart of 30 days, 500 points: {month_s * 1e3:.1f} ms ({month_s / day_s:.1f}x a day's)")
    print(f"chart of an hour, from raw blocks: {hour_s * 1e3:.1f} ms ({hour_s / day_s:.1f}x a day's)")
    print(
        f"chart of a day up to now, {FRESH_BLOCKS} blocks that are not rolled up yet: {now_s * 1e3:.1f} ms "
        f"({TARGET_NOW_S / now_s:.1f}x) target {TARGET_NOW_S * 1e3:g} ms; the first one {first_s * 1e3:.0f} ms"
    )
    print(f"chart of 30 days, 100 signals: {all_s * 1e3:.0f} ms ({all_s / month_s:.0f}x one signal's)")


def _up_to_now(store: Store, signals: Sequence[Signal], end_us: int) -> tuple[float, float]:
    """Seconds that the first chart takes, and the median of those with another second's block each."""
    ids = array("i", [signal.id for signal in signals])

    def commit(second: int) -> None:
        times_us = array("q", [end_us + second * 1_000_000]) * len(ids)
        store.append(Batch(ids, times_us, array("q", range(second, second + len(ids)))))
        store.flush().result()

    def chart() -> float:
        began_s = time.perf_counter()
        store.history([1], end_us - 86_400_000_000, end_us + 3_600_000_000)
        return time.perf_counter() - began_s

    for second in range(FRESH_BLOCKS):
        commit(second)
    first_s = chart()
    taken_s = []
    for second in range(FRESH_BLOCKS, FRESH_BLOCKS + 9):
        commit(second)
        taken_s.append(chart())
    return first_s, statistics.median(taken_s)


def _construct(path: Path, start_us: int, days: int, raw_hours: int) -> None:
    """Roll-ups of all those days and the raw blocks of the last hours, put into the tables as sealing would."""
    from agent.store import schema, telemetry  # noqa: PLC0415 - the only part that looks inside

    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, per_day in (("minute", 1440), ("hour", 24)):
            width_us = 86_400_000_000 // per_day
            first = start_us // width_us
            for signal in range(1, SIGNALS + 1):
                connection.executemany(
                    f"INSERT INTO {table} VALUES(?, ?, ?, ?, ?, ?, 600, 0)",
                    (
                        (signal, first + n, 3300 + n % 50, 3310 + n % 70, 600 * 3305, 3307)
                        for n in range(days * per_day)
                    ),
                )
        offsets, words = (np.concatenate(columns) for columns in zip(*make_samples("typical", 600), strict=True))
        ids = np.tile(np.arange(1, SIGNALS + 1, dtype=np.int32), HZ * 600)
        seconds = np.repeat(np.arange(600) * 1_000_000, SIGNALS * HZ)
        raw_us = start_us + days * 86_400_000_000 - raw_hours * 3_600_000_000
        for n in range(raw_hours * 6):
            block = telemetry.pack(ids, raw_us + n * 600_000_000 + seconds + offsets, words, None, split=True)
            values = (n + 1, n + 1, 1, block.from_us, block.to_us, block.rows, block.crc, block.data)
            columns = "seq, first_seq, boot, from_us, to_us, rows, crc, data"
            connection.execute(f"INSERT INTO block({columns}) VALUES(?, ?, ?, ?, ?, ?, ?, ?)", values)
        schema.set_mark(connection, "rolled_seq", raw_hours * 6)
        connection.execute("COMMIT")


def _median_s(call: Callable[[], object], times: int = 9) -> float:
    taken: list[float] = []
    for _ in range(times):
        began_s = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began_s)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
