"""Valid OCPP messages at random, made from the JSON schemas of the ``ocpp`` package.

``messages("v16", "MeterValues")`` gives payloads of requests (``result=True``: of answers) that fit their schema: with
and without what is optional, with any value of the enumerations. Only those keywords are known that the schemas use.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, cast

from hypothesis import strategies as st

VERSIONS = ("v16", "v201", "v21")
# fmt: off
#: What a charger may ask of a central system: 1.6 with its security extension, 2.0.1 and 2.1.
FROM_CHARGER = {
    "v16": [
        "Authorize", "BootNotification", "DataTransfer", "DiagnosticsStatusNotification",
        "FirmwareStatusNotification", "Heartbeat", "LogStatusNotification", "MeterValues",
        "SecurityEventNotification", "SignCertificate", "SignedFirmwareStatusNotification", "StartTransaction",
        "StatusNotification", "StopTransaction",
    ],
    "v201": [
        "Authorize", "BootNotification", "ClearedChargingLimit", "DataTransfer", "FirmwareStatusNotification",
        "Get15118EVCertificate", "GetCertificateStatus", "Heartbeat", "LogStatusNotification", "MeterValues",
        "NotifyChargingLimit", "NotifyCustomerInformation", "NotifyDisplayMessages", "NotifyEVChargingNeeds",
        "NotifyEVChargingSchedule", "NotifyEvent", "NotifyMonitoringReport", "NotifyReport",
        "PublishFirmwareStatusNotification", "ReportChargingProfiles", "ReservationStatusUpdate",
        "SecurityEventNotification", "SignCertificate", "StatusNotification", "TransactionEvent",
    ],
}
FROM_CHARGER["v21"] = [
    *FROM_CHARGER["v201"],
    "BatterySwap", "GetCertificateChainStatus", "NotifyDERAlarm", "NotifyDERStartStop", "NotifyPriorityCharging",
    "NotifySettlement", "NotifyWebPaymentStarted", "OpenPeriodicEventStream", "ClosePeriodicEventStream",
    "PullDynamicScheduleUpdate", "ReportDERControl", "VatNumberValidation",
]
# fmt: on

Schema = dict[str, Any]
Payload = dict[str, object]

_LONGEST = 40  #: of texts that may be longer: more shows nothing new
_LARGEST = 10**6
#: Data of any type: 2.x's DataTransfer and customData.
_ANY = st.booleans() | st.none() | st.integers(-_LARGEST, _LARGEST) | st.text(max_size=_LONGEST)


@cache
def schema(version: str, action: str, *, result: bool = False) -> Schema:
    """The schema of a request or an answer."""
    ending = "Response" if result else "" if version == "v16" else "Request"
    file = files("ocpp") / version / "schemas" / f"{action}{ending}.json"
    return cast("Schema", json.loads(file.read_text(encoding="utf-8-sig")))


@cache
def messages(version: str, action: str, *, result: bool = False) -> st.SearchStrategy[Payload]:
    """Payloads that fit the schema."""
    root = schema(version, action, result=result)
    return cast("st.SearchStrategy[Payload]", _values(root, root))


def calls(version: str) -> st.SearchStrategy[tuple[str, Payload]]:
    """Any message that a charger may send: its action and payload."""
    return st.sampled_from(FROM_CHARGER[version]).flatmap(
        lambda action: st.tuples(st.just(action), messages(version, action))
    )


def _values(one: Schema, root: Schema) -> st.SearchStrategy[Any]:
    if "$ref" in one:
        name = one["$ref"].removeprefix("#/definitions/")
        return st.deferred(lambda: _values(root["definitions"][name], root))
    if "enum" in one:
        return st.sampled_from(one["enum"])
    makers = {"object": _objects, "array": _arrays, "string": _texts, "integer": _integers, "number": _numbers}
    if one.get("type") == "boolean":
        return st.booleans()
    maker = makers.get(one.get("type", ""))
    return maker(one, root) if maker else _ANY


def _objects(one: Schema, root: Schema) -> st.SearchStrategy[Payload]:
    needed = set(one.get("required", ()))
    fields = {name: _values(inner, root) for name, inner in one.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: values for name, values in fields.items() if name in needed},
        optional={name: values for name, values in fields.items() if name not in needed},
    )


def _arrays(one: Schema, root: Schema) -> st.SearchStrategy[list[Any]]:
    least = one.get("minItems", 0)
    most = min(one.get("maxItems", least + 2), least + 2)
    return st.lists(_values(one.get("items", {"type": "string"}), root), min_size=least, max_size=most)


def _integers(one: Schema, _: Schema) -> st.SearchStrategy[int]:
    return st.integers(one.get("minimum", -(2**31)), one.get("maximum", 2**31 - 1))


def _texts(one: Schema, _: Schema) -> st.SearchStrategy[str]:
    if one.get("format") == "date-time":
        zones = st.sampled_from(["Z", "+00:00", "-03:30", "+13:45"])
        return st.builds(lambda at, zone: at.isoformat() + zone, st.datetimes(), zones)
    if one.get("format") == "uri":
        return st.sampled_from(["http://192.0.2.1/", "ftp://u:p@example.org/a%20b?c=d#e"])
    least = one.get("minLength", 0)
    return st.text(min_size=least, max_size=max(least, min(one.get("maxLength", _LONGEST), _LONGEST)))


def _numbers(one: Schema, _: Schema) -> st.SearchStrategy[float]:
    least, most = one.get("minimum", -_LARGEST), one.get("maximum", _LARGEST)
    if "multipleOf" in one:
        step = round(1 / one["multipleOf"])
        return st.integers(int(least * step), int(most * step)).map(lambda whole: whole / step)
    return st.integers(int(least), int(most)) | st.floats(least, most, allow_nan=False)
