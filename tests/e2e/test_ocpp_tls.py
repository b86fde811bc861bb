"""TLS of the chargers' port: versions, suites, both kinds of certificates, and client certificates (trials 5)."""

import asyncio
import datetime as dt
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from websockets.exceptions import InvalidMessage

from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import BadData, Unavailable
from drivers.ocpp.authority import SiteAuthority
from drivers.ocpp.server import ServerLimits
from drivers.ocpp.settings import Endpoint
from tests.ocpp_peers import OpenGate, ask, site, until

P2 = Endpoint("127.0.0.1", 0, 2)
#: How a client learns that its handshake was refused; with TLS 1.3 only with the first bytes that it reads.
REFUSED = (OSError, InvalidMessage)
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def _client(data_dir: Path, ciphers: str = "", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    """A charger that trusts the site's authority and speaks one version of TLS."""
    context = ssl.create_default_context(cadata=SiteAuthority(data_dir, SystemClock()).certificate_pem())
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the port's certificates are made, once for all tests."""
    folder = tmp_path_factory.mktemp("data")
    SiteAuthority(folder, SystemClock()).server_pairs("127.0.0.1")
    return folder


@pytest.mark.parametrize(
    "suite",
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ],
)
def test_chargers_of_one_kind_of_key(data_dir: Path, suite: str) -> None:
    async def scene() -> None:
        async with site(gate=OpenGate({"CP1": b"secret"}), endpoint=P2, data_dir=data_dir) as a:
            client = _client(data_dir, suite)
            async with a.connect(scheme="wss", ssl=client, password=b"secret") as charger:
                assert (await ask(charger, "Heartbeat"))[0] == 3
                link = charger.transport.get_extra_info("ssl_object")
                assert link.cipher()[0] == suite
                assert link.compression() is None
                key = x509.load_der_x509_certificate(link.getpeercert(binary_form=True)).public_key()
                assert isinstance(key, ec.EllipticCurvePublicKey if "ECDSA" in suite else rsa.RSAPublicKey)
            assert a.gate.knocks[0].profile == 2

    asyncio.run(scene())


def test_tls_13(data_dir: Path) -> None:
    async def scene() -> None:
        async with site(endpoint=P2, data_dir=data_dir) as a:
            client = _client(data_dir, version=ssl.TLSVersion.TLSv1_3)
            async with a.connect(scheme="wss", ssl=client) as charger:
                assert (await ask(charger, "Heartbeat"))[0] == 3

    asyncio.run(scene())


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256"])
def test_suites_without_forward_secrecy_only_by_an_explicit_word(data_dir: Path, ciphers: str) -> None:
    async def scene() -> None:
        async with site(endpoint=P2, data_dir=data_dir) as a:
            with pytest.raises(REFUSED):
                await a.connect(scheme="wss", ssl=_client(data_dir, ciphers))

    asyncio.run(scene())


