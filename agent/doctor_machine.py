"""What a bundle for support tells of the machine: read from Linux' own files, and from what its tools print.

Nothing here changes anything. A file or a tool that is not there is said to be missing.
"""

import fcntl
import importlib.metadata
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent import __version__
from agent.clock_trust import machine_sources
from agent.core.clock import Clock, battery_clock, is_set, kernel_synchronised

TOOL_S = 10.0
LOG_LINES = 2000
#: linux/if_arp.h: the type of a CAN interface.
_ARPHRD_CAN = "280"
#: ioctl(2) of linux/sockios.h: the IPv4 address of an interface; its name has 16 bytes.
_SIOCGIFADDR = 0x8915
_NAME_BYTES = 16
_UNIT = "enlace.service"
_UNIT_PROPERTIES = (
    "ActiveState,SubState,Result,NRestarts,ExecMainStatus,ExecMainStartTimestamp,MemoryCurrent,CPUUsageNSec,TasksCurrent,"
    "UnitFileState,FragmentPath"
)
_OF_INTERFACE = ("operstate", "carrier", "mtu", "address", "tx_queue_len", "speed")
_OF_USB = ("idVendor", "idProduct", "manufacturer", "product", "serial", "speed", "version", "bcdDevice")


def versions() -> dict[str, object]:
    """Of the program, Python, and every package that is installed beside it."""
    packages = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return {
        "enlace": __version__,
        "python": sys.version,
        "executable": sys.executable,
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].casefold())),
    }


def system(root: Path = Path("/")) -> dict[str, object]:
    """Operating system, kernel, hardware, load."""
    model = [_read(root / path).strip("\0\n ") for path in _MODELS]
    return {
        "kernel": " ".join(platform.uname()[::2]),
        "os": _pairs(_read(root / "etc/os-release"), "="),
        "hardware": ", ".join(one for one in model if one),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "uptime_s": float((_read(root / "proc/uptime").split() or ["0"])[0]),
        "container": _read(root / "run/systemd/container") or None,
        "user": {"uid": os.geteuid(), "groups": os.getgroups()},
    }


_MODELS = (
    "proc/device-tree/model",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
)


def memory(root: Path = Path("/")) -> str:
    """As the kernel says it."""
    return _read(root / "proc/meminfo") + "\n" + _read(root / "proc/pressure/memory")


def disks(folders: Mapping[str, Path], root: Path = Path("/")) -> dict[str, object]:
    """The file systems that these folders are on: what is free of bytes and names, and how they are mounted."""
    mounts = [line.split() for line in _read(root / "proc/mounts").splitlines()]
    found: dict[str, object] = {}
    for name, folder in folders.items():
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        usage, status = shutil.disk_usage(place), os.statvfs(place)
        on = max((one for one in mounts if place.resolve().is_relative_to(one[1])), key=lambda one: len(one[1]))
        found[name] = {
            "folder": str(folder),
            "bytes": usage.total,
            "free_bytes": usage.free,
            "free_names": status.f_favail,
            "device": on[0],
            "mounted_at": on[1],
            "type": on[2],
            "read_only": "ro" in on[3].split(","),
        }
    return found


def can(root: Path = Path("/")) -> str:
    """The CAN interfaces with their figures, as sysfs, the kernel's list of readers and ``ip`` tell them."""
    lines: list[str] = []
    for folder in sorted((root / "sys/class/net").glob("*")):
        if _read(folder / "type").strip() != _ARPHRD_CAN:
            continue
        lines.append(f"{folder.name}: {_of(folder, _OF_INTERFACE)}")
        lines.append(f"  {_of(folder / 'statistics')}")
    for path in sorted((root / "proc/net/can").glob("*")):
        lines += ["", f"-- {path}", _read(path)]
    if not lines:
        return "this machine has no CAN interface\n"
    return "\n".join([*lines, "", _tool("ip", "-details", "-statistics", "link", "show", "type", "can")])


