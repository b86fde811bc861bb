"""Flash wear: how many bytes this process has written, by what wrote them, and on which day.

Rules of this file:

1. What is counted is what Linux charges to a thread or process for storage (``write_bytes`` of proc(5): pages made
   dirty, before the file system adds its journal and the card its own erase blocks). Elsewhere nothing is told.
2. The writer's thread asks once after each piece of work: all since the last time was written by that. What other
   threads wrote (logs, certificates, users) is the rest of the process: ``other``.
3. Measuring must not wear: sums go to the disk with the hourly upkeep and at the end, into a row for each day and
   component. A process that is killed forgets what it wrote in the last hour.
"""

import os
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.store.schema import get_mark, set_mark
from agent.store.transaction import transaction

DAY_US = 86_400_000_000
#: Over so many days, today among them, the mean is taken; a shorter time than one day says nothing.
MEAN_DAYS = 7
KEPT_DAYS = 400
#: What a commit wrote: with rows of telemetry, or only records of the ledger and the like; sealing, roll-ups and
#: dropping; copying the log into the file; everything else.
COMPONENTS = ("telemetry", "records", "upkeep", "checkpoint", "other")
_SINCE = "wear_since_us"
#: All of the file ``io`` of a thread.
_IO_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Wear:
    """What is known. ``day_bytes``: on the mean of the last days, by component; empty before a day has passed."""

    since_us: int | None  #: from when on the store was measured; None: never
    days: Mapping[int, Mapping[str, int]]  #: by days since 1970 UTC and component
    day_bytes: Mapping[str, float]

    @property
    def bytes_a_day(self) -> float | None:
        """Of all components together; None before a day has passed."""
        return sum(self.day_bytes.values()) if self.day_bytes else None


class Meter:
    """Counts while the process runs. All but ``__init__`` is the writer's thread's, the sums may be read from any."""

    def __init__(self) -> None:
        self._thread: int | None = None
        self._seen = 0
        self._began = process_bytes()
        self._unsaved: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()  #: since the start, by component; ``other`` as of the last save
        self.log_bytes = 0  #: went into the write-ahead log since it was last copied into the file

    def note(self, component: str) -> None:
        """All that this thread wrote since the last call was written by that."""
        written = None if self._began is None else self._thread_bytes()
        if written is None:
            return
        self._add(component, written - self._seen)
        self.log_bytes = 0 if component == "checkpoint" else self.log_bytes + written - self._seen
        self._seen = written

    def close(self) -> None:
        """The thread ends."""
        if self._thread is not None:
            os.close(self._thread)
            self._thread = None

    def save(self, connection: sqlite3.Connection, now_us: int) -> None:
        """Add what was counted to today's, in a transaction of its own. Raises ``sqlite3.Error``; it then counts on."""
        total = process_bytes()
        if total is None or self._began is None:
            return
        # The thread counts first and the process is asked last, so this can't be less; but both only ever grow.
        self._add("other", max(total - self._began - sum(self.sums.values()), 0))
        day = now_us // DAY_US
        with transaction(connection):
            if not get_mark(connection, _SINCE):
                set_mark(connection, _SINCE, now_us)
            connection.executemany(
                """INSERT INTO wear VALUES(?, ?, ?) ON CONFLICT(day, component) DO UPDATE SET
                    bytes = bytes + excluded.bytes""",
                [(day, component, bytes_) for component, bytes_ in self._unsaved.items() if bytes_],
            )
            connection.execute("DELETE FROM wear WHERE day < ?", (day - KEPT_DAYS,))
        self._unsaved.clear()

    def _thread_bytes(self) -> int | None:
        """What this thread has written since it began."""
        if self._thread is None:
            with suppress(OSError):
                self._thread = os.open("/proc/thread-self/io", os.O_RDONLY | os.O_CLOEXEC)
        return None if self._thread is None else _written_bytes(os.pread(self._thread, _IO_BYTES, 0))

    def _add(self, component: str, bytes_: int) -> None:
        self._unsaved[component] += bytes_
        self.sums[component] += bytes_


def read(connection: sqlite3.Connection, now_us: int) -> Wear:
    """What was saved up to now."""
    since_us = get_mark(connection, _SINCE)
    days: dict[int, dict[str, int]] = {}
    for day, component, bytes_ in connection.execute("SELECT day, component, bytes FROM wear ORDER BY day"):
        days.setdefault(day, {})[component] = bytes_
    from_day = now_us // DAY_US - MEAN_DAYS + 1
    passed_us = now_us - max(since_us, from_day * DAY_US)
    if not since_us or passed_us < DAY_US:
        return Wear(since_us or None, days, {})
    sums: Counter[str] = Counter()
    for day, found in days.items():
        if day >= from_day:
            sums.update(found)
    return Wear(since_us, days, {component: sums[component] * DAY_US / passed_us for component in COMPONENTS})


def process_bytes() -> int | None:
    """What this process has caused to be written to storage since its start; None where the system does not say."""
    try:
        return _written_bytes(Path("/proc/self/io").read_bytes())
    except OSError:
        return None


def _written_bytes(io: bytes) -> int:
    return next(int(line.split()[1]) for line in io.splitlines() if line.startswith(b"write_bytes:"))
