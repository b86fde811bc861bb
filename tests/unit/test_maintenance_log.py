"""The maintenance log in the store: nothing is changed, each is corrected once, switches are counted once."""

import asyncio
from contextlib import suppress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import Event
from agent.store import maintenance
from agent.store.maintenance import Asked, Entry
from tests.maintenance_fakes import MemoryStore

DAY_US = 86_400_000_000
DONE = Event("maintenance.logged", 5, "cp1", {"by": "user:ana"})


def add(store: MemoryStore, entry: Entry) -> tuple[Entry | None, bool]:
    return asyncio.run(store.table().add(entry, DONE))


def test_an_entry_comes_back_as_it_went_in_with_its_event() -> None:
    store = MemoryStore()
    entry = Entry(
        "cp1", 7, "preventive", "a <b>", "luis", 12.5, "EUR", ("fuse",), {"energy_wh": 5}, "plan", "k", created_by="x"
    )
    stored, new = add(store, entry)
    assert new
    assert stored == replace(entry, id=1)
    assert store.table().entry(1) == stored
    assert add(store, replace(entry, description="other")) == (stored, False), "the same key is stored once"
    assert [one.data for one in store.events("maintenance.")] == [{"id": 1, "by": "user:ana"}]


def test_each_entry_is_corrected_once_and_all_stay() -> None:
    store = MemoryStore()
    add(store, Entry("cp1", 7, "inspection"))
    add(store, Entry("cp1", 8, "inspection", corrects=1))
    assert add(store, Entry("cp1", 9, "inspection", corrects=1)) == (None, False)
    assert add(store, Entry("cp1", 9, "inspection", corrects=77)) == (None, False)
    add(store, Entry("cp1", 9, "inspection", corrects=2, void=True))
    table = store.table()
    total, found = table.page(Asked("cp1"), 10, 0)
    assert total == 3
    assert [(one.id, one.corrected_by, one.counts) for one in found] == [(3, None, False), (2, 3, False), (1, 2, False)]
    assert table.page(Asked(counting=True), 10, 0) == (0, [])
    assert table.last() == []
    assert len(store.events("maintenance.")) == 3


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.sampled_from(["inspection", "other"]), st.booleans()),
        max_size=12,
    ),
    st.lists(st.integers(1, 12), max_size=4),
)
@settings(max_examples=60)
def test_the_pages_and_the_last_are_those_of_a_list(
    rows: list[tuple[str, int, str, bool]], corrected: list[int]
) -> None:
    store = MemoryStore()
    entries: dict[int, Entry] = {}
    todo = [Entry(machine, t_us, kind, void=void) for machine, t_us, kind, void in rows]
    todo += [Entry("a", 3, "other", corrects=number) for number in corrected]
    for entry in todo:
        stored, _ = add(store, entry)
        old = entries.get(entry.corrects or 0)
        if entry.corrects is not None and (old is None or old.corrected_by is not None):
            assert stored is None
            continue
        assert stored is not None
        entries[stored.id] = stored
        if old is not None:
            entries[old.id] = replace(old, corrected_by=stored.id)
    ordered = sorted(entries.values(), key=lambda one: (one.t_us, one.id), reverse=True)
    table = store.table()
    for asked in (Asked(), Asked("a"), Asked(kind="other", from_us=1, to_us=4), Asked(counting=True)):
        wanted = [
            one
            for one in ordered
            if asked.machine in {None, one.machine}
            and asked.kind in {None, one.kind}
            and (asked.from_us or 0) <= one.t_us < (asked.to_us or 99)
            and (one.counts or not asked.counting)
        ]
        assert table.page(asked, 3, 1) == (len(wanted), wanted[1:4])
    last: dict[tuple[str, str], Entry] = {}
    for one in ordered:
        if one.counts:
            last.setdefault((one.machine, one.kind), one)
    assert table.last() == sorted(last.values(), key=lambda one: one.id)


def decided(station: str, t_us: int, on: bool | None, result: str = "done") -> Event:  # noqa: FBT001
    return Event("station.decided", t_us, station, {"on": on, "result": result})


def test_switches_are_counted_from_what_stations_did() -> None:
    store = MemoryStore()
    table = store.table()
    store.record(
        decided("cp1", 0, on=True),  # it may have been on before
        decided("cp1", 1, on=False),
        decided("cp1", 2, on=None),
        decided("cp1", 3, on=True, result="held back for 5 s"),
        decided("cp1", 4, on=True, result="done; 16 A instead of 32 A"),
        decided("cp1", 5, on=True),
        Event("audit", 6, "cp1"),
        decided("cp1.2", 7, on=False, result="done by cp1.1: see there"),
        decided("cp2", 8, on=False),
    )
    asyncio.run(table.count_switches())
    asyncio.run(table.count_switches())
    assert table.switches("cp1") == {0: 1}
    store.record(decided("cp2", 5 * DAY_US, on=True), decided("cp2", DAY_US, on=False), decided("cp2", DAY_US, on=True))
    asyncio.run(table.count_switches())
    assert table.switches("cp2") == {0: 0, 5: 2}, "a clock that went back loses nothing"


@given(st.lists(st.tuples(st.sampled_from(["cp1", "cp2"]), st.booleans(), st.integers(0, 2)), max_size=30), st.data())
@settings(max_examples=40)
def test_switches_are_counted_once_however_often_it_is_killed(
    said: list[tuple[str, bool, int]], data: st.DataObject
) -> None:
    whole = MemoryStore()
    expected = dict.fromkeys(("cp1", "cp2"), 0)
    before: dict[str, bool] = {}
    for station, on, _ in said:
        expected[station] += on and before.get(station) is False
        before[station] = on

    class KilledError(Exception):
        pass

    def fail() -> None:
        if data.draw(st.booleans()):
            raise KilledError

    chunk, maintenance.CHUNK = maintenance.CHUNK, 3
    try:
        for place, (station, on, day) in enumerate(said):
            whole.record(decided(station, day * DAY_US + place, on))
            whole.fail = fail
            with suppress(KilledError):
                asyncio.run(whole.table().count_switches())
            whole.fail = lambda: None
        asyncio.run(whole.table().count_switches())
    finally:
        maintenance.CHUNK = chunk
    assert {one: sum(whole.table().switches(one).values()) for one in expected} == expected
