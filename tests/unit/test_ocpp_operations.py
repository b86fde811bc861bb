"""What chargers are told: every action of both versions makes a message that the standard's schema accepts."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, Refusal
from drivers.codec.ocpp_model import Version
from drivers.ocpp.operations import PART_S, Operations
from drivers.ocpp.ports import Call, Payload
from drivers.ocpp.quirks import Quirks
from tests.ocpp_asked import AskedLink, AskedState, accept

Args = Mapping[str, object]
TIME = "2026-01-31T12:00:00Z"
HASH = {"hash_algorithm": "SHA256", "issuer_name_hash": "a" * 128, "issuer_key_hash": "b", "serial": "9" * 40}
LOG: Args = {"location": "ftp://u:p@h/" + "x" * 400, "kind": "security", "since": TIME, "until": TIME, "retries": 0}
PROFILE_16 = {
    "chargingProfileId": 1,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Relative",
    "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.3}]},
}
PROFILE_201 = {
    "id": 1,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Relative",
    "chargingSchedule": [
        {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 4140}]}
    ],
}
#: Typical and extreme arguments of each action, and the message that it must send.
BOTH: list[tuple[str, Args, str, str]] = [
    ("start", {"id_tag": "A"}, "RemoteStartTransaction", "RequestStartTransaction"),
    ("start", {"id_tag": "A" * 20, "outlet": 2, "limit_a": 6.3}, "RemoteStartTransaction", "RequestStartTransaction"),
    ("start", {"id_tag": "A", "limit_a": 0}, "RemoteStartTransaction", "RequestStartTransaction"),
    ("stop", {}, "RemoteStopTransaction", "RequestStopTransaction"),
    ("stop", {"outlet": 1}, "RemoteStopTransaction", "RequestStopTransaction"),
    ("stop", {"transaction": "-1"}, "RemoteStopTransaction", "RequestStopTransaction"),
    ("reset", {}, "Reset", "Reset"),
    ("reset", {"kind": "hard"}, "Reset", "Reset"),
    ("unlock", {}, "UnlockConnector", "UnlockConnector"),
    ("unlock", {"outlet": 2}, "UnlockConnector", "UnlockConnector"),
    ("availability", {"state": "inoperative"}, "ChangeAvailability", "ChangeAvailability"),
    ("availability", {"state": "operative", "outlet": 2}, "ChangeAvailability", "ChangeAvailability"),
    ("trigger", {"message": "Heartbeat"}, "TriggerMessage", "TriggerMessage"),
    ("trigger", {"message": "StatusNotification", "outlet": 2}, "TriggerMessage", "TriggerMessage"),
    ("trigger", {"message": "LogStatusNotification"}, "ExtendedTriggerMessage", "TriggerMessage"),
    ("clear_cache", {}, "ClearCache", "ClearCache"),
    ("clear_charging_profile", {}, "ClearChargingProfile", "ClearChargingProfile"),
    (
        "clear_charging_profile",
        {"id": 7, "outlet": 0, "purpose": "TxDefaultProfile", "stack_level": 0},
        "ClearChargingProfile",
        "ClearChargingProfile",
    ),
    ("get_composite_schedule", {}, "GetCompositeSchedule", "GetCompositeSchedule"),
    (
        "get_composite_schedule",
        {"outlet": 2, "duration_s": 604800, "unit": "W"},
        "GetCompositeSchedule",
        "GetCompositeSchedule",
    ),
    ("send_local_list", {"version": 1, "update": "full"}, "SendLocalList", "SendLocalList"),
    (
        "send_local_list",
        {
            "version": 2147483647,
            "update": "differential",
            "entries": [{"id_tag": "A", "status": "Blocked", "until": TIME, "parent": "P"}, {"id_tag": "B"}],
        },
        "SendLocalList",
        "SendLocalList",
    ),
    ("get_local_list_version", {}, "GetLocalListVersion", "GetLocalListVersion"),
    ("reserve", {"id_tag": "A", "until": TIME}, "ReserveNow", "ReserveNow"),
    ("reserve", {"id_tag": "A", "until": TIME, "outlet": 2, "id": 0}, "ReserveNow", "ReserveNow"),
    ("cancel_reservation", {"id": 0}, "CancelReservation", "CancelReservation"),
    ("update_firmware", {"location": "http://h/f", "retrieve_at": TIME}, "UpdateFirmware", "UpdateFirmware"),
    (
        "update_firmware",
        {
            "location": "http://h/f",
            "retrieve_at": TIME,
            "install_at": TIME,
            "certificate": "c" * 5500,
            "signature": "s" * 800,
            "retries": 3,
            "retry_interval_s": 60,
        },
        "SignedUpdateFirmware",
        "UpdateFirmware",
    ),
    ("get_log", {"location": "ftp://h/"}, "GetLog", "GetLog"),
    ("get_log", LOG, "GetLog", "GetLog"),
    ("data_transfer", {"vendor": "v"}, "DataTransfer", "DataTransfer"),
    ("data_transfer", {"vendor": "v" * 255, "message": "m" * 50, "data": "d"}, "DataTransfer", "DataTransfer"),
    ("certificate_signed", {"chain": "c" * 10000}, "CertificateSigned", "CertificateSigned"),
    (
        "install_certificate",
        {"type": "ManufacturerRootCertificate", "certificate": "c" * 5500},
        "InstallCertificate",
        "InstallCertificate",
    ),
    ("delete_certificate", HASH, "DeleteCertificate", "DeleteCertificate"),
    (
        "get_installed_certificates",
        {"type": "ManufacturerRootCertificate"},
        "GetInstalledCertificateIds",
        "GetInstalledCertificateIds",
    ),
    ("raw", {"message": "ClearCache"}, "ClearCache", "ClearCache"),
]
ONLY_16: list[tuple[str, Args, str]] = [
    ("get_configuration", {}, "GetConfiguration"),
    ("get_configuration", {"keys": ["k" * 50] * 25}, "GetConfiguration"),
    ("set_configuration", {"key": "k" * 50, "value": "v" * 500}, "ChangeConfiguration"),
    ("set_configuration", {"key": "HeartbeatInterval", "value": ""}, "ChangeConfiguration"),
    ("set_charging_profile", {"outlet": 1, "profile": PROFILE_16}, "SetChargingProfile"),
    ("get_diagnostics", {"location": "ftp://h/"}, "GetDiagnostics"),
    (
        "get_diagnostics",
        {"location": "ftp://h/", "since": TIME, "until": TIME, "retries": 1, "retry_interval_s": 1},
        "GetDiagnostics",
    ),
    ("trigger", {"message": "Heartbeat", "extended": True}, "ExtendedTriggerMessage"),
]
ONLY_201: list[tuple[str, Args, str]] = [
    ("start", {"id_tag": "A" * 36, "id_type": "ISO14443"}, "RequestStartTransaction"),
    ("reset", {"kind": "on_idle", "outlet": 1}, "Reset"),
    ("get_variables", {"variables": ["ClockCtrlr.DateTime"]}, "GetVariables"),
    (
        "get_variables",
        {
            "variables": [
                {"component": "EVSE", "evse": 1, "connector": 1, "component_instance": "x", "variable": "Power"},
                {"component": "C", "variable": "V", "instance": "i", "attribute": "MaxSet"},
            ]
        },
        "GetVariables",
    ),
    ("set_variables", {"variables": [{"component": "C", "variable": "V", "value": "1" * 1000}]}, "SetVariables"),
    ("set_charging_profile", {"profile": PROFILE_201}, "SetChargingProfile"),
    ("customer_information", {"report": False, "clear": True, "identifier": "x" * 64}, "CustomerInformation"),
    ("customer_information", {"report": False, "id_tag": "A"}, "CustomerInformation"),
    ("cost_updated", {"total_cost": 1.25, "transaction": "t"}, "CostUpdated"),
    ("get_transaction_status", {}, "GetTransactionStatus"),
    ("get_transaction_status", {"transaction": "t" * 36}, "GetTransactionStatus"),
    (
        "set_network_profile",
        {"slot": 1, "url": "wss://h/ocpp", "security_profile": 3, "timeout_s": 30, "interface": "Wireless0"},
        "SetNetworkProfile",
    ),
    (
        "set_network_profile",
        {
            "slot": 1,
            "url": "wss://h/ocpp",
            "security_profile": 2,
            "apn": {"apn": "a", "apnAuthentication": "AUTO"},
            "vpn": {"server": "s", "user": "u", "password": "p", "key": "k", "type": "IKEv2"},
        },
        "SetNetworkProfile",
    ),
    ("certificate_signed", {"chain": "c", "type": "V2GCertificate"}, "CertificateSigned"),
    ("get_installed_certificates", {}, "GetInstalledCertificateIds"),
    ("data_transfer", {"vendor": "v", "data": {"any": ["thing"]}}, "DataTransfer"),
]
#: What comes in parts: action, arguments, message, message of the parts, a part.
REPORTS: list[tuple[str, Args, str, str, Payload]] = [
    ("get_base_report", {}, "GetBaseReport", "NotifyReport", {"reportData": [{"n": 1}]}),
    ("get_report", {"variables": ["A.B"], "criteria": ["Problem"]}, "GetReport", "NotifyReport", {"reportData": [1]}),
    (
        "get_charging_profiles",
        {"outlet": 1, "purpose": "TxProfile", "stack_level": 1, "ids": [1], "sources": ["CSO"]},
        "GetChargingProfiles",
        "ReportChargingProfiles",
        {"evseId": 1, "chargingLimitSource": "CSO", "chargingProfile": [{"id": 1}]},
    ),
    ("customer_information", {"identifier": "x"}, "CustomerInformation", "NotifyCustomerInformation", {"data": "x"}),
]
CASES = [
    *((Version.V16, action, args, message) for action, args, message, _ in BOTH),
    *((Version.V201, action, args, message) for action, args, _, message in BOTH),
    *((Version.V21, action, args, message) for action, args, _, message in BOTH),
    *((Version.V16, *case) for case in ONLY_16),
    *((Version.V201, *case) for case in ONLY_201),
]


def _charger(version: Version) -> tuple[AskedLink, AskedState, Operations]:
    link = AskedLink(version)
    state = AskedState(link, outlets=2)
    state.transactions[1] = "17"
    return link, state, Operations(state, FakeClock())


@pytest.mark.parametrize(("version", "action", "args", "message"), CASES)
def test_an_action_is_a_message_that_the_schema_accepts(
    version: Version, action: str, args: Args, message: str
) -> None:
    link, _, operations = _charger(version)
    asyncio.run(operations.act(action, args))
    assert link.asked[-1][0] == message


@pytest.mark.parametrize("version", list(Version))
def test_every_action_is_tried_above(version: Version) -> None:
    tried = {action for known, action, _, _ in CASES if known.two == version.two}
    tried |= {action for action, *_ in REPORTS} if version.two else set()
    assert tried == set(_charger(version)[2].actions)


@pytest.mark.parametrize(("action", "args", "message", "parts", "part"), REPORTS)
def test_what_comes_in_parts_is_collected(action: str, args: Args, message: str, parts: str, part: Payload) -> None:
    async def run() -> None:
        link, _, operations = _charger(Version.V201)
        task = asyncio.create_task(operations.act(action, args))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        number = link.sent(message)[0]["requestId"]
        for seq, more in enumerate((True, True, False)):
            payload = {**part, "requestId": number, "seqNo": seq, "tbc": more}
            operations.reported(Call("1", parts, payload))
            operations.reported(Call("1", parts, payload | {"requestId": 1}))  # of another question
        answer = await task
        assert answer["complete"] is True
        items = answer["items"]
        assert items == "xxx" if parts == "NotifyCustomerInformation" else isinstance(items, list) and len(items) == 3

    asyncio.run(run())


def test_a_report_whose_end_never_comes_is_given_as_far_as_it_came() -> None:
    async def run() -> None:
        clock = FakeClock()
        link = AskedLink(Version.V201)
        operations = Operations(AskedState(link), clock)
        task = asyncio.create_task(operations.act("get_base_report", {}))
        for _ in range(50):
            await asyncio.sleep(0)
        number = link.sent("GetBaseReport")[0]["requestId"]
        operations.reported(Call("1", "NotifyReport", {"requestId": number, "seqNo": 1, "reportData": [2]}))
        operations.reported(Call("1", "NotifyReport", {"requestId": number, "seqNo": -1, "reportData": [3]}))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not task.done()
        clock.advance(PART_S)
        answer = await task
        assert (answer["items"], answer["complete"]) == ([2], False)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("version", "action", "args"),
    [
        (Version.V16, "start", {}),
        (Version.V16, "start", {"id_tag": "A" * 21}),
        (Version.V16, "start", {"id_tag": ""}),
        (Version.V16, "start", {"id_tag": "A", "outlet": 3}),
        (Version.V16, "start", {"id_tag": "A", "limit_a": 5}),
        (Version.V16, "start", {"id_tag": "A", "limit_a": 33}),
        (Version.V16, "start", {"id_tag": "A", "colour": "red"}),
        (Version.V16, "stop", {"transaction": "abc"}),
        (Version.V16, "reset", {"kind": "on_idle"}),
        (Version.V16, "reserve", {"id_tag": "A", "until": "tomorrow"}),
        (Version.V16, "set_charging_profile", {"profile": PROFILE_16 | {"chargingProfileId": 4201}}),
        (Version.V16, "set_charging_profile", {"profile": {"anything": "goes"}}),
        (Version.V16, "raw", {"message": "NoSuchMessage"}),
        (Version.V16, "raw", {"message": "Reset", "payload": {"type": "Gently"}}),
        (Version.V201, "raw", {"message": "Reset", "payload": {"type": "Soft"}}),
        (Version.V201, "get_variables", {"variables": []}),
        (Version.V201, "get_variables", {"variables": ["NoVariable"]}),
        (Version.V201, "set_network_profile", {"slot": 1, "url": "x", "security_profile": 4}),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(version: Version, action: str, args: Args) -> None:
    link, _, operations = _charger(version)
    with pytest.raises(CommandRejected) as caught:
        asyncio.run(operations.act(action, args))
    assert caught.value.refusal is Refusal.OUT_OF_RANGE
    assert not link.asked


@pytest.mark.parametrize(
    ("action", "args", "status", "refusal"),
    [
        ("start", {"id_tag": "A"}, "Rejected", Refusal.DEVICE_REFUSED),
        ("unlock", {}, "UnlockFailed", Refusal.DEVICE_REFUSED),
        ("unlock", {}, "NotSupported", Refusal.NOT_CAPABLE),
        ("trigger", {"message": "Heartbeat"}, "NotImplemented", Refusal.NOT_CAPABLE),
        ("data_transfer", {"vendor": "v"}, "UnknownVendorId", Refusal.NOT_CAPABLE),
        ("reserve", {"id_tag": "A", "until": TIME}, "Occupied", Refusal.DEVICE_REFUSED),
        ("set_configuration", {"key": "K", "value": "v"}, "NotSupported", Refusal.NOT_CAPABLE),
    ],
)
def test_an_answer_that_says_no_is_a_refusal(action: str, args: Args, status: str, refusal: Refusal) -> None:
    link, _, operations = _charger(Version.V16)
    link.answer = lambda *_: {"status": status}
    with pytest.raises(CommandRejected, match=status) as caught:
        asyncio.run(operations.act(action, args))
    assert caught.value.refusal is refusal


@pytest.mark.parametrize(
    ("action", "args", "status"),
    [
        ("availability", {"state": "operative"}, "Scheduled"),
        ("set_configuration", {"key": "K", "value": "v"}, "RebootRequired"),
        ("get_log", {"location": "ftp://h"}, "AcceptedCanceled"),
        ("get_installed_certificates", {"type": "ManufacturerRootCertificate"}, "NotFound"),
    ],
)
def test_an_answer_that_says_yes_in_other_words_is_fine(action: str, args: Args, status: str) -> None:
    link, _, operations = _charger(Version.V16)
    link.answer = lambda *_: {"status": status}
    assert asyncio.run(operations.act(action, args)) == {"status": status}


@pytest.mark.parametrize(
    ("version", "action", "args"),
    [
        (Version.V16, "set_configuration", {"key": "authorizationKey", "value": "hunter2hunter2"}),
        (
            Version.V201,
            "set_variables",
            {"variables": [{"component": "SecurityCtrlr", "variable": "BasicAuthPassword", "value": "hunter2hunter2"}]},
        ),
        (
            Version.V16,
            "raw",
            {"message": "ChangeConfiguration", "payload": {"key": "AuthorizationKey", "value": "hunter2hunter2"}},
        ),
        (Version.V16, "start", {"id_tag": "hunter2hunter2hunter2"}),
        (Version.V16, "raw", {"message": "GetDiagnostics", "payload": {"location": ["ftp://u:hunter2@h"]}}),
    ],
)
def test_secrets_stand_in_no_error(version: Version, action: str, args: Args) -> None:
    link, state, operations = _charger(version)
    with pytest.raises(CommandRejected) as caught:
        asyncio.run(operations.act(action, args))
    assert "hunter2" not in str(caught.value)
    assert not state.told
    assert not link.asked


def test_secrets_in_answers_are_hidden() -> None:
    link, _, operations = _charger(Version.V16)
    rows = [{"key": "AuthorizationKey", "readonly": False, "value": "hunter2"}, {"key": "Other", "value": "plain"}]
    link.answer = lambda *_: {"configurationKey": rows}
    answer = asyncio.run(operations.act("get_configuration", {}))
    assert "hunter2" not in str(answer)
    assert "plain" in str(answer)
    variable = {"component": {"name": "S"}, "variable": {"name": "BasicAuthPassword"}, "attributeStatus": "Accepted"}
    link.version = Version.V201
    link.answer = lambda *_: {"getVariableResult": [variable | {"attributeValue": "hunter2"}]}
    answer = asyncio.run(operations.act("get_variables", {"variables": ["S.BasicAuthPassword"]}))
    assert "hunter2" not in str(answer)


@pytest.mark.parametrize("version", [Version.V16, Version.V201])
def test_the_password_is_given_as_the_version_wants_it(version: Version) -> None:
    link, _, operations = _charger(version)
    asyncio.run(operations.set_password(b"0123456789abcdef"))
    assert ("30313233343536373839616263646566" in str(link.asked)) is (version is Version.V16)
    assert ("0123456789abcdef" in str(link.asked)) is version.two
    status = "Rejected"
    link.answer = lambda *_: {"status": status, "setVariableResult": [{"attributeStatus": status}]}
    with pytest.raises(CommandRejected):
        asyncio.run(operations.set_password(b"0123456789abcdef"))


def test_many_variables_go_in_as_many_messages_as_the_charger_needs() -> None:
    link, _, operations = _charger(Version.V201)
    names = [f"C.V{number}" for number in range(8)]
    asyncio.run(operations.act("get_variables", {"variables": names}))  # ``accept`` says that 3 fit
    sizes = [
        len(rows) for payload in link.sent("GetVariables")[1:] if isinstance(rows := payload["getVariableData"], list)
    ]
    assert sizes == [3, 3, 2]
    asyncio.run(operations.act("get_variables", {"variables": names[:2]}))
    assert len(link.sent("GetVariables")) == 5  # the limit is asked for once


def test_a_variable_that_can_not_be_set_is_named_without_its_value() -> None:
    link, _, operations = _charger(Version.V201)

    def answer(action: str, payload: Payload) -> Payload:
        rows = accept(action, payload)
        if action == "SetVariables":
            results = rows["setVariableResult"]
            assert isinstance(results, list)
            results[-1]["attributeStatus"] = "Rejected"
        return rows

    link.answer = answer
    values = [{"component": "C", "variable": name, "value": "hunter2"} for name in ("One", "Two")]
    with pytest.raises(CommandRejected, match=r"Rejected to C\.Two") as caught:
        asyncio.run(operations.act("set_variables", {"variables": values}))
    assert "hunter2" not in str(caught.value)


def test_a_message_that_the_model_must_not_be_sent_is_no_action_of_it() -> None:
    link = AskedLink()
    operations = Operations(AskedState(link, Quirks(skip=("ChangeAvailability", "TriggerMessage"))), FakeClock())
    assert not {"availability", "trigger"} & set(operations.actions)
    for action, args in (
        ("availability", {"state": "operative"}),
        ("raw", {"message": "ChangeAvailability", "payload": {"connectorId": 0, "type": "Operative"}}),
    ):
        with pytest.raises(CommandRejected) as caught:
            asyncio.run(operations.act(action, args))
        assert caught.value.refusal is Refusal.NOT_CAPABLE
    assert not link.asked


def test_a_charger_that_refuses_connector_0_is_asked_for_each() -> None:
    link, _, operations = _charger(Version.V16)
    link.answer = lambda _, payload: {"status": "Rejected" if payload["connectorId"] == 0 else "Accepted"}
    asyncio.run(operations.act("availability", {"state": "inoperative"}))
    assert [payload["connectorId"] for payload in link.sent("ChangeAvailability")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("version", "place"),
    [(Version.V16, "connectorId"), (Version.V201, "evseId")],
    ids=str,
)
def test_the_only_outlet_is_meant_where_none_is_named(version: Version, place: str) -> None:
    for outlets, named in ((1, 1), (2, 0)):
        link = AskedLink(version)
        operations = Operations(AskedState(link, outlets=outlets), FakeClock())
        asyncio.run(operations.act("start", {"id_tag": "A"}))
        asyncio.run(operations.act("reserve", {"id_tag": "A", "until": TIME}))
        asyncio.run(operations.act("reserve", {"id_tag": "A", "until": TIME, "outlet": 0}))
        assert [payload.get(place, 0) for _, payload in link.asked] == [named] * 3


def test_a_reservation_is_for_a_card_unless_it_says_otherwise() -> None:
    link, _, operations = _charger(Version.V201)
    reserve: Args = {"id_tag": "A", "until": TIME}
    asyncio.run(operations.act("reserve", reserve))
    asyncio.run(operations.act("reserve", {**reserve, "id_type": "KeyCode"}))
    asyncio.run(operations.act("start", {"id_tag": "A"}))
    kinds = [payload["idToken"]["type"] for _, payload in link.asked]  # type: ignore[index]
    assert kinds == ["ISO14443", "KeyCode", "Central"]


def test_which_session_is_meant_must_be_clear() -> None:
    link, state, operations = _charger(Version.V16)
    state.transactions[2] = "18"
    with pytest.raises(CommandRejected, match="several"):
        asyncio.run(operations.act("stop", {}))
    state.transactions.clear()
    with pytest.raises(CommandRejected, match="no transaction"):
        asyncio.run(operations.act("stop", {}))
    assert not link.asked


def test_what_it_can_do_is_known_while_it_is_away() -> None:
    _, state, operations = _charger(Version.V201)
    there = set(operations.actions)
    state.connection = None
    assert set(operations.actions) == there


@pytest.mark.parametrize(
    ("port", "own", "asked", "done"),
    [
        (2, None, 1, False),
        (3, None, 2, False),
        (2, None, 2, True),
        (2, None, 3, True),
        (1, 0, 0, True),
        (1, 1, 0, False),
    ],
)
@pytest.mark.parametrize("version", [Version.V16, Version.V201])
def test_a00_fr_005_the_security_profile_is_never_lowered(
    version: Version, port: int, own: int | None, asked: int, *, done: bool
) -> None:
    link = AskedLink(version)
    state = AskedState(link, security_profile=own)
    state.central = replace(state.central, endpoint=replace(state.central.endpoint, profile=port))
    operations = Operations(state, FakeClock())
    if version.two:
        args: Args = {"slot": 1, "url": "wss://h/ocpp", "security_profile": asked}
        work = operations.act("set_network_profile", args)
    else:
        work = operations.act("set_configuration", {"key": "SecurityProfile", "value": str(asked)})
    if done:
        asyncio.run(work)
        assert len(link.asked) == 1
    else:
        with pytest.raises(CommandRejected, match="never lowered"):
            asyncio.run(work)
        assert not link.asked


def test_an_expert_may_lower_the_security_profile_by_a_message_of_his_own() -> None:
    link, _, operations = _charger(Version.V16)
    payload = {"key": "SecurityProfile", "value": "0"}
    asyncio.run(operations.act("raw", {"message": "ChangeConfiguration", "payload": payload}))
    assert link.asked == [("ChangeConfiguration", payload)]
