"""OCPP 2.0.1 and 2.1: what charging stations send, as the records of ``ocpp_model``. Pure; never raises.

The rules of ``ocpp16`` hold here, too. Further ones:

1. 2.1 is read by the same functions: in these messages it only adds properties that we don't use, measurands (see
   ``ocpp_measurands``), triggers and stop reasons (kept as texts), and a location Upstream.
2. A payload of 1.6 on a connection of 2.x, which stations with an unfinished firmware send, is read as such.
3. ``seqNo`` -1: not told.
"""

from collections.abc import Mapping
from datetime import UTC, tzinfo

from agent.core.model import BadFrame
from drivers.codec import ocpp16
from drivers.codec.ocpp16 import status_word
from drivers.codec.ocpp_model import Boot, Meter, Status, TransactionEvent
from drivers.codec.ocpp_readings import samples
from drivers.codec.ocpp_values import QUOTED, Names, bad, flag, integer, outlet, positive, stamp, text

_BOOT = Names("chargingStation", "reason", "customData")
_STATION = Names("vendorName", "model", "serialNumber", "firmwareVersion", "modem", "customData")
_MODEM = Names("iccid", "imsi", "customData")
_STATUS = Names("evseId", "connectorId", "connectorStatus", "timestamp", "customData")
_METER = Names("evseId", "meterValue", "customData")
_EVENT = Names(
    "eventType", "timestamp", "triggerReason", "seqNo", "offline", "transactionInfo", "idToken", "evse", "meterValue",
    "reservationId", "transactionId", "customData", "numberOfPhasesUsed", "cableMaxCurrent",
)  # fmt: skip
_INFO = Names("transactionId", "chargingState", "stoppedReason", "remoteStartId", "timeSpentCharging", "customData")
_TOKEN = Names("idToken", "type", "additionalInfo", "customData")
_EVSE = Names("id", "connectorId", "customData")
_AUTHORIZE = Names("idToken", "idTag", "certificate", "iso15118CertificateHashData", "customData")
_NOTIFY = Names("eventData", "generatedAt", "seqNo", "tbc", "customData")
_CHANGE = Names("component", "variable", "actualValue", "timestamp")
_NAMED = Names("name", "instance", "evse", "customData")

_KINDS = {"started": "Started", "updated": "Updated", "ended": "Ended"}
_CHARGING_STATES = {one.casefold(): one for one in ("Charging", "EVConnected", "SuspendedEV", "SuspendedEVSE", "Idle")}
#: What a connector says that no transaction overrules.
_OUT_OF_ORDER = ("Faulted", "Unavailable")


def status_of(connector_status: str, charging_state: str = "", *, ended: bool = False) -> str | None:
    """The status of an outlet as a label of ``CHARGER_STATUS``, from what its connector and its transaction say.

    ``charging_state`` is that of the running transaction, empty when none runs. ``ended``: its charging has ended (the
    transaction, or what it was authorised for) and the vehicle was not seen to leave. After 2.0.1 part 2,
    ConnectorStatusEnumType and ChargingStateEnumType, in the words of 1.6, 4.9:

    =============  ===============================  ====================================
    connector      charging state                   status
    =============  ===============================  ====================================
    Faulted        any                              Faulted
    Unavailable    any                              Unavailable
    any other      Charging                         Charging
    any other      SuspendedEV, SuspendedEVSE       the same
    any other      EVConnected                      Preparing; ``ended``: Finishing
    any other      Idle                             Preparing: authorised, but no vehicle
    Occupied       none                             Preparing; ``ended``: Finishing
    Available      none, or Idle and ``ended``      Available
    Reserved       none, or Idle and ``ended``      Reserved
    =============  ===============================  ====================================

    A connector that says Available while a vehicle charges is overruled: some forget to say Occupied.
    """
    word = status_word(connector_status)
    state = _CHARGING_STATES.get(charging_state.casefold())
    if word in _OUT_OF_ORDER or (state == "Idle" and ended):
        return word
    if state is None:
        return "Finishing" if ended and word == "Preparing" else word
    if state == "EVConnected":
        return "Finishing" if ended else "Preparing"
    return "Preparing" if state == "Idle" else state


def boot(payload: object, zone: tzinfo = UTC) -> Boot | BadFrame:
    """BootNotification. Nothing in it is essential."""
    given = _BOOT.of(payload)
    if "chargingStation" not in given:
        return ocpp16.boot(payload, zone)
    station = _STATION.of(given["chargingStation"])
    modem = _MODEM.of(station.get("modem"))
    return Boot(
        text(station.get("vendorName")),
        text(station.get("model")),
        text(station.get("serialNumber")),
        text(station.get("firmwareVersion")),
        text(given.get("reason")),
        {key: told for key in ("iccid", "imsi") if (told := text(modem.get(key)))},
    )


