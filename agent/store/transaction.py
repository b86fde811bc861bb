"""Transactions, and the record of what was given up."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from agent.store import dropped
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
    """Write down what was given up, and tell the ledger of it at once; inside the caller's transaction."""
    dropped.write(connection, now_us, drops)
    dropped.tell(connection, boot, now_us, {drop.reason for drop in drops})
