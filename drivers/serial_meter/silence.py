"""When a meter that speaks by itself is silent. Pure: telegrams heard and a monotonic time go in, edges come out.

Rules of this file:

1. Silence is three of the meter's own periods without a good telegram, at least ``SHORTEST_S``; ``FIRST_S`` while its
   period is not known. What the configuration says comes before that.
2. The period is the longest of the last few pauses, for there are meters that send in bursts. A pause that was silence
   counts when the silence before it was about as long: a meter that sends each quarter of an hour is learnt so, and an
   outage does not make anybody more patient.
3. Each edge is told once.
"""

from collections import deque

SHORTEST_S = 5.0
FIRST_S = 30.0
PERIODS = 3
PAUSES = 16
#: "About as long": neither is longer than the other by more than this.
ALIKE = 1.5


class Silence:
    """Watches one meter. ``stale_after_s``: as configured, None to learn it."""

    def __init__(self, stale_after_s: float | None) -> None:
        self._stale_after_s = stale_after_s
        self._pauses: deque[float] = deque(maxlen=PAUSES)
        self._silence_s = 0.0  #: how long the last silence was, from telegram to telegram
        self._since_s = 0.0  #: of the last telegram, or of the opening
        self._last_s: float | None = None
        self.silent = False

    @property
    def limit_s(self) -> float:
        """How long it may be silent now."""
        if self._stale_after_s is not None:
            return self._stale_after_s
        return max(SHORTEST_S, PERIODS * max(self._pauses)) if self._pauses else FIRST_S

    def opened(self, now_s: float) -> None:
        """The wire was opened: all times start again; who was silent stays so until it is heard."""
        self._since_s = now_s
        self._last_s = None

    def heard(self, now_s: float) -> bool:
        """A good telegram came. Whether that ended a silence."""
        ended, self.silent = self.silent, False
        if self._last_s is not None:
            pause_s = now_s - self._last_s
            if not ended or self._silence_s / ALIKE <= pause_s <= self._silence_s * ALIKE:
                self._pauses.append(pause_s)
            if ended:
                self._silence_s = pause_s
        self._since_s = self._last_s = now_s
        return ended

    def tick(self, now_s: float) -> float | None:
        """Time passed: the seconds of silence when it just became one, otherwise None."""
        silent_s = now_s - self._since_s
        if self.silent or silent_s < self.limit_s:
            return None
        self.silent = True
        return silent_s
