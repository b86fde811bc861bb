"""What a master says on the M-Bus (EN 13757-2, EN 13757-7), and how it reads meters and finds them.

Rules of this file:

1. Nothing here knows of time or a port: it makes the bytes of questions, and is told what came back.
2. The frame count bit changes only when an answer was understood. A question that is repeated repeats its bit: the
   meter sends the same telegram again and not the next one.
3. A readout has an end even with a meter that always says "more": ``MAX_TELEGRAMS``.

A secondary address is written as 16 hex digits: 8 of the identification number as it is printed on the meter, then
manufacturer (2 bytes), version and medium as they follow each other on the wire. ``F`` in the number and ``FF`` in the
rest stand for "any".
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from enum import Enum

from drivers.codec.mbus_frame import checksum
from drivers.codec.telegram import Telegram

#: Addresses with a meaning of their own.
UNCONFIGURED, SELECTED, BROADCAST_WITH_REPLY, BROADCAST = 0, 253, 254, 255
MAX_PRIMARY = 250
MAX_TELEGRAMS = 32

_SND_NKE, _SND_UD, _REQ_UD2 = 0x40, 0x53, 0x5B
_FRAME_COUNT = 0x20
_SELECT, _APPLICATION_RESET = 0x52, 0x50
_ADDRESS_DIGITS = 16
_SECONDARY = re.compile(r"[0-9A-Fa-f]{16}")
_NUMBER_DIGITS = 8


def snd_nke(address: int) -> bytes:
    """Reset the link; the meter answers E5. To ``SELECTED``: whoever is selected is so no more."""
    return _short(_SND_NKE, address)


def req_ud2(address: int, *, fcb: bool) -> bytes:
    """Ask for a telegram with the meter's values. ``fcb``: the frame count bit."""
    return _short(_REQ_UD2 | _FRAME_COUNT * fcb, address)


def application_reset(address: int) -> bytes:
    """Let the next readout begin with the first telegram; the meter answers E5."""
    return _long(_SND_UD, address, _APPLICATION_RESET)


def select(secondary: str) -> bytes:
    """Select the meters with this secondary address; they answer E5 and listen to ``SELECTED`` from then on.

    Raises ``ValueError`` for what is no secondary address.
    """
    return _long(_SND_UD, SELECTED, _SELECT, secondary_bytes(secondary))


def secondary_bytes(secondary: str) -> bytes:
    """A secondary address as it stands on the wire. Raises ``ValueError``."""
    if _SECONDARY.fullmatch(secondary) is None:
        raise ValueError(f"`{secondary}` is no secondary address")
    address = bytes.fromhex(secondary)
    return address[3::-1] + address[4:]


def _short(control: int, address: int) -> bytes:
    body = bytes((control, address))
    return bytes((0x10, *body, checksum(body), 0x16))


def _long(control: int, address: int, information: int, data: bytes = b"") -> bytes:
    body = bytes((control, address, information)) + data
    return bytes((0x68, len(body), len(body), 0x68, *body, checksum(body), 0x16))


class Readout:
    """The questions that read one meter whole: a telegram, and as many more as it says there are."""

    def __init__(self, address: int) -> None:
        self._address = address
        self._fcb = True  # the first question behind SND_NKE (EN 13757-2, frame count bit)
        self._parts: list[Telegram] = []

    @property
    def question(self) -> bytes:
        """What to ask now; the same again after a time-out or a damaged answer."""
        return req_ud2(self._address, fcb=self._fcb)

    def answered(self, telegram: Telegram) -> Telegram | None:
        """Take an answer: the whole readout when it was the last one, None when the next question is due."""
        self._fcb = not self._fcb
        self._parts.append(telegram)
        if telegram.more and len(self._parts) < MAX_TELEGRAMS:
            return None
        whole, self._parts = joined(self._parts), []
        return whole


def joined(parts: Sequence[Telegram]) -> Telegram:
    """The telegrams of one readout as one: its records are numbered on from part to part.

    A value that is there twice keeps its point where it came first. Needs at least one part.
    """
    readings = list(parts[0].readings)
    points = {reading.point for reading in readings}
    for part in parts[1:]:
        first = int(readings[-1].code) + 1 if readings else 0
        for reading in part.readings:
            taken = reading.point is not None and reading.point in points
            renumbered = replace(reading, code=str(first + int(reading.code)))
            readings.append(replace(renumbered, point=None, scale=1) if taken else renumbered)
        points |= {reading.point for reading in part.readings}
    return replace(parts[0], readings=tuple(readings), more=parts[-1].more)


class Answer(Enum):
    """What came back when meters were selected by a mask."""

    NONE = "none"
    ONE = "one"  #: a sound E5, and then a sound telegram
    MANY = "many"  #: anything else that was heard: several answered at once


def find_secondary() -> Generator[str, Answer, None]:
    """Find all meters by their identification numbers (wildcard search): yields masks, is sent what came back.

    After ``ONE`` the caller knows the meter from its telegram. Ten masks for each digit that several meters share; two
    meters with the same number can't be told apart this way, and the search goes on without them.
    """
    masks = [""]
    while masks:
        digits = masks.pop()
        answer = yield digits.ljust(_ADDRESS_DIGITS, "F")
        if answer is Answer.MANY and len(digits) < _NUMBER_DIGITS:
            masks += [f"{digits}{digit}" for digit in range(9, -1, -1)]
