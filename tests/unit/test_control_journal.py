"""The journal of a station: what a decision was made of, what came of it, and no flood."""

import asyncio
from collections.abc import Mapping

from agent.control.model import Origin, Wish
from agent.control.station import Target
from agent.core.errors import NoAnswer
from agent.core.model import Number
from tests.control_fakes import ENABLED, LIMIT, FakeDevice, Rig, run, settle


def safety(*, on: bool | None, inputs: Mapping[str, Number | None], reason: str, limit_a: Number | None = None) -> Wish:
    return Wish("cp1", "", Origin.SAFETY, on, limit_a, reason, inputs=inputs)


def load(limit_a: Number) -> Wish:
    return Wish(
        "cp1", "", Origin.GRID, None, limit_a, "grid at 61 A of 63 A", inputs={"grid.current_l1_a": limit_a + 50}
    )


def notes_of(rig: Rig) -> list[Mapping[str, object]]:
    found = rig.notebook.notes("decision").values()
    return sorted(found, key=lambda one: int(str(one["number"])))


def test_an_alarm_says_which_values_it_saw_also_after_a_restart() -> None:
    async def check() -> None:
        rig = await Rig(zone="Europe/Berlin").start()
        await rig.wait(1)
        await rig.do("on", "schedule:night", Origin.SCHEDULE)
        inputs = {"battery1.temperature_max_degc": 52.3, "battery1.current_a": None}
        reason = "battery1.temperature_max_degc is 52.3 °C (> 50)"
        rig.service._stations.derive("alarm:battery_hot", [safety(on=False, inputs=inputs, reason=reason)])
        await settle()
        newest = rig.service.why("cp1")[0]
        assert newest.reason == (
            "off by alarm battery_hot since 13:00 (battery1.temperature_max_degc is 52.3 °C (> 50)); "
            "schedule night wanted on"
        ), "in the time of the site"
        assert newest.inputs == inputs
        await rig.service.close()
        rig = await rig.restarted().start()
        async with rig.service:
            again = rig.service.why("cp1")[0]
            assert (again.inputs, again.reason, again.winner) == (inputs, newest.reason, newest.winner)
            inputs["battery1.temperature_max_degc"] = 53
            rig.service._stations.derive("alarm:battery_hot", [safety(on=False, inputs=inputs, reason="53")])
            await rig.wait(2)
            assert len(rig.service.why("cp1")) == 2, "a restart decides nothing anew"
            assert rig.service.why("cp1")[0].inputs == inputs, "as it is explained now"

    run(check)


def test_one_who_switches_and_limits_is_named_once() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.service._stations.derive("alarm:x", [safety(on=True, limit_a=8, inputs={}, reason="cold")])
            await rig.wait(1)
            assert rig.service.why("cp1")[0].reason == "on and at most 8 A by alarm x since 12:00 (cold)"

    run(check)


def test_whether_the_power_followed_is_told_both_ways_and_kept() -> None:
    async def check() -> None:
        rig = await Rig().start()
        await rig.wait(1)
        rig.view.put("cp1.power_w", 7000)
        await rig.do("off")
        assert rig.service.why("cp1")[0].outcome == "done"
        told = len(rig.told("station.decided"))
        for _ in range(32):
            rig.view.put("cp1.power_w", 7000)
            await rig.wait(1)
        assert rig.service.why("cp1")[0].outcome == "done; but it does not follow: it draws 7000 W"
        assert notes_of(rig)[-1]["follows"] is False
        rig.view.put("cp1.power_w", 3)
        await rig.wait(1)
        assert rig.service.why("cp1")[0].outcome == "done; it follows: it draws 3 W"
        assert len(rig.told("station.decided")) == told, "its events are those of following"
        await rig.service.close()
        rig = await rig.restarted().start()
        async with rig.service:
            assert rig.service.why("cp1")[0].outcome == "done; it follows: it draws 3 W"

    run(check)


def test_one_that_ignores_a_limit_which_changes_all_the_time_does_not_follow() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            for second in range(40):
                rig.service._stations.derive("load", [load(10 + second % 5)])
                rig.view.put("cp1.current_l1_a", 14)
                await rig.wait(1)
            assert not rig.told("station.not_following"), "no more than the highest of late"
            for second in range(40, 75):
                rig.service._stations.derive("load", [load(10 + second % 5)])
                rig.view.put("cp1.current_l1_a", 16.5)
                await rig.wait(1)
            await rig.wait(1)
            (event,) = rig.told("station.not_following")
            assert event.data["currents_a"] == [16.5]
            newest = rig.service.why("cp1")[0]
            assert newest.outcome == "done; but it does not follow: it draws 16.5 A"
            rig.view.put("cp1.current_l1_a", 9)
            await rig.wait(1)
            assert len(rig.told("station.follows")) == 1

    run(check)


def test_load_management_fills_neither_the_ring_nor_the_ledger() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.view.put("cp1.power_w", 0)
        await rig.wait(1)
        await rig.do("on")
        writes, events = rig.notebook.writes, len(rig.told("station.decided"))
        for second in range(3600):
            if second % 3 == 0:
                rig.service._stations.derive("load", [load(6 + second % 20)])
            await rig.wait(1)
            assert rig.charger.now[LIMIT] == 6 + (second - second % 3) % 20
        newest, first = rig.service.why("cp1")
        assert (newest.on, newest.limit_a, first.limit_a) == (True, 6 + 3597 % 20, None)
        assert newest.inputs == {"grid.current_l1_a": 56 + 3597 % 20}
        assert newest.t_us > rig.clock.now_us() - 5_000_000
        assert 55 <= len(rig.told("station.decided")) - events <= 62
        assert rig.notebook.writes - writes <= 64
        await rig.wait(60)
        assert notes_of(rig)[-1]["limit_a"] == newest.limit_a, "the last state is not lost for long"
        rig.service._stations.derive("load", [load(31)])
        await settle()
        await rig.do("off")
        assert [one["limit_a"] for one in notes_of(rig)] == [None, 31, 31]
        assert [one["on"] for one in notes_of(rig)] == [True, True, False], "off is told at once, what waited before it"
        rig.service._stations.derive("load", [load(30)])
        await rig.wait(1)
        rig.service._stations.derive("load", [load(29)])
        await settle()
        await rig.service.close()
        assert notes_of(rig)[-1]["limit_a"] == 29, "nor at the end"

    run(check)


