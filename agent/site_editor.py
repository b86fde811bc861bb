"""Changes of the site's configuration file by the program: devices added, replaced and taken out, settings changed.

Rules of this file:

1. Only the lines of the device in question change: the rest stays as its writer has it, comments and all. (A YAML
   library that loads and dumps the whole file would lay it out anew.)
2. What is written was held against the models before, as ``enlace check`` does it: a file that would be refused is
   never written. A file that is not valid now is not touched either: its writer has not finished.
3. The file is replaced whole and at once (write, fsync, rename), with its mode kept: a power cut leaves the old or the
   new one. The gateway then takes it as any change by hand.
4. One change at a time; somebody who edits the file by hand at the same moment may lose that race, and sees it.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.api.setup_view import DeviceThereError, NoDeviceError
from agent.config import Config, read_config, read_config_text
from agent.config_changes import hash_of
from agent.core.disk import replace_file
from agent.core.errors import ConfigError
from agent.devices import Preparer, plan_all
from agent.yamlfile import read_text

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
#: Plain words that YAML, of one version or another, reads as something else.
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan"}
#: So many changes are remembered, for who waits some seconds until one of them runs.
_KEPT = 100
_ONE_LINE = "`devices:` is written in brackets: write it as a list, one `- ` a device"


class SiteEditor:
    """Edits one file. Blocks on the disk for some ms; thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._row: tuple[str, ...] = ()  #: hashes of what was written, each upon the one before
        self._left = ""  #: the text, as the last of them left it

    def since(self, written: str) -> Sequence[str]:
        """The hash of a configuration that was written here, and of those that were written upon it: they include it.

        Nothing for one that somebody else wrote over. Does not block.
        """
        row = self._row
        return row[max((place for place, one in enumerate(row) if one == written), default=len(row)) :]

    def add(self, entry: Mapping[str, object]) -> Config:
        """Add a device; the configuration as it is then. Raises ``ConfigError``."""
        with self._lock:
            lines, items = self._read()
            device = entry.get("id")
            if any(item.id == device for item in items):
                raise DeviceThereError(f"edit {self._path}", f"there is a device {device} already", "PUT replaces it")
            return self._write(_with(lines, items, entry)[0])

    def replace(self, device: str, entry: Mapping[str, object]) -> Config:
        """Give a device other keys; comments inside its entry go. Raises ``ConfigError``."""
        with self._lock:
            lines, items = self._read()
            return self._write(_with(lines, items, entry, self._find(items, device))[0])

    def remove(self, device: str) -> Config:
        """Take a device out. Raises ``ConfigError``."""
        with self._lock:
            lines, items = self._read()
            item = self._find(items, device)
            kept = [*lines[: item.start], *lines[item.stop :]]
            if len(items) == 1:
                kept = [line for line in kept if not re.match(r"devices:\s*(#.*)?$", line)]
            return self._write(kept)

    def draft(self, entry: Mapping[str, object], replaces: str = "") -> tuple[str, int]:
        """The text with a device added, or in another's place, and its number. Nothing is written.

        Raises ``ConfigError``.
        """
        with self._lock:
            lines, items = self._read()
            lines, index = _with(lines, items, entry, self._find(items, replaces) if replaces else None)
        return "\n".join(lines) + "\n", index

    def rewrite(self, change: Callable[[str], str]) -> Config:
        """Write what ``change`` makes of the text. Raises ``ConfigError``, and what ``change`` raises."""
        with self._lock:
            return self._write_text(change(self._text()))

    def _find(self, items: Sequence["_Item"], device: str) -> "_Item":
        for item in items:
            if item.id == device:
                return item
        raise NoDeviceError(f"edit {self._path}", f"there is no device {device}", "see /api/devices")

    def _read(self) -> tuple[list[str], list["_Item"]]:
        """The file's lines, and where its devices stand in them."""
        text = self._text()
        reading = read_config_text(text, str(self._path))
        if reading.config is None or reading.document is None:
            raise ConfigError(f"edit {self._path}", "\n" + "\n".join(map(str, reading.problems)), "mend the file first")
        lines = text.splitlines()
        items: list[_Item] = []
        for index, device in enumerate(reading.config.devices):
            row = reading.document.tree.values["devices", index][0] - 1
            while not lines[row].lstrip().startswith("-"):
                row -= 1
                if row < 0 or lines[row].lstrip().startswith("devices:"):
                    raise ConfigError(f"edit {self._path}", _ONE_LINE)
            items.append(_item(lines, row, device.id))
        return lines, items

    def _text(self) -> str:
        text = read_text(self._path)
        if text != self._left:  # nobody knows what somebody else took out
            self._row = ()
        return text

    def _write(self, lines: Sequence[str]) -> Config:
        return self._write_text("\n".join(lines) + "\n")

    def _write_text(self, text: str) -> Config:
        try:
            return self._put(text)
        except OSError as error:
            hint = f"make {self._path} and its folder writable for the gateway's user, or edit the file by hand"
            raise ConfigError(f"edit {self._path}", error.strerror or str(error), hint) from error

    def _put(self, text: str) -> Config:
        found: list[Config] = []
        replace_text(self._path, text, lambda draft: found.append(self._checked(draft)))
        self._row, self._left = (*self._row, hash_of(found[0]))[-_KEPT:], text
        return found[0]

    def _checked(self, draft: Path) -> Config:
        op = f"edit {self._path}"
        reading = read_config(draft)
        if reading.config is None:
            problems = "; ".join(
                f"{problem.text}{problem.hint and f' ({problem.hint})'}" for problem in reading.problems
            )
            raise ConfigError(op, problems)
        plan_all(Preparer(self._path.parent).all(reading.config.devices))
        return reading.config


