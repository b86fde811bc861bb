"""A charger for benchmarks: what it says, without a connection. Lighter than the simulators, so that it costs little.

It begins with its boot and a status, and then repeats a short session: started, ``SAMPLES`` meter values of eight
readings each, a heartbeat now and then, stopped. ``short``: only heartbeats and statuses. What it is asked at set-up is
accepted; the rest it does not know.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

SAMPLES = 40
HEARTBEAT_EACH = 7
SUBPROTOCOLS = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1"}
_MEASURANDS = "Energy.Active.Import.Register,Power.Active.Import,Current.Import,Voltage,Current.Offered,SoC,Temperature"
_KEYS = {
    "MeterValueSampleInterval": "10",
    "HeartbeatInterval": "60",
    "WebSocketPingInterval": "30",
    "NumberOfConnectors": "1",
    "ChargeProfileMaxStackLevel": "8",
    "ChargingScheduleAllowedChargingRateUnit": "Current",
    "ChargingScheduleMaxPeriods": "24",
    "MeterValuesSampledData": _MEASURANDS,
}

Payload = Mapping[str, Any]


class Script:
    """What one charger says, frame by frame, and what it answers."""

    def __init__(self, identity: str, version: str, number: int = 0, *, short: bool = False) -> None:
        self.identity = identity
        self.version = version
        self.accepted = False
        self.answered = 0
        self._ids = count(1)
        self._transaction: object = 0
        self._begun = count(number * 1_000_000 + 1)
        self._wh = 1_000 * number
        self._samples = 0
        self._short = short
        self._steps = self._endless()

    def again(self) -> None:
        """It connects anew: everything from its boot on."""
        self.accepted = False
        self._steps = self._endless()

    def next(self) -> str:
        """The next frame."""
        return next(self._steps)

    def heartbeat(self) -> str:
        """A frame."""
        return self._call("Heartbeat", {})

    def sample(self) -> str:
        """The values of now: 1.6 MeterValues, 2.0.1 TransactionEvent."""
        return self._sample16() if self.version == "1.6" else self._event("Updated", "MeterValuePeriodic")

    def start(self) -> str:
        """A frame: a transaction begins."""
        if self.version == "1.6":
            body = {"connectorId": 1, "idTag": "BENCH", "meterStart": self._wh, "timestamp": _now()}
            return self._call("StartTransaction", body)
        self._transaction, self._seq = f"{self.identity}-{next(self._begun)}", count()
        return self._event("Started", "Authorized", {"idToken": {"idToken": "BENCH", "type": "ISO14443"}})

    def hear(self, text: str | bytes) -> str | None:
        """Take a frame; what is to be sent back for it, where it is a question."""
        frame = json.loads(text)
        if frame[0] == 2:  # noqa: PLR2004 - CALL
            answer = self._answer(frame[2], frame[3])
            if answer is None:
                return json.dumps([4, frame[1], "NotImplemented", "", {}])
            return json.dumps([3, frame[1], answer])
        if frame[0] != 3:  # noqa: PLR2004 - CALLRESULT
            raise SystemExit(f"bench: {self.identity} got {text!r}")
        self.answered += 1
        if "transactionId" in frame[2]:
            self._transaction = frame[2]["transactionId"]
        self.accepted = self.accepted or frame[2].get("status") == "Accepted"
        return None

    def boot(self) -> str:
        """A frame."""
        if self.version == "1.6":
            return self._call("BootNotification", {"chargePointVendor": "Bench", "chargePointModel": "Light"})
        return self._call(
            "BootNotification",
            {"reason": "PowerUp", "chargingStation": {"vendorName": "Bench", "model": "Light"}},
        )

    def status(self, status: str) -> str:
        """A frame; the status is one of 1.6's."""
        if self.version == "1.6":
            body = {"connectorId": 1, "errorCode": "NoError", "status": status, "timestamp": _now()}
        else:
            status = "Available" if status == "Available" else "Occupied"
            body = {"timestamp": _now(), "connectorStatus": status, "evseId": 1, "connectorId": 1}
        return self._call("StatusNotification", body)

    def _endless(self) -> Iterator[str]:
        yield self.boot()
        yield self.status("Available")
        while self._short:
            yield self.heartbeat()
            yield self.status("Available")
        while True:
            yield self.status("Preparing")
            yield self.start()
            yield self.status("Charging")
            for number in range(SAMPLES):
                yield self.sample()
                if number % HEARTBEAT_EACH == 0:
                    yield self.heartbeat()
            if self.version == "1.6":
                body = {"transactionId": self._transaction, "meterStop": self._wh, "timestamp": _now()}
                yield self._call("StopTransaction", body)
            else:
                yield self._event("Ended", "StopAuthorized")
            yield self.status("Finishing")
            yield self.status("Available")

    def _call(self, action: str, payload: Payload) -> str:
        return json.dumps([2, f"{self.identity}-{next(self._ids)}", action, payload])

    def _values(self) -> list[dict[str, Any]]:
        """Eight readings, which change each time."""
        self._samples += 1
        step = self._samples % 100
        self._wh += 30
        two = self.version != "1.6"
        rows: list[tuple[str, str, str, float]] = [
            ("Energy.Active.Import.Register", "", "Wh", self._wh),
            ("Power.Active.Import", "", "W", 10_800 + step),
            *(("Current.Import", f"L{phase}", "A", 15.5 + step / 200) for phase in (1, 2, 3)),
            *(("Voltage", f"L{phase}-N", "V", 229 + step / 50) for phase in (1, 2, 3)),
        ]
        return [
            ({"value": value} if two else {"value": str(value)})
            | {"measurand": measurand, "context": "Sample.Periodic"}
            | ({"phase": phase} if phase else {})
            | ({"unitOfMeasure": {"unit": unit}} if two else {"unit": unit})
            for measurand, phase, unit, value in rows
        ]

    def _sample16(self) -> str:
        values = [{"timestamp": _now(), "sampledValue": self._values()}]
        body = {"connectorId": 1, "transactionId": self._transaction, "meterValue": values}
        return self._call("MeterValues", body)

    def _event(self, kind: str, trigger: str, more: Payload | None = None) -> str:
        at = _now()
        body = {
            "eventType": kind,
            "timestamp": at,
            "triggerReason": trigger,
            "seqNo": next(self._seq),
            "transactionInfo": {"transactionId": self._transaction, "chargingState": "Charging"},
            "evse": {"id": 1, "connectorId": 1},
            "meterValue": [{"timestamp": at, "sampledValue": self._values()}],
        }
        return self._call("TransactionEvent", body | dict(more or {}))

    def _answer(self, action: str, payload: Payload) -> Payload | None:
        if action == "GetConfiguration":
            return {
                "configurationKey": [{"key": key, "readonly": False, "value": value} for key, value in _KEYS.items()]
            }
        if action == "GetVariables":
            return {"getVariableResult": [_variable(one, "UnknownVariable") for one in payload["getVariableData"]]}
        if action == "SetVariables":
            return {"setVariableResult": [_variable(one, "Accepted") for one in payload["setVariableData"]]}
        if action in {"SetChargingProfile", "ChangeConfiguration", "TriggerMessage", "ClearChargingProfile"}:
            return {"status": "Accepted"}
        return None


def _variable(asked: Payload, status: str) -> dict[str, Any]:
    return {"attributeStatus": status, "component": asked["component"], "variable": asked["variable"]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
