"""Fault F3: frames of any kind at a wire. No exception, every frame counted once, no wrong value."""

import socket
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.core.clock import FakeClock
from agent.core.model import Batch, Column, Event, SignalSpec
from drivers.can.bus import CanListener
from drivers.can.devices import CanDevice, resolve
from drivers.can.socketcan import SocketSource
from drivers.codec.dbc import Dbc, MessageDef, SignalDef
from drivers.codec.frames import EFF_FLAG, ERR_FLAG, FD_BYTES, RTR_FLAG, Frames

PLAIN = MessageDef(
    0x100, extended=False, name="Plain", length=6, signals=(SignalDef("A", 0, 16), SignalDef("B", 32, 16))
)
PAGES = MessageDef(
    0x101,
    extended=False,
    name="Pages",
    length=3,
    signals=(
        SignalDef("Page", 0, 8, is_multiplexer=True),
        SignalDef("First", 8, 16, multiplexer="Page", mux_values=((1, 1),)),
        SignalDef("Second", 8, 16, multiplexer="Page", mux_values=((2, 9),)),
    ),
)
GROUP = MessageDef(0x18FEF1FE, extended=True, name="Group", length=8, signals=(SignalDef("C", 0, 64),), j1939=True)
LONG = MessageDef(0x102, extended=False, name="Long", length=64, signals=(SignalDef("D", 496, 16),), fd=True)
DEVICE = CanDevice("bms", "can0", (Dbc("fuzz.dbc", (PLAIN, PAGES, GROUP, LONG)),))
FRAMES_IDS = [0x100, 0x101, 0x102, 0x103, 0x7FF, 0x100 | EFF_FLAG, 0x18FEF1FE | EFF_FLAG, 0x0CFEF133 | EFF_FLAG]
FLAGS = [0, 0, 0, 0, 0, 0, 0, RTR_FLAG, ERR_FLAG]


class Sink:
    """Keeps the newest word of each signal and checks what comes."""

    def __init__(self) -> None:
        self.newest: dict[int, int] = {}
        self.counts: Counter[str] = Counter()

    def put(self, batch: Batch) -> None:
        assert len(batch.ids) == len(batch.times_us) == len(batch.words) > 0
        assert batch.valid
        self.newest.update(zip(map(int, batch.ids), map(int, batch.words), strict=True))

    def touch(self, ids: Column) -> None:
        assert set(map(int, ids)) <= set(self.newest)

    def event(self, event: Event) -> None:
        assert event.kind.startswith("bus.")

    def count(self, name: str, amount: int = 1) -> None:
        assert amount > 0
        self.counts[name] += amount

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        raise AssertionError(f"CAN signals are numbered before: {specs}")


def _expected(raw: bytes, newest: dict[str, int], counts: Counter[str]) -> None:
    """The same, frame by frame, in plain Python."""
    frame_id, length = int.from_bytes(raw[:4], "little"), min(raw[4], FD_BYTES - 8)
    data = raw[8 : 8 + length]
    if frame_id & ERR_FLAG:
        counts["error_frames"] += 1
        return
    counts["frames"] += 1
    if frame_id & RTR_FLAG:
        counts["remote"] += 1
        return
    known = {0x100: PLAIN, 0x101: PAGES, 0x102: LONG, 0x18FEF1FE | EFF_FLAG: GROUP, 0x0CFEF133 | EFF_FLAG: GROUP}
    message = known.get(frame_id)
    if message is None:
        counts["unknown"] += 1
    elif length < message.length:
        counts["bad.too_short"] += 1
    elif message is PAGES and not 1 <= data[0] <= 9:
        counts["bad.unknown_multiplexer"] += 1
    else:
        for signal in message.signals:
            if signal.multiplexer is None or any(low <= data[0] <= high for low, high in signal.mux_values):
                start = signal.start // 8
                value = int.from_bytes(data[start : start + signal.length // 8], "little")
                newest[signal.name] = value - (1 << 64 if value >> 63 else 0)


def _frames(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    raw = rng.integers(0, 256, (n, FD_BYTES), dtype=np.uint8)
    frame_ids = rng.choice(np.array(FRAMES_IDS, dtype="<u4"), n) | rng.choice(np.array(FLAGS, dtype="<u4"), n)
    raw[:, :4] = frame_ids[:, None].view(np.uint8)
    raw[:, 4] = rng.choice([0, 2, 3, 6, 8, 64, 255], n)
    raw[:, 8] = rng.integers(0, 12, n)
    raw[:, 9:] = rng.choice([0, 0, 1, 255], (n, FD_BYTES - 9))
    return raw


def _compare(batches: Iterable[NDArray[np.uint8]]) -> None:
    """Hold a wire against the plain loop, after each batch."""
    planned = resolve(DEVICE)
    ids = {(item.spec.device, item.spec.name): number for number, item in enumerate(planned.wanted, 1)}
    names = {number: item.signal.name for number, item in enumerate(planned.wanted, 1)}
    clock, sink = FakeClock(), Sink()
    listener = CanListener(SocketSource("socketcan:can0", _never, clock, fd=True), [planned], ids, clock)
    newest: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for raw in batches:
        listener._take(Frames(raw, np.arange(len(raw), dtype=np.int64)), clock.monotonic_s(), sink)
        for row in raw:
            _expected(row.tobytes(), newest, counts)
        assert {names[number]: word for number, word in sink.newest.items()} == newest
    assert Counter({name: sink.counts[name] for name in counts}) == counts


@pytest.mark.parametrize("seed", range(25))
def test_any_frames_at_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _compare(_frames(rng, int(rng.integers(1, 400))) for _ in range(40))


@pytest.mark.parametrize("seed", range(25))
def test_frames_that_repeat_in_batches_of_any_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = _frames(rng, 30)
    sizes = rng.choice([1, 2, 5, 31, 32, 33, 60], 150)
    _compare(pool[rng.integers(0, len(pool), size)] for size in sizes)


def _never() -> socket.socket:
    raise AssertionError("not opened here")
