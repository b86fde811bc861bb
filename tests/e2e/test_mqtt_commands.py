"""Commands through real brokers: while we are away, over cut connections, retained, answered elsewhere, and killed."""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pymodbus.server import ModbusTcpServer

from agent.core.clock import SystemClock
from cloud_sync.command_payload import Order, OrderResult
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Message, Session
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.uplink import Uplink
from drivers.sim.charger_modbus import SimulatedCharger
from drivers.sim.evse import Evse
from tests.e2e.brokers import MOSQUITTO, broker_process
from tests.e2e.proxy import proxy_to
from tests.e2e.site import process
from tests.e2e.subscriber import QuickClock, until
from tests.ports import free_port
from tests.unit.uplink_fakes import BOOT, MemoryOutbox

BROKERS = [
    pytest.param("amqtt", id="amqtt-3.1.1"),
    pytest.param(
        "mosquitto", id="mosquitto-5", marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
    ),
]
ROOT_TOPIC = "enlace/depot-7"


def command(command_id: str, **changes: object) -> dict[str, object]:
    now = datetime.now(UTC).isoformat()
    return {"id": command_id, "issued_at": now, "ttl_s": 600, "target": "cp1", "action": "reset", **changes}


class Office:
    """The central server: gives commands, keeps the results and the events that come."""

    def __init__(self, url: str) -> None:
        self.came: list[Message] = []
        self.ready = asyncio.Event()
        self._session: Session | None = None
        self._link = MqttLink(LinkSettings(url, "office"), QuickClock())

    async def run(self) -> None:
        await self._link.run(self._serve)

    async def send(self, document: dict[str, object], *, retain: bool = False, correlation: bytes = b"") -> None:
        assert self._session is not None
        payload = json.dumps(document).encode()
        await (
            await self._session.publish(f"{ROOT_TOPIC}/command", payload, retain=retain, correlation_data=correlation)
        )

    def results(self) -> dict[str, set[str]]:
        """Each distinct answer, by the command's id."""
        found: dict[str, set[str]] = {}
        for message in self.came:
            if "/command/result" in message.topic:
                found.setdefault(json.loads(message.payload)["id"], set()).add(message.payload.decode())
        return found

    def outcomes(self) -> dict[str, list[str]]:
        return {name: [json.loads(text)["outcome"] for text in told] for name, told in self.results().items()}

    def events(self) -> list[dict[str, Any]]:
        """Those about commands, each number once."""
        said = [json.loads(message.payload) for message in self.came if message.topic.endswith("/event")]
        return list({one["seq"]: one for one in said if one["kind"] == "command.result"}.values())

    async def _serve(self, session: Session) -> None:
        await session.subscribe(f"{ROOT_TOPIC}/command/result/#", f"{ROOT_TOPIC}/event")
        self._session = session
        self.ready.set()
        while True:
            message = await session.next_message()
            self.came.append(message)
            session.acknowledge(message)


