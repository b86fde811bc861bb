"""Sessions of OCPP 1.6 chargers: what is stored, answered and told, whatever comes twice, late or never."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from drivers.codec.ocpp_model import TimeQuality
from tests.ocpp_fakes import Rig, Site

Scene = Callable[[Rig], Awaitable[None]]


def play(scene: Scene, site: Site | None = None, **settings: object) -> Rig:
    rig = Rig(site, **settings)  # type: ignore[arg-type]

    async def run() -> None:
        async with rig:
            await scene(rig)

    asyncio.run(run())
    return rig


def test_a_session_from_plug_to_unplug() -> None:
    async def scene(rig: Rig) -> None:
        await rig.status16("Available")
        assert rig.value("power_w") == 0
        await rig.status16("Preparing")
        answer = await rig.ask("Authorize", {"idTag": "aabb"})
        assert answer == {"idTagInfo": {"status": "Accepted"}}
        number = await rig.start16(meter=5_000_000)
        await rig.status16("Charging")
        assert (rig.value("plugged"), rig.value("charging")) == (1, 1)
        await rig.advance(10)
        await rig.meter16(5_000_020, number)
        assert rig.value("energy_import_wh") == 5_000_020
        assert rig.value("session_energy_wh") == 20
        await rig.advance(10)
        assert rig.charger.transaction(1) == str(number)
        assert await rig.stop16(number, 5_000_041, reason="EVDisconnected") == {"idTagInfo": {"status": "Accepted"}}
        assert rig.charger.transaction(1) is None
        await rig.status16("Available")
        assert (rig.value("plugged"), rig.value("charging"), rig.value("power_w")) == (0, 0, 0)
        assert rig.value("session_energy_wh") is None

    rig = play(scene)
    (row,) = rig.rows
    assert (row.outlet, row.id_tag, row.start_wh, row.last_wh, row.energy_wh) == (1, "AABB", 5_000_000, 5_000_041, 41)
    assert row.reason == "EVDisconnected"
    assert row.stop_us is not None
    assert row.stop_us - row.start_us == 20_000_000
    assert rig.site.sessions.kinds() == ["session.started", "auth.accepted", "session.ended"]
    (ended,) = rig.told("session.ended")
    assert ended["session"] == row.id
    assert ended["energy_wh"] == 41
    assert "AABB" not in str([event.data for event in (*rig.sink.events, *rig.site.sessions.events)])


def test_the_same_start_is_one_session() -> None:
    async def scene(rig: Rig) -> None:
        at = rig.at(-5)
        first = await rig.start16(at=at)
        assert await rig.start16(at=at) == first
        await rig.stop16(first, 1010)
        assert await rig.start16(at=at) == first  # it never heard our answer, and its stop came first
        assert await rig.start16(at=rig.at()) != first

    rig = play(scene)
    assert len(rig.rows) == 2
    assert rig.site.sessions.kinds().count("session.started") == 2


def test_a_start_with_a_clock_that_was_never_set_is_another_one_after_its_end() -> None:
    async def scene(rig: Rig) -> None:
        first = await rig.start16(at="1970-01-01T00:00:10Z", meter=7)
        assert await rig.start16(at="1970-01-01T00:00:10Z", meter=7) == first
        await rig.stop16(first, 7, at="1970-01-01T00:00:20Z")
        second = await rig.start16(at="1970-01-01T00:00:10Z", meter=7)
        assert second != first
        assert await rig.start16(at="1970-01-01T00:00:10Z", meter=7) == second

    rig = play(scene)
    first, second = rig.rows
    assert first.data["time_quality"] == TimeQuality.UNSET
    assert first.data["told"] == "1970-01-01T00:00:10Z"
    assert first.start_us > 1_600_000_000_000_000
    assert first.key != second.key


def test_a_stop_that_comes_again_changes_nothing_also_after_a_restart() -> None:
    site = Site()

    async def scene(rig: Rig) -> None:
        number = await rig.start16()
        at = rig.at()
        await rig.stop16(number, 1100, at=at)
        await rig.stop16(number, 1100, at=at)

    async def again(rig: Rig) -> None:
        await rig.stop16(101, 1100, at=rig.at())

    play(scene, site)
    stored = dict(site.sessions.rows)
    site.restart()
    play(again, site)
    assert site.sessions.rows == stored
    assert site.sessions.kinds().count("session.ended") == 1


@pytest.mark.parametrize("name", [0, -1, 4711])
def test_a_stop_with_a_name_that_we_never_gave_ends_the_session_that_runs(name: int) -> None:
    async def scene(rig: Rig) -> None:
        await rig.start16(meter=1000)
        await rig.advance(10)
        await rig.meter16(1020, name)
        assert rig.charger.transaction(1) == str(name)  # a remote stop must name what the charger knows
        at = rig.at()
        await rig.stop16(name, 1040, at=at)
        await rig.stop16(name, 1040, at=at)

    rig = play(scene)
    (row,) = rig.rows
    assert (row.energy_wh, row.running) == (40, False)


def test_a_stop_of_another_time_is_a_record_of_its_own() -> None:
    async def scene(rig: Rig) -> None:
        number = await rig.start16(meter=1000)
        for _ in range(2):
            assert await rig.stop16(99, 800, at=rig.at(-3600)) == {"idTagInfo": {"status": "Accepted"}}
        assert rig.charger.transaction(1) == str(number)

    rig = play(scene)
    running, unmatched = rig.rows
    assert running.running
    assert unmatched.data["unmatched"] == 99
    assert (unmatched.running, unmatched.energy_wh, unmatched.last_wh) == (False, None, 800)


def test_a_stop_that_is_said_again_with_another_time_ends_no_other_session() -> None:
    async def scene(rig: Rig) -> None:
        first = await rig.start16(meter=1000)
        await rig.advance(10)
        await rig.stop16(first, 1100)
        second = await rig.start16(meter=1100)
        other = await rig.start16("CCDD", meter=0, outlet=2)
        await rig.advance(5)
        await rig.stop16(first, 1100, reason="PowerLoss")
        assert [rig.charger.transaction(outlet) for outlet in (1, 2)] == [str(second), str(other)]
        await rig.stop16(second, 1150)
        await rig.stop16(other, 20)

    rig = play(scene, Site("any"), outlets=2)
    assert [(row.energy_wh, row.running) for row in rig.rows] == [(100, False), (50, False), (20, False)]


def test_an_unmatched_stop_with_samples_has_an_energy() -> None:
    async def scene(rig: Rig) -> None:
        data = [
            {"timestamp": rig.at(-60), "sampledValue": [{"value": "500", "context": "Transaction.Begin"}]},
            {"timestamp": rig.at(), "sampledValue": [{"value": "0.62", "unit": "kWh", "context": "Transaction.End"}]},
        ]
        await rig.stop16(99, 620, transactionData=data)

    (row,) = play(scene).rows
    assert (row.energy_wh, row.start_wh) == (120, 500)


def test_a_new_start_ends_the_session_before_it_and_the_late_stop_corrects_it() -> None:
    async def scene(rig: Rig) -> None:
        first = await rig.start16(meter=1000)
        await rig.advance(10)
        await rig.meter16(1010, first)
        stopped = rig.at()
        await rig.advance(30)
        second = await rig.start16(meter=1030)
        lost = next(row for row in rig.rows if row.id == first)
        assert (lost.reason, lost.energy_wh) == ("Lost", 10)
        await rig.stop16(first, 1030, at=stopped, reason="PowerLoss")
        assert rig.charger.transaction(1) == str(second)

    rig = play(scene)
    first, second = rig.rows
    assert (first.reason, first.energy_wh) == ("PowerLoss", 30)
    assert second.running
    assert rig.site.sessions.kinds().count("session.corrected") == 1
    assert "auth.refused" not in rig.site.sessions.kinds()  # the tag's session before is over


def test_values_after_the_stop_do_not_open_it_again() -> None:
    async def scene(rig: Rig) -> None:
        number = await rig.start16()
        await rig.advance(10)
        await rig.stop16(number, 1100)
        await rig.advance(5)
        await rig.meter16(1200, number)
        assert rig.value("energy_import_wh") == 1200

    (row,) = play(scene).rows
    assert (row.energy_wh, row.running) == (100, False)


def test_a_running_session_is_adopted_after_a_restart() -> None:
    site = Site()
    numbers: list[int] = []

    async def before(rig: Rig) -> None:
        numbers.append(await rig.start16(meter=1000))
        await rig.advance(10)
        await rig.meter16(1010, numbers[0])

    async def after(rig: Rig) -> None:
        assert rig.charger.transaction(1) == str(numbers[0])
        assert rig.value("session_energy_wh") == 10
        await rig.meter16(1025, numbers[0])
        await rig.stop16(numbers[0], 1030)

    play(before, site)
    site.restart()
    site.clock.advance(60)
    play(after, site)
    (row,) = site.sessions.rows.values()
    assert row.energy_wh == 30


def test_a_vehicle_that_left_without_a_stop_is_given_up_after_a_while() -> None:
    async def scene(rig: Rig) -> None:
        await rig.start16()
        await rig.status16("Charging")
        await rig.status16("Available")
        await rig.advance(200, 10)
        assert rig.charger.transaction(1) is not None
        await rig.advance(150, 10)
        assert rig.charger.transaction(1) is None

    (row,) = play(scene).rows
    assert row.reason == "Lost"


def test_a_session_that_is_spoken_of_is_not_given_up_whatever_the_status_says() -> None:
    async def scene(rig: Rig) -> None:
        number = await rig.start16()
        await rig.status16("Available")
        for second in range(60):
            await rig.meter16(1000 + second, number)
            await rig.advance(10, 10)
        assert rig.charger.transaction(1) == str(number)

    assert play(scene).rows[0].running


def test_a_session_that_was_given_up_resumes_when_its_values_go_on() -> None:
    async def scene(rig: Rig) -> None:
        number = await rig.start16()
        await rig.status16("Available")
        await rig.advance(400, 10)
        assert rig.charger.transaction(1) is None
        await rig.meter16(1500, number)
        assert rig.charger.transaction(1) == str(number)
        await rig.stop16(number, 1600)

    rig = play(scene)
    assert rig.rows[0].energy_wh == 600
    assert rig.site.sessions.kinds().count("session.resumed") == 1


def test_a_session_at_an_outlet_that_is_not_configured_is_given_up_too_when_its_stop_never_comes() -> None:
    async def scene(rig: Rig) -> None:
        number = await rig.start16(outlet=2)
        for _ in range(8):
            await rig.advance(1800, 60)
            await rig.meter16(1100, number, outlet=2)
        assert rig.charger.transaction(2) == str(number), "it is spoken of"
        await rig.disconnect()
        await rig.advance(7200, 60)
        assert rig.charger.transaction(2) == str(number), "its stop may wait in the charger"
        await rig.connect()
        await rig.advance(3500, 50)
        assert rig.charger.transaction(2) == str(number)
        await rig.advance(200, 50)
        assert rig.charger.transaction(2) is None
        await rig.start16(outlet=1)  # the tag is free again
        await rig.stop16(number, 1200)

    rig = play(scene)
    lost, new = rig.rows
    assert (lost.energy_wh, lost.reason) == (200, "Local"), "the stop came after all"
    assert new.data["verdict"] == "Accepted"
    assert [one["reason"] for one in rig.told("session.ended")] == ["Lost"]


def test_a_reply_waits_until_the_store_works_again() -> None:
    async def scene(rig: Rig) -> None:
        rig.site.sessions.fail = 2
        asking = asyncio.create_task(rig.start16())
        await rig.settle()
        assert not asking.done()
        await rig.advance(2)
        number = await asking
        assert rig.sink.counts["store_retries"] == 2
        rig.site.sessions.fail = 1
        stopping = asyncio.create_task(rig.stop16(number, 1200))
        await rig.advance(1)
        await stopping

    rig = play(scene)
    assert rig.rows[0].energy_wh == 200
    assert rig.site.sessions.kinds() == ["session.started", "auth.accepted", "session.ended"]


def test_queued_transactions_are_taken_by_their_own_times() -> None:
    async def scene(rig: Rig) -> None:
        for index in range(200):
            begun, ended = -100_000 + index * 100, -100_000 + index * 100 + 60
            number = await rig.start16(at=rig.at(begun), meter=index * 10)
            await rig.meter16(index * 10 + 5, number, at=rig.at(begun + 30))
            await rig.stop16(number, index * 10 + 9, at=rig.at(ended))
        assert not rig.sink.rows  # none of it is news

    rig = play(scene)
    assert len(rig.rows) == 200
    assert all(row.energy_wh == 9 and row.stop_us is not None for row in rig.rows)
    assert [row.start_us for row in rig.rows] == sorted(row.start_us for row in rig.rows)
    assert all(row.stop_us - row.start_us == 60_000_000 for row in rig.rows if row.stop_us)


def test_times_of_a_clock_that_is_wrong_are_replaced_once_nothing_can_be_queued() -> None:
    async def scene(rig: Rig) -> None:
        await rig.ask("Heartbeat", {})
        await rig.advance(60)
        number = await rig.start16(at=rig.at(-7200))
        await rig.advance(10)
        await rig.meter16(1010, number, at=rig.at(-7200))
        assert rig.value("energy_import_wh") == 1010
        await rig.stop16(number, 1020, at=rig.at(-7200))

    rig = play(scene)
    (row,) = rig.rows
    assert row.data["time_quality"] == "skewed"
    assert abs(row.start_us - rig.clock.now_us()) < 60_000_000
    assert row.energy_wh == 20


def test_signed_data_is_kept_whole_from_begin_and_end() -> None:
    first, last = "AA" * 40_000, 'OCMF|{"é": 1}|sig '

    async def scene(rig: Rig) -> None:
        number = await rig.start16()
        signed = {"format": "SignedData", "measurand": "Energy.Active.Import.Register"}
        for text, context, seconds in ((first, "Transaction.Begin", 0), (last, "Transaction.End", 60)):
            entry = {"timestamp": rig.at(seconds), "sampledValue": [{"value": text, "context": context, **signed}]}
            await rig.ask("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": [entry]})
        await rig.stop16(number, 1100)

    (row,) = play(scene).rows
    signed = row.data["signed"]
    assert isinstance(signed, dict)
    kept = signed["Energy.Active.Import.Register"]
    assert (kept["begin"]["data"], kept["end"]["data"]) == (first, last)


def test_unknown_and_blocked_tags_and_one_that_charges_elsewhere() -> None:
    site = Site()
    site.notebook.tag("BAD", "Blocked")
    site.notebook.tag("OLD", until_us=5)
    site.notebook.tag("CHILD", until_us=site.clock.now_us() + 10**12, parent="FAMILY")

    async def scene(rig: Rig) -> None:
        for tag, status in (("XX", "Invalid"), ("BAD", "Blocked"), ("old", "Expired"), ("aabb", "Accepted")):
            info = (await rig.ask("Authorize", {"idTag": tag}))["idTagInfo"]
            assert isinstance(info, dict)
            assert info["status"] == status
        info = (await rig.ask("Authorize", {"idTag": "Child"}))["idTagInfo"]
        assert isinstance(info, dict)
        assert info["parentIdTag"] == "FAMILY"
        assert info["expiryDate"].endswith("Z")
        number = await rig.start16(outlet=1)
        start = {"connectorId": 2, "idTag": "aabb", "meterStart": 5, "timestamp": rig.at()}
        answer = await rig.ask("StartTransaction", start)
        assert answer["idTagInfo"] == {"status": "ConcurrentTx"}
        assert answer["transactionId"] != number

    rig = play(scene, site, outlets=2)
    assert len(rig.rows) == 2
    assert [event["verdict"] for event in rig.told("auth.refused")] == ["Invalid", "Blocked", "Expired", "ConcurrentTx"]


def test_what_we_asked_to_start_is_let_in() -> None:
    async def scene(rig: Rig) -> None:
        await rig.charger.act("start", {"id_tag": "SITE", "outlet": 1})
        assert (await rig.ask("Authorize", {"idTag": "SITE"}))["idTagInfo"] == {"status": "Accepted"}
        await rig.start16("site")
        await rig.advance(301, 50)
        assert (await rig.ask("Authorize", {"idTag": "SITE"}))["idTagInfo"] == {"status": "Invalid"}

    assert "auth.refused" not in play(scene).site.sessions.kinds()


def test_a_corrupt_tag_is_no_reason_to_lose_a_session() -> None:
    async def scene(rig: Rig) -> None:
        await rig.start16("\ud800\0AB \x01")

    (row,) = play(scene).rows
    assert row.id_tag.encode()


def test_what_nobody_understands_is_kept_and_answered() -> None:
    async def scene(rig: Rig) -> None:
        rig.site.notebook.fail = 1
        asking = asyncio.create_task(rig.ask("StartTransaction", {"timestamp": "x", "parentIdTag": "GEHEIM"}))
        await rig.advance(1)
        assert await asking == {"idTagInfo": {"status": "Invalid"}, "transactionId": 0}
        assert await rig.ask("StopTransaction", {}) == {"idTagInfo": {"status": "Accepted"}}

    rig = play(scene)
    assert [event.kind for event in rig.site.notebook.events] == ["charger.unprocessed"] * 2
    assert "GEHEIM" not in str(rig.site.notebook.events)
    assert rig.kinds().count("charger.deviates") == 2
    assert not rig.rows


def test_a_start_is_answered_with_what_was_said_when_it_comes_again() -> None:
    async def scene(rig: Rig) -> None:
        start = {"connectorId": 1, "idTag": "XX", "meterStart": 5, "timestamp": rig.at()}
        first = await rig.ask("StartTransaction", start)
        rig.site.notebook.tag("XX")
        assert await rig.ask("StartTransaction", start) == first
        assert first["idTagInfo"] == {"status": "Invalid"}

    rig = play(scene)
    assert rig.site.sessions.kinds() == ["session.started", "auth.refused"]
    assert replace(rig.rows[0], data={}).running


async def _queued(rig: Rig) -> int:
    """A session of the charger's queue with a register that is still to be flushed."""
    number = await rig.start16(at=rig.at(-600))
    await rig.meter16(1050, number, at=rig.at(-500))
    assert rig.charger.book.dirty
    return number


