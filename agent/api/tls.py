"""TLS of the local API: the site's own certificate, or one that this gateway makes for itself.

Rules of this file:

1. Each gateway makes its own keys (EC P-256), at its first start; no two share one. They stand in ``data_dir/api-tls``,
   folder 0700 and files 0600, each key in one file with its certificate, so that a power cut leaves a pair that fits.
2. The authority is made once and stays, for people trust it; it is fetched at ``/api/system/authority.pem``. It signs
   nothing but this gateway's server certificate. Its dates do not depend on the clock, which may not be set yet.
3. The server certificate lives 397 days and is made anew 35 days before its end, when the clock turns out to have been
   wrong, and when the machine has got a name or address that it does not bear. Open connections are not concerned.
4. The site's own pair is read again when its files change. One that can't be used is refused; the old one stays.
5. TLS 1.2 or later, forward secrecy only, no compression, no renegotiation.
"""

import datetime as dt
import fcntl
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.core.clock import Clock
from agent.core.disk import replace_file
from agent.core.errors import Unavailable

FOLDER = "api-tls"
LEAF_DAYS = 397  # more is refused by browsers (CA/Browser Forum baseline requirements, 6.3.2)
RENEW_DAYS = 35  # before the ready-made alarm, at 30

#: The authority's dates, and the earliest of any: before any clock of ours that is right.
_EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_AUTHORITY_END = dt.datetime(2056, 1, 1, tzinfo=dt.UTC)
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MAX_COMMON_NAME = 64
_SIOCGIFADDR = 0x8915  # netdevice(7)
_NET = Path("/sys/class/net")
_IF_INET6 = Path("/proc/net/if_inet6")
_TEMPORARY = 0x01  # IFA_F_TEMPORARY: another one tomorrow
_GLOBAL = {0x00, 0x40}  # scopes of addresses that others can reach: global, site

_Made = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