def status(payload: object, zone: tzinfo = UTC) -> Status | BadFrame:
    """StatusNotification. Essential: connectorStatus. ``outlet`` is the EVSE."""
    given = _STATUS.of(payload)
    sent = text(given.get("connectorStatus"))
    if not sent:
        return ocpp16.status(payload, zone)
    connector = outlet(given.get("connectorId"))
    evse = outlet(given.get("evseId")) if "evseId" in given else connector
    return Status(evse, connector, status_word(sent), sent, time=stamp(given.get("timestamp"), zone))


def statuses(payload: object, zone: tzinfo = UTC) -> tuple[Status, ...]:
    """What a NotifyEvent says of connectors: a station may report AvailabilityState instead (use case G01)."""
    found = []
    sent = _NOTIFY.of(payload).get("eventData")
    for one in sent if isinstance(sent, list) else [sent]:
        change = _CHANGE.of(one)
        component, variable = _NAMED.of(change.get("component")), _NAMED.of(change.get("variable"))
        names = (text(component.get("name")).casefold(), text(variable.get("name")).casefold())
        word = text(change.get("actualValue"))
        if names != ("connector", "availabilitystate") or not word:
            continue
        evse = _EVSE.of(component.get("evse"))
        connector = outlet(evse.get("connectorId"))
        at = stamp(change.get("timestamp"), zone)
        found.append(Status(outlet(evse.get("id")), connector, status_word(word), word, time=at))
    return tuple(found)


def meter(payload: object, zone: tzinfo = UTC) -> Meter | BadFrame:
    """MeterValues: what was measured outside transactions. Essential: meterValue, which may be empty."""
    given = _METER.of(payload)
    sent = given.get("meterValue")
    if "evseId" not in given or not isinstance(sent, list | dict):
        return ocpp16.meter(payload, zone)
    return Meter(outlet(given["evseId"]), samples(sent, zone))


def transaction_event(payload: object, zone: tzinfo = UTC) -> TransactionEvent | BadFrame:
    """TransactionEvent. Essential: eventType and transactionId."""
    given = _EVENT.of(payload)
    info = _INFO.of(given.get("transactionInfo"))
    transaction = text(info.get("transactionId")) or text(given.get("transactionId"))
    if not transaction:
        return bad("missing_transaction", payload)
    kind = _KINDS.get(text(given.get("eventType")).casefold())
    if kind is None:
        return bad("unknown_event", payload)
    seq_no = integer(given.get("seqNo"))
    evse, connector = _place(given.get("evse"))
    tag, tag_type = _token(given.get("idToken"))
    reason = text(info.get("stoppedReason")).strip(QUOTED)
    return TransactionEvent(
        kind,
        transaction,
        -1 if seq_no is None or seq_no < 0 else seq_no,
        stamp(given.get("timestamp"), zone),
        text(given.get("triggerReason")),
        evse,
        connector,
        tag,
        tag_type,
        _state(info.get("chargingState")),
        reason or ("Local" if kind == "Ended" else ""),  # TransactionType: left out, it is Local
        flag(given.get("offline")),
        integer(info.get("remoteStartId")),
        positive(given.get("reservationId")),
        samples(given.get("meterValue"), zone),
    )


def authorize(payload: object, zone: tzinfo = UTC) -> str | BadFrame:  # noqa: ARG001 - all take a zone
    """Authorize: the id token, which is essential."""
    given = _AUTHORIZE.of(payload)
    return _token(given.get("idToken"))[0] or text(given.get("idTag")) or bad("missing_id_tag", payload)


def _state(value: object) -> str:
    sent = text(value)
    return _CHARGING_STATES.get(sent.casefold(), sent)


def _token(value: object) -> tuple[str, str]:
    """Id and type of an idToken, which may be the mere id."""
    if not isinstance(value, Mapping):
        return text(value), ""
    token = _TOKEN.of(value)
    return text(token.get("idToken")), text(token.get("type"))


def _place(value: object) -> tuple[int | None, int | None]:
    """EVSE and connector of an evse, which may be the mere number."""
    if not isinstance(value, Mapping):
        return positive(value), None
    evse = _EVSE.of(value)
    return positive(evse.get("id")), positive(evse.get("connectorId"))
