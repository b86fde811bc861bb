"""What runs under the recorder: ``python -m tests.powercut.workloads <name> <folder>``.

Each says by marks in the log what it has acknowledged, at the moment when the outside could know: after the future or
the call that promises it. A mark is JSON; ``trials.py`` holds what is found after a cut against them.
"""

import asyncio
import ctypes
import errno
import json
import os
import sys
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from agent.api.jsonfile import JsonFile
from agent.core.clock import SystemClock
from agent.core.errors import StoreError
from agent.core.model import Batch, Event, Session, SignalSpec
from agent.site_editor import SiteEditor
from agent.store.db import Store
from agent.store.posting import Fate, Posting
from agent.store.settings import StoreSettings

WAIT_S = 60.0
SIGNALS = [SignalSpec("a", "x"), SignalSpec("a", "y")]
ROUNDS = int(os.environ.get("WORKLOAD_ROUNDS", "60"))
#: The posted rows' first moment: a day of 2026.
POSTED_US = 1_780_000_000_000_000
#: Small, so that logs are copied, blocks sealed and data dropped often within some seconds.
SETTINGS = StoreSettings(commit_s=0.0, ack_s=0.0, seal_rows=40, wal_pages=25, retry_max_s=0.05, ballast_bytes=0)
PADDING = "x" * 300


def mark(**what: object) -> None:
    """Write into the log what was acknowledged."""
    ctypes.CDLL(None).recorder_mark(json.dumps(what).encode())


def _store(folder: Path, settings: StoreSettings = SETTINGS) -> Store:
    store = Store.open(folder / "data" / "enlace.db", SystemClock(), settings)
    if level := os.environ.get("WORKLOAD_SYNCHRONOUS"):
        store._connection.execute(f"PRAGMA synchronous = {level}")
    return store


def writing(folder: Path) -> None:
    """Everything that a store is asked to keep, with sealing and copying of the log in between."""
    store = _store(folder)
    first, second = (signal.id for signal in store.assign(SIGNALS))
    assert (first, second) == (1, 2)
    mark(opened=True, signals=2)
    asyncio.run(_write(store, first, second, ROUNDS))
    store.close()
    mark(closed=True)


async def _write(store: Store, first: int, second: int, rounds: int) -> None:
    session = None
    for n in range(1, rounds + 1):
        store.append(Batch(array("i", [first]), array("q", [n]), array("q", [n])))
        await asyncio.wrap_future(store.flush())
        mark(rows=n)
        seq = await asyncio.wrap_future(store.record(Event("test.event", n, data={"n": n, "text": PADDING})))
        mark(event=seq, n=n)
        t_us = POSTED_US + n * 1_000_000
        (fate,) = await asyncio.wrap_future(store.post(Posting(["a"], [t_us], [1], [second], [n])))
        assert fate is Fate.STORED
        mark(posted=t_us, n=n)
        if n % 4 == 1:
            session, _ = await store.begin(Session("cp", 1, f"key{n}", n, last_wh=n), [Event("session.begun", n)])
        else:
            assert session is not None
            session = Session("cp", 1, session.key, session.start_us, last_wh=n, id=session.id)
            await store.change(session)
        mark(session=session.id, key=session.key, wh=n)
        await store.write("test", "key", {"n": n}, [Event("note.written", n, data={"n": n})])
        mark(note=n)
        if n % 5 == 0:
            await asyncio.wrap_future(store.hold("telemetry", store.newest("telemetry")))
            await asyncio.wrap_future(store.ack("telemetry", store.newest("telemetry"), at_once=True))
            mark(acked=store.acked("telemetry"))
        if n % 12 == 0:
            await asyncio.wrap_future(store.maintain())


