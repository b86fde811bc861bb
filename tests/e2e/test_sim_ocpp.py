"""The simulated OCPP charger against a central system on the ``ocpp`` package: both versions, schemas held."""

import asyncio
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.core.clock import FakeClock
from drivers.sim import charger_ocpp_told as told
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import Quirk, SimSettings
from tests.e2e.ocpp_csms import Csms, Untyped, flow, pass_s

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = pytest.mark.parametrize("version", ["1.6", "2.0.1"])


@pytest.fixture(autouse=True)
def in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocpp.messages.ASYNC_VALIDATION", False)
    logging.getLogger("ocpp").setLevel(logging.CRITICAL)


def settings(csms: Csms, version: str = "1.6", **more: Untyped) -> SimSettings:
    return SimSettings(csms.url(), version, pace=0, **more)


def run(scene: Callable[[Csms, FakeClock], Awaitable[None]], csms: Csms | None = None) -> None:
    async def main() -> None:
        async with csms or Csms() as open_csms:
            await scene(open_csms, FakeClock())
            assert open_csms.errors == []

    asyncio.run(main())


def registers(csms: Csms, version: str) -> list[tuple[int, int]]:
    """(first, last) register of each ended transaction, as the central system heard it."""
    if version == "1.6":
        starts = [one["meter_start"] for one in csms.payloads("StartTransaction")]
        stops = {one["transaction_id"]: one["meter_stop"] for one in csms.payloads("StopTransaction")}
        return [(start, stops[number]) for number, start in enumerate(starts, 1) if number in stops]
    first, last = {}, {}
    for event in csms.payloads("TransactionEvent"):
        number = event["transaction_info"]["transaction_id"]
        if event["event_type"] == "Started":
            first[number] = event["meter_value"][0]["sampled_value"][0]["value"]
        elif event["event_type"] == "Ended":
            last[number] = event["meter_value"][0]["sampled_value"][0]["value"]
    return [(first[number], last[number]) for number in first if number in last]


def reported(charger: SimulatedCharger) -> list[tuple[int, int]]:
    return [(session.start_wh, session.stop_wh) for session in charger.sessions]


@VERSIONS
def test_a_session_from_plugging_in_to_unplugging(version: str) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version, tag="TAG1"), clock) as charger:
            charger.set_key("MeterValueSampleInterval", "10")
            await flow(clock, lambda: charger.online)
            charger.plug_in(wants_a=16)
            await flow(clock, lambda: charger.outlets[0].status == "Charging")
            await pass_s(clock, 600)
            charger.unplug()
            await flow(clock, lambda: bool(registers(csms, version)))
            assert registers(csms, version) == reported(charger)
            energy_wh = charger.sessions[0].energy_wh
            assert energy_wh == pytest.approx(3 * 230 * 16 / 6, rel=0.03)
            assert charger.sessions[0].reason == "EVDisconnected"
            action = "MeterValues" if version == "1.6" else "TransactionEvent"
            samples = [one for one in csms.payloads(action) if one.get("trigger_reason") != "ChargingStateChanged"]
            assert 59 <= len(samples) <= 63
            assert csms.payloads("Authorize")
            await flow(clock, lambda: csms.said[-1].action == "StatusNotification")
            assert charger.violations == []

    run(scene)


@VERSIONS
def test_it_waits_as_long_as_it_is_told_before_it_boots_again(version: str) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version), clock) as charger:
            await flow(clock, lambda: charger.registered == "Rejected")
            begun_s = clock.monotonic_s()
            await flow(clock, lambda: charger.registered == "Pending")
            assert clock.monotonic_s() - begun_s >= 30
            assert {one.action for one in csms.said} == {"BootNotification"}
            await flow(clock, lambda: charger.online)
            await flow(clock, lambda: bool(csms.payloads("Heartbeat")))
            assert len(csms.payloads("BootNotification")) == 3
            assert charger.number("HeartbeatInterval") == 60

    run(scene, Csms(boots=[("Rejected", 30), ("Pending", 20)]))


