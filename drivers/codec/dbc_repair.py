"""Statements of a DBC file -> text that cantools accepts, with a finding for everything that was repaired or dropped.

Rules of this file:

1. Only what decoding needs is passed on: messages, signals, their value tables, types, multiplexing and comments, and
   five attributes. Trouble anywhere else in a file therefore never costs a message.
2. In the text, messages are called ``M<line>`` and signals ``S0``, ``S1``... in each; ``dbc.py`` gives the names back.
   So any name works, and a reference to something unknown is found here.
3. The smallest thing is dropped: one entry of a value table before the table, the table before the signal, the signal
   before the message. Only a wrong reading would be worse, so a signal whose type or condition is unreadable goes.
4. Numbers are limited before cantools sees them: it would build tables as large as a mistyped number says.
"""

import re
from collections.abc import Iterable
from math import isfinite

from drivers.codec.dbc_document import Document, Findings, MessageText, Note, SignalText, integer, whole
from drivers.codec.dbc_multiplex import multiplexing_is_usable
from drivers.codec.dbc_scan import Broken, Statement, is_keyword

#: The longest payload that any transport over CAN carries in one message (ISO 15765-2 without escape sequence), bytes.
MAX_LENGTH = 4095
#: Signals of one message, in all states of its multiplexers.
MAX_SIGNALS = 4096

EXTENDED_FLAG = 1 << 31
_STANDARD_IDS = 1 << 11
_EXTENDED_IDS = 1 << 29
#: Where tools put signals that belong to no message: id 0xC0000000.
_INDEPENDENT = "VECTOR__INDEPENDENT_SIG_MSG"
_INDEPENDENT_ID = 0xC000_0000

_ATTRIBUTES = frozenset(
    {"GenMsgCycleTime", "ProtocolType", "SystemMessageLongSymbol", "SystemSignalLongSymbol", "VFrameFormat"}
)
#: SIG_VALTYPE_: 1 is a single, 2 a double; cantools takes the size from the signal, and so do we.
_FLOAT_TYPES = frozenset({"1", "2"})
_FLOAT_LENGTHS = frozenset({16, 32, 64})
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PAIR = re.compile(r'\s*([-+]?[\w.+-]+)\s*("(?:\\"|[^"])*+")')
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
_IS_SELECTOR = re.compile(r"\s[mM]\S*$")

#: Within these a physical value that is no whole number stays below the largest float (1.8e308).
_SCALABLE_BITS = 512
_SCALABLE = 1e150


def repair(statements: Iterable[Statement | Broken], findings: Findings) -> Document:
    """The usable part of a file; what is not goes to ``findings``."""
    return _Repair(findings).run(list(statements))


