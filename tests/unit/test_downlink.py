"""Commands from the broker: what is taken, one outcome each, what is told again, and what is refused."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.remote import RemoteOrders
from cloud_sync.command_payload import (
    MAX_BYTES,
    MAX_CORRELATION,
    CommandError,
    Order,
    OrderResult,
    encode_result,
    parse_command,
)
from cloud_sync.downlink import MAX_OPEN, Downlink
from cloud_sync.mqtt import Message
from cloud_sync.settings import UplinkSettings
from tests.control_fakes import NOON_US, Killer, Rig, settle
from tests.unit.uplink_fakes import FakeSession

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "cloud_sync" / "schemas"
TOPIC = "enlace/depot/command"


def _compiled(name: str) -> Callable[[object], object]:
    document = json.loads((SCHEMAS / f"{name}.json").read_text())
    document["$schema"] = (
        "http://json-schema.org/draft-07/schema#"  # what they use is in both, and the library knows it
    )
    check: Callable[[object], object] = fastjsonschema.compile(document)
    return check


CHECKS = {name: _compiled(name) for name in ("ack", "command", "command_result")}


def said(command_id: str = "c1", **changes: object) -> dict[str, object]:
    whole = {"id": command_id, "issued_at": NOON_US, "ttl_s": 60, "target": "cp1", "action": "reset", "args": {}}
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


def message(document: object, **facts: object) -> Message:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return replace(Message(TOPIC, payload, mid=1, qos=1, received_s=1000.0), **facts)  # type: ignore[arg-type]


class Site:
    """A downlink over a fake connection and real control over a fake charger."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.judging = asyncio.Event()
        self.judging.set()
        self.downlink = Downlink(TOPIC, RemoteOrders(rig.service, rig.clock, self.judging).execute)
        self.session = FakeSession()
        self._task: asyncio.Task[None] | None = None

    async def connect(self, session: FakeSession | None = None) -> FakeSession:
        await self.disconnect()
        self.session = session or FakeSession()
        self._task = asyncio.ensure_future(self.downlink.serve(self.session))
        await settle()
        return self.session

    async def disconnect(self) -> None:
        self.session.cut()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            assert self._task.cancelled(), self._task.exception()
        self._task = None

    async def send(self, document: object, **facts: object) -> Message:
        sent = message(document, received_s=self.rig.clock.monotonic_s(), **facts)
        self.session.inbox.put_nowait(sent)
        await settle()
        return sent

    async def close(self) -> None:
        await self.disconnect()
        await self.downlink.close()
        await self.rig.service.close()

    def results(self, session: FakeSession | None = None) -> list[dict[str, object]]:
        found = [json.loads(payload) for _, payload, _ in (session or self.session).sent]
        for one in found:
            CHECKS["command_result"](one)
        return found

    def outcomes(self) -> list[tuple[object, object]]:
        return [(one["id"], one["outcome"]) for one in self.results()]


@asynccontextmanager
async def site(rig: Rig | None = None) -> AsyncIterator[Site]:
    made = Site(await (rig or Rig()).start())
    await made.connect()
    try:
        yield made
    finally:
        await made.close()


def test_a_command_is_done_told_and_only_then_acknowledged() -> None:
    async def scenario() -> None:
        async with site() as one:
            assert one.session.subscribed == [TOPIC]
            one.session.automatic = False
            sent = await one.send(said(issuer="dispatcher"))
            (result,) = one.results()
            assert (result["id"], result["outcome"], result["data"]) == ("c1", "done", {"status": "Accepted"})
            assert one.session.sent[0][0] == f"{TOPIC}/result"
            assert one.session.acknowledged == []
            one.session.puback()
            await settle()
            assert one.session.acknowledged == [sent]
            assert one.rig.charger.acted == [("reset", {})]
            (event,) = one.rig.told("command.result")
            assert (event.data["origin"], event.data["issuer"]) == ("REMOTE", "central:dispatcher")
            assert one.downlink.counters()["commands_answered_total"] == 1
            assert one.downlink.counters()["commands_open"] == 0

    asyncio.run(scenario())


def test_the_same_again_does_nothing_and_has_the_same_answer() -> None:
    async def scenario() -> None:
        async with site() as one:
            for _ in range(3):
                await one.send(said())
            await one.send(said(), duplicate=True)
            await one.send(said(), retain=True)
            assert len(one.session.acknowledged) == 5
            assert len({payload for _, payload, _ in one.session.sent}) == 1
            assert len(one.rig.charger.acted) == 1
            await one.send(said(action="start"))
            (*_, last) = one.results()
            assert (last["outcome"], last["refusal"]) == ("rejected", "duplicate")
            assert len(one.rig.charger.acted) == 1

    asyncio.run(scenario())


