"""What a simulated OCPP charger consists of, in both versions: settings, keys, outlets, transactions, messages, faults.

Energies are whole Wh: what is reported is what is kept, so the sum of sessions can be held against it exactly.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from drivers.sim.evse import Evse, Pilot

Payload = dict[str, Any]
ENERGY = "Energy.Active.Import.Register"
#: What this charger can measure.
MEASURANDS = (
    ENERGY,
    "Power.Active.Import",
    "Current.Import",
    "Voltage",
    "Current.Offered",
    "Power.Offered",
    "SoC",
    "Temperature",
    "Frequency",
)
#: The battery of each vehicle, and how full it comes.
BATTERY_WH, COMES_PCT = 60_000.0, 35.0


class Quirk(StrEnum):
    """Bad manners that real chargers have. ``NAME`` or ``NAME=VALUE`` on the command line."""

    METER_OBJECT = "meter-object"  #: 1.6: meterValue is an object instead of an array
    KWH = "kwh"  #: registers in kWh
    NO_ZONE = "no-zone"  #: times without a zone
    CLOCK_UNSET = "clock-unset"  #: it is 1970 until a BootNotification was accepted
    MUTE = "mute"  #: answers nothing that it is asked
    REFUSES = "refuses"  #: rejects to start, to stop, to be limited, switched off or reset
    IGNORES_LIMITS = "ignores-limits"  #: accepts charging profiles and draws what it likes
    REBOOTS_ON = "reboots-on"  #: =MEASURAND: accepts it, and reboots as soon as it has to be sampled
    TWO_SOCKETS = "two-sockets"  #: =S: dials again after so many seconds and leaves the old connection open
    NO_BOOT = "no-boot"  #: no BootNotification when it connects again
    NO_STOP = "no-stop"  #: 1.6: never sends StopTransaction
    DOUBLE_START = "double-start"  #: 1.6: sends each StartTransaction again, though it was answered
    GARBAGE = "garbage"  #: sends a broken frame after each tenth
    BACKLOG = "backlog"  #: =N: begins with so many messages of transactions made offline
    DROPS = "drops"  #: =S: loses its connection each time a transaction has run for so many seconds
    HALF_OPEN = "half-open"  #: =S: after so many seconds it neither reads nor writes, and keeps the connection open


def parse_quirk(text: str) -> tuple[Quirk, str]:
    """``NAME`` or ``NAME=VALUE``. Raises ``argparse.ArgumentTypeError``."""
    name, _, value = text.partition("=")
    try:
        return Quirk(name), value
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: write one of {', '.join(Quirk)}") from error


@dataclass(frozen=True, slots=True)
class SimSettings:
    """One simulated charger. ``url`` ends with its identity; ``tag`` starts a transaction when a vehicle comes."""

    url: str
    version: str = "1.6"
    outlets: int = 1
    phases: int = 3
    max_a: float = 32.0
    tag: str | None = None
    password: bytes | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    state_file: Path | None = None
    seed: int = 1
    pace: float = 1.0  #: vehicles come and go so many times as fast; 0: none comes by itself
    vendor: str = "Enlace"
    model: str = "Sim"
    firmware: str = "1.0"
    quirks: Mapping[Quirk, str] = field(default_factory=dict)
    backoff_s: tuple[float, float] = (1.0, 30.0)  #: first and longest pause before it dials again
    reboot_s: float = 2.0
    tick_s: float = 0.5
    timeout_s: float = 30.0  #: how long it waits for an answer, in real time

    @property
    def identity(self) -> str:
        """The last part of its URL."""
        return self.url.rstrip("/").rpartition("/")[2]


@dataclass(slots=True)
class Key:
    """A configuration key (1.6 edition 2, 9.): ``kind`` says what it takes. Who may only write never reads it back."""

    value: str
    kind: str = "int"
    writable: bool = True
    readable: bool = True

    def takes(self, value: str) -> bool:
        """Whether that is a value for it."""
        if self.kind == "int":
            return value.isdecimal()
        if self.kind == "bool":
            return value.lower() in {"true", "false"}
        if self.kind == "measurands":
            return all(name in MEASURANDS for name in value.split(",") if name)
        return True


def standard_keys(settings: SimSettings) -> dict[str, Key]:
    """The keys of 1.6 with its profiles and security extension; 2.0.1's variables are other names of these."""
    fixed = {
        "GetConfigurationMaxKeys": "50",
        "MeterValuesSampledDataMaxLength": str(len(MEASURANDS)),
        "NumberOfConnectors": str(settings.outlets),
        "SupportedFeatureProfiles": "Core,FirmwareManagement,LocalAuthListManagement,Reservation,SmartCharging,"
        "RemoteTrigger",
        "LocalAuthListMaxLength": "1000",
        "SendLocalListMaxLength": "100",
        "ChargeProfileMaxStackLevel": "8",
        "ChargingScheduleAllowedChargingRateUnit": "Current,Power",
        "ChargingScheduleMaxPeriods": "48",
        "MaxChargingProfilesInstalled": "20",
        "ReserveConnectorZeroSupported": "false",
        "SecurityProfile": "2" if settings.url.startswith("wss") else "1" if settings.password else "0",
    }
    numbers = {
        "ClockAlignedDataInterval": 0,
        "ConnectionTimeOut": 60,
        "HeartbeatInterval": 300,
        "MeterValueSampleInterval": 60,
        "ResetRetries": 1,
        "TransactionMessageAttempts": 3,
        "TransactionMessageRetryInterval": 60,
        "WebSocketPingInterval": 30,
    }
    switches = {
        "AllowOfflineTxForUnknownId": True,
        "AuthorizationCacheEnabled": False,
        "AuthorizeRemoteTxRequests": False,
        "LocalAuthListEnabled": True,
        "LocalAuthorizeOffline": True,
        "LocalPreAuthorize": False,
        "StopTransactionOnEVSideDisconnect": True,
        "StopTransactionOnInvalidId": True,
        "UnlockConnectorOnEVSideDisconnect": True,
    }
    lists = {
        "MeterValuesAlignedData": ENERGY,
        "MeterValuesSampledData": ENERGY,
        "StopTxnAlignedData": "",
        "StopTxnSampledData": ENERGY,
    }
    keys = {name: Key(value, "text", writable=False) for name, value in fixed.items()}
    keys |= {name: Key(str(value)) for name, value in numbers.items()}
    keys |= {name: Key(str(value).lower(), "bool") for name, value in switches.items()}
    keys |= {name: Key(value, "measurands") for name, value in lists.items()}
    keys["CpoName"] = Key("", "text")
    keys["ConnectorPhaseRotation"] = Key(",".join(f"{n}.RST" for n in range(settings.outlets + 1)), "text")
    keys["AuthorizationKey"] = Key("", "text", readable=False)
    return dict(sorted(keys.items()))


