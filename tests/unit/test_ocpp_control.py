"""Control over a charger, both real, with time in our hands: limits are seen to by their effect, and come back."""

import asyncio
from collections.abc import Awaitable, Callable

from agent.control.model import Command, Origin, Outcome
from agent.control.service import ControlService
from agent.control.station import Target
from agent.core.model import Event
from drivers.ocpp.ports import Payload
from tests.control_fakes import FakeNotebook, FakeValues
from tests.ocpp_asked import accept
from tests.ocpp_fakes import Rig

BOOT = {"chargePointVendor": "Acme", "chargePointModel": "One"}


class Site:
    """A charger that keeps what it is told, its control, and the signals between them."""

    def __init__(self) -> None:
        self.limits_a: list[float] = []  #: as set, the newest last
        self.rig = Rig(answer=self._answer)
        self.values = FakeValues(self.rig.clock)
        self.recorded: list[Event] = []
        self.control = ControlService(self.rig.clock, FakeNotebook(), self._heard, self.values, self.values.find)

    def _answer(self, action: str, payload: Payload) -> Payload:
        if action == "SetChargingProfile":
            profile = payload["csChargingProfiles"]
            self.limits_a.append(profile["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"])  # type: ignore[index]
        return accept(action, payload)

    def _heard(self, event: Event) -> None:
        self.recorded.append(event)

    async def draw(self, seconds: int, current_a: float, number: int) -> None:
        """The vehicle draws so much on each phase, told each 10 s."""
        for _ in range(seconds // 10):
            await self.pass_(10)
            sampled = [
                {"value": f"{current_a}", "measurand": "Current.Import", "phase": f"L{phase}", "unit": "A"}
                for phase in (1, 2, 3)
            ]
            entry = {"timestamp": self.rig.at(), "sampledValue": sampled}
            await self.rig.ask("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": [entry]})
            for phase in (1, 2, 3):
                value = self.rig.value(f"current_l{phase}_a")
                self.values.put(f"cp.current_l{phase}_a", value)  # type: ignore[arg-type]

    async def pass_(self, seconds: int) -> None:
        told = len(self.rig.sink.events)
        for _ in range(seconds):
            await self.rig.advance(1)
            for event in self.rig.sink.events[told:]:
                self.control.hear(event)
            told = len(self.rig.sink.events)
            self.control.tick()
            await self.rig.settle()

    async def do(self, action: str, **args: object) -> Outcome:
        command = Command(f"{action}{self.rig.clock.monotonic_s()}", "cp", action, args, Origin.MANUAL, "user:ana")
        return (await self.control.execute(command)).outcome

    def told(self) -> list[str]:
        return [event.kind for event in self.recorded if event.kind.startswith("station.") and "follow" in event.kind]


def play(scene: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        site = Site()
        async with site.rig as rig, site.control:
            charger = rig.charger
            await site.control.apply([Target("cp", "cp", 0, "", charger.limits, charger)], (), "UTC")
            await rig.ask("BootNotification", BOOT)
            await site.pass_(3)
            site.values.put("cp.charger_status", 0)
            await scene(site)

    asyncio.run(run())


def test_a_charger_that_ignores_its_limit_is_told_of_after_30_s() -> None:
    async def scene(site: Site) -> None:
        number = await site.rig.start16()
        assert await site.do("limit", limit_a=10) is Outcome.DONE
        await site.draw(20, 16, number)
        assert site.told() == []
        await site.draw(20, 16, number)
        assert site.told() == ["station.not_following"]
        await site.draw(20, 10, number)
        assert site.told() == ["station.not_following", "station.follows"]

    play(scene)


def test_a_charger_that_was_away_for_40_s_gets_what_was_decided_meanwhile_and_nothing_older() -> None:
    async def scene(site: Site) -> None:
        assert await site.do("limit", limit_a=16) is Outcome.DONE
        await site.rig.disconnect()
        await site.pass_(20)
        outcome = asyncio.create_task(site.do("limit", limit_a=9))
        await site.pass_(20)
        assert await outcome is Outcome.FAILED
        del site.limits_a[:]
        await site.rig.connect()
        await site.rig.ask("BootNotification", BOOT)
        await site.pass_(70)
        assert site.limits_a
        assert set(site.limits_a) == {6, 9}, "the safe limit and the one that is decided"
        assert site.rig.value("current_limit_a") == 9

    play(scene)
