"""What ``enlace upgrade`` and the gateway tell each other: small files in ``data_dir``.

Rules of this file:

1. ``.enlace-upgrade-ask.json``: the command asks how the gateway is, each time with another ``nonce``. The gateway
   answers each question once, in ``.enlace-upgrade-health.json``: a question that nobody takes away costs no writes.
2. ``.enlace-upgrade-told-<id>.json``: what came of an upgrade, for the ledger. The gateway, of whichever version, takes
   it away when its event is on the disk; a cut in between has it told twice, under one id.
3. The folder belongs to the gateway's user and the command runs as root: it never follows a link there, never waits on
   what it opens, and takes only so many bytes.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.core.disk import replace_file, sync

_ASK, _HEALTH, _TOLD = ".enlace-upgrade-ask.json", ".enlace-upgrade-health.json", ".enlace-upgrade-told-"
_MAX_BYTES = 1 << 20
#: Packages that were refused while no gateway ran are not kept without end.
_MAX_TOLD = 32


class Asked(BaseModel):
    """A question."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    nonce: str = Field(max_length=64)


class DeviceHealth(BaseModel):
    """How a device is, in the words of ``/api/devices``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    driver: str
    state: str


class Answer(BaseModel):
    """How the gateway is. ``boot`` is another one after each start; ``parts``: whether each is well."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    nonce: str
    version: str
    boot: str
    parts: Mapping[str, bool]
    devices: Mapping[str, DeviceHealth]


class Outcome(BaseModel):
    """What came of a package. ``t_us``: when, µs since 1970 UTC."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    kind: Literal["upgrade.done", "upgrade.rolled_back", "upgrade.refused"]
    t_us: int
    version: str
    former: str
    reason: str = ""


def ask(folder: Path, nonce: str) -> None:
    """Ask how the gateway is. Raises ``OSError``."""
    replace_file(folder / _ASK, Asked(nonce=nonce).model_dump_json().encode())


def answer_to(folder: Path, nonce: str) -> Answer | None:
    """The gateway's answer to that question; None while there is none."""
    try:
        answer = Answer.model_validate_json(_read(folder / _HEALTH))
    except (OSError, ValidationError):
        return None
    return answer if answer.nonce == nonce else None


def asked(folder: Path) -> str | None:
    """The question that stands there now; None where there is none."""
    try:
        return Asked.model_validate_json(_read(folder / _ASK)).nonce
    except (OSError, ValidationError):
        return None


def answer(folder: Path, found: Answer) -> None:
    """Answer a question. Raises ``OSError``."""
    replace_file(folder / _HEALTH, found.model_dump_json().encode())


def stop_asking(folder: Path) -> None:
    """Take question and answer away. Raises ``OSError``."""
    for name in (_ASK, _HEALTH):
        (folder / name).unlink(missing_ok=True)


def tell(folder: Path, outcome: Outcome) -> None:
    """Have the gateway write that on its ledger. Raises ``OSError``."""
    if outcome.kind == "upgrade.refused" and len(list(folder.glob(f"{_TOLD}*"))) >= _MAX_TOLD:
        return
    replace_file(folder / f"{_TOLD}{outcome.id}.json", outcome.model_dump_json().encode())


def told(folder: Path) -> Iterator[tuple[Path, Outcome]]:
    """What waits to be written on the ledger. Raises ``OSError``."""
    for path in sorted(folder.glob(f"{_TOLD}*.json")):
        try:
            outcome = Outcome.model_validate_json(_read(path))
        except ValidationError:
            path.unlink(missing_ok=True)
            continue
        yield path, outcome


def is_told(path: Path) -> None:
    """It is on the ledger. Raises ``OSError``."""
    path.unlink(missing_ok=True)
    sync(path.parent)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MAX_BYTES)


def as_data(outcome: Outcome) -> dict[str, object]:
    """What an event says of it."""
    data: dict[str, object] = json.loads(outcome.model_dump_json(exclude={"kind", "t_us"}, exclude_defaults=True))
    return data
