"""The life of an alarm with a kill -9 before and after each write to disk and each order: what a restart finds."""

import asyncio
from collections.abc import Awaitable, Callable

from agent.control.alarm_model import AlarmState, RuleAct
from tests.alarm_fakes import OFF, Rig, hot
from tests.control_fakes import Killer, run, settle

ANA = "user:ana"
SPEC = hot(latch=True, acts=(OFF, RuleAct("cp1", do="stop")))
LIVED = {"alarm.raised", "alarm.cleared", "alarm.acknowledged"}


class Life:
    """A gateway that lives through the script; ``promised``: what people were told is done."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.promised: list[str] = []

    async def script(self) -> None:
        rig = self.rig
        await rig.heat(60)
        await self.person("acknowledged", rig.book.acknowledge("hot", ANA))
        await rig.wait(5)
        await self.person("shelved", rig.book.shelve("hot", 600, ANA))
        await rig.heat(40)
        await rig.wait(5)
        await rig.heat(60)
        await self.person("unshelved", rig.book.unshelve("hot", ANA))
        await rig.heat(40)
        await rig.wait(5)
        await self.person("acknowledged again", rig.book.acknowledge("hot", ANA))

    async def person(self, word: str, act: Awaitable[object]) -> None:
        await act
        self.promised.append(word)


async def killed_at(step: int | None, script: Callable[[Life], Awaitable[None]] = Life.script) -> Life:
    """Live until the kill; what was being done then is never done."""
    life = Life(Rig([SPEC], killer=Killer(step)).start())
    task = asyncio.ensure_future(script(life))
    while not (task.done() or life.rig.killer.dead):  # noqa: ASYNC110 - a test may wait so
        await asyncio.sleep(0)
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await life.rig.book.close()
    return life


def note_of(rig: Rig) -> dict[str, object]:
    return dict(rig.notebook.note("alarm", "hot") or {})


async def steps() -> int:
    return (await killed_at(None)).rig.killer.steps


def test_the_ledger_and_the_note_say_the_same_whenever_it_is_killed() -> None:
    async def check() -> None:
        assert await steps() >= 20
        for step in range(await steps()):
            rig = (await killed_at(step)).rig
            told = [event.kind for event in rig.notebook.events if event.kind in LIVED]
            note = note_of(rig)
            assert bool(told) == bool(note)
            if told:
                lives = [kind for kind in told if kind != "alarm.acknowledged"]
                assert note["active"] == (lives[-1] == "alarm.raised")
                assert note["acknowledged"] == (told[-1] == "alarm.acknowledged" or "alarm.acknowledged" in told[-2:-1])
                assert note["raised_count"] == told.count("alarm.raised")

    run(check)


def test_what_people_were_told_is_so_after_a_restart() -> None:
    async def check() -> None:
        for step in range(await steps()):
            life = await killed_at(step)
            after = life.rig.restarted().start()
            note, status = note_of(life.rig), after.status()
            if life.promised == ["acknowledged"] and note["raised_count"] == 1:
                assert note["acknowledged"] is True
            if life.promised == ["acknowledged", "shelved"]:
                assert (status.state is AlarmState.SHELVED) != any(
                    event.kind == "alarm.unshelved" for event in life.rig.notebook.events
                )
            if "unshelved" in life.promised:
                assert status.shelved_until_us is None
            if "acknowledged again" in life.promised:
                assert status.state is AlarmState.NORMAL
            await after.book.close()

    run(check)


def test_it_acts_again_at_once_and_until_it_is_judged_otherwise() -> None:
    async def check() -> None:
        acting = 0
        for step in range(await steps()):
            life = await killed_at(step)
            note = note_of(life.rig)
            after = life.rig.restarted().start()
            acts = bool(note) and (note["active"] or not note["acknowledged"])
            assert after.stations.off == ({"alarm:hot"} if acts else set()), "before the first tick"
            acting += bool(acts)
            assert after.status().raised_count == note.get("raised_count", 0)
            await after.heat(60)
            assert after.status().active, "it goes on, or is raised now"
            assert after.status().raised_count - int(str(note.get("raised_count", 0))) == (not note.get("active"))
            await after.wait(601, 1)
            assert after.status().shelved_until_us is None, "shelving ends in time"
            await after.book.acknowledge("hot", ANA)
            await after.heat(40)
            assert not after.stations.wishes
            assert after.status().state is AlarmState.NORMAL
            await after.book.close()
        assert acting > 10

    run(check)


def test_each_raising_that_is_on_the_ledger_is_ordered_once() -> None:
    async def check() -> None:
        async def only_raised(life: Life) -> None:
            await life.rig.heat(60)

        lasts = (await killed_at(None, only_raised)).rig.killer.steps
        assert lasts >= 4
        for step in range(lasts):
            rig = (await killed_at(step, only_raised)).rig
            after = rig.restarted().start()
            await after.heat(60)
            await after.wait(3)
            raised = [event for event in after.notebook.events if event.kind == "alarm.raised"]
            ordered = [command.id for command in (*rig.commands, *after.commands)]
            assert len(ordered) == len(set(ordered)) == 1
            assert len(raised) + len([one for one in rig.notebook.events if one.kind == "alarm.raised"]) == 1
            await after.book.close()

    run(check)


def test_killed_again_and_again_it_is_still_active() -> None:
    async def check() -> None:
        rig = (await killed_at(None, lambda life: life.rig.heat(60))).rig
        for step in (0, 1, 2, 0, 1):
            await rig.book.close()
            rig = rig.restarted(Killer(step)).start()
            assert rig.stations.off == {"alarm:hot"}
            rig.put(60)
            await settle()
            rig.clock.advance(30)
        assert rig.status().state is AlarmState.UNACKNOWLEDGED
        assert rig.status().raised_count == 1
        await rig.book.close()

    run(check)
