"""Wires that fail in every way, on a fake clock."""

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.errors import BadData, NoAnswer, StoreError, Unavailable, Unsupported
from agent.core.model import Batch, Event, Signal, SignalSpec
from agent.core.ports import Sink
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.pipeline.polling import PollListener
from agent.pipeline.supervisor import MAX_RETRY_S, STAYED_UP_S, STEADY_S, STOP_S, Health, Supervisor
from tests.polled import FakePoller, FakeUnit, pass_s

SOC = Signal("battery", "soc_pct", id=1)
POWER = Signal("meter", "power_w", id=2)
NO_ANSWER = NoAnswer("read charger", "no answer within 1.0 s")


@dataclass
class Wire:
    """A listener made of a function."""

    name: str
    body: Callable[[Sink], Awaitable[None]]
    devices: Sequence[str] = ("battery",)
    max_retry_s: float = MAX_RETRY_S

    async def run(self, sink: Sink) -> None:
        await self.body(sink)


@dataclass
class Rig:
    """A supervisor on a fake clock; ``jitter`` 1 makes back-off exact."""

    clock: FakeClock = field(default_factory=FakeClock)
    stored: list[Batch] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hub = Hub(self.clock)
        self.flow = Flow(self.clock, Gate(), self.hub, self.stored.append)
        self.supervisor = Supervisor(
            self.clock, self.flow, self.events.append, jitter=lambda: 1.0, declare=self.declare
        )
        self.known: list[SignalSpec] = []

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[Signal]:
        await asyncio.sleep(0)
        self.known += [spec for spec in specs if spec not in self.known]
        return [Signal(spec.device, spec.name, id=100 + self.known.index(spec)) for spec in specs]

    async def pass_s(self, seconds: float, step_s: float = 0.5) -> None:
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            await settle()

    def state(self, index: int = 0) -> Health:
        return self.supervisor.states()[index].state

    def kinds(self) -> list[str]:
        return [f"{event.kind} {event.subject}" for event in self.events]

    def rows(self) -> list[tuple[int, int | None]]:
        return [
            (int(number), int(word) if batch.valid else None)
            for batch in self.stored
            for number, word in zip(batch.ids, batch.words, strict=True)
        ]


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def run(test: Callable[[Rig], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        rig = Rig()
        try:
            await test(rig)
        finally:
            stopping = asyncio.create_task(rig.supervisor.stop())
            await settle()
            rig.clock.advance(STOP_S)
            await stopping

    asyncio.run(main())


def row(number: int, word: int) -> Batch:
    return Batch(array("i", [number]), array("q", [1]), array("q", [word]))


async def forever(_: Sink) -> None:
    await asyncio.get_running_loop().create_future()


async def unavailable(_: Sink) -> None:
    raise Unavailable("open can0", "no such device", "is the adapter plugged in?")


def test_a_wire_is_online_when_it_delivers() -> None:
    async def body(sink: Sink) -> None:
        sink.put(row(1, 80))
        sink.touch(array("i", [1, 1]))
        sink.count("frames", 3)
        sink.event(Event("can.overflow", 5, "battery"))
        await forever(sink)

    async def test(rig: Rig) -> None:
        rig.supervisor.add(Wire("can0", body))
        assert rig.state() is Health.STARTING
        rig.supervisor.start()
        await settle()
        rig.clock.advance(0.5)
        (state,) = rig.supervisor.states()
        assert (state.state, state.name, state.devices) == (Health.ONLINE, "can0", ("battery",))
        assert state.counters == {"rows": 1, "rows_kept": 1, "rows_unchanged": 2, "frames": 3}
        assert (state.last_put_age_s, state.next_try_s, state.restarts, state.last_error) == (0.5, None, 0, "")
        assert rig.kinds() == ["device.online battery", "can.overflow battery"]
        assert rig.hub.latest([SOC])[0].value == 80

    run(test)


def test_a_wire_on_which_nobody_speaks_is_online_after_a_while() -> None:
    async def test(rig: Rig) -> None:
        rig.supervisor.start()
        rig.supervisor.add(Wire("can0", forever))
        await settle()
        await rig.pass_s(STAYED_UP_S - 1)
        assert rig.state() is Health.STARTING
        await rig.pass_s(2)
        assert rig.state() is Health.ONLINE
        assert rig.supervisor.states()[0].last_put_age_s is None

    run(test)


@pytest.mark.announced_warnings
def test_back_off_doubles_up_to_its_cap_and_the_fault_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[float] = []

    async def test(rig: Rig) -> None:
        async def body(sink: Sink) -> None:
            tries.append(rig.clock.monotonic_s())
            await unavailable(sink)

        rig.supervisor.add(Wire("can0", body), [SOC])
        rig.supervisor.start()
        await settle()
        (state,) = rig.supervisor.states()
        assert (state.state, state.next_try_s) == (Health.OFFLINE, 1.0)
        assert (state.last_error, state.hint) == ("open can0: no such device", "is the adapter plugged in?")
        await rig.pass_s(300)
        assert rig.kinds() == ["device.offline battery"]
        assert rig.rows() == [(1, None)]
        assert rig.supervisor.states()[0].restarts == len(tries) - 1

    run(test)
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, MAX_RETRY_S, MAX_RETRY_S]
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert lines == ["can0: offline: open can0: no such device (is the adapter plugged in?); next try in 1.0 s"]


@pytest.mark.announced_warnings
def test_a_wire_that_waits_for_its_next_try_is_tried_at_once_when_somebody_wants_to_know() -> None:
    tries: list[int] = []

    async def test(rig: Rig) -> None:
        async def body(sink: Sink) -> None:
            tries.append(1)
            await unavailable(sink)

        rig.supervisor.add(Wire("can0", body), [SOC])
        rig.supervisor.start()
        await rig.pass_s(20)
        before = len(tries)
        rig.supervisor.try_now("nobody")
        await settle()
        assert len(tries) == before
        rig.supervisor.try_now("battery")
        await settle()
        assert len(tries) == before + 1
        (state,) = rig.supervisor.states()
        assert (state.restarts, state.next_try_s) == (before, 32.0), "the back-off goes on"

    run(test)


def test_jitter_takes_up_to_half_of_the_wait() -> None:
    clock = FakeClock()
    logging.disable(logging.WARNING)
    try:

        async def main() -> None:
            hub = Hub(clock)
            flow = Flow(clock, Gate(), hub, lambda _: None)
            supervisor = Supervisor(clock, flow, lambda _: None, jitter=lambda: 0.0)
            supervisor.add(Wire("can0", unavailable))
            supervisor.start()
            await settle()
            assert supervisor.states()[0].next_try_s == 0.5
            await supervisor.stop()

        asyncio.run(main())
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.announced_warnings
def test_both_edges_are_told_each_time_and_values_become_unknown() -> None:
    async def test(rig: Rig) -> None:
        gone: list[asyncio.Future[None]] = []

        async def body(sink: Sink) -> None:
            sink.put(row(1, 80))
            gone.append(asyncio.get_running_loop().create_future())
            await gone[-1]

        rig.supervisor.add(Wire("can0", body, ("battery", "charger")), [SOC, POWER])
        rig.supervisor.start()
        await settle()
        gone[-1].set_exception(Unavailable("read can0", "network is down"))
        await settle()
        assert rig.state() is Health.OFFLINE
        assert rig.hub.latest([SOC])[0].value is None
        await rig.pass_s(1)
        assert rig.state() is Health.ONLINE
        assert rig.hub.latest([SOC])[0].value == 80
        assert rig.kinds() == [
            "device.online battery",
            "device.online charger",
            "device.offline battery",
            "device.offline charger",
            "device.online battery",
            "device.online charger",
        ]
        assert rig.rows() == [(1, 80), (1, None), (2, None), (1, 80)]
        assert rig.supervisor.states()[0].last_error == "read can0: network is down"

    run(test)


@pytest.mark.announced_warnings
def test_a_wire_that_opens_and_dies_at_once_is_slowed_down_and_a_steady_one_starts_anew() -> None:
    async def test(rig: Rig) -> None:
        steady_s = 0.0
        tries: list[float] = []

        async def body(sink: Sink) -> None:
            tries.append(rig.clock.monotonic_s())
            sink.put(row(1, 80))
            if steady_s:
                await rig.clock.sleep_s(steady_s)
            await unavailable(sink)

        rig.supervisor.add(Wire("can0", body))
        rig.supervisor.start()
        await settle()
        await rig.pass_s(20)
        assert [later - earlier for earlier, later in pairwise(tries)] == [1, 2, 4, 8]
        steady_s = STEADY_S
        await rig.pass_s(11 + STEADY_S)
        assert rig.supervisor.states()[0].next_try_s is not None
        restarts = len(tries)
        await rig.pass_s(1)
        assert len(tries) == restarts + 1

    run(test)


@pytest.mark.announced_warnings
def test_a_bug_is_logged_with_its_traceback_once_and_the_wire_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    async def test(rig: Rig) -> None:
        async def body(_: Sink) -> None:
            raise KeyError("Pack.Voltage")

        rig.supervisor.add(Wire("can0", body))
        rig.supervisor.start()
        await settle()
        await rig.pass_s(30)
        (state,) = rig.supervisor.states()
        assert (state.state, state.last_error) == (Health.OFFLINE, "KeyError: 'Pack.Voltage'")
        assert "bug" in state.hint
        assert state.restarts == 4

    run(test)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert record.exc_info


@pytest.mark.announced_warnings
def test_a_fault_of_another_kind_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    async def test(rig: Rig) -> None:
        faults = [Unavailable("a", "b"), ValueError("x"), Unavailable("a", "b"), ValueError("y")]

        async def body(sink: Sink) -> None:
            if faults:
                raise faults.pop(0)
            await forever(sink)

        rig.supervisor.add(Wire("can0", body))
        rig.supervisor.start()
        await settle()
        await rig.pass_s(20)
        assert not faults

    run(test)
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING", "ERROR"]


@pytest.mark.announced_warnings
def test_unsupported_stops_this_wire_for_good() -> None:
    async def test(rig: Rig) -> None:
        tries = 0

        async def body(_: Sink) -> None:
            nonlocal tries
            tries += 1
            raise Unsupported("open can0", "the interface 'pcan' needs a driver", "install it")

        rig.supervisor.add(Wire("can0", body), [SOC])
        rig.supervisor.start()
        await settle()
        await rig.pass_s(200)
        (state,) = rig.supervisor.states()
        assert (tries, state.state, state.next_try_s) == (1, Health.UNSUPPORTED, None)
        assert rig.kinds() == ["device.offline battery"]

    run(test)


@pytest.mark.announced_warnings
def test_a_run_that_returns_and_a_cancellation_from_within_are_faults() -> None:
    async def test(rig: Rig) -> None:
        async def returns(_: Sink) -> None:
            return

        async def cancels_itself(_: Sink) -> None:
            inner = asyncio.get_running_loop().create_future()
            inner.cancel()
            await inner

        rig.supervisor.add(Wire("can0", returns))
        rig.supervisor.add(Wire("can1", cancels_itself))
        rig.supervisor.start()
        await settle()
        await rig.pass_s(10)
        first, second = rig.supervisor.states()
        assert (first.state, first.last_error) == (Health.OFFLINE, "run can0: ended by itself")
        assert second.state is Health.OFFLINE
        assert "cancelled from within" in second.last_error
        assert min(first.restarts, second.restarts) >= 3

    run(test)


@pytest.mark.announced_warnings
def test_a_wire_that_throws_a_hundred_times_disturbs_no_other() -> None:
    async def test(rig: Rig) -> None:
        thrown = 0

        async def throws(sink: Sink) -> None:
            nonlocal thrown
            if thrown < 100:
                thrown += 1
                raise RuntimeError(thrown)
            sink.put(row(1, thrown))
            await forever(sink)

        async def counts(sink: Sink) -> None:
            seconds = 0
            while True:
                seconds += 1
                sink.put(row(2, seconds))
                await rig.clock.sleep_s(1.0)

        rig.supervisor.add(Wire("bad", throws), [SOC])
        rig.supervisor.add(Wire("good", counts, ("meter",)), [POWER])
        rig.supervisor.start()
        await settle()
        await rig.pass_s(100 * MAX_RETRY_S, step_s=1.0)
        bad, good = rig.supervisor.states()
        assert thrown == 100
        assert (bad.state, bad.restarts) == (Health.ONLINE, 100)
        assert (good.state, good.restarts) == (Health.ONLINE, 0)
        assert rig.hub.latest([POWER])[0].value == 100 * MAX_RETRY_S + 1
        assert [word for number, word in rig.rows() if number == 2] == list(range(1, int(100 * MAX_RETRY_S) + 2))

    run(test)


@pytest.mark.announced_warnings
def test_a_recorder_that_fails_ends_no_wire() -> None:
    async def test(rig: Rig) -> None:
        def refuse(_: Event) -> None:
            raise OSError("disk full")

        supervisor = Supervisor(rig.clock, rig.flow, refuse, jitter=lambda: 1.0)
        supervisor.add(Wire("can0", unavailable))
        supervisor.start()
        await settle()
        await rig.pass_s(4)
        assert supervisor.states()[0].restarts == 2
        await supervisor.stop()

    run(test)


@pytest.mark.announced_warnings
def test_stop_is_bounded_even_if_a_wire_will_not_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        rig = Rig()
        release = asyncio.get_running_loop().create_future()

        async def stubborn(_: Sink) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await release

        rig.supervisor.add(Wire("stubborn", stubborn))
        rig.supervisor.add(Wire("good", forever))
        rig.supervisor.start()
        await settle()
        stopping = asyncio.create_task(rig.supervisor.stop())
        await settle()
        assert not stopping.done()
        rig.clock.advance(STOP_S)
        await stopping
        # Once it gives in, it ends: no restart after stop.
        release.set_result(None)
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == [
        "stubborn: did not stop within 2 s"
    ]


def test_stop_does_not_wait_when_all_end() -> None:
    async def main() -> None:
        rig = Rig()
        rig.supervisor.add(Wire("can0", forever))
        rig.supervisor.start()
        await settle()
        await rig.supervisor.stop()

    asyncio.run(main())


def test_the_tick_repeats_what_is_heard_and_expires_what_is_not() -> None:
    async def test(rig: Rig) -> None:
        async def body(sink: Sink) -> None:
            sink.put(row(1, 80))
            sink.put(row(2, 7))
            while True:
                await rig.clock.sleep_s(1.0)
                sink.touch(array("i", [1]))

        rig.hub.stale_after(POWER, 10.0)
        rig.supervisor.add(Wire("can0", body))
        rig.supervisor.start()
        await settle()
        await rig.pass_s(125)
        assert rig.rows() == [(1, 80), (2, 7), (2, None), (1, 80), (1, 80)]

    run(test)


@pytest.mark.announced_warnings
def test_other_parts_are_restarted_too_and_a_failing_tick_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def test(rig: Rig) -> None:
        runs = 0

        async def part() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise OSError("first time")
            await forever(None)  # type: ignore[arg-type]

        rig.supervisor.add_part("uplink", part)
        rig.supervisor.start()
        await settle()
        await rig.pass_s(10)
        tick, uplink = rig.supervisor.parts()
        assert (tick.name, tick.state) == ("pipeline tick", Health.ONLINE)
        assert (uplink.state, uplink.restarts, uplink.devices) == (Health.ONLINE, 1, ())
        assert rig.events == []

    run(test)
    assert [record.getMessage() for record in caplog.records] == [
        "uplink: crashed; next try in 1.0 s",
        "uplink: runs again",
    ]


def test_a_removed_wire_ends_and_its_signals_become_unknown_the_others_stay() -> None:
    async def test(rig: Rig) -> None:
        async def deliver(number: int, sink: Sink) -> None:
            sink.put(row(number, 50))
            await asyncio.Event().wait()

        rig.supervisor.add(Wire("can0", lambda sink: deliver(SOC.id, sink)), [SOC])
        rig.supervisor.add(Wire("can1", lambda sink: deliver(POWER.id, sink), ("meter",)), [POWER])
        rig.supervisor.start()
        await settle()
        await rig.supervisor.remove("can0")
        assert [state.name for state in rig.supervisor.states()] == ["can1"]
        assert [latest.value for latest in rig.hub.latest([SOC, POWER])] == [None, 50]
        assert rig.rows()[-1] == (SOC.id, None)
        rig.supervisor.add(Wire("can0", lambda sink: deliver(SOC.id, sink)), [SOC])
        await settle()
        assert [latest.value for latest in rig.hub.latest([SOC, POWER])] == [50, 50]

    run(test)


@pytest.mark.announced_warnings
def test_a_wire_that_says_so_is_tried_more_often() -> None:
    async def test(rig: Rig) -> None:
        tries: list[float] = []

        async def gone(_: Sink) -> None:
            tries.append(rig.clock.monotonic_s())
            raise Unavailable("open can0", "no such device")

        rig.supervisor.add(Wire("can0", gone, max_retry_s=3.0))
        rig.supervisor.start()
        await settle()
        await rig.pass_s(60)
        assert max(later - earlier for earlier, later in pairwise(tries)) <= 3.5

    run(test)


def poll(rig: Rig, *units: FakeUnit, name: str = "/dev/ttyUSB1") -> FakePoller:
    """Add a polled wire with these units."""
    wire = FakePoller(rig.clock, units, name)
    signals = [Signal(unit.device, "power_w", id=unit.number) for unit in units]
    rig.supervisor.add(PollListener(wire, rig.clock), signals)
    return wire


def health(rig: Rig) -> dict[str, Health]:
    return {unit.device: unit.state for unit in rig.supervisor.unit_states()}


@pytest.mark.announced_warnings
def test_a_unit_that_is_dead_from_the_start_is_never_told_to_be_online() -> None:
    async def test(rig: Rig) -> None:
        dead = FakeUnit(rig.clock, "dead", 1, dead=True)
        poll(rig, dead, FakeUnit(rig.clock, "good", 2))
        rig.supervisor.start()
        await pass_s(rig.clock, 30)
        assert rig.kinds() == ["device.online good", "device.silent dead"]
        assert rig.state() is Health.ONLINE
        assert health(rig) == {"dead": Health.OFFLINE, "good": Health.ONLINE}
        assert rig.supervisor.unit_states()[0].next_try_s is not None
        dead.dead = False
        await pass_s(rig.clock, 30)
        assert rig.kinds()[2:] == ["device.heard dead", "device.online dead"]
        assert health(rig) == {"dead": Health.ONLINE, "good": Health.ONLINE}

    run(test)


@pytest.mark.announced_warnings
def test_a_polled_wire_on_which_nobody_answers_is_not_online(caplog: pytest.LogCaptureFixture) -> None:
    """Three dead units on a serial line: tried at a sensible rate, told once."""
    caplog.set_level(logging.INFO)

    async def test(rig: Rig) -> None:
        units = [FakeUnit(rig.clock, f"meter{n}", n, every_s=(60.0,), dead=True) for n in range(1, 4)]
        wire = poll(rig, *units)
        rig.supervisor.start()
        await pass_s(rig.clock, 2)
        assert (rig.state(), set(health(rig).values())) == (Health.STARTING, {Health.STARTING})
        await pass_s(rig.clock, 600)
        assert rig.state() is Health.OFFLINE
        assert rig.kinds() == ["device.silent meter1", "device.silent meter2", "device.silent meter3"]
        assert rig.rows() == [(1, None), (2, None), (3, None)]
        # Three probes of 1 s each time, then up to max_retry_s (10 s) of quiet.
        waits = [later - earlier for earlier, later in pairwise(wire.opens)]
        assert waits[5:] == [13] * len(waits[5:])
        for unit in rig.supervisor.unit_states():
            assert unit.state is Health.OFFLINE
            assert unit.last_error == f"read {unit.device}: no answer within 1.0 s"
            assert unit.next_try_s == rig.supervisor.states()[0].next_try_s
        units[1].dead = False
        await pass_s(rig.clock, 20)
        assert rig.kinds()[3:] == ["device.heard meter2", "device.online meter2"]
        assert health(rig) == {"meter1": Health.OFFLINE, "meter2": Health.ONLINE, "meter3": Health.OFFLINE}

    run(test)
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "/dev/ttyUSB1: offline: poll /dev/ttyUSB1: none of its units answers",
        "/dev/ttyUSB1: online",
        "/dev/ttyUSB1: meter2 answers again",
    ]


