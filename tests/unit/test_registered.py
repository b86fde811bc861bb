"""Stations without a wire: registered, numbered once and for all, switched by the same control as all others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agent.control.model import Command, Origin, Outcome
from agent.control.notes import DECISION, DECISIONS, STATION, WISH
from agent.control.registered import MAX_REGISTERED, NOTE, REGISTRATION, Registered, RegisteredStations
from agent.control.schedule import Act, ScheduleSpec
from agent.control.service import ControlService
from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, StoreError
from tests.control_fakes import NOON_US, FakeNotebook, FakeValues, settle


def run(test: Callable[[RegisteredStations, FakeNotebook], Awaitable[None]]) -> None:
    notebook = FakeNotebook()
    asyncio.run(_run(test, notebook))


async def _run(test: Callable[[RegisteredStations, FakeNotebook], Awaitable[None]], notebook: FakeNotebook) -> None:
    await test(RegisteredStations(FakeClock(NOON_US), notebook), notebook)


def test_numbers_are_never_given_again() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        first, second = await stations.add([Registered(0, "A", "Lot 1", 22_000), Registered(0, "B")], "user:ana")
        assert (first.id, second.id) == ("station-1", "station-2")
        await stations.remove(second, "user:ana")
        again = RegisteredStations(FakeClock(NOON_US), notebook)
        (third,) = await again.add([Registered(0, "C")], "user:ana")
        assert third.number == 3
        assert [one.name for one in again.all()] == ["A", "C"]
        assert again.find("station-1") == first
        assert again.find("station-2") is None
        kinds = [(event.kind, event.subject, event.data["by"]) for event in notebook.events]
        assert kinds[2] == ("station.unregistered", "station-2", "user:ana")

    run(test)


def test_what_the_store_does_not_take_is_not_there() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        notebook.failing = True
        with pytest.raises(StoreError):
            await stations.add([Registered(0, "A")], "user:ana")
        assert stations.all() == []

    run(test)


def test_there_is_an_end() -> None:
    async def test(stations: RegisteredStations, _: FakeNotebook) -> None:
        with pytest.raises(CommandRejected, match=str(MAX_REGISTERED)):
            await stations.add([Registered(0, "A")] * (MAX_REGISTERED + 1), "user:ana")

    run(test)


def test_one_is_switched_as_often_as_somebody_likes_and_can_not_be_limited() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        clock = FakeClock(NOON_US)
        (one,) = await stations.add([Registered(0, "A")], "user:ana")
        values = FakeValues(clock)
        async with ControlService(clock, notebook, lambda _: None, values, values.find) as control:
            await control.apply(stations.targets(), [], "UTC")
            for turn in range(20):
                result = await control.execute(Command(f"c{turn}", one.id, ("off", "on")[turn % 2], issuer="user:ana"))
                assert (result.outcome, result.data["in_force"]) == (Outcome.DONE, True)
            result = await control.execute(Command("limit", one.id, "limit", {"limit_a": 10}))
            assert result.outcome is Outcome.REJECTED

    run(test)


def test_a_changed_one_has_its_new_name() -> None:
    async def test(stations: RegisteredStations, _: FakeNotebook) -> None:
        (one,) = await stations.add([Registered(0, "A", max_w=7400)], "user:ana")
        await stations.change(Registered(one.number, "B", "Lot 2", 11_000, one.created_us), "user:ana")
        assert [(each.name, each.max_w) for each in stations.all()] == [("B", 11_000)]
        assert [target.name for target in stations.targets()] == ["B"]

    run(test)


def test_two_at_once_get_two_numbers() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        names = [chr(ord("A") + place) for place in range(10)]
        await asyncio.gather(*(stations.add([Registered(0, name)], "user:ana") for name in names))
        assert [one.name for one in stations.all()] == names
        assert [one.number for one in stations.all()] == [*range(1, 11)]

    run(test)


def test_chargers_have_numbers_of_the_same_sequence_that_stay() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        await stations.add([Registered(0, "A")], "user:ana")
        await stations.number(["cp1", "cp1.2"])
        await stations.number(["cp1.2", "cp7", "cp1"])
        (last,) = await stations.add([Registered(0, "B")], "user:ana")
        assert stations.numbers() == {"station-1": 1, "cp1": 2, "cp1.2": 3, "cp7": 4, last.id: 5}
        assert [one.name for one in stations.all()] == ["A", "B"]
        assert stations.find("station-2") is None
        assert stations.find("cp1") is None
        assert stations.find("1") is None

    run(test)


def test_what_comes_and_goes_leaves_no_heap_behind() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        for turn in range(20):
            (one,) = await stations.add([Registered(0, "A")], "user:ana")
            assert one.number == turn + 1
            await stations.remove(one, "user:ana")
        assert [*notebook.notes(NOTE)] == ["20"]

    run(test)


def test_control_is_told_of_each_change_and_of_what_was_done_before_a_fault() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        told: list[list[str]] = []

        async def changed() -> None:
            told.append([one.name for one in stations.all()])

        stations.changed = changed
        (one,) = await stations.add([Registered(0, "A")], "user:ana")
        await stations.change(Registered(one.number, "B"), "user:ana")
        await stations.remove(one, "user:ana")
        assert told == [["A"], ["B"], []]
        await stations.change(one, "user:ana")
        assert stations.all() == []  # one that was taken out meanwhile does not come back
        kept = notebook.write

        async def once(kind: str, key: str, data: Any, events: Any = ()) -> None:  # noqa: ANN401 - as it is there
            await kept(kind, key, data, events)
            notebook.failing = True

        notebook.write = once  # type: ignore[method-assign]
        told.clear()
        with pytest.raises(StoreError):
            await stations.add([Registered(0, "C"), Registered(0, "D")], "user:ana")
        assert told == [["C"]]

    run(test)


def test_a_schedule_toggles_what_was_registered_and_people_go_before_it() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        clock = FakeClock(NOON_US)
        first, second = [one.id for one in await stations.add([Registered(0, "A"), Registered(0, "B")], "user:ana")]
        values = FakeValues(clock)
        minutely = ScheduleSpec("toggle", every_s=60, acts=(Act("*", set="toggle"),))
        async with ControlService(clock, notebook, lambda _: None, values, values.find) as control:
            await control.apply(stations.targets(), [minutely], "UTC")

            async def states_after_minutes(count: int) -> list[tuple[bool | None, bool | None]]:
                seen = []
                for _ in range(count):
                    for _ in range(60):
                        clock.advance(1)
                        control.tick()
                        await settle()
                    one, other = control.stations()
                    seen.append((one.on, other.on))
                return seen

            begin = Command("b", first, "off", {}, Origin.SCHEDULE, REGISTRATION)
            assert (await control.execute(begin)).data["in_force"] is True
            await control.execute(Command("c", second, "on", {}, Origin.SCHEDULE, REGISTRATION))
            assert [one.on for one in control.stations()] == [False, True]
            await control.apply(stations.targets(), [minutely], "UTC")  # another configuration takes nothing away
            assert [one.on for one in control.stations()] == [False, True]
            await states_after_minutes(1)
            assert await states_after_minutes(4) == [(True, False), (False, True)] * 2
            await control.execute(Command("d", first, "on", issuer="user:ana"))
            assert await states_after_minutes(2) == [(True, False), (True, True)]
            await control.execute(Command("e", first, "release", issuer="user:ana"))
            assert {one for one, _ in await states_after_minutes(2)} == {True, False}

    run(test)


def test_one_that_is_taken_out_leaves_nothing_but_its_events() -> None:
    async def test(stations: RegisteredStations, notebook: FakeNotebook) -> None:
        clock = FakeClock(NOON_US)
        values = FakeValues(clock)
        async with ControlService(clock, notebook, lambda _: None, values, values.find) as control:

            async def changed() -> None:
                await control.apply(stations.targets(), [], "UTC")

            stations.changed = changed
            first, second = await stations.add([Registered(0, "A"), Registered(0, "B")], "user:ana")
            control.tick()
            for turn in range(60):
                for one in (first, second):
                    await control.execute(
                        Command(f"{one.id} {turn}", one.id, ("off", "on")[turn % 2], issuer="user:ana")
                    )
            assert len(notebook.notes(DECISION)) == 2 * DECISIONS
            await stations.remove(first, "user:ana")
            assert control.station(first.id) is None
        await settle()
        for kind in (WISH, STATION, DECISION):
            kept = notebook.notes(kind)
            assert kept
            assert not [key for key in kept if key.partition("/")[0] == first.id], kind
        told = [event for event in notebook.events if event.subject == first.id and event.kind == "station.decided"]
        assert len(told) == 60

    run(test)