@VERSIONS
def test_what_happens_offline_is_told_in_order_with_its_own_times(version: str) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version), clock) as charger:
            charger.set_key("MeterValueSampleInterval", "30")
            await flow(clock, lambda: charger.online)
            charger.plug_in(tag="TAG1")
            await flow(clock, lambda: charger.outlets[0].status == "Charging")
            await pass_s(clock, 60)
            await csms.shut()
            await flow(clock, lambda: not charger.connected)
            cut = len(csms.said)
            for _ in range(2):
                await pass_s(clock, 100)
                charger.unplug()
                await pass_s(clock, 10)
                charger.plug_in(tag="TAG2")
            charger.unplug()
            await pass_s(clock, 5)
            await csms.open()
            await flow(clock, lambda: charger.online and not charger.outbox)
            assert registers(csms, version) == reported(charger)
            assert len(charger.sessions) == 3
            actions = {"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"}
            times = [_time_of(one.payload) for one in csms.said[cut:] if one.action in actions]
            assert times == sorted(times)
            assert len(set(times)) > 5
            if version == "2.0.1":
                _check_events(csms.payloads("TransactionEvent"))

    run(scene)


def _time_of(payload: dict[str, Any]) -> str:
    return str(payload["timestamp"] if "timestamp" in payload else payload["meter_value"][0]["timestamp"])


def _check_events(events: list[dict[str, Any]]) -> None:
    """Each transaction's numbers count from 0 without a hole, and some of them were made offline (E04)."""
    by_transaction: dict[str, list[int]] = {}
    for event in events:
        by_transaction.setdefault(event["transaction_info"]["transaction_id"], []).append(event["seq_no"])
    assert all(numbers == list(range(len(numbers))) for numbers in by_transaction.values())
    assert {event.get("offline", False) for event in events} == {False, True}


@VERSIONS
def test_a_refused_message_comes_again_unchanged_and_is_given_up_at_last(version: str) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version), clock) as charger:
            charger.set_key("TransactionMessageRetryInterval", "20")
            charger.set_key("TransactionMessageAttempts", "4")
            await flow(clock, lambda: charger.online)
            charger.plug_in(tag="TAG1")
            action = "StartTransaction" if version == "1.6" else "TransactionEvent"
            await flow(clock, lambda: sum(one.action == action for one in csms.said) >= 3)
            tries = [one for one in csms.said if one.action == action][:3]
            assert tries[0] == tries[1] == tries[2]
            await flow(clock, lambda: not charger.outbox)
            assert charger.dropped == 0
            csms.refusals = 4
            charger.unplug()
            await flow(clock, lambda: charger.dropped == 1)
            assert csms.refusals == 0

    run(scene, Csms(refusals=2))


@VERSIONS
def test_its_own_restart_loses_nothing_that_it_has_to_tell(version: str, tmp_path: Path) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        mine = settings(csms, version, state_file=tmp_path / "state.json")
        async with SimulatedCharger(mine, clock) as charger:
            await flow(clock, lambda: charger.online)
            charger.plug_in(tag="TAG1")
            await pass_s(clock, 120)
            await csms.shut()
            await pass_s(clock, 60)
            kept_wh = charger.outlets[0].register_wh
            charger.set_key("CpoName", "somebody")
        await csms.open()
        async with SimulatedCharger(mine, clock) as charger:
            assert charger.sessions[0].stop_wh == kept_wh
            assert charger.sessions[0].reason == "PowerLoss"
            assert charger.keys["CpoName"].value == "somebody"
            await flow(clock, lambda: charger.online and not charger.outbox)
            assert registers(csms, version) == reported(charger)

    run(scene)


def profile(version: str, limit: float, unit: str = "A") -> dict[str, Any]:
    schedule = {"charging_rate_unit": unit, "charging_schedule_period": [{"start_period": 0, "limit": limit}]}
    common: dict[str, Any] = {
        "stack_level": 1,
        "charging_profile_purpose": "TxDefaultProfile",
        "charging_profile_kind": "Absolute",
    }
    if version == "1.6":
        return common | {"charging_profile_id": 7, "charging_schedule": schedule}
    start = "2023-01-01T00:00:00Z"
    return common | {"id": 7, "charging_schedule": [schedule | {"id": 1, "start_schedule": start}]}