@pytest.mark.announced_warnings
@pytest.mark.parametrize("every_s", [0.1, 1.0, 5.0])
def test_a_connection_that_only_seems_to_stand_is_opened_anew_within_ten_seconds(every_s: float) -> None:
    """Fault F8: half-open TCP, one unit, time-out 1 s."""

    async def test(rig: Rig) -> None:
        unit = FakeUnit(rig.clock, "charger", 1, every_s=(every_s,))
        wire = poll(rig, unit)
        rig.supervisor.start()
        await pass_s(rig.clock, 100.01)
        unit.fault = lambda _: NO_ANSWER if len(wire.opens) == 1 else None
        await pass_s(rig.clock, 10)
        assert rig.state() is Health.ONLINE
        assert len(wire.opens) == 2
        assert rig.kinds() == ["device.online charger", "device.silent charger", "device.heard charger"]
        values = [value for _, value in rig.rows()]
        assert values.count(None) == 1
        assert values[-1] is not None

    run(test)


@pytest.mark.announced_warnings
def test_the_end_of_a_wire_is_told_of_those_who_were_not_silent() -> None:
    async def test(rig: Rig) -> None:
        units = [FakeUnit(rig.clock, "good", 1), FakeUnit(rig.clock, "dead", 2, dead=True)]
        units.append(FakeUnit(rig.clock, "wrong", 3, fault=Unsupported("read wrong", "not a meter")))
        wire = poll(rig, *units)
        rig.supervisor.start()
        await pass_s(rig.clock, 100)
        before = len(rig.events)
        units[0].fault = wire.open_fault = Unavailable("open /dev/ttyUSB1", "no such device", "is it plugged in?")
        await pass_s(rig.clock, 60)
        assert rig.kinds()[before:] == ["device.offline good"]
        states = rig.supervisor.unit_states()
        assert [unit.state for unit in states] == [Health.OFFLINE, Health.OFFLINE, Health.UNSUPPORTED]
        assert [unit.last_error for unit in states] == [
            "open /dev/ttyUSB1: no such device",
            "read dead: no answer within 1.0 s",
            "read wrong: not a meter",
        ]
        assert states[0].next_try_s == states[1].next_try_s == rig.supervisor.states()[0].next_try_s
        assert states[2].next_try_s is None
        units[0].fault = wire.open_fault = None
        await pass_s(rig.clock, 30)
        assert rig.kinds()[before + 1 :] == ["device.online good"]

    run(test)


