"""What is known of a charger model beyond the standard: data, one profile in ``config/profiles/ocpp/*.yaml`` a model.

The agent loads the files (``agent/ocpp_profiles.py``) and hands these over; a charger gets the first whose patterns
match its BootNotification, or the default.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from agent.core.model import Number
from drivers.codec.ocpp_model import Boot


@dataclass(frozen=True, slots=True)
class Quirks:
    """How to deal with one model. The defaults are what the standard says; each deviation names its source in the file.

    ``vendor``, ``model``, ``firmware`` are regular expressions that must match from the beginning, case ignored.
    """

    name: str = "standard"
    vendor: str = ""
    model: str = ""
    firmware: str = ""
    #: measurands asked for, in the order in which they are tried; empty: leave what the charger has
    measurands: tuple[str, ...] = (
        "Energy.Active.Import.Register",
        "Power.Active.Import",
        "Current.Import",
        "Voltage",
        "Current.Offered",
        "SoC",
        "Temperature",
    )
    probe: bool = True  #: try measurands one at a time; False: set the list as it is
    rate_unit: Literal["auto", "A", "W"] = "auto"  #: chargingRateUnit; auto: what the charger says that it allows
    steps_a: tuple[Number, ...] = ()  #: the only currents that it knows; others are rounded down
    stack_level: int = 1  #: of the profiles that we set; the safe default stands one below where there is room
    profile_kind: Literal["Absolute", "Relative"] = "Absolute"
    start_in_past_s: int = 60  #: startSchedule lies so far back: a clock that is behind ours would wait for it
    validity: Literal["auto", "valid_to", "duration", "periods", "none"] = "auto"  #: how a limit ends when we are gone
    tx_profile: bool = True  #: a running transaction also gets its TxProfile
    purpose: Literal["auto", "TxDefaultProfile", "ChargePointMaxProfile"] = "auto"
    profile_phases: bool = False  #: numberPhases stands in the periods
    min_interval_s: Number = 0  #: least time between two limits
    composite: bool = True  #: GetCompositeSchedule tells what is in force
    skip: tuple[str, ...] = ()  #: actions that it must not be sent, and configuration keys as ``Key.Name``
    trigger_outlet: Literal["each", "0"] = "each"  #: TriggerMessage per outlet, or for the whole only
    availability_outlet: Literal["0", "each"] = "0"  #: ChangeAvailability at set-up
    zone: str | None = None  #: IANA zone of its times without one; None: the site's
    local_time_as_utc: bool = False  #: it labels local time with Z
    ping_s: float | None = None
    silence_s: float | None = None  #: how long it may be away before it counts as offline
    reset_when_finishing_s: float | None = None  #: stays Finishing: soft reset after so long without a vehicle
    notes: tuple[str, ...] = field(default=())  #: sources and remarks, shown to people

    def matches(self, boot: Boot) -> bool:
        """Whether this is about that charger."""
        pairs = ((self.vendor, boot.vendor), (self.model, boot.model), (self.firmware, boot.firmware))
        return all(not pattern or re.match(pattern, text.strip("\0 "), re.IGNORECASE) for pattern, text in pairs)


STANDARD = Quirks()


def choose(known: Sequence[Quirks], boot: Boot) -> Quirks:
    """The first profile that names something of this charger and matches; otherwise the standard's."""
    specific = (one for one in known if one.vendor or one.model or one.firmware)
    return next((one for one in specific if one.matches(boot)), STANDARD)
