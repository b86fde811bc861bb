"""DSMR P1 telegrams: Dutch 2.2 to 5, and what Belgium, Luxembourg, Sweden, Hungary, Ireland and others made of them.

Decoding is ours. dsmr-parser drops every code that its table of that country does not name, wants to be told the
country, and brings ``cryptography`` and a DLMS library into memory with its import. The tests hold our values and their
types against it, telegram by telegram.

Sources: DSMR P1 Companion Standard 5.0.2 (5.2 framing and CRC, 6.4 representation of values), 2.2 (annex), e-MUCS P1
1.7.1 (Fluvius). Rules of this file:

1. From ``/`` to ``!`` the CRC16 behind ``!`` counts: four hexadecimal digits, or fewer and the end of the line where a
   meter leaves out zeros in front. A telegram is given with the fourth digit, it does not wait for the line's end.
2. ``!`` and the end of the line at once is a telegram without checksum: DSMR 2.2 and 3 and some D0 meters send no
   other. It is read strictly. One that states its version or the time is of a generation that has the checksum: there
   it was lost. Anything else behind ``!`` is a checksum that was cut off.
3. Where a recording lost its CRs (``LF`` or ``LF LF``), the checksum is calculated as if they were there.
4. Encrypted ports send DLMS general-glo-ciphering APDUs (DLMS green book 9.2.7.2) around the same telegrams:
   ``DB 08 title length control counter``, text, tag. ``dsmr_cipher.py`` opens them.
"""

import re
from dataclasses import replace

from agent.core.model import BadFrame, Number
from drivers.codec.d0_frames import TELEGRAM_START, ReadoutFrames, Step, bad
from drivers.codec.dataline import LineReader, meter_number
from drivers.codec.dsmr_cipher import CIPHER_OPEN, CIPHER_START, CIPHER_START_MAX, Cipher, apdu_length
from drivers.codec.telegram import Reading, Telegram

_HEAD = re.compile(r"/([^\r\n]*)[\r\n]*")
_CHECKSUM = re.compile(rb"[0-9A-Fa-f]{0,4}")
_DIGITS = 4
#: One decrypted telegram, the whole of it.
_PLAIN = re.compile(rb"\s*(/[A-Za-z]{3}[^!]*!)([0-9A-Fa-f]{1,4})\s*")

#: Lines that only generations with a checksum send: version (Dutch, Belgian) and time of the telegram.
_VERSION = re.compile(r"^(?:1-3:0\.2\.8|0-0:96\.1\.4)\(([^()\r\n]*)\)", re.MULTILINE)
_TIME = re.compile(r"^0-0:1\.0\.0\(", re.MULTILINE)
#: Codes of an M-Bus meter's reading, which is a number also where it has no unit.
_METERED = frozenset(f"0-{channel}:24.2.{n}" for channel in range(1, 10) for n in (1, 3))
#: Codes of states (switch; M-Bus device type, valve): numbers in telegrams that state their version, text before.
#: dsmr-parser's specifications are the measure.
_STATES = frozenset(f"0-{channel}:{code}" for channel in range(10) for code in ("24.1.0", "24.4.0", "96.3.10"))
_NUMERIC = _METERED | _STATES

_CHANNEL = re.compile(r"0-([1-9]):24\.(1\.0|2\.[13]|3\.0)")
#: M-Bus device types (EN 13757-3, table 3): what the reading of such a device is, and of which units.
_VOLUME: dict[str, Number] = {"m3": 1, "dm3": 0.001, "l": 0.001}
_ENERGY: dict[str, Number] = {"GJ": 1e9 / 3600, "MJ": 1e6 / 3600, "kWh": 1000, "MWh": 1_000_000, "Wh": 1}
_MEDIA: dict[str, tuple[str, dict[str, Number]]] = {
    "3": ("gas_volume_m3", _VOLUME),
    "4": ("heat_energy_wh", _ENERGY),  # at the return
    "6": ("water_volume_m3", _VOLUME),  # warm
    "7": ("water_volume_m3", _VOLUME),
    "10": ("cooling_energy_wh", _ENERGY),  # at the return
    "11": ("cooling_energy_wh", _ENERGY),  # at the flow
    "12": ("heat_energy_wh", _ENERGY),  # at the flow
    "21": ("water_volume_m3", _VOLUME),  # hot
    "22": ("water_volume_m3", _VOLUME),  # cold
}


def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)  # noqa: PLW2901 - eight steps of one byte
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """The CRC of a telegram: x^16 + x^15 + x^2 + 1, least significant bit first, from 0 (DSMR P1 5.0.2, 5.2)."""
    crc, table = 0, _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