def test_an_answer_without_values_makes_a_polled_wire_online() -> None:
    async def test(rig: Rig) -> None:
        unit = FakeUnit(rig.clock, "relay", 1, fault=StoreError("declare", "disk full"))
        poll(rig, unit)
        rig.supervisor.start()
        await pass_s(rig.clock, 0.5)
        assert rig.state() is Health.ONLINE
        assert rig.kinds() == ["device.online relay"]

    run(test)


@pytest.mark.announced_warnings
def test_declared_signals_belong_to_their_wire() -> None:
    power, energy = SignalSpec("meter", "power_w"), SignalSpec("meter", "energy_wh")

    async def test(rig: Rig) -> None:
        gone = asyncio.get_running_loop().create_future()

        async def body(sink: Sink) -> None:
            first, second = await asyncio.gather(sink.declare([power, energy]), sink.declare([energy, power, energy]))
            assert (list(first), list(second)) == ([100, 101], [101, 100, 101])
            for number in first:
                sink.put(row(number, 7))
            await gone

        rig.supervisor.add(Wire("meter0", body, ("meter",)), [SOC])
        rig.supervisor.start()
        await settle()
        gone.set_exception(Unavailable("read meter0", "unplugged"))
        await settle()
        assert rig.rows() == [(100, 7), (101, 7), (1, None), (100, None), (101, None)]
        await rig.supervisor.remove("meter0")
        assert len(rig.rows()) == 5

    run(test)


