"""All Modbus devices of a site: the signals that they bring, and one poller for each wire."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from agent.core.clock import Clock
from agent.core.errors import ConfigError
from agent.core.model import SignalSpec
from agent.core.ports import Commandable
from drivers.modbus.link import Link
from drivers.modbus.model import ModbusDevice
from drivers.modbus.reading import spec_of
from drivers.modbus.settings import ModbusUrl
from drivers.modbus.sunspec import discover
from drivers.modbus.unit import ModbusUnit

#: The longest pause before a wire is opened again: a network device is back within 10 s, an adapter within 5 s.
MAX_RETRY_S = {"tcp": 5.0, "rtu+tcp": 5.0, "rtu": 3.0}
#: Broadcast on a serial line (Modbus over Serial Line V1.02, 2.2): nobody answers.
_BROADCAST = 0


@dataclass(frozen=True, slots=True)
class ModbusWire:
    """A wire and the devices on it, in the order of the configuration. Equal when nothing about it changed."""

    url: ModbusUrl
    devices: tuple[ModbusDevice, ...]

    @property
    def name(self) -> str:
        """The wire, as people know it."""
        return self.url.name


@dataclass(frozen=True, slots=True)
class ModbusPlan:
    """What the Modbus devices of a site come to."""

    wires: tuple[ModbusWire, ...] = field(default=())

    @property
    def specs(self) -> list[SignalSpec]:
        """Every signal that is known before a device was asked, for the store to number."""
        return [
            spec_of(device.id, point)
            for wire in self.wires
            for device in wire.devices
            if device.profile is not None
            for point in device.profile.points
        ]

    def pollers(self, ids: Mapping[tuple[str, str], int], clock: Clock) -> "list[ModbusPoller]":
        """One poller for each wire, in their order. ``ids``: (device, signal name) -> its number."""
        return [ModbusPoller(wire, ids, clock) for wire in self.wires]


class ModbusPoller:
    """``Poller`` of one wire."""

    def __init__(self, wire: ModbusWire, ids: Mapping[tuple[str, str], int], clock: Clock) -> None:
        self._link = Link(wire.url, clock)
        self._units = tuple(
            ModbusUnit(device, self._link, _numbers(device, ids), clock, partial(discover, part=device.part))
            for device in wire.devices
        )

    @property
    def name(self) -> str:
        """The wire, as people know it."""
        return self._link.url.name

    @property
    def units(self) -> Sequence[ModbusUnit]:
        """Who is on it."""
        return self._units

    @property
    def max_retry_s(self) -> float:
        """The longest pause before it is opened again."""
        return MAX_RETRY_S[self._link.url.scheme]

    @property
    def commandables(self) -> Mapping[str, Commandable]:
        """By device, those of which something can be set."""
        return {unit.device: unit.commandable for unit in self._units if unit.commandable is not None}

    async def open(self) -> None:
        """Open. Raises ``Unavailable`` or ``Unsupported``."""
        await self._link.open()

    async def close(self) -> None:
        """Close; also after a failed open, and twice."""
        await self._link.close()


def plan_modbus(devices: Iterable[tuple[ModbusDevice, ModbusUrl]]) -> ModbusPlan:
    """Put devices on their wires. Raises ``ConfigError`` when two can't be on one, naming device and point."""
    wires: dict[ModbusUrl, list[ModbusDevice]] = {}
    for device, url in devices:
        for other in wires:
            if other.name.removeprefix("rtu+") == url.name.removeprefix("rtu+") and other != url:
                raise ConfigError(
                    f"device {device.id}",
                    f"{_settings(url)}, but device {wires[other][0].id} on the same wire has {_settings(other)}",
                    "write the url at both as the wire is",
                )
        _check(device, url, wires.setdefault(url, []))
        wires[url].append(device)
    return ModbusPlan(tuple(ModbusWire(url, tuple(found)) for url, found in wires.items()))


def _check(device: ModbusDevice, url: ModbusUrl, others: Iterable[ModbusDevice]) -> None:
    if device.unit_id == _BROADCAST and url.scheme != "tcp":
        raise ConfigError(
            f"device {device.id}", "unit 0 is for broadcasts: nobody answers", "write its unit_id, 1 to 247"
        )
    for other in others:
        if other.unit_id == device.unit_id and (None in {device.part, other.part} or device.part == other.part):
            raise ConfigError(
                f"device {device.id}",
                f"unit {device.unit_id} on {url.name} is device {other.id} already",
                "give each its own unit_id, as it is set in the device",
            )
    if device.profile is not None:
        for point in device.profile.points:
            spec_of(device.id, point)


def _numbers(device: ModbusDevice, ids: Mapping[tuple[str, str], int]) -> list[int]:
    return [ids[device.id, point.point] for point in device.profile.points] if device.profile else []


def _settings(url: ModbusUrl) -> str:
    """What of a wire can differ while its place is the same."""
    if url.scheme == "rtu":
        return f"{url.baud} baud {url.bytesize}{url.parity}{url.stopbits}"
    return f"{url.scheme}://"
