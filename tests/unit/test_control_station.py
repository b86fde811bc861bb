"""A station over time: what reaches the device, when, and what is told about it."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from agent.control.effect import Expectation, Reading, judge
from agent.control.model import Origin, Outcome, Result
from agent.control.station import Target
from agent.control.switching import SwitchLimits
from agent.core.errors import CommandRejected, NoAnswer, Refusal
from agent.core.model import Event
from tests.control_fakes import ENABLED, LIMIT, FakeDevice, Rig, run, settle


def test_nobody_wishes_anything_and_nothing_is_written() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.wait(120)
            assert rig.charger.log == []
            assert rig.notebook.writes == 0
            assert rig.service.why("cp1") == []
            station = rig.service.station("cp1")
            assert station is not None
            assert (station.on, station.limit_a, station.following, station.name) == (None, None, None, "Left")
            assert set(station.settings) == {LIMIT, ENABLED}

    run(check)


def test_the_strongest_wins_and_the_journal_says_why() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            assert (await rig.do("on", "schedule:day", Origin.SCHEDULE)).outcome is Outcome.DONE
            assert rig.charger.log == [(ENABLED, 1)]
            await rig.wait(61)
            result = await rig.do("off", for_s=600)
            assert result.data == {"on": False, "limit_a": None, "in_force": True}
            assert result.reason == "off by user ana since 12:01 until 12:11; schedule day wanted on"
            overruled = await rig.do("on", "rule:sun", Origin.RULE)
            assert (overruled.outcome, overruled.data["in_force"]) == (Outcome.DONE, False)
            assert overruled.reason.startswith("it stands, but: off by user ana")
            assert rig.charger.now == {ENABLED: 0}
            await rig.wait(601)
            assert rig.charger.now == {ENABLED: 1}
            newest, before, first = rig.service.why("cp1")
            assert newest.reason == "on by rule sun since 12:01"
            assert (newest.result, before.result, first.result) == ("done", "done", "done")
            assert len(before.wishes) == 2
            assert [event.data["reason"] for event in rig.told("station.decided")] == [
                first.reason,
                before.reason,
                newest.reason,
            ]
            assert rig.service.why("cp1", 1) == [newest]
            assert rig.service.why("nobody") == []

    run(check)


def test_what_was_set_is_taken_back_once_when_the_last_wish_is_gone() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("limit", limit_a=10)
            await rig.do("off")
            assert rig.charger.now == {LIMIT: 10, ENABLED: 0}
            await rig.wait(61)
            result = await rig.do("release")
            assert result.outcome is Outcome.DONE
            assert "nobody wants anything of it any more" in result.reason
            assert rig.charger.now == {LIMIT: 32, ENABLED: 1}
            count = len(rig.charger.log)
            rig.service.hear(Event("device.heard", 0, "cp1"))
            await rig.wait(10)
            assert len(rig.charger.log) == count, "nobody wishes anything: nothing is written"

    run(check)


def test_a_limit_leaves_the_off_of_the_same_person_alone() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("off")
            result = await rig.do("limit", limit_a=16)
            assert (result.data["on"], result.data["limit_a"]) == (False, 16)
            await rig.wait(61)
            await rig.do("on")
            assert rig.charger.log == [(ENABLED, 0), (LIMIT, 16), (ENABLED, 1)]

    run(check)


def test_switches_are_held_and_the_last_wish_is_reached() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("on")
            await rig.do("off")
            held = await rig.do("on")
            assert (held.outcome, held.data["in_force"]) == (Outcome.DONE, False)
            assert held.reason == "on by user ana since 12:00; waits until 12:01: it stays off for at least 60 s"
            assert rig.charger.now == {ENABLED: 0}
            assert rig.service.why("cp1")[0].result.startswith("waits until 12:01")
            await rig.wait(59)
            assert rig.charger.now == {ENABLED: 0}
            await rig.wait(2)
            assert rig.charger.now == {ENABLED: 1}
            assert rig.service.why("cp1")[0].result == "done"

    run(check)


def test_a_stop_that_protects_waits_for_nothing() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            for action in ("off", "on"):
                await rig.do(action)
                await rig.wait(61)
            await rig.do("off", "user:bob", Origin.REMOTE)
            await rig.do("off")
            await rig.wait(61)
            await rig.do("on")
            assert rig.charger.now[ENABLED] == 1
            await rig.do("off", "alarm:hot", Origin.SAFETY, reason="51 degrees")
            assert rig.charger.now[ENABLED] == 0, "though it was on for no second"

    run(check)


def test_a_thousand_toggles_keep_to_the_quota_also_over_restarts() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.view.put("cp1.power_w", 0)
        written = []
        for count in range(1000):
            await rig.do("toggle")
            await rig.wait(0.6, 0.6)
            if count % 100 == 99:
                written += rig.charger.log
                await rig.service.close()
                rig.charger.log = []
                rig = await rig.restarted().start()
        written += rig.charger.log
        changes = [value for place, (_, value) in enumerate(written) if place == 0 or written[place - 1][1] != value]
        assert len(changes) == 6
        async with rig.service:
            await rig.do("off")
            await rig.wait(3600, 10)
            assert rig.charger.now[ENABLED] == 0

    run(check)


def test_outputs_are_untouched_until_the_state_was_read() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.view.put("cp1.power_w", None)
        async with rig.service:
            result = await rig.do("off")
            assert result.outcome is Outcome.FAILED
            assert "not known yet; it stands" in result.reason
            await rig.wait(5)
            assert rig.charger.log == []
            await rig.do("off", "alarm:hot", Origin.SAFETY)
            assert rig.charger.log == [(ENABLED, 0)], "a stop that protects does not wait"
            await rig.wait(70)
            await rig.do("release", "alarm:hot", Origin.SAFETY)
            await rig.do("on")
            assert rig.charger.log == [(ENABLED, 0)]
            rig.view.put("cp1.power_w", 0)
            await rig.wait(1)
            assert rig.charger.log == [(ENABLED, 0), (ENABLED, 1)]

    run(check)


def test_a_device_that_is_away_is_tried_again_and_told_when_it_is_back() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.charger.fails = NoAnswer("set", "no answer")
        async with rig.service:
            result = await rig.do("off")
            assert result.outcome is Outcome.FAILED
            assert "it stands and is done as soon as" in result.reason
            await rig.wait(30)
            rig.charger.fails = None
            assert len(rig.told("station.decided")) == 1, "the same fault is told once"
            rig.service.hear(Event("device.heard", 0, "cp1"))
            await rig.wait(1)
            assert rig.charger.log == [(ENABLED, 0)]
            assert [event.data["result"] for event in rig.told("station.decided")][-1] == "done"
            rig.service.hear(Event("device.heard", 0, "cp2"))
            await rig.wait(5)
            assert len(rig.charger.log) == 1
            rig.service.hear(Event("device.heard", 0, "cp1"))
            await rig.wait(29)
            assert len(rig.charger.log) == 1, "its driver sets it up"
            await rig.wait(5)
            assert rig.charger.log == [(ENABLED, 0), (ENABLED, 0)], "it may have been without power"

    run(check)


def test_a_switch_that_did_not_reach_the_device_holds_nothing() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.charger.fails = NoAnswer("set", "no answer")
        async with rig.service:
            await rig.do("off", for_s=5)
            await rig.wait(6)
            rig.charger.fails = None
            rig.service.hear(Event("device.heard", 0, "cp1"))
            await rig.wait(2)
            assert rig.charger.log == [(ENABLED, 1)], "it was never off: it is not held off"
            await rig.do("off")
            assert rig.charger.log == [(ENABLED, 1), (ENABLED, 0)]

    run(check)


def test_a_switch_that_was_overtaken_holds_nothing() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("limit", limit_a=10)
            await rig.do("off")
            await rig.wait(61)
            rig.charger.gate = asyncio.Event()
            both = asyncio.ensure_future(rig.do("limit", "user:ana", limit_a=20))
            on = asyncio.ensure_future(rig.do("on"))
            await settle()
            off = asyncio.ensure_future(rig.do("off"))
            await settle()
            rig.charger.gate.set()
            await asyncio.gather(both, on, off)
            assert rig.charger.now[ENABLED] == 0
            assert (ENABLED, 1) not in rig.charger.log, "it was off all the time"

    run(check)


def test_tries_back_off() -> None:
    async def check() -> None:
        rig = await Rig().start()
        tries: list[float] = []

        async def refuse(point: str, value: float) -> float:
            tries.append(rig.clock.monotonic_s())
            raise CommandRejected("set", Refusal.DEVICE_REFUSED, "no")

        rig.charger.set = refuse  # type: ignore[method-assign]
        async with rig.service:
            result = await rig.do("off")
            assert (result.outcome, result.refusal) == (Outcome.REJECTED, Refusal.DEVICE_REFUSED)
            await rig.wait(300)
            pauses = [round(after - before) for before, after in pairwise(tries)]
            assert pauses == [5, 10, 20, 40, 60, 60, 60]

    run(check)


def test_a_wish_that_comes_while_the_device_is_written_to_is_seen_before_the_next_write() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.gate = asyncio.Event()
            first = asyncio.ensure_future(rig.do("limit", limit_a=10))
            await settle()
            second = asyncio.ensure_future(rig.do("limit", limit_a=20))
            third = asyncio.ensure_future(rig.do("limit", "user:bob", limit_a=12))
            await settle()
            rig.charger.gate.set()
            outcomes = [(await one).outcome for one in (first, second, third)]
            assert outcomes == [Outcome.SUPERSEDED, Outcome.DONE, Outcome.DONE]
            assert rig.charger.log == [(LIMIT, 10), (LIMIT, 12)]

    run(check)


def test_after_a_restart_it_is_as_before_and_written_once_more() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.view.put("cp1.power_w", 0)
        await rig.do("off", for_s=600)
        await rig.do("limit", "rule:s", Origin.RULE, limit_a=10)
        before = rig.service.why("cp1")
        await rig.service.close()
        rig.clock.advance(100)
        rig.charger.log = []
        rig = await rig.restarted().start()
        async with rig.service:
            assert rig.charger.log == []
            await rig.wait(5)
            assert rig.charger.log == [(ENABLED, 0)]
            assert rig.service.why("cp1") == before
            await rig.wait(500)
            assert rig.charger.now == {LIMIT: 10, ENABLED: 1}, "the wish has run out when it should"

    run(check)


def test_wall_time_that_jumps_neither_ends_nor_lengthens_a_wish() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("off", for_s=600)
            rig.clock.jump_wall(-86400)
            await rig.wait(300)
            rig.clock.jump_wall(10 * 86400)
            await rig.wait(299)
            assert rig.charger.now == {ENABLED: 0}
            await rig.wait(2)
            assert rig.charger.now == {ENABLED: 1}

    run(check)


@pytest.mark.announced_warnings
def test_control_goes_on_when_the_store_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.notebook.failing = True
            stop = await rig.do("off")
            assert stop.outcome is Outcome.DONE, "a local stop is allowed"
            assert rig.charger.now == {ENABLED: 0}
            for result in (await rig.do("on"), await rig.do("off", "hub", Origin.REMOTE)):
                assert result.outcome is Outcome.FAILED
                assert "can't be recorded" in result.reason
            rig.notebook.failing = False
            await rig.wait(61)
            assert (await rig.do("on")).outcome is Outcome.DONE

    run(check)
    assert [record.getMessage()[:30] for record in caplog.records if record.levelname == "WARNING"] == [
        "control goes on from memory, a"
    ]


def test_it_does_not_follow_and_follows_again() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.view.put("cp1.power_w", 7000)
        async with rig.service:
            await rig.do("off")
            for _ in range(29):
                rig.view.put("cp1.power_w", 7000)
                await rig.wait(1)
            assert not rig.told("station.not_following")
            for _ in range(10):
                rig.view.put("cp1.power_w", 7000)
                await rig.wait(1)
            (event,) = rig.told("station.not_following")
            assert event.data == {
                "device": "cp1",
                "outlet": 0,
                "off": True,
                "limit_a": None,
                "power_w": 7000,
                "currents_a": [],
            }
            station = rig.service.station("cp1")
            assert station is not None
            assert station.following is False
            rig.view.put("cp1.power_w", None)
            await rig.wait(5)
            assert not rig.told("station.follows"), "unknown is no good news"
            rig = await rig.restarted().start()
            await rig.wait(2)
            rig.view.put("cp1.power_w", 20)
            await rig.wait(5)
            assert len(rig.told("station.follows")) == 1
            assert not rig.told("station.not_following")
            await rig.service.close()

    run(check)


def test_what_is_demanded_no_longer_ends_the_alarm() -> None:
    async def check() -> None:
        rig = await Rig(limits=SwitchLimits(0, 0)).start()
        async with rig.service:
            await rig.do("off")
            for _ in range(35):
                rig.view.put("cp1.power_w", 7000)
                await rig.wait(1)
            await rig.do("on")
            await rig.wait(1)
            assert [event.kind for event in rig.recorded] == ["station.not_following", "station.follows"]

    run(check)


OFF, TEN = Expectation(off=True, limit_a=None, since_s=100), Expectation(off=False, limit_a=10, since_s=100)


@pytest.mark.parametrize(
    ("expected", "reading", "follows"),
    [
        (OFF, Reading(power=(99, 131)), True),
        (OFF, Reading(power=(100, 131)), False),
        (OFF, Reading(power=(100, 129.9)), None),
        (OFF, Reading(power=(0, 99)), None),
        (OFF, Reading(power=(99, 131), currents=((1, 131),)), True),
        (OFF, Reading(currents=((0.4, 131), (0.4, 131), (0.6, 131))), False),
        (OFF, Reading(currents=((0.4, 131),)), True),
        (OFF, Reading(), None),
        (TEN, Reading(currents=((11, 140), (10, 140), (11, 140))), True),
        (TEN, Reading(currents=((11.1, 140), (0, 140), (0, 140))), False),
        (TEN, Reading(currents=((11, 140), (10, 99))), None),
        (TEN, Reading(power=(2530, 140)), True),
        (TEN, Reading(power=(2531, 140)), None),
        (TEN, Reading(power=(7591, 140)), False),
        (Expectation(off=False, limit_a=100, since_s=100), Reading(currents=((105, 140),)), True),
        (Expectation(off=False, limit_a=100, since_s=100), Reading(currents=((105.1, 140),)), False),
        (Expectation(off=False, limit_a=None, since_s=100), Reading(power=(9999, 140)), None),
    ],
)
def test_judging(expected: Expectation, reading: Reading, follows: bool | None) -> None:  # noqa: FBT001 - a table
    assert judge(expected, reading, 141) is follows
    assert judge(expected, reading, 1000) is None, "what is old says nothing"


def test_outlets_of_one_charger_are_told_apart() -> None:
    async def check() -> None:
        rig = Rig()
        device = FakeDevice(f"{LIMIT}.1", f"{ENABLED}.1", f"{LIMIT}.2", f"{ENABLED}.2")
        from agent.control.station import Target  # noqa: PLC0415

        targets = [Target("cp1", "cp1", 1, "", device), Target("cp1.2", "cp1", 2, "", device)]
        await rig.service.apply(targets, [], "UTC")
        async with rig.service:
            rig.view.put("cp1.power_w.2", 5000)
            rig.view.put("cp1.power_w.1", 0)
            rig.view.put("cp1.power_w", 5000)
            await rig.do("off")
            assert device.log == [(f"{ENABLED}.1", 0)]
            rig.view.put("cp1.power_w.1", 0)
            await rig.wait(1)
            assert [one.following for one in rig.service.stations()] == [True, None]
            assert [one.id for one in rig.service.stations()] == ["cp1", "cp1.2"]

    run(check)


def test_a_station_that_is_configured_again_has_its_wishes_and_decisions() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("off")
            await rig.service.apply([], [], "UTC")
            assert rig.service.stations() == []
            assert (await rig.do("on")).refusal is Refusal.NOT_CAPABLE
            rig.charger.log = []
            await rig.start()
            await rig.wait(1)
            assert rig.charger.log == [(ENABLED, 0)]
            assert len(rig.service.why("cp1")) == 1
            other = FakeDevice()
            rig.charger = other
            await rig.start()
            await rig.wait(1)
            assert other.log == [(ENABLED, 0)], "a driver made anew is told what stands"
            await rig.start()
            await rig.wait(1)
            assert len(other.log) == 1, "what is unchanged is not touched"

    run(check)


@pytest.mark.announced_warnings
def test_notes_that_can_not_be_read_are_left_out() -> None:
    async def check() -> None:
        rig = Rig()
        await rig.notebook.write("wish", "cp1", {"wishes": [{"key": "x"}, 5]})
        await rig.notebook.write("station", "cp1", {"on": True, "switched_us": 7, "written": {}})
        await rig.notebook.write("decision", "cp1/1", {"number": "one"})
        await rig.notebook.write("command", "x", {"target": "cp1"})
        rig = await rig.restarted().start()
        async with rig.service:
            await rig.wait(2)
            assert rig.service.why("cp1") == []
            assert (await rig.do("off")).outcome is Outcome.DONE

    run(check)


async def two_outlets() -> Rig:
    """A charger ``cp1`` with the outlets ``cp1.1`` and ``cp1.2``."""
    points = [f"{name}{outlet}" for name in (LIMIT, ENABLED) for outlet in ("", ".1", ".2")]
    rig = Rig(device=FakeDevice(*points))
    await apply_outlets(rig)
    return rig


async def apply_outlets(rig: Rig) -> None:
    places = [("cp1", 0), ("cp1.1", 1), ("cp1.2", 2)]
    targets = [Target(name, "cp1", outlet, "", rig.charger, rig.charger) for name, outlet in places]
    await rig.service.apply(targets, (), "UTC")


async def tell(rig: Rig, station: str, action: str, issuer: str = "user:ana", **args: object) -> Result:
    command = replace(rig.command(action, issuer), target=station, args=args)
    result = await rig.service.execute(command)
    await settle()
    return result


def test_off_as_a_whole_is_off_at_each_outlet_and_both_say_why() -> None:
    async def check() -> None:
        rig = await two_outlets()
        async with rig.service:
            await tell(rig, "cp1", "off", "user:luis", reason="building work")
            for outlet in ("cp1.1", "cp1.2"):
                station = rig.service.station(outlet)
                assert station is not None
                assert station.on is False
                assert (
                    rig.service.why(outlet)[0].reason == "off by user luis since 12:00 (cp1 as a whole: building work)"
                )
            assert rig.charger.log == [(ENABLED, 0)], "the device does it; no outlet is told anything"
            result = await tell(rig, "cp1.1", "on")
            assert (result.outcome, result.data["on"], result.data["in_force"]) == (Outcome.DONE, False, False)
            assert result.reason.startswith("it stands, but: off by user luis since 12:00 (cp1 as a whole")
            assert result.reason.endswith("; user ana wanted on")
            await rig.wait(61)
            await tell(rig, "cp1", "release", "user:luis")
            newest = rig.service.why("cp1.1")[0]
            assert (newest.on, newest.reason) == (True, "on by user ana since 12:00")
            assert rig.service.why("cp1.2")[0].on is None
            assert rig.charger.now == {ENABLED: 1, f"{ENABLED}.1": 1}

    run(check)


def test_an_outlet_can_be_off_while_the_whole_is_on_and_draws_no_more_than_all_together() -> None:
    async def check() -> None:
        rig = await two_outlets()
        async with rig.service:
            await tell(rig, "cp1.1", "off")
            await tell(rig, "cp1", "on", "user:luis")
            await tell(rig, "cp1", "limit", "user:luis", limit_a=10)
            one, other = rig.service.station("cp1.1"), rig.service.station("cp1.2")
            assert one is not None
            assert other is not None
            assert (one.on, other.on) == (False, True)
            assert (one.limit_a, other.limit_a) == (10, 10)
            result = await tell(rig, "cp1.2", "limit", limit_a=20)
            assert result.data == {"on": True, "limit_a": 10, "in_force": False}
            assert "at most 10 A by user luis since 12:00 (cp1 as a whole)" in result.reason
            assert "user ana wanted 20 A" in result.reason
            assert rig.charger.now[f"{LIMIT}.2"] == 20, "the device gets what is wanted of each"
            result = await tell(rig, "cp1.2", "limit", limit_a=8)
            assert result.data == {"on": True, "limit_a": 8, "in_force": True}

    run(check)


def test_whether_an_outlet_follows_counts_what_is_decided_about_the_whole() -> None:
    async def check() -> None:
        rig = await two_outlets()
        async with rig.service:
            rig.view.put("cp1.power_w.1", 5000)
            rig.view.put("cp1.power_w.2", 5000)
            await tell(rig, "cp1", "off")
            await rig.wait(40)
            rig.view.put("cp1.power_w.1", 0)
            rig.view.put("cp1.power_w.2", 5000)
            await rig.wait(2)
            assert [event.subject for event in rig.told("station.not_following")] == ["cp1", "cp1.2"]
            one = rig.service.station("cp1.1")
            assert one is not None
            assert one.following is True

    run(check)


def test_a_restart_decides_nothing_about_outlets_anew() -> None:
    async def check() -> None:
        rig = await two_outlets()
        async with rig.service:
            await tell(rig, "cp1", "off", "user:luis")
            before = rig.service.why("cp1.1")
        again = rig.restarted()
        await apply_outlets(again)
        async with again.service:
            await again.wait(5)
            assert again.service.why("cp1.1") == before
            assert len(before) == 1

    run(check)


def test_a_charger_is_switched_as_a_whole_when_it_tells_of_its_outlets_only() -> None:
    async def check() -> None:
        rig = await two_outlets()
        async with rig.service:
            rig.view.put("cp1.charger_status", None)  # it was told in former times, and is not any more
            rig.view.put("cp1.power_w.1", None)
            waiting = await tell(rig, "cp1", "off")
            assert waiting.outcome is Outcome.FAILED
            assert "its present state is not known yet" in waiting.reason
            rig.view.put("cp1.power_w.1", 4000)
            rig.view.put("cp1.power_w.2", 50)
            await rig.wait(2)
            assert rig.charger.log == [(ENABLED, 0)]
            for second in range(40):
                rig.view.put("cp1.power_w.1", 4000 if second < 38 else 0)
                rig.view.put("cp1.power_w.2", 50)
                await rig.wait(1)
            assert [event.kind for event in rig.recorded if event.subject == "cp1"] == [
                "station.not_following",
                "station.follows",
            ]
            assert rig.service.why("cp1.1")[0].result == "done by cp1: see there"

    run(check)
