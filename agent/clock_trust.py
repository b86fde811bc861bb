"""Whether the machine's wall clock is believed, and what is done when it is set or jumps. Told in docs/clock.md.

Rules of this file:

1. At the start a clock is wrong that shows a time before this program existed, one before the newest that was believed,
   or one more than ``AHEAD_US`` behind that: a dead battery gives any date. It is not believed either while a time
   service that is there has not set it yet, on a machine without a clock that has a battery; but for ``WAIT_S`` at
   most: a site without a network is never kept waiting.
2. While it is not believed, wall time runs straight on from where it began (``HeldClock``), so that all that is stamped
   is wrong by one amount. It is believed when the kernel says that it is synchronised, or when it shows a possible time
   for ``HOLD_S`` without a step. Who sets it back by more than ``BY_HAND_US`` behind what was believed knows better:
   what was believed came from a clock that was ahead.
3. What is believed once stays so until the program ends: a jump is told, and nothing else depends on it. Timers are
   monotonic, schedules have their own rules for jumps.
4. Each edge is logged and told once: ``clock.unset``, ``clock.set``, ``clock.jumped``, and ``clock.corrected`` by the
   store.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.core.clock import GOOD_CLOCK_US, HeldClock, battery_clock, kernel_synchronised
from agent.core.errors import StoreError
from agent.core.model import Event

logger = logging.getLogger(__name__)

TICK_S = 1.0
#: How long a clock that nobody calls synchronised must show a possible time before it is believed.
HOLD_S = 10.0
#: How long a time service that is there is waited for.
WAIT_S = 300.0
#: No gateway stood in a store room for longer than this.
AHEAD_US = 10 * 365 * 86_400_000_000
BY_HAND_US = 86_400_000_000
#: A smaller step is one of a time service at work, or a leap second.
STEP_S = 2.0
#: How often the time is written down that the next start must not fall behind.
KEEP_S = 600.0
#: What the store has to write down that the clock is set, before control goes on without it.
STORE_S = 10.0

SUBJECT = "clock"


class Keeper(Protocol):
    """What the store does about the clock (``agent/store/db.py``)."""

    def set_clock(self, offset_us: int, now_us: int, let_go: Callable[[], None]) -> Future[None]:
        """Put right what this boot stored until ``now_us``, by the wrong clock."""

    def believe(self, now_us: int) -> Future[None]:
        """The next start must not fall behind this time."""

    async def show_twice(self, from_us: int, to_us: int) -> None:
        """The wall clock shows the time in between once more. Raises ``StoreError``."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the machine says of its clock."""

    #: Whether a time service steers it; None: nobody can tell.
    synchronised: Callable[[], bool | None]
    #: Whether a time service runs that has still to set it, and nothing else did.
    expected: Callable[[], bool]


def machine_sources(run: Path = Path("/run"), sys: Path = Path("/sys")) -> Sources:
    """Those of a Linux machine: the kernel, systemd-timesyncd and the clock with a battery."""
    timesync = run / "systemd" / "timesync"
    done = timesync / "synchronized"

    def synchronised() -> bool | None:
        return True if done.exists() else kernel_synchronised()

    def expected() -> bool:
        return timesync.exists() and not done.exists() and not kernel_synchronised() and not battery_clock(sys)

    return Sources(synchronised, expected)


