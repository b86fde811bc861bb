"""Faults F1, F4 and F5 of a device on a bus: silence, frozen alive counters, a lost wire."""

import numpy as np
import pytest

from drivers.can.monitor import AliveCounter, Change, Monitor, Watched, silence_limit_s

STATE, CELLS = 0, 1
SOC, ALIVE, CELL = 11, 12, 21


def _monitor(*, counters: bool = True, frozen_after_s: float = 5.0) -> Monitor:
    messages = [Watched("State", 1.0, (SOC, ALIVE)), Watched("Cells", 3.0, (CELL,))]
    monitor = Monitor(messages, [AliveCounter("State.Alive", ALIVE, STATE)] if counters else [], frozen_after_s)
    monitor.opened(0.0)
    return monitor


def _hear(monitor: Monitor, now_s: float, *, state: int = 0, cells: int = 0, alive: int | None = None) -> Change:
    ids, words = ([], []) if alive is None else ([SOC, ALIVE], [50, alive])
    return monitor.heard(
        np.array([state, cells], dtype=np.int64),
        np.array(ids, dtype=np.int32),
        np.array(words, dtype=np.int64),
        now_s,
    )


@pytest.mark.parametrize(
    ("cycle_time_ms", "stale_after_s", "limit_s"),
    [(100, None, 1.0), (1000, None, 3.0), (None, None, 5.0), (0, None, 5.0), (1000, 10.0, 10.0), (1000, 0.1, 1.0)],
)
def test_limit_is_three_cycles_and_never_below_a_second(
    cycle_time_ms: int | None, stale_after_s: float | None, limit_s: float
) -> None:
    assert silence_limit_s(cycle_time_ms, stale_after_s) == limit_s


def test_a_silent_message_makes_its_signals_unknown_once() -> None:
    monitor = _monitor(counters=False)
    _hear(monitor, 0.5, state=1, cells=1)
    assert monitor.tick(1.4) == Change()
    assert monitor.tick(1.5) == Change(unknown=(SOC, ALIVE), forget=(STATE,))
    assert monitor.tick(1.6) == Change()


def test_a_device_is_silent_when_all_its_messages_are_and_heard_with_the_first_frame() -> None:
    monitor = _monitor(counters=False)
    _hear(monitor, 0.5, state=1, cells=1)
    assert monitor.tick(2.0).events == ()
    change = monitor.tick(3.5)
    assert change.unknown == (CELL,)
    assert change.events == (("device.silent", {"silent_s": 3.0}),)
    assert monitor.tick(60.0) == Change()
    assert _hear(monitor, 61.0, cells=1).events == (("device.heard", {}),)
    assert _hear(monitor, 61.1, cells=1).events == ()
    # It can fall silent again.
    assert monitor.tick(64.2) == Change((CELL,), (CELLS,), (("device.silent", {"silent_s": 3.1}),))


def test_a_device_that_never_speaks_is_said_to_be_silent() -> None:
    monitor = _monitor()
    monitor.tick(1.0)
    assert monitor.tick(3.0).events == (("device.silent", {"silent_s": 3.0}),)


def test_a_message_that_stays_away_is_not_unknown_twice_when_others_come_back() -> None:
    monitor = _monitor(counters=False)
    monitor.tick(3.0)
    _hear(monitor, 4.0, state=1)
    assert monitor.tick(4.9) == Change()
    assert monitor.tick(5.0).unknown == (SOC, ALIVE)


def test_a_standing_counter_freezes_the_device_while_frames_keep_coming() -> None:
    monitor = _monitor()
    assert _hear(monitor, 0.1, state=1, cells=1, alive=7) == Change()
    for tenth in range(2, 51):
        assert _hear(monitor, tenth / 10, state=1, cells=1) == Change()
        assert not monitor.frozen
    change = _hear(monitor, 5.2, state=1, cells=1)
    assert change.unknown == (SOC, ALIVE, CELL)
    assert change.events == (("device.frozen", {"counter": "State.Alive", "value": 7, "stood_s": 5.1}),)
    assert monitor.frozen
    assert _hear(monitor, 5.3, state=1, cells=1) == Change()


def test_rows_with_the_same_counter_value_are_no_move() -> None:
    monitor = _monitor()
    _hear(monitor, 0.1, state=1, alive=7)
    _hear(monitor, 3.0, state=1, alive=7)
    assert _hear(monitor, 5.2, state=1, alive=7).events[0][0] == "device.frozen"


def test_the_device_is_believed_again_when_the_counter_moves() -> None:
    monitor = _monitor()
    _hear(monitor, 0.1, state=1, cells=1, alive=7)
    _hear(monitor, 5.2, state=1, cells=1)
    change = _hear(monitor, 9.0, state=1, cells=1, alive=8)
    assert change == Change(forget=(STATE, CELLS), events=(("device.alive", {}),))
    assert not monitor.frozen
    # And may freeze again, with both edges.
    assert _hear(monitor, 14.1, state=1, cells=1).events[0][0] == "device.frozen"


def test_a_counter_that_moves_and_returns_within_one_batch_is_alive() -> None:
    monitor = _monitor()
    _hear(monitor, 0.1, state=1, alive=7)
    change = monitor.heard(
        np.array([2, 0]), np.array([ALIVE, ALIVE], dtype=np.int32), np.array([8, 7], dtype=np.int64), 5.2
    )
    assert change == Change()


def test_silence_is_not_frozen_and_the_time_starts_again_after_it() -> None:
    monitor = _monitor()
    _hear(monitor, 0.1, state=1, alive=7)
    monitor.tick(3.5)
    assert _hear(monitor, 20.0, state=1, alive=7).events == (("device.heard", {}),)
    assert not monitor.frozen
    assert _hear(monitor, 24.0, state=1, alive=7) == Change()
    assert _hear(monitor, 25.0, state=1, alive=7).events[0][0] == "device.frozen"


def test_reopening_the_wire_does_not_make_a_frozen_device_believable() -> None:
    monitor = _monitor()
    _hear(monitor, 0.1, state=1, alive=7)
    _hear(monitor, 5.2, state=1, alive=7)
    monitor.lost()
    monitor.opened(10.0)
    assert _hear(monitor, 10.1, state=1, alive=7) == Change()
    assert monitor.frozen
    assert _hear(monitor, 10.2, state=1, alive=8).events == (("device.alive", {}),)


def test_a_lost_wire_makes_everything_unknown_once() -> None:
    monitor = _monitor()
    _hear(monitor, 0.1, state=1, cells=1, alive=7)
    assert monitor.lost().unknown == (SOC, ALIVE, CELL)
    assert monitor.lost().unknown == ()
    monitor.opened(5.0)
    _hear(monitor, 5.1, cells=1)
    assert monitor.lost().unknown == (CELL,)


def test_what_was_silent_before_the_wire_was_lost_is_not_said_again_after_reopening() -> None:
    monitor = _monitor()
    monitor.tick(3.0)
    monitor.lost()
    monitor.opened(10.0)
    assert monitor.tick(20.0) == Change()
    assert _hear(monitor, 21.0, state=1, alive=1).events == (("device.heard", {}),)
