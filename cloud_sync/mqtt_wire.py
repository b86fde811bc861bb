"""The thread's side of a connection: the sole owner of paho. The event loop's side is ``mqtt.py``.

Rules of this file:

1. One client object per connection, thrown away with it. It runs on a thread of its own.
2. Everything that paho calls does one thing: it tells ``Ears`` the fact, on this thread. Nothing that is raised there
   ends the thread.
3. The other thread calls ``publish``, ``subscribe``, ``ack`` and ``disconnect`` of the client, which paho allows, and
   sets ``waiting`` and ``closing_since_s``. Whatever ends the thread, ``Ears.ended`` is called, once and last.
4. A broker that closes or refuses is told from one that is silent, and from one to which the link is only slow: the
   cause of the end is a value.
"""

import contextlib
import re
from collections.abc import Callable, Sequence

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from cloud_sync.credentials import Proof, text_of, tls_words
from cloud_sync.mqtt_facts import Cause, Ears, End, Limits, Message
from cloud_sync.mqtt_turns import Turns
from cloud_sync.settings import Broker, LinkSettings

CONNACK_TIMEOUT_S = 15.0
#: Without any PUBACK or SUBACK for so long, with one due and nothing left to write, the broker does not answer.
ANSWER_TIMEOUT_S = 120.0
#: How long a connection may take to say goodbye.
CLOSE_TIMEOUT_S = 1.0
LOOP_S = 0.5

#: How OpenSSL's errors look in a text: ``[SSL: TLSV1_ALERT_UNKNOWN_CA] …``.
_ALERT = re.compile(r"\[SSL: (\w+)\]")
_FAILURE = 0x80
_UNSUPPORTED_VERSION = 0x84
_NOT_AUTHORIZED = 0x87
_TAKEN_OVER = 0x8E
_TOPIC_NAME_INVALID = 0x90
_QUOTA_EXCEEDED = 0x97
#: MQTT 5, 3.8.3.1: what is retained is sent now, or to a new subscription only, not with each connection.
_RETAINED_NOW, _RETAINED_ONCE = 0, 1
#: A PUBACK with one of these says nothing of the record: every record would be refused now, so the connection ends.
_REFUSES_ALL = frozenset({_NOT_AUTHORIZED, _TOPIC_NAME_INVALID, _QUOTA_EXCEEDED})


