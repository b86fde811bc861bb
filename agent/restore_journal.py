"""The journal of a restore: the renames that bring the new state in, and doing what is left of them after a cut.

Rules of this file:

1. The journal is written when all that it names is on disk, and taken away when all of it is done. While it stands, the
   state of the folder is the new one, and nobody uses it before the journal is done.
2. Each rename can be repeated: what was done before is seen by what stands where.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.core.disk import replace_file, sync
from agent.core.errors import StoreError
from agent.store.opening import lock_store

JOURNAL = ".enlace-restore.json"
_HINT = "run it as a user that may write there"

#: What is renamed: ``in`` from the new state to its place, ``aside`` out of the way, ``keep`` a second name for it.
Move = tuple[str, str, str]


def note(data_dir: Path, backup: str, moves: Sequence[Move], stages: Sequence[Path]) -> None:
    """From now on the new state counts. ``stages``: folders that are empty when it is done. Raises ``OSError``."""
    document = {"backup": backup, "moves": moves, "stages": [str(one) for one in stages]}
    replace_file(data_dir / JOURNAL, json.dumps(document, indent=1).encode())


def finish(database: Path) -> bool:
    """Do what is left of a restore that was cut off, before that database is opened; whether there was one.

    Raises ``StoreError``.
    """
    try:
        if not (database.parent / JOURNAL).exists():
            return False
        with held(database):
            return finish_held(database.parent)
    except OSError as error:
        raise StoreError(f"open {database.parent}", error.strerror or str(error), _HINT) from error


def finish_held(data_dir: Path) -> bool:
    """The same, where the lock of the database is held already."""
    journal = data_dir / JOURNAL
    op = f"finish the restore noted in {journal}"
    try:
        if not journal.exists():
            return False
        document = json.loads(journal.read_text())
        for kind, name, other in document["moves"]:
            _do(kind, Path(name), Path(other))
        for stage in document["stages"]:
            shutil.rmtree(stage, ignore_errors=True)
        journal.unlink()
        sync(data_dir)
    except OSError as error:
        raise StoreError(op, f"{error.filename}: {error.strerror}", _HINT) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(op, f"it is damaged: {error}", "delete it, and restore once more from the backup") from error
    return True


@contextmanager
def held(database: Path) -> Iterator[int]:
    """The lock of a database, so that no gateway opens it meanwhile. Raises ``StoreError``, ``OSError``."""
    try:
        lock = lock_store(database)
    except BlockingIOError as error:
        raise StoreError(f"restore to {database.parent}", "a gateway runs on it", "stop it first") from error
    try:
        yield lock
    finally:
        os.close(lock)


def _do(kind: str, old: Path, new: Path) -> None:
    """Rename, once. Raises ``OSError``."""
    new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if old.exists() and (kind == "in" or not new.exists()):
        _DOING[kind](old, new)
    sync(new.parent)
    if old.parent.is_dir():
        sync(old.parent)


def _second_name(old: Path, new: Path) -> None:
    """The same file under another name too; a copy where the file system has no such names."""
    try:
        os.link(old, new)
    except OSError:
        draft = new.with_name(f".{new.name}")
        shutil.copy2(old, draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(new)


_DOING: dict[str, Callable[[Path, Path], object]] = {"in": Path.replace, "aside": Path.rename, "keep": _second_name}
