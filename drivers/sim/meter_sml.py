"""A simulated meter with an optical SML head: ``python -m drivers.sim.meter_sml --port-link PATH``.

It is the heat pump's meter in the simulated house. Each second it pushes an SML file of three messages (BSI
TR-03109-1, annex IV "SML", 1.04: sections 5 and 6, transport version 1 of section 8): open, the list of values, close.
"""

import struct
import sys
from collections.abc import Sequence
from enum import IntEnum

from drivers.sim.meter_house import PHASES, START_S, House
from drivers.sim.meter_port import run_meter

LINE = (9600, "8N1")
EVERY_S = 1.0
_ESCAPE = b"\x1b" * 4
_BEGIN = _ESCAPE + b"\x01" * 4
_END = _ESCAPE + b"\x1a"
_ABSENT = b"\x01"  #: an optional element that is not there
_END_OF_MESSAGE = b"\x00"
_OPEN, _LIST, _CLOSE = 0x0101, 0x0701, 0x0201
#: DIN 43863-5: electricity, a maker, a block and a number of the maker's.
_SERVER_ID = b"\x0a\x01SIM\x00" + (1).to_bytes(4, "big")
_MAX_SHORT = 15
_POLYNOMIAL = 0x8408


class Unit(IntEnum):
    """Units of DLMS (IEC 62056-62, table 3)."""

    W = 27
    WH = 30
    A = 33
    V = 35


def telegram(now_us: int) -> bytes:
    """The SML file of that moment, µs UTC."""
    house = House(now_us)
    phase_w = house.heat_pump_w / PHASES
    values = [
        _entry((1, 0, 96, 50, 1, 1), _octets(b"SIM")),
        _entry((1, 0, 96, 1, 0, 255), _octets(_SERVER_ID)),
        _entry((1, 0, 1, 8, 0, 255), _unsigned64(round(house.heat_pump_wh * 10)), Unit.WH, -1),
        _entry((1, 0, 2, 8, 0, 255), _unsigned64(0), Unit.WH, -1),
        _entry((1, 0, 16, 7, 0, 255), _signed32(round(house.heat_pump_w * 10)), Unit.W, -1),
        *(
            _entry((1, 0, c, 7, 0, 255), _signed32(round(volt * 10)), Unit.V, -1)
            for c, volt in zip((32, 52, 72), house.voltages_v, strict=True)
        ),
        *(
            _entry((1, 0, c, 7, 0, 255), _signed32(round(phase_w / volt * 100)), Unit.A, -2)
            for c, volt in zip((31, 51, 71), house.voltages_v, strict=True)
        ),
    ]
    seconds = int(now_us / 1e6 - START_S)
    file_id = _octets(seconds.to_bytes(4, "big"))
    time = _list(_unsigned8(1), _unsigned32(seconds))  # of the kind "seconds of operation"
    messages = (
        _message(seconds, 0, _OPEN, _list(_ABSENT, _ABSENT, file_id, _octets(_SERVER_ID), _ABSENT, _ABSENT)),
        _message(
            seconds,
            1,
            _LIST,
            _list(_ABSENT, _octets(_SERVER_ID), _ABSENT, time, _list(*values), _ABSENT, _ABSENT),
        ),
        _message(seconds, 2, _CLOSE, _list(_ABSENT)),
    )
    return transport(b"".join(messages))


def transport(body: bytes) -> bytes:
    """Messages between their escape sequences, filled up to a multiple of four, with the checksum over all."""
    fill = -len(body) % 4
    framed = _BEGIN + body.replace(_ESCAPE, _ESCAPE * 2) + bytes(fill) + _END + bytes([fill])
    return framed + crc16(framed).to_bytes(2, "little")


def crc16(data: bytes) -> int:
    """CRC16 of DIN EN 62056-46 (that of X.25); sent low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL if crc & 1 else crc >> 1
    return crc ^ 0xFFFF


def _message(seconds: int, group: int, tag: int, body: bytes) -> bytes:
    transaction = _octets(struct.pack(">IB", seconds, group))
    head = _type_length(0x7, 6) + transaction + _unsigned8(group) + _unsigned8(0) + _list(_unsigned32(tag), body)
    return head + b"\x63" + crc16(head).to_bytes(2, "little") + _END_OF_MESSAGE


def _entry(code: tuple[int, ...], value: bytes, unit: Unit | None = None, scaler: int | None = None) -> bytes:
    return _list(
        _octets(bytes(code)),
        _ABSENT,  # status
        _ABSENT,  # time of the value
        _ABSENT if unit is None else _unsigned8(unit),
        _ABSENT if scaler is None else b"\x52" + struct.pack(">b", scaler),
        value,
        _ABSENT,  # signature
    )


def _list(*elements: bytes) -> bytes:
    return _type_length(0x7, len(elements)) + b"".join(elements)


def _octets(data: bytes) -> bytes:
    """The length of a string counts its own length field too."""
    size = len(data) + 1
    return _type_length(0x0, size if size <= _MAX_SHORT else size + 1) + data


def _type_length(kind: int, length: int) -> bytes:
    """One byte, or two of four bits each for lengths above 15."""
    if length <= _MAX_SHORT:
        return bytes([kind << 4 | length])
    return bytes([0x80 | kind << 4 | length >> 4, length & 0xF])


def _unsigned8(value: int) -> bytes:
    return b"\x62" + struct.pack(">B", value)


def _unsigned32(value: int) -> bytes:
    return b"\x65" + struct.pack(">I", value)


def _unsigned64(value: int) -> bytes:
    return b"\x69" + struct.pack(">Q", value)


def _signed32(value: int) -> bytes:
    return b"\x55" + struct.pack(">i", value)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    return run_meter("meter_sml", telegram, LINE, arguments, EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
