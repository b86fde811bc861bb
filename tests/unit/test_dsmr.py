"""DSMR P1: telegrams made here from the standard's rules, plain and encrypted, whole and damaged."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from dsmr_parser import telegram_specifications  # type: ignore[import-untyped]
from dsmr_parser.parsers import TelegramParser  # type: ignore[import-untyped]

from agent.core.errors import ConfigError
from agent.core.model import BadFrame
from drivers.codec.dsmr import DsmrCodec, crc16
from drivers.codec.telegram import Reading, Telegram
from tests.meter_cases import CASES, every_case, expected, reasons, said, same_types, telegrams

KEY, AUTH_KEY = bytes(range(16)), bytes(range(16, 32))
TITLE = b"ABC\x00\x12\x34\x56\x78"
V5 = (CASES / "dsmr" / "v5_gas_and_water" / "line.txt").read_bytes()
V2 = b"/ABC5\\2OLD\r\n\r\n1-0:1.8.1(00012.345*kWh)\r\n1-0:1.7.0(0000.98*kW)\r\n!\r\n"


def checked(*lines: str) -> bytes:
    """A telegram of these lines with its checksum."""
    body = ("/ABC5TEST\r\n\r\n" + "".join(line + "\r\n" for line in lines) + "!").encode("latin-1")
    return body + f"{slow_crc(body):04X}\r\n".encode()


def slow_crc(data: bytes) -> int:
    """CRC-16/ARC, bit by bit."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def readings(*lines: str) -> tuple[Reading, ...]:
    (telegram,) = telegrams(DsmrCodec(), checked(*lines))
    return telegram.readings


def encrypted(plain: bytes, *, control: int = 0x30, counter: int = 7, key: bytes = KEY, form: int = 0x82) -> bytes:
    """The APDU that an encrypted port sends (DLMS green book 9.2.7.2)."""
    start, tag = bytes([control]) + counter.to_bytes(4), b""
    cipher = Cipher(algorithms.AES(key), modes.GCM(TITLE + counter.to_bytes(4))).encryptor()
    cipher.authenticate_additional_data(bytes([control]) + AUTH_KEY)
    text = cipher.update(plain) + cipher.finalize()
    if control & 0x10:
        tag = cipher.tag[:12]
    body = start + text + tag
    length = {0x82: b"\x82" + len(body).to_bytes(2), 0x81: b"\x81" + bytes([len(body) & 0xFF])}[form]
    return b"\xdb\x08" + TITLE + length + body


# --- whole telegrams -------------------------------------------------------------------------------------------------


@every_case("dsmr")
def test_each_case_says_what_was_written_down(case: Path) -> None:
    results = DsmrCodec().feed((case / "line.txt").read_bytes())
    assert said(results) == expected(case)
    for result, wanted in zip(results, expected(case), strict=True):
        if isinstance(result, Telegram) and isinstance(wanted, Telegram):
            assert same_types(result.readings, wanted.readings)


ORACLE = {
    "v5_gas_and_water": "V5",
    "v2_2_no_checksum": "V2_2",
    "belgium_demand_and_heat": "BELGIUM_FLUVIUS",
    "sweden_reactive_and_damage": "SWEDEN",
    "short_checksum": "V5",
}


@pytest.mark.parametrize("name", ORACLE)
def test_dsmr_parser_reads_the_same_numbers(name: str) -> None:
    case = CASES / "dsmr" / name
    line = (case / "line.txt").read_bytes()
    wanted = expected(case)[-1]
    assert isinstance(wanted, Telegram)
    last = line[line.rindex(b"/ABC") :].decode("latin-1")
    specification = getattr(telegram_specifications, ORACLE[name])
    parsed = json.loads(TelegramParser(specification).parse(last).to_json())
    numbers = [
        (float(number), value.get("unit"))
        for value in _values(parsed)
        if isinstance(number := value.get("value"), int | float)
    ]
    ours = [(float(one.value), one.unit) for one in wanted.readings if not isinstance(one.value, str)]
    assert numbers
    missing = [number for number in numbers if number not in ours]
    assert not missing, "numbers there are numbers here, with the same unit"


