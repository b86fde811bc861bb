"""After a power cut: who waits, for how long, who is left alone, and what ends it."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.model import Origin, Outcome, Wish
from agent.control.power_return import PowerReturn, draw
from agent.control.station import Target
from agent.core.model import Signal
from tests.control_fakes import ENABLED, LIMIT, FakeDevice, FakeNotebook, FakeValues, Rig, run, settle

POWER_W = 7400.0


class Site:
    """Chargers that draw as soon as they may, their gateway, and power cuts."""

    def __init__(self, names: Sequence[str], seed: int = 1) -> None:
        self.names = names
        self.seed = seed
        self.boot = "boot-1"
        self.devices = {name: FakeDevice() for name in names}
        self.rig = Rig()
        self.power = self.gateway()

    def gateway(self) -> PowerReturn:
        memory = self.rig.service._commands._records._memory
        return PowerReturn(self.rig.clock, memory, self.rig.service._stations, self.boot, Random(self.seed))  # noqa: S311

    async def start(self, spread_s: float = 600) -> None:
        targets = [Target(name, name, 0, name, device, device) for name, device in self.devices.items()]
        await self.rig.service.apply(targets, (), "UTC")
        self.power = self.gateway()
        self.power.begin(spread_s)

    async def restart(self, *, cut_s: float = 0, spread_s: float = 600) -> None:
        """The gateway is started again; after a power cut of so long where that is given."""
        await self.close()
        self.rig.clock.advance(cut_s or 2)
        if cut_s:
            self.boot += "'"
            for device in self.devices.values():
                device.now.clear()
        self.rig = self.rig.restarted()
        self.rig.view.heard.clear()
        await self.start(spread_s)

    async def close(self) -> None:
        await self.rig.service.close()
        await self.power.close()

    def draws(self, name: str) -> bool:
        return self.devices[name].now.get(ENABLED) == 1

    def read(self) -> None:
        for name in self.names:
            self.rig.view.put(f"{name}.power_w", POWER_W if self.draws(name) else 0.0)

    async def second(self, *, read: bool = True) -> None:
        self.rig.clock.advance(1)
        if read:
            self.read()
        self.power.tick()
        self.rig.service.tick()
        await settle(30)

    async def seconds(self, count: int) -> None:
        for _ in range(count):
            await self.second()

    async def all_on(self) -> None:
        for name in self.names:
            await self.tell(name, "on", "rule:day", Origin.RULE)

    async def tell(self, name: str, action: str, issuer: str, origin: Origin) -> str:
        runner = self.rig.service._stations.find(name)
        assert runner is not None
        wish = Wish(name, issuer, origin, on=action == "on", since_us=self.rig.clock.now_us())
        waiter = await runner.put(wish, None)
        await settle(30)
        return waiter.result().reason if waiter.done() else ""


@given(st.integers(0, 60), st.floats(1, 1800), st.randoms(use_true_random=False))
def test_delays_are_within_the_spread_and_evenly_apart(count: int, spread_s: float, random: Random) -> None:
    names = [f"cp{number}" for number in range(count)]
    delays = draw(names, spread_s, random)
    assert set(delays) == set(names)
    for place, delay_s in enumerate(sorted(delays.values())):
        assert place * spread_s / count - 1e-6 <= delay_s <= (place + 1) * spread_s / count + 1e-6


def test_each_station_waits_for_an_evenly_distributed_time() -> None:
    random = Random(7)  # noqa: S311 - a test
    times = [draw(["a", "b", "c"], 600, random)["a"] for _ in range(3000)]
    for tenth in range(10):
        inside = sum(tenth * 60 <= one < tenth * 60 + 60 for one in times)
        assert 210 <= inside <= 390, "each of ten minutes has a tenth of them"


@pytest.mark.parametrize("seed", range(5))
def test_twenty_chargers_come_back_one_by_one(seed: int) -> None:
    async def check() -> None:
        site = Site([f"cp{number}" for number in range(20)], seed)
        await site.start()
        await site.seconds(1)
        await site.all_on()
        await site.seconds(65)
        assert all(site.draws(name) for name in site.names), "the first start ever waits for nothing"
        await site.restart(cut_s=3000)
        total_w: list[float] = []
        for _ in range(603):
            await site.second()
            total_w.append(sum(POWER_W for name in site.names if site.draws(name)))
        assert total_w[-1] == 20 * POWER_W
        for start in range(len(total_w) - 60):
            assert total_w[start + 60] - total_w[start] <= 3 * POWER_W, "the ramp of the site"
        assert max(after - before for before, after in pairwise(total_w)) <= 2 * POWER_W
        assert total_w[20] <= POWER_W
        assert all(len(device.log) <= 5 for device in site.devices.values()), "told on, off and on, and no more"
        await site.close()

    run(check)


def test_it_says_until_when_and_a_restart_begins_nothing_anew() -> None:
    async def check() -> None:
        site = Site(["cp1", "cp2"], 3)
        await site.start()
        await site.seconds(1)
        await site.all_on()
        await site.restart(cut_s=3000)
        first, second = sorted(site.power.waiting.values())
        names = sorted(site.power.waiting, key=lambda name: site.power.waiting[name])
        await site.seconds(2)
        (decision, *_) = site.rig.service.why(names[1])
        now_us, now_s = site.rig.clock.now_us(), site.rig.clock.monotonic_s()
        minute = (now_us + round((second - now_s) * 1e6)) // 60_000_000 % 60
        assert f" until 12:{minute:02} (waits after a power return, so that not all start at once)" in decision.reason
        assert decision.reason.startswith("off by power-return since 12:")
        assert decision.reason.endswith("; rule day wanted on")
        before = site.power.waiting
        await site.restart()
        assert site.power.waiting == before
        await site.seconds(3)
        assert not any(site.draws(name) for name in names)
        while site.rig.clock.monotonic_s() < first + 2:
            await site.second()
        assert [site.draws(name) for name in names] == [True, False]
        await site.restart()
        assert list(site.power.waiting) == names[1:]
        await site.seconds(3)
        assert [site.draws(name) for name in names] == [True, False], "whose time has come does not wait anew"
        while site.rig.clock.monotonic_s() < second + 2:
            await site.second()
        assert all(site.draws(name) for name in names)
        assert site.power.waiting == {}
        await site.restart()
        await site.seconds(3)
        assert all(site.draws(name) for name in names)
        await site.close()

    run(check)


def test_who_draws_is_left_alone_and_who_is_not_seen_is_not_written_to() -> None:
    async def check() -> None:
        site = Site(["cp1", "cp2", "cp3"], 5)
        await site.start()
        await site.seconds(1)
        await site.all_on()
        await site.restart(cut_s=3000)
        site.devices["cp1"].now[ENABLED] = 1  # it went on by itself
        for device in site.devices.values():
            device.log.clear()
        site.rig.view.put("cp2.power_w", None)
        site.rig.view.put("cp3.power_w", None)
        site.names = ["cp1"]
        await site.seconds(20)
        assert site.devices["cp1"].log == [(ENABLED, 1)]
        assert site.devices["cp2"].log == []
        assert site.devices["cp3"].log == []
        assert set(site.power.waiting) == {"cp2", "cp3"}
        until_s = site.power.waiting["cp2"]
        site.names = ["cp1", "cp2"]
        await site.seconds(2)
        assert site.devices["cp2"].log == [(ENABLED, 0)], "it came later and waits for its rest"
        while site.rig.clock.monotonic_s() < until_s + 2:
            await site.second()
        assert site.draws("cp2")
        await site.seconds(600)
        site.names = ["cp3"]
        await site.seconds(2)
        assert site.devices["cp3"].log == [(ENABLED, 1)], "its time was over before it was seen"
        await site.close()

    run(check)


def test_an_operator_ends_it_for_one_station_and_an_old_wish_does_not() -> None:
    async def check() -> None:
        site = Site(["cp1", "cp2"], 3)
        await site.start()
        await site.seconds(1)
        for name in site.names:
            await site.tell(name, "on", "user:ana", Origin.MANUAL)
        await site.restart(cut_s=3000)
        await site.seconds(2)
        assert not any(site.draws(name) for name in site.names), "what ana wanted before the cut waits"
        await site.tell("cp1", "on", "hub", Origin.REMOTE)
        await site.seconds(2)
        assert not site.draws("cp1"), "only a person on site ends it"
        reason = await site.tell("cp1", "on", "user:ana", Origin.MANUAL)
        assert reason.startswith("on by user ana")
        assert site.draws("cp1"), "at once"
        assert list(site.power.waiting) == ["cp2"]
        await site.restart()
        await site.seconds(2)
        assert (site.draws("cp1"), site.draws("cp2")) == (True, False), "also after a restart"
        await site.close()

    run(check)


def test_it_costs_no_switches_and_holds_nobody_for_longer() -> None:
    """A station may be held off for some seconds only: the 60 s for which an off is kept do not count here."""

    async def check() -> None:
        site = Site(["cp1"], 1)
        await site.start()
        await site.seconds(1)
        await site.all_on()
        for count in range(10):
            await site.restart(cut_s=61, spread_s=20)
            await site.second()
            assert list(site.power.waiting) == ["cp1"]
            await site.seconds(5)
            assert site.power.waiting == {}
            assert site.draws("cp1") == (count < 6), "only going on is counted: six times an hour"
        await site.close()

    run(check)


@pytest.mark.parametrize(("boot", "spread_s"), [("", 600), ("x", 0)])
def test_switched_off_or_without_a_boot_id_nobody_waits(boot: str, spread_s: float) -> None:
    async def check() -> None:
        site = Site(["cp1"])
        site.boot = boot
        await site.start(spread_s)
        await site.seconds(1)
        await site.all_on()
        await site.close()
        site.boot = boot and "y"
        site.rig = site.rig.restarted()
        await site.start(spread_s)
        assert site.power.waiting == {}
        await site.seconds(3)
        assert site.draws("cp1")
        await site.close()

    run(check)


def test_outlets_wait_in_place_of_their_charger() -> None:
    async def check() -> None:
        rig = Rig(device=FakeDevice(*[f"{name}{outlet}" for name in (LIMIT, ENABLED) for outlet in ("", ".1", ".2")]))
        await rig.notebook.write("power_return", "site", {"boot": "before", "until_s": {}})
        places = [("cp1", 0), ("cp1.1", 1), ("cp1.2", 2)]
        targets = [Target(name, "cp1", outlet, "", rig.charger, rig.charger) for name, outlet in places]
        meter = Target("meter", "meter", 0)
        await rig.service.apply([*targets, meter], (), "UTC")
        power = PowerReturn(rig.clock, rig.service._stations._around.memory, rig.service._stations, "now")
        power.begin(600)
        assert set(power.waiting) == {"cp1.1", "cp1.2"}
        rig.view.put("cp1.power_w.1", 0)
        rig.view.put("cp1.power_w.2", 0)
        power.tick()
        await rig.wait(1)
        assert rig.charger.now == {f"{ENABLED}.1": 0, f"{ENABLED}.2": 0}
        result = await rig.do("on")
        await settle()
        assert result.outcome is Outcome.DONE
        assert power.waiting == {}, "who switches the whole on means its outlets"
        await rig.service.close()
        await power.close()

    run(check)


@pytest.mark.announced_warnings
def test_a_note_that_says_nonsense_holds_nobody() -> None:
    async def check() -> None:
        for noted in ({"boot": "now", "until_s": 5}, {"boot": "now", "until_s": {"cp1": "x", "cp2": 1e300}}):
            rig = await Rig().start()
            await rig.notebook.write("power_return", "site", noted)
            power = PowerReturn(rig.clock, rig.service._stations._around.memory, rig.service._stations, "now")
            power.begin(600)
            assert power.waiting == {}
            power.tick()
            await rig.service.close()
            await power.close()

    run(check)


class Labelled(FakeValues):
    """Whose signals have labels."""

    def find(self, device: str, name: str) -> Signal | None:
        found = super().find(device, name)
        return found and Signal(device, name, labels={0: "Available", 2: "Charging"}, id=1)


@pytest.mark.parametrize(
    ("values", "draws"),
    [
        ({"power_w": 100}, True),
        ({"power_w": 99, "current_l1_a": 9}, False),
        ({"current_l1_a": 0.1, "current_l2_a": 0.5}, True),
        ({"current_a": 0.4, "charger_status": 2}, False),
        ({"charger_status": 2}, True),
        ({"charger_status": 0, "power_w": None}, False),
        ({"charging": 1, "charger_status": 0}, True),
        ({"power_w": None}, None),
        ({"current_limit_a": 16}, None),
        ({"power_w.1": 0, "power_w.2": 3000}, True),
        ({"power_w.1": 0, "power_w.2": 50}, False),
        ({"power_w.1": 0, "charger_status.2": None}, None),
    ],
)
def test_whether_it_draws(values: dict[str, float | None], draws: bool | None) -> None:  # noqa: FBT001 - a table
    async def check() -> None:
        rig = Rig(kept=FakeNotebook())
        rig.view = Labelled(rig.clock)
        rig.service = type(rig.service)(rig.clock, rig.notebook, rig.recorded.append, rig.view, rig.view.find)
        outlets = [Target(f"cp1.{number}", "cp1", number) for number in (1, 2) if any("." in name for name in values)]
        await rig.service.apply([Target("cp1", "cp1", 0), *outlets], (), "UTC")
        for name, value in values.items():
            rig.view.put(f"cp1.{name}", value)
        assert rig.service._stations.drawing(["cp1", "gone"]) == {"cp1": draws}
        await rig.service.close()

    run(check)
