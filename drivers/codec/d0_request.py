"""Asking a meter for its readout: the messages, and what its identification says of the speed that follows.

Source: IEC 62056-21:2002, 6.3.1 (request), 6.3.2 (identification), 6.3.3 (acknowledgement), 6.3.14 items 12 to 15
(manufacturer, baud rate identification, identification, mode), 6.4 (modes). The course of it, for who holds the line:

1. Send ``request(address)`` at 300 baud, 7E1. The meter answers with its identification line, at 300 baud.
2. ``Ident.parse`` that line. Send ``acknowledge(ident)``, still at 300 baud; in modes A and B it is empty, nothing is
   sent. Wait at least ``ident.reaction_s`` before it; the meter waits as long, and at most 1.5 s, before it answers.
3. Where ``ident.baud`` is not None, change to it as soon as the last character has left (mode C), or as soon as the
   identification is read (mode B). Feed identification and all that follows to ``D0Codec``.

A meter in mode C that hears no acknowledgement sends its readout at 300 baud (6.4.3.1): a lost one costs time only.
"""

import re
from dataclasses import dataclass
from typing import Literal

from agent.core.errors import ConfigError

Mode = Literal["A", "B", "C", "E"]

_ADDRESS = re.compile(r"[0-9A-Za-z ]{0,32}")
#: Manufacturer, baud rate identification, escapes ``\W``, identification (16 characters; some meters send more).
_IDENT = re.compile(rb"/([A-Za-z]{3})([ -~])((?:\\[ -~])*)([ \x22-.0-~]{0,64}?)\s*")
_SEVEN_BITS = bytes(code & 0x7F for code in range(256))

_MODE_B = {"A": 600, "B": 1200, "C": 2400, "D": 4800, "E": 9600, "F": 19200}
_MODE_C = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
_HDLC = b"\\2"  #: W = 2: the meter can change to mode E, and does mode C as long as nobody asks it to


@dataclass(frozen=True, slots=True)
class Ident:
    """What a meter says of itself before the readout (6.3.2).

    ``mode`` is A (no change of speed), B (it changes by itself), C (it changes when it is told to) or E (as C; it could
    do more). Mode D, which speaks unasked at 2400 baud, looks like C. ``baud`` is the speed of what follows; None: it
    stays as it is.
    """

    manufacturer: str
    mode: Mode
    baud: int | None
    model: str
    letter: str  #: the baud rate identification as sent

    @property
    def reaction_s(self) -> float:
        """The shortest pause between two messages: 20 ms where the manufacturer's third letter is small, else 200."""
        return 0.02 if self.manufacturer[2].islower() else 0.2

    @classmethod
    def parse(cls, line: bytes) -> "Ident | None":
        """The identification in a line, with or without its end; None where there is none (noise, the request's echo).

        Noise in front of it and parity bits that were read as the eighth bit do no harm.
        """
        line = line.translate(_SEVEN_BITS)
        found = _IDENT.fullmatch(line, max(0, line.rfind(b"/")))
        if found is None:
            return None
        letter = found[2].decode("ascii")
        mode: Mode = "A"
        if letter.isdecimal():
            mode = "E" if _HDLC in found[3] else "C"
        elif letter in _MODE_B:
            mode = "B"
        baud = _MODE_C.get(letter, _MODE_B.get(letter))
        return cls(found[1].decode("ascii"), mode, None if letter == "0" else baud, found[4].decode("ascii"), letter)


def request(address: str = "") -> bytes:
    """The request message, for one meter or for whichever is there (6.3.1). Raises ``ConfigError``: no address."""
    if _ADDRESS.fullmatch(address) is None:
        hint = "write up to 32 letters, digits or blanks, as on the meter's plate"
        raise ConfigError("ask the meter", f"`{address}` is no address", hint)
    return b"/?" + address.encode("ascii") + b"!\r\n"


def acknowledge(ident: Ident) -> bytes:
    """What asks for the readout in mode C, at the meter's own speed: ``ACK 0 Z 0`` (6.3.3). Empty in modes A and B.

    A speed that the standard reserves (7 to 9) is not taken up: Z is 0 then, and all stays at 300 baud.
    """
    if ident.mode not in {"C", "E"}:
        return b""
    speed = ident.letter if ident.letter in _MODE_C else "0"
    return b"\x060" + speed.encode("ascii") + b"0\r\n"
