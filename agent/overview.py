"""What the API shows of the gateway, read from the hub, the supervisor, the store and the uplink."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from agent import __version__
from agent.api.view import DeviceInfo, History, HistoryPoint, PartHealth, SiteInfo
from agent.config import Config
from agent.core.model import Kind, Number, Signal
from agent.core.ports import Latest
from agent.devices import Prepared
from agent.insight.machines import Facts
from agent.pipeline.hub import Hub, Subscription
from agent.pipeline.supervisor import Health, Supervisor
from agent.site_machines import facts_of
from agent.store.buckets import Bucket
from agent.store.db import Store

if TYPE_CHECKING:
    from cloud_sync.uplink import Uplink


class Overview:
    """``GatewayView`` of ``agent/api/view.py``. ``show`` comes before everything else.

    ``uplink`` is set when there is one and its libraries are loaded.
    """

    def __init__(self, store: Store, hub: Hub, supervisor: Supervisor) -> None:
        self._store = store
        self._hub = hub
        self._supervisor = supervisor
        self._config: Config | None = None
        self._prepared: Sequence[Prepared] = ()
        self._machines: Mapping[str, Facts] = {}
        self._planned: Sequence[Signal] = ()
        self._signals: Sequence[Signal] = ()
        self._by_name: Mapping[tuple[str, str], Signal] = {}
        self.uplink: Uplink | None = None

    def show(
        self, config: Config, prepared: Sequence[Prepared], planned: Sequence[Signal], learnt: Iterable[Signal] = ()
    ) -> None:
        """This configuration is the present one. ``planned`` signals it names, ``learnt`` ones were found out."""
        self._config = config
        self._prepared = prepared
        self._machines = facts_of(prepared)
        self._planned = planned
        self.learn(learnt)
        if config.uplink is None:
            self.uplink = None

    def learn(self, learnt: Iterable[Signal]) -> None:
        """These signals are there beside the planned ones."""
        found = {signal.id: signal for signal in (*self._planned, *learnt)}
        self._signals = [found[key] for key in sorted(found)]
        self._by_name = {(signal.device, signal.name): signal for signal in self._signals}

    @property
    def has_uplink(self) -> bool:
        """Whether there is a central server to send to."""
        return self._config is not None and self._config.uplink is not None

    def site(self) -> SiteInfo:
        """Who this gateway is."""
        assert self._config is not None  # noqa: S101 - shown before anybody asks
        site = self._config.site
        return SiteInfo(site.id, site.name, site.timezone, __version__, self._store.boot)

    def signals(self) -> Sequence[Signal]:
        """The signals of the present configuration."""
        return self._signals

    def signal(self, name_or_id: str) -> Signal | None:
        """A signal by its full name or number; of several that had a name, the newest."""
        _, known = self._store.catalog()
        if name_or_id.isdecimal():
            return next((signal for signal in known if signal.id == int(name_or_id)), None)
        device, _, name = name_or_id.partition(".")
        ids = self._store.ids_of(device, name)
        return next((signal for signal in known if ids and signal.id == ids[-1]), None)

    def find(self, device: str, name: str) -> Signal | None:
        """A signal of the present configuration."""
        return self._by_name.get((device, name))

    def devices(self) -> Sequence[DeviceInfo]:
        """The configured devices with the state of their wires."""
        wires = {device: wire for wire in self._supervisor.states() for device in wire.devices}
        units = {unit.device: unit for unit in self._supervisor.unit_states()}
        found = [one.configured for one in self._prepared]
        return [DeviceInfo(one.id, one.driver, wires.get(one.id), units.get(one.id)) for one in found]

    def machines(self) -> Mapping[str, Facts]:
        """What the configuration and its profiles say of each device."""
        return self._machines

    def latest(self, signals: Iterable[Signal]) -> list[Latest]:
        """The newest values."""
        return self._hub.latest(signals)

    def history(self, signal: Signal, from_us: int, to_us: int, points: int) -> History:
        """History under a name, across the numbers that its meanings had. Blocks; raises ``StoreError``."""
        ids = self._store.ids_of(signal.device, signal.name)
        series = self._store.history(ids, from_us, to_us, points)
        found = [(bucket, one.signal.kind) for one in series for bucket in one.buckets]
        found.sort(key=lambda item: item[0].t_us)
        width_us = max((bucket.width_us for bucket, _ in found), default=0)
        return History(width_us / 1e6, [_point(bucket, kind) for bucket, kind in found])

    def health(self) -> Sequence[PartHealth]:
        """The store, the uplink, and every other part that the supervisor runs."""
        stats, opened = self._store.stats(), self._store.opened
        detail = stats.error or ""
        if opened.moved_to and not detail:
            detail = f"the old file was unusable ({opened.reason}) and stands aside at {opened.moved_to}"
        hint = "free some space, or check the disk" if stats.error else ""
        parts = [PartHealth("db", stats.error is None, detail, hint)]
        if self.has_uplink:
            parts.append(self._uplink_health())
        lame = [part for part in self._supervisor.parts() if part.state is Health.OFFLINE and part.name != "uplink"]
        return parts + [PartHealth(part.name, ok=False, detail=part.last_error, hint=part.hint) for part in lame]

    def counters(self) -> Mapping[str, Mapping[str, Number]]:
        """Figures for ``/metrics``."""
        stats = self._store.stats()
        store: dict[str, Number] = {
            "rows": stats.rows,
            "pending_rows": stats.pending_rows,
            "dropped_rows_total": stats.dropped_rows,
            "db_bytes": stats.db_bytes,
            "wal_bytes": stats.wal_bytes,
            "commits_total": stats.commits,
        }
        if stats.written_bytes is not None:
            store["written_bytes_total"] = stats.written_bytes
        result: dict[str, Mapping[str, Number]] = {"store": store, "hub": self._hub.counters()}
        if self.uplink is not None:
            status = self.uplink.status()
            result["uplink"] = {
                "connected": int(status.connected),
                "connections_total": status.connections,
                "failures_total": status.failures,
                "published_total": status.published,
                "published_bytes_total": status.bytes_published,
                **status.commands,
                **{f"{name}_acked": stream.acked for name, stream in status.streams.items()},
                **{f"{name}_backlog": stream.backlog for name, stream in status.streams.items()},
                **{f"{name}_set_aside_total": stream.set_aside for name, stream in status.streams.items()},
            }
        return result

    def subscribe(self) -> Subscription:
        """The batches that are kept from now on."""
        return self._hub.subscribe()

    def _uplink_health(self) -> PartHealth:
        if self.uplink is None:
            return PartHealth("uplink", ok=False, detail="is starting")
        status = self.uplink.status()
        waiting = ", ".join(f"{stream.backlog} {name} records wait" for name, stream in status.streams.items())
        if status.connected:
            return PartHealth("uplink", ok=True, detail=waiting)
        tries = "" if status.next_try_in_s is None else f"; next try in {status.next_try_in_s:.0f} s"
        return PartHealth("uplink", ok=False, detail=f"{status.last_error or 'is not connected'}{tries}; {waiting}")


def _point(bucket: Bucket, kind: Kind) -> HistoryPoint:
    mean = None if kind is Kind.STATE or bucket.mean is None else float(bucket.mean)
    return HistoryPoint(bucket.t_us, bucket.lo, bucket.hi, mean, bucket.last, bucket.count, bucket.gap)
