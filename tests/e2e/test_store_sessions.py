"""Sessions and notes in the real file: their numbers, the pace of their commits, damage, and ``kill -9``."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import StoreError
from agent.core.model import Event, Session
from agent.store.db import Store
from agent.store.schema import SESSION_NUMBER, set_mark
from agent.store.settings import StoreSettings

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
RETRY_MAX_S = 0.05
SINCE_2026_US = 1_767_225_600_000_000
DAY_US = 86_400_000_000


def begin(store: Store, key: str = "k", start_us: int = 5, device: str = "cp1", outlet: int = 1) -> Session:
    return asyncio.run(store.begin(Session(device, outlet, key, start_us)))[0]


# -- numbers


@pytest.mark.parametrize(
    ("now_us", "first"),
    [
        (0, 1),
        (SINCE_2026_US, 1),
        (SINCE_2026_US + DAY_US, 86_401),
        (SINCE_2026_US + 3 * 365 * DAY_US, 3 * 365 * 86_400 + 1),
        (2**62, 2**30 + 1),
    ],
)
def test_numbers_begin_behind_those_that_an_older_file_can_have_given(tmp_path: Path, now_us: int, first: int) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, FakeClock(now_us))) as store:
        assert begin(store).id == first
    with closing(Store.open(path, FakeClock(now_us + DAY_US))) as store:
        assert begin(store, "other").id == first + 1


def test_a_number_is_not_given_again_when_its_session_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, FakeClock(0))) as store:
        assert [begin(store, key).id for key in "abc"] == [1, 2, 3]
        store._connection.execute("DELETE FROM session")
    with closing(Store.open(path, FakeClock(0))) as store:
        assert begin(store, "a").id == 4
        store._connection.execute("DELETE FROM mark")  # and not when only the counter is gone
        assert begin(store, "b").id == 5


def test_when_the_numbers_are_used_up_none_is_given_twice(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "enlace.db", FakeClock(0))) as store:
        set_mark(store._connection, SESSION_NUMBER, 2**31 - 2)
        assert begin(store, "a").id == 2**31 - 1
        with pytest.raises(StoreError, match="31 bits"):
            begin(store, "b")


# -- the list


def test_sessions_are_listed_in_pages(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "enlace.db", FakeClock(0))) as store:
        made = [begin(store, str(n), start_us=n // 2, device=f"cp{n % 2}", outlet=n % 3) for n in range(10)]
        made[3] = replace(made[3], stop_us=9)
        asyncio.run(store.change(made[3]))
        assert store.list_sessions() == (10, made[::-1])
        assert [store.session(one.id) for one in made] == made
        assert store.session(made[-1].id + 1) is None
        assert store.list_sessions(newest_first=False, limit=3, offset=2) == (10, made[2:5])
        assert store.list_sessions(offset=99) == (10, [])
        assert store.list_sessions("cp1", newest_first=False) == (5, made[1::2])
        assert store.list_sessions("cp1", outlet=0, newest_first=False) == (2, [made[3], made[9]])
        assert store.list_sessions(outlet=2, limit=1) == (3, [made[8]])
        assert store.list_sessions(running=False) == (1, [made[3]])
        assert store.list_sessions("cp1", running=True, limit=1) == (4, [made[9]])
        assert store.list_sessions(from_us=1, to_us=3, newest_first=False) == (4, made[2:6])
        assert store.list_sessions("nobody") == (0, [])


# -- the pace of commits


def test_a_change_that_may_wait_goes_with_the_next_commit(tmp_path: Path) -> None:
    """Real time: the group of 600 s is never reached, so only a commit that another asks for takes it along."""
    settings = StoreSettings(commit_s=600.0)

    async def run(store: Store) -> None:
        session, _ = await store.begin(Session("cp1", 1, "k", 5))
        await store.change(replace(session, last_wh=1), at_once=False)  # the first group is due at once
        later = asyncio.ensure_future(store.change(replace(session, last_wh=2), at_once=False))
        assert [one.last_wh for one in await store.running("cp1")] == [1]
        assert not later.done()
        commits = store.stats().commits
        await asyncio.wrap_future(store.record(Event("test.event", 1)))
        await later
        assert store.stats().commits == commits + 1
        assert [one.last_wh for one in await store.running("cp1")] == [2]

    with closing(Store.open(tmp_path / "enlace.db", SystemClock(), settings)) as store:
        asyncio.run(run(store))


def test_a_change_that_may_wait_does_not_need_telemetry(tmp_path: Path) -> None:
    """Real time: each waits for its group commit, 20 ms apart, though nothing else is stored."""

    async def run(store: Store) -> None:
        session, _ = await store.begin(Session("cp1", 1, "k", 5))
        for reading in range(5):
            await asyncio.wait_for(store.change(replace(session, last_wh=reading), at_once=False), WAIT_S)

    with closing(Store.open(tmp_path / "enlace.db", SystemClock(), StoreSettings(commit_s=0.02))) as store:
        asyncio.run(run(store))


def test_closing_stores_what_may_wait(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"

    async def run(store: Store) -> None:
        session, _ = await store.begin(Session("cp1", 1, "k", 5))
        await store.change(replace(session, last_wh=1), at_once=False)
        later = asyncio.ensure_future(store.change(replace(session, last_wh=2), at_once=False))
        await store.running("cp1")
        await asyncio.to_thread(store.close)
        await later

    asyncio.run(run(Store.open(path, SystemClock(), StoreSettings(commit_s=600.0))))
    with closing(Store.open(path, FakeClock())) as store:
        assert [one.last_wh for one in asyncio.run(store.running("cp1"))] == [2]


def test_who_stops_waiting_changes_nothing(tmp_path: Path) -> None:
    """A handler's time-out ends the wait, not the commit: the charger asks again and is given the same session."""

    async def run(store: Store) -> None:
        gate = threading.Event()
        store._writer.submit(lambda _: (gate.wait(WAIT_S), None))
        waiting = asyncio.ensure_future(store.begin(Session("cp1", 1, "k", 5)))
        await asyncio.sleep(0)
        waiting.cancel()
        gate.set()
        session, new = await store.begin(Session("cp1", 1, "k", 5))
        assert not new
        assert await store.running("cp1") == [session]

    with closing(Store.open(tmp_path / "enlace.db", FakeClock())) as store:
        asyncio.run(run(store))


