"""Outbox -> payload -> publish -> confirmed -> cursor moves. Puts the parts of the uplink together.

Rules of this file:

1. The store is the queue. What is not confirmed when a connection ends is read and sent again, under the same numbers.
2. The cursor moves over records that are confirmed without a gap (``lanes.py``), by the broker's word or the central
   server's (``confirm.py``), and is persisted about once a second: a crash repeats records, it never loses one.
3. Before the first record leaves, the outbox is told to hold what it has; when the connection has ended, which numbers
   did leave. A record whose PUBACK was lost may be at the server, so it must keep its number.
4. Each connection begins with state, catalogue and the newest value of everything; then come events, then the backlog,
   beside the live data (``sending.py``). The subscriptions go ahead of all that: who sees the site come online may
   send a command at once, and not every broker keeps it.
5. What the central server leaves unconfirmed for too long is sent again, though the broker has acknowledged it; sooner
   on a new connection whose broker has not kept what was said meanwhile.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from agent.core.clock import Clock
from agent.core.errors import StoreError, Unavailable
from agent.core.model import Event, Signal
from agent.core.ports import Outbox
from cloud_sync.confirm import Confirmation
from cloud_sync.downlink import Conversation, Downlink, Execute
from cloud_sync.lanes import Stream
from cloud_sync.link import Link, MqttLink
from cloud_sync.mqtt import Refused
from cloud_sync.patience import Patience
from cloud_sync.payload import encode_catalog, encode_state, encode_status
from cloud_sync.records import Form, Record, event_record
from cloud_sync.sending import GOODBYE_S, Feed, Sender, run_all, within
from cloud_sync.settings import UplinkSettings, Will
from cloud_sync.uplink_parts import NO_PARTS, Node, Parts, StreamStatus, Talk, UplinkStatus

__all__ = ["Node", "Parts", "StreamStatus", "Uplink", "UplinkStatus"]

BLOCKS_PER_READ = 32
EVENTS_PER_READ = 100
PERSIST_EVERY_S = 1.0
OVERDUE_EVERY_S = 5.0


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
        parts: Parts = NO_PARTS,
    ) -> None:
        self._node, self._latest = parts.node, parts.latest
        will = Will(settings.topic("state"), encode_state(online=False, since_us=None, version=version, boot=boot))
        self._settings = settings
        self._outbox = outbox
        self._clock = clock
        self._report = report
        self._boot = boot
        self._version = version
        commands = execute is not None and settings.takes_commands
        asked = self._node.will if self._node else will
        self._link: Link[Conversation] = parts.link or MqttLink(settings.link(asked, commands=commands), clock)
        self._downlink = Downlink(settings.topic("command"), execute) if execute is not None and commands else None
        self._events = self._feed("event", self._read_events)
        self._telemetry = self._feed("telemetry", self._read_blocks)
        self._feeds = (self._events, self._telemetry)
        streams = [feed.stream for feed in self._feeds]
        self._patience = Patience(clock)
        self._confirmation = Confirmation(
            settings, outbox, self._patience, streams, report, self._word_came, parts.notes
        )
        self._form = Form(settings.payload, -1, {})
        self._naming = asyncio.Lock()
        self._moved = asyncio.Event()
        self._waiting_s: dict[str, float] = {}  #: by stream that waits, since when its cursor has not moved
        self._session: Conversation | None = None
        self._talk: Talk | None = None  #: the session, where there is a node
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
        link, next_try_s = self._link.stats, self._link.stats.next_try_s
        return UplinkStatus(
            broker=self._settings.broker_url,
            connected=link.connected,
            protocol=link.protocol,
            last_error=self._patience.fault or link.last_error,
            next_try_in_s=None if next_try_s is None else max(next_try_s - self._clock.monotonic_s(), 0.0),
            connections=link.connections,
            failures=link.failures,
            published=link.published,
            bytes_published=link.bytes_published,
            streams={feed.stream.name: self._stream_status(feed.stream) for feed in self._feeds},
            commands={} if self._downlink is None else self._downlink.counters(),
            acks=self._confirmation.counters(),
            by_word=self._confirmation.by_word,
            central_silent_s=self._confirmation.silent_s,
            central_refused=self._confirmation.refusal,
            node={} if self._node is None else self._node.counters(),
            duplicate=self._link.stats.duplicate(self._clock.monotonic_s()),
            cert_file=self._settings.cert_file,
        )

    def _stream_status(self, stream: Stream) -> StreamStatus:
        newest = self._outbox.newest(stream.name)
        acked = max(stream.cursor, self._outbox.acked(stream.name))
        since_s = self._waiting_s.get(stream.name) if newest > acked else None
        return StreamStatus(
            newest,
            acked,
            max(newest - acked, 0),
            stream.set_aside,
            draining=stream.backlog_left if self._link.stats.connected else 0,
            resent=stream.resent,
            waiting_s=0.0 if since_s is None else self._clock.monotonic_s() - since_s,
        )

    async def serve(self, session: Conversation) -> None:
        """Send on one connection until it ends. Never returns by itself; raises ``Unavailable``."""
        await self._begin(self._events, session)
        self._session = session
        talk = self._talk = None if self._node is None else self._node.talk(session, self._telemetry.stream)
        try:
            # In this order they put their first message on the wire.
            await run_all(
                self._confirmation.serve(session),
                *([] if self._downlink is None else [self._downlink.serve(session)]),
                self._speak(session, talk),
            )
        finally:
            if talk is None:
                await within(self._clock, GOODBYE_S, self._publish_state(session, online=False))
            with contextlib.suppress(StoreError):
                for feed in self._feeds:
                    await self._end(feed)

    async def _speak(self, session: Conversation, talk: Talk | None) -> None:
        """All that goes out, on one connection until it ends."""
        if talk is None:
            await self._begin(self._telemetry, session)
            await self._introduce(session)
        sender = Sender(talk or session, self._clock, self._report, self._confirmed)
        await run_all(
            sender.run([self._events] if talk else self._feeds),
            self._persist(),
            self._send_overdue(),
            *([] if talk is None else [talk.serve(), self._send_telemetry(session, sender, talk)]),
        )

    async def _send_telemetry(self, session: Conversation, sender: Sender, talk: Talk) -> None:
        """When it may leave; until then the store is free to pack it."""
        await talk.ready()
        await self._begin(self._telemetry, session)
        await talk.begin()
        await sender.run([self._telemetry], behind=[self._events])

    # What a connection begins and ends with.

    async def _begin(self, feed: Feed, session: Conversation) -> None:
        name = feed.stream.name
        await self._patience.write(partial(self._outbox.hold, name, None))
        # Behind ``hold``: from here on nothing is sealed over the edge between backlog and live data.
        resume = await self._patience.read(self._outbox.acked, name)
        newest = await self._patience.read(self._outbox.newest, name)
        feed.stream.connect(resume, newest, missed=not session.resumed)
        self._note_waiting(feed)

    async def _end(self, feed: Feed) -> None:
        """Raises ``StoreError``: the numbers stay held, and what was confirmed is sent again."""
        stream = feed.stream
        await self._persist_one(stream, at_once=True)
        await asyncio.wrap_future(self._outbox.hold(stream.name, max(stream.newest_sent, stream.cursor)))

    async def _introduce(self, session: Conversation) -> None:
        self._form = Form(self._settings.payload, -1, {})
        await self._publish_state(session, online=True)
        await self._publish_catalog(session)
        if self._latest is not None:
            now_us, version = self._clock.now_us(), self._form.catalog_version
            payload = encode_status(self._latest(), t_us=now_us, catalog_version=version, boot=self._boot)
            await self._publish_retained(session, "status", payload)

    async def _publish_state(self, session: Conversation, *, online: bool) -> None:
        now_us = self._clock.now_us()
        payload = encode_state(online=online, since_us=now_us, version=self._version, boot=self._boot)
        try:
            await (await session.publish(self._settings.topic("state"), payload, retain=True))
        except Refused as error:
            raise Unavailable(error.op, error.reason, error.hint) from error

    async def _publish_catalog(self, session: Conversation) -> None:
        """Publish the catalogue if it has grown, and wait for its PUBACK: records come after the names they need."""
        async with self._naming:
            version, signals = await self._patience.read(self._outbox.catalog)
            if version == self._form.catalog_version:
                return
            payload = await asyncio.to_thread(encode_catalog, version, signals)
            by_id: Mapping[int, Signal] = {signal.id: signal for signal in signals}
            self._form = Form(self._settings.payload, version, by_id)
            await self._publish_retained(session, "catalog", payload)

    async def _publish_retained(self, session: Conversation, name: str, payload: bytes) -> None:
        try:
            await (await session.publish(self._settings.topic(name), payload, retain=True))
        except Refused as error:
            # Names and a glance can wait, values can't.
            self._report(Event(f"uplink.{name}_refused", self._clock.now_us(), name, {"reason": error.reason}))

    # Records.

    def _feed(self, name: str, read: Callable[[int], Awaitable[Sequence[Record]]]) -> Feed:
        return Feed(Stream(name), self._settings.topic(name), read, partial(self._outbox.newest, name))

    async def _read_blocks(self, after_seq: int) -> Sequence[Record]:
        blocks = await self._patience.read(self._outbox.blocks, after_seq, BLOCKS_PER_READ)
        if not blocks:
            return []
        if self._talk is not None:
            return await self._talk.records(blocks)
        # After the blocks: whatever signal they name is in it.
        assert self._session is not None  # noqa: S101 - who reads sends on it
        await self._publish_catalog(self._session)
        return await asyncio.to_thread(self._form.records, blocks, self._telemetry.stream.cursor)

    async def _read_events(self, after_seq: int) -> Sequence[Record]:
        events = await self._patience.read(self._outbox.events, after_seq, EVENTS_PER_READ)
        return [event_record(event, self._events.stream.cursor) for event in events]

    # What is confirmed.

    def _confirmed(self, feed: Feed) -> None:
        """The cursor may have moved."""
        if feed.stream.cursor > feed.stream.persisted:
            self._waiting_s.pop(feed.stream.name, None)
            self._note_waiting(feed)
            feed.moved.set()
            self._moved.set()

    def _note_waiting(self, feed: Feed) -> None:
        if feed.newest() > feed.stream.cursor:
            self._waiting_s.setdefault(feed.stream.name, self._clock.monotonic_s())

    def _word_came(self) -> None:
        for feed in self._feeds:
            self._confirmed(feed)

    async def _persist(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            for feed in self._feeds:
                await self._persist_one(feed.stream)
            await self._clock.sleep_s(PERSIST_EVERY_S)

    async def _persist_one(self, stream: Stream, *, at_once: bool = False) -> None:
        upto = stream.cursor
        if upto > stream.persisted:
            write = partial(self._outbox.ack, stream.name, upto, at_once=at_once)
            await (asyncio.wrap_future(write()) if at_once else self._patience.write(write))
            stream.persisted = upto

    async def _send_overdue(self) -> None:
        """Go back to what the central server has confirmed, when that is too long ago."""
        while True:
            await self._clock.sleep_s(OVERDUE_EVERY_S)
            for feed in self._feeds:
                if feed.stream.overdue(self._clock.monotonic_s()):
                    # The store knows the last whole record: the server may have confirmed a part of one.
                    ack = partial(self._outbox.ack, feed.stream.name, feed.stream.cursor, at_once=True)
                    await self._patience.write(ack)
                    feed.stream.rewind(await self._patience.read(self._outbox.acked, feed.stream.name))
                    feed.rewound.set()
                    feed.moved.set()

    def _on_commit(self) -> None:
        # From the writer's thread, perhaps before the first connection or after the last.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for feed in self._feeds:
            self._note_waiting(feed)
            feed.committed.set()


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A callback that does not keep its object alive: the outbox outlives the uplinks that a new configuration ends."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
