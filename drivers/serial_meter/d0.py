"""Asking a meter for its readout over IEC 62056-21 modes A, B, C and E (as C): the dialogue, its speeds, its times.

Rules of this file (clauses of IEC 62056-21:2002):

1. Each dialogue begins at the wire's own speed, 300 baud where nothing else is configured (6.2).
2. A meter answers after 20 or 200 ms, at most 1.5 s, and pauses at most 1.5 s between two characters (6.3.14, tr, ta).
   We keep the shortest pause too before we acknowledge.
3. Mode C: ``ACK 0 Z 0`` takes up the speed that the meter offers; we change when its last bit has left. Mode B: the
   meter changes by itself. Mode A: nobody changes (6.4).
4. Behind a serial server the speed is fixed: mode C meters are asked to stay at it, mode B meters can't be read.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent.core.errors import DeviceError, NoAnswer, Unsupported
from agent.core.ports import Sink
from drivers.codec.d0 import D0Codec
from drivers.codec.d0_request import Ident, acknowledge, request
from drivers.codec.telegram import Telegram
from drivers.serial_meter.asked import AskedMeter, AskedWire
from drivers.serial_meter.settings import MeterSettings

REACTION_S = 1.5
#: From the last bit of the acknowledgement to the change of speed: what adapters are behind.
SWITCH_S = 0.01
MAX_IDENT = 256

_LETTERS = {300: "0", 600: "1", 1200: "2", 2400: "3", 4800: "4", 9600: "5", 19_200: "6"}


class D0Meter(AskedMeter):
    """One meter that is asked for its readout. Raises ``ConfigError`` for an address that is none."""

    def __init__(self, settings: MeterSettings, wire: AskedWire) -> None:
        super().__init__(settings, wire)
        self._line = settings.line
        self._request = request(settings.address or "")
        self._codec = D0Codec()

    async def readout(self, sink: Sink) -> Sequence[Telegram]:
        """See ``AskedMeter``."""
        self._codec.reset()
        await self._wire.switch(*self._line)
        try:
            begun, ident = await self._identify(sink)
            await self._agree(ident)
            telegram = await self._listen(begun, sink)
        except DeviceError:
            self._wire.disturbed(REACTION_S)
            raise
        await self._wire.switch(*self._line)
        return [telegram]

    async def _identify(self, sink: Sink) -> tuple[bytes, Ident]:
        """The identification and what came with it. What stands in front of it is noise, or an echo with a fault."""
        await self._wire.ask(self._request)
        heard = bytearray()
        while len(heard) < MAX_IDENT and (data := await self._wire.answer(REACTION_S)):
            heard += data
            position = 0
            for line in heard.splitlines(keepends=True):
                ident = Ident.parse(bytes(line)) if line.endswith(b"\n") else None
                if ident is not None:
                    return bytes(heard[position:]), ident
                position += len(line)
        if not heard:
            hint = "check the optical head's place, `address:` and `baud:`"
            raise NoAnswer(self._op, "the meter does not answer the request", hint)
        raise self._bad("no_ident", "what came is no identification", "check `baud:` and `framing:`", sink)

    async def _agree(self, ident: Ident) -> None:
        """Acknowledge, and change to the speed of the readout."""
        wire = self._wire
        if wire.fixed:
            if ident.mode == "B" and ident.baud != wire.baud:
                reason = f"the meter changes to {ident.baud} baud by itself, the serial server can't"
                raise Unsupported(self._op, reason, "connect it to a serial port of this machine")
            ident = replace(ident, letter=_LETTERS.get(wire.baud, "0"), baud=None)
        answer = acknowledge(ident)
        if answer:
            await wire.clock.sleep_s(ident.reaction_s)
            await wire.ask(answer)
            await wire.clock.sleep_s(SWITCH_S)
        if ident.baud is not None:
            await wire.switch(ident.baud, wire.framing)

    async def _listen(self, begun: bytes, sink: Sink) -> Telegram:
        """The data that follow the identification."""
        heard, reason, data = 0, "", begun
        while data:
            for found in self._codec.feed(data):
                if isinstance(found, Telegram):
                    return found
                sink.count(f"bad.{found.reason}")
                reason = found.reason
            heard += len(data)
            data = await self._wire.answer(REACTION_S) if heard <= self._codec.limit else b""
        if heard == len(begun):
            raise self._bad("no_data", "no readout follows the identification", "can the head do its speed?", sink)
        hint = "check the optical head's place"
        raise self._bad("readout", f"the readout is bad: {reason or 'it has no end'}", hint, sink)
