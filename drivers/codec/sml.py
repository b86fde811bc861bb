"""SML: what German electricity meters push out of their optical or serial port (BSI TR-03109-1, SML 1.04).

A transport frame (SML 1.04, chapter 8, version 1) holds the messages of one telegram::

    1B1B1B1B 01010101 | messages, 0 to 3 fill bytes | 1B1B1B1B 1A <fill bytes> <checksum, 2 bytes>

Rules of this file:

1. Four bytes 1B are an escape; the four bytes behind it say what for: four more 1B stand for themselves, 1A ends the
   frame, 01 01 01 01 begins one. Anything else can't be in a frame: bytes of it were lost.
2. A frame is taken when its checksum is right. Otherwise it is a ``BadFrame`` and the search for the next begin goes
   on *behind its first byte*: lost bytes can make an end swallow the begin behind it.
3. So are the checksums of all its messages, once this meter has shown that it has right ones. Some never have (eBZ DD3
   2R06), and no reader of the field looks at them; of damage that the frame's checksum lets through they leave nothing.
4. What is decided of a byte depends on the bytes before it and never on how they were cut into pieces.

The messages are decoded here and not by smllib, the oracle of the tests, which falls short: ``get_obis`` knows no codes
but those of electricity (group A = 1) and takes what looks like one out of a list's signature too; both it and
``parse_frame`` raise for the whole telegram when one entry has no value; neither looks at the messages' checksums. A
telegram takes it 340 to 650 µs (4 to 21 values), this 110 to 330 µs.
"""

from collections.abc import Iterator, Sequence

from agent.core.model import BadFrame, Number
from drivers.codec.obis import point_of
from drivers.codec.sml_tlv import Field, MalformedError, Message, checksums, read_messages
from drivers.codec.telegram import Reading, Telegram

_ESCAPE = b"\x1b" * 4
_BEGIN = _ESCAPE + b"\x01" * 4
_BEGIN_TAIL = _BEGIN[4:]
_END = 0x1A
_ESCAPE_SIZE = 8  #: an escape with the four bytes that say what it is for
_MAX_FILL = 3
_SAMPLE_BYTES = 64

_GET_LIST_RESPONSE = 0x0701
_MAX_SCALER = 32  #: far outside of any physical quantity; more is no meter

#: Who made the meter: the general code, and the one of meters before 2013.
_MANUFACTURER_CODES = ("1-0:96.50.1*1", "129-129:199.130.3*255")

#: DLMS unit codes (IEC 62056-6-2, table of the physical units): runs of codes that follow each other.
_UNITS = {
    first + i: unit
    for first, units in (
        (1, "a mo wk d h min s ° °C currency m m/s m³ m³ m³/h m³/h m³/d m³/d l kg N Nm Pa bar J J/h"),
        (27, "W VA var Wh VAh varh A C V V/m F Ω Ωm²/m Wb T A/m H Hz 1/(Wh) 1/(varh) 1/(VAh) V²h A²h kg/s S K"),
        (53, "1/(V²h) 1/(A²h) 1/m³ % Ah"),
        (60, "Wh/m³ J/m³ Mol% g/m³ Pas J/kg g/cm²"),
        (70, "dBm dBµV dB"),
    )
    for i, unit in enumerate(units.split())
}


