"""The frame decoder gives what cantools gives, to the type and the last bit; and finds the message of an identifier."""

import math

import pytest
from cantools.database.can import Message
from cantools.database.errors import DecodeError
from cantools.typechecking import SignalDictType
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import BadFrame
from drivers.codec.can_frame import FrameDecoder, MessageCodec
from drivers.codec.dbc import MessageDef, SignalDef, load_dbc
from tests.unit.can_random import dice, oracle, payload, random_dbc


def same(ours: object, theirs: object) -> bool:
    """Equal in type and value; NaN equals NaN."""
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(theirs):
        return math.isnan(ours)
    return type(ours) is type(theirs) and ours == theirs


def cantools_decode(message: Message, data: bytes) -> SignalDictType | None:
    """The oracle's answer; None when it refuses the frame."""
    try:
        return message.decode_simple(data, decode_choices=False)
    except DecodeError:
        return None


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_any_layout_decodes_as_cantools_does(seed: int) -> None:
    text = random_dbc(seed)
    database = oracle(text)
    loaded = load_dbc(text.encode(), "random.dbc")
    assert len(loaded.messages) == len(database.messages)
    rng = dice(seed)
    for message, theirs in zip(loaded.messages, database.messages, strict=True):
        codec = MessageCodec(message)
        for _ in range(12):
            data = payload(rng, message.length)
            got = codec.decode(data)
            expected = cantools_decode(theirs, data)
            if expected is None:
                assert isinstance(got, BadFrame), (text, data.hex())
                assert got.reason == ("too_short" if len(data) < message.length else "unknown_multiplexer")
                continue
            assert isinstance(got, dict), (text, data.hex(), expected)
            assert got.keys() == expected.keys(), (text, data.hex())
            for name, value in expected.items():
                assert same(got[name], value), (text, message.name, name, data.hex(), got[name], value)


def codec(*signals: SignalDef, length: int = 8) -> MessageCodec:
    return MessageCodec(MessageDef(0x100, False, "Message", length, signals))


def test_integers_are_exact_to_64_bits() -> None:
    whole = codec(SignalDef("value", 0, 64, scale=1.0, offset=0.0))
    assert whole.decode(b"\xff" * 8) == {"value": 18446744073709551615}
    scaled = codec(SignalDef("value", 0, 64, scale=3.0, offset=-1))
    assert scaled.decode(b"\xff" * 8) == {"value": 3 * 18446744073709551615 - 1}


def test_a_signal_of_more_than_64_bits_is_exact_too() -> None:
    wide = codec(SignalDef("serial", 4, 120), length=16)
    data = bytes(range(16))
    assert wide.decode(data) == {"serial": int.from_bytes(data, "little") >> 4 & (1 << 120) - 1}


def test_data_behind_the_message_is_ignored_and_a_short_frame_is_bad() -> None:
    big = codec(SignalDef("value", 7, 16, "big"), length=2)
    assert big.decode(b"\x12\x34") == {"value": 0x1234}
    assert big.decode(b"\x12\x34\xff\xff\xff") == {"value": 0x1234}
    assert big.decode(b"\x12") == BadFrame("too_short")
    assert codec(length=3).decode(b"ab") == BadFrame("too_short")
    assert codec(length=3).decode(b"abc") == {}


def test_a_signal_outside_its_message_is_read_from_frames_that_reach_so_far() -> None:
    outside = codec(SignalDef("inside", 0, 8), SignalDef("outside", 16, 16), length=2)
    assert outside.decode(b"\x01\x02") == {"inside": 1}
    assert outside.decode(b"\x01\x02\x03") == {"inside": 1}
    assert outside.decode(b"\x01\x02\x03\x04") == {"inside": 1, "outside": 0x0403}


def test_overlapping_signals_are_each_read_from_their_own_bits() -> None:
    overlapping = codec(SignalDef("low", 0, 12), SignalDef("high", 8, 12, signed=True), SignalDef("byte", 8, 8))
    assert overlapping.decode(b"\x34\xf2\x0f\0\0\0\0\0") == {"low": 0x234, "high": -14, "byte": 0xF2}


