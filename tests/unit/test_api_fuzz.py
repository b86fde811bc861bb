"""Any route, any input: an answer that is no bug, described errors, and no secret or tag in it."""

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import fastjsonschema
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.api.users import Role
from tests.alarm_fakes import Rig as AlarmRig
from tests.alarm_fakes import hot, low
from tests.posted_site import VIN, posted_site, row
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
    "hot",
    VIN,
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


class Answers:
    """What the description says of each answer."""

    def __init__(self, description: Json) -> None:
        self._description = description
        self._checks: dict[tuple[str, str, str], Callable[[object], object]] = {}

    def check(self, method: str, path: str, answer: httpx.Response) -> None:
        """Raise unless this answer of a route is one that is described."""
        if answer.status_code == HTTPStatus.TEMPORARY_REDIRECT:
            return  # an empty name makes the path of another route, with a slash too many
        said = self._description["paths"][path][method.lower()]["responses"]
        status = str(answer.status_code)
        assert status in said, (method, path, status, "is not described")
        kind = answer.headers.get("content-type", "").partition(";")[0]
        name = said[status].get("$ref", "").rpartition("/")[2]
        content = (self._description["components"]["responses"][name] if name else said[status]).get("content", {})
        assert kind in content or (not content and not answer.content), (method, path, kind, "is not described")
        if not kind.endswith("json"):
            return
        key = (method, path, status)
        if key not in self._checks:
            schema = {"allOf": [content[kind]["schema"]], "components": self._description["components"]}
            self._checks[key] = fastjsonschema.compile(schema)
        self._checks[key](answer.json())


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with posted_site(Path(tmp_path_factory.mktemp("fuzz"))) as site:
        site.rig.alarms = AlarmRig([hot(), low()]).start().book
        site.rig.restart()
        site.post(row())
        yield site.rig


@pytest.fixture(scope="module")
def answers(rig: Rig) -> Answers:
    return Answers(rig.app.openapi())


def test_each_route_that_only_reads_answers_as_described(rig: Rig, answers: Answers) -> None:
    """With what there is, not with random names."""
    made = rig.call("POST", "/api/events", Role.ADMIN, json={"name": "x", "then": [{"station": "*", "set": "off"}]})
    names = {"device_id": "battery1", "station_id": "battery1", "number": "1", "alarm_id": "hot"}
    names["event_id"] = made.json()["id"]
    reached = 0
    for method, path, query, _ in operations(rig.app.openapi()):
        if method != "GET":
            continue
        url = re.sub(r"\{(.*?)\}", lambda found: names.get(found[1], "battery1"), path)
        for role in (None, Role.ADMIN):
            answer = rig.call(method, url, role, params={"signal": "battery1.soc_pct"} if "signal" in query else {})
            answers.check(method, path, answer)
            reached += answer.status_code == 200
    assert reached > 20


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_no_input_is_a_bug_and_each_answer_is_as_described(rig: Rig, answers: Answers, data: st.DataObject) -> None:
    method, path, query, keys = data.draw(st.sampled_from(operations(rig.app.openapi())))
    url = re.sub(r"\{.*?\}", lambda _: data.draw(st.sampled_from(KNOWN)), path)
    more: dict[str, Any] = {"params": {name: data.draw(printed) for name in query if data.draw(st.booleans())}}
    if keys:
        body = {key: data.draw(values) for key in keys if data.draw(st.integers(0, 3))}
        more["json"] = data.draw(st.sampled_from([body, body, body | {"more": 1}, data.draw(values)]))
    role = data.draw(st.sampled_from([None, Role.VIEWER, Role.OPERATOR, Role.ADMIN, Role.ADMIN, Role.ADMIN]))
    rig.clock.advance(10)  # so that nobody asks too often
    answer = rig.call(method, url, role, **more)
    # Of what this rig has no port for, it says so.
    assert answer.status_code < 500 or "runs without" in answer.json()["detail"], (method, url, more, answer.text)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    # A dot or nothing for a name make the path of another route of it.
    if "/./" not in f"{url}/" and "//" not in f"{url}/":
        answers.check(method, path, answer)
    # Whatever was changed, the users that ask are still there.
    for one in Role:
        rig.tokens[one] = rig.tokens[one] if rig.auth.users.of_token(rig.tokens[one]) else renewed(rig, one)


def renewed(rig: Rig, role: Role) -> str:
    if rig.auth.users.get(role) is None:
        rig.auth.users.add(role, role, "no password is this hash")
    rig.auth.users.set_role(role, role)
    return rig.auth.users.add_token(role, "tests", 0)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
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
