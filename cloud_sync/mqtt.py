"""The sole owner of paho and its thread: one connection to a broker. What follows on its end decides ``link.py``.

It is longer than other files because the two sides of a connection, thread and event loop, must be read together.
Rules of this file:

1. One client object per connection, thrown away with it. Nothing that is unacknowledged survives in memory: who
   publishes gets every unfinished future failed with ``Unavailable`` and sends again from his own store.
2. Everything that paho calls runs on the connection's thread and does one thing: it hands the fact to the event loop.
   All state belongs to the loop. A thread that dies, for whatever reason, is a connection that ended.
3. paho's queue never grows: ``Session.publish`` waits until the record fits into a window of ``MAX_IN_FLIGHT`` messages
   and ``MAX_IN_FLIGHT_BYTES`` (one larger message goes alone), and into what an MQTT 5 broker says it takes.
4. A broker that closes or refuses is told from one that is silent, and from one to which the link is only slow: the
   cause of the end is a value.
"""

import asyncio
import contextlib
import enum
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.core.clock import Clock
from agent.core.errors import BadData, Unavailable
from cloud_sync.settings import LinkSettings

MAX_IN_FLIGHT = 100
MAX_IN_FLIGHT_BYTES = 256 * 1024
MAX_INBOX = 1000

CONNACK_TIMEOUT_S = 15.0
#: Without any PUBACK for so long, with records waiting and nothing left to write, the broker does not acknowledge.
PUBACK_TIMEOUT_S = 120.0
#: How long a connection may take to say goodbye, and how long we wait for its thread before we leave it behind.
CLOSE_TIMEOUT_S = 1.0
LEAVE_BEHIND_S = 1.5

_FAILURE = 0x80
_UNSUPPORTED_VERSION = 0x84
_NOT_AUTHORIZED = 0x87
_TAKEN_OVER = 0x8E
_TOPIC_NAME_INVALID = 0x90
_QUOTA_EXCEEDED = 0x97
#: MQTT 5, 3.8.3.1: what is retained is sent to a new subscription only, not with each connection.
_RETAINED_ONCE = 1
#: A PUBACK with one of these says nothing of the record: every record would be refused now, so the connection ends.
_REFUSES_ALL = frozenset({_NOT_AUTHORIZED, _TOPIC_NAME_INVALID, _QUOTA_EXCEEDED})


class Refused(BadData):
    """The broker took the connection but refused this one message or subscription."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that came in, with MQTT 5's response topic and correlation data where it has them."""

    topic: str
    payload: bytes
    retain: bool = False
    duplicate: bool = False
    response_topic: str = ""
    correlation_data: bytes = b""
    mid: int = 0
    qos: int = 0
    received_s: float = 0.0  #: monotonic
    expires_s: int | None = None  #: how long it is still good for, where the sender limited that (MQTT 5, 3.3.2.3.3)


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


class Cause(enum.Enum):
    """Why a connection ended, as far as the next one must know."""

    CLOSED = enum.auto()  #: we closed it
    LOST = enum.auto()
    VERSION = enum.auto()  #: the broker says that it does not speak this version
    NO_CONNACK = enum.auto()  #: it closed the connection without a word, or said nothing: perhaps for the version
    TAKEN_OVER = enum.auto()
    SILENT = enum.auto()  #: no answer to a ping, or no PUBACK


@dataclass(frozen=True, slots=True)
class End:
    """The end of a connection, in words for people too."""

    cause: Cause
    reason: str


