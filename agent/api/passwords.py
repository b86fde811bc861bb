"""Passwords: what is accepted as one, and argon2id (RFC 9106), so that a stolen file gives none away.

Rules of this file:

1. A hash costs 64 MiB and 0.2 s (two x86 cores) on purpose, so log-ins must not become a way to take the machine's
   memory and time: one at once, in a thread, and only a few may wait for their turn.
2. An unknown user costs the same as a known one with a wrong password: the time tells nobody who there is.
"""

import asyncio
import contextlib
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import AsyncIterator

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from agent.core.errors import AgentError

MIN_LENGTH = 10
MAX_LENGTH = 1024
MAX_WAITING = 8


class BusyError(AgentError):
    """Too many wait for their password to be checked: come again in some seconds."""


class PasswordError(AgentError):
    """Not accepted as a new password; ``reason`` says why."""


class Passwords:
    """Hashes and verifies. Another ``hasher`` is for tests, where a fifth of a second for each log-in is too much."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._turns = asyncio.Lock()
        self._waiting = 0
        self._nobody = _of_nobody(self._hasher)

    def hash(self, password: str) -> str:
        """The hash of a password, as PHC string. Takes its time: for commands, which have nothing else to do."""
        return self._hasher.hash(_bytes(password))

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
