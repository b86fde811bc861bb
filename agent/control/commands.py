"""Commands: each is done at most once, within its time to live, and has exactly one outcome.

Rules of this file:

1. The time to live counts from when we received it, on monotonic time; where the clock is good and the issuer said
   when, what was older than that on arrival is expired too. Expired, out of range or unknown: nothing is done.
2. The same id again gives the outcome of the first time, without doing anything; the same id with another meaning is a
   ``duplicate``.
3. A command is on disk before it is done. What the store can't take is not done, but a local stop is (trials C11).
4. ``on``, ``off``, ``toggle``, ``limit``, ``release`` make or take back a wish of their issuer (``stations.py``
   decides). Everything else is one of the device's own actions, which are tried once. A wish stands whatever its device
   says and is tried again; a command that waits while a newer one of its issuer takes its place is ``superseded``.
5. People are refused an "on" that an interlock or a safety alarm forbids (``interlocked``); the wishes of rules and
   schedules stand and come into force when it is over.
6. The caller may go away: the command goes on and has its outcome.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.control.arbiter import who
from agent.control.execution import Answer, attempt, in_time
from agent.control.memory import Memory
from agent.control.model import MAX_TTL_S, Command, Origin, Outcome, Result, Wish
from agent.control.outputs import LIMIT, can_limit, can_switch
from agent.control.records import Record, Records, essence_of
from agent.control.station import StationRunner
from agent.control.stations import Stations
from agent.core.clock import Clock, is_set
from agent.core.errors import Refusal
from agent.core.model import Event
from agent.core.ports import Action

logger = logging.getLogger(__name__)

WISHES = frozenset({"on", "off", "toggle", "limit", "release"})
MAX_ID = 128
MAX_RUNNING = 64
MAX_FOR_S = 366 * 86400.0
MAX_REASON = 200

CRASHED = Answer(Outcome.FAILED, "a bug of Enlace: the log holds its traceback")


class Own(Protocol):
    """What the gateway itself can be told, by the central server only."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """By name."""

    async def do(self, command: Command) -> Answer:
        """Do it, for as long as it takes: the time to live was about beginning."""

    def ended(self) -> Mapping[str, Answer]:
        """What commands came to that were being done when the gateway stopped, by their ids, where that is known."""


_ARGS = {
    "on": {"for_s", "reason"},
    "off": {"for_s", "reason"},
    "toggle": {"for_s", "reason"},
    "limit": {"limit_a", "for_s", "reason"},
    "release": {"all"},
}


class Commands:
    """Executes commands on stations and devices. ``record`` takes what the store could not take at once."""

    def __init__(self, clock: Clock, memory: Memory, stations: Stations, record: Callable[[Event], None]) -> None:
        self._clock = clock
        self._stations = stations
        self._records = Records(memory, clock, record)
        self._running: dict[str, asyncio.Task[Result]] = {}
        self._own: dict[str, Own] = {}
        self._stopping = False

    def serve(self, name: str, own: Own) -> None:
        """Commands of the central server to that target are done by this from now on."""
        self._own[name] = own
        self._records.settle(own.ended())

    async def recover(self) -> None:
        """Tell what became of commands that were being done when the gateway stopped."""
        await self._records.recover()

    def remembers(self, command_id: str) -> bool:
        """Whether the outcome of this id is certain: whenever it comes again, this is what is answered."""
        record = self._records.find(command_id)
        return record is not None and record.result is not None and command_id not in self._running

    async def execute(self, command: Command, objection: Answer | None = None) -> Result:
        """Do it; never raises. With an ``objection`` it is not done but has that as its outcome, if it is new."""
        task = self._running.get(command.id)
        known = self._records.find(command.id)
        if known is not None and known.essence != essence_of(command):
            return self._result(command, _refused(Refusal.DUPLICATE, "another command had this id"))
        if known is not None and task is None:
            return known.result or self._result(command, Answer(Outcome.FAILED, "it was not done"))
        unfit = self._unfit(command) if task is None else None
        if unfit is not None:
            return self._result(command, unfit)
        if task is None:
            record = self._records.begin(command)
            task = asyncio.create_task(self._run(command, record, objection), name=f"command {command.id}")
            self._running[command.id] = task
            task.add_done_callback(lambda done: self._ended(done, record))
        await asyncio.wait({task})
        if task.cancelled():
            return self._result(command, Answer(Outcome.FAILED, "the gateway stops"))
        return self._result(command, CRASHED) if task.exception() is not None else task.result()

    async def close(self) -> None:
        """Take no more, end what is being done. Its outcome is told at the next start."""
        self._stopping = True
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _unfit(self, command: Command) -> Answer | None:
        """Why it is not even remembered."""
        if self._stopping:
            return Answer(Outcome.FAILED, "the gateway stops")
        if not 0 < len(command.id) <= MAX_ID:
            return _refused(Refusal.OUT_OF_RANGE, f"an id has 1 to {MAX_ID} characters")
        if len(self._running) >= MAX_RUNNING or self._records.full:
            return Answer(Outcome.FAILED, "too many commands at once: try again later")
        return None

    def _ended(self, task: "asyncio.Task[Result]", record: Record) -> None:
        self._running.pop(record.id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("command %s crashed", record.id, exc_info=error)
            record.result = Result(record.id, CRASHED.outcome, CRASHED.reason, t_us=self._clock.now_us())

    def _result(self, command: Command, answer: Answer) -> Result:
        return Result(command.id, answer.outcome, answer.reason, answer.refusal, answer.data, self._clock.now_us())

    async def _run(self, command: Command, record: Record, objection: Answer | None) -> Result:
        old = self._decided(command.target)
        answer = objection or self._refusal(command) or await self._kept(command, record)
        if answer is None:
            rest_s = command.ttl_s - (self._clock.monotonic_s() - record.received_s)
            if rest_s <= 0:
                answer = Answer(Outcome.EXPIRED, "its time to live was over before it could be done", Refusal.EXPIRED)
            elif command.action in WISHES and (runner := self._stations.find(command.target)) is not None:
                answer = await self._wish(command, runner, rest_s)
            elif (own := self._own.get(command.target)) is not None:
                answer = await own.do(command)
            else:
                answer = await self._act(command, rest_s)
        change = {} if old is None else {"old": old, "new": self._decided(command.target)}
        return await self._records.end(record, answer, change)

    async def _kept(self, command: Command, record: Record) -> Answer | None:
        """Keep it before it is done; why it is not done if that fails."""
        error = await self._records.keep(record)
        local_stop = command.action == "off" and command.origin is not Origin.REMOTE
        if error is None or local_stop:
            return None
        return Answer(Outcome.FAILED, f"it is not done because it can't be recorded: {error}")

    def _refusal(self, command: Command) -> Answer | None:
        """Why it is not done at all."""
        if not 0 < command.ttl_s <= MAX_TTL_S:
            return _refused(Refusal.OUT_OF_RANGE, f"a time to live is above 0 and up to {MAX_TTL_S:g} s")
        now_us = self._clock.now_us()
        if command.issued_us is not None and is_set(self._clock):
            age_s = (now_us - command.issued_us) / 1e6
            if age_s > command.ttl_s:
                return Answer(Outcome.EXPIRED, f"it was issued {age_s:.0f} s ago", Refusal.EXPIRED)
        runner = self._stations.find(command.target)
        if command.action in WISHES and runner is not None:
            return _wish_refusal(command, runner)
        found = self._stations.operable(command.target)
        own = self._own.get(command.target) if command.origin is Origin.REMOTE else None
        if found is None and runner is None and own is None:
            return _refused(Refusal.NOT_CAPABLE, f"there is no station or device {command.target}")
        actions = own.actions if own is not None else {} if found is None else found[0].actions
        if command.action not in actions:
            able = ", ".join([*sorted(WISHES if runner else ()), *sorted(actions)]) or "nothing"
            return _refused(Refusal.NOT_CAPABLE, f"{command.target} can't do {command.action}; it can {able}")
        return None

    async def _act(self, command: Command, rest_s: float) -> Answer:
        """One of the device's own actions."""
        found = self._stations.operable(command.target)
        if found is None:
            return _refused(Refusal.NOT_CAPABLE, f"there is no station or device {command.target} any more")
        operable, outlet = found
        args = dict(command.args)
        properties = (
            operable.actions[command.action].args.get("properties") if command.action in operable.actions else {}
        )
        if outlet and isinstance(properties, Mapping) and "outlet" in properties:
            args.setdefault("outlet", outlet)
        op = f"{command.action} {command.target}"
        return await attempt(op, operable.act(command.action, args), self._clock, rest_s)

    async def _wish(self, command: Command, runner: StationRunner, rest_s: float) -> Answer:
        """A wish of the issuer, or taking it back."""
        if command.action == "release":
            everybody = command.args.get("all") is True
            waiter = await runner.withdraw(
                lambda wish: wish.origin is command.origin and (everybody or wish.key == command.issuer)
            )
        else:
            for_s = _number(command.args.get("for_s"))
            waiter = await runner.put(_wish_of(command, runner, for_s, self._clock.now_us()), for_s)
        if not await in_time(waiter, self._clock, rest_s):
            waiter.cancel()
            reason = "the device had not answered within the time to live; it stands and goes on being tried"
            return Answer(Outcome.FAILED, reason)
        return waiter.result()

    def _decided(self, target: str) -> dict[str, object] | None:
        runner = self._stations.find(target)
        if runner is None:
            return None
        verdict = runner.verdict
        return {"on": verdict.on, "limit_a": verdict.limit_a}


