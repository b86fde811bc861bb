"""M-Bus: telegrams built here from the standards' tables, whole, damaged and cut in every way; a master's questions."""

import json
import struct
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import BadFrame, Number
from agent.core.points import find_point
from drivers.codec.mbus import MbusCodec
from drivers.codec.mbus_frame import MAX_FRAME, Ack, FrameReader, LongFrame, ShortFrame
from drivers.codec.mbus_point import MEDIA, point_of
from drivers.codec.mbus_request import (
    MAX_TELEGRAMS,
    SELECTED,
    Answer,
    Readout,
    application_reset,
    find_secondary,
    joined,
    req_ud2,
    secondary_bytes,
    select,
    snd_nke,
)
from drivers.codec.mbus_vif import FIXED_UNITS, read_meaning
from drivers.codec.telegram import Reading, Telegram

CASES = Path(__file__).resolve().parents[1] / "cases" / "mbus"

ELECTRICITY, GAS, HEAT, WATER, COOLING, HEAT_AND_COOLING = 0x02, 0x03, 0x04, 0x07, 0x0A, 0x0D


# --- what a meter does ----------------------------------------------------------------------------------------------


def frame(information: int, data: bytes, control: int = 0x08, address: int = 1) -> bytes:
    body = bytes((control, address, information)) + data
    return bytes((0x68, len(body), len(body), 0x68)) + body + bytes((sum(body) & 0xFF, 0x16))


def header(medium: int = ELECTRICITY, number: str = "12345678", configuration: bytes = b"\0\0") -> bytes:
    # manufacturer ENL, version 1, access number 7, status 0
    return bytes.fromhex(number)[::-1] + bytes.fromhex("cc15") + bytes((1, medium, 7, 0)) + configuration


def telegram(records: str | bytes, medium: int = ELECTRICITY) -> bytes:
    content = bytes.fromhex(records) if isinstance(records, str) else records
    return frame(0x72, header(medium) + content)


def feed(data: bytes) -> list[Telegram | BadFrame]:
    return list(MbusCodec().feed(data))


def one(data: bytes) -> Telegram:
    (only,) = feed(data)
    assert isinstance(only, Telegram), only
    return only


def values(records: str, medium: int = ELECTRICITY) -> list[Number | str]:
    return [reading.value for reading in one(telegram(records, medium)).readings]


def reason(data: bytes) -> str:
    (only,) = feed(data)
    assert isinstance(only, BadFrame), only
    return only.reason


TYPICAL = telegram("04 03 c8 32 00 00  02 2b 9c ff  04 6d 28 0b 74 2b  02 fd 48 fe 08  0f 01 02")
OTHER = telegram("04 06 07 00 00 00", HEAT)


# --- whole telegrams -------------------------------------------------------------------------------------------------