def _values(parsed: object) -> Iterable[dict[str, object]]:
    if isinstance(parsed, dict):
        if "value" in parsed:
            yield parsed
        for one in parsed.values():
            yield from _values(one)
    elif isinstance(parsed, list):
        for one in parsed:
            yield from _values(one)


def test_numbers_are_the_nearest_to_what_was_sent() -> None:
    numbers = readings(
        "1-0:1.8.0(004788.631*kWh)", "1-0:2.8.0(9007199254740993*Wh)", "1-0:1.7.0(-00.5*kW)", "1-0:32.7.0(231.*V)"
    )
    assert [one.value for one in numbers] == [float("4788.631"), 9007199254740993, -0.5, 231.0]
    assert [type(one.value) for one in numbers] == [float, int, float, float]


def test_a_checked_value_that_is_no_number_stays_text() -> None:
    assert readings("1-0:1.8.0(----*kWh)", "1-0:2.8.0(1e5*kWh)", "1-0:14.7.0(nan*Hz)", "0-0:96.7.21(x)") == (
        Reading("1-0:1.8.0", "----", "kWh"),
        Reading("1-0:2.8.0", "1e5", "kWh"),
        Reading("1-0:14.7.0", "nan", "Hz"),
        Reading("0-0:96.7.21", "x"),
    )


def test_a_number_of_thousands_of_digits_is_text() -> None:
    digits = "9" * 6000
    (tariff, energy) = readings(f"0-0:96.14.0({digits})", f"1-0:1.8.0({digits}*kWh)")
    assert (tariff.value, tariff.point, tariff.number, energy.value, energy.point) == (digits, None, None, digits, None)


def test_states_are_text_but_numbers_to_who_stores_them() -> None:
    (tariff, switch) = readings("0-0:96.14.0(0002)", "0-0:96.3.10(1)")
    assert (tariff.value, tariff.point, tariff.number) == ("0002", "tariff", 2)
    assert (switch.value, switch.point, switch.number) == ("1", "relay", 1)


@pytest.mark.parametrize(
    ("kind", "unit", "point", "scale"),
    [
        ("003", "m3", "gas_volume_m3", 1),
        ("007", "m3", "water_volume_m3", 1),
        ("006", "m3", "water_volume_m3", 1),
        ("021", "m3", "water_volume_m3", 1),
        ("004", "GJ", "heat_energy_wh", 1e9 / 3600),
        ("012", "MWh", "heat_energy_wh", 1_000_000),
        ("010", "GJ", "cooling_energy_wh", 1e9 / 3600),
        ("002", "kWh", None, 1),
        ("003", "kWh", None, 1),
        ("x", "m3", None, 1),
    ],
)
def test_a_submeter_means_what_its_device_type_says(kind: str, unit: str, point: str | None, scale: float) -> None:
    found = readings(
        "1-3:0.2.8(50)", f"0-4:24.2.1(240229120000W)(00001.500*{unit})", f"0-4:24.1.0({kind})", "0-3:24.1.0(007)"
    )
    assert found[1] == Reading("0-4:24.2.1", 1.5, unit, point, scale)


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ("45303034353030303030303132333435", "E004500000012345"),
        ("3960221976967177082151037881335713", "3960221976967177082151037881335713"),
        ("47555130", "47555130"),
        ("09610", "09610"),
        ("ADC3100000158491", "ADC3100000158491"),
    ],
)
def test_the_meter_number_is_decoded_where_it_is_hexadecimal_ascii(sent: str, number: str) -> None:
    (telegram,) = telegrams(DsmrCodec(), checked(f"0-0:96.1.1({sent})"))
    assert (telegram.meter, telegram.readings[0].value) == (number, sent)


# --- checksums -------------------------------------------------------------------------------------------------------


def test_the_crc_is_the_standards() -> None:
    assert crc16(b"123456789") == slow_crc(b"123456789") == 0xBB3D
    assert crc16(V5[: V5.index(b"!") + 1]) == slow_crc(V5[: V5.index(b"!") + 1])


