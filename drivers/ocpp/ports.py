"""The contracts inside this room: connection, charger, and who decides about entry. Its parts are tested against these.

Server -> gatekeeper: may it come in? Server -> link: one for each connection. Link -> peer: what the charger asks.
Operations, limits and set-up -> link: what we ask the charger; they see the charger as a ``ChargerState``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from drivers.codec.ocpp_model import Boot, Entry, Version
from drivers.ocpp.quirks import Quirks
from drivers.ocpp.settings import CentralSettings, ChargerSettings

Payload = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Call:
    """What a charger asks. ``deviation`` says how the payload breaks its schema; empty when it does not.

    The payload is a JSON object whatever the charger sent; ``text`` is the frame as it came.
    """

    id: str
    action: str
    payload: Payload
    deviation: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A CALLERROR instead of an answer. Codes as 1.6 spells them; the link knows how others do."""

    code: str
    description: str = ""


class Link(Protocol):
    """One open connection to a charger."""

    @property
    def version(self) -> Version:
        """What was agreed on at the handshake."""

    @property
    def identity(self) -> str:
        """The charger's id as in its URL."""

    @property
    def address(self) -> str:
        """From where it calls: ``10.0.0.21:40312``."""

    async def call(self, action: str, payload: Payload, timeout_s: float | None = None) -> Payload:
        """Ask the charger, one question at a time; its answer, which was held against the schema.

        Raises ``NoAnswer`` (not in time), ``Unavailable`` (the connection is gone), ``BadData`` (an answer that is no
        object or lacks what it must have), ``CommandRejected`` (a CALLERROR: ``not_capable`` for NotImplemented and
        NotSupported, otherwise ``device_refused``). A payload that breaks its schema is a bug: ``ValueError``.
        """

    def set_ping(self, seconds: float) -> None:
        """Another ping interval than that of all chargers, from now on."""

    async def close(self, code: int, reason: str) -> None:
        """End the connection; bounded."""


class Peer(Protocol):
    """A charger, adopted or pending, as its connections see it."""

    def attach(self, link: Link) -> None:
        """It has connected; the connection before, if any, was closed."""

    async def handle(self, call: Call) -> Payload | Fault:
        """What it asks is answered: in order, one at a time. Must not raise; is bounded by the link's time-out."""

    def detach(self, link: Link) -> None:
        """This connection has ended. Ignored when another one was attached since."""


@dataclass(frozen=True, slots=True)
class Knock:
    """A handshake: who says to be whom, and how that can be proved."""

    identity: str
    address: str
    profile: int  #: security profile of the port: 0 plain, 1 Basic over plain, 2 Basic over TLS, 3 client certificate
    user: str | None  #: of Basic authentication
    password: bytes | None
    certificate_cn: str | None = None  #: common name of the client certificate, after its chain was verified
    subprotocols: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a knock. ``credential`` names what proved it (same credential = same charger)."""

    entry: Entry
    reason: str = ""
    credential: str = ""
    peer: Peer | None = None  #: set when it may come in
    version: Version | None = None  #: pinned by the configuration
    status: int = 403  #: of HTTP, when refused: 401 wrong or no credentials, 404 unknown, 403 for any other reason


class Gatekeeper(Protocol):
    """Decides who comes in; owns credentials and the list of those who knock."""

    async def decide(self, knock: Knock) -> Decision:
        """Quick: the whole handshake has 10 s."""

    def refused(self, knock: Knock, reason: str) -> None:
        """The port itself turns it away, before the decision or after it; one word."""

    def connected(self, knock: Knock, decision: Decision, version: Version) -> None:
        """It came in."""


class ChargerState(Protocol):
    """What is known of a charger, for those who ask it something. One owner: ``charger.py``."""

    @property
    def settings(self) -> ChargerSettings:
        """As configured."""

    @property
    def central(self) -> CentralSettings:
        """As configured for all chargers."""

    @property
    def quirks(self) -> Quirks:
        """How to deal with this model."""

    @property
    def boot(self) -> Boot | None:
        """Its last BootNotification, remembered over restarts; None before the first."""

    @property
    def link(self) -> Link:
        """The open connection. Raises ``Unavailable`` when there is none."""

    def transaction(self, outlet: int) -> str | None:
        """The running transaction of an outlet as the charger knows it: 1.6 the number in digits; None: none runs."""

    def status(self, outlet: int) -> str | None:
        """The last status of an outlet; None: not told."""

    def tell(self, kind: str, data: Mapping[str, object]) -> None:
        """An event about this charger."""

    async def remember(self, name: str, data: Mapping[str, object] | None) -> None:
        """Keep something of it over restarts (note ``ocpp.{name}``); not kept when the store fails."""

    def remembered(self, name: str) -> Mapping[str, object] | None:
        """What was kept."""
