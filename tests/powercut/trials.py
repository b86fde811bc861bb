"""The trial: cut a recorded run at some operation, lay out what the disk may hold, start the store on it, and look.

``Loss`` is what is raised when something that was acknowledged is not there; the control with ``synchronous = NORMAL``
must raise it.
"""

import json
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.config import load_config
from agent.core.clock import SystemClock
from agent.core.model import Event, SignalSpec
from agent.store import audit, schema
from agent.store.db import Store
from agent.store.posting import Fate, Posting
from tests.powercut.disk import HOW, Disk, lay_out, positions
from tests.powercut.record import Op
from tests.powercut.workloads import SETTINGS, SIGNALS

WAIT_S = 60.0
Marks = Sequence[dict[str, int]]
Check = Callable[[Path, Marks], None]


class Loss(AssertionError):  # noqa: N818 - it says what happened
    """What was acknowledged is not there."""


@dataclass
class Figures:
    """What the cuts of one run found."""

    cuts: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{how} {count}" for how, count in sorted(self.cuts.items()))
        return f"{sum(self.cuts.values())} cuts ({kinds}): {len(self.losses)} losses"


def cut(top: Path, before: Path, ops: Sequence[Op], check: Check, cuts: int, seed: int) -> Figures:
    """Cut the run at so many places, each in one of the five ways. ``before``: a copy of the folder as it began."""
    rng = random.Random(seed)  # noqa: S311 - a trial that can be repeated
    places = positions(ops)
    chosen = sorted(rng.choice(places) for _ in range(cuts))
    disk, figures, done = Disk(top, before), Figures(), 0
    marks: list[dict[str, int]] = []
    for number, place in enumerate(chosen):
        for op in ops[done:place]:
            disk.follow(op)
            if op.what == "M":
                marks.append(json.loads(op.data))
        done = place
        how = HOW[number % len(HOW)]
        figures.cuts[how] += 1
        with _folder() as folder:
            lay_out(disk.image(how, rng), folder)
            try:
                check(folder, marks)
            except Loss as loss:
                figures.losses.append(f"cut behind operation {place}, {how}: {loss}")
    return figures


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory where there is one: what is synced in the trial itself needs no disk."""
    memory = Path("/dev/shm")  # noqa: S108 - Linux's folder in memory
    folder = Path(tempfile.mkdtemp(prefix="enlace-cut-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def newest(marks: Marks, name: str) -> int:
    """The highest value that was acknowledged under a name; 0 when none was."""
    return max((mark[name] for mark in marks if name in mark), default=0)


def check_store(folder: Path, marks: Marks) -> None:
    """The store opens, is whole, and has all that was acknowledged: events, rows, posted rows, sessions and notes."""
    with closing(Store.open(folder / "data" / "enlace.db", SystemClock(), SETTINGS)) as store:
        _expect(store.opened.moved_to is None, f"the file was moved aside: {store.opened.reason}")
        with store._readers.snapshot() as connection:
            told = connection.execute("PRAGMA integrity_check").fetchone()[0]
            _expect(told == "ok", f"integrity: {told}")
        _check_events(store, marks)
        if any("signals" in mark for mark in marks):
            _check_rows(store, marks)
        _check_sessions(store, marks)
        found = store.note("test", "key") or {"n": 0}
        _expect(int(str(found["n"])) >= newest(marks, "note"), f"the note is of {found}, not {newest(marks, 'note')}")
        _expect(store.acked("telemetry") >= newest(marks, "acked"), "the acknowledgement went back")
    report = audit.verify(folder / "data" / "enlace.db")
    _expect(report.ok, f"the chain: {report.faults}")


def _expect(holds: bool, what: str) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise Loss(what)


def _check_events(store: Store, marks: Marks) -> None:
    found = {stored.seq: stored.event.data.get("n") for stored in store.events(0, 100_000, "test.event")}
    for one in marks:
        if "event" in one:
            _expect(found.get(one["event"]) == one["n"], f"event {one['event']} is {found.get(one['event'])}")
    seq = store.record(Event("test.later", 1)).result(WAIT_S)
    _expect(seq > newest(marks, "event"), f"number {seq} was given again")


def _check_rows(store: Store, marks: Marks) -> None:
    first, second = 1, 2
    again = [signal.id for signal in store.assign(SIGNALS)]
    _expect(again == [first, second], f"the signals have other numbers: {again}")
    (other,) = store.assign([SignalSpec("b", "z")])
    _expect(other.id > second, "a signal's number was given again")
    rows = [value for _, _, value in store.rows([first], -(2**62), 2**62)]
    _expect(rows == list(range(1, len(rows) + 1)), "rows are missing, doubled or out of order")
    _expect(len(rows) >= newest(marks, "rows"), f"{len(rows)} rows of {newest(marks, 'rows')}")
    posted = {t_us: value for t_us, _, value in store.rows([second], -(2**62), 2**62)}
    for one in marks:
        if "posted" in one:
            _expect(posted.get(one["posted"]) == one["n"], f"the posted row {one['n']} is gone")
    times = sorted(posted)
    if times:
        fates = store.post(Posting(["a"] * len(times), times, [1] * len(times), [second] * len(times), times))
        _expect(set(fates.result(WAIT_S)) == {Fate.DUPLICATE}, "a posted row would be stored twice")
    count = len(list(store.rows([second], -(2**62), 2**62)))
    _expect(count == len(posted), "a posted row is there twice")


def _check_sessions(store: Store, marks: Marks) -> None:
    energies: dict[int, int] = {}
    for one in marks:
        if "session" in one:
            energies[one["session"]] = one["wh"]
    for number, energy_wh in energies.items():
        session = store.session(number)
        _expect(session is not None, f"session {number} is gone")
        assert session is not None
        _expect((session.last_wh or 0) >= energy_wh, f"session {number} has {session.last_wh} of {energy_wh} Wh")


def check_opened(folder: Path, marks: Marks, older: int) -> None:
    """A file of that version, cut while it is brought up to date: all that it had is there, and its copy is."""
    path = folder / "data" / "enlace.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        number = schema.version(connection)
        _expect(schema.statements(connection) == schema.expected(number), f"the tables of version {number} are mixed")
    check_store(folder, marks)
    with closing(Store.open(path, SystemClock(), SETTINGS)) as store:
        kinds = [stored.event.kind for stored in store.events(0, 1000)]
        _expect(kinds[:5] == [f"old.event{n}" for n in range(5)], f"of the old events there are {kinds}")
    beside = {file.name.removeprefix("enlace.db.") for file in path.parent.glob("enlace.db.*-*")}
    _expect(beside == {f"before-{older}"}, f"of the copies there are {sorted(beside)}")
    with closing(sqlite3.connect(f"{path.as_uri()}.before-{older}?mode=ro", uri=True)) as copy:
        _expect(schema.statements(copy) == schema.expected(older), "the copy is not of the old version")
        _expect(copy.execute("SELECT count(*) FROM event").fetchone()[0] == 5, "the copy lacks events")
        _expect(copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok", "the copy is damaged")


def check_files(folder: Path, marks: Marks) -> None:
    """The configuration and the document are whole, and as new as was acknowledged."""
    config = load_config(folder / "enlace.yaml")
    _expect(len(config.devices) >= newest(marks, "device"), "a device that was added is gone")
    users = json.loads((folder / "users.json").read_text()) if (folder / "users.json").exists() else {"version": 0}
    _expect(users["version"] >= newest(marks, "users"), "a change of the users is gone")


def check_recovered(folder: Path, marks: Marks) -> None:
    """A damaged file, cut while it is moved aside: it is there whole, and what can be read of it is in the new one."""
    path = folder / "data" / "enlace.db"
    with closing(Store.open(path, SystemClock(), SETTINGS)) as store:
        while store._recovery is not None and not store._recovery.done:
            time.sleep(0.001)
        found = [int(str(stored.event.data["n"])) for stored in store.events(0, 1000, "old.event")]
        _expect(found == sorted(set(found)), f"of the old events there are {found}")
        _expect(len(found) > 50, f"only {len(found)} of 60 old events")
        _check_events(store, marks)
    aside = [file for file in path.parent.glob("enlace.db.*-*Z*") if not file.name.endswith(("-wal", "-shm"))]
    _expect(len(aside) == 1, f"the evidence is {aside}")
    _expect(aside[0].with_name(f"{aside[0].name}-wal").exists(), "the log was parted from its file")
    _expect(not path.with_name("enlace.db.moving").exists(), "the note of a finished recovery stayed")
