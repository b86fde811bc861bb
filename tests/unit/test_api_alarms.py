"""``/api/alarms``: how alarms and rules stand, what happened to them, and what people do about them."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.api.users import Role
from agent.control.alarm_model import MAX_SHELVE_S, RuleAct, Severity
from agent.core.clock import FakeClock
from agent.core.model import Event
from tests.alarm_fakes import SOC, hot, low
from tests.alarm_fakes import Rig as AlarmRig
from tests.control_fakes import settle
from tests.fake_view import START_US
from tests.unit.api_rig import Json, Rig, problem

HOT = "/api/alarms/hot"
START = "2023-11-14T22:13:20.000000Z"


class Site:
    """The API over a real book of alarms; ``live`` lets it work, for each call has a loop of its own."""

    def __init__(self, folder: Path) -> None:
        specs = [hot(), hot("mild", severity=Severity.INFO, device="battery2", shadow=True), low()]
        self.alarms = AlarmRig(specs, clock=FakeClock(START_US)).start()
        self.rig = Rig(folder, alarms=self.alarms.book)

    async def heat(self, *values: float) -> None:
        await self.alarms.heat(*values)

    async def discharge(self, value: float) -> None:
        self.alarms.put(value, SOC)

    def live(self, work: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            await work
            await settle()

        asyncio.run(whole())

    def get(self, url: str, role: Role = Role.VIEWER) -> Json:
        answer = self.rig.call("GET", url, role)
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    def post(self, url: str, body: Json | None = None, role: Role = Role.OPERATOR) -> httpx.Response:
        more: dict[str, Any] = {} if body is None else {"json": body}
        return self.rig.call("POST", url, role, **more)

    def names(self, query: str) -> list[str]:
        page = self.get(f"/api/alarms?{query}")
        assert page["total"] == len(page["items"])
        return [one["id"] for one in page["items"]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_alarm_tells_how_it_stands_and_why(site: Site) -> None:
    site.live(site.heat(52.3))
    assert site.get(HOT) == {
        "id": "hot",
        "kind": "alarm",
        "severity": "critical",
        "text": "Too hot",
        "device": "battery1",
        "state": "unacknowledged",
        "active": True,
        "acting": True,
        "known": True,
        "shadow": False,
        "when": "battery1.temperature_max_degc > 50",
        "does": ["cp1 off"],
        "why": "battery1.temperature_max_degc is 52.3 °C (> 50)",
        "inputs": {"battery1.temperature_max_degc": 52.3},
        "since": START,
        "raised": START,
        "cleared": None,
        "acknowledged": None,
        "acknowledged_by": "",
        "shelved_until": None,
        "shelved_by": "",
        "suppressed_by": "",
        "held_until": None,
        "raised_count": 1,
    }
    problem(site.rig.call("GET", "/api/alarms/nobody", Role.VIEWER), 404, "/api/alarms")


def test_alarms_are_listed_in_the_order_of_the_configuration_and_by_what_is_asked_for(site: Site) -> None:
    assert site.names("") == ["hot", "mild", "low"]
    site.live(site.heat(60))
    site.live(site.discharge(50))
    assert site.names("kind=rule") == ["low"]
    assert site.names("kind=alarm") == ["hot", "mild"]
    assert site.names("state=unacknowledged") == ["hot"]
    assert site.names("severity=info") == ["mild"]
    assert site.names("active=true") == ["hot", "mild"]
    assert site.names("active=false") == ["low"]
    assert site.names("device=battery2") == ["mild"]
    page = site.get("/api/alarms?page=2&page_size=2")
    assert (page["total"], [one["id"] for one in page["items"]]) == (3, ["low"])
    rule = page["items"][0]
    assert (rule["kind"], rule["severity"]) == ("rule", None)
    problem(site.rig.call("GET", "/api/alarms?state=gone", Role.VIEWER), 422, "query.state")


def test_people_acknowledge_with_or_without_a_word(site: Site) -> None:
    site.live(site.heat(60))
    answer = site.post(f"{HOT}/acknowledge", {"note": "I open the window"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["acknowledged_by"]) == ("acknowledged", "user:operator")
    event = site.alarms.told("alarm.acknowledged")
    assert (event.data["source"], event.data["note"]) == ("user:operator", "I open the window")
    assert site.post(f"{HOT}/acknowledge").json()["state"] == "acknowledged", "again is no mistake"
    problem(site.post("/api/alarms/nobody/acknowledge"), 404, "/api/alarms")
    problem(site.post(f"{HOT}/acknowledge", {"note": "x" * 201}), 422, "note")


def test_all_are_acknowledged_at_once(site: Site) -> None:
    site.live(site.heat(60))
    answer = site.post("/api/alarms/acknowledge")
    assert answer.status_code == 200, answer.text
    assert [one["id"] for one in answer.json()["items"]] == ["hot"]
    assert site.post("/api/alarms/acknowledge").json() == {"items": []}


def test_people_shelve_and_unshelve(site: Site) -> None:
    answer = site.post(f"{HOT}/shelve", {"for_s": 3600, "reason": "the sensor is replaced"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["state"], body["shelved_by"]) == ("shelved", "user:operator")
    assert body["shelved_until"] == "2023-11-14T23:13:20.000000Z"
    assert site.post(f"{HOT}/unshelve").json()["state"] == "normal"
    assert site.alarms.told("alarm.shelved").data["reason"] == "the sensor is replaced"
    problem(site.post("/api/alarms/low/shelve", {"for_s": 60}), 422, "rule")
    for wrong in ({"for_s": 0}, {"for_s": MAX_SHELVE_S + 1}, {"for_s": "60"}, {}, {"for_s": 60, "reason": "x" * 201}):
        problem(site.post(f"{HOT}/shelve", wrong), 422)
    for act in ("shelve", "unshelve"):
        problem(site.post(f"/api/alarms/nobody/{act}", {"for_s": 60}), 404)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One for all tests that only see somebody refused: to make it costs more than they do."""
    return Site(Path(tmp_path_factory.mktemp("steady")))


