"""Sessions at outlets that a charger has and the configuration has not: when they are given up.

Nothing is shown of such an outlet, so its status, by which others are seen to be left, is not followed (rule 4 of
``outlets.py``). A charger that charges there tells values all the while: of whom it says nothing for an hour, on one
connection, the session has ended, and its end got lost. A value that names it resumes it, its end corrects it.
"""

from collections.abc import Collection, Sequence

from agent.core.clock import Clock
from agent.core.model import Session

UNHEARD_S = 3600.0


class Elsewhere:
    """When each of these outlets was last heard of; ``configured`` are the others. Ages are monotonic."""

    def __init__(self, clock: Clock, configured: Collection[int]) -> None:
        self._clock = clock
        self._configured = configured
        self._heard_s: dict[int, float] = {}  #: of those where a session runs

    def connected(self) -> None:
        """A connection begins: what the charger could not tell before counts against nobody."""
        self._heard_s.clear()

    def heard(self, outlet: int) -> None:
        """Something came that is about the outlet's session."""
        if outlet in self._heard_s:
            self._heard_s[outlet] = self._clock.monotonic_s()

    def abandoned(self, running: Sequence[Session]) -> list[Session]:
        """Those of the running sessions that are to be given up now."""
        here = [one for one in running if one.outlet not in self._configured]
        now_s = self._clock.monotonic_s()
        self._heard_s = {one.outlet: self._heard_s.get(one.outlet, now_s) for one in here}
        return [one for one in here if now_s - self._heard_s[one.outlet] >= UNHEARD_S]
