"""Runs the wires: one task each, restarted with back-off, so that one wire's fault never disturbs another.

Rules of this file:

1. A wire is *online* once it has delivered something since it was opened, or has stayed open for ``STAYED_UP_S``: a
   bus on which nobody speaks is a working wire; that its devices are silent is told by their signals' ages and by its
   driver.
2. What ends ``run`` decides what follows. ``Unsupported``: this wire stops for good. Any other ``AgentError``, and a
   ``run`` that returns: back-off and again. Any other exception is a bug of the driver: the same, but its traceback is
   logged. The supervisor alone may catch everything.
3. Back-off doubles from ``FIRST_RETRY_S`` to ``MAX_RETRY_S`` (of a wire: to the ``max_retry_s`` that it says), each
   with jitter (half to all of it). It begins anew only after ``STEADY_S`` online, so a wire that opens and dies at once
   does not restart each second for ever.
4. Log lines and events (``device.online``, ``device.offline``) stand at edges only: a fault that repeats while the wire
   is offline is counted, and logged again only if it is of another kind.
5. On the edge to offline all signals of the wire become unknown, also when its driver crashed and could not say so.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.core.clock import Clock
from agent.core.errors import AgentError, Unsupported
from agent.core.model import Batch, Column, Event, Signal, SignalSpec
from agent.core.ports import Listener
from agent.pipeline.flow import Flow

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
STAYED_UP_S = 5.0
STEADY_S = 30.0
STOP_S = 2.0
TICK_S = 1.0

_DOUBLINGS = 6  # 1 s doubled so often is beyond MAX_RETRY_S


#: Gives numbers to signals that a wire found out about: the store numbers them, the gate learns their rules.
Declare = Callable[[Sequence[SignalSpec]], Awaitable[Sequence[Signal]]]


async def _declare_nothing(specs: Sequence[SignalSpec]) -> Sequence[Signal]:
    raise AgentError(f"declare {specs[0].full_name}", "nobody numbers signals here")


class Health(StrEnum):
    """How a wire is."""

    STARTING = "starting"
    ONLINE = "online"
    OFFLINE = "offline"  #: it will be tried again
    UNSUPPORTED = "unsupported"  #: it never will work as it is configured


@dataclass(frozen=True, slots=True)
class WireState:
    """A wire as health pages and metrics see it."""

    name: str
    devices: tuple[str, ...]
    state: Health
    since_us: int  #: when it came into this state, µs UTC
    last_error: str  #: the newest fault, also after it was overcome; empty when there was none
    hint: str  #: what to do about it
    next_try_s: float | None  #: seconds until the next try; None while it runs or will not be tried again
    restarts: int
    counters: Mapping[str, int]
    last_put_age_s: float | None  #: seconds since it delivered anything; None before the first time


class Supervisor:
    """Owns the tasks of all wires and of the gateway's other long-running parts.

    ``record`` takes events (the ledger), ``jitter`` gives numbers from 0 to 1, ``declare`` numbers signals that a wire
    finds out about while it runs. ``add`` and ``add_part`` may come before or after ``start``.
    """

    def __init__(
        self,
        clock: Clock,
        flow: Flow,
        record: Callable[[Event], object],
        jitter: Callable[[], float] = random.random,
        declare: Declare = _declare_nothing,
    ) -> None:
        self._clock = clock
        self._flow = flow
        self._record = record
        self._jitter = jitter
        self._declare = declare
        self._wires: list[_Wire] = []
        self._parts: list[_Part] = [_Part("pipeline tick", self._tick, clock, jitter)]
        self._tasks: dict[asyncio.Task[None], _Part] = {}
        self._started = False

    def add(self, listener: Listener, signals: Iterable[Signal] = ()) -> None:
        """Run a wire. ``signals`` are all that it can deliver: they become unknown when it goes offline."""
        ids = [signal.id for signal in signals]
        wire = _Wire(listener, ids, self._clock, self._flow, self._record, self._jitter, self._declare)
        self._wires.append(wire)
        self._spawn(wire)

    def add_part(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run something else that must not end (the uplink, the clean-up), restarted like a wire."""
        part = _Part(name, run, self._clock, self._jitter)
        self._parts.append(part)
        self._spawn(part)

    def start(self) -> None:
        """Start all tasks. Needs a running event loop."""
        self._started = True
        for part in (*self._parts, *self._wires):
            self._spawn(part)

    async def stop(self) -> None:
        """End all tasks; whoever does not end within ``STOP_S`` is named in the log and left behind."""
        self._started = False
        tasks, self._tasks = self._tasks, {}
        await self._end(tasks)

    async def remove(self, name: str) -> None:
        """End one wire or part and forget it; its signals are unknown from now on. Bounded as ``stop`` is."""
        tasks = {task: part for task, part in self._tasks.items() if part.name == name}
        self._tasks = {task: part for task, part in self._tasks.items() if task not in tasks}
        await self._end(tasks)
        for wire in self._wires:
            if wire.name == name:
                wire.give_up_signals()
        self._wires = [wire for wire in self._wires if wire.name != name]
        self._parts = [part for part in self._parts if part.name != name]

    async def _end(self, tasks: "Mapping[asyncio.Task[None], _Part]") -> None:
        if not tasks:
            return
        for task, part in tasks.items():
            part.stopping = True
            task.cancel()
        timer = asyncio.ensure_future(self._clock.sleep_s(STOP_S))
        pending: set[asyncio.Future[None]] = set(tasks)
        while pending and not timer.done():
            _, pending = await asyncio.wait({*pending, timer}, return_when=asyncio.FIRST_COMPLETED)
            pending.discard(timer)
        timer.cancel()
        await asyncio.gather(timer, return_exceptions=True)
        for task, part in tasks.items():
            if task in pending:
                logger.warning("%s: did not stop within %.0f s", part.name, STOP_S)

    def states(self) -> list[WireState]:
        """The wires, in the order in which they were added."""
        return [wire.snapshot() for wire in self._wires]

    def parts(self) -> list[WireState]:
        """The other parts, in the same terms; they have no devices."""
        return [part.snapshot() for part in self._parts]

    def _spawn(self, part: "_Part") -> None:
        if self._started:
            self._tasks[asyncio.create_task(part.supervise(), name=part.name)] = part

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep_s(TICK_S)
            self._flow.tick()
            for part in (*self._parts, *self._wires):
                part.tick()


