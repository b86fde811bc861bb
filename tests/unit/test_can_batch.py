"""The batch decoder gives the frame decoder's values as words, in any cut of the stream; repeats cost no rows."""

import os
import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import BadFrame, Encoding, Number, SignalSpec
from drivers.codec.can_batch import BatchDecoder, DecodedBatch, encoding_of
from drivers.codec.can_frame import FrameDecoder
from drivers.codec.can_layout import physical
from drivers.codec.dbc import MessageDef, SignalDef, load_dbc
from drivers.codec.frames import CLASSIC_BYTES, ERR_FLAG, FD_BYTES, MAX_DATA, RTR_FLAG, Frames
from tests.unit.can_random import dice, frames, identifier, payload, random_dbc

Row = tuple[int, int, str, str]  # time, message, signal, value as text: NaN equals NaN


class Setup:
    """All signals of some messages wanted, numbered from 1."""

    def __init__(self, messages: Sequence[MessageDef]) -> None:
        self.messages = messages
        self.signals = [(m, signal) for m, message in enumerate(messages) for signal in message.signals]
        self.wanted = {(m, signal.name): i + 1 for i, (m, signal) in enumerate(self.signals)}

    def decoder(self) -> BatchDecoder:
        return BatchDecoder(self.messages, self.wanted)

    def rows(self, batch: DecodedBatch) -> list[Row]:
        rows = []
        for number, t_us, word in zip(batch.ids.tolist(), batch.times_us.tolist(), batch.words.tolist(), strict=True):
            m, signal = self.signals[number - 1]
            raw = SignalSpec("device", "name", encoding=encoding_of(signal)).physical(word)
            rows.append((t_us, m, signal.name, repr(physical(signal, raw))))
        return rows


def expected_rows(
    messages: Sequence[MessageDef], stream: Sequence[tuple[int, bytes]]
) -> tuple[list[Row], dict[str, int]]:
    decoder = FrameDecoder(messages)
    rows: list[Row] = []
    bad = {"too_short": 0, "unknown_multiplexer": 0}
    for t_us, (can_id, data) in enumerate(stream):
        codec = decoder.find(can_id & 0x1FFFFFFF, bool(can_id >> 31))
        assert codec is not None
        values = codec.decode(data)
        if isinstance(values, BadFrame):
            bad[values.reason] += 1
        else:
            m = messages.index(codec.message)
            rows += [(t_us, m, name, repr(value)) for name, value in values.items()]
    return rows, bad


def random_stream(messages: Sequence[MessageDef], seed: int, n: int) -> list[tuple[int, bytes]]:
    rng = dice(seed)
    stream: list[tuple[int, bytes]] = []
    for _ in range(n):
        if stream and rng.random() < 0.4:
            stream.append(rng.choice(stream[-6:]))
            continue
        message = rng.choice(messages)
        stream.append((identifier(message.frame_id, message.extended), payload(rng, message.length)))
    return stream


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_words_are_the_frame_decoders_values(seed: int) -> None:
    text = random_dbc(seed)
    messages = load_dbc(text.encode(), "random.dbc").messages
    setup = Setup(messages)
    stream = random_stream(messages, seed, 60)
    decoder = setup.decoder()
    assert not decoder.left_out
    batch = decoder.decode(frames(stream, seed=seed), skip_repeats=False)
    rows, bad = expected_rows(messages, stream)
    assert sorted(setup.rows(batch)) == sorted(rows), text
    assert [row[0] for row in setup.rows(batch)] == sorted(row[0] for row in rows)
    assert (batch.too_short, batch.unknown_multiplexer) == (bad["too_short"], bad["unknown_multiplexer"])
    assert batch.frames == len(stream) == batch.decoded + sum(bad.values())


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), cuts=st.lists(st.integers(0, 80), max_size=8))
def test_one_batch_is_the_same_as_many(seed: int, cuts: list[int]) -> None:
    messages = load_dbc(random_dbc(seed).encode(), "random.dbc").messages
    setup = Setup(messages)
    whole = frames(random_stream(messages, seed, 80), seed=seed)
    at_once = setup.decoder().decode(whole)
    in_parts = setup.decoder()
    edges = [0, *sorted(cuts), 80]
    parts = [in_parts.decode(Frames(whole.raw[start:end], whole.times_us[start:end])) for start, end in pairwise(edges)]
    for column in ("ids", "times_us", "words"):
        joined = np.concatenate([getattr(part, column) for part in parts])
        assert np.array_equal(joined, getattr(at_once, column)), column
    for count in ("frames", "decoded", "too_short", "unknown_multiplexer"):
        assert sum(getattr(part, count) for part in parts) == getattr(at_once, count)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), share=st.floats(0.1, 1))
