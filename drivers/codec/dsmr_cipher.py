"""General-glo-ciphering APDUs around P1 telegrams: Luxembourg, Austria, Sagemcom T210 (DLMS green book, 9.2.7.2).

``DB``, length and octets of the system title (8), length of what follows (BER), security control, invocation counter
(4), ciphertext, and the first 12 octets of the tag where the control says that it is authenticated. AES-GCM with the
title and the counter as nonce; the control and the authentication key are authenticated with it, but not sent.
"""

from agent.core.errors import ConfigError

#: The beginning up to the security control: encrypted, with or without a tag, AES-128 (security suites 0 and 1). A
#: title begins with the three letters of the manufacturer; at least control, counter and tag follow.
CIPHER_START = (
    rb"\xdb\x08[A-Za-z]{3}.{5}"
    rb"(?:\x82(?:\x00[\x11-\xff]|[\x01-\xff].)|\x81[\x11-\xff]|[\x11-\x7f])[\x20\x21\x30\x31]"
)
CIPHER_START_MAX = 14
#: The same, not complete: what may become one.
CIPHER_OPEN = rb"\xdb(?:\x08.{0,11})?\Z"

_TITLE = slice(2, 10)
_KEY = 16
_TAG = 12
_AUTHENTICATED = 0x10
_FIRST_BLOCK = b"\x00\x00\x00\x02"  #: GCM encrypts from the second counter on (NIST SP 800-38D, 7.1)


def _body(apdu: bytes) -> int:
    """Where the security control stands."""
    return 11 + max(0, apdu[10] - 0x80)


def apdu_length(apdu: bytes) -> int:
    """The length of the whole APDU, of which at least the beginning is there."""
    body = _body(apdu)
    length = apdu[10] if apdu[10] < 0x80 else int.from_bytes(apdu[11:body], "big")  # noqa: PLR2004 - BER, long form
    return body + length


class Cipher:
    """Opens APDUs with ``key``; with ``auth_key`` only such as have a tag, and the right one.

    Raises ``ConfigError`` for keys that aren't 16 bytes long.
    """

    def __init__(self, key: bytes, auth_key: bytes | None = None) -> None:
        for name, one in (("key", key), ("authentication key", auth_key)):
            if one is not None and len(one) != _KEY:
                hint = "the grid operator gives it as 32 hexadecimal digits"
                raise ConfigError("decrypt P1", f"the {name} has {len(one)} bytes instead of {_KEY}", hint)
        from cryptography.hazmat.primitives.ciphers.algorithms import AES  # noqa: PLC0415 - most ports are in the clear

        self._aes = AES(key)
        self._auth_key = auth_key

    def open(self, apdu: bytes) -> bytes | None:
        """The plaintext of a whole APDU; None when its tag is wrong. Without ``auth_key`` it may be any bytes."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives import ciphers  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM  # noqa: PLC0415

        body = _body(apdu)
        control, nonce, text = apdu[body : body + 1], apdu[_TITLE] + apdu[body + 1 : body + 5], apdu[body + 5 :]
        tag = b""
        if control[0] & _AUTHENTICATED:
            text, tag = text[:-_TAG], text[-_TAG:]
        if self._auth_key is None:
            stream = ciphers.Cipher(self._aes, CTR(nonce + _FIRST_BLOCK)).decryptor()
            return stream.update(text) + stream.finalize()
        if not tag:
            return None
        opened = ciphers.Cipher(self._aes, GCM(nonce, tag, min_tag_length=_TAG)).decryptor()
        opened.authenticate_additional_data(control + self._auth_key)
        try:
            return opened.update(text) + opened.finalize()
        except InvalidTag:
            return None
