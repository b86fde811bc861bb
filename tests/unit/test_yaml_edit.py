"""Patches of a configuration: what RFC 6902 says, entries by their ids, and texts that keep all other lines."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.json_patch import PatchError, patched, same
from agent.yaml_edit import EditError, edited
from agent.yamltree import Tree, parse_tree

TEXT = """\
# The depot at the river
data_dir: /var/lib/enlace   # on the SSD
site: {id: depot, name: "Depot"}   # one line
devices:
  # the first one
  - id: cp1
    driver: modbus
    every_s: 2   # fast
    # about the report
    report:
      deadband: 0.5

  # the second one
  - {id: cp2, driver: modbus, every_s: 5}
rules: []
log:
  level: info
"""


def data_of(text: str) -> object:
    tree = parse_tree(text, "x")
    assert isinstance(tree, Tree), tree
    assert not tree.problems
    return tree.data


def change(text: str, *operations: object) -> str:
    wanted = patched(data_of(text), operations)  # type: ignore[arg-type] # it is JSON
    found = edited(text, wanted)
    assert same(data_of(found), wanted)
    return found


def test_one_value_is_one_line() -> None:
    found = change(TEXT, {"op": "replace", "path": "/devices/cp1/every_s", "value": 10})
    assert found == TEXT.replace("every_s: 2 ", "every_s: 10 ")
    found = change(TEXT, {"op": "replace", "path": "/devices/cp2/every_s", "value": 10})
    assert found == TEXT.replace("every_s: 5", "every_s: 10")


def test_keys_and_entries_come_and_go_with_their_lines_only() -> None:
    found = change(TEXT, {"op": "remove", "path": "/devices/cp1/report"})
    assert found == TEXT.replace("    report:\n      deadband: 0.5\n", "")
    found = change(TEXT, {"op": "add", "path": "/devices/-", "value": {"id": "cp3", "driver": "modbus"}})
    assert found == TEXT.replace("rules:", "  - {id: cp3, driver: modbus}\nrules:")
    found = change(TEXT, {"op": "remove", "path": "/devices/cp2"})
    assert found == TEXT.replace("  - {id: cp2, driver: modbus, every_s: 5}\n", "")
    found = change(TEXT, {"op": "add", "path": "/log/extra", "value": [1, "on", None, {"a b": 22.5}]})
    assert found == TEXT + '  extra: [1, "on", null, {"a b": 22.5}]\n'
    found = change(TEXT, {"op": "add", "path": "/store", "value": {"keep_raw_days": 9}})
    assert found == TEXT + "store: {keep_raw_days: 9}\n"
    found = change(TEXT, {"op": "add", "path": "/devices/0", "value": {"id": "first"}})
    assert found.index("first") < found.index("cp1")


def test_the_last_entry_and_whole_parts_can_go() -> None:
    found = change(TEXT, {"op": "remove", "path": "/devices/cp1"}, {"op": "remove", "path": "/devices/cp2"})
    assert "# The depot at the river" in found
    assert data_of(found)["devices"] == []  # type: ignore[index] # a mapping
    assert "level: debug" in change(TEXT, {"op": "replace", "path": "/log", "value": {"level": "debug"}})
    assert "level" not in change(TEXT, {"op": "remove", "path": "/log"})


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        ({"op": "remove", "path": "/nothing"}, "there is no /nothing"),
        ({"op": "replace", "path": "/devices/cp9/every_s", "value": 1}, "no entry `cp9`"),
        ({"op": "replace", "path": "/devices/7", "value": 1}, "none of number 7"),
        ({"op": "test", "path": "/site/id", "value": "other"}, "not that value"),
        ({"op": "move", "from": "/site", "path": "/site/id"}, "into itself"),
        ({"op": "remove", "path": ""}, "whole configuration"),
        ({"op": "add", "path": "site", "value": 1}, "begins with /"),
        ({"op": "add", "path": "/a"}, "has the keys"),
        ({"op": "merge", "path": "/a"}, "its op is none of"),
        ("remove", "no object"),
        ({"op": "add", "path": "/site/id/x", "value": 1}, "neither keys nor a list"),
    ],
)
def test_what_can_not_be_done_is_said(operation: object, text: str) -> None:
    with pytest.raises(PatchError, match=f"operation 1: .*{text}"):
        patched(data_of(TEXT), [operation])  # type: ignore[arg-type] # it is JSON


def test_operations_as_in_the_appendix_of_the_rfc() -> None:
    """RFC 6902, appendix A: 1, 2, 5, 6, 7, 10, 14, 16 and copy."""
    for before, operation, after in (
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, {"op": "add", "path": "/foo/1", "value": "qux"}, {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux"}, {"op": "replace", "path": "/baz", "value": "boo"}, {"baz": "boo"}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            {"op": "move", "from": "/foo/waldo", "path": "/qux/thud"},
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            {"op": "move", "from": "/foo/1", "path": "/foo/3"},
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        ({"foo": "bar"}, {"op": "add", "path": "/child", "value": {"g": {}}}, {"foo": "bar", "child": {"g": {}}}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),
        ({"foo": ["bar"]}, {"op": "add", "path": "/foo/-", "value": ["abc"]}, {"foo": ["bar", ["abc"]]}),
        ({"a": [1]}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": [1], "b": [1]}),
    ):
        assert patched(before, [operation]) == after  # type: ignore[arg-type] # it is JSON


def test_an_alias_would_change_elsewhere_too_and_is_refused() -> None:
    text = "a: &x {k: 1}\nb: *x\n"
    with pytest.raises(EditError, match="by hand"):
        change(text, {"op": "replace", "path": "/b/k", "value": 2})


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
)
_WORDS = st.sampled_from(["id", "name", "when", "a", "b c", "on", "1"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_WORDS, inner, max_size=4)),
    max_leaves=12,
)
_ROOTS = st.dictionaries(st.sampled_from(["site", "devices", "rules", "log"]), _VALUES, min_size=1)


def written(value: object, indent: int = 0) -> str:
    """In block style, with a comment at each key and entry."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = [f"{pad}# above {key}\n{pad}{json.dumps(key)}:{written(one, indent + 1)}" for key, one in value.items()]
        return "\n" + "\n".join(lines) if indent else "\n".join(lines)
    if isinstance(value, list) and value:
        return "\n" + "\n".join(f"{pad}# an entry\n{pad}-{written(one, indent + 1)}" for one in value)
    return f" {json.dumps(value, ensure_ascii=False)}  # behind"


@settings(deadline=None, max_examples=30)
@given(_ROOTS, _ROOTS)
def test_any_text_is_made_to_say_anything_or_is_refused(old: dict[str, object], new: dict[str, object]) -> None:
    text = written(old) + "\n"
    tree = parse_tree(text, "x")
    if not isinstance(tree, Tree) or tree.problems:
        return
    try:
        found = edited(text, new)  # type: ignore[arg-type] # it is JSON
    except EditError:
        return
    assert same(data_of(found), new)


@settings(deadline=None, max_examples=60)
@given(_ROOTS, st.data())
def test_what_stands_in_other_parts_keeps_each_letter(old: dict[str, object], data: st.DataObject) -> None:
    text = written({**old, "last": {"kept": 1}}) + "\n"
    tree = parse_tree(text, "x")
    if not isinstance(tree, Tree) or tree.problems or not isinstance(tree.data, dict):
        return
    key = data.draw(st.sampled_from(sorted(old)))
    found = edited(text, {**tree.data, key: data.draw(_VALUES)})
    at = text.index('# above last\n"last":')
    assert found.endswith(text[at:])
