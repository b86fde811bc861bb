"""The values of load management: how it is set, and how it stands. Immutable. Currents in A per phase, times in s."""

from dataclasses import dataclass

from agent.control.sharing import Need

#: The key of its wishes.
KEY = "load"
LEAST_MARGIN_A = 1.0
MARGIN = 0.03


@dataclass(frozen=True, slots=True)
class StationShare:
    """A station's part, where it differs. ``phases``: the grid's (1 to 3), in the order of its own; empty: unknown."""

    station: str
    priority: int = 0
    weight: float = 1
    phases: tuple[int, ...] = ()
    max_a: float | None = None


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Whose meter, which limit, and who differs. ``margin_a`` None: 1 A, or 3 % of the limit where that is more."""

    meter: str
    limit_a: float
    margin_a: float | None = None
    silent_s: float = 10
    failsafe_a: float | None = None
    batteries: tuple[str, ...] = ()
    stations: tuple[StationShare, ...] = ()

    @property
    def kept_a(self) -> float:
        """What is kept free."""
        return max(LEAST_MARGIN_A, MARGIN * self.limit_a) if self.margin_a is None else self.margin_a


@dataclass(frozen=True, slots=True)
class PhaseLoad:
    """One phase of the grid connection. ``rest_a``: what is neither a station's nor sure not to come back."""

    limit_a: float
    measured_a: float
    rest_a: float
    left_a: float  #: for all stations together, the margin taken off
    stations_a: float  #: what stations on it may draw together by their limits


@dataclass(frozen=True, slots=True)
class StationLoad:
    """One station's share."""

    station: str
    need: Need
    limit_a: float | None  #: None: nothing was decided yet
    drawn_a: float | None  #: on its most loaded phase; None: not known
    follows: bool
    reason: str


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """Load management as it is now."""

    meter: str
    silent: bool  #: the meter is, and stations have their fail-safe
    meter_age_s: float | None  #: None: never heard
    note: str = ""  #: how the phases' currents were found, where they are not measured
    phases: tuple[PhaseLoad, ...] = ()
    stations: tuple[StationLoad, ...] = ()
    batteries_silent: tuple[str, ...] = ()
