"""Charging profiles as the simulated charger evaluates them, against cases worked out by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest

from drivers.sim.charger_ocpp_profiles import Hardware, Profiles, read_profile

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
#: Parts of a profile by name.
Words = Any
NOON_US = round(NOON.timestamp()) * 1_000_000


def at(seconds: float) -> int:
    """So long after noon."""
    return NOON_US + round(seconds * 1e6)


def said(*periods: tuple[int, float], **more: Words) -> dict[str, Any]:
    schedule: dict[str, Any] = {
        "charging_rate_unit": more.pop("unit", "A"),
        "charging_schedule_period": [
            {"start_period": start_s, "limit": limit} | more.get("period", {}) for start_s, limit in periods
        ],
    }
    more.pop("period", None)
    for name in ("start_schedule", "duration"):
        if name in more:
            schedule[name] = more.pop(name)
    return {
        "charging_profile_id": 1,
        "stack_level": 0,
        "charging_profile_purpose": "TxDefaultProfile",
        "charging_profile_kind": "Absolute",
        "charging_schedule": schedule,
    } | more


def charger(*installed: tuple[int, dict[str, Any]], outlets: int = 2) -> Profiles:
    profiles = Profiles(Hardware(32, 3, outlets))
    for number, (outlet, one) in enumerate(installed):
        profiles.install(read_profile(outlet, {"charging_profile_id": number} | one | {"charging_profile_id": number}))
    return profiles


ALWAYS = {"start_schedule": "2026-01-01T00:00:00Z"}


def test_without_a_profile_the_hardware_limits() -> None:
    assert charger().limit_a(1, NOON_US, None) == 32
    assert charger().limit_a(0, NOON_US, None) == 64


def test_the_highest_level_counts_while_it_says_something() -> None:
    profiles = charger(
        (0, said((0, 6), **ALWAYS)),
        (1, said((0, 16), (60, 20), start_schedule="2026-03-02T12:00:00Z", duration=120, stack_level=3)),
    )
    told = [profiles.limit_a(1, at(seconds), None) for seconds in (-1, 0, 59, 60, 119, 120)]
    assert told == [6, 16, 16, 20, 20, 6]
    assert profiles.limit_a(2, at(0), None) == 6
    assert profiles.composite(1, at(-30), 300, None) == [(0, 6), (30, 16), (90, 20), (150, 6)]


def test_it_counts_only_while_it_is_valid() -> None:
    profiles = charger(
        (1, said((0, 9), valid_from="2026-03-02T12:00:10Z", valid_to="2026-03-02T12:00:20Z", **ALWAYS)),
    )
    assert [profiles.limit_a(1, at(seconds), None) for seconds in (9, 10, 19, 20)] == [32, 9, 9, 32]
    assert profiles.composite(1, NOON_US, 60, None) == [(0, 32), (10, 9), (20, 32)]


def test_a_transaction_profile_replaces_the_default_and_goes_with_its_transaction() -> None:
    profiles = charger(
        (0, said((0, 6), stack_level=8, **ALWAYS)),
        (1, said((0, 20), charging_profile_purpose="TxProfile", charging_profile_kind="Relative")),
    )
    assert profiles.limit_a(1, NOON_US, None) == 6
    assert profiles.limit_a(1, NOON_US, at(-5)) == 20
    profiles.end_transaction(1)
    assert profiles.limit_a(1, NOON_US, at(-5)) == 6


def test_the_whole_chargers_maximum_holds_beside_and_is_shared() -> None:
    profiles = charger(
        (0, said((0, 20), charging_profile_purpose="ChargePointMaxProfile", **ALWAYS)),
        (1, said((0, 16), **ALWAYS)),
    )
    assert profiles.limit_a(1, NOON_US, NOON_US) == 16
    assert profiles.limit_a(1, NOON_US, NOON_US, sharing=2) == 10
    assert profiles.limit_a(0, NOON_US, None) == 20


@pytest.mark.parametrize(("phases", "expected_a"), [({}, 10), ({"number_phases": 3}, 10), ({"number_phases": 1}, 30)])
def test_watts_are_of_all_phases_together(phases: dict[str, int], expected_a: float) -> None:
    profiles = charger((1, said((0, 6900), unit="W", period=phases, **ALWAYS)))
    assert profiles.limit_a(1, NOON_US, None) == pytest.approx(expected_a)


def test_watts_of_a_charger_with_one_phase() -> None:
    profiles = Profiles(Hardware(32, 1, 1))
    profiles.install(read_profile(1, said((0, 2300), unit="W", **ALWAYS)))
    assert profiles.limit_a(1, NOON_US, None) == pytest.approx(10)
    assert profiles.composite(1, NOON_US, 60, None, "W") == [(0, 2300)]


def test_a_relative_profile_begins_with_the_transaction() -> None:
    profiles = charger((1, said((0, 8), (30, 12), charging_profile_kind="Relative")))
    assert profiles.limit_a(1, at(100), None) == 32
    assert [profiles.limit_a(1, at(seconds), NOON_US) for seconds in (0, 29, 30)] == [8, 8, 12]


@pytest.mark.parametrize(
    ("recurs", "start", "expected"),
    [
        ("Daily", "2026-02-20T11:00:00Z", [10, 10, 32, 10]),
        ("Weekly", "2026-02-23T11:00:00Z", [10, 10, 32, 32]),
        ("Weekly", "2026-02-24T11:00:00Z", [32, 32, 32, 10]),
        ("Daily", "2026-03-03T11:00:00Z", [32, 32, 32, 10]),
    ],
)
def test_a_recurring_profile_comes_again(recurs: str, start: str, expected: list[float]) -> None:
    profiles = charger(
        (
            1,
            said(
                (0, 10), charging_profile_kind="Recurring", recurrency_kind=recurs, start_schedule=start, duration=7200
            ),
        )
    )
    hour = 3600
    assert [profiles.limit_a(1, at(seconds), None) for seconds in (0, hour - 1, hour, 24 * hour)] == expected


def test_the_same_id_or_the_same_place_replaces() -> None:
    profiles = Profiles(Hardware(32, 3, 2))
    profiles.install(read_profile(1, said((0, 10), **ALWAYS)))
    profiles.install(read_profile(1, said((0, 11), charging_profile_id=2, **ALWAYS)))
    assert [one.id for one in profiles.installed] == [2]
    profiles.install(read_profile(1, said((0, 12), charging_profile_id=2, stack_level=5, **ALWAYS)))
    assert [one.stack for one in profiles.installed] == [5]


def test_clearing_takes_what_matches_all_that_is_given() -> None:
    def filled() -> Profiles:
        return charger(
            (0, said((0, 10), **ALWAYS)),
            (1, said((0, 10), stack_level=2, **ALWAYS)),
            (0, said((0, 10), charging_profile_purpose="ChargePointMaxProfile", **ALWAYS)),
        )

    for number, (given, gone) in enumerate(
        [
            ({"number": 1}, 1),
            ({"number": 9}, 0),
            ({"outlet": 0}, 2),
            ({"purpose": "TxDefaultProfile"}, 2),
            ({"purpose": "TxDefaultProfile", "stack": 2}, 1),
            ({"outlet": 1, "stack": 0}, 0),
            ({}, 3),
        ]
    ):
        profiles = filled()
        assert profiles.clear(**given) == gone, number  # type: ignore[arg-type]
        assert len(profiles.installed) == 3 - gone


@pytest.mark.parametrize(
    ("outlet", "wrong"),
    [
        (1, {"charging_profile_purpose": "ChargePointMaxProfile"}),
        (0, {"charging_profile_purpose": "ChargePointMaxProfile", "charging_profile_kind": "Relative"}),
        (0, {"charging_profile_purpose": "TxProfile"}),
        (0, {"charging_profile_purpose": "ChargingStationExternalConstraints"}),
        (0, {"charging_profile_kind": "Sometimes"}),
        (0, {"charging_profile_kind": "Recurring"}),
        (0, {"valid_from": "yesterday"}),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(outlet: int, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_profile(outlet, said((0, 10)) | wrong)


def test_periods_begin_at_0_and_rise() -> None:
    for periods in ([(5, 10.0)], [(0, 10.0), (20, 6.0), (10, 8.0)], []):
        with pytest.raises(ValueError, match="rise"):
            read_profile(1, said(*periods))
