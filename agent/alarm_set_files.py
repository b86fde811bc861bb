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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from agent.control.when import parse as parse_condition
from agent.control.when import parse_clear
from agent.core.errors import ConfigError
from agent.core.points import POINTS, find_point
from agent.yamlfile import Document, Problem, Section, load_yaml, yaml_files
from agent.yamlwords import did_you_mean

#: Words of a template that are no values.
OWN_WORDS = ("device", "point", "meaning")
_PLACE = re.compile(r"\{([a-z0-9_]*)\}")
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


def load_alarm_sets(folders: Sequence[Path]) -> tuple[AlarmSetFile, ...]:
    """All sets of these folders by name; of two with one name that of the first folder.

    Raises ``ConfigError`` with every finding of the first file that has any, one per line.
    """
    found: dict[str, AlarmSetFile] = {}
    for folder in folders:
        for path in yaml_files(folder):
            one = read_alarm_set(path)
            found.setdefault(one.name, one)
    return tuple(found[name] for name in sorted(found))


def read_alarm_set(path: Path) -> AlarmSetFile:
    """One file. Raises ``ConfigError`` with every finding, one per line."""
    return load_yaml(path, AlarmSetFile, lambda document, file: _wrong(document, file, path))


def words_of(template: SetAlarm) -> set[str]:
    """The words that a template's texts and times name."""
    texts = (template.when, template.clear or "", template.text)
    times = {one for one in (template.for_s, template.clear_for_s) if isinstance(one, str)}
    return times | {word for text in texts for word in _PLACE.findall(text)}


def own_words(device: str, name: str) -> dict[str, str]:
    """What the words that are no values stand for; ``name`` is the signal's, empty where a template has no ``each``."""
    point = name.partition(".")[0]
    meaning = POINTS[point].doc.removesuffix(_FLAG) if point in POINTS else ""
    return {"device": device, "point": name, "meaning": meaning}


def fill(text: str, values: Mapping[str, float], words: Mapping[str, str]) -> str:
    """A template with its words put in."""
    return _PLACE.sub(lambda found: words.get(found[1]) or _shown(values.get(found[1])), text)


def _shown(number: float | None) -> str:
    """A number as it is written in a condition; empty for a word that is empty."""
    if number is None:
        return ""
    return str(int(number)) if float(number).is_integer() else repr(number)


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
    known = {*file.values, *OWN_WORDS}
    missing = words_of(template)
    for name in sorted(missing - known):
        yield document.problem(place, f"`{name}` is none of the set's values", did_you_mean(name, known))
    if missing - known:
        return
    values = dict.fromkeys(file.values, 1.0)
    for name in template.each or ("",):
        words = own_words("d", name)
        try:
            when = parse_condition(fill(template.when, values, words))
            clear = None if template.clear is None else parse_clear(fill(template.clear, values, words), when)
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
