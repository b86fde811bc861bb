"""From the configuration to what the drivers are given: profiles and DBC files are found, loaded and joined."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent import config as cfg
from agent.config_ocpp import OcppSection
from agent.core.clock import Clock
from agent.core.errors import ConfigError
from agent.core.model import SignalSpec
from agent.core.ports import Listener
from agent.modbus_loader import LoadedModbusProfile
from agent.pipeline.polling import PollListener
from agent.profiles import CanProfile, load_modbus, load_profile, profile_folders
from agent.share import share_path
from drivers.can.devices import CanDevice
from drivers.can.plan import CanPlan, plan
from drivers.codec.dbc import load_dbc
from drivers.codec.dbc_model import Dbc, Finding
from drivers.modbus.model import ModbusDevice
from drivers.modbus.plan import ModbusPlan, plan_modbus
from drivers.modbus.settings import ModbusUrl
from drivers.ocpp.settings import CentralSettings, ChargerSettings
from drivers.serial_meter.plan import MeterPlan, plan_meters
from drivers.serial_meter.push import PushListener
from drivers.serial_meter.settings import MeterSettings

if TYPE_CHECKING:
    from drivers.ocpp.plan import OcppPlan
    from drivers.ocpp.quirks import Quirks


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configured device, ready for its driver. ``findings`` are about its DBC files: it works as far as they do."""

    configured: cfg.Device
    device: CanDevice | tuple[ModbusDevice, ModbusUrl] | MeterSettings | ChargerSettings
    profile: CanProfile | LoadedModbusProfile | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Plans:
    """What the devices of a site come to: the signals that are known beforehand, and the wires."""

    can: CanPlan
    modbus: ModbusPlan
    meters: MeterPlan
    ocpp: "OcppPlan | None" = None  #: None where nobody wants a central system

    @property
    def specs(self) -> list[SignalSpec]:
        """Every signal that the configuration and its profiles name, for the store to number."""
        return [*self.can.specs, *self.modbus.specs, *(self.ocpp.specs if self.ocpp else ())]

    def wires(self, ids: Mapping[tuple[str, str], int], clock: Clock) -> Iterator[tuple[Listener, object]]:
        """A listener for each wire, with what it is made of: it is made anew when that differs.

        The chargers' central system is not among them: its wire outlives changes of its chargers.
        """
        yield from zip(self.can.listeners(ids, clock), self.can.wires, strict=True)
        polled = (PollListener(poller, clock) for poller in self.modbus.pollers(ids, clock))
        yield from zip(polled, self.modbus.wires, strict=True)
        meters = (
            part if isinstance(part, PushListener) else PollListener(part, clock) for part in self.meters.parts(clock)
        )
        yield from zip(meters, self.meters.wires, strict=True)