def read_only(path: Path) -> str:
    """Why a configuration's file is not this gateway's to write; empty: it is."""
    if path.is_symlink():
        return "the file is a link: it is managed elsewhere, change it there"
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return "the file or its folder is read-only for the gateway: it is managed elsewhere, change it there"
    return ""


def replace_text(path: Path, text: str, check: Callable[[Path], object] = lambda _: None) -> None:
    """Replace a file whole and at once, its mode kept, when ``check`` takes the draft. Raises ``OSError``."""
    replace_file(path, text.encode(), mode=path.stat().st_mode & 0o777, check=check)


class _Item:
    """One entry of the list: its lines from ``start`` up to ``stop``, and what stands before its keys."""

    __slots__ = ("dash", "id", "start", "stop")

    def __init__(self, name: str, start: int, stop: int, dash: str) -> None:
        self.id = name
        self.start = start
        self.stop = stop
        self.dash = dash


def _with(
    lines: list[str], items: Sequence[_Item], entry: Mapping[str, object], instead: _Item | None = None
) -> tuple[list[str], int]:
    """The lines with a device added, or in another's place, and its number."""
    if instead is not None:
        return [*lines[: instead.start], instead.dash + one_line(entry), *lines[instead.stop :]], items.index(instead)
    if items:
        last = items[-1]
        return [*lines[: last.stop], last.dash + one_line(entry), *lines[last.stop :]], len(items)
    kept = [line for line in lines if not re.match(r"devices:\s*\[\s*\]\s*(#.*)?$", line)]
    return [*kept, "devices:", f"  - {one_line(entry)}"], 0


def _item(lines: Sequence[str], start: int, name: str) -> _Item:
    """The entry whose dash stands in this line; comments and blank lines behind it are not its own."""
    indent = len(lines[start]) - len(lines[start].lstrip())
    stop = row = start + 1
    while row < len(lines):
        text = lines[row].lstrip()
        if text and not text.startswith("#"):
            if len(lines[row]) - len(text) <= indent:
                break
            stop = row + 1
        row += 1
    return _Item(name, start, stop, " " * indent + "- ")


def one_line(value: object) -> str:
    """A value as YAML on one line; JSON where a plain word would not be read as that text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{one_line(str(key))}: {one_line(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(one_line, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
