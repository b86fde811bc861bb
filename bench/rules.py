"""What the rules cost: 1,000 of them over 3,200 signals, fed with 32,000 samples a second as a CAN bus brings them."""

import time
from collections.abc import Iterator

import numpy as np

from agent.control.alarm_model import RuleSpec
from agent.control.engine import Engine
from agent.control.when import parse, parse_clear
from agent.core.model import Signal
from agent.pipeline.columns import Memory, Rows, batch_of

SIGNALS, RULES = 3200, 1000
DEVICES = 32
SAMPLES_S = 32_000
#: Signals of a message, and how many messages a batch brings: one to four, 30 to 100 rows.
MESSAGE, MESSAGES = 25, (1, 2, 3, 4)
SECONDS = 10
ROUNDS = 3
TARGET_SHARE = 0.1  # of one core
SETS = {"typical (nine of ten samples unchanged)": 0.1, "noisy (all change)": 1.0}


def _signals() -> list[Signal]:
    per_device = SIGNALS // DEVICES
    return [
        Signal(f"pack{index // per_device}", f"M.S{index % per_device}", unit="V", scale=0.001, id=index + 1)
        for index in range(SIGNALS)
    ]


def _specs(signals: list[Signal]) -> list[RuleSpec]:
    """Most compare one to three signals with numbers; a few are about silence and rates."""
    rng = np.random.default_rng(2)
    specs = []
    for number in range(RULES):
        one, two, three = (signals[place].full_name for place in rng.choice(SIGNALS, 3, replace=False))
        plain = [
            f"{one} > 3.65",
            f"{one} > 3.65 or {two} < 2.5",
            f"{one} > 3.4 and {two} > 3.4 and not {three} < 2.9",
            f"abs({one} - {two}) > 0.3",
            f"{one} - {two} > 0.2 and {three} > 3",
            f"max({one}, {two}, {three}) > 3.7",
            f"{one} < 2.8 or silent(pack{number % DEVICES}, 30s)",
            f"{one} < 2.7",
            f"{one} > 3.6",
        ]
        texts = [*plain, f"rate({one}, 60s) > 0.01", *plain, f"{one} > 3.5"]
        when = parse(texts[number % len(texts)])
        specs.append(RuleSpec(f"r{number}", when, parse_clear("< 3.5", when) if when.text.endswith("> 3.6") else None))
    return specs


def _batches(changing: float) -> Iterator[list[Rows]]:
    """Second by second. Message after message, each with a time of its own; values wander around 3.3 V."""
    rng = np.random.default_rng(1)
    memory = Memory()
    words = rng.integers(2900, 3700, SIGNALS)
    place = 0
    for second in range(SECONDS):
        batches: list[Rows] = []
        sent = 0
        while sent < SAMPLES_S:
            rows = MESSAGE * int(rng.choice(MESSAGES))
            ids = (place + np.arange(rows)) % SIGNALS
            moves = rng.integers(-8, 9, rows)
            moves[moves == 0] = 1
            # A message whose payload changed brings all its signals.
            moves[rng.random(rows) >= changing] = 0
            words[ids] = np.clip(words[ids] + moves, 2500, 3900)
            times_us = second * 1_000_000 + (sent + np.arange(rows)) // MESSAGE * 780
            batch = batch_of(ids + 1, times_us.astype(np.int64), words[ids])
            batches.append(Rows(batch, memory.spots(batch.ids)))
            place = (place + rows) % SIGNALS
            sent += rows
        yield batches


def _measure(changing: float) -> tuple[float, float, float, int]:
    """Seconds of processor per second of the site, rules evaluated per second of it, slowest batch in s, rows."""
    told = 0

    def judged(_rule_id: str, _when: bool | None, _clear: bool | None, _now_s: float) -> None:  # noqa: FBT001
        nonlocal told
        told += 1

    engine = Engine(judged)
    signals = _signals()
    engine.bind(_specs(signals), signals, 0.0)
    busy_s, slowest_s, evaluated = 0.0, 0.0, 0
    for second, batches in enumerate(_batches(changing)):
        before = engine.evaluations
        start_s = time.process_time()
        for number, rows in enumerate(batches):
            begin_s = time.process_time()
            engine.rows(rows, second + number / len(batches))
            slowest_s = max(slowest_s, time.process_time() - begin_s)
        engine.tick(second + 1.0)
        if second:  # in the first second all is new
            busy_s += time.process_time() - start_s
            evaluated += engine.evaluations - before
    return busy_s / (SECONDS - 1), evaluated / (SECONDS - 1), slowest_s, told


def main() -> None:
    """Print the share of a core with its ratio to the target, and how many rules were evaluated."""
    for name, changing in SETS.items():
        share, evaluated, slowest_s, told = min(_measure(changing) for _ in range(ROUNDS))
        print(
            f"{RULES:,} rules, {SIGNALS:,} signals, {SAMPLES_S:,} samples/s, {name}: {share:.1%} of a core"
            f" ({TARGET_SHARE / share:.1f}x better) target {TARGET_SHARE:.0%}; {share / SAMPLES_S * 1e9:.0f} ns/sample,"
            f" {evaluated:,.0f} rules evaluated/s, slowest batch {slowest_s * 1e3:.1f} ms, {told:,} judgements told"
        )


if __name__ == "__main__":
    main()
