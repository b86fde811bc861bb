"""Waiting for something, but not for ever, on the Clock."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from agent.core.clock import Clock

T = TypeVar("T")


async def within(clock: Clock, seconds: float, waiting: Coroutine[Any, Any, T]) -> T | None:
    """What it gives, or None when it has not come in time: then it is cancelled."""
    task = asyncio.ensure_future(waiting)
    timer = asyncio.ensure_future(clock.sleep_s(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        timer.cancel()
        await asyncio.gather(task, timer, return_exceptions=True)
