"""Finds the message on which a broker closes the connection: MQTT 3.1.1 gives it no other way to refuse one.

Too large for RabbitMQ or NATS, for instance. Without this the same message would be sent again for ever.

Rules of this file:

1. After ``CAREFUL_AFTER`` connections in a row that the broker closed early, with messages unacknowledged, one message
   at a time is sent. The one that is on its way when the connection is closed once more is the suspect.
2. ``TRIES`` such ends on the same message, and it counts as refused: who publishes it is told so, and it is not sent.
3. A topic that nothing was ever acknowledged on may be one that we may not write to at all. Its messages are not
   refused one after the other: between two of them one must have been acknowledged. What is retained loses nothing.
"""

from collections import deque

from agent.core.errors import BadData

CAREFUL_AFTER = 2
TRIES = 3  #: five together with those before
#: So many acknowledgements after which a connection need not be careful any more.
CAREFUL_MESSAGES = 100
_REMEMBERED = 16
_MAX_TOPICS = 100


class Refused(BadData):
    """The broker took the connection but refused this one message or subscription."""


class Suspicion:
    """What the connections of one link have taught of single messages. On the event loop."""

    def __init__(self) -> None:
        self._closed = 0
        self._suspect = 0
        self._tries = 0
        self._refused: deque[int] = deque(maxlen=_REMEMBERED)
        self._proven: set[str] = set()

    @property
    def careful(self) -> bool:
        """Whether the next connection sends one message at a time."""
        return self._closed >= CAREFUL_AFTER

    def check(self, topic: str, payload: bytes) -> None:
        """Raises ``Refused`` for a message on which connections were closed."""
        if self._refused and hash((topic, payload)) in self._refused:
            raise Refused(f"publish {topic}", "the broker closes the connection each time it gets this message")

    def acknowledged(self, topic: str) -> None:
        """The broker takes messages of this topic."""
        if len(self._proven) < _MAX_TOPICS:
            self._proven.add(topic)

    def closed_early(self, message: tuple[str, bytes, bool] | None) -> None:
        """The broker closed a young connection; ``message`` (topic, payload, retained) is the only one on its way."""
        self._closed += 1
        if message is None:
            return
        topic, payload, retain = message
        suspect = hash((topic, payload))
        self._tries = self._tries + 1 if suspect == self._suspect else 1
        self._suspect = suspect
        if self._tries >= TRIES and (retain or topic in self._proven):
            self._refused.append(suspect)
            self._proven.discard(topic)

    def stood(self) -> None:
        """A connection lasted, or ended for another reason."""
        self._closed = 0
