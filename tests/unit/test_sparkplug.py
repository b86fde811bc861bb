"""Sparkplug's bytes, held against the protobuf library, literal bytes and the blocks' values; garbage is one error."""

import json
import math
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import Encoding, Kind, Number, Signal, float_to_word
from agent.core.ports import Latest, StoredBlock
from agent.store.blocks import encode
from cloud_sync.payload import encode_block
from cloud_sync.sparkplug.payload import BITS, DataType, Metric, Payload, Value, encode_payload, envelope, topic, varint
from cloud_sync.sparkplug.read import HostState, decode_payload, decode_state
from cloud_sync.sparkplug.rows import HISTORICAL, Rows, birth_metrics
from cloud_sync.subscriber import Catalog, PayloadError, decode_telemetry
from tests.unit.sparkplug_proto import PAYLOAD
from tests.unit.uplink_fakes import BOOT, SIGNALS, T0_US, block

BY_ID = {signal.id: signal for signal in SIGNALS}
U64 = st.integers(0, 2**64 - 1)
WHOLE = {
    kind: (-(1 << -bits - 1), (1 << -bits - 1) - 1) if bits < 0 else (0, (1 << bits) - 1) for kind, bits in BITS.items()
}


def typed(kind: DataType) -> st.SearchStrategy[Value]:
    if kind in WHOLE:
        return st.integers(*WHOLE[kind])
    if kind is DataType.BOOLEAN:
        return st.booleans()
    if kind in {DataType.FLOAT, DataType.DOUBLE}:
        return st.floats(width=32 if kind is DataType.FLOAT else 64, allow_nan=False)
    return st.text(st.characters(exclude_categories=["Cs"]))


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PROPERTIES = st.dictionaries(
    TEXT, st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT, max_size=3
)


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    kind = draw(st.sampled_from(DataType))
    return Metric(
        name=draw(TEXT),
        alias=draw(st.none() | U64),
        timestamp_ms=draw(st.none() | U64),
        datatype=kind,
        value=draw(st.none() | typed(kind)),
        is_historical=draw(st.booleans()),
        properties=draw(PROPERTIES),
    )


PAYLOADS = st.builds(Payload, st.none() | U64, st.none() | st.integers(0, 255), st.lists(metrics(), max_size=4))


