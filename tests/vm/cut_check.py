"""After a power cut, on the host: is all there that the gateway had acknowledged to the outside?

What is looked at is a snapshot of the database, taken in the guest after the gateway had started on what the cut had
left, and before anything more was sent to it. Here it takes a second, in the guest it took a quarter of a minute.
"""

import io
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from agent.cli.main import main as enlace
from agent.core.clock import SystemClock
from agent.core.model import Session
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.settings import StoreSettings
from tests.vm.inside.cut_load import VIN, Acks, row_time_us

#: A signal of the battery whose frames come all the time.
BATTERY = ("bms", "voltage_v")
_PAGE = 1000


@dataclass
class Report:
    """What was acknowledged, and of it what is lost; ``faults`` in words. ``telemetry``: values of one CAN signal."""

    rows: int
    sessions: int
    telemetry: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)


def check(database: Path, acknowledged: str, base_us: int) -> Report:
    """Hold a snapshot against what was acknowledged, record by record. The snapshot is changed by that."""
    acks = Acks(acknowledged)
    report = Report(acks.posted, len(acks.started))
    report.faults += _unsound(database)
    with closing(Store.open(database, SystemClock(), StoreSettings(ballast_bytes=0))) as store:
        lost_rows, lost_sessions = _lost_rows(store, acks, base_us), list(_lost_sessions(store, acks))
        report.telemetry = sum(1 for _ in store.rows(store.ids_of(*BATTERY), 0, 1 << 62))
    report.lost = len(lost_rows) + len(lost_sessions)
    report.faults += [f"lost rows: {lost_rows[:5]} …"] if lost_rows else []
    report.faults += [f"lost sessions: {lost_sessions[:5]} …"] if lost_sessions else []
    moved = sorted(path.name for path in database.parent.glob("enlace.db.*-*"))
    report.faults += [f"moved aside: {moved}"] if moved else []
    return report


def _unsound(database: Path) -> Iterator[str]:
    """What SQLite, and ``enlace audit verify``, find wrong."""
    with closing(connect(database)) as connection:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    if found != ["ok"]:
        yield f"integrity_check: {found}"
    with redirect_stdout(io.StringIO()) as said:
        code = enlace(["audit", "--data-dir", str(database.parent), "verify"])
    if code:
        yield f"audit verify: {said.getvalue()}"


def _lost_rows(store: Store, acks: Acks, base_us: int) -> list[int]:
    found = {t_us: value for t_us, _, value in store.rows(store.ids_of(VIN, "odometer_km"), 0, 1 << 62)}
    return [number for number in range(1, acks.posted + 1) if found.get(row_time_us(base_us, number)) != number]


def _lost_sessions(store: Store, acks: Acks) -> Iterator[str]:
    found: dict[int, Session] = {}
    total, _ = store.list_sessions("cp1", limit=1)
    for offset in range(0, total, _PAGE):
        found |= {one.id: one for one in store.list_sessions("cp1", limit=_PAGE, offset=offset)[1]}
    begun = {number: session.start_wh for number, session in found.items()}
    ended = {number: session.last_wh for number, session in found.items() if session.stop_us is not None}
    yield from (f"start {number}" for number, register in acks.started.items() if begun.get(number) != register)
    yield from (f"stop {number}" for number, register in acks.stopped.items() if ended.get(number) != register)
