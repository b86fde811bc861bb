"""What ``POST /api/telemetry`` is sent and answers: rows, each read and checked by itself.

Rules of this file:

1. A bad row is a sentence with its place; it never spoils the others. A body that is no JSON array is refused whole.
2. Rows are read one by one, each from a bounded piece of the text: reading 8 MB at once would hold up the event loop,
   in whatever thread it is done. ``read_rows`` itself is for a thread.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import Field

from agent.api.models import Model
from agent.api.times import iso, parse_time
from agent.api.view import PostedRow
from agent.core.model import Kind, Number
from agent.core.points import find_point

MAX_ROWS = 10_000
MAX_BODY_BYTES = 8 << 20
MAX_VALUES = 64
#: Clocks differ.
MAX_AHEAD_US = 300_000_000
#: A row is no longer than that: 64 values with the longest names take a third of it.
MAX_ROW_CHARS = 8192
MAX_INDEX = 9999
_MAX_NAME = 60

DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: The battery monitor's names and our points, in the order in which it shows them.
MONITOR: Mapping[str, str] = {
    "soc": "soc_pct",
    "soh": "soh_pct",
    "pack_voltage": "voltage_v",
    "pack_current": "current_a",
    "max_temp": "temperature_max_degc",
    "min_temp": "temperature_min_degc",
    "odo_km": "odometer_km",
}
_MONITOR_NAME: Mapping[str, str] = {point: name for name, point in MONITOR.items()}
_MONITOR_KEYS = frozenset({"vin", "ts", *MONITOR})
_GENERAL_KEYS = frozenset({"device", "ts", "values"})
#: What a value of such a point can be at all: beyond it the unit is wrong, or the sensor broken.
_RANGES: Mapping[str, tuple[Number, Number]] = {
    "soc_pct": (0, 100),
    "soh_pct": (0, 100),
    "voltage_v": (0, 100_000),
    "current_a": (-100_000, 100_000),
    "temperature_max_degc": (-100, 300),
    "temperature_min_degc": (-100, 300),
    "odometer_km": (0, 10_000_000),
}
_ANY = (-1e15, 1e15)
_COUNTER = (0, 1e15)
_STATE = (-(2**53), 2**53)
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class BodyError(ValueError):
    """A body that can't be read at all. ``too_large``: it has too many rows."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.too_large = too_large


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a body, those that are good and those that are not: place and what is wrong."""

    good: Sequence[PostedRow]
    bad: Sequence[tuple[int, str]]


class RowError(Model):
    """A row that was not taken."""

    row: int = Field(description="its place in what was sent, from 0")
    detail: str = Field(description="what is wrong with it")


class TelemetryOut(Model):
    """What became of the rows. All that were inserted are on disk."""

    inserted: int
    duplicates: int = Field(description="rows of a device and time that is stored already; the first one stands")
    errors: list[RowError] = Field(description="rows that were not taken; all others were")


#: What the route is sent, for OpenAPI: the rows are read by us, one by one.
SCHEMA: Mapping[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "title": "TelemetryRows",
                "description": "rows of either form, mixed as it comes",
                "type": "array",
                "maxItems": MAX_ROWS,
                "items": {
                    "anyOf": [
                        {
                            "title": "MonitorRow",
                            "description": "a row of the battery and vehicle monitor; what is not known is left out",
                            "type": "object",
                            "required": ["vin", "ts"],
                            "additionalProperties": False,
                            "properties": {
                                "vin": {"type": "string", "pattern": f"^{DEVICE.pattern}$"},
                                "ts": {"type": "string", "description": "ISO 8601 with an offset or Z"},
                                **{name: {"type": ["number", "null"]} for name in MONITOR},
                            },
                        },
                        {
                            "title": "PointRow",
                            "description": "a row of any device, by the names of our points",
                            "type": "object",
                            "required": ["device", "ts", "values"],
                            "additionalProperties": False,
                            "properties": {
                                "device": {"type": "string", "pattern": f"^{DEVICE.pattern}$"},
                                "ts": {"type": "string", "description": "ISO 8601 with an offset or Z"},
                                "values": {
                                    "type": "object",
                                    "minProperties": 1,
                                    "maxProperties": MAX_VALUES,
                                    "additionalProperties": {"type": "number"},
                                },
                            },
                        },
                    ]
                },
            },
            "example": [
                {
                    "vin": "WVWZZZ1KZAW000001",
                    "ts": "2026-11-20T23:40:00Z",
                    "soc": 81.5,
                    "soh": 97,
                    "pack_voltage": 396.4,
                    "pack_current": -12.5,
                    "max_temp": 31,
                    "min_temp": 28.5,
                    "odo_km": 48213,
                },
                {
                    "device": "pack-7",
                    "ts": "2026-11-20T23:40:00+01:00",
                    "values": {"soc_pct": 55, "cell_voltage_max_v": 3.341},
                },
            ],
        }
    },
}


def read_rows(body: bytes, now_us: int, oldest_us: int) -> Rows:
    """The rows of a body. Times lie between ``oldest_us`` and shortly after ``now_us``. Raises ``BodyError``."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is no UTF-8 at byte {error.start}") from error
    good: list[PostedRow] = []
    bad: list[tuple[int, str]] = []
    for place, row in enumerate(_items(text)):
        if place >= MAX_ROWS:
            raise BodyError(f"more than {MAX_ROWS} rows: send them in several requests", too_large=True)
        try:
            good.append(_row(place, row, now_us, oldest_us))
        except ValueError as error:
            bad.append((place, str(error)))
    return Rows(good, bad)


