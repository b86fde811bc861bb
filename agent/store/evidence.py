"""Files that can't be used are moved aside, never deleted; and names are put on the disk before anybody counts on them.

Rules of this file:

1. A database and its log move together, whatever happens in between: a note beside them (``<name>.moving``) says where
   to, is on the disk before the first rename and is followed at the next start. Without its log, a file may look sound
   and lack its newest commits.
2. The note stays until all was taken from the evidence that could be (``recovery.py``), so that a power cut in the
   middle of that is only a pause.
3. A name is durable after ``fsync`` of its folder, and not before.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.core.clock import Clock
from agent.core.disk import replace_file, sync

#: What stands beside a database; it moves first, the database last.
_BESIDE = ("-shm", "-journal", "-wal")
#: Of these kinds something can be taken: what an older program does not know yet it leaves where it is.
RECOVERABLE = ("corrupt", "newer")
_MOVING, _RECOVERING = "moving", "recovering"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, on the disk before this returns: a file must not go with its folder.

    Itself it is for its owner alone, whatever the umask: who can read a site's data has its users' hashes.
    Raises ``OSError``.
    """
    for one in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        one.mkdir(0o700 if one == folder else 0o777, exist_ok=True)
        sync(one.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def move_aside(path: Path, kind: str, clock: Clock) -> Path:
    """Rename a database and what stands beside it to ``<name>.<kind>-<UTC stamp>``. Raises ``OSError``."""
    stamp = datetime.fromtimestamp(clock.now_us() / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.{kind}-{stamp}")
    number = 1
    while any(_beside(target, suffix).exists() for suffix in ("", *_BESIDE)):
        number += 1
        target = path.with_name(f"{path.name}.{kind}-{stamp}-{number}")
    _note(path, _MOVING, target)
    _rename(path, target)
    return target


def interrupted(path: Path) -> Path | None:
    """Finish what a power cut interrupted; the evidence from which not all was taken yet. Raises ``OSError``."""
    note = _note_of(path)
    try:
        state, _, name = note.read_text().strip().partition(" ")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    if state not in (_MOVING, _RECOVERING) or not name.startswith(f"{path.name}.") or "/" in name:
        taken(path)
        return None
    target = path.with_name(name)
    if state == _MOVING:
        # The database moves last: where it has arrived, what bears the old name is a new one.
        if not target.exists():
            _rename(path, target)
        else:
            _moved(path, target)
    return target if _note_of(path).exists() else None


def standing(path: Path) -> Iterator[tuple[str, Path, int]]:
    """Kind (``corrupt``, ``foreign``, ``newer``), place and bytes of each database that stands aside, oldest first."""
    found = [(one.name.removeprefix(f"{path.name}."), one) for one in path.parent.glob(f"{path.name}.*-[0-9]*Z*")]
    for name, one in sorted(found, key=lambda each: each[0].partition("-")[2]):
        with suppress(OSError):
            if not name.endswith(_BESIDE):
                yield name.partition("-")[0], one, one.stat().st_size


def taken(path: Path) -> None:
    """All was taken from the evidence that could be. Raises ``OSError``."""
    _note_of(path).unlink(missing_ok=True)
    sync(path.parent)


def _rename(path: Path, target: Path) -> None:
    for suffix in (*_BESIDE, ""):
        source = _beside(path, suffix)
        if source.exists():
            source.rename(_beside(target, suffix))
            sync(path.parent)
    _moved(path, target)


def _moved(path: Path, target: Path) -> None:
    kind = target.name.removeprefix(f"{path.name}.").partition("-")[0]
    if kind in RECOVERABLE:
        _note(path, _RECOVERING, target)
    else:
        taken(path)


def _note(path: Path, state: str, target: Path) -> None:
    try:
        replace_file(_note_of(path), f"{state} {target.name}\n".encode())
    except OSError as error:
        # A full disk still allows to rename: then only a power cut in that very moment would part file and log.
        if error.errno != errno.ENOSPC:
            raise
        _note_of(path).unlink(missing_ok=True)


def _note_of(path: Path) -> Path:
    return _beside(path, ".moving")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
