"""Payloads: what is encoded comes back the same, hostile bytes raise one error, and the JSON Schemas tell the truth."""

import contextlib
import json
import math
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.blocks import COUNTS, HEADER, TABLE
from agent.core.errors import ConfigError
from agent.core.model import Encoding, Event, Number, Signal, float_to_word, word_to_float
from agent.core.ports import Latest, StoredBlock, StoredEvent
from agent.store.blocks import encode
from cloud_sync.payload import (
    MAX_JSON_ROWS,
    compress,
    encode_block,
    encode_catalog,
    encode_event,
    encode_json,
    encode_state,
    encode_status,
)
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.subscriber import (
    ENVELOPE,
    Catalog,
    PayloadError,
    Telemetry,
    decode_event,
    decode_state,
    decode_status,
    decode_telemetry,
    physical,
)
from tests.unit.uplink_fakes import BOOT, SIGNALS, T0_US, block, event

SCHEMAS = Path(__file__).resolve().parents[2] / "cloud_sync" / "schemas"
BY_ID = {signal.id: signal for signal in SIGNALS}
CATALOG = Catalog(1, BY_ID)
WORDS = st.integers(-(2**63), 2**63 - 1)


def rows_of(message: Telemetry, catalog: Catalog = CATALOG) -> list[tuple[int, int, Number | None]]:
    return [(row.signal.id, row.t_us, row.value) for row in message.rows(catalog)]


def test_json_and_blocks_say_the_same() -> None:
    stored = block(7)
    (text,) = encode_json(stored, 1, BY_ID)
    from_json, from_block = decode_telemetry(text), decode_telemetry(encode_block(stored, 1))
    assert rows_of(from_json) == rows_of(from_block)
    assert len(rows_of(from_json)) == 25
    for message in (from_json, from_block):
        assert (message.seq, message.first_seq, message.boot, message.catalog) == (7, 7, BOOT, 1)


def test_values_are_what_the_signal_says() -> None:
    rows = rows_of(decode_telemetry(encode_block(block(10), 1)))
    by_signal = {signal: [value for id_, _, value in rows if id_ == signal] for signal in BY_ID}
    assert by_signal[1] == [word * 0.1 for word in range(10, 15)]
    assert by_signal[2] == [-35.0, -34.5, -34.0, -33.5, None]
    assert by_signal[3] == by_signal[4] == [10, 11, 12, 13, 14]
    assert by_signal[5] == [10 + index / 7 for index in range(5)]
    assert [t_us for id_, t_us, _ in rows if id_ == 1] == [T0_US + 10_000_000 + i * 100_000 for i in range(5)]


@given(
    st.sampled_from(list(Encoding)),
    st.sampled_from([(1, 0), (0.1, 0), (1, -40), (0.5, 3.25), (10, 7), (1e-3, -273.15)]),
    st.lists(WORDS, max_size=20),
)
def test_a_column_of_words_is_physical_as_each_word_is(
    encoding: Encoding, scaling: tuple[Number, Number], words: list[int]
) -> None:
    signal = Signal("d", "s", encoding=encoding, scale=scaling[0], offset=scaling[1], id=1)
    expected = [signal.physical(word) for word in words]
    actual = physical(signal, words)
    assert actual == [None if math.isnan(value) else value for value in expected]
    assert [type(value) for value in actual if value is not None] == [type(e) for e in expected if not math.isnan(e)]


