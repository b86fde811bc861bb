"""Ports for programs that the tests start: free when they were picked, and still free when the program binds them."""

import random
import socket
from pathlib import Path

#: Below those that the kernel gives to connections that leave, above those that services usually have.
_LOWEST, _BELOW = 12_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
#: Hypothesis seeds the usual source anew for each test.
_random = random.SystemRandom()
#: A name in the kernel for each port that was given away, until this process ends: others beside it pick other ones.
_kept: list[socket.socket] = []


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody has on any address, and that no other process of the tests is given."""
    for _ in range(1000):
        port = _random.randrange(_LOWEST, _BELOW)
        mine = socket.socket(socket.AF_UNIX)
        try:
            mine.bind(f"\0enlace-tests-port-{port}")
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(("", port))
        except OSError:
            mine.close()
            continue
        _kept.append(mine)
        return port
    raise AssertionError(f"no port from {_LOWEST} to {_BELOW} is free")
