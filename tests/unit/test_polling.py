"""The schedule, misses, probes and edges of polled wires, on a fake clock."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import pairwise

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import BadData, NoAnswer, StoreError, Unavailable, Unsupported
from agent.core.ports import Listener, Poller, PollJob, Sink
from agent.pipeline.health import Health
from agent.pipeline.polling import CLOSE_S, PollListener
from agent.pipeline.units import FIRST_PROBE_S, MISSES, RETRY_S
from tests.polled import FakePoller, FakeUnit, pass_s, settle
from tests.sinks import RecordingSink

NO_ANSWER = NoAnswer("read meter", "no answer within 1.0 s", "check its address")
GARBLED = BadData("read meter", "the checksum is wrong")


class Rig:
    """One wire; its listener runs as a task."""

    def __init__(self, *units: FakeUnit, clock: FakeClock | None = None) -> None:
        self.clock = clock or units[0].clock
        self.wire = FakePoller(self.clock, units)
        poller: Poller = self.wire
        self.polling = PollListener(poller, self.clock)
        self.listener: Listener = self.polling
        self.sink = RecordingSink()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.listener.run(self.sink))

    async def pass_s(self, seconds: float) -> None:
        await pass_s(self.clock, seconds)

    def fault(self) -> BaseException | None:
        assert self.task is not None
        return self.task.exception() if self.task.done() else None

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await settle()
        self.clock.advance(CLOSE_S)
        with suppress(asyncio.CancelledError, Unavailable, Unsupported):
            await self.task

    def told(self) -> list[str]:
        return [f"{event.kind} {event.subject}" for event in self.sink.events]


def run(rig: Rig, test: Callable[[], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        rig.start()
        try:
            await test()
        finally:
            await rig.stop()

    asyncio.run(main())


def gaps(times: Sequence[float]) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


# The schedule


def test_each_job_keeps_its_own_grid(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter", every_s=(0.1, 0.25), answer_s=0.01)
    rig = Rig(unit)

    async def test() -> None:
        await rig.pass_s(99.95)
        assert len(unit.times(0)) == 1000
        assert len(unit.times(1)) == 400
        assert all(0 <= round(t_s - n * 0.1, 6) <= 0.01 for n, t_s in enumerate(unit.times(0)))
        assert all(0 <= round(t_s - n * 0.25, 6) <= 0.01 for n, t_s in enumerate(unit.times(1)))
        assert "overrun" not in rig.sink.counts
        assert rig.sink.counts["polls"] == 1400

    run(rig, test)


def test_a_late_job_runs_once_and_the_slots_that_went_by_are_counted(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter", answer_s=0.2)
    rig = Rig(unit)

    async def test() -> None:
        await rig.pass_s(2.5)
        unit.answer_s = 3.7
        await rig.pass_s(1)
        unit.answer_s = 0.2
        await rig.pass_s(6)
        # The question of second 3 ended at 6.7: the slot of 4 runs late, those of 5 and 6 are gone, 7 is in time.
        assert unit.times() == [0, 1, 2, 3, 6.7, 7, 8, 9]
        assert rig.sink.counts["overrun"] == 2

    run(rig, test)


def test_first_rounds_are_spread_out(clock: FakeClock) -> None:
    units = [FakeUnit(clock, f"meter{n}", every_s=(2.0, 60.0)) for n in range(4)]
    rig = Rig(*units)

    async def test() -> None:
        await rig.pass_s(10)
        assert [unit.times(0)[:2] for unit in units] == [[0, 2], [0.25, 2.25], [0.5, 2.5], [0.75, 2.75]]
        assert [unit.times(1) for unit in units] == [[0], [0.25], [0.5], [0.75]]

    run(rig, test)


def test_who_is_asked_too_often_gets_an_equal_share(clock: FakeClock) -> None:
    units = [FakeUnit(clock, f"meter{n}", every_s=(0.1,) * (n + 1), answer_s=0.07) for n in range(2)]
    units += [FakeUnit(clock, "slow", every_s=(30.0,), answer_s=0.07)]
    rig = Rig(*units)

    async def test() -> None:
        await rig.pass_s(600)
        shares = [len(units[0].times(0)), len(units[1].times(0)), len(units[1].times(1))]
        assert max(shares) - min(shares) <= 0.02 * max(shares)
        assert sum(shares) >= 0.98 * 600 / 0.07
        assert len(units[2].times()) == 20
        late = [t_s - 30 * n - 2 / 3 for n, t_s in enumerate(units[2].times())]
        assert max(late) <= 4 * 0.07

    run(rig, test)


def test_a_poll_that_takes_no_time_does_not_take_the_loop(clock: FakeClock) -> None:
    units = [FakeUnit(clock, f"meter{n}", every_s=(1e-3,)) for n in range(5)]
    rig = Rig(*units)

    async def test() -> None:
        await rig.pass_s(0.1)
        assert all(95 <= len(unit.times()) <= 101 for unit in units)

    run(rig, test)


def test_a_wire_with_nothing_to_ask_stays_open(clock: FakeClock) -> None:
    rig = Rig(FakeUnit(clock, "relay", every_s=()))

    async def test() -> None:
        await rig.pass_s(1000)
        assert rig.wire.opened
        assert not rig.sink.counts

    run(rig, test)


def test_jobs_that_a_unit_learns_of_are_asked_too(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "inverter", every_s=(5.0, 7.0, 11.0))
    found = unit.jobs
    rig = Rig(unit)

    async def test() -> None:
        await rig.pass_s(4.5)
        unit.jobs = found
        await rig.pass_s(30)
        assert unit.times(0) == [0, 5, 10, 15, 20, 25, 30]
        assert unit.times(1) == [5, 12, 19, 26, 33]
        assert unit.times(2) == [5, 16, 27]
        unit.jobs = found[2:]
        await rig.pass_s(30)
        assert unit.times(0) == [0, 5, 10, 15, 20, 25, 30]
        assert unit.times(2)[-1] == 60

    unit.jobs = found[:1]
    run(rig, test)


def test_a_job_that_comes_between_two_rounds_is_run_soon(clock: FakeClock) -> None:
    """A charger was commanded: what was set must be repeated long before it is read again."""
    unit = FakeUnit(clock, "charger", every_s=(60.0, 5.0))
    found = unit.jobs
    unit.jobs = found[:1]
    rig = Rig(unit, FakeUnit(clock, "meter", 2, every_s=(0.01,)))

    async def test() -> None:
        await rig.pass_s(9.7)
        unit.jobs = found
        await rig.pass_s(20)
        assert unit.times(0) == [0]
        assert unit.times(1) == [10, 15, 20, 25]

    run(rig, test)


# Misses and silence


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


@pytest.mark.announced_warnings
def test_a_unit_falls_silent_is_probed_and_comes_back(clock: FakeClock, log: Callable[[], list[str]]) -> None:
    dead = FakeUnit(clock, "dead", 1, every_s=(1.0, 300.0))
    other = FakeUnit(clock, "other", 2, answer_s=0.01)
    rig = Rig(dead, other)

    async def test() -> None:
        await rig.pass_s(10.4)
        assert rig.told() == ["device.online dead", "device.online other"]
        forgotten = dead.forgotten
        dead.dead = True
        dead.asked.clear()
        await rig.pass_s(250)
        # Each miss is followed by as much time for the others; then 5 s, 10 s, 20 s ... after the end of each try.
        assert dead.times() == [11, 13, 15, 21, 32, 53, 94, 155, 216]
        assert rig.told()[2:] == ["device.silent dead"]
        (event,) = rig.sink.events[2:]
        assert event.data == {
            "wire": "/dev/ttyUSB1",
            "error": "read dead: no answer within 1.0 s",
            "hint": "check its address",
            "silent_s": 6.0,
        }
        assert rig.sink.unknown() == [1]
        assert dead.forgotten == forgotten + 1
        assert rig.sink.counts["misses"] == 9
        (state, _) = rig.polling.unit_states()
        assert (state.device, state.wire, state.state) == ("dead", "/dev/ttyUSB1", Health.OFFLINE)
        assert (state.last_error, state.hint) == ("read dead: no answer within 1.0 s", "check its address")
        assert state.misses == 9
        assert state.next_try_s == pytest.approx(277 - 260.4)
        assert state.last_answer_age_s == pytest.approx(250.4)

        dead.dead = False
        dead.asked.clear()
        await rig.pass_s(20)
        # The probe answers at 277; the slow job, whose slot is far away, is asked at once too.
        assert dead.times(0)[:3] == [277, 278, 279]
        assert dead.times(1) == [277]
        assert rig.told()[3:] == ["device.heard dead"]
        (state, _) = rig.polling.unit_states()
        assert (state.state, state.next_try_s, state.misses) == (Health.ONLINE, None, 0)
        assert state.since_us == clock.now_us() - 3_400_000

    run(rig, test)
    assert log() == [
        "WARNING /dev/ttyUSB1: dead is silent: read dead: no answer within 1.0 s (check its address)",
        "INFO /dev/ttyUSB1: dead answers again",
    ]


@pytest.mark.announced_warnings
def test_a_unit_is_asked_now_when_somebody_wants_to_know(clock: FakeClock) -> None:
    slow, dead = FakeUnit(clock, "slow", 1, every_s=(60.0, 300.0)), FakeUnit(clock, "dead", 2, dead=True)
    rig = Rig(slow, dead)

    async def test() -> None:
        await rig.pass_s(30)
        slow.asked.clear()
        dead.asked.clear()
        rig.polling.ask_now("slow")
        await rig.pass_s(1.5)
        assert [job for _, job in slow.asked] == [0, 1], "all that it has, once"
        await rig.pass_s(3)
        rig.polling.ask_now("dead")
        rig.polling.ask_now("nobody")
        asked = len(dead.asked)
        await rig.pass_s(1.5)
        assert len(dead.asked) == asked + 1, "a silent one is probed"
        slow.asked.clear()
        await rig.pass_s(40)
        assert slow.times(0) == [60], "its grid is where it was"

    run(rig, test)


def test_misses_that_are_not_in_a_row_are_no_silence(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter", fault=lambda n: GARBLED if n % MISSES else None)
    rig = Rig(unit)

    async def test() -> None:
        await rig.pass_s(600)
        assert rig.told() == ["device.online meter"]
        assert (
            rig.sink.counts["bad"] == rig.sink.counts["misses"] == sum(n % 3 > 0 for n in range(1, 1 + len(unit.asked)))
        )
        assert rig.sink.unknown() == []

    run(rig, test)


def test_a_bad_answer_is_asked_again_soon_but_not_within_the_same_burst_of_noise(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter", every_s=(60.0,), fault=lambda n: GARBLED if n in {2, 3} else None)
    rig = Rig(unit)

    async def test() -> None:
        await rig.pass_s(130)
        assert unit.times() == [0, 60, 60 + RETRY_S, 60 + 2 * RETRY_S, 120]
        assert "overrun" not in rig.sink.counts

    run(rig, test)


@pytest.mark.announced_warnings
def test_what_fell_due_while_a_unit_was_held_is_no_overrun(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter", 1, every_s=(0.1, 0.1), fault=lambda n: NO_ANSWER if 20 <= n < 24 else None)
    rig = Rig(unit, FakeUnit(clock, "other", 2, every_s=(10.0,)))

    async def test() -> None:
        await rig.pass_s(30)
        assert rig.told()[2:] == ["device.silent meter", "device.heard meter"]
        # Its own time-outs cost the slots of the one job that did not miss, ten each but for the one it was asked in.
        assert rig.sink.counts["overrun"] <= 10

    run(rig, test)


def ten_units(clock: FakeClock, every_s: float, answer_s: float, timeout_s: float = 1.0) -> list[FakeUnit]:
    return [
        FakeUnit(clock, f"meter{n}", n, every_s=(every_s,), answer_s=answer_s, timeout_s=timeout_s) for n in range(10)
    ]


@pytest.mark.announced_warnings
@pytest.mark.parametrize(
    ("dead", "timeout_s", "every_s", "answer_s"),
    [
        (1, 1.0, 1.0, 0.1),  # the wire is full
        (3, 1.0, 1.0, 0.1),
        (9, 1.0, 1.0, 0.1),
        (1, 1.0, 5.0, 0.05),  # it has time
        (3, 1.0, 5.0, 0.05),
        (1, 1.0, 1.0, 0.3),  # it is asked too much of
        (3, 1.0, 1.0, 0.3),
        (9, 1.0, 1.0, 0.3),
        (1, 3.0, 1.0, 0.1),
        (3, 3.0, 1.0, 0.1),
        (3, 0.2, 1.0, 0.1),
    ],
)
def test_dead_units_add_no_more_than_a_tenth_to_the_cycle_of_the_others(
    clock: FakeClock, dead: int, timeout_s: float, every_s: float, answer_s: float
) -> None:
    """Fault F7: ten units."""
    units = ten_units(clock, every_s, answer_s, timeout_s)
    rig = Rig(*units)
    others, gone = units[dead:], units[:dead]

    async def test() -> None:
        await rig.pass_s(100)
        before_s = 100 / len(others[-1].times())
        for unit in gone:
            unit.dead = True
        await rig.pass_s(150 * max(1.0, timeout_s))  # until it is tried as seldom as can be
        assert [told.partition(" ")[0] for told in rig.told()].count("device.silent") == dead
        for unit in units:
            unit.asked.clear()
            unit.busy_s = 0.0
        length_s = 600
        await rig.pass_s(length_s)
        for unit in others:
            assert length_s / len(unit.times()) <= 1.1 * before_s
            # No two probes follow each other: one of them, and what waits behind it, is the longest gap there is.
            assert max(gaps(unit.times())) <= timeout_s + 2 * before_s
        for unit in gone:
            assert unit.busy_s <= 0.02 * (length_s + 60), "a fiftieth, and the probe that may fall in at the end"
        assert sum(unit.busy_s for unit in gone) <= length_s / 10

    run(rig, test)


@pytest.mark.announced_warnings
def test_while_a_unit_misses_the_others_have_half_the_wire(clock: FakeClock) -> None:
    units = ten_units(clock, 0.1, 0.01)
    rig = Rig(*units)

    async def test() -> None:
        await rig.pass_s(10)
        units[0].dead = True
        for unit in units:
            unit.asked.clear()
        await rig.pass_s(5)
        assert len(units[0].asked) == MISSES
        for unit in units[1:]:
            assert len(unit.asked) >= 18
            assert max(gaps(unit.times())) <= 1.2

    run(rig, test)


# The whole wire


@pytest.mark.announced_warnings
def test_when_all_are_silent_the_wire_ends_and_is_probed_anew(clock: FakeClock) -> None:
    units = [FakeUnit(clock, f"meter{n}", n, every_s=(1.0, 60.0)) for n in range(3)]
    rig = Rig(*units)

    async def test() -> None:
        await rig.pass_s(10)
        for unit in units:
            unit.dead = True
        await rig.pass_s(20)
        assert isinstance(rig.fault(), Unavailable)
        assert not isinstance(rig.fault(), NoAnswer)
        text = "poll /dev/ttyUSB1: none of its units answers; meter0: read meter0: no answer within 1.0 s"
        assert str(rig.fault()) == f"{text} (check its address)"
        assert rig.told()[3:] == ["device.silent meter0", "device.silent meter1", "device.silent meter2"]
        assert rig.sink.unknown() == [0, 1, 2]
        assert rig.wire.closes == 1
        events = len(rig.sink.events)
        for tries in range(3):
            for unit in units:
                unit.asked.clear()
            rig.start()
            await rig.pass_s(4)
            assert isinstance(rig.fault(), Unavailable)
            assert [len(unit.asked) for unit in units] == [1, 1, 1]
            assert rig.wire.closes == 2 + tries
        assert len(rig.sink.events) == events, "nothing is told twice"
        assert {state.state for state in rig.polling.unit_states()} == {Health.OFFLINE}

        units[1].dead = False
        for unit in units:
            unit.asked.clear()
        rig.start()
        await rig.pass_s(3)
        assert rig.fault() is None
        assert rig.told()[events:] == ["device.heard meter1"]
        assert [len(unit.asked) for unit in units[::2]] == [1, 1], "the others were probed, and wait for their next"
        assert len(units[1].times(1)) == 1

    run(rig, test)


def test_nobody_answers_after_as_many_misses_as_there_are_units(clock: FakeClock) -> None:
    """Fault F8: a connection that only seems to stand is noticed before each unit has missed three times."""
    units = ten_units(clock, 1.0, 0.01)
    rig = Rig(*units)

    async def test() -> None:
        await rig.pass_s(60)
        for unit in units:
            unit.dead = True
        begin_s = clock.monotonic_s()
        while rig.fault() is None:
            await rig.pass_s(0.5)
        assert clock.monotonic_s() - begin_s <= 11
        assert len(rig.told()) == 20
        assert sum(told.startswith("device.silent") for told in rig.told()) == 10

    run(rig, test)


@pytest.mark.announced_warnings
def test_one_miss_of_the_last_one_alive_is_not_the_end(clock: FakeClock) -> None:
    dead = FakeUnit(clock, "dead", 1, dead=True)
    other = FakeUnit(clock, "other", 2, every_s=(10.0,), fault=lambda n: NO_ANSWER if n == 4 else None)
    rig = Rig(dead, other)

    async def test() -> None:
        await rig.pass_s(60)
        assert rig.told() == ["device.online other", "device.silent dead"]

    run(rig, test)


@pytest.mark.announced_warnings
def test_a_silent_unit_keeps_its_time_when_the_wire_is_opened_for_others(clock: FakeClock) -> None:
    dead = FakeUnit(clock, "dead", 1, dead=True)
    other = FakeUnit(clock, "other", 2)
    rig = Rig(dead, other)

    async def test() -> None:
        await rig.pass_s(50)
        other.fault = Unavailable("read /dev/ttyUSB1", "unplugged")
        await rig.pass_s(1)
        assert isinstance(rig.fault(), Unavailable)
        other.fault = None
        before = len(dead.asked)
        rig.start()
        await rig.pass_s(20)
        assert len(dead.asked) == before
        await rig.pass_s(60)
        assert len(dead.asked) > before
        assert rig.told() == ["device.online other", "device.silent dead", "device.online other"]

    run(rig, test)


def test_the_wire_is_closed_and_units_forget_whatever_happens(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter")
    rig = Rig(unit)

    async def test() -> None:
        await rig.pass_s(2.5)
        gone = unit.fault = Unavailable("read tcp://10.0.0.9:502", "connection reset")
        await rig.pass_s(1)
        assert rig.fault() is gone
        assert (rig.wire.closes, unit.forgotten) == (1, 1)
        rig.wire.open_fault = Unavailable("open tcp://10.0.0.9:502", "connection refused")
        rig.start()
        await rig.pass_s(1)
        assert rig.fault() is rig.wire.open_fault
        assert (rig.wire.closes, unit.forgotten) == (2, 2)
        rig.wire.open_fault = unit.fault = None
        rig.start()
        await rig.pass_s(1)
        assert rig.fault() is None
        assert rig.told() == ["device.online meter", "device.online meter"]

    run(rig, test)


def test_closing_outlives_a_second_cancellation(clock: FakeClock) -> None:
    rig = Rig(FakeUnit(clock, "meter"))
    rig.wire.close_s = 0.5

    async def test() -> None:
        await rig.pass_s(2)
        assert rig.task is not None
        for _ in range(3):
            rig.task.cancel()
            await settle()
        assert not rig.task.done()
        await rig.pass_s(0.5)
        assert rig.task.cancelled()
        assert rig.wire.closes == 1

    run(rig, test)


@pytest.mark.announced_warnings
def test_closing_is_bounded(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    unit = FakeUnit(clock, "meter")
    rig = Rig(unit)
    rig.wire.close_s = 1e9

    async def test() -> None:
        await rig.pass_s(2)
        assert rig.task is not None
        rig.task.cancel()
        await rig.pass_s(CLOSE_S)
        assert rig.task.cancelled()
        assert unit.forgotten == 1

    run(rig, test)
    assert [record.getMessage() for record in caplog.records] == ["/dev/ttyUSB1: did not close within 1 s"]


def test_a_bug_in_closing_is_not_lost(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter")
    rig = Rig(unit)

    async def broken() -> None:
        raise RuntimeError("no attribute 'transport'")

    async def test() -> None:
        await rig.pass_s(2)
        unit.fault = Unavailable("read", "gone")
        rig.wire.close = broken  # type: ignore[method-assign]
        await rig.pass_s(1)
        assert isinstance(rig.fault(), RuntimeError)
        assert unit.forgotten == 1
        rig.wire.close = FakePoller.close.__get__(rig.wire)  # type: ignore[method-assign]
        rig.start()

    run(rig, test)


# Units that never will answer, bugs, the store


@pytest.mark.announced_warnings
def test_unsupported_stops_its_unit_and_the_last_one_the_wire(clock: FakeClock, log: Callable[[], list[str]]) -> None:
    first = FakeUnit(clock, "first", 1)
    second = FakeUnit(clock, "second", 2)
    rig = Rig(first, second)

    async def test() -> None:
        await rig.pass_s(3.9)
        first.fault = Unsupported("read first", "it has no model 103", "choose another profile")
        await rig.pass_s(100)
        assert first.times()[-1] == 4
        assert second.times()[-1] == 103.5
        assert rig.told()[2:] == ["device.unsupported first"]
        assert rig.sink.events[-1].data == {
            "wire": "/dev/ttyUSB1",
            "error": "read first: it has no model 103",
            "hint": "choose another profile",
        }
        assert rig.sink.unknown() == [1]
        assert [state.state for state in rig.polling.unit_states()] == [Health.UNSUPPORTED, Health.ONLINE]
        assert [state.next_try_s for state in rig.polling.unit_states()] == [None, None]
        second.fault = Unsupported("read second", "it speaks no Modbus")
        await rig.pass_s(1)
        assert rig.fault() is second.fault
        rig.start()
        await rig.pass_s(1)
        assert isinstance(rig.fault(), Unsupported), "also when somebody starts it again"
        assert len(rig.wire.opens) == 1

    run(rig, test)
    text = "first stopped for good: read first: it has no model 103 (choose another profile)"
    assert log() == [f"ERROR /dev/ttyUSB1: {text}"]


@pytest.mark.announced_warnings
def test_a_wire_whose_units_have_stopped_or_are_silent_is_tried_again(clock: FakeClock) -> None:
    first = FakeUnit(clock, "first", 1, fault=Unsupported("read first", "not a meter"))
    rig = Rig(first, FakeUnit(clock, "second", 2, dead=True))

    async def test() -> None:
        await rig.pass_s(10)
        assert isinstance(rig.fault(), Unavailable)
        rig.start()
        await rig.pass_s(3)
        assert isinstance(rig.fault(), Unavailable)
        assert len(first.asked) == 1

    run(rig, test)


@pytest.mark.announced_warnings
def test_a_bug_stays_in_its_unit_and_is_logged_once(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    buggy = FakeUnit(clock, "buggy", 1, fault=KeyError("scale"))
    good = FakeUnit(clock, "good", 2)
    rig = Rig(buggy, good)

    async def test() -> None:
        await rig.pass_s(60)
        assert rig.told() == ["device.online good", "device.silent buggy"]
        assert len(good.asked) == 60
        (state, _) = rig.polling.unit_states()
        assert (state.last_error, "bug" in state.hint) == ("KeyError: 'scale'", True)
        assert rig.sink.counts["crashed"] == len(buggy.asked)

    run(rig, test)
    crashes = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in crashes] == ["/dev/ttyUSB1: buggy crashed"]
    assert crashes[0].exc_info


def test_a_full_store_is_no_fault_of_the_unit(clock: FakeClock) -> None:
    unit = FakeUnit(clock, "meter", fault=StoreError("declare meter.1", "disk full"))
    rig = Rig(unit)

    async def test() -> None:
        await rig.pass_s(9.5)
        assert rig.told() == ["device.online meter"]
        assert (rig.sink.counts["undeclared"], rig.sink.counts["misses"]) == (10, 0)

    run(rig, test)


def test_a_cancellation_from_within_is_not_swallowed(clock: FakeClock) -> None:
    rig = Rig(FakeUnit(clock, "meter"))

    async def cancels(_: Sink) -> None:
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    rig.wire.fakes[0].jobs = [PollJob(1.0, cancels)]

    async def test() -> None:
        await rig.pass_s(1)
        assert rig.task is not None
        assert rig.task.cancelled()
        assert rig.wire.closes == 1

    run(rig, test)


@pytest.mark.announced_warnings
def test_the_first_probe_comes_after_five_seconds(clock: FakeClock) -> None:
    dead = FakeUnit(clock, "dead", 1, fault=GARBLED)
    rig = Rig(dead, FakeUnit(clock, "other", 2))

    async def test() -> None:
        await rig.pass_s(20)
        assert dead.times() == [0, RETRY_S, 2 * RETRY_S, 2 * RETRY_S + FIRST_PROBE_S, 2 * RETRY_S + 3 * FIRST_PROBE_S]

    run(rig, test)
