"""A small Debian for the trials, as a disk image: built once from Debian's packages, then taken from a cache.

- The *base* is Debian with the locked Python packages. It lies in ``$ENLACE_VM_DIR`` (``~/.cache/enlace-vm``) under a
  hash of all that it is made of, so it is never stale; what another hash left behind is deleted after a week.
- The *image* is the base with this tree in ``/opt/tree``, and the Debian package of it where there is one. It is made
  for each run (some 5 s): what is tried is what stands in the tree.

mmdebstrap needs root and Debian's archive. Nothing of this machine's settings comes into the image.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).parent / "guest"
RELEASE, PYTHON = "bookworm", "3.11"
PACKAGES = ["systemd-sysv", "dbus", "udev", "kmod", "iproute2", "procps", "e2fsprogs", "can-utils", "eatmydata"]
PACKAGES += ["python3", "python3.11-venv", "busybox-static", "ca-certificates", "init-system-helpers", "tzdata"]
#: What each engine has for a kernel. The generic one: the cloud kernel has no CAN.
KERNELS = {"uml": "", "qemu": "linux-image-{arch}"}
UML_MODULES = Path("/usr/lib/uml/modules")
#: What of the tree the guest gets.
TREE = ("agent", "cloud_sync", "config", "dbc", "drivers", "systemd", "tests", "pyproject.toml")
#: What the guest runs of the lock: the tests, and the program with its demo where no package brings that.
TOOLS = ("pytest", "hypothesis")
ROOTS = ("enlace[demo]", *TOOLS)
#: Where the package has its libraries: Debian's own Python in the guest runs the tests with them.
PACKAGED = f"/opt/enlace/current/lib/python{PYTHON}/site-packages"
#: mmdebstrap's own: /bin and the like are links from the start. Debian's usrmerge, which does that later, wants perl.
_MERGED = "/usr/share/mmdebstrap/hooks/merged-usr"
_NO_USRMERGE = 'mkdir -p "$1/etc/apt/preferences.d"; printf "Package: usrmerge\\nPin: release *\\nPin-Priority: -1\\n" '
_NO_USRMERGE += '>"$1/etc/apt/preferences.d/no-usrmerge"'
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_INITRD_MODULES = ("virtio_pci", "virtio_mmio", "virtio_blk", "crc32c_generic", "ext4")
_KEPT_S = 7 * 86400.0
_DISK, _MEMORY_BYTES = "2500M", 4 << 30
_NOT_WANTED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty.target",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A disk image with its kernel; ``kernel`` and ``initrd`` are for QEMU."""

    disk: Path
    engine: str
    arch: str
    kernel: Path
    initrd: Path


def tool(name: str) -> str:
    """The path of a program, also where only root looks. Raises ``FileNotFoundError``."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def scratch() -> str | None:
    """Where machines have their disks: in memory where there is room, for on a busy disk each sync waits for others."""
    memory = Path("/dev/shm")  # noqa: S108 - folders of one's own are made in it
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > _MEMORY_BYTES else None


def call(name: str, *words: object, **variables: str) -> None:
    """Run a program; its output is in the error when it fails."""
    done = subprocess.run(
        [tool(name), *map(str, words)], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def locked(roots: Iterable[str] = ROOTS) -> str:
    """The part of requirements.lock that these need, with its hashes."""
    wanted: set[str] = set()
    waiting = [Requirement(root) for root in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if (name, frozenset(one.extras)) in seen:
            continue
        seen.add((name, frozenset(one.extras)))
        wanted.add(name)
        for line in importlib.metadata.requires(one.name) or ():
            needs = Requirement(line)
            extras = one.extras or {""}
            if needs.marker is None or any(needs.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needs)
    blocks = re.split(r"^(?=[a-zA-Z0-9])", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    return "".join(block for block in blocks if re.split(r"[=\[ ]", block, maxsplit=1)[0].lower() in wanted)


class NoDebian(RuntimeError):  # noqa: N818 - it is the state of the machine
    """Debian can't be brought into a folder here: no mirror, or mmdebstrap may not do what it has to."""