def dropping(folder: Path) -> None:
    """A store above its size: raw data goes, the file is made shorter; what must never go stays."""
    store = _store(folder, StoreSettings(**_small()))  # type: ignore[arg-type] # the fields' own values
    (first, _) = (signal.id for signal in store.assign(SIGNALS))
    mark(opened=True)
    for n in range(1, 13):
        words = [(n * 1000 + k) ** 5 % 2**62 for k in range(4000)]
        store.append(Batch(array("i", [first] * 4000), array("q", range(n * 4000, n * 4000 + 4000)), array("q", words)))
        store.flush().result(WAIT_S)
        seq = store.record(Event("test.event", n, data={"n": n, "text": PADDING})).result(WAIT_S)
        mark(event=seq, n=n)
        store.maintain().result(WAIT_S)
    store.close()
    mark(closed=True)


def _small() -> dict[str, object]:
    return {name: getattr(SETTINGS, name) for name in SETTINGS.__slots__} | {"max_bytes": 200_000}


def opening(folder: Path) -> None:
    """An older or damaged file that stands there is opened, written to and closed."""
    store = _store(folder)
    mark(opened=True)
    seq = store.record(Event("test.event", 1, data={"n": 1, "text": "new"})).result(WAIT_S)
    mark(event=seq, n=1)
    store.close()
    mark(closed=True)


def failing(folder: Path) -> None:
    """Each call of a short run fails in turn: what is acknowledged is there afterwards."""
    library = ctypes.CDLL(None)
    every = int(os.environ["WORKLOAD_EVERY"])
    for error in (errno.ENOSPC, errno.EIO, 0):
        number = 0
        while True:
            case = folder / f"{error}-{number}"
            case.mkdir()
            store = _store(case)
            (first, _) = (signal.id for signal in store.assign(SIGNALS))
            before = library.recorder_calls()
            library.recorder_fail(number, error, 3)
            acknowledged = _short_run(store, first)
            calls = library.recorder_calls() - before
            library.recorder_fail(-1, 0, 0)
            store.flush().result(WAIT_S)
            assert [row[2] for row in store.rows([first], -(2**62), 2**62)] == list(range(1, 9))
            kinds = [one.event.data.get("n") for one in store.events(0, 99, "test.event")]
            assert kinds == acknowledged, (error, number, kinds, acknowledged)
            store.close()
            for file in sorted(case.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            case.rmdir()
            number += every
            if number > calls:
                break
        print(errno.errorcode.get(error, "short write"), number, flush=True)  # noqa: T201 - the figure of the trial


def _short_run(store: Store, first: int) -> list[int]:
    """Rows, events and notes; the events that were acknowledged. No exception but ``StoreError`` may come."""
    acknowledged: list[int] = []
    for n in range(1, 9):
        store.append(Batch(array("i", [first]), array("q", [n]), array("q", [n])))
        store.record(Event("test.event", n, data={"n": n, "text": PADDING})).result(WAIT_S)
        acknowledged.append(n)
        with suppress(StoreError):
            asyncio.run(store.write("test", "key", {"n": n}))
        if n == 5:
            with suppress(StoreError):
                store.maintain().result(WAIT_S)
    return acknowledged


class Users(BaseModel):
    """Stands for the files that the API writes."""

    version: int = 0
    text: str = ""


def files(folder: Path) -> None:
    """The configuration and the API's own documents, changed by the program."""
    editor = SiteEditor(folder / "enlace.yaml")
    document = JsonFile(folder / "users.json", Users, "")

    def change(users: Users) -> None:
        users.version += 1
        users.text = PADDING * 20

    for n in range(1, 11):
        editor.add({"id": f"cp{n}", "driver": "ocpp", "charge_point_id": f"CP-{n:04}"})
        mark(device=n)
        document.change(change)
        mark(users=n)


WORKLOADS: dict[str, Callable[[Path], None]] = {
    "writing": writing,
    "dropping": dropping,
    "opening": opening,
    "files": files,
    "failing": failing,
}

if __name__ == "__main__":
    WORKLOADS[sys.argv[1]](Path(sys.argv[2]))