@pytest.mark.announced_warnings
@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "AES256-SHA@SECLEVEL=1"])
def test_old_chargers_with_legacy_tls(data_dir: Path, ciphers: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        legacy = Endpoint("127.0.0.1", 0, 2, legacy_tls=True)
        async with site(endpoint=legacy, data_dir=data_dir) as a:
            async with a.connect(scheme="wss", ssl=_client(data_dir, ciphers)) as charger:
                assert (await ask(charger, "Heartbeat"))[0] == 3
            async with a.connect(scheme="wss", ssl=_client(data_dir)) as charger:
                assert "ECDHE" in charger.transport.get_extra_info("ssl_object").cipher()[0]

    asyncio.run(scene())
    assert [record.levelname for record in caplog.records if "legacy_tls" in record.message] == ["WARNING"]


def test_who_does_not_speak_tls_or_an_old_one(data_dir: Path) -> None:
    async def scene() -> None:
        async with site(endpoint=P2, data_dir=data_dir) as a:
            with pytest.raises(REFUSED):
                await a.connect()
            old = _client(data_dir, "ALL@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1"):
                old.minimum_version = ssl.TLSVersion.TLSv1
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(REFUSED):
                await a.connect(scheme="wss", ssl=old)
            assert not a.gate.knocks

    asyncio.run(scene())


def test_tls_handshakes_that_never_end(data_dir: Path) -> None:
    async def scene() -> None:
        clock = FakeClock(now_us=int(NOW.timestamp() * 1e6))
        async with site(endpoint=P2, data_dir=data_dir, clock=clock, limits=ServerLimits(half_open_each=20)) as a:
            halves = []
            for number in range(30):
                half = socket.create_connection(("127.0.0.1", a.port))
                half.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 6])
                halves.append(half)
            door = a.server._door
            assert door is not None
            await until(lambda: a.counts["handshake.crowded"] == 10)
            async with a.connect(scheme="wss", ssl=_client(data_dir)) as charger:
                clock.advance(11)
                await until(lambda: door.waiting == 0)
                assert (await ask(charger, "Heartbeat"))[0] == 3
            for half in halves:
                half.close()

    asyncio.run(scene())


