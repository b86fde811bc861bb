"""The simulated charger's side of an OCPP 2.0.1 connection: answers to what it is asked."""

from collections.abc import Callable

from ocpp.v201 import ChargePoint, call, call_result  # type: ignore[import-untyped]

from drivers.sim import charger_ocpp_told as told
from drivers.sim.charger_ocpp201_variables import Variable, variables
from drivers.sim.charger_ocpp_core import ACCEPTED, Charger
from drivers.sim.charger_ocpp_model import Message, Payload, Reservation, iso
from drivers.sim.charger_ocpp_profiles import PURPOSES, Profile, stamp_us
from drivers.sim.charger_ocpp_wire import Answer, Rest, Speaker, Wire, on, quiet_logger

FIRMWARE_STEPS = ("Downloading", "Downloaded", "Installing", "Installed")
UPLOAD_STEPS = ("Uploading", "Uploaded")
STEP_S = 2.0
REPORT_ITEMS = 20


class Link201(Speaker, ChargePoint):  # type: ignore[misc]
    """One connection: answers what it is asked."""

    _call = call

    def __init__(self, wire: Wire, charger: Charger) -> None:
        super().__init__(charger.settings.identity, wire, charger.settings.timeout_s, quiet_logger())
        self.charger = charger

    def _find(self, asked: Payload) -> tuple[Variable | None, str]:
        component, variable = asked["component"], asked["variable"]
        evse = component.get("evse") or {}
        place = (component["name"], evse.get("id", 0), evse.get("connector_id", 0))
        of_component = [one for one in variables(self.charger) if (one.component, one.evse, one.connector) == place]
        if not of_component:
            return None, "UnknownComponent"
        wanted = (variable["name"], variable.get("instance", ""))
        found = next((one for one in of_component if (one.name, one.instance) == wanted), None)
        return found, "UnknownVariable"

    @on("GetVariables")
    def _on_get_variables(self, get_variable_data: list[Payload], **_: Rest) -> Answer:
        results = []
        for asked in get_variable_data:
            variable, status = self._find(asked)
            result: Payload = {"component": asked["component"], "variable": asked["variable"]}
            if asked.get("attribute_type", "Actual") != "Actual":
                status = "NotSupportedAttributeType"
            elif variable is not None and variable.read is None:
                status = "Rejected"
            elif variable is not None and variable.read is not None:
                status, result["attribute_value"] = ACCEPTED, variable.read()
            results.append(result | {"attribute_status": status})
        return call_result.GetVariables(results)

    @on("SetVariables")
    def _on_set_variables(self, set_variable_data: list[Payload], **_: Rest) -> Answer:
        results = []
        for asked in set_variable_data:
            variable, status = self._find(asked)
            if asked.get("attribute_type", "Actual") != "Actual":
                status = "NotSupportedAttributeType"
            elif variable is not None:
                status = "Rejected" if variable.write is None else variable.write(asked["attribute_value"])
            result = {"component": asked["component"], "variable": asked["variable"], "attribute_status": status}
            results.append(result)
        return call_result.SetVariables(results)

    @on("GetBaseReport")
    def _on_get_base_report(self, request_id: int, report_base: str, **_: Rest) -> Answer:
        if report_base == "SummaryInventory":
            return call_result.GetBaseReport("NotSupported")
        asked = variables(self.charger)
        if report_base == "ConfigurationInventory":
            asked = [one for one in asked if one.write is not None]
        self._report(request_id, asked)
        return call_result.GetBaseReport(ACCEPTED)

    @on("GetReport")
    def _on_get_report(self, request_id: int, component_variable: list[Payload] | None = None, **_: Rest) -> Answer:
        wanted = [(one["component"]["name"], one.get("variable", {}).get("name")) for one in component_variable or []]
        asked = [
            one
            for one in variables(self.charger)
            if not wanted or (one.component, one.name) in wanted or (one.component, None) in wanted
        ]
        if not asked:
            return call_result.GetReport("EmptyResultSet")
        self._report(request_id, asked)
        return call_result.GetReport(ACCEPTED)

    def _report(self, request_id: int, asked: list[Variable]) -> None:
        charger = self.charger
        for number, start in enumerate(range(0, len(asked), REPORT_ITEMS)):
            payload = {
                "request_id": request_id,
                "generated_at": charger.stamp(),
                "seq_no": number,
                "tbc": start + REPORT_ITEMS < len(asked),
                "report_data": [one.report() for one in asked[start : start + REPORT_ITEMS]],
            }
            charger.later(0, charger.message("NotifyReport", payload))

    @on("CancelReservation")
    def _on_cancel_reservation(self, reservation_id: int, **_: Rest) -> Answer:
        done = told.cancel_reservation(self.charger, reservation_id)
        return call_result.CancelReservation(ACCEPTED if done else "Rejected")

    @on("ChangeAvailability")
    def _on_change_availability(self, operational_status: str, evse: Payload | None = None, **_: Rest) -> Answer:
        operative = operational_status == "Operative"
        if evse is None:
            self.charger.operative = operative
        number = 0 if evse is None else evse["id"]
        return call_result.ChangeAvailability(told.make_available(self.charger, number, operative=operative))

    @on("ClearCache")
    def _on_clear_cache(self, **_: Rest) -> Answer:
        return call_result.ClearCache("Rejected")  # C11.FR.04: it has none

    @on("ClearChargingProfile")
    def _on_clear_charging_profile(
        self, charging_profile_id: int | None = None, charging_profile_criteria: Payload | None = None, **_: Rest
    ) -> Answer:
        by = charging_profile_criteria or {}
        gone = self.charger.profiles.clear(
            charging_profile_id, by.get("evse_id"), by.get("charging_profile_purpose"), by.get("stack_level")
        )
        return call_result.ClearChargingProfile(ACCEPTED if gone else "Unknown")

    @on("CustomerInformation")
    def _on_customer_information(self, request_id: int, report: bool, **_: Rest) -> Answer:  # noqa: FBT001
        charger = self.charger
        if report:
            payload = {"request_id": request_id, "data": "none", "seq_no": 0, "generated_at": charger.stamp()}
            charger.later(0, charger.message("NotifyCustomerInformation", payload))
        return call_result.CustomerInformation(ACCEPTED)

    @on("DataTransfer")
    def _on_data_transfer(self, **_: Rest) -> Answer:
        return call_result.DataTransfer("UnknownVendorId")

    @on("GetChargingProfiles")
    def _on_get_charging_profiles(
        self, request_id: int, charging_profile: Payload, evse_id: int | None = None, **_: Rest
    ) -> Answer:
        charger, by = self.charger, charging_profile
        purpose = by.get("charging_profile_purpose")
        found = [
            one
            for one in charger.profiles.installed
            if evse_id in {None, one.outlet}
            and one.id in by.get("charging_profile_id", [one.id])
            and by.get("stack_level", one.stack) == one.stack
            and (purpose is None or PURPOSES.get(purpose) == one.purpose)
        ]
        for number, profile in enumerate(found):
            payload = {
                "request_id": request_id,
                "charging_limit_source": "CSO",
                "evse_id": profile.outlet,
                "charging_profile": [self._profile(profile)],
                "tbc": number < len(found) - 1,
            }
            charger.later(0, charger.message("ReportChargingProfiles", payload))
        return call_result.GetChargingProfiles(ACCEPTED if found else "NoProfiles")

    def _profile(self, profile: Profile) -> Payload:
        quirks = self.charger.quirks
        schedule: Payload = {
            "id": 1,
            "charging_rate_unit": profile.unit,
            "charging_schedule_period": [
                {"start_period": one.from_us // 1_000_000, "limit": one.limit, "number_phases": one.phases}
                for one in profile.periods
            ],
        }
        if profile.start_us is not None:
            schedule["start_schedule"] = iso(profile.start_us, quirks)
        if profile.lasts_us is not None:
            schedule["duration"] = profile.lasts_us // 1_000_000
        told: Payload = {
            "id": profile.id,
            "stack_level": profile.stack,
            "charging_profile_purpose": next(name for name in reversed(PURPOSES) if PURPOSES[name] == profile.purpose),
            "charging_profile_kind": profile.kind,
            "charging_schedule": [schedule],
        }
        if profile.recurs_us is not None:
            told["recurrency_kind"] = "Daily" if profile.recurs_us == 86_400_000_000 else "Weekly"  # noqa: PLR2004
        if profile.transaction is not None:
            told["transaction_id"] = profile.transaction
        for name, t_us in (("valid_from", profile.valid_from_us), ("valid_to", profile.valid_to_us)):
            if t_us is not None:
                told[name] = iso(t_us, quirks)
        return told

    @on("GetCompositeSchedule")
    def _on_get_composite_schedule(
        self, duration: int, evse_id: int, charging_rate_unit: str = "A", **_: Rest
    ) -> Answer:
        charger = self.charger
        if evse_id > len(charger.outlets):
            return call_result.GetCompositeSchedule("Rejected")
        periods = told.composite(charger, evse_id, duration, charging_rate_unit)
        schedule = {
            "evse_id": evse_id,
            "duration": duration,
            "schedule_start": charger.stamp(),
            "charging_rate_unit": charging_rate_unit,
            "charging_schedule_period": [{"start_period": start_s, "limit": limit} for start_s, limit in periods],
        }
        return call_result.GetCompositeSchedule(ACCEPTED, schedule=schedule)

    @on("GetLog")
    def _on_get_log(self, request_id: int, **_: Rest) -> Answer:
        self._steps("LogStatusNotification", UPLOAD_STEPS, request_id)
        return call_result.GetLog(ACCEPTED, filename=f"{self.charger.settings.identity}.log")

    @on("GetLocalListVersion")
    def _on_get_local_list_version(self, **_: Rest) -> Answer:
        return call_result.GetLocalListVersion(self.charger.list_version)

    @on("GetTransactionStatus")
    def _on_get_transaction_status(self, transaction_id: str | None = None, **_: Rest) -> Answer:
        charger = self.charger
        if transaction_id is None:
            return call_result.GetTransactionStatus(bool(charger.outbox))
        queued = any(one.payload["transaction_info"]["transaction_id"] == transaction_id for one in charger.outbox)
        return call_result.GetTransactionStatus(queued, charger.find(transaction_id) is not None)

    @on("RequestStartTransaction")
    def _on_request_start_transaction(
        self,
        id_token: Payload,
        remote_start_id: int,
        evse_id: int | None = None,
        charging_profile: Payload | None = None,
        **_: Rest,
    ) -> Answer:
        charger = self.charger
        taken = None
        if charger.online:  # B02.FR.05
            taken = told.remote_start(charger, evse_id, id_token["id_token"], remote_start_id, charging_profile)
        return call_result.RequestStartTransaction("Rejected" if taken is None else ACCEPTED)

    @on("RequestStopTransaction")
    def _on_request_stop_transaction(self, transaction_id: str, **_: Rest) -> Answer:
        outlet = self.charger.find(transaction_id)
        if outlet is None:
            return call_result.RequestStopTransaction("Rejected")
        self.charger.later(0, lambda: self.charger.finish(outlet, "Remote"))
        return call_result.RequestStopTransaction(ACCEPTED)

    @on("ReserveNow")
    def _on_reserve_now(
        self,
        id: int,  # noqa: A002 - the message's word
        expiry_date_time: str,
        id_token: Payload,
        evse_id: int = 1,
        **_: Rest,
    ) -> Answer:
        reservation = Reservation(id, id_token["id_token"], stamp_us(expiry_date_time))
        return call_result.ReserveNow(told.reserve(self.charger, evse_id, reservation))

    @on("Reset")
    def _on_reset(self, type: str, evse_id: int | None = None, **_: Rest) -> Answer:  # noqa: A002
        charger = self.charger
        if evse_id is not None:
            if not 0 < evse_id <= len(charger.outlets):
                return call_result.Reset("Rejected")
            charger.finish(charger.outlets[evse_id - 1], "ImmediateReset")
            return call_result.Reset(ACCEPTED)
        if type == "OnIdle" and any(outlet.transaction is not None for outlet in charger.outlets):
            charger.later(STEP_S, self._reset_when_idle)
            return call_result.Reset("Scheduled")
        charger.reboot("RemoteReset", stop="ImmediateReset")
        return call_result.Reset(ACCEPTED)

    def _reset_when_idle(self) -> None:
        if any(outlet.transaction is not None for outlet in self.charger.outlets):
            self.charger.later(STEP_S, self._reset_when_idle)
        else:
            self.charger.reboot("ScheduledReset")

    @on("SendLocalList")
    def _on_send_local_list(
        self, version_number: int, update_type: str, local_authorization_list: list[Payload] | None = None, **_: Rest
    ) -> Answer:
        if update_type == "Full":
            self.charger.local_list.clear()
        for entry in local_authorization_list or []:
            tag = entry["id_token"]["id_token"]
            if "id_token_info" in entry:
                self.charger.local_list[tag] = entry["id_token_info"]["status"]
            else:
                self.charger.local_list.pop(tag, None)
        self.charger.list_version = version_number
        return call_result.SendLocalList(ACCEPTED)

    @on("SetChargingProfile")
    def _on_set_charging_profile(self, evse_id: int, charging_profile: Payload, **_: Rest) -> Answer:
        unnamed = (
            charging_profile["charging_profile_purpose"] == "TxProfile" and "transaction_id" not in charging_profile
        )
        known = evse_id <= len(self.charger.outlets) and not unnamed  # K01.FR.03
        done = known and told.set_profile(self.charger, evse_id, charging_profile)
        return call_result.SetChargingProfile(ACCEPTED if done else "Rejected")

    @on("SetNetworkProfile")
    def _on_set_network_profile(self, configuration_slot: int, connection_data: Payload, **_: Rest) -> Answer:
        charger = self.charger
        if connection_data["security_profile"] < charger.number("SecurityProfile"):
            return call_result.SetNetworkProfile("Rejected")  # B09.FR.04
        charger.networks[configuration_slot] = connection_data["ocpp_csms_url"]
        return call_result.SetNetworkProfile(ACCEPTED)

    @on("TriggerMessage")
    def _on_trigger_message(self, requested_message: str, evse: Payload | None = None, **_: Rest) -> Answer:
        charger, dialect = self.charger, self.charger.dialect
        number = 0 if evse is None else evse["id"]
        if number > len(charger.outlets) or (requested_message == "BootNotification" and charger.online):
            return call_result.TriggerMessage("Rejected")  # F06.FR.17
        outlets = charger.outlets[number - 1 : number] if number else charger.outlets
        if requested_message == "TransactionEvent":
            charger.sample_now(outlets)
            return call_result.TriggerMessage(ACCEPTED)
        messages: dict[str, Callable[[], list[Message | None]]] = {
            "BootNotification": lambda: [dialect.boot("Triggered")],
            "Heartbeat": lambda: [dialect.heartbeat()],
            "StatusNotification": lambda: [dialect.status(outlet) for outlet in outlets],
            "MeterValues": lambda: [dialect.meter(outlet, "Trigger") for outlet in outlets],
            "FirmwareStatusNotification": lambda: [charger.message(requested_message, {"status": "Idle"})],
            "LogStatusNotification": lambda: [charger.message(requested_message, {"status": "Idle"})],
        }
        if requested_message not in messages:
            return call_result.TriggerMessage("NotImplemented")
        for message in messages[requested_message]():
            charger.say(message)
        return call_result.TriggerMessage(ACCEPTED)

    @on("UnlockConnector")
    def _on_unlock_connector(self, evse_id: int, connector_id: int, **_: Rest) -> Answer:
        if not 0 < evse_id <= len(self.charger.outlets) or connector_id != 1:
            return call_result.UnlockConnector("UnknownConnector")
        running = self.charger.outlets[evse_id - 1].transaction
        return call_result.UnlockConnector("Unlocked" if running is None else "OngoingAuthorizedTransaction")

    @on("UpdateFirmware")
    def _on_update_firmware(self, request_id: int, **_: Rest) -> Answer:
        self._steps("FirmwareStatusNotification", FIRMWARE_STEPS, request_id)
        self.charger.later(STEP_S * 5, lambda: self.charger.reboot("FirmwareUpdate"))
        return call_result.UpdateFirmware(ACCEPTED)

    def _steps(self, action: str, steps: tuple[str, ...], request_id: int) -> None:
        for number, step in enumerate(steps):
            payload = {"status": step, "request_id": request_id}
            self.charger.later(STEP_S * (number + 1), self.charger.message(action, payload))
