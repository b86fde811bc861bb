"""The contract of meter codecs (``drivers/codec/telegram.py``), over all of them.

A codec joins with one entry in ``LINES``: telegrams as they stand on the line, each with a checksum or, for those that
the protocol sends without one, under ``unchecked``. What is tried on them:

- the same results in one piece, byte by byte and in any pieces, of any mixture of telegrams, their parts, and noise;
- garbage never raises and is no telegram; not more than ``limit`` bytes wait inside;
- a telegram cut off at any byte gives no value, one with a changed bit no other value (F11);
- whatever came before, a good telegram is there as soon as its last byte is;
- at the end of a recording a telegram that lacks no more than the end of its last line is there, one that lacks more is
  told.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import BadFrame
from drivers.codec.d0 import D0Codec
from drivers.codec.dsmr import DsmrCodec
from drivers.codec.dsmr_cipher import Cipher as DsmrCipher
from drivers.codec.mbus import MbusCodec
from drivers.codec.sml import SmlCodec
from drivers.codec.telegram import Codec, Reading, Telegram

Results = list[Telegram | BadFrame]


# --- telegrams made by hand ------------------------------------------------------------------------------------------


def _text(*lines: str) -> bytes:
    return "".join(line + "\r\n" for line in lines).encode("ascii")


def _p1(*lines: str) -> bytes:
    """DSMR P1: CRC-16/ARC over ``/`` to ``!``."""
    body = _text("/ABC5TEST", "", *lines) + b"!"
    crc = 0
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return body + f"{crc:04X}\r\n".encode()


def _d0(*lines: str) -> bytes:
    """IEC 62056-21 with STX, ETX and the exclusive or of what stands between."""
    block = _text(*lines) + b"!\r\n\x03"
    bcc = 0
    for byte in block:
        bcc ^= byte
    return b"/ABC4TEST\r\n\x02" + block + bytes([bcc])


def _mbus(*records: str) -> bytes:
    """EN 13757-2 long frame: RSP_UD of primary address 5, a heat meter's header, records."""
    head = "08 05 72 78 56 34 12 43 04 07 04 2A 00 00 00"
    body = bytes.fromhex(head + "".join(records))
    return bytes([0x68, len(body), len(body), 0x68, *body, sum(body) & 0xFF, 0x16])


def _sml(watt: int, number: int) -> bytes:
    """SML 1.04: one SML_GetList.Res with two entries; message and frame each with CRC-16/X.25."""
    entries = f"77 070100100700FF 01 01 621B 5200 55{watt:08X} 01 77 070100010800FF 01 01 621E 52FF 69{number:016X} 01"
    start = bytes.fromhex(f"76 020162006200 72 630701 77 01 0501020304 01 01 72 {entries} 01 01")
    message = start + b"\x63" + _x25(start) + b"\x00"
    fill = -len(message) % 4
    frame = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + message + bytes(fill) + b"\x1b\x1b\x1b\x1b\x1a" + bytes([fill])
    return frame + _x25(frame)


def _x25(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return (crc ^ 0xFFFF).to_bytes(2, "little")


def _glo(plain: bytes, counter: int) -> bytes:
    """DLMS general-glo-ciphering of a P1 telegram: key and authentication key are zeros."""
    title, control = b"ABC\x01\x02\x03\x04\x05", b"\x30"
    cipher = Cipher(algorithms.AES(bytes(16)), modes.GCM(title + counter.to_bytes(4))).encryptor()
    cipher.authenticate_additional_data(control + bytes(16))
    body = control + counter.to_bytes(4) + cipher.update(plain) + cipher.finalize() + cipher.tag[:12]
    return b"\xdb\x08" + title + b"\x82" + len(body).to_bytes(2) + body


# --- the codecs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    make: Callable[[], Codec]
    good: tuple[bytes, ...]
    unchecked: tuple[bytes, ...] = ()

    @property
    def all(self) -> tuple[bytes, ...]:
        return self.good + self.unchecked


LINES = {
    "dsmr": Line(
        DsmrCodec,
        (
            _p1("1-3:0.2.8(50)", "1-0:1.8.1(000004.426*kWh)", "1-0:1.7.0(00.244*kW)", "1-0:99.97.0(0)(0-0:96.7.19)"),
            _p1("0-1:24.1.0(003)", "0-1:24.2.1(240229120000W)(00123.456*m3)"),
        ),
        (_text("/ABC5OLD", "", "1-0:1.8.1(00012.345*kWh)", "0-1:24.3.0(1)(00)(60)(1)(2)(m3)", "(00001.001)", "!"),),
    ),
    "dsmr encrypted": Line(
        partial(DsmrCodec, bytes(16), bytes(16)),
        (_glo(_p1("1-0:1.8.0(000001.000*kWh)"), 1), _glo(_p1("1-0:1.8.0(000002.000*kWh)", "1-0:32.7.0(230.1*V)"), 2)),
    ),
    "dsmr encrypted, no authentication key": Line(
        partial(DsmrCodec, bytes(16)), (_glo(_p1("1-0:1.8.0(000001.000*kWh)"), 3),)
    ),
    "d0": Line(
        D0Codec,
        (
            _d0("F.F(00)", "1.8.0(061561.289*kWh)", "16.7(-01.66*kW)"),
            _d0("1-0:1.8.1(1*kWh)1-0:1.8.2(2*kWh)", "P.01(a)", "(b)"),
        ),
        (_text("/ABC5PUSH", "", "1-0:1.8.0*255(00001013.0368091*kWh)", "0-0:96.1.255*255(1ABC)") + b"!",),
    ),
    "sml": Line(SmlCodec, (_sml(4242, 224_624_136), _sml(0x1B1B1B, 7))),
    "mbus": Line(
        MbusCodec,
        (
            _mbus("0C 06 27 04 85 02", "0B 13 27 01 00", "0A 5A 17 05"),
            _mbus("04 06 01 00 00 00"),
        ),
    ),
}

#: A P1 telegram that lost its checksum alone may be one of a generation that has none.
_HEX = b"0123456789ABCDEF"

every_codec = pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())


