"""Authentication: set-up by a one-time code, log-in, and who sent a request.

Rules of this file:

1. There is no default password. While there is no admin, nothing can be used; a code that only who reads the
   gateway's log or terminal knows makes the first one. Each start makes another code; only its hash is remembered.
2. A request proves who sends it by ``Authorization: Bearer`` (an access token, or the API token of a machine), or by
   the cookie of a browser. A browser sends its cookie for others too, so what comes with one must come from our own
   page: no other Origin, no other Sec-Fetch-Site, and for changes the header ``x-enlace-csrf``, which no form can
   send. The cookie is HttpOnly and SameSite=Strict.
3. Everything that is asked for or changed here is told to the audit: who, what, of whom, with what result; never a
   password or token, and no name that is nobody's (people type passwords there).
"""

import asyncio
import contextlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from starlette.requests import Request

from agent.api.logins import ACCESS_S, LOGIN_S, Logins, OpenLogin, ReuseError
from agent.api.passwords import CostBook, Passwords, check_new
from agent.api.throttle import ASKED_BUCKET, ASKED_REFILL_S, Buckets, Throttle, TooFastError
from agent.api.users import Role, User, UserBook, UserError, digest
from agent.core.clock import Clock
from agent.core.errors import AgentError, StoreError
from agent.core.model import Event
from agent.core.ports import Notebook

CSRF_HEADER = "x-enlace-csrf"
READING = frozenset({"GET", "HEAD", "OPTIONS"})

#: Refusals that the audit is told of: so many at once, and one in this time.
EVENTS_BUCKET = 60.0
EVENTS_REFILL_S = 20.0

_ALL = "all"
_COOKIE = "enlace_session"
_CLI = "cli"
#: Without the letters that look like others (Crockford's base 32): 16 of them are 80 bits.
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LETTERS = 16
_LOOKS_LIKE = str.maketrans("OIL", "011", "- \t")
_MAX_COOKIE = 8192


