"""Connections for reading: a few, kept, each lent to one thread at a time."""

import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.core.errors import StoreError
from agent.store.opening import connect
from agent.store.transaction import roll_back

_WAIT_S = 30.0
_CACHE_KIB = 1000


class Readers:
    """At most ``limit`` read-only connections to one store. Thread-safe."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._places = threading.Semaphore(limit)
        self._free: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a read transaction: all reads see one state. Raises ``StoreError``.

        Keep it short: while it lasts the write-ahead log can't start again from its beginning.
        """
        if not self._places.acquire(timeout=_WAIT_S):
            raise StoreError("read the store", f"no connection became free in {_WAIT_S:.0f} s")
        try:
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
            except sqlite3.Error as error:
                raise StoreError("read the store", str(error), "look at the disk") from error
            finally:
                roll_back(connection)
                self._give(connection)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close the free connections; those that are lent close when they come back."""
        with self._lock:
            self._closed = True
            while not self._free.empty():
                self._free.get_nowait().close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError("read the store", "it is closed")
            if not self._free.empty():
                return self._free.get_nowait()
        try:
            return connect(self._path, read_only=True, cache_kib=_CACHE_KIB)
        except sqlite3.Error as error:
            raise StoreError("read the store", str(error)) from error

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._closed:
                connection.close()
            else:
                self._free.put_nowait(connection)
