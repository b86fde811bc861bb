"""The data lines of IEC 62056-21 (6.3.11 to 6.3.13), which DSMR's P1 took over: ``1-0:1.8.1(000004.426*kWh)``.

Rules of this file:

1. A data set is a code and one group in brackets or more; several may stand on a line, and groups on a line of their
   own belong to the data set before. A group is a value, a value with its unit behind ``*``, or nothing. Heat meters
   put values of one kind into one group, ``&`` between them.
2. A value with a unit is a number. Without a unit it is the text that was sent, unless the code is that of a quantity
   or of a counter, which have none: then it is a number. Whole numbers are exact, others the nearest ``float``.
3. In a data set of several groups those with a unit are the values; the others say when they were taken, how many
   follow and what they are. Where none has a unit, all but the times are values.
4. Telegrams without a checksum are read strictly: one character out of place, or not of the form of those before
   (``dataline_form.py``), and all of it is refused. What passed a checksum was sent so: an odd value stays text.
"""

import re
from collections.abc import Iterator, Sequence

from agent.core.model import Number
from drivers.codec.dataline_form import Forms, Part, part_of
from drivers.codec.obis import Obis, parse_obis, point_of, settle
from drivers.codec.telegram import Reading

#: A code begins behind a blank or a bracket: looking for one elsewhere would take the square of a long line's length.
_SET = re.compile(r"(?<![^()\s])([^()\s]{0,40}+)((?:\([^()\r\n]*\))+)")
#: An OBIS or EDIS code, the plain number of an old meter (mode A), or F for its faults.
_CODE = re.compile(r"(?:(?:\d{1,3}-\d{1,3}:)?(?:\d{1,3}|[A-Z])(?:\.[0-9A-Z]{1,3}){1,3}|\d{1,4}|F)(?:[*&]\d{1,3})?")
#: Values with their units in one group.
_SEVERAL = re.compile(r"[^*&]*\*[^*&]+(?:&[^*&]*\*[^*&]+)+")
_NUMBER = re.compile(r"\s*([-+]?\d{1,30})(\.\d{0,30})?\s*")
#: What meters show in place of a number that they don't have.
_NO_NUMBER = re.compile(r"[-.: ]*")
#: ``170102192002W`` (DSMR: summer or winter time), ``0912011200`` and ``1040416001500`` (EDIS).
_TIME = re.compile(r"\d{12}[SW]?|\d{10}|\d{13}")

#: Group D of a quantity's sum of maxima, means, maximum, value now and integrals, and of counts of sags and swells.
_QUANTITIES = {"2", "4", "5", "6", "7", "8", "9", "32", "36"}
_LAST_QUANTITY = 80  #: groups C from 81 on are angles and what manufacturers define
#: Groups C and D of counters that are sent without a unit, group A 0: power failures, the code of a message.
_COUNTERS = {("96", "7", 9), ("96", "7", 21), ("96", "13", 1)}
_MAX_MEANINGS = 512

#: Codes of the meter's own number, the better ones first: its serial number, then how its owner calls it.
_METER_CODES = ("96.1.1", "96.1.0", "96.1.255", "C.1.0", "C.1", "42.0.0", "0.0.0", "0.0")
_METER = re.compile(r"(?:[01]-0:)?([^*&]+)(?:[*&]255)?")

_Meaning = tuple[str | None, Number]  #: point and scale


class LineReader:
    """Reads data lines, and remembers what the codes that it met mean (bounded: meters send some ten)."""

    def __init__(self) -> None:
        self._codes: dict[str, tuple[bool, bool]] = {}
        self._meanings: dict[tuple[str, str | None], _Meaning] = {}
        self._forms = Forms()

    def read(self, text: str, *, strict: bool, numeric: frozenset[str] = frozenset()) -> tuple[Reading, ...] | None:
        """The readings of data lines; None when they can't be trusted (``strict``) or there are none.

        ``numeric`` are codes whose values are numbers in this telegram, beyond those that always are.
        """
        if strict and (_SET.sub("", text).strip() or not _printable(text)):
            return None
        readings: list[Reading] = []
        form: list[Part] = []
        for code, groups in _data_sets(text):
            well_formed, number = self._codes.get(code) or self._judge(code)
            if strict and not well_formed:
                return None
            if not code:
                continue
            number = number or code in numeric
            for group in _values(groups):
                value, _, unit = group.partition("*")
                reading = self._reading(code, value, unit or None, number=number)
                if strict and unit and isinstance(reading.value, str) and not _NO_NUMBER.fullmatch(value):
                    return None
                if strict:
                    form.append(part_of(code, value, unit or None, number=number or bool(unit)))
                readings.append(reading)
        if strict and not self._forms.believe(form):
            return None
        return settle(readings) if readings else None

    def _reading(self, code: str, text: str, unit: str | None, *, number: bool) -> Reading:
        value = _number(text) if number or unit is not None else None
        if value is not None:
            known = _implied_unit(code) if unit is None and "." in text else unit
            point, scale = self._meanings.get((code, known)) or self._meaning(code, known)
            return Reading(code, value, unit, point, scale)
        if unit is None and text:
            point, scale = self._meanings.get((code, None)) or self._meaning(code, None)
            if point is not None:
                state = Reading(code, text, None, point, scale)
                if state.number is not None:
                    return state
        return Reading(code, text, unit)

    def _meaning(self, code: str, unit: str | None) -> _Meaning:
        found = point_of(code, unit) or (None, 1)
        if len(self._meanings) < _MAX_MEANINGS:
            self._meanings[code, unit] = found
        return found

    def _judge(self, code: str) -> tuple[bool, bool]:
        """Whether a code is well formed, and whether its values are numbers without a unit."""
        obis = parse_obis(code)
        found = _CODE.fullmatch(code) is not None, obis is not None and _is_numeric(obis)
        if len(self._codes) < _MAX_MEANINGS:
            self._codes[code] = found
        return found