# -- a sick disk


@pytest.mark.announced_warnings
def test_a_full_disk_is_said_and_nothing_is_stored(tmp_path: Path) -> None:
    async def run(store: Store) -> None:
        first, _ = await store.begin(Session("cp1", 1, "k", 5))
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = {"text": "x" * 10_000}
        with pytest.raises(StoreError, match="full"):
            await store.begin(Session("cp1", 1, "other", 5, data=big), [Event("session.started", 5)])
        with pytest.raises(StoreError, match="full"):
            await store.change(replace(first, data=big))
        with pytest.raises(StoreError, match="full"):
            await store.write("kind", "key", big)
        assert store.note("kind", "key") is None
        assert await store.running("cp1") == [first]
        store._connection.execute("PRAGMA max_page_count = 1000000")
        await asyncio.sleep(2 * RETRY_MAX_S)  # until then it is said at once that the disk was full
        await store.write("kind", "key", big)
        again, new = await store.begin(Session("cp1", 1, "other", 5))
        assert new
        assert again.id == first.id + 1

    path = tmp_path / "enlace.db"
    with closing(Store.open(path, SystemClock(), StoreSettings(retry_max_s=RETRY_MAX_S))) as store:
        asyncio.run(run(store))


def test_a_damaged_note_is_set_aside_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, FakeClock())) as store:
        for key in ("good", "no json", "no text", "no object"):
            asyncio.run(store.write("kind", key, {"a": key}))
        change = "UPDATE note SET data = CAST(? AS TEXT) WHERE key = ?"
        for key, data in (("no json", b"{"), ("no text", b'{"a": "\xff"}'), ("no object", b"[]")):
            store._connection.execute(change, (data, key))
    with closing(Store.open(path, FakeClock())) as store:
        assert store.opened.moved_to is None
        assert store.notes("kind") == {"good": {"a": "good"}}
        events = [stored.event for stored in store.events(0, 9)]
        assert [event.kind for event in events] == ["store.row_set_aside"] * 3
        assert "no json" not in json.dumps([dict(event.data) for event in events])
        aside = store._connection.execute("SELECT data FROM aside WHERE stream = 'note'").fetchall()
        assert min(data for (data,) in aside) == b"kind\0no json\0{"
    with closing(Store.open(path, FakeClock())) as store:
        assert len(store.events(0, 9)) == 3


