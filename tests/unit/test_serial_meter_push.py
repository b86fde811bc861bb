"""A meter that speaks by itself: telegrams, bad ones, silence and faults, on a line and a clock of the test."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import DeviceError, Unavailable, Unsupported
from drivers.serial_meter.push import ENCRYPTED_PROOF, PushListener
from drivers.serial_meter.settings import MeterSettings
from tests.meters import TURNS, BracketCodec, FakeLine, telegram
from tests.sinks import RecordingSink

POWER, FREQUENCY = 1_000_000, 1_000_001


class Bench:
    """A listener that runs, and the meter's end of its line."""

    def __init__(self, stale_after_s: float | None = None) -> None:
        self.clock = FakeClock()
        self.sink = RecordingSink()
        self.codec = BracketCodec()
        self.lines: list[FakeLine] = []
        settings = MeterSettings("grid", "sml", "/dev/meter", stale_after_s=stale_after_s)
        self.listener = PushListener(settings, self.codec, self.clock, self._open)
        self.refuse: DeviceError | None = None
        self.closed = 0

    async def _open(self, port: str, baud: int, framing: str) -> FakeLine:
        assert (port, baud, framing) == ("/dev/meter", 9600, "8N1")
        if self.refuse is not None:
            raise self.refuse
        line = FakeLine(self.clock, lambda *_: (), baud, framing)
        self.lines.append(line)
        return line

    async def say(self, data: bytes, then_s: float = 1.0) -> None:
        """The meter says something, and time passes."""
        self.lines[-1].say([(0.0, data)])
        await self.wait(then_s)

    async def wait(self, seconds: float) -> None:
        """Let time pass in small steps, as it does."""
        for _ in range(round(seconds * 2)):
            for _ in range(TURNS):
                await asyncio.sleep(0)
            self.clock.advance(0.5)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def run(self, course: "Callable[[Bench], Awaitable[None]]") -> DeviceError | None:
        """Run the listener through a course; the error that ended it."""

        async def both() -> DeviceError | None:
            task = asyncio.create_task(self.listener.run(self.sink))
            await self.wait(0)
            await course(self)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(result, DeviceError | asyncio.CancelledError), result
            return result if isinstance(result, DeviceError) else None

        return asyncio.run(both())

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.sink.events]


def test_telegrams_become_samples_with_the_time_of_their_arrival() -> None:
    async def course(bench: Bench) -> None:
        await bench.say(b"<1", 0.5)
        await bench.say(b".5>")

    bench = Bench()
    start_us = bench.clock.now_us()
    assert bench.run(course) is None
    assert bench.sink.values() == {"grid.power_w": 1500.0, "grid.frequency_hz": 50.0}
    assert {row[1] for row in bench.sink.rows} == {start_us + 500_000}
    assert bench.sink.counts == {"telegrams": 1}
    assert bench.kinds == ["device.identity"]


def test_two_telegrams_in_one_piece_are_two_batches() -> None:
    bench = Bench()
    bench.run(lambda bench: bench.say(telegram(1) + b"noise" + telegram(2)))
    assert bench.sink.batches == 2
    assert len(bench.sink.words(POWER)) == 2
    assert bench.sink.touched == [FREQUENCY]


def test_bad_telegrams_are_counted_and_give_nothing() -> None:
    bench = Bench()
    bench.run(lambda bench: bench.say(b"<x><bad_line!>" + telegram(3)))
    assert bench.sink.counts == {"bad.bad_checksum": 1, "bad.bad_line": 1, "telegrams": 1}
    assert len(bench.sink.words(POWER)) == 1


def test_silence_makes_all_unknown_once_and_its_end_gives_all_in_full() -> None:
    async def course(bench: Bench) -> None:
        for _ in range(3):
            await bench.say(telegram(1))
        await bench.wait(60)
        await bench.say(telegram(1))

    bench = Bench()
    assert bench.run(course) is None
    assert bench.kinds == ["device.identity", "device.silent", "device.heard"]
    silent, heard = bench.sink.events[1:]
    assert silent.subject == heard.subject == "grid"
    assert silent.data["wire"] == heard.data["wire"] == "/dev/meter"
    silent_s = silent.data["silent_s"]
    assert isinstance(silent_s, float)
    assert 5 <= silent_s <= 6
    assert bench.sink.unknown() == [POWER, FREQUENCY]
    assert [row[3] for row in bench.sink.rows] == [True, True, False, False, True, True]
    assert bench.sink.touched == [POWER, FREQUENCY] * 2


