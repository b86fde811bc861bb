"""The real store behind the real uplink: what was appended is what arrives, through cuts, restarts and sealing."""

import asyncio
from array import array
from pathlib import Path

import pytest

from agent.core.model import Batch, Event, Number, Signal
from agent.store.db import Store
from agent.store.settings import StoreSettings
from cloud_sync.settings import UplinkSettings
from cloud_sync.uplink import Uplink
from cloud_sync.watch import Bad, Gap, Repeated, Values
from tests.e2e.brokers import broker_process
from tests.e2e.proxy import proxy_to
from tests.e2e.subscriber import QuickClock, Subscriber, running, until
from tests.unit.uplink_fakes import SIGNALS, T0_US

QUICK = StoreSettings(commit_s=0.02, seal_s=1.0)


def open_store(folder: Path) -> Store:
    return Store.open(folder / "enlace.db", QuickClock(), QUICK)


def uplink_of(store: Store, port: int, payload: str) -> Uplink:
    settings = UplinkSettings(f"mqtt://127.0.0.1:{port}", site="depot-7", payload=payload)
    return Uplink(settings, store, QuickClock(), store.record, boot=store.boot, version="1.0")


def append(store: Store, signals: list[Signal], first: int, count: int) -> None:
    """One batch of all signals for each of ``count`` moments; each fifth says that they became unknown."""
    for moment in range(first, first + count):
        ids = array("i", [signal.id for signal in signals])
        times = array("q", [T0_US + moment * 10_000] * len(ids))
        store.append(Batch(ids, times, array("q", [moment] * len(ids)), valid=moment % 5 != 0))


def everything(store: Store, signals: list[Signal]) -> list[tuple[int, int, Number | None]]:
    found = store.rows([signal.id for signal in signals], 0, 2**62)
    return sorted(((id_, t_us, value) for t_us, id_, value in found), key=lambda row: row[:2])


@pytest.mark.announced_warnings
@pytest.mark.parametrize("payload", ["json", "json+zlib", "blocks"])
def test_what_is_appended_arrives_through_cuts_and_restarts(payload: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as broker, proxy_to(broker.port) as proxy:
            subscriber = Subscriber(broker.url)
            async with running(subscriber):
                await subscriber.ready.wait()
                store = await asyncio.to_thread(open_store, tmp_path)
                signals = await asyncio.to_thread(store.assign, SIGNALS[:4])
                # Before the first connection: what waits may be sealed, as it surely never left.
                for part in range(5):
                    append(store, signals, part * 60, 60)
                    await asyncio.wrap_future(store.flush())
                await asyncio.wrap_future(store.record(Event("device.online", T0_US, "battery1")))
                await asyncio.wrap_future(store.flush())
                await asyncio.wrap_future(store.maintain())
                sender = uplink_of(store, proxy.port, payload)
                async with running(sender):
                    for round_ in range(1, 6):
                        append(store, signals, 300 * round_, 300)
                        await asyncio.wrap_future(store.flush())
                        proxy.mute = round_ == 2
                        if round_ == 3:
                            proxy.cut()
                        await asyncio.wrap_future(store.maintain())
                        await asyncio.sleep(0.1)
                    await until(lambda: sender.status().streams["telemetry"].backlog == 0)
                # Another life of the program, in which the network dies before the PUBACKs come.
                await asyncio.to_thread(store.close)
                store = await asyncio.to_thread(open_store, tmp_path)
                sender = uplink_of(store, proxy.port, payload)
                async with running(sender):
                    await until(lambda: sender.status().connected)
                    await asyncio.sleep(0.2)  # for the PUBACKs of state and catalogue
                    proxy.mute = True
                    append(store, signals, 1800, 300)
                    await asyncio.wrap_future(store.flush())
                    await until(lambda: len(subscriber.rows) == 2100 * 4)
                proxy.mute = False
                await asyncio.wrap_future(store.maintain())
                await asyncio.to_thread(store.close)
                store = await asyncio.to_thread(open_store, tmp_path)
                await asyncio.wrap_future(store.record(Event("device.offline", T0_US, "battery1")))
                sender = uplink_of(store, proxy.port, payload)
                async with running(sender):
                    await until(lambda: [stream.backlog for stream in sender.status().streams.values()] == [0, 0])
                    await until(lambda: len(subscriber.events()) >= 2)
                rows = await asyncio.to_thread(everything, store, signals)
                assert store.blocks(store.acked("telemetry"), 10) == []
                await asyncio.to_thread(store.close)
            assert len(rows) == 2100 * 4
            assert sorted(subscriber.rows, key=lambda row: row[:2]) == rows
            assert subscriber.of(Repeated), "no PUBACK was lost: the test shows nothing"
            assert not subscriber.of(Gap) + subscriber.of(Bad)
            assert any(
                item.message.seq > item.message.first_seq for item in subscriber.items if isinstance(item, Values)
            )

    asyncio.run(scenario())