# Profile 3


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class _Maker:
    """Somebody else's authority."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.name = _name(name)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = self.folder / "ca.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        builder = self._builder(self.name, self.key, 3650).add_extension(basic, critical=True)
        self.file.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        start = dt.datetime.now(dt.UTC) - dt.timedelta(days=400)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=days))
        )

    def charger(self, common: str, days: int = 3000) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._builder(_name(common), key, days).sign(self.key, hashes.SHA256())
        return _files(self.folder / common, key, certificate.public_bytes(serialization.Encoding.PEM))


def _files(stem: Path, key: Key, chain: bytes) -> tuple[Path, Path]:
    cert_file, key_file = stem.with_suffix(".pem"), stem.with_suffix(".key")
    cert_file.write_bytes(chain)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


def _csr(key: Key, common: str = "whatever it says") -> str:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(common)).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates(data_dir: Path, tmp_path: Path, version: ssl.TLSVersion) -> None:
    ours, others = _Maker(tmp_path, "ours"), _Maker(tmp_path, "others")
    key = ec.generate_private_key(ec.SECP256R1())
    signed = SiteAuthority(data_dir, SystemClock()).sign(_csr(key), "CP1")
    own = _files(tmp_path / "own", key, signed.encode())

    async def scene() -> None:
        endpoint = Endpoint("127.0.0.1", 0, 3, client_ca_file=ours.file)
        async with site(endpoint=endpoint, data_dir=data_dir) as a:
            for files in (ours.charger("CP1"), own):
                client = _client(data_dir, version=version)
                client.load_cert_chain(*files)
                async with a.connect(scheme="wss", ssl=client) as charger:
                    assert (await ask(charger, "Heartbeat"))[0] == 3
                assert a.gate.knocks[-1].certificate_cn == "CP1"
                assert a.gate.knocks[-1].profile == 3
            known = len(a.gate.knocks)
            for wrong in (others.charger("CP1"), ours.charger("CP2", days=30), None):
                client = _client(data_dir, version=version)
                if wrong is not None:
                    client.load_cert_chain(*wrong)
                with pytest.raises(REFUSED):
                    await a.connect(scheme="wss", ssl=client)
            assert len(a.gate.knocks) == known

    asyncio.run(scene())


def test_files_that_cannot_be_used(data_dir: Path, tmp_path: Path) -> None:
    ours = _Maker(tmp_path, "ours")
    good, key = ours.charger("server")
    locked = tmp_path / "locked.key"
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )

    async def scene() -> None:
        for pair in ((tmp_path / "none.pem", key), (key, key), (ours.file, key), (good, locked)):
            with pytest.raises(Unavailable, match="PEM"):
                async with site(endpoint=Endpoint("127.0.0.1", 0, 2, (pair,)), data_dir=data_dir):
                    pass
        for file in (tmp_path / "none.pem", key):
            with pytest.raises(Unavailable, match="client_ca_file"):
                async with site(endpoint=Endpoint("127.0.0.1", 0, 3, client_ca_file=file), data_dir=data_dir):
                    pass

    asyncio.run(scene())


# The authority


def test_certificates_are_kept_and_renewed_in_time(tmp_path: Path) -> None:
    clock = FakeClock(now_us=int(NOW.timestamp() * 1e6))
    authority = SiteAuthority(tmp_path, clock)
    pairs = authority.server_pairs("10.0.0.5")
    fingerprint = authority.fingerprint()
    assert len(fingerprint) == 64
    before = [path.read_bytes() for pair in pairs for path in pair]
    assert all(path.stat().st_mode & 0o777 == 0o600 for pair in pairs for path in pair)
    leaf = x509.load_pem_x509_certificate(before[0])
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 397
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", socket.gethostname()} <= set(names.get_values_for_type(x509.DNSName))
    assert {"10.0.0.5", "127.0.0.1"} <= {str(one) for one in names.get_values_for_type(x509.IPAddress)}

    def now() -> list[bytes]:
        again = SiteAuthority(tmp_path, clock)
        assert again.fingerprint() == fingerprint
        return [path.read_bytes() for pair in again.server_pairs("10.0.0.5") for path in pair]

    clock.advance(365 * 86400.0)
    assert now() == before
    clock.advance(3 * 86400.0)
    renewed = now()
    assert not set(renewed) & set(before)
    clock.jump_wall(-50 * 365 * 86400.0)  # no battery: the clock stands at 1970
    assert now() == renewed
    (tmp_path / "ocpp-tls" / "server-rsa.key").unlink()
    assert now()[:2] == renewed[:2]
    (tmp_path / "ocpp-tls" / "server-ec.pem").write_text("torn")
    with pytest.raises(Unavailable, match="delete"):
        now()


def test_a_clock_that_was_never_set_makes_certificates_that_are_good_today(tmp_path: Path) -> None:
    authority = SiteAuthority(tmp_path, FakeClock(now_us=0))
    leaf = x509.load_pem_x509_certificate(authority.server_pairs()[0][0].read_bytes())
    assert leaf.not_valid_before_utc.year == 2025
    assert leaf.not_valid_after_utc > dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ocpp-tls").write_text("a file")
    with pytest.raises(Unavailable):
        SiteAuthority(tmp_path, SystemClock()).fingerprint()


def test_what_is_signed_bears_our_name_for_it(tmp_path: Path) -> None:
    authority = SiteAuthority(tmp_path, SystemClock())
    for key in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        leaf, root = x509.load_pem_x509_certificates(authority.sign(_csr(key), "CP 1").encode())
        assert leaf.subject.rfc4514_string() == "CN=CP 1,O=Enlace"
        assert leaf.public_key() == key.public_key()
        leaf.verify_directly_issued_by(root)
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert root.fingerprint(hashes.SHA256()).hex() == authority.fingerprint()


def test_what_is_not_signed(tmp_path: Path) -> None:
    authority = SiteAuthority(tmp_path, SystemClock())
    good = _csr(ec.generate_private_key(ec.SECP256R1()))
    lines = good.splitlines()
    forged = "\n".join((*lines[:-2], lines[-2][:-8] + "AAAA" + lines[-2][-4:], lines[-1]))
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is what is refused
    odd = ed25519.Ed25519PrivateKey.generate()
    for csr in ("", "hello", "ä", good[:80], forged, _csr(weak), _csr(odd), "x" * 100_000):
        with pytest.raises(BadData):
            authority.sign(csr, "CP1")
    for identity in ("", "x" * 65):
        with pytest.raises(BadData):
            authority.sign(good, identity)
