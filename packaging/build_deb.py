"""``make deb``: Debian packages of the gateway, for each release and architecture; nothing of theirs is executed.

Rules of this file:

1. The package carries a ready environment: the locked wheels of the target's Python, unpacked, each held against its
   hash in requirements.lock, with the gateway's own wheel. The target needs no network, no pip and no compiler.
2. What dpkg installs is a store (``/usr/lib/enlace/env``). ``postinst`` links it to ``/opt/enlace/envs/<version>`` and
   then turns ``/opt/enlace/current`` there: a program that runs keeps its files until it is restarted, a cut in between
   leaves the old one whole. ``enlace upgrade`` keeps to the same layout. See docs/service.md.
3. The same commit gives the same bytes (SOURCE_DATE_EPOCH is its time).
"""  # noqa: INP001 - a script; a package of this name would hide another one

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
#: What the gateway runs with: the demo too, which shows on the machine itself that all is well.
EXTRAS = frozenset({"demo"})
#: The newest glibc of each release, and with it the newest tag of a wheel that runs there.
GLIBC_MINORS = (5, 12, *range(17, 42))
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: From this systemd on the pause before a restart can grow.
RESTART_STEPS = 254
JOURNALD = "etc/systemd/journald.conf.d/50-enlace.conf"
STORE = "usr/lib/enlace/env"
#: Stands in an environment that came in a Debian package.
PACKAGED = ".enlace-deb"
LIBRARY = "lib/python{python}/site-packages"


@dataclass(frozen=True, slots=True)
class Suite:
    """A release of Debian."""

    name: str
    python: str  #: its Python, major and minor
    glibc: int  #: its glibc is 2.this
    systemd: int
    mark: str  #: in the package's version: a newer release's package counts as newer


SUITES = {
    one.name: one for one in (Suite("bookworm", "3.11", 36, 252, "deb12"), Suite("trixie", "3.13", 41, 257, "deb13"))
}


def main() -> None:
    """Build the packages that are asked for; print where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, action="append", help="default: all")
    parser.add_argument("--arch", choices=MACHINES, action="append", help="default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--wheel", type=Path, help="the gateway's wheel; default: built from this tree")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("SOURCE_DATE_EPOCH", _git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory(prefix="enlace-deb-") as folder:
        wheel = arguments.wheel or _wheel(Path(folder))
        for suite in arguments.suite or SUITES:
            for arch in arguments.arch or MACHINES:
                work = Path(folder) / f"{suite}-{arch}"
                sys.stdout.write(f"{build(SUITES[suite], arch, wheel, work, arguments.out)}\n")
                shutil.rmtree(work)


def build(suite: Suite, arch: str, wheel: Path, work: Path, out: Path) -> Path:
    """One package."""
    program = wheel.name.split("-")[1]
    version = f"{source_version(program)}-1+{suite.mark}"
    tree = work / "tree"
    env = tree / STORE
    library = env / LIBRARY.format(python=suite.python)
    library.mkdir(parents=True)
    _install(suite, arch, wheel, work, library)
    _environment(suite, env, program)
    _compile(suite, library, program)
    _files(suite, tree, version)
    _control(suite, arch, tree, {"VERSION": version, "PROGRAM": program})
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    package = out / f"enlace_{version}_{arch}.deb"
    _run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--uniform-compression", "--build", str(tree), str(package))
    return package


def source_version(base: str) -> str:
    """``0.1.0`` where that is tagged here; else it says from which commit it was built, and counts as newer."""
    if f"v{base}" in _git("tag", "--points-at", "HEAD").split():
        return base
    dirty = ".dirty" if _git("status", "--porcelain", "--untracked-files=no") else ""
    stamp = _git("log", "-1", "--format=%cd", "--date=format-local:%Y%m%d%H%M%S")
    return f"{base}+git{stamp}.{_git('rev-parse', '--short=7', 'HEAD')}{dirty}"


def needed(python: str, machine: str) -> set[str]:
    """The names of all distributions that the gateway needs there, by what the installed ones say of themselves."""
    target = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_version": f"{python}.0",
        "platform_machine": machine,
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_release": "",
        "platform_version": "",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found: dict[str, frozenset[str]] = {}
    waiting = [("enlace", EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        known = found.get(name)
        if known is not None and extras <= known:
            continue
        found[name] = extras | (known or frozenset())
        for text in metadata.distribution(name).requires or ():
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({**target, "extra": extra}) for extra in {"", *extras}):
                waiting.append((canonicalize_name(one.name), frozenset(one.extras)))
    return set(found) - {"enlace"}


def locked(names: set[str]) -> Iterator[str]:
    """The lines of requirements.lock, with their hashes, that are about these."""
    wanted = False
    for line in (ROOT / "requirements.lock").read_text().splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            wanted = canonicalize_name(re.split(r"[=<>;\s\[]", line, maxsplit=1)[0]) in names
        if wanted:
            yield line


def _wheel(folder: Path) -> Path:
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT))
    return next(folder.glob("enlace-*.whl"))


def _install(suite: Suite, arch: str, wheel: Path, work: Path, library: Path) -> None:
    machine = MACHINES[arch]
    requirements = work / "requirements.txt"
    requirements.write_text("".join(locked(needed(suite.python, machine))))
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS if minor <= suite.glibc]
    tags += [f"{old}_{machine}" for old in ("manylinux1", "manylinux2010", "manylinux2014")]
    python = suite.python.replace(".", "")
    target = ["--implementation", "cp", "--python-version", suite.python]
    target += [part for abi in (f"cp{python}", "abi3", "none") for part in ("--abi", abi)]
    target += [part for tag in tags for part in ("--platform", tag)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--no-compile", "--only-binary=:all:", "--target", str(library), *target]
    _run(*pip, "--require-hashes", "-r", str(requirements))
    name = wheel.name.split("-")
    _run(*pip, "--no-index", "--find-links", str(wheel.parent), "--upgrade", f"{name[0]}=={name[1]}")
    # The scripts of all libraries, with this machine's paths in them: the environment has one of its own.
    shutil.rmtree(library / "bin", ignore_errors=True)


def _environment(suite: Suite, env: Path, program: str) -> None:
    """What makes the folder a virtual environment of the target's own Python (PEP 405)."""
    place = f"/opt/enlace/envs/{program}"
    (env / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {suite.python}\n"
        f"executable = /usr/bin/python{suite.python}\n"
    )
    (env / PACKAGED).touch()
    (env / "bin").mkdir()
    (env / "bin" / f"python{suite.python}").symlink_to(f"/usr/bin/python{suite.python}")
    for name in ("python3", "python"):
        (env / "bin" / name).symlink_to(f"python{suite.python}")
    command = env / "bin" / "enlace"
    command.write_text(f"#!{place}/bin/python3 -I\nimport sys\n\nfrom agent.cli.main import main\n\nsys.exit(main())\n")
    command.chmod(0o755)


