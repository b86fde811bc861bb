"""One unit on a polled wire: when it is asked what, and whether it still answers. The rules stand in ``polling.py``.

Pure: monotonic times go in, decisions come out. No clock, no wire, no loop.
"""

import math

from agent.core.errors import AgentError
from agent.core.ports import PolledUnit, PollJob
from agent.pipeline.health import Health

#: So many questions in a row without a good answer, and a unit is silent.
MISSES = 3
#: Two questions that go wrong at once are at least so far apart: a burst of noise is over by then.
RETRY_S = 0.5
#: How often a silent unit is tried: after 5 s, then each time after twice as long, up to 60 s.
FIRST_PROBE_S = 5.0
MAX_PROBE_S = 60.0
#: A probe that takes long is tried less often: a silent unit has at most a fiftieth of the wire's time.
PROBE_SHARE = 50
#: The first rounds of the units of a wire are spread over so much, or over the shortest period of a unit.
SPREAD_S = 1.0

_DOUBLINGS = 6  # 5 s doubled so often is beyond MAX_PROBE_S


class _Job:
    """A job and its grid: slots ``every_s`` apart, from ``start_s`` on. ``due_s`` is when it is to be run next."""

    __slots__ = ("due_s", "job", "slot", "start_s")

    def __init__(self, job: PollJob, start_s: float) -> None:
        self.job = job
        self.start_s = start_s
        self.slot = 0
        self.due_s = start_s

    def start(self, start_s: float) -> None:
        """A new grid."""
        self.start_s = self.due_s = start_s
        self.slot = 0

    def take(self, now_s: float, hold_s: float) -> int:
        """It runs now: the next slot is the first one that is still to come. Gives how many were missed."""
        every_s = self.job.every_s
        before = self.slot
        # Never the same slot twice, however the division rounds.
        self.slot = max(before + 1, math.floor((now_s - self.start_s) / every_s) + 1)
        missed = self.slot - before - 1 if hold_s <= self.due_s else math.floor((now_s - hold_s) / every_s)
        self.due_s = self.start_s + self.slot * every_s
        return max(missed, 0)

    def at_once(self, now_s: float) -> None:
        """Run it as soon as can be. The grid stays; what went by of it is not missed."""
        self.slot = max(self.slot - 1, math.floor((now_s - self.start_s) / self.job.every_s))
        self.due_s = now_s


