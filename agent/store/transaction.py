"""Transactions, and the record of what was given up."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from agent.core.model import Event
from agent.store import ledger
from agent.store.pending import Drop


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or nothing of it when that raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        roll_back(connection)


def roll_back(connection: sqlite3.Connection) -> None:
    """Leave the transaction, if there still is one."""
    with suppress(sqlite3.Error):  # on a failing disk this may fail as well; the next BEGIN then says so
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def record_drops(connection: sqlite3.Connection, boot: int, now_us: int, drops: Sequence[Drop]) -> None:
    """Write down what was given up: one row per signal, and one event that sums it up."""
    connection.executemany(
        "INSERT INTO dropped(t_us, signal, from_us, to_us, count, reason) VALUES(?, ?, ?, ?, ?, ?)",
        [(now_us, drop.signal, drop.from_us, drop.to_us, drop.count, drop.reason) for drop in drops],
    )
    summary = {
        "rows": sum(drop.count for drop in drops),
        "from_us": min(drop.from_us for drop in drops),
        "to_us": max(drop.to_us for drop in drops),
        "reason": drops[0].reason,
    }
    ledger.insert(connection, boot, Event("store.dropped", now_us, "store"), ledger.to_json(summary))
