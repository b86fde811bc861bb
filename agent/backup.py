"""Making backups: everything that a site is, in one file that can be restored, made while the gateway runs.

Rules of this file:

1. ``data/…`` is what stands in ``data_dir``, ``config/…`` the configuration and what it names in its folder,
   ``outside/…`` what it names elsewhere.
2. It is written under another name, synced, read again and compared, and then renamed: under its own name there is
   only a whole one. Nobody but its owner may read it, for it holds keys.
3. Of ``data_dir`` only what the gateway keeps there is taken (``state_files``): it may be somebody's home folder.
"""

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from agent import __version__, credentials
from agent.alarm_sets import FOLDER as ALARMS
from agent.api import logins, passwords, tls, users
from agent.backup_drafts import BESIDE, DRAFT, sweep
from agent.backup_file import FORMAT, Manifest, Source, Tell, verify, write
from agent.config import Config
from agent.core.clock import Clock
from agent.core.disk import sync
from agent.core.errors import StoreError
from agent.store.backup import check_store, copy_store, without_secrets
from agent.store.settings import DATABASE

#: What the gateway keeps in its folder beside the database.
STATE = (users.FILE, logins.FILE, passwords.FILE, tls.FOLDER, "ocpp-tls")
#: Folders beside the configuration in which the program looks for profiles and ready-made alarms.
_FOLDERS = ("profiles", ALARMS)
#: A file named in a configuration that is larger is none that belongs to it.
_MAX_NAMED_BYTES = 64 << 20
#: Beside what is counted: headers, and what is added meanwhile.
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """What is backed up: a configuration, its file, and the folder of the database."""

    config: Config
    path: Path
    data_dir: Path


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made and found whole. ``missing``: named in the configuration, but not there."""

    manifest: Manifest
    size: int
    missing: tuple[str, ...]


def back_up(site: Site, target: Path | None, clock: Clock, tell: Tell, out: BinaryIO, *, secrets: bool = True) -> Made:
    """Make a backup at ``target``, or write it to ``out`` (None; not read again then). Raises ``StoreError``."""
    folder = site.data_dir if target is None else target.absolute().parent
    op = "back up to standard output" if target is None else f"back up to {target}"
    try:
        sweep(folder)
        with _draft(folder, DATABASE) as copy:
            sources, missing = _sources(site, copy, secrets=secrets)
            _check_room(op, folder, site.data_dir / DATABASE, sources, twice=target is not None)
            about = _copied(site, copy, clock, tell, secrets=secrets)
            if target is None:
                manifest, size = write(about, sources, out, tell)
                return Made(manifest, size, tuple(missing))
            with _draft(folder, target.name) as draft:
                with draft.open("r+b") as file:
                    manifest, size = write(about, sources, file, tell)
                    os.fsync(file.fileno())
                verify(draft, tell)
                draft.replace(target)
            sync(folder)
        return Made(manifest, size, tuple(missing))
    except BrokenPipeError as error:
        reason = "who was to read the backup ended before it was whole"
        raise StoreError(op, reason, "see what the command behind the pipe says") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "choose a place that this user may write, and run it as a user that may read the site's files"
        if error.errno == errno.ENOSPC:
            hint = "free some space, or name another place"
        raise StoreError(op, f"{where}{error.strerror or error}", hint) from error


def _copied(site: Site, copy: Path, clock: Clock, tell: Tell, *, secrets: bool) -> Manifest:
    """Copy the database; what the manifest says of it, still without members."""
    made_us = clock.now_us()  # what is given from now on may not be in it
    copied = copy_store(site.data_dir / DATABASE, copy, lambda done, size: tell("database", done, size))
    if not secrets:
        without_secrets(copy)
    check_store(copy, clock)
    return Manifest(
        format=FORMAT,
        id=uuid.uuid4().hex,
        site=site.config.site.id,
        program=__version__,
        schema_version=copied.schema,
        made_us=made_us,
        secrets=secrets,
        config=f"config/{site.path.name}",
        config_path=str(site.path),
        data_dir=str(site.data_dir),
        numbers=asdict(copied.numbers),
        members=(),
    )


@contextmanager
def _draft(folder: Path, name: str) -> Iterator[Path]:
    """A new file for this user alone, gone at the end; ``_sweep`` takes it away when that was not to be."""
    path = folder / f"{DRAFT}{uuid.uuid4().hex}-{name}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        for suffix in ("", *BESIDE):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.close(descriptor)


def state_files(data_dir: Path) -> Iterator[Path]:
    """What the gateway keeps in its folder beside the database: files, and the files of its folders."""
    for name in STATE:
        place = data_dir / name
        if place.is_file():
            yield place
        elif place.is_dir():
            yield from sorted(one for one in place.iterdir() if one.is_file() and not one.name.startswith("."))


def named_files(config: Config, base: Path) -> Iterator[tuple[str, Path]]:
    """What a configuration names: the text that stands there, and the file, which may be missing."""
    for value in _paths(config):
        if not Path(value).is_relative_to(credentials.folder()):  # root's: systemd brings them
            yield value, base / value
    for device in config.devices:
        profile = getattr(device, "profile", None)
        names = [profile] if profile and ("/" in profile or profile.endswith(".yaml")) else []
        # A DBC file that does not stand there is one of the program's own.
        names += [name for name in getattr(device, "dbc", ()) if (base / name).is_file()]
        yield from ((name, base / name) for name in names)
    for folder in _FOLDERS:
        for path in sorted((base / folder).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(base)), path


def _sources(site: Site, copy: Path, *, secrets: bool) -> tuple[list[Source], list[str]]:
    base = site.path.parent
    sources = [Source(f"data/{DATABASE}", copy, site.data_dir / DATABASE)]
    sources.append(Source(f"config/{site.path.name}", site.path, site.path))
    if secrets:
        sources += [
            Source(f"data/{path.relative_to(site.data_dir)}", path, path) for path in state_files(site.data_dir)
        ]
    missing: list[str] = []
    known = {one.name for one in sources}
    for text, path in named_files(site.config, base):
        if not path.is_file() or path.stat().st_size > _MAX_NAMED_BYTES:
            missing.append(text)
            continue
        is_public = path.suffix in {".yaml", ".yml", ".dbc"}
        name = _name(path, base)
        if name not in known and (secrets or is_public):
            known.add(name)
            sources.append(Source(name, path, path))
    return sources, missing


def _name(path: Path, base: Path) -> str:
    place, home = Path(os.path.normpath(path.absolute())), base.absolute()
    return f"config/{place.relative_to(home)}" if place.is_relative_to(home) else f"outside{place}"


def _paths(value: object) -> Iterator[str]:
    """Every path that stands in a configuration, but for the data's own folder."""
    if isinstance(value, Path):
        yield str(value)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            if name != "data_dir":
                yield from _paths(getattr(value, name))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _paths(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _paths(one)


def _check_room(op: str, folder: Path, database: Path, sources: list[Source], *, twice: bool) -> None:
    size = sum(path.stat().st_size for path in (database, database.with_name(f"{DATABASE}-wal")) if path.exists())
    needed = size * (1 + twice) + sum(one.path.stat().st_size for one in sources[1:]) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        reason = f"{folder} has {free >> 20} MiB left, {needed >> 20} MiB are needed"
        raise StoreError(op, reason, "free some space, or name another place")