class _Part:
    """Something long-running: restarts, back-off, edges."""

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        clock: Clock,
        jitter: Callable[[], float],
        max_retry_s: float = MAX_RETRY_S,
    ) -> None:
        self.name = name
        self._max_retry_s = max_retry_s
        self.stopping = False
        self._run = run
        self._clock = clock
        self._jitter = jitter
        self._state = Health.STARTING
        self._since_us = clock.now_us()
        self._running_since_s: float | None = None
        self._online_since_s = 0.0
        self._next_try_at_s: float | None = None
        self._attempts = 0
        self._restarts = 0
        self._error = ""
        self._hint = ""
        self._logged: set[str] = (
            set()
        )  # kinds of faults told since the wire was last online; as many as there are types

    async def supervise(self) -> None:
        """Run until cancelled or unsupported."""
        while True:
            self._running_since_s = self._clock.monotonic_s()
            fault = await self._run_once()
            if self.stopping:
                return
            self._running_since_s = None
            if isinstance(fault, Unsupported):
                self._give_up(fault)
                return
            delay_s = self._fell(fault)
            self._next_try_at_s = self._clock.monotonic_s() + delay_s
            await self._clock.sleep_s(delay_s)
            self._next_try_at_s = None
            self._restarts += 1

    async def _run_once(self) -> Exception:
        try:
            await self._run()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not we were cancelled but something that the driver waited for: its fault, not our end.
            return RuntimeError(f"cancelled from within: {error!r}")
        except Exception as error:  # noqa: BLE001 - rule 2: a driver's bug stays in its own wire
            return error
        return AgentError(f"run {self.name}", "ended by itself")

    def tick(self) -> None:
        """Called once a second: notice that it has stayed up for long enough."""
        if self._running_since_s is not None and self._clock.monotonic_s() - self._running_since_s >= STAYED_UP_S:
            self._rose()

    def snapshot(self) -> WireState:
        """The state as it is now."""
        next_try_s = None if self._next_try_at_s is None else max(0.0, self._next_try_at_s - self._clock.monotonic_s())
        return WireState(
            self.name,
            self._devices(),
            self._state,
            self._since_us,
            self._error,
            self._hint,
            next_try_s,
            self._restarts,
            self._counters(),
            self._last_put_age_s(),
        )

    def _rose(self) -> None:
        if self._state is Health.ONLINE:
            return
        first = self._state is Health.STARTING
        self._online_since_s = self._clock.monotonic_s()
        self._logged.clear()
        self._enter(Health.ONLINE)
        self._tell_online(first=first)

    def _fell(self, fault: Exception) -> float:
        """Note a fault; gives the seconds to wait before the next try."""
        self._note(fault)
        if self._state is Health.ONLINE and self._clock.monotonic_s() - self._online_since_s >= STEADY_S:
            self._attempts = 0
        base_s = min(self._max_retry_s, FIRST_RETRY_S * float(1 << min(self._attempts, _DOUBLINGS)))
        self._attempts += 1
        delay_s = base_s * (0.5 + 0.5 * self._jitter())
        kind = "expected" if isinstance(fault, AgentError) else type(fault).__name__
        if kind not in self._logged:
            self._logged.add(kind)
            if isinstance(fault, AgentError):
                logger.warning("%s: offline: %s; next try in %.1f s", self.name, fault, delay_s)
            else:
                logger.error("%s: crashed; next try in %.1f s", self.name, delay_s, exc_info=fault)
        if self._state is not Health.OFFLINE:
            self._leave(Health.OFFLINE)
        return delay_s

    def _give_up(self, fault: Unsupported) -> None:
        self._note(fault)
        logger.error("%s: stopped for good: %s", self.name, fault)
        self._leave(Health.UNSUPPORTED)

    def _note(self, fault: Exception) -> None:
        if isinstance(fault, AgentError):
            self._error, self._hint = f"{fault.op}: {fault.reason}", fault.hint
        else:
            text = f"{type(fault).__name__}: {fault}"
            self._error, self._hint = text, "this is a bug of Enlace: the log holds its traceback"

    def _leave(self, state: Health) -> None:
        self._enter(state)
        try:
            self._tell_offline()
        except Exception:
            # The task that restarts this wire must outlive a fault of those whom it tells.
            logger.exception("%s: went offline, but this could not be recorded", self.name)

    def _enter(self, state: Health) -> None:
        self._state = state
        self._since_us = self._clock.now_us()

    def _tell_online(self, *, first: bool) -> None:
        if not first:
            logger.info("%s: runs again", self.name)

    def _tell_offline(self) -> None:
        """For parts that have devices."""

    def _devices(self) -> tuple[str, ...]:
        return ()

    def _counters(self) -> Mapping[str, int]:
        return {}

    def _last_put_age_s(self) -> float | None:
        return None


