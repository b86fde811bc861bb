"""The simulated charger in the words of OCPP 1.6J (edition 2, with the security whitepaper's extension)."""

from collections.abc import Callable

from ocpp.v16 import ChargePoint, call, call_result  # type: ignore[import-untyped]

from drivers.sim import charger_ocpp_told as told
from drivers.sim.charger_ocpp_core import ACCEPTED, Charger
from drivers.sim.charger_ocpp_model import ENERGY, Message, Outlet, Payload, Quirk, Reservation, Transaction
from drivers.sim.charger_ocpp_profiles import stamp_us
from drivers.sim.charger_ocpp_wire import Answer, Rest, Speaker, Wire, on, quiet_logger

PLACES = {"SoC": "EV", "Temperature": "Body"}
#: Sent in place of a transaction id that was never given (1.6 errata 4.0, 3.3).
NO_TRANSACTION = -1
FIRMWARE_STEPS = ("Downloading", "Downloaded", "Installing", "Installed")
UPLOAD_STEPS = ("Uploading", "Uploaded")
STEP_S = 2.0


class Dialect16:
    """What it says in 1.6."""

    subprotocol = "ocpp1.6"
    boots_again = True

    def __init__(self, charger: Charger) -> None:
        self._charger = charger

    def boot(self, reason: str) -> Message:
        """BootNotification; 1.6 has no place for the reason."""
        del reason
        charger = self._charger
        settings = charger.settings
        payload = {
            "charge_point_vendor": settings.vendor,
            "charge_point_model": settings.model,
            "charge_point_serial_number": settings.identity[:25],
            "firmware_version": charger.firmware,
            "meter_type": "Sim",
        }
        message = charger.message("BootNotification", payload)
        message.then = lambda answer: charger.booted_with(answer.status, answer.interval)
        return message

    def heartbeat(self) -> Message:
        """Heartbeat."""
        return self._charger.message("Heartbeat", {})

    def status(self, outlet: Outlet | None) -> Message:
        """StatusNotification."""
        charger = self._charger
        if outlet is None:
            status, fault = "Available" if charger.operative else "Unavailable", ""
        else:
            status, fault = outlet.status, outlet.fault
        payload = {
            "connector_id": 0 if outlet is None else outlet.number,
            "error_code": fault or "NoError",
            "status": status,
            "timestamp": charger.stamp(),
        }
        return charger.message("StatusNotification", payload)

    def authorize(self, tag: str, then: Callable[[str], None]) -> Message:
        """Authorize."""
        message = self._charger.message("Authorize", {"id_tag": tag})
        message.then = lambda answer: then("" if answer is None else answer.id_tag_info["status"])
        return message

    def started(self, outlet: Outlet, running: Transaction) -> Message:
        """StartTransaction."""
        charger = self._charger
        payload: Payload = {
            "connector_id": outlet.number,
            "id_tag": running.tag,
            "meter_start": running.start_wh,
            "timestamp": charger.stamp(running.start_us),
        }
        if running.reservation is not None:
            payload["reservation_id"] = running.reservation
        self._note(outlet, running, "Transaction.Begin")
        return charger.message("StartTransaction", payload, running)

    def changed(self, outlet: Outlet, running: Transaction, trigger: str) -> None:
        """1.6 says that by StatusNotification."""

    def sampled(self, outlet: Outlet, running: Transaction, context: str) -> Message:
        """MeterValues of a transaction; its id is put in when it is sent."""
        aligned = context == "Sample.Clock"
        values = self._values(outlet, "MeterValuesAlignedData" if aligned else "MeterValuesSampledData", context)
        if aligned and self._charger.keys["StopTxnAlignedData"].value:
            self._note(outlet, running, context)
        stamp = self._charger.stamp(running.last_us)
        payload = {"connector_id": outlet.number, "meter_value": [{"timestamp": stamp, "sampled_value": values}]}
        return self._charger.message("MeterValues", payload, running)

    def stopped(self, outlet: Outlet, running: Transaction) -> Message:
        """StopTransaction; the transaction's id is put in when it is sent."""
        payload: Payload = {
            "meter_stop": running.last_wh,
            "timestamp": self._charger.stamp(running.last_us),
            "reason": running.reason,
            "id_tag": running.tag,
        }
        self._note(outlet, running, "Transaction.End")
        if running.samples:
            payload["transaction_data"] = running.samples
        return self._charger.message("StopTransaction", payload, running)

    def meter(self, outlet: Outlet, context: str) -> Message:
        """MeterValues outside a transaction."""
        key = "MeterValuesAlignedData" if context == "Sample.Clock" else "MeterValuesSampledData"
        values = [{"timestamp": self._charger.stamp(), "sampled_value": self._values(outlet, key, context)}]
        payload: Payload = {"connector_id": outlet.number, "meter_value": values}
        running = outlet.transaction
        if running is not None and running.number in self._charger.transaction_ids:
            payload["transaction_id"] = int(self._charger.transaction_ids[running.number])
        return self._charger.message("MeterValues", payload)

    def answered(self, message: Message, answer: Answer) -> None:
        """Learn the transaction's id; end it where the id tag is refused."""
        number = message.transaction
        if number is None:
            return
        if message.action == "StartTransaction":
            self._charger.transaction_ids[number] = str(answer.transaction_id)
            if answer.id_tag_info["status"] != ACCEPTED:
                self._charger.refuse_transaction(number)
        elif message.action == "StopTransaction":
            self._charger.transaction_ids.pop(number, None)

    def _note(self, outlet: Outlet, running: Transaction, context: str) -> None:
        key = "StopTxnAlignedData" if context == "Sample.Clock" else "StopTxnSampledData"
        values = self._values(outlet, key, context)
        if values:
            running.samples.append({"timestamp": self._charger.stamp(running.last_us), "sampled_value": values})

    def _values(self, outlet: Outlet, key: str, context: str) -> list[Payload]:
        values = []
        for measurand, phase, number, unit in outlet.readings(self._charger.keys[key].value):
            kwh = measurand == ENERGY and Quirk.KWH in self._charger.quirks
            value: Payload = {
                "value": f"{number / 1000:.3f}" if kwh else f"{number:g}" if number < 1e5 else f"{number:.0f}",  # noqa: PLR2004
                "context": context,
                "measurand": measurand,
                "location": PLACES.get(measurand, "Outlet"),
            }
            if unit:
                value["unit"] = "kWh" if kwh else unit
            if phase:
                value["phase"] = phase
            values.append(value)
        return values


