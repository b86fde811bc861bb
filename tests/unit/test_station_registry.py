"""``/api/stations``: stations without a wire, registered, described, switched and taken out."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from agent.acting import strangers
from agent.api.users import Role
from agent.config import read_config
from agent.control.model import Origin
from agent.control.registered import REGISTRATION
from agent.core.errors import Refusal
from tests.unit.api_rig import Rig, problem

NEW = {"name": "Lot 4", "location": "North yard", "max_kw": 22, "status": "inactivo"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_one_is_registered_switched_and_listed_among_the_chargers(rig: Rig) -> None:
    answer = rig.call("POST", "/api/stations", Role.OPERATOR, json=NEW)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    shown = {key: made[key] for key in ("id", "number", "name", "location", "max_kw", "status", "registered")}
    assert shown == {
        "id": "station-1", "number": 1, "name": "Lot 4", "location": "North yard", "max_kw": 22.0, "status": "off",
        "registered": True,
    }  # fmt: skip
    (command,) = rig.control.commands
    assert (command.target, command.action, command.origin, command.issuer) == (
        "station-1", "off", Origin.SCHEDULE, REGISTRATION,
    )  # fmt: skip
    listed = rig.call("GET", "/api/stations", Role.VIEWER).json()["items"]
    assert [(one["id"], one["registered"], one["max_kw"]) for one in listed] == [
        ("battery1", False, 22.08),
        ("meter1.2", False, None),
        ("station-1", True, 22.0),
    ]
    assert rig.call("GET", "/api/stations/station-1", Role.VIEWER).json() == listed[2]
    assert ("user:operator", "register station", "station-1", "done") in rig.audit()


def test_what_is_not_said_is_on_and_not_known(rig: Rig) -> None:
    made = rig.call("POST", "/api/stations", Role.OPERATOR, json={"name": "Lot 5"}).json()
    assert (made["status"], made["location"], made["max_kw"]) == ("on", "", None)


@pytest.mark.parametrize(
    "bad",
    [
        {}, {"name": ""}, {"name": "  "}, {"name": "a\nb"}, {"name": "A", "max_kw": 0}, {"name": "A", "max_kw": "22"},
        {"name": "A", "max_kw": 1e9}, {"name": "A", "status": "broken"}, {"name": "A", "id": 7}, {"name": "A" * 101},
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_and_nothing_is_registered(rig: Rig, bad: object) -> None:
    problem(rig.call("POST", "/api/stations", Role.OPERATOR, json=bad), 422)
    assert rig.registered.all() == []


def test_one_is_described_anew_beside_being_switched(rig: Rig) -> None:
    rig.call("POST", "/api/stations", Role.OPERATOR, json=NEW)
    body = {"name": "Lot 4b", "location": "", "max_kw": 11, "status": "activo"}
    changed = rig.call("PATCH", "/api/stations/station-1", Role.OPERATOR, json=body).json()
    station = changed["station"]
    assert [station[key] for key in ("name", "location", "max_kw", "status")] == ["Lot 4b", "", 11.0, "on"]
    assert [one["outcome"] for one in changed["results"]] == ["done"]
    only = rig.call("PATCH", "/api/stations/station-1", Role.OPERATOR, json={"location": "South"}).json()
    assert only["results"] == []
    assert [only["station"][key] for key in ("name", "location", "max_kw")] == ["Lot 4b", "South", 11.0]
    problem(rig.call("PATCH", "/api/stations/station-1", Role.OPERATOR, json={}), 422, "status")


def test_a_charger_is_neither_renamed_nor_taken_out_here(rig: Rig) -> None:
    answer = rig.call("PATCH", "/api/stations/meter1.2", Role.OPERATOR, json={"name": "Gate", "status": "off"})
    problem(answer, 409, "PUT /api/devices/meter1")
    problem(rig.call("DELETE", "/api/stations/meter1.2", Role.OPERATOR), 409, "DELETE /api/devices/meter1")
    assert rig.control.commands == []
    problem(rig.call("DELETE", "/api/stations/station-9", Role.OPERATOR), 404, "station-9")


def test_one_that_is_taken_out_is_gone_and_its_number_too(rig: Rig) -> None:
    rig.call("POST", "/api/stations", Role.OPERATOR, json=NEW)
    assert rig.call("DELETE", "/api/stations/station-1", Role.OPERATOR).status_code == 204
    problem(rig.call("GET", "/api/stations/station-1", Role.VIEWER), 404)
    assert rig.call("POST", "/api/stations", Role.OPERATOR, json=NEW).json()["id"] == "station-2"
    assert ("user:operator", "take station out", "station-1", "done") in rig.audit()


def test_a_switch_that_is_refused_leaves_the_station_there(rig: Rig) -> None:
    rig.control.refusal = Refusal.INTERLOCKED
    problem(rig.call("POST", "/api/stations", Role.OPERATOR, json=NEW), 409)
    assert [one.name for one in rig.registered.all()] == ["Lot 4"]


def test_a_schedule_may_name_one_that_is_not_registered_yet(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    then = [f"{{station: {name}, set: toggle}}" for name in ("station-1", "station-x")]
    path.write_text(f"site: {{id: t}}\nschedules:\n  - {{id: a, every_s: 60, then: [{', '.join(then)}]}}\n")
    config = read_config(path, {}).config
    assert config is not None
    assert [name for _, _, name in strangers(config)] == ["station-x"]


def test_the_list_does_not_look_through_all_stations_for_each_of_them(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred registered stations took three seconds to list."""
    for number in range(12):
        rig.call("POST", "/api/stations", Role.OPERATOR, json={"name": f"Lot {number}"})
    asked = Mock(wraps=rig.control.stations)
    monkeypatch.setattr(rig.control, "stations", asked)
    assert rig.call("GET", "/api/stations", Role.VIEWER).json()["total"] == 14
    assert asked.call_count <= 3, "once, and once for each charger that tells no power of its own"