class _Wire(_Part):
    """A part with devices, and the ``Sink`` of its driver."""

    def __init__(
        self,
        listener: Listener,
        ids: list[int],
        clock: Clock,
        flow: Flow,
        record: Callable[[Event], object],
        jitter: Callable[[], float],
        declare: Declare,
    ) -> None:
        super().__init__(listener.name, lambda: listener.run(self), clock, jitter, listener.max_retry_s)
        self._declare = declare
        self._listener = listener
        self._ids = ids
        self._flow = flow
        self._record = record
        self._counts: Counter[str] = Counter()
        self._last_put_s: float | None = None

    def put(self, batch: Batch) -> None:
        """``Sink.put``."""
        if batch.valid:
            self._heard()
        self._counts["rows"] += len(batch)
        self._counts["rows_kept"] += self._flow.put(batch)

    def touch(self, ids: Column) -> None:
        """``Sink.touch``."""
        self._heard()
        self._counts["rows_unchanged"] += len(ids)
        self._counts["rows_kept"] += self._flow.touch(ids)

    def event(self, event: Event) -> None:
        """``Sink.event``."""
        self._record(event)

    def count(self, name: str, amount: int = 1) -> None:
        """``Sink.count``."""
        self._counts[name] += amount

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        """``Sink.declare``."""
        ids = [signal.id for signal in await self._declare(specs)]
        self._ids += [number for number in ids if number not in self._ids]
        return ids

    def give_up_signals(self) -> None:
        """All its signals become unknown: nobody reads them any more."""
        self._flow.forget(self._ids)

    def _heard(self) -> None:
        self._last_put_s = self._clock.monotonic_s()
        if self._state is not Health.ONLINE and self._running_since_s is not None:
            self._rose()

    def _tell_online(self, *, first: bool) -> None:  # noqa: ARG002 - a wire tells the first time too
        logger.info("%s: online", self.name)
        self._tell("device.online", {"wire": self.name})

    def _tell_offline(self) -> None:
        self._flow.forget(self._ids)
        self._tell("device.offline", {"wire": self.name, "error": self._error, "hint": self._hint})

    def _tell(self, kind: str, data: Mapping[str, object]) -> None:
        for device in self._listener.devices:
            self._record(Event(kind, self._since_us, device, data))

    def _devices(self) -> tuple[str, ...]:
        return tuple(self._listener.devices)

    def _counters(self) -> Mapping[str, int]:
        return dict(self._counts)

    def _last_put_age_s(self) -> float | None:
        return None if self._last_put_s is None else max(0.0, self._clock.monotonic_s() - self._last_put_s)
