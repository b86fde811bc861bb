"""A charger as a whole: boot and set-up, status and values as signals, faults, silence, and an answer to everything."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.errors import NoAnswer, Unavailable
from agent.core.points import CHARGER_STATUS
from drivers.codec.ocpp_model import Version
from drivers.ocpp.charger import charger_specs
from drivers.ocpp.ports import Fault, Payload
from drivers.ocpp.quirks import Quirks
from drivers.ocpp.settings import ChargerSettings
from tests.ocpp_asked import accept
from tests.ocpp_fakes import SCHEMAS, Rig, Site
from tests.ocpp_schemas import FROM_CHARGER, calls

Scene = Callable[[Rig], Awaitable[None]]
BOOT = {"chargePointVendor": "Acme", "chargePointModel": "One", "firmwareVersion": "1.0"}


def play(scene: Scene, rig: Rig | None = None) -> Rig:
    rig = rig or Rig()

    async def run() -> None:
        async with rig:
            await scene(rig)

    asyncio.run(run())
    return rig


# --- every message is answered ---


def _ask_all(version: Version, messages: list[tuple[str, dict[str, object]]]) -> None:
    async def scene(rig: Rig) -> None:
        for action, payload in messages:
            await rig.ask(action, payload)

    play(scene, Rig(Site("any"), version, outlets=2))


_QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@_QUICK
@given(st.lists(calls("v16"), max_size=12))
def test_every_valid_message_of_16_is_answered(messages: list[tuple[str, dict[str, object]]]) -> None:
    _ask_all(Version.V16, messages)


@_QUICK
@given(st.lists(calls("v201"), max_size=12))
def test_every_valid_message_of_201_is_answered(messages: list[tuple[str, dict[str, object]]]) -> None:
    _ask_all(Version.V201, messages)


@_QUICK
@given(st.lists(calls("v21"), max_size=12))
def test_every_valid_message_of_21_is_answered(messages: list[tuple[str, dict[str, object]]]) -> None:
    _ask_all(Version.V21, messages)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def _broken(draw: st.DrawFn, version: str) -> tuple[str, dict[str, object]]:
    action, payload = draw(calls(version))
    payload = dict(payload)
    for name in draw(st.lists(st.sampled_from([*payload, "idTag", "transactionId"]), max_size=3)):
        if draw(st.booleans()):
            payload.pop(name, None)
        else:
            payload[name] = draw(_JSON)
    return action, payload


@pytest.mark.parametrize("version", [Version.V16, Version.V201])
@_QUICK
@given(data=st.data())
def test_broken_messages_are_answered_too(version: Version, data: st.DataObject) -> None:
    name = "v16" if version is Version.V16 else "v201"
    messages = data.draw(st.lists(_broken(name), max_size=10))

    async def scene(rig: Rig) -> None:
        for action, payload in messages:
            answer = await rig.handle(action, payload, SCHEMAS.deviation(version, action, payload))
            assert not isinstance(answer, Fault)
            assert not SCHEMAS.deviation(version, action, answer, result=True)

    play(scene, Rig(Site("any"), version))


@pytest.mark.parametrize(("version", "name"), [(Version.V16, "v16"), (Version.V201, "v201"), (Version.V21, "v21")])
def test_nothing_that_a_charger_may_ask_is_unknown(version: Version, name: str) -> None:
    async def scene(rig: Rig) -> None:
        for action in FROM_CHARGER[name]:
            answer = await rig.handle(action, {}, "empty")
            assert not (isinstance(answer, Fault) and answer.code == "NotImplemented"), action
        assert await rig.handle("Reset", {}) == Fault("NotImplemented", "nobody knows Reset here")

    play(scene, Rig(version=version))


# --- boot and set-up ---


def test_a_boot_is_accepted_remembered_and_set_up() -> None:
    known = [Quirks("other", vendor="Nobody"), Quirks("acme", vendor="acme")]

    async def scene(rig: Rig) -> None:
        answer = await rig.ask("BootNotification", BOOT)
        assert (answer["status"], answer["interval"]) == ("Accepted", 60)
        assert not rig.link.sent("SetChargingProfile")  # the answer leaves first
        await rig.advance(2, 0.1)
        assert rig.link.sent("SetChargingProfile")
        assert rig.charger.quirks.name == "acme"
        assert rig.value("current_limit_a") == 6
        assert rig.value("charging_enabled") == 1

    rig = play(scene, Rig(quirks=known))
    (booted,) = rig.told("charger.booted")
    assert (booted["model"], booted["profile"]) == ("One", "acme")

    again = Rig(rig.site, quirks=known)
    assert again.charger.boot is not None
    assert (again.charger.boot.vendor, again.charger.quirks.name) == ("Acme", "acme")


def test_a_charger_that_does_not_boot_is_what_it_was_or_is_asked_once() -> None:
    async def unknown(rig: Rig) -> None:
        await rig.advance(9)
        assert not rig.link.asked
        await rig.advance(2)
        assert rig.link.sent("TriggerMessage") == [{"requestedMessage": "BootNotification"}]
        await rig.ask("BootNotification", BOOT)
        await rig.advance(5)
        assert rig.link.sent("SetChargingProfile")
        await rig.disconnect()
        await rig.connect()
        await rig.advance(12)
        assert not [one for one in rig.link.sent("TriggerMessage") if one["requestedMessage"] == "BootNotification"]
        assert rig.link.sent("SetChargingProfile")

    play(unknown)


def test_nobody_is_let_in_before_the_safe_limit_but_not_for_long() -> None:
    async def scene(rig: Rig) -> None:
        rig.charger.limits.connected()
        asking = asyncio.create_task(rig.ask("Authorize", {"idTag": "AABB"}))
        await rig.advance(2)
        assert not asking.done()
        await rig.advance(1)
        assert (await asking)["idTagInfo"] == {"status": "Accepted"}
        rig.charger.limits.connected()
        asking = asyncio.create_task(rig.ask("Authorize", {"idTag": "AABB"}))
        await rig.ask("BootNotification", BOOT)
        await rig.advance(1, 0.1)
        assert asking.done()
        await asking

    play(scene)


def test_without_a_connection_it_can_not_be_reached() -> None:
    rig = Rig()
    with pytest.raises(Unavailable):
        _ = rig.charger.link


# --- signals ---


def test_the_signals_of_one_outlet_and_of_two() -> None:
    one = {spec.name for spec in charger_specs(ChargerSettings("cp", "CP"))}
    two = {spec.name for spec in charger_specs(ChargerSettings("cp", "CP", outlets=2))}
    assert {"charger_status", "power_w", "session_energy_wh", "current_limit_a"} <= one
    assert {"charger_status", "charger_status.1", "power_w.2", "current_limit_a", "current_limit_a.2"} <= two
    assert "power_w" not in two


def _values(rig: Rig, **values: float) -> dict[str, object]:
    names = {"power": ("Power.Active.Import", "W"), "current": ("Current.Import", "A"), "soc": ("SoC", "Percent")}
    sampled = [
        {"value": str(value), "measurand": names[name][0], "unit": names[name][1]}
        | ({"phase": "L1"} if name == "current" else {})
        for name, value in values.items()
    ]
    return {"connectorId": 1, "meterValue": [{"timestamp": rig.at(), "sampledValue": sampled}]}


def test_values_become_unknown_when_no_sample_comes() -> None:
    async def scene(rig: Rig) -> None:
        await rig.start16()
        await rig.status16("Charging")
        for _ in range(2):
            await rig.ask("MeterValues", _values(rig, power=7000, current=10.5))
            await rig.advance(10)
        assert (rig.value("power_w"), rig.value("current_l1_a")) == (7000, 10.5)
        await rig.advance(12)
        assert (rig.value("power_w"), rig.value("current_l1_a")) == (None, None)
        await rig.ask("MeterValues", _values(rig, power=6000))
        assert rig.value("power_w") == 6000

    play(scene)


def test_a_charger_of_2_x_as_a_whole_is_what_its_outlets_come_to() -> None:
    async def scene(rig: Rig) -> None:
        async def told(evse: int, status: str) -> None:
            at = {"timestamp": rig.at(), "connectorStatus": status, "evseId": evse, "connectorId": 1}
            await rig.ask("StatusNotification", at)

        for evse, status, whole in (
            (1, "Available", "Available"),
            (2, "Occupied", "Available"),
            (1, "Unavailable", "Available"),
            (2, "Faulted", "Unavailable"),
            (1, "Faulted", "Faulted"),
            (2, "Available", "Available"),
        ):
            await told(evse, status)
            assert rig.value("charger_status") == CHARGER_STATUS.index(whole)
        assert "plugged" not in {spec.name for spec in rig.sink.declared}, "that is said of each outlet"
        await rig.disconnect()
        await rig.advance(60, 5)
        assert rig.value("charger_status") is None

    play(scene, Rig(version=Version.V201, outlets=2))


def test_a_charger_that_speaks_of_itself_is_believed() -> None:
    async def scene(rig: Rig) -> None:
        await rig.status16("Available", outlet=1)
        assert rig.value("charger_status") == CHARGER_STATUS.index("Available")
        await rig.status16("Unavailable", outlet=0)
        await rig.status16("Available", outlet=2)
        assert rig.value("charger_status") == CHARGER_STATUS.index("Unavailable")

    play(scene, Rig(outlets=2))


def test_a_silent_charger_is_told_once_and_all_is_unknown() -> None:
    async def scene(rig: Rig) -> None:
        await rig.status16("Charging")
        await rig.ask("MeterValues", _values(rig, power=7000))
        await rig.meter16(5)
        await rig.disconnect()
        await rig.advance(5)
        assert rig.value("power_w") == 7000
        await rig.advance(60, 5)
        for name in ("power_w", "charger_status", "plugged", "energy_import_wh"):
            assert rig.value(name) is None
        await rig.connect()
        await rig.status16("Available")
        assert rig.value("power_w") == 0

    rig = play(scene)
    told = [kind for kind in rig.kinds() if kind.startswith("device.")]
    assert told == ["device.online", "device.silent", "device.heard"]


def test_a_short_absence_is_no_news() -> None:
    async def scene(rig: Rig) -> None:
        for _ in range(3):
            await rig.disconnect()
            await rig.advance(10)
            await rig.connect()
            await rig.advance(10)

    assert [kind for kind in play(scene).kinds() if kind.startswith("device.")] == ["device.online"]


def test_faults_have_two_edges() -> None:
    async def scene(rig: Rig) -> None:
        await rig.status16("Available")
        for _ in range(2):
            await rig.status16("Faulted", "GroundFailure")
        assert rig.value("plugged") is None
        await rig.status16("Available")
        await rig.status16("Available")

    rig = play(scene)
    faults = [event for event in rig.sink.events if event.kind.startswith("charger.fault")]
    assert [(event.kind, event.data["error"]) for event in faults] == [
        ("charger.fault", "GroundFailure"),
        ("charger.fault_ended", "GroundFailure"),
    ]


def test_deviations_are_told_once_for_each_connection() -> None:
    async def scene(rig: Rig) -> None:
        for _ in range(2):
            for _ in range(3):
                await rig.handle("Heartbeat", {"x": 1}, "unknown property")
            await rig.disconnect()
            await rig.connect()

    assert len(play(scene).told("charger.deviates")) == 2


def test_an_outlet_that_stays_finishing_is_reset_where_its_model_needs_that() -> None:
    async def scene(rig: Rig) -> None:
        await rig.status16("Finishing")
        await rig.advance(70, 5)
        assert rig.link.sent("Reset") == [{"type": "Soft"}]
        await rig.advance(200, 5)
        assert len(rig.link.sent("Reset")) == 1

    settings_ = {"quirks": [Quirks("autel", reset_when_finishing_s=60)], "profile": "autel"}
    play(scene, Rig(**settings_))  # type: ignore[arg-type]


def in_force(rig: Rig) -> tuple[object, object]:
    return rig.value("current_limit_a"), rig.value("charging_enabled")


async def boot(rig: Rig) -> None:
    await rig.ask("BootNotification", BOOT)
    await rig.advance(2)


def test_what_was_set_in_amperes_is_set_in_watts_where_the_charger_turns_out_to_count_in_them() -> None:
    def answer(action: str, payload: Payload) -> Payload:
        if action == "GetConfiguration":
            key = {"key": "ChargingScheduleAllowedChargingRateUnit", "readonly": True, "value": "Power"}
            return {"configurationKey": [key]}
        return accept(action, payload)

    async def scene(rig: Rig) -> None:
        await rig.ask("BootNotification", BOOT)
        await rig.advance(20)
        profiles = [one["csChargingProfiles"] for one in rig.link.sent("SetChargingProfile")]
        stands = {one["chargingProfileId"]: one["chargingSchedule"] for one in profiles}  # type: ignore[index]
        limits = {number: (one["chargingRateUnit"], one["chargingSchedulePeriod"]) for number, one in stands.items()}
        assert limits == {4101: ("W", [{"startPeriod": 0, "limit": 4140}])}
        assert len(profiles) == 2, "once in each"

    play(scene, Rig(answer=answer))


def test_what_is_in_force_is_shown_until_it_has_ended() -> None:
    async def scene(rig: Rig) -> None:
        await boot(rig)
        assert in_force(rig) == (6, 1)
        await rig.charger.limits.set("current_limit_a", 16)
        assert in_force(rig) == (16, 1)
        await rig.charger.limits.set("charging_enabled", 0)
        assert in_force(rig) == (0, 0)
        await rig.advance(250, 5)  # repeated meanwhile
        rig.charger.limits.release()
        await rig.advance(240, 5)
        assert in_force(rig) == (0, 0)
        await rig.advance(65, 5)
        assert in_force(rig) == (6, 1)

    play(scene)


def test_what_is_in_force_is_known_again_after_a_lost_connection_and_after_a_boot() -> None:
    async def scene(rig: Rig) -> None:
        await boot(rig)
        await rig.charger.limits.set("current_limit_a", 16)
        await rig.disconnect()
        await rig.advance(31)
        assert in_force(rig) == (None, None)
        await rig.connect()
        await rig.advance(2)
        assert in_force(rig) == (16, 1)
        await rig.ask("BootNotification", BOOT)
        await rig.settle()
        await rig.advance(0.05)
        assert rig.charger.limits.in_force() == {"current_limit_a": None, "charging_enabled": None}
        await rig.advance(2)
        assert in_force(rig) == (16, 1)

    play(scene)


def test_what_is_in_force_is_not_known_after_an_error_that_leaves_it_open() -> None:
    def answer(action: str, payload: Payload) -> Payload:
        if action == "SetChargingProfile" and "'limit': 16" in str(payload):
            raise NoAnswer("set", "no answer")
        return accept(action, payload)

    async def scene(rig: Rig) -> None:
        await boot(rig)
        with pytest.raises(NoAnswer):
            await rig.charger.limits.set("current_limit_a", 16)
        assert in_force(rig) == (None, None)
        await rig.advance(305, 5)
        assert in_force(rig) == (6, 1)

    play(scene, Rig(answer=answer))


def test_after_a_restart_of_the_gateway_an_older_limit_may_hold() -> None:
    async def first(rig: Rig) -> None:
        await boot(rig)
        await rig.charger.limits.set("current_limit_a", 16)

    async def second(rig: Rig) -> None:
        await boot(rig)
        assert rig.charger.limits.in_force()["current_limit_a"] is None
        await rig.advance(305, 5)
        assert in_force(rig) == (6, 1)

    site = Site()
    play(first, Rig(site))
    site.restart()
    play(second, Rig(site))


def test_the_whole_may_draw_what_its_outlets_may_and_no_more_than_was_set() -> None:
    async def scene(rig: Rig) -> None:
        await boot(rig)
        assert rig.value("current_limit_a") == 12
        await rig.charger.limits.set("current_limit_a.1", 16)
        assert rig.value("current_limit_a") == 22
        await rig.charger.limits.set("current_limit_a", 20)
        assert [rig.value(f"current_limit_a{one}") for one in ("", ".1", ".2")] == [20, 16, 6]
        await rig.charger.limits.set("charging_enabled.1", 0)
        assert [rig.value(f"charging_enabled{one}") for one in ("", ".1", ".2")] == [1, 0, 1]

    play(scene, Rig(outlets=2))


def test_an_outlet_that_is_switched_off_lets_nobody_begin() -> None:
    async def scene(rig: Rig) -> None:
        await rig.charger.limits.set("charging_enabled", 0)
        start = {"connectorId": 1, "idTag": "AABB", "meterStart": 5, "timestamp": rig.at()}
        assert (await rig.ask("StartTransaction", start))["idTagInfo"] == {"status": "Blocked"}

    play(scene, Rig(off="stop"))


def test_security_events_are_told() -> None:
    async def scene(rig: Rig) -> None:
        await rig.ask("SecurityEventNotification", {"type": "SettingSystemTime", "timestamp": rig.at()})

    (event,) = play(scene).told("charger.security")
    assert event["type"] == "SettingSystemTime"


def test_the_ping_of_a_model_is_that_of_its_connections() -> None:
    async def scene(rig: Rig) -> None:
        before = rig.link.ping_s
        assert before is None
        await rig.ask("BootNotification", BOOT)
        assert rig.link.ping_s == 17
        await rig.disconnect()
        await rig.connect()
        assert rig.link.ping_s == 17

    play(scene, Rig(quirks=[Quirks("acme", vendor="acme", ping_s=17)]))


def test_power_is_nothing_as_soon_as_no_energy_flows() -> None:
    """Chargers send no last sample when a session ends: what they sent before would stand for another minute."""

    async def scene(rig: Rig) -> None:
        await rig.status16("Charging")
        number = await rig.start16()
        values = [
            {"value": "7000", "measurand": "Power.Active.Import", "unit": "W"},
            {"value": "10.5", "measurand": "Current.Import", "phase": "L1", "unit": "A"},
        ]
        meter = {
            "connectorId": 1,
            "transactionId": number,
            "meterValue": [{"timestamp": rig.at(), "sampledValue": values}],
        }
        await rig.ask("MeterValues", meter)
        assert (rig.value("power_w"), rig.value("current_l1_a")) == (7000, 10.5)
        await rig.stop16(number, 1100)
        await rig.status16("Available")
        assert (rig.value("power_w"), rig.value("current_l1_a")) == (0, None)

    play(scene)


def test_what_we_start_is_let_in_but_not_with_a_blocked_tag() -> None:
    async def scene(rig: Rig) -> None:
        tags = rig.site.id_tags
        await rig.site.notebook.write("id_tag", "bad", {"status": "Blocked"})
        tags.expect("cp", "NEW")
        tags.expect("cp", "BAD")
        assert await tags.verdict("NEW", device="cp") == "Accepted"
        assert await tags.verdict("BAD", device="cp") == "Blocked"

    play(scene)


def test_a_status_that_nobody_understands_is_not_that_of_the_charger_as_a_whole() -> None:
    async def scene(rig: Rig) -> None:
        await rig.status16("Available", outlet=0)
        assert rig.status() == "Available"
        await rig.start16()
        await rig.status16("Charging")
        await rig.handle("StatusNotification", {"connectorId": 1, "status": "Derated", "errorCode": "NoError"})
        assert (rig.status(), rig.value("plugged"), rig.value("power_w")) == (None, None, None)
        await rig.advance(400, 10)
        assert rig.charger.transaction(1) is not None, "nobody said that its vehicle has left"
        await rig.status16("Faulted", "OtherError", outlet=0)
        assert rig.status() == "Faulted"

    play(scene)


def test_the_zone_of_the_site_changes_while_the_charger_is_connected() -> None:
    async def scene(rig: Rig) -> None:
        first = await rig.start16(at="2023-11-14T22:13:20")
        await rig.stop16(first, 1000)
        rig.charger.in_zone("America/Mexico_City")
        await rig.start16(at="2023-11-14T16:13:20")

    rig = play(scene)
    assert [(row.start_us, row.data.get("time_quality")) for row in rig.rows] == [(1_700_000_000_000_000, None)] * 2


def test_an_outlet_that_is_not_configured_is_told_once_and_gives_no_values() -> None:
    async def scene(rig: Rig) -> None:
        await rig.status16("Available")
        for _ in range(2):
            await rig.status16("Available", outlet=2)
        await rig.meter16(1000)
        await rig.meter16(7777, outlet=2)
        assert rig.value("energy_import_wh") == 1000

    rig = play(scene)
    assert rig.told("charger.mismatch") == [{"reason": "it has 2, configured are 1"}]
