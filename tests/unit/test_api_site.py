"""Stations, commands, devices, chargers, sessions and id tags through the API."""

import asyncio
import csv
import io
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from agent.api.live import LiveStreams
from agent.api.users import Role
from agent.control.model import Command, Origin, Outcome
from agent.core.errors import ConfigError, Refusal
from agent.core.model import Kind, Signal
from tests.fake_view import POWER, SOC, START_US, STORE_DOWN, fake_hash
from tests.unit.api_rig import Json, Rig, problem


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """One for all tests that only see inputs refused: to make it costs more than they do."""
    return Rig(Path(tmp_path_factory.mktemp("steady")))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def get(rig: Rig, url: str, role: Role = Role.VIEWER) -> Json:
    answer = rig.call("GET", url, role)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def post(rig: Rig, url: str, body: Json) -> httpx.Response:
    return rig.call("POST", url, Role.OPERATOR, json=body)


def test_stations_tell_what_they_are_do_and_can(rig: Rig) -> None:
    power = Signal("meter1", "power_w.2", unit="W", id=7)
    status = Signal("meter1", "charger_status.2", kind=Kind.STATE, labels={3: "Charging"}, id=8)
    rig.view.known += [power, status]
    rig.view.put((POWER, 1), (power, 3600), (status, 3))
    body = get(rig, "/api/stations")
    assert body["total"] == 2
    first, second = body["items"]
    assert (first["id"], first["status"], first["power_w"], first["connector"]) == ("battery1", None, None, None)
    assert first["settings"]["current_limit_a"] == {"unit": "A", "min": 6, "max": 32, "zero": True}
    assert first["actions"] == ["reset"]
    assert (second["status"], second["limit_a"], second["following"]) == ("off", 0, True)
    assert (second["power_w"], second["connector"]) == (3600, "Charging"), "the outlet's own, not the charger's"
    assert get(rig, "/api/stations/meter1.2") == second
    assert [one["id"] for one in get(rig, "/api/stations?page=2&page_size=1")["items"]] == ["meter1.2"]
    for query, wanted in {
        "status=off": [second],
        "status=on": [],
        "device=battery1": [first],
        "device=meter1&status=off": [second],
        "name=METER1": [second],
        "name=r": [first, second],
    }.items():
        page = get(rig, f"/api/stations?{query}")
        assert (page["items"], page["total"]) == (wanted, len(wanted)), query
    assert get(rig, "/api/stations?name=r&page=2&page_size=1")["items"] == [second]
    problem(rig.call("GET", "/api/stations?status=maybe", Role.VIEWER), 422, "status")
    problem(rig.call("GET", "/api/stations/nobody", Role.VIEWER), 404, "/api/stations")


@pytest.mark.parametrize(
    ("word", "action"),
    [("on", "on"), ("off", "off"), ("active", "on"), ("inactive", "off"), ("activo", "on"), ("inactivo", "off")],
)
def test_a_station_is_switched_in_several_words(rig: Rig, word: str, action: str) -> None:
    answer = rig.call("PATCH", "/api/stations/battery1", Role.OPERATOR, json={"status": word})
    assert answer.status_code == 200
    (command,) = rig.control.commands
    assert (command.target, command.action, command.args) == ("battery1", action, {})
    assert (command.origin, command.issuer) == (Origin.MANUAL, "user:operator")
    assert answer.json()["station"]["status"] == action
    assert [result["outcome"] for result in answer.json()["results"]] == ["done"]


def test_a_limit_comes_before_the_switch_and_both_for_a_time(rig: Rig) -> None:
    wanted = {"status": "on", "limit_a": 16, "for_s": 3600}
    assert rig.call("PATCH", "/api/stations/battery1", Role.OPERATOR, json=wanted).status_code == 200
    assert [(one.action, one.args) for one in rig.control.commands] == [
        ("limit", {"limit_a": 16, "for_s": 3600}),
        ("on", {"for_s": 3600}),
    ]
    assert len({one.id for one in rig.control.commands}) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"for_s": 5},
        {"status": "maybe"},
        {"status": True},
        {"limit_a": "16"},
        {"limit_a": True},
        {"limit_a": -1},
        {"status": "on", "for_s": 0},
        {"status": "on", "more": 1},
        [],
        "on",
        None,
    ],
)
def test_a_change_that_is_none_is_refused(steady: Rig, body: object) -> None:
    problem(steady.call("PATCH", "/api/stations/battery1", Role.OPERATOR, json=body), 422)
    assert steady.control.commands == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"limit_a": NaN}', b'{"limit_a": 1e999}', b"[" * 50_000, b"\xff"])
