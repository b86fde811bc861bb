"""Times at the edge of the API: ISO 8601 UTC for people and programs, µs since 1970 inside."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_US = 1_000_000
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_LAST_S = (_LAST - _EPOCH) // timedelta(seconds=1)
_PLUS_AS_SPACE = re.compile(r" (\d\d:?\d\d)$")


def iso(t_us: int) -> str:
    """``2026-11-20T23:40:00.123456Z``. A time outside of the years 1 to 9999 gives the nearest one inside."""
    try:
        moment = _EPOCH + timedelta(microseconds=t_us)
    except OverflowError:
        moment = _LAST if t_us > 0 else _FIRST
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """µs since 1970 UTC of an ISO 8601 time with its offset, or of seconds since 1970. Raises ``ValueError``."""
    if text[4:5] == "-":  # as most are written; an exception on the way costs more than all the rest
        return _parse_iso(text)
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        return _parse_iso(text)
    if not seconds.is_finite() or seconds < 0:
        raise ValueError(f"{text!r} is no time: seconds since 1970 are 0 or more")
    if seconds > _LAST_S:
        raise ValueError(f"{text!r} is beyond the year 9999: write seconds since 1970, not milliseconds")
    return int(seconds * _SECOND_US)


def _parse_iso(text: str) -> int:
    # A "+" that was not escaped in a URL arrives as a space.
    try:
        moment = datetime.fromisoformat(_PLUS_AS_SPACE.sub(r"+\1", text) if " " in text else text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: write 2026-11-20T23:40:00Z or seconds since 1970") from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset: write {text}Z for UTC")
    return (moment - _EPOCH) // timedelta(microseconds=1)
