"""A charger that was offline for weeks empties its queue into the real store while a vehicle comes and goes."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.core.clock import SystemClock
from agent.store.db import Store
from drivers.ocpp import charger
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.listener import OcppListener
from drivers.ocpp.plan import plan_ocpp
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import Quirk, SimSettings
from tests.ports import free_port
from tests.sinks import RecordingSink

#: A guard against hanging; 10,000 messages are some 80 s, for a connection may send 100 a second.
PATIENCE_S = 400.0


def full(version: str) -> Any:  # noqa: ANN401 - a parameter of pytest
    return pytest.param(version, 10_000, marks=pytest.mark.long)


async def empty(peer: SimulatedCharger) -> None:
    """Let it send all, and a vehicle charge in between."""
    while not peer.online:  # noqa: ASYNC110 - what is waited for is a peer
        await asyncio.sleep(0.05)
    peer.plug_in(1, 16, "TAG1")
    await asyncio.sleep(2.0)
    peer.unplug()
    while peer.outbox or peer.outlets[0].transaction is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def play(folder: Path, version: str, messages: int) -> tuple[object, object]:
    """The registers of all sessions, as the charger and as the store have them; of those that run None."""
    clock = SystemClock()
    endpoint = Endpoint("127.0.0.1", free_port(), 0)
    central = CentralSettings(endpoint, folder, sample_s=1, id_tags="any", call_timeout_s=5)
    plan = plan_ocpp([ChargerSettings("b", "B")], central, ())
    store = Store.open(folder / "enlace.db", clock)
    ids = {(spec.device, spec.name): one.id for spec, one in zip(plan.specs, store.assign(plan.specs), strict=True)}
    listener = OcppListener(plan, clock, store, store, IdTags("any", store, clock))
    await listener.apply(plan.chargers, ids)
    serving = asyncio.create_task(listener.run(RecordingSink()))
    settings = SimSettings(f"ws://127.0.0.1:{endpoint.port}/ocpp/B", version, pace=0, backoff_s=(0.1, 0.5))
    try:
        async with SimulatedCharger(replace(settings, quirks={Quirk.BACKLOG: str(messages)}), clock) as one:
            async with asyncio.timeout(PATIENCE_S):
                await empty(one)
            assert one.dropped == 0
            told = sorted((done.start_wh, done.stop_wh) for done in one.sessions)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        stored = store.list_sessions(limit=messages)[1]
    finally:
        serving.cancel()
        store.close()
    return told, sorted((one.start_wh, None if one.running else one.last_wh) for one in stored)


@pytest.mark.parametrize(("version", "messages"), [("1.6", 400), ("2.0.1", 400), full("1.6"), full("2.0.1")])
def test_all_sessions_of_a_queue_are_stored_as_the_charger_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, messages: int
) -> None:
    monkeypatch.setattr(charger, "TICK_S", 0.01)  # what waits to be stored meets as many reports as in weeks
    told, stored = asyncio.run(play(tmp_path, version, messages))
    assert told
    assert stored == told
