"""HEAD says what GET would, and sends no body."""

from pathlib import Path

import httpx
import pytest

from agent.api.users import Role
from tests.unit.api_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def told(answer: httpx.Response) -> tuple[int, dict[str, str]]:
    return answer.status_code, dict(answer.headers)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/static/style.css",
        "/docs",
        "/api/system/health",
        "/api/devices",
        "/api/history.csv?signal=meter1.power_w",
        "/api/machines",
        "/api/events/nothing",
        "/stations/",
        "/nothing",
    ],
)
@pytest.mark.parametrize("role", [None, Role.ADMIN])
def test_it_has_the_status_and_headers_of_get(rig: Rig, path: str, role: Role | None) -> None:
    answer = rig.call("HEAD", path, role)
    assert answer.content == b""
    assert told(answer) == told(rig.call("GET", path, role))


def test_the_head_of_a_stream_has_an_end_and_leaves_its_place(rig: Rig) -> None:
    for _ in range(100):  # more than there are places
        answer = rig.call("HEAD", "/api/live", Role.VIEWER)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_it_is_counted_as_what_it_is(rig: Rig) -> None:
    rig.call("HEAD", "/api/system/health")
    figures = rig.call("GET", "/metrics", Role.ADMIN).text
    assert 'method="HEAD",route="/api/system/health",status="200"' in figures.replace(" ", "")


def test_a_path_that_is_not_read_has_none(rig: Rig) -> None:
    answer = rig.call("HEAD", "/api/auth/refresh")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
