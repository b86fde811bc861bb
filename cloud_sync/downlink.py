"""Messages of the topic ``command`` -> orders -> whoever carries them out -> ``command/result``.

Rules of this file:

1. A command is acknowledged to the broker when its result has its PUBACK, not before: what was cut off anywhere in
   between comes again with the next connection, has the outcome of the first time, and that is told again. Results
   outlive a connection in memory and a process in the broker's session, beside the ledger's events.
2. ``MAX_OPEN`` commands are open at most; the others wait at the broker.
3. A message that is no command but has an id is refused under that id; without one it is counted, and gone.
4. What is retained, or has waited at the broker for nobody knows how long, is handed on as such: who carries orders
   out refuses it, unless he knows the outcome of that id already.
5. A result goes to ``{root}/{site}/command/result``, or to the response topic, which must lie below that topic:
   nobody has this gateway publish elsewhere.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from agent.core.errors import Refusal, Unavailable
from cloud_sync.command_payload import (
    MAX_CORRELATION,
    CommandError,
    Order,
    OrderResult,
    encode_result,
    parse_command,
)
from cloud_sync.mqtt import Message, Refused
from cloud_sync.settings import RECEIVE_MAXIMUM

logger = logging.getLogger(__name__)

MAX_OPEN = RECEIVE_MAXIMUM
MAX_RESPONSE_TOPIC = 256

#: Carries an order out, at most once for each id, and says what came of it; the same again for the same id. Never
#: raises; returns when the outcome is certain and on disk.
Execute = Callable[[Order], Awaitable[OrderResult]]


class Conversation(Protocol):
    """One connection that stands, as commands need it; ``cloud_sync.mqtt.Session`` is one."""

    @property
    def resumed(self) -> bool:
        """Whether the broker kept what came while we were away."""

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, correlation_data: bytes = b"", qos: int = 1
    ) -> "asyncio.Future[None]":
        """Wait for room, hand the message over, return the future of its PUBACK."""

    async def subscribe(self, *filters: str, inbox: str = "") -> None:
        """Subscribe with QoS 1; what comes goes to that inbox."""

    async def next_message(self, inbox: str = "") -> Message:
        """The next message of an inbox."""

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that the message is dealt with."""


@dataclass(slots=True)
class _Counts:
    received: int = 0
    answered: int = 0
    repeated: int = 0  #: came again while the first one was open
    malformed: int = 0  #: no command, and no id to answer to
    unanswered: int = 0  #: the broker takes no result of it
    not_authorized: int = 0  #: nobody signed it who may command


@dataclass(slots=True)
class _Open:
    """A command whose result has no PUBACK yet. ``message`` belongs to the connection that stands, None: it did not."""

    result: "asyncio.Task[OrderResult]"
    message: Message | None
    topic: str
    correlation_data: bytes


