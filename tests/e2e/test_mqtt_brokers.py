"""Brokers of four makers: the whole conversation over each with a kill in the middle, and what each can do.

What each can do is the table in docs/mqtt.md, cell by cell.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud_sync import lanes
from cloud_sync.command_payload import Order, OrderResult
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Message, Session
from cloud_sync.settings import LinkSettings, UplinkSettings, Will
from cloud_sync.uplink import Uplink
from tests.e2e.brokers import ROOT, BrokerProcess, broker_process, needs
from tests.e2e.central_stub import SITE, Central
from tests.e2e.proxy import proxy_to
from tests.e2e.subscriber import QuickClock, running, until
from tests.e2e.test_mqtt_uplink import expected_rows
from tests.unit.uplink_fakes import BOOT, MemoryOutbox, block, event

#: The columns of the table in docs/mqtt.md.
KINDS = {
    "mosquitto-persistent": "Mosquitto 2.0",
    "rabbitmq": "RabbitMQ 3.10",
    "nats": "NATS 2.9",
    "amqtt": "that of `enlace demo`",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broker lost with its memory is sent again after a second instead of half a minute."""
    monkeypatch.setattr(lanes, "FIRST_PATIENCE_S", 1.0)


QUIET_S = 2.0  #: what has not come after so long does not come
PATIENCE_S = 60.0  #: for what the table promises
#: RabbitMQ keeps retained messages in memory at first: a `kill -9` within some seconds can lose them.
WRITTEN_S = 5.0
NOT_PROMISED = "not always"  #: a cell of the table that either finding agrees with


class Client:
    """One client that keeps what comes, for as long as ``connected`` lasts."""

    def __init__(self, url: str, client_id: str, *, kept: bool = False, will: Will | None = None) -> None:
        self.came: list[Message] = []
        self._settings = LinkSettings(url, client_id, session_expiry_s=3600 if kept else 0, will=will)
        self.link = MqttLink(self._settings, QuickClock())

    @asynccontextmanager
    async def connected(self, *filters: str) -> AsyncIterator[Session]:
        """Connect and subscribe."""
        standing: asyncio.Future[Session] = asyncio.get_running_loop().create_future()

        async def serve(session: Session) -> None:
            if filters:
                await session.subscribe(*filters)
            if not standing.done():
                standing.set_result(session)
            while True:
                message = await session.next_message()
                self.came.append(message)
                session.acknowledge(message)

        task = asyncio.ensure_future(self.link.run(serve))
        try:
            yield await asyncio.wait_for(standing, 60)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def publish(self, topic: str, *payloads: bytes, retain: bool = False) -> None:
        async with self.connected() as session:
            for payload in payloads:
                await (await session.publish(topic, payload, retain=retain))

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.came]


async def arrives(condition: Callable[[], bool], cell: str = "no") -> bool:
    """Whether it becomes true: within a moment, or as long as it takes where the table's ``cell`` promises it."""
    try:
        await until(condition, QUIET_S if cell in {"no", NOT_PROMISED} else PATIENCE_S)
    except TimeoutError:
        return False
    return True


async def shared_subscription(url: str, cell: str) -> str:
    one, two = Client(url, "share-1"), Client(url, "share-2")
    numbers = [b"%d" % number for number in range(20)]
    async with one.connected("$share/g/t/shared"), two.connected("$share/g/t/shared"):
        await Client(url, "share-0").publish("t/shared", *numbers)
        await arrives(lambda: len(one.came) + len(two.came) >= len(numbers), cell)
        await asyncio.sleep(0.25)
    if not one.came + two.came:
        return "no"
    assert sorted(one.payloads() + two.payloads()) == sorted(numbers), "not shared out but copied"
    return "yes"


async def retained(url: str, cell: str) -> str:
    """What a late subscriber gets: by its exact topic, and by a filter for all sites."""
    late, wild = Client(url, "late"), Client(url, "wild")
    async with late.connected("t/depot-1/state"), wild.connected("t/+/state"):
        if await arrives(lambda: bool(late.came), cell):
            await arrives(lambda: bool(wild.came), cell if cell == "yes" else "no")
    if not late.came:
        return "no"
    assert late.came[0].retain
    return "yes" if wild.came else "by its exact topic only"


async def will(url: str, cell: str) -> str:
    """What comes when a client's connection is cut."""
    watcher = Client(url, "watcher")
    dying = Will("t/will", b"gone", retain=False)
    async with watcher.connected("t/will"), proxy_to(int(url.rpartition(":")[2])) as proxy:
        victim = Client(f"mqtt://127.0.0.1:{proxy.port}", "victim", will=dying)
        async with victim.connected():
            proxy.refuse = True
            proxy.cut()
            return "yes" if await arrives(lambda: bool(watcher.came), cell) else "no"


