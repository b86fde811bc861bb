"""The package of an upgrade: a tar of ``manifest.json``, ``manifest.sig`` and the wheels, in this order.

Rules of this file:

1. A package has one form only: each header is made anew from what the signed manifest says and compared, byte for byte,
   with what stands in the file; so are the zeros in between and at the end. No reader of tar files ever sees it, and
   whatever is not as it was made, at any place, is refused. (``tar -tf`` reads it all the same: POSIX ustar.)
2. Before the signature is known to be right, the one thing that is believed is the manifest's length, within bounds.
3. Each file's length and SHA-256 stand in the manifest; a file counts as unpacked when they were found right.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.core.errors import UpgradeError
from agent.upgrade.keys import SIGNATURE_BYTES, Keys, is_signed
from agent.upgrade.versions import Version

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
FORMAT = 1
#: What a tar's end is: two blocks of zeros.
_END_BYTES = 1024
_BLOCK_BYTES = 512
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 18
_MAX_NAME = 100 - len("wheels/")
_BAD = "it was changed or cut off, or is no package"
_HINT = "take it again from where it came"


class Wheel(BaseModel):
    """A file of a package."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,200}\.whl$")
    size: int = Field(ge=1, le=_MAX_FILE_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def member(self) -> str:
        """What a tar calls it, which takes 100 bytes: the tags of some make a longer name."""
        return f"wheels/{self.name}" if len(self.name) <= _MAX_NAME else f"wheels/{self.name[: _MAX_NAME - 4]}.whl"


class Manifest(BaseModel):
    """What a package is. ``python`` and ``platform`` are as PEP 425 and ``sysconfig`` write them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    name: Literal["enlace"]
    version: str
    from_version: str  #: the oldest version that may go straight to this one
    store_schema: int = Field(ge=1)  #: the schema that this version brings the store to
    python: str = Field(pattern=r"^cp[0-9]{2,4}$")
    platform: str = Field(pattern=r"^[a-z0-9_-]{1,60}$")
    installed_bytes: int = Field(ge=0)  #: what the wheels take when they are unpacked
    wheels: tuple[Wheel, ...] = Field(min_length=1, max_length=500)

    @field_validator("version", "from_version")
    @classmethod
    def _is_version(cls, value: str) -> str:
        return Version(value).text

    @field_validator("wheels")
    @classmethod
    def _are_several(cls, value: tuple[Wheel, ...]) -> tuple[Wheel, ...]:
        if len({one.name for one in value}) < len(value):
            raise ValueError("a name stands there twice")
        return value

    @property
    def size(self) -> int:
        """Bytes of all wheels."""
        return sum(one.size for one in self.wheels)


def header(name: str, size: int) -> bytes:
    """The header of a plain file in a tar (POSIX.1-1988 ustar): mode 0644, of root, of 1970. 512 bytes."""
    fields = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"0" * 11 + b"\0"
    rest = b"0" + bytes(100) + b"ustar\x0000"
    text = fields + b" " * 8 + rest.ljust(_BLOCK_BYTES - len(fields) - 8, b"\0")
    return text[:148] + b"%06o\0 " % sum(text) + text[156:]


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose signature is right, open behind its signature."""

    file: BinaryIO
    manifest: Manifest
    op: str


def open_package(file: BinaryIO, keys: Keys, op: str) -> Package:
    """Read the head of a package. Raises ``UpgradeError`` unless one of the keys signed it, ``OSError``."""
    first = file.read(_BLOCK_BYTES)
    digits = first[124:135]
    size = int(digits, 8) if len(digits) == 11 and digits.strip(b"01234567") == b"" else 0  # noqa: PLR2004 - the field
    if not 0 < size <= _MAX_MANIFEST_BYTES or first != header(MANIFEST, size):
        raise UpgradeError(op, _BAD, _HINT)
    text = _exactly(file, size, op)
    _expect(file, _padding(size) + header(SIGNATURE, SIGNATURE_BYTES), op)
    signature = _exactly(file, SIGNATURE_BYTES, op)
    if not is_signed(text, signature, keys):
        raise UpgradeError(op, "no key that is trusted here signed it", "is it for this site? see docs/upgrade.md")
    _expect(file, _padding(SIGNATURE_BYTES), op)
    return Package(file, _parsed(text, op), op)


def unpack(package: Package, folder: Path | None) -> None:
    """Write the wheels into a folder, on the disk when this returns; None: only look at them.

    Raises ``UpgradeError`` when they are not what was signed, ``OSError``.
    """
    for wheel in package.manifest.wheels:
        _expect(package.file, header(wheel.member, wheel.size), package.op)
        target = Path(os.devnull) if folder is None else folder / wheel.name
        with target.open("wb") as out:
            digest, left = hashlib.sha256(), wheel.size
            while left:
                chunk = _exactly(package.file, min(left, _CHUNK_BYTES), package.op)
                digest.update(chunk)
                out.write(chunk)
                left -= len(chunk)
            if folder is not None:
                out.flush()
                os.fsync(out.fileno())
        if digest.hexdigest() != wheel.sha256:
            raise UpgradeError(package.op, _BAD, _HINT)
        _expect(package.file, _padding(wheel.size), package.op)
    _expect(package.file, bytes(_END_BYTES), package.op)
    if package.file.read(1):
        raise UpgradeError(package.op, _BAD, _HINT)


def write_package(file: BinaryIO, text: bytes, signature: bytes, manifest: Manifest, folder: Path) -> None:
    """Write a package of wheels in a folder. ``text`` is its manifest, as it was signed. Raises ``OSError``."""
    file.write(header(MANIFEST, len(text)) + text + _padding(len(text)))
    file.write(header(SIGNATURE, len(signature)) + signature + _padding(len(signature)))
    for wheel in manifest.wheels:
        content = (folder / wheel.name).read_bytes()
        file.write(header(wheel.member, len(content)))
        file.write(content + _padding(len(content)))
    file.write(bytes(_END_BYTES))


def _parsed(text: bytes, op: str) -> Manifest:
    try:
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
            raise UpgradeError(op, "its form is newer than this version knows", "go to a version in between first")
        return Manifest.model_validate(found)
    except (ValueError, ValidationError) as error:
        raise UpgradeError(op, f"its manifest can't be read: {' '.join(str(error).split())[:200]}", _HINT) from error


def _exactly(file: BinaryIO, size: int, op: str) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise UpgradeError(op, _BAD, _HINT)
    return content


def _expect(file: BinaryIO, content: bytes, op: str) -> None:
    if file.read(len(content)) != content:
        raise UpgradeError(op, _BAD, _HINT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK_BYTES)