def test_a_result_whose_puback_was_lost_is_told_again_on_the_next_connection() -> None:
    async def scenario() -> None:
        async with site() as one:
            one.session.automatic = False
            sent = await one.send(said())
            (first,) = one.session.payloads("result")
            second = await one.connect()
            assert second.payloads("result") == [first]
            assert second.acknowledged == [], "the message belongs to the connection that is gone"
            again = await one.send(said(), duplicate=True, mid=7)
            assert second.payloads("result") == [first, first]
            assert second.acknowledged == [again]
            assert sent not in second.acknowledged
            assert len(one.rig.charger.acted) == 1

    asyncio.run(scenario())


def test_what_comes_again_while_it_is_done_is_taken_for_the_same() -> None:
    async def scenario() -> None:
        async with site() as one:
            one.rig.charger.gate = asyncio.Event()
            await one.send(said())
            second = await one.connect()
            again = await one.send(said(), duplicate=True, mid=3)
            third = await one.send(said(), duplicate=True, mid=4)
            assert second.acknowledged == [third], "one is enough to hold it"
            assert second.sent == []
            one.rig.charger.gate.set()
            await settle()
            assert one.outcomes() == [("c1", "done")]
            assert second.acknowledged == [third, again]
            assert one.downlink.counters()["commands_repeated_total"] == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("again", [False, True])
def test_a_retained_one_is_refused_and_stays_refused(*, again: bool) -> None:
    async def scenario() -> None:
        async with site() as one:
            await one.send(said(), retain=True)
            if again:
                await one.send(said())
            assert {outcome for _, outcome in one.outcomes()} == {"rejected"}
            assert "retained" in str(one.results()[-1]["reason"])
            assert not one.rig.charger.acted

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ttl": 5}, "keys that nobody knows: ttl"),
        ({"schema": 2}, "schema"),
        ({"target": ""}, "target"),
        ({"target": ["cp1"]}, "target"),
        ({"action": ...}, "action"),
        ({"action": "x" * 129}, "action"),
        ({"args": [1]}, "args"),
        ({"issuer": "a\nb"}, "issuer"),
        ({"issuer": 5}, "issuer"),
        ({"issued_at": ...}, "issued_at"),
        ({"issued_at": "2026-03-28T12:00:00"}, "issued_at"),
        ({"issued_at": "soon"}, "issued_at"),
        ({"issued_at": True}, "issued_at"),
        ({"issued_at": -1}, "issued_at"),
        ({"ttl_s": "60"}, "ttl_s"),
        ({"ttl_s": True}, "ttl_s"),
        ({"ttl_s": 901}, "time to live"),
        ({"ttl_s": 0}, "time to live"),
        ({"ttl_s": -1}, "time to live"),
        ({"issued_at": NOON_US + 61_000_000}, "ahead"),
        ({"target": "nobody"}, "no station or device"),
        ({"action": "on", "args": {"for_s": 10**18}}, "for_s"),
    ],
)
def test_one_with_an_id_that_makes_no_sense_is_rejected_in_words(changes: dict[str, object], reason: str) -> None:
    async def scenario() -> None:
        async with site() as one:
            await one.send(said("c1", **changes))
            assert one.outcomes() == [("c1", "rejected")]
            assert reason in str(one.results()[0]["reason"])
            assert len(one.session.acknowledged) == 1
            assert not one.rig.charger.acted
            assert [event.data["outcome"] for event in one.rig.told("command.result")] == ["rejected"]

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_what_is_no_command_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bad: list[object] = [
        b"",
        b"\xff",
        b"[]",
        b"5",
        b"[" * 15_000,
        b'{"id":' + b"9" * 5000 + b"}",
        b'{"id":"a","ttl_s":NaN}',
    ]
    bad += [b'{"id":"a","ttl_s":1e999}', b'{"id":"a","ttl_s":99999999999999999999}', said(id=5), said("")]
    bad += [said("x" * 129), said("a\u0000b"), b'{"id":"\\ud800"}', said(args={"x": "y" * MAX_BYTES})]

    async def scenario() -> None:
        async with site() as one:
            for document in bad:
                await one.send(document)
            assert one.downlink.counters()["commands_malformed_total"] == len(bad)
            assert len(one.session.acknowledged) == len(bad)
            assert one.session.sent == []
            await one.send(said())
            assert one.outcomes() == [("c1", "done")]

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert len(caplog.records) == 1


