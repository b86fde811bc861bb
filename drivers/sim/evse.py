"""A simulated charging outlet with a vehicle that comes and goes: what all simulated chargers have in common.

States are those of the control pilot (IEC 61851-1 Annex A): A no vehicle, B plugged in, C charging.
"""

import math
import random
from dataclasses import dataclass
from enum import StrEnum

PHASES = 3
NOMINAL_V = 230.0
MIN_CURRENT_A = 6.0
RAMP_A_S = 2.0
#: A vehicle comes, is plugged in, begins to draw a little later, charges, and leaves.
AWAY_S = (20.0, 60.0)
WAITS_S = (5.0, 10.0)
CHARGES_S = (240.0, 600.0)


class Pilot(StrEnum):
    """The state of the control pilot."""

    A = "A"
    B = "B"
    C = "C"


@dataclass(frozen=True, slots=True)
class Visit:
    """One vehicle: it is plugged in from ``from_s``, wants energy from ``draws_from_s`` to ``draws_to_s``."""

    from_s: float
    draws_from_s: float
    draws_to_s: float
    to_s: float
    wants_a: float


class Evse:
    """The outlet as a function of time. Deterministic by ``seed``.

    ``limit_a`` is what the charger was told to offer at most; without a message for ``timeout_s`` it falls back to
    ``failsafe_a`` by itself (None: it never does). Vehicles come and go ``pace`` times as fast, with energy still the
    integral of power over time; 0: none comes by itself. Of ``phases`` it uses the first.
    """

    def __init__(
        self, seed: int = 1, max_a: float = 32.0, failsafe_a: float = 6.0, *, pace: float = 1.0, phases: int = PHASES
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._pace = pace
        self.phases = phases
        self.max_a = max_a
        self.failsafe_a = failsafe_a
        self.timeout_s: float | None = None
        self.enabled = True
        self.current_a = 0.0
        self.session_wh = 0.0
        self.session_s = 0.0
        self.total_wh = 1_234_567.0
        self._limit_a = max_a
        self._told_s = 0.0
        self._t_s = 0.0
        self._visit = self._next_visit(0.0)

    def step(self, seconds: float) -> None:
        """Let time pass, in steps of at most one second."""
        while seconds > 0:
            self._step(min(seconds, 1.0))
            seconds -= 1.0

    def tell_limit(self, limit_a: float) -> None:
        """A message with the most that it may offer; below the standard's 6 A it offers nothing."""
        self._limit_a = min(max(0.0, limit_a), self.max_a)
        self.hear()

    def hear(self) -> None:
        """Any message that keeps it from falling back."""
        self._told_s = self._t_s

    @property
    def limit_a(self) -> float:
        """What it offers at most just now."""
        silent = self.timeout_s is not None and self._t_s - self._told_s > self.timeout_s
        return min(self._limit_a, self.failsafe_a) if silent else self._limit_a

    @property
    def offered_a(self) -> float:
        """What it offers the vehicle: nothing when it is switched off or the limit is below the standard's least."""
        return self.limit_a if self.enabled and self.limit_a >= MIN_CURRENT_A else 0.0

    def plug_in(self, wants_a: float = 16.0, waits_s: float = 0.0, draws_s: float = math.inf) -> None:
        """A vehicle comes now, wants energy after ``waits_s`` and for ``draws_s``, and stays until it is unplugged."""
        from_s = self._t_s + waits_s
        self._visit = Visit(self._t_s, from_s, from_s + draws_s, math.inf, wants_a)
        self.session_wh = self.session_s = 0.0

    def unplug(self) -> None:
        """The vehicle leaves now; the next one comes as it would after any other."""
        self._visit = self._next_visit(self._t_s)
        self.current_a = self.session_wh = self.session_s = 0.0

    @property
    def wants(self) -> bool:
        """Whether a vehicle is there that would draw if it were offered something."""
        return self._visit.draws_from_s <= self._t_s < self._visit.draws_to_s

    @property
    def plugged(self) -> bool:
        """Whether a vehicle is there."""
        return self._visit.from_s <= self._t_s < self._visit.to_s

    @property
    def pilot(self) -> Pilot:
        """The control pilot."""
        if not self.plugged:
            return Pilot.A
        return Pilot.C if self.wants and self.offered_a else Pilot.B

    @property
    def currents_a(self) -> tuple[float, ...]:
        """Of the three phases."""
        if not self.current_a:
            return (0.0,) * PHASES
        return tuple(
            max(0.0, self.current_a + 0.05 * math.sin(self._t_s / 7 + phase)) if phase < self.phases else 0.0
            for phase in range(PHASES)
        )

    @property
    def voltages_v(self) -> tuple[float, ...]:
        """Of the three phases, to neutral; a load pulls them down a little."""
        return tuple(
            NOMINAL_V + 1.5 * math.sin(self._t_s / 97 + 2 * phase) - 0.05 * self.current_a for phase in range(PHASES)
        )

    @property
    def power_w(self) -> float:
        """Drawn from the site."""
        return sum(current * voltage for current, voltage in zip(self.currents_a, self.voltages_v, strict=True))

    def _step(self, seconds: float) -> None:
        self._t_s += seconds
        if self._t_s >= self._visit.to_s:
            self._visit = self._next_visit(self._t_s)
            self.session_wh = self.session_s = 0.0
        target_a = min(self._visit.wants_a, self.offered_a) if self.pilot is Pilot.C else 0.0
        if target_a > self.current_a:
            self.current_a = min(target_a, self.current_a + RAMP_A_S * seconds)
        else:
            self.current_a = target_a  # a vehicle must follow a lower limit within some seconds; this one does at once
        used_wh = self.power_w * seconds / 3600
        self.session_wh += used_wh
        self.total_wh += used_wh
        if self.plugged:
            self.session_s += seconds

    def _next_visit(self, now_s: float) -> Visit:
        if not self._pace:
            return Visit(math.inf, math.inf, math.inf, math.inf, 0.0)

        def uniform(low: float, high: float) -> float:
            return self._random.uniform(low, high) / self._pace

        from_s = now_s + uniform(*AWAY_S)
        draws_from_s = from_s + uniform(*WAITS_S)
        draws_to_s = draws_from_s + uniform(*CHARGES_S)
        return Visit(
            from_s, draws_from_s, draws_to_s, draws_to_s + uniform(*AWAY_S), self._random.choice((11.0, 16.0, 32.0))
        )
