"""YAML files that people write, read so that every complaint names ``file:line:column`` and what to write instead.

Rules of this file:

1. YAML 1.2: ``on``, ``off``, ``yes`` and ``no`` are text, ``true`` and ``false`` are the only booleans, ``22:00`` and
   dates are text. Types come from the plain spelling only; ``!tags``, merge keys (``<<``) and a second document are
   refused, because they hide from the reader what the file says.
2. A model sees the data as JSON: with ``strict=True`` (see ``Section``) a number in quotes stays text, while paths,
   enums and tuples are still made from what YAML has for them.
3. All findings are reported, in the order of the file, not only the first one. A finding says what is wrong and what
   to do; it never repeats the value of a key that smells of a secret.
4. Lines and columns count from 1, as editors show them.
"""

import copy
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from agent.core.errors import ConfigError
from agent.yamlwords import Finding, explain, kinds_at

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Loc: TypeAlias = tuple[int | str, ...]
#: Values that win over the file's, by their place: the name of the variable that sets it, and the value's text.
Overrides: TypeAlias = Mapping[tuple[str, ...], tuple[str, str]]
M = TypeVar("M", bound=BaseModel)

#: A file of more bytes than this is none that a person wrote; the parser would take minutes over it.
MAX_BYTES = 4 << 20
#: Aliases (``*name``) may repeat a part this often at most: against files that unfold without end.
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_INDENTED_TAB = re.compile(r"^ *\t", re.MULTILINE)
_INT_BASES = {"0x": 16, "0o": 8, "0b": 2}


class Section(BaseModel):
    """Base of every model that a YAML file is held against: unknown keys refused, no silent conversions, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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
class Document:
    """A parsed file: its data, the place of each key and value in it (line and column from 1), and what is odd in it.

    ``problems`` are those that leave data to go on with, such as a key that stands twice.
    """

    name: str
    data: Json
    keys: Mapping[Loc, tuple[int, int]]
    values: Mapping[Loc, tuple[int, int]]
    problems: Sequence[Problem] = ()

    def problem(self, loc: Sequence[int | str], text: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """A finding at a place in the data, or at the nearest place around it that the file has."""
        place = tuple(loc)
        while place and place not in self.values:
            place = place[:-1]
        line, column = self.values.get(place, (1, 1))
        if at_key:
            line, column = self.keys.get(place, (line, column))
        return Problem(self.name, line, column, text, hint)

    def check(self, model: type[M], overrides: Overrides | None = None) -> tuple[M | None, list[Problem]]:
        """Hold the data against a model: the model or None, and every finding in the order of the file."""
        set_by = overrides or {}
        data = copy.deepcopy(self.data) if set_by else self.data
        for loc, (_, text) in set_by.items():
            _override(data, loc, _typed(text, kinds_at(model, loc)))
        try:
            result = model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            findings = [explain(model, data, item) for item in error.errors(include_url=False)]
            return None, in_order([*self.problems, *(self._locate(finding, set_by) for finding in findings)])
        return (None if self.problems else result), list(self.problems)

    def _locate(self, finding: Finding, set_by: Overrides) -> Problem:
        variable = set_by.get(tuple(map(str, finding.loc)))
        if variable is not None:
            return Problem(variable[0], 0, 0, finding.text, finding.hint)
        return self.problem(finding.loc, finding.text, finding.hint, at_key=finding.at_key)


def complaint(text: str, hint: str = "") -> PydanticCustomError:
    """What a model's validator raises so that the finding says ``text`` and, behind it, what to do: ``hint``."""
    return PydanticCustomError("enlace", "{text}", {"text": text, "hint": hint})


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Findings in the order of the file, each once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))