@pytest.mark.parametrize("ends", [b"\n", b"\n\n"])
def test_a_recording_without_cr_passes_its_checksum(ends: bytes) -> None:
    recorded = V5.replace(b"\r\n", ends)
    assert [one.readings for one in telegrams(DsmrCodec(), recorded)] == [
        one.readings for one in telegrams(DsmrCodec(), V5)
    ]
    assert not telegrams(DsmrCodec(), recorded.replace(b"012345.678", b"012345.679"))


def test_lower_case_digits_are_a_checksum() -> None:
    assert len(telegrams(DsmrCodec(), V5[:-6] + V5[-6:].lower())) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (V5[:-6] + b"\r\n", "no_checksum"),
        (V5.replace(b"1-3:0.2.8(50)\r\n", b"")[:-6] + b"\r\n", "no_checksum"),
        (V5[:-4] + b"\r\n", "bad_checksum"),
        (V5[:-4] + b"/ABC", "bad_checksum"),
        (V5[:-6] + b"xyz", "bad_checksum"),
        (V2[:-2] + b"/ABC", "bad_checksum"),
        (V5.replace(b"00.000", b"00.001", 1), "bad_checksum"),
        (b"/ABC5TEST\r\n\r\n!\r\n", "bad_line"),
        (checked("no values here"), "no_values"),
    ],
)
def test_what_is_wrong_has_a_name(line: bytes, reason: str) -> None:
    codec = DsmrCodec()
    assert reasons(codec, line) == [reason]
    assert len(telegrams(codec, V5)) == 1, "and the good one behind it comes out"


@pytest.mark.parametrize(
    "damage",
    [
        (b"1-0:1.8.1", b"1-0:1.8,1"),
        (b"1-0:1.8.1", b"1-01.8.1"),
        (b"12.345", b"12,345"),
        (b"12.345", b"12.3\x145"),
        (b"12.345", b"12.\xb345"),
        (b"kWh)", b"kWh"),
        (b"(00012", b"00012"),
        (b"\r\n1-0:1.7", b"1-0 1.7"),
        (b"kW)", b"kW)x"),
    ],
)
def test_without_a_checksum_one_character_out_of_place_refuses_all(damage: tuple[bytes, bytes]) -> None:
    damaged = V2.replace(*damage)
    assert damaged != V2
    assert reasons(DsmrCodec(), damaged) == ["bad_line"]
    assert len(telegrams(DsmrCodec(), V2)) == 1


def test_an_endless_telegram_is_given_up() -> None:
    codec = DsmrCodec()
    assert reasons(codec, b"/ABC5\r\n" + b"1-0:1.8.0(1*kWh)\r\n" * 2000) == ["too_long"]
    assert len(telegrams(codec, V5)) == 1


def test_a_telegram_that_is_cut_off_does_not_hide_the_next() -> None:
    for cut in range(5, len(V5) - 2):
        results = DsmrCodec().feed(V5[:cut] + V5)
        assert [type(one) for one in results] == [BadFrame, Telegram], cut


# --- encrypted ports -------------------------------------------------------------------------------------------------


def test_an_encrypted_port_says_so() -> None:
    assert reasons(DsmrCodec(), encrypted(V5) * 2) == ["encrypted", "encrypted"]


@pytest.mark.parametrize("auth_key", [None, AUTH_KEY])
@pytest.mark.parametrize("control", [0x30, 0x31])
def test_with_the_key_it_is_a_telegram_as_any_other(control: int, auth_key: bytes | None) -> None:
    codec = DsmrCodec(KEY, auth_key)
    assert codec.feed(encrypted(V5, control=control) + encrypted(V5, control=control, counter=8)) == (
        DsmrCodec().feed(V5 + V5)
    )


def test_a_short_telegram_has_a_length_of_one_byte() -> None:
    short = checked("1-0:1.8.0(1*kWh)")
    assert telegrams(DsmrCodec(KEY, AUTH_KEY), encrypted(short, form=0x81)) == telegrams(DsmrCodec(), short)


