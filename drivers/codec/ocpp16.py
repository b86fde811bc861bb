"""OCPP 1.6 edition 2: what chargers send, as the records of ``ocpp_model``. Pure; never raises.

Each function takes a payload and the zone of times without one, and gives the record, or a ``BadFrame`` where the
essential is missing. Rules of this file:

1. What is not needed may be missing, null, empty, of another type or not in the enumeration; it is kept as sent.
2. Unknown properties are ignored, texts that are too long are kept whole.
3. A connector that is not told is 0: the charger as a whole, which is the same where there is one connector.
"""

from datetime import UTC, tzinfo

from agent.core.model import BadFrame
from agent.core.points import CHARGER_STATUS
from drivers.codec.ocpp_model import Boot, Meter, Start, Status, Stop
from drivers.codec.ocpp_readings import samples
from drivers.codec.ocpp_values import QUOTED, Names, bad, integer, number, outlet, positive, stamp, text

_BOOT = Names(
    "chargePointVendor", "chargePointModel", "chargePointSerialNumber", "chargeBoxSerialNumber", "firmwareVersion",
    "iccid", "imsi", "meterType", "meterSerialNumber",
)  # fmt: skip
_DETAILS = ("chargeBoxSerialNumber", "iccid", "imsi", "meterType", "meterSerialNumber")
_STATUS = Names("connectorId", "status", "errorCode", "vendorErrorCode", "vendorId", "info", "timestamp")
_METER = Names("connectorId", "transactionId", "meterValue")
_START = Names("connectorId", "idTag", "meterStart", "timestamp", "reservationId")
_STOP = Names("transactionId", "meterStop", "timestamp", "reason", "idTag", "transactionData")
_AUTHORIZE = Names("idTag")

#: Letters of a status -> the status: case and what stands between words do not matter.
_WORDS = {word.casefold(): word for word in CHARGER_STATUS}
#: The one status of OCPP 1.5 and 2.x for all in which a vehicle is there.
_OCCUPIED = "occupied"


def status_word(sent: str) -> str | None:
    """A label of ``CHARGER_STATUS`` for a status text (7.7 ChargePointStatus); None: not understood.

    Occupied, which is no status of 1.6, only says that a vehicle is there: Preparing.
    """
    letters = "".join(filter(str.isalpha, sent)).casefold() if len(sent) <= 64 else ""  # noqa: PLR2004 - no word is
    return "Preparing" if letters == _OCCUPIED else _WORDS.get(letters)


def boot(payload: object, zone: tzinfo = UTC) -> Boot | BadFrame:  # noqa: ARG001 - all take a zone
    """BootNotification (6.3). Nothing in it is essential: a charger that says nothing of itself has booted, too."""
    given = _BOOT.of(payload)
    box = text(given.get("chargeBoxSerialNumber"))  # deprecated, but some send no other
    return Boot(
        text(given.get("chargePointVendor")),
        text(given.get("chargePointModel")),
        text(given.get("chargePointSerialNumber")) or box,
        text(given.get("firmwareVersion")),
        details={key: told for key in _DETAILS if (told := text(given.get(key)))},
    )


def status(payload: object, zone: tzinfo = UTC) -> Status | BadFrame:
    """StatusNotification (6.47). Essential: status or errorCode."""
    given = _STATUS.of(payload)
    sent, error = text(given.get("status")), text(given.get("errorCode"))
    if not sent and not error:
        return bad("missing_status", payload)
    connector = outlet(given.get("connectorId"))
    return Status(
        connector,
        connector,
        status_word(sent),
        sent,
        "" if error.casefold() == "noerror" else error,
        text(given.get("vendorErrorCode")),
        text(given.get("info")),
        stamp(given.get("timestamp"), zone),
    )


def meter(payload: object, zone: tzinfo = UTC) -> Meter | BadFrame:
    """MeterValues (6.31). Essential: meterValue, which may be empty."""
    given = _METER.of(payload)
    sent = given.get("meterValue")
    if not isinstance(sent, list | dict):
        return bad("missing_meter_value", payload)
    return Meter(outlet(given.get("connectorId")), samples(sent, zone), integer(given.get("transactionId")))


def start(payload: object, zone: tzinfo = UTC) -> Start | BadFrame:
    """StartTransaction (6.45). Essential: a connector or an id tag."""
    given = _START.of(payload)
    connector, tag = outlet(given.get("connectorId")), text(given.get("idTag"))
    if not connector and not tag:
        return bad("missing_connector", payload)
    return Start(
        connector,
        tag,
        number(given.get("meterStart")),
        stamp(given.get("timestamp"), zone),
        positive(given.get("reservationId")),
    )


def stop(payload: object, zone: tzinfo = UTC) -> Stop | BadFrame:
    """StopTransaction (6.49). Essential: a transaction, or a register to end the running one with."""
    given = _STOP.of(payload)
    transaction, register = integer(given.get("transactionId")), number(given.get("meterStop"))
    if transaction is None and register is None:
        return bad("missing_transaction", payload)
    return Stop(
        transaction,
        register,
        stamp(given.get("timestamp"), zone),
        text(given.get("reason")).strip(QUOTED) or "Local",  # what its absence means
        text(given.get("idTag")),
        samples(given.get("transactionData"), zone),
    )


def authorize(payload: object, zone: tzinfo = UTC) -> str | BadFrame:  # noqa: ARG001
    """Authorize (6.1): the id tag, which is essential."""
    return text(_AUTHORIZE.of(payload).get("idTag")) or bad("missing_id_tag", payload)
