"""What every operation has in common, said once: its error answers, its proofs, and the words of its fields.

Rules of this file:

1. Each error that an operation may answer with is declared, as a problem: which ones follows from its role, its path,
   its query and its body. No other status leaves the gateway; 500 is a bug.
2. A field that means the same everywhere has its words here. A model that means something else says so itself.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

MEDIA_TYPE = "application/problem+json"
PUBLIC = "everybody"

_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457 problem details",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "about:blank: the status says what kind of problem it is"},
        "title": {"type": "string", "description": "the status in words"},
        "status": {"type": "integer", "description": "as of the answer"},
        "detail": {"type": "string", "description": "what is wrong and what to do"},
        "instance": {"type": "string", "description": "the path that was asked for"},
        "hint": {"type": "string", "description": "what to do about it, where that is known"},
        "refusal": {"type": "string", "description": "why a command was refused, in one word"},
        "id": {"type": "string", "description": "of the command that was refused"},
        "errors": {
            "type": "array",
            "description": "each wrong input: where and what",
            "items": {
                "type": "object",
                "properties": {
                    "where": {"type": "string", "description": "body, query or path, and the keys to it"},
                    "what": {"type": "string", "description": "what is wrong with it"},
                },
            },
        },
    },
}

_PROOFS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an access token, or the API token of a machine"},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "enlace_session",
        "description": "of a browser; changes also need the header x-enlace-csrf: 1",
    },
}

#: Status -> when, and an example of what is said then.
_PROBLEMS: Mapping[HTTPStatus, tuple[str, str]] = {
    HTTPStatus.BAD_REQUEST: ("the body did not come to its end", "the body did not come to its end"),
    HTTPStatus.UNAUTHORIZED: (
        "nobody is logged in",
        "log in first: POST /api/auth/login gives a token for the header Authorization: Bearer …",
    ),
    HTTPStatus.FORBIDDEN: (
        "the role is too small, or the gateway is not set up yet",
        "this takes the role operator; ana is viewer",
    ),
    HTTPStatus.NOT_FOUND: ("there is no such thing", "there is no device 'battery9': /api/devices lists them"),
    HTTPStatus.CONFLICT: (
        "it can't be done as things are",
        "there is a device 'battery1' already: PUT replaces it",
    ),
    HTTPStatus.LENGTH_REQUIRED: ("a body without its length", "send the body with a Content-Length"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("the body is too long", "a body has at most 65536 bytes here"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("the body is no JSON", "send JSON, with Content-Type: application/json"),
    HTTPStatus.UNPROCESSABLE_ENTITY: ("an input is wrong", "query.page: must be at least 1"),
    HTTPStatus.TOO_MANY_REQUESTS: ("too much of it; Retry-After says when to try again", "too many wrong guesses"),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "the gateway can't do it now, or runs without it",
        "this gateway runs without control",
    ),
}
_ALL = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_WITH_BODY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.LENGTH_REQUIRED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
_PROVED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

#: What a field of this name means unless its model says it; ``Model.field`` goes before ``field``.
FIELDS: Mapping[str, str] = {
    "acknowledged": "when somebody said that he has seen it",
    "acknowledged_by": "who said so; empty: nobody",
    "access_token": "for the header Authorization: Bearer …",
    "actions": "what it can be told to do: /api/devices/{id}/actions has the arguments",
    "ActionOut.doc": "what it does, in words",
    "address": "from where it calls",
    "addresses": "how many addresses it tells",
    "alarm": "the alarm's id",
    "args": "arguments of the action",
    "boot": "id of the gateway's present boot, 32 hex digits",
    "charge_point_id": "the last part of the URL under which it calls",
    "cleared": "when its condition was over",
    "created": "when it was made",
    "created_by": "who made it: user:…",
    "db": "whether the store can be written",
    "DecisionOut.result": "what came of it at the device; empty: nothing was to be done",
    "DecisionOut.winner": "the wish that decided; null: nobody wished for anything",
    "DecisionOut.wishes": "all that were weighed, the strongest first",
    "DeviceLatestOut.values": "one for each of its signals",
    "DeviceOut.signals": "how many signals it has",
    "DeviceEntry.id": "its name: letters, digits, _ and -",
    "device": "the device's id",
    "devices": "how many devices are in which state",
    "driver": "how it is reached: can, modbus, ocpp, serial_meter",
    "finished_by": "user:…, or clock; empty: it has not finished",
    "first_seen": "when it called first",
    "follows": "whether it does as it is told",
    "from": "from when on",
    "hint": "what to do about it; empty: nothing is known",
    "HistoryOut.points": "in order of time",
    "id": "its id",
    "IdTag.status": "whether it may charge",
    "IdTagFields.status": "whether it may charge",
    "IdTagOut.status": "whether it may charge: Accepted or Blocked",
    "inserted": "how many rows are new and on disk",
    "items": "what is on this page",
    "key": "who wishes it: a new wish under the same key takes the place of the old one",
    "kind": "what it is",
    "label": "what it is called by people",
    "labels": "what its numbers mean, for choices",
    "last_error": "what went wrong last; empty: nothing",
    "last_seen": "when it called last",
    "last_sent": "when it took a message last; null: never since the start",
    "limit_a": "what it may draw per phase, in A; null: nothing is said about that",
    "location": "where it stands, in words",
    "max": "the highest value",
    "max_kw": "what it can draw at most, in kW",
    "meter": "the signal source that is held below the limit",
    "min": "the lowest value",
    "name": "what it is called",
    "new": "the password from now on: at least ten characters",
    "offline": "how many are offline",
    "ok": "whether it is well",
    "old": "the present password",
    "online": "how many are online",
    "origin": "how strong the wish is: whose it is",
    "outcome": "done, rejected, failed, expired, or superseded by a later one",
    "outlet": "its number at the charger, from 1",
    "page": "number of this page, from 1",
    "page_size": "how many are on a full page",
    "parts": "the parts of the gateway, wires apart",
    "password": "at least ten characters, and not the name",
    "Credentials.password": "of that user",
    "phases": "each phase of the connection",
    "point": "what is measured, as docs/profiles.md names it",
    "raised": "when its condition came true",
    "raised_count": "how often it was raised",
    "reason": "why, in words",
    "refresh_token": "from the log-in, or from the refresh before",
    "refusal": "why it was rejected, in one word; null: it was not",
    "result": "what came of it",
    "results": "what came of each command",
    "role": "viewer reads, operator acts, admin changes",
    "running": "whether it is being done now",
    "sent": "whether it was taken",
    "set": "switch it on or off; null: leave it",
    "settings": "what can be set of it, by point",
    "shelved_by": "who shelved it; empty: nobody",
    "shelved_until": "until when nobody is told of it; null: it is not shelved",
    "signal": "the signal",
    "since": "since when",
    "site": "the site's id",
    "start": "when it began",
    "started": "when it was started; null: it was not",
    "starting": "how many were not heard yet",
    "state": "how it is",
    "station": "the station",
    "stations": "each station",
    "status": "on or off; null: nothing is said about that",
    "HealthOut.status": "degraded: a part or a device is not well",
    "StatusOut.status": "degraded: a part or a device is not well",
    "tag": "the id tag as the charger reads it, printable ASCII",
    "text": "the same for people",
    "then": "what is done with stations",
    "time": "when, ISO 8601 UTC",
    "token": "for the header Authorization: Bearer …; shown this once",
    "token_type": "how it is sent",
    "tokens": "the API tokens, without the tokens themselves",
    "total": "how many there are, on all pages",
    "unit": "what it is measured in",
    "unsupported": "how many can't be served",
    "until": "until when; null: for ever",
    "uptime_s": "seconds since the API was made",
    "username": "the user's name",
    "version": "its version",
    "PendingOut.version": "what it speaks; empty: it was not heard",
    "wire": "the wire that it is on; null: none yet",
    "wires": "how many wires are in which state",
}
#: Parameters of paths.
_PATHS: Mapping[str, str] = {
    "alarm_id": "the alarm's id, as /api/alarms lists it",
    "channel_id": "the channel's id, as /api/notify lists it",
    "charge_point_id": "the last part of the URL under which the charger calls",
    "code": "the machine's code, as /api/machines lists it",
    "device_id": "the device's id, as /api/devices lists it",
    "event_id": "the event's id, as /api/events lists it",
    "label": "the token's label",
    "name": "the user's name",
    "number": "the session's number, as /api/sessions lists it",
    "station_id": "the station's id, as /api/stations lists it",
    "tag_id": "the tag's hash, as /api/id-tags lists it",
    "vin": "the vehicle's identification number",
}


def install(app: FastAPI) -> None:
    """Complete the description that FastAPI makes."""
    described = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(described())
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign] # FastAPI's documented way


def _complete(description: dict[str, Any]) -> dict[str, Any]:
    components = description["components"]
    schemas = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _SCHEMA
    components["securitySchemes"] = _PROOFS
    components["responses"] = {status.phrase.replace(" ", ""): _answer(status) for status in _PROBLEMS}
    for name, schema in schemas.items():
        _name_fields(name, schema)
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            _complete_operation(path, method, operation)
    return description


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = operation.get("parameters", [])
    for one in parameters:
        if one["in"] == "path" and one["name"] in _PATHS:
            one.setdefault("description", _PATHS[one["name"]])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "properties" in content["schema"]:
            _name_fields(content["schema"].get("title", ""), content["schema"])
    responses = operation["responses"]
    for status in _statuses(path, method, operation, parameters):
        responses[str(status.value)] = {"$ref": f"#/components/responses/{status.phrase.replace(' ', '')}"}
    for status, answer in responses.items():
        if answer.get("description") == "Successful Response":
            answer["description"] = HTTPStatus(int(status)).phrase


def _statuses(path: str, method: str, operation: dict[str, Any], parameters: list[dict[str, Any]]) -> set[HTTPStatus]:
    """The errors that it may answer with."""
    found = {*_ALL}
    reads = method == "get"
    if operation.get("x-role") != PUBLIC or not reads:
        found |= {*_PROVED}
    if "{" in path or parameters or not reads or operation.get("x-role") == PUBLIC:
        found.add(HTTPStatus.NOT_FOUND)
    if not reads:
        found.add(HTTPStatus.CONFLICT)
    if "requestBody" in operation:
        found |= {*_WITH_BODY}
    # An unknown query parameter is refused everywhere.
    found.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    return found


def _answer(status: HTTPStatus) -> dict[str, Any]:
    when, detail = _PROBLEMS[status]
    example = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    answer: dict[str, Any] = {"description": when, "content": {MEDIA_TYPE: content}}
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        text = "seconds until it may be tried again"
        answer["headers"] = {"Retry-After": {"description": text, "schema": {"type": "integer"}}}
    return answer


def _name_fields(model: str, schema: dict[str, Any]) -> None:
    """Give the fields of a model their words where it has none for them."""
    for name, field in schema.get("properties", {}).items():
        words = FIELDS.get(f"{model}.{name}") or FIELDS.get(name)
        if "description" not in field and words is not None:
            field["description"] = words
