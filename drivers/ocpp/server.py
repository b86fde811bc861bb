"""The port at which chargers call: handshakes, who comes in, and one connection for each charger.

Rules of this file:

1. Nothing is trusted before the gatekeeper has decided; nothing of a handshake costs much before that. All handshakes
   together are bounded (``door.py``), and so is each one in time.
2. A refusal says why in its text, and in its status: 400 no version in common, 401 credentials, 404 unknown (or no
   such path), 403 refused otherwise, 409 connected already, 429 too often, 503 too many.
3. There is one connection for each identity. A second one with the same credential takes over, for chargers often
   lose a connection without a word; without a credential, the first one stays for as long as it answers a ping.
4. A peer is told of connections in order: attached, detached, attached.
5. Who connects again and again gains nothing by it: what it may send goes on from the connection before, and beyond
   some connections it is turned away at once. Only connections that came in count: a wrong password locks nobody out.
   Who waits to be adopted is counted by address, for it may call itself anything.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event
from websockets.typing import Subprotocol

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from drivers.codec.ocpp_frame import MAX_BYTES
from drivers.codec.ocpp_model import Entry, Version
from drivers.ocpp import handshake
from drivers.ocpp.door import Door
from drivers.ocpp.link import LinkLimits, WsLink
from drivers.ocpp.ports import Decision, Gatekeeper, Knock, Peer
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import TLS_FROM, CentralSettings
from drivers.ocpp.throttle import Budget, Throttle, network

log = logging.getLogger(__name__)

TICK_S = 1.0
#: Pings, pongs and parts of messages that a connection may send in a tick; real chargers send a few.
MAX_EXTRAS = 1000
CLOSE_S = 2.0
#: When all are closed, for the port is: who has not said goodbye by then is cut off, or there is no time for the rest.
SHUT_S = 1.0
#: A connection that is replaced has ended within this time.
LEAVE_S = 5.0
#: How long a connection may take to show that it lives when another one wants its place.
ALIVE_S = 5.0
BACKLOG = 256
GOING_AWAY, POLICY = 1001, 1008
TOO_OFTEN = 429
#: Seconds until one who came too often should try again: long enough for some connections.
RETRY_AFTER_S = 10
REALM = 'Basic realm="ocpp", charset="UTF-8"'
_PROTOCOLS = "Sec-WebSocket-Protocol"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What all connections together may take."""

    connections: int = 1024
    handshake_s: float = 10.0
    half_open: int = 512
    half_open_each: int = 256  #: from one address: a whole site may stand behind one
    arrivals: tuple[int, float] = (20, 2.0)  #: connections of a charger: so many at once, then one each so many seconds
    strangers: tuple[int, float] = (256, 0.25)  #: the same for all that wait at one address
    max_bytes: int = MAX_BYTES
    link: LinkLimits = field(default_factory=LinkLimits)


