"""From the sets of ready-made alarms and a site's devices to its alarms. The rules stand in ``alarm_set_files.py``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from agent.alarm_set_files import (
    OWN_WORDS,
    AlarmSetFile,
    Seconds,
    SetAlarm,
    SetValue,
    fill,
    load_alarm_sets,
    own_words,
    read_alarm_set,
    words_of,
)
from agent.config_control import Alarm, AlarmSet
from agent.control.when import Condition
from agent.control.when_tree import Compare, Read, Text, nodes
from agent.core.errors import ConfigError
from agent.core.model import POSTED_ENERGY, POSTED_READINGS, SignalSpec
from agent.share import share_path
from agent.yamlwords import did_you_mean

__all__ = ["FOLDER", "AlarmSetFile", "ReadyMade", "expand", "load_alarm_sets", "read_alarm_set"]

FOLDER = "alarms"


class Configured(Protocol):
    """A device of the configuration, as far as sets look at it; ``every_s`` where it is asked."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def driver(self) -> str:
        """What reads it."""


@dataclass(frozen=True, slots=True)
class _Device:
    """A device with its signals by name."""

    id: str
    driver: str
    every_s: float
    signals: Mapping[str, SignalSpec]

    @property
    def points(self) -> set[str]:
        return {name.partition(".")[0] for name in self.signals}

    @property
    def is_posted(self) -> bool:
        return any(one.source in {POSTED_READINGS, POSTED_ENERGY} for one in self.signals.values())


class ReadyMade:
    """The alarms of sets for the devices of a site. What has not changed since the last time is not made anew: signals
    become known one by one, and a site with 20 chargers has hundreds of alarms.
    """  # noqa: D205 - one sentence

    def __init__(self, sets: Sequence[AlarmSetFile]) -> None:
        self._sets = {one.name: one for one in sets}
        self._made: dict[tuple[str, str], tuple[AlarmSet, _Device, list[Alarm]]] = {}

    def alarms(
        self, configured: Sequence[AlarmSet] | None, devices: Iterable[Configured], signals: Iterable[SignalSpec]
    ) -> list[Alarm]:
        """As ``expand``; an alarm that is the same as before is the same object. Raises ``ConfigError``."""
        entries = [AlarmSet(set=name) for name in self._sets] if configured is None else configured
        there = _devices(devices, signals)
        chosen: dict[tuple[str, str], AlarmSet] = {}
        # What an entry says of devices that it names counts more than what another says of all.
        for entry in sorted(entries, key=lambda one: bool(one.devices)):
            file = _check(entry, self._sets, there)
            for device in there.values():
                if device.id in entry.devices or (not entry.devices and _fits(file, device)):
                    chosen[file.name, device.id] = entry
        made: dict[tuple[str, str], tuple[AlarmSet, _Device, list[Alarm]]] = {}
        for (name, device_id), entry in chosen.items():
            device = there[device_id]
            before = self._made.get((name, device_id))
            same = before is not None and before[:2] == (entry, device)
            found = before[2] if before is not None and same else list(_alarms(self._sets[name], entry, device))
            made[name, device_id] = entry, device, found
        self._made = made
        return [alarm for _, _, found in made.values() for alarm in found]


def expand(
    configured: Sequence[AlarmSet] | None,
    devices: Iterable[Configured],
    signals: Iterable[SignalSpec],
    sets: Sequence[AlarmSetFile] | None = None,
) -> list[Alarm]:
    """The alarms of the sets for the devices that they fit. ``configured`` is the section ``alarm_sets``.

    None: all sets with their own values, doing nothing with stations. ``sets`` are the known ones, None: those that
    travel with the program. Raises ``ConfigError``, named after the entry, for what can't be used.
    """
    known = load_alarm_sets([share_path(f"config/{FOLDER}")]) if sets is None else sets
    return ReadyMade(known).alarms(configured, devices, signals)


def _devices(devices: Iterable[Configured], signals: Iterable[SignalSpec]) -> dict[str, _Device]:
    by_device: dict[str, dict[str, SignalSpec]] = {}
    for signal in signals:
        by_device.setdefault(signal.device, {})[signal.name] = signal
    found = {one.id: one for one in devices}
    return {
        name: _Device(
            name,
            found[name].driver if name in found else "",
            getattr(found.get(name), "every_s", None) or 0,
            by_device.get(name, {}),
        )
        for name in [*found, *(one for one in by_device if one not in found)]
    }