def test_a_telegram_gives_its_values_with_units_and_points() -> None:
    assert feed(TYPICAL) == [
        Telegram(
            "12345678",
            (
                Reading("0", 13_000, "Wh", "energy_import_wh"),
                Reading("1", -100, "W", "power_w"),
                Reading("2", "2019-11-20T11:40:00"),
                Reading("3", 230.2, "V", "voltage_v"),
                Reading("4", "01 02"),
            ),
            (
                ("manufacturer", "ENL"),
                ("medium", "electricity"),
                ("version", "1"),
                ("address", "12345678CC150102"),
            ),
        )
    ]


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda case: case.name)
def test_a_case(case: Path) -> None:
    line = bytes.fromhex((case / "line.hex").read_text())
    expected = json.loads((case / "expected.json").read_text())
    results = [
        result.reason
        if isinstance(result, BadFrame)
        else {
            "meter": result.meter,
            "identity": dict(result.identity),
            "more": result.more,
            "readings": [[r.code, r.value, r.unit, r.point] for r in result.readings],
        }
        for result in feed(line)
    ]
    assert results == expected


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ("01 03 ff", -1),
        ("02 03 fe ff", -2),
        ("03 03 ff ff 7f", 8_388_607),
        ("04 06 ff ff ff ff", -1000),
        ("06 03 00 00 00 00 00 01", 1 << 40),
        ("07 03 ff ff ff ff ff ff ff 7f", (1 << 63) - 1),
        ("05 03" + struct.pack("<f", 1.5).hex(), 1.5),
        ("09 03 42", 42),
        ("0a 03 34 12", 1234),
        ("0b 03 56 34 12", 123_456),
        ("0c 03 78 56 34 12", 12_345_678),
        ("0e 03 12 90 78 56 34 12", 123_456_789_012),
        ("0b 03 56 34 f2", -23_456),
        ("0c 2b 78 5b 34 12", "12345B78"),
        ("02 5a c9 00", 20.1),
        ("04 13 47 d4 00 00", 54.343),
        ("02 fd 48 09 08", 205.7),
        ("02 fb 2d b8 13", 50.48),
        ("04 20 05 00 00 00", 5),
        ("04 21 05 00 00 00", 300),
        ("04 22 05 00 00 00", 18_000),
        ("04 23 05 00 00 00", 432_000),
        ("01 fd 71 1e", -70),
        ("01 fd 17 80", 128),
        ("02 83 74 10 27", 100),
        ("02 83 7d 05 00", 5000),
        ("02 03 00 80", None),
        ("05 2b 00 00 c0 7f", None),
        ("02 83 15 00 00", None),
        ("00 03", None),
        ("08 03", None),
    ],
)
def test_numbers(record: str, value: Number | str | None) -> None:
    assert values(record) == ([] if value is None else [value])


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ("02 6c cd 13", "2014-03-13"),
        ("02 6c 00 00", "2000-00-00"),
        ("02 6c ff ff", None),
        ("04 6d 17 2e cc 13", "2014-03-12T14:23:00"),
        ("04 6d a1 15 e9 17", None),  # bit 7 of the minute: the time is not valid
        ("04 6d 3f 17 cc 13", None),
        ("04 6d 17 1f cc 13", None),
        ("04 6d 00 00 5f cc", "1998-12-31T00:00:00"),
        ("04 6d 00 20 5f cc", "2098-12-31T00:00:00"),
        ("04 6d 00 00 01 a1", "2080-01-01T00:00:00"),
        ("06 6d 1e 17 0e cc 13 0b", "2014-03-12T14:23:30"),
        ("06 6d 1e 97 0e cc 13 0b", None),
        ("03 6d 1e 17 0e", "14:23:30"),
        ("03 6d ff ff ff", None),
        ("04 fd 30 00 00 41 11", "2010-01-01T00:00:00"),
        ("02 83 39 cd 13", "2014-03-13"),  # energy, "date of": a date and no energy
        ("04 84 42 17 2e cc 13", "2014-03-12T14:23:00"),
    ],
)
def test_dates(record: str, value: str | None) -> None:
    telegram_ = one(telegram(record))
    assert [(r.value, r.unit, r.point) for r in telegram_.readings] == ([] if value is None else [(value, None, None)])


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ("0d fd 0b 05 31 32 48 46 57", "WFH21"),
        ("0d fd 0b 03 00 e9 41", "Aé"),
        ("0d fd 0b 00", ""),
        ("0d 03 c2 34 12", 1234),
        ("0d 03 d2 34 12", -1234),
        ("0d 03 d2 3b 12", "123B"),
        ("0d 03 e2 10 27", 10_000),
        ("0d 03 f0" + bytes(range(16)).hex(), "0F 0E 0D 0C 0B 0A 09 08 07 06 05 04 03 02 01 00"),
        ("0d 03 e0", None),
    ],
)
def test_data_of_variable_length(record: str, value: Number | str | None) -> None:
    assert values(record) == ([] if value is None else [value])


@pytest.mark.parametrize(("length", "size"), [(0xF4, 32), (0xF5, 48), (0xF6, 64)])
def test_long_binary_data(length: int, size: int) -> None:
    (value,) = values(bytes((0x0D, 0x03, length)).hex() + bytes(size).hex())
    assert value == " ".join(["00"] * size)


def test_a_unit_in_plain_text() -> None:
    (reading,) = one(telegram("02 fc 03 48 52 25 74 d4 11")).readings
    assert reading == Reading("0", 45.64, "%RH")
    (reading,) = one(telegram("02 7c 03 48 52 25 d4 11")).readings
    assert reading == Reading("0", 4564, "%RH")


