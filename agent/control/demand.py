"""What a station needs and draws, by what its signals say. Pure: time is told.

Rules of this file:

1. A vehicle is there when the charger says so, or when it draws; what is not known counts as there.
2. One that takes nothing for ``GIVES_BACK_S`` while it may rests: it keeps its minimum, so that it can resume, and the
   rest is others'. A paused one can't show what it wants: it stays what it was.
3. One that takes clearly less than it may for so long can't take more: its share is what it takes and ``SPARE_A``,
   until it uses that up again.
4. A vehicle on one phase is known for one after ``PHASES_S``; until then it is taken to use all phases of its station.
5. A reading is older than what the grid's meter shows. Where the limit was changed after it, a vehicle that took all
   that it was given is taken to follow the new limit ``SETTLE_S`` later.
6. One of which nothing is known any more, its charger is away, is not given more than it has.
7. One that draws more than any limit that it was told in the last ``DEAF_S`` does not follow: as much as it was seen to
   draw is kept for it, until it follows.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from agent.control.effect import LEAST_TOLERANCE_A, NOMINAL_V, STALE_S, TOLERANCE
from agent.control.pacing import SETTLE_S
from agent.control.sharing import Need

DRAWS_A = 1.0
GIVES_BACK_S = 45.0
SPARE_A = 3.0
PHASES_S = 60.0
DEAF_S = 10.0
#: A phase with less than this share of the fullest one is not used.
USED = 0.2
PHASES = 3
#: So many limits of the past are remembered; they change once in some seconds at most.
LIMITS = 16

#: Labels of ``charger_status`` without a vehicle that could draw (OCPP 1.6 edition 2, 7.7).
ABSENT = frozenset({"Available", "Reserved", "Unavailable", "Faulted"})


@dataclass(frozen=True, slots=True)
class Sensed:
    """What a station's signals say now; None or empty: not known. ``read_s``: when its currents were read.

    ``currents_a`` of its own phases, or one for all of them where the charger does not tell them apart.
    """

    currents_a: tuple[float, ...] = ()
    power_w: float | None = None
    read_s: float = -math.inf
    status: str = ""
    plugged: bool | None = None
    off: bool = False  #: somebody else keeps it off
    follows: bool | None = None  #: by what control has found out


@dataclass(frozen=True, slots=True)
class Drawn:
    """What it draws: in A on the most loaded of its phases, and on each of its own phases where they are told apart.

    ``sure``: the share of it that is on each phase it may be on, whichever it is on.
    """

    most_a: float = 0.0
    phases_a: tuple[float, ...] = ()
    known: bool = False
    sure: float = 1.0


class Demand:
    """One station over time."""

    def __init__(self) -> None:
        self.need = Need.WANTS
        self.cap_a = math.inf  #: what it can take, as far as that showed
        self.drawn = Drawn()
        self.single = False  #: its vehicle uses the first of its phases alone
        self.reserved_a: float | None = None  #: it does not follow, and may draw so much
        self._quiet_s: float | None = None  # since when it takes nothing
        self._modest_s: float | None = None  # since when it takes less than it may
        self._single_s: float | None = None
        self._told_us = False  # anything, ever
        self._away = False
        self._read: tuple[float, float, bool] = (-math.inf, 0.0, False)  # when, how much, and whether that was all
        self._limits: deque[tuple[float, float]] = deque(maxlen=LIMITS)  # since when which, oldest first

    def observe(
        self, seen: Sensed, limit_a: float | None, told_s: float, least_a: float, now_s: float, own: int = 0
    ) -> None:
        """Look. ``limit_a`` is what it is told since ``told_s``, ``least_a`` the least that it can draw at.

        ``own``: how many phases it has. ``limit_a`` None: it was never told any; ``own`` 0: not known.
        """
        if limit_a is not None and (not self._limits or self._limits[-1][1] != limit_a):
            self._limits.append((told_s, limit_a))
        heard = drawn(seen, now_s, limit_a, own)
        self._note_reading(seen, heard)
        self.drawn = heard
        self._judge_deaf(seen, heard)
        if self._lost(seen):
            self.cap_a, self._away = least_a if limit_a is None else max(limit_a, least_a), True
            return
        if self._away:
            self.cap_a, self._away = math.inf, False
        if not _present(seen, heard) or (seen.off and heard.most_a < DRAWS_A):
            self.need, self.cap_a, self.single = Need.IDLE, math.inf, False
            self._quiet_s = self._modest_s = self._single_s = None
            return
        if self.need is Need.IDLE:
            self.need = Need.WANTS
        if not heard.known or (limit_a is not None and limit_a < least_a):
            self._quiet_s = self._modest_s = None
            return
        self._judge_need(heard, now_s)
        self._judge_cap(heard, limit_a, now_s)
        self._judge_phases(heard, now_s)

    def assumed_a(self, now_s: float) -> float:
        """What it draws now by all that is known, in A on the most loaded of its phases."""
        if not self.drawn.known or not self._limits:
            return self.drawn.most_a
        (read_s, read_a, took_all), (changed_s, limit_a) = self._read, self._limits[-1]
        if self.reserved_a is not None or not read_s < changed_s + SETTLE_S <= now_s:
            return self.drawn.most_a
        return limit_a if took_all else min(read_a, limit_a)

    def _lost(self, seen: Sensed) -> bool:
        """Whether nothing is known of it although it did tell something before."""
        nothing = not seen.currents_a and seen.power_w is None and seen.plugged is None and not seen.status
        self._told_us = self._told_us or not nothing
        return nothing and self._told_us

    def _note_reading(self, seen: Sensed, heard: Drawn) -> None:
        if not heard.known or seen.read_s <= self._read[0]:
            return
        told = self._told(seen.read_s, SETTLE_S)
        took_all = bool(told) and heard.most_a >= max(DRAWS_A, min(told) - _tolerance(min(told)))
        self._read = seen.read_s, heard.most_a, took_all

    def _told(self, at_s: float, for_s: float) -> list[float]:
        """The limits that stood at any time within so many seconds before then."""
        ends = [*[since_s for since_s, _ in self._limits][1:], math.inf]
        return [
            limit_a
            for (since_s, limit_a), end_s in zip(self._limits, ends, strict=False)
            if since_s <= at_s and end_s > at_s - for_s
        ]

    def _judge_deaf(self, seen: Sensed, heard: Drawn) -> None:
        told = self._told(seen.read_s, DEAF_S)
        if seen.follows is False:
            may_a = max(told, default=0.0) if self.reserved_a is None else self.reserved_a
            self.reserved_a = max(heard.most_a, may_a)
        elif heard.known and told and self._limits[0][0] <= seen.read_s - DEAF_S:
            over = heard.most_a > max(told) + _tolerance(max(told))
            self.reserved_a = max(heard.most_a, self.reserved_a or 0.0) if over else None

    def _judge_need(self, heard: Drawn, now_s: float) -> None:
        if heard.most_a >= DRAWS_A:
            self.need, self._quiet_s = Need.WANTS, None
            return
        if self._quiet_s is None:
            self._quiet_s = now_s
        if now_s >= self._quiet_s + GIVES_BACK_S:
            self.need = Need.RESTS

    def _judge_cap(self, heard: Drawn, limit_a: float | None, now_s: float) -> None:
        if limit_a is None or heard.most_a < DRAWS_A or heard.most_a >= limit_a - _tolerance(limit_a):
            self._modest_s = None
            if limit_a is not None and heard.most_a >= DRAWS_A:
                self.cap_a = math.inf
            return
        if self._modest_s is None:
            self._modest_s = now_s
        if now_s >= self._modest_s + GIVES_BACK_S:
            self.cap_a = heard.most_a + SPARE_A

    def _judge_phases(self, heard: Drawn, now_s: float) -> None:
        if len(heard.phases_a) != PHASES or heard.most_a < SPARE_A:
            return
        used = used_phases(heard.phases_a)
        if used != (0,):
            self.single, self._single_s = False, None
            return
        if self._single_s is None:
            self._single_s = now_s
        self.single = now_s >= self._single_s + PHASES_S


def used_phases(currents_a: Sequence[float]) -> tuple[int, ...]:
    """Which of its own phases, from 0, carry current."""
    least_a = max(USED * max(currents_a), DRAWS_A)
    return tuple(index for index, current_a in enumerate(currents_a) if current_a >= least_a)


def drawn(seen: Sensed, now_s: float, limit_a: float | None, own: int) -> Drawn:
    """What its signals say that it draws. A value older than ``STALE_S`` says nothing."""
    if now_s - seen.read_s > STALE_S:
        return Drawn()
    if seen.currents_a:
        return Drawn(max(0.0, *seen.currents_a), seen.currents_a, known=True)
    if seen.power_w is None:
        return Drawn()
    one_a = max(seen.power_w, 0.0) / NOMINAL_V
    if own:
        return Drawn(one_a / own, known=True)
    # On how many phases is not known: on one, unless that is more than it may.
    over = limit_a is not None and one_a > limit_a + _tolerance(limit_a)
    return Drawn(one_a / PHASES, known=True) if over else Drawn(one_a, known=True, sure=1 / PHASES)


def on_grid(heard: Drawn, amount_a: float, own: Sequence[int], count: int) -> dict[int, float]:
    """What of ``amount_a`` (on its most loaded phase) is on each of the grid's ``count`` phases.

    ``own``: the grid's phases, in the order of the station's own; empty: not known, it is counted on each of them.
    """
    if not own:
        return dict.fromkeys(range(count), amount_a * heard.sure)
    if len(heard.phases_a) <= 1 or not heard.most_a:
        return dict.fromkeys(own, amount_a)
    shares = [current_a / heard.most_a for current_a in heard.phases_a]
    return {phase: amount_a * max(share, 0.0) for phase, share in zip(own, shares, strict=False)}


def _present(seen: Sensed, heard: Drawn) -> bool:
    if heard.most_a >= DRAWS_A:
        return True
    if seen.plugged is not None:
        return seen.plugged
    return seen.status not in ABSENT


def _tolerance(limit_a: float) -> float:
    return max(LEAST_TOLERANCE_A, TOLERANCE * limit_a)
