"""What a message must look like: the standard's JSON schemas, which the ``ocpp`` package carries as files.

Rules of this file:

1. Two ways to look: lenient for what chargers send (properties that the schema doesn't know are theirs to add), strict
   for what we send. Formats (``date-time``) never count: the codecs read times, and say how good they are.
2. Nothing is loaded before it is needed: the files of one message are read and compiled when it is first seen
   (some ms, RequestStartTransaction 130 ms), and kept. What chargers usually say, and are told, can be prepared before
   that in a thread (``usual``, ``prepare``): 0.1 s and 1.5 MB for 1.6, 0.2 to 0.5 s and 2 MB for 2.0.1. Nothing is
   fetched: no schema refers to another file.
3. 1.6's limits have at most one digit behind the point (``multipleOf: 0.1``). A binary float is never a multiple of
   0.1, so that is held against the value's shortest decimal notation instead, and only for what we send.
4. A check says yes or no. One that also says what is wrong takes twice the memory and three times as long to compile:
   it is made for a message that was once wrong.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import fastjsonschema

from drivers.codec.ocpp_model import Version

_FOLDERS = {Version.V16: "v16", Version.V201: "v201", Version.V21: "v21"}
MAX_TEXT = 200

#: What a day brings, in about the order in which it comes: what chargers say, and what they are told.
_SAID = ("BootNotification", "StatusNotification", "Heartbeat", "Authorize", "MeterValues")
_SAID_16 = (*_SAID, "StartTransaction", "StopTransaction")
_SAID_2 = (*_SAID, "TransactionEvent", "NotifyEvent")
_TOLD = ("SetChargingProfile", "ClearChargingProfile", "TriggerMessage", "ChangeAvailability", "Reset")
_TOLD_16 = ("GetConfiguration", "ChangeConfiguration", *_TOLD, "RemoteStartTransaction", "RemoteStopTransaction")
_TOLD_2 = ("GetVariables", "SetVariables", *_TOLD, "RequestStartTransaction", "RequestStopTransaction")

_Check = Callable[[object], object]
#: A schema in one of its forms: version, action, whether it is the answer's, whether it is held strictly.
Form = tuple[Version, str, bool, bool]


class Schemas:
    """The schemas of all versions; one of these serves all chargers."""

    def __init__(self) -> None:
        self._checks: dict[Form, _Check] = {}
        self._telling: dict[Form, _Check] = {}
        self._schemas: dict[tuple[Version, str, bool], Mapping[str, object]] = {}
        self._files: dict[Version, Mapping[tuple[str, bool], Traversable]] = {}

    def knows(self, version: Version, action: str) -> bool:
        """Whether that version has a message of this name."""
        return self._schema(version, action, result=False) is not None

    def usual(self, version: Version) -> list[Form]:
        """What will be needed of this version on any day, and is not there yet."""
        said, told = (_SAID_2, _TOLD_2) if version.two else (_SAID_16, _TOLD_16)
        # Lenient for what chargers say, strict for what we do.
        forms = [(version, action, result, result) for action in said for result in (False, True)]
        forms += [(version, action, result, not result) for action in told for result in (False, True)]
        return [form for form in forms if form not in self._checks]

    def prepare(self, form: Form) -> None:
        """Compile it; may be done in another thread. Both would come to the same, should it be needed meanwhile."""
        self._compiled(*form)

    def deviation(
        self, version: Version, action: str, payload: object, *, result: bool = False, strict: bool = False
    ) -> str:
        """How the payload breaks its schema, in a few words without its values; empty when it does not."""
        check = self._checks.get((version, action, result, strict)) or self._compiled(version, action, result, strict)
        try:
            check(payload)
        except fastjsonschema.JsonSchemaException:
            return self._words(version, action, payload, result, strict)
        if strict and version is Version.V16:
            return next(_too_fine(payload), "")
        return ""

    def missing(self, version: Version, action: str, payload: Mapping[str, object]) -> list[str]:
        """Which properties an answer must have and has not."""
        schema = self._schema(version, action, result=True)
        required = schema.get("required", ()) if schema else ()
        return [name for name in required if name not in payload] if isinstance(required, list) else []

    def _words(self, version: Version, action: str, payload: object, result: bool, strict: bool) -> str:  # noqa: FBT001 - a key
        form = version, action, result, strict
        if form not in self._telling:
            schema = _eased(self._schema(version, action, result=result), strict=strict)
            self._telling[form] = _unknown if schema is None else fastjsonschema.compile(schema, use_default=False)
        try:
            self._telling[form](payload)
        except fastjsonschema.JsonSchemaException as error:
            return str(error).removeprefix("data.")[:MAX_TEXT]
        return "is not what its schema says"

    def _compiled(self, version: Version, action: str, result: bool, strict: bool) -> _Check:  # noqa: FBT001 - a key
        schema = self._schema(version, action, result=result)
        if schema is None:
            return _unknown
        eased = _eased(schema, strict=strict)
        # Without its words, which are half of its code: what breaks a schema is looked at once more (rule 4).
        check: _Check = fastjsonschema.compile(eased, use_default=False, detailed_exceptions=False)
        self._checks[version, action, result, strict] = check
        return check

    def _schema(self, version: Version, action: str, *, result: bool) -> Mapping[str, object] | None:
        key = version, action, result
        if key in self._schemas:
            return self._schemas[key]
        if version not in self._files:
            self._files[version] = _index(version)
        file = self._files[version].get((action, result))
        if file is None:
            return None  # and not remembered: chargers may invent many names
        schema: Mapping[str, object] = json.loads(file.read_text("utf-8-sig"))
        self._schemas[key] = schema
        return schema


def _index(version: Version) -> Mapping[tuple[str, bool], Traversable]:
    """The files of a version by action, and whether it is the answer's."""
    found = {}
    for file in (files("ocpp") / _FOLDERS[version] / "schemas").iterdir():
        stem = file.name.removesuffix(".json")
        # 1.6's requests bear the bare name, and so does 2.1's NotifyPeriodicEventStream, which is not answered.
        action = stem.removesuffix("Response").removesuffix("Request")
        found[action, stem.endswith("Response")] = file
    return found


def _unknown(_: object) -> None:
    raise fastjsonschema.JsonSchemaValueException("no message of this version")


def _eased(schema: Any, *, strict: bool) -> Any:  # noqa: ANN401 - JSON
    """The schema without what must not count; ``properties`` holds names, so nothing is left out there."""
    if isinstance(schema, list):
        return [_eased(one, strict=strict) for one in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"format", "multipleOf", "$id", "id"} | (set() if strict else {"additionalProperties"})
    return {
        key: {name: _eased(one, strict=strict) for name, one in value.items()}
        if key in {"properties", "definitions"}
        else _eased(value, strict=strict)
        for key, value in schema.items()
        if key not in left_out
    }


def _too_fine(payload: object) -> Iterator[str]:
    """1.6 has numbers with a fraction only where one digit of it is allowed."""
    if isinstance(payload, Mapping):
        for key, value in payload.items():
            if isinstance(value, float) and round(value, 1) != value:
                yield f"{key} has more than one digit behind the point"
            else:
                yield from _too_fine(value)
    elif isinstance(payload, list | tuple):
        for one in payload:
            yield from _too_fine(one)