class Wire:
    """One connection's thread. ``waiting``: a PUBACK or SUBACK is due; ``progress_s``: when something moved last."""

    def __init__(
        self,
        settings: LinkSettings,
        broker: Broker,
        prove: Callable[[], Proof],
        clock: Clock,
        ears: Ears,
        *,
        version5: bool,
        patience: int,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._prove = prove
        self._clock = clock
        self._ears = ears
        self._version5 = version5
        self._keepalive_s = settings.keepalive_s * patience
        self._answer_timeout_s = ANSWER_TIMEOUT_S * patience
        # Set by the event loop. ``progress_s`` is written by both: either one's time will do.
        self.closing_since_s: float | None = None
        self.waiting = False
        self.progress_s = clock.monotonic_s()
        # The thread's own.
        self._client: paho.Client | None = None
        self._stood = False
        self._refusal: End | None = None
        self._alert = ""

    def run(self) -> None:
        """Connect and stay until the connection ends."""
        end = End(Cause.LOST, "the client's thread died")
        try:
            with contextlib.closing(Turns()) as turns:
                end = self._drive(turns)
        except (OSError, ValueError) as error:
            end = End(Cause.LOST, text_of(error))
        finally:
            self._ears.ended(end)

    # Called on the event loop, on a connection that stands.

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, correlation_data: bytes) -> int:
        """Hand a message to paho, which writes it on the thread; gives its id. Raises ``Unavailable``."""
        properties = None
        if correlation_data and self._version5:
            properties = _properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation_data
        info = self._standing().publish(topic, payload, qos=qos, retain=retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Unavailable(f"publish {topic}", paho.error_string(info.rc))
        return info.mid

    def subscribe(self, filters: Sequence[str], *, again: bool = False) -> int:
        """Send a SUBSCRIBE with QoS 1; gives its id. ``again``: see ``Session.subscribe``. Raises ``Unavailable``."""
        client = self._standing()
        if self._version5 and self._settings.session_expiry_s:
            retained = _RETAINED_NOW if again else _RETAINED_ONCE
            options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=retained)
            code, mid = client.subscribe([(topic_filter, options) for topic_filter in filters])
        else:
            code, mid = client.subscribe([(topic_filter, 1) for topic_filter in filters])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise Unavailable(f"subscribe {' '.join(filters)}", paho.error_string(code))
        return mid

    def acknowledge(self, message: Message) -> None:
        """Send the PUBACK of a message."""
        self._standing().ack(message.mid, message.qos)

    def close(self) -> None:
        """Say goodbye where there is a connection, and come to an end soon."""
        self.closing_since_s = self._clock.monotonic_s()
        if self._client is not None and self._client.is_connected():
            self._client.disconnect()

    def _standing(self) -> paho.Client:
        if self._client is None:
            raise Unavailable("mqtt", "not connected")
        return self._client

    # The thread.

    def _drive(self, turns: Turns) -> End:
        """Connect, run the network loop until the connection ends, and say why it did."""
        broker, settings = self._broker, self._settings
        client = self._make_client(turns)
        sock: paho.SocketLike | None = None
        try:
            keepalive_s = paho_keepalive_s(self._keepalive_s)
            if self._version5:
                clean, properties = not settings.session_expiry_s, self._connect_properties()
                client.connect(broker.host, broker.port, keepalive_s, clean_start=clean, properties=properties)
            else:
                client.connect(broker.host, broker.port, keepalive_s)
            sock = client.socket()
            assert sock is not None  # noqa: S101 - connect() raises without one
            began_s = self.progress_s = self._clock.monotonic_s()
            code = MQTTErrorCode.MQTT_ERR_SUCCESS
            while code == MQTTErrorCode.MQTT_ERR_SUCCESS:
                code = turns.turn(client, sock, LOOP_S)
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
        closing_since_s = self.closing_since_s
        if closing_since_s is not None and (not self._stood or now_s - closing_since_s > CLOSE_TIMEOUT_S):
            return End(Cause.CLOSED, "closed")
        if not self._stood:
            late = closing_since_s is None and now_s - began_s > CONNACK_TIMEOUT_S
            return End(Cause.NO_CONNACK, f"no CONNACK within {CONNACK_TIMEOUT_S:.0f} s") if late else None
        if client.want_write() or not self.waiting:
            self.progress_s = now_s
        elif now_s - self.progress_s > self._answer_timeout_s:
            return End(Cause.SILENT, f"no PUBACK or SUBACK for {self._answer_timeout_s:.0f} s")
        return None

    def _why_ended(self, code: MQTTErrorCode) -> End:
        if self.closing_since_s is not None:
            return End(Cause.CLOSED, "closed")
        if self._refusal is not None:
            return self._refusal
        if code == MQTTErrorCode.MQTT_ERR_KEEPALIVE:
            return End(Cause.SILENT, f"no answer to a ping within {self._keepalive_s} s")
        if self._alert:
            return End(Cause.LOST, self._alert)
        return End(Cause.SHUT if self._stood else Cause.NO_CONNACK, "the broker closed the connection")

    def _make_client(self, turns: Turns) -> paho.Client:
        settings, proof = self._settings, self._prove()
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
            client.username_pw_set(settings.username, proof.password)
        if proof.context is not None:
            client.tls_set_context(proof.context)
        if settings.will is not None:
            will = settings.will() if callable(settings.will) else settings.will
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect = self._paho_connected
        client.on_disconnect = self._paho_disconnected
        client.on_publish = self._paho_published
        client.on_subscribe = self._paho_subscribed
        client.on_message = self._paho_message
        client.on_log = self._paho_log
        # With this set, publish() on the event loop leaves the writing to the thread, which a byte wakes up.
        client.on_socket_register_write = turns.wake
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
        client.on_log = None  # it costs with each message
        window = getattr(properties, "ReceiveMaximum", None)
        max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self._client = client
        self._ears.opened(Limits(window, max_packet_bytes, flags.session_present))

    def _paho_log(self, _client: paho.Client, _data: object, _level: int, text: str) -> None:
        # With TLS 1.3 a broker refuses our certificate after the handshake: paho tells that to its log alone.
        alert = _ALERT.search(text)
        if alert is not None:
            self._alert = f"TLS: {tls_words(alert[1])}"

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
            self._ears.acknowledged(mid, str(reason) if reason.value >= _FAILURE else "")

    def _paho_subscribed(
        self, _client: paho.Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refusals = [str(reason) for reason in reasons if reason.value >= _FAILURE]
        self._ears.subscribed(mid, ", ".join(refusals))

    def _paho_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
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
        self._ears.arrived(arrived)


def _properties(kind: int) -> Properties:
    return Properties(kind)  # type: ignore[no-untyped-call] # of paho


def _forget_callbacks(client: paho.Client) -> None:
    """Break the circle of references, so that the client closes its sockets here and now."""
    client.on_connect = None
    client.on_disconnect = None
    client.on_publish = None
    client.on_subscribe = None
    client.on_message = None
    client.on_log = None


def paho_keepalive_s(keepalive_s: int) -> int:
    """What paho must be given so that a dead link is found within one and a half ``keepalive_s``.

    It finds it within two of its own keep-alives, and looks once in each round of its loop.
    """
    return (keepalive_s * 3 - 2) // 4


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a message of this topic is of this subscription, shared or not."""
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[2]
    return bool(paho.topic_matches_sub(topic_filter, topic))
