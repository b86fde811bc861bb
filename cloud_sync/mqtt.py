"""One connection to a broker, the event loop's side. What follows on its end decides ``link.py``.

Rules of this file:

1. One session per connection, thrown away with it. Nothing that is unacknowledged survives in memory: who
   publishes gets every unfinished future failed with ``Unavailable`` and sends again from his own store.
2. paho and its thread are behind ``mqtt_wire.py``. What happens there is handed to the event loop, which all state here
   belongs to. A thread that dies, for whatever reason, is a connection that ended.
3. paho's queue never grows: ``Session.publish`` waits until the record fits into a window of ``MAX_IN_FLIGHT`` messages
   and ``MAX_IN_FLIGHT_BYTES`` (one larger message goes alone), and into what an MQTT 5 broker says it takes. On a
   careful connection (``suspicion.py``) one message goes at a time.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from cloud_sync.credentials import Proof
from cloud_sync.mqtt_facts import Cause, End, Limits, Message
from cloud_sync.mqtt_wire import Wire, matches
from cloud_sync.settings import Broker, LinkSettings
from cloud_sync.suspicion import CAREFUL_MESSAGES, Refused, Suspicion

__all__ = ["LEAVE_BEHIND_S", "MAX_IN_FLIGHT", "MAX_IN_FLIGHT_BYTES", "LinkStats", "Message", "Refused", "Session"]

MAX_IN_FLIGHT = 100
MAX_IN_FLIGHT_BYTES = 256 * 1024
MAX_INBOX = 1000
#: What another client may be doing is said for so long after it showed itself last.
TAKEN_OVER_NEWS_S = 300.0
#: How long we wait for a connection's thread before we leave it behind.
LEAVE_BEHIND_S = 1.5


@dataclass(slots=True)
class LinkStats:
    """What the link has seen. Owned by the event loop."""

    connected: bool = False
    protocol: str = ""  #: ``5`` or ``3.1.1``, of the newest connection
    connections: int = 0
    failures: int = 0  #: connections that ended or never began
    last_error: str = ""
    next_try_s: float | None = None  #: monotonic time of the next try, while waiting for it
    published: int = 0
    acknowledged: int = 0
    bytes_published: int = 0
    inbox_dropped: int = 0
    #: Monotonic time at which another client took the connection over, or seems to have; None: never.
    taken_over_s: float | None = None

    def duplicate(self, now_s: float) -> bool:
        """Whether another client seems to have our client id, at this monotonic time."""
        return self.taken_over_s is not None and now_s - self.taken_over_s < TAKEN_OVER_NEWS_S


class Session:
    """One connection that stands. All methods are called on the event loop."""

    def __init__(
        self,
        settings: LinkSettings,
        broker: Broker,
        prove: Callable[[], Proof],
        clock: Clock,
        stats: LinkStats,
        suspicion: Suspicion,
        *,
        version5: bool,
        patience: int,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stats = stats
        self._suspicion = suspicion
        self._careful = CAREFUL_MESSAGES if suspicion.careful else 0  #: so many more go one at a time
        self._last: tuple[str, bytes, bool] | None = None
        self._version5 = version5
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[bool] = self._loop.create_future()
        self._ended: asyncio.Future[End] = self._loop.create_future()
        self._room = asyncio.Event()
        self._unacked: dict[int, tuple[asyncio.Future[None], int, str]] = {}
        self._unacked_bytes = 0
        self._subscribing: dict[int, asyncio.Future[None]] = {}
        self._inboxes: dict[str, asyncio.Queue[Message]] = {}  #: all together hold ``MAX_INBOX``
        self._routes: dict[str, str] = {}  #: from topic filters to inboxes
        self._window = MAX_IN_FLIGHT
        self.resumed = False  #: the broker has kept the subscriptions, and what came meanwhile
        self.max_packet_bytes = (1 << 28) - 1  #: the largest message that the broker takes
        self.acknowledged_any = False  #: at least one PUBACK came
        self._arriving = threading.Semaphore(MAX_INBOX)  #: taken on the thread, released here
        self._wire = Wire(settings, broker, prove, clock, self, version5=version5, patience=patience)

    @property
    def protocol(self) -> str:
        """``5`` or ``3.1.1``."""
        return "5" if self._version5 else "3.1.1"

    @property
    def unacknowledged(self) -> int:
        """Messages that wait for their PUBACK."""
        return len(self._unacked)

    @property
    def suspect(self) -> tuple[str, bytes, bool] | None:
        """Topic, payload and retain of the message that was alone on its way on a careful connection."""
        return self._last if self._careful and len(self._unacked) == 1 else None

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, correlation_data: bytes = b"", qos: int = 1
    ) -> "asyncio.Future[None]":
        """Wait for room in the window, hand the message to the network, and return the future of its PUBACK.

        ``correlation_data`` goes along where the connection speaks MQTT 5. With ``qos`` 0 the future is done when the
        client has written the message: that says nothing of the broker.
        Raises ``Unavailable`` when the connection has ended: then the message was not handed over. The future fails
        with ``Unavailable`` when the connection ends before the PUBACK (the broker may have the message or not), with
        ``Refused`` when the broker refuses this message.
        """
        op = f"publish {topic}"
        if len(payload) + len(topic) + len(correlation_data) + 16 > self.max_packet_bytes:
            raise Refused(op, f"{len(payload)} bytes are more than the broker takes ({self.max_packet_bytes})")
        self._suspicion.check(topic, payload)
        while not self._ended.done() and not self._fits(len(payload)):
            self._room.clear()
            await self._room.wait()
        if self._ended.done():
            raise Unavailable(op, self._ended.result().reason)
        mid = self._wire.publish(topic, payload, qos=qos, retain=retain, correlation_data=correlation_data)
        acknowledged: asyncio.Future[None] = self._loop.create_future()
        self._asked()
        self._unacked[mid] = (acknowledged, len(payload), topic)
        self._last = topic, payload, retain
        self._unacked_bytes += len(payload)
        self._stats.published += 1
        self._stats.bytes_published += len(payload)
        return acknowledged

    async def subscribe(self, *filters: str, inbox: str = "", again: bool = False) -> None:
        """Subscribe with QoS 1 and wait for the broker's word. Raises ``Refused`` or ``Unavailable``.

        What these filters match is given by ``next_message(inbox)``; also what came before they were named here.
        ``again``: what is retained comes also where the broker has kept this subscription.
        """
        if self._ended.done():
            raise Unavailable(f"subscribe {' '.join(filters)}", self._ended.result().reason)
        mid = self._wire.subscribe(filters, again=again)
        self._asked()
        self._subscribing[mid] = self._loop.create_future()
        self._route(filters, inbox)
        await self._subscribing[mid]

    async def next_message(self, inbox: str = "") -> Message:
        """The next message of an inbox. It must be acknowledged with ``acknowledge`` when it is dealt with."""
        message = await self._inbox(inbox).get()
        self._arriving.release()
        return message

    def _inbox(self, name: str) -> "asyncio.Queue[Message]":
        return self._inboxes.setdefault(name, asyncio.Queue())

    def _route(self, filters: tuple[str, ...], inbox: str) -> None:
        """From here on what these filters match goes to that inbox, and what waits in the one for all others too."""
        self._routes.update(dict.fromkeys(filters, inbox))
        others = self._inbox("")
        for _ in range(others.qsize()):
            self._arrived(others.get_nowait())

    def _arrived(self, message: Message) -> None:
        found = (name for topic_filter, name in self._routes.items() if matches(topic_filter, message.topic))
        self._inbox(next(found, "")).put_nowait(message)

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that the message is dealt with (QoS 1). Nothing happens after the connection has ended."""
        if not self._ended.done():
            self._wire.acknowledge(message)

    def _fits(self, size: int) -> bool:
        if not self._unacked:
            return True
        return (
            not self._careful
            and len(self._unacked) < self._window
            and self._unacked_bytes + size <= MAX_IN_FLIGHT_BYTES
        )

    def _asked(self) -> None:
        """The broker is to answer something; its time begins with the first thing that it leaves unanswered."""
        if not self._wire.waiting:
            self._wire.progress_s = self._clock.monotonic_s()
        self._wire.waiting = True

    def _answered(self) -> None:
        self._wire.progress_s = self._clock.monotonic_s()
        self._wire.waiting = bool(self._unacked or self._subscribing)

    # What the link does with a session.

    async def open(self) -> bool:
        """Start the thread and wait for the broker's CONNACK; False when the connection ended before."""
        threading.Thread(target=self._wire.run, name=f"mqtt-{self._settings.client_id}", daemon=True).start()
        return await self._opened

    async def wait_ended(self) -> End:
        """Wait until the connection has ended, and say why."""
        return await asyncio.shield(self._ended)

    async def close(self) -> End:
        """Disconnect in good order if the connection still stands, and wait for the thread, but not for long."""
        if not self._ended.done():
            self._wire.close()
            timeout = asyncio.ensure_future(self._clock.sleep_s(LEAVE_BEHIND_S))
            ended = asyncio.ensure_future(self.wait_ended())
            try:
                await asyncio.wait((ended, timeout), return_when=asyncio.FIRST_COMPLETED)
            finally:
                timeout.cancel()
                ended.cancel()
            self._on_end(End(Cause.CLOSED, "closed"))
        return self._ended.result()

    def _on_opened(self, limits: Limits) -> None:
        if self._opened.done():
            return
        self.resumed = limits.resumed
        self._window = min(MAX_IN_FLIGHT, limits.window or MAX_IN_FLIGHT)
        self.max_packet_bytes = limits.max_packet_bytes or self.max_packet_bytes
        self._opened.set_result(True)

    def _on_puback(self, mid: int, refusal: str) -> None:
        acknowledged, size, topic = self._unacked.pop(mid, (None, 0, ""))
        if acknowledged is None:
            return
        self.acknowledged_any = True
        self._careful = max(self._careful - 1, 0)
        self._suspicion.acknowledged(topic)
        self._unacked_bytes -= size
        self._answered()
        self._room.set()
        if refusal:
            _fail(acknowledged, Refused("publish", f"the broker refuses the message: {refusal}"))
        elif not acknowledged.done():
            self._stats.acknowledged += 1
            acknowledged.set_result(None)

    def _on_suback(self, mid: int, refusal: str) -> None:
        subscribed = self._subscribing.pop(mid, None)
        self._answered()
        if subscribed is None or subscribed.done():
            return
        if refusal:
            _fail(subscribed, Refused("subscribe", f"the broker refuses the subscription: {refusal}"))
        else:
            subscribed.set_result(None)

    def _on_end(self, end: End) -> None:
        if self._ended.done():
            return
        self._ended.set_result(end)
        if not self._opened.done():
            self._opened.set_result(False)
        lost = Unavailable("mqtt connection", end.reason)
        for acknowledged, *_ in self._unacked.values():
            _fail(acknowledged, lost)
        for subscribed in self._subscribing.values():
            _fail(subscribed, lost)
        self._room.set()

    # ``Ears``: on the wire's thread.

    def opened(self, limits: Limits) -> None:
        """See ``Ears``."""
        self._to_loop(self._on_opened, limits)

    def acknowledged(self, mid: int, refusal: str) -> None:
        """See ``Ears``."""
        self._to_loop(self._on_puback, mid, refusal)

    def subscribed(self, mid: int, refusal: str) -> None:
        """See ``Ears``."""
        self._to_loop(self._on_suback, mid, refusal)

    def arrived(self, message: Message) -> None:
        """See ``Ears``."""
        if self._arriving.acquire(blocking=False):
            self._to_loop(self._arrived, message)
        else:
            self._to_loop(self._on_dropped)

    def ended(self, end: End) -> None:
        """See ``Ears``."""
        self._to_loop(self._on_end, end)

    def _on_dropped(self) -> None:
        self._stats.inbox_dropped += 1

    def _to_loop(self, function: Callable[..., None], *args: object) -> None:
        # The loop may be closed already when an abandoned thread comes to its end.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


def _fail(future: "asyncio.Future[None]", error: Exception) -> None:
    """Fail a future that perhaps nobody waits for any more."""
    if not future.done():
        future.set_exception(error)
        future.exception()