def test_skipping_repeats_loses_no_change(seed: int, share: float) -> None:
    """The last row of each signal is what it was last sent with, after each batch, whatever signals are wanted."""
    messages = load_dbc(random_dbc(seed).encode(), "random.dbc").messages
    everything = Setup(messages)
    rng = dice(seed)
    wanted = {key: column for key, column in everything.wanted.items() if rng.random() < share}
    skipping, full = BatchDecoder(messages, wanted), BatchDecoder(messages, wanted)
    latest: dict[int, int] = {}
    truth: dict[int, int] = {}
    whole = frames(random_stream(messages, seed, 90), seed=seed)
    for start in range(0, 90, 9):
        part = Frames(whole.raw[start : start + 9], whole.times_us[start : start + 9])
        changes, all_rows = skipping.decode(part), full.decode(part, skip_repeats=False)
        latest.update(zip(changes.ids.tolist(), changes.words.tolist(), strict=True))
        truth.update(zip(all_rows.ids.tolist(), all_rows.words.tolist(), strict=True))
        assert latest == truth
        heard = set(changes.ids.tolist()) | set(changes.touched.tolist())
        assert heard == set(all_rows.ids.tolist())
        assert len(changes.touched) == len(set(changes.touched.tolist()))
        assert np.array_equal(changes.seen, all_rows.seen)


def plain(name: str = "Pack", frame_id: int = 0x100, **more: bool) -> MessageDef:
    signals = (SignalDef("voltage", 0, 16), SignalDef("current", 16, 16, signed=True), SignalDef("soc", 32, 8))
    return MessageDef(frame_id, more.get("extended", False), name, 8, signals, j1939=more.get("j1939", False))


PAYLOAD = struct.pack("<HhB3x", 5200, -300, 77)


def test_rows_stand_in_order_of_arrival_with_raw_words() -> None:
    setup = Setup([plain("A", 0x100), plain("B", 0x200)])
    batch = setup.decoder().decode(frames([(0x200, PAYLOAD), (0x100, PAYLOAD)], stride=CLASSIC_BYTES))
    assert batch.ids.tolist() == [4, 5, 6, 1, 2, 3]
    assert batch.words.tolist() == [5200, -300, 77] * 2
    assert batch.times_us.tolist() == [0, 0, 0, 1, 1, 1]
    assert [str(column.dtype) for column in (batch.ids, batch.times_us, batch.words)] == ["int32", "int64", "int64"]
    assert batch.seen.tolist() == [1, 1]


def test_an_unchanged_payload_only_touches() -> None:
    decoder = Setup([plain()]).decoder()
    assert len(decoder.decode(frames([(0x100, PAYLOAD)])).ids) == 3
    again = decoder.decode(frames([(0x100, PAYLOAD)] * 3, seed=5))
    assert (len(again.ids), again.touched.tolist(), again.decoded) == (0, [1, 2, 3], 3)
    decoder.forget()
    assert len(decoder.decode(frames([(0x100, PAYLOAD)])).ids) == 3


def test_bits_that_nobody_wants_are_no_change() -> None:
    decoder = BatchDecoder([plain()], {(0, "voltage"): 7})
    assert decoder.decode(frames([(0x100, PAYLOAD)])).ids.tolist() == [7]
    counted = struct.pack("<HhB3x", 5200, -299, 78)
    again = decoder.decode(frames([(0x100, counted)]))
    assert (again.ids.tolist(), again.touched.tolist()) == ([], [7])
    assert decoder.signal_ids_of(0).tolist() == [7]


