"""What a charger asks in OCPP 1.6 (edition 2, 4.; security extension edition 3, 5.): action -> handler."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from agent.core.model import BadFrame
from drivers.codec import ocpp16
from drivers.codec.ocpp_model import Verdict
from drivers.codec.ocpp_values import wire_time
from drivers.ocpp import transactions16
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
from drivers.ocpp.ports import Call, Payload
from drivers.ocpp.readings import taken
from drivers.ocpp.transactions import clean

#: CiString20: a longer parent can't be told.
_MAX_TAG = 20


async def _boot(station: Station, call: Call) -> Payload:
    return await boot_answered(station, ocpp16.boot(call.payload, station.zone))


async def _status(station: Station, call: Call) -> Payload:
    status = ocpp16.status(call.payload, station.zone)
    if isinstance(status, BadFrame):
        station.count(f"bad.{status.reason}")
    else:
        station.status_told(status)
    return {}


async def _authorize(station: Station, call: Call) -> Payload:
    tag = ocpp16.authorize(call.payload, station.zone)
    if isinstance(tag, BadFrame):
        station.count(f"bad.{tag.reason}")
        return {"idTagInfo": {"status": str(Verdict.INVALID)}}
    verdict = await authorised(station, clean(tag))
    return {"idTagInfo": _info(station, clean(tag), verdict)}


async def _start(station: Station, call: Call) -> Payload:
    start = ocpp16.start(call.payload, station.zone)
    if isinstance(start, BadFrame):
        await unprocessed(station, call, start)
        return {"idTagInfo": {"status": str(Verdict.INVALID)}, "transactionId": 0}
    when = station.times.judge(start.time)
    if when.live:
        await station.ready()
    begun = await station.book.durably(partial(transactions16.start, station.book, start, when))
    return {"idTagInfo": _info(station, clean(start.id_tag), begun.verdict), "transactionId": begun.number}


async def _stop(station: Station, call: Call) -> Payload:
    stop = ocpp16.stop(call.payload, station.zone)
    if isinstance(stop, BadFrame):
        await unprocessed(station, call, stop)
    else:
        when, samples = station.times.judge(stop.time), taken(stop.samples, station.times, station.book.settings.phases)
        await station.book.durably(partial(transactions16.stop, station.book, stop, when, samples))
    return {"idTagInfo": {"status": str(Verdict.ACCEPTED)}}


async def _meter(station: Station, call: Call) -> Payload:
    meter = ocpp16.meter(call.payload, station.zone)
    if isinstance(meter, BadFrame):
        station.count(f"bad.{meter.reason}")
        return {}
    samples, outlet = taken(meter.samples, station.times, station.book.settings.phases), meter.outlet
    if meter.transaction is not None:
        outlet = station.book.outlet(outlet)
        station.heard_of(outlet)
    await measured(station, outlet, samples)
    if outlet:
        work = partial(transactions16.values, station.book, outlet, meter.transaction, samples)
        await station.book.durably(work)
    return {}


def _info(station: Station, tag: str, verdict: Verdict) -> dict[str, object]:
    """IdTagInfo (7.27): the expiry is that of the tag, so that no cache outlives it."""
    known, info = station.book.id_tags.info(tag), {"status": str(verdict)}
    if known.until_us is not None:
        info["expiryDate"] = wire_time(known.until_us)
    if 0 < len(known.parent) <= _MAX_TAG:
        info["parentIdTag"] = known.parent
    return dict(info)


HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "BootNotification": _boot,
        "Heartbeat": heartbeat,
        "StatusNotification": _status,
        "Authorize": _authorize,
        "StartTransaction": _start,
        "StopTransaction": _stop,
        "MeterValues": _meter,
        "DataTransfer": constant({"status": "UnknownVendorId"}),
        "FirmwareStatusNotification": constant({}, "charger.firmware", "status"),
        "SignedFirmwareStatusNotification": constant({}, "charger.firmware", "status", "requestId"),
        "DiagnosticsStatusNotification": constant({}, "charger.log", "status"),
        "LogStatusNotification": constant({}, "charger.log", "status", "requestId"),
        "SecurityEventNotification": constant({}, "charger.security", "type", "timestamp", "techInfo"),
        "SignCertificate": sign,
    }
)
