"""Whose word moves the cursor: PUBACK, the central server's acknowledgements, and what becomes of strange ones."""

import asyncio
import json
from collections.abc import Mapping, Sequence

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event
from cloud_sync.command_payload import Order, OrderResult
from cloud_sync.confirm import HEARD, INBOX, Confirmation
from cloud_sync.lanes import FIRST_PATIENCE_S, SHORT_PATIENCE_S, Stream
from cloud_sync.patience import Patience
from cloud_sync.sending import REFUSALS_BEFORE_ASIDE
from cloud_sync.settings import UplinkSettings
from cloud_sync.subscriber import decode_status, decode_telemetry
from cloud_sync.uplink import Parts, Uplink
from tests.unit.test_uplink import Site, running, seqs
from tests.unit.uplink_fakes import BOOT, FakeLink, FakeSession, MemoryOutbox, block, event

TOPIC = "enlace/depot-7/ack"


class Notes:
    """A notebook in memory that may be told to fail."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Mapping[str, object]] = {}
        self.events: list[Event] = []
        self.broken = False

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        return self.kept.get((kind, key))

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        return {key: data for (of, key), data in self.kept.items() if of == kind}

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        if self.broken:
            raise StoreError("write a note", "disk is gone")
        if data is not None:
            self.kept[kind, key] = data
        self.events += events


def say(session: FakeSession, upto: object, stream: object = "telemetry", *, retain: bool = False) -> None:
    session.say(TOPIC, json.dumps({"stream": stream, "upto": upto}).encode(), inbox=INBOX, retain=retain)


def cursor(site: Site, stream: str = "telemetry") -> int:
    return site.uplink.status().streams[stream].acked


@pytest.mark.parametrize(
    ("payload", "confirm", "expected"),
    [
        ("sparkplug", "auto", {"event": True, "telemetry": False}),
        ("sparkplug", "ack", {"event": True, "telemetry": True}),
        ("json", "auto", {"event": True, "telemetry": True}),
    ],
)
def test_who_stores_our_events_says_nothing_of_sparkplugs_telemetry(
    payload: str, confirm: str, expected: dict[str, bool]
) -> None:
    settings = UplinkSettings("mqtt://b", "depot-7", payload=payload, confirm=confirm)
    notes = Notes()
    notes.kept["uplink", "central"] = {"broker": settings.broker_url, "topic": TOPIC}
    streams = Stream("event"), Stream("telemetry")
    patience = Patience(FakeClock())
    Confirmation(settings, MemoryOutbox(), patience, streams, lambda _: None, lambda: None, notes)
    assert {stream.name: stream.by_word for stream in streams} == expected


def test_with_ack_only_the_central_servers_word_moves_the_cursor() -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(*[block(seq) for seq in range(1, 11)], event(1))
            session = await site.connect()
            await site.until(lambda: len(seqs(session)) == 10 and bool(session.payloads("event")))
            await site.settle()
            assert (cursor(site), cursor(site, "event"), site.uplink.status().by_word) == (0, 0, True)
            assert session.subscribed == [TOPIC]
            say(session, 4)
            say(session, 1, "event")
            await site.until_acked(4)
            await site.until(lambda: cursor(site, "event") == 1)
            site.outbox.add(block(11))
            await site.until(lambda: 11 in seqs(session))
            assert decode_telemetry(session.payloads("telemetry")[-1]).base == 4
            assert site.outbox.cursors["telemetry"] in {0, 4}
        assert site.outbox.cursors == {"telemetry": 4, "event": 1}

    asyncio.run(scenario())


def test_puback_confirms_until_a_central_server_is_heard_and_never_again() -> None:
    async def scenario() -> None:
        notes = Notes()
        async with running(confirm="auto", notes=notes) as site:
            site.outbox.add(*[block(seq) for seq in range(1, 4)])
            session = await site.connect()
            await site.until_acked(3)
            say(session, 2)
            await site.until(lambda: site.uplink.status().by_word)
            await site.until(lambda: [entry.kind for entry in notes.events] == [HEARD])
            site.outbox.add(block(4))
            await site.until(lambda: 4 in seqs(session))
            await site.settle()
            assert cursor(site) == 3
            say(session, 4)
            await site.until_acked(4)
        async with running(confirm="auto", notes=notes) as site:
            assert site.uplink.status().by_word, "it is remembered"
            site.outbox.add(block(1))
            session = await site.connect()
            await site.until(lambda: seqs(session) == [1])
            await site.settle()
            assert cursor(site) == 0
            assert len(notes.events) == 1, "told once"
        async with running(confirm="puback", notes=notes) as site:
            site.outbox.add(block(1))
            session = await site.connect()
            await site.until_acked(1)
            assert session.subscribed == []
        other = Notes()
        other.kept["uplink", "central"] = {"broker": "mqtt://another", "topic": TOPIC}
        async with running(confirm="auto", notes=other) as site:
            assert not site.uplink.status().by_word, "that was another broker"

    asyncio.run(scenario())


def test_a_central_server_that_could_not_be_remembered_is_remembered_with_its_next_word() -> None:
    async def scenario() -> None:
        notes = Notes()
        notes.broken = True
        async with running(confirm="auto", notes=notes) as site:
            site.outbox.add(*[block(seq) for seq in range(1, 4)])
            session = await site.connect()
            await site.until_acked(3)
            say(session, 3)
            await site.until(lambda: site.uplink.status().by_word)
            notes.broken = False
            say(session, 3)
            await site.until(lambda: bool(notes.kept))
            assert [entry.kind for entry in notes.events] == [HEARD]

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_strange_words_are_refused_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(*[block(seq) for seq in range(1, 6)])
            session = await site.connect()
            await site.until(lambda: len(seqs(session)) == 5)
            say(session, 3)
            await site.until_acked(3)
            strange: list[tuple[object, object, bool]] = [
                (5, "telemetry", True),
                (6, "telemetry", False),
                (5, "alarms", False),
                (5, 7, False),
                (-1, "telemetry", False),
                (True, "telemetry", False),
                (4.0, "telemetry", False),
                ("5", "telemetry", False),
                (None, "telemetry", False),
            ]
            for upto, stream, retain in strange:
                say(session, upto, stream, retain=retain)
            for payload in (b"", b"5", b"[]", b"{", b"[" * 5000, b"\xff", b'{"stream": "telemetry"}'):
                session.say(TOPIC, payload, inbox=INBOX)
            for _ in range(2):
                await site.until(lambda: site.uplink.status().acks["acks_refused_total"] == len(strange) + 7)
            assert cursor(site) == 3
            assert len(session.acknowledged) == 1 + len(strange) + 7
            warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
            assert len(warnings) == len(set(warnings)) == 4, "each kind is told once"
            say(session, 5)
            await site.until_acked(5)
            assert site.uplink.status().acks["acks_total"] == 2

    asyncio.run(scenario())


def test_an_older_word_that_comes_again_says_nothing_and_is_no_fault() -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(*[block(seq) for seq in range(1, 6)])
            session = await site.connect()
            await site.until(lambda: len(seqs(session)) == 5)
            for upto in (4, 2, 4, 1):
                say(session, upto)
            await site.until(lambda: site.uplink.status().acks["acks_total"] == 4)
            assert cursor(site) == 4
            acks = site.uplink.status().acks
            assert (acks["acks_older_total"], acks["acks_refused_total"]) == (2, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("kept", [True, False], ids=["the broker kept it", "it may be lost"])
def test_after_a_clean_connection_what_was_not_confirmed_is_sent_again_soon(*, kept: bool) -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(*[block(seq) for seq in range(1, 4)])
            session = await site.connect()
            await site.until(lambda: len(seqs(session)) == 3)
            say(session, 1)
            await site.until_acked(1)
            session.cut()
            site.outbox.add(event(1))
            await site.until(lambda: len(site.link.errors) == 1)
            session = FakeSession()
            session.resumed = kept
            await site.connect(session)
            await site.settle()
            assert seqs(session) == [], "the broker has them"
            for _ in range(3):
                site.clock.advance(SHORT_PATIENCE_S)
                await site.settle()
            if kept:
                assert seqs(session) == []
            else:
                await site.until(lambda: seqs(session) == [2, 3])
            for _ in range(int(FIRST_PATIENCE_S // SHORT_PATIENCE_S) - 1):
                site.clock.advance(SHORT_PATIENCE_S)
                await site.settle()
            assert len(seqs(session)) == 2, "once soon, then as ever"
            say(session, 3)
            await site.until_acked(3)

    asyncio.run(scenario())


class Strict(FakeSession):
    """A connection that notes in which order things go out, and whose broker never answers a subscription."""

    def __init__(self) -> None:
        super().__init__()
        self.diary: list[str] = []
        self.introduced = asyncio.Event()

    async def subscribe(self, *filters: str, inbox: str = "") -> None:
        self.diary += filters
        await asyncio.Event().wait()

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, correlation_data: bytes = b"", qos: int = 1
    ) -> "asyncio.Future[None]":
        self.diary.append(topic)
        if topic.endswith("/catalog"):
            self.introduced.set()
        return await super().publish(topic, payload, retain=retain, correlation_data=correlation_data, qos=qos)


def test_who_sees_the_site_come_online_is_listened_to_already() -> None:
    async def execute(order: Order) -> OrderResult:
        raise AssertionError(order)

    async def scenario() -> None:
        link, session = FakeLink(), Strict()
        settings = UplinkSettings("mqtt://127.0.0.1", site="depot-7", confirm="ack")
        uplink = Uplink(
            settings,
            MemoryOutbox(),
            FakeClock(),
            lambda _: None,
            boot=BOOT,
            version="1.0",
            execute=execute,
            parts=Parts(link=link),
        )
        task = asyncio.ensure_future(uplink.run())
        try:
            await link.sessions.put(session)
            await asyncio.wait_for(session.introduced.wait(), 60)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        names = [topic.removeprefix("enlace/depot-7/") for topic in session.diary]
        assert names[:4] == ["ack", "command", "state", "catalog"]

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_with_ack_a_refused_subscription_is_said_and_confirms_nothing() -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(block(1))
            session = FakeSession()
            session.refuse_subscription = "not authorized"
            await site.connect(session)
            await site.until(lambda: seqs(session) == [1])
            await site.settle()
            status = site.uplink.status()
            assert (status.by_word, cursor(site)) == (True, 0)
            assert status.central_refused == "not authorized"
            session.cut()
            site.outbox.add(event(1))
            await site.until(lambda: len(site.link.errors) == 1)
            await site.connect()
            await site.until(lambda: not site.uplink.status().central_refused)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_where_the_broker_refuses_the_subscription_puback_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        notes = Notes()
        notes.kept["uplink", "central"] = {"broker": "mqtt://broker", "topic": TOPIC}
        async with running(confirm="auto", notes=notes) as site:
            assert site.uplink.status().by_word
            for seq in (1, 2):
                site.outbox.add(block(seq))
                session = FakeSession()
                session.refuse_subscription = "not authorized"
                await site.connect(session)
                await site.until_acked(seq)
                session.cut()
                site.outbox.add(event(seq))
                await site.until(lambda seq=seq: len(site.link.errors) == seq)  # type: ignore[misc]
            assert sum("PUBACK confirms" in record.getMessage() for record in caplog.records) == 1
            session = await site.connect()
            await site.until(lambda: site.uplink.status().by_word)

    asyncio.run(scenario())


def test_what_the_central_server_leaves_unconfirmed_is_sent_again() -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(block(100, first_seq=1), *[block(seq) for seq in range(101, 105)])
            session = await site.connect()
            await site.until(lambda: len(seqs(session)) == 5)
            say(session, 50)  # a part of the first one
            await site.until_acked(50)
            for _ in range(int(FIRST_PATIENCE_S // 5) + 3):
                site.clock.advance(5.0)
                await site.settle()
            await site.until(lambda: len(seqs(session)) == 10)
            assert seqs(session)[5:] == [100, 101, 102, 103, 104], "from the last whole record on"
            assert decode_telemetry(session.payloads("telemetry")[-1]).base == 50
            assert site.uplink.status().streams["telemetry"].resent == 5
            site.outbox.add(block(105))
            await site.until(lambda: 105 in seqs(session))
            say(session, 105)
            await site.until_acked(105)

    asyncio.run(scenario())


def test_what_the_store_lost_is_passed_over_and_told_with_the_base() -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(block(1), block(2), block(9), block(10))
            session = await site.connect()
            await site.until(lambda: len(seqs(session)) == 4)
            say(session, 2)
            await site.until_acked(8)
            site.outbox.add(block(11))
            await site.until(lambda: 11 in seqs(session))
            assert decode_telemetry(session.payloads("telemetry")[-1]).base == 8

    asyncio.run(scenario())


def test_a_record_that_is_refused_in_each_lane_is_set_aside_though_the_other_is_refused_as_well() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 6)])
            sessions = []
            for number in range(2 * REFUSALS_BEFORE_ASIDE):
                session = FakeSession()
                session.refuse = lambda topic, payload: (
                    "payload format invalid"
                    if topic.endswith("telemetry") and decode_telemetry(payload).seq in {3, 6}
                    else ""
                )
                sessions.append(await site.connect(session))
                if number == 0:
                    site.outbox.add(*[block(seq) for seq in range(6, 9)])
                await site.settle()
                if cursor(site) == 8:
                    break
            await site.until_acked(8)
            assert sorted(entry.data["seq"] for entry in site.events) == [3, 6]  # type: ignore[type-var]
            assert {seq for session in sessions for seq in seqs(session)} == set(range(1, 9))

    asyncio.run(scenario())


def test_events_leave_before_the_telemetrys_backlog_and_the_newest_values_before_both() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 60)], *[event(seq) for seq in range(1, 250)])
            session = await site.connect()
            await site.until(lambda: len(session.sent) == 3 + 59 + 249)
            names = [topic.rpartition("/")[2] for topic, _, _ in session.sent]
            assert names == ["state", "catalog", "status"] + ["event"] * 249 + ["telemetry"] * 59
            assert session.sent[2][2], "it is retained"
            assert decode_status(session.sent[2][1]).values == {1: (52.5, 7), 2: (None, 8)}

    asyncio.run(scenario())


def test_live_data_leaves_while_the_backlog_waits_for_its_pubacks() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 200)])
            session = FakeSession()
            session.automatic = False
            site.link.stats.connected = True
            await site.connect(session)
            await site.until(lambda: len(session.waiting) >= 2)
            await site.settle()
            waiting = len(session.waiting)
            assert waiting <= 50, "the backlog takes half of the window at most"
            site.outbox.add(block(200), event(1))
            await site.until(lambda: len(session.waiting) == waiting + 2)
            assert seqs(session)[-1] == 200
            assert site.uplink.status().streams["telemetry"].draining > 100

    asyncio.run(scenario())


def test_how_long_it_waits_counts_from_when_something_waits() -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:

            def waiting_s() -> float:
                return site.uplink.status().streams["telemetry"].waiting_s

            site.outbox.add(block(1))
            session = await site.connect()
            await site.until(lambda: seqs(session) == [1])
            await site.settle()
            say(session, 1)
            await site.until_acked(1)
            site.clock.advance(3600)
            await site.settle()
            assert waiting_s() == 0
            site.outbox.add(block(2))
            await site.until(lambda: 2 in seqs(session))
            assert waiting_s() == 0, "it has only just begun"
            site.clock.advance(40)
            site.outbox.add(block(3))
            await site.until(lambda: 3 in seqs(session))
            await site.settle()
            assert waiting_s() == 40
            say(session, 2)
            await site.until_acked(2)
            assert waiting_s() == 0
            site.clock.advance(5)
            assert waiting_s() == 5

    asyncio.run(scenario())
