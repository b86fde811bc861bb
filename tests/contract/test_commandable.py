"""The contract of ``Commandable``, over each way to set something. To add one: an ``Outlet``, named in ``OUTLETS``."""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from agent.core.errors import CommandRejected, NoAnswer, Refusal, Unavailable
from agent.core.points import POINTS
from agent.core.ports import Commandable
from drivers.codec.registers import Register
from drivers.modbus.model import ModbusPoint, ModbusProfile, ModbusSetting
from drivers.modbus.plan import ModbusPoller
from tests.modbus_frames import Registers
from tests.modbus_peer import Asked, Peer, Said, Scheme, device_of, opened, poll, poller_of
from tests.sinks import RecordingSink

LIMIT, ENABLED = "current_limit_a", "charging_enabled"


class Outlet(ABC):
    """A device with a current limit of 6 to 32 A in steps of 1 A, or 0, and a switch; it forgets its limit."""

    refuses = False  #: it does not accept what is set
    ignores = False  #: it accepts, and does nothing
    mute = False  #: it does not answer

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Commandable]:
        """The way to it, open."""

    @abstractmethod
    def now(self, point: str) -> float:
        """What the device has."""

    @abstractmethod
    def written(self) -> int:
        """How often anything was set."""

    @abstractmethod
    async def repeat(self) -> None:
        """Let those who repeat do so once; nothing where nobody does."""

    @abstractmethod
    def vanish(self) -> None:
        """The way to it is gone."""


class ModbusOutlet(Outlet):
    """A charger on Modbus."""

    def __init__(self, scheme: Scheme = "tcp") -> None:
        self._memory = Registers(holding={5: 0, 10: 1}, coil={7: 0})
        self._peer = Peer({1: self._memory}, scheme, hook=self._hook)
        self._poller: ModbusPoller | None = None

    def _hook(self, asked: Asked, pdu: bytes) -> Said:
        return [] if self.mute else [(0, asked.frame(pdu))]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Commandable]:
        limit = Register("holding", 5, "uint16")
        switch = Register("coil", 7, "bit")
        settings = (
            ModbusSetting(
                LIMIT, limit, 6, 32, 1, True, 0.1, safe=6, refresh_s=10, read_back=ModbusPoint(LIMIT, limit, 0.1)
            ),
            ModbusSetting(ENABLED, switch, 0, 1, read_back=ModbusPoint(ENABLED, switch), function="single"),
        )
        profile = ModbusProfile("outlet", (ModbusPoint("power_w", Register("holding", 10, "uint16")),), settings)
        self._memory.answer = self._answer  # type: ignore[method-assign]
        async with self._peer.serve():
            self._poller = poller_of(self._peer.url, device_of(profile))
            async with opened(self._poller):
                yield self._poller.commandables["d1"]

    def _answer(self, pdu: bytes) -> bytes:
        if pdu[0] > 4 and self.refuses:
            return bytes((pdu[0] | 0x80, 3))
        if pdu[0] > 4 and self.ignores:
            return pdu[:5]
        return Registers.answer(self._memory, pdu)

    def now(self, point: str) -> float:
        return self._memory.holding[5] / 10 if point == LIMIT else self._memory.coil[7]

    def written(self) -> int:
        return sum(asked.pdu[0] > 4 for asked in self._peer.asked)

    async def repeat(self) -> None:
        assert self._poller is not None
        for index in range(1, len(self._poller.units[0].jobs)):
            error = await poll(self._poller, RecordingSink(), job=index)
            assert error is None

    def vanish(self) -> None:
        self._peer.vanish()


OUTLETS: dict[str, Callable[[], Outlet]] = {
    "modbus tcp": ModbusOutlet,
    "modbus rtu over tcp": lambda: ModbusOutlet("rtu+tcp"),
}
Check = Callable[[Outlet, Commandable], Awaitable[None]]


def contract(test: Check) -> Callable[[Callable[[], Outlet]], None]:
    """Run an async check over each outlet."""

    @pytest.mark.parametrize("make", OUTLETS.values(), ids=OUTLETS)
    def wrapped(make: Callable[[], Outlet]) -> None:
        async def main() -> None:
            outlet = make()
            async with outlet.open() as commandable:
                await asyncio.wait_for(test(outlet, commandable), 60)

        asyncio.run(main())

    wrapped.__name__ = test.__name__
    return wrapped


async def refused(commandable: Commandable, point: str, value: float) -> CommandRejected:
    with pytest.raises(CommandRejected) as caught:
        await commandable.set(point, value)
    assert point in caught.value.op
    assert caught.value.reason
    return caught.value