class _Repair:
    """One file being repaired."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._by_id: dict[int, MessageText] = {}  #: by the number that the file writes
        self._file_ids: dict[int, int] = {}  #: id with the flag it should have -> number that the file writes
        self._dropped: set[int] = set()
        self._document = Document()
        self._defined: set[str] = set()

    def run(self, statements: list[Statement | Broken]) -> Document:
        """All of it: definitions first, because a file may speak of a message before it defines it."""
        self._definitions(statements)
        handlers = {
            "VAL_": self._value_table,
            "SIG_VALTYPE_": self._value_type,
            "SG_MUL_VAL_": self._mux_values,
            "CM_": self._comment,
            "BA_": self._attribute,
        }
        for statement in statements:
            if isinstance(statement, Statement) and statement.kind in handlers:
                handlers[statement.kind](statement)
        messages = [message for message in self._by_id.values() if multiplexing_is_usable(message, self._findings)]
        self._document.messages = sorted(messages, key=lambda message: message.line)
        return self._document

    def _definitions(self, statements: list[Statement | Broken]) -> None:
        """Messages, signals and attribute definitions; broken statements."""
        current: MessageText | None = None
        inside = False  # behind a BO_, usable or not
        for statement in statements:
            if isinstance(statement, Broken):
                self._broken(statement)
                inside = inside or statement.kind == "BO_"
                current = None if statement.kind == "BO_" else current
            elif statement.kind == "BO_":
                current, inside = self._message(statement), True
            elif statement.kind == "SG_" and current is not None:
                self._signal(current, statement)
            elif statement.kind == "SG_" and not inside:
                text = f"signal {statement.part('name')!r} stands outside of any message"
                self._findings.error(statement.line, text, "put it under its BO_ line")
            elif statement.kind in {"BA_DEF_", "BA_DEF_DEF_"} and statement.part("attribute") in _ATTRIBUTES:
                self._document.attributes.append(Note(statement.line, statement.text))
                if statement.kind == "BA_DEF_":
                    self._defined.add(statement.part("attribute"))

    def _broken(self, broken: Broken) -> None:
        hint = "the file seems to be cut off here" if broken.is_last else "correct or remove it"
        if not broken.kind:
            self._findings.warning(broken.line, f"text outside of any statement: {broken.text!r}", hint)
        elif broken.kind in {"BO_", "SG_"}:
            what = "message" if broken.kind == "BO_" else "signal"
            self._findings.error(broken.line, f"{what} definition can't be read: {broken.text!r}", hint)
        else:
            self._findings.warning(broken.line, f"{broken.kind} can't be read and is ignored: {broken.text!r}", hint)

    def _message(self, statement: Statement) -> MessageText | None:
        name, line = statement.part("name"), statement.line
        file_id = whole(statement.part("id"), 1 << 32)
        if name == _INDEPENDENT or file_id == _INDEPENDENT_ID:
            self._dropped.add(_INDEPENDENT_ID)
            return None
        dbc_id = self._identifier(name, statement.part("id"), file_id, line)
        length = whole(statement.part("length"), MAX_LENGTH + 1)
        if length is None:
            text = f"message {name!r} has the length {statement.part('length')!r}"
            self._findings.error(line, text, f"write the number of its payload bytes, 0 to {MAX_LENGTH}")
        if dbc_id is None or length is None or file_id is None:
            if file_id is not None and file_id not in self._by_id:
                self._dropped.add(file_id)
            return None
        self._odd_name("message", name, line)
        message = MessageText(name, f"M{line}", line, dbc_id, length)
        earlier = self._file_ids.get(dbc_id)
        if earlier is not None:
            known = self._by_id.pop(earlier)
            text = (
                f"message id {dbc_id} is used twice: {known.name!r} in line {known.line} is left out, {name!r} counts"
            )
            self._findings.error(line, text, "remove one of the two or correct its id")
        self._file_ids[dbc_id] = file_id
        self._by_id[file_id] = message
        return message

    def _identifier(self, name: str, written: str, file_id: int | None, line: int) -> int | None:
        """The id with flag that the message gets; None when there is none that it could have."""
        if file_id is None:
            hint = "write a decimal number, plus 2147483648 for a 29-bit identifier"
            self._findings.error(line, f"message {name!r} has the id {written!r}, which is none", hint)
            return None
        identifier = file_id & ~EXTENDED_FLAG
        if file_id & EXTENDED_FLAG:
            if identifier < _EXTENDED_IDS:
                return file_id
        elif identifier < _STANDARD_IDS:
            return file_id
        elif identifier < _EXTENDED_IDS:
            text = f"message {name!r} has the id {file_id} (0x{identifier:X}): more than 11 bits; taken as a 29-bit one"
            self._findings.warning(line, text, f"write {file_id | EXTENDED_FLAG}, if it is a 29-bit identifier")
            return file_id | EXTENDED_FLAG
        text = f"message {name!r} has the id {file_id} (0x{identifier:X}), out of the range of 29 bits"
        self._findings.error(line, text, "correct the id")
        return None

    def _signal(self, message: MessageText, statement: Statement) -> None:
        name, line = statement.part("name"), statement.line
        wrong = _unusable(statement)
        if len(message.signals) >= MAX_SIGNALS:
            wrong = f"the message has more than {MAX_SIGNALS} signals"
        if wrong:
            text = f"signal {name!r} of message {message.name!r}: {wrong}; the signal is left out"
            self._findings.error(line, text, "correct the line")
            message.dropped.add(name)
            return
        self._odd_name(f"message {message.name!r}: signal", name, line)
        signal = SignalText(name, f"S{len(message.signals)}", line, statement, statement.part("mux"))
        message.signals.append(signal)
        message.by_name.setdefault(name, signal)

    def _odd_name(self, what: str, name: str, line: int) -> None:
        if is_keyword(name) or not _PLAIN_NAME.fullmatch(name):
            hint = "use letters, digits and _ and begin with a letter, so that other tools accept it too"
            self._findings.warning(line, f"{what} {name!r}: not a valid DBC name, used as it is", hint)

    def _find(self, statement: Statement, what: str) -> tuple[MessageText, SignalText] | None:
        """The message and signal that a statement is about; else a finding, unless what it is about was dropped."""
        name = statement.part("name")
        file_id = whole(statement.part("id"), 1 << 32)
        message = self._by_id.get(file_id) if file_id is not None else None
        if message is not None:
            signal = message.by_name.get(name)
            if signal is not None:
                return message, signal
            if name not in message.dropped:
                text = f"{what} of unknown signal {name!r} of message {message.name!r}, ignored"
                self._findings.warning(statement.line, text, "correct the signal's name or remove the line")
        elif file_id == _INDEPENDENT_ID:
            text = f"{what} of signal {name!r} of the pseudo-message {file_id} ({_INDEPENDENT}), ignored"
            self._findings.warning(statement.line, text, "remove the line, or move the signal into a message")
        elif file_id not in self._dropped:
            text = f"{what} of signal {name!r} of unknown message {statement.part('id')}, ignored"
            self._findings.warning(statement.line, text, "correct the message's id or remove the line")
        return None

    def _value_table(self, statement: Statement) -> None:
        if not statement.part("id"):
            return  # of an environment variable
        found = self._find(statement, "value table")
        if found is None:
            return
        message, signal = found
        pairs = []
        for number, label in _PAIR.findall(statement.part("pairs")):
            value = integer(number)
            if value is None:
                text = f"value table of {message.name}.{signal.name}: {number!r} is no whole number, entry ignored"
                self._findings.warning(statement.line, text, "correct the number")
            else:
                pairs.append(f"{value} {label}")
        if pairs:
            signal.choices = len(pairs)
            signal.notes.append(Note(statement.line, f"VAL_ {message.dbc_id} {signal.alias} {' '.join(pairs)} ;"))

    def _value_type(self, statement: Statement) -> None:
        found = self._find(statement, "value type")
        if found is None or statement.part("type") not in _FLOAT_TYPES:
            return
        message, signal = found
        if signal.length in _FLOAT_LENGTHS:
            signal.is_float = True
            signal.notes.append(
                Note(statement.line, f"SIG_VALTYPE_ {message.dbc_id} {signal.alias} : {statement.part('type')};")
            )
            return
        text = f"signal {message.name}.{signal.name} is a float of {signal.length} bits, which do not exist; left out"
        self._findings.error(statement.line, text, "give it 16, 32 or 64 bits, or remove the SIG_VALTYPE_ line")
        message.drop(signal)

    def _mux_values(self, statement: Statement) -> None:
        found = self._find(statement, "multiplexer values")
        if found is None:
            return
        message, signal = found
        multiplexer = message.by_name.get(statement.part("multiplexer"))
        if multiplexer is None or not multiplexer.marker.endswith("M"):
            text = f"{message.name}.{signal.name} depends on {statement.part('multiplexer')!r}, which is no multiplexer"
            self._findings.warning(statement.line, f"{text} of the message", "correct the name, or mark it with M")
            return
        ranges = []
        for low_text, high_text in _RANGE.findall(statement.part("ranges")):
            low, high = whole(low_text, 1 << 64), whole(high_text, 1 << 64)
            if low is None or high is None or low > high:
                text = (
                    f"multiplexer values of {message.name}.{signal.name}: {low_text}-{high_text} is no range, ignored"
                )
                self._findings.warning(statement.line, text, "write the smaller number first")
            else:
                ranges.append((low, high))
        if ranges:
            signal.ranges.append((multiplexer.alias, tuple(ranges)))

    def _comment(self, statement: Statement) -> None:
        self._note(statement, "CM_", statement.part("text"))

    def _attribute(self, statement: Statement) -> None:
        attribute, value = statement.part("attribute"), statement.part("value")
        if attribute not in _ATTRIBUTES:
            return
        if attribute not in self._defined:
            text = f"attribute {attribute!r} is used but not defined, ignored"
            self._findings.warning(statement.line, text, "add its BA_DEF_ line")
        elif statement.part("message") or statement.part("id"):
            self._note(statement, f'BA_ "{attribute}"', value)
        else:
            self._document.attributes.append(Note(statement.line, f'BA_ "{attribute}" {value};'))

    def _note(self, statement: Statement, says: str, value: str) -> None:
        """Keep what is said about a known message or signal."""
        file_id = whole(statement.part("message") or statement.part("id"), 1 << 32)
        message = self._by_id.get(file_id) if file_id is not None else None
        if message is None:
            return
        if statement.part("message"):
            message.notes.append(Note(statement.line, f"{says} BO_ {message.dbc_id} {value};"))
            return
        signal = message.by_name.get(statement.part("name"))
        if signal is not None:
            signal.notes.append(Note(statement.line, f"{says} SG_ {message.dbc_id} {signal.alias} {value};"))


def _unusable(statement: Statement) -> str:
    """Why a signal can't be used; empty when it can."""
    part = statement.part
    length, start = whole(part("length"), MAX_LENGTH * 8 + 1), whole(part("start"), MAX_LENGTH * 8)
    if not length or start is None:
        return f"{part('length')} bits from bit {part('start')} on are no place in a message"
    if _IS_SELECTOR.search(part("name")):
        return "its multiplexer mark is none of M, m<number>, m<number>M"
    scale, offset = float(part("scale")), float(part("offset"))
    if not isfinite(scale) or not isfinite(offset):
        return "scale or offset is too large for a number"
    exact = scale.is_integer() and offset.is_integer()
    if not exact and (length > _SCALABLE_BITS or abs(scale) > _SCALABLE or abs(offset) > _SCALABLE):
        return "its physical value is too large for a number"
    return ""
