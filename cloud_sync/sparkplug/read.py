"""Sparkplug B payloads, read side: bytes -> metrics, and a primary host's STATE. Pure.

What is read may come from anybody: whatever the bytes, the only error is ``PayloadError``. Fields that this file does
not know, and data sets, templates, files and arrays, are skipped.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cloud_sync.sparkplug.payload import (
    ALIAS,
    BITS,
    BOOL,
    BYTES,
    DATATYPE,
    DOUBLE,
    FIXED32,
    FIXED64,
    FLOAT,
    FLOAT32,
    HISTORICAL,
    INT,
    KEYS,
    LONG,
    MASK32,
    MASK64,
    METRICS,
    NAME,
    NULL,
    PROPERTIES,
    PROPERTY_NULL,
    PROPERTY_SHIFT,
    PROPERTY_TYPE,
    SEQ,
    TEXT,
    TIME,
    TIMESTAMP,
    VALUES,
    VARINT,
    Metric,
    Payload,
    Value,
)
from cloud_sync.subscriber import PayloadError

_MAX_VARINT_BYTES = 10


@dataclass(frozen=True, slots=True)
class HostState:
    """What a primary host says of itself, retained, on ``spBv1.0/STATE/{host}``."""

    online: bool
    timestamp_ms: int


def decode_payload(data: bytes) -> Payload:
    """A message, whoever wrote it. Raises ``PayloadError`` on bytes that are none."""
    timestamp_ms = seq = None
    metrics = []
    for number, value in _fields(data):
        if number == TIMESTAMP:
            timestamp_ms = _whole(value)
        elif number == SEQ:
            seq = _whole(value)
        elif number == METRICS:
            metrics.append(_metric(_raw(value)))
    return Payload(timestamp_ms, seq, metrics)


def decode_state(data: bytes) -> HostState:
    """A host's STATE. Raises ``PayloadError``; so the one-word form from before Sparkplug 3.0 does."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"STATE: no JSON: {error}") from error
    if isinstance(document, dict):
        online, timestamp_ms = document.get("online"), document.get("timestamp")
        if isinstance(online, bool) and type(timestamp_ms) is int:
            return HostState(online, timestamp_ms)
    raise PayloadError("STATE: online and timestamp are missing")


def _metric(data: bytes) -> Metric:
    name, alias, timestamp_ms, datatype, historical, null = "", None, None, 0, False, False
    properties: Mapping[str, Value] = {}
    value: Value | None = None
    for number, found in _fields(data):
        if number == NAME:
            name = _text(found)
        elif number == ALIAS:
            alias = _whole(found)
        elif number == TIME:
            timestamp_ms = _whole(found)
        elif number == DATATYPE:
            datatype = _whole(found) & MASK32
        elif number == HISTORICAL:
            historical = bool(_whole(found))
        elif number == NULL:
            null = bool(_whole(found))
        elif number == PROPERTIES:
            properties = _properties(_raw(found))
        elif INT <= number <= TEXT:
            value = _scalar(number, found)
    value = None if null else _signed(datatype, value)
    return Metric(name, alias, timestamp_ms, datatype, value, historical, properties)


def _properties(data: bytes) -> Mapping[str, Value]:
    keys, values = [], []
    for number, found in _fields(data):
        if number == KEYS:
            keys.append(_text(found))
        elif number == VALUES:
            values.append(_property_value(_raw(found)))
    if len(keys) != len(values):
        raise PayloadError("a property set has more keys than values, or fewer")
    return {key: value for key, value in zip(keys, values, strict=True) if value is not None}


def _property_value(data: bytes) -> Value | None:
    datatype, value, null = 0, None, False
    for number, found in _fields(data):
        if number == PROPERTY_TYPE:
            datatype = _whole(found) & MASK32
        elif number == PROPERTY_NULL:
            null = bool(_whole(found))
        elif INT <= number + PROPERTY_SHIFT <= TEXT:
            value = _scalar(number + PROPERTY_SHIFT, found)
    return None if null else _signed(datatype, value)


def _scalar(number: int, found: int | bytes) -> Value:
    """The value of a field of ``oneof value``; whole numbers as they are on the wire, without a sign."""
    if number in {INT, LONG, BOOL}:
        whole = _whole(found)
        return bool(whole) if number == BOOL else whole & (MASK32 if number == INT else MASK64)
    if number == TEXT:
        return _text(found)
    layout, raw = (FLOAT, _raw(found)) if number == FLOAT32 else (DOUBLE, _raw(found))
    if len(raw) != layout.size:
        raise PayloadError(f"field {number} is no number")
    number_read: float = layout.unpack(raw)[0]
    return number_read


def _signed(datatype: int, value: Value | None) -> Value | None:
    bits = BITS.get(datatype, 0)  # type: ignore[call-overload] # an IntEnum is an int
    if bits >= 0 or type(value) is not int:
        return value
    span: int = 1 << -bits
    low = value & (span - 1)
    return low - span if low >= span >> 1 else low


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field: an ``int`` of a varint, the bytes of all others."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, wire = key >> 3, key & 7
        if not number:
            raise PayloadError("a field without a number")
        if wire == VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if wire == BYTES:
            size, position = _read_varint(data, position)
        elif wire in {FIXED32, FIXED64}:
            size = 4 if wire == FIXED32 else 8
        else:
            raise PayloadError(f"wire type {wire} of field {number} is not known")
        if size > len(data) - position:
            raise PayloadError(f"field {number} reaches past the end")
        yield number, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follow
            return value & MASK64, position + index + 1
    raise PayloadError("a number has no end")


def _whole(found: int | bytes) -> int:
    if isinstance(found, int):
        return found
    raise PayloadError("bytes where a whole number belongs")


def _raw(found: int | bytes) -> bytes:
    if isinstance(found, bytes):
        return found
    raise PayloadError("a whole number where bytes belong")


def _text(found: int | bytes) -> str:
    try:
        return _raw(found).decode()
    except UnicodeDecodeError as error:
        raise PayloadError(f"a text is no UTF-8: {error}") from error
