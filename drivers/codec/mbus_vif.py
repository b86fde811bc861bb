"""What an M-Bus record's value is: value information blocks (EN 13757-3, value information field and its extensions).

Rules of this file:

1. Units are the plain ones (Wh, m^3, °C, s): the decimal exponent of a code goes into the value. Durations are seconds;
   months and years are so too, as mean ones.
2. A code that the tables don't have is no error: its value stays as it was sent, without a unit.
3. What a manufacturer defined (everything behind an extension FF) is never interpreted.
"""

from dataclasses import dataclass, replace

from agent.core.model import Number

MAX_EXTENSIONS = 10
_EXTENSION = 0x80
_CODE = 0x7F
_PLAIN_TEXT = 0x7C
_SECOND_TABLE, _FIRST_TABLE, _THIRD_TABLE = 0xFB, 0xFD, 0xEF  # the third is reserved
_MANUFACTURER, _PHASES = 0x7F, 0xFC

_MONTH_S, _YEAR_S = 2_629_743.83, 31_556_926


class MalformedError(Exception):
    """The records are not M-Bus; the text is a word fit for ``BadFrame.reason``. It never leaves the codec."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a value is. Physical value = raw * 10**exponent * factor + offset, in ``unit``."""

    quantity: str = ""
    unit: str | None = None
    exponent: int = 0
    factor: Number = 1
    offset: Number = 0
    time: bool = False  #: a date, a time or both (types F, G, I, J)
    bits: bool = False  #: a bit field (type D)
    invalid: bool = False  #: the meter says that the value is none
    detail: str = ""  #: ``import``, ``export``, a phase (``l1``); ``other`` when it is not the quantity itself


def _runs(*runs: tuple[int, int, str, str, int]) -> dict[int, Meaning]:
    """Runs of codes whose exponent grows by one: first code, how many, quantity, unit, exponent of the first."""
    return {
        first + i: Meaning(quantity, unit, exponent + i)
        for first, count, quantity, unit, exponent in runs
        for i in range(count)
    }


def _durations(first: int, quantity: str, *factors: Number) -> dict[int, Meaning]:
    return {first + i: Meaning(quantity, "s", factor=factor) for i, factor in enumerate(factors)}


_CLOCK: tuple[Number, ...] = (1, 60, 3600, 86_400)  #: seconds, minutes, hours, days

_PRIMARY = {
    **_runs(
        (0x00, 8, "energy", "Wh", -3),
        (0x08, 8, "energy", "J", 0),
        (0x10, 8, "volume", "m^3", -6),
        (0x18, 8, "mass", "kg", -3),
        (0x28, 8, "power", "W", -3),
        (0x30, 8, "power", "J/h", 0),
        (0x38, 8, "volume_flow", "m^3/h", -6),
        (0x40, 8, "volume_flow", "m^3/min", -7),
        (0x48, 8, "volume_flow", "m^3/s", -9),
        (0x50, 8, "mass_flow", "kg/h", -3),
        (0x58, 4, "flow_temperature", "°C", -3),
        (0x5C, 4, "return_temperature", "°C", -3),
        (0x60, 4, "temperature_difference", "K", -3),
        (0x64, 4, "external_temperature", "°C", -3),
        (0x68, 4, "pressure", "bar", -3),
        (0x6E, 1, "hca", "Units for H.C.A.", 0),
    ),
    **_durations(0x20, "on_time", *_CLOCK),
    **_durations(0x24, "operating", *_CLOCK),
    **_durations(0x70, "averaging_duration", *_CLOCK),
    **_durations(0x74, "actuality_duration", *_CLOCK),
    0x6C: Meaning("time_point", time=True),
    0x6D: Meaning("time_point", time=True),
}

