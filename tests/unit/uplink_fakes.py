"""An outbox in memory, a link without a network, and a block of a few signals: what the uplink's tests stand on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future

import numpy as np

from agent.core.errors import StoreError, Unavailable
from agent.core.model import Encoding, Event, Kind, Signal, float_to_word
from agent.core.ports import StoredBlock, StoredEvent
from agent.store.blocks import encode
from cloud_sync.downlink import Conversation
from cloud_sync.mqtt import LinkStats, Message, Refused
from cloud_sync.uplink import Uplink

BOOT = "00112233445566778899aabbccddeeff"
T0_US = 1_700_000_000_000_000

SIGNALS = (
    Signal("battery1", "voltage_v", "V", scale=0.1, source="0x356 Pack.Voltage", id=1),
    Signal("battery1", "temperature_degc", "°C", scale=0.5, offset=-40, id=2),
    Signal("battery1", "bms_state", kind=Kind.STATE, labels={0: "off", 1: "charging"}, id=3),
    Signal("battery1", "cycles", kind=Kind.COUNTER, encoding=Encoding.UINT, id=4),
    Signal("battery1", "current_a", "A", encoding=Encoding.FLOAT, id=5),
)


def block(seq: int, *, first_seq: int | None = None, rows: int = 5, boot: str = BOOT) -> StoredBlock:
    """A block whose values follow from its number; signal 2 becomes unknown in its last row."""
    ids = np.repeat(np.arange(1, 6, dtype=np.int32), rows)
    times = np.tile(T0_US + seq * 1_000_000 + np.arange(rows, dtype=np.int64) * 100_000, 5)
    words = np.tile(np.arange(rows, dtype=np.int64) + seq, 5)
    words[4 * rows :] = [float_to_word(seq + index / 7) for index in range(rows)]
    invalid = np.zeros(5 * rows, dtype=np.bool_)
    invalid[2 * rows - 1] = True
    data = encode(ids, times, words, invalid)
    return StoredBlock(seq, seq if first_seq is None else first_seq, boot, 5 * rows, data)


def event(seq: int, kind: str = "device.offline", **data: object) -> StoredEvent:
    return StoredEvent(seq, BOOT, Event(kind, T0_US + seq, "battery1", data))


def done() -> "Future[None]":
    future: Future[None] = Future()
    future.set_result(None)
    return future


class MemoryOutbox:
    """The outbox port over two lists, with a diary of what the uplink told it."""

    def __init__(self) -> None:
        self.all_blocks: list[StoredBlock] = []
        self.all_events: list[StoredEvent] = []
        self.cursors = {"telemetry": 0, "event": 0}
        self.diary: list[tuple[str, str, int | None]] = []
        self.signals: Sequence[Signal] = SIGNALS
        self.version = 1
        self.broken = False
        self.reads = 0
        self._callbacks: list[Callable[[], None]] = []

    def add(self, *records: StoredBlock | StoredEvent) -> None:
        for record in records:
            if isinstance(record, StoredBlock):
                self.all_blocks.append(record)
            else:
                self.all_events.append(record)
        for callback in self._callbacks:
            callback()

    def blocks(self, after_seq: int, max_blocks: int) -> list[StoredBlock]:
        self._check()
        self.reads += 1
        return [block for block in self.all_blocks if block.first_seq > after_seq][:max_blocks]

    def events(self, after_seq: int, max_events: int) -> list[StoredEvent]:
        self._check()
        return [event for event in self.all_events if event.seq > after_seq][:max_events]

    def acked(self, stream: str) -> int:
        self._check()
        return self.cursors[stream]

    def ack(self, stream: str, upto_seq: int, *, at_once: bool = False) -> "Future[None]":
        self.diary.append(("ack", stream, upto_seq))
        if stream == "telemetry":
            # A number inside a block confirms what is before it, as with the store.
            upto_seq = min([upto_seq, *(block.first_seq - 1 for block in self.all_blocks if block.seq > upto_seq)])
        self.cursors[stream] = max(self.cursors[stream], upto_seq)
        return done()

    def newest(self, stream: str) -> int:
        records: Sequence[StoredBlock | StoredEvent] = self.all_blocks if stream == "telemetry" else self.all_events
        return records[-1].seq if records else 0

    def hold(self, stream: str, upto_seq: int | None) -> "Future[None]":
        self.diary.append(("hold", stream, upto_seq))
        return done()

    def catalog(self) -> tuple[int, Sequence[Signal]]:
        return self.version, self.signals

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _check(self) -> None:
        if self.broken:
            raise StoreError("read the outbox", "disk is gone")


class FakeSession:
    """A connection whose broker does what the test says: ``puback`` answers, ``cut`` ends it."""

    def __init__(self, window: int = 100) -> None:
        self.sent: list[tuple[str, bytes, bool]] = []
        self.waiting: list[tuple[str, asyncio.Future[None]]] = []
        self.max_waiting = 0
        self.refuse: Callable[[str, bytes], str] = lambda topic, payload: ""
        self.automatic = True
        self.limit = 1 << 28
        self.alive = True
        self.resumed = False
        self.correlations: list[bytes] = []
        self.subscribed: list[str] = []
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.inboxes: dict[str, asyncio.Queue[Message]] = {"": self.inbox}
        self.acknowledged: list[Message] = []
        self.refuse_subscription = ""
        self._window = window
        self._room = asyncio.Event()

    async def subscribe(self, *filters: str, inbox: str = "") -> None:
        if self.refuse_subscription:
            raise Refused("subscribe", self.refuse_subscription)
        self.subscribed += filters

    async def next_message(self, inbox: str = "") -> Message:
        return await self.inboxes.setdefault(inbox, asyncio.Queue()).get()

    def acknowledge(self, message: Message) -> None:
        self.acknowledged.append(message)

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, correlation_data: bytes = b"", qos: int = 1
    ) -> "asyncio.Future[None]":
        if len(payload) > self.limit:
            raise Refused("publish", "too large")
        while self.alive and len(self.waiting) >= self._window:
            self._room.clear()
            await self._room.wait()
        if not self.alive:
            raise Unavailable("publish", "connection lost")
        self.sent.append((topic, payload, retain))
        self.correlations.append(correlation_data)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        reason = self.refuse(topic, payload)
        if reason:
            future.set_exception(Refused("publish", reason))
            future.exception()
        elif self.automatic or retain:
            future.set_result(None)
        else:
            self.waiting.append((topic, future))
            self.max_waiting = max(self.max_waiting, len(self.waiting))
        return future

    def say(self, topic: str, payload: bytes, *, inbox: str = "", retain: bool = False) -> None:
        """A message comes in."""
        self.inboxes.setdefault(inbox, asyncio.Queue()).put_nowait(Message(topic, payload, retain=retain))

    def puback(self, index: int = 0) -> None:
        self.waiting.pop(index)[1].set_result(None)
        self._room.set()

    def cut(self) -> None:
        self.alive = False
        for _, future in self.waiting:
            future.set_exception(Unavailable("publish", "connection lost"))
            future.exception()
        self._room.set()

    def payloads(self, name: str) -> list[bytes]:
        return [payload for topic, payload, _ in self.sent if topic.endswith("/" + name)]


class FakeLink:
    """Gives the uplink the connections that the test makes, one after the other."""

    def __init__(self) -> None:
        self.stats = LinkStats()
        self.sessions: asyncio.Queue[FakeSession] = asyncio.Queue(10)
        self.errors: list[Unavailable] = []

    async def run(self, serve: Callable[[Conversation], Awaitable[None]]) -> None:
        while True:
            session = await self.sessions.get()
            try:
                await serve(session)
            except Unavailable as error:
                self.errors.append(error)


class UplinkRig:
    """What tests do with an uplink over a fake link."""

    link: FakeLink
    uplink: Uplink

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the tasks and the threads run until something is true."""
        for _ in range(60_000):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it never became true")

    async def until_acked(self, seq: int) -> None:
        await self.until(lambda: self.uplink.status().streams["telemetry"].acked == seq)

    async def settle(self) -> None:
        """Until nobody has anything to do but to wait, neither on the loop nor in a thread that it asked."""
        loop = asyncio.get_running_loop()
        for _ in range(60_000):
            await asyncio.sleep(0.001)
            pool = loop._default_executor  # type: ignore[attr-defined]
            idle = pool is None or pool._idle_semaphore._value == len(pool._threads)
            if idle and not loop._ready:  # type: ignore[attr-defined] # a thread is idle after it has called back
                return
        raise AssertionError("somebody never waits")
