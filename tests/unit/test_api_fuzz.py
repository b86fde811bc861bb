"""Any route, any input: an answer that is no bug, described errors, and no secret or tag in it."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.api.users import Role
from tests.unit.api_rig import Json, Rig

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: What is mostly sent for a name in a path, so that handlers are reached.
KNOWN = [
    "battery1",
    "meter1.2",
    "meter1",
    "later",
    "admin",
    "7",
    "303461",
    "tests",
    "nobody",
    "",
    ".",
    "%00",
    "ñ",
    "a b",
]
WORDS = [
    "on",
    "off",
    "limit",
    "reset",
    "Accepted",
    "viewer",
    "admin",
    "can",
    "ocpp",
    "2023-11-14T22:13:20Z",
    "0",
    "04A2",
]

#: What a client can write into a URL.
printed = st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
text = st.one_of(st.sampled_from(WORDS), st.text(max_size=20), st.just("\ud800"))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)


def operations(description: Json) -> list[tuple[str, str, list[str], list[str]]]:
    """(method, path, query parameters, keys of the body) of each route but the endless one."""
    found = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            query = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "$ref" in body:
                body = description["components"]["schemas"][body["$ref"].rpartition("/")[2]]
            if path != "/api/live":
                found.append((method.upper(), path, query, list(body.get("properties", {}))))
    return found


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(Path(tmp_path_factory.mktemp("fuzz")))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_input_is_a_bug(rig: Rig, data: st.DataObject) -> None:
    method, path, query, keys = data.draw(st.sampled_from(operations(rig.app.openapi())))
    url = re.sub(r"\{.*?\}", lambda _: data.draw(st.sampled_from(KNOWN)), path)
    more: dict[str, Any] = {"params": {name: data.draw(printed) for name in query if data.draw(st.booleans())}}
    if keys:
        body = {key: data.draw(values) for key in keys if data.draw(st.integers(0, 3))}
        more["json"] = data.draw(st.sampled_from([body, body, body | {"more": 1}, data.draw(values)]))
    role = data.draw(st.sampled_from([None, Role.VIEWER, Role.OPERATOR, Role.ADMIN, Role.ADMIN, Role.ADMIN]))
    rig.clock.advance(10)  # so that nobody asks too often
    answer = rig.call(method, url, role, **more)
    assert answer.status_code < 500, (method, url, more, answer.text)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    elif answer.headers.get("content-type") == "application/json":
        answer.json()
    # Whatever was changed, the users that ask are still there.
    for one in Role:
        rig.tokens[one] = rig.tokens[one] if rig.auth.users.of_token(rig.tokens[one]) else renewed(rig, one)


def renewed(rig: Rig, role: Role) -> str:
    if rig.auth.users.get(role) is None:
        rig.auth.users.add(role, role, "no password is this hash")
    rig.auth.users.set_role(role, role)
    return rig.auth.users.add_token(role, "tests", 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(
        ["/api/stations/battery1", "/api/commands", "/api/auth/login", "/api/auth/setup", "/api/users"]
    ),
    content=st.binary(max_size=200),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "", "x"]),
    cookie=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
def test_no_bytes_are_a_bug(rig: Rig, method: str, path: str, content: bytes, kind: str, cookie: str) -> None:
    headers = {"content-type": kind, "cookie": f"enlace_session={cookie}"}
    rig.clock.advance(10)  # so that nobody asks too often
    for role in (None, Role.ADMIN):
        answer = rig.call(method, path, role, content=content, headers=headers)
        assert 400 <= answer.status_code < 500 or method == "GET"