def _compile(suite: Suite, library: Path, program: str) -> None:
    """Compile, where a Python of the target's version is at hand; else ``postinst`` does it there."""
    for name in (f"/usr/bin/python{suite.python}", f"python{suite.python}", sys.executable):
        probe = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            found = subprocess.run([name, "-c", probe], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
        except OSError:
            continue
        if found == suite.python:
            shown = f"/opt/enlace/envs/{program}/{LIBRARY.format(python=suite.python)}"
            compiling = ["-m", "compileall", "-q", "-x", r"/pip/|bad_|lib2to3", "--invalidation-mode", "unchecked-hash"]
            _run(name, *compiling, "-s", str(library), "-p", shown, str(library), seed="0")
            return


def _files(suite: Suite, tree: Path, version: str) -> None:
    """Units, rules, the sample configuration, and what Debian wants to read."""
    units = ROOT / "systemd"
    places: Mapping[str, tuple[str, ...]] = {
        "usr/lib/systemd/system": ("enlace.service", "enlace-can@.service"),
        "usr/lib/sysusers.d": ("sysusers.d/enlace.conf",),
        "usr/lib/tmpfiles.d": ("tmpfiles.d/enlace.conf",),
        "usr/lib/modules-load.d": ("modules-load.d/enlace.conf",),
        "usr/lib/udev/rules.d": ("udev/70-enlace-serial.rules",),
    }
    for place, names in places.items():
        for name in names:
            _copy(units / name, tree / place / Path(name).name)
    _copy(units / "journald.conf", tree / JOURNALD)
    if suite.systemd >= RESTART_STEPS:
        _copy(units / "restart-steps.conf", tree / "usr/lib/systemd/system/enlace.service.d/10-restart-steps.conf")
    _copy(ROOT / "config" / "site.yaml", tree / "usr/share/doc/enlace/examples/site.yaml")
    _copy(HERE / "site.yaml", tree / "usr/share/enlace/site.yaml")
    for unit in sorted((units / "network").glob("*")):
        _copy(unit, tree / "usr/share/doc/enlace/examples/network" / unit.name)
    link = tree / "usr/bin/enlace"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/opt/enlace/current/bin/enlace")
    documents = tree / "usr/share/doc/enlace"
    _copy(HERE / "debian" / "copyright", documents / "copyright")
    date = formatdate(int(os.environ["SOURCE_DATE_EPOCH"]))
    text = f"enlace ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {_maintainer()}  {date}\n"
    (documents / "changelog.Debian.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    (documents / "changelog.gz").write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), 9, mtime=0))


def _maintainer() -> str:
    """The project's first author, as Debian writes it.

    Debian wants an address (Policy 5.6.2); an author without one gets one that can't exist (RFC 2606) instead of
    one that might be somebody's.
    """
    author = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["authors"][0]
    return f"{author['name']} <{author.get('email', 'nobody@enlace.invalid')}>"


def _control(suite: Suite, arch: str, tree: Path, versions: Mapping[str, str]) -> None:
    sums = []
    kib = 0
    for path in sorted(tree.rglob("*")):
        kib += 1 if path.is_dir() or path.is_symlink() else -(-path.stat().st_size // 1024)
        if path.is_file() and not path.is_symlink():
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            sums.append(f"{digest}  {path.relative_to(tree)}\n")
    control = tree / "DEBIAN"
    control.mkdir()
    major, minor = suite.python.split(".")
    values = {
        **versions,
        "ARCH": arch,
        "MAINTAINER": _maintainer(),
        "PYTHON": suite.python,
        "NEXT_PYTHON": f"{major}.{int(minor) + 1}",
        "GLIBC": str(suite.glibc),
        "KIB": str(kib),
    }
    for name in ("control", "postinst", "prerm", "postrm"):
        text = (HERE / "debian" / name).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (control / name).write_text(text)
        if name != "control":
            (control / name).chmod(0o755)
    (control / "conffiles").write_text(f"/{JOURNALD}\n")
    (control / "md5sums").write_text("".join(sums))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _git(*arguments: str) -> str:
    environ = {**os.environ, "TZ": "UTC"}
    return subprocess.run(  # noqa: S603
        ["git", "-C", str(ROOT), *arguments],  # noqa: S607 - git is found like everywhere
        check=True,
        capture_output=True,
        text=True,
        env=environ,
    ).stdout.strip()


def _run(*command: str, seed: str = "") -> None:
    environ = {**os.environ, "PYTHONHASHSEED": seed} if seed else None
    subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)  # noqa: S603


if __name__ == "__main__":
    main()
