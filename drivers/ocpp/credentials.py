"""The chargers' passwords: kept as salted hashes, compared, and changed without ever locking a charger out.

Rules of this file:

1. A password is a row of bytes. In OCPP 1.6 it travels to the charger as hexadecimal digits (ChangeConfiguration of
   ``AuthorizationKey``: 32 to 40 digits for 16 to 20 bytes; improved security for OCPP 1.6-J, edition 2, A01 and 2.5)
   and comes back in HTTP Basic as the bytes (test case TC_085_CS); chargers exist that send the digits back instead.
   Both are the same secret, so both are taken: ``canonical`` makes bytes of the digits.
2. Ours are printable all the same: 20 letters, digits and signs (120 random bits), or 24 of them in 2.x. Firmware that
   treats the bytes as text, or decides by what they decode to whether they are hexadecimal at all, can't spoil them.
3. What is stored is HMAC-SHA-256 under a random salt. That is no slow hash: it must not be one where anybody may knock,
   and secrets of 16 random bytes are not guessed. Shorter ones of a ``password_file`` are never stored.
4. A change is durable here before the charger hears of it. Until it has come in with a new password all that it may
   have are valid (2.0.1 part 2, A01; stations exist that take the change and never reconnect); then the older ones go.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import BadData, CommandRejected, Refusal, StoreError
from agent.core.model import Event
from agent.core.ports import Notebook
from drivers.codec.ocpp_model import Version
from drivers.ocpp.ports import Link, Payload
from drivers.ocpp.settings import ChargerSettings

KIND = "ocpp.credential"
#: The shortest password that OCPP allows (1.6 security A00.FR.205; 2.0.1 part 2, A00.FR.205).
MIN_BYTES = 16
_SALT_BYTES = 16
#: Of one charger: what it surely had, and what it was told since and may have taken.
_MAX_PASSWORDS = 4
_CHARACTERS = string.ascii_letters + string.digits + "-_"
_LENGTH_16, _LENGTH_2 = 20, 24
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){16,20}")
#: Somebody waits for it.
_ANSWER_S = 15.0
_TAKEN = ("Accepted", "RebootRequired")
#: A password's salt and hash, in hex.
Sealed = Mapping[str, str]


def new_password(version: Version) -> str:
    """A random password, as the charger is to present it; ``told`` is how it is told."""
    length = _LENGTH_2 if version.two else _LENGTH_16
    return "".join(secrets.choice(_CHARACTERS) for _ in range(length))


def told(password: str, version: Version) -> str:
    """A password as this version sends it to the charger."""
    return password if version.two else password.encode().hex()


def canonical(password: bytes) -> bytes:
    """The secret in what a charger presented: the bytes, also when it sent their hexadecimal digits (rule 1)."""
    return bytes.fromhex(password.decode()) if _HEX.fullmatch(password) else password


def is_strong(password: bytes) -> bool:
    """Whether it has the length that OCPP wants of it."""
    return len(canonical(password)) >= MIN_BYTES


def seal(password: bytes) -> Sealed:
    """What can be kept of a password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return {"salt": salt.hex(), "hash": _digest(salt, password).hex()}


def opens(sealed: Sealed, password: bytes) -> bool:
    """Whether it was made of this password."""
    try:
        salt, digest = bytes.fromhex(sealed["salt"]), bytes.fromhex(sealed["hash"])
    except (KeyError, TypeError, ValueError):
        return False
    return hmac.compare_digest(digest, _digest(salt, password))


def finding(path: Path) -> str:
    """What is wrong with a ``password_file``, for ``enlace check``; empty when nothing is."""
    password = _read(path)
    if password is None:
        return f"password_file {path} can't be read: write the charger's password into it, and nothing else"
    if not is_strong(password):
        return f"the password in {path} is shorter than {MIN_BYTES} bytes: set a longer one here and at the charger"
    return ""


