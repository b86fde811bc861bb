"""Schedules for several chargers: all of them by ``station: "*"``, or some by their names."""

import asyncio

import pytest

from agent.control.commands import MAX_ID
from agent.control.model import Command, Outcome, Result
from agent.control.schedule import AT_ONCE, Act, ScheduleSpec, _short
from agent.control.station import Target
from agent.control.switching import SwitchLimits
from tests.control_fakes import ENABLED, LIMIT, FakeDevice, Rig, run, settle

TOGGLE = (Act("*", set="toggle"),)


class Site(Rig):
    """Several chargers; ``cp2`` has two outlets."""

    async def start(self) -> "Site":
        self.chargers = {name: FakeDevice() for name in ("cp1", "cp2", "cp3")}
        self.chargers["cp2"] = FakeDevice(ENABLED, LIMIT, *(f"{one}.{n}" for one in (ENABLED, LIMIT) for n in (1, 2)))
        await self.apply(*self.chargers)
        return self

    async def apply(self, *names: str) -> None:
        # Contactors that may be switched each minute: `stations:` says so where they may.
        limits = SwitchLimits(0, 0, 200, 200)
        targets = [Target(name, name, 0, name, self.chargers[name], self.chargers[name], limits) for name in names]
        if "cp2" in names:
            device = self.chargers["cp2"]
            targets += [Target(f"cp2.{number}", "cp2", number, "", device, device, limits) for number in (1, 2)]
        await self.service.apply(targets, self.schedules, self.zone)

    def on(self) -> list[object]:
        """What each charger as a whole has."""
        return [one.now.get(ENABLED) for one in self.chargers.values()]


def test_every_minute_all_are_toggled() -> None:
    async def check() -> None:
        site = await Site(schedules=[ScheduleSpec("pulse", every_s=60, acts=TOGGLE)]).start()
        async with site.service:
            await site.wait(2)
            for expected in (0, 1, 0):
                await site.wait(60)
                assert site.on() == [expected] * 3
            names = [str(one.data["id"]).split()[3] for one in site.told("command.result")]
            assert sorted(names[:3]) == ["cp1", "cp2", "cp3"], "the charger as a whole, not each outlet too"
            assert {one.subject for one in site.told("command.result")} == {"cp1", "cp2", "cp3"}
            assert all(one.data["outcome"] == "done" for one in site.told("command.result"))

    run(check)


def test_one_that_is_away_keeps_nobody_waiting() -> None:
    async def check() -> None:
        site = await Site(
            schedules=[ScheduleSpec("stop", cron="0 22 * * *", acts=(Act("*", set="off", limit_a=10),))]
        ).start()
        async with site.service:
            await site.wait(1)
            site.chargers["cp1"].gate = asyncio.Event()
            asked = asyncio.ensure_future(site.service.run_now("stop"))
            await settle()
            assert site.on()[1:] == [0, 0]
            assert not asked.done()
            await site.wait(130)
            results = await asked
            assert results is not None
            assert [one.outcome for one in results] == [
                *[Outcome.FAILED] * 2,
                *[Outcome.DONE] * 4,
            ]

    run(check)


def test_it_is_taken_back_from_all_when_the_schedule_is_gone_and_from_none_while_it_stands() -> None:
    async def check() -> None:
        spec = ScheduleSpec("stop", cron="0 22 * * *", acts=(Act("*", set="off"),))
        site = await Site(schedules=[spec]).start()
        async with site.service:
            await site.wait(1)
            await site.service.run_now("stop")
            assert site.on() == [0, 0, 0]
            await site.apply("cp1", "cp2", "cp3")
            await site.wait(61)
            assert site.on() == [0, 0, 0]
            site.schedules = [ScheduleSpec("stop", cron="0 22 * * *", acts=(Act("cp1", set="off"),))]
            await site.apply("cp1", "cp2", "cp3")
            await site.wait(61)
            assert site.on() == [0, 1, 1]

    run(check)


def test_one_that_is_named_and_away_keeps_nobody_waiting() -> None:
    """What came of it stands in the order of the acts, not in that in which they ended."""

    async def check() -> None:
        acts = (Act("cp1", limit_a=7), Act("cp2", limit_a=8), Act("cp1", set="off"), Act("cp3", set="off"))
        site = await Site(schedules=[ScheduleSpec("evening", cron="0 22 * * *", acts=acts)]).start()
        async with site.service:
            await site.wait(1)
            site.chargers["cp1"].gate = asyncio.Event()
            asked = asyncio.ensure_future(site.service.run_now("evening"))
            await settle()
            assert site.chargers["cp2"].now == {LIMIT: 8}
            assert site.chargers["cp3"].now == {ENABLED: 0}
            assert not asked.done()
            await site.wait(130)
            results = await asked
            assert results is not None
            assert [one.outcome for one in results] == [Outcome.FAILED, Outcome.DONE, Outcome.FAILED, Outcome.DONE]
            assert [one.id.split()[-2:] for one in results] == [
                ["0", "limit"], ["1", "limit"], ["2", "off"], ["3", "off"],
            ]  # fmt: skip

    run(check)


