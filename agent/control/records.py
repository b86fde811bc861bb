"""The records of commands: one for each id, on disk before it is done, so that none is done twice.

Rules of this file:

1. A record without an outcome that is found at start was being done when the gateway stopped: it has failed, unless
   who did it kept what it came to (``settle``).
2. ``KEPT`` records are kept, those of ``KEPT_S`` at most; but none is dropped before every command of its time has run
   out (``MAX_TTL_S``): a replayed one would be done again.
3. The outcome and the event that tells of it are one commit. What the store does not take goes on the ledger as soon as
   it can, and into the record with a later command.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.control.execution import Answer
from agent.control.memory import Memory
from agent.control.model import MAX_TTL_S, Command, Outcome, Result
from agent.control.redact import redacted
from agent.core.clock import Clock
from agent.core.errors import Refusal, StoreError
from agent.core.model import Event

logger = logging.getLogger(__name__)

COMMAND = "command"
KEPT = 1000
KEPT_S = 7 * 86400.0
#: So many within ``MAX_TTL_S``, and no more are taken.
MAX_RECENT = 10_000
#: An issuer's clock may be ahead of ours, by a minute (``agent/remote.py``).
YOUNG_S = MAX_TTL_S + 60
MAX_REASON = 1000
#: With one more record, so many old ones are dropped, and so many that the store did not take are written, at most.
_DROPPED_AT_ONCE = _OWED_AT_ONCE = 4

STOPPED = "the gateway stopped while it was done"


@dataclass(slots=True)
class Record:
    """One command. ``essence`` tells whether the same id means the same; ``received_s`` is -inf after a restart."""

    id: str
    essence: str
    data: dict[str, object]
    t_us: int
    received_s: float
    result: Result | None = None


class Records:
    """All records, oldest first."""

    def __init__(self, memory: Memory, clock: Clock, record: Callable[[Event], None]) -> None:
        self._memory = memory
        self._clock = clock
        self._record = record
        self._owed: dict[str, Mapping[str, object]] = {}  # records whose outcome is not on disk, ``KEPT`` at most
        self._records: dict[str, Record] = {}
        notes = memory.notebook.notes(COMMAND).items()
        read = [one for key, data in notes if (one := _read(key, data)) is not None]
        for one in sorted(read, key=lambda one: one.t_us):
            self._records[one.id] = one
        self._open = [one for one in self._records.values() if one.result is None]
        for one in self._open:
            one.result = Result(one.id, Outcome.FAILED, STOPPED, t_us=clock.now_us())

    def find(self, command_id: str) -> Record | None:
        """The record of an id."""
        return self._records.get(command_id)

    @property
    def full(self) -> bool:
        """Whether so many came at once that no more can be remembered."""
        if len(self._records) < MAX_RECENT:
            return False
        return self._is_young(list(self._records.values())[-MAX_RECENT])

    def settle(self, ended: Mapping[str, Answer]) -> None:
        """What became of commands that were being done then, where somebody knows."""
        for one in self._open:
            if one.id in ended:
                answer = ended[one.id]
                now_us = self._clock.now_us()
                one.result = Result(one.id, answer.outcome, answer.reason, answer.refusal, answer.data, now_us)

    async def recover(self) -> None:
        """Tell what became of commands that were being done when the gateway stopped."""
        while self._open:
            record = self._open.pop()
            if record.result is not None:
                await self._close(record, record.result, {})

    def begin(self, command: Command) -> Record:
        """Remember a command that is about to be done."""
        data: dict[str, object] = {
            "target": command.target,
            "action": command.action,
            "args": redacted(command.args),
            "origin": command.origin.name,
            "issuer": command.issuer,
        }
        record = Record(command.id, essence_of(command), data, self._clock.now_us(), self._clock.monotonic_s())
        self._records[command.id] = record
        return record

    async def keep(self, record: Record) -> StoreError | None:
        """Make it outlive a kill; what went wrong, or None."""
        data = {**record.data, "essence": record.essence, "t_us": record.t_us, "outcome": None}
        return await self._memory.write(COMMAND, record.id, data)

    async def end(self, record: Record, answer: Answer, change: Mapping[str, object]) -> Result:
        """Give it its outcome and tell it. ``change``: what it changed, for the audit (``old``, ``new``)."""
        reason = answer.reason[:MAX_REASON]
        result = Result(record.id, answer.outcome, reason, answer.refusal, answer.data, self._clock.now_us())
        record.result = result
        await self._close(record, result, change)
        await self._drop_old()
        return result

    async def _close(self, record: Record, result: Result, change: Mapping[str, object]) -> None:
        refusal = None if result.refusal is None else result.refusal.value
        came_to = {"outcome": result.outcome.value, "reason": result.reason, "refusal": refusal}
        event_data = {"id": record.id, **record.data, **came_to, **change}
        event = Event("command.result", result.t_us, str(record.data["target"]), event_data)
        kept = {"essence": record.essence, "t_us": record.t_us, "ended_us": result.t_us, "data": redacted(result.data)}
        note = {**record.data, **came_to, **kept}
        if await self._memory.write(COMMAND, record.id, note, [event]) is None:
            await self._pay()
            return
        self._record(event)
        self._owed[record.id] = note
        if len(self._owed) > KEPT:
            del self._owed[next(iter(self._owed))]

    async def _pay(self) -> None:
        """Write what the store did not take before."""
        for command_id, note in list(self._owed.items())[:_OWED_AT_ONCE]:
            if await self._memory.write(COMMAND, command_id, note) is not None:
                return
            self._owed.pop(command_id, None)

    async def _drop_old(self) -> None:
        for _ in range(_DROPPED_AT_ONCE):
            # Looked for anew after each write: others that end meanwhile drop some too.
            record = next(iter(self._records.values()), None)
            if record is None:
                return
            old = self._clock.now_us() - record.t_us > KEPT_S * 1e6
            if self._is_young(record) or record.result is None or not (old or len(self._records) > KEPT):
                return
            del self._records[record.id]
            self._owed.pop(record.id, None)
            if await self._memory.write(COMMAND, record.id, None) is not None:
                return

    def _is_young(self, record: Record) -> bool:
        # After a restart its age is known by wall time only.
        age_s = (self._clock.now_us() - record.t_us) / 1e6
        return self._clock.monotonic_s() - record.received_s <= YOUNG_S or 0 <= age_s <= YOUNG_S


def essence_of(command: Command) -> str:
    """What a command says, without what may not be kept, as a short hash."""
    said = [command.target, command.action, redacted(command.args), command.origin.name, command.issuer]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _read(key: str, data: Mapping[str, object]) -> Record | None:
    """The record of a note; None (and a line in the log) where it can't be read."""
    try:
        said = {name: data[name] for name in ("target", "action", "args", "origin", "issuer")}
        essence, t_us, outcome = str(data["essence"]), data["t_us"], data["outcome"]
        if not isinstance(t_us, int):
            raise TypeError("no time")  # noqa: TRY301 - as any other damage
        record = Record(key, essence, said, t_us, -math.inf)
        if outcome is not None:
            refusal, kept, ended_us = data["refusal"], data.get("data"), data.get("ended_us")
            record.result = Result(
                key,
                Outcome(str(outcome)),
                str(data["reason"]),
                None if refusal is None else Refusal(str(refusal)),
                kept if isinstance(kept, Mapping) else {},
                ended_us if isinstance(ended_us, int) else t_us,
            )
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("the record of command %s can't be read and is left out: %r", key, error)
        return None
    return record