def test_bodies_that_are_no_json_are_refused(steady: Rig, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = steady.call("PATCH", "/api/stations/battery1", Role.OPERATOR, content=content, headers=headers)
    assert answer.status_code in {400, 422}
    problem(answer, answer.status_code)
    problem(steady.call("PATCH", "/api/stations/battery1", Role.OPERATOR, content=b'{"status": "on"}'), 415)
    assert steady.control.commands == []


def test_a_command_as_over_mqtt(rig: Rig) -> None:
    sent = {
        "id": "a1",
        "target": "meter1",
        "action": "reset",
        "args": {"type": "Soft"},
        "ttl_s": 30,
        "issued_at": "2023-11-14T22:13:20Z",
    }
    answer = post(rig, "/api/commands", sent)
    assert rig.control.commands == [
        Command("a1", "meter1", "reset", {"type": "Soft"}, Origin.MANUAL, "user:operator", START_US, 30)
    ]
    assert answer.json() == {
        "id": "a1",
        "outcome": "done",
        "reason": "",
        "refusal": None,
        "data": {"set": {"type": "Soft"}},
        "time": "2023-11-14T22:13:20.000000Z",
    }
    assert ("user:operator", "command reset (a1)", "meter1", "done") in rig.audit()
    problem(post(rig, "/api/commands", sent | {"target": "nobody"}), 404, "nobody")


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": ""},
        {"action": 5},
        {"args": []},
        {"args": {"x": {"x": {"x": {"x": {"x": {"x": {"x": {"x": {"x": 1}}}}}}}}}},
        {"args": {"x": "\ud800"}},
        {"args": {"\ud800": 1}},
        {"ttl_s": 0},
        {"ttl_s": 901},
        {"id": ""},
        {"id": "x" * 101},
        {"issued_at": "yesterday"},
        {"more": 1},
    ],
)
def test_a_command_out_of_bounds_is_refused(steady: Rig, wrong: Json) -> None:
    problem(post(steady, "/api/commands", {"target": "battery1", "action": "reset", **wrong}), 422)
    assert steady.control.commands == []


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Refusal.OUT_OF_RANGE, 422),
        (Refusal.NOT_CAPABLE, 422),
        (Refusal.DUPLICATE, 409),
        (Refusal.INTERLOCKED, 409),
        (Refusal.DEVICE_REFUSED, 409),
        (Refusal.EXPIRED, 409),
    ],
)
def test_a_refused_command_is_a_problem_that_says_why(rig: Rig, refusal: Refusal, status: int) -> None:
    rig.control.refusal = refusal
    for answer in (
        post(rig, "/api/stations/battery1/commands", {"action": "limit", "args": {"limit_a": 99}, "id": "a1"}),
        rig.call("PATCH", "/api/stations/battery1", Role.OPERATOR, json={"status": "on"}),
    ):
        body = problem(answer, status, "it may not be")
        assert body["refusal"] == refusal.value
    assert ("user:operator", "command limit (a1)", "battery1", f"rejected: {refusal.value}") in rig.audit()


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.EXPIRED, Outcome.SUPERSEDED])
def test_a_command_that_came_to_nothing_says_so_in_its_result(rig: Rig, outcome: Outcome) -> None:
    rig.control.outcome = outcome
    answer = post(rig, "/api/stations/battery1/commands", {"action": "reset"})
    assert (answer.status_code, answer.json()["outcome"]) == (200, outcome.value)


def test_why_and_history_tell_decisions_newest_first(rig: Rig) -> None:
    for path in ("why", "history"):
        newest, oldest = get(rig, f"/api/stations/battery1/{path}")["items"]
        assert (newest["status"], newest["limit_a"], newest["reason"]) == ("on", 16, "ana wants it")
        assert newest["winner"]["origin"] == "manual"
        assert newest["wishes"] == [newest["winner"]]
        assert (oldest["status"], oldest["winner"]) == (None, None)
    assert len(get(rig, "/api/stations/battery1/history?limit=1")["items"]) == 1
    problem(rig.call("GET", "/api/stations/nobody/why", Role.VIEWER), 404)
    problem(rig.call("GET", "/api/stations/battery1/history?limit=0", Role.VIEWER), 422)