class ClockTrust:
    """Watches over a clock. ``begin`` comes before the store writes this start down; ``run`` it as a part."""

    def __init__(self, clock: HeldClock, sources: Sources) -> None:
        self._clock = clock
        self._sources = sources
        self._believed_us = 0
        self._begun_us = clock.now_us()
        self._by_hand = False
        self._waits_until_s = clock.monotonic_s() + WAIT_S
        self._good_since_s: float | None = None
        self._offset_s = self._machine_offset_s()
        self._kept_s = float("-inf")
        self.reason = ""  #: why it is not believed
        self.jumps = 0  #: since it is believed

    @property
    def good(self) -> bool:
        """Whether the clock is believed."""
        return self._clock.trusted()

    def begin(self, believed_us: int) -> None:
        """Judge the clock as it is at the start. ``believed_us``: the newest time that earlier ones believed, or 0."""
        self._believed_us = believed_us
        self._judge()
        if not self.reason:
            self._clock.let_go()

    async def run(self, store: Keeper, record: Callable[[Event], None]) -> None:
        """Look at the clock once a second, until cancelled."""
        if not self._clock.trusted():
            logger.warning("the clock is not set: %s; schedules wait, times are put right later", self.reason)
            record(Event("clock.unset", self._clock.now_us(), SUBJECT, {"reason": self.reason}))
        while True:
            await self.tick(store, record)
            await self._clock.sleep_s(TICK_S)

    async def tick(self, store: Keeper, record: Callable[[Event], None]) -> None:
        """What ``run`` does once a second."""
        now_s, offset_s = self._clock.monotonic_s(), self._machine_offset_s()
        step_s, self._offset_s = offset_s - self._offset_s, offset_s
        jumped = abs(step_s) >= STEP_S
        if not self._clock.trusted():
            await self._watch(now_s, store, record, jumped=jumped)
            return
        if jumped:
            self.jumps += 1
            logger.warning("the clock jumped by %+.0f s", step_s)
            now_us = self._clock.now_us()
            record(Event("clock.jumped", now_us, SUBJECT, {"by_s": round(step_s, 3)}))
            await self._went_back(store, now_us, now_us - round(step_s * 1e6))
        if jumped or now_s - self._kept_s >= KEEP_S:
            self._kept_s = now_s
            store.believe(self._clock.now_us()).add_done_callback(lambda future: future.exception())

    async def _watch(self, now_s: float, store: Keeper, record: Callable[[Event], None], *, jumped: bool) -> None:
        """Believe it as soon as it may be."""
        if jumped:
            self._good_since_s = None
            self._by_hand = self._believed_us - self._clock.machine_us() > BY_HAND_US
        self._judge()
        if self.reason:
            self._good_since_s = None
            return
        if self._good_since_s is None:
            self._good_since_s = now_s
        if self._sources.synchronised():
            await self._believe("synchronised", store, record)
        elif now_s - self._good_since_s >= HOLD_S:
            await self._believe("plausible", store, record)

    def _judge(self) -> None:
        """Why the machine's clock is not believed; nothing: it may be."""
        now_us = self._clock.machine_us()
        if now_us < GOOD_CLOCK_US:
            self.reason = "it shows a time before this program existed"
        elif self._sources.synchronised() or self._by_hand:
            self.reason = ""
        elif now_us < self._believed_us:
            self.reason = f"it is {(self._believed_us - now_us) / 1e6:.0f} s behind what it showed before"
        elif now_us - max(self._believed_us, GOOD_CLOCK_US) > AHEAD_US:
            self.reason = "it shows a time that is more than ten years ahead"
        elif self._sources.expected() and self._clock.monotonic_s() < self._waits_until_s:
            self.reason = "its time service has not set it yet, and it has no battery"
        else:
            self.reason = ""

    async def _believe(self, by: str, store: Keeper, record: Callable[[Event], None]) -> None:
        now_us = self._clock.now_us()
        offset_us = self._clock.machine_us() - now_us
        future = store.set_clock(offset_us, now_us, self._clock.let_go)
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), STORE_S)
        except TimeoutError:
            # Control must not wait for a disk: the store does it as soon as it can.
            logger.warning("the disk takes long to write down that the clock is set")
            self._clock.let_go()
        except StoreError:
            return  # its queue is full: again in a second
        logger.info("the clock is set (%s); it was %+.0f s off since the start", by, offset_us / 1e6)
        record(Event("clock.set", self._clock.now_us(), SUBJECT, {"by": by, "offset_us": offset_us}))
        await self._went_back(store, self._begun_us + offset_us, self._believed_us)

    async def _went_back(self, store: Keeper, from_us: int, to_us: int) -> None:
        """What stands between is shown twice, if there is anything: energy must not be counted twice."""
        if from_us < to_us:
            try:
                await store.show_twice(from_us, to_us)
            except StoreError as error:
                logger.warning("energy of the time that the clock shows twice may be counted twice: %s", error)

    def _machine_offset_s(self) -> float:
        return self._clock.machine_us() / 1e6 - self._clock.monotonic_s()
