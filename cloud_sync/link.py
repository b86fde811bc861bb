"""Connections to a broker, one after the other: which MQTT version, how long to wait, what to say of it.

Rules of this file:

1. MQTT 5 first; 3.1.1 at once when the broker refuses the version. Old brokers close the connection on a version that
   they do not know, or choke on it in silence: without a CONNACK the two versions are tried in turn.
2. Back-off is ours: 1 to 60 s, jittered, monotonic; it starts again only after a connection that lasted. One log line
   when a fault begins and one when it ends.
3. A link too slow for its keep-alive (data in the pipe, so that the ping's answer is late) is told from a dead one by
   patience: it doubles with each connection that ends so while data is unacknowledged.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from cloud_sync.mqtt import Cause, End, LinkStats, Session
from cloud_sync.settings import LinkSettings

_log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
#: A connection that lasted this long was a good one: the next back-off starts small again.
GOOD_CONNECTION_S = 60.0
#: Two clients with one id throw each other out for ever: the least wait then.
TAKEN_OVER_BACKOFF_S = 30.0
MAX_PATIENCE = 16


class MqttLink:
    """Connections to one broker, one after the other, for as long as ``run`` runs.

    ``jitter`` gives numbers from 0 to 1; a wait is between half of its nominal length and the whole.
    """

    def __init__(self, settings: LinkSettings, clock: Clock, jitter: Callable[[], float] | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._jitter = jitter or random.SystemRandom().random
        self._version5 = True
        self._patience = 1
        self._backoff_s = FIRST_BACKOFF_S
        self._faulty = False
        self.stats = LinkStats()

    async def run(self, serve: Callable[[Session], Awaitable[None]]) -> None:
        """Connect, and again after each end, until cancelled or until ``serve`` returns.

        ``serve`` runs for the life of one connection and is cancelled at its end. When ``run`` itself is cancelled,
        ``serve`` is cancelled while the connection still stands and may say goodbye. What ``serve`` raises on its own
        account comes out of ``run``, but for ``Unavailable``, which ends the connection only.
        """
        while True:
            session = Session(self._settings, self._clock, self.stats, version5=self._version5, patience=self._patience)
            began_s = self._clock.monotonic_s()
            opened, failure = False, None
            try:
                opened = await session.open()
                if opened:
                    self._log_opened(session)
                    if await _serve_until_end(session, serve):
                        return
            except Unavailable as error:
                failure = error
            finally:
                unacknowledged = session.unacknowledged
                end = await session.close()
                self.stats.connected = False
            if failure is not None and end.cause is Cause.CLOSED:
                end = End(Cause.LOST, failure.reason)
            await self._wait_for_next(end, began_s, opened=opened, unacknowledged=unacknowledged)

    def _log_opened(self, session: Session) -> None:
        self.stats.connected = True
        self.stats.connections += 1
        self.stats.protocol = session.protocol
        self.stats.next_try_s = None
        self._faulty = False
        _log.info("connected to %s, MQTT %s", self._settings.url, session.protocol)

    async def _wait_for_next(self, end: End, began_s: float, *, opened: bool, unacknowledged: int) -> None:
        if end.cause is Cause.VERSION and self._version5:
            self._version5 = False
            return
        self.stats.failures += 1
        self.stats.last_error = end.reason
        if end.cause in {Cause.VERSION, Cause.NO_CONNACK}:
            self._version5 = not self._version5
        if end.cause is Cause.SILENT and unacknowledged:
            self._patience = min(self._patience * 2, MAX_PATIENCE)
        elif opened:
            self._patience = max(self._patience // 2, 1)
        if opened and self._clock.monotonic_s() - began_s >= GOOD_CONNECTION_S:
            self._backoff_s = FIRST_BACKOFF_S
        if end.cause is Cause.TAKEN_OVER:
            self._backoff_s = MAX_BACKOFF_S
        if not self._faulty:
            self._faulty = True
            _log.warning("no connection to %s: %s; trying again", self._settings.url, end.reason)
        least_s = TAKEN_OVER_BACKOFF_S if end.cause is Cause.TAKEN_OVER else 0.0
        wait_s = max(self._backoff_s * (0.5 + 0.5 * self._jitter()), least_s)
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        self.stats.next_try_s = self._clock.monotonic_s() + wait_s
        await self._clock.sleep_s(wait_s)


async def _serve_until_end(session: Session, serve: Callable[[Session], Awaitable[None]]) -> bool:
    """Run ``serve`` for as long as the connection stands; True when it returned by itself. Raises what it raises."""
    server = asyncio.ensure_future(serve(session))
    ended = asyncio.ensure_future(session.wait_ended())
    try:
        await asyncio.wait((server, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        by_itself = server.done()
        server.cancel()
        ended.cancel()
        await asyncio.gather(server, ended, return_exceptions=True)
    if not server.cancelled():
        server.result()
    return by_itself
