"""A polled wire made of plain objects, on a fake clock that runs as fast as the machine."""

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent.core.clock import FakeClock
from agent.core.errors import NoAnswer
from agent.core.model import Batch
from agent.core.ports import PolledUnit, PollJob, Sink


async def settle() -> None:
    """Until nobody has anything to do but to wait."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for _ in range(1000):
        await asyncio.sleep(0)
        if not ready:
            return
    raise AssertionError("somebody never waits")


async def pass_s(clock: FakeClock, seconds: float) -> None:
    """Let time pass, from one sleeper's end to the next one's."""
    end_s = clock.monotonic_s() + seconds
    await settle()
    while True:
        next_s = min((at_s for at_s, _, future in clock._sleepers if not future.done()), default=end_s)
        if next_s >= end_s:
            break
        clock.advance(max(0.0, next_s - clock.monotonic_s()))
        await settle()
    clock.advance(end_s - clock.monotonic_s())
    await settle()


@dataclass
class FakeUnit:
    """A unit that answers after ``answer_s`` with one row of its signal, or fails as ``fault`` says."""

    clock: FakeClock
    device: str
    number: int = 1
    every_s: Sequence[float] = (1.0,)
    answer_s: float = 0.0
    timeout_s: float = 1.0
    fault: Exception | Callable[[int], Exception | None] | None = None
    dead: bool = False
    #: (second since the start, job) of each question
    asked: list[tuple[float, int]] = field(default_factory=list)
    forgotten: int = 0
    busy_s: float = 0.0

    def __post_init__(self) -> None:
        self.start_s = self.clock.monotonic_s()
        self.jobs: Sequence[PollJob] = [PollJob(every, self._job(index)) for index, every in enumerate(self.every_s)]
        self.signals: Sequence[int] = [self.number]
        self.wire: FakePoller | None = None

    def forget(self) -> None:
        self.forgotten += 1

    def times(self, job: int | None = None) -> list[float]:
        return [round(t_s, 6) for t_s, one in self.asked if job is None or one == job]

    def _job(self, index: int) -> Callable[[Sink], Awaitable[None]]:
        async def run(sink: Sink) -> None:
            await self.ask(index, sink)

        return run

    async def ask(self, index: int, sink: Sink) -> None:
        assert self.wire is not None
        assert not self.wire.busy, "two questions at a time"
        assert self.wire.opened, "asked on a closed wire"
        begin_s = self.clock.monotonic_s()
        self.asked.append((begin_s - self.start_s, index))
        self.wire.busy = True
        try:
            await self._answer(index, sink)
        finally:
            self.wire.busy = False
            self.busy_s += self.clock.monotonic_s() - begin_s

    async def _answer(self, index: int, sink: Sink) -> None:
        fault = self.fault(len(self.asked)) if callable(self.fault) else self.fault
        if self.dead:
            fault = NoAnswer(f"read {self.device}", f"no answer within {self.timeout_s} s", "check its address")
        if isinstance(fault, NoAnswer):
            await self.clock.sleep_s(self.timeout_s)
        elif self.answer_s:
            await self.clock.sleep_s(self.answer_s)
        if fault is not None:
            raise fault
        now_us = self.clock.now_us()
        sink.put(Batch(array("i", [self.number]), array("q", [now_us]), array("q", [len(self.asked)])))


@dataclass
class FakePoller:
    """A wire with such units. ``open_fault`` and ``close_s`` make its ends go wrong."""

    clock: FakeClock
    fakes: Sequence[FakeUnit]
    name: str = "/dev/ttyUSB1"
    max_retry_s: float = 10.0
    open_fault: Exception | None = None
    close_s: float = 0.0
    busy: bool = False
    opened: bool = False
    opens: list[float] = field(default_factory=list)
    closes: int = 0

    def __post_init__(self) -> None:
        self.start_s = self.clock.monotonic_s()
        for unit in self.fakes:
            unit.wire = self

    @property
    def units(self) -> Sequence[PolledUnit]:
        return self.fakes

    async def open(self) -> None:
        self.opens.append(round(self.clock.monotonic_s() - self.start_s, 6))
        if self.open_fault is not None:
            raise self.open_fault
        self.opened = True

    async def close(self) -> None:
        if self.close_s:
            await self.clock.sleep_s(self.close_s)
        self.opened = False
        self.busy = False
        self.closes += 1
