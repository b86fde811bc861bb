"""A charger that reports often does not fall behind: its reports wait for the group commit only now and then."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import pytest

from agent.core.model import Event, Session
from drivers.codec.ocpp_model import Version
from drivers.ocpp.transactions import FLUSH_S, PACE_S, PATIENCE
from tests.ocpp_fakes import MemorySessions, Rig, Site


class GroupedSessions(MemorySessions):
    """What may wait for the group commit waits for ``commit``."""

    def __init__(self) -> None:
        super().__init__()
        self.commit = asyncio.Event()
        self.grouped = 0

    async def change(self, session: Session, events: Sequence[Event] = (), *, at_once: bool = True) -> None:
        if not at_once:
            self.grouped += 1
            await self.commit.wait()
        await super().change(session, events, at_once=at_once)


def play(scene: Callable[[Rig, GroupedSessions], Coroutine[object, object, None]], version: Version) -> None:
    async def run() -> None:
        site = Site()
        site.sessions = sessions = GroupedSessions()
        async with Rig(site, version) as rig:
            await scene(rig, sessions)
            sessions.commit.set()

    asyncio.run(run())


@pytest.mark.parametrize("version", [Version.V16, Version.V201])
def test_reports_that_come_quickly_are_answered_at_once(version: Version) -> None:
    async def scene(rig: Rig, sessions: GroupedSessions) -> None:
        number = await rig.start16() if version is Version.V16 else 0
        if version is not Version.V16:
            await rig.event201("Started", 0, 1000)

        async def report(turn: int) -> None:
            if version is Version.V16:
                await rig.meter16(1000 + turn, number)
            else:
                await rig.event201("Updated", turn, 1000 + turn)

        for turn in range(PATIENCE):
            one = asyncio.create_task(report(1 + turn))
            await rig.settle()
            assert not one.done(), "it waits for the group commit"
            sessions.commit.set()
            await one
            sessions.commit.clear()
        for turn in range(3, 7):
            rig.clock.advance(1)
            await asyncio.wait_for(report(turn), 60)
        assert sessions.grouped == PATIENCE
        rig.clock.advance(PATIENCE * PACE_S)
        last = asyncio.create_task(report(7))
        await rig.settle()
        assert not last.done(), "it has time again"
        sessions.commit.set()
        await last

    play(scene, version)


def test_the_reports_of_both_outlets_of_a_charger_wait_for_the_group_commit() -> None:
    """Each that did not wait cost a commit of its own: 150 MB a day with one charger of two outlets."""

    async def scene(rig: Rig, sessions: GroupedSessions) -> None:
        sessions.commit.set()
        outlets = [
            {"evse": {"id": outlet, "connectorId": 1}, "transactionInfo": {"transactionId": f"T{outlet}"}}
            for outlet in (1, 2)
        ]
        for outlet in outlets:
            await rig.event201("Started", 0, 1000, **outlet)
        at_once = sessions.writes
        for turn in range(1, 7):
            rig.clock.advance(10)
            for outlet in outlets:
                await rig.event201("Updated", turn, 1000 + turn, **outlet)
        assert (sessions.grouped, sessions.writes - at_once) == (12, 12)

    play(scene, Version.V201)


def test_registers_that_came_in_between_are_stored_now_and_then_and_with_the_end() -> None:
    async def scene(rig: Rig, sessions: GroupedSessions) -> None:
        sessions.commit.set()
        number = await rig.start16()
        await rig.meter16(1001, number)
        before = sessions.writes
        for turn in range(int(2 * FLUSH_S)):
            await rig.advance(1)
            await rig.meter16(1002 + turn, number)
        waited = 2 * FLUSH_S / PACE_S
        assert sessions.writes - before <= 2 * FLUSH_S / FLUSH_S + waited + PATIENCE
        await rig.stop16(number, 2000)
        assert sessions.rows[number].energy_wh == 1000

    play(scene, Version.V16)
