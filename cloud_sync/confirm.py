"""Whose word moves the cursor: the broker's PUBACK, or the central server's messages at the topic ``ack``.

Rules of this file:

1. ``confirm: ack`` and ``puback`` say it. ``auto`` is the broker's word until a central server was heard at this topic
   of this broker for the first time; that is remembered on disk, told in the log and by an event, and holds from then
   on: who stores records and says so shall lose none to a broker that forgets.
2. A word is refused and counted when it is retained, no acknowledgement, for a stream that is not here, or above every
   number that was ever given. It is believed only as far as records have left. One that is older than what was
   confirmed says nothing new, and is no fault: brokers send messages again, and servers their newest word.
3. A broker that does not let us subscribe: with ``auto`` PUBACK goes on confirming. Both edges are logged once. Some
   say yes and then hand nothing on: that looks like a central server that is silent.
4. Sparkplug's telemetry has its own readers: with ``auto`` a central server that stores our events says nothing of it,
   and the broker's word goes on confirming it.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.errors import StoreError
from agent.core.model import Event
from agent.core.ports import Notebook, Outbox
from cloud_sync.downlink import Conversation
from cloud_sync.lanes import Stream
from cloud_sync.mqtt import Message, Refused
from cloud_sync.patience import Patience
from cloud_sync.settings import UplinkSettings

_log = logging.getLogger(__name__)

INBOX = "ack"
MAX_WORD_BYTES = 4096
_NOTE = ("uplink", "central")
HEARD = "uplink.central_heard"


class _WrongWordError(Exception):
    """A message that confirms nothing, and why."""


@dataclass(slots=True)
class _Counts:
    taken: int = 0
    refused: int = 0
    older: int = 0  #: of those taken


class Confirmation:
    """Of one uplink. ``moved`` is called when a cursor may have moved; ``notes`` remembers; None: until the end."""

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        patience: Patience,
        streams: Sequence[Stream],
        report: Callable[[Event], object],
        moved: Callable[[], None],
        notes: Notebook | None,
    ) -> None:
        self._settings = settings
        self._topic = settings.topic("ack")
        self._place = {"broker": settings.broker_url, "topic": self._topic}
        self._outbox = outbox
        self._patience = patience
        self._clock = patience.clock
        self._streams = {stream.name: stream for stream in streams}
        self._report = report
        self._moved = moved
        self._notes = notes
        self._counts = _Counts()
        self._told: set[str] = set()
        self._heard_s: float | None = None
        self.refusal = ""  #: why the broker does not let us subscribe
        self._unremembered = False
        self._central = settings.confirm == "ack" or (settings.confirm == "auto" and self._remembered())
        self._believe()

    @property
    def by_word(self) -> bool:
        """Whether the central server's word is what counts now."""
        return self._central and not (self.refusal and self._settings.confirm == "auto")

    @property
    def silent_s(self) -> float | None:
        """How long ago the central server was heard; None: not since the start."""
        return None if self._heard_s is None else self._clock.monotonic_s() - self._heard_s

    def counters(self) -> Mapping[str, int]:
        """For ``/metrics``."""
        counts = self._counts
        return {"acks_total": counts.taken, "acks_refused_total": counts.refused, "acks_older_total": counts.older}

    async def serve(self, session: Conversation) -> None:
        """Listen on one connection until it ends. Never returns by itself."""
        if self._settings.confirm == "puback" or not await self._subscribed(session):
            await asyncio.Event().wait()
        while True:
            message = await session.next_message(INBOX)
            session.acknowledge(message)
            await self._take(message)

    async def _subscribed(self, session: Conversation) -> bool:
        try:
            await session.subscribe(self._topic, inbox=INBOX)
        except Refused as error:
            if not self.refusal:
                goes_on = "PUBACK confirms" if self._settings.confirm == "auto" else "nothing will be confirmed"
                _log.warning("the central server's acknowledgements can't be heard, %s: %s", goes_on, error)
            self.refusal = error.reason
        else:
            if self.refusal:
                _log.info("the central server's acknowledgements can be heard again")
            self.refusal = ""
        self._believe()
        return not self.refusal

    async def _take(self, message: Message) -> None:
        try:
            stream, upto = await self._read(message)
        except _WrongWordError as error:
            self._counts.refused += 1
            if str(error) not in self._told:
                self._told.add(str(error))
                _log.warning("a message at %s is refused, it and all such are only counted: %s", self._topic, error)
            return
        self._counts.taken += 1
        self._counts.older += upto < stream.cursor
        self._heard_s = self._clock.monotonic_s()
        if not self._central or self._unremembered:
            await self._first_word(stream)
        if self._by_word(stream):
            stream.word(upto)
            self._moved()

    async def _read(self, message: Message) -> tuple[Stream, int]:
        """The stream that a word is about, and up to where. Raises ``_WrongWordError``."""
        if message.retain:
            raise _WrongWordError("it is retained, and an acknowledgement is said once")
        name, upto = _parsed(message.payload)
        stream = self._streams.get(name)
        if stream is None:
            raise _WrongWordError("there is no such stream")
        if upto > await self._patience.read(self._outbox.newest, name):
            raise _WrongWordError("its number was never given: has the store been replaced by an older one?")
        return stream, upto

    def _remembered(self) -> bool:
        note = None if self._notes is None else self._notes.note(*_NOTE)
        return note is not None and {key: note.get(key) for key in self._place} == self._place

    async def _first_word(self, stream: Stream) -> None:
        """From here on it counts. When the store can't remember it now, the next word is the first once more."""
        first, self._central = not self._central, True
        self._believe()
        now_us = self._clock.now_us()
        event = Event(HEARD, now_us, "uplink", {"stream": stream.name})
        if first:
            _log.info("a central server confirms what it has stored: from now on its word counts, no longer PUBACK")
        if self._notes is None:
            self._report(event)
            return
        try:
            await self._notes.write(*_NOTE, {**self._place, "since_us": now_us}, [event])
            self._unremembered = False
        except StoreError:
            self._unremembered = True

    def _believe(self) -> None:
        for stream in self._streams.values():
            stream.believe(by_word=self._by_word(stream))

    def _by_word(self, stream: Stream) -> bool:
        aside = self._settings.payload == "sparkplug" and self._settings.confirm == "auto"
        return self.by_word and not (aside and stream.name == "telemetry")


def _parsed(payload: bytes) -> tuple[str, int]:
    """``{"stream": name, "upto": number}`` of ``schemas/ack.json``; other keys are for later versions."""
    try:
        document = json.loads(payload) if len(payload) <= MAX_WORD_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        name, upto = document.get("stream"), document.get("upto")
        if isinstance(name, str) and type(upto) is int and upto >= 0:
            return name, upto
    raise _WrongWordError("it is no acknowledgement")
