"""Single values of OCPP payloads as chargers really send them: names, texts, numbers, times. Pure; never raises.

Rules of this file:

1. What can be understood in one way only is taken: numbers as strings, strings as numbers, a decimal comma, any case of
   names. What is not understood is None or empty, never 0.
2. Numbers are decimal until unit and multiplier are applied; then whole ones become ``int`` and others the nearest
   ``float``, so that the same energy in Wh and kWh is the same number.
3. Times are counted in whole µs, without floats. What is finer than a µs is cut off.
4. Values are stored as whole numbers with a decimal scale that depends on the point's unit alone (``form``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType

from agent.core.model import BadFrame, Kind, Number
from agent.core.points import POINTS
from drivers.codec.ocpp_model import Stamp, TimeQuality

#: Digits before the point: no quantity of a charger has more, and its thousandths fit into a 64-bit word (``word_of``).
MAX_DIGITS = 15
#: Clocks that are set over heartbeats stay within seconds of ours; local time labelled UTC is off by 15 min at least.
MAX_SKEW_US = 300 * 1_000_000

_MAX_INTEGER = 1 << 63
_NAN = Decimal("nan")
_BLANK = " \t\r\n\0\v\f"
#: What stands around words that were quoted twice.
QUOTED = _BLANK + "\"'"
_NUMBER = re.compile(r"[+-]?(?:\d{1,40}(?:[.,]\d{0,60})?|[.,]\d{1,60})(?:[eE][+-]?\d{1,3})?", re.ASCII)

# --- objects, texts, numbers ----------------------------------------------------------------------------------------


class Names:
    """The properties that an object may have, found whatever their case."""

    __slots__ = ("_exact", "_folded")

    def __init__(self, *names: str) -> None:
        self._exact = frozenset(names)
        self._folded = {name.casefold(): name for name in names}

    def of(self, value: object) -> Mapping[str, object]:
        """The known properties of an object under their proper names. Empty for what is no object."""
        if not isinstance(value, dict):
            return {} if not isinstance(value, Mapping) else self.of(dict(value))
        if self._exact.issuperset(value):
            return value
        found: dict[str, object] = {}
        for key, one in value.items():
            name = self._folded.get(key.strip(QUOTED).casefold())
            if name is not None and (key == name or name not in found):
                found[name] = one
        return found


def bad(reason: str, payload: object) -> BadFrame:
    """A payload that lacks the essential. The sample is what properties it has: the caller has the frame itself."""
    names = list(payload)[:16] if isinstance(payload, Mapping) else []
    return BadFrame(reason, ",".join(str(name)[:32] for name in names).encode("utf-8", "backslashreplace"))


def text(value: object) -> str:
    """A text without blanks and NULs at its ends, whole; numbers as their digits; empty for anything else."""
    return whole_text(value).strip(_BLANK)


def whole_text(value: object) -> str:
    """A text exactly as sent. Only halves of UTF-16 pairs, which are no characters, become the words for them."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return ""
    # Python refuses to write numbers of thousands of digits
    return str(value) if not isinstance(value, int) or abs(value) < _MAX_INTEGER else ""


def decimal(value: object) -> Decimal | None:
    """A number, or what is one in quotes: ``" 12,5"``. None for NaN, what is 10**15 or more, and anything else."""
    if isinstance(value, str):
        digits = value.strip(QUOTED)
        if not _NUMBER.fullmatch(digits):
            return None
        exact = Decimal(digits.replace(",", "."))
    elif isinstance(value, bool):
        return None
    elif isinstance(value, int):
        exact = Decimal(value) if abs(value) < _MAX_INTEGER else _NAN
    elif isinstance(value, float):
        exact = Decimal(repr(value))
    elif isinstance(value, Decimal):
        exact = value
    else:
        return None
    return exact if exact.is_finite() and exact.adjusted() < MAX_DIGITS else None


def plain(value: Decimal) -> Number:
    """The nearest number: an ``int`` where it is whole. For less than ``MAX_DIGITS``, in which floats are exact."""
    nearest = float(value)
    return int(nearest) if nearest.is_integer() else nearest


def number(value: object) -> Number | None:
    """A number whatever it was sent as; None when it is none."""
    exact = decimal(value)
    return plain(exact) if exact is not None else None