@pytest.mark.parametrize("wrong", [{"args": {"reason": "\ud800"}}, {"args": {"\udc00": 1}}, {"\ud800": 1}])
def test_half_of_a_surrogate_pair_is_refused_and_remembered(wrong: dict[str, object]) -> None:
    """The store takes no such text: its record would be tried again with each command, and never be kept."""

    async def scenario() -> None:
        async with site() as one:
            for _ in range(2):
                await one.send(said("half", **wrong))
                assert "surrogate" in str(one.results()[-1]["reason"])
            assert one.outcomes() == [("half", "rejected")] * 2
            json.dumps(one.rig.notebook.notes("command")["half"], ensure_ascii=False).encode()

    asyncio.run(scenario())


def test_time_to_live_counts_from_when_it_was_issued_and_from_when_it_came() -> None:
    async def scenario() -> None:
        async with site() as one:
            await one.send(said("old", issued_at=NOON_US - 61_000_000))
            await one.send(said("iso", issued_at="2026-03-28T13:59:30+02:00"))
            one.session.inbox.put_nowait(message(said("slow"), received_s=one.rig.clock.monotonic_s() - 61))
            one.session.inbox.put_nowait(
                message(said("late", ttl_s=900), received_s=one.rig.clock.monotonic_s(), expires_s=5)
            )
            one.judging.clear()
            await settle()
            one.rig.clock.advance(6)
            one.judging.set()
            await settle()
            assert dict(one.outcomes()) == {"old": "expired", "iso": "done", "slow": "expired", "late": "expired"}
            assert len(one.rig.charger.acted) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("resumed", "duplicate", "expires_s", "outcome"),
    [
        (False, False, None, "done"),
        (True, False, None, "expired"),
        (False, True, None, "expired"),
        (True, True, 30, "done"),
    ],
)
def test_without_a_clock_only_what_can_not_have_waited_is_done(
    *, resumed: bool, duplicate: bool, expires_s: int | None, outcome: str
) -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.clock.jump_wall(-NOON_US / 1e6 + 100)
        async with site(rig) as one:
            session = FakeSession()
            session.resumed = resumed
            await one.connect(session)
            await one.send(said(), duplicate=duplicate, expires_s=expires_s)
            assert one.outcomes() == [("c1", outcome)]
            assert len(rig.charger.acted) == (outcome == "done")

    asyncio.run(scenario())


def test_nothing_is_done_before_alarms_are_judged() -> None:
    async def scenario() -> None:
        async with site() as one:
            one.judging.clear()
            await one.send(said())
            assert not one.rig.charger.acted
            one.judging.set()
            await settle()
            assert one.outcomes() == [("c1", "done")]

    asyncio.run(scenario())


def test_no_more_than_a_window_is_open_and_the_rest_waits() -> None:
    async def scenario() -> None:
        async with site() as one:
            one.rig.charger.gate = asyncio.Event()
            for number in range(MAX_OPEN + 20):
                await one.send(said(f"c{number}"))
            assert one.downlink.counters()["commands_open"] == MAX_OPEN
            assert one.session.inbox.qsize() >= 19
            one.rig.charger.gate.set()
            for _ in range(20):
                await settle()
            assert [outcome for _, outcome in one.outcomes()] == ["done"] * (MAX_OPEN + 20)
            assert one.downlink.counters()["commands_open"] == 0

    asyncio.run(scenario())