def whole(line: Line, data: bytes) -> Results:
    return list(line.make().feed(data))


def values(results: Results) -> list[tuple[str | None, tuple[Reading, ...]]]:
    """What the telegrams say; a change in what the meter says of itself is no wrong value."""
    return [(one.meter, one.readings) for one in results if isinstance(one, Telegram)]


def waiting(codec: Codec) -> int:
    """The bytes of the line inside of a codec, wherever it keeps them; keys are none of the line."""
    return sum(len(one) for one in _parts(codec) if isinstance(one, bytes | bytearray | memoryview))


def _parts(one: object) -> Iterator[object]:
    yield one
    if isinstance(one, list | tuple):
        for part in one:
            yield from _parts(part)
    elif type(one).__module__.startswith("drivers.codec") and not isinstance(one, DsmrCipher):
        for name in (*getattr(one, "__slots__", ()), *getattr(one, "__dict__", ())):
            yield from _parts(getattr(one, name, None))


def streams(line: Line) -> st.SearchStrategy[bytes]:
    """Telegrams, their beginnings and ends, telegrams with a changed byte, and noise, one behind the other."""
    telegram, place = st.sampled_from(line.all), st.floats(0, 0.999)
    begun = st.builds(lambda one, part: one[: int(len(one) * part)], telegram, place)
    ended = st.builds(lambda one, part: one[int(len(one) * part) :], telegram, place)
    changed = st.builds(
        lambda one, part, mask: _changed(one, int(len(one) * part), mask), telegram, place, st.integers(1, 255)
    )
    marks = [
        b"\x00",
        b"\xff\xff",
        b"\r\n",
        b"/?!\r\n",
        b"!",
        b"/ABC",
        b"\xdb\x08ABC",
        b"\x1b" * 4,
        b"h\x0f\x0fh",
        b"\x02",
    ]
    pieces = st.one_of(telegram, begun, ended, changed, st.binary(max_size=40), st.sampled_from(marks))
    return st.lists(pieces, min_size=1, max_size=6).map(b"".join)