def test_who_never_says_anything_is_silent_after_half_a_minute() -> None:
    bench = Bench()
    bench.run(lambda bench: bench.wait(120))
    assert bench.kinds == ["device.silent"]
    assert "nothing comes" in str(bench.sink.events[0].data["hint"])
    assert not bench.sink.rows


@pytest.mark.parametrize(
    ("data", "hint"),
    [(b"\x00\xff" * 20, "baud"), (b"<not_decrypted!>", "key_file"), (b"<bad_checksum!>", "framing")],
)
def test_bytes_without_a_telegram_say_what_to_look_at(data: bytes, hint: str) -> None:
    async def course(bench: Bench) -> None:
        for _ in range(15):
            await bench.say(data)

    bench = Bench(stale_after_s=10)
    bench.run(course)
    (event,) = bench.sink.events
    assert event.kind == "device.silent"
    assert hint in str(event.data["hint"])
    assert event.data["bytes"]


def test_an_encrypted_port_without_a_key_ends_for_good_with_the_hint() -> None:
    bench = Bench()
    error = bench.run(lambda bench: bench.say(b"<encrypted!>" * ENCRYPTED_PROOF))
    assert isinstance(error, Unsupported)
    assert "key_file" in error.hint


def test_one_encrypted_telegram_among_good_ones_is_noise() -> None:
    async def course(bench: Bench) -> None:
        for _ in range(2 * ENCRYPTED_PROOF):
            await bench.say(b"<encrypted!>" * (ENCRYPTED_PROOF - 1) + telegram(1))

    bench = Bench()
    assert bench.run(course) is None
    assert bench.sink.counts["telegrams"] == 2 * ENCRYPTED_PROOF


def test_a_port_that_was_replaced_ends_the_run_and_makes_all_unknown() -> None:
    async def course(bench: Bench) -> None:
        await bench.say(telegram(1))
        bench.lines[0].gone = "plugged in anew"
        await bench.wait(3)

    bench = Bench()
    error = bench.run(course)
    assert isinstance(error, Unavailable)
    assert bench.sink.unknown() == [POWER, FREQUENCY]


def test_half_a_telegram_before_a_fault_and_half_a_one_after_it_are_none() -> None:
    async def before(bench: Bench) -> None:
        await bench.say(telegram(1) + b"<12")
        bench.lines[0].gone = "pulled"
        await bench.wait(3)

    bench = Bench()
    assert isinstance(bench.run(before), Unavailable)
    assert bench.run(lambda bench: bench.say(b"34>" + telegram(1))) is None
    assert bench.sink.counts == {"telegrams": 2}
    assert len(bench.sink.words(POWER)) == 2  # given in full again: it was unknown meanwhile


def test_a_port_that_can_not_be_opened_again_says_so_and_unknown_is_said_once() -> None:
    async def pulled(bench: Bench) -> None:
        await bench.say(telegram(1))
        bench.lines[0].gone = "pulled"
        await bench.wait(3)

    async def nothing(_: Bench) -> None:
        """The listener has ended already."""

    bench = Bench()
    bench.run(pulled)
    bench.refuse = Unavailable("open /dev/meter", "no such file", "plug it in")
    assert bench.run(nothing) is bench.refuse
    assert bench.run(nothing) is bench.refuse
    assert bench.sink.unknown() == [POWER, FREQUENCY]


def test_a_silent_meter_stays_silent_over_a_new_opening() -> None:
    bench = Bench()
    bench.run(lambda bench: bench.wait(40))
    bench.run(lambda bench: bench.wait(40))
    assert bench.kinds == ["device.silent"]
    bench.run(lambda bench: bench.say(telegram(1)))
    assert bench.kinds[:2] == ["device.silent", "device.heard"]