def test_what_control_can_not_take_now_waits_and_what_stops_is_not_told() -> None:
    async def scenario() -> None:
        async with site() as one:
            one.rig.charger.gate = asyncio.Event()
            people = [asyncio.ensure_future(one.rig.do("reset")) for _ in range(64)]
            await settle()
            await one.send(said("patient"))
            assert one.session.sent == []
            one.rig.charger.gate.set()
            await asyncio.gather(*people)
            one.rig.clock.advance(1)
            await settle()
            assert one.outcomes() == [("patient", "done")]
            one.rig.charger.gate = asyncio.Event()
            await one.send(said("cut"))
            await one.rig.service.close()
            one.rig.clock.advance(1)
            await settle()
            assert one.outcomes() == [("patient", "done")]
            assert len(one.session.acknowledged) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("asked", "topic", "outcome"),
    [
        ("", f"{TOPIC}/result", "done"),
        (f"{TOPIC}/result/desk-4", f"{TOPIC}/result/desk-4", "done"),
        ("enlace/other/command", f"{TOPIC}/result", "rejected"),
        (f"{TOPIC}/resulting", f"{TOPIC}/result", "rejected"),
        (f"{TOPIC}/result/#", f"{TOPIC}/result", "rejected"),
        (f"{TOPIC}/result/{'x' * 300}", f"{TOPIC}/result", "rejected"),
    ],
)
def test_a_response_topic_is_taken_below_our_own_only(asked: str, topic: str, outcome: str) -> None:
    async def scenario() -> None:
        async with site() as one:
            await one.send(said(), response_topic=asked, correlation_data=b"\x00\xff7")
            assert [sent for sent, _, _ in one.session.sent] == [topic]
            assert one.session.correlations == [b"\x00\xff7"]
            assert one.outcomes() == [("c1", outcome)]
            await one.send(said("c2"), correlation_data=b"x" * (MAX_CORRELATION + 1))
            assert one.outcomes()[1:] == [("c2", "rejected")]
            assert one.session.correlations[1:] == [b""]

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_broker_that_refuses_results_or_the_subscription_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with site() as one:
            one.session.refuse = lambda topic, payload: "not authorised"
            for number in range(MAX_OPEN + 5):
                await one.send(said(f"c{number}"))
            assert one.downlink.counters()["commands_unanswered_total"] == MAX_OPEN + 5
            assert len(one.session.acknowledged) == MAX_OPEN + 5
            closed = FakeSession()
            closed.refuse_subscription = "not authorised"
            await one.connect(closed)
            await one.connect(closed)
            await one.connect()
            await one.send(said("last"))
            assert one.outcomes() == [("last", "done")]

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_killed_at_any_step_nothing_is_done_twice_and_each_result_is_told() -> None:
    """Trial C3: the broker keeps what was not acknowledged, and sends it again to the next process."""

    async def scenario() -> None:
        ends: set[object] = set()
        for at in range(100):
            rig = await Rig(killer=Killer(at)).start()
            first = Site(rig)
            session = await first.connect()
            commands = [said("a"), said("b", action="limit", args={"limit_a": 10})]
            for one in commands:
                await first.send(one)
            unacknowledged = [
                one for one in commands if message(one).payload not in [m.payload for m in session.acknowledged]
            ]
            told = first.results(session)
            killed = rig.killer.dead
            next_rig = await rig.restarted().start()
            await first.close()
            second = Site(next_rig)
            await second.connect()
            for one in unacknowledged:
                await second.send(one, duplicate=True)
            told += second.results()
            for command_id in ("a", "b"):
                answers = {json.dumps(one) for one in told if one["id"] == command_id}
                assert len(answers) == 1, (at, answers)
            assert len(rig.charger.acted) <= 1, at
            ends |= {(one["id"], one["outcome"]) for one in told}
            await second.close()
            if not killed:
                break
        else:
            raise AssertionError("it never got through")
        assert at > 5
        assert {("a", "done"), ("a", "failed"), ("b", "done")} <= ends

    asyncio.run(scenario())


