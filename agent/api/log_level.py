"""What this process's own loggers log, for a while: see ``log_routes.py``."""

import logging
from typing import Literal

from pydantic import Field

from agent.api.models import Model
from agent.core.clock import Clock

OURS = ("agent", "drivers", "cloud_sync")
LOOK_S = 1.0

Level = Literal["debug", "info", "warning", "error"]


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
        return LogLevelOut(level=level_word(level), configured=level_word(configured), for_s=left_s)

    async def run(self) -> None:
        """Until cancelled; the configured level counts afterwards."""
        try:
            while True:
                await self._clock.sleep_s(LOOK_S)
                if self._until_s is not None and self._clock.monotonic_s() >= self._until_s:
                    self.back()
        finally:
            self.back()


def level_word(number: int) -> Level:
    """What Python's number of a severity is called here."""
    words: tuple[tuple[int, Level], ...] = (
        (logging.ERROR, "error"),
        (logging.WARNING, "warning"),
        (logging.INFO, "info"),
    )
    return next((word for least, word in words if number >= least), "debug")
