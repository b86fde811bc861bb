"""The charging profiles that we set, as payloads of both versions. Pure: times are given.

Rules of this file:

1. Ids are ours alone: one for each purpose and outlet, from ``FIRST_ID`` on, always the same, so that a profile
   replaces the one before (1.6 edition 2, 5.16; 2.0.1 part 2, K01).
2. A limit ends by itself ``VALIDITY_S`` after it was set, for a gateway that died does not refresh it. How it ends is
   ``Ending``: by ``validTo`` (below it the safe profile shows), by the schedule's ``duration`` (the same; always of a
   TxProfile, for ``validTo`` is not for those), or by a second period that carries the safe limit (where there is no
   level below).
3. Limits are amperes per phase here. Where the charger counts in watts, they are those of all phases at 230 V, rounded
   down to whole watts; amperes are rounded down to 0.1 A (1.6 edition 2, 7: at most one digit).
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from agent.core.model import Number
from drivers.codec.ocpp_model import Version
from drivers.ocpp.ports import Payload

PHASE_V = 230
#: How long a limit holds without being repeated. The 30 s of a field bus would be 8,640 writes a day; chargers keep
#: profiles in flash. 300 s are 864 a day, and until then the last limit stands, which was right when it was set.
VALIDITY_S = 300
REFRESH_S = VALIDITY_S / 3
FIRST_ID = 4100
LAST_ID = 4499

Purpose = Literal["TxDefaultProfile", "TxProfile", "MaxProfile"]
Unit = Literal["A", "W"]
Ending = Literal["valid_to", "duration", "periods", "none"]
_ID_OF: dict[Purpose, int] = {
    "TxDefaultProfile": FIRST_ID + 100,
    "TxProfile": FIRST_ID + 200,
    "MaxProfile": FIRST_ID + 300,
}
_SCALE_A = 10


@dataclass(frozen=True, slots=True)
class Profile:
    """One charging profile of an outlet. ``ending`` none: it stays until it is replaced."""

    purpose: Purpose
    outlet: int
    level: int
    limit_a: Number
    unit: Unit
    now_us: int
    ending: Ending = "none"
    safe_a: Number = 0  #: behind the end, where that is a period
    safe: bool = False  #: it is the safe profile itself
    past_s: int = 0  #: its schedule began so long ago
    relative: bool = False
    phases: int = 3
    tell_phases: bool = False
    transaction: str | None = None


def time_text(t_us: int) -> str:
    """A time as OCPP wants it, whole seconds: some chargers stumble over fractions."""
    return datetime.fromtimestamp(t_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rounded(limit_a: Number, unit: Unit, phases: int) -> Number:
    """A limit in the charger's unit, rounded down."""
    if unit == "W":
        return math.floor(limit_a * phases * PHASE_V + 1e-6)
    tenths = math.floor(limit_a * _SCALE_A + 1e-6)
    return tenths // _SCALE_A if tenths % _SCALE_A == 0 else tenths / _SCALE_A


def amperes(limit: Number, unit: str, phases: int) -> Number:
    """What a charger's limit is in amperes per phase. Chargers also spell the units Current and Power."""
    return limit / (phases * PHASE_V) if unit.strip().lower() in {"w", "power"} else limit


def set_payload(profile: Profile, version: Version) -> Payload:
    """SetChargingProfile (1.6 edition 2, 5.16; 2.0.1 part 2, K01)."""
    if version.two:
        return {"evseId": profile.outlet, "chargingProfile": profile_of(profile, version)}
    return {"connectorId": profile.outlet, "csChargingProfiles": profile_of(profile, version)}


def profile_of(profile: Profile, version: Version) -> Payload:
    """The ChargingProfile alone, as RemoteStartTransaction also carries it."""
    number = FIRST_ID + profile.outlet if profile.safe else _ID_OF[profile.purpose] + profile.outlet
    purpose: str = profile.purpose
    if purpose == "MaxProfile":
        purpose = "ChargingStationMaxProfile" if version.two else "ChargePointMaxProfile"
    schedule = _schedule(profile)
    body: dict[str, object] = {
        "id" if version.two else "chargingProfileId": number,
        "stackLevel": profile.level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Relative" if profile.relative else "Absolute",
        "chargingSchedule": [{"id": number, **schedule}] if version.two else schedule,
    }
    if profile.ending == "valid_to":
        body["validTo"] = time_text(profile.now_us + VALIDITY_S * 1_000_000)
    if profile.transaction is not None:
        body["transactionId"] = profile.transaction if version.two else int(profile.transaction)
    return body


def _schedule(profile: Profile) -> dict[str, object]:
    past_s = 0 if profile.relative else profile.past_s
    schedule: dict[str, object] = {"chargingRateUnit": profile.unit}
    if not profile.relative:
        schedule["startSchedule"] = time_text(profile.now_us - past_s * 1_000_000)
    if profile.ending == "duration":
        schedule["duration"] = past_s + VALIDITY_S
    periods = [_period(profile, 0, profile.limit_a)]
    if profile.ending == "periods" and profile.safe_a != profile.limit_a:
        periods.append(_period(profile, past_s + VALIDITY_S, profile.safe_a))
    schedule["chargingSchedulePeriod"] = periods
    return schedule


def _period(profile: Profile, start_s: int, limit_a: Number) -> dict[str, object]:
    period: dict[str, object] = {
        "startPeriod": start_s,
        "limit": rounded(limit_a, profile.unit, profile.phases),
    }
    if profile.tell_phases:
        period["numberPhases"] = profile.phases
    return period
