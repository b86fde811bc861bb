"""Orders to simulated counterparts, and what those do that the demo's director needs."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.constants import ExcCodes

from agent.core.clock import FakeClock
from drivers.sim.battery import Battery, Fault
from drivers.sim.bms import SimulatedBms
from drivers.sim.charger_modbus import SimulatedCharger
from drivers.sim.directed import Orders, obey
from drivers.sim.evse import Evse
from drivers.sim.meter_dsmr import GridMeter, telegram
from drivers.sim.meter_house import Connection, House

NOON_US = 1_769_000_400_000_000
SECOND_US = 1_000_000
LIMIT = 0x4100


def test_an_order_is_given_its_members() -> None:
    done: list[Any] = []

    async def slowly(**said: object) -> None:
        done.append(said)

    orders: Orders = {"plug": lambda outlet, wants_a: done.append((outlet, wants_a)), "fault": slowly}

    async def main() -> None:
        await obey(b'{"do": "plug", "outlet": 2, "wants_a": 16.0}\n', orders)
        await obey(b'{"do": "fault", "name": "mute", "on": true}\n', orders)

    asyncio.run(main())
    assert done == [(2, 16.0), {"name": "mute", "on": True}]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"7\n",
        b"{}\n",
        b'{"do": "fly"}\n',
        b'{"do": "plug"}\n',
        b'{"do": ["plug"]}\n',
        b"\xff",
    ],
)
def test_an_order_that_makes_no_sense_is_told_and_changes_nothing(
    line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[object] = []

    def plug(outlet: int) -> None:
        done.append(outlet)

    asyncio.run(obey(line, {"plug": plug}))
    assert done == []
    assert "not done" in capsys.readouterr().err


def test_the_battery_does_what_it_is_asked_and_goes_back_to_its_cycle() -> None:
    battery = Battery()
    for asked_a in (-60.0, 27.0, 0.0):
        battery.asked_a = asked_a
        for _ in range(100):
            battery.step(0.1)
        assert battery.current_a == pytest.approx(asked_a, abs=3)
    battery.asked_a = None
    for _ in range(100):
        battery.step(0.1)
    assert battery.current_a > 40


def test_a_weak_fan_warms_it_above_50_degrees_and_never_to_its_protection() -> None:
    battery = Battery()
    battery.faults = frozenset({Fault.WARM})
    for asked_a in (-60.0, 50.0):
        battery.asked_a = asked_a
        for _ in range(6000):
            battery.step(0.1)
            assert battery.closed
        assert max(battery.temperatures_degc) > 52
    battery.faults = frozenset()
    for _ in range(300):
        battery.step(0.1)
    assert max(battery.temperatures_degc) < 45


def test_a_battery_goes_on_where_it_was() -> None:
    first = SimulatedBms()
    first.frames(100)
    report = first.report()
    second = SimulatedBms()
    second.resume(**{key: float(str(report[key])) for key in ("soc_pct", "charged_wh", "discharged_wh")})
    for key in ("charged_wh", "discharged_wh"):
        assert second.report()[key] == report[key]
    assert second.battery.soc_pct == pytest.approx(float(str(report["soc_pct"])), abs=0.5)


async def written(charger: SimulatedCharger) -> ExcCodes | None:
    return await charger.answer(16, LIMIT, LIMIT, 2, [], [0, 8000])


def test_a_modbus_charger_refuses_what_is_written_and_does_not_do_it() -> None:
    async def main() -> None:
        charger = SimulatedCharger(Evse(pace=0), FakeClock())
        charger.switch("refuses", True)
        assert await written(charger) is ExcCodes.DEVICE_FAILURE
        assert charger.evse.limit_a == 32
        charger.switch("refuses", False)
        assert await written(charger) is None
        assert charger.evse.limit_a == 8

    asyncio.run(main())


def test_a_mute_modbus_charger_answers_nothing_until_it_is_healed() -> None:
    async def main() -> None:
        charger = SimulatedCharger(Evse(pace=0), FakeClock())
        charger.switch("mute", True)
        asked = asyncio.create_task(written(charger))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asked.done()
        charger.switch("mute", False)
        assert await asked is None

    asyncio.run(main())


def test_a_modbus_charger_reports_what_it_draws_by_phase() -> None:
    clock = FakeClock()

    async def main() -> None:
        charger = SimulatedCharger(Evse(pace=0), clock)
        assert charger.report()["power_w"] == [0.0, 0.0, 0.0]
        charger.plug(16)
        clock.advance(20)
        drawn_w = charger.report()["power_w"]
        assert isinstance(drawn_w, list)
        assert sum(drawn_w) == pytest.approx(charger.evse.power_w)
        assert sum(drawn_w) == pytest.approx(3 * 16 * 230, rel=0.02)
        charger.unplug()
        assert charger.report()["power_w"] == [0.0, 0.0, 0.0]

    asyncio.run(main())


Watts = st.floats(-20_000, 20_000)


@given(st.lists(st.tuples(Watts, Watts, Watts), min_size=1, max_size=30))
def test_the_grids_registers_are_the_integral_of_what_is_drawn_and_given_back(told: list[tuple[float, ...]]) -> None:
    grid = Connection(NOON_US)
    now_us = NOON_US
    imported, exported = [sum(grid.energy_wh)], [sum(grid.exported_wh)]
    net_wh = 0.0
    for power_w in told:
        grid.draw(power_w)
        house = House(now_us)
        now_us += SECOND_US
        grid.step(now_us)
        net_wh += sum(House(now_us).energy_wh) - sum(house.energy_wh) + sum(power_w) / 3600
        imported.append(sum(grid.energy_wh))
        exported.append(sum(grid.exported_wh))
    for register in (imported, exported):
        assert all(later >= earlier - 1e-6 for earlier, later in pairwise(register)), "registers never go back"
    assert (imported[-1] - imported[0]) - (exported[-1] - exported[0]) == pytest.approx(net_wh, abs=1e-5)


def test_the_grid_shows_the_house_and_what_else_is_drawn_by_phase() -> None:
    grid = Connection(NOON_US)
    grid.draw([1000.0, 0.0, -5000.0])
    house = House(NOON_US)
    assert grid.phases_w == pytest.approx(
        [own + more for own, more in zip(house.phases_w, (1000, 0, -5000), strict=True)]
    )
    assert grid.power_w == pytest.approx(house.power_w - 4000)


def test_a_meter_that_nobody_tells_anything_is_the_houses() -> None:
    meter = GridMeter()
    told, house = meter.telegram(NOON_US), telegram(NOON_US)
    for code in (b"1-0:1.7.0", b"1-0:1.8.2", b"1-0:21.7.0", b"0-1:24.2.1"):
        assert [line for line in told.splitlines() if line.startswith(code)] == [
            line for line in house.splitlines() if line.startswith(code)
        ]


def test_a_meter_goes_on_where_it_was() -> None:
    first = GridMeter()
    first.telegram(NOON_US)
    first.draw([3000.0, 3000.0, 3000.0])
    first.telegram(NOON_US + 60 * SECOND_US)
    beside_wh = first.report()["beside_wh"]
    assert isinstance(beside_wh, list)
    assert sum(beside_wh) == pytest.approx(150)
    second = GridMeter()
    second.resume(beside_wh)
    second.telegram(NOON_US + 120 * SECOND_US)
    assert second.report()["beside_wh"] == pytest.approx(beside_wh)
