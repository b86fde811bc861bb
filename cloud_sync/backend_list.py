"""What the event backend lists, as far as we use it. Pure.

A list is a JSON list of objects with an ``id`` (a whole number or a text), or such a list under ``results`` or
``events`` of an object, whose ``next`` says that there is more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cloud_sync.backend_http import BackendError

Data = Mapping[str, object]

_MAX_ID, _MAX_KEYS, _MAX_TEXT = 100, 30, 200
_MAX_WHOLE = 1 << 63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EventList:
    """Events by id, as text, in the order of the list. ``whole``: there is no further page of it."""

    events: Mapping[str, Data]
    whole: bool = True
    bad: int = 0  #: entries that are none


def parse(op: str, body: bytes) -> EventList:
    """The list of an answer. Raises ``BackendError`` where it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BackendError(op, "its answer is no JSON") from error
    more: object = None
    if isinstance(found, dict):
        more = found.get("next")
        found = found.get("results", found.get("events"))
    if not isinstance(found, list):
        raise BackendError(op, "its answer is no list of events")
    events: dict[str, Data] = {}
    bad = 0
    for entry in found:
        event_id = _id_of(entry)
        if event_id is None:
            bad += 1
        else:
            events.setdefault(event_id, _trimmed(entry))
    return EventList(events, not more, bad)


def _id_of(entry: object) -> str | None:
    found = entry.get("id") if isinstance(entry, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | str):
        return None
    text = str(found)
    # A dot or two would be another path.
    fits = 0 < len(text) <= _MAX_ID and text.isprintable() and text not in {".", ".."}
    return text if fits else None


def _trimmed(entry: Mapping[str, object]) -> Data:
    """What is kept of an event: its short plain fields."""
    plain = {key: value for key, value in entry.items() if _fits(key) and _is_plain(value)}
    return dict(list(plain.items())[:_MAX_KEYS])


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return _fits(value)
    if isinstance(value, int):
        return abs(value) < _MAX_WHOLE
    return value is None or isinstance(value, float)


def _fits(text: str) -> bool:
    return len(text) <= _MAX_TEXT and text.isprintable()


def end_us(data: Data) -> int | None:
    """When it ends; None: it does not say, or not in which zone."""
    return moment_us(data, "end_date")


def moment_us(data: Data, key: str) -> int | None:
    """The time that stands there; None: there is none, or not in which zone."""
    text = data.get(key)
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1)


def title_of(event_id: str, data: Data) -> str:
    """What people call an event of the server's."""
    return next((str(data[key]) for key in ("name", "title", "nombre") if data.get(key)), event_id)