def test_bytes_are_those_of_the_published_layout() -> None:
    """Each byte written down from protobuf's wire format: tag, length or number."""
    rebirth = Metric("Node Control/Rebirth", timestamp_ms=300, datatype=DataType.BOOLEAN, value=False)
    expected = (
        b"\x08\xac\x02"  # 1 timestamp = 300
        b"\x12\x1d"  # 2 metrics, 29 bytes
        b"\x0a\x14Node Control/Rebirth"  # 1 name
        b"\x18\xac\x02"  # 3 timestamp = 300
        b"\x20\x0b"  # 4 datatype = 11
        b"\x70\x00"  # 14 boolean_value = false
        b"\x18\x00"  # 3 seq = 0
    )
    assert encode_payload(Payload(300, 0, [rebirth])) == expected
    old = Metric(alias=300, timestamp_ms=1, datatype=DataType.INT64, value=-1, is_historical=True)
    unit = Metric(alias=1, datatype=DataType.DOUBLE, properties={"engUnit": "V"})
    assert encode_payload(Payload(None, None, [old])) == (
        b"\x12\x14\x10\xac\x02\x18\x01\x20\x04\x28\x01\x58\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    )
    assert encode_payload(Payload(None, None, [unit])) == (
        b"\x12\x18\x10\x01\x20\x0a\x38\x01\x4a\x10\x0a\x07engUnit\x12\x05\x08\x0c\x42\x01V"
    )


@given(PAYLOADS)
def test_what_is_encoded_comes_back_and_is_what_the_protobuf_library_reads(payload: Payload) -> None:
    data = encode_payload(payload)
    assert decode_payload(data) == payload
    theirs = PAYLOAD.FromString(data)
    assert theirs.HasField("seq") == (payload.seq is not None)
    assert len(theirs.metrics) == len(payload.metrics)
    for metric, their in zip(payload.metrics, theirs.metrics, strict=True):
        assert (their.name, their.alias, their.datatype) == (metric.name, metric.alias or 0, metric.datatype)
        assert (their.is_null, their.is_historical) == (metric.value is None, metric.is_historical)
        assert list(their.properties.keys) == list(metric.properties)
        which = their.WhichOneof("value")
        assert (which is None) == (metric.value is None)
        if isinstance(metric.value, int) and metric.datatype in WHOLE:
            bits = 64 if which == "long_value" else 32
            assert getattr(their, which) == metric.value % (1 << bits)
        elif metric.value is not None:
            assert getattr(their, which) == metric.value
    # And what the library writes of it is read by us.
    assert decode_payload(theirs.SerializeToString()) == payload


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_garbage_raises_one_error(data: bytes) -> None:
    try:
        payload = decode_payload(data)
    except PayloadError:
        return
    assert isinstance(payload, Payload)


@given(PAYLOADS, st.data())
def test_damaged_messages_raise_one_error(payload: Payload, data: st.DataObject) -> None:
    whole = bytearray(encode_payload(payload) + b"\x08\x01")
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for damaged in (bytes(whole), cut):
        try:
            decode_payload(damaged)
        except PayloadError:
            continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x08", "no end"),
        (b"\x08" + b"\xff" * 11, "no end"),
        (b"\x12\x05\x0a", "past the end"),
        (b"\x12\x02\x0a\x05", "past the end"),
        (b"\x12\x03\x0a\x01\xff", "no UTF-8"),
        (b"\x0b", "wire type 3"),
        (b"\x00", "without a number"),
        (b"\x0a\x00", "bytes where"),
        (b"\x10\x01", "whole number where"),
        (b"\x12\x05\x6d\x00\x00\x00\x00", "no number"),
        (b"\x12\x05\x4a\x03\x0a\x01k", "more keys"),
    ],
)
def test_each_way_of_being_wrong_is_told(data: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        decode_payload(data)


def test_fields_of_others_are_passed_over() -> None:
    theirs = PAYLOAD(timestamp=5, uuid="x", body=b"y")
    theirs.metrics.add(name="file", datatype=18, bytes_value=b"abc", is_transient=True)
    theirs.metrics.add(name="plain", long_value=7)
    assert decode_payload(theirs.SerializeToString()) == Payload(
        5, None, [Metric("file", datatype=18), Metric("plain", value=7)]
    )


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DataType.INT8, 128),
        (DataType.UINT64, -1),
        (DataType.INT64, 2**63),
        (DataType.INT64, 1.0),
        (DataType.BOOLEAN, 1),
        (DataType.STRING, 1),
        (DataType.DOUBLE, "1"),
        (DataType.DOUBLE, 10**400),
        (DataType.FLOAT, 1e300),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_never_another_one(kind: DataType, value: Value) -> None:
    with pytest.raises(PayloadError):
        encode_payload(Payload(0, 0, [Metric("x", datatype=kind, value=value)]))


def test_topics() -> None:
    assert topic("plant", "NBIRTH", "depot-7") == "spBv1.0/plant/NBIRTH/depot-7"
    assert topic("plant", "DDATA", "depot-7", "battery1") == "spBv1.0/plant/DDATA/depot-7/battery1"


