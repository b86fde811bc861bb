"""What every operation has in common, said once: its error answers, its proofs, and the words of its fields.

Rules of this file:

1. Each error that an operation may answer with is declared, as a problem: which ones follows from its role, its path,
   its query and its body; a route names what does not follow (``responses={404: {}}``). No other status leaves the
   gateway; 500 is a bug.
2. A field that means the same everywhere has its words in ``words.py``; a model that means something else says so.
3. Each answer in JSON has an example in ``examples.json``, by operation: what the demo answered, lists cut to two and
   secrets cut off, or written by hand where it has nothing to say. A test holds them to the schemas.
"""

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from agent.api.words import EXAMPLES, FIELDS, PATHS

EXAMPLES_OF_ANSWERS = Path(__file__).with_name("examples.json")
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
                    "hint": {"type": "string", "description": "what to do about it, where that is known"},
                    "key": {"type": "string", "description": "of a body, or of a device's entry: the key in it"},
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


def install(app: FastAPI, make_all: Callable[[], None]) -> None:
    """Complete the description that FastAPI makes. ``make_all`` makes the routes that are not there yet."""
    described, made = app.openapi, list[dict[str, Any]]()
    making = threading.Lock()  # FastAPI keeps what it made before it is complete: the next one who asks would get that

    def complete() -> dict[str, Any]:
        with making:
            if not made:
                make_all()
                made.append(_complete(described()))
            return made[0]

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
    examples = json.loads(EXAMPLES_OF_ANSWERS.read_text())
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            _complete_operation(path, method, operation)
            _give_example(operation, examples.get(f"{method.upper()} {path}"))
    return description


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = operation.get("parameters", [])
    for one in parameters:
        if one["in"] == "path" and one["name"] in PATHS:
            one.setdefault("description", PATHS[one["name"]])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "properties" in content["schema"]:
            _name_fields(content["schema"].get("title", ""), content["schema"])
    responses = operation["responses"]
    for status in _statuses(path, method, operation, parameters):
        responses[str(status.value)] = {"$ref": f"#/components/responses/{status.phrase.replace(' ', '')}"}
    for status, answer in responses.items():
        if answer.get("description") == "Successful Response":
            answer["description"] = HTTPStatus(int(status)).phrase


def _give_example(operation: dict[str, Any], example: object) -> None:
    """Show what is answered when it went well."""
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/json")
        if example is not None and content is not None and status.startswith("2"):
            content["example"] = example


def _statuses(path: str, method: str, operation: dict[str, Any], parameters: list[dict[str, Any]]) -> set[HTTPStatus]:
    """The errors that it may answer with."""
    found = {*_ALL, *(HTTPStatus(int(status)) for status in operation["responses"] if not status.startswith("2"))}
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
    """Give a model an example, and its fields their words, where it has none."""
    if model in EXAMPLES:
        schema.setdefault("examples", [EXAMPLES[model]])
    for name, field in schema.get("properties", {}).items():
        words = FIELDS.get(f"{model}.{name}") or FIELDS.get(name)
        if "description" not in field and words is not None:
            field["description"] = words
