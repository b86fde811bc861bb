"""SQLite's write-ahead log as it stands in the file, https://www.sqlite.org/fileformat.html section 4.

Rules of this file:

1. SQLite reads a log up to the first frame whose checksum is wrong and takes that for the end: for what a power cut
   left of a commit. It does so too when the frame was damaged later, and then loses, silently, all commits behind it.
2. The two can be told apart, because each commit is on the disk before the next one is begun: behind a frame that a
   power cut tore there is nothing of a later commit that continues it. Only damage of the newest commit of a log looks
   like one that never was.
"""

import os
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEAD = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
_MASK = np.uint64(0xFFFFFFFF)
_PAIR_BYTES = 8

Sum = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Log:
    """What is in a log: the newest sound frame of each page that was committed, by its offset in ``file``."""

    file: int = -1
    page_bytes: int = 0
    pages: dict[int, int] = field(default_factory=dict)
    fault: str = ""  #: what shows that commits were damaged that had once been on the disk


@dataclass(frozen=True, slots=True)
class _Frame:
    page: int
    commit: bool
    offset: int
    sound: bool


def find_log_fault(path: Path) -> str:
    """What is wrong with the log at that path; empty: nothing that can be seen. Raises ``OSError``."""
    log = read_log(path)
    if log.file >= 0:
        os.close(log.file)
    return log.fault


def read_log(path: Path) -> Log:
    """The log at that path; the caller closes its ``file``. Raises ``OSError``."""
    if not path.exists():
        return Log()
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    head = os.pread(file, _HEAD.size, 0)
    if len(head) < _HEAD.size or not any(head):
        return Log(file)
    magic, _, page_bytes, _, *salts, sum_a, sum_b = _HEAD.unpack(head)
    order = ">u4" if magic & 1 else "<u4"
    sound = magic & ~1 == _MAGIC and _checksum(head[:24], (0, 0), order) == (sum_a, sum_b)
    if not sound:
        # Its page size may be what is wrong: the frames are read as those of a usual file.
        page_bytes = page_bytes if page_bytes in (1 << n for n in range(9, 17)) else 4096
    frames = _frames(file, page_bytes, order, (salts[0], salts[1]) if sound else None, (sum_a, sum_b))
    last = max((number for number, frame in enumerate(frames) if frame.commit and frame.sound), default=-1)
    pages = {frame.page: frame.offset for frame in frames[: last + 1] if frame.sound}
    return Log(file, page_bytes, pages, _fault(frames, head_sound=sound))


def _frames(file: int, page_bytes: int, order: str, salts: Sum | None, seed: Sum) -> list[_Frame]:
    """The frames of this log; those behind the first ones of an older one are not among them."""
    step = _FRAME.size + page_bytes
    frames: list[_Frame] = []
    strangers, seeds = 0, [seed]
    for at in range(_HEAD.size, os.fstat(file).st_size - step + 1, step):
        data = os.pread(file, step, at)
        page, size, salt_a, salt_b, *found = _FRAME.unpack_from(data)
        if salts is None and not frames:
            salts = (salt_a, salt_b)
        told = (found[0], found[1])
        own = (salt_a, salt_b) == salts
        strangers = 0 if own else strangers + 1
        if strangers > 1:  # one may be a damaged frame; two are what an older log left
            break
        # Each frame is checked against what the one before says of itself, or is: one that is damaged damages no other.
        content = data[:8] + data[24:]
        sums = [_checksum(content, seed, order) for seed in seeds]
        frames.append(_Frame(page, bool(size) and own, at + _FRAME.size, own and page > 0 and told in sums))
        seeds = [told] if told in sums else [told, sums[0]]
    return frames[:-1] if strangers else frames


def _fault(frames: list[_Frame], *, head_sound: bool) -> str:
    if not head_sound:
        return "the head of its log is damaged" if any(frame.sound for frame in frames) else ""
    bad = next((number for number, frame in enumerate(frames) if not frame.sound), None)
    if bad is None:
        return ""
    # Behind the commit that the bad frame belongs to stands one that continues it. (What commits left there that power
    # cuts tore does not continue one another.)
    end = next((number for number in range(bad, len(frames)) if frames[number].commit), len(frames))
    if end + 1 < len(frames) and frames[end + 1].sound:
        return f"frame {bad + 1} of its log is damaged, and commits stand behind it"
    return ""


def _checksum(data: bytes, seed: Sum, order: str) -> Sum:
    """SQLite's checksum (4.2): a recurrence, which is linear, so that it can be had by one product with its weights."""
    words = np.frombuffer(data, order).astype(np.uint64)
    weights, power = _weights(len(data) // _PAIR_BYTES)
    sums = (words * weights & _MASK).sum(axis=1) & _MASK
    first = (int(power[0, 0]) * seed[0] + int(power[0, 1]) * seed[1] + int(sums[0])) & 0xFFFFFFFF
    second = (int(power[1, 0]) * seed[0] + int(power[1, 1]) * seed[1] + int(sums[1])) & 0xFFFFFFFF
    return first, second


@lru_cache(maxsize=4)
def _weights(pairs: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """What each word counts for in both sums after so many pairs of words, and what the sums before count for."""
    step = np.array([[1, 1], [1, 2]], np.uint64)
    power = np.eye(2, dtype=np.uint64)
    weights = np.zeros((2, 2 * pairs), np.uint64)
    for pair in reversed(range(pairs)):
        # s0 += x0 + s1; s1 += x1 + s0: the first word counts in both, the second in the second.
        weights[:, 2 * pair] = (power[:, 0] + power[:, 1]) & _MASK
        weights[:, 2 * pair + 1] = power[:, 1]
        power = power @ step & _MASK
    return weights, power