def storm(random: Random, count: int, start_us: int) -> tuple[list[dict[str, object]], set[object]]:
    """Commands that come late, more than once and in disorder; the ids of those that are too old."""
    late: set[object] = set()
    sent: list[dict[str, object]] = []
    for number in range(count):
        age_s, ttl_s = random.choice((0, 0, 0, 100, 5000)), random.choice((60, 90, 900))
        document = said(f"c{number}", issued_at=start_us - age_s * 1_000_000, ttl_s=ttl_s)
        if age_s > ttl_s:
            late.add(document["id"])
        sent += [document] * random.choice((1, 1, 2, 4))
    random.shuffle(sent)
    return sent, late


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_delayed_repeated_and_disordered_commands_have_one_effect_and_one_outcome_at_most(count: int) -> None:
    """Trials C2 and C4, with a connection that ends now and then."""
    answers: dict[object, set[str]] = {}

    def note(results: list[dict[str, object]]) -> None:
        for result in results:
            answers.setdefault(result["id"], set()).add(json.dumps(result))

    async def scenario() -> None:
        async with site() as one:
            sent, late = storm(Random(7), count, one.rig.clock.now_us())  # noqa: S311 - no secret
            for number, document in enumerate(sent):
                came_s = one.rig.clock.monotonic_s()
                one.session.inbox.put_nowait(message(document, received_s=came_s, duplicate=number % 3 == 0))
                if number % 20 == 19:
                    one.rig.clock.advance(0.05)
                    await settle()
                if number % 500 == 499:
                    note(one.results())
                    await one.connect()
            await settle(2000)
            note(one.results())
            for document in sent:  # what went with a connection: the broker sends it again
                if document["id"] not in answers:
                    await one.send(document, duplicate=True)
            note(one.results())
            assert len(answers) == count
            assert {len(told) for told in answers.values()} == {1}
            outcomes = {name: json.loads(next(iter(told)))["outcome"] for name, told in answers.items()}
            done = [name for name, outcome in outcomes.items() if outcome == "done"]
            assert {outcomes[name] for name in late} == {"expired"}
            assert len(one.rig.charger.acted) == len(done) > count / 3

    asyncio.run(scenario())


def test_a_replay_of_500_old_commands_does_nothing() -> None:
    """Trial C4."""

    async def scenario() -> None:
        async with site() as one:
            for number in range(500):
                await one.send(said(f"c{number}", issued_at=NOON_US - 901_000_000, ttl_s=900), duplicate=True)
            assert [outcome for _, outcome in one.outcomes()] == ["expired"] * 500
            assert not one.rig.charger.acted

    asyncio.run(scenario())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"id": st.just("c1") | JSON},
        optional={
            "issued_at": JSON | st.datetimes().map(str) | st.integers(1, 1 << 60),
            "ttl_s": JSON,
            "target": JSON,
            "action": JSON,
            "args": JSON,
            "issuer": JSON,
            "schema": JSON,
        },
    )
)
def test_whatever_comes_is_an_order_or_none_and_fits_the_schema_when_it_is(document: dict[str, object]) -> None:
    payload = json.dumps(document).encode()
    try:
        order = parse_command(payload)
    except CommandError:
        return
    assert order.id == document["id"]
    if not order.objection:
        CHECKS["command"]({**json.loads(payload), "ttl_s": 60})  # its bounds are looked at by control
        assert order.target == document["target"]


@given(st.binary(max_size=200))
def test_bytes_never_raise_anything_else(payload: bytes) -> None:
    with suppress(CommandError):
        parse_command(payload)


def test_a_result_with_odd_characters_can_be_told() -> None:
    payload = encode_result(OrderResult("c1", "failed", "it said \udc80", data={"x": None}))
    assert json.loads(payload)["reason"] == "it said \udc80"


@pytest.mark.parametrize(
    ("url", "commands", "takes"),
    [
        ("mqtts://broker", "auto", True),
        ("mqtt://broker", "auto", False),
        ("mqtt://127.0.0.1", "auto", True),
        ("mqtt://[::1]:1884", "auto", True),
        ("mqtt://localhost", "auto", True),
        ("mqtt://localhost.example.org", "auto", False),
        ("mqtt://broker", "yes", True),
        ("mqtts://broker", "no", False),
    ],
)
def test_who_may_command(url: str, commands: str, takes: bool) -> None:  # noqa: FBT001 - a column of the table
    assert UplinkSettings(url, "depot", commands=commands).takes_commands is takes


def test_the_page_shows_what_the_schemas_say() -> None:
    page = (ROOT / "docs" / "mqtt.md").read_text()
    blocks = re.findall(r"```json (\w+)\n(.*?)```", page, re.DOTALL)
    assert {name for name, _ in blocks} == {"ack", "command", "command_result"}
    for name, text in blocks:
        CHECKS[name](json.loads(text))
        if name == "command":
            assert parse_command(text.encode()).objection == ""
    for path in SCHEMAS.glob("*.json"):
        assert path.name in page, path.name


def test_an_end_of_the_connection_while_publishing_is_not_an_error() -> None:
    async def scenario() -> None:
        async with site() as one:
            one.session.cut()
            await one.send(said())
            assert one.session.acknowledged == []
            second = await one.connect()
            assert one.outcomes() == [("c1", "done")]
            assert second.acknowledged == []

    asyncio.run(scenario())


def test_an_order_keeps_its_first_objection() -> None:
    assert Order("c1").refused("first").refused("second").objection == "first"