def test_actions_of_a_device_come_with_the_schemas_of_their_arguments(rig: Rig) -> None:
    body = get(rig, "/api/devices/battery1/actions")
    assert body["reset"]["doc"] == "restart it"
    assert body["reset"]["args"]["properties"]["type"]["enum"] == ["Soft", "Hard"]
    assert get(rig, "/api/devices/later/actions") == {}
    problem(rig.call("GET", "/api/devices/nobody/actions", Role.VIEWER), 404)


def test_a_pending_charger_is_shown_and_adopted(rig: Rig) -> None:
    (pending,) = get(rig, "/api/chargers/pending")["items"]
    assert pending["charge_point_id"] == "CP-0002"
    assert pending["boot"] == {"vendor": "ACME"}
    entry = {"id": "cp2", "driver": "ocpp", "charge_point_id": "CP-0002", "connectors": 2}
    answer = rig.call("POST", "/api/devices", Role.ADMIN, json=entry)
    adoption = {
        "outcome": "enter",
        "text": "enter this password at the charger",
        "password": "s3cret",
        "password_hex": "733363726574",
    }
    assert (answer.status_code, answer.json()) == (201, {"id": "cp2", "driver": "ocpp", "adoption": adoption})
    assert (rig.editor.asked, rig.adopted) == ([("add", entry)], ["CP-0002"])
    assert rig.audit() == [
        ("user:admin", "add device", "cp2", "done"),
        ("user:admin", "adopt charger", "CP-0002", "enter"),
    ]


def test_an_entry_that_is_written_but_does_not_run_is_said_to(tmp_path: Path) -> None:
    waited: list[object] = []

    async def applied(written: object) -> bool:
        waited.append(written)
        return len(waited) == 1

    rig = Rig(tmp_path, applied=applied)
    entry = {"id": "cp2", "driver": "ocpp", "charge_point_id": "CP-0002"}
    assert rig.call("POST", "/api/devices", Role.ADMIN, json=entry).status_code == 201
    problem(rig.call("POST", "/api/devices", Role.ADMIN, json=entry | {"id": "cp3"}), 503, "but not what runs yet")
    assert len(waited) == 2


def test_a_charger_that_waits_and_has_no_entry_is_added_first(rig: Rig) -> None:
    problem(
        rig.call("POST", "/api/chargers/CP-0002/adopt", Role.ADMIN), 409, "POST /api/devices with it adds and adopts"
    )
    assert rig.adopted == []


def test_a_charger_that_the_configuration_refuses_is_not_adopted(rig: Rig) -> None:
    rig.editor.error = ConfigError("edit site.yaml", "charge_point_id stands there twice")
    entry = {"id": "cp2", "driver": "ocpp", "charge_point_id": "CP-0002"}
    problem(rig.call("POST", "/api/devices", Role.ADMIN, json=entry), 422, "twice")
    assert rig.adopted == []


def test_devices_are_replaced_and_taken_out(rig: Rig) -> None:
    entry = {"id": "battery1", "driver": "can", "channel": "can1", "options": {"a": [1, 2.5, None]}}
    assert rig.call("PUT", "/api/devices/battery1", Role.ADMIN, json=entry).status_code == 200
    assert rig.call("DELETE", "/api/devices/battery1", Role.ADMIN).status_code == 204
    assert rig.editor.asked == [("replace", ("battery1", entry)), ("remove", "battery1")]
    problem(rig.call("POST", "/api/devices", Role.ADMIN, json=entry), 409, "PUT replaces it")
    problem(rig.call("PUT", "/api/devices/nobody", Role.ADMIN, json=entry), 404)
    problem(rig.call("DELETE", "/api/devices/nobody", Role.ADMIN), 404)
    for wrong in ({"id": "x y"}, {"driver": 5}, {"x": "\ud800"}, {"x": [[[[[[[[[[1]]]]]]]]]]}):
        problem(rig.call("PUT", "/api/devices/battery1", Role.ADMIN, json=entry | wrong), 422)


