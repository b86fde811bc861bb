"""Where ``enlace scan`` looks: what is configured already, this machine's networks and its serial ports."""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.core.errors import ConfigError
from agent.yamlfile import Json, parse, read_text, refuse
from drivers.modbus.settings import ModbusUrl

Network = ipaddress.IPv4Network

#: Networks that are nobody else's (RFC 1918). Others are only looked through when they are named.
PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
#: A larger network of our own is not looked through unasked: 1,022 addresses take some seconds.
SMALLEST_PREFIX = 22

#: Not even a network that is named may be larger.
NAMED_PREFIX = 16

ROUTES = Path("/proc/net/route")
CONSOLES = Path("/sys/class/tty/console/active")
BY_ID = Path("/dev/serial/by-id")

_UP, _GATEWAY = 1, 2
#: Keys of a configured device that name a wire.
_WIRES = ("url", "port", "channel")
#: Ports that are no wires: paired telephones, and the like.
_NO_WIRES = ("rfcomm",)

Resolve = Callable[[str], Iterable[str]]


# --- what is configured ---


@dataclass(frozen=True, slots=True)
class Configured:
    """Wires that the gateway uses, and the ids of its devices."""

    nodes: frozenset[Path] = frozenset()
    addresses: frozenset[tuple[str, int]] = frozenset()
    ids: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()  #: CAN interfaces

    def has_port(self, port: str) -> bool:
        """Whether a serial port, by whatever name, is in use."""
        if port.startswith("/"):
            return Path(port).resolve() in self.nodes
        parts = urlsplit(port)
        return self.has_address(parts.hostname or "", parts.port or 0)

    def has_address(self, host: str, port: int, addresses: Iterable[str] = ()) -> bool:
        """Whether a TCP port is in use. ``addresses`` are those of the host."""
        return any((one, port) in self.addresses for one in (host, *addresses))