def test_signals_that_were_declared_are_given_up_with_their_wire() -> None:
    async def test(rig: Rig) -> None:
        async def body(sink: Sink) -> None:
            (number,) = await sink.declare([SignalSpec("meter", "power_w")])
            sink.put(row(number, 7))
            await forever(sink)

        rig.supervisor.add(Wire("meter0", body, ("meter",)))
        rig.supervisor.start()
        await settle()
        await rig.supervisor.remove("meter0")
        assert rig.rows() == [(100, 7), (100, None)]

    run(test)


def test_a_wire_may_go_while_its_signals_are_numbered() -> None:
    async def test(rig: Rig) -> None:
        numbered = asyncio.Event()

        async def declare(specs: Sequence[SignalSpec]) -> Sequence[Signal]:
            await numbered.wait()
            raise AssertionError("nobody waits for it any more")

        supervisor = Supervisor(rig.clock, rig.flow, rig.events.append, declare=declare)

        async def body(sink: Sink) -> None:
            await sink.declare([SignalSpec("meter", "power_w")])

        supervisor.add(Wire("meter0", body), [SOC])
        supervisor.start()
        await settle()
        await supervisor.remove("meter0")
        numbered.set()
        assert rig.rows() == [(1, None)]
        await supervisor.stop()

    run(test)


