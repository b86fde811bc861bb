"""``python -m agent.upgrade.make``: packages and signs wheels for ``enlace upgrade``, where releases are made.

```
openssl genpkey -algorithm ed25519 -out release.pem         # once; it stays where releases are made
openssl pkey -in release.pem -pubout -out upgrade.pub       # goes to each gateway, as /etc/enlace/upgrade.pub
pip wheel --no-deps -w wheels . && pip download --require-hashes --no-deps --only-binary :all: -r … -d wheels
python -m agent.upgrade.make --wheels wheels --key release.pem enlace-1.2.3-cp311-linux-aarch64.upgrade
```
"""

import argparse
import hashlib
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from agent.core.errors import AgentError, UpgradeError
from agent.store.schema import STEPS
from agent.upgrade.bundle import FORMAT, Manifest, Wheel, write_package
from agent.upgrade.keys import sign
from agent.upgrade.rules import python_tag, this_platform

_OWN = re.compile(r"enlace-([^-]+)-.+\.whl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a package; 0, or 2 when it can't be made."""
    parser = argparse.ArgumentParser(prog="python -m agent.upgrade.make", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="the package to write")
    parser.add_argument("--wheels", type=Path, required=True, metavar="DIR", help="all wheels of the version")
    parser.add_argument("--key", type=Path, required=True, metavar="PEM", help="the private key that signs it")
    parser.add_argument("--python", default=python_tag(), metavar="TAG", help="for this Python (default: this one's)")
    parser.add_argument("--platform", default=this_platform(), metavar="P", help="default: this machine's")
    parser.add_argument("--from", dest="from_version", default="0.0", metavar="V", help="only from this version on")
    parser.add_argument("--schema", type=int, default=len(STEPS), metavar="N", help="the store's schema of the version")
    parsed = parser.parse_args(arguments)
    try:
        manifest = make(
            parsed.file,
            parsed.wheels,
            parsed.key,
            target=(parsed.python, parsed.platform),
            from_version=parsed.from_version,
            store_schema=parsed.schema,
        )
    except AgentError as error:
        print(f"enlace: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 2
    text = f"{parsed.file}: Enlace {manifest.version} for {manifest.python}, {manifest.platform}"
    print(f"{text}: {len(manifest.wheels)} wheels, {manifest.size / 2**20:.1f} MiB")  # noqa: T201 - the same
    return 0


def make(
    file: Path,
    folder: Path,
    key: Path,
    *,
    target: tuple[str, str] | None = None,
    from_version: str = "0.0",
    store_schema: int = len(STEPS),
) -> Manifest:
    """Write the package of the wheels in a folder. ``target``: its Python and platform. Raises ``UpgradeError``."""
    op = f"make {file}"
    wheels = sorted(folder.glob("*.whl"))
    own = [found[1] for one in wheels if (found := _OWN.fullmatch(one.name))]
    if len(own) != 1:
        raise UpgradeError(op, f"{folder} holds {len(own)} wheels of enlace itself", "it must be one")
    python, machine = target or (python_tag(), this_platform())
    for wheel in wheels:
        _check_fits(op, wheel, python, machine)
    try:
        manifest = Manifest.model_validate(
            {
                "format": FORMAT,
                "name": "enlace",
                "version": own[0],
                "from_version": from_version,
                "store_schema": store_schema,
                "python": python,
                "platform": machine,
                "installed_bytes": sum(_installed_bytes(op, one) for one in wheels),
                "wheels": [_described(one) for one in wheels],
            }
        )
        text = manifest.model_dump_json(indent=1).encode()
        signature = sign(text, key)
        with file.open("wb") as out:
            write_package(out, text, signature, manifest, folder)
    except ValidationError as error:
        raise UpgradeError(op, " ".join(str(error).split())[:300]) from error
    except OSError as error:
        raise UpgradeError(op, f"{error.filename or file}: {error.strerror}") from error
    return manifest


def _described(wheel: Path) -> Wheel:
    with wheel.open("rb") as file:
        return Wheel(name=wheel.name, size=wheel.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _installed_bytes(op: str, wheel: Path) -> int:
    try:
        with zipfile.ZipFile(wheel) as content:
            return sum(one.file_size for one in content.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise UpgradeError(op, f"{wheel} is no wheel: {error}") from error


def _check_fits(op: str, wheel: Path, python: str, machine: str) -> None:
    """By its name (PEP 427), as far as that can be told early: pip has the last word where it is installed."""
    *_, interpreter, abi, system = wheel.stem.split("-")
    tags = interpreter.split(".")
    newest = int(python.removeprefix("cp3"))
    good = "py3" in tags or python in tags
    if "abi3" in abi.split("."):
        good = good or any(int(tag[3:]) <= newest for tag in tags if re.fullmatch(r"cp3\d+", tag))
    wanted = machine.partition("-")[2].replace("-", "_")
    if not good or not (system == "any" or wanted in system):
        raise UpgradeError(op, f"{wheel.name} does not fit {python} on {machine}")


if __name__ == "__main__":
    sys.exit(main())
