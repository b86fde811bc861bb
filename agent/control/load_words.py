"""What load management says: the wishes, in which each limit has its reason, and how it stands. Pure."""

from collections.abc import Mapping, Sequence

from agent.control.load_model import KEY, LoadSettings, PhaseLoad, StationLoad
from agent.control.load_stations import Taker
from agent.control.model import Origin, Wish
from agent.control.sharing import Need, Seat, totals
from agent.core.model import Number


def phase_loads(
    settings: LoadSettings,
    measured_a: Sequence[float],
    rest_a: Sequence[float],
    limits: Mapping[str, float],
    seats: Sequence[Seat],
) -> tuple[PhaseLoad, ...]:
    """How each phase stands."""
    standing = totals(limits, seats, len(measured_a))
    return tuple(
        PhaseLoad(settings.limit_a, now_a, other_a, settings.limit_a - settings.kept_a - other_a, standing_a)
        for now_a, other_a, standing_a in zip(measured_a, rest_a, standing, strict=True)
    )


def reasons(
    settings: LoadSettings, phases: Sequence[PhaseLoad], seats: Sequence[Seat], *, silent: bool, frozen: bool
) -> list[str]:
    """Why stations on each phase have what they have, in one clause; without phases the same for all."""
    if silent and frozen:
        return [f"load management: the meter {settings.meter} shows the same whatever stations draw: it is frozen"]
    if silent:
        return [f"load management: the meter {settings.meter} is silent for more than {settings.silent_s:g} s"]
    found = []
    for index, load in enumerate(phases):
        line = f"L{index + 1}" if len(phases) > 1 else "the grid"
        many = sum(1 for seat in seats if seat.need is not Need.IDLE and index in seat.phases)
        left = f"{max(load.left_a, 0):.0f} A left for {many} station{'' if many == 1 else 's'}"
        found.append(f"load management: {line} carries {load.measured_a:.0f} of {load.limit_a:g} A, {left}")
    return found or ["load management: nothing is decided yet"]


def reason_of(name: str, seats: Mapping[str, Seat], phases: Sequence[PhaseLoad], clauses: Sequence[str]) -> str:
    """That of one station: its phase with the least left."""
    seat = seats.get(name)
    if seat is None or len(clauses) != len(phases):
        return clauses[0]
    return clauses[min(seat.phases, key=lambda phase: phases[phase].left_a)]


def as_before(told: Mapping[str, Number | None]) -> list[Wish]:
    """For each station the limit that it was told last, if any, while nothing is decided yet."""
    reason = "load management: as before, until the meter and the stations were read"
    return [
        Wish(name, KEY, Origin.GRID, limit_a=limit_a, reason=reason)
        for name, limit_a in told.items()
        if limit_a is not None
    ]


def wishes(
    settings: LoadSettings,
    ones: Mapping[str, Taker],
    limits: Mapping[str, float],
    why: Mapping[str, str],
    inputs: Mapping[str, Number],
) -> list[Wish]:
    """A limit for each station, and the fuses of lines to chargers whose outlets take part one by one."""
    found = [
        Wish(name, KEY, Origin.GRID, limit_a=round(limit_a, 3), reason=why[name], inputs=inputs)
        for name, limit_a in limits.items()
    ]
    devices = {one.station.device for one in ones.values() if not one.whole}
    found.extend(
        Wish(share.station, KEY, Origin.GRID, limit_a=share.max_a, reason="load management: the fuse of its line")
        for share in settings.stations
        if share.station in devices and share.max_a is not None
    )
    return found


def station_loads(
    ones: Mapping[str, Taker], limits: Mapping[str, float], why: Mapping[str, str]
) -> tuple[StationLoad, ...]:
    """How each station stands."""
    return tuple(
        StationLoad(
            name,
            one.demand.need,
            limits.get(name),
            one.demand.drawn.most_a if one.demand.drawn.known else None,
            one.demand.reserved_a is None,
            why[name],
        )
        for name, one in ones.items()
    )
