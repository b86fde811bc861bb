"""YAML text as plain data with the place of each key and value. No models here: see ``agent/yamlfile.py``."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Loc: TypeAlias = tuple[int | str, ...]
Places: TypeAlias = Mapping[Loc, tuple[int, int]]

#: Aliases (``*name``) may repeat a part this often at most: against files that unfold without end.
MAX_VALUES = 100_000

#: So many open brackets are no configuration; the parser's time grows with their square.
MAX_BRACKETS = 500

#: Mappings and lists inside each other: more levels than any model has.
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_INDENTED_TAB = re.compile(r"^ *\t", re.MULTILINE)
_BRACKET = re.compile(r"[\[\]{}]")
_TOO_DEEP = ("the file is nested too deeply here", "close brackets, and indent less")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT_BASES = {"0x": 16, "0o": 8, "0b": 2}


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: where (line and column from 1), what is wrong, what to write instead (may be empty).

    ``line`` 0: ``file`` is no file but the name of what holds the value, an environment variable.
    """

    file: str
    line: int
    column: int
    text: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.text}" + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Tree:
    """What a text says: its data, the place of each key and value in it (line and column from 1), and what is odd.

    ``problems`` are those that leave data to go on with, such as a key that stands twice.
    """

    data: Json
    keys: Places
    values: Places
    problems: Sequence[Problem] = ()


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Findings in the order of the file, each once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))


def parse_tree(text: str, name: str) -> Tree | list[Problem]:
    """The tree of a YAML text, or why there is none. ``name`` is the file's, for the findings."""
    deep = _too_deep(text)
    if deep is not None:
        return [Problem(name, *line_column(text, deep), *_TOO_DEEP)]
    try:
        root = YAML(typ="safe", pure=True).compose(text.removeprefix("\ufeff"))
    except (MarkedYAMLError, ReaderError) as error:
        return _syntax(text, name, error)
    except RecursionError:
        return [Problem(name, 1, 1, *_TOO_DEEP)]
    if root is None:
        return [Problem(name, 1, 1, "the file is empty", "write at least one `key: value` line")]
    if not isinstance(root, MappingNode):
        return [Problem(name, *_place(root), "the file must be a mapping", "write `key: value` lines")]
    reader = _Reader(name)
    data = reader.value(root, ())
    return Tree(data, reader.keys, reader.values, in_order(reader.problems))


def _too_deep(text: str) -> int | None:
    """Where more brackets are open than any configuration has; those in quotes and comments count as well."""
    depth = 0
    for match in _BRACKET.finditer(text):
        depth = depth + 1 if match[0] in "[{" else max(depth - 1, 0)
        if depth > MAX_BRACKETS:
            return match.start()
    return None