def addresses_of(host: str) -> list[str]:
    """The addresses of a name; none when it has none now."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError:
        return []


def read_configured(path: Path, resolve: Resolve = addresses_of) -> Configured:
    """What a configuration uses, also one that has mistakes elsewhere.

    Raises ``ConfigError`` when it can't be read: then nobody knows what must be left alone.
    """
    document, problems = parse(read_text(path), str(path))
    if document is None:
        raise refuse(path, problems)
    return configured_in(document.data, resolve)


def configured_in(data: Json, resolve: Resolve) -> Configured:
    """The same of a parsed file."""
    devices = data.get("devices") if isinstance(data, dict) else None
    rows = [row for row in devices if isinstance(row, dict)] if isinstance(devices, list) else []
    nodes: set[Path] = set()
    addresses: set[tuple[str, int]] = set()
    for text in (text for row in rows for key in _WIRES if isinstance(text := row.get(key), str)):
        found = _wire(text)
        if isinstance(found, Path):
            nodes.add(found.resolve())
        elif found is not None:
            host, port = found
            addresses |= {(one, port) for one in (host, *resolve(host))}
    can = (row for row in rows if row.get("driver") == "can" and row.get("interface", "socketcan") == "socketcan")
    channels = frozenset(str(row.get("channel")) for row in can)
    return Configured(frozenset(nodes), frozenset(addresses), frozenset(str(row.get("id")) for row in rows), channels)


def _wire(text: str) -> Path | tuple[str, int] | None:
    """The port or the address that a key of a device names; None when it names neither (``can0``)."""
    if text.startswith("/"):
        return Path(text.partition("@")[0])  # python-can writes the speed of an adapter behind its port
    try:
        url = ModbusUrl.parse(text)
    except ConfigError:
        pass
    else:
        return Path(url.host) if url.scheme == "rtu" else (url.host, url.port)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host, port) if host and port else None


# --- networks ---


def named_host(text: str) -> tuple[str, int]:
    """A host that somebody names, with or without its port. Raises ``ConfigError``."""
    try:
        url = ModbusUrl.parse(f"tcp://{text}")
    except ConfigError as error:
        raise ConfigError("scan", f"{text!r} is no host", "write 10.0.0.21, charger.local:1502 or [::1]") from error
    return url.host, url.port


def named_network(text: str) -> Network:
    """A network that somebody names. Raises ``ConfigError``."""
    try:
        network = Network(text, strict=False)
    except ValueError as error:
        raise ConfigError("scan", f"{text!r} is no network", "write 192.168.1.0/24") from error
    if network.prefixlen < NAMED_PREFIX:
        raise ConfigError("scan", f"{text} is too large", f"at most a /{NAMED_PREFIX} at once")
    return network


def own_networks(routes: str) -> tuple[list[Network], list[str]]:
    """The networks that this machine stands in, and a line for each that is not looked through.

    ``routes`` is the text of /proc/net/route: addresses as hexadecimal numbers in the machine's own byte order.
    """
    networks: set[Network] = set()
    skipped: list[str] = []
    for line in routes.splitlines()[1:]:
        name, destination, _, flags, *_, mask = line.split()[:8]
        if not int(flags, 16) & _UP or int(flags, 16) & _GATEWAY or int(mask, 16) == 0:
            continue
        network = ipaddress.IPv4Network((_address(destination), str(_address(mask))))
        if not any(network.subnet_of(private) for private in PRIVATE):
            skipped.append(f"{network} ({name}) is no private network: name it with --network to look through it")
        elif network.prefixlen < SMALLEST_PREFIX:
            skipped.append(f"{network} ({name}) is too large to look through: name a part of it with --network")
        else:
            networks.add(network)
    return sorted(networks), skipped


def _address(text: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(struct.pack("=I", int(text, 16)))


def hosts_in(networks: Sequence[Network]) -> Iterator[str]:
    """Every address of these networks, once."""
    for index, network in enumerate(networks):
        for host in network.hosts():
            if not any(host in other for other in networks[:index]):
                yield str(host)


# --- serial ports ---


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port of this machine. ``path`` is the name that stays the same when it is plugged in elsewhere."""

    path: str
    node: str
    description: str = ""

    @property
    def told(self) -> str:
        """The port for people."""
        node = "" if self.node == self.path else f" ({self.node})"
        return f"{self.path}{node}" + (f", {self.description}" if self.description else "")


def serial_ports() -> list[SerialPort]:
    """The serial ports of this machine, without its console."""
    from serial.tools.list_ports import comports  # noqa: PLC0415 - only for those who scan serial ports

    consoles = CONSOLES.read_text().split() if CONSOLES.is_file() else []
    names = {str(link.resolve()): str(link) for link in sorted(BY_ID.iterdir())} if BY_ID.is_dir() else {}
    return named_ports(((one.device, one.description) for one in comports()), names, consoles)


def named_ports(
    ports: Iterable[tuple[str, str | None]], names: Mapping[str, str], consoles: Sequence[str]
) -> list[SerialPort]:
    """Ports, given as node and description, by their lasting names."""
    found = []
    for node, description in sorted(ports):
        name = node.removeprefix("/dev/")
        if name in consoles or name.startswith(_NO_WIRES):
            continue
        known = description if description not in {None, "n/a", name} else ""
        found.append(SerialPort(names.get(str(Path(node).resolve()), node), node, known or ""))
    return found


def named_port(text: str) -> SerialPort:
    """A port that the user names; a node gets its lasting name, where it has one."""
    if not text.startswith("/"):
        return SerialPort(text, text)
    node = str(Path(text).resolve())
    if text != node:
        return SerialPort(text, node)
    links = sorted(BY_ID.iterdir()) if BY_ID.is_dir() else []
    return SerialPort(next((str(link) for link in links if str(link.resolve()) == node), text), node)


def checked_port(text: str) -> str:
    """A port that somebody names. Raises ``ConfigError``."""
    if not text.startswith(("/", "socket://")):
        hint = "write /dev/serial/by-id/…, /dev/tty… or socket://host:port"
        raise ConfigError("scan", f"{text!r} is no port", hint)
    return text
