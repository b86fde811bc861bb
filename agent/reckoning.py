"""From the configuration to what insight knows of the site beside its history; and its sums, kept up to date."""

import asyncio
from zoneinfo import ZoneInfo

from agent.config import Config
from agent.core.clock import Clock
from agent.insight.service import Insight, InsightSettings
from agent.insight.statistics import MAINS_V, PHASES

#: How often what was stored is summed up: half a minute's rows of a busy site take some ms.
WARM_S = 30.0


def insight_settings(config: Config) -> InsightSettings:
    """The zone, what energy costs, the meter of the grid connection, and what that connection carries."""
    limit_a = config.site.import_limit_a
    load = config.load_management
    return InsightSettings(
        zone=ZoneInfo(config.site.timezone),
        tariff=None if config.tariff is None else config.tariff.tariff(),
        grid=config.insight.grid or (None if load is None else load.meter),
        limit_w=None if limit_a is None else limit_a * MAINS_V * PHASES,
        ambient=config.insight.ambient,
    )


async def keep_warm(insight: Insight, clock: Clock) -> None:
    """Sum up now and then what was stored, so that no question waits for it. Runs until cancelled."""
    while True:
        await clock.sleep_s(WARM_S)
        await asyncio.to_thread(insight.warm)
