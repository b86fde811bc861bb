"""The certificates of the local API: made, renewed, read again; and which configuration has TLS."""

import datetime as dt
import errno
import ipaddress
import os
import shutil
import socket
import ssl
import stat
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.api.tls import FOLDER, LEAF_DAYS, RENEW_DAYS, Certificates, days_left, machine_names
from agent.config import Config
from agent.config_api import Api
from agent.core.clock import FakeClock
from agent.core.errors import Unavailable
from agent.selfwatch import SelfWatch
from agent.watching import certificates
from agent.yamlfile import validate

#: Later than any date that the program itself knows.
START_US = 1_800_000_000_000_000
DAY_S = 86_400.0
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL
NAMES = ["localhost", "gw7", "gw7.local", "127.0.0.1", "192.168.7.2", "fd00::7", "gewölbe"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START_US)


def ours(folder: Path, clock: FakeClock, names: list[str] | None = None) -> Certificates:
    told = NAMES if names is None else names
    return Certificates(folder, clock, names=lambda: told)


def leaf(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / FOLDER / "server.pem").read_bytes())


def meet(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """A handshake in memory; the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = 0
    for _ in range(10):
        for end in (here, there):
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
        if done >= 2:
            return here
    raise AssertionError("no end")


def trusting(pem: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=pem)
    context.verify_flags |= NO_CHECK_TIME  # the certificates are of the tests' time
    return context


def test_who_trusts_the_authority_trusts_the_port_under_each_of_its_names(tmp_path: Path, clock: FakeClock) -> None:
    made = ours(tmp_path, clock)
    assert made.look()
    assert not made.look(), "nothing changed"
    assert made.context is not None
    for name in NAMES[:-1]:
        met = meet(trusting(made.authority_pem), made.context, name)
        assert met.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(trusting(made.authority_pem), made.context, "other.local")
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(ssl.create_default_context(), made.context, "localhost")


def test_the_certificate_is_what_it_should_be(tmp_path: Path, clock: FakeClock) -> None:
    made = ours(tmp_path, clock)
    made.look()
    one, authority = leaf(tmp_path), x509.load_pem_x509_certificate(made.authority_pem.encode())
    key = one.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert one.not_valid_after_utc - one.not_valid_before_utc == dt.timedelta(days=LEAF_DAYS)
    assert not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    one.verify_directly_issued_by(authority)
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (limits.ca, limits.path_length) == (True, 0)
    born = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ipaddress.ip_address("fd00::7") in born.get_values_for_type(x509.IPAddress)
    assert made.fingerprint.count(":") == 31


def test_keys_are_for_the_owner_only_and_no_two_gateways_share_one(tmp_path: Path, clock: FakeClock) -> None:
    seen: set[bytes] = set()
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        ours(folder, clock).look()
        assert stat.S_IMODE((folder / FOLDER).stat().st_mode) == 0o700
        files = sorted((folder / FOLDER).iterdir())
        assert [path.name for path in files] == ["authority.pem", "server.pem"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        seen |= {path.read_bytes().split(b"-----END")[0] for path in files}
    assert len(seen) == 10


def test_a_restart_keeps_both(tmp_path: Path, clock: FakeClock) -> None:
    first, second = ours(tmp_path, clock), ours(tmp_path, clock)
    first.look()
    before = leaf(tmp_path)
    assert second.look()
    assert (leaf(tmp_path), second.authority_pem) == (before, first.authority_pem)


def test_it_is_renewed_weeks_before_its_end_under_the_same_authority(tmp_path: Path, clock: FakeClock) -> None:
    made = ours(tmp_path, clock)
    made.look()
    before, trusted, old = leaf(tmp_path), made.authority_pem, made.context
    clock.advance((LEAF_DAYS - 1 - RENEW_DAYS) * DAY_S - 60)
    assert not made.look()
    clock.advance(120)
    assert made.look()
    assert made.context is not old
    assert leaf(tmp_path).not_valid_after_utc > before.not_valid_after_utc
    assert made.authority_pem == trusted


@pytest.mark.parametrize("first_us", [0, START_US + 20 * 365 * 86_400_000_000])
def test_a_clock_that_was_wrong_does_no_lasting_harm(tmp_path: Path, first_us: int) -> None:
    """Made in 1970 or decades ahead: TLS starts, and is right as soon as the clock is."""
    clock = FakeClock(first_us)
    made = ours(tmp_path, clock)
    assert made.look()
    trusted = made.authority_pem
    clock.jump_wall((START_US - first_us) / 1e6)
    made.look()
    now = dt.datetime.fromtimestamp(START_US / 1e6, dt.UTC)
    authority = x509.load_pem_x509_certificate(trusted.encode())
    for one in (leaf(tmp_path), authority):
        assert one.not_valid_before_utc <= now <= one.not_valid_after_utc
    assert made.authority_pem == trusted


def test_a_new_address_gets_a_new_certificate_and_a_lost_one_does_not(tmp_path: Path, clock: FakeClock) -> None:
    names = list(NAMES)
    made = ours(tmp_path, clock, names)
    made.look()
    names.remove("192.168.7.2")
    assert not made.look()
    names.append("192.168.7.9")
    assert made.look()
    meet(trusting(made.authority_pem), made.context, "192.168.7.9")  # type: ignore[arg-type] # there is one


def test_a_damaged_server_certificate_is_made_anew_and_a_damaged_authority_is_told(
    tmp_path: Path, clock: FakeClock
) -> None:
    made = ours(tmp_path, clock)
    made.look()
    (tmp_path / FOLDER / "server.pem").write_bytes(b"nonsense")
    assert made.look()
    (tmp_path / FOLDER / "authority.pem").write_bytes(b"nonsense")
    with pytest.raises(Unavailable, match="put it back from a backup"):
        made.look()
    assert made.context is not None, "what is there serves on"


def test_a_folder_that_cant_be_written_is_told(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(Unavailable, match=FOLDER):
        ours(tmp_path, clock).look()


def test_tls_1_1_and_weak_ciphers_are_refused(tmp_path: Path, clock: FakeClock) -> None:
    made = ours(tmp_path, clock)
    made.look()
    assert made.context is not None
    assert made.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert all(
        one["name"].startswith(("TLS_", "ECDHE-")) and one["strength_bits"] >= 128 for one in made.context.get_ciphers()
    )
    old = trusting(made.authority_pem)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert meet(old, made.context, "localhost").version() == "TLSv1.2"
    static = trusting(made.authority_pem)
    static.maximum_version = ssl.TLSVersion.TLSv1_2
    static.set_ciphers("AES128-GCM-SHA256:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        meet(static, made.context, "localhost")


def test_the_sites_own_pair_is_read_again_when_it_changes(tmp_path: Path, clock: FakeClock) -> None:
    pair, trusted = own_pair(tmp_path, clock, "first")
    made = Certificates(tmp_path, clock, own=pair)
    assert made.look()
    assert (made.authority_pem, made.fingerprint) == ("", "")
    assert not (tmp_path / FOLDER).exists(), "nothing of ours is made"
    assert made.context is not None
    meet(trusting(trusted), made.context, "gw7")
    assert not made.look()
    before = made.context
    pair[1].write_bytes(b"nonsense")
    with pytest.raises(Unavailable, match="PEM files"):
        made.look()
    assert made.context is before
    fresh, trusted = own_pair(tmp_path, clock, "second")
    for new, old in zip(fresh, pair, strict=True):
        shutil.copy(new, old)
    assert made.look()
    meet(trusting(trusted), made.context, "gw7")


def own_pair(folder: Path, clock: FakeClock, name: str) -> tuple[tuple[Path, Path], str]:
    """Chain and key in two files, as an operator's authority gives them out; and that authority."""
    other = folder / name
    other.mkdir()
    made = ours(other, clock)
    made.look()
    content = (other / FOLDER / "server.pem").read_text()
    end = content.index("-----BEGIN CERTIFICATE")
    pair = other / "chain.pem", other / "key.pem"
    pair[0].write_text(content[end:])
    pair[1].write_text(content[:end])
    return pair, made.authority_pem


@pytest.mark.parametrize("missing", [0, 1])
def test_a_pair_that_is_not_there_is_told(tmp_path: Path, clock: FakeClock, missing: int) -> None:
    pair, _ = own_pair(tmp_path, clock, "own")
    pair[missing].unlink()
    with pytest.raises(Unavailable, match="No such file"):
        Certificates(tmp_path, clock, own=pair).look()


def test_days_left_are_those_of_the_first_to_end(tmp_path: Path, clock: FakeClock) -> None:
    ours(tmp_path, clock).look()
    path = tmp_path / FOLDER / "server.pem"
    assert days_left([path], clock) == pytest.approx(LEAF_DAYS - 1, abs=0.01)
    clock.advance(LEAF_DAYS * DAY_S)
    left = days_left([path, tmp_path / FOLDER / "authority.pem", tmp_path / "none.pem"], clock)
    assert left == pytest.approx(-1, abs=0.01)
    assert days_left([tmp_path / "none.pem"], clock) is None
    assert days_left([], clock) is None


def test_a_certificate_that_is_made_later_is_watched_from_the_first_start_on(clock: FakeClock) -> None:
    watch = SelfWatch({"certificate_days": lambda: None, "cpu_pct": lambda: None}, clock, later=("certificate_days",))
    assert [spec.name for spec in watch.specs] == ["certificate_days", "loop_lag_s"]


def test_what_is_watched_are_the_gateways_own_certificates(tmp_path: Path) -> None:
    def watched(text: str) -> list[Path]:
        config, problems = validate(f"data_dir: /d\nsite: {{id: x}}\n{text}\n", "site.yaml", Config)
        assert config is not None, problems
        return certificates(config, tmp_path)

    assert watched("") == []
    assert watched('api: {listen: "0.0.0.0:1"}') == [Path("/d/api-tls/server.pem")]
    assert watched('api: {listen: "0.0.0.0:1", cert_file: a.pem, key_file: a.key}') == [tmp_path / "a.pem"]
    uplink = 'uplink: {broker: "mqtts://c", cert_file: /b.pem, key_file: /b.key}'
    assert watched(uplink) == [Path("/b.pem")]


def test_the_machine_knows_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", no_netlink)
    names = machine_names()
    assert {"localhost", "127.0.0.1", "::1", socket.gethostname().lower()} <= set(names)
    for name in names[3:]:
        ipaddress.ip_address(name)


def no_netlink() -> NoReturn:
    """As for the service, whose unit allows no such socket."""
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def api_of(text: str) -> tuple[Api | None, str]:
    """The section, or what is wrong with it."""
    config, problems = validate(f"site: {{id: x}}\napi: {text}\n", "site.yaml", Config)
    return (config.api if config else None), "; ".join(map(str, problems))


@pytest.mark.parametrize(
    ("text", "encrypted"),
    [
        ("{}", False),
        ('{listen: "127.0.0.1:8080"}', False),
        ('{listen: "[::1]:8080"}', False),
        ('{listen: "localhost:0"}', False),
        ('{listen: "0.0.0.0:8080"}', True),
        ('{listen: "[::]:8080"}', True),
        ('{listen: "192.168.1.5:8080"}', True),
        ('{listen: "0.0.0.0:8080", tls: off}', False),
        ('{listen: "127.0.0.1:8080", cert_file: a, key_file: b}', True),
    ],
)
def test_tls_is_where_others_can_reach_it(text: str, encrypted: bool) -> None:  # noqa: FBT001 - of the table
    api, problems = api_of(text)
    assert api is not None, problems
    assert api.encrypted is encrypted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{cert_file: a}", "both cert_file and key_file"),
        ("{key_file: a}", "both cert_file and key_file"),
        ("{tls: off, cert_file: a, key_file: b}", "delete `tls: off`"),
        ("{tls: on}", "auto"),
        ("{security_contact: ana@example.com}", "mailto:security@example.com"),
        ('{security_contact: "mailto:a@b\\nEvil: 1"}', "mailto:security@example.com"),
    ],
)
def test_keys_that_dont_fit_together_are_refused(text: str, words: str) -> None:
    api, problems = api_of(text)
    assert api is None
    assert words in problems
