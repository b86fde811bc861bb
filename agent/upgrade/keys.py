"""Ed25519 (RFC 8032) keys of packages, in PEM as ``openssl genpkey -algorithm ed25519`` makes them.

No key is built in: who may give a site its program is what the site's owner put into the file of trusted keys.
"""

import os
import re
import stat
from pathlib import Path

from agent.core.errors import UpgradeError
from agent.keys import BadKeyError, Keys, private_key, public_key, signer

__all__ = ["SIGNATURE_BYTES", "Keys", "is_signed", "sign", "trusted"]

SIGNATURE_BYTES = 64
#: A signature that was made for anything else is none for a package.
_CONTEXT = b"enlace upgrade 1\n"
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_MAX_BYTES = 1 << 20


def trusted(path: Path) -> Keys:
    """The public keys in a file, one or more. Raises ``UpgradeError``: also where others might have put theirs in."""
    op = f"read {path}"
    try:
        with path.open("rb") as file:
            _check_owner(op, os.fstat(file.fileno()))
            text = file.read(_MAX_BYTES)
    except OSError as error:
        hint = "put the public key of who makes your packages there, or name its file with --keys"
        raise UpgradeError(op, error.strerror or str(error), hint) from error
    try:
        found = [public_key(one) for one in _PUBLIC.findall(text)]
    except BadKeyError as error:
        raise UpgradeError(op, str(error)) from error
    if not found:
        raise UpgradeError(op, "there is no PUBLIC KEY in it", "it is made with: openssl pkey -in KEY.pem -pubout")
    return found


def is_signed(text: bytes, signature: bytes, keys: Keys) -> bool:
    """Whether one of these keys signed that text."""
    return signer(_CONTEXT + text, signature, keys) is not None


def sign(text: bytes, path: Path) -> bytes:
    """The signature of a text by the private key in a file. Raises ``UpgradeError``."""
    op = f"sign with {path}"
    try:
        key = private_key(path.read_bytes())
    except OSError as error:
        raise UpgradeError(op, error.strerror or str(error)) from error
    except BadKeyError as error:
        raise UpgradeError(op, str(error), "openssl genpkey -algorithm ed25519 -out KEY.pem makes one") from error
    return key.sign(_CONTEXT + text)


def _check_owner(op: str, status: os.stat_result) -> None:
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        hint = "who may write it decides what program runs here: chown root and chmod 644"
        raise UpgradeError(op, "others than root may write it", hint)
