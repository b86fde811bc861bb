"""Where a Modbus device is found: the wire that its URL names. Plain values, no library."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from agent.core.errors import ConfigError

TCP_PORT = 502
MAX_PORT = 65535
_SERIAL_KEYS = {"baud", "parity", "stopbits", "bytesize"}
_EXAMPLES = "write tcp://10.0.0.21:502, rtu:///dev/ttyUSB0?baud=9600&parity=N or rtu+tcp://10.0.0.9:4001"


@dataclass(frozen=True, slots=True)
class ModbusUrl:
    """A wire. ``scheme`` tcp: MBAP over TCP; rtu: RTU frames on the serial port ``host``; rtu+tcp: the same through a
    serial server. Two devices are on one wire when all of this is equal.
    """  # noqa: D205 - one sentence

    scheme: Literal["tcp", "rtu", "rtu+tcp"]
    host: str  #: address or name; of rtu the path of the port
    port: int = TCP_PORT
    baud: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1
    bytesize: Literal[7, 8] = 8

    @property
    def name(self) -> str:
        """The wire, as people know it."""
        if self.scheme == "rtu":
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "ModbusUrl":
        """A URL as it stands in the configuration. Raises ``ConfigError`` that says what to write."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"url {text}", str(error), _EXAMPLES) from error
        if parts.scheme in {"tcp", "rtu+tcp"} and parts.hostname and parts.path in {"", "/"} and not parts.query:
            scheme: Literal["tcp", "rtu+tcp"] = "tcp" if parts.scheme == "tcp" else "rtu+tcp"
            return cls(scheme, parts.hostname, TCP_PORT if port is None else port)
        if parts.scheme == "rtu" and not parts.netloc and parts.path.startswith("/"):
            return cls("rtu", parts.path, **_serial(text, parts.query))  # type: ignore[arg-type]
        raise ConfigError(f"url {text}", "this is no Modbus wire", _EXAMPLES)


def _serial(text: str, query: str) -> dict[str, object]:
    found = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(found) - _SERIAL_KEYS)
    if unknown:
        raise ConfigError(
            f"url {text}", f"`{unknown[0]}` is unknown", f"write one of {', '.join(sorted(_SERIAL_KEYS))}"
        )
    result: dict[str, object] = {}
    for key, allowed in (("parity", "NEO"), ("stopbits", "12"), ("bytesize", "78")):
        value = found.get(key)
        if value is None:
            continue
        if len(value) != 1 or value.upper() not in allowed:
            raise ConfigError(f"url {text}", f"{key}={value}", f"write one of {', '.join(allowed)}")
        result[key] = value.upper() if key == "parity" else int(value)
    if "baud" in found:
        if not found["baud"].isdecimal() or not int(found["baud"]):
            raise ConfigError(f"url {text}", f"baud={found['baud']}", "write a number such as 9600")
        result["baud"] = int(found["baud"])
    return result
