"""The life of an alarm, step by step, and against a naive model that looks at each second."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agent.control.alarm_model import AlarmState, RuleSpec, Severity
from agent.control.rules import (
    Acknowledge,
    Judged,
    RuleEvent,
    RuleState,
    Shelve,
    Suppress,
    TimePassed,
    Transition,
    Unshelve,
    demand,
    fit,
    is_acting,
    is_silent,
    needs_acknowledgement,
    state_of,
    step,
)
from agent.control.when import parse

HOT = parse("battery1.temperature_max_degc > 50")
COOL = parse("battery1.temperature_max_degc < 45")
SPEC = RuleSpec("hot", HOT, for_s=5, clear_for_s=10)
TRUE, FALSE, UNKNOWN = Judged(when=True), Judged(when=False), Judged(when=None)
RAISED, CLEARED, ACKNOWLEDGED = Transition.RAISED, Transition.CLEARED, Transition.ACKNOWLEDGED


def play(spec: RuleSpec, *events: tuple[float, RuleEvent]) -> tuple[RuleState, list[tuple[float, Transition]]]:
    """How it stands after these, and what became of it, each with the time at which it was seen."""
    state, seen = RuleState(), []
    for now_s, event in events:
        done = step(spec, state, event, now_s)
        state = done.state
        seen += [(now_s, word) for word in done.transitions]
    return state, seen


def test_it_takes_for_s_without_a_break_to_become_active() -> None:
    state, seen = play(SPEC, (0, TRUE), (4, FALSE), (4.5, TRUE), (9.4, TimePassed()))
    assert not seen
    assert step(SPEC, state, TimePassed(), 9.5).transitions == (RAISED,)


def test_it_takes_clear_for_s_without_a_break_to_be_over() -> None:
    spec = replace(SPEC, for_s=0)
    _, seen = play(spec, (0, TRUE), (1, FALSE), (10, TRUE), (20, FALSE), (29.9, TimePassed()), (30, TimePassed()))
    assert seen == [(0, RAISED), (30, CLEARED)]


def test_a_delay_ends_at_its_time_however_late_anybody_looks() -> None:
    _, seen = play(SPEC, (0, TRUE), (5.2, FALSE), (15.1, TimePassed()), (15.2, TimePassed()))
    assert seen == [(5.2, RAISED), (15.2, CLEARED)], "true from 0 to 5.2, false for 10 s from then on"
    both = step(replace(SPEC, hold_s=3), RuleState(active=True, due_s=10), TimePassed(), 100)
    assert both.transitions == (CLEARED,)
    assert not is_acting(SPEC, both.state), "its hold time ended at 13, long ago"


def test_when_to_look_again_is_the_end_of_the_next_delay() -> None:
    assert step(SPEC, RuleState(), TRUE, 7).wake_s == 12
    assert step(SPEC, RuleState(), FALSE, 7).wake_s is None
    shelved = step(SPEC, RuleState(), Shelve(8), 7).state
    assert step(SPEC, shelved, TRUE, 7).wake_s == 8


def test_between_when_and_clear_it_stays_as_it_is() -> None:
    spec = RuleSpec("hot", HOT, COOL, for_s=0, clear_for_s=0)
    hot, band, cool = Judged(when=True, clear=False), Judged(when=False, clear=False), Judged(when=False, clear=True)
    _, seen = play(spec, (0, band), (1, hot), (2, band), (3, cool), (4, band), (5, hot))
    assert seen == [(1, RAISED), (3, CLEARED), (5, RAISED)]


def test_when_wins_where_both_are_true() -> None:
    spec = RuleSpec("odd", HOT, COOL, for_s=0, clear_for_s=0)
    assert demand(spec, Judged(when=True, clear=True)) is True
    assert play(spec, (0, Judged(when=True, clear=True)), (1, Judged(when=True, clear=True)))[1] == [(0, RAISED)]


def test_what_is_not_known_breaks_both_delays_and_changes_nothing_else() -> None:
    state, seen = play(SPEC, (0, TRUE), (4, UNKNOWN), (100, TimePassed()))
    assert not seen
    assert not state.known
    state, seen = play(SPEC, (0, TRUE), (5, FALSE), (14, UNKNOWN), (100, TimePassed()))
    assert seen == [(5, RAISED)]
    assert state.active


@pytest.mark.parametrize(
    ("unknown", "when", "clear", "wanted"),
    [
        ("hold", None, None, None),
        ("hold", None, True, None),
        ("hold", False, None, None),
        ("raise", None, None, True),
        ("raise", None, True, True),
        ("raise", False, None, None),
        ("clear", None, None, False),
        ("clear", None, False, False),
        ("clear", False, None, False),
        ("clear", True, None, True),
        ("raise", True, None, True),
    ],
)
def test_what_is_not_known_counts_as_the_spec_says(
    unknown: Literal["hold", "raise", "clear"],
    when: bool | None,  # noqa: FBT001 - three values
    clear: bool | None,  # noqa: FBT001 - three values
    wanted: bool | None,  # noqa: FBT001 - three values
) -> None:
    spec = RuleSpec("odd", HOT, COOL, unknown=unknown)
    assert demand(spec, Judged(when, clear)) is wanted


@pytest.mark.parametrize("unknown", ["hold", "raise", "clear"])
def test_before_anything_was_heard_the_unknown_says_nothing(unknown: Literal["hold", "raise", "clear"]) -> None:
    spec = replace(SPEC, unknown=unknown, for_s=0, clear_for_s=0)
    assert demand(spec, Judged(when=None, starting=True)) is None
    assert demand(spec, Judged(when=True, starting=True)) is True


def test_the_states_are_those_of_the_standard() -> None:
    spec = replace(SPEC, for_s=0, clear_for_s=0)
    state, _ = play(spec, (0, TRUE))
    assert state_of(spec, state) is AlarmState.UNACKNOWLEDGED
    assert state_of(spec, step(spec, state, FALSE, 1).state) is AlarmState.RETURNED
    assert state_of(replace(spec, latch=True), step(spec, state, FALSE, 1).state) is AlarmState.LATCHED
    seen = step(spec, state, Acknowledge(), 1).state
    assert state_of(spec, seen) is AlarmState.ACKNOWLEDGED
    assert state_of(spec, step(spec, seen, FALSE, 2).state) is AlarmState.NORMAL
    assert state_of(spec, step(spec, seen, Suppress("gateway"), 2).state) is AlarmState.SUPPRESSED
    both = step(spec, step(spec, seen, Suppress("gateway"), 2).state, Shelve(9), 2).state
    assert state_of(spec, both) is AlarmState.SHELVED


@pytest.mark.parametrize("severity", [Severity.INFO, None])
def test_information_and_rules_need_no_acknowledgement(severity: Severity | None) -> None:
    spec = replace(SPEC, for_s=0, clear_for_s=0, severity=severity)
    state, seen = play(spec, (0, TRUE), (1, Acknowledge()), (2, FALSE))
    assert seen == [(0, RAISED), (2, CLEARED)]
    assert state_of(spec, state) is AlarmState.NORMAL
    assert needs_acknowledgement(replace(spec, latch=True)), "else it would act for ever"


def test_latched_it_acts_until_it_is_over_and_acknowledged() -> None:
    spec = replace(SPEC, for_s=0, clear_for_s=0, latch=True)
    over, _ = play(spec, (0, TRUE), (1, FALSE))
    assert is_acting(spec, over)
    assert not is_acting(spec, step(spec, over, Acknowledge(), 2).state)
    seen, _ = play(spec, (0, TRUE), (1, Acknowledge()))
    assert is_acting(spec, seen)
    assert not is_acting(spec, step(spec, seen, FALSE, 2).state), "it was acknowledged while it was active"


def test_it_goes_on_acting_for_hold_s_after_its_end() -> None:
    spec = replace(SPEC, for_s=0, clear_for_s=0, hold_s=60)
    over, _ = play(spec, (0, TRUE), (1, FALSE))
    assert is_acting(spec, step(spec, over, TimePassed(), 60.9).state)
    assert not is_acting(spec, step(spec, over, TimePassed(), 61).state)
    latched, _ = play(replace(spec, latch=True), (0, TRUE), (1, FALSE), (61, TimePassed()))
    assert is_acting(replace(spec, latch=True), latched)
    assert not is_acting(spec, step(spec, latched, Acknowledge(), 62).state), "it does not begin anew"


def test_raised_again_it_is_another_time() -> None:
    spec = replace(SPEC, for_s=0, clear_for_s=0, hold_s=60, latch=True)
    state, seen = play(spec, (0, TRUE), (1, Acknowledge()), (2, FALSE), (3, TRUE))
    assert [word for _, word in seen] == [RAISED, ACKNOWLEDGED, CLEARED, RAISED]
    assert state_of(spec, state) is AlarmState.UNACKNOWLEDGED
    assert state.hold_until_s is None
    returned, _ = play(spec, (0, TRUE), (2, FALSE), (3, TRUE), (4, FALSE))
    assert state_of(spec, returned) is AlarmState.LATCHED


def test_shelving_ends_by_itself_and_changes_nothing_but_who_is_told() -> None:
    spec = replace(SPEC, for_s=0, clear_for_s=0)
    state, seen = play(spec, (0, Shelve(100)), (1, TRUE))
    assert is_silent(state)
    assert is_acting(spec, state)
    assert seen == [(0, Transition.SHELVED), (1, RAISED)]
    after = step(spec, state, TimePassed(), 100)
    assert after.transitions == (Transition.UNSHELVED,)
    assert state_of(spec, after.state) is AlarmState.UNACKNOWLEDGED
    assert step(spec, state, Unshelve(), 5).transitions == (Transition.UNSHELVED,)
    assert step(spec, after.state, Unshelve(), 101).transitions == ()


def test_another_explanation_is_not_another_suppression() -> None:
    state, seen = play(SPEC, (0, Suppress("a")), (1, Suppress("b")), (2, Suppress("")), (3, Suppress("")))
    assert seen == [(0, Transition.SUPPRESSED), (2, Transition.UNSUPPRESSED)]
    assert not is_silent(state)


def test_acknowledged_twice_is_acknowledged_once() -> None:
    _, seen = play(replace(SPEC, for_s=0), (0, Acknowledge()), (1, TRUE), (2, Acknowledge()), (3, Acknowledge()))
    assert seen == [(1, RAISED), (2, ACKNOWLEDGED)]


def test_under_a_changed_spec_delays_begin_anew_and_nobody_is_asked_in_vain() -> None:
    state = RuleState(active=True, acknowledged=False, due_s=5)
    assert fit(SPEC, state) == RuleState(active=True, acknowledged=False)
    assert fit(replace(SPEC, severity=Severity.INFO), state) == RuleState(active=True)


def test_a_chattering_input_is_one_alarm_with_the_defaults() -> None:
    """10 Hz for an hour (trials C9)."""
    spec, state = RuleSpec("hot", HOT), RuleState()
    seen: list[Transition] = []
    for tenth in range(36_000):
        done = step(spec, state, Judged(when=tenth % 2 == 0), tenth / 10)
        state, seen = done.state, [*seen, *done.transitions]
    assert seen == [RAISED]


DELAYS = st.sampled_from([0, 1, 3, 7])
SPECS = st.builds(
    RuleSpec,
    id=st.just("x"),
    when=st.just(HOT),
    clear=st.sampled_from([None, COOL]),
    for_s=DELAYS,
    clear_for_s=DELAYS,
    severity=st.sampled_from([None, *Severity]),
    latch=st.booleans(),
    hold_s=DELAYS,
    unknown=st.sampled_from(["hold", "raise", "clear"]),
)
TRUTHS = st.sampled_from([True, False, None])


class NaiveAlarm:
    """The same in the words of the documentation, one second after the other, over all that ever was."""

    def __init__(self, spec: RuleSpec) -> None:
        self.spec = spec
        self.past: list[str] = []  # what was wanted in each second that is over, newest last
        self.wanted = ""
        self.active = False
        self.seen_by_somebody = True
        self.seconds_over = 10_000
        self.shelved_s = 0
        self.explained = False
        self.log: list[Transition] = []

    def judge(self, when: bool | None, clear: bool | None) -> None:  # noqa: FBT001 - three values
        not_told = self.spec.unknown
        if when is True or (when is None and not_told == "raise"):
            wanted = "active"
        elif when is None and not_told == "hold":
            wanted = ""
        elif when is None or self.spec.clear is None or clear is True or (clear is None and not_told == "clear"):
            wanted = "over"
        else:
            wanted = ""
        if wanted != self.wanted:
            self.past.clear()  # a break
        self.wanted = wanted
        self.settle()

    def second(self) -> None:
        self.past.append(self.wanted)
        self.seconds_over += 0 if self.active else 1
        if self.shelved_s:
            self.shelved_s -= 1
            if not self.shelved_s:
                self.log.append(Transition.UNSHELVED)
        self.settle()

    def settle(self) -> None:
        """Become active or be over where that was wanted long enough."""
        spec = self.spec
        if not self.active and self.wanted == "active" and len(self.past) >= spec.for_s:
            self.active = True
            self.seen_by_somebody = not (spec.latch or spec.severity in {"warning", "critical"})
            self.past.clear()
            self.log.append(RAISED)
        if self.active and self.wanted == "over" and len(self.past) >= spec.clear_for_s:
            self.active = False
            self.seconds_over = 0
            self.past.clear()
            self.log.append(CLEARED)

    @property
    def acting(self) -> bool:
        held = self.seconds_over < self.spec.hold_s
        return self.active or held or (self.spec.latch and not self.seen_by_somebody)


class RulesAgainstModel(RuleBasedStateMachine):
    """Conditions change, people do things, and nobody looks for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0
        self.state = RuleState()
        self.seen: list[Transition] = []

    @initialize(spec=SPECS)
    def start(self, spec: RuleSpec) -> None:
        self.spec = spec
        self.model = NaiveAlarm(spec)

    def do(self, event: RuleEvent) -> None:
        done = step(self.spec, self.state, event, self.now_s)
        assert done.wake_s is None or done.wake_s > self.now_s, "what is due is done"
        self.state = done.state
        self.seen += done.transitions

    @rule(when=TRUTHS, clear=TRUTHS)
    def judge(self, when: bool | None, clear: bool | None) -> None:  # noqa: FBT001 - three values
        self.model.judge(when, clear)
        self.do(Judged(when, clear))

    @rule(seconds=st.integers(1, 12), late=st.booleans())
    def wait(self, seconds: int, *, late: bool) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self.model.second()
            if not late:
                self.do(TimePassed())
        self.do(TimePassed())

    @rule(when=TRUTHS, clear=TRUTHS, seconds=st.integers(1, 12))
    def judge_late(self, when: bool | None, clear: bool | None, seconds: int) -> None:  # noqa: FBT001 - three values
        """Nobody looked in between: what was due before comes first."""
        for _ in range(seconds):
            self.now_s += 1
            self.model.second()
        self.judge(when, clear)

    @rule()
    def acknowledge(self) -> None:
        if not self.model.seen_by_somebody:
            self.model.log.append(ACKNOWLEDGED)
        self.model.seen_by_somebody = True
        self.do(Acknowledge())

    @rule(seconds=st.integers(1, 20))
    def shelve(self, seconds: int) -> None:
        self.model.shelved_s = seconds
        self.model.log.append(Transition.SHELVED)
        self.do(Shelve(self.now_s + seconds))

    @rule()
    def unshelve(self) -> None:
        if self.model.shelved_s:
            self.model.log.append(Transition.UNSHELVED)
        self.model.shelved_s = 0
        self.do(Unshelve())

    @rule(by=st.sampled_from(["", "a", "b"]))
    def suppress(self, by: str) -> None:
        if bool(by) != self.model.explained:
            self.model.log.append(Transition.SUPPRESSED if by else Transition.UNSUPPRESSED)
        self.model.explained = bool(by)
        self.do(Suppress(by))

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "model"):
            return
        model = self.model
        assert self.state.active == model.active
        assert self.state.acknowledged == model.seen_by_somebody
        assert is_acting(self.spec, self.state) == model.acting
        assert is_silent(self.state) == bool(model.shelved_s or model.explained)
        # Two timers that end together have no order.
        assert sorted(self.seen) == sorted(model.log)
        lives = [word for word in self.seen if word in {RAISED, CLEARED, ACKNOWLEDGED}]
        assert lives == [word for word in model.log if word in {RAISED, CLEARED, ACKNOWLEDGED}]


def test_it_stands_as_the_naive_model_says() -> None:
    run_state_machine_as_test(
        RulesAgainstModel, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )


@given(spec=SPECS, steps=st.lists(st.tuples(st.integers(1, 9), TRUTHS, TRUTHS), max_size=40))
def test_raised_and_cleared_alternate(spec: RuleSpec, steps: list[tuple[int, bool | None, bool | None]]) -> None:
    now_s, events = 0, []
    for seconds, when, clear in steps:
        now_s += seconds
        events.append((float(now_s), Judged(when, clear)))
    _, seen = play(spec, *events)
    assert [word for _, word in seen] == ([RAISED, CLEARED] * len(seen))[: len(seen)]
