"""The file of a backup: a plain tar (POSIX pax) whose last member, ``manifest.json``, says what the others must be.

Rules of this file:

1. Without the manifest at its end a file is no whole backup. It has the size and SHA-256 of each of the others.
2. Nothing of a backup is believed before it was held against the manifest, and no name leads out of its folder.
"""

import grp
import hashlib
import io
import json
import os
import pwd
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.core.errors import StoreError

MANIFEST = "manifest.json"
FORMAT = 1
_DATABASE = "data/enlace.db"
_MAX_MANIFEST_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20

#: Told of each step: what is done, bytes done and bytes in all.
Tell = Callable[[str, int, int], None]


class Member(BaseModel):
    """One file of a backup: its name in it, and what it was. ``user`` and ``group`` are names, empty where unknown."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    size: int = Field(ge=0)
    sha256: str
    mode: int = Field(ge=0, le=0o777)
    user: str = ""
    group: str = ""


class Manifest(BaseModel):
    """What a backup says of itself. Times are µs since 1970 UTC."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int
    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    site: str
    program: str
    schema_version: int = Field(ge=1)
    made_us: int
    secrets: bool
    config: str  #: the configuration's name among the members
    config_path: str
    data_dir: str
    numbers: dict[str, int]
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is to be taken: its name in the backup and where it is read. ``of``: whose mode and owner it has."""

    name: str
    path: Path
    of: Path


def write(about: Manifest, sources: Sequence[Source], file: BinaryIO, tell: Tell) -> tuple[Manifest, int]:
    """Write a whole backup; the manifest as it stands in it, and the sum of all sizes. Raises ``OSError``."""
    found: list[Member] = []
    done, size = 0, sum(one.path.stat().st_size for one in sources)
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for source in sources:
            with source.path.open("rb") as content:
                status, mine = source.of.stat(), os.fstat(content.fileno())
                info = tarfile.TarInfo(source.name)
                info.size, info.mtime, info.mode = (
                    mine.st_size,
                    about.made_us // 1_000_000,
                    stat.S_IMODE(status.st_mode),
                )
                reader = _Hashing(content)
                archive.addfile(info, reader)
            names = _owner(status)
            done += info.size
            member = Member(
                name=source.name, size=info.size, sha256=reader.hexdigest(), mode=info.mode & 0o777, **names
            )
            found.append(member)
            tell("written", done, size)
        manifest = about.model_copy(update={"members": tuple(found)})
        text = manifest.model_dump_json(indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mtime, info.mode = len(text), about.made_us // 1_000_000, 0o600
        archive.addfile(info, io.BytesIO(text))
    file.flush()
    return manifest, done


def read_manifest(path: Path) -> Manifest:
    """What the backup at ``path`` says of itself. Raises ``StoreError`` where it is none, or a newer one."""
    op = f"read {path}"
    try:
        with tarfile.open(path, "r:") as archive:
            *_, last = archive
            content = archive.extractfile(last) if last.name == MANIFEST and last.size <= _MAX_MANIFEST_BYTES else None
            if content is None:
                raise StoreError(op, "it is no whole backup: its manifest is not there", "take another one")
            text = content.read()
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise StoreError(op, "it is no backup, or was cut off", "take another one") from error
    except OSError as error:
        raise StoreError(op, error.strerror or str(error)) from error
    try:
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
            raise StoreError(op, f"a newer Enlace made it ({found.get('program')})", "restore it with that one")
        manifest = Manifest.model_validate(found)
    except (ValueError, ValidationError) as error:
        raise StoreError(op, "its manifest is damaged", "take another one") from error
    names = [one.name for one in manifest.members]
    bad = [name for name in names if not _is_safe(name)]
    if bad or len(set(names)) < len(names) or _DATABASE not in names or manifest.config not in names:
        raise StoreError(op, f"its manifest is damaged: {bad[0] if bad else 'names'}", "take another one")
    return manifest


def members(path: Path, manifest: Manifest) -> Iterator[tuple[Member, BinaryIO]]:
    """Each file of a backup with what it should be, to be read in this order. Raises ``StoreError``, ``OSError``."""
    op = f"read {path}"
    expected = {one.name: one for one in manifest.members}
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if info.name == MANIFEST:
                    continue
                member = expected.pop(info.name, None)
                content = archive.extractfile(info) if info.isreg() else None
                if member is None or content is None or info.size != member.size:
                    raise StoreError(op, f"{info.name} is not what the manifest says", "take another one")
                yield member, content  # type: ignore[misc] # it reads bytes
    except tarfile.TarError as error:
        raise StoreError(op, str(error), "it is damaged: take another one") from error
    if expected:
        raise StoreError(op, f"{next(iter(expected))} is missing", "take another one")


def verify(path: Path, tell: Tell) -> Manifest:
    """Read a whole backup and compare it with its manifest. Raises ``StoreError``, ``OSError``."""
    manifest = read_manifest(path)
    done, size = 0, sum(one.size for one in manifest.members)
    for member, content in members(path, manifest):
        for chunk in checked(path, member, content):
            done += len(chunk)
            tell("read again", done, size)
    return manifest


def checked(path: Path, member: Member, content: BinaryIO) -> Iterator[bytes]:
    """The bytes of a member, until they turn out to be others. Raises ``StoreError``."""
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK_BYTES):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != member.sha256:
        raise StoreError(f"read {path}", f"{member.name} is damaged: its checksum does not match", "take another one")


class _Hashing:
    """Reads a file and keeps the hash of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        return chunk

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _owner(status: os.stat_result) -> dict[str, str]:
    names = {"user": "", "group": ""}
    with suppress(KeyError):
        names["user"] = pwd.getpwuid(status.st_uid).pw_name
    with suppress(KeyError):
        names["group"] = grp.getgrgid(status.st_gid).gr_name
    return names


def _is_safe(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in {"data", "config", "outside"} and len(parts) > 1 and not {"", ".", ".."} & set(parts)
