"""Something long-running: restarts, back-off, edges. The rules stand in ``supervisor.py``."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from agent.core.clock import Clock
from agent.core.errors import AgentError, Unsupported
from agent.pipeline.health import Health, WireState

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
STAYED_UP_S = 5.0
STEADY_S = 30.0

_DOUBLINGS = 6  # 1 s doubled so often is beyond MAX_RETRY_S


class Part:
    """Something long-running: restarts, back-off, edges."""

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        clock: Clock,
        jitter: Callable[[], float],
        max_retry_s: float = MAX_RETRY_S,
    ) -> None:
        self.name = name
        self._max_retry_s = max_retry_s
        self.stopping = False
        self._run = run
        self._clock = clock
        self._jitter = jitter
        self._state = Health.STARTING
        self._since_us = clock.now_us()
        self._running_since_s: float | None = None
        self._online_since_s = 0.0
        self._next_try_at_s: float | None = None
        self._attempts = 0
        self._restarts = 0
        self._resting: asyncio.Future[None] | None = None
        self._error = ""
        self._hint = ""
        self._logged: set[str] = (
            set()
        )  # kinds of faults told since the wire was last online; as many as there are types

    async def supervise(self) -> None:
        """Run until cancelled or unsupported."""
        while True:
            self._running_since_s = self._clock.monotonic_s()
            fault = await self._run_once()
            if self.stopping:
                return
            self._running_since_s = None
            if isinstance(fault, Unsupported):
                self._give_up(fault)
                return
            delay_s = self._fell(fault)
            self._next_try_at_s = self._clock.monotonic_s() + delay_s
            await self._rest(delay_s)
            self._next_try_at_s = None
            self._restarts += 1

    def try_now(self) -> bool:
        """Try again at once, if it waits for its next try; whether it did."""
        if self._resting is None:
            return False
        self._resting.cancel()
        return True

    async def _rest(self, delay_s: float) -> None:
        """Wait for the next try, or until somebody wants it now."""
        self._resting = asyncio.ensure_future(self._clock.sleep_s(delay_s))
        try:
            await asyncio.wait({self._resting})
        finally:
            self._resting.cancel()
            self._resting = None

    async def _run_once(self) -> Exception:
        try:
            await self._run()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not we were cancelled but something that the driver waited for: its fault, not our end.
            return RuntimeError(f"cancelled from within: {error!r}")
        except Exception as error:  # noqa: BLE001 - rule 2: a driver's bug stays in its own wire
            return error
        return AgentError(f"run {self.name}", "ended by itself")

    def tick(self) -> None:
        """Called once a second: notice that it has stayed up for long enough."""
        if self._running_since_s is not None and self._clock.monotonic_s() - self._running_since_s >= STAYED_UP_S:
            self._rose()

    def snapshot(self) -> WireState:
        """The state as it is now."""
        next_try_s = None if self._next_try_at_s is None else max(0.0, self._next_try_at_s - self._clock.monotonic_s())
        return WireState(
            self.name,
            self._devices(),
            self._state,
            self._since_us,
            self._error,
            self._hint,
            next_try_s,
            self._restarts,
            self._counters(),
            self._last_put_age_s(),
        )

    def idle_s(self) -> float | None:
        """Seconds since it showed that it is at work; None where nothing is expected of it."""
        if self._next_try_at_s is not None:
            return max(0.0, self._clock.monotonic_s() - self._next_try_at_s)
        shown_s = self._shown_s()
        if self._running_since_s is None or shown_s is None:
            return None
        return max(0.0, self._clock.monotonic_s() - max(self._running_since_s, shown_s))

    def _shown_s(self) -> float | None:
        """When it last showed that it is at work, monotonic; None: it never does."""
        return None

    def _rose(self) -> None:
        if self._state is Health.ONLINE:
            return
        first = self._state is Health.STARTING
        self._online_since_s = self._clock.monotonic_s()
        self._logged.clear()
        self._enter(Health.ONLINE)
        self._tell_online(first=first)

    def _fell(self, fault: Exception) -> float:
        """Note a fault; gives the seconds to wait before the next try."""
        self._note(fault)
        if self._state is Health.ONLINE and self._clock.monotonic_s() - self._online_since_s >= STEADY_S:
            self._attempts = 0
        base_s = min(self._max_retry_s, FIRST_RETRY_S * float(1 << min(self._attempts, _DOUBLINGS)))
        self._attempts += 1
        delay_s = base_s * (0.5 + 0.5 * self._jitter())
        kind = "expected" if isinstance(fault, AgentError) else type(fault).__name__
        if kind not in self._logged:
            self._logged.add(kind)
            if isinstance(fault, AgentError):
                logger.warning("%s: offline: %s; next try in %.1f s", self.name, fault, delay_s)
            else:
                logger.error("%s: crashed; next try in %.1f s", self.name, delay_s, exc_info=fault)
        if self._state is not Health.OFFLINE:
            self._leave(Health.OFFLINE)
        return delay_s

    def _give_up(self, fault: Unsupported) -> None:
        self._note(fault)
        logger.error("%s: stopped for good: %s", self.name, fault)
        self._leave(Health.UNSUPPORTED)

    def _note(self, fault: Exception) -> None:
        if isinstance(fault, AgentError):
            self._error, self._hint = f"{fault.op}: {fault.reason}", fault.hint
        else:
            text = f"{type(fault).__name__}: {fault}"
            self._error, self._hint = text, "this is a bug of Enlace: the log holds its traceback"

    def _leave(self, state: Health) -> None:
        self._enter(state)
        try:
            self._tell_offline()
        except Exception:
            # The task that restarts this wire must outlive a fault of those whom it tells.
            logger.exception("%s: went offline, but this could not be recorded", self.name)

    def _enter(self, state: Health) -> None:
        self._state = state
        self._since_us = self._clock.now_us()

    def _tell_online(self, *, first: bool) -> None:
        if not first:
            logger.info("%s: runs again", self.name)

    def _tell_offline(self) -> None:
        """For parts that have devices."""

    def _devices(self) -> tuple[str, ...]:
        return ()

    def _counters(self) -> Mapping[str, int]:
        return {}

    def _last_put_age_s(self) -> float | None:
        return None
