"""The routes over a made-up gateway, in process."""

import asyncio
import csv
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent.api import pages
from agent.api.app import MAX_POINTS, create_app
from agent.api.guard import MAX_BODY_BYTES, SECURITY_HEADERS, Guard, host_name
from agent.api.pages import STATIC
from agent.api.paging import MAX_PAGE_SIZE
from agent.api.users import Role
from agent.api.view import HistoryPoint, PartHealth
from agent.core.clock import FakeClock
from agent.core.model import Signal, float_to_word
from agent.pipeline.health import Health, UnitState
from tests.fake_view import MODE, POWER, RETIRED, SOC, START_US, STORE_DOWN, TEMPERATURE, VOLTAGE, FakeView, quick_auth

Json = dict[str, object]


class Api:
    """A client of an application over ``FakeView``, logged in as a viewer."""

    def __init__(self, folder: Path, hosts: tuple[str, ...] = (), *, any_address: bool = False) -> None:
        self.clock = FakeClock(START_US)
        self.view = FakeView(self.clock)
        auth = quick_auth(folder, self.clock)
        auth.users.add("ana", Role.ADMIN, "no password is this hash")
        auth.users.add("eye", Role.VIEWER, "no password is this hash")
        self.token = auth.users.add_token("eye", "tests", START_US)
        self.app: FastAPI = create_app(self.view, self.clock, auth, hosts=hosts, any_address=any_address)

    def request(self, method: str, url: str, **more: object) -> httpx.Response:
        more["headers"] = {"authorization": f"Bearer {self.token}", **cast("dict[str, str]", more.get("headers", {}))}

        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, url, **more)  # type: ignore[arg-type]

        return asyncio.run(main())

    def get(self, url: str, **params: object) -> httpx.Response:
        return self.request("GET", url, params=params or None)

    def json(self, url: str, **params: object) -> Json:
        response = self.get(url, **params)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        return cast("Json", response.json())

    def problem(self, status: int, url: str, **params: object) -> Json:
        return as_problem(self.get(url, **params), status)


