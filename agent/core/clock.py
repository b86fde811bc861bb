"""The only file that reads a clock or sleeps.

Wall time (UTC, µs) stamps samples; monotonic time measures every age, timeout, hold and back-off, because a Raspberry
Pi has no clock battery and its wall time may jump by years.
"""

import asyncio
import heapq
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the house sees it."""

    def now_us(self) -> int:
        """Wall time, µs since 1970 UTC. May jump."""

    def monotonic_s(self) -> float:
        """Seconds that only go forward. The origin means nothing."""

    async def sleep_s(self, seconds: float) -> None:
        """Sleep on monotonic time."""


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Wall time of the machine, µs since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return time.monotonic()

    async def sleep_s(self, seconds: float) -> None:
        """``asyncio.sleep``, which counts monotonic time."""
        await asyncio.sleep(seconds)


class FakeClock:
    """A clock that stands until ``advance`` moves it: tests take no real time and can make wall time jump."""

    def __init__(self, now_us: int = 1_700_000_000_000_000, monotonic_s: float = 1000.0) -> None:
        self._now_us = now_us
        self._monotonic_s = monotonic_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0

    def now_us(self) -> int:
        """The fake wall time, µs since 1970 UTC."""
        return self._now_us

    def monotonic_s(self) -> float:
        """The fake monotonic time in seconds."""
        return self._monotonic_s

    async def sleep_s(self, seconds: float) -> None:
        """Wait until ``advance`` has moved the clock by that much."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._monotonic_s + seconds, self._order, future))
        await future

    def jump_wall(self, seconds: float) -> None:
        """Move wall time only, as NTP or a dead clock battery does."""
        self._now_us += round(seconds * 1e6)

    def advance(self, seconds: float) -> None:
        """Move both clocks and wake who slept until then. The woken run when the loop next gets a turn."""
        self._now_us += round(seconds * 1e6)
        self._monotonic_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic_s:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)
