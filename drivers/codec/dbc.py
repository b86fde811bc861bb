"""DBC files, loaded tolerantly: every message that can be used works, and everything wrong is named and located.

The way of a file: text -> statements (``dbc_scan``) -> the usable ones, repaired (``dbc_repair``) -> cantools
(``dbc_convert``) -> checks (``dbc_checks``). Where cantools still refuses the text, each message is tried alone, and of
a refused one its parts, so that whatever the trouble is, it costs the smallest part that shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from drivers.codec.dbc_checks import check_places, unique_names, with_unique_signals
from drivers.codec.dbc_convert import REFUSALS, merged, parse
from drivers.codec.dbc_document import Document, Findings, MessageText, Note, SignalText
from drivers.codec.dbc_model import Dbc, Finding, MessageDef, Number, Ranges, SignalDef
from drivers.codec.dbc_repair import repair
from drivers.codec.dbc_scan import Statement, scan

__all__ = ["Dbc", "Finding", "MessageDef", "Number", "Ranges", "SignalDef", "load_dbc"]

#: How often cantools is asked about parts of files that it refuses, before the rest of such parts is dropped unseen.
_MAX_TRIALS = 3000

_Item = TypeVar("_Item")


def load_dbc(data: bytes, name: str) -> Dbc:
    """The messages and findings of a DBC file; ``name`` is what findings call it. Never raises for any content."""
    findings = Findings(name)
    statements = list(scan(_text(data)))
    if not any(isinstance(statement, Statement) for statement in statements):
        findings.error(0, "no DBC statement in this file", "is it a DBC file?")
        return Dbc(name, (), findings.all())  # what else it is may be secret: nothing of it is repeated
    document = repair(statements, findings)
    messages = _Loader(document, findings).messages()
    return Dbc(name, tuple(messages), findings.all())


def _text(data: bytes) -> str:
    """Text of a file in UTF-8, UTF-16 with its mark, or else Windows-1252, where DBC comes from."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _Loader:
    """Brings the text of a document through cantools and the names back."""

    def __init__(self, document: Document, findings: Findings) -> None:
        self._document = document
        self._findings = findings
        self._attributes = document.attributes
        self._trials = 0

    def messages(self) -> list[MessageDef]:
        """All messages that cantools accepts, under their names."""
        texts = self._document.messages
        loaded = self._load(texts)
        if loaded is not None:
            return self._finished(list(zip(texts, loaded, strict=True)))
        kept, refused = self._kept(self._attributes, lambda some: self._load((), some) is not None)
        self._attributes = kept
        for note in refused:
            self._findings.warning(note.line, f"can't be used and is ignored: {note.text!r}", "correct or remove it")
        return self._finished([(text, message) for text in texts if (message := self._alone(text)) is not None])

    def _load(self, texts: Sequence[MessageText], attributes: Sequence[Note] | None = None) -> list[MessageDef] | None:
        """What cantools makes of some messages; None when it refuses them."""
        notes = self._attributes if attributes is None else attributes
        lines = [*(note.text for note in notes), *(text.text() for text in texts)]
        try:
            loaded = parse("\n".join(lines)) if lines else []
        except REFUSALS:
            return None
        return loaded if len(loaded) == len(texts) else None

    def _kept(self, items: Sequence[_Item], accepts: Callable[[list[_Item]], bool]) -> tuple[list[_Item], list[_Item]]:
        """The items that are accepted together, in their order, and the refused ones: found by halving."""
        kept: list[_Item] = []
        refused: list[_Item] = []
        groups = [list(items)]
        while groups:
            group = groups.pop()
            self._trials += 1
            if group and self._trials <= _MAX_TRIALS and accepts([*kept, *group]):
                kept += group
            elif len(group) <= 1 or self._trials > _MAX_TRIALS:
                refused += group
            else:
                middle = len(group) // 2
                groups += [group[middle:], group[:middle]]
        return kept, refused

    def _alone(self, message: MessageText) -> MessageDef | None:
        """A message without the others, and of a refused one what can be kept: ``message`` is left with that."""
        loaded = self._load([message])
        if loaded is not None:
            return loaded[0]
        owners: list[MessageText | SignalText] = [message, *message.signals]
        notes = [(owner, note) for owner in owners for note in owner.notes]
        for owner in owners:
            owner.notes = []
        self._keep_signals(message)
        self._keep_notes(message, notes)
        loaded = self._load([message])
        if loaded is None:
            text = f"message {message.name!r} can't be loaded and is left out"
            self._findings.error(message.line, text, "check its BO_ line")
            return None
        return loaded[0]

    def _keep_signals(self, message: MessageText) -> None:
        signals, refused = self._kept(
            message.signals, lambda some: self._load([replace(message, signals=some)]) is not None
        )
        message.signals = signals
        for signal in refused:
            text = f"signal {message.name}.{signal.name} can't be loaded and is left out"
            self._findings.error(signal.line, text, "check its SG_ line and its multiplexer values")

    def _keep_notes(self, message: MessageText, notes: Sequence[tuple[MessageText | SignalText, Note]]) -> None:
        """Give back what is said about a message and its signals, as far as it is accepted."""
        owners: list[MessageText | SignalText] = [message, *message.signals]

        def give(some: Sequence[tuple[MessageText | SignalText, Note]]) -> bool:
            for owner in owners:
                owner.notes = [note for about, note in some if about is owner]
            return self._load([message]) is not None

        present = {id(owner) for owner in owners}
        kept, refused = self._kept([(owner, note) for owner, note in notes if id(owner) in present], give)
        give(kept)
        for _, note in refused:
            text = f"message {message.name!r}: can't be used and is ignored: {note.text!r}"
            self._findings.warning(note.line, text, "correct or remove it")

    def _finished(self, pairs: Sequence[tuple[MessageText, MessageDef]]) -> list[MessageDef]:
        """The messages under their own names, each name used once, with their places checked."""
        named = [_named(text, message) for text, message in pairs]
        result = []
        for (text, _), message, name in zip(pairs, named, unique_names([m.name for m in named]), strict=True):
            if name != message.name:
                what = f"message {message.name!r} is defined twice, with different ids; this one is called {name!r}"
                self._findings.warning(text.line, what, "give each message its own name")
            lines = [signal.line for signal in text.signals]
            finished = with_unique_signals(replace(message, name=name), lines, self._findings)
            check_places(finished, lines, self._findings)
            result.append(finished)
        return result


