"""How often somebody may do something: so many at once, and then one each so many seconds."""

import ipaddress
from collections.abc import Hashable

from agent.core.clock import Clock

#: A subscriber's network: whoever has one address of it has all.
_IPV6_PREFIX = 64


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


class Budget:
    """What one charger may send: ``burst`` frames at once, and then so many a second; over all its connections."""

    def __init__(self, clock: Clock, burst: float, rate_per_s: float) -> None:
        self._clock = clock
        self._burst = burst
        self._rate_per_s = rate_per_s
        self._left = burst
        self._at_s = clock.monotonic_s()

    def spend(self, cost: float, least: float = 0.0) -> float:
        """Use ``cost`` of it, of what is left of the burst at least ``least``; seconds until more may be used."""
        self._refill()
        left = self._left - cost
        self._left = min(left, max(0.0, self._left - least))
        return self._wait_s()

    def debt_s(self) -> float:
        """Seconds until what was used beyond it is made up for."""
        self._refill()
        return self._wait_s()

    def _refill(self) -> None:
        now_s = self._clock.monotonic_s()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s

    def _wait_s(self) -> float:
        return (1 - self._left) / self._rate_per_s if self._left < 0 else 0.0


def network(address: str) -> str:
    """Whom something is counted for at ``10.0.0.21:40312``: the host, of IPv6 its network."""
    host = address.rpartition(":")[0].strip("[]") or address
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped is None:
        return str(ipaddress.ip_network((number, _IPV6_PREFIX), strict=False))
    return str(number)
