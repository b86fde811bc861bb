"""Routes that are made when they are asked for."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from agent.api import openapi
from agent.api.area_table import AREAS
from agent.api.areas import MOST_STEPS
from tests.unit.api_rig import Json, Rig, problem


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def paths(rig: Rig) -> set[str]:
    return {route.path for route in rig.app.routes if isinstance(route, APIRoute)}


def asked(path: str) -> str:
    """A path as somebody asks for it."""
    return re.sub(r"\{.*?\}", "x", path)


def test_each_route_is_made_by_asking_for_its_own_path(rig: Rig) -> None:
    rig.app.state.areas.make_all()
    wanted = paths(rig)
    assert len(wanted) > 120
    rig.restart()
    for path in sorted(wanted):
        rig.app.state.areas.make(asked(path))
        assert path in paths(rig)


def test_what_answers_from_the_start_is_health_readings_and_the_page(rig: Rig) -> None:
    there = {path for path in paths(rig) if not path.startswith("/static/")}
    assert there == {
        "/",
        "/.well-known/security.txt",
        "/api/devices",
        "/api/devices/{device_id}/latest",
        "/api/history",
        "/api/history.csv",
        "/api/live",
        "/api/signals",
        "/api/system/authority.pem",
        "/api/system/health",
        "/docs",
        "/metrics",
    }


def test_a_request_has_its_area_made_and_no_other(rig: Rig) -> None:
    before = paths(rig)
    problem(rig.call("GET", "/api/machines"), 401)
    made = paths(rig) - before
    assert "/api/machines/{code}" in made
    assert {path for path in made if not path.startswith("/api/machines")} == set()


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/devices", "GET, HEAD, POST"),  # one is there from the start
        ("/api/energy", "GET, HEAD, POST"),
        ("/api/events/x", "DELETE, GET, HEAD, PATCH"),
        ("/stations/", "GET, HEAD, POST"),
        ("/stations/stats", "GET, HEAD, PATCH"),  # ``stats`` may also be a station
        ("/api/auth/refresh", "POST"),  # without GET no HEAD
    ],
)
def test_who_asks_for_another_method_is_told_all_of_that_path(rig: Rig, path: str, methods: str) -> None:
    answer = rig.call("TRACE", path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/nothing", "/api/machines.csv"])
def test_a_path_that_nobody_has_makes_nothing(rig: Rig, path: str) -> None:
    before = rig.app.routes
    problem(rig.call("GET", path), 404)
    assert rig.app.routes is before


def test_the_order_is_that_of_the_table_whichever_was_made_first(rig: Rig) -> None:
    rig.app.state.areas.make_all()
    wanted = [route.path for route in rig.app.routes if isinstance(route, APIRoute)]
    rig.restart()
    for area in reversed(AREAS):
        rig.app.state.areas.make(area.under[0])
    assert [route.path for route in rig.app.routes if isinstance(route, APIRoute)] == wanted


def test_former_systems_have_ours_made_too(rig: Rig) -> None:
    problem(rig.call("GET", "/stations/"), 401)
    assert {"/api/stations", "/api/machines", "/api/maintenance"} <= paths(rig)


def test_nobody_is_given_the_description_before_it_is_complete(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    complete, half_made, go_on = openapi._complete, threading.Event(), threading.Event()

    def slowly(description: Json) -> Json:
        half_made.set()
        go_on.wait(60)
        return complete(description)

    monkeypatch.setattr(openapi, "_complete", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(rig.app.openapi)
        assert half_made.wait(60)
        second = pool.submit(lambda: "Problem" in rig.app.openapi()["components"]["schemas"])
        wait([second], 0.5)  # it has no more to do than to look
        go_on.set()
        assert second.result(60)
        assert first.result(60) is rig.app.openapi()


def test_an_area_that_could_not_be_made_is_made_by_who_asks_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rig.app.routes
    with monkeypatch.context() as ill:
        ill.setattr("agent.api.machine_routes.add_machine_routes", None)
        with pytest.raises(TypeError):
            rig.app.state.areas.make("/api/machines")
    assert rig.app.routes is before
    problem(rig.call("GET", "/api/machines"), 401)


def test_many_who_ask_first_take_one_thread(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    make, begun, go_on = rig.app.state.areas.make, threading.Event(), threading.Event()

    def slowly(path: str) -> None:
        begun.set()
        assert go_on.wait(60)
        make(path)

    monkeypatch.setattr(rig.app.state.areas, "make", slowly)

    async def ask() -> list[int]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        transport = httpx.ASGITransport(rig.app, client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            asked = [asyncio.ensure_future(client.get(f"/api/{name}")) for name in ("machines", "alarms", "load")]
            assert await asyncio.to_thread(begun.wait, 60)
            await asyncio.to_thread(go_on.set)
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [401, 401, 401]


def test_areas_name_whole_steps_of_paths() -> None:
    for area in AREAS:
        for path in area.under:
            assert re.fullmatch(r"(/[a-z.-]+)+", path), path
            assert path.count("/") <= MOST_STEPS
