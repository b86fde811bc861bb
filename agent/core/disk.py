"""Files that a power cut leaves whole: written beside their place, put on the disk, renamed, the name put there too.

Rules of this file:

1. A file's content is durable after its own ``fsync``, its name after that of its folder, and neither before.
2. Drafts stand in the file's own folder, so that the rename stays on one file system; none is left behind by an error.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(
    path: Path, content: bytes, *, mode: int | None = None, check: Callable[[Path], object] = lambda _: None
) -> None:
    """Write a file whole or not at all; it is on the disk afterwards. Raises ``OSError``, and what ``check`` raises.

    Without ``mode`` it is for its folder's owner alone (0600), with it for whom the mode names. ``check`` is asked for
    its word on the draft, whose relative paths count from the file's own folder.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=path.suffix, dir=path.parent)  # mode 0600
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            give_to_owner(file.fileno(), path.parent)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        check(draft)
        if mode is not None:
            draft.chmod(mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def give_to_owner(handle: int, folder: Path) -> None:
    """What root writes belongs to the folder's owner: the gateway, which has a user of its own, must read it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)
