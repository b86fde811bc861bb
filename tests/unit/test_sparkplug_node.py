"""The Sparkplug edge node on the uplink, over a fake link: a host that knows the rules looks at every message."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.config import read_config
from agent.core.clock import FakeClock
from agent.core.errors import StoreError, Unavailable
from agent.core.model import Event, Kind, Number, Signal
from agent.core.ports import Latest, StoredBlock
from agent.store.blocks import encode
from cloud_sync.settings import UplinkSettings
from cloud_sync.sparkplug.node import SparkplugNode
from cloud_sync.sparkplug.payload import DataType, Metric, Payload, encode_payload
from cloud_sync.sparkplug.read import decode_payload
from cloud_sync.uplink import Parts, Uplink
from tests.unit.sparkplug_host import PREFIX, Host
from tests.unit.uplink_fakes import BOOT, SIGNALS, T0_US, FakeLink, FakeSession, MemoryOutbox, UplinkRig, block, event

OWN = Signal("gateway", "uptime_s", "s", id=6)
METER = Signal("meter", "power_w", "W", id=7)
EVERY = (*SIGNALS, OWN, METER)


class Values:
    """The newest values as the hub has them: a signal that is not named is unknown."""

    def __init__(self) -> None:
        self.known: dict[int, Number] = {1: 52.1, 2: 21.0, 3: 1, 4: 77, 5: -1.5, 6: 10, 7: 900}
        self.ages_s: dict[int, float] = {}

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        return [
            Latest(signal, self.known.get(signal.id), T0_US if signal.id in self.known else None, self.age(signal.id))
            for signal in signals
        ]

    def age(self, number: int) -> float | None:
        return self.ages_s.get(number, 1.0 if number in self.known else None)


class Notes:
    """A notebook in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Mapping[str, object]] = {}
        self.broken = False

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        return self.kept.get((kind, key))

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        return {key: data for (found, key), data in self.kept.items() if found == kind}

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        assert data is not None
        if self.broken:
            raise StoreError("note", "the disk is full")
        self.kept[kind, key] = data


class Site(UplinkRig):
    """An uplink with a Sparkplug node and all that it touches."""

    def __init__(self, host: str = "", notes: Notes | None = None, confirm: str = "auto") -> None:
        self.outbox = MemoryOutbox()
        self.outbox.signals = EVERY
        self.link = FakeLink()
        self.clock = FakeClock()
        self.values = Values()
        self.events: list[Event] = []
        self.sessions: list[FakeSession] = []
        self.notes = notes or Notes()
        settings = UplinkSettings(
            "mqtt://broker",
            site="depot-7",
            payload="sparkplug",
            confirm=confirm,
            sparkplug_group="plant",
            sparkplug_host=host,
        )
        self.node = SparkplugNode(settings, self.outbox, self.values, self.clock, self.notes, "gateway")
        parts = Parts(node=self.node, link=self.link)
        report = self.events.append
        self.uplink = Uplink(settings, self.outbox, self.clock, report, boot=BOOT, version="1.0", parts=parts)

    async def connect(self, session: FakeSession | None = None, sent: int = 3) -> FakeSession:
        """A connection, until so many messages have left."""
        self.node.will()
        session = session or FakeSession()
        self.sessions.append(session)
        await self.link.sessions.put(session)
        await self.until(lambda: len(session.sent) >= sent)
        return session

    def asks(self, session: FakeSession, *metrics: Metric, device: str = "", retain: bool = False) -> None:
        topic = f"{PREFIX}/{'DCMD' if device else 'NCMD'}/depot-7" + (f"/{device}" if device else "")
        session.say(topic, encode_payload(Payload(1, None, metrics)), inbox="sparkplug", retain=retain)

    def host_is(self, session: FakeSession, timestamp_ms: int, *, online: bool) -> None:
        state = json.dumps({"online": online, "timestamp": timestamp_ms}).encode()
        session.say("spBv1.0/STATE/scada", state, inbox="sparkplug host", retain=True)


@asynccontextmanager
async def running(host: str = "", notes: Notes | None = None, confirm: str = "auto") -> AsyncIterator[Site]:
    site = Site(host, notes, confirm)
    task = asyncio.ensure_future(site.uplink.run())
    try:
        yield site
    finally:
        for session in site.sessions:
            session.automatic = True  # what it says at the end is acknowledged
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result()