class Link16(Speaker, ChargePoint):  # type: ignore[misc]
    """One connection: answers what it is asked, in the order of 1.6 edition 2, 5."""

    _call = call

    def __init__(self, wire: Wire, charger: Charger) -> None:
        super().__init__(charger.settings.identity, wire, charger.settings.timeout_s, quiet_logger())
        self.charger = charger

    async def ask(self, message: Message) -> Answer:
        """Send it, with the transaction's id where it needs one."""
        if message.transaction is not None and message.action != "StartTransaction":
            given = self.charger.transaction_ids.get(message.transaction)
            message.payload["transaction_id"] = NO_TRANSACTION if given is None else int(given)
        return await super().ask(message)

    @on("CancelReservation")
    def _on_cancel_reservation(self, reservation_id: int) -> Answer:
        done = told.cancel_reservation(self.charger, reservation_id)
        return call_result.CancelReservation(ACCEPTED if done else "Rejected")

    @on("ChangeAvailability")
    def _on_change_availability(self, connector_id: int, type: str) -> Answer:  # noqa: A002
        operative = type == "Operative"
        if connector_id == 0:
            self.charger.operative = operative
            self.charger.say(self.charger.dialect.status(None))
        return call_result.ChangeAvailability(told.make_available(self.charger, connector_id, operative=operative))

    @on("ChangeConfiguration")
    def _on_change_configuration(self, key: str, value: str) -> Answer:
        return call_result.ChangeConfiguration(self.charger.set_key(key, value))

    @on("ClearCache")
    def _on_clear_cache(self) -> Answer:
        return call_result.ClearCache(ACCEPTED)

    @on("ClearChargingProfile")
    def _on_clear_charging_profile(
        self,
        id: int | None = None,  # noqa: A002 - the message's word
        connector_id: int | None = None,
        charging_profile_purpose: str | None = None,
        stack_level: int | None = None,
    ) -> Answer:
        gone = self.charger.profiles.clear(id, connector_id, charging_profile_purpose, stack_level)
        return call_result.ClearChargingProfile(ACCEPTED if gone else "Unknown")

    @on("DataTransfer")
    def _on_data_transfer(self, **_: Rest) -> Answer:
        return call_result.DataTransfer("UnknownVendorId")

    @on("GetCompositeSchedule")
    def _on_get_composite_schedule(self, connector_id: int, duration: int, charging_rate_unit: str = "A") -> Answer:
        charger = self.charger
        if connector_id > len(charger.outlets):
            return call_result.GetCompositeSchedule("Rejected")
        periods = told.composite(charger, connector_id, duration, charging_rate_unit)
        now = charger.stamp()
        schedule = {
            "duration": duration,
            "start_schedule": now,
            "charging_rate_unit": charging_rate_unit,
            "charging_schedule_period": [{"start_period": start_s, "limit": limit} for start_s, limit in periods],
        }
        return call_result.GetCompositeSchedule(ACCEPTED, connector_id, now, schedule)

    @on("GetConfiguration")
    def _on_get_configuration(self, key: list[str] | None = None) -> Answer:
        keys = self.charger.keys
        asked = key or [name for name in keys if keys[name].readable]
        known = [
            {"key": name, "readonly": not keys[name].writable, "value": keys[name].value}
            for name in asked
            if name in keys and keys[name].readable
        ]
        unknown = [name for name in asked if name not in keys or not keys[name].readable]
        return call_result.GetConfiguration(known, unknown)

    @on("GetDiagnostics")
    def _on_get_diagnostics(self, **_: Rest) -> Answer:
        for number, step in enumerate(UPLOAD_STEPS):
            self.charger.later(
                STEP_S * (number + 1), self.charger.message("DiagnosticsStatusNotification", {"status": step})
            )
        return call_result.GetDiagnostics(f"{self.charger.settings.identity}.log")

    @on("GetLog")
    def _on_get_log(self, request_id: int, **_: Rest) -> Answer:
        for number, step in enumerate(UPLOAD_STEPS):
            payload = {"status": step, "request_id": request_id}
            self.charger.later(STEP_S * (number + 1), self.charger.message("LogStatusNotification", payload))
        return call_result.GetLog(ACCEPTED, f"{self.charger.settings.identity}.log")

    @on("GetLocalListVersion")
    def _on_get_local_list_version(self) -> Answer:
        return call_result.GetLocalListVersion(self.charger.list_version)

    @on("RemoteStartTransaction")
    def _on_remote_start_transaction(
        self, id_tag: str, connector_id: int | None = None, charging_profile: Payload | None = None
    ) -> Answer:
        charger = self.charger
        if not charger.online:
            return call_result.RemoteStartTransaction("Rejected")
        if charger.flag("AuthorizeRemoteTxRequests") and connector_id is not None:
            charger.present(connector_id, id_tag)
            return call_result.RemoteStartTransaction(ACCEPTED)
        taken = told.remote_start(charger, connector_id, id_tag, None, charging_profile)
        return call_result.RemoteStartTransaction("Rejected" if taken is None else ACCEPTED)

    @on("RemoteStopTransaction")
    def _on_remote_stop_transaction(self, transaction_id: int) -> Answer:
        outlet = self.charger.find(str(transaction_id))
        if outlet is None:
            return call_result.RemoteStopTransaction("Rejected")
        self.charger.later(0, lambda: self.charger.finish(outlet, "Remote"))
        return call_result.RemoteStopTransaction(ACCEPTED)

    @on("ReserveNow")
    def _on_reserve_now(
        self, connector_id: int, expiry_date: str, id_tag: str, reservation_id: int, **_: Rest
    ) -> Answer:
        reservation = Reservation(reservation_id, id_tag, stamp_us(expiry_date))
        return call_result.ReserveNow(told.reserve(self.charger, connector_id, reservation))

    @on("Reset")
    def _on_reset(self, type: str) -> Answer:  # noqa: A002
        hard = type == "Hard"
        self.charger.reboot("RemoteReset", at_once=hard, stop=f"{type}Reset")
        return call_result.Reset(ACCEPTED)

    @on("SendLocalList")
    def _on_send_local_list(
        self, list_version: int, update_type: str, local_authorization_list: list[Payload] | None = None
    ) -> Answer:
        if update_type == "Full":
            self.charger.local_list.clear()
        for entry in local_authorization_list or []:
            if "id_tag_info" in entry:
                self.charger.local_list[entry["id_tag"]] = entry["id_tag_info"]["status"]
            else:
                self.charger.local_list.pop(entry["id_tag"], None)
        self.charger.list_version = list_version
        return call_result.SendLocalList(ACCEPTED)

    @on("SetChargingProfile")
    def _on_set_charging_profile(self, connector_id: int, cs_charging_profiles: Payload) -> Answer:
        known = connector_id <= len(self.charger.outlets)
        done = known and told.set_profile(self.charger, connector_id, cs_charging_profiles)
        return call_result.SetChargingProfile(ACCEPTED if done else "Rejected")

    @on("TriggerMessage")
    def _on_trigger_message(self, requested_message: str, connector_id: int | None = None) -> Answer:
        return call_result.TriggerMessage(self._trigger(requested_message, connector_id))

    @on("ExtendedTriggerMessage")
    def _on_extended_trigger_message(self, requested_message: str, connector_id: int | None = None) -> Answer:
        return call_result.ExtendedTriggerMessage(self._trigger(requested_message, connector_id))

    def _trigger(self, wanted: str, connector: int | None) -> str:
        charger, dialect = self.charger, self.charger.dialect
        if connector is not None and connector > len(charger.outlets):
            return "Rejected"
        outlets = charger.outlets[connector - 1 : connector] if connector else charger.outlets
        if wanted == "BootNotification":
            charger.say(dialect.boot("Triggered"))
        elif wanted == "Heartbeat":
            charger.say(dialect.heartbeat())
        elif wanted == "StatusNotification":
            if not connector:
                charger.say(dialect.status(None))
            for outlet in outlets:
                charger.say(dialect.status(outlet))
        elif wanted == "MeterValues":
            for outlet in outlets:
                charger.say(dialect.meter(outlet, "Trigger"))
        elif wanted in {"DiagnosticsStatusNotification", "FirmwareStatusNotification"}:
            charger.say(charger.message(wanted, {"status": "Idle"}))
        else:
            return "NotImplemented"
        return ACCEPTED

    @on("UnlockConnector")
    def _on_unlock_connector(self, connector_id: int) -> Answer:
        if not 0 < connector_id <= len(self.charger.outlets):
            return call_result.UnlockConnector("NotSupported")
        self.charger.finish(self.charger.outlets[connector_id - 1], "UnlockCommand")
        return call_result.UnlockConnector("Unlocked")

    @on("UpdateFirmware")
    def _on_update_firmware(self, **_: Rest) -> Answer:
        charger = self.charger
        for number, step in enumerate(FIRMWARE_STEPS):
            charger.later(STEP_S * (number + 1), charger.message("FirmwareStatusNotification", {"status": step}))
        charger.later(STEP_S * 5, lambda: charger.reboot("FirmwareUpdate"))
        return call_result.UpdateFirmware()
