"""What the configuration says of the local central system and of one charger."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agent.core.errors import ConfigError
from agent.core.model import Number
from drivers.codec.ocpp_model import Version

MAX_PROFILE = 3
#: Which security profiles talk over TLS (OCPP 2.0.1 part 2, A00).
TLS_FROM = 2


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One listening port: an address, and the one security profile that it has (A00.FR.001 and FR.006)."""

    host: str
    port: int
    profile: int = 1
    #: PEM files (certificate chain, key); empty with a TLS profile: the gateway makes an ECDSA and an RSA pair itself.
    certificates: tuple[tuple[Path, Path], ...] = ()
    client_ca_file: Path | None = None  #: profile 3: who signs the chargers' certificates
    legacy_tls: bool = False  #: also TLS 1.2 cipher suites without forward secrecy, for old 1.6 chargers

    @property
    def name(self) -> str:
        """The wire, as people know it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.profile >= TLS_FROM else 'ws'}://{host}:{self.port}/ocpp"


@dataclass(frozen=True, slots=True)
class CentralSettings:
    """The local central system of a site."""

    endpoint: Endpoint
    data_dir: Path  #: where certificates that it makes are kept
    unknown: Literal["pending", "refuse"] = "pending"
    without_subprotocol: Version | None = None  #: what a charger speaks that does not say; None: it is not let in
    id_tags: Literal["known", "any"] = "known"  #: who may charge
    #: Of chargers that send times without a zone. No other central system for that: those that run follow (`in_zone`).
    timezone: str = field(default="UTC", compare=False)
    heartbeat_s: int = 60
    sample_s: int = 10  #: how often chargers are asked to send meter values
    ping_s: float = 30.0
    call_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ChargerSettings:
    """One configured charger. Raises ``ConfigError`` for keys that don't fit together."""

    device: str
    identity: str  #: the last part of its URL
    outlets: int = 1
    version: Version | None = None  #: what it must speak; None: the best that it offers
    profile: str | None = None  #: a quirk profile by name, instead of the one that vendor and model match
    password_file: Path | None = None
    security_profile: int | None = None  #: below the port's only by this explicit word
    phases: int = 3
    max_a: Number = 32
    min_a: Number = 6
    #: what each outlet may draw when nobody tells it otherwise; it is installed before the charger is used
    safe_a: Number = 6
    off: Literal["suspend", "stop"] = "suspend"  #: switched off: the vehicle waits with 0 A, or its session is ended

    def __post_init__(self) -> None:
        op = f"device {self.device}"
        if not 0 <= self.safe_a <= self.max_a:
            raise ConfigError(op, f"safe_limit_a ({self.safe_a:g}) is above max_current_a ({self.max_a:g})", "lower it")
        if not self.min_a <= self.max_a:
            raise ConfigError(op, f"min_current_a ({self.min_a:g}) is above max_current_a ({self.max_a:g})", "lower it")
