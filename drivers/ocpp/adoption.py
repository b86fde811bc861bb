"""Taking a charger in: from then on it can prove who it is.

Trust on first use: when a charger that waits has presented a password of 16 bytes or more, that is its password from
now on. Otherwise it is given one over its connection (allowed while it is pending: OCPP 1.6 edition 2, 4.2; 2.0.1 part
2, B02), or one is made for the installer to enter. So whoever waits under an identity when it is adopted is that
charger: who adopts looks at its address, maker and model, and at ``KnockInfo.contested``.
"""

from dataclasses import dataclass, field
from typing import Literal

from agent.core.errors import CommandRejected, DeviceError
from drivers.codec.ocpp_model import Version
from drivers.ocpp.credentials import Credentials, Sealed, new_password, seal, told
from drivers.ocpp.pending import Pending
from drivers.ocpp.settings import ChargerSettings

_PINNED = "it keeps the password that it presented"
_SET = "it was given a new password"
_OPEN = "this port asks for no proof: nothing is to be done at the charger"
_CERTIFICATE = "its certificate is its proof: nothing is to be done at the charger"
_FILE = "its password is the one in its password_file: nothing is to be done here"
_HAS = "it has a password already; when it is turned away with it, adopt it again"
_ENTER = "enter this password at the charger, with its id as the user name; it is not shown again"


@dataclass(frozen=True, slots=True)
class AdoptResult:
    """How a charger proves who it is from now on.

    ``pinned``: by the password that it presented; ``set``: by one that it was given; ``enter``: by ``password``, once
    the installer has entered it at the charger; ``nothing``: it needs no password of ours. ``password`` and its
    hexadecimal form, which some chargers want, are shown once and kept nowhere.
    """

    outcome: Literal["pinned", "set", "enter", "nothing"]
    text: str  #: the same for people
    password: str = field(default="", repr=False)
    password_hex: str = field(default="", repr=False)


async def adopt(
    credentials: Credentials,
    identity: str,
    profile: int,
    settings: ChargerSettings | None,
    pending: Pending | None,
    proof: Sealed | None,
    *,
    knocks: bool,
) -> AdoptResult:
    """Pin what it presented (``proof``), or give it a password. Raises ``StoreError``: nothing was done.

    ``knocks``: it waits or was turned away. One that does neither and has a password keeps that.
    """
    device = settings.device if settings is not None else ""
    known = _known(profile, settings)
    if not known and not knocks and credentials.knows(identity):
        known = _HAS
    if known:
        return AdoptResult("nothing", known)
    if proof is not None:
        await credentials.put(identity, proof, "password pinned", device)
        return AdoptResult("pinned", _PINNED)
    link = pending.link if pending is not None else None
    why = ""
    if link is not None:
        password = new_password(link.version)
        try:
            await credentials.tell(link, identity, password, device)
        except CommandRejected as error:
            why = f"it does not take a password over its connection ({error.reason}): "
        except DeviceError as error:
            return _to_enter(password, f"nobody knows whether it took its new password ({error.reason}); if not, ")
        else:
            return AdoptResult("set", _SET)
    password = new_password(Version.V16)  # 20 characters are enough for every version
    # Beside what it may have: an adoption that nobody needed locks nobody out.
    await credentials.add(identity, seal(password.encode()), "password made", device)
    return _to_enter(password, why)


def _known(profile: int, settings: ChargerSettings | None) -> str:
    """Why a charger needs no password of ours; empty when it does."""
    if profile == 0 or (settings is not None and settings.security_profile == 0):
        return _OPEN
    if profile == 3:  # noqa: PLR2004 - the standard's number
        return _CERTIFICATE
    return _FILE if settings is not None and settings.password_file is not None else ""


def _to_enter(password: str, why: str = "") -> AdoptResult:
    return AdoptResult("enter", why + _ENTER, password, told(password, Version.V16))
