"""Many CAN frames in one system call: ``recvmmsg`` into columns.

Rules of this file:

1. Works on any datagram socket whose datagrams are ``can_frame``s or ``canfd_frame``s (``linux/can.h``): a raw CAN
   socket, or a UDP or Unix datagram socket that stands in for one.
2. No Python loop over frames: lengths, time stamps and drop counters are read as numpy columns of the memory that the
   kernel wrote. The memory is allocated once.
3. A frame's time is the kernel's (``SO_TIMESTAMPNS``, the moment of reception); where a socket gives none, the Clock's.
"""

import ctypes
import errno
import os
import socket
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from agent.core.clock import Clock
from drivers.codec.frames import CLASSIC_BYTES, DATA_OFFSET, FD_BYTES, Frames

#: Frames that one system call takes at most; the kernel's own limit is 1,024 (``UIO_MAXIOV``).
SLOTS = 1024
#: Asked of the kernel, which grants twice as much: about a second of a full 1 Mbit/s bus.
RECEIVE_BUFFER_BYTES = 4 << 20
#: What one queued frame costs of the receive buffer: a socket buffer's ``truesize``, rounded up.
QUEUED_FRAME_BYTES = 960

# asm-generic/socket.h; Python's socket module does not name these.
_SO_RCVBUFFORCE = 33
_SO_RXQ_OVFL = 40
_SO_TIMESTAMPNS_NEW = 64  # 64-bit seconds on every machine, since Linux 5.1

_SIZE = np.dtype(np.uintp)
_MSGHDR = np.dtype(
    [
        ("name", _SIZE),
        ("name_bytes", np.uint32),
        ("iov", _SIZE),
        ("iov_items", _SIZE),
        ("control", _SIZE),
        ("control_bytes", _SIZE),
        ("flags", np.int32),
    ],
    align=True,
)
_MMSGHDR = np.dtype([("header", _MSGHDR), ("bytes", np.uint32)], align=True)
_IOVEC = np.dtype([("base", _SIZE), ("bytes", _SIZE)], align=True)
# The kernel writes the time stamp first and the drop counter behind it, each only if there is one (net/socket.c,
# ``__sock_recv_cmsgs``). A control message is aligned to the size of size_t.
_CMSG = [("bytes", _SIZE), ("level", np.int32), ("type", np.int32)]
_CONTROL = np.dtype(
    [
        *((f"time_{name}", kind) for name, kind in _CMSG),
        ("seconds", np.int64),
        ("nanoseconds", np.int64),
        *((f"drop_{name}", kind) for name, kind in _CMSG),
        ("dropped", np.uint32),
        ("pad", np.uint32),
    ]
)
_TIME_BYTES = _SIZE.itemsize + 8 + 16
_US_PER_S = 1_000_000
_NS_PER_US = 1000
_U32 = 1 << 32


