"""When maintenance is due, against naive models; counters that are reset; who is told, whatever is killed."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.clock import GOOD_CLOCK_US, FakeClock
from agent.core.errors import CommandRejected, Refusal, StoreError
from agent.core.model import Event, Kind, Session
from agent.core.points import CHARGER_STATUS
from agent.insight import maintenance_plans
from agent.insight.counters import HOLD_US, Column, Counters
from agent.insight.machines import Facts, MachineBook
from agent.insight.maintenance import KEEP_S, LOOK_S, TICK_S, TOLD, Maintenance
from agent.insight.maintenance_due import MEAN_US, Due, by_counter, by_date, last_done, midnight_us
from agent.insight.maintenance_model import (
    COUNTERS,
    NOTE,
    READY_MADE,
    STATES,
    Interval,
    Measure,
    Plan,
    plan_data,
    read_plan,
)
from agent.insight.periods import HOUR_US, MINUTE_US
from agent.store.maintenance import Asked, Entry
from tests.fake_view import FakeNotebook
from tests.insight_fakes import DAY_US, MONDAY_US, History, every
from tests.maintenance_fakes import MemoryStore, in_loop

NOW_US = MONDAY_US + 60 * DAY_US
DEVICES = {"cp1": Facts(type="charger"), "bat": Facts(type="battery")}
WEEKLY = Plan("weekly", "Weekly look", "inspection", (Interval("days", 7, 2),), machine="cp1")


class Days:
    """How often stations were switched on, by day."""

    def __init__(self, days: Mapping[int, int] | None = None) -> None:
        self.days = dict(days or {})

    def switches(self, device: str) -> dict[int, int]:
        return self.days if device == "cp1" else {}


def counters(history: History, days: Mapping[int, int] | None = None) -> Counters:
    return Counters(history, Days(days))


def tallied(history: History, measure: Measure, from_us: int = 0, to_us: int = NOW_US, device: str = "cp1") -> float:
    tally = counters(history).tally(device, measure, 0, NOW_US)
    assert tally is not None
    return tally.between(from_us, to_us)


# -- counters


@st.composite
def readings(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """A register that is read every ten minutes for some days, with silences; and its readings, reset now and then."""
    steps = draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 9)), min_size=20, max_size=120))
    times, values, t_us, value, calm = [], [], MONDAY_US, draw(st.integers(0, 30_000)), 0
    for place, (rise, luck) in enumerate(steps):
        t_us += 10 * MINUTE_US * (luck + 1 if luck > 7 else 1)
        calm += 1
        last = place > len(steps) - 15
        if luck == 0 and value > 5000 and calm > 12 and not last:
            value, calm = 0, 0
        value += rise
        times.append(t_us)
        values.append(value)
    return times, values


def gains(times: Sequence[int], values: Sequence[int]) -> list[tuple[int, int]]:
    """What a register counted, hour by hour: of a reading that is lower than the one before, all of it."""
    return [
        (t_us // HOUR_US * HOUR_US, new - old if new >= old else new)
        for t_us, (old, new) in zip(times[1:], pairwise(values), strict=True)
    ]


@given(readings(), st.integers(-2, 200), st.sampled_from(["energy_wh", "running_s", "cycles"]))
@settings(max_examples=150)
def test_a_counter_counts_what_it_moved_whatever_was_reset(
    register: tuple[list[int], list[int]], hours: int, measure: Measure
) -> None:
    times, values = register
    names = {"energy_wh": "energy_import_wh", "running_s": "operating_s", "cycles": "cycles"}
    units = {"energy_wh": "Wh", "running_s": "s", "cycles": ""}
    history = History()
    # Of hours and cycles a tenth, and a hundredth: they move slower than energy.
    scale = {"energy_wh": 1, "running_s": 1, "cycles": 0.01}[measure]
    physical = np.array(values) * scale
    history.add("cp1", names[measure], times, physical, unit=units[measure], kind=Kind.COUNTER, scale=scale)
    since_us = MONDAY_US + hours * HOUR_US // 2
    moved = gains(times, values)
    assert tallied(history, measure) == pytest.approx(sum(gain for _, gain in moved) * scale)
    least = sum(gain for t_us, gain in moved if t_us >= since_us) * scale
    most = sum(gain for t_us, gain in moved if t_us >= since_us - 2 * HOUR_US) * scale
    used = tallied(history, measure, since_us)
    assert least - 1e-6 <= used <= most + 1e-6
    assert counters(history).reading("cp1", measure, NOW_US) == pytest.approx(physical[-1])


def test_a_register_that_was_replaced_is_not_counted_and_the_rest_is_estimated() -> None:
    history = History()
    times = every(10 * MINUTE_US, MONDAY_US, MONDAY_US + 2 * DAY_US)
    values = np.where(times < MONDAY_US + DAY_US, 9_000_000.0, 4_000_000.0) + np.arange(len(times)) * 10.0
    history.register("cp1", times, values)
    tally = counters(history).tally("cp1", "energy_wh", 0, NOW_US)
    assert tally is not None
    assert tally.lossy
    assert tally.between(0, NOW_US) == pytest.approx((len(times) - 2) * 10)
    counted = by_counter(Interval("energy_wh", 1e6), tally, MONDAY_US, NOW_US)
    assert (counted.state, counted.estimated) == ("ok", True)


def test_energy_is_what_went_in_and_out() -> None:
    history = History()
    times = every(HOUR_US, MONDAY_US, MONDAY_US + DAY_US)
    history.register("bat", times, np.arange(24) * 100.0)
    history.register("bat", times, np.arange(24) * 40.0, name="energy_export_wh")
    assert tallied(history, "energy_wh", device="bat") == 23 * 140
    assert counters(history).reading("bat", "energy_wh", NOW_US) == 23 * 140
    assert counters(history).reading("bat", "energy_wh", MONDAY_US + 12 * HOUR_US) == 11 * 140


@pytest.mark.parametrize("measure", COUNTERS)
def test_what_a_device_does_not_count_is_not_known(measure: Measure) -> None:
    assert counters(History()).tally("cp1", measure, 0, NOW_US) is None
    assert counters(History()).reading("cp1", measure, NOW_US) is None


@given(st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0.0, 1.0, np.nan])), min_size=1, max_size=40))
@settings(max_examples=150)
def test_running_hours_are_those_in_which_it_charged(steps: list[tuple[int, float]]) -> None:
    """To a minute for each change; a state that was told last is held until another one is told."""
    times, values, t_us = [], [], MONDAY_US
    for minutes, value in steps:
        t_us += minutes * MINUTE_US + 7
        times.append(t_us)
        values.append(value)
    history = History()
    history.add("cp1", "charging", times, values, kind=Kind.STATE)
    end_us = times[-1] + HOUR_US
    expected_s = sum(
        (to - at) / 1e6 for (at, to), value in zip(pairwise([*times, end_us]), values, strict=True) if value == 1
    )
    tally = counters(history).tally("cp1", "running_s", 0, end_us)
    assert tally is not None
    assert tally.between(0, end_us) == pytest.approx(expected_s, abs=61 * len(steps))


def test_a_state_is_not_held_for_ever_and_outlets_add_up() -> None:
    history = History()
    charging = float(CHARGER_STATUS.index("Charging"))
    for outlet in (1, 2):
        history.add("cp1", f"charger_status.{outlet}", [MONDAY_US], [charging], kind=Kind.STATE)
    assert tallied(history, "running_s") == pytest.approx(2 * (HOLD_US + MINUTE_US) / 1e6)


def test_a_charger_wears_by_sessions_and_switches() -> None:
    history = History(sessions=[Session("cp1", 1, str(day), MONDAY_US + day * DAY_US) for day in range(5)])
    found = counters(history, {(MONDAY_US // DAY_US) + 1: 3})
    at_us = MONDAY_US + 2 * DAY_US
    shown = {one: found.reading("cp1", one, NOW_US) for one in ("sessions", "switches", "contactor")}
    assert shown == {"sessions": 5, "switches": 3, "contactor": 8}
    tally = found.tally("cp1", "contactor", 0, NOW_US)
    assert tally is not None
    assert (tally.between(at_us, NOW_US), tally.reading, tally.first_us, tally.lossy) == (3, None, MONDAY_US, False)


# -- due


@given(st.floats(1, 1000), st.floats(0, 0.99), st.integers(-900, 900), st.integers(0, 3000))
def test_a_date_is_due_after_its_days(days: float, warn: float, since_days: int, passed_days: int) -> None:
    interval = Interval("days", days, warn * days)
    since_us = NOW_US + since_days * DAY_US
    counted = by_date(interval, since_us, since_us + passed_days * DAY_US)
    assert counted.used == passed_days
    assert counted.left == days - passed_days
    assert counted.due_us == pytest.approx(since_us + days * DAY_US, abs=1)
    expected = "overdue" if passed_days >= days else "due" if passed_days >= days - warn * days else "ok"
    assert counted.state == expected
    assert by_date(interval, None, NOW_US).state == "unknown"


@given(
    st.lists(st.tuples(st.integers(0, 59), st.integers(0, 50)), max_size=40),
    st.integers(1, 500),
    st.integers(0, 100),
    st.none() | st.integers(0, 59),
    st.none() | st.integers(0, 1000),
)
@settings(max_examples=300)
def test_a_counter_is_due_when_it_has_counted_so_much(
    counted: list[tuple[int, int]], interval: int, warn: int, since_day: int | None, reading: int | None
) -> None:
    days = np.array([day for day, _ in counted], np.int64) * DAY_US + MONDAY_US
    first_us = int(days.min()) if counted else MONDAY_US
    tally = Column(days, np.array([amount for _, amount in counted], float), reading, first_us)
    since_us = None if since_day is None else MONDAY_US + since_day * DAY_US
    found = by_counter(Interval("cycles", interval, warn), tally, since_us, NOW_US)

    used = sum(amount for day, amount in counted if since_day is None or day >= since_day)
    if since_day is None:
        used = max(used, reading or 0)
    assert found.used == used
    assert found.left == interval - used
    assert found.state == ("overdue" if used >= interval else "due" if used >= interval - warn else "ok")
    assert found.estimated == (since_us is not None and first_us > since_us + HOUR_US)
    span_us = min(MEAN_US, NOW_US - first_us)
    recent = sum(amount for day, amount in counted if MONDAY_US + day * DAY_US >= NOW_US - MEAN_US)
    if recent and span_us >= DAY_US:
        assert found.due_us == pytest.approx(NOW_US + (interval - used) / recent * span_us, abs=2)
    else:
        assert found.due_us is None


def test_nothing_is_known_of_a_counter_that_nobody_has() -> None:
    assert by_counter(Interval("cycles", 5), None, None, NOW_US).state == "unknown"
    assert by_counter(Interval("cycles", 5), Column(np.empty(0, np.int64), np.empty(0), None, None), 0, 1).used is None


ENTRIES = st.lists(
    st.builds(
        Entry,
        st.sampled_from(["cp1", "bat"]),
        st.integers(0, 3),
        st.sampled_from(["inspection", "preventive"]),
        plan=st.sampled_from(["", "weekly", "other"]),
        id=st.integers(1, 99),
    ),
    max_size=10,
    unique_by=lambda one: one.id,
)


@given(ENTRIES)
def test_an_entry_counts_for_its_plan_or_for_all_of_its_kind(entries: list[Entry]) -> None:
    found = last_done(WEEKLY, "cp1", entries)
    counting = [
        one
        for one in entries
        if one.machine == "cp1" and (one.plan == "weekly" or (not one.plan and one.kind == "inspection"))
    ]
    assert (found is None) == (not counting)
    if found is not None:
        assert found in counting
        assert all((one.t_us, one.id) <= (found.t_us, found.id) for one in counting)


def test_days_begin_at_midnight() -> None:
    assert midnight_us("2026-01-05") == MONDAY_US
    assert midnight_us(None) is None
    assert midnight_us("soon") is None


# -- plans


def test_plans_come_back_as_they_were_written_and_damaged_ones_are_left_out() -> None:
    for plan in (*READY_MADE.values(), WEEKLY):
        assert read_plan(plan.id, plan_data(plan)) == plan
        assert all(0 <= one.warn < one.every for one in plan.intervals)
        assert bool(plan.machine) != bool(plan.type)
    whole = plan_data(WEEKLY)
    for damage in ({"kind": "repair"}, {"intervals": "daily"}, {"intervals": [{"by": "days"}]}, {"intervals": [5]}):
        assert read_plan("weekly", {**whole, **damage}) is None


def test_a_retired_machine_has_no_plans_and_a_plan_can_be_switched_off() -> None:
    book = MachineBook(FakeClock(), FakeNotebook(), lambda: DEVICES)
    cp1 = book.machine("cp1")
    assert cp1 is not None
    assert WEEKLY.concerns(cp1)
    assert READY_MADE["charger-rcd"].concerns(cp1)
    assert not READY_MADE["meter-seal"].concerns(cp1)
    assert not WEEKLY.concerns(replace(cp1, status="retired"))
    assert not replace(WEEKLY, enabled=False).concerns(cp1)


# -- the whole


class KilledError(BaseException):
    """The power goes."""


class Mortal(FakeNotebook):
    """Dies before or after the n-th commit; ``failing``: the disk is full."""

    def __init__(self) -> None:
        super().__init__()
        self.lives = 10**9
        self.failing = False

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        if self.failing:
            raise StoreError("write", "the disk is full")
        self.step()
        await super().write(kind, key, data, events)
        self.step()

    def step(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise KilledError


class IdleClock(FakeClock):
    """Says when somebody sleeps."""

    def __init__(self, now_us: int) -> None:
        super().__init__(now_us)
        self.idle = asyncio.Event()

    async def sleep_s(self, seconds: float) -> None:
        self.idle.set()
        await super().sleep_s(seconds)


class Site:
    """A site whose process may be killed: what is on disk stays."""

    def __init__(self, history: History | None = None, now_us: int = NOW_US) -> None:
        self.clock = FakeClock(now_us)
        self.notebook = Mortal()
        self.store = MemoryStore()
        self.store.fail = self.notebook.step
        self.history = history or History()
        self.maintenance: Maintenance
        self.restart()

    def restart(self) -> None:
        table = self.store.table()
        machines = MachineBook(self.clock, self.notebook, lambda: DEVICES)
        self.maintenance = Maintenance(self.clock, self.notebook, machines, table, Counters(self.history, table))

    async def plan(self, plan: Plan = WEEKLY) -> Plan:
        return await self.maintenance.plans.add(plan, "user:ana")

    async def done(self, ago_days: float = 0, **more: str) -> Entry:
        t_us = self.clock.now_us() - round(ago_days * DAY_US)
        entry, _ = await self.maintenance.add(Entry("cp1", t_us, "inspection", **more), "user:ana")  # type: ignore[arg-type] # of tests
        return entry

    async def told(self, days: float = 0) -> list[str]:
        """What a look so much later tells."""
        before = len(self.notebook.events)
        self.clock.advance(days * 86400)
        await self.maintenance.look()
        return [one.kind.removeprefix("maintenance.") for one in self.notebook.events[before:]]


@in_loop
async def test_due_and_overdue_are_told_once_each_until_it_is_done() -> None:
    site = Site()
    plan = await site.plan()
    assert await site.told() == [], "nothing is known that it could count from"
    entry = await site.done()
    assert await site.told(4.9) == []
    assert await site.told(0.2) == ["due"]
    event = site.notebook.events[-1]
    assert (event.subject, event.data["plan"], event.data["by"]) == ("cp1", plan.id, "days")
    assert event.data["due_us"] == entry.t_us + 7 * DAY_US
    site.restart()
    assert await site.told(1) == []
    assert await site.told(1) == ["overdue"]
    site.restart()
    assert await site.told(300) == []
    await site.done()
    assert await site.told(8) == ["overdue"], "nobody looked while it was due"
    await site.maintenance.plans.change(
        plan.id, lambda one: replace(one, intervals=(Interval("days", 30, 25),)), "user:ana"
    )
    assert await site.told() == ["due"], "it is another plan now"
    await site.maintenance.plans.remove(plan.id, "user:ana")
    assert await site.told(1) == []
    assert site.notebook.kept[TOLD] == {}


@in_loop
async def test_nothing_is_told_while_the_clock_was_never_set() -> None:
    site = Site(now_us=GOOD_CLOCK_US - 50 * DAY_US)
    await site.plan()
    await site.done(ago_days=30)
    assert await site.told() == []
    site.clock.jump_wall(60 * 86400)
    assert await site.told() == ["overdue"]


@in_loop
async def test_an_entry_that_was_corrected_or_void_counts_no_more() -> None:
    site = Site()
    await site.plan()
    await site.done(ago_days=30)
    newer = await site.done(ago_days=1)
    assert await site.told() == []
    await site.maintenance.add(replace(newer, corrects=newer.id, void=True, key=""), "user:ana")
    assert await site.told() == ["overdue"]


@in_loop
async def test_what_was_read_off_the_machine_goes_before_what_the_store_knows() -> None:
    history = History()
    times = every(HOUR_US, MONDAY_US, NOW_US)
    history.register("cp1", times, np.arange(len(times)) * 100.0)
    site = Site(history)
    known = await site.done(ago_days=1)
    assert known.counters == {"energy_wh": (59 * 24 - 1) * 100}
    read, _ = await site.maintenance.add(Entry("cp1", NOW_US, "other", counters={"energy_wh": 5}), "user:ana")
    assert read.counters == {"energy_wh": 5}


@in_loop
async def test_what_is_due_is_kept_for_some_minutes_and_worked_out_anew_after_a_change() -> None:
    site = Site()
    await site.plan()
    first = await site.maintenance.due()
    assert await site.maintenance.due() is first
    site.clock.advance(KEEP_S + 1)
    second = await site.maintenance.due()
    assert second is not first
    await site.done()
    assert await site.maintenance.due() is not second


@in_loop
async def test_a_change_of_one_machine_does_not_read_the_history_of_the_others() -> None:
    history = History()
    times = every(HOUR_US, MONDAY_US, NOW_US)
    for device in DEVICES:
        history.register(device, times, np.arange(len(times)) * 100.0)
    site = Site(history)
    for device in DEVICES:
        await site.plan(Plan("", "x", "other", (Interval("energy_wh", 5),), machine=device))
    await site.maintenance.due()
    before = history.reads
    await site.maintenance.machines.change("bat", lambda facts: replace(facts, location="Hall"), "user:ana")
    site.maintenance.forget()
    found = await site.maintenance.due()
    assert history.reads == before + 1
    site.clock.advance(KEEP_S + 1)
    assert [one.plan for one in await site.maintenance.due()] == [one.plan for one in found]
    assert history.reads > before + 2


@in_loop
async def test_what_is_changed_while_it_is_worked_out_is_seen_by_the_next_who_asks() -> None:
    site = Site()
    work_out = site.maintenance.work_out

    class Meanwhile(Maintenance):
        def work_out(self, now_us: int) -> list[Due]:
            self.forget()
            return work_out(now_us)

    one = site.maintenance
    meanwhile = Meanwhile(one.clock, one.notebook, one.machines, one.log, one.counters)
    assert await meanwhile.due() is not await meanwhile.due()


@in_loop
async def test_there_is_an_end_of_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance_plans, "MAX_PLANS", 2)
    site = Site()
    await site.plan()
    await site.plan()
    with pytest.raises(CommandRejected) as caught:
        await site.plan()
    assert caught.value.refusal is Refusal.DUPLICATE


@in_loop
async def test_the_part_looks_once_an_hour_and_keeps_what_devices_say() -> None:
    site = Site()
    clock = site.clock = IdleClock(NOW_US)
    site.restart()
    await site.plan()
    await site.done()
    clock.advance(6 * 86400)
    site.maintenance.machines.hear(Event("device.identity", 0, "cp1", {"serial": "4711"}))
    task = asyncio.create_task(site.maintenance.run())

    async def pass_s(seconds: float) -> list[str]:
        before = len(site.notebook.events)
        for _ in range(round(seconds / TICK_S)):
            clock.idle.clear()
            clock.advance(TICK_S)
            await clock.idle.wait()
        return [one.kind for one in site.notebook.events[before:]]

    await clock.idle.wait()
    assert site.notebook.kept["machine_said"] == {"cp1": {"serial": "4711"}}
    assert await pass_s(TICK_S) == ["maintenance.due"]
    assert await pass_s(LOOK_S) == []
    clock.idle.clear()
    clock.advance(86400)
    await clock.idle.wait()
    assert [one.kind for one in site.notebook.events][-1] == "maintenance.overdue"
    assert await pass_s(2 * LOOK_S) == []
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@in_loop
async def test_a_full_disk_ends_the_look_and_the_next_one_tells() -> None:
    site = Site()
    await site.plan()
    await site.done()
    site.notebook.failing = True
    with pytest.raises(StoreError):
        await site.told(6)
    site.notebook.failing = False
    assert await site.told() == ["due"]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 6)),
        st.tuples(st.just("done"), st.integers(0, 3)),
        st.tuples(st.just("plan"), st.integers(4, 12)),
        st.tuples(st.just("look"), st.just(0)),
    ),
    max_size=12,
)


def surely(site: Site, act: Callable[[], Coroutine[None, None, None]], lives: list[int]) -> None:
    """Do it again after each kill, until it is done."""
    while True:
        site.notebook.lives = lives.pop(0) if lives else 10**9
        try:
            asyncio.run(act())
        except KilledError:
            site.restart()
        else:
            break
    site.notebook.lives = 10**9


@given(ACTS, st.lists(st.integers(0, 6), max_size=8))
@settings(max_examples=120, deadline=None)
def test_whatever_is_killed_each_is_told_once_and_each_entry_is_there_once(
    acts: list[tuple[str, int]], lives: list[int]
) -> None:
    site = Site()
    asyncio.run(site.plan())
    (plan_id,) = site.notebook.kept[NOTE]
    rest = list(lives)
    keys = 0
    for what, number in acts:
        keys += what == "done"

        async def act(what: str = what, number: int = number, key: str = f"job-{keys}") -> None:
            if what == "done":
                # Who is killed before he was answered sends it again, under the same key.
                await site.done(number, key=key)
            elif what == "plan":
                every_days = (Interval("days", number, 2),)
                await site.maintenance.plans.change(plan_id, lambda one: replace(one, intervals=every_days), "user:ana")
            else:
                await site.maintenance.look()

        if what == "pass":
            site.clock.advance(number * 86400)
        else:
            surely(site, act, rest)
    asyncio.run(site.maintenance.look())

    total, entries = site.store.table().page(Asked(), 100, 0)
    assert total == keys
    assert sorted(one.key for one in entries) == sorted(f"job-{number + 1}" for number in range(keys))
    assert len(site.store.events("maintenance.logged")) == keys
    assert site.maintenance.plans.find(plan_id) is not None
    # Between two entries or plans, no more than one due and then one overdue.
    (state,) = {
        one.state for one in asyncio.run(site.maintenance.due()) if one.plan.id == plan_id and one.machine == "cp1"
    }
    told = [one.kind.removeprefix("maintenance.") for one in site.notebook.events if one.data.get("plan") == plan_id]
    kept = site.notebook.kept.get(TOLD, {}).get(f"cp1/{plan_id}", {})
    if state in {"due", "overdue"}:
        assert STATES.index(str(kept["state"])) >= STATES.index(state)
        assert told[-1] == kept["state"]
    found = _told(site, plan_id)
    assert len(found) == len(set(found)), "the same was told twice"


def _told(site: Site, plan_id: str) -> list[tuple[int, object, str]]:
    """What was told, with how often the plan had been changed by then, and the entry since which it is due."""
    changes, found = 0, []
    for one in site.notebook.events:
        changes += one.kind == "maintenance.plan_changed"
        if one.data.get("plan") == plan_id:
            found.append((changes, one.data["last"], one.kind))
    return found
