"""Who directs the demo: plays the scenario, switches faults, and tells both to who asks.

Rules of this file:

1. Faults are put into counterparts, never into the gateway. One is on while somebody wants it: a person, or the step
   of the scenario that goes on. Who switches it off by hand switches it off for both.
2. The scenario begins anew when it is started, and takes its own faults back when it is stopped.
3. What the counterparts draw, as they report it, is what the grid's meter is told to measure.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from agent.cli.demo_script import FAULTS, STEPS, Fault, Order, Step
from agent.core.clock import Clock

PHASES = 3
_METER = "grid"
_PERSON, _SCENARIO = "person", "scenario"


class UnknownFaultError(Exception):
    """There is no fault with that id."""


class Tell(Protocol):
    """Gives a counterpart an order. One that is gone is the site's trouble, which ends the demo."""

    def __call__(self, counterpart: str, order: Mapping[str, Any]) -> None:
        """Send it."""


class Director:
    """Directs the counterparts. ``said`` is given each step's text as it begins."""

    def __init__(self, clock: Clock, tell: Tell, said: Callable[[str], None], steps: Sequence[Step] = STEPS) -> None:
        self.reports: dict[str, Mapping[str, Any]] = {}  #: the newest of each counterpart
        self._clock = clock
        self._tell = tell
        self._said = said
        self._steps = steps
        self._faults = {fault.id: fault for fault in FAULTS}
        self._wanted: dict[str, set[str]] = {}
        self._number = 0
        self._since_us = clock.now_us()
        self._playing: asyncio.Task[None] | None = None

    # What others ask for

    @property
    def running(self) -> bool:
        """Whether the scenario goes on."""
        return self._playing is not None

    async def play(self, *, running: bool) -> None:
        """Start the scenario with its first step, or stop it."""
        if running == self.running:
            return
        if self._playing is None:
            self._playing = asyncio.create_task(self._play(), name="scenario")
            await asyncio.sleep(0)  # its first step has begun
            return
        task, self._playing = self._playing, None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self._since_us = self._clock.now_us()
        self._hold(())
        self._tell("battery1", {"do": "ask", "current_a": None})

    def switch(self, fault_id: str, *, active: bool) -> None:
        """Switch a fault by hand. Raises ``UnknownFaultError``."""
        fault = self._faults.get(fault_id)
        if fault is None or fault.hidden:
            raise UnknownFaultError(fault_id)
        wanted = {*self._wanted.get(fault_id, ()), _PERSON} if active else set()
        self._want(fault, wanted)

    def heard(self, counterpart: str, report: Mapping[str, Any]) -> None:
        """A counterpart reports; the meter is told what all of them draw."""
        self.reports[counterpart] = report
        if "power_w" in report:
            drawn = [one["power_w"] for one in self.reports.values() if "power_w" in one]
            sums = [sum(power_w[phase] for power_w in drawn) for phase in range(PHASES)]
            self._tell(_METER, {"do": "draw", "power_w": [round(power_w, 1) for power_w in sums]})

    def state(self) -> dict[str, Any]:
        """The scenario and the faults, as JSON; ``since_us``: µs UTC."""
        step = self._steps[self._number]
        after = self._steps[(self._number + 1) % len(self._steps)]
        return {
            "scenario": {
                "running": self.running,
                "step": step.id if self.running else None,
                "text": step.text if self.running else None,
                "since_us": self._since_us,
                "next": after.text if self.running else None,
                "steps": [{"id": one.id, "text": one.text, "lasts_s": one.lasts_s} for one in self._steps],
            },
            "faults": [
                {"id": one.id, "title": one.title, "text": one.text, "active": bool(self._wanted.get(one.id))}
                for one in self._faults.values()
                if not one.hidden
            ],
        }

    # The scenario

    async def _play(self) -> None:
        while True:
            for number, step in enumerate(self._steps):
                self._number = number
                self._since_us = self._clock.now_us()
                self._said(step.text["en"])
                self._hold(step.faults)
                self._give(step.orders)
                await self._clock.sleep_s(step.lasts_s)

    def _give(self, orders: Sequence[Order]) -> None:
        for counterpart, order in orders:
            self._tell(counterpart, order)

    def _hold(self, faults: Sequence[str]) -> None:
        """The scenario wants these faults, and no other."""
        for fault in self._faults.values():
            wanted = self._wanted.get(fault.id, set()) - {_SCENARIO}
            self._want(fault, wanted | {_SCENARIO} if fault.id in faults else wanted)

    def _want(self, fault: Fault, wanted: set[str]) -> None:
        if bool(wanted) != bool(self._wanted.get(fault.id)):
            self._tell(fault.counterpart, {"do": "fault", "name": fault.name, "on": bool(wanted)})
        self._wanted[fault.id] = wanted
