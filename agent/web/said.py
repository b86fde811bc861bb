"""Which sentences of the gateway the page shows, and which of them the Spanish page can't say yet.

Rules of this file:

1. A sentence is made in English, in Python, and stays so: in logs, on the command line, on MQTT, in the store. The page
   knows it again by its template, an f-string with the names of its fields, and says the Spanish one instead.
2. ``src/said/es.json`` maps each template to its Spanish one. A template that the code has and the file lacks, or the
   file has and the code does not, fails a test; so does a field of one that the other has not.
3. All modules are looked through but ``UNSEEN``: what they say reaches nobody who looks at the page.

``python -m agent.web.said`` prints what is missing as JSON, to be filled in, and exits 1.
"""

import ast
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SPANISH = HERE / "src" / "said" / "es.json"

ROOMS = ("agent", "drivers", "cloud_sync")
#: Folders and modules (by the beginning of their names) whose sentences never reach the page.
UNSEEN = (
    # The command line, and what answers machines: other clients, MQTT, scrapers, readers of the API's description.
    "agent/cli/",
    "agent/web/",
    "agent/upgrade/",
    "agent/restore",
    "agent/backup_file",
    "agent/central",
    "agent/remote",
    "agent/json_patch",
    "agent/notify_systemd",
    "agent/api/compat",
    "agent/api/maintenance_report",
    "agent/api/metrics",
    "agent/api/openapi",
    "agent/api/public_routes",
    "agent/api/telemetry_",
    "agent/api/vehicle_",
    "agent/api/words",
    "agent/control/rehearsal",
    "agent/doctor.py",
    "agent/doctor_redact",
    "agent/core/blocks",
    "agent/posted",
    "cloud_sync/central/",
    "cloud_sync/command_payload",
    "cloud_sync/jcs",
    "cloud_sync/downlink",
    "cloud_sync/giving",
    "cloud_sync/notify/news",
    "cloud_sync/payload",
    "cloud_sync/sparkplug/",
    "cloud_sync/subscriber",
    "cloud_sync/watch",
    "drivers/can/logs/",
    "drivers/sim/",
    # Names of points, units and media; generated code; the store's own pages, told by its counters.
    "agent/core/points",
    "drivers/codec/can_source",
    "drivers/codec/mbus_point",
    "drivers/codec/mbus_vif",
    "drivers/codec/sml",
    "agent/store/admin",
    "agent/store/audit",
    "agent/store/blocks",
    "agent/store/catalogue",
    "agent/store/energy",
    "agent/store/look",
    "agent/store/maintenance",
    "agent/store/older",
    "agent/store/outbox",
    "agent/store/pages",
    "agent/store/quota",
    "agent/store/recording",
    "agent/store/recovery",
    "agent/store/schema",
    "agent/store/sessions",
    "agent/store/tail",
    "agent/store/telemetry",
    "agent/store/unpack",
)

#: What is put together of fields alone: whose wish it is (``schedule night_off``), what is done (``cp1 off``), when.
_PIECES = (
    "schedule {name}",
    "rule {name}",
    "alarm {name}",
    "event {name}",
    "interlock {name}",
    "{station} on",
    "{station} off",
    "{since} until {until}",
    "load since {since}",
    "power-return since {since}",
    "manual since {since}",
    "remote since {since}",
    "grid since {since}",
    "safety since {since}",
)
_LOGGING = frozenset({"debug", "info", "warning", "error", "exception", "log"})
#: Where descriptions of fields are hints of a form; elsewhere they describe the API.
_FORMS = frozenset({"agent/config.py"})
#: Calls whose texts are no sentences to the page.
_SKIPPED = frozenset(
    {"Field", "Query", "cast", "compile", "TypeVar", "execute", "executemany", "Path", "getattr", "print"}
)
_SKIPPED_KEYWORDS = frozenset({"summary", "media_type", "headers", "examples", "json_schema_extra"})
#: What looks like a sentence and is SQL, a header, a type or a piece of markup.
_FOREIGN = re.compile(
    r"^\s*(SELECT|INSERT|UPDATE|CREATE|DELETE|PRAGMA|WITH|ALTER|DROP|WHERE|AND |ORDER BY|ON CONFLICT)"
    r"|^(SG_MUL|SIG_VALTYPE|event: \{|list\[|tuple\[|bool \|)|\| None|Future\[|Pattern\[|\(\?P<|=\?|=\{"
    r"|^(Bearer |retry: |VAL_ |BA_ )"
    r"|<block|<document|src '|-src|; filename=|camera=\(\)|max-age=|BO_ \{| SG_ \{"
)
_WORD = re.compile(r"[A-Za-z][A-Za-z']+")
_FIELD = re.compile(r"\{(\w+)(?::n)?\}")
_MANY = 32
#: Behind the meaning of a point that is 0 or 1: what alarms of a BMS say of it.
_FLAG = " (0/1)"
#: A format of numbers; others are of dates, of hexadecimal digits, or fill up a column.
_NUMBER = re.compile(r"[-+ ,0-9.]*[fgd%]|,")


def templates() -> dict[str, str]:
    """Each template that the code, a shipped set of alarms or the demo has, with the first place that has it."""
    found = dict.fromkeys(_PIECES, "agent/control/arbiter.py")
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(UNSEEN):
            skipped = _SKIPPED - {"Field"} if name in _FORMS else _SKIPPED
            for line, text in sentences(ast.parse(path.read_text()), skipped):
                found.setdefault(text, f"{name}:{line}")
    flags = sentences(ast.parse((ROOT / "agent/core/points.py").read_text()))
    found |= {text.removesuffix(_FLAG): "agent/core/points.py" for _, text in flags if text.endswith(_FLAG)}
    for path in [*sorted((ROOT / "config" / "alarms").glob("*.yaml")), ROOT / "config" / "demo.yaml"]:
        for entry in YAML(typ="safe").load(path)["alarms"]:
            found.setdefault(entry["text"], path.relative_to(ROOT).as_posix())
    return found


