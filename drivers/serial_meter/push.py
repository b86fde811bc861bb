"""A meter that speaks by itself (DSMR, SML, D0 mode D): a wire with one device. ``Listener`` of the ports.

Rules of this file:

1. One task owns the wire: it reads, decodes and hands over; the codec says what is a telegram and what is not.
2. A telegram is stamped with the time at which its last byte was read, and handed over whole or not at all: when the
   wire fails, what had come of the next one is thrown away.
3. Silence makes all signals unknown, once; so does the end of the wire. Then the next telegram gives all in full.
4. An encrypted port without a key never will work as it is configured: that ends the wire for good. One bad telegram
   is no proof of it, ``ENCRYPTED_PROOF`` in a row are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from agent.core.clock import Clock
from agent.core.errors import DeviceError, Unsupported
from agent.core.model import BadFrame, Event
from agent.core.ports import Sink
from drivers.codec.telegram import Codec
from drivers.line import Line, open_line
from drivers.serial_meter.settings import MeterSettings
from drivers.serial_meter.signals import MeterSignals
from drivers.serial_meter.silence import Silence

#: The longest pause before the port is opened again: a meter that is plugged in again is read within 5 s.
MAX_RETRY_S = 3.0
#: How often silence is looked for, and whether the port still is the same one.
TICK_S = 1.0
ENCRYPTED_PROOF = 3

_NOTHING = "nothing comes: check the cable, and that the meter's port is switched on"
_WRONG_LINE = "bytes come, but no telegram: check `protocol:`, `baud:` and `framing:`"
_BAD = {
    "not_decrypted": "the telegrams can't be decrypted: check `key_file:` and `auth_key_file:`",
    "encrypted": "the telegrams are encrypted: ask the network operator for the key and write `key_file:`",
}

OpenLine: TypeAlias = Callable[[str, int, str], Awaitable[Line]]


class PushListener:
    """One port and the meter behind it."""

    def __init__(self, settings: MeterSettings, codec: Codec, clock: Clock, opener: OpenLine = open_line) -> None:
        self._settings = settings
        self._codec = codec
        self._clock = clock
        self._open = opener
        self._signals = MeterSignals(settings.device, settings.port, keep_unmapped=settings.keep_unmapped)
        self._silence = Silence(settings.stale_after_s)
        self._encrypted = 0
        self._bytes = 0  #: since the last good telegram
        self.shown_s = 0.0  #: when its loop last went round
        self._bad = ""  #: what was wrong with the last bad one since then

    @property
    def name(self) -> str:
        """The port as it is configured."""
        return self._settings.port

    @property
    def devices(self) -> Sequence[str]:
        """The id of the meter."""
        return (self._settings.device,)

    @property
    def max_retry_s(self) -> float:
        """Opening a port costs little."""
        return MAX_RETRY_S

    async def run(self, sink: Sink) -> None:
        """Open, read until cancelled, close. Raises ``Unavailable`` or ``Unsupported``."""
        try:
            line = await self._open(self._settings.port, *self._settings.line)
            try:
                await self._listen(line, sink)
            finally:
                line.close()
        except DeviceError:
            self._signals.lost(sink, self._clock.now_us())
            raise
        finally:
            self._codec.reset()
            self._signals.forget()

    async def _listen(self, line: Line, sink: Sink) -> None:
        self._silence.opened(self._clock.monotonic_s())
        self._forget_faults()
        reading = asyncio.ensure_future(self._read(line, sink))
        try:
            while not reading.done():
                timer = asyncio.ensure_future(self._clock.sleep_s(TICK_S))
                try:
                    await asyncio.wait({reading, timer}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    timer.cancel()
                if not reading.done():
                    line.check()
                    self._tick(sink, self._clock.monotonic_s())
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, line: Line, sink: Sink) -> None:
        while True:
            data = await line.read()
            await self._take(data, sink, self._clock.monotonic_s())

    async def _take(self, data: bytes, sink: Sink, now_s: float) -> None:
        now_us = self._clock.now_us()
        self._bytes += len(data)
        for found in self._codec.feed(data):
            if isinstance(found, BadFrame):
                sink.count(f"bad.{found.reason}")
                self._doubt(found)
                continue
            sink.count("telegrams")
            self._forget_faults()
            if self._silence.heard(now_s):
                self._tell("device.heard", {}, sink)
            await self._signals.take([found], sink, now_us, now_s)

    def _doubt(self, bad: BadFrame) -> None:
        self._bad = bad.reason
        if bad.reason == "encrypted":
            self._encrypted += 1
        if self._encrypted >= ENCRYPTED_PROOF:
            raise Unsupported(f"read {self.name}", "no key is configured", _BAD["encrypted"])

    def _forget_faults(self) -> None:
        self._encrypted, self._bytes, self._bad = 0, 0, ""

    def _tick(self, sink: Sink, now_s: float) -> None:
        self.shown_s = now_s
        silent_s = self._silence.tick(now_s)
        if silent_s is not None:
            self._signals.lost(sink, self._clock.now_us())
            hint = _BAD.get(self._bad, _WRONG_LINE) if self._bytes else _NOTHING
            data = {"silent_s": round(silent_s, 3), "bytes": self._bytes, "hint": hint}
            self._tell("device.silent", data, sink)
        elif not self._silence.silent:
            self._signals.expire(sink, self._clock.now_us(), now_s, self._silence.limit_s)

    def _tell(self, kind: str, data: dict[str, object], sink: Sink) -> None:
        sink.event(Event(kind, self._clock.now_us(), self._settings.device, {"wire": self.name, **data}))