def kinds(session: FakeSession) -> list[str]:
    return Host(session.sent).kinds


REBIRTH = Metric("Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True)


def small(seq: int, signal: Signal, word: int | None, t_us: int = T0_US) -> StoredBlock:
    """One row."""
    invalid = np.array([word is None])
    data = encode(np.array([signal.id], dtype=np.int32), np.array([t_us]), np.array([word or 0]), invalid)
    return StoredBlock(seq, seq, BOOT, 1, data)


def test_births_come_first_then_the_backlog_as_history_and_live_data_as_such() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(block(1), block(2), event(1))
            session = await site.connect()
            await site.until_acked(2)
            later_us = site.clock.now_us() + 1_000_000
            site.outbox.add(small(3, METER, 1234, later_us), small(4, OWN, 11, later_us))
            await site.until_acked(4)
            host = Host(session.sent)
            assert host.kinds[:3] == ["NBIRTH", "DBIRTH battery1", "DBIRTH meter"]
            assert host.kinds[3:] == ["DDATA battery1", "DDATA battery1", "DDATA meter", "NDATA"]
            assert session.subscribed[-2:] == [f"{PREFIX}/NCMD/depot-7", f"{PREFIX}/DCMD/depot-7/+"]
            assert host.names[1] == ("battery1", "voltage_v")
            assert host.names[6] == ("", "uptime_s")
            assert [historical for *_, historical in host.values] == [True] * 50 + [False] * 2
            assert host.values[-2:] == [
                ("meter", "power_w", later_us // 1000, 1234, False),
                ("", "uptime_s", later_us // 1000, 11, False),
            ]
            assert (session.payloads("state"), session.payloads("catalog"), session.payloads("telemetry")) == (
                [],
                [],
                [],
            )
            assert len(session.payloads("event")) == 1
        assert Host(session.sent).kinds[-1] == "NDEATH"

    asyncio.run(scenario())


def test_what_is_older_than_its_birth_is_history_also_when_it_is_committed_afterwards() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            now_us = site.clock.now_us()
            site.outbox.add(small(1, METER, 1, now_us - 1000), small(2, METER, 2, now_us + 1000))
            await site.until_acked(2)
            assert [(value, old) for *_, value, old in Host(session.sent).values] == [(1, True), (2, False)]

    asyncio.run(scenario())


def test_the_cursor_waits_for_the_broker_s_word_on_the_message_behind_the_data() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = FakeSession()
            site.outbox.add(block(1))
            await site.connect(session)
            await site.until_acked(1)
            session.automatic = False
            site.outbox.add(block(2))
            await site.until(lambda: any(topic == "enlace/depot-7/sparkplug" for topic, _ in session.waiting))
            await site.settle()
            (proof,) = [json.loads(data) for data in session.payloads("sparkplug")[-1:]]
            assert proof == {"schema": 1, "stream": "telemetry", "first_seq": 2, "seq": 2, "base": 1}
            # What was written with QoS 0 says nothing.
            for index in reversed(range(len(session.waiting))):
                if session.waiting[index][0] != "enlace/depot-7/sparkplug":
                    session.puback(index)
            await site.settle()
            assert site.uplink.status().streams["telemetry"].acked == 1
            session.puback()
            await site.until_acked(2)

    asyncio.run(scenario())


def test_what_was_not_proven_when_a_connection_ended_is_sent_again_as_history() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            session.automatic = False
            later_us = site.clock.now_us() + 5_000_000
            site.outbox.add(small(1, METER, 5, later_us), small(2, METER, 6, later_us + 1000))
            await site.until(lambda: len(session.payloads("sparkplug")) == 2)
            session.cut()
            await site.until(lambda: len(site.link.errors) == 1)
            again = await site.connect()
            await site.until_acked(2)
            values = [(value, old) for *_, value, old in Host(again.sent).values]
            assert values == [(5, True), (6, True)]

    asyncio.run(scenario())


def test_sequence_numbers_begin_again_after_255() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            later_us = site.clock.now_us() + 1
            site.outbox.add(*[small(seq, METER, seq, later_us + seq * 1000) for seq in range(1, 301)])
            await site.until_acked(300)
            found = Counter(Host(session.sent).kinds)  # it looks at the numbers
            assert found == {"NBIRTH": 1, "DBIRTH battery1": 1, "DBIRTH meter": 1, "DDATA meter": 300}

    asyncio.run(scenario())


# bdSeq.


def test_bdseq_goes_up_with_each_connection_and_over_a_restart() -> None:
    notes = Notes()

    async def scenario(expected: list[int]) -> None:
        async with running(notes=notes) as site:
            for number in expected:
                will = site.node.will()
                assert (will.topic, will.retain) == (f"{PREFIX}/NDEATH/depot-7", False)
                assert [metric.value for metric in decode_payload(will.payload).metrics] == [number]
                session = FakeSession()
                await site.link.sessions.put(session)
                await site.until(lambda session=session: len(session.sent) >= 3)  # type: ignore[misc]
                assert Host(session.sent).bd_seq == number
                session.cut()
                site.outbox.add(small(site.outbox.newest("telemetry") + 1, METER, 1))
                await site.until(lambda: bool(site.link.errors))
                site.link.errors.clear()

    asyncio.run(scenario([0, 1]))
    asyncio.run(scenario([2, 3]))
    notes.kept["uplink", "sparkplug"] = {"bdseq": 254}
    asyncio.run(scenario([255, 0]))


def test_a_store_that_can_t_remember_bdseq_stops_nothing() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.notes.broken = True
            session = await site.connect()
            assert kinds(session)[0] == "NBIRTH"

    asyncio.run(scenario())


# Devices.


def test_a_device_that_goes_offline_dies_and_is_born_with_its_first_value() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            later_us = site.clock.now_us() + 1000
            power = site.values.known.pop(7)
            site.outbox.add(small(1, METER, None, later_us))
            await site.until_acked(1)
            assert kinds(session)[3:] == ["DDATA meter", "DDEATH meter"]
            site.outbox.add(small(2, OWN, 1, later_us))
            await site.until_acked(2)
            site.values.known[7] = power
            site.outbox.add(small(3, METER, 5, later_us + 1000))
            await site.until_acked(3)
            host = Host(session.sent)
            assert host.kinds[3:] == ["DDATA meter", "DDEATH meter", "NDATA", "DBIRTH meter", "DDATA meter"]
            assert [value for *_, value, _ in host.values] == [None, 1, 5]
            counters = site.node.counters()
            assert (counters["sparkplug_device_births_total"], counters["sparkplug_device_deaths_total"]) == (3, 1)

    asyncio.run(scenario())


def test_a_device_of_which_nothing_is_known_has_no_life_but_for_its_old_records() -> None:
    async def scenario() -> None:
        async with running() as site:
            del site.values.known[7]
            site.outbox.add(small(1, METER, 5), small(2, OWN, 5))
            session = await site.connect(sent=2)
            await site.until_acked(2)
            site.outbox.add(small(3, OWN, 6))
            await site.until_acked(3)
            found = kinds(session)
            assert found[:2] == ["NBIRTH", "DBIRTH battery1"]
            assert [kind for kind in found[2:] if "meter" in kind] == ["DBIRTH meter", "DDATA meter", "DDEATH meter"]

    asyncio.run(scenario())


# Rebirths.


def test_a_host_can_ask_for_all_births_again_with_the_same_bdseq() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            site.asks(session, REBIRTH)
            await site.until(lambda: len(session.sent) == 6)
            host = Host(session.sent)
            assert host.kinds == ["NBIRTH", "DBIRTH battery1", "DBIRTH meter"] * 2
            assert host.bd_seq == 0
            # A second one within a second waits; so a flood of them is a birth a second.
            site.asks(session, REBIRTH)
            await site.settle()
            assert len(session.sent) == 6
            site.clock.advance(1.1)
            await site.until(lambda: len(session.sent) == 9)
            assert site.node.counters()["sparkplug_rebirths_asked_total"] == 2

    asyncio.run(scenario())


def test_other_commands_are_refused_and_counted() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            site.asks(session, replace(REBIRTH, value=False))
            site.asks(session, Metric("Node Control/Reboot", datatype=DataType.BOOLEAN, value=True))
            site.asks(session, Metric(alias=7, datatype=DataType.INT64, value=5), device="meter")
            site.asks(session, REBIRTH, device="meter")
            site.asks(session, REBIRTH, retain=True)
            session.say(f"{PREFIX}/NCMD/depot-7", b"\xff\xff", inbox="sparkplug")
            session.say(f"{PREFIX}/NCMD/depot-7", b"\x00" * 70_000, inbox="sparkplug")
            await site.until(lambda: len(session.acknowledged) == 7)
            await site.settle()
            assert len(session.sent) == 3
            counters = site.node.counters()
            assert counters["sparkplug_commands_refused_total"] == 5
            assert counters["sparkplug_malformed_total"] == 1
            assert counters["sparkplug_rebirths_asked_total"] == 0

    asyncio.run(scenario())


def test_all_is_born_again_when_the_catalogue_grows() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            later_us = site.clock.now_us() + 10**6
            added = Signal("meter", "energy_import_wh", "Wh", kind=Kind.COUNTER, id=8)
            site.outbox.signals, site.outbox.version = (*EVERY, added), 2
            site.values.known[8] = 100
            site.outbox.add(small(1, added, 100, later_us))
            await site.until_acked(1)
            host = Host(session.sent)
            assert host.kinds[3:] == ["NBIRTH", "DBIRTH battery1", "DBIRTH meter", "DDATA meter"]
            assert host.names[8] == ("meter", "energy_import_wh")
            # Nothing is born again when only the version moved.
            site.outbox.version = 3
            site.outbox.add(small(2, added, 101, later_us + 1000))
            await site.until_acked(2)
            assert kinds(session)[7:] == ["DDATA meter"]

    asyncio.run(scenario())


def test_a_name_with_a_new_meaning_is_born_again_and_old_records_have_the_old_one() -> None:
    async def scenario() -> None:
        async with running() as site:
            kilo = replace(METER, scale=1000, id=8)
            site.outbox.signals = (*EVERY, kilo)
            site.values.known[8] = site.values.known.pop(7)
            site.outbox.add(small(1, METER, 900))
            session = await site.connect()
            await site.until_acked(1)
            host = Host(session.sent)
            assert host.values == [("meter", "power_w#7", T0_US // 1000, 900, True)]
            assert host.names[8] == ("meter", "power_w")
            # The old meaning is used again: it takes the name with its first live value.
            site.outbox.add(small(2, METER, 901, site.clock.now_us() + 1000))
            await site.until_acked(2)
            host = Host(session.sent)
            assert host.names[7] == ("meter", "power_w")
            assert host.kinds[-4:] == ["NBIRTH", "DBIRTH battery1", "DBIRTH meter", "DDATA meter"]

    asyncio.run(scenario())


def test_new_labels_of_a_known_signal_are_told_by_births() -> None:
    async def scenario() -> None:
        async with running() as site:
            session = await site.connect()
            site.outbox.signals = (replace(METER, labels={1: "one"}), *EVERY[:-1])
            site.outbox.version = 2
            site.outbox.add(small(1, OWN, 1))
            await site.until_acked(1)
            assert kinds(session)[3:] == ["NBIRTH", "DBIRTH meter", "DBIRTH battery1", "NDATA"]

    asyncio.run(scenario())


# The primary host.


def test_nothing_is_sent_before_the_primary_host_is_there() -> None:
    async def scenario() -> None:
        async with running(host="scada") as site:
            site.outbox.add(block(1), event(1))
            session = FakeSession()
            site.node.will()
            await site.link.sessions.put(session)
            await site.until(lambda: bool(session.payloads("event")))
            site.host_is(session, 1000, online=False)
            session.say("spBv1.0/STATE/scada", b"OFFLINE", inbox="sparkplug host")
            await site.settle()
            assert [topic for topic, _, _ in session.sent] == ["enlace/depot-7/event"]
            # While it waits nothing is held: the store may pack what will be sent.
            assert ("hold", "telemetry", None) not in site.outbox.diary
            site.outbox.add(block(2))
            site.host_is(session, 2000, online=True)
            await site.until_acked(2)
            assert kinds(session) == ["NBIRTH", "DBIRTH battery1", "DBIRTH meter", "DDATA battery1", "DDATA battery1"]
            assert "spBv1.0/STATE/scada" in session.subscribed
            assert site.node.counters()["sparkplug_malformed_total"] == 1

    asyncio.run(scenario())


def test_when_the_primary_host_goes_the_node_dies_and_waits_on_a_new_connection() -> None:
    async def scenario() -> None:
        async with running(host="scada") as site:
            session = FakeSession()
            site.node.will()
            await site.link.sessions.put(session)
            site.host_is(session, 2000, online=True)
            await site.until(lambda: len(session.sent) == 3)
            site.host_is(session, 1999, online=False)  # of an older life of the host
            await site.settle()
            assert not site.link.errors
            site.host_is(session, 2000, online=False)
            await site.until(lambda: bool(site.link.errors))
            assert isinstance(site.link.errors[0], Unavailable)
            assert "offline" in site.link.errors[0].reason
            assert Host(session.sent).kinds[-1] == "NDEATH"
            site.node.will()
            again = FakeSession()
            await site.link.sessions.put(again)
            site.host_is(again, 1500, online=True)  # older than what is known
            site.outbox.add(block(1))
            await site.settle()
            assert not again.sent
            site.host_is(again, 3000, online=True)
            await site.until_acked(1)
            host = Host(again.sent)
            assert (host.kinds[0], host.bd_seq) == ("NBIRTH", 1)

    asyncio.run(scenario())


# What goes wrong.


def test_a_message_that_is_too_large_is_cut_and_a_block_that_can_t_be_read_is_set_aside() -> None:
    async def scenario() -> None:
        async with running() as site:
            damaged = replace(block(2), data=block(2).data[:-3])
            site.outbox.add(block(1, rows=60), damaged, block(3))
            session = FakeSession()
            session.limit = 3000
            await site.connect(session)
            await site.until_acked(3)
            host = Host(session.sent)
            assert len(host.values) == 300 + 25
            assert host.kinds.count("DDATA battery1") == 6 + 1
            status = site.uplink.status().streams["telemetry"]
            assert (status.backlog, status.set_aside) == (0, 1)
            assert [(found.kind, found.data["seq"]) for found in site.events] == [("uplink.set_aside", 2)]

    asyncio.run(scenario())


def test_a_broker_that_refuses_the_proof_has_no_record_set_aside() -> None:
    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(block(1))
            for times in range(1, 8):
                session = FakeSession()
                session.refuse = lambda topic, _: "not authorized" if topic.endswith("/sparkplug") else ""
                await site.link.sessions.put(session)
                await site.until(lambda times=times: len(site.link.errors) == times)  # type: ignore[misc]
            assert "publish there" in str(site.link.errors[-1])
            await site.connect()
            await site.until_acked(1)
            assert site.uplink.status().streams["telemetry"].set_aside == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["births", "subscriptions"])
def test_a_broker_that_refuses_births_or_subscriptions_ends_the_connection_with_words(what: str) -> None:
    async def scenario() -> None:
        async with running(confirm="puback") as site:
            session = FakeSession()
            if what == "births":
                session.limit = 100
            else:
                session.refuse_subscription = "not authorized"
            await site.link.sessions.put(session)
            await site.until(lambda: bool(site.link.errors))
            assert not session.sent or what == "births"

    asyncio.run(scenario())


def test_with_the_central_server_s_word_what_it_lacks_is_sent_again() -> None:
    async def scenario() -> None:
        async with running(confirm="ack") as site:
            site.outbox.add(block(1), block(2))
            session = await site.connect()
            await site.until(lambda: len(session.payloads("sparkplug")) == 2)
            await site.settle()
            assert site.uplink.status().streams["telemetry"].acked == 0
            session.say("enlace/depot-7/ack", b'{"stream": "telemetry", "upto": 1}', inbox="ack")
            await site.until_acked(1)
            assert Host(session.sent).kinds.count("DDATA battery1") == 2

    asyncio.run(scenario())


def test_the_page_tells_the_truth(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sparkplug.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "site.yaml"
    path.write_text(example)
    reading = read_config(path, {})
    assert reading.config is not None, [str(problem) for problem in reading.problems]
    assert reading.config.uplink is not None
    settings = reading.config.uplink.settings("depot-7", tmp_path)
    assert (settings.payload, settings.sparkplug_group, settings.sparkplug_host) == ("sparkplug", "plant", "scada")
    assert settings.link(commands=True).session_expiry_s == 0
    (proof,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)

    async def scenario() -> None:
        async with running() as site:
            site.outbox.add(*[small(seq, METER, seq) for seq in range(1, 41)])
            session = await site.connect()
            await site.until_acked(40)
            site.outbox.add(small(41, METER, 41))
            await site.until_acked(41)
            assert json.loads(session.payloads("sparkplug")[-1]) == json.loads(proof)

    asyncio.run(scenario())
