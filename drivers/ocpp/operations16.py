"""What a charger on OCPP 1.6 can be told: edition 2, section 5, and the security extension (edition 3).

Arguments are held against each operation's schema before; names are the same as for 2.0.1 wherever both have it.
"""

from collections.abc import Mapping

from agent.core.errors import CommandRejected, Refusal
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

ID_TAG = id_tag(20)
BASIC_TRIGGERS = (
    "BootNotification",
    "DiagnosticsStatusNotification",
    "FirmwareStatusNotification",
    "Heartbeat",
    "MeterValues",
    "StatusNotification",
)
#: Only the extended message has these (security extension).
EXTENDED_TRIGGERS = ("LogStatusNotification", "SignChargePointCertificate")
CONFIGURED = frozenset({"Accepted", "RebootRequired"})
#: Some chargers spell it as other answers are spelt (lbbrhzn/ocpp 1619).
UNLOCKED = frozenset({"Unlocked", "Accepted"})
SCHEDULED = frozenset({"Accepted", "Scheduled"})
STARTED = frozenset({"Accepted", "AcceptedCanceled"})
ROOTS = one_of("CentralSystemRootCertificate", "ManufacturerRootCertificate")
#: More keys are asked for in several messages: GetConfigurationMaxKeys is seldom told and never below this.
KEYS_PER_MESSAGE = 10


async def _start(asker: Asker, args: Args) -> Payload:
    payload: dict[str, object] = {"idTag": args["id_tag"], **given(args, outlet="connectorId")}
    if "limit_a" in args:
        payload["chargingProfile"] = asker.session_profile(args)
    return await asker.call("RemoteStartTransaction", payload)


async def _stop(asker: Asker, args: Args) -> Payload:
    transaction = running(asker, args)
    if not transaction.lstrip("-").isdecimal():
        raise CommandRejected("stop", Refusal.OUT_OF_RANGE, "a transaction of OCPP 1.6 is a number")
    return await asker.call("RemoteStopTransaction", {"transactionId": int(transaction)})


def running(asker: Asker, args: Args) -> str:
    """The transaction that is meant: named, the outlet's, or the only one. Raises ``CommandRejected``."""
    if "transaction" in args:
        return str(args["transaction"])
    outlets = [args["outlet"]] if "outlet" in args else range(1, asker.state.settings.outlets + 1)
    found = [one for one in map(asker.state.transaction, outlets) if one is not None]
    if not found:
        raise CommandRejected("stop", Refusal.DEVICE_REFUSED, "no transaction is running there")
    if len(found) > 1:
        raise CommandRejected("stop", Refusal.OUT_OF_RANGE, "several transactions are running", "name the outlet")
    return found[0]


async def _availability(asker: Asker, args: Args) -> Payload:
    """The whole charger is connector 0; a charger that refuses that is asked for each outlet (lbbrhzn/ocpp 1736)."""
    kind = args["state"].capitalize()
    outlet = args.get("outlet", 0)
    each = range(1, asker.state.settings.outlets + 1)
    if outlet == 0 and asker.state.quirks.availability_outlet == "0":
        answer = await asker.call("ChangeAvailability", {"connectorId": 0, "type": kind}, frozenset())
        if answer.get("status") in SCHEDULED:
            return answer
    elif outlet:
        each = range(outlet, outlet + 1)
    answer = {}
    for one in each:
        answer = await asker.call("ChangeAvailability", {"connectorId": one, "type": kind}, SCHEDULED)
    return answer


async def _trigger(asker: Asker, args: Args) -> Payload:
    outlet = 0 if asker.state.quirks.trigger_outlet == "0" and "outlet" in args else args.get("outlet")
    payload: dict[str, object] = {"requestedMessage": args["message"]}
    if outlet is not None:
        payload["connectorId"] = outlet
    extended = args.get("extended", False) or args["message"] in EXTENDED_TRIGGERS
    return await asker.call("ExtendedTriggerMessage" if extended else "TriggerMessage", payload)


async def _get_configuration(asker: Asker, args: Args) -> Payload:
    keys = args.get("keys", [])
    if not keys:
        return await asker.call("GetConfiguration", {})
    known: list[object] = []
    unknown: list[object] = []
    for first in range(0, len(keys), KEYS_PER_MESSAGE):
        answer = await asker.call("GetConfiguration", {"key": keys[first : first + KEYS_PER_MESSAGE]})
        known.extend(_list(answer, "configurationKey"))
        unknown.extend(_list(answer, "unknownKey"))
    return {"configurationKey": known, "unknownKey": unknown}


async def _set_configuration(asker: Asker, args: Args) -> Payload:
    refuse_own_password("set_configuration", args["key"])
    if args["key"].lower() == "securityprofile":
        refuse_downgrade("set_configuration", asker.state, args["value"].strip())
    return await asker.call("ChangeConfiguration", {"key": args["key"], "value": args["value"]}, CONFIGURED)


