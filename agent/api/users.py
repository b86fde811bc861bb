"""Who may do what: users with their roles, password hashes and API tokens, in ``users.json`` of the data folder.

The command line and the gateway are two processes that change it; both use this module (``jsonfile.py`` has the lock).
What the command line changes stands there too, until the gateway has told it to the audit, which only it can write.
Secrets are kept as hashes only: argon2id for passwords, which people make up; SHA-256 for tokens, which are 256 random
bits that nobody can guess however fast a guess is.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from agent.api.jsonfile import JsonFile
from agent.core.errors import AgentError

FILE = "users.json"
MAX_USERS = 200
MAX_TOKENS = 20  #: of one user
TOKEN_PREFIX = "enl_"  # noqa: S105 - makes a token that got lost recognisable as ours

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}")
_MAX_CHANGES = 1000
_HINT = "restore it from a backup; or delete it to set up anew: then there are no users"


_R = TypeVar("_R")


class Role(StrEnum):
    """What somebody may do; each may also do what those before it may."""

    VIEWER = "viewer"  #: read
    OPERATOR = "operator"  #: command stations and devices, and keep the list of id tags
    ADMIN = "admin"  #: change users, devices and the configuration

    def may(self, needed: "Role") -> bool:
        """Whether this role is enough."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class UserError(AgentError):
    """A change of users that can't be; ``reason`` says why."""


class MalformedNameError(UserError):
    """A name or label of a form that none may have: asked for again it is refused again."""


class ApiToken(BaseModel):
    """A token of a machine, without the token."""

    model_config = ConfigDict(extra="forbid")

    label: str
    digest: str
    created_us: int


class User(BaseModel):
    """A user. ``stamp`` changes with the password: what was given out before it is worth nothing then."""

    model_config = ConfigDict(extra="forbid")

    name: str
    role: Role
    password: str = Field(repr=False)  #: PHC string
    stamp: str
    tokens: list[ApiToken] = []