async def resume(url: str, topic: str, expected: bytes, cell: str) -> str:
    """Whether a subscriber that was away finds what came meanwhile."""
    client = Client(url, "away", kept=True)
    async with client.connected(topic):
        return "yes" if await arrives(lambda: expected in client.payloads(), cell) else "no"


SHARED, KEPT, WILL, RETAINED = (
    "shared subscriptions",
    "keeps messages for who is away",
    "will",
    "retained messages",
)
KEPT_KILLED, RETAINED_KILLED = "still has them after `kill -9`", "still has the retained ones after `kill -9`"


async def before_the_kill(url: str, cells: dict[str, str]) -> dict[str, str]:
    found = {SHARED: await shared_subscription(url, cells[SHARED])}
    async with Client(url, "away", kept=True).connected("t/away"):
        pass
    await Client(url, "sender").publish("t/away", b"first")
    found[KEPT] = await resume(url, "t/away", b"first", cells[KEPT])
    await Client(url, "sender").publish("t/depot-1/state", b"on", retain=True)
    found[RETAINED] = await retained(url, cells[RETAINED])
    found[WILL] = await will(url, cells[WILL])
    await Client(url, "sender").publish("t/away", b"second")
    await asyncio.sleep(0 if cells[KEPT_KILLED] == "no" else WRITTEN_S)
    return found


async def after_the_kill(url: str, cells: dict[str, str]) -> dict[str, str]:
    found = {KEPT_KILLED: await resume(url, "t/away", b"second", cells[KEPT_KILLED])}
    promised = "no" if cells[RETAINED_KILLED] == "no" else cells[RETAINED]
    found[RETAINED_KILLED] = "no" if await retained(url, promised) == "no" else "yes"
    return found


def uplink(url: str, outbox: MemoryOutbox, done: list[str]) -> Uplink:
    async def execute(order: Order) -> OrderResult:
        done.append(order.id)
        return OrderResult(order.id, "done", t_us=1)

    settings = UplinkSettings(url, site=SITE, confirm="ack")
    return Uplink(settings, outbox, QuickClock(), lambda _: None, boot=BOOT, version="1.0", execute=execute)


async def conversation(url: str, broker: BrokerProcess) -> None:
    """State, catalogue, telemetry, events, commands and acknowledgements, with the broker killed in the middle."""
    outbox, done = MemoryOutbox(), list[str]()
    central, sender = Central(url), uplink(url, outbox, done)
    async with running(central):
        await asyncio.wait_for(central.ready.wait(), 60)
        async with running(sender):
            await until(lambda: central.states[-1:] == [True])
            await central.ask("before")
            for seq in range(1, 61):
                outbox.add(block(seq), event(seq))
                if seq == 30:
                    await until(lambda: len(central.rows) > 5)
                    await broker.kill()
                    await until(lambda: not sender.status().connected)
                if seq == 40:
                    await broker.start()
                await asyncio.sleep(0.005)
            await until(lambda: outbox.cursors == {"telemetry": 60, "event": 60})
            await until(lambda: central.ready.is_set() and central.states[-1:] == [True])
            await central.ask("after")
        await until(lambda: central.states[-1:] == [False])
    assert sorted(central.rows) == sorted(central.events) == list(range(1, 61))
    assert set().union(*central.rows.values()) == expected_rows(*range(1, 61))
    assert central.changed == []
    assert central.catalogs > 0
    assert set(done) == {"before", "after"}
    assert central.results == {"before": "done", "after": "done"}


def table() -> dict[str, dict[str, str]]:
    """The table in docs/mqtt.md: column -> row -> cell."""
    lines = (ROOT / "docs" / "mqtt.md").read_text().partition("\n## Brokers\n")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, _, *body = rows[: next((n for n, line in enumerate(rows) if len(line) != len(rows[0])), len(rows))]
    return {name: {row[0]: row[column] for row in body} for column, name in enumerate(head) if column}


@pytest.mark.announced_warnings
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in KINDS])
def test_each_broker_carries_the_whole_conversation_and_does_what_the_table_says(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        cells = table()[KINDS[kind]]
        async with broker_process(kind, tmp_path) as broker:
            found = await before_the_kill(broker.url, cells)
            await conversation(broker.url, broker)
            found |= await after_the_kill(broker.url, cells)
            client = Client(broker.url, "last")
            async with client.connected():
                found["MQTT"] = client.link.stats.protocol
        assert found.keys() == cells.keys()
        assert found | {row: cell for row, cell in cells.items() if cell == NOT_PROMISED} == cells

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@needs("mosquitto")
def test_the_whole_conversation_over_mqtt_3_1_1(tmp_path: Path) -> None:
    """As over a broker that closes connections of MQTT 5 without a word, and then speaks 3.1.1."""

    async def scenario() -> None:
        async with broker_process("mosquitto-persistent", tmp_path) as broker, proxy_to(broker.port) as proxy:
            proxy.no_version5 = True
            await conversation(f"mqtt://127.0.0.1:{proxy.port}", broker)

    asyncio.run(scenario())
