"""One alarm or rule at work: how it stands, what it wants of stations, what is told, and its note.

Rules of this file:

1. What it wants of stations is derived at once, in memory; the note and the events follow (``alarm_keeper.py``).
2. What a person does is on disk before it is so: else she is told ``StoreError``, and nothing has changed.
3. An order (``do``) is given when the raising that it belongs to is on disk, so that after a restart it is given under
   the same name, which control does once. It is given again only within ``DO_TTL_S``: later it would be one of old.
4. Of one that toggles, some changes a minute are told and kept; the others are counted, and the next that is told
   says how many. Its wishes follow each change; its orders those that are told.
5. Until ``START_S`` after it was made, what is not known says nothing: the wires are still starting.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo

from agent.control import rules
from agent.control.alarm_acts import DO_TTL_S, issuer_of, wishes_of
from agent.control.alarm_events import BY_CONDITION, BY_CONFIGURATION, BY_TIME, event_of
from agent.control.alarm_keeper import Allowance, Keeper
from agent.control.alarm_model import AlarmStatus, RuleSpec
from agent.control.alarm_notes import Kept, note_of, read_note, renamed
from agent.control.memory import Memory
from agent.control.model import Wish
from agent.control.rules import Judged, RuleEvent, RuleState, TimePassed, Transition
from agent.core.clock import Clock
from agent.core.model import Event, Number

START_S = 10.0
MAX_WHY = 500

Values = Mapping[str, Number | None]

#: What comes of the condition alone: it may toggle.
_BY_ITSELF = frozenset({Transition.RAISED, Transition.CLEARED, Transition.SUPPRESSED, Transition.UNSUPPRESSED})


@dataclass(slots=True)
class Around:
    """What all entries share.

    ``explain`` says why a condition is as it is, and with which values; ``order`` gives the orders of a raising;
    ``flipped`` is told who became active or over.
    """

    clock: Clock
    memory: Memory
    record: Callable[[Event], None]
    tell: Callable[[Event], None]
    derive: Callable[[str, Sequence[Wish]], None]
    explain: Callable[[str], tuple[str, Values]]
    order: Callable[[AlarmStatus], None]
    flipped: Callable[[str], None]
    zone: tzinfo = UTC


class AlarmEntry:
    """One of them; ``note``: what it kept. Used by ``AlarmBook`` alone."""

    def __init__(self, spec: RuleSpec, around: Around, note: Mapping[str, object] | None) -> None:
        self.spec = spec
        self._around = around
        now_s = around.clock.monotonic_s()
        kept = read_note(spec, note, around.clock)
        self._status, self._state, self._shelved_for_s = kept.status, kept.state, kept.shelved_for_s
        self._settles_s: float | None = now_s + START_S  # None: it has
        self._judged = Judged(when=None)
        self._cause: tuple[str, Values] = ("", {})
        self._wishes: tuple[Wish, ...] = ()
        self._allowance = Allowance(now_s)
        self._left_out = 0
        self._keeper = Keeper(spec.id, around.clock, around.memory, around.record, self._note, self._give_orders)
        self._ended = False
        self._wake_s: float | None = None
        self._told = self._to_tell()
        self._orders = self._are_due()
        self._happen(TimePassed(), now_s, BY_TIME)

    @property
    def status(self) -> AlarmStatus:
        """How it stands."""
        return self._status

    @property
    def active(self) -> bool:
        """Whether its condition holds, delays considered."""
        return self._state.active

    @property
    def conditions(self) -> tuple[bool | None, bool | None]:
        """What they were judged to be last."""
        return self._judged.when, self._judged.clear

    @property
    def idle(self) -> bool:
        """Whether nothing of it is being written."""
        return self._keeper.idle

    @property
    def kept(self) -> bool:
        """Whether all of it is on disk."""
        return self._keeper.kept

    def judged(self, when: bool | None, clear: bool | None, now_s: float) -> None:  # noqa: FBT001 - three values
        """What its conditions are from now on; None: not known."""
        self._judged = Judged(when, clear)
        judged = replace(self._judged, starting=self._settles_s is not None and now_s < self._settles_s)
        begins = self._state.due_s is None and not self._state.active
        if begins and self.spec.for_s and rules.demand(self.spec, judged):
            self._cause = self._around.explain(self.spec.id)
        self._happen(judged, now_s, BY_CONDITION)

    def tick(self, now_s: float) -> None:
        """What is due by time."""
        if not self._ended:
            self._pass(now_s)
        if self._orders:
            self._keeper.start()
        self._keeper.tick(now_s)

    def _pass(self, now_s: float) -> None:
        if self._wake_s is not None and now_s >= self._wake_s:
            self._happen(TimePassed(), now_s, BY_TIME)
        if self._settles_s is not None and now_s >= self._settles_s:
            self._settles_s = None
            self._happen(self._judged, now_s, BY_CONDITION)
        if self._told != self._to_tell() and self._allowance.take(now_s):
            self._tell_what_was_left_out()

    def suppress(self, by: str, now_s: float) -> None:
        """That active alarm explains it; empty: none does."""
        self._happen(rules.Suppress(by), now_s, BY_CONDITION)

    def change(self, spec: RuleSpec) -> None:
        """It is configured so from now on: delays begin anew. Other conditions are judged by who changed them."""
        if spec != self.spec:
            same = (spec.when, spec.clear) == (self.spec.when, self.spec.clear)
            kept = renamed(Kept(self._status, self._state), spec)
            self.spec, self._status, self._state = spec, kept.status, kept.state
            now_s = self._around.clock.monotonic_s()
            if same:
                self.judged(self._judged.when, self._judged.clear, now_s)
            else:
                self._judged, self._settles_s = Judged(when=None), now_s + START_S
        self._show()

    def end(self) -> None:
        """It is no longer configured: its wishes and its note go."""
        self._ended = True
        if self._state.active:
            self._state = replace(self._state, active=False)
            self._stamp(Transition.CLEARED)
        self._show()
        if self._told[0]:  # they were told that it is active
            self._emit(Transition.CLEARED, BY_CONFIGURATION, {"reason": "it is no longer configured"})
        self._orders = False
        self._keeper.put(None)

    async def close(self) -> None:
        """End its task; what was not handed to the store is not kept."""
        await self._keeper.close()

    async def acknowledge(self, who: str, note: str) -> bool:
        """Somebody has seen it; whether nobody had before. Raises ``StoreError``."""
        details: dict[str, object] = {"note": note}
        stamps = {"acknowledged_us": self._around.clock.now_us(), "acknowledged_by": who}
        return await self._act(rules.Acknowledge(), who, stamps, details)

    async def shelve(self, for_s: float, who: str, reason: str) -> None:
        """Tell nobody for so long. Raises ``StoreError``."""
        until_us = self._around.clock.now_us() + round(for_s * 1e6)
        details: dict[str, object] = {"for_s": for_s, "until_us": until_us, "reason": reason}
        stamps = {"shelved_until_us": until_us, "shelved_by": who}
        event = rules.Shelve(self._around.clock.monotonic_s() + for_s)
        await self._act(event, who, stamps, details, shelved_for_s=for_s)

    async def unshelve(self, who: str) -> None:
        """Tell people again. Raises ``StoreError``."""
        await self._act(rules.Unshelve(), who, {}, {})

    async def _act(
        self,
        event: RuleEvent,
        who: str,
        stamps: Mapping[str, object],
        details: Mapping[str, object],
        *,
        shelved_for_s: float | None = None,
    ) -> bool:
        """Do what a person does: first on disk, then here. Whether it changed anything."""
        async with self._keeper.alone:
            now_s = self._around.clock.monotonic_s()
            self.tick(now_s)
            done = rules.step(self.spec, self._state, event, now_s)
            if not done.transitions:
                return False
            for_s = self._shelved_for_s if shelved_for_s is None else shelved_for_s
            status = self._shown(replace(self._status, **stamps), done.state)  # type: ignore[arg-type] # its fields
            told = event_of(done.transitions[-1], status, self._around.clock.now_us(), who, details)
            await self._keeper.store(note_of(Kept(status, done.state, for_s)), told)
            # Meanwhile it may have been raised again: she has not seen that one.
            now_s = self._around.clock.monotonic_s()
            self._happen(TimePassed(), now_s, BY_TIME)
            if not isinstance(event, rules.Acknowledge) or self._status.raised_count == status.raised_count:
                self._state = rules.step(self.spec, self._state, event, now_s).state
                self._status = replace(self._status, **stamps)  # type: ignore[arg-type] # its fields
                self._shelved_for_s = for_s
                self._happen(TimePassed(), now_s, BY_TIME)
            self._around.tell(told)
        self.tick(self._around.clock.monotonic_s())
        return True

    def _happen(self, event: RuleEvent, now_s: float, source: str) -> None:
        was_active = self._state.active
        done = rules.step(self.spec, self._state, event, now_s)
        self._state, self._wake_s = done.state, done.wake_s
        if Transition.RAISED in done.transitions:
            late = isinstance(event, Judged) and rules.demand(self.spec, event) is not True
            self._cause = self._cause if late else self._around.explain(self.spec.id)
        for word in done.transitions:
            self._stamp(word)
        self._show()
        for word in done.transitions:
            if word not in _BY_ITSELF:
                self._emit(word, source)
            elif self._allowance.take(now_s):
                self._emit(word, BY_CONDITION)
            else:
                self._left_out += 1
        if self._state.active is not was_active:
            self._around.flipped(self.spec.id)

    def _stamp(self, word: Transition) -> None:
        now_us, now_s = self._around.clock.now_us(), self._around.clock.monotonic_s()
        if word is Transition.RAISED:
            why, inputs = self._cause
            stamps = {"raised_us": now_us, "cleared_us": None, "acknowledged_us": None, "acknowledged_by": ""}
            cause = {"why": why[:MAX_WHY], "inputs": dict(inputs), "raised_count": self._status.raised_count + 1}
            self._status = replace(self._status, **stamps, **cause)  # type: ignore[arg-type] # its fields
        elif word is Transition.CLEARED:
            until_s = self._state.hold_until_s
            hold_until_us = None if until_s is None else now_us + round((until_s - now_s) * 1e6)
            self._status = replace(self._status, cleared_us=now_us, hold_until_us=hold_until_us)

    def _show(self) -> None:
        """Bring up to date what is shown, and what it wants of stations."""
        self._status = self._shown(self._status, self._state)
        wishes = () if self._ended else wishes_of(self._status, self._around.clock.now_us(), self._around.zone)
        if wishes != self._wishes:
            self._wishes = wishes
            self._around.derive(issuer_of(self.spec), wishes)

    def _shown(self, status: AlarmStatus, state: RuleState) -> AlarmStatus:
        name = rules.state_of(self.spec, state)
        shelved = state.shelved_until_s is not None
        return replace(
            status,
            state=name,
            active=state.active,
            acting=rules.is_acting(self.spec, state) and not self.spec.shadow,
            known=state.known,
            since_us=status.since_us if name is status.state else self._around.clock.now_us(),
            hold_until_us=status.hold_until_us if state.hold_until_s is not None else None,
            shelved_until_us=status.shelved_until_us if shelved else None,
            shelved_by=status.shelved_by if shelved else "",
            suppressed_by=state.suppressed_by,
        )

    def _to_tell(self) -> tuple[bool, int, bool]:
        return self._state.active, self._status.raised_count, bool(self._state.suppressed_by)

    def _tell_what_was_left_out(self) -> None:
        """How it stands now, where those that were told last say otherwise."""
        told, now = self._told, self._to_tell()
        if told[:2] != now[:2]:
            self._emit(Transition.RAISED if self._state.active else Transition.CLEARED, BY_CONDITION)
        if told[2] != now[2]:
            self._emit(Transition.SUPPRESSED if now[2] else Transition.UNSUPPRESSED, BY_CONDITION)

    def _emit(self, word: Transition, source: str, details: Mapping[str, object] | None = None) -> None:
        details = details or {}
        if word in _BY_ITSELF:
            details = {**details, **({"left_out": self._left_out} if self._left_out else {})}
            told, now, self._left_out = self._told, self._to_tell(), 0
            ends = word in {Transition.RAISED, Transition.CLEARED}
            self._told = (*now[:2], told[2]) if ends else (*told[:2], now[2])
        event = event_of(word, self._status, self._around.clock.now_us(), source, details)
        if word is Transition.RAISED:
            self._orders = self._has_orders
        self._around.tell(event)
        self._keeper.put(event)

    def _note(self) -> Mapping[str, object] | None:
        return None if self._ended else note_of(Kept(self._status, self._state, self._shelved_for_s))

    def _give_orders(self) -> None:
        if self._orders:
            self._orders = False
            self._around.order(self._status)

    @property
    def _has_orders(self) -> bool:
        return not self.spec.shadow and any(act.do for act in self.spec.acts)

    def _are_due(self) -> bool:
        """Whether the orders of a raising from before the restart may not have been given yet."""
        raised_us = self._status.raised_us
        if not self._state.active or raised_us is None or not self._has_orders:
            return False
        return 0 <= self._around.clock.now_us() - raised_us <= DO_TTL_S * 1e6
