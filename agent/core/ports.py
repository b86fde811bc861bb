"""The small contracts between rooms. A room is given ports; it never reaches for another room's module.

Every implementation passes the contract suite of its port (``tests/contract``).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from agent.core.model import Batch, Column, Event, Number, Session, Signal, SignalSpec


class Sink(Protocol):
    """Where a driver puts what it reads. Called on the event loop, returns at once, never raises."""

    def put(self, batch: Batch) -> None:
        """New samples, in order of arrival."""

    def touch(self, ids: Column) -> None:
        """These signals were read again just now and their words had not changed."""

    def event(self, event: Event) -> None:
        """Something that happened on the wire: both edges of a fault, once each."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter of this wire (``frames``, ``bad.too_short``, ``overflow``)."""

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        """Numbers for signals that are known only now: what a meter turns out to send, the blocks that a device has.

        The same meaning always gets the same number. Signals that the configuration names are numbered before the wire
        starts and need no call. Raises ``StoreError``: then try again with the next reading.
        """


class Listener(Protocol):
    """A wire that speaks by itself (a CAN bus). One task per wire; the supervisor owns restart and back-off.

    A listener may have ``shown_s``: the monotonic time at which its own loop last went round, or, while it waits for
    something of a known length, at which that ends. It moves on every few seconds whatever its devices do; that is how
    a task that got stuck is told from devices that are silent. One without it is taken to be alive.
    """

    @property
    def name(self) -> str:
        """The wire, as people know it: ``socketcan:can0``."""

    @property
    def devices(self) -> Sequence[str]:
        """The ids of the devices on this wire."""

    @property
    def max_retry_s(self) -> float:
        """The longest pause before it is opened again: short where opening costs little and a bus may come back."""

    async def run(self, sink: Sink) -> None:
        """Open, read until cancelled, close. Safe to call again after any failure.

        Raises ``Unavailable`` when the wire can't be opened or is gone, ``Unsupported`` when it never will work.
        """


@dataclass(frozen=True, slots=True)
class PollJob:
    """One thing that a unit is asked, again and again: its fast registers, its slow ones, a watchdog's refresh.

    ``run`` hands what it reads to the sink and returns. It raises ``NoAnswer`` when the unit did not answer,
    ``BadData`` when the answer broke the protocol, ``Unavailable`` when the wire itself is gone, ``Unsupported`` when
    this unit never will answer as it is configured. It keeps its own time-outs and never waits for the next round.
    """

    every_s: float
    run: Callable[[Sink], Awaitable[None]]


class PolledUnit(Protocol):
    """One device on a wire on which we ask."""

    @property
    def device(self) -> str:
        """The id of the device."""

    @property
    def jobs(self) -> Sequence[PollJob]:
        """What it is asked. The first one is also the probe while it does not answer. May change at any time: it is
        looked at each second, and what is new is run at once.
        """  # noqa: D205 - one sentence

    @property
    def signals(self) -> Sequence[int]:
        """All that it can deliver by now: what becomes unknown when it stops answering."""

    def forget(self) -> None:
        """It stopped answering, or the wire was opened anew: the next answer gives everything in full."""


class Poller(Protocol):
    """A wire on which we ask and are answered (Modbus, M-Bus). ``agent/pipeline/polling.py`` makes a Listener of it:
    schedule, misses, probes and edges are there, once for all protocols.
    """  # noqa: D205 - one sentence

    @property
    def name(self) -> str:
        """The wire, as people know it: ``tcp://10.0.0.21:502``, ``/dev/ttyUSB1``."""

    @property
    def units(self) -> Sequence[PolledUnit]:
        """Who is on it."""

    @property
    def max_retry_s(self) -> float:
        """The longest pause before it is opened again."""

    async def open(self) -> None:
        """Open. Safe to call again after any failure. Raises ``Unavailable`` or ``Unsupported``."""

    async def close(self) -> None:
        """Close; also after a failed open, and twice. Nothing of the old connection is left when it returns."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Something of a device that can be set. Values are physical, in the unit of the point; a switch is 0 or 1.

    ``safe`` is what to set when those who decide can't decide any more; None: the device has no such value.
    ``refresh_s`` is how often the driver repeats what was set, because the device forgets it otherwise.
    """

    device: str
    point: str
    unit: str
    min: Number
    max: Number
    step: Number = 0  #: 0: any value
    zero: bool = False  #: 0 is allowed below ``min``: off
    safe: Number | None = None
    refresh_s: float | None = None


class Commandable(Protocol):
    """What of a device can be set (charging current, enable)."""

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What can be set, by point."""

    async def set(self, point: str, value: Number) -> Number:
        """Set it, read it back, and repeat it for as long as the device needs that; what the device says it is now.

        Raises ``CommandRejected`` (``not_capable``, ``out_of_range``, ``device_refused`` also when it reads back
        otherwise), ``NoAnswer``, ``BadData`` or ``Unavailable``. After an error nobody knows what the device has.
        """

    def release(self) -> None:
        """Stop repeating what was set: the device goes to what its own watchdog says."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a device can be told to do beside its settings (``reset``, ``unlock``)."""

    doc: str  #: one line
    args: Mapping[str, object] = field(default_factory=dict)  #: JSON schema of the arguments, an object


