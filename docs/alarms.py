"""Writes the tables of ready-made alarms into ``docs/alarms.md``, between its marks; ``make docs``.

A test holds page and sets together. The rest of the page is written by people.
"""

from pathlib import Path

from agent.alarm_sets import FOLDER, AlarmSetFile, load_alarm_sets
from agent.share import share_path

PAGE = Path(__file__).with_name("alarms.md")
BEGIN, END = "<!-- ready-made: made by `make docs` -->\n", "<!-- ready-made: end -->\n"


def render(page: str) -> str:
    """The page with the tables as they must stand in it. Raises ``ValueError`` where a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no {BEGIN!r} … {END!r}")
    sets = load_alarm_sets([share_path(f"config/{FOLDER}")])
    return before + BEGIN + "\n".join(map(_section, sets)) + END + after


def _section(one: AlarmSetFile) -> str:
    lines = [f"### `{one.name}`: {one.text}", "", "| alarm | severity | raised when | for |", "|---|---|---|---|"]
    for alarm in one.alarms:
        severity = f"{alarm.severity}, latched" if alarm.latch else alarm.severity
        each = f"; each of {', '.join(f'`{point}`' for point in alarm.each)}" if alarm.each else ""
        when = alarm.when.replace("{device}.", "").replace("{device}", "device")
        for_s = f"`{alarm.for_s}`" if isinstance(alarm.for_s, str) else f"{alarm.for_s} s" if alarm.for_s else ""
        lines.append(f"| `{alarm.id}` | {severity} | `{when}`{each} | {for_s} |")
    lines += ["", "| value | default | meaning | source |", "|---|---|---|---|"]
    for name, value in one.values.items():
        others = [f"{number:g} on {driver}" for driver, number in value.drivers.items()]
        others += [f"at least {value.periods} of the device's `every_s`"] if value.periods else []
        default = "the site gives it" if value.value is None else f"{value.value:g} {value.unit}".strip()
        lines.append(f"| `{name}` | {', '.join([default, *others])} | {value.text} | {value.source} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