def test_who_limits_in_turns_does_not_fill_it_either() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.wait(1)
            await rig.do("limit", limit_a=16)
            for second in range(600):
                rig.service._stations.derive("load", [load(15 + second % 3)] if second % 5 else [])
                await rig.wait(1)
            decisions = rig.service.why("cp1", 50)
            assert 5 <= len(decisions) <= 13
            assert decisions[0].limit_a == min(16, 15 + 599 % 3)
            await rig.do("limit", limit_a=12)
            await rig.do("limit", limit_a=11)
            assert [one.limit_a for one in rig.service.why("cp1", 2)] == [11, 12], "each word of a person counts"

    run(check)


def test_what_the_device_made_of_a_value_is_told() -> None:
    async def check() -> None:
        rig = await Rig().start()

        async def rounds(point: str, value: Number) -> Number:
            return 13 if point == LIMIT else value

        rig.charger.set = rounds  # type: ignore[method-assign]
        async with rig.service:
            await rig.do("limit", limit_a=14)
            assert rig.service.why("cp1")[0].result == "done; the device made 13 of 14 for current_limit_a"
            await rig.do("limit", limit_a=13)
            assert rig.service.why("cp1")[0].result == "done"

    run(check)


def test_a_decision_keeps_the_strongest_of_very_many_wishes() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.wait(1)
            for count in range(300):
                rig.service._stations.derive(f"rule:{count}", [Wish("cp1", "", Origin.RULE, on=True)])
            rig.service._stations.derive("alarm:hot", [safety(on=False, inputs={}, reason="hot")])
            await settle()
            assert rig.charger.now == {ENABLED: 0}
            wishes = notes_of(rig)[-1]["wishes"]
            assert isinstance(wishes, list)
            assert len(wishes) == 16
            assert wishes[-1]["key"] == "alarm:hot"
            assert rig.service.why("cp1")[0].reason.endswith("; and 297 more")

    run(check)


def test_a_wish_withdrawn_while_nothing_ran_is_taken_back_and_told() -> None:
    async def check() -> None:
        rig = await Rig().start()
        await rig.wait(1)
        rig.service._stations.derive("alarm:hot", [safety(on=False, inputs={}, reason="hot")])
        await settle()
        await rig.service.close()
        rig.clock.advance(100)
        rig = await rig.restarted().start()
        async with rig.service:
            await rig.wait(2)
            newest = rig.service.why("cp1")[0]
            assert newest.reason == "nobody wants anything of it any more: what was set is taken back"
            assert (newest.on, newest.result, rig.charger.now) == (None, "done", {ENABLED: 1})

    run(check)


def test_a_device_that_is_away_while_limits_change_is_told_of_once() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.wait(1)
            rig.service._stations.derive("load", [load(16)])
            await rig.wait(1)
            rig.charger.fails = NoAnswer("set", "no answer")
            events = len(rig.told("station.decided"))
            for count in range(50):
                rig.service._stations.derive("load", [load(6 + count % 9)])
                await rig.wait(1)
            assert len(rig.told("station.decided")) - events <= 3
            assert rig.service.why("cp1")[0].result.endswith("no answer")
            rig.charger.fails = None
            rig.service._stations.derive("load", [load(9)])
            await rig.wait(1)
            assert notes_of(rig)[-1]["result"] == "done"

    run(check)


def test_outlets_are_told_apart_in_the_dark() -> None:
    """Closing hands what waits of all stations to the store."""

    async def check() -> None:
        rig = Rig()
        devices = [FakeDevice(), FakeDevice()]
        targets = [Target(name, name, 0, "", device) for name, device in zip(["cp1", "cp2"], devices, strict=True)]
        await rig.service.apply(targets, (), "UTC")
        await rig.wait(1)
        for limit_a in (9, 10, 11):
            wishes = [Wish("*", "", Origin.GRID, None, limit_a)]
            rig.service._stations.derive("load", wishes)
            await rig.wait(1)
        await asyncio.gather(rig.service.close())
        assert sorted((str(one["station"]), one["limit_a"]) for one in notes_of(rig)) == [
            ("cp1", 9),
            ("cp1", 11),
            ("cp2", 9),
            ("cp2", 11),
        ]

    run(check)


def test_of_two_of_one_name_the_one_who_won_is_told_after_a_restart() -> None:
    async def check() -> None:
        rig = await Rig().start()
        await rig.do("off", "user:ana", Origin.MANUAL)
        await rig.do("on", "user:ana", Origin.RULE)
        await rig.do("limit", "user:bob", Origin.MANUAL, limit_a=9)
        before = rig.service.why("cp1")
        winner = before[0].winner
        assert winner is not None
        assert winner.origin is Origin.MANUAL
        await rig.service.close()
        rig = await rig.restarted().start()
        async with rig.service:
            assert rig.service.why("cp1") == before
            await rig.wait(2)
            assert rig.service.why("cp1")[1:] == before[1:], "and it is not decided anew"

    run(check)