class Session:
    """One connection that stands. All methods are called on the event loop."""

    def __init__(
        self, settings: LinkSettings, clock: Clock, stats: LinkStats, *, version5: bool, patience: int
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stats = stats
        self._version5 = version5
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[bool] = self._loop.create_future()
        self._ended: asyncio.Future[End] = self._loop.create_future()
        self._room = asyncio.Event()
        self._unacked: dict[int, tuple[asyncio.Future[None], int]] = {}
        self._unacked_bytes = 0
        self._subscribing: dict[int, asyncio.Future[None]] = {}
        self._inbox: asyncio.Queue[Message] = asyncio.Queue(MAX_INBOX)
        self._window = MAX_IN_FLIGHT
        self.resumed = False  #: the broker has kept the subscriptions, and what came meanwhile
        self.max_packet_bytes = (1 << 28) - 1  #: the largest message that the broker takes
        # Read by the thread too. ``_progress_s`` is written by both: either one's time will do.
        self._arriving = threading.Semaphore(MAX_INBOX)
        self._closing_since: float | None = None
        self._progress_s = clock.monotonic_s()
        self._waiting = False
        self._client: paho.Client | None = None
        # The thread's own.
        self._stood = False
        self._refusal: End | None = None

    @property
    def protocol(self) -> str:
        """``5`` or ``3.1.1``."""
        return "5" if self._version5 else "3.1.1"

    @property
    def unacknowledged(self) -> int:
        """Messages that wait for their PUBACK."""
        return len(self._unacked)

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, correlation_data: bytes = b""
    ) -> "asyncio.Future[None]":
        """Wait for room in the window, hand the message to the network (QoS 1), and return the future of its PUBACK.

        ``correlation_data`` goes along where the connection speaks MQTT 5.
        Raises ``Unavailable`` when the connection has ended: then the message was not handed over. The future fails
        with ``Unavailable`` when the connection ends before the PUBACK (the broker may have the message or not), with
        ``Refused`` when the broker refuses this message.
        """
        op = f"publish {topic}"
        if len(payload) + len(topic) + len(correlation_data) + 16 > self.max_packet_bytes:
            raise Refused(op, f"{len(payload)} bytes are more than the broker takes ({self.max_packet_bytes})")
        while not self._ended.done() and not self._fits(len(payload)):
            self._room.clear()
            await self._room.wait()
        if self._ended.done() or self._client is None:
            raise Unavailable(op, self._ended.result().reason if self._ended.done() else "not connected")
        properties = None
        if correlation_data and self._version5:
            properties = _properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation_data
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Unavailable(op, paho.error_string(info.rc))
        acknowledged: asyncio.Future[None] = self._loop.create_future()
        if not self._unacked:
            self._progress_s = self._clock.monotonic_s()
        self._unacked[info.mid] = (acknowledged, len(payload))
        self._unacked_bytes += len(payload)
        self._waiting = True
        self._stats.published += 1
        self._stats.bytes_published += len(payload)
        return acknowledged

    async def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1 and wait for the broker's word. Raises ``Refused`` or ``Unavailable``."""
        op = f"subscribe {' '.join(filters)}"
        if self._ended.done() or self._client is None:
            raise Unavailable(op, "not connected")
        if self._version5 and self._settings.session_expiry_s:
            options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=_RETAINED_ONCE)
            code, mid = self._client.subscribe([(topic_filter, options) for topic_filter in filters])
        else:
            code, mid = self._client.subscribe([(topic_filter, 1) for topic_filter in filters])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise Unavailable(op, paho.error_string(code))
        self._subscribing[mid] = self._loop.create_future()
        await self._subscribing[mid]

    async def next_message(self) -> Message:
        """The next message of the subscriptions. It must be acknowledged with ``acknowledge`` when it is dealt with."""
        message = await self._inbox.get()
        self._arriving.release()
        return message

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that the message is dealt with (QoS 1). Nothing happens after the connection has ended."""
        if self._client is not None and not self._ended.done():
            self._client.ack(message.mid, message.qos)

    def _fits(self, size: int) -> bool:
        if not self._unacked:
            return True
        return len(self._unacked) < self._window and self._unacked_bytes + size <= MAX_IN_FLIGHT_BYTES

    # What the link does with a session.

    async def open(self) -> bool:
        """Start the thread and wait for the broker's CONNACK; False when the connection ended before."""
        threading.Thread(target=self._thread, name=f"mqtt-{self._settings.client_id}", daemon=True).start()
        return await self._opened

    async def wait_ended(self) -> End:
        """Wait until the connection has ended, and say why."""
        return await asyncio.shield(self._ended)

    async def close(self) -> End:
        """Disconnect in good order if the connection still stands, and wait for the thread, but not for long."""
        if not self._ended.done():
            self._closing_since = self._clock.monotonic_s()
            if self._client is not None and self._client.is_connected():
                self._client.disconnect()
            timeout = asyncio.ensure_future(self._clock.sleep_s(LEAVE_BEHIND_S))
            ended = asyncio.ensure_future(self.wait_ended())
            try:
                await asyncio.wait((ended, timeout), return_when=asyncio.FIRST_COMPLETED)
            finally:
                timeout.cancel()
                ended.cancel()
            self._on_end(End(Cause.CLOSED, "closed"))
        return self._ended.result()

    def _on_opened(self, client: paho.Client, window: int, max_packet_bytes: int, resumed: bool) -> None:  # noqa: FBT001
        if self._opened.done():
            return
        self._client = client
        self.resumed = resumed
        self._window = min(MAX_IN_FLIGHT, window)
        self.max_packet_bytes = min(self.max_packet_bytes, max_packet_bytes)
        self._opened.set_result(True)

    def _on_puback(self, mid: int, refusal: str) -> None:
        acknowledged, size = self._unacked.pop(mid, (None, 0))
        if acknowledged is None:
            return
        self._progress_s = self._clock.monotonic_s()
        self._unacked_bytes -= size
        self._waiting = bool(self._unacked)
        self._room.set()
        if refusal:
            _fail(acknowledged, Refused("publish", f"the broker refuses the message: {refusal}"))
        elif not acknowledged.done():
            self._stats.acknowledged += 1
            acknowledged.set_result(None)

    def _on_suback(self, mid: int, refusal: str) -> None:
        subscribed = self._subscribing.pop(mid, None)
        if subscribed is None or subscribed.done():
            return
        if refusal:
            _fail(subscribed, Refused("subscribe", f"the broker refuses the subscription: {refusal}"))
        else:
            subscribed.set_result(None)

    def _on_end(self, end: End) -> None:
        if self._ended.done():
            return
        self._client = None
        self._ended.set_result(end)
        if not self._opened.done():
            self._opened.set_result(False)
        lost = Unavailable("mqtt connection", end.reason)
        for acknowledged, _ in self._unacked.values():
            _fail(acknowledged, lost)
        for subscribed in self._subscribing.values():
            _fail(subscribed, lost)
        self._room.set()

    # The thread's side.

    def _thread(self) -> None:
        end = End(Cause.LOST, "the client's thread died")
        try:
            end = self._drive()
        except (OSError, ValueError) as error:
            end = End(Cause.LOST, _text(error))
        finally:
            self._to_loop(self._on_end, end)

    def _drive(self) -> End:
        """Connect, run the network loop until the connection ends, and say why it did."""
        settings, keepalive_s = self._settings, self._settings.keepalive_s * self._patience
        client = self._make_client()
        sock: paho.SocketLike | None = None
        try:
            # paho finds a dead link within two of its keep-alives: three quarters give 1.5 of the configured one.
            if self._version5:
                clean, properties = not settings.session_expiry_s, self._connect_properties()
                client.connect(
                    settings.host, settings.port, keepalive_s * 3 // 4, clean_start=clean, properties=properties
                )
            else:
                client.connect(settings.host, settings.port, keepalive_s * 3 // 4)
            sock = client.socket()
            began_s = self._progress_s = self._clock.monotonic_s()
            code = MQTTErrorCode.MQTT_ERR_SUCCESS
            while code == MQTTErrorCode.MQTT_ERR_SUCCESS:
                code = client.loop(timeout=0.5)
                overdue = self._overdue(client, began_s)
                if overdue is not None:
                    return overdue
        finally:
            if sock is not None:
                sock.close()
            _forget_callbacks(client)
        return self._why_ended(code)

    def _connect_properties(self) -> Properties | None:
        settings = self._settings
        if not settings.session_expiry_s:
            return None
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.ReceiveMaximum = settings.receive_maximum
        return properties

    def _overdue(self, client: paho.Client, began_s: float) -> End | None:
        now_s = self._clock.monotonic_s()
        closing_since_s = self._closing_since
        if closing_since_s is not None and (not self._stood or now_s - closing_since_s > CLOSE_TIMEOUT_S):
            return End(Cause.CLOSED, "closed")
        if not client.is_connected():
            late = closing_since_s is None and now_s - began_s > CONNACK_TIMEOUT_S
            return End(Cause.NO_CONNACK, f"no CONNACK within {CONNACK_TIMEOUT_S:.0f} s") if late else None
        if client.want_write() or not self._waiting:
            self._progress_s = now_s
        elif now_s - self._progress_s > PUBACK_TIMEOUT_S * self._patience:
            return End(Cause.SILENT, f"no PUBACK for {PUBACK_TIMEOUT_S * self._patience:.0f} s")
        return None

    def _why_ended(self, code: MQTTErrorCode) -> End:
        if self._closing_since is not None:
            return End(Cause.CLOSED, "closed")
        if self._refusal is not None:
            return self._refusal
        if code == MQTTErrorCode.MQTT_ERR_KEEPALIVE:
            return End(Cause.SILENT, f"no answer to a ping within {self._settings.keepalive_s * self._patience} s")
        return End(Cause.LOST if self._stood else Cause.NO_CONNACK, "the broker closed the connection")

    def _make_client(self) -> paho.Client:
        settings = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            settings.client_id,
            clean_session=None if self._version5 else not settings.session_expiry_s,
            protocol=MQTTProtocolVersion.MQTTv5 if self._version5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.suppress_exceptions = True  # nothing that a callback raises ends the thread
        client.max_inflight_messages_set(0)  # no limit: the window is ours
        if settings.username:
            client.username_pw_set(settings.username, settings.password())
        context = settings.tls_context()
        if context is not None:
            client.tls_set_context(context)
        if settings.will is not None:
            client.will_set(settings.will.topic, settings.will.payload, qos=1, retain=True)
        client.on_connect = self._paho_connected
        client.on_disconnect = self._paho_disconnected
        client.on_publish = self._paho_published
        client.on_subscribe = self._paho_subscribed
        client.on_message = self._paho_message
        # With this set, publish() on the event loop leaves the writing to the thread, which a byte wakes up.
        client.on_socket_register_write = _do_nothing
        return client

    def _paho_connected(
        self,
        client: paho.Client,
        _data: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            cause = Cause.VERSION if reason.value == _UNSUPPORTED_VERSION else Cause.LOST
            self._refusal = End(cause, f"the broker refuses: {reason}")
            return
        self._stood = True
        window = getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT)
        max_packet_bytes = getattr(properties, "MaximumPacketSize", self.max_packet_bytes)
        self._to_loop(self._on_opened, client, window, max_packet_bytes, flags.session_present)

    def _paho_disconnected(
        self, _client: paho.Client, _data: object, flags: paho.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if self._refusal is not None:
            return
        if flags.is_disconnect_packet_from_server:
            cause = Cause.TAKEN_OVER if reason.value == _TAKEN_OVER else Cause.LOST
            self._refusal = End(cause, f"the broker ended the connection: {reason}")
        elif reason == "Keep alive timeout":
            self._refusal = self._why_ended(MQTTErrorCode.MQTT_ERR_KEEPALIVE)

    def _paho_published(
        self, client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.value in _REFUSES_ALL:
            self._refusal = End(Cause.LOST, f"the broker refuses every message: {reason}")
            client.disconnect()
        else:
            self._to_loop(self._on_puback, mid, str(reason) if reason.value >= _FAILURE else "")

    def _paho_subscribed(
        self, _client: paho.Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refusals = [str(reason) for reason in reasons if reason.value >= _FAILURE]
        self._to_loop(self._on_suback, mid, ", ".join(refusals))

    def _paho_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if not self._arriving.acquire(blocking=False):
            self._to_loop(self._on_dropped)
            return
        arrived = Message(
            topic=message.topic,
            payload=bytes(message.payload),
            retain=message.retain,
            duplicate=message.dup,
            response_topic=getattr(message.properties, "ResponseTopic", ""),
            correlation_data=getattr(message.properties, "CorrelationData", b""),
            mid=message.mid,
            qos=message.qos,
            received_s=self._clock.monotonic_s(),
            expires_s=getattr(message.properties, "MessageExpiryInterval", None),
        )
        self._to_loop(self._inbox.put_nowait, arrived)

    def _on_dropped(self) -> None:
        self._stats.inbox_dropped += 1

    def _to_loop(self, function: Callable[..., None], *args: object) -> None:
        # The loop may be closed already when an abandoned thread comes to its end.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


def _properties(kind: int) -> Properties:
    return Properties(kind)  # type: ignore[no-untyped-call] # of paho


def _fail(future: "asyncio.Future[None]", error: Exception) -> None:
    """Fail a future that perhaps nobody waits for any more."""
    if not future.done():
        future.set_exception(error)
        future.exception()


def _forget_callbacks(client: paho.Client) -> None:
    """Break the circle of references, so that the client closes its sockets here and now."""
    client.on_connect = None
    client.on_disconnect = None
    client.on_publish = None
    client.on_subscribe = None
    client.on_message = None


def _do_nothing(*_args: object) -> None:
    pass


def _text(error: OSError | ValueError) -> str:
    """An error of the operating system or of TLS in words fit for one line."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
