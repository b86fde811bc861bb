"""What a charger on OCPP 2.0.1 (or 2.1) can be told: the Core certification profile and beyond (part 2).

Arguments are held against each operation's schema before; names are the same as for 1.6 wherever both have it.
"""

from collections.abc import Callable, Mapping, Sequence

from agent.core.errors import CommandRejected, Refusal
from drivers.ocpp.id_tags import CARD, OURS
from drivers.ocpp.operations16 import (
    HASH_ARGS,
    LOG_ARGS,
    OWN_PROFILE_IDS,
    UNLOCKED,
    get_log,
    hash_data,
    install_certificate,
    running,
)
from drivers.ocpp.operations_model import (
    ACCEPTED,
    NUMBER,
    OUTLET,
    OUTLET_OR_ALL,
    RETRIES,
    TIME,
    URL,
    Args,
    Asker,
    Do,
    Operation,
    given,
    id_tag,
    one_of,
    plain,
    refuse_downgrade,
    refuse_own_password,
    text,
)
from drivers.ocpp.ports import Payload

ID_TAG = id_tag(36)
ID_TYPE = one_of("Central", "eMAID", "ISO14443", "ISO15693", "KeyCode", "Local", "MacAddress", "NoAuthorization")
CONNECTOR = {**OUTLET, "description": "connector of the outlet; default 1"}
TRIGGERS = one_of(
    "BootNotification",
    "LogStatusNotification",
    "FirmwareStatusNotification",
    "Heartbeat",
    "MeterValues",
    "SignChargingStationCertificate",
    "SignV2GCertificate",
    "StatusNotification",
    "TransactionEvent",
    "SignCombinedCertificate",
    "PublishFirmwareStatusNotification",
)
SCHEDULED = frozenset({"Accepted", "Scheduled"})
STARTED = frozenset({"Accepted", "AcceptedCanceled"})
REPORTED = frozenset({"Accepted", "EmptyResultSet"})
SET = frozenset({"Accepted", "RebootRequired"})
PURPOSES = ("ChargingStationExternalConstraints", "ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile")
ROOTS = ("V2GRootCertificate", "MORootCertificate", "CSMSRootCertificate", "ManufacturerRootCertificate")
ANY_TEXT = {"type": "string", "maxLength": 1000}

_VARIABLE_PROPERTIES: Mapping[str, object] = {
    "component": text(50),
    "component_instance": text(50),
    "evse": NUMBER,
    "connector": NUMBER,
    "variable": text(50),
    "instance": text(50),
    "attribute": one_of("Actual", "Target", "MinSet", "MaxSet"),
}
#: A variable: ``Component.Variable``, or its parts.
VARIABLE: Mapping[str, object] = {
    "anyOf": [
        {"type": "string", "pattern": r"^[^.]{1,50}\.[^.]{1,50}$"},
        {
            "type": "object",
            "properties": dict(_VARIABLE_PROPERTIES),
            "required": ["component", "variable"],
            "additionalProperties": False,
        },
    ]
}
VALUE: Mapping[str, object] = {
    "type": "object",
    "properties": {**_VARIABLE_PROPERTIES, "value": ANY_TEXT},
    "required": ["component", "variable", "value"],
    "additionalProperties": False,
}


def token(args: Args, kind: str) -> Payload:
    """An IdToken: of this kind unless somebody says what the tag is. Chargers exist that compare kinds, too."""
    return {"idToken": args["id_tag"], "type": args.get("id_type", kind)}


async def _start(asker: Asker, args: Args) -> Payload:
    number = asker.number()
    payload: dict[str, object] = {"idToken": token(args, OURS), "remoteStartId": number, **given(args, outlet="evseId")}
    if "limit_a" in args:
        payload["chargingProfile"] = asker.session_profile(args)
    return {**await asker.call("RequestStartTransaction", payload), "remoteStartId": number}


async def _stop(asker: Asker, args: Args) -> Payload:
    return await asker.call("RequestStopTransaction", {"transactionId": running(asker, args)})


def _reset(args: Args) -> Payload:
    kind = "OnIdle" if args.get("kind") == "on_idle" else "Immediate"
    return {"type": kind, **given(args, outlet="evseId")}


def _evse(args: Args, *, connector: bool = False) -> Payload:
    """The EVSE of the arguments; the whole charger is said by leaving it out."""
    if not args.get("outlet"):
        return {}
    evse: dict[str, object] = {"id": args["outlet"], **given(args, connector="connectorId")}
    if connector:
        evse.setdefault("connectorId", 1)
    return {"evse": evse}


