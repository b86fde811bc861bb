"""A virtual machine that runs one command: boot, run, results out, off.

Two engines with the same face. *uml* (User-Mode Linux) is a kernel that runs as a process: quick at computing, slow at
system calls, one CPU. *qemu* emulates a PC with Debian's own kernel: quick at nothing, but nearest to a real machine.

Host and guest share one folder, ``/ctl`` in the guest: what the guest writes there is on the host when the call
returns.
A machine ends only its own processes: they are a session of their own.
"""

import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.vm.image import Image, scratch, tool

#: As the file ``early``, where the package is installed: its service starts with the file ``site.yaml``.
SITE = "install -o enlace -g enlace -m 0640 /ctl/site.yaml /etc/enlace/site.yaml\n"
#: The same, where a trial has no use for it.
NO_SERVICE = "rm -f /etc/systemd/system/multi-user.target.wants/enlace.service\n"
#: A machine that boots in half the time, without what has nothing to do in it: an empty file in the place of a unit or
#: a generator masks it.
_IDLE = """\
systemd-udevd systemd-udev-trigger systemd-logind systemd-journal-flush systemd-update-utmp systemd-user-sessions
systemd-random-seed systemd-pstore systemd-binfmt systemd-update-utmp-runlevel systemd-sysusers systemd-sysctl
systemd-modules-load systemd-remount-fs systemd-tmpfiles-setup-dev kmod-static-nodes modprobe@ dbus"""
_IDLE_TOO = """\
systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-journald-audit.socket dbus.socket
systemd-initctl.socket dev-mqueue.mount dev-hugepages.mount sys-kernel-config.mount sys-kernel-debug.mount
sys-kernel-tracing.mount sys-fs-fuse-connections.mount fstrim.timer systemd-tmpfiles-clean.timer"""
LEAN = f"""\
cd /etc/systemd/system
touch {" ".join(f"{name}.service" for name in _IDLE.split())} {" ".join(_IDLE_TOO.split())}
mkdir -p ../system-generators && cd ../system-generators
(cd /usr/lib/systemd/system-generators && echo *) | xargs touch
"""
_POLL_S = 0.05
_OFF_S = 60.0
_CONSOLE_LINES, _OUTPUT_LINES = 25, 200


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a command left: its exit code, its output, and when the guest had started (seconds after power on)."""

    code: int
    output: str
    errors: str
    boot_s: float


class Failed(Exception):  # noqa: N818 - it is the state of the machine
    """The machine gave no result; the text has the end of its console."""


class Machine:
    """One machine with a command for it: ``with Machine(image, "ip link", data=disk) as machine``.

    ``data`` is a disk image that outlives the machine, mounted on ``/var/lib/enlace``; the root disk is thrown away
    unless it is to be kept: then it is the image itself that changes.
    ``date`` is what its clock shows at power on, in seconds since 1970; ``files`` are put into ``/ctl`` before.
    ``devices`` are more words for QEMU.
    """

    def __init__(
        self,
        image: Image,
        command: str,
        *,
        data: Path | None = None,
        keep: bool = False,
        date: int | None = None,
        memory_mb: int = 1024,
        files: Mapping[str, str] | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        self._keep = keep
        self._image, self._data, self._memory_mb, self._devices = image, data, memory_mb, devices
        self._words = [] if date is None else [f"date={date}"]
        self.ctl = Path(tempfile.mkdtemp(prefix="enlace-vm-", dir=scratch()))
        for name, text in {"cmd": command + "\n", **(files or {})}.items():
            (self.ctl / name).write_text(text)
        self._process: subprocess.Popen[bytes] | None = None
        self._from_s = 0.0

    def __enter__(self) -> Self:
        """Power on."""
        words = self._uml() if self._image.engine == "uml" else self._qemu()
        environment = os.environ | {"TMPDIR": scratch() or "/tmp"}  # noqa: S108 - its RAM
        self._from_s = time.monotonic()
        with (self.ctl / "console").open("wb") as console:
            self._process = subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Power off, and nothing is left but the data disk."""
        self.cut()
        shutil.rmtree(self.ctl)

    def _uml(self) -> list[str]:
        root = str(self._image.disk) if self._keep else f"{self.ctl}/changes,{self._image.disk}"
        disks = [f"ubd0={root}", *([f"ubd1={self._data}"] if self._data else [])]
        console = ["con=null", "con0=null,fd:1", "quiet", "root=/dev/ubda", "rw", "init=/usr/sbin/vm-init"]
        return [tool("linux.uml"), f"mem={self._memory_mb}M", *disks, *console, f"ctl={self.ctl}", *self._words]

    def _qemu(self) -> list[str]:
        arm = self._image.arch == "arm64"
        kernel = ["quiet", "mitigations=off", "panic=-1", f"console={'ttyAMA0' if arm else 'ttyS0'}", *self._words]
        board = ["-M", "virt", "-cpu", "cortex-a72"] if arm else ["-M", "pc", "-cpu", "Nehalem"]
        root = "cache=writeback" if self._keep else "snapshot=on,cache=unsafe,file.locking=off"
        disks = [f"file={self._image.disk},{root}"]
        disks += [f"file={self._data},cache=writeback"] if self._data else []
        words = [tool("qemu-system-aarch64" if arm else "qemu-system-x86_64"), *board, "-accel", "tcg,thread=multi"]
        words += [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-nic",
            "none",
            "-serial",
            "stdio",
            "-qmp",
            f"unix:{self.monitor},server=on,wait=off",
        ]
        words += ["-m", str(self._memory_mb), "-smp", "2", "-device", "virtio-rng-pci"]
        words += ["-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd), "-append", " ".join(kernel)]
        for number, disk in enumerate(disks):
            words += ["-drive", f"{disk},if=none,id=d{number},format=raw", "-device", f"virtio-blk-pci,drive=d{number}"]
        return [
            *words,
            *self._devices,
            "-virtfs",
            f"local,path={self.ctl},mount_tag=ctl,security_model=none,multidevs=remap",
        ]

    @property
    def monitor(self) -> Path:
        """QEMU's socket for ``tests.vm.monitor``, once it runs."""
        return self.ctl / "monitor"

    def cut(self) -> None:
        """The power cut: nothing of the guest's memory reaches its disks."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def until(self, true: Callable[[], bool], what: str, within_s: float) -> None:
        """Wait for something that the guest does in ``/ctl``; ``Failed`` when it does not come."""
        assert self._process is not None
        while not true():
            passed_s = time.monotonic() - self._from_s
            if (over := self._process.poll() is not None) or passed_s > within_s:
                if true():
                    return
                raise Failed(f"{'off' if over else 'on'} after {passed_s:.0f} s without this: {what}\n{self.told()}")
            time.sleep(_POLL_S)

    def wait(self, within_s: float) -> Result:
        """The command's result, after the machine is off."""
        self.until((self.ctl / "rc").exists, "the command has ended", within_s)
        assert self._process is not None
        try:
            self._process.wait(_OFF_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"the machine did not go off in {_OFF_S:.0f} s\n{self.told()}") from None
        code = int(self.read("rc"))
        return Result(code, self.read("stdout"), self.read("stderr"), float(self.read("uptime")))

    def read(self, name: str) -> str:
        """A file of ``/ctl``; empty when there is none."""
        path = self.ctl / name
        return path.read_text(errors="replace") if path.exists() else ""

    def told(self) -> str:
        """The end of what the console and the command said."""
        parts = [("console", "console", _CONSOLE_LINES), ("output", "stdout", _OUTPUT_LINES)]
        parts += [("errors", "stderr", _CONSOLE_LINES)]
        told = [(title, self.read(name).splitlines()[-lines:]) for title, name, lines in parts]
        return "".join(f"--- {title}\n" + "\n".join(lines) + "\n" for title, lines in told if lines)
