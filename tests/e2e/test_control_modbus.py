"""Control over a simulated Modbus charger: real protocol and store, a clock of our own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pymodbus.server import ModbusTcpServer

from agent.control.model import Command, Control, Outcome
from agent.control.schedule import Act, ScheduleSpec
from agent.control.service import ControlService
from agent.control.station import Target
from agent.core.clock import FakeClock
from agent.core.model import Batch, Column, Event, Signal
from agent.pipeline.hub import Hub
from agent.profiles import load_modbus, profile_folders
from agent.store.db import Store
from drivers.modbus.model import ModbusDevice, ModbusProfile
from drivers.modbus.plan import ModbusPoller
from drivers.modbus.settings import ModbusUrl
from drivers.sim.charger_modbus import SimulatedCharger
from drivers.sim.evse import Evse
from tests.control_fakes import NOON_US
from tests.modbus_peer import poll, poller_of, run
from tests.sinks import RecordingSink

LIMIT = "current_limit_a"


class HubSink(RecordingSink):
    """Hands on to a hub."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub

    def put(self, batch: Batch) -> None:
        self._hub.update(batch)

    def touch(self, ids: Column) -> None:
        self._hub.touch(ids)


class DeafEvse(Evse):
    """It takes each limit, says it back, and ignores it."""

    @property
    def offered_a(self) -> float:
        return self.max_a


class Site:
    """A charger, the wire to it, and control."""

    def __init__(self, clock: FakeClock, evse: Evse, poller: ModbusPoller, store: Store) -> None:
        self.clock, self.evse, self.poller, self.store = clock, evse, poller, store
        self.hub = Hub(clock)
        self.sink = HubSink(self.hub)
        profile = charger_profile()
        self.signals = {
            point.point: Signal("d1", point.point, scale=point.scale, id=number)
            for number, point in enumerate(profile.points, 1)
        }
        self.events: list[Event] = []
        self.service = ControlService(
            clock, store, self.events.append, self.hub, lambda device, name: self.signals.get(name)
        )

    async def apply(self, *schedules: ScheduleSpec) -> None:
        target = Target("d1", "d1", 0, "Left", self.poller.commandables["d1"])
        await self.service.apply([target], schedules, "Europe/Berlin")

    async def wait(self, seconds: int, step_s: int = 5) -> None:
        for _ in range(seconds // step_s):
            self.clock.advance(step_s)
            assert await poll(self.poller, self.sink) is None
            self.service.tick()
            await self.idle()

    async def idle(self) -> None:
        """Until control has nothing to do any more."""
        while busy := [
            task for task in asyncio.all_tasks() if task.get_name().startswith(("station ", "command ", "schedule "))
        ]:
            await asyncio.wait(busy)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def charger_profile() -> ModbusProfile:
    return load_modbus("abb_terra_ac", profile_folders()).profile


@asynccontextmanager
async def site(folder: Path, evse: Evse) -> AsyncIterator[Site]:
    clock = FakeClock(NOON_US)
    charger = SimulatedCharger(evse, clock)
    server = ModbusTcpServer(charger.device(1), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert server.transport is not None
    port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    poller = poller_of(ModbusUrl.parse(f"tcp://127.0.0.1:{port}"), ModbusDevice("d1", charger_profile()))
    await poller.open()
    store = Store.open(folder / "enlace.db", clock)
    try:
        made = Site(clock, evse, poller, store)
        async with made.service:
            yield made
    finally:
        await poller.close()
        await server.shutdown()  # type: ignore[no-untyped-call]
        store.close(5)


def charging(evse: Evse) -> Evse:
    evse.plug_in(16)
    evse.step(20)
    return evse


def test_a_schedule_switches_a_charger_off_and_it_follows(tmp_path: Path) -> None:
    async def check() -> None:
        evse = charging(Evse())
        async with site(tmp_path, evse) as made:
            await made.apply(ScheduleSpec("night", cron="1 13 * * *", acts=(Act("d1", set="off"),)))
            await made.wait(30)
            assert evse.power_w > 10_000, "nobody wishes anything"
            await made.wait(70)
            assert evse.power_w == 0
            control: Control = made.service
            station = control.station("d1")
            assert station is not None
            assert (station.on, station.following) == (False, True)
            (why,) = control.why("d1")
            assert (why.reason, why.result) == ("off by schedule night since 13:01", "done")
            assert made.kinds() == []
            (job,) = made.service.jobs()
            assert [result.outcome for result in job.results] == [Outcome.DONE]
            limited = await control.execute(Command("1", "d1", "limit", {"limit_a": 10}, issuer="user:ana"))
            on = await control.execute(Command("2", "d1", "on", issuer="user:ana"))
            assert (limited.outcome, on.outcome) == (Outcome.DONE, Outcome.DONE)
            await made.wait(45)
            assert 6000 < evse.power_w < 7100

    run(check)


def test_a_charger_that_ignores_its_limit_is_found_out(tmp_path: Path) -> None:
    async def check() -> None:
        evse = charging(DeafEvse())
        async with site(tmp_path, evse) as made:
            await made.apply()
            await made.wait(5)
            result = await made.service.execute(Command("1", "d1", "limit", {"limit_a": 6}, issuer="user:ana"))
            assert result.outcome is Outcome.DONE, "it says so"
            await made.wait(25)
            assert made.kinds() == []
            await made.wait(10)
            assert made.kinds() == ["station.not_following"]
            assert made.events[0].data["limit_a"] == 6
            await made.service.execute(Command("2", "d1", "limit", {"limit_a": 32}, issuer="user:ana"))
            await made.wait(5)
            assert made.kinds() == ["station.not_following", "station.follows"]

    run(check)


def test_what_was_decided_stands_after_a_restart(tmp_path: Path) -> None:
    async def check() -> None:
        evse = charging(Evse())
        async with site(tmp_path, evse) as made:
            await made.apply()
            await made.wait(5)
            await made.service.execute(Command("1", "d1", "off", issuer="user:ana"))
            assert evse.limit_a == 0
        evse = charging(Evse())
        async with site(tmp_path, evse) as made:
            await made.apply()
            assert evse.power_w > 0
            await made.wait(10)
            assert evse.power_w == 0
            assert (await made.service.execute(Command("1", "d1", "off", issuer="user:ana"))).outcome is Outcome.DONE
            assert len(made.service.why("d1")) == 1

    run(check)