def test_storage_tariff_and_subunit_add_up_over_their_extensions() -> None:
    present = one(telegram("84 10 03 01 00 00 00  84 20 03 02 00 00 00  84 a0 10 03 03 00 00 00")).readings
    assert [reading.point for reading in present] == [f"energy_import_tariff_wh.{n}" for n in (1, 2, 6)]
    elsewhere = (
        "44 03 01 00 00 00  84 01 03 02 00 00 00  84 40 03 03 00 00 00  84 80 40 03 04 00 00 00 14 2b 05 00 00 00"
    )
    assert [reading.point for reading in one(telegram(elsewhere)).readings] == [None] * 5


def test_fill_bytes_have_no_number_and_records_without_a_value_keep_theirs() -> None:
    readings = one(telegram("2f 04 03 01 00 00 00 2f 2f 00 03 2f 02 2b 07 00 2f")).readings
    assert [(reading.code, reading.value) for reading in readings] == [("0", 1), ("2", 7)]


@pytest.mark.parametrize(
    ("medium", "record", "point", "scale"),
    [
        (ELECTRICITY, "04 83 3b 01 00 00 00", "energy_import_wh", 1),
        (ELECTRICITY, "04 83 3c 01 00 00 00", "energy_export_wh", 1),
        (ELECTRICITY, "84 10 83 3c 01 00 00 00", "energy_export_tariff_wh.1", 1),
        (ELECTRICITY, "04 83 fc 02 01 00 00 00", "energy_import_l2_wh", 1),
        (ELECTRICITY, "04 83 bc fc 03 01 00 00 00", "energy_export_l3_wh", 1),
        (ELECTRICITY, "04 fb 01 01 00 00 00", "energy_import_wh", 1),
        (ELECTRICITY, "04 fb 03 01 00 00 00", "reactive_energy_import_varh", 1),
        (ELECTRICITY, "04 fb 83 3c 01 00 00 00", "reactive_energy_export_varh", 1),
        (ELECTRICITY, "02 ab 3b 01 00", "power_import_w", 1),
        (ELECTRICITY, "02 ab bc fc 01 01 00", "power_export_l1_w", 1),
        (ELECTRICITY, "02 ab fc 03 01 00", "power_l3_w", 1),
        (ELECTRICITY, "02 fd c8 fc 02 01 00", "voltage_l2_v", 1),
        (ELECTRICITY, "02 fd c8 fc 06 01 00", "voltage_l2_l3_v", 1),
        (ELECTRICITY, "02 fd da fc 04 01 00", "current_n_a", 1),
        (ELECTRICITY, "02 fd da fc 05 01 00", None, 1),
        (ELECTRICITY, "02 fb 2e 01 00", "frequency_hz", 1),
        (ELECTRICITY, "02 fb 16 01 00", "reactive_power_var", 1),
        (ELECTRICITY, "02 fb 36 01 00", "apparent_power_va", 1),
        (ELECTRICITY, "02 fd c8 ff 01 01 00", None, 1),  # behind FF only the manufacturer knows
        (ELECTRICITY, "04 83 28 01 00 00 00", None, 1),  # per pulse
        (HEAT, "04 06 01 00 00 00", "heat_energy_wh", 1),
        (HEAT, "04 0e 01 00 00 00", "heat_energy_wh", 1 / 3600),
        (HEAT, "04 2d 01 00 00 00", "power_w", 1),
        (HEAT, "04 33 01 00 00 00", "power_w", 1 / 3600),
        (HEAT, "04 14 01 00 00 00", "volume_m3", 1),
        (HEAT, "04 3b 01 00 00 00", "volume_flow_m3_h", 1),
        (HEAT, "04 43 01 00 00 00", "volume_flow_m3_h", 60),
        (HEAT, "04 4b 01 00 00 00", "volume_flow_m3_h", 3600),
        (HEAT, "02 5a 01 00", "flow_temperature_degc", 1),
        (HEAT, "02 5e 01 00", "return_temperature_degc", 1),
        (HEAT, "02 62 01 00", "temperature_difference_k", 1),
        (HEAT, "02 26 01 00", "operating_s", 1),
        (HEAT, "02 22 01 00", None, 1),
        (HEAT, "84 10 06 01 00 00 00", None, 1),
        (COOLING, "04 06 01 00 00 00", "cooling_energy_wh", 1),
        (HEAT_AND_COOLING, "04 86 3c 01 00 00 00", "cooling_energy_wh", 1),
        (WATER, "04 13 01 00 00 00", "water_volume_m3", 1),
        (GAS, "04 13 01 00 00 00", "gas_volume_m3", 1),
        (GAS, "04 06 01 00 00 00", None, 1),
        (0x00, "02 fb 1a 01 00", "humidity_pct", 1),
        (HEAT, "02 fb 5a 01 00", None, 1),  # °F
    ],
)
def test_points(medium: int, record: str, point: str | None, scale: Number) -> None:
    (reading,) = one(telegram(record, medium)).readings
    assert reading.point == point
    assert reading.scale == pytest.approx(scale)


