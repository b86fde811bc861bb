"""The maintenance report: one page of HTML that needs nothing else, to be printed or kept; and the log as CSV. Pure.

Rules of this file:

1. All that is not written here is escaped, in whatever place it stands. There is no script, no link, no address.
2. The one style sheet is named by its hash in the page's own Content-Security-Policy; no element has its own style.
3. What is left out for its length is told.
"""

import base64
import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from agent.api.times import iso
from agent.core.model import Number
from agent.insight.machines import Machine
from agent.insight.maintenance_due import Counted, Due
from agent.store.maintenance import Entry

MAX_MACHINES = 500
MAX_ENTRIES = 5000
MAX_ROWS = 10_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DAY = 10  # letters of an ISO date

STYLE = """
body { font: 11pt/1.4 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #111; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; border-bottom: 1px solid #888; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; margin: .6em 0 1.2em; font-size: .9em; }
th, td { border: 1px solid #bbb; padding: .25em .5em; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #eee; } caption { text-align: left; font-weight: bold; padding: .3em 0; }
td.number { text-align: right; white-space: nowrap; } tr.gone td { color: #666; text-decoration: line-through; }
.overdue { font-weight: bold; color: #a00; } .due { font-weight: bold; color: #850; }
@media print { body { margin: 0; max-width: none; font-size: 9pt; } section { break-inside: avoid-page; } }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

#: How counters are shown: name, divisor, unit.
_COUNTERS: Mapping[str, tuple[str, float, str]] = {
    "days": ("days", 1, "d"),
    "running_s": ("running hours", 3600, "h"),
    "energy_wh": ("energy", 1000, "kWh"),
    "cycles": ("cycles", 1, ""),
    "switches": ("switched on", 1, ""),
    "sessions": ("sessions", 1, ""),
    "contactor": ("contactor", 1, ""),
}


@dataclass(frozen=True, slots=True)
class Report:
    """What a report is about. ``states``: of devices; ``left_out``: machines and entries that it has no room for."""

    site: str
    now_us: int
    from_us: int | None
    to_us: int | None
    machines: Sequence[Machine]
    states: Mapping[str, str]
    counters: Mapping[str, Mapping[str, Number]]
    due: Sequence[Due]
    entries: Sequence[Entry]
    left_out: tuple[int, int] = field(default=(0, 0))


def page(report: Report) -> str:
    """The report as HTML."""
    codes = {one.code for one in report.machines}
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f"<title>Maintenance of {escape(report.site)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Maintenance of {escape(report.site)}</h1>",
        f"<p>{_span(report)} Written {_time(report.now_us)} UTC.</p>",
        *_notes(report),
        _overview([one for one in report.due if one.machine in codes]),
    ]
    parts += [_machine(one, report) for one in report.machines]
    # A machine that was taken out has a history all the same.
    others = [one for one in report.entries if one.machine not in codes]
    if others:
        whose = "Machines that are gone, or left out above" if report.left_out[0] else "Machines that are gone"
        parts.append(f"<section><h2>{whose}</h2>{_history(others, code=True)}</section>")
    parts.append("</body></html>\n")
    return "".join(parts)


def to_csv(entries: Iterable[Entry]) -> str:
    """The log as CSV (RFC 4180), the latest first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    shown = [name for name in _COUNTERS if name not in {"days", "contactor"}]
    names = ["id", "machine", "date", "kind", "description", "technician", "cost", "currency", "parts"]
    writer.writerow([*names, *shown, "plan", "void", "corrects", "corrected_by", "created", "created_by"])
    for one in entries:
        row: list[object] = [one.id, one.machine, iso(one.t_us), one.kind, one.description, one.technician, one.cost]
        row += [one.currency, "; ".join(one.parts), *(one.counters.get(name) for name in shown), one.plan]
        row += [int(one.void), one.corrects, one.corrected_by, iso(one.created_us), one.created_by]
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: object) -> object:
    """Somebody's text must not be taken for a formula by who opens the file in a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _span(report: Report) -> str:
    if report.from_us is None and report.to_us is None:
        return "All that was written down."
    begin = "the beginning" if report.from_us is None else _time(report.from_us)
    end = "now" if report.to_us is None else _time(report.to_us)
    return f"From {begin} to {end}."


def _notes(report: Report) -> list[str]:
    machines, entries = report.left_out
    told = [f"{machines} more machines"] if machines else []
    told += [f"{entries} older entries"] if entries else []
    return (
        [f"<p>Left out for their length: {' and '.join(told)}. Ask for one machine or for less time.</p>"]
        if told
        else []
    )


def _overview(due: Sequence[Due]) -> str:
    found = [one for one in due if one.state in {"due", "overdue"}]
    if not found:
        return "<p>Nothing is due.</p>"
    return _due_table("What is due", found, code=True)


def _machine(machine: Machine, report: Report) -> str:
    facts = [
        ("Type", machine.type),
        ("State", ", ".join(filter(None, (machine.status, report.states.get(machine.code, ""))))),
        ("Location", machine.location),
        ("Installed", machine.installed or ""),
        ("Maker", " ".join(filter(None, (machine.maker, machine.model)))),
        ("Serial number", machine.serial),
        ("Firmware", machine.firmware),
        ("Notes", machine.notes),
    ]
    rows = [f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in facts if text]
    counters = report.counters.get(machine.code, {})
    rows += [
        f"<tr><th>Counter: {_COUNTERS[name][0]}</th><td>{_amount(name, value)}</td></tr>"
        for name, value in counters.items()
        if name in _COUNTERS
    ]
    due = [one for one in report.due if one.machine == machine.code]
    done = [one for one in report.entries if one.machine == machine.code]
    return "".join(
        (
            f"<section><h2>{escape(machine.name)} ({escape(machine.code)})</h2>",
            f"<table><tbody>{''.join(rows)}</tbody></table>",
            _due_table("Plans", due, code=False) if due else "",
            _history(done, code=False) if done else "<p>Nothing was written down.</p>",
            "</section>",
        )
    )


def _due_table(caption: str, due: Iterable[Due], *, code: bool) -> str:
    head = f"{'<th>Machine</th>' if code else ''}<th>Work</th><th>State</th><th>Due</th><th>Last</th><th>Counted</th>"
    rows = []
    for one in due:
        last = "" if one.entry is None else _date(one.entry.t_us)
        counted = "; ".join(filter(None, map(_counted, one.counted)))
        cells = f"<td>{escape(one.name)} ({escape(one.machine)})</td>" if code else ""
        cells += f'<td>{escape(one.plan.name)}</td><td class="{one.state}">{one.state}</td>'
        due_text = "" if one.due_us is None else _date(one.due_us)
        rows.append(f"<tr>{cells}<td>{due_text}</td><td>{last}</td><td>{counted}</td></tr>")
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _counted(one: Counted) -> str:
    if one.used is None:
        return ""
    name, by = _COUNTERS[one.interval.by][0], one.interval.by
    least = "at least " if one.estimated else ""
    return f"{name}: {least}{_amount(by, one.used)} of {_amount(by, one.interval.every)}"


def _history(entries: Sequence[Entry], *, code: bool) -> str:
    head = f"{'<th>Machine</th>' if code else ''}<th>No.</th><th>Date</th><th>Kind</th><th>What was done</th>"
    head += "<th>By</th><th>Cost</th><th>Counters</th>"
    rows = [_entry(one, code=code) for one in entries]
    caption = f"What was done{_costs(entries)}"
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _entry(one: Entry, *, code: bool) -> str:
    notes = [one.description]
    notes += [f"Parts: {', '.join(one.parts)}"] if one.parts else []
    notes += [f"Corrects no. {one.corrects}"] if one.corrects is not None else []
    notes += [f"Corrected by no. {one.corrected_by}"] if one.corrected_by is not None else []
    notes += ["Not done"] if one.void else []
    cost = "" if one.cost is None else f"{one.cost:,.2f} {escape(one.currency)}"
    counters = "; ".join(
        f"{_COUNTERS[name][0]}: {_amount(name, value)}" for name, value in one.counters.items() if name in _COUNTERS
    )
    cells = f"<td>{escape(one.machine)}</td>" if code else ""
    cells += f'<td class="number">{one.id}</td><td>{_date(one.t_us)}</td><td>{escape(one.kind)}</td>'
    cells += f"<td>{'<br>'.join(escape(note) for note in notes if note)}</td><td>{escape(one.technician)}</td>"
    cells += f'<td class="number">{cost}</td><td>{counters}</td>'
    gone = "" if one.counts else ' class="gone"'
    return f"<tr{gone}>{cells}</tr>"


def _costs(entries: Iterable[Entry]) -> str:
    """The sum of what counts, by currency."""
    sums: dict[str, float] = {}
    for one in entries:
        if one.counts and one.cost is not None:
            sums[one.currency] = sums.get(one.currency, 0.0) + one.cost
    told = ", ".join(f"{value:,.2f} {escape(name)}" for name, value in sorted(sums.items()))
    return f", for {told}" if told else ""


def _amount(name: str, value: Number) -> str:
    _, divisor, unit = _COUNTERS[name]
    shown = f"{value / divisor:,.1f}".removesuffix(".0")
    return f"{shown} {unit}".rstrip()


def _date(t_us: int) -> str:
    return iso(t_us)[:_DAY]


def _time(t_us: int) -> str:
    return iso(t_us)[:16].replace("T", " ")
