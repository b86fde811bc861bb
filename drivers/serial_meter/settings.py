"""How a serial meter is reached: what stands in the configuration, with the defaults of its protocol."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.core.errors import ConfigError

Protocol = Literal["dsmr", "sml", "d0", "mbus"]

#: Baud rate and framing that a protocol uses where nothing else is said. DSMR 2.2 has 9600 7E1; a requested D0 readout
#: begins with 300 baud (IEC 62056-21, 6.3.1).
_LINES: dict[str, tuple[int, str]] = {
    "dsmr": (115_200, "8N1"),
    "sml": (9600, "8N1"),
    "d0": (9600, "7E1"),
    "mbus": (2400, "8E1"),
}
D0_REQUEST_BAUD = 300
DEFAULT_EVERY_S = 60.0
MAX_PRIMARY = 250
#: The address that every slave answers (EN 13757-2, 5.7.5): for a line with one of them.
ANYBODY = 254
_SECONDARY = re.compile(r"[0-9A-Fa-f]{16}")


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """One configured meter. Raises ``ConfigError`` for keys that don't fit together."""

    device: str
    protocol: Protocol
    port: str
    baud: int | None = None
    framing: str | None = None
    request: bool = False
    every_s: float | None = None
    address: str | None = None
    key_file: Path | None = None
    auth_key_file: Path | None = None
    keep_unmapped: bool = False
    stale_after_s: float | None = None

    def __post_init__(self) -> None:
        op = f"device {self.device}"
        if not self.port.startswith(("/", "socket://")):
            hint = "write /dev/serial/by-id/…, /dev/tty… or socket://host:port"
            raise ConfigError(op, f"`{self.port}` is no port", hint)
        if self.request and self.protocol != "d0":
            raise ConfigError(op, "`request:` is for protocol d0", "delete it")
        if self.every_s is not None and not self.asks:
            raise ConfigError(op, "`every_s:` is for meters that are asked", "delete it, or write `request: true` (d0)")
        if (self.key_file or self.auth_key_file) and self.protocol != "dsmr":
            raise ConfigError(op, "only dsmr ports are encrypted", "delete `key_file:` and `auth_key_file:`")
        self._check_address(op)

    def _check_address(self, op: str) -> None:
        if self.address is None:
            if self.protocol == "mbus":
                raise ConfigError(op, "`address:` is missing", "write the meter's primary or secondary address")
        elif self.protocol == "mbus":
            if not self.secondary and not (
                self.address.isdecimal() and int(self.address) in (*range(MAX_PRIMARY + 1), ANYBODY)
            ):
                hint = "write 0 to 250 (primary), 254 (whoever is alone there) or 16 hex digits (secondary)"
                raise ConfigError(op, f"`{self.address}` is no M-Bus address", hint)
        elif not self.request:
            raise ConfigError(op, "`address:` is for meters that are asked", "delete it, or write `request: true` (d0)")

    @property
    def asks(self) -> bool:
        """Whether the meter is asked; otherwise it speaks by itself."""
        return self.protocol == "mbus" or self.request

    @property
    def secondary(self) -> bool:
        """Whether an M-Bus address is a secondary one (EN 13757-7)."""
        return self.address is not None and _SECONDARY.fullmatch(self.address) is not None

    @property
    def line(self) -> tuple[int, str]:
        """Baud rate and framing."""
        baud, framing = _LINES[self.protocol]
        if self.request:
            baud = D0_REQUEST_BAUD
        return self.baud or baud, self.framing or framing
