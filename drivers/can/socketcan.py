"""SocketCAN: opening a raw CAN socket, what the kernel filters for us, and the socket as a source of frames."""

import asyncio
import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from drivers.can.mmsg import FrameReader
from drivers.codec.frames import EFF_FLAG, EFF_MASK, RTR_FLAG, SFF_MASK, Frames

#: ``CAN_RAW_FILTER_MAX`` of ``linux/can/raw.h``.
MAX_FILTERS = 512

# linux/can.h, linux/can/raw.h; Python's socket module names them only where it was built with these headers.
_AF_CAN = 29
_CAN_RAW = 1
_SOL_CAN_RAW = 101
_CAN_RAW_FILTER = 1
_CAN_RAW_ERR_FILTER = 2
_CAN_RAW_FD_FRAMES = 5
_CAN_ERR_MASK = 0x1FFF_FFFF
_FILTER = struct.Struct("=II")

#: (identifier, mask) as in ``struct can_filter``: a frame passes where ``id & mask == identifier & mask``.
Filter = tuple[int, int]

# J1939-21: the PDU format is bits 16 to 23; below 240 the byte under it is a destination, from 240 on part of the PGN.
_PDU2 = 240
_PGN_MASK_PDU1 = 0x03FF_0000
_PGN_MASK_PDU2 = 0x03FF_FF00
_SOURCE_MASK = 0xFF


def id_filter(frame_id: int, *, extended: bool) -> Filter:
    """Exactly this identifier, data frames only. The kernel finds filters of this form by a table, not by a walk."""
    if extended:
        return frame_id & EFF_MASK | EFF_FLAG, EFF_MASK | EFF_FLAG | RTR_FLAG
    return frame_id & SFF_MASK, SFF_MASK | EFF_FLAG | RTR_FLAG


def pgn_filter(frame_id: int, source_address: int | None) -> Filter:
    """The J1939 parameter group of an identifier, at any priority, from anybody or from one source address."""
    mask = _PGN_MASK_PDU2 if (frame_id >> 16) & 0xFF >= _PDU2 else _PGN_MASK_PDU1
    wanted = frame_id & mask
    if source_address is not None:
        wanted |= source_address & _SOURCE_MASK
        mask |= _SOURCE_MASK
    return wanted | EFF_FLAG, mask | EFF_FLAG | RTR_FLAG


def coarsen(filters: Iterable[Filter], limit: int = MAX_FILTERS) -> list[Filter]:
    """At most ``limit`` filters that pass all that these pass. Low bits are given up, as few as will do."""
    chosen = sorted(set(filters))
    low = 0
    while len(chosen) > limit:
        low = low << 1 | 1
        chosen = sorted({(wanted & ~low, mask & ~low) for wanted, mask in chosen})
    return chosen


def open_can(channel: str, filters: Iterable[Filter], *, fd: bool, bitrate: int | None = None) -> socket.socket:
    """A non-blocking raw socket on the interface ``channel``. Raises ``Unavailable``; leaves nothing open then."""
    op = f"open {channel}"
    try:
        sock = socket.socket(_AF_CAN, socket.SOCK_RAW, _CAN_RAW)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            hint = "load it with `modprobe can_raw`, or use another interface than socketcan"
            raise Unavailable(op, "this machine's kernel has no SocketCAN", hint) from error
        raise Unavailable(op, _text(error), "see `dmesg`") from error
    try:
        packed = b"".join(_FILTER.pack(*one) for one in coarsen(filters))
        sock.setsockopt(_SOL_CAN_RAW, _CAN_RAW_FILTER, packed)
        sock.setsockopt(_SOL_CAN_RAW, _CAN_RAW_ERR_FILTER, _CAN_ERR_MASK)
        if fd:
            sock.setsockopt(_SOL_CAN_RAW, _CAN_RAW_FD_FRAMES, 1)
        sock.setblocking(False)
        sock.bind((channel,))
    except OSError as error:
        sock.close()
        raise Unavailable(op, _text(error), link_hint(channel, error, bitrate)) from error
    return sock


def link_hint(channel: str, error: OSError, bitrate: int | None = None) -> str:
    """What to do about an interface that is missing, down or gone."""
    up = f"`ip link set {channel} up type can bitrate {bitrate or 500_000}`"
    if error.errno == errno.ENODEV:
        return f"no such interface: is the adapter plugged in? See `ip -details link show type can`, then {up}"
    if error.errno == errno.ENETDOWN:
        return f"the interface is down: {up}"
    return f"see `ip -details link show {channel}` and `dmesg`"


class SocketSource:
    """A datagram socket as a source of frames for a bus. ``opener`` makes it, raising ``Unavailable``."""

    def __init__(self, name: str, opener: Callable[[], socket.socket], clock: Clock, *, fd: bool) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.queue_frames = 1
        self._opener = opener
        self._clock = clock
        self._fd = fd
        self._socket: socket.socket | None = None
        self._reader: FrameReader | None = None
        self._wake: Callable[[], None] = _nothing

    async def open(self, wake: Callable[[], None]) -> None:
        """Open; ``wake`` is called on the loop, once after each ``arm``, when frames or an error wait."""
        self._wake = wake
        self._socket = self._opener()
        self._reader = FrameReader(self._socket, self._clock, fd=self._fd)
        self._reader.counts = self.counts
        self.queue_frames = self._reader.queue_frames

    def arm(self) -> None:
        """Ask to be woken."""
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def drain(self) -> Frames:
        """Frames that wait, in views that the next call overwrites. Raises ``Unavailable`` when the wire is gone."""
        if self._reader is None:
            raise Unavailable(f"read {self.name}", "not open")
        try:
            return self._reader.read()
        except OSError as error:
            channel = self.name.partition(":")[2]
            raise Unavailable(f"read {self.name}", _text(error), link_hint(channel, error)) from error

    async def close(self) -> None:
        """Close, also after a failed open or twice."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = self._reader = None

    def _readable(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        self._wake()


def _nothing() -> None:
    """Nobody waits yet."""


def _text(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
