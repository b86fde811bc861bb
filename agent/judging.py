"""Which alarms and rules are in force over the signals that there are now, and when that is known for the first time.

The ready-made alarms that travel with the program are read in a thread: half a second's work, for which no sample
waits.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.config import Config
from agent.control.alarms import AlarmBook
from agent.core.errors import ConfigError
from agent.core.model import Signal
from agent.overview import Overview
from agent.watching import Watched, alarm_sets

logger = logging.getLogger(__name__)


class Judging:
    """Keeps the alarm book in step with the configuration and with the signals that come to be known.

    ``began`` is set once alarms and rules are judged, and what they want is known.
    """

    def __init__(self, base: Path, config: Callable[[], Config], overview: Overview, alarms: AlarmBook) -> None:
        self.began = asyncio.Event()
        self._base = base
        self._config = config
        self._overview = overview
        self._alarms = alarms
        self._watched: Watched | None = None  #: None: the ready-made alarms are being read
        self._reading: asyncio.Task[None] | None = None
        self._nobody: list[str] = []  #: what conditions name and nobody has

    def apply(self, watched: Watched | None) -> None:
        """Follow a new configuration. ``watched``: what it comes to; None: the ready-made ones are as they were."""
        self._watched = watched or self._watched
        self.judge()
        if self._watched is None and self._reading is None:
            self._reading = asyncio.create_task(self._read_ready_made(), name="ready-made alarms")

    def learn(self, signals: Iterable[Signal]) -> None:
        """Clients post what was not known before: somebody may have waited for it."""
        if {name for item in signals for name in (item.full_name, item.device)}.intersection(self._nobody):
            self.judge()

    def judge(self) -> None:
        """Judge the alarms and rules of the configuration over the signals that there are now."""
        if self._watched is None:
            return
        self.began.set()
        config, signals = self._config(), self._overview.signals()
        try:
            specs = self._watched.specs(config, signals)
        except ConfigError as error:  # of a ready-made one for what has come since the configuration was read
            logger.error("there are no ready-made alarms: %s", error)  # noqa: TRY400 - the text says it all
            specs = self._watched.specs(config.model_copy(update={"alarm_sets": []}), signals)
        nobody = self._alarms.apply(specs, signals, ZoneInfo(config.site.timezone))
        if nobody != self._nobody:
            self._nobody = nobody
            if nobody:
                logger.info("alarms and rules name what nobody has until now: %s", ", ".join(nobody))

    async def close(self) -> None:
        """Read no further."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read_ready_made(self) -> None:
        try:
            watched = Watched(await asyncio.to_thread(alarm_sets, self._base))
        except ConfigError as error:
            logger.error("there are no ready-made alarms: %s", error)  # noqa: TRY400 - the text says it all
            watched = Watched()
        self._reading = None
        self._watched = self._watched or watched
        self.judge()
