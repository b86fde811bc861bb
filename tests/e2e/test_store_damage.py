"""Damaged, cut and foreign files at start: the store opens, takes what can be read, and keeps the evidence.

The file and its log are those of a store that was killed: part of what is acknowledged stands in the log only. One byte
of it is changed, or its end cut off. A byte in a row that nothing checks (a session's text) can't be seen by anybody.
"""

import asyncio
import random
import shutil
import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.core.clock import SystemClock
from agent.core.model import Batch, Event, Session, SignalSpec
from agent.store import audit
from agent.store.db import Store
from agent.store.posting import Fate, Posting
from agent.store.settings import StoreSettings

WAIT_S = 60.0
ROUNDS = 200
SIGNALS = [SignalSpec("a", f"n{n}") for n in range(30)]
POSTED_US = 1_780_000_000_000_000
#: One commit a row each; the log is copied into the file in the middle of it and begins anew.
SETTINGS = StoreSettings(commit_s=0.0, ack_s=0.0, wal_pages=900, seal_rows=100)


@dataclass
class Truth:
    """What was acknowledged when the process died."""

    folder: Path
    events: dict[int, int] = field(default_factory=dict)
    sessions: set[int] = field(default_factory=set)
    notes: int = 0
    rows: int = 0
    acked: int = 0
    newest: int = 0


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A store in use, as a kill would leave it."""
    folder = tmp_path_factory.mktemp("damage")
    truth = Truth(folder / "killed")
    with closing(Store.open(folder / "enlace.db", SystemClock(), SETTINGS)) as store:
        asyncio.run(_fill(store, truth))
        truth.folder.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"enlace.db{suffix}", truth.folder / f"enlace.db{suffix}")
    return truth


async def _fill(store: Store, truth: Truth) -> None:
    signals = [signal.id for signal in store.assign(SIGNALS)]
    assert signals == list(range(1, 31))
    rng = random.Random(1)  # noqa: S311 - a trial that can be repeated
    for n in range(1, ROUNDS + 1):
        words = array("q", [n, *(rng.getrandbits(40) for _ in range(9))])
        store.append(Batch(array("i", range(1, 11)), array("q", [n] * 10), words))
        await asyncio.wrap_future(store.flush())
        truth.rows += 1
        seq = await asyncio.wrap_future(store.record(Event("test.event", n, data={"n": n, "text": "x" * 300})))
        truth.events[seq] = n
        if n % 5 == 0:
            session, _ = await store.begin(Session("cp", 1, f"key{n}", n, last_wh=n))
            truth.sessions.add(session.id)
            await store.write("test", f"key{n}", {"n": n})
            truth.notes += 1
            post = Posting(["a"], [POSTED_US + n], [1], [30], [n])
            assert await asyncio.wrap_future(store.post(post)) == [Fate.STORED]
        if n == ROUNDS // 2:
            await asyncio.wrap_future(store.maintain())
            await asyncio.wrap_future(store.ack("telemetry", store.newest("telemetry"), at_once=True))
            truth.acked = store.acked("telemetry")
    truth.newest = store.newest("event")


@dataclass
class Found:
    """What was found after one damage."""

    aside: bool
    reason: str
    seconds: float
    share: dict[str, float]
    wrong: int


def look(truth: Truth, folder: Path, damage: Callable[[Path], None]) -> Found:
    """Damage a copy, start on it, and hold what is there against the truth; what must hold in any case is asserted."""
    shutil.copytree(truth.folder, folder)
    path = folder / "enlace.db"
    damage(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    begun_s = time.monotonic()
    with closing(Store.open(path, SystemClock(), SETTINGS)) as store:
        (first,) = store.assign(SIGNALS[:1])
        store.append(Batch(array("i", [first.id]), array("q", [10**15]), array("q", [7])))
        store.flush().result(WAIT_S)
        seconds = time.monotonic() - begun_s
        while store._recovery is not None and not store._recovery.done:
            time.sleep(0.002)
        aside = store.opened.moved_to
        if aside is not None:
            for name, content in before.items():
                kept = aside.with_name(aside.name + name.removeprefix("enlace.db"))
                assert kept.read_bytes() == content, "the evidence was changed"
        events = {one.seq: one.event.data.get("n") for one in store.events(0, 10_000, "test.event")}
        assert set(events) <= set(truth.events), "events under numbers that were never given"
        found = {
            "events": len(events) / len(truth.events),
            "sessions": sum(store.session(number) is not None for number in truth.sessions) / len(truth.sessions),
            "notes": len(store.notes("test")) / truth.notes,
            "names": sum(signal.id == n for n, signal in enumerate(store.assign(SIGNALS), 1)) / len(SIGNALS),
            "rows": len({value for _, t, value in store.rows([1], 0, 10**14)} & set(range(1, ROUNDS + 1))) / truth.rows,
            "unsent": sum(block.first_seq <= truth.newest for block in store.blocks(truth.acked, 1000)),
        }
        seq = store.record(Event("test.later", 1)).result(WAIT_S)
        # Only where SQLite itself took the newest commit for one that never was, its number is given again.
        assert seq > max(events, default=0)
        (session, new) = asyncio.run(store.begin(Session("cp", 1, "later", 1)))
        assert new
        assert aside is None or session.id > max(truth.sessions)
    wrong = sum(truth.events[seq] != n for seq, n in events.items())
    if aside is not None and found["events"] == 1 and wrong == 0:
        report = audit.verify(path)
        assert all("chain" in fault.what or fault.seq in truth.events for fault in report.faults), report.faults
    return Found(aside is not None, store.opened.reason, seconds, found, wrong)


def flip(name: str, rng: random.Random) -> Callable[[Path], None]:
    """Change one bit at a random place of a file."""

    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(content)

    return damage


def cut(name: str, rng: random.Random) -> Callable[[Path], None]:
    """Cut off the end of a file."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: rng.randrange(len(content))])

    return damage


