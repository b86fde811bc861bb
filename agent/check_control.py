"""What ``enlace check`` finds about acting on site: alarms, rules, who is told, load management, the event backend."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.acting import is_station
from agent.config import OWN_DEVICE, Config
from agent.config_control import Alarm, AlarmAct, AlarmSet, Rule
from agent.control.engine import Engine
from agent.core.errors import ConfigError
from agent.core.model import Signal, SignalSpec
from agent.watching import alarm_sets, rule_spec, rule_specs
from agent.yamltree import Problem
from agent.yamlwords import did_you_mean

Place = tuple[int | str, ...]
Found = tuple[str, Problem]
#: Finds a place in the file and says something about it.
At = Callable[[Place, str], Problem]

#: So many of a meter's periods may pass before load management takes it for silent.
_PERIODS = 3


def control_findings(config: "Config", specs: "Sequence[SignalSpec]", base: Path, at: At) -> Iterator[Found]:
    """``specs``: what the devices are known to bring before they have spoken; ``base``: the folder of the file."""
    yield from _conditions(config, specs, at)
    yield from _sets(config, specs, base, at)
    for place, act in _acts(config):
        if act != "*" and not _is_station(config, act):
            yield "warning", at(place, f"there is no station `{act}`: nothing is done")
    ready = "-"  # a ready-made alarm is called DEVICE-NAME; which there are depends on what devices turn out to send
    alarms = {one.id for one in config.alarms}
    for index, alarm in enumerate(config.alarms):
        for name in alarm.suppressed_by:
            if name not in alarms and ready not in name:
                yield "warning", at(("alarms", index, "suppressed_by"), f"there is no alarm `{name}`")
    for index, channel in enumerate(config.notify):
        yield from _file(base / channel.url_file, ("notify", index, "url_file"), at)
    backend = config.event_backend
    if backend is not None and backend.token_file is not None:
        yield from _file(base / backend.token_file, ("event_backend", "token_file"), at)
    yield from _load(config, specs, at)


def _conditions(config: "Config", specs: "Sequence[SignalSpec]", at: At) -> Iterator[Found]:
    """What a condition names and nobody has. Of a device that says itself what it has, any point may come."""
    signals = _numbered(specs)
    names = sorted(signal.full_name for signal in signals)
    closed, devices = {one.device for one in specs}, {one.id for one in config.devices} | {OWN_DEVICE}
    sections: dict[str, Sequence[Alarm | Rule]] = {"alarms": config.alarms, "rules": config.rules}
    for section, entries in sections.items():
        for index, one in enumerate(entries):
            for name in Engine(lambda *_: None).bind([rule_spec(one)], signals, 0.0):
                device = name.partition(".")[0].partition(" ")[0]
                if device in closed:
                    hint = "" if " " in name else did_you_mean(name, names)
                    yield "warning", at((section, index, "when"), f"nobody has `{name}`{hint and f'; {hint}'}")
                elif device not in devices:
                    yield "warning", at((section, index, "when"), f"there is no device `{device}`")


def _numbered(specs: "Sequence[SignalSpec]") -> "list[Signal]":
    return [
        Signal(one.device, one.name, one.unit, one.kind, one.encoding, one.scale, one.offset, one.labels, id=number)
        for number, one in enumerate(specs, 1)
    ]


def _sets(config: "Config", specs: "Sequence[SignalSpec]", base: Path, at: At) -> Iterator[Found]:
    try:
        rule_specs(config, specs, alarm_sets(base))
    except ConfigError as error:
        yield "error", at(("alarm_sets",), str(error))


def _acts(config: "Config") -> Iterator[tuple[Place, str]]:
    """Each station that something is done with, and where that stands."""

    def of(place: Place, then: "Sequence[AlarmAct]") -> Iterator[tuple[Place, str]]:
        for index, act in enumerate(then):
            yield (*place, "then", index, "station"), act.station

    sections: dict[str, Sequence[Alarm | Rule | AlarmSet]] = {
        "alarms": config.alarms,
        "rules": config.rules,
        "alarm_sets": config.alarm_sets or (),
    }
    for section, entries in sections.items():
        for index, one in enumerate(entries):
            yield from of((section, index), one.then)
    if config.event_backend is not None:
        yield from of(("event_backend",), config.event_backend.then)
    for index, share in enumerate(config.load_management.stations if config.load_management else ()):
        yield ("load_management", "stations", index, "station"), share.station
    for index, one_station in enumerate(config.stations):
        yield ("stations", index, "station"), one_station.station


def _is_station(config: "Config", name: str) -> bool:
    return is_station(config, name)


def _file(path: Path, place: Place, at: At) -> Iterator[Found]:
    if not path.is_file():
        yield "warning", at(place, f"there is no file {path}")


def _load(config: "Config", specs: "Sequence[SignalSpec]", at: At) -> Iterator[Found]:
    load = config.load_management
    if load is None:
        return
    points = {one.name for one in specs if one.device == load.meter}
    currents = {"current_l1_a", "current_a", "power_l1_w", "power_w", "power_import_w"}
    if points and not points & currents:
        yield "warning", at(("load_management", "meter"), f"`{load.meter}` tells no current and no power")
    every_s = next((getattr(one, "every_s", None) for one in config.devices if one.id == load.meter), None)
    if every_s is not None and every_s * _PERIODS > load.silent_s:
        text = f"`{load.meter}` is asked every {every_s:g} s: it is taken for silent after {load.silent_s:g} s"
        yield "warning", at(("load_management", "silent_s"), text)