class Downlink:
    """Commands of one site. ``topic`` is ``{root}/{site}/command``."""

    def __init__(self, topic: str, execute: Execute) -> None:
        self._topic = topic
        self._site = topic.split("/")[-2]
        self._result_topic = f"{topic}/result"
        self._execute = execute
        self._open: dict[tuple[str, bytes], _Open] = {}
        self._room = asyncio.Event()
        self._counts = _Counts()
        self._refused = False

    def counters(self) -> Mapping[str, int]:
        """For ``/metrics``."""
        counts = self._counts
        return {
            "commands_total": counts.received,
            "commands_answered_total": counts.answered,
            "commands_repeated_total": counts.repeated,
            "commands_malformed_total": counts.malformed,
            "commands_unanswered_total": counts.unanswered,
            "commands_not_authorized_total": counts.not_authorized,
            "commands_open": len(self._open),
        }

    async def serve(self, session: Conversation) -> None:
        """Take commands and tell results on one connection until it ends. Never returns by itself."""
        if not await self._subscribed(session):
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as deliveries:
            for key, taken in self._open.items():
                taken.message = None
                deliveries.create_task(self._deliver(session, key, taken))
            while True:
                while len(self._open) >= MAX_OPEN:
                    self._room.clear()
                    await self._room.wait()
                message = await session.next_message()
                added = self._take(session, message)
                if added is not None:
                    deliveries.create_task(self._deliver(session, *added))

    async def close(self) -> None:
        """Wait for no outcome any more: the broker sends again what was not acknowledged."""
        tasks = [taken.result for taken in self._open.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._open.clear()

    async def _subscribed(self, session: Conversation) -> bool:
        try:
            await session.subscribe(self._topic)
        except Refused as error:
            if not self._refused:
                logger.warning("commands can't be taken: %s", error)
            self._refused = True
            return False
        if self._refused:
            logger.info("commands are taken again")
        self._refused = False
        return True

    def _take(self, session: Conversation, message: Message) -> tuple[tuple[str, bytes], _Open] | None:
        """Have a message carried out; None when there is nothing new to answer."""
        if message.topic != self._topic:
            session.acknowledge(message)
            return None
        self._counts.received += 1
        try:
            order = parse_command(message.payload)
        except CommandError as error:
            self._counts.malformed += 1
            if self._counts.malformed == 1:
                logger.warning(
                    "a message at %s is no command, it and all such are only counted: %s", self._topic, error
                )
            session.acknowledge(message)
            return None
        key = order.id, message.payload
        known = self._open.get(key)
        if known is not None:
            self._counts.repeated += 1
            if known.message is None:
                known.message = message
            else:
                session.acknowledge(message)
            return None
        taken = self._taken(order, message, resumed=session.resumed)
        self._open[key] = taken
        return key, taken

    def _taken(self, order: Order, message: Message, *, resumed: bool) -> _Open:
        topic, correlation_data = self._result_topic, message.correlation_data
        if order.site not in {"", self._site}:
            order = order.refused(f"it is for the site {order.site}, this is {self._site}")
        asked = message.response_topic
        if asked and not asked.startswith(f"{self._result_topic}/"):
            order = order.refused(f"its response topic is not below {self._result_topic}/")
        elif len(asked) > MAX_RESPONSE_TOPIC or set(asked) & set("+#\0"):
            order = order.refused(f"its response topic has wildcards, or more than {MAX_RESPONSE_TOPIC} characters")
        elif asked:
            topic = asked
        if len(correlation_data) > MAX_CORRELATION:
            order = order.refused(f"its correlation data has more than {MAX_CORRELATION} bytes")
            correlation_data = b""
        if message.retain:
            order = order.refused("it is retained, and a command is for one moment")
        ttl_s = order.ttl_s
        if message.expires_s is not None:
            ttl_s = min(ttl_s, max(message.expires_s, 1))
        waited = (resumed or message.duplicate) and message.expires_s is None
        order = replace(order, ttl_s=ttl_s, waited=waited, received_s=message.received_s)
        task = asyncio.ensure_future(self._execute(order))
        task.add_done_callback(self._count)
        return _Open(task, message, topic, correlation_data)

    def _count(self, task: "asyncio.Task[OrderResult]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._counts.not_authorized += task.result().refusal == Refusal.NOT_AUTHORIZED

    async def _deliver(self, session: Conversation, key: tuple[str, bytes], taken: _Open) -> None:
        """Tell the result; if the connection ends before, it is told on the next."""
        await asyncio.wait({taken.result})
        payload = encode_result(taken.result.result())
        try:
            await (await session.publish(taken.topic, payload, correlation_data=taken.correlation_data))
            self._counts.answered += 1
        except Unavailable:
            return
        except Refused as error:
            self._counts.unanswered += 1
            if self._counts.unanswered == 1:
                logger.warning("a result can't be told, it stands on the ledger only: %s", error)
        if taken.message is not None:
            session.acknowledge(taken.message)
        del self._open[key]
        self._room.set()
