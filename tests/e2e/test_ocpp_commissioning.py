"""The first minutes of a charger: set-up is cut off in the middle, by the charger or by the gateway, and loses nothing.

The simulated charger at the real port; the gateway's own pauses are shortened.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from agent.core.clock import SystemClock
from drivers.ocpp.charger import Charger, charger_specs
from drivers.ocpp.quirks import STANDARD
from drivers.ocpp.settings import ChargerSettings
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import SimSettings
from tests.ocpp_asked import CENTRAL
from tests.ocpp_fakes import MemoryNotebook
from tests.ocpp_fakes import Site as House
from tests.ocpp_peers import OpenGate, site, until
from tests.sinks import RecordingSink

PASSWORD = b"x" * 16
TIMEOUT_S = 120


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.ocpp.setup_measurands.PROBE_PAUSE_S", 0.3)
    monkeypatch.setattr("drivers.ocpp.setup_measurands.PROOF_S", 1.0)


class _Gateway:
    """One that may be restarted: what it keeps is the store."""

    def __init__(self) -> None:
        self.house = House("any")
        self.charger = self._start()

    def _start(self) -> Charger:
        house, settings = self.house, ChargerSettings("cp", "CP1")
        ids = {spec.name: number for number, spec in enumerate(charger_specs(settings), 1)}
        notebook: MemoryNotebook = house.notebook
        charger = Charger(settings, CENTRAL, (), ids, SystemClock(), house.sessions, notebook, house.id_tags)
        charger.open(RecordingSink())
        return charger

    async def restart(self) -> None:
        await self.charger.close()
        self.house.restart()
        self.charger = self._start()

    def note(self) -> dict[str, object]:
        return dict(self.house.notebook.note("ocpp.measurands", "cp") or {})

    def trying(self) -> object:
        """What it tries now; "all" while all of them are proved together."""
        note = self.note()
        return "all" if "works" in note and "trying" in note else note.get("trying")


class _Gate(OpenGate):
    def __init__(self, gateway: _Gateway) -> None:
        super().__init__({"CP1": PASSWORD})
        self.gateway = gateway

    def peer(self, identity: str) -> Charger:  # type: ignore[override]
        return self.gateway.charger


@contextlib.asynccontextmanager
async def _site() -> AsyncIterator[tuple[_Gateway, SimulatedCharger]]:
    gateway, clock = _Gateway(), SystemClock()
    try:
        async with site(gate=_Gate(gateway), clock=clock) as port:
            url = f"ws://127.0.0.1:{port.port}/ocpp/CP1"
            quick = {"backoff_s": (0.1, 0.2), "reboot_s": 0.1, "tick_s": 0.05}
            settings = SimSettings(url, password=PASSWORD, pace=0, **quick)  # type: ignore[arg-type]
            async with SimulatedCharger(settings, clock) as charger:
                yield gateway, charger
    finally:
        await gateway.charger.close()


async def _more(charger: SimulatedCharger, connections: int) -> None:
    """It has connected again."""
    await until(lambda: charger.connections > connections)


def _run(scene: Callable[[_Gateway, SimulatedCharger], object]) -> None:
    async def main() -> None:
        async with _site() as (gateway, charger):
            await scene(gateway, charger)  # type: ignore[misc]
            await until(lambda: "works" in gateway.note() and "trying" not in gateway.note())
            asked = charger.keys["MeterValuesSampledData"].value
            assert asked.split(",") == gateway.note()["works"] == list(STANDARD.measurands)
            assert "fell" not in gateway.note()
            assert charger.violations == []

    asyncio.run(asyncio.wait_for(main(), TIMEOUT_S))


MOMENTS = pytest.mark.parametrize("moment", [["Voltage"], "all"], ids=["one is tried", "all are proved"])


@MOMENTS
@pytest.mark.parametrize("how", ["boots", "drops"])
def test_a_charger_that_is_interrupted_while_it_is_set_up_sends_all_it_can(how: str, moment: object) -> None:
    async def scene(gateway: _Gateway, charger: SimulatedCharger) -> None:
        await until(lambda: gateway.trying() == moment)
        connections = charger.connections
        if how == "boots":
            charger.reboot("Unknown", at_once=True)
        else:
            charger.hang_up.set()
        await _more(charger, connections)
        await until(lambda: bool(gateway.note().get("falls")))  # it is on record, and no verdict

    _run(scene)


@MOMENTS
def test_a_gateway_that_restarts_while_it_sets_up_a_charger_blames_nothing_on_it(moment: object) -> None:
    async def scene(gateway: _Gateway, charger: SimulatedCharger) -> None:
        for _ in range(3):
            await until(lambda: gateway.trying() == moment)
            connections = charger.connections
            await gateway.restart()
            await _more(charger, connections)
        assert "falls" not in gateway.note()

    _run(scene)
