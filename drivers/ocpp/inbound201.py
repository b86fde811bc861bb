"""What a charger asks in OCPP 2.0.1 (part 2, 1.) and 2.1: action -> handler.

Some chargers send messages of 1.6 on such a connection (FoxESS): those are known by their members, for both versions
name them differently.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from agent.core.model import BadFrame
from drivers.codec import ocpp201
from drivers.codec.ocpp_model import Verdict
from drivers.codec.ocpp_values import wire_time
from drivers.ocpp import inbound16, transactions16, transactions201
from drivers.ocpp.id_tags import NOBODY, OURS
from drivers.ocpp.inbound import (
    Handler,
    Station,
    authorised,
    boot_answered,
    constant,
    heartbeat,
    measured,
    sign,
    unprocessed,
)
from drivers.ocpp.ports import Call, Fault, Payload
from drivers.ocpp.readings import taken
from drivers.ocpp.transactions import clean

#: Action -> the members by which its forms of 1.6 and 2.x are known. A member that nobody needs may have any name.
_OF_16 = MappingProxyType(
    {
        "BootNotification": ("chargePointVendor", "chargingStation"),
        "StatusNotification": ("status", "connectorStatus"),
        "MeterValues": ("connectorId", "evseId"),
    }
)
_ONLY_16 = frozenset({"StartTransaction", "StopTransaction"})
_MAX_TAG = 36
#: TriggerReasonEnumType -> whether the vehicle only waits to be unplugged from here on.
_STOPPED = MappingProxyType(
    {"StopAuthorized": True, "Deauthorized": True, "RemoteStop": True, "Authorized": False, "RemoteStart": False}
)


def handler(call: Call) -> Handler | None:
    """Who answers this call; None: nobody knows such an action."""
    old, new = _OF_16.get(call.action, ("", ""))
    if call.action in _ONLY_16 or (old in call.payload and new not in call.payload):
        return inbound16.HANDLERS[call.action]
    return HANDLERS.get(call.action)


async def _boot(station: Station, call: Call) -> Payload:
    return await boot_answered(station, ocpp201.boot(call.payload, station.zone))


async def _status(station: Station, call: Call) -> Payload:
    status = ocpp201.status(call.payload, station.zone)
    if isinstance(status, BadFrame):
        station.count(f"bad.{status.reason}")
    else:
        station.status_told(status)
    return {}


async def _authorize(station: Station, call: Call) -> Payload:
    told = call.payload.get("idToken")
    kind = told.get("type") if isinstance(told, Mapping) else None
    tag = ocpp201.authorize(call.payload, station.zone)
    if isinstance(tag, BadFrame):
        if kind != NOBODY:
            station.count(f"bad.{tag.reason}")
            return {"idTokenInfo": {"status": str(Verdict.INVALID)}}
        tag = ""
    verdict = await authorised(station, clean(tag), kind if isinstance(kind, str) else "")
    return {"idTokenInfo": _info(station, clean(tag), verdict)}


async def _event(station: Station, call: Call) -> Payload:
    event = ocpp201.transaction_event(call.payload, station.zone)
    if isinstance(event, BadFrame):
        await unprocessed(station, call, event)
        return {}
    times, phases, queued = station.times, station.book.settings.phases, event.offline
    when, samples = times.judge(event.time, queued=queued), taken(event.samples, times, phases, queued=queued)
    if when.live and event.kind == transactions201.STARTED:
        await station.ready()
    heard = await station.book.durably(partial(transactions201.event, station.book, event, when, samples))
    if when.live:
        station.heard_of(heard.outlet)
    if heard.outlet and when.live:
        if event.kind == transactions201.ENDED:
            station.state_told(heard.outlet, "")
        elif event.charging_state:
            station.state_told(heard.outlet, event.charging_state, stopped=_STOPPED.get(event.trigger))
        await measured(station, heard.outlet, samples)
    return {} if heard.verdict is None else {"idTokenInfo": _info(station, clean(event.id_tag), heard.verdict)}


async def _meter(station: Station, call: Call) -> Payload:
    meter = ocpp201.meter(call.payload, station.zone)
    if isinstance(meter, BadFrame):
        station.count(f"bad.{meter.reason}")
        return {}
    samples = taken(meter.samples, station.times, station.book.settings.phases)
    await measured(station, meter.outlet, samples)
    if meter.outlet:
        # No transaction stands in it: it is that of the outlet, where one runs.
        await station.book.durably(partial(transactions16.values, station.book, meter.outlet, None, samples))
    return {}


async def _notify_event(station: Station, call: Call) -> Payload:
    """NotifyEvent: it may stand for StatusNotification (G01)."""
    station.reported(call)
    for status in ocpp201.statuses(call.payload, station.zone):
        station.status_told(status)
    return {}


async def _chain_status(station: Station, call: Call) -> Payload | Fault:
    """GetCertificateChainStatus (2.1): nothing is known of any of them."""
    asked = call.payload.get("certificateStatusRequests")
    now = wire_time(station.now_us())
    answers = [
        {
            "certificateHashData": one["certificateHashData"],
            "source": one["source"],
            "status": "Failed",
            "nextUpdate": now,
        }
        for one in (asked if isinstance(asked, list) else ())
        if isinstance(one, Mapping) and "certificateHashData" in one and "source" in one
    ]
    return {"certificateStatus": answers} if answers else Fault("FormationViolation", "no certificates")


async def _vat_number(station: Station, call: Call) -> Payload:  # noqa: ARG001 - a handler
    """VatNumberValidation (2.1): we can't look any up."""
    return {"status": "Rejected", "vatNumber": str(call.payload.get("vatNumber", ""))[:20]}


