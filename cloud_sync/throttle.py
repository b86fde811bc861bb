"""How much of the backlog may be on its way: never more than half of the window, and less where the link is slow.

Every PUBACK says how long a message was under way. The shortest of a connection is what the way itself takes; what is
more than ``QUEUE_S`` above it is a queue before the narrowest part of the link, in which live data would wait too. So
the bytes on their way grow with each PUBACK that came in time and are halved when one was late: additive increase,
multiplicative decrease, as TCP does it, with a doubling for each round trip at the beginning. One message may always be
on its way, so the backlog never stands still.
"""

QUEUE_S = 0.4
FIRST_BYTES = 16 << 10
LEAST_BYTES = 4 << 10
_STEP_BYTES = 2 << 10


class Throttle:
    """Of one connection. ``most_messages`` and ``most_bytes`` are its share of the window. Times are monotonic, s."""

    def __init__(self, most_messages: int, most_bytes: int) -> None:
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self.limit_bytes = min(FIRST_BYTES, most_bytes)
        self._messages = 0
        self._bytes = 0
        self._quickest_s = float("inf")
        self._doubling = True
        self._halved_s = float("-inf")

    def fits(self, size: int) -> bool:
        """Whether a message of the backlog of so many bytes may leave now."""
        return not self._messages or (self._messages < self._most_messages and self._bytes + size <= self.limit_bytes)

    def left(self, size: int) -> None:
        """A message of the backlog was handed over."""
        self._messages += 1
        self._bytes += size

    def back(self, size: int) -> None:
        """It is not on its way any more, whatever became of it."""
        self._messages -= 1
        self._bytes -= size

    def timed(self, size: int, sent_s: float, now_s: float) -> None:
        """A message, of the backlog or not, was acknowledged."""
        took_s = now_s - sent_s
        self._quickest_s = min(self._quickest_s, took_s)
        if took_s <= self._quickest_s + QUEUE_S:
            step = size if self._doubling else size * _STEP_BYTES // self.limit_bytes + 1
            self.limit_bytes = min(self.limit_bytes + step, self._most_bytes)
        elif sent_s >= self._halved_s:
            # Once for all messages that were in the same queue.
            self._doubling = False
            self._halved_s = now_s
            self.limit_bytes = max(self.limit_bytes // 2, min(LEAST_BYTES, self._most_bytes))
