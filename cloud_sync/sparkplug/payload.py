"""Sparkplug B payloads: metrics -> bytes. Pure. The read side is ``read.py``.

Rules of this file:

1. The layout is the one that the specification publishes (Eclipse Sparkplug 3.0, chapter 6, "Google Protocol Buffer
   Schema", proto2). It is written and read by hand here: sealed blocks are encoded 4 times as fast as with the
   protobuf library, blocks of a second slower by half (docs/sparkplug.md has the figures), in less memory. The tests
   hold it against that library and against an independent client.
2. No value is a null, never 0. A whole number that its datatype can't hold is an error, never another number.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from cloud_sync.subscriber import PayloadError

NAMESPACE = "spBv1.0"

Value = bool | int | float | str

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
FLOAT, DOUBLE = struct.Struct("<f"), struct.Struct("<d")

# Wire types of protobuf.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# Numbers of fields. The values of a property stand in the same order as those of a metric, some numbers lower.
TIMESTAMP, METRICS, SEQ = 1, 2, 3
NAME, ALIAS, TIME, DATATYPE, HISTORICAL, NULL, PROPERTIES = 1, 2, 3, 4, 5, 7, 9
INT = 10
LONG, FLOAT32, FLOAT64, BOOL, TEXT = range(INT + 1, INT + 6)
KEYS, VALUES = 1, 2
PROPERTY_TYPE, PROPERTY_NULL, PROPERTY_INT = 1, 2, 3
PROPERTY_SHIFT = INT - PROPERTY_INT


class DataType(IntEnum):
    """Sparkplug's basic types, as far as a metric of ours or a command to us can have them."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15


#: Bits of whole numbers; negative: signed.
BITS = {
    DataType.INT8: -8,
    DataType.INT16: -16,
    DataType.INT32: -32,
    DataType.INT64: -64,
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
    DataType.DATETIME: 64,
}
TEXTS = frozenset({DataType.STRING, DataType.TEXT, DataType.UUID})


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``value`` None is ``is_null``; an empty name and an alias or time of None are left out."""

    name: str = ""
    alias: int | None = None
    timestamp_ms: int | None = None  #: ms since 1970 UTC
    datatype: int = 0  #: ``DataType``, or another one of a peer's; 0: not said
    value: Value | None = None
    is_historical: bool = False
    properties: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payload:
    """One message. Only deaths of nodes and commands have no ``seq``."""

    timestamp_ms: int | None
    seq: int | None
    metrics: Sequence[Metric] = ()


def topic(group: str, kind: str, node: str, device: str = "") -> str:
    """``spBv1.0/{group}/{kind}/{node}[/{device}]``."""
    return "/".join((NAMESPACE, group, kind, node, *([device] if device else [])))


# Bytes out.


def encode_payload(payload: Payload) -> bytes:
    """The bytes of a message. Raises ``PayloadError`` when a value does not fit its datatype."""
    return envelope(payload.timestamp_ms, payload.seq, map(encode_metric, payload.metrics))


def envelope(timestamp_ms: int | None, seq: int | None, metrics: Iterable[bytes]) -> bytes:
    """A message around metrics that are encoded already, each as ``encode_metric`` gives it."""
    head = b"" if timestamp_ms is None else _number(TIMESTAMP, timestamp_ms)
    tail = b"" if seq is None else _number(SEQ, seq)
    return b"".join((head, *metrics, tail))


def encode_metric(metric: Metric) -> bytes:
    """A metric as a field of its message. Raises ``PayloadError`` when its value does not fit its datatype."""
    parts = []
    if metric.name:
        parts.append(_string(NAME, metric.name))
    if metric.alias is not None:
        parts.append(_number(ALIAS, metric.alias))
    if metric.timestamp_ms is not None:
        parts.append(_number(TIME, max(metric.timestamp_ms, 0)))  # Sparkplug has no times before 1970
    if metric.datatype:
        parts.append(_number(DATATYPE, metric.datatype))
    if metric.is_historical:
        parts.append(_number(HISTORICAL, 1))
    parts.append(_number(NULL, 1) if metric.value is None else _value(metric.datatype, metric.value, 0))
    if metric.properties:
        parts.append(_delimited(PROPERTIES, _property_set(metric.properties)))
    return _delimited(METRICS, b"".join(parts))


def _value(datatype: int, value: Value, shift: int) -> bytes:
    bits = BITS.get(datatype)  # type: ignore[call-overload] # an IntEnum is an int
    if bits is not None and type(value) is int:
        low, high = (-(1 << (-bits - 1)), 1 << (-bits - 1)) if bits < 0 else (0, 1 << bits)
        if not low <= value < high:
            raise PayloadError(f"{value} does not fit datatype {datatype}")
        long = abs(bits) > 32  # noqa: PLR2004 - bits
        return _number((LONG if long else INT) - shift, value & (MASK64 if long else MASK32))
    if type(value) is bool and datatype == DataType.BOOLEAN:
        return _number(BOOL - shift, int(value))
    if isinstance(value, str) and datatype in TEXTS:
        return _string(TEXT - shift, value)
    if type(value) in {int, float} and datatype in {DataType.FLOAT, DataType.DOUBLE}:
        try:
            if datatype == DataType.DOUBLE:
                return _tag(FLOAT64 - shift, FIXED64) + DOUBLE.pack(value)
            return _tag(FLOAT32 - shift, FIXED32) + FLOAT.pack(value)
        except (OverflowError, struct.error) as error:
            raise PayloadError(f"{value} does not fit datatype {datatype}: {error}") from error
    raise PayloadError(f"a {type(value).__name__} is no value of datatype {datatype}")


def _property_set(properties: Mapping[str, Value]) -> bytes:
    keys = [_string(KEYS, key) for key in properties]
    return b"".join(keys + [_delimited(VALUES, _property(value)) for value in properties.values()])


def _property(value: Value) -> bytes:
    kinds = {bool: DataType.BOOLEAN, int: DataType.INT64, float: DataType.DOUBLE, str: DataType.STRING}
    datatype = kinds[type(value)]
    return _number(PROPERTY_TYPE, datatype) + _value(datatype, value, PROPERTY_SHIFT)


def _string(number: int, text: str) -> bytes:
    # A lone surrogate, which no UTF-8 can hold, leaves as the text \udcXX.
    return _delimited(number, text.encode(errors="backslashreplace"))


def _delimited(number: int, data: bytes) -> bytes:
    return _tag(number, BYTES) + varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _tag(number, VARINT) + varint(value)


def _tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def varint(value: int) -> bytes:
    """A whole number, not negative, seven bits a byte, lowest first."""
    if value < 0x80:  # noqa: PLR2004 - seven bits
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
