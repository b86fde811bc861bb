"""A wire as the supervisor runs it: a part with devices, and the ``Sink`` of its driver."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from agent.core.clock import Clock
from agent.core.errors import AgentError
from agent.core.model import Batch, Column, Event, Signal, SignalSpec
from agent.core.ports import Listener
from agent.pipeline.flow import Flow
from agent.pipeline.health import Health, UnitState
from agent.pipeline.part import Part
from agent.pipeline.polling import PollListener

logger = logging.getLogger(__name__)

#: Gives numbers to signals that a wire found out about: the store numbers them, the gate learns their rules.
Declare = Callable[[Sequence[SignalSpec]], Awaitable[Sequence[Signal]]]


#: What a device that is not asked tells of itself while its wire is well: kind, the kind that ends it, and in words.
_UNWELL = {
    "device.silent": ("device.heard", "nothing good is heard of it"),
    "device.frozen": ("device.alive", "it sends the same again and again"),
}
_WELL = {ended: kind for kind, (ended, _) in _UNWELL.items()}


async def declare_nothing(specs: Sequence[SignalSpec]) -> Sequence[Signal]:
    """Where nobody numbers signals. Raises ``AgentError``."""
    raise AgentError(f"declare {specs[0].full_name}", "nobody numbers signals here")


class Wire(Part):
    """A part with devices, and the ``Sink`` of its driver."""

    def __init__(
        self,
        listener: Listener,
        ids: Iterable[int],
        clock: Clock,
        flow: Flow,
        record: Callable[[Event], object],
        jitter: Callable[[], float],
        declare: Declare,
    ) -> None:
        super().__init__(listener.name, lambda: listener.run(self), clock, jitter, listener.max_retry_s)
        self._declare = declare
        self._listener = listener
        self._ids = dict.fromkeys(ids)
        self._flow = flow
        self._record = record
        self._counts: Counter[str] = Counter()
        self._last_put_s: float | None = None
        self._unwell: dict[tuple[str, str], Event] = {}  #: by device and kind of event, until it is over
        #: Where devices call us: those that have. That such a wire is open says nothing of them.
        self._called: set[str] | None = set() if getattr(listener, "calls_in", False) else None

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
        if event.kind in _UNWELL:
            self._unwell[event.subject, event.kind] = event
        else:
            self._unwell.pop((event.subject, _WELL.get(event.kind, "")), None)
        if self._called is not None and event.kind in {"device.online", "device.heard"}:
            self._called.add(event.subject)
        self._record(event)

    def unit_states(self) -> list[UnitState]:
        """Those of its devices that are not well though the wire is."""
        if self._state is not Health.ONLINE:
            return []
        unwell = [self._unit_state(kind, event) for (_, kind), event in self._unwell.items()]
        return [*unwell, *self._awaited({unit.device for unit in unwell})]

    def _awaited(self, known: Container[str]) -> Iterator[UnitState]:
        """Devices that are to call and have not, since the wire was opened."""
        if self._called is None:
            return
        for device in self._listener.devices:
            if device not in self._called and device not in known:
                yield UnitState(
                    device, self.name, Health.STARTING, self._since_us, "it has not called yet", "", None, 0, None
                )

    def _unit_state(self, kind: str, event: Event) -> UnitState:
        return UnitState(
            event.subject,
            self.name,
            Health.OFFLINE,
            event.t_us,
            _UNWELL[kind][1],
            str(event.data.get("hint", "")),
            None,
            0,
            self._last_put_age_s(),
        )

    def count(self, name: str, amount: int = 1) -> None:
        """``Sink.count``."""
        self._counts[name] += amount

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        """``Sink.declare``."""
        ids = [signal.id for signal in await self._declare(specs)]
        self._ids.update(dict.fromkeys(ids))
        return ids

    @property
    def devices(self) -> Sequence[str]:
        """The ids of its devices."""
        return self._listener.devices

    def ask_now(self, device: str) -> None:
        """Ask one of its devices at once, where devices are asked."""

    def extend(self, ids: Iterable[int]) -> None:
        """These can be delivered too: a device was added to the wire while it runs."""
        self._ids.update(dict.fromkeys(ids))

    def give_up_signals(self) -> None:
        """All its signals become unknown: nobody reads them any more."""
        self._flow.forget(self._ids)

    def _heard(self) -> None:
        self._last_put_s = self._clock.monotonic_s()
        if self._state is not Health.ONLINE and self._running_since_s is not None:
            self._rose()

    def _tell_online(self, *, first: bool) -> None:  # noqa: ARG002 - a wire tells the first time too
        logger.info("%s: online", self.name)
        if self._called is None:
            self._tell("device.online", self._listener.devices, {"wire": self.name})

    def _tell_offline(self) -> None:
        self._flow.forget(self._ids)
        data = {"wire": self.name, "error": self._error, "hint": self._hint}
        self._tell("device.offline", self._lost(), data)

    def _lost(self) -> Iterable[str]:
        """Those of whom the end of the wire is news."""
        if self._called is None:
            return self._listener.devices
        silent = {device for device, kind in self._unwell if kind == "device.silent"}
        called, self._called = self._called, set()
        return [device for device in self._listener.devices if device in called and device not in silent]

    def _tell(self, kind: str, devices: Iterable[str], data: Mapping[str, object]) -> None:
        for device in devices:
            self._record(Event(kind, self._since_us, device, data))

    def _devices(self) -> tuple[str, ...]:
        return tuple(self._listener.devices)

    def _counters(self) -> Mapping[str, int]:
        return dict(self._counts)

    def _shown_s(self) -> float | None:
        shown_s: float | None = getattr(self._listener, "shown_s", None)
        return shown_s if shown_s is None or self._last_put_s is None else max(shown_s, self._last_put_s)

    def _last_put_age_s(self) -> float | None:
        return None if self._last_put_s is None else max(0.0, self._clock.monotonic_s() - self._last_put_s)


class PolledWire(Wire):
    """A wire whose units are asked. That it is open says nothing of them: each tells its own edges (``polling.py``)."""

    def __init__(
        self,
        listener: PollListener,
        ids: Iterable[int],
        clock: Clock,
        flow: Flow,
        record: Callable[[Event], object],
        jitter: Callable[[], float],
        declare: Declare,
    ) -> None:
        super().__init__(listener, ids, clock, flow, record, jitter, declare)
        self._polled = listener
        self._told_offline: set[str] = set()  # devices, until they are told to be online again

    def event(self, event: Event) -> None:
        """``Sink.event``."""
        if event.kind == "device.online":
            self._told_offline.discard(event.subject)
        super().event(event)

    def ask_now(self, device: str) -> None:
        """Ask one of its units at once."""
        self._polled.ask_now(device)

    def tick(self) -> None:
        """Staying open proves nothing here: somebody must answer."""

    def unit_states(self) -> list[UnitState]:
        """Its units; of those not known to be silent, what the wire's end means for them."""
        units = self._polled.unit_states()
        wire = self.snapshot()
        if wire.state in {Health.STARTING, Health.ONLINE}:
            return units
        return [
            replace(unit, next_try_s=wire.next_try_s)
            if unit.state is Health.OFFLINE
            else unit
            if unit.state is Health.UNSUPPORTED
            else replace(
                unit,
                state=wire.state,
                since_us=wire.since_us,
                last_error=wire.last_error,
                hint=wire.hint,
                next_try_s=wire.next_try_s,
            )
            for unit in units
        ]

    def _tell_online(self, *, first: bool) -> None:  # noqa: ARG002 - see Wire
        logger.info("%s: online", self.name)

    def _lost(self) -> Iterable[str]:
        gone = {Health.OFFLINE, Health.UNSUPPORTED}
        lost = [unit.device for unit in self._polled.unit_states() if unit.state not in gone]
        news = [device for device in lost if device not in self._told_offline]
        self._told_offline.update(news)
        return news
