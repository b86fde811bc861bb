"""The OpenAPI description as a document: every operation, field and body is explained, and the examples are right."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from agent.api import openapi, words
from agent.api.users import Role
from agent.api.wrong_inputs import wrong_input
from tests.unit.api_rig import Json, Rig, problem

#: Any JSON: there is nothing to say about it.
NAMELESS = {"JsonValue"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(Path(tmp_path_factory.mktemp("openapi")))


@pytest.fixture(scope="module")
def description(rig: Rig) -> Json:
    return rig.app.openapi()


def operations(description: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def bodies(description: Json) -> Iterator[tuple[str, Json, Json]]:
    """(operation, media type's part, schema) of each body."""
    for name, operation in operations(description):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield name, content, _schema_of(description, content["schema"])


def _schema_of(description: Json, schema: Json) -> Json:
    found = [schema, *schema.get("anyOf", [])]
    reference = next((one["$ref"] for one in found if "$ref" in one), None)
    return schema if reference is None else description["components"]["schemas"][reference.rpartition("/")[2]]


def examples_of(content: Json, schema: Json) -> list[Any]:
    given = [content["example"]] if "example" in content else []
    fields = schema.get("properties", {})
    if fields and all(one.get("examples") for one in fields.values()):
        given.append({name: one["examples"][0] for name, one in fields.items()})
    return [*given, *schema.get("examples", []), *content["schema"].get("examples", [])]


def test_each_operation_says_what_it_does_for_whom_and_how_it_fails(description: Json) -> None:
    seen = set()
    for name, operation in operations(description):
        for key in ("summary", "description", "tags", "x-role"):
            assert operation.get(key), f"{name} has no {key}"
        responses = operation["responses"]
        good = [status for status in responses if status < "400"]
        assert len(good) >= 1, name
        assert {"422", "429", "503"} <= set(responses), name
        if operation["x-role"] != openapi.PUBLIC:
            assert {"401", "403"} <= set(responses), name
        if "requestBody" in operation:
            assert {"411", "413", "415"} <= set(responses), name
        for status in set(responses) - set(good):
            assert "$ref" in responses[status] or responses[status].get("description"), (name, status)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), f"{name}: parameter {parameter['name']} is not explained"
        seen.add(operation["operationId"])
    assert len(seen) == len(list(operations(description))), "two operations have one id"
    assert len(seen) > 50


def test_each_field_is_explained(description: Json) -> None:
    for name, schema in description["components"]["schemas"].items():
        if name in NAMELESS:
            continue
        assert schema.get("description"), f"{name} is not explained"
        assert "__" not in name, f"two models are called {name.rpartition('__')[2]}"
        for field, detail in schema.get("properties", {}).items():
            assert detail.get("description"), f"{name}.{field} is not explained"


def test_each_body_has_an_example_that_fits(description: Json) -> None:
    checked = 0
    for name, content, schema in bodies(description):
        examples = examples_of(content, schema)
        assert examples, f"{name} shows no example of its body"
        full = {"allOf": [content["schema"]], "components": description["components"]}
        check = fastjsonschema.compile(full)
        for example in examples:
            check(example)
            checked += 1
    assert checked > 10


def test_each_problem_that_is_declared_has_an_example_that_fits(description: Json) -> None:
    problems = description["components"]["responses"]
    assert len(problems) > 8
    for answer in problems.values():
        content = answer["content"]["application/problem+json"]
        full = {"allOf": [content["schema"]], "components": description["components"]}
        fastjsonschema.compile(full)(content["example"])


def test_every_word_of_the_common_list_is_used(description: Json) -> None:
    schemas = description["components"]["schemas"]
    used = {field for schema in schemas.values() for field in schema.get("properties", {})}
    used |= {f"{name}.{field}" for name, schema in schemas.items() for field in schema.get("properties", {})}
    used |= {
        f"{schema.get('title')}.{field}"
        for _, _, schema in bodies(description)
        for field in schema.get("properties", {})
    }
    assert {*words.FIELDS} <= used, {*words.FIELDS} - used


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/api/devices?pages=2", "query.pages: is not known here"),
        ("/api/devices?page=1&page=2", "query.page: may be given once"),
        ("/api/devices?page=0", "query.page: must be at least 1"),
        ("/api/devices?page=x", "query.page: must be a whole number"),
        ("/api/devices?page_size=1001", "query.page_size: must be at most 1000"),
        ("/api/history", "query.signal: is missing"),
        ("/api/alarms?kind=x", "query.kind: must be one of 'alarm' or 'rule'"),
    ],
)
def test_a_query_that_is_wrong_is_refused_in_our_words(rig: Rig, url: str, said: str) -> None:
    problem(rig.call("GET", url, Role.ADMIN), 422, said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"status": "on", "more": 1}', "body.more: is not known here"),
        (b'{"limit_a": "16"}', "body.limit_a: must be a number"),
        (b'{"limit_a": -1}', "body.limit_a: must be at least 0"),
        (b'{"status": "maybe"}', "body.status: must be one of 'on'"),
        (b"{}", "body: nothing is wanted"),
        (b"[]", "body: must be an object"),
        (b"{", "is not JSON"),
        (b"", "body: is missing"),
    ],
)
def test_a_body_that_is_wrong_is_refused_in_our_words(rig: Rig, body: bytes, said: str) -> None:
    headers = {"content-type": "application/json"}
    answer = rig.call("PATCH", "/api/stations/battery1", Role.ADMIN, content=body, headers=headers)
    found = problem(answer, 422, said)
    assert "Input should" not in found["detail"]


def test_no_input_is_repeated_to_who_sent_it(rig: Rig) -> None:
    secret = "one that nobody should see"  # noqa: S105 - made up
    answer = rig.call("POST", "/api/users", Role.ADMIN, json={"username": "x", "password": [secret], "role": secret})
    problem(answer, 422)
    assert secret not in answer.text
    assert secret not in wrong_input({"type": "literal_error", "input": secret, "ctx": {"expected": "x"}, "msg": ""})
    assert re.search("must be one of", answer.text)


def answers(description: Json) -> Iterator[tuple[str, Json]]:
    """(operation, media type's part) of each answer in JSON of what went well."""
    for name, operation in operations(description):
        for status, answer in operation["responses"].items():
            if status.startswith("2") and "application/json" in answer.get("content", {}):
                yield name, answer["content"]["application/json"]


def test_each_answer_has_an_example_that_fits(description: Json) -> None:
    names = set()
    for name, content in answers(description):
        names.add(name)
        assert "example" in content, f"{name}: put what it answers into agent/api/examples.json"
        check = fastjsonschema.compile({"components": description["components"], **content["schema"]}, formats={})
        try:
            check(content["example"])
        except fastjsonschema.JsonSchemaException as error:
            pytest.fail(f"{name}: its example in agent/api/examples.json does not fit: {error}")
    assert names == json.loads(openapi.EXAMPLES_OF_ANSWERS.read_text()).keys(), "examples of what is not offered"