def spanish() -> dict[str, str]:
    """The Spanish template of each."""
    said: dict[str, str] = json.loads(SPANISH.read_text())
    return said


def fields(template: str) -> list[str]:
    """The names of a template's fields, sorted."""
    return sorted(_FIELD.findall(template))


def is_sentence(template: str) -> bool:
    """Whether people read it as words: two of them, or one with a field."""
    words = _WORD.findall(_FIELD.sub("\0", template))
    return len(words) + bool(_FIELD.search(template)) > 1 and bool(words) and " " in template.strip()


def sentences(tree: ast.Module, skipped: frozenset[str] = _SKIPPED) -> Iterator[tuple[int, str]]:
    """The templates of a module, each line of a text by itself, with their place in it."""
    for place, text in _Reader(_docstrings(tree), skipped).read(tree):
        if not _FOREIGN.search(text):
            yield from ((place, line.strip()) for line in text.splitlines() if is_sentence(line))


def _docstrings(tree: ast.Module) -> frozenset[int]:
    """Texts that stand alone as a statement, by their id."""
    return frozenset(
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


class _Reader:
    """Finds the texts of one module; those that are put together of parts as one template."""

    def __init__(self, docstrings: frozenset[int], skipped: frozenset[str]) -> None:
        self._docstrings = docstrings
        self._skipped = skipped

    def read(self, node: ast.AST) -> Iterator[tuple[int, str]]:
        """All texts below a node."""
        if id(node) in self._docstrings or (isinstance(node, ast.Call) and _is_skipped(node, self._skipped)):
            return
        if isinstance(node, ast.keyword) and node.arg in _SKIPPED_KEYWORDS:
            return
        if isinstance(node, ast.expr) and (_is_text(node) or _is_sum(node)):
            for parts in itertools.islice(itertools.product(*_parts(node)), _MANY):
                yield node.lineno, _template(parts)
            for inner in _inner(node):
                yield from self.read(inner)
            return
        for name, child in ast.iter_fields(node):
            if name in {"annotation", "returns"}:
                continue
            for one in child if isinstance(child, list) else [child]:
                if isinstance(one, ast.AST):
                    yield from self.read(one)


def _is_skipped(call: ast.Call, skipped: frozenset[str]) -> bool:
    function = call.func
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        return (owner == "logger" and function.attr in _LOGGING) or function.attr in skipped
    return isinstance(function, ast.Name) and function.id in skipped


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_sum(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _has_text(node)


def _has_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _has_text(node.left) or _has_text(node.right)
    return _is_text(node)


_Part = str | tuple[str, bool]  #: a text, or a field: its name, and whether it is a formatted number


def _parts(node: ast.expr) -> list[list[tuple[_Part, ...]]]:
    """A text as a row of places, each with the alternatives that may stand there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [[(node.value,)]]
    if isinstance(node, ast.JoinedStr):
        return [place for value in node.values for place in _parts(value)]
    if _is_sum(node) and isinstance(node, ast.BinOp):
        return [*_parts(node.left), *_parts(node.right)]
    number = False
    if isinstance(node, ast.FormattedValue):
        number = node.format_spec is not None and _NUMBER.fullmatch(ast.unparse(node.format_spec)[2:-1]) is not None
        node = node.value
    if isinstance(node, ast.IfExp) and _is_text(node.body) and _is_text(node.orelse):
        return [[_flat(choice) for side in (node.body, node.orelse) for choice in itertools.product(*_parts(side))]]
    return [[((_name(node), number),)]]


def _flat(choice: tuple[tuple[_Part, ...], ...]) -> tuple[_Part, ...]:
    return tuple(part for place in choice for part in place)


def _template(parts: tuple[tuple[_Part, ...], ...]) -> str:
    taken: dict[str, int] = {}
    text = ""
    for part in _flat(parts):
        if isinstance(part, str):
            text += part
            continue
        name, number = part
        taken[name] = taken.get(name, 0) + 1
        again = "" if taken[name] == 1 else str(taken[name])
        text += "{" + name + again + (":n" if number else "") + "}"
    return text


def _name(node: ast.AST) -> str:
    """What a field is called: the last name in its expression."""
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_")
    if isinstance(node, ast.Name):
        return node.id.strip("_") or "it"
    if isinstance(node, ast.Call):
        inner = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
        return next((name for one in inner if (name := _name(one)) != "it"), _name(node.func))
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    names = [_name(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return next((name for name in names if name != "it"), "it")


def _inner(node: ast.AST) -> Iterator[ast.AST]:
    """The expressions within a text: their own texts are read apart."""
    if isinstance(node, ast.JoinedStr):
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                yield from _branches(value.value)
    elif isinstance(node, ast.BinOp):
        for side in (node.left, node.right):
            if _is_text(side) or _is_sum(side):
                yield from _inner(side)
            else:
                yield from _branches(side)


def _branches(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.IfExp) and _is_text(node.body) and _is_text(node.orelse):
        yield node.test
        yield from _inner(node.body)
        yield from _inner(node.orelse)
    else:
        yield node


def main() -> int:
    """Print what is missing."""
    said = spanish()
    lacking = [text for text in templates() if text not in said]
    sys.stdout.write(json.dumps(dict.fromkeys(lacking, ""), indent=1, ensure_ascii=False) + "\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
