"""A client of the machine and maintenance manager: register, log in, machines, maintenance, report, dashboard, health.

    ENLACE_PASSWORD=… python tests/e2e/clients/machines.py http://localhost:8080 ana

The user is an admin, for only an admin registers others. With ENLACE_CODE, the one-time code, he is made first.
"""
# ruff: noqa: T201, S310, ANN401 - a program that prints what it does; the URL is its user's; answers are any JSON

import getpass
import json
import os
import secrets
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class Client:
    """JSON in and out, with the bearer token when there is one."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.token = ""

    def text(self, method: str, path: str, body: object = None, **more: str) -> str:
        headers = dict(more)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: str = answer.read().decode()
        print(method, path, "->", found[:200])
        return found

    def ask(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self.text(method, path, body))


def expect(true: bool, what: str) -> None:  # noqa: FBT001 - the thing that is expected
    if not true:
        raise SystemExit(f"not so: {what}")


def refused(client: Client, method: str, path: str, body: object = None) -> int:
    """The status of a request that is refused."""
    try:
        client.text(method, path, body)
    except urllib.error.HTTPError as error:
        with error:
            print(method, path, "->", error.code, json.load(error)["detail"])
            return error.code
    return 200


def main(url: str, user: str) -> None:
    client, password = Client(url), os.environ.get("ENLACE_PASSWORD") or getpass.getpass()
    expect(client.ask("GET", "/api/sistema/health")["status"] == "OK", "the service works")
    stranger = {"username": "stranger", "password": "quite long enough"}
    expect(refused(client, "POST", "/api/auth/register", stranger) in {401, 403}, "strangers do not register")
    if code := os.environ.get("ENLACE_CODE"):
        client.ask("POST", "/api/auth/register", {"username": user, "password": password, "code": code})
    client.token = client.ask("POST", "/api/auth/login", {"username": user, "password": password})["access_token"]
    mate = {"username": f"tecnico-{secrets.token_hex(3)}", "password": "quite long enough", "role": "operator"}
    client.ask("POST", "/api/auth/register", mate)
    worker = Client(url)
    credentials = {key: mate[key] for key in ("username", "password")}
    worker.token = worker.ask("POST", "/api/auth/login", credentials)["access_token"]
    active = client.ask("GET", "/api/auth/usuarios/activos")
    expect({user, mate["username"]} <= {one["username"] for one in active["usuarios"]}, "both are logged in")

    code = f"PC-{secrets.token_hex(3)}"
    machine = {
        "codigo_equipo": code, "tipo_equipo": "PC", "estado_actual": "operativa", "area": "Laboratorio 3",
        "fecha": "2023-02-14",
    }  # fmt: skip
    expect(worker.ask("POST", "/api/maquinas/agregar", {**machine, "usuario": user})["codigo"] == code, "it is added")
    expect(refused(worker, "POST", "/api/maquinas/agregar", machine) == 409, "and not a second time")
    expect(machine in worker.ask("GET", "/api/maquinas/listar"), "it is listed as it was sent")
    expect(worker.ask("GET", f"/api/maquinas/buscar?codigo={code}") == [machine], "and found")
    worker.ask("PUT", "/api/maquinas/actualizar", {**machine, "estado_actual": "mantenimiento"})
    dashboard = worker.ask("GET", "/api/maquinas/dashboard")
    expect(dashboard["maquinas_por_estado"]["mantenimiento"] >= 1, "the dashboard counts it")

    work = {
        "codigo_maquina": code, "empresa": "Servicios SA", "tecnico": "Luis", "tipo": "preventivo",
        "fecha": "2024-03-01", "observaciones": "Limpieza y pasta térmica",
    }  # fmt: skip
    worker.ask("POST", "/api/mantenimientos/agregar", work)
    worker.ask("POST", "/api/mantenimientos/agregar", {**work, "tipo": "correctivo", "fecha": "2024-05-20"})
    history = worker.ask("GET", f"/api/mantenimientos/historial/{code}")
    expect([one["tipo"] for one in history] == ["correctivo", "preventivo"], "the latest is the first")
    for key in ("codigo_maquina", "empresa", "tecnico", "tipo", "observaciones"):
        expect(history[1][key] == work[key], f"{key} is as it was sent")
    expect(history[1]["fecha"].startswith(work["fecha"]), "and so is the date")
    every = worker.ask("GET", "/api/mantenimientos/todos")
    expect({one["id"] for one in history} <= {one["id"] for one in every}, "both are among all")
    (report,) = worker.ask("GET", f"/api/mantenimientos/informe?codigo={code}")
    expect(report["mantenimientos"] == history, "the report has the history")
    page = worker.text("GET", f"/api/mantenimientos/informe?codigo={urllib.parse.quote(code)}", Accept="text/html")
    expect("Limpieza" in page, "and there is a page to print")
    expect("enlace_" in worker.text("GET", "/api/sistema/metrics"), "metrics are told")
    worker.ask("DELETE", f"/api/maquinas/eliminar/{code}")
    expect(refused(worker, "GET", f"/api/maquinas/buscar?codigo={code}") == 404, "it is gone")
    expect(len(worker.ask("GET", f"/api/mantenimientos/historial/{code}")) == 2, "what was done to it is kept")
    print("all as it was")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "admin")
