"""The backlog's share of the link: a link simulated byte by byte, on which live data must stay quick."""

import heapq
from collections import deque

import pytest

from cloud_sync.throttle import LEAST_BYTES, Throttle

WINDOW_BYTES = 128 * 1024


class Line:
    """A line with a queue before it: so many bytes a second, and the time that each message takes on the way."""

    def __init__(self, bytes_per_s: float, way_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._way_s = way_s
        self._free_s = 0.0

    def acknowledged_s(self, size: int, now_s: float) -> float:
        self._free_s = max(self._free_s, now_s) + size / self._bytes_per_s
        return self._free_s + self._way_s


def drain(line: Line, seconds: float, backlog_bytes: int, live_bytes: int = 1000) -> tuple[list[float], int, Throttle]:
    """How long live messages took, one each second, while the backlog drained; how many bytes of it went through."""
    throttle, now_s, drained = Throttle(50, WINDOW_BYTES), 0.0, 0
    acks: list[tuple[float, float, int, bool]] = []
    live_s, took_s = deque(range(int(seconds))), list[float]()
    while now_s < seconds:
        while throttle.fits(backlog_bytes):
            throttle.left(backlog_bytes)
            heapq.heappush(acks, (line.acknowledged_s(backlog_bytes, now_s), now_s, backlog_bytes, True))
        if live_s and live_s[0] <= acks[0][0]:
            now_s = max(float(live_s.popleft()), now_s)
            heapq.heappush(acks, (line.acknowledged_s(live_bytes, now_s), now_s, live_bytes, False))
            continue
        now_s, sent_s, size, backlog = heapq.heappop(acks)
        if backlog:
            throttle.back(size)
            drained += size
        else:
            took_s.append(now_s - sent_s)
        throttle.timed(size, sent_s, now_s)
    return took_s, drained, throttle


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


@pytest.mark.parametrize("way_s", [0.002, 0.05, 0.7])
@pytest.mark.parametrize("size", [1000, 5000, 20_000])
@pytest.mark.parametrize("bytes_per_s", [20_000, 100_000, 2_000_000])
def test_live_data_is_quick_while_the_backlog_takes_the_rest(bytes_per_s: int, size: int, way_s: float) -> None:
    took_s, drained, _ = drain(Line(bytes_per_s, way_s), 120, size)
    assert p95(took_s) < 2.0
    alone = min(bytes_per_s - 1000, WINDOW_BYTES / (way_s + size / bytes_per_s))
    assert drained > 0.3 * 120 * alone, "the backlog does not use what is left"


def test_a_quick_link_gives_the_whole_share() -> None:
    _, _, throttle = drain(Line(10e6, 0.001), 2, 10_000)
    assert throttle.limit_bytes == WINDOW_BYTES


def test_no_more_than_the_share_is_ever_on_its_way() -> None:
    throttle = Throttle(50, WINDOW_BYTES)
    for _ in range(1000):
        throttle.timed(10_000, 0.0, 0.001)
    for _ in range(50):
        assert throttle.fits(100)
        throttle.left(100)
    assert not throttle.fits(100), "no more messages"
    for _ in range(50):
        throttle.back(100)
    throttle.left(WINDOW_BYTES - 10)
    assert throttle.fits(10)
    assert not throttle.fits(11)


def test_one_message_may_always_leave() -> None:
    throttle = Throttle(50, WINDOW_BYTES)
    throttle.timed(10, 0.0, 0.01)
    for second in range(1, 100):
        throttle.timed(10, float(second), second + 5.0)
    assert throttle.limit_bytes == LEAST_BYTES
    assert throttle.fits(10 * WINDOW_BYTES)
    throttle.left(10 * WINDOW_BYTES)
    assert not throttle.fits(1)


def test_one_queue_halves_it_once() -> None:
    throttle = Throttle(50, WINDOW_BYTES)
    throttle.timed(1, 0.0, 0.01)
    limit = throttle.limit_bytes
    for _ in range(10):
        throttle.timed(1000, 1.0, 3.0)
    assert throttle.limit_bytes == limit // 2