def integer(value: object) -> int | None:
    """A whole number whatever it was sent as (``"7"``, 7.0), of at most 64 bits; None when it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -_MAX_INTEGER <= value < _MAX_INTEGER else None
    found = number(value)
    return found if isinstance(found, int) else None


def flag(value: object) -> bool:
    """A boolean, or the words and digits that stand for one."""
    return value is True or value == 1 or (isinstance(value, str) and value.strip(QUOTED).casefold() in {"true", "1"})


def outlet(value: object) -> int:
    """The number of a connector or EVSE; 0, the charger as a whole, also where none is told."""
    found = integer(value)
    return found if found is not None and found > 0 else 0


def positive(value: object) -> int | None:
    """An identifier that counts from 1: None also for the 0 or -1 that some send instead of leaving it out."""
    found = integer(value)
    return found if found is not None and found > 0 else None


# --- times ----------------------------------------------------------------------------------------------------------

_TIME = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:(?:[Tt]|[ \t]+)(\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?"
    r"[ \t]*(?:([Zz]|UTC|GMT)|([+\-\u2212])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY_S = 86_400
#: OCPP 1.6 is of 2015: a clock that shows less was never set.
_FIRST_YEAR = 2015
_MISSING = Stamp(None, TimeQuality.MISSING)
_GOOD, _NO_ZONE, _UNSET = TimeQuality.GOOD, TimeQuality.NO_ZONE, TimeQuality.UNSET


class LocalAsUtc(tzinfo):
    """The zone of a charger that labels its local time with Z: what says UTC is taken in ``local``."""

    def __init__(self, local: tzinfo) -> None:
        self.local = local

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """Of the local time."""
        return self.local.utcoffset(dt)

    def dst(self, dt: datetime | None) -> timedelta | None:
        """Of the local time."""
        return self.local.dst(dt)

    def tzname(self, dt: datetime | None) -> str | None:
        """Of the local time."""
        return self.local.tzname(dt)


def stamp(value: object, zone: tzinfo = UTC, arrived_us: int | None = None) -> Stamp:
    """A time in any form of ISO 8601 that chargers send. Without an offset it is taken in ``zone``.

    A leap second is the second behind it, 24:00 the next day, a date alone its midnight. With ``arrived_us`` it is
    ``judged`` at once as one that waited nowhere.
    """
    if value is None:
        return _MISSING
    sent = text(value)
    found = _TIME.fullmatch(sent)
    told = _told(found, zone) if found else None
    if found is None or told is None:
        return Stamp(None, TimeQuality.MISSING, sent)
    seconds, micros, quality = told
    result = Stamp(seconds * 1_000_000 + micros, quality, sent)
    return result if arrived_us is None else judged(result, arrived_us, queued=False)


def _told(found: re.Match[str], zone: tzinfo) -> tuple[int, int, TimeQuality] | None:
    """Seconds since 1970 UTC, µs and quality; None for a time that no clock shows."""
    year, month, day, hour, minute, second, fraction, utc, sign, hours, minutes = found.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    at = (int(hour or 0), int(minute or 0), int(second or 0))
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    if at[1] > 59 or at[2] > 60 or at > (24, 0, 0) or (at[0] == 24 and micros):  # noqa: PLR2004 - a clock's face
        return None
    local_s = days * _DAY_S + at[0] * 3600 + at[1] * 60 + at[2]
    quality = _UNSET if int(year) < _FIRST_YEAR else _GOOD
    if sign:
        if int(hours) > 23 or int(minutes or 0) > 59:  # noqa: PLR2004
            return None
        ahead_s = int(hours) * 3600 + int(minutes or 0) * 60
        return local_s + (-ahead_s if sign == "+" else ahead_s), micros, quality
    if utc and not isinstance(zone, LocalAsUtc):
        return local_s, micros, quality
    known = utc or quality is _UNSET
    return local_s - _offset_s(local_s, zone), micros, quality if known else _NO_ZONE


def _offset_s(local_s: int, zone: tzinfo) -> int:
    try:
        ahead = zone.utcoffset((_EPOCH + timedelta(seconds=local_s)).replace(tzinfo=zone))
    except OverflowError:  # at the ends of the calendar
        return 0
    return int(ahead.total_seconds()) if ahead is not None else 0


def judged(told: Stamp, arrived_us: int, *, queued: bool) -> Stamp:
    """The stamp, SKEWED where it is too far from when it arrived (OCPP 1.6, 3.7 lets what was queued come late).

    Nothing comes from the future, queued or not. What has a worse flaw keeps it.
    """
    if told.t_us is None or told.quality is _UNSET:
        return told
    late_us = arrived_us - told.t_us
    if late_us >= -MAX_SKEW_US and (queued or late_us <= MAX_SKEW_US):
        return told
    return Stamp(told.t_us, TimeQuality.SKEWED, told.text)


def wire_time(t_us: int) -> str:
    """A time as we send it: ISO 8601 in UTC with ms and Z, which chargers of both versions read."""
    told = _EPOCH + timedelta(milliseconds=t_us // 1000)
    return told.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """How a point's values are stored: physical value = word * scale, in ``unit``; scale is 10**-digits."""

    unit: str
    kind: Kind
    scale: Number
    digits: int


#: Decimal places per unit: the finest step that chargers' meters have. Energy in kWh comes with up to six places, so
#: a thousandth of a Wh; finer than a meter's own noise would only make the store larger.
_DIGITS = {"Wh": 3, "varh": 3, "W": 1, "var": 1, "VA": 1, "A": 2, "V": 2, "Hz": 3, "%": 1, "°C": 1}
_SCALES: tuple[Number, ...] = (1, 0.1, 0.01, 0.001)
_POWERS = (1, 10, 100, 1000)
#: Below this a float is right to a thousandth, so that what is this near to a whole number rounds to it.
_SURE, _NO_TIE = 1e12, 0.49


def _form(name: str, unit: str, kind: Kind) -> Form:
    digits = 3 if name.startswith("power_factor") else _DIGITS.get(unit, 0)
    return Form(unit, kind, _SCALES[digits], digits)


_FORMS = MappingProxyType({point.name: _form(point.name, point.unit, point.kind) for point in POINTS.values()})


def form(name: str) -> Form:
    """How a point's values are stored; its outlet may stand behind (``power_w.2``). KeyError for what is no point."""
    return _FORMS.get(name) or _FORMS[name.partition(".")[0]]


def word_of(name: str, value: Number) -> int:
    """The word of a point's value, rounded half-even from its decimal digits."""
    scale = _POWERS[form(name).digits]
    if isinstance(value, int):
        return value * scale
    scaled = value * scale
    if abs(scaled) < _SURE and abs(scaled - round(scaled)) < _NO_TIE:  # quick, and not near where decimals matter
        return round(scaled)
    return int((Decimal(repr(value)) * scale).to_integral_value(ROUND_HALF_EVEN))