def _wish_of(command: Command, runner: StationRunner, for_s: float | None, now_us: int) -> Wish:
    on: bool | None = {"on": True, "off": False}.get(command.action)
    if command.action == "toggle":
        on = runner.verdict.on is False
    limit_a = _number(command.args.get("limit_a")) if command.action == "limit" else None
    until_us = None if for_s is None else now_us + round(for_s * 1e6)
    reason = str(command.args.get("reason") or "")
    return Wish(command.target, command.issuer, command.origin, on, limit_a, reason, now_us, until_us)


def _wish_refusal(command: Command, runner: StationRunner) -> Answer | None:
    """Why a wish is not taken."""
    refused = _args_refusal(command)
    if refused is not None or command.action == "release":
        return refused
    if runner.full_for(_wish_of(command, runner, None, 0)):
        return _refused(Refusal.OUT_OF_RANGE, "too many wishes stand already: release some")
    return _limit_refusal(command, runner) if command.action == "limit" else _switch_refusal(command, runner)


def _args_refusal(command: Command) -> Answer | None:
    args, for_s = command.args, command.args.get("for_s")
    unknown = set(args) - _ARGS[command.action]
    if unknown:
        return _refused(Refusal.OUT_OF_RANGE, f"{command.action} has no argument {', '.join(sorted(unknown))}")
    if len(str(args.get("reason") or "")) > MAX_REASON:
        return _refused(Refusal.OUT_OF_RANGE, f"a reason has up to {MAX_REASON} characters")
    if for_s is not None and not 0 < (_number(for_s) or 0) <= MAX_FOR_S:
        return _refused(Refusal.OUT_OF_RANGE, f"for_s is above 0 and up to {MAX_FOR_S:g} s")
    return None


