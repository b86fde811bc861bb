"""What pydantic found, in the words of the person who wrote the file: pure text making for ``agent/yamlfile.py``."""

import difflib
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

#: A value under such a key is never repeated in a message.
_SECRET = re.compile(r"passw|secret|token|credential|private|api_?key", re.IGNORECASE)
#: What a model's own validators raise: their texts are whole sentences.
_VALIDATORS = frozenset({"value_error", "assertion_error", "enlace"})
_NOTHING = object()
_SHOWN_CHARACTERS = 40
_SHOWN_KEYS = 12
#: What YAML 1.1 called booleans; people still write them.
_BOOLEAN_WORDS = {"on": "true", "yes": "true", "off": "false", "no": "false"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding at a place in the data: what is wrong and what to write. ``at_key``: it is about the key itself."""

    loc: tuple[int | str, ...]
    text: str
    hint: str
    at_key: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    """One pydantic error with what the texts are made of."""

    error: ErrorDetails
    loc: tuple[int | str, ...]  #: where it stands in the data
    key: str  #: the last key on the way there
    kinds: Sequence[object]  #: what the model may be at that place
    info: FieldInfo | None  #: the model's field there, for its description and examples
    hidden: bool  #: the value is a secret

    @property
    def value(self) -> object:
        value: object = self.error["input"]
        return value

    @property
    def shown(self) -> str:
        return "what stands here" if self.hidden else _shown(self.value)

    def context(self, name: str) -> str:
        return str(self.error.get("ctx", {}).get(name, ""))


def did_you_mean(word: str, known: Collection[str]) -> str:
    """``did you mean `x`?`` for the nearest known word; otherwise the known words, or nothing when they are many."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    if known and len(known) <= _SHOWN_KEYS:
        return "known here: " + ", ".join(sorted(known))
    return ""


def explain(model: type[BaseModel], data: object, error: ErrorDetails) -> Finding:
    """A pydantic error of ``model`` on ``data`` as a finding at a place that the file has."""
    raw = error["loc"]
    at_key = bool(raw) and raw[-1] == "[key]"
    kinds, info = _walk(model, raw)
    loc = _place(data, raw)
    kind = error["type"]
    if kind == "union_tag_invalid":
        # The field that is known here is the one around it, whose description helps nobody.
        loc, info = (*loc, error["ctx"]["discriminator"].strip("'")), None
    at: tuple[int | str, ...] = tuple(error.get("ctx", {}).get("at", ()))
    # What is about the whole file says itself what it is about.
    names = [part for part in (*loc, *at) if isinstance(part, str)] if loc else []
    case = _Case(error, loc, names[-1] if names else "", kinds, info, any(_SECRET.search(name) for name in names))
    if kind == "extra_forbidden":
        return _unknown_key(model, case)
    if kind == "missing":
        return _missing_key(case, str(raw[-1]))
    if kind == "union_tag_not_found":
        return _missing_tag(case)
    text, hint = _TEXTS.get(kind, _other)(case)
    if not hint and case.info is not None:
        hint = _example(case.info)
    if case.key:
        colon = ":" if kind in _VALIDATORS else ""
        text = f"`{case.key}`{colon} {text}"
    return Finding((*loc, *at), text, hint, at_key)


# --- what the file has and what the model wants at a place ---


def _place(data: object, raw: Sequence[int | str]) -> tuple[int | str, ...]:
    """The part of pydantic's location that exists in the data: names of union members and validators are left out."""
    place: list[int | str] = []
    for part in raw:
        if isinstance(data, Mapping):
            found = data.get(part, _NOTHING)
        else:
            found = data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else _NOTHING
        if found is not _NOTHING:
            data = found
            place.append(part)
    return tuple(place)


def _walk(model: type[BaseModel], raw: Sequence[int | str]) -> tuple[list[object], FieldInfo | None]:
    """The types that the model allows at a location, and its field there."""
    kinds: list[object] = [model]
    info: FieldInfo | None = None
    for part in raw:
        deeper: list[object] = []
        for kind in kinds:
            field = _fields(kind).get(str(part)) if isinstance(part, str) else None
            if field is not None:
                info = field
                deeper += _members(field.annotation)
            else:
                deeper += _items(kind, part)
        # A part that leads nowhere is the name of a union's member, or of a validator.
        kinds = deeper or [kind for kind in kinds if _answers_to(kind, str(part))] or kinds
    return kinds, info


def _fields(kind: object) -> Mapping[str, FieldInfo]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {field.alias or name: field for name, field in kind.model_fields.items()}
    return {}


def _members(annotation: object) -> list[object]:
    """The types behind ``Annotated``, ``Union`` and ``| None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        return [kind for member in get_args(annotation) for kind in _members(member)]
    return [] if annotation is types.NoneType else [annotation]


def _items(kind: object, part: int | str) -> list[object]:
    """What a mapping or list of that type holds."""
    origin, arguments = get_origin(kind), get_args(kind)
    if not isinstance(origin, type) or not arguments:
        return []
    if isinstance(part, str):
        return _members(arguments[1]) if issubclass(origin, Mapping) else []
    if issubclass(origin, tuple) and arguments[-1] is not Ellipsis:
        return _members(arguments[part]) if part < len(arguments) else []
    return _members(arguments[0]) if issubclass(origin, Collection) and not issubclass(origin, Mapping) else []


def _answers_to(kind: object, label: str) -> bool:
    """Whether a union's member is the one that pydantic calls so: by its class, or by a tag that it carries."""
    if isinstance(kind, type) and kind.__name__ == label:
        return True
    return any(label in map(str, _choices(field.annotation)) for field in _fields(kind).values())


def _choices(annotation: object) -> list[object]:
    return [choice for kind in _members(annotation) if get_origin(kind) is Literal for choice in get_args(kind)]


# --- the texts ---


def _unknown_key(model: type[BaseModel], case: _Case) -> Finding:
    kinds, _ = _walk(model, case.error["loc"][:-1])
    known = {name for kind in kinds for name in _fields(kind)}
    return Finding(case.loc, f"unknown key `{case.key}`", did_you_mean(case.key, known), at_key=True)


def _missing_key(case: _Case, name: str) -> Finding:
    hint = f"add `{name}: ...`"
    if case.info is not None and case.info.examples:
        hint = f"add for example `{name}: {_plain(case.info.examples[0])}`"
    elif case.info is not None and case.info.description:
        hint = f"{hint}: {case.info.description}"
    return Finding(case.loc, f"`{name}` is missing here", hint)


def _missing_tag(case: _Case) -> Finding:
    name = case.context("discriminator").strip("'")
    fields = [field for kind in case.kinds if (field := _fields(kind).get(name))]
    choices = sorted({str(choice) for field in fields for choice in _choices(field.annotation)})
    of = ", one of " + ", ".join(choices) if choices else ""
    return Finding(case.loc, f"`{name}` is missing here", f"add `{name}: ...`{of}")


def _example(info: FieldInfo) -> str:
    """What the model's author wrote to help: an example, else the description."""
    return f"write for example `{_plain(info.examples[0])}`" if info.examples else info.description or ""


def _plain(value: object) -> str:
    """A value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: object) -> str:
    """A value as a person would point at it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        short = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
        return f"the text {short!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return str(value)[:_SHOWN_CHARACTERS]


def _number(noun: str) -> Callable[[_Case], tuple[str, str]]:
    def text(case: _Case) -> tuple[str, str]:
        quoted = isinstance(case.value, str) and re.fullmatch(r"\s*[-+]?[0-9][0-9._]*\s*", case.value) is not None
        return f"must be {noun}, not {case.shown}", "write it without quotes" if quoted else ""

    return text


def _boolean(case: _Case) -> tuple[str, str]:
    word = _BOOLEAN_WORDS.get(str(case.value).lower())
    return f"must be true or false, not {case.shown}", f"write `{word}`" if word else "write `true` or `false`"


def _string(case: _Case) -> tuple[str, str]:
    quote = isinstance(case.value, bool | int | float)
    return f"must be text, not {case.shown}", "put it into quotes" if quote else ""


def _choice(case: _Case) -> tuple[str, str]:
    expected = case.context("expected") or case.context("expected_tags")
    words = re.findall(r"'([^']*)'", expected)
    value = case.context("tag") or case.value
    shown = "what stands here" if case.hidden else _shown(value)
    near = did_you_mean(str(value), words)
    return f"must be one of {', '.join(words) or expected}, not {shown}", near if near.startswith("did") else ""


def _bound(words: str, name: str) -> Callable[[_Case], tuple[str, str]]:
    def text(case: _Case) -> tuple[str, str]:
        return f"must be {words} {case.context(name).removesuffix('.0')}, not {case.shown}", ""

    return text


def _pattern(case: _Case) -> tuple[str, str]:
    return f"has a form that is not allowed: {case.shown}", f"it must match {case.context('pattern')}"


def _own(case: _Case) -> tuple[str, str]:
    return case.context("text"), case.context("hint")


def _other(case: _Case) -> tuple[str, str]:
    message = str(case.error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if case.error["type"] in _VALIDATORS:
        return message, ""
    message = message.removeprefix("Input ")
    return f"{message[:1].lower()}{message[1:]}, not {case.shown}", ""


_WHOLE, _NUMBER = _number("a whole number"), _number("a number")
_TEXTS: Mapping[str, Callable[[_Case], tuple[str, str]]] = types.MappingProxyType(
    {
        "enlace": _own,
        "int_type": _WHOLE,
        "int_parsing": _WHOLE,
        "int_from_float": _WHOLE,
        "float_type": _NUMBER,
        "float_parsing": _NUMBER,
        "bool_type": _boolean,
        "bool_parsing": _boolean,
        "string_type": _string,
        "literal_error": _choice,
        "enum": _choice,
        "union_tag_invalid": _choice,
        "greater_than": _bound("more than", "gt"),
        "greater_than_equal": _bound("at least", "ge"),
        "less_than": _bound("less than", "lt"),
        "less_than_equal": _bound("at most", "le"),
        "finite_number": _number("a finite number"),
        "string_pattern_mismatch": _pattern,
        "string_too_short": lambda case: (f"must have at least {case.context('min_length')} characters", ""),
        "string_too_long": lambda case: (f"must have at most {case.context('max_length')} characters", ""),
        "too_short": lambda case: (f"must have at least {case.context('min_length')} entries", ""),
        "too_long": lambda case: (f"must have at most {case.context('max_length')} entries", ""),
        "dict_type": lambda case: (f"must be a mapping, not {case.shown}", "write `key: value` lines under it"),
        "model_type": lambda case: (f"must be a mapping, not {case.shown}", "write `key: value` lines under it"),
        "list_type": lambda case: (f"must be a list, not {case.shown}", "write `[a, b]`, or a line `- a` for each"),
        "tuple_type": lambda case: (f"must be a list, not {case.shown}", "write `[a, b]`, or a line `- a` for each"),
    }
)
