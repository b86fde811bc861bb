"""What is wrong with a site's configuration, or worth a look, without starting it: where, what, and what to do."""

import os
import re
import shutil
import socket
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from agent.acting import strangers
from agent.check_control import control_findings
from agent.config import (
    CanDevice,
    Config,
    Device,
    ModbusDevice,
    OcppDevice,
    Reading,
    SerialMeterDevice,
    read_config,
    read_config_text,
)
from agent.config_api import is_loopback, split_address
from agent.config_ocpp import OcppSection
from agent.core.errors import AgentError, ConfigError, StoreError
from agent.devices import Prepared, Preparer, central_of, plan_all
from agent.profiles import CanProfile
from agent.store.admin import describe
from agent.store.settings import DATABASE
from agent.yamltree import Problem
from drivers.can.devices import CanDevice as Ready
from drivers.codec.dbc_model import MessageDef
from drivers.ocpp.credentials import finding

#: Frames above this share of a bus are a warning, above all of it an error.
_LOAD_WARNING = 0.7
#: ISO 11898-1:2015, 10.4: bits of a data frame without stuffing (11- and 29-bit identifiers), the pause included, and
#: those of them that are stuffed, one in five of which may bring another bit (counted by half: payloads vary).
_FRAME_BITS = {False: 47, True: 67}
_STUFFED_BITS = {False: 34, True: 54}
#: A site that keeps 1,000 samples a second fills this in a month, indices and roll-ups included.
_DISK_WARNING_BYTES = 1 << 30
_MAX_FINDINGS_PER_DBC = 20


#: ``error``, ``warning`` or ``info``, and where, what, and what to do.
Found = tuple[str, Problem]
Place = tuple[int | str, ...]
#: Where the system names serial adapters by what they are, not by when they were plugged in.
_BY_ID = Path("/dev/serial/by-id")