def _trigger(args: Args) -> Payload:
    """A status is told by a connector, not by an EVSE (part 2, F06)."""
    return {"requestedMessage": args["message"], **_evse(args, connector=args["message"] == "StatusNotification")}


def names_of(variable: object) -> dict[str, object]:
    """ComponentType and VariableType of a variable as the arguments name it."""
    if isinstance(variable, str):
        component_name, _, name = variable.partition(".")
        return {"component": {"name": component_name}, "variable": {"name": name}}
    assert isinstance(variable, Mapping)  # noqa: S101 - the schema says so
    component: dict[str, object] = {"name": variable["component"], **given(variable, component_instance="instance")}
    if "evse" in variable:
        component["evse"] = {"id": variable["evse"], **given(variable, connector="connectorId")}
    return {
        "component": component,
        "variable": {"name": variable["variable"], **given(variable, instance="instance")},
        **given(variable, attribute="attributeType"),
    }


async def in_chunks(
    asker: Asker, message: str, key: str, items: Sequence[Mapping[str, object]], result: str
) -> list[Mapping[str, object]]:
    """Ask for many in as few messages as the charger allows; the results in their order."""
    size = await asker.items_per_message(message) if len(items) > 1 else 1
    found: list[Mapping[str, object]] = []
    for first in range(0, len(items), size):
        answer = await asker.call(message, {key: list(items[first : first + size])}, frozenset())
        results = answer.get(result)
        found += [one for one in results if isinstance(one, Mapping)] if isinstance(results, list) else []
    return found


async def _get_variables(asker: Asker, args: Args) -> Payload:
    items = [names_of(one) for one in args["variables"]]
    found = await in_chunks(asker, "GetVariables", "getVariableData", items, "getVariableResult")
    if not any(one.get("attributeStatus") == "Accepted" for one in found):
        raise CommandRejected("get_variables", Refusal.NOT_CAPABLE, _failures(found))
    return {"variables": found}


async def _set_variables(asker: Asker, args: Args) -> Payload:
    for one in args["variables"]:
        refuse_own_password("set_variables", one["variable"])
    items = [{**names_of(one), "attributeValue": one["value"]} for one in args["variables"]]
    found = await in_chunks(asker, "SetVariables", "setVariableData", items, "setVariableResult")
    failed = [one for one in found if one.get("attributeStatus") not in SET]
    if failed or len(found) < len(items):
        refused = any(one.get("attributeStatus") == "Rejected" for one in failed)
        refusal = Refusal.DEVICE_REFUSED if refused or not failed else Refusal.NOT_CAPABLE
        raise CommandRejected("set_variables", refusal, _failures(failed))
    return {"variables": found}


def _failures(found: Sequence[Mapping[str, object]]) -> str:
    """Which variables it answered what to, without their values."""
    said = [f"{one.get('attributeStatus')} to {_name(one)}" for one in found[:5]]
    return "it answered " + (", ".join(said) if said else "nothing about some of them")


def _name(one: Mapping[str, object]) -> str:
    component, variable = one.get("component"), one.get("variable")
    parts = (part.get("name", "?") if isinstance(part, Mapping) else "?" for part in (component, variable))
    return ".".join(map(str, parts))


def _variables_of(args: Args) -> Payload:
    payload: dict[str, object] = {}
    if "variables" in args:
        payload["componentVariable"] = [
            {key: value for key, value in names_of(one).items() if key != "attributeType"} for one in args["variables"]
        ]
    if "criteria" in args:
        payload["componentCriteria"] = args["criteria"]
    return payload


def _reporting(message: str, parts: str, build: Callable[[Args], Payload], good: frozenset[str] = REPORTED) -> Do:
    """An operation whose answer comes in parts."""

    async def do(asker: Asker, args: Args) -> Payload:
        return await asker.report(message, build(args), parts, good)

    return do


def _local_list(args: Args) -> Payload:
    entries = [_entry(one, full=args["update"] == "full") for one in args.get("entries", [])]
    payload = {"versionNumber": args["version"], "updateType": args["update"].capitalize()}
    return {**payload, "localAuthorizationList": entries} if entries else payload


