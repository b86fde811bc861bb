"""Timed events: started once, finished once, whatever the clock, the store or a kill does to them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control.alarm_model import RuleAct
from agent.control.memory import Memory
from agent.control.model import Origin, Wish
from agent.control.timed_event_model import NOTE, EventPlan, EventState, TimedEvent
from agent.control.timed_events import KEPT, KEPT_S, MAX_OPEN, TimedEvents
from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, Refusal, StoreError
from tests.control_fakes import ENABLED, NOON_US, FakeNotebook, Killer, Rig, run, settle

OFF = (RuleAct("cp1", on=False),)
ALL_10_A = (RuleAct("*", limit_a=10),)
HOUR_US = 3_600_000_000
YEAR_S = 365 * 86400


class FakeStations:
    """``Deriver``: what stands now, and each change of it."""

    def __init__(self) -> None:
        self.now: dict[str, Sequence[Wish]] = {}
        self.log: list[tuple[str, bool]] = []

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        if wishes:
            self.now[key] = wishes
        else:
            self.now.pop(key, None)
        self.log.append((key, bool(wishes)))

    @property
    def starts(self) -> int:
        return sum(stands for _, stands in self.log)


class Site:
    """Timed events over fakes; ``again`` is the next process over the same notebook."""

    def __init__(
        self, clock: FakeClock | None = None, kept: FakeNotebook | None = None, killer: Killer | None = None
    ) -> None:
        self.clock = clock or FakeClock(NOON_US)
        self.notebook = FakeNotebook(killer, kept)
        self.stations = FakeStations()
        self.events = TimedEvents(self.clock, Memory(self.notebook), self.stations)

    def again(self) -> "Site":
        return Site(self.clock, self.notebook)

    async def make(
        self, start_h: float | None = None, end_h: float | None = None, acts: tuple[RuleAct, ...] = OFF
    ) -> TimedEvent:
        """One that starts and ends so many hours after noon."""
        times = [None if one is None else NOON_US + round(one * HOUR_US) for one in (start_h, end_h)]
        return await self.events.create(EventPlan("Night shift", acts, *times), "user:ana")

    async def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.events.step()

    def state(self, event: TimedEvent) -> EventState:
        return self.now(event).state

    def now(self, event: TimedEvent) -> TimedEvent:
        found = self.events.event(event.id)
        assert found is not None
        return found

    def told(self) -> list[str]:
        return [event.kind for event in self.notebook.events]


async def refused(work: Callable[[], Awaitable[object]], refusal: Refusal, words: str) -> None:
    with pytest.raises(CommandRejected, match=words) as caught:
        await work()
    assert caught.value.refusal is refusal


def test_it_is_programmed_goes_on_and_is_completed_by_the_clock() -> None:
    async def check() -> None:
        site = Site()
        event = await site.make(1, 2, (RuleAct("cp1", on=False), *ALL_10_A))
        assert (event.state, event.created_by, event.created_us) == (EventState.PROGRAMMED, "user:ana", NOON_US)
        await site.wait(3599)
        assert site.stations.starts == 0
        await site.wait(1)
        assert site.now(event) == replace(
            event, state=EventState.IN_PROGRESS, started_by="clock", started_us=NOON_US + HOUR_US, number=1
        )
        key, reason = f"event:{event.id}", "event Night shift"
        assert site.stations.now[key] == [
            Wish("cp1", key, Origin.SCHEDULE, on=False, reason=reason, since_us=NOON_US + HOUR_US),
            Wish("*", key, Origin.SCHEDULE, limit_a=10, reason=reason, since_us=NOON_US + HOUR_US),
        ]
        await site.wait(3599)
        assert site.state(event) is EventState.IN_PROGRESS
        await site.wait(1)
        done = site.now(event)
        assert (done.state, done.finished_by, done.finished_us, done.missed) == (
            EventState.COMPLETED,
            "clock",
            NOON_US + 2 * HOUR_US,
            False,
        )
        assert site.stations.now == {}
        assert site.told() == ["event.programmed", "event.started", "event.finished"]
        assert [one.data["who"] for one in site.notebook.events] == ["user:ana", "clock", "clock"]
        assert {one.subject for one in site.notebook.events} == {event.id}
        assert site.again().events.event(event.id) == done

    run(check)


def test_by_hand_it_starts_and_ends_whenever_somebody_says_so() -> None:
    async def check() -> None:
        site = Site()
        event = await site.make()
        await site.wait(86400)
        assert site.state(event) is EventState.PROGRAMMED
        started = await site.events.start(event.id, "user:ben")
        assert (started.started_by, started.started_us) == ("user:ben", site.clock.now_us())
        assert await site.events.start(event.id, "user:ana") == started, "it goes on already"
        await site.wait(400 * 86400)
        assert site.state(event) is EventState.IN_PROGRESS
        finished = await site.events.finish(event.id, "user:ben")
        assert await site.events.finish(event.id, "user:ana") == finished
        assert site.told() == ["event.programmed", "event.started", "event.finished"]
        assert site.stations.starts == 1
        await refused(lambda: site.events.start(event.id, "user:ana"), Refusal.EXPIRED, "it is completed")
        await refused(lambda: site.events.cancel(event.id, "user:ana"), Refusal.EXPIRED, "it is completed")

    run(check)


def test_a_planned_one_may_be_started_early_and_ends_as_planned_or_earlier() -> None:
    async def check() -> None:
        site = Site()
        first, second = await site.make(5, 6), await site.make(5, 6)
        for event in (first, second):
            await site.events.start(event.id, "user:ana")
        early = NOON_US + HOUR_US
        await site.events.change(second.id, lambda plan: replace(plan, end_us=early), "user:ana")
        await site.wait(3600)
        assert (site.state(first), site.state(second)) == (EventState.IN_PROGRESS, EventState.COMPLETED)
        await site.wait(4 * 3600)
        assert site.stations.starts == 3, "its start that comes is none any more, and its new end was told"
        await site.wait(3600)
        assert site.state(first) is EventState.COMPLETED

    run(check)


def test_what_was_cancelled_never_starts_and_what_goes_on_ends_with_it() -> None:
    async def check() -> None:
        site = Site()
        waiting, running = await site.make(1), await site.make()
        await site.events.start(running.id, "user:ana")
        for event in (waiting, running):
            cancelled = await site.events.cancel(event.id, "user:ben")
            assert (cancelled.state, cancelled.finished_by) == (EventState.CANCELLED, "user:ben")
            assert await site.events.cancel(event.id, "user:ana") == cancelled
        await site.wait(7200)
        assert site.stations.log[-1] == (f"event:{running.id}", False)
        assert site.stations.now == {}
        assert site.stations.starts == 1
        assert site.told().count("event.cancelled") == 2
        for work in (site.events.start, site.events.finish):
            await refused(partial(work, waiting.id, "user:ana"), Refusal.EXPIRED, "it is cancelled")

    run(check)


def test_what_may_be_changed_and_when() -> None:
    async def check() -> None:
        site = Site()
        event = await site.make(1, 2)
        other = EventPlan("Day", ALL_10_A, NOON_US + 2 * HOUR_US, None)
        assert (await site.events.change(event.id, lambda _: other, "user:ben")).plan == other
        assert (await site.events.change(event.id, lambda plan: plan, "user:ben")).plan == other
        assert site.told() == ["event.programmed", "event.changed"], "the same again is no change"
        await site.wait(7200)
        assert site.state(event) is EventState.IN_PROGRESS
        for change in ({"name": "x"}, {"acts": OFF}, {"start_us": NOON_US + 9 * HOUR_US}):
            await refused(
                partial(site.events.change, event.id, partial(replace, **change), "user:ben"),
                Refusal.EXPIRED,
                "only its end",
            )
        past = site.clock.now_us() - 1
        await refused(
            lambda: site.events.change(event.id, lambda plan: replace(plan, end_us=past), "user:ben"),
            Refusal.OUT_OF_RANGE,
            "over already",
        )
        end_us = site.clock.now_us() + HOUR_US
        await site.events.change(event.id, lambda plan: replace(plan, end_us=end_us), "user:ben")
        await site.wait(3600)
        assert site.state(event) is EventState.COMPLETED
        await refused(
            lambda: site.events.change(event.id, lambda plan: replace(plan, end_us=None), "user:ben"),
            Refusal.EXPIRED,
            "it is completed",
        )

    run(check)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (EventPlan("", OFF), "a name"),
        (EventPlan("a\nb", OFF), "a name"),
        (EventPlan("x" * 101, OFF), "a name"),
        (EventPlan("x", ()), "1 to 64"),
        (EventPlan("x", OFF * 65), "1 to 64"),
        (EventPlan("x", (RuleAct("cp1"),)), "nothing is done with cp1"),
        (EventPlan("x", (RuleAct("", on=True),)), "names a station"),
        (EventPlan("x", (RuleAct("cp1", do="reset"),)), "command"),
        (EventPlan("x", (RuleAct("cp1", limit_a=-1),)), "a limit"),
        (EventPlan("x", (RuleAct("cp1", limit_a=float("nan")),)), "a limit"),
        (EventPlan("x", OFF, NOON_US + 2, NOON_US + 2), "after its start"),
        (EventPlan("x", OFF, None, NOON_US), "over already"),
        (EventPlan("x", OFF, -1), "years"),
        (EventPlan("x", OFF, 10**18), "years"),
    ],
)
def test_a_plan_that_nobody_can_do_is_refused(plan: EventPlan, words: str) -> None:
    async def check() -> None:
        site = Site()
        await refused(lambda: site.events.create(plan, "user:ana"), Refusal.OUT_OF_RANGE, words)
        assert (site.events.events(), site.notebook.writes) == ([], 0)

    run(check)


def test_there_is_none_of_that_name_and_one_that_has_not_started_can_not_be_finished() -> None:
    async def check() -> None:
        site = Site()
        for work in (site.events.start, site.events.finish, site.events.cancel):
            await refused(partial(work, "x", "user:ana"), Refusal.NOT_CAPABLE, "no such event")
        event = await site.make(1)
        await refused(lambda: site.events.finish(event.id, "user:ana"), Refusal.OUT_OF_RANGE, "cancel it instead")

    run(check)


def test_off_at_the_start_and_back_before_the_end_it_starts_late_and_off_all_the_while_it_was_missed() -> None:
    async def check() -> None:
        site = Site()
        late, missed, goes_on, hand = (
            await site.make(1, 9),
            await site.make(1, 2),
            await site.make(1),
            await site.make(None, 2),
        )
        site.clock.advance(3 * 3600)
        later = site.again()
        assert later.stations.log == []
        await later.events.step()
        assert [later.state(one) for one in (late, missed, goes_on, hand)] == [
            EventState.IN_PROGRESS,
            EventState.COMPLETED,
            EventState.IN_PROGRESS,
            EventState.COMPLETED,
        ]
        assert (later.now(missed).missed, later.now(hand).missed) == (True, True)
        assert (later.now(missed).started_us, later.now(late).started_us) == (None, later.clock.now_us())
        assert set(later.stations.now) == {f"event:{late.id}", f"event:{goes_on.id}"}
        assert sorted(later.told()) == ["event.missed", "event.missed", "event.started", "event.started"]
        await later.wait(1)
        assert len(later.told()) == 4, "once"
        await refused(lambda: later.events.start(missed.id, "user:ana"), Refusal.EXPIRED, "it was missed")

    run(check)


def test_what_goes_on_goes_on_after_a_restart_and_what_ended_meanwhile_does_not() -> None:
    async def check() -> None:
        site = Site()
        short, long = await site.make(0, 1), await site.make(0, 5)
        second = await site.make(0, 5, (RuleAct("cp1", on=True),))
        await site.wait(1)
        await site.events.start(second.id, "user:ana")
        site.clock.advance(7200)
        later = site.again()
        assert later.stations.log == [(f"event:{long.id}", True), (f"event:{second.id}", True)]
        assert later.stations.now[f"event:{long.id}"] == site.stations.now[f"event:{long.id}"]
        await later.events.step()
        assert later.state(short) is EventState.COMPLETED
        assert later.told() == ["event.finished"]

    run(check)


def test_the_later_start_wins_after_a_restart_whatever_the_clock_said() -> None:
    async def check() -> None:
        site = Site()
        first, second = await site.make(), await site.make()
        await site.events.start(second.id, "user:ana")
        site.clock.jump_wall(-3600)
        await site.events.start(first.id, "user:ana")
        assert [key for key, _ in site.again().stations.log] == [f"event:{second.id}", f"event:{first.id}"]

    run(check)


def test_a_clock_that_was_never_set_holds_all_but_what_is_said_by_hand() -> None:
    async def check() -> None:
        site = Site()
        planned, hand = await site.make(1, 2), await site.make(None, 3)
        site.clock.jump_wall(-NOON_US / 1e6)
        later = site.again()
        await later.wait(86400)
        assert later.told() == []
        await later.events.start(hand.id, "user:ana")
        await later.wait(9 * 86400)
        assert later.state(hand) is EventState.IN_PROGRESS
        later.clock.jump_wall((NOON_US - later.clock.now_us()) / 1e6 + 5400)
        await later.wait(1)
        assert (later.state(planned), later.state(hand)) == (EventState.IN_PROGRESS, EventState.IN_PROGRESS)
        await later.wait(7200)
        assert {one.state for one in later.events.events()} == {EventState.COMPLETED}
        assert not any(one.missed for one in later.events.events())

    run(check)


async def live(site: Site) -> None:
    """One by the clock, one by hand."""
    event = await site.make(1, 2)
    hand = await site.make()
    await site.events.start(hand.id, "user:ana")
    await site.events.change(event.id, lambda plan: replace(plan, name="Other"), "user:ana")
    await site.wait(3600)
    await site.events.finish(hand.id, "user:ana")
    await site.wait(3600)


async def killed(at: int) -> tuple[Site, bool]:
    """The site after a life that was cut off at that step; and whether it was."""
    site = Site(killer=Killer(at))
    alive = asyncio.ensure_future(live(site))
    await settle(200)
    dead = not alive.done()
    alive.cancel()
    await asyncio.gather(alive, return_exceptions=True)
    await site.events.close()
    return site, dead


def acting(site: Site) -> set[str]:
    """Keys of what should stand: what is in progress and whose end has not come."""
    now_us = site.clock.now_us()
    going = [one for one in site.events.events() if one.state is EventState.IN_PROGRESS]
    return {f"event:{one.id}" for one in going if one.plan.end_us is None or one.plan.end_us > now_us}


async def live_on(site: Site) -> None:
    """The next process: the person does what is left to do, and time passes."""
    await site.events.step()
    for event in site.events.events():
        if event.plan.start_us is None and event.open:
            await site.events.start(event.id, "user:ana")
            await site.events.finish(event.id, "user:ana")
    for _ in range(2):
        await site.wait(3600)


def test_killed_at_any_step_each_is_started_once_and_finished_once() -> None:
    async def check() -> None:
        for at in range(60):
            site, dead = await killed(at)
            later = site.again()
            assert set(later.stations.now) == acting(later), f"killed at {at}"
            await live_on(later)
            assert later.stations.now == {}
            for event in later.events.events():
                ledger = [
                    one.kind for one in (*site.notebook.events, *later.notebook.events) if one.subject == event.id
                ]
                kinds = [kind for kind in ledger if kind != "event.changed"]
                assert kinds == ["event.programmed", "event.started", "event.finished"], f"killed at {at}"
            if not dead:
                break
        assert at > 10
        assert len(later.events.events()) == 2

    run(check)


@pytest.mark.announced_warnings
def test_a_store_that_takes_nothing_stops_no_clock_and_lets_nobody_say_what_is_not_kept() -> None:
    async def check() -> None:
        site = Site()
        event, hand = await site.make(1, 3), await site.make()
        site.notebook.failing = True
        with pytest.raises(StoreError):
            await site.events.start(hand.id, "user:ana")
        with pytest.raises(StoreError):
            await site.make(1)
        assert (site.state(hand), len(site.events.events())) == (EventState.PROGRAMMED, 2)
        await site.wait(3600)
        assert site.state(event) is EventState.IN_PROGRESS
        assert site.stations.now, "it acts from memory"
        killed = site.again()
        await killed.events.step()
        assert killed.told() == ["event.started"], "nothing of it was on the ledger"
        await site.wait(10)
        with pytest.raises(StoreError):
            await site.events.finish(event.id, "user:ana")
        site.notebook.failing = False
        await site.wait(1)
        await site.wait(1)
        assert site.told() == ["event.programmed", "event.programmed", "event.started"]
        site.notebook.failing = True
        await site.wait(7200)
        assert site.stations.now == {}
        site.notebook.failing = False
        await site.wait(1)
        assert site.told()[2:] == ["event.started", "event.finished"]
        assert site.again().now(event) == site.now(event)

    run(check)


def test_so_many_may_wait_and_those_that_are_over_make_room() -> None:
    async def check() -> None:
        site = Site()
        events = [await site.make(1) for _ in range(MAX_OPEN)]
        await refused(lambda: site.make(1), Refusal.OUT_OF_RANGE, "cancel some")
        await site.events.cancel(events[0].id, "user:ana")
        assert (await site.make(1)).state is EventState.PROGRAMMED

    run(check)


def closed_notes(site: Site, count: int) -> None:
    """So many that were cancelled an hour apart."""
    data = {
        "name": "old",
        "acts": [{"station": "cp1", "on": False, "limit_a": None}],
        "start_us": None,
        "end_us": None,
        "state": "cancelled",
        "created_by": "",
        "started_by": "",
        "started_us": None,
        "finished_by": "",
        "missed": False,
        "number": 0,
    }

    async def write() -> None:
        for place in range(count):
            t_us = NOON_US + place * 1_000_000
            await site.notebook.write(NOTE, f"{place:05}", {**data, "created_us": t_us, "finished_us": t_us})

    asyncio.run(write())


def test_of_those_that_are_over_so_many_are_kept_the_newest() -> None:
    before = Site()
    closed_notes(before, KEPT + 25)

    async def check() -> None:
        site = before.again()
        going = await site.make()
        for _ in range(4):
            await site.wait(1)
        assert len(site.events.events()) == KEPT + 1
        assert site.events.event("00024") is None
        assert site.events.event("00025") is not None
        assert site.events.event(going.id) is not None
        assert len(site.notebook.notes(NOTE)) == KEPT + 1

    run(check)


def test_a_year_after_its_end_it_is_forgotten_but_not_because_the_clock_jumped() -> None:
    before = Site()
    closed_notes(before, 3)

    async def check() -> None:
        site = before.again()
        await site.wait(1)
        site.clock.jump_wall(2 * YEAR_S)
        for _ in range(3):
            await site.wait(4000)
        assert len(site.events.events()) == 3
        site.clock.jump_wall(-2 * YEAR_S)
        for _ in range(30):
            await site.wait(4000)
        assert len(site.events.events()) == 3
        site.clock.advance(KEPT_S)
        for _ in range(2):
            await site.wait(4000)
        assert site.events.events() == []

    run(check)


@pytest.mark.announced_warnings
def test_a_note_that_can_not_be_read_is_left_out() -> None:
    async def check() -> None:
        site = Site()
        event = await site.make(1)
        data = dict(site.notebook.notes(NOTE)[event.id])
        for key, wrong in (
            ("a", {}),
            ("b", data | {"acts": 5}),
            ("c", data | {"state": "x"}),
            ("d", data | {"acts": [1]}),
        ):
            await site.notebook.write(NOTE, key, wrong)
        assert [one.id for one in site.again().events.events()] == [event.id]

    run(check)


def test_who_asks_may_go_away_and_two_at_once_start_it_once() -> None:
    async def check() -> None:
        site = Site()
        event = await site.make(1)
        asked = asyncio.ensure_future(site.events.start(event.id, "user:ana"))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await asyncio.gather(*(site.events.start(event.id, f"user:{name}") for name in "abc"))
        assert site.told() == ["event.programmed", "event.started"]
        assert site.now(event).started_by == "user:ana"

    run(check)


def test_the_part_runs_until_it_is_cancelled() -> None:
    async def check() -> None:
        site = Site()
        await site.make(0.5, 1)
        running = asyncio.ensure_future(site.events.run())
        for _ in range(5):
            await settle()
            site.clock.advance(1000)
        await settle()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await site.events.close()
        assert site.told() == ["event.programmed", "event.started", "event.finished"]

    run(check)


def test_real_stations_do_it() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            events = TimedEvents(rig.clock, Memory(rig.notebook), rig.service._stations)
            await events.create(EventPlan("Night", OFF, NOON_US + 60_000_000, NOON_US + 600_000_000), "user:ana")
            for _ in range(62):
                await rig.wait(1)
                await events.step()
            await settle()
            assert rig.charger.now == {ENABLED: 0}
            (event,) = events.events()
            assert rig.service.why("cp1")[0].reason == f"off by event {event.id} since 12:01 (event Night)"
            for _ in range(60):
                await rig.wait(10)
                await events.step()
            assert rig.charger.now == {ENABLED: 1}

    run(check)


steps = st.one_of(
    st.sampled_from(["start", "finish", "cancel", "restart"]),
    st.floats(1, 4000),
    st.sampled_from([-YEAR_S, -3600, 3600, YEAR_S, -NOON_US // 10**6]),
)


async def play(site: Site, step: str | float, events: Sequence[TimedEvent]) -> Site:
    """One step of a script: a word by hand, seconds that pass (a float), or a jump of the clock (an int)."""
    if step == "restart":
        kept = site.notebook.events
        site = site.again()
        site.notebook.events[:0] = kept
    elif isinstance(step, int):
        site.clock.jump_wall(max(step, -site.clock.now_us() / 1e6))
    elif isinstance(step, float):
        site.clock.advance(step)
    else:
        for one in events:
            with contextlib.suppress(CommandRejected):
                await getattr(site.events, step)(one.id, "user:ana")
    await site.events.step()
    return site


def check_ledger(event: TimedEvent, kinds: list[str]) -> None:
    """Each transition is told once, and only what was."""
    assert kinds.count("event.started") == (event.started_us is not None)
    ends = [kind for kind in kinds if kind in {"event.finished", "event.cancelled", "event.missed"}]
    assert len(ends) == (not event.open)
    assert event.missed == ("event.missed" in kinds)
    assert not (event.missed and event.started_us)


@settings(max_examples=200, deadline=None)
@given(
    plans=st.lists(st.tuples(st.none() | st.integers(0, 4000), st.none() | st.integers(4001, 9000)), max_size=3),
    script=st.lists(steps, max_size=25),
)
def test_whatever_happens_a_state_only_goes_forward_and_stands_as_long_as_it_goes_on(
    plans: list[tuple[int | None, int | None]], script: list[str | float]
) -> None:
    async def check() -> None:
        site = Site()
        made = []
        for times in plans:
            start_us, end_us = (None if one is None else NOON_US + one * 1_000_000 for one in times)
            made.append(await site.events.create(EventPlan("x", OFF, start_us, end_us), "user:ana"))
        order = list(EventState)
        before = [0] * len(made)
        for step in script:
            site = await play(site, step, made)
            states = [order.index(site.state(one)) for one in made]
            assert all(new >= old for new, old in zip(states, before, strict=True))
            before = states
            going = {f"event:{one.id}" for one in made if site.state(one) is EventState.IN_PROGRESS}
            assert set(site.stations.now) == going
        for one in made:
            check_ledger(site.now(one), [event.kind for event in site.notebook.events if event.subject == one.id])

    asyncio.run(check())
