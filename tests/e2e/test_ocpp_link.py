"""One connection to a charger over a real socket; time is a FakeClock's wherever it counts."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agent.core.clock import FakeClock
from agent.core.errors import BadData, CommandRejected, NoAnswer, Refusal, Unavailable
from drivers.ocpp.link import LinkLimits, WsLink
from drivers.ocpp.ports import Call, Fault, Payload
from drivers.ocpp.server import ServerLimits
from tests.ocpp_peers import OpenGate, RecordingPeer, Site, ask, heard, plain_answers, site, until

START = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": "2026-11-21T05:00:00Z"}
UNBOUND = ServerLimits(link=LinkLimits(rate_per_s=1e9, burst=1_000_000))


async def _link(a: Site, identity: str = "CP1") -> WsLink:
    peer = a.gate.peer(identity)
    await peer.attached.wait()
    assert isinstance(peer.link, WsLink)
    return peer.link


async def _turns(clock: FakeClock, seconds: Sequence[float]) -> None:
    """Let time pass in steps, and let what it wakes run."""
    for step in seconds:
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(step)
    for _ in range(5):
        await asyncio.sleep(0)


def test_calls_are_answered_in_order_and_ours_are_asked_meanwhile() -> None:
    async def scene() -> None:
        go = asyncio.Event()

        async def slow(call: Call) -> Payload | Fault:
            if call.action == "BootNotification":
                await go.wait()
            return await plain_answers(call)

        gate = OpenGate()
        gate.peers["CP1"] = RecordingPeer(slow)
        async with site(gate=gate) as a, a.connect() as charger:
            link = await _link(a)
            await charger.send('[2,"1","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]')
            await charger.send('[2,"2","Heartbeat",{}]')
            asking = asyncio.create_task(link.call("Reset", {"type": "Soft"}))
            kind, name, action, payload = await heard(charger)
            assert (kind, action, payload) == (2, "Reset", {"type": "Soft"})
            await charger.send(json.dumps([3, name, {"status": "Accepted"}]))
            assert await asking == {"status": "Accepted"}  # though the boot is still being handled
            go.set()
            assert [(await heard(charger))[1] for _ in range(2)] == ["1", "2"]
            assert [call.action for call in gate.peers["CP1"].calls] == ["BootNotification", "Heartbeat"]

    asyncio.run(scene())


def test_one_question_at_a_time() -> None:
    async def scene() -> None:
        async with site() as a, a.connect() as charger:
            link = await _link(a)
            asking = [asyncio.create_task(link.call("GetConfiguration", {"key": [str(n)]})) for n in range(3)]
            for number in range(3):
                _, name, _, payload = await heard(charger)
                assert payload == {"key": [str(number)]}
                assert sum(task.done() for task in asking) == number
                await charger.send(json.dumps([3, name, {"unknownKey": [str(number)]}]))
                await asking[number]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("answer", "error", "refusal"),
    [
        ([4, "?", "NotImplemented", "", {}], CommandRejected, Refusal.NOT_CAPABLE),
        ([4, "?", "NotSupported", "", {}], CommandRejected, Refusal.NOT_CAPABLE),
        ([4, "?", "InternalError", "no", {}], CommandRejected, Refusal.DEVICE_REFUSED),
        ([4, "?"], CommandRejected, Refusal.DEVICE_REFUSED),
        ([3, "?", []], BadData, None),
        ([3, "?"], BadData, None),
        ([3, "?", {}], BadData, None),
        ([3, "?", {"state": "Accepted"}], BadData, None),
    ],
)
def test_what_may_come_back(answer: list[object], error: type[Exception], refusal: Refusal | None) -> None:
    async def scene() -> None:
        async with site() as a, a.connect() as charger:
            link = await _link(a)
            asking = asyncio.create_task(link.call("Reset", {"type": "Soft"}))
            _, name, *_ = await heard(charger)
            await charger.send(json.dumps([name if part == "?" else part for part in answer]))
            with pytest.raises(error) as caught:
                await asking
            if isinstance(caught.value, CommandRejected):
                assert caught.value.refusal is refusal
            # And it goes on.
            asking = asyncio.create_task(link.call("Reset", {"type": "Hard"}))
            _, name, *_ = await heard(charger)
            await charger.send(json.dumps([3, name, {"status": "Odd", "more": 1}]))
            assert await asking == {"status": "Odd", "more": 1}
            assert a.counts["bad.result"] >= 1

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("action", "payload"),
    [("Reset", {}), ("Reset", {"type": "Gentle"}), ("Reset", {"type": "Soft", "x": 1}), ("Teleport", {})],
)
def test_what_breaks_the_schema_does_not_leave(action: str, payload: Payload) -> None:
    async def scene() -> None:
        async with site() as a, a.connect():
            link = await _link(a)
            with pytest.raises(ValueError, match=action):
                await link.call(action, payload)
            assert a.counts["sent"] == 0

    asyncio.run(scene())


def test_no_answer_in_time_and_then_a_late_one() -> None:
    async def scene() -> None:
        clock = FakeClock()
        async with site(clock=clock) as a, a.connect() as charger:
            link = await _link(a)
            asking = asyncio.create_task(link.call("Reset", {"type": "Soft"}, timeout_s=10))
            _, name, *_ = await heard(charger)
            clock.jump_wall(-1e9)
            await _turns(clock, [9.9])
            assert not asking.done()
            await _turns(clock, [0.2])
            with pytest.raises(NoAnswer, match="10 s"):
                await asking
            await charger.send(json.dumps([3, name, {"status": "Accepted"}]))
            assert (await ask(charger, "Heartbeat"))[0] == 3
            assert a.counts["unsolicited"] == 1

    asyncio.run(scene())


def test_who_asks_learns_that_the_connection_is_gone() -> None:
    async def scene() -> None:
        async with site() as a, a.connect() as charger:
            link = await _link(a)
            asking = [asyncio.create_task(link.call("Reset", {"type": "Soft"})) for _ in range(3)]
            await heard(charger)
            await charger.close()
            for error in await asyncio.gather(*asking, return_exceptions=True):
                assert type(error) is Unavailable
            with pytest.raises(Unavailable):
                await link.call("Reset", {"type": "Soft"})

    asyncio.run(scene())


def test_ten_thousand_answers_that_nobody_waits_for() -> None:
    """Trials O2: out of order, repeated, unasked; on the way of a question that is answered."""

    async def scene() -> None:
        async with site(limits=UNBOUND) as a, a.connect() as charger:
            link = await _link(a)
            asking = asyncio.create_task(link.call("Reset", {"type": "Soft"}))
            _, name, *_ = await heard(charger)
            for number in range(5000):
                await charger.send(f'[3,"{number}",{{}}]')
                await charger.send(f'[4,"{number}","GenericError","",{{}}]')
            for _ in range(100):
                await charger.send(json.dumps([3, name, {"status": "Accepted"}]))
            assert await asking == {"status": "Accepted"}
            assert (await ask(charger, "Heartbeat"))[0] == 3
            assert a.counts["unsolicited"] == 10_099
            asking = asyncio.create_task(link.call("Reset", {"type": "Hard"}))
            _, name, *_ = await heard(charger)
            await charger.send(json.dumps([3, name, {"status": "Accepted"}]))
            assert await asking == {"status": "Accepted"}
            assert not link._queue.qsize()
            assert len(link._answers) <= 16

    asyncio.run(scene())


def test_unknown_actions_and_broken_frames_are_answered() -> None:
    async def scene() -> None:
        async with site() as a:
            async with a.connect() as charger:
                assert (await ask(charger, "Teleport"))[:3] == [4, "1", "NotImplemented"]
                await charger.send('[2,"9","Heartbeat",[1]]')
                assert (await heard(charger))[:3] == [4, "9", "FormationViolation"]
                for silent in ("hello", "[]", "{}", '[3,"x",[]]', '[9,"x"]', '[2,null,"Heartbeat",{}]'):
                    await charger.send(silent)
                await charger.send(b"\xff\x00[")
                assert (await ask(charger, "Heartbeat"))[0] == 3
                assert a.counts["bad.frame"] == 8
            async with a.connect("CP2", offers=("ocpp2.0.1",)) as charger:
                await charger.send('[2,"9","Heartbeat",[1]]')
                assert (await heard(charger))[:3] == [4, "9", "FormatViolation"]
                await charger.send("hello")
                assert (await heard(charger))[:3] == [4, "-1", "RpcFrameworkError"]
                await charger.send('[2,"8","StartTransaction",{}]')
                assert (await heard(charger))[1] == "8"
                assert a.gate.peers["CP2"].calls[-1].deviation

    asyncio.run(scene())


def test_what_a_charger_says_is_handed_on_with_its_deviation() -> None:
    async def scene() -> None:
        async with site() as a, a.connect() as charger:
            text = '[2, 77, "Authorize", {"idTag": "A", "idTag": 5, "x": NaN}]'
            await charger.send(text)
            assert await heard(charger) == [3, "77", {"idTagInfo": {"status": "Accepted"}}]
            call = a.gate.peers["CP1"].calls[0]
            assert call == Call("77", "Authorize", {"idTag": 5, "x": None}, "idTag must be string", text)
            assert a.counts["bad.payload"] == 1

    asyncio.run(scene())


def test_a_call_that_comes_again_is_answered_again_but_not_handled_twice() -> None:
    async def scene() -> None:
        async with site() as a, a.connect() as charger:
            calls = a.gate.peer("CP1").calls
            first = await ask(charger, "StartTransaction", START, "s1")
            assert await ask(charger, "StartTransaction", START, "s1") == first
            assert len(calls) == 1
            await ask(charger, "StartTransaction", START | {"meterStart": 1}, "s1")
            assert len(calls) == 2  # another one with the same id
            for number in range(20):
                await ask(charger, "MeterValues", {"connectorId": 1, "meterValue": []}, f"m{number}")
            await ask(charger, "StartTransaction", START, "s1")
            assert len(calls) == 23
            for _ in range(3):
                await ask(charger, "Heartbeat", {}, "always")
            assert len(calls) == 26  # a time must be fresh

    asyncio.run(scene())


@pytest.mark.announced_warnings
@pytest.mark.parametrize("broken", ["raises", "schema", "text"])
@pytest.mark.parametrize("action", ["Authorize", "StartTransaction"])
def test_faults_of_ours(broken: str, action: str) -> None:
    """Each call is answered; but a charger must not drop a transaction for what is wrong with us."""

    async def wrong(call: Call) -> Payload | Fault:
        if broken == "raises":
            raise KeyError("a bug")
        return {"transactionId": "seven"} if broken == "schema" else {"idTagInfo": {"status": object()}}

    async def scene() -> None:
        gate = OpenGate()
        gate.peers["CP1"] = RecordingPeer(wrong)
        async with site(gate=gate) as a, a.connect() as charger:
            await charger.send(json.dumps([2, "1", action, {"idTag": "A"} if action == "Authorize" else START]))
            await charger.send('[2,"2","StopTransaction",{"transactionId":1,"meterStop":0,"timestamp":"x"}]')
            if action == "Authorize":
                assert (await heard(charger))[:3] == [4, "1", "InternalError"]
            elif broken == "schema":
                assert await heard(charger) == [3, "1", {"transactionId": "seven"}]
            else:
                with pytest.raises(ConnectionClosed) as caught:
                    await heard(charger)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1011
                assert len(gate.peers["CP1"].calls) == 1  # what came behind it comes again, in order

    asyncio.run(scene())


def test_faults_keep_their_code() -> None:
    async def scene() -> None:
        async def no(call: Call) -> Payload | Fault:
            return Fault("FormationViolation", "it lacks something")

        gate = OpenGate()
        gate.peers["CP1"] = gate.peers["CP2"] = RecordingPeer(no)
        async with site(gate=gate) as a, a.connect() as one, a.connect("CP2", offers=("ocpp2.0.1",)) as two:
            assert await ask(one, "Heartbeat") == [4, "1", "FormationViolation", "it lacks something", {}]
            assert await ask(two, "Heartbeat") == [4, "1", "FormatViolation", "it lacks something", {}]

    asyncio.run(scene())


def test_a_handling_that_takes_too_long() -> None:
    async def scene() -> None:
        clock = FakeClock()

        async def never(call: Call) -> Payload | Fault:
            if call.action == "Heartbeat":
                return await plain_answers(call)
            await asyncio.Event().wait()
            raise AssertionError

        gate = OpenGate()
        peer = gate.peers["CP1"] = RecordingPeer(never)
        async with site(gate=gate, clock=clock) as a, a.connect() as charger:
            await charger.send('[2,"1","Authorize",{"idTag":"A"}]')
            await charger.send('[2,"2","Heartbeat",{}]')
            await until(lambda: len(peer.calls) == 1)
            await _turns(clock, [1.0] * 4)
            assert (await heard(charger))[:3] == [4, "1", "InternalError"]
            assert (await heard(charger))[:2] == [3, "2"]
            await charger.send(json.dumps([2, "3", "StartTransaction", START]))
            await until(lambda: len(peer.calls) == 3)
            await _turns(clock, [1.0] * 25)
            assert (await ask_ping(charger)) is True  # still open, and still being handled
            await _turns(clock, [1.0] * 7)
            with pytest.raises(ConnectionClosed):
                await heard(charger)
            assert a.counts["late"] == 2

    asyncio.run(scene())


async def ask_ping(charger: ClientConnection) -> bool:
    """Whether the connection answers a ping."""
    return await (await charger.ping()) >= 0


def test_a_charger_that_falls_silent_is_given_up_and_one_that_answers_pings_is_not() -> None:
    async def scene() -> None:
        clock = FakeClock()
        async with site(clock=clock) as a, a.connect() as quiet, a.connect("CP2", close_timeout=0.1) as dead:
            link = await _link(a)
            await _link(a, "CP2")
            link.set_ping(10)
            dead.transport.pause_reading()
            for _ in range(5):
                await _turns(clock, [1.0] * 10)
                await ask_ping(quiet)
                await ask_ping(quiet)  # two round trips: our ping was answered before
            peer = a.gate.peers["CP2"]
            await peer.detached.wait()
            assert a.counts["silent"] == 1
            assert not a.gate.peers["CP1"].detached.is_set()
            assert (await ask(quiet, "Heartbeat"))[0] == 3

    asyncio.run(scene())


def test_a_long_frame_counts_as_several() -> None:
    async def scene() -> None:
        clock = FakeClock()
        limits = ServerLimits(link=LinkLimits(rate_per_s=10, burst=20, frame_bytes=100))
        async with site(clock=clock, limits=limits) as a, a.connect() as charger:
            await charger.send(f'[2,"long","Heartbeat",{{"x":"{"x" * 2100}"}}]')
            await charger.send('[2,"short","Heartbeat",{}]')
            assert (await heard(charger))[1] == "long"
            assert (a.counts["frames"], a.counts["slowed"]) == (1, 1)
            clock.advance(0.5)
            assert (await heard(charger))[1] == "short"

    asyncio.run(scene())


def test_beyond_its_rate_a_charger_waits_and_loses_nothing() -> None:
    async def scene() -> None:
        clock = FakeClock()
        limits = ServerLimits(link=LinkLimits(rate_per_s=10, burst=20, early=1))
        async with site(clock=clock, limits=limits) as a, a.connect() as charger:
            for number in range(60):
                await charger.send(f'[2,"{number}","Heartbeat",{{}}]')
            for number in range(21):
                assert (await heard(charger))[1] == str(number)
            calls = a.gate.peers["CP1"].calls
            assert len(calls) == 21  # the burst, and the one that shows that it is spent
            for number in range(21, 60):
                clock.advance(0.21)
                assert (await heard(charger))[1] == str(number)
            assert a.counts["slowed"] >= 10
            assert len(calls) == 60

    asyncio.run(scene())


def test_who_waits_for_answers_has_the_whole_burst() -> None:
    """And so has who waits less for the first few, as after a boot."""

    async def scene() -> None:
        limits = ServerLimits(link=LinkLimits(rate_per_s=10, burst=100))
        async with site(clock=FakeClock(), limits=limits) as a:
            async with a.connect() as waits:
                for number in range(101):
                    assert not a.counts["slowed"]
                    assert (await ask(waits, "Heartbeat", {}, str(number)))[:2] == [3, str(number)]
                await until(lambda: a.counts["slowed"] == 1)
                assert a.counts["early"] == 0
            async with a.connect("CP2") as boots:
                for number in range(3):
                    await boots.send(f'[2,"{number}","Heartbeat",{{}}]')
                assert [(await heard(boots))[1] for _ in range(3)] == ["0", "1", "2"]
                for number in range(3, 30):
                    assert (await ask(boots, "Heartbeat", {}, str(number)))[:2] == [3, str(number)]
                assert a.counts["slowed"] == 1

    asyncio.run(scene())


def test_who_does_not_wait_for_answers_soon_has_no_burst() -> None:
    """Though nothing is lost, and it still has its steady rate."""

    async def scene() -> None:
        clock, go = FakeClock(), asyncio.Event()

        async def waits(call: Call) -> Payload | Fault:
            await go.wait()
            return await plain_answers(call)

        gate = OpenGate()
        gate.peers["CP1"] = RecordingPeer(waits)
        limits = ServerLimits(link=LinkLimits(rate_per_s=10, burst=100, early=20))
        async with site(gate=gate, clock=clock, limits=limits) as a, a.connect() as charger:
            await charger.send('[3,"to no question",{}]')
            for number in range(10):
                await charger.send(f'[2,"{number}","Heartbeat",{{}}]')
            await until(lambda: a.counts["slowed"] == 1)
            # An answer takes 1, so does the first call, four take 20 each, one the rest, and one more shows it.
            assert (a.counts["frames"], a.counts["early"]) == (8, 6)
            for frames in (10, 11):
                clock.advance(0.21)
                await until(lambda frames=frames: a.counts["frames"] == frames)  # type: ignore[misc]
            go.set()
            assert [(await heard(charger))[1] for _ in range(10)] == [str(number) for number in range(10)]

    asyncio.run(scene())


def test_a_new_connection_brings_no_new_burst() -> None:
    async def scene() -> None:
        clock = FakeClock()
        limits = ServerLimits(link=LinkLimits(rate_per_s=10, burst=5))
        async with site(clock=clock, limits=limits) as a:
            async with a.connect() as before:
                for number in range(5):
                    assert (await ask(before, "Heartbeat", {}, str(number)))[1] == str(number)
            await until(lambda: a.gate.peer("CP1").log[-1:] == ["detach 0"])
            async with a.connect() as after, a.connect("CP2") as other:
                assert (await ask(after, "Heartbeat"))[0] == 3
                await until(lambda: a.counts["slowed"] == 1)
                await after.send('[2,"2","Heartbeat",{}]')
                for number in range(5):
                    assert (await ask(other, "Heartbeat", {}, str(number)))[1] == str(number)
                assert (a.counts["slowed"], a.counts["frames"]) == (1, 11)
                clock.advance(0.21)
                assert (await heard(after))[1] == "2"

    asyncio.run(scene())


def test_more_calls_than_can_be_handled() -> None:
    async def scene() -> None:
        clock = FakeClock()
        go = asyncio.Event()

        async def waits(call: Call) -> Payload | Fault:
            await go.wait()
            return {}

        gate = OpenGate()
        gate.peers["CP1"] = gate.peers["CP2"] = RecordingPeer(waits)
        limits = ServerLimits(link=LinkLimits(queue=4, full_s=20))
        text = '[2,"1","MeterValues",{"connectorId":1,"meterValue":[]}]'
        async with site(gate=gate, clock=clock, limits=limits) as a, a.connect() as patient, a.connect("CP2") as sick:
            for number in range(10):
                await patient.send(text.replace('"1"', f'"{number}"'))
            await until(lambda: a.counts["overflow"] == 1)
            go.set()
            assert [(await heard(patient))[1] for _ in range(10)] == [str(number) for number in range(10)]
            go.clear()
            for number in range(10):
                await sick.send(text.replace('"1"', f'"{number}"'))
            before = a.counts["overflow"]
            await until(lambda: a.counts["overflow"] > before)
            await _turns(clock, [21.0])
            with pytest.raises(ConnectionClosed) as caught:
                await heard(sick)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008

    asyncio.run(scene())


def test_what_was_received_before_the_end_is_still_handled() -> None:
    async def scene() -> None:
        async with site(clock=FakeClock()) as a, a.connect() as charger:
            peer = a.gate.peer("CP1")
            for number in range(20):
                await charger.send(f'[2,"{number}","StatusNotification",{{}}]')
            # Its end alone: a closed socket answers our answers with a reset, and then the rest may never be received.
            charger.transport.write_eof()
            await peer.detached.wait()
            assert [call.id for call in peer.calls] == [str(number) for number in range(20)]

    asyncio.run(scene())


@pytest.mark.announced_warnings
def test_what_fails_after_the_end_holds_nobody_up() -> None:
    async def scene() -> None:
        go = asyncio.Event()

        async def wrong(call: Call) -> Payload | Fault:
            await go.wait()
            raise KeyError("a bug")

        gate = OpenGate()
        peer = gate.peers["CP1"] = RecordingPeer(wrong)
        async with site(gate=gate, clock=FakeClock()) as a, a.connect() as charger:
            await charger.send(json.dumps([2, "1", "StartTransaction", START]))
            await charger.send('[2,"2","Heartbeat",{}]')
            await until(lambda: len(peer.calls) == 1)
            charger.transport.close()
            await until(lambda: bool(peer.links) and isinstance(peer.link, WsLink) and peer.link._ended)
            go.set()
            await peer.detached.wait()
            assert len(peer.calls) == 1

    asyncio.run(scene())


@pytest.mark.parametrize("text", [b'[3,"x",{}]', b"rubbish", b'[2,"sick","Heartbeat",{}]'])
def test_a_flood_leaves_the_others_their_turns(text: bytes) -> None:
    """While a sick charger's frames fill our buffers, a healthy one is answered after a few of them."""

    async def scene() -> None:
        async with site(limits=UNBOUND) as a, a.connect("SICK", close_timeout=0.1) as sick, a.connect("WELL") as well:
            # Written at once, as one block: frames with a mask of zeros.
            sick.transport.write((bytes((0x81, 0x80 | len(text))) + bytes(4) + text) * 20_000)
            await until(lambda: a.counts["frames"] > 100)
            between = []
            for _ in range(20):
                before = a.counts["frames"]
                assert (await ask(well, "Heartbeat", {}, "well"))[0] == 3
                between.append(a.counts["frames"] - before)
            assert a.counts["frames"] < 20_000, "the flood was over too early to show anything"
            # A turn of the loop takes one frame of the flood; the well one needs some turns, its client included.
            assert max(between) < 40, between

    asyncio.run(scene())


@pytest.mark.announced_warnings
def test_21_sends_that_are_not_answered() -> None:
    async def scene() -> None:
        async with site() as a, a.connect(offers=("ocpp2.1",)) as charger:
            await charger.send('[6,"s","NotifyPeriodicEventStream",{"id":1,"pending":0,"basetime":"x","data":[]}]')
            await charger.send('[5,"x","InternalError","",{}]')
            assert (await ask(charger, "Heartbeat"))[:2] == [3, "1"]
            assert [call.action for call in a.gate.peers["CP1"].calls] == ["NotifyPeriodicEventStream", "Heartbeat"]
            assert a.counts["bad.answer"] == 1

    asyncio.run(scene())