def _list(answer: Payload, key: str) -> list[object]:
    value = answer.get(key)
    return value if isinstance(value, list) else []


def _local_list(args: Args) -> Payload:
    entries = [_entry(one, full=args["update"] == "full") for one in args.get("entries", [])]
    payload = {"listVersion": args["version"], "updateType": args["update"].capitalize()}
    return {**payload, "localAuthorizationList": entries} if entries else payload


def _entry(one: Mapping[str, object], *, full: bool) -> Payload:
    """A tag of a differential update that has no status is to be deleted (5.15)."""
    if "status" not in one and not full:
        return {"idTag": one["id_tag"]}
    info = {"status": one.get("status", "Accepted"), **given(one, until="expiryDate", parent="parentIdTag")}
    return {"idTag": one["id_tag"], "idTagInfo": info}


def _reserve(asker: Asker, args: Args) -> Payload:
    return {
        "connectorId": args.get("outlet", 0),
        "expiryDate": args["until"],
        "idTag": args["id_tag"],
        "reservationId": args.get("id", asker.number()),
    }


async def _do_reserve(asker: Asker, args: Args) -> Payload:
    payload = _reserve(asker, args)
    return {**await asker.call("ReserveNow", payload), "reservationId": payload["reservationId"]}


async def _update_firmware(asker: Asker, args: Args) -> Payload:
    retries = given(args, retries="retries", retry_interval_s="retryInterval")
    if "signature" not in args:
        payload = {"location": args["location"], "retrieveDate": args["retrieve_at"], **retries}
        return await asker.call("UpdateFirmware", payload, frozenset())
    firmware = {
        "location": args["location"],
        "retrieveDateTime": args["retrieve_at"],
        "signingCertificate": args.get("certificate", ""),
        "signature": args["signature"],
        **given(args, install_at="installDateTime"),
    }
    payload = {"requestId": asker.number(), "firmware": firmware, **retries}
    return await asker.call("SignedUpdateFirmware", payload, STARTED)


async def get_log(asker: Asker, args: Args) -> Payload:
    """GetLog, which 1.6 with its security extension and 2.0.1 have alike."""
    log = {"remoteLocation": args["location"], **given(args, since="oldestTimestamp", until="latestTimestamp")}
    payload = {
        "log": log,
        "logType": "SecurityLog" if args.get("kind") == "security" else "DiagnosticsLog",
        "requestId": asker.number(),
        **given(args, retries="retries", retry_interval_s="retryInterval"),
    }
    return await asker.call("GetLog", payload, STARTED)


async def install_certificate(asker: Asker, args: Args) -> Payload:
    """InstallCertificate, alike in both versions but for the types."""
    payload = {"certificateType": args["type"], "certificate": args["certificate"]}
    return await asker.call("InstallCertificate", payload)


def hash_data(args: Args) -> Payload:
    """CertificateHashData, alike in both versions."""
    return {
        "hashAlgorithm": args["hash_algorithm"],
        "issuerNameHash": args["issuer_name_hash"],
        "issuerKeyHash": args["issuer_key_hash"],
        "serialNumber": args["serial"],
    }


HASH_ARGS: Mapping[str, object] = {
    "hash_algorithm": one_of("SHA256", "SHA384", "SHA512"),
    "issuer_name_hash": text(128),
    "issuer_key_hash": text(128),
    "serial": text(40),
}
LOG_ARGS: Mapping[str, object] = {
    "location": URL,
    "kind": one_of("diagnostics", "security"),
    "since": TIME,
    "until": TIME,
    **RETRIES,
}
OWN_PROFILE_IDS = "ids 4100 to 4499 are the gateway's own"

