"""What is said to a gateway the moment it is there, and what it says when a broker lets nothing through to it."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core.ports import Latest
from agent.overview import uplink_health
from cloud_sync.command_payload import Order, OrderResult
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Session
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.subscriber import decode_state
from cloud_sync.uplink import Parts, Uplink
from tests.e2e.brokers import ROOT, broker_process, mosquitto, needs
from tests.e2e.central_stub import SITE
from tests.e2e.subscriber import QuickClock, running, until
from tests.unit.uplink_fakes import BOOT, SIGNALS, MemoryOutbox, block

PREFIX = f"enlace/{SITE}"
ACL = (ROOT / "config" / "mosquitto.acl").read_text()


async def execute(order: Order) -> OrderResult:
    return OrderResult(order.id, "done", t_us=1)


class Hasty:
    """Gives a command once, as soon as the site is online; acknowledges each block."""

    def __init__(self, url: str, *, username: str = "") -> None:
        self.asked: list[str] = []
        self.told: list[object] = []
        self.ready = asyncio.Event()
        self._link = MqttLink(LinkSettings(url, "hasty", username=username), QuickClock())

    async def run(self) -> None:
        await self._link.run(self._serve)

    async def _serve(self, session: Session) -> None:
        await session.subscribe(f"{PREFIX}/#")
        self.ready.set()
        while True:
            message = await session.next_message()
            session.acknowledge(message)
            name = message.topic.removeprefix(f"{PREFIX}/")
            if name == "state" and decode_state(message.payload).online and not message.retain:
                self.asked.append(f"c{len(self.asked)}")
                now = datetime.now(UTC).isoformat()
                order = {"id": self.asked[-1], "issued_at": now, "ttl_s": 600, "target": "cp1", "action": "reset"}
                await session.publish(f"{PREFIX}/command", json.dumps(order).encode())
            elif name == "command/result":
                self.told.append(json.loads(message.payload)["id"])
            elif name == "telemetry":
                word = {"stream": "telemetry", "upto": json.loads(message.payload)["seq"]}
                await session.publish(f"{PREFIX}/ack", json.dumps(word).encode())


@pytest.mark.parametrize(
    "kind", ["amqtt", pytest.param("mosquitto", marks=needs("mosquitto")), pytest.param("nats", marks=needs("nats"))]
)
def test_a_command_that_follows_at_once_when_a_site_comes_online_is_carried_out(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process(kind, tmp_path) as broker:
            central = Hasty(broker.url)
            async with running(central):
                await asyncio.wait_for(central.ready.wait(), 60)
                for number in range(1, 4):
                    settings = UplinkSettings(broker.url, site=SITE, client_id=f"gateway-{number}")
                    uplink = Uplink(
                        settings,
                        MemoryOutbox(),
                        QuickClock(),
                        lambda _: None,
                        boot=BOOT,
                        version="1.0",
                        execute=execute,
                    )
                    async with running(uplink):
                        await until(lambda number=number: len(central.told) == number, 60)  # type: ignore[misc]
            assert central.told == central.asked == ["c0", "c1", "c2"]

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@needs("mosquitto")
@pytest.mark.parametrize("allowed", [True, False], ids=["as in the example", "without the topic ack"])
def test_an_access_list_that_refuses_the_topic_ack_is_said_in_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, allowed: bool
) -> None:
    async def scenario() -> None:
        acl = tmp_path / "acl"
        line = "pattern read enlace/%u/ack\n"
        assert line in ACL
        acl.write_text(ACL if allowed else ACL.replace(line, ""))
        broker = mosquitto(tmp_path, f"allow_anonymous true\nacl_file {acl}")
        await broker.start()
        try:
            central, outbox, events = Hasty(broker.url, username="central"), MemoryOutbox(), list[object]()
            settings = UplinkSettings(broker.url, site=SITE, username=SITE, confirm="ack")
            uplink = Uplink(
                settings,
                outbox,
                QuickClock(),
                events.append,
                boot=BOOT,
                version="1.0",
                parts=Parts(latest=lambda: [Latest(SIGNALS[0], 52.5, 7, 0.0)]),
            )
            async with running(central, uplink):
                await asyncio.wait_for(central.ready.wait(), 60)
                outbox.add(block(1))
                await until(lambda: uplink.status().published >= 4, 60)
                if allowed:
                    await until(lambda: uplink.status().streams["telemetry"].acked == 1, 60)
                    assert uplink_health(uplink.status()).ok
                    assert not events, "the example lets it write all that it writes"
                    return
                monkeypatch.setattr("agent.overview.SILENT_S", 0.5)
                await until(lambda: not uplink_health(uplink.status()).ok, 60)
                told = uplink_health(uplink.status())
                assert uplink.status().streams["telemetry"].acked == 0
                assert "access list" in (told.hint or "")
        finally:
            await broker.kill()

    asyncio.run(scenario())
