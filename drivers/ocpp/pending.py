"""A charger that nobody has adopted: it is kept waiting, and served nothing but that.

Rules of this file:

1. BootNotification is answered with Pending, so the charger stays connected and tries again (OCPP 1.6 edition 2, 4.2;
   2.0.1 part 2, B02). What it says of itself is shown to those who may adopt it, and goes when it goes.
2. Heartbeat and StatusNotification are answered, for many chargers end a connection on which they are not; nobody may
   charge; everything else is a SecurityError, as B02.FR.09 wants.
3. No transaction is acknowledged, for there is no charger to which it belongs: a record with a number of ours would be
   nobody's. A charger in this state must not send any (1.6, 4.2; B02.FR.02). One that does gets an error: it keeps the
   message, and sends it again some times (1.6, 3.7.1 and TransactionMessageAttempts; 2.0.1, MessageAttempts). Because
   it may then give up, the message is on our disk before the error leaves: event ``charger.unadopted_transaction``.
   Where there is no room for that the connection is closed instead: what was never answered is not given up.
4. Whoever knocks is a stranger: what is remembered is short, and what is written is limited for all of them together.
"""

from datetime import UTC, datetime
from typing import Protocol

from agent.core.clock import Clock
from drivers.codec import ocpp201
from drivers.codec.ocpp_model import Boot, Verdict
from drivers.ocpp.credentials import Sealed
from drivers.ocpp.ports import Call, Fault, Knock, Link, Payload

#: How long the charger waits until it asks again (B02.FR.06: interval).
INTERVAL_S = 60
TRANSACTIONS = frozenset({"StartTransaction", "StopTransaction", "TransactionEvent"})
#: RFC 6455, registry of close codes.
TRY_LATER = 1013
_MAX_TEXT = 64
_NOT_YET = Fault("SecurityError", "this charger is not adopted yet")


class Host(Protocol):
    """Who looks after those that wait."""

    def arrived(self, pending: "Pending") -> None:
        """It has connected."""

    def left(self, pending: "Pending") -> None:
        """Its connection has ended."""

    async def keep(self, pending: "Pending", call: Call) -> bool:
        """Write down a message about a transaction; true when it is on disk."""


class Pending:
    """One connection of a charger that waits. A ``Peer``."""

    def __init__(self, knock: Knock, clock: Clock, host: Host) -> None:
        self.identity = knock.identity
        self.knock = knock
        self.proof: Sealed | None = None  #: the password that it presented, if that may be pinned
        self.link: Link | None = None
        self.boot: Boot | None = None
        self._clock = clock
        self._host = host

    def attach(self, link: Link) -> None:
        """It has connected."""
        self.link = link
        self._host.arrived(self)

    def detach(self, link: Link) -> None:
        """This connection has ended."""
        if self.link is link:
            self.link = None
            self._host.left(self)

    async def handle(self, call: Call) -> Payload | Fault:
        """Answer what one that waits may ask."""
        if call.action == "BootNotification":
            self.boot = _boot(call.payload)
            return {"status": "Pending", "currentTime": self._now(), "interval": INTERVAL_S}
        if call.action == "Heartbeat":
            return {"currentTime": self._now()}
        if call.action == "StatusNotification":
            return {}
        if call.action == "Authorize":
            two = self.link is not None and self.link.version.two
            return {"idTokenInfo" if two else "idTagInfo": {"status": str(Verdict.INVALID)}}
        if call.action in TRANSACTIONS and not await self._host.keep(self, call) and self.link is not None:
            await self.link.close(TRY_LATER, "not adopted yet, and no room to keep this: please repeat it")
        return _NOT_YET

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _boot(payload: Payload) -> Boot | None:
    """What it says of itself, to be shown: short."""
    said = ocpp201.boot(payload)  # takes those of 1.6, too
    if not isinstance(said, Boot):
        return None
    vendor, model, serial, firmware = (
        text.strip("\0 ")[:_MAX_TEXT] for text in (said.vendor, said.model, said.serial, said.firmware)
    )
    return Boot(vendor, model, serial, firmware)
