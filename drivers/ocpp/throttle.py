"""How often somebody may do something: so many at once, and then one each so many seconds."""

from collections.abc import Hashable

from agent.core.clock import Clock


class Throttle:
    """An allowance for each key. At most ``keys`` of them are remembered; the longest unused go, and begin anew."""

    def __init__(self, clock: Clock, burst: int, every_s: float, keys: int = 1024) -> None:
        self._clock = clock
        self._every_s = every_s
        self._room_s = (burst - 1) * every_s
        self._keys = keys
        #: Key -> monotonic time at which its allowance is whole again, the longest unused first.
        self._whole_s: dict[Hashable, float] = {}

    def allows(self, key: Hashable = "") -> bool:
        """Whether there is something left for this key."""
        return self._whole_s.get(key, 0.0) - self._clock.monotonic_s() <= self._room_s

    def take(self, key: Hashable = "") -> bool:
        """Use one of its allowance; false when there was none left."""
        if not self.allows(key):
            return False
        whole_s = max(self._whole_s.pop(key, 0.0), self._clock.monotonic_s()) + self._every_s
        if len(self._whole_s) >= self._keys:
            del self._whole_s[next(iter(self._whole_s))]
        self._whole_s[key] = whole_s
        return True
