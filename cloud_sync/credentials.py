"""What a connection proves itself with, TLS files and a password, kept fresh while connections stand.

Rules of this file:

1. Files are looked at by time, size and inode, and read when these have changed and stay the same over two looks: who
   renews a certificate writes two files, one after the other.
2. New files that can't be used are refused in words, and the former ones stay in use, for new connections too.
3. New files that can be used must prove themselves at the broker: until a connection stood with them, the former ones
   are kept, and the two take turns. A certificate of the wrong authority does not lock a site out.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cloud_sync.settings import LinkSettings

_log = logging.getLogger(__name__)

_Seen: TypeAlias = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the files held when they were read."""

    context: ssl.SSLContext | None
    password: str | None


class Credentials:
    """The files of one link. Its methods read the disk: they are called in threads, one at a time."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._read: _Seen | None = None  #: how the files looked that were read last, whatever came of it
        self._looked: _Seen | None = None
        self._used: Proof | None = None
        self._other: Proof | None = None  #: the former ones while the new ones have not proved themselves
        self._new_in_use = True
        self._told = False

    def proof(self) -> Proof:
        """What the next connection uses. Raises ``OSError`` and ``ValueError`` when nothing was ever usable."""
        seen = self._look_at_files()
        if self._used is None:
            self._used, self._read = self._load(), seen
        elif seen != self._read:
            self._renew(seen)
        return self._used

    def look(self) -> bool:
        """Whether there is something new that a new connection should be made with."""
        seen = self._look_at_files()
        settled, self._looked = seen == self._looked, seen
        return seen != self._read and settled and self._renew(seen)

    def opened(self) -> None:
        """A connection stands with what is in use."""
        if self._other is None:
            return
        if self._new_in_use:
            _log.info("the renewed files of the uplink are in use")
            self._other = None
        elif not self._told:
            self._told = True
            _log.warning("no connection with the renewed files of the uplink: the former ones are in use")

    def failed(self) -> None:
        """No connection came to stand: with new files the former ones have their turn."""
        if self._other is not None and self._used is not None:
            self._used, self._other = self._other, self._used
            self._new_in_use = not self._new_in_use

    def _renew(self, seen: _Seen) -> bool:
        self._read = seen
        try:
            new = self._load()
        except (OSError, ValueError) as error:
            _log.warning("the renewed files of the uplink can't be used, the former ones stay: %s", text_of(error))
            return False
        # What never stood is no former one.
        former = self._other if self._other is not None and self._new_in_use else self._used
        self._used, self._other, self._new_in_use, self._told = new, former, True, False
        return True

    def _load(self) -> Proof:
        return Proof(self._settings.tls_context(), self._settings.password())

    def _look_at_files(self) -> _Seen:
        return tuple(_signature(path) for path in self._settings.files)


def text_of(error: OSError | ValueError) -> str:
    """An error of the operating system or of TLS in words fit for one line."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {_tls_text(error)}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


#: What OpenSSL calls it, and what it means here.
_TLS_WORDS = {
    "UNSUPPORTED_PROTOCOL": "the broker has nothing newer than TLS 1.1",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the broker has nothing newer than TLS 1.1",
    "WRONG_VERSION_NUMBER": "the broker does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "the broker does not speak TLS on this port",
    "UNEXPECTED_EOF_WHILE_READING": "the broker closed the connection in the middle of the handshake",
    "KEY_VALUES_MISMATCH": "cert_file and key_file do not belong together",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker wants a certificate: cert_file and key_file",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know who signed our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the broker says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the broker says that our certificate is revoked",
}


def _tls_text(error: ssl.SSLError) -> str:
    found = getattr(error, "verify_message", "")
    if found == "certificate is not yet valid":
        return f"{found}; is this gateway's clock right?"
    return found or tls_words(error.reason or "") or str(error)


def tls_words(reason: str) -> str:
    """OpenSSL's name of an error in words."""
    return _TLS_WORDS.get(reason, reason.lower().replace("_", " "))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
