"""Both edges of "the station does not follow": what its meter must show since the last decision, and what it shows.

A limit that changes every few seconds would never convict anybody, for each new one has its time to be followed. So who
draws more than the highest of those of the last ``FOLLOW_S`` does not follow either.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping

from agent.control.arbiter import NOBODY
from agent.control.effect import FOLLOW_S, Expectation, Meter, Reading, judge
from agent.control.plan import Plan
from agent.core.ports import LatestView

#: So many limits are remembered. With more of them within ``FOLLOW_S`` nobody is convicted.
_LIMITS = 256


class Following:
    """Of one station. ``tell(kind, data)`` takes the events; ``alarmed``: that it does not follow was told last."""

    def __init__(self, tell: Callable[[str, Mapping[str, object]], None], *, alarmed: bool) -> None:
        self._tell = tell
        self._expected: Expectation | None = None
        self._before: deque[Expectation] = deque(maxlen=_LIMITS)  # limits that came right before, oldest first
        self._decided = False
        self.alarmed = alarmed
        self.now: bool | None = None  #: whether it follows; None: it can't be told
        self.drawn = ""  #: what it drew then, in words

    def expect(self, plan: Plan, now_s: float) -> None:
        """What its meter must show from now on."""
        self._decided = True
        old = self._expected
        if plan.verdict == NOBODY:
            self._expected = None
            self._before.clear()
            return
        limit_a = None if plan.off else plan.limit_a
        if old is not None and (old.off, old.limit_a) == (plan.off, limit_a):
            return
        self._expected = Expectation(plan.off, limit_a, now_s)
        if old is not None and old.limit_a is not None and limit_a is not None:
            self._before.append(old)
        else:
            self._before.clear()

    def check(self, meter: Meter, view: LatestView, now_s: float) -> bool:
        """Look, and tell an edge once; whether there was one."""
        expected = self._expected
        if expected is None or not expected.demands:
            self.now = None
            return self._decided and self.alarmed and self._edge(Reading(), follows=True)
        reading = meter.reading(view, now_s)
        self.now = judge(expected, reading, now_s)
        loosest = self._loosest(expected, reading)
        if self.now is None and loosest is not None and judge(loosest, reading, now_s) is False:
            self.now = False
        self.drawn = _words(reading)
        return self.now is not None and self.now == self.alarmed and self._edge(reading, follows=self.now)

    def _loosest(self, expected: Expectation, reading: Reading) -> Expectation | None:
        """What was demanded at least all through the ``FOLLOW_S`` before it was read; None: it can't be told."""
        heard = (*reading.currents, *(() if reading.power is None else (reading.power,)))
        start_s = min((read_s for _, read_s in heard), default=-math.inf) - FOLLOW_S
        limits = [*self._before, expected]
        place = sum(one.since_s <= start_s for one in limits) - 1
        if place < 0 or expected.limit_a is None:
            return None
        most_a = max(one.limit_a or 0 for one in limits[place:])
        return Expectation(off=False, limit_a=most_a, since_s=limits[place].since_s)

    def _edge(self, reading: Reading, *, follows: bool) -> bool:
        expected = self._expected
        data = {
            "off": None if expected is None else expected.off,
            "limit_a": None if expected is None else expected.limit_a,
            "power_w": None if reading.power is None else reading.power[0],
            "currents_a": [value for value, _ in reading.currents],
        }
        self.alarmed = not follows
        self._tell("station.follows" if follows else "station.not_following", data)
        return True


def _words(reading: Reading) -> str:
    parts = [] if reading.power is None else [f"{reading.power[0]:g} W"]
    if reading.currents:
        parts.append(" / ".join(f"{value:g}" for value, _ in reading.currents) + " A")
    return ", ".join(parts)