class Change(BaseModel):
    """What was changed beside the gateway, for its audit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    target: str
    t_us: int


class _Users(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = 1
    users: dict[str, User] = {}
    changes: list[Change] = []  #: that are not told yet, oldest first


class UserBook:
    """The users of a site. Reading costs microseconds; changes block on the disk. All raise ``StoreError``.

    ``now_us`` is for a program beside the gateway: its changes are noted with their time, for the gateway's audit.
    """

    def __init__(self, data_dir: Path, now_us: Callable[[], int] | None = None) -> None:
        self._now_us = now_us
        self._file = JsonFile(data_dir / FILE, _Users, _HINT)
        self._tokens: tuple[_Users, dict[str, str]] | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def set_up(self) -> bool:
        """Whether there is an admin: before that, nothing can be used."""
        return _admins(self._file.read()) > 0

    def all(self) -> Sequence[User]:
        """All users by name."""
        users = self._file.read().users
        return [users[name] for name in sorted(users)]

    def get(self, name: str) -> User | None:
        """One user; the case of its letters does not count."""
        return self._file.read().users.get(name.casefold())

    def of_token(self, token: str) -> User | None:
        """The user of an API token."""
        users = self._file.read()
        if self._tokens is None or self._tokens[0] is not users:
            found = {one.digest: user.name for user in users.users.values() for one in user.tokens}
            self._tokens = (users, found)
        name = self._tokens[1].get(digest(token))
        return None if name is None else users.users[name]

    def add(self, name: str, role: Role, password_hash: str, *, first: bool = False) -> User:
        """Add a user; as ``first`` only while there is no admin. Raises ``UserError``."""
        name = name.casefold()
        if not _NAME.fullmatch(name):
            hint = "letters, digits and . _ @ + - , at most 64, beginning with a letter or digit"
            raise MalformedNameError("add the user", "the name can't be used", hint)

        def edit(users: _Users) -> User:
            if first and _admins(users):
                raise UserError("set up", "that was done already", "log in")
            if name in users.users:
                raise UserError(f"add {name}", "there is a user of that name")
            if len(users.users) >= MAX_USERS:
                raise UserError(f"add {name}", f"there are {MAX_USERS} users already")
            users.users[name] = User(name=name, role=role, password=password_hash, stamp=_stamp())
            return users.users[name]

        return self._change(edit, f"add user as {role}", name)

    def set_password(self, name: str, password_hash: str) -> None:
        """Set a password. All log-ins and API tokens of the user end. Raises ``UserError``."""

        def edit(users: _Users) -> None:
            user = _known(users, name)
            user.password, user.stamp, user.tokens = password_hash, _stamp(), []

        self._change(edit, "set password", name)

    def renew_hash(self, name: str, old: str, new: str) -> None:
        """Another hash of the same password; nothing ends. Nothing happens when the password changed meanwhile."""

        def edit(users: _Users) -> None:
            user = users.users.get(name)
            if user is not None and user.password == old:
                user.password = new

        self._file.change(edit)

    def set_role(self, name: str, role: Role) -> None:
        """Give a user another role. Raises ``UserError``."""

        def edit(users: _Users) -> None:
            _known(users, name).role = role
            _keep_an_admin(users, f"make {name} {role}")

        self._change(edit, f"make user {role}", name)

    def remove(self, name: str) -> None:
        """Take a user out. Raises ``UserError``."""

        def edit(users: _Users) -> None:
            del users.users[_known(users, name).name]
            _keep_an_admin(users, f"remove {name}")

        self._change(edit, "remove user", name)

    def add_token(self, name: str, label: str, now_us: int) -> str:
        """A new API token of the user, which is told this once. Raises ``UserError``."""
        if not _LABEL.fullmatch(label):
            hint = "letters, digits, spaces and . _ @ + - , at most 64"
            raise MalformedNameError("make a token", "its label can't be used", hint)
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)

        def edit(users: _Users) -> None:
            user = _known(users, name)
            if any(one.label == label for one in user.tokens):
                raise UserError("make a token", f"{user.name} has one labelled {label!r}", "take it back first")
            if len(user.tokens) >= MAX_TOKENS:
                raise UserError("make a token", f"{user.name} has {MAX_TOKENS} already", "take one back first")
            user.tokens.append(ApiToken(label=label, digest=digest(token), created_us=now_us))

        self._change(edit, f"make token {label}", name)
        return token

    def remove_token(self, name: str, label: str) -> None:
        """Take an API token back. Raises ``UserError``."""

        def edit(users: _Users) -> None:
            user = _known(users, name)
            kept = [one for one in user.tokens if one.label != label]
            if len(kept) == len(user.tokens):
                raise UserError("take a token back", f"{user.name} has none labelled {label!r}")
            user.tokens = kept

        self._change(edit, f"take back token {label}", name)

    def changes(self) -> Sequence[Change]:
        """What was changed beside the gateway and is not told yet, oldest first."""
        return self._file.read().changes

    def told(self, changes: Sequence[Change]) -> None:
        """These changes stand in the audit."""

        def edit(users: _Users) -> None:
            users.changes = [one for one in users.changes if one not in changes]

        self._file.change(edit)

    def _change(self, edit: Callable[[_Users], _R], what: str, name: str) -> _R:
        def noted(users: _Users) -> _R:
            result = edit(users)
            if self._now_us is not None:
                change = Change(what=what, target=name.casefold(), t_us=self._now_us())
                users.changes = [*users.changes, change][-_MAX_CHANGES:]
            return result

        return self._file.change(noted)


def digest(token: str) -> str:
    """What is kept of a random token: SHA-256, in hex."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _stamp() -> str:
    return secrets.token_hex(8)


def _admins(users: _Users) -> int:
    return sum(user.role is Role.ADMIN for user in users.users.values())


def _known(users: _Users, name: str) -> User:
    user = users.users.get(name.casefold())
    if user is None:
        raise UserError("change the user", f"there is no user {name!r}")
    return user


def _keep_an_admin(users: _Users, op: str) -> None:
    if not _admins(users):
        raise UserError(op, "no admin would be left", "make another user an admin first")