def test_what_waits_to_be_stored_never_overtakes_the_end() -> None:
    async def scene(rig: Rig) -> None:
        sessions = rig.site.sessions
        number = await _queued(rig)
        sessions.gate.clear()
        stop = asyncio.create_task(rig.stop16(number, 1100, at=rig.at(-400)))
        await rig.advance(3)
        assert not stop.done()
        sessions.gate.set()
        await stop
        await rig.advance(3)
        assert (sessions.rows[number].running, sessions.rows[number].energy_wh) == (False, 100)
        assert not rig.charger.book.dirty

    play(scene)


def test_an_end_that_nobody_waited_for_any_more_is_known_once_it_is_stored() -> None:
    async def scene(rig: Rig) -> None:
        sessions = rig.site.sessions
        number = await _queued(rig)
        sessions.gate.clear()
        stop = asyncio.create_task(rig.stop16(number, 1100, at=rig.at(-400)))
        await rig.settle()
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)
        await rig.advance(3)
        sessions.gate.set()
        await rig.advance(3)
        assert rig.charger.transaction(1) is None
        await rig.stop16(number, 1100, at=rig.at(-407))
        assert (sessions.rows[number].running, sessions.rows[number].energy_wh) == (False, 100)
        assert sessions.kinds().count("session.ended") == 1

    play(scene)


