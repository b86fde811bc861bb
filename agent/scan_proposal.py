"""What was found as entries for ``devices:``, in YAML with comments or as JSON lines. Pure.

Rules of this file:

1. What is written can be pasted: ids are unique, also against those of the configuration, and all keys are known ones.
2. What a device says of itself stands in comments only, on one line, without characters that could end them.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.scan_targets import Configured
from agent.site_editor import one_line
from drivers.modbus.scan import FoundUnit
from drivers.modbus.settings import ModbusUrl
from drivers.serial_meter.scan import FoundMeter

Found = FoundUnit | FoundMeter
Value = str | int | bool

#: Stands where a person must write the name of a profile.
NO_PROFILE = "choose_a_profile"
_MAX_ID = 40
_MAX_TEXT = 160
_DIGITS_OF_METER = 8


@dataclass(frozen=True, slots=True)
class Product:
    """A device model as people know it."""

    maker: str
    model: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry, and what is known of the device."""

    entry: Mapping[str, Value]
    summary: str
    known: Mapping[str, str]
    values: Mapping[str, str]
    alternatives: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    title: str = ""  #: the device alone, without where it is


def propose(found: Iterable[Found], products: Mapping[str, Product], configured: Configured) -> list[Proposal]:
    """Entries for all that was found, in the order of their wires."""
    taken = set(configured.ids)
    return [proposal_of(one, products, taken) for one in sorted(found, key=_order)]


def proposal_of(found: Found, products: Mapping[str, Product], taken: set[str]) -> Proposal:
    """An entry for one of them, whose id nobody has; then it is ``taken``."""
    proposal = _of_unit(found, products) if isinstance(found, FoundUnit) else _of_meter(found)
    name = unique(str(proposal.entry["id"]), taken)
    taken.add(name)
    return replace(proposal, entry={**proposal.entry, "id": name})


def as_yaml(proposals: Sequence[Proposal]) -> str:
    """A list ``devices:`` that can be pasted."""
    if not proposals:
        return "devices: []\n"
    lines = ["devices:"]
    for one in proposals:
        lines += [f"  # {_clean(text)}" for text in _comments(one)]
        for number, (key, value) in enumerate(one.entry.items()):
            comment = "  # the name of its profile" if value == NO_PROFILE else ""
            lines.append(f"  {'  ' if number else '- '}{key}: {one_line(value)}{comment}")
    return "\n".join(lines) + "\n"


def as_jsonl(proposals: Sequence[Proposal]) -> str:
    """One object for each device; ``device`` is its entry."""
    return "".join(
        json.dumps(
            {
                "device": dict(one.entry),
                "summary": one.summary,
                "known": dict(one.known),
                "values": dict(one.values),
                "alternatives": list(one.alternatives),
                "notes": list(one.notes),
            },
            ensure_ascii=False,
        )
        + "\n"
        for one in proposals
    )


def summary_of(found: Found, products: Mapping[str, Product]) -> str:
    """A device in a few words."""
    return (_of_unit(found, products) if isinstance(found, FoundUnit) else _of_meter(found)).summary


def _of_unit(found: FoundUnit, products: Mapping[str, Product]) -> Proposal:
    profile = found.models[0] if found.models else NO_PROFILE
    known = dict(found.said) | dict(found.identity)
    product = products.get(profile)
    notes = list(found.notes)
    if product is not None:
        name = f"{product.maker} {product.model}"
        short = _short(profile, product.maker)
    elif found.models:
        name = " ".join(known[key] for key in ("maker", "model") if key in known) or "a device"
        name, short = f"{name} ({profile})", known.get("model") or profile
    else:
        name, short = "an unknown device", known.get("product name") or known.get("product code") or "modbus"
        notes.append("no profile fits: write the name of one, or make one for it")
        if found.guesses:
            notes.append(f"plausible values are read with: {', '.join(found.guesses)}")
        elif found.similar:
            notes.append(f"profiles of this maker: {', '.join(found.similar)}")
    entry: dict[str, Value] = {
        "id": f"{slug(short) or 'modbus'}_{found.unit_id}",
        "driver": "modbus",
        "profile": profile,
        "url": found.url,
        "unit_id": found.unit_id,
    }
    summary = f"unit {found.unit_id} on {ModbusUrl.parse(found.url).name}: {name}"
    return Proposal(entry, summary, known, dict(found.values), found.models[1:], tuple(notes), name)


def _of_meter(found: FoundMeter) -> Proposal:
    number = re.sub(r"[^A-Za-z0-9]", "", found.meter or "")[-_DIGITS_OF_METER:]
    entry: dict[str, Value] = {
        "id": f"{found.protocol}_{number.lower() or 'meter'}",
        "driver": "serial_meter",
        "protocol": found.protocol,
        "port": found.port,
        **dict(found.settings),
    }
    title = f"{found.protocol} meter {found.meter or 'without a number'}"
    return Proposal(entry, f"{title} on {found.port}", dict(found.identity), dict(found.values), (), found.notes, title)


def _comments(one: Proposal) -> list[str]:
    lines = [one.summary]
    if one.known:
        lines.append("it says: " + ", ".join(f"{key} {value}" for key, value in one.known.items()))
    if one.values:
        lines.append("it reads: " + ", ".join(f"{key} {value}" for key, value in one.values.items()))
    if one.alternatives:
        lines.append("also fits: " + ", ".join(one.alternatives))
    return [*lines, *one.notes]


def _order(found: Found) -> tuple[str, list[tuple[int, int | str]], int]:
    """Modbus before meters, wires as people sort them (10.0.0.9 before 10.0.0.10), units by their number."""
    place, unit = (found.url, found.unit_id) if isinstance(found, FoundUnit) else (found.port, 0)
    parts: list[tuple[int, int | str]] = [
        (0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", place)
    ]
    return type(found).__name__, parts, unit


def _short(profile: str, maker: str) -> str:
    """A profile's name without its maker: ``sdm630`` of ``eastron_sdm630``."""
    first, _, rest = profile.partition("_")
    return rest if rest and first in slug(maker).split("_") else profile


def slug(text: str) -> str:
    """A text as a part of an id."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:_MAX_ID].strip("_")


def unique(name: str, taken: set[str]) -> str:
    """An id that nobody has yet."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _clean(text: str) -> str:
    """One line of printable text."""
    line = "".join(one if one.isprintable() else "?" for one in text)
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"