@pytest.mark.parametrize("path", ["/api/alarms/acknowledge", f"{HOT}/acknowledge", f"{HOT}/shelve", f"{HOT}/unshelve"])
def test_a_viewer_only_looks(steady: Site, path: str) -> None:
    problem(steady.post(path, {"for_s": 60}, Role.VIEWER), 403, "operator")
    problem(steady.rig.call("POST", path), 401)
    problem(steady.rig.call("GET", "/api/alarms"), 401)


def test_a_store_that_fails_is_told_and_nothing_has_changed(site: Site) -> None:
    site.live(site.heat(60))
    site.alarms.notebook.failing = True
    for path, body in (
        (f"{HOT}/acknowledge", None),
        (f"{HOT}/shelve", {"for_s": 60}),
        ("/api/alarms/acknowledge", None),
    ):
        problem(site.post(path, body), 503, "the disk is full")
    assert site.get(HOT)["state"] == "unacknowledged"


def test_history_tells_what_happened_newest_first(site: Site) -> None:
    def event(kind: str, alarm: str, seconds: int) -> Event:
        return Event(kind, START_US + seconds * 1_000_000, alarm, {"why": f"{seconds} s"})

    site.rig.ledger.put(
        event("alarm.raised", "hot", 0),
        event("rule.active", "low", 1),
        event("audit", "hot", 2),
        event("alarm.raised", "cold", 3),
        event("alarm.cleared", "hot", 4),
    )
    page = site.get("/api/alarms/history")
    assert page["total"] == 3
    assert [(one["kind"], one["alarm"]) for one in page["items"]] == [
        ("alarm.cleared", "hot"),
        ("alarm.raised", "cold"),
        ("alarm.raised", "hot"),
    ]
    assert page["items"][2]["time"] == START
    assert page["items"][2]["data"] == {"why": "0 s"}
    assert [one["alarm"] for one in site.get("/api/alarms/history?kind=rule")["items"]] == ["low"]
    assert [one["data"]["why"] for one in site.get("/api/alarms/history?alarm=hot")["items"]] == ["4 s", "0 s"]
    until = site.get("/api/alarms/history?from=2023-11-14T22:13:23Z&to=2023-11-14T22:13:24Z")
    assert [one["alarm"] for one in until["items"]] == ["cold"]
    second = site.get("/api/alarms/history?page=2&page_size=2")
    assert [one["data"]["why"] for one in second["items"]] == ["0 s"]


def test_history_shows_a_damaged_event_without_what_it_said(site: Site) -> None:
    site.rig.ledger.put(Event("alarm.raised", START_US, "hot", {"why": "x"}))
    site.rig.ledger.connection.execute("UPDATE event SET data = '[1', t_us = 'when'")
    (one,) = site.get("/api/alarms/history")["items"]
    assert (one["data"], one["time"], one["alarm"]) == (None, "", "hot")


def test_a_gateway_without_alarms_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, alarms=None)
    problem(rig.call("GET", "/api/alarms", Role.VIEWER), 503, "without alarms")


def test_what_an_alarm_does_is_said_in_words(site: Site) -> None:
    acts = (
        RuleAct("*", on=True),
        RuleAct("cp1", on=False, limit_a=6),
        RuleAct("cp1", do="reset", args={"type": "Soft"}),
    )

    async def change() -> None:
        site.alarms.book.apply([hot(acts=acts)], ())

    site.live(change())
    assert site.get(HOT)["does"] == ["all stations on", "cp1 off, at most 6 A", "cp1 reset"]
