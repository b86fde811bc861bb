"""What the writer's thread is given to do: jobs from other threads, and upkeep between commits."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from agent.core.errors import StoreError
from agent.core.model import Batch

#: What is to be done once a COMMIT stands: publish memory, resolve futures.
Publish = Callable[[], None]
#: What a job gives: the same, and rows of telemetry to be stored in its own transaction.
Done = tuple[Publish, Batch | None]


class Pace(Enum):
    """How long a job may wait for its commit."""

    NOW = "now"  #: committed at once
    GROUP = "group"  #: goes with the next commit, whatever asks for it, at the latest with the next group commit
    LAZY = "lazy"  #: goes with a commit each ``StoreSettings.ack_s``, and never overtakes another of its pace


@dataclass(frozen=True, slots=True)
class Job:
    """Work for the writer's next transaction. ``fail`` is called instead when it can't be kept any longer."""

    run: Callable[[sqlite3.Connection], Done]
    fail: Callable[[StoreError], None]
    pace: Pace
    rows: bool  #: with all rows that were appended before
    records: bool  #: it adds records, so those who wait for a commit are called
    keep: bool  #: try again after a failed commit; otherwise ``fail`` at once


class Upkeep(Protocol):
    """What the writer does between commits, in small steps, each its own transaction."""

    def due_s(self) -> float:
        """The monotonic time of the next step; now or earlier: there is one to do."""

    def step(self, connection: sqlite3.Connection) -> bool:
        """Do one step; true when it changed the database. Raises ``sqlite3.Error``; it is then tried again."""

    def pressing(self) -> bool:
        """Whether a step must not wait until there is nothing to commit."""

    def stored(self, rows: int, bytes_: int) -> None:
        """So many rows were just committed, and so large is the file, with what its log holds."""

    def wrote(self, component: str) -> None:
        """All that was written since the last call was written by that (``wear.py``)."""

    def end(self, reason: StoreError) -> None:
        """There will be no more steps."""