def test_ranges_of_a_32_bit_multiplexer_cost_nothing() -> None:
    message = codec(
        SignalDef("mux", 0, 32, is_multiplexer=True),
        SignalDef("most", 32, 8, multiplexer="mux", mux_values=((10, 4_000_000_000),)),
        SignalDef("one", 40, 8, multiplexer="mux", mux_values=((5, 5), (20, 20))),
    )
    assert message.decode(b"\x05\0\0\0\x01\x02\0\0") == {"mux": 5, "one": 2}
    assert message.decode(b"\x14\0\0\0\x01\x02\0\0") == {"mux": 20, "most": 1, "one": 2}
    assert message.decode(b"\0\0\0\xee\x01\x02\0\0") == {"mux": 0xEE000000, "most": 1}
    assert message.decode(b"\x06\0\0\0\x01\x02\0\0") == BadFrame("unknown_multiplexer")
    assert len(message.source) < 3000


@pytest.mark.parametrize(("scale", "offset"), [(2, 1), (-2, 3), (0.5, 0), (-0.5, 7), (1, -3)])
def test_a_multiplexer_counts_by_its_physical_value(scale: float, offset: float) -> None:
    selector = SignalDef("mux", 0, 8, signed=True, scale=scale, offset=offset, is_multiplexer=True)
    branches = [SignalDef(f"b{v}", 8, 8, multiplexer="mux", mux_values=((v, v),)) for v in range(-4, 9)]
    message = codec(selector, *branches, length=2)
    for raw in range(-128, 128):
        value = int(raw * scale + offset)
        got = message.decode(bytes([raw & 0xFF, 9]))
        if -4 <= value <= 8:
            assert got == {"mux": raw * scale + offset, f"b{value}": 9}
        else:
            assert got == BadFrame("unknown_multiplexer")


def test_names_never_become_source() -> None:
    name = "x'); raise SystemExit #\n\\"
    evil = codec(SignalDef(name, 0, 8), SignalDef('"', 8, 3, is_float=False))
    assert evil.decode(b"\x05\x02" + bytes(6)) == {name: 5, '"': 2}
    assert "SystemExit" not in evil.source


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), "1 or exit()"])
def test_what_is_no_number_is_refused(scale: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        codec(SignalDef("value", 0, 8, scale=scale))


def test_labels_are_looked_up_by_raw_value() -> None:
    labelled = codec(SignalDef("mode", 0, 8, choices={1: "charge", 2: "idle"}), SignalDef("plain", 8, 8))
    assert labelled.labels("mode") == {1: "charge", 2: "idle"}
    assert labelled.labels("plain") == {}
    assert labelled.labels("nothing") == {}


def message(name: str, frame_id: int, *, extended: bool = True, j1939: bool = False) -> MessageDef:
    return MessageDef(frame_id, extended, name, 8, (), j1939=j1939)


def found(decoder: FrameDecoder, can_id: int, *, extended: bool = True) -> str | None:
    codec = decoder.find(can_id, extended)
    return codec.message.name if codec is not None else None


def test_one_number_in_both_namespaces_is_two_messages() -> None:
    decoder = FrameDecoder([message("short", 0x123, extended=False), message("long", 0x123)])
    assert found(decoder, 0x123, extended=False) == "short"
    assert found(decoder, 0x123) == "long"
    assert found(decoder, 0x124) is None


def test_the_later_of_two_messages_with_one_identifier_counts() -> None:
    decoder = FrameDecoder([message("first", 0x10), message("second", 0x10)])
    assert found(decoder, 0x10) == "second"


def test_j1939_messages_are_found_by_pgn() -> None:
    decoder = FrameDecoder(
        [
            message("EEC1", 0x0CF004FE, j1939=True),
            message("from_0x10", 0x18FF5010, j1939=True),
            message("any_source", 0x18FF50FE, j1939=True),
            message("exact", 0x18FF5017),
            message("TSC1", 0x0C0000FE, j1939=True),
            message("plain", 0x18FEE5FE),
        ]
    )
    assert found(decoder, 0x0CF00400) == "EEC1"  # another source address
    assert found(decoder, 0x18F00421) == "EEC1"  # and priority
    assert found(decoder, 0x0DF00400) is None  # data page 1 is another PGN
    assert found(decoder, 0x0CF00500) is None  # PDU2: the group extension belongs to the PGN
    assert found(decoder, 0x0C000B03) == "TSC1"  # PDU1: the destination does not
    assert found(decoder, 0x18FF5017) == "exact"
    assert found(decoder, 0x1CFF5010) == "from_0x10"
    assert found(decoder, 0x18FF5099) == "any_source"
    assert found(decoder, 0x18FEE500) is None  # not marked as J1939
    assert found(decoder, 0x00F00400 & 0x7FF, extended=False) is None
