"""Outbox -> payload -> publish -> acknowledged -> cursor moves.

Rules of this file:

1. The store is the queue. Here are at most the records of one read and those in the link's window; whatever is not
   acknowledged when a connection ends is read and sent again, under the same numbers.
2. The cursor moves over records that are acknowledged without a gap, and is persisted about once a second: a crash
   repeats records, it never loses one.
3. Before the first record leaves, the outbox is told to hold what it has; when the connection has ended, which numbers
   did leave. A record whose PUBACK was lost may be at the server, so it must keep its number.
4. Order within a stream is the order of its numbers. Events and telemetry share the window and don't wait for each
   other.
5. A record that can't be encoded, or that the server refuses by itself ``REFUSALS_BEFORE_ASIDE`` times, is set aside:
   it stays in the store, is counted and reported as an event, and the queue goes on.
"""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from agent.core.clock import Clock
from agent.core.errors import StoreError, Unavailable
from agent.core.model import Event, Signal
from agent.core.ports import Outbox, StoredBlock, StoredEvent
from cloud_sync.downlink import Conversation, Downlink, Execute
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import LinkStats, Refused
from cloud_sync.payload import MAX_JSON_ROWS, encode_block, encode_catalog, encode_event, encode_json, encode_state
from cloud_sync.settings import UplinkSettings, Will
from cloud_sync.subscriber import PayloadError

_log = logging.getLogger(__name__)

BLOCKS_PER_READ = 32
EVENTS_PER_READ = 100
REFUSALS_BEFORE_ASIDE = 5
PERSIST_EVERY_S = 1.0
STORE_RETRY_S = 5.0
GOODBYE_S = 1.0

_SET_ASIDE = "uplink.set_aside"

_Result = TypeVar("_Result")


class Link(Protocol):
    """Connections, one after the other; ``cloud_sync.link.MqttLink`` is one."""

    @property
    def stats(self) -> LinkStats:
        """What the link has seen."""

    async def run(self, serve: Callable[[Conversation], Awaitable[None]]) -> None:
        """Connect for ever; ``serve`` runs for the life of each connection."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How far a stream is: sequence numbers, and the records set aside since the start."""

    newest: int
    acked: int
    backlog: int  #: numbers that are committed and not yet acknowledged
    set_aside: int


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """What the API and ``/metrics`` show."""

    broker: str
    connected: bool
    protocol: str
    last_error: str
    next_try_in_s: float | None
    connections: int
    failures: int
    published: int
    bytes_published: int
    streams: Mapping[str, StreamStatus]
    commands: Mapping[str, int]  #: counters; empty: none are taken


@dataclass(frozen=True, slots=True)
class _Record:
    """A record on its way: its number, what it is for a report, and its messages, encoded one at a time."""

    seq: int
    first_seq: int
    report: bool
    messages: Callable[[], Iterator[bytes]]
    heavy: bool = False  #: encoding takes some ms, so it is done in a thread
    smaller: Callable[[], Iterator[bytes]] | None = None  #: the same in smaller messages, for a broker that limits them


#: A record that was handed over, and the futures of its PUBACKs.
_UnderWay: TypeAlias = tuple[_Record, list["asyncio.Future[None]"]]


