"""The five systems' routes: each at its path with its names and words, and with no right that our own route has not."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from agent.api.access import FORM
from agent.api.auth import CSRF_HEADER
from agent.api.compat import ALIASES
from agent.api.compat_base import System, both
from agent.api.compat_machine_bodies import KINDS, STATES, joined, ours, parted, theirs
from agent.api.times import parse_time
from agent.api.users import Role
from agent.api.view import PartHealth
from agent.control.model import JobInfo, Outcome
from agent.core.errors import Refusal
from agent.insight.counters import Counters
from agent.insight.machines import Facts, MachineBook
from agent.insight.maintenance import Maintenance
from agent.insight.maintenance_model import KINDS as OUR_KINDS
from tests.fake_view import FakeNotebook
from tests.insight_fakes import History
from tests.maintenance_fakes import MemoryStore
from tests.posted_site import PostedSite, posted_site
from tests.unit.api_rig import ELSEWHERE, PASSWORD, Rig, problem

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compat.md"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """One for all tests that change nothing that others see."""
    return Rig(tmp_path_factory.mktemp("steady"))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PostedSite]:
    with posted_site(tmp_path) as made:
        yield made


@pytest.fixture
def workshop(rig: Rig) -> Rig:
    store, notebook = MemoryStore(), FakeNotebook()
    table = store.table()
    machines = MachineBook(rig.clock, notebook, lambda: {"cp1": Facts(name="Gate", type="charger")})
    rig.ports["maintenance"] = Maintenance(rig.clock, notebook, machines, table, Counters(History(), table))
    rig.restart()
    return rig


def ok(answer: httpx.Response, status: int = 200) -> Any:  # noqa: ANN401 - any JSON
    assert answer.status_code == status, answer.text
    return answer.json()


# The table


def test_each_row_has_the_role_of_our_own_route(steady: Rig) -> None:
    """Registration alone is open to all: it looks at the token, or the code, by itself."""
    described = steady.app.openapi()["paths"]
    for alias in ALIASES:
        method, _, path = alias.canonical.partition(" ")
        declared = described[path][method.lower()]["x-role"]
        role = "everybody" if alias.role is None else alias.role.value
        if alias.route == "POST /api/auth/register":
            assert (declared, role) == ("admin", "everybody")
        else:
            assert declared == role, alias.route
        assert described[alias.path][alias.method.lower()]["x-role"] == role


def test_each_route_is_described_under_its_systems(steady: Rig) -> None:
    described = steady.app.openapi()["paths"]
    for alias in ALIASES:
        operation = described[alias.path][alias.method.lower()]
        assert operation["summary"]
        if alias.by:
            assert alias.system.value in operation["tags"]
    assert described["/auth/login"]["post"]["tags"] == [System.STATIONS.value, System.ENERGY.value]


def test_both_forms_of_a_path_are_answered_alike(steady: Rig) -> None:
    for alias in ALIASES:
        if not alias.by or "{" in alias.path:
            continue
        answers = {
            (answer.status_code, answer.headers.get("content-type"))
            for path in both(alias.path)
            for answer in [steady.call(alias.method, path, Role.VIEWER)]
        }
        assert len(answers) == 1, (alias.route, answers)
        assert not any(300 <= status < 405 and status not in {401, 403} for status, _ in answers), (
            alias.route,
            answers,
        )


def test_who_is_nobody_gets_nowhere(steady: Rig) -> None:
    for alias in ALIASES:
        if alias.role is None:
            continue
        for path in both(re.sub(r"\{.*?\}", "1", alias.path)) if alias.by else (re.sub(r"\{.*?\}", "1", alias.path),):
            problem(steady.call(alias.method, path), 401)


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(r"^\| `(\w+ \S+)` \| `(\w+ \S+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    sections = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    told = {
        title: re.findall(r"^\| `(\w+ \S+)` \| `(\w+ \S+)` \| (\w+) \|", text, re.MULTILINE) for title, text in sections
    }
    for system in System:
        (found,) = (rows for title, rows in told.items() if title.casefold() == system.value.removeprefix("compat: "))
        assert found == [
            (one.route, one.canonical, one.role.value if one.role else "everybody")
            for one in ALIASES
            if one.system is system
        ]
    assert len(rows) == len(ALIASES)


def test_the_application_has_no_second_route_of_the_same_name(steady: Rig) -> None:
    steady.app.state.areas.make_all()
    routes = [
        (method, one.path) for one in steady.app.routes if isinstance(one, APIRoute) for method in one.methods or ()
    ]
    pages = {("GET", "/")}  # for browsers; the alias answers first, and gives it to them
    assert {one for one in routes if routes.count(one) > 1} == pages


def test_keys_without_a_place_are_ignored_but_where_the_page_says(site: PostedSite) -> None:
    """In a row of telemetry it is a misspelt reading, which would be lost unseen."""
    call = site.rig.call
    ok(call("POST", "/stations/", Role.OPERATOR, json={"name": "A", "colour": "red"}), 201)
    used = {"device_id": "ac3", "kwh": 1, "timestamp": "2026-11-18T11:00:00", "colour": "red"}
    ok(call("POST", "/consumo", Role.OPERATOR, json=used), 201)
    rows = [{"vin": "V1", "ts": "2026-11-18T11:00:00Z", "soc": 80, "colour": "red"}]
    problem(call("POST", "/api/telemetry", Role.OPERATOR, json=rows), 422, "unknown field 'colour'")
    who = {"username": "viewer", "password": PASSWORD}
    for path in ("/auth/login", "/api/auth/login"):
        ok(call("POST", path, json=who))
        problem(call("POST", path, json={**who, "colour": "red"}), 422)


# Log-in and users


def form(rig: Rig, path: str, text: str, **more: str) -> httpx.Response:
    return rig.call("POST", path, headers={"content-type": FORM, **more}, content=text.encode())


@pytest.mark.parametrize("path", ["/auth/login", "/auth/login/"])
def test_log_in_by_a_form_gives_a_bearer_token_that_can_be_refreshed(rig: Rig, path: str) -> None:
    found = ok(form(rig, path, f"username=viewer&password={PASSWORD.replace(' ', '+')}&grant_type=password"))
    assert found["token_type"] == "bearer"  # noqa: S105 - no password
    assert rig.call("GET", "/stations/", token=found["access_token"]).status_code == 200
    rig.clock.advance(found["expires_in"] + 1)
    problem(rig.call("GET", "/stations/", token=found["access_token"]), 401)
    again = ok(rig.call("POST", "/api/auth/refresh", json={"refresh_token": found["refresh_token"]}))
    assert rig.call("GET", "/stations/", token=again["access_token"]).status_code == 200


def test_a_form_gives_no_cookie_and_may_be_sent_nowhere_else(rig: Rig) -> None:
    text = f"username=viewer&password={PASSWORD.replace(' ', '+')}&cookie=true"
    assert "set-cookie" not in form(rig, "/auth/login", text).headers
    for path in ("/stations/", "/consumo", "/api/auth/register", "/api/maquinas/agregar"):
        answer = rig.call("POST", path, Role.OPERATOR, headers={"content-type": FORM}, content=b"name=A")
        problem(answer, 415)


def test_guesses_are_slowed_down_as_at_our_own_log_in(rig: Rig) -> None:
    answers = [form(rig, "/auth/login", "username=admin&password=wrong") for _ in range(8)]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert "retry-after" in answers[-1].headers
    problem(rig.log_in("admin"), 429)


def test_an_admin_registers_users_and_nobody_else_does(rig: Rig) -> None:
    body = {"username": "luis", "password": "a few words of his", "email": "luis@example.com"}
    how = "the one-time code"
    problem(rig.call("POST", "/api/auth/register", json=body), 401, how)
    for role in (Role.VIEWER, Role.OPERATOR):
        problem(rig.call("POST", "/api/auth/register", role, json=body), 403, how)
    problem(rig.call("POST", "/api/auth/register", json={**body, "code": rig.auth.new_code()}), 401)
    assert rig.auth.users.get("luis") is None
    assert ok(rig.call("POST", "/api/auth/register", Role.ADMIN, json=body), 201) == {
        "mensaje": "Usuario registrado", "username": "luis", "role": "viewer",
    }  # fmt: skip
    assert ("user:admin", "add user as viewer", "luis", "done") in rig.audit()
    problem(rig.call("POST", "/api/auth/register", Role.ADMIN, json=body), 409)
    problem(rig.call("POST", "/api/auth/register", Role.ADMIN, json={**body, "username": "eva", "password": "x"}), 422)


def test_the_first_user_registers_with_the_code_and_is_an_admin(tmp_path: Path) -> None:
    fresh = Rig(tmp_path, users=False)
    body = {"username": "ana", "password": "a few words of mine", "role": "viewer"}
    problem(fresh.call("POST", "/api/auth/register", json=body), 403, "no admin yet")
    code = fresh.auth.new_code()
    problem(fresh.call("POST", "/api/auth/register", json={**body, "code": "0000-0000-0000-0000"}), 403, "code")
    fresh.clock.advance(60)
    made = ok(fresh.call("POST", "/api/auth/register", json={**body, "code": code}), 201)
    assert (made["username"], made["role"]) == ("ana", "admin")
    problem(fresh.call("POST", "/api/auth/register", json={**body, "username": "eva", "code": code}), 401)


def test_a_page_from_elsewhere_can_not_register_with_an_admins_cookie(rig: Rig) -> None:
    login = rig.call("POST", "/api/auth/login", json={"username": "admin", "password": PASSWORD, "cookie": True})
    cookie = login.headers["set-cookie"].partition(";")[0]
    body = {"username": "luis", "password": "a few words of his"}
    for more in ({}, {"origin": "http://evil.example", CSRF_HEADER: "1"}):
        answer = rig.call("POST", "/api/auth/register", headers={"cookie": cookie, **more}, json=body)
        problem(answer, 403)
    assert rig.auth.users.get("luis") is None


def test_active_users_are_those_who_are_logged_in(rig: Rig) -> None:
    assert ok(rig.call("GET", "/api/auth/usuarios/activos", Role.ADMIN)) == {"total": 0, "usuarios": []}
    rig.tokens_of("operator")
    rig.tokens_of("operator")
    rig.clock.advance(5)
    tokens = rig.tokens_of("viewer")
    found = ok(rig.call("GET", "/api/auth/usuarios/activos", Role.ADMIN))
    assert found["total"] == 2
    assert [(one["username"], one["role"]) for one in found["usuarios"]] == [
        ("viewer", "viewer"), ("operator", "operator"),
    ]  # fmt: skip
    assert parse_time(found["usuarios"][0]["ultimo_acceso"]) == rig.clock.now_us()
    rig.call("POST", "/api/auth/logout", token=tokens["access_token"])
    assert ok(rig.call("GET", "/api/auth/usuarios/activos", Role.ADMIN))["total"] == 1


# Charging stations


def test_a_station_is_registered_switched_and_listed_in_their_words(rig: Rig) -> None:
    body = {"name": "Lot 4", "location": "North", "max_kw": 22, "status": "activo", "id": 99}
    made = ok(rig.call("POST", "/stations/", Role.OPERATOR, json=body), 201)
    assert made == {"id": 1, "name": "Lot 4", "location": "North", "max_kw": 22.0, "status": "activo"}
    for word, status in (
        ("inactivo", "inactivo"),
        ("active", "activo"),
        ("inactive", "inactivo"),
        ("activo", "activo"),
    ):
        assert ok(rig.call("PATCH", f"/stations/1?status={word}", Role.OPERATOR))["status"] == status
    assert [(one.target, one.action, one.issuer) for one in rig.control.commands[-2:]] == [
        ("station-1", "off", "user:operator"), ("station-1", "on", "user:operator"),
    ]  # fmt: skip
    answer = rig.call("GET", "/stations/", Role.VIEWER)
    assert answer.headers["x-total-count"] == "3"
    assert answer.json() == [
        {"id": "battery1", "name": "Battery", "location": "", "max_kw": 22.08, "status": "activo"},
        {"id": "meter1.2", "name": "Second", "location": "", "max_kw": None, "status": "inactivo"},
        made,
    ]
    assert [one["id"] for one in rig.call("GET", "/stations?page=2&page_size=2", Role.VIEWER).json()] == [1]


def test_chargers_go_by_numbers_and_by_ids(rig: Rig) -> None:
    asyncio.run(rig.registered.number(["battery1", "meter1.2"]))
    assert [one["id"] for one in rig.call("GET", "/stations/", Role.VIEWER).json()] == [1, 2]
    assert ok(rig.call("PATCH", "/stations/2?status=activo", Role.OPERATOR))["name"] == "Second"
    assert ok(rig.call("PATCH", "/stations/meter1.2/?status=inactivo", Role.OPERATOR))["status"] == "inactivo"
    problem(rig.call("PATCH", "/stations/7?status=activo", Role.OPERATOR), 404)
    problem(rig.call("PATCH", "/stations/1?status=on", Role.OPERATOR), 422, "activo")
    problem(rig.call("PATCH", "/stations/1", Role.OPERATOR), 422, "status")


def test_a_station_that_must_stay_off_is_refused_with_the_reason(rig: Rig) -> None:
    rig.call("POST", "/stations/", Role.OPERATOR, json={"name": "A"})
    rig.control.refusal = Refusal.INTERLOCKED
    assert problem(rig.call("PATCH", "/stations/1?status=activo", Role.OPERATOR), 409)["refusal"] == "interlocked"


def test_stations_are_counted(rig: Rig) -> None:
    rig.call("POST", "/stations/", Role.OPERATOR, json={"name": "A", "max_kw": 7.4, "status": "inactivo"})
    found = ok(rig.call("GET", "/stations/stats", Role.VIEWER))
    assert found == {"total": 3, "active": 1, "inactive": 2, "total_kw": 29.48}


def test_the_scheduler_does_the_schedules_that_toggle_and_no_others(rig: Rig) -> None:
    rig.call("POST", "/stations/", Role.OPERATOR, json={"name": "A"})
    rig.control.schedules = [
        JobInfo("night_off", "0 22 * * *", None, None, None, running=False),
        JobInfo("toggle", None, 60.0, None, None, running=False, toggles=True),
    ]
    rig.control.refusal = Refusal.INTERLOCKED
    before = len(rig.control.commands)
    found = ok(rig.call("POST", "/scheduler/run", Role.OPERATOR))
    assert rig.control.ran == ["toggle"]
    assert found == {"message": "1 stations were toggled", "toggled": 1, "failed": 1, "schedules": ["toggle"]}
    assert len(rig.control.commands) == before, "no station was toggled beside the schedule"


def test_without_such_a_schedule_registered_stations_are_toggled_and_chargers_are_not(rig: Rig) -> None:
    for name in "ABC":
        rig.call("POST", "/stations/", Role.OPERATOR, json={"name": name})
    rig.control.schedules = []
    rig.control.commands.clear()
    found = ok(rig.call("POST", "/scheduler/run/", Role.OPERATOR))
    assert (found["toggled"], found["failed"], found["schedules"]) == (3, 0, [])
    assert sorted((one.target, one.action) for one in rig.control.commands) == [
        (f"station-{number}", "toggle") for number in (1, 2, 3)
    ]
    rig.control.outcome = Outcome.FAILED
    assert ok(rig.call("POST", "/scheduler/run", Role.OPERATOR))["failed"] == 3
    rig.control.refusal = Refusal.INTERLOCKED
    assert ok(rig.call("POST", "/scheduler/run", Role.OPERATOR))["failed"] == 3


# Health, and what answers here


def test_health_says_no_more_than_it_must_before_log_in(rig: Rig) -> None:
    assert rig.call("GET", "/api/health").json() == {"status": "OK", "db": "OK"}
    assert rig.call("GET", "/api/sistema/health").json() == {"status": "OK", "db": "OK"}
    assert rig.call("GET", "/health").json() == {"status": "ok"}
    rig.view.parts = [PartHealth("db", ok=False, detail="disk of /srv/enlace is full", hint="free some space")]
    for path in ("/api/health", "/api/sistema/health"):
        found = problem(rig.call("GET", path), 503, "log in")
        assert found["db"] == "error"
        assert "/srv" not in str(found)
        problem(rig.call("GET", path, Role.VIEWER), 503, "disk of /srv/enlace is full", "free some space")
    assert rig.call("GET", "/health").json() == {"status": "ok"}, "it answers still"


def test_the_machine_managers_health_tells_more_to_who_is_logged_in(steady: Rig) -> None:
    known = ok(steady.call("GET", "/api/sistema/health", Role.VIEWER))
    assert known == ok(steady.call("GET", "/api/system/health", Role.VIEWER)) | {"uptime_s": known["uptime_s"]}
    assert known["db"] == "OK"
    metrics = steady.call("GET", "/api/sistema/metrics", Role.VIEWER)
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "enlace_store_rows_total 99" in metrics.text


def test_programs_are_told_what_answers_and_browsers_get_the_page(steady: Rig) -> None:
    answer = steady.call("GET", "/", headers={"accept": "*/*"})
    assert answer.json() == {"service": "enlace", "version": "1", "status": "ok", "scheduler_interval_seconds": 1.0}
    assert answer.headers["vary"] == "accept, accept-encoding"
    assert ok(steady.call("GET", "/", Role.VIEWER))["version"] == "1.2.3"
    page = steady.call("GET", "/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["vary"] == "accept, accept-encoding"
    assert "<!doctype html>" in page.text


def test_the_interval_is_that_of_the_server_that_is_asked(rig: Rig) -> None:
    rig.ports["event_interval_s"] = lambda: 60.0
    rig.restart()
    assert rig.call("GET", "/").json()["scheduler_interval_seconds"] == 60.0


def test_before_set_up_health_answers_and_nothing_else_does(tmp_path: Path) -> None:
    fresh = Rig(tmp_path, users=False)
    for path in ("/", "/health", "/api/health", "/api/sistema/health"):
        assert fresh.call("GET", path).status_code == 200
    for path in ("/stations/", "/api/maquinas/listar", "/api/recomendaciones", "/api/auth/usuarios/activos"):
        problem(fresh.call("GET", path), 403, "no admin yet")


# Machines and maintenance

MACHINE = {
    "codigo_equipo": "T1", "tipo_equipo": "PC", "estado_actual": "Fuera de servicio", "area": "Lab 1",
    "fecha": "2024-05-31", "usuario": "ana",
}  # fmt: skip
WORK = {
    "codigo_maquina": "T1", "empresa": "Servicios SA", "tecnico": "Luis", "tipo": "Correctivo", "fecha": "2024-06-30",
    "observaciones": "Fuente cambiada", "usuario": "ana",
}  # fmt: skip


def test_a_machine_is_added_found_changed_and_taken_out(workshop: Rig) -> None:
    call = workshop.call
    added = ok(call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=MACHINE))
    assert added == {"mensaje": "Máquina guardada", "codigo": "T1"}
    shown = {**MACHINE, "estado_actual": "fuera de servicio"}
    del shown["usuario"]
    listed = call("GET", "/api/maquinas/listar", Role.VIEWER)
    assert listed.headers["x-total-count"] == "2"
    assert [one["codigo_equipo"] for one in listed.json()] == ["cp1", "T1"]
    assert listed.json()[1] == shown
    assert ok(call("GET", "/api/maquinas/buscar?codigo=T1", Role.VIEWER)) == [shown]
    assert [one["codigo_equipo"] for one in ok(call("GET", "/api/maquinas/buscar?q=lab", Role.VIEWER))] == ["T1"]
    problem(call("GET", "/api/maquinas/buscar?codigo=T9", Role.VIEWER), 404)
    change = {"codigo_equipo": "T1", "tipo_equipo": "IMP", "estado_actual": "operativa"}
    assert ok(call("PUT", "/api/maquinas/actualizar", Role.OPERATOR, json=change))["codigo"] == "T1"
    assert ok(call("GET", "/api/maquinas/buscar?codigo=T1", Role.VIEWER)) == [{**shown, **change}]
    assert ok(call("DELETE", "/api/maquinas/eliminar?codigo=T1", Role.OPERATOR))["codigo"] == "T1"
    problem(call("DELETE", "/api/maquinas/eliminar/T1", Role.OPERATOR), 404)
    problem(call("PUT", "/api/maquinas/actualizar", Role.OPERATOR, json=change), 404)


def test_the_same_code_or_an_unknown_state_is_refused(workshop: Rig) -> None:
    ok(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=MACHINE))
    problem(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=MACHINE), 409)
    wrong = {**MACHINE, "codigo_equipo": "T2", "estado_actual": "rota"}
    problem(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=wrong), 422, "fuera de servicio")


def test_maintenance_is_written_down_listed_and_reported(workshop: Rig) -> None:
    call = workshop.call
    ok(call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=MACHINE))
    assert ok(call("POST", "/api/mantenimientos/agregar", Role.OPERATOR, json=WORK))["codigo"] == "T1"
    other = {"codigo_maquina": "cp1", "tecnico": "Eva", "tipo": "inspeccion", "fecha": "2024-07-01"}
    ok(call("POST", "/api/mantenimientos/agregar", Role.OPERATOR, json=other))
    (entry,) = ok(call("GET", "/api/mantenimientos/historial/T1", Role.VIEWER))
    expected = {**WORK, "tipo": "correctivo", "usuario": "operator", "fecha": "2024-06-30T00:00:00.000000Z"}
    assert {key: entry[key] for key in expected} == expected
    every = call("GET", "/api/mantenimientos/todos", Role.VIEWER)
    assert every.headers["x-total-count"] == "2"
    assert [(one["codigo_maquina"], one["tipo"], one["empresa"]) for one in every.json()] == [
        ("cp1", "inspección", ""), ("T1", "correctivo", "Servicios SA"),
    ]  # fmt: skip
    report = ok(call("GET", "/api/mantenimientos/informe", Role.VIEWER))
    assert [(one["codigo_equipo"], len(one["mantenimientos"])) for one in report] == [("cp1", 1), ("T1", 1)]
    (one,) = ok(call("GET", "/api/mantenimientos/informe?codigo=T1", Role.VIEWER))
    assert one["mantenimientos"] == [entry]
    page = call("GET", "/api/mantenimientos/informe?codigo=T1", Role.VIEWER, headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "Fuente cambiada" in page.text
    problem(call("GET", "/api/mantenimientos/informe?codigo=T9", Role.VIEWER), 404)
    problem(call("GET", "/api/mantenimientos/historial/T9", Role.VIEWER), 404)
    problem(call("POST", "/api/mantenimientos/agregar", Role.OPERATOR, json={**WORK, "tipo": "x"}), 422, "preventivo")
    gone = {**WORK, "codigo_maquina": "T9"}
    assert call("POST", "/api/mantenimientos/agregar", Role.OPERATOR, json=gone).status_code in {404, 422}


def test_the_report_has_all_machines_and_all_that_was_done(workshop: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.api.compat_machines.MAX_PAGE_SIZE", 2)
    for code in ("T1", "T2", "T3"):
        ok(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json={**MACHINE, "codigo_equipo": code}))
        ok(workshop.call("POST", "/api/mantenimientos/agregar", Role.OPERATOR, json={**WORK, "codigo_maquina": code}))
    report = ok(workshop.call("GET", "/api/mantenimientos/informe", Role.VIEWER))
    assert [(one["codigo_equipo"], len(one["mantenimientos"])) for one in report] == [
        ("cp1", 0), ("T1", 1), ("T2", 1), ("T3", 1),
    ]  # fmt: skip
    (one,) = ok(workshop.call("GET", "/api/mantenimientos/informe?codigo=T3", Role.VIEWER))
    assert (one["codigo_equipo"], len(one["mantenimientos"])) == ("T3", 1)


@pytest.mark.parametrize(
    ("technician", "company"),
    [("Luis (hijo)", ""), ("Luis (hijo)", "Servicios SA"), ("", "Servicios SA"), ("Luis ()", "")],
)
def test_technicians_and_companies_come_back_as_they_were_sent(workshop: Rig, technician: str, company: str) -> None:
    ok(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=MACHINE))
    work = {**WORK, "tecnico": technician, "empresa": company}
    ok(workshop.call("POST", "/api/mantenimientos/agregar", Role.OPERATOR, json=work))
    (entry,) = ok(workshop.call("GET", "/api/mantenimientos/historial/T1", Role.VIEWER))
    assert (entry["tecnico"], entry["empresa"]) == (technician, company)


def test_the_dashboard_counts_in_their_words(workshop: Rig) -> None:
    ok(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=MACHINE))
    found = ok(workshop.call("GET", "/api/maquinas/dashboard", Role.VIEWER))
    assert found["total_maquinas"] == 2
    assert found["maquinas_por_estado"] == {
        "operativa": 1, "fuera de servicio": 1, "mantenimiento": 0, "baja": 0,
    }  # fmt: skip
    assert found["maquinas_por_tipo"] == {"PC": 1, "charger": 1}


@pytest.mark.parametrize(
    ("path", "wrong", "where"),
    [
        ("/api/maquinas/agregar", {**MACHINE, "fecha": "ayer"}, "body.fecha"),
        ("/api/maquinas/agregar", {**MACHINE, "area": "\ud800"}, "body.area"),
        ("/api/maquinas/agregar", {**MACHINE, "codigo_equipo": "../x"}, "body.codigo_equipo"),
        ("/api/maquinas/agregar", {**MACHINE, "tipo_equipo": "x" * 61}, "body.tipo_equipo"),
        ("/api/mantenimientos/agregar", {**WORK, "fecha": "ayer"}, "body.fecha"),
        ("/api/mantenimientos/agregar", {**WORK, "observaciones": "\ud800"}, "body"),
        ("/api/mantenimientos/agregar", {**WORK, "tecnico": "x" * 98, "empresa": "x" * 99}, "body.empresa"),
        ("/api/mantenimientos/agregar", {**WORK, "codigo_maquina": ""}, "body.codigo_maquina"),
    ],
)
def test_what_is_wrong_is_told_by_their_names(workshop: Rig, path: str, wrong: object, where: str) -> None:
    ok(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json={**MACHINE, "codigo_equipo": "T1"}))
    found = problem(workshop.call("POST", path, Role.OPERATOR, json=wrong), 422)
    assert where in found["detail"]


def test_the_longest_technician_and_company_are_kept(workshop: Rig) -> None:
    ok(workshop.call("POST", "/api/maquinas/agregar", Role.OPERATOR, json=MACHINE))
    longest = {**WORK, "tecnico": "x" * 98, "empresa": "y" * 98}
    ok(workshop.call("POST", "/api/mantenimientos/agregar", Role.OPERATOR, json=longest))
    (entry,) = ok(workshop.call("GET", "/api/mantenimientos/historial/T1", Role.VIEWER))
    assert (entry["tecnico"], entry["empresa"]) == ("x" * 98, "y" * 98)


@pytest.mark.parametrize("words", [STATES, KINDS])
def test_each_word_has_one_meaning_and_there_and_back_is_the_same(words: dict[str, tuple[str, ...]]) -> None:
    known = [word for each in words.values() for word in each]
    assert len(known) == len(set(known))
    for name in words:
        assert ours(words, theirs(words, name).upper()) == name
    with pytest.raises(ValueError, match="must be one of"):
        ours(words, "nonsense")
    assert set(KINDS) == set(OUR_KINDS)


@given(person=st.text("ab ().", max_size=98), company=st.text("ab ().", max_size=98))
def test_technician_and_company_come_back_as_they_were_sent(person: str, company: str) -> None:
    """Brackets of a company become square ones; a person in brackets alone would be read as a company."""
    there, back = joined(person, company), company.replace("(", "[").replace(")", "]")
    if company:
        assert parted(there) == (person, back)
    elif parted(there) != (person, ""):
        assert person.endswith(")")


# Energy


def test_consumption_is_counted_once_and_a_bad_one_is_400(site: PostedSite) -> None:
    call = site.rig.call
    body = {"device_id": "ac3", "kwh": 1.25, "timestamp": "2026-11-18T11:00:00", "user": "ana"}
    assert ok(call("POST", "/consumo", Role.OPERATOR, json=body), 201) == {
        "mensaje": "Consumo registrado", "device_id": "ac3", "nuevo": True,
    }  # fmt: skip
    assert ok(call("POST", "/consumo/", Role.OPERATOR, json=body), 201)["nuevo"] is False
    total = site.get("/api/energy?device=ac3&bucket=hour&from=2026-11-18T00:00:00Z&to=2026-11-18T12:00:00Z")
    assert total["total_wh"] == 1250
    for wrong in (
        {**body, "kwh": 2}, {**body, "kwh": -1}, {**body, "kwh": "much"}, {**body, "timestamp": "soon"},
        {**body, "kwh": True}, {**body, "kwh": "1.25"}, {**body, "kwh": None},
        {**body, "timestamp": "2027-01-01T00:00:00"}, {**body, "device_id": "battery1"}, {**body, "device_id": "../x"},
        {"device_id": "ac3", "kwh": 1}, [body],
    ):  # fmt: skip
        problem(call("POST", "/consumo", Role.OPERATOR, json=wrong), 400)
    problem(call("POST", "/consumo", Role.OPERATOR, headers=JSON, content=b'{"kwh": NaN'), 400)
    problem(call("POST", "/consumo", Role.VIEWER, json=body), 403)


def test_a_time_without_offset_is_the_sites_own(site: PostedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    there = site.view.site()
    zone = ZoneInfo("America/Mexico_City")
    monkeypatch.setattr(site.view, "site", lambda: type(there)(there.id, there.name, str(zone), "1", there.boot))
    sent = {"device_id": "ac4", "kwh": 1, "timestamp": "2026-11-18T05:00:00"}
    ok(site.rig.call("POST", "/consumo", Role.OPERATOR, json=sent), 201)
    found = site.get("/api/energy?device=ac4&bucket=hour&from=2026-11-18T00:00:00Z&to=2026-11-18T12:00:00Z")
    (hour,) = [one for one in found["periods"] if one["wh"]]
    assert parse_time(hour["from"]) == parse_time("2026-11-18T11:00:00Z")


def test_recommendations_are_told_in_their_words(site: PostedSite) -> None:
    assert site.get("/api/recomendaciones") == {"total": 0, "recomendaciones": []}


def test_a_store_that_fails_is_no_400(site: PostedSite) -> None:
    site.store.close()
    answer = site.rig.call("POST", "/consumo", Role.OPERATOR, json={
        "device_id": "ac3", "kwh": 1, "timestamp": "2026-11-18T11:00:00",
    })  # fmt: skip
    assert answer.status_code == 503
    site.open()


def test_whoever_sends_what_gets_no_500(steady: Rig) -> None:
    """Of what is sent wrongly: each alias says what is wrong, and never that it is a bug."""
    for alias in ALIASES:
        if not alias.by:
            continue
        path = re.sub(r"\{.*?\}", "%00", alias.path)
        for content in (b"", b"{}", b"[]", b"null", b"1", b'"\\ud800"', b'{"name": "\\ud800"}'):
            answer = steady.call(alias.method, path, alias.role, headers=JSON, content=content, address=ELSEWHERE)
            assert answer.status_code < 500 or answer.status_code == 503, (alias.route, content, answer.text)
