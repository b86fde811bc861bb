"""Readouts without a checksum on a line that loses characters, and meters that change what they send."""

import pytest

from agent.core.model import BadFrame
from drivers.codec.d0 import D0Codec
from drivers.codec.dsmr import DsmrCodec
from drivers.codec.telegram import Codec, Telegram


def readout(power: str = "000247.37*W", energy: str = "00001013.0368091*kWh", more: str = "") -> bytes:
    head = "/ABC5PUSH\r\n\r\n1-0:0.0.0*255(12345678)\r\n"
    return f"{head}1-0:1.8.0*255({energy})\r\n1-0:1.7.0*255({power})\r\n{more}!\r\n".encode()


WHOLE = readout()


def powers(codec: Codec, *lines: bytes) -> list[object]:
    """The power that each readout gives; None where it is refused."""
    found: list[object] = []
    for line in lines:
        (one,) = codec.feed(line)
        if isinstance(one, BadFrame):
            assert one.reason == "bad_line"
            found.append(None)
        else:
            found.append(next(reading.value for reading in one.readings if ":1.7.0" in reading.code))
    return found


@pytest.mark.parametrize("make", [D0Codec, DsmrCodec])
def test_a_lost_character_gives_no_wrong_number_once_the_form_is_known(make: type[D0Codec] | type[DsmrCodec]) -> None:
    numbers = [reading.value for reading in telegram(make(), WHOLE).readings if not isinstance(reading.value, str)]
    for at in range(len(WHOLE)):
        codec = make()
        codec.feed(WHOLE)
        for one in codec.feed(WHOLE[:at] + WHOLE[at + 1 :] + WHOLE):
            if isinstance(one, Telegram):
                assert [r.value for r in one.readings if not isinstance(r.value, str)] == numbers, at
        assert telegram(codec, WHOLE).readings == telegram(make(), WHOLE).readings, "and the next ones come out"


def telegram(codec: Codec, line: bytes) -> Telegram:
    (one,) = codec.feed(line)
    assert isinstance(one, Telegram)
    return one


def test_what_a_meter_sends_anew_is_believed_when_it_comes_again() -> None:
    assert powers(D0Codec(), WHOLE, readout("0.24737*kW"), WHOLE) == [247.37, None, 247.37]
    changed = [readout("0.24737*kW"), readout("0.30001*kW"), readout("0.1*kW"), readout("0.30002*kW")]
    assert powers(D0Codec(), WHOLE, *changed) == [247.37, None, 0.30001, None, 0.30002]


def test_numbers_that_are_not_filled_up_grow_and_shrink() -> None:
    lines = [readout(f"{power}*W") for power in ("9.5", "10.5", "-1000.5", "0.5")]
    assert powers(D0Codec(), *lines) == [9.5, 10.5, -1000.5, 0.5]


def test_a_number_that_was_filled_up_is_known_to_be_when_it_is_full() -> None:
    lines = [readout(f"{power}*W") for power in ("0999.5", "1000.5", "100.5", "0999.5", "1000.5")]
    assert powers(D0Codec(), *lines) == [999.5, 1000.5, None, 999.5, 1000.5]


@pytest.mark.parametrize("negative", ["-000247.37*W", "-00247.37*W"])
def test_a_minus_sign_stands_in_front_or_takes_a_place(negative: str) -> None:
    assert powers(D0Codec(), WHOLE, readout(negative), WHOLE) == [247.37, -247.37, 247.37]


def test_a_display_that_shows_dashes_for_a_while() -> None:
    assert powers(D0Codec(), WHOLE, readout("------.--*W"), readout("00247.37*W"), WHOLE) == [
        247.37,
        "------.--",
        None,
        247.37,
    ]


def test_a_meter_that_sends_different_readouts_in_turn() -> None:
    other = b"/ABC5PUSH\r\n\r\n1-0:1.7.0*255(1.5*kW)\r\n!\r\n"
    longer = readout(more="1-0:32.7.0*255(230.1*V)\r\n")
    assert powers(D0Codec(), WHOLE, other, longer, WHOLE, other) == [247.37, 1.5, 247.37, 247.37, 1.5]


def test_a_checksum_is_believed_whatever_the_form() -> None:
    def checked(power: str) -> bytes:
        block = f"1-0:1.8.0*255(00001013.0368091*kWh)\r\n1-0:1.7.0*255({power}*W)\r\n!\r\n\x03".encode()
        check = 0
        for byte in block:
            check ^= byte
        return b"/ABC5PUSH\r\n\x02" + block + bytes((check,))

    assert powers(D0Codec(), checked("000247.37"), checked("247.3"), checked("0247.37")) == [247.37, 247.3, 247.37]
