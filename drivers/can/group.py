"""Devices that share a decoder on a CAN wire: which frames are theirs, and what these say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.model import Encoding
from drivers.can.devices import PlannedDevice, WordRange
from drivers.can.missing import Missing
from drivers.can.monitor import AliveCounter, Monitor, Watched, silence_limit_s
from drivers.can.repeats import Repeats
from drivers.codec.can_batch import BatchDecoder
from drivers.codec.frames import EFF_FLAG, Frames

_SOURCE_ADDRESS = 0xFF

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Member:
    """One device in a group: its monitor, its place among the group's messages, its signals."""

    device: str
    monitor: Monitor
    messages: slice
    signals: Ids


@dataclass(frozen=True, slots=True)
class Heard:
    """What frames gave: rows, signals that were sent again unchanged, good frames by message."""

    ids: Ids
    times_us: Ints
    words: Ints
    touched: Ids
    seen: Ints
    frames: int  #: with an identifier of these devices, good or bad
    bad: Mapping[str, int]  #: bad ones by the name of their counter


_NO_IDS = np.empty(0, dtype=np.int32)
_NO_INTS = np.empty(0, dtype=np.int64)


class Group:
    """Devices that share a decoder."""

    def __init__(self, planned: Sequence[PlannedDevice], ids: Mapping[tuple[str, str], int]) -> None:
        self.source_address = planned[0].device.source_address
        messages = [message for one in planned for message in one.messages]
        wanted: dict[tuple[int, str], int] = {}
        missing: dict[int, tuple[WordRange, ...]] = {}
        floats: list[int] = []
        self.members: list[Member] = []
        start = 0
        for one in planned:
            signals = [ids[item.spec.device, item.spec.name] for item in one.wanted]
            for item, signal in zip(one.wanted, signals, strict=True):
                wanted[start + item.message, item.signal.name] = signal
                missing[signal] = item.missing
                if item.spec.encoding is Encoding.FLOAT:
                    floats.append(signal)
            end = start + len(one.messages)
            self.members.append(
                Member(one.device.id, _monitor(one, signals), slice(start, end), np.array(signals, dtype=np.int32))
            )
            start = end
        self.missing = Missing(missing, floats)
        self.decoder = BatchDecoder(messages, wanted)
        self.repeats = Repeats(messages, [self.decoder.signal_ids_of(index) for index in range(len(messages))])

    def mine(self, frames: Frames) -> Frames:
        """The frames that may be from these devices."""
        if self.source_address is None:
            return frames
        frame_ids = np.ascontiguousarray(frames.raw[:, :4]).view(np.uint32).ravel()
        other = (frame_ids & EFF_FLAG != 0) & (frame_ids & _SOURCE_ADDRESS != self.source_address)
        if not other.any():
            return frames
        return Frames(frames.raw[~other], frames.times_us[~other])

    def decode(self, frames: Frames) -> Heard:
        """Frames as rows; repeats are taken out before they cost anything."""
        news, repeated = self.repeats.news(frames)
        touched, seen = _NO_IDS, _NO_INTS
        if repeated:
            touched = self.repeats.touched(repeated)
            seen = np.bincount(repeated, minlength=len(self.decoder.messages))
            if not len(news):
                return Heard(_NO_IDS, _NO_INTS, _NO_INTS, touched, seen, len(repeated), {})
        found = self.decoder.decode(news)
        bad = {"bad.too_short": found.too_short, "bad.unknown_multiplexer": found.unknown_multiplexer}
        self.repeats.decoded(without_fault=not any(bad.values()))
        return Heard(
            found.ids,
            found.times_us,
            found.words,
            np.concatenate((found.touched, touched)) if repeated else found.touched,
            found.seen + seen if repeated else found.seen,
            len(repeated) + found.decoded + sum(bad.values()),
            bad,
        )

    def forget(self) -> None:
        """All signals are unknown: the next frames give them in full."""
        self.forget_payloads()
        self.missing.forget()

    def forget_payloads(self) -> None:
        """The next frames of all messages are news."""
        self.decoder.forget()
        self.repeats.forget()


def _monitor(planned: PlannedDevice, signals: Sequence[int]) -> Monitor:
    device = planned.device
    watched = [
        Watched(
            message.name,
            silence_limit_s(message.cycle_time_ms, device.stale_after_s),
            tuple(signal for item, signal in zip(planned.wanted, signals, strict=True) if item.message == index),
        )
        for index, message in enumerate(planned.messages)
    ]
    counters = [
        AliveCounter(name, signals[index], planned.wanted[index].message)
        for name, index in zip(device.alive, planned.alive, strict=True)
    ]
    return Monitor(watched, counters, device.frozen_after_s)
