"""The embedded HTTP server: uvicorn as a task of our own event loop.

Rules of this file:

1. The process's signals belong to the composition root: uvicorn's handlers are never installed.
2. It listens on the loopback only, whatever is configured, until authentication exists. That is said once.
3. It stops within ``STOP_S``, open event streams or not.
4. The socket is opened by us, so that a taken port is an ``Unavailable`` that the supervisor retries, and so that the
   address is known when port 0 took a free one.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator

import uvicorn

from agent.api.app import create_app
from agent.api.live import LiveStreams
from agent.api.view import GatewayView
from agent.core.clock import Clock
from agent.core.errors import Unavailable

logger = logging.getLogger(__name__)

STOP_S = 1
DRAIN_S = 0.6
MAX_CONNECTIONS = 100
KEEP_ALIVE_S = 20
BACKLOG = 128

_LOOPBACK = "127.0.0.1"


class ApiServer:
    """``run`` is a part for the supervisor. ``host`` and ``port`` are the configured ones."""

    def __init__(self, view: GatewayView, clock: Clock, host: str, port: int) -> None:
        self._view = view
        self._clock = clock
        self._host = loopback_of(host)
        self._port = port
        self.address: tuple[str, int] | None = None  #: where it listens now; None while it does not
        if self._host != host:
            logger.warning(
                "api: listens on %s instead of %s: other machines are let in when there is authentication",
                self._host,
                host,
            )

    @property
    def url(self) -> str:
        """Where people find it; empty while it does not listen."""
        if self.address is None:
            return ""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run(self) -> None:
        """Listen and serve until cancelled. Raises ``Unavailable`` when the port is taken."""
        live = LiveStreams(self._view, self._clock)
        app = create_app(self._view, self._clock, live=live)
        # Only errors: a broken request of some client is no warning of ours.
        config = uvicorn.Config(
            app,
            loop="none",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            backlog=BACKLOG,
        )
        server = _Server(config)
        with self._listen() as listening:
            serving = asyncio.create_task(server.serve(sockets=[listening]), name="uvicorn")
            try:
                await asyncio.shield(serving)
            finally:
                self.address = None
                live.close()
                server.should_exit = True
                await self._drain(server, serving)
                await serving

    async def _drain(self, server: "_Server", serving: "asyncio.Task[None]") -> None:
        """Give open answers a moment, then cut those whose client does not read: uvicorn would log a traceback each."""
        moment = asyncio.ensure_future(self._clock.sleep_s(DRAIN_S))
        await asyncio.wait({moment, serving}, return_when=asyncio.FIRST_COMPLETED)
        moment.cancel()
        await asyncio.gather(moment, return_exceptions=True)
        server.cut()

    @contextlib.contextmanager
    def _listen(self) -> Iterator[socket.socket]:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an ACK.
        with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((self._host, self._port))
                listening.listen(BACKLOG)
            except OSError as error:
                raise Unavailable(
                    f"listen on {self._host}:{self._port}",
                    error.strerror or str(error),
                    "is another program there? api.listen sets the port, 0 takes a free one",
                ) from error
            listening.setblocking(False)
            host, port = listening.getsockname()[:2]
            # After a restart the old address stays: people have it open.
            self._port = port
            self.address = (host, port)
            logger.info("api: %s", self.url)
            yield listening


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGINT and SIGTERM to the composition root."""
        yield

    def cut(self) -> None:
        """Close all connections, whatever they were doing."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def loopback_of(host: str) -> str:
    """The host itself when it is of the loopback, otherwise 127.0.0.1."""
    if host == "localhost":
        return _LOOPBACK
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return _LOOPBACK
    return str(address) if address.is_loopback else _LOOPBACK
