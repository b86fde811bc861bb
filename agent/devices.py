"""From the configuration to what the drivers are given: profiles and DBC files are found, loaded and joined."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import config as cfg
from agent.core.errors import ConfigError
from agent.profiles import CanProfile, load_profile, profile_folders
from agent.share import share_path
from drivers.can.devices import CanDevice
from drivers.codec.dbc import load_dbc
from drivers.codec.dbc_model import Dbc, Finding


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configured device, ready for its driver. ``findings`` are about its DBC files: it works as far as they do."""

    configured: cfg.CanDevice
    device: CanDevice
    profile: CanProfile | None
    findings: tuple[Finding, ...]


class Preparer:
    """Loads each DBC file once. ``base`` is the folder of the configuration, from which relative paths count."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._loaded: dict[Path, Dbc] = {}

    def can(self, device: cfg.CanDevice) -> Prepared:
        """One CAN device. Raises ``ConfigError`` when its profile or a DBC file can't be used at all."""
        profile = None
        if device.profile is not None:
            folders = profile_folders(self._base, self._base / "profiles")
            name = device.profile
            profile = load_profile(str(self._base / name) if "/" in name or name.endswith(".yaml") else name, folders)
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

    def all(self, devices: Sequence[cfg.CanDevice]) -> list[Prepared]:
        """All devices. Raises ``ConfigError``."""
        return [self.can(device) for device in devices]

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