def _items(text: str) -> Iterator[object]:
    """The items of a JSON array. Raises ``BodyError`` where it is none."""
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise BodyError("the body is no JSON array: send a list of rows")
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        _check_end(text, at + 1)
        return
    while True:
        try:
            item, length = _DECODER.raw_decode(text[at : at + MAX_ROW_CHARS])
        except (ValueError, RecursionError) as error:
            reason = f"no JSON at character {at}, or a row of more than {MAX_ROW_CHARS} characters"
            raise BodyError(f"{reason}: {error}") from error
        yield item
        at = _skip(text, at + length)
        mark = text[at : at + 1]
        if mark == "]":
            _check_end(text, at + 1)
            return
        if mark != ",":
            raise BodyError(f"no JSON: expected , or ] at character {at}")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _check_end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise BodyError(f"no JSON: something follows the list, at character {at}")


def _row(place: int, row: object, now_us: int, oldest_us: int) -> PostedRow:
    """The row. Raises ``ValueError`` with what is wrong."""
    if not isinstance(row, dict):
        raise ValueError("a row is an object")  # noqa: TRY004 - bad content, not a bug
    if "vin" in row:
        _known_keys(row, _MONITOR_KEYS)
        device = row["vin"]
        sent = {MONITOR[key]: value for key, value in row.items() if key in MONITOR and value is not None}
        found = _values(sent, _MONITOR_NAME)
    elif "device" in row:
        _known_keys(row, _GENERAL_KEYS)
        device, values = row["device"], row.get("values")
        if not isinstance(values, dict):
            raise ValueError("`values` is missing, or is no object")
        found = _values(values, {})
    else:
        raise ValueError("`vin` or `device` is missing")
    if not isinstance(device, str) or DEVICE.fullmatch(device) is None:
        raise ValueError("`vin` or `device` is a name of 1 to 64 letters, digits, - and _")
    if not found:
        raise ValueError("the row has no value")
    return PostedRow(place, device, _time(row.get("ts"), now_us, oldest_us), found)


def _known_keys(row: Mapping[str, object], known: frozenset[str]) -> None:
    if not row.keys() <= known:
        unknown = next(key for key in row if key not in known)
        raise ValueError(f"unknown field {unknown[:40]!r}: known are {', '.join(sorted(known))}")


def _values(values: Mapping[str, object], names: Mapping[str, str]) -> dict[str, Number]:
    """Values that can be. ``names``: what the client calls a point, where that is something else."""
    if len(values) > MAX_VALUES:
        raise ValueError(f"a row has at most {MAX_VALUES} values")
    found: dict[str, Number] = {}
    for name, value in values.items():
        low, high, whole = _limits_of(name)
        if type(value) is not float and type(value) is not int:
            raise ValueError(f"`{names.get(name, name)}` is no number")
        if not low <= value <= high:  # NaN is in no range
            finite = isinstance(value, int) or math.isfinite(value)  # of a huge int isfinite can't tell
            reason = f"is out of range: {low:g} to {high:g}" if finite else "is not finite"
            raise ValueError(f"`{names.get(name, name)}` {reason}")
        if whole and value != int(value):
            raise ValueError(f"`{names.get(name, name)}` is a whole number")
        found[name] = int(value) if whole else value
    lowest, highest = found.get("temperature_min_degc"), found.get("temperature_max_degc")
    if lowest is not None and highest is not None and lowest > highest:
        low_name, high_name = (names.get(one, one) for one in ("temperature_min_degc", "temperature_max_degc"))
        raise ValueError(f"`{low_name}` is above `{high_name}`")
    return found


@lru_cache(4096)
def _limits_of(name: str) -> tuple[Number, Number, bool]:
    """Lowest and highest value of a point, and whether it takes whole numbers only. Raises ``ValueError``."""
    point = find_point(name) if len(name) <= _MAX_NAME else None
    index = name.partition(".")[2]
    if point is None or (index and (str(int(index)) != index or int(index) > MAX_INDEX)):
        raise ValueError(f"there is no point {name[:_MAX_NAME]!r}: /api/points lists them")
    whole = point.kind is Kind.STATE
    low, high = _RANGES.get(name) or (_STATE if whole else _COUNTER if point.kind is Kind.COUNTER else _ANY)
    return low, high, whole


def _time(value: object, now_us: int, oldest_us: int) -> int:
    """µs since 1970. Raises ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("`ts` is missing: ISO 8601 with an offset or Z")  # noqa: TRY004 - bad content, not a bug
    t_us = parse_time(str(value)[:_MAX_NAME])
    if t_us > now_us + MAX_AHEAD_US:
        raise ValueError(f"`ts` is in the future: it is {iso(now_us)} here")
    if t_us < oldest_us:
        raise ValueError(f"`ts` is too old: raw readings are kept from {iso(oldest_us)} on")
    return t_us