@pytest.mark.parametrize(
    "data",
    [b"ONLINE", b"\xff", b"[]", b"{}", b'{"online":1,"timestamp":1}', b'{"online":true,"timestamp":1.5}', b"[" * 99999],
)
def test_states_that_are_none(data: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_state(data)


def test_a_state() -> None:
    assert decode_state(b'{"online":true,"timestamp":1700000000000}') == HostState(
        online=True, timestamp_ms=1700000000000
    )


# Blocks.


def sent(
    stored: StoredBlock, live_after_us: int = HISTORICAL, size: int = 1000, signals: dict[int, Signal] = BY_ID
) -> list[tuple[str, Payload]]:
    return [
        (device, decode_payload(envelope(0, 0, [metrics])))
        for device, metrics in Rows(stored, signals).messages(live_after_us, size)
    ]


def same(left: object, right: object) -> bool:
    return left == right and type(left) is type(right)


@given(st.data())
@settings(max_examples=60)
def test_a_block_s_rows_leave_with_the_values_that_json_and_blocks_have(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 12))
    word = st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300)
    columns = data.draw(st.lists(st.sampled_from(sorted(BY_ID)), min_size=1, max_size=5, unique=True))
    ids = np.repeat(np.array(columns, dtype=np.int32), rows)
    times = T0_US + np.array(data.draw(st.lists(st.integers(0, 10**7), min_size=rows, max_size=rows)), dtype=np.int64)
    words = np.array(data.draw(st.lists(word, min_size=len(ids), max_size=len(ids))), dtype=np.int64)
    invalid = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    stored = StoredBlock(1, 1, BOOT, len(ids), encode(ids, np.tile(times, len(columns)), words, invalid))
    live_after_us = data.draw(st.sampled_from([0, HISTORICAL, int(times[0])]))
    size = data.draw(st.integers(1, 20))
    expected: Counter[tuple[int, int, str, bool]] = Counter()
    for row in decode_telemetry(encode_block(stored, 1)).rows(Catalog(1, BY_ID)):
        expected[row.signal.id, row.t_us // 1000, repr(physical(row.signal, row.value)), row.t_us <= live_after_us] += 1
    found: Counter[tuple[int, int, str, bool]] = Counter()
    for device, payload in sent(stored, live_after_us, size):
        assert device == "battery1"
        assert 1 <= len(payload.metrics) <= size
        keys = [(metric.alias, metric.timestamp_ms) for metric in payload.metrics]
        assert len(set(keys)) == len(keys), "two values of a metric with one time stand in one message"
        if live_after_us < HISTORICAL:
            times_ms = [time or 0 for _, time in keys]
            assert times_ms == sorted(times_ms)
        for metric in payload.metrics:
            found[metric.alias or 0, metric.timestamp_ms or 0, repr(metric.value), metric.is_historical] += 1
    assert found == expected


def physical(signal: Signal, value: Number | None) -> Number | None:
    """As Sparkplug has it: what is scaled is a double."""
    return float(value) if value is not None and (signal.scale != 1 or signal.offset != 0) else value


def one(signal: Signal, *words: int, invalid: bool = False) -> list[Metric]:
    count = len(words)
    times = T0_US + np.arange(count, dtype=np.int64) * 1000
    marks = np.full(count, invalid)
    data = encode(np.full(count, signal.id, dtype=np.int32), times, np.array(words, dtype=np.int64), marks)
    (message,) = sent(StoredBlock(1, 1, BOOT, count, data), signals={signal.id: signal})
    return list(message[1].metrics)


@pytest.mark.parametrize(
    ("signal", "word", "kind", "value"),
    [
        (Signal("d", "p", id=1), -5, DataType.INT64, -5),
        (Signal("d", "p", id=1), -(2**63), DataType.INT64, -(2**63)),
        (Signal("d", "p", encoding=Encoding.UINT, kind=Kind.COUNTER, id=1), -1, DataType.UINT64, 2**64 - 1),
        (Signal("d", "p", scale=0.1, id=1), 521, DataType.DOUBLE, 521 * 0.1),
        (Signal("d", "p", scale=100, id=1), 2**62, DataType.DOUBLE, float(2**62 * 100)),
        (Signal("d", "p", scale=1.0, offset=-40, id=1), 65, DataType.DOUBLE, 25.0),
        (Signal("d", "p", encoding=Encoding.UINT, scale=0.5, id=1), -2, DataType.DOUBLE, (2**64 - 2) * 0.5),
        (Signal("d", "p", scale=1e300, id=1), 2**62, DataType.DOUBLE, math.inf),
        (Signal("d", "p", encoding=Encoding.FLOAT, id=1), float_to_word(0.1), DataType.DOUBLE, 0.1),
        (Signal("d", "p", encoding=Encoding.FLOAT, id=1), float_to_word(-math.inf), DataType.DOUBLE, -math.inf),
        (Signal("d", "p", encoding=Encoding.FLOAT, id=1), float_to_word(math.nan), DataType.DOUBLE, None),
        (Signal("d", "p", encoding=Encoding.FLOAT, scale=2, id=1), float_to_word(math.nan), DataType.DOUBLE, None),
        (Signal("d", "p", labels={1: "on"}, kind=Kind.STATE, id=1), 1, DataType.INT64, 1),
    ],
)
def test_values_that_are_special(signal: Signal, word: int, kind: DataType, value: Value | None) -> None:
    (metric,) = one(signal, word)
    assert metric.datatype == kind
    assert same(metric.value, value)
    assert metric.timestamp_ms == T0_US // 1000
    (metric,) = one(signal, word, invalid=True)
    assert metric.value is None
    assert metric.datatype == kind


def test_numbers_of_signals_may_be_large() -> None:
    signal = Signal("d", "p", id=2**31 - 1)
    assert [metric.alias for metric in one(signal, 1, 2**40, -1)] == [signal.id] * 3


def test_a_scale_that_no_float_can_hold_is_an_error() -> None:
    with pytest.raises(PayloadError, match="signal 1"):
        one(Signal("d", "p", scale=10**400, id=1), 1)


def test_values_of_the_same_ms_leave_in_different_messages_and_none_is_lost() -> None:
    times = np.array([T0_US + 1, T0_US + 2, T0_US + 3, T0_US + 5000], dtype=np.int64)
    data = encode(np.full(4, 3, dtype=np.int32), times, np.array([1, 2, 3, 4]), np.zeros(4, dtype=np.bool_))
    for live_after_us in (0, HISTORICAL):
        messages = sent(StoredBlock(1, 1, BOOT, 4, data), live_after_us)
        assert [[metric.value for metric in payload.metrics] for _, payload in messages] == [[1, 4], [2], [3]]


def test_times_before_1970_and_far_ahead_are_sent() -> None:
    times = np.array([-(10**15), 2**62], dtype=np.int64)
    data = encode(np.full(2, 3, dtype=np.int32), times, np.array([1, 2]), np.zeros(2, dtype=np.bool_))
    ((_, payload),) = sent(StoredBlock(1, 1, BOOT, 2, data))
    assert [metric.timestamp_ms for metric in payload.metrics] == [0, 2**62 // 1000]


def test_a_large_block_is_encoded_piece_by_piece() -> None:
    count = 9000
    ids = np.repeat(np.arange(1, 6, dtype=np.int32), count)
    times = np.tile(T0_US + np.arange(count, dtype=np.int64) * 1000, 5)
    stored = StoredBlock(
        1, 1, BOOT, len(ids), encode(ids, times, np.arange(len(ids)), np.zeros(len(ids), dtype=np.bool_))
    )
    found = [(metric.alias, metric.timestamp_ms) for _, payload in sent(stored) for metric in payload.metrics]
    assert len(found) == len(set(found)) == 5 * count
    assert max(len(payload.metrics) for _, payload in sent(stored)) == 1000


def test_each_device_has_messages_of_its_own() -> None:
    signals = dict(BY_ID) | {9: Signal("meter", "power_w", "W", id=9)}
    ids = np.array([1, 1, 9, 2], dtype=np.int32)
    invalid = np.array([True, False, False, True])
    stored = StoredBlock(1, 1, BOOT, 4, encode(ids, T0_US + np.arange(4, dtype=np.int64), np.arange(4), invalid))
    assert [device for device, _ in sent(stored, signals=signals)] == ["battery1", "battery1", "meter"]
    assert [Rows(stored, signals).ids(device) for device in ("battery1", "meter", "none")] == [{1, 2}, {9}, set()]


def test_a_damaged_block_and_one_of_unknown_signals_are_errors() -> None:
    with pytest.raises(PayloadError, match="block 7"):
        Rows(replace(block(7), data=block(7).data[:-3]), BY_ID)
    with pytest.raises(PayloadError, match="signal 5"):
        Rows(block(7), {id_: signal for id_, signal in BY_ID.items() if id_ != 5})


# Births.


def test_a_birth_has_name_alias_type_value_unit_scale_and_labels() -> None:
    values: list[Number | None] = [52.1, None, 1, 2**64 - 1, -1.5]
    latest = [
        Latest(signal, value, None if value is None else T0_US + 5000, None)
        for signal, value in zip(SIGNALS, values, strict=True)
    ]
    current = {1, 2, 3, 4}
    metrics = birth_metrics(latest, current, T0_US + 9000)
    found = decode_payload(encode_payload(Payload(0, 1, metrics))).metrics
    assert [metric.name for metric in found] == ["voltage_v", "temperature_degc", "bms_state", "cycles", "current_a#5"]
    assert [metric.alias for metric in found] == [1, 2, 3, 4, 5]
    assert [metric.value for metric in found] == values
    double, int64, uint64 = DataType.DOUBLE, DataType.INT64, DataType.UINT64
    assert [metric.datatype for metric in found] == [double, double, int64, uint64, double]
    assert [metric.timestamp_ms for metric in found] == [T0_US // 1000 + ms for ms in (5, 9, 5, 5, 5)]
    assert found[0].properties == {"engUnit": "V", "scale": 0.1, "offset": 0.0}
    assert json.loads(str(found[2].properties["labels"])) == {"0": "off", "1": "charging"}
    assert found[3].properties == {}


def test_varints() -> None:
    assert [varint(number) for number in (0, 127, 128, 300)] == [b"\x00", b"\x7f", b"\x80\x01", b"\xac\x02"]
    assert varint(2**64 - 1) == b"\xff" * 9 + b"\x01"
    assert struct.unpack("<d", decode_payload_double())[0] == 1.5


def decode_payload_double() -> bytes:
    return encode_payload(Payload(None, None, [Metric(datatype=DataType.DOUBLE, value=1.5)]))[-8:]