def _named(text: MessageText, message: MessageDef) -> MessageDef:
    """A message as cantools loaded it, with the file's names, length and multiplexer ranges."""
    signals = []
    names = {signal.alias: signal.name for signal in text.signals}
    for source, signal in zip(text.signals, message.signals, strict=True):
        if signal.name != source.alias:
            names[source.alias] = signal.name  # the file gives it a long name
    for source, signal in zip(text.signals, message.signals, strict=True):
        # The text had the first value of each range: put the rest behind those that cantools took.
        known = {low for low, _ in signal.mux_values}
        whole = [r for alias, ranges in source.ranges if alias == signal.multiplexer for r in ranges]
        values = merged([*signal.mux_values, *whole]) if known else signal.mux_values
        multiplexer = None if signal.multiplexer is None else names.get(signal.multiplexer, signal.multiplexer)
        signals.append(replace(signal, name=names[source.alias], multiplexer=multiplexer, mux_values=values))
    # A multiplexer that decides over no signal still refuses values that its own value table does not name (cantools).
    deciding = {signal.multiplexer for signal in signals if signal.mux_values}
    for i, signal in enumerate(signals):
        decides = signal.name in deciding or bool(signal.choices)
        signals[i] = replace(signal, is_multiplexer=signal.is_multiplexer and decides)
    name = text.name if message.name == text.alias else message.name
    return replace(message, name=name, length=text.length, signals=tuple(signals))