def as_problem(response: httpx.Response, status: int) -> Json:
    """The body of a problem, whose fixed members are right."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value
    body = cast("Json", response.json())
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    return body


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_health_says_ok_only_when_all_is_well(api: Api) -> None:
    body = api.json("/api/system/health")
    assert body["status"] == "degraded", "a wire is offline"
    assert body["db"] == "OK"
    assert body["wires"] == {"total": 2, "online": 1, "starting": 0, "offline": 1, "unsupported": 0}
    assert body["devices"] == {"total": 3, "online": 1, "starting": 1, "offline": 1, "unsupported": 0}
    assert (body["site"], body["version"], body["boot"]) == ("depot-7", "1.2.3", "0f" * 16)
    assert body["time"] == "2023-11-14T22:13:20.000000Z"
    api.view.wires[1] = api.view.wires[0]
    assert api.json("/api/system/health")["status"] == "OK"
    api.view.parts = [PartHealth("db", ok=False, detail="disk full", hint="free some space")]
    body = api.json("/api/system/health")
    assert (body["status"], body["db"]) == ("degraded", "error")
    assert body["parts"] == [{"name": "db", "ok": False, "detail": "disk full", "hint": "free some space"}]


def test_a_silent_unit_on_a_wire_that_is_well_shows_its_own_health(api: Api) -> None:
    api.view.wires[1] = api.view.wires[0]
    api.view.units["battery1"] = UnitState(
        "battery1",
        "socketcan:can0",
        Health.OFFLINE,
        START_US,
        "ask unit 3: no answer",
        "is it switched on?",
        next_try_s=12.34,
        misses=4,
        last_answer_age_s=60,
    )
    device = items(api.json("/api/devices"))[0]
    assert {key: device[key] for key in ("wire", "state", "last_error", "hint", "next_try_s")} == {
        "wire": "socketcan:can0",
        "state": "offline",
        "last_error": "ask unit 3: no answer",
        "hint": "is it switched on?",
        "next_try_s": 12.3,
    }
    body = api.json("/api/system/health")
    wires, devices = cast("Json", body["wires"]), cast("Json", body["devices"])
    assert (body["status"], wires["offline"], devices["offline"]) == ("degraded", 0, 1)
    assert 'enlace_device_online{device="battery1"} 0' in api.get("/metrics").text


def test_signals_are_paged_and_filtered(api: Api) -> None:
    body = api.json("/api/signals", page=2, page_size=2)
    assert (body["total"], body["page"], body["page_size"]) == (5, 2, 2)
    assert [item["id"] for item in items(body)] == [3, 4]
    assert items(api.json("/api/signals", device="meter1")) == [
        {
            "id": 5,
            "name": "meter1.power_w",
            "device": "meter1",
            "point": "power_w",
            "unit": "W",
            "kind": "gauge",
            "source": "",
            "labels": {},
        }
    ]
    assert [item["id"] for item in items(api.json("/api/signals", name="_w"))] == [5]
    assert items(api.json("/api/signals", name="state"))[0]["labels"] == {"1": "charging", "2": "idle"}
    assert items(api.json("/api/signals", page=99)) == []


def items(body: Json) -> list[Json]:
    return cast("list[Json]", body["items"])


def test_devices_tell_health_age_error_and_next_try(api: Api) -> None:
    api.view.put((SOC, 80), (VOLTAGE, 4987))
    api.clock.advance(2.5)
    battery, meter, later = items(api.json("/api/devices"))
    assert battery["state"] == "online"
    assert (battery["signals"], battery["known"], battery["age_s"]) == (4, 2, 2.5)
    assert meter == {
        "id": "meter1",
        "driver": "can",
        "kind": "configured",
        "name": "",
        "profile": "",
        "address": "",
        "testable": True,
        "editable": False,
        "wire": "socketcan:can1",
        "state": "offline",
        "since": "2023-11-14T22:13:20.000000Z",
        "last_error": "open can1: no such device",
        "hint": "is the adapter plugged in?",
        "next_try_s": 3.2,
        "restarts": 7,
        "signals": 1,
        "known": 0,
        "age_s": None,
        "counters": {},
    }
    assert (later["state"], later["wire"]) == ("starting", None)
    assert len(items(api.json("/api/devices", page_size=1, page=3))) == 1


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"state": "online"}, ["battery1"]),
        ({"state": "unsupported"}, []),
        ({"driver": "can"}, ["battery1", "meter1", "later"]),
        ({"driver": "can", "state": "offline"}, ["meter1"]),
        ({"driver": "ocpp"}, []),
        ({"name": "ETER"}, ["meter1"]),
        ({"name": "ter", "state": "starting"}, ["later"]),
    ],
)
def test_devices_are_filtered(api: Api, wanted: dict[str, str], found: list[str]) -> None:
    page = api.json("/api/devices", **wanted)
    assert ([one["id"] for one in items(page)], page["total"]) == (found, len(found))
    second = api.json("/api/devices", page_size=1, page=2, **wanted)
    assert ([one["id"] for one in items(second)], second["total"]) == (found[1:2], len(found))


def test_a_state_that_no_device_can_have_is_named(api: Api) -> None:
    api.problem(422, "/api/devices", state="tired")


def test_latest_gives_physical_values_and_null_for_the_unknown(api: Api) -> None:
    api.view.put((SOC, 0), (VOLTAGE, 4987), (MODE, 2), (TEMPERATURE, float_to_word(math.nan)))
    body = api.json("/api/devices/battery1/latest")
    values = {cast("str", value["name"]): value for value in cast("list[Json]", body["values"])}
    assert values["battery1.soc_pct"]["value"] == 0
    assert values["battery1.voltage_v"]["value"] == pytest.approx(49.87)
    assert (values["battery1.state"]["value"], values["battery1.state"]["label"]) == (2, "idle")
    assert values["battery1.temperature_degc"]["value"] is None
    assert values["battery1.soc_pct"]["time"] == "2023-11-14T22:13:20.000000Z"
    assert cast("Json", body["device"])["id"] == "battery1"
    assert "/api/devices" in str(api.problem(404, "/api/devices/nobody/latest")["detail"])


def test_history_defaults_to_the_last_hour_and_keeps_what_the_store_gives(api: Api) -> None:
    api.view.points = [
        HistoryPoint(START_US, 1, 9, 4.5, 3, 7),
        HistoryPoint(START_US + 1, -2.5, 2, None, None, 1, gap=True),
    ]
    body = api.json("/api/history", signal="battery1.soc_pct")
    assert api.view.asked == [(SOC, START_US - 3_600_000_000, START_US, 500)]
    assert (body["from"], body["to"]) == ("2023-11-14T21:13:20.000000Z", "2023-11-14T22:13:20.000000Z")
    assert body["interval_s"] == 60.0
    assert body["points"] == [
        {"time": "2023-11-14T22:13:20.000000Z", "min": 1, "max": 9, "mean": 4.5, "last": 3, "count": 7, "gap": False},
        {
            "time": "2023-11-14T22:13:20.000001Z",
            "min": -2.5,
            "max": 2,
            "mean": None,
            "last": None,
            "count": 1,
            "gap": True,
        },
    ]


@pytest.mark.parametrize(
    ("sent", "from_us"),
    [
        ("2023-11-14T22:13:19Z", START_US - 1_000_000),
        ("2023-11-14T22:13:19.5Z", START_US - 500_000),
        ("2023-11-14T23:13:19+01:00", START_US - 1_000_000),
        ("2023-11-14T16:13:19-0600", START_US - 1_000_000),
        ("1699999999", START_US - 1_000_000),
        ("1699999999.25", START_US - 750_000),
        ("0", 0),
    ],
)
def test_times_are_iso_8601_or_seconds(api: Api, sent: str, from_us: int) -> None:
    api.json("/api/history", **{"signal": "1", "from": sent})
    assert api.view.asked[0][1] == from_us


def test_a_plus_that_was_not_escaped_is_understood(api: Api) -> None:
    assert api.get("/api/history?signal=1&from=2023-11-14T23:13:19+01:00").status_code == 200
    assert api.view.asked[0][1] == START_US - 1_000_000


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ("yesterday", "2026-11-20T23:40:00Z"),
        ("2023-11-14T22:13:19", "no offset"),
        ("1700000000000", "milliseconds"),
        ("-1", "0 or more"),
        ("nan", "0 or more"),
        ("1e400", "milliseconds"),
        ("2023-11-15T22:13:19Z", "before"),
        ("x" * 41, "40"),
    ],
)
def test_times_that_are_none_are_refused_with_a_reason(api: Api, sent: str, says: str) -> None:
    assert says in str(api.problem(422, "/api/history", **{"signal": "1", "from": sent})["detail"])
    assert api.view.asked == []


def test_history_of_a_retired_signal_and_of_none(api: Api) -> None:
    assert cast("Json", api.json("/api/history", signal="6")["signal"])["name"] == RETIRED.full_name
    assert "/api/signals" in str(api.problem(404, "/api/history", signal="nobody.nothing")["detail"])


def test_a_store_that_fails_is_a_503_with_what_to_do(api: Api) -> None:
    api.view.history_error = STORE_DOWN
    body = api.problem(503, "/api/history", signal="1")
    assert "the database is gone" in str(body["detail"])
    assert body["hint"] == "see the log"


def test_numbers_that_json_has_not_become_null(api: Api) -> None:
    api.view.points = [HistoryPoint(START_US, math.nan, math.inf, -math.inf, 1, 1)]
    text = api.get("/api/history", signal="1").text
    assert json.loads(text, parse_constant=pytest.fail)["points"][0]["max"] is None


def test_history_as_csv(api: Api) -> None:
    api.view.points = [
        HistoryPoint(START_US, 1, 9, 4.5, 3, 7),
        HistoryPoint(START_US + 1, 0, None, None, None, 1, gap=True),
    ]
    response = api.get("/api/history.csv", signal="1")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in response.headers["content-disposition"]
    assert list(csv.reader(io.StringIO(response.text))) == [
        ["time", "signal", "unit", "min", "max", "mean", "last", "count", "gap"],
        ["2023-11-14T22:13:20.000000Z", "battery1.soc_pct", "%", "1", "9", "4.5", "3", "7", "0"],
        ["2023-11-14T22:13:20.000001Z", "battery1.soc_pct", "%", "0", "", "", "", "1", "1"],
    ]


@pytest.mark.parametrize(
    ("url", "params"),
    [
        ("/api/history", {}),
        ("/api/history", {"signal": ""}),
        ("/api/history", {"signal": "x" * 201}),
        ("/api/history", {"signal": "1", "points": 0}),
        ("/api/history", {"signal": "1", "points": MAX_POINTS + 1}),
        ("/api/history", {"signal": "1", "points": "many"}),
        ("/api/signals", {"page_size": MAX_PAGE_SIZE + 1}),
        ("/api/signals", {"page_size": 0}),
        ("/api/signals", {"page": 0}),
        ("/api/signals", {"page": 10**30}),
        ("/api/devices", {"page": -1}),
    ],
)
def test_queries_out_of_bounds_are_refused_by_name(api: Api, url: str, params: dict[str, object]) -> None:
    body = api.problem(422, url, **params)
    (error,) = cast("list[Json]", body["errors"])
    assert str(error["where"]).startswith("query.")
    assert body["instance"] == url


def test_an_input_is_not_repeated_in_the_answer(api: Api) -> None:
    assert "s3cret" not in api.get("/api/signals", page="s3cret").text


def test_unknown_pages_and_methods_are_problems(api: Api) -> None:
    assert "/docs" in str(api.problem(404, "/api/nothing")["detail"])
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for url in ("/api/signals", "/api/history", "/api/system/health"):
            response = api.request(method, url)
            as_problem(response, 405)
            assert response.headers["allow"] == "GET, HEAD"
    as_problem(api.get("/static/../server.py"), 404)
    as_problem(api.get("/static/%2e%2e/server.py"), 404)


def test_a_bug_is_a_problem_without_its_traceback(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Signal]:
        raise KeyError("secret inner detail")

    monkeypatch.setattr(api.view, "signals", broken)
    response = api.get("/api/signals")
    assert "secret" not in response.text
    assert as_problem(response, 500)["instance"] == "/api/signals"


def test_metrics_are_prometheus_text(api: Api) -> None:
    response = api.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = dict(parse_metrics(response.text))
    assert samples['enlace_wire_online{wire="socketcan:can0"}'] == 1
    assert samples['enlace_wire_online{wire="socketcan:can1"}'] == 0
    assert samples['enlace_wire_restarts_total{wire="socketcan:can1"}'] == 7
    assert samples['enlace_wire_events_total{wire="socketcan:can0",name="bad.too_short"}'] == 1
    assert samples["enlace_store_rows_total"] == 99
    assert samples["enlace_hub_subscribers"] == 0
    assert samples['enlace_healthy{part="db"}'] == 1
    assert samples["process_resident_memory_bytes"] > 1_000_000
    assert samples["process_threads"] >= 1
    assert samples["process_open_fds"] >= 3
    assert "# TYPE enlace_store_rows_total counter" in response.text
    assert "# TYPE enlace_store_bytes gauge" in response.text


def parse_metrics(text: str) -> Iterator[tuple[str, float]]:
    """Samples of a Prometheus text; each family's samples must stand together."""
    families: list[str] = []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        elif not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name.partition("{")[0] == families[-1]
            yield name, float(value)
    assert len(set(families)) == len(families)


