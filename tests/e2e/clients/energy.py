"""A client of the energy-consumption backend: log in, post consumption, ask for recommendations, refresh the token.

ENLACE_PASSWORD=… python tests/e2e/clients/energy.py http://localhost:8080 ana
"""
# ruff: noqa: T201, S310 - a program that prints what it does; the URL is its user's; answers are any JSON

import getpass
import json
import os
import secrets
import sys
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any


def send(url: str, token: str, body: object = None) -> tuple[int, Any]:
    """Status and answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        headers["Content-Type"], data = "application/json", json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            status, found = answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            status, found = error.code, json.load(error)
    print(url.partition("//")[2].partition("/")[2], "->", status, json.dumps(found, ensure_ascii=False)[:200])
    return status, found


def expect(true: bool, what: str) -> None:  # noqa: FBT001 - the thing that is expected
    if not true:
        raise SystemExit(f"not so: {what}")


def main(url: str, user: str) -> None:
    url, password = url.rstrip("/"), os.environ.get("ENLACE_PASSWORD") or getpass.getpass()
    form = urllib.parse.urlencode({"username": user, "password": password}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/auth/login", form), timeout=60) as answer:
        login = json.load(answer)
    token = login["access_token"]
    print(f"logged in as {user} for {login['expires_in']} s")
    device = f"ac-{secrets.token_hex(3)}"
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)
    for hour in range(4):
        body = {"device_id": device, "kwh": 1.5 + hour, "timestamp": (start + timedelta(hours=hour)).isoformat()}
        status, found = send(f"{url}/consumo", token, body)
        expect((status, found["nuevo"]) == (201, True), "it is counted")
    status, found = send(f"{url}/consumo", token, body)
    expect((status, found["nuevo"]) == (201, False), "repeated, it is not counted twice")
    for wrong in ({"kwh": -1}, {"kwh": "mucho"}, {"timestamp": "ayer"}, {"device_id": ""}):
        expect(send(f"{url}/consumo", token, {**body, **wrong})[0] == 400, f"{wrong} is refused")
    expect(send(f"{url}/consumo", "", body)[0] == 401, "and who is nobody is refused")
    status, found = send(f"{url}/api/recomendaciones", token)
    expect(status == 200 and isinstance(found["recomendaciones"], list), "recommendations are told")
    status, fresh = send(f"{url}/api/auth/refresh", "", {"refresh_token": login["refresh_token"]})
    expect(status == 200 and fresh["access_token"] != token, "there is a new token without the password")
    expect(send(f"{url}/api/recomendaciones", fresh["access_token"])[0] == 200, "which is good")
    print("all as it was")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "admin")
