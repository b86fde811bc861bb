"""One connection's sending: records of both streams, live ones beside the backlog, until the connection ends.

Rules of this file:

1. Four readers run side by side: each stream's live lane and its backlog. Telemetry's backlog waits until that of the
   events has left (or waits for the central server): what happened matters more than what was measured.
2. Only the backlog is throttled (``throttle.py``). Live data is held up by nothing but the window, of which the backlog
   takes half at most.
3. A record that can't be encoded, or that the server refuses ``REFUSALS_BEFORE_ASIDE`` times, is set aside: it stays in
   the store, is counted and reported as an event, and the stream goes on. A refusal before that ends the connection.
4. Here are at most the records of one read for each lane, and those in the link's window.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from agent.core.model import Event
from cloud_sync.downlink import Conversation
from cloud_sync.lanes import Lane, Stream
from cloud_sync.mqtt import MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES, Refused
from cloud_sync.records import SET_ASIDE, Record
from cloud_sync.subscriber import PayloadError
from cloud_sync.throttle import Throttle

REFUSALS_BEFORE_ASIDE = 5
#: A live lane that is so many records behind lets them become backlog: the newest does not wait for them.
MAX_BEHIND = 100
BYTES_PER_VISIT = 40 << 10
#: How long a goodbye may take: who stops the gateway waits for it.
GOODBYE_S = 1.0

#: The records of a stream behind a number, oldest first; an empty list: there are none.
Read: TypeAlias = Callable[[int], Awaitable[Sequence[Record]]]


@dataclass(slots=True)
class Feed:
    """A stream with its reader, and what wakes its lanes."""

    stream: Stream
    topic: str
    read: Read
    newest: Callable[[], int]
    committed: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Event = field(default_factory=asyncio.Event)  #: the cursor
    rewound: asyncio.Event = field(default_factory=asyncio.Event)  #: there is backlog again
    drained: asyncio.Event = field(default_factory=asyncio.Event)  #: the backlog has left, or may not leave now


@dataclass(slots=True)
class _UnderWay:
    """A record of which messages wait for their PUBACK. ``whole``: all of them were handed over."""

    record: Record
    open: int = 0
    whole: bool = False
    refused: bool = False


class Sender:
    """Of one connection. ``confirmed`` is called when a record was acknowledged by the broker or set aside."""

    def __init__(
        self,
        session: Conversation,
        clock: Clock,
        report: Callable[[Event], object],
        confirmed: Callable[[Feed], None],
    ) -> None:
        self._session = session
        self._clock = clock
        self._report = report
        self._confirmed = confirmed
        self._throttle = Throttle(MAX_IN_FLIGHT // 2, MAX_IN_FLIGHT_BYTES // 2)
        self._room = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, feeds: Sequence[Feed], behind: Sequence[Feed] = ()) -> None:
        """Send until cancelled; the backlog of the first feeds first, and of those ``behind`` which they come.

        Raises ``Unavailable``.
        """
        for feed in feeds:
            feed.drained.clear()
        lanes = [self._live(feed) for feed in feeds]
        lanes += [self._backlog(feed, [*behind, *feeds[:index]]) for index, feed in enumerate(feeds)]
        await run_all(*lanes, self._failure())

    async def _live(self, feed: Feed) -> None:
        stream = feed.stream
        while True:
            feed.committed.clear()
            if feed.newest() - stream.live.position > MAX_BEHIND:
                stream.split(feed.newest())
                feed.rewound.set()
            lane = stream.live
            records = await feed.read(lane.position)
            for record in stream.take(lane, records):
                await self._send(feed, lane, record)
            if not records:
                await feed.committed.wait()

    async def _backlog(self, feed: Feed, before: Sequence[Feed]) -> None:
        stream = feed.stream
        while True:
            feed.rewound.clear()
            lane = stream.backlog
            after = stream.read_from(lane)
            if after is None:
                feed.drained.set()
                await feed.rewound.wait()
                continue
            feed.drained.clear()
            for other in before:
                await other.drained.wait()
            for record in stream.take(lane, await feed.read(after)):
                while not stream.has_room and lane is stream.backlog:
                    feed.drained.set()
                    feed.moved.clear()
                    await feed.moved.wait()
                if lane is not stream.backlog:
                    break
                await self._send(feed, lane, record)
            self._confirmed(feed)  # over what the store does not have any more

    async def _failure(self) -> None:
        await self._failed

    async def _send(self, feed: Feed, lane: Lane, record: Record) -> None:
        """Hand all messages of a record over; one that can't be sent at all is set aside."""
        reason = ""
        for messages in (record.messages, record.smaller):
            if messages is None:
                continue
            heavy = record.heavy or messages is record.smaller
            try:
                await self._hand_over(feed, lane, record, messages(), heavy=heavy)
            except PayloadError as error:
                reason = str(error)
                break
            except Refused as error:
                reason = error.reason
            else:
                return
        self._put_aside(feed, record, reason)

    async def _hand_over(
        self, feed: Feed, lane: Lane, record: Record, messages: Iterator[bytes], *, heavy: bool
    ) -> None:
        under_way, total, backlog = _UnderWay(record), 0, lane.end is not None
        while True:
            some = await asyncio.to_thread(_some, messages) if heavy else _some(messages)
            if not some:
                break
            for payload in some:
                await self._publish(feed, under_way, payload, backlog=backlog)
                total += len(payload)
        under_way.whole = True
        feed.stream.handed(lane, record, total)
        if not under_way.open:
            self._delivered(feed, record)

    async def _publish(self, feed: Feed, under_way: _UnderWay, payload: bytes, *, backlog: bool) -> None:
        size = len(payload)
        while backlog and not self._throttle.fits(size):
            self._room.clear()
            await self._room.wait()
        feed.stream.leaving(under_way.record.seq)
        acknowledged = await self._session.publish(feed.topic, payload)
        under_way.open += 1
        if backlog:
            self._throttle.left(size)
        acknowledged.add_done_callback(partial(self._came, feed, under_way, size, self._clock.monotonic_s(), backlog))

    def _came(
        self,
        feed: Feed,
        under_way: _UnderWay,
        size: int,
        sent_s: float,
        backlog: bool,  # noqa: FBT001 - bound with ``partial``
        acknowledged: "asyncio.Future[None]",
    ) -> None:
        """A PUBACK came, or will not come any more."""
        if backlog:
            self._throttle.back(size)
        self._room.set()
        if acknowledged.cancelled():
            return
        error = acknowledged.exception()
        if isinstance(error, Refused):
            self._refused(feed, under_way, error)
        elif error is not None:
            self._fail(error)
        else:
            self._throttle.timed(size, sent_s, self._clock.monotonic_s())
            under_way.open -= 1
            if under_way.whole and not under_way.open and not under_way.refused:
                self._delivered(feed, under_way.record)

    def _delivered(self, feed: Feed, record: Record) -> None:
        feed.stream.delivered(record)
        self._confirmed(feed)

    def _refused(self, feed: Feed, under_way: _UnderWay, error: Refused) -> None:
        """Count a refusal: the record is tried again on a new connection, or set aside."""
        if under_way.refused:
            return
        under_way.refused = True
        if feed.stream.refused(under_way.record.seq) >= REFUSALS_BEFORE_ASIDE:
            self._put_aside(feed, under_way.record, error.reason)
        else:
            self._fail(Unavailable(error.op, error.reason, error.hint))

    def _fail(self, error: BaseException) -> None:
        """End the sending on this connection."""
        if not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # when nobody waits any more

    def _put_aside(self, feed: Feed, record: Record, reason: str) -> None:
        feed.stream.put_aside(record)
        if record.report:
            data = {"first_seq": record.first_seq, "seq": record.seq, "reason": reason}
            self._report(Event(SET_ASIDE, self._clock.now_us(), feed.stream.name, data))
        self._confirmed(feed)


def _some(messages: Iterator[bytes]) -> list[bytes]:
    """The next messages, about ``BYTES_PER_VISIT``: each visit to a thread costs a millisecond on a busy machine."""
    found: list[bytes] = []
    size = 0
    for payload in messages:
        found.append(payload)
        size += len(payload)
        if size >= BYTES_PER_VISIT:
            break
    return found


async def run_all(*parts: Coroutine[None, None, None]) -> None:
    """Run endless parts together; the first that ends takes the others with it and says why."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def within(clock: Clock, seconds: float, last: Coroutine[None, None, None]) -> None:
    """Run the last words of a connection, so long at most.

    The connection may be dead: whatever becomes of them is passed over, nothing is raised.
    """
    tasks = (asyncio.ensure_future(last), asyncio.ensure_future(clock.sleep_s(seconds)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
