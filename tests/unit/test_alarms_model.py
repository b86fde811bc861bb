"""A book of alarms under whatever comes: values, people, a store that fails, other configurations, restarts."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from itertools import pairwise

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from agent.control.alarm_acts import issuer_of
from agent.control.alarm_entry import START_S
from agent.control.alarm_keeper import BURST, PAUSE_S, RETRY_S
from agent.control.alarm_model import AlarmStatus, RuleSpec, Severity
from agent.control.model import Origin
from agent.core.errors import StoreError
from agent.core.model import Event
from tests.alarm_fakes import SIGNALS, Rig, hot
from tests.control_fakes import settle

ANA = "user:ana"
#: After so long without anything new, all delays, pauses and holds are over.
QUIET_S = 40
SPECS = (
    hot("plain"),
    hot("slow", for_s=3, clear_for_s=5, severity=Severity.WARNING),
    hot("latched", latch=True, hold_s=7),
    hot("shadow", shadow=True, severity=Severity.INFO),
    hot("explained", suppressed_by=("slow",)),
    hot("rule", severity=None, origin=Origin.RULE, hold_s=4, acts=hot().acts),
)
NAMES = st.sampled_from([spec.id for spec in SPECS])
#: To make a failing case smaller takes minutes here, and it can be read as it is.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
ENDS = {"alarm.raised", "alarm.cleared", "rule.active", "rule.over"}


class BookUnderAll(RuleBasedStateMachine):
    """``value`` is what the battery says now; None: nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.value: float | None = None
        self.specs: list[RuleSpec] = list(SPECS)
        self.rig = Rig(self.specs)
        self.live(self.start())

    def teardown(self) -> None:
        self.live(self.rig.book.close())
        self.loop.close()

    def live(self, work: Awaitable[object]) -> None:
        async def whole() -> None:
            await work
            await settle(12)

        self.loop.run_until_complete(whole())

    async def start(self) -> None:
        self.rig.start()

    def entries(self) -> list[tuple[AlarmStatus, bool]]:
        """How each stands, and whether all of that was told."""
        return [(entry.status, not entry._left_out) for entry in self.rig.book._entries.values()]

    @rule(value=st.sampled_from([60, 60, 47, 40, 40, None]))
    def hear(self, value: float | None) -> None:
        self.value = value
        self.live(self.rig.heat(value))

    @rule(times=st.integers(1, 2 * BURST))
    def chatter(self, times: int) -> None:
        async def quickly() -> None:
            for value in (60, 40) * times:
                self.rig.put(value)
                await settle(1)

        self.value = 40
        self.live(quickly())

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        self.live(self.rig.wait(seconds))

    @rule()
    def be_quiet(self) -> None:
        """Then each is as its condition says, and all of that was told and is on disk."""
        before = {status.spec.id: status.active for status, _ in self.entries()}
        self.live(self.rig.wait(QUIET_S))
        for status, _ in self.entries():
            expected = {60: True, 40: False}.get(int(self.value or 0), before[status.spec.id])
            assert status.active is expected
            told = self.told(status.spec.id)
            if told:
                assert (told[-1].kind in {"alarm.raised", "rule.active"}) is status.active
        assert Counter(map(str, self.rig.ledger)) == Counter(map(str, self.rig.heard)), "each once, store or not"

    @rule(name=NAMES)
    def acknowledge(self, name: str) -> None:
        self.person(self.rig.book.acknowledge(name, ANA))

    @rule(name=NAMES, for_s=st.integers(1, 60))
    def shelve(self, name: str, for_s: int) -> None:
        if name != "rule":
            self.person(self.rig.book.shelve(name, for_s, ANA))

    @rule(name=NAMES)
    def unshelve(self, name: str) -> None:
        self.person(self.rig.book.unshelve(name, ANA))

    def person(self, act: Awaitable[AlarmStatus]) -> None:
        async def done() -> None:
            before = [status for status, _ in self.entries()]
            try:
                await act
            except StoreError:
                assert self.rig.notebook.failing
                assert [status for status, _ in self.entries()] == before, "nothing has changed"

        self.live(done())

    @rule(failing=st.booleans())
    def store(self, *, failing: bool) -> None:
        self.rig.notebook.failing = failing

    @rule(name=NAMES)
    def configure(self, name: str) -> None:
        """Take one out for a while, and put it back."""

        async def without() -> None:
            self.rig.book.apply([spec for spec in self.specs if spec.id != name], SIGNALS)
            await settle(12)
            assert issuer_of(next(spec for spec in SPECS if spec.id == name)) not in self.rig.stations.wishes
            self.rig.book.apply(self.specs, SIGNALS)

        if not self.rig.notebook.failing:
            self.live(without())

    @rule()
    def restart(self) -> None:
        """Where all was told and is on disk, all stands as before, before anything is heard."""
        before = {status.spec.id: status for status, _ in self.entries()}
        whole = all(told for _, told in self.entries()) and all(entry.kept for entry in self.rig.book._entries.values())
        self.live(self.rig.book.close())
        failing = self.rig.notebook.failing
        self.rig = self.rig.restarted()
        self.rig.notebook.failing = failing
        self.live(self.start())
        for status, _ in self.entries() if whole else ():
            old = before[status.spec.id]
            assert (status.active, status.state, status.acting) == (old.active, old.state, old.acting)
            assert (status.raised_us, status.raised_count) == (old.raised_us, old.raised_count)
        if self.value is not None:
            self.hear(self.value)
        self.live(self.rig.wait(START_S))

    def told(self, name: str) -> list[Event]:
        """What this process told of its beginnings and ends."""
        return [event for event in self.rig.heard if event.subject == name and event.kind in ENDS]

    @invariant()
    def whoever_acts_has_wishes_and_nobody_else(self) -> None:
        acting = {issuer_of(status.spec) for status, _ in self.entries() if status.acting}
        assert self.rig.stations.off == acting
        assert "alarm:shadow" not in acting

    @invariant()
    def the_notes_say_how_it_stands(self) -> None:
        for name, entry in self.rig.book._entries.items():
            note = self.rig.notebook.note("alarm", name)
            if note is None or not entry.kept or entry._left_out:
                continue
            assert note["active"] is entry.status.active
            assert note["raised_count"] == entry.status.raised_count
            assert note["suppressed_by"] == entry.status.suppressed_by

    @invariant()
    def who_is_explained_is_silent(self) -> None:
        slow, explained = self.rig.status("slow"), self.rig.status("explained")
        assert bool(explained.suppressed_by) is slow.active

    @invariant()
    def the_ledger_tells_each_end_once(self) -> None:
        for spec in SPECS:
            for one, next_one in pairwise(self.told(spec.id)):
                assert one.kind != next_one.kind or "left_out" in next_one.data


@pytest.mark.announced_warnings
def test_whatever_comes_wishes_notes_and_events_say_the_same() -> None:
    assert max(PAUSE_S, RETRY_S) + START_S < QUIET_S
    run_state_machine_as_test(
        BookUnderAll, settings=settings(phases=PHASES, max_examples=15, stateful_step_count=20, deadline=None)
    )
