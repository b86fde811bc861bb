"""Who shows that it is at work: a task that got stuck is told from devices that are silent."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import Unavailable, Unsupported
from agent.core.model import Batch, Event
from agent.core.ports import Sink
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.pipeline.polling import ASKED_TIMES, PollListener
from agent.pipeline.supervisor import MAX_RETRY_S, STOP_S, Supervisor
from tests.polled import FakePoller, FakeUnit, pass_s, settle


@dataclass
class Rig:
    """A supervisor on a fake clock."""

    clock: FakeClock = field(default_factory=FakeClock)
    stored: list[Batch] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        flow = Flow(self.clock, Gate(), Hub(self.clock), self.stored.append)
        self.supervisor = Supervisor(self.clock, flow, self.events.append, jitter=lambda: 1.0)

    def age(self, name: str) -> float | None:
        return dict(self.supervisor.signs())[name]


@dataclass
class Listening:
    """A listener made of a function, which says when it went round."""

    body: Callable[["Listening", Sink], Awaitable[None]]
    shown_s: float = 0.0
    name: str = "wire"
    devices: tuple[str, ...] = ("battery",)
    max_retry_s: float = MAX_RETRY_S

    async def run(self, sink: Sink) -> None:
        await self.body(self, sink)


def run(test: Callable[[Rig], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        rig = Rig()
        rig.supervisor.start()
        try:
            await test(rig)
        finally:
            stopping = asyncio.create_task(rig.supervisor.stop())
            await settle()
            rig.clock.advance(STOP_S)
            await stopping

    asyncio.run(main())


async def forever(*_: object) -> None:
    await asyncio.get_running_loop().create_future()


def test_the_pipeline_shows_itself_by_its_tick() -> None:
    async def test(rig: Rig) -> None:
        await pass_s(rig.clock, 100.5)
        age_s = rig.age("pipeline")
        assert age_s is not None
        assert age_s < 2

    run(test)


def test_a_loop_that_goes_round_lives_and_one_that_waits_for_ever_does_not() -> None:
    async def round_for_a_minute(wire: Listening, _: Sink) -> None:
        for _second in range(60):
            await rig_clock[0].sleep_s(1)
            wire.shown_s = rig_clock[0].monotonic_s()
        await forever()

    rig_clock: list[FakeClock] = []

    async def test(rig: Rig) -> None:
        rig_clock.append(rig.clock)
        rig.supervisor.add(Listening(round_for_a_minute))
        await pass_s(rig.clock, 60)
        assert rig.age("wire") == pytest.approx(0, abs=1)
        await pass_s(rig.clock, 50)
        assert rig.age("wire") == pytest.approx(50, abs=1)

    run(test)


@pytest.mark.announced_warnings
def test_a_wire_that_waits_for_its_next_try_lives() -> None:
    async def gone(_: Listening, __: Sink) -> None:
        raise Unavailable("open wire", "no such device")

    async def test(rig: Rig) -> None:
        rig.supervisor.add(Listening(gone))
        for _ in range(300):
            await pass_s(rig.clock, 1)
            assert (rig.age("wire") or 0) < 2

    run(test)


@pytest.mark.announced_warnings
def test_nothing_is_expected_of_a_wire_that_was_given_up() -> None:
    async def never(_: Listening, __: Sink) -> None:
        raise Unsupported("open wire", "no such interface")

    async def test(rig: Rig) -> None:
        rig.supervisor.add(Listening(never))
        await pass_s(rig.clock, 100)
        assert rig.age("wire") is None

    run(test)


def test_a_task_that_ended_though_nobody_ended_it_is_dead() -> None:
    async def test(rig: Rig) -> None:
        rig.supervisor.add_part("part", forever)
        await settle()
        assert rig.age("part") is None
        (task,) = (task for task, part in rig.supervisor._tasks.items() if part.name == "part")
        task.cancel()
        await settle()
        assert math.inf in [age for name, age in rig.supervisor.signs() if name == "part"]

    run(test)


@pytest.mark.announced_warnings
def test_silent_devices_are_no_dead_task() -> None:
    async def test(rig: Rig) -> None:
        units = [FakeUnit(rig.clock, f"m{index}", index + 1, dead=True, timeout_s=8.0) for index in range(3)]
        rig.supervisor.add(PollListener(FakePoller(rig.clock, units), rig.clock))
        name = rig.supervisor.states()[0].name
        worst_s = 0.0
        for _ in range(600):
            await pass_s(rig.clock, 1)
            worst_s = max(worst_s, rig.age(name) or 0)
        assert worst_s < 2

    run(test)


def test_a_question_that_never_ends_is_a_dead_task() -> None:
    async def test(rig: Rig) -> None:
        unit = FakeUnit(rig.clock, "m", timeout_s=2.0)
        rig.supervisor.add(PollListener(FakePoller(rig.clock, [unit]), rig.clock))
        name = rig.supervisor.states()[0].name
        await pass_s(rig.clock, 10)
        unit.answer_s = math.inf
        await pass_s(rig.clock, 2)
        await pass_s(rig.clock, 100)
        age_s = rig.age(name)
        assert age_s is not None
        assert age_s >= 100 - ASKED_TIMES * unit.timeout_s

    run(test)
