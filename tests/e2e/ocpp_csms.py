"""A small central system on the ``ocpp`` package, scripted by the test: it holds every message against its schema."""

import asyncio
import base64
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import ocpp.v16  # type: ignore[import-untyped]
import ocpp.v201  # type: ignore[import-untyped]
from ocpp.exceptions import InternalError  # type: ignore[import-untyped]
from ocpp.routing import on  # type: ignore[import-untyped]
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from agent.core.clock import FakeClock

MODULES = {"ocpp1.6": ocpp.v16, "ocpp2.0.1": ocpp.v201}
SAID = {
    "ocpp1.6": (
        "Authorize",
        "BootNotification",
        "DiagnosticsStatusNotification",
        "FirmwareStatusNotification",
        "Heartbeat",
        "LogStatusNotification",
        "MeterValues",
        "StartTransaction",
        "StatusNotification",
        "StopTransaction",
    ),
    "ocpp2.0.1": (
        "Authorize",
        "BootNotification",
        "FirmwareStatusNotification",
        "Heartbeat",
        "LogStatusNotification",
        "MeterValues",
        "NotifyReport",
        "ReportChargingProfiles",
        "StatusNotification",
        "TransactionEvent",
    ),
}
#: The package has no types.
Untyped = Any


@dataclass
class Said:
    """One question of a charger, with the snake_case keys of the package."""

    action: str
    payload: dict[str, Any]
    id: str


@dataclass
class Csms:
    """``async with Csms() as csms``. ``boots`` and ``refusals`` are the script; ``said`` is what chargers said."""

    boots: list[tuple[str, int]] = field(default_factory=list)  #: answers to BootNotification; then Accepted
    refusals: int = 0  #: so many transaction messages get a CALLERROR
    refused_tags: set[str] = field(default_factory=set)
    passwords: set[bytes] | None = None  #: None: anybody
    said: list[Said] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    links: list[Any] = field(default_factory=list)
    given: int = 0
    port: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    _server: Server | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def open(self) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[Subprotocol(name) for name in MODULES],
            process_request=self._check,
            ping_interval=None,
            close_timeout=1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def url(self, identity: str = "CP-1") -> str:
        return f"ws://127.0.0.1:{self.port}/ocpp/{identity}"

    def payloads(self, action: str) -> list[dict[str, Any]]:
        return [one.payload for one in self.said if one.action == action]

    async def until(self, action: str, count: int = 1) -> None:
        """Wait, in real time, until chargers have said something so often."""
        while len(self.payloads(action)) < count:
            self.heard.clear()
            await self.heard.wait()

    async def ask(self, action: str, **payload: Untyped) -> Untyped:
        """Ask the charger that connected last."""
        link = self.links[-1]
        return await link.call(getattr(MODULES[link.subprotocol].call, action)(**payload), suppress=False)

    def answer(self, link: Untyped, action: str, payload: dict[str, Any], number: str) -> Untyped:
        self.said.append(Said(action, payload, number))
        self.heard.set()
        answers = MODULES[link.subprotocol].call_result
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        two = link.subprotocol != "ocpp1.6"
        if action in {"StartTransaction", "StopTransaction", "TransactionEvent"} and self.refusals:
            self.refusals -= 1
            raise InternalError
        if action == "BootNotification":
            status, interval_s = self.boots.pop(0) if self.boots else ("Accepted", 60)
            return answers.BootNotification(current_time=now, interval=interval_s, status=status)
        if action == "Heartbeat":
            return answers.Heartbeat(current_time=now)
        tag = payload["id_token"]["id_token"] if "id_token" in payload else payload.get("id_tag")
        verdict = {"status": "Invalid" if tag in self.refused_tags else "Accepted"}
        if action == "Authorize":
            return answers.Authorize(**{"id_token_info" if two else "id_tag_info": verdict})
        if action == "StartTransaction":
            self.given += 1
            return answers.StartTransaction(transaction_id=self.given, id_tag_info=verdict)
        if action == "TransactionEvent" and tag is not None:
            return answers.TransactionEvent(id_token_info=verdict)
        return getattr(answers, action)()

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.passwords is None:
            return None
        name = request.path.rpartition("/")[2].encode()
        known = {"Basic " + base64.b64encode(name + b":" + one).decode() for one in self.passwords}
        return None if request.headers.get("Authorization") in known else Response(401, "Unauthorized", Headers())

    async def _serve(self, socket: ServerConnection) -> None:
        link = _link(self, socket)
        self.links.append(link)
        with contextlib.suppress(ConnectionClosed):
            await link.start()


def _link(csms: Csms, socket: ServerConnection) -> Untyped:
    subprotocol = str(socket.subprotocol)

    def handler(action: str) -> Callable[..., Any]:
        def handle(self: Untyped, call_unique_id: str, **payload: Untyped) -> Untyped:
            return csms.answer(self, action, payload, call_unique_id)

        handle.__name__ = f"on_{action}"
        return on(action)(handle)  # type: ignore[no-any-return]

    async def handle_call(self: Untyped, msg: Untyped) -> None:
        """Schema errors of what the charger says are noted; scripted refusals are not."""
        try:
            await base._handle_call(self, msg)
        except Exception as error:
            csms.errors.append(f"{msg.action}: {error!r}")
            raise

    base = MODULES[subprotocol].ChargePoint
    handlers: dict[str, Any] = {f"on_{action}": handler(action) for action in SAID[subprotocol]}
    kind = type("Link", (base,), {**handlers, "_handle_call": handle_call, "subprotocol": subprotocol})
    return kind(socket.request.path.rpartition("/")[2] if socket.request else "", socket, 10)


async def flow(clock: FakeClock, until: Callable[[], bool], at_most_s: float = 3600, step_s: float = 0.5) -> None:
    """Let simulated time run, and everybody act in between, until something is so."""
    passed_s = 0.0
    while not until():
        assert passed_s < at_most_s, "it did not happen"
        clock.advance(step_s)
        passed_s += step_s
        for _ in range(12):
            await asyncio.sleep(0)


async def pass_s(clock: FakeClock, seconds: float) -> None:
    """Let so much simulated time pass."""
    end_s = clock.monotonic_s() + seconds
    await flow(clock, lambda: clock.monotonic_s() >= end_s, seconds + 1)