def test_every_point_is_one_of_the_vocabulary() -> None:
    codes = [bytes((vif,)) for vif in range(0x7B)] + [bytes((t, c)) for t in (0xFB, 0xFD) for c in range(0x80)]
    bare = [read_meaning(code, 0)[0] for code in codes]
    ways = [b"\xbb", b"\xbc", b""]
    places = [b"", *(bytes((0xFC, phase)) for phase in range(1, 8))]
    combined = [
        read_meaning(bytes((*code[:-1], code[-1] | 0x80)) + way + place + b"\x3e", 0)[0]
        for code in codes
        for way in ways
        for place in places
    ]
    found = {
        point[0]
        for meaning in [*bare, *combined, *FIXED_UNITS.values()]
        for medium in MEDIA
        for tariff in (0, 1, 9, 10)
        if (point := point_of(meaning, medium, tariff))
    }
    assert {"energy_import_wh", "heat_energy_wh", "voltage_v", "volume_m3"} <= found
    assert not [name for name in found if find_point(name) is None]


def test_of_two_records_for_one_point_the_first_has_it_unless_nothing_tells_them_apart() -> None:
    apart = one(telegram("04 06 01 00 00 00  04 0f 02 00 00 00", HEAT)).readings
    assert [reading.point for reading in apart] == ["heat_energy_wh", None]
    alike = one(telegram("02 fd 48 01 00  02 fd 48 02 00  02 2b 01 00")).readings
    assert [reading.point for reading in alike] == [None, None, "power_w"]


@pytest.mark.parametrize(
    ("information", "content"),
    [
        (0x72, header() + b"\x04\x03\x05\0\0\0"),
        (0x7A, b"\x01\x00\x00\x00\x04\x03\x05\0\0\0"),
        (0x78, b"\x04\x03\x05\0\0\0"),
    ],
)
def test_the_three_headers(information: int, content: bytes) -> None:
    sent = one(frame(information, content))
    assert [reading.value for reading in sent.readings] == [5]
    assert sent.meter == ("12345678" if information == 0x72 else None)


def test_a_telegram_with_the_high_byte_first() -> None:
    start = bytes.fromhex("12345678 15cc 01 04 07 00 0000")
    sent = one(frame(0x76, start + bytes.fromhex("04 06 00000102  0b 13 123456  02 6c 13cd  0d fd0b 03 414243")))
    assert (sent.meter, dict(sent.identity)["address"]) == ("12345678", "12345678CC150104")
    assert [reading.value for reading in sent.readings] == [258_000, 123.456, "2014-03-13", "ABC"]


def test_more_records_follow() -> None:
    sent = one(telegram("04 03 01 00 00 00 1f aa bb"))
    assert sent.more
    assert [reading.value for reading in sent.readings] == [1]
    assert not one(TYPICAL).more


@pytest.mark.parametrize(
    ("information", "data", "expected"),
    [
        (
            0x73,
            "78563412 0a 00 e9 7e 01000000 35010000",
            [("0", 1, "l", "water_volume_m3", 0.001), ("1", 135, "l", None, 1)],
        ),
        (
            0x73,
            "78563412 0a 00 05 69 31650000 69000000",
            [("0", 6531, "kWh", "heat_energy_wh", 1000), ("1", 69, "l", "volume_m3", 0.001)],
        ),
        (
            0x73,
            "78563412 0a 01 86 2c ffffffff 00010000",
            [("0", -10, "kWh", "energy_import_wh", 1000), ("1", 256, "m^3", "volume_m3", 1)],
        ),
        (0x73, "78563412 0a 02 05 69 31650000 69000000", [("0", 6531, "kWh", None, 1), ("1", 69, "l", None, 1)]),
        (
            0x77,
            "12345678 0a 00 05 69 00006531 00000069",
            [("0", 6531, "kWh", "heat_energy_wh", 1000), ("1", 69, "l", "volume_m3", 0.001)],
        ),
        (
            0x73,
            "78563412 0a 00 3f 7a 31650000 69a00000",
            [("0", 6531, None, None, 1), ("1", "0000A069", None, None, 1)],
        ),
    ],
)
def test_fixed_data(information: int, data: str, expected: list[tuple[object, ...]]) -> None:
    sent = one(frame(information, bytes.fromhex(data)))
    assert sent.meter == "12345678"
    assert [(r.code, r.value, r.unit, r.point, r.scale) for r in sent.readings] == expected


