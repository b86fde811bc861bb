"""The listening socket, which knows who stands in the door: connections whose handshake has not ended.

A handshake may take its time, and so may many that are never meant to end (slow loris). So their number is bounded, in
all and from one address, and when it is full the oldest one goes: a charger is through within milliseconds, who waits
longest is most likely none. This holds from ``accept`` on, so for TLS handshakes too.
"""

import contextlib
import socket
from collections.abc import Callable

from agent.core.clock import Clock

#: The kernel doubles it.
RECEIVE_BYTES = 32 * 1024

_Address = tuple[object, ...]


class Door(socket.socket):
    """A socket that listens. ``count`` gets ``handshake.slow`` and ``handshake.crowded``."""

    def __init__(
        self, address: _Address, clock: Clock, count: Callable[[str, int], None], *, total: int, each: int
    ) -> None:
        super().__init__(socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET, socket.SOCK_STREAM)
        self._clock = clock
        self._count = count
        self._total = total
        self._each = each
        self._waiting: dict[_Address, tuple[socket.socket, float]] = {}
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is read at once is handled at once: a smaller buffer leaves more turns to the others.
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            if self.family == socket.AF_INET6:
                self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # `::` is for all
            self.setblocking(False)
            self.bind(address)
        except OSError:
            self.close()
            raise

    def accept(self) -> tuple[socket.socket, _Address]:
        """The next connection; the oldest of those that wait may have to go for it."""
        connection, address = super().accept()
        self._prune()
        same = [key for key in self._waiting if key[0] == address[0]]
        if len(same) >= self._each:
            self._dismiss(same[0], "handshake.crowded")
        elif len(self._waiting) >= self._total:
            self._dismiss(next(iter(self._waiting)), "handshake.crowded")
        self._waiting[address] = connection, self._clock.monotonic_s()
        return connection, address

    def through(self, address: _Address) -> None:
        """The handshake with that one has ended."""
        self._waiting.pop(address, None)

    def dismiss(self, older_than_s: float) -> None:
        """Those that have waited for so long go."""
        self._prune()
        since_s = self._clock.monotonic_s() - older_than_s
        for address in [key for key, (_, at_s) in self._waiting.items() if at_s <= since_s]:
            self._dismiss(address, "handshake.slow")

    @property
    def waiting(self) -> int:
        """How many stand in the door."""
        self._prune()
        return len(self._waiting)

    def _prune(self) -> None:
        for address in [key for key, (connection, _) in self._waiting.items() if connection.fileno() < 0]:
            del self._waiting[address]

    def _dismiss(self, address: _Address, why: str) -> None:
        connection, _ = self._waiting.pop(address)
        self._count(why, 1)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # its owner sees the end of it and closes
