"""The pure parts of a CAN wire: kernel filters, error frames, sentinels, pace."""

import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import float_to_word
from drivers.can.bus import MAX_PAUSE_S, MAX_REST_S, MIN_PAUSE_S, REST, Pace
from drivers.can.errorframes import BusState
from drivers.can.missing import Missing
from drivers.can.mmsg import SLOTS
from drivers.can.socketcan import MAX_FILTERS, Filter, coarsen, id_filter, pgn_filter
from drivers.codec.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG, Frames


def _passes(filters: list[Filter], frame_id: int) -> bool:
    return any(frame_id & mask == wanted & mask for wanted, mask in filters)


def test_an_id_filter_passes_its_data_frames_only() -> None:
    standard = [id_filter(0x356, extended=False)]
    assert _passes(standard, 0x356)
    assert not _passes(standard, 0x357)
    assert not _passes(standard, 0x356 | RTR_FLAG)
    assert not _passes(standard, 0x356 | EFF_FLAG)
    extended = [id_filter(0x356, extended=True)]
    assert _passes(extended, 0x356 | EFF_FLAG)
    assert not _passes(extended, 0x356)


def test_a_pgn_filter_passes_any_priority_and_source_and_for_pdu1_any_destination() -> None:
    pdu2 = [pgn_filter(0x18FEF1FE, None)]
    assert _passes(pdu2, 0x0CFEF123 | EFF_FLAG)
    assert not _passes(pdu2, 0x18FEF2FE | EFF_FLAG)
    pdu1 = [pgn_filter(0x18EF21F3, None)]
    assert _passes(pdu1, 0x1CEF9901 | EFF_FLAG)
    assert not _passes(pdu1, 0x18EE21F3 | EFF_FLAG)


def test_a_pgn_filter_with_a_source_address_passes_only_that() -> None:
    filters = [pgn_filter(0x18FEF1FE, 0xF3)]
    assert _passes(filters, 0x18FEF1F3 | EFF_FLAG)
    assert not _passes(filters, 0x18FEF1F4 | EFF_FLAG)


@given(st.sets(st.integers(0, 0x1FFFFFFF), min_size=1, max_size=1500))
def test_coarse_filters_fit_the_kernel_and_pass_all_that_the_exact_ones_pass(frame_ids: set[int]) -> None:
    coarse = coarsen(id_filter(frame_id, extended=True) for frame_id in frame_ids)
    assert len(coarse) <= MAX_FILTERS
    if len(frame_ids) <= MAX_FILTERS:
        assert len(coarse) == len(frame_ids)
    wanted = np.array([one for one, _ in coarse])
    masks = np.array([mask for _, mask in coarse])
    assert all(((frame_id | EFF_FLAG) & masks == wanted).any() for frame_id in frame_ids)


def _errors(*frames: tuple[int, int]) -> Frames:
    """Error frames of (class bits, byte 1)."""
    raw = b"".join(
        struct.pack("=IBBBB8B", ERR_FLAG | kind, 8, 0, 0, 0, 0, detail, *bytes(6)) for kind, detail in frames
    )
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(len(frames), 16)
    return Frames(rows, np.zeros(len(frames), dtype=np.int64))


BUS_OFF, RESTARTED, CONTROLLER, NO_ACK = 0x40, 0x100, 0x04, 0x20


def test_bus_off_and_restart_are_edges() -> None:
    state, counts = BusState(), Counter[str]()
    assert state.take(_errors((BUS_OFF, 0), (BUS_OFF, 0)), counts) == ["bus.off"]
    assert state.off
    assert state.take(_errors((BUS_OFF, 0)), counts) == []
    assert state.take(_errors((RESTARTED, 0)), counts) == ["bus.on"]
    assert counts == {"error_frames": 4, "error_frames.bus_off": 3, "error_frames.restarted": 1}


def test_what_begins_also_ends_when_the_controller_restarts_or_the_wire_is_opened_anew() -> None:
    state = BusState()
    assert state.take(_errors((CONTROLLER, 0x10), (BUS_OFF, 0), (RESTARTED, 0)), Counter()) == [
        "bus.passive",
        "bus.off",
        "bus.on",
        "bus.active",
    ]
    state.take(_errors((CONTROLLER, 0x10)), Counter())
    assert state.reopened() == ["bus.active"]
    assert state.reopened() == []


def test_both_edges_within_one_drain_are_told_in_order() -> None:
    assert BusState().take(_errors((BUS_OFF, 0), (RESTARTED, 0), (BUS_OFF, 0)), Counter()) == [
        "bus.off",
        "bus.on",
        "bus.off",
    ]


def test_a_frame_from_the_bus_ends_bus_off() -> None:
    state = BusState()
    assert state.received() == []
    state.take(_errors((BUS_OFF, 0)), Counter())
    assert state.received() == ["bus.on"]
    assert state.received() == []


def test_error_passive_begins_and_ends_once() -> None:
    state = BusState()
    assert state.take(_errors((CONTROLLER, 0x10), (CONTROLLER, 0x20)), Counter()) == ["bus.passive"]
    assert state.take(_errors((CONTROLLER, 0x08)), Counter()) == ["bus.active"]
    assert state.take(_errors((CONTROLLER, 0x40)), Counter()) == []