def _changed(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


# --- the contract ----------------------------------------------------------------------------------------------------


@every_codec
def test_the_telegrams_of_this_suite_are_good(line: Line) -> None:
    for telegram in line.all:
        results = whole(line, telegram)
        assert [type(one) for one in results] == [Telegram], telegram
    assert len(values(whole(line, b"".join(line.all)))) == len(line.all)


@every_codec
@settings(max_examples=120)
@given(data=st.data())
def test_any_pieces_give_the_same_results(line: Line, data: st.DataObject) -> None:
    stream = data.draw(streams(line))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    at_once = whole(line, stream)
    codec = line.make()
    assert [one for byte in stream for one in codec.feed(bytes([byte]))] == at_once
    codec = line.make()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [one for piece in pieces for one in codec.feed(piece)] == at_once


@every_codec
@settings(max_examples=150)
@given(noise=st.binary(max_size=600))
def test_garbage_never_raises_and_is_no_telegram(line: Line, noise: bytes) -> None:
    assert values(whole(line, noise)) == []


@every_codec
@settings(max_examples=80)
@given(data=st.data())
def test_no_stream_raises_or_makes_more_wait_than_the_limit(line: Line, data: st.DataObject) -> None:
    codec = line.make()
    for _ in range(3):
        codec.feed(data.draw(streams(line)))
        assert waiting(codec) <= codec.limit


@every_codec
def test_what_waits_inside_is_bounded(line: Line) -> None:
    rng = Random(3)  # noqa: S311 - noise, not a secret
    for telegram in line.all:
        codec = line.make()
        start = telegram[: len(telegram) * 2 // 3]
        middle = telegram[len(telegram) // 3 : len(telegram) // 2]
        for _ in range(12):
            for piece in (start, middle * (codec.limit // (3 * len(middle)) + 1), rng.randbytes(codec.limit // 4)):
                codec.feed(piece)
                assert waiting(codec) <= codec.limit


@every_codec
def test_a_telegram_cut_off_at_any_byte_gives_no_value(line: Line) -> None:
    for telegram in line.all:
        complete = values(whole(line, telegram))
        for end in range(len(telegram)):
            found = values(whole(line, telegram[:end]))
            line_end_only = not telegram[end:].strip(b"\r\n")
            assert found == [] or (line_end_only and found == complete), end


@every_codec
def test_the_end_of_a_telegram_alone_gives_no_value(line: Line) -> None:
    for telegram in line.all:
        for start in range(1, len(telegram)):
            assert values(whole(line, telegram[start:])) == [], start


@every_codec
def test_a_lost_byte_gives_no_wrong_value(line: Line) -> None:
    for telegram in line.good:
        complete = values(whole(line, telegram))
        for at in range(len(telegram)):
            assert values(whole(line, telegram[:at] + telegram[at + 1 :])) in ([], complete), at


@every_codec
def test_a_changed_bit_gives_no_wrong_value(line: Line) -> None:
    for telegram in line.good:
        complete = values(whole(line, telegram))
        for at in range(len(telegram)):
            for bit in range(8):
                assert values(whole(line, _changed(telegram, at, 1 << bit))) in ([], complete), (at, bit)


@every_codec
def test_a_good_telegram_is_there_with_its_last_byte_whatever_came_before(line: Line) -> None:
    for telegram in line.all:
        expected = values(whole(line, telegram))
        for before in line.good:
            damaged = [before[:at] for at in range(len(before))]
            damaged += [_changed(before, at, mask) for at in range(len(before)) for mask in (0x01, 0x10, 0x40)]
            for noise in damaged:
                found = values(whole(line, noise + telegram))
                assert found[-1:] == expected, noise


@every_codec
@settings(max_examples=80)
@given(noise=st.binary(max_size=100))
def test_a_good_telegram_is_there_behind_noise(line: Line, noise: bytes) -> None:
    for telegram in line.good:
        found = values(whole(line, noise + telegram + telegram))
        assert found[-1:] == values(whole(line, telegram)), "noise may swallow one telegram, not two"


@every_codec
def test_a_bad_telegram_is_told_once_and_the_good_ones_around_it_are_whole(line: Line) -> None:
    first, second = line.good[0], line.good[-1]
    bad = _changed(first, len(first) * 2 // 3, 0x01)
    results = whole(line, first + bad + second)
    assert values(results) == values(whole(line, first)) + values(whole(line, second))
    assert [type(one) for one in results].count(BadFrame) >= 1
    assert all(one.reason.isidentifier() for one in results if isinstance(one, BadFrame)), "fit for a counter's label"


@every_codec
def test_after_a_reset_nothing_of_before_is_left(line: Line) -> None:
    for telegram in line.all:
        codec = line.make()
        half = len(telegram) // 2
        codec.feed(telegram[:half])
        codec.reset()
        assert waiting(codec) == 0
        assert values(list(codec.feed(telegram[half:]))) == []
        codec.reset()
        assert values(list(codec.feed(telegram))) == values(whole(line, telegram))


@every_codec
def test_at_the_end_of_a_recording_what_has_begun_is_told(line: Line) -> None:
    for telegram in line.all:
        complete = values(whole(line, telegram))
        for end in range(len(telegram) + 1):
            codec = line.make()
            found = [*codec.feed(telegram[:end]), *codec.end()]
            lost = telegram[end:].strip(b"\r\n")
            allowed = [complete] if not lost else [[], complete] if not lost.strip(_HEX) else [[]]
            assert values(found) in allowed, end
            assert len(found) <= 1
            assert found or end < 14, "a beginning is known by then"
            assert waiting(codec) == 0
            assert values(list(codec.feed(telegram))) == complete


@every_codec
@settings(max_examples=80)
@given(data=st.data())
def test_the_end_of_a_recording_never_raises_and_is_one_telegram_at_most(line: Line, data: st.DataObject) -> None:
    codec = line.make()
    codec.feed(data.draw(streams(line)))
    assert sum(isinstance(one, Telegram) for one in codec.end()) <= 1
    assert list(codec.end()) == []


@every_codec
def test_noise_has_no_end(line: Line) -> None:
    codec = line.make()
    codec.feed(b"\r\n\x00\xff noise")
    assert list(codec.end()) == []
