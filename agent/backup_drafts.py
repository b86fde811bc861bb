"""What backups that are being made are called, and how those of them go that were never finished."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

#: How drafts begin.
DRAFT = ".enlace-backup-"
#: What SQLite leaves beside a draft.
BESIDE = ("-wal", "-shm")


def sweep(folder: Path) -> None:
    """Take away what backups left that were killed: drafts that nobody holds, with what SQLite left beside them."""
    for path in sorted(folder.glob(f"{DRAFT}*")):  # a database before what stands beside it
        with suppress(OSError):  # somebody holds it, or it is somebody else's: it stays
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not path.name.endswith(BESIDE) or not path.with_name(path.name.rpartition("-")[0]).exists():
                    path.unlink()
            finally:
                os.close(descriptor)
