"""A simulated PV inverter on Modbus TCP: ``python -m drivers.sim.inverter_sunspec --port 1503``.

It says itself which registers it has, as SunSpec devices do: the models 1 (common) and 103 (three-phase inverter,
integers with scale factors), offsets of the SunSpec Alliance's definitions. The served numbers are made anew for each
question.

Rules of this model:

1. The sun is a function of the hour alone: nothing before it rises and after it sets, a sine between, thinned by clouds
   that come at the same hours each day. What is made is the integral of it.
2. A day lasts ``day_s``, so that one can be watched; the hour that it is now can be told.
3. The three phases give equal parts. SunSpec counts what an inverter gives as positive, the report as the house does.
"""

import argparse
import json
import math
import struct
import sys
from collections.abc import Sequence

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.core.clock import Clock, SystemClock
from drivers.sim.directed import Orders, Report, add_control
from drivers.sim.modbus_line import Line, run

BASE = 40_000
DAY_S = 86_400.0
HOURS = 24.0
RISES_H, SETS_H = 6.0, 20.0
PEAK_W = 12_000.0  #: what it gives at most; a register of model 103 has room for 32,767
MADE_WH = 8_415_000.0  #: what the register of an inverter shows that is some years old
_S_PER_H = 3600.0
_MOST_STEP_S = 1.0
#: Clouds as waves over the day: how much they take at most, how often they come, where they begin.
_CLOUDS = ((0.10, 15.0, 0.4), (0.05, 38.0, 0.1))
_PHASES = 3
_VOLTAGE_V, _FREQUENCY_HZ, _DC_V = 231.0, 50.0, 640.0
_EFFICIENCY = 0.975
_COOL_DEGC, _WARMER_DEGC = 24.0, 28.0
_SLEEPING, _MPPT = 2, 4
_NONE_16, _NONE_S16 = 0xFFFF, 0x8000


def sun(hour: float) -> float:
    """What the sun gives at that hour of the day, of the most that it could: 0 to 1."""
    if not RISES_H < hour < SETS_H:
        return 0.0
    clouds = sum(most * (1 + math.sin(2 * math.pi * (often * hour / HOURS + at))) / 2 for most, often, at in _CLOUDS)
    return math.sin(math.pi * (hour - RISES_H) / (SETS_H - RISES_H)) * (1 - clouds)


