"""One way to open a byte line: a serial port (``/dev/…``) or a serial server (``socket://host:port``).

Rules of this file:

1. ``read`` waits and then takes what is there: nothing is buffered here, so a slow reader costs no memory (the kernel's
   buffer is the bound), and a cancelled ``read`` loses no byte.
2. Every fault of a library or of the system becomes ``Unavailable`` here (``Unsupported`` for settings that the port
   will never take), with what to do about it. An end of file is a fault: a serial port has none unless it was pulled.
3. Opening and changing the speed talk to the adapter's driver, which may hang for seconds: they run in a thread.
4. A node under ``/dev`` can be replaced while the old one is still open: ``check`` says so.
"""

import asyncio
import contextlib
import errno
import os
import socket
import stat
import termios
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.core.errors import ConfigError, DeviceError, Unavailable, Unsupported

if TYPE_CHECKING:
    import serial

CHUNK = 4096
#: A line that still has more after so many bytes is not being answered on: it is flooded.
MAX_DRAIN = 1 << 20
CONNECT_S = 5.0
#: A serial server that fell silent without a word is given up after IDLE + INTERVAL * PROBES seconds.
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 5, 3
#: And so is one that takes our bytes without acknowledging them.
UNACKNOWLEDGED_MS = 10_000

_SCHEME = "socket"
#: Major numbers of the slaves of Unix98 pseudo terminals (Linux, Documentation/admin-guide/devices.txt).
_PTY_MAJORS = range(136, 144)
_CFLAG, _IFLAG, _CC = 2, 0, 6
_PTY_FRAMING = "8N1"

_HINTS = {
    errno.ENOENT: "is it plugged in? `ls -l /dev/serial/by-id` lists the ports",
    errno.EACCES: "add the user to group dialout",
    errno.EPERM: "the service may not open ports of this kind: allow it by DeviceAllow= (systemctl edit enlace)",
    errno.EAGAIN: "another program has it open (ModemManager, a terminal): stop it",
    errno.EBUSY: "another program has it open (ModemManager, a terminal): stop it",
    errno.ENOTTY: "write the path of a serial port",
    errno.ECONNREFUSED: "is the serial server's port right, and free?",
}
_PLUG_HINT = "is the adapter plugged in, and its cable sound?"
_NET_HINT = "is the serial server switched on, and its address right?"


class Line(ABC):
    """An open line. ``name`` is the port as it was given; ``fixed``: the far end alone sets speed and framing."""

    name: str
    fixed: bool

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd

    async def read(self) -> bytes:
        """The next bytes, at least one. Raises ``Unavailable`` when the line is gone."""
        while True:
            await self._ready(reading=True)
            data = self._take()
            if data:
                return data

    async def write(self, data: bytes) -> None:
        """Hand bytes to the kernel, all of them. Raises ``Unavailable``."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await self._ready(reading=False)
            except OSError as error:
                raise self._gone(f"write {self.name}", error) from error

    def drain(self) -> int:
        """Throw away what came in and was not read; how many bytes that were. Raises ``Unavailable``."""
        thrown = 0
        while thrown < MAX_DRAIN and (data := self._take()):
            thrown += len(data)
        return thrown

    def _take(self) -> bytes:
        """What is there now; nothing when nothing is."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._gone(f"read {self.name}", error) from error
        if not data:
            raise Unavailable(f"read {self.name}", "the other end is gone", self._hint)
        return data

    @abstractmethod
    async def set_line(self, baud: int, framing: str) -> None:
        """Change speed and framing (``7E1``) at once; bytes that still wait to be sent go out at the new speed.

        Does nothing on a ``fixed`` line. Raises ``Unavailable``, or ``Unsupported`` when the port can't do it.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise ``Unavailable`` when what is open is no longer what the port's name stands for."""

    @abstractmethod
    def close(self) -> None:
        """Close; also twice. What was not sent yet is thrown away."""

    @property
    @abstractmethod
    def _hint(self) -> str:
        """What to look at when the line is gone."""

    def _gone(self, op: str, error: OSError) -> Unavailable:
        return Unavailable(op, error.strerror or str(error), self._hint)

    async def _ready(self, *, reading: bool) -> None:
        """Wait until the kernel has something, or room."""
        if self._fd < 0:
            raise Unavailable(f"read {self.name}", "the line is closed")
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add, remove = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
        fd = self._fd
        add(fd, _finish, ready)
        try:
            await ready
        finally:
            remove(fd)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class SerialLine(Line):
    """A serial port. A pseudo terminal has neither speed nor parity: it always is 8N1."""

    fixed = False

    def __init__(self, name: str, port: "serial.Serial", *, pseudo: bool) -> None:
        super().__init__(name, port.fileno())
        self._port = port
        self._pseudo = pseudo

    async def set_line(self, baud: int, framing: str) -> None:
        """See ``Line``."""
        await asyncio.to_thread(self._apply, baud, framing)

    def _apply(self, baud: int, framing: str) -> None:
        op = f"set {self.name} to {baud} {framing}"
        with _translated(op, _PLUG_HINT):
            self._port.apply_settings({"baudrate": baud, **_framing(_PTY_FRAMING if self._pseudo else framing)})
            _refine(self._fd)

    def check(self) -> None:
        """See ``Line``: the node was deleted, or stands for another device now."""
        op = f"read {self.name}"
        try:
            now = Path(self.name).stat()
            same = os.path.samestat(now, os.fstat(self._fd))
        except OSError as error:
            raise self._gone(op, error) from error
        if not same:
            raise Unavailable(op, "the port was plugged in anew")

    def close(self) -> None:
        """See ``Line``."""
        if self._fd < 0:
            return
        # Closing waits up to 30 s for bytes that can't be sent: they are thrown away before.
        with contextlib.suppress(termios.error, OSError):
            termios.tcflush(self._fd, termios.TCIOFLUSH)
        self._fd = -1
        with contextlib.suppress(OSError):  # of a device that is gone: it is closed all the same
            self._port.close()

    @property
    def _hint(self) -> str:
        return _PLUG_HINT