#: Behind FD.
_FIRST_EXTENSION = {
    **_runs(
        (0x00, 4, "credit", "Currency units", -3),
        (0x04, 4, "debit", "Currency units", -3),
        (0x1C, 1, "baud_rate", "Baud", 0),
        (0x1D, 1, "response_delay", "Bittimes", 0),
        (0x40, 16, "voltage", "V", -9),
        (0x50, 16, "current", "A", -12),
    ),
    **_durations(0x24, "storage_interval", *_CLOCK, _MONTH_S, _YEAR_S),
    **_durations(0x2C, "since_readout", *_CLOCK),
    **_durations(0x31, "tariff_duration", *_CLOCK[1:]),
    **_durations(0x34, "tariff_period", *_CLOCK, _MONTH_S, _YEAR_S),
    **_durations(0x68, "since_cumulation", *_CLOCK[2:], _MONTH_S, _YEAR_S),
    **_durations(0x6C, "battery_operating", *_CLOCK[2:], _MONTH_S, _YEAR_S),
    **_durations(0x74, "battery_left", _CLOCK[3]),
    **{code: Meaning("bits", bits=True) for code in (0x17, 0x18, 0x1A, 0x1B)},
    0x2B: Meaning("time_point", time=True),
    0x30: Meaning("tariff_start", time=True),
    0x70: Meaning("battery_change", time=True),
    0x71: Meaning("rssi", "dBm", factor=2, offset=-130),
}

#: Behind FB.
_SECOND_EXTENSION = {
    **_runs(
        (0x00, 2, "energy", "Wh", 5),
        (0x02, 2, "reactive_energy", "varh", 3),
        (0x04, 2, "apparent_energy", "VAh", 3),
        (0x08, 2, "energy", "J", 8),
        (0x0C, 4, "energy", "cal", 5),
        (0x10, 2, "volume", "m^3", 2),
        (0x14, 4, "reactive_power", "var", 0),
        (0x18, 2, "mass", "kg", 5),
        (0x1A, 2, "humidity", "%", -1),
        (0x20, 1, "volume", "feet^3", 0),
        (0x21, 1, "volume", "feet^3", -1),
        (0x22, 2, "volume", "American gallon", -1),
        (0x24, 1, "volume_flow", "American gallon/min", -3),
        (0x25, 1, "volume_flow", "American gallon/min", 0),
        (0x26, 1, "volume_flow", "American gallon/h", 0),
        (0x28, 2, "power", "W", 5),
        (0x2A, 1, "phase_u_u", "°", -1),
        (0x2B, 1, "phase_u_i", "°", -1),
        (0x2C, 4, "frequency", "Hz", -3),
        (0x30, 2, "power", "J/h", 8),
        (0x34, 4, "apparent_power", "VA", 0),
        (0x58, 4, "flow_temperature", "°F", -3),
        (0x5C, 4, "return_temperature", "°F", -3),
        (0x60, 4, "temperature_difference", "°F", -3),
        (0x64, 4, "external_temperature", "°F", -3),
        (0x70, 4, "temperature_limit", "°F", -3),
        (0x74, 4, "temperature_limit", "°C", -3),
        (0x78, 8, "power_peak_count", "W", -3),
    ),
}

#: Fixed data: the six bits of a counter's unit. The unit's own prefix stays: these meters know no other.
FIXED_UNITS = {
    **_runs(
        *(
            (first, 3, quantity, unit, 0)
            for quantity, units in (
                ("energy", ((0x02, "Wh"), (0x05, "kWh"), (0x08, "MWh"), (0x0B, "kJ"), (0x0E, "MJ"), (0x11, "GJ"))),
                ("power", ((0x14, "W"), (0x17, "kW"), (0x1A, "MW"), (0x1D, "kJ/h"), (0x20, "MJ/h"), (0x23, "GJ/h"))),
                ("volume", ((0x26, "ml"), (0x29, "l"), (0x2C, "m^3"))),
                ("volume_flow", ((0x2F, "ml/h"), (0x32, "l/h"), (0x35, "m^3/h"))),
            )
            for first, unit in units
        ),
        (0x38, 1, "temperature", "°C", -3),
        (0x39, 1, "hca", "Units for H.C.A.", 0),
    ),
}

#: Combinable extensions that say where (behind FC).
_PHASE_NAMES = {1: "l1", 2: "l2", 3: "l3", 4: "n", 5: "l1_l2", 6: "l2_l3", 7: "l3_l1"}
#: Combinable extensions that say which way: only what was drawn is counted, or only what was given.
_WAYS = {0x3B: "import", 0x3C: "export"}

