"""What chargers measure, as readings with our points, and what one sample says in all. Pure; never raises.

Rules of this file:

1. Both versions are read alike: 1.6's ``unit`` and ``format`` and 2.x's ``unitOfMeasure`` and ``signedMeterValue``.
   A list may be one object, the names of properties may have any case.
2. The value of a reading with a point is in the point's unit and sign; that of one without is as sent, but for 2.x's
   multiplier, which is applied: it is in ``unit``.
3. Nothing is guessed: totals follow from phases only when all of them are there.
4. Work is bounded: by the length of the payload, and by ``MAX_READINGS`` for what a message measures.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from decimal import Decimal
from functools import lru_cache

from agent.core.model import Number
from drivers.codec.ocpp_measurands import (
    ENERGY,
    OUTLET,
    PERIODIC,
    REGISTER,
    SAME,
    WORDS,
    Meaning,
    Unit,
    context_name,
    location_name,
    meaning,
)
from drivers.codec.ocpp_model import Reading, Sample
from drivers.codec.ocpp_values import MAX_DIGITS, QUOTED, Names, decimal, integer, plain, stamp, whole_text

#: Of one message, the newest are kept: as many as fit into 1 MiB with all their properties.
MAX_READINGS = 10_000
_MAX_MULTIPLIER = 24

_SAMPLED = Names(
    "value", "measurand", "phase", "context", "location", "format", "unit",
    "unitOfMeasure", "signedMeterValue", "customData",
)  # fmt: skip
_UNIT = Names("unit", "multiplier", "customData")
_METER_VALUE = Names("timestamp", "sampledValue", "customData")
_SIGNED = ("signedMeterData", "signingMethod", "encodingMethod", "publicKey")


def reading(value: object, *, counts: bool = True) -> Reading | None:
    """One sampledValue of 1.6 or 2.x; None when it has no value. With ``counts`` False it gets no point.

    Signed data (1.6: format SignedData; 2.x: signedMeterValue) stand whole in ``text``. Of 2.x it is the object as
    compact JSON, the form in which OCA's application note "Signed Meter Values" carries it in a value of 1.6.
    """
    given = _SAMPLED.of(value)
    sent, sealed = given.get("value"), given.get("signedMeterValue")
    if sent is None and sealed is None:
        return None
    unit, power = _unit(given)
    shape = _shape(given, unit)
    known, location = shape.known, shape.location
    signed = bool(sealed) or ("format" in given and _name(given, "format").casefold() == "signeddata")
    amount = None if signed and not sealed else decimal(sent)
    if amount is not None and power:
        amount = amount.scaleb(power) if abs(power) <= _MAX_MULTIPLIER else None
    point, scale = (shape.point, shape.scale) if counts else (None, None)
    step: Number = 1
    if known is not None and scale is not None and amount is not None:
        if known.quantity is ENERGY:
            step = _step(amount, scale)
        amount = -scale.ours(amount) if known.negative else scale.ours(amount) if scale is not SAME else amount
    if amount is not None and amount.adjusted() >= MAX_DIGITS:
        amount = None
    return Reading(
        shape.measurand,
        point,
        plain(amount) if amount is not None else None,
        _sealed(sealed) if sealed else whole_text(sent),
        unit,
        shape.phase,
        shape.context,
        location,
        signed,
        step,
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """What stands around a value, in the standard's words. ``scale``: of the point, None where there is none."""

    known: Meaning | None
    measurand: str
    phase: str
    context: str
    location: str
    point: str | None = None
    scale: Unit | None = None


def _shape(given: Mapping[str, object], unit: str) -> _Shape:
    words = (given.get("measurand"), given.get("phase"), given.get("context"), given.get("location"), unit)
    try:
        if _PLAIN.issuperset(words):  # nearly always, and then it is always one of the same few
            return _known_shape(*words)
    except TypeError:  # one is a list or an object
        pass
    measurand, phase, context, location = (_name(given, name) for name in _WORDS_OF)
    return _any_shape(measurand, phase, context, location, unit)


def _any_shape(
    measurand: str | None, phase: str | None, context: str | None, location: str | None, unit: str
) -> _Shape:
    known, phase = meaning(measurand or REGISTER, phase or "")
    context, location = context_name(context or PERIODIC), location_name(location or OUTLET)
    point = known.points.get(phase) if known is not None and known.rank(location) is not None else None
    scale = known.quantity.unit(unit) if known is not None and point else None
    name = known.measurand if known else measurand or ""
    return _Shape(known, name, phase, context, location, point if scale else None, scale)


_WORDS_OF = ("measurand", "phase", "context", "location")
#: Only words of the standard are kept, and of their combinations those that were met last.
_known_shape = lru_cache(4096)(_any_shape)
_PLAIN = WORDS | {None, ""}


def _step(amount: Decimal, scale: Unit) -> Number:
    """What the last digit is worth in our unit. Numbers of JSON may have lost zeros at their end."""
    exponent = amount.as_tuple().exponent
    return plain(Decimal((0, (1,), min(exponent, MAX_DIGITS))) * scale.factor) if isinstance(exponent, int) else 1