class _Stream:
    """One stream's place: what this process handed over, what came back, what is persisted of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acked = 0
        self.sent = 0
        self.persisted = 0
        self.set_aside = 0
        self.refused = (0, 0)  #: seq, and how many times the server refused it
        self.wake = asyncio.Event()
        self.under_way: asyncio.Queue[_UnderWay] = asyncio.Queue(EVENTS_PER_READ)
        self.confirming: _UnderWay | None = None

    def start(self, acked: int) -> None:
        """Take up the persisted cursor, unless this process is ahead of it."""
        self.persisted = acked
        self.acked = max(self.acked, acked)
        self.sent = max(self.sent, self.acked)
        self.under_way = asyncio.Queue(EVENTS_PER_READ)
        self.confirming = None

    def settle(self) -> None:
        """At the end of a connection: count the acknowledgements that came and were not yet dealt with."""
        rest = [] if self.confirming is None else [self.confirming]
        while not self.under_way.empty():
            rest.append(self.under_way.get_nowait())
        for record, acknowledgements in rest:
            if not all(
                future.done() and not future.cancelled() and not future.exception() for future in acknowledgements
            ):
                return
            self.acked = record.seq


class Uplink:
    """Everything that leaves the house, and commands that come in. ``report`` puts an event on the ledger; it is called
    on the event loop. ``execute`` carries commands out; without it, or where the settings say so, none are taken.
    """  # noqa: D205 - one paragraph

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        clock: Clock,
        report: Callable[[Event], object],
        *,
        boot: str,
        version: str,
        execute: Execute | None = None,
        link: Link | None = None,
    ) -> None:
        will = Will(settings.topic("state"), encode_state(online=False, since_us=None, version=version, boot=boot))
        self._settings = settings
        self._outbox = outbox
        self._clock = clock
        self._report = report
        self._boot = boot
        self._version = version
        commands = execute is not None and settings.takes_commands
        self._link: Link = link or MqttLink(settings.link(will, commands=commands), clock)
        self._downlink = Downlink(settings.topic("command"), execute) if execute is not None and commands else None
        self._telemetry = _Stream("telemetry")
        self._events = _Stream("event")
        self._streams = (self._events, self._telemetry)
        self._catalog_version = -1
        self._signals: Mapping[int, Signal] = {}
        self._acked = asyncio.Event()
        self._store_fault = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        outbox.on_commit(_weakly(self._on_commit))

    async def run(self) -> None:
        """Send until cancelled; says goodbye on a connection that stands."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._link.run(self.serve)
        finally:
            if self._downlink is not None:
                await self._downlink.close()

    def status(self) -> UplinkStatus:
        """Where things stand. Reads the store: async callers use a thread. Raises ``StoreError``."""
        link, streams = self._link.stats, {}
        for stream in self._streams:
            newest = self._outbox.newest(stream.name)
            acked = max(stream.acked, self._outbox.acked(stream.name))
            streams[stream.name] = StreamStatus(newest, acked, max(newest - acked, 0), stream.set_aside)
        next_try_s = link.next_try_s
        return UplinkStatus(
            broker=self._settings.broker_url,
            connected=link.connected,
            protocol=link.protocol,
            last_error=self._store_fault or link.last_error,
            next_try_in_s=None if next_try_s is None else max(next_try_s - self._clock.monotonic_s(), 0.0),
            connections=link.connections,
            failures=link.failures,
            published=link.published,
            bytes_published=link.bytes_published,
            streams=streams,
            commands={} if self._downlink is None else self._downlink.counters(),
        )

    async def serve(self, session: Conversation) -> None:
        """Send on one connection until it ends. Never returns by itself; raises ``Unavailable``."""
        for stream in self._streams:
            stream.start(await self._from_store(self._outbox.acked, stream.name))
            await self._until_stored(partial(self._hold, stream, None))
        try:
            self._catalog_version = -1
            await self._publish_state(session, online=True)
            await self._publish_catalog(session)
            await _run_all(
                self._send(session, self._events, self._read_events),
                self._send(session, self._telemetry, self._read_blocks),
                self._persist(),
                *([] if self._downlink is None else [self._downlink.serve(session)]),
            )
        finally:
            await self._goodbye(session)
            with contextlib.suppress(StoreError):
                for stream in self._streams:
                    stream.settle()
                    await self._persist_one(stream, at_once=True)
                    await self._hold(stream, max(stream.sent, stream.acked))

    # State and catalogue.

    async def _publish_state(self, session: Conversation, *, online: bool) -> None:
        now_us = self._clock.now_us()
        payload = encode_state(online=online, since_us=now_us, version=self._version, boot=self._boot)
        try:
            await (await session.publish(self._settings.topic("state"), payload, retain=True))
        except Refused as error:
            raise Unavailable(error.op, error.reason, error.hint) from error

    async def _publish_catalog(self, session: Conversation) -> None:
        """Publish the catalogue if it has grown, and wait for its PUBACK: records come after the names they need."""
        version, signals = await self._from_store(self._outbox.catalog)
        if version == self._catalog_version:
            return
        self._signals = {signal.id: signal for signal in signals}
        payload = await asyncio.to_thread(encode_catalog, version, signals)
        self._catalog_version = version
        try:
            await (await session.publish(self._settings.topic("catalog"), payload, retain=True))
        except Refused as error:
            # Names can wait, values can't.
            self._report(Event("uplink.catalog_refused", self._clock.now_us(), "catalog", {"reason": error.reason}))

    async def _goodbye(self, session: Conversation) -> None:
        goodbye = asyncio.ensure_future(self._publish_state(session, online=False))
        timeout = asyncio.ensure_future(self._clock.sleep_s(GOODBYE_S))
        await asyncio.wait((goodbye, timeout), return_when=asyncio.FIRST_COMPLETED)
        goodbye.cancel()
        timeout.cancel()
        # Whatever became of it: the connection may have been dead already.
        await asyncio.gather(goodbye, timeout, return_exceptions=True)

    # Records.

    async def _send(
        self,
        session: Conversation,
        stream: _Stream,
        read: Callable[[Conversation, int], Awaitable[Sequence[_Record]]],
    ) -> None:
        """Publish a stream from its cursor on, and move the cursor as acknowledgements come back in order."""

        async def publish() -> None:
            cursor = stream.acked
            while True:
                stream.wake.clear()
                records = await read(session, cursor)
                for record in records:
                    acknowledgements = await self._publish_record(session, stream, record)
                    await stream.under_way.put((record, acknowledgements))
                    cursor = record.seq
                if not records:
                    await stream.wake.wait()

        async def confirm() -> None:
            while True:
                record, acknowledgements = stream.confirming = await stream.under_way.get()
                waiting = [future for future in acknowledgements if not future.done()]
                if waiting:
                    await asyncio.wait(waiting)
                try:
                    for acknowledged in acknowledgements:
                        acknowledged.result()
                except Refused as error:
                    self._refused(stream, record, error)
                stream.acked, stream.confirming = record.seq, None
                self._acked.set()

        await _run_all(publish(), confirm())

    async def _publish_record(
        self, session: Conversation, stream: _Stream, record: _Record
    ) -> list["asyncio.Future[None]"]:
        """Hand all messages of a record over. A record that can't be sent at all is set aside and has none."""
        reason = ""
        for messages in (record.messages, record.smaller):
            if messages is None:
                continue
            heavy = record.heavy or messages is record.smaller
            try:
                return await self._publish_messages(session, stream, record.seq, messages(), heavy=heavy)
            except PayloadError as error:
                reason = str(error)
                break
            except Refused as error:
                reason = error.reason
        self._set_aside(stream, record, reason)
        return []

    async def _publish_messages(
        self, session: Conversation, stream: _Stream, seq: int, messages: Iterator[bytes], *, heavy: bool
    ) -> list["asyncio.Future[None]"]:
        topic = self._settings.topic(stream.name)
        acknowledgements: list[asyncio.Future[None]] = []
        while True:
            payload = await asyncio.to_thread(next, messages, None) if heavy else next(messages, None)
            if payload is None:
                return acknowledgements
            stream.sent = max(stream.sent, seq)
            acknowledgements.append(await session.publish(topic, payload))

    async def _read_blocks(self, session: Conversation, after_seq: int) -> list[_Record]:
        blocks = await self._from_store(self._outbox.blocks, after_seq, BLOCKS_PER_READ)
        if blocks:
            # After the blocks: whatever signal they name is in it.
            await self._publish_catalog(session)
        if self._settings.payload == "blocks":
            return [self._block_record(block) for block in blocks]
        # The small ones all in one visit to a thread: each visit costs more than encoding one of them.
        return await asyncio.to_thread(lambda: [_encoded(self._block_record(block), block.rows) for block in blocks])

    def _block_record(self, block: StoredBlock) -> _Record:
        version, signals = self._catalog_version, self._signals

        def as_json() -> Iterator[bytes]:
            return encode_json(block, version, signals)

        def as_block() -> Iterator[bytes]:
            yield encode_block(block, version)

        if self._settings.payload == "blocks":
            return _Record(block.seq, block.first_seq, report=True, messages=as_block, smaller=as_json)
        return _Record(block.seq, block.first_seq, report=True, messages=as_json, heavy=True)

    async def _read_events(self, _session: Conversation, after_seq: int) -> list[_Record]:
        events = await self._from_store(self._outbox.events, after_seq, EVENTS_PER_READ)
        return [_event_record(event) for event in events]

    # What goes wrong with a record.

    def _refused(self, stream: _Stream, record: _Record, error: Refused) -> None:
        """Count a refusal: raises ``Unavailable`` to try again on a new connection, or sets the record aside."""
        seq, times = stream.refused
        times = times + 1 if seq == record.seq else 1
        stream.refused = (record.seq, times)
        if times < REFUSALS_BEFORE_ASIDE:
            raise Unavailable(error.op, error.reason, error.hint) from error
        self._set_aside(stream, record, error.reason)

    def _set_aside(self, stream: _Stream, record: _Record, reason: str) -> None:
        stream.set_aside += 1
        data = {"first_seq": record.first_seq, "seq": record.seq, "reason": reason}
        if record.report:
            self._report(Event(_SET_ASIDE, self._clock.now_us(), stream.name, data))

    # The store.

    async def _persist(self) -> None:
        while True:
            await self._acked.wait()
            self._acked.clear()
            for stream in self._streams:
                await self._until_stored(partial(self._persist_one, stream))
            await self._clock.sleep_s(PERSIST_EVERY_S)

    async def _persist_one(self, stream: _Stream, *, at_once: bool = False) -> None:
        upto = stream.acked
        if upto > stream.persisted:
            await asyncio.wrap_future(self._outbox.ack(stream.name, upto, at_once=at_once))
            stream.persisted = upto

    async def _hold(self, stream: _Stream, upto_seq: int | None) -> None:
        await asyncio.wrap_future(self._outbox.hold(stream.name, upto_seq))

    async def _from_store(self, read: Callable[..., _Result], *args: object) -> _Result:
        return await self._until_stored(partial(asyncio.to_thread, read, *args))

    async def _until_stored(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do it again until the store is well: the site's data waits there, not here."""
        while True:
            try:
                result = await action()
            except StoreError as error:
                if not self._store_fault:
                    _log.warning("the uplink waits for the store: %s", error)
                self._store_fault = str(error)
                await self._clock.sleep_s(STORE_RETRY_S)
            else:
                if self._store_fault:
                    _log.info("the uplink goes on: the store is well again")
                    self._store_fault = ""
                return result

    def _on_commit(self) -> None:
        # From the writer's thread, perhaps before the first connection or after the last.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for stream in self._streams:
            stream.wake.set()


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A callback that does not keep its object alive: the outbox outlives the uplinks that a new configuration ends."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call


def _encoded(record: _Record, rows: int) -> _Record:
    """A record that makes one small message with this message made; any other one as it is."""
    if rows > MAX_JSON_ROWS:
        return record
    try:
        messages = list(record.messages())
    except PayloadError:
        return record  # it says so again when its turn has come
    return replace(record, messages=partial(iter, messages), heavy=False)


def _event_record(record: StoredEvent) -> _Record:
    def messages() -> Iterator[bytes]:
        yield encode_event(record)

    # The report of a refused report would be refused as well, and so on for ever.
    return _Record(record.seq, record.seq, report=record.event.kind != _SET_ASIDE, messages=messages)


async def _run_all(*parts: Coroutine[None, None, None]) -> None:
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
