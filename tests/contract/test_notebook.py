"""What every ``Notebook`` holds: what was written is there, now and after a restart, and nothing half-written is."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event
from agent.core.ports import Notebook
from agent.store.db import Store
from tests.ocpp_fakes import MemoryNotebook


class StoreHouse:
    """A store as the suite needs it. Another notebook gets a class like this."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "enlace.db"
        self._store: Store | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        self._store = Store.open(self.path, FakeClock())
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
        self._notebook = MemoryNotebook()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[MemoryNotebook]:
        yield self._notebook

    def events(self) -> list[Event]:
        return self._notebook.events

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


def test_a_note_is_replaced_deleted_and_lasts(house: House) -> None:
    async def run() -> None:
        async with house.open() as notes:
            assert notes.note("kind", "key") is None
            assert notes.notes("kind") == {}
            await notes.write("kind", "key", {"a": 1})
            await notes.write("kind", "key", {"b": [None, "ñ", {"c": 2.5}]})
            await notes.write("kind", "", {})
            await notes.write("other", "key", {"x": 1})
            await notes.write("other", "key", None)
            await notes.write("other", "never there", None)
        async with house.open() as notes:
            assert notes.note("kind", "key") == {"b": [None, "ñ", {"c": 2.5}]}
            assert notes.notes("kind") == {"key": {"b": [None, "ñ", {"c": 2.5}]}, "": {}}
            assert notes.notes("other") == {}

    asyncio.run(run())


def test_what_is_read_is_what_a_restart_would_read(house: House) -> None:
    if isinstance(house, MemoryHouse):
        pytest.skip("it keeps NaN")

    data: dict[str, object] = {"pair": (1, 2), "none": float("nan"), "inner": {"list": [1]}}

    async def run() -> None:
        async with house.open() as notes:
            await notes.write("kind", "key", data)
            data["pair"] = "changed by the caller"
            now = notes.note("kind", "key")
            assert now == {"pair": [1, 2], "none": None, "inner": {"list": [1]}}
        async with house.open() as notes:
            assert notes.note("kind", "key") == now

    asyncio.run(run())


def test_who_walks_through_the_notes_is_not_disturbed(house: House) -> None:
    async def run() -> None:
        async with house.open() as notes:
            await notes.write("kind", "a", {})
            seen = notes.notes("kind")
            for _ in seen:
                await notes.write("kind", "b", {})
            assert set(seen) == {"a"}
            assert set(notes.notes("kind")) == {"a", "b"}

    asyncio.run(run())


def test_the_last_of_many_writers_wins(house: House) -> None:
    async def run() -> None:
        async with house.open() as notes:
            await asyncio.gather(*(notes.write("kind", "key", {"n": number}) for number in range(50)))
            assert notes.note("kind", "key") == {"n": 49}
        async with house.open() as notes:
            assert notes.note("kind", "key") == {"n": 49}

    asyncio.run(run())


def test_events_come_with_their_note_or_not_at_all(house: House) -> None:
    if isinstance(house, MemoryHouse):
        pytest.skip("it stores everything, and fails when it is told to")

    async def run() -> None:
        async with house.open() as notes:
            await notes.write("kind", "key", {"n": 1}, [Event("id_tag.added", 5, "x", {"n": 1}), Event("second", 6)])
            with pytest.raises(StoreError):
                await notes.write("kind", "key", {"n": 2}, [Event("bad", 5, data={"what": object()})])
            with pytest.raises(StoreError):
                await notes.write("kind", "key", {"n": "\ud800"})
            with pytest.raises(StoreError):
                await notes.write("kind", "\ud800", {})
            assert notes.note("kind", "key") == {"n": 1}
            assert [event.kind for event in house.events()] == ["id_tag.added", "second"]
            with pytest.raises(TypeError):
                await notes.write("kind", "key", {"what": object()})
        async with house.open() as notes:
            assert notes.notes("kind") == {"key": {"n": 1}}

    asyncio.run(run())


_KINDS = st.sampled_from(["a", "b"])
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_NOTE = st.none() | st.dictionaries(_TEXT, _JSON, max_size=3)
_STEP = st.none() | st.tuples(_KINDS, _TEXT, _NOTE)


async def _follow(house: House, steps: Sequence[tuple[str, str, Mapping[str, object] | None] | None]) -> None:
    """Write, and hold the notes against plain dictionaries; None opens them again."""
    model: dict[str, dict[str, Mapping[str, object]]] = {"a": {}, "b": {}}
    places = [-1, *(number for number, step in enumerate(steps) if step is None), len(steps)]
    for start, end in pairwise(places):
        async with house.open() as notes:
            _compare(notes, model)
            for step in steps[start + 1 : end]:
                assert step is not None
                kind, key, data = step
                await notes.write(kind, key, data)
                if data is None:
                    model[kind].pop(key, None)
                else:
                    model[kind][key] = data
                _compare(notes, model)


def _compare(notes: Notebook, model: Mapping[str, Mapping[str, Mapping[str, object]]]) -> None:
    for kind, expected in model.items():
        assert notes.notes(kind) == expected
        for key, data in expected.items():
            assert notes.note(kind, key) == data


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(_STEP, max_size=10))
def test_notes_are_what_dictionaries_would_be(
    make: Callable[[], House], steps: Sequence[tuple[str, str, Mapping[str, object] | None] | None]
) -> None:
    house = make()
    try:
        asyncio.run(_follow(house, steps))
    finally:
        house.end()
