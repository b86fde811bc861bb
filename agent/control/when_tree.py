"""The tree of a condition, and how it is written again. Trees are small (``when_parse`` limits them) and immutable."""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.core.model import Number


@dataclass(frozen=True, slots=True)
class Const:
    """A number as it stands in the text; finite."""

    value: Number


@dataclass(frozen=True, slots=True)
class Text:
    """A text in quotes: a label to compare a state with."""

    text: str


@dataclass(frozen=True, slots=True)
class Read:
    """The value of a signal; where a condition is asked for: whether that is not 0."""

    signal: str  #: ``battery1.soc_pct``


@dataclass(frozen=True, slots=True)
class Calc:
    """Arithmetic: ``+ * min max`` of two or more, ``- /`` of two, ``neg abs`` of one."""

    op: str
    args: "tuple[Value, ...]"


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that depends on time: ``rate`` of a signal over ``seconds``, ``age`` of a signal or device (in s)."""

    function: str
    subject: str  #: a signal, or (without a dot) a device
    seconds: Number | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """What can be said of hearing a signal or device: ``silent``, ``known``, ``unchanged``."""

    function: str
    subject: str  #: a signal, or (without a dot) a device
    seconds: Number | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """Two values compared: ``< <= > >= == !=``. A text is compared by the last two only, and with a signal."""

    op: str
    left: "Value"
    right: "Value"


@dataclass(frozen=True, slots=True)
class Logic:
    """``and`` and ``or`` of two or more conditions, ``not`` of one."""

    op: str
    parts: "tuple[Truth, ...]"


Value = Const | Text | Read | Calc | Measure
Truth = Read | Check | Compare | Logic
Node = Value | Truth

#: What binds stronger has the higher number; what is not here is never put into parentheses.
_LEVELS = {"or": 1, "and": 2, "not": 3, "+": 5, "-": 5, "*": 6, "/": 6, "neg": 7}
_COMPARE, _SUM, _SIGN, _ATOM = 4, 5, 7, 8


def children(node: Node) -> tuple[Node, ...]:
    """What stands directly below a node."""
    if isinstance(node, Compare):
        return (node.left, node.right)
    if isinstance(node, Calc):
        return node.args
    return node.parts if isinstance(node, Logic) else ()


def nodes(tree: Node) -> Iterator[Node]:
    """The node and all below it, in the order of the text."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(children(node)))


def is_device(subject: str) -> bool:
    """Whether a subject is a device: a signal's name has a dot."""
    return "." not in subject


def show(node: Node) -> str:
    """The tree as text. Read again, it gives the same tree."""
    if isinstance(node, Compare):
        return f"{_within(node.left, _SUM)} {node.op} {_within(node.right, _SUM)}"
    if isinstance(node, Logic):
        return _show_logic(node)
    return _show_calc(node) if isinstance(node, Calc) else _show_atom(node)


def _show_atom(node: Const | Text | Read | Measure | Check) -> str:
    if isinstance(node, Const):
        return repr(node.value)
    if isinstance(node, Text):
        return f"'{node.text}'" if '"' in node.text else f'"{node.text}"'
    if isinstance(node, Read):
        return node.signal
    seconds = "" if node.seconds is None else f", {node.seconds}s"
    return f"{node.function}({node.subject}{seconds})"


def _show_logic(node: Logic) -> str:
    level = _LEVELS[node.op]
    if node.op == "not":
        return f"not {_within(node.parts[0], level)}"
    return f" {node.op} ".join(_within(part, level + 1) for part in node.parts)


def _show_calc(node: Calc) -> str:
    if node.op in ("abs", "min", "max"):
        return f"{node.op}({', '.join(map(show, node.args))})"
    if node.op == "neg":
        return f"-{_within(node.args[0], _SIGN)}"
    first, *rest = node.args
    # Chains are read from the left; `a + b + c` is one sum, so the sum that stands first in another is set apart.
    apart = isinstance(first, Calc) and first.op == node.op and node.op in ("+", "*")
    level = _LEVELS[node.op]
    texts = [f"({show(first)})" if apart else _within(first, level), *(_within(arg, level + 1) for arg in rest)]
    return f" {node.op} ".join(texts)


def _within(node: Node, level: int) -> str:
    """The node's text where only what binds at least so strongly can stand without parentheses."""
    own = _COMPARE if isinstance(node, Compare) else _ATOM
    if isinstance(node, Calc | Logic):
        own = _LEVELS.get(node.op, _ATOM)
    return show(node) if own >= level else f"({show(node)})"
