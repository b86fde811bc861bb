"""DBC text -> statements with their lines, tolerating whatever stands between and inside of them.

Rules of this file:

1. A statement begins with a keyword at the start of a line, or right behind the one before. What fits its form is a
   ``Statement``; what does not is reported and skipped up to the next line that begins with a keyword, so one broken
   line costs one statement, and an open quote costs no more than the lines that it stands in.
2. The forms are wider than the standard's: names may hold any characters, numbers may begin with a point, limits and
   receivers may be missing. ``dbc_repair.py`` decides what can be used of them.
3. The effort grows with the text: no form is tried beyond the next ``_LOOK_AHEAD`` lines that begin with a keyword.
4. A possessive repetition of a group gives nothing back of its last, failed turn in Python before 3.11.5 (gh-106052),
   which Debian 12 had for years: it stands only where that turn takes nothing that is needed later.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

_LOOK_AHEAD = 24
_SHOWN = 60

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_STRING = r'"(?:\\"|[^"])*+"'
_PAIRS = rf"(?P<pairs>(?:\s*[-+]?[\w.+-]+\s*{_STRING})*+)"
#: Anything up to the semicolon that ends it; semicolons in quotes do not.
_ANY = rf'(?:[^";]++|{_STRING})*+;'

_FORMS = {
    "BO_": r"\s+(?P<id>\S+)\s+(?P<name>[^:\n]{1,200}?)\s*+:\s*(?P<length>\w+)(?:[ \t]+(?!SG_\s)(?P<sender>\S+))?",
    "SG_": (
        r"\s+(?P<name>[^:\n]{1,200}?)(?:\s++(?P<mux>M|m\d+M?))?\s*+:"
        r"\s*(?P<start>\d+)\s*\|\s*(?P<length>\d+)\s*@\s*(?P<order>\d)\s*(?P<sign>[+-])"
        rf"\s*\(\s*(?P<scale>{NUMBER})\s*,\s*(?P<offset>{NUMBER})\s*\)"
        r"(?:\s*\[(?P<minimum>[^|\]\n]*)\|(?P<maximum>[^\]\n]*)\])?"
        rf"(?:\s*(?P<unit>{_STRING}))?(?P<receivers>(?:[ \t]*+(?!(?:BO_|SG_)\s)\S++)*)"
    ),
    "VAL_": rf"\s+(?:(?P<id>\d+)\s+)?(?P<name>[^\s\";]+){_PAIRS}\s*;",
    "SIG_VALTYPE_": r"\s+(?P<id>\d+)\s+(?P<name>\S+?)\s*:?\s*(?P<type>\d+)\s*;",
    "SG_MUL_VAL_": (
        r"\s+(?P<id>\d+)\s+(?P<name>\S+)\s+(?P<multiplexer>\S+)"
        r"\s+(?P<ranges>\d+\s*-\s*\d+(?:[\s,]+\d+\s*-\s*\d+)*+)\s*;"
    ),
    "CM_": (
        r"\s+(?:BO_\s+(?P<message>\d+)\s*|SG_\s+(?P<id>\d+)\s+(?P<name>[^\s\"]+)\s*|(?:BU_|EV_)\s+[^\s\"]+\s*)?"
        rf"(?P<text>{_STRING})\s*;"
    ),
    "BA_DEF_": rf"\s+(?:(?:BO_|SG_|BU_|EV_)\s+)?\"(?P<attribute>[^\"]*)\"{_ANY}",
    "BA_DEF_DEF_": rf"\s+\"(?P<attribute>[^\"]*)\"\s*(?P<value>{_STRING}|[^\s\";]+)\s*;",
    "BA_": (
        r"\s+\"(?P<attribute>[^\"]*)\"\s*"
        r"(?:BO_\s+(?P<message>\d+)\s*|SG_\s+(?P<id>\d+)\s+(?P<name>[^\s\"]+)\s*|(?:BU_|EV_)\s+[^\s\"]+\s*)?"
        rf"(?P<value>{_STRING}|[^\s\";]+)\s*;"
    ),
    "VERSION": rf"\s*{_STRING}",
    # A list of keywords, one a line; it ends where something else begins.
    "NS_": r"[ \t]*:?[^\n]*(?:\n[ \t]*[A-Z_]+[ \t\r]*(?=\n|\Z))*",
    "BS_": r"[ \t]*:[^\n]*",
}

#: Statements that say nothing about decoding: any content up to the semicolon.
_OTHERS = (
    "BA_DEF_DEF_REL_",
    "BA_DEF_REL_",
    "BA_DEF_SGTYPE_",
    "BA_REL_",
    "BA_SGTYPE_",
    "BO_TX_BU_",
    "BU_BO_REL_",
    "BU_EV_REL_",
    "BU_SG_REL_",
    "CAT_",
    "CAT_DEF_",
    "ENVVAR_DATA_",
    "EV_",
    "EV_DATA_",
    "FILTER",
    "NS_DESC_",
    "SGTYPE_",
    "SGTYPE_VAL_",
    "SIGTYPE_VALTYPE_",
    "SIG_GROUP_",
    "SIG_TYPE_REF_",
    "VAL_TABLE_",
)

_KEYWORD = re.compile(rf"(?:{'|'.join(sorted((*_FORMS, *_OTHERS, 'BU_'), key=len, reverse=True))})(?![A-Za-z0-9_])")
_LINE_WITH_KEYWORD = re.compile(rf"^[ \t]*(?={_KEYWORD.pattern})", re.MULTILINE)
# Node names, which may stand on several lines.
_NODES = rf"[ \t]*:(?:\s++(?!{_KEYWORD.pattern})\w+)*[^\n]*"
_PATTERNS = {kind: re.compile(form) for kind, form in _FORMS.items()} | {kind: re.compile(_ANY) for kind in _OTHERS}
_PATTERNS["BU_"] = re.compile(_NODES)
_SPACE = re.compile(r"(?:\s++|//[^\n]*+|;)*+")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its keyword, the line it begins in, its text, and its parts by the names in ``_FORMS``."""

    kind: str
    line: int
    text: str
    parts: dict[str, str | None]

    def part(self, name: str) -> str:
        """A part as text; empty where the statement has none."""
        return self.parts.get(name) or ""


