"""The local central system as a wire: what it has ready, and changes of its chargers while others are connected."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from agent.core.clock import SystemClock
from agent.store.db import Store
from drivers.codec.ocpp_model import Version
from drivers.ocpp import link as link_module
from drivers.ocpp import listener as listener_module
from drivers.ocpp import server as server_module
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.listener import OcppListener
from drivers.ocpp.plan import plan_ocpp
from drivers.ocpp.schemas import Form, Schemas
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint
from tests.ports import free_port
from tests.sinks import RecordingSink

WAIT_S = 60.0
ONE = ChargerSettings("cp1", "CP-1", version=Version.V16)
TWO = ChargerSettings("cp2", "CP-2", version=Version.V201)


@asynccontextmanager
async def running(folder: Path, chargers: Sequence[ChargerSettings]) -> AsyncIterator[tuple[OcppListener, int]]:
    clock, port = SystemClock(), free_port()
    store = Store.open(folder / "enlace.db", clock)
    plan = plan_ocpp(chargers, CentralSettings(Endpoint("127.0.0.1", port, 0), folder), ())
    listener = OcppListener(plan, clock, store, store, IdTags("any", store, clock))
    await listener.apply(chargers, {})
    task = asyncio.create_task(listener.run(RecordingSink()))
    try:
        yield listener, port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        store.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.005)


async def call(port: int, identity: str, version: str = "ocpp1.6") -> ClientConnection:
    """A charger that connects as soon as the port is open."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                url = f"ws://127.0.0.1:{port}/ocpp/{identity}"
                return await connect(url, subprotocols=[Subprotocol(version)], ping_interval=None)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def answers(charger: ClientConnection) -> None:
    """A heartbeat is answered; what the gateway asks meanwhile waits."""
    await charger.send('[2,"h","Heartbeat",{}]')
    async with asyncio.timeout(WAIT_S):
        while json.loads(await charger.recv())[:2] != [3, "h"]:
            pass


async def ask(charger: ClientConnection, action: str, **payload: object) -> dict[str, object]:
    """It is answered; what the gateway asks meanwhile waits."""
    await charger.send(json.dumps([2, action, action, payload]))
    async with asyncio.timeout(WAIT_S):
        while (frame := json.loads(await charger.recv()))[:2] != [3, action]:
            pass
    return dict(frame[2])


def test_what_is_usual_is_compiled_in_a_thread_of_the_versions_that_chargers_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Form] = []
    threads: set[str] = set()
    original = Schemas.prepare

    def prepare(self: Schemas, form: Form) -> None:
        original(self, form)
        prepared.append(form)
        threads.add(threading.current_thread().name)

    monkeypatch.setattr(Schemas, "prepare", prepare)
    monkeypatch.setattr(listener_module, "PREPARE_AFTER_S", 0.0)
    first = set(Schemas().usual(Version.V16))
    both = first | set(Schemas().usual(Version.V201))

    async def main() -> None:
        async with running(tmp_path, []) as (listener, port):
            charger = await call(port, "CP-9")
            assert not prepared, "nobody is configured"
            await listener.apply([ONE], {})
            await until(lambda: first <= set(prepared))
            assert set(prepared) == first
            await listener.apply([ONE, TWO], {})
            await until(lambda: both <= set(prepared))
            assert set(prepared) == both
            assert len(prepared) == len(both)
            await charger.close()

    asyncio.run(main())
    assert threading.main_thread().name not in threads


