"""Signed commands: who may give them, and which bytes of a message are signed. Pure; no cryptography is done here.

Rules of this file:

1. A signed command has two members more: ``site``, the id of the site that it is for, and ``signature``, the base64
   (RFC 4648, with padding) of an Ed25519 signature (RFC 8032) of ``CONTEXT`` followed by the canonical JSON (RFC 8785)
   of the message without ``signature``. So all is signed that the message says: id, site, time, time to live, target,
   action, arguments, issuer.
2. What is carried out is read from those bytes alone. What the message has beside them (blanks, order, the way a number
   is written) says nothing, and MQTT's properties are the broker's word.
3. A public key is the base64 of its DER form (RFC 8410): the one line between BEGIN and END of what
   ``openssl pkey -pubout`` prints.
"""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.errors import ConfigError
from cloud_sync.jcs import canonical, members_once

#: A signature that was made for anything else is none for a command.
CONTEXT = b"enlace command 1\n"
SIGNATURE = "signature"
SIGNATURE_BYTES = 64
#: For each command each key is tried.
MAX_COMMANDERS = 8

#: RFC 8410, 4: SubjectPublicKeyInfo of id-Ed25519, to be followed by the 32 bytes of the key.
_DER_HEAD = bytes.fromhex("302a300506032b6570032100")
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Signed:
    """What is signed of a message, and by what. ``flaw``: why there is nothing to be checked; empty: there is."""

    text: bytes = b""
    signature: bytes = b""
    flaw: str = ""


#: Nothing is signed.
UNSIGNED = Signed(flaw="it has no signature, and none but signed ones are taken here")


@dataclass(frozen=True, slots=True)
class Commander:
    """One who may command: how the audit calls him, and his public key. Raises ``ConfigError`` for what is none.

    Two may have one name: the key that is going and the one that comes.
    """

    name: str
    public_key: str
    raw: bytes = field(init=False)  #: the 32 bytes of RFC 8032

    def __post_init__(self) -> None:
        der = unbase64(self.public_key)
        if der is None or len(der) != len(_DER_HEAD) + _KEY_BYTES or not der.startswith(_DER_HEAD):
            hint = "take the line between BEGIN and END of what `enlace keys FILE` prints; it begins with MCowBQYDK2Vw"
            raise ConfigError(f"commander {self.name!r}", "its public_key is no Ed25519 key", hint)
        object.__setattr__(self, "raw", der[len(_DER_HEAD) :])


def line_of(raw: bytes) -> str:
    """A public key, 32 bytes, as it stands in a configuration."""
    return base64.b64encode(_DER_HEAD + raw).decode()


def text_of(document: dict[str, object]) -> bytes:
    """What is to be signed of a message. Raises ``ValueError`` where it has no canonical form."""
    return CONTEXT + canonical({name: value for name, value in document.items() if name != SIGNATURE})


def signed(document: dict[str, object], sign: Callable[[bytes], bytes]) -> bytes:
    """The message of a command, signed by ``sign``. Raises ``ValueError`` where it has no canonical form."""
    signature = base64.b64encode(sign(text_of(document))).decode()
    return canonical({**document, SIGNATURE: signature})


def taken_apart(payload: bytes) -> tuple[bytes, Signed]:
    """A message that has a signature -> its canonical JSON without that, and what is to be checked.

    The payload is a JSON object of some kB at most. Whatever it is, nothing is raised: ``flaw`` says what is wrong.
    """
    try:
        document = json.loads(payload, object_pairs_hook=members_once)
        signature = unbase64(document.pop(SIGNATURE))
        text = canonical(document)
    except (ValueError, RecursionError) as error:
        return payload, Signed(flaw=f"it has no canonical form: {error}")
    if signature is None or len(signature) != SIGNATURE_BYTES:
        return text, Signed(flaw=f"its signature is not the base64 of {SIGNATURE_BYTES} bytes")
    return text, Signed(CONTEXT + text, signature)


def unbase64(text: object) -> bytes | None:
    """The bytes of a base64 text; None for all that is no text, or not the one form of its bytes."""
    if not isinstance(text, str):
        return None
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if base64.b64encode(found).decode() == text else None