@dataclass(frozen=True, slots=True)
class Session:
    """A transaction that has ended: its registers as they were reported."""

    outlet: int
    start_wh: int
    stop_wh: int
    tag: str = ""
    reason: str = ""
    transaction: str = ""  #: its id, as far as it was known when it ended

    @property
    def energy_wh(self) -> int:
        """What the vehicle got."""
        return self.stop_wh - self.start_wh


@dataclass(slots=True)
class Transaction:
    """A running transaction. ``number`` is ours; ``id`` is 2.0.1's, or 1.6's once it was given (before: empty)."""

    number: int
    outlet: int
    tag: str
    start_wh: int
    start_us: int
    id: str = ""
    seq: int = 0
    remote_id: int | None = None
    reservation: int | None = None
    state: str = ""  #: 2.0.1: the last chargingState told
    trigger: str = ""  #: 2.0.1: what started it
    reason: str = ""  #: why it ends
    blocked: bool = False  #: its id tag was refused: nothing is offered any more
    samples: list[Payload] = field(default_factory=list)  #: 1.6: transactionData
    last_wh: int = 0  #: register and time when it was last looked at: a power cut ends it there
    last_us: int = 0
    sampled_s: float = 0.0  #: monotonic


@dataclass(slots=True)
class Message:
    """A question to the central system. ``payload`` has the snake_case keys of the ``ocpp`` package.

    Messages of a ``transaction`` (by our number) are kept until they are answered; ``then`` is for the others.
    """

    action: str
    payload: Payload
    id: str
    transaction: int | None = None
    attempts: int = 0
    due_s: float = 0.0
    then: Callable[[Any], None] | None = None


