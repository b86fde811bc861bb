"""A wire on which we ask: the schedule, misses, probes and edges of all polled protocols. ``Listener`` of the ports.

Rules of this file (``units.py`` holds them for one unit):

1. One question at a time. Each job has a fixed grid of slots; the job whose slot is oldest is asked first. A late job
   runs once: slots that went by are counted (``overrun``) and never caught up. No unit starves: whoever was just asked
   is due later than all who wait. A unit's jobs may change while it runs: they are looked at each second.
2. A question without a good answer is a *miss* of its unit: ``NoAnswer``, ``BadData`` (also counted: ``bad``), or a bug
   of its driver (counted: ``crashed``; the traceback is logged once until it answers). After a miss the others on the
   wire have as much time as the miss took.
3. After ``MISSES`` in a row a unit is *silent*: its signals are unknown, ``device.silent`` is told, and only its first
   job is tried, after 5, 10, 20, 40, 60, 60 … s. A probe that failed is followed by ``REST`` times its length for the
   units that answer, whoever is due: all silent units together add no more than a tenth to the others' cycle.
4. The first good answer of a silent unit tells ``device.heard``; it is asked all that it has at once.
5. ``Unsupported`` stops its unit for good and tells ``device.unsupported``; when all have stopped, it ends the wire.
6. ``Unavailable`` is the wire's: it ends ``run``. So does a wire on which nobody answers: all units silent, or all who
   are not have missed, ``MISSES`` times together (then they are silent too). A connection that only seems to stand is
   opened anew so; then each unit is probed once at once, and if nobody answers the wire ends again.
7. A unit that was silent stays so over new openings, without a further word. ``device.online`` is told by a unit's
   first answer after its wire was lost; ``device.offline``, for those not known to be silent, by the supervisor.
8. What is a fault of one unit never disturbs the others. So this file is a part of the supervision, and one of the
   places with a broad ``except``; a fault of the wire and all else is the supervisor's.
"""

import asyncio
import heapq
import logging
import math
from array import array
from collections.abc import Mapping, Sequence
from itertools import count

from agent.core.clock import Clock
from agent.core.errors import BadData, NoAnswer, StoreError, Unavailable, Unsupported
from agent.core.model import Batch, Event
from agent.core.ports import Commandable, Poller, Sink
from agent.pipeline.health import UnitState
from agent.pipeline.units import MISSES, Unit

logger = logging.getLogger(__name__)

#: After a probe that failed, the wire belongs to those who answer for so many times as long as it took.
REST = 10
#: How long closing may take; within what the supervisor grants.
CLOSE_S = 1.0
#: Before anything is handed on, a unit may be asked so often: late answers are waited for, writes go first.
ASKED_TIMES = 4
#: How often the units' jobs are looked at: a setting may have to be repeated from now on.
LOOK_S = 1.0

_NOTHING = array("i")