def test_labels_of_metrics_are_escaped(api: Api) -> None:
    api.view.wires[1] = replace(api.view.wires[1], name='a"b\\c\nd')
    assert 'wire="a\\"b\\\\c\\nd"' in api.get("/metrics").text


def test_every_answer_carries_the_security_headers(api: Api) -> None:
    for url in ("/", "/docs", "/static/docs.js", "/api/signals", "/metrics", "/openapi.json"):
        headers = api.get(url).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value, url
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] == ("no-cache" if url in ("/docs", "/static/docs.js") else "no-store")
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]", "gw.local:80"])
def test_known_hosts_are_answered(tmp_path: Path, host: str) -> None:
    assert Api(tmp_path, ("GW.local",)).request("GET", "/api/signals", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("10.0.0.7", 200),
        ("192.168.1.20:8080", 200),
        ("[fe80::1]:8080", 200),
        ("fe80::1", 421),
        ("[10.0.0.7]", 421),
        ("10.0.0.7.evil.example", 421),
        ("evil.example:8080", 421),
        ("", 421),
    ],
)
def test_on_the_network_addresses_are_answered_and_strange_names_are_not(
    tmp_path: Path, host: str, status: int
) -> None:
    api = Api(tmp_path, any_address=True)
    assert api.request("GET", "/api/signals", headers={"host": host}).status_code == status


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "[::2]:8080", "gw.local"])
def test_other_hosts_are_refused(api: Api, host: str) -> None:
    as_problem(api.request("GET", "/api/signals", headers={"host": host}), 421)
    as_problem(api.request("GET", "/", headers={"host": host}), 421)


