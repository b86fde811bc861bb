"""Both edges of "the station does not follow": what its meter must show since the last decision, and what it shows."""

from collections.abc import Callable, Mapping

from agent.control.arbiter import NOBODY
from agent.control.effect import Expectation, Meter, Reading, judge
from agent.control.plan import Plan
from agent.core.ports import LatestView


class Following:
    """Of one station. ``tell(kind, data)`` takes the events; ``alarmed``: that it does not follow was told last."""

    def __init__(self, tell: Callable[[str, Mapping[str, object]], None], *, alarmed: bool) -> None:
        self._tell = tell
        self._expected: Expectation | None = None
        self._decided = False
        self.alarmed = alarmed
        self.now: bool | None = None  #: whether it follows; None: it can't be told

    def expect(self, plan: Plan, now_s: float) -> None:
        """What its meter must show from now on."""
        self._decided = True
        if plan.verdict == NOBODY:
            self._expected = None
            return
        limit_a = None if plan.off else plan.limit_a
        old = self._expected
        if old is None or (old.off, old.limit_a) != (plan.off, limit_a):
            self._expected = Expectation(plan.off, limit_a, now_s)

    def check(self, meter: Meter, view: LatestView, now_s: float) -> bool:
        """Look, and tell an edge once; whether there was one."""
        expected = self._expected
        if expected is None or not expected.demands:
            self.now = None
            return self._decided and self.alarmed and self._edge(Reading(), follows=True)
        reading = meter.reading(view, now_s)
        self.now = judge(expected, reading, now_s)
        return self.now is not None and self.now == self.alarmed and self._edge(reading, follows=self.now)

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
