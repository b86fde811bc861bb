"""What the API shows of the gateway, read from the hub, the supervisor, the store and the uplink."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.api.view import DeviceInfo, History, HistoryPoint, PartHealth, SiteInfo
from agent.config import OWN_DEVICE, Config
from agent.core.clock import SystemClock
from agent.core.model import Kind, Number, Signal
from agent.core.ports import Latest
from agent.devices import Prepared
from agent.insight.machines import Facts
from agent.pipeline.health import UnitState, WireState
from agent.pipeline.hub import Hub, Subscription
from agent.pipeline.supervisor import Health, Supervisor
from agent.site_machines import facts_of, named
from agent.store.buckets import Bucket
from agent.store.db import Store

_CLOCK_HINT = "see to it that a time server is reached, or set it by hand: docs/clock.md"

if TYPE_CHECKING:
    from agent.clock_trust import ClockTrust
    from agent.command_gate import CommandGate
    from cloud_sync.uplink import StreamStatus, Uplink, UplinkStatus

#: A central server that confirms nothing for so long, while something waits, is away or does not work.
SILENT_S = 300.0
_SILENT_HINT = (
    "look at the central server, and whether the broker's access list lets this gateway read its topic ack;"
    " where there is no central server any more, set uplink.confirm: puback"
)
_REFUSED_HINT = "let the broker's access list allow this gateway to read its topic ack, or set uplink.confirm: puback"


class Overview:
    """``GatewayView`` of ``agent/api/view.py``. ``show`` comes before everything else.

    ``uplink`` is set when there is one and its libraries are loaded, and so is ``gate``, where commands must be signed;
    ``clock`` when somebody watches over it.
    """

    def __init__(self, store: Store, hub: Hub, supervisor: Supervisor) -> None:
        self._store = store
        self._hub = hub
        self._supervisor = supervisor
        self._config: Config | None = None
        self._prepared: Sequence[Prepared] = ()
        self._machines: Mapping[str, Facts] = {}
        self._named: Mapping[str, tuple[str, str, str]] = {}
        self._planned: Sequence[Signal] = ()
        self._signals: Sequence[Signal] = ()
        self._by_name: Mapping[tuple[str, str], Signal] = {}
        self.uplink: Uplink | None = None
        self.gate: CommandGate | None = None
        self.clock: ClockTrust | None = None

    def show(
        self, config: Config, prepared: Sequence[Prepared], planned: Sequence[Signal], learnt: Iterable[Signal] = ()
    ) -> None:
        """This configuration is the present one. ``planned`` signals it names, ``learnt`` ones were found out."""
        self._config = config
        self._prepared = prepared
        self._machines = facts_of(prepared)
        self._named = {one.configured.id: named(one) for one in prepared}
        self._planned = planned
        self.learn(learnt)
        if config.uplink is None:
            self.uplink = self.gate = None

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
        site, uplink = self._config.site, self._config.uplink
        broker = None if uplink is None else uplink.broker
        return SiteInfo(site.id, site.name, site.timezone, __version__, self._store.boot, broker)

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
        return [self._device(one, wires, units) for one in self._prepared]

    def own(self) -> DeviceInfo:
        """This gateway itself, which has values too."""
        wire = next((wire for wire in self._supervisor.states() if OWN_DEVICE in wire.devices), None)
        return DeviceInfo(OWN_DEVICE, OWN_DEVICE, wire)

    def _device(self, one: Prepared, wires: Mapping[str, WireState], units: Mapping[str, UnitState]) -> DeviceInfo:
        device, told = one.configured, self._named[one.configured.id]
        return DeviceInfo(device.id, device.driver, wires.get(device.id), units.get(device.id), *told)

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
        if self.clock is not None and not self.clock.good:
            why = self.clock.reason or "it was set just now, and is watched for some seconds"
            parts.append(PartHealth("clock", ok=False, detail=f"is not set: {why}", hint=_CLOCK_HINT))
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
            "lost_rows_total": stats.lost_rows,
            "ledger_bytes": stats.ledger_bytes,
            "evidence_bytes": stats.evidence_bytes,
            "quota_bytes": stats.max_bytes,
        }
        if stats.written_bytes is not None:
            store["written_bytes_total"] = stats.written_bytes
        if stats.written_a_day is not None:
            store["written_day_bytes"] = stats.written_a_day
        result: dict[str, Mapping[str, Number]] = {"store": store, "hub": self._hub.counters(), "wear": stats.written}
        if self.clock is not None:
            result["clock"] = {"set": int(self.clock.good), "jumps_total": self.clock.jumps}
        if self.uplink is not None:
            status = self.uplink.status()
            result["uplink"] = {
                "connected": int(status.connected),
                "connections_total": status.connections,
                "failures_total": status.failures,
                "published_total": status.published,
                "published_bytes_total": status.bytes_published,
                "by_word": int(status.by_word),
                "duplicate": int(status.duplicate),
                **_certificate(status.cert_file),
                **status.commands,
                **status.acks,
                **status.node,
                **{f"{name}_{key}": value for name, one in status.streams.items() for key, value in _figures(one)},
            }
        return result

    def subscribe(self) -> Subscription:
        """The batches that are kept from now on."""
        return self._hub.subscribe()

    def _uplink_health(self) -> PartHealth:
        if self.uplink is None:
            return PartHealth("uplink", ok=False, detail="is starting")
        return uplink_health(self.uplink.status())


def uplink_health(status: "UplinkStatus") -> PartHealth:
    """How the uplink is, in words."""
    waiting = ", ".join(f"{stream.backlog} {name} records wait" for name, stream in status.streams.items())
    if not status.connected:
        tries = "" if status.next_try_in_s is None else f"; next try in {status.next_try_in_s:.0f} s"
        return PartHealth("uplink", ok=False, detail=f"{status.last_error or 'is not connected'}{tries}; {waiting}")
    if status.by_word and status.central_refused:
        detail = f"the central server's word can't be heard, nothing is confirmed: {status.central_refused}"
        return PartHealth("uplink", ok=False, detail=f"{detail}; {waiting}", hint=_REFUSED_HINT)
    longest_s = max(stream.waiting_s for stream in status.streams.values())
    if not status.by_word or longest_s < SILENT_S:
        return PartHealth("uplink", ok=True, detail=waiting)
    detail = f"the central server has confirmed nothing for {longest_s:.0f} s; {waiting}"
    return PartHealth("uplink", ok=False, detail=detail, hint=_SILENT_HINT)


def _certificate(path: Path | None) -> Mapping[str, Number]:
    """How long the certificate lasts that the broker is shown; nothing where there is none to be read."""
    if path is None:
        return {}
    from agent.api.tls import days_left  # noqa: PLC0415 - its library is loaded by who needs it only

    days = days_left([path], SystemClock())
    return {} if days is None else {"certificate_days": days}


def _figures(stream: "StreamStatus") -> Iterator[tuple[str, Number]]:
    """What ``/metrics`` shows of a stream."""
    yield "acked", stream.acked
    yield "backlog", stream.backlog
    yield "draining", stream.draining
    yield "waiting_seconds", round(stream.waiting_s, 1)
    yield "resent_total", stream.resent
    yield "set_aside_total", stream.set_aside


def _point(bucket: Bucket, kind: Kind) -> HistoryPoint:
    mean = None if kind is Kind.STATE or bucket.mean is None else float(bucket.mean)
    return HistoryPoint(bucket.t_us, bucket.lo, bucket.hi, mean, bucket.last, bucket.count, bucket.gap)
