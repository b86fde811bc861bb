"""A client of the battery and vehicle monitor: health, two rows of telemetry, the latest state, a summary.

ENLACE_PASSWORD=… python tests/e2e/clients/battery_monitor.py http://localhost:8080 ana
"""
# ruff: noqa: T201, S310, ANN401 - a program that prints what it does; the URL is its user's; answers are any JSON

import getpass
import json
import os
import sys
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

VIN = "3VWDX7AJ5DM000042"


def ask(url: str, token: str, body: object = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        headers["Content-Type"], data = "application/json", json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        found = json.load(answer)
    print(url.partition("//")[2].partition("/")[2], "->", json.dumps(found))
    return found


def expect(true: bool, what: str) -> None:  # noqa: FBT001 - the thing that is expected
    if not true:
        raise SystemExit(f"not so: {what}")


def main(url: str, user: str) -> None:
    url = url.rstrip("/")
    expect(ask(f"{url}/api/health", "") == {"status": "OK", "db": "OK"}, "the service and its database work")
    credentials = {"username": user, "password": os.environ.get("ENLACE_PASSWORD") or getpass.getpass()}
    request = urllib.request.Request(
        f"{url}/api/auth/login", json.dumps(credentials).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        token = json.load(answer)["access_token"]
    now = datetime.now(UTC).replace(microsecond=0)
    first, second = ((now - timedelta(minutes=ago)).isoformat() for ago in (10, 5))
    common = {"vin": VIN, "soh": 97.0, "pack_voltage": 356.0, "min_temp": 24.0}
    rows = [
        {**common, "ts": first, "soc": 78.5, "pack_current": -35.0, "max_temp": 33.0, "odo_km": 40210.0},
        {**common, "ts": second, "soc": 77.9, "pack_current": -40.0, "max_temp": 34.5, "odo_km": 40214.0},
    ]
    expect(ask(f"{url}/api/telemetry", token, rows)["inserted"] == 2, "both rows are stored")
    again = ask(f"{url}/api/telemetry", token, rows)
    expect((again["inserted"], again["duplicates"]) == (0, 2), "repeated, nothing is stored twice")
    latest = ask(f"{url}/api/vehicles/{VIN}/latest", token)
    for key, value in rows[1].items():
        if key != "ts":
            expect(latest[key] == value, f"{key} is that of the newest row")
    expect(abs(abs(latest["power_kw"]) - 14.24) < 0.001, "power is voltage times current")
    expect(isinstance(latest["alerts"], list), "alerts are a list")
    span = urllib.parse.urlencode({"from_ts": first, "to_ts": second})
    summary = ask(f"{url}/api/vehicles/{VIN}/summary?{span}", token)
    found = {key: summary[key] for key in ("vin", "samples", "soc_min", "soc_max", "temp_max", "temp_min")}
    expected = {"vin": VIN, "samples": 2, "soc_min": 77.9, "soc_max": 78.5, "temp_max": 34.5, "temp_min": 24.0}
    expect(found == expected, f"the summary is {expected}")
    print("all as it was")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "admin")