class DsmrCodec(ReadoutFrames):
    """Decodes a P1 port. ``key`` opens an encrypted one; with ``auth_key`` its tags are verified too.

    Without ``auth_key`` the telegram's own CRC must tell a right key from a wrong one. Raises ``ConfigError`` for keys
    that aren't 16 bytes long. Bad frames: ``truncated``, ``bad_checksum``, ``no_checksum``, ``bad_line`` (out of
    place in a telegram that has no checksum), ``no_values``, ``too_long``; ``encrypted`` (there is no key) and
    ``not_decrypted`` (a wrong key, or damaged).
    """

    _cipher_start = re.compile(CIPHER_START, re.DOTALL)
    _start = re.compile(TELEGRAM_START + rb"|" + CIPHER_START, re.DOTALL)
    _start_max = CIPHER_START_MAX
    _edge = re.compile(rb"!|" + TELEGRAM_START + rb"|" + CIPHER_START, re.DOTALL)
    _open = re.compile(CIPHER_OPEN, re.DOTALL)
    _missing_end = b"\r\n"

    def __init__(self, key: bytes | None = None, auth_key: bytes | None = None) -> None:
        super().__init__()
        self._cipher = None if key is None else Cipher(key, auth_key)
        self._lines = LineReader()

    def _take(self, window: bytes) -> Step | None:
        if window[0] == ord("/"):
            return super()._take(window)
        length = apdu_length(window)
        if length > self.limit:
            begin = self._cipher_start.match(window)
            return 1, bad("too_long", begin[0] if begin else b"")  # nothing else need be there yet
        again = self._search(self._cipher_start, window[:length], max(1, self._searched))
        if again is not None:
            return again.start(), bad("truncated", window[: again.start()])
        if len(window) < length:
            self._searched = max(1, len(window) - self._start_max + 1)
            return None
        return self._decrypted(window[:length])

    def _decrypted(self, apdu: bytes) -> Step:
        if self._cipher is None:
            return len(apdu), bad("encrypted", apdu)
        plain = self._cipher.open(apdu)
        found = None if plain is None else _PLAIN.fullmatch(plain)
        if found is None or not _matches(found[1], found[2]):
            return 1, bad("not_decrypted", apdu)
        return len(apdu), self._telegram(found[1], strict=False)

    def _end(self, window: bytes, end: int) -> Step | None:
        found = _CHECKSUM.match(window, end + 1)
        digits = b"" if found is None else found[0]
        behind = end + 1 + len(digits)
        if len(digits) < _DIGITS:
            if behind == len(window):
                return None
            if window[behind] not in b"\r\n":
                return 1, bad("bad_checksum", window[:behind])
        telegram = window[: end + 1]
        if digits and not _matches(telegram, digits):
            return 1, bad("bad_checksum", window[:behind])
        result = self._telegram(telegram, strict=not digits)
        return (1 if isinstance(result, BadFrame) else behind), result

    def _telegram(self, frame: bytes, *, strict: bool) -> Telegram | BadFrame:
        """The values between ``/`` and ``!``; ``strict`` where no checksum has vouched for them."""
        text = frame.decode("latin-1")
        head = _HEAD.match(text)
        body = text[head.end() if head else 0 : -1]
        version = _VERSION.search(body)
        if strict and (version is not None or _TIME.search(body) is not None):
            return bad("no_checksum", frame)
        readings = self._lines.read(body, strict=strict, numeric=_METERED if version is None else _NUMERIC)
        if readings is None:
            return bad("bad_line" if strict else "no_values", frame)
        number = meter_number(readings)
        identity = [("model", head[1])] if head else []
        if version is not None:
            identity.append(("protocol", version[1]))
        return Telegram(None if number is None else _from_hex(number), _submeters(readings), tuple(identity))


def _matches(telegram: bytes, digits: bytes) -> bool:
    """Whether the checksum is right, also if the line ends have been changed on the way to a recording."""
    checksum = int(digits, 16)
    if crc16(telegram) == checksum:
        return True
    if b"\r" in telegram:
        return False
    return any(crc16(telegram.replace(end, b"\r\n")) == checksum for end in (b"\n", b"\n\n"))


def _submeters(readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    """The readings with the points of what other meters handed to this one over M-Bus, by their device types."""
    settled = list(readings)
    channels = [
        (found, position)
        for position, reading in enumerate(readings)
        if ":24." in reading.code and (found := _CHANNEL.fullmatch(reading.code)) is not None
    ]
    types = {found[1]: str(readings[at].value).lstrip("0") for found, at in channels if found[2] == "1.0"}
    for found, at in channels:
        point, units = _MEDIA.get(types.get(found[1], ""), ("", {}))
        scale = units.get(readings[at].unit or "")
        if found[2] != "1.0" and scale is not None and not isinstance(readings[at].value, str):
            settled[at] = replace(readings[at], point=point, scale=scale)
    return tuple(settled)


_MIN_HEX = 20  #: shorter numbers are numbers, not hexadecimal ASCII


def _from_hex(text: str) -> str:
    """The number that a DSMR meter sends as hexadecimal ASCII (P1 5.0.2, 6.4: octet strings); else as it was sent."""
    if len(text) < _MIN_HEX:
        return text
    try:
        decoded = bytes.fromhex(text).decode("ascii")
    except ValueError:
        return text
    return decoded if decoded.isalnum() else text
