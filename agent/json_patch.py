"""JSON Patch (RFC 6902) on plain data, with one liberty: an entry of a list may be named by its ``id``. Pure.

A pointer's token at a list is a number (RFC 6901), ``-`` behind the last, or the ``id`` (``station`` where it has none)
of an entry. An id of digits alone can't be told from a number, and is one.
"""

import copy
from collections.abc import Mapping, Sequence

from agent.yamltree import Json

MAX_OPERATIONS = 100
_KEYS = {
    "add": {"op", "path", "value"},
    "replace": {"op", "path", "value"},
    "test": {"op", "path", "value"},
    "remove": {"op", "path"},
    "move": {"op", "path", "from"},
    "copy": {"op", "path", "from"},
}
_NAMES = ("id", "station")


class PatchError(ValueError):
    """An operation that can't be done; its text says which and why."""


def patched(data: Json, operations: Sequence[object]) -> Json:
    """The data with all operations done, in their order. Raises ``PatchError``; ``data`` stays as it is."""
    if len(operations) > MAX_OPERATIONS:
        raise PatchError(f"a patch has up to {MAX_OPERATIONS} operations")
    result = copy.deepcopy(data)
    for number, operation in enumerate(operations, 1):
        try:
            result = _done(result, operation)
        except PatchError as error:
            raise PatchError(f"operation {number}: {error}") from error
    return result


def _done(data: Json, operation: object) -> Json:
    if not isinstance(operation, Mapping):
        raise PatchError("it is no object")
    op = operation.get("op")
    if not isinstance(op, str) or op not in _KEYS:
        raise PatchError(f"its op is none of {', '.join(_KEYS)}")
    if set(operation) != _KEYS[op]:
        raise PatchError(f"{op} has the keys {', '.join(sorted(_KEYS[op]))}")
    tokens = _tokens(operation["path"])
    value = operation.get("value")
    if op in {"move", "copy"}:
        source = _tokens(operation["from"])
        value = copy.deepcopy(_get(data, source))
        if op == "move":
            if tokens[: len(source)] == source and tokens != source:
                raise PatchError("a value can't be moved into itself")
            data = _removed(data, source)
    if op == "remove":
        return _removed(data, tokens)
    if op == "test":
        if not same(_get(data, tokens), value):
            raise PatchError(f"{operation['path']} is not that value")
        return data
    return _put(data, tokens, copy.deepcopy(value), insert=op != "replace")


def same(one: object, other: object) -> bool:
    """Whether two values are one in JSON, where ``true`` is not 1 (and 1 is 1.0)."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _tokens(path: object) -> list[str]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise PatchError("a path is a text that begins with / (RFC 6901)")
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _get(data: Json, tokens: Sequence[str]) -> Json:
    for token in tokens:
        if isinstance(data, dict) and token in data:
            data = data[token]
        elif isinstance(data, list):
            data = data[_index(data, token)]
        else:
            raise PatchError(f"there is no {'/'.join(('', *tokens))}")
    return data


def _removed(data: Json, tokens: Sequence[str]) -> Json:
    if not tokens:
        raise PatchError("the whole configuration can't be removed")
    _get(data, tokens)
    place, last = _get(data, tokens[:-1]), tokens[-1]
    if isinstance(place, dict):
        del place[last]
    elif isinstance(place, list):
        del place[_index(place, last)]
    return data


def _put(data: Json, tokens: Sequence[str], value: Json, *, insert: bool) -> Json:
    if not tokens:
        return value
    place, last = _get(data, tokens[:-1]), tokens[-1]
    if isinstance(place, dict):
        if not insert and last not in place:
            raise PatchError(f"there is no {'/'.join(('', *tokens))} to replace")
        place[last] = value
    elif isinstance(place, list):
        if insert and last == "-":
            place.append(value)
        elif insert and last.isdecimal():
            place.insert(_index([*place, None], last), value)
        elif insert and not any(_is_named(one, last) for one in place):
            place.append(value)
        else:
            place[_index(place, last)] = value
    else:
        raise PatchError(f"{'/'.join(('', *tokens[:-1]))} holds neither keys nor a list")
    return data


def _index(items: Sequence[Json], token: str) -> int:
    if token.isdecimal() and str(int(token)) == token:
        if int(token) < len(items):
            return int(token)
        raise PatchError(f"the list has {len(items)} entries, none of number {token}")
    found = [index for index, one in enumerate(items) if _is_named(one, token)]
    if len(found) != 1:
        raise PatchError(f"the list has no entry `{token}`")
    return found[0]


def _is_named(entry: Json, name: str) -> bool:
    if not isinstance(entry, dict):
        return False
    return next((entry[key] for key in _NAMES if key in entry), None) == name
