"""Changing a YAML text so that it says something else: only the lines in question change, comments stay. Pure.

Rules of this file:

1. Difference after difference is written into the text, and the text is read again after each: what was written is
   what is meant, or the next larger part around it is written anew on one line. What can't even be done so is refused.
2. New values are written on one line (``{key: value}``), which is valid wherever a value may stand.
3. A comment inside of what is replaced or removed goes with it; one line above it or behind it does not.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agent.json_patch import same
from agent.site_editor import one_line
from agent.yamltree import Json, Loc, Tree, parse_tree

_MAX_EDITS = 1000


class EditError(ValueError):
    """The text can't be made to say that."""


@dataclass(frozen=True, slots=True)
class _Difference:
    """At ``loc``: the value is another one (``set``), a key or entry is new (``add``) or gone (``cut``)."""

    kind: str
    loc: Loc
    value: Json = None


def edited(text: str, wanted: Json) -> str:
    """The text, made to say ``wanted``. Raises ``EditError``."""
    for _ in range(_MAX_EDITS):
        tree = parse_tree(text, "")
        if not isinstance(tree, Tree):
            raise EditError("the file is no YAML now")
        found = next(_differences(tree.data, wanted, ()), None)
        if found is None:
            return text
        text = _next(text, tree.data, found, wanted)
    raise EditError("too much of it is different")


def _next(text: str, data: Json, found: _Difference, wanted: Json) -> str:
    """One difference less, by the smallest edit that does just that: of what an alias repeats there is none."""
    change = found
    while change.loc:
        changed = _edit(text, change)
        tree = None if changed is None else parse_tree(changed, "")
        if changed is not None and isinstance(tree, Tree) and same(tree.data, _changed(data, change)):
            return changed
        loc = change.loc[:-1]
        change = _Difference("set", loc, _at(wanted, loc))
    raise EditError("the part of the file in question is written in a way that can't be edited: edit it by hand")


def _changed(data: Json, change: _Difference) -> Json:
    """What the text should say after one edit."""
    result = copy.deepcopy(data)
    place, last = _at(result, change.loc[:-1]), change.loc[-1]
    if isinstance(place, list) and isinstance(last, int):
        place[last : last + (change.kind != "add")] = [] if change.kind == "cut" else [change.value]
    elif isinstance(place, dict):
        place.pop(str(last), None)
        if change.kind != "cut":
            place[str(last)] = change.value
    return result


def _differences(old: Json, new: Json, loc: Loc) -> Iterator[_Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from (_Difference("cut", (*loc, key)) for key in old if key not in new)
        for key, value in new.items():
            if key in old:
                yield from _differences(old[key], value, (*loc, key))
            else:
                yield _Difference("add", (*loc, key), value)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _in_list(old, new, loc)
    elif not same(old, new):
        yield _Difference("set", loc, new)


def _in_list(old: list[Json], new: list[Json], loc: Loc) -> Iterator[_Difference]:
    """Entries are the same by their names, or by where they stand."""
    names, wanted = _names(old), _names(new)
    if names is None or wanted is None:
        if len(old) == len(new):
            for index, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from _differences(one, other, (*loc, index))
        else:
            yield _Difference("set", loc, new)
        return
    for index, name in enumerate(names):
        if name not in wanted:
            yield _Difference("cut", (*loc, index))
            return  # the others have other numbers then
    for index, name in enumerate(wanted):
        if index >= len(names) or names[index] != name:
            kind = "add" if name not in names else "set"
            yield _Difference(kind, (*loc, index) if kind == "add" else loc, new[index] if kind == "add" else new)
            return
        yield from _differences(old[index], new[index], (*loc, index))


def _names(items: list[Json]) -> list[str] | None:
    found = [str(one.get("id") or one.get("station")) for one in items if isinstance(one, dict)]
    return found if len(found) == len(items) == len(set(found)) else None


def _at(data: Json, loc: Sequence[int | str]) -> Json:
    for step in loc:
        data = data[step]  # type: ignore[index] # the place comes from the data
    return data


def _edit(text: str, change: _Difference) -> str | None:
    """The text after one edit; None where it can't be done here."""
    root = YAML(typ="safe", pure=True).compose(text)
    loc = change.loc
    if change.kind == "set":
        node = _node(root, loc)
        if node is None:
            return None
        start, end = _start(text, node), _end(text, node)
        lead = "" if start == 0 or text[start - 1] in " \n[{," else " "
        return text[:start] + lead + one_line(change.value) + text[end:]
    parent = _node(root, loc[:-1])
    if not isinstance(parent, MappingNode | SequenceNode) or parent.flow_style or not parent.value:
        return None
    if change.kind == "cut":
        return _cut(text, parent, loc[-1])
    return _added(text, parent, loc[-1], change.value)


def _node(root: Node, loc: Sequence[int | str]) -> Node | None:
    node: Node | None = root
    for step in loc:
        if isinstance(node, MappingNode):
            node = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return None
    return node


def _cut(text: str, parent: Node, step: int | str) -> str | None:
    """Take the lines of a key or an entry out, where it has lines of its own and others are left."""
    if len(parent.value) == 1:
        return None
    if isinstance(parent, MappingNode):
        key, value = next(pair for pair in parent.value if pair[0].value == step)
        start, end = int(key.start_mark.index), max(_end(text, value), int(key.end_mark.index))
    else:
        start, end = text.rfind("-", 0, int(parent.value[step].start_mark.index)), _end(text, parent.value[step])
    first = text.rfind("\n", 0, start) + 1
    behind = text.find("\n", end)
    behind = len(text) if behind < 0 else behind + 1
    if text[first:start].strip() or text[end:behind].split("#", maxsplit=1)[0].strip():
        return None
    return text[:first] + text[behind:]


def _added(text: str, parent: Node, step: int | str, value: Json) -> str:
    """A line more, behind the last one of the entry before it."""
    if isinstance(parent, MappingNode):
        key, last = parent.value[-1]
        column, end = int(key.start_mark.column), max(_end(text, last), int(key.end_mark.index))
        line = " " * column + f"{one_line(step)}: {one_line(value)}\n"
    else:
        index = min(int(step), len(parent.value))
        dash = text.rfind("-", 0, int(parent.value[0].start_mark.index))
        column = dash - (text.rfind("\n", 0, dash) + 1)
        line = " " * column + f"- {one_line(value)}\n"
        if index == 0:
            first = text.rfind("\n", 0, dash) + 1
            return text[:first] + line + text[first:]
        end = _end(text, parent.value[index - 1])
    behind = text.find("\n", end)
    if behind < 0:
        return text + "\n" + line
    return text[: behind + 1] + line + text[behind + 1 :]


def _start(text: str, node: Node) -> int:
    """Where a value begins. An empty one has its place behind its key's colon, not at what follows it."""
    start = int(node.start_mark.index)
    return len(text[:start].rstrip(" \n")) if _is_empty(node) else start


def _end(text: str, node: Node) -> int:
    """Where a value ends: of what is written over several lines, its last part's end."""
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        key, value = node.value[-1]
        return max(_end(text, value), int(key.end_mark.index))
    if isinstance(node, SequenceNode) and not node.flow_style and node.value:
        return _end(text, node.value[-1])
    start = _start(text, node)
    return start if _is_empty(node) else start + len(text[start : node.end_mark.index].rstrip())


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.value and node.style is None
