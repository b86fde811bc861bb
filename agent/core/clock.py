"""The only file that reads a clock or sleeps.

Wall time (UTC, µs) stamps samples; monotonic time measures every age, timeout, hold and back-off, because a Raspberry
Pi has no clock battery and its wall time may jump by years. Whether wall time is believed is ``trusted``
(``agent/clock_trust.py``); who acts by wall time asks ``is_set`` first.
"""

import asyncio
import ctypes
import heapq
import time
from pathlib import Path
from typing import Protocol

#: Nothing of this program is older: a clock that shows an earlier time was never set.
GOOD_CLOCK_US = 1_767_225_600_000_000  # 2026-01-01 UTC

#: adjtimex(2): the clock is not synchronised. The bytes hold any ``struct timex``; zeros ask without changing anything.
_TIME_ERROR = 5
_TIMEX_BYTES = 512


class Clock(Protocol):
    """Time as the house sees it."""

    def now_us(self) -> int:
        """Wall time, µs since 1970 UTC. May jump."""

    def monotonic_s(self) -> float:
        """Seconds that only go forward. The origin means nothing."""

    def trusted(self) -> bool:
        """Whether wall time is believed, by who watches over it; without anybody who does it is."""

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

    def trusted(self) -> bool:
        """Nobody watches over it."""
        return True

    async def sleep_s(self, seconds: float) -> None:
        """``asyncio.sleep``, which counts monotonic time."""
        await asyncio.sleep(seconds)


class HeldClock:
    """A clock whose wall time runs straight on from where it began until it is let go, whatever the machine's does.

    So what is stamped before the clock is set is wrong by one amount, to be corrected once. Thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held_us: int | None = clock.now_us() - round(clock.monotonic_s() * 1e6)

    def now_us(self) -> int:
        """Wall time, µs since 1970 UTC: straight on from the beginning while it is held, then the machine's."""
        held_us = self._held_us
        return self.machine_us() if held_us is None else held_us + round(self._clock.monotonic_s() * 1e6)

    def machine_us(self) -> int:
        """Wall time of the machine."""
        return self._clock.now_us()

    def monotonic_s(self) -> float:
        """Seconds that only go forward."""
        return self._clock.monotonic_s()

    def trusted(self) -> bool:
        """Whether it was let go."""
        return self._held_us is None

    def let_go(self) -> None:
        """Follow the machine's wall time from now on, for ever."""
        self._held_us = None

    async def sleep_s(self, seconds: float) -> None:
        """Sleep on monotonic time."""
        await self._clock.sleep_s(seconds)


def is_set(clock: Clock) -> bool:
    """Whether anything may be done by wall time: it is believed, and not from before this program."""
    return clock.trusted() and clock.now_us() >= GOOD_CLOCK_US


def kernel_synchronised() -> bool | None:
    """Whether a time service steers the machine's clock, as the kernel knows it; None where it does not say."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = -1 if adjtimex is None else adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR


def battery_clock(sys: Path = Path("/sys")) -> bool:
    """Whether the kernel took the time from a clock with a battery when it started (``hctosys`` of rtc, Linux)."""
    for one in sys.glob("class/rtc/rtc*/hctosys"):
        try:
            if one.read_text().strip() == "1":
                return True
        except OSError:
            continue  # it was unplugged
    return False


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

    def trusted(self) -> bool:
        """Nobody watches over it."""
        return True

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
