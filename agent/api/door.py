"""Lets connections in: only so many, in all and of one address, and by TLS where there is a certificate.

Rules of this file:

1. One connection is taken in each turn of the event loop, and what can't have a place is closed unread: opening many
   costs this machine little, and one address can't take the places of all others. This machine itself has no limit of
   its own, for a proxy may run here.
2. Who opens a connection begins within ``HANDSHAKE_S``, or loses the place.
3. On a port with TLS the first byte tells plain HTTP from TLS. Plain requests reach nothing but ``redirect``: people
   who typed the address without ``https://`` get there, programs are told what is wrong.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.api.auth import READING
from agent.api.throttle import site_of
from agent.core.clock import Clock

logger = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
#: A browser opens 6, and each of its tabs one more for the live values.
MAX_OF_ADDRESS = 30
#: Of all. Those above uvicorn's own limit are answered with 503.
MAX_OPEN = 150

_PAUSE_S = 1.0
#: The first byte of every TLS connection: a record of the handshake (RFC 8446, 5.1).
_TLS = b"\x16"


class Door:
    """``run`` lets in who comes to a listening socket.

    ``inside`` makes the protocol of a connection, ``outside`` that of a plain one where ``context`` gives a TLS
    context; without one all are plain. ``connections`` are those that are open.
    """

    def __init__(
        self,
        clock: Clock,
        connections: Callable[[], Iterable[H11Protocol]],
        inside: Callable[[], asyncio.Protocol],
        outside: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext | None],
    ) -> None:
        self.refused = 0  #: connections that got no place
        self._clock = clock
        self._connections = connections
        self._inside = inside
        self._outside = outside
        self._context = context
        self._waiting: dict[asyncio.Task[None], str] = {}  #: those that have not begun yet, and whose they are

    async def run(self, listening: socket.socket) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        failing = False
        try:
            while True:
                try:
                    connection, address = await loop.sock_accept(listening)
                except OSError as error:  # no file descriptor is left, or the client left at once
                    if not failing:
                        logger.warning("api: connections can't be taken: %s", error.strerror or error)
                    failing = True
                    await self._clock.sleep_s(_PAUSE_S)
                    continue
                failing = False
                self._take(connection, site_of(address[0]))
                await asyncio.sleep(0)
        finally:
            for task in self._waiting:
                task.cancel()
            await asyncio.gather(*self._waiting, return_exceptions=True)

    def _take(self, connection: socket.socket, site: str) -> None:
        sites = [*self._waiting.values(), *(site_of(one.client[0]) for one in self._connections() if one.client)]
        if len(sites) >= MAX_OPEN or (site and sites.count(site) >= MAX_OF_ADDRESS):
            self.refused += 1
            connection.close()
            return
        task = asyncio.create_task(self._admit(connection), name="api connection")
        self._waiting[task] = site
        task.add_done_callback(self._waiting.pop)

    async def _admit(self, connection: socket.socket) -> None:
        context = self._context()
        make, tls = self._inside, None
        if context is not None:
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    first = await _first_byte(connection)
            except (OSError, TimeoutError):
                first = b""
            except asyncio.CancelledError:
                connection.close()
                raise
            if not first:
                connection.close()
                return
            make, tls = (self._inside, context) if first == _TLS else (self._outside, None)
        # From here on the connection is the event loop's, which closes it: who speaks no TLS that we do, is gone.
        with contextlib.suppress(OSError):  # ssl.SSLError is one
            await asyncio.get_running_loop().connect_accepted_socket(
                make, connection, ssl=tls, ssl_handshake_timeout=None if tls is None else HANDSHAKE_S
            )


async def _first_byte(connection: socket.socket) -> bytes:
    """The first byte that comes, which stays to be read; empty when the client leaves."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(connection, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


async def redirect(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application for plain requests on a port with TLS; behind ``Guard``, which knows our names."""
    request = Request(scope)
    answer: Response
    if request.method in READING:
        # Not for ever: the certificate may be taken away one day.
        where = str(request.url.replace(scheme="https"))
        answer = Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers={"location": where, "connection": "close"})
    else:
        detail = "this port speaks TLS: send it to https://, and change the password when it was sent like this"
        status = HTTPStatus.BAD_REQUEST
        body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        answer = JSONResponse(body, status, headers={"connection": "close"}, media_type="application/problem+json")
    await answer(scope, receive, send)