def findings(path: Path, mine: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """What is wrong with a configuration, or worth a look: ``error``, ``warning`` or ``info``, and the words."""
    yield from ((severity, str(problem)) for severity, problem in found_in(path, mine=mine))


def owned(config: Config) -> frozenset[str]:
    """What a gateway that runs has itself, for ``mine`` of those who look for it."""
    return frozenset((config.api.listen, (config.ocpp or OcppSection()).listen, str(config.data_dir)))


def found_in(path: Path, text: str | None = None, mine: Collection[str] = ()) -> Iterator[Found]:
    """The same with its parts. ``text``: what the file would say; nothing is written.

    ``mine``: what the gateway that asks has itself: the addresses where it listens, and its ``data_dir``.
    """
    try:
        reading = read_config(path) if text is None else read_config_text(text, str(path))
    except ConfigError as error:
        yield "error", _untold(error)
        return
    yield from (("error", problem) for problem in reading.problems)
    if reading.config is None:
        return
    base = path.resolve().parent
    yield from _devices(reading, reading.config, base)
    yield from _ports(reading, reading.config, base, mine)
    yield from _ocpp(reading, reading.config, base, mine)
    yield from _schedules(reading, reading.config)
    yield from _data_dir(reading, reading.config, mine)
    yield from _uplink(reading, reading.config, base)


def _untold(error: AgentError) -> Problem:
    """What has no place in the file."""
    return Problem(error.op, 0, 0, error.reason, error.hint)


def _uplink(reading: Reading, config: Config, base: Path) -> Iterator[Found]:
    if config.uplink is None:
        return
    settings = config.uplink.settings(config.site.id, base)
    link = settings.link()
    try:
        link.check_files()
    except ConfigError as error:
        yield "error", _at(reading, ("uplink",), f"{error}")
    place = ("uplink", "broker")
    if not settings.takes_commands:
        if settings.commands == "auto":
            text = "no commands are taken: without TLS anybody on the way could give them; use mqtts:// or commanders:"
            yield "info", _at(reading, place, text)
    elif settings.commanders:
        names = ", ".join(dict.fromkeys(one.name for one in settings.commanders))
        text = f"commands are taken that are signed by {names}"
        text += "; they may change this file" if config.uplink.configure == "yes" else ""
        yield "info", _at(reading, place, text)
    elif link.private:
        text = f"commands are taken: whoever may publish to {settings.topic('command')} switches stations"
        text += " and may change this file" if config.uplink.configure == "yes" else ""
        yield "info", _at(reading, place, text)
    else:
        text = "commands are taken without TLS: anybody on the way to the broker can switch stations; use mqtts://"
        yield "warning", _at(reading, place, text)


def _at(reading: Reading, place: Place, text: str) -> Problem:
    assert reading.document is not None  # noqa: S101 - a configuration came out of it
    return reading.document.problem(place, text)


def _devices(reading: Reading, config: Config, base: Path) -> Iterator[Found]:
    preparer = Preparer(base)
    central = central_of(config)
    try:
        quirks = preparer.quirks() if central else ()
    except ConfigError as error:
        yield "error", _untold(error)
        quirks = ()
    ready: list[Prepared] = []
    ports: dict[str, tuple[str, Device]] = {}
    for index, device in enumerate(config.devices):
        place = ("devices", index)
        try:
            one = preparer.one(device)
            plan_all([one], central, quirks)
        except ConfigError as error:
            at = (*place, "profile") if error.op.startswith("find profile") else place
            yield "error", _at(reading, at, str(error))
            continue
        ready.append(one)
        if isinstance(device, CanDevice):
            yield from _can(reading, place, device, one)
        elif isinstance(device, SerialMeterDevice):
            yield from _serial_port(reading, (*place, "port"), device.port)
            yield from _same_port(reading, (*place, "port"), device, device.port, ports)
        elif isinstance(device, ModbusDevice) and device.url.startswith("rtu:"):
            port = urlsplit(device.url).path
            yield from _serial_port(reading, (*place, "url"), port)
            yield from _same_port(reading, (*place, "url"), device, port, ports)
    try:
        plans = plan_all(ready, central, quirks)
    except ConfigError as error:
        whose = next((index for index, one in enumerate(config.devices) if error.op == f"device {one.id}"), None)
        yield "error", _at(reading, ("devices",) if whose is None else ("devices", whose), str(error))
        return
    can = plans.can
    yield from control_findings(config, plans.specs, base, lambda place, text: _at(reading, place, text))
    for wire in can.wires:
        messages = [message for one in wire for message in one.messages]
        bitrate = next((one.device.bitrate for one in wire if one.device.bitrate), None)
        yield from _bus_load(reading, wire[0].device.channel, messages, bitrate)


def _can(reading: Reading, place: Place, device: CanDevice, one: Prepared) -> Iterator[Found]:
    if isinstance(one.profile, CanProfile) and isinstance(one.device, Ready):
        messages = [message for dbc in one.device.dbc for message in dbc.messages]
        yield from (("error", problem) for problem in one.profile.check(messages))
    for fault in one.findings[:_MAX_FINDINGS_PER_DBC]:
        hint = f" ({fault.hint})" if fault.hint else ""
        yield "warning", Problem(f"{fault.file}:{fault.line}", 0, 0, f"{fault.severity}: {fault.text}{hint}")
    left_out = len(one.findings) - _MAX_FINDINGS_PER_DBC
    if left_out > 0:
        yield "warning", _at(reading, place, f"and {left_out} more findings in its DBC files")
    yield from _interface(reading, place, device)


def _serial_port(reading: Reading, place: Place, port: str) -> Iterator[Found]:
    """What is wrong with a serial port now: the gateway waits for it, but somebody should know."""
    if port.startswith("socket://"):
        return
    path = Path(port)
    if not path.exists():
        text = (
            f"this machine has no {port} now; the gateway will wait for it: `ls -l /dev/serial/by-id` lists the ports"
        )
        yield "warning", _at(reading, place, text)
    elif not stat.S_ISCHR(path.stat().st_mode):
        yield "error", _at(reading, place, f"{port} is no serial port")
    elif not os.access(path, os.R_OK | os.W_OK):
        text = f"{port} can't be opened by this user: add the user that runs enlace to the group dialout"
        yield "warning", _at(reading, place, text)
    elif re.fullmatch(r"/dev/tty(USB|ACM)\d+", port):
        named = next((link for link in _BY_ID.glob("*") if link.resolve() == path.resolve()), None)
        if named is not None:
            text = f"{port} may be another device after the next start: write {named}"
            yield "warning", _at(reading, place, text)


def _same_port(
    reading: Reading, place: Place, device: Device, port: str, ports: dict[str, tuple[str, Device]]
) -> Iterator[Found]:
    """Two names of one port now: each device would have a wire of its own, and only the first of them would open it.

    No business of the start: which port a name leads to is known only while the adapter is plugged in. ``ports``: the
    first device of each, and how it names it. Two drivers on one port are told elsewhere.
    """
    name, first = ports.setdefault(os.path.realpath(port), (port, device))
    if name != port and first.driver == device.driver and not port.startswith("socket://"):
        text = f"{port} and {name} of device {first.id} are one port now: write the same name at both"
        yield "error", _at(reading, place, text)


def _interface(reading: Reading, place: Place, device: CanDevice) -> Iterator[Found]:
    if device.interface != "socketcan":
        return
    try:
        socket.if_nametoindex(device.channel)  # all of them by if_nameindex() would take netlink, see tls.py
    except OSError:
        bitrate = device.bitrate or 500_000
        hint = f"ip link set {device.channel} up type can bitrate {bitrate}"
        text = f"this machine has no interface {device.channel} now; the gateway will wait for it: {hint}"
        yield "warning", _at(reading, (*place, "channel"), text)


def _bus_load(reading: Reading, channel: str, messages: list[MessageDef], bitrate: int | None) -> Iterator[Found]:
    """How full the bus is with the messages whose cycle time the DBC files say."""
    if bitrate is None:
        return
    bits_s = sum(frame_bits(message) * 1000 / message.cycle_time_ms for message in messages if message.cycle_time_ms)
    load = bits_s / bitrate
    if load > _LOAD_WARNING:
        text = f"the cyclic messages fill {load:.0%} of {channel} at {bitrate} bit/s; check bitrate and cycle times"
        yield ("error" if load > 1 else "warning"), _at(reading, ("devices",), text)


def frame_bits(message: MessageDef) -> float:
    """The mean length of a message's frame on the wire, in bits of the arbitration phase (FD data counted as such)."""
    data = 8 * message.length
    return _FRAME_BITS[message.extended] + data + (_STUFFED_BITS[message.extended] + data) / 10


def _ports(reading: Reading, config: Config, base: Path, mine: Collection[str]) -> Iterator[Found]:
    host, port = split_address(config.api.listen)
    if not config.api.encrypted and not is_loopback(host):
        text = f"passwords go in the clear to {host}: delete `tls: off`, or reach it through a VPN only"
        yield "warning", _at(reading, ("api", "listen"), text)
    if config.api.cert_file is not None and config.api.key_file is not None:
        yield from _readable(reading, ("api", "cert_file"), base / config.api.cert_file, base / config.api.key_file)
    elif config.api.encrypted:
        text = "TLS with a certificate that this gateway makes: browsers ask until they trust its authority, see docs"
        yield "info", _at(reading, ("api", "listen"), f"{text}/security.md")
    if config.api.listen not in mine:
        yield from look_at_port(reading, ("api", "listen"), host, port)


def look_at_port(reading: Reading, place: Place, host: str, port: int) -> Iterator[Found]:
    """Whether a port can be listened on now; the gateway itself may have it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:  # some kernels have no IPv6
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        hint = "unless it is this gateway that runs there, choose another one, or 0 for a free one"
        text = f"{host}:{port} can't be listened on now: {error.strerror}; {hint}"
        yield "warning", _at(reading, place, text)


def _ocpp(reading: Reading, config: Config, base: Path, mine: Collection[str]) -> Iterator[Found]:
    """The chargers' port, its certificates, and their passwords."""
    central = central_of(config)
    if central is None:
        return
    place = ("ocpp", "listen")
    if (config.ocpp or OcppSection()).listen not in mine:
        yield from look_at_port(reading, place, central.endpoint.host, central.endpoint.port)
    if central.endpoint.profile == 0:
        text = "security profile 0: whoever reaches this port can say to be any charger; use it in closed networks only"
        yield "warning", _at(reading, ("ocpp", "security_profile"), text)
    for index, (certificate, key) in enumerate(central.endpoint.certificates):
        yield from _readable(reading, ("ocpp", "certificates", index), certificate, key)
    if central.endpoint.client_ca_file is not None:
        yield from _readable(reading, ("ocpp", "client_ca_file"), central.endpoint.client_ca_file)
    for index, device in enumerate(config.devices):
        if isinstance(device, OcppDevice) and device.password_file is not None:
            text = finding(base / device.password_file)
            if text:
                yield "warning", _at(reading, ("devices", index, "password_file"), text)


def _schedules(reading: Reading, config: Config) -> Iterator[Found]:
    """Stations that nobody has; a device may still come, so that is a warning."""
    for index, act, station in strangers(config):
        text = f"there is no station `{station}`: nothing is done; a station is a charger's id, or `id.2` of one with"
        yield "warning", _at(reading, ("schedules", index, "then", act, "station"), f"{text} several outlets")


def _readable(reading: Reading, place: Place, *paths: Path) -> Iterator[Found]:
    for path in paths:
        if not path.is_file() or not os.access(path, os.R_OK):
            yield "error", _at(reading, place, f"{path} can't be read: a PEM file is wanted here")


def _data_dir(reading: Reading, config: Config, mine: Collection[str]) -> Iterator[Found]:
    folder = config.data_dir
    place = ("data_dir",)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        yield "error", _at(reading, place, f"{existing} is a file, not a folder")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        text = f"{existing} can't be written by this user; create {folder} for the user that runs enlace"
        yield "error", _at(reading, place, text)
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        yield "error", _at(reading, place, f"{existing}: {error.strerror}")
        return
    if str(folder) not in mine:  # else it is open, and its health tells; and what looks into it takes 50 MB
        yield from _database(reading, folder)
    if free < _DISK_WARNING_BYTES:
        text = f"{existing} has {free / 2**20:.0f} MiB left; a busy site fills a gigabyte in some months"
        yield "warning", _at(reading, place, text)


def _database(reading: Reading, folder: Path) -> Iterator[Found]:
    path = folder / DATABASE
    if not os.path.exists(path):  # noqa: PTH110 - false also where this user may not look
        return
    if not os.access(path, os.R_OK):
        yield (
            "error",
            _at(reading, ("data_dir",), f"{path} can't be read by this user; run it as the user of the gateway"),
        )
        return
    try:
        rows = describe(path)
    except StoreError as error:
        text = f"the next start will move the database aside and begin a new one: {error.reason}"
        yield "warning", _at(reading, ("data_dir",), text)
    else:
        told = ", ".join(f"{rows[name]} {name}s" for name in ("signal", "block", "event"))
        yield "info", _at(reading, ("data_dir",), f"{path} holds {told}")
