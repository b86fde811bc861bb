"""Signed packages of higher versions for ``enlace upgrade`` in the machine, made without a network."""

import email
import re
import zipfile
from pathlib import Path

from agent.upgrade.make import make
from tests.upgrade_rig import write_wheel
from tests.vm.image import PYTHON, call

TARGET = ("cp" + PYTHON.replace(".", ""), "linux-x86_64")
#: The version that the Debian package brings, where its files are, under another number.
PROGRAM = f"""\
import sys
sys.path.append("/opt/enlace/envs/{{former}}/lib/python{PYTHON}/site-packages")
import agent
agent.__version__ = {{version!r}}
from agent.cli.main import main
{{extra}}
"""
#: It ends as soon as it is started.
CRASHES = "_sound = main\ndef main():\n    return 1 if 'run' in sys.argv else _sound()\n"
#: It comes up and says that it is ready; some seconds later it is gone, each time.
DIES = "import os, threading\nif 'run' in sys.argv: threading.Timer(8.0, os._exit, (1,)).start()\n"
_NOT_BROUGHT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def version_of(deb: Path) -> str:
    """The version of the program in a Debian package."""
    return deb.name.split("_")[1].partition("+")[0].partition("-")[0]


def small(folder: Path, former: str, version: str, extra: str = "") -> Path:
    """A package of one small wheel, installed in a tenth of the time: it runs the former one's files."""
    wheels = folder / f"wheels-{version}"
    wheels.mkdir()
    program = PROGRAM.format(former=former, version=version, extra=extra)
    write_wheel(wheels, "enlace", version, {"enlace_trial.py": program}, "enlace_trial:main")
    return _packaged(folder, wheels, version)


def whole(folder: Path, deb: Path, version: str) -> Path:
    """A package of all that a Debian package brings, as wheels again; only the gateway's own version is another."""
    wheels, unpacked = folder / f"wheels-{version}", folder / "unpacked"
    wheels.mkdir()
    call("dpkg-deb", "-x", deb, unpacked)
    library = unpacked / f"usr/lib/enlace/env/lib/python{PYTHON}/site-packages"
    for info in sorted(library.glob("*.dist-info")):
        _wheel_again(wheels, library, info, version)
    return _packaged(folder, wheels, version)


def _packaged(folder: Path, wheels: Path, version: str) -> Path:
    package = folder / f"{version}.upgrade"
    make(package, wheels, folder / "release.pem", target=TARGET)
    return package


def _wheel_again(wheels: Path, library: Path, info: Path, version: str) -> None:
    name, former = info.name.removesuffix(".dist-info").split("-")
    own = name == "enlace"
    tags = email.message_from_bytes((info / "WHEEL").read_bytes()).get_all("Tag") or []
    tag = "-".join(".".join(sorted(set(part))) for part in zip(*(one.split("-") for one in tags), strict=True))
    listed = [line.rsplit(",", 2)[0].strip('"') for line in (info / "RECORD").read_text().splitlines()]
    place = f"enlace-{version}.dist-info" if own else info.name
    with zipfile.ZipFile(wheels / f"{name}-{version if own else former}-{tag}.whl", "w") as wheel:
        for path in listed:
            # Scripts are made by pip, and those notes are its own.
            if path.startswith("../") or path.endswith(".pyc") or Path(path).name in _NOT_BROUGHT:
                continue
            content = (library / path).read_bytes()
            wheel.writestr(path.replace(info.name, place), _renumbered(path, content, version) if own else content)
        wheel.writestr(f"{place}/RECORD", "".join(f'"{one.filename}",,\n' for one in wheel.infolist()))


def _renumbered(path: str, content: bytes, version: str) -> bytes:
    if path == "agent/__init__.py":
        return re.sub(rb"(?m)^__version__ = .*$", f'__version__ = "{version}"'.encode(), content)
    if path.endswith(".dist-info/METADATA"):
        return re.sub(rb"(?m)^Version: .*$", f"Version: {version}".encode(), content, count=1)
    return content
