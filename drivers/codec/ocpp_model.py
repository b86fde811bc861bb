"""What chargers say, in one vocabulary over all versions: the codecs make these of payloads, the station reads them.

Rules of this file:

1. Outlet = EVSE: 1.6's connectorId and 2.0.1's evse.id. 0 is the charger as a whole.
2. Texts of the charger are kept as sent; what we understand of them stands beside. What is not told is None or empty.
3. Energies are Wh, powers W, currents A: the codecs have applied unit and multiplier, exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.model import Number


class Version(StrEnum):
    """OCPP-J versions by their WebSocket subprotocol (OCPP-J 1.6 5.; part 4 of 2.0.1, 3.)."""

    V16 = "ocpp1.6"
    V201 = "ocpp2.0.1"
    V21 = "ocpp2.1"

    @property
    def two(self) -> bool:
        """Whether it is of the 2.x family."""
        return self is not Version.V16


class TimeQuality(StrEnum):
    """How far a charger's timestamp can be believed."""

    GOOD = "good"
    NO_ZONE = "no_zone"  #: no offset: taken as UTC, or as the zone that the site says
    UNSET = "unset"  #: before 2015: its clock was never set
    SKEWED = "skewed"  #: far from when it arrived, though nothing was queued
    MISSING = "missing"  #: none, or none that can be read


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time as the charger told it: µs UTC (None: not usable), how good it is, and its own text."""

    t_us: int | None
    quality: TimeQuality = TimeQuality.GOOD
    text: str = ""


@dataclass(frozen=True, slots=True)
class Boot:
    """BootNotification."""

    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""
    reason: str = ""  #: 2.0.1 BootReasonEnum
    details: Mapping[str, str] = field(default_factory=dict)  #: the rest: iccid, meter type and serial, …


@dataclass(frozen=True, slots=True)
class Status:
    """StatusNotification. ``status`` is a label of ``agent.core.points.CHARGER_STATUS``, or None: not understood.

    A 2.x connector only says Occupied: then ``status`` is Preparing, and the transaction's state says more.
    """

    outlet: int
    connector: int
    status: str | None
    text: str  #: as sent
    error: str = ""  #: errorCode as sent; empty for NoError
    vendor_error: str = ""
    info: str = ""
    time: Stamp = Stamp(None, TimeQuality.MISSING)


@dataclass(frozen=True, slots=True)
class Reading:
    """One sampledValue. ``point`` is ours (None: no point of ours), ``value`` in its unit (None: not a number)."""

    measurand: str
    point: str | None
    value: Number | None
    text: str  #: the value as sent; of signed data all of it, byte for byte
    unit: str = ""  #: as sent
    phase: str = ""
    context: str = "Sample.Periodic"
    location: str = "Outlet"
    signed: bool = False
    step: Number = 1  #: of an energy: what its last digit is worth, Wh


@dataclass(frozen=True, slots=True)
class Sample:
    """One meterValue: what was read at one time."""

    time: Stamp
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Meter:
    """MeterValues: samples of an outlet. ``transaction`` is 1.6's transactionId as sent, None where there is none."""

    outlet: int
    samples: tuple[Sample, ...]
    transaction: int | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """1.6 StartTransaction."""

    outlet: int
    id_tag: str
    meter_wh: Number | None
    time: Stamp
    reservation: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """1.6 StopTransaction. ``transaction`` as sent: it may be one that we never gave."""

    transaction: int | None
    meter_wh: Number | None
    time: Stamp
    reason: str = "Local"
    id_tag: str = ""
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class TransactionEvent:
    """2.x TransactionEvent. ``kind`` is Started, Updated or Ended."""

    kind: str
    transaction: str
    seq_no: int
    time: Stamp
    trigger: str = ""
    outlet: int | None = None
    connector: int | None = None
    id_tag: str = ""
    id_type: str = ""  #: 2.x IdTokenEnum
    charging_state: str = ""
    reason: str = ""
    offline: bool = False
    remote_start_id: int | None = None
    reservation: int | None = None
    samples: tuple[Sample, ...] = ()


class Verdict(StrEnum):
    """Whether somebody may charge: the words that both versions share (1.6 AuthorizationStatus)."""

    ACCEPTED = "Accepted"
    BLOCKED = "Blocked"
    EXPIRED = "Expired"
    INVALID = "Invalid"
    CONCURRENT = "ConcurrentTx"


class Entry(StrEnum):
    """How a charger stands with us."""

    ADOPTED = "adopted"  #: configured: it is served
    PENDING = "pending"  #: unknown: kept waiting, shown for adoption
    REFUSED = "refused"  #: not let in