# --- what is no telegram ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (frame(0x70, b""), "application_unspecified"),
        (frame(0x70, b"\x00"), "application_unspecified"),
        (frame(0x70, b"\x01"), "application_unimplemented_ci"),
        (frame(0x70, b"\x08"), "application_busy"),
        (frame(0x70, b"\x63"), "application_reserved"),
        (frame(0x71, b"\x01"), "unknown_ci"),
        (frame(0x72, header()[:-1]), "premature_end"),
        (telegram("04 03 01 00 00 00 04 03 01 00 00"), "premature_end"),
        (telegram("04 03 01 00 00 00 04"), "premature_end"),
        (telegram("04 03 01 00 00 00 84"), "premature_end"),
        (telegram("04 03 01 00 00 00 04 83"), "premature_end"),
        (telegram("04 03 01 00 00 00 0d 03"), "premature_end"),
        (telegram("0d 03 05 01 02 03 04"), "premature_end"),
        (telegram("12 fc f3 48 52 25 74 b4 16"), "premature_end"),
        (telegram("12 7c"), "premature_end"),
        (telegram("8b 60 84 84 84 84 84 84 84 84 84 84 84 04 37 18 02"), "too_many_extensions"),
        (telegram("84 80 80 80 80 80 80 80 80 80 80 00 03 01 00 00 00"), "too_many_extensions"),
        (telegram("3f 03 01"), "reserved_field"),
        (telegram("0d 03 ca 01"), "reserved_length"),
        (frame(0x73, bytes(15)), "bad_size"),
        (frame(0x73, bytes(17)), "bad_size"),
        (frame(0x72, header(configuration=b"\x20\x05") + bytes(32)), "encrypted"),
        (frame(0x72, header(configuration=b"\x10\x02") + bytes(16)), "encrypted"),
        (frame(0x7A, b"\x01\x00\x00\x08" + bytes(32)), "encrypted"),
        (TYPICAL[:-2] + bytes((TYPICAL[-2] ^ 1,)) + TYPICAL[-1:], "bad_checksum"),
        (TYPICAL[:-1] + b"\x17", "bad_stop"),
        (b"\x68\x05\x06\x68\x08\x01\x72", "bad_length"),
        (b"\x68\x00\x00\x68\x08\x16", "bad_length"),
    ],
)
def test_what_is_wrong_is_said(line: bytes, word: str) -> None:
    assert reason(line) == word


def test_ten_extensions_are_allowed() -> None:
    assert values("8b " + "80 " * 9 + "00 84 " + "ba " * 9 + "3a 04 37 18") == [183_704 * 10]


def test_a_configuration_field_that_is_none_or_says_that_nothing_is_encrypted() -> None:
    for configuration in ("27b6", "0005", "0001", "1fc0", "c402"):
        data = header(configuration=bytes.fromhex(configuration)) + b"\x04\x03\x05\0\0\0"
        assert [reading.value for reading in one(frame(0x72, data)).readings] == [5]
    decrypted = header(configuration=b"\x20\x05") + b"\x2f\x2f\x04\x03\x05\0\0\0"
    assert [reading.value for reading in one(frame(0x72, decrypted)).readings] == [5]


def test_acknowledgements_and_what_masters_say_give_nothing() -> None:
    echo = select("12345678FFFFFFFF") + req_ud2(1, fcb=True) + snd_nke(1) + frame(0x51, b"\x01\x7a\x08", control=0x53)
    assert feed(b"\xe5" + echo + TYPICAL) == feed(TYPICAL)


# --- frames -----------------------------------------------------------------------------------------------------------


def test_frames_of_all_kinds() -> None:
    line = b"\xe5" + req_ud2(5, fcb=False) + frame(0x70, b"") + b"\x00\xff" + frame(0x72, b"ab", address=9)
    assert FrameReader().feed(line) == [
        Ack(),
        ShortFrame(0x5B, 5),
        LongFrame(0x08, 1, 0x70, b""),
        LongFrame(0x08, 9, 0x72, b"ab"),
    ]


