"""What the grid connection has left, shared among the stations. Pure: the same seats give the same limits.

Rules of this file:

1. Each station gets 0 or at least its minimum; what is given on a phase never passes what is left on it.
2. First each that wants energy gets its minimum, by priority, then by its place in the queue (``turns.py``); one that
   does not fit is passed over, so that what is left is of use to a smaller one.
3. Then those that rest (suspended, full) get theirs, so that they can resume; they lose it first.
4. What is left raises those that want energy together, by weight, each up to what it can take: nobody is given more
   while one who shares a phase with it, and could take more, has less (max-min fairness).
5. Last, stations without a vehicle get a minimum as standing limit, as far as it fits: a vehicle that arrives there
   can't break the limit. At the others it waits some seconds for its share.
6. One that does not follow is reserved at what it may draw. The limit that it is told is its minimum.
7. A station that may be on any phase is counted on each of them.
8. Limits are rounded down to the station's step; the steps that this leaves over are given on, the least served first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

#: A trifle of current, in A: what rounding errors of the machine come to.
TRIFLE_A = 1e-6


class Need(IntEnum):
    """What a station needs, the neediest first."""

    WANTS = 0  #: a vehicle that takes, or may take, what it is given
    RESTS = 1  #: a vehicle that takes nothing now
    IDLE = 2  #: no vehicle, off, or faulted


@dataclass(frozen=True, slots=True)
class Seat:
    """One station at the table. Currents in A per phase.

    ``phases``: the grid's phases (from 0) that it is on; all of them where that is not known. ``place`` orders those of
    one priority. ``begin_a`` must be left for one that is paused to be given its minimum: more than that, so that it is
    not paused again at once; infinite: it must stay off for a while.
    """

    id: str
    phases: tuple[int, ...]
    min_a: float
    max_a: float
    step_a: float
    need: Need = Need.WANTS
    priority: int = 0
    weight: float = 1
    place: tuple[float, ...] = ()
    begin_a: float | None = None  #: None: it has its minimum now, or may begin with just that
    reserved_a: float | None = None  #: it does not follow, and may draw so much


def allocate(left_a: Sequence[float], seats: Sequence[Seat]) -> dict[str, float]:
    """A limit for each station, where so much is left on each phase for all of them. It may be less than nothing."""
    free = list(left_a)
    for seat in seats:
        if seat.reserved_a is not None:
            _take(free, seat, seat.reserved_a)
    deaf = {seat.id: seat.min_a if _fits(free, seat, 0) else 0.0 for seat in seats if seat.reserved_a is not None}
    queue = sorted(
        (seat for seat in seats if seat.reserved_a is None and seat.max_a >= seat.min_a),
        key=lambda seat: (-seat.priority, seat.place, seat.id),
    )
    wants = _minimums(free, [seat for seat in queue if seat.need is Need.WANTS])
    rests = _minimums(free, [seat for seat in queue if seat.need is Need.RESTS])
    filled = _fill(free, wants)
    idle = _minimums(free, [seat for seat in queue if seat.need is Need.IDLE])
    standing = {seat.id: seat.min_a for seat in (*rests, *idle)}
    return {seat.id: 0.0 for seat in seats} | deaf | standing | filled


def round_down(value_a: float, seat: Seat) -> float:
    """The highest limit up to this one that it can be told, not below its minimum."""
    return max(math.floor(value_a / seat.step_a + TRIFLE_A) * seat.step_a, seat.min_a)


def _minimums(free: list[float], seats: Iterable[Seat]) -> list[Seat]:
    """Those that get their minimum, which is taken from what is free."""
    found = []
    for seat in seats:
        if _fits(free, seat, seat.min_a if seat.begin_a is None else seat.begin_a):
            _take(free, seat, seat.min_a)
            found.append(seat)
    return found


def _fill(free: list[float], seats: Sequence[Seat]) -> dict[str, float]:
    """Raise those that have their minimum, as far as what is free goes."""
    for seat in seats:
        _take(free, seat, -seat.min_a)
    exact = _levels(free, seats)
    given = {seat.id: min(round_down(exact[seat.id], seat), seat.max_a) for seat in seats}
    for seat in seats:
        _take(free, seat, given[seat.id])
    _hand_on(free, seats, given)
    return given


def _levels(free: Sequence[float], seats: Sequence[Seat]) -> dict[str, float]:
    """Progressive filling: each phase in turn that runs out first ends the rise of those who are on it."""
    rising, level = list(seats), dict[str, float]()
    room = list(free)
    while rising:
        found = [
            (_level(room[phase], on), phase)
            for phase in range(len(room))
            if (on := [seat for seat in rising if phase in seat.phases])
        ]
        reached, tight = min(found, default=(math.inf, -1))
        done = [seat for seat in rising if reached == math.inf or tight in seat.phases]
        for seat in done:
            level[seat.id] = _at(seat, reached)
            _take(room, seat, level[seat.id])
        ended = {seat.id for seat in done}
        rising = [seat for seat in rising if seat.id not in ended]
    return level


def _level(room_a: float, seats: Sequence[Seat]) -> float:
    """The level, in A per weight, at which these fill so much room; infinite when they can't."""
    if sum(seat.max_a for seat in seats) <= room_a:
        return math.inf
    points = sorted({bound / seat.weight for seat in seats for bound in (seat.min_a, seat.max_a)})
    below, before_a = points[0], sum(_at(seat, points[0]) for seat in seats)
    for point in points[1:]:
        used_a = sum(_at(seat, point) for seat in seats)
        if used_a >= room_a:
            part = (room_a - before_a) / (used_a - before_a) if used_a > before_a else 0.0
            return below + max(part, 0.0) * (point - below)
        below, before_a = point, used_a
    return below


def _at(seat: Seat, level: float) -> float:
    return min(max(seat.weight * level, seat.min_a), seat.max_a)


def _hand_on(free: list[float], seats: Sequence[Seat], given: dict[str, float]) -> None:
    """Give what rounding left over, a step each in turn, the least served first."""
    able = list(seats)
    while able:
        able.sort(key=lambda seat: given[seat.id] / seat.weight)
        got = []
        for seat in able:
            more_a = round_down(given[seat.id] + seat.step_a, seat) - given[seat.id]
            if given[seat.id] + more_a <= seat.max_a + TRIFLE_A and _fits(free, seat, more_a):
                given[seat.id] += more_a
                _take(free, seat, more_a)
                got.append(seat)
        able = got


def _fits(free: Sequence[float], seat: Seat, amount_a: float) -> bool:
    return all(free[phase] >= amount_a - TRIFLE_A for phase in seat.phases)


def _take(free: list[float], seat: Seat, amount_a: float) -> None:
    for phase in seat.phases:
        free[phase] -= amount_a


def totals(limits: Mapping[str, float], seats: Iterable[Seat], count: int) -> list[float]:
    """What all may draw together on each of ``count`` phases."""
    found = [0.0] * count
    for seat in seats:
        may_a = limits[seat.id] if seat.reserved_a is None else max(seat.reserved_a, 0)
        for phase in seat.phases:
            found[phase] += may_a
    return found
