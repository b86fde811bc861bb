"""OCPP-J messages: text to frames and back (OCPP-J 1.6, 4; OCPP 2.0.1 part 4, 4; OCPP 2.1 part 4, 4).

Rules of this file:

1. ``unpack`` never raises, whatever comes, and its cost is bounded: by the length of the text, by the depth of its
   nesting, by the digits of its numbers. A frame that can't be used is a ``BadFrame``.
2. What does no harm is tolerated, for real chargers send it: control characters and NULs inside strings, bytes that
   are no UTF-8, a byte order mark, a number as message id, a payload that is null or not there, further elements.
3. What comes out is safe to hand on: strings hold no NUL and no lone surrogate, numbers are finite (NaN, Infinity and
   1e999 become null), of a key that stands twice in an object the last one counts.
4. A CALL that can't be used still shows its message id wherever it can be read: its sender waits for an answer.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: OCPP sets no limit; signed meter values and reports reach some 100 KiB.
MAX_BYTES = 1 << 20
#: The deepest message of OCPP 2.1 has about ten levels.
MAX_DEPTH = 64
#: The standard says 36 (OCPP-J 1.6, 4.1.4); the answer bears what came.
MAX_ID = 255
MAX_ACTION = 64
#: What fits into no float and no counter is no number of a charger.
MAX_DIGITS = 40
#: How much of a bad frame is shown.
SAMPLE = 200

CALL, RESULT, ERROR, RESULT_ERROR, SEND = 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class CallFrame:
    """A request. ``send``: 2.1's SEND, which is not answered."""

    id: str
    action: str
    payload: Mapping[str, object]
    send: bool = False


@dataclass(frozen=True, slots=True)
class ResultFrame:
    """The answer to a CALL."""

    id: str
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """An error instead of an answer. ``of_result``: 2.1's CALLRESULTERROR, the other side can't use our answer."""

    id: str
    code: str
    description: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    of_result: bool = False


@dataclass(frozen=True, slots=True)
class BadFrame:
    """What can't be used. ``sample`` is its beginning, with backslashes for what can't be printed.

    ``id`` is the message id where it can be read. ``reply``: it is or may be a CALL, whose sender waits for an answer.
    """

    reason: str
    sample: str = ""
    id: str | None = None
    reply: bool = False


Frame = CallFrame | ResultFrame | ErrorFrame | BadFrame


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _nothing(_: str) -> None:
    """NaN and Infinity, which are not JSON."""


_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_whole, parse_constant=_nothing, strict=False)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

#: Escapes that give a NUL or half of a character; and all escapes, so that `\\\\u0000` is not taken for one of them.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_HALF = re.compile("[\ud800-\udfff]")
_HEAD = re.compile(r'\s*\[\s*(\d{1,3})\s*,\s*(?:"((?:[^"\\]|\\.){0,1024})"|(\d{1,40}))\s*[,\]]', re.DOTALL)


def unpack(text: str | bytes, max_bytes: int = MAX_BYTES) -> Frame:
    """The frame in a WebSocket message; ``BadFrame`` when there is none. Never raises."""
    if len(text) > max_bytes:
        return BadFrame(f"longer than {max_bytes} bytes", _sample(text))
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    clean = _clean(text)
    try:
        message = _DECODER.decode(clean)
    except RecursionError:
        return _unread("nested too deep", clean)
    except ValueError as error:
        return _unread(error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:SAMPLE], clean)
    if not isinstance(message, list):
        return BadFrame("not a list", _sample(clean), reply=True)
    # Each level needs a bracket of its own: with few of them nothing can be deep.
    if clean.count("[") + clean.count("{") > MAX_DEPTH and _deep(message):
        return _unread("nested too deep", clean)
    return _frame(message, clean)


def pack_call(id: str, action: str, payload: Mapping[str, object]) -> str:  # noqa: A002 - the standard's word
    """A CALL. Raises ``ValueError`` when the payload is not JSON."""
    return _pack([CALL, id, action, payload])


