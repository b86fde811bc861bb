"""OCPP payloads: cases made by hand, valid messages at random, and JSON that is anything."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import BadFrame
from agent.core.points import CHARGER_STATUS, find_point
from drivers.codec import ocpp16, ocpp201
from drivers.codec.ocpp_model import Meter, Status, Stop, TransactionEvent
from drivers.codec.ocpp_readings import MAX_READINGS, reading, totals
from drivers.codec.ocpp_values import LocalAsUtc, word_of
from tests.ocpp_schemas import messages

CASES = Path(__file__).resolve().parents[1] / "cases" / "ocpp"

Decode = Callable[[object, tzinfo], object]

V16: dict[str, Decode] = {
    "BootNotification": ocpp16.boot,
    "Authorize": ocpp16.authorize,
    "StatusNotification": ocpp16.status,
    "StartTransaction": ocpp16.start,
    "StopTransaction": ocpp16.stop,
    "MeterValues": ocpp16.meter,
}
V2: dict[str, Decode] = {
    "BootNotification": ocpp201.boot,
    "Authorize": ocpp201.authorize,
    "StatusNotification": ocpp201.status,
    "MeterValues": ocpp201.meter,
    "TransactionEvent": ocpp201.transaction_event,
    "NotifyEvent": ocpp201.statuses,
}
DECODERS = {"1.6": V16, "2.0.1": V2, "2.1": V2}


def told(record: object) -> object:
    """A record as JSON: only what differs from what is meant without a word."""
    if isinstance(record, tuple):
        return [{type(one).__name__: told(one)} if isinstance(one, Status) else told(one) for one in record]
    if isinstance(record, bytes):
        return record.decode()
    if not is_dataclass(record):
        return dict(record) if isinstance(record, Mapping) else record
    found = {}
    for one in fields(record):
        value = getattr(record, one.name)
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if value != default:
            found[one.name] = told(value)
    return found


def case_params() -> list[Any]:
    return [
        pytest.param(one, id=f"{path.stem}: {one['about']}")
        for path in sorted(CASES.glob("*.json"))
        for one in json.loads(path.read_text())
    ]


@pytest.mark.parametrize("one", case_params())
def test_a_payload_gives_its_record(one: dict[str, Any]) -> None:
    zone: tzinfo = ZoneInfo(one["zone"]) if "zone" in one else UTC
    zone = LocalAsUtc(zone) if one.get("local_as_utc") else zone
    record = DECODERS[one["version"]][one["action"]](one["payload"], zone)
    shown = {type(record).__name__: told(record)} if is_dataclass(record) else told(record)
    assert shown == one["record"]
    if "totals" in one:
        assert isinstance(record, Meter)
        assert totals(record.samples[0].readings) == one["totals"]


def test_each_message_has_a_case() -> None:
    found = {(one.values[0]["version"], one.values[0]["action"]) for one in case_params()}
    assert found >= {(version, action) for version in ("1.6", "2.0.1") for action in DECODERS[version]}


# --- valid messages --------------------------------------------------------------------------------------------------

#: What the schemas allow to be blank, though nothing can be said without it.
ESSENTIAL = {"missing_id_tag", "missing_transaction", "missing_connector"}


@pytest.mark.parametrize(
    ("version", "action"),
    [("v16", action) for action in V16] + [(version, action) for version in ("v201", "v21") for action in V2],
)
def test_every_valid_message_gives_a_record(version: str, action: str) -> None:
    decode = (V16 if version == "v16" else V2)[action]

    @settings(max_examples=50)
    @given(messages(version, action))
    def gives_one(payload: dict[str, object]) -> None:
        record = decode(payload, UTC)
        if isinstance(record, BadFrame):
            assert record.reason in ESSENTIAL
            tags = [payload.get("idTag"), payload.get("idToken"), payload.get("transactionInfo")]
            texts = [one for tag in tags for one in (tag.values() if isinstance(tag, dict) else [tag])]
            assert any(isinstance(one, str) and not one.strip("\0 \t\r\n\v\f") for one in texts), record
            return
        if isinstance(record, Status):
            assert record.status in CHARGER_STATUS
        if isinstance(record, Meter | Stop | TransactionEvent):
            sent = payload.get("meterValue", payload.get("transactionData", []))
            assert isinstance(sent, list)
            assert [len(one["sampledValue"]) for one in sent] == [len(sample.readings) for sample in record.samples]
            for reading in (one for sample in record.samples for one in sample.readings):
                assert reading.point is None or find_point(reading.point)

    gives_one()


# --- anything --------------------------------------------------------------------------------------------------------

NAMES = sorted(
    {"Energy.Active.Import.Register", "SoC", "EV", "Wh", "L1", "SignedData", "Charging", "ended", "12,5", "-1"}
    | {"2026-03-01T10:00:00Z", "1e999", "\ud800"}
)
KEYS = sorted(
    {"connectorId", "idTag", "meterValue", "sampledValue", "value", "unit", "unitOfMeasure", "multiplier", "measurand"}
    | {"transactionId", "transactionInfo", "eventType", "status", "connectorStatus", "evse", "evseId", "id", "idToken"}
    | {"timestamp", "signedMeterValue", "format", "chargingStation", "meterStart", "meterStop", "transactionData"}
    | {"eventData", "component", "variable", "name", "actualValue", "seqNo", "VALUE", " idTag "}
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**4000)
    | st.floats()
    | st.sampled_from(NAMES)
    | st.text(st.characters(codec=None), max_size=20)
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), inner),
    max_leaves=25,
)


def holds(decode: Decode, payload: object) -> None:
    record = decode(payload, UTC)
    assert record is not None
    json.dumps(told(record), ensure_ascii=False, allow_nan=False).encode()  # can be stored and sent
    if isinstance(record, Meter | Stop | TransactionEvent):
        for sample in record.samples:
            for point, value in totals(sample.readings).items():
                assert abs(word_of(point, value)) < 1 << 63


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=8) | ANYTHING)
def test_anything_gives_a_record_or_a_bad_frame(payload: object) -> None:
    for version in ("1.6", "2.0.1"):
        for decode in DECODERS[version].values():
            holds(decode, payload)


def places(value: object) -> list[tuple[Any, Any]]:
    """All containers with each of their keys."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner for place in ((value, key), *places(one))]