def meter_number(readings: Sequence[Reading]) -> str | None:
    """The meter's own number among these readings, as it was sent but for blanks around it."""
    best, found = len(_METER_CODES), None
    for reading in readings:
        if not isinstance(reading.value, str):
            continue
        match = _METER.fullmatch(reading.code)
        if match is not None and match[1] in _METER_CODES[:best]:
            text = reading.value.strip()
            if text:
                best, found = _METER_CODES.index(match[1]), text
    return found


def _printable(text: str) -> bool:
    return text.isascii() and text.replace("\r", "").replace("\n", "").replace("\t", "").isprintable()


def _data_sets(text: str) -> Iterator[tuple[str, list[str]]]:
    """Codes with their groups; a line of groups without a code continues the data set before."""
    code, groups = "", list[str]()
    for name, brackets in _SET.findall(text):
        if name and groups:
            yield code, groups
            groups = []
        code = name or code
        groups += brackets[1:-1].split(")(")
    if groups:
        yield code, groups


def _values(groups: list[str]) -> list[str]:
    """The values of a data set, each with its unit behind ``*`` if it has one."""
    if len(groups) == 1:
        return groups[0].split("&") if "&" in groups[0] and _SEVERAL.fullmatch(groups[0]) else groups
    with_unit = [group for group in groups if "*" in group]
    if with_unit:
        return with_unit
    profile = _profile(groups)
    if profile is not None:
        return profile
    return [group for group in groups if _TIME.fullmatch(group) is None] or groups


def _profile(groups: list[str]) -> list[str] | None:
    """The values of a profile whose columns are declared in front; None when it is something else.

    Either ``(time)(status)(minutes)(n)`` and n times ``(code)(unit)``, then rows of n values (EDIS P.01, DSMR 2.2
    0-n:24.3.0), or ``(n)(code)``, then n times a time and a value with its unit (DSMR 4 1-0:99.97.0): none if n is 0.
    """
    if len(groups) == 2 and groups[0].isdecimal() and ":" in groups[1]:  # noqa: PLR2004 - count and code
        return []
    columns = _number(groups[3]) if len(groups) > 6 else None  # noqa: PLR2004 - the four in front, code, unit, value
    if not isinstance(columns, int) or not 0 < columns <= (len(groups) - 4) // 3:
        return None
    units, values = groups[5 : 4 + 2 * columns : 2], groups[4 + 2 * columns :]
    return [f"{value}*{units[position % columns]}" for position, value in enumerate(values)]


def _number(text: str) -> Number | None:
    found = _NUMBER.fullmatch(text)
    if found is None or not text.isascii():
        return None
    return int(found[1]) if found[2] is None else float(text)


def _is_numeric(obis: Obis) -> bool:
    """Whether a value of this code is a number though it has no unit."""
    if not obis.c.isdecimal():
        return False
    if obis.a == 0:
        return (obis.c, obis.d, obis.e) in _COUNTERS
    return obis.electricity and 0 < int(obis.c) <= _LAST_QUANTITY and obis.d in _QUANTITIES


def _implied_unit(code: str) -> str | None:
    """The unit of a quantity that is sent without: meters that omit it (Hager eHZ, ACE3000) send energy in kWh.

    Only where there is a decimal point: a whole number may be Wh as well.
    """
    obis = parse_obis(code)
    return "kWh" if obis is not None and obis.d == "8" and obis.c in {"1", "2", "15"} else None