def test_errors_are_counted_by_class_and_controller_overruns_as_overflow() -> None:
    counts = Counter[str]()
    assert BusState().take(_errors(*[(NO_ACK, 0)] * 3, (CONTROLLER, 0x01), (NO_ACK | 0x80, 0)), counts) == []
    assert counts == {
        "error_frames": 5,
        "error_frames.no_ack": 4,
        "error_frames.bus_error": 1,
        "error_frames.controller": 1,
        "overflow": 1,
    }


def _split(missing: Missing, *rows: tuple[int, int]) -> list[tuple[bool, list[tuple[int, int]]]]:
    ids = np.array([signal for signal, _ in rows], dtype=np.int32)
    words = np.array([word for _, word in rows], dtype=np.int64)
    runs = missing.split(ids, np.arange(len(rows), dtype=np.int64), words)
    return [(valid, list(zip(i.tolist(), w.tolist(), strict=True))) for i, _, w, valid in runs]


def test_a_sentinel_is_an_edge_to_unknown_once() -> None:
    missing = Missing({1: ((254, 255),), 2: ()})
    assert _split(missing, (1, 5), (2, 255)) == [(True, [(1, 5), (2, 255)])]
    assert _split(missing, (1, 255), (2, 6)) == [(False, [(1, 255)]), (True, [(2, 6)])]
    assert _split(missing, (1, 255), (2, 7)) == [(True, [(2, 7)])]
    assert _split(missing, (1, 255)) == []
    assert missing.known(np.array([1, 2], dtype=np.int32)).tolist() == [2]
    assert _split(missing, (1, 8)) == [(True, [(1, 8)])]
    assert missing.known(np.array([1, 2], dtype=np.int32)).tolist() == [1, 2]


def test_edges_within_one_batch_keep_their_order() -> None:
    missing = Missing({1: ((254, 254), (255, 255)), 2: ((0, 0),)})
    assert _split(missing, (1, 1), (1, 255), (1, 254), (2, 9), (1, 3), (1, 254)) == [
        (True, [(1, 1)]),
        (False, [(1, 255)]),
        (True, [(2, 9), (1, 3)]),
        (False, [(1, 254)]),
    ]


def test_floats_that_are_no_number_are_unknown() -> None:
    missing = Missing({1: (), 2: ()}, [1])
    nan, infinite, one = (float_to_word(value) for value in (float("nan"), float("-inf"), 1.0))
    assert _split(missing, (1, one), (1, nan), (2, nan), (1, infinite), (1, one)) == [
        (True, [(1, one)]),
        (False, [(1, nan)]),
        (True, [(2, nan), (1, one)]),
    ]


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=30), max_size=5))
def test_sentinels_equal_a_plain_loop(batches: list[list[tuple[int, int]]]) -> None:
    sentinels = {1: ((0, 0),), 2: ((1, 1), (2, 2)), 3: (), 4: ((2, 3),)}
    missing = Missing(sentinels)
    unknown: set[int] = set()
    for batch in batches:
        expected = []
        for signal, word in batch:
            if any(low <= word <= high for low, high in sentinels[signal]):
                if signal not in unknown:
                    expected.append((signal, word, False))
                unknown.add(signal)
            else:
                unknown.discard(signal)
                expected.append((signal, word, True))
        got = [(*row, valid) for valid, rows in _split(missing, *batch) for row in rows]
        assert got == expected
        assert set(missing.known(np.arange(1, 5, dtype=np.int32)).tolist()) == {1, 2, 3, 4} - unknown


def test_few_frames_are_taken_at_once() -> None:
    pace = Pace(200, 0.0)
    assert [pace.after(1, tick / 50) for tick in range(1, 100)] == [None] * 99


@pytest.mark.parametrize(
    ("frames_s", "queue_frames", "expected_s"),
    [
        (200, 4000, MIN_PAUSE_S),
        (2500, 4000, MIN_PAUSE_S),
        (3750, 4000, (MIN_PAUSE_S + MAX_PAUSE_S) / 2),
        (9000, 4000, MAX_PAUSE_S),
        (9000, 222, 0.4 * 222 / 9000),
    ],
)
def test_a_busy_bus_is_gathered_for_no_longer_than_the_queue_allows(
    frames_s: int, queue_frames: int, expected_s: float
) -> None:
    pace = Pace(queue_frames, 0.0)
    pauses = [pace.after(round(frames_s / 50), tick * 0.02) for tick in range(1, 50)]
    assert pauses[-1] == pytest.approx(expected_s)
    assert pace.rate * expected_s < queue_frames / 2
    assert pace.after(0, 0.99) is None


def test_a_slow_machine_rests_between_drains() -> None:
    def pause_s(took_s: float) -> float | None:
        pace = Pace(4000, 0.0)
        return [pace.after(10, tick * 0.01, took_s) for tick in range(1, 30)][-1]

    assert pause_s(0.0001) == MIN_PAUSE_S
    assert pause_s(0.0015) == pytest.approx(REST * 0.0015)
    assert pause_s(5.0) == MAX_REST_S


def test_a_full_drain_is_followed_by_another_at_once() -> None:
    assert Pace(100_000, 0.0).after(SLOTS, 0.001) == 0.0
