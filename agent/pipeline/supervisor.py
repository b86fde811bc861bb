"""Runs the wires: one task each, restarted with back-off, so that one wire's fault never disturbs another.

Rules of this file:

1. A wire is *online* once it has delivered something since it was opened, or has stayed open for ``STAYED_UP_S``: a
   bus on which nobody speaks is a working wire; that its devices are silent is told by their signals' ages and by its
   driver.
2. What ends ``run`` decides what follows. ``Unsupported``: this wire stops for good. Any other ``AgentError``, and a
   ``run`` that returns: back-off and again. Any other exception is a bug of the driver: the same, but its traceback is
   logged. The supervision alone may catch everything: here, and for units on a polled wire in ``polling.py``.
3. Back-off doubles from ``FIRST_RETRY_S`` to ``MAX_RETRY_S`` (of a wire: to the ``max_retry_s`` that it says), each
   with jitter (half to all of it). It begins anew only after ``STEADY_S`` online, so a wire that opens and dies at once
   does not restart each second for ever.
4. Log lines and events (``device.online``, ``device.offline``) stand at edges only: a fault that repeats while the wire
   is offline is counted, and logged again only if it is of another kind.
5. On the edge to offline all signals of the wire become unknown, also when its driver crashed and could not say so.
6. A wire whose devices are asked (``polling.py``) is online only while somebody has answered since it was opened. Its
   units tell their own edges; ``device.offline`` is told of those that were not known to be silent.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping

from agent.core.clock import Clock
from agent.core.model import Event, Signal
from agent.core.ports import Listener
from agent.pipeline.flow import Flow
from agent.pipeline.health import Health, UnitState, WireState
from agent.pipeline.part import FIRST_RETRY_S, MAX_RETRY_S, STAYED_UP_S, STEADY_S, Part
from agent.pipeline.polling import PollListener
from agent.pipeline.wire import Declare, PolledWire, Wire, declare_nothing

__all__ = [
    "FIRST_RETRY_S",
    "MAX_RETRY_S",
    "STAYED_UP_S",
    "STEADY_S",
    "STOP_S",
    "Declare",
    "Health",
    "Supervisor",
    "UnitState",
    "WireState",
]

logger = logging.getLogger(__name__)

STOP_S = 2.0
TICK_S = 1.0


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
        declare: Declare = declare_nothing,
    ) -> None:
        self._clock = clock
        self._flow = flow
        self._record = record
        self._jitter = jitter
        self._declare = declare
        self._wires: list[Wire] = []
        self._parts: list[Part] = [Part("pipeline tick", self._tick, clock, jitter)]
        self._tasks: dict[asyncio.Task[None], Part] = {}
        self._started = False
        self._ticked_s = clock.monotonic_s()

    def add(self, listener: Listener, signals: Iterable[Signal] = ()) -> None:
        """Run a wire. ``signals`` are all that it can deliver: they become unknown when it goes offline."""
        ids = [signal.id for signal in signals]
        ports = self._clock, self._flow, self._record, self._jitter, self._declare
        wire = PolledWire(listener, ids, *ports) if isinstance(listener, PollListener) else Wire(listener, ids, *ports)
        self._wires.append(wire)
        self._spawn(wire)

    def add_part(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run something else that must not end (the uplink, the clean-up), restarted like a wire."""
        part = Part(name, run, self._clock, self._jitter)
        self._parts.append(part)
        self._spawn(part)

    def extend(self, name: str, signals: Iterable[Signal]) -> None:
        """A running wire can deliver these too: its driver took in another device."""
        for wire in self._wires:
            if wire.name == name:
                wire.extend(signal.id for signal in signals)

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

    def try_now(self, device: str) -> None:
        """Ask a device at once, whatever its schedule or the back-off of its wire say; of those that are asked."""
        for wire in self._wires:
            if device in wire.devices:
                wire.try_now()
                wire.ask_now(device)

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

    async def _end(self, tasks: Mapping[asyncio.Task[None], Part]) -> None:
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

    def unit_states(self) -> list[UnitState]:
        """Devices with a health of their own: all that are asked, the others while they are worse than their wire."""
        return [unit for wire in self._wires for unit in wire.unit_states()]

    def parts(self) -> list[WireState]:
        """The other parts, in the same terms; they have no devices."""
        return [part.snapshot() for part in self._parts]

    def signs(self) -> list[tuple[str, float | None]]:
        """Whoever runs here, and how many seconds ago it showed that it is at work; None: that is not expected now.

        A task that has ended though nobody ended it will never show anything again.
        """
        tick = ("pipeline", self._clock.monotonic_s() - self._ticked_s)
        ended = [
            (part.name, math.inf)
            for task, part in self._tasks.items()
            if task.done() and part.snapshot().state is not Health.UNSUPPORTED
        ]
        return [tick, *ended, *((part.name, part.idle_s()) for part in (*self._parts, *self._wires))]

    def _spawn(self, part: Part) -> None:
        if self._started:
            self._tasks[asyncio.create_task(part.supervise(), name=part.name)] = part

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep_s(TICK_S)
            self._ticked_s = self._clock.monotonic_s()
            self._flow.tick()
            for part in (*self._parts, *self._wires):
                part.tick()
