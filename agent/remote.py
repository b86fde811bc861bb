"""Orders of the central server -> commands of control -> what came of them.

Rules of this file:

1. Nothing is done before it is known what alarms and rules want: a remote "on" must meet the interlocks.
2. An outcome that control would not give again for the same id (too many at once, the gateway stops) is none yet: the
   order waits until its time to live is over, and its message stays at the broker.
3. Where the clock was never set, nobody can tell how old an order is that may have waited at the broker: it is refused.
   With a gate (``command_gate.py``) all are: whether one has waited is only the broker's word.
4. ``issued_at`` in the future would make an order good for longer than control remembers its id: refused.
"""

import asyncio
from typing import Protocol

from agent.control.execution import Answer
from agent.control.model import MAX_TTL_S, Command, Origin, Outcome, Result
from agent.control.redact import redacted
from agent.core.clock import Clock, is_set
from agent.core.errors import Refusal
from cloud_sync.command_payload import Order, OrderResult

ISSUER = "central"
RETRY_S = 1.0
#: So far the central server's clock may be ahead of ours.
MAX_AHEAD_S = 60.0


class Executes(Protocol):
    """Control, as far as orders need it; ``agent.control.service.ControlService`` is it."""

    async def execute(self, command: Command, objection: Answer | None = None) -> Result:
        """Do it; a repeated id gives the result of the first time."""

    def remembers(self, command_id: str) -> bool:
        """Whether the outcome of this id is certain."""


class Gate(Protocol):
    """Who may command; ``agent.command_gate.CommandGate`` is it."""

    def judge(self, order: Order) -> Order | Answer:
        """The order as it may be done, or why it may not."""


class RemoteOrders:
    """Carries orders out. ``judging`` is set when alarms and rules are judged; without a ``gate`` all may command."""

    def __init__(self, control: Executes, clock: Clock, judging: asyncio.Event, gate: Gate | None = None) -> None:
        self._control = control
        self._clock = clock
        self._judging = judging
        self._gate = gate

    async def execute(self, order: Order) -> OrderResult:
        """Do it at most once, and say what came of it when that is certain and on disk; never raises."""
        judged = order if self._gate is None else self._gate.judge(order)
        if isinstance(judged, Answer):
            refusal = None if judged.refusal is None else judged.refusal.value
            return OrderResult(order.id, judged.outcome.value, judged.reason, refusal, t_us=self._clock.now_us())
        order = judged
        await self._judging.wait()
        while True:
            rest_s = order.ttl_s - (self._clock.monotonic_s() - order.received_s)
            command = Command(
                order.id,
                order.target,
                order.action,
                order.args,
                Origin.REMOTE,
                f"{ISSUER}:{order.issuer}" if order.issuer else ISSUER,
                order.issued_us or None,
                rest_s if 0 < order.ttl_s <= MAX_TTL_S else order.ttl_s,
            )
            result = await self._control.execute(command, self._objection(order, rest_s))
            if self._control.remembers(order.id):
                refusal = None if result.refusal is None else result.refusal.value
                data = redacted(result.data)  # as control's records keep it: it is the same when it is told again
                return OrderResult(order.id, result.outcome.value, result.reason, refusal, data, result.t_us)
            await self._clock.sleep_s(RETRY_S)

    def _objection(self, order: Order, rest_s: float) -> Answer | None:
        """Why it is not done, for reasons that control does not see."""
        if order.objection:
            return Answer(Outcome.REJECTED, order.objection, Refusal.OUT_OF_RANGE)
        if order.ttl_s > 0 >= rest_s:
            return Answer(Outcome.EXPIRED, "its time to live was over before it could be done", Refusal.EXPIRED)
        now_us = self._clock.now_us()
        if not is_set(self._clock) and self._gate is not None:
            reason = "the clock is not set: how old a signed command is can't be told"
            return Answer(Outcome.EXPIRED, reason, Refusal.EXPIRED)
        if not is_set(self._clock):
            reason = "it may have waited at the broker, and the clock is not set: how old it is can't be told"
            return Answer(Outcome.EXPIRED, reason, Refusal.EXPIRED) if order.waited else None
        ahead_s = (order.issued_us - now_us) / 1e6
        if ahead_s > MAX_AHEAD_S:
            reason = f"it was issued {ahead_s:.0f} s ahead of the time here: one of the clocks is wrong"
            return Answer(Outcome.REJECTED, reason, Refusal.OUT_OF_RANGE)
        return None
