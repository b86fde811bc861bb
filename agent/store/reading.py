"""Reading a store's notes from outside the running program: ``enlace why`` and the like."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from agent.core.errors import StoreError
from agent.store.opening import connect

_Notes = dict[str, dict[str, Mapping[str, object]]]


def require(path: Path, op: str) -> None:
    """That a store is there to be looked into. Raises ``StoreError``: there is none, or it may not be seen."""
    try:
        there = path.exists()
    except OSError as error:
        raise StoreError(op, error.strerror or str(error), "run it as the user of the gateway, or as root") from error
    if not there:
        raise StoreError(op, "no such file", "start the gateway once, or name the folder with --data-dir")


def read_notes(path: Path, kinds: Sequence[str]) -> _Notes:
    """The notes of these kinds, by kind and key, as of one moment; those that can't be read are left out.

    Read-only: safe beside a running gateway, and when none runs. Raises ``StoreError`` for what is no store of Enlace,
    or may not be read.
    """
    op = f"look into {path}"
    require(path, op)
    try:
        with closing(open_read_only(path)) as connection:
            return _select(connection, kinds)
    except sqlite3.Error as error:
        hint = "is it a store of Enlace, and may this user read it?"
        raise StoreError(op, str(error), hint) from error


def open_read_only(path: Path, *, leave_nothing: bool = False) -> sqlite3.Connection:
    """A connection for reading, also for who may not write into the folder, as long as nothing stands in the log.

    ``leave_nothing``: no file beside a store that nobody has open, as readers of a write-ahead log else leave one.
    """
    try:
        if not leave_nothing or path.with_name(path.name + "-wal").exists():
            return connect(path, read_only=True)
    except sqlite3.OperationalError:
        if path.with_name(path.name + "-wal").exists():
            raise
    # There is no log, so nobody writes: this needs none.
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda data: data.decode(errors="replace")
    return connection


def _select(connection: sqlite3.Connection, kinds: Sequence[str]) -> _Notes:
    found: _Notes = {kind: {} for kind in kinds}
    marks = ", ".join("?" for _ in kinds)
    rows = connection.execute(f"SELECT kind, key, data FROM note WHERE kind IN ({marks})", tuple(kinds))  # noqa: S608 - marks
    for kind, key, text in rows:
        try:
            data = json.loads(text)
        except ValueError:
            continue
        if isinstance(data, dict):
            found[kind][key] = data
    return found