def _switch_refusal(command: Command, runner: StationRunner) -> Answer | None:
    if not can_switch(runner.settings):
        return _refused(Refusal.NOT_CAPABLE, f"{command.target} can't be switched")
    keeper = runner.verdict.switcher
    if keeper is None or keeper.on or keeper.origin > Origin.SAFETY or command.action == "off":
        return None
    if command.origin not in {Origin.MANUAL, Origin.REMOTE}:
        return None
    why = f" ({keeper.reason})" if keeper.reason else ""
    return _refused(Refusal.INTERLOCKED, f"it is kept off by {who(keeper)}{why}")


def _limit_refusal(command: Command, runner: StationRunner) -> Answer | None:
    settings, limit_a = runner.settings, _number(command.args.get("limit_a"))
    if not can_limit(settings):
        return _refused(Refusal.NOT_CAPABLE, f"the current of {command.target} can't be limited")
    if limit_a is None or limit_a < 0:
        return _refused(Refusal.OUT_OF_RANGE, "limit_a is a current in A, from 0 on")
    setting = settings[LIMIT]
    fits = setting.min <= limit_a <= setting.max or (limit_a == 0 and can_switch(settings))
    if fits or command.origin <= Origin.GRID:
        return None
    zero = ", or 0" if can_switch(settings) else ""
    return _refused(Refusal.OUT_OF_RANGE, f"limit_a is from {setting.min:g} to {setting.max:g} A{zero}")


def _refused(refusal: Refusal, reason: str) -> Answer:
    return Answer(Outcome.REJECTED, reason, refusal)


def _number(value: object) -> float | None:
    """A finite number; None for everything else, whole numbers that no float can hold among it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return None
    return value
