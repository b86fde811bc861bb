"""The simulated meters: their telegrams against libraries that nobody here wrote, and the house behind them."""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from smllib.reader import SmlStreamReader
from smllib.sml.response_get_list import SmlGetListResponse

from agent.core.clock import FakeClock
from drivers.sim import meter_dsmr, meter_sml
from drivers.sim.faults import FaultPlan, parse_fault
from drivers.sim.meter_house import House
from drivers.sim.meter_port import Fault, PseudoPort, push, with_faults
from tests.ptys import MAX_WAITING

NOON_US = 1_769_000_400_000_000
MINUTE_US = 60_000_000
DAY_US = 86_400_000_000


def sml_values(data: bytes) -> dict[str, object]:
    reader = SmlStreamReader()
    reader.add(data)
    frame = reader.get_frame()
    assert frame is not None
    (found,) = [m.message_body for m in frame.parse_frame() if isinstance(m.message_body, SmlGetListResponse)]
    return {entry.obis.obis_code: entry.get_value() for entry in found.val_list}


def test_dsmr_telegrams_are_read_by_dsmr_parser() -> None:
    house = House(NOON_US)
    parsers = pytest.importorskip("dsmr_parser.parsers")
    specifications = pytest.importorskip("dsmr_parser.telegram_specifications")
    telegram = parsers.TelegramParser(specifications.V5).parse(meter_dsmr.telegram(NOON_US).decode())
    assert float(telegram.CURRENT_ELECTRICITY_USAGE.value) == pytest.approx(house.power_w / 1000, abs=0.0006)
    low, normal = telegram.ELECTRICITY_USED_TARIFF_1.value, telegram.ELECTRICITY_USED_TARIFF_2.value
    assert float(low + normal) == pytest.approx(sum(house.energy_wh) / 1000, abs=0.002)
    assert telegram.P1_MESSAGE_TIMESTAMP.value.timestamp() == NOON_US // 1_000_000
    assert float(telegram.INSTANTANEOUS_VOLTAGE_L1.value) == pytest.approx(house.voltages_v[0], abs=0.06)


def test_sml_files_are_read_by_smllib() -> None:
    house = House(NOON_US)
    values = sml_values(meter_sml.telegram(NOON_US))
    assert values["1-0:16.7.0*255"] == pytest.approx(house.heat_pump_w, abs=0.06)
    assert values["1-0:1.8.0*255"] == pytest.approx(house.heat_pump_wh, abs=0.06)
    assert values["1-0:96.50.1*1"] == "SIM"


def test_an_escape_sequence_among_the_values_is_doubled() -> None:
    made = meter_sml.transport(b"\x1b" * 4 + b"AB")
    body = made[8:-8]
    assert body == b"\x1b" * 8 + b"AB" + b"\x00\x00"
    assert made[-4:-2] == b"\x1a\x02"


def test_energy_is_the_integral_of_power_and_the_heat_pump_a_part_of_it() -> None:
    steps = [House(NOON_US + second * 1_000_000) for second in range(7200)]
    drawn_wh = sum((one.power_w + other.power_w) / 2 for one, other in pairwise(steps)) / 3600
    assert sum(steps[-1].energy_wh) - sum(steps[0].energy_wh) == pytest.approx(drawn_wh, rel=1e-4)
    assert all(0 < one.heat_pump_w < one.power_w for one in steps)
    assert steps[5].power_w == pytest.approx(sum(steps[5].phases_w))


def test_registers_never_go_down_and_the_low_one_stands_by_day() -> None:
    houses = [House(NOON_US + minute * MINUTE_US) for minute in range(3 * 24 * 60)]
    for one, other in pairwise(houses):
        low_wh, normal_wh = (after - before for before, after in zip(one.energy_wh, other.energy_wh, strict=True))
        assert low_wh >= -1e-6
        assert normal_wh >= -1e-6
        if one.low_tariff == other.low_tariff:
            assert (normal_wh if one.low_tariff else low_wh) == pytest.approx(0, abs=1e-6)
        assert other.gas_m3 >= one.gas_m3
        assert other.heat_pump_wh > one.heat_pump_wh
    assert {one.low_tariff for one in houses} == {True, False}


def test_each_fault_does_what_it_says() -> None:
    whole = meter_dsmr.telegram(NOON_US)
    assert with_faults(whole, set()) == whole
    assert with_faults(whole, {Fault.SILENCE, Fault.BAD_CRC}) == b""
    broken = with_faults(whole, {Fault.BAD_CRC})
    assert sum(one != other for one, other in zip(whole, broken, strict=True)) == 1
    assert meter_dsmr.crc16(broken[: broken.index(b"!") + 1]) != int(broken[-6:-2], 16)


def test_faults_come_and_go() -> None:
    plan = parse_fault(Fault, "silence@60+5")
    assert [plan.active(t_s) for t_s in (0, 59.9, 60, 64.9, 65)] == [False, False, True, True, False]
    assert parse_fault(Fault, "bad_crc").active(0)
    with pytest.raises(argparse.ArgumentTypeError, match="silence"):
        parse_fault(Fault, "fire")


class _Kept:
    name = "kept"

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        """Nothing to close."""


def test_a_telegram_each_second_but_for_silence() -> None:
    async def check() -> None:
        clock, port = FakeClock(), _Kept()
        plan = [FaultPlan(Fault.SILENCE, 1.5, 2.0)]
        task = asyncio.create_task(push(port, lambda now_us: str(now_us).encode(), plan, 1.0, clock))
        start_us = clock.now_us()
        for _ in range(6):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            clock.advance(1.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [(int(one) - start_us) // 1_000_000 for one in port.sent] == [0, 1, 4, 5]

    asyncio.run(check())


def test_a_port_that_nobody_reads_takes_all_and_keeps_only_what_is_whole(tmp_path: Path) -> None:
    async def check() -> None:
        port = PseudoPort(tmp_path / "meter")
        telegram = meter_dsmr.telegram(NOON_US)
        for _ in range(50):
            await port.write(telegram)
        reader = os.open(tmp_path / "meter", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        waiting = os.read(reader, MAX_WAITING)
        os.close(reader)
        assert len(waiting) <= 50 * len(telegram)
        port.close()
        port_again = PseudoPort(tmp_path / "meter")
        port_again.close()
        assert not os.listdir(tmp_path)  # noqa: PTH208 - a test may block

    asyncio.run(check())


@pytest.mark.parametrize(("module", "first"), [("meter_dsmr", b"/ENL5"), ("meter_sml", b"\x1b\x1b\x1b\x1b\x01")])
def test_the_program_pushes_until_it_is_told_to_end(module: str, first: bytes, tmp_path: Path) -> None:
    link = tmp_path / "meter"
    command = [sys.executable, "-m", f"drivers.sim.{module}", "--port-link", str(link), "--every-s", "0.05"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline().decode().strip() == f"sending on {link}"
            port = os.open(link, os.O_RDWR | os.O_NOCTTY)
            heard = b""
            while first not in heard:
                heard += os.read(port, MAX_WAITING)
            os.close(port)
        finally:
            program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=60) == 0
    assert not link.is_symlink()


def test_a_port_that_is_not_there_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert meter_sml.main(["--device", str(tmp_path / "none")]) == 1
    assert "is it plugged in?" in capsys.readouterr().err
