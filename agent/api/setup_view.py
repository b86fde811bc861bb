"""What setting a site up takes: its settings, searches for devices, tests of them, and what `enlace check` says.

The composition root implements these ports. Those that block say so, and are called in threads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.core.errors import AgentError, ConfigError
from agent.core.model import Number

Severity = Literal["error", "warning", "info"]
ScanKind = Literal["can", "modbus", "serial", "ocpp"]
ScanState = Literal["idle", "waiting", "running", "done", "failed", "cancelled"]

SCAN_KINDS: tuple[ScanKind, ...] = ("can", "modbus", "serial", "ocpp")


class OccupiedError(AgentError):
    """It can't be done while something else goes on: another search or test, or a device that has the wire."""


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """Something that is wrong with a configuration, or worth a look."""

    severity: Severity
    where: str  #: ``site.yaml:5:14``; empty: the place does not matter
    what: str
    hint: str = ""
    key: str = ""  #: of an entry or a section that was asked about: the key in it, dotted; empty: the whole
    text: str = ""  #: the whole line, as ``enlace check`` prints it


class FindingsError(ConfigError):
    """A configuration is refused; ``findings`` are why, each with the key that it is about."""

    def __init__(self, op: str, reason: str, findings: Sequence[CheckFinding], hint: str = "") -> None:
        super().__init__(op, reason, hint)
        self.findings = tuple(findings)


class DeviceThereError(ConfigError):
    """A device of that name stands in the file already, whether or not it runs yet."""


class NoDeviceError(ConfigError):
    """No device of that name stands in the file (any more)."""


@dataclass(frozen=True, slots=True)
class SiteNow:
    """The settings of the site as they count now."""

    id: str
    name: str
    timezone: str
    import_limit_a: float | None
    power_return_s: float
    read_only: str  #: why the file can't be written here; empty: it can
    locked: Sequence[str]  #: keys that the environment overrides
    id_change: str  #: what another id means


class SiteSettings(Protocol):
    """The site's own section of the configuration."""

    def now(self) -> SiteNow:
        """As it counts now."""

    def change(self, values: Mapping[str, object]) -> object:
        """Write other values; what ``SitePorts.applied`` waits for. Blocks. Raises ``ConfigError``."""


@dataclass(frozen=True, slots=True)
class ScanWanted:
    """Where to look. Empty lists: everywhere on this machine and in its own networks."""

    kinds: Sequence[ScanKind] = SCAN_KINDS
    hosts: Sequence[str] = ()
    networks: Sequence[str] = ()
    ports: Sequence[str] = ()
    units: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class KindStatus:
    """How far the search of a kind is."""

    kind: ScanKind
    state: ScanState
    detail: str = ""
    done: int = 0
    total: int = 0
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device that was found, and the entry that is proposed for it."""

    kind: ScanKind
    title: str
    text: str
    entry: Mapping[str, object]
    yaml: str
    configured: bool  #: it is in the configuration by now
    ready: bool = True  #: False: somebody must complete the entry
    values: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    alternatives: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ScanStatus:
    """A search, or that there was none."""

    state: ScanState = "idle"
    started_us: int | None = None
    ended_us: int | None = None
    kinds: Sequence[KindStatus] = ()
    messages: Sequence[str] = ()
    found: Sequence[FoundDevice] = ()


class Scans(Protocol):
    """The search for devices; one at a time."""

    def status(self) -> ScanStatus:
        """How far it is, or was."""

    def start(self, wanted: ScanWanted) -> None:
        """Begin. Raises ``OccupiedError`` and ``ConfigError``."""

    def cancel(self) -> bool:
        """End it; whether there was one. Blocks for some seconds at most."""


@dataclass(frozen=True, slots=True)
class TrialValue:
    """A value that a test has read."""

    point: str
    value: Number
    unit: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a test of a device came to."""

    ok: bool
    text: str
    hint: str = ""
    values: Sequence[TrialValue] = ()
    seconds: float = 0.0


class DeviceTests(Protocol):
    """Reads a device once."""

    async def entry(self, entry: Mapping[str, object]) -> Trial:
        """One that is not configured. Raises ``ConfigError`` for a wrong entry, and ``OccupiedError``."""

    async def device(self, device: str) -> Trial:
        """A configured one, over the wire that it has. Raises ``OccupiedError``."""


class Checks(Protocol):
    """What ``enlace check`` finds. All block."""

    def file(self) -> Sequence[CheckFinding]:
        """In the file that is there."""

    def text(self, text: str) -> Sequence[CheckFinding]:
        """In a text that would stand in its place. Nothing is written."""

    def entry(self, entry: Mapping[str, object], replaces: str = "") -> Sequence[CheckFinding]:
        """About a device, if it were added, or stood in another's place. Raises ``ConfigError``: the file is bad."""


@dataclass(frozen=True, slots=True)
class DeviceEntryNow:
    """A device as it stands in the configuration."""

    entry: Mapping[str, object]  #: without secrets
    yaml: str
    locked: str  #: why it can't be edited here; empty: it can


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """A device model."""

    name: str
    driver: Literal["can", "modbus"]
    kind: str  #: charger, meter, inverter, battery or other
    maker: str
    model: str
    needs: Sequence[str]  #: keys that an entry must have beside id, driver and profile
    unit_id: int | None = None
    bitrate: int | None = None
    own: bool = False  #: it lies beside the site's configuration


@dataclass(frozen=True, slots=True)
class SetUp:
    """All of it. What is None is answered with 503."""

    settings: SiteSettings | None = None
    scans: Scans | None = None
    tests: DeviceTests | None = None
    checks: Checks | None = None
    #: A configured device's entry; None: there is no such device.
    entry: Callable[[str], DeviceEntryNow | None] | None = None
    profiles: Callable[[], Sequence[ProfileInfo]] | None = None  #: blocks
    schema: Callable[[], Mapping[str, object]] | None = None  #: blocks