def test_what_is_only_in_memory_is_stored_before_a_charger_that_hangs_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("SHUT_S", "CLOSE_S"):
        monkeypatch.setattr(server_module, patience, 1e6)

    async def main() -> None:
        clock, port = SystemClock(), free_port()
        store = Store.open(tmp_path / "enlace.db", clock)
        plan = plan_ocpp([ONE], CentralSettings(Endpoint("127.0.0.1", port, 0), tmp_path), ())
        listener = OcppListener(plan, clock, store, store, IdTags("any", store, clock))
        await listener.apply([ONE], {})
        task = asyncio.create_task(listener.run(RecordingSink()))
        charger = await call(port, "CP-1")
        at = datetime.now(UTC).isoformat()
        begin = {"connectorId": 1, "idTag": "AABB", "meterStart": 1000, "timestamp": at}
        number = (await ask(charger, "StartTransaction", **begin))["transactionId"]
        for proof in ("one", "two"):
            value = {"value": proof, "format": "SignedData"}
            values = [{"timestamp": datetime.now(UTC).isoformat(), "sampledValue": [value]}]
            await ask(charger, "MeterValues", connectorId=1, transactionId=number, meterValue=values)

        async def proofs() -> list[str]:
            (session,) = await store.running("cp1")
            signed: Any = session.data["signed"]
            return [one["data"] for named in signed.values() for one in named.values()]

        assert await proofs() == ["one"], "the newest one is in memory"
        charger.transport.pause_reading()  # it does not see that it is closed
        task.cancel()
        async with asyncio.timeout(WAIT_S):
            while await proofs() != ["one", "two"]:  # noqa: ASYNC110 - there is nothing else to wait for
                await asyncio.sleep(0.01)
        assert not task.done()
        charger.transport.abort()
        await asyncio.gather(task, return_exceptions=True)
        store.close()

    asyncio.run(main())


def test_a_charger_that_hangs_is_cut_off_when_the_port_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SHUT_S", 0.05)
    for module in (server_module, link_module):
        monkeypatch.setattr(module, "CLOSE_S", 1e6)

    async def main() -> None:
        async with asyncio.timeout(WAIT_S):
            async with running(tmp_path, [ONE]) as (_, port):
                charger = await call(port, "CP-1")
                await answers(charger)
                charger.transport.pause_reading()  # it does not see that it is closed
            charger.transport.abort()

    asyncio.run(main())


def test_another_time_zone_ends_no_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, [ONE]) as (listener, port):
            stays = await call(port, "CP-1")
            listener.in_zone("Asia/Tokyo")
            await listener.apply([ONE, TWO], {})
            await answers(stays)
            zones = {device: charger.zone for device, charger in listener._chargers.items()}
            assert zones == dict.fromkeys(("cp1", "cp2"), ZoneInfo("Asia/Tokyo")), "also one that is new"
            await stays.close()

    asyncio.run(main())


def test_the_session_of_a_charger_that_is_taken_out_ends_and_goes_on_when_that_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, [ONE, TWO]) as (listener, port):
            charger, book = await call(port, "CP-1"), listener._chargers["cp1"].book
            at = datetime.now(UTC).isoformat()
            begin = {"connectorId": 1, "idTag": "AABB", "meterStart": 1000, "timestamp": at}
            number = (await ask(charger, "StartTransaction", **begin))["transactionId"]
            assert isinstance(number, int)
            await listener.apply([ChargerSettings("cp1", "CP-1", version=Version.V16, phases=1), TWO], {})
            (session,) = await book.sessions.running("cp1")
            assert session.id == number, "it was only changed"
            await listener.apply([TWO], {})
            assert not await book.sessions.running("cp1")
            lost = await book.sessions.find("cp1", id=number)
            assert lost is not None
            assert (lost.reason, lost.energy_wh) == ("Lost", 0)
            await listener.apply([ONE, TWO], {})
            charger = await call(port, "CP-1")
            values = [{"timestamp": datetime.now(UTC).isoformat(), "sampledValue": [{"value": "1500"}]}]
            await ask(charger, "MeterValues", connectorId=1, transactionId=number, meterValue=values)
            (session,) = await book.sessions.running("cp1")
            assert (session.id, session.energy_wh) == (number, 500)
            await charger.close()

    asyncio.run(main())


def test_a_change_touches_only_the_charger_that_it_is_about(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, [ONE, TWO]) as (listener, port):
            stays, goes = await call(port, "CP-1"), await call(port, "CP-2", "ocpp2.0.1")
            changed = ChargerSettings("cp2", "CP-2", version=Version.V201, outlets=2)
            await listener.apply([ONE, changed], {})
            with pytest.raises(ConnectionClosed, match="1001"):
                await answers(goes)
            again = await call(port, "CP-2", "ocpp2.0.1")
            await answers(again)
            await answers(stays)
            assert listener.device_of("CP-2") == "cp2"
            await listener.apply([ONE], {})
            assert listener.device_of("CP-2") == ""
            assert listener.devices == ("cp1",)
            await answers(stays)
            for charger in (stays, again):
                await charger.close()

    asyncio.run(main())
