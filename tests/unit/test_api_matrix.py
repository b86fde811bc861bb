"""Every route against every role: who may call what, written down by hand.

A new route fails here until it stands in the table, and so does one whose role was changed by mistake. ``-`` is
everybody, without any proof; ``viewer`` etc. are the least role.
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route as HttpRoute
from starlette.types import Message

from agent.api.auth import CSRF_HEADER
from agent.api.users import Role
from tests.unit.api_rig import ELSEWHERE, Json, Rig, problem

TABLE = """
-         GET     /.well-known/security.txt
-         POST    /api/auth/login
-         POST    /api/auth/refresh
-         GET     /api/auth/setup
-         POST    /api/auth/setup
-         GET     /api/system/authority.pem
-         GET     /api/system/health
viewer    GET     /api/system/wear
viewer    GET     /api/system/dropped
viewer    POST    /api/auth/logout
viewer    GET     /api/auth/me
viewer    POST    /api/auth/password
admin     GET     /api/users
admin     GET     /api/users/active
admin     POST    /api/users
admin     PATCH   /api/users/{name}
admin     DELETE  /api/users/{name}
admin     POST    /api/users/{name}/tokens
admin     DELETE  /api/users/{name}/tokens/{label}
admin     GET     /api/system/log-level
admin     PUT     /api/system/log-level
admin     GET     /api/system/logs
admin     POST    /api/system/doctor
admin     POST    /api/system/backup
viewer    GET     /metrics
viewer    GET     /api/signals
viewer    GET     /api/history
viewer    GET     /api/history.csv
viewer    GET     /api/live
viewer    GET     /api/points
operator  POST    /api/telemetry
viewer    GET     /api/devices
admin     POST    /api/devices
admin     PUT     /api/devices/{device_id}
admin     DELETE  /api/devices/{device_id}
viewer    GET     /api/devices/{device_id}/actions
viewer    GET     /api/devices/{device_id}/latest
admin     GET     /api/devices/{device_id}/entry
admin     POST    /api/devices/test
operator  POST    /api/devices/{device_id}/test
viewer    GET     /api/site
admin     PATCH   /api/site
admin     GET     /api/check
admin     POST    /api/check
viewer    GET     /api/profiles
viewer    GET     /api/config/schema
admin     POST    /api/scan
operator  GET     /api/scan
admin     DELETE  /api/scan
viewer    GET     /api/stations
operator  POST    /api/stations
viewer    GET     /api/stations/{station_id}
operator  PATCH   /api/stations/{station_id}
operator  DELETE  /api/stations/{station_id}
operator  POST    /api/stations/{station_id}/commands
viewer    GET     /api/stations/{station_id}/history
viewer    GET     /api/stations/{station_id}/why
operator  POST    /api/commands
viewer    GET     /api/chargers/pending
admin     POST    /api/chargers/{charge_point_id}/adopt
viewer    GET     /api/alarms
viewer    GET     /api/alarms/history
operator  POST    /api/alarms/acknowledge
viewer    GET     /api/alarms/{alarm_id}
operator  POST    /api/alarms/{alarm_id}/acknowledge
operator  POST    /api/alarms/{alarm_id}/shelve
operator  POST    /api/alarms/{alarm_id}/unshelve
viewer    GET     /api/scheduler/jobs
operator  POST    /api/scheduler/run
viewer    GET     /api/events
operator  POST    /api/events
viewer    GET     /api/events/{event_id}
operator  PATCH   /api/events/{event_id}
operator  DELETE  /api/events/{event_id}
operator  POST    /api/events/{event_id}/start
operator  POST    /api/events/{event_id}/finish
viewer    GET     /api/load
viewer    GET     /api/demo
operator  POST    /api/demo/faults/{fault_id}
operator  POST    /api/demo/scenario
operator  GET     /api/notify
admin     POST    /api/notify/{channel_id}/test
viewer    GET     /api/sessions
viewer    GET     /api/sessions.csv
viewer    GET     /api/sessions/{number}
operator  GET     /api/id-tags
operator  PUT     /api/id-tags
operator  PUT     /api/id-tags/{tag_id}
operator  DELETE  /api/id-tags/{tag_id}
operator  GET     /api/audit
admin     GET     /api/audit.csv
viewer    GET     /api/stations/stats
viewer    GET     /api/vehicles
viewer    GET     /api/vehicles/{vin}/latest
viewer    GET     /api/vehicles/{vin}/summary
viewer    GET     /api/vehicles/{vin}/anomalies
operator  POST    /api/energy
viewer    GET     /api/energy
viewer    GET     /api/energy.csv
viewer    GET     /api/energy/settings
viewer    GET     /api/recommendations
viewer    GET     /api/machines
operator  POST    /api/machines
viewer    GET     /api/machines/summary
viewer    GET     /api/machines/{code}
operator  PATCH   /api/machines/{code}
operator  DELETE  /api/machines/{code}
viewer    GET     /api/maintenance
operator  POST    /api/maintenance
viewer    GET     /api/maintenance/due
viewer    GET     /api/maintenance/history/{code}
viewer    GET     /api/maintenance/report
viewer    GET     /api/maintenance/report.csv
viewer    GET     /api/maintenance/plans
operator  POST    /api/maintenance/plans
operator  PATCH   /api/maintenance/plans/{plan_id}
operator  DELETE  /api/maintenance/plans/{plan_id}
viewer    GET     /api/maintenance/{number}
operator  POST    /api/maintenance/{number}/correction
-         POST    /auth/login
operator  POST    /stations/
viewer    GET     /stations/
operator  PATCH   /stations/{station_id}
viewer    GET     /stations/stats
operator  POST    /scheduler/run
-         GET     /api/health
-         POST    /api/auth/register
admin     GET     /api/auth/usuarios/activos
viewer    GET     /api/maquinas/listar
operator  POST    /api/maquinas/agregar
viewer    GET     /api/maquinas/buscar
operator  PUT     /api/maquinas/actualizar
operator  DELETE  /api/maquinas/eliminar
operator  DELETE  /api/maquinas/eliminar/{codigo}
viewer    GET     /api/maquinas/dashboard
viewer    GET     /api/mantenimientos/historial/{codigo}
operator  POST    /api/mantenimientos/agregar
viewer    GET     /api/mantenimientos/informe
viewer    GET     /api/mantenimientos/todos
-         GET     /api/sistema/health
viewer    GET     /api/sistema/metrics
-         GET     /health
-         GET     /
operator  POST    /consumo
viewer    GET     /api/recomendaciones
"""

#: Beside the API: pages and what they load, which hold nothing of the site.
PAGES = {
    "/",
    "/docs",
    "/openapi.json",
}

Route = tuple[str, str]
#: By method and path: the least role; None for everybody.
NEEDS: dict[Route, Role | None] = {
    (method, path): None if role == "-" else Role(role)
    for role, method, path in (line.split() for line in TABLE.strip().splitlines())
}
PUBLIC = {route for route, role in NEEDS.items() if role is None}
CLOSED = sorted(set(NEEDS) - PUBLIC)
#: Who may, never comes to an end there: it is a stream.
ENDLESS = ("GET", "/api/live")
OUT = ("POST", "/api/auth/logout")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def url_of(path: str) -> str:
    return re.sub(r"\{.*?\}", "1", path)


def described(rig: Rig) -> dict[Route, Json]:
    """What the OpenAPI says of each route."""
    paths: Json = rig.call("GET", "/openapi.json").json()["paths"]
    return {(method.upper(), path): one for path, methods in paths.items() for method, one in methods.items()}


def test_each_route_stands_in_the_table_with_its_role(rig: Rig) -> None:
    declared = {route: one["x-role"] for route, one in described(rig).items()}
    assert declared == {route: role.value if role else "everybody" for route, role in NEEDS.items()}


def test_what_the_openapi_leaves_out_is_pages_and_other_spellings_only(rig: Rig) -> None:
    """A path of the table with or without a slash at its end needs the same role."""
    rig.app.state.areas.make_all()
    for one in rig.app.routes:
        assert isinstance(one, HttpRoute)
        said = (getattr(one, "openapi_extra", None) or {}).get("x-role")
        if one.include_in_schema or said is None:
            assert said is not None or one.path in PAGES or one.path.startswith("/static/")
            continue
        spelled = {(method, path) for method in one.methods or () for path in (one.path.rstrip("/"), f"{one.path}/")}
        known = [NEEDS[route] for route in spelled if route in NEEDS]
        assert [role.value if role else "everybody" for role in known] == [said], one.path


def test_nobody_gets_further_than_401(rig: Rig) -> None:
    """Whatever is sent, and whatever proof is made up."""
    for method, path in CLOSED:
        rig.clock.advance(10)  # or the address would have asked too often
        answer = rig.call(method, url_of(path))
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        problem(rig.call(method, url_of(path), content=b"{", headers={"content-type": "text/plain"}), 401)
        for proof in ("Bearer nonsense", "Bearer ", "Basic YTpi", "nonsense"):
            problem(rig.call(method, url_of(path), headers={"authorization": proof}), 401)
        problem(rig.call(method, url_of(path), headers={"cookie": "enlace_session=a.b"}), 401)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("proof", ["log-in", "API token"])
def test_each_role_may_what_the_table_says_and_no_more(rig: Rig, role: Role, proof: str) -> None:
    token = rig.tokens_of(role)["access_token"] if proof == "log-in" else rig.tokens[role]
    for route in CLOSED:
        needed = NEEDS[route]
        assert needed is not None
        if role.may(needed) and route == ENDLESS:
            continue
        own = rig.tokens_of(role)["access_token"] if route == OUT else token
        answer = rig.call(route[0], url_of(route[1]), token=own)
        if role.may(needed):
            assert answer.status_code not in {401, 403}, (route, answer.text)
            assert answer.status_code < 500 or answer.status_code == 503, (route, answer.text)
        else:
            problem(answer, 403, f"this takes the role {needed}")
    assert rig.control.commands == []
    assert rig.editor.asked == []


def test_a_cookie_changes_nothing_without_the_header_that_no_form_can_send(rig: Rig) -> None:
    body = {"username": "admin", "password": "a few words of mine", "cookie": True}
    cookie = rig.call("POST", "/api/auth/login", json=body).headers["set-cookie"].partition(";")[0]
    for method, path in CLOSED:
        if method == "GET":
            continue
        problem(rig.call(method, url_of(path), headers={"cookie": cookie}), 403, CSRF_HEADER)


def test_refused_is_refused_before_the_body_is_read(rig: Rig) -> None:
    """A body that is on its way is not waited for: the application never asks for it."""

    async def status(method: str, path: str, token: str | None) -> int:
        statuses: list[int] = []

        async def receive() -> Message:
            raise AssertionError(f"{method} {path} read the body of somebody who may not send one")

        async def send(message: Message) -> None:
            statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

        headers = [(b"host", b"localhost"), (b"content-length", b"1000"), (b"content-type", b"application/json")]
        if token is not None:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": (ELSEWHERE, 1),
            "server": ("localhost", 80),
        }
        await rig.app(scope, receive, send)
        return statuses[0]

    for method, path in CLOSED:
        rig.clock.advance(10)
        assert asyncio.run(status(method, url_of(path), None)) == 401
        if NEEDS[method, path] is not Role.VIEWER:
            assert asyncio.run(status(method, url_of(path), rig.tokens[Role.VIEWER])) == 403


def test_nothing_is_usable_before_set_up_by_anybody(tmp_path: Path) -> None:
    fresh, made = Rig(tmp_path, users=False), Rig(_sub(tmp_path))
    proofs: list[Json] = [{}, {"token": made.tokens[Role.ADMIN]}, {"address": "127.0.0.1"}]
    for method, path in CLOSED:
        fresh.clock.advance(10)
        for proof in proofs:
            problem(fresh.call(method, url_of(path), **proof), 403, "set it up first")


def test_what_everybody_may_read_says_nothing_of_the_site(rig: Rig) -> None:
    answers: list[httpx.Response] = [rig.call(method, path) for method, path in sorted(PUBLIC) if method == "GET"]
    answers += [rig.call("GET", path) for path in sorted(PAGES)]
    site = rig.view.site()
    for answer in answers:
        for told in (f'"{site.version}"', site.boot, f'"{site.id}"'):
            assert told not in answer.text, (answer.url, told)


def _sub(folder: Path) -> Path:
    path = folder / "other"
    path.mkdir()
    return path
