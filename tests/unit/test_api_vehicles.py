"""Vehicles in the words of the battery monitor: the latest, ranges in figures, what was unusual."""

from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.api.users import Role
from agent.control.alarm_model import AlarmStatus, RuleSpec, Severity
from agent.control.when import parse
from agent.core.model import Batch, float_to_word
from agent.store.rollup import HOUR_US
from tests.fake_view import SOC, TEMPERATURE, VOLTAGE
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
    """One with a vehicle, for tests that only read."""
    with posted_site(tmp_path_factory.mktemp("steady")) as made:
        made.post(row(-10, **FULL))
        yield made


def latest(site: PostedSite, vin: str = VIN) -> Json:
    found: Json = site.get(f"/api/vehicles/{vin}/latest")
    return found


def test_the_latest_has_the_monitor_s_names_with_power_and_alerts(site: PostedSite) -> None:
    site.post(row(-10, **FULL))
    found = latest(site)
    assert {name: found[name] for name in FULL} == FULL
    assert (found["vin"], found["source"], found["ts"]) == (VIN, "posted", at(-10))
    assert found["power_kw"] == -4.955  # 396.4 V times -12.5 A, with the sign that was sent
    assert (found["alerts"], found["details"]) == ([], [])
    assert found["values"]["odometer_km"] == 48213.7
    site.post(row(-5, soc=9.5, max_temp=61))
    found = latest(site)
    assert (found["ts"], found["soc"], found["soh"]) == (at(-5), 9.5, 97)
    assert found["alerts"] == ["soc_low", "temperature_high"]
    assert found["details"][0] == {
        "code": "soc_low", "source": "values", "text": "state of charge 9.5 % is below 15 %", "severity": None,
    }  # fmt: skip


def test_rows_that_come_late_never_replace_newer_ones(site: PostedSite) -> None:
    site.post(row(-10, soc=50))
    site.post(row(-20, soc=60, soh=90))
    found = latest(site)
    assert (found["ts"], found["soc"], found["soh"]) == (at(-10), 50, 90)


def test_after_a_restart_the_last_row_is_told_from_the_store(site: PostedSite) -> None:
    site.post(row(-20, soh=91), row(-10, **FULL))
    site.store.maintain().result(WAIT_S)
    site.restart()
    assert {name: latest(site)[name] for name in FULL} == FULL
    assert latest(site)["ts"] == at(-10)
    assert site.get("/api/vehicles")["items"][0]["soc"] == 81.5
    site.post(row(-15, soc=1))  # older than what the store has
    assert latest(site)["soc"] == 81.5
    site.post(row(-5, soc=2))
    found = latest(site)
    assert (found["soc"], found["soh"], found["ts"]) == (2, 97, at(-5))


@pytest.mark.parametrize("older", [-15, -7200])
def test_after_a_restart_the_newest_of_each_value_is_told(site: PostedSite, older: int) -> None:
    site.post(row(older - 60, soh=90), row(older, soh=91, pack_voltage=400, pack_current=10), row(-10, soc=50))
    told = latest(site)
    assert (told["soc"], told["soh"], told["power_kw"], told["ts"]) == (50, 91, 4, at(-10))
    site.store.maintain().result(WAIT_S)
    site.restart()
    assert latest(site) == told
    site.post(row(older - 1, soh=92), row(older + 1, pack_voltage=500))  # the first is older than what the store has
    found = latest(site)
    assert (found["soh"], found["power_kw"], found["soc"]) == (91, 5, 50)


def test_what_was_not_heard_for_long_says_so_by_the_time_of_its_row(site: PostedSite) -> None:
    site.post(row(-7200, soc=50))
    found = latest(site)
    assert found["alerts"] == ["stale"]
    assert "2.0 h" in found["details"][0]["text"]


class _Alarms:
    """Some alarms as they are now."""

    def __init__(self, *known: AlarmStatus) -> None:
        self.known = known

    def alarms(self) -> tuple[AlarmStatus, ...]:
        return self.known