def test_bytes_of_a_damaged_frame_are_no_acknowledgement() -> None:
    damaged = frame(0x72, b"\xe5\x10\x40\x01\x41\x16\xe5\xe5")[:-2] + b"\x00\x16"
    assert [type(found) for found in FrameReader().feed(damaged + b"\xe5")] == [BadFrame, Ack]


@pytest.mark.parametrize("tail", ["68 e5 16 68", "68 13 17 68", "e5 68 05 68", "10 5b 01 68"])
def test_what_looks_like_a_frame_across_the_end_of_a_damaged_one(tail: str) -> None:
    damaged = frame(0x72, bytes(9))[:-2] + bytes.fromhex(tail)[:2]
    line = damaged + bytes.fromhex(tail)[2:] + b"\xe5" * 3
    for size in (1, 2, 3, len(line)):
        reader = FrameReader()
        found = [one for i in range(0, len(line), size) for one in reader.feed(line[i : i + size])]
        assert [type(one) for one in found] == [BadFrame, Ack, Ack, Ack], size


def test_the_longest_frame() -> None:
    data = bytes(252)
    assert FrameReader().feed(frame(0x72, data)) == [LongFrame(0x08, 1, 0x72, data)]


def test_a_telegram_cut_anywhere_gives_no_value_and_the_next_one_is_read_at_once() -> None:
    for cut in range(len(TYPICAL)):
        results = feed(TYPICAL[:cut] + OTHER)
        assert results[-1:] == feed(OTHER), cut
        assert [type(result) for result in results[:-1]] == [BadFrame] * (cut >= 3), (
            cut
        )  # a fourth byte 68 is there in both


def test_a_damaged_byte_gives_no_value_and_the_next_telegram_is_read_at_once() -> None:
    for at in range(len(TYPICAL)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = TYPICAL[:at] + bytes((TYPICAL[at] ^ flip,)) + TYPICAL[at + 1 :]
            results = [result for result in feed(damaged + OTHER) if isinstance(result, Telegram)]
            assert results == feed(OTHER), (at, flip)


def test_a_lost_byte_gives_no_value_and_the_next_telegram_is_read_at_once() -> None:
    for at in range(len(TYPICAL)):
        results = feed(TYPICAL[:at] + TYPICAL[at + 1 :] + OTHER)
        assert [result for result in results if isinstance(result, Telegram)] == feed(OTHER), at


def test_a_length_that_claims_everything_holds_nothing_back() -> None:
    assert feed(b"\x68\xff\xff\x68" + OTHER)[-1:] == feed(OTHER)


def test_nothing_waits_for_ever() -> None:
    codec = MbusCodec()
    for _ in range(30):
        codec.feed(b"\x68\xff\xff\x68" * 25)
        assert len(codec._frames._waiting) < MAX_FRAME == codec.limit


def test_a_reset_forgets_what_waits() -> None:
    codec = MbusCodec()
    assert not codec.feed(TYPICAL[:30])
    codec.reset()
    assert not codec.feed(TYPICAL[30:])
    assert list(codec.feed(OTHER)) == feed(OTHER)


pieces = st.one_of(
    st.sampled_from([TYPICAL, OTHER, TYPICAL[:40], OTHER[10:], b"\xe5", b"\x10\x5b\x68", b"\x68\x68\x68\x68", b"\x68"]),
    st.tuples(st.integers(3, 30), st.binary(max_size=30)).map(lambda f: bytes((0x68, f[0], f[0], 0x68)) + f[1]),
    st.binary(max_size=20),
)


@given(st.lists(pieces, max_size=8).map(b"".join), st.integers(1, 50))
@settings(deadline=None)
def test_how_a_line_is_cut_makes_no_difference(line: bytes, size: int) -> None:
    whole, reader = FrameReader().feed(line), FrameReader()
    assert [found for i in range(0, len(line), size) for found in reader.feed(line[i : i + size])] == whole
    codec = MbusCodec()
    assert [found for i in range(0, len(line), size) for found in codec.feed(line[i : i + size])] == feed(line)


@given(st.sampled_from([0x70, 0x72, 0x73, 0x76, 0x77, 0x78, 0x7A, 0x51]), st.binary(max_size=252))
@settings(deadline=None, max_examples=400)
def test_no_content_raises(information: int, data: bytes) -> None:
    for result in feed(frame(information, data)):
        assert isinstance(result, BadFrame) or all(isinstance(r.value, int | float | str) for r in result.readings)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(-(2**31) + 1, 2**31 - 1)), max_size=30))
