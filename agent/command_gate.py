"""Who may command from afar: orders that nobody signed who may are refused, before anything is remembered of them.

Rules of this file:

1. It stands only where the configuration names commanders. Without them the broker's access list decides alone.
2. An order passes that one of them signed for this site; from then on it is his (``issuer``), whatever name it gives
   itself besides. Whether it is late, repeated or makes sense is looked at behind the gate, as ever.
3. What does not pass leaves no record under its id: who can't sign must not be able to use up ids, or the room for
   records, of those who can.
4. How old a signed order is, the clock here must tell: the broker's word for it is what the signature is there to do
   without (``RemoteOrders``).
5. The first one that does not pass is logged and told, and when none came for ``QUIET_S`` that is, once each. In
   between the ledger is told of ``BURST`` at once and one more each ``REFILL_S``; what was left out is a number.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.control.execution import Answer
from agent.control.model import Outcome
from agent.core.clock import Clock
from agent.core.errors import Refusal
from agent.core.model import Event
from agent.keys import public_keys, signer
from cloud_sync.command_payload import Order
from cloud_sync.signed import Commander

logger = logging.getLogger(__name__)

QUIET_S = 600.0
BURST = 10.0
REFILL_S = 60.0
REFUSED, QUIET = "command.not_authorized", "command.not_authorized_over"

_FOREIGN = "nobody who may command here signed this: it was changed, or signed with another key"


class CommandGate:
    """Of one site. ``record`` puts events on the ledger. On the event loop."""

    def __init__(
        self, site: str, commanders: Sequence[Commander], clock: Clock, record: Callable[[Event], None]
    ) -> None:
        self._site = site
        self._names = [one.name for one in commanders]
        self._keys = public_keys([one.raw for one in commanders])
        self._clock = clock
        self._record = record
        self._refused_s = 0.0  #: the last one
        self._refused = 0  #: since all was quiet
        self._left_out = 0
        self._burst = BURST
        self._watch: asyncio.Task[None] | None = None

    @property
    def refusing(self) -> bool:
        """Whether one was refused in the last ``QUIET_S``."""
        return self._refused > 0

    async def close(self) -> None:
        """Look no more whether all is quiet."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._watch, self._refused = None, 0

    def judge(self, order: Order) -> Order | Answer:
        """The order as it may be done, or why it may not."""
        passed = self._passed(order)
        if isinstance(passed, Order):
            return passed
        self._note(order, passed)
        return Answer(Outcome.REJECTED, passed, Refusal.NOT_AUTHORIZED)

    def _passed(self, order: Order) -> Order | str:
        signed = order.signed
        if signed.flaw:
            return signed.flaw
        index = signer(signed.text, signed.signature, self._keys)
        if index is None:
            return _FOREIGN
        if order.site != self._site:
            return f"it was signed for the site {order.site or '(none)'}, this is {self._site}"
        name = self._names[index]
        return replace(order, issuer=f"{name}/{order.issuer}" if order.issuer else name)

    def _note(self, order: Order, reason: str) -> None:
        now_s, before_s = self._clock.monotonic_s(), self._refused_s
        self._refused += 1
        self._refused_s = now_s
        if self._watch is None:
            logger.warning("commands are refused that nobody signed who may command: %s", reason)
            self._burst, self._left_out, before_s = BURST, 0, now_s
            self._watch = asyncio.ensure_future(self._until_quiet())
        self._burst = min(BURST, self._burst + (now_s - before_s) / REFILL_S)
        if self._burst < 1:
            self._left_out += 1
            return
        self._burst -= 1
        said = {"id": order.id, "target": order.target, "action": order.action, "reason": reason}
        more = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        self._record(Event(REFUSED, self._clock.now_us(), order.target, {**said, **more}))

    async def _until_quiet(self) -> None:
        while (rest_s := self._refused_s + QUIET_S - self._clock.monotonic_s()) > 0:
            await self._clock.sleep_s(rest_s)
        logger.info("no such command came for %.0f min; %d were refused", QUIET_S / 60, self._refused)
        data = {"refused": self._refused, "left_out": self._left_out}
        self._record(Event(QUIET, self._clock.now_us(), "", data))
        self._refused, self._watch = 0, None
