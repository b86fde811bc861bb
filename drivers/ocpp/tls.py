"""TLS of the chargers' port (OCPP 2.0.1 part 2, A00.FR.301 to 322 and 401 to 429; 1.6 security white paper, the same).

Rules of this file:

1. TLS 1.2 or later, no compression, the server's order of ciphers. With TLS 1.2 the key exchange is ephemeral; the
   suites without forward secrecy that A00.FR.317 also names are for ``legacy_tls`` only, which lowers the level too.
2. An ECDSA and an RSA certificate stand side by side, and OpenSSL takes the one that the charger can use.
3. Certificates are read when the port is opened. New files count from the next start of the wire on.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from drivers.ocpp.authority import SiteAuthority
from drivers.ocpp.settings import MAX_PROFILE, Endpoint

SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
LEGACY_SUITES = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA256", "AES128-SHA", "AES256-SHA", "@SECLEVEL=1")


def server_context(endpoint: Endpoint, data_dir: Path, clock: Clock) -> ssl.SSLContext:
    """What the port is opened with; makes certificates where none are configured, which takes a second.

    Blocking. Raises ``Unavailable`` when a file can't be read or used: it may be put right at any time.
    """
    authority = SiteAuthority(data_dir, clock)
    own = authority.certificate_pem()  # made before two chargers at once can need it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(":".join((*SUITES, *LEGACY_SUITES) if endpoint.legacy_tls else SUITES))
    _load(context, endpoint.certificates or authority.server_pairs(endpoint.host))
    if endpoint.profile >= MAX_PROFILE:
        _require_clients(context, endpoint, own)
    return context


def _load(context: ssl.SSLContext, pairs: Sequence[tuple[Path, Path]]) -> None:
    for certificate, key in pairs:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            hint = (
                "PEM files of a certificate with its chain, and of its key without a password, readable for the agent"
            )
            raise Unavailable(f"load {certificate} and {key}", _reason(error), hint) from error


def _require_clients(context: ssl.SSLContext, endpoint: Endpoint, own: str) -> None:
    """Profile 3: only with a certificate, of the configured authority or (CertificateSigned) of the site's own."""
    context.verify_mode = ssl.CERT_REQUIRED
    # A configured authority may stand below its root (A00.FR.404: the CPO's own).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if endpoint.client_ca_file is not None:
        try:
            context.load_verify_locations(endpoint.client_ca_file)
        except OSError as error:
            hint = "client_ca_file: a PEM file of who signs the chargers' certificates"
            raise Unavailable(f"load {endpoint.client_ca_file}", _reason(error), hint) from error
    context.load_verify_locations(cadata=own)


def _no_password() -> str:
    """Instead of asking at a terminal."""
    raise ValueError("the key has a password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "no certificate and key that fit together"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
