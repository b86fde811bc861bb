"""A DBC file being repaired: what of it can be passed on to cantools, and what was found wrong."""

import re
from dataclasses import dataclass, field
from typing import Literal

from drivers.codec.dbc_model import Finding, Ranges
from drivers.codec.dbc_scan import NUMBER, Statement

MAX_FINDINGS = 1000
_NUMBER = re.compile(NUMBER)
_INTEGER = re.compile(r"[-+]?\d{1,40}")


class Findings:
    """Collects findings of one file, up to a limit."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[Finding] = []
        self._more = 0
        self._more_errors = False

    def error(self, line: int, text: str, hint: str) -> None:
        """Something that is not loaded."""
        self._add("error", line, text, hint)

    def warning(self, line: int, text: str, hint: str) -> None:
        """Something that is doubtful or was repaired."""
        self._add("warning", line, text, hint)

    def all(self) -> tuple[Finding, ...]:
        """All findings by line."""
        found = sorted(self._found, key=lambda finding: finding.line)
        if self._more:
            text, hint = f"{self._more} more findings", "repair those above first"
            found.append(Finding("error" if self._more_errors else "warning", self._file, 0, text, hint))
        return tuple(found)

    def _add(self, severity: Literal["error", "warning"], line: int, text: str, hint: str) -> None:
        if len(self._found) < MAX_FINDINGS:
            self._found.append(Finding(severity, self._file, line, text, hint))
            return
        self._more += 1
        self._more_errors = self._more_errors or severity == "error"


@dataclass(frozen=True, slots=True)
class Note:
    """A statement about something, ready to be passed on, and the line of the file that says so."""

    line: int
    text: str


@dataclass(slots=True)
class SignalText:
    """A signal that can be passed on. ``name`` is the one it has in the end, ``alias`` the one in the text."""

    name: str
    alias: str
    line: int
    definition: Statement
    marker: str
    notes: list[Note] = field(default_factory=list)
    ranges: list[tuple[str, Ranges]] = field(
        default_factory=list
    )  #: multiplexer's alias, its values, as SG_MUL_VAL_ says
    choices: int = 0
    is_float: bool = False

    @property
    def length(self) -> int:
        """Bits."""
        return int(self.definition.part("length"))

    def text(self) -> str:
        """The ``SG_`` line."""
        part = self.definition.part
        low, high = part("minimum").strip(), part("maximum").strip()
        known = _NUMBER.fullmatch(low) and _NUMBER.fullmatch(high)
        limits = f"[{_decimal(low)}|{_decimal(high)}]" if known else "[0|0]"  # [0|0] says: no limits
        scaling = f"({_decimal(part('scale'))},{_decimal(part('offset'))})"
        order = "0" if part("order") == "0" else "1"
        place = f"{part('start')}|{part('length')}@{order}{part('sign')}"
        marker = f" {self.marker}" if self.marker else ""
        return f" SG_ {self.alias}{marker} : {place} {scaling} {limits} {part('unit') or chr(34) * 2} Vector__XXX"


@dataclass(slots=True)
class MessageText:
    """A message that can be passed on."""

    name: str
    alias: str
    line: int
    dbc_id: int  #: as the text has it: with flag
    length: int
    signals: list[SignalText] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    by_name: dict[str, SignalText] = field(default_factory=dict)  #: by the file's own names
    dropped: set[str] = field(default_factory=set)  #: signals that were left out: what refers to them is no new fault

    def drop(self, signal: SignalText) -> None:
        """Leave a signal out."""
        self.signals.remove(signal)
        self.by_name.pop(signal.name, None)
        self.dropped.add(signal.name)

    def head(self) -> str:
        """The ``BO_`` line, with room for every signal: what reaches outside is judged later."""
        needed = max((_end_byte(signal.definition) for signal in self.signals), default=0)
        return f"BO_ {self.dbc_id} {self.alias}: {max(self.length, needed)} Vector__XXX"

    def text(self) -> str:
        """All its statements."""
        notes = [note.text for note in self.notes]
        notes += [note.text for signal in self.signals for note in signal.notes]
        return "\n".join([self.head(), *(s.text() for s in self.signals), *notes, *self.mux_text()])

    def mux_text(self) -> list[str]:
        """Extended multiplexing, each range as its first value only: ``dbc.py`` puts the whole ranges back."""
        return [
            f"SG_MUL_VAL_ {self.dbc_id} {signal.alias} {multiplexer} {', '.join(f'{low}-{low}' for low, _ in ranges)};"
            for signal in self.signals
            for multiplexer, ranges in signal.ranges
        ]


@dataclass(slots=True)
class Document:
    """What is left of a file: messages in its order, and the attributes' definitions."""

    messages: list[MessageText] = field(default_factory=list)
    attributes: list[Note] = field(default_factory=list)


def _end_byte(statement: Statement) -> int:
    """How many bytes hold all bits of a signal, see ``SignalDef.end_byte``."""
    start, length = int(statement.part("start")), int(statement.part("length"))
    first = start // 8 * 8 + 7 - start % 8 if statement.part("order") == "0" else start
    return (first + length + 7) // 8


def _decimal(text: str) -> str:
    """A number as cantools reads it: with a digit before the point."""
    return re.sub(r"^([-+]?)\.", r"\g<1>0.", text)


def whole(text: str, limit: int) -> int | None:
    """A decimal or 0x number below ``limit``; None for anything else."""
    if not re.fullmatch(r"\d{1,30}|0[xX][0-9a-fA-F]{1,20}", text, re.ASCII):
        return None
    value = int(text, 16) if text[1:2] in {"x", "X"} else int(text)
    return value if value < limit else None


def integer(text: str) -> int | None:
    """A whole number with sign, also written 1.0 or 0x1; None for anything else."""
    if _INTEGER.fullmatch(text):
        return int(text)
    hexadecimal = whole(text, 1 << 64)
    if hexadecimal is not None:
        return hexadecimal
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
