"""What a row costs between the driver and the store: hub and gate together, without the store."""

import time
from array import array

import numpy as np

from agent.core.clock import SystemClock
from agent.core.model import Batch, Signal
from agent.pipeline.columns import batch_of
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate, Report
from agent.pipeline.hub import Hub

BATCHES = 50
ROUNDS = 40
TARGET_ROW_NS = 100.0
TARGET_SMALL_US = {100: 20.0, 5: 40.0}  # each signal once, as a poll brings them; four times
TARGET_TOUCH_US = 8.0
TARGET_RULED_ROW_NS = 2000.0  # these rows take a Python loop


def _batches(rows: int, signals: int, changing: float) -> list[Batch]:
    """Batches of a bus: ``signals`` in turn, the given share of rows with a new word."""
    rng = np.random.default_rng(1)
    ids = (np.arange(rows) % signals + 1).astype(np.int32)
    result = []
    for n in range(BATCHES):
        words = np.where(rng.random(rows) < changing, rng.integers(0, 1 << 16, rows), 5)
        result.append(batch_of(ids, np.full(rows, n * 1000 + 1, dtype=np.int64), words))
    return result


def _seconds_per_batch(batches: list[Batch], gate: Gate) -> float:
    """The best of many rounds: the machine's other work only adds."""
    clock = SystemClock()
    flow = Flow(clock, gate, Hub(clock), lambda _: None)
    best_s = float("inf")
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        for batch in batches:
            flow.put(batch)
        best_s = min(best_s, (time.perf_counter() - start_s) / len(batches))
    return best_s


def _seconds_per_touch(signals: int) -> float:
    """The best of many rounds, as above."""
    clock = SystemClock()
    flow = Flow(clock, Gate(), Hub(clock), lambda _: None)
    ids = array("i", range(1, signals + 1))
    flow.put(Batch(ids, array("q", [1]) * signals, array("q", [5]) * signals))
    best_s = float("inf")
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        for _ in range(BATCHES):
            flow.touch(ids)
        best_s = min(best_s, (time.perf_counter() - start_s) / BATCHES)
    return best_s


def main() -> None:
    """Print ns per row of large batches and µs per small batch, each with its ratio to the target."""
    for signals, changing in ((2000, 1.0), (2000, 0.2), (100, 1.0), (100, 0.2)):
        row_ns = _seconds_per_batch(_batches(1000, signals, changing), Gate()) / 1000 * 1e9
        name = f"gate+hub, 1,000 rows of {signals} signals, {changing:.0%} changed"
        print(f"{name}: {row_ns:.0f} ns/row ({TARGET_ROW_NS / row_ns:.1f}x better) target {TARGET_ROW_NS:.0f}")
    for signals in (100, 5):
        batch_us = _seconds_per_batch(_batches(20, signals, 0.5), Gate()) * 1e6
        name = f"gate+hub, batches of 20 rows of {signals} signals"
        print(
            f"{name}: {batch_us:.0f} µs/batch ({TARGET_SMALL_US[signals] / batch_us:.1f}x better)"
            f" target {TARGET_SMALL_US[signals]:.0f}"
        )
    touch_us = _seconds_per_touch(20) * 1e6
    print(
        f"gate+hub, 20 signals read unchanged: {touch_us:.1f} µs ({TARGET_TOUCH_US / touch_us:.1f}x better)"
        f" target {TARGET_TOUCH_US:.0f}"
    )
    gate = Gate()
    for number in range(1, 101):
        gate.configure(Signal("battery", str(number), scale=0.1, id=number), Report(deadband=1.0, min_interval_s=0.1))
    row_ns = _seconds_per_batch(_batches(1000, 100, 1.0), gate) / 1000 * 1e9
    ratio = TARGET_RULED_ROW_NS / row_ns
    print(
        f"gate+hub, 1,000 rows of 100 signals with a deadband and a shortest interval: {row_ns:.0f} ns/row "
        f"({ratio:.1f}x better) target {TARGET_RULED_ROW_NS:.0f}"
    )


if __name__ == "__main__":
    main()
