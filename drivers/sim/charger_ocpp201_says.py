"""What the simulated charger says in the words of OCPP 2.0.1.

Its transaction begins when a vehicle is plugged in and somebody was let in (TxStartPoint PowerPathClosed), and ends
when one of the two is gone (TxStopPoint EVConnected, Authorized).
"""

from collections.abc import Callable
from uuid import uuid4

from drivers.sim.charger_ocpp201_variables import connector_status
from drivers.sim.charger_ocpp_core import ACCEPTED, Charger
from drivers.sim.charger_ocpp_model import ENERGY, Message, Outlet, Payload, Quirk, Transaction, iso
from drivers.sim.charger_ocpp_wire import Answer

REASONS = {
    "DeAuthorized": "DeAuthorized",
    "EVDisconnected": "EVDisconnected",
    "Local": "Local",
    "PowerLoss": "PowerLoss",
    "Reboot": "Reboot",
    "Remote": "Remote",
    "ImmediateReset": "ImmediateReset",
}
TRIGGERS = {
    "DeAuthorized": "Deauthorized",
    "EVDisconnected": "EVCommunicationLost",
    "Local": "StopAuthorized",
    "Remote": "RemoteStop",
    "ImmediateReset": "ResetCommand",
    "UnlockCommand": "UnlockCommand",
}


class Dialect201:
    """What it says in 2.0.1."""

    subprotocol = "ocpp2.0.1"
    boots_again = False  #: B01: after power-up and reboot only

    def __init__(self, charger: Charger) -> None:
        self._charger = charger

    def boot(self, reason: str) -> Message:
        """BootNotification."""
        charger = self._charger
        settings = charger.settings
        station = {
            "model": settings.model,
            "vendor_name": settings.vendor,
            "serial_number": settings.identity[:25],
            "firmware_version": charger.firmware,
        }
        message = charger.message("BootNotification", {"charging_station": station, "reason": reason})
        message.then = lambda answer: charger.booted_with(answer.status, answer.interval)
        return message

    def heartbeat(self) -> Message:
        """Heartbeat."""
        return self._charger.message("Heartbeat", {})

    def status(self, outlet: Outlet | None) -> Message | None:
        """StatusNotification of an EVSE's connector; the charger as a whole has none."""
        if outlet is None:
            return None
        payload = {
            "timestamp": self._charger.stamp(),
            "connector_status": connector_status(outlet.status),
            "evse_id": outlet.number,
            "connector_id": 1,
        }
        return self._charger.message("StatusNotification", payload)

    def authorize(self, tag: str, then: Callable[[str], None]) -> Message:
        """Authorize."""
        message = self._charger.message("Authorize", {"id_token": _token(tag)})
        message.then = lambda answer: then("" if answer is None else answer.id_token_info["status"])
        return message

    def started(self, outlet: Outlet, running: Transaction) -> Message:
        """TransactionEvent Started."""
        running.id = str(uuid4())
        running.trigger = "RemoteStart" if running.remote_id is not None else "Authorized"
        event = self._event(outlet, running, "Started", running.trigger, "Transaction.Begin", ENERGY)
        event["id_token"] = _token(running.tag)
        if running.remote_id is not None:
            event["transaction_info"]["remote_start_id"] = running.remote_id
        if running.reservation is not None:
            event["reservation_id"] = running.reservation
        return self._charger.message("TransactionEvent", event, running)

    def changed(self, outlet: Outlet, running: Transaction, trigger: str) -> Message:
        """TransactionEvent Updated without meter values."""
        event = self._event(outlet, running, "Updated", trigger, "", "")
        return self._charger.message("TransactionEvent", event, running)

    def sampled(self, outlet: Outlet, running: Transaction, context: str) -> Message:
        """TransactionEvent Updated with meter values."""
        key = "MeterValuesAlignedData" if context == "Sample.Clock" else "MeterValuesSampledData"
        trigger = {"Sample.Clock": "MeterValueClock", "Trigger": "Trigger"}.get(context, "MeterValuePeriodic")
        measurands = self._charger.keys[key].value
        event = self._event(outlet, running, "Updated", trigger, context, measurands)
        return self._charger.message("TransactionEvent", event, running)

    def stopped(self, outlet: Outlet, running: Transaction) -> Message:
        """TransactionEvent Ended."""
        measurands = self._charger.keys["StopTxnSampledData"].value or ENERGY
        trigger = TRIGGERS.get(running.reason, "AbnormalCondition")
        event = self._event(outlet, running, "Ended", trigger, "Transaction.End", measurands)
        event["transaction_info"]["stopped_reason"] = REASONS.get(running.reason, "Other")
        if running.reason == "Local":
            event["id_token"] = _token(running.tag)
        return self._charger.message("TransactionEvent", event, running)

    def meter(self, outlet: Outlet, context: str) -> Message:
        """MeterValues outside a transaction."""
        key = "MeterValuesAlignedData" if context == "Sample.Clock" else "MeterValuesSampledData"
        values = self._values(outlet, self._charger.keys[key].value, context)
        meter = [{"timestamp": self._charger.stamp(), "sampled_value": values}]
        return self._charger.message("MeterValues", {"evse_id": outlet.number, "meter_value": meter})

    def answered(self, message: Message, answer: Answer) -> None:
        """End the transaction where the id token is refused (E05)."""
        told = answer.id_token_info
        number = message.transaction
        if told is not None and told["status"] != ACCEPTED and number is not None:
            self._charger.refuse_transaction(number)

    def _event(
        self, outlet: Outlet, running: Transaction, kind: str, trigger: str, context: str, measurands: str
    ) -> Payload:
        quirks = self._charger.quirks
        stamp = iso(running.start_us if kind == "Started" else running.last_us, quirks)
        event: Payload = {
            "event_type": kind,
            "timestamp": stamp,
            "trigger_reason": trigger,
            "seq_no": running.seq,
            "transaction_info": {"transaction_id": running.id, "charging_state": self._state(outlet)},
            "evse": {"id": outlet.number, "connector_id": 1},
        }
        running.seq += 1
        if not self._charger.online:
            event["offline"] = True
        values = self._values(outlet, measurands, context) if measurands else []
        if values:
            event["meter_value"] = [{"timestamp": stamp, "sampled_value": values}]
        return event

    def _state(self, outlet: Outlet) -> str:
        return "EVConnected" if outlet.evse.plugged and not outlet.evse.enabled else outlet.charging_state

    def _values(self, outlet: Outlet, measurands: str, context: str) -> list[Payload]:
        values = []
        for measurand, phase, number, unit in outlet.readings(measurands):
            if measurand == "Temperature":
                continue  # not a measurand of 2.0.1
            kwh = measurand == ENERGY and Quirk.KWH in self._charger.quirks
            value: Payload = {
                "value": number / 1000 if kwh else number,
                "context": context,
                "measurand": measurand,
                "location": "EV" if measurand == "SoC" else "Outlet",
            }
            if unit:
                value["unit_of_measure"] = {"unit": "kWh" if kwh else unit}
            if phase:
                value["phase"] = phase
            values.append(value)
        return values


def _token(tag: str) -> Payload:
    return {"id_token": tag, "type": "ISO14443"}
