"""Stations without a wire: registered, numbered once and for all, switched by the same control as all others."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agent.control.model import Command, Outcome
from agent.control.registered import MAX_REGISTERED, Registered, RegisteredStations
from agent.control.service import ControlService
from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, StoreError
from tests.control_fakes import NOON_US, FakeNotebook, FakeValues


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