@VERSIONS
def test_it_is_started_limited_and_stopped_from_afar(version: str) -> None:
    two = version == "2.0.1"

    async def limit(csms: Csms, amperes: float) -> str:
        said = profile(version, amperes)
        if two:
            answer = await csms.ask("SetChargingProfile", evse_id=1, charging_profile=said)
        else:
            start = "2023-01-01T00:00:00Z"
            said["charging_schedule"]["start_schedule"] = start
            answer = await csms.ask("SetChargingProfile", connector_id=1, cs_charging_profiles=said)
        return str(answer.status)

    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version), clock) as charger:
            await flow(clock, lambda: charger.online)
            charger.plug_in(wants_a=32)
            if two:
                token = {"id_token": "REMOTE", "type": "Central"}
                asked = csms.ask("RequestStartTransaction", id_token=token, remote_start_id=4, evse_id=1)
            else:
                asked = csms.ask("RemoteStartTransaction", id_tag="REMOTE", connector_id=1)
            assert (await asked).status == "Accepted"
            evse = charger.outlets[0].evse
            await flow(clock, lambda: evse.current_a == 32)
            for amperes, drawn in ((10.0, 10.0), (5.0, 0.0), (16.0, 16.0)):
                assert await limit(csms, amperes) == "Accepted"
                await flow(clock, lambda drawn=drawn: evse.current_a == drawn, 30)  # type: ignore[misc]
            assert _composite(await _ask_composite(csms, two=two), two=two) == [(0, 16.0)]
            transaction = charger.outlets[0].transaction
            assert transaction is not None
            number = transaction.id if two else int(charger.transaction_ids[transaction.number])
            action = "RequestStopTransaction" if two else "RemoteStopTransaction"
            assert (await csms.ask(action, transaction_id=number)).status == "Accepted"
            await flow(clock, lambda: bool(registers(csms, version)))
            assert charger.sessions[0].reason == "Remote"
            assert registers(csms, version) == reported(charger)
            assert evse.current_a == 0

    run(scene)


async def _ask_composite(csms: Csms, *, two: bool) -> Untyped:
    if two:
        return await csms.ask("GetCompositeSchedule", duration=600, evse_id=1)
    return await csms.ask("GetCompositeSchedule", connector_id=1, duration=600, charging_rate_unit="A")


def _composite(answer: Untyped, *, two: bool) -> list[tuple[int, float]]:
    schedule = answer.schedule if two else answer.charging_schedule
    return [(one["start_period"], one["limit"]) for one in schedule["charging_schedule_period"]]


@VERSIONS
def test_a_new_password_makes_it_dial_again_with_it(version: str) -> None:
    new = b"another-password-20c"

    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version, password=b"first-password-20chr"), clock) as charger:
            await flow(clock, lambda: charger.online)
            assert csms.passwords is not None
            csms.passwords.add(new)
            if version == "1.6":
                answer = await csms.ask("ChangeConfiguration", key="AuthorizationKey", value=new.hex())
                assert answer.status == "Accepted"
            else:
                place = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
                answer = await csms.ask("SetVariables", set_variable_data=[place | {"attribute_value": new.decode()}])
                assert answer.set_variable_result[0]["attribute_status"] == "Accepted"
            csms.passwords.remove(b"first-password-20chr")
            await flow(clock, lambda: charger.connections == 2 and charger.online)
            assert charger.last_error == ""

    run(scene, Csms(passwords={b"first-password-20chr"}))


@VERSIONS
def test_a_reset_ends_its_transaction_and_it_comes_back(version: str) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version), clock) as charger:
            await flow(clock, lambda: charger.online)
            charger.plug_in(tag="TAG1")
            await pass_s(clock, 30)
            reset = "Hard" if version == "1.6" else "Immediate"
            assert (await csms.ask("Reset", type=reset)).status == "Accepted"
            await flow(clock, lambda: not charger.connected)
            await flow(clock, lambda: charger.online and bool(registers(csms, version)))
            assert registers(csms, version) == reported(charger)
            assert charger.sessions[0].reason == ("HardReset" if version == "1.6" else "ImmediateReset")
            assert charger.connections == 2
            if version == "2.0.1":
                assert [one["reason"] for one in csms.payloads("BootNotification")] == ["PowerUp", "RemoteReset"]

    run(scene)


@VERSIONS
def test_a_refused_tag_gets_nothing(version: str) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, version), clock) as charger:
            await flow(clock, lambda: charger.online)
            charger.plug_in(tag="STOLEN")
            await flow(clock, lambda: bool(csms.payloads("Authorize")))
            await pass_s(clock, 10)
            assert charger.outlets[0].status == "Preparing"
            assert charger.outlets[0].register_wh == 1_000_000

    run(scene, Csms(refused_tags={"STOLEN"}))


