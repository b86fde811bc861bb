"""All CAN devices of a site: the signals that they bring, and one listener for each wire."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.clock import Clock
from agent.core.model import SignalSpec
from drivers.can.bus import CanListener, Source
from drivers.can.devices import CanDevice, PlannedDevice, check_claims, check_wire, resolve
from drivers.can.socketcan import SocketSource, open_can

SOCKETCAN = "socketcan"


@dataclass(frozen=True, slots=True)
class CanPlan:
    """What the CAN devices of a site come to. ``wires`` are in the order of the devices."""

    wires: tuple[tuple[PlannedDevice, ...], ...]

    @property
    def specs(self) -> list[SignalSpec]:
        """Every signal that will be read, for the store to number."""
        return [item.spec for wire in self.wires for planned in wire for item in planned.wanted]

    def listeners(self, ids: Mapping[tuple[str, str], int], clock: Clock) -> list[CanListener]:
        """One listener for each (interface, channel). ``ids``: (device, signal name) -> its number."""
        return [CanListener(_source(wire, clock), wire, ids, clock) for wire in self.wires]


def plan(devices: Iterable[CanDevice]) -> CanPlan:
    """Resolve all names and check all claims. Raises ``ConfigError``, naming device and point."""
    wires: dict[tuple[str, str], list[CanDevice]] = {}
    for device in devices:
        wires.setdefault((device.interface, device.channel), []).append(device)
    resolved: list[tuple[PlannedDevice, ...]] = []
    for wire in wires.values():
        check_wire(wire)
        planned = tuple(resolve(device) for device in wire)
        check_claims(planned)
        resolved.append(planned)
    return CanPlan(tuple(resolved))


def needs_fd(wire: Sequence[PlannedDevice]) -> bool:
    """Whether CAN FD frames are read on this wire."""
    return any(one.device.fd or any(message.fd for message in one.messages) for one in wire)


def _source(wire: Sequence[PlannedDevice], clock: Clock) -> Source:
    device = wire[0].device
    bitrate = next((one.device.bitrate for one in wire if one.device.bitrate), None)
    fd = needs_fd(wire)
    if device.interface == SOCKETCAN:
        filters = [one for planned in wire for one in planned.filters()]
        name = f"{SOCKETCAN}:{device.channel}"
        return SocketSource(name, lambda: open_can(device.channel, filters, fd=fd, bitrate=bitrate), clock, fd=fd)
    from drivers.can.pycan import PycanSource  # noqa: PLC0415 - python-can takes 18 MB: only for wires that need it

    options: dict[str, object] = {}
    for one in wire:
        options.update(one.device.options)
    if bitrate:
        options.setdefault("bitrate", bitrate)
    if fd:
        options.setdefault("fd", True)
    return PycanSource(device.interface, device.channel, clock, options)
