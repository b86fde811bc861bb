"""The uplink over a fake outbox and a fake link: order, cursor, window, what is sent again, what is set aside."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from agent.core.clock import FakeClock
from agent.core.model import Event, Signal
from agent.core.ports import Latest, Notebook, StoredBlock
from agent.store.blocks import encode
from cloud_sync.sending import REFUSALS_BEFORE_ASIDE
from cloud_sync.settings import UplinkSettings
from cloud_sync.subscriber import Catalog, decode_event, decode_state, decode_telemetry
from cloud_sync.uplink import BLOCKS_PER_READ, Parts, Uplink
from tests.unit.uplink_fakes import BOOT, SIGNALS, FakeLink, FakeSession, MemoryOutbox, UplinkRig, block, event

LATEST = [Latest(SIGNALS[0], 52.5, 7, 0.0), Latest(SIGNALS[1], None, 8, 0.0), Latest(SIGNALS[2], None, None, None)]


class Site(UplinkRig):
    """An uplink under test with everything that it touches."""

    def __init__(self, payload: str = "blocks", confirm: str = "auto", notes: Notebook | None = None) -> None:
        self.outbox = MemoryOutbox()
        self.link = FakeLink()
        self.clock = FakeClock()
        self.events: list[Event] = []
        settings = UplinkSettings("mqtt://broker", site="depot-7", payload=payload, confirm=confirm)
        self.uplink = Uplink(
            settings,
            self.outbox,
            self.clock,
            self.events.append,
            boot=BOOT,
            version="1.0",
            parts=Parts(link=self.link, latest=lambda: LATEST, notes=notes),
        )

    async def connect(self, session: FakeSession | None = None) -> FakeSession:
        session = session or FakeSession()
        await self.link.sessions.put(session)
        await self.until(lambda: len(session.sent) >= 3 or bool(self.link.errors))
        return session


@asynccontextmanager
async def running(payload: str = "blocks", confirm: str = "auto", notes: Notebook | None = None) -> AsyncIterator[Site]:
    site = Site(payload, confirm, notes)
    task = asyncio.ensure_future(site.uplink.run())
    try:
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result()


def seqs(session: FakeSession) -> list[int]:
    return [decode_telemetry(payload).seq for payload in session.payloads("telemetry")]


def test_state_and_catalogue_come_first_and_everything_follows_in_order() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 100)], event(1), event(2))
            session = await site.connect()
            await site.until(lambda: len(session.sent) == 3 + 99 + 2)
            assert [topic for topic, _, _ in session.sent[:2]] == ["enlace/depot-7/state", "enlace/depot-7/catalog"]
            assert [retain for _, _, retain in session.sent] == [True] * 3 + [False] * 101
            assert decode_state(session.sent[0][1]).online
            assert list(Catalog.from_payload(session.sent[1][1]).signals.values()) == list(SIGNALS)
            assert seqs(session) == list(range(1, 100))
            assert [decode_event(payload).seq for payload in session.payloads("event")] == [1, 2]
            await site.until_acked(99)
            await site.until(lambda: site.uplink.status().streams["event"].acked == 2)
            assert [stream.backlog for stream in site.uplink.status().streams.values()] == [0, 0]

    asyncio.run(scenario())


def test_the_outbox_holds_before_the_first_record_and_learns_what_left() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(block(1), block(2), block(3), event(1))
            session = FakeSession(window=2)
            session.automatic = False
            await site.connect(session)
            await site.until(lambda: len(session.waiting) == 2)
            assert site.outbox.diary == [("hold", "event", None), ("hold", "telemetry", None)]
            session.cut()
            await site.until(lambda: len(site.link.errors) == 1)
            held = {stream: upto or 0 for what, stream, upto in site.outbox.diary[2:] if what == "hold"}
            sent = {"telemetry": max(seqs(session), default=0), "event": len(session.payloads("event"))}
            assert sum(sent.values()) >= 2
            # A record that waits for room may be held as well: too much is safe, too little is not.
            assert all(held[stream] >= sent[stream] for stream in sent)
            assert held["telemetry"] <= 3

    asyncio.run(scenario())


def test_what_is_not_acknowledged_is_sent_again_under_the_same_numbers() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 11)])
            first = FakeSession()
            first.automatic = False
            await site.connect(first)
            await site.until(lambda: len(first.waiting) == 10)
            for _ in range(4):
                first.puback()
            await site.until_acked(4)
            first.cut()
            second = await site.connect()
            await site.until(lambda: len(second.payloads("telemetry")) == 6)
            assert seqs(first) == list(range(1, 11))
            assert seqs(second) == list(range(5, 11))
            before, after = (
                [decode_telemetry(one) for one in session.payloads("telemetry")] for session in (first, second)
            )
            assert [message.columns for message in after] == [message.columns for message in before[4:]]
            assert {message.base for message in after} == {4}

    asyncio.run(scenario())


def test_the_cursor_never_moves_over_a_record_that_is_not_acknowledged() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 6)])
            session = FakeSession()
            session.automatic = False
            await site.connect(session)
            await site.until(lambda: len(session.waiting) == 5)
            for index in (4, 3, 1):  # 5, 4 and 2: their PUBACKs overtake that of 1
                session.puback(index)
            await site.settle()
            assert site.uplink.status().streams["telemetry"].acked == 0
            session.puback(0)
            await site.until_acked(2)
            session.cut()
            await site.until(lambda: len(site.link.errors) == 1)
            assert site.outbox.cursors["telemetry"] == 2
            again = await site.connect()
            await site.until_acked(5)
            assert seqs(again) == [3], "4 and 5 are there already"

    asyncio.run(scenario())


def test_the_backlog_stays_in_the_store() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 501)])
            session = FakeSession(window=10)
            session.automatic = False
            await site.connect(session)
            await site.until(lambda: len(session.waiting) == 10)
            reads = site.outbox.reads
            await site.settle()
            assert (len(session.payloads("telemetry")), session.max_waiting) == (10, 10)
            assert site.outbox.reads == reads, "it reads on while nothing moves"
            while site.uplink.status().streams["telemetry"].acked < 500:
                if session.waiting:
                    session.puback()
                await asyncio.sleep(0)
            assert seqs(session) == list(range(1, 501))
            assert session.max_waiting == 10
            assert site.outbox.reads < reads + 500 / BLOCKS_PER_READ + 2

    asyncio.run(scenario())


def test_the_cursor_is_persisted_about_once_a_second() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            for seq in range(1, 51):
                site.outbox.add(block(seq))
                await site.until_acked(seq)
            acks = [entry for entry in site.outbox.diary if entry[0] == "ack"]
            assert len(acks) == 1, "the first at once, the others within the second"
            site.clock.advance(1.0)
            await site.until(lambda: site.outbox.cursors["telemetry"] == 50)
            assert len([entry for entry in site.outbox.diary if entry[0] == "ack"]) == 2
            assert seqs(session) == list(range(1, 51))

    asyncio.run(scenario())


def test_stopping_persists_the_cursor_and_says_goodbye() -> None:
    async def scenario() -> None:
        site = Site()
        task = asyncio.ensure_future(site.uplink.run())
        site.outbox.add(*[block(seq) for seq in range(1, 4)])
        session = await site.connect()
        await site.until_acked(3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert site.outbox.cursors["telemetry"] == 3
        holds = [entry for entry in site.outbox.diary if entry[0] == "hold"]
        assert holds[-2:] == [("hold", "event", 0), ("hold", "telemetry", 3)]
        topic, payload, retain = session.sent[-1]
        assert (topic, retain, decode_state(payload).online) == ("enlace/depot-7/state", True, False)

    asyncio.run(scenario())


def test_a_broker_that_is_silent_does_not_hold_up_the_goodbye() -> None:
    async def scenario() -> None:
        site = Site()
        task = asyncio.ensure_future(site.uplink.run())
        session = FakeSession(window=1)
        session.automatic = False
        site.outbox.add(block(1), block(2))
        await site.connect(session)
        await site.until(lambda: len(session.waiting) == 1)
        task.cancel()
        await site.settle()
        assert not task.done()
        site.clock.advance(1.0)
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(scenario())


def test_a_commit_in_another_thread_wakes_the_uplink() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            await site.settle()
            thread = threading.Thread(target=site.outbox.add, args=(block(1), event(1)))
            thread.start()
            await asyncio.to_thread(thread.join)
            await site.until(lambda: len(session.sent) == 5)

    asyncio.run(scenario())


def test_the_catalogue_is_sent_again_before_records_that_need_it() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(block(1))
            session = await site.connect()
            await site.until(lambda: len(session.payloads("telemetry")) == 1)
            site.outbox.version, site.outbox.signals = 2, (*SIGNALS, Signal("new", "power_w", "W", id=6))
            site.outbox.add(block(2))
            await site.until(lambda: len(session.payloads("telemetry")) == 2)
            names = [topic.rpartition("/")[2] for topic, _, _ in session.sent]
            assert names == ["state", "catalog", "status", "telemetry", "catalog", "telemetry"]
            assert [decode_telemetry(payload).catalog for payload in session.payloads("telemetry")] == [1, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("payload", ["json", "blocks"])
def test_a_record_that_cannot_be_encoded_is_set_aside(payload: str) -> None:
    async def scenario() -> None:
        async with running(payload) as site:
            bad = replace(block(2), data=b"no block") if payload == "json" else replace(block(2), boot="no boot")
            site.outbox.add(block(1), bad, block(3), event(1, x=object()), event(2))
            session = await site.connect()
            await site.until_acked(3)
            await site.until(lambda: site.uplink.status().streams["event"].acked == 2)
            assert seqs(session) == [1, 3]
            assert [decode_event(payload).seq for payload in session.payloads("event")] == [2]
            assert sorted(entry.subject for entry in site.events) == ["event", "telemetry"]
            reports = {entry.subject: entry for entry in site.events}
            assert {entry.kind for entry in site.events} == {"uplink.set_aside"}
            assert (reports["telemetry"].data["seq"], reports["event"].data["seq"]) == (2, 1)
            assert [status.set_aside for status in site.uplink.status().streams.values()] == [1, 1]

    asyncio.run(scenario())


def test_a_record_that_the_server_refuses_is_tried_again_and_then_set_aside() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[block(seq) for seq in range(1, 6)])
            sessions = []
            for _ in range(REFUSALS_BEFORE_ASIDE):
                session = FakeSession()
                session.refuse = lambda topic, payload: (
                    "payload format invalid"
                    if topic.endswith("telemetry") and decode_telemetry(payload).seq == 3
                    else ""
                )
                sessions.append(await site.connect(session))
                await site.settle()
            await site.until_acked(5)
            assert [error.reason for error in site.link.errors] == ["payload format invalid"] * 4
            assert all(3 in seqs(session) for session in sessions)
            assert 1 not in seqs(sessions[1])
            assert [entry.data["reason"] for entry in site.events] == ["payload format invalid"]

    asyncio.run(scenario())


def test_a_report_that_the_server_refuses_makes_no_further_report() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(event(1, "uplink.set_aside"), event(2))
            for _ in range(REFUSALS_BEFORE_ASIDE):
                session = FakeSession()
                session.refuse = lambda topic, payload: (
                    "refused" if topic.endswith("event") and decode_event(payload).seq == 1 else ""
                )
                await site.connect(session)
                await site.settle()
            await site.until(lambda: site.uplink.status().streams["event"].acked == 2)
            assert site.events == []
            assert site.uplink.status().streams["event"].set_aside == 1

    asyncio.run(scenario())


def test_a_block_larger_than_the_broker_takes_leaves_as_json_in_parts() -> None:
    async def scenario() -> None:
        async with running() as site:
            noise = np.random.default_rng(1).integers(-(2**62), 2**62, 20_000)
            data = encode(np.full(20_000, 3, dtype=np.int32), np.arange(20_000, dtype=np.int64), noise)
            large = StoredBlock(100, 1, BOOT, 20_000, data)
            site.outbox.add(large, block(101))
            session = FakeSession()
            session.limit = len(large.data)
            await site.connect(session)
            await site.until_acked(101)
            messages = [decode_telemetry(payload) for payload in session.payloads("telemetry")]
            assert (messages[0].first_seq, messages[-2].seq, messages[-1].seq) == (1, 100, 101)
            assert len(messages) == 11
            assert site.events == []

    asyncio.run(scenario())


def test_a_catalogue_that_is_refused_does_not_stop_the_values() -> None:
    async def scenario() -> None:
        async with running("json") as site:
            site.outbox.add(block(1), block(2))
            session = FakeSession()
            session.refuse = lambda topic, payload: "too large" if topic.endswith("catalog") else ""
            await site.connect(session)
            await site.until_acked(2)
            assert [entry.kind for entry in site.events] == ["uplink.catalog_refused"]

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_store_that_fails_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            await site.settle()
            site.outbox.broken = True
            site.outbox.add(block(1))
            await site.settle()
            for _ in range(3):
                site.clock.advance(5.0)
                await site.settle()
            warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
            assert len(warnings) == 1
            assert "disk is gone" in warnings[0]
            site.outbox.broken = False
            site.clock.advance(5.0)
            await site.until(lambda: seqs(session) == [1])

    asyncio.run(scenario())


def test_status_tells_the_backlog_without_a_connection() -> None:
    site = Site()
    site.outbox.add(block(1), block(2), event(1))
    site.link.stats.next_try_s = site.clock.monotonic_s() + 7
    status = site.uplink.status()
    assert (status.connected, status.next_try_in_s, status.broker) == (False, 7, "mqtt://broker")
    assert {name: stream.backlog for name, stream in status.streams.items()} == {"telemetry": 2, "event": 1}


def test_the_outbox_does_not_keep_an_uplink_alive() -> None:
    site = Site()
    gone = weakref.ref(site.uplink)
    del site.uplink
    gc.collect()
    assert gone() is None
    site.outbox.add(block(1))


def test_acknowledgements_that_come_last_are_counted() -> None:
    """Those of records behind one that is still open are not."""

    async def scenario() -> None:
        site = Site()
        task = asyncio.ensure_future(site.uplink.run())
        site.outbox.add(*[block(seq) for seq in range(1, 6)])
        session = FakeSession()
        session.automatic = False
        await site.connect(session)
        await site.until(lambda: len(session.waiting) == 5)
        for index in (4, 1, 0):  # 5, 2 and 1
            session.puback(index)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert site.outbox.cursors["telemetry"] == 2

    asyncio.run(scenario())