def test_a_base_report_tells_all_variables() -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, "2.0.1", outlets=2), clock) as charger:
            await flow(clock, lambda: charger.online)
            answer = await csms.ask("GetBaseReport", request_id=3, report_base="FullInventory")
            assert answer.status == "Accepted"
            await flow(clock, lambda: any(not one["tbc"] for one in csms.payloads("NotifyReport")))
            parts = csms.payloads("NotifyReport")
            assert [one["seq_no"] for one in parts] == list(range(len(parts)))
            names = [
                (one["component"]["name"], one["variable"]["name"]) for part in parts for one in part["report_data"]
            ]
            assert names.count(("EVSE", "Power")) == 2
            assert ("OCPPCommCtrlr", "HeartbeatInterval") in names
            place = {"component": {"name": "TxCtrlr"}, "variable": {"name": "NoSuch"}}
            answers = (await csms.ask("GetVariables", get_variable_data=[place])).get_variable_result
            assert answers[0]["attribute_status"] == "UnknownVariable"
            told.set_profile(charger, 0, profile("2.0.1", 9))
            asked = csms.ask("GetChargingProfiles", request_id=5, charging_profile={"stack_level": 1})
            assert (await asked).status == "Accepted"
            await flow(clock, lambda: bool(csms.payloads("ReportChargingProfiles")))

    run(scene)


def test_the_rest_of_what_a_central_system_asks_in_1_6() -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(settings(csms, "1.6", outlets=2), clock) as charger:
            await flow(clock, lambda: charger.online)
            later = "2030-01-01T00:00:00Z"
            entry = {"id_tag": "KNOWN", "id_tag_info": {"status": "Accepted"}}
            expected: list[tuple[str, dict[str, Any], str]] = [
                ("ChangeAvailability", {"connector_id": 2, "type": "Inoperative"}, "Accepted"),
                ("ChangeAvailability", {"connector_id": 3, "type": "Inoperative"}, "Rejected"),
                ("ClearCache", {}, "Accepted"),
                ("ClearChargingProfile", {"id": 4}, "Unknown"),
                (
                    "SendLocalList",
                    {"list_version": 5, "update_type": "Full", "local_authorization_list": [entry]},
                    "Accepted",
                ),
                (
                    "ReserveNow",
                    {"connector_id": 1, "expiry_date": later, "id_tag": "A", "reservation_id": 1},
                    "Accepted",
                ),
                ("CancelReservation", {"reservation_id": 1}, "Accepted"),
                ("CancelReservation", {"reservation_id": 1}, "Rejected"),
                ("TriggerMessage", {"requested_message": "MeterValues", "connector_id": 1}, "Accepted"),
                ("TriggerMessage", {"requested_message": "StatusNotification"}, "Accepted"),
                ("UnlockConnector", {"connector_id": 1}, "Unlocked"),
                ("RemoteStopTransaction", {"transaction_id": 9}, "Rejected"),
                ("RemoteStartTransaction", {"id_tag": "A", "connector_id": 2}, "Rejected"),
                ("ChangeConfiguration", {"key": "NoSuchKey", "value": "1"}, "NotSupported"),
                ("ChangeConfiguration", {"key": "NumberOfConnectors", "value": "1"}, "Rejected"),
                ("ChangeConfiguration", {"key": "MeterValuesSampledData", "value": "Wind"}, "Rejected"),
            ]
            for action, payload, status in expected:
                assert (await csms.ask(action, **payload)).status == status, (action, payload)
            assert (await csms.ask("GetLocalListVersion")).list_version == 5
            keys = await csms.ask("GetConfiguration", key=["HeartbeatInterval", "AuthorizationKey"])
            assert [one["key"] for one in keys.configuration_key] == ["HeartbeatInterval"]
            assert keys.unknown_key == ["AuthorizationKey"]
            await csms.ask("GetDiagnostics", location="ftp://127.0.0.1/")
            await csms.ask("UpdateFirmware", location="ftp://127.0.0.1/", retrieve_date=later)
            await flow(clock, lambda: charger.connections == 2 and charger.online)
            assert [one["status"] for one in csms.payloads("FirmwareStatusNotification")][-1] == "Installed"
            assert [one["status"] for one in csms.payloads("DiagnosticsStatusNotification")][-1] == "Uploaded"

    run(scene)


def quirky(csms: Csms, quirk: Quirk, value: str = "", version: str = "1.6") -> SimSettings:
    return replace(settings(csms, version), quirks={quirk: value})


