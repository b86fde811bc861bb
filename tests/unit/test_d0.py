"""IEC 62056-21: readouts made here from the standard's rules, and the messages that ask for them."""

from functools import reduce
from operator import xor
from pathlib import Path
from time import process_time

import pytest

from agent.core.errors import ConfigError
from agent.core.model import BadFrame
from drivers.codec.d0 import D0Codec
from drivers.codec.d0_request import Ident, acknowledge, request
from drivers.codec.telegram import Reading, Telegram
from tests.meter_cases import every_case, expected, reasons, said, same_types, telegrams


def block(*lines: str) -> bytes:
    """STX to BCC."""
    data = "".join(line + "\r\n" for line in lines).encode("latin-1") + b"!\r\n\x03"
    return b"\x02" + data + bytes([reduce(xor, data)])


def readings(*lines: str) -> tuple[Reading, ...]:
    (telegram,) = telegrams(D0Codec(), b"/ABC4TEST\r\n" + block(*lines))
    return telegram.readings


MODE_C = b"/ABC4TEST\r\n" + block("F.F(00)", "1.8.0(061561.289*kWh)", "32.7(241*V)")
PUSHED = b"/ABC5PUSH\r\n\r\n1-0:1.8.0*255(00001013.0368091*kWh)\r\n1-0:96.5.5*255(82)\r\n!\r\n"


# --- readouts --------------------------------------------------------------------------------------------------------


@every_case("d0")
def test_each_case_says_what_was_written_down(case: Path) -> None:
    results = D0Codec().feed((case / "line.txt").read_bytes())
    assert said(results) == expected(case)
    for result, wanted in zip(results, expected(case), strict=True):
        if isinstance(result, Telegram) and isinstance(wanted, Telegram):
            assert same_types(result.readings, wanted.readings)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("1.8.0(13925.5)", Reading("1.8.0", 13925.5, None, "energy_import_wh", 1000)),
        ("1-0:2.8.2*255(1.5)", Reading("1-0:2.8.2*255", 1.5, None, "energy_export_tariff_wh.2", 1000)),
        ("1.8.0(13925)", Reading("1.8.0", 13925)),
        ("3.8.0(1.5)", Reading("3.8.0", 1.5)),
        ("2-1:2.3.4*255(999999.9999)", Reading("2-1:2.3.4*255", "999999.9999")),
        ("1.8.0*01(5*kWh)", Reading("1.8.0*01", 5, "kWh")),
        ("1.8.0&02(5*kWh)", Reading("1.8.0&02", 5, "kWh")),
        ("1-2:1.8.0(5*kWh)", Reading("1-2:1.8.0", 5, "kWh")),
        ("C.7.1(0003)", Reading("C.7.1", "0003")),
        ("C.7.0(none)", Reading("C.7.0", "none")),
        ("1.6.1(0.5)(0912011200)", Reading("1.6.1", 0.5)),
        ("16.7( -1.5 *kW)", Reading("16.7", -1.5, "kW", "power_w", 1000)),
    ],
)
def test_a_data_set_gives_its_value(line: str, found: Reading) -> None:
    assert readings(line) == (found,)


def test_several_data_sets_may_stand_on_a_line_and_groups_on_their_own() -> None:
    assert readings("1.8.1(1*kWh)1.8.2(2*kWh)", "97.1(a)", "(b)", "text without brackets", "97.2()") == (
        Reading("1.8.1", 1, "kWh", "energy_import_tariff_wh.1", 1000),
        Reading("1.8.2", 2, "kWh", "energy_import_tariff_wh.2", 1000),
        Reading("97.1", "a"),
        Reading("97.1", "b"),
        Reading("97.2", ""),
    )


@pytest.mark.parametrize(
    ("codes", "number"),
    [
        (("0.0(7)", "C.1.0( 5 )", "0.0.0(6)"), "5"),
        (("0.0.0(6)", "0.0(7)"), "6"),
        (("1-0:0.0.0*255(1)", "0-0:96.1.255*255(1ABC2)", "1-0:96.1.0*255(3)"), "3"),
        (("1-0:96.1.0*255()", "C.1(8)"), "8"),
        (("1-1:96.1.0(9)", "0-1:96.1.0(9)", "1.8.0(9)"), None),
    ],
)
def test_the_meter_number_is_the_best_that_it_sends(codes: tuple[str, ...], number: str | None) -> None:
    (telegram,) = telegrams(D0Codec(), b"/ABC4TEST\r\n" + block(*codes))
    assert telegram.meter == number


def test_noise_while_the_speed_changes_does_no_harm() -> None:
    line = MODE_C.replace(b"\x02", b"\x00\x7f\x02", 1)
    assert telegrams(D0Codec(), line) == telegrams(D0Codec(), MODE_C)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (MODE_C.replace(b"61561", b"61562"), "bad_checksum"),
        (MODE_C[:-1] + b"/", "bad_checksum"),
        (MODE_C[:-2] + b"/ABC", "truncated"),
        (b"/ABC4TEST\r\n" + block("nothing"), "no_values"),
        (b"/ABC4TEST\r\n\r\n!", "bad_line"),
        (b"/ABC4TEST!", "bad_line"),
        (PUSHED.replace(b"*kWh)", b"*kWh"), "bad_line"),
        (PUSHED.replace(b"0001013", b"0001O13"), "bad_line"),
        (PUSHED.replace(b"1-0:1.8.0", b"1-01.8.0"), "bad_line"),
        (PUSHED.replace(b"96.5.5", b"96.5,5"), "bad_line"),
        (PUSHED.replace(b"255(82)", b"255(82)x"), "bad_line"),
        (PUSHED.replace(b"82", b"8\x02"), "bad_line"),
        (b"/ABC5PUSH\r\n\r\n" + b"1.8.0(5*kWh)\r\n" * 2000, "too_long"),
    ],
)
def test_what_is_wrong_has_a_name_and_does_not_hide_the_next(line: bytes, reason: str) -> None:
    codec = D0Codec()
    assert reasons(codec, line) == [reason]
    assert telegrams(codec, MODE_C) == telegrams(D0Codec(), MODE_C)


