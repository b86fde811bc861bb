"""From the configuration and the wires to what control acts on: stations, and schedules."""

from collections.abc import Iterable, Iterator, Sequence
from zoneinfo import ZoneInfo

from agent import config as cfg
from agent.config_control import Schedule
from agent.control.cron import Cron
from agent.control.schedule import Act, ScheduleSpec
from agent.control.stations import Target
from agent.core.errors import ConfigError
from agent.core.ports import Commandable, Listener, Operable

#: A device is a station when one of these can be set.
_OUTPUTS = ("charging_enabled", "current_limit_a")


def targets(devices: Iterable[cfg.Device], listeners: Iterable[Listener]) -> list[Target]:
    """The stations, in the order of the configuration: chargers, and the outlets of those that have several."""
    commandables: dict[str, Commandable] = {}
    operables: dict[str, Operable] = {}
    for listener in listeners:
        # Most wires have neither: a bus that is only listened to, a meter.
        commandables.update(getattr(listener, "commandables", {}))
        operables.update(getattr(listener, "operables", {}))
    found: list[Target] = []
    for device in devices:
        commandable, operable = commandables.get(device.id), operables.get(device.id)
        if operable is None and (commandable is None or not any(name in commandable.settings for name in _OUTPUTS)):
            continue
        name = device.name or device.id
        outlets = device.connectors if isinstance(device, cfg.OcppDevice) else 1
        found.append(Target(device.id, device.id, 0, name, commandable, operable))
        if outlets > 1:
            found.extend(
                Target(f"{device.id}.{number}", device.id, number, f"{name} {number}", commandable, operable)
                for number in range(1, outlets + 1)
            )
    return found


def schedule_specs(schedules: Sequence[Schedule]) -> list[ScheduleSpec]:
    """The schedules that are not switched off."""
    return [
        ScheduleSpec(
            one.id,
            one.cron,
            one.every_s,
            tuple(Act(act.station, act.set, act.limit_a, act.do, act.args) for act in one.then),
        )
        for one in schedules
        if one.enabled
    ]


def bad_lines(config: cfg.Config) -> Iterator[tuple[int, ConfigError]]:
    """Index and fault of each schedule whose crontab line is none; those that are switched off are read too."""
    for index, one in enumerate(config.schedules):
        if one.cron is not None:
            try:
                Cron(one.cron, ZoneInfo(config.site.timezone))
            except ConfigError as error:
                yield index, error


def strangers(config: cfg.Config) -> Iterator[tuple[int, int, str]]:
    """Schedule, act and name of each station that the configuration's devices don't have."""
    outlets = {one.id: one.connectors if isinstance(one, cfg.OcppDevice) else 1 for one in config.devices}
    for index, one in enumerate(config.schedules):
        for place, act in enumerate(one.then):
            device, _, number = act.station.partition(".")
            count = outlets.get(device, 0)
            if not count or (number and not 1 < count >= int(number)):
                yield index, place, act.station
