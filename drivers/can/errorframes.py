"""What the controller says of the bus: error frames (``linux/can/error.h``) as counters and as edges of its state."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from drivers.codec.frames import DATA_OFFSET, Frames

#: Error classes: bits of an error frame's identifier, and the counters that they raise.
CLASSES = {
    0x001: "tx_timeout",
    0x002: "lost_arbitration",
    0x004: "controller",
    0x008: "protocol",
    0x010: "transceiver",
    0x020: "no_ack",
    0x040: "bus_off",
    0x080: "bus_error",
    0x100: "restarted",
}
_CONTROLLER, _BUS_OFF, _RESTARTED = 0x004, 0x040, 0x100
# Byte 1 of a frame of the class "controller".
_RX_OVERFLOW = 0x01
_PASSIVE = 0x10 | 0x20
_ACTIVE = 0x40
_ERROR_ACTIVE_BELOW = 0x04 | 0x08  # warning level: still active, and no longer passive


class BusState:
    """The controller's state, from its error frames. One for each wire; ``reopened`` when the wire is opened anew."""

    def __init__(self) -> None:
        self._off = False
        self._passive = False

    @property
    def off(self) -> bool:
        """Whether the controller has left the bus."""
        return self._off

    def take(self, frames: Frames, counts: Counter[str]) -> list[str]:
        """Count error frames by class and give the edges in them as event kinds, in order.

        Edges: ``bus.off``/``bus.on`` (the controller left the bus, is back), ``bus.passive``/``bus.active`` (it is
        error-passive: it hardly may speak, mostly a wiring, termination or bit rate fault). The counters are
        ``error_frames``, ``error_frames.<class>`` and, where the controller's own memory overran, ``overflow``.
        """
        ids = frames.raw[:, :4].copy().view(np.uint32)[:, 0]
        status = frames.raw[:, DATA_OFFSET + 1]
        counts["error_frames"] += len(frames)
        for bit, name in CLASSES.items():
            amount = int(np.count_nonzero(ids & bit))
            if amount:
                counts[f"error_frames.{name}"] += amount
        overflows = int(np.count_nonzero((ids & _CONTROLLER != 0) & (status & _RX_OVERFLOW != 0)))
        if overflows:
            counts["overflow"] += overflows
        return list(self._edges(ids, status))

    def received(self) -> list[str]:
        """A frame came in from the bus: a controller that was off is on again, whatever its driver told."""
        return self._restarted() if self._off else []

    def reopened(self) -> list[str]:
        """The wire was opened anew. Whoever took the interface down and up reset its controller."""
        if not self._passive:
            return []
        self._passive = False
        return ["bus.active"]

    def _restarted(self) -> list[str]:
        """It was off and is on; it then starts without errors."""
        self._off = False
        return ["bus.on", *self.reopened()]

    def _edges(self, ids: NDArray[np.uint32], status: NDArray[np.uint8]) -> Iterator[str]:
        """Only frames that speak of the state, and of equal neighbours one: a flood of errors costs no time here."""
        of_state = (ids & (_CONTROLLER | _BUS_OFF | _RESTARTED)) != 0
        keys = (ids[of_state].astype(np.int64) << 8) | status[of_state]
        if len(keys):
            keys = keys[np.r_[True, keys[1:] != keys[:-1]]]
        for key in keys.tolist():
            kind, detail = key >> 8, key & 0xFF
            if kind & _BUS_OFF and not self._off:
                self._off = True
                yield "bus.off"
            if kind & _RESTARTED and self._off:
                yield from self._restarted()
            if kind & _CONTROLLER:
                yield from self._passive_edge(detail)

    def _passive_edge(self, detail: int) -> Iterator[str]:
        if detail & _PASSIVE and not self._passive:
            self._passive = True
            yield "bus.passive"
        elif self._passive and not detail & _PASSIVE and detail & (_ACTIVE | _ERROR_ACTIVE_BELOW):
            self._passive = False
            yield "bus.active"
