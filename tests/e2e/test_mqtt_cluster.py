"""A cluster of three NATS nodes of which one is killed: the gateway goes on with another one, and nothing is lost.

By the broker's word alone: ``confirm: puback``, and a subscriber whose messages the cluster keeps.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Session
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.uplink import Uplink
from tests.e2e.brokers import BrokerProcess, nats_nodes, needs
from tests.e2e.central_stub import SITE, Central
from tests.e2e.scripted_broker import Script, scripted_broker
from tests.e2e.subscriber import QuickClock, running, until
from tests.e2e.test_mqtt_uplink import expected_rows
from tests.unit.uplink_fakes import BOOT, MemoryOutbox, block, event

RECORDS = 300


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[BrokerProcess]]:
    """Three nodes that have found each other and take MQTT sessions."""
    nodes = nats_nodes(folder, 3)
    async with AsyncExitStack() as stack:
        for node in nodes:
            stack.push_async_callback(node.kill)
            await node.launch()
        for node in nodes:
            await node.listens()
        yield nodes


def urls(nodes: Sequence[BrokerProcess]) -> str:
    return ", ".join(node.url for node in nodes)


@pytest.mark.announced_warnings
@needs("nats")
def test_one_node_of_three_is_killed_mid_stream_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path) as nodes:
            outbox = MemoryOutbox()
            central = Central(urls([nodes[1], nodes[2], nodes[0]]), ack=False)
            settings = UplinkSettings(urls(nodes), site=SITE, confirm="puback")
            sender = Uplink(settings, outbox, QuickClock(), lambda _: None, boot=BOOT, version="1.0")
            async with running(central):
                await asyncio.wait_for(central.ready.wait(), 60)
                async with running(sender):
                    await until(lambda: sender.status().connected and central.states[-1:] == [True])
                    for seq in range(1, RECORDS + 1):
                        outbox.add(block(seq), event(seq))
                        if seq == RECORDS // 3:
                            await until(lambda: len(central.rows) > 10)
                            await nodes[0].kill()
                        await asyncio.sleep(0.01)
                    await until(lambda: outbox.cursors == {"telemetry": RECORDS, "event": RECORDS}, 60)
                    assert sender.status().connections >= 2
                    numbers = list(range(1, RECORDS + 1))
                    await until(lambda: sorted(central.rows) == sorted(central.events) == numbers)
            assert set().union(*central.rows.values()) == expected_rows(*numbers)
            assert central.changed == []

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_the_nodes_have_their_turn_and_each_its_version() -> None:
    """The first is of MQTT 3.1.1, the second refuses, the third is of MQTT 5: each is asked in its own way."""

    async def scenario() -> None:
        old, new = Script(versions=(4,)), Script(versions=(5,))
        refusing = Script(connack=b"\x00\x88")
        async with (
            scripted_broker(old) as one,
            scripted_broker(refusing) as two,
            scripted_broker(new) as three,
        ):
            url = ",".join(f"mqtt://127.0.0.1:{port}" for port in (one, two, three))
            link = MqttLink(LinkSettings(url, "test"), QuickClock())
            seen: list[str] = []

            async def serve(session: Session) -> None:
                seen.append(session.protocol)
                if seen == ["5"]:
                    new.farewell = 0x8B
                    await session.publish("a", b"x")
                    await asyncio.Event().wait()

            async with asyncio.timeout(60):
                await link.run(serve)
            assert seen == ["5", "3.1.1"]
            assert [version for version, _ in old.connects] == [5, 4]
            assert [version for version, _ in new.connects] == [5]

    asyncio.run(scenario())
