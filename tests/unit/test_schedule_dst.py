"""Schedules where the clocks change: against another way to reckon, in many zones; and where the clock itself jumps."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control.cron import Cron
from agent.control.schedule import GRACE_S, WRONG_S, Act, ScheduleSpec, _Job
from agent.core.clock import GOOD_CLOCK_US
from tests.control_fakes import NOON_US, Rig, run

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TOGGLE = (Act("cp1", set="toggle"),)
MINUTE_US = 60_000_000

#: Zones with days on which their clocks change, and one of each kind that is odd.
CHANGES = {
    "Europe/Berlin": ["2026-03-29", "2026-10-25"],
    "Europe/Dublin": ["2026-03-29", "2026-10-25"],  # whose winter is the exception
    "America/New_York": ["2026-03-08", "2026-11-01"],
    "America/Mexico_City": ["2022-04-03", "2022-10-30", "2026-04-05"],  # which has given it up
    "America/Santiago": ["2026-04-05", "2026-09-06"],  # south, and at midnight
    "America/Havana": ["2026-03-08", "2026-11-01"],  # at midnight
    "Australia/Sydney": ["2026-04-05", "2026-10-04"],  # south
    "Australia/Lord_Howe": ["2026-04-05", "2026-10-04"],  # by half an hour
    "Antarctica/Troll": ["2026-03-29", "2026-10-25"],  # by two hours
    "Africa/Casablanca": ["2026-02-15", "2026-03-22"],  # around Ramadan
    "Asia/Beirut": ["2026-03-29", "2026-10-25"],  # at midnight
    "Asia/Kolkata": ["2026-03-29"],  # never
    "Pacific/Apia": ["2011-12-30"],  # a day that was left out
    "UTC": ["2026-03-29"],
}
LINES = [
    "0 0 * * *",
    "30 0 * * *",
    "0 1 * * *",
    "59 1 * * *",
    "0 2 * * *",
    "15 2 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "30 23 * * *",
    "0,30 0 * * *",
    "30 1,2,3 * * *",
    "15 0-4/2 * * *",
    "*/20 1-3 * * *",
    "* * * * *",
    "*/15 * * * *",
    "0 */2 * * *",
    "*/7 */3 * * *",
]


def numbers(field: str, highest: int) -> set[int]:
    """The numbers of a field: ``*``, ``1,2``, ``0-4/2``, ``*/15``."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low, high = (0, highest) if span == "*" else (int(first), int(last or first))
        found |= set(range(low, high + 1, int(step or 1)))
    return found


