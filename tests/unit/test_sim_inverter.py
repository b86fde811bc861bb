"""The simulated inverter: its sun, what it makes of it, and that the gateway's own discovery reads it as negative."""

import asyncio
from itertools import pairwise

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import Unsupported
from drivers.codec.registers import Table
from drivers.modbus.sunspec import discover
from drivers.sim.inverter_sunspec import BASE, MADE_WH, PEAK_W, RISES_H, SETS_H, Inverter, sun

DAY_S = 300.0


def inverter(hour: float) -> tuple[Inverter, FakeClock]:
    clock = FakeClock()
    return Inverter(clock, hour, DAY_S), clock


def test_the_sun_rises_shines_and_sets() -> None:
    day = [sun(hour / 10) for hour in range(240)]
    assert {one for hour, one in enumerate(day) if not RISES_H < hour / 10 < SETS_H} == {0.0}
    assert min(one for hour, one in enumerate(day) if RISES_H + 0.5 < hour / 10 < SETS_H - 0.5) > 0.05
    assert 0.8 < max(day) <= 1.0
    assert 110 < day.index(max(day)) < 150, "about noon"
    assert max(abs(after - before) for before, after in pairwise(day)) < 0.08, "no jumps"


def test_a_day_passes_in_its_time_and_what_is_made_is_the_integral() -> None:
    one, clock = inverter(0.0)
    drawn_wh = 0.0
    for _ in range(int(DAY_S)):
        clock.advance(1)
        report = one.report()
        assert isinstance(report["power_w"], list)
        assert len(report["power_w"]) == 3
        drawn_wh += sum(report["power_w"]) / 3600
    assert (one.hour + 12) % 24 == pytest.approx(12.0), "the same hour again"
    assert drawn_wh < -0.3 * PEAK_W * DAY_S / 3600, "what is given is negative"
    assert one.made_wh - MADE_WH == pytest.approx(-drawn_wh, rel=0.01)


def test_the_hour_can_be_told() -> None:
    one, _ = inverter(0.0)
    assert one.power_w == 0
    one.tell_hour(13)
    assert one.power_w > PEAK_W / 2
    for hour in (-1, 24):
        with pytest.raises(ValueError, match="no hour"):
            one.tell_hour(hour)


@pytest.mark.parametrize(("hour", "status"), [(13.0, 4), (2.0, 2)])
def test_the_gateway_discovers_it_and_reads_what_it_gives_as_negative(hour: float, status: int) -> None:
    one, _ = inverter(hour)
    one.resume(made_wh=70_000.0)
    words = one.readable()

    async def read(table: Table, address: int, count: int) -> list[int]:
        if table != "holding" or not BASE <= address <= BASE + len(words) - count:
            raise Unsupported("read", "nothing is there")
        return words[address - BASE : address - BASE + count]

    profile = asyncio.run(discover(read))
    values = {}
    for point in profile.points:
        raw: float = words[point.register.address - BASE]
        if point.register.type == "uint32":
            raw = raw * 65_536 + words[point.register.address - BASE + 1]
        elif point.register.type == "int16" and raw >= 0x8000:
            raw -= 0x10000
        if point.exponent is not None:
            raw *= 10.0 ** ((words[point.exponent.address - BASE] + 0x8000) % 0x10000 - 0x8000)
        if raw != -0x8000:
            values[point.point] = raw * float(point.scale)
    assert values["power_w"] == -one.power_w
    assert one.report()["power_w"] == [pytest.approx(values["power_w"] / 3)] * 3
    assert values["dc_power_w"] <= values["power_w"], "some is lost on its way"
    assert values["current_l1_a"] * values["voltage_l1_v"] * 3 == pytest.approx(one.power_w, abs=20)
    assert values["energy_export_wh"] == 70_000
    assert values["frequency_hz"] == 50
    assert values["inverter_status"] == status