@given(
    st.lists(
        st.tuples(st.sampled_from([3, 4, 5]), st.integers(0, 3), WORDS, st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_any_block_comes_back_from_both_forms(rows: list[tuple[int, int, int, bool]]) -> None:
    ids = np.array([row[0] for row in rows], dtype=np.int32)
    times = T0_US + np.cumsum([row[1] for row in rows], dtype=np.int64)
    words = np.array([row[2] for row in rows], dtype=np.int64)
    invalid = np.array([row[3] for row in rows])
    stored = StoredBlock(1, 1, BOOT, len(rows), encode(ids, times, words, invalid))
    expected: list[tuple[int, int, Number | None]] = []
    for id_, t_us, word, unknown in zip(ids.tolist(), times.tolist(), words.tolist(), invalid.tolist(), strict=True):
        value: Number | None = None if unknown else BY_ID[id_].physical(word)
        if value is not None and math.isnan(value):
            value = None
        expected.append((id_, t_us, value))
    expected.sort(key=lambda row: row[0])
    for payload in (encode_block(stored, 1), *encode_json(stored, 1, BY_ID)):
        assert sorted(rows_of(decode_telemetry(payload)), key=lambda row: row[0]) == expected


def test_infinities_are_json() -> None:
    words = np.array([float_to_word(value) for value in (math.inf, -math.inf, math.nan, 1.5)], dtype=np.int64)
    ids, times = np.full(4, 5, dtype=np.int32), np.arange(4, dtype=np.int64)
    (payload,) = encode_json(StoredBlock(1, 1, BOOT, 4, encode(ids, times, words)), 1, BY_ID)

    def refuse(word: str) -> float:
        raise AssertionError(word)

    json.loads(payload, parse_constant=refuse)
    assert [value for *_, value in rows_of(decode_telemetry(payload))] == [math.inf, -math.inf, None, 1.5]


def test_a_long_block_leaves_as_messages_that_share_its_numbers() -> None:
    stored = replace(block(700, rows=4000), first_seq=101)
    payloads = list(encode_json(stored, 1, BY_ID))
    messages = [decode_telemetry(payload) for payload in payloads]
    assert len(messages) == 5 * 4000 // MAX_JSON_ROWS
    assert [message.first_seq for message in messages[1:]] == [message.seq + 1 for message in messages[:-1]]
    assert (messages[0].first_seq, messages[-1].seq) == (101, 700)
    whole = sorted(rows_of(decode_telemetry(encode_block(stored, 1))), key=lambda row: row[:2])
    assert sorted((row for message in messages for row in rows_of(message)), key=lambda row: row[:2]) == whole
    assert payloads == list(encode_json(stored, 1, BY_ID))


def test_a_long_block_with_one_number_stays_one_message() -> None:
    (payload,) = encode_json(block(9, rows=4000), 1, BY_ID)
    assert len(rows_of(decode_telemetry(payload))) == 20_000


def test_json_telemetry_is_small() -> None:
    stored = block(1, rows=10)
    (payload,) = encode_json(stored, 1, BY_ID)
    assert len(payload) / stored.rows <= 17


def test_integers_are_exact() -> None:
    ids, times = np.full(2, 4, dtype=np.int32), np.arange(2, dtype=np.int64)
    data = encode(ids, times, np.array([-1, 2**62 + 1], dtype=np.int64))
    for payload in (
        *encode_json(StoredBlock(1, 1, BOOT, 2, data), 1, BY_ID),
        encode_block(StoredBlock(1, 1, BOOT, 2, data), 1),
    ):
        assert [value for *_, value in rows_of(decode_telemetry(payload))] == [2**64 - 1, 2**62 + 1]


def test_the_catalogue_comes_back() -> None:
    signals = (*SIGNALS, Signal("zähler", "x\udc80", labels={-1: "off"}, scale=10, offset=-1, id=9))
    catalog = Catalog.from_payload(encode_catalog(3, signals))
    assert catalog.version == 3
    assert list(catalog.signals.values()) == list(signals)


def test_state_and_events_come_back() -> None:
    state = decode_state(encode_state(online=True, since_us=5, version="1.0", boot=BOOT))
    assert (state.online, state.since_us, state.version, state.boot) == (True, 5, "1.0", BOOT)
    assert decode_state(encode_state(online=False, since_us=None, version="1.0", boot=BOOT)).since_us is None
    message = decode_event(encode_event(event(4, "store.moved_aside", file="x.db", list=[1, None])))
    assert (message.seq, message.kind, message.subject) == (4, "store.moved_aside", "battery1")
    assert message.data == {"file": "x.db", "list": [1, None]}


@pytest.mark.parametrize("data", [{"x": object()}, {"x": math.nan}, {"x": {1, 2}}])
def test_an_event_that_is_no_json_says_so(data: dict[str, object]) -> None:
    with pytest.raises(PayloadError, match=r"event 3 \(k\)"):
        encode_event(StoredEvent(3, BOOT, Event("k", 1, "", data)))


def test_a_block_that_cannot_be_encoded_says_so() -> None:
    stored = block(1)
    with pytest.raises(PayloadError, match="signal 5 is not in the catalogue"):
        list(encode_json(stored, 1, {id_: signal for id_, signal in BY_ID.items() if id_ != 5}))
    with pytest.raises(PayloadError, match="block 1"):
        list(encode_json(replace(stored, data=stored.data[:-3]), 1, BY_ID))
    with pytest.raises(PayloadError, match="boot"):
        encode_block(replace(stored, boot="no hex"), 1)


def test_rows_of_blocks_need_a_catalogue_that_is_new_enough() -> None:
    message = decode_telemetry(encode_block(block(1), 8))
    with pytest.raises(PayloadError, match="the message needs version 8"):
        list(message.rows(Catalog(1, {})))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"E",
        b"ET",
        b"hello",
        b"{",
        b"[1]",
        b'{"schema":1}',
        b'{"schema":2,"seq":1}',
        b'{"schema":1,"seq":1,"first_seq":1,"boot":"","catalog":1,"t0":0,"groups":[{"t":[0],"v":{"1":[]}}]}',
        b'{"schema":1,"seq":1,"first_seq":1,"boot":"","catalog":1,"t0":0,"groups":[{"t":[0],"v":{"x":[1]}}]}',
        b'{"schema":1,"seq":1,"first_seq":1,"boot":"","catalog":1,"t0":0,"groups":[{"t":[0],"v":{"1":["1"]}}]}',
        b'{"schema":1,"seq":1,"first_seq":1,"boot":"","catalog":1,"t0":0,"groups":[{"t":[0.5],"v":{"1":[1]}}]}',
        b'{"schema":1,"seq":true,"first_seq":1,"boot":"","catalog":1,"t0":0,"groups":[]}',
        b'{"schema":1,"seq":1,"first_seq":1,"boot":"","catalog":1,"t0":0,"groups":7}',
        b'{"schema":1,"seq":' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000,
        ENVELOPE.pack(b"ET", 2, 0, 1, 1, bytes(16), 1, 0),
        ENVELOPE.pack(b"ET", 1, 0, 1, 1, bytes(16), 1, 0) + b"EB\x01\x00\xff\xff\xff\xff" + bytes(20),
    ],
)
def test_what_is_no_telemetry_raises_one_error(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_telemetry(payload)


@settings(max_examples=300)
@given(st.data())
def test_damage_raises_one_error_or_stays_readable(data: st.DataObject) -> None:
    stored = block(3)
    payload = bytearray(data.draw(st.sampled_from([encode_block(stored, 1), *encode_json(stored, 1, BY_ID)])))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    with contextlib.suppress(PayloadError):
        rows_of(decode_telemetry(damaged))


def test_a_block_can_not_claim_more_rows_than_its_header() -> None:
    """A few bytes of a constant column could otherwise unpack to any amount of memory."""

    def table(*values: int) -> bytes:
        return TABLE.pack(min(values), 6) + b"".join(
            bytes(value - min(values) >> 8 * plane & 255 for value in values) for plane in range(6)
        )

    size = 1 << 40
    tables = [(size, size), (0, 0), (0, 0), (0, 0), (1,), (0,), (0,)]
    directory = COUNTS.pack(2, 1) + b"".join(table(*values) for values in tables)
    data = HEADER.pack(b"EB", 1, 0, 4, 0, len(directory)) + zlib.compress(directory)
    with pytest.raises(PayloadError, match="damaged"):
        decode_telemetry(encode_block(StoredBlock(1, 1, BOOT, 4, data), 1))


@given(st.binary(max_size=200))
def test_noise_raises_one_error(noise: bytes) -> None:
    for read in (decode_telemetry, decode_event, decode_state, Catalog.from_payload):
        with pytest.raises(PayloadError):
            read(noise)


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["schema", "seq", "t", "v", "groups", "signals", "id", "labels", "boot", "kind", "data"]
                ),
                inner,
            )
        ),
    )
)
def test_other_json_raises_one_error(document: object) -> None:
    if isinstance(document, dict):
        document["schema"] = 1
    noise = json.dumps(document).encode()
    for read in (decode_telemetry, decode_event, decode_state, Catalog.from_payload):
        with pytest.raises(PayloadError):
            read(noise)


