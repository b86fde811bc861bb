"""A client of the charging-station backend: log in, register stations, switch them, count them, toggle them.

ENLACE_PASSWORD=… python tests/e2e/clients/station_backend.py http://localhost:8080 ana
"""
# ruff: noqa: T201, S310, ANN401 - a program that prints what it does; the URL is its user's; answers are any JSON

import getpass
import json
import os
import sys
import urllib.parse
import urllib.request
from typing import Any


class Client:
    """What such a client does: a form log-in, then JSON with the bearer token."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.token = ""

    def log_in(self, user: str, password: str) -> Any:
        form = urllib.parse.urlencode({"username": user, "password": password}).encode()
        request = urllib.request.Request(f"{self.url}/auth/login", form)  # urllib says that it is a form
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        self.token = found["access_token"]
        return found

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        print(method, path, "->", json.dumps(found, ensure_ascii=False))
        return found


def expect(true: bool, what: str) -> None:  # noqa: FBT001 - the thing that is expected
    if not true:
        raise SystemExit(f"not so: {what}")


def main(url: str, user: str) -> None:
    client = Client(url)
    login = client.log_in(user, os.environ.get("ENLACE_PASSWORD") or getpass.getpass())
    expect(login["token_type"] == "bearer", "a bearer token")  # noqa: S105 - no password
    print(f"logged in as {user}")
    before = {one["id"]: one["status"] for one in client.ask("GET", "/stations/")}
    made = [
        client.ask("POST", "/stations/", {"name": name, "location": "CDMX", "max_kw": kw, "status": status})
        for name, kw, status in (("Norte", 22, "activo"), ("Sur", 50, "inactivo"))
    ]
    north, south = made
    expect((north["status"], south["status"]) == ("activo", "inactivo"), "stations have the status that was sent")
    listed = {one["id"]: one for one in client.ask("GET", "/stations/")}
    expect(set(listed) == {*before, north["id"], south["id"]}, "both are listed")
    expect(listed[north["id"]] == north, "as they were made")
    expect(client.ask("PATCH", f"/stations/{north['id']}?status=inactivo")["status"] == "inactivo", "off")
    expect(client.ask("PATCH", f"/stations/{north['id']}?status=activo")["status"] == "activo", "on again")
    stats = client.ask("GET", "/stations/stats")
    expect(stats["total"] == stats["active"] + stats["inactive"], "all are active or inactive")
    expect(stats["total_kw"] >= 72, "the sum of kW")
    expect(client.ask("POST", "/scheduler/run")["toggled"] >= 2, "both were toggled")
    toggled = {one["id"]: one["status"] for one in client.ask("GET", "/stations/")}
    expect((toggled[north["id"]], toggled[south["id"]]) == ("inactivo", "activo"), "each is the other way round")
    print("all as it was")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "admin")