class FrameReader:
    """Reads a non-blocking datagram socket; owns the memory, not the socket.

    ``fd`` makes room for CAN FD frames. ``counts`` collects what was lost or refused until its reader clears it:
    ``overflow`` (frames that the kernel dropped because its queue was full), ``bad.malformed`` (datagrams that are no
    CAN frame, or hold more than this wire carries).
    """

    def __init__(self, sock: socket.socket, clock: Clock, *, fd: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._sock = sock
        self._clock = clock
        self._stamped = _try_option(sock, _SO_TIMESTAMPNS_NEW, 1)
        _try_option(sock, _SO_RXQ_OVFL, 1)
        if not _try_option(sock, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES):
            _try_option(sock, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        #: Frames that the kernel's queue holds.
        self.queue_frames = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // QUEUED_FRAME_BYTES
        self._dropped = 0
        stride = FD_BYTES if fd else CLASSIC_BYTES
        self._raw = np.zeros((SLOTS, stride), dtype=np.uint8)
        self._control = np.zeros(SLOTS, dtype=_CONTROL)
        self._messages = np.zeros(SLOTS, dtype=_MMSGHDR)
        self._iovec = np.zeros(SLOTS, dtype=_IOVEC)
        steps = np.arange(SLOTS, dtype=np.uintp)
        self._iovec["base"] = steps * stride + self._raw.ctypes.data
        self._iovec["bytes"] = stride
        header = self._messages["header"]
        header["iov"] = steps * _IOVEC.itemsize + self._iovec.ctypes.data
        header["iov_items"] = 1
        header["control"] = steps * _CONTROL.itemsize + self._control.ctypes.data
        # Views of the columns that each read needs, made once.
        self._control_room = header["control_bytes"]
        self._lengths = self._messages["bytes"]
        self._flags = header["flags"]
        self._data_lengths = self._raw[:, 4]
        self._seconds, self._nanoseconds = self._control["seconds"], self._control["nanoseconds"]
        self._control_room[:] = _CONTROL.itemsize
        self._address = self._messages.ctypes.data
        self._recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
        self._empty = Frames(self._raw[:0], np.empty(0, dtype=np.int64))

    def read(self) -> Frames:
        """All waiting frames, at most ``SLOTS``, in views that the next call overwrites. Raises ``OSError``."""
        n = self._recvmmsg(self._sock.fileno(), self._address, SLOTS, socket.MSG_DONTWAIT, None)
        if n <= 0:
            number = ctypes.get_errno()
            if n == 0 or number in (errno.EAGAIN, errno.EINTR):
                return self._empty
            raise OSError(number, os.strerror(number))
        times = self._times(n)
        self._count_dropped(n - 1)
        self._control_room[:n] = _CONTROL.itemsize
        frames = Frames(self._raw[:n], times)
        lengths = self._lengths[:n]
        # One comparison for the usual case: classic frames of at most 8 bytes.
        if (
            np.minimum.reduce(lengths) == CLASSIC_BYTES == np.maximum.reduce(lengths)
            and np.maximum.reduce(self._data_lengths[:n]) <= CLASSIC_BYTES - DATA_OFFSET
            and not np.bitwise_or.reduce(self._flags[:n]) & socket.MSG_TRUNC
        ):
            return frames
        return self._without_malformed(frames, lengths)

    def _times(self, n: int) -> NDArray[np.int64]:
        # The drop counter alone is shorter: so much control data means that it begins with the time.
        if self._stamped and np.minimum.reduce(self._control_room[:n]) >= _TIME_BYTES:
            times: NDArray[np.int64] = self._seconds[:n] * _US_PER_S + self._nanoseconds[:n] // _NS_PER_US
            return times
        return np.full(n, self._clock.now_us(), dtype=np.int64)

    def _count_dropped(self, last: int) -> None:
        """The kernel's drop counter (32 bits, since the socket was made) as the newest frame carries it."""
        if int(self._control_room[last]) <= _TIME_BYTES:
            return
        row = self._control[last]
        if int(row["drop_level"]) == socket.SOL_SOCKET and int(row["drop_type"]) == _SO_RXQ_OVFL:
            dropped = int(row["dropped"])
            if dropped != self._dropped:
                self.counts["overflow"] += (dropped - self._dropped) % _U32
                self._dropped = dropped

    def _without_malformed(self, frames: Frames, lengths: NDArray[np.uint32]) -> Frames:
        """Only the frames whose datagram has a frame's size and holds the bytes that its length field claims.

        A datagram of the FD size is an FD frame whatever its length, so a wire without FD refuses it here.
        """
        n = len(frames)
        sized = (lengths == CLASSIC_BYTES) | (lengths == FD_BYTES)
        whole = (self._flags[:n] & socket.MSG_TRUNC) == 0
        good = sized & whole & (self._data_lengths[:n] <= lengths.astype(np.int64) - DATA_OFFSET)
        refused = n - int(np.count_nonzero(good))
        if not refused:
            return frames
        self.counts["bad.malformed"] += refused
        return Frames(frames.raw[good], frames.times_us[good])


def _try_option(sock: socket.socket, option: int, value: int) -> bool:
    """Set a socket option that not every kind of socket, user or kernel allows."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, value)
    except OSError:
        return False
    return True