class Inverter:
    """An inverter under a sun whose day lasts ``day_s``. ``hour``: what it is at the beginning."""

    def __init__(self, clock: Clock, hour: float, day_s: float = DAY_S) -> None:
        self.made_wh = MADE_WH
        self._clock = clock
        self._hour = hour % HOURS
        self._day_s = day_s
        self._stepped_s = clock.monotonic_s()

    @property
    def hour(self) -> float:
        """The hour of its day, 0 to 24."""
        return self._hour

    @property
    def power_w(self) -> float:
        """What it gives, positive, in whole watts as it says them."""
        return float(round(PEAK_W * sun(self._hour)))

    def tell_hour(self, hour: float) -> None:
        """It is so late now. Raises ``ValueError``."""
        if not 0 <= hour < HOURS:
            raise ValueError(f"{hour} is no hour of a day")
        self.step()
        self._hour = float(hour)

    def resume(self, made_wh: float) -> None:
        """Go on where an earlier run of the same inverter ended."""
        self.made_wh = made_wh

    def report(self) -> Report:
        """How it is, for who directs it. ``power_w`` by phase, negative: it is given."""
        self.step()
        return {"power_w": [-self.power_w / _PHASES] * _PHASES, "made_wh": self.made_wh}

    def step(self) -> None:
        """Bring it up to now."""
        now_s = self._clock.monotonic_s()
        seconds, self._stepped_s = now_s - self._stepped_s, now_s
        while seconds > 0:
            step_s = min(seconds, _MOST_STEP_S)
            before_w = self.power_w
            self._hour = (self._hour + step_s * HOURS / self._day_s) % HOURS
            self.made_wh += (before_w + self.power_w) / 2 * step_s / _S_PER_H
            seconds -= step_s

    def readable(self) -> list[int]:
        """Registers from ``BASE`` on: the marker, the models, the end."""
        return [*_words("SunS", 2), *self._common(), *self._three_phase(), 0xFFFF, 0]

    @staticmethod
    def _common() -> list[int]:
        texts = (("Enlace", 16), ("Simulated inverter", 16), ("", 8), ("1.0", 8), ("PV-0001", 16))
        return [1, 66, *(word for text, count in texts for word in _words(text, count)), 1, _NONE_S16]

    def _three_phase(self) -> list[int]:
        """Model 103; -1, -2: the exponents of ten behind the values that they belong to."""
        power_w = self.power_w
        dc_w = power_w / _EFFICIENCY
        phase_a = round(power_w / _PHASES / _VOLTAGE_V * 100)
        voltage = round(_VOLTAGE_V * 10)
        warm = round((_COOL_DEGC + _WARMER_DEGC * power_w / PEAK_W) * 10)
        made = divmod(round(self.made_wh) & 0xFFFFFFFF, 1 << 16)
        body = [
            *(phase_a * _PHASES, phase_a, phase_a, phase_a, -2),
            *([round(_VOLTAGE_V * math.sqrt(3) * 10)] * _PHASES),
            *(voltage, voltage, voltage, -1),
            *(round(power_w), 0, round(_FREQUENCY_HZ * 100), -2),
            *(round(power_w), 0, 0, 0, 100, 0),  # what it gives is all active
            *(*made, 0),
            *(round(dc_w / _DC_V * 100), -2, round(_DC_V * 10), -1, round(dc_w), 0),
            *(warm, _NONE_S16, _NONE_S16, _NONE_S16, -1),
            *(_MPPT if power_w else _SLEEPING, _NONE_16),
            *([0] * 12),  # events: none
        ]
        return [103, len(body), *(word & 0xFFFF for word in body)]

    async def answer(
        self,
        function_code: int,  # noqa: ARG002 - given by the library
        start_address: int,  # noqa: ARG002 - given by the library
        address: int,  # noqa: ARG002 - given by the library
        count: int,  # noqa: ARG002 - given by the library
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by the library before it answers: fill in the registers. Nothing can be written."""
        if values is not None:
            return ExcCodes.ILLEGAL_VALUE
        self.step()
        served = self.readable()
        registers[: len(served)] = served
        return None

    def device(self, unit_id: int) -> SimDevice:
        """The device for pymodbus' server."""
        block = SimData(BASE, count=len(self.readable()), values=0, datatype=DataType.REGISTERS)
        return SimDevice(unit_id, simdata=[block], action=self.answer)


def _words(text: str, count: int) -> list[int]:
    return list(struct.unpack(f">{count}H", text.encode().ljust(2 * count, b"\0")))


async def _run(known: argparse.Namespace) -> None:
    clock = SystemClock()
    hour = clock.now_us() / 1e6 % DAY_S / _S_PER_H if known.hour is None else known.hour
    inverter = Inverter(clock, hour, known.day_s)
    if known.resume:
        inverter.resume(**known.resume)
    line = Line(lambda: inverter.device(known.unit_id), known.host, known.port)
    orders: Orders = {"hour": inverter.tell_hour}
    await line.serve(orders, inverter.report, clock, control=known.control)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code: 0 ended on request, 1 the port can't be had."""
    parser = argparse.ArgumentParser(prog="python -m drivers.sim.inverter_sunspec", description="A simulated inverter.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=1503, help="port to listen on (%(default)s)")
    parser.add_argument("--unit-id", type=int, default=1, help="unit address (%(default)s)")
    parser.add_argument("--day-s", type=float, default=DAY_S, help="how long a day of its sun lasts (%(default)s)")
    parser.add_argument("--hour", type=float, help="how late it is at the beginning (default: as in UTC)")
    parser.add_argument(
        "--resume", type=json.loads, metavar="JSON", help="made_wh, as the last report of an earlier run"
    )
    add_control(parser)
    return run("inverter", parser.parse_args(arguments), _run)


if __name__ == "__main__":
    sys.exit(main())
