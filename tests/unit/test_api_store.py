"""What the API tells of the store: what it wrote, and what it could not keep."""

from pathlib import Path

import pytest

from agent.api.users import Role
from agent.store.dropped import Gone
from agent.store.settings import StoreStats
from agent.store.wear import DAY_US, Wear
from tests.unit.api_rig import Rig

DAY = 20_000
SIGNAL_ROW = Gone(2, DAY * DAY_US, "telemetry", 1, 5, 6, 40, "unsent_half", 100, 200)
NUMBERS_ROW = Gone(1, DAY * DAY_US, "telemetry", None, 5, 6, 0, "empty", 90, 99)


class FakeStore:
    """``StoreBook``."""

    def __init__(self, wear: Wear) -> None:
        self._wear = wear

    def stats(self) -> StoreStats:
        return StoreStats(1, 2, 3, 4000, 500, 6, 7, {"telemetry": 8}, 9.5, 10, 11, 12, 0, 13, 14.0, None, False)

    def wear(self) -> Wear:
        return self._wear

    def dropped(self, limit: int, offset: int) -> tuple[int, list[Gone]]:
        return 2, [SIGNAL_ROW, NUMBERS_ROW][offset : offset + limit]


WORN = Wear(
    DAY * DAY_US, {DAY: {"telemetry": 3}, DAY + 1: {"telemetry": 5, "other": 2}}, {"telemetry": 8e6, "other": 2e6}
)


def test_wear_by_day_and_for_how_many_years(tmp_path: Path) -> None:
    rig = Rig(tmp_path, store=FakeStore(WORN))
    found = rig.call("GET", "/api/system/wear?endurance_tb=36.525", Role.VIEWER).json()
    assert found == {
        "since": "2024-10-04T00:00:00.000000Z",
        "bytes_per_day": 10e6,
        "components": {"telemetry": 8e6, "other": 2e6},
        "years": pytest.approx(10_000),
        "days": [
            {"day": "2024-10-05", "bytes": 7, "components": {"telemetry": 5, "other": 2}},
            {"day": "2024-10-04", "bytes": 3, "components": {"telemetry": 3}},
        ],
    }
    assert rig.call("GET", "/api/system/wear", Role.VIEWER).json()["years"] is None
    assert rig.call("GET", "/api/system/wear?endurance_tb=0", Role.VIEWER).status_code == 422


def test_what_was_not_measured_is_unknown(tmp_path: Path) -> None:
    rig = Rig(tmp_path, store=FakeStore(Wear(None, {}, {})))
    found = rig.call("GET", "/api/system/wear?endurance_tb=5", Role.VIEWER).json()
    assert found == {"since": None, "bytes_per_day": None, "components": {}, "years": None, "days": []}


def test_what_could_not_be_kept_page_by_page(tmp_path: Path) -> None:
    rig = Rig(tmp_path, store=FakeStore(WORN))
    first = rig.call("GET", "/api/system/dropped?page_size=1", Role.VIEWER).json()
    assert (first["total"], first["lost_rows"]) == (2, 10)
    (item,) = first["items"]
    assert item["signal"] == rig.view.signals()[0].full_name
    assert (item["reason"], item["rows"], item["from_seq"], item["to_seq"]) == ("unsent_half", 40, 100, 200)
    second = rig.call("GET", "/api/system/dropped?page_size=1&page=2", Role.VIEWER).json()
    assert [(one["signal"], one["reason"]) for one in second["items"]] == [(None, "empty")]


def test_health_says_what_the_store_takes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, store=FakeStore(WORN))
    assert rig.call("GET", "/api/system/health", Role.VIEWER).json()["store"] == {
        "bytes": 4500,
        "quota_bytes": 13,
        "ledger_bytes": 11,
        "evidence_bytes": 12,
        "lost_rows": 10,
        "written_bytes_per_day": 9.5,
    }
    assert "store" not in rig.call("GET", "/api/system/health").json()


def test_a_gateway_without_a_store_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.call("GET", "/api/system/wear", Role.VIEWER).status_code == 503
    assert rig.call("GET", "/api/system/health", Role.VIEWER).json()["store"] is None
