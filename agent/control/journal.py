"""The decisions about one station: what, why, from which values, and what came of it. A ring of notes, told as events.

Rules of this file:

1. A decision is a change of on/off, limit or winner. It is written and told when it is known what came of it, and again
   when that changes in kind (done, held, waits, failed, refused): a device that stays away does not fill the ledger.
2. Whether the power followed is added when it is known, and when that changes; who asks is told, but it is no event:
   ``station.not_following`` and ``station.follows`` are.
3. Load management changes a limit every few seconds. After a change of the limit alone, by something automatic, the
   next such one is brought into that entry instead of a new one, which is written and told once in ``TOLD_S`` at most,
   and never lost for longer. On and off are told at once.
"""

import math
from collections import deque
from dataclasses import replace
from datetime import tzinfo

from agent.control import notes
from agent.control.arbiter import NOBODY, Verdict, automatic, deciders, explain
from agent.control.keeping import Keeping
from agent.control.model import Decision, Wish
from agent.core.clock import Clock
from agent.core.model import Event, Number

#: What came of a decision whose device has not answered yet.
BEING_DONE = "being done"
TOLD_S = 60.0
#: A decision keeps so many of the wishes and values behind it, the strongest first.
MAX_WISHES = 16
MAX_INPUTS = 32


class Journal:
    """The newest ``DECISIONS`` decisions about one station. ``decisions``: what was kept, oldest first."""

    def __init__(self, station: str, keeping: Keeping, clock: Clock, decisions: list[tuple[int, Decision]]) -> None:
        self._station = station
        self._keeping = keeping
        self._clock = clock
        self._entries = deque(decisions, maxlen=notes.DECISIONS)
        self._word = ""  # how the newest one came out, as it was told last
        self._limiter: Wish | None = None  # whose limit the newest one has
        self._gliding = False  # the newest one differs from the one before by its limit alone
        self._unwritten = False
        self._written_s = -math.inf
        self._begun_s = -math.inf

    @property
    def newest(self) -> Decision | None:
        """The newest decision."""
        return self._entries[-1][1] if self._entries else None

    @property
    def entries(self) -> list[tuple[int, Decision]]:
        """All, oldest first, with their numbers."""
        return list(self._entries)

    def newest_first(self, limit: int, verdict: Verdict, wishes: tuple[Wish, ...], zone: tzinfo) -> list[Decision]:
        """Up to so many of them; the newest as it is explained now, where it still is what is decided."""
        found = [decision for _, decision in list(self._entries)[::-1][:limit]]
        if found and verdict != NOBODY and _same(found[0], verdict):
            reason = explain(verdict, wishes, self._clock.now_us(), zone)
            found[0] = replace(found[0], reason=reason, wishes=wishes, inputs=_inputs(verdict))
        return found

    def note(self, verdict: Verdict, wishes: tuple[Wish, ...], zone: tzinfo) -> None:
        """Begin an entry where this is another decision than the newest one, or bring another limit into that one."""
        last = self.newest
        if last is None and verdict == NOBODY:
            return
        if last is not None and _same(last, verdict):
            return
        now_us, now_s = self._clock.now_us(), self._clock.monotonic_s()
        reason = explain(verdict, wishes, now_us, zone)
        if verdict == NOBODY:
            reason = "nobody wants anything of it any more: what was set is taken back"
        entry = Decision(
            station=self._station,
            t_us=now_us,
            on=verdict.on,
            limit_a=verdict.limit_a,
            winner=verdict.winner,
            reason=reason,
            wishes=_worth_keeping(verdict, wishes),
            result=BEING_DONE,
            inputs=_inputs(verdict),
        )
        glides = last is not None and self._glides(last, verdict)
        if glides and self._gliding and self._merges(verdict, now_s):
            self._entries[-1] = self._entries[-1][0], entry
            self._unwritten = True
        else:
            if self._unwritten:
                self._write()
            number = self._entries[-1][0] + 1 if self._entries else 1
            self._entries.append((number, entry))
            self._gliding, self._word, self._begun_s = glides, "", now_s
        self._limiter = verdict.limiter

    def came_to(self, word: str, text: str) -> None:
        """What came of the newest one, in a word and in words."""
        if not self._entries or (word == self._word and not self._unwritten):
            return
        another, self._word = word != self._word, word
        number, decision = self._entries[-1]
        if decision.result == text and not self._unwritten:
            return
        self._entries[-1] = number, replace(decision, result=text)
        self._unwritten = True
        if another:
            self._write()  # else with the next tick whose turn it is

    def saw(self, *, follows: bool, drawn: str) -> None:
        """Whether the station does what was decided last, by what it draws."""
        if not self._entries or self._entries[-1][1].follows is follows:
            return
        number, decision = self._entries[-1]
        edge = decision.follows is not None or not follows
        self._entries[-1] = number, replace(decision, follows=follows, drawn=drawn)
        if self._unwritten or (self._gliding and not edge):
            self._unwritten = True
        else:
            self._keep()

    def tick(self) -> None:
        """Write what has waited for long enough."""
        if self._unwritten and self._clock.monotonic_s() - self._written_s >= TOLD_S:
            self._write()

    def close(self) -> None:
        """Write what waits."""
        if self._unwritten:
            self._write()

    def _glides(self, last: Decision, verdict: Verdict) -> bool:
        """Whether something automatic changes the limit and nothing else."""
        same = last.on == verdict.on and (verdict.switcher is None or _who(last.winner) == _who(verdict.switcher))
        ends = [one for one in (self._limiter, verdict.limiter) if one is not None]
        return same and bool(ends) and any(automatic(one) for one in ends)

    def _merges(self, verdict: Verdict, now_s: float) -> bool:
        """Whether the newest entry takes it in. Another limiter begins one, but not each few seconds."""
        same = verdict.limiter is not None and _who(self._limiter) == _who(verdict.limiter)
        return same or now_s - self._begun_s < TOLD_S

    def _write(self) -> None:
        self._keep(
            [Event("station.decided", self._clock.now_us(), self._station, notes.decision_data(*self._entries[-1]))]
        )

    def _keep(self, events: list[Event] | None = None) -> None:
        number, decision = self._entries[-1]
        self._unwritten = False
        self._written_s = self._clock.monotonic_s()
        data = notes.decision_data(number, decision)
        self._keeping.put(notes.DECISION, notes.decision_key(self._station, number), data, events or [])


def _worth_keeping(verdict: Verdict, wishes: tuple[Wish, ...]) -> tuple[Wish, ...]:
    """Of many wishes those that decide and the strongest others, in their order."""
    if len(wishes) <= MAX_WISHES:
        return wishes
    first = deciders(verdict)
    ranked = sorted(wishes, key=lambda one: (one not in first, one.origin))
    chosen = {id(one) for one in ranked[:MAX_WISHES]}
    return tuple(one for one in wishes if id(one) in chosen)


def _inputs(verdict: Verdict) -> dict[str, Number | None]:
    """The values that those who decided have judged by."""
    found: dict[str, Number | None] = {}
    for wish in deciders(verdict):
        found.update(wish.inputs)
    return dict(list(found.items())[:MAX_INPUTS])


def _same(decision: Decision, verdict: Verdict) -> bool:
    said = decision.on, decision.limit_a, _who(decision.winner)
    return said == (verdict.on, verdict.limit_a, _who(verdict.winner))


def _who(wish: Wish | None) -> object:
    return None if wish is None else (wish.origin, wish.key)
