"""What a search has found so far, each with the entry that is proposed for it. Ids stay as they were given."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from agent.api.setup_view import FoundDevice, ScanKind
from agent.api.view import PendingCharger
from agent.config import CanDevice, Config, OcppDevice, SerialMeterDevice
from agent.scan_can import FoundBus
from agent.scan_can import proposal_of as bus_proposal
from agent.scan_proposal import NO_PROFILE, Found, Product, Proposal, proposal_of, slug, unique
from agent.site_editor import one_line
from drivers.modbus.settings import ModbusUrl

if TYPE_CHECKING:
    from drivers.ocpp.knocks import KnockInfo

#: More devices than this are no site.
MAX_FOUND = 500


class FoundSoFar:
    """Thread-safe. ``taken`` are the ids that devices have."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.products: dict[str, Product] = {}
        self._taken = set(taken)
        self._lock = threading.Lock()
        self._all: dict[tuple[str, ...], tuple[ScanKind, Proposal]] = {}

    def wire(self, kind: ScanKind, found: Found) -> None:
        """A unit on Modbus, or a meter."""
        unit = str(getattr(found, "unit_id", ""))
        place = getattr(found, "url", "") or getattr(found, "port", "")
        self._add((kind, place, unit), kind, lambda: proposal_of(found, self.products, self._taken))

    def bus(self, found: FoundBus) -> None:
        """Somebody on CAN."""
        self._add(("can", found.channel), "can", lambda: bus_proposal(found, self._taken))

    def knock(self, info: "KnockInfo") -> None:
        """A charger at the port that the search opened."""
        from agent.scan_ocpp import proposal_of as knock_proposal  # noqa: PLC0415 - its libraries take 8 MB

        if info.version is not None:
            self._again(("ocpp", info.identity), "ocpp", lambda taken: knock_proposal(info, taken))

    def charger_waits(self, charger: PendingCharger) -> None:
        """A charger at the gateway's own port."""
        if charger.device or not charger.version:
            return  # configured, it only lacks a proof; or it was turned away
        self._again(("ocpp", charger.identity), "ocpp", lambda taken: _of_pending(charger, taken))

    def all(self, config: Config) -> list[FoundDevice]:
        """All of them, in the order in which they were found."""
        with self._lock:
            known = list(self._all.values())
        wires = ConfiguredWires(config)
        return [_told(kind, one, wires) for kind, one in known]

    def _add(self, key: tuple[str, ...], kind: ScanKind, make: Callable[[], Proposal]) -> None:
        with self._lock:
            if key not in self._all and len(self._all) < MAX_FOUND:
                self._all[key] = kind, make()

    def _again(self, key: tuple[str, ...], kind: ScanKind, make: Callable[[set[str]], Proposal]) -> None:
        """The same, of what may say more of itself later: its id stays."""
        with self._lock:
            known = self._all.get(key)
            if known is None and len(self._all) < MAX_FOUND:
                self._all[key] = kind, make(self._taken)
            elif known is not None:
                others = self._taken - {str(known[1].entry["id"])}
                self._all[key] = kind, make(others)


def _of_pending(charger: PendingCharger, taken: set[str]) -> Proposal:
    name = unique(slug(charger.identity) or "charger", taken)
    taken.add(name)
    said = {key: str(charger.boot.get(key) or "") for key in ("vendor", "model", "serial", "firmware")}
    model = " ".join(part for part in (said.pop("vendor"), said.pop("model")) if part)
    notes = ["somebody else knocked under the same id: look at both before you adopt it"] if charger.contested else []
    return Proposal(
        {"id": name, "driver": "ocpp", "charge_point_id": charger.identity},
        f"charger {charger.identity} at {charger.address}: {model or 'it has not said what it is'}",
        {key: text for key, text in {**said, "speaks": charger.version}.items() if text},
        {},
        notes=("add connectors: when it has more than one outlet", *notes),
        title=f"{model} {charger.identity}".strip(),
    )


def _told(kind: ScanKind, one: Proposal, configured: "ConfiguredWires") -> FoundDevice:
    return FoundDevice(
        kind,
        one.title or one.summary,
        one.summary,
        one.entry,
        f"- {one_line(one.entry)}",
        configured.has(one.entry),
        NO_PROFILE not in one.entry.values(),
        one.values,
        one.known,
        one.alternatives,
        one.notes,
    )


class ConfiguredWires:
    """Where the devices of a configuration are, to look up those that were found: hundreds of each take some ms."""

    def __init__(self, config: Config) -> None:
        self._chargers: set[object] = set()
        self._channels: set[object] = set()
        self._ports: set[str] = set()
        self._units: set[tuple[tuple[str, int], object]] = set()
        for device in config.devices:
            if isinstance(device, OcppDevice):
                self._chargers.add(device.charge_point_id)
            elif isinstance(device, CanDevice):
                self._channels.add(device.channel)
            elif isinstance(device, SerialMeterDevice):
                self._ports.add(os.path.realpath(device.port))
            else:
                self._units.add((_wire(device.url), device.unit_id))

    def has(self, entry: Mapping[str, object]) -> bool:
        """Whether the configuration has the device of an entry, whatever it calls it."""
        port, url = entry.get("port"), entry.get("url")
        if isinstance(port, str) and os.path.realpath(port) in self._ports:
            return True
        if isinstance(url, str):
            # One whose unit is not said in the configuration has the whole wire.
            return not self._units.isdisjoint((_wire(url), unit) for unit in (entry.get("unit_id"), None))
        is_can = entry.get("driver") == "can"
        return entry.get("charge_point_id") in self._chargers or (is_can and entry.get("channel") in self._channels)


def _wire(url: str) -> tuple[str, int]:
    found = ModbusUrl.parse(url)
    return (os.path.realpath(found.host), 0) if found.scheme == "rtu" else (found.host, found.port)
