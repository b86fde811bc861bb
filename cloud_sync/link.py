"""Connections to a broker, one after the other: which node, which MQTT version, how long to wait, what to say of it.

Rules of this file:

1. MQTT 5 first; 3.1.1 at once when the broker refuses the version. Old brokers close the connection on a version that
   they do not know, or choke on it in silence: without a CONNACK the two versions are tried in turn.
2. Back-off is ours: 1 to 60 s, jittered, monotonic; it starts again only after a connection that lasted. One log line
   when a fault begins and one when it ends.
3. A link too slow for its keep-alive (data in the pipe, so that the ping's answer is late) is told from a dead one by
   patience: it doubles with each connection that ends so while data is unacknowledged and nothing was acknowledged.
4. Of a cluster's nodes the next one is tried after each end. The back-off grows when all had their turn.
5. Two clients with one id throw each other out for ever, so each waits long. MQTT 5 could tell it, Mosquitto 2.0 does
   not: five connections in a row that the broker closed early are taken for it.
6. Renewed files are looked for while a connection stands; it is closed in good order and made again with them.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from cloud_sync.credentials import Credentials
from cloud_sync.mqtt import LinkStats, Session
from cloud_sync.mqtt_facts import Cause, End
from cloud_sync.settings import LinkSettings
from cloud_sync.suspicion import Suspicion

_log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
#: A connection that lasted this long was a good one: the next back-off starts small again.
GOOD_CONNECTION_S = 60.0
#: The least wait when another client has our id.
TAKEN_OVER_BACKOFF_S = 30.0
#: So many connections in a row that the broker closed early look like it.
EARLY_ENDS = 5
#: How often the files are looked at; two looks are needed.
LOOK_EVERY_S = 10.0
MAX_PATIENCE = 16


_Talk_co = TypeVar("_Talk_co", covariant=True)


class Link(Protocol[_Talk_co]):
    """Connections, one after the other, to somebody who needs so much of each; ``MqttLink`` is one."""

    @property
    def stats(self) -> LinkStats:
        """What the link has seen."""

    async def run(self, serve: Callable[[_Talk_co], Awaitable[None]]) -> None:
        """Connect for ever; ``serve`` runs for the life of each connection."""


class MqttLink:
    """Connections to one broker, one after the other, for as long as ``run`` runs.

    ``jitter`` gives numbers from 0 to 1; a wait is between half of its nominal length and the whole.
    """

    def __init__(self, settings: LinkSettings, clock: Clock, jitter: Callable[[], float] | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._jitter = jitter or random.SystemRandom().random
        self._credentials = Credentials(settings)
        self._node = 0
        self._version5 = [True] * len(settings.brokers)
        self._spoke5: set[int] = set()  #: nodes that did: 3.1.1 is for once there
        self._patience = 1
        self._backoff_s = FIRST_BACKOFF_S
        self._tries = 0
        self._early_ends = 0
        self._suspicion = Suspicion()
        self._faulty = False
        self.stats = LinkStats()

    async def run(self, serve: Callable[[Session], Awaitable[None]]) -> None:
        """Connect, and again after each end, until cancelled or until ``serve`` returns.

        ``serve`` runs for the life of one connection and is cancelled at its end. When ``run`` itself is cancelled,
        ``serve`` is cancelled while the connection still stands and may say goodbye. What ``serve`` raises on its own
        account comes out of ``run``, but for ``Unavailable``, which ends the connection only.
        """
        while True:
            session = self._session()
            began_s = self._clock.monotonic_s()
            opened, renewed, failure = False, False, None
            try:
                opened = await session.open()
                if opened:
                    self._log_opened(session)
                    self._credentials.opened()
                    served, renewed = await self._serve(session, serve)
                    if served:
                        return
            except Unavailable as error:
                failure = error
            finally:
                unacknowledged = session.unacknowledged
                end = await session.close()
                self.stats.connected = False
            if renewed and end.cause is Cause.CLOSED:
                continue
            if failure is not None and end.cause is Cause.CLOSED:
                end = End(Cause.LOST, failure.reason)
            if opened:
                self._learn(session, end, young=self._clock.monotonic_s() - began_s < GOOD_CONNECTION_S)
            slow = bool(unacknowledged) and not session.acknowledged_any
            await self._wait_for_next(end, began_s, opened=opened, slow=slow)

    def _learn(self, session: Session, end: End, *, young: bool) -> None:
        """Whether a single message may be why the broker closed the connection, which had come to stand."""
        if young and end.cause is Cause.SHUT and session.unacknowledged:
            self._suspicion.closed_early(session.suspect)
        else:
            self._suspicion.stood()

    def _session(self) -> Session:
        node = self._node
        ports = self._settings, self._settings.brokers[node], self._credentials.proof, self._clock, self.stats
        return Session(*ports, self._suspicion, version5=self._version5[node], patience=self._patience)

    async def _serve(self, session: Session, serve: Callable[[Session], Awaitable[None]]) -> tuple[bool, bool]:
        """Run ``serve`` for as long as the connection stands: whether it returned by itself, or renewed files ended it.

        Raises what ``serve`` raises.
        """
        server = asyncio.ensure_future(serve(session))
        ended = asyncio.ensure_future(session.wait_ended())
        renewed = asyncio.ensure_future(self._renewed())
        try:
            await asyncio.wait((server, ended, renewed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            by_itself, by_files = server.done(), renewed.done()
            for task in (server, ended, renewed):
                task.cancel()
            await asyncio.gather(server, ended, renewed, return_exceptions=True)
        for task in (server, renewed):
            if not task.cancelled():
                task.result()
        return by_itself, by_files

    async def _renewed(self) -> None:
        """Wait until there are new files that can be used."""
        if not self._settings.files:
            await asyncio.Event().wait()
        while True:
            await self._clock.sleep_s(LOOK_EVERY_S)
            if await asyncio.to_thread(self._credentials.look):
                return

    def _log_opened(self, session: Session) -> None:
        self.stats.connected = True
        self.stats.connections += 1
        self.stats.protocol = session.protocol
        self.stats.next_try_s = None
        self._faulty = False
        if self._version5[self._node]:
            self._spoke5.add(self._node)
        _log.info("connected to %s, MQTT %s", self._settings.brokers[self._node].url, session.protocol)

    async def _wait_for_next(self, end: End, began_s: float, *, opened: bool, slow: bool) -> None:
        """Settle what the next connection does differently, and wait for its time."""
        node = self._node
        if end.cause is Cause.VERSION and self._version5[node]:
            self._version5[node] = False
            return
        self.stats.failures += 1
        if end.cause in {Cause.VERSION, Cause.NO_CONNACK}:
            self._version5[node] = not self._version5[node]
        if not opened:
            self._credentials.failed()
        elif node in self._spoke5:
            self._version5[node] = True
        if end.cause is Cause.SILENT and slow:
            self._patience = min(self._patience * 2, MAX_PATIENCE)
        elif opened:
            self._patience = max(self._patience // 2, 1)
        good = opened and self._clock.monotonic_s() - began_s >= GOOD_CONNECTION_S
        if good:
            self._backoff_s, self._tries = FIRST_BACKOFF_S, 0
        end = self._doubted(end, opened=opened, early=opened and not good)
        if not self._faulty:
            self._faulty = True
            _log.warning("no connection to %s: %s; trying again", self._settings.brokers[node].url, end.reason)
        self._node = (node + 1) % len(self._version5)
        await self._back_off(end)

    def _doubted(self, end: End, *, opened: bool, early: bool) -> End:
        """The end as it is, or as a take-over where it looks like one."""
        if end.cause is not Cause.TAKEN_OVER:
            if opened:
                self._early_ends = self._early_ends + 1 if early and end.cause is Cause.SHUT else 0
            if self._early_ends >= EARLY_ENDS:
                told = f"{end.reason} {self._early_ends} times in a row; does another client call itself"
                end = End(Cause.TAKEN_OVER, f"{told} {self._settings.client_id}, or may we not write somewhere?")
        self.stats.last_error = end.reason
        if end.cause is Cause.TAKEN_OVER:
            self.stats.taken_over_s = self._clock.monotonic_s()
        return end

    async def _back_off(self, end: End) -> None:
        wait_s = self._backoff_s * (0.5 + 0.5 * self._jitter())
        if end.cause is Cause.TAKEN_OVER:
            wait_s = TAKEN_OVER_BACKOFF_S * (1 + self._jitter())
        self._tries += 1
        if self._tries % len(self._version5) == 0:
            self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        self.stats.next_try_s = self._clock.monotonic_s() + wait_s
        await self._clock.sleep_s(wait_s)
