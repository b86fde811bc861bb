"""Passwords: what is accepted as one, and argon2id (RFC 9106), so that a stolen file gives none away.

Rules of this file:

1. A hash costs a quarter to half a second of one core on purpose, so log-ins must not become a way to take the
   machine's memory and time: one at once, in a thread, and only a few may wait for their turn.
2. What that takes is measured on this machine when the first password is set, and stands in ``passwords.json`` then:
   for the gateway and the command line alike. It is never less than OWASP's least (19 MiB, two passes).
3. An unknown user costs the same as a known one with a wrong password: the time tells nobody who there is. A hash of
   another cost, from before or from another machine, is made anew at the next log-in.
"""

import asyncio
import contextlib
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY
from pydantic import BaseModel, ConfigDict, Field

from agent.api.jsonfile import JsonFile
from agent.core.clock import Clock
from agent.core.errors import AgentError, StoreError

MIN_LENGTH = 10
MAX_LENGTH = 1024
MAX_WAITING = 8
FILE = "passwords.json"
LEAST_S, MOST_S = 0.25, 0.5

#: Memory in KiB and the least passes over it, the dearest first (OWASP Password Storage Cheat Sheet; one lane, for the
#: other cores have chargers to answer).
_LADDER = ((65_536, 2), (47_104, 1), (19_456, 2))
_MAX_PASSES = 12
_TRIES = 2
_HINT = "delete it: what a password costs is measured anew"


class BusyError(AgentError):
    """Too many wait for their password to be checked: come again in some seconds."""


class PasswordError(AgentError):
    """Not accepted as a new password; ``reason`` says why."""


class Cost(BaseModel):
    """What a hash takes on this machine; 0: not measured yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_kib: int = Field(0, ge=0, le=1 << 20)
    passes: int = Field(0, ge=0, le=100)


class _Costs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = 1
    cost: Cost = Cost()


class CostBook:
    """The cost of one machine, measured once."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._file = JsonFile(data_dir / FILE, _Costs, _HINT)
        self._clock = clock

    def hasher(self) -> PasswordHasher:
        """With the cost of this machine. Takes some seconds the first time. Raises ``StoreError``."""
        cost = self._file.read().cost
        if not cost.passes:
            cost = choose(self._measure)
            with contextlib.suppress(StoreError):  # it is measured again some time; users.json will complain as well

                def edit(costs: _Costs) -> None:
                    costs.cost = cost

                self._file.change(edit)
        return _hasher(cost)

    def _measure(self, cost: Cost) -> float:
        hasher, took_s = _hasher(cost), []
        for _ in range(_TRIES):  # the best of them: the machine may be busy
            since_s = self._clock.monotonic_s()
            hasher.hash(b"how long does it take?")
            took_s.append(self._clock.monotonic_s() - since_s)
        return min(took_s)


class Passwords:
    """Hashes and verifies, with the cost of ``costs`` or, without one, RFC 9106's for little memory.

    Another ``hasher`` is for tests, where a third of a second for each log-in is too much.
    """

    def __init__(self, hasher: PasswordHasher | None = None, costs: CostBook | None = None) -> None:
        self._costs = costs
        self._made = hasher or (None if costs else PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY))
        self._turns = asyncio.Lock()
        self._waiting = 0

    @property
    def _hasher(self) -> PasswordHasher:
        if self._made is None:
            assert self._costs is not None  # noqa: S101 - one of them is given
            self._made = self._costs.hasher()
        return self._made

    @cached_property
    def _nobody(self) -> str:
        return _of_nobody(self._hasher)

    def hash(self, password: str) -> str:
        """The hash of a password, as PHC string. Takes its time: for commands, which have nothing else to do."""
        return self._hasher.hash(_bytes(password))

    def outdated(self, known: str) -> bool:
        """Whether that hash has another cost than new ones. Only after it was verified."""
        return self._hasher.check_needs_rehash(known)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait to be the only one that hashes or verifies. Raises ``BusyError``.

        Who counts wrong guesses does so before it ends: guesses sent at once are no way around the counting.
        """
        if self._waiting >= MAX_WAITING:
            raise BusyError("check a password", "too many others wait for that", "try again in some seconds")
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1

    async def hash_in_thread(self, password: str) -> str:
        """The hash of a password. Only in one's turn."""
        return await asyncio.to_thread(self.hash, password)

    async def verify(self, known: str | None, password: str) -> bool:
        """Whether it is the password of that hash; None (no such user) takes as long. Only in one's turn."""
        return await asyncio.to_thread(self._verify, known, password)

    def _verify(self, known: str | None, password: str) -> bool:
        try:
            self._hasher.verify(known or self._nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False
        return known is not None


def choose(measure: Callable[[Cost], float]) -> Cost:
    """The dearest that takes at most half a second, and at least a quarter; ``measure`` gives seconds.

    On a machine that is too slow for all of them it is the cheapest, on one that is very fast it is less time.
    """
    cost = Cost()
    for memory_kib, least in _LADDER:
        cost = Cost(memory_kib=memory_kib, passes=least)
        took_s = measure(cost)
        if took_s > MOST_S:
            continue
        while took_s < LEAST_S and cost.passes < _MAX_PASSES:
            dearer = Cost(memory_kib=memory_kib, passes=cost.passes + 1)
            took_s = measure(dearer)
            if took_s > MOST_S:
                break
            cost = dearer
        return cost
    return cost


def check_new(user: str, password: str) -> None:
    """Raise ``PasswordError`` unless this may become the user's password."""
    op = "set the password"
    if len(password) < MIN_LENGTH:
        raise PasswordError(op, f"it has fewer than {MIN_LENGTH} characters", "a few words make a good one")
    if len(password) > MAX_LENGTH:
        raise PasswordError(op, f"it has more than {MAX_LENGTH} characters")
    if password.casefold() == user.casefold():
        raise PasswordError(op, "it is the user's name")
    if len(set(password)) == 1:
        raise PasswordError(op, "it is one character, again and again")


def _hasher(cost: Cost) -> PasswordHasher:
    return PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=1)


def _of_nobody(hasher: PasswordHasher) -> str:
    """What is checked for users who don't exist: a hash of nothing at all, with the parameters of the others."""
    salt, tag = (
        b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${tag}"


def _bytes(password: str) -> bytes:
    # Keyboards send the same letter composed or not (NIST SP 800-63B, 5.1.1.2, says to normalise).
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")
