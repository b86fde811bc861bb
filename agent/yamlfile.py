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

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from agent.core.errors import ConfigError
from agent.yamltree import Json, Problem, Tree, in_order, line_column, parse_tree
from agent.yamlunion import merged
from agent.yamlwords import explain

__all__ = [
    "Document",
    "Json",
    "Problem",
    "Section",
    "complaint",
    "in_order",
    "load_yaml",
    "parse",
    "read_text",
    "refuse",
    "validate",
    "yaml_files",
]

M = TypeVar("M", bound=BaseModel)

#: A file of more bytes than this is none that a person wrote; the parser would take minutes over it.
MAX_BYTES = 4 << 20
_SUFFIXES = (".yaml", ".yml")


class Section(BaseModel):
    """Base of every model that a YAML file is held against: unknown keys refused, no silent conversions, frozen.

    No number is infinite: what is reckoned with a time of ``.inf`` ends in an error while the site runs.
    """

    # Made ready at the first use: within the model that holds it, or never.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file, to be held against models and to place findings in."""

    name: str
    tree: Tree

    @property
    def data(self) -> Json:
        """What the file says, as plain data."""
        return self.tree.data

    def problem(self, loc: Sequence[int | str], text: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """A finding at a place in the data, or at the nearest place around it that the file has."""
        place = tuple(loc)
        while place and place not in self.tree.values:
            place = place[:-1]
        line, column = self.tree.values.get(place, (1, 1))
        if at_key:
            line, column = self.tree.keys.get(place, (line, column))
        return Problem(self.name, line, column, text, hint)

    def check(self, model: type[M]) -> tuple[M | None, list[Problem]]:
        """Hold the data against a model: the model or None, and every finding in the order of the file."""
        try:
            result = model.model_validate_json(json.dumps(self.data))
        except ValidationError as error:
            errors = error.errors(include_url=False)
            # Entries that are wrong are not counted: their list is too short for that reason alone.
            within = {item["loc"][:end] for item in errors for end in range(len(item["loc"]))}
            said = [item for item in errors if item["type"] != "too_short" or item["loc"] not in within]
            findings = merged([explain(model, self.data, item) for item in said])
            found = [self.problem(one.loc, one.text, one.hint, at_key=one.at_key) for one in findings]
            return None, in_order([*self.tree.problems, *found])
        return (None if self.tree.problems else result), list(self.tree.problems)


def complaint(text: str, hint: str = "", at: Sequence[int | str] = ()) -> PydanticCustomError:
    """What a model's validator raises so that the finding says ``text`` and, behind it, what to do: ``hint``.

    ``at``: where in the model, for one that looks at several of its keys.
    """
    return PydanticCustomError("enlace", "{text}", {"text": text, "hint": hint, "at": tuple(at)})


def parse(text: str, name: str) -> tuple[Document | None, list[Problem]]:
    """The data of a YAML text, or None, and the findings so far. ``name`` is the file's, for these."""
    tree = parse_tree(text, name)
    return (Document(name, tree), list(tree.problems)) if isinstance(tree, Tree) else (None, tree)


def validate(text: str, name: str, model: type[M]) -> tuple[M | None, list[Problem]]:
    """A YAML text held against a model: the model or None, and every finding."""
    document, problems = parse(text, name)
    return document.check(model) if document else (None, problems)


def load_yaml(path: Path, model: type[M], wrong: Callable[[Document, M], Iterable[Problem]] | None = None) -> M:
    """Read a file and hold it against a model, and against what ``wrong`` finds besides.

    Raises ``ConfigError`` with every finding, one per line.
    """
    document, problems = parse(read_text(path), str(path))
    result, problems = document.check(model) if document else (None, problems)
    if document is None or result is None:
        raise refuse(path, problems)
    found = [] if wrong is None else list(wrong(document, result))
    if found:
        raise refuse(path, in_order(found))
    return result


def yaml_files(folder: Path) -> list[Path]:
    """The YAML files of a folder by name; none where there is no folder. Raises ``ConfigError``."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"read {folder}", error.strerror or str(error), "give enlace read access") from error


def refuse(path: Path, problems: Sequence[Problem]) -> ConfigError:
    """The error that says all findings of a file, one per line."""
    return ConfigError(f"read {path}", "\n" + "\n".join(map(str, problems)))


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
        line, column = line_column(before, len(before))
        where = Problem(str(path), line, column, f"byte 0x{raw[error.start]:02X} is no UTF-8", "save the file as UTF-8")
        raise ConfigError(op, str(where)) from error
