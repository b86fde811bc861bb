"""What a handshake says, read from its request: who, with which proof, and which versions it speaks. Pure.

OCPP-J 1.6, 3 and 5; 2.0.1 part 4, 3; Basic authentication: 2.0.1 part 2, A00.FR.203 to 206.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

from drivers.codec.ocpp_model import Version

PREFIX = "ocpp"
#: The same as ``charge_point_id`` in the configuration, without control characters.
_IDENTITY = re.compile(r"[^\s/?#%\x00-\x1f\x7f]{1,48}")
_BASIC = re.compile(r"basic\s+([A-Za-z0-9+/_-]+=*)\s*", re.IGNORECASE)
#: Letters and digits of what chargers write (`OCPP1.6`, `ocpp1.6J`, `"ocpp1.6"`), and what they mean.
_SPELLINGS = {
    "ocpp16": Version.V16,
    "ocpp16j": Version.V16,
    "ocpp201": Version.V201,
    "ocpp201j": Version.V201,
    "ocpp21": Version.V21,
    "ocpp21j": Version.V21,
}
_PREFERRED = (Version.V201, Version.V16, Version.V21)
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")


def identity(path: str) -> str | None:
    """The charger's id in ``/ocpp/{id}``; None for other paths. Further slashes and a query do no harm."""
    parts = [part for part in path.partition("?")[0].split("/") if part]
    if len(parts) != 2 or parts[0] != PREFIX:  # noqa: PLR2004 - prefix and id
        return None
    try:
        name = unquote(parts[1], errors="strict")
    except UnicodeError:
        return None
    return name if _IDENTITY.fullmatch(name) and name.isprintable() else None


def basic(header: str | None, name: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header; None without one. Raises ``ValueError`` when it can't be read.

    The user is ``name`` where it begins so, for an id may hold a colon though no user may (RFC 7617, 2).
    """
    if header is None:
        return None
    match = _BASIC.fullmatch(header.strip())
    if match is None:
        raise ValueError("no Basic authentication")
    text = match[1].rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("no Basic authentication") from error
    if raw.startswith(f"{name}:".encode()):
        return name, raw[len(name.encode()) + 1 :]
    user, colon, password = raw.partition(b":")
    if not colon:
        raise ValueError("no colon between user and password")
    return user.decode("utf-8", "replace"), password


def offered(headers: Iterable[str]) -> tuple[str, ...]:
    """The subprotocols of all Sec-WebSocket-Protocol headers, as they are spelled."""
    return tuple(name for header in headers for one in header.split(",") if (name := one.strip(" \t\"'")))


def choose(
    names: Sequence[str], pinned: Version | None, without: Version | None
) -> tuple[Version | None, str | None, str]:
    """The version to speak, the subprotocol to answer with (as the charger spells it), or in words why there is none.

    2.0.1 goes before 1.6, and both before 2.1. ``without`` is spoken with a charger that offers nothing.
    """
    known: dict[Version, str] = {}
    for name in names:
        version = _SPELLINGS.get(re.sub(r"[^a-z0-9]", "", name.lower()))
        if version is not None:
            known.setdefault(version, name)
    if not names:
        version = pinned or without
        wanted = pinned or "ocpp1.6 or ocpp2.0.1"
        return version, None, "" if version else f"Sec-WebSocket-Protocol is missing: offer {wanted}"
    for version in (pinned,) if pinned else _PREFERRED:
        if version in known:
            name = known[version]
            return version, name if _TOKEN.fullmatch(name) else None, ""
    return (
        None,
        None,
        f"Sec-WebSocket-Protocol: none of what is offered is spoken here: offer {pinned or 'ocpp1.6 or ocpp2.0.1'}",
    )


def shown(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Request headers without secrets, for who decides and who looks on."""
    return {name.lower(): value[:200] for name, value in headers if name.lower() not in {"authorization", "cookie"}}
