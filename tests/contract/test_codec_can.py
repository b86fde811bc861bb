"""The contract of codecs, over both CAN decoders: pure, total, the same in one piece or in many, no hidden state."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import BadFrame, SignalSpec
from drivers.codec.can_batch import BatchDecoder, encoding_of
from drivers.codec.can_frame import FrameDecoder
from drivers.codec.can_layout import physical
from drivers.codec.dbc import MessageDef, load_dbc
from drivers.codec.frames import EFF_FLAG, EFF_MASK, Frames
from tests.unit.can_random import dice, frames, identifier, payload, random_dbc

#: (identifier with flags, payload) of each frame -> (position, message, signal, value) of each value.
Stream = Sequence[tuple[int, bytes]]
Values = list[tuple[int, int, str, str]]
Decode = Callable[[Sequence[MessageDef], list[Stream]], Values]


def one_by_one(messages: Sequence[MessageDef], parts: list[Stream]) -> Values:
    decoder = FrameDecoder(messages)
    result: Values = []
    for position, (can_id, data) in enumerate(frame for part in parts for frame in part):
        codec = decoder.find(can_id & EFF_MASK, bool(can_id & EFF_FLAG))
        values = codec.decode(data) if codec is not None else BadFrame("unknown")
        if codec is not None and isinstance(values, dict):
            number = messages.index(codec.message)
            result += [(position, number, name, repr(value)) for name, value in values.items()]
    return sorted(result)


def in_batches(messages: Sequence[MessageDef], parts: list[Stream]) -> Values:
    signals = [(number, signal) for number, message in enumerate(messages) for signal in message.signals]
    decoder = BatchDecoder(messages, {(m, signal.name): i for i, (m, signal) in enumerate(signals)})
    result: Values = []
    done = 0
    for part in parts:
        batch = decoder.decode(frames(part, seed=done), skip_repeats=False)
        for i, at, word in zip(batch.ids.tolist(), batch.times_us.tolist(), batch.words.tolist(), strict=True):
            number, signal = signals[i]
            raw = SignalSpec("d", "n", encoding=encoding_of(signal)).physical(word)
            result.append((done + at, number, signal.name, repr(physical(signal, raw))))
        done += len(part)
    return sorted(result)


decoders = pytest.mark.parametrize("decode", [one_by_one, in_batches])


def stream_for(messages: Sequence[MessageDef], seed: int, n: int) -> list[tuple[int, bytes]]:
    rng = dice(seed)
    chosen = [rng.choice(messages) for _ in range(n)]
    return [(identifier(m.frame_id, m.extended), payload(rng, m.length)) for m in chosen]


@decoders
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_one_piece_is_the_same_as_frame_by_frame(decode: Decode, seed: int) -> None:
    messages = load_dbc(random_dbc(seed).encode(), "random.dbc").messages
    stream = stream_for(messages, seed, 20)
    whole = decode(messages, [stream])
    assert whole == decode(messages, [[frame] for frame in stream])
    assert whole == one_by_one(messages, [stream])


@decoders
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    noise=st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.binary(max_size=64)), max_size=20),
)
def test_garbage_never_raises_and_delays_nothing_behind_it(
    decode: Decode, seed: int, noise: list[tuple[int, bytes]]
) -> None:
    messages = load_dbc(random_dbc(seed).encode(), "random.dbc").messages
    stream = stream_for(messages, seed, 5)
    behind = [row for row in decode(messages, [noise, stream]) if row[0] >= len(noise)]
    assert [(position - len(noise), *rest) for position, *rest in behind] == [
        tuple(row) for row in decode(messages, [stream])
    ]


@decoders
def test_bytes_behind_a_frame_change_nothing(decode: Decode) -> None:
    messages = load_dbc(random_dbc(3).encode(), "random.dbc").messages
    stream = stream_for(messages, 3, 30)
    assert decode(messages, [stream]) == decode(messages, [[], stream])


def test_the_buffer_of_a_batch_belongs_to_its_owner() -> None:
    """Frames lie in a buffer that is filled anew: nothing that was decoded may change with it."""
    messages = load_dbc(random_dbc(5).encode(), "random.dbc").messages
    signals = [(m, signal.name) for m, message in enumerate(messages) for signal in message.signals]
    decoder = BatchDecoder(messages, {key: i for i, key in enumerate(signals)})
    arrived = frames(stream_for(messages, 5, 40))
    raw = arrived.raw.copy()
    batch = decoder.decode(Frames(raw, arrived.times_us))
    words = batch.words.copy()
    raw[:] = 0xFF
    assert np.array_equal(batch.words, words)
    again = decoder.decode(Frames(arrived.raw, arrived.times_us), skip_repeats=False)
    assert np.array_equal(arrived.raw, frames(stream_for(messages, 5, 40)).raw)
    assert again.decoded == batch.decoded
