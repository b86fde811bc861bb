"""A simulated charger on Modbus TCP: ``python -m drivers.sim.charger_modbus --port 1502``.

It has the registers of an ABB Terra AC ("ABB Terra AC Charger ModBus Communication", v1.11): 0x4000 on are read, 0x4100
on are written. The served numbers are made anew for each question.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from enum import StrEnum

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.core.clock import Clock, SystemClock
from drivers.sim.directed import Orders, Report, add_control
from drivers.sim.evse import Evse, Pilot
from drivers.sim.modbus_line import Line, run

READ_FROM, READ_COUNT = 0x4000, 0x20
WRITE_FROM, WRITE_COUNT = 0x4100, 0x08
SERIAL = (0x0054, 0x4143, 0x2026, 0x0001)
FIRMWARE = 0x0108_1500
_LIMIT, _SESSION, _TIMEOUT = 0x4100, 0x4105, 0x4106
_LOCKED = {Pilot.A: 0x0000_0001, Pilot.B: 0x0000_0101, Pilot.C: 0x0000_0111}
_STATES = {Pilot.A: 0, Pilot.B: 2, Pilot.C: 4}


class Fault(StrEnum):
    """What can be switched on."""

    MUTE = "mute"  #: connections are taken, and nothing is answered
    REFUSES = "refuses"  #: what is written is refused as a failure of the device


class SimulatedCharger:
    """The registers of one outlet, and what writing them does."""

    def __init__(self, evse: Evse, clock: Clock) -> None:
        self.evse = evse
        self._clock = clock
        self._stepped_s = clock.monotonic_s()
        self._faults: set[Fault] = set()
        self._speaks = asyncio.Event()
        self._speaks.set()

    def switch(self, name: str, on: bool) -> None:  # noqa: FBT001 - as the order says it
        """Switch a fault. Raises ``ValueError``."""
        fault = Fault(name)
        self._faults = self._faults | {fault} if on else self._faults - {fault}
        if Fault.MUTE in self._faults:
            self._speaks.clear()
        else:
            self._speaks.set()

    def plug(self, wants_a: float) -> None:
        """A vehicle comes."""
        self.step()
        self.evse.plug_in(wants_a, waits_s=2)

    def unplug(self) -> None:
        """It leaves."""
        self.step()
        self.evse.unplug()

    def report(self) -> Report:
        """How it is, for who directs it. ``power_w`` by phase."""
        self.step()
        evse = self.evse
        power_w = [current * voltage for current, voltage in zip(evse.currents_a, evse.voltages_v, strict=True)]
        return {"power_w": power_w, "plugged": [evse.plugged], "session_wh": [evse.session_wh]}

    def step(self) -> None:
        """Bring the outlet up to now."""
        now_s = self._clock.monotonic_s()
        self.evse.step(now_s - self._stepped_s)
        self._stepped_s = now_s

    def readable(self) -> list[int]:
        """Registers from ``READ_FROM`` on."""
        evse = self.evse
        words = list(SERIAL)
        for value in (
            FIRMWARE,
            round(evse.max_a * 1000),
            0,
            _LOCKED[evse.pilot],
            _STATES[evse.pilot] << 8,
            round(evse.limit_a * 1000),
            *(round(current * 1000) for current in evse.currents_a),
            *(round(voltage * 10) for voltage in evse.voltages_v),
            round(evse.power_w),
            round(evse.session_wh),
        ):
            words += divmod(value, 1 << 16)
        return words

    def write(self, address: int, words: Sequence[int]) -> bool:
        """What a question writes; False for values that the charger does not take."""
        if address == _LIMIT and len(words) == 2:  # noqa: PLR2004 - a 32-bit value
            limit_a = ((words[0] << 16) + words[1]) / 1000
            if limit_a > self.evse.max_a:
                return False
            self.evse.tell_limit(limit_a)
        elif address == _SESSION and len(words) == 1 and words[0] in {0, 1}:
            self.evse.enabled = words[0] == 0
        elif address == _TIMEOUT and len(words) == 1:
            self.evse.timeout_s = float(words[0]) or None
        else:
            return False
        self.evse.hear()
        return True

    async def answer(
        self,
        function_code: int,  # noqa: ARG002 - given by the library
        start_address: int,
        address: int,
        count: int,  # noqa: ARG002 - given by the library
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by the library before it answers: fill in the registers, take what is written."""
        await self._speaks.wait()
        self.step()
        if values is not None:
            if Fault.REFUSES in self._faults:
                return ExcCodes.DEVICE_FAILURE
            taken = self.write(address, [int(value) for value in values])
            return None if taken else ExcCodes.ILLEGAL_VALUE
        served = self.readable()
        if start_address == READ_FROM:
            registers[: len(served)] = served
        return None

    def device(self, unit_id: int) -> SimDevice:
        """The device for pymodbus' server."""
        blocks = [
            SimData(READ_FROM, count=READ_COUNT, values=0, datatype=DataType.REGISTERS),
            SimData(WRITE_FROM, count=WRITE_COUNT, values=0, datatype=DataType.REGISTERS),
        ]
        return SimDevice(unit_id, simdata=blocks, action=self.answer)


async def _run(known: argparse.Namespace) -> None:
    clock = SystemClock()
    charger = SimulatedCharger(Evse(known.seed, pace=known.speed), clock)
    line = Line(lambda: charger.device(known.unit_id), known.host, known.port, charger.switch)
    orders: Orders = {"plug": charger.plug, "unplug": charger.unplug}
    await line.serve(orders, charger.report, clock, control=known.control)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code: 0 ended on request, 1 the port can't be had."""
    parser = argparse.ArgumentParser(prog="python -m drivers.sim.charger_modbus", description="A simulated charger.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=1502, help="port to listen on (%(default)s)")
    parser.add_argument("--unit-id", type=int, default=1, help="unit address (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another number is another day (%(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="vehicles come and go so many times as fast; 0: none")
    add_control(parser)
    return run("charger", parser.parse_args(arguments), _run)


if __name__ == "__main__":
    sys.exit(main())
