"""The newest lines of the gateway's own log, in memory: for the dashboard, and for a bundle for support.

Rules of this file:

1. A line never fails, and never waits: it is cut, or the oldest one makes room for it and is counted.
2. Lines stand here as they were logged: who shows them takes secrets out first (``doctor_redact.py``).
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LINES = 1000
MAX_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log. ``level`` as Python numbers it; with its traceback, where it has one."""

    t_us: int
    level: int
    logger: str
    text: str


class LogRing(logging.Handler):
    """Keeps the newest ``lines`` lines. Add it to the root logger; thread-safe."""

    def __init__(self, lines: int = MAX_LINES) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=lines)
        self.dropped = 0  #: lines that had to make room

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        try:
            text = self.format(record)
        except (TypeError, ValueError, KeyError):  # its arguments don't fit its words
            text = str(record.msg)
        if len(text) > MAX_CHARACTERS:
            text = f"{text[:MAX_CHARACTERS]} …"
        self.dropped += len(self._lines) == self._lines.maxlen
        self._lines.append(LogLine(round(record.created * 1e6), record.levelno, record.name, text))

    def lines(self) -> Sequence[LogLine]:
        """All of them, oldest first."""
        self.acquire()
        try:
            return list(self._lines)
        finally:
            self.release()
