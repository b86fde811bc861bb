"""Sessions of OCPP 2.x chargers: TransactionEvents that come in order, twice, late, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from drivers.codec.ocpp_model import Version
from tests.ocpp_fakes import Rig, Site

Scene = Callable[[Rig], Awaitable[None]]


def play(scene: Scene, site: Site | None = None, **settings: object) -> Rig:
    rig = Rig(site, Version.V201, **settings)  # type: ignore[arg-type]

    async def run() -> None:
        async with rig:
            await scene(rig)

    asyncio.run(run())
    return rig


async def status(rig: Rig, word: str) -> None:
    payload = {"timestamp": rig.at(), "connectorStatus": word, "evseId": 1, "connectorId": 1}
    await rig.ask("StatusNotification", payload)


TOKEN = {"idToken": "aabb", "type": "ISO14443"}


def test_a_session_from_plug_to_unplug() -> None:
    async def scene(rig: Rig) -> None:
        await status(rig, "Available")
        await status(rig, "Occupied")
        assert rig.status() == "Preparing"
        assert await rig.event201("Started", 0, 1000, chargingState="EVConnected") == {}
        await rig.advance(5)
        answer = await rig.event201("Updated", 1, idToken=TOKEN, chargingState="Charging")
        assert answer == {"idTokenInfo": {"status": "Accepted"}}
        assert rig.status() == "Charging"
        assert rig.charger.transaction(1) == "T1"
        await rig.advance(5)
        await rig.event201("Updated", 2, 1500, chargingState="SuspendedEV")
        assert (rig.status(), rig.value("session_energy_wh")) == ("SuspendedEV", 500)
        await rig.advance(5)
        answer = await rig.event201("Ended", 3, 1750, stoppedReason="EVDisconnected", idToken=TOKEN)
        assert answer == {"idTokenInfo": {"status": "Accepted"}}
        assert rig.status() == "Finishing"
        await status(rig, "Available")
        assert (rig.status(), rig.value("plugged"), rig.value("power_w")) == ("Available", 0, 0)

    rig = play(scene)
    (row,) = rig.rows
    assert (row.remote_id, row.id_tag, row.start_wh, row.energy_wh, row.reason) == (
        "T1",
        "aabb",
        1000,
        750,
        "EVDisconnected",
    )
    assert rig.site.sessions.kinds() == ["session.started", "auth.accepted", "session.ended"]


def test_what_comes_twice_is_one_also_after_a_restart() -> None:
    site = Site()
    at = Rig(site).at()

    async def scene(rig: Rig) -> None:
        for _ in range(2):
            await rig.event201("Started", 0, 1000, at=at, idToken=TOKEN)
            await rig.event201("Updated", 1, 1100, at=rig.at(1))
        for _ in range(2):
            await rig.event201("Ended", 2, 1200, at=rig.at(2))
        await rig.event201("Started", 0, 1000, at=at, idToken=TOKEN)

    play(scene, site)
    before = dict(site.sessions.rows)
    site.restart()
    play(scene, site)
    assert site.sessions.rows == before
    assert [row.energy_wh for row in before.values()] == [200]
    assert site.sessions.kinds() == ["session.started", "auth.accepted", "session.ended"]


def test_an_update_makes_the_session_and_its_start_completes_it() -> None:
    async def scene(rig: Rig) -> None:
        await rig.event201("Updated", 1, 1100, at=rig.at(-20))
        assert rig.rows[0].data["begun"] == "unseen"
        await rig.event201("Started", 0, 1000, at=rig.at(-30), idToken=TOKEN)
        await rig.event201("Ended", 2, 1250, at=rig.at(-10))

    rig = play(scene)
    (row,) = rig.rows
    assert (row.energy_wh, row.start_wh, row.id_tag) == (250, 1000, "aabb")
    assert row.stop_us is not None
    assert row.stop_us - row.start_us == 20_000_000


def test_a_session_that_is_authorised_before_the_vehicle_is_plugged_in_comes_to_its_outlet() -> None:
    async def scene(rig: Rig) -> None:
        nowhere: dict[str, object] = {"id": 0}
        for number in (1, 2):
            payload = {"timestamp": rig.at(), "connectorStatus": "Available", "evseId": number, "connectorId": 1}
            await rig.ask("StatusNotification", payload)
        await rig.event201("Started", 0, idToken=TOKEN, evse=nowhere)
        assert rig.rows[0].outlet == 0
        await rig.advance(5)
        evse = {"id": 2, "connectorId": 1}
        await rig.event201("Updated", 1, 1000, evse=evse, chargingState="Charging")
        await rig.advance(5)
        await rig.event201("Updated", 2, 1400, evse=evse)
        assert [rig.charger.transaction(outlet) for outlet in (0, 1, 2)] == [None, None, "T1"]
        assert (rig.value("session_energy_wh.2"), rig.value("charging.2"), rig.value("charging.1")) == (400, 1, 0)
        await rig.advance(400)  # the charger as a whole is "available" all the time
        assert rig.rows[0].running
        await rig.event201("Ended", 3, 1500, evse=evse, stoppedReason="Local")

    (row,) = (rig := play(scene, outlets=2)).rows
    assert (row.outlet, row.id_tag, row.energy_wh) == (2, "aabb", 500)
    assert rig.site.sessions.kinds() == ["session.started", "auth.accepted", "session.ended"]


def test_a_session_that_comes_to_its_outlet_ends_an_older_one_there() -> None:
    async def scene(rig: Rig) -> None:
        await rig.event201("Started", 0, 1000, transactionInfo={"transactionId": "T0"}, idToken=TOKEN)
        await rig.advance(5)
        nowhere: dict[str, object] = {"id": 0}
        await rig.event201("Started", 0, evse=nowhere)
        assert [row.running for row in rig.rows] == [True, True]
        await rig.event201("Updated", 1, 1200)

    old, new = play(scene, outlets=2).rows
    assert (old.running, old.reason, new.running, new.outlet) == (False, "Lost", True, 1)


def test_an_end_is_a_session_of_its_own_until_its_start_comes() -> None:
    async def scene(rig: Rig) -> None:
        at = rig.at(-10)
        for _ in range(2):
            await rig.event201("Ended", 5, 1250, at=at)
        assert not rig.rows[0].running
        await rig.event201("Started", 0, 1000, at=rig.at(-30))

    (row,) = play(scene).rows
    assert (row.energy_wh, row.running) == (250, False)


def test_a_name_that_is_used_again_is_another_session() -> None:
    async def scene(rig: Rig) -> None:
        await rig.event201("Started", 0, 1000, at=rig.at(-50))
        await rig.event201("Ended", 1, 1010, at=rig.at(-40))
        await rig.event201("Started", 0, 0, at=rig.at(-30))
        await rig.event201("Ended", 1, 7, at=rig.at(-20))

    assert [row.energy_wh for row in play(scene).rows] == [10, 7]


def test_tokens_that_nobody_presented_and_tokens_of_ours() -> None:
    async def scene(rig: Rig) -> None:
        nobody = {"idToken": "", "type": "NoAuthorization"}
        assert (await rig.ask("Authorize", {"idToken": nobody})) == {"idTokenInfo": {"status": "Accepted"}}
        ours = {"idToken": "SITE", "type": "Central"}
        assert (await rig.ask("Authorize", {"idToken": ours})) == {"idTokenInfo": {"status": "Invalid"}}
        await rig.charger.act("start", {"id_tag": "SITE", "outlet": 1})
        assert await rig.event201("Started", 0, 5, idToken=ours) == {"idTokenInfo": {"status": "Accepted"}}

    play(scene)


def test_replayed_offline_transactions_keep_their_order_and_times() -> None:
    async def scene(rig: Rig) -> None:
        for number in range(100):
            begun = -50_000 + number * 100
            info = {"transactionId": f"T{number}"}
            for kind, seq, seconds in (("Started", 0, 0), ("Updated", 1, 30), ("Ended", 2, 60)):
                sampled = [{"value": 1000 * number + seq * 3}]
                at = rig.at(begun + seconds)
                payload = {
                    "eventType": kind,
                    "timestamp": at,
                    "triggerReason": "Trigger",
                    "seqNo": seq,
                    "offline": True,
                    "transactionInfo": info,
                    "evse": {"id": 1},
                    "meterValue": [{"timestamp": at, "sampledValue": sampled}],
                }
                await rig.ask("TransactionEvent", payload)

    rig = play(scene)
    assert len(rig.rows) == 100
    assert {row.energy_wh for row in rig.rows} == {6}
    assert rig.site.sessions.kinds().count("session.ended") == 100
    assert not rig.sink.rows


@pytest.mark.parametrize("action", ["BootNotification", "StatusNotification", "StartTransaction"])
def test_messages_of_16_on_a_connection_of_201(action: str) -> None:
    payloads: dict[str, dict[str, object]] = {
        "BootNotification": {"chargePointVendor": "Fox", "chargePointModel": "A"},
        "StatusNotification": {"connectorId": 1, "status": "Charging", "errorCode": "NoError"},
        "StartTransaction": {"connectorId": 1, "idTag": "AABB", "meterStart": 3, "timestamp": "2023-11-14T22:13:20Z"},
    }

    async def scene(rig: Rig) -> None:
        await rig.ask(action, payloads[action], Version.V16)
        if action == "StatusNotification":
            assert rig.value("charging") == 1

    rig = play(scene)
    if action == "StartTransaction":
        assert rig.rows[0].start_wh == 3
    elif action == "BootNotification":
        assert rig.told("charger.booted")[0]["vendor"] == "Fox"


def test_what_a_charger_says_was_offline_has_its_own_times_whenever_it_comes() -> None:
    async def scene(rig: Rig) -> None:
        for seconds, word, wh in ((-3600, "Started", 1000), (-3000, "Updated", 1500), (-2400, "Ended", 2000)):
            await rig.advance(5)  # no queue that is emptied at one stretch, and no word of the charger's clock yet
            at = rig.at(seconds)
            await rig.event201(word, 0, wh, at=at, offline=True, chargingState="Charging")
        with pytest.raises(KeyError):
            rig.status()  # it is no news

    begin_us = Site().clock.now_us()
    (row,) = play(scene).rows
    assert row.stop_us is not None
    assert round((row.start_us - begin_us) / 1e6) == -3595
    assert (round((row.stop_us - row.start_us) / 1e6), row.energy_wh) == (1210, 1000)
    assert "time_quality" not in row.data


def test_a_charger_that_says_available_while_it_charges() -> None:
    async def scene(rig: Rig) -> None:
        await status(rig, "Available")
        await rig.event201("Started", 0, 5, chargingState="Charging", idToken=TOKEN)
        assert (rig.status(), rig.value("plugged"), rig.value("charging")) == ("Charging", 1, 1)
        await rig.advance(600, 30)
        assert rig.charger.transaction(1) == "T1"

    play(scene)


def test_of_a_sample_with_begin_and_end_the_end_is_the_register_of_the_end() -> None:
    async def scene(rig: Rig) -> None:
        await rig.event201("Started", 0, 1000, idToken=TOKEN)
        at = rig.at(600)
        sampled = [
            {"value": 1000, "context": "Transaction.Begin"},
            {"value": 1200, "context": "Sample.Periodic"},
            {"value": 1350, "context": "Transaction.End"},
        ]
        await rig.event201("Ended", 1, at=at, meterValue=[{"timestamp": at, "sampledValue": sampled}])

    (row,) = play(scene).rows
    assert (row.energy_wh, row.last_wh) == (350, 1350)


@pytest.mark.parametrize("more", [{}, {"connectorId": 1}])
def test_meter_values_of_2x_are_those_also_with_a_members_of_16(more: dict[str, object]) -> None:
    async def scene(rig: Rig) -> None:
        sampled = [{"value": 7.2, "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "W", "multiplier": 3}}]
        entry = {"timestamp": rig.at(), "sampledValue": sampled}
        await rig.ask("MeterValues", {"evseId": 2, "meterValue": [entry], **more})
        assert rig.value("power_w.2") == 7200

    play(scene, outlets=2)


def test_no_tag_stands_in_an_event_whatever_its_members_are_called() -> None:
    async def scene(rig: Rig) -> None:
        token = {"IDTOKEN": "SECRET-1", " idtoken ": "SECRET-2", "groupidtoken": {"IdToken": "SECRET-3"}, "type": "X"}
        await rig.handle("TransactionEvent", {"IdToken": token, "IDTAG": ["SECRET-4"], "parentidtag": "SECRET-5"})

    rig = play(scene)
    (kept,) = [event for event in rig.site.notebook.events if event.kind == "charger.unprocessed"]
    assert "SECRET" not in str(kept.data)


def test_a_vehicle_whose_charging_was_stopped_only_waits_to_be_unplugged() -> None:
    async def scene(rig: Rig) -> None:
        async def updated(seq: int, trigger: str, state: str) -> object:
            await rig.event201("Updated", seq, triggerReason=trigger, chargingState=state)
            return rig.status()

        await status(rig, "Occupied")
        await rig.event201("Started", 0, 1000, idToken=TOKEN, chargingState="EVConnected")
        assert rig.status() == "Preparing"
        assert await updated(1, "ChargingStateChanged", "Charging") == "Charging"
        assert await updated(2, "StopAuthorized", "EVConnected") == "Finishing"
        assert await updated(3, "ChargingStateChanged", "EVConnected") == "Finishing"
        assert await updated(4, "Authorized", "EVConnected") == "Preparing"
        assert await updated(5, "RemoteStop", "Charging") == "Charging"
        assert await updated(6, "ChargingStateChanged", "EVConnected") == "Finishing"
        await rig.event201("Ended", 7, 1100, stoppedReason="Remote")
        assert rig.status() == "Finishing"
        await status(rig, "Available")
        assert rig.status() == "Available"

    play(scene)