def test_what_the_configuration_can_t_be_is_said_in_its_words(rig: Rig) -> None:
    rig.editor.error = ConfigError("edit site.yaml", "`cannel` is no key of a can device", "write channel")
    body = problem(rig.call("DELETE", "/api/devices/battery1", Role.ADMIN), 422, "`cannel`")
    assert body["hint"] == "write channel"
    assert ("user:admin", "remove device", "battery1", "refused") in rig.audit()


def test_sessions_are_paged_and_filtered_and_show_tags_as_hashes(rig: Rig) -> None:
    body = get(rig, "/api/sessions")
    assert (body["total"], [one["id"] for one in body["items"]]) == (2, [8, 7])
    running, ended = body["items"]
    assert ended == {
        "id": 7,
        "device": "cp1",
        "outlet": 1,
        "remote_id": "",
        "id_tag": fake_hash("04A2"),
        "start": "2023-11-14T22:13:20.000000Z",
        "stop": "2023-11-14T22:13:20.000010Z",
        "energy_wh": 3000,
        "start_wh": 1000,
        "last_wh": 4000,
        "reason": "Local",
    }
    assert (running["stop"], running["energy_wh"], running["id_tag"]) == (None, None, "")
    assert "04A2" not in rig.call("GET", "/api/sessions", Role.VIEWER).text
    for query, ids in {
        "running=true": [8],
        "running=false": [7],
        "device=cp2": [],
        "device=cp1&outlet=1": [7],
        "outlet=7": [],
        "from=2023-11-14T22:13:21Z": [8],
        "to=2023-11-14T22:13:21Z": [7],
        "page=2&page_size=1": [7],
    }.items():
        assert [one["id"] for one in get(rig, f"/api/sessions?{query}")["items"]] == ids, query
    assert get(rig, "/api/sessions/7") == ended
    problem(rig.call("GET", "/api/sessions/9", Role.VIEWER), 404)
    problem(rig.call("GET", f"/api/sessions/{1 << 63}", Role.VIEWER), 422)
    problem(rig.call("GET", "/api/sessions?from=yesterday", Role.VIEWER), 422, "query.from")


def test_sessions_as_csv_hold_no_formulas(rig: Rig) -> None:
    answer = rig.call("GET", "/api/sessions.csv", Role.VIEWER)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == ["8", "7"]
    assert rows[0]["remote_id"] == "'=tx"
    assert (rows[0]["stop"], rows[1]["energy_wh"]) == ("", "3000.0")


def test_id_tags_are_added_changed_and_forgotten_and_never_shown(rig: Rig) -> None:
    sent = {"tag": "04A2", "label": "Van 3", "until": "2024-01-01T00:00:00Z", "parent": "FLEET"}
    added = rig.call("PUT", "/api/id-tags", Role.OPERATOR, json=sent)
    shown = {
        "id": fake_hash("04a2"),
        "label": "Van 3",
        "status": "Accepted",
        "until": "2024-01-01T00:00:00.000000Z",
        "parent": fake_hash("FLEET"),
    }
    assert (added.status_code, added.json()) == (200, shown)
    until_us = 1_704_067_200_000_000
    note: Json = {"tag": "04A2", "label": "Van 3", "status": "Accepted", "until_us": until_us, "parent": "FLEET"}
    assert rig.notebook.notes("id_tag") == {"04a2": note}
    assert get(rig, "/api/id-tags", Role.OPERATOR)["items"] == [shown]
    for query, found in (("status=Accepted&name=van", 1), ("status=Blocked", 0), ("name=car", 0)):
        assert get(rig, f"/api/id-tags?{query}", Role.OPERATOR)["total"] == found
    url = f"/api/id-tags/{shown['id']}"
    assert rig.call("PUT", url, Role.OPERATOR, json={"status": "Blocked"}).json()["status"] == "Blocked"
    assert rig.call("DELETE", url, Role.OPERATOR).status_code == 204
    assert rig.notebook.notes("id_tag") == {}
    problem(rig.call("DELETE", url, Role.OPERATOR), 404)
    assert rig.audit() == [
        ("user:operator", "id tag Accepted", shown["id"], "done"),
        ("user:operator", "id tag Blocked", shown["id"], "done"),
        ("user:operator", "forget id tag", shown["id"], "done"),
    ]
    assert "04a2" not in str(rig.notebook.events).lower().replace(str(shown["id"]), "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"tag": ""},
        {"tag": "x" * 37},
        {"tag": "a b"},
        {"tag": "ñ"},
        {"status": "accepted"},
        {"until": "tomorrow"},
        {"label": "a\nb"},
        {"label": "x" * 201},
        {"parent": ""},
        {"more": 1},
    ],
)
def test_an_id_tag_that_is_none_is_refused(steady: Rig, wrong: Json) -> None:
    problem(steady.call("PUT", "/api/id-tags", Role.OPERATOR, json={"tag": "04A2", **wrong}), 422)
    assert steady.notebook.notes("id_tag") == {}