#: Record errors: something of the request was not possible, or there is no data.
_RECORD_ERRORS = {*range(0x01, 0x10), *range(0x15, 0x19), 0x1C}
#: Extensions that turn the record into a point in time, a duration (seconds to days) or a count.
_TIMES = {0x39, *(code for code in range(0x40, 0x70) if code & 0b0010 and not 0x50 <= code < 0x68)}  # noqa: PLR2004
_DURATIONS = range(0x50, 0x68)
_COUNTS = {0x41, 0x49}
#: Extensions that multiply: 10**-6 to 10, and 1,000.
_FACTORS, _FACTOR_ONE, _THOUSAND = range(0x70, 0x78), 0x76, 0x7D


def read_meaning(data: bytes, start: int) -> tuple[Meaning, int]:
    """The value information block at ``start``, and where the data begin.

    Raises ``MalformedError``: ``premature_end``, ``too_many_extensions``.
    """
    vif = _byte(data, start)
    position = start + 1
    text, extensions = "", b""
    if vif & _CODE == _PLAIN_TEXT and not (vif & _EXTENSION and not _is_text(data, position)):
        text, position = _read_text(data, position)
        if vif & _EXTENSION:
            extensions, position = _read_extensions(data, position)
    elif vif & _EXTENSION:
        extensions, position = _read_extensions(data, position)
        if vif & _CODE == _PLAIN_TEXT:
            text, position = _read_text(data, position)
    return _meaning(vif, text, extensions), position


def _read_extensions(data: bytes, start: int) -> tuple[bytes, int]:
    position = start
    while _byte(data, position) & _EXTENSION:
        position += 1
        if position - start >= MAX_EXTENSIONS:
            raise MalformedError("too_many_extensions")
    return data[start : position + 1], position + 1


def _read_text(data: bytes, start: int) -> tuple[str, int]:
    """A text, its last letter first, behind its length."""
    end = start + 1 + _byte(data, start)
    if end > len(data):
        raise MalformedError("premature_end")
    return data[start + 1 : end][::-1].decode("latin-1"), end


def _is_text(data: bytes, start: int) -> bool:
    """Whether a text stands here. Some meters put it in front of the extensions, others behind them."""
    end = start + 1 + _byte(data, start)
    return end <= len(data) and data[start + 1 : end].decode("latin-1").isprintable()


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise MalformedError("premature_end")
    return data[position]


def _meaning(vif: int, text: str, extensions: bytes) -> Meaning:
    if vif & _CODE == _PLAIN_TEXT:
        meaning = Meaning("text", text or None)
    elif vif == _FIRST_TABLE:
        meaning, extensions = _FIRST_EXTENSION.get(extensions[0] & _CODE, Meaning()), extensions[1:]
    elif vif == _SECOND_TABLE:
        meaning, extensions = _SECOND_EXTENSION.get(extensions[0] & _CODE, Meaning()), extensions[1:]
    else:
        meaning = _PRIMARY.get(vif & _CODE, Meaning())
        if vif & _CODE == _MANUFACTURER or vif == _THIRD_TABLE:
            return meaning
    return _combined(meaning, extensions) if extensions else meaning


def _combined(meaning: Meaning, extensions: bytes) -> Meaning:
    """A meaning with the combinable extensions behind its code."""
    details: list[str] = []
    power, invalid = 0, False
    codes = iter(extensions)
    for extension in codes:
        code = extension & _CODE
        if code == _MANUFACTURER:
            details.append("other")
            break
        if extension == _PHASES:
            details.append(_PHASE_NAMES.get(next(codes, 0) & _CODE, "other"))
        elif code in _WAYS:
            details.append(_WAYS[code])
        elif code in _FACTORS:
            power += code - _FACTOR_ONE
        elif code == _THOUSAND:
            power += 3
        elif code in _RECORD_ERRORS:
            invalid = True
        else:
            details.append("other")
            meaning = _changed(meaning, code)
    return replace(meaning, exponent=meaning.exponent + power, invalid=invalid, detail="_".join(details))


def _changed(meaning: Meaning, code: int) -> Meaning:
    """What a record is when an extension makes it something else than its quantity."""
    if code in _TIMES:
        return Meaning("time_point", time=True)
    if code in _DURATIONS:
        return Meaning("duration", "s", factor=_CLOCK[code & 3])
    if code in _COUNTS:
        return Meaning("count")
    return meaning
