"""``enlace reset``: back to how the gateway came: no data, users, keys or passwords (ETSI EN 303 645, 5.11-1).

Rules of this file:

1. Everything below ``data_dir`` goes, whatever it is called: what a later version keeps there is not forgotten here.
   The configuration, wherever it is, and the files that it names elsewhere stay; they are named, for they may hold
   secrets.
2. Nothing goes while a gateway runs on it, nor before somebody typed the site's id or gave ``--yes``.
3. Files are overwritten before they are deleted, the secrets first. On flash that does not reach every copy that the
   drive has made: the words at the end say so.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.disk import sync
from agent.core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from agent.config import Config

EXIT_UNTOUCHED = 1
_CHUNK = 1 << 20
#: What holds keys, passwords and who logged in, by the beginning of its name: it goes first.
_SECRETS = ("users.json", "logins.json", "api-tls", "setup", "ocpp", "password")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("reset", help="delete all data, users and keys: back to how the gateway came")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration, which stays")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Delete it; 1 when nobody agreed. Raises ``ConfigError`` and ``StoreError``."""
    from agent.config import load_config  # noqa: PLC0415 - see the package's docstring

    config = load_config(arguments.config)
    folder = config.data_dir
    if not folder.is_dir() or folder.is_symlink():
        raise ConfigError(f"reset {folder}", "there is no such folder", "it is named by data_dir: of the configuration")
    lock = _lock(folder)
    try:
        kept = arguments.config.resolve()
        found = (path for path in _files(folder) if path.is_symlink() or path.resolve() != kept)
        files = sorted(found, key=lambda path: (not _is_secret(path, folder), path))
        size = sum(path.lstat().st_size for path in files)
        print(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB: readings, the ledger, users, keys and certificates")
        if not arguments.yes and not _agreed(config.site.id):
            print("nothing was deleted", file=sys.stderr)
            return EXIT_UNTOUCHED
        _wipe(folder, files, kept)
    finally:
        os.close(lock)
    print("deleted. A set-up code is shown at the next start. Flash drives may keep copies of what was overwritten:")
    print("before the device leaves your hands, erase the whole drive, or keep data_dir on an encrypted one.")
    _name_the_rest(config, arguments.config)
    return 0


def _lock(folder: Path) -> int:
    """Hold what a running gateway holds. Raises ``StoreError`` when one does."""
    from agent.store.opening import lock_store  # noqa: PLC0415 - see the package's docstring
    from agent.store.settings import DATABASE  # noqa: PLC0415 - the same

    try:
        return lock_store(folder / DATABASE)
    except BlockingIOError as error:
        raise StoreError(f"reset {folder}", "a gateway runs on it", "stop it first") from error
    except OSError as error:
        hint = "run it as the user who owns the folder"
        raise StoreError(f"reset {folder}", error.strerror or str(error), hint) from error


def _files(folder: Path) -> Iterator[Path]:
    """All that is no folder, links themselves and not what they point to."""
    for root, folders, names in os.walk(folder):
        for name in [*names, *(one for one in folders if Path(root, one).is_symlink())]:
            yield Path(root, name)


def _is_secret(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0].startswith(_SECRETS)


def _agreed(site: str) -> bool:
    print(f"all of it will be gone for good. Type the site's id ({site}) to go on: ", end="", flush=True)
    return sys.stdin.readline().strip() == site


def _wipe(folder: Path, files: list[Path], kept: Path) -> None:
    """Overwrite and delete; the folder itself stays, as systemd or an administrator made it, and what ``kept`` is in.

    Raises ``StoreError``.
    """
    try:
        for path in files:
            if path.is_file() and not path.is_symlink():
                _overwrite(path)
            path.unlink()
        for root, folders, _ in os.walk(folder, topdown=False):
            for one in (Path(root, name) for name in folders):
                if one.resolve() not in kept.parents:
                    one.rmdir()
        sync(folder)
    except OSError as error:
        hint = "what stood before it in the list is gone: run it again as the user who owns the folder"
        raise StoreError(f"delete {error.filename or folder}", error.strerror or str(error), hint) from error


def _overwrite(path: Path) -> None:
    nothing = bytes(_CHUNK)
    with path.open("r+b", buffering=0) as file:
        left = path.stat().st_size
        while left > 0:
            left -= file.write(nothing[: min(left, _CHUNK)])
        os.fsync(file.fileno())


def _name_the_rest(config: "Config", path: Path) -> None:
    """What stays, and may hold secrets."""
    named = sorted({str(value) for value in _paths(config.model_dump()) if value.exists() and value != config.data_dir})
    print(f"left as it is: {path}" + (f", and what it names: {', '.join(named)}" if named else ""))


def _paths(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _paths(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _paths(one)
