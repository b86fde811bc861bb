"""The execution of one command on a device: the one place of control that catches whatever a driver raises.

A driver's bug gives a failed command and a traceback in the log; it never ends what runs around it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.control.model import Outcome
from agent.core.clock import Clock
from agent.core.errors import AgentError, CommandRejected, Refusal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """How something ended, before it has an id and a time."""

    outcome: Outcome
    reason: str = ""
    refusal: Refusal | None = None
    data: Mapping[str, object] = field(default_factory=dict)


async def attempt(op: str, call: Awaitable[Mapping[str, object]], clock: Clock, within_s: float) -> Answer:
    """Do it, for so long at most. Raises nothing but ``CancelledError``, when the caller is cancelled."""
    work = asyncio.ensure_future(call)
    try:
        timely = await in_time(work, clock, within_s)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    if not timely:
        return Answer(Outcome.FAILED, f"{op}: it had not ended after {within_s:.3g} s, what it came to is not known")
    return _outcome(op, work)


async def in_time(work: "asyncio.Future[Any]", clock: Clock, within_s: float) -> bool:
    """Wait for it, for so long at most; whether it is done. It goes on if not."""
    timer = asyncio.ensure_future(clock.sleep_s(within_s))
    try:
        await asyncio.wait({work, timer}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        timer.cancel()
        await asyncio.gather(timer, return_exceptions=True)


def _outcome(op: str, work: "asyncio.Future[Mapping[str, object]]") -> Answer:
    try:
        return Answer(Outcome.DONE, data=work.result())
    except CommandRejected as error:
        return Answer(Outcome.REJECTED, str(error), error.refusal)
    except AgentError as error:
        return Answer(Outcome.FAILED, str(error))
    except asyncio.CancelledError:
        # Not we were cancelled but something that the driver waited for: its fault, not our end.
        return Answer(Outcome.FAILED, f"{op}: it was cancelled from within")
    except Exception as error:
        logger.exception("%s failed", op)
        reason = f"{op}: {type(error).__name__}: {error} (this is a bug of Enlace: the log holds its traceback)"
        return Answer(Outcome.FAILED, reason)