@pytest.mark.announced_warnings
def test_a_full_store_is_the_declaring_drivers_to_handle() -> None:
    async def test(rig: Rig) -> None:
        async def declare(_: Sequence[SignalSpec]) -> Sequence[Signal]:
            raise StoreError("number signals", "disk full", "free some space")

        supervisor = Supervisor(rig.clock, rig.flow, rig.events.append, jitter=lambda: 1.0, declare=declare)

        async def body(sink: Sink) -> None:
            await sink.declare([SignalSpec("meter", "power_w")])

        supervisor.add(Wire("meter0", body))
        supervisor.start()
        await settle()
        assert supervisor.states()[0].last_error == "number signals: disk full"
        await supervisor.stop()

    run(test)


FAULTS = st.sampled_from(["good", "dead", "bad", "buggy", "gone"])


@pytest.mark.announced_warnings
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 2), FAULTS, st.sampled_from([0.3, 2.0, 9.0, 40.0])), max_size=12))
def test_whatever_happens_events_come_in_pairs_and_all_recover(steps: list[tuple[int, str, float]]) -> None:
    """Random faults of units and of their wire: no edge is told twice, no dead unit has a value, nothing stays dead."""
    faults: dict[str, Exception] = {
        "bad": BadData("read", "garbled"),
        "buggy": KeyError("scale"),
        "gone": Unavailable("read", "unplugged"),
    }

    async def test(rig: Rig) -> None:
        units = [FakeUnit(rig.clock, f"meter{n}", n, every_s=(1.0, 20.0), answer_s=0.05) for n in (1, 2, 3)]
        wire = poll(rig, *units)
        rig.supervisor.start()
        for index, fault, seconds in steps:
            units[index].dead = fault == "dead"
            units[index].fault = faults.get(fault)
            wire.open_fault = faults["gone"] if fault == "gone" else None
            await pass_s(rig.clock, seconds)
            if seconds == 40.0:
                for unit in units:
                    well = not unit.dead and unit.fault is None
                    values = rig.hub.latest([Signal(unit.device, "power_w", id=unit.number)])
                    assert well or values[0].value is None
        for unit in units:
            unit.dead, unit.fault = False, None
        wire.open_fault = None
        await pass_s(rig.clock, 130)
        assert set(health(rig).values()) == {Health.ONLINE}
        for unit in units:
            asked = len(unit.times(0))
            await pass_s(rig.clock, 10)
            assert len(unit.times(0)) - asked == 10
            kinds = [event.kind for event in rig.events if event.subject == unit.device]
            for good, ill in (("device.online", "device.offline"), ("device.heard", "device.silent")):
                mine = [kind for kind in kinds if kind in {good, ill}]
                assert all(one != other for one, other in pairwise(mine))
                assert not mine or mine[-1] == good
            assert kinds[0] != "device.heard"
            assert "device.online" in kinds

    run(test)


