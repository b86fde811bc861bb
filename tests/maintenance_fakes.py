"""The maintenance table of a store over a database in memory: its own code, without a disk."""

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ParamSpec, cast

from agent.core.model import Event
from agent.store import ledger, schema
from agent.store.maintenance import MaintenanceTable
from agent.store.readers import Readers
from agent.store.transaction import transaction
from agent.store.writer import Writer

BOOT = 1
P = ParamSpec("P")


def in_loop(scenario: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """A test that runs on an event loop of its own."""

    @functools.wraps(scenario)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(scenario(*args, **kwargs))

    return test


class MemoryStore:
    """Reader and writer of one database. ``fail`` is called before and after each commit: it may raise."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        schema.migrate(self.connection)
        self.connection.execute("INSERT INTO boot(id, boot, wall_us, mono_us) VALUES(1, ?, 0, 0)", ("b" * 32,))
        self.fail: Callable[[], None] = lambda: None

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        yield self.connection

    def submit(self, run: Callable[[sqlite3.Connection], tuple[Any, Any]], **_: object) -> "Future[Any]":
        future: Future[Any] = Future()
        self.fail()
        with transaction(self.connection):
            result, publish = run(self.connection)
        if publish is not None:
            publish()
        future.set_result(result)
        self.fail()
        return future

    def table(self) -> MaintenanceTable:
        return MaintenanceTable(cast("Readers", self), cast("Writer", self), BOOT, lambda seq: None)

    def record(self, *events: Event) -> None:
        with transaction(self.connection):
            ledger.insert_events(self.connection, BOOT, events)

    def events(self, kind: str = "") -> list[Event]:
        return [one.event for one in ledger.select(self.connection, 0, 100_000, kind)[0]]