def test_every_kind_of_frame_is_counted_once() -> None:
    rows = [
        (0x100, PAYLOAD),
        (0x101, PAYLOAD),
        (0x100 | RTR_FLAG, b""),
        (0x100 | ERR_FLAG, PAYLOAD),
        (0x100 | ERR_FLAG | RTR_FLAG, PAYLOAD),
        (0x100, PAYLOAD[:7]),
        (0x8000_0100, PAYLOAD),
    ]
    batch = Setup([plain()]).decoder().decode(frames(rows))
    assert (batch.frames, batch.decoded, batch.unknown, batch.remote, batch.error) == (7, 1, 2, 1, 2)
    assert (batch.too_short, batch.unknown_multiplexer) == (1, 0)
    assert batch.seen.tolist() == [1]


def test_no_frames_and_no_messages_are_fine() -> None:
    nothing = Setup([plain()]).decoder().decode(frames([]))
    assert (nothing.frames, len(nothing.ids), len(nothing.touched), nothing.seen.tolist()) == (0, 0, 0, [0])
    batch = BatchDecoder([], {}).decode(frames([(0x100, PAYLOAD), (0x8000_0001, b"")]))
    assert (batch.frames, batch.unknown, len(batch.seen)) == (2, 2, 0)


def test_a_cycling_multiplexer_over_unchanged_contents_costs_nothing() -> None:
    mux = SignalDef("mux", 0, 8, is_multiplexer=True)
    cells = [SignalDef(f"cell{i}", 8, 16, multiplexer="mux", mux_values=((i, i),)) for i in range(4)]
    status = SignalDef("status", 32, 8)
    message = MessageDef(0x100, False, "Cells", 8, (mux, *cells, status))
    wanted = {(0, "status"): 9} | {(0, f"cell{i}"): i + 1 for i in range(4)}
    decoder = BatchDecoder([message], wanted)
    cycle = [(0x100, struct.pack("<BHxB3x", i, 3300 + i, 1)) for i in range(4)]
    assert decoder.decode(frames(cycle)).ids.tolist() == [1, 9, 2, 9, 3, 9, 4, 9]
    again = decoder.decode(frames(cycle * 3))
    assert (len(again.ids), again.touched.tolist()) == (0, [1, 2, 3, 4, 9])
    # A change of what all frames carry is seen in whatever frame it comes, also when it goes back.
    changed = decoder.decode(frames([(0x100, struct.pack("<BHxB3x", 2, 3302, 2)), cycle[2]]))
    assert changed.words[changed.ids == 9].tolist() == [2, 1]


def test_encodings_of_words() -> None:
    signals = (SignalDef("u", 0, 64), SignalDef("f", 64, 32, is_float=True), SignalDef("i", 96, 64, signed=True))
    assert [encoding_of(signal) for signal in signals] == [Encoding.UINT, Encoding.FLOAT, Encoding.INT]
    setup = Setup([MessageDef(0x100, False, "Wide", 20, signals, fd=True)])
    data = struct.pack("<Qfq", 2**64 - 1, 0.1, -(2**63))
    words = setup.decoder().decode(frames([(0x100, data)])).words.tolist()
    assert words[0] == -1
    assert struct.unpack("<d", struct.pack("<q", words[1]))[0] == struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert words[2] == -(2**63)


def test_a_signalling_nan_is_decoded_quietly() -> None:
    setup = Setup([MessageDef(0x100, False, "Float", 4, (SignalDef("f", 0, 32, is_float=True),))])
    word = setup.decoder().decode(frames([(0x100, b"\x01\0\x80\x7f")])).words.tolist()[0]
    value: Number = struct.unpack("<d", struct.pack("<q", word))[0]
    assert value != value  # noqa: PLR0124 - only NaN differs from itself


def test_signals_outside_of_their_message_are_read_from_frames_that_reach_so_far() -> None:
    message = MessageDef(0x100, False, "Short", 2, (SignalDef("in", 0, 8), SignalDef("out", 16, 16)))
    setup = Setup([message])
    decoder = setup.decoder()
    stream = [(0x100, b"\x01\x02"), (0x100, b"\x01\x02\x03\x04"), (0x100, b"\x01\x02")]
    batch = decoder.decode(frames(stream), skip_repeats=False)
    assert batch.ids.tolist() == [1, 1, 2, 1]
    assert batch.words.tolist() == [1, 1, 0x0403, 1]


