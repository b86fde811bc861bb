"""``/api/system/log-level``: log more for a while, or less, without a restart.

Rules of this file:

1. It goes back to the configured level by itself: a gateway that was left at ``debug`` would wear out its disk.
2. Only our own loggers are changed. Libraries log at ``debug`` what passes through them, passwords among it.
"""

import logging
from typing import Any, Literal

from pydantic import Field

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth
from agent.api.bodies import Body
from agent.api.models import Model
from agent.api.users import Role
from agent.core.clock import Clock

OURS = ("agent", "drivers", "cloud_sync")
LOOK_S = 1.0
MAX_FOR_S = 86_400

Level = Literal["debug", "info", "warning", "error"]


class LogLevelChange(Body):
    """Another level for a while."""

    level: Level = Field(description="least severity that is logged", examples=["debug"])
    for_s: int = Field(600, ge=1, le=MAX_FOR_S, description="then the configured level counts again", examples=[600])


class LogLevelOut(Model):
    """What is logged now."""

    level: Level
    configured: Level
    for_s: int | None = Field(description="so long yet; null: this is the configured level")


class LogLevel:
    """The level of this process's own loggers. ``run`` is what sets it back in time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: float | None = None

    def set(self, level: Level, for_s: float) -> None:
        """Another level for that time; the last one counts."""
        for name in OURS:
            logging.getLogger(name).setLevel(level.upper())
        self._until_s = self._clock.monotonic_s() + for_s

    def back(self) -> None:
        """The configured level again."""
        for name in OURS:
            logging.getLogger(name).setLevel(logging.NOTSET)
        self._until_s = None

    def now(self) -> LogLevelOut:
        """What is logged now."""
        left_s = None if self._until_s is None else max(0, round(self._until_s - self._clock.monotonic_s()))
        level, configured = logging.getLogger(OURS[0]).getEffectiveLevel(), logging.getLogger().level
        return LogLevelOut(level=_word(level), configured=_word(configured), for_s=left_s)

    async def run(self) -> None:
        """Until cancelled; the configured level counts afterwards."""
        try:
            while True:
                await self._clock.sleep_s(LOOK_S)
                if self._until_s is not None and self._clock.monotonic_s() >= self._until_s:
                    self.back()
        finally:
            self.back()


def add_log_routes(routes: Routes, auth: Auth, clock: Clock) -> LogLevel:
    """Add the routes; what has to run beside them."""
    level = LogLevel(clock)
    one = _LogRoutes(auth, level)
    path, tag = "/api/system/log-level", {"tags": ["system"]}
    more: dict[str, Any] = {"response_model": LogLevelOut, **tag}
    routes.add("GET", path, one.show, Role.ADMIN, summary="What is logged now", **more)
    routes.add("PUT", path, one.change, Role.ADMIN, summary="Log more or less for a while", **more)
    return level


class _LogRoutes:
    def __init__(self, auth: Auth, level: LogLevel) -> None:
        self._auth = auth
        self._level = level

    async def show(self) -> LogLevelOut:
        """Tell the level that counts now and the configured one."""
        return self._level.now()

    async def change(self, body: LogLevelChange, caller: CallerOf) -> LogLevelOut:
        """Change it for ``for_s`` seconds; the audit is told who did."""
        old = self._level.now()
        self._level.set(body.level, body.for_s)
        self._auth.audit(
            caller.name, f"log {body.level} for {body.for_s} s", "log", "done", old=old.level, new=body.level
        )
        return self._level.now()


def _word(number: int) -> Level:
    words: tuple[tuple[int, Level], ...] = (
        (logging.ERROR, "error"),
        (logging.WARNING, "warning"),
        (logging.INFO, "info"),
    )
    return next((word for least, word in words if number >= least), "debug")
