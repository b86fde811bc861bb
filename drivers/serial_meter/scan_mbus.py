"""Finding the slaves of an M-Bus: by secondary address, and by primary address those that know no other.

Rules of this file (clauses of EN 13757-7 unless said otherwise):

1. A speed is the right one when anything at all answers the reset of address 254, to which every slave answers, or the
   selection of all: several answers at once are garbage.
2. Slaves are found by their identification numbers with wildcards (``find_secondary``): one sound acknowledgement and
   one sound telegram are one slave, anything else that is heard are several.
3. New meters of one delivery have numbers in sequence and nothing counted yet: bit by bit together, their telegrams can
   make a sound one. So where wildcards found one slave, its neighbours are asked for by the last digit.
4. Noise must not make the search endless: it ends after ``_MAX_FRUITLESS`` questions in a row that found nobody, more
   than the way from one slave to the next can need (ten digits in each of eight places).
"""

from dataclasses import dataclass

from agent.core.errors import Unsupported
from agent.core.model import BadFrame
from drivers.codec.mbus import MbusCodec
from drivers.codec.mbus_frame import MAX_FRAME, Ack, Frame, FrameReader, LongFrame, checksum
from drivers.codec.mbus_request import (
    BROADCAST_WITH_REPLY,
    MAX_PRIMARY,
    SELECTED,
    Answer,
    find_secondary,
    req_ud2,
    select,
    snd_nke,
)
from drivers.codec.telegram import Telegram
from drivers.serial_meter.asked import AskedWire
from drivers.serial_meter.mbus import ANSWER_BITS, ANSWER_S, GAP_BITS
from drivers.serial_meter.scan import FoundMeter, PortSearch, Settings, telegram_found

BAUDS = (2400, 300, 9600)
FRAMING = "8E1"
_USUAL_BAUD = 2400
_MAX_FRUITLESS = 100
_MAX_HEARD = 4 * MAX_FRAME
#: A question is asked again once: slaves may miss one.
_TRIES = 2
_ANY = "F"
_NUMBER_DIGITS, _ADDRESS_DIGITS = 8, 16
#: By control information: variable data with a long header, fixed data; a set bit 2 means high byte first.
_VARIABLE, _FIXED, _HIGH_FIRST = 0x72, 0x73, 0x04


@dataclass(frozen=True, slots=True)
class _Heard:
    """What came back on a question."""

    count: int
    frames: tuple[Frame | BadFrame, ...]

    @property
    def acknowledged(self) -> bool:
        """One sound acknowledgement, and nothing else."""
        return self.count == len(self.frames) == 1 and isinstance(self.frames[0], Ack)

    @property
    def slave(self) -> LongFrame | None:
        """The one slave that answered with data, and nothing else came."""
        if len(self.frames) == 1 and isinstance(self.frames[0], LongFrame) and not self.frames[0].from_master:
            return self.frames[0]
        return None


async def ask_mbus(search: PortSearch, bauds: tuple[int, ...] = BAUDS) -> bool:
    """Look for slaves; whether any was found. Raises ``Unavailable``."""
    for baud in bauds:
        wire = AskedWire(search.port, (baud, FRAMING), search.clock, search.opener)
        try:
            await wire.open()
            fixed = wire.fixed
            bus = _Bus(search, wire)
            search.watch.step(f"{search.port} {baud} {FRAMING}: asking for M-Bus slaves", "", bus.patience_s)
            if await bus.is_there():
                return await bus.search()
        except Unsupported:
            continue
        finally:
            await wire.close()
        if fixed:
            break
    return False


