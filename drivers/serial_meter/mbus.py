"""Reading meters on the M-Bus (EN 13757-2 and -3), by primary or by secondary address.

Rules of this file (clauses of EN 13757-2):

1. A slave answers between 11 and 330 bit times + 50 ms after our last bit (5.6.1); two questions are never closer than
   that. A question without a sound answer is repeated, with the same frame count bit, ``REPEATS`` times.
2. The first question to a slave, and the first after it failed, resets its link: then its frame count is known. Who
   does not acknowledge that is asked all the same, but once only: so a dead meter costs little of the wire's time.
3. Who is read by secondary address is selected before each readout, for another one may be selected by now.
4. An answer counts when it is from whom we asked: by its address, or by its number where it was selected. All others
   (late ones, our own echo) are as if nobody had spoken. Where one meter alone is read, nobody else can be late: its
   answer counts whatever address it gives, for some give another one than they listen to.
"""

from collections.abc import Sequence

from agent.core.errors import DeviceError, NoAnswer
from agent.core.model import BadFrame
from agent.core.ports import Sink
from drivers.codec.mbus import MbusCodec
from drivers.codec.mbus_frame import MAX_FRAME, Ack, Frame, FrameReader, LongFrame, checksum
from drivers.codec.mbus_request import SELECTED, Readout, secondary_bytes, select, snd_nke
from drivers.codec.telegram import Telegram
from drivers.serial_meter.asked import AskedMeter, AskedWire
from drivers.serial_meter.settings import ANYBODY, MeterSettings

REPEATS = 2
ANSWER_BITS = 330
ANSWER_S = 0.05
#: The longest pause within an answer; the standard allows none, adapters make some.
GAP_BITS = 33

#: More than two frames can't be the answer to one question.
MAX_HEARD = 2 * MAX_FRAME

#: By control information: how many bytes of the secondary address an answer begins with. Variable data have all eight,
#: fixed data (the older structure) the number alone; of those that send the high byte first the number is enough.
_KNOWN = {0x72: 8, 0x73: 4, 0x76: 4, 0x77: 4}
_HIGH_FIRST = 0x04
_ANY = 0xF


class MbusMeter(AskedMeter):
    """One slave. ``settings.address`` is its primary address, or its secondary one as 16 hex digits."""

    def __init__(self, settings: MeterSettings, wire: AskedWire) -> None:
        super().__init__(settings, wire)
        address = settings.address or "0"
        self._secondary = address if settings.secondary else None
        self._address = SELECTED if settings.secondary else int(address)
        self._known = False  #: the state of the slave's link is
        self._readout_of = Readout(self._address)
        self._frames = FrameReader()
        self._codec = MbusCodec()

    def forget(self) -> None:
        """The next readout gives everything in full, and begins with a reset of the link."""
        super().forget()
        self._known = False

    async def readout(self, sink: Sink) -> Sequence[Telegram]:
        """See ``AskedMeter``."""
        try:
            repeats = REPEATS if await self._prepare() else 0
            self._known = True
            whole: Telegram | None = None
            while whole is None:
                readout = self._readout_of
                whole = readout.answered(await self._ask(readout.question, repeats, sink))
                repeats = REPEATS
        except DeviceError:
            self._known = False
            self._wire.disturbed(self._patience_s)
            raise
        return [whole]

    async def _prepare(self) -> bool:
        """Bring the link into a known state, and select. Whether the slave has shown that it is there."""
        answers = self._known or await self._acknowledged(snd_nke(self._address))
        if self._secondary is None:
            if not self._known:
                self._readout_of = Readout(self._address)
            return answers
        self._readout_of = Readout(self._address)  # the frame count of who was just selected begins anew
        for _ in range(REPEATS + 1):
            if await self._acknowledged(select(self._secondary)):
                return True
        raise NoAnswer(self._op, "no meter has this secondary address", "check `address:` and the meter's wiring")

    async def _acknowledged(self, question: bytes) -> bool:
        await self._wire.ask(question)
        self._frames.reset()
        wait_s = self._patience_s
        while data := await self._wire.answer(wait_s):
            if any(isinstance(frame, Ack) for frame in self._frames.feed(data)):
                return True
            wait_s = self._gap_s
        return False

    async def _ask(self, question: bytes, repeats: int, sink: Sink) -> Telegram:
        """A telegram of this slave."""
        reason = ""
        for attempt in range(repeats + 1):
            if attempt:
                self._wire.disturbed(self._patience_s)
            await self._wire.ask(question)
            found = await self._telegram(sink)
            if isinstance(found, Telegram):
                return found
            reason = found or reason
        if reason:
            raise self._bad("answer", f"what the meter answers is bad: {reason}", "check `baud:` and the wiring", sink)
        raise NoAnswer(self._op, "the meter does not answer", "check `address:`, `baud:` and the wiring")

    async def _telegram(self, sink: Sink) -> Telegram | str:
        """What is answered now, or what was wrong with it; empty when nothing came from this slave."""
        self._frames.reset()
        heard, understood, reason, wait_s = 0, False, "", self._patience_s
        while heard <= MAX_HEARD and (data := await self._wire.answer(wait_s)):
            heard += len(data)
            wait_s = self._gap_s
            for frame in self._frames.feed(data):
                found = self._judge(frame, sink)
                if isinstance(found, Telegram):
                    return found
                understood = True
                reason = found or reason
        if heard and not understood:
            reason = "incomplete"
            sink.count("bad.incomplete")
        return reason

    def _judge(self, frame: Frame | BadFrame, sink: Sink) -> Telegram | str:
        """The telegram of a frame, what is wrong with it, or nothing when it is not for us."""
        if isinstance(frame, LongFrame):
            if frame.from_master:
                return ""
            if not self._is_mine(frame):
                sink.count("late")
                return ""
            self._codec.reset()
            for found in self._codec.feed(_raw(frame)):
                if isinstance(found, Telegram):
                    return found
                sink.count(f"bad.{found.reason}")
                return found.reason
        elif isinstance(frame, BadFrame):
            sink.count(f"bad.{frame.reason}")
            return frame.reason
        return ""

    def _is_mine(self, frame: LongFrame) -> bool:
        """Whether it comes from the slave that was asked."""
        if self._secondary is None:
            return self._address in {frame.address, ANYBODY} or len(self._wire.units) == 1
        wanted = secondary_bytes(self._secondary)
        sent = frame.data[: _KNOWN.get(frame.information, 0)]
        if frame.information & _HIGH_FIRST:
            sent = sent[::-1]
        return all(_fits(mask, byte) for mask, byte in zip(wanted, sent, strict=False))

    @property
    def _patience_s(self) -> float:
        return ANSWER_BITS / self._wire.baud + ANSWER_S

    @property
    def _gap_s(self) -> float:
        return GAP_BITS / self._wire.baud


def _fits(mask: int, byte: int) -> bool:
    """Whether a byte of a secondary address is what was asked for; a digit F stands for any."""
    return all((mask >> shift & _ANY) in {_ANY, byte >> shift & _ANY} for shift in (0, 4))


def _raw(frame: LongFrame) -> bytes:
    """A sound frame as it stood on the wire."""
    body = bytes((frame.control, frame.address, frame.information)) + frame.data
    return bytes((0x68, len(body), len(body), 0x68)) + body + bytes((checksum(body), 0x16))
