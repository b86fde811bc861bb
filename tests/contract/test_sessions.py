"""What every ``Sessions`` holds: one session a key, numbers that never repeat, and what was told is there later."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event, Session
from agent.core.ports import Sessions
from agent.store.db import Store
from agent.store.settings import StoreSettings
from tests.ocpp_fakes import MemorySessions


class StoreHouse:
    """A store as the suite needs it. Other sessions get a class like this."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "enlace.db"
        self._store: Store | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        self._store = Store.open(self.path, FakeClock(), StoreSettings(commit_s=0.0))
        try:
            yield self._store
        finally:
            self._store.close()

    def events(self) -> list[Event]:
        assert self._store is not None
        return [stored.event for stored in self._store.events(0, 1000)]

    def end(self) -> None:
        self._folder.cleanup()


class MemoryHouse:
    """What the tests of chargers stand on in its place."""

    def __init__(self) -> None:
        self._sessions = MemorySessions()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[MemorySessions]:
        yield self._sessions

    def events(self) -> list[Event]:
        return self._sessions.events

    def end(self) -> None:
        """Nothing is left."""


House = StoreHouse | MemoryHouse


@pytest.fixture(params=[StoreHouse, MemoryHouse])
def make(request: pytest.FixtureRequest) -> Callable[[], House]:
    kind: Callable[[], House] = request.param
    return kind


@pytest.fixture
def house(make: Callable[[], House]) -> Iterator[House]:
    made = make()
    yield made
    made.end()


def test_a_session_is_kept_as_it_was_given(house: House) -> None:
    session = Session(
        "cp1",
        2,
        "key",
        1_700_000_000_000_001,
        remote_id="a7-ü",
        id_tag="04A1\0",
        start_wh=2**53 + 1,
        last_wh=0.1,
        last_us=-5,
        energy_wh=None,
        data={"a": [1, None, {"b": "ñ"}]},
    )

    async def run() -> None:
        async with house.open() as sessions:
            stored, new = await sessions.begin(session)
            assert new
            assert 0 < stored.id < 2**31
            assert stored == replace(session, id=stored.id)
            assert await sessions.find("cp1", id=stored.id) == stored
        async with house.open() as sessions:
            assert await sessions.find("cp1", key="key") == stored
            ended = replace(stored, stop_us=9, energy_wh=0, reason="EVDisconnected", data={})
            await sessions.change(ended)
            assert await sessions.find("cp1", remote_id="a7-ü") == ended
            assert await sessions.running("cp1") == []

    asyncio.run(run())


def test_a_known_key_gives_the_session_as_it_stands(house: House) -> None:
    async def run() -> None:
        async with house.open() as sessions:
            first, _ = await sessions.begin(Session("cp1", 1, "k", 5))
            changed = replace(first, last_wh=70)
            await sessions.change(changed)
            again, new = await sessions.begin(Session("cp1", 1, "k", 6), [Event("session.started", 6, "cp1")])
            assert (again, new) == (changed, False)
            other, new = await sessions.begin(Session("cp2", 1, "k", 5))  # a key is one device's
            assert new
            assert other.id != first.id
            assert house.events() == []

    asyncio.run(run())


def test_of_many_who_begin_at_once_one_begins(house: House) -> None:
    async def run() -> None:
        async with house.open() as sessions:
            found = await asyncio.gather(*(sessions.begin(Session("cp1", 1, "k", n)) for n in range(50)))
            assert len({session.id for session, _ in found}) == 1
            assert len({session.start_us for session, _ in found}) == 1
            assert sum(new for _, new in found) == 1

    asyncio.run(run())


def test_events_come_with_their_record_and_say_its_number(house: House) -> None:
    async def run() -> None:
        async with house.open() as sessions:
            events = [Event("session.started", 5, "cp1", {"tag": "x"}), Event("auth.accepted", 5, "cp1")]
            session, _ = await sessions.begin(Session("cp1", 1, "k", 5), events)
            end = Event("session.ended", 6, "cp1", {"session": "given"})
            await sessions.change(replace(session, stop_us=6), [end], at_once=False)
            assert house.events() == [
                Event("session.started", 5, "cp1", {"session": session.id, "tag": "x"}),
                Event("auth.accepted", 5, "cp1", {}),
                end,
            ]

    asyncio.run(run())