def test_active_alarms_of_the_device_are_alerts_as_well(site: PostedSite) -> None:
    site.post(row(-10, soc=50))
    spec = RuleSpec("van_hot", parse(f"{VIN}.temperature_max_degc > 45"), severity=Severity.CRITICAL, device=VIN)
    rule = replace(spec, id="rule", severity=None)
    site.rig.alarms = _Alarms(  # type: ignore[assignment] # all that is asked of it
        AlarmStatus(spec, active=True, why="it is 50"),
        AlarmStatus(replace(spec, id="over"), active=False),
        AlarmStatus(replace(spec, id="other", device="other"), active=True),
        AlarmStatus(rule, active=True),
    )
    site.rig.restart()
    found = latest(site)
    assert found["alerts"] == ["van_hot"]
    assert found["details"] == [{"code": "van_hot", "source": "alarm", "text": "it is 50", "severity": "critical"}]
    assert site.get(f"/api/vehicles?vin={VIN}")["items"][0]["alerts"] == ["van_hot"]


def test_vehicles_are_listed_in_pages_with_the_batteries_of_the_site(site: PostedSite) -> None:
    site.post(*[row(-n, vin=f"van-{n}", soc=n) for n in range(1, 6)])
    site.post({"device_id": "ac1", "kwh": 1, "timestamp": at()}, path="/api/energy", status=201)
    found = site.get("/api/vehicles")
    assert [one["vin"] for one in found["items"]] == ["battery1", *(f"van-{n}" for n in range(1, 6))]
    assert [one["source"] for one in found["items"]] == ["configured", *["posted"] * 5]
    page = site.get("/api/vehicles?vin=van&page=2&page_size=2")
    assert (page["total"], [(one["vin"], one["soc"]) for one in page["items"]]) == (5, [("van-3", 3), ("van-4", 4)])
    assert set(page["items"][0]) == {"vin", "source", "ts", *FULL, "power_kw", "alerts"}


def test_a_configured_battery_is_asked_the_same_way(site: PostedSite) -> None:
    rows = [(SOC, 12), (VOLTAGE, 4800), (TEMPERATURE, float_to_word(21.5))]
    ids = array("i", (signal.id for signal, _ in rows))
    site.keep(Batch(ids, array("q", [NOON_US - SECOND_US] * 3), array("q", (word for _, word in rows))))
    found = latest(site, "battery1")
    assert (found["source"], found["ts"], found["soc"], found["pack_voltage"]) == ("configured", at(-1), 12, 48)
    assert (found["max_temp"], found["min_temp"], found["pack_current"], found["power_kw"]) == (21.5, 21.5, None, None)
    assert found["alerts"] == ["soc_low"]
    summary = site.get(f"/api/vehicles/battery1/summary?from_ts={at(-60)}&to_ts={at()}")
    assert (summary["samples"], summary["soc_min"], summary["temp_min"], summary["temp_max"]) == (1, 12, 21.5, 21.5)


def test_a_range_in_figures_counts_rows_with_both_ends(site: PostedSite) -> None:
    site.post(*[row(n, soc=50 + n / 100, max_temp=30 + n % 7, min_temp=20 - n % 5) for n in range(-3000, 1)])
    whole = f"/api/vehicles/{VIN}/summary?from_ts={at(-3000)}&to_ts={at()}"
    expected = {
        "vin": VIN, "from_ts": at(-3000), "to_ts": at(), "samples": 3001, "soc_min": 20, "soc_max": 50,
        "temp_min": 16, "temp_max": 36,
    }  # fmt: skip
    assert site.get(whole) == expected
    site.store.maintain().result(WAIT_S)  # now from roll-ups, and the ends from sealed rows
    assert site.get(whole) == expected
    # A zone is read, and a plus that came as a space as well.
    part = f"from_ts={at(-59)}&to_ts=2026-11-18T13:00:00%2B01:00"
    assert site.get(f"/api/vehicles/{VIN}/summary?{part}")["samples"] == 60
    one = site.get(f"/api/vehicles/{VIN}/summary?from_ts={at(-7)}&to_ts={at(-7)}")
    assert (one["samples"], one["soc_min"], one["soc_max"]) == (1, 49.93, 49.93)
    none = site.get(f"/api/vehicles/{VIN}/summary?from_ts={at(-9000)}&to_ts={at(-8000)}")
    assert (none["samples"], none["soc_min"], none["temp_max"]) == (0, None, None)
    assert site.get(f"/api/vehicles/{VIN}/summary")["samples"] == 3001


