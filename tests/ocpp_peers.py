"""The other sides of a connection for tests: a peer and a gatekeeper that keep what they see, and a server."""

import asyncio
import base64
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from agent.core.clock import Clock, SystemClock
from drivers.codec.ocpp_model import Entry, Version
from drivers.ocpp.ports import Call, Decision, Fault, Knock, Link, Payload
from drivers.ocpp.server import OcppServer, ServerLimits
from drivers.ocpp.settings import CentralSettings, Endpoint

Handler = Callable[[Call], Awaitable[Payload | Fault]]


async def plain_answers(call: Call) -> Payload | Fault:
    """What fits the schema for the messages that the tests send."""
    match call.action:
        case "BootNotification":
            return {"currentTime": "2026-11-21T05:00:00Z", "interval": 60, "status": "Accepted"}
        case "Heartbeat":
            return {"currentTime": "2026-11-21T05:00:00Z"}
        case "Authorize":
            return {"idTagInfo": {"status": "Accepted"}}
        case "StartTransaction":
            return {"transactionId": 7, "idTagInfo": {"status": "Accepted"}}
        case "DataTransfer":
            return {"status": "Accepted"}
        case _:
            return {}


class RecordingPeer:
    """A charger as the connection sees it: it keeps calls and links, and answers by ``handler``."""

    def __init__(self, handler: Handler = plain_answers) -> None:
        self.handler = handler
        self.calls: list[Call] = []
        self.log: list[str] = []
        self.links: list[Link] = []
        self.attached = asyncio.Event()
        self.detached = asyncio.Event()

    def attach(self, link: Link) -> None:
        self.links.append(link)
        self.log.append(f"attach {len(self.links) - 1}")
        self.attached.set()

    def detach(self, link: Link) -> None:
        self.log.append(f"detach {self.links.index(link)}")
        self.detached.set()

    async def handle(self, call: Call) -> Payload | Fault:
        self.calls.append(call)
        return await self.handler(call)

    @property
    def link(self) -> Link:
        return self.links[-1]


class OpenGate:
    """Lets everybody in who gives the password of its identity (none needed where none is set)."""

    def __init__(self, passwords: dict[str, bytes] | None = None) -> None:
        self.passwords = passwords
        self.pinned: dict[str, Version] = {}
        self.peers: dict[str, RecordingPeer] = {}
        self.knocks: list[Knock] = []
        self.came: list[tuple[str, Version]] = []
        self.turned_away: list[tuple[str, str]] = []

    def peer(self, identity: str) -> RecordingPeer:
        return self.peers.setdefault(identity, RecordingPeer())

    async def decide(self, knock: Knock) -> Decision:
        self.knocks.append(knock)
        pinned = self.pinned.get(knock.identity)
        if self.passwords is None:
            return Decision(Entry.ADOPTED, peer=self.peer(knock.identity), version=pinned)
        if knock.identity not in self.passwords:
            return Decision(Entry.REFUSED, "unknown", status=404)
        if knock.password != self.passwords[knock.identity]:
            return Decision(Entry.REFUSED, "credentials", status=401)
        return Decision(Entry.ADOPTED, "", "password", self.peer(knock.identity), pinned)

    def refused(self, knock: Knock, reason: str) -> None:
        self.turned_away.append((knock.identity, reason))

    def connected(self, knock: Knock, decision: Decision, version: Version) -> None:
        self.came.append((knock.identity, version))


class Site:
    """A server that runs, and how to call it."""

    def __init__(
        self, server: OcppServer, gate: OpenGate, counts: Counter[str], port: int, task: asyncio.Task[None]
    ) -> None:
        self.server, self.gate, self.counts, self.port, self.task = server, gate, counts, port, task

    def connect(
        self,
        identity: str = "CP1",
        *,
        offers: tuple[str, ...] = ("ocpp1.6",),
        password: bytes | None = None,
        user: str | None = None,
        scheme: str = "ws",
        **options: object,
    ) -> connect:
        headers = []
        if password is not None:
            token = base64.b64encode((user or identity).encode() + b":" + password).decode()
            headers = [("Authorization", f"Basic {token}")]
        return connect(
            f"{scheme}://127.0.0.1:{self.port}/ocpp/{identity}",
            subprotocols=[Subprotocol(one) for one in offers] or None,
            additional_headers=headers,
            ping_interval=None,
            **options,  # type: ignore[arg-type]
        )


@contextlib.asynccontextmanager
async def site(
    *,
    gate: OpenGate | None = None,
    clock: Clock | None = None,
    limits: ServerLimits | None = None,
    endpoint: Endpoint | None = None,
    data_dir: Path = Path("/nonexistent"),
    without: Version | None = None,
) -> AsyncIterator[Site]:
    """A server on a free port of this machine."""
    gate = gate or OpenGate()
    counts: Counter[str] = Counter()
    central = CentralSettings(endpoint or Endpoint("127.0.0.1", 0), data_dir, without_subprotocol=without)

    def count(name: str, amount: int) -> None:
        assert amount > 0
        counts[name] += amount

    server = OcppServer(central, gate, clock or SystemClock(), count, limits)
    task = asyncio.create_task(server.run())
    opened = asyncio.create_task(server.opened())
    try:
        await asyncio.wait({task, opened}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield Site(server, gate, counts, opened.result(), task)
    finally:
        opened.cancel()
        task.cancel()
        await asyncio.gather(task, opened, return_exceptions=True)


async def ask(websocket: ClientConnection, action: str, payload: object = None, name: str = "1") -> list[object]:
    """A call of the charger's and its answer."""
    await websocket.send(json.dumps([2, name, action, payload or {}]))
    return await heard(websocket)


async def heard(websocket: ClientConnection) -> list[object]:
    """The next message that the charger gets."""
    message: list[object] = json.loads(await websocket.recv())
    return message


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until it holds."""
    while not condition():  # noqa: ASYNC110 - there is nothing else to wait for
        await asyncio.sleep(0.001)
