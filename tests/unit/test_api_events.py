"""Timed events through the API."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from agent.api.users import Role
from tests.control_fakes import NOON_US
from tests.fake_view import START_US
from tests.unit.api_rig import Json, Rig, problem

OFF: list[Json] = [{"station": "battery1", "set": "off"}]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.clock.jump_wall((NOON_US - START_US) / 1e6)  # a clock that was set
    return rig


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """One for all tests that only see inputs refused: to make it costs more than they do."""
    return Rig(Path(tmp_path_factory.mktemp("steady")))


def ask(rig: Rig, method: str, path: str = "", body: object = None, role: Role = Role.OPERATOR) -> httpx.Response:
    if body is None:
        return rig.call(method, f"/api/events{path}", role)
    return rig.call(method, f"/api/events{path}", role, json=body)


def made(rig: Rig, **body: object) -> Json:
    answer = ask(rig, "POST", "", {"name": "Grid works", "then": OFF, **body})
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


def at(hours: float) -> str:
    """So many hours after noon."""
    return datetime.fromtimestamp(NOON_US / 1e6 + hours * 3600, UTC).isoformat()


def listed(rig: Rig, query: str = "") -> list[str]:
    answer = ask(rig, "GET", query, role=Role.VIEWER)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["total"] >= len(body["items"])
    return [one["name"] for one in body["items"]]


def test_an_event_is_programmed_and_shown(rig: Rig) -> None:
    then = [{"station": "*", "limit_a": 10}, {"station": "battery1", "set": "off", "limit_a": None}]
    event = made(rig, start="2026-03-28T22:00:00+01:00", end="2026-03-29T05:00:00Z", then=then)
    assert event == {
        "id": event["id"],
        "name": "Grid works",
        "state": "programmed",
        "start": "2026-03-28T21:00:00.000000Z",
        "end": "2026-03-29T05:00:00.000000Z",
        "then": [
            {"station": "*", "set": None, "limit_a": 10},
            {"station": "battery1", "set": "off", "limit_a": None},
        ],
        "missed": False,
        "created": "2026-03-28T12:00:00.000000Z",
        "created_by": "user:operator",
        "started": None,
        "started_by": "",
        "finished": None,
        "finished_by": "",
    }
    assert ask(rig, "GET", f"/{event['id']}", role=Role.VIEWER).json() == event
    assert ("user:operator", "create event", event["id"], "programmed") in rig.audit()
    problem(ask(rig, "GET", "/nobody"), 404, "/api/events")


def test_it_is_started_and_finished_by_hand_and_both_may_be_said_twice(rig: Rig) -> None:
    event = made(rig)
    for _ in range(2):
        started = ask(rig, "POST", f"/{event['id']}/start").json()
        assert (started["state"], started["started_by"]) == ("in_progress", "user:operator")
        assert started["started"] == "2026-03-28T12:00:00.000000Z"
    (wish,) = rig.derived.now[f"event:{event['id']}"]
    assert (wish.station, wish.on, wish.reason) == ("battery1", False, "event Grid works")
    for _ in range(2):
        finished = ask(rig, "POST", f"/{event['id']}/finish").json()
        assert (finished["state"], finished["finished_by"]) == ("completed", "user:operator")
    assert rig.derived.now[f"event:{event['id']}"] == []
    assert [one.kind for one in rig.event_notes.events] == ["event.programmed", "event.started", "event.finished"]
    problem(ask(rig, "POST", f"/{event['id']}/start"), 409, "completed")
    problem(ask(rig, "DELETE", f"/{event['id']}"), 409, "completed")
    assert ("user:operator", "start event", event["id"], "refused") in rig.audit()


def test_it_is_cancelled_and_stays_in_the_list(rig: Rig) -> None:
    event = made(rig, start=at(1))
    for _ in range(2):
        answer = ask(rig, "DELETE", f"/{event['id']}")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    problem(ask(rig, "POST", f"/{event['id']}/finish"), 409, "cancelled")
    assert listed(rig, "?state=cancelled") == ["Grid works"]


def test_what_is_sent_changes_and_all_else_stays(rig: Rig) -> None:
    event = made(rig, start=at(1), end=at(2))
    path = f"/{event['id']}"
    changed = ask(rig, "PATCH", path, {"name": "Later", "end": None}).json()
    assert changed == event | {"name": "Later", "end": None}
    assert ask(rig, "PATCH", path, {"name": None, "then": None, "start": at(1)}).json() == changed
    then = [{"station": "meter1.2", "set": None, "limit_a": 6}]
    assert ask(rig, "PATCH", path, {"then": then}).json()["then"] == then
    ask(rig, "POST", f"{path}/start")
    problem(ask(rig, "PATCH", path, {"name": "x"}), 409, "only its end")
    assert ask(rig, "PATCH", path, {"end": at(9)}).json()["end"] == "2026-03-28T21:00:00.000000Z"
    problem(ask(rig, "PATCH", path, {"end": at(-1)}), 422, "over already")


def test_the_list_is_filtered_and_paged(rig: Rig) -> None:
    made(rig, name="a", start=at(1), end=at(2))
    made(rig, name="b", start=at(3), end=at(4), then=[{"station": "meter1.2", "limit_a": 6}])
    made(rig, name="c", start=at(5), then=[{"station": "*", "set": "on"}])
    hand = made(rig, name="d")
    ask(rig, "POST", f"/{hand['id']}/start")
    assert listed(rig) == ["c", "b", "a", "d"]
    assert listed(rig, "?state=in_progress") == ["d"]
    assert listed(rig, "?station=battery1") == ["c", "a", "d"]
    assert listed(rig, "?station=battery1.2") == ["c", "a", "d"], "its charger as a whole concerns it too"
    assert listed(rig, "?station=meter1.2") == ["c", "b"]
    for span, names in (((2, 3), "d"), ((1.5, 3.5), "bad"), ((-2, -1), ""), ((7, 8), "cd")):
        start, end = (at(one).replace("+00:00", "Z") for one in span)
        assert listed(rig, f"?from={start}&to={end}") == list(names)
    ask(rig, "POST", f"/{hand['id']}/finish")
    assert listed(rig, f"?from={at(0.5).replace('+00:00', 'Z')}&station=battery1") == ["c", "a"]
    body = ask(rig, "GET", "?page=2&page_size=3").json()
    assert ([one["name"] for one in body["items"]], body["total"]) == (["d"], 4)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"start": "2026-12-01T22:00:00"}, "write 2026-12-01T22:00:00Z"),
        ({"start": "tomorrow"}, "is no time"),
        ({"end": "2026-13-01T00:00:00Z"}, "is no time"),
        ({"start": 5}, "body.start"),
        ({"start": "2026-12-01T22:00:00Z", "end": "2026-12-01T22:00:00Z"}, "after its start"),
        ({"name": ""}, "body.name"),
        ({"name": "two\nlines"}, "one line"),
        ({"name": None}, "body.name"),
        ({"then": []}, "body.then"),
        ({"then": [{"station": "battery1"}]}, "add set or limit_a"),
        ({"then": [{"station": "battery1", "set": "toggle"}]}, "set"),
        ({"then": [{"station": "battery1", "limit_a": -1}]}, "limit_a"),
        ({"then": [{"station": "nobody", "set": "off"}]}, "there is no station 'nobody'"),
        ({"then": OFF * 65}, "body.then"),
        ({"more": 1}, "body.more"),
    ],
)
def test_what_is_no_event_is_refused_with_what_to_write(steady: Rig, body: Json, words: str) -> None:
    problem(ask(steady, "POST", "", {"name": "x", "then": OFF, **body}), 422, words)
    assert steady.events.events() == []


def test_a_change_that_is_none_is_refused(rig: Rig) -> None:
    event = made(rig, start=at(1), end=at(2))
    for body, words in (
        ({}, "nothing is to change"),
        ({"end": at(1)}, "after its start"),
        ({"then": [{"station": "x", "set": "on"}]}, "'x'"),
    ):
        problem(ask(rig, "PATCH", f"/{event['id']}", body), 422, words)
    for method, path in (("PATCH", "/nobody"), ("DELETE", "/nobody"), ("POST", "/nobody/start")):
        problem(ask(rig, method, path, {"name": "y"} if method == "PATCH" else None), 404, "no event 'nobody'")
    assert ask(rig, "GET", f"/{event['id']}").json() == event


def test_an_end_that_is_over_is_refused(rig: Rig) -> None:
    problem(ask(rig, "POST", "", {"name": "x", "then": OFF, "end": at(-1)}), 422, "over already")
    event = made(rig, start=at(1))
    problem(ask(rig, "POST", f"/{event['id']}/finish"), 422, "cancel it instead")


def test_a_viewer_only_looks(rig: Rig) -> None:
    event = made(rig)
    path = f"/{event['id']}"
    for method, where, body in (
        ("POST", "", {"name": "x", "then": OFF}),
        ("PATCH", path, {"name": "y"}),
        ("DELETE", path, None),
        ("POST", f"{path}/start", None),
        ("POST", f"{path}/finish", None),
    ):
        problem(ask(rig, method, where, body, Role.VIEWER), 403, "operator")
    assert ask(rig, "GET", path, role=Role.VIEWER).json() == event