@dataclass(slots=True)
class Reservation:
    """ReserveNow."""

    id: int
    tag: str
    until_us: int


@dataclass(slots=True)
class Outlet:
    """A connector (1.6) or an EVSE with its one connector (2.0.1)."""

    number: int
    evse: Evse
    operative: bool = True
    scheduled: bool | None = None  #: availability when the transaction has ended
    fault: str = ""  #: 1.6's ChargePointErrorCode; empty: none
    transaction: Transaction | None = None
    reservation: Reservation | None = None
    plugged: bool = False  #: as last seen
    finished: bool = False  #: a transaction of this visit has ended
    asked: bool = False  #: an Authorize is under way
    tag: str | None = None  #: who was let in and has no transaction yet
    tag_until_s: float = math.inf
    remote_id: int | None = None
    remote_profile: Payload | None = None
    told: str = ""  #: the last status told

    @property
    def register_wh(self) -> int:
        """The meter's register."""
        return math.floor(self.evse.total_wh)

    @property
    def charging_state(self) -> str:
        """2.0.1 ChargingStateEnum; 1.6 has the same words for the status."""
        if not self.evse.plugged:
            return "Idle"
        if self.evse.pilot is Pilot.C:
            return "Charging"
        return "SuspendedEV" if self.evse.offered_a else "SuspendedEVSE"

    @property
    def status(self) -> str:
        """1.6 ChargePointStatus."""
        if self.fault:
            return "Faulted"
        if self.transaction is not None:
            state = self.charging_state
            return "SuspendedEV" if state == "Idle" else state
        if not self.operative:
            return "Unavailable"
        if self.evse.plugged:
            return "Finishing" if self.finished else "Preparing"
        if self.tag is not None:
            return "Preparing"
        return "Reserved" if self.reservation is not None else "Available"

    def readings(self, measurands: str) -> list[tuple[str, str, float, str]]:
        """(measurand, phase, value, unit) of the measurands of a comma-separated list."""
        evse = self.evse
        phases = range(evse.phases)
        offered_a = evse.offered_a
        everything = {
            ENERGY: [("", float(self.register_wh), "Wh")],
            "Power.Active.Import": [("", round(evse.power_w, 1), "W")],
            "Current.Import": [(f"L{n + 1}", round(evse.currents_a[n], 2), "A") for n in phases],
            "Voltage": [(f"L{n + 1}-N", round(evse.voltages_v[n], 1), "V") for n in phases],
            "Current.Offered": [("", round(offered_a, 2), "A")],
            "Power.Offered": [("", round(offered_a * 230 * evse.phases, 1), "W")],
            "SoC": [("", round(min(100.0, COMES_PCT + evse.session_wh / BATTERY_WH * 100), 1), "Percent")],
            "Temperature": [("", round(24 + evse.current_a / 4, 1), "Celsius")],
            "Frequency": [("", 50.0, "")],
        }
        return [
            (name, *reading)
            for name in measurands.split(",")
            if name and (name != "SoC" or evse.plugged)
            for reading in everything[name]
        ]


def iso(t_us: int, quirks: Mapping[Quirk, str]) -> str:
    """A time as the charger writes it."""
    at = datetime.fromtimestamp(t_us / 1_000_000, UTC)
    text = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}"
    return text if Quirk.NO_ZONE in quirks else text + "Z"
