"""From the configuration to what insight knows of the site beside its history."""

from zoneinfo import ZoneInfo

from agent.config import Config
from agent.insight.service import InsightSettings
from agent.insight.statistics import MAINS_V, PHASES


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
