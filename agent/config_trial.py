"""A configuration on trial: a durable note beside the file, from which a start puts the former one back.

Rules of this file:

1. The note is on disk before the file is replaced, and says ``trial`` until the trial has ended. Who starts the gateway
   calls ``undo_unfinished`` before he reads the configuration: a power cut or a kill during the trial leaves the former
   configuration.
2. A file that is neither the former nor the new one was edited by somebody meanwhile: it stays as it is.
3. The last note stays when it has ended (``kept``, ``undone``): a command that was cut off is told its right outcome.
"""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.core.disk import replace_file
from agent.core.errors import ConfigError
from agent.site_editor import replace_text

STOPPED = "it was put back: the gateway stopped during the trial"
EDITED = "somebody edited the file during the trial: it stays as it is now"


class Note(BaseModel):
    """What is on trial, or was last. ``told``: the ledger has it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Literal["trial", "kept", "undone"]
    command: str
    by: str
    old_text: str
    new_sha256: str
    reason: str = ""
    told: bool = False


def read(path: Path) -> Note | None:
    """The note of a configuration's file; None where there is none, or it is damaged."""
    try:
        return Note.model_validate_json(_place(path).read_bytes())
    except (OSError, ValidationError):
        return None


def begin(path: Path, command: str, by: str, new_text: str) -> None:
    """Put a new text in the place of the file's, on trial. Raises ``OSError``: nothing has changed then."""
    old = path.read_bytes().decode()
    _write(path, Note(state="trial", command=command, by=by, old_text=old, new_sha256=_sha256(new_text)))
    replace_text(path, new_text)


def is_edited(path: Path) -> bool:
    """Whether the file is not what is on trial any more. Raises ``OSError``."""
    note = read(path)
    return note is not None and _sha256(path.read_bytes().decode(errors="replace")) != note.new_sha256


def keep(path: Path) -> None:
    """The trial is over, and the new text stays. Raises ``OSError``."""
    note = read(path)
    if note is not None:
        _write(path, note.model_copy(update={"state": "kept"}))


def undo(path: Path, reason: str) -> str:
    """Put the former text back; the reason, or why it was not put back. Raises ``OSError``."""
    note = read(path)
    if note is None or note.state == "undone":
        return reason
    found = path.read_bytes().decode(errors="replace")
    if _sha256(found) == note.new_sha256:
        replace_text(path, note.old_text)
    elif found != note.old_text:
        reason = EDITED
    _write(path, note.model_copy(update={"state": "undone", "reason": reason}))
    return reason


def undo_unfinished(path: Path) -> bool:
    """Before a start reads the file: end a trial that was cut off; whether there was one. Raises ``ConfigError``."""
    note = read(path)
    if note is None or note.state != "trial":
        return False
    try:
        undo(path, STOPPED)
    except OSError as error:
        hint = f"make it writable for the gateway's user; the former text stands in {_place(path)}"
        raise ConfigError(f"put back {path}", error.strerror or str(error), hint) from error
    return True


def told(path: Path) -> None:
    """The ledger has it. Raises ``OSError``."""
    note = read(path)
    if note is not None:
        _write(path, note.model_copy(update={"told": True}))


def _place(path: Path) -> Path:
    return path.with_name(f".{path.name}.trial.json")


def _write(path: Path, note: Note) -> None:
    replace_file(_place(path), note.model_dump_json(indent=1).encode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