@pytest.mark.parametrize(("version", "action"), [("v16", one) for one in V16] + [("v201", one) for one in V2])
def test_a_valid_message_with_anything_in_it_gives_a_record_or_a_bad_frame(version: str, action: str) -> None:
    decode = (V16 if version == "v16" else V2)[action]

    @settings(max_examples=50)
    @given(messages(version, action), st.data())
    def holds_spoilt(payload: dict[str, object], data: st.DataObject) -> None:
        spoilt = copy.deepcopy(payload)
        container, key = data.draw(st.sampled_from(places(spoilt)), label="place")
        container[key] = data.draw(ANYTHING, label="in its place")
        holds(decode, spoilt)

    holds_spoilt()


def test_what_is_deep_is_not_walked() -> None:
    deep: object = "x"
    for _ in range(100_000):
        deep = [deep]
    keys = ("connectorId", "idTag", "status", "chargingStation", "transactionInfo", "eventType", "evse", "eventData")
    for payload in (
        {"meterValue": deep},
        {"meterValue": [{"sampledValue": [{"value": deep}]}]},
        dict.fromkeys(keys, deep),
    ):
        for decode in (*V16.values(), *V2.values()):
            assert decode(payload, UTC) is not None
    while isinstance(deep, list):
        deep = deep.pop()  # level by level: freed at once, it would use up the stack


def test_of_too_many_values_the_newest_are_kept() -> None:
    sent = [{"timestamp": "2026-03-01T10:00:00Z", "sampledValue": [{"value": at}]} for at in range(MAX_READINGS)]
    record = ocpp16.stop({"transactionId": 1, "transactionData": sent}, UTC)
    assert isinstance(record, Stop)
    values = [sample.readings[0].value for sample in record.samples]
    assert values == list(range(MAX_READINGS // 2, MAX_READINGS))
    one = ocpp16.meter({"connectorId": 1, "meterValue": {"sampledValue": [{"value": 1}] * 3 * MAX_READINGS}}, UTC)
    assert isinstance(one, Meter)
    assert len(one.samples[0].readings) == MAX_READINGS


# --- words of status -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        *((word.upper(), word) for word in CHARGER_STATUS),
        ("suspended_ev", "SuspendedEV"),
        ("Suspended EVSE ", "SuspendedEVSE"),
        ("Occupied", "Preparing"),
        ("", None),
        ("Chargingx", None),
        ("Charging" * 100, None),
    ],
)
def test_a_status_is_read_whatever_its_case(sent: str, word: str | None) -> None:
    assert ocpp16.status_word(sent) == word


@pytest.mark.parametrize(
    ("connector", "state", "ended", "word"),
    [
        ("Available", "", False, "Available"),
        ("Available", "", True, "Available"),
        ("Available", "Charging", False, "Charging"),
        ("Available", "Idle", False, "Preparing"),
        ("Available", "Idle", True, "Available"),
        ("Occupied", "", False, "Preparing"),
        ("Occupied", "", True, "Finishing"),
        ("Occupied", "EVConnected", False, "Preparing"),
        ("Occupied", "EVConnected", True, "Finishing"),
        ("Occupied", "charging", False, "Charging"),
        ("Occupied", "SuspendedEV", False, "SuspendedEV"),
        ("Occupied", "SuspendedEVSE", True, "SuspendedEVSE"),
        ("Occupied", "Napping", False, "Preparing"),
        ("Reserved", "", False, "Reserved"),
        ("Faulted", "Charging", False, "Faulted"),
        ("Unavailable", "EVConnected", False, "Unavailable"),
        ("", "Charging", False, "Charging"),
        ("SuspendedEV", "", True, "SuspendedEV"),
        ("", "", False, None),
    ],
)
def test_connector_and_transaction_make_one_status(connector: str, state: str, ended: bool, word: str | None) -> None:  # noqa: FBT001
    assert ocpp201.status_of(connector, state, ended=ended) == word


@pytest.mark.parametrize(
    ("sampled", "wh", "step"),
    [
        ({"value": "12.34", "unit": "kWh"}, 12_340, 10),
        ({"value": "12,30", "unit": "kWh"}, 12_300, 10),
        ({"value": "12.300", "unit": "kWh"}, 12_300, 1),
        ({"value": "1.2", "unit": "MWh"}, 1_200_000, 100_000),
        ({"value": "12340"}, 12_340, 1),
        ({"value": "12340.5", "unit": "Wh"}, 12_340.5, 0.1),
        ({"value": 12.34, "unitOfMeasure": {"unit": "Wh", "multiplier": 3}}, 12_340, 10),
        ({"value": 1.5, "unitOfMeasure": {"unit": "kWh", "multiplier": -1}}, 150, 10),
        (
            {"value": 12.34, "unitOfMeasure": {"unit": "kWh"}, "signedMeterValue": {"signedMeterData": "AA=="}},
            12_340,
            10,
        ),
    ],
)
def test_the_last_digit_of_a_register_has_its_worth(sampled: dict[str, object], wh: float, step: float) -> None:
    found = reading(sampled)
    assert found is not None
    assert (found.value, found.step) == (wh, step)