def test_a_store_that_fails_keeps_the_tag_out_of_the_audit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: object) -> None:
        raise STORE_DOWN

    monkeypatch.setattr(rig.notebook, "write", down)
    problem(rig.call("PUT", "/api/id-tags", Role.OPERATOR, json={"tag": "04A2"}), 503)
    assert rig.audit() == []


def test_an_open_stream_ends_when_its_reader_may_no_longer_read(rig: Rig) -> None:
    async def main() -> None:
        allowed = [True]
        streams = LiveStreams(rig.view, rig.clock)
        async with aclosing(streams.stream(None, lambda: allowed[0])) as events:
            assert "snapshot" in await anext(events)
            allowed[0] = False
            rig.view.put((SOC, 1))
            with pytest.raises(StopAsyncIteration):
                await anext(events)

    asyncio.run(main())


def test_a_charger_that_is_taken_out_has_to_be_adopted_again(rig: Rig) -> None:
    assert rig.call("DELETE", "/api/devices/battery1", Role.ADMIN).status_code == 204
    same = {"id": "meter1", "driver": "ocpp", "charge_point_id": "CP-7", "name": "Other"}
    assert rig.call("PUT", "/api/devices/meter1", Role.ADMIN, json=same).status_code == 200
    assert rig.forgotten == []
    other = same | {"charge_point_id": "CP-8"}
    assert rig.call("PUT", "/api/devices/meter1", Role.ADMIN, json=other).status_code == 200
    assert rig.forgotten == ["CP-7"]
    assert rig.call("DELETE", "/api/devices/meter1", Role.ADMIN).status_code == 204
    assert rig.forgotten == ["CP-7", "CP-7"]
    assert rig.audit()[-1] == ("user:admin", "forget charger's password", "CP-7", "done")
    rig.editor.error = ConfigError("edit site.yaml", "the disk is full")
    problem(rig.call("DELETE", "/api/devices/meter1", Role.ADMIN), 422)
    assert len(rig.forgotten) == 2, "what stays in the configuration keeps its password"


def test_schedules_are_listed_and_done_out_of_turn(rig: Rig) -> None:
    body = rig.call("GET", "/api/scheduler/jobs", Role.VIEWER).json()
    assert body["total"] == 2
    first, second = body["items"]
    assert (first["id"], first["cron"], first["last"], first["next"]) == (
        "night_off",
        "0 22 * * *",
        None,
        "2023-11-14T22:13:20.000000Z",
    )
    assert (second["every_s"], second["running"], second["results"][0]["outcome"]) == (60.0, True, "done")
    for query, found in (("name=NIGHT", [first]), ("running=true", [second]), ("name=night&running=true", [])):
        assert get(rig, f"/api/scheduler/jobs?{query}")["items"] == found
    problem(rig.call("POST", "/api/scheduler/run", Role.VIEWER, json={"id": "night_off"}), 403)
    problem(rig.call("POST", "/api/scheduler/run", Role.OPERATOR, json={"id": "other"}), 404, "/api/scheduler/jobs")
    answer = rig.call("POST", "/api/scheduler/run", Role.OPERATOR, json={"id": "night_off"})
    assert answer.status_code == 200
    assert [one["outcome"] for one in answer.json()["results"]] == ["rejected", "done"]
    assert rig.control.ran == ["night_off"]
    assert rig.audit() == [("user:operator", "run schedule", "night_off", "rejected, done")]


def test_nobody_waits_for_a_charger_that_neither_calls_nor_is_configured(rig: Rig) -> None:
    problem(rig.call("POST", "/api/chargers/CP-0009/adopt", Role.ADMIN), 404, "no charger calls as 'CP-0009'")
    assert rig.adopted == []
    rig.call("POST", "/api/chargers/CP-7/adopt", Role.ADMIN)
    assert rig.adopted == ["CP-7"], "it is configured"