def _info(station: Station, tag: str, verdict: Verdict) -> dict[str, object]:
    """IdTokenInfoType: the expiry is that of the token, so that no cache outlives it."""
    known = station.book.id_tags.info(tag)
    info: dict[str, object] = {"status": str(verdict)}
    if known.until_us is not None:
        info["cacheExpiryDateTime"] = wire_time(known.until_us)
    if 0 < len(known.parent) <= _MAX_TAG:
        info["groupIdToken"] = {"idToken": known.parent, "type": OURS}
    return info


_NOTHING = constant({})
_REJECTED = constant({"status": "Rejected"})

HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "BootNotification": _boot,
        "Heartbeat": heartbeat,
        "StatusNotification": _status,
        "Authorize": _authorize,
        "TransactionEvent": _event,
        "MeterValues": _meter,
        "DataTransfer": constant({"status": "UnknownVendorId"}),
        "FirmwareStatusNotification": constant({}, "charger.firmware", "status", "requestId"),
        "PublishFirmwareStatusNotification": constant({}, "charger.firmware", "status", "requestId"),
        "LogStatusNotification": constant({}, "charger.log", "status", "requestId"),
        "SecurityEventNotification": constant({}, "charger.security", "type", "timestamp", "techInfo"),
        "NotifyEvent": _notify_event,
        "NotifyChargingLimit": constant({}, "charger.limited", "evseId", "chargingLimit"),
        "ClearedChargingLimit": constant({}, "charger.limited", "evseId", "chargingLimitSource"),
        "NotifyEVChargingNeeds": _REJECTED,
        "NotifyEVChargingSchedule": constant({"status": "Accepted"}),
        "SignCertificate": sign,
        "Get15118EVCertificate": constant({"status": "Failed", "exiResponse": ""}),
        "GetCertificateStatus": constant({"status": "Failed"}),
        **dict.fromkeys(
            (
                "NotifyReport",
                "NotifyCustomerInformation",
                "NotifyMonitoringReport",
                "NotifyDisplayMessages",
                "ReportChargingProfiles",
                "ReservationStatusUpdate",
                # 2.1
                "BatterySwap",
                "ClosePeriodicEventStream",
                "NotifyDERAlarm",
                "NotifyDERStartStop",
                "NotifyPeriodicEventStream",
                "NotifyPriorityCharging",
                "NotifySettlement",
                "NotifyWebPaymentStarted",
                "ReportDERControl",
            ),
            _NOTHING,
        ),
        "OpenPeriodicEventStream": _REJECTED,
        "PullDynamicScheduleUpdate": _REJECTED,
        "GetCertificateChainStatus": _chain_status,
        "VatNumberValidation": _vat_number,
    }
)
