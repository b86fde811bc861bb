"""Packages of an upgrade: one form, signed; whatever is otherwise is refused."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import UpgradeError
from agent.upgrade import keys as trust
from agent.upgrade.bundle import Manifest, open_package, unpack
from agent.upgrade.make import main, make
from agent.upgrade.versions import Version


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels, keys and a package of them."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "wheels").mkdir()
    for name in ("enlace-1.2.3-py3-none-any.whl", "other-1.0-py3-none-any.whl"):
        with zipfile.ZipFile(folder / "wheels" / name, "w") as wheel:
            wheel.writestr("module.py", f"NAME = {name!r}\n" * 20)
    for name in ("release", "stranger"):
        write_keys(folder, name)
    make(folder / "p.upgrade", folder / "wheels", folder / "release.pem")
    return folder


def write_keys(folder: Path, name: str) -> None:
    key = Ed25519PrivateKey.generate()
    (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)


def read(folder: Path, content: bytes, key: str = "release") -> Manifest:
    """Read all of it."""
    package = open_package(io.BytesIO(content), trust.trusted(folder / f"{key}.pub"), "read")
    unpack(package, None)
    return package.manifest


def test_a_package_says_what_it_is_and_unpacks_to_its_wheels(folder: Path, tmp_path: Path) -> None:
    manifest = read(folder, (folder / "p.upgrade").read_bytes())
    assert (manifest.version, len(manifest.wheels)) == ("1.2.3", 2)
    with (folder / "p.upgrade").open("rb") as file:
        unpack(open_package(file, trust.trusted(folder / "release.pub"), "read"), tmp_path)
    for path in (folder / "wheels").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_any_tar_program_can_list_it(folder: Path) -> None:
    with tarfile.open(folder / "p.upgrade", "r:") as archive:
        names = archive.getnames()
        wheel = archive.extractfile(names[2])
        assert wheel is not None
        assert wheel.read() == (folder / names[2]).read_bytes()
    assert names[:2] == ["manifest.json", "manifest.sig"]


def test_wheels_whose_tags_make_a_long_name_are_packed_too(folder: Path, tmp_path: Path) -> None:
    """As that of charset_normalizer 3.5.2 is called: 104 letters, where a tar has 100 with the folder's."""
    tags = "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64"
    names = {f"charset_normalizer-3.5.2-{tags}.whl", "enlace-1.2.3-py3-none-any.whl"}
    names.add(f"charset_normalizer-3.5.2-{tags}.musllinux_1_2_x86_64.whl")  # the same in a tar
    (tmp_path / "wheels").mkdir()
    (tmp_path / "out").mkdir()
    for name in names:
        with zipfile.ZipFile(tmp_path / "wheels" / name, "w") as wheel:
            wheel.writestr("module.py", f"NAME = {name!r}\n")
    make(tmp_path / "p.upgrade", tmp_path / "wheels", folder / "release.pem", target=("cp311", "linux-x86_64"))
    with (tmp_path / "p.upgrade").open("rb") as file:
        unpack(open_package(file, trust.trusted(folder / "release.pub"), "read"), tmp_path / "out")
    assert {one.name: one.read_bytes() for one in (tmp_path / "out").iterdir()} == {
        name: (tmp_path / "wheels" / name).read_bytes() for name in names
    }
    with tarfile.open(tmp_path / "p.upgrade", "r:") as archive:
        assert max(map(len, archive.getnames())) == 100


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_package_with_any_bit_flipped_is_refused(folder: Path, place: float, bit: int) -> None:
    content = bytearray((folder / "p.upgrade").read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    with pytest.raises(UpgradeError):
        read(folder, bytes(content))


def test_a_package_with_any_one_byte_changed_is_refused(folder: Path) -> None:
    """Each byte once: there is none that nobody looks at."""
    content, keys = (folder / "p.upgrade").read_bytes(), trust.trusted(folder / "release.pub")
    for place in range(len(content)):
        changed = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        with pytest.raises(UpgradeError):
            unpack(open_package(io.BytesIO(changed), keys, "read"), None)


@given(size=st.floats(0, 1, exclude_max=True))
def test_a_package_that_was_cut_off_is_refused(folder: Path, size: float) -> None:
    content = (folder / "p.upgrade").read_bytes()
    with pytest.raises(UpgradeError):
        read(folder, content[: int(size * len(content))])


@given(more=st.binary(min_size=1, max_size=600))
def test_a_package_with_more_behind_it_is_refused(folder: Path, more: bytes) -> None:
    with pytest.raises(UpgradeError):
        read(folder, (folder / "p.upgrade").read_bytes() + more)


@given(content=st.binary(max_size=2000))
def test_what_is_no_package_is_refused(folder: Path, content: bytes) -> None:
    with pytest.raises(UpgradeError):
        read(folder, content)


def test_a_manifest_of_another_package_does_not_fit_the_wheels(folder: Path, tmp_path: Path) -> None:
    """Both are signed: an older one's manifest before newer wheels, and the other way."""
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "enlace-9.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("module.py", "")
    make(tmp_path / "q", tmp_path / "wheels", folder / "release.pem")
    one, other = (folder / "p.upgrade").read_bytes(), (tmp_path / "q").read_bytes()
    starts = [content.index(b"wheels/") for content in (one, other)]
    for mixed in (one[: starts[0]] + other[starts[1] :], other[: starts[1]] + one[starts[0] :]):
        with pytest.raises(UpgradeError):
            read(folder, mixed)


def test_only_who_is_trusted_signs(folder: Path, tmp_path: Path) -> None:
    content = (folder / "p.upgrade").read_bytes()
    with pytest.raises(UpgradeError, match="no key that is trusted here"):
        read(folder, content, "stranger")
    both = tmp_path / "both.pub"
    both.write_bytes(b"# two\n" + (folder / "stranger.pub").read_bytes() + (folder / "release.pub").read_bytes())
    assert len(trust.trusted(both)) == 2
    assert trust.is_signed(b"x", trust.sign(b"x", folder / "release.pem"), trust.trusted(both))
    assert not trust.is_signed(b"y", trust.sign(b"x", folder / "release.pem"), trust.trusted(both))


def test_a_signature_of_the_same_key_for_something_else_is_none(folder: Path) -> None:
    manifest = (folder / "p.upgrade").read_bytes()[512:].partition(b"\0")[0]
    key = Ed25519PrivateKey.generate()
    assert not trust.is_signed(manifest, key.sign(manifest), [key.public_key()])


def test_keys_that_others_may_have_put_there_are_not_trusted(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "upgrade.pub"
    path.write_bytes((folder / "release.pub").read_bytes())
    path.chmod(0o666)
    with pytest.raises(UpgradeError, match="others than root may write it"):
        trust.trusted(path)


def test_files_without_a_key_are_said_so(tmp_path: Path) -> None:
    path = tmp_path / "upgrade.pub"
    with pytest.raises(UpgradeError, match="No such file"):
        trust.trusted(path)
    path.write_text("nothing")
    with pytest.raises(UpgradeError, match="no PUBLIC KEY"):
        trust.trusted(path)
    path.write_text("-----BEGIN PUBLIC KEY-----\nbm90aGluZw==\n-----END PUBLIC KEY-----\n")
    with pytest.raises(UpgradeError, match="damaged"):
        trust.trusted(path)
    other = X25519PrivateKey.generate()
    path.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(UpgradeError, match="no Ed25519 key"):
        trust.trusted(path)
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UpgradeError, match="no Ed25519 key"):
        trust.sign(b"", path)
    path.write_text("nothing")
    with pytest.raises(UpgradeError, match="no private key"):
        trust.sign(b"", path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["other-1.0-py3-none-any.whl"], "holds 0 wheels of enlace"),
        (["enlace-1.0-py3-none-any.whl", "enlace-1.1-py3-none-any.whl"], "holds 2 wheels of enlace"),
        (["enlace-1.0-py3-none-any.whl", "x-1-cp39-cp39-manylinux_2_17_x86_64.whl"], "does not fit"),
        (["enlace-1.0-py3-none-any.whl", "x-1-cp311-cp311-manylinux_2_17_aarch64.whl"], "does not fit"),
        (["enlace-1.0-py3-none-any.whl", "x-1-cp312-abi3-manylinux_2_17_x86_64.whl"], "does not fit"),
        (["enlace-1-py3-none-any.whl"], "is no version"),
    ],
)
def test_what_can_not_become_a_package_is_told_where_it_is_made(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str], told: str
) -> None:
    for name in names:
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr("module.py", "")
    place = ["--wheels", str(tmp_path), "--key", str(folder / "release.pem")]
    target = ["--python", "cp311", "--platform", "linux-x86_64"]
    assert main([str(tmp_path / "out"), *place, *target]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tag", ["cp311-cp311-manylinux_2_17_x86_64", "cp38-abi3-linux_x86_64", "py2.py3-none-any"])
def test_wheels_that_fit_are_taken(folder: Path, tmp_path: Path, tag: str) -> None:
    for name in ("enlace-1.0-py3-none-any.whl", f"x-1-{tag}.whl"):
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr("module.py", "")
    target = "cp311", "linux-x86_64"
    assert len(make(tmp_path / "out", tmp_path, folder / "release.pem", target=target).wheels) == 2


def test_versions_have_the_order_of_pep_440() -> None:
    rising = ["0.0", "0.1.0a1", "0.1.0b1", "0.1.0rc1", "0.1.0rc2", "0.1.0", "0.1.1", "0.2", "0.10", "1.0", "1.0.0.1"]
    versions = [Version(text) for text in rising]
    assert versions == sorted(versions)
    assert len(set(versions)) == len(versions)
    assert Version("1.0") == Version("1.0.0")


@given(
    text=st.text(max_size=12) | st.sampled_from(["1", "1.", "01.2", "1.2/..", "../1.2", "1.2\n", "1.2-3", "1.2.3.4.5"])
)
def test_what_is_a_version_is_the_name_of_a_folder(text: str) -> None:
    found = Version.or_none(text)
    assert found is None or (Path("x", found.text).name == text and set(text) <= set("0123456789.abrc"))
