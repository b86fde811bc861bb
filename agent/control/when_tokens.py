"""The words of a condition's text, and what is said where one is wrong."""

import math
import re
from dataclasses import dataclass

from agent.core.errors import ConfigError
from agent.core.model import Number

MAX_CHARS = 1000
MIN_DURATION_S, MAX_DURATION_S = 0.001, 31_622_400.0  # 366 days

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
_TOKEN = re.compile(
    r"(?P<blank>\s+)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_.-]))"
    rf"|(?P<word>{_NAME}(?:\.{_NAME})*)"
    r"""|(?P<text>"[^"]*"|'[^']*')"""
    r"|(?P<sign><=|>=|==|!=|[<>()+\-*/,])"
)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|min|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86_400}
_INSTEAD = {
    "=": "write `==`",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`, or `!=` to compare",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "%": "numbers stand without their unit",
    "°": "numbers stand without their unit",
    '"': "close the quotes",
    "'": "close the quotes",
    ";": "write `and` or `or`",
}


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: number, word, text, sign or end."""

    kind: str
    text: str
    column: int  # from 1


def refused(column: int, reason: str, hint: str) -> ConfigError:
    """What is raised about a column of the text (from 1)."""
    return ConfigError(f"condition, column {column}", reason, hint)


def tokens_of(text: str) -> list[Token]:
    """The text in words, with one that says where it ends. Raises ``ConfigError``."""
    if len(text) > MAX_CHARS:
        raise refused(MAX_CHARS + 1, f"it is longer than {MAX_CHARS} characters", "make several alarms or rules of it")
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise refused(at + 1, f"`{text[at]}` means nothing here", _INSTEAD.get(text[at], "take it out"))
        kind = match.lastgroup or ""
        if kind != "blank":
            found.append(Token(kind, match.group(), at + 1))
        at = match.end()
    found.append(Token("end", "", len(text) + 1))
    return found


def number_of(token: Token) -> Number:
    """The finite number that a token says. Raises ``ConfigError``."""
    value = float(token.text)
    if not math.isfinite(value):
        raise refused(token.column, "a number is too large", "write one that a device could send")
    return int(token.text) if token.text.isdecimal() else value


def seconds_of(token: Token) -> Number | None:
    """A duration, from a number of seconds or ``5min``; None where it is none."""
    match = _DURATION.fullmatch(token.text)
    seconds = number_of(token) if token.kind == "number" else float(match[1]) * _UNITS_S[match[2]] if match else None
    return int(seconds) if seconds is not None and seconds == int(seconds) else seconds


def is_name(text: str) -> bool:
    """Whether a text can be the name of a device."""
    return re.fullmatch(_NAME, text) is not None


def is_duration(word: str) -> bool:
    """Whether a word says how long, with its unit."""
    return _DURATION.fullmatch(word) is not None
