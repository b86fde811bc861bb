"""Sparkplug B through Mosquitto: births, rebirth, cuts, restarts, ``kill -9``, and an independent host from npm."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import Event
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Session
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.sparkplug.node import SparkplugNode
from cloud_sync.sparkplug.payload import DataType, Metric, Payload, encode_payload
from cloud_sync.uplink import Parts, Uplink
from tests.e2e.brokers import ROOT, broker_process, needs
from tests.e2e.proxy import proxy_to
from tests.e2e.site import environment
from tests.e2e.subscriber import QuickClock, running, until
from tests.unit.sparkplug_host import PREFIX, Host
from tests.unit.test_sparkplug_node import EVERY, METER, Notes, Values, small
from tests.unit.uplink_fakes import BOOT, T0_US, MemoryOutbox, block

NODE = shutil.which("node")
_PLACES = [os.environ.get("ENLACE_NODE_MODULES", ""), str(ROOT / "node_modules")]
MODULES = next((place for place in _PLACES if place and (Path(place) / "sparkplug-payload").is_dir()), None)
REBIRTH = encode_payload(Payload(1, None, [Metric("Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True)]))

pytestmark = needs("mosquitto")


class Plant:
    """A host application: everything that came, judged by the rules, and what it says itself."""

    def __init__(self, url: str) -> None:
        self.host = Host()
        self.ready = asyncio.Event()
        self.session: Session | None = None
        self._link = MqttLink(LinkSettings(url, "plant-host"), QuickClock())

    async def run(self) -> None:
        await self._link.run(self._serve)

    async def _serve(self, session: Session) -> None:
        await session.subscribe("spBv1.0/#")
        self.session = session
        self.ready.set()
        while True:
            message = await session.next_message()
            if "/STATE/" not in message.topic and "CMD/" not in message.topic:
                assert message.qos == (1 if "/NDEATH/" in message.topic else 0)
                self.host.take(message.topic, message.payload, retain=message.retain)
            session.acknowledge(message)

    async def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert self.session is not None
        await (await self.session.publish(topic, payload, retain=retain))

    def rows(self) -> set[tuple[str, int, object]]:
        return {(name, time_ms, value) for _, name, time_ms, value, _ in self.host.values}


def uplink(url: str, outbox: MemoryOutbox, host: str = "") -> Uplink:
    settings = UplinkSettings(url, site="depot-7", payload="sparkplug", sparkplug_group="plant", sparkplug_host=host)
    clock, events = QuickClock(), list[Event]()
    outbox.signals = EVERY
    node = SparkplugNode(settings, outbox, Values(), clock, Notes(), "gateway")
    return Uplink(settings, outbox, clock, events.append, boot=BOOT, version="1.0", parts=Parts(node=node))


def expected(*numbers: int) -> set[tuple[str, int, object]]:
    """The rows of some one-row blocks of the meter."""
    return {("power_w", T0_US // 1000 + number, number) for number in numbers}


def row(number: int) -> Any:  # noqa: ANN401 - a stored block
    return small(number, METER, number, T0_US + number * 1000)


def acked(sender: Uplink) -> int:
    return sender.status().streams["telemetry"].acked


def test_births_data_rebirth_and_death(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker:
            outbox = MemoryOutbox()
            outbox.add(*[block(seq) for seq in range(1, 31)])
            plant, sender = Plant(broker.url), uplink(broker.url, outbox)
            async with running(plant):
                await plant.ready.wait()
                async with running(sender):
                    await until(lambda: len(plant.host.values) == 30 * 25)
                    assert plant.host.kinds[:3] == ["NBIRTH", "DBIRTH battery1", "DBIRTH meter"]
                    await plant.say(f"{PREFIX}/NCMD/depot-7", REBIRTH)
                    await until(lambda: plant.host.kinds.count("NBIRTH") == 2)
                    outbox.add(row(31))
                    await until(lambda: acked(sender) == 31)
                await until(lambda: plant.host.kinds[-1] == "NDEATH")
                assert len(plant.host.values) == 30 * 25 + 1

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_network_that_is_cut_and_a_broker_that_is_restarted_lose_nothing(tmp_path: Path) -> None:
    """The broker keeps nothing on disk; the gateway is let in again only when the host has subscribed."""

    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker, proxy_to(broker.port) as proxy:
            outbox = MemoryOutbox()
            plant, sender = Plant(broker.url), uplink(f"mqtt://127.0.0.1:{proxy.port}", outbox)
            async with running(plant):
                await plant.ready.wait()
                async with running(sender):
                    for number in range(1, 121):
                        outbox.add(row(number))
                        if number % 40 == 20:
                            await until(lambda: bool(plant.host.values))
                            proxy.cut()
                        await asyncio.sleep(0.005)
                    await until(lambda: acked(sender) == 120)
                    await until(lambda: plant.rows() == expected(*range(1, 121)))
                    proxy.refuse = True
                    await broker.kill()
                    outbox.add(*[row(number) for number in range(121, 141)])
                    await until(lambda: not sender.status().connected)
                    plant.ready.clear()
                    await broker.start()
                    await plant.ready.wait()
                    proxy.refuse = False
                    await until(lambda: plant.rows() == expected(*range(1, 141)))
                    await until(lambda: acked(sender) == 140)
            assert plant.host.kinds.count("NBIRTH") >= 4

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_while_the_primary_host_is_away_data_waits_in_the_store(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker:
            outbox = MemoryOutbox()
            plant, sender = Plant(broker.url), uplink(broker.url, outbox, host="scada")
            state = "spBv1.0/STATE/scada"
            async with running(plant):
                await plant.ready.wait()
                async with running(sender):
                    outbox.add(row(1))
                    await until(lambda: sender.status().connected)
                    await plant.say(state, b'{"online": true, "timestamp": 1000}', retain=True)
                    await until(lambda: acked(sender) == 1)
                    await plant.say(state, b'{"online": false, "timestamp": 1000}', retain=True)
                    await until(lambda: plant.host.kinds[-1] == "NDEATH")
                    deaths = len(plant.host.kinds)
                    outbox.add(row(2))
                    await until(lambda: sender.status().connections >= 2)
                    assert (len(plant.host.kinds), acked(sender)) == (deaths, 1)
                    await plant.say(state, b'{"online": true, "timestamp": 2000}', retain=True)
                    await until(lambda: acked(sender) == 2)
                    await until(lambda: plant.rows() == expected(1, 2))
                    assert plant.host.kinds[deaths] == "NBIRTH"

    asyncio.run(scenario())


def gateway(folder: Path, url: str) -> "subprocess.Popen[bytes]":
    """A gateway without devices: the node has its own metrics."""
    config = folder / "site.yaml"
    config.write_text(
        f"data_dir: {folder}/data\nsite: {{id: depot-7}}\napi: {{listen: '127.0.0.1:0'}}\n"
        f"uplink: {{broker: '{url}', payload: sparkplug, sparkplug_group: plant}}\n"
    )
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
        return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log, start_new_session=True)


def test_a_gateway_that_is_killed_dies_by_its_will_and_comes_back_with_the_next_bdseq(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker:
            plant = Plant(broker.url)
            async with running(plant):
                await plant.ready.wait()
                for life in (1, 2):
                    process = gateway(tmp_path, broker.url)
                    try:
                        await until(lambda life=life: plant.host.kinds.count("NBIRTH") == life, 60)  # type: ignore[misc]
                        await until(lambda: "NDATA" in plant.host.kinds, 60)
                        assert plant.host.bd_seq == life - 1
                    finally:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
                    # The host holds the bdSeq of the death against that of the birth.
                    await until(lambda: plant.host.kinds[-1] == "NDEATH")

    asyncio.run(scenario())


@pytest.mark.skipif(
    NODE is None or MODULES is None,
    reason="no Node.js with mqtt and sparkplug-payload (ENLACE_NODE_MODULES): no independent Sparkplug host is tried",
)
def test_an_independent_host_reads_what_we_say_and_we_obey_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker:
            script = str(ROOT / "tests" / "e2e" / "clients" / "sparkplug_host.js")
            process = await asyncio.create_subprocess_exec(
                str(NODE),
                script,
                str(broker.port),
                env=environment(NODE_PATH=str(MODULES)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdin is not None
            assert process.stdout is not None

            async def take(kind: str) -> dict[str, Any]:
                assert process.stdout is not None
                while True:
                    found: dict[str, Any] = json.loads(await process.stdout.readline())
                    if kind in found or f"/{kind}/" in found.get("topic", ""):
                        return found

            try:
                async with asyncio.timeout(60):
                    await take("ready")
                    outbox = MemoryOutbox()
                    outbox.add(block(1))
                    async with running(uplink(broker.url, outbox)):
                        birth = await take("NBIRTH")
                        assert (birth["seq"], birth["qos"], birth["retain"]) == (0, 0, False)
                        assert [(m["name"], m["type"], m["value"]) for m in birth["metrics"]] == [
                            ("bdSeq", "Int64", "0"),
                            ("Node Control/Rebirth", "Boolean", False),
                            ("uptime_s", "Int64", "10"),
                        ]
                        device = await take("DBIRTH")
                        assert [(m["name"], m["alias"], m["type"], m["value"]) for m in device["metrics"]] == [
                            ("voltage_v", 1, "Double", 52.1),
                            ("temperature_degc", 2, "Double", 21),
                            ("bms_state", 3, "Int64", "1"),
                            ("cycles", 4, "UInt64", "77"),
                            ("current_a", 5, "Double", -1.5),
                        ]
                        assert device["metrics"][0]["unit"] == "V"
                        data = await take("DDATA")
                        assert data["seq"] == 3
                        found = {(m["alias"], m["time"], m["value"]) for m in data["metrics"]}
                        assert len(found) == 25
                        time_ms = (T0_US + 1_000_000) // 1000
                        assert {(3, time_ms, "1"), (4, time_ms, "1"), (5, time_ms, 1)} <= found
                        assert {alias for alias, _, value in found if value is None} == {2}
                        assert all(m["historical"] for m in data["metrics"])
                        process.stdin.write(f"{PREFIX}/NCMD/depot-7\n".encode())
                        assert (await take("NBIRTH"))["seq"] == 0
                    death = await take("NDEATH")
                    assert (death["seq"], death["qos"]) == (None, 1)
                    assert [(m["name"], m["value"]) for m in death["metrics"]] == [("bdSeq", "0")]
            finally:
                process.kill()
                await process.wait()

    asyncio.run(scenario())
