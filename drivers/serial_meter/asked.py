"""A wire on which meters are asked (M-Bus, D0 with a request). ``Poller`` of the ports.

Rules of this file:

1. One question at a time; before each one, what still comes in of an earlier answer is thrown away.
2. Level converters and optical heads send our own bytes back: an echo is taken off the answer, whole or not at all.
3. Time-outs are the protocol's, counted on the Clock from the end of our question: our own bytes need their time on the
   wire, and so does the answer. A serial server adds its own delay.
4. No answer at all is ``NoAnswer``; what is no answer to this question is ``BadData``; ``Unavailable`` is the wire's.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from agent.core.clock import Clock
from agent.core.errors import BadData, Unavailable
from agent.core.ports import PolledUnit, PollJob, Sink
from drivers.codec.telegram import Telegram
from drivers.line import Line, open_line
from drivers.serial_meter.push import MAX_RETRY_S, OpenLine
from drivers.serial_meter.settings import DEFAULT_EVERY_S, MeterSettings
from drivers.serial_meter.signals import PERIODS, MeterSignals
from drivers.waiting import within

#: What adapters and the machine may take on top of the protocol's times.
SLACK_S = 0.1
#: What a serial server may take on top of that, in each direction.
NETWORK_S = 0.5
#: What an answer may have at most; nothing that a meter says is that long.
MAX_ANSWER = 1 << 16


class Echo:
    """Takes our own bytes off the beginning of an answer. Pure."""

    def __init__(self, question: bytes) -> None:
        self._expected = question
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of these bytes is not echo, as far as that can be said."""
        if not self._expected:
            return data
        self._held += data
        question = self._expected
        if self._held.startswith(question):
            data, self._expected, self._held = self._held[len(question) :], b"", b""
            return data
        if question.startswith(self._held):
            return b""
        data, self._expected, self._held = self._held, b"", b""
        return data


class AskedWire:
    """One port and the meters on it. ``line``: speed and framing when it is opened."""

    def __init__(self, port: str, line: tuple[int, str], clock: Clock, opener: OpenLine = open_line) -> None:
        self.clock = clock
        self._port = port
        self._settings = line
        self._opener = opener
        self._line: Line | None = None
        self._units: tuple[PolledUnit, ...] = ()
        self._echo = Echo(b"")
        self._quiet_s = 0.0
        self.shown_s = 0.0  #: until when it waits for bytes: a long answer on a slow line takes more than a minute
        self.baud, self.framing = line

    def join(self, units: Sequence[PolledUnit]) -> None:
        """Say who is on the wire, once, before it is used."""
        self._units = tuple(units)

    @property
    def name(self) -> str:
        """The port as it is configured."""
        return self._port

    @property
    def units(self) -> Sequence[PolledUnit]:
        """Who is on it."""
        return self._units

    @property
    def max_retry_s(self) -> float:
        """Opening a port costs little."""
        return MAX_RETRY_S

    async def open(self) -> None:
        """Open. Raises ``Unavailable`` or ``Unsupported``."""
        await self.close()
        self._line = await self._opener(self._port, *self._settings)
        self.baud, self.framing = self._settings

    async def close(self) -> None:
        """Close; also after a failed open, and twice."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    @property
    def fixed(self) -> bool:
        """Whether the far end alone sets the speed."""
        return self._opened.fixed

    async def switch(self, baud: int, framing: str) -> None:
        """Change speed and framing of the open line. Raises ``Unavailable`` or ``Unsupported``."""
        if (baud, framing) != (self.baud, self.framing):
            await self._opened.set_line(baud, framing)
            if not self._opened.fixed:
                self.baud, self.framing = baud, framing

    def disturbed(self, quiet_s: float) -> None:
        """Something went wrong: before the next question wait until nobody has spoken for so long."""
        self._quiet_s = quiet_s

    async def ask(self, question: bytes) -> None:
        """Send a question, and wait until it is on the wire to its last bit.

        Raises ``Unavailable``, or ``BadData`` when somebody speaks without end.
        """
        line = self._opened
        line.check()
        await self._hush(line)
        line.drain()
        self._echo = Echo(question)
        await line.write(question)
        await self.clock.sleep_s(self.duration_s(len(question)))

    async def answer(self, within_s: float) -> bytes:
        """The next bytes of the answer; none when none came within that time and the slack of such a wire."""
        line = self._opened
        give_up_s = self.clock.monotonic_s() + within_s + SLACK_S + (2 * NETWORK_S if line.fixed else 0)
        self.shown_s = give_up_s
        while (left_s := give_up_s - self.clock.monotonic_s()) > 0:
            data = await within(self.clock, left_s, line.read())
            if data is None:
                break
            if data := self._echo.feed(data):
                return data
        return b""

    async def _hush(self, line: Line) -> None:
        """A late answer comes to its end before anything else is asked."""
        quiet_s, self._quiet_s = self._quiet_s, 0.0
        heard = 0
        while quiet_s and (data := await within(self.clock, quiet_s, line.read())):
            heard += len(data)
            if heard > MAX_ANSWER:
                self.disturbed(quiet_s)
                raise BadData(f"ask on {self.name}", "somebody speaks all the time", "does another master ask here?")

    def duration_s(self, characters: int) -> float:
        """How long so many characters take."""
        return characters * bits_of(self.framing) / self.baud

    @property
    def _opened(self) -> Line:
        if self._line is None:
            raise Unavailable(f"read {self._port}", "the port is not open")
        return self._line


class AskedMeter(ABC):
    """One meter on such a wire. ``PolledUnit`` of the ports; what it is asked is the protocol's."""

    def __init__(self, settings: MeterSettings, wire: AskedWire) -> None:
        self._wire = wire
        self._op = f"read {settings.device}"
        self._every_s = settings.every_s or DEFAULT_EVERY_S
        self._stale_after_s = settings.stale_after_s or PERIODS * self._every_s
        self._signals = MeterSignals(settings.device, settings.port, keep_unmapped=settings.keep_unmapped)
        self._jobs = (PollJob(self._every_s, self._run),)

    @property
    def device(self) -> str:
        """The id of the meter."""
        return self._signals.device

    @property
    def jobs(self) -> Sequence[PollJob]:
        """One: its readout."""
        return self._jobs

    @property
    def signals(self) -> Sequence[int]:
        """What it has delivered so far."""
        return self._signals.ids

    def forget(self) -> None:
        """The next readout gives everything in full, and begins with a reset where the protocol has one."""
        self._signals.forget()

    async def _run(self, sink: Sink) -> None:
        telegrams = await self.readout(sink)
        sink.count("telegrams", len(telegrams))
        now_us, now_s = self._wire.clock.now_us(), self._wire.clock.monotonic_s()
        await self._signals.take(telegrams, sink, now_us, now_s)
        self._signals.expire(sink, now_us, now_s, self._stale_after_s)

    @abstractmethod
    async def readout(self, sink: Sink) -> Sequence[Telegram]:
        """Ask, and give what the meter says. Raises ``NoAnswer``, ``BadData`` or ``Unavailable``."""

    def _bad(self, reason: str, text: str, hint: str, sink: Sink) -> BadData:
        sink.count(f"bad.{reason}")
        return BadData(self._op, text, hint)


def bits_of(framing: str) -> int:
    """Bits of a character: start, data, parity, stop."""
    return 1 + int(framing[0]) + (framing[1] != "N") + int(framing[2:])
