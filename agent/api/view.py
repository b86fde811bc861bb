"""What the API shows of the gateway, and how it acts: the doors between the HTTP routes and the rest of the house.

The composition root implements ``GatewayView`` over the hub, the supervisor, the store and the uplink. All of it is
read from the event loop and must return at once, except ``history``, which the API calls in a thread. It acts through
``SitePorts``.
"""

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from agent.api.setup_view import SetUp
from agent.api.tally import EventFeed
from agent.control.alarm_model import Alarms
from agent.control.load_model import LoadStatus
from agent.control.model import Control
from agent.control.registered import RegisteredStations
from agent.control.timed_event_model import TimedEventBook
from agent.core.model import Event, Number, Session, Signal
from agent.core.ports import ChannelStatus, Latest, Notebook
from agent.insight.maintenance import Maintenance
from agent.insight.service import Insight
from agent.log_ring import LogLine
from agent.pipeline.health import Health, UnitState, WireState
from agent.pipeline.hub import Subscription
from agent.store.audit import Row
from agent.store.audit_file import Wanted
from agent.store.dropped import Gone
from agent.store.settings import StoreStats
from agent.store.wear import Wear

if TYPE_CHECKING:
    from agent.doctor import Bundle


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """Who this gateway is."""

    id: str
    name: str
    timezone: str
    version: str
    boot: str  #: the id of this boot, as 32 hex digits
    broker: str | None = None  #: where the central server's is, as configured; None: the site has no uplink


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A configured device and the wire that it is on; None before its wire was made.

    ``unit`` is its own health where it is asked, or silent: the wire may be well while it is not.
    """

    id: str
    driver: str
    wire: WireState | None
    unit: UnitState | None = None
    name: str = ""  #: for people; empty: it has none
    profile: str = ""  #: its model; empty: its driver needs none
    address: str = ""  #: where it is reached, without secrets

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

    def own(self) -> DeviceInfo:
        """This gateway itself: a device with values, but none of the configuration."""

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


@dataclass(frozen=True, slots=True)
class PendingCharger:
    """A charger that calls and is not let in: unknown, or refused."""

    identity: str  #: the last part of its URL: ``charge_point_id``
    address: str
    version: str  #: what it speaks: ``ocpp1.6``; empty when it was not heard
    reason: str  #: why it is not let in
    first_us: int
    last_us: int
    boot: Mapping[str, object] = field(default_factory=dict)  #: what it says of itself, JSON-able
    device: str = ""  #: the configured device that it says to be; it then only lacks a proof
    connected: bool = False  #: it waits now
    contested: bool = False  #: another one presented another proof under this identity


@dataclass(frozen=True, slots=True)
class Adopted:
    """How a charger proves from now on who it is."""

    outcome: str  #: ``pinned``, ``set``, ``enter`` or ``nothing``
    text: str  #: the same for people
    password: str = field(default="", repr=False)  #: ``enter``: to be entered at the charger; shown this once
    password_hex: str = field(default="", repr=False)  #: the same in hex, which some chargers want


class SiteEditor(Protocol):
    """Changes the devices of the site's configuration file. Blocks: called in a thread. All raise ``ConfigError``.

    The gateway applies the changed file by itself, within some seconds: ``SitePorts.applied`` waits for what they give.
    """

    def add(self, entry: Mapping[str, object]) -> object:
        """Add a device."""

    def replace(self, device: str, entry: Mapping[str, object]) -> object:
        """Give a device other keys."""

    def remove(self, device: str) -> object:
        """Take a device out."""


class SessionBook(Protocol):
    """The charging sessions. Blocks: called in a thread. All raise ``StoreError``."""

    def list_sessions(
        self,
        device: str | None = None,
        running: bool | None = None,  # noqa: FBT001 - a filter of three values
        from_us: int | None = None,
        to_us: int | None = None,
        *,
        outlet: int | None = None,
        newest_first: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[int, Sequence[Session]]:
        """How many started in ``from_us`` <= time < ``to_us``, and one page of them."""

    def session(self, number: int) -> Session | None:
        """One of them."""


class Channels(Protocol):
    """Who is told of alarms."""

    def status(self) -> Sequence[ChannelStatus]:
        """The channels, in the order of the configuration."""

    async def test(self, channel_id: str) -> str:
        """Send a test message; why it was not sent, or nothing. Raises ``CommandRejected`` for an unknown channel."""


class AuditBook(Protocol):
    """The ledger, for reading. Blocks: called in a thread. All raise ``StoreError``."""

    def ledger(self, wanted: Wanted, limit: int, offset: int) -> tuple[int, Sequence[Row]]:
        """How many such events there are, and one page of them, the newest first."""

    def ledger_csv(self, wanted: Wanted, iso: Callable[[int], str]) -> Iterator[str]:
        """The lines of an export, oldest first, as the ledger stands when the first is asked for."""


class StoreBook(Protocol):
    """What the store tells of itself."""

    def stats(self) -> StoreStats:
        """Figures as of now; cheap."""

    def wear(self) -> Wear:
        """What was written to the flash, by day and component, as of the last hour; cheap."""

    def dropped(self, limit: int, offset: int) -> tuple[int, Sequence[Gone]]:
        """How long the record of what was given up is, and one page of it, the newest first.

        Blocks: called in a thread. Raises ``StoreError``.
        """


@dataclass(frozen=True, slots=True)
class PostedRow:
    """A row that a client posts: where it stood, of whom, when (µs UTC), and its physical values by point."""

    place: int
    device: str
    t_us: int
    values: Mapping[str, Number]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of posted rows; ``refused``: the place of each that was not taken, and why.

    Of consumption, ``late`` ones are inserted at the time of the newest, and ``conflicts`` are refused because another
    energy was posted for their time.
    """

    inserted: int
    duplicates: int
    refused: Sequence[tuple[int, str]] = ()
    late: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class PostedEnergy:
    """Consumption that a client posts: where it stood, of whom, how much, and the time that names its interval."""

    place: int
    device: str
    t_us: int
    kwh: float