class PollListener:
    """Runs a ``Poller``. Give it to ``Supervisor.add``, which tells the edges of such a wire unit by unit."""

    def __init__(self, poller: Poller, clock: Clock) -> None:
        self._poller = poller
        self._clock = clock
        self._units = [Unit(polled) for polled in poller.units]
        now_us = clock.now_us()
        for unit in self._units:
            unit.since_us = now_us
        self._rest_until_s = clock.monotonic_s()
        self._shown_s = 0.0
        self._heard = False  # somebody has answered since the wire was opened
        self._wanted: set[str] = set()  # units that somebody wants to be asked now
        self._probing = False  # nobody answered when it was opened: it stays open until all were probed

    @property
    def name(self) -> str:
        """The wire, as people know it."""
        return self._poller.name

    @property
    def devices(self) -> Sequence[str]:
        """The ids of the devices on this wire."""
        return tuple(unit.device for unit in self._units)

    @property
    def max_retry_s(self) -> float:
        """The longest pause before the wire is opened again."""
        return self._poller.max_retry_s

    @property
    def shown_s(self) -> float:
        """When its loop last went round, or until when it waits for an answer."""
        shown_s: float = getattr(self._poller, "shown_s", 0.0)
        return max(self._shown_s, shown_s)

    @property
    def commandables(self) -> Mapping[str, Commandable]:
        """What of each device can be set, where the protocol has that."""
        found: Mapping[str, Commandable] = getattr(self._poller, "commandables", {})
        return found

    def ask_now(self, device: str) -> None:
        """Ask a unit all that it has, within a second: somebody wants to know, also of one that is silent."""
        self._wanted.add(device)

    def unit_states(self) -> list[UnitState]:
        """What is known of each unit itself; the supervisor adds what its wire does."""
        now_s = self._clock.monotonic_s()
        return [
            UnitState(
                unit.device,
                self.name,
                unit.state,
                unit.since_us,
                unit.error,
                unit.hint,
                max(0.0, unit.next_s - now_s) if unit.silent and not unit.stopped else None,
                unit.misses,
                None if unit.answered_s is None else now_s - unit.answered_s,
            )
            for unit in self._units
        ]

    async def run(self, sink: Sink) -> None:
        """Open, ask until cancelled, close. Raises ``Unavailable`` or ``Unsupported``."""
        try:
            self._end_if_all_stopped()
            await self._poller.open()
            self._opened()
            await self._ask_all(sink)
        finally:
            for unit in self._units:
                unit.closed()
            try:
                await self._close()
            finally:
                for unit in self._units:
                    unit.polled.forget()

    def _opened(self) -> None:
        now_s = self._clock.monotonic_s()
        self._heard = False
        self._rest_until_s = now_s
        self._probing = all(unit.silent or unit.stopped for unit in self._units)
        now_us = self._clock.now_us()
        for index, unit in enumerate(self._units):
            unit.opened(now_s, index / len(self._units), probe=self._probing)
            if not (unit.silent or unit.stopped):
                unit.since_us = now_us

    async def _ask_all(self, sink: Sink) -> None:
        order = count()
        queue: list[tuple[float, int, Unit]] = []
        look_s = -math.inf
        while True:
            now_s = self._clock.monotonic_s()
            self._shown_s = now_s
            if now_s >= look_s:
                look_s = now_s + LOOK_S
                hurried = sum(unit.hurry(now_s) for unit in self._units if unit.device in self._wanted)
                self._wanted.clear()
                if sum(unit.learn(now_s) for unit in self._units) or hurried or not queue:
                    queue = [(unit.next_s, next(order), unit) for unit in self._units]
                    heapq.heapify(queue)
            due_s, _, unit = queue[0] if queue else (math.inf, 0, None)
            if unit is None or due_s > now_s:
                await self._clock.sleep_s(min(due_s, look_s) - now_s)
            elif unit.silent and due_s < self._rest_until_s and self._anybody():
                heapq.heapreplace(queue, (self._rest_until_s, next(order), unit))
            else:
                await self._ask(unit, now_s, sink)
                heapq.heapreplace(queue, (unit.next_s, next(order), unit))

    async def _ask(self, unit: Unit, now_s: float, sink: Sink) -> None:
        job, overrun = unit.pick(now_s)
        sink.count("polls")
        self._shown_s = now_s + ASKED_TIMES * getattr(unit.polled, "timeout_s", 0.0)
        if overrun:
            sink.count("overrun", overrun)
        try:
            await job.run(sink)
        except NoAnswer as error:
            self._missed(unit, error, now_s, sink)
        except BadData as error:
            sink.count("bad")
            self._missed(unit, error, now_s, sink)
        except Unsupported as error:
            self._stop(unit, error, sink)
        except Unavailable:
            raise
        except StoreError:
            # It did answer; what it told anew can't be numbered now. Its next reading tries again, the store says why.
            sink.count("undeclared")
            self._answered(unit, sink)
        except Exception as error:  # noqa: BLE001 - rule 8
            sink.count("crashed")
            self._tell_crash(unit, error)
            self._missed(unit, error, now_s, sink)
        else:
            self._answered(unit, sink)

    def _answered(self, unit: Unit, sink: Sink) -> None:
        was_silent = unit.silent
        unit.answered(self._clock.monotonic_s())
        if unit.online and not was_silent and self._heard:
            return
        if not self._heard:
            self._heard, self._probing = True, False
            sink.touch(_NOTHING)  # the wire works, even if this answer had no value in it
        unit.since_us = now_us = self._clock.now_us()
        if was_silent:
            logger.info("%s: %s answers again", self.name, unit.device)
            sink.event(Event("device.heard", now_us, unit.device, {"wire": self.name}))
        if not unit.online:
            unit.online = True
            sink.event(Event("device.online", now_us, unit.device, {"wire": self.name}))

    def _missed(self, unit: Unit, error: Exception, asked_s: float, sink: Sink) -> None:
        sink.count("misses")
        now_s = self._clock.monotonic_s()
        shared = any(other.alive for other in self._units if other is not unit)
        was_silent = unit.silent
        unit.missed(error, asked_s, now_s, shared=shared)
        if was_silent:
            if shared:
                self._rest_until_s = now_s + REST * (now_s - asked_s)
        elif unit.misses >= MISSES:
            self._fall_silent(unit, now_s, sink, shared=shared)
        else:
            alive = [other for other in self._units if other.alive]
            if all(other.misses for other in alive) and sum(other.misses for other in alive) >= MISSES:
                for other in alive:
                    self._fall_silent(other, now_s, sink, shared=False)
        self._end_if_nobody_answers(error)

    def _fall_silent(self, unit: Unit, now_s: float, sink: Sink, *, shared: bool) -> None:
        unit.fall_silent(now_s)
        now_us = self._lose(unit, sink)
        silent_s = 0.0 if unit.known_s is None else round(now_s - unit.known_s, 3)
        data = {"wire": self.name, "error": unit.error, "hint": unit.hint, "silent_s": silent_s}
        sink.event(Event("device.silent", now_us, unit.device, data))
        if shared:  # the last one ends the wire, and the supervisor says so
            hint = f" ({unit.hint})" if unit.hint else ""
            logger.warning("%s: %s is silent: %s%s", self.name, unit.device, unit.error, hint)

    def _stop(self, unit: Unit, error: Unsupported, sink: Sink) -> None:
        unit.stopped = True
        unit.note(error)
        now_us = self._lose(unit, sink)
        data = {"wire": self.name, "error": unit.error, "hint": unit.hint}
        sink.event(Event("device.unsupported", now_us, unit.device, data))
        if all(other.stopped for other in self._units):
            raise error
        logger.error("%s: %s stopped for good: %s", self.name, unit.device, error)
        self._end_if_nobody_answers(error)

    def _lose(self, unit: Unit, sink: Sink) -> int:
        """Nothing of a unit is known from now on; gives the time."""
        unit.since_us = now_us = self._clock.now_us()
        ids = array("i", unit.polled.signals)
        if ids:
            zeros = array("q", [0]) * len(ids)
            sink.put(Batch(ids, array("q", [now_us]) * len(ids), zeros, valid=False))
        unit.polled.forget()
        return now_us

    def _anybody(self) -> bool:
        return any(unit.alive for unit in self._units)

    def _end_if_all_stopped(self) -> None:
        if self._units and all(unit.stopped for unit in self._units):
            last = self._units[-1]
            raise Unsupported(f"poll {self.name}", f"none of its units can be read: {last.error}", last.hint)

    def _end_if_nobody_answers(self, error: Exception) -> None:
        """The wire's end: nobody is alive, and where that was so at its opening already, all were tried."""
        asked = [unit for unit in self._units if not unit.stopped and unit.next_s < math.inf]
        if not asked or any(unit.alive or (self._probing and not unit.tried) for unit in asked):
            return
        last = next((unit for unit in asked if unit.error), asked[0])
        reason = last.error if len(self._units) == 1 else f"none of its units answers; {last.device}: {last.error}"
        raise Unavailable(f"poll {self.name}", reason, last.hint) from error

    def _tell_crash(self, unit: Unit, error: Exception) -> None:
        kind = type(error).__name__
        if kind not in unit.crashed:
            unit.crashed.add(kind)
            logger.error("%s: %s crashed", self.name, unit.device, exc_info=error)

    async def _close(self) -> None:
        """Close, however often we are cancelled meanwhile, but not for ever."""
        closing = asyncio.ensure_future(self._poller.close())
        timer = asyncio.ensure_future(self._clock.sleep_s(CLOSE_S))
        cancelled: asyncio.CancelledError | None = None
        while not (closing.done() or timer.done()):
            try:
                await asyncio.wait({closing, timer}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                cancelled = error
        timer.cancel()
        if not closing.done():
            closing.cancel()
            logger.warning("%s: did not close within %.0f s", self.name, CLOSE_S)
        results = await asyncio.gather(closing, timer, return_exceptions=True)
        if cancelled is not None:
            raise cancelled
        if isinstance(results[0], Exception):
            raise results[0]