class DeniedError(AgentError):
    """Not proved who it is, or not allowed; ``status`` is 401 or 403."""

    def __init__(self, status: int, reason: str, hint: str = "") -> None:
        super().__init__("authenticate", reason, hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. ``login`` is the log-in that it came with; empty for API tokens."""

    name: str
    role: Role
    stamp: str
    login: str = ""
    cookie: bool = False

    @property
    def issuer(self) -> str:
        """As commands and the audit name it."""
        return f"user:{self.name}"


@dataclass(frozen=True, slots=True)
class Granted:
    """What somebody is given who logged in: tokens, or a cookie."""

    user: User
    access_token: str = ""
    refresh_token: str = ""
    cookie: str = ""


class Auth:
    """One for each server. ``record`` takes the audit's events."""

    def __init__(
        self,
        data_dir: Path,
        clock: Clock,
        record: Callable[[Event], None],
        passwords: Passwords | None = None,
    ) -> None:
        self.users = UserBook(data_dir)
        self.passwords = passwords or Passwords(costs=CostBook(data_dir, clock))
        self._clock = clock
        self._record = record
        self._logins = Logins(data_dir, clock, self.users.get)
        self._throttle = Throttle(clock)
        self._strangers = Buckets(clock, ASKED_BUCKET, ASKED_REFILL_S)
        self._events = Buckets(clock, EVENTS_BUCKET, EVENTS_REFILL_S)
        self._left_out = 0  #: refusals that the audit was not told of
        self._code: str | None = None  #: digest of the set-up code

    @property
    def set_up(self) -> bool:
        """Whether there is an admin. Raises ``StoreError``."""
        return self.users.set_up

    def new_code(self) -> str:
        """A set-up code for people, ``K7QF-2M9X-…``; the one before is worth nothing any more."""
        letters = "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LETTERS))
        self._code = digest(letters)
        return "-".join(letters[start : start + 4] for start in range(0, _CODE_LETTERS, 4))

    async def use_code(self, code: str, name: str, password: str, address: str, *, cookie: bool) -> Granted:
        """Make the first admin and log in. Raises what ``log_in`` does, ``UserError``, ``PasswordError``."""
        async with self.passwords.turn():
            if self.set_up:
                raise UserError("set up", "that was done already", "log in")
            self._check_pace(None, address, "set-up")
            given = digest(code.upper().translate(_LOOKS_LIKE))
            if self._code is None or not hmac.compare_digest(given, self._code):
                self._throttle.failed(None, address)
                self._refused(None, "set-up", address, "refused: wrong code")
                raise DeniedError(
                    403, "this is not the code", "the gateway logged it at its last start; a restart makes another"
                )
            check_new(name, password)
            user = self.users.add(name, Role.ADMIN, await self.passwords.hash_in_thread(password), first=True)
            self._code = None
        self.audit(user.name, "set-up", address, "done")
        return await self._grant(user, cookie=cookie)

    async def log_in(self, name: str, password: str, address: str, *, cookie: bool) -> Granted:
        """Check the password and log in. Raises ``DeniedError``, ``TooFastError``, ``BusyError``."""
        if not self.set_up:
            raise not_set_up()
        account = name.casefold()
        self._throttle.check(account, address)  # refused at once, not after waiting for a turn
        async with self.passwords.turn():
            self._check_pace(account, address, "log-in")
            user = self.users.get(name)
            if not await self.passwords.verify(None if user is None else user.password, password):
                who = None if user is None else user.name
                self._refused(who, "log-in", address, "refused: wrong user or password")
                self._count(account, who, address)
                raise DeniedError(401, "wrong user or password")
            self._throttle.succeeded(account, address)
            await self._renew_hash(user, password)
        assert user is not None  # noqa: S101 - nobody's password is never right
        self.audit(user.name, "log-in", address, "done")
        return await self._grant(user, cookie=cookie)

    async def refresh(self, token: str, address: str) -> Granted:
        """New tokens for a refresh token, which is used up. Raises ``DeniedError``."""
        try:
            renewed = await self._logins.renew(token)
        except ReuseError as error:
            self._refused(error.user, "refresh", address, "refused: the token was used before, its log-in ends")
            renewed = None
        if renewed is None:
            raise DeniedError(401, "this refresh token is not valid: its log-in has ended", "log in again")
        fresh, user = renewed
        return Granted(user, self._logins.grant(fresh), fresh)

    async def log_out(self, caller: Caller) -> None:
        """End the log-in that a request came with."""
        await self._logins.end(caller.login)
        self.audit(caller.name, "log-out", "", "done")

    async def change_own(self, caller: Caller, old: str, new: str, address: str) -> Granted:
        """Change one's password; all log-ins end, this is a new one. Raises what ``log_in`` does, ``PasswordError``."""
        async with self.passwords.turn():
            self._check_pace(caller.name, address, "password")
            user = self.users.get(caller.name)
            if not await self.passwords.verify(None if user is None else user.password, old):
                self._refused(caller.name, "password", address, "refused: wrong password")
                self._count(caller.name, caller.name, address)
                raise DeniedError(403, "the present password is wrong")
            check_new(caller.name, new)
            self.users.set_password(caller.name, await self.passwords.hash_in_thread(new))
        self.audit(caller.name, "password", caller.name, "done")
        user = self.users.get(caller.name)
        if user is None:
            raise DeniedError(401, "this user is gone")
        return await self._grant(user, cookie=caller.cookie)

    def caller(self, request: Request) -> Caller | None:
        """Who sent it; None: nobody says so. Raises ``DeniedError`` for what proves nothing."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer":
                raise DeniedError(401, "only Bearer tokens are understood", "POST /api/auth/login gives one")
            return self._of_token(token.strip())
        cookie = _cookie_of(request)
        found = self._logins.of_cookie(cookie) if cookie else None
        if found is None:
            return None
        _check_origin(request)
        login, user = found
        return Caller(user.name, user.role, user.stamp, login, cookie=True)

    def admit(self, request: Request) -> None:
        """Count a request that proves nothing. Raises ``TooFastError`` where its address sent too many of them."""
        if on_this_machine(request):
            return
        try:
            known = self.set_up and self.caller(request) is not None
        except (DeniedError, StoreError):
            known = False  # the route says what is wrong with it
        if known:
            return
        address = address_of(request)
        wait_s = self._strangers.wait_s(address)
        if wait_s > 0:
            raise TooFastError(max(1.0, wait_s), "answer", "too many requests from there that prove nothing")
        self._strangers.take(address)

    def still(self, caller: Caller) -> bool:
        """Whether who opened a stream may go on reading it."""
        user = self.users.get(caller.name)
        if user is None or user.stamp != caller.stamp:
            return False
        return not caller.login or self._logins.open_still(caller.login)

    def open_logins(self) -> list[OpenLogin]:
        """The log-ins that have not ended, the oldest first; API tokens are none."""
        return self._logins.open_logins()

    def audit(self, who: str | None, what: str, target: str, result: str, **change: object) -> None:
        """Tell the audit. ``change``: what it was before (``old``) and is now (``new``), where that is known."""
        self._record(self.audit_event(who, what, target, result, **change))

    def audit_event(self, who: str | None, what: str, target: str, result: str, **change: object) -> Event:
        """What the audit is told, for who stores it together with what was done."""
        data = {"who": f"user:{who}" if who else "unknown", "what": what, "target": target, "result": result}
        return Event("audit", self._clock.now_us(), target, {**data, **change})

    async def tell_changes(self, notebook: Notebook) -> None:
        """Tell the audit what ``enlace user`` changed. Raises ``StoreError``: it is told later."""
        changes = [*self.users.changes()]
        if not changes:
            return
        told = [
            Event(
                "audit", one.t_us, one.target, {"who": _CLI, "what": one.what, "target": one.target, "result": "done"}
            )
            for one in changes
        ]
        await notebook.write(_CLI, "", None, told)  # waits until they are on disk; there is no such note
        await asyncio.to_thread(self.users.told, changes)

    def _of_token(self, token: str) -> Caller:
        if (found := self._logins.of_access(token)) is not None:
            login, user = found
            return Caller(user.name, user.role, user.stamp, login)
        if (machine := self.users.of_token(token)) is not None:
            return Caller(machine.name, machine.role, machine.stamp)
        raise DeniedError(401, "this token is not valid (any more)", "refresh it, or log in again")

    def _check_pace(self, account: str | None, address: str, what: str) -> None:
        try:
            self._throttle.check(account, address)
        except TooFastError:
            self._refused(None, what, address, "refused: too many wrong guesses")
            raise

    def _count(self, account: str, who: str | None, address: str) -> None:
        """A guess was wrong: the next one has to wait, and the audit is told when that is long."""
        locked_s = self._throttle.failed(account, address)
        if locked_s > 0:
            self._refused(who, "lock account", address, f"locked for {locked_s / 60:.0f} min after wrong guesses")

    def _refused(self, who: str | None, what: str, address: str, result: str) -> None:
        """Tell the audit of what strangers can bring about as often as they like: so often only, the rest as a sum."""
        if self._events.wait_s(_ALL) > 0:
            self._left_out += 1
            return
        self._events.take(_ALL)
        more = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        self.audit(who, what, address, result, **more)

    async def _renew_hash(self, user: User | None, password: str) -> None:
        """Give the hash the cost of the others. It is no harm when that can't be written now."""
        if user is None or not self.passwords.outdated(user.password):
            return
        fresh = await self.passwords.hash_in_thread(password)
        with contextlib.suppress(StoreError):
            await asyncio.to_thread(self.users.renew_hash, user.name, user.password, fresh)

    async def _grant(self, user: User, *, cookie: bool) -> Granted:
        opened = await self._logins.open(user, "cookie" if cookie else "refresh")
        if opened is None:
            raise DeniedError(401, "this log-in was ended while it was made", "log in again")
        return Granted(user, cookie=opened) if cookie else Granted(user, self._logins.grant(opened), opened)


def not_set_up() -> DeniedError:
    """Nothing can be used yet."""
    hint = "open the gateway's page, or POST /api/auth/setup; the code stands in the gateway's log, a restart makes one"
    return DeniedError(403, "this gateway has no admin yet: set it up first", hint)


def on_this_machine(request: Request) -> bool:
    """Whether it comes from this machine itself, not through a proxy that runs here."""
    if request.client is None or "forwarded" in request.headers or "x-forwarded-for" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def address_of(request: Request) -> str:
    """Where a request comes from, for the audit and for counting guesses."""
    return request.client.host if request.client else ""


def cookie_header(request: Request, value: str) -> str:
    """``Set-Cookie`` for a value; an empty one takes the cookie away."""
    secure = request.url.scheme == "https"
    age_s = round(LOGIN_S) if value else 0
    # Without TLS a browser keeps no Secure cookie, and __Host- needs Secure.
    name = f"__Host-{_COOKIE}" if secure else _COOKIE
    return f"{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")


def token_answer(granted: Granted) -> dict[str, object]:
    """What a program is given that logged in (RFC 6749, 5.1)."""
    return {
        "access_token": granted.access_token,
        "token_type": "bearer",
        "expires_in": round(ACCESS_S),
        "refresh_token": granted.refresh_token,
    }


def _cookie_of(request: Request) -> str:
    header = request.headers.get("cookie", "")
    if not header or len(header) > _MAX_COOKIE:
        return ""
    try:
        jar: SimpleCookie = SimpleCookie(header)
    except CookieError:
        return ""
    name = f"__Host-{_COOKIE}" if request.url.scheme == "https" else _COOKIE
    return jar[name].value if name in jar else ""


def _check_origin(request: Request) -> None:
    """Only our own page may use the cookie."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    # "none" is a person who typed the address: that reads.
    if (origin is not None and origin.lower() != own.lower()) or site not in {"same-origin", "none"}:
        raise DeniedError(403, "a page from elsewhere may not use this log-in")
    if request.method not in READING and not request.headers.get(CSRF_HEADER):
        raise DeniedError(403, f"a change with a cookie needs the header {CSRF_HEADER}: 1")
