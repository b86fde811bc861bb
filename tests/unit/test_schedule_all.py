"""Schedules for all chargers at once: ``station: "*"``."""

import asyncio

import pytest

from agent.control.commands import MAX_ID
from agent.control.model import Outcome
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


def test_so_many_are_told_at_the_same_time() -> None:
    async def check() -> None:
        site = Site(schedules=[ScheduleSpec("all", cron="0 22 * * *", acts=(Act("*", do="reset"),))])
        await site.start()
        site.chargers |= {f"x{number}": FakeDevice() for number in range(2 * AT_ONCE)}
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
