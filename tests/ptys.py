"""A pseudo terminal that stands for a serial port: the tests hold the meter's end."""

import fcntl
import os
import sys
import termios
import tty
from pathlib import Path

MAX_WAITING = 65_536


class Pty:
    """A port at ``path``, a symbolic link as under ``/dev/serial/by-id``, and the wire behind it.

    ``plug`` and ``unplug`` are what a hand does to the adapter. The kernel gives the node another number each time, or
    the same one again, as it does with real ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = bytearray()  #: what the meter has received
        self._far: int | None = None
        self._near: int | None = None
        self.plug()

    def plug(self) -> None:
        """A node appears, and the link points to it."""
        self._far, self._near = os.openpty()
        tty.setraw(self._near)
        os.set_blocking(self._far, False)
        self.link(self.node)

    def link(self, target: str) -> None:
        """Let the path stand for another node."""
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(target)

    @property
    def node(self) -> str:
        """The node behind the link."""
        assert self._near is not None
        return os.ttyname(self._near)

    def unplug(self) -> None:
        """The adapter is gone, and its node with it."""
        self.path.unlink(missing_ok=True)
        for fd in (self._near, self._far):
            if fd is not None:
                os.close(fd)
        self._near = self._far = None

    def send(self, data: bytes) -> None:
        """The meter sends. When nobody has taken what it sent before, all of it is lost."""
        assert self._far is not None
        assert self._near is not None
        try:
            sent = os.write(self._far, data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            termios.tcflush(self._near, termios.TCIFLUSH)

    def take(self) -> bytes:
        """What the meter has received since the last call."""
        assert self._far is not None
        try:
            data = os.read(self._far, MAX_WAITING)
        except BlockingIOError:
            data = b""
        self.heard += data
        return data

    @property
    def unread(self) -> int:
        """How many bytes that the meter sent nobody has taken yet."""
        assert self._near is not None
        return int.from_bytes(fcntl.ioctl(self._near, termios.FIONREAD, bytes(4)), sys.byteorder)

    @property
    def fd(self) -> int:
        """The meter's end, for a loop to watch."""
        assert self._far is not None
        return self._far

    @property
    def speed(self) -> int:
        """The speed to which the port is set, as a constant of ``termios``: a pty keeps it, and does not mind it."""
        assert self._near is not None
        speed: int = termios.tcgetattr(self._near)[5]
        return speed

    def close(self) -> None:
        """Unplug, if that was not done."""
        self.unplug()
