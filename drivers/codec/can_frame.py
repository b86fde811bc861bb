"""Decode CAN frames one at a time, with a Python function that is generated once for each message.

Rules of this file:

1. The result is exactly that of cantools' ``decode_message(..., decode_choices=False)``: the same keys, the same types,
   the same arithmetic. Data behind the message's length is ignored; a frame that is shorter is bad (cantools'
   defaults ``allow_excess=True``, ``allow_truncated=False``).
2. Where cantools can decode no frame at all, because signals overlap or reach outside of their message, each signal is
   read from its own bits; one that reaches outside is there only in frames that are long enough for it.
3. Generated source holds numbers that were checked here and nothing else from a file. It calls signal ``i`` "n<i>"; the
   names take the places of these constants in the compiled code.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from types import CodeType

from agent.core.model import BadFrame, Number
from drivers.codec.can_j1939 import by_pgn, by_pgn_and_source, pgn_of
from drivers.codec.can_source import Source
from drivers.codec.dbc_model import MessageDef

Decoded = dict[str, Number]

TOO_SHORT = BadFrame("too_short")
UNKNOWN_MULTIPLEXER = BadFrame("unknown_multiplexer")


class MessageCodec:
    """The decoder of one message. Building it generates and compiles its function."""

    def __init__(self, message: MessageDef) -> None:
        self.message = message
        self.source = Source(message).text()
        self.decode: Callable[[bytes], Decoded | BadFrame] = _compiled(self.source, message)
        self._labels: Mapping[str, Mapping[int, str]] = {s.name: s.choices for s in message.signals if s.choices}

    def labels(self, name: str) -> Mapping[int, str]:
        """The value table of a signal, raw value -> text; empty when it has none or there is no such signal."""
        return self._labels.get(name, {})


class FrameDecoder:
    """Finds the codec for an identifier. Of two messages with one identifier the later one counts, as in cantools."""

    def __init__(self, messages: Iterable[MessageDef]) -> None:
        self.messages = tuple(messages)
        self._codecs: dict[int, MessageCodec] = {}
        self._exact = {(message.frame_id, message.extended): i for i, message in enumerate(self.messages)}
        self._by_source = by_pgn_and_source(self.messages)
        self._by_pgn = by_pgn(self.messages)

    def find(self, can_id: int, extended: bool) -> MessageCodec | None:  # noqa: FBT001 - the pair is the identifier
        """The codec for an identifier without flags, or None. For the J1939 rules see ``can_j1939.py``."""
        index = self._exact.get((can_id, extended))
        if index is None and extended and self._by_pgn:
            pgn = pgn_of(can_id)
            index = self._by_source.get(pgn << 8 | can_id & 0xFF)
            if index is None:
                index = self._by_pgn.get(pgn)
        if index is None:
            return None
        codec = self._codecs.get(index)
        if codec is None:
            codec = self._codecs[index] = MessageCodec(self.messages[index])
        return codec


def _compiled(source: str, message: MessageDef) -> Callable[[bytes], Decoded | BadFrame]:
    scope: dict[str, Callable[..., Callable[[bytes], Decoded | BadFrame]]] = {}
    code = compile(source, f"<decoder of 0x{message.frame_id:x}>", "exec")
    names = {f"n{i}": signal.name for i, signal in enumerate(message.signals)}
    # The source was built by Source from checked numbers only (rule 3), so nothing of the file's text is executed.
    exec(_named(code, names), scope)  # noqa: S102 - see above; generated code is 5 times faster than any interpreter of the layout
    return scope["make"](struct.Struct, struct.error, bisect_right, TOO_SHORT, UNKNOWN_MULTIPLEXER)


def _named(code: CodeType, names: Mapping[str, str]) -> CodeType:
    """The code with its constants "n0", "n1"... replaced by signal names."""

    def replaced(constant: object) -> object:
        if isinstance(constant, CodeType):
            return _named(constant, names)
        if isinstance(constant, tuple):
            return tuple(replaced(part) for part in constant)
        return names.get(constant, constant) if isinstance(constant, str) else constant

    return code.replace(co_consts=tuple(replaced(constant) for constant in code.co_consts))
