"""Trial D8: outages of 1 s, 5 min and 72 h, with the real store, a real Mosquitto and a central server that confirms.

What gathers during an outage is written at once instead of second by second. Afterwards every row must be there exactly
once after dedup by number, whatever the broker had acknowledged and lost.
"""

import asyncio
import json
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

import cloud_sync.lanes
from agent.core.model import Batch, Event, Number, Signal
from agent.store.db import Store
from agent.store.settings import StoreSettings
from cloud_sync.confirm import HEARD
from cloud_sync.lanes import Ranges
from cloud_sync.mqtt import Session
from cloud_sync.settings import UplinkSettings
from cloud_sync.subscriber import EventMessage, Status
from cloud_sync.uplink import Parts, Uplink
from cloud_sync.watch import Bad, Gap, Values
from tests.e2e.brokers import MOSQUITTO, broker_process
from tests.e2e.proxy import proxy_to
from tests.e2e.subscriber import QuickClock, Subscriber, running, until
from tests.unit.uplink_fakes import SIGNALS, T0_US

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

QUICK = StoreSettings(commit_s=0.02, seal_s=600.0)


class Central(Subscriber):
    """Stands for a central server: keeps what is new, and confirms what it has without a gap."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.confirms = True
        self.confirmed = {"telemetry": 0, "event": 0}
        self._came = {"telemetry": Ranges(), "event": Ranges()}

    async def _serve(self, session: Session) -> None:
        await session.subscribe(f"enlace/{self._site}/+")
        self.ready.set()
        while True:
            message = await session.next_message()
            items = list(self._receiver.feed(message.topic, message.payload))
            self.items += items
            session.acknowledge(message)
            for item in items:
                match item:
                    case Values(message=record):
                        await self._confirm(session, "telemetry", record.first_seq, record.seq, record.base)
                    case EventMessage(seq=seq, base=base):
                        await self._confirm(session, "event", seq, seq, base)

    async def _confirm(self, session: Session, stream: str, first_seq: int, seq: int, base: int) -> None:
        came = self._came[stream]
        came.add(first_seq, seq)
        self.confirmed[stream] = came.reach(max(self.confirmed[stream], base))
        if self.confirms:
            word = {"stream": stream, "upto": self.confirmed[stream]}
            await session.publish(f"enlace/{self._site}/ack", json.dumps(word).encode())


def append(store: Store, signals: Sequence[Signal], first: int, seconds: int) -> None:
    """Samples of all signals at 1 Hz, in batches of ten minutes."""
    for start in range(first, first + seconds, 600):
        moments = range(start, min(start + 600, first + seconds))
        ids = array("i", [signal.id for signal in signals] * len(moments))
        times = array("q", [T0_US + moment * 1_000_000 for moment in moments for _ in signals])
        store.append(Batch(ids, times, array("q", [moment * 7 % 1000 for moment in moments for _ in signals])))


def rows_of(store: Store, signals: Sequence[Signal]) -> list[tuple[int, int, Number | None]]:
    found = store.rows([signal.id for signal in signals], 0, 2**62)
    return [(id_, t_us, value) for t_us, id_, value in found]


@pytest.mark.announced_warnings
@pytest.mark.parametrize("kill", [False, True], ids=["line-cut", "broker-killed"])
@pytest.mark.parametrize(
    "outage_s", [1, 300, pytest.param(72 * 3600, marks=pytest.mark.long)], ids=["1s", "5min", "72h"]
)
def test_an_outage_costs_nothing(outage_s: int, kill: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a parameter of the test
    monkeypatch.setattr(cloud_sync.lanes, "FIRST_PATIENCE_S", 1.0)

    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker, proxy_to(broker.port) as proxy:
            central = Central(broker.url)
            store = await asyncio.to_thread(Store.open, tmp_path / "enlace.db", QuickClock(), QUICK)
            signals = await asyncio.to_thread(store.assign, SIGNALS[:4])
            settings = UplinkSettings(f"mqtt://127.0.0.1:{proxy.port}", site="depot-7", payload="json+zlib")
            parts = Parts(latest=list, notes=store)
            uplink = Uplink(settings, store, QuickClock(), store.record, boot=store.boot, version="1.0", parts=parts)
            async with running(central, uplink):
                await central.ready.wait()
                for second in range(5):
                    append(store, signals, second, 1)
                    await asyncio.wrap_future(store.flush())
                await until(lambda: uplink.status().by_word)
                # What the broker acknowledges from here on, it may lose before the central server sees it.
                proxy.refuse = True
                if kill:
                    await broker.kill()
                else:
                    proxy.cut()
                await until(lambda: not uplink.status().connected)
                append(store, signals, 5, outage_s)
                await asyncio.wrap_future(store.record(Event("device.offline", T0_US, "battery1")))
                await asyncio.wrap_future(store.flush())
                await asyncio.wrap_future(store.maintain())
                backlog = store.newest("telemetry")
                if kill:
                    central.ready.clear()
                    await broker.start()
                    await central.ready.wait()
                proxy.refuse = False
                await until(lambda: uplink.status().connected, 60)
                for second in range(10):
                    append(store, signals, 5 + outage_s + second, 1)
                    await asyncio.wrap_future(store.flush())
                    await asyncio.sleep(0.02)
                await until(lambda: [one.backlog for one in uplink.status().streams.values()] == [0, 0], 200)
            total = (15 + outage_s) * len(signals)
            rows = central.rows
            stored = await asyncio.to_thread(rows_of, store, signals)
            assert len(rows) == len(stored) == total
            assert set(rows) == set(stored)
            assert not central.of(Gap) + central.of(Bad)
            kinds = [item.kind for item in central.items if isinstance(item, EventMessage)]
            assert kinds.count(HEARD) == kinds.count("device.offline") == 1
            assert len(central.of(Status)) == uplink.status().connections
            if outage_s > 3600:
                seqs = central.seqs()
                before = [seq for seq in seqs[: seqs.index(backlog)] if seq > backlog]
                assert before, "no live data came before the end of the backlog"
            await asyncio.to_thread(store.close)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_what_a_broker_acknowledged_and_lost_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The central server is away, the broker acknowledges, keeps nothing and dies: only the word counts."""
    monkeypatch.setattr(cloud_sync.lanes, "FIRST_PATIENCE_S", 1.0)

    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker:
            store = await asyncio.to_thread(Store.open, tmp_path / "enlace.db", QuickClock(), QUICK)
            signals = await asyncio.to_thread(store.assign, SIGNALS[:4])
            settings = UplinkSettings(broker.url, site="depot-7", payload="blocks", confirm="ack")
            uplink = Uplink(settings, store, QuickClock(), store.record, boot=store.boot, version="1.0")
            async with running(uplink):
                append(store, signals, 0, 30)
                await asyncio.wrap_future(store.flush())
                await until(lambda: uplink._link.stats.acknowledged >= 3)
                await until(lambda: uplink.status().streams["telemetry"].resent >= 2)
                await broker.kill()
                await broker.start()
                central = Central(broker.url)
                async with running(central):
                    await until(lambda: uplink.status().streams["telemetry"].backlog == 0, 60)
                assert len(central.rows) == len(set(central.rows)) == 30 * 4
            await asyncio.to_thread(store.close)

    asyncio.run(scenario())
