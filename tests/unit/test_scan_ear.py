"""What pushes on a serial port is recognised by its bytes alone."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.codec.dsmr import crc16
from drivers.serial_meter.scan import Ear
from drivers.sim import meter_dsmr, meter_sml

NOW_US = 1_750_000_000_000_000
SML = meter_sml.telegram(NOW_US)
DSMR = meter_dsmr.telegram(NOW_US)
#: IEC 62056-21 mode D: no checksum, an empty line behind the identification, codes with group F.
D0 = b"/ACM5Meter 1\r\n\r\n1-0:0.0.0*255(0012345)\r\n1-0:1.8.0*255(000042.5*kWh)\r\n!\r\n"
#: DSMR 2.2: no checksum either (P1 companion standard 2.2, annex).
OLD_P1 = b"/ACM5\\2Meter\r\n\r\n0-0:96.1.1(4B384547)\r\n1-0:1.8.1(00001.001*kWh)\r\n1-0:1.7.0(0001.01*kW)\r\n!\r\n"
#: DLMS general-glo-ciphering, as an encrypted port sends it: title, length, control, counter, text, tag.
ENCRYPTED = b"\xdb\x08ACMETITL\x82\x00\x31\x30\x00\x00\x00\x01" + bytes(range(64, 96)) + bytes(12)


def seven_bits(data: bytes) -> bytes:
    """Characters of seven bits with even parity, as a port sees them that reads eight."""
    return bytes(byte | 0x80 * (byte.bit_count() & 1) for byte in data)


def heard(chunks: Iterable[bytes]) -> tuple[str, str | None] | None:
    ear = Ear()
    for chunk in chunks:
        found = ear.feed(chunk)
        if found is not None:
            protocol, telegram = found
            return protocol, telegram.meter if telegram else None
    return None


@pytest.mark.parametrize(
    ("data", "protocol"),
    [(SML, "sml"), (DSMR, "dsmr"), (D0, "d0"), (OLD_P1, "dsmr"), (seven_bits(D0), "d0"), (seven_bits(OLD_P1), "dsmr")],
    ids=["sml", "dsmr", "d0", "old P1", "d0 with parity", "old P1 with parity"],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_telegram_is_recognised_however_it_is_cut_and_wherever_listening_began(
    data: bytes, protocol: str, step: int
) -> None:
    stream = data[len(data) // 3 :] + data
    found = heard(stream[start : start + step] for start in range(0, len(stream), step))
    assert found is not None
    assert found[0] == protocol


def test_the_encrypted_port_is_recognised_without_a_telegram() -> None:
    assert heard([ENCRYPTED]) == ("dsmr", None)


def test_a_damaged_p1_telegram_is_not_taken_for_one_of_d0() -> None:
    damaged = DSMR.replace(b"(", b"(1", 1)
    assert crc16(damaged[: damaged.rindex(b"!") + 1]) != crc16(DSMR[: DSMR.rindex(b"!") + 1])
    assert heard([damaged]) is None
    assert heard([bytes((byte,)) for byte in damaged]) is None
    assert heard([damaged, DSMR]) is not None


def test_parity_is_seen() -> None:
    for data, parity in ((D0, False), (seven_bits(D0), True)):
        ear = Ear()
        ear.feed(data)
        assert ear.has_parity is parity


@settings(max_examples=50)
@given(st.binary(max_size=500))
def test_noise_is_no_meter(data: bytes) -> None:
    assert heard([data]) is None