class Preparer:
    """Loads each profile and DBC file once. ``base``: the configuration's folder, from which relative paths count."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._loaded: dict[Path, Dbc] = {}
        self._can_profiles: dict[str, CanProfile] = {}
        self._modbus_profiles: dict[str, LoadedModbusProfile] = {}

    def one(self, device: cfg.Device) -> Prepared:
        """One device. Raises ``ConfigError`` when its profile or a file of it can't be used at all."""
        if isinstance(device, cfg.CanDevice):
            return self._can(device)
        if isinstance(device, cfg.ModbusDevice):
            return self._modbus(device)
        if isinstance(device, cfg.OcppDevice):
            settings = device.charger(device.id)
            if settings.password_file is not None:
                settings = replace(settings, password_file=self._base / settings.password_file)
            return Prepared(device, settings)
        return Prepared(device, device.settings())

    def all(self, devices: Sequence[cfg.Device]) -> list[Prepared]:
        """All devices. Raises ``ConfigError``."""
        return [self.one(device) for device in devices]

    def quirks(self) -> "tuple[Quirks, ...]":
        """What is known of models of chargers on OCPP. Raises ``ConfigError``."""
        from agent.ocpp_profiles import load_ocpp_profiles  # noqa: PLC0415 - most sites have none

        return load_ocpp_profiles(profile_folders(self._base, self._base / "profiles"))

    def _can(self, device: cfg.CanDevice) -> Prepared:
        profile = None if device.profile is None else self._can_profile(device.profile)
        paths = (*(profile.dbc if profile else ()), *(self._find(device.id, name) for name in device.dbc))
        dbcs = tuple(self._load(device.id, path) for path in paths)
        keep_unmapped = device.keep_unmapped
        if keep_unmapped is None:
            keep_unmapped = profile.keep_unmapped if profile and not device.dbc else True
        ready = CanDevice(
            id=device.id,
            channel=device.channel,
            dbc=dbcs,
            interface=device.interface,
            points=profile.points if profile else (),
            keep_unmapped=keep_unmapped,
            alive=profile.alive if profile else (),
            stale_after_s=device.stale_after_s or (profile.stale_after_s if profile else None),
            frozen_after_s=device.frozen_after_s,
            source_address=device.source_address,
            bitrate=device.bitrate or (profile.bitrate if profile else None),
            fd=device.fd,
            options=device.options,
        )
        return Prepared(device, ready, profile, tuple(finding for dbc in dbcs for finding in dbc.findings))

    def _modbus(self, device: cfg.ModbusDevice) -> Prepared:
        loaded = None if device.profile == cfg.SUNSPEC else self._modbus_profile(device.profile)
        # Of a SunSpec device nothing is known beforehand: the defaults of a profile stand in.
        default = loaded.profile if loaded else ModbusDevice(device.id, None)
        ready = ModbusDevice(
            id=device.id,
            profile=loaded.profile if loaded else None,
            part=device.part,
            unit_id=default.unit_id if device.unit_id is None else device.unit_id,
            every_s=device.every_s or default.every_s,
            timeout_s=device.timeout_s or default.timeout_s,
        )
        return Prepared(device, (ready, ModbusUrl.parse(device.url)), loaded)

    # A large profile takes a tenth of a second to read, ten times that on a small machine: once for all its devices.

    def _can_profile(self, name: str) -> CanProfile:
        if name not in self._can_profiles:
            self._can_profiles[name] = load_profile(*self._search(name))
        return self._can_profiles[name]

    def _modbus_profile(self, name: str) -> LoadedModbusProfile:
        if name not in self._modbus_profiles:
            self._modbus_profiles[name] = load_modbus(*self._search(name))
        return self._modbus_profiles[name]

    def _search(self, name: str) -> tuple[str, tuple[Path, ...]]:
        """A profile's name or path, and the folders where it is looked for."""
        is_path = "/" in name or name.endswith(".yaml")
        return str(self._base / name) if is_path else name, profile_folders(self._base, self._base / "profiles")

    def _find(self, device: str, name: str) -> Path:
        places = (self._base / name, share_path("dbc") / name)
        for place in places:
            if place.is_file():
                return place
        raise ConfigError(f"device {device}", f"there is no DBC file {name}", f"looked at {places[0]} and {places[1]}")

    def _load(self, device: str, path: Path) -> Dbc:
        if path not in self._loaded:
            try:
                self._loaded[path] = load_dbc(path.read_bytes(), str(path))
            except OSError as error:
                raise ConfigError(f"device {device}", f"{path} can't be read: {error.strerror}") from error
        dbc = self._loaded[path]
        if not dbc.messages:
            raise ConfigError(
                f"device {device}",
                f"{path} has no usable message" + "".join(f"\n  {finding}" for finding in dbc.findings[:5]),
                "give a DBC file (Vector CAN database)",
            )
        return dbc


def central_of(config: cfg.Config) -> CentralSettings | None:
    """The local central system for chargers; None where there is neither its section nor a charger."""
    if config.ocpp is None and not any(isinstance(device, cfg.OcppDevice) for device in config.devices):
        return None
    return (config.ocpp or OcppSection()).settings(config.data_dir, config.site.timezone)


def plan_all(
    prepared: Iterable[Prepared], central: CentralSettings | None = None, quirks: "Sequence[Quirks]" = ()
) -> Plans:
    """Resolve all names and claims. Raises ``ConfigError``, naming the device."""
    devices = [one.device for one in prepared]
    can = [one for one in devices if isinstance(one, CanDevice)]
    modbus = [one for one in devices if isinstance(one, tuple)]
    meters = [one for one in devices if isinstance(one, MeterSettings)]
    lines = {os.path.realpath(url.host): device.id for device, url in modbus if url.scheme == "rtu"}
    for one in meters:
        if (owner := lines.get(os.path.realpath(one.port))) is not None:
            reason = f"port {one.port} is the Modbus line of device {owner}"
            raise ConfigError(f"device {one.device}", reason, "a port is read by one driver: use another one")
    chargers = [one for one in devices if isinstance(one, ChargerSettings)]
    ocpp = None if central is None else _plan_ocpp(chargers, central, quirks)
    return Plans(plan(can), plan_modbus(modbus), plan_meters(meters), ocpp)


def _plan_ocpp(chargers: Sequence[ChargerSettings], central: CentralSettings, quirks: "Sequence[Quirks]") -> "OcppPlan":
    from drivers.ocpp.plan import plan_ocpp  # noqa: PLC0415 - most sites have none: its libraries take 8 MB

    return plan_ocpp(chargers, central, quirks)
