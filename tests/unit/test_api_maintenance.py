"""Machines and maintenance through the API."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.api import maintenance_report as report
from agent.api.users import Role
from agent.core.model import Event
from agent.insight.counters import Counters
from agent.insight.machines import Facts, Machine, MachineBook
from agent.insight.maintenance import Maintenance
from agent.insight.maintenance_due import Due
from agent.insight.maintenance_model import READY_MADE
from agent.insight.periods import HOUR_US
from agent.store.maintenance import Entry
from tests.fake_view import FakeNotebook
from tests.insight_fakes import DAY_US, MONDAY_US, History, every
from tests.maintenance_fakes import MemoryStore
from tests.unit.api_rig import Json, Rig, problem

NOW_US = MONDAY_US + 40 * DAY_US
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"
DEVICES = {"cp1": Facts(type="charger", maker="ABB"), "grid": Facts(name="Grid meter", type="meter")}


def site() -> History:
    """A charger that charges a kWh each hour, and says whether it does."""
    history = History()
    times = every(HOUR_US // 4, MONDAY_US, NOW_US)
    history.register("cp1", times, np.arange(len(times)) * 250.0)
    return history


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return made(tmp_path)


def made(folder: Path) -> Rig:
    rig = Rig(folder)
    rig.clock.jump_wall((NOW_US - rig.clock.now_us()) / 1e6)
    store = MemoryStore()
    notebook = FakeNotebook()
    machines = MachineBook(rig.clock, notebook, lambda: DEVICES)
    table = store.table()
    rig.ports["maintenance"] = Maintenance(rig.clock, notebook, machines, table, Counters(site(), table))
    rig.restart()
    return rig


def ask(rig: Rig, method: str, path: str, body: object = None, role: Role = Role.OPERATOR) -> httpx.Response:
    return rig.call(method, f"/api/{path}", role) if body is None else rig.call(method, f"/api/{path}", role, json=body)


def ok(answer: httpx.Response, status: int = 200) -> Json:
    assert answer.status_code == status, answer.text
    found: Json = answer.json() if answer.content else {}
    return found


def told(rig: Rig) -> list[Event]:
    events: list[Event] = rig.ports["maintenance"].notebook.events
    return events


def codes(rig: Rig, query: str = "") -> list[str]:
    found = ok(ask(rig, "GET", f"machines{query}", role=Role.VIEWER))
    return [one["code"] for one in found["items"]]


def test_devices_appear_by_themselves_and_people_add_others(rig: Rig) -> None:
    assert codes(rig) == ["cp1", "grid"]
    body = {"code": "T1", "type": "transformer", "location": "Yard", "installed": "2019-03-01"}
    machine = ok(ask(rig, "POST", "machines", body), 201)
    assert machine == {
        "code": "T1",
        "name": "T1",
        "type": "transformer",
        "location": "Yard",
        "status": "active",
        "installed": "2019-03-01",
        "maker": "",
        "model": "",
        "serial": "",
        "firmware": "",
        "notes": "",
        "device": False,
        "noted": True,
    }
    assert ok(ask(rig, "GET", "machines/T1", role=Role.VIEWER)) == machine
    assert codes(rig) == ["cp1", "grid", "T1"]
    (event,) = told(rig)
    assert (event.kind, event.subject) == ("machine.created", "T1")
    assert event.data == {
        "by": "user:operator",
        "old": None,
        "new": {"type": "transformer", "location": "Yard", "installed": "2019-03-01"},
    }
    for taken in ("T1", "t1", "CP1"):
        problem(ask(rig, "POST", "machines", {"code": taken}), 409, "already")
    for bad in ("summary", "a/b", "", "ä", "x" * 65, "-a"):
        assert ask(rig, "POST", "machines", {"code": bad}).status_code == 422, bad
    problem(ask(rig, "GET", "machines/T2"), 404, "/api/machines")
    assert ask(rig, "POST", "machines", {"code": "T2"}, Role.VIEWER).status_code == 403


def test_what_people_say_goes_before_what_the_device_says(rig: Rig) -> None:
    changed = ok(ask(rig, "PATCH", "machines/grid", {"name": "Main meter", "status": "maintenance"}))
    assert (changed["name"], changed["status"], changed["type"]) == ("Main meter", "maintenance", "meter")
    assert ok(ask(rig, "PATCH", "machines/grid", {"name": None}))["name"] == "Grid meter"
    assert told(rig)[-1].data == {
        "by": "user:operator",
        "old": {"name": "Main meter", "status": "maintenance"},
        "new": {"status": "maintenance"},
    }
    ok(ask(rig, "DELETE", "machines/grid"), 204)
    assert ok(ask(rig, "GET", "machines/grid"))["status"] == "active"
    ok(ask(rig, "DELETE", "machines/grid"), 204)
    assert [one.kind for one in told(rig)] == ["machine.changed", "machine.changed", "machine.removed"]
    for bad in ({}, {"status": "broken"}, {"installed": "2019-02-30"}, {"code": "x"}, {"name": ""}, {"name": "\ud800"}):
        assert ask(rig, "PATCH", "machines/grid", bad).status_code == 422, bad
    problem(ask(rig, "PATCH", "machines/nobody", {"name": "x"}), 404)
    problem(ask(rig, "DELETE", "machines/nobody"), 404)


def test_machines_are_filtered_searched_and_paged(rig: Rig) -> None:
    ok(
        ask(rig, "POST", "machines", {"code": "E1", "type": "fire extinguisher", "location": "Hall", "notes": "6 kg"}),
        201,
    )
    ok(ask(rig, "POST", "machines", {"code": "E2", "type": "fire extinguisher", "status": "retired"}), 201)
    assert codes(rig, "?type=fire extinguisher") == ["E1", "E2"]
    assert codes(rig, "?status=active") == ["cp1", "grid", "E1"]
    assert codes(rig, "?location=Hall") == codes(rig, "?q=KG hall") == ["E1"]
    assert codes(rig, "?q=abb") == ["cp1"]
    assert codes(rig, "?device=true") == ["cp1", "grid"]
    found = ok(ask(rig, "GET", "machines?page=2&page_size=3"))
    assert (found["total"], [one["code"] for one in found["items"]]) == (4, ["E2"])


def test_the_summary_counts_what_there_is_and_what_is_due(rig: Rig) -> None:
    ok(ask(rig, "POST", "machines", {"code": "E1", "type": "fire extinguisher", "installed": "2020-01-01"}), 201)
    ok(ask(rig, "PATCH", "machines/grid", {"status": "inactive"}))
    ok(ask(rig, "POST", "maintenance", {"machine": "cp1", "date": "2025-03-01", "kind": "inspection"}), 201)
    found = ok(ask(rig, "GET", "machines/summary", role=Role.VIEWER))
    assert found["total"] == 3
    assert found["by_status"] == {"active": 2, "inactive": 1, "maintenance": 0, "retired": 0}
    assert found["by_type"] == {"charger": 1, "fire extinguisher": 1, "meter": 1}
    assert (found["overdue"], found["due"]) == (1, 2)
    assert [(one["machine"], one["state"]) for one in found["next"][:3]] == [
        ("E1", "overdue"),
        ("cp1", "due"),
        ("cp1", "due"),
    ]
    assert [one["machine"] for one in found["last"]] == ["cp1"]
    ok(ask(rig, "PATCH", "machines/E1", {"status": "retired"}))
    assert ok(ask(rig, "GET", "machines/summary"))["overdue"] == 0, "at once, not when the answer has grown old"


def test_an_entry_is_written_down_with_the_counters_of_its_time(rig: Rig) -> None:
    body = {
        "machine": "cp1",
        "date": "2026-01-15",
        "kind": "corrective",
        "description": "Contactor replaced",
        "technician": "Luis",
        "cost": 180.5,
        "currency": "EUR",
        "parts": ["contactor 63 A"],
        "counters": {"cycles": 12},
    }
    entry = ok(ask(rig, "POST", "maintenance", body), 201)
    assert entry == body | {
        "id": 1,
        "date": "2026-01-15T00:00:00.000000Z",
        "counters": {"cycles": 12, "energy_wh": 10 * 24_000 - 250},
        "plan": "",
        "void": False,
        "corrects": None,
        "corrected_by": None,
        "created": "2026-02-14T00:00:00.000000Z",
        "created_by": "user:operator",
    }
    assert ok(ask(rig, "GET", "maintenance/1", role=Role.VIEWER)) == entry
    problem(ask(rig, "GET", "maintenance/2"), 404)
    problem(ask(rig, "POST", "maintenance", {"machine": "nobody", "kind": "other"}), 404, "nobody")
    problem(ask(rig, "POST", "maintenance", {"machine": "cp1", "kind": "other", "plan": "none"}), 404, "plan")
    problem(ask(rig, "POST", "maintenance", {"machine": "cp1", "kind": "other", "date": "2027-01-01"}), 422, "future")
    for bad in (
        {"kind": "repair"},
        {"cost": 5},
        {"cost": -1, "currency": "EUR"},
        {"cost": float("nan"), "currency": "EUR"},
        {"currency": "euro"},
        {"date": "2026-13-01"},
        {"date": "2026-01-01T00:00:00"},
        {"description": "\ud800"},
        {"counters": {"litres": 4}},
        {"unknown": 1},
    ):
        assert ask(rig, "POST", "maintenance", {"machine": "cp1", "kind": "other", **bad}).status_code == 422, bad
    assert ask(rig, "POST", "maintenance", body, Role.VIEWER).status_code == 403


def test_what_is_sent_again_under_its_key_is_there_once(rig: Rig) -> None:
    body = {"machine": "cp1", "kind": "other", "key": "job-7"}
    first = ok(ask(rig, "POST", "maintenance", body), 201)
    assert ok(ask(rig, "POST", "maintenance", body)) == first
    assert ok(ask(rig, "GET", "maintenance"))["total"] == 1


def test_a_correction_is_another_entry(rig: Rig) -> None:
    ok(ask(rig, "POST", "maintenance", {"machine": "cp1", "date": "2026-01-15", "kind": "inspection"}), 201)
    body = {"machine": "grid", "kind": "calibration", "description": "it was the meter"}
    better = ok(ask(rig, "POST", "maintenance/1/correction", body), 201)
    assert (better["corrects"], better["date"]) == (1, "2026-01-15T00:00:00.000000Z")
    problem(ask(rig, "POST", "maintenance/1/correction", body), 409, "corrected already")
    ok(ask(rig, "POST", "maintenance/2/correction", body | {"void": True}), 201)
    problem(ask(rig, "POST", "maintenance/77/correction", body), 404)
    found = ok(ask(rig, "GET", "maintenance"))["items"]
    assert [(one["id"], one["corrected_by"], one["void"]) for one in found] == [
        (3, None, True),
        (2, 3, False),
        (1, 2, False),
    ]
    assert ok(ask(rig, "GET", "maintenance?counting=true"))["total"] == 0


def test_the_log_is_filtered_and_outlives_its_machine(rig: Rig) -> None:
    ok(ask(rig, "POST", "machines", {"code": "E1"}), 201)
    for machine, day, kind in (("E1", "02", "inspection"), ("cp1", "03", "inspection"), ("E1", "04", "other")):
        ok(ask(rig, "POST", "maintenance", {"machine": machine, "date": f"2026-01-{day}", "kind": kind}), 201)

    def ids(query: str) -> list[int]:
        return [one["id"] for one in ok(ask(rig, "GET", query, role=Role.VIEWER))["items"]]

    assert ids("maintenance") == [3, 2, 1]
    assert ids("maintenance?machine=E1") == [3, 1]
    assert ids("maintenance?kind=inspection") == [2, 1]
    assert ids("maintenance?from=2026-01-03&to=2026-01-04T00:00:00Z") == [2]
    assert ids("maintenance?page=2&page_size=2") == [1]
    problem(ask(rig, "GET", "maintenance?from=yesterday"), 422, "query.from")
    ok(ask(rig, "DELETE", "machines/E1"), 204)
    assert ids("maintenance/history/E1") == [3, 1]
    assert ids("maintenance/history/grid") == []
    problem(ask(rig, "GET", "maintenance/history/E9"), 404)


def test_plans_are_made_changed_and_taken_back(rig: Rig) -> None:
    ready = ok(ask(rig, "GET", "maintenance/plans", role=Role.VIEWER))["items"]
    assert [one["id"] for one in ready] == list(READY_MADE)
    assert all(one["ready_made"] and one["description"] for one in ready)
    body = {
        "name": "Filter",
        "kind": "preventive",
        "machine": "cp1",
        "intervals": [{"by": "energy_wh", "every": 1_200_000, "warn": 300_000}],
    }
    plan = ok(ask(rig, "POST", "maintenance/plans", body), 201)
    assert plan == body | {
        "id": plan["id"],
        "type": None,
        "description": "",
        "enabled": True,
        "ready_made": False,
        "intervals": [{"by": "energy_wh", "every": 1_200_000, "warn": 300_000}],
    }
    (due,) = [one for one in ok(ask(rig, "GET", "maintenance/due?machine=cp1"))["items"] if one["plan"] == plan["id"]]
    assert due["state"] == "due"
    assert due["intervals"][0]["used"] == 40 * 24_000 - 250
    # 240.25 kWh are left, a kWh each hour.
    assert due["due"].startswith("2026-02-24T00:")
    changed = ok(ask(rig, "PATCH", f"maintenance/plans/{plan['id']}", {"intervals": [{"by": "days", "every": 30}]}))
    assert changed["intervals"] == [{"by": "days", "every": 30, "warn": 0}]
    off = ok(ask(rig, "PATCH", "maintenance/plans/charger-rcd", {"enabled": False}))
    assert (off["enabled"], off["ready_made"]) == (False, True)
    assert "charger-rcd" not in [one["plan"] for one in ok(ask(rig, "GET", "maintenance/due"))["items"]]
    ok(ask(rig, "DELETE", "maintenance/plans/charger-rcd"), 204)
    assert ok(ask(rig, "GET", "maintenance/plans"))["items"][1]["enabled"]
    ok(ask(rig, "DELETE", f"maintenance/plans/{plan['id']}"), 204)
    assert len(ok(ask(rig, "GET", "maintenance/plans"))["items"]) == len(READY_MADE)
    problem(ask(rig, "DELETE", f"maintenance/plans/{plan['id']}"), 404)
    problem(ask(rig, "POST", "maintenance/plans", body | {"machine": "nobody"}), 422, "nobody")
    bodies: list[Json] = [
        {"type": "meter"},
        {"machine": None},
        {"intervals": []},
        {"intervals": [{"by": "days", "every": 0}]},
        {"intervals": [{"by": "days", "every": 5, "warn": 5}]},
        {"intervals": [{"by": "litres", "every": 5}]},
        {"kind": None},
    ]
    for bad in bodies:
        assert ask(rig, "POST", "maintenance/plans", body | bad).status_code == 422, bad
    assert ask(rig, "PATCH", "maintenance/plans/charger-rcd", {"name": None}).status_code == 422
    kinds = [one.kind.removeprefix("maintenance.plan_") for one in told(rig)]
    assert kinds == ["created", "changed", "changed", "removed", "removed"]


def test_what_is_due_is_filtered_by_state(rig: Rig) -> None:
    ok(ask(rig, "POST", "machines", {"code": "E1", "type": "fire extinguisher", "installed": "2020-01-01"}), 201)
    (one,) = ok(ask(rig, "GET", "maintenance/due?state=overdue"))["items"]
    assert (one["machine"], one["plan"], one["due"]) == ("E1", "extinguisher", "2021-12-31T00:00:00.000000Z")
    assert one["last"] is None
    unknown = ok(ask(rig, "GET", "maintenance/due?state=unknown"))
    assert unknown["total"] == len(unknown["items"]) > 0
    assert all(each["due"] is None for each in unknown["items"])


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, their attributes and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "br"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
}


def read(text: str) -> str:
    """The text of a page that has only what our reports have."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.tags <= TAGS
    assert reader.attributes <= {"lang", "charset", "class"}
    return "".join(reader.text)