# The JSON Schemas, with a checker of the few words that they use.

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_WORDS = {
    *("$schema", "title", "description", "type", "required", "additionalProperties", "properties", "items"),
    *("const", "enum", "pattern", "minimum"),
}


def check(schema: dict[str, object], value: object, where: str = "$") -> None:
    assert set(schema) <= _WORDS, f"{where}: the checker does not know {set(schema) - _WORDS}"
    kinds = schema.get("type")
    if kinds is not None:
        names = [kinds] if isinstance(kinds, str) else kinds
        assert isinstance(names, list)
        fits = any(isinstance(value, _TYPES[name]) and (name == "boolean" or value is not True) for name in names)
        assert fits, f"{where}: {value!r} is no {kinds}"
    assert value == schema.get("const", value), where
    enum = schema.get("enum", [value])
    assert isinstance(enum, list)
    assert value in enum, where
    if "pattern" in schema:
        assert re.search(str(schema["pattern"]), str(value)), f"{where}: {value!r}"
    minimum = schema.get("minimum")
    if minimum is not None:
        assert isinstance(minimum, int)
        assert isinstance(value, int)
        assert value >= minimum, where
    if isinstance(value, list) and "items" in schema:
        items = schema["items"]
        assert isinstance(items, dict)
        for index, item in enumerate(value):
            check(items, item, f"{where}[{index}]")
    if isinstance(value, dict):
        _check_object(schema, value, where)


