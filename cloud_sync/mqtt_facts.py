"""What the two sides of an MQTT connection, ``mqtt_wire.py`` and ``mqtt.py``, tell each other and others: values."""

import enum
from dataclasses import dataclass
from typing import Protocol


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


class Cause(enum.Enum):
    """Why a connection ended, as far as the next one must know."""

    CLOSED = enum.auto()  #: we closed it
    LOST = enum.auto()
    SHUT = enum.auto()  #: the broker closed a connection that stood, without a word
    VERSION = enum.auto()  #: the broker says that it does not speak this version
    NO_CONNACK = enum.auto()  #: it closed the connection without a word, or said nothing: perhaps for the version
    TAKEN_OVER = enum.auto()
    SILENT = enum.auto()  #: no answer to a ping, no PUBACK or no SUBACK


@dataclass(frozen=True, slots=True)
class End:
    """The end of a connection, in words for people too."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a broker said with its CONNACK. None: it said nothing."""

    window: int | None
    max_packet_bytes: int | None
    resumed: bool


class Ears(Protocol):
    """Who is told what happens on the wire: called on its thread, must not block."""

    def opened(self, limits: Limits) -> None:
        """The broker took the connection."""

    def acknowledged(self, mid: int, refusal: str) -> None:
        """A PUBACK came; ``refusal`` says why the broker does not take the message."""

    def subscribed(self, mid: int, refusal: str) -> None:
        """A SUBACK came."""

    def arrived(self, message: Message) -> None:
        """A message came."""

    def ended(self, end: End) -> None:
        """The thread comes to its end."""
