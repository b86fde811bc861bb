"""What stands on the site: devices, what people say of them, what they say of themselves; whatever is killed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, Refusal, StoreError
from agent.core.model import Event
from agent.insight import machines
from agent.insight.machines import CODE, FACTS, NOTE, RESERVED, SAID, Facts, Machine, MachineBook
from tests.fake_view import FakeNotebook
from tests.maintenance_fakes import in_loop

DEVICES: dict[str, Facts] = {
    "cp1": Facts(type="charger", maker="ABB", model="Terra AC (W4 to W22)"),
    "grid": Facts(name="Grid meter", type="meter"),
}


def book(notebook: FakeNotebook | None = None, devices: Mapping[str, Facts] | None = None) -> MachineBook:
    found = DEVICES if devices is None else devices
    return MachineBook(FakeClock(), notebook or FakeNotebook(), lambda: found)


def codes(one: MachineBook) -> list[str]:
    return [machine.code for machine in one.machines()]


def identity(device: str, **data: object) -> Event:
    return Event("device.identity", 5, device, data)


async def add(one: MachineBook, code: str, **facts: str) -> Machine:
    return await one.create(code, Facts(**facts), "user:ana")  # type: ignore[arg-type] # of tests


@in_loop
async def test_what_a_device_says_of_itself_goes_before_its_profile_and_behind_a_person() -> None:
    notebook = FakeNotebook()
    one = book(notebook)
    one.hear(identity("cp1", serial="4711", model="W22-T", firmware=1.5, hardware="C", wire="tcp://x"))
    one.hear(Event("charger.booted", 6, "grid", {"vendor": "Acme", "model": "", "serial": "s", "reason": "PowerUp"}))
    one.hear(identity("stranger", serial="1"))
    one.hear(Event("device.online", 6, "cp1", {"serial": "no"}))
    cp1, grid = one.machines()
    assert (cp1.maker, cp1.model, cp1.serial, cp1.firmware) == ("ABB", "W22-T", "4711", "1.5")
    assert (grid.maker, grid.serial, grid.name) == ("Acme", "s", "Grid meter")
    assert not cp1.noted
    await one.change("cp1", lambda facts: replace(facts, model="by hand"), "user:ana")
    assert book(notebook).machine("cp1") == replace(cp1, model="by hand", serial="", firmware="", noted=True), (
        "what was heard is not on disk yet"
    )
    await one.keep()
    assert book(notebook).machine("cp1") == replace(cp1, model="by hand", noted=True)
    assert set(notebook.kept[SAID]) == {"cp1", "grid"}


@in_loop
async def test_the_same_said_again_is_not_written_again() -> None:
    class Counting(FakeNotebook):
        writes = 0

        async def write(
            self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()
        ) -> None:
            self.writes += 1
            await super().write(kind, key, data, events)

    notebook = Counting()
    one = book(notebook)
    for _ in range(3):
        one.hear(identity("cp1", serial="4711"))
        await one.keep()
    assert notebook.writes == 1
    one.hear(identity("cp1", serial="4712"))
    await one.keep()
    assert notebook.writes == 2


@in_loop
async def test_what_could_not_be_written_is_written_later() -> None:
    class Failing(FakeNotebook):
        failing = True

        async def write(
            self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()
        ) -> None:
            if self.failing:
                raise StoreError("write", "the disk is full")
            await super().write(kind, key, data, events)

    notebook = Failing()
    one = book(notebook)
    one.hear(identity("cp1", serial="4711"))
    with pytest.raises(StoreError):
        await one.keep()
    with pytest.raises(StoreError):
        await add(one, "T1")
    assert codes(one) == ["cp1", "grid"], "nothing is there that is not on disk"
    notebook.failing = False
    await one.keep()
    assert notebook.kept[SAID]["cp1"] == {"serial": "4711"}


@in_loop
async def test_a_device_that_is_taken_out_leaves_what_was_said_of_it() -> None:
    notebook = FakeNotebook()
    one = book(notebook)
    await one.change("grid", lambda facts: replace(facts, location="Cellar", status="retired"), "user:ana")
    left = book(notebook, {"cp1": Facts()})
    assert codes(left) == ["cp1", "grid"]
    grid = left.machine("grid")
    assert grid == Machine("grid", "grid", location="Cellar", status="retired", noted=True)
    await left.remove("grid", "user:ana")
    assert left.machine("grid") is None
    with pytest.raises(CommandRejected) as caught:
        await left.remove("grid", "user:ana")
    assert caught.value.refusal is Refusal.NOT_CAPABLE


@in_loop
async def test_a_machine_gets_its_device_later() -> None:
    notebook = FakeNotebook()
    await add(book(notebook), "inv1", name="South roof", type="pv")
    (machine,) = book(notebook, {"inv1": Facts(type="inverter", maker="SMA")}).machines()
    assert (machine.name, machine.type, machine.maker, machine.device) == ("South roof", "pv", "SMA", True)


@in_loop
async def test_there_is_an_end_of_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "MAX_MACHINES", 3)
    one = book()
    await add(one, "T1")
    with pytest.raises(CommandRejected):
        await add(one, "T2")


@in_loop
async def test_nothing_that_changes_nothing_is_told() -> None:
    notebook = FakeNotebook()
    one = book(notebook)
    await one.change("cp1", lambda facts: facts, "user:ana")
    await one.remove("cp1", "user:ana")
    assert not notebook.events
    assert NOTE not in notebook.kept


def test_notes_that_are_damaged_are_read_as_far_as_they_go() -> None:
    notebook = FakeNotebook({NOTE: {"T1": {"name": 5, "status": "lost", "type": "pump"}}, SAID: {"cp1": {"serial": 5}}})
    one = book(notebook)
    assert one.machine("T1") == Machine("T1", "T1", type="pump", noted=True)
    cp1 = one.machine("cp1")
    assert cp1 is not None
    assert cp1.serial == ""


class KilledError(BaseException):
    """The power goes."""


class Mortal(FakeNotebook):
    """Dies before or after the n-th commit."""

    lives = 10**9

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        self._step()
        await super().write(kind, key, data, events)
        self._step()

    def _step(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise KilledError


VALUES = st.none() | st.sampled_from(["a", "b"])
FACTS_GIVEN = st.fixed_dictionaries({"name": VALUES, "location": VALUES, "notes": VALUES})
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["create", "change", "remove"]), st.sampled_from(["cp1", "CP1", "T1", "t2"]), FACTS_GIVEN
    ),
    max_size=8,
)


@given(ACTS, st.integers(0, 12))
@settings(max_examples=150)
def test_whatever_is_killed_the_machines_are_those_of_the_acts_that_were_committed(
    acts: list[tuple[str, str, dict[str, str | None]]], lives: int
) -> None:
    """Each event says what it was and is: played back, they give the notes; nothing is half done."""
    notebook = Mortal()
    notebook.lives = lives
    one = book(notebook)

    async def act() -> None:
        for what, code, given_facts in acts:
            facts = Facts(**given_facts)  # type: ignore[arg-type] # of tests
            calls: dict[str, Callable[[], object]] = {
                "create": lambda: one.create(code, facts, "user:ana"),  # noqa: B023 - called at once
                "change": lambda: one.change(code, lambda _: facts, "user:ana"),  # noqa: B023 - called at once
                "remove": lambda: one.remove(code, "user:ana"),  # noqa: B023 - called at once
            }
            with suppress(CommandRejected):
                await calls[what]()  # type: ignore[misc] # a coroutine

    with suppress(KilledError):
        asyncio.run(act())
    played: dict[str, object] = {}
    for event in notebook.events:
        assert event.data["by"] == "user:ana"
        assert played.get(event.subject) == event.data["old"]
        if event.data["new"] is None:
            played.pop(event.subject, None)
        else:
            played[event.subject] = event.data["new"]
    assert notebook.kept.get(NOTE, {}) == played
    notebook.lives = 10**9
    again = book(notebook)
    assert {machine.code for machine in again.machines() if machine.noted} == set(played)
    folded = [machine.code.casefold() for machine in again.machines()]
    assert len(folded) == len(set(folded))


def test_the_facts_are_those_of_a_machine() -> None:
    names = {one.name for one in fields(Machine)}
    assert set(FACTS) < names
    assert names - set(FACTS) == {"code", "device", "noted"}
    assert "summary" in RESERVED
    assert CODE.startswith("^")
