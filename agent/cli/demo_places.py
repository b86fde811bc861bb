"""Where the demo's counterparts meet: a CAN bus, free ports. Two demos on one machine never take each other's."""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.errors import Unavailable

_MULTICAST_GROUP = "239.74.163.2"
_VCAN = "vcan0"
_SOCKETCAN, MULTICAST = "socketcan", "udp_multicast"


@dataclass(frozen=True, slots=True)
class Bus:
    """An interface of python-can, and its channel."""

    interface: str
    channel: str


class Claims:
    """What this demo has, and no other one on this machine: by names that the kernel gives to one process only."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self, what: str) -> bool:
        """Whether it is ours from now on."""
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0enlace-demo-{what}")  # abstract (unix(7)): it is free again when this process ends
        except OSError:
            mark.close()
            return False
        self._held.append(mark)
        return True

    def close(self) -> None:
        """Others may have it all."""
        for mark in self._held:
            mark.close()

    def port(self, wanted: int) -> int:
        """That port of this machine where it is free, else 0: whoever listens takes a free one."""
        return wanted if _is_free(wanted) and self.take(f"port-{wanted}") else 0


def find_bus(claims: Claims | None = None, interfaces: Sequence[str] | None = None) -> Bus:
    """``vcan0`` where the kernel has it, it is up and no other demo is on it; otherwise multicast between processes.

    Raises ``Unavailable`` on a machine that has neither.
    """
    names = [name for _, name in socket.if_nameindex()] if interfaces is None else interfaces
    if _VCAN in names and hasattr(socket, "AF_CAN"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as bus:
            bus.bind((_VCAN,))
            if claims is None or claims.take(_VCAN):
                return Bus(_SOCKETCAN, _VCAN)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            group = socket.inet_aton(_MULTICAST_GROUP) + socket.inet_aton("0.0.0.0")  # noqa: S104 - whatever interface
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        except OSError as error:
            hint = "as root: ip route add 224.0.0.0/4 dev lo, or: ip link add vcan0 type vcan; ip link set vcan0 up"
            raise Unavailable("demo", f"there is no way for CAN between processes ({error.strerror})", hint) from error
    return Bus(MULTICAST, _MULTICAST_GROUP)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