def serial_ports(root: Path = Path("/")) -> list[dict[str, object]]:
    """The serial ports under their lasting names, and who may open them."""
    links = [*sorted((root / "dev/serial/by-id").glob("*")), *sorted((root / "dev/serial/by-path").glob("*"))]
    plain = [*sorted((root / "dev").glob("ttyUSB*")), *sorted((root / "dev").glob("ttyACM*"))]
    found: list[dict[str, object]] = []
    for path in [*links, *plain, *sorted((root / "dev").glob("ttyAMA*"))]:
        status = path.stat() if path.exists() else None
        found.append(
            {
                "port": str(path),
                "is": str(path.resolve()),
                "mode": None if status is None else oct(status.st_mode & 0o777),
                "group": None if status is None else status.st_gid,
                "usable_by_this_user": os.access(path, os.R_OK | os.W_OK),
            }
        )
    return found


def usb(root: Path = Path("/")) -> list[dict[str, str]]:
    """What is plugged in."""
    folders = sorted((root / "sys/bus/usb/devices").glob("*"))
    return [{"at": one.name, **_of(one, _OF_USB)} for one in folders if (one / "idVendor").exists()]


def network(root: Path = Path("/")) -> dict[str, object]:
    """Interfaces with addresses and errors, routes and name servers."""
    six: dict[str, list[str]] = {}
    for line in _read(root / "proc/net/if_inet6").splitlines():
        digits, _, prefix, *_, name = line.split()
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
        six.setdefault(name, []).append(f"{address}/{int(prefix, 16)}")
    interfaces = {
        folder.name: {
            **_of(folder, _OF_INTERFACE),
            "ipv4": _ipv4(folder.name),
            "ipv6": six.get(folder.name, []),
            "statistics": _of(folder / "statistics"),
        }
        for folder in sorted((root / "sys/class/net").glob("*"))
        if folder.is_dir()
    }
    servers = [line for line in _read(root / "etc/resolv.conf").splitlines() if line.startswith("nameserver")]
    return {
        "hostname": socket.gethostname(),
        "interfaces": interfaces,
        "routes": _read(root / "proc/net/route").splitlines(),
        "name_servers": servers,
    }


def clock(clock: Clock, root: Path = Path("/")) -> dict[str, object]:
    """What time it is here, and whether that can be believed."""
    sources = machine_sources(root / "run", root / "sys")
    return {
        "now_us": clock.now_us(),
        "monotonic_s": clock.monotonic_s(),
        "believed": is_set(clock),
        "synchronised": sources.synchronised(),
        "kernel_synchronised": kernel_synchronised(),
        "a_time_service_has_still_to_set_it": sources.expected(),
        "battery": battery_clock(root / "sys"),
    }


def service() -> str:
    """How systemd sees the gateway."""
    return _tool("systemctl", "show", _UNIT, "--no-pager", f"--property={_UNIT_PROPERTIES}")


def journal() -> str:
    """The newest lines of the gateway's log, where the journal keeps it and this user may read it."""
    asked = "--unit", _UNIT, "--lines", str(LOG_LINES), "--no-pager", "--output=short-iso"
    return _tool("journalctl", *asked)


def _tool(name: str, *arguments: str) -> str:
    """What a tool of the system prints; why not, where it does not."""
    path = shutil.which(name)
    if path is None:
        return f"this machine has no {name}\n"
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [path, *arguments], capture_output=True, stdin=subprocess.DEVNULL, timeout=TOOL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{name} can't be asked: {error}\n"
    return (done.stdout + done.stderr).decode(errors="replace")


def _ipv4(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            name = struct.pack("256s", interface.encode()[: _NAME_BYTES - 1])
            return socket.inet_ntoa(fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, name)[20:24])
        except OSError:
            return None


def _of(folder: Path, names: Iterable[str] = ()) -> dict[str, str]:
    """The files of a folder of sysfs with what they say; without names all of them."""
    found = {one: _read(folder / one).strip() for one in names or [path.name for path in sorted(folder.glob("*"))]}
    return {name: text for name, text in found.items() if text}


def _pairs(text: str, sign: str) -> dict[str, str]:
    pairs = (line.partition(sign) for line in text.splitlines())
    return {key.strip(): value.strip(' "') for key, found, value in pairs if found}


def _read(path: Path) -> str:
    """What a file says; nothing where it is not there, or says it to nobody."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
