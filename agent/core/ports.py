"""The small contracts between rooms. A room is given ports; it never reaches for another room's module.

Every implementation passes the contract suite of its port (``tests/contract``).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from agent.core.model import Batch, Column, Event, Number, Signal


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


class Listener(Protocol):
    """A wire that speaks by itself (a CAN bus). One task per wire; the supervisor owns restart and back-off."""

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
class StoredBlock:
    """One stored block on its way out: rows ``seq`` names, still encoded (``agent.core.blocks``)."""

    seq: int  #: the last sequence number that it covers; blocks leave in the order of these
    first_seq: int  #: the first one; larger than every ``seq`` before it
    boot: str  #: the boot that took the samples, as 32 hex digits
    rows: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of the ledger on its way out."""

    seq: int
    boot: str
    event: Event


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

    def ack(self, stream: str, upto_seq: int) -> Future[None]:
        """Persist that all up to there is acknowledged. Moving backwards is ignored."""

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
