"""Opening lines: what serial ports and serial servers give, and what their faults become."""

import asyncio
import errno
import os
import socket
import termios
from collections.abc import Coroutine
from pathlib import Path

import pytest

from agent.core.errors import ConfigError, Unavailable, Unsupported
from drivers import line
from drivers.line import Line, check_port, open_line
from tests.ptys import Pty

PATIENCE_S = 60.0


@pytest.fixture
def pty(tmp_path: Path) -> Pty:
    return Pty(tmp_path / "usb-adapter")


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


async def read(opened: Line, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await asyncio.wait_for(opened.read(), PATIENCE_S)
    return data


def test_bytes_go_both_ways_and_all_values_of_a_byte_pass(pty: Pty) -> None:
    async def check() -> None:
        opened = await open_line(str(pty.path), 9600, "8N1")
        every = bytes(range(256))
        pty.send(every)
        assert await read(opened, 256) == every
        await opened.write(every)
        assert pty.take() == every
        opened.close()
        opened.close()

    run(check())
    pty.close()


def test_what_came_before_it_was_opened_is_thrown_away_and_so_is_what_is_drained(pty: Pty) -> None:
    async def check() -> None:
        pty.send(b"old")
        opened = await open_line(str(pty.path), 300, "7E1")
        pty.send(b"late")
        assert opened.drain() == 4
        assert opened.drain() == 0
        pty.send(b"new")
        assert await read(opened, 3) == b"new"
        opened.close()

    run(check())
    pty.close()


def test_a_cancelled_read_loses_nothing(pty: Pty) -> None:
    async def check() -> None:
        opened = await open_line(str(pty.path), 9600, "8N1")
        for byte in (b"x", b"y", b"z"):
            waiting = asyncio.create_task(opened.read())
            await asyncio.sleep(0.005)
            pty.send(byte)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled()
            assert await read(opened, 1) == byte
        opened.close()

    run(check())
    pty.close()


def test_the_speed_changes_while_it_is_open(pty: Pty) -> None:
    async def check() -> None:
        opened = await open_line(str(pty.path), 300, "7E1")
        await opened.set_line(9600, "7E1")
        assert termios.tcgetattr(opened._fd)[4] == termios.B9600
        pty.send(b"fast")
        assert await read(opened, 4) == b"fast"
        with pytest.raises(Unsupported, match="7E1"):
            await opened.set_line(-5, "7E1")
        opened.close()

    run(check())
    pty.close()


def test_a_byte_with_a_wrong_parity_is_marked(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pty has no parity: what is asked of the kernel is looked at."""
    asked: list[int] = []
    settings = termios.tcgetattr(os.open(pty.node, os.O_RDWR | os.O_NOCTTY))
    settings[2] |= termios.PARENB
    monkeypatch.setattr(termios, "tcgetattr", lambda _: settings)
    monkeypatch.setattr(termios, "tcsetattr", lambda _fd, _when, given: asked.append(given[0]))
    line._refine(99)
    assert asked == [settings[0]]
    assert asked[0] & termios.INPCK
    pty.close()


def test_a_pulled_adapter_is_unavailable_for_all_that_is_done(pty: Pty) -> None:
    async def check() -> None:
        opened = await open_line(str(pty.path), 9600, "8N1")
        waiting = asyncio.create_task(opened.read())
        await asyncio.sleep(0.01)
        pty.unplug()
        with pytest.raises(Unavailable, match="usb-adapter") as caught:
            await asyncio.wait_for(waiting, PATIENCE_S)
        assert "plugged in" in caught.value.hint
        for action in (opened.drain, opened.check):
            with pytest.raises(Unavailable):
                action()
        with pytest.raises(Unavailable):
            await opened.write(b"?")
        opened.close()

    run(check())


def test_a_link_that_points_elsewhere_now_is_noticed(pty: Pty, tmp_path: Path) -> None:
    other = Pty(tmp_path / "other")

    async def check() -> None:
        opened = await open_line(str(pty.path), 9600, "8N1")
        opened.check()
        pty.link(other.node)
        with pytest.raises(Unavailable, match="anew"):
            opened.check()
        pty.path.unlink()
        with pytest.raises(Unavailable, match="No such file"):
            opened.check()
        opened.close()

    run(check())
    pty.close()
    other.close()


def test_a_port_belongs_to_one(pty: Pty) -> None:
    async def check() -> None:
        opened = await open_line(str(pty.path), 9600, "8N1")
        with pytest.raises(Unavailable) as caught:
            await open_line(str(pty.path), 9600, "8N1")
        assert "another program" in caught.value.hint
        opened.close()
        again = await open_line(str(pty.path), 9600, "8N1")
        again.close()

    run(check())
    pty.close()


def test_ports_that_can_not_be_opened_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    async def hint(port: str) -> str:
        with pytest.raises(Unavailable) as caught:
            await open_line(port, 9600, "8N1")
        assert port in str(caught.value)
        return caught.value.hint

    async def check() -> None:
        assert "/dev/serial/by-id" in await hint(str(tmp_path / "none"))
        assert "path of a serial port" in await hint(str(tmp_path / "file"))
        assert "path of a serial port" in await hint("/dev/null")
        assert "switched on" in await hint("socket://no-such-host.invalid:1")
        with socket.create_server(("127.0.0.1", 0)) as server:
            free = server.getsockname()[1]
        assert "serial server's port" in await hint(f"socket://127.0.0.1:{free}")

    run(check())


@pytest.mark.parametrize(
    ("number", "wanted"),
    # The kernel's own right to a file; and a kind of device that the service's unit does not list (a control group).
    [(errno.EACCES, "group dialout"), (errno.EPERM, "DeviceAllow")],
)
def test_a_missing_permission_names_who_gives_it(
    number: int, wanted: str, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(number, os.strerror(number))

    async def check() -> None:
        with pytest.raises(Unavailable, match=os.strerror(number)) as caught:
            await open_line(str(pty.path), 9600, "8N1")
        assert wanted in caught.value.hint

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    run(check())
    pty.close()


def test_a_speed_that_no_port_has_is_unsupported(pty: Pty) -> None:
    async def check() -> None:
        with pytest.raises(Unsupported):
            await open_line(str(pty.path), -1, "8N1")

    run(check())
    pty.close()


def test_a_port_that_opens_too_late_is_closed(pty: Pty) -> None:
    async def check() -> None:
        opening = asyncio.create_task(open_line(str(pty.path), 9600, "8N1"))
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert opening.cancelled()
        give_up = asyncio.get_running_loop().time() + PATIENCE_S
        while True:  # the thread that opens it can't be cancelled: it is free once it was closed
            try:
                opened = await open_line(str(pty.path), 9600, "8N1")
            except Unavailable:
                assert asyncio.get_running_loop().time() < give_up
                await asyncio.sleep(0.01)
            else:
                break
        opened.close()

    run(check())
    pty.close()


def test_a_serial_server_gives_bytes_until_it_hangs_up() -> None:
    async def check() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        opened = await open_line(f"socket://127.0.0.1:{server.getsockname()[1]}", 2400, "8E1")
        peer, _ = server.accept()
        peer.sendall(b"abc")
        assert await read(opened, 3) == b"abc"
        await opened.write(b"question")
        assert peer.recv(100) == b"question"
        await opened.set_line(300, "7E1")
        opened.check()
        assert opened.fixed
        with socket.socket(fileno=os.dup(opened._fd)) as looked_at:
            assert looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        peer.close()
        with pytest.raises(Unavailable, match="the other end is gone"):
            await asyncio.wait_for(opened.read(), PATIENCE_S)
        opened.close()
        opened.close()
        with pytest.raises(Unavailable, match="closed"):
            await opened.read()
        server.close()

    run(check())


def test_a_serial_server_that_resets_is_unavailable() -> None:
    async def check() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        opened = await open_line(f"socket://127.0.0.1:{server.getsockname()[1]}", 2400, "8E1")
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(opened.read(), PATIENCE_S)
        opened.close()
        server.close()

    run(check())


def test_a_full_line_waits_for_room_and_a_flooded_one_is_not_drained_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        opened = await open_line(f"socket://127.0.0.1:{server.getsockname()[1]}", 2400, "8E1")
        peer, _ = server.accept()
        peer.setblocking(False)
        much = bytes(8 << 20)
        writing = asyncio.create_task(opened.write(much))
        loop = asyncio.get_running_loop()
        taken = 0
        while taken < len(much):
            taken += len(await asyncio.wait_for(loop.sock_recv(peer, 1 << 20), PATIENCE_S))
        await writing
        monkeypatch.setattr(line, "MAX_DRAIN", 100)
        await loop.sock_sendall(peer, bytes(2 * line.CHUNK))
        await asyncio.sleep(0.05)
        assert opened.drain() < 2 * line.CHUNK
        peer.close()
        opened.close()
        server.close()

    run(check())


@pytest.mark.parametrize(
    "port", ["socket://", "socket://host", "socket://host:99999", "socket://h:1/path", "tcp://h:1"]
)
def test_an_address_that_is_none_is_an_error_of_the_configuration(port: str) -> None:
    with pytest.raises(ConfigError):
        check_port(port)

    async def check() -> None:
        with pytest.raises(Unsupported):
            await open_line(port, 9600, "8N1")

    run(check())


def test_addresses_that_are_some() -> None:
    for port in ("/dev/ttyUSB0", "socket://meter.example:4001", "socket://[::1]:4001"):
        check_port(port)
