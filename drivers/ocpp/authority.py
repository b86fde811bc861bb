"""The site's own certificate authority: for the port's certificates where none are configured, and for chargers.

Rules of this file:

1. Keys never leave ``data_dir/ocpp-tls``: files of mode 0600, written whole or not at all.
2. What is there is used as long as it is good: a server pair is made anew 30 days before its end, or when the machine
   has got a name or address that it does not bear. The authority stays, for chargers were told to trust it.
3. A charger's certificate bears the id under which it called, whatever its request says (A00.FR.404 and 405: O and
   CN), and is for clients only. Only the key is the charger's: at least RSA 2048 or EC 224 (A00.FR.502 and 503).
4. The clock may not have been set: certificates begin no later than this file was written.
"""

import contextlib
import datetime as dt
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.core.clock import Clock
from agent.core.disk import replace_file
from agent.core.errors import BadData, Unavailable

FOLDER = "ocpp-tls"
ORGANISATION = "Enlace"
AUTHORITY_DAYS = 20 * 365
LEAF_DAYS = 397
RENEW_DAYS = 30
MIN_RSA_BITS, MIN_EC_BITS = 2048, 224
MAX_CSR = 16 * 1024
MAX_COMMON_NAME = 64

#: Before any clock of ours that is right.
_EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_Key = Callable[[], _PrivateKey]


def _new_ec() -> _PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _new_rsa() -> _PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS)


