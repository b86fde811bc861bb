"""Rows that clients post: each checked by itself, stored once, and seen wherever values are seen."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.api.guard import LONG_BODIES
from agent.api.telemetry_bodies import MAX_BODY_BYTES, MAX_ROWS, BodyError, read_rows
from agent.api.users import Role
from agent.core.errors import StoreError
from agent.core.points import POINTS
from agent.posted import MAX_POINTS, SLICE
from agent.store.posting import Fate, Posting
from agent.store.settings import DAY_S, StoreSettings
from tests import posted_site as posted_site_module
from tests.posted_site import DAY_US, NOON_US, SECOND_US, VIN, WAIT_S, PostedSite, at, posted_site, row
from tests.unit.api_rig import Json, problem

FULL: Json = {
    "soc": 81.5, "soh": 97, "pack_voltage": 396.4, "pack_current": -12.5, "max_temp": 31, "min_temp": 28.5,
    "odo_km": 48213.7,
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PostedSite]:
    with posted_site(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostedSite]:
    """One for all tests that only see rows refused: to make it costs more than they do."""
    with posted_site(tmp_path_factory.mktemp("steady")) as made:
        yield made


def test_a_row_of_the_monitor_is_stored_as_it_was_sent(site: PostedSite) -> None:
    assert site.post(row(**FULL), row(1, soc=81)) == {"inserted": 2, "duplicates": 0, "errors": []}
    points = {
        "soc_pct": 81, "soh_pct": 97, "voltage_v": 396.4, "current_a": -12.5, "temperature_max_degc": 31,
        "temperature_min_degc": 28.5, "odometer_km": 48213.7,
    }  # fmt: skip
    assert {name: site.value(VIN, name) for name in points} == points
    assert site.stored(VIN, "soc_pct") == [(0, 81.5), (1, 81)]
    assert site.stored(VIN, "current_a") == [(0, -12.5)]
    signal = site.posted.signal(VIN, "odometer_km")
    assert signal is not None
    assert (signal.unit, signal.kind) == ("km", "counter")
    assert signal in site.view.known


def test_any_device_posts_by_the_names_of_points(site: PostedSite) -> None:
    values = {"cell_voltage_v.12": 3.341, "charger_status": 2, "energy_import_wh": 1234567.5}
    assert site.post({"device": "pack-7", "ts": at(), "values": values}, row())["inserted"] == 2
    assert {name: site.value("pack-7", name) for name in values} == values
    assert site.posted.devices() == [VIN, "pack-7"]
    names = site.get("/api/points?name=odometer")
    assert [(one["name"], one["unit"]) for one in names["items"]] == [("odometer_km", "km")]
    assert site.get("/api/points?page_size=1")["total"] == len(POINTS)


def test_a_repeated_row_changes_nothing_neither_at_once_nor_after_a_restart(site: PostedSite) -> None:
    assert site.post(row(soc=1), row(soc=2), row(1, soc=3)) == {"inserted": 2, "duplicates": 1, "errors": []}
    assert site.post(row(soc=4), row(2, soc=5)) == {"inserted": 1, "duplicates": 1, "errors": []}
    site.restart()
    assert site.post(row(soc=6), row(1, soc=6), row(2, soc=6)) == {"inserted": 0, "duplicates": 3, "errors": []}
    assert site.stored(VIN, "soc_pct") == [(0, 1), (1, 3), (2, 5)]


def test_one_moment_is_one_row_however_its_zone_is_written(site: PostedSite) -> None:
    same = ["2026-11-18T12:00:00Z", "2026-11-18T13:00:00+01:00", "2026-11-18T06:00:00.000000-06:00", NOON_US // 10**6]
    rows = [{**row(), "ts": ts} for ts in same]
    assert site.post(*rows) == {"inserted": 1, "duplicates": 3, "errors": []}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"vin": VIN, "soc": 5}, "ts"),
        ({"vin": VIN, "ts": "2026-11-18T12:00:00", "soc": 5}, "offset"),
        ({"vin": VIN, "ts": "yesterday", "soc": 5}, "no time"),
        ({"vin": VIN, "ts": True, "soc": 5}, "ts"),
        (row(301), "future"),
        (row(-30 * 86_400 - 1), "too old"),
        (row(soc=100.1), "range"),
        (row(soc=-1), "range"),
        (row(soc=float("nan")), "finite"),
        (row(soc=float("inf")), "finite"),
        (row(soc=10**400), "range"),
        (row(soc="80"), "number"),
        (row(soc=True), "number"),
        (row(soc=None), "no value"),
        (row(odo_km=-1), "range"),
        (row(max_temp=1, min_temp=2), "above"),
        (row(soc=5, colour="red"), "colour"),
        (row(vin="", soc=5), "name"),
        (row(vin="a b", soc=5), "name"),
        (row(vin="a" * 65, soc=5), "name"),
        ({**row(), "vin": 5}, "name"),
        ({"ts": at(), "soc": 5}, "vin"),
        ({"device": "d", "ts": at()}, "values"),
        ({"device": "d", "ts": at(), "values": {}}, "no value"),
        ({"device": "d", "ts": at(), "values": [1]}, "values"),
        ({"device": "d", "ts": at(), "values": {"soc": 5}}, "no point 'soc'"),
        ({"device": "d", "ts": at(), "values": {"cell_voltage_v.0": 5}}, "no point"),
        ({"device": "d", "ts": at(), "values": {"cell_voltage_v.01": 5}}, "no point"),
        ({"device": "d", "ts": at(), "values": {"cell_voltage_v.10000": 5}}, "no point"),
        ({"device": "d", "ts": at(), "values": {"cell_voltage_v.\u0661": 5}}, "no point"),
        ({"device": "d", "ts": at(), "values": {"charger_status": 1.5}}, "whole"),
        ({"device": "d", "ts": at(), "values": {"energy_import_wh": -1}}, "range"),
        ({"device": "d", "ts": at(), "values": {f"cell_voltage_v.{n}": 3 for n in range(1, 66)}}, "64"),
        ({"device": "battery1", "ts": at(), "values": {"soc_pct": 5}}, "configured"),
        ([], "object"),
        ("row", "object"),
        (None, "object"),
    ],
)
def test_a_bad_row_says_why_and_spoils_no_other(steady: PostedSite, bad: object, why: str) -> None:
    site = steady
    answer = site.post(row(1), bad, row(2))
    assert answer["inserted"] + answer["duplicates"] == 2
    (error,) = answer["errors"]
    assert error["row"] == 1
    assert why in error["detail"]
    # All rows bad: the same list, as a problem.
    whole = problem(site.rig.call("POST", "/api/telemetry", Role.OPERATOR, json=[bad]), 422, why)
    assert whole["errors"] == [{"row": 0, "detail": error["detail"]}]
    assert site.stored(VIN, "soc_pct") == [(1, 80), (2, 80)]


def test_the_bounds_of_time_are_inside(site: PostedSite) -> None:
    assert site.post(row(300), row(-30 * 86_400))["inserted"] == 2


@pytest.mark.parametrize("before_s", [400 * DAY_S, 30 * DAY_S])
def test_old_rows_are_moved_over_where_raw_readings_are_kept_so_long_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before_s: float
) -> None:
    """As ``docs/compat.md`` says: what was too old once remains so, for nobody knows any more whether it was stored."""
    monkeypatch.setattr(posted_site_module, "SETTINGS", StoreSettings(raw_age_s=before_s))
    with posted_site(tmp_path) as site:
        for _ in range(2):  # ages are believed when the clock has run straight for a while
            site.store.maintain().result(WAIT_S)
            site.clock.advance(DAY_S)
        monkeypatch.setattr(posted_site_module, "SETTINGS", StoreSettings(raw_age_s=400 * DAY_S))
        site.restart()
        answer = site.post(row(-300 * DAY_S), row())
        assert [one["detail"] for one in answer["errors"]] == (
            [] if before_s == 400 * DAY_S else ["`ts` is too old: raw readings from then are no longer kept"]
        )
        assert answer["inserted"] + len(answer["errors"]) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"vin": 1}', b"[", b"[1", b"[1,]", b"[1 2]", b"[] []", b"[{]", b"\xff", b"[" * 100_000,
     b'["' + b"a" * 9000 + b'"]', b"[1" + b"0" * 5000 + b"]", b"nonsense"],
)  # fmt: skip
def test_what_is_no_list_of_rows_is_refused_whole(steady: PostedSite, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    problem(steady.rig.call("POST", "/api/telemetry", Role.OPERATOR, content=body, headers=headers), 422)


def test_an_empty_list_is_no_mistake(site: PostedSite) -> None:
    assert site.post() == {"inserted": 0, "duplicates": 0, "errors": []}
    headers = {"content-type": "application/json"}
    spaced = site.rig.call("POST", "/api/telemetry", Role.OPERATOR, content=b"\xef\xbb\xbf [ \n] ", headers=headers)
    assert spaced.json()["inserted"] == 0


def test_rows_and_bytes_are_bounded(site: PostedSite) -> None:
    many = json.dumps([row(n) for n in range(-MAX_ROWS, 1)]).encode()
    headers = {"content-type": "application/json"}
    problem(site.rig.call("POST", "/api/telemetry", Role.OPERATOR, content=many, headers=headers), 413, "10000 rows")
    assert site.posted.devices() == []
    assert LONG_BODIES["/api/telemetry"] == MAX_BODY_BYTES
    long = b"[" + b" " * MAX_BODY_BYTES + b"]"
    problem(site.rig.call("POST", "/api/telemetry", Role.OPERATOR, content=long, headers=headers), 413)
    # A body of 200 kB is too long anywhere else.
    problem(site.rig.call("POST", "/api/commands", Role.OPERATOR, content=b" " * 200_000, headers=headers), 413)
    assert site.post(*[row(n) for n in range(-4000, 0)])["inserted"] == 4000  # some 250 kB


def test_only_who_may_operate_posts(site: PostedSite) -> None:
    problem(site.rig.call("POST", "/api/telemetry", json=[row()]), 401)
    problem(site.rig.call("POST", "/api/telemetry", Role.VIEWER, json=[row()]), 403)


def test_points_of_a_device_are_bounded_and_what_fits_is_taken(site: PostedSite) -> None:
    first = {f"cell_voltage_v.{n}": 3.3 for n in range(1, MAX_POINTS)}
    assert site.post({"device": "d", "ts": at(), "values": first})["inserted"] == 1
    answer = site.post(
        {"device": "d", "ts": at(1), "values": {"soc_pct": 1, "soh_pct": 1}},
        {"device": "d", "ts": at(2), "values": {"soc_pct": 1}},
        {"device": "d", "ts": at(3), "values": {"soh_pct": 1}},
    )
    assert answer["inserted"] == 1
    assert [(one["row"], "64 points" in one["detail"]) for one in answer["errors"]] == [(0, True), (2, True)]


def test_devices_are_bounded(site: PostedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.posted.MAX_DEVICES", 3)
    answer = site.post(*[row(vin=f"v{n % 4}") | {"ts": at(n)} for n in range(8)])
    assert answer["inserted"] == 6
    assert [(one["row"], "3 posted devices" in one["detail"]) for one in answer["errors"]] == [(3, True), (7, True)]
    assert site.post(row(9, vin="v2"))["inserted"] == 1


def test_the_newest_by_time_is_shown_whatever_comes_later(site: PostedSite) -> None:
    site.post(row(-10, soc=10), row(-30, soc=30), row(-20, soc=20, soh=90))
    assert (site.value(VIN, "soc_pct"), site.value(VIN, "soh_pct")) == (10, 90)
    site.post(row(-15, soc=15, soh=91))
    assert (site.value(VIN, "soc_pct"), site.value(VIN, "soh_pct")) == (10, 91)
    site.restart()
    site.post(row(-12, soc=12), row(-31, soc=31))  # older than what is stored since before the restart
    assert site.value(VIN, "soc_pct") is None
    site.post(row(-9, soc=9))
    assert site.value(VIN, "soc_pct") == 9


def test_rules_see_each_recent_row_in_order_and_of_older_ones_the_newest(site: PostedSite) -> None:
    site.post(*[row(seconds) for seconds in (-1, -400, -3, -2, -500)])
    assert [(t_us - NOON_US) // SECOND_US for _, t_us in site.seen.rows_seen] == [-3, -2, -1]
    site.seen.rows_seen.clear()
    site.post(*[row(-900 - n, vin="old") for n in range(5)])
    assert [(t_us - NOON_US) // SECOND_US for _, t_us in site.seen.rows_seen] == [-900]


def test_many_rows_are_shown_in_slices(site: PostedSite) -> None:
    with site.view.hub.subscribe() as subscription:
        site.post(*[row(n / 100) for n in range(-2500, 0)])
        assert [len(batch) for batch in subscription.take()] == [SLICE, SLICE, 500]


def test_a_store_that_takes_nothing_answers_503_and_shows_nothing(
    site: PostedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(rows: Posting) -> Future[list[Fate]]:
        assert len(rows.devices) == 1
        future: Future[list[Fate]] = Future()
        future.set_exception(StoreError("store", "the disk is full", "free some space"))
        return future

    with monkeypatch.context() as patched:
        patched.setattr(site.store, "post", full)
        problem(site.rig.call("POST", "/api/telemetry", Role.OPERATOR, json=[row()]), 503, "disk is full")
    assert site.value(VIN, "soc_pct") is None
    assert site.post(row())["inserted"] == 1


def test_a_clock_that_was_never_set_asks_to_come_again(site: PostedSite) -> None:
    site.clock.jump_wall(-10 * 365 * 86_400)
    answer = site.rig.call("POST", "/api/telemetry", Role.OPERATOR, json=[row()])
    problem(answer, 503, "clock")
    assert int(answer.headers["retry-after"]) > 0


def test_what_is_held_at_once_is_bounded(site: PostedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.api.telemetry_routes.MAX_HELD_BYTES", 100)
    problem(site.rig.call("POST", "/api/telemetry", Role.OPERATOR, json=[row(n) for n in range(9)]), 503, "at once")
    assert site.post(row())["inserted"] == 1  # nothing is held any more


def test_what_consumption_is_posted_as_is_no_reading(site: PostedSite) -> None:
    reading = {"device": "ac1", "ts": at(), "values": {"energy_import_wh": 5}}
    site.post({"device_id": "ac1", "kwh": 1.5, "timestamp": at()}, path="/api/energy", status=201)
    refused = problem(site.rig.call("POST", "/api/telemetry", Role.OPERATOR, json=[reading]), 422, "/api/energy")
    assert refused["errors"][0]["row"] == 0
    assert site.post({"device": "ac1", "ts": at(), "values": {"power_w": 5}})["inserted"] == 1


_VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
_ITEM = st.dictionaries(
    st.sampled_from(["vin", "device", "ts", "values", "soc", "odo_km", "x"]),
    _VALUE | st.just(at()) | st.just(VIN) | st.dictionaries(st.sampled_from(["soc_pct", "relay", "y"]), _VALUE),
)


@settings(max_examples=300)
@given(st.lists(_ITEM | _VALUE | st.just(row()), max_size=6))
def test_each_row_is_good_or_bad_and_judged_alone(items: list[object]) -> None:
    found = read_rows(json.dumps(items).encode(), NOON_US, NOON_US - DAY_US)
    assert sorted([*(one.place for one in found.good), *(place for place, _ in found.bad)]) == list(range(len(items)))
    for one in found.good:
        assert one.values
        alone = read_rows(json.dumps([items[one.place]]).encode(), NOON_US, NOON_US - DAY_US)
        assert (alone.good[0].device, alone.good[0].t_us, alone.good[0].values) == (one.device, one.t_us, one.values)
    for place, why in found.bad:
        assert read_rows(json.dumps([items[place]]).encode(), NOON_US, NOON_US - DAY_US).bad == [(0, why)]


@given(st.binary(max_size=40) | st.text(alphabet='[]{},:"1 e', max_size=40).map(str.encode))
def test_no_bytes_are_a_bug(body: bytes) -> None:
    try:
        found = read_rows(body, NOON_US, 0)
    except BodyError:
        return
    items = json.loads(body.decode("utf-8-sig"))
    assert len(found.good) + len(found.bad) == len(items)


def test_a_device_that_was_taken_out_is_back_when_something_is_posted_of_it(site: PostedSite) -> None:
    site.post(row(soc=81), {"device": "pack-7", "ts": at(), "values": {"soc_pct": 55}})

    def listed() -> list[str]:
        items = site.rig.call("GET", "/api/devices", Role.VIEWER).json()["items"]
        return [one["id"] for one in items if one["kind"] == "posted"]

    assert listed() == [VIN, "pack-7"]
    assert site.rig.call("GET", f"/api/devices/{VIN}/latest", Role.VIEWER).json()["device"]["kind"] == "posted"
    problem(site.rig.call("DELETE", "/api/devices/nobody", Role.ADMIN), 404)
    assert site.rig.call("DELETE", f"/api/devices/{VIN}", Role.ADMIN).status_code == 204
    assert site.posted.devices() == ["pack-7"]
    site.restart()
    assert site.posted.devices() == ["pack-7"], "also after a start"
    assert site.stored(VIN, "soc_pct") == [(0, 81)], "what it told is kept"
    assert site.post(row(), row(1, soc=82))["duplicates"] == 1
    assert site.posted.devices() == [VIN, "pack-7"]
    site.restart()
    assert site.posted.devices() == [VIN, "pack-7"]
    assert site.stored(VIN, "soc_pct") == [(0, 81), (1, 82)]
