"""Consumption in, totals out: each posting counts once, whatever is repeated, and as the hour that it names."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.api.times import parse_time
from agent.api.users import Role
from agent.api.view import PostedEnergy
from agent.insight.postings import MAX_KWH
from agent.insight.recommendations import Evidence, Recommendation
from agent.insight.service import InsightSettings
from agent.insight.tariff import Band, tariff_of
from agent.store.rollup import HOUR_US
from tests.posted_site import DAY_US, NOON_US, WAIT_S, PostedSite, at, posted_site
from tests.unit.api_rig import Json, problem

DAY = f"&from={at(-86_400)}&to={at(86_400)}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PostedSite]:
    with posted_site(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostedSite]:
    with posted_site(tmp_path_factory.mktemp("steady")) as made:
        yield made


def posting(hour: float, kwh: float, device: str = "ac1") -> Json:
    return {"device_id": device, "kwh": kwh, "timestamp": at(hour * 3600)}


def energy(site: PostedSite, *postings: Json) -> Json:
    return site.post(*postings, path="/api/energy", status=201)


def hours(site: PostedSite, device: str = "ac1", *, of: str = "hour") -> dict[float, float]:
    """The energy of the hours of which something is known, in Wh by hours after noon."""
    found = site.get(f"/api/energy?device={device}&bucket={of}{DAY}")
    known = [one for one in found["periods"] if one["wh"] is not None]
    assert found["total_wh"] == (round(sum(one["wh"] for one in known), 3) if known else None)
    return {(parse_time(one["from"]) - NOON_US) / HOUR_US: one["wh"] for one in known}


def test_a_posting_is_counted_in_its_hour(site: PostedSite) -> None:
    answer = site.rig.call("POST", "/api/energy", Role.OPERATOR, json=posting(-2, 1.25))
    assert answer.status_code == 201
    assert answer.json() == {"inserted": 1, "duplicates": 0, "errors": [], "late": 0}
    assert energy(site, posting(-1, 0.5), posting(0, 0.000001)) == {
        "inserted": 2, "duplicates": 0, "errors": [], "late": 0,
    }  # fmt: skip
    assert hours(site) == {-2: 1250, -1: 500, 0: 0.001}
    found = site.get(f"/api/energy?device=ac1{DAY}")
    assert (found["source"], found["signals"], found["bucket"]) == ("posted", ["energy_import_wh"], "day")
    assert [one["wh"] for one in found["periods"]] == [None, 1750.001, None]
    assert site.value("ac1", "energy_import_wh") == pytest.approx(1750.001)
    assert site.get(f"/api/energy?device=ac1&bucket=month{DAY}")["total_wh"] == 1750.001
    csv = site.rig.call("GET", f"/api/energy.csv?device=ac1&bucket=hour{DAY}", Role.VIEWER)
    lines = csv.text.split("\r\n")
    assert lines[0] == "device,direction,from,to,wh,estimated,reasons"
    assert f"ac1,import,{at(-7200)},{at(-3600)},1250.0,0," in lines
    assert f"ac1,import,{at(3600)},{at(7200)},,0," in lines


def test_a_repeated_posting_counts_once_also_after_a_restart(site: PostedSite) -> None:
    both = posting(-2, 1), posting(-1, 2)
    energy(site, *both)
    assert energy(site, *both, posting(-1, 2)) == {"inserted": 0, "duplicates": 3, "errors": [], "late": 0}
    site.restart()
    assert energy(site, *both, posting(0, 4)) == {"inserted": 1, "duplicates": 2, "errors": [], "late": 0}
    assert hours(site) == {-2: 1000, -1: 2000, 0: 4000}


def test_repeated_within_one_request_it_counts_once_in_whatever_order(site: PostedSite) -> None:
    sent = [posting(hour, hour + 10) for hour in (0, -3, -1, -3, -2, -1, 0)]
    assert energy(site, *sent) == {"inserted": 4, "duplicates": 3, "errors": [], "late": 0}
    assert hours(site) == {-3: 7000, -2: 8000, -1: 9000, 0: 10000}


def test_another_energy_for_the_same_time_is_a_conflict(site: PostedSite) -> None:
    energy(site, posting(-2, 1), posting(-1, 2))
    body = problem(site.rig.call("POST", "/api/energy", Role.OPERATOR, json=posting(-2, 3)), 409, "1 kWh were posted")
    assert body["errors"][0]["row"] == 0
    mixed = energy(site, posting(-1, 2.5), posting(0, 1))
    assert (mixed["inserted"], [one["row"] for one in mixed["errors"]]) == (1, [0])
    assert hours(site) == {-2: 1000, -1: 2000, 0: 1000}


def test_a_late_one_counts_at_the_time_of_the_newest(site: PostedSite) -> None:
    energy(site, posting(-1, 1))
    assert energy(site, posting(-3, 5))["late"] == 1
    assert energy(site, posting(-3, 5)) == {"inserted": 0, "duplicates": 1, "errors": [], "late": 0}
    assert hours(site) == {-1: 6000}


def test_devices_have_accounts_of_their_own(site: PostedSite) -> None:
    assert energy(site, posting(0, 1, "a"), posting(0, 2, "b"), posting(0, 1, "a"))["inserted"] == 2
    assert (hours(site, "a"), hours(site, "b")) == ({0: 1000}, {0: 2000})
    assert site.posted.devices() == []  # they are no vehicles


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"device_id": "ac1", "kwh": 1}, "timestamp"),
        ({"device_id": "ac1", "timestamp": at()}, "kwh"),
        (posting(0, -1), "kwh"),
        (posting(0, MAX_KWH + 1), "kwh"),
        (posting(0, float("nan")), "kwh"),
        ({**posting(0, 1), "kwh": "1"}, "kwh"),
        ({**posting(0, 1), "kwh": True}, "kwh"),
        ({**posting(0, 1), "timestamp": "2026-11-18T12:00:00"}, "offset"),
        ({**posting(0, 1), "timestamp": "soon"}, "no time"),
        ({**posting(0, 1), "unit": "Wh"}, "unit"),
        (posting(0, 1, ""), "device_id"),
        (posting(0, 1, "a/b"), "device_id"),
        (posting(1, 1), "future"),
        (posting(0, 1, "meter1"), "configured"),
        ([], "at least 1"),
        ([posting(0, 1)] * 501, "at most 500"),
        (5, "object"),
    ],
)
def test_what_can_t_be_counted_says_why(steady: PostedSite, body: object, word: str) -> None:
    problem(steady.rig.call("POST", "/api/energy", Role.OPERATOR, json=body), 422, word)
    assert steady.posted.signals() == []


def test_a_clock_that_was_never_set_asks_to_come_again(site: PostedSite) -> None:
    site.clock.jump_wall(-10 * 365 * 86_400)
    problem(site.rig.call("POST", "/api/energy", Role.OPERATOR, json=posting(0, 1)), 503, "clock")


def test_only_who_may_operate_posts(steady: PostedSite) -> None:
    problem(steady.rig.call("POST", "/api/energy", json=posting(0, 1)), 401)
    problem(steady.rig.call("POST", "/api/energy", Role.VIEWER, json=posting(0, 1)), 403)
    problem(steady.rig.call("GET", "/api/energy?device=battery1"), 401)


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/api/energy", 422, "device"),
        ("/api/energy?device=nobody", 404, "nobody"),
        (f"/api/energy?device=meter1&from={at()}&to={at()}", 422, "empty"),
        (f"/api/energy?device=meter1&bucket=hour&from={at(-365 * 86_400)}&to={at()}", 422, "1100 hours"),
        ("/api/energy?device=meter1&bucket=week", 422, "bucket"),
        ("/api/energy?device=meter1&from=soon", 422, "query.from"),
        ("/api/energy?device=meter1&direction=both", 422, "direction"),
    ],
)
def test_questions_out_of_bounds_say_how(steady: PostedSite, path: str, status: int, word: str) -> None:
    problem(steady.rig.call("GET", path, Role.VIEWER), status, word)


def test_of_what_nothing_is_known_nothing_is_told(steady: PostedSite) -> None:
    found = steady.get("/api/energy?device=meter1&bucket=hour")
    assert len(found["periods"]) == 24
    assert (found["source"], found["total_wh"]) == (None, None)
    assert {one["wh"] for one in found["periods"]} == {None}


def test_a_reading_s_register_takes_no_consumption(site: PostedSite) -> None:
    for hour, wh in ((-3, 1000), (-2, 1500), (-1, 2500)):
        site.post({"device": "sub7", "ts": at(hour * 3600 + 60), "values": {"energy_import_wh": wh}})
    refused = problem(site.rig.call("POST", "/api/energy", Role.OPERATOR, json=posting(0, 1, "sub7")), 422)
    assert "/api/telemetry" in refused["detail"]
    found = site.get(f"/api/energy?device=sub7{DAY}")
    assert (found["source"], found["total_wh"]) == ("register", 1500)


def test_recommendations_are_paged_and_filtered(steady: PostedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = (Evidence("ac1.power_w", NOON_US - DAY_US, NOON_US, {"mean_w": 12.5}),)
    known = [
        Recommendation(f"{kind}:{device}", kind, device, "do it", evidence, 2, NOON_US, 1.5, None)
        for kind in ("standby", "shift")
        for device in ("ac1", "ac2")
    ]
    assert steady.get("/api/recommendations") == {"total": 0, "page": 1, "page_size": 100, "items": []}
    monkeypatch.setattr(steady.insight, "recommendations", lambda: known)
    found = steady.get("/api/recommendations?device=ac1&kind=shift")
    assert found["items"] == [
        {
            "id": "shift:ac1", "kind": "shift", "device": "ac1", "text": "do it", "priority": 2, "since": at(),
            "saving_kwh": 1.5, "saving_money": None, "currency": "",
            "evidence": [{"signal": "ac1.power_w", "from": at(-86_400), "to": at(), "values": {"mean_w": 12.5}}],
        }
    ]  # fmt: skip
    second = steady.get("/api/recommendations?page=2&page_size=3")
    assert (second["total"], [one["id"] for one in second["items"]]) == (4, ["shift:ac2"])


def test_what_energy_is_reckoned_with_is_told(site: PostedSite) -> None:
    assert site.get("/api/energy/settings") == {
        "grid": None, "timezone": "UTC", "currency": "", "prices": [], "export_price_per_kwh": None,
    }  # fmt: skip
    night, day = Band(tuple(range(7)), 0, 360, 1.12), Band(tuple(range(7)), 360, 1440, 2.34)
    zone = ZoneInfo("America/Mexico_City")
    site.insight.configure(
        InsightSettings(zone, tariff_of("MXN", [night, day], export_price_per_kwh=0.85), grid="main")
    )
    found = site.get("/api/energy/settings")
    assert (found["grid"], found["timezone"], found["currency"]) == ("main", "America/Mexico_City", "MXN")
    assert found["export_price_per_kwh"] == 0.85
    assert len(found["prices"]) == 14
    assert found["prices"][:2] == [
        {"from_min": 0, "to_min": 360, "price_per_kwh": 1.12},
        {"from_min": 360, "to_min": 1440, "price_per_kwh": 2.34},
    ]
    assert found["prices"][-1]["to_min"] == 7 * 1440


def test_what_energy_costs_is_told_to_who_asks(site: PostedSite) -> None:
    energy(site, posting(-2, 1.5), posting(-1, 0.5))
    assert site.get(f"/api/energy?device=ac1{DAY}&cost=true")["cost"] is None, "there is no tariff"
    night, day = Band(tuple(range(7)), 0, 600, 1), Band(tuple(range(7)), 600, 1440, 3)
    site.insight.configure(InsightSettings(ZoneInfo("UTC"), tariff_of("EUR", [night, day])))
    for bucket in ("hour", "day", "month"):
        assert site.get(f"/api/energy?device=ac1&bucket={bucket}{DAY}&cost=true")["cost"] == 6.0, bucket
    assert site.get(f"/api/energy?device=ac1{DAY}")["cost"] is None, "nobody asked"
    energy(site, posting(0, 1))
    assert site.get(f"/api/energy?device=ac1{DAY}&cost=true")["cost"] == 9.0, "what was added counts at once"
    assert site.get(f"/api/energy?device=ac1&direction=export{DAY}&cost=true")["cost"] is None


def test_stations_are_counted(steady: PostedSite) -> None:
    found = steady.get("/api/stations/stats")
    # 16 A on three phases of 230 V is what the first can be set to; nobody knows the power of the second, which is off.
    assert (found["total"], found["active"], found["inactive"], found["unrated"]) == (2, 1, 1, 1)
    assert (
        found["total_kw"]
        == found["active_kw"]
        == round(steady.rig.control.known["battery1"].settings["current_limit_a"].max * 230 * 3 / 1000, 3)
    )


def test_rows_that_were_dropped_for_their_age_are_no_reason_to_count_twice(site: PostedSite) -> None:
    energy(site, posting(-1, 1), posting(0, 2))
    site.store.maintain().result(WAIT_S)  # seals them
    site.clock.advance(31 * DAY_US / 1e6)
    energy(site, posting(31 * 24, 4))
    site.store.maintain().result(WAIT_S)
    refused = problem(site.rig.call("POST", "/api/energy", Role.OPERATOR, json=posting(-1, 1)), 422, "too old")
    assert len(refused["errors"]) == 1


def test_old_consumption_is_moved_over_in_the_order_of_time_however_old_it_is(site: PostedSite) -> None:
    """As ``docs/compat.md`` says. Raw readings are kept for 30 days here, minutes for two years."""
    days = (-1000, -800, -100, 0)
    for day in days:
        assert energy(site, posting(24 * day, 1 - day))["inserted"] == 1
    problem(site.rig.call("POST", "/api/energy", Role.OPERATOR, json=posting(-50 * 24, 1)), 422, "too old")
    for _ in range(3):
        site.store.maintain().result(WAIT_S)
        site.clock.advance(DAY_US / 1e6)
    site.restart()
    found = site.get(f"/api/energy?device=ac1&bucket=month&from={at(-1005 * 86_400)}&to={at(86_400)}")
    assert [one["wh"] for one in found["periods"] if one["wh"]] == [1000 * (1 - day) for day in days]


_HOUR = st.integers(-20, 0)
_numbers = itertools.count()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(_HOUR, st.integers(0, 3)), min_size=1, max_size=4), max_size=5), st.data())
def test_any_postings_count_what_the_first_of_each_time_said(
    steady: PostedSite, requests: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    """Over new processes, repeated requests and seals: the total is the sum of what was said first for each time."""
    device = f"any-{next(_numbers)}"
    first: dict[int, int] = {}
    for sent in requests:
        rows = [PostedEnergy(place, device, NOON_US + hour * HOUR_US, kwh) for place, (hour, kwh) in enumerate(sent)]
        for _ in range(data.draw(st.integers(1, 2))):
            asyncio.run(steady.consumption().post(rows))
        for hour, kwh in sorted(sent, key=lambda one: one[0]):
            first.setdefault(hour, kwh)
        if data.draw(st.booleans()):
            steady.store.maintain().result(WAIT_S)
    if first:
        found = steady.insight.energy(device, "hour", NOON_US - DAY_US, NOON_US + DAY_US)
        assert round(found.total_wh or 0, 3) == 1000 * sum(first.values())
