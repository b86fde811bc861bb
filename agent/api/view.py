"""What the API shows of the gateway: the one door between the HTTP routes and the rest of the house.

The composition root implements ``GatewayView`` over the hub, the supervisor, the store and the uplink. All of it is
read from the event loop and must return at once, except ``history``, which the API calls in a thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.core.model import Number, Signal
from agent.core.ports import Latest
from agent.pipeline.health import Health, UnitState, WireState
from agent.pipeline.hub import Subscription


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """Who this gateway is."""

    id: str
    name: str
    timezone: str
    version: str
    boot: str  #: the id of this boot, as 32 hex digits


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A configured device and the wire that it is on; None before its wire was made.

    ``unit`` is its own health where it is asked, or silent: the wire may be well while it is not.
    """

    id: str
    driver: str
    wire: WireState | None
    unit: UnitState | None = None

    @property
    def state(self) -> Health:
        """How the device is, as far as that is known: its own health, else its wire's."""
        health = self.unit or self.wire
        return health.state if health else Health.STARTING


@dataclass(frozen=True, slots=True)
class PartHealth:
    """Health of a part other than the wires. The store's is called ``db``."""

    name: str
    ok: bool
    detail: str = ""  #: what is wrong, in one sentence
    hint: str = ""  #: what to do about it


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """What was known of a signal in one interval of time, in its unit.

    ``min`` and ``max`` are None when it was unknown all along, ``last`` when it was unknown at the end, ``mean`` also
    where an average makes no sense (states). ``gap`` says that it was unknown at some time in the interval.
    """

    t_us: int  #: start of the interval, or the time of the row where rows are few enough to be shown singly, µs UTC
    min: Number | None
    max: Number | None
    mean: float | None
    last: Number | None
    count: int  #: rows that it stands for
    gap: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """Points in order of time. ``interval_s`` is the width of each; 0 when each point is one stored row."""

    interval_s: float
    points: Sequence[HistoryPoint] = field(default_factory=tuple)


class GatewayView(Protocol):
    """Read side of the gateway."""

    def site(self) -> SiteInfo:
        """Who this gateway is."""

    def signals(self) -> Sequence[Signal]:
        """The signals of the present configuration by id; the same object until the configuration changes."""

    def signal(self, name_or_id: str) -> Signal | None:
        """A signal by its full name (``battery1.soc_pct``) or its number; also one that is no longer configured."""

    def devices(self) -> Sequence[DeviceInfo]:
        """The configured devices in the order of the configuration."""

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        """One entry for each of the signals, in their order."""

    def history(self, signal: Signal, from_us: int, to_us: int, points: int) -> History:
        """At most ``points`` points from ``from_us`` up to, not including, ``to_us``; minima and maxima are kept.

        Blocks on the store: called in a thread. Raises ``StoreError``.
        """

    def health(self) -> Sequence[PartHealth]:
        """The parts other than wires: ``db``, ``uplink`` ..."""

    def counters(self) -> Mapping[str, Mapping[str, Number]]:
        """Figures of the parts for ``/metrics``: part -> name -> figure. A name that ends in ``_total`` only grows."""

    def subscribe(self) -> Subscription:
        """The batches that are kept from now on."""