def test_the_report_shows_each_machine_and_needs_nothing_else(rig: Rig) -> None:
    ok(ask(rig, "POST", "machines", {"code": "E1", "name": HOSTILE, "location": HOSTILE, "notes": HOSTILE}), 201)
    entry = {"machine": "E1", "date": "2026-01-15", "kind": "other", "cost": 1200, "currency": "EUR"}
    ok(
        ask(rig, "POST", "maintenance", entry | {"description": HOSTILE, "technician": HOSTILE, "parts": [HOSTILE]}),
        201,
    )
    answer = ask(rig, "GET", "maintenance/report", role=Role.VIEWER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    text = read(answer.text)
    assert text.count(HOSTILE) == 6
    for shown in ("ABB", "charger", "energy959.8 kWh", "1,200.00 EUR", "2026-01-15", "Nothing is due."):
        assert shown in text, shown
    one = read(ask(rig, "GET", "maintenance/report?machine=cp1&from=2026-02-01").text)
    assert HOSTILE not in one
    assert "From 2026-02-01 00:00 to now." in one
    problem(ask(rig, "GET", "maintenance/report?machine=nobody"), 404)


def test_the_style_sheet_is_the_one_that_the_policy_names(rig: Rig) -> None:
    answer = ask(rig, "GET", "maintenance/report")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_the_csv_is_no_formula(rig: Rig) -> None:
    ok(
        ask(
            rig,
            "POST",
            "maintenance",
            {"machine": "cp1", "kind": "other", "description": '=cmd|"x"\r\n', "parts": ["a"]},
        ),
        201,
    )
    answer = ask(rig, "GET", "maintenance/report.csv", role=Role.VIEWER)
    assert answer.headers["content-type"].startswith("text/csv")
    head, line, *_ = answer.text.split("\r\n")
    assert head.startswith("id,machine,date,kind,description,technician,cost,currency,parts,running_s,energy_wh")
    assert line.startswith('1,cp1,2026-02-14T00:00:00.000000Z,other,"\'=cmd|""x""')


TEXT = st.text(st.sampled_from("<>&\"'/=scriptimg onerror\x00\u2028é;{}"), max_size=40)


@given(TEXT, TEXT, TEXT)
@settings(max_examples=200)
def test_no_text_gets_out_of_its_place(one: str, two: str, three: str) -> None:
    machine = Machine("c", one, type=two, location=three, serial=one, notes=three)
    entry = Entry("c", 5, one, two, three, 5, one, (two, three), plan=one, created_by=two)
    due = Due("c", two, READY_MADE["charger-rcd"], (), entry)
    stranger = Entry(two, 5, three, id=2, corrects=1, void=True)
    page = report.Report(one, 0, None, 9, [machine], {"c": three}, {"c": {"cycles": 5}}, [due], [entry, stranger])
    read(report.page(page))


def test_what_a_report_has_no_room_for_is_told() -> None:
    entry = Entry("c", 5, "inspection", "looked at")
    page = report.page(report.Report("s", 0, None, None, [], {}, {}, [], [entry], (3, 9)))
    assert "3 more machines and 9 older entries" in read(page)
    assert "Machines that are gone, or left out above" in page
    assert "Machines that are gone<" in report.page(report.Report("s", 0, None, None, [], {}, {}, [], [entry]))


def test_a_gateway_without_it_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    problem(ask(rig, "GET", "machines"), 503, "machines")
    problem(ask(rig, "GET", "maintenance"), 503, "maintenance")
