"""Frames that say what they said before, taken out of small batches in plain Python.

Decoding a batch by numpy costs some 100 µs whatever its size, so a bus with some hundred frames a second, most of them
repeats, is read at a fraction of that cost when the repeats never come there. Rules of this file:

1. Only plain messages with one identifier of their own: which signals a repeat touches is then known beforehand. J1939
   groups, which come under many identifiers, and multiplexed messages go to the decoder.
2. A frame repeats when its identifier, length and bytes are those of the last frame of this identifier, and that one
   was decoded without fault. The decoder would find the same, so its own memory stays right.
3. Large batches are not looked at; they clear what is remembered here.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.codec.dbc import MessageDef
from drivers.codec.frames import DATA_OFFSET, EFF_FLAG, Frames

#: Batches of more frames than this cost less in numpy.
SMALL_FRAMES = 32

_LENGTH_AT = 4


class Repeats:
    """What was said last, by identifier. ``signals``: for each message the ids of its signals."""

    def __init__(self, messages: Sequence[MessageDef], signals: Sequence[NDArray[np.int32]]) -> None:
        self._message: dict[int, int] = {}
        for index, message in enumerate(messages):
            if not message.j1939 and not message.multiplexed:
                self._message[message.frame_id | (EFF_FLAG if message.extended else 0)] = index
        self._signals = signals
        self._last: dict[int, bytes] = {}
        self._news: dict[int, bytes] = {}

    def news(self, frames: Frames) -> tuple[Frames, list[int]]:
        """The frames that are not repeats, and the message of each repeat."""
        self._news.clear()
        if len(frames) > SMALL_FRAMES:
            self._last.clear()
            return frames, []
        repeated: list[int] = []
        kept: list[int] = []
        last, news = self._last, self._news
        raw = np.ascontiguousarray(frames.raw)
        stride, rows = raw.shape[1], raw.tobytes()
        frame_ids = raw.view(np.uint32)[:, 0].tolist()
        for position, frame_id in enumerate(frame_ids):
            start = position * stride
            said = rows[start + _LENGTH_AT : start + DATA_OFFSET + rows[start + _LENGTH_AT]]
            if last.get(frame_id) == said and frame_id not in news:
                repeated.append(self._message[frame_id])
            else:
                kept.append(position)
                if frame_id in self._message:
                    news[frame_id] = said
        if not repeated:
            return frames, repeated
        return Frames(frames.raw[kept], frames.times_us[kept]), repeated

    def decoded(self, *, without_fault: bool) -> None:
        """How decoding the news went: only what was decoded without fault can be repeated."""
        if without_fault:
            self._last.update(self._news)
        else:
            self._last.clear()
        self._news.clear()

    def touched(self, repeated: Iterable[int]) -> NDArray[np.int32]:
        """The ids of all signals of these messages, each once."""
        return np.concatenate([self._signals[message] for message in set(repeated)])

    def forget(self) -> None:
        """The next frame of each identifier is news."""
        self._last.clear()
        self._news.clear()
