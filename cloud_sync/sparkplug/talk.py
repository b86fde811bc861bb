"""One connection of a Sparkplug edge node: births, data, deaths, and who may ask for them again.

Rules of this file (Eclipse Sparkplug 3.0; the names in brackets are its clauses without ``tck-id-``):

1. The subscriptions come first, then, when the primary host is there, NBIRTH with sequence number 0 and a DBIRTH of
   each device of which something is known. All else follows. NBIRTH to DDEATH share one sequence, 0 to 255 and 0 again
   (payloads-sequence-num-incrementing), and leave one after the other, with QoS 0 and not retained.
2. A device without a known value has no life here: DDEATH when its last value became unknown, DBIRTH with the first
   that is known again (operational-behavior-device-ddeath). One of which old records are still to be sent stays, or is
   born again for them, until they have left.
3. All births are sent again when a host asks (NCMD ``Node Control/Rebirth``), when there is a metric that no birth has
   named, and when a known one changed (operational-behavior-data-commands-rebirth-action-2); ``bdSeq`` stays. Requests
   are taken once in ``REBIRTH_PAUSE_S``.
4. QoS 0 is acknowledged by nobody. So each record is followed by a small QoS 1 message on a topic of ours: a broker
   reads a connection in order, so with its PUBACK it has all that went before. That moves the cursor; it says nothing
   of what the broker then does with QoS 0 for a subscriber that is slow (``uplink.confirm: ack`` does).
5. When the primary host goes offline: NDEATH, and a new connection that waits for it
   (operational-behavior-edge-node-termination-host-offline). What is not sent stays in the store.
6. Commands other than the rebirth are refused: those come over Enlace's own topic, with an id, a time to live and one
   outcome. Everything refused is counted.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.core.errors import Unavailable
from agent.core.ports import Latest, StoredBlock
from cloud_sync.downlink import Conversation
from cloud_sync.lanes import Stream
from cloud_sync.mqtt import Message, Refused
from cloud_sync.records import Record
from cloud_sync.sending import GOODBYE_S, run_all, within
from cloud_sync.sparkplug.payload import NAMESPACE, DataType, Metric, encode_metric, envelope
from cloud_sync.sparkplug.read import decode_payload, decode_state
from cloud_sync.sparkplug.records import Data, records
from cloud_sync.sparkplug.rows import birth_metrics
from cloud_sync.subscriber import SCHEMA, PayloadError

if TYPE_CHECKING:
    from cloud_sync.sparkplug.node import SparkplugNode

REBIRTH = "Node Control/Rebirth"
REBIRTH_PAUSE_S = 1.0
#: So much is sent before the broker is asked whether it has come.
PROVE_BYTES = 16 << 10
MAX_COMMAND_BYTES = 64 << 10
_COMMANDS, _HOST = "sparkplug", "sparkplug host"
_US_PER_MS = 1000
_SPAN = 256


@dataclass(slots=True)
class Counts:
    """Since the start."""

    births: int = 0  #: NBIRTH
    device_births: int = 0
    device_deaths: int = 0
    rebirths_asked: int = 0
    commands_refused: int = 0
    malformed: int = 0  #: commands and STATE that can't be read

    def as_mapping(self) -> dict[str, int]:
        """By the names that ``/metrics`` has."""
        return {f"sparkplug_{name}_total": count for name, count in asdict(self).items()}


class Talk:
    """One connection; for who sends on it a ``Conversation`` on which ``Data`` takes its own way."""

    def __init__(self, node: "SparkplugNode", session: Conversation, stream: Stream) -> None:
        self._node = node
        self._session = session
        self._stream = stream
        self._turn = asyncio.Lock()  #: what is sent has a number, and leaves in the order of the numbers
        self._seq = 0
        self._there = asyncio.Event()  #: the subscriptions stand, and so does the primary host
        self._open = False  #: births have left
        self._closed = False
        self._due = False  #: births, again
        self._born: dict[str, set[int]] = {}
        self._born_us = 0
        self._asked: set[int] = set()  #: former meanings that old records still have
        self._kept: set[str] = set()  #: devices that live for old records only
        self._unproven: list[asyncio.Future[None]] = []
        self._unproven_bytes = 0

    # As a Conversation.

    @property
    def resumed(self) -> bool:
        """Whether the broker kept what came while we were away."""
        return self._session.resumed

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, correlation_data: bytes = b"", qos: int = 1
    ) -> "asyncio.Future[None]":
        """As ``Session.publish``; the future of ``Data`` is done when the broker surely has it."""
        if isinstance(payload, Data):
            return await self._data(payload)
        return await self._session.publish(topic, payload, retain=retain, correlation_data=correlation_data, qos=qos)

    async def subscribe(self, *filters: str, inbox: str = "") -> None:
        """As ``Session.subscribe``."""
        await self._session.subscribe(*filters, inbox=inbox)

    async def next_message(self, inbox: str = "") -> Message:
        """As ``Session.next_message``."""
        return await self._session.next_message(inbox)

    def acknowledge(self, message: Message) -> None:
        """As ``Session.acknowledge``."""
        self._session.acknowledge(message)

    # Its life.

    async def serve(self) -> None:
        """Listen until cancelled, and say goodbye then. Raises ``Unavailable`` when the connection can't go on."""
        node, host = self._node, self._node.settings.sparkplug_host
        try:
            await self._session.subscribe(node.topic("NCMD"), node.topic("DCMD", "+"), inbox=_COMMANDS)
            if host:
                await self._session.subscribe(f"{NAMESPACE}/STATE/{host}", inbox=_HOST)
            await node.remember()
            await run_all(self._listen(), self._follow(host) if host else self._go_on())
        except Refused as error:
            raise Unavailable(error.op, error.reason, error.hint) from error
        finally:
            await self._goodbye()

    async def ready(self) -> None:
        """Wait until births may leave."""
        await self._there.wait()

    async def begin(self) -> None:
        """Send the births. Whatever is committed from before this call on is read afterwards, as live data."""
        await self._births()

    async def records(self, blocks: Sequence[StoredBlock]) -> list[Record]:
        """What was read of the store, as records."""
        self._due = await self._node.learn() or self._due
        return records(blocks, self._node.signals, self._stream, self._born_us)

    async def _go_on(self) -> None:
        self._there.set()
        await asyncio.Event().wait()

    async def _follow(self, host: str) -> None:
        """Send while the primary host is there."""
        while True:
            message = await self._session.next_message(_HOST)
            self._session.acknowledge(message)
            try:
                online = self._node.host_says(decode_state(message.payload))
            except PayloadError:
                self._node.counts.malformed += 1
                continue
            if online:
                self._there.set()
            elif online is False and self._there.is_set():
                hint = "the data waits in the store until it is back"
                raise Unavailable(f"Sparkplug host {host}", "went offline", hint)

    async def _listen(self) -> None:
        """Take commands."""
        while True:
            message = await self._session.next_message(_COMMANDS)
            self._session.acknowledge(message)
            if self._asks_for_births(message):
                self._node.counts.rebirths_asked += 1
                if self._open:
                    await self._births()
                    await self._node.clock.sleep_s(REBIRTH_PAUSE_S)

    def _asks_for_births(self, message: Message) -> bool:
        counts = self._node.counts
        if message.retain or len(message.payload) > MAX_COMMAND_BYTES:
            counts.commands_refused += 1
            return False
        try:
            metrics = decode_payload(message.payload).metrics
        except PayloadError:
            counts.malformed += 1
            return False
        to_node = message.topic == self._node.topic("NCMD")
        asks = [metric for metric in metrics if to_node and metric.name == REBIRTH]
        counts.commands_refused += len(metrics) - len(asks)
        return any(metric.value is True for metric in asks)

    async def _goodbye(self) -> None:
        """Publish the NDEATH, for the broker publishes no will after a DISCONNECT."""
        self._closed = True
        for proof in self._unproven:
            proof.cancel()
        if self._open:
            await within(self._node.clock, GOODBYE_S, self._publish_death())

    async def _publish_death(self) -> None:
        await (await self._session.publish(self._node.topic("NDEATH"), self._node.death()))

    # Births and deaths.

    async def _births(self) -> None:
        self._due = await self._node.learn() or self._due
        async with self._turn:
            try:
                await self._send_births()
            except Refused as error:
                raise Unavailable(error.op, error.reason, error.hint) from error
        self._open = True

    async def _send_births(self) -> None:
        node = self._node
        newest = node.newest()
        self._due, self._seq, self._born_us = False, 0, node.clock.now_us()
        now_ms = self._born_us // _US_PER_MS
        bd_seq = Metric("bdSeq", timestamp_ms=now_ms, datatype=DataType.INT64, value=node.bd_seq)
        # Without an alias: operational-behavior-data-commands-rebirth-name-aliases.
        rebirth = Metric(REBIRTH, timestamp_ms=now_ms, datatype=DataType.BOOLEAN, value=False)
        own = self._metrics(newest.get(node.own_device, ()))
        await self._send("NBIRTH", "", map(encode_metric, (bd_seq, rebirth, *own)))
        node.counts.births += 1
        self._born = {node.own_device: {metric.alias or 0 for metric in own}}
        for device, latest in newest.items():
            if device != node.own_device and (device in self._kept or _is_alive(latest)):
                await self._send_birth(device, latest)

    async def _send_birth(self, device: str, latest: Sequence[Latest]) -> None:
        metrics = self._metrics(latest)
        await self._send("DBIRTH", device, map(encode_metric, metrics))
        self._node.counts.device_births += 1
        self._born[device] = {metric.alias or 0 for metric in metrics}

    def _metrics(self, latest: Sequence[Latest]) -> list[Metric]:
        node = self._node
        wanted = [entry for entry in latest if node.is_current(entry.signal.id) or entry.signal.id in self._asked]
        current = {entry.signal.id for entry in wanted if node.is_current(entry.signal.id)}
        return birth_metrics(wanted, current, node.clock.now_us())

    async def _bury(self) -> None:
        """Tell the deaths of devices of which nothing is known any more."""
        if not self._stream.backlog_left:
            self._kept.clear()
        newest = self._node.newest()
        for device in [*self._born]:
            if device not in self._kept and device != self._node.own_device and not _is_alive(newest.get(device, ())):
                del self._born[device]
                await self._send("DDEATH", device, ())
                self._node.counts.device_deaths += 1

    # Data.

    async def _data(self, data: Data) -> "asyncio.Future[None]":
        """Raises ``Refused`` when the broker takes no message of this size, ``Unavailable`` when there is none."""
        async with self._turn:
            await self._announce(data)
            own = data.device == self._node.own_device
            await self._send("NDATA" if own else "DDATA", "" if own else data.device, (data,))
            proof: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._unproven.append(proof)
            self._unproven_bytes += len(data)
            # The backlog waits for room with each message, so each must be proven.
            if data.ends or not data.live or self._unproven_bytes >= PROVE_BYTES:
                await self._prove(data.ends)
            if data.ends:
                await self._bury()
            return proof

    async def _announce(self, data: Data) -> None:
        """Send the births that must come before this."""
        node = self._node
        former = {number for number in data.ids if not node.is_current(number)}
        if not data.live:
            self._asked |= former
        elif former:
            for number in former:
                node.make_current(number)
            self._due = True
        born = self._born.get(data.device)
        if born is None and not data.live:
            self._kept.add(data.device)
        if self._due or (born is not None and not data.ids <= born):
            await self._send_births()
        if data.device not in self._born:
            await self._send_birth(data.device, node.newest()[data.device])

    async def _send(self, kind: str, device: str, metrics: Iterable[bytes]) -> None:
        """Hand the next message of the sequence over."""
        node = self._node
        if self._closed:
            raise Unavailable(f"publish {kind}", "the connection ends")
        payload = envelope(node.clock.now_us() // _US_PER_MS, self._seq, metrics)
        await self._session.publish(node.topic(kind, device), payload, qos=0)
        self._seq = (self._seq + 1) % _SPAN

    async def _prove(self, ends: tuple[int, int] | None) -> None:
        """Ask the broker whether it has all that was sent so far."""
        document: dict[str, object] = {"schema": SCHEMA, "stream": self._stream.name}
        if ends:
            document |= {"first_seq": ends[0], "seq": ends[1], "base": self._stream.cursor}
        topic = self._node.settings.topic("sparkplug")
        waiting, self._unproven, self._unproven_bytes = self._unproven, [], 0
        with ExitStack() as unless_sent:
            for proof in waiting:
                unless_sent.callback(proof.cancel)
            proven = await self._session.publish(topic, json.dumps(document).encode())
            unless_sent.pop_all()
        proven.add_done_callback(partial(_pass_on, waiting))


def _is_alive(latest: Iterable[Latest]) -> bool:
    return any(entry.value is not None for entry in latest)


def _pass_on(waiting: Sequence["asyncio.Future[None]"], proven: "asyncio.Future[None]") -> None:
    for proof in waiting:
        if proof.done():
            continue
        if proven.cancelled():
            proof.cancel()
            continue
        error = proven.exception()
        if isinstance(error, Refused):
            # Of no record: its data did leave, but nobody could tell whether it came.
            error = Unavailable(error.op, error.reason, "the broker must let this client publish there, with QoS 1")
        if error is None:
            proof.set_result(None)
        else:
            proof.set_exception(error)
            proof.exception()  # when nobody waits any more
