"""SML: telegrams built here from the standard's rules, whole, damaged, and cut in every way."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import BadFrame
from drivers.codec.sml import SmlCodec
from drivers.codec.sml_tlv import MalformedError, checksums, read_field
from drivers.codec.telegram import Reading, Telegram

CASES = Path(__file__).resolve().parents[1] / "cases" / "sml"

ESCAPE = b"\x1b" * 4
BEGIN = ESCAPE + b"\x01" * 4
ABSENT = b"\x01"
SERVER = bytes.fromhex("0a0149534b0004030201")
POWER, ENERGY = bytes.fromhex("0100100700ff"), bytes.fromhex("0100010800ff")
WATT, WATT_HOUR = 27, 30

Crc = Callable[[bytes], bytes]


# --- what a meter does ----------------------------------------------------------------------------------------------


def reflected_crc(data: bytes, start: int) -> int:
    """CRC-16 with the polynomial 0x1021, lowest bit first, bit by bit."""
    crc = start
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc


def x25(data: bytes) -> bytes:
    return (reflected_crc(data, 0xFFFF) ^ 0xFFFF).to_bytes(2, "little")


def kermit(data: bytes) -> bytes:
    return reflected_crc(data, 0).to_bytes(2, "big")


def octets(value: bytes) -> bytes:
    if len(value) < 15:
        return bytes((len(value) + 1,)) + value
    length = len(value) + 2
    return bytes((0x80 | length >> 4, length & 0x0F)) + value


def unsigned(value: int, size: int = 1) -> bytes:
    return bytes((0x60 | size + 1,)) + value.to_bytes(size)


def signed(value: int, size: int = 4) -> bytes:
    return bytes((0x50 | size + 1,)) + value.to_bytes(size, signed=True)


def listed(*elements: bytes) -> bytes:
    return bytes((0x70 | len(elements),)) + b"".join(elements)


def entry(code: bytes, value: bytes, unit: int | None = None, scaler: int | None = None, time: bytes = ABSENT) -> bytes:
    return listed(
        octets(code),
        ABSENT,
        time,
        ABSENT if unit is None else unsigned(unit),
        ABSENT if scaler is None else signed(scaler, 1),
        value,
        ABSENT,
    )


def message(tag: int, body: bytes, crc: Crc = x25) -> bytes:
    start = b"\x76" + octets(b"\x01\x02") + unsigned(0) + unsigned(0) + listed(unsigned(tag, 2), body)
    return start + b"\x63" + crc(start) + b"\x00"


def values(*entries: bytes, server: bytes = SERVER, crc: Crc = x25) -> bytes:
    body = listed(ABSENT, octets(server), ABSENT, ABSENT, listed(*entries), ABSENT, ABSENT)
    return message(0x0701, body, crc)


def frame(*messages: bytes, crc: Crc = x25) -> bytes:
    content = b"".join(messages)
    fill = -len(content) % 4
    start = BEGIN + content.replace(ESCAPE, ESCAPE * 2) + bytes(fill) + ESCAPE + bytes((0x1A, fill))
    return start + crc(start)


def opened(crc: Crc = x25) -> bytes:
    return message(0x0101, listed(ABSENT, ABSENT, octets(b"\x05"), octets(SERVER), ABSENT, ABSENT), crc)


def closed(crc: Crc = x25) -> bytes:
    return message(0x0201, listed(ABSENT), crc)


def telegram(*entries: bytes, crc: Crc = x25) -> bytes:
    return frame(opened(crc), values(*entries, crc=crc), closed(crc), crc=crc)


TYPICAL = telegram(
    entry(bytes.fromhex("010060320101"), octets(b"ISK")),
    entry(bytes.fromhex("0100600100ff"), octets(SERVER)),
    entry(ENERGY, unsigned(224_624_136, 8), WATT_HOUR, -1, listed(unsigned(1), unsigned(17, 4))),
    entry(POWER, signed(-168), WATT, 0),
)
OTHER = telegram(entry(POWER, signed(4242, 2), WATT, -1))


def feed(data: bytes) -> list[Telegram | BadFrame]:
    return list(SmlCodec().feed(data))


def telegrams(data: bytes) -> list[Telegram]:
    return [result for result in feed(data) if isinstance(result, Telegram)]


def readings(data: bytes) -> Sequence[Reading]:
    (only,) = telegrams(data)
    return only.readings


# --- whole telegrams -------------------------------------------------------------------------------------------------


def test_a_telegram_gives_its_values_with_units_and_points() -> None:
    assert feed(TYPICAL) == [
        Telegram(
            SERVER.hex(),
            (
                Reading("1-0:96.50.1*1", "ISK"),
                Reading("1-0:96.1.0*255", SERVER.hex()),
                Reading("1-0:1.8.0*255", 22_462_413.6, "Wh", "energy_import_wh"),
                Reading("1-0:16.7.0*255", -168, "W", "power_w"),
            ),
            (("manufacturer", "ISK"), ("device_id", "1ISK0067305985")),
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
            "readings": [[r.code, r.value, r.unit, r.point] for r in result.readings],
        }
        for result in feed(line)
    ]
    assert results == expected


@pytest.mark.parametrize(
    ("raw", "scaler", "value"),
    [(1_103_403_151, -1, 110_340_315.1), (7, -3, 0.007), (3, 3, 3000), (-5, 0, -5), (2**64 - 1, 2, (2**64 - 1) * 100)],
)
def test_scaling_is_exact(raw: int, scaler: int, value: float) -> None:
    sent = unsigned(raw, 8) if raw >= 0 else signed(raw, 8)
    (reading,) = readings(telegram(entry(ENERGY, sent, WATT_HOUR, scaler)))
    assert reading.value == value
    assert isinstance(reading.value, int) is (scaler >= 0)


def test_what_holds_no_single_value_is_left_out() -> None:
    time = entry(b"\0\0\1\0\0\xff", listed(unsigned(1), unsigned(5, 4)))
    nothing = entry(POWER, ABSENT, WATT, 0)
    flag = entry(bytes.fromhex("0000600300ff"), b"\x42\x01")
    assert readings(telegram(time, nothing, flag)) == (Reading("0-0:96.3.0*255", 1),)


def test_a_code_that_is_no_obis_code_stays_as_it_is() -> None:
    assert readings(telegram(entry(b"\x01\x02", unsigned(1)))) == (Reading("0102", 1),)


def test_an_unknown_unit_is_none() -> None:
    assert readings(telegram(entry(POWER, unsigned(1), 200, 0))) == (Reading("1-0:16.7.0*255", 1),)


def test_the_older_manufacturer_code_and_a_server_id_of_another_kind() -> None:
    old = frame(values(entry(bytes.fromhex("8181c78203ff"), octets(b"EMH")), server=b"\x06EMH\x01\x02"))
    (only,) = telegrams(old)
    assert only.meter == "06454d480102"
    assert only.identity == (("manufacturer", "EMH"),)


def test_the_fabrication_block_is_part_of_the_device_id() -> None:
    (only,) = telegrams(frame(values(server=bytes.fromhex("09014553591103b599a5"))))
    assert only.identity == (("device_id", "1ESY1162232997"),)


def test_a_list_of_more_than_15_entries() -> None:
    entries = [entry(bytes((1, 0, 96, 1, i, 255)), unsigned(i)) for i in range(20)]
    long_list = bytes((0x80 | 0x70 | 1, 0x04)) + b"".join(entries)
    body = listed(ABSENT, octets(SERVER), ABSENT, ABSENT, long_list, ABSENT, ABSENT)
    assert [reading.value for reading in readings(frame(message(0x0701, body)))] == list(range(20))


def test_holley_meters_use_another_checksum() -> None:
    bare_time = unsigned(1234, 4)  # where the standard has a list of two
    sent = telegram(entry(POWER, signed(99), WATT, 0, bare_time), crc=kermit)
    assert readings(sent) == (Reading("1-0:16.7.0*255", 99, "W", "power_w"),)


def test_a_checksum_may_leave_out_its_leading_zero() -> None:
    for number in range(2000):
        whole = values(entry(POWER, unsigned(number, 2), WATT, 0))
        if whole[-3] == 0:
            break
    shortened = whole[:-4] + b"\x62" + whole[-2:]
    assert [reading.value for reading in readings(frame(shortened))] == [number]


@pytest.mark.parametrize("run", range(1, 14))
def test_escape_bytes_in_a_value(run: int) -> None:
    value = b"\x1b" * run + b"\x01\x01\x01\x01"
    assert readings(telegram(entry(POWER, octets(value)))) == (Reading("1-0:16.7.0*255", value.hex()),)


def test_the_checksums_are_those_of_the_catalogue() -> None:
    assert checksums(b"123456789") == (bytes.fromhex("6e90"), bytes.fromhex("2189"))


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_telegram_cut_anywhere_gives_no_value_and_the_next_one_is_read() -> None:
    for cut in range(len(TYPICAL)):
        results = feed(TYPICAL[:cut] + OTHER)
        assert [result for result in results if isinstance(result, Telegram)] == telegrams(OTHER), cut
        assert any(isinstance(result, BadFrame) for result in results) is (cut >= len(BEGIN)), cut


def test_the_tail_of_a_telegram_is_noise() -> None:
    for cut in range(1, len(TYPICAL)):
        assert feed(TYPICAL[cut:] + OTHER) == telegrams(OTHER), cut


def test_a_damaged_byte_gives_no_value_and_the_next_telegram_is_read() -> None:
    for at in range(len(TYPICAL)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(TYPICAL)
            damaged[at] ^= flip
            assert telegrams(bytes(damaged) + OTHER) == telegrams(OTHER), (at, flip)


def test_a_lost_byte_gives_no_value_and_the_next_telegram_is_read() -> None:
    for at in range(len(TYPICAL)):
        assert telegrams(TYPICAL[:at] + TYPICAL[at + 1 :] + OTHER) == telegrams(OTHER), at


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (TYPICAL[:40] + OTHER, "truncated"),
        (TYPICAL[:40] + ESCAPE + b"\x03\x03\x03\x03" + OTHER, "bad_escape"),
        (TYPICAL[:-1] + bytes((TYPICAL[-1] ^ 1,)), "bad_crc"),
        (OTHER + frame(values(entry(POWER, signed(1)), crc=lambda _: b"\x12\x34")), "bad_message_crc"),
        (frame(values()[:-1] + b"\x01"), "malformed"),
        (frame(b"\x75" + values()[1:]), "malformed"),
        (frame(message(0x0701, listed(ABSENT))), "malformed"),
        (frame(values(listed(octets(POWER), ABSENT))), "malformed"),
        (frame(values(entry(POWER, signed(1), WATT, 100))), "malformed"),
        (frame(values(entry(POWER, b"\x6a" + bytes(9)))), "malformed"),
        (frame(values(entry(POWER, b"\x61"))), "malformed"),
        (frame(values(entry(POWER, b"\x32\x00"))), "malformed"),
    ],
)
def test_what_is_wrong_is_said(line: bytes, reason: str) -> None:
    assert [result.reason for result in feed(line) if isinstance(result, BadFrame)] == [reason]


def test_more_fill_bytes_than_there_can_be() -> None:
    start = BEGIN + values() + bytes(4) + ESCAPE + b"\x1a\x04"
    (bad,) = feed(start + x25(start))
    assert isinstance(bad, BadFrame)
    assert bad.reason == "bad_fill"


def test_a_list_that_nests_without_end_is_malformed() -> None:
    with pytest.raises(MalformedError):
        read_field(b"\x71" * 5000, 0)
    with pytest.raises(MalformedError):
        read_field(b"\xff" * 5000, 0)


def test_nothing_waits_for_ever() -> None:
    codec = SmlCodec()
    results: list[Telegram | BadFrame] = []
    for _ in range(3 * SmlCodec.limit // 100):
        results += codec.feed(b"\x76" * 100)
    assert not results
    results += codec.feed(BEGIN)
    for _ in range(3 * SmlCodec.limit // 100):
        results += codec.feed(b"\x76" * 100)
        assert len(codec._buffer) <= SmlCodec.limit
    assert [result.reason for result in results if isinstance(result, BadFrame)] == ["too_long"]
    assert list(codec.feed(OTHER)) == telegrams(OTHER)


def test_a_meter_without_right_message_checksums_is_read_until_one_with_them_speaks() -> None:
    odd = telegram(entry(POWER, signed(7), WATT, 0))
    odd = odd[: odd.index(b"\x63", 20) + 1] + bytes(2) + odd[odd.index(b"\x63", 20) + 3 : -2]
    odd += x25(odd)
    codec = SmlCodec()
    for _ in range(2):
        (read,) = codec.feed(odd)
        assert isinstance(read, Telegram)
    codec.feed(frame())  # no message at all shows nothing
    assert isinstance(codec.feed(odd)[0], Telegram)
    codec.feed(OTHER)
    (damaged,) = codec.feed(odd)
    assert damaged == BadFrame("bad_message_crc", odd[:64])
    codec.reset()
    assert isinstance(codec.feed(odd)[0], Telegram), "another meter may stand there now"


def test_a_reset_forgets_what_waits() -> None:
    codec = SmlCodec()
    assert not codec.feed(TYPICAL[:100])
    codec.reset()
    assert not codec.feed(TYPICAL[100:])
    assert list(codec.feed(OTHER)) == telegrams(OTHER)


# --- any line --------------------------------------------------------------------------------------------------------

pieces = st.one_of(
    st.sampled_from([TYPICAL, OTHER, BEGIN, ESCAPE, ESCAPE + b"\x1a\x00", TYPICAL[:77], OTHER[30:], b"\x1b"]),
    st.binary(max_size=40),
)
lines = st.lists(pieces, max_size=8).map(b"".join)


@given(lines, st.integers(1, 50))
@settings(deadline=None)
def test_how_a_line_is_cut_makes_no_difference(line: bytes, size: int) -> None:
    whole, cut = feed(line), SmlCodec()
    parts = [result for i in range(0, len(line), size) for result in cut.feed(line[i : i + size])]
    assert parts == whole


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_content_raises(content: bytes) -> None:
    for result in feed(frame(content)):
        assert isinstance(result, Telegram | BadFrame)


@given(st.lists(st.tuples(st.binary(min_size=6, max_size=6), st.integers(-(2**63), 2**63 - 1)), max_size=14))
@settings(deadline=None)
def test_values_come_back_as_they_were_sent(sent: list[tuple[bytes, int]]) -> None:
    entries = [entry(code, signed(value, 8)) for code, value in sent]
    assert [reading.value for reading in readings(telegram(*entries))] == [value for _, value in sent]