def pack_result(id: str, payload: Mapping[str, object]) -> str:  # noqa: A002
    """A CALLRESULT. Raises ``ValueError`` when the payload is not JSON."""
    return _pack([RESULT, id, payload])


def pack_error(id: str, code: str, description: str = "") -> str:  # noqa: A002
    """A CALLERROR with empty details; the description is cut to the 255 characters that the standard allows."""
    return _pack([ERROR, id, code, description[:255], {}])


def _pack(message: list[object]) -> str:
    try:
        return _ENCODER.encode(message)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


def _clean(text: str) -> str:
    """The text without NULs, halves of characters and a byte order mark."""
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        text = text.replace("\0", "")
    if not text.isascii():
        text = _HALF.sub("\ufffd", text)
    if "\\u" in text and _SUSPECT.search(text):
        text = _ESCAPE.sub(_escape, text)
    return text


def _escape(match: re.Match[str]) -> str:
    escape = match[0]
    if len(escape) == len(r"\u0000") and _SUSPECT.match(escape):
        return "" if escape == r"\u0000" else r"\ufffd"
    # Cut short, and it stays wrong: else it would be completed by what stands behind a NUL.
    return r"\x" if escape == r"\u" else escape


def _deep(message: list[object]) -> bool:
    """Whether it is nested deeper than ``MAX_DEPTH``, found level by level."""
    level: list[object] = [message]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _frame(message: list[object], text: str) -> Frame:
    kind = message[0] if message else None
    name = _id(message[1]) if len(message) > 1 else None
    # `type`, for True and 2.0 equal the numbers of message types.
    if type(kind) is not int or not CALL <= kind <= SEND:
        # OCPP-J 1.6, 4.1.3: the message is ignored.
        return BadFrame("no message type that there is", _sample(text), name)
    reply = kind == CALL
    if name is None:
        return BadFrame("no message id", _sample(text), reply=reply)
    rest = message[2:]
    if kind in (CALL, SEND):
        return _call(name, rest, text, send=kind == SEND)
    if kind == RESULT:
        payload = rest[0] if rest else None
        if not isinstance(payload, dict):
            return BadFrame("an answer that is no object", _sample(text), name)
        return ResultFrame(name, payload)
    code, description, details = (*rest, None, None, None)[:3]
    return ErrorFrame(
        name,
        code if isinstance(code, str) else "",
        description if isinstance(description, str) else "",
        details if isinstance(details, dict) else {},
        of_result=kind == RESULT_ERROR,
    )


def _call(name: str, rest: list[object], text: str, *, send: bool) -> Frame:
    action = rest[0] if rest else None
    payload = rest[1] if len(rest) > 1 else None
    if not isinstance(action, str) or not 0 < len(action) <= MAX_ACTION:
        return BadFrame("no action", _sample(text), name, reply=not send)
    if payload is None or payload == []:
        payload = {}  # Heartbeat has nothing to say, and some write that as null
    if not isinstance(payload, dict):
        return BadFrame("a payload that is no object", _sample(text), name, reply=not send)
    return CallFrame(name, action, payload, send)


def _id(value: object) -> str | None:
    """A message id; a whole number is taken as text."""
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) and len(value) <= MAX_ID else None


def _unread(reason: str, text: str) -> BadFrame:
    """A message that is not JSON: its head may still tell whose it is."""
    head = _HEAD.match(text)
    if head is None:
        return BadFrame(reason, _sample(text), reply=True)
    name: str | None = head[3]
    if name is None:
        try:
            name = _id(_DECODER.decode(f'"{head[2]}"'))
        except ValueError:
            name = None
    return BadFrame(reason, _sample(text), name, reply=int(head[1]) == CALL)


def _sample(text: str | bytes) -> str:
    start = text[:SAMPLE]
    if isinstance(start, bytes):
        start = start.decode("utf-8", "backslashreplace")
    return start.encode("unicode_escape").decode("ascii")[: 2 * SAMPLE]
