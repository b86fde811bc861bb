"""The maintenance log: what was done to machines, one row each, for ever; and how often stations were switched on.

Rules of this file:

1. An entry is never changed or deleted. A correction is another entry that says which one it replaces; each is
   corrected once at most, so that one entry at the end of each chain counts. One that is void counts as not done.
2. An entry and its ledger event are one commit. Who sends a ``key`` twice is given the entry of the first time.
3. Switches are counted from the ledger's ``station.decided``, each once: the counts and the mark up to where the
   ledger was read are one commit. Turned on is what was decided to be off before, and what the station then did.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.core.model import Event, Number
from agent.store import ledger
from agent.store.ledger import insert_events, to_json
from agent.store.readers import Readers
from agent.store.schema import get_mark, set_mark
from agent.store.writer import Writer

#: The mark up to where the ledger was read for switches.
SWITCHED_SEQ = "switched_seq"
#: So many numbers of the ledger are looked at in one transaction.
CHUNK = 5000
_DAY_US = 86_400_000_000

_DECIDED = "station.decided"
_COLUMNS = "id, machine, t_us, kind, plan, void, corrects, key, created_us, created_by, data"
_SELECT = f"""SELECT {_COLUMNS}, (SELECT later.id FROM maintenance AS later WHERE later.corrects = maintenance.id)
    FROM maintenance"""  # noqa: S608 - our own column list
_COUNTS = "void = 0 AND NOT EXISTS (SELECT 1 FROM maintenance AS later WHERE later.corrects = maintenance.id)"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done to a machine. ``t_us`` is when it was done, ``created_us`` when it was written down."""

    machine: str
    t_us: int
    kind: str
    description: str = ""
    technician: str = ""
    cost: Number | None = None  #: in ``currency``
    currency: str = ""
    parts: tuple[str, ...] = ()
    counters: Mapping[str, Number] = field(default_factory=dict)  #: what the machine's counters showed at that time
    plan: str = ""  #: the plan that it was done for; empty: all of its kind
    key: str = ""  #: its client's own name for it, so that it can be sent again
    corrects: int | None = None  #: the entry that it replaces
    void: bool = False  #: it was not done
    id: int = 0
    created_us: int = 0
    created_by: str = ""
    corrected_by: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it is what was done, as far as is known now."""
        return not self.void and self.corrected_by is None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which entries: of that machine and kind, from ``from_us`` on and before ``to_us``; ``counting``: that count."""

    machine: str | None = None
    kind: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    counting: bool = False

    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL, and its values."""
        filters = (
            ("machine = ?", self.machine),
            ("kind = ?", self.kind),
            ("t_us >= ?", self.from_us),
            ("t_us < ?", self.to_us),
        )
        texts = [text for text, value in filters if value is not None]
        if self.counting:
            texts.append(_COUNTS)
        return " AND ".join(texts) or "1", [value for _, value in filters if value is not None]


class MaintenanceTable:
    """The maintenance of a store. ``saw_event`` is told the number of each event that was committed."""

    def __init__(self, readers: Readers, writer: Writer, boot: int, saw_event: Callable[[int], None]) -> None:
        self._readers = readers
        self._writer = writer
        self._boot = boot
        self._saw_event = saw_event

    async def add(self, entry: Entry, event: Event) -> tuple[Entry | None, bool]:
        """Store it with its event, to which ``id`` is added. The entry that has its key, and False, where there is one.

        None: what it corrects is not there, or was corrected already. Raises ``StoreError``.
        """

        def run(connection: sqlite3.Connection) -> tuple[tuple[Entry | None, bool], Callable[[], None] | None]:
            if entry.key:
                known = _rows(connection, "WHERE key = ?", (entry.key,))
                if known:
                    return (known[0], False), None
            if entry.corrects is not None:
                old = _rows(connection, "WHERE id = ?", (entry.corrects,))
                if not old or old[0].corrected_by is not None:
                    return (None, False), None
            stored = replace(entry, id=_insert(connection, entry))
            seq = insert_events(connection, self._boot, [replace(event, data={"id": stored.id} | dict(event.data))])
            return (stored, True), lambda: self._saw_event(seq)

        return await asyncio.wrap_future(self._writer.submit(run, records=True, keep=False))

    def page(self, asked: Asked, limit: int, offset: int) -> tuple[int, list[Entry]]:
        """How many such entries there are, and one page of them, the latest first. Blocks; raises ``StoreError``."""
        where, values = asked.where()
        with self._readers.snapshot() as connection:
            total: int = connection.execute(
                f"SELECT count(*) FROM maintenance WHERE {where}",  # noqa: S608 - our own conditions
                values,
            ).fetchone()[0]
            paged = f"WHERE {where} ORDER BY t_us DESC, id DESC LIMIT ? OFFSET ?"
            return total, _rows(connection, paged, (*values, limit, offset))

    def entry(self, number: int) -> Entry | None:
        """The entry with that number. Blocks; raises ``StoreError``."""
        with self._readers.snapshot() as connection:
            found = _rows(connection, "WHERE id = ?", (number,))
        return found[0] if found else None

    def last(self) -> list[Entry]:
        """The latest entry that counts of each machine, kind and plan. Blocks; raises ``StoreError``."""
        newest = f"""WHERE id IN (SELECT id FROM (SELECT id,
            row_number() OVER (PARTITION BY machine, kind, plan ORDER BY t_us DESC, id DESC) AS place
            FROM maintenance WHERE {_COUNTS}) WHERE place = 1) ORDER BY id"""  # noqa: S608 - our own condition
        with self._readers.snapshot() as connection:
            return _rows(connection, newest, ())

    def switches(self, device: str) -> dict[int, int]:
        """How often a device or an outlet of it was switched on, by days since 1970 UTC. Blocks; raises as ``page``."""
        outlets = f"{device}."
        with self._readers.snapshot() as connection:
            return dict(
                connection.execute(
                    """SELECT day, sum(count) FROM switched WHERE station = ? OR substr(station, 1, ?) = ?
                        GROUP BY day ORDER BY day""",
                    (device, len(outlets), outlets),
                ).fetchall()
            )

    async def count_switches(self) -> None:
        """Count those that the ledger has got since it was last asked. Raises ``StoreError``."""
        while not await asyncio.wrap_future(self._writer.submit(_count_chunk, keep=False)):
            pass


def _insert(connection: sqlite3.Connection, entry: Entry) -> int:
    data = {
        "description": entry.description,
        "technician": entry.technician,
        "cost": entry.cost,
        "currency": entry.currency,
        "parts": list(entry.parts),
        "counters": entry.counters,
    }
    cursor = connection.execute(
        "INSERT INTO maintenance(machine, t_us, kind, plan, void, corrects, key, created_us, created_by, data)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.machine,
            entry.t_us,
            entry.kind,
            entry.plan,
            int(entry.void),
            entry.corrects,
            entry.key or None,
            entry.created_us,
            entry.created_by,
            to_json(data),
        ),
    )
    return int(cursor.lastrowid or 0)


def _rows(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Entry]:
    return [_entry(row) for row in connection.execute(f"{_SELECT} {where}", tuple(values))]


def _entry(row: Sequence[object]) -> Entry:
    number, machine, t_us, kind, plan, void, corrects, key, created_us, created_by, text, corrected_by = row
    try:
        data = json.loads(str(text))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        data = {"description": str(text)}  # that it was done is worth more than what exactly
    cost, parts, counters = data.get("cost"), data.get("parts"), data.get("counters")
    return Entry(
        machine=str(machine),
        t_us=_whole(t_us),
        kind=str(kind),
        description=str(data.get("description") or ""),
        technician=str(data.get("technician") or ""),
        cost=cost if isinstance(cost, int | float) else None,
        currency=str(data.get("currency") or ""),
        parts=tuple(map(str, parts)) if isinstance(parts, list) else (),
        counters=counters if isinstance(counters, dict) else {},
        plan=str(plan),
        key=str(key or ""),
        corrects=None if corrects is None else _whole(corrects),
        void=bool(void),
        id=_whole(number),
        created_us=_whole(created_us),
        created_by=str(created_by),
        corrected_by=None if corrected_by is None else _whole(corrected_by),
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _count_chunk(connection: sqlite3.Connection) -> tuple[bool, None]:
    """Count the switches of the next part of the ledger; whether that was the last one."""
    after_seq, newest_seq = get_mark(connection, SWITCHED_SEQ), ledger.newest_seq(connection)
    # The numbers of a ledger begin far from 0, and leave room for those of older files.
    (first_seq,) = connection.execute("SELECT min(seq) FROM event WHERE seq > ?", (after_seq,)).fetchone()
    if first_seq is None:
        return True, None
    to_seq = min(first_seq + CHUNK - 1, newest_seq)
    rows = connection.execute(
        "SELECT t_us, subject, data FROM event WHERE seq > ? AND seq <= ? AND kind = ? ORDER BY seq",
        (after_seq, to_seq, _DECIDED),
    ).fetchall()
    for t_us, station, text in rows:
        try:
            data = json.loads(text)
        except ValueError:
            continue  # whoever reads the ledger as such sets it aside
        if not isinstance(data, dict) or not isinstance(data.get("on"), bool):
            continue
        # "done by …": an outlet did it, which tells of it as well.
        if str(data.get("result")).partition(";")[0] == "done":
            _count(connection, str(station), _whole(t_us) // _DAY_US, is_on=data["on"])
    set_mark(connection, SWITCHED_SEQ, to_seq)
    return to_seq >= newest_seq, None


def _count(connection: sqlite3.Connection, station: str, day: int, *, is_on: bool) -> None:
    row = connection.execute(
        "SELECT day, is_on FROM switched WHERE station = ? ORDER BY day DESC LIMIT 1", (station,)
    ).fetchone()
    turned = row is not None and is_on and not row[1]
    # A clock that went back must not hide what was decided last.
    day = day if row is None else max(day, row[0])
    connection.execute(
        """INSERT INTO switched VALUES(?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET count = count + excluded.count, is_on = excluded.is_on""",
        (station, day, int(turned), int(is_on)),
    )
