"""Latest values, staleness and the bounded fan-out."""

import asyncio
import math
from array import array

from agent.core.clock import FakeClock
from agent.core.model import Batch, Encoding, Signal, float_to_word
from agent.core.ports import LatestView
from agent.pipeline.hub import Hub

VOLTAGE = Signal("battery", "voltage_v", scale=0.1, id=1)
SOC = Signal("battery", "soc_pct", id=2)
TEMPERATURE = Signal("battery", "temperature_degc", encoding=Encoding.FLOAT, id=3)
FAR = Signal("meter", "power_w", id=100_000)


def batch(*rows: tuple[int, int], t_us: int = 1_000_000, valid: bool = True) -> Batch:
    ids, words = zip(*rows, strict=True)
    return Batch(array("i", ids), array("q", [t_us] * len(ids)), array("q", words), valid)


def values(hub: LatestView, *signals: Signal) -> list[float | None]:
    return [latest.value for latest in hub.latest(signals)]


def test_gives_the_newest_physical_value_its_time_and_age() -> None:
    clock = FakeClock()
    hub = Hub(clock)
    hub.update(batch((1, 480), (1, 495), (2, 80), (100_000, -5)))
    clock.advance(2.5)
    first, *rest = hub.latest([VOLTAGE, SOC, FAR])
    assert first.signal is VOLTAGE
    assert first.value == 49.5
    assert (first.t_us, first.age_s) == (1_000_000, 2.5)
    assert [latest.value for latest in rest] == [80, -5]


def test_what_was_never_heard_has_no_value_and_no_age() -> None:
    latest = Hub(FakeClock()).latest([VOLTAGE, FAR])
    assert [(entry.value, entry.t_us, entry.age_s) for entry in latest] == [(None, None, None)] * 2
    assert Hub(FakeClock()).latest([]) == []


def test_unknown_takes_the_value_away_and_a_touch_brings_it_back() -> None:
    clock = FakeClock()
    hub = Hub(clock)
    hub.update(batch((2, 80)))
    clock.advance(1)
    hub.update(batch((2, 0), t_us=2_000_000, valid=False))
    (latest,) = hub.latest([SOC])
    assert (latest.value, latest.t_us, latest.age_s) == (None, 2_000_000, 1.0)
    hub.update(batch((1, 0), valid=False))
    hub.touch(array("i", [2, 1]))
    assert values(hub, SOC, VOLTAGE) == [80, None], "a touch of a signal without a word says nothing"


def test_numbers_that_are_none_are_no_values() -> None:
    hub = Hub(FakeClock())
    for number in (math.nan, math.inf, -math.inf):
        hub.update(batch((3, float_to_word(number))))
        assert values(hub, TEMPERATURE) == [None]
    hub.update(batch((3, float_to_word(-12.25))))
    assert values(hub, TEMPERATURE) == [-12.25]


def test_silence_expires_only_signals_with_a_limit_and_once() -> None:
    clock = FakeClock()
    hub = Hub(clock)
    hub.stale_after(VOLTAGE, 3.0)
    hub.stale_after(FAR, 3.0)
    hub.update(batch((1, 480), (2, 80)))
    clock.advance(3.0)
    hub.touch(array("i", [2]))
    assert hub.expire(clock.monotonic_s()).tolist() == []
    clock.advance(0.5)
    assert hub.expire(clock.monotonic_s()).tolist() == [1]
    assert hub.expire(clock.monotonic_s()).tolist() == []
    assert values(hub, VOLTAGE, SOC) == [None, 80]


def test_wall_time_jumps_move_no_age() -> None:
    clock = FakeClock()
    hub = Hub(clock)
    hub.stale_after(SOC, 3.0)
    hub.update(batch((2, 80)))
    clock.jump_wall(1e8)
    assert hub.latest([SOC])[0].age_s == 0.0
    assert hub.expire(clock.monotonic_s()).tolist() == []


def test_an_empty_batch_changes_nothing() -> None:
    hub = Hub(FakeClock())
    hub.update(Batch(array("i"), array("q"), array("q")))
    hub.touch(array("i"))
    assert values(hub, SOC) == [None]


def test_a_slow_subscriber_loses_its_own_oldest_and_delays_nobody() -> None:
    async def main() -> None:
        hub = Hub(FakeClock())
        slow, fast = hub.subscribe(limit=3), hub.subscribe(limit=3)
        for n in range(10):
            hub.publish(batch((1, n)))
            await fast.wait()
            assert [int(kept.words[0]) for kept in fast.take()] == [n]
        assert [int(kept.words[0]) for kept in slow.take()] == [7, 8, 9]
        assert (slow.dropped, fast.dropped) == (7, 0)
        slow.close()
        slow.close()
        assert hub.counters() == {"subscribers": 1, "dropped_batches": 7}
        hub.publish(batch((1, 99)))
        assert slow.take() == []
        fast.close()

    asyncio.run(main())


def test_closing_the_hub_wakes_who_waits() -> None:
    async def main() -> None:
        hub = Hub(FakeClock())
        with hub.subscribe() as subscription:
            waiter = asyncio.create_task(subscription.wait())
            await asyncio.sleep(0)
            assert not waiter.done()
            hub.close()
            await waiter
            assert subscription.closed
            assert subscription.take() == []
            await subscription.wait()
        assert hub.counters()["subscribers"] == 0

    asyncio.run(main())
