"""A small JSON document in a file of its own, which several processes change: read often, written seldom.

Rules of this file:

1. A change is read, edit, write under a lock between processes, so that the command line and the gateway can't undo
   each other's. The lock is a file beside the document, for the document itself is replaced at each change.
2. The document is replaced whole and at once (write, fsync, rename, fsync of the folder): a power cut leaves the old
   or the new one. Nobody but its owner may read it.
3. A damaged document is an error, never an empty one: who can damage a file must not thereby become its master.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from agent.core.disk import give_to_owner, replace_file
from agent.core.errors import StoreError

#: Of what the system refuses the file itself is not guilty: nobody shall delete it for that.
_REFUSED = "can this user read and write it, and is there room?"
_LOCK_TRIES = 200
_LOCK_PAUSE_S = 0.05

T = TypeVar("T", bound=BaseModel)
R = TypeVar("R")


class JsonFile(Generic[T]):
    """One document of the pydantic model ``kind``. Reading costs one ``stat`` while nothing changed; thread-safe."""

    def __init__(self, path: Path, kind: type[T], hint: str) -> None:
        self.path = path
        self._kind = kind
        self._hint = hint
        self._cached: tuple[tuple[int, int, int] | None, T] | None = None

    def read(self) -> T:
        """The document as it is now; its defaults while there is no file. Raises ``StoreError``. Don't change it."""
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            stamp = None
        except OSError as error:
            raise self._error("read", error.strerror or str(error), _REFUSED) from error
        cached = self._cached
        if cached is not None and cached[0] == stamp:
            return cached[1]
        document = self._kind() if stamp is None else self._parse()
        # A change between stat and read leaves an old stamp: the next call reads once more.
        self._cached = (stamp, document)
        return document

    def change(self, edit: Callable[[T], R]) -> R:
        """Let ``edit`` change the document in place and write it; what ``edit`` returns.

        When it raises, nothing is changed. Blocks on the disk for some ms, and for up to 10 s while another process
        holds the lock. Raises ``StoreError``.
        """
        try:
            with self._locked():
                document = self.read().model_copy(deep=True)
                result = edit(document)
                replace_file(self.path, document.model_dump_json(indent=1).encode())
        except OSError as error:
            raise self._error("write", error.strerror or str(error), _REFUSED) from error
        return result

    def _parse(self) -> T:
        try:
            return self._kind.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return self._kind()
        except OSError as error:
            raise self._error("read", error.strerror or str(error), _REFUSED) from error
        except ValidationError as error:
            # What pydantic says of it would repeat what stands there.
            raise self._error("read", f"it is damaged: {error.error_count()} errors") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_to_owner(handle, self.path.parent)
            pause = threading.Event()
            for _ in range(_LOCK_TRIES):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pause.wait(_LOCK_PAUSE_S)
                else:
                    yield
                    return
            raise self._error("change", "another process holds its lock")
        finally:
            os.close(handle)

    def _error(self, what: str, reason: str, hint: str = "") -> StoreError:
        return StoreError(f"{what} {self.path}", reason, hint or self._hint)