def test_host_names_are_split_from_ports() -> None:
    assert [host_name(host) for host in ("a:1", "a", "[::1]:1", "[::1]", "")] == ["a", "a", "[::1]", "[::1]", ""]


def test_bodies_are_bounded(api: Api) -> None:
    as_problem(api.request("POST", "/api/signals", content=b"x" * (MAX_BODY_BYTES + 1)), 413)
    as_problem(api.request("POST", "/api/signals", headers={"content-length": "9" * 30}), 413)
    as_problem(api.request("POST", "/api/signals", headers={"content-length": "-1"}), 413)

    async def chunks() -> object:
        yield b"x"

    as_problem(api.request("POST", "/api/signals", content=chunks()), 411)


def test_pages_load_nothing_from_outside(api: Api) -> None:
    for path in sorted(STATIC.iterdir()):
        text = path.read_text()
        assert "://" not in text, path
        assert "//cdn" not in text, path
        assert "innerHTML" not in text, path
        assert " style=" not in text, path
        assert "onclick" not in text, path
    for url in ("/", "/docs"):
        page = api.request("GET", url, headers={"accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert "<script>" not in page.text
        wanted = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
        assert len(wanted) >= 3
        for source in wanted:
            assert source.startswith("/"), source
            assert api.get(source).status_code == 200, source


def test_the_dashboard_is_small_compressed_and_kept_by_the_browser(api: Api) -> None:
    page = api.request("GET", "/", headers={"accept": "text/html", "accept-encoding": "gzip"})
    assert (page.headers["cache-control"], page.headers["vary"]) == ("no-cache", "accept, accept-encoding")
    sources = re.findall(r'(?:src|href)="(/static/[^"]+-[A-Z0-9]{8}\.(?:js|css))"', page.text)
    assert len(sources) >= 2
    for source in sources:
        plain = api.request("GET", source, headers={"accept-encoding": "identity"})
        packed = api.request("GET", source, headers={"accept-encoding": "gzip, deflate"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert packed.content == plain.content
        assert packed.headers["vary"] == "accept-encoding"
        assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
    parts = pages.pages()
    scripts = {path: len(one.codings["gzip"]) for path, one in parts.items() if one.codings and "-" in path}
    (spanish,) = (size for path, size in scripts.items() if path.startswith("/static/es-"))
    assert sum(scripts.values()) - spanish < 200_000, "all pages together"
    first = sum(scripts[source] for source in sources)
    assert first + spanish < 200_000, "the first load of who reads Spanish"


def test_a_page_that_is_not_built_says_how_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pages, "DIST", tmp_path)
    front = pages.pages.__wrapped__()["/"]
    assert front.media_type == "text/plain"
    assert b"make web" in front.content


def test_the_description_names_every_route(api: Api) -> None:
    description = api.json("/openapi.json")
    paths = cast("dict[str, Json]", description["paths"])
    schemas = cast("Json", cast("Json", description["components"])["schemas"])
    assert "Problem" in schemas
    assert "HTTPValidationError" not in schemas
    assert api.json("/openapi.json") == description
    names = [each["name"] for each in cast("Json", paths["/api/history"]["get"])["parameters"]]  # type: ignore[attr-defined]
    assert names == ["signal", "from", "to", "points"]


READINGS = [
    "/api/devices",
    "/api/devices/battery1/latest",
    "/api/history?signal=1",
    "/api/history.csv?signal=1",
    "/api/signals",
    "/api/system/health",
    "/metrics",
]


@pytest.mark.parametrize("url", READINGS)
def test_readings_answer_as_described(api: Api, url: str) -> None:
    api.view.put((SOC, 80), (POWER, 7))
    path = url.partition("?")[0].replace("battery1", "{device_id}")
    operation = cast("dict[str, Json]", api.json("/openapi.json")["paths"])[path]["get"]
    described = cast("Json", cast("Json", cast("Json", operation)["responses"])["200"])
    response = api.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] in cast("Json", described["content"])


def test_of_many_requests_at_once_one_begins_in_each_turn_of_the_loop() -> None:
    turns = 0
    begun: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(turns)
        await Response()(scope, receive, send)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        transport = httpx.ASGITransport(Guard(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            beside = asyncio.create_task(others())
            await asyncio.gather(*(client.get("/") for _ in range(8)))
            beside.cancel()

    asyncio.run(main())
    assert len(set(begun)) == 8, "chargers are served in between"
