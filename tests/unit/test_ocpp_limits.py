"""Limits and on/off by charging profiles: what is written, when, and what is in force then."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, NoAnswer, Refusal, Unavailable
from drivers.codec.ocpp_model import Version
from drivers.ocpp.limits import RESUME_S, TICK_S, Limits
from drivers.ocpp.limits_profiles import REFRESH_S, VALIDITY_S, amperes, rounded
from drivers.ocpp.ports import Payload
from drivers.ocpp.quirks import Quirks
from tests.ocpp_asked import AskedLink, AskedState, accept

TWO = [Version.V16, Version.V201]


def _charger(
    version: Version = Version.V16, quirks: Quirks | None = None, **settings: object
) -> tuple[AskedLink, AskedState, Limits, FakeClock]:
    link, clock = AskedLink(version), FakeClock()
    state = AskedState(link, quirks or Quirks(), **settings)
    return link, state, Limits(state, clock), clock


def _profiles(link: AskedLink) -> list[tuple[int, str, int, list[tuple[int, float]], Mapping[str, Any]]]:
    """Outlet, purpose, level, periods and the profile itself, of each SetChargingProfile so far."""
    found = []
    for payload in link.sent("SetChargingProfile"):
        profile: Any = payload["chargingProfile" if link.version.two else "csChargingProfiles"]
        outlet: Any = payload["evseId" if link.version.two else "connectorId"]
        schedule = profile["chargingSchedule"][0] if link.version.two else profile["chargingSchedule"]
        periods = [(one["startPeriod"], one["limit"]) for one in schedule["chargingSchedulePeriod"]]
        found.append((outlet, profile["chargingProfilePurpose"], profile["stackLevel"], periods, profile))
    return found


async def _ticks(clock: FakeClock, seconds: float, step_s: float = TICK_S) -> None:
    for _ in range(round(seconds / step_s)):
        clock.advance(step_s)
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.mark.parametrize("version", TWO)
def test_a_limit_ends_by_itself_above_a_safe_one_that_does_not(version: Version) -> None:
    link, state, limits, _ = _charger(version, safe_a=7)

    async def run() -> None:
        await limits.install_safe()
        state.transactions[1] = "5"
        assert await limits.set("current_limit_a", 16) == 16

    asyncio.run(run())
    safe, default, tx = _profiles(link)
    assert safe[:4] == (1, "TxDefaultProfile", 0, [(0, 7)])
    assert "validTo" not in safe[4]
    assert default[:4] == (1, "TxDefaultProfile", 1, [(0, 16)])
    assert default[4]["validTo"] == "2023-11-14T22:18:20Z"  # 300 s from now
    assert tx[:4] == (1, "TxProfile", 1, [(0, 16)])
    assert tx[4]["transactionId"] == ("5" if version.two else 5)
    schedule = tx[4]["chargingSchedule"][0] if version.two else tx[4]["chargingSchedule"]
    assert schedule["duration"] == VALIDITY_S + 60  # its start lies 60 s back
    assert schedule["startSchedule"] == "2023-11-14T22:12:20Z"
    key = "id" if version.two else "chargingProfileId"
    assert len({one[4][key] for one in (safe, default, tx)}) == 3


def test_one_level_only_carries_the_safe_limit_behind_the_other() -> None:
    link, _, limits, _ = _charger(quirks=Quirks(stack_level=0), safe_a=6)

    async def run() -> None:
        await limits.install_safe()
        await limits.set("current_limit_a", 10)
        await limits.install_safe()  # the charger came back: what is wanted stays in force

    asyncio.run(run())
    assert [one[:4] for one in _profiles(link)] == [
        (1, "TxDefaultProfile", 0, [(0, 6)]),
        (1, "TxDefaultProfile", 0, [(0, 10), (360, 6)]),
        (1, "TxDefaultProfile", 0, [(0, 10), (360, 6)]),
    ]
    assert len({one[4]["chargingProfileId"] for one in _profiles(link)}) == 1
    assert limits.failsafe


def test_one_level_of_one_period_has_no_failsafe_and_is_set_safe_when_released() -> None:
    link, _, limits, clock = _charger(quirks=Quirks(stack_level=0))

    async def run() -> None:
        await limits.learn(max_periods=1)
        assert not limits.failsafe
        await limits.set("current_limit_a", 10)
        await limits.restore()
        limits.release()
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        await _ticks(clock, 4)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert [one[3] for one in _profiles(link)] == [[(0, 10)], [(0, 6)]]


def test_what_stands_is_written_only_to_repeat_it() -> None:
    link, _, limits, clock = _charger()

    async def run() -> None:
        await limits.restore()
        for _ in range(3):
            assert await limits.set("current_limit_a", 10) == 10
        assert len(_profiles(link)) == 1
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        await _ticks(clock, REFRESH_S - TICK_S)
        assert len(_profiles(link)) == 1
        await _ticks(clock, 3 * REFRESH_S)
        assert len(_profiles(link)) == 4
        limits.release()
        await _ticks(clock, 2 * REFRESH_S)
        assert len(_profiles(link)) == 4
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_session_that_begins_gets_its_own_profile_at_once() -> None:
    link, state, limits, clock = _charger()

    async def run() -> None:
        await limits.restore()
        await limits.set("current_limit_a", 10)
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        state.transactions[1] = "9"
        await _ticks(clock, 2 * TICK_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert [one[1] for one in _profiles(link)] == ["TxDefaultProfile", "TxProfile"]


def test_after_a_reconnect_all_is_set_again() -> None:
    link, _, limits, clock = _charger(outlets=2)

    async def run() -> None:
        await limits.restore()
        await limits.set("current_limit_a.1", 10)
        await limits.set("current_limit_a.2", 12)
        await limits.set("charging_enabled.2", 0)
        del link.asked[:]
        limits.connected()
        await limits.restore()
        assert [(one[0], one[3][0][1]) for one in _profiles(link)] == [(1, 10), (2, 0)]
        limits.connected()  # and nobody calls restore
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        await _ticks(clock, RESUME_S - TICK_S)
        assert len(_profiles(link)) == 2
        await _ticks(clock, 2 * TICK_S)
        assert len(_profiles(link)) == 4
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_off_is_0_a_and_on_is_the_limit_from_before() -> None:
    link, _, limits, _ = _charger()

    async def run() -> None:
        assert await limits.set("charging_enabled", 1) == 1
        await limits.set("current_limit_a", 10)
        assert await limits.set("charging_enabled", 0) == 0
        assert await limits.set("current_limit_a", 8) == 8  # kept for when it is on
        assert await limits.set("charging_enabled", 1) == 1

    asyncio.run(run())
    assert [one[3][0][1] for one in _profiles(link)] == [32, 10, 0, 8]


@pytest.mark.parametrize("version", TWO)
def test_off_can_mean_the_end_of_the_session(version: Version) -> None:
    link, state, limits, clock = _charger(version, off="stop")
    message = "RequestStopTransaction" if version.two else "RemoteStopTransaction"

    async def run() -> None:
        await limits.restore()
        state.transactions[1] = "5"
        await limits.set("charging_enabled", 0)
        assert limits.refuses(1)
        assert link.sent(message) == [{"transactionId": "5" if version.two else 5}]
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        await _ticks(clock, 10)
        assert len(link.sent(message)) == 1
        state.transactions[1] = "6"  # somebody began another one all the same
        await _ticks(clock, 4)
        assert len(link.sent(message)) == 2
        await limits.set("charging_enabled", 1)
        assert not limits.refuses(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_the_whole_of_several_outlets() -> None:
    link, _, limits, _ = _charger(outlets=2)
    assert set(limits.settings) == {
        f"{name}{suffix}" for name in ("current_limit_a", "charging_enabled") for suffix in ("", ".1", ".2")
    }
    assert limits.settings["current_limit_a"].max == 64

    async def run() -> None:
        await limits.set("current_limit_a", 40)
        await limits.set("current_limit_a.2", 20)
        await limits.set("charging_enabled", 0)
        await limits.set("charging_enabled", 1)

    asyncio.run(run())
    assert [(one[0], one[1], one[3][0][1]) for one in _profiles(link)] == [
        (0, "ChargePointMaxProfile", 40),
        (2, "TxDefaultProfile", 20),
        (1, "TxDefaultProfile", 0),
        (2, "TxDefaultProfile", 0),
        (1, "TxDefaultProfile", 32),
        (2, "TxDefaultProfile", 20),
    ]


@pytest.mark.parametrize(
    ("point", "value", "refusal"),
    [
        ("current_limit_a", 5, Refusal.OUT_OF_RANGE),
        ("current_limit_a", 33, Refusal.OUT_OF_RANGE),
        ("current_limit_a", -1, Refusal.OUT_OF_RANGE),
        ("current_limit_a", float("nan"), Refusal.OUT_OF_RANGE),
        ("current_limit_a.1", 6, Refusal.NOT_CAPABLE),
        ("charging_enabled", 0.5, Refusal.OUT_OF_RANGE),
        ("power_w", 1, Refusal.NOT_CAPABLE),
    ],
)
def test_what_can_not_be_set_is_refused_before_anything_is_sent(point: str, value: float, refusal: Refusal) -> None:
    link, _, limits, _ = _charger()
    with pytest.raises(CommandRejected) as caught:
        asyncio.run(limits.set(point, value))
    assert caught.value.refusal is refusal
    assert not link.asked


def test_watts_are_those_of_all_phases_and_never_more_than_was_asked() -> None:
    for tenths in range(60, 321):
        for phases in (1, 2, 3):
            for unit in ("A", "W"):
                limit = rounded(tenths / 10, unit, phases)
                assert amperes(limit, unit, phases) <= tenths / 10 + 1e-9
                assert amperes(limit, unit, phases) > tenths / 10 - 0.1
    assert rounded(16, "W", 3) == 11040
    assert amperes(11040, "Power", 3) == 16


def test_until_a_profile_was_accepted_the_other_unit_and_level_0_are_tried_and_remembered() -> None:
    link, state, limits, _ = _charger()

    def answer(_: str, payload: Payload) -> Payload:
        profile: Any = payload["csChargingProfiles"]
        fits = profile["stackLevel"] == 0 and profile["chargingSchedule"]["chargingRateUnit"] == "W"
        return {"status": "Accepted" if fits else "Rejected"}

    link.answer = answer

    async def run() -> None:
        await limits.set("current_limit_a", 16)
        del link.asked[:]
        await limits.set("current_limit_a", 10)
        again = Limits(state, FakeClock())  # after a restart
        await again.set("current_limit_a", 16)

    asyncio.run(run())
    assert [one[3][0][1] for one in _profiles(link)] == [6900, 11040]
    state.boot = None
    assert state.notes["limits"]["of"] == "Acme|One|1.0"


def test_a_refused_value_changes_nothing() -> None:
    link, _, limits, clock = _charger()

    async def run() -> None:
        await limits.restore()
        await limits.set("current_limit_a", 10)
        link.answer = lambda *_: {"status": "Rejected"}
        with pytest.raises(CommandRejected, match="Rejected") as caught:
            await limits.set("current_limit_a", 16)
        assert caught.value.refusal is Refusal.DEVICE_REFUSED
        link.answer = accept
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        await _ticks(clock, 4)
        assert _profiles(link)[-1][3] == [(0, 10)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_after_silence_nothing_is_repeated() -> None:
    link, _, limits, clock = _charger()

    def silent(*_: object) -> Payload:
        raise NoAnswer("call", "nothing in 30 s")

    async def run() -> None:
        await limits.restore()
        await limits.set("current_limit_a", 16)
        link.answer = silent
        with pytest.raises(NoAnswer):
            await limits.set("current_limit_a", 6)
        link.answer = accept
        del link.asked[:]
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        await _ticks(clock, 2 * REFRESH_S)
        assert not link.asked
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize("version", TWO)
def test_profiles_that_somebody_took_out_are_set_again_soon(version: Version) -> None:
    link, _, limits, clock = _charger(version, safe_a=7)

    async def run() -> None:
        limits.connected()
        await limits.install_safe()
        await limits.restore()
        await limits.set("current_limit_a", 16)
        await limits.set("charging_enabled", 0)
        repeating = asyncio.create_task(limits.run())
        await _ticks(clock, 10)
        before = len(_profiles(link))
        limits.cleared()
        await _ticks(clock, 2 * TICK_S)
        again = [profile[2:4] for profile in _profiles(link)[before:]]
        assert again == [(0, [(0, 7)]), (1, [(0, 0)])], "the safe limit, and off"
        await _ticks(clock, 10)
        assert len(_profiles(link)) == before + 2
        repeating.cancel()
        await asyncio.gather(repeating, return_exceptions=True)

    asyncio.run(run())


def test_a_repeat_that_is_refused_is_told_once() -> None:
    link, state, limits, clock = _charger()

    async def run() -> None:
        await limits.restore()
        await limits.set("current_limit_a", 16)
        link.answer = lambda *_: {"status": "Rejected"}
        task = asyncio.create_task(limits.run())
        await asyncio.sleep(0)
        await _ticks(clock, 3 * REFRESH_S)
        assert [kind for kind, _ in state.told] == ["charger.refused"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("schedule", "in_force"),
    [
        ({"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10}]}, 10),
        ({"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 5520}]}, 8),
        ({"chargingRateUnit": "A", "chargingSchedulePeriod": []}, 10),
        ({}, 10),
        (None, 10),
        ({"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16}]}, None),
    ],
)
def test_the_charger_is_asked_what_is_in_force(schedule: object, in_force: float | None) -> None:
    link, state, limits, _ = _charger()
    state.transactions[1] = "5"

    def answer(action: str, payload: Payload) -> Payload:
        if action == "GetCompositeSchedule":
            return {"status": "Accepted", "connectorId": 1, "chargingSchedule": schedule}
        return accept(action, payload)

    link.answer = answer
    if in_force is None:
        with pytest.raises(CommandRejected, match="16 A are in force"):
            asyncio.run(limits.set("current_limit_a", 10))
    else:
        assert asyncio.run(limits.set("current_limit_a", 10)) == in_force


def test_a_charger_that_refuses_the_session_s_profile_is_limited_by_the_default() -> None:
    link, state, limits, _ = _charger()
    state.transactions[1] = "5"

    def answer(action: str, payload: Payload) -> Payload:
        profile: Any = payload.get("csChargingProfiles", {})
        return {"status": "Rejected" if profile.get("chargingProfilePurpose") == "TxProfile" else "Accepted"}

    link.answer = answer

    async def run() -> None:
        await limits.set("current_limit_a", 10)
        await limits.set("current_limit_a", 12)

    asyncio.run(run())
    assert [one[1] for one in _profiles(link)] == ["TxDefaultProfile", "TxProfile", "TxDefaultProfile"]


def test_between_two_limits_lies_what_the_model_needs() -> None:
    link, _, limits, clock = _charger(quirks=Quirks(min_interval_s=30))

    async def run() -> None:
        await limits.set("current_limit_a", 10)
        task = asyncio.create_task(limits.set("current_limit_a", 12))
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(29)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(_profiles(link)) == 1
        clock.advance(1)
        assert await task == 12
        assert len(_profiles(link)) == 2

    asyncio.run(run())


def test_a_model_that_knows_the_whole_only() -> None:
    quirks = Quirks(purpose="ChargePointMaxProfile")
    link, state, limits, _ = _charger(quirks=quirks)
    state.transactions[1] = "5"

    async def run() -> None:
        await limits.install_safe()
        await limits.set("current_limit_a", 10)

    asyncio.run(run())
    assert [one[:4] for one in _profiles(link)] == [
        (0, "ChargePointMaxProfile", 0, [(0, 6)]),
        (0, "ChargePointMaxProfile", 1, [(0, 10)]),
    ]
    _, _, limits, _ = _charger(quirks=quirks, outlets=2)
    with pytest.raises(CommandRejected) as caught:
        asyncio.run(limits.set("current_limit_a.1", 10))
    assert caught.value.refusal is Refusal.NOT_CAPABLE


def test_a_charger_that_is_away_is_unavailable() -> None:
    _, state, limits, _ = _charger()
    state.connection = None
    with pytest.raises(Unavailable):
        asyncio.run(limits.set("current_limit_a", 10))
