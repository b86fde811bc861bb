"""CAN decoders against cantools' ``decode_message(..., decode_choices=False)``, frame by frame and in batches.

Runs of both are interleaved and the median of their ratios counts, so that a noisy machine moves both.
"""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import cantools
import numpy as np
from cantools.database import Database

from drivers.codec.can_batch import BatchDecoder
from drivers.codec.can_frame import FrameDecoder
from drivers.codec.dbc import load_dbc
from drivers.codec.frames import CLASSIC_BYTES, FD_BYTES, MAX_DATA, Frames

FRAME_ID = 0x100
FRAMES = 400
ROUNDS = 60
BATCHES = (16, 64, 256, 1000, 4096)
#: Rounds of a batch size last about this many frames.
FRAMES_PER_ROUND = 8000
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """One message to decode, and how much faster than cantools we want to be."""

    name: str
    length: int
    signals: Sequence[str]
    target: float

    @property
    def dbc(self) -> str:
        """The message as DBC text."""
        lines = [f' SG_ s{i} : {place} [0|0] "" X' for i, place in enumerate(self.signals)]
        return "\n".join([f"BO_ {FRAME_ID} Message: {self.length} X", *lines, ""])


LAYOUTS = (
    Layout("4 byte-aligned signals", 8, ("0|16@1+ (0.1,0)", "16|16@1- (0.1,0)", "32|8@1+ (1,0)", "40|8@1+ (1,-40)"), 6),
    Layout("4 odd-width signals", 8, ("0|13@1+ (0.1,0)", "13|15@1- (0.1,0)", "28|11@1+ (1,0)", "39|9@1+ (1,-40)"), 4),
    Layout("32 signals, FD", 64, [f"{16 * i}|16@1{'+-'[i % 2]} (0.1,0)" for i in range(32)], 2.5),
)


def main() -> None:
    """Print nanoseconds per frame of each decoder, and the ratio to cantools."""
    for layout in LAYOUTS:
        cantools_ns = _frame_by_frame(layout)
        for n in BATCHES:
            _batches(layout, n, cantools_ns, repeating=False)
        for n in BATCHES:
            _batches(layout, n, cantools_ns, repeating=True)


def _frame_by_frame(layout: Layout) -> float:
    database = cantools.database.load_string(layout.dbc, "dbc")
    if not isinstance(database, Database):
        raise TypeError(f"cantools made a {type(database).__name__} of a DBC")
    codec = FrameDecoder(load_dbc(layout.dbc.encode(), "bench").messages).find(FRAME_ID, extended=False)
    if codec is None:
        raise LookupError(f"no message 0x{FRAME_ID:x}")
    ours, theirs = codec.decode, database.decode_message
    dice = random.Random(1)  # noqa: S311 - the same payloads in each run, no secrets
    payloads = [dice.randbytes(layout.length) for _ in range(FRAMES)]

    def run_theirs() -> None:
        for data in payloads:
            theirs(FRAME_ID, data, decode_choices=False)

    def run_ours() -> None:
        for data in payloads:
            ours(data)

    pairs = [(_seconds(run_theirs), _seconds(run_ours)) for _ in range(ROUNDS)]
    ratio = median(slow / fast for slow, fast in pairs)
    cantools_ns = median(slow for slow, _ in pairs) / FRAMES * 1e9
    ours_ns = median(fast for _, fast in pairs) / FRAMES * 1e9
    figure = f"{ours_ns:.0f} ns/frame, cantools {cantools_ns:.0f}"
    print(f"decoder, {layout.name}, frame by frame: {figure} ({ratio:.1f} x) target {layout.target} x")
    return cantools_ns


def _batches(layout: Layout, n: int, cantools_ns: float, *, repeating: bool) -> None:
    loaded = load_dbc(layout.dbc.encode(), "bench").messages
    wanted = {(0, signal.name): i + 1 for i, signal in enumerate(loaded[0].signals)}
    decoder = BatchDecoder(loaded, wanted)
    batches = [_frames(layout, n, seed, repeating=repeating) for seed in range(max(1, FRAMES_PER_ROUND // n))]

    def run() -> None:
        for batch in batches:
            decoder.decode(batch)

    run()
    ns = median(_seconds(run) for _ in range(9)) / len(batches) / n * 1e9
    what = f"{REPEATS - 1} of {REPEATS} repeating" if repeating else "all new"
    print(f"decoder, {layout.name}, batches of {n}, {what}: {ns:.0f} ns/frame ({cantools_ns / ns:.1f} x) target more")


def _frames(layout: Layout, n: int, seed: int, *, repeating: bool) -> Frames:
    stride = CLASSIC_BYTES if layout.length <= CLASSIC_BYTES - 8 else FD_BYTES
    raw = np.zeros((n, stride), dtype=np.uint8)
    raw[:, :4] = np.frombuffer(struct.pack("=I", FRAME_ID), dtype=np.uint8)
    raw[:, 4] = layout.length
    raw[:, 8 : 8 + layout.length] = np.random.default_rng(seed).integers(0, 256, (n, MAX_DATA))[:, : layout.length]
    if repeating:
        raw = raw[np.arange(n) // REPEATS * REPEATS]
    return Frames(raw, np.arange(n, dtype=np.int64))


def _seconds(run: Callable[[], None]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


if __name__ == "__main__":
    main()