class EnergyPosts(Protocol):
    """Takes posted consumption."""

    async def post(self, rows: Sequence[PostedEnergy]) -> Taken:
        """Count postings, each (device, time) once for ever. Returns after the commit. Raises ``StoreError``."""


class PostedDevices(Protocol):
    """Devices whose rows clients post. All raise ``StoreError``."""

    def devices(self) -> Sequence[str]:
        """The names of those that post telemetry, sorted."""

    def oldest_us(self) -> int:
        """From when on raw readings are kept; what is older is refused."""

    async def post(self, rows: Sequence[PostedRow]) -> Taken:
        """Store rows, each (device, time) once for ever. Returns after the commit."""

    async def forget(self, device: str) -> bool:
        """Show it no more, until something is posted of it again; whether there was one."""

    async def latest(self, devices: Sequence[str]) -> Mapping[str, Sequence[Latest]]:
        """The newest values of those that are posted, also from before this start; ages count from the rows' times."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of the log, newest first; ``total``: how many fit, ``dropped``: how many had to make room."""

    total: int
    dropped: int
    lines: Sequence[LogLine]


@dataclass(frozen=True, slots=True)
class MadeBackup:
    """A backup, whole. When ``file`` is closed it is gone. ``missing``: named in the configuration, but not there."""

    file: BinaryIO
    size: int
    id: str
    missing: Sequence[str]


class SupportDesk(Protocol):
    """What is made for people who help. Blocks: called in a thread."""

    def logs(self, level: int, text: str, limit: int) -> LogPage:
        """Lines of at least that level in which that text stands, without secrets."""

    def doctor(self, live: Mapping[str, object], findings: Sequence[tuple[str, str, str]]) -> "Bundle":
        """A bundle for support. ``live``: its sections that are known; ``findings``: (severity, what, what to do)."""

    def backup(self, stop: threading.Event, *, with_secrets: bool) -> MadeBackup:
        """A backup. Raises ``StoreError``, also when ``stop`` is set meanwhile."""


@dataclass(frozen=True, slots=True)
class SitePorts:
    """Through what the API acts on the site. What is None is answered with 503: this gateway runs without it."""

    control: Control | None = None
    alarms: Alarms | None = None
    load: Callable[[], LoadStatus | None] | None = None
    notify: Channels | None = None
    events: TimedEventBook | None = None
    event_interval_s: Callable[[], float] | None = None  #: how often another server is asked for events
    editor: SiteEditor | None = None
    #: Waits until what the editor wrote is what runs; False: it was not applied. None: nobody applies it here.
    applied: Callable[[object], Awaitable[bool]] | None = None
    registered: RegisteredStations | None = None  #: stations without a wire
    sessions: SessionBook | None = None
    ledger: AuditBook | None = None
    store: StoreBook | None = None
    notebook: Notebook | None = None  #: where the id tags stand: notes of kind ``id_tag``, by the tag casefolded
    tag_hash: Callable[[str], str] | None = None  #: what is shown of an id tag; empty for none
    pending: Callable[[], Sequence[PendingCharger]] | None = None
    #: Lets a charger in, as far as proof is concerned; by its identity, after its entry was written: it waits until the
    #: configuration that knows the charger is applied. Raises ``StoreError`` and ``Unavailable``.
    adopt: Callable[[str], Awaitable[Adopted]] | None = None
    #: The identity under which a device calls on OCPP; empty for all others.
    identity_of: Callable[[str], str] | None = None
    #: A charger that was taken out must be adopted again before it is served again. Raises ``StoreError``.
    forget: Callable[[str], Awaitable[None]] | None = None
    posted: PostedDevices | None = None
    insight: Insight | None = None
    energy: EnergyPosts | None = None
    maintenance: Maintenance | None = None  #: machines, what was done to them and what is due
    setup: Callable[[], SetUp] = SetUp  #: settings, searches and tests of devices. Blocks: loads them at first
    #: Why the configuration's file can't be written here; empty: it can. Cheap.
    read_only: Callable[[], str] | None = None
    feed: EventFeed | None = None  #: the ledger in order, for counting
    demo: Path | None = None  #: the socket of a demo's director; None: no demo started this gateway (404)
    support: Callable[[], SupportDesk] | None = None  #: blocks: loads it at first
    record: Callable[[Event], None] = lambda event: None  # noqa: ARG005 - told to nobody
