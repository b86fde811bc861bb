"""From the configured chargers to the signals that are known beforehand, and to what the central system is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.errors import ConfigError
from agent.core.model import SignalSpec
from drivers.ocpp.charger import charger_specs
from drivers.ocpp.quirks import Quirks
from drivers.ocpp.settings import CentralSettings, ChargerSettings


@dataclass(frozen=True, slots=True)
class OcppPlan:
    """The local central system of a site, and its chargers."""

    central: CentralSettings
    chargers: tuple[ChargerSettings, ...]
    quirks: tuple[Quirks, ...]

    @property
    def specs(self) -> list[SignalSpec]:
        """The signals that every charger has, for the store to number."""
        return [spec for charger in self.chargers for spec in charger_specs(charger)]


def plan_ocpp(chargers: Sequence[ChargerSettings], central: CentralSettings, quirks: Sequence[Quirks]) -> OcppPlan:
    """Check what the chargers name. Raises ``ConfigError``, naming the device."""
    names = {one.name for one in quirks}
    for charger in chargers:
        if charger.profile is not None and charger.profile not in names:
            raise ConfigError(
                f"device {charger.device}",
                f"there is no OCPP profile `{charger.profile}`",
                "delete `profile:` (vendor and model find it), or name one of config/profiles/ocpp",
            )
        if charger.password_file is not None and not charger.password_file.is_file():
            raise ConfigError(
                f"device {charger.device}",
                f"password_file {charger.password_file} is not there",
                "write the charger's password into it, and nothing else",
            )
    return OcppPlan(central, tuple(chargers), tuple(quirks))