class Unit:
    """The schedule and the health of one ``PolledUnit``."""

    def __init__(self, polled: PolledUnit) -> None:
        self.polled = polled
        self.device = polled.device
        self.silent = False  #: said so; stays so over new openings of the wire until it answers
        self.stopped = False  #: it never will answer as it is configured
        self.online = False  #: it has answered since its wire was last opened, or since its wire last was lost
        self.heard = False  #: it has answered since the wire was opened
        self.tried = False  #: it was asked since the wire was opened
        self.misses = 0
        self.probes = 0  #: questions since it fell silent
        self.error = ""
        self.hint = ""
        self.since_us = 0
        self.answered_s: float | None = None  #: its last good answer
        self.known_s: float | None = None  #: since when silence counts: its last good answer, or the first opening
        self.crashed: set[str] = set()  #: bugs told since it last answered; as many as there are types
        self._hold_s = -math.inf  #: not asked before
        self._shortest_s = math.inf
        self._asked: tuple[PollJob, ...] = ()
        self._jobs: list[_Job] = []
        self._running: _Job | None = None

    @property
    def state(self) -> Health:
        """What is known of the unit itself, whatever its wire does."""
        if self.stopped:
            return Health.UNSUPPORTED
        if self.silent:
            return Health.OFFLINE
        return Health.ONLINE if self.heard else Health.STARTING

    @property
    def alive(self) -> bool:
        """Whether it is asked all that it has: neither silent nor stopped."""
        return not (self.silent or self.stopped) and bool(self._jobs)

    @property
    def next_s(self) -> float:
        """When it is to be asked next; infinity when there is nothing to ask."""
        if self.stopped or not self._jobs:
            return math.inf
        if self.silent:
            return self._hold_s
        return max(self._hold_s, min(job.due_s for job in self._jobs))

    def opened(self, now_s: float, share: float, *, probe: bool) -> None:
        """The wire was opened: all rounds start anew, ``share`` (0 to 1) of the spread later.

        A silent unit keeps the time of its next probe unless ``probe`` says to try it at once.
        """
        if self.known_s is None:
            self.known_s = now_s
        self.tried = self.heard = False
        self._jobs, self._asked = [], ()
        self.learn(now_s)
        start_s = now_s + share * min(SPREAD_S, self._shortest_s)
        for job in self._jobs:
            job.start(start_s)
        if not self.silent:
            self._hold_s = -math.inf
        elif probe:
            self._hold_s = now_s

    def closed(self) -> None:
        """The wire is gone."""
        self.heard = False
        if not self.silent:
            self.online = False

    def pick(self, now_s: float) -> tuple[PollJob, int]:
        """What to ask now, and how many of its slots went by unasked."""
        self.tried = True
        if self.silent:
            self.probes += 1
            self._running = self._jobs[0]
            return self._running.job, 0
        job = self._jobs[0] if len(self._jobs) == 1 else min(self._jobs, key=_due_s)
        self._running = job
        return job.job, job.take(now_s, self._hold_s)

    def answered(self, now_s: float) -> None:
        """A good answer. Whoever was silent is asked all that it has, at once."""
        self.misses = 0
        self.answered_s = self.known_s = now_s
        self.heard = True
        if self.silent:
            self.silent = False
            self.probes = 0
            self._hold_s = now_s
            for job in self._jobs:
                job.take(now_s, now_s)
                if job is not self._running:
                    job.at_once(now_s)
        if self.crashed:
            self.crashed.clear()
        self.learn(now_s)

    def missed(self, error: Exception, asked_s: float, now_s: float, *, shared: bool) -> None:
        """No good answer to what was asked at ``asked_s``. ``shared``: others on the wire are alive and come first."""
        self.misses += 1
        self.note(error)
        took_s = now_s - asked_s
        if self.silent:
            longest_s = max(MAX_PROBE_S, PROBE_SHARE * took_s)
            self._hold_s = now_s + min(longest_s, FIRST_PROBE_S * float(1 << min(self.probes, _DOUBLINGS)))
        else:
            # The others get as long as this took; alone on its wire a unit is tried again at once.
            self._hold_s = max(now_s + took_s if shared else now_s, asked_s + RETRY_S)
            if self._running is not None:
                self._running.at_once(now_s)

    def hurry(self, now_s: float) -> bool:
        """Ask all that it has as soon as can be; a silent unit is probed. Whether it is asked at all."""
        if self.stopped:
            return False
        if self.silent:
            self._hold_s = now_s
        for job in self._jobs:
            job.at_once(now_s)
        return True

    def fall_silent(self, now_s: float) -> None:
        """From now on it is only probed."""
        self.silent = True
        self.probes = 0
        self._hold_s = now_s + FIRST_PROBE_S

    def note(self, error: Exception) -> None:
        """Remember the newest fault."""
        if isinstance(error, AgentError):
            self.error, self.hint = f"{error.op}: {error.reason}", error.hint
        else:
            self.error = f"{type(error).__name__}: {error}"
            self.hint = "this is a bug of Enlace: the log holds its traceback"

    def learn(self, now_s: float) -> bool:
        """Take the unit's jobs as they are now; whether they have changed. New ones are due at once."""
        jobs = self.polled.jobs
        if jobs is self._asked:
            return False
        asked = tuple(jobs)
        if asked == self._asked:
            return False
        known = {id(job.job): job for job in self._jobs}
        self._jobs = [known.get(id(job)) or _Job(job, now_s) for job in asked]
        self._asked = asked
        self._shortest_s = min((job.every_s for job in asked), default=math.inf)
        return True


def _due_s(job: _Job) -> float:
    return job.due_s
