"""Ed25519 (RFC 8032) keys and signatures, in PEM as ``openssl genpkey -algorithm ed25519`` makes them.

What is signed with them is a matter of who asks: each puts a text of its own before it, so that a signature that was
made for one thing is none for another.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

#: Who is trusted.
Keys: TypeAlias = Sequence[Ed25519PublicKey]
#: Who signs.
PrivateKey: TypeAlias = Ed25519PrivateKey


class BadKeyError(ValueError):
    """What is there is no key that can be used; its text says why."""


def public_key(pem: bytes) -> Ed25519PublicKey:
    """The public key of a PEM block. Raises ``BadKeyError``."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKeyError("a key in it is damaged") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKeyError("a key in it is no Ed25519 key")
    return key


def public_keys(raws: Sequence[bytes]) -> Keys:
    """Public keys of their 32 bytes (RFC 8032)."""
    return [Ed25519PublicKey.from_public_bytes(raw) for raw in raws]


def private_key(pem: bytes) -> Ed25519PrivateKey:
    """The private key of a PEM text. Raises ``BadKeyError``."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKeyError("it is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKeyError("it is no Ed25519 key")
    return key


def own_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file that its owner alone may read. Raises ``BadKeyError``, ``OSError``."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadKeyError(f"others may read or write it: chmod 600 {path}")
        return private_key(file.read())


def make_private_key(path: Path) -> Ed25519PrivateKey:
    """A new key in a new file, for its owner alone. Raises ``OSError``, also where there is a file already."""
    key = Ed25519PrivateKey.generate()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    return key


def signer(text: bytes, signature: bytes, keys: Keys) -> int | None:
    """Which of these keys signed that text; None: none did."""
    for index, key in enumerate(keys):
        try:
            key.verify(signature, text)
        except InvalidSignature:
            continue
        return index
    return None
