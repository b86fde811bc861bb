"""The live stream on a fake clock."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import cast

import pytest

from agent.api import live
from agent.api.live import HEARTBEAT_S, MAX_STREAMS, MIN_GAP_S, NEWS_S, LiveStreams
from agent.api.models import ValueOut, value_fields
from agent.core.clock import FakeClock
from agent.core.model import Batch
from tests.fake_view import MODE, POWER, RETIRED, SOC, START_US, VOLTAGE, FakeView


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock(START_US)
        self.view = FakeView(self.clock)
        self.newest = 7
        self.streams = LiveStreams(self.view, self.clock, lambda: self.newest)
        self.open: list[AsyncGenerator[str, None]] = []

    def stream(self, device: str | None = None) -> AsyncGenerator[str, None]:
        self.open.append(self.streams.stream(device))
        return self.open[-1]

    async def after(self, seconds: float, stream: AsyncGenerator[str, None]) -> str:
        """The next event, which must come when so much time has passed and not before."""
        waiting = asyncio.ensure_future(anext(stream))
        await settle()
        if seconds:
            self.clock.advance(seconds - 0.01)
            await settle()
            assert not waiting.done()
            self.clock.advance(0.02)
            await settle()
        assert waiting.done()
        return await waiting


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def run(test: Callable[[Rig], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        rig = Rig()
        try:
            await test(rig)
        finally:
            for stream in rig.open:
                await stream.aclose()
        assert rig.view.hub.counters()["subscribers"] == 0

    asyncio.run(main())


def parse(event: str) -> tuple[str, dict[str, object]]:
    """(kind, name -> value) of an event."""
    assert event.endswith("\n\n")
    fields = dict(line.split(": ", 1) for line in event.strip().splitlines())
    data = json.loads(fields["data"], parse_constant=pytest.fail)
    assert data["time"].endswith("Z")
    return fields["event"], {value["name"]: value["value"] for value in data["values"]}


def test_a_snapshot_comes_first_and_then_only_what_changed() -> None:
    async def test(rig: Rig) -> None:
        rig.view.put((SOC, 80))
        stream = rig.stream()
        kind, values = parse(await rig.after(0, stream))
        assert kind == "snapshot"
        assert values == {
            "battery1.soc_pct": 80,
            "battery1.voltage_v": None,
            "battery1.state": None,
            "battery1.temperature_degc": None,
            "meter1.power_w": None,
        }
        rig.view.put((SOC, 81), (MODE, 1))
        rig.view.put((SOC, 82))
        assert parse(await rig.after(0, stream)) == ("change", {"battery1.soc_pct": 82, "battery1.state": 1})

    run(test)


def test_changes_that_come_fast_are_one_event() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream()
        await rig.after(0, stream)
        rig.view.put((SOC, 1))
        assert parse(await rig.after(0, stream))[1] == {"battery1.soc_pct": 1}
        for word in range(2, 50):
            rig.view.put((SOC, word))
        assert parse(await rig.after(MIN_GAP_S, stream))[1] == {"battery1.soc_pct": 49}

    run(test)


def test_one_device_only() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream("meter1")
        assert parse(await rig.after(0, stream))[1] == {"meter1.power_w": None}
        waiting = asyncio.ensure_future(anext(stream))
        rig.view.put((SOC, 1))
        await settle()
        assert not waiting.done()
        rig.clock.advance(MIN_GAP_S)
        rig.view.put((POWER, 5), (VOLTAGE, 1))
        await settle()
        assert parse(await waiting) == ("change", {"meter1.power_w": 5})

    run(test)


async def quiet(rig: Rig, stream: AsyncGenerator[str, None], seconds: float) -> str:
    """The next event, which must come when so many seconds have passed with nothing to tell, looked at each second."""
    waiting = asyncio.ensure_future(anext(stream))
    await settle()
    for _ in range(round(seconds / NEWS_S) - 1):
        rig.clock.advance(NEWS_S)
        await settle()
        assert not waiting.done()
    rig.clock.advance(NEWS_S)
    await settle()
    assert waiting.done()
    return await waiting


def test_silence_is_filled_with_beats() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream()
        await rig.after(0, stream)
        for _ in range(3):
            beat = await quiet(rig, stream, HEARTBEAT_S)
            assert beat.startswith('event: beat\ndata: {"time": "20')
            assert beat.endswith('Z"}\n\n')

    run(test)


def test_readings_of_others_are_no_reason_to_be_silent() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream("meter1")
        await rig.after(0, stream)
        waiting = asyncio.ensure_future(anext(stream))
        for _ in range(round((HEARTBEAT_S + NEWS_S) / MIN_GAP_S)):
            rig.view.put((SOC, 1))
            await settle()
            rig.clock.advance(MIN_GAP_S)
            await settle()
        assert waiting.done()
        assert (await waiting).startswith("event: beat")

    run(test)


def test_news_of_the_ledger_are_told_once_and_no_faster_than_people_look() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream()
        await rig.after(0, stream)
        for number in range(8, 12):
            rig.newest = number
        assert await quiet(rig, stream, NEWS_S) == 'event: news\ndata: {"newest": 11}\n\n'
        rig.view.put((SOC, 81))
        rig.newest = 12
        assert parse(await rig.after(0, stream)) == ("change", {"battery1.soc_pct": 81})
        waiting = asyncio.ensure_future(anext(stream))
        for seconds in (0, MIN_GAP_S, NEWS_S):
            assert not waiting.done()
            rig.clock.advance(seconds)
            await settle()
        assert await waiting == 'event: news\ndata: {"newest": 12}\n\n'

    run(test)


def test_a_client_that_fell_behind_gets_a_fresh_snapshot() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream("battery1")
        await rig.after(0, stream)
        for word in range(1000):
            rig.view.put((SOC, word))
        kind, values = parse(await rig.after(0, stream))
        assert kind == "snapshot"
        assert values["battery1.soc_pct"] == 999
        rig.view.put((SOC, 5))
        assert parse(await rig.after(MIN_GAP_S, stream)) == ("change", {"battery1.soc_pct": 5})

    run(test)


def test_signals_that_a_new_configuration_brings_are_shown() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream()
        await rig.after(0, stream)
        rig.view.known = [*rig.view.known, RETIRED]
        rig.view.put((RETIRED, 3))
        kind, values = parse(await rig.after(0, stream))
        assert kind == "snapshot"
        assert values["old.power_w"] == 3

    run(test)


def test_closing_ends_waiting_streams_at_once_and_allows_no_more() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream()
        await rig.after(0, stream)
        waiting = asyncio.ensure_future(anext(stream))
        await settle()
        assert not rig.streams.full
        rig.streams.close()
        await settle()
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert rig.streams.full

    run(test)


def test_places_are_limited_and_given_back() -> None:
    async def test(rig: Rig) -> None:
        streams = [rig.stream() for _ in range(MAX_STREAMS)]
        for stream in streams:
            assert not rig.streams.full
            await anext(stream)
        assert rig.streams.full
        await streams[0].aclose()
        assert not rig.streams.full

    run(test)


def test_the_queue_of_a_stream_is_bounded() -> None:
    async def test(rig: Rig) -> None:
        stream = rig.stream()
        await anext(stream)
        for _ in range(2000):
            rig.view.hub.publish(Batch([1], [1], [1]))
        assert rig.view.hub.counters()["dropped_batches"] > 1000

    run(test)


def test_the_first_event_tells_how_soon_to_come_back() -> None:
    async def test(rig: Rig) -> None:
        assert (await anext(rig.stream())).startswith(f"retry: {live.RETRY_MS}\n")

    run(test)


def test_live_values_have_the_fields_of_the_described_ones() -> None:
    clock = FakeClock()
    view = FakeView(clock)
    view.put((SOC, 80))
    for latest in view.latest(view.signals()):
        assert set(value_fields(latest)) == set(ValueOut.model_fields)
        assert ValueOut.of(latest).model_dump() == value_fields(latest)


def test_labels_travel_with_values() -> None:
    async def test(rig: Rig) -> None:
        rig.view.put((MODE, 2))
        event = await anext(rig.stream())
        values = cast("list[dict[str, object]]", json.loads(event.partition("data: ")[2])["values"])
        assert [value["label"] for value in values if value["name"] == "battery1.state"] == ["idle"]

    run(test)
