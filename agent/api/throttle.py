"""How fast passwords may be guessed, by monotonic time: a wall clock that jumps lets nobody in earlier.

Rules of this file:

1. Of one account: after each wrong guess a pause, 1, 2, 4 … 256 s; from the tenth on, 15 minutes. The right password
   is not even looked at during the pause, or guessing would go on. It forgets after a day without guesses.
2. Of one address: a bucket of 10 wrong guesses that fills by one every three minutes (at most 30 in an hour). The
   machine itself has none: its console is never locked out, nor are those behind a proxy that runs here.
3. Names that don't exist are counted like the others, or the answer would tell which exist. What is remembered is
   bounded; what is forgotten first is what would have ended first.
"""

import ipaddress
from dataclasses import dataclass

from agent.core.clock import Clock
from agent.core.errors import AgentError

LOCK_AFTER = 10
LOCK_S = 900.0
MAX_PAUSE_S = 300.0
FORGET_S = 86_400.0
BUCKET = 10.0
REFILL_S = 180.0
MAX_REMEMBERED = 1000

_IPV6_SITE_BITS = 64  # one customer has at least these to choose from


class TooFastError(AgentError):
    """Too many wrong guesses: ``retry_s`` says when the next may be made."""

    def __init__(self, retry_s: float) -> None:
        super().__init__("log in", "too many wrong guesses", f"try again in {retry_s:.0f} s")
        self.retry_s = retry_s


@dataclass(slots=True)
class _Account:
    failures: int = 0
    until_s: float = 0.0
    last_s: float = 0.0


class Throttle:
    """Counts wrong guesses by account and address."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._buckets: dict[str, tuple[float, float]] = {}  #: by address: guesses left, and when that was so

    def check(self, account: str, address: str) -> None:
        """Raise ``TooFastError`` unless a guess may be made now."""
        now_s = self._clock.monotonic_s()
        wait_s = 0.0
        if (known := self._accounts.get(account)) is not None:
            wait_s = known.until_s - now_s
        left = self._left(address, now_s)
        if left < 1:
            wait_s = max(wait_s, (1 - left) * REFILL_S)
        if wait_s > 0:
            raise TooFastError(max(1.0, wait_s))

    def failed(self, account: str, address: str) -> None:
        """A guess was wrong."""
        now_s = self._clock.monotonic_s()
        known = self._accounts.setdefault(account, _Account())
        if now_s - known.last_s > FORGET_S:
            known.failures = 0
        known.failures += 1
        known.last_s = now_s
        pause_s = LOCK_S if known.failures >= LOCK_AFTER else min(2.0 ** (known.failures - 1), MAX_PAUSE_S)
        known.until_s = now_s + pause_s
        if site := _site(address):
            self._buckets[site] = (self._left(address, now_s) - 1, now_s)
        if len(self._accounts) > MAX_REMEMBERED:
            del self._accounts[min(self._accounts, key=lambda name: self._accounts[name].until_s)]
        if len(self._buckets) > MAX_REMEMBERED:
            fullest = max(self._buckets, key=lambda site: self._buckets[site][0] + self._refilled(site, now_s))
            del self._buckets[fullest]

    def succeeded(self, account: str) -> None:
        """The right password came: the account's guesses are forgotten."""
        self._accounts.pop(account, None)

    def _left(self, address: str, now_s: float) -> float:
        site = _site(address)
        if not site or site not in self._buckets:
            return BUCKET
        return min(BUCKET, self._buckets[site][0] + self._refilled(site, now_s))

    def _refilled(self, site: str, now_s: float) -> float:
        return (now_s - self._buckets[site][1]) / REFILL_S


def _site(address: str) -> str:
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