class Desk:
    """Carries orders out as control does: each id once, and says the same again."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.orders: list[Order] = []
        self._known: dict[str, asyncio.Task[OrderResult]] = {}

    async def execute(self, order: Order) -> OrderResult:
        self.orders.append(order)
        task = self._known.get(order.id)
        if task is None:
            task = self._known[order.id] = asyncio.ensure_future(self._do(order))
        return await asyncio.shield(task)

    async def _do(self, order: Order) -> OrderResult:
        await asyncio.sleep(random.random() / 50)  # noqa: S311 - no secret
        if order.objection:
            return OrderResult(order.id, "rejected", order.objection, "out_of_range", t_us=1)
        self.effects[order.id] += 1
        return OrderResult(order.id, "done", t_us=1)


def uplink(url: str, desk: Desk, commands: str = "auto") -> Uplink:
    settings = UplinkSettings(url, site="depot-7", commands=commands)
    return Uplink(settings, MemoryOutbox(), QuickClock(), print, boot=BOOT, version="1.0", execute=desk.execute)


@asynccontextmanager
async def running(*parts: Office | Uplink) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(part.run()) for part in parts]
    try:
        for part in parts:
            if isinstance(part, Office):
                await part.ready.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def listening(sender: Uplink, office: Office) -> None:
    """Until a command comes through: whoever published before the gateway subscribed spoke to nobody."""
    await until(lambda: sender.status().connected)
    number = 0
    while not any(name.startswith("probe") for name in office.results()):
        assert number < 300, "the gateway answers nothing"
        await office.send(command(f"probe{number}"))
        number += 1
        await asyncio.sleep(0.1)


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_commands_that_came_while_the_gateway_was_away_are_done_when_it_is_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker:
            office, desk = Office(broker.url), Desk()
            async with running(office):
                first = uplink(broker.url, desk)
                async with running(first):
                    await listening(first, office)
                names = [f"c{number}" for number in range(60)]
                for name in names:
                    await office.send(command(name))
                assert not set(names) & set(desk.effects)
                async with running(uplink(broker.url, desk)):
                    await until(lambda: set(names) <= set(office.outcomes()))
            assert all(office.outcomes()[name] == ["done"] for name in names)
            assert set(desk.effects.values()) == {1}
            waited = {order.waited for order in desk.orders if order.id in names}
            assert waited == {True}, "they are handed on as what may be old"

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@pytest.mark.parametrize("kind", BROKERS)
def test_over_connections_that_are_cut_each_command_has_one_effect_and_one_answer(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process(kind, tmp_path) as broker, proxy_to(broker.port) as proxy:
            office, desk = Office(broker.url), Desk()
            sender = uplink(f"mqtt://127.0.0.1:{proxy.port}", desk)
            async with running(office, sender):
                await listening(sender, office)
                documents = {name: command(name) for name in (f"c{number}" for number in range(150))}
                for number, document in enumerate(documents.values()):
                    await office.send(document)
                    if number % 50 == 10:
                        proxy.mute = True  # neither commands nor PUBACKs come through from here on
                    if number % 50 == 20:
                        proxy.cut()
                        proxy.mute = False
                    await asyncio.sleep(0.005)
                if kind == "amqtt":  # it keeps nothing for who is away, so the central server gives it again
                    await asyncio.sleep(1)
                    for name, document in documents.items():
                        if name not in office.outcomes():
                            await office.send(document)
                await until(lambda: documents.keys() <= office.outcomes().keys())
                assert sender.status().connections >= 2
            assert {len(told) for told in office.results().values()} == {1}
            assert set(desk.effects.values()) == {1}
            assert documents.keys() <= desk.effects.keys()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", BROKERS)
def test_a_retained_command_is_refused(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process(kind, tmp_path) as broker:
            office, desk = Office(broker.url), Desk()
            async with running(office):
                await office.send(command("kept"), retain=True)
                async with running(uplink(broker.url, desk)):
                    await until(lambda: "kept" in office.outcomes())
                    await office.send(command("now"))
                    await until(lambda: "now" in office.outcomes())
            assert office.outcomes() == {"kept": ["rejected"], "now": ["done"]}
            assert desk.effects == {"now": 1}

    asyncio.run(scenario())


def test_without_leave_the_gateway_does_not_even_listen(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as broker:
            office, desk = Office(broker.url), Desk()
            sender = uplink(broker.url, desk, "no")
            async with running(office, sender):
                await until(lambda: sender.status().connected)
                for number in range(5):
                    await office.send(command(f"c{number}"))
                await asyncio.sleep(0.3)
                assert sender.status().commands == {}
            assert not desk.orders

    asyncio.run(scenario())


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_response_topic_and_correlation_data_come_back_over_mqtt_5(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as broker:
            office, desk = Office(broker.url), Desk()
            sender = uplink(broker.url, desk)
            async with running(office, sender):
                await listening(sender, office)
                await asyncio.to_thread(_ask, broker.port, command("c1"), f"{ROOT_TOPIC}/command/result/desk-4")
                await asyncio.to_thread(_ask, broker.port, command("c2"), "enlace/other/command")
                await until(lambda: {"c1", "c2"} <= set(office.outcomes()))
            told = {json.loads(one.payload).get("id"): one for one in office.came if one.topic != f"{ROOT_TOPIC}/event"}
            assert told["c1"].topic == f"{ROOT_TOPIC}/command/result/desk-4"
            assert told["c1"].correlation_data == told["c2"].correlation_data == b"\x00\xff"
            assert told["c2"].topic == f"{ROOT_TOPIC}/command/result"
            assert office.outcomes()["c2"] == ["rejected"]
            (order,) = [order for order in desk.orders if order.id == "c1"]
            assert order.ttl_s == 30, "the message's expiry is shorter than the command's time to live"

    asyncio.run(scenario())


def _ask(port: int, document: dict[str, object], response_topic: str) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # of paho
    properties.ResponseTopic, properties.CorrelationData = response_topic, b"\x00\xff"
    properties.MessageExpiryInterval = 30
    try:
        client.publish(f"{ROOT_TOPIC}/command", json.dumps(document), qos=1, properties=properties).wait_for_publish(20)
    finally:
        client.disconnect()
        client.loop_stop()


SITE = """\
data_dir: {folder}/data
site: {{id: depot-7}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: cp1, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{modbus}", every_s: 0.5}}
stations: [{{station: cp1, min_on_s: 0, min_off_s: 0}}]
alarm_sets: []
uplink: {{broker: "{broker}"}}
"""


@pytest.mark.announced_warnings
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.long)])
def test_killed_again_and_again_the_gateway_answers_each_command_once(kills: int, tmp_path: Path) -> None:
    """Trial C3 with a real process, store, broker and charger: ``kill -9`` while commands are being done."""
    picked = random.Random(5)  # noqa: S311 - no secret

    async def scenario() -> None:
        modbus = free_port()
        server = ModbusTcpServer(SimulatedCharger(Evse(pace=0), SystemClock()).device(1), address=("127.0.0.1", modbus))
        await server.serve_forever(background=True)
        try:
            async with broker_process("mosquitto", tmp_path) as broker:
                config = tmp_path / "site.yaml"
                config.write_text(SITE.format(folder=tmp_path, modbus=modbus, broker=broker.url))
                office = Office(broker.url)
                names: list[str] = []
                async with running(office):
                    for life in range(kills + 1):
                        log = tmp_path / f"life{life}.log"
                        with process("agent", "run", "--config", str(config), log=log) as gateway:
                            name = f"probe{life}."
                            while not any(one.startswith(name) for one in office.results()):
                                assert gateway.poll() is None, log.read_text()
                                assert len(names) < 1000 + 20 * life, "the gateway answers nothing"
                                names.append(f"{name}{len(names)}")
                                await office.send(command(names[-1], action="limit", args={"limit_a": 7}, ttl_s=600))
                                await asyncio.sleep(0.2)
                            for number in range(12):
                                names.append(f"c{life}.{number}")
                                args: dict[str, object] = {"limit_a": 6 + number}
                                await office.send(command(names[-1], action="limit", args=args))
                            if life == kills:
                                wanted = {name for name in names if name.startswith("c")}
                                await until(lambda: wanted <= set(office.results()), 60)  # noqa: B023 - the last round
                                await until(lambda: len(office.events()) >= len(office.results()))
                                break
                            await asyncio.sleep(picked.random() * 0.15)
                            gateway.send_signal(signal.SIGKILL)
                            gateway.wait()
                told = office.results()
                assert {len(answers) for answers in told.values()} == {1}, office.outcomes()
                # Before the gateway subscribed for the first time, it was nobody's to answer.
                missing = [name for name in names if name not in told]
                assert all(name.startswith("probe0.") for name in missing), missing
                assert Counter(Counter(event["data"]["id"] for event in office.events()).values()).keys() == {1}
                assert {outcome for (outcome,) in office.outcomes().values()} <= {"done", "failed", "superseded"}
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]

    asyncio.run(scenario())
