"""The decisions about one station: what, why, and what came of it. Kept as a ring of notes, told as events.

A decision is a change of on/off, limit or winner. It is written and told when it is known what came of it, and again
when that changes in kind (done, held, waits, failed, refused): a device that stays away does not fill the ledger.
"""

from collections import deque
from dataclasses import replace
from datetime import tzinfo

from agent.control import notes
from agent.control.arbiter import NOBODY, Verdict, explain
from agent.control.keeping import Keeping
from agent.control.model import Decision, Wish
from agent.core.clock import Clock
from agent.core.model import Event

#: What came of a decision whose device has not answered yet.
BEING_DONE = "being done"


class Journal:
    """The newest ``DECISIONS`` decisions about one station. ``decisions``: what was kept, oldest first."""

    def __init__(self, station: str, keeping: Keeping, clock: Clock, decisions: list[tuple[int, Decision]]) -> None:
        self._station = station
        self._keeping = keeping
        self._clock = clock
        self._entries = deque(decisions, maxlen=notes.DECISIONS)
        self._word = ""  # how the newest one came out, as it was told last

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
            found[0] = replace(found[0], reason=explain(verdict, wishes, self._clock.now_us(), zone), wishes=wishes)
        return found

    def note(self, verdict: Verdict, wishes: tuple[Wish, ...], zone: tzinfo) -> None:
        """Begin an entry where this is another decision than the newest one."""
        last = self.newest
        if last is None and verdict == NOBODY:
            return
        if last is not None and _same(last, verdict):
            return
        now_us = self._clock.now_us()
        reason = explain(verdict, wishes, now_us, zone)
        if verdict == NOBODY:
            reason += " any more: what was set is taken back"
        number = self._entries[-1][0] + 1 if self._entries else 1
        entry = Decision(self._station, now_us, verdict.on, verdict.limit_a, verdict.winner, reason, wishes, BEING_DONE)
        self._entries.append((number, entry))
        self._word = ""

    def came_to(self, word: str, text: str) -> None:
        """What came of the newest one, in a word and in words."""
        if not self._entries or word == self._word:
            return
        self._word = word
        number, decision = self._entries[-1]
        if decision.result == text:
            return
        self._entries[-1] = number, replace(decision, result=text)
        data = notes.decision_data(*self._entries[-1])
        event = Event("station.decided", self._clock.now_us(), self._station, data)
        self._keeping.put(notes.DECISION, notes.decision_key(self._station, number), data, [event])


def _same(decision: Decision, verdict: Verdict) -> bool:
    said = _essence(decision.on, decision.limit_a, decision.winner)
    return said == _essence(verdict.on, verdict.limit_a, verdict.winner)


def _essence(on: bool | None, limit_a: float | None, winner: Wish | None) -> object:  # noqa: FBT001 - an opinion
    return on, limit_a, None if winner is None else (winner.origin, winner.key)
