"""Derived wishes: they come as a whole by their key, act at once when they protect, and are never on disk."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent.control.keeping import Keeping
from agent.control.memory import Memory
from agent.control.model import Origin, Outcome, Wish
from agent.control.station import Target
from agent.control.stations import Stations
from agent.control.wishes import MAX_WISHES
from agent.core.model import Event, Number
from tests.control_fakes import ENABLED, LIMIT, FakeDevice, FakeNotebook, Rig, run, settle


def stations(rig: Rig) -> Stations:
    return rig.service._stations


def wish(
    origin: Origin = Origin.SAFETY,
    station: str = "cp1",
    *,
    on: bool | None = None,
    limit_a: Number | None = None,
    **more: Any,  # noqa: ANN401 - what a wish takes
) -> Wish:
    return Wish(**{"station": station, "key": "", "origin": origin, "on": on, "limit_a": limit_a, **more})


async def begun() -> Rig:
    """A rig whose first tick is over."""
    rig = await Rig().start()
    await rig.wait(1)
    return rig


def test_exactly_these_stand_from_now_on() -> None:
    async def check() -> None:
        rig = await begun()
        async with rig.service:
            stations(rig).derive("alarm:hot", [wish(on=False, reason="52 degrees")])
            await settle()
            assert rig.charger.now == {ENABLED: 0}
            assert rig.service.why("cp1")[0].reason == "off by alarm hot since 12:00 (52 degrees)"
            await rig.wait(61)
            stations(rig).derive("alarm:hot", [wish(limit_a=10, reason="46 degrees")])
            await settle()
            assert rig.charger.now == {LIMIT: 10, ENABLED: 1}
            stations(rig).derive("alarm:hot", [])
            await settle()
            assert rig.charger.now == {LIMIT: 32, ENABLED: 1}
            stations(rig).derive("alarm:hot", [])
            assert rig.notebook.notes("wish") == {}, "they are never kept"

    run(check)


def test_what_says_the_same_keeps_its_place_and_wakes_nobody() -> None:
    async def check() -> None:
        rig = await begun()
        async with rig.service:
            stations(rig).derive("rule:a", [wish(Origin.RULE, on=False)])
            await settle()
            stations(rig).derive("rule:b", [wish(Origin.RULE, on=True)])
            await rig.wait(61)
            assert rig.charger.now[ENABLED] == 1
            runner = stations(rig).find("cp1")
            assert runner is not None
            version = runner._version
            for count in range(100):
                stations(rig).derive("rule:a", [wish(Origin.RULE, on=False, reason=str(count), inputs={"x": count})])
                assert runner._task is not None
                assert runner._task.done(), "nothing is to be done"
            assert runner._version == version
            a, b = runner.wishes
            assert (a.key, a.reason, a.inputs) == ("rule:a", "99", {"x": 99})
            assert b.key == "rule:b", "it is still the newest"
            assert a.since_us == b.since_us < rig.clock.now_us()
            stations(rig).derive("rule:a", [wish(Origin.RULE, on=False), wish(Origin.RULE, limit_a=8)])
            await settle()
            assert [(one.on, one.limit_a) for one in runner.wishes] == [(False, None), (True, None), (None, 8)]

    run(check)


def test_all_stations_and_those_that_come_later() -> None:
    async def check() -> None:
        rig = await begun()
        async with rig.service:
            stations(rig).derive("event:dim", [wish(Origin.GRID, "*", limit_a=6), wish(station="cp9", on=False)])
            other, later = FakeDevice(), FakeDevice()
            await settle()
            assert rig.charger.now == {LIMIT: 6}
            targets = [
                Target("cp1", "cp1", 0, "Left", rig.charger, rig.charger),
                Target("cp9", "cp9", 0, "", later, later),
                Target("cp5", "cp5", 0, "", other, other),
            ]
            await rig.service.apply(targets, (), "UTC")
            await settle()
            assert (later.now, other.now) == ({ENABLED: 0}, {LIMIT: 6})
            await rig.service.apply(targets[:1], (), "UTC")
            stations(rig).derive("event:dim", [])
            again = FakeDevice()
            await rig.service.apply([targets[0], replace(targets[1], commandable=again)], (), "UTC")
            await rig.wait(61)
            assert again.now == {ENABLED: 1}, "withdrawn while it was gone"
            assert rig.charger.now == {LIMIT: 32}

    run(check)


def test_a_stop_does_not_wait_for_a_disk_that_hangs() -> None:
    async def check() -> None:
        rig = await begun()
        async with rig.service:
            rig.killer.at = (
                rig.killer.steps
            )  # from now on nothing of the disk ends, and no step of the device but these
            rig.charger._killer = type(rig.killer)()
            on = asyncio.ensure_future(rig.service._stations._runners["cp1"].put(wish(Origin.MANUAL, on=False), None))
            await rig.wait(2)
            assert rig.charger.log == [], "what does not protect is on disk before it is switched"
            stations(rig).derive("alarm:hot", [wish(on=False)])
            await settle()
            assert rig.charger.log == [(ENABLED, 0)]
            on.cancel()
            await asyncio.gather(on, return_exceptions=True)

    run(check)


def test_a_command_that_protects_does_not_wait_either() -> None:
    async def check() -> None:
        rig = await begun()
        async with rig.service:
            rig.killer.at = rig.killer.steps
            rig.charger._killer = type(rig.killer)()
            runner = stations(rig).find("cp1")
            assert runner is not None
            stop = asyncio.ensure_future(runner.put(wish(key="alarm:hot", on=False), None))
            await settle()
            assert rig.charger.log == [(ENABLED, 0)]
            stop.cancel()
            await asyncio.gather(stop, return_exceptions=True)

    run(check)


def test_a_stop_counts_though_it_was_written_first() -> None:
    async def check() -> None:
        rig = await begun()
        rig.view.put("cp1.power_w", 0)
        for _ in range(3):
            stations(rig).derive("alarm:hot", [wish(on=False)])
            await settle()
            stations(rig).derive("alarm:hot", [])
            await rig.wait(61)
        await rig.service.close()
        rig.charger.log = []
        rig = await rig.restarted().start()
        async with rig.service:
            rig.charger.now = {ENABLED: 1}
            result = await rig.do("off")
            assert "switched 6 times an hour at most" in result.reason
            stations(rig).derive("alarm:hot", [wish(on=False)])
            await settle()
            assert rig.charger.now == {ENABLED: 0}, "a stop that protects ignores the quota"

    run(check)


def test_full_or_not_derived_ones_have_room_and_nobody_else_takes_them_back() -> None:
    async def check() -> None:
        rig = await begun()
        async with rig.service:
            for count in range(MAX_WISHES):
                assert (await rig.do("limit", f"user:{count}", limit_a=20)).outcome is Outcome.DONE
            assert (await rig.do("limit", "user:more", limit_a=20)).outcome is Outcome.REJECTED
            for count in range(200):
                stations(rig).derive(f"rule:{count}", [wish(Origin.MANUAL, limit_a=7)])
            await settle()
            assert rig.charger.now == {LIMIT: 7}
            await rig.do("release", "user:0", all=True)
            runner = stations(rig).find("cp1")
            assert runner is not None
            assert len(runner.wishes) == 200
            assert (await rig.do("limit", "rule:0", limit_a=20)).outcome is Outcome.DONE
            assert len(runner.wishes) == 201, "a command of the same name is somebody else's"

    run(check)


def test_an_end_is_kept_by_monotonic_time() -> None:
    async def check() -> None:
        rig = await begun()
        async with rig.service:
            until_us = rig.clock.now_us() + 100_000_000
            stations(rig).derive("event:x", [wish(Origin.GRID, on=False, until_us=until_us)])
            await settle()
            assert rig.service.why("cp1")[0].reason == "off by event x since 12:00 until 12:01"
            rig.clock.jump_wall(86400)
            await rig.wait(98)
            assert rig.charger.now == {ENABLED: 0}
            await rig.wait(3)
            assert rig.charger.now == {ENABLED: 1}
            stations(rig).derive("event:x", [wish(Origin.GRID, on=False, until_us=rig.clock.now_us() - 1)])
            await settle()
            assert rig.charger.now == {ENABLED: 1}, "it is over already"
            stations(rig).derive("event:x", [wish(Origin.GRID, on=False, until_us=rig.clock.now_us() + 900_000_000)])
            await rig.wait(1)
            assert rig.charger.now == {ENABLED: 0}
            stations(rig).derive("event:x", [wish(Origin.GRID, on=False, until_us=rig.clock.now_us() + 61_000_000)])
            await rig.wait(63)
            assert rig.charger.now == {ENABLED: 1}, "an earlier end counts too"

    run(check)


@pytest.mark.parametrize("protects", [True, False])
def test_before_the_first_tick_only_stops_act(protects: bool) -> None:  # noqa: FBT001 - a table
    async def check() -> None:
        rig = await Rig().start()
        await rig.do("on")
        await rig.service.close()
        rig.charger.log = []
        rig = await rig.restarted().start()
        async with rig.service:
            stations(rig).derive("load", [wish(Origin.GRID, limit_a=16)])
            await settle()
            assert rig.charger.log == [], "who else derives has not done so yet"
            stations(rig).derive("alarm:hot", [wish(on=False)] if protects else [])
            await settle()
            assert rig.charger.log == ([(ENABLED, 0)] if protects else [])
            await rig.wait(1)
            assert rig.charger.now[ENABLED] == (0 if protects else 1)

    run(check)


def test_wishes_of_schedules_that_are_gone_write_nothing_before_the_first_tick() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.view.put("cp1.power_w", 0)
        await rig.service._stations._runners["cp1"].put(wish(Origin.SCHEDULE, on=False), None)
        await settle()
        await rig.service.close()
        rig.charger.log = []
        rig = await rig.restarted().start()
        async with rig.service:
            await settle()
            assert rig.charger.log == []
            stations(rig).derive("alarm:hot", [wish(on=False)])
            await rig.wait(100)
            assert rig.charger.log == [(ENABLED, 0)], "it was never on in between"

    run(check)


def test_a_slow_disk_gets_the_newest_state_of_each_note_and_no_event_is_lost_for_it() -> None:
    async def check() -> None:
        notebook = FakeNotebook()
        keeping = Keeping("station cp1", Memory(notebook))
        await keeping.wait()  # nothing is pending: it returns
        event = Event("station.decided", 1, "cp1", {"number": 1})
        keeping.put("station", "cp1", {"on": True})
        for count in range(100):
            keeping.put("decision", "cp1/1", {"count": count}, [event] if count == 50 else [])
        await keeping.wait()
        assert (notebook.writes, notebook.events) == (2, [event])
        assert notebook.note("decision", "cp1/1") == {"count": 99}
        keeping.put("station", "cp1", {"on": False})
        keeping.put("wish", "cp1", {})
        await keeping.close()
        assert notebook.note("station", "cp1") == {"on": False}
        assert notebook.note("wish", "cp1") == {}

    run(check)


@pytest.mark.announced_warnings
def test_a_bug_while_writing_notes_is_told_and_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        keeping = Keeping("station cp1", Memory(FakeNotebook()))
        keeping.put("station", "cp1", {"on": object()})
        await keeping.wait()
        keeping.put("station", "cp1", {"on": 1})
        await keeping.wait()

    run(check)
    assert "writing its notes crashed" in caplog.text


def test_a_restart_in_the_middle_of_charging_interrupts_nothing() -> None:
    """Trials C6: twenty times, with the state read at once, late, and with the limits of others derived anew."""

    async def check() -> None:
        rig = await begun()
        rig.view.put("cp1.power_w", 7000)
        await rig.do("on")
        await rig.do("limit", "rule:sun", Origin.RULE, limit_a=20)
        for count in range(20):
            stations(rig).derive("load", [wish(Origin.GRID, limit_a=16)])
            rig.view.put("cp1.power_w", 7000)
            await rig.wait(120)
            await rig.service.close()
            rig.charger.log = []
            rig = rig.restarted()
            rig.view.put("cp1.power_w", None if count % 2 else 7000)
            await rig.start()
            stations(rig).derive("load", [wish(Origin.GRID, limit_a=16)])
            await rig.wait(5)
            if count % 2:
                assert rig.charger.log == [], "nothing was read yet"
                rig.view.put("cp1.power_w", 7000)
                await rig.wait(2)
            assert rig.charger.log == [(LIMIT, 16), (ENABLED, 1)], "the same once more, never off and never less"
        assert not rig.told("station.not_following")
        await rig.service.close()

    run(check)


def test_nothing_is_written_after_the_end() -> None:
    async def check() -> None:
        rig = await begun()
        stations(rig).derive("load", [wish(Origin.GRID, limit_a=9)])
        await settle()
        await rig.service.close()
        rig.charger.log = []
        stations(rig).derive("alarm:hot", [wish(on=False)])
        rig.service.hear(Event("device.heard", 0, "cp1"))
        await rig.wait(40)
        assert rig.charger.log == []

    run(check)