def test_without_a_tag_the_checksum_counts_unless_tags_are_wanted() -> None:
    bare = encrypted(V5, control=0x20)
    assert len(telegrams(DsmrCodec(KEY), bare)) == 1
    assert reasons(DsmrCodec(KEY, AUTH_KEY), bare)[:1] == ["not_decrypted"]
    assert reasons(DsmrCodec(KEY), encrypted(V2, control=0x20))[:1] == ["not_decrypted"], "nothing vouches for it"


@pytest.mark.parametrize("keys", [(bytes(16), None), (bytes(16), AUTH_KEY), (KEY, bytes(16))])
def test_a_wrong_key_gives_nothing(keys: tuple[bytes, bytes | None]) -> None:
    codec = DsmrCodec(*keys)
    assert reasons(codec, encrypted(V5))[:1] == ["not_decrypted"]
    assert not telegrams(codec, encrypted(V5))


@pytest.mark.parametrize("auth_key", [None, AUTH_KEY])
def test_no_damage_of_an_encrypted_telegram_gives_a_value_or_hides_the_next(auth_key: bytes | None) -> None:
    plain = checked("1-0:1.8.0(004788.631*kWh)", "1-0:1.7.0(00.100*kW)")
    line, following = encrypted(plain), encrypted(checked("1-0:1.8.0(5*kWh)"), counter=9)
    last = telegrams(DsmrCodec(KEY, auth_key), following)
    tag = 0 if auth_key else 12  # nobody looks at it then
    for at in range(len(line) - tag):
        for damaged in (line[:at], line[:at] + bytes([line[at] ^ 0x10]) + line[at + 1 :]):
            codec = DsmrCodec(KEY, auth_key)
            assert not telegrams(codec, damaged), at
            assert telegrams(codec, following) == last, at


def test_a_length_that_no_telegram_has_is_not_waited_for() -> None:
    line = bytearray(encrypted(V5))
    line[11] = 0x7F
    assert DsmrCodec(KEY).feed(bytes(line)) == [BadFrame("too_long", bytes(line[:14]))]
    codec = DsmrCodec(KEY)
    assert [one for byte in line for one in codec.feed(bytes((byte,)))] == DsmrCodec(KEY).feed(bytes(line))


@pytest.mark.parametrize("keys", [(b"short", None), (KEY, b"A" * 32)])
def test_a_key_of_another_length_is_a_mistake_in_the_configuration(keys: tuple[bytes, bytes | None]) -> None:
    with pytest.raises(ConfigError, match="instead of 16"):
        DsmrCodec(*keys)


def test_a_beginning_inside_of_a_beginning_is_the_same_in_any_pieces() -> None:
    line = b"\xdb\x08ABC/XYZ5" + b"\xdb\x08AB!\x00\r\n" + V5 + b"\xdb\x08ABCD/ABC!" + V5
    codec = DsmrCodec()
    assert [one for byte in line for one in codec.feed(bytes([byte]))] == DsmrCodec().feed(line)


def test_a_plain_port_loads_no_cryptography() -> None:
    code = "import sys; from drivers.codec.dsmr import DsmrCodec; DsmrCodec(); print('cryptography' in sys.modules)"
    root = CASES.parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"


def test_the_scale_of_heat_is_exact_enough() -> None:
    (reading,) = (one for one in readings("0-1:24.1.0(004)", "0-1:24.2.1(240229120000W)(3.6*GJ)") if one.point)
    assert math.isclose(float(reading.value) * reading.scale, 1e6, rel_tol=1e-15)


def test_codes_that_nobody_knows_come_out() -> None:
    assert readings("1-0:99.1.2(abc)(def)", "9-9:1.2.3(4*km)") == (
        Reading("1-0:99.1.2", "abc"),
        Reading("1-0:99.1.2", "def"),
        Reading("9-9:1.2.3", 4, "km"),
    )


def test_what_is_remembered_of_codes_is_bounded() -> None:
    codec = DsmrCodec()
    for start in range(0, 3000, 300):
        codec.feed(checked(*(f"1-0:{n // 200}.{n % 200}.1(1*kWh)" for n in range(start, start + 300))))
    assert max(len(codec._lines._codes), len(codec._lines._meanings)) <= 512