class SmlCodec:
    """The ``Codec`` of SML meters. Words of its bad frames: ``truncated``, ``bad_escape``, ``bad_fill``, ``bad_crc``,
    ``bad_message_crc`` (rule 3), ``malformed``, ``too_long``.
    """  # noqa: D205 - one sentence

    limit = 4 * 1024  #: a telegram has 200 to 700 bytes; what crafted bytes cost grows with the square

    def __init__(self) -> None:
        self._buffer = b""
        self._seen = 0  #: bytes of the frame that begins the buffer in which escapes were looked for
        self._checked = False  #: whether this meter's messages have had right checksums

    def feed(self, data: bytes) -> Sequence[Telegram | BadFrame]:
        """What these bytes completed."""
        self._buffer += data
        return list(self._complete())

    def end(self) -> Sequence[Telegram | BadFrame]:
        """Nothing more comes: the frame that has begun was cut off."""
        bad = [BadFrame("truncated", self._buffer[:_SAMPLE_BYTES])] if self._seen else []
        self._drop(len(self._buffer))
        return bad

    def reset(self) -> None:
        """The line was interrupted: what waits inside is worth nothing. Another meter may stand behind it now."""
        self._drop(len(self._buffer))
        self._checked = False

    def _complete(self) -> Iterator[Telegram | BadFrame]:
        while self._at_begin():
            end = self._end()
            if end is None:
                return
            if isinstance(end, BadFrame):
                yield end
                continue
            result = self._decode(self._buffer[:end])
            self._drop(end if isinstance(result, Telegram) else 1)
            yield result

    def _decode(self, frame: bytes) -> Telegram | BadFrame:
        """One transport frame, from its begin to its checksum."""
        sample = frame[:_SAMPLE_BYTES]
        if frame[-2:] not in checksums(frame[:-2]):
            return BadFrame("bad_crc", sample)
        fill = frame[-3]
        if fill > _MAX_FILL or len(frame) - len(_BEGIN) - _ESCAPE_SIZE < fill:
            return BadFrame("bad_fill", sample)
        content = frame[len(_BEGIN) : len(frame) - _ESCAPE_SIZE - fill].replace(_ESCAPE * 2, _ESCAPE)
        try:
            messages = read_messages(content)
            telegram = _telegram(messages)
        except MalformedError as error:
            return BadFrame(str(error), sample)
        sound = all(message.sound for message in messages)
        if self._checked and not sound:
            return BadFrame("bad_message_crc", sample)
        self._checked |= sound and bool(messages)
        return telegram

    def _at_begin(self) -> bool:
        """Whether a frame begins the buffer; noise before it goes."""
        if self._seen:
            return True
        begin = self._buffer.find(_BEGIN)
        if begin < 0:
            self._buffer = self._buffer[1 - len(_BEGIN) :]
            return False
        self._drop(begin)
        self._seen = len(_BEGIN)
        return True

    def _end(self) -> int | BadFrame | None:
        """Where the frame ends; what is wrong with it; None when that can't be said yet."""
        buffer = self._buffer
        while (at := buffer.find(_ESCAPE, self._seen)) >= 0 and at + _ESCAPE_SIZE <= min(len(buffer), self.limit):
            meaning = buffer[at + 4 : at + _ESCAPE_SIZE]
            if meaning == _ESCAPE:
                self._seen = at + _ESCAPE_SIZE
            elif meaning[0] == _END:
                return at + _ESCAPE_SIZE
            elif meaning == _BEGIN_TAIL:
                return self._give_up("truncated", at, at)
            else:
                return self._give_up("bad_escape", at + _ESCAPE_SIZE, 1)
        if len(buffer) > self.limit:
            return self._give_up("too_long", self.limit, 1)
        self._seen = max(self._seen, at if at >= 0 else len(buffer) - len(_ESCAPE) + 1)
        return None

    def _give_up(self, reason: str, end: int, dropped: int) -> BadFrame:
        bad = BadFrame(reason, self._buffer[: min(end, _SAMPLE_BYTES)])
        self._drop(dropped)
        return bad

    def _drop(self, size: int) -> None:
        self._buffer, self._seen = self._buffer[size:], 0


def _telegram(messages: Sequence[Message]) -> Telegram:
    meter: bytes | None = None
    readings: list[Reading] = []
    for message in messages:
        if message.tag != _GET_LIST_RESPONSE:
            continue
        match message.body:
            # client, server, name of the list, time, values, signature, time of the gateway
            case [_, (bytes() | None) as server, _, _, list() as entries, _, _]:
                meter = meter or server
                readings += [reading for entry in entries if (reading := _reading(entry))]
            case _:
                raise MalformedError("malformed")
    return Telegram(meter.hex() if meter else None, tuple(readings), tuple(_identity(meter, readings)))


def _reading(entry: Field) -> Reading | None:
    """SML_ListEntry: name, status, time, unit, scaler, value, signature; None when it holds no single value."""
    match entry:
        case [bytes() as name, _, _, (int() | None) as unit, (int() | None) as scaler, value, _]:
            code = _code(name)
        case _:
            raise MalformedError("malformed")
    word = _UNITS.get(unit or 0)
    match value:
        case bytes():
            # letters and digits alone are text, everything else is a number of some kind
            return Reading(code, value.decode("ascii") if value.isalnum() else value.hex(), word)
        case int():
            point, factor = point_of(code, word) or (None, 1)
            return Reading(code, _scaled(value, scaler or 0), word, point, factor)
    return None


def _code(name: bytes) -> str:
    """An OBIS code is six bytes; anything else stays as it is."""
    if len(name) != 6:  # noqa: PLR2004 - A-B:C.D.E*F
        return name.hex()
    a, b, c, d, e, f = name
    return f"{a}-{b}:{c}.{d}.{e}*{f}"


def _scaled(value: int, scaler: int) -> Number:
    if abs(scaler) > _MAX_SCALER:
        raise MalformedError("malformed")
    power: int = 10 ** abs(scaler)
    # dividing two integers rounds once, to the float that is nearest to the decimal number
    return value * power if scaler >= 0 else value / power


def _identity(server: bytes | None, readings: Sequence[Reading]) -> Iterator[tuple[str, str]]:
    values = {reading.code: reading.value for reading in readings}
    for code in _MANUFACTURER_CODES:
        if isinstance(name := values.get(code), str):
            yield "manufacturer", name
            break
    if server and len(server) == 10 and server[0] in {9, 10} and server[2:5].isalpha():  # noqa: PLR2004
        # DIN 43863-5: length, medium, manufacturer, block, number; this is what is printed on the meter
        yield "device_id", f"{server[1]:X}{server[2:5].decode('ascii')}{server[5]:02X}{int.from_bytes(server[6:]):08d}"