def _check_object(schema: dict[str, object], value: dict[str, object], where: str) -> None:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    assert set(required) <= set(value), f"{where}: lacks {set(required) - set(value)}"
    others = schema.get("additionalProperties", True)
    for key, item in value.items():
        if key in properties:
            check(properties[key], item, f"{where}.{key}")
        elif isinstance(others, dict):
            check(others, item, f"{where}.{key}")
        else:
            assert others, f"{where}: {key} is not described"


LATEST = [
    Latest(SIGNALS[0], 52.1, T0_US, 0.5),
    Latest(SIGNALS[1], None, T0_US - 7, 1.5),
    Latest(SIGNALS[2], None, None, None),
    Latest(SIGNALS[3], 2**64 - 1, T0_US, 0.0),
    Latest(SIGNALS[4], math.inf, T0_US, 0.0),
]


def test_a_status_tells_the_newest_value_of_each_signal_that_was_ever_read() -> None:
    status = decode_status(encode_status(LATEST, t_us=T0_US + 1, catalog_version=7, boot=BOOT))
    assert (status.t_us, status.boot, status.catalog) == (T0_US + 1, BOOT, 7)
    assert status.values == {
        1: (52.1, T0_US),
        2: (None, T0_US - 7),
        4: (2**64 - 1, T0_US),
        5: (None, T0_US),
    }


@pytest.mark.parametrize("pair", ["[1]", "[1, 2, 3]", "[1, 2.5]", '["x", 2]', "[1, null]", "7", "[true, 2]"])
def test_a_damaged_status_is_refused(pair: str) -> None:
    text = '{"schema": 1, "t": 1, "boot": "b", "catalog": 1, "values": {"1": %s}}' % pair  # noqa: UP031 - braces
    with pytest.raises(PayloadError):
        decode_status(text.encode())


