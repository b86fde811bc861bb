"""``/api/load`` and ``/api/notify``: how the connection is shared, and who is told."""

from pathlib import Path

import pytest

from agent.api.users import Role
from agent.control.load_model import LoadStatus, PhaseLoad, StationLoad
from agent.control.sharing import Need
from tests.fake_view import FakeChannels
from tests.unit.api_rig import Rig, problem

PHASE = PhaseLoad(limit_a=63, measured_a=58, rest_a=26, left_a=35, stations_a=32)
STATION = StationLoad("cp1", Need.WANTS, 16, 15.8, follows=True, reason="L2 carries 58 of 63 A")


@pytest.fixture
def channels() -> FakeChannels:
    return FakeChannels()


@pytest.fixture
def rig(tmp_path: Path, channels: FakeChannels) -> Rig:
    status = LoadStatus("grid", silent=False, meter_age_s=0.5, phases=(PHASE,), stations=(STATION,))
    return Rig(tmp_path, load=lambda: status, notify=channels)


def test_the_load_is_told_by_phase_and_station(rig: Rig) -> None:
    answer = rig.call("GET", "/api/load", Role.VIEWER).json()
    assert (answer["managed"], answer["meter"], answer["meter_silent"], answer["meter_age_s"]) == (
        True,
        "grid",
        False,
        0.5,
    )
    assert answer["phases"] == [
        {"limit_a": 63, "measured_a": 58, "rest_a": 26, "left_a": 35, "stations_a": 32},
    ]
    (station,) = answer["stations"]
    assert (station["station"], station["limit_a"], station["drawn_a"]) == ("cp1", 16, 15.8)
    assert station["reason"] == "L2 carries 58 of 63 A"


def test_a_site_without_load_management_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, load=lambda: None)
    answer = rig.call("GET", "/api/load", Role.VIEWER).json()
    assert (answer["managed"], answer["phases"], answer["stations"]) == (False, [], [])


def test_channels_are_listed_without_their_addresses(rig: Rig) -> None:
    (one,) = rig.call("GET", "/api/notify", Role.OPERATOR).json()["items"]
    assert (one["id"], one["addresses"], one["waiting"], one["last_error"]) == ("ops", 2, 1, "line 2 (json): refused")
    assert rig.call("GET", "/api/notify", Role.VIEWER).status_code == 403


def test_a_test_message_says_what_came_of_it(rig: Rig, channels: FakeChannels) -> None:
    sent = rig.call("POST", "/api/notify/ops/test", Role.ADMIN)
    assert sent.json() == {"sent": True, "error": ""}
    channels.error = "line 1 (mailto): connection refused"
    assert rig.call("POST", "/api/notify/ops/test", Role.ADMIN).json() == {"sent": False, "error": channels.error}
    assert problem(rig.call("POST", "/api/notify/nobody/test", Role.ADMIN), 404)
    assert rig.call("POST", "/api/notify/ops/test", Role.OPERATOR).status_code == 403