def _entry(one: Mapping[str, object], *, full: bool) -> Payload:
    if "status" not in one and not full:
        return {"idToken": token(one, CARD)}
    info: dict[str, object] = {"status": one.get("status", "Accepted"), **given(one, until="cacheExpiryDateTime")}
    if "parent" in one:
        info["groupIdToken"] = {"idToken": one["parent"], "type": OURS}
    return {"idToken": token(one, CARD), "idTokenInfo": info}


async def _reserve(asker: Asker, args: Args) -> Payload:
    number = args.get("id", asker.number())
    payload: dict[str, object] = {"id": number, "expiryDateTime": args["until"], "idToken": token(args, CARD)}
    if args.get("outlet"):
        payload["evseId"] = args["outlet"]
    return {**await asker.call("ReserveNow", payload), "reservationId": number}


async def _update_firmware(asker: Asker, args: Args) -> Payload:
    firmware = {
        "location": args["location"],
        "retrieveDateTime": args["retrieve_at"],
        **given(args, install_at="installDateTime", certificate="signingCertificate", signature="signature"),
    }
    payload = {
        "requestId": asker.number(),
        "firmware": firmware,
        **given(args, retries="retries", retry_interval_s="retryInterval"),
    }
    return await asker.call("UpdateFirmware", payload, STARTED)


def _clear_profile(args: Args) -> Payload:
    criteria = given(args, outlet="evseId", purpose="chargingProfilePurpose", stack_level="stackLevel")
    payload: dict[str, object] = {**given(args, id="chargingProfileId")}
    return {**payload, "chargingProfileCriteria": criteria} if criteria else payload


def _wanted_profiles(args: Args) -> Payload:
    wanted = given(args, purpose="chargingProfilePurpose", stack_level="stackLevel", sources="chargingLimitSource")
    if "ids" in args:
        wanted["chargingProfileId"] = args["ids"]
    return {"chargingProfile": wanted, **given(args, outlet="evseId")}


async def _network_profile(asker: Asker, args: Args) -> Payload:
    refuse_downgrade("set_network_profile", asker.state, args["security_profile"])
    connection = {
        "ocppVersion": "OCPP20",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": args["url"],
        "messageTimeout": args.get("timeout_s", 30),
        "securityProfile": args["security_profile"],
        "ocppInterface": args.get("interface", "Wired0"),
        **given(args, apn="apn", vpn="vpn"),
    }
    payload = {"configurationSlot": args["slot"], "connectionData": connection}
    return await asker.call("SetNetworkProfile", payload)


def _customer(args: Args) -> Payload:
    payload: dict[str, object] = {"report": args.get("report", True), "clear": args.get("clear", False)}
    if "id_tag" in args:
        payload["idToken"] = token(args, CARD)
    return {**payload, **given(args, identifier="customerIdentifier")}


async def _customer_information(asker: Asker, args: Args) -> Payload:
    if not args.get("report", True):
        return await asker.call("CustomerInformation", {**_customer(args), "requestId": asker.number()})
    return await asker.report("CustomerInformation", _customer(args), "NotifyCustomerInformation", ACCEPTED)


