"""From the limits that should be to those that are told: down at once, up step by step. Pure: time is told.

Rules of this file:

1. When what stations may draw does not fit any more, all that must go down do so at once. A band of half the margin
   keeps that from happening for every flicker of the site's load.
2. What is merely fairer, or given back, goes down in rounds of ``ROUND_S``, and only when it is ``LEAST_A`` or more.
3. Up goes one round after the other, on each phase by ``RISE_PER_S`` of the site's limit at most; not within ``HOLD_S``
   after everybody had to go down, and not within ``HOLD_S`` after this station itself did.
4. A station that was lowered counts with what it had for ``SETTLE_S``, and with what it draws for as long as that is
   more: nobody is given what it still uses.
5. Nothing is told twice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.control.sharing import TRIFLE_A, Need, Seat, round_down, totals

ROUND_S = 5.0
HOLD_S = 10.0
SETTLE_S = 6.0
LEAST_A = 1.0
#: A rise that is smaller comes no sooner after the last change.
SMALL_S = 30.0
RISE_PER_S = 0.03
#: So many seconds of rise may be saved up.
SAVED_S = 5.0


@dataclass(frozen=True, slots=True)
class Round:
    """What is known now. Currents in A; by phase, or by station."""

    now_s: float
    seats: Sequence[Seat]
    site_a: Sequence[float]  #: the site's limit
    ceiling: Mapping[str, float]  #: no station may stand higher
    goal: Mapping[str, float]  #: how high it may be raised
    left_a: Sequence[float]  #: what is surely left for all of them while they stand
    safe_a: Sequence[float]  #: what is surely left before one is raised
    band_a: float
    drawn_a: Mapping[str, float]
    may_rise: bool = True


@dataclass(slots=True)
class _Past:
    """What a station was told before."""

    changed_s: float
    lowered_s: float = -math.inf
    before_a: float = 0.0  #: what it had when it was lowered


@dataclass(slots=True)
class Pacer:
    """The limits that stand. ``limits`` has those of all stations that were ever told one."""

    limits: dict[str, float] = field(default_factory=dict)
    _past: dict[str, _Past] = field(default_factory=dict)
    _hold_s: float = -math.inf
    _round_s: float = -math.inf  # when the next round may be
    _saved_a: list[float] = field(default_factory=list)
    _filled_s: float | None = None

    def step(self, now: Round) -> None:
        """Move all limits as far as they may be moved now."""
        self.retain(seat.id for seat in now.seats)
        self._save_up(now)
        self._begin(now)
        urgent = self._too_much(now)
        if self._lower(now, urgent=urgent) and urgent:
            self._hold_s = now.now_s + HOLD_S
        if now.may_rise and now.now_s >= max(self._hold_s, self._round_s):
            self._raise(now)

    def changed_s(self, name: str) -> float:
        """When its limit was changed; minus infinity where it has none."""
        past = self._past.get(name)
        return -math.inf if past is None else past.changed_s

    def at_most(self, limits: Mapping[str, float], now_s: float) -> None:
        """Lower at once to these, and hold: nobody is raised. One that has no limit yet is given this one."""
        for name, limit_a in limits.items():
            if limit_a < self.limits.get(name, math.inf):
                self._set(name, limit_a, now_s)
        self.hold(now_s)

    def hold(self, now_s: float) -> None:
        """Nobody is raised within ``HOLD_S``."""
        self._hold_s = now_s + HOLD_S
        self._saved_a = []

    def retain(self, names: Iterable[str]) -> None:
        """Forget all but these."""
        known = set(names)
        for gone in [name for name in self.limits if name not in known]:
            del self.limits[gone], self._past[gone]

    def _save_up(self, now: Round) -> None:
        """What the stations of a phase may be raised by, in A: never more than one round's, or one minimum."""
        since_s = 0.0 if self._filled_s is None else now.now_s - self._filled_s
        self._filled_s = now.now_s
        least_a = max((seat.min_a for seat in now.seats), default=0.0)
        saved = self._saved_a or [0.0] * len(now.site_a)
        most = [max(RISE_PER_S * SAVED_S * site_a, least_a) for site_a in now.site_a]
        more = [RISE_PER_S * since_s * site_a for site_a in now.site_a]
        self._saved_a = [min(a + b, c) for a, b, c in zip(saved, more, most, strict=True)]

    def _begin(self, now: Round) -> None:
        """The first limit of a station: what it draws and a little more, or its minimum, as far as there is room."""
        drawn = {seat.id: max(now.drawn_a.get(seat.id, 0.0), seat.reserved_a or 0.0) for seat in now.seats}
        used = [0.0] * len(now.site_a)
        for seat in now.seats:
            known = seat.id in self.limits
            _add(used, seat, self._counts(seat, now) if known else drawn[seat.id])
        new = [seat for seat in now.seats if seat.id not in self.limits]
        for seat in sorted(new, key=lambda seat: (seat.need, drawn[seat.id] < LEAST_A, -seat.priority, seat.place)):
            drawn_a = now.drawn_a.get(seat.id, 0.0)
            limit_a = round_down(drawn_a + LEAST_A, seat)
            room_a = min(now.safe_a[phase] - used[phase] for phase in seat.phases)
            if limit_a - drawn[seat.id] > room_a + TRIFLE_A:
                limit_a = round_down(drawn_a, seat) if drawn_a >= LEAST_A else 0.0
            limit_a = min(now.goal[seat.id], limit_a)
            _add(used, seat, max(limit_a - drawn[seat.id], 0.0))
            self._set(seat.id, limit_a, now.now_s)

    def _too_much(self, now: Round) -> bool:
        standing = totals(self.limits, now.seats, len(now.site_a))
        return any(
            standing_a > max(left_a, 0.0) + now.band_a + TRIFLE_A or (left_a < -now.band_a and standing_a > TRIFLE_A)
            for standing_a, left_a in zip(standing, now.left_a, strict=True)
        )

    def _lower(self, now: Round, *, urgent: bool) -> bool:
        lowered = False
        for seat in now.seats:
            old_a, new_a = self.limits[seat.id], now.ceiling[seat.id]
            worth = new_a <= old_a - LEAST_A and now.now_s >= self._round_s
            if new_a < old_a - TRIFLE_A and (urgent or worth):
                self._set(seat.id, new_a, now.now_s)
                lowered = True
        if lowered:
            self._round_s = now.now_s + ROUND_S
        return lowered

    def _raise(self, now: Round) -> None:
        counted = {seat.id: self._counts(seat, now) for seat in now.seats}
        used = [0.0] * len(now.site_a)
        for seat in now.seats:
            _add(used, seat, counted[seat.id])
        rising = [seat for seat in now.seats if self._may_rise(seat, now)]
        rising.sort(key=lambda seat: (seat.need, self.limits[seat.id] / seat.weight, -seat.priority, seat.place))
        for seat in rising:
            old_a, ramped = self.limits[seat.id], seat.need is Need.WANTS
            room_a = min(now.safe_a[phase] - used[phase] for phase in seat.phases)
            if ramped:
                room_a = min(
                    room_a, *(self._saved_a[phase] - max(counted[seat.id] - old_a, 0) for phase in seat.phases)
                )
            most_a = counted[seat.id] + room_a
            if most_a < seat.min_a - TRIFLE_A:
                continue
            new_a = min(now.goal[seat.id], round_down(most_a, seat))
            small = old_a > 0 and new_a - old_a < LEAST_A and now.now_s < self.changed_s(seat.id) + SMALL_S
            if new_a <= old_a + TRIFLE_A or small:
                continue
            _add(used, seat, max(new_a - counted[seat.id], 0.0))
            _add(self._saved_a, seat, old_a - new_a if ramped else 0.0)
            self._set(seat.id, new_a, now.now_s)
            self._round_s = now.now_s + ROUND_S

    def _may_rise(self, seat: Seat, now: Round) -> bool:
        held = now.now_s < self._past[seat.id].lowered_s + HOLD_S
        return now.goal[seat.id] > self.limits[seat.id] + TRIFLE_A and not held and seat.reserved_a is None

    def _counts(self, seat: Seat, now: Round) -> float:
        """What a station may draw now, also while it has not heard its newest limit yet."""
        past = self._past[seat.id]
        before_a = past.before_a if now.now_s < past.lowered_s + SETTLE_S else 0.0
        return max(self.limits[seat.id], now.drawn_a.get(seat.id, 0.0), before_a, seat.reserved_a or 0.0)

    def _set(self, name: str, limit_a: float, now_s: float) -> None:
        old_a = self.limits.get(name)
        past = self._past.setdefault(name, _Past(now_s))
        past.changed_s = now_s
        if old_a is not None and limit_a < old_a:
            settled = now_s >= past.lowered_s + SETTLE_S
            past.before_a = old_a if settled else max(old_a, past.before_a)
            past.lowered_s = now_s
        self.limits[name] = limit_a


def _add(used: list[float], seat: Seat, amount_a: float) -> None:
    for phase in seat.phases:
        used[phase] += amount_a
