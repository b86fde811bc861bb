"""Meters for tests: a language of their own (``<5>`` is a good telegram that says 5), and a line to them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

from agent.core.clock import Clock, FakeClock
from agent.core.errors import Unavailable
from agent.core.model import BadFrame
from drivers.codec.telegram import Reading, Telegram
from drivers.line import Line

MAX_TEXT = 32
#: So many turns of the loop, and whoever waits now waits for time.
TURNS = 25

T = TypeVar("T")
Meter = Callable[[bytes, int, str], Sequence[tuple[float, bytes]]]


class BracketCodec:
    """Each telegram says its number as power in kW, and 50 Hz. ``<x!>`` is a bad telegram for the reason x."""

    limit = MAX_TEXT

    def __init__(self) -> None:
        self._waiting: bytearray | None = None
        self.resets = 0

    def feed(self, data: bytes) -> Sequence[Telegram | BadFrame]:
        found: list[Telegram | BadFrame] = []
        for byte in data:
            if byte == ord("<"):
                self._waiting = bytearray()
            elif self._waiting is None:
                continue
            elif byte == ord(">"):
                found.append(self._telegram(self._waiting.decode("latin-1")))
                self._waiting = None
            elif len(self._waiting) < MAX_TEXT:
                self._waiting.append(byte)
        return found

    def end(self) -> Sequence[Telegram | BadFrame]:
        cut_off, self._waiting = self._waiting is not None, None
        return [BadFrame("truncated")] if cut_off else []

    def reset(self) -> None:
        self._waiting = None
        self.resets += 1

    def _telegram(self, text: str) -> Telegram | BadFrame:
        if text.endswith("!"):
            return BadFrame(text[:-1])
        try:
            value = float(text)
        except ValueError:
            return BadFrame("bad_checksum")
        return Telegram(
            "M1", (Reading("1-0:16.7.0", value, "kW", "power_w", 1000), Reading("1-0:14.7.0", 50, "Hz", "frequency_hz"))
        )


def telegram(number: float) -> bytes:
    """The telegram that says this number."""
    return f"<{number}>".encode()


class FakeLine(Line):
    """A line to a meter that is a function: (what it heard, baud, framing) -> (seconds, bytes) that it says, in order.

    ``said`` keeps each message that was written, with the speed at which it was.
    """

    fixed = False

    def __init__(self, clock: Clock, meter: Meter, baud: int, framing: str) -> None:
        super().__init__("fake", -1)
        self._clock = clock
        self._meter = meter
        self.speed = (baud, framing)
        self.said: list[tuple[bytes, int, str]] = []
        self.gone: str | None = None
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._speaking: set[asyncio.Task[None]] = set()

    async def read(self) -> bytes:
        return await self._heard.get()

    async def write(self, data: bytes) -> None:
        self.said.append((data, *self.speed))
        self.say(self._meter(data, *self.speed))

    def say(self, answer: Sequence[tuple[float, bytes]]) -> None:
        task = asyncio.create_task(self._say(answer))
        self._speaking.add(task)
        task.add_done_callback(self._speaking.discard)

    async def _say(self, answer: Sequence[tuple[float, bytes]]) -> None:
        for pause_s, data in answer:
            if pause_s:
                await self._clock.sleep_s(pause_s)
            if data:
                self._heard.put_nowait(data)

    def drain(self) -> int:
        thrown = 0
        while not self._heard.empty():
            thrown += len(self._heard.get_nowait())
        return thrown

    async def set_line(self, baud: int, framing: str) -> None:
        self.speed = (baud, framing)

    def check(self) -> None:
        if self.gone:
            raise Unavailable("read fake", self.gone)

    def close(self) -> None:
        for task in self._speaking:
            task.cancel()

    @property
    def _hint(self) -> str:
        return ""


async def with_time(clock: FakeClock, doing: Coroutine[object, object, T]) -> T:
    """Run it, and let time pass whenever everybody waits for time."""
    task = asyncio.ensure_future(doing)
    while not task.done():
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if clock._sleepers and not task.done():
            clock.advance(max(0.0, clock._sleepers[0][0] - clock.monotonic_s()))
    return task.result()