class _Reader:
    """Makes plain data of the parser's nodes, with the place of each key and value."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[Problem] = []
        self.keys: dict[Loc, tuple[int, int]] = {}
        self.values: dict[Loc, tuple[int, int]] = {}
        self._open: list[Node] = []
        self._full = False

    def value(self, node: Node, loc: Loc) -> Json:
        """The data of a node; None, with a finding, where it has none."""
        if len(loc) > MAX_DEPTH:
            self._refuse(node, *_TOO_DEEP)
            return None
        if any(node is outer for outer in self._open):
            self._refuse(node, "an alias stands inside its own anchor", "write the part out")
            return None
        if len(self.values) >= MAX_VALUES:
            if not self._full:
                self._full = True
                self._refuse(node, f"the file unfolds to more than {MAX_VALUES} values", "use fewer aliases")
            return None
        self.values[loc] = _place(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        self._open.append(node)
        try:
            if isinstance(node, SequenceNode):
                self._check_tag(node, "seq")
                return [self.value(item, (*loc, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, loc)
        finally:
            self._open.pop()

    def _mapping(self, node: Node, loc: Loc) -> Json:
        self._check_tag(node, "map")
        result: dict[str, Json] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key is None:
                continue
            place = (*loc, key)
            if key in result:
                line, _ = self.keys[place]
                self._refuse(key_node, f"`{key}` stands here again, first in line {line}", "keep one of the two")
                continue
            self.keys[place] = _place(key_node)
            result[key] = self.value(value_node, place)
            if result[key] is None and place in self.values and not value_node.value:
                self.values[place] = self.keys[place]  # the parser puts an empty value at whatever follows it
        return result

    def _key(self, node: Node) -> str | None:
        if not isinstance(node, ScalarNode):
            self._refuse(node, "a key must be a word, not a list or mapping", "write `key: value`")
            return None
        if str(node.tag) == f"{_TAG}merge":
            self._refuse(node, "merge keys (`<<`) are not supported", "write the merged keys out")
            return None
        key = self._scalar(node)
        if key is None or key == "":
            self._refuse(node, "a key is empty", "write `key: value`")
            return None
        # As JSON writes it, so that a key 0x351 is one for a model that wants whole numbers as keys.
        return key if isinstance(key, str) else json.dumps(key)

    def _scalar(self, node: ScalarNode) -> Json:
        text = str(node.value)
        if _SURROGATE.search(text):
            self._refuse(node, "half of a character stands here (\\uD800 to \\uDFFF)", "write the character itself")
            return None
        make = _SCALARS.get(str(node.tag).removeprefix(_TAG))
        if make is None:
            self._refuse(node, f"the tag `{node.tag}` is not supported", "write the value without a tag")
            return None
        try:
            return make(text)
        except ValueError:
            self._refuse(node, f"`{text}` is no number that can be read", "write it in plain decimal digits")
            return None

    def _check_tag(self, node: Node, kind: str) -> None:
        if str(node.tag) != f"{_TAG}{kind}":
            self._refuse(node, f"the tag `{node.tag}` is not supported", "write the value without a tag")

    def _refuse(self, node: Node, text: str, hint: str) -> None:
        self.problems.append(Problem(self._name, *_place(node), text, hint))


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    base = _INT_BASES.get(digits.lstrip("+-")[:2].lower(), 10)
    return int(digits, base)


def _float(text: str) -> float:
    plain = text.replace("_", "").lower()
    return float(plain.replace(".inf", "inf").replace(".nan", "nan"))


#: What a scalar becomes by the type that the YAML parser sees in its spelling.
_SCALARS: Mapping[str, Callable[[str], Json]] = MappingProxyType(
    {
        "null": lambda _: None,
        "bool": lambda text: text.lower() in {"true", "yes", "on", "y"},
        "str": str,
        "timestamp": str,
        "int": _integer,
        "float": _float,
    }
)


def _place(node: Node) -> tuple[int, int]:
    mark = node.start_mark
    return mark.line + 1, mark.column + 1


def line_column(text: str, position: int) -> tuple[int, int]:
    """Line and column, from 1, of a position in a text."""
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _syntax(text: str, name: str, error: MarkedYAMLError | ReaderError) -> list[Problem]:
    """The findings of a text that is no YAML. The parser stops at its first one; tabs are found all at once."""
    if isinstance(error, ReaderError):
        line, column = line_column(text, error.position)
        what = f"a control character (0x{ord(text[error.position]):02X}) stands here"
        return [Problem(name, line, column, what, "delete it")]
    tabs = [line_column(text, match.end() - 1) for match in _INDENTED_TAB.finditer(text)]
    if tabs and "\\t" in (error.problem or ""):
        return [Problem(name, line, column, "a tab indents this line", "indent with spaces") for line, column in tabs]
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what = error.problem or "is no YAML"
    for part, better, hint in _SYNTAX:
        if part in what:
            return [Problem(name, line, column, better, hint)]
    start = f", in what begins in line {error.context_mark.line + 1}" if error.context_mark else ""
    return [Problem(name, line, column, f"{what}{start}", "check brackets, quotes and indentation here and above")]


#: What the parser says, in words for the person who writes the file, and what to do.
_SYNTAX = (
    ("mapping values are not allowed", "a second `: ` stands in this line", "put a value that holds `: ` into quotes"),
    ("could not find expected ':'", "the line above has no `: ` between key and value", "write `key: value`"),
    ("found another document", "a second document begins here (`---`)", "keep one document in a file"),
    ("found unexpected end of stream", "a quote is opened and never closed", "close it"),
    ("found undefined alias", "this alias has no anchor above it", "put a value that begins with `*` into quotes"),
    ("cannot start any token", "a value may not begin with this character", "put the value into quotes"),
    ("<block end>", "this line is not indented like its neighbours", "give keys of one mapping the same indentation"),
    ("did not find expected", "this line is not indented like its neighbours", "check the indentation and brackets"),
    ("<document start>", "this line does not belong to what stands above it", "check its indentation"),
    ("sequence entries are not allowed", "a list item (`- `) may not stand here", "put it under its key, indented"),
    ("expected the node content", "a value is missing here", "write one, or delete the key or bracket before it"),
    ("alphabetic or numeric", "`&` and `*` begin an anchor or alias", "put a value that begins so into quotes"),
    ("indentation indicators", "`|` and `>` begin a block of text", "put a value that begins so into quotes"),
    ("expected ',' or", "a bracket is opened and not closed", "close it, or put a comma between the items"),
)