class Builder:
    """Builds images for one engine (``uml``, ``qemu``) and one architecture (``amd64``, ``arm64``)."""

    def __init__(self, engine: str, arch: str = "amd64") -> None:
        self._engine, self._arch = engine, arch
        self._cache = Path(os.environ.get("ENLACE_VM_DIR") or Path.home() / ".cache" / "enlace-vm")
        kernel = KERNELS[engine].format(arch=arch)
        self._packages = [*PACKAGES, *([kernel] if kernel else [])]

    def key(self, roots: Iterable[str] = ROOTS) -> str:
        """A hash of all that the base is made of; ``roots`` are what it runs of the lock."""
        steps = (Builder._build, Builder._bring_wheels, Builder._bring_kernel, Builder._configure, _module_order)
        parts = [
            self._engine,
            self._arch,
            RELEASE,
            *self._packages,
            locked(roots),
            *(inspect.getsource(step) for step in steps),
        ]
        parts += [path.read_text() for path in sorted(GUEST.iterdir())]
        if self._engine == "uml":
            parts += sorted(str(path) for path in UML_MODULES.glob("*"))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def image(self, folder: Path, deb: Path | None = None) -> Image:
        """An image with this tree, in that folder; with the Debian package installed where there is one."""
        base = self.base(packaged=deb is not None)
        root = folder / "rootfs"
        call("cp", "-a", "--reflink=auto", base / "rootfs", root)
        try:
            self._bring_tree(root)
            if deb is not None:
                shutil.copy(deb, root / "root/enlace.deb")
                # Its scripts want /proc: mounted for this one program, in a name space of its own.
                script = 'mount -t proc proc "$0/proc" && exec chroot "$0" dpkg -i /root/enlace.deb'
                call("unshare", "--mount", "sh", "-c", script, root)
            call("mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0", "-d", root, folder / "root.img", _DISK)
        finally:
            shutil.rmtree(root)
        return Image(folder / "root.img", self._engine, self._arch, base / "vmlinuz", base / "initrd.gz")

    def _bring_tree(self, root: Path) -> None:
        listed = subprocess.run(
            [tool("git"), "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", *TREE],
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                target = root / "opt/tree" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        if _MACHINES[self._arch] == platform.machine():
            call("chroot", root, "python3", "-m", "compileall", "-q", "-j2", "/opt/tree/agent", "/opt/tree/drivers")

    def base(self, *, packaged: bool) -> Path:
        """Debian for images; what the program needs is with it unless the package brings that. Raises ``NoDebian``."""
        roots = TOOLS if packaged else ROOTS
        self._cache.mkdir(parents=True, exist_ok=True)
        base = self._cache / self.key(roots)
        if not base.exists():
            with tempfile.TemporaryDirectory(dir=self._cache, prefix="building-") as name:
                self._build(Path(name) / "base", roots)
                if not base.exists():  # somebody else's run has made it meanwhile
                    (Path(name) / "base").rename(base)
            self._forget()
        os.utime(base)
        return base

    def _forget(self) -> None:
        for other in self._cache.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another run that builds has just moved or removed it
                if time.time() - other.stat().st_mtime > _KEPT_S:
                    shutil.rmtree(other)

    def _build(self, base: Path, roots: Iterable[str]) -> None:
        base.mkdir()
        root = base / "rootfs"
        options = ["--dpkgopt=force-unsafe-io", "--variant=apt", "--mode=root", "--quiet", "--format=directory"]
        options += [f"--hook-dir={_MERGED}", f"--setup-hook={_NO_USRMERGE}"]
        packages = f"--include={','.join(self._packages)}"
        # INITRD=No: the kernel's own initial RAM disk, which takes long to make, is not used.
        try:
            call("mmdebstrap", *options, f"--architectures={self._arch}", packages, RELEASE, root, INITRD="No")
        except RuntimeError as error:
            raise NoDebian(str(error)) from None
        # dpkg could leave them out, but then mmdebstrap unpacks through a filter that takes longer than all else.
        for name in ("man", "doc", "locale"):
            shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
        self._bring_wheels(root / "opt/pylib", roots)
        if self._engine == "uml":
            shutil.copytree(UML_MODULES, root / "lib/modules", dirs_exist_ok=True)
        else:
            self._bring_kernel(base, root)
        self._configure(root)

    def _bring_wheels(self, target: Path, roots: Iterable[str]) -> None:
        machine = _MACHINES[self._arch]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
            lock.write(locked(roots))
            lock.flush()
            words = [
                "--quiet",
                "--require-hashes",
                "--no-deps",
                "--no-compile",
                "--only-binary=:all:",
                "--target",
                target,
            ]
            words += ["--implementation", "cp", "--python-version", PYTHON, "--platform", "any"]
            words += [f"--abi={abi}" for abi in ("cp" + PYTHON.replace(".", ""), "abi3", "none")]
            words += [f"--platform=manylinux{glibc}_{machine}" for glibc in ("_2_34", "_2_28", "_2_17", "2014")]
            call(sys.executable, "-m", "pip", "install", *words, "-r", lock.name)
        if machine == platform.machine():
            call("chroot", target.parents[1], "python3", "-m", "compileall", "-q", "-j2", "/opt/pylib")

    def _configure(self, root: Path) -> None:
        (root / "etc/hostname").write_text("gateway\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost gateway\n")
        (root / "etc/fstab").write_text("")
        # Without an id and a locale systemd asks for them on the console.
        (root / "etc/machine-id").write_text(hashlib.sha256(b"enlace-vm").hexdigest()[:32] + "\n")
        (root / "etc/locale.conf").write_text("LANG=C.UTF-8\n")
        system = root / "etc/systemd/system"
        for unit in _NOT_WANTED:
            (system / unit).unlink(missing_ok=True)
            (system / unit).symlink_to("/dev/null")
        for name, place in (("init", "usr/sbin/vm-init"), ("run", "usr/sbin/vm-run")):
            shutil.copy(GUEST / name, root / place)
            (root / place).chmod(0o755)
        shutil.copy(GUEST / "run.service", system / "vm-run.service")
        (system / "multi-user.target.wants").mkdir(exist_ok=True)
        (system / "multi-user.target.wants/vm-run.service").symlink_to("../vm-run.service")
        for folder in ("ctl", "var/lib/enlace"):
            (root / folder).mkdir(exist_ok=True)
        (root / f"usr/local/lib/python{PYTHON}/dist-packages/vm.pth").write_text(f"/opt/pylib\n{PACKAGED}\n")

    def _bring_kernel(self, base: Path, root: Path) -> None:
        version = max(path.name for path in (root / "lib/modules").iterdir())
        shutil.copy(root / f"boot/vmlinuz-{version}", base / "vmlinuz")
        call("depmod", "-b", root, version)
        modules = root / "lib/modules" / version
        initrd = base / "initrd"
        for folder in ("bin", "modules", "proc", "sys", "dev", "root"):
            (initrd / folder).mkdir(parents=True)
        shutil.copy(root / "bin/busybox", initrd / "bin/busybox")
        shutil.copy(GUEST / "initrd", initrd / "init")
        (initrd / "init").chmod(0o755)
        names = list(_module_order(modules / "modules.dep", _INITRD_MODULES))
        for name in names:
            shutil.copy(modules / name, initrd / "modules")
        (initrd / "modules/order").write_text("".join(f"{Path(name).name}\n" for name in names))
        script = f"cd {initrd} && find . | cpio --quiet -o -H newc | gzip -1 >{base / 'initrd.gz'}"
        call("sh", "-c", script)
        shutil.rmtree(initrd)


def _module_order(index: Path, wanted: Iterable[str]) -> Iterator[str]:
    """The paths of these modules, each after those that it needs; what is built into the kernel has none."""
    needs = {path: rest.split() for path, rest in (line.split(":") for line in index.read_text().splitlines())}
    path_of = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    done: set[str] = set()
    for name in wanted:
        # modules.dep has them in the order of unloading.
        for path in (*reversed(needs.get(path_of.get(name, ""), [])), path_of.get(name)):
            if path is not None and path not in done:
                done.add(path)
                yield path