class Certificates:
    """What the port shows, kept fresh by ``look``. ``own``: certificate chain and key of the site, PEM files.

    ``names`` gives under what the machine may be called. All of it blocks: called in a thread, one call at a time.
    """

    def __init__(
        self,
        data_dir: Path,
        clock: Clock,
        own: tuple[Path, Path] | None = None,
        names: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        self.own = own
        self.context: ssl.SSLContext | None = None  #: what new connections get; None until the first ``look``
        self._folder = data_dir / FOLDER
        self._clock = clock
        self._names = names or machine_names
        self._seen: object = None  #: what the context was made of
        self._authority_pem = ""

    @property
    def authority_pem(self) -> str:
        """Who signed, for people to trust; empty for the site's own certificate."""
        return self._authority_pem

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate as browsers show it, ``AB:CD:…``; empty for the site's own one."""
        if not self._authority_pem:
            return ""
        digest = x509.load_pem_x509_certificate(self._authority_pem.encode()).fingerprint(hashes.SHA256())
        return digest.hex(":").upper()

    def look(self) -> bool:
        """Make, renew or read again what has to be; whether there is another context now. Raises ``Unavailable``."""
        return self._look_own(*self.own) if self.own else self._look_ours()

    def _look_own(self, certificate: Path, key: Path) -> bool:
        op = f"load {certificate} and {key}"
        try:
            seen = [(one.st_mtime_ns, one.st_size, one.st_ino) for one in (certificate.stat(), key.stat())]
            if seen == self._seen:
                return False
            context = _context(certificate, key)
        except (OSError, ValueError) as error:
            hint = "PEM files: the certificate with its chain, and its key without a password, readable for the agent"
            raise Unavailable(op, _reason(error), hint) from error
        self.context, self._seen = context, seen
        return True

    def _look_ours(self) -> bool:
        authority = self._authority()
        path = self._folder / "server.pem"
        found = _read(path, op=None)
        if found is None or not self._good(found[1], authority[1]):
            found = self._new_leaf(authority)
            self._write(path, found[0], found[1], authority[1])
        serial = found[1].serial_number
        if serial == self._seen:
            return False
        try:
            context = _context(path, None)
        except OSError as error:
            raise Unavailable(f"load {path}", _reason(error), "delete it: a new one will be made") from error
        self.context, self._seen, self._authority_pem = context, serial, _pem(authority[1])
        return True

    def _authority(self) -> _Made:
        path = self._folder / "authority.pem"
        found = _read(path, op=f"read {path}")
        if found is not None:
            return found
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"Enlace {socket.gethostname()}"[: _MAX_COMMON_NAME - 9] + f" {os.urandom(4).hex()}")
        certificate = (
            _builder(name, name, key.public_key(), _EPOCH, _AUTHORITY_END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._write(path, key, certificate)
        return key, certificate

    def _new_leaf(self, authority: _Made) -> _Made:
        signer, issuer = authority
        key = ec.generate_private_key(ec.SECP256R1())
        start = max(self._now() - dt.timedelta(days=1), _EPOCH)  # from yesterday on: others' clocks are slow
        subject = _name(socket.gethostname()[:_MAX_COMMON_NAME])
        certificate = (
            _builder(subject, issuer.subject, key.public_key(), start, start + dt.timedelta(days=LEAF_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(_general(self._names())), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return key, certificate

    def _good(self, leaf: x509.Certificate, authority: x509.Certificate) -> bool:
        now = self._now()
        born = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            leaf.issuer == authority.subject
            and leaf.not_valid_before_utc <= now
            and leaf.not_valid_after_utc - now > dt.timedelta(days=RENEW_DAYS)
            and set(_general(self._names())) <= set(born)
        )

    def _now(self) -> dt.datetime:
        return max(dt.datetime.fromtimestamp(self._clock.now_us() // 1_000_000, dt.UTC), _EPOCH)

    def _write(self, path: Path, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> None:
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, secret + "".join(map(_pem, chain)).encode())
        except OSError as error:
            hint = "is data_dir writable, and is there space?"
            raise Unavailable(f"write {path}", error.strerror or str(error), hint) from error


def days_left(paths: Iterable[Path], clock: Clock) -> float | None:
    """Days until the first of these certificates ends; below 0 after that. None: none of them can be read."""
    ends: list[float] = []
    for path in paths:
        try:
            ends.append(x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp())
        except (OSError, ValueError):
            continue  # who needs it says what is wrong with it
    return (min(ends) - clock.now_us() / 1e6) / 86_400 if ends else None


def machine_names() -> list[str]:
    """Under what this machine may be called: its name, with ``.local`` too, and its addresses. Nothing is sent."""
    name = socket.gethostname().lower()
    return ["localhost", name, f"{name.partition('.')[0]}.local", "127.0.0.1", "::1", *_addresses4(), *_addresses6()]


def _addresses4() -> list[str]:
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Not by if_nameindex(): it takes netlink, which the service may not use (RestrictAddressFamilies=).
        for interface in sorted(_NET.glob("*")):
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.name.encode()[:15]))
            except OSError:
                continue  # it has none now
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _addresses6() -> list[str]:
    """Lines of the address, its interface's number, prefix length, scope and flags in hex, and the interface."""
    if not _IF_INET6.is_file():
        return []
    rows = [line.split() for line in _IF_INET6.read_text().splitlines()]
    return [
        str(ipaddress.IPv6Address(bytes.fromhex(row[0])))
        for row in rows
        if int(row[3], 16) in _GLOBAL and not int(row[4], 16) & _TEMPORARY
    ]


def _general(texts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for text in texts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            if text.isascii():
                names.append(x509.DNSName(text))
    return list(dict.fromkeys(names))


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Enlace"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _read(path: Path, op: str | None) -> _Made | None:
    """Key and certificate of a file; None where there is none, and without ``op`` also where it is damaged."""
    try:
        content = path.read_bytes()
        key = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("its key is not that of its certificate")  # noqa: TRY301 - told like all other damage
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        if op is None:
            return None
        hint = "put it back from a backup; or delete it: then all who trusted it have to trust another one"
        raise Unavailable(op, _reason(error), hint) from error
    return key, certificate


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    """Instead of asking at a terminal."""
    raise ValueError("the key has a password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "no certificate and key that fit together"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