def _check(entry: AlarmSet, known: Mapping[str, AlarmSetFile], devices: Mapping[str, _Device]) -> AlarmSetFile:
    """The set of an entry. Raises ``ConfigError`` for what is named in it and is not there."""
    file = known.get(entry.set)
    if file is None:
        raise ConfigError("alarm_sets", f"there is no set `{entry.set}`", did_you_mean(entry.set, known))
    alarms = [one.id for one in file.alarms]
    for what, names, there in (
        ("device", entry.devices, list(devices)),
        ("value", entry.values, list(file.values)),
        ("alarm", entry.without, alarms),
    ):
        for name in names:
            if name not in there:
                raise ConfigError(f"alarm_sets, {entry.set}", f"there is no {what} `{name}`", did_you_mean(name, there))
    return file


def _fits(file: AlarmSetFile, device: _Device) -> bool:
    points = device.points
    return not points.isdisjoint(file.needs) and points.isdisjoint(file.lacks)


def _alarms(file: AlarmSetFile, entry: AlarmSet, device: _Device) -> list[Alarm]:
    values = {
        name: number
        for name, one in file.values.items()
        if (number := _number(one, entry.values.get(name), device)) is not None
    }
    made: dict[str, list[str]] = {}
    found: list[Alarm] = []
    for template in file.alarms:
        if template.id in entry.without or not device.points.isdisjoint(template.lacks):
            continue
        for alarm in _instances(template, values, device):
            if device.is_posted and alarm.conditions()[0].devices:
                continue  # its client posts when it likes: silence says nothing
            acts = entry.then if template.severity == "critical" else ()
            explained = [name for one in template.suppressed_by for name in made.get(one, ())]
            found.append(alarm.model_copy(update={"then": acts, "suppressed_by": tuple(explained)}))
            made.setdefault(template.id, []).append(alarm.id)
    return found


def _number(one: SetValue, own: float | None, device: _Device) -> float | None:
    if own is not None or one.value is None:
        return own
    number = one.drivers.get(device.driver, one.value)
    return max(number, (one.periods or 0) * device.every_s)


def _instances(template: SetAlarm, values: Mapping[str, float], device: _Device) -> Iterator[Alarm]:
    """The alarms of a template for a device: those that can be judged there."""
    if words_of(template) - set(OWN_WORDS) - set(values):
        return
    for name in [one for one in device.signals if one.partition(".")[0] in template.each] if template.each else [""]:
        point, _, number = name.partition(".")
        words = own_words(device.id, name)
        alarm = _alarm(f"{device.id}-{template.id}{_suffix(template, point, number)}", template, values, words)
        if all(_can_tell(one, device) for one in alarm.conditions() if one is not None):
            yield alarm


def _alarm(name: str, template: SetAlarm, values: Mapping[str, float], words: Mapping[str, str]) -> Alarm:
    """The alarm of that name. Raises ``ConfigError`` where the site's own values make none."""
    try:
        alarm = Alarm(
            id=template.id,
            when=fill(template.when, values, words),
            for_s=_seconds(template.for_s, values),
            clear=None if template.clear is None else fill(template.clear, values, words),
            clear_for_s=_seconds(template.clear_for_s, values),
            severity=template.severity,
            latch=template.latch,
            text=fill(template.text, values, words),
            unknown=template.unknown,
        )
    except ValidationError as error:
        reason = "; ".join(str(one["msg"]) for one in error.errors(include_url=False))
        raise ConfigError(f"alarm_sets, {name}", reason, "look at the values that are given for the set") from error
    # A device's name may be as long as an alarm's: the two together are longer.
    return alarm.model_copy(update={"id": name})


def _suffix(template: SetAlarm, point: str, number: str) -> str:
    several = f"-{point}" if len(template.each) > 1 else ""
    return several + (f"-{number}" if number else "")


def _seconds(value: Seconds, values: Mapping[str, float]) -> float:
    return values[value] if isinstance(value, str) else value


def _can_tell(condition: Condition, device: _Device) -> bool:
    """Whether the device has what the condition reads, labels included."""
    own = {f"{device.id}.{name}": signal for name, signal in device.signals.items()}
    if not condition.signals <= own.keys() or (condition.devices and not own):
        return False
    for node in nodes(condition.tree):
        sides = (node.left, node.right) if isinstance(node, Compare) else ()
        labels = [one.text.casefold() for one in sides if isinstance(one, Text)]
        reads = [own[one.signal] for one in sides if isinstance(one, Read)]
        if labels and reads and labels[0] not in {one.casefold() for one in reads[0].labels.values()}:
            return False
    return True