def test_two_sessions_that_wait_are_stored_as_they_are_when_their_turn_comes() -> None:
    async def scene(rig: Rig) -> None:
        sessions = rig.site.sessions
        one = await rig.start16(at=rig.at(-600), outlet=1)
        other = await rig.start16(at=rig.at(-590), outlet=2)
        await rig.meter16(1050, one, at=rig.at(-500), outlet=1)
        await rig.meter16(1060, other, at=rig.at(-500), outlet=2)
        sessions.gate.clear()
        await rig.advance(2)  # the first of both is being stored
        stop = asyncio.create_task(rig.stop16(other, 1100, at=rig.at(-400)))
        await rig.settle()
        sessions.gate.set()
        await stop
        await rig.advance(3)
        assert [(row.running, row.energy_wh) for row in rig.rows] == [(True, 50), (False, 100)]

    play(scene, outlets=2)


def test_signed_data_between_begin_and_end_is_not_written() -> None:
    signed = {"format": "SignedData", "measurand": "Energy.Active.Import.Register"}

    async def send(rig: Rig, number: int, text: str, seconds: int) -> None:
        entry = {"timestamp": rig.at(seconds), "sampledValue": [{"value": text, **signed}]}
        await rig.ask("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": [entry]})

    async def first(rig: Rig) -> None:
        number = await rig.start16()
        await send(rig, number, "one", 0)
        before = rig.site.sessions.writes
        for seconds in (10, 20, 30):
            await send(rig, number, f"at {seconds}", seconds)
        assert rig.site.sessions.writes == before
        await rig.meter16(1010, number, at=rig.at(40))
        assert "end" not in kept(rig)

    def kept(rig: Rig) -> dict[str, dict[str, object]]:
        signed = rig.rows[0].data["signed"]
        assert isinstance(signed, dict)
        found = signed["Energy.Active.Import.Register"]
        assert isinstance(found, dict)
        return found

    site = Site()
    rig = play(first, site)
    assert (kept(rig)["begin"]["data"], kept(rig)["end"]["data"]) == ("one", "at 30")  # it was closed in order

    async def second(rig: Rig) -> None:
        await send(rig, rig.rows[0].id, "at 50", 50)
        await rig.stop16(rig.rows[0].id, 1100, at=rig.at(60))

    site.restart()
    rig = play(second, site)
    assert (kept(rig)["begin"]["data"], kept(rig)["end"]["data"]) == ("one", "at 50")
