"""From the configuration and the wires to what control acts on: stations, schedules, events of a backend."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent import config as cfg
from agent.config_control import AlarmAct, Schedule, StationSwitching
from agent.config_control import EventBackend as EventBackendSection
from agent.control.alarm_model import ALL, RuleAct
from agent.control.load_model import LoadSettings, StationShare
from agent.control.model import Origin, Wish
from agent.control.registered import may_be_registered
from agent.control.schedule import Act, ScheduleSpec
from agent.control.service import ControlService
from agent.control.stations import Target
from agent.control.switching import SwitchLimits
from agent.core.clock import Clock
from agent.core.model import Event
from agent.core.ports import Commandable, Listener, Notebook, Operable
from cloud_sync.event_backend import EventBackend

#: A device is a station when one of these can be set.
_OUTPUTS = ("charging_enabled", "current_limit_a")


def targets(config: cfg.Config, listeners: Iterable[Listener]) -> list[Target]:
    """The stations, in the order of the configuration: chargers, and the outlets of those that have several."""
    limits = {one.station: _limits(one) for one in config.stations}
    found = _targets(config.devices, listeners)
    # What spares a charger's contactor spares those of its outlets.
    return [replace(one, switching=limits.get(one.id) or limits.get(one.device) or one.switching) for one in found]


def _limits(one: StationSwitching) -> SwitchLimits:
    return SwitchLimits(one.min_on_s, one.min_off_s, one.per_hour, one.per_day)


def _targets(devices: Iterable[cfg.Device], listeners: Iterable[Listener]) -> list[Target]:
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
        outlets = _outlets(device)
        found.append(Target(device.id, device.id, 0, name, commandable, operable))
        if outlets > 1:
            found.extend(
                Target(f"{device.id}.{number}", device.id, number, f"{name} {number}", commandable, operable)
                for number in range(1, outlets + 1)
            )
    return found


def load_settings(config: cfg.Config) -> LoadSettings | None:
    """How the site's connection is shared; None: nobody does."""
    section, limit_a = config.load_management, config.site.import_limit_a
    if section is None or limit_a is None:
        return None
    stations = tuple(
        StationShare(one.station, one.priority, one.weight, one.phases, one.max_a) for one in section.stations
    )
    rest = section.margin_a, section.silent_s, section.failsafe_a, section.batteries, stations
    return LoadSettings(section.meter, limit_a, *rest)


def acts(then: Iterable[AlarmAct]) -> tuple[RuleAct, ...]:
    """What is done with stations while something goes on."""
    switch = {"on": True, "off": False, None: None}
    return tuple(RuleAct(one.station, switch[one.set], one.limit_a, one.do or "", one.args) for one in then)


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


class BackendEvents:
    """The client of the server that knows timed events; what goes on there is wished here meanwhile, from now on."""

    def __init__(
        self,
        section: EventBackendSection,
        base: Path,
        clock: Clock,
        notebook: Notebook,
        record: Callable[[Event], None],
        control: ControlService,
    ) -> None:
        self._acts = acts(section.then)
        self._clock = clock
        self._control = control
        self.client = EventBackend(section.settings(base), clock, notebook, record, self._begun, self._ended)
        for event_id, data in self.client.going_on.items():
            self._begun(event_id, data)

    def end(self) -> None:
        """Nothing is wished any more."""
        for event_id in self.client.going_on:
            self._control.derive(_key(event_id), ())

    def _begun(self, event_id: str, data: Mapping[str, object]) -> None:
        key, reason = _key(event_id), f"event {data.get('name') or event_id} of the event backend"
        now_us = self._clock.now_us()
        self._control.derive(
            key,
            [Wish(act.station, key, Origin.SCHEDULE, act.on, act.limit_a, reason, now_us) for act in self._acts],
        )

    def _ended(self, event_id: str, _: Mapping[str, object]) -> None:
        self._control.derive(_key(event_id), ())


def _key(event_id: str) -> str:
    return f"backend-event:{event_id}"


def is_station(config: cfg.Config, name: str) -> bool:
    """Whether the configuration has, or people may have registered, a station of that name."""
    device, _, number = name.partition(".")
    if device == ALL or may_be_registered(name):
        return True
    outlets = next((_outlets(one) for one in config.devices if one.id == device), 0)
    return bool(outlets) and (not number or 1 < outlets >= int(number))


def _outlets(device: cfg.Device) -> int:
    return device.connectors if isinstance(device, cfg.OcppDevice) else 1


def strangers(config: cfg.Config) -> Iterator[tuple[int, int, str]]:
    """Schedule, act and name of each station that the configuration's devices don't have."""
    for index, one in enumerate(config.schedules):
        for place, act in enumerate(one.then):
            if not is_station(config, act.station):
                yield index, place, act.station