def test_one_charger_is_told_in_the_order_of_the_acts() -> None:
    """Its outlets and ``*`` among them."""

    async def check() -> None:
        acts = (Act("cp2", do="reset"), Act("cp2.1", do="start"), Act("*", do="reset"))
        site = await Site(schedules=[ScheduleSpec("order", cron="0 22 * * *", acts=acts)]).start()
        async with site.service:
            gate = site.chargers["cp2"].gate = asyncio.Event()
            asked = asyncio.ensure_future(site.service.run_now("order"))
            await settle()
            assert sorted(name.split(" ", 4)[4] for name in site.notebook.notes("command")) == [
                "0 reset", "2 cp1 reset", "2 cp3 reset",
            ]  # fmt: skip
            gate.set()
            results = await asked
            assert results is not None
            assert site.chargers["cp2"].acted == [("reset", {}), ("start", {"outlet": 1}), ("reset", {})]
            assert [one.id.split(" ", 4)[4] for one in results] == [
                "0 reset", "1 start", "2 cp1 reset", "2 cp2 reset", "2 cp3 reset",
            ]  # fmt: skip

    run(check)


def test_a_bug_at_one_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        acts = (Act("cp1", set="off"), Act("cp2", set="off"))
        site = await Site(schedules=[ScheduleSpec("stop", cron="0 22 * * *", acts=acts)]).start()
        async with site.service:
            scheduler = site.service._scheduler
            execute = scheduler._execute

            async def flawed(command: Command) -> Result:
                assert command.target != "cp1", "a bug"
                return await execute(command)

            monkeypatch.setattr(scheduler, "_execute", flawed)
            gate = site.chargers["cp2"].gate = asyncio.Event()
            asked = asyncio.ensure_future(site.service.run_now("stop"))
            await settle()
            assert not asked.done(), "the other is waited for"
            gate.set()
            with pytest.raises(AssertionError, match="a bug"):
                await asked
            assert site.chargers["cp2"].now == {ENABLED: 0}

    run(check)


@pytest.mark.parametrize("named", [False, True])
def test_so_many_are_told_at_the_same_time(*, named: bool) -> None:
    async def check() -> None:
        more = [f"x{number}" for number in range(2 * AT_ONCE)]
        acts = [Act(name, do="reset") for name in (["cp1", "cp2", "cp3", *more] if named else ["*"])]
        site = Site(schedules=[ScheduleSpec("all", cron="0 22 * * *", acts=tuple(acts))])
        await site.start()
        site.chargers |= {name: FakeDevice() for name in more}
        gate = asyncio.Event()
        for one in site.chargers.values():
            one.gate = gate
        await site.apply(*site.chargers)
        async with site.service:
            asked = asyncio.ensure_future(site.service.run_now("all"))
            await settle()
            assert len(site.notebook.notes("command")) == AT_ONCE
            gate.set()
            results = await asked
            assert results is not None
            assert [one.outcome for one in results] == [Outcome.DONE] * (3 + 2 * AT_ONCE)
            assert all(one.acted == [("reset", {})] for one in site.chargers.values())

    run(check)


@pytest.mark.parametrize("length", [1, MAX_ID - 1, MAX_ID, MAX_ID + 1, 1000])
def test_a_long_name_is_no_reason_not_to_do_it(length: int) -> None:
    short, other = _short("x" * length), _short("x" * (length - 1) + "y")
    assert len(short) == min(length, MAX_ID)
    assert short != other
    assert short == _short("x" * length)


def test_a_schedule_with_the_longest_name_is_done() -> None:
    async def check() -> None:
        spec = ScheduleSpec("n" * 64, cron="0 22 * * *", acts=(Act("*", set="off"), Act("cp1", do="reset")))
        site = await Site(schedules=[spec]).start()
        async with site.service:
            await site.wait(1)
            results = await site.service.run_now(spec.id)
            assert results is not None
            assert [one.outcome for one in results] == [Outcome.DONE] * 4

    run(check)
