"""A driver that is run once beside the site, and what it reads: into a hub of its own, never into the store."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields

from agent.api.models import label_of
from agent.api.setup_view import Trial, TrialValue
from agent.core.clock import Clock
from agent.core.errors import AgentError
from agent.core.model import Batch, Column, Event, Signal, SignalSpec
from agent.core.ports import Latest, Listener
from agent.pipeline.hub import Hub
from agent.pipeline.polling import PollListener
from agent.plausible import doubtful

LOOK_S = 0.05
#: What comes so soon after the first values belongs to the same reading.
SETTLE_S = 1.0
MAX_VALUES = 50
#: So many values that can hardly be are named.
MAX_ODD = 3
#: Questions without a good answer that show that there will be none.
MISSES = 2

#: What to look at when nothing comes, by driver.
SILENT: Mapping[str, str] = {
    "can": "is the battery on, the cable right, and the bit rate its own?",
    "serial_meter": "is the head in place and the meter's port switched on? do protocol, baud and framing fit?",
    "modbus": "is it on, and are its address, unit id and line settings right?",
    "ocpp": "is the charger on and connected? a restart of it makes it call at once",
}


def told(values: Sequence[Latest], otherwise: str) -> str:
    """What was read, in a few words."""
    if not values:
        return otherwise
    first = _in_words(values[:2])
    return f"{len(values)} value{'s' if len(values) > 1 else ''}: {first}" + (", …" if len(values) > 2 else "")  # noqa: PLR2004


def _in_words(values: Sequence[Latest]) -> str:
    return ", ".join(f"{one.signal.name} {one.value:g} {one.signal.unit}".strip() for one in values)


def shown(values: Sequence[Latest]) -> tuple[TrialValue, ...]:
    """The values as they are answered."""
    return tuple(
        TrialValue(one.signal.name, one.value, one.signal.unit, label_of(one.signal, one.value))
        for one in values[:MAX_VALUES]
        if one.value is not None
    )


def answered(values: Sequence[Latest]) -> Trial:
    """The test of a device that answers: what it told, and which of it can hardly be."""
    odd = [one for one in values if one.value is not None and doubtful(one.signal.name, one.value)]
    hint = ""
    if odd:
        examples = _in_words(odd[:MAX_ODD])
        hint = f"hardly possible: {examples}; does the profile fit the device, and its word order?"
    return Trial(ok=True, text=told(values, "it answers"), hint=hint, values=shown(values))


class Probe:
    """A ``Sink`` that keeps the newest values of one driver, in a hub of its own."""

    def __init__(self, clock: Clock, specs: Sequence[SignalSpec]) -> None:
        self._clock = clock
        self._hub = Hub(clock)
        self._numbers = itertools.count(1)
        self._known: dict[tuple[str, str], Signal] = {}
        self._number(specs)
        self._bad = ""
        self._hint = ""

    @property
    def ids(self) -> Mapping[tuple[str, str], int]:
        """The numbers of the signals that are known beforehand."""
        return {key: signal.id for key, signal in self._known.items()}

    async def read(self, listener: Listener, driver: str, limit_s: float) -> Trial:
        """Run a driver until it has read something, or has failed."""
        began_s = self._clock.monotonic_s()
        running = asyncio.ensure_future(listener.run(self))
        try:
            tested = await self._watch(listener, running, driver, began_s, limit_s)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        seconds = round(self._clock.monotonic_s() - began_s, 2)
        return Trial(tested.ok, tested.text, tested.hint, tested.values, seconds)

    async def _watch(
        self, listener: Listener, running: "asyncio.Future[None]", driver: str, began_s: float, limit_s: float
    ) -> Trial:
        until_s = began_s + limit_s
        heard_s: float | None = None
        while (now_s := self._clock.monotonic_s()) < until_s and not running.done():
            values = self._values()
            if values and heard_s is None:
                heard_s = now_s
            if heard_s is not None and (len(values) == len(self._known) or now_s >= heard_s + SETTLE_S):
                return answered(values)
            units = listener.unit_states() if isinstance(listener, PollListener) else []
            for unit in units:
                if heard_s is None and unit.misses >= MISSES:
                    return Trial(ok=False, text=unit.last_error, hint=unit.hint or SILENT[driver])
            await self._clock.sleep_s(LOOK_S)
        return self._failed(running, driver, limit_s)

    def _failed(self, running: "asyncio.Future[None]", driver: str, limit_s: float) -> Trial:
        values = self._values()
        if values:
            return answered(values)
        if running.done():
            error = running.exception()
            if not isinstance(error, AgentError):
                raise AgentError("test", "its driver ended: the log says why") from error
            return Trial(ok=False, text=f"{error.op}: {error.reason}", hint=error.hint or SILENT[driver])
        what = f"only what can't be read was heard ({self._bad})" if self._bad else "nothing was heard"
        return Trial(ok=False, text=f"{what} in {limit_s:.0f} s", hint=self._hint or SILENT[driver])

    def _values(self) -> list[Latest]:
        return [one for one in self._hub.latest(self._known.values()) if one.value is not None]

    def _number(self, specs: Sequence[SignalSpec]) -> list[Signal]:
        found = []
        for spec in specs:
            key = spec.device, spec.name
            if key not in self._known:
                known = {one.name: getattr(spec, one.name) for one in fields(SignalSpec)}
                self._known[key] = Signal(**known, id=next(self._numbers))
            found.append(self._known[key])
        return found

    # -- Sink

    def put(self, batch: Batch) -> None:
        """See ``Sink``."""
        self._hub.update(batch)

    def touch(self, ids: Column) -> None:
        """See ``Sink``."""
        self._hub.touch(ids)

    def event(self, event: Event) -> None:
        """See ``Sink``."""
        hint = event.data.get("hint")
        if isinstance(hint, str) and hint:
            self._hint = hint

    def count(self, name: str, amount: int = 1) -> None:  # noqa: ARG002 - the port's
        """See ``Sink``."""
        if name.startswith("bad."):
            self._bad = name.removeprefix("bad.").replace("_", " ")

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        """See ``Sink``."""
        return [signal.id for signal in self._number(specs)]
