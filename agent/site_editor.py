"""Changes of the site's configuration file by the program: devices added, replaced and taken out.

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
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.config import Config, read_config
from agent.core.errors import ConfigError
from agent.devices import Preparer, plan_all

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
#: Plain words that YAML reads as something else.
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "inf", "nan"}
_ONE_LINE = "`devices:` is written in brackets: write it as a list, one `- ` a device"


class SiteEditor:
    """Edits one file. Blocks on the disk for some ms; thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def add(self, entry: Mapping[str, object]) -> Config:
        """Add a device; the configuration as it is then. Raises ``ConfigError``."""
        with self._lock:
            lines, items = self._read()
            if items:
                last = items[-1]
                return self._write([*lines[: last.stop], last.dash + _flow(entry), *lines[last.stop :]])
            kept = [line for line in lines if not re.match(r"devices:\s*\[\s*\]\s*(#.*)?$", line)]
            return self._write([*kept, "devices:", f"  - {_flow(entry)}"])

    def replace(self, device: str, entry: Mapping[str, object]) -> Config:
        """Give a device other keys; comments inside its entry go. Raises ``ConfigError``."""
        with self._lock:
            lines, items = self._read()
            item = self._find(items, device)
            return self._write([*lines[: item.start], item.dash + _flow(entry), *lines[item.stop :]])

    def remove(self, device: str) -> Config:
        """Take a device out. Raises ``ConfigError``."""
        with self._lock:
            lines, items = self._read()
            item = self._find(items, device)
            kept = [*lines[: item.start], *lines[item.stop :]]
            if len(items) == 1:
                kept = [line for line in kept if not re.match(r"devices:\s*(#.*)?$", line)]
            return self._write(kept)

    def _find(self, items: Sequence["_Item"], device: str) -> "_Item":
        for item in items:
            if item.id == device:
                return item
        raise ConfigError(f"edit {self._path}", f"there is no device {device}", "see /api/devices")

    def _read(self) -> tuple[list[str], list["_Item"]]:
        """The file's lines, and where its devices stand in them."""
        reading = read_config(self._path)
        if reading.config is None or reading.document is None:
            raise ConfigError(f"edit {self._path}", "\n" + "\n".join(map(str, reading.problems)), "mend the file first")
        lines = self._path.read_text().splitlines()
        items: list[_Item] = []
        for index, device in enumerate(reading.config.devices):
            row = reading.document.tree.values["devices", index][0] - 1
            while not lines[row].lstrip().startswith("-"):
                row -= 1
                if row < 0 or lines[row].lstrip().startswith("devices:"):
                    raise ConfigError(f"edit {self._path}", _ONE_LINE)
            items.append(_item(lines, row, device.id))
        return lines, items

    def _write(self, lines: Sequence[str]) -> Config:
        try:
            return self._put("\n".join(lines) + "\n")
        except OSError as error:
            hint = f"make {self._path} and its folder writable for the gateway's user, or edit the file by hand"
            raise ConfigError(f"edit {self._path}", error.strerror or str(error), hint) from error

    def _put(self, text: str) -> Config:
        # Beside the file, so that relative paths in it mean the same and the rename stays on one file system.
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}-", suffix=".yaml", dir=self._path.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            config = self._checked(draft)
            draft.chmod(self._path.stat().st_mode & 0o777)
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return config

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


class _Item:
    """One entry of the list: its lines from ``start`` up to ``stop``, and what stands before its keys."""

    __slots__ = ("dash", "id", "start", "stop")

    def __init__(self, name: str, start: int, stop: int, dash: str) -> None:
        self.id = name
        self.start = start
        self.stop = stop
        self.dash = dash


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


def _flow(value: object) -> str:
    """A value as YAML on one line; JSON where a plain word would not be read as that text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
