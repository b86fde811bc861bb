"""Telegrams that each meter codec decodes in a second, as they come from a line: in pieces of some bytes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import xor

from drivers.codec.d0 import D0Codec
from drivers.codec.dsmr import DsmrCodec
from drivers.codec.mbus import MbusCodec
from drivers.codec.sml import SmlCodec
from drivers.codec.telegram import Codec, Telegram
from drivers.sim import meter_dsmr, meter_sml

PIECE_BYTES = 64
TELEGRAMS = 200
ROUNDS = 9
TARGET_S = 1000
#: A weekday in winter, at noon.
BEGIN_US = 1_764_763_200_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A protocol: its codec, and what its meter says at a time (µs UTC)."""

    name: str
    codec: Callable[[], Codec]
    telegram: Callable[[int], bytes]


def _d0(now_us: int) -> bytes:
    """A readout of mode C with its checksum (IEC 62056-21, 6.3 and 6.3.14)."""
    seconds = (now_us - BEGIN_US) / 1e6
    values = [
        "0.0.0(12345678)",
        "0.9.1(120000)",
        "0.9.2(251203)",
        *(f"{c}.8.{tariff}({4000 * c + tariff + seconds / 360:012.4f}*kWh)" for c in (1, 2) for tariff in range(3)),
        *(f"{c}.8.0({100 * c + seconds / 36:012.4f}*kvarh)" for c in (3, 4)),
        *(f"{c}.7.0({229 + seconds % 3:05.1f}*V)" for c in (32, 52, 72)),
        *(f"{c}.7.0({1 + seconds % 5:06.2f}*A)" for c in (31, 51, 71)),
        *(f"{c}.7.0({0.23 + seconds % 7:08.4f}*kW)" for c in (16, 36, 56, 76)),
        "14.7.0(50.02*Hz)",
        "F.F(00000000)",
    ]
    body = "".join(f"{value}\r\n" for value in values).encode() + b"!\r\n\x03"
    return b"/ABC5\\2BENCH METER\r\n\x02" + body + bytes((reduce(xor, body),))


def _mbus(now_us: int) -> bytes:
    """Variable data of a three-phase meter, as a slave sends them (EN 13757-3, 6; frames of EN 13757-2, 5.6)."""
    seconds = (now_us - BEGIN_US) // 1_000_000
    header = bytes.fromhex("7856341224400102") + bytes((seconds & 0xFF, 0, 0, 0))
    records = [
        b"\x04\x03" + (4_000_000 + seconds).to_bytes(4, "little"),  # energy, Wh
        b"\x84\x10\x03" + (1_000_000 + seconds).to_bytes(4, "little"),  # the same, tariff 1
        b"\x84\x20\x03" + (3_000_000 + seconds).to_bytes(4, "little"),
        b"\x04\x2b" + (1000 + seconds % 500).to_bytes(4, "little"),  # power, W
        *(
            # voltage in 0.1 V (VIF FD 48) at phase L1 to L3 (VIFE FC 01 to 03)
            b"\x02\xfd\xc8\xfc" + bytes((phase,)) + (2290 + phase + seconds % 20).to_bytes(2, "little")
            for phase in (1, 2, 3)
        ),
        *(
            b"\x04\xab\xfc" + bytes((phase,)) + (300 + phase + seconds % 90).to_bytes(4, "little")
            for phase in (1, 2, 3)
        ),
        b"\x06\x6d" + bytes.fromhex("000c17032c00"),  # date and time, type I
        b"\x0c\x78\x78\x56\x34\x12",  # fabrication number, BCD
    ]
    body = bytes((0x08, 1, 0x72)) + header + b"".join(records)
    return bytes((0x68, len(body), len(body), 0x68)) + body + bytes((sum(body) & 0xFF, 0x16))


LINES = (
    Line("dsmr", DsmrCodec, meter_dsmr.telegram),
    Line("sml", SmlCodec, meter_sml.telegram),
    Line("d0", D0Codec, _d0),
    Line("mbus", MbusCodec, _mbus),
)


def decoded(line: Line, telegrams: list[bytes]) -> tuple[float, int]:
    """Telegrams a second, and how many readings one has. Raises ``ValueError`` when one does not come out whole."""
    codec = line.codec()
    stream = b"".join(telegrams)
    pieces = [stream[at : at + PIECE_BYTES] for at in range(0, len(stream), PIECE_BYTES)]
    begin_s = time.process_time()
    found = [one for piece in pieces for one in codec.feed(piece)]
    took_s = time.process_time() - begin_s
    good = [one for one in found if isinstance(one, Telegram)]
    if len(good) != len(telegrams) or len(found) != len(good):
        raise ValueError(f"{line.name}: {len(good)} of {len(telegrams)} telegrams came out, {found[:1]}")
    return len(telegrams) / took_s, len(good[0].readings)


def main() -> None:
    """Print telegrams by CPU second for each codec."""
    for line in LINES:
        telegrams = [line.telegram(BEGIN_US + n * 1_000_000) for n in range(TELEGRAMS)]
        runs = [decoded(line, telegrams) for _ in range(ROUNDS)]
        rate, readings = max(runs)
        print(
            f"{line.name}, {len(telegrams[0])} bytes, {readings} readings, in pieces of {PIECE_BYTES}: {rate:,.0f}"
            f" telegrams/s ({rate / TARGET_S:.1f}x) target {TARGET_S:,}"
        )


if __name__ == "__main__":
    main()