class SiteAuthority:
    """The authority of one site; made when it is first needed. All methods block, and raise ``Unavailable``."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._folder = data_dir / FOLDER
        self._clock = clock

    def server_pairs(self, host: str = "") -> Sequence[tuple[Path, Path]]:
        """Certificate chain and key of the port, ECDSA and RSA; ``host`` is what it listens on."""
        names = _names(host)
        kinds: tuple[tuple[str, _Key], ...] = (("ec", _new_ec), ("rsa", _new_rsa))
        return tuple(self._pair(f"server-{kind}", new, names) for kind, new in kinds)

    def certificate_pem(self) -> str:
        """The authority's certificate, for chargers to trust."""
        return _pem(self._authority()[0])

    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, in hex digits."""
        return self._authority()[0].fingerprint(hashes.SHA256()).hex()

    def sign(self, csr_pem: str, identity: str) -> str:
        """A charger's certificate and the authority's, as PEM.

        Raises ``BadData`` for a request that is none, whose signature is wrong or whose key is too weak.
        """
        op = f"sign the certificate of {identity}"
        key = _requested(csr_pem, op)
        if not 0 < len(identity) <= MAX_COMMON_NAME:
            raise BadData(op, "its id does not fit into a certificate")
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
                x509.NameAttribute(NameOID.COMMON_NAME, identity),
            ]
        )
        authority, signer = self._authority()
        builder = self._builder(subject, key, LEAF_DAYS).issuer_name(authority.subject)
        builder = _leaf(builder, signer.public_key(), ExtendedKeyUsageOID.CLIENT_AUTH, encrypts=False)
        return _pem(builder.sign(signer, hashes.SHA256())) + _pem(authority)

    def _authority(self) -> tuple[x509.Certificate, _PrivateKey]:
        found = self._read("authority")
        if found is not None:
            return found
        key = _new_ec()
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Enlace site {os.urandom(4).hex()}"),
            ]
        )
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = (
            self._builder(name, key.public_key(), AUTHORITY_DAYS)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        certificate = builder.sign(key, hashes.SHA256())
        self._write("authority", key, _pem(certificate))
        return certificate, key

    def _pair(self, name: str, new: _Key, names: Sequence[x509.GeneralName]) -> tuple[Path, Path]:
        authority, signer = self._authority()
        found = self._read(name)
        if found is None or not self._still_good(found[0], authority, names):
            key = new()
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, socket.gethostname()[:MAX_COMMON_NAME])])
            builder = self._builder(subject, key.public_key(), LEAF_DAYS).issuer_name(authority.subject)
            plain = isinstance(key, rsa.RSAPrivateKey)
            builder = _leaf(builder, signer.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, encrypts=plain)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            self._write(name, key, _pem(builder.sign(signer, hashes.SHA256())) + _pem(authority))
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def _still_good(
        self, certificate: x509.Certificate, authority: x509.Certificate, names: Sequence[x509.GeneralName]
    ) -> bool:
        left = certificate.not_valid_after_utc - self._now()
        born = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ours = certificate.issuer == authority.subject
        return ours and left > dt.timedelta(days=RENEW_DAYS) and set(names) <= set(born)

    def _builder(self, subject: x509.Name, key: _PublicKey, days: int) -> x509.CertificateBuilder:
        # From yesterday on: chargers' clocks are slow, and some have none before we tell them the time.
        start = self._now() - dt.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=days))
        )

    def _now(self) -> dt.datetime:
        now = dt.datetime.fromtimestamp(self._clock.now_us() // 1_000_000, dt.UTC)
        return max(now, _EPOCH)

    def _read(self, name: str) -> tuple[x509.Certificate, _PrivateKey] | None:
        """Certificate and key of that name; None when they were never made, or not to the end."""
        op = f"read {self._folder / name}"
        try:
            certificate = x509.load_pem_x509_certificate((self._folder / f"{name}.pem").read_bytes())
            key = serialization.load_pem_private_key((self._folder / f"{name}.key").read_bytes(), None)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise Unavailable(op, str(error), "put the files back, or delete them: new ones will be made") from error
        if not isinstance(key, _PrivateKey) or key.public_key() != certificate.public_key():
            return None
        return certificate, key

    def _write(self, name: str, key: _PrivateKey, chain: str) -> None:
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._folder / f"{name}.key", secret)
            replace_file(self._folder / f"{name}.pem", chain.encode())
        except OSError as error:
            hint = "is data_dir writable, and is there space?"
            raise Unavailable(f"write {self._folder / name}", error.strerror or str(error), hint) from error


def _requested(csr_pem: str, op: str) -> _PublicKey:
    """The key that a request is about."""
    if len(csr_pem) > MAX_CSR:
        raise BadData(op, "the request is too long")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        signed = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadData(op, "no certificate signing request in PEM") from error
    if not signed:
        raise BadData(op, "the request's signature is wrong")
    least = MIN_RSA_BITS if isinstance(key, rsa.RSAPublicKey) else MIN_EC_BITS
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or key.key_size < least:
        raise BadData(op, "the key is too weak", "RSA 2048 or EC 224 at least")
    return key


def _leaf(
    builder: x509.CertificateBuilder, issuer: _PublicKey, purpose: x509.ObjectIdentifier, *, encrypts: bool
) -> x509.CertificateBuilder:
    """``encrypts``: the key may also take the premaster secret, for chargers without ephemeral key exchange."""
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, key_encipherment=encrypts), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _names(host: str) -> list[x509.GeneralName]:
    """Under which the machine may be called: its name, with ``.local`` too, and its addresses."""
    own = socket.gethostname()
    texts = ["localhost", own, "127.0.0.1", "::1", *_addresses(own), host]
    if "." not in own:
        texts.append(f"{own}.local")
    names: list[x509.GeneralName] = []
    for text in dict.fromkeys(one for one in texts if one not in {"", "0.0.0.0", "::"}):  # noqa: S104 - left out
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text.partition("%")[0])))
        except ValueError:
            if text.isascii():
                names.append(x509.DNSName(text))
    return list(dict.fromkeys(names))


def _addresses(own: str) -> list[str]:
    """Those that the name resolves to, and those from which this machine would speak to others; nothing is sent."""
    found: list[str] = []
    with contextlib.suppress(OSError):  # a name that nobody knows
        found += [str(one[4][0]) for one in socket.getaddrinfo(own, None)]
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(probe.getsockname()[0])
        except OSError:
            continue  # no way out
    return found


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
