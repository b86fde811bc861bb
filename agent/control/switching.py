"""How often a station may be switched (trials C5). Pure.

Rules of this file:

1. What was switched on stays on for ``min_on_s``, what was switched off stays off for ``min_off_s``. In any hour it is
   switched ``per_hour`` times at most, in any day ``per_day`` times.
2. A stop that protects waits for nothing; it counts like each other, so that what follows waits the longer.
3. A hold forgets nothing: when it is over, what is wanted then is done.
4. Times are monotonic here. Who keeps them over a restart turns them into wall time and back; where wall time has gone
   backwards meanwhile, a switch is taken to be just done.
"""

from dataclasses import dataclass

HOUR_S = 3600.0
DAY_S = 86400.0
#: Of stops that protect there may be more than the quota; so many are remembered.
REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class SwitchLimits:
    """What a station's contactor is spared. A DC charger's wants 300 s instead of 60 s."""

    min_on_s: float = 60.0
    min_off_s: float = 60.0
    per_hour: int = 6
    per_day: int = 60


DEFAULT_LIMITS = SwitchLimits()


@dataclass(frozen=True, slots=True)
class Switched:
    """What a station was told last (None: never anything), and when it was switched, monotonic, oldest first."""

    on: bool | None = None
    at_s: tuple[float, ...] = ()

    def to(self, on: bool, now_s: float) -> "Switched":  # noqa: FBT001 - a state, not a flag
        """After it was told so. Telling on to one that was never told anything switches nothing."""
        if on == self.on or (on and self.on is None):
            return Switched(on, self.at_s)
        recent = tuple(one for one in self.at_s if now_s - one < DAY_S)
        return Switched(on, (*recent, now_s)[-REMEMBERED:])


@dataclass(frozen=True, slots=True)
class Hold:
    """Until when (monotonic) a switch must wait, and why."""

    until_s: float
    why: str


def hold(switched: Switched, limits: SwitchLimits, now_s: float) -> Hold | None:
    """What keeps a station from being switched over now; None: nothing does."""
    least_s, word = (limits.min_on_s, "on") if switched.on else (limits.min_off_s, "off")
    found = []
    if switched.at_s:
        found.append(Hold(switched.at_s[-1] + least_s, f"it stays {word} for at least {least_s:g} s"))
    for most, window_s, name in ((limits.per_hour, HOUR_S, "an hour"), (limits.per_day, DAY_S, "a day")):
        if len(switched.at_s) >= most:
            found.append(Hold(switched.at_s[-most] + window_s, f"it is switched {most} times {name} at most"))
    longest = max(found, key=lambda one: one.until_s, default=None)
    return longest if longest is not None and longest.until_s > now_s else None