@dataclass(frozen=True, slots=True)
class _Entrance:
    """What was decided at the handshake."""

    knock: Knock
    decision: Decision
    peer: Peer
    version: Version

    @property
    def payer(self) -> Hashable:
        """Whose budget its frames take from."""
        adopted = self.decision.entry is Entry.ADOPTED
        return (True, self.knock.identity) if adopted else (False, network(self.knock.address))


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    """It does not come in."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Connection(ServerConnection):
    """``extras`` counts frames that are no message: pings, and parts of messages. Links never see them."""

    entrance: _Entrance | None = None
    extras = 0

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode not in {Opcode.TEXT, Opcode.BINARY}:
            self.extras += 1
            if self.extras > MAX_EXTRAS:
                self.transport.abort()
        super().process_event(event)


@dataclass(frozen=True, slots=True)
class _Seat:
    """Who is connected under an identity. ``task`` ends after the peer was told so."""

    link: WsLink
    credential: str
    task: asyncio.Task[object]


class OcppServer:
    """The local central system's port. ``count`` gets what happens on it, as a ``Sink`` does."""

    def __init__(
        self,
        central: CentralSettings,
        gatekeeper: Gatekeeper,
        clock: Clock,
        count: Callable[[str, int], None],
        limits: ServerLimits | None = None,
    ) -> None:
        self._central = central
        self._gatekeeper = gatekeeper
        self._clock = clock
        self._count = count
        self._limits = limits or ServerLimits()
        self._arrivals = Throttle(clock, *self._limits.arrivals)
        self._strangers = Throttle(clock, *self._limits.strangers)
        self._budgets: dict[Hashable, Budget] = {}  #: the longest unused first
        self._schemas = Schemas()
        self._told: set[str] = set()
        self._seats: dict[str, _Seat] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._door: Door | None = None
        self._listening = asyncio.Event()
        self.shown_s = 0.0  #: when its loop last went round

    async def prepare(self, version: Version) -> None:
        """Have ready what chargers of this version usually say, without holding up the others. Cancel as you like."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "schemas")  # one, for each that compiles keeps some MB that it needed for that
        try:
            for form in self._schemas.usual(version):
                await loop.run_in_executor(thread, self._schemas.prepare, form)
        finally:
            thread.shutdown(wait=False)

    @property
    def port(self) -> int:
        """The port that is open; 0 before."""
        return 0 if self._door is None else int(self._door.getsockname()[1])

    async def opened(self) -> int:
        """Wait until the port is open; which one it is."""
        await self._listening.wait()
        return self.port

    async def run(self) -> None:
        """Serve until cancelled. Raises ``Unavailable`` when the port can't be opened or a certificate not be read."""
        endpoint = self._central.endpoint
        context = None
        if endpoint.profile >= TLS_FROM:
            from drivers.ocpp.tls import server_context  # noqa: PLC0415 - cryptography, for sites that need it

            context = await asyncio.to_thread(server_context, endpoint, self._central.data_dir, self._clock)
        door = await self._open()
        try:
            server = await self._serve_on(door, context)
        except OSError as error:
            door.close()
            raise self._unavailable(error) from error
        self._door = door
        self._listening.set()
        log.info("OCPP: listening on %s port %d", endpoint.host, self.port)
        if endpoint.legacy_tls:
            log.warning("OCPP: %s also takes cipher suites without forward secrecy (legacy_tls)", endpoint.name)
        try:
            while True:
                await self._clock.sleep_s(TICK_S)
                self.shown_s = self._clock.monotonic_s()
                door.dismiss(self._limits.handshake_s - TICK_S)
                for connection in server.connections:
                    if isinstance(connection, _Connection):
                        connection.extras = 0
        finally:
            self._listening.clear()
            self._door = None
            await self._shut(server, door)

    async def _open(self) -> Door:
        endpoint, limits = self._central.endpoint, self._limits
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            address = min(found, key=lambda one: one[0] != socket.AF_INET)[4]
            return Door(address, self._clock, self._count, total=limits.half_open, each=limits.half_open_each)
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> Unavailable:
        hint = "is another program on this port, and is the address one of this machine?"
        return Unavailable(f"listen on {self._central.endpoint.name}", error.strerror or str(error), hint)

    async def _serve_on(self, door: Door, context: ssl.SSLContext | None) -> Server:
        return await serve(
            self._serve,
            sock=door,
            ssl=context,
            backlog=BACKLOG,
            create_connection=_Connection,
            process_request=self._knock,
            select_subprotocol=_only,
            server_header=None,
            open_timeout=self._limits.handshake_s,
            ping_interval=None,  # links do that themselves, each in its own time
            close_timeout=CLOSE_S,
            max_size=self._limits.max_bytes,
            logger=_library_logger(),
        )

    # The handshake

    async def _knock(self, connection: ServerConnection, request: Request) -> Response | None:
        """What is answered instead of letting it in; None: it comes in."""
        assert isinstance(connection, _Connection)  # noqa: S101 - made so above
        try:
            knock = self._read(connection, request)
            connection.entrance, chosen = await self._decide(knock)
        except _Refused as refusal:
            self._count(f"refused.{refusal.status}", 1)
            response = connection.respond(refusal.status, f"{refusal}\n")
            if refusal.status == 401:  # noqa: PLR2004 - unauthorized
                response.headers["WWW-Authenticate"] = REALM
            elif refusal.status == TOO_OFTEN:
                response.headers["Retry-After"] = str(RETRY_AFTER_S)
            return response
        if "Upgrade" in request.headers and "Connection" not in request.headers:
            request.headers["Connection"] = "Upgrade"  # some leave it out (lbbrhzn#1933, Autel MaxiCharger)
        if _PROTOCOLS in request.headers:
            del request.headers[_PROTOCOLS]
        if chosen is not None:
            request.headers[_PROTOCOLS] = chosen
        return None

    def _read(self, connection: ServerConnection, request: Request) -> Knock:
        name = handshake.identity(request.path)
        if name is None:
            raise _Refused(404, "The URL of a charger is /ocpp/ and its id.")
        knock = Knock(
            identity=name,
            address=_shown(connection.remote_address),
            profile=self._central.endpoint.profile,
            user=None,
            password=None,
            certificate_cn=_common_name(connection),
            subprotocols=handshake.offered(request.headers.get_all(_PROTOCOLS)),
            headers=handshake.shown(request.headers.raw_items()),
        )
        if not self._arrivals.allows(name):
            raise self._too_often(knock)
        if len(self._seats) >= self._limits.connections and name not in self._seats:
            raise self._turned_away(knock, "too_many_connections", 503, "Too many connections.")
        try:
            proof = handshake.basic(",".join(request.headers.get_all("Authorization")) or None, name)
        except ValueError as error:
            raise self._turned_away(knock, "bad_authorization", 401, f"Authorization: {error}.") from error
        if proof is None:
            return knock
        if proof[0] != name:
            raise self._turned_away(knock, "wrong_user", 401, "The user must be the charger's id.")
        return replace(knock, user=proof[0], password=proof[1])

    def _turned_away(self, knock: Knock, reason: str, status: int, text: str) -> _Refused:
        """A refusal of the port's own, which the gatekeeper tells as it tells its own."""
        self._gatekeeper.refused(knock, reason)
        return _Refused(status, text)

    def _too_often(self, knock: Knock) -> _Refused:
        return self._turned_away(knock, "too_often", TOO_OFTEN, f"Too many connections: wait {RETRY_AFTER_S} s.")

    async def _decide(self, knock: Knock) -> tuple[_Entrance, str | None]:
        """Who comes in, and the subprotocol to answer with."""
        decision = await self._gatekeeper.decide(knock)
        if decision.entry is Entry.REFUSED or decision.peer is None:
            raise _Refused(decision.status, decision.reason or "refused")
        without = self._central.without_subprotocol
        version, chosen, trouble = handshake.choose(knock.subprotocols, decision.version, without)
        if version is None:
            raise self._turned_away(knock, "no_version", 400, trouble)
        if not await self._free(knock, decision):
            raise self._turned_away(knock, "connected_already", 409, "This charger is connected already.")
        adopted = decision.entry is Entry.ADOPTED
        if not (self._arrivals.take(knock.identity) if adopted else self._strangers.take(network(knock.address))):
            raise self._too_often(knock)
        return _Entrance(knock, decision, decision.peer, version), chosen

    async def _free(self, knock: Knock, decision: Decision) -> bool:
        """Whether it may take the place of its identity; the one that has it leaves when it has come in."""
        seat = self._seats.get(knock.identity)
        if seat is None:
            return True
        self._count("duplicate", 1)
        if decision.credential and decision.credential == seat.credential:
            return True
        return not await seat.link.answers(ALIVE_S)

    # A connection

    async def _serve(self, connection: ServerConnection) -> None:
        entrance = connection.entrance if isinstance(connection, _Connection) else None
        task = asyncio.current_task()
        if entrance is None or task is None:
            return  # can't be: it came in by `_knock`
        if self._door is not None:
            self._door.through(connection.remote_address)
        self._tasks.add(task)
        try:
            await self._seated(connection, entrance, task)
        finally:
            self._tasks.discard(task)

    async def _seated(self, connection: ServerConnection, entrance: _Entrance, task: asyncio.Task[object]) -> None:
        knock, decision, peer = entrance.knock, entrance.decision, entrance.peer
        while (seat := self._seats.get(knock.identity)) is not None:
            await self._replace(seat)
        link = WsLink(
            connection,
            knock.identity,
            entrance.version,
            knock.address,
            self._clock,
            self._schemas,
            self._count,
            call_timeout_s=self._central.call_timeout_s,
            ping_s=self._central.ping_s,
            limits=self._limits.link,
            told=self._told,
            budget=self._budget(entrance.payer),
        )
        self._seats[knock.identity] = _Seat(link, decision.credential, task)
        self._count("connected", 1)
        self._gatekeeper.connected(knock, decision, entrance.version)
        try:
            peer.attach(link)
            await link.run(peer)
        finally:
            del self._seats[knock.identity]
            peer.detach(link)

    def _budget(self, payer: Hashable) -> Budget:
        """What it may send, on all its connections."""
        limits = self._limits.link
        budget = self._budgets.pop(payer, None) or Budget(self._clock, limits.burst, limits.rate_per_s)
        if len(self._budgets) >= self._limits.connections:
            del self._budgets[next(iter(self._budgets))]
        self._budgets[payer] = budget
        return budget

    async def _replace(self, seat: _Seat) -> None:
        await seat.link.close(POLICY, "replaced by a new connection")
        _, pending = await asyncio.wait({seat.task}, timeout=LEAVE_S)
        for task in pending:
            task.cancel()
        await asyncio.wait({seat.task})

    async def _shut(self, server: Server, door: Door) -> None:
        """Close everything, within some seconds."""
        door.dismiss(0.0)
        connections = list(server.connections)  # it does not list those that are closing
        server.close()  # all that is open, with 1001
        closing: asyncio.Future[None] = asyncio.ensure_future(server.wait_closed())
        await asyncio.wait({closing}, timeout=SHUT_S)
        for task in self._tasks:
            task.cancel()
        for connection in connections:
            connection.transport.abort()
        await asyncio.wait({closing}, timeout=CLOSE_S)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)


def _only(_: ServerConnection, names: Sequence[Subprotocol]) -> Subprotocol | None:
    """The one that ``_knock`` left in the request."""
    return names[0] if names else None


def _shown(address: object) -> str:
    host, port = (*address, 0)[:2] if isinstance(address, tuple) else (str(address), 0)
    host = str(host).removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _common_name(connection: ServerConnection) -> str | None:
    """Of the client's certificate, which the handshake of TLS has verified."""
    certificate = connection.transport.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else None


def _library_logger() -> logging.Logger:
    """What the library says: only its own faults are news, and those of chargers are counted elsewhere."""
    logger = logging.getLogger(f"{__name__}.websockets")
    logger.setLevel(logging.WARNING)
    logger.addFilter(_is_news)
    return logger


def _is_news(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, WebSocketException | OSError | EOFError)
