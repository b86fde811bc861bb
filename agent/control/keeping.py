"""The notes of one station on their way to disk: in the background, the newest state of each.

Rules of this file:

1. Who must not go on before all is on disk waits; who protects somebody hurries him on: a stop never waits for a disk.
2. Whatever is decided is written to the device first where it may be: the notes begin a turn of the loop later.
3. What is replaced before it was written is not written, nor are its events: a slow disk gets the newest state of each
   note, with the events that tell of it. There are as many places as there are notes, so nothing piles up.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from agent.control.memory import Memory
from agent.core.model import Event

logger = logging.getLogger(__name__)

#: Turns of the loop until each of some tasks has surely done its first step.
_TURNS = 4

_Content = tuple[Mapping[str, object] | None, Sequence[Event]]


class Keeping:
    """Of one station; ``name`` is for people. One task writes, one other may ``wait``."""

    def __init__(self, name: str, memory: Memory) -> None:
        self._name = name
        self._memory = memory
        self._pending: dict[tuple[str, str], _Content] = {}
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        """Write it soon, in place of what of it was not written yet; without ``events`` those stay that wait."""
        if self._closed:
            return
        _, waiting = self._pending.get((kind, key), (None, ()))
        self._pending[kind, key] = data, events or waiting
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name=f"notes of {self._name}")
            self._task.add_done_callback(self._written)

    async def wait(self) -> None:
        """Until all is on disk (or the store could not take it), or somebody hurries."""
        if self._task is None:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def hurry(self) -> None:
        """Who waits goes on at once; what is pending is written all the same."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def close(self) -> None:
        """Hand what is pending to the store, and wait for nothing: it commits what it was handed. Take no more."""
        self._closed = True
        writing: list[asyncio.Task[Any]] = [] if self._task is None else [self._task]
        writing += [asyncio.create_task(self._memory.write(*place, *one)) for place, one in self._pending.items()]
        self._pending.clear()
        for _ in range(_TURNS if writing else 0):
            await asyncio.sleep(0)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)

    async def _write(self) -> None:
        await asyncio.sleep(0)
        while self._pending:
            place = next(iter(self._pending))
            data, events = self._pending.pop(place)
            await self._memory.write(*place, data, events)

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("%s: writing its notes crashed", self._name, exc_info=error)
        self.hurry()