@settings(deadline=None)
def test_values_come_back_as_they_were_sent(sent: list[tuple[int, int]]) -> None:
    records = b"".join(bytes((0x04, exponent)) + value.to_bytes(4, "little", signed=True) for exponent, value in sent)
    found = one(telegram(records)).readings
    expected = [value * 10 ** (e - 3) if e >= 3 else value / 10 ** (3 - e) for e, value in sent]
    assert [reading.value for reading in found] == expected


# --- questions --------------------------------------------------------------------------------------------------------


def test_the_questions_of_a_master() -> None:
    assert snd_nke(1) == bytes.fromhex("10 40 01 41 16")
    assert req_ud2(1, fcb=True) == bytes.fromhex("10 7b 01 7c 16")
    assert req_ud2(254, fcb=False) == bytes.fromhex("10 5b fe 59 16")
    assert application_reset(5) == bytes.fromhex("68 03 03 68 53 05 50 a8 16")
    assert select("12345678CC150102") == bytes.fromhex("68 0b 0b 68 53 fd 52 78563412 cc15 01 02 9a 16")


@pytest.mark.parametrize(
    "text", ["", "1234567", "12345678CC15010", "12345678CC15010G", "12 45678 CC15 01", "12345678CC1501020"]
)
def test_what_is_no_secondary_address(text: str) -> None:
    with pytest.raises(ValueError, match="no secondary address"):
        secondary_bytes(text)


def test_the_address_that_a_telegram_tells_selects_its_meter() -> None:
    sent = one(TYPICAL)
    assert secondary_bytes(dict(sent.identity)["address"]) == header()[:8]


def test_a_readout_of_several_telegrams_toggles_and_numbers_on() -> None:
    readout = Readout(7)
    assert readout.question == readout.question == req_ud2(7, fcb=True)
    first = one(telegram("04 03 01 00 00 00 02 2b 05 00 1f"))
    assert readout.answered(first) is None
    assert readout.question == req_ud2(7, fcb=False)
    whole = readout.answered(one(telegram("02 fd 48 07 00 04 03 02 00 00 00")))
    assert whole is not None
    assert [(r.code, r.value, r.point) for r in whole.readings] == [
        ("0", 1, "energy_import_wh"),
        ("1", 5, "power_w"),
        ("2", 0.7, "voltage_v"),
        ("3", 2, None),
    ]
    assert not whole.more
    assert readout.question == req_ud2(7, fcb=True)
    assert readout.answered(one(TYPICAL)) == one(TYPICAL)


def test_a_meter_that_always_has_more_comes_to_an_end() -> None:
    readout = Readout(1)
    endless = one(telegram("04 03 01 00 00 00 1f"))
    answers = [readout.answered(endless) for _ in range(MAX_TELEGRAMS)]
    assert [answer is None for answer in answers] == [True] * (MAX_TELEGRAMS - 1) + [False]


def test_joining_one_part_changes_nothing() -> None:
    assert joined([one(TYPICAL)]) == one(TYPICAL)


def search(numbers: list[str]) -> tuple[list[str], int]:
    """What a search finds on a bus with these meters, and how many masks it asked for."""
    found, asked = [], 0
    masks = find_secondary()
    mask = next(masks)
    try:
        while True:
            asked += 1
            assert select(mask)[5] == SELECTED
            answering = [number for number in numbers if fnmatch(number, mask[:8].replace("F", "?"))]
            if len(answering) == 1:
                found += answering
            mask = masks.send([Answer.NONE, Answer.ONE, Answer.MANY][min(2, len(answering))])
    except StopIteration:
        return found, asked


@given(st.sets(st.integers(0, 99_999_999), max_size=12))
@settings(deadline=None)
def test_the_search_finds_every_meter(numbers: set[int]) -> None:
    meters = [f"{number:08d}" for number in sorted(numbers)]
    assert search(meters)[0] == meters


def test_the_search_gives_up_on_two_meters_with_one_number() -> None:
    assert search(["12345678", "12345678", "12345679"]) == (["12345679"], 1 + 8 * 10)
