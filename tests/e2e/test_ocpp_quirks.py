"""What chargers do to their connections, at the real port: a charger keeps its sessions and limits over all of it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agent.core.clock import SystemClock
from drivers.ocpp.charger import Charger, charger_specs
from drivers.ocpp.settings import ChargerSettings
from tests.ocpp_asked import CENTRAL, accept
from tests.ocpp_fakes import MemoryNotebook, MemorySessions
from tests.ocpp_fakes import Site as House
from tests.ocpp_peers import OpenGate, Site, site, until
from tests.sinks import RecordingSink

BOOT: dict[str, object] = {"chargePointVendor": "Acme", "chargePointModel": "One"}
TIMEOUT_S = 60


class _Gate(OpenGate):
    """Lets one real charger in."""

    def __init__(self, charger: Charger, passwords: dict[str, bytes]) -> None:
        super().__init__(passwords)
        self.charger = charger

    def peer(self, identity: str) -> Charger:  # type: ignore[override]
        return self.charger


@contextlib.asynccontextmanager
async def _house() -> AsyncIterator[tuple[Site, Charger, MemorySessions]]:
    house = House("any")
    clock = SystemClock()
    settings = ChargerSettings("cp", "CP1")
    ids = {spec.name: number for number, spec in enumerate(charger_specs(settings), 1)}
    notebook: MemoryNotebook = house.notebook
    charger = Charger(settings, CENTRAL, (), ids, clock, house.sessions, notebook, house.id_tags)
    charger.open(RecordingSink())
    try:
        async with site(gate=_Gate(charger, {"CP1": b"x" * 16}), clock=clock) as port:
            yield port, charger, house.sessions
    finally:
        await charger.close()


async def _charger(websocket: ClientConnection, *says: tuple[str, dict[str, object]]) -> None:
    """A charger that says these and is answered each, and agrees to all that it is asked; until it is cut off."""
    waiting = {str(number): one for number, one in enumerate(says)}
    with contextlib.suppress(ConnectionClosed):
        for id_, (action, payload) in waiting.items():
            await websocket.send(json.dumps([2, id_, action, payload]))
            while await _answered(websocket) != id_:
                pass
        while True:
            await _answered(websocket)


async def _answered(websocket: ClientConnection) -> str | None:
    """One frame: what it asks is agreed to; the id of what it answers."""
    frame = json.loads(await websocket.recv())
    if frame[0] == 2:
        await websocket.send(json.dumps([3, frame[1], accept(frame[2], frame[3])]))
        return None
    return str(frame[1])


def _start() -> tuple[str, dict[str, object]]:
    payload = {"connectorId": 1, "idTag": "AABB", "meterStart": 100, "timestamp": "2026-11-21T05:00:00Z"}
    return "StartTransaction", payload


def test_an_old_socket_that_is_never_closed_does_not_end_the_session() -> None:
    """14: ocpp-go 314, steve 4, OpenEMS 2906."""

    async def run() -> None:
        async with _house() as (port, charger, sessions):
            old = await port.connect(password=b"x" * 16)
            told = asyncio.create_task(_charger(old, ("BootNotification", BOOT), _start()))
            await until(lambda: charger.transaction(1) is not None)
            number = charger.transaction(1)
            new = await port.connect(password=b"x" * 16)
            again = asyncio.create_task(_charger(new, ("Heartbeat", {}), _start()))
            await told  # the old one was closed by us
            await until(lambda: charger._link is not None and charger.link.address.endswith(f":{new.local_address[1]}"))
            assert await charger.limits.set("current_limit_a", 10) == 10
            assert (len(sessions.rows), charger.transaction(1)) == (1, number)
            await new.close()
            await again

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


@pytest.mark.parametrize("polite", [True, False])
def test_coming_and_going_keeps_the_session_and_the_limit(polite: bool) -> None:  # noqa: FBT001 - a case
    """28, 29: evcc 27647, lbbrhzn 1595; also one that only drops its socket (24)."""

    async def run() -> None:
        async with _house() as (port, charger, sessions):
            for turn in range(10):
                websocket = await port.connect(password=b"x" * 16)
                says = [("BootNotification", BOOT), _start()] if turn == 0 else [("Heartbeat", {}), _start()]
                task = asyncio.create_task(_charger(websocket, *says))
                await until(lambda: charger._link is not None and charger.transaction(1) is not None)
                assert await charger.limits.set("current_limit_a", 10) == 10
                if polite:
                    await websocket.close()
                else:
                    websocket.transport.abort()
                await task
                await until(lambda: charger._link is None)
            assert [row.running for row in sessions.rows.values()] == [True]

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


def test_broken_frames_are_survived() -> None:
    """21: lbbrhzn 442; 25: what stands in a text that is none."""

    async def run() -> None:
        async with _house() as (port, charger, _):
            websocket = await port.connect(password=b"x" * 16)
            for text in ('[2,"1","Heartbeat",{}', '[3,"nobody",{"configurationKey":[]', "\0", '[2,"2","Boot\0",{}]'):
                await websocket.send(text)
            task = asyncio.create_task(_charger(websocket, ("BootNotification", BOOT)))
            await until(lambda: charger.boot is not None)
            assert not task.done() or task.exception() is None
            await websocket.close()
            await task

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))