def _name(given: Mapping[str, object], key: str) -> str:
    """A word, also one that was put into quotes of its own."""
    value = given.get(key)
    if value is None or (type(value) is str and value in WORDS):  # nearly always, and quick
        return value or ""
    return whole_text(value).strip(QUOTED)


def _unit(given: Mapping[str, object]) -> tuple[str, int]:
    """Unit and power of ten of its multiplier, from 1.6's unit or 2.x's unitOfMeasure."""
    measure = given.get("unitOfMeasure")
    if measure is None or not isinstance(measure, Mapping):
        return _name(given, "unit") or _name(given, "unitOfMeasure"), 0
    measure = _UNIT.of(measure)
    return _name(measure, "unit"), integer(measure.get("multiplier")) or 0


def _sealed(value: object) -> str:
    if not isinstance(value, Mapping):
        return whole_text(value)
    parts = {key: whole_text(value[key]) for key in _SIGNED if key in value}
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def samples(value: object, zone: tzinfo = UTC) -> tuple[Sample, ...]:
    """The meterValue or transactionData of a message: a list, or one object where a charger sends it so."""
    found: list[Sample] = []
    left = MAX_READINGS
    for entry in reversed(_list(value)):
        given = _METER_VALUE.of(entry)
        if not given or left <= 0:
            continue
        sent = _list(given.get("sampledValue"))[-left:]
        left -= len(sent) + 1
        found.append(Sample(stamp(given.get("timestamp"), zone), _readings(sent)))
    return tuple(reversed(found))


def _list(value: object) -> list[object]:
    if isinstance(value, list | tuple):
        return list(value)
    return [value] if isinstance(value, Mapping) else []


def _readings(sent: Iterable[object]) -> tuple[Reading, ...]:
    """Readings of one time. Of one quantity at several places of the charger only the best one has its point."""
    pairs = [(one, found) for one in sent if (found := reading(one)) is not None]
    if len({(found.point, found.context) for _, found in pairs}) == len(pairs):
        return tuple(found for _, found in pairs)
    best: dict[tuple[str | None, str], int] = {}
    for _, found in pairs:
        if found.value is not None:
            key, rank = (found.point, found.context), _rank(found)
            best[key] = min(rank, best.get(key, rank))
    kept = (
        found if found.value is None or _rank(found) == best[found.point, found.context] else reading(one, counts=False)
        for one, found in pairs
    )
    return tuple(one for one in kept if one is not None)


def _rank(found: Reading) -> int:
    known, _ = meaning(found.measurand, found.phase)
    return (known.rank(found.location) or 0) if known and found.point else 0


# --- what a sample says ---------------------------------------------------------------------------------------------

_PHASES = ("_l1", "_l2", "_l3")


def _parts(pattern: str) -> tuple[str, tuple[str, ...]]:
    return pattern.replace("*", ""), tuple(pattern.replace("*", phase) for phase in _PHASES)


#: Point -> its three phases. What adds up, what is a mean, what is the same only where there is one phase.
_SUMS = (
    _parts("power*_w"),
    _parts("power_export*_w"),
    _parts("reactive_power*_var"),
    _parts("reactive_power_export*_var"),
    _parts("energy_import*_wh"),
    _parts("energy_export*_wh"),
)
_MEAN = _parts("voltage*_v")
_SAME = _parts("current*_a")
#: Drawn and given: the plain point becomes drawn less given.
_NETS = tuple(
    (f"{quantity}{phase}_{unit}", f"{quantity}_export{phase}_{unit}")
    for quantity, unit in (("power", "w"), ("reactive_power", "var"))
    for phase in ("", *_PHASES)
)


def totals(readings: Iterable[Reading], phases: int = 3) -> dict[str, Number]:
    """What the readings of one time say in all: point -> value in its unit.

    - Power and current in both directions: the plain point is what is drawn less what is given.
    - ``phases`` is how many the outlet is wired with. When a power or register has no total but all these phases, it is
      their sum; the voltage their mean. With one phase, its current is the outlet's.
    """
    found: dict[str, Number] = {}
    given: dict[str, Number] = {}
    for one in readings:
        if one.point is not None and one.value is not None:
            (given if one.measurand == "Current.Export" else found)[one.point] = one.value
    for point, value in given.items():
        if point in found or value:
            found[point] = _sum((found.get(point, 0), value))
    for total, names in (*_SUMS, _MEAN, _SAME) if phases == 1 else (*_SUMS, _MEAN):
        if total in found:
            continue
        parts = [found[name] for name in names[:phases] if name in found]
        if parts and len(parts) == phases:
            found[total] = _sum(parts, len(parts) if total == _MEAN[0] else 1)
    for point, export in _NETS:
        if export in found and (point in found or found[export]):
            found[point] = _sum((found.get(point, 0), -found[export]))
    return found


def _sum(values: Iterable[Number], divisor: int = 1) -> Number:
    """The decimal sum: 0.1 and 0.2 are 0.3."""
    return plain(sum((Decimal(repr(value)) for value in values), Decimal(0)) / divisor)