def test_compressed_json_says_the_same_in_less() -> None:
    for message in encode_json(block(900, first_seq=1, rows=2100), 1, BY_ID):
        packed = compress(message)
        assert len(packed) < len(message) / 3
        assert decode_telemetry(packed) == decode_telemetry(message)


def _examples(name: str) -> list[bytes]:
    return {
        "state": [
            encode_state(online=True, since_us=1, version="1", boot=BOOT),
            encode_state(online=False, since_us=None, version="1", boot=BOOT),
        ],
        "catalog": [encode_catalog(1, SIGNALS), encode_catalog(0, [])],
        "telemetry": [*encode_json(block(5), 1, BY_ID), *encode_json(block(900, first_seq=1, rows=2100), 1, BY_ID)],
        "event": [encode_event(event(1, x=[1, {"y": None}]))],
        "status": [encode_status(LATEST, t_us=T0_US, catalog_version=1, boot=BOOT)],
    }[name]


@pytest.mark.parametrize("name", ["state", "catalog", "telemetry", "event", "status"])
def test_the_schemas_describe_what_is_sent(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    for payload in _examples(name):
        document = json.loads(payload)
        check(schema, document)
        for key in document:
            damaged = {other: value for other, value in document.items() if other != key}
            with pytest.raises(AssertionError):
                check(schema, damaged)
        with pytest.raises(AssertionError):
            check(schema, {**document, "another": 1})


def test_each_payload_has_its_schema() -> None:
    assert sorted(path.stem for path in SCHEMAS.glob("*.json")) == [
        "ack",
        "catalog",
        "command",
        "command_result",
        "event",
        "state",
        "status",
        "telemetry",
    ]


# Settings.


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("central.example:8883", "is no broker's address"),
        ("http://central.example", "is no broker's address"),
        ("mqtt://", "is no broker's address"),
        ("mqtt://host:port", "ort"),
        ("mqtt://host:99999", "ort"),
        ("mqtt://user:secret@host", "use username: and password_file:"),
        ("mqtt://user:secret@host:port", "ort"),
        ("mqtts://a, mqtts://user:secret@b", "use username: and password_file:"),
        ("mqtt://host/enlace", "behind the port"),
        ("mqtts://a,mqtt://b", "for all nodes"),
        ("mqtts://a,", "is no broker's address"),
    ],
)
def test_a_wrong_url_is_refused_with_words(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        UplinkSettings(url, site="s")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("site", ["", "a/b", "a+", "#", "$SYS", "a\0b"])
def test_a_site_that_breaks_topics_is_refused(site: str) -> None:
    with pytest.raises(ConfigError, match="site id"):
        UplinkSettings("mqtt://host", site=site)


def test_settings_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ConfigError, match="both"):
        LinkSettings("mqtts://host", "c", cert_file=Path("c.pem"))
    with pytest.raises(ConfigError, match="no TLS"):
        LinkSettings("mqtt://host", "c", ca_file=Path("c.pem"))
    with pytest.raises(ConfigError, match="no username"):
        LinkSettings("mqtt://host", "c", password_file=Path("c"))
    with pytest.raises(ConfigError, match="5 to 3600"):
        LinkSettings("mqtt://host", "c", keepalive_s=0)
    with pytest.raises(ConfigError, match="json or json"):
        UplinkSettings("mqtt://host", site="s", payload="xml")


def test_ports_and_names_have_defaults() -> None:
    link = UplinkSettings("mqtts://[::1]", site="s").link()
    assert (link.brokers[0].host, link.brokers[0].port, link.tls, link.client_id) == ("::1", 8883, True, "enlace-s")
    assert LinkSettings("mqtt://host:1234", "c").brokers[0].port == 1234


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        LinkSettings("mqtts://host", "c", ca_file=tmp_path / "ca.pem").check_files()
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="PEM"):
        LinkSettings("mqtts://host", "c", ca_file=tmp_path / "ca.pem").check_files()


def test_words_of_floats_are_read_as_bits() -> None:
    assert word_to_float(float_to_word(1.25)) == 1.25
    assert physical(BY_ID[5], [float_to_word(1.25)]) == [1.25]