def test_rows_that_come_late_are_in_their_range(site: PostedSite) -> None:
    site.post(row(-10, soc=50))
    site.store.maintain().result(WAIT_S)
    site.post(row(-7200, soc=10), row(-7100, soc=90))
    found = site.get(f"/api/vehicles/{VIN}/summary?from_ts={at(-7200)}&to_ts={at(-7100)}")
    assert (found["samples"], found["soc_min"], found["soc_max"]) == (2, 10, 90)


def test_what_was_unusual_is_told_by_vehicle_in_pages(site: PostedSite) -> None:
    hours = range(-21 * 24, 0)
    rows = [
        row(hour * 3600 + 60, soc=60 + hour % 24 / 10, max_temp=95 if hour in {-30, -12} else 25 + hour % 24 / 10)
        for hour in hours
    ]
    site.post(*rows)
    site.store.maintain().result(WAIT_S)
    path = f"/api/vehicles/{VIN}/anomalies"
    found = site.get(f"{path}?from_ts={at(-3 * 86_400)}&to_ts={at()}")
    assert [(one["signal"], one["direction"], one["value"]) for one in found["items"]] == [
        (f"{VIN}.temperature_max_degc", "high", 95)
    ] * 2
    assert found["items"][0]["from_ts"] == at(-30 * 3600)
    assert found["judged"] == [f"{VIN}.soc_pct", f"{VIN}.temperature_max_degc"]
    assert site.get(f"{path}?from_ts={at(-86_400)}&to_ts={at()}&signal=temperature")["total"] == 1
    assert site.get(f"{path}?signal=soc")["total"] == 0
    second = site.get(f"{path}?page=2&page_size=1")
    assert (second["total"], second["items"][0]["from_ts"]) == (2, at(-12 * 3600))


def test_a_new_vehicle_has_too_little_history(steady: PostedSite) -> None:
    found = steady.get(f"/api/vehicles/{VIN}/anomalies")
    assert (found["items"], found["judged"]) == ([], [])
    assert f"{VIN}.soc_pct" in found["too_new"]


@pytest.mark.parametrize("part", ["latest", "summary", "anomalies"])
def test_nobody_is_not_found_and_strangers_are_not_let_in(steady: PostedSite, part: str) -> None:
    problem(steady.rig.call("GET", f"/api/vehicles/nobody/{part}", Role.VIEWER), 404, "/api/vehicles")
    problem(steady.rig.call("GET", f"/api/vehicles/meter1/{part}", Role.VIEWER), 404, "meter1")
    problem(steady.rig.call("GET", f"/api/vehicles/{VIN}/{part}"), 401)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        (f"summary?from_ts={at()}&to_ts={at(-1)}", "must not be after"),
        ("summary?from_ts=2026-11-18T12:00:00", "offset"),
        ("summary?to_ts=noon", "query.to_ts"),
        (f"anomalies?from_ts={at(-36 * 86_400)}&to_ts={at()}", "35 days"),
        (f"anomalies?from_ts={at()}&to_ts={at()}", "more than nothing"),
        ("anomalies?page_size=201", "page_size"),
    ],
)
def test_ranges_that_can_t_be_told_say_why(steady: PostedSite, path: str, word: str) -> None:
    problem(steady.rig.call("GET", f"/api/vehicles/{VIN}/{path}", Role.VIEWER), 422, word)


def test_what_raw_readings_are_gone_for_is_told_from_roll_ups(site: PostedSite) -> None:
    site.post(*[row(-60 * n, soc=40 + n) for n in range(10)])
    site.store.maintain().result(WAIT_S)
    site.clock.advance(31 * DAY_US / 1e6)
    site.store.maintain().result(WAIT_S)
    assert site.stored(VIN, "soc_pct") == []
    found = site.get(f"/api/vehicles/{VIN}/summary?from_ts={at(-HOUR_US / 1e6)}&to_ts={at(60)}")
    assert (found["samples"], found["soc_min"], found["soc_max"]) == (10, 40, 49)
    refused = problem(site.rig.call("POST", "/api/telemetry", Role.OPERATOR, json=[row(0)]), 422, "too old")
    assert refused["errors"][0]["row"] == 0
