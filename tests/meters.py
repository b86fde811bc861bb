"""A meter's language for tests: ``<5>`` is a good telegram that says 5, ``<?>`` a bad one, the rest is noise."""

from collections.abc import Sequence

from agent.core.model import BadFrame
from drivers.codec.telegram import Reading, Telegram

MAX_TEXT = 32


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
