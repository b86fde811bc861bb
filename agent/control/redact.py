"""What may be shown and kept of a command's arguments and answers: no id tags, passwords, keys or tokens. Pure."""

import json
import math
from collections.abc import Mapping

HIDDEN = "***"
MAX_TEXT = 256
MAX_BYTES = 8192
_SECRET = ("password", "passwd", "secret", "idtag", "idtoken", "credential")
#: A single value under a name that ends so; a list or object under it is looked into (``configurationKey``).
_SECRET_END = ("key", "token", "pin")
#: Names of what is set, beside which ``value`` is what it is set to.
_NAMES = ("key", "variable", "name")


def redacted(data: Mapping[str, object]) -> dict[str, object]:
    """A JSON-able copy without secrets, texts cut at ``MAX_TEXT``; its size alone where that is above ``MAX_BYTES``."""
    shown = _mapping(data)
    size = len(json.dumps(shown))
    return shown if size <= MAX_BYTES else {"left_out_bytes": size}


def _mapping(data: Mapping[str, object]) -> dict[str, object]:
    names_secret = any(_is_secret(str(data.get(name, ""))) for name in _NAMES)
    shown: dict[str, object] = {}
    for name, value in data.items():
        is_name = name.casefold() in _NAMES and "value" in data
        hidden = _is_secret(str(name), value) and not is_name
        hidden = hidden or (name == "value" and names_secret)
        shown[str(name)] = HIDDEN if hidden and value not in (None, "") else _value(value)
    return shown


def _value(value: object) -> object:
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)[:MAX_TEXT]


def _is_secret(name: str, value: object = "") -> bool:
    plain = "".join(character for character in name.casefold() if character.isalnum())
    if any(word in plain for word in _SECRET):
        return True
    return plain.endswith(_SECRET_END) and not isinstance(value, Mapping | list | tuple)
