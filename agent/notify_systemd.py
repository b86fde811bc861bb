"""What the service manager is told, and asks for: the protocol of sd_notify(3), systemd 252 and newer.

Everything is one datagram to ``$NOTIFY_SOCKET``. Where there is none, or it can't be reached, nothing happens: the
gateway runs as well without a service manager.
"""

import os
import socket
from collections.abc import Callable, Mapping

from agent.core.clock import Clock

Send = Callable[[bytes], None]


class ServiceManager:
    """Tells the service manager how the gateway is. Never blocks, never raises.

    ``send`` is given the datagrams instead of the socket. ``watchdog_s``: so often it wants to be fed at least; None:
    it does not watch. ``present``: whether anybody listens.
    """

    def __init__(self, clock: Clock, environ: Mapping[str, str] | None = None, send: Send | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self._send = send or (_sender(address) if address.startswith(("/", "@")) else None)
        self._status = ""
        self.watchdog_s = _watchdog_s(environ)
        self.is_ready = False

    @property
    def present(self) -> bool:
        """Whether somebody is told."""
        return self._send is not None

    def ready(self) -> None:
        """Started, or done with a change of the configuration."""
        self.is_ready = True
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is read again; ``ready`` ends that. Says nothing before the first ``ready``."""
        if self.is_ready:
            self._tell("RELOADING=1", f"MONOTONIC_USEC={round(self._clock.monotonic_s() * 1e6)}")

    def reloaded(self) -> None:
        """That is done."""
        if self.is_ready:
            self.ready()

    def stopping(self) -> None:
        """The end begins."""
        self.is_ready = False
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for people (``systemctl status``); told when it changes."""
        text = " ".join(text.split())
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    def feed(self) -> None:
        """All that must live does."""
        self._tell("WATCHDOG=1")

    def trigger(self) -> None:
        """It does not: do now what is to be done when nobody feeds."""
        self._tell("WATCHDOG=trigger")

    def extend(self, seconds: float) -> None:
        """The start goes on: the next word comes within that time."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _tell(self, *lines: str) -> None:
        if self._send is not None:
            self._send("\n".join(lines).encode())


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """``$WATCHDOG_USEC``, where it is meant for this process (``$WATCHDOG_PID``)."""
    text, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or not int(text) or (process and process != str(os.getpid())):
        return None
    return int(text) / 1e6


def _sender(address: str) -> Send:
    # A name that begins with @ is in the abstract namespace, which the kernel writes with a zero byte.
    name = "\0" + address[1:] if address.startswith("@") else address

    def send(data: bytes) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as way:
                way.sendto(data, name)
        except OSError:
            return  # it restarts, or reads too slowly: the next word is as good

    return send
