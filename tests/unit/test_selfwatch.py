"""The gateway as a device of its own: what it says of itself, and what it does not say where it does not know."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from agent.core.clock import FakeClock, HeldClock
from agent.core.errors import StoreError, Unavailable
from agent.core.model import Number
from agent.core.points import POINTS
from agent.selfwatch import EVERY_S, LAG_S, Probe, SelfWatch, machine_probes
from tests.sinks import RecordingSink

SET_US = 1_800_000_000_000_000


async def _rest(clock: FakeClock) -> None:
    """Until the watch sleeps again."""
    async with asyncio.timeout(60):
        while True:
            if any(not future.done() for _, _, future in clock._sleepers):
                return
            await asyncio.sleep(0)


def _watched(
    probes: Mapping[str, Probe], then: Callable[[FakeClock, RecordingSink], Awaitable[None]] | None = None
) -> RecordingSink:
    """What the sink has after one round, and what ``then`` does."""
    sink, clock = RecordingSink(), FakeClock(SET_US)

    async def scenario() -> None:
        task = asyncio.create_task(SelfWatch(probes, clock).run(sink))
        await _rest(clock)
        if then is not None:
            await then(clock, sink)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    return sink


async def _a_round(clock: FakeClock, *, late_s: float = 0) -> None:
    for number in range(round(EVERY_S / LAG_S)):
        clock.advance(LAG_S + (late_s if number == 3 else 0))
        await _rest(clock)


def test_values_arrive_in_the_units_of_their_points() -> None:
    given: dict[str, Number] = {
        "disk_free_bytes": 5_000_000_000,
        "disk_free_pct": 12.34,
        "temperature_degc": 48.312,
        "uplink_connected": 1,
        "uplink_backlog": 1234,
        "written_bytes": 40_960,
        "certificate_days": 29,
    }
    sink = _watched({point: lambda value=value: value for point, value in given.items()})  # type: ignore[misc]
    values = {name.removeprefix("gateway."): value for name, value in sink.values().items()}
    assert values.pop("loop_lag_s") == 0
    # To the precision that is kept: MiB, tenths.
    assert values == {
        **given,
        "disk_free_bytes": 4768 << 20,
        "disk_free_pct": 12.3,
        "temperature_degc": pytest.approx(48.3),
    }
    for spec in sink.declared:
        point = POINTS[spec.name]
        assert (spec.device, spec.unit, spec.kind) == ("gateway", point.unit, point.kind)


def test_a_sensor_that_is_not_there_is_no_signal_and_one_that_fails_later_is_unknown() -> None:
    readings: list[Number | None] = [1, 1, None, 0]

    def store() -> Number | None:
        return readings.pop(0)

    def broken() -> Number:
        raise OSError("no such sensor")

    async def then(clock: FakeClock, sink: RecordingSink) -> None:
        assert sink.values() == {"gateway.store_ok": 1, "gateway.loop_lag_s": 0}
        await _a_round(clock)
        assert sink.values()["gateway.store_ok"] is None
        await _a_round(clock)
        assert sink.values()["gateway.store_ok"] == 0

    _watched({"temperature_degc": lambda: None, "clock_good": broken, "store_ok": store}, then)


@pytest.mark.parametrize("error", [OSError("gone"), StoreError("read", "is corrupt")])
def test_a_probe_that_fails_makes_its_own_value_unknown_and_no_other(error: Exception) -> None:
    calls = 0

    def failing() -> Number:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise error
        return 1

    sink = _watched({"uplink_backlog": failing, "clock_good": lambda: 1})
    assert sink.values() == {"gateway.uplink_backlog": None, "gateway.clock_good": 1, "gateway.loop_lag_s": 0}


def test_the_lag_of_the_event_loop_is_the_longest_of_a_round() -> None:
    async def then(clock: FakeClock, sink: RecordingSink) -> None:
        await _a_round(clock, late_s=0.75)
        assert sink.values()["gateway.loop_lag_s"] == pytest.approx(0.75)
        await _a_round(clock)
        assert sink.values()["gateway.loop_lag_s"] == 0

    _watched({}, then)


def test_a_probe_that_hangs_does_not_hold_up_the_event_loop() -> None:
    go_on = threading.Event()
    sink, clock, asked = RecordingSink(), FakeClock(SET_US), 0

    def hanging() -> Number:
        nonlocal asked
        asked += 1
        if asked > 1:
            go_on.wait(10)
        return 1

    async def scenario() -> None:
        task = asyncio.create_task(SelfWatch({"store_ok": hanging}, clock).run(sink))
        while asked < 2:  # noqa: ASYNC110 - a thread counts it
            await asyncio.sleep(0)
        assert not sink.rows
        go_on.set()
        await _rest(clock)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert sink.values()["gateway.store_ok"] == 1


def test_while_the_store_can_not_number_it_is_tried_again_later() -> None:
    class Full(RecordingSink):
        async def declare(self, specs: object) -> list[int]:
            raise StoreError("assign", "the disk is full")

    watch = SelfWatch({}, FakeClock())
    with pytest.raises(Unavailable, match="the disk is full"):
        asyncio.run(watch.run(Full()))
    assert (watch.name, watch.devices) == ("gateway", ("gateway",))


def _thermometer(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_the_hottest_plausible_thermometer_counts(tmp_path: Path) -> None:
    sys = tmp_path / "sys"
    _thermometer(sys, "class/thermal/thermal_zone0/temp", "48312\n")
    _thermometer(sys, "class/thermal/thermal_zone1/temp", "51000\n")
    _thermometer(sys, "class/thermal/thermal_zone2/temp", "-274000\n")
    _thermometer(sys, "class/thermal/thermal_zone3/temp", "off\n")
    _thermometer(sys, "class/hwmon/hwmon0/temp1_input", "99000\n")
    assert machine_probes(tmp_path, FakeClock(), sys=sys)["temperature_degc"]() == 51
    assert machine_probes(tmp_path, FakeClock(), sys=tmp_path / "none")["temperature_degc"]() is None


def test_without_a_processors_thermometer_others_stand_in(tmp_path: Path) -> None:
    _thermometer(tmp_path, "class/hwmon/hwmon0/temp1_input", "39500\n")
    assert machine_probes(tmp_path, FakeClock(), sys=tmp_path)["temperature_degc"]() == 39.5


def test_the_clock_is_good_when_it_is_believed(tmp_path: Path) -> None:
    assert machine_probes(tmp_path, FakeClock(SET_US))["clock_good"]() == 1
    assert machine_probes(tmp_path, FakeClock(1_000_000))["clock_good"]() == 0  # 1970: without a battery
    held = HeldClock(FakeClock(SET_US))
    probe = machine_probes(tmp_path, held)["clock_good"]
    assert probe() == 0
    held.let_go()
    assert probe() == 1


def test_a_machine_tells_of_its_disk_processor_and_memory(tmp_path: Path) -> None:
    clock = FakeClock()
    probes = machine_probes(tmp_path, clock)
    free, share, memory = (probes[point]() for point in ("disk_free_bytes", "disk_free_pct", "memory_bytes"))
    assert free is not None
    assert share is not None
    assert memory is not None
    assert free > 0
    assert 0 < share <= 100
    assert 5e6 < memory < 5e9
    assert probes["cpu_pct"]() == 0  # no time has passed on this clock
    used_s = time.process_time()
    while time.process_time() - used_s < 0.1:
        pass
    clock.advance(1)
    busy = probes["cpu_pct"]()
    assert busy is not None
    assert 5 < busy < 1000
    with pytest.raises(OSError, match="nowhere"):
        machine_probes(tmp_path / "nowhere", clock)["disk_free_pct"]()
