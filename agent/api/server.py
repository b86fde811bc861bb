"""The embedded HTTP server: uvicorn as a task of our own event loop.

Rules of this file:

1. The process's signals belong to the composition root: uvicorn's handlers are never installed.
2. While there is no admin, each start makes a one-time code for set-up and says it to who reads the log or the
   terminal; at whatever level is logged, for without it nobody gets in.
3. It stops within ``STOP_S``, open event streams or not.
4. A client that keeps us waiting is cut (``connections.py``): there are few places, and of one address fewer
   (``door.py``).
5. The socket is opened by us, so that a taken port is an ``Unavailable`` that the supervisor retries, and so that the
   address is known when port 0 took a free one.
6. With certificates it speaks TLS, and takes new ones without a restart: open connections go on.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.api import lean_fastapi  # noqa: F401 - before all that loads FastAPI
from agent.api.app import create_app
from agent.api.auth import Auth
from agent.api.connections import DEFAULT_PATIENCE, Sweep
from agent.api.door import Door, redirect
from agent.api.guard import Guard
from agent.api.live import LiveStreams
from agent.api.passwords import Passwords
from agent.api.public_routes import Published
from agent.api.view import GatewayView, SitePorts
from agent.config_api import is_loopback
from agent.core.clock import Clock
from agent.core.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from agent.api.tls import Certificates

logger = logging.getLogger(__name__)

STOP_S = 1
DRAIN_S = 0.6
MAX_CONNECTIONS = 100
KEEP_ALIVE_S = 20
#: How often changes of the users beside us are looked for.
LOOK_S = 1.0
CERTIFICATES_S = 60.0
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Face:
    """How it is met: by TLS only where there are certificates; ``contact`` is told of weak spots, as a URI."""

    certificates: "Certificates | None" = None
    contact: str = ""


class ApiServer:
    """``run`` is a part for the supervisor. ``host`` and ``port`` are the configured ones.

    ``data_dir`` is where users stand, ``ports`` is through what it acts.
    """

    def __init__(
        self,
        view: GatewayView,
        clock: Clock,
        host: str,
        port: int,
        data_dir: Path,
        ports: SitePorts | None = None,
        *,
        face: Face | None = None,
        passwords: Passwords | None = None,
    ) -> None:
        self.patience = DEFAULT_PATIENCE  #: with slow clients, from the next ``run`` on
        self._view = view
        self._clock = clock
        self._host = host.removeprefix("[").removesuffix("]")
        self._port = port
        self._data_dir = data_dir
        self._ports = ports or SitePorts()
        self._passwords = passwords
        face = face or Face()
        self._certificates = face.certificates
        self._contact = face.contact
        self._stale = ""  #: why the certificate could not be renewed or read again
        self.address: tuple[str, int] | None = None  #: where it listens now; None while it does not

    @property
    def url(self) -> str:
        """Where people find it; empty while it does not listen."""
        if self.address is None:
            return ""
        host, port = self.address
        scheme = "http" if self._certificates is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def run(self) -> None:
        """Listen and serve until cancelled. Raises ``Unavailable`` when the port is taken, or the certificate bad."""
        if self._certificates is not None:
            await asyncio.to_thread(self._certificates.look)
        feed = self._ports.feed
        live = LiveStreams(self._view, self._clock, (lambda: feed.newest("event")) if feed else (lambda: 0))
        auth = await asyncio.to_thread(Auth, self._data_dir, self._clock, self._ports.record, self._passwords)
        local = is_loopback(self._host)
        hosts: set[str] = set() if local else _own_names()
        app = create_app(
            self._view,
            self._clock,
            auth,
            self._ports,
            hosts=hosts,
            any_address=not local,
            live=live,
            published=self._published(),
        )
        config = _config(app)
        plain = _config(Guard(redirect, hosts, any_address=not local, admit=auth.admit))
        server = _Server(config)
        inside, outside = partial(server.protocol, config), partial(server.protocol, plain)
        door = Door(self._clock, server.connections, inside, outside, self._tls)
        with self._listen() as listening:
            # The code before the address: who waits for that one to be told (the demo) has both then.
            self._offer_set_up(auth)
            self._tell_address()
            serving = asyncio.create_task(server.serve(sockets=[]), name="uvicorn")
            sweep = Sweep(server.connections, self._clock, self.patience)
            beside: asyncio.Future[Any] = asyncio.gather(
                door.run(listening),
                sweep.run(),
                self._tell_changes(auth),
                self._mind_certificates(),
                app.state.log_level.run(),
            )
            both: set[asyncio.Future[Any]] = {serving, beside}
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if beside.done():
                    await beside  # a bug of ours: the supervisor tells it, and begins anew
            finally:
                beside.cancel()
                self.address = None
                live.close()
                server.should_exit = True
                await self._drain(server, serving)
                await serving
                await asyncio.gather(beside, return_exceptions=True)

    def _published(self) -> Published:
        one = self._certificates
        if one is None:
            return Published(self._contact)
        return Published(self._contact, lambda: one.authority_pem, always_tls=one.own is not None)

    def _tls(self) -> ssl.SSLContext | None:
        return None if self._certificates is None else self._certificates.context

    async def _mind_certificates(self) -> None:
        """Renew ours in time, and read the site's own again when they change; the present ones serve meanwhile."""
        if self._certificates is None:
            return
        while True:
            await self._clock.sleep_s(CERTIFICATES_S)
            try:
                fresh = await asyncio.to_thread(self._certificates.look)
            except Unavailable as error:
                if str(error) != self._stale:
                    logger.warning("api: the certificate that is there stays: %s", error)
                self._stale = str(error)
                continue
            self._stale = ""
            if fresh:
                logger.info("api: new connections get a new certificate")

    async def _tell_changes(self, auth: Auth) -> None:
        """Tell the audit what is changed beside us, as long as we run."""
        if self._ports.notebook is None:
            return
        while True:
            # What the store can't take now is told later: it says itself what ails it.
            with contextlib.suppress(StoreError):
                await auth.tell_changes(self._ports.notebook)
            await self._clock.sleep_s(LOOK_S)

    def _offer_set_up(self, auth: Auth) -> None:
        try:
            if auth.set_up:
                return
        except StoreError as error:
            logger.error("api: nobody can log in: %s", error)  # noqa: TRY400 - no traceback: it says what to do
            return
        text = f"api: there is no admin yet: open {self.url} and set it up with the code {auth.new_code()}"
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", text)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def _tell_address(self) -> None:
        logger.info("api: %s", self.url)
        if self._certificates is not None and self._certificates.fingerprint:
            told = self._certificates.fingerprint
            logger.info("api: this gateway's own authority signed its certificate; SHA-256 %s", told)

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
            yield listening


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGINT and SIGTERM to the composition root."""
        yield

    def protocol(self, config: uvicorn.Config) -> H11Protocol:
        """One more connection, to the application of that configuration."""
        return H11Protocol(config=config, server_state=self.server_state, app_state={})

    def connections(self) -> list[H11Protocol]:
        """Those that are open; ``http="h11"`` makes all of them."""
        return [one for one in self.server_state.connections if isinstance(one, H11Protocol)]

    def cut(self) -> None:
        """Close all connections, whatever they were doing."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def _config(app: ASGIApp) -> uvicorn.Config:
    # Only errors: a broken request of some client is no warning of ours.
    return uvicorn.Config(
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
    )


def _own_names() -> set[str]:
    """What this machine is called: by itself, and by mDNS."""
    name = socket.gethostname().lower()
    return {name, f"{name.partition('.')[0]}.local"}