def trial(truth: Truth, tmp_path: Path, flips: int, cuts: int) -> dict[str, list[Found]]:
    rng = random.Random(11)  # noqa: S311 - a trial that can be repeated
    found: dict[str, list[Found]] = {}
    kinds: list[tuple[str, Callable[[str, random.Random], Callable[[Path], None]], str, int]] = [
        ("a bit in the file", flip, "enlace.db", flips // 2),
        ("a bit in the log", flip, "enlace.db-wal", flips // 2),
        ("the file cut", cut, "enlace.db", cuts // 2),
        ("the log cut", cut, "enlace.db-wal", cuts // 2),
    ]
    for title, kind, name, count in kinds:
        for _ in range(count):
            folder = tmp_path / "trial"
            found.setdefault(title, []).append(look(truth, folder, kind(name, rng)))
            shutil.rmtree(folder)
        print(_line(title, found[title]))  # noqa: T201 - the figure of the trial
    return found


def _line(title: str, found: list[Found]) -> str:
    names = found[0].share
    means = ", ".join(f"{name} {sum(one.share[name] for one in found) / len(found):.4f}" for name in names)
    aside = sum(one.aside for one in found)
    whole = sum(all(one.share[name] == 1 for name in ("events", "sessions", "notes", "names")) for one in found)
    reasons = Counter(one.reason.split(":")[0][:30] for one in found if one.aside)
    return (
        f"{title}: {len(found)} opened, {aside} moved aside {dict(reasons.most_common(3))}, {whole} without any loss; "
        f"on average {means}; wrong {sum(one.wrong for one in found)}; "
        f"longest start {max(one.seconds for one in found):.2f} s"
    )


@pytest.mark.announced_warnings
def test_one_damaged_byte_costs_no_more_than_its_page(truth: Truth, tmp_path: Path) -> None:
    found = trial(truth, tmp_path, 60, 20)
    for one in found["a bit in the file"]:
        assert one.share["events"] > 0.9
        assert one.share["sessions"] > 0.5
        assert one.share["names"] == 1 or one.aside
    for one in found["a bit in the log"]:
        assert one.share["events"] >= 1 - 40 / ROUNDS
    assert any(one.aside for one in found["a bit in the log"])


@pytest.mark.long
@pytest.mark.announced_warnings
def test_one_damaged_byte_costs_no_more_than_its_page_1000(truth: Truth, tmp_path: Path) -> None:
    trial(truth, tmp_path, 1000, 200)


@pytest.mark.announced_warnings
def test_an_event_that_the_lost_head_of_its_chain_does_not_know_is_named(tmp_path: Path) -> None:
    """As where the log's frame of the head is damaged, and that of the event is not."""
    path = tmp_path / "enlace.db"
    with closing(Store.open(path, SystemClock())) as store:
        numbers = [store.record(Event("test.event", n)).result(WAIT_S) for n in range(3)]
    with closing(sqlite3.connect(path)) as connection, connection:
        before = "SELECT seq, hash FROM event WHERE seq = ?"
        head = connection.execute(before, (numbers[1],)).fetchone()
        connection.execute("UPDATE chain_head SET seq = ?, hash = ? WHERE id = 1", head)
        connection.execute("DROP TABLE note")
    with closing(Store.open(path, SystemClock())) as store:
        assert store.opened.moved_to is not None
        while store._recovery is not None and not store._recovery.done:
            time.sleep(0.002)
        store.record(Event("test.later", 1)).result(WAIT_S)
    report = audit.verify(path)
    assert [(fault.seq, fault.what) for fault in report.faults] == [(numbers[2], "inserted")]


def test_a_used_file_that_lost_all_of_its_bytes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "enlace.db"
    path.touch()
    Store.open(path, SystemClock()).close()
    path.write_bytes(b"")
    with closing(Store.open(path, SystemClock())) as store:
        assert (store.opened.reason, store.opened.moved_to is not None) == ("nothing is left in it", True)
        store.record(Event("test.event", 1)).result(WAIT_S)  # behind those of the start
        assert "store.moved_aside" in [one.event.kind for one in store.events(0, 10)]
    with closing(Store.open(path, SystemClock())) as store:
        assert store.opened.moved_to is None
