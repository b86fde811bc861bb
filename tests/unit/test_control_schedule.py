"""Schedules: when a line is due, over both changes of daylight saving, and what jumps and restarts do to it."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.cron import Cron
from agent.control.model import Outcome
from agent.control.schedule import Act, ScheduleSpec
from agent.core.errors import ConfigError
from tests.control_fakes import ENABLED, LIMIT, NOON_US, Killer, Rig, run, settle

BERLIN = ZoneInfo("Europe/Berlin")
OFF, ON, TOGGLE = (Act("cp1", set="off"),), (Act("cp1", set="on"),), (Act("cp1", set="toggle"),)


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000


def dues(line: str, since: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    cron, after_us, found = Cron(line, zone), us(since) - 1, []
    for _ in range(count):
        due_us = cron.next_us(after_us)
        assert due_us is not None
        found.append(datetime.fromtimestamp(due_us / 1e6, zone).isoformat()[5:])
        after_us = due_us
    return found


@pytest.mark.parametrize(
    ("line", "since", "expected"),
    [
        # 02:30 does not exist on 29 March: with the offset before, it is 03:30
        (
            "30 2 * * *",
            "2026-03-28T00:00+01:00",
            ["03-28T02:30:00+01:00", "03-29T03:30:00+02:00", "03-30T02:30:00+02:00"],
        ),
        ("0 3 * * *", "2026-03-29T00:00+01:00", ["03-29T03:00:00+02:00", "03-30T03:00:00+02:00"]),
        # 02:30 exists twice on 25 October: it is done the first time
        (
            "30 2 * * *",
            "2026-10-24T00:00+02:00",
            ["10-24T02:30:00+02:00", "10-25T02:30:00+02:00", "10-26T02:30:00+01:00"],
        ),
        ("30 2 * * *", "2026-10-25T02:40+02:00", ["10-26T02:30:00+01:00"]),
        # each half hour is each half hour
        (
            "*/30 * * * *",
            "2026-10-25T02:00+02:00",
            ["10-25T02:00:00+02:00", "10-25T02:30:00+02:00", "10-25T02:00:00+01:00", "10-25T02:30:00+01:00"],
        ),
        ("*/30 * * * *", "2026-03-29T01:30+01:00", ["03-29T01:30:00+01:00", "03-29T03:00:00+02:00"]),
        # weekdays are those of crontab(5): 29 March 2026 is a Sunday
        ("0 12 * * 0", "2026-03-28T00:00+01:00", ["03-29T12:00:00+02:00", "04-05T12:00:00+02:00"]),
        ("0 12 * * 7", "2026-03-28T00:00+01:00", ["03-29T12:00:00+02:00"]),
        ("0 12 * * 1-5", "2026-03-28T00:00+01:00", ["03-30T12:00:00+02:00", "03-31T12:00:00+02:00"]),
        (
            "0 12 * * sat-mon",
            "2026-03-27T12:01+01:00",
            [f"03-{day}T12:00:00+0{n}:00" for day, n in ((28, 1), (29, 2), (30, 2))],
        ),
        ("0 12 * * 5-7/2", "2026-03-27T00:00+01:00", ["03-27T12:00:00+01:00", "03-29T12:00:00+02:00"]),
        # where day of month and weekday are both given, either is enough
        ("0 12 29 * 1", "2026-03-28T00:00+01:00", ["03-29T12:00:00+02:00", "03-30T12:00:00+02:00"]),
        ("0 12 */2 * 1", "2026-03-28T00:00+01:00", ["04-13T12:00:00+02:00"]),
        ("0 0 29 feb *", "2026-03-28T00:00+01:00", ["02-29T00:00:00+01:00"]),
    ],
)
def test_when_a_line_is_due(line: str, since: str, expected: list[str]) -> None:
    assert dues(line, since, len(expected)) == expected


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - the zone is given beside
def test_a_line_is_due_once_a_day_and_never_before_it_is_asked_for(after: datetime) -> None:
    after_us = round(after.timestamp() * 1e6)
    due_us = Cron("30 2 * * *", BERLIN).next_us(after_us)
    assert due_us is not None
    assert 0 < due_us - after_us <= 25 * 3600 * 1_000_000
    local = datetime.fromtimestamp(due_us / 1e6, BERLIN)
    assert local.strftime("%H:%M") == (
        "03:30" if (local.month, local.day) in {(3, 29), (3, 28)} and local.hour == 3 else "02:30"
    )


@pytest.mark.parametrize(
    "line", ["", "* * * *", "61 * * * *", "0 0 * * 8", "0 0 * * mon-", "0 0 * * */0", "a b c d e", "0 0 1-0 * *"]
)
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Cron(line, BERLIN)
    assert "five fields" in caught.value.hint


def test_the_library_is_loaded_with_the_first_line_only() -> None:
    code = "import sys, agent.control.service; print(sum(name.startswith('apscheduler') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_a_day_that_never_comes() -> None:
    assert Cron("0 0 31 2 *", BERLIN).next_us(NOON_US) is None


def rig_of(*schedules: ScheduleSpec, killer: Killer | None = None) -> Rig:
    return Rig(schedules=schedules, killer=killer or Killer(), zone="Europe/Berlin")


def done(rig: Rig) -> list[str]:
    return [str(event.data["id"]) for event in rig.told("command.result")]


def test_a_schedule_says_whether_it_toggles_something() -> None:
    async def check() -> None:
        both = (Act("cp1", limit_a=10), Act("cp1", set="toggle"))
        rig = await rig_of(ScheduleSpec("a", every_s=60, acts=both), ScheduleSpec("b", every_s=60, acts=OFF)).start()
        async with rig.service:
            assert [(job.id, job.toggles) for job in rig.service.jobs()] == [("a", True), ("b", False)]

    run(check)


def test_a_schedule_switches_when_it_is_due() -> None:
    async def check() -> None:
        rig = await rig_of(
            ScheduleSpec("night", cron="5 13 * * *", acts=(Act("cp1", set="off", limit_a=10), Act("cp1", do="reset"))),
            ScheduleSpec("never", cron="0 0 31 2 *", acts=OFF),
        ).start()
        async with rig.service:
            await rig.wait(1)
            job, never = rig.service.jobs()
            assert (job.id, job.last_us, job.next_us, job.running) == ("night", None, us("2026-03-28T12:05Z"), False)
            assert never.next_us is None
            await rig.wait(298)
            assert rig.charger.log == []
            await rig.wait(2)
            assert rig.charger.now == {LIMIT: 10, ENABLED: 0}
            assert rig.charger.acted == [("reset", {})]
            assert done(rig) == [
                "schedule:night 2026-03-28T12:05:00Z 0 limit",
                "schedule:night 2026-03-28T12:05:00Z 0 off",
                "schedule:night 2026-03-28T12:05:00Z 1 reset",
            ]
            job = rig.service.jobs()[0]
            assert (job.last_us, job.next_us) == (us("2026-03-28T12:05Z"), us("2026-03-29T11:05Z"))
            assert [result.outcome for result in job.results] == [Outcome.DONE] * 3
            assert rig.service.why("cp1")[0].reason == (
                "off by schedule night since 13:05, at most 10 A by schedule night since 13:05"
            )

    run(check)


def test_a_clock_that_jumps_ahead_gives_one_action_and_one_that_jumps_back_none_twice() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("minute", cron="* * * * *", acts=TOGGLE)).start()
        async with rig.service:
            await rig.wait(61)
            assert len(done(rig)) == 1
            rig.clock.jump_wall(1800)
            await rig.wait(3)
            assert len(done(rig)) == 2
            rig.clock.jump_wall(-1200)
            await rig.wait(1190)
            assert len(done(rig)) == 2, "those minutes were"
            await rig.wait(70)
            assert len(done(rig)) == 3
            rig.clock.jump_wall(400 * 86400)
            await rig.wait(2)
            assert len(done(rig)) == 4
            rig.clock.jump_wall(-400 * 86400)
            await rig.wait(61)
            assert len(done(rig)) in {5, 6}, "a step of so much says that the time before was none"
            assert len(done(rig)) == len(set(done(rig)))

    run(check)


def test_a_late_loop_catches_up_once_and_only_for_an_hour() -> None:
    async def check() -> None:
        rig = await rig_of(
            ScheduleSpec("often", cron="*/5 * * * *", acts=TOGGLE), ScheduleSpec("once", cron="30 13 * * *", acts=OFF)
        ).start()
        async with rig.service:
            await rig.wait(1)
            rig.clock.advance(3 * 3600)
            await rig.wait(1)
            assert done(rig) == ["schedule:often 2026-03-28T15:00:00Z 0 toggle"]
            (missed,) = rig.told("schedule.missed")
            assert (missed.subject, missed.data["due_us"]) == ("once", us("2026-03-28T12:30Z"))
            await rig.wait(10)
            assert len(done(rig)) == 1
            await rig.service.close()
            later = await rig.restarted().start()
            await later.wait(2)
            assert not later.told("schedule.missed"), "told once"
            await later.service.close()

    run(check)


def test_what_was_missed_while_the_gateway_was_off_is_done_once() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("night", cron="5 13 * * *", acts=OFF)).start()
        await rig.wait(2)
        await rig.service.close()
        rig.clock.advance(1200)
        for expected in (1, 1):
            rig = await rig.restarted().start()
            await rig.wait(2)
            assert len(rig.notebook.notes("command")) == expected
            assert rig.charger.now == {ENABLED: 0}
            await rig.service.close()

    run(check)


def test_a_new_schedule_is_not_about_what_was_before() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("day", cron="55 12 * * *", acts=OFF)).start()
        async with rig.service:
            await rig.wait(5)
            assert done(rig) == []
            changed = ScheduleSpec("day", cron="58 12 * * *", acts=OFF)
            rig.schedules = [changed]
            await rig.start()
            await rig.wait(5)
            assert done(rig) == []

    run(check)


def test_killed_in_the_minute_it_is_done_once() -> None:
    async def check() -> None:
        for at in range(2, 60):  # from when the schedule was seen first
            rig = await rig_of(ScheduleSpec("night", cron="1 13 * * *", acts=TOGGLE), killer=Killer(at)).start()
            await rig.wait(70, 10)
            dead = rig.killer.dead
            await rig.service.close()
            later = await rig.restarted().start()
            await later.wait(20)
            outcomes = [*done(rig), *done(later)]
            assert outcomes == ["schedule:night 2026-03-28T12:01:00Z 0 toggle"], f"killed at {at}"
            assert later.charger.now.get(ENABLED, 0) == 0, "it was not toggled twice"
            await later.service.close()
            if not dead:
                break
        assert at > 10

    run(check)


def test_a_clock_that_was_never_set_holds_all() -> None:
    async def check() -> None:
        rig = rig_of(
            ScheduleSpec("minute", cron="* * * * *", acts=TOGGLE), ScheduleSpec("seconds", every_s=10, acts=TOGGLE)
        )
        rig.clock.jump_wall(-NOON_US / 1e6)
        await rig.start()
        async with rig.service:
            await rig.wait(120)
            assert done(rig) == []
            assert rig.notebook.writes == 0
            assert [job.next_us for job in rig.service.jobs()] == [None, None]
            rig.clock.jump_wall(NOON_US / 1e6)
            await rig.wait(15)
            assert len(done(rig)) == 1
            await rig.wait(60)
            assert len([one for one in done(rig) if "minute" in one]) == 1

    run(check)


def test_an_interval_is_kept_by_monotonic_time_and_over_restarts() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("pulse", every_s=60, acts=TOGGLE)).start()
        await rig.wait(61)
        assert len(done(rig)) == 1
        rig.clock.jump_wall(7200)
        await rig.wait(50)
        assert len(done(rig)) == 1, "wall time is not asked"
        await rig.wait(10)
        assert len(done(rig)) == 2
        await rig.service.close()
        rig.clock.advance(20)
        rig = await rig.restarted().start()
        await rig.wait(38)
        assert done(rig) == []
        await rig.wait(5)
        assert len(done(rig)) == 1
        rig.clock.advance(1000)
        await rig.wait(2)
        assert len(done(rig)) == 2, "what was missed is done once"
        await rig.service.close()

    run(check)


def test_restarts_do_not_put_off_the_first_time_of_an_interval() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("daily", every_s=86400, acts=OFF)).start()
        for _ in range(4):
            await rig.wait(2)
            await rig.service.close()
            rig.clock.advance(20_000)
            rig = await rig.restarted().start()
        await rig.wait(2)
        assert done(rig) == []
        rig.clock.advance(7_000)
        await rig.wait(2)
        assert len(done(rig)) == 1
        await rig.service.close()

    run(check)


def test_a_run_that_lasts_is_not_doubled() -> None:
    async def check() -> None:
        acts = (Act("cp1", do="reset"), Act("cp1", do="reset"))
        rig = await rig_of(ScheduleSpec("often", cron="* * * * *", acts=acts)).start()
        async with rig.service:
            rig.charger.gate = asyncio.Event()
            await rig.wait(62)
            rig.clock.advance(58)
            await rig.wait(5)
            assert rig.service.jobs()[0].running
            assert len(done(rig)) == 1, "its time to live was over; the second one is being done"
            rig.charger.gate.set()
            await rig.wait(2)
            assert done(rig) == [
                "schedule:often 2026-03-28T12:01:00Z 0 reset",
                "schedule:often 2026-03-28T12:01:00Z 1 reset",
                "schedule:often 2026-03-28T12:02:00Z 0 reset",
                "schedule:often 2026-03-28T12:02:00Z 1 reset",
            ]

    run(check)


def test_run_now_is_out_of_turn() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("night", cron="0 22 * * *", acts=OFF)).start()
        async with rig.service:
            assert await rig.service.run_now("day") is None
            for _ in range(2):
                results = await rig.service.run_now("night")
                assert results is not None
                assert [result.outcome for result in results] == [Outcome.DONE]
                rig.clock.advance(0.001)
            assert rig.charger.now == {ENABLED: 0}
            assert len(done(rig)) == 2
            await rig.wait(1)
            assert rig.service.jobs()[0].last_us is None

    run(check)


def test_a_schedule_that_is_deleted_wishes_nothing_any_more() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("night", cron="0 22 * * *", acts=OFF)).start()
        async with rig.service:
            await rig.service.run_now("night")
            assert rig.charger.now == {ENABLED: 0}
            rig.schedules = []
            await rig.start()
            await rig.wait(61)
            assert rig.charger.now == {ENABLED: 1}

    run(check)


def test_a_bad_line_changes_nothing() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("night", cron="0 22 * * *", acts=OFF)).start()
        async with rig.service:
            rig.schedules = [ScheduleSpec("night", cron="0 25 * * *", acts=OFF)]
            with pytest.raises(ConfigError):
                await rig.start()
            assert [job.cron for job in rig.service.jobs()] == ["0 22 * * *"]

    run(check)


def test_the_part_runs_until_it_is_cancelled() -> None:
    async def check() -> None:
        rig = await rig_of(ScheduleSpec("minute", cron="* * * * *", acts=OFF)).start()
        async with rig.service:
            running = asyncio.ensure_future(rig.service.run())
            for _ in range(65):
                await settle()
                rig.clock.advance(1)
            await settle()
            assert rig.charger.now == {ENABLED: 0}
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(check)


def test_what_a_schedule_does_no_more_is_taken_back() -> None:
    async def check() -> None:
        both = ScheduleSpec("night", every_s=10, acts=(Act("cp1", set="off", limit_a=10),))
        rig = await Rig(schedules=[both]).start()
        async with rig.service:
            await rig.wait(12)
            assert rig.charger.now["charging_enabled"] == 0
            rig.schedules = [ScheduleSpec("night", every_s=3600, acts=(Act("cp1", limit_a=12),))]
            await rig.start()
            await rig.wait(61)
            station = rig.service.station("cp1")
            assert station is not None
            assert (station.on, station.limit_a) == (None, 10), "its limit stays until it is due again"
            rig.schedules = []
            await rig.start()
            await rig.wait(61)
            assert rig.charger.now == {"charging_enabled": 1, "current_limit_a": 32}

    run(check)