def parse(text: str, name: str) -> tuple[Document | None, list[Problem]]:
    """The data of a YAML text, or None, and the findings so far. ``name`` is the file's, for these."""
    try:
        root = YAML(typ="safe", pure=True).compose(text.removeprefix("\ufeff"))
    except (MarkedYAMLError, ReaderError) as error:
        return None, _syntax(text, name, error)
    except RecursionError:
        return None, [Problem(name, 1, 1, "brackets are nested too deeply", "close each bracket that is opened")]
    if root is None:
        return None, [Problem(name, 1, 1, "the file is empty", "write at least one `key: value` line")]
    if not isinstance(root, MappingNode):
        line, column = _place(root)
        return None, [Problem(name, line, column, "the file must be a mapping", "write `key: value` lines")]
    reader = _Reader(name)
    data = reader.value(root, ())
    problems = in_order(reader.problems)
    return Document(name, data, reader.keys, reader.values, problems), problems


def validate(
    text: str, name: str, model: type[M], overrides: Overrides | None = None
) -> tuple[M | None, list[Problem]]:
    """A YAML text, with overriding values, held against a model: the model or None, and every finding."""
    document, problems = parse(text, name)
    if document is None:
        return None, problems
    return document.check(model, overrides)


def load_yaml(path: Path, model: type[M]) -> M:
    """Read a file and hold it against a model. Raises ``ConfigError`` with every finding, one per line."""
    result, problems = validate(read_text(path), str(path), model)
    if result is None:
        raise refuse(path, problems)
    return result


def refuse(path: Path, problems: Sequence[Problem]) -> ConfigError:
    """The error that says all findings of a file, one per line."""
    return ConfigError(f"read {path}", "\n".join(map(str, problems)))


def read_text(path: Path) -> str:
    """The text of a file in UTF-8. Raises ``ConfigError`` that says why not and what to do."""
    op = f"read {path}"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(op, "there is no such file", "create it, or name another one") from error
    except IsADirectoryError as error:
        raise ConfigError(op, "is a folder, not a file", "name the file in it") from error
    except PermissionError as error:
        raise ConfigError(op, "may not be read by this user", "give the user that runs enlace read access") from error
    except OSError as error:
        raise ConfigError(op, error.strerror or str(error), "check the path and its disk") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(op, f"has more than {MAX_BYTES >> 20} MiB", "name a configuration file, not a log")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        line, column = _line_column(before, len(before))
        where = Problem(str(path), line, column, f"byte 0x{raw[error.start]:02X} is no UTF-8", "save the file as UTF-8")
        raise ConfigError(op, str(where)) from error


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


def _typed(text: str, kinds: Collection[object]) -> Json:
    """The text of an environment variable as what the model wants there: a number or a boolean where no text fits."""
    if str in kinds or not {int, float, bool} & set(kinds):
        return text
    document, _ = parse(f"value: {text}", "")
    value = document.data["value"] if document and isinstance(document.data, dict) else text
    return value if isinstance(value, int | float) else text


def _override(data: Json, loc: Sequence[str], value: Json) -> None:
    """Set a value in the data, with the mappings around it where the file has none."""
    for part in loc[:-1]:
        if not isinstance(data, dict):
            return  # the file has something else there, which is a finding of its own
        if data.get(part) is None:
            data[part] = {}
        data = data[part]
    if isinstance(data, dict):
        data[loc[-1]] = value


def _place(node: Node) -> tuple[int, int]:
    mark = node.start_mark
    return mark.line + 1, mark.column + 1


def _line_column(text: str, position: int) -> tuple[int, int]:
    """Line and column, from 1, of a position in a text."""
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _syntax(text: str, name: str, error: MarkedYAMLError | ReaderError) -> list[Problem]:
    """The findings of a text that is no YAML. The parser stops at its first one; tabs are found all at once."""
    if isinstance(error, ReaderError):
        line, column = _line_column(text, error.position)
        what = f"a control character (0x{ord(text[error.position]):02X}) stands here"
        return [Problem(name, line, column, what, "delete it")]
    tabs = [_line_column(text, match.end() - 1) for match in _INDENTED_TAB.finditer(text)]
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
    ("expected ',' or", "a bracket is opened and not closed", "close it, or put a comma between the items"),
)
