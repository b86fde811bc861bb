"""The machine for the trials: which engine there is, and one image for all of a run.

``$ENLACE_VM_IMAGE`` is a folder with the image of ``installed``, made before (``short.py``).
"""

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vm.image import ROOT, UML_MODULES, Builder, Image, NoDebian, scratch, tool
from tests.vm.machine import Machine, Result

#: Only the guest runs these.
collect_ignore = [] if Path("/usr/sbin/vm-run").exists() else ["inside"]
_PROGRAMS = {"uml": "linux.uml", "qemu": "qemu-system-x86_64"}
_PATIENCE_S = 60.0


def missing(program: str) -> str:
    """What a machine with that program for an engine needs and is not here; empty when all is."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    needed = [program, "mmdebstrap", "mke2fs", "depmod", "chroot", "git"]
    lacking = [name for name in needed if shutil.which(name, path=path) is None]
    lacking += [] if os.geteuid() == 0 else ["root"]
    if program == "linux.uml":
        lacking += [] if UML_MODULES.is_dir() else [str(UML_MODULES)]
        # Its floating-point state has no room for what a CPU with AMX keeps.
        lacking += ["a CPU without AMX"] if " amx_tile" in Path("/proc/cpuinfo").read_text() else []
        lacking += [] if lacking or _boots() else ["a machine that lets User-Mode Linux boot"]
    return ", ".join(lacking)


@functools.cache
def _boots() -> bool:
    """Whether User-Mode Linux comes as far as a first program; it panics then, for that ends. Not all let it trace."""
    words = ["mem=64M", "rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/true", "panic=1", "con=null"]
    try:
        done = subprocess.run(
            [tool("linux.uml"), *words, "con0=null,fd:1", "quiet"],
            env=os.environ | {"TMPDIR": scratch() or "/tmp"},  # noqa: S108 - its RAM
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return b"Attempted to kill init! exitcode=0x00000000" in done.stdout


def build_package(folder: Path) -> Path:
    """The Debian package of this tree, in that folder."""
    build = [sys.executable, "packaging/build_deb.py", "--suite", "bookworm", "--arch", "amd64", "--out", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True)
    (made,) = folder.glob("*.deb")
    return made


def build_installed(engine: str, folder: Path, package: Callable[[], Path]) -> Image:
    """Debian with this tree and its package, in that folder. ``package`` is called while Debian is put together."""
    builder = Builder(engine)
    with ThreadPoolExecutor(1) as pool:
        base = pool.submit(builder.base, packaged=True)
        made = package()
        base.result()
    return builder.image(folder, made)


@pytest.fixture(scope="session")
def engine() -> str:
    """The engine of this run: ``$ENLACE_VM_ENGINE``, else User-Mode Linux where it can be, else QEMU."""
    # Whoever ends the run by SIGTERM ends its machines too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = os.environ.get("ENLACE_VM_ENGINE")
    lacking = {name: missing(_PROGRAMS[name]) for name in ([wanted] if wanted else _PROGRAMS)}
    for name, lacks in lacking.items():
        if not lacks:
            return name
    pytest.skip("; ".join(f"{name} needs {lacks}" for name, lacks in lacking.items()))


@pytest.fixture(scope="session")
def image(engine: str) -> Iterator[Image]:
    """Debian with this tree."""
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as folder:
        try:
            made = Builder(engine).image(Path(folder))
        except NoDebian as error:
            pytest.skip(f"no Debian for the machine: {error}")
        yield made


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this tree."""
    return build_package(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def installed(engine: str, request: pytest.FixtureRequest) -> Iterator[Image]:
    """Debian with this tree and its package, whose service starts at boot; see ``machine.SITE``."""
    if made := os.environ.get("ENLACE_VM_IMAGE"):
        yield Image(Path(made) / "root.img", engine, "amd64", Path(made), Path(made))
        return
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as folder:
        try:
            image = build_installed(engine, Path(folder), lambda: request.getfixturevalue("package"))
        except NoDebian as error:
            pytest.skip(f"no Debian for the machine: {error}")
        yield image


@pytest.fixture
def run(engine: str) -> Callable[..., Result]:
    """``run(image, "command", within_s)``: what the command left in a machine of its own. QEMU is given more time."""

    def boot(
        image: Image,
        command: str,
        within_s: float,
        *,
        date: int | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Result:
        with Machine(image, command, date=date, files=files) as machine:
            return machine.wait(within_s * (5 if engine == "qemu" else 1))

    return boot