class SocketLine(Line):
    """A TCP connection to a serial server (raw mode)."""

    fixed = True

    def __init__(self, name: str, connection: socket.socket) -> None:
        super().__init__(name, connection.fileno())
        self._socket = connection

    async def set_line(self, baud: int, framing: str) -> None:
        """See ``Line``: nothing can be set through a raw connection."""

    def check(self) -> None:
        """See ``Line``: the connection itself tells."""

    def close(self) -> None:
        """See ``Line``."""
        self._fd = -1
        self._socket.close()

    @property
    def _hint(self) -> str:
        return _NET_HINT


def check_port(port: str) -> None:
    """Raise ``ConfigError`` when a ``socket://`` port names no address."""
    if port.startswith("/"):
        return
    try:
        _address(port)
    except ValueError as error:
        raise ConfigError(f"port {port}", str(error), "write socket://10.0.0.9:4001") from error


async def open_line(port: str, baud: int, framing: str) -> Line:
    """Open a port for ourselves alone. Raises ``Unavailable``, or ``Unsupported`` for a speed that it can't have.

    ``framing`` is data bits, parity and stop bits (``8N1``). What came in before is thrown away.
    """
    if not port.startswith("/"):
        return await _connect(port)
    opening = asyncio.get_running_loop().run_in_executor(None, _open_serial, port, baud, framing)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise


def _close_late(opening: "asyncio.Future[SerialLine]") -> None:
    """Close a port that was opened for somebody who no longer waits."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _open_serial(port: str, baud: int, framing: str) -> SerialLine:
    import serial  # noqa: PLC0415 - only for sites that have serial ports

    with _translated(f"open {port}", _PLUG_HINT):
        pseudo = is_pseudo(port)
        shape = _framing(_PTY_FRAMING if pseudo else framing)
        opened = serial.Serial(port, baud, timeout=0, write_timeout=0, exclusive=True, **shape)
        with contextlib.ExitStack() as unfinished:
            unfinished.callback(opened.close)
            _refine(opened.fileno())
            line = SerialLine(port, opened, pseudo=pseudo)
            unfinished.pop_all()
        return line


def is_pseudo(port: str) -> bool:
    """Whether a port is a pseudo terminal, which takes no other framing than 8N1. Raises ``OSError``."""
    found = Path(port).stat()
    if not stat.S_ISCHR(found.st_mode):
        raise OSError(errno.ENOTTY, "this is no serial port")
    return os.major(found.st_rdev) in _PTY_MAJORS


def _framing(framing: str) -> dict[str, object]:
    return {"bytesize": int(framing[0]), "parity": framing[1], "stopbits": int(framing[2:])}


def _refine(fd: int) -> None:
    """What pyserial leaves out: a byte whose parity is wrong is read as NUL, and only a hang-up is an end of file."""
    settings = termios.tcgetattr(fd)
    if settings[_CFLAG] & termios.PARENB:
        settings[_IFLAG] |= termios.INPCK
    settings[_CC][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, settings)


@contextlib.contextmanager
def _translated(op: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (OSError, termios.error) as error:
        raise _translate(op, error, hint) from error
    except ValueError as error:
        raise Unsupported(op, str(error), "write a speed and a framing that this port can have") from error


def _translate(op: str, error: Exception, hint: str) -> DeviceError:
    number = _number(error) or _number(error.__context__)  # pyserial hides some in a text
    if number is None:
        return Unavailable(op, str(error) or type(error).__name__, hint)
    if number == errno.EINVAL and isinstance(error, termios.error):
        return Unsupported(op, "the port refuses this speed or framing", "write ones that this port can have")
    return Unavailable(op, os.strerror(number), _HINTS.get(number, hint))


def _number(error: BaseException | None) -> int | None:
    """The system's number of an error."""
    return error.args[0] if error is not None and error.args and isinstance(error.args[0], int) else None


def _address(port: str) -> tuple[str, int]:
    parts = urlsplit(port)
    if parts.scheme != _SCHEME or not parts.hostname or not parts.port or parts.path not in {"", "/"} or parts.query:
        raise ValueError("this is no address of a serial server")
    return parts.hostname, parts.port


async def _connect(port: str) -> SocketLine:
    op = f"open {port}"
    loop = asyncio.get_running_loop()
    failure: DeviceError = Unavailable(op, "the name has no address", _NET_HINT)
    try:
        host, number = _address(port)
        found = await loop.getaddrinfo(host, number, type=socket.SOCK_STREAM)
    except ValueError as error:
        raise Unsupported(op, str(error), "write socket://10.0.0.9:4001") from error
    except OSError as error:
        raise Unavailable(op, error.strerror or str(error), _NET_HINT) from error
    for family, kind, protocol, _, address in found:
        with contextlib.ExitStack() as unfinished:
            connection = unfinished.enter_context(socket.socket(family, kind, protocol))
            try:
                connection.setblocking(False)
                _keep_alive(connection)
                async with asyncio.timeout(CONNECT_S):
                    await loop.sock_connect(connection, address)
            except TimeoutError:
                failure = Unavailable(op, f"no answer within {CONNECT_S:.0f} s", _NET_HINT)
            except OSError as error:
                failure = _translate(op, error, _NET_HINT)
            else:
                line = SocketLine(port, connection)
                unfinished.pop_all()
                return line
    raise failure


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS),
    ):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
