"""What ``/metrics`` says, read by Prometheus' own parser; the list of it, and the dashboard over it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.api import metrics
from agent.api.request_figures import NO_ROUTE
from agent.api.tally import MAX_A_LOOK, Tally
from agent.api.users import Role
from agent.api.view import SitePorts
from agent.control.load_model import LoadStatus, PhaseLoad
from agent.core.model import Event
from agent.core.ports import ChannelStatus, StoredEvent
from docs import metrics as docs
from tests.alarm_fakes import Rig as AlarmRig
from tests.alarm_fakes import hot, low
from tests.fake_view import START_US, STORE_DOWN
from tests.unit.api_rig import Rig

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "config" / "grafana" / "enlace.json"


@dataclass
class Feed:
    known: list[StoredEvent] = field(default_factory=list)
    down: bool = False

    def put(self, kind: str, subject: str = "", **data: object) -> None:
        self.known.append(StoredEvent(len(self.known) + 1, "b", Event(kind, START_US, subject, data), ""))

    def events(self, after_seq: int, max_events: int, kind_prefix: str = "") -> Sequence[StoredEvent]:
        if self.down:
            raise STORE_DOWN
        return [one for one in self.known if one.seq > after_seq][:max_events]

    def newest(self, stream: str) -> int:
        return len(self.known)


class Channels:
    def status(self) -> list[ChannelStatus]:
        return [ChannelStatus("night", 2, 3, 5, 7, 11, "", None, None)]

    async def test(self, channel_id: str) -> str:
        return ""


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.put("command.result", outcome="done")  # before the start
    return feed


@pytest.fixture
def rig(tmp_path: Path, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> Rig:
    load = LoadStatus("grid", silent=False, meter_age_s=0.5, phases=(PhaseLoad(63, 40, 30, 31, 16),) * 3)
    more: dict[str, Any] = {"feed": feed, "notify": Channels(), "load": lambda: load}

    def ports(**known: Any) -> SitePorts:  # noqa: ANN401 - whatever the rig has
        return SitePorts(**{**known, **more})

    monkeypatch.setattr("tests.unit.api_rig.SitePorts", ports)
    return Rig(tmp_path, alarms=AlarmRig([hot(), low()]).start().book)


def parsed(rig: Rig) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = rig.call("GET", "/metrics", Role.VIEWER)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    names: set[str] = set()
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, f"{family.name} has no words"
        assert family.name not in names, f"{family.name} stands in two places"
        names.add(family.name)
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_what_happened_is_counted_once_from_the_start_of_the_api_on(rig: Rig, feed: Feed) -> None:
    feed.put("station.decided", "cp1")
    feed.put("station.decided", "cp1")
    feed.put("command.result", "cp1", outcome="rejected")
    for _ in range(2):
        found = parsed(rig)
        assert value(found, "enlace_events_total", kind="station.decided") == 2
        assert value(found, "enlace_decisions_total", station="cp1") == 2
        assert value(found, "enlace_commands_total", outcome="rejected") == 1
        assert value(found, "enlace_commands_total", outcome="done") is None, "it came before the start"


def test_a_ledger_that_grew_by_more_than_one_look_is_counted_in_the_end() -> None:
    feed = Feed()
    tally = Tally(feed)
    for _ in range(MAX_A_LOOK + 5):
        feed.put("audit")
    tally.look()
    assert tally.kinds["audit"] == MAX_A_LOOK
    tally.look()
    assert tally.kinds["audit"] == MAX_A_LOOK + 5


def test_without_its_store_the_gateway_still_tells_the_rest(rig: Rig, feed: Feed) -> None:
    feed.down = True
    found = parsed(rig)
    assert value(found, "enlace_healthy", part="db") == 1
    assert value(found, "enlace_sessions_running") is None, "not known, never 0"


def test_stations_alarms_load_channels_and_sessions_are_told(rig: Rig) -> None:
    found = parsed(rig)
    assert value(found, "enlace_station_on", station="meter1.2") == 0
    assert value(found, "enlace_station_on", station="battery1") is None, "nothing was decided"
    assert value(found, "enlace_alarms", severity="critical", state="normal") is not None
    assert value(found, "enlace_load_left_amperes", phase="L3") == 31
    assert value(found, "enlace_notify_dropped_total", channel="night") == 11
    assert value(found, "enlace_sessions_running") == 1
    assert value(found, "process_resident_memory_bytes")


def test_requests_are_counted_by_route_and_not_by_what_strangers_make_up(rig: Rig) -> None:
    for path in ("/api/devices/battery1/latest", "/api/devices/meter1/latest", "/api/devices/x/latest", "/a", "/b"):
        rig.call("GET", path, Role.VIEWER)
    rig.call("BREW", "/c", Role.VIEWER)
    found = parsed(rig)
    route = "/api/devices/{device_id}/latest"
    assert value(found, "enlace_api_requests_total", method="GET", route=route, status="200") == 2
    assert value(found, "enlace_api_requests_total", method="GET", route=route, status="404") == 1
    assert value(found, "enlace_api_requests_total", method=NO_ROUTE, route=NO_ROUTE, status="404") == 3
    assert value(found, "enlace_api_request_duration_seconds_count", route=route) == 3
    assert value(found, "enlace_api_request_duration_seconds_bucket", route=route, le="0.001") == 3, "no time passed"
    assert value(found, "enlace_api_request_duration_seconds_bucket", route=route, le="+Inf") == 3


def test_names_follow_the_conventions_of_prometheus() -> None:
    for name, (_, says) in metrics.FAMILIES.items():
        assert re.fullmatch(r"(enlace|process)_[a-z_]*[a-z]", name)
        assert says, name
        # https://prometheus.io/docs/practices/naming: base units, in the plural, at the end; counters end in _total.
        assert not re.search(r"_(ms|us|s|kb|mb|wh|kwh|a|w|pct)(_total)?$", name), name


def test_the_document_lists_what_there_is() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == docs.text(), "run make docs"


def test_the_dashboard_asks_for_nothing_that_there_is_not() -> None:
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(asked) > 15
    known = {*metrics.FAMILIES} | {f"enlace_api_request_duration_seconds_{end}" for end in ("bucket", "sum", "count")}
    for expression in asked:
        names = set(re.findall(r"\b(?:enlace|process)_[a-z_]+", expression))
        assert names, expression
        assert names <= known, (expression, names - known)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places), "two panels in one place"
    assert len({panel["id"] for panel in board["panels"]}) == len(places)
