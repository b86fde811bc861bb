"""Ready-made alarms as data: ``config/alarms/*.yaml`` say what is watched on a kind of device, and why at that value.

Rules of a set:

1. A set fits a device that has one of the points of ``needs`` and none of ``lacks``; a device that is named gets it in
   any case. An alarm whose points a device does not have is left out, and so is one that asks for a label which its
   signal never shows.
2. A condition is a template: ``{device}``, ``{a_value}`` of ``values``, and, where ``each`` makes one alarm for each
   signal of some points, its ``{point}`` and ``{meaning}``. Alarms are called ``<device>-<id>``.
3. Each value has its source. One without a number of its own is left out, with its alarms, until the site gives one.
   ``drivers`` has other numbers for devices on them; with ``periods`` it is at least so many times the ``every_s`` of
   the device.
4. A site's own file with the same name replaces ours.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from agent.config_control import Alarm, AlarmSet
from agent.control.when import Condition, parse_clear
from agent.control.when import parse as parse_condition
from agent.control.when_tree import Compare, Read, Text, nodes
from agent.core.errors import ConfigError
from agent.core.model import SignalSpec
from agent.core.points import POINTS, find_point
from agent.share import share_path
from agent.yamlfile import Document, Problem, Section, in_order, parse, read_text, refuse
from agent.yamlwords import did_you_mean

FOLDER = "alarms"
_SUFFIXES = (".yaml", ".yml")
_PLACE = re.compile(r"\{([a-z0-9_]*)\}")
_OWN = ("device", "point", "meaning")
_FLAG = " (0/1)"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
#: A number, or the name of one of the set's values.
Seconds = int | float | str


class SetValue(Section):
    """One number of a set, with its source."""

    value: int | float | None = Field(description="the number; null: alarms that need it wait until the site gives it")
    unit: str = Field(description="its unit, as the points write them")
    text: str = Field(description="what it is")
    source: str = Field(description="where it comes from, so that the next person can check it")
    drivers: dict[str, int | float] = Field(default_factory=dict, description="other numbers for devices on a driver")
    periods: int | None = Field(None, ge=1, le=100, description="at least so many times the device's `every_s`")


class SetAlarm(Section):
    """One alarm of a set; the keys of an alarm of the configuration have the same meaning here."""

    id: Name = Field(description="its name within the set")
    when: str = Field(description="the condition, a template")
    for_s: Seconds = Field(0, description="number, or name of a value")
    clear: str | None = Field(None, description="what ends it, a template")
    clear_for_s: Seconds = Field(10, description="number, or name of a value")
    severity: Literal["info", "warning", "critical"] = Field("warning", description="as of any alarm")
    latch: bool = Field(default=False, description="as of any alarm")
    text: str = Field(description="what is wrong and what to do, a template")
    unknown: Literal["hold", "raise", "clear"] = Field("hold", description="as of any alarm")
    suppressed_by: tuple[str, ...] = Field((), description="alarms of the set that explain it")
    each: tuple[str, ...] = Field((), description="one alarm for each signal of these points, also for each `.N`")
    lacks: tuple[str, ...] = Field((), description="only for devices that have none of these points")


class AlarmSetFile(Section):
    """A file of ``config/alarms``."""

    name: Name = Field(description="the file's name without .yaml")
    text: str = Field(description="what it is for")
    needs: tuple[str, ...] = Field(min_length=1, description="points of which a device must have one")
    lacks: tuple[str, ...] = Field((), description="points of which it must have none")
    values: dict[Name, SetValue] = Field(default_factory=dict, description="the numbers in the conditions")
    alarms: tuple[SetAlarm, ...] = Field(min_length=1, description="the alarms")


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


def load_alarm_sets(folders: Sequence[Path]) -> tuple[AlarmSetFile, ...]:
    """All sets of these folders by name; of two with one name that of the first folder.

    Raises ``ConfigError`` with every finding of the first file that has any, one per line.
    """
    found: dict[str, AlarmSetFile] = {}
    for folder in folders:
        for path in _files(folder):
            one = read_alarm_set(path)
            found.setdefault(one.name, one)
    return tuple(found[name] for name in sorted(found))


def read_alarm_set(path: Path) -> AlarmSetFile:
    """One file. Raises ``ConfigError`` with every finding, one per line."""
    document, problems = parse(read_text(path), str(path))
    if document is None:
        raise refuse(path, problems)
    file, problems = document.check(AlarmSetFile)
    if file is None:
        raise refuse(path, problems)
    problems = list(_wrong(document, file, path))
    if problems:
        raise refuse(path, in_order(problems))
    return file


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
    known = {one.name: one for one in (load_alarm_sets([share_path(f"config/{FOLDER}")]) if sets is None else sets)}
    entries = [AlarmSet(set=name) for name in known] if configured is None else configured
    there = _devices(devices, signals)
    chosen: dict[tuple[str, str], AlarmSet] = {}
    # What an entry says of devices that it names counts more than what another says of all.
    for entry in sorted(entries, key=lambda one: bool(one.devices)):
        file = _check(entry, known, there)
        for device in there.values():
            if device.id in entry.devices or (not entry.devices and _fits(file, device)):
                chosen[file.name, device.id] = entry
    return [alarm for (name, device), entry in chosen.items() for alarm in _alarms(known[name], entry, there[device])]


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
    needed = {name for text in _texts(template) for name in _PLACE.findall(text)} | _named(template)
    if needed - set(_OWN) - set(values):
        return
    for name in [one for one in device.signals if one.partition(".")[0] in template.each] if template.each else [""]:
        point, _, number = name.partition(".")
        words = {"device": device.id, "point": name, "meaning": _meaning(point)}
        alarm = Alarm(
            id=f"{device.id}-{template.id}{_suffix(template, point, number)}",
            when=_fill(template.when, values, words),
            for_s=_seconds(template.for_s, values),
            clear=None if template.clear is None else _fill(template.clear, values, words),
            clear_for_s=_seconds(template.clear_for_s, values),
            severity=template.severity,
            latch=template.latch,
            text=_fill(template.text, values, words),
            unknown=template.unknown,
        )
        if all(_can_tell(one, device) for one in alarm.conditions() if one is not None):
            yield alarm


def _suffix(template: SetAlarm, point: str, number: str) -> str:
    several = f"-{point}" if len(template.each) > 1 else ""
    return several + (f"-{number}" if number else "")


def _meaning(point: str) -> str:
    return POINTS[point].doc.removesuffix(_FLAG) if point in POINTS else ""


def _texts(template: SetAlarm) -> list[str]:
    return [template.when, template.clear or "", template.text]


def _named(template: SetAlarm) -> set[str]:
    """The values that its times name."""
    return {one for one in (template.for_s, template.clear_for_s) if isinstance(one, str)}


def _fill(text: str, values: Mapping[str, float], words: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda found: words.get(found[1]) or _shown(values.get(found[1])), text)


def _shown(number: float | None) -> str:
    """A number as it is written in a condition; empty for a word that is empty."""
    if number is None:
        return ""
    return str(int(number)) if float(number).is_integer() else repr(number)


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


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"read {folder}", error.strerror or str(error), "give enlace read access") from error


def _wrong(document: Document, file: AlarmSetFile, path: Path) -> Iterator[Problem]:
    """What the model alone does not see."""
    if file.name != path.stem:
        hint = f"write `name: {path.stem}`, or rename the file"
        yield document.problem(("name",), f"`{file.name}` is not the file's name", hint)
    for key, points in (("needs", file.needs), ("lacks", file.lacks)):
        yield from (_unknown_point(document, (key, at), point) for at, point in _strangers(points))
    before: set[str] = set()
    for index, template in enumerate(file.alarms):
        place = ("alarms", index)
        if template.id in before:
            yield document.problem((*place, "id"), f"two alarms are called `{template.id}`", "give each its own id")
        yield from _wrong_alarm(document, file, template, place, before)
        before.add(template.id)


def _wrong_alarm(
    document: Document, file: AlarmSetFile, template: SetAlarm, place: tuple[str, int], before: set[str]
) -> Iterator[Problem]:
    for key in ("each", "lacks"):
        for at, point in _strangers(getattr(template, key)):
            yield _unknown_point(document, (*place, key, at), point)
    for at, other in enumerate(template.suppressed_by):
        if other not in before:
            yield document.problem(
                (*place, "suppressed_by", at), f"no alarm above it is called `{other}`", did_you_mean(other, before)
            )
    known = {*file.values, *_OWN}
    missing = {name for text in _texts(template) for name in _PLACE.findall(text)} | _named(template)
    for name in sorted(missing - known):
        yield document.problem(place, f"`{name}` is none of the set's values", did_you_mean(name, known))
    if missing - known:
        return
    values = dict.fromkeys(file.values, 1.0)
    for name in template.each or ("",):
        words = {"device": "d", "point": name, "meaning": _meaning(name)}
        try:
            when = parse_condition(_fill(template.when, values, words))
            clear = None if template.clear is None else parse_clear(_fill(template.clear, values, words), when)
        except ConfigError as error:
            yield document.problem((*place, "when"), str(error))
            return
        read = when.signals | (clear.signals if clear else frozenset())
        for _, point in _strangers(sorted(one.partition(".")[2] for one in read)):
            yield _unknown_point(document, (*place, "when"), point)


def _strangers(points: Sequence[str]) -> Iterator[tuple[int, str]]:
    return ((at, point) for at, point in enumerate(points) if find_point(point) is None and point not in POINTS)


def _unknown_point(document: Document, place: Sequence[int | str], point: str) -> Problem:
    return document.problem(place, f"`{point}` is no point", did_you_mean(point, POINTS) or "see agent/core/points.py")