def test_a_damaged_session_keeps_its_registers(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, FakeClock())) as store:
        session = begin(store)
        store._connection.execute("UPDATE session SET data = '{', id_tag = CAST(x'74ff' AS TEXT), last_wh = 7")
        (found,) = asyncio.run(store.running("cp1"))
        assert found == replace(session, last_wh=7, id_tag="t\ufffd", data={"unreadable": "{"})


# -- kill -9

_CHILD = """
import asyncio, sys
sys.path.insert(0, {root!r})
from dataclasses import replace
from pathlib import Path
from agent.core.clock import SystemClock
from agent.core.model import Event, Session
from agent.store.db import Store
from agent.store.settings import StoreSettings

async def outlet(store, number):
    count = 0
    while True:
        key = f"{round}-{{number}}-{{count}}"
        count += 1
        for _ in range(2):  # the charger asks twice
            session, _ = await store.begin(Session("cp1", number, key, count), [Event("session.started", count)])
            print("began", session.id, key, flush=True)
        await store.change(replace(session, last_wh=1), at_once=False)
        ended = replace(session, stop_us=count + 1, energy_wh=number, reason="Local")
        await store.change(ended, [Event("session.ended", count)])
        print("ended", session.id, key, flush=True)
        await store.write("kind", key, {{"id": session.id}})
        print("noted", session.id, key, flush=True)

async def main():
    store = Store.open(Path({path!r}), SystemClock(), StoreSettings(commit_s=0.003))
    assert store.opened.moved_to is None, store.opened.reason
    print("ready", flush=True)
    await asyncio.gather(*(outlet(store, number) for number in range(1, 4)))

asyncio.run(main())
"""


def _kill_rounds(path: Path, rounds: int) -> None:
    said: dict[str, dict[str, int]] = {"began": {}, "ended": {}, "noted": {}}
    chance = random.Random(7)  # noqa: S311 - when to kill is no secret
    for number in range(rounds):
        script = _CHILD.format(root=str(ROOT), path=str(path), round=number)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            for _ in range(chance.randrange(1, 120)):  # killed at some place between two words, not after some time
                _note_said(said, child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            *rest, _ = child.stdout.read().split("\n")  # behind the last line end stands half a line at most
            for line in rest:
                _note_said(said, line)
        _hold(path, said)
    assert len(said["ended"]) > rounds


def _note_said(said: dict[str, dict[str, int]], line: str) -> None:
    word, session, key = line.split()
    assert said[word].setdefault(key, int(session)) == int(session)


def _hold(path: Path, said: dict[str, dict[str, int]]) -> None:
    """All that was said is there, once."""
    with closing(Store.open(path, FakeClock())) as store:
        assert store.opened.moved_to is None
        total, sessions = store.list_sessions(limit=10**6)
        by_key = {session.key: session for session in sessions}
        assert total == len(sessions) == len(by_key) == len({session.id for session in sessions})
        assert said["began"].items() <= {key: session.id for key, session in by_key.items()}.items()
        assert all(by_key[key].energy_wh == by_key[key].outlet for key in said["ended"])
        notes = {key: note["id"] for key, note in store.notes("kind").items()}
        assert said["noted"].items() <= notes.items()
        events = [stored.event for stored in store.events(0, 10**6, "session.")]
        started = [str(event.data["session"]) for event in events if event.kind == "session.started"]
        ended = [str(event.data["session"]) for event in events if event.kind == "session.ended"]
        assert sorted(started) == sorted(str(session.id) for session in sessions)  # each told once, with its record
        assert sorted(ended) == sorted(str(session.id) for session in sessions if not session.running)
        with store._readers.snapshot() as reader:
            assert reader.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_killed_at_any_moment_no_session_is_lost_or_doubled(tmp_path: Path) -> None:
    _kill_rounds(tmp_path / "enlace.db", 10)


@pytest.mark.long
def test_killed_many_times_no_session_is_lost_or_doubled(tmp_path: Path) -> None:
    _kill_rounds(tmp_path / "enlace.db", 1000)