class Operable(Protocol):
    """What a device can be told to do once: each call is one try, nothing is repeated."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """What it can be told, by name. May grow when the device has said what it is."""

    async def act(self, action: str, args: Mapping[str, object]) -> Mapping[str, object]:
        """Do it; what the device answered, JSON-able.

        Raises ``CommandRejected`` (``not_capable``, ``out_of_range`` for bad arguments, ``device_refused``),
        ``NoAnswer``, ``BadData`` or ``Unavailable``.
        """


class Sessions(Protocol):
    """The store of charging sessions. A coroutine returns when its record is on disk; only then may anybody be told.

    All raise ``StoreError``; nothing is stored then.
    """

    async def begin(self, session: Session, events: Sequence[Event] = ()) -> tuple[Session, bool]:
        """Store it under a new number, with the events. When its key is known: that session as it stands, and False."""

    async def change(self, session: Session, events: Sequence[Event] = (), *, at_once: bool = True) -> None:
        """Store its new state, with the events. Without ``at_once`` it may wait for the next group commit."""

    async def find(self, device: str, *, id: int = 0, key: str = "", remote_id: str = "") -> Session | None:  # noqa: A002
        """The session with that number, key or name of the charger's; of several (names repeat) the newest."""

    async def running(self, device: str) -> Sequence[Session]:
        """Those that have not ended, oldest first."""


class Notebook(Protocol):
    """Small durable state, by kind and key: what a charger can do, whom it let in, who decided what.

    All of it is in memory: reading costs nothing. Values are JSON objects.
    """

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        """One note; None where there is none."""

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """All notes of a kind, by key."""

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        """Replace a note (None: delete it), with the events, in one commit. Raises ``StoreError``: nothing changed."""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """One stored block on its way out: rows ``seq`` names, still encoded (``agent.core.blocks``)."""

    seq: int  #: the last sequence number that it covers; blocks leave in the order of these
    first_seq: int  #: the first one; larger than every ``seq`` before it
    boot: str  #: the boot that took the samples, as 32 hex digits
    rows: int
    data: bytes
    clock_set: bool = True  #: False: taken before this boot's wall clock was set, its times may be corrected later


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of the ledger on its way out."""

    seq: int
    boot: str
    event: Event
    hash: str = ""  #: its link in the chain over the ledger, as hex; empty: from before the chain
    clock_set: bool = True  #: as with ``StoredBlock``


class Outbox(Protocol):
    """What must still leave the house: a cursor over the store, never a second copy.

    A crash between reading and acknowledging repeats records, it never loses one. Reads are bounded by the caller.
    Reads block for some ms and are thread-safe: async callers use a thread. A future is done after the commit.
    """

    def blocks(self, after_seq: int, max_blocks: int) -> list[StoredBlock]:
        """Committed blocks with ``first_seq`` > ``after_seq``, oldest first."""

    def events(self, after_seq: int, max_events: int) -> list[StoredEvent]:
        """Committed events after that one, oldest first."""

    def acked(self, stream: str) -> int:
        """The last acknowledged seq of ``telemetry`` or ``event``; 0 before the first."""

    def ack(self, stream: str, upto_seq: int, *, at_once: bool = False) -> Future[None]:
        """Persist that all up to there is acknowledged. Moving backwards is ignored.

        It may take some seconds, for each costs a page of flash; ``at_once`` is for the last one of a connection.
        """

    def newest(self, stream: str) -> int:
        """The seq of the newest committed record of ``telemetry`` or ``event``; 0 before the first."""

    def hold(self, stream: str, upto_seq: int | None) -> Future[None]:
        """Say which records may have left the house: those up to there, or (None) all that there are and will be.

        Such a record keeps its number and its bytes until it is acknowledged, for its PUBACK may have been lost: only
        records above were surely never handed to the network, and only they may be re-packed. None is said before the
        first record of a connection leaves, the highest seq that did leave when the connection has ended. Numbers
        never shrink: a smaller one ends None and leaves the number that stood before. None ends with the process: a
        store that is opened with it takes its newest seq of then as the number.
        """

    def catalog(self) -> tuple[int, Sequence[Signal]]:
        """The catalogue's version and every signal that ever was, so that old blocks stay readable."""

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call back after each commit that added records, from the writer's thread."""


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """A channel that is told of alarms, as health pages and metrics see it."""

    id: str
    addresses: int
    waiting: int  #: news that wait, of all its addresses
    sent: int  #: messages that were taken, since the start
    failures: int  #: tries that failed, since the start
    dropped: int  #: news that were never told
    last_error: str  #: empty while all addresses work
    last_sent_us: int | None
    next_try_in_s: float | None  #: None: nothing waits


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest known value of a signal. ``value`` is physical; None when the signal is not known now."""

    signal: Signal
    value: Number | None
    t_us: int | None  #: when the value was read, µs UTC
    age_s: float | None  #: seconds since it was last read (changed or not); None before the first time


class LatestView(Protocol):
    """Read side of the hub, for the API and the rules."""

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        """One entry for each of the signals, in their order."""