def test_a_pushed_telegram_is_there_with_its_last_character() -> None:
    end = PUSHED.index(b"!")
    codec = D0Codec()
    assert not codec.feed(PUSHED[:end])
    assert len(telegrams(codec, PUSHED[end : end + 1])) == 1


def test_a_meter_without_a_value_says_so_in_its_own_way() -> None:
    (telegram,) = telegrams(D0Codec(), PUSHED.replace(b"00001013.0368091", b"--------.-------"))
    assert telegram.readings[0] == Reading("1-0:1.8.0*255", "--------.-------", "kWh")


@pytest.mark.parametrize("line", ["A" * 16_000, "(" * 16_000, "1.8.0(" * 2_600, ")(" * 8_000, "1.8.0(" + "5" * 16_000])
def test_the_effort_for_long_nonsense_grows_with_its_length_and_not_faster(line: str) -> None:
    def effort(length: int) -> float:
        data, best = b"/ABC5PUSH\r\n" + line[:length].encode() + b"!", float("inf")
        for _ in range(5):
            start = process_time()
            assert reasons(D0Codec(), data) == ["bad_line"]
            best = min(best, process_time() - start)
        return best

    assert effort(len(line)) < 64 * effort(len(line) // 16), "16 if it grows with the length, 256 with its square"


def test_a_block_with_checksum_needs_it_even_if_the_line_is_slow() -> None:
    codec = D0Codec()
    assert not codec.feed(MODE_C[:-1])
    assert [type(one) for one in codec.feed(PUSHED)] == [BadFrame, Telegram]


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "ident", "answer"),
    [
        (b"/LGZ4ZMF100AC.M26\r\n", Ident("LGZ", "C", 4800, "ZMF100AC.M26", "4"), b"\x06040\r\n"),
        (b"/ISk5\\2MT382-1000\r\n", Ident("ISk", "E", 9600, "MT382-1000", "5"), b"\x06050\r\n"),
        (b"/ACE0\\3k260V01.19\r\n", Ident("ACE", "C", None, "k260V01.19", "0"), b"\x06000\r\n"),
        (b"/ABC6\\@X\\2Y\r\n", Ident("ABC", "C", 19200, "X\\2Y", "6"), b"\x06060\r\n"),
        (b"/ABC9FUTURE\r\n", Ident("ABC", "C", None, "FUTURE", "9"), b"\x06000\r\n"),
        (b"/ABCAold", Ident("ABC", "B", 600, "old", "A"), b""),
        (b"/ABCFold", Ident("ABC", "B", 19200, "old", "F"), b""),
        (b"/ABCGreserved", Ident("ABC", "A", None, "reserved", "G"), b""),
        (b"/ABC oldest \r\n", Ident("ABC", "A", None, "oldest", " "), b""),
        (b"\x7f/?!\r\n/ABC5X\n", Ident("ABC", "C", 9600, "X", "5"), b"\x06050\r\n"),
        (bytes(b | 0x80 for b in b"/ABC3X\r\n"), Ident("ABC", "C", 2400, "X", "3"), b"\x06030\r\n"),
    ],
)
def test_an_identification_says_mode_and_speed(line: bytes, ident: Ident, answer: bytes) -> None:
    assert Ident.parse(line) == ident
    assert acknowledge(ident) == answer


@pytest.mark.parametrize(
    "line", [b"", b"/", b"/?!\r\n", b"/?ABC5!\r\n", b"/AB", b"/A1C5X", b"ABC5X\r\n", b"/ABC5X\x02\r\n"]
)
def test_anything_else_is_no_identification(line: bytes) -> None:
    assert Ident.parse(line) is None


def test_every_speed_of_the_standard_is_known() -> None:
    found = {letter: ident.baud for letter in "ABCDEF0123456" if (ident := Ident.parse(f"/ABC{letter}X".encode()))}
    assert list(found.values()) == [600, 1200, 2400, 4800, 9600, 19200, None, 600, 1200, 2400, 4800, 9600, 19200]


def test_the_third_letter_says_how_fast_a_meter_is() -> None:
    fast, slow = Ident.parse(b"/ISk5X"), Ident.parse(b"/ISK5X")
    assert fast is not None
    assert slow is not None
    assert (fast.reaction_s, slow.reaction_s) == (0.02, 0.2)


def test_the_request_carries_the_address() -> None:
    assert request() == b"/?!\r\n"
    assert request("00012345") == b"/?00012345!\r\n"


@pytest.mark.parametrize("address", ["1!", "/", "ü", "1\r\n", "0" * 33])
def test_an_address_that_would_break_the_message_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        request(address)


def test_the_echo_of_the_dialogue_is_no_part_of_the_telegram() -> None:
    line = request("123") + b"/ABC4TEST\r\n" + b"\x06040\r\n" + MODE_C[len(b"/ABC4TEST\r\n") :]
    assert telegrams(D0Codec(), line) == telegrams(D0Codec(), MODE_C)
