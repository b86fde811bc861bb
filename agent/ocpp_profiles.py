"""OCPP charger models as data: ``config/profiles/ocpp/*.yaml`` say where a model leaves the standard, and how we know.

Rules of a profile:

1. ``match`` are regular expressions for what the charger says of itself in its BootNotification; all that are given
   must match from the beginning, case ignored. A profile without ``match`` is used only where a device names it.
2. Only what differs from the standard is written; the defaults are those of ``drivers/ocpp/quirks.py``.
3. Each deviation has its source: an issue, a manual, a log. ``notes`` are shown to people.
4. A site's own file with the same name replaces ours; of several that match, a site's comes first, then the one that
   matches more of vendor, model and firmware.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from agent.yamlfile import Document, Problem, Section, complaint, load_yaml, yaml_files
from drivers.ocpp.quirks import Quirks

FOLDER = "ocpp"
_QUIRK_KEYS = (
    "measurands",
    "probe",
    "rate_unit",
    "steps_a",
    "stack_level",
    "profile_kind",
    "start_in_past_s",
    "validity",
    "tx_profile",
    "purpose",
    "profile_phases",
    "min_interval_s",
    "composite",
    "skip",
    "trigger_outlet",
    "availability_outlet",
    "zone",
    "local_time_as_utc",
    "ping_s",
    "silence_s",
    "reset_when_finishing_s",
)
_DEFAULT = Quirks()

Seconds = Annotated[float, Field(gt=0)]


class MatchRow(Section):
    """What the charger says of itself."""

    vendor: str = Field("", description="chargePointVendor, 2.0.1 vendorName", examples=["ABB"])
    model: str = Field("", description="chargePointModel, 2.0.1 model", examples=["TACW.*"])
    firmware: str = Field("", description="firmwareVersion", examples=[r".*V1\.[0-8]\."])

    @field_validator("vendor", "model", "firmware")
    @classmethod
    def _expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise complaint(
                f"`{value}` is no regular expression: {error}", "escape dots and brackets with \\"
            ) from error
        return value


class OcppProfileFile(Section):
    """A file of ``config/profiles/ocpp``."""

    name: str = Field(description="the file's name without .yaml", examples=["acme_box"])
    maker: str = Field(description="who makes it", examples=["Acme"])
    model: str = Field(description="what it is called", examples=["Box 22"])
    source: str = Field(description="where the facts come from, so that the next person can check them")
    match: MatchRow | None = Field(None, description="how it is known; absent: only where a device names the profile")
    notes: tuple[str, ...] = Field((), description="remarks for people")
    measurands: tuple[str, ...] = Field(
        _DEFAULT.measurands, description="what it is asked to send, in the order of importance; []: leave what it has"
    )
    probe: bool = Field(default=True, description="try measurands one at a time; false: set the list as it is")
    rate_unit: Literal["auto", "A", "W"] = Field("auto", description="unit of limits; auto: what it says it allows")
    steps_a: tuple[int | float, ...] = Field((), description="the only currents that it knows; others are rounded down")
    stack_level: Annotated[int, Field(ge=0, le=100)] = Field(
        _DEFAULT.stack_level, description="of limits; the safe one stands one below; 0: it has one level only"
    )
    profile_kind: Literal["Absolute", "Relative"] = Field("Absolute", description="chargingProfileKind")
    start_in_past_s: Annotated[int, Field(ge=0, le=86400)] = Field(
        _DEFAULT.start_in_past_s, description="limits begin so long ago"
    )
    validity: Literal["auto", "valid_to", "duration", "periods", "none"] = Field(
        "auto", description="how a limit ends by itself when the gateway is gone"
    )
    tx_profile: bool = Field(default=True, description="a running session gets its own profile too")
    purpose: Literal["auto", "TxDefaultProfile", "ChargePointMaxProfile"] = Field(
        "auto", description="the only purpose of profiles that has effect"
    )
    profile_phases: bool = Field(default=False, description="periods carry numberPhases")
    min_interval_s: Annotated[float, Field(ge=0, le=3600)] = Field(0, description="least time between two limits")
    composite: bool = Field(default=True, description="GetCompositeSchedule tells what is in force")
    skip: tuple[str, ...] = Field(
        (), description="messages that it must not be sent, and configuration keys as `Key.Name`"
    )
    trigger_outlet: Literal["each", "0"] = Field("each", description="TriggerMessage for each outlet, or for 0 only")
    availability_outlet: Literal["0", "each"] = Field(
        "0", description="ChangeAvailability of the whole: for 0, or each"
    )
    zone: str | None = Field(None, description="IANA zone of its times without one")
    local_time_as_utc: bool = Field(default=False, description="it labels local time with Z")
    ping_s: Seconds | None = Field(None, description="WebSocket pings")
    silence_s: Seconds | None = Field(None, description="how long it may be away before it is taken as offline")
    reset_when_finishing_s: Seconds | None = Field(
        None, description="it stays Finishing: soft reset after so long without a vehicle"
    )

    def quirks(self) -> Quirks:
        """What ``drivers/ocpp`` is given."""
        match = self.match or MatchRow()
        return Quirks(
            name=self.name,
            vendor=match.vendor,
            model=match.model,
            firmware=match.firmware,
            notes=(f"source: {self.source}", *self.notes),
            **{key: getattr(self, key) for key in _QUIRK_KEYS},
        )


def load_ocpp_profiles(folders: Sequence[Path]) -> tuple[Quirks, ...]:
    """All profiles of the ``ocpp`` folders in these folders, in the order in which a charger is held against them.

    Raises ``ConfigError`` with every finding of the first file that has any, one per line.
    """
    found: dict[str, tuple[int, Quirks]] = {}
    for place, folder in enumerate(folders):
        for path in yaml_files(folder / FOLDER):
            quirks = load_ocpp_profile(path)
            found.setdefault(quirks.name, (place, quirks))
    ordered = sorted(found.values(), key=lambda one: (one[0], -_matches(one[1]), one[1].name))
    return tuple(quirks for _, quirks in ordered)


def load_ocpp_profile(path: Path) -> Quirks:
    """One profile. Raises ``ConfigError`` with every finding, one per line."""
    return read_ocpp_profile(path).quirks()


def read_ocpp_profile(path: Path) -> OcppProfileFile:
    """The file of one profile. Raises ``ConfigError`` with every finding, one per line."""
    return load_yaml(path, OcppProfileFile, lambda document, file: _wrong(document, file, path))


def _matches(quirks: Quirks) -> int:
    return sum(bool(one) for one in (quirks.vendor, quirks.model, quirks.firmware))


def _wrong(document: Document, file: OcppProfileFile, path: Path) -> Iterator[Problem]:
    if file.name != path.stem:
        hint = f"write `name: {path.stem}`, or rename the file"
        yield document.problem(("name",), f"`{file.name}` is not the file's name", hint)
    if file.match is not None and not any((file.match.vendor, file.match.model, file.match.firmware)):
        hint = "add `vendor:`, `model:` or `firmware:`, or delete it"
        yield document.problem(("match",), "`match` would match every charger", hint)
    if any(step <= 0 for step in file.steps_a):
        yield document.problem(("steps_a",), "`steps_a` are currents above 0", "delete 0: off needs no step")