def test_a_long_backlog_does_not_keep_the_rest_waiting() -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(quirky(csms, Quirk.BACKLOG, "400"), clock) as charger:
            await flow(clock, lambda: bool(csms.payloads("StatusNotification")))
            assert charger.outbox
            await flow(clock, lambda: not charger.outbox)
            assert len(charger.sessions) == 100
            assert registers(csms, "1.6") == reported(charger)

    run(scene)


def test_a_charger_that_ignores_limits_says_yes_and_draws_on() -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(quirky(csms, Quirk.IGNORES_LIMITS), clock) as charger:
            await flow(clock, lambda: charger.online)
            charger.plug_in(tag="TAG1", wants_a=20)
            await flow(clock, lambda: charger.outlets[0].evse.current_a == 20)
            said = profile("1.6", 6)
            said["charging_schedule"]["start_schedule"] = "2023-01-01T00:00:00Z"
            answer = await csms.ask("SetChargingProfile", connector_id=1, cs_charging_profiles=said)
            assert answer.status == "Accepted"
            await pass_s(clock, 60)
            assert charger.outlets[0].evse.current_a == 20

    run(scene)


def test_a_charger_that_can_not_sample_what_it_accepted_reboots_again_and_again() -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(quirky(csms, Quirk.REBOOTS_ON, "Voltage"), clock) as charger:
            await flow(clock, lambda: charger.online)
            assert charger.set_key("MeterValuesSampledData", "Voltage") == "Accepted"
            charger.plug_in(tag="TAG1")
            await flow(clock, lambda: charger.connections == 2 and charger.online)
            assert len(csms.payloads("BootNotification")) == 2

    run(scene)


@pytest.mark.parametrize(
    ("quirk", "seen"),
    [
        (Quirk.NO_STOP, lambda csms, charger: charger.sessions and not csms.payloads("StopTransaction")),
        (Quirk.DOUBLE_START, lambda csms, charger: len(csms.payloads("StartTransaction")) == 2),
        (Quirk.DROPS, lambda csms, charger: charger.connections == 2),
        (Quirk.KWH, lambda csms, charger: '"kWh"' in json.dumps(csms.payloads("MeterValues"))),
        (Quirk.NO_ZONE, lambda csms, charger: csms.said[-1].payload.get("timestamp", "Z")[-1] != "Z"),
        (Quirk.TWO_SOCKETS, lambda csms, charger: charger.connections == 2 and len(charger._left) == 1),
        (Quirk.HALF_OPEN, lambda csms, charger: len(charger._left) == 1 and charger.connected),
    ],
)
def test_bad_manners(quirk: Quirk, seen: Callable[[Csms, SimulatedCharger], bool]) -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(quirky(csms, quirk), clock) as charger:
            await flow(clock, lambda: charger.online)
            charger.plug_in(tag="TAG1")
            await pass_s(clock, 65)
            charger.unplug()
            await flow(clock, lambda: seen(csms, charger))

    run(scene)


def test_no_boot_notification_when_it_connects_again() -> None:
    async def scene(csms: Csms, clock: FakeClock) -> None:
        async with SimulatedCharger(quirky(csms, Quirk.NO_BOOT), clock) as charger:
            await flow(clock, lambda: charger.online)
            charger.hang_up.set()
            await flow(clock, lambda: charger.connections == 2 and charger.online)
            assert len(csms.payloads("BootNotification")) == 1

    run(scene)


def test_a_fleet_of_processes_ends_on_request_and_prints_its_sessions(tmp_path: Path) -> None:
    async def scene(csms: Csms, _: FakeClock) -> None:
        command = [
            sys.executable,
            "-m",
            "drivers.sim.charger_ocpp",
            "--url",
            csms.url("F"),
            "--fleet",
            "2",
            "--speed",
            "0",
        ]
        process = await asyncio.create_subprocess_exec(
            *command, "--id-tag", "TAG1", cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            await csms.until("BootNotification", 2)
            process.send_signal(signal.SIGUSR1)
            await csms.until("StartTransaction")
            process.send_signal(signal.SIGUSR1)
            assert process.stdout is not None
            session = json.loads(await process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            _out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert session["identity"] == "F-0001"
        assert session["reason"] == "EVDisconnected"
        assert process.returncode == 0
        assert b"Traceback" not in errors

    run(scene)
