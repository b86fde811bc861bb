"""The thread that reads a bus of python-can: bounded hand-over, one bad packet, many, odd frames."""

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from itertools import chain, repeat

import can
import numpy as np
import pytest

from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import Unavailable, Unsupported
from drivers.can import pycan
from drivers.can.pycan import MAX_ERRORS, PycanSource
from drivers.codec.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG

Step = can.Message | Exception | None


class ScriptedBus(can.BusABC):
    """Receives what it was told to; then waits as a quiet bus does."""

    def __init__(self, steps: Iterator[Step]) -> None:
        super().__init__(channel="scripted")
        self._steps = steps
        self._quiet = threading.Event()
        self.closed = False

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        step = next(self._steps, None)
        if isinstance(step, Exception):
            raise step
        if step is None and timeout:
            self._quiet.wait(min(timeout, 0.005))
        return step, True

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        raise NotImplementedError

    def shutdown(self) -> None:
        super().shutdown()
        self.closed = True


def _source(monkeypatch: pytest.MonkeyPatch, steps: Iterator[Step]) -> tuple[PycanSource, list[ScriptedBus]]:
    made: list[ScriptedBus] = []

    def make(**_: object) -> ScriptedBus:
        made.append(ScriptedBus(steps))
        return made[-1]

    monkeypatch.setattr(can, "Bus", make)
    return PycanSource("virtual", "scripted", FakeClock(), {}), made


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(30_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    pytest.fail("did not come")


def _message(number: int) -> can.Message:
    return can.Message(arbitration_id=number, is_extended_id=False, data=[number])


def test_one_bad_packet_is_counted_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = can.CanOperationError("could not unpack received message")
    source, made = _source(monkeypatch, iter([_message(1), bad, bad, _message(2)]))

    async def check() -> None:
        got: list[int] = []
        await source.open(lambda: None)
        try:

            def two() -> bool:
                got.extend(source.drain().raw[:, 8].tolist())
                return len(got) == 2

            await _until(two)
        finally:
            await source.close()
        assert got == [1, 2]
        assert source.counts == {"bad.receive": 2}

    asyncio.run(check())
    assert made[0].closed


def test_an_adapter_that_only_fails_is_gone_after_what_it_gave_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = repeat(can.CanOperationError("device removed"))
    source, made = _source(monkeypatch, chain([_message(7)], failing))

    async def check() -> None:
        woken = asyncio.Event()
        await source.open(woken.set)
        try:
            got: list[int] = []

            def gone() -> bool:
                try:
                    got.extend(source.drain().raw[:, 8].tolist())
                except Unavailable as error:
                    return "device removed" in str(error)
                return False

            await _until(gone)
            assert got == [7]
            assert source.counts["bad.receive"] == MAX_ERRORS
            await asyncio.wait_for(woken.wait(), 60)
        finally:
            await source.close()
            await source.close()

    asyncio.run(check())
    assert made[0].closed


def test_the_hand_over_is_bounded_and_its_losses_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pycan, "MAX_WAITING", 10)
    source, _ = _source(monkeypatch, iter([_message(number) for number in range(50)]))

    async def check() -> None:
        await source.open(lambda: None)
        try:
            await _until(lambda: source._lost["overflow"] == 40)
            assert source.drain().raw[:, 8].tolist() == list(range(10))
            assert source.counts == {"overflow": 40}
        finally:
            await source.close()

    asyncio.run(check())


def test_every_kind_of_frame_keeps_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [
        can.Message(arbitration_id=0x18FEF1F3, is_extended_id=True, data=b"\x01\x02"),
        can.Message(arbitration_id=0x356, is_extended_id=False, is_remote_frame=True, dlc=8),
        can.Message(is_error_frame=True, arbitration_id=0x356),
        can.Message(arbitration_id=0x200, is_extended_id=False, is_fd=True, data=bytes(range(64))),
    ]
    source, _ = _source(monkeypatch, iter(steps))

    async def check() -> None:
        await source.open(lambda: None)
        try:
            await _until(lambda: len(source._times_us) == 4)
            frames = source.drain()
        finally:
            await source.close()
        ids = np.ascontiguousarray(frames.raw).view(np.uint32)[:, 0].tolist()
        assert ids == [0x18FEF1F3 | EFF_FLAG, 0x356 | RTR_FLAG, ERR_FLAG, 0x200]
        assert frames.raw[:, 4].tolist() == [2, 0, 0, 64]
        assert frames.raw[3, 8:].tolist() == list(range(64))
        assert set(frames.times_us.tolist()) == {FakeClock().now_us()}

    asyncio.run(check())


def test_a_bus_that_cannot_be_opened_is_told_once_by_its_error_and_not_by_python_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = PycanSource("udp_multicast", "10.0.0.1", SystemClock(), {"hop_limit": 0})

    async def check() -> None:
        for _ in range(3):
            with pytest.raises((Unavailable, Unsupported)):
                await source.open(lambda: None)
            await source.close()

    asyncio.run(check())
    gc.collect()
    assert not caplog.records
