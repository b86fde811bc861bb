"""How fast passwords may be guessed, and strangers may ask, by monotonic time: a wall clock that jumps changes nothing.

Rules of this file:

1. Of one account: after each wrong guess a pause, 1, 2, 4 … 256 s, and ten guesses in any hour. The right password is
   not even looked at during the pause, or guessing would go on. It forgets after a day without guesses. The set-up code
   is no account: nobody can guess its 80 bits, but anybody could lock its owner out.
   An address from which the right password came before has a count of its own for that account, and so has the machine
   itself: strangers who guess lock strangers out, not who works there. Who is logged in is never concerned.
2. Of one address: a bucket of 10 wrong guesses that fills by one every three minutes (at most 30 in an hour), and one
   of 100 requests that prove nothing, which fills by two every second. Who proves who he is, is served all the same.
   The machine itself has none: its console is never locked out, nor are those behind a proxy that runs here.
3. Names that don't exist are counted like the others, or the answer would tell which exist. What is remembered is
   bounded; what is forgotten first is what would have ended first.
"""

import ipaddress
from collections import deque
from dataclasses import dataclass, field

from agent.core.clock import Clock
from agent.core.errors import AgentError

GUESSES_AN_HOUR = 10
HOUR_S = 3600.0
MAX_PAUSE_S = 300.0
FORGET_S = 86_400.0
BUCKET = 10.0
REFILL_S = 180.0
ASKED_BUCKET = 100.0
ASKED_REFILL_S = 0.5
MAX_REMEMBERED = 1000
#: Addresses that an account is known to log in from; the one not used for longest is forgotten first.
MAX_PLACES = 8

_DOUBLINGS = 10
_IPV6_SITE_BITS = 64  # one customer has at least these to choose from


class TooFastError(AgentError):
    """Too much of it: ``retry_s`` says when it may be tried again."""

    def __init__(self, retry_s: float, op: str = "log in", reason: str = "too many wrong guesses") -> None:
        super().__init__(op, reason, f"try again in {retry_s:.0f} s")
        self.retry_s = retry_s


class Buckets:
    """One bucket for each address; ``size`` is what a full one holds, ``refill_s`` how long each piece takes."""

    def __init__(self, clock: Clock, size: float, refill_s: float) -> None:
        self._clock = clock
        self._size = size
        self._refill_s = refill_s
        self._left: dict[str, tuple[float, float]] = {}  #: by address: what is left, and when that was so

    def __len__(self) -> int:
        return len(self._left)

    def wait_s(self, address: str) -> float:
        """How long until there is something in it; 0: there is."""
        left = self._now(site_of(address))
        return 0.0 if left >= 1 else (1 - left) * self._refill_s

    def take(self, address: str) -> None:
        """Take a piece out."""
        site, now_s = site_of(address), self._clock.monotonic_s()
        if not site:
            return
        self._left[site] = (self._now(site) - 1, now_s)
        if len(self._left) > MAX_REMEMBERED:
            del self._left[max(self._left, key=self._now)]

    def _now(self, site: str) -> float:
        left, at_s = self._left.get(site, (self._size, 0.0))
        return min(self._size, left + (self._clock.monotonic_s() - at_s) / self._refill_s)


@dataclass(slots=True)
class _Account:
    failures: int = 0
    until_s: float = 0.0
    last_s: float = 0.0
    lately_s: deque[float] = field(default_factory=lambda: deque(maxlen=GUESSES_AN_HOUR))


class Throttle:
    """Counts wrong guesses by account and address. Without an account they are counted by address alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[tuple[str, str | None], _Account] = {}  #: by name, and place where that is known
        self._places: dict[str, dict[str, None]] = {}  #: by name, the one used last stands last
        self._buckets = Buckets(clock, BUCKET, REFILL_S)

    def check(self, account: str | None, address: str) -> None:
        """Raise ``TooFastError`` unless a guess may be made now."""
        known = None if account is None else self._accounts.get(self._key(account, address))
        wait_s = 0.0 if known is None else known.until_s - self._clock.monotonic_s()
        wait_s = max(wait_s, self._buckets.wait_s(address))
        if wait_s > 0:
            raise TooFastError(max(1.0, wait_s), "log in" if account else "set up")

    def failed(self, account: str | None, address: str) -> float:
        """A guess was wrong; for how long the account is locked now, 0 for a short pause only."""
        self._buckets.take(address)
        if account is None:
            return 0.0
        now_s = self._clock.monotonic_s()
        known = self._accounts.setdefault(self._key(account, address), _Account())
        if now_s - known.last_s > FORGET_S:
            known.failures = 0
        known.failures += 1
        known.last_s = now_s
        known.lately_s.append(now_s)
        known.until_s = now_s + min(2.0 ** min(known.failures - 1, _DOUBLINGS), MAX_PAUSE_S)
        if len(known.lately_s) == GUESSES_AN_HOUR:
            known.until_s = max(known.until_s, known.lately_s[0] + HOUR_S)
        if len(self._accounts) > MAX_REMEMBERED:
            del self._accounts[min(self._accounts, key=lambda name: self._accounts[name].until_s)]
        wait_s = known.until_s - now_s
        return wait_s if wait_s > MAX_PAUSE_S else 0.0

    def succeeded(self, account: str, address: str) -> None:
        """The right password came: guesses from there are forgotten, and the place is known from now on."""
        self._accounts.pop(self._key(account, address), None)
        site = site_of(address)
        places = self._places.pop(account, {})
        places.pop(site, None)
        places[site] = None
        while len(places) > MAX_PLACES:
            del places[next(iter(places))]
        self._places[account] = places
        while len(self._places) > MAX_REMEMBERED:
            del self._places[next(iter(self._places))]

    def _key(self, account: str, address: str) -> tuple[str, str | None]:
        site = site_of(address)
        return account, site if not site or site in self._places.get(account, ()) else None


def site_of(address: str) -> str:
    """Whose guesses are counted together: an IPv4 address, an IPv6 network of 64 bits; empty for this machine."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address or "unknown"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    if found.is_loopback:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, _IPV6_SITE_BITS), strict=False))
    return str(found)
