"""Ends connections whose client keeps us waiting: uvicorn itself only knows how long one may idle after an answer.

Without this, who sends a request byte by byte, or reads no answer, has one of the few places for ever.

Rules of this file:

1. Each stage has its time: nothing sent yet, the head, the body, the answer that is not read. It begins when the stage
   is first seen and is not begun anew by single bytes; only of the answer any progress counts, for that may be long.
2. Time that our own handlers take is not counted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.core.clock import Clock

TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may take for each stage."""

    idle_s: float = 25.0  #: a little above what uvicorn itself gives after an answer
    head_s: float = 10.0
    body_s: float = 20.0
    unread_s: float = 30.0


DEFAULT_PATIENCE = Patience()


class Sweep:
    """Looks at all connections once a second; ``connections`` gives those that are open."""

    def __init__(
        self, connections: Callable[[], Iterable[H11Protocol]], clock: Clock, patience: Patience = DEFAULT_PATIENCE
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._patience = patience
        self._since: dict[H11Protocol, tuple[object, float]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep_s(TICK_S)
            self.look()

    def look(self) -> None:
        """End those that took too long."""
        now_s = self._clock.monotonic_s()
        before, self._since = self._since, {}
        for connection in list(self._connections()):
            stage, may_s = self._stage(connection)
            if stage is None:
                continue
            known = before.get(connection)
            since_s = known[1] if known is not None and known[0] == stage else now_s
            if now_s - since_s >= may_s:
                connection.transport.abort()
            else:
                self._since[connection] = stage, since_s

    def _stage(self, connection: H11Protocol) -> tuple[object, float]:
        """What it waits for its client with, and for how long; None: it does not."""
        transport, http = connection.transport, connection.conn
        if transport.is_closing():
            return None, 0
        unread = transport.get_write_buffer_size()
        if unread:
            return ("unread", connection.cycle, unread), self._patience.unread_s
        if http.their_state is h11.IDLE:
            begun = bool(http.trailing_data[0])
            return ("head" if begun else "idle", connection.cycle), (
                self._patience.head_s if begun else self._patience.idle_s
            )
        if http.their_state is h11.SEND_BODY:
            return ("body", connection.cycle), self._patience.body_s
        return None, 0