class _Bus:
    """An M-Bus at a speed."""

    def __init__(self, search: PortSearch, wire: AskedWire) -> None:
        self._search = search
        self._wire = wire
        self._found = 0
        self._name = f"{search.port} {wire.baud} {wire.framing}"
        self.patience_s = ANSWER_BITS / wire.baud + ANSWER_S

    async def is_there(self) -> bool:
        """Whether any slave answers at this speed (rule 1)."""
        everybody = _ANY * _ADDRESS_DIGITS
        for question in (snd_nke(BROADCAST_WITH_REPLY), select(everybody)):
            if (await self._ask(question)).count:
                return True
        return False

    async def search(self) -> bool:
        """Find the slaves; whether any was found."""
        await self._by_secondary()
        if not self._found:
            await self._by_primary()
        if not self._found:
            self._search.watch.say(f"{self._name}: something answers on the M-Bus, but no slave could be told apart")
        return bool(self._found)

    async def _by_secondary(self) -> None:
        masks = find_secondary()
        mask: str | None = next(masks)
        fruitless = 0
        while mask is not None and fruitless < _MAX_FRUITLESS:
            self._search.watch.step(
                f"{self._name}: searching M-Bus numbers", f"{mask[:_NUMBER_DIGITS]}, {self._found} found", 0
            )
            answer, frame = await self._probe(mask)
            fruitless += 1
            if frame is not None:
                fruitless = 0
                address = _secondary(frame, mask)
                self._tell(frame, address)
                if _ANY in mask[:_NUMBER_DIGITS]:
                    await self._neighbours(address)
            elif answer is Answer.MANY and _ANY not in mask[:_NUMBER_DIGITS]:
                self._search.watch.say(f"{self._name}: several M-Bus slaves have the number {mask[:_NUMBER_DIGITS]}")
            try:
                mask = masks.send(answer)
            except StopIteration:
                mask = None
        await self._ask(snd_nke(SELECTED))
        if mask is not None:
            self._search.watch.say(f"{self._name}: the search for M-Bus slaves was given up, the answers make no sense")

    async def _neighbours(self, address: str) -> None:
        """Look for slaves whose number differs from a found one in the last digit only (rule 3)."""
        number = address[:_NUMBER_DIGITS]
        if len(address) != _ADDRESS_DIGITS or not number.isdecimal():
            return
        for digit in "0123456789":
            if digit != number[-1]:
                mask = number[:-1] + digit + _ANY * (_ADDRESS_DIGITS - _NUMBER_DIGITS)
                _, frame = await self._probe(mask, tries=1)
                if frame is not None:
                    self._tell(frame, _secondary(frame, mask))

    async def _probe(self, mask: str, tries: int = _TRIES) -> tuple[Answer, LongFrame | None]:
        """Select by a mask, and read who is selected."""
        heard = _Heard(0, ())
        for _ in range(tries):
            heard = await self._ask(select(mask))
            if heard.count:
                break
        else:
            return Answer.NONE, None
        if not heard.acknowledged:
            return Answer.MANY, None
        for _ in range(_TRIES):
            heard = await self._ask(req_ud2(SELECTED, fcb=True))
            if heard.count:
                break
        frame = heard.slave
        return (Answer.MANY, None) if frame is None else (Answer.ONE, frame)

    async def _by_primary(self) -> None:
        for address in range(MAX_PRIMARY + 1):
            left_s = (MAX_PRIMARY + 1 - address) * self.patience_s
            self._search.watch.step(f"{self._name}: trying M-Bus addresses", f"{address}, {self._found} found", left_s)
            if (await self._ask(snd_nke(address))).count:
                frame = (await self._ask(req_ud2(address, fcb=True))).slave
                if frame is not None:
                    self._tell(frame, str(address))

    def _tell(self, frame: LongFrame, address: str) -> None:
        settings: Settings = {} if self._wire.fixed else _speed(self._wire.baud)
        settings["address"] = address
        self._found += 1
        for one in MbusCodec().feed(_raw(frame)):
            if isinstance(one, Telegram):
                self._search.found(telegram_found(self._search.port, "mbus", one, settings))
            else:
                note = f"its telegram can't be read: {one.reason.replace('_', ' ')}"
                self._search.found(FoundMeter(self._search.port, "mbus", tuple(settings.items()), notes=(note,)))

    async def _ask(self, question: bytes) -> _Heard:
        await self._wire.ask(question)
        reader, frames, count, wait_s = FrameReader(), list[Frame | BadFrame](), 0, self.patience_s
        while count < _MAX_HEARD and (data := await self._wire.answer(wait_s)):
            count += len(data)
            frames += reader.feed(data)
            wait_s = GAP_BITS / self._wire.baud
        return _Heard(count, tuple(frames))


def _speed(baud: int) -> Settings:
    return {} if baud == _USUAL_BAUD else {"baud": baud}


def _secondary(frame: LongFrame, mask: str) -> str:
    """The secondary address that a telegram begins with; of other forms of telegrams the primary one, or the mask."""
    data = frame.data
    if len(data) < _ADDRESS_DIGITS // 2:
        return mask
    if frame.information == _VARIABLE:
        return (data[3::-1] + data[4:8]).hex().upper()
    if frame.information & ~_HIGH_FIRST in {_VARIABLE, _FIXED}:
        number = data[:4] if frame.information & _HIGH_FIRST else data[3::-1]
        return number.hex().upper() + _ANY * (_ADDRESS_DIGITS - _NUMBER_DIGITS)
    return str(frame.address) if 0 < frame.address <= MAX_PRIMARY else mask


def _raw(frame: LongFrame) -> bytes:
    """A sound frame as it stood on the wire."""
    body = bytes((frame.control, frame.address, frame.information)) + frame.data
    return bytes((0x68, len(body), len(body), 0x68)) + body + bytes((checksum(body), 0x16))