def test_a_device_that_tells_to_be_silent_or_frozen_is_offline_though_its_wire_is_well() -> None:
    sinks: list[Sink] = []

    async def body(sink: Sink) -> None:
        sinks.append(sink)
        sink.put(row(1, 5))
        await forever(sink)

    async def test(rig: Rig) -> None:
        rig.supervisor.add(Wire("can0", body))
        rig.supervisor.start()
        await settle()
        assert health(rig) == {}, "nothing but its wire's"
        sinks[0].event(Event("device.silent", 7, "battery1", {"hint": "is it switched on?"}))
        (unit,) = rig.supervisor.unit_states()
        assert (unit.device, unit.wire, unit.state, unit.since_us) == ("battery1", "can0", Health.OFFLINE, 7)
        assert unit.last_error
        assert unit.hint == "is it switched on?"
        assert rig.state() is Health.ONLINE
        sinks[0].event(Event("device.frozen", 8, "battery2", {"counter": "alive"}))
        sinks[0].event(Event("device.alive", 9, "battery1"))
        assert health(rig) == {"battery1": Health.OFFLINE, "battery2": Health.OFFLINE}
        sinks[0].event(Event("device.heard", 10, "battery1"))
        assert health(rig) == {"battery2": Health.OFFLINE}
        sinks[0].event(Event("device.alive", 11, "battery2"))
        assert health(rig) == {}

    run(test)