OPERATIONS: Mapping[str, Operation] = {
    "start": Operation(
        "RemoteStartTransaction",
        "start a session; limit_a holds for that session",
        _start,
        {"id_tag": ID_TAG, "outlet": OUTLET, "limit_a": {"type": "number", "minimum": 0, "maximum": 1000}},
        ("id_tag",),
    ),
    "stop": Operation(
        "RemoteStopTransaction",
        "end a session: of an outlet, or by its transaction; the only one where neither is named",
        _stop,
        {"outlet": OUTLET, "transaction": text(36)},
    ),
    "reset": Operation(
        "Reset",
        "restart: soft ends sessions first, hard does not wait",
        plain("Reset", lambda args: {"type": args.get("kind", "soft").capitalize()}),
        {"kind": one_of("soft", "hard")},
    ),
    "unlock": Operation(
        "UnlockConnector",
        "unlock the plug",
        plain("UnlockConnector", lambda args: {"connectorId": args.get("outlet", 1)}, UNLOCKED),
        {"outlet": OUTLET},
    ),
    "availability": Operation(
        "ChangeAvailability",
        "take an outlet or the charger into or out of service, when its session has ended",
        _availability,
        {"state": one_of("operative", "inoperative"), "outlet": OUTLET_OR_ALL},
        ("state",),
    ),
    "trigger": Operation(
        "TriggerMessage",
        "make it send a message now",
        _trigger,
        {
            "message": one_of(*BASIC_TRIGGERS, *EXTENDED_TRIGGERS),
            "outlet": OUTLET_OR_ALL,
            "extended": {"type": "boolean", "description": "by ExtendedTriggerMessage"},
        },
        ("message",),
    ),
    "get_configuration": Operation(
        "GetConfiguration",
        "read configuration keys; all of them where none is named",
        _get_configuration,
        {"keys": {"type": "array", "items": text(50), "maxItems": 200}},
    ),
    "set_configuration": Operation(
        "ChangeConfiguration",
        "set a configuration key",
        _set_configuration,
        {"key": text(50), "value": {"type": "string", "maxLength": 500}},
        ("key", "value"),
    ),
    "clear_cache": Operation("ClearCache", "clear its authorisation cache", plain("ClearCache", lambda _: {})),
    "set_charging_profile": Operation(
        "SetChargingProfile",
        f"install a charging profile, written as OCPP 1.6 has it; {OWN_PROFILE_IDS}",
        plain(
            "SetChargingProfile",
            lambda args: {"connectorId": args.get("outlet", 0), "csChargingProfiles": args["profile"]},
        ),
        {"outlet": OUTLET_OR_ALL, "profile": {"type": "object"}},
        ("profile",),
    ),
    "clear_charging_profile": Operation(
        "ClearChargingProfile",
        "remove charging profiles; all where nothing is named (the safe one too, until the charger connects again)",
        plain(
            "ClearChargingProfile",
            lambda args: given(
                args, id="id", outlet="connectorId", purpose="chargingProfilePurpose", stack_level="stackLevel"
            ),
        ),
        {
            "id": NUMBER,
            "outlet": OUTLET_OR_ALL,
            "purpose": one_of("ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"),
            "stack_level": NUMBER,
        },
    ),
    "get_composite_schedule": Operation(
        "GetCompositeSchedule",
        "read which limits are in force, from now on",
        plain(
            "GetCompositeSchedule",
            lambda args: {
                "connectorId": args.get("outlet", 0),
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
        _do_reserve,
        {"id_tag": ID_TAG, "until": TIME, "outlet": OUTLET_OR_ALL, "id": NUMBER},
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
        "make it fetch and install firmware; with a signature by SignedUpdateFirmware",
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
    "get_diagnostics": Operation(
        "GetDiagnostics",
        "make it upload its diagnostics",
        plain(
            "GetDiagnostics",
            lambda args: given(
                args,
                location="location",
                since="startTime",
                until="stopTime",
                retries="retries",
                retry_interval_s="retryInterval",
            ),
            frozenset(),
        ),
        {"location": URL, "since": TIME, "until": TIME, **RETRIES},
        ("location",),
    ),
    "get_log": Operation("GetLog", "make it upload a log (security extension)", get_log, LOG_ARGS, ("location",)),
    "data_transfer": Operation(
        "DataTransfer",
        "send a vendor's own message",
        plain("DataTransfer", lambda args: given(args, vendor="vendorId", message="messageId", data="data")),
        {"vendor": text(255), "message": text(50), "data": {"type": "string", "maxLength": 100_000}},
        ("vendor",),
    ),
    "certificate_signed": Operation(
        "CertificateSigned",
        "give it the certificate that it asked for (security extension)",
        plain("CertificateSigned", lambda args: {"certificateChain": args["chain"]}),
        {"chain": text(10000)},
        ("chain",),
    ),
    "install_certificate": Operation(
        "InstallCertificate",
        "install a root certificate (security extension)",
        install_certificate,
        {"type": ROOTS, "certificate": text(5500)},
        ("type", "certificate"),
    ),
    "delete_certificate": Operation(
        "DeleteCertificate",
        "delete a certificate (security extension)",
        plain("DeleteCertificate", lambda args: {"certificateHashData": hash_data(args)}),
        HASH_ARGS,
        tuple(HASH_ARGS),
    ),
    "get_installed_certificates": Operation(
        "GetInstalledCertificateIds",
        "list its root certificates (security extension)",
        plain(
            "GetInstalledCertificateIds",
            lambda args: {"certificateType": args["type"]},
            ACCEPTED | {"NotFound"},
        ),
        {"type": ROOTS},
        ("type",),
    ),
}
