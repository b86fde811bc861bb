"""Who is logged in: access tokens, refresh tokens, cookies. All are opaque: 256 random bits, kept as SHA-256.

Rules of this file:

1. No JWT: its times need a clock that is right, and a gateway without a clock battery may start in 1970. A table in
   this process does with monotonic time, and takes a token back at once.
2. An access token lives 15 minutes, in memory only. A refresh token is good once: each use gives another one. One that
   comes a second time was stolen, or its successor was: the whole log-in ends (RFC 9700, 4.14.2).
3. A browser has a cookie instead, which no script can read and which is not changed at each use, for its tabs would
   end each other's log-in. It ends after 12 hours without a request.
4. Log-ins end after 30 days whatever happens, and at once when their user's password changes or the user goes.
   They stand in ``logins.json``, so that a restart ends nobody's. While the disk is full they stand in memory only.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from agent.api.jsonfile import JsonFile
from agent.api.users import User, digest
from agent.core.clock import Clock
from agent.core.errors import AgentError, StoreError

logger = logging.getLogger(__name__)

FILE = "logins.json"
ACCESS_S = 900.0
LOGIN_S = 30 * 86_400.0
COOKIE_IDLE_S = 12 * 3600.0
MAX_ACCESS = 2000
MAX_LOGINS = 500
MAX_LOGINS_OF_USER = 20


class Login(BaseModel):
    """One log-in of a user: the family of its refresh tokens, or its cookie."""

    model_config = ConfigDict(extra="forbid")

    id: str
    kind: Literal["refresh", "cookie"]
    user: str
    stamp: str
    digest: str
    created_us: int


class ReuseError(AgentError):
    """A refresh token came a second time; ``user`` is whose log-in has ended thereby."""

    def __init__(self, user: str) -> None:
        super().__init__("refresh", "this token was used before: its log-in has ended", "log in again")
        self.user = user


@dataclass(frozen=True, slots=True)
class OpenLogin:
    """A log-in that has not ended."""

    user: str
    kind: str  #: ``refresh`` (a program) or ``cookie`` (a browser)
    since_us: int
    idle_s: float  #: since its last request; since the start of the gateway where none came


class _Logins(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = 1
    logins: dict[str, Login] = {}


@dataclass(frozen=True, slots=True)
class _Access:
    login: str
    user: str
    stamp: str
    until_s: float


class Logins:
    """The table. ``known`` gives a user by name; what is asked for users who are gone or have a new stamp is None.

    All of it runs on the event loop; only the file is written in a thread, one writer at a time.
    """

    def __init__(self, data_dir: Path, clock: Clock, known: Callable[[str], User | None]) -> None:
        self._clock = clock
        self._known = known
        self._file = JsonFile(data_dir / FILE, _Logins, "delete it: all users have to log in again")
        self._access: dict[str, _Access] = {}  #: by digest, oldest first
        self._used_s: dict[str, float] = {}  #: by log-in: when its cookie was last used
        self._started_s = clock.monotonic_s()
        self._writable = True
        self._writing = asyncio.Lock()
        try:
            self._logins = dict(self._file.read().logins)
        except StoreError as error:
            logger.warning("api: all users have to log in again: %s", error)
            self._file.path.unlink(missing_ok=True)
            self._logins = {}

    async def open(self, user: User, kind: Literal["refresh", "cookie"]) -> str | None:
        """A new log-in; its refresh token or cookie. None: it ended while it was written."""
        own = [login.id for login in self._logins.values() if login.user == user.name]
        too_many = own[: max(0, len(own) - MAX_LOGINS_OF_USER + 1)]
        if not too_many and len(self._logins) >= MAX_LOGINS:
            too_many.append(next(iter(self._logins)))
        for name in too_many:
            self._forget(name)
        name, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
        created_us = self._clock.now_us()
        self._logins[name] = Login(
            id=name, kind=kind, user=user.name, stamp=user.stamp, digest=digest(secret), created_us=created_us
        )
        self._used_s[name] = self._clock.monotonic_s()
        await self._write()
        return f"{name}.{secret}" if self.open_still(name) else None

    def grant(self, refresh_token: str) -> str:
        """A new access token of the log-in that this refresh token was just made for: at once, or it may have ended."""
        login = self._logins[refresh_token.partition(".")[0]]
        now_s = self._clock.monotonic_s()
        for key in [key for key, access in self._access.items() if access.until_s <= now_s]:
            del self._access[key]
        if len(self._access) >= MAX_ACCESS:
            del self._access[next(iter(self._access))]
        token = secrets.token_urlsafe(32)
        self._access[digest(token)] = _Access(login.id, login.user, login.stamp, now_s + ACCESS_S)
        return token

    async def renew(self, refresh_token: str) -> tuple[str, User] | None:
        """The next refresh token, and whose it is; None when this one is good for nothing, or ends while it is written.

        Raises ``ReuseError`` for one that was used before.
        """
        name, _, secret = refresh_token.partition(".")
        login = self._logins.get(name)
        if login is None or login.kind != "refresh":
            return None
        user = self._user(login)
        fits = hmac.compare_digest(login.digest, digest(secret))
        if user is None or not fits:
            await self.end(name)
            if user is not None:
                raise ReuseError(user.name)
            return None
        self._used_s[name] = self._clock.monotonic_s()
        fresh = secrets.token_urlsafe(32)
        self._logins[name] = login.model_copy(update={"digest": digest(fresh)})
        await self._write()  # in this time the token may come again, or the user log out or go
        return (f"{name}.{fresh}", user) if self.open_still(name) else None

    def of_access(self, token: str) -> tuple[str, User] | None:
        """The log-in and user of an access token."""
        access = self._access.get(digest(token))
        if access is None or access.until_s <= self._clock.monotonic_s() or access.login not in self._logins:
            return None
        user = self._user(self._logins[access.login])
        if user is None:
            return None
        self._used_s[access.login] = self._clock.monotonic_s()
        return access.login, user

    def of_cookie(self, cookie: str) -> tuple[str, User] | None:
        """The log-in and user of a cookie."""
        name, _, secret = cookie.partition(".")
        login, now_s = self._logins.get(name), self._clock.monotonic_s()
        if login is None or login.kind != "cookie" or not hmac.compare_digest(login.digest, digest(secret)):
            return None
        user = self._user(login)
        if user is None or now_s - self._used_s.get(name, self._started_s) > COOKIE_IDLE_S:
            return None
        self._used_s[name] = now_s
        return name, user

    def open_still(self, name: str) -> bool:
        """Whether a log-in has not ended."""
        login = self._logins.get(name)
        return login is not None and self._user(login) is not None

    def open_logins(self) -> list[OpenLogin]:
        """Those that have not ended, the oldest first."""
        now_s = self._clock.monotonic_s()
        found = [
            OpenLogin(one.user, one.kind, one.created_us, now_s - self._used_s.get(one.id, self._started_s))
            for one in self._logins.values()
            if self._user(one) is not None
        ]
        return [one for one in found if one.kind != "cookie" or one.idle_s <= COOKIE_IDLE_S]

    def users(self) -> set[str]:
        """The names of those who are logged in."""
        return {one.user for one in self.open_logins()}

    async def end(self, name: str) -> None:
        """End a log-in."""
        if name in self._logins:
            self._forget(name)
            await self._write()

    def _user(self, login: Login) -> User | None:
        user = self._known(login.user)
        age_s = (self._clock.now_us() - login.created_us) / 1e6
        # A clock that stands in the past makes nothing older; then time since the start counts.
        age_s = max(age_s, self._clock.monotonic_s() - self._started_s if age_s < 0 else 0)
        return user if user is not None and user.stamp == login.stamp and age_s < LOGIN_S else None

    def _forget(self, name: str) -> None:
        del self._logins[name]
        self._used_s.pop(name, None)
        for key in [key for key, access in self._access.items() if access.login == name]:
            del self._access[key]

    async def _write(self) -> None:
        async with self._writing:
            for name in [name for name, login in self._logins.items() if self._user(login) is None]:
                self._forget(name)
            logins = dict(self._logins)

            def edit(document: _Logins) -> None:
                document.logins = logins

            try:
                await asyncio.to_thread(self._file.change, edit)
            except StoreError as error:
                if self._writable:
                    logger.warning("api: log-ins end with the next restart: %s", error)
                self._writable = False
            else:
                if not self._writable:
                    logger.info("api: log-ins are kept over a restart again")
                self._writable = True
