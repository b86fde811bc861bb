"""CAN frames as Linux lays them out (``linux/can.h``: ``struct can_frame``, ``struct canfd_frame``), in columns.

Every interface, log reader and test hands frames to the decoders in this one shape, so the bytes that ``recvmmsg``
wrote are decoded where they lie.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EFF_FLAG = 0x8000_0000  #: 29-bit identifier
RTR_FLAG = 0x4000_0000  #: remote frame, carries no data
ERR_FLAG = 0x2000_0000  #: error frame, made by the controller
EFF_MASK = 0x1FFF_FFFF
SFF_MASK = 0x7FF

#: ``struct can_frame``: id u32 with flags, length u8, 3 bytes, data.
DATA_OFFSET = 8
CLASSIC_BYTES = 16
FD_BYTES = 72
MAX_DATA = 64


@dataclass(frozen=True, slots=True)
class Frames:
    """``n`` received frames of one channel in order of arrival.

    ``raw`` is uint8[n, stride] with ``stride`` >= 16 (classic only) or >= 72 (FD possible), each row a ``can_frame`` or
    ``canfd_frame`` in host byte order; bytes behind a frame's length may hold anything. ``times_us`` is int64[n], µs
    UTC. The arrays may be views of a buffer that its owner reuses after the call: keep copies, not these.
    """

    raw: NDArray[np.uint8]
    times_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times_us)