def days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def reckoned(line: str, zone: ZoneInfo, after: datetime, before: datetime) -> list[datetime]:
    """When a line of each day is due: each moment is looked at, or each time of each day is asked for its moment."""
    minute, hour, *_ = line.split()
    minutes, hours = numbers(minute, 59), numbers(hour, 23)
    if hour.startswith("*"):
        whole = [after + timedelta(minutes=number) for number in range((before - after) // timedelta(minutes=1))]
        shown = [(one, one.astimezone(zone)) for one in whole]
        return [one for one, wall in shown if wall.minute in minutes and wall.hour in hours]
    times = [time(one, other) for one in hours for other in minutes]
    found = {
        datetime.combine(day, one, zone).astimezone(UTC)
        for day in days(after.date() - timedelta(2), before.date() + timedelta(2))
        for one in times
    }
    return sorted(one for one in found if after <= one < before)


def due(line: str, zone: ZoneInfo, after: datetime, before: datetime) -> list[datetime]:
    """The same, one after the other, as schedules ask."""
    cron, found = Cron(line, zone), []
    asked_us = (after - EPOCH) // MICROSECOND - 1
    while (next_us := cron.next_us(asked_us)) is not None and EPOCH + next_us * MICROSECOND < before:
        assert next_us > asked_us
        found.append(EPOCH + next_us * MICROSECOND)
        asked_us = next_us
    return found


@pytest.mark.parametrize(("name", "day"), [(name, day) for name, found in CHANGES.items() for day in found])
def test_around_a_change_of_the_clocks_each_line_is_due_when_it_should_be(name: str, day: str) -> None:
    zone = ZoneInfo(name)
    after = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1, hours=12)
    before = after + timedelta(days=3)
    for line in LINES:
        assert due(line, zone, after, before) == reckoned(line, zone, after, before), line


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(CHANGES)),
    line=st.sampled_from(LINES),
    asked=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001 - the zone is given below
)
def test_at_any_moment_of_the_year_the_next_one_is_the_next_one(name: str, line: str, asked: datetime) -> None:
    zone, moment = ZoneInfo(name), asked.replace(tzinfo=UTC)
    next_us = Cron(line, zone).next_us((moment - EPOCH) // MICROSECOND)
    assert next_us is not None
    whole = moment.replace(second=0, microsecond=0)
    after = [one for one in reckoned(line, zone, whole, whole + timedelta(days=2, hours=3)) if one > moment]
    assert EPOCH + next_us * MICROSECOND == after[0]


@pytest.mark.parametrize(
    ("name", "line", "since", "expected"),
    [
        ("America/New_York", "30 2 * * *", "2026-03-08T00:00-05:00", "2026-03-08T03:30-04:00"),
        ("America/New_York", "30 1 * * *", "2026-11-01T00:00-04:00", "2026-11-01T01:30-04:00"),
        ("America/New_York", "30 1 * * *", "2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"),
        ("Australia/Sydney", "30 2 * * *", "2026-10-04T00:00+10:00", "2026-10-04T03:30+11:00"),
        ("Australia/Sydney", "30 2 * * *", "2026-04-05T00:00+11:00", "2026-04-05T02:30+11:00"),
        # half an hour: 02:15 is left out in spring, 01:45 is there twice in autumn
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04T00:00+10:30", "2026-10-04T02:45+11:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05T00:00+11:00", "2026-04-05T01:45+11:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"),
        # midnight itself is left out
        ("America/Santiago", "0 0 * * *", "2026-09-05T12:00-04:00", "2026-09-06T01:00-03:00"),
        # the midnight after the clock went forward
        ("Europe/Berlin", "0 0 * * *", "2026-03-29T12:00+02:00", "2026-03-30T00:00+02:00"),
        ("America/Mexico_City", "0 2 * * *", "2026-04-05T00:00-06:00", "2026-04-05T02:00-06:00"),
    ],
)
def test_some_of_them_in_figures(name: str, line: str, since: str, expected: str) -> None:
    asked_us = (datetime.fromisoformat(since) - EPOCH) // MICROSECOND
    next_us = Cron(line, ZoneInfo(name)).next_us(asked_us)
    assert next_us == (datetime.fromisoformat(expected) - EPOCH) // MICROSECOND


# Jumps of the clock itself.


class Walk:
    """One schedule over a clock that jumps, looked at again and again; ``done`` are (due, when), of each look."""

    def __init__(self, line: str) -> None:
        self.job = _Job(ScheduleSpec("s", cron=line), UTC, None)
        self.now_us, self.now_s = NOON_US, 1000.0
        self.done: list[tuple[int, int]] = []

    def look(self) -> int | None:
        good = self.now_us >= GOOD_CLOCK_US
        due_us, _ = self.job.due(self.now_us, self.now_s) if good else self.job.hold()
        if due_us is not None:
            self.done.append((due_us, self.now_us))
        return due_us

    def go(self, seconds: int) -> None:
        """Time passes, and it is looked at each second or minute of it."""
        step_s = 1 if seconds <= 120 else 60
        for _ in range(seconds // step_s):
            self.now_us += step_s * 1_000_000
            self.now_s += step_s
            self.look()

    def restart(self) -> None:
        spec = self.job.spec
        note = {"cron": spec.cron, "every_s": None, "last_us": self.job.last_us, "seen_us": self.job.seen_us}
        self.job = _Job(spec, UTC, note)


HOUR_S, YEAR_S = 3600, 365 * 86400
jumps = st.one_of(
    st.sampled_from([-YEAR_S, -HOUR_S, HOUR_S, YEAR_S, 1, -1, -(NOON_US // 10**6)]),
    st.integers(-3 * 86400, 3 * 86400),
)


@settings(max_examples=100, deadline=None)
@given(
    line=st.sampled_from(["* * * * *", "*/15 * * * *", "0 * * * *", "30 13 * * *", "0 0 * * *"]),
    script=st.lists(st.tuples(jumps, st.integers(0, 2 * HOUR_S), st.booleans()), max_size=8),
)
def test_after_a_jump_at_most_one_thing_is_caught_up_with(line: str, script: Sequence[tuple[int, int, bool]]) -> None:
    walk = Walk(line)
    walk.go(60)
    was_wrong = False
    for jump_s, then_s, restarts in script:
        walk.now_us = max(walk.now_us + jump_s * 1_000_000, 0)
        if restarts:
            walk.restart()
        landed_us, before = walk.now_us, len(walk.done)
        walk.look()
        walk.go(then_s)
        new = walk.done[before:]
        caught_up = [due_us for due_us, _ in new if due_us <= landed_us]
        assert len(caught_up) <= 1
        assert all(landed_us - due_us <= GRACE_S * 1e6 for due_us in caught_up)
        assert all(when >= due_us >= GOOD_CLOCK_US for due_us, when in new)
        in_order = [due_us for due_us, _ in new]
        assert in_order == sorted(set(in_order)), "nothing is done twice, nor out of turn"
        # What was done is not done again, unless the clock went so far back that the time before was none.
        was_wrong = (
            was_wrong or max((due_us for due_us, _ in walk.done[:before]), default=0) - landed_us > WRONG_S * 1e6
        )
        assert was_wrong or not set(in_order) & {due_us for due_us, _ in walk.done[:before]}


def test_a_clock_that_goes_back_before_anything_was_done_holds_nothing() -> None:
    """A gateway whose clock was 20 hours ahead at its start, and was set right: tonight is not left out."""
    walk = Walk("0 22 * * *")
    walk.now_us += 20 * HOUR_S * 1_000_000
    walk.look()
    walk.now_us -= 20 * HOUR_S * 1_000_000
    for _ in range(2):
        walk.restart()
        walk.look()
    walk.go(11 * HOUR_S)
    assert [due_us for due_us, _ in walk.done] == [NOON_US + 10 * HOUR_S * 1_000_000]


@pytest.mark.parametrize("jump_s", [-YEAR_S, -HOUR_S, HOUR_S, YEAR_S])
def test_a_toggle_of_each_minute_goes_on_by_monotonic_time_whatever_the_clock_does(jump_s: int) -> None:
    async def check() -> None:
        rig = await Rig(schedules=[ScheduleSpec("pulse", every_s=60, acts=TOGGLE)]).start()
        async with rig.service:
            await rig.wait(61)
            rig.clock.jump_wall(jump_s)
            for minutes in range(1, 4):
                await rig.wait(60)
                assert len(rig.told("command.result")) == 1 + minutes * (rig.clock.now_us() >= GOOD_CLOCK_US)
            assert len(set(map(str, (one.data["id"] for one in rig.told("command.result"))))) == len(
                rig.told("command.result")
            )

    run(check)
