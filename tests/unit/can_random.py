"""Random message layouts as DBC text, and payloads for them: what the decoder tests feed to us and to cantools."""

import struct
from collections.abc import Sequence
from random import Random

import cantools
import numpy as np
from cantools.database import Database

from drivers.codec.frames import EFF_FLAG, FD_BYTES, Frames

SCALES = ("1", "1.0", "2", "0.1", "0.03125", "-0.5", "-3", "1e-05", "250", "0.0078125")
LENGTHS = (1, 3, 7, 8, 8, 11, 13, 16, 16, 24, 32, 37, 63, 64)
OFFSETS = ("0", "0.0", "-40", "1.5", "1000000", "-273.15")


def dice(seed: int) -> Random:
    """Dice that fall the same way for the same seed."""
    return Random(seed)  # noqa: S311 - tests need repeatable dice, not secret ones


class _Message:
    """One random message being laid out: two levels of multiplexers at most."""

    def __init__(self, rng: Random, number: int) -> None:
        self._rng = rng
        self._size = rng.choice((1, 2, 3, 5, 7, 8, 8, 8, 12, 24, 64))
        far = rng.getrandbits(29) & ~0xFF | number
        self._id = rng.choice((number, number | 1 << 31, far | 1 << 31))
        self._free = set(range(8 * self._size))
        self.lines = [f"BO_ {self._id} Message{number}: {self._size} X"]
        self.types: list[str] = []
        self.values: list[str] = []

    def lay_out(self) -> None:
        """Place all signals."""
        nested = self._rng.random() < 0.4
        if self._rng.random() < 0.5 and self._place("Mux", "M"):
            common = set(self._free)
            used: set[int] = set()
            for branch in range(self._rng.randint(1, 4)):
                self._free = set(common)
                self._branch(branch, nested=nested)
                used |= common - self._free
            self._free = common - used
        for s in range(self._rng.randint(0, 6)):
            self._place(f"Plain{s}", "")

    def _branch(self, branch: int, *, nested: bool) -> None:
        inner = nested and self._place(f"Inner{branch}", f"m{branch}M")
        if inner:
            self.values.append(f"SG_MUL_VAL_ {self._id} Inner{branch} Mux {branch}-{branch};")
        for s in range(self._rng.randint(0, 3)):
            name = f"Branch{branch}_{s}"
            if self._place(name, f"m{branch}") and nested:
                parent, low = (f"Inner{branch}", s % 3) if inner and s else ("Mux", branch)
                high = low + (self._rng.randrange(2) if parent != "Mux" else 0)  # branches of Mux may share bits
                self.values.append(f"SG_MUL_VAL_ {self._id} {name} {parent} {low}-{high};")

    def _place(self, name: str, marker: str) -> bool:
        """Put a random signal where bits are free; False where the dice found no place."""
        rng = self._rng
        selects = marker.endswith("M")
        is_float = not selects and rng.random() < 0.15
        length = rng.choice((16, 32, 64) if is_float else (2, 4, 8) if selects else LENGTHS)
        order = rng.randrange(2)
        bits = self._bits(length, order)
        if bits is None:
            return False
        sign = "+" if selects else rng.choice("+-")
        plain = selects or rng.random() < 0.3
        scale, offset = ("1", "0") if plain else (rng.choice(SCALES), rng.choice(OFFSETS))
        self.lines.append(f' SG_ {name} {marker} : {bits[0]}|{length}@{order}{sign} ({scale},{offset}) [0|0] "" X')
        if is_float:
            self.types.append(f"SIG_VALTYPE_ {self._id} {name} : {2 if length == 64 else 1};")
        self._free.difference_update(bits)
        return True

    def _bits(self, length: int, order: int) -> list[int] | None:
        """Free bits (byte * 8 + bit), the start bit first."""
        network = [byte * 8 + 7 - bit for byte in range(self._size) for bit in range(8)]
        for _ in range(8 if length <= 8 * self._size else 0):
            first = self._rng.randrange(8 * self._size - length + 1)
            if self._rng.random() < 0.5:
                first = first // 8 * 8
            bits = list(range(first, first + length)) if order else network[first : first + length]
            if self._free.issuperset(bits):
                return bits
        return None


def random_dbc(seed: int, messages: int = 4) -> str:
    """A DBC that cantools accepts: both byte orders, all widths, floats, FD lengths, multiplexers."""
    rng = dice(seed)
    made = [_Message(rng, number + 1) for number in range(messages)]
    for message in made:
        message.lay_out()
    parts = [part for message in made for part in message.lines]
    parts += [part for message in made for part in (*message.types, *message.values)]
    return "\n".join([*parts, ""])


def oracle(text: str) -> Database:
    """The same text in cantools."""
    database = cantools.database.load_string(text, "dbc", strict=False)
    assert isinstance(database, Database)
    return database


def payload(rng: Random, length: int) -> bytes:
    """A payload: often of the right length, with a small first byte (multiplexers) or few bits set."""
    size = length if rng.random() < 0.8 else rng.choice((0, max(length - 1, 0), min(length + 3, 64), 64))
    kind = rng.random()
    if kind < 0.4:
        return rng.randbytes(size)
    if kind < 0.6:
        return bytes(rng.choice((0, 0xFF)) for _ in range(size))
    return bytes(rng.choice((0, 1, 2, 3, 0x80, 0xFF)) for _ in range(size))


def frames(rows: Sequence[tuple[int, bytes]], *, seed: int = 0, stride: int = FD_BYTES) -> Frames:
    """Frames of (identifier with flags, payload); what stands behind a payload is random, time is the row's number."""
    raw = np.random.default_rng(seed).integers(0, 256, (len(rows), stride), dtype=np.uint8)
    for row, (can_id, data) in zip(raw, rows, strict=True):
        row[:4] = np.frombuffer(struct.pack("=I", can_id), dtype=np.uint8)
        row[4] = len(data)
        row[8 : 8 + len(data)] = np.frombuffer(data, dtype=np.uint8)
    return Frames(raw, np.arange(len(rows), dtype=np.int64))


def identifier(frame_id: int, extended: bool) -> int:  # noqa: FBT001 - the pair is the identifier
    """The identifier with its flag, as a frame carries it."""
    return frame_id | EFF_FLAG if extended else frame_id