def test_j1939_frames_of_other_sources_and_priorities_belong_to_their_message() -> None:
    messages = [
        plain("Any", 0x18FF50FE, extended=True, j1939=True),
        plain("Own", 0x18FF5010, extended=True, j1939=True),
    ]
    decoder = FrameDecoder(messages)
    ids = [0x18FF5000, 0x0CFF5010, 0x18FF5010, 0x1CFF50FF, 0x18FF5110, 0x19FF5010, 0x18EF50FE]
    batch = Setup(messages).decoder().decode(frames([(identifier(i, True), PAYLOAD) for i in ids]), skip_repeats=False)
    found = [decoder.find(i, True) for i in ids]
    counts = [sum(codec is not None and codec.message is message for codec in found) for message in messages]
    assert batch.seen.tolist() == counts == [2, 2]
    assert batch.unknown == 3


def test_a_wide_multiplexer_is_searched_not_tabulated() -> None:
    mux = SignalDef("mux", 0, 32, is_multiplexer=True, signed=True)
    branches = [
        SignalDef("low", 32, 8, multiplexer="mux", mux_values=((-5, -5),)),
        SignalDef("most", 40, 8, multiplexer="mux", mux_values=((10, 2_000_000_000),)),
    ]
    messages = [MessageDef(0x100, False, "Wide", 8, (mux, *branches)), plain("Other", 0x101)]
    setup = Setup(messages)
    stream = [(0x100, struct.pack("<iBB2x", value, 7, 8)) for value in (-5, 10, 9, 2_000_000_000, 2_000_000_001)]
    batch = setup.decoder().decode(frames(stream), skip_repeats=False)
    rows, bad = expected_rows(messages, stream)
    assert sorted(setup.rows(batch)) == sorted(rows)
    assert batch.unknown_multiplexer == bad["unknown_multiplexer"] == 2


def test_what_no_word_can_hold_is_left_out_and_named() -> None:
    message = MessageDef(0x100, False, "Vin", 17, (SignalDef("vin", 0, 136), SignalDef("first", 0, 8)))
    decoder = Setup([message]).decoder()
    assert len(decoder.left_out) == 1
    assert "Vin.vin" in decoder.left_out[0]
    assert decoder.decode(frames([(0x100, bytes(17))])).ids.tolist() == [2]


def garbage(seed: int, n: int, stride: int) -> Frames:
    raw = np.random.default_rng(seed).integers(0, 256, (n, stride), dtype=np.uint8)
    can_id = raw[:, :4].copy().view(np.uint32).ravel()
    near = np.arange(n) % 4 != 0  # three in four bear an identifier that may be known
    can_id[near] = can_id[near] & 0xE0000007
    raw[:, :4] = can_id.view(np.uint8).reshape(n, 4)
    return Frames(raw, np.arange(n, dtype=np.int64))


def decode_garbage(total: int) -> None:
    for seed in range(10):
        messages = load_dbc(random_dbc(seed).encode(), "random.dbc").messages
        decoder = Setup(messages).decoder()
        for stride in (CLASSIC_BYTES, FD_BYTES):
            n = total // 20
            batch = decoder.decode(garbage(seed, n, stride))
            lost = batch.unknown + batch.remote + batch.error + batch.too_short + batch.unknown_multiplexer
            assert batch.frames == n == batch.decoded + lost
            assert batch.error > 0 < batch.remote


def test_garbage_is_counted_and_never_raises() -> None:
    decode_garbage(20_000)


@pytest.mark.long
def test_a_million_frames_of_garbage_never_raise() -> None:
    decode_garbage(1_000_000)
    for seed in range(40):
        codecs = FrameDecoder(load_dbc(random_dbc(seed).encode(), "random.dbc").messages)
        for message in codecs.messages:
            codec = codecs.find(message.frame_id, message.extended)
            assert codec is not None
            for _ in range(2000):
                data = os.urandom(MAX_DATA)
                codec.decode(data[: data[0] % (MAX_DATA + 1)])
