"""Turns of paho's network loop, with poll(2): its own loop uses select(2), which fails on descriptors from 1024 on.

A gateway of a thousand chargers has them, and select's failure looked like a broker that closes each connection.
"""

import contextlib
import select
import socket
import ssl

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode

_COMES = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Turns:
    """Waits for what there is to read or to write. ``wake`` may be called on any thread; the rest on one."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)

    def close(self) -> None:
        """Close what ``wake`` writes into."""
        self._near.close()
        self._far.close()

    def wake(self, *_args: object) -> None:
        """There is something to write: end the wait. Does nothing after ``close``."""
        with contextlib.suppress(OSError):  # full: it wakes up anyway
            self._far.send(b"\0")

    def turn(self, client: paho.Client, sock: "paho.SocketLike", seconds: float) -> MQTTErrorCode:
        """Wait that long at most, and read and write what can be. Raises nothing of the network's."""
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        poll.register(self._near, select.POLLIN)
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        events = dict(poll.poll(0 if pending else seconds * 1000))
        if self._near.fileno() in events:
            with contextlib.suppress(BlockingIOError):
                self._near.recv(4096)
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        if pending or events.get(sock.fileno(), 0) & _COMES:
            code = client.loop_read()
        if code == MQTTErrorCode.MQTT_ERR_SUCCESS and client.socket() is not None and client.want_write():
            code = client.loop_write()
        if code == MQTTErrorCode.MQTT_ERR_SUCCESS:
            code = client.loop_misc()
        return code
