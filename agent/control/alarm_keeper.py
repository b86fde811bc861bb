"""The note of one alarm or rule, and the events that tell of it, on their way to disk; and how many of those there are.

Rules of this file:

1. Events and the note that they lead to are one commit. What the store does not take goes on the ledger as soon as it
   can, and the note, as it is then, is tried again after ``RETRY_S``.
2. One writes at a time: the task that writes what came by itself, or a person's act, which waits for its place.
3. What it does with stations comes first: the note and the events begin some turns of the loop later.
4. Of what toggles, ``BURST`` changes are told, and from then on one each ``PAUSE_S``.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping

from agent.control.alarm_notes import ALARM
from agent.control.memory import Memory
from agent.core.clock import Clock
from agent.core.model import Event

BURST = 6
PAUSE_S = 10.0
RETRY_S = 10.0
#: Turns of the loop in which a station's task finds out what to write, and begins to.
_TURNS = 2

logger = logging.getLogger(__name__)

Note = Mapping[str, object]


class Keeper:
    """Of one of them. ``note``: as it is now, None when it ended; ``written`` is called each time all was handed over.

    ``alone`` is held by who writes.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        memory: Memory,
        record: Callable[[Event], None],
        note: Callable[[], Note | None],
        written: Callable[[], None],
    ) -> None:
        self._name = name
        self._clock = clock
        self._memory = memory
        self._record = record
        self._note = note
        self._done = written
        self._events: list[Event] = []
        self._version = self._kept_version = 0
        self._retry_s = -math.inf
        self._task: asyncio.Task[None] | None = None
        self.alone = asyncio.Lock()

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return self._task is None

    @property
    def kept(self) -> bool:
        """Whether all is on disk."""
        return self._kept_version == self._version

    def put(self, event: Event | None) -> None:
        """It stands otherwise; write that soon, with the event that tells of it."""
        self._version += 1
        if event is not None:
            self._events.append(event)
        self.start()

    def tick(self, now_s: float) -> None:
        """Once a second: try again what the store did not take."""
        if not self.kept and now_s >= self._retry_s:
            self.start()

    def start(self) -> None:
        """Write what there is to write, and call ``written``."""
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name=f"note of alarm {self._name}")
            self._task.add_done_callback(self._written)

    async def store(self, note: Note, event: Event) -> None:
        """Write this at once, with what waits, or nothing of it. Hold ``alone``. Raises ``StoreError``."""
        version, waiting = self._version, len(self._events)
        await self._memory.notebook.write(ALARM, self._name, note, [*self._events, event])
        del self._events[:waiting]
        self._kept_version = version

    async def close(self) -> None:
        """End the writing; what was not handed to the store is not kept."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        async with self.alone:
            while not self.kept:
                version, events = self._version, self._events
                self._events = []
                if await self._memory.write(ALARM, self._name, self._note(), events) is not None:
                    for event in events:
                        self._record(event)
                    self._retry_s = self._clock.monotonic_s() + RETRY_S
                    break
                self._kept_version = version
        self._done()

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the note of alarm %s can't be written", self._name, exc_info=error)
            self._retry_s = self._clock.monotonic_s() + RETRY_S


class Allowance:
    """How often something may be told: a bucket of ``BURST`` that fills by one each ``PAUSE_S``."""

    def __init__(self, now_s: float) -> None:
        self._left = float(BURST)
        self._seen_s = now_s

    def take(self, now_s: float) -> bool:
        """Whether there is room for one more; it is taken then."""
        self._left = min(float(BURST), self._left + (now_s - self._seen_s) / PAUSE_S)
        self._seen_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
