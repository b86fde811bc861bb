"""The last seconds of one signal, for its rate of change. No clock: times are monotonic and passed in."""

import math
from collections import deque

from agent.core.model import Number

#: A window keeps the last sample of each of so many parts: a rate is of so much ago, to a part.
SAMPLES = 64


class Window:
    """How one signal moved during the last ``seconds``: a staircase, each value holds until the next one."""

    __slots__ = ("_samples", "_step_s", "seconds")

    def __init__(self, seconds: Number) -> None:
        self.seconds = float(seconds)
        self._step_s = self.seconds / SAMPLES
        self._samples: deque[tuple[float, Number]] = deque()

    def put(self, now_s: float, value: Number | None) -> None:
        """A new value. None: unknown, and what was before says nothing about what comes."""
        samples = self._samples
        if value is None:
            samples.clear()
        elif samples and now_s // self._step_s == samples[-1][0] // self._step_s:
            samples[-1] = (now_s, value)
        else:
            samples.append((now_s, value))
            self._trim(now_s)

    def rate(self, now_s: float) -> float | None:
        """Change per second since ``seconds`` ago; None where the value of then, or now, is not known."""
        self._trim(now_s)
        if not self._samples or self._samples[0][0] > now_s - self.seconds:
            return None
        try:
            rate = (self._samples[-1][1] - self._samples[0][1]) / self.seconds
        except OverflowError:
            return None
        return rate if math.isfinite(rate) else None

    def __len__(self) -> int:
        return len(self._samples)

    def _trim(self, now_s: float) -> None:
        """Keep one sample from before the window: its value held when the window began."""
        samples, start_s = self._samples, now_s - self.seconds
        while len(samples) > 1 and samples[1][0] <= start_s:
            samples.popleft()