@dataclass
class Called(Wire):
    """A wire on which devices call us."""

    calls_in: bool = True


@pytest.mark.announced_warnings
def test_who_calls_us_is_online_when_it_has_called() -> None:
    sinks: list[Sink] = []

    async def body(sink: Sink) -> None:
        sinks.append(sink)
        if len(sinks) > 1:
            await forever(sink)
        await end.wait()
        raise Unavailable("listen", "the port is gone")

    end = asyncio.Event()

    async def test(rig: Rig) -> None:
        rig.supervisor.add(Called("ws", body, ("cp1", "cp2", "cp3")))
        rig.supervisor.start()
        await rig.pass_s(STAYED_UP_S + 2)
        assert rig.state() is Health.ONLINE
        assert rig.kinds() == [], "an open port is nobody's call"
        assert set(health(rig).values()) == {Health.STARTING}
        sinks[0].event(Event("device.online", 7, "cp1"))
        sinks[0].event(Event("device.online", 8, "cp2"))
        sinks[0].event(Event("device.silent", 9, "cp2"))
        assert health(rig) == {"cp2": Health.OFFLINE, "cp3": Health.STARTING}
        rig.events.clear()
        end.set()
        await settle()
        assert rig.kinds() == ["device.offline cp1"], "of the others it is no news"
        await rig.pass_s(20)
        assert rig.state() is Health.ONLINE
        assert health(rig)["cp1"] is Health.STARTING, "it has to call again"

    run(test)