@dataclass(frozen=True, slots=True)
class Broken:
    """Text that could not be read: ``kind`` is its keyword, or empty for text outside of any statement."""

    kind: str
    line: int
    text: str  #: its beginning
    is_last: bool  #: the file ends in it


def is_keyword(name: str) -> bool:
    """Whether the name is a keyword of the format."""
    return _KEYWORD.fullmatch(name) is not None


def scan(text: str) -> Iterator[Statement | Broken]:
    """All statements of a DBC text in its order, and what could not be read."""
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
    keywords = [match.end() for match in _LINE_WITH_KEYWORD.finditer(text)]
    position = 0
    while (position := _end_of_space(text, position)) < len(text):
        following = bisect_right(keywords, position)
        line = bisect_right(line_starts, position)
        keyword = _KEYWORD.match(text, position)
        if keyword is not None:
            kind = keyword.group()
            ahead = following + (_LOOK_AHEAD if kind != "NS_" else len(_PATTERNS))
            limit = keywords[ahead] if ahead < len(keywords) else len(text)
            match = _PATTERNS[kind].match(text, keyword.end(), limit)
            if match is not None:
                yield Statement(kind, line, text[position : match.end()], match.groupdict())
                position = match.end()
                continue
        else:
            kind = ""
        resumed = keywords[following] if following < len(keywords) else len(text)
        beginning = text[position : min(resumed, position + _SHOWN)].split("\n", maxsplit=1)[0].strip()
        yield Broken(kind, line, beginning, following == len(keywords))
        position = resumed


def _end_of_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match is not None else position
