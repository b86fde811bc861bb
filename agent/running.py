"""The parts of a site that run, and how they follow its configuration: what changed is done, nothing else is touched.

The API and the uplink are made late, in threads: their libraries take half a second, for which no sample waits. What
sets a site up and what helps support is loaded when somebody asks for it: most gateways never need it.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.acting import BackendEvents, load_settings, schedule_specs, targets
from agent.alarm_sets import FOLDER
from agent.api.setup_view import SetUp
from agent.api.view import SitePorts, SupportDesk
from agent.backup_drafts import sweep
from agent.central import APPLIED_S, Central
from agent.config import OWN_DEVICE, Config, OcppDevice, Report
from agent.config_api import split_address
from agent.config_changes import comes_to_run
from agent.consumption import Consumption
from agent.control.registered import RegisteredStations
from agent.control.service import TICK_S, ControlService
from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Event, Signal, SignalSpec
from agent.core.ports import Listener
from agent.devices import Plans, Prepared, Preparer, central_of, plan_all
from agent.insight.counters import Counters
from agent.insight.machines import MachineBook
from agent.insight.maintenance import Maintenance
from agent.insight.service import Insight
from agent.judging import Judging
from agent.log_ring import LogRing
from agent.overview import Overview
from agent.pipeline import gate as pipeline_gate
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.pipeline.supervisor import Supervisor
from agent.posted import PostedDevices
from agent.reckoning import insight_settings
from agent.remote_config import RemoteConfig, SiteView
from agent.site_editor import SiteEditor, read_only
from agent.store.db import Store
from agent.upgrade.part import UpgradePart
from agent.uplinking import Uplinking
from agent.watching import Watched, alarm_sets, certificates, channels, self_watch
from cloud_sync.notify.notifier import Notifier
from drivers.can.bus import CanListener

if TYPE_CHECKING:
    from agent.api.server import ApiServer
    from agent.setting_up import SettingUp
    from drivers.can.plan import CanPlan

logger = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: Makes the wires of a site: from what is planned and the signals' numbers. Replay puts a log in their place.
MakeListeners = Callable[["CanPlan", Mapping[tuple[str, str], int], Store], Sequence[Listener]]


@dataclass(frozen=True, slots=True)
class Devices:
    """What the devices of a configuration come to."""

    prepared: Sequence[Prepared]
    plans: Plans
    watched: Watched | None  #: None: with the ready-made alarms as they are, which are read when the wires run


def prepare(config: Config, base: Path) -> Devices:
    """Load profiles and DBC files, resolve all names. Takes some 100 ms. Raises ``ConfigError``."""
    preparer = Preparer(base)
    prepared = preparer.all(config.devices)
    central = central_of(config)
    plans = plan_all(prepared, central, preparer.quirks() if central else ())
    watched = None
    if config.alarm_sets is not None or (base / FOLDER).is_dir():
        watched = Watched(alarm_sets(base))
        watched.specs(config, plans.specs)  # what can't be used is refused before anything is changed
    return Devices(prepared, plans, watched)


class Running:
    """The parts that run, and how they follow the configuration: ``apply`` touches only what a change is about."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        store: Store,
        hub: Hub,
        path: Path,
        make_listeners: MakeListeners | None,
        *,
        every: bool,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._path = path
        self._make_listeners = make_listeners
        self._every = every
        self._gate = Gate()
        self._rules: dict[str, pipeline_gate.Report] = {}
        self._declared: dict[int, Signal] = {}  #: what wires found out about while they ran
        self._wires: dict[str, object] = {}
        self._listeners: dict[str, Listener] = {}
        self._parts: dict[str, object] = {}
        self._backend: BackendEvents | None = None
        self._editor = SiteEditor(path)
        self._setting_up: SettingUp | None = None  #: None: nobody has set anything up yet
        self._desk: SupportDesk | None = None  #: None: nobody has asked for help yet
        self._loading = threading.Lock()
        self.log_ring = LogRing()  #: where the log's newest lines are; before ``apply``
        self._central = Central(clock, store)
        flow = Flow(clock, self._gate, hub, store.append)
        self.supervisor = Supervisor(clock, flow, self.record, declare=self._declare)
        self._hub = hub
        self.overview = Overview(store, hub, self.supervisor)
        self.api: ApiServer | None = None  #: None until its libraries are loaded
        self.posted = PostedDevices(clock, store, flow, hub, self._rules_of, self._learn_posted)
        self.insight = Insight(store, clock)
        self.notifier = Notifier((), clock, self.record, config.site.name)
        self._changing = asyncio.Lock()  #: what the stations are made of is changed
        self.registered = RegisteredStations(clock, store, self._stations_changed)
        self.control = ControlService(clock, store, self.record, hub, self.overview.find, self.notifier.hear, boot_id())
        self._judging = Judging(path.parent, lambda: self._config, self.overview, self.control.alarms)
        acting = None if make_listeners is not None else self.control  # a replay acts on nothing: it takes no commands
        ports = clock, store, hub, self.overview, self.record
        self._uplinking = Uplinking(*ports, self._judging.began, acting)
        counters = Counters(store, store.maintenance)
        machines = MachineBook(clock, store, self.overview.machines)
        self.maintenance = Maintenance(clock, store, machines, store.maintenance, counters)
        view = SiteView(lambda: self._config, self.overview.devices, self._is_connected)
        who = __version__, store.boot
        self.upgrades = UpgradePart(config.data_dir, clock, who, self._how_it_is, store.record)
        self._remote = RemoteConfig(path, clock, self.record, view)
        if make_listeners is None:
            flow.watcher = self.control.alarms.engine
            self.control.serve(OWN_DEVICE, self._remote)

    @property
    def config(self) -> Config:
        """The configuration that was applied last."""
        return self._config

    async def _is_applied(self, config: object) -> bool:
        if not isinstance(config, Config):
            raise TypeError(f"{config!r} is no configuration")
        applied = await comes_to_run(lambda: self._config, config, self._clock, APPLIED_S, self._editor.since)
        async with self._changing:  # to its end
            return applied

    def record(self, event: Event) -> None:
        """Put an event on the ledger. What the ledger can't take is the store's trouble, which its health tells."""
        self._store.record(event).add_done_callback(lambda future: future.exception())
        self.control.hear(event)
        self.maintenance.machines.hear(event)

    def _how_it_is(self) -> tuple[dict[str, bool], dict[str, tuple[str, str]]]:
        """For who puts a new version at its gate: the parts, and the devices with their drivers."""
        parts = {part.name: part.ok for part in self.overview.health()}
        return parts, {one.id: (one.driver, one.state.value) for one in self.overview.devices()}

    async def _declare(self, specs: Sequence[SignalSpec]) -> Sequence[Signal]:
        """Numbers for what a wire turned out to bring. Raises ``StoreError``."""
        signals = await asyncio.to_thread(self._store.assign, specs)
        for item in signals:
            if item.device in self._rules:  # else its device was taken out of the configuration meanwhile
                self._gate.configure(item, self._rules[item.device])
                self._declared[item.id] = item
        self.overview.learn(self._found_out())
        if self._make_listeners is None:
            self._judging.judge()
        return signals

    def _learn_posted(self, signals: Sequence[Signal]) -> None:
        """Clients post what was not known before."""
        self.overview.learn(self._found_out())
        if self._make_listeners is None:
            self._judging.learn(signals)

    def _is_connected(self) -> bool:
        """Whether the broker is connected now."""
        uplink = self.overview.uplink
        return uplink is not None and uplink.status().connected

    def _found_out(self) -> list[Signal]:
        """The signals that the configuration does not name."""
        return [*self._declared.values(), *self.posted.signals()]

    def _rules_of(self) -> Collection[str]:
        """The devices that are read."""
        return self._rules.keys()

    async def run_control(self) -> None:
        """Act, as soon as it is known what alarms want: nothing may be switched on before that is forbidden."""
        await self._judging.began.wait()
        await self._remote.begin()
        await self.control.run()

    async def close(self) -> None:
        """Write to no device any more, and end what is not supervised."""
        await self._judging.close()
        if self._setting_up is not None:
            await asyncio.to_thread(self._setting_up.close)
        await self.control.close()

    async def _apply_control(self) -> None:
        """Act on the stations that there are now: chargers of the configuration, and those that people registered."""
        config, site = self._config, self._config.site
        stations = targets(config, self._listeners.values())
        chargers = [one.id for one in stations]
        stations += [one for one in self.registered.targets() if one.id not in chargers]
        schedules, load = schedule_specs(config.schedules), load_settings(config)
        await self.control.apply(stations, schedules, site.timezone, load, site.power_return_s)
        with contextlib.suppress(StoreError):  # its health tells; they get their numbers another time
            await self.registered.number(chargers)

    async def _stations_changed(self) -> None:
        async with self._changing:
            await self._apply_control()

    async def apply(self, config: Config, devices: Devices) -> None:
        """Make the running parts those of this configuration. Raises ``StoreError`` before anything is changed."""
        async with self._changing:
            await self._apply(config, devices)

    async def _apply(self, config: Config, devices: Devices) -> None:
        signals = await asyncio.to_thread(self._store.assign, devices.plans.specs)
        learnt = _learnt(self._store, devices.prepared, signals)
        if (config.data_dir, config.store) != (self._config.data_dir, self._config.store):
            logger.warning("changes of data_dir and store: take effect at the next start")
        if config.log != self._config.log:
            logging.getLogger().setLevel(config.log.level.upper())
        self._config = config
        for one in devices.prepared:
            if one.findings:
                logger.warning(
                    "%s: %d findings in its DBC files, see enlace check", one.configured.id, len(one.findings)
                )
        await self._apply_wires(devices, signals, learnt)
        self.overview.show(config, devices.prepared, signals, self._found_out())
        self.insight.configure(insight_settings(config))
        if self._make_listeners is None:
            self.notifier.apply(
                channels(config, self._path.parent), config.site.name or config.site.id, config.site.timezone
            )
            await self._apply_control()
            self._apply_backend(config)
            self._judging.apply(devices.watched)
            await self._apply_part("api", config.api, self._api(config))
            await self._apply_part("event backend", config.event_backend, self._run_backend)
        uplink = config.uplink and (config.uplink, config.site.id)
        await self._apply_part("uplink", uplink, self._uplinking.part(config, self._path.parent))

    async def _apply_wires(self, devices: Devices, signals: Sequence[Signal], learnt: Sequence[Signal]) -> None:
        ids = {(item.device, item.name): item.id for item in signals}
        if self._make_listeners is not None:
            listeners = self._make_listeners(devices.plans.can, ids, self._store)
            wanted: dict[str, tuple[Listener, object]] = {one.name: (one, object()) for one in listeners}
        else:
            wanted = {one.name: (one, wire) for one, wire in devices.plans.wires(ids, self._clock)}
            for one, _ in wanted.values():
                if isinstance(one, CanListener) and one.name not in self._wires:
                    for text in one.left_out:
                        logger.warning("%s: not read: %s", one.name, text)
            wanted.update(await self._central.wires(devices.plans.ocpp))
            base = self._path.parent
            ports = self._clock, self._store, self.overview, self.supervisor, self.notifier
            watch = self_watch(self._config, base, *ports)
            watched = self._config.uplink is None, not self._config.notify, certificates(self._config, base)
            wanted[watch.name] = watch, watched
        await self._drop_wires(wanted)
        self._rules = {one.configured.id: self._rule(one.configured.report) for one in devices.prepared}
        self._rules[OWN_DEVICE] = self._rule(Report())
        declared = [*self._declared.values(), *learnt]
        self._declared = {item.id: item for item in declared if item.device in self._rules}
        for item in (*signals, *self._declared.values()):
            self._gate.configure(item, self._rules[item.device])
        await self._central.apply(devices.plans.ocpp, ids)
        self._add_wires(wanted, [*signals, *learnt])

    async def _drop_wires(self, wanted: Mapping[str, tuple[Listener, object]]) -> None:
        """End those that nobody wants any more, or wants otherwise."""
        for name, wire in list(self._wires.items()):
            if name not in wanted or wanted[name][1] != wire:
                await self.supervisor.remove(name)
                del self._wires[name], self._listeners[name]

    def _add_wires(self, wanted: Mapping[str, tuple[Listener, object]], signals: Sequence[Signal]) -> None:
        """Run the new ones. One that runs may have more devices than before."""
        for name, (listener, wire) in wanted.items():
            owned = set(listener.devices)
            mine = [item for item in signals if item.device in owned]
            if name in self._wires:
                self.supervisor.extend(name, mine)
            else:
                self.supervisor.add(listener, mine)
                self._wires[name], self._listeners[name] = wire, listener

    async def _apply_part(self, name: str, settings: object, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part while it has settings, anew when they have changed."""
        if self._parts.get(name) == settings:
            return
        if self._parts.pop(name, None) is not None:
            await self.supervisor.remove(name)
        if settings is not None:
            self._parts[name] = settings
            self.supervisor.add_part(name, run)

    def _rule(self, report: Report) -> pipeline_gate.Report:
        if self._every or report.every:
            return pipeline_gate.Report(every=True)
        return pipeline_gate.Report(
            deadband=report.deadband, min_interval_s=report.min_interval_s, max_interval_s=report.max_interval_s
        )

    def _apply_backend(self, config: Config) -> None:
        """Another event backend, or none: what went on there is taken back, what goes on here is wished at once."""
        if self._parts.get("event backend") == config.event_backend:
            return
        if self._backend is not None:
            self._backend.end()
        section, ports = config.event_backend, (self._clock, self._store, self.record, self.control)
        self._backend = None if section is None else BackendEvents(section, self._path.parent, *ports)

    async def _run_backend(self) -> None:
        if self._backend is not None:
            await self._backend.client.run()

    def _event_interval_s(self) -> float:
        backend = self._config.event_backend
        return TICK_S if backend is None else backend.every_s

    def _api(self, config: Config) -> Callable[[], Awaitable[None]]:
        made: list[ApiServer] = []

        async def run() -> None:
            if not made:
                arguments = self.overview, self._clock, config, self._path.parent, self._ports()
                made.append(await asyncio.to_thread(_make_api, *arguments))
            self.api = made[0]
            await made[0].run()

        return run

    def _set_up(self) -> SetUp:
        """Loaded when somebody sets something up; in threads."""
        from agent.setting_up import SettingUp  # noqa: PLC0415 - see the head of this file

        with self._loading:
            if self._setting_up is None:
                site = lambda: self._config, self.overview, self.supervisor, self._central, self._listeners.values
                self._setting_up = SettingUp(self._path, self._clock, self._editor, *site)
            return self._setting_up.ports

    def _support(self) -> SupportDesk:
        """The same."""
        from agent.support import Support  # noqa: PLC0415 - see the head of this file

        with self._loading:
            if self._desk is None:
                self._desk = Support(lambda: self._config, self._path, self._clock, self.log_ring)
            return self._desk

    def _ports(self) -> SitePorts:
        """Through what the API acts."""
        return SitePorts(
            control=self.control,
            alarms=self.control.alarms,
            events=self.control.events,
            event_interval_s=self._event_interval_s,
            load=self.control.loads.status,
            notify=self.notifier,
            ledger=self._store,
            store=self._store,
            feed=self._store,
            editor=self._editor,
            setup=self._set_up,
            read_only=partial(read_only, self._path),
            support=self._support,
            applied=self._is_applied,
            registered=self.registered,
            sessions=self._store,
            notebook=self._store,
            tag_hash=self._central.tag_hash,
            pending=self._central.pending,
            adopt=self._central.adopt,
            identity_of=self._central.identity_of,
            forget=self._central.forget,
            record=self.record,
            maintenance=self.maintenance,
            posted=self.posted,
            insight=self.insight,
            demo=None if (demo := os.environ.get("ENLACE_DEMO_CONTROL")) is None else Path(demo),
            energy=Consumption(self._clock, self._store, self.posted, self.insight.changed),
        )


def _learnt(store: Store, prepared: Sequence[Prepared], planned: Sequence[Signal]) -> list[Signal]:
    """What devices that are known only by what they say have said in former times: unknown until they say it again."""
    names = {(signal.device, signal.name) for signal in planned}
    told = {one.configured.id for one in prepared if isinstance(one.configured, OcppDevice)}
    said_by = {one.configured.id for one in prepared} - {signal.device for signal in planned} | told
    _, catalogue = store.catalog()
    found = [one for one in catalogue if one.device in said_by and (one.device, one.name) not in names]
    newest = {store.ids_of(*name)[-1] for name in {(signal.device, signal.name) for signal in found}}
    return [signal for signal in found if signal.id in newest]


def boot_id() -> str:
    """What the kernel calls this boot of the machine; empty where it does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _make_api(view: Overview, clock: Clock, config: Config, base: Path, ports: SitePorts) -> "ApiServer":
    from agent.api.server import ApiServer, Face  # noqa: PLC0415 - see the head of this file

    section, certificates = config.api, None
    if section.encrypted:
        from agent.api.tls import Certificates  # noqa: PLC0415 - the same

        files = section.cert_file, section.key_file
        own = (base / files[0], base / files[1]) if files[0] and files[1] else None
        certificates = Certificates(config.data_dir, clock, own)
    face = Face(certificates, section.security_contact or "")
    sweep(config.data_dir)  # a stop in the middle of a backup leaves its drafts
    return ApiServer(view, clock, *split_address(section.listen), config.data_dir, ports, face=face)