OPERATIONS: Mapping[str, Operation] = {
    "start": Operation(
        "RequestStartTransaction",
        "start a session; limit_a holds for that session",
        _start,
        {
            "id_tag": ID_TAG,
            "id_type": ID_TYPE,
            "outlet": OUTLET,
            "limit_a": {"type": "number", "minimum": 0, "maximum": 1000},
        },
        ("id_tag",),
    ),
    "stop": Operation(
        "RequestStopTransaction",
        "end a session: of an outlet, or by its transaction; the only one where neither is named",
        _stop,
        {"outlet": OUTLET, "transaction": text(36)},
    ),
    "reset": Operation(
        "Reset",
        "restart: soft and hard end sessions first, on_idle waits until there is none",
        plain("Reset", _reset, SCHEDULED),
        {"kind": one_of("soft", "hard", "on_idle"), "outlet": OUTLET},
    ),
    "unlock": Operation(
        "UnlockConnector",
        "unlock the plug",
        plain(
            "UnlockConnector",
            lambda args: {"evseId": args.get("outlet", 1), "connectorId": args.get("connector", 1)},
            UNLOCKED,
        ),
        {"outlet": OUTLET, "connector": CONNECTOR},
    ),
    "availability": Operation(
        "ChangeAvailability",
        "take an outlet or the charger into or out of service, when its session has ended",
        plain(
            "ChangeAvailability",
            lambda args: {"operationalStatus": args["state"].capitalize(), **_evse(args)},
            SCHEDULED,
        ),
        {"state": one_of("operative", "inoperative"), "outlet": OUTLET_OR_ALL, "connector": CONNECTOR},
        ("state",),
    ),
    "trigger": Operation(
        "TriggerMessage",
        "make it send a message now",
        plain("TriggerMessage", _trigger),
        {"message": TRIGGERS, "outlet": OUTLET_OR_ALL, "connector": CONNECTOR},
        ("message",),
    ),
    "get_variables": Operation(
        "GetVariables",
        "read variables of its device model",
        _get_variables,
        {"variables": {"type": "array", "items": VARIABLE, "minItems": 1, "maxItems": 200}},
        ("variables",),
    ),
    "set_variables": Operation(
        "SetVariables",
        "set variables of its device model",
        _set_variables,
        {"variables": {"type": "array", "items": VALUE, "minItems": 1, "maxItems": 200}},
        ("variables",),
    ),
    "get_base_report": Operation(
        "GetBaseReport",
        "read its device model",
        _reporting("GetBaseReport", "NotifyReport", lambda args: {"reportBase": args.get("base", "FullInventory")}),
        {"base": one_of("ConfigurationInventory", "FullInventory", "SummaryInventory")},
    ),
    "get_report": Operation(
        "GetReport",
        "read a part of its device model",
        _reporting("GetReport", "NotifyReport", _variables_of),
        {
            "variables": {"type": "array", "items": VARIABLE, "minItems": 1, "maxItems": 200},
            "criteria": {
                "type": "array",
                "items": one_of("Active", "Available", "Enabled", "Problem"),
                "minItems": 1,
                "maxItems": 4,
            },
        },
    ),
    "clear_cache": Operation("ClearCache", "clear its authorisation cache", plain("ClearCache", lambda _: {})),
    "set_charging_profile": Operation(
        "SetChargingProfile",
        f"install a charging profile, written as OCPP 2.0.1 has it; {OWN_PROFILE_IDS}",
        plain("SetChargingProfile", lambda args: {"evseId": args.get("outlet", 0), "chargingProfile": args["profile"]}),
        {"outlet": OUTLET_OR_ALL, "profile": {"type": "object"}},
        ("profile",),
    ),
    "clear_charging_profile": Operation(
        "ClearChargingProfile",
        "remove charging profiles; all where nothing is named (the safe one too, until the charger connects again)",
        plain("ClearChargingProfile", _clear_profile),
        {"id": NUMBER, "outlet": OUTLET_OR_ALL, "purpose": one_of(*PURPOSES), "stack_level": NUMBER},
    ),
    "get_charging_profiles": Operation(
        "GetChargingProfiles",
        "read its charging profiles",
        _reporting(
            "GetChargingProfiles", "ReportChargingProfiles", _wanted_profiles, frozenset({"Accepted", "NoProfiles"})
        ),
        {
            "outlet": OUTLET_OR_ALL,
            "purpose": one_of(*PURPOSES),
            "stack_level": NUMBER,
            "ids": {"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 100},
            "sources": {"type": "array", "items": one_of("EMS", "Other", "SO", "CSO"), "minItems": 1, "maxItems": 4},
        },
    ),
    "get_composite_schedule": Operation(
        "GetCompositeSchedule",
        "read which limits are in force, from now on",
        plain(
            "GetCompositeSchedule",
            lambda args: {
                "evseId": args.get("outlet", 0),
                "duration": args.get("duration_s", 3600),
                **given(args, unit="chargingRateUnit"),
            },
        ),
        {"outlet": OUTLET_OR_ALL, "duration_s": {**NUMBER, "maximum": 604800}, "unit": one_of("A", "W")},
    ),
    "send_local_list": Operation(
        "SendLocalList",
        "send its local list of id tags; in a differential one a tag without status is deleted",
        plain("SendLocalList", _local_list),
        {
            "version": {**NUMBER, "minimum": 1},
            "update": one_of("full", "differential"),
            "entries": {
                "type": "array",
                "maxItems": 1000,
                "items": {
                    "type": "object",
                    "required": ["id_tag"],
                    "additionalProperties": False,
                    "properties": {
                        "id_tag": ID_TAG,
                        "id_type": ID_TYPE,
                        "status": one_of("Accepted", "Blocked", "Expired", "Invalid", "ConcurrentTx"),
                        "until": TIME,
                        "parent": ID_TAG,
                    },
                },
            },
        },
        ("version", "update"),
    ),
    "get_local_list_version": Operation(
        "GetLocalListVersion",
        "read the version of its local list",
        plain("GetLocalListVersion", lambda _: {}, frozenset()),
    ),
    "reserve": Operation(
        "ReserveNow",
        "keep an outlet for an id tag",
        _reserve,
        {"id_tag": ID_TAG, "id_type": ID_TYPE, "until": TIME, "outlet": OUTLET_OR_ALL, "id": NUMBER},
        ("id_tag", "until"),
    ),
    "cancel_reservation": Operation(
        "CancelReservation",
        "end a reservation",
        plain("CancelReservation", lambda args: {"reservationId": args["id"]}),
        {"id": NUMBER},
        ("id",),
    ),
    "update_firmware": Operation(
        "UpdateFirmware",
        "make it fetch and install firmware",
        _update_firmware,
        {
            "location": URL,
            "retrieve_at": TIME,
            "install_at": TIME,
            "certificate": text(5500),
            "signature": text(800),
            **RETRIES,
        },
        ("location", "retrieve_at"),
    ),
    "get_log": Operation("GetLog", "make it upload a log", get_log, LOG_ARGS, ("location",)),
    "data_transfer": Operation(
        "DataTransfer",
        "send a vendor's own message",
        plain("DataTransfer", lambda args: given(args, vendor="vendorId", message="messageId", data="data")),
        {"vendor": text(255), "message": text(50), "data": {}},
        ("vendor",),
    ),
    "certificate_signed": Operation(
        "CertificateSigned",
        "give it the certificate that it asked for",
        plain("CertificateSigned", lambda args: given(args, chain="certificateChain", type="certificateType")),
        {"chain": text(10000), "type": one_of("ChargingStationCertificate", "V2GCertificate")},
        ("chain",),
    ),
    "install_certificate": Operation(
        "InstallCertificate",
        "install a root certificate",
        install_certificate,
        {"type": one_of(*ROOTS), "certificate": text(5500)},
        ("type", "certificate"),
    ),
    "delete_certificate": Operation(
        "DeleteCertificate",
        "delete a certificate",
        plain("DeleteCertificate", lambda args: {"certificateHashData": hash_data(args)}),
        HASH_ARGS,
        tuple(HASH_ARGS),
    ),
    "get_installed_certificates": Operation(
        "GetInstalledCertificateIds",
        "list its certificates",
        plain(
            "GetInstalledCertificateIds",
            lambda args: {"certificateType": [args["type"]]} if "type" in args else {},
            ACCEPTED | {"NotFound"},
        ),
        {"type": one_of(*ROOTS, "V2GCertificateChain")},
    ),
    "set_network_profile": Operation(
        "SetNetworkProfile",
        "write one of its network profiles; it is used when the configuration names its slot and it restarts",
        _network_profile,
        {
            "slot": NUMBER,
            "url": URL,
            "security_profile": {**NUMBER, "maximum": 3},
            "timeout_s": NUMBER,
            "interface": one_of(*(f"{kind}{n}" for kind in ("Wired", "Wireless") for n in range(4))),
            "apn": {"type": "object", "writeOnly": True},
            "vpn": {"type": "object", "writeOnly": True},
        },
        ("slot", "url", "security_profile"),
    ),
    "get_transaction_status": Operation(
        "GetTransactionStatus",
        "ask whether a transaction runs and whether messages about it are still to come",
        plain("GetTransactionStatus", lambda args: given(args, transaction="transactionId"), frozenset()),
        {"transaction": text(36)},
    ),
    "customer_information": Operation(
        "CustomerInformation",
        "read, or delete, what it knows of a customer",
        _customer_information,
        {
            "report": {"type": "boolean"},
            "clear": {"type": "boolean"},
            "id_tag": ID_TAG,
            "id_type": ID_TYPE,
            "identifier": text(64, writeOnly=True),
        },
    ),
    "cost_updated": Operation(
        "CostUpdated",
        "show the driver what the session costs by now",
        plain(
            "CostUpdated",
            lambda args: {"totalCost": args["total_cost"], "transactionId": args["transaction"]},
            frozenset(),
        ),
        {"total_cost": {"type": "number"}, "transaction": text(36)},
        ("total_cost", "transaction"),
    ),
}
