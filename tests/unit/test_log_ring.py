"""The newest log lines in memory."""

import logging
import sys
import threading

import pytest

from agent.log_ring import MAX_CHARACTERS, LogRing


@pytest.fixture
def ring() -> LogRing:
    return LogRing(3)


def record(text: str, *arguments: object, level: int = logging.INFO, error: bool = False) -> logging.LogRecord:
    info = None
    try:
        int("of the test" if error else "1")
    except ValueError:
        info = sys.exc_info()
    made = logging.LogRecord("agent.test", level, __file__, 1, text, arguments, info)
    made.created = 1_700_000_000.25
    return made


def test_it_keeps_the_newest_and_counts_the_others(ring: LogRing) -> None:
    for number in range(5):
        ring.handle(record("line %d", number, level=logging.WARNING))
    assert [one.text for one in ring.lines()] == ["line 2", "line 3", "line 4"]
    assert ring.dropped == 2
    (first, *_) = ring.lines()
    assert (first.t_us, first.level, first.logger) == (1_700_000_000_250_000, logging.WARNING, "agent.test")


def test_tracebacks_stand_there_and_long_lines_are_cut(ring: LogRing) -> None:
    ring.handle(record("lost", error=True))
    ring.handle(record("x" * (MAX_CHARACTERS + 1)))
    lost, long = ring.lines()
    assert lost.text.startswith("lost\nTraceback")
    assert lost.text.endswith("'of the test'")
    assert len(long.text) == MAX_CHARACTERS + 2


def test_a_line_whose_arguments_do_not_fit_harms_nobody(ring: LogRing) -> None:
    ring.handle(record("%d and %d", 1))
    assert [one.text for one in ring.lines()] == ["%d and %d"]


def test_threads_may_log_at_once(ring: LogRing) -> None:
    threads = [threading.Thread(target=lambda: [ring.handle(record("x")) for _ in range(200)]) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert ring.dropped == 4 * 200 - 3