@contract
async def test_says_what_can_be_set(outlet: Outlet, commandable: Commandable) -> None:
    assert set(commandable.settings) == {LIMIT, ENABLED}
    for point, setting in commandable.settings.items():
        assert (setting.point, setting.unit) == (point, POINTS[point].unit)
        assert setting.min <= setting.max
    limit = commandable.settings[LIMIT]
    assert (limit.min, limit.max, limit.step, limit.zero, limit.safe) == (6, 32, 1, True, 6)
    assert outlet.written() == 0


@contract
async def test_sets_and_says_what_the_device_has(outlet: Outlet, commandable: Commandable) -> None:
    assert await commandable.set(LIMIT, 16) == 16
    assert outlet.now(LIMIT) == 16
    assert await commandable.set(LIMIT, 10.9) == 10, "rounded down to the step"
    assert await commandable.set(LIMIT, 0) == 0
    assert outlet.now(LIMIT) == 0
    assert await commandable.set(ENABLED, 1) == 1
    assert outlet.now(ENABLED) == 1


@contract
async def test_what_can_not_be_set_never_reaches_the_device(outlet: Outlet, commandable: Commandable) -> None:
    assert (await refused(commandable, "power_limit_w", 10)).refusal is Refusal.NOT_CAPABLE
    for value in (5.9, -1, 32.5, 1e9, math.nan, math.inf, -math.inf):
        assert (await refused(commandable, LIMIT, value)).refusal is Refusal.OUT_OF_RANGE
    assert (await refused(commandable, ENABLED, 2)).refusal is Refusal.OUT_OF_RANGE
    assert outlet.written() == 0


@contract
async def test_a_device_that_refuses_is_said_to(outlet: Outlet, commandable: Commandable) -> None:
    await commandable.set(LIMIT, 16)
    outlet.refuses = True
    assert (await refused(commandable, LIMIT, 20)).refusal is Refusal.DEVICE_REFUSED
    outlet.refuses = False
    assert outlet.now(LIMIT) == 16
    assert await commandable.set(LIMIT, 20) == 20


@contract
async def test_a_device_that_accepts_and_does_nothing_is_found_out(outlet: Outlet, commandable: Commandable) -> None:
    await commandable.set(LIMIT, 16)
    outlet.ignores = True
    error = await refused(commandable, LIMIT, 20)
    assert error.refusal is Refusal.DEVICE_REFUSED
    assert "16" in error.reason


@contract
async def test_a_device_that_is_silent(outlet: Outlet, commandable: Commandable) -> None:
    outlet.mute = True
    with pytest.raises(NoAnswer):
        await commandable.set(LIMIT, 16)
    outlet.mute = False
    assert await commandable.set(LIMIT, 16) == 16


@contract
async def test_a_way_that_is_gone(outlet: Outlet, commandable: Commandable) -> None:
    await commandable.set(LIMIT, 16)
    outlet.vanish()
    with pytest.raises(Unavailable):  # closed over a question, that one may have no answer
        await commandable.set(LIMIT, 10)
    with pytest.raises(Unavailable) as caught:  # but the way can't be opened again
        await commandable.set(LIMIT, 10)
    assert not isinstance(caught.value, NoAnswer)


@contract
async def test_what_was_set_is_repeated_until_it_is_released(outlet: Outlet, commandable: Commandable) -> None:
    await outlet.repeat()
    assert outlet.written() == 0, "who was never commanded is never written to"
    await commandable.set(LIMIT, 16)
    before = outlet.written()
    await outlet.repeat()
    assert outlet.written() == before + 1
    assert outlet.now(LIMIT) == 16
    commandable.release()
    await outlet.repeat()
    assert outlet.written() == before + 1
    commandable.release()
    assert await commandable.set(LIMIT, 10) == 10


@contract
async def test_what_failed_is_not_repeated(outlet: Outlet, commandable: Commandable) -> None:
    await commandable.set(LIMIT, 32)
    outlet.mute = True
    with pytest.raises(NoAnswer):
        await commandable.set(LIMIT, 6)
    outlet.mute = False
    before = outlet.written()
    await outlet.repeat()
    assert outlet.written() == before, "nobody knows what the device has: its own watchdog decides"


@contract
async def test_commands_at_once_come_one_after_the_other(outlet: Outlet, commandable: Commandable) -> None:
    values = [float(value) for value in range(6, 26)]
    assert await asyncio.gather(*(commandable.set(LIMIT, value) for value in values)) == values
    assert outlet.now(LIMIT) == values[-1]


@contract
async def test_ends_at_once_when_it_is_cancelled(outlet: Outlet, commandable: Commandable) -> None:
    outlet.mute = True
    task = asyncio.ensure_future(commandable.set(LIMIT, 16))
    await asyncio.sleep(0.02)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=10.0)  # a busy machine may be away for seconds
    assert done
    assert task.cancelled()
    outlet.mute = False
    assert await commandable.set(LIMIT, 8) == 8