def test_what_can_not_be_stored_leaves_nothing(house: House) -> None:
    if isinstance(house, MemoryHouse):
        pytest.skip("it stores everything, and fails when it is told to")

    async def run() -> None:
        async with house.open() as sessions:
            session, _ = await sessions.begin(Session("cp1", 1, "k", 5))
            for wrong in (replace(session, id=session.id + 1), replace(session, key="z"), replace(session, device="x")):
                with pytest.raises(StoreError, match="no session"):
                    await sessions.change(wrong, [Event("session.ended", 1)])
            unfit = Event("session.started", 1, data={"what": object()})
            with pytest.raises(StoreError):
                await sessions.begin(Session("cp1", 1, "other", 5), [unfit])
            assert await sessions.find("cp1", key="other") is None
            assert await sessions.find("cp1") is None
            with pytest.raises(StoreError):
                await sessions.change(replace(session, last_wh=7), [unfit])
            assert await sessions.running("cp1") == [session]
            next_one, _ = await sessions.begin(Session("cp1", 1, "third", 5))
            assert next_one.id > session.id
            assert house.events() == []

    asyncio.run(run())


def test_changes_are_stored_in_the_order_of_the_calls(house: House) -> None:
    """Also when an earlier one may wait and a later one may not."""

    async def run() -> None:
        async with house.open() as sessions:
            session, _ = await sessions.begin(Session("cp1", 1, "k", 5))
            await asyncio.gather(
                *(
                    sessions.change(replace(session, last_wh=number), at_once=at_once)
                    for number, at_once in enumerate([False, True, False, False, True])
                )
            )
            assert await sessions.running("cp1") == [replace(session, last_wh=4)]

    asyncio.run(run())


_DEVICES = st.sampled_from(["a", "b"])
_NAMES = st.sampled_from(["", "r1", "r2"])
_NUMBERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
_STEP = st.one_of(
    st.tuples(st.just("begin"), _DEVICES, st.sampled_from(["k1", "k2", "k3"]), _NAMES, st.integers(0, 9)),
    st.tuples(st.just("change"), st.integers(0, 9), _NUMBERS, st.booleans(), st.booleans()),
    st.tuples(st.just("open again")),
)


async def _follow(house: House, steps: Sequence[tuple[object, ...]]) -> None:
    """Do the steps and hold the sessions against a plain dictionary after each."""
    model: dict[tuple[str, str], Session] = {}
    places = [-1, *(number for number, step in enumerate(steps) if step[0] == "open again"), len(steps)]
    for start, end in pairwise(places):
        async with house.open() as sessions:
            await _compare(sessions, model)
            for step in steps[start + 1 : end]:
                await _do(sessions, model, step)
                await _compare(sessions, model)


async def _do(sessions: Sessions, model: dict[tuple[str, str], Session], step: tuple[object, ...]) -> None:
    match step:
        case ("begin", str(device), str(key), str(name), int(start_us)):
            session = Session(device, 1, key, start_us, remote_id=name)
            found, new = await sessions.begin(session)
            assert new == ((device, key) not in model)
            if new:
                assert found.id > max((one.id for one in model.values()), default=0)
                model[device, key] = replace(session, id=found.id)
            assert found == model[device, key]
        case ("change", int(which), energy, bool(ends), bool(at_once)) if model:
            known = list(model)[which % len(model)]
            assert energy is None or isinstance(energy, int | float)
            changed = replace(model[known], energy_wh=energy, stop_us=7 if ends else None, data={"n": which})
            await sessions.change(changed, at_once=at_once)
            model[known] = changed


async def _compare(sessions: Sessions, model: dict[tuple[str, str], Session]) -> None:
    for device in ("a", "b"):
        mine = sorted((one for one in model.values() if one.device == device), key=lambda one: (one.start_us, one.id))
        assert list(await sessions.running(device)) == [one for one in mine if one.running]
        for session in mine:
            assert await sessions.find(device, key=session.key) == session
            assert await sessions.find(device, id=session.id) == session
        for name in ("r1", "r2"):
            named = [one for one in mine if one.remote_id == name]
            newest = max(named, key=lambda one: one.id, default=None)
            assert await sessions.find(device, remote_id=name) == newest


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(_STEP, max_size=12))
def test_sessions_are_what_a_dictionary_would_be(
    make: Callable[[], House], steps: Sequence[tuple[object, ...]]
) -> None:
    house = make()
    try:
        asyncio.run(_follow(house, steps))
    finally:
        house.end()
