"""The limits of a charger as others see them: what is in force is shown, and who starts waits for the safe limit."""

import asyncio
from collections.abc import Callable, Mapping

from agent.core.clock import Clock
from agent.core.model import Number
from drivers.ocpp.limits import Limits
from drivers.ocpp.ports import ChargerState
from drivers.waiting import within

SAFE_WAIT_S = 3.0


class WatchedLimits(Limits):
    """The limits of a charger; ``tell`` is told what is in force, and others may wait for the safe limit."""

    def __init__(self, state: ChargerState, clock: Clock, tell: Callable[[Mapping[str, Number | None]], None]) -> None:
        super().__init__(state, clock)
        self._tell = tell
        self._shown: Mapping[str, Number | None] = {}
        self._tried = asyncio.Event()
        self._waits_until_s = 0.0

    def show(self) -> None:
        """Tell what is in force, where that has changed; each second, and after each change."""
        now = self.in_force()
        if now != self._shown:
            self._shown = now
            self._tell(now)

    def unshown(self) -> None:
        """What was told is forgotten there."""
        self._shown = {}

    def connected(self) -> None:
        """See ``Limits``; who starts now waits for the safe limit, for some seconds."""
        super().connected()
        self._tried.clear()
        self._waits_until_s = self._clock.monotonic_s() + SAFE_WAIT_S

    async def settled(self) -> None:
        """Until the safe limit was tried on this connection, or it took too long."""
        left_s = self._waits_until_s - self._clock.monotonic_s()
        if left_s > 0 and not self._tried.is_set():
            await within(self._clock, left_s, self._tried.wait())

    async def install_safe(self) -> None:
        """See ``Limits``."""
        try:
            await super().install_safe()
        finally:
            self._tried.set()
            self.show()

    async def restore(self) -> None:
        """See ``Limits``."""
        try:
            await super().restore()
        finally:
            self.show()

    async def set(self, point: str, value: Number) -> Number:
        """See ``Limits``."""
        try:
            return await super().set(point, value)
        finally:
            self.show()