class Credentials:
    """The passwords of all chargers; those of the notes and those of files."""

    def __init__(self, notebook: Notebook, clock: Clock) -> None:
        self._notebook = notebook
        self._clock = clock
        self._changing = asyncio.Lock()

    def knows(self, identity: str, settings: ChargerSettings | None = None) -> bool:
        """Whether there is something to hold a password of this charger against."""
        return (settings is not None and settings.password_file is not None) or bool(self._sealed(identity))

    async def check(self, settings: ChargerSettings, password: bytes) -> bool:
        """Whether it is this charger's. The first time that a new one is presented, those before it are dropped.

        A ``password_file`` is the only truth where there is one, as it stands at this moment.
        """
        if settings.password_file is not None:
            content = await asyncio.to_thread(_read, settings.password_file)
            return content is not None and hmac.compare_digest(canonical(content), canonical(password))
        return await self._check_notes(settings.identity, settings.device, password)

    async def _check_notes(self, identity: str, device: str, password: bytes) -> bool:
        passwords = self._sealed(identity)
        place = next((place for place, sealed in enumerate(passwords) if opens(sealed, password)), None)
        if place:
            with suppress(StoreError):  # then all stay valid, until it comes in the next time
                await self._drop_before(identity, passwords[place], device)
        return place is not None

    async def put(self, identity: str, sealed: Sealed, what: str, subject: str = "") -> None:
        """This is its password from now on, and no other. Raises ``StoreError``."""
        async with self._changing:
            await self._write(identity, [sealed], self._event(what, identity, subject))

    async def add(self, identity: str, sealed: Sealed, what: str, subject: str = "") -> None:
        """This is valid too, until it has come in with it: then it is its only one. Raises ``StoreError``."""
        async with self._changing:
            known = self._sealed(identity)
            # What it surely had stays; of what it may have, the oldest goes when there are too many.
            kept = [*known[:1], *known[1:][-(_MAX_PASSWORDS - 2) :], sealed]
            await self._write(identity, kept, self._event(what, identity, subject))

    async def forget(self, identity: str, subject: str = "") -> None:
        """It has no password any more: it must be adopted anew. Raises ``StoreError``."""
        async with self._changing:
            await self._write(identity, [], self._event("password forgotten", identity, subject))

    async def rotate(self, link: Link, settings: ChargerSettings) -> None:
        """Give an adopted charger a new password over its connection.

        Raises ``StoreError`` (nothing was done), ``CommandRejected`` (the charger keeps the old one, or its password
        stands in a file), ``NoAnswer``, ``Unavailable`` or ``BadData`` (it has the old one or the new one: both open).
        """
        if settings.password_file is not None:
            where = f"its password stands in {settings.password_file}"
            raise CommandRejected(f"change the password of {settings.device}", Refusal.NOT_CAPABLE, where)
        await self.tell(link, settings.identity, new_password(link.version), settings.device)

    async def tell(self, link: Link, identity: str, password: str, subject: str = "") -> None:
        """Tell a charger its new password; it is valid here before, beside those that it had. Raises as ``rotate``."""
        sealed = seal(password.encode())
        await self.add(identity, sealed, "new password told", subject)
        try:
            await _ask(link, password)
        except CommandRejected:
            async with self._changing:
                rest = [one for one in self._sealed(identity) if one != sealed]
                with suppress(StoreError):  # a password that nobody has may stay valid
                    await self._write(identity, rest, self._event("new password refused", identity, subject))
            raise

    async def _drop_before(self, identity: str, sealed: Sealed, device: str) -> None:
        async with self._changing:
            passwords = self._sealed(identity)
            if sealed in passwords[1:]:
                rest = passwords[passwords.index(sealed) :]
                await self._write(identity, rest, self._event("new password in use", identity, device))

    def _sealed(self, identity: str) -> list[Sealed]:
        passwords = (self._notebook.note(KIND, identity) or {}).get("passwords")
        return [one for one in passwords if isinstance(one, Mapping)] if isinstance(passwords, Sequence) else []

    async def _write(self, identity: str, passwords: Sequence[Sealed], event: Event) -> None:
        data = {"passwords": [dict(one) for one in passwords]} if passwords else None
        await self._notebook.write(KIND, identity, data, [event])

    def _event(self, what: str, identity: str, subject: str) -> Event:
        data = {"what": what, "identity": identity}
        return Event("charger.security", self._clock.now_us(), subject or identity, data)


async def _ask(link: Link, password: str) -> None:
    """Set it at the charger. Raises ``CommandRejected`` when it does not take it, and all that ``Link.call`` does."""
    value = told(password, link.version)
    if link.version.two:
        # 2.0.1 part 2, A01 and referenced variable SecurityCtrlr.BasicAuthPassword.
        variable = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
        data = {"setVariableData": [{**variable, "attributeValue": value}]}
        answer = await link.call("SetVariables", data, _ANSWER_S)
        status = _status_2(answer)
    else:
        answer = await link.call("ChangeConfiguration", {"key": "AuthorizationKey", "value": value}, _ANSWER_S)
        status = answer.get("status")
    if status not in _TAKEN:
        op = f"set the password of {link.identity}"
        raise CommandRejected(op, Refusal.DEVICE_REFUSED, f"it answers {status}", "enter it at the charger")


def _status_2(answer: Payload) -> object:
    results = answer.get("setVariableResult")
    first = results[0] if isinstance(results, list | tuple) and results else None
    if not isinstance(first, Mapping):
        raise BadData("set the password", "the answer to SetVariables has no result")
    return first.get("attributeStatus")


def _digest(salt: bytes, password: bytes) -> bytes:
    return hmac.digest(salt, canonical(password), hashlib.sha256)


def _read(path: Path) -> bytes | None:
    """The password in a file: all but line ends at its end. None when it can't be read or is empty."""
    try:
        return path.read_bytes().rstrip(b"\r\n") or None
    except OSError:
        return None
