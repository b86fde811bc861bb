"""What ``enlace check`` finds, for the gateway that runs: in its file, in another text, and about one device."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from agent.api.setup_view import CheckFinding, FindingsError, Severity
from agent.config import Config
from agent.findings import Found, found_in, owned
from agent.site_editor import SiteEditor
from agent.yamltree import Loc, Problem, Tree, parse_tree

#: More findings than this help nobody.
MAX_FINDINGS = 200
_MISSING = re.compile(r"`(\w+)` is missing")


class SiteCheck:
    """``Checks`` of ``agent/api/setup_view.py``. ``config`` gives the configuration that runs."""

    def __init__(self, path: Path, editor: SiteEditor, config: Callable[[], Config]) -> None:
        self._path = path
        self._editor = editor
        self._config = config

    def file(self) -> list[CheckFinding]:
        """In the file that is there. Blocks."""
        return self._told(found_in(self._path, mine=owned(self._config())))

    def text(self, text: str) -> list[CheckFinding]:
        """In a text that would stand in its place. Blocks."""
        return self._told(found_in(self._path, text, owned(self._config())))

    def entry(self, entry: Mapping[str, object], replaces: str = "") -> list[CheckFinding]:
        """About a device, if it were added, or stood in another's place: what is new with it, and what is about it.

        Blocks. Raises ``ConfigError`` when the file can't be edited as it is now.
        """
        text, index = self._editor.draft(entry, replaces)
        known = {
            (severity, problem.text, problem.hint)
            for severity, problem in found_in(self._path, mine=owned(self._config()))
        }
        tree = parse_tree(text, str(self._path))
        place: Loc = ("devices", index)
        line = tree.values[place][0] if isinstance(tree, Tree) and place in tree.values else 0
        found: list[CheckFinding] = []
        for severity, problem in found_in(self._path, text, owned(self._config())):
            about = bool(line) and problem.line == line
            if about or (severity, problem.text, problem.hint) not in known:
                found.append(finding_of(self._path, severity, problem, tree if about else None, place))
        return found[:MAX_FINDINGS]

    def refuse_wrong(self, entry: Mapping[str, object], replaces: str = "") -> None:
        """Raises ``FindingsError`` with the errors about a device, if there are any."""
        refuse([one for one in self.entry(entry, replaces) if one.severity == "error"])

    def _told(self, found: Iterable[Found]) -> list[CheckFinding]:
        told: list[CheckFinding] = []
        for severity, problem in found:
            told.append(finding_of(self._path, severity, problem))
            if len(told) >= MAX_FINDINGS:
                break
        return told


def finding_of(path: Path, severity: str, problem: Problem, tree: object = None, place: Loc = ()) -> CheckFinding:
    """A finding in a configuration's file as others are told it; with its key where it is about that place."""
    file = problem.file.replace(str(path), path.name)
    where = f"{file}:{problem.line}:{problem.column}" if problem.line else file
    kind: Severity = "error" if severity == "error" else "warning" if severity == "warning" else "info"
    key = _key(tree, place, problem) if isinstance(tree, Tree) else ""
    return CheckFinding(kind, where, problem.text, problem.hint, key, str(problem))


def refuse(errors: Sequence[CheckFinding]) -> None:
    """Raises ``FindingsError`` when there are any."""
    if errors:
        words = "; ".join(f"{one.what}{one.hint and f' ({one.hint})'}" for one in errors)
        raise FindingsError("check", words, errors)


def _key(tree: Tree, place: Loc, problem: Problem) -> str:
    """The key of the entry that a finding in its line is about; empty: the whole entry."""
    missing = _MISSING.match(problem.text)
    at = (problem.line, problem.column)
    found = [loc for places in (tree.values, tree.keys) for loc, where in places.items() if where == at]
    inside = [loc[len(place) :] for loc in found if loc[: len(place)] == place and len(loc) > len(place)]
    parts = min(inside, key=len, default=())
    if missing is not None:
        parts = (*parts, missing[1])
    return ".".join(map(str, parts))
