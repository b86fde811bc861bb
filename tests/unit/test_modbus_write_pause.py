"""A device that wants time between two writes gets it, whoever writes."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import NoAnswer
from drivers.codec.registers import Register
from drivers.codec.registers_pack import Span
from drivers.modbus.asker import Asker
from drivers.modbus.command import Commander
from drivers.modbus.frames import Reply
from drivers.modbus.model import ModbusPoint, ModbusProfile, ModbusSetting, ModbusWrite
from drivers.modbus.writing import Write
from tests.polled import pass_s, settle
from tests.sinks import RecordingSink

PAUSE_S = 5.0
LIMIT, SWITCH = Register("holding", 4, "uint16"), Register("holding", 14, "uint16")


@dataclass
class Device:
    """Stands for the way to a device, and notes when it is written to. ``mute``: it does not answer."""

    clock: FakeClock
    mute: bool = False
    written: list[tuple[float, int, int]] = field(default_factory=list)  #: second, address, word
    _words: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start_s = self.clock.monotonic_s()

    async def write(self, write: Write) -> Reply:
        self.written.append((self.clock.monotonic_s() - self._start_s, write.address, write.words[0]))
        if self.mute:
            await self.clock.sleep_s(1)
            raise NoAnswer("write", "no answer in time", "")
        self._words[write.address] = write.words[0]
        return Reply()

    async def read(self, span: Span) -> Reply:
        return Reply(self._words[span.address].to_bytes(2, "big"))


def made(pause_s: float, setup: tuple[ModbusWrite, ...] = ()) -> tuple[FakeClock, Device, Commander]:
    clock = FakeClock()
    device = Device(clock)
    settings = (
        ModbusSetting("current_limit_a", LIMIT, 6, 32, refresh_s=20, read_back=ModbusPoint("current_limit_a", LIMIT)),
        ModbusSetting("charging_enabled", SWITCH, 0, 1),
    )
    profile = ModbusProfile("slow", (ModbusPoint("power_w", LIMIT),), settings, setup=setup, write_pause_s=pause_s)
    return clock, device, Commander("cp1", profile, cast("Asker", device), clock)


async def through(clock: FakeClock, *commands: Callable[[], Awaitable[object]]) -> list[object]:
    """Give these commands at once, and let as much time pass as they need."""
    running = [asyncio.ensure_future(one()) for one in commands]
    await pass_s(clock, 60)
    return await asyncio.gather(*running, return_exceptions=True)


def test_two_commands_at_once_are_written_a_pause_apart() -> None:
    async def scenario() -> None:
        clock, device, commander = made(PAUSE_S, (ModbusWrite(Register("holding", 1, "uint16"), 7),))
        results = await through(
            clock, lambda: commander.set("current_limit_a", 16), lambda: commander.set("charging_enabled", 1)
        )
        assert results == [16, 1]
        assert device.written == [(0, 1, 7), (5, 4, 16), (10, 14, 1)]

    asyncio.run(scenario())


def test_without_a_pause_nobody_waits() -> None:
    async def scenario() -> None:
        _, device, commander = made(0)
        assert await commander.set("current_limit_a", 16) == 16
        assert await commander.set("current_limit_a", 17) == 17
        assert device.written == [(0, 4, 16), (0, 4, 17)]

    asyncio.run(scenario())


def test_repeating_and_restoring_keep_the_pause_and_a_write_that_failed_counts() -> None:
    async def scenario() -> None:
        clock, device, commander = made(PAUSE_S)
        await through(clock, lambda: commander.set("current_limit_a", 16))
        device.written.clear()
        (job,) = commander.jobs
        device.mute = True
        await through(clock, lambda: job.run(RecordingSink()))
        device.mute = False
        commander.forget()
        first = device.written[0][0]
        await through(clock, lambda: commander.set("charging_enabled", 1), lambda: commander.restore(RecordingSink()))
        await through(clock, lambda: commander.restore(RecordingSink()), lambda: commander.set("current_limit_a", 9))
        seconds = [second - first for second, _, _ in device.written]
        assert len(seconds) == 5, device.written
        assert all(later - earlier >= PAUSE_S for earlier, later in itertools.pairwise(seconds)), seconds

    asyncio.run(scenario())


def test_a_write_without_an_answer_is_followed_by_a_pause() -> None:
    async def scenario() -> None:
        clock, device, commander = made(PAUSE_S)
        device.mute = True
        asked = asyncio.ensure_future(commander.set("charging_enabled", 1))
        await settle()
        await pass_s(clock, 1)
        with pytest.raises(NoAnswer):
            await asked
        device.mute = False
        assert await through(clock, lambda: commander.set("charging_enabled", 0)) == [0]
        assert [second for second, _, _ in device.written] == [0, 6]

    asyncio.run(scenario())
